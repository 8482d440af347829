//! Turns an ordinary table with rows into a partitioned one, while clients write.
//!
//! In: a table's declaration, and the shards of its keyspace. Out: a partitioned table of the same name with the same rows and all
//! that was said of the old one; the old one, kept beside it until somebody drops it. What cannot be carried over is refused before
//! anything is changed. A new parent is filled in batches and kept in step by a trigger in the clients' own transactions, so at any
//! moment every snapshot finds what was copied equal in both; in the end both are compared, and their names are swapped.
//! Reading order: `run` (one shard), `standing` (what stands in the way), `facts` and `questions` (what the shard says of the table),
//! `design`, `follow` and `exchange` (every statement), `range` (pieces of the primary key), `cover` (partitions for what is there),
//! `copy`, `verify`, `swap`, `state`, `attempt` (a transaction with a short wait for locks), `rollout`.

mod attempt;
mod copy;
mod cover;
mod design;
mod exchange;
mod facts;
mod follow;
mod questions;
mod range;
pub mod rollout;
pub mod run;
pub mod standing;
mod state;
mod swap;
mod verify;

#[cfg(test)]
mod tests;

use crate::catalog::words::in_words;
use tokio_postgres::Error;

/// Why a table is not converted, or not yet. Nothing is lost: the next run goes on.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// It cannot be converted as it is. Nothing was changed.
    #[error("{table} cannot be converted:\n{}", .reasons.join("\n"))]
    Refused {
        /// The table.
        table: String,
        /// Every reason.
        reasons: Vec<String>,
    },
    /// Nobody let go of a lock.
    #[error("{doing}: no lock in {tries} tries; {holders}; run it again to go on")]
    Locked {
        /// What was being done.
        doing: &'static str,
        /// Tries.
        tries: u32,
        /// Who has been in a transaction for long.
        holders: String,
    },
    /// Old and new differ. Nothing was swapped.
    #[error(
        "{table} and its copy differ {place}: {what}; nothing is swapped, `--abort` takes the copy away"
    )]
    Differs {
        /// The table.
        table: String,
        /// Which primary keys.
        place: String,
        /// How.
        what: String,
    },
    /// The table is no longer what the new parent was made from.
    #[error(
        "{table} was changed while it was converted: {what}; `--abort` takes the copy away, then it can be begun anew"
    )]
    Changed {
        /// The table.
        table: String,
        /// What.
        what: String,
    },
    /// Another runner has taken over.
    #[error("another runner has taken over; this one stops")]
    Fenced,
    /// The lease is lost.
    #[error("the lease is lost; this runner stops; run it again to go on")]
    Lost,
    /// PostgreSQL refused a statement, or is gone.
    #[error("{doing}: {why}")]
    Server {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        why: String,
    },
}

fn server(doing: &'static str) -> impl Fn(Error) -> ConvertError {
    move |error| ConvertError::Server {
        doing,
        why: in_words(&error),
    }
}
