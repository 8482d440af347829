//! Who holds what: an immutable snapshot of keyspaces, shards, bucket maps and table schemas.
//!
//! In: the checked configuration, the catalog's bucket maps, the shards' schemas. Out: a [`Topology`] behind an
//! `Arc`, replaced as a whole. A statement takes one snapshot and keeps it. This room does no I/O.

pub mod behind;
pub mod build;
mod digest;
pub(crate) mod ranges;
pub mod reach;
pub mod schema;

#[cfg(test)]
mod tests;

// Words that the configuration writes and the snapshot carries; topology is their home for the data path.
pub use crate::config::values::{
    BUCKETS, Dsn, FunctionDeclaration, KeyFamily, KeyHash, Secret, ServerTls, TableName,
};

use crate::topology::reach::{Family, TableReach};
use std::collections::{BTreeMap, HashMap};
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
    /// What it says, as one number; an epoch may be new without saying anything new.
    pub digest: u128,
    /// How often kept answers were dropped by somebody's wish: all, and those of tables.
    pub flushed: BTreeMap<Option<TableName>, i64>,
    /// The catalog's own epoch when this was read; what this Keyway acknowledges to the others.
    pub catalog_epoch: u64,
    /// Shards that nothing may be sent to, and why: they lack a migration that their keyspace requires.
    pub behind: HashMap<ShardId, String>,
    /// All shards.
    pub shards: Vec<Arc<Shard>>,
    /// All keyspaces.
    pub keyspaces: Vec<Arc<Keyspace>>,
    /// Databases by the name a client connects with.
    pub databases: HashMap<String, Arc<Database>>,
    /// By [`KeyspaceId`]: the families of all relations found on its shards.
    pub families: Vec<HashMap<TableName, Family>>,
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
    /// Functions that run without being named.
    pub implied: ImpliedCalls,
    /// A shard has event triggers, or nobody knows: a change of the schema may do anything.
    pub event_triggers: bool,
    /// Indexes and sequences found on the shards, and the keyspaces that have one of the name.
    pub attached: HashMap<TableName, Vec<KeyspaceId>>,
    /// True once schemas were read from the shards; offline planning has none.
    pub schema_known: bool,
    /// The database's collation is C or POSIX on every shard, so text sorts by bytes.
    pub collation_is_c: bool,
    /// Tables that may not be used, with the reason (a DDL that committed on some shards only).
    pub refused: HashMap<TableName, String>,
    /// By [`ShardId`]: user types' OIDs on that shard against those on the home shard, which clients see. See
    /// [`Database::oid_map`].
    pub oid_maps: Vec<Option<Arc<OidMap>>>,
}

impl Database {
    /// How `shard` numbers user types; `None` when just as the home shard does, or when nothing is known of any shard
    /// (offline).
    #[must_use]
    pub fn oid_map(&self, shard: ShardId) -> Option<&Arc<OidMap>> {
        self.oid_maps.get(usize::from(shard.0))?.as_ref()
    }
}

/// OIDs below this are PostgreSQL's own and the same on every server.
pub const FIRST_USER_OID: u32 = 16_384;

/// PostgreSQL's type `unknown`: what a type that the home shard does not have shows as.
const UNKNOWN_OID: u32 = 705;

/// One shard's user type OIDs and the home shard's, both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OidMap {
    to_client: HashMap<u32, u32>,
    to_server: HashMap<u32, u32>,
}

impl OidMap {
    /// From the types of the home shard and of another, by name. `None` when all are the same and nothing needs
    /// mapping.
    #[must_use]
    pub fn between(home: &[(String, u32)], here: &[(String, u32)]) -> Option<Self> {
        let at_home: HashMap<&str, u32> = home
            .iter()
            .map(|(name, oid)| (name.as_str(), *oid))
            .collect();
        let mut map = Self::default();
        let mut same = home.len() == here.len();
        for (name, server) in here {
            match at_home.get(name.as_str()) {
                Some(client) => {
                    same &= client == server;
                    map.to_client.insert(*server, *client);
                    map.to_server.insert(*client, *server);
                }
                None => same = false,
            }
        }
        (!same).then_some(map)
    }

    /// What a client knows this server's OID as. A type the home shard does not have shows as unknown (705).
    #[must_use]
    pub fn client(&self, server: u32) -> u32 {
        if server < FIRST_USER_OID {
            server
        } else {
            self.to_client.get(&server).copied().unwrap_or(UNKNOWN_OID)
        }
    }

    /// What this server knows the client's OID as; `None` when it has no such type.
    #[must_use]
    pub fn server(&self, client: u32) -> Option<u32> {
        if client < FIRST_USER_OID {
            Some(client)
        } else {
            self.to_server.get(&client).copied()
        }
    }
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
    /// Why its row-level security could show or hide other rows than on one PostgreSQL: reads and writes are refused.
    pub policy_hazards: Vec<String>,
    /// Its constraints (and its partitions' and children's) that no shard can check alone.
    pub shared: Vec<SharedConstraint>,
    /// What its writes reach, for the result cache.
    pub reach: TableReach,
}

/// A unique or exclusion constraint of a sharded table that does not contain the sharding key and is not trusted: equal
/// values may be on two shards, each of which sees its own rows only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedConstraint {
    /// Its name.
    pub name: String,
    /// What people know it by: `PRIMARY KEY (id)`.
    pub shown: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// It has expressions besides the columns, so any column may be part of it.
    pub expressions: bool,
    /// The column whose default is unique over all shards: as long as nobody gives it another value, rows are too.
    pub generated: Option<String>,
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
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the system catalogs say, each on its own"
)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type's OID on the catalog shard.
    pub type_oid: u32,
    /// The base type's OID when the type is a domain, else the same.
    pub base_oid: u32,
    /// The type as `format_type` prints it.
    pub type_name: String,
    /// The base type with its length or precision, when it is a domain; else as `type_name`.
    pub stored_as: String,
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
    /// Its values are equal only when their bytes are: its collation is deterministic (or the type has none).
    pub deterministic: bool,
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

/// Functions that are not IMMUTABLE and run without being named in a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImpliedCalls {
    /// By the operators they are behind.
    pub operators: HashMap<String, Vec<TableName>>,
    /// By the bare names of the types whose casts or domain's defaults and CHECKs run them.
    pub types: HashMap<String, Vec<ImpliedCall>>,
}

/// A function behind a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImpliedCall {
    /// The function.
    pub function: TableName,
    /// When it runs.
    pub by: ImpliedBy,
}

/// What makes a type's function run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImpliedBy {
    /// The type's name in the statement.
    Name,
    /// Its name, or a column of the type: the cast needs not be written.
    Column,
    /// Its name in a cast: it is a table's row type, and the name alone is the table's.
    Cast,
}
