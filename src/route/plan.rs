//! The room's type: where a statement goes and how the replies become one.
//!
//! A [`Recipe`] is made once per shape (fingerprint, database, search_path, epoch) and cached; a [`Plan`] is the recipe
//! with one execution's literals and parameters filled in. A plan is pieces (which shards, which text) and a finish.

use crate::route::keep::{NotKept, Reads, Spoils, Touches};
use crate::topology::{ShardId, TableName};
use smallvec::SmallVec;
use std::sync::Arc;

/// Some shards, as a bit set over [`ShardId`], in shard order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardSet(SmallVec<[u64; 2]>);

impl ShardSet {
    /// No shard.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: ShardId) {
        let word = usize::from(shard.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (shard.0 % 64);
    }

    /// Is it in?
    #[must_use]
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0
            .get(usize::from(shard.0) / 64)
            .is_some_and(|w| w & (1 << (shard.0 % 64)) != 0)
    }

    /// What both hold.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut words: SmallVec<[u64; 2]> =
            self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect();
        while words.last() == Some(&0) {
            words.pop();
        }
        Self(words)
    }

    /// Adds all of `other`.
    pub fn union_with(&mut self, other: &Self) {
        for shard in other.iter() {
            self.insert(shard);
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// None at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// In shard order.
    pub fn iter(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                // Takes the lowest bit away.
                rest &= rest.checked_sub(1)?;
                Some(shard_at(index, bit))
            })
        })
    }

    /// The only one, if there is exactly one.
    #[must_use]
    pub fn only(&self) -> Option<ShardId> {
        let mut words = self.0.iter().enumerate().filter(|(_, word)| **word != 0);
        let (index, word) = words.next()?;
        (word.is_power_of_two() && words.next().is_none())
            .then(|| shard_at(index, word.trailing_zeros()))
    }
}

/// The shard of a bit. Sets are made from [`ShardId`]s, so every index fits.
fn shard_at(word: usize, bit: u32) -> ShardId {
    ShardId(u16::try_from(word * 64 + bit as usize).unwrap_or(u16::MAX))
}

impl FromIterator<ShardId> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardId>>(shards: I) -> Self {
        let mut set = Self::new();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

/// The kinds of plan, as metrics, `EXPLAIN (ROUTE)` and errors name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlanKind {
    /// One shard.
    Single,
    /// Any one of some shards.
    Any,
    /// Several shards, replies merged as they stream.
    Scatter,
    /// The same change on all shards of a keyspace.
    Broadcast,
}

/// What a statement does to data, as far as transactions and caches must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads only; may run on several shards without cross-shard commit.
    Read,
    /// Takes row or table locks but changes nothing (SELECT FOR UPDATE, LOCK).
    Lock,
    /// Changes rows, or calls something that may.
    Write,
    /// Changes the schema.
    Schema,
    /// Sees to tables without changing what is in them: VACUUM, ANALYZE, REINDEX, CLUSTER.
    Upkeep,
}

impl Access {
    /// Each shard does it for itself, and may do it as often as it is asked.
    #[must_use]
    pub fn is_of_each_shard(self) -> bool {
        matches!(self, Self::Schema | Self::Upkeep)
    }
}

/// Why a session must keep its server after the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pin {
    /// Temporary tables.
    TemporaryTable,
    /// LISTEN.
    Listen,
    /// DECLARE … WITH HOLD.
    HoldCursor,
    /// Session-level advisory locks.
    AdvisoryLock,
    /// DO, CALL and volatile functions that may SET or create session state.
    Opaque,
    /// currval, lastval: what the session has taken of a sequence.
    SequenceValue,
    /// setseed: belongs to the session.
    SessionFunction,
}

/// One execution's plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What kind.
    pub kind: PlanKind,
    /// The shards it needs; for [`PlanKind::Any`] those it may choose from.
    pub shards: ShardSet,
    /// What it does.
    pub access: Access,
    /// Per-shard text when it is not the client's own. The same for all shards of a scatter.
    pub text: Option<String>,
    /// How several replies become one; only for a scatter.
    pub finish: Option<std::sync::Arc<crate::route::merge::Finish>>,
    /// The finish's OFFSET and LIMIT with this execution's values.
    pub window: crate::route::merge::Window,
    /// What to run on each shard after the statement, in the same transaction (sequence ranges after CREATE TABLE).
    pub after: Vec<(ShardId, String)>,
    /// Keep the server.
    pub pin: Option<Pin>,
    /// All the tables that it drops, empties or the like are temporary ones of the session's, for all that is known.
    pub of_temporaries: bool,
    /// The statement may not run in a transaction block (VACUUM, CREATE INDEX CONCURRENTLY).
    pub outside_transaction: bool,
    /// The tables it touches, for refusals, metrics and caches.
    pub tables: std::sync::Arc<[TableName]>,
    /// The epoch it was planned by.
    pub epoch: u64,
    /// What it changes, for the result cache; what nobody has worked out is everything.
    pub spoils: Spoils,
    /// What its answer is made of, or why it is not kept.
    pub keeps: Result<Keep, NotKept>,
}

/// What the answer of one execution is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// The tables.
    pub reads: Arc<Reads>,
    /// The rows of them that matter.
    pub touches: Touches,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        for shards in [
            vec![],
            vec![0],
            vec![63],
            vec![64],
            vec![3, 64, 511],
            vec![0, 1, 2],
        ] {
            let set: ShardSet = shards.iter().map(|n| ShardId(*n)).collect();
            assert_eq!(set.iter().map(|s| s.0).collect::<Vec<_>>(), shards);
            let only = if let [one] = shards.as_slice() {
                Some(ShardId(*one))
            } else {
                None
            };
            assert_eq!(set.only(), only);
            assert_eq!(set.len(), shards.len());
        }
    }
}
