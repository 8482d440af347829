//! What the user wrote, checked: [`load`] reads defaults, file and environment, and returns a [`Config`] in which
//! every name resolves and every value is in its type, or every [`Problem`] at once.
//!
//! In: a TOML file and `KEYWAY__…` variables (`KEYWAY__POOL__SIZE=30` is `pool.size`). Out: [`Config`]. This room
//! knows no server and asks none; what only a server can tell is for `catalog`.
//! Reading order: `defaults.toml` (every key), `check` (the rules), `section` (the walk), `dsn`, `values`.

mod check;
mod dsn;
pub mod partition_files;
pub mod partitions;
mod section;
pub mod values;

#[cfg(test)]
mod tests;

pub use section::Problem;
pub(crate) use section::parse_time;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use section::Notes;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::{Dsn, FunctionDeclaration, KeyHash, Secret, TableName};

/// The variables a configuration may name (`env:NAME`) or be overridden by (`KEYWAY__…`).
pub type Variables = HashMap<String, String>;

/// A configuration that can work, as far as it can be told without asking a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where PostgreSQL clients connect.
    pub listen: SocketAddr,
    /// Health and metrics; `None` when off.
    pub http: Option<SocketAddr>,
    /// Worker threads; `None` is one per core.
    pub workers: Option<usize>,
    /// Certificate authorities for verified servers, instead of the system's.
    pub server_ca: Option<PathBuf>,
    /// The directory of the keyspaces' migrations.
    pub migrations: PathBuf,
    /// The shard with the catalog's authority, if the file says.
    pub catalog: Option<String>,
    /// Who may connect, by name.
    pub users: BTreeMap<String, User>,
    /// TLS towards clients.
    pub tls: ClientTls,
    /// How clients prove who they are.
    pub auth: AuthMethod,
    /// Shards by name.
    pub shards: BTreeMap<String, ShardConfig>,
    /// Databases by name.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// Keyspaces by name.
    pub keyspaces: BTreeMap<String, KeyspaceConfig>,
    /// What user functions do, by name.
    pub functions: BTreeMap<TableName, FunctionDeclaration>,
    /// How often declared partitions are looked after; `None`: never.
    pub partitions_every: Option<Duration>,
    /// Server connections.
    pub pool: PoolConfig,
    /// Bounds.
    pub limits: Limits,
    /// The result cache.
    pub cache: CacheConfig,
    /// Logging.
    pub log: LogConfig,
}

/// The longest that an answer may be given.
pub const CACHE_TTL_MAX: Duration = Duration::from_secs(86_400);

/// The result cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Answers are kept.
    pub enabled: bool,
    /// How long an answer may be given.
    pub ttl: Duration,
    /// Bytes for all answers.
    pub size: usize,
    /// Bytes that one may take.
    pub entry_max: usize,
    /// Changes that do not pass Keyway are heard of from the shards themselves.
    pub follow: bool,
    /// How long a statement waits for the answer that another session has asked for.
    pub wait: Duration,
    /// When this many hundredths of its time are over, an answer that is given often is asked for again; 100 is never.
    pub soft_ttl_percent: u32,
    /// What is different for answers made of a table.
    pub tables: BTreeMap<TableName, TableCache>,
    /// How versions are shared with other Keyways; `None`: not at all.
    pub redis: Option<RedisConfig>,
    /// What becomes of a write that other Keyways cannot be told of, when they must be.
    pub on_loss: OnLoss,
    /// How many of the questions asked most often are noted, and asked at the start and when answers were dropped.
    pub keep_popular: usize,
    /// Questions that are asked at the start, when answers were dropped, and when it is time.
    pub warmup: BTreeMap<String, Warmup>,
}

/// What a read that begins after another Keyway's write may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The write, always.
    Strict,
    /// The write, once this Keyway has heard of it.
    Bounded,
}

/// Where several Keyways share versions and answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// `redis://`, `rediss://` or `unix:`; several are nodes of one cluster. They may carry passwords.
    pub urls: Vec<Secret>,
    /// All Keyways of the same name share.
    pub deployment: String,
    /// Who does not know it cannot make an answer that is given.
    pub secret: Secret,
    /// What a read that begins after another Keyway's write may see.
    pub consistency: Consistency,
    /// Answers are shared too, not only their versions.
    pub answers: bool,
    /// How long Redis may take to answer anything.
    pub timeout: Duration,
    /// How long a write's mark outlives its Keyway. The same on all of them.
    pub lease: Duration,
}

/// What becomes of a write that other Keyways cannot be told of, when they must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// It is refused.
    #[default]
    Refuse,
    /// It is done; they may give old answers until they hear of it, or until `ttl`.
    Degrade,
}

