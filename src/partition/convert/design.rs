//! What may not be partitioned as declared, and the statements that make the new parent.

use crate::catalog::quote;
use crate::config::partitions::Partitioned;
use crate::config::values::TableName;
use crate::partition::convert::facts::{Column, Constraint, Facts, Index, KeyColumn};
use crate::partition::names::partition_name;
use crate::partition::sql::qualified;
use crate::topology::ranges::literal;
use crate::topology::reach::FILLED_BY_KEYWAY;

/// The end of the new parent's name, and of its indexes', until the swap.
pub(super) const NEW: &str = FILLED_BY_KEYWAY;

/// The end of the old table's name, and of what belongs to it, from the swap on.
pub(super) const KEPT: &str = "_unpartitioned";

/// The triggers that keep the new parent in step.
pub(super) const TRIGGERS: [&str; 2] = ["keyway_convert_row", "keyway_convert_truncate"];

/// A conversion in statements. They mean the same in any session with an empty search_path.
#[derive(Debug)]
pub(super) struct Design<'d> {
    pub(super) facts: &'d Facts,
    pub(super) declared: &'d Partitioned,
    /// Keys that lack partition columns get them.
    pub(super) extend: bool,
}

/// The new parent's name until the swap.
pub(super) fn new_name(table: &TableName) -> TableName {
    beside(table, NEW)
}

/// The old table's name from the swap on.
pub(super) fn kept_name(table: &TableName) -> TableName {
    beside(table, KEPT)
}

fn beside(table: &TableName, end: &str) -> TableName {
    TableName {
        schema: table.schema.clone(),
        name: partition_name(&table.name, end),
    }
}

/// The function that the triggers of the table with this OID call.
pub(super) fn function_name(oid: u32) -> String {
    format!("keyway.convert_{oid}")
}

/// Takes away what was made of a conversion that is not wanted any more. Repeatable.
pub(super) fn undo(table: &TableName, oid: u32) -> Vec<String> {
    let mut statements: Vec<String> = TRIGGERS
        .iter()
        .map(|trigger| format!("DROP TRIGGER IF EXISTS {trigger} ON {}", qualified(table)))
        .collect();
    statements.push(format!("DROP FUNCTION IF EXISTS {}()", function_name(oid)));
    statements.push(format!(
        "DROP TABLE IF EXISTS {}",
        qualified(&new_name(table))
    ));
    statements
}

