//! A snapshot's content as one number: the same on every Keyway that routes by the same configuration, maps and schemas.

use crate::config::Config;
use crate::topology::ShardId;
use crate::topology::build::{Assignments, Schemas};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use xxhash_rust::xxh3::xxh3_128;

/// Of what a snapshot is made of. Another epoch alone is no other content.
#[must_use]
pub(super) fn digest(
    config: &Config,
    assignments: &Assignments,
    schemas: &Schemas,
    behind: &HashMap<ShardId, String>,
) -> u128 {
    let behind: BTreeMap<&ShardId, &String> = behind.iter().collect();
    let fingerprints: BTreeMap<u16, &str> = schemas
        .iter()
        .map(|(shard, schema)| (*shard, schema.fingerprint.as_str()))
        .collect();
    let shards: BTreeMap<&str, String> = config
        .shards
        .iter()
        .map(|(name, shard)| {
            let primary = &shard.primary;
            (name.as_str(), format!("{}@{primary}", primary.user))
        })
        .collect();
    let Assignments {
        epoch: _,
        shard_ids,
        maps,
        refused,
        flushed: _,
        required: _,
        histories: _,
    } = assignments;
    let mut text = String::new();
    // Ordered maps all of them, so that the text is the same everywhere. Writing to a string does not fail.
    let _ = write!(
        text,
        "{shards:?}{:?}{:?}{:?}{shard_ids:?}{maps:?}{refused:?}{fingerprints:?}{behind:?}",
        config.databases, config.keyspaces, config.functions
    );
    xxh3_128(text.as_bytes())
}