/// A question that is asked before a client asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warmup {
    /// The statement.
    pub sql: String,
    /// Its parameters, as text; `None`: it is asked by the simple protocol.
    pub params: Option<Vec<String>>,
    /// The client's database.
    pub database: String,
    /// The client's user.
    pub user: String,
    /// The client's settings.
    pub settings: BTreeMap<String, String>,
    /// When it is asked besides, as cron writes it, in UTC.
    pub schedule: Option<String>,
}

/// What is different for answers made of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCache {
    /// They are kept.
    pub enabled: bool,
    /// How long they may be given, if it is shorter than `cache.ttl`.
    pub ttl: Option<Duration>,
    /// What becomes of them when the table is written.
    pub on_write: OnWrite,
    /// How long after it was last known to be true an answer is given when its shard cannot be reached.
    pub stale_if_error: Option<Duration>,
}

/// What becomes of an answer when what it is made of is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnWrite {
    /// It is void.
    #[default]
    Drop,
    /// It is void, and asked for again at once.
    Refresh,
}

impl Config {
    /// Keys that differ between `self` and `new` but are read only at the start: a reload leaves them as they are.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let pool = PoolConfig {
            // A session asks for it when it begins.
            mode: new.pool.mode,
            ..self.pool.clone()
        };
        let keys = [
            ("listen", self.listen != new.listen),
            ("http", self.http != new.http),
            ("workers", self.workers != new.workers),
            ("server_ca", self.server_ca != new.server_ca),
            ("pool", pool != new.pool),
            (
                "limits.plan_cache_max",
                self.limits.plan_cache_max != new.limits.plan_cache_max,
            ),
            ("cache.enabled", self.cache.enabled != new.cache.enabled),
            ("cache.follow", self.cache.follow != new.cache.follow),
            ("cache.size", self.cache.size != new.cache.size),
            ("cache.redis", self.cache.redis != new.cache.redis),
            (
                "cache.entry_max",
                self.cache.entry_max != new.cache.entry_max,
            ),
            ("log", self.log != new.log),
        ];
        keys.into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| key)
            .collect()
    }
}

/// One `[users.NAME]`.
#[derive(Debug, Clone)]
pub struct User {
    /// What the client must prove to know.
    pub password: Password,
    /// The role its statements run as on the shards; `None` is the shard DSN's user.
    pub server_user: Option<String>,
    /// That role's password on the shards.
    pub server_password: Option<Secret>,
    /// The databases it may connect to; `None` is all.
    pub databases: Option<Vec<String>>,
}

/// What a client must prove to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Nothing: only under `trust`.
    None,
    /// The password itself.
    Plain(Secret),
    /// A verifier as PostgreSQL stores it.
    Scram(ScramVerifier),
    /// `md5` and 32 hex digits, as PostgreSQL stores it.
    Md5(Secret),
}

/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, decoded.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramVerifier {
    /// Iterations.
    pub iterations: u32,
    /// Salt.
    pub salt: Vec<u8>,
    /// H(client key).
    pub stored_key: [u8; 32],
    /// Server key.
    pub server_key: [u8; 32],
}

impl ScramVerifier {
    /// Reads a verifier as PostgreSQL keeps it (`pg_authid.rolpassword`).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
        let iterations = iterations.parse().ok();
        let salt = decode(salt).filter(|salt| !salt.is_empty() && salt.len() <= 1024)?;
        Some(Self {
            iterations: iterations.filter(|n| (1..=10_000_000).contains(n))?,
            salt,
            stored_key: decode(stored_key)?.try_into().ok()?,
            server_key: decode(server_key)?.try_into().ok()?,
        })
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SCRAM-SHA-256$***")
    }
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientTls {
    /// None.
    Off,
    /// If the client asks.
    Allow(Certificate),
    /// Always; a client without is refused.
    Require(Certificate),
}

/// PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256.
    Scram,
    /// md5.
    Md5,
    /// Not at all; loopback only.
    Trust,
}

/// One `[shards.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// Its primary.
    pub primary: Dsn,
    /// Its replicas.
    pub replicas: Vec<Dsn>,
}

/// One `[databases.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Its keyspaces, in the order written.
    pub keyspaces: Vec<String>,
    /// Where unlisted tables live; the only keyspace when there is only one.
    pub default: Option<String>,
}

