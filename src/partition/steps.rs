//! What is done for a table on a shard, one step after the other, each as the SQL that does it.

use crate::config::partitions::Then;
use crate::config::values::TableName;
use crate::partition::parent::Child;
use crate::partition::plan::Creation;
use crate::partition::sql::{self, Detach, Table};

/// How long a statement waits for a lock before it lets others pass, as SQL has it.
pub const LOCK_TIMEOUT: &str = "2s";

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A partition is made.
    Create(Creation),
    /// A DETACH … CONCURRENTLY of somebody's that was cut off is ended.
    Finalize(Child),
    /// A partition that has become too old leaves the table.
    Retire {
        /// Which.
        child: Child,
        /// How it leaves.
        how: Detach,
        /// What becomes of it.
        end: End,
    },
    /// What a run that was cut off had detached gets its end.
    Finish(End),
}

/// What becomes of a table that was a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its oid.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// A foreign table.
    pub is_foreign: bool,
    /// Where its range ends, or ended; not known of what an older Keyway wrote down.
    pub upper: Option<i128>,
    /// Itself and its own partitions.
    pub tables: Vec<TableName>,
    /// What is done.
    pub then: Then,
    /// The schema of archived tables.
    pub archive: String,
}

impl End {
    /// The statements, none for a table that stays.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        match self.then {
            Then::Detach => Vec::new(),
            Then::Archive => sql::archive(&self.tables, &self.archive),
            Then::Drop => vec![sql::drop_table(&self.name, self.is_foreign)],
        }
    }

    fn words(&self) -> String {
        match self.then {
            Then::Detach => "detached".to_owned(),
            Then::Archive => format!("archived in {}", self.archive),
            Then::Drop => "dropped".to_owned(),
        }
    }
}

/// SQL that is run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// In one transaction, with a short lock_timeout.
    Transaction(Vec<String>),
    /// Outside any, waiting for old transactions.
    Alone(String),
}

/// As psql takes it.
impl std::fmt::Display for Block {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Alone(statement) => writeln!(out, "{statement};"),
            Self::Transaction(statements) => {
                writeln!(out, "BEGIN;\nSET LOCAL lock_timeout = '{LOCK_TIMEOUT}';")?;
                for statement in statements {
                    writeln!(out, "{statement};")?;
                }
                writeln!(out, "COMMIT;")
            }
        }
    }
}

impl Step {
    /// The SQL of a step.
    #[must_use]
    pub fn blocks(&self, table: &Table<'_>, parent: &TableName) -> Vec<Block> {
        match self {
            Self::Create(creation) => vec![Block::Transaction(table.create(creation))],
            Self::Finalize(child) => {
                vec![Block::Alone(sql::detach(
                    parent,
                    &child.name,
                    Detach::Finalize,
                ))]
            }
            Self::Finish(end) => vec![Block::Transaction(end.statements())],
            Self::Retire { child, how, end } => {
                let detach = sql::detach(parent, &child.name, *how);
                let mut rest = end.statements();
                if *how == Detach::AtOnce {
                    rest.insert(0, detach);
                    return vec![Block::Transaction(rest)];
                }
                let mut blocks = vec![Block::Alone(detach)];
                if !rest.is_empty() {
                    blocks.push(Block::Transaction(rest));
                }
                blocks
            }
        }
    }

    /// The partition it is about.
    #[must_use]
    pub fn partition(&self) -> &TableName {
        match self {
            Self::Create(creation) => &creation.name,
            Self::Finalize(child) | Self::Retire { child, .. } => &child.name,
            Self::Finish(end) => &end.name,
        }
    }

    /// What has happened when it is done.
    #[must_use]
    pub fn words(&self) -> String {
        let what = match self {
            Self::Create(_) => "made".to_owned(),
            Self::Finalize(_) => "detached, which somebody had begun".to_owned(),
            Self::Retire { end, .. } | Self::Finish(end) => end.words(),
        };
        format!("{} {what}", self.partition())
    }
}
