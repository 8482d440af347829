//! Who holds what: an immutable snapshot of keyspaces, shards, bucket maps and table schemas.
//!
//! In: the checked configuration, the catalog's bucket maps, the shards' schemas. Out: a [`Topology`] behind an
//! `Arc`, replaced as a whole. A statement takes one snapshot and keeps it. This room does no I/O.

pub mod build;
pub mod schema;

#[cfg(test)]
mod tests;

// Words that the configuration writes and the snapshot carries; topology is their home for the data path.
pub use crate::config::values::{
    BUCKETS, Dsn, FunctionDeclaration, KeyFamily, KeyHash, Secret, ServerTls, TableName,
};

use std::collections::HashMap;
use std::sync::Arc;

/// A shard's index in [`Topology::shards`]. Not stable over reloads: the stable id is [`Shard::stable_id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A keyspace's index in [`Topology::keyspaces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyspaceId(pub u16);

/// A slot that a key hashes to, below [`BUCKETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(pub u16);

/// The snapshot.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// Grows with every published change of configuration, map or schema; plans are keyed by it.
    pub epoch: u64,
    /// The catalog's own epoch when this was read; what this Keyway acknowledges to the others.
    pub catalog_epoch: u64,
    /// All shards.
    pub shards: Vec<Arc<Shard>>,
    /// All keyspaces.
    pub keyspaces: Vec<Arc<Keyspace>>,
    /// Databases by the name a client connects with.
    pub databases: HashMap<String, Arc<Database>>,
}

/// One PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Its name in the configuration.
    pub name: String,
    /// Its id in the catalog; never reused, at most 511 (sequence ranges are cut by it).
    pub stable_id: u16,
    /// The primary.
    pub primary: Dsn,
    /// The replicas (not read from yet).
    pub replicas: Vec<Dsn>,
}

/// A set of tables that live together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    /// Its name in the configuration.
    pub name: String,
    /// Its shards, in catalog order. One for an unsharded keyspace.
    pub shards: Vec<ShardId>,
    /// Sharded or not.
    pub kind: KeyspaceKind,
}

/// How a keyspace spreads its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyspaceKind {
    /// One shard holds it all.
    Unsharded,
    /// By bucket.
    Sharded {
        /// How a key becomes a bucket.
        hash: KeyHash,
        /// `BUCKETS` entries.
        map: Arc<[ShardId]>,
    },
}

/// What a client names in its connection string.
#[derive(Debug, Clone, Default)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its keyspaces, in configured order.
    pub keyspaces: Vec<KeyspaceId>,
    /// Where unlisted tables live.
    pub default: Option<KeyspaceId>,
    /// The shard for what belongs to no table (advisory locks, LISTEN/NOTIFY, system catalogs): the first shard of
    /// the default keyspace, else of the first.
    pub home: Option<ShardId>,
    /// Every configured table, and every table found on the shards of its unsharded keyspaces.
    pub tables: HashMap<TableName, Arc<Table>>,
    /// User-defined functions found on the shards or declared in `[functions]`, by name (overloads together).
    pub functions: HashMap<TableName, Vec<Arc<Function>>>,
    /// True once schemas were read from the shards; offline planning has none.
    pub schema_known: bool,
    /// The database's collation is C or POSIX on every shard, so text sorts by bytes.
    pub collation_is_c: bool,
    /// Tables that may not be used, with the reason (a DDL that committed on some shards only).
    pub refused: HashMap<TableName, String>,
    /// User types' OIDs on each shard against those on the home shard, which clients see; by [`ShardId`]. Empty when
    /// offline.
    pub types: Vec<Arc<TypeMap>>,
}

/// One shard's OIDs of user types (above 16383) against the home shard's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeMap {
    /// False while this shard's types have not been read (it was down): nothing is known about OIDs above 16383.
    pub known: bool,
    /// This shard's OID → the home shard's, where they differ. `None`: the home shard has no such type, and this
    /// number means another type there.
    pub to_home: HashMap<u32, Option<u32>>,
    /// The home shard's OID → this shard's, where they differ. `None`: this shard has no such type.
    pub from_home: HashMap<u32, Option<u32>>,
}

/// A table (or view, matview, foreign table, partition parent or child).
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Where it lives.
    pub keyspace: KeyspaceId,
    /// How.
    pub placement: Placement,
    /// Its columns in order; empty while the table has not been seen on a shard.
    pub columns: Vec<Column>,
    /// What it is: `r` table, `p` partitioned, `v` view, `m` matview, `f` foreign, as in pg_class.relkind.
    pub kind: char,
    /// Constraints declared harmless in the configuration: names or `col,col`.
    pub trust: Vec<String>,
    /// Why using it could go wrong although it exists (a trigger assigns the key …): such writes are refused.
    pub hazards: Vec<String>,
    /// For a view: its definition (`pg_get_viewdef`), so that its tables can be placed.
    pub view: Option<String>,
    /// The rows need row-level security.
    pub row_security: bool,
}

/// How a table is placed in its keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// Spread by its key columns.
    Sharded {
        /// The sharding key.
        key: Vec<KeyColumn>,
    },
    /// A full copy on every shard.
    Reference,
    /// On the one shard of an unsharded keyspace.
    Unsharded,
}

/// A sharding key's column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// The family of its type. `None` while neither schema nor configuration told.
    pub family: Option<KeyFamily>,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's OID on the catalog shard.
    pub type_oid: u32,
    /// The base type's OID when the type is a domain, else the same.
    pub base_oid: u32,
    /// The type as `format_type` prints it.
    pub type_name: String,
    /// NOT NULL.
    pub not_null: bool,
    /// The default expression as `pg_get_expr` prints it.
    pub default: Option<String>,
    /// GENERATED … AS IDENTITY: `a` or `d`; generated column: `s`.
    pub generated: Option<char>,
    /// Its values are unique over all shards by construction (uuid default, Keyway's sequence).
    pub unique_by_construction: bool,
    /// The column's collation is C, POSIX or ucs_basic (or the type has none, like int).
    pub collation_is_c: bool,
}

/// A user-defined function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: TableName,
    /// `i`, `s` or `v`, as pg_proc.provolatile.
    pub volatility: char,
    /// `f` function, `p` procedure, `a` aggregate, `w` window, as pg_proc.prokind.
    pub kind: char,
    /// Declared in `[functions]`.
    pub declared: Option<FunctionDeclaration>,
}
