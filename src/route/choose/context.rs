//! What a statement is planned in: the snapshot, the database, the search_path.

use crate::route::error::RouteError;
use crate::route::plan::ShardSet;
use crate::statement::scan::Verb;
use crate::topology::{Database, KeyspaceId, KeyspaceKind, ShardId, Topology};
use std::sync::Arc;

/// What a statement is planned in.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The snapshot.
    pub topology: &'a Arc<Topology>,
    /// The client's database.
    pub database: &'a Arc<Database>,
    /// The session's search_path, `"$user"` already replaced or left out.
    pub search_path: &'a [String],
    /// The statement's verb.
    pub verb: Verb,
    /// The shape text that the tree's spans point into.
    pub shape: &'a str,
}

impl Context<'_> {
    /// Its rows are on more than one shard, or may come to be.
    pub(crate) fn is_spread(&self, keyspace: KeyspaceId) -> bool {
        self.topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .is_none_or(|keyspace| match keyspace.kind {
                KeyspaceKind::Sharded { .. } => true,
                KeyspaceKind::Unsharded => keyspace.shards.len() != 1,
            })
    }

    /// All shards of a keyspace.
    pub(crate) fn shards(&self, keyspace: KeyspaceId) -> ShardSet {
        let keyspace = self.topology.keyspaces.get(usize::from(keyspace.0));
        keyspace
            .map(|keyspace| keyspace.shards.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The shards that own buckets; a shard that joined without any has no rows yet.
    pub(crate) fn holders(&self, keyspace: KeyspaceId) -> ShardSet {
        match self
            .topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .map(|keyspace| &keyspace.kind)
        {
            Some(KeyspaceKind::Sharded { map, .. }) => map.iter().copied().collect(),
            _ => self.shards(keyspace),
        }
    }

    /// The only shard of the whole database.
    pub(crate) fn only_shard(&self) -> Option<ShardId> {
        self.all_shards().only()
    }

    /// Every shard of the database.
    pub(crate) fn all_shards(&self) -> ShardSet {
        let mut all = ShardSet::new();
        for keyspace in &self.database.keyspaces {
            all.union_with(&self.shards(*keyspace));
        }
        all
    }

    /// A keyspace's name.
    pub(crate) fn keyspace_name(&self, keyspace: KeyspaceId) -> &str {
        self.topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .map_or("?", |keyspace| keyspace.name.as_str())
    }

    /// The default keyspace, or the only one.
    pub(crate) fn default_keyspace(&self) -> Option<KeyspaceId> {
        self.database
            .default
            .or(match self.database.keyspaces.as_slice() {
                [only] => Some(*only),
                _ => None,
            })
    }

    pub(super) fn home(&self) -> Result<ShardId, RouteError> {
        self.database.home.ok_or(RouteError::NoShard)
    }
}
