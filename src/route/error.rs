//! Why a statement is refused, and what the client may know of it. Names tables, keys and shards, never a literal.

use crate::route::merge::{Refusal, WindowError};
use crate::wire::error::{ClientError, SqlState};
use thiserror::Error;

/// A refusal. The rule is DESIGN §1: exactly what one PostgreSQL would answer, or one of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// A read whose rows are on several shards and that cannot be merged.
    #[error("the statement needs several shards and cannot be answered exactly from them")]
    ManyShards {
        /// The tables that are spread.
        tables: String,
        /// Why it cannot be merged.
        reason: String,
    },
    /// The merge planner's refusal.
    #[error("the statement needs several shards and cannot be answered exactly from them")]
    Merge(Refusal),
    /// A change that would reach several shards.
    #[error("the statement would write on several shards")]
    ManyShardWrite {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// Row or table locks on several shards.
    #[error("the statement would lock on several shards")]
    ManyShardLock {
        /// The tables.
        tables: String,
    },
    /// A reference table's write.
    #[error("writes to reference tables need cross-shard commit")]
    ReferenceWrite {
        /// The table.
        table: String,
    },
    /// SET of a key column.
    #[error("the statement would change the sharding key")]
    KeyUpdate {
        /// The table.
        table: String,
        /// The key column.
        column: String,
    },
    /// INSERT without a usable key.
    #[error("the row's shard cannot be found")]
    KeyMissing {
        /// The table.
        table: String,
        /// The key column.
        column: String,
        /// Why.
        reason: String,
    },
    /// Tables that do not meet on one shard.
    #[error("the statement's tables are not on one shard")]
    Apart {
        /// One side.
        tables: String,
        /// What keeps them apart.
        reason: String,
    },
    /// A table that no keyspace lists.
    #[error("table {table} is in no keyspace")]
    UnlistedTable {
        /// The table.
        table: String,
        /// The keyspace to add it to.
        keyspace: String,
    },
    /// A table whose last schema change stopped half way.
    #[error("table {table} may not be used")]
    RefusedTable {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A write that a trigger or the like makes unsafe.
    #[error("writes to table {table} are not safe")]
    Hazard {
        /// The table.
        table: String,
        /// What is in the way.
        hazard: String,
    },
    /// A table whose row-level security looks further than its own rows.
    #[error("row-level security of table {table} cannot be applied on each shard alone")]
    Policy {
        /// The table.
        table: String,
        /// What is in the way.
        hazard: String,
    },
    /// A view that cannot be placed.
    #[error("view {view} cannot be placed")]
    View {
        /// The view.
        view: String,
        /// Why.
        reason: String,
    },
    /// A constraint that one shard cannot hold alone.
    #[error("{constraint} on table {table} cannot be held by one shard alone")]
    Constraint {
        /// The table.
        table: String,
        /// `UNIQUE (email)` …
        constraint: String,
        /// What to do.
        hint: String,
    },
    /// A value that would have to be compared with other shards' rows.
    #[error("{constraint} on table {table} cannot be checked by one shard alone")]
    Unchecked {
        /// The table.
        table: String,
        /// The constraint's name.
        name: String,
        /// `UNIQUE (email)` …
        constraint: String,
        /// The column whose default is unique over all shards.
        generated: Option<String>,
    },
    /// A function that cannot run where this would send it.
    #[error("function {name} cannot be used here")]
    Function {
        /// The function.
        name: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A system catalog together with what is not on the home shard.
    #[error("system catalogs cannot be read together with the database's tables")]
    CatalogJoin {
        /// The tables.
        tables: String,
    },
    /// A schema change that cannot be made on every shard alike.
    #[error("{what} is not supported on a sharded keyspace")]
    Schema {
        /// The statement or clause.
        what: String,
        /// Why.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Keyway's own schema.
    #[error("schema keyway is Keyway's own")]
    OwnSchema,
    /// A name that would hide what has it now.
    #[error("{name} is a table of keyspace {keyspace}")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        keyspace: String,
    },
    /// A statement that only runs on one shard.
    #[error("{what} runs on one shard only")]
    OneShardOnly {
        /// The statement.
        what: String,
        /// Why.
        reason: String,
    },
    /// A hint that names nothing.
    #[error("{reason}")]
    BadHint {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The parser did not understand the text.
    #[error("the statement is not understood and the database has several shards")]
    Unparsed {
        /// The parser's reason.
        reason: String,
    },
    /// Beyond the binder's bounds.
    #[error("the statement is too complex to be routed")]
    TooComplex {
        /// Which bound.
        reason: String,
    },
    /// LIMIT or OFFSET that PostgreSQL refuses too.
    #[error("{0}")]
    Window(#[from] WindowError),
    /// LIMIT or OFFSET that is not a plain integer.
    #[error("LIMIT or OFFSET over several shards must be a plain integer")]
    WindowValue,
    /// The database has no shard to run it on.
    #[error("the database has no shard")]
    NoShard,
}

impl ClientError for RouteError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Window(window) => window.sqlstate(),
            Self::BadHint { .. } => SqlState::INVALID_PARAMETER_VALUE,
            Self::NoShard => SqlState::CONNECTION_FAILURE,
            Self::TooComplex { .. } => SqlState::STATEMENT_TOO_COMPLEX,
            _ => SqlState::FEATURE_NOT_SUPPORTED,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Self::ManyShards { tables, reason } => Some(format!("{}: {reason}", named(tables))),
            Self::Merge(refusal) => Some(refusal.reason.to_string()),
            Self::ManyShardWrite { table, reason } => Some(format!("Table {table}: {reason}")),
            Self::ManyShardLock { tables } => Some(format!(
                "{}: the key is not pinned to one shard",
                named(tables)
            )),
            Self::ReferenceWrite { table } => {
                Some(format!("Reference table {table} has a copy on every shard"))
            }
            Self::KeyUpdate { table, column } => Some(format!(
                "Table {table} is sharded by {column}; the row would belong to another shard"
            )),
            Self::KeyMissing {
                table,
                column,
                reason,
            } => Some(format!("Table {table} is sharded by {column}: {reason}")),
            Self::Apart { tables, reason } => Some(format!("{}: {reason}", named(tables))),
            Self::UnlistedTable { keyspace, .. } => Some(format!(
                "The default keyspace {keyspace} is sharded, so it must say how the table is placed"
            )),
            Self::RefusedTable { reason, .. } | Self::View { reason, .. } => Some(reason.clone()),
            Self::Hazard { hazard, .. } | Self::Policy { hazard, .. } => Some(hazard.clone()),
            Self::Constraint { table, .. } => Some(format!(
                "Rows of table {table} are spread over shards by the sharding key, and PostgreSQL checks one shard only"
            )),
            Self::Unchecked {
                table, generated, ..
            } => Some(match generated {
                Some(column) => format!(
                    "Values of {column} are unique over the shards of table {table} as long as they are its default's; any other may be in a row of another shard, and PostgreSQL checks one shard only"
                ),
                None => format!(
                    "Rows of table {table} are spread over shards by the sharding key, which the constraint does not contain, and PostgreSQL checks one shard only"
                ),
            }),
            Self::Function { reason, .. }
            | Self::Schema { reason, .. }
            | Self::OneShardOnly { reason, .. }
            | Self::TooComplex { reason } => Some(reason.clone()),
            Self::CatalogJoin { tables } => Some(format!(
                "{}: catalogs are read on the home shard",
                named(tables)
            )),
            Self::NameTaken { .. } => Some(
                "A name finds one table in the whole database, so what took this one could not be reached".to_owned(),
            ),
            Self::OwnSchema => Some(
                "It says which shard holds what, on every shard; what a client changes there, no other Keyway would agree with".to_owned(),
            ),
            Self::Unparsed { reason } => Some(reason.clone()),
            Self::WindowValue => Some("Its value decides which shards' rows are shown, and it is not one that Keyway can read.".to_owned()),
            Self::BadHint { .. } | Self::Window(_) | Self::NoShard => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let shard = "name one with /* keyway: shard=… */ or SET keyway.shard";
        match self {
            Self::ManyShards { .. } | Self::ManyShardLock { .. } => {
                Some(format!("Compare the sharding key with a constant, or {shard}."))
            }
            Self::Merge(refusal) => (!refusal.hint.is_empty()).then(|| refusal.hint.to_string()),
            Self::ManyShardWrite { .. } => {
                Some(format!("Write one shard's rows per statement: pin the sharding key, or {shard}."))
            }
            Self::ReferenceWrite { .. } => Some(
                "Write each shard's copy by /* keyway: shard=… */ while nobody else writes the table.".to_owned(),
            ),
            Self::KeyUpdate { .. } => Some("Insert the row with its new key and delete the old one.".to_owned()),
            Self::KeyMissing { column, .. } => {
                Some(format!("Give {column} as a constant or parameter; where only you can know it, hint /* keyway: key=… */."))
            }
            Self::Apart { .. } | Self::CatalogJoin { .. } => {
                Some(format!("Ask for them in separate statements, or {shard}."))
            }
            Self::UnlistedTable { table, keyspace } => Some(format!(
                "Add to [keyspaces.{keyspace}.tables]: {table} = {{ key = \"…\" }} or {table} = {{ reference = true }}."
            )),
            Self::RefusedTable { .. } => Some("Run keyway check when the shards are equal again.".to_owned()),
            Self::Hazard { .. } => Some(format!("Change the table as keyway check says, or {shard}.")),
            Self::Policy { .. } => Some(
                "Let the policy compare the row's own columns with settings, roles or reference tables, and declare its \
                 functions in [functions]."
                    .to_owned(),
            ),
            Self::View { .. } => Some(format!("Query the view's tables, or {shard}.")),
            Self::Unchecked {
                name, generated, ..
            } => {
                let others = format!(
                    "make the sharding key part of the constraint, or vouch for the values with trust = [\"{name}\"] in the table's configuration."
                );
                Some(match generated {
                    Some(column) => format!("Leave {column} out or write DEFAULT, {others}"),
                    None => format!("Let a generated column be part of it, {others}"),
                })
            }
            Self::Constraint { hint, .. } | Self::Function { hint, .. } | Self::Schema { hint, .. } => {
                Some(hint.clone())
            }
            Self::OneShardOnly { .. } | Self::Unparsed { .. } => Some(format!("Choose a shard: {shard}.")),
            Self::NameTaken { .. } => Some("Choose another name.".to_owned()),
            Self::OwnSchema => Some("Look at it on a shard itself; `keyway check` says what it holds.".to_owned()),
            Self::BadHint { hint, .. } => Some(hint.clone()),
            Self::TooComplex { .. } => Some("Split the statement.".to_owned()),
            Self::WindowValue => Some("Give it as an integer literal or parameter.".to_owned()),
            Self::Window(_) | Self::NoShard => None,
        }
    }
}

/// `Table a` or `Tables a, b`.
fn named(tables: &str) -> String {
    format!(
        "{} {tables}",
        if tables.contains(',') {
            "Tables"
        } else {
            "Table"
        }
    )
}
