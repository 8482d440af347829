//! The statements that make a partition and take one away. They mean the same in any session: names are qualified, times have
//! their zone.

use crate::catalog::quote;
use crate::config::partitions::Partitioned;
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::line::{Axis, Edge};
use crate::partition::parent::{Child, Traits};
use crate::partition::plan::Creation;

/// What a working session has: bounds are read back in UTC as ISO dates, whatever the database and the role say, and a policy
/// that hides rows from it is an error.
pub const SESSION: &str = "
    SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres';
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = '60s';
    SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
    SET standard_conforming_strings = on; SET quote_all_identifiers = off; SET row_security = off; SET client_min_messages = warning;";

/// The CHECK with which a table is attached without being read.
const CHECK: &str = "keyway_bounds";

/// What LIKE copies. Indexes, keys, foreign keys and triggers come with ATTACH; identity is the parent's.
const LIKE: &str = "INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION";

/// A table's name in a statement.
#[must_use]
pub fn qualified(name: &TableName) -> String {
    format!("{}.{}", quote(&name.schema), quote(&name.name))
}

/// A table to be divided, as its partitions' statements need it.
#[derive(Debug, Clone, Copy)]
pub struct Table<'t> {
    /// How it is divided.
    pub declared: &'t Partitioned,
    /// The line of its range column.
    pub axis: Option<Axis>,
    /// What its partitions have from it.
    pub traits: &'t Traits,
}

impl Table<'_> {
    /// Makes a partition beside the table, and attaches it. For one transaction.
    #[must_use]
    pub fn create(&self, creation: &Creation) -> Vec<String> {
        let mut statements = self.create_standalone(creation);
        let name = qualified(&creation.name);
        let values = self.values(&creation.bound);
        statements.push(format!(
            "ALTER TABLE {} ATTACH PARTITION {name} {values}",
            qualified(&creation.of)
        ));
        if self.check(&creation.bound).is_some() {
            statements.push(format!("ALTER TABLE {name} DROP CONSTRAINT {CHECK}"));
        }
        statements
    }

    /// The same without attaching it: a table of its own, with a CHECK of its bounds when it takes a range.
    #[must_use]
    pub fn create_standalone(&self, creation: &Creation) -> Vec<String> {
        let name = qualified(&creation.name);
        let check = self.check(&creation.bound);
        let check = check.map_or_else(String::new, |check| {
            format!(", CONSTRAINT {CHECK} CHECK ({check})")
        });
        let like = format!("LIKE {} {LIKE}{check}", qualified(&creation.of));
        let tablespace = self.tablespace();
        let mut statements = Vec::new();
        if creation.inner.is_empty() {
            let method = self.method();
            statements.push(format!("CREATE TABLE {name} ({like}){method}{tablespace}"));
        } else {
            let hash = self.declared.hash.as_ref();
            let columns = hash.map_or(&[][..], |hash| hash.columns.as_slice());
            let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
            let by = format!("PARTITION BY HASH ({})", columns.join(", "));
            statements.push(format!("CREATE TABLE {name} ({like}) {by}{tablespace}"));
        }
        statements.extend(self.owned(&creation.name));
        let modulus = creation.inner.len();
        for (remainder, inner) in creation.inner.iter().enumerate() {
            let method = self.method();
            statements.push(format!(
                "CREATE TABLE {} PARTITION OF {name} FOR VALUES WITH (MODULUS {modulus}, REMAINDER {remainder}){method}{tablespace}",
                qualified(inner)
            ));
            statements.extend(self.owned(inner));
        }
        statements
    }

    fn tablespace(&self) -> String {
        let tablespace = self.traits.tablespace.as_ref();
        tablespace.map_or_else(String::new, |name| format!(" TABLESPACE {}", quote(name)))
    }

    fn method(&self) -> String {
        let method = self.traits.method.as_ref();
        method.map_or_else(String::new, |name| format!(" USING {}", quote(name)))
    }

    fn owned(&self, name: &TableName) -> Option<String> {
        let owner = self.traits.owner.as_ref()?;
        Some(format!(
            "ALTER TABLE {} OWNER TO {}",
            qualified(name),
            quote(owner)
        ))
    }

    /// The bounds as PostgreSQL's own partition constraint has them.
    fn check(&self, bound: &Bound) -> Option<String> {
        let (Bound::Range(lower, upper), Some(axis), Some(range)) =
            (bound, self.axis, self.declared.range.as_ref())
        else {
            return None;
        };
        let column = quote(&range.column);
        let mut check = format!("{column} IS NOT NULL");
        for (edge, operator) in [(lower, ">="), (upper, "<")] {
            if let Edge::At(at) = edge {
                check.push_str(&format!(
                    " AND {column} {operator} '{}'::pg_catalog.{}",
                    axis.text(*at),
                    axis.type_name()
                ));
            }
        }
        Some(check)
    }

    /// The clause that says what a partition takes.
    #[must_use]
    pub fn values(&self, bound: &Bound) -> String {
        match (bound, self.axis) {
            (Bound::Range(lower, upper), Some(axis)) => {
                format!(
                    "FOR VALUES FROM ({}) TO ({})",
                    axis.bound(*lower),
                    axis.bound(*upper)
                )
            }
            (Bound::Hash { modulus, remainder }, _) => {
                format!("FOR VALUES WITH (MODULUS {modulus}, REMAINDER {remainder})")
            }
            (Bound::Other(text), _) => text.clone(),
            (Bound::Default | Bound::Range(..), _) => "DEFAULT".to_owned(),
        }
    }
}

/// How a partition leaves its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detach {
    /// Outside a transaction: waits for old transactions, and blocks nobody.
    Concurrently,
    /// Of what a CONCURRENTLY that was cut off left.
    Finalize,
    /// In a transaction, which nobody may read the table beside: what a parent with a default partition needs.
    AtOnce,
}

/// The statement that takes a partition from its parent.
#[must_use]
pub fn detach(parent: &TableName, child: &TableName, how: Detach) -> String {
    let how = match how {
        Detach::Concurrently => " CONCURRENTLY",
        Detach::Finalize => " FINALIZE",
        Detach::AtOnce => "",
    };
    format!(
        "ALTER TABLE {} DETACH PARTITION {}{how}",
        qualified(parent),
        qualified(child)
    )
}

/// The statements that move a table that was a partition, and its own partitions, to another schema.
#[must_use]
pub fn archive(tables: &[TableName], schema: &str) -> Vec<String> {
    let schema = quote(schema);
    let moved = tables
        .iter()
        .map(|table| format!("ALTER TABLE {} SET SCHEMA {schema}", qualified(table)));
    std::iter::once(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))
        .chain(moved)
        .collect()
}

/// The statement that drops a table that was a partition, with its own partitions.
#[must_use]
pub fn drop_table(child: &TableName, is_foreign: bool) -> String {
    let foreign = if is_foreign { "FOREIGN " } else { "" };
    format!("DROP {foreign}TABLE {}", qualified(child))
}

/// Can PostgreSQL detach a partition of this parent CONCURRENTLY? Not beside a default partition.
#[must_use]
pub fn way(siblings: &[Child]) -> Detach {
    if siblings.iter().any(|child| child.bound == Bound::Default) {
        Detach::AtOnce
    } else {
        Detach::Concurrently
    }
}