impl Design<'_> {
    /// The table's own name.
    pub(super) fn table(&self) -> TableName {
        TableName {
            schema: self.facts.schema.clone(),
            name: self.facts.name.clone(),
        }
    }

    /// The table under its own name: the old one, and the new one from the swap on.
    pub(super) fn own(&self) -> String {
        qualified(&self.table())
    }

    /// The new parent, until the swap.
    pub(super) fn copy(&self) -> String {
        qualified(&new_name(&self.table()))
    }

    /// The columns that rows are divided by.
    pub(super) fn partition_columns(&self) -> Vec<&str> {
        let range = self.declared.range.iter().map(|r| r.column.as_str());
        let hash = self.declared.hash.iter().flat_map(|h| &h.columns);
        let mut columns: Vec<&str> = range.collect();
        for column in hash {
            if !columns.contains(&column.as_str()) {
                columns.push(column);
            }
        }
        columns
    }

    /// The partition columns that a key lacks.
    fn lacks(&self, columns: &[String]) -> Vec<&str> {
        let mut lacking = self.partition_columns();
        lacking.retain(|column| !columns.iter().any(|own| own == column));
        lacking
    }

    /// Why PostgreSQL would not have the table partitioned as declared.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let lacking_of_primary = self.facts.constraints.iter().find(|own| own.kind == 'p');
        let added = lacking_of_primary.map_or_else(Vec::new, |own| self.lacks(&own.columns));
        for name in self.partition_columns() {
            match self.facts.columns.iter().find(|own| own.name == name) {
                None => reasons.push(format!("it has no column {name:?}, which is declared to divide it")),
                Some(own) if own.generated => reasons.push(format!(
                    "column {name:?} is generated, and PostgreSQL does not partition by such"
                )),
                Some(own) if !own.not_null && added.contains(&name) => reasons.push(format!(
                    "column {name:?} may be NULL, and the primary key gets it: ALTER COLUMN … SET NOT NULL first"
                )),
                Some(_) => {}
            }
        }
        if self.extend {
            return reasons;
        }
        let unique = self
            .facts
            .constraints
            .iter()
            .filter(|own| matches!(own.kind, 'p' | 'u'))
            .map(|own| (&own.name, &own.columns, own.definition.clone()));
        let indexes = self
            .facts
            .indexes
            .iter()
            .filter(|own| own.unique)
            .map(|own| {
                (
                    &own.name,
                    &own.columns,
                    format!("UNIQUE INDEX {}", own.definition),
                )
            });
        for (name, columns, definition) in unique.chain(indexes) {
            let lacking = self.lacks(columns);
            if !lacking.is_empty() {
                reasons.push(format!(
                    "{name} ({definition}) lacks the partition column {}: PostgreSQL keeps only keys unique that contain it; \
                     --extend-unique appends it, and then rows of two partitions may be equal in the other columns",
                    lacking.join(", ")
                ));
            }
        }
        reasons
    }

    /// The new parent's primary key: the old one's, and what it gets.
    pub(super) fn new_key(&self) -> Vec<KeyColumn> {
        let mut key = self.facts.key.clone();
        let own: Vec<String> = key.iter().map(|column| column.name.clone()).collect();
        for name in self.lacks(&own) {
            let column = self.facts.columns.iter().find(|own| own.name == name);
            key.push(KeyColumn {
                name: name.to_owned(),
                type_name: column.map_or_else(String::new, |own| own.type_name.clone()),
                equal: "OPERATOR(pg_catalog.=)".to_owned(),
                greater: "OPERATOR(pg_catalog.>)".to_owned(),
            });
        }
        key
    }

    /// Makes the new parent without partitions.
    pub(super) fn create(&self) -> Vec<String> {
        let facts = self.facts;
        let new = self.copy();
        let list = |columns: &[&str]| {
            let quoted: Vec<String> = columns.iter().map(|column| quote(column)).collect();
            quoted.join(", ")
        };
        let by = match (&self.declared.range, &self.declared.hash) {
            (Some(range), _) => format!("RANGE ({})", quote(&range.column)),
            (None, hash) => {
                let columns = hash.iter().flat_map(|hash| &hash.columns);
                let columns: Vec<&str> = columns.map(String::as_str).collect();
                format!("HASH ({})", list(&columns))
            }
        };
        let tablespace = facts
            .tablespace
            .as_ref()
            .map_or_else(String::new, |name| format!(" TABLESPACE {}", quote(name)));
        let mut statements = vec![
            format!(
                "CREATE TABLE {new} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE \
                 INCLUDING COMPRESSION) PARTITION BY {by}{tablespace}",
                self.own()
            ),
            format!("ALTER TABLE {new} OWNER TO {}", quote(&facts.owner)),
        ];
        for constraint in &facts.constraints {
            match constraint.kind {
                'p' | 'u' => statements.push(format!(
                    "ALTER TABLE {new} ADD CONSTRAINT {} {}",
                    quote(&partition_name(&constraint.name, NEW)),
                    self.key_definition(constraint)
                )),
                'f' => statements.push(format!(
                    "ALTER TABLE {new} ADD CONSTRAINT {} {} DEFERRABLE INITIALLY DEFERRED",
                    quote(&constraint.name),
                    without_timing(&constraint.definition)
                )),
                _ => {}
            }
        }
        for index in &facts.indexes {
            let unique = if index.unique { "UNIQUE " } else { "" };
            statements.push(format!(
                "CREATE {unique}INDEX {} ON {new} USING {}",
                quote(&partition_name(&index.name, NEW)),
                self.index_definition(index)
            ));
        }
        statements
    }

    fn key_definition(&self, constraint: &Constraint) -> String {
        let added = self.lacks(&constraint.columns);
        let definition = appended(&constraint.definition, &added);
        if constraint.options.is_empty() {
            definition
        } else {
            format!("{definition} WITH ({})", constraint.options.join(", "))
        }
    }

    fn index_definition(&self, index: &Index) -> String {
        if index.unique {
            appended(&index.definition, &self.lacks(&index.columns))
        } else {
            index.definition.clone()
        }
    }

    /// What partitions have from the table and do not get by LIKE or ATTACH; again whenever some were made.
    pub(super) fn furnish(&self) -> Vec<String> {
        let facts = self.facts;
        let new = self.copy();
        let mut each = Vec::new();
        if !facts.options.is_empty() {
            // On tables with rows of their own.
            each.push(("r", format!("SET ({})", facts.options.join(", "))));
        }
        match facts.replica_identity {
            'f' => each.push(("rp", "REPLICA IDENTITY FULL".to_owned())),
            'n' => each.push(("rp", "REPLICA IDENTITY NOTHING".to_owned())),
            _ => {}
        }
        for column in &facts.columns {
            if let Some(target) = column.statistics {
                let name = quote(&column.name);
                each.push(("rp", format!("ALTER COLUMN {name} SET STATISTICS {target}")));
            }
            if !column.options.is_empty() {
                let name = quote(&column.name);
                let options = column.options.join(", ");
                each.push(("rp", format!("ALTER COLUMN {name} SET ({options})")));
            }
        }
        each.iter()
            .map(|(kinds, what)| {
                let kinds: Vec<String> = kinds.chars().map(|kind| format!("'{kind}'")).collect();
                format!(
                    "DO $keyway$ DECLARE t regclass; BEGIN FOR t IN SELECT c.oid FROM pg_catalog.pg_partition_tree({}) p \
                     JOIN pg_catalog.pg_class c ON c.oid = p.relid WHERE c.relkind IN ({}) LOOP \
                     EXECUTE pg_catalog.format('ALTER TABLE ONLY %s %s', t, {}); END LOOP; END $keyway$",
                    literal(&new),
                    kinds.join(", "),
                    literal(what)
                )
            })
            .collect()
    }

    /// What partitions that are made later will not have.
    pub(super) fn note(&self) -> Option<String> {
        let facts = self.facts;
        let mut what = Vec::new();
        if !facts.options.is_empty() {
            what.push(format!("storage parameters {}", facts.options.join(", ")));
        }
        if matches!(facts.replica_identity, 'f' | 'n') {
            what.push("the replica identity".to_owned());
        }
        let is_own = |column: &&Column| column.statistics.is_some() || !column.options.is_empty();
        let columns = facts.columns.iter().filter(is_own);
        what.extend(columns.map(|own| format!("the statistics target of column {:?}", own.name)));
        (!what.is_empty()).then(|| {
            format!(
                "its partitions have {}; PostgreSQL does not give them to partitions that are made later",
                what.join(", ")
            )
        })
    }

    /// The columns of the new parent's primary key.
    pub(super) fn conflict_columns(&self) -> String {
        let key = self.new_key();
        let columns: Vec<String> = key.iter().map(|column| quote(&column.name)).collect();
        columns.join(", ")
    }
}

/// A foreign key's definition without DEFERRABLE and INITIALLY.
pub(super) fn without_timing(definition: &str) -> &str {
    let mut rest = definition;
    for end in [" INITIALLY DEFERRED", " DEFERRABLE"] {
        rest = rest.strip_suffix(end).unwrap_or(rest);
    }
    rest
}

/// A definition with columns appended to its first list: `PRIMARY KEY (id)`, `btree (lower(a)) WHERE …`.
pub(super) fn appended(definition: &str, columns: &[&str]) -> String {
    let Some(end) = end_of_list(definition).filter(|_| !columns.is_empty()) else {
        return definition.to_owned();
    };
    let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
    format!(
        "{}, {}{}",
        &definition[..end],
        columns.join(", "),
        &definition[end..]
    )
}

/// Where the first list in parentheses ends. Quoted names and strings may contain parentheses.
fn end_of_list(definition: &str) -> Option<usize> {
    let mut depth = 0_u32;
    let mut quoted: Option<u8> = None;
    for (at, byte) in definition.bytes().enumerate() {
        match (quoted, byte) {
            (Some(end), byte) if byte == end => quoted = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quoted = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}
