//! Partitions: keeps those that a keyspace's tables are declared to have, on each of its shards.
//!
//! In: declarations (`config::partitions`), what the shards have, and the time. Out: partitions made ahead of it, old ones
//! detached, archived or dropped. CREATE TABLE … PARTITION BY is a migration's business. Runs on connections of its own, never
//! through the router; nothing here is on a statement's way.
//! Reading order: `calendar` and `line` (where a partition begins and ends), `bounds` (as PostgreSQL says it), `parent` (what a
//! shard has), `plan` (what is left to do), `names`, `sql` (the statements), `steps`, `look` (a table on a shard), `rollout` (a
//! keyspace over its shards), `run` (one step on one shard), `retired`; `convert` makes a table with rows a partitioned one.

pub mod bounds;
pub mod calendar;
pub mod convert;
pub mod line;
pub mod look;
pub mod names;
pub mod parent;
pub mod plan;
mod retired;
pub mod rollout;
pub mod run;
pub mod size;
pub mod sql;
pub mod steps;

#[cfg(test)]
mod tests;
