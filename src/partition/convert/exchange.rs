//! The statements that give the new parent the old table's name, and all that was said of it.

use crate::catalog::quote;
use crate::partition::convert::design::{Design, KEPT, NEW, TRIGGERS, function_name, kept_name};
use crate::partition::names::partition_name;
use crate::partition::sql::qualified;
use crate::topology::ranges::literal;

impl Design<'_> {
    /// Lets the new parent take the old table's place. For a transaction that holds ACCESS EXCLUSIVE on the old one.
    pub(super) fn swap(&self) -> Vec<String> {
        let facts = self.facts;
        let table = self.table();
        let (old, new, kept) = (self.own(), self.copy(), qualified(&kept_name(&table)));
        let in_schema = |name: &str| format!("{}.{}", quote(&facts.schema), quote(name));
        let named = |name: &str, end| quote(&partition_name(name, end));
        let mut statements: Vec<String> = TRIGGERS
            .iter()
            .map(|trigger| format!("DROP TRIGGER {trigger} ON {old}"))
            .collect();
        statements.push(format!("DROP FUNCTION {}()", function_name(facts.oid)));
        // Rows that nobody updates any more would hold the rows that they refer to.
        let foreign = || facts.constraints.iter().filter(|own| own.kind == 'f');
        statements.extend(
            foreign().map(|own| format!("ALTER TABLE {old} DROP CONSTRAINT {}", quote(&own.name))),
        );
        let keys = || {
            facts
                .constraints
                .iter()
                .filter(|own| matches!(own.kind, 'p' | 'u'))
        };
        statements.extend(keys().map(|own| {
            let (name, away) = (quote(&own.name), named(&own.name, KEPT));
            format!("ALTER TABLE {old} RENAME CONSTRAINT {name} TO {away}")
        }));
        statements.extend(facts.indexes.iter().map(|own| {
            let away = named(&own.name, KEPT);
            format!("ALTER INDEX {} RENAME TO {away}", in_schema(&own.name))
        }));
        statements.extend(facts.statistics.iter().map(|(schema, name)| {
            let away = named(name, KEPT);
            format!(
                "ALTER STATISTICS {}.{} RENAME TO {away}",
                quote(schema),
                quote(name)
            )
        }));
        // Whoever takes a value meanwhile waits for this lock, and finds no such sequence then.
        statements.extend(facts.identities.iter().map(|own| {
            let away = named(&own.name, KEPT);
            format!(
                "ALTER SEQUENCE {}.{} RENAME TO {away}",
                quote(&own.schema),
                quote(&own.name)
            )
        }));
        statements.push(format!(
            "ALTER TABLE {old} RENAME TO {}",
            quote(&kept_name(&table).name)
        ));
        statements.push(format!(
            "ALTER TABLE {new} RENAME TO {}",
            quote(&facts.name)
        ));
        statements.extend(keys().map(|own| {
            let (name, now) = (quote(&own.name), named(&own.name, NEW));
            format!("ALTER TABLE {old} RENAME CONSTRAINT {now} TO {name}")
        }));
        statements.extend(facts.indexes.iter().map(|own| {
            let now = in_schema(&partition_name(&own.name, NEW));
            format!("ALTER INDEX {now} RENAME TO {}", quote(&own.name))
        }));
        statements.extend(foreign().filter_map(|own| {
            let timing = match (own.deferrable, own.deferred) {
                (true, true) => return None,
                (true, false) => "DEFERRABLE INITIALLY IMMEDIATE",
                (false, _) => "NOT DEFERRABLE",
            };
            let name = quote(&own.name);
            Some(format!(
                "ALTER TABLE {old} ALTER CONSTRAINT {name} {timing}"
            ))
        }));
        for own in &facts.identities {
            let (column, schema) = (quote(&own.column), quote(&own.schema));
            let (name, away) = (quote(&own.name), named(&own.name, KEPT));
            statements.push(format!(
                "ALTER TABLE {old} ALTER COLUMN {column} ADD {}",
                own.identity
            ));
            statements.push(format!(
                "SELECT pg_catalog.setval({}, last_value, is_called) FROM {schema}.{away}",
                literal(&format!("{schema}.{name}"))
            ));
            statements.push(format!(
                "ALTER TABLE {kept} ALTER COLUMN {column} DROP IDENTITY"
            ));
        }
        statements.extend(facts.dress.iter().cloned());
        statements
    }

    /// What is left behind the swap, in a transaction of its own: dropping the old table must not drop what the new one counts by.
    pub(super) fn afterwards(&self) -> Vec<String> {
        let own = self.facts.serials.iter().map(|own| {
            format!(
                "ALTER SEQUENCE {}.{} OWNED BY {}.{}",
                quote(&own.schema),
                quote(&own.name),
                self.own(),
                quote(&own.column)
            )
        });
        own.collect()
    }

    /// Names that the conversion gives and that must be free: those it makes at once, and those it gives in the swap.
    pub(super) fn names(&self) -> (Vec<String>, Vec<String>) {
        let facts = self.facts;
        let keys = facts
            .constraints
            .iter()
            .filter(|own| matches!(own.kind, 'p' | 'u'));
        let mut indexes: Vec<&String> = keys.map(|own| &own.name).collect();
        indexes.extend(facts.indexes.iter().map(|own| &own.name));
        let all = |end: &str| {
            let mut names = vec![partition_name(&facts.name, end)];
            names.extend(indexes.iter().map(|name| partition_name(name, end)));
            names
        };
        let sequences = facts.identities.iter().map(|own| &own.name);
        let away = sequences.map(|name| partition_name(name, KEPT));
        (all(NEW), all(KEPT).into_iter().chain(away).collect())
    }
}
