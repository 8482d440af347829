//! What a shard says of a table that is to be converted.

use crate::partition::convert::questions::{
    COLUMNS, CONSTRAINTS, DRESS, IDENTITIES, INDEXES, KEY, OBSTACLES, SERIALS, STATISTICS, TABLE,
    VERSION,
};
use tokio_postgres::{Error, GenericClient};

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// With its modifier.
    pub(super) type_name: String,
    pub(super) not_null: bool,
    pub(super) generated: bool,
    /// What else is said of it, for comparison: default, identity, storage, compression, collation.
    pub(super) rest: String,
    /// The target of ANALYZE, when it is its own.
    pub(super) statistics: Option<i32>,
    /// `n_distinct=…`
    pub(super) options: Vec<String>,
}

/// A column of the primary key, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub(super) name: String,
    pub(super) type_name: String,
    /// Its equality: `OPERATOR(pg_catalog.=)`.
    pub(super) equal: String,
    /// Its order, the same way.
    pub(super) greater: String,
}

/// A constraint of the table itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraint {
    pub(super) name: String,
    /// As in pg_constraint.contype.
    pub(super) kind: char,
    /// As `pg_get_constraintdef` prints it.
    pub(super) definition: String,
    /// Its columns; of an index those that are its key.
    pub(super) columns: Vec<String>,
    pub(super) deferrable: bool,
    pub(super) deferred: bool,
    /// Storage parameters of its index.
    pub(super) options: Vec<String>,
}

/// An index that is no constraint's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) name: String,
    pub(super) unique: bool,
    /// Plain columns of its key.
    pub(super) columns: Vec<String>,
    /// What `pg_get_indexdef` prints behind USING.
    pub(super) definition: String,
}

/// A column that counts by a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) column: String,
    pub(super) schema: String,
    pub(super) name: String,
    /// Of an identity column: `GENERATED ALWAYS AS IDENTITY (…)`.
    pub(super) identity: String,
}

/// Everything that is to be said of a table again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) owner: String,
    pub(super) tablespace: Option<String>,
    /// As in pg_class.relreplident.
    pub(super) replica_identity: char,
    /// Storage parameters, those of the TOAST table with `toast.` in front.
    pub(super) options: Vec<String>,
    pub(super) rows_estimated: i64,
    pub(super) columns: Vec<Column>,
    pub(super) key: Vec<KeyColumn>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) indexes: Vec<Index>,
    pub(super) identities: Vec<Sequence>,
    pub(super) serials: Vec<Sequence>,
    /// Extended statistics: schema and name.
    pub(super) statistics: Vec<(String, String)>,
    /// What stands in the way, whatever is declared.
    pub(super) obstacles: Vec<String>,
    /// What is said again in the moment of the swap, by the table's own name.
    pub(super) dress: Vec<String>,
}

/// What a name is on a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) oid: u32,
    /// As in pg_class.relkind.
    pub(super) kind: char,
}

/// Looks for a relation.
pub(super) async fn find(
    client: &impl GenericClient,
    schema: &str,
    name: &str,
) -> Result<Option<Found>, Error> {
    let sql = "SELECT c.oid, c.relkind::text FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1::text AND c.relname = $2::text";
    let Some(row) = client.query_opt(sql, &[&schema, &name]).await? else {
        return Ok(None);
    };
    Ok(Some(Found {
        oid: row.try_get(0)?,
        kind: first(&row.try_get::<_, String>(1)?),
    }))
}

fn first(text: &str) -> char {
    text.chars().next().unwrap_or(' ')
}

