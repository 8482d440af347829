//! Migrations: versioned SQL files of a keyspace, run on each of its shards.
//!
//! In: a directory, and the shards' own histories. Out: the shards changed, each with a history row in the same
//! transaction. Runs on connections of its own, never through the router; nothing here is on a statement's way.
//! Reading order: `files` (names, directives, statements), `version`, `plan` (what is left to do),
//! `rollout` (a keyspace over its shards), `run` (one migration on one shard), `history`, `concurrent`, `required` (what
//! all shards must have), `mend` (histories that people correct).

mod concurrent;
pub mod files;
pub mod history;
pub mod mend;
pub mod plan;
mod required;
pub mod rollout;
pub mod run;
pub mod version;

#[cfg(test)]
mod tests;
