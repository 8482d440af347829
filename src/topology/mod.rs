//! Who holds what: an immutable snapshot of keyspaces, shards, bucket maps and table schemas.
//!
//! In: the checked configuration, the catalog's bucket maps, the shards' schemas. Out: a [`Topology`] behind an
//! `Arc`, replaced as a whole. A statement takes one snapshot and keeps it. This room does no I/O.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Buckets in every keyspace's map.
pub const BUCKETS: usize = 16_384;

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

/// Where a server is and how the control plane logs in.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dsn {
    /// Host name, address, or a directory (leading `/`) of a unix socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database name.
    pub database: String,
    /// The control plane's role.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// TLS towards this server.
    pub tls: ServerTls,
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Without user and password.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// TLS towards a server, as libpq's sslmode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ServerTls {
    /// Never.
    Disable,
    /// If the server offers it, unverified.
    #[default]
    Prefer,
    /// Must, unverified.
    Require,
    /// Must, chain verified.
    VerifyCa,
    /// Must, chain and host name verified.
    VerifyFull,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
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

/// How a key becomes a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyHash {
    /// xxh3-64 of the canonical bytes, mod 16,384.
    Xxh3,
    /// PostgreSQL's `PARTITION BY HASH` with this modulus; bucket = remainder.
    Postgres {
        /// The modulus, at most [`BUCKETS`].
        modulus: u16,
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
}

/// A table's name with its schema, folded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// `public` by default.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == "public" {
            f.write_str(&self.name)
        } else {
            write!(f, "{}.{}", self.schema, self.name)
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

/// Types whose equality is equality of canonical bytes, grouped by those bytes (DESIGN §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// int2, int4, int8
    Int,
    /// text, varchar
    Text,
    /// char(n)
    Bpchar,
    /// uuid
    Uuid,
    /// bool
    Bool,
    /// date
    Date,
    /// timestamp
    Timestamp,
    /// timestamptz
    TimestampTz,
    /// bytea
    Bytea,
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

/// What the configuration says a function does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionDeclaration {
    /// Touches nothing but its arguments and the rows on its own shard that the statement is pinned to.
    PerShard,
    /// Reads and writes these tables.
    Touches {
        /// Tables read.
        reads: Vec<TableName>,
        /// Tables written.
        writes: Vec<TableName>,
    },
}
