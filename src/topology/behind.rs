//! Shards that lack a version their keyspace requires: nothing is sent to them.

use crate::config::Config;
use crate::topology::build::Assignments;
use crate::topology::{Shard, ShardId};
use std::collections::HashMap;
use std::sync::Arc;

/// A version that all shards of a keyspace have had at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// The keyspace.
    pub keyspace: String,
    /// The version.
    pub version: String,
    /// Only these shards must have it; `None`: all.
    pub shards: Option<Vec<String>>,
}

/// What each shard that is behind lacks, as a sentence. A shard that was never read is behind as soon as anything is required of it; one
/// that cannot be read now has what it had: it is read again as soon as it answers.
pub(super) fn behind(
    config: &Config,
    assignments: &Assignments,
    shards: &[Arc<Shard>],
) -> HashMap<ShardId, String> {
    let mut behind = HashMap::new();
    for (id, shard) in (0..).map(ShardId).zip(shards) {
        let concerns = |required: &&Required| {
            let keyspace = config.keyspaces.get(&required.keyspace);
            let only = required.shards.as_ref();
            keyspace.is_some_and(|keyspace| keyspace.shards.contains(&shard.name))
                && only.is_none_or(|only| only.contains(&shard.name))
        };
        let required: Vec<&Required> = assignments.required.iter().filter(concerns).collect();
        let Some(first) = required.first() else {
            continue;
        };
        let Some(history) = assignments.histories.get(&shard.stable_id) else {
            let what = format!(
                "Its history of migrations, of which keyspace {} requires some, is not known yet.",
                first.keyspace
            );
            behind.insert(id, what);
            continue;
        };
        let lacks = |required: &&&Required| {
            !history.iter().any(|(keyspace, version)| {
                *keyspace == required.keyspace && *version == required.version
            })
        };
        if let Some(lacking) = required.iter().find(lacks) {
            let what = format!(
                "It lacks version {} of keyspace {}, which all shards have had.",
                lacking.version, lacking.keyspace
            );
            behind.insert(id, what);
        }
    }
    behind
}