/// One `[keyspaces.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceConfig {
    /// Its shards, in the order written.
    pub shards: Vec<String>,
    /// The hash of a sharded keyspace; `None` for an unsharded one.
    pub hash: Option<KeyHash>,
    /// Its listed tables.
    pub tables: BTreeMap<TableName, TableConfig>,
    /// Its tables that Keyway keeps partitions for.
    pub partitions: partitions::Declared,
}

/// One table of a keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// How its rows are placed.
    pub placement: TablePlacement,
    /// Constraints declared harmless: names or `col,col`.
    pub trust: Vec<String>,
}

/// How a listed table's rows are placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablePlacement {
    /// By these columns; the types, if written, one for each.
    Key {
        /// The columns, folded.
        columns: Vec<String>,
        /// Their types, when written.
        types: Option<Vec<values::KeyFamily>>,
    },
    /// A copy on every shard.
    Reference,
    /// On the keyspace's one shard.
    Whole,
}

/// `[pool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// When a server is given back.
    pub mode: PoolMode,
    /// Connections per server and role, over all workers.
    pub size: usize,
    /// Of those, kept open when idle.
    pub minimum: usize,
    /// Oldest age; `None` is no bound.
    pub lifetime: Option<Duration>,
    /// Longest idleness; `None` is no bound.
    pub idle_timeout: Option<Duration>,
    /// Longest time to connect and log in.
    pub connect_timeout: Duration,
    /// Longest wait for a free connection.
    pub checkout_timeout: Duration,
    /// Prepared statements on one connection.
    pub prepared_max: usize,
    /// TCP keepalive's idle time.
    pub tcp_keepalive: Option<Duration>,
    /// TCP_USER_TIMEOUT.
    pub tcp_user_timeout: Option<Duration>,
}

/// When a server is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// At the end of a transaction.
    Transaction,
    /// When the client leaves.
    Session,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From accept to a finished login.
    pub client_login_timeout: Duration,
    /// Clients over all workers.
    pub clients_max: usize,
    /// The longest message from a client, in bytes.
    pub message_max: usize,
    /// Plan recipes per worker.
    pub plan_cache_max: usize,
    /// Prepared statements per client.
    pub prepared_max: usize,
    /// Groups or distinct rows in one merge.
    pub groups_max: usize,
    /// Bytes held by one merge.
    pub merge_memory_max: usize,
    /// How long a stop waits for open transactions.
    pub drain_timeout: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// A level or a tracing filter.
    pub level: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For machines.
    Json,
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// One problem with the whole.
    #[must_use]
    pub fn one(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self(vec![Problem {
            key: key.into(),
            what: what.into(),
        }])
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

/// One line each.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads the defaults, then the file, then the environment.
///
/// # Errors
/// All problems, if there is any.
pub fn load(file: Option<&Path>, env: &Variables) -> Result<Config, Problems> {
    let text = match file {
        Some(path) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| Problems::one("", format!("read {}: {error}", path.display())))?,
        ),
        None => None,
    };
    parse(text.as_deref().unwrap_or_default(), env).map_err(|problems| match file {
        Some(path) => problems.in_file(path),
        None => problems,
    })
}

/// As [`load`], from a text.
///
/// # Errors
/// All problems, if there is any.
pub fn parse(text: &str, env: &Variables) -> Result<Config, Problems> {
    let layer = |text: &str| ::config::File::from_str(text, ::config::FileFormat::Toml);
    let variables = ::config::Environment::with_prefix("KEYWAY")
        .prefix_separator("__")
        .separator("__")
        .source(Some(env.clone().into_iter().collect()));
    let written: serde_json::Value = ::config::Config::builder()
        .add_source(layer(include_str!("defaults.toml")))
        .add_source(layer(text))
        .add_source(variables)
        .build()
        .and_then(::config::Config::try_deserialize)
        .map_err(|error| Problems::one("", without_snippet(&error)))?;
    let notes = Notes::default();
    let config = check::check(&written, env, &notes);
    Problems::none_or(notes, config)
}

impl Problems {
    /// What was read, unless something was noted.
    fn none_or<T>(notes: Notes, read: T) -> Result<T, Self> {
        let problems = notes.into_inner();
        if problems.is_empty() {
            Ok(read)
        } else {
            Err(Self(problems))
        }
    }

    fn in_file(mut self, path: &Path) -> Self {
        for problem in &mut self.0 {
            if problem.key.is_empty() {
                problem.key = path.display().to_string();
            }
        }
        self
    }
}

/// A TOML error without the quoted line, which may hold a password.
fn without_snippet(error: &::config::ConfigError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            let bare = line
                .trim_start()
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .trim_start();
            !bare.starts_with('|') && !bare.is_empty()
        })
        .collect();
    lines.join(", ")
}