impl Facts {
    /// Reads them. What other sessions change meanwhile is found by [`version`].
    pub(super) async fn read(client: &impl GenericClient, oid: u32) -> Result<Self, Error> {
        let row = client.query_one(TABLE, &[&oid]).await?;
        let mut facts = Self {
            oid,
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            owner: row.try_get(2)?,
            tablespace: row.try_get(3)?,
            replica_identity: first(&row.try_get::<_, String>(4)?),
            options: row.try_get(5)?,
            rows_estimated: row.try_get(6)?,
            columns: Vec::new(),
            key: Vec::new(),
            constraints: Vec::new(),
            indexes: Vec::new(),
            identities: Vec::new(),
            serials: Vec::new(),
            statistics: Vec::new(),
            obstacles: Vec::new(),
            dress: Vec::new(),
        };
        for row in client.query(COLUMNS, &[&oid]).await? {
            facts.columns.push(Column {
                name: row.try_get(0)?,
                type_name: row.try_get(1)?,
                not_null: row.try_get(2)?,
                generated: row.try_get(3)?,
                rest: row.try_get(4)?,
                statistics: row.try_get(5)?,
                options: row.try_get(6)?,
            });
        }
        for row in client.query(KEY, &[&oid]).await? {
            facts.key.push(KeyColumn {
                name: row.try_get(0)?,
                type_name: row.try_get(1)?,
                equal: row.try_get(2)?,
                greater: row.try_get(3)?,
            });
        }
        for row in client.query(CONSTRAINTS, &[&oid]).await? {
            facts.constraints.push(Constraint {
                name: row.try_get(0)?,
                kind: first(&row.try_get::<_, String>(1)?),
                definition: row.try_get(2)?,
                columns: row.try_get(3)?,
                deferrable: row.try_get(4)?,
                deferred: row.try_get(5)?,
                options: row.try_get(6)?,
            });
        }
        for row in client.query(INDEXES, &[&oid]).await? {
            facts.indexes.push(Index {
                name: row.try_get(0)?,
                unique: row.try_get(1)?,
                columns: row.try_get(2)?,
                definition: row.try_get(3)?,
            });
        }
        for (sql, list) in [
            (IDENTITIES, &mut facts.identities),
            (SERIALS, &mut facts.serials),
        ] {
            for row in client.query(sql, &[&oid]).await? {
                list.push(Sequence {
                    column: row.try_get(0)?,
                    schema: row.try_get(1)?,
                    name: row.try_get(2)?,
                    identity: row.try_get(3)?,
                });
            }
        }
        for row in client.query(STATISTICS, &[&oid]).await? {
            facts.statistics.push((row.try_get(0)?, row.try_get(1)?));
        }
        for (list, questions) in [(&mut facts.obstacles, OBSTACLES), (&mut facts.dress, DRESS)] {
            for sql in questions {
                for row in client.query(*sql, &[&oid]).await? {
                    list.push(row.try_get(0)?);
                }
            }
        }
        Ok(facts)
    }

    /// What the new parent is built from, a line for each thing: two texts tell what has changed since.
    pub(super) fn shape(&self) -> String {
        let mut lines = vec![format!("owner {}", self.owner)];
        lines.push(format!("tablespace {:?}", self.tablespace));
        lines.push(format!("replica identity {}", self.replica_identity));
        lines.push(format!("options {}", self.options.join(", ")));
        lines.extend(self.columns.iter().map(|column| {
            let null = if column.not_null { " NOT NULL" } else { "" };
            format!(
                "column {} {}{null} {} {:?} {}",
                column.name,
                column.type_name,
                column.rest,
                column.statistics,
                column.options.join(", ")
            )
        }));
        lines.extend(self.constraints.iter().map(|constraint| {
            let options = constraint.options.join(", ");
            format!(
                "constraint {} {} {options}",
                constraint.name, constraint.definition
            )
        }));
        lines.extend(self.indexes.iter().map(|index| {
            let unique = if index.unique { "unique " } else { "" };
            format!("{unique}index {} {}", index.name, index.definition)
        }));
        lines.extend(self.identities.iter().map(|sequence| {
            format!(
                "identity {} {} {}",
                sequence.column, sequence.name, sequence.identity
            )
        }));
        let serials = self.serials.iter();
        lines.extend(serials.map(|s| format!("sequence {} of {}", s.name, s.column)));
        lines.join("\n")
    }

    /// Columns that can be written: all but generated ones.
    pub(super) fn written(&self) -> Vec<&str> {
        let columns = self.columns.iter().filter(|column| !column.generated);
        columns.map(|column| column.name.as_str()).collect()
    }
}

/// A number over the row versions of everything that [`Facts`] are read from: any change of them shows. Asked under the lock, where
/// reading them all again would keep writers waiting.
pub(super) async fn version(client: &impl GenericClient, oid: u32) -> Result<String, Error> {
    client.query_one(VERSION, &[&oid]).await?.try_get(0)
}
