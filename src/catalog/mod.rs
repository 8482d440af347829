//! What Keyway keeps on the shards: who each shard is, which bucket is where, what is refused; and the shards' schemas.
//!
//! In: the configuration. Out: [`Topology`] snapshots, and [`Event`]s that say when to take a new one. This room
//! answers no client and is on no statement's way. It speaks to the shards' primaries as the DSN's user.
//! Reading order: `schema.sql`, `agree` (configuration and catalog), `read` (a shard's schema), `watch`, `check`.

mod agree;
pub mod check;
pub mod lease;
pub mod popular;
mod read;
pub mod servers;
mod watch;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub use watch::Event;

pub(crate) use agree::quote;

use crate::catalog::lease::Job;
use crate::config::Config;
use crate::topology::behind::Required;
use crate::topology::build::{Assignments, BuildError, Schemas, build};
use crate::topology::schema::Schema;
use crate::topology::{TableName, Topology};
use agree::{Agreed, Intent, agree};
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use servers::Servers;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Readings of one schema while it is being changed.
const READ_TRIES_MAX: u32 = 5;

/// Raises the epoch and notifies every Keyway.
const RAISE_EPOCH: &str = "
    WITH raised AS (UPDATE keyway.settings SET value = value + 1 WHERE name = 'epoch' RETURNING value)
    SELECT pg_catalog.pg_notify('keyway_epoch', value::text) FROM raised";

/// A configuration that says other than the catalog or a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The key's path in the configuration.
    pub key: String,
    /// Both values.
    pub what: String,
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// The catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A server does not answer.
    #[error("connect to shard {shard} ({server}): {why}")]
    Unreachable {
        /// The shard.
        shard: String,
        /// Its primary.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// A statement failed.
    #[error("{doing} on shard {shard} ({server}): {why}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// The shard.
        shard: String,
        /// Its primary.
        server: String,
        /// PostgreSQL's answer.
        why: String,
    },
    /// The shard that holds the catalog does not answer.
    #[error("the catalog is on shard {shard}, which does not answer")]
    NoCatalog {
        /// The shard.
        shard: String,
        /// Why.
        source: Option<Box<CatalogError>>,
    },
    /// A catalog is created only when every shard answers, since a silent one might have it.
    #[error(
        "no shard that answers has a catalog; one is created only when all answer, and shard {shard} does not"
    )]
    CreateWithoutAll {
        /// The shard.
        shard: String,
        /// Why.
        source: Box<CatalogError>,
    },
    /// The configuration says other than the catalog.
    #[error("the configuration contradicts the catalog:\n{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Contradicts(Vec<Contradiction>),
    /// The catalog was made by another version of Keyway.
    #[error("the catalog has version {found}, this Keyway knows version {known}")]
    Version {
        /// Found.
        found: i64,
        /// Known.
        known: i64,
    },
    /// Certificates for verified servers cannot be used.
    #[error("set up TLS towards the servers: {what}")]
    Tls {
        /// What went wrong.
        what: String,
    },
    /// Configuration and assignments do not fit.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A name that no shard has.
    #[error("there is no shard {shard:?}")]
    NoShard {
        /// The name.
        shard: String,
    },
}

impl CatalogError {
    fn one(key: String, what: String) -> Self {
        Self::Contradicts(vec![Contradiction { key, what }])
    }

    /// Turns PostgreSQL's error into ours.
    fn at<'a>(
        shard: &'a str,
        servers: &'a Servers,
        doing: &'static str,
    ) -> impl Fn(tokio_postgres::Error) -> Self + 'a {
        move |error| Self::Statement {
            doing,
            shard: shard.to_owned(),
            server: servers.address(shard),
            why: servers::chain(&error),
        }
    }

    /// The configuration must change before this can work (exit status 64), or else the world must (1).
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Contradicts(_) | Self::Tls { .. } | Self::Build(_)
        )
    }
}

/// What was agreed on last.
struct State {
    config: Config,
    servers: Arc<Servers>,
    agreed: Agreed,
    /// Names of the shards whose schema could not be read.
    unread: Vec<String>,
    /// The fingerprints of the others' schemas, by name.
    fingerprints: Vec<(String, String)>,
    /// The epoch of the last snapshot made, published or not: no two snapshots share one, since plans are kept by it.
    epoch: u64,
}

/// The open catalog.
pub struct Catalog {
    /// This process's id in `keyway.keyways`.
    id: String,
    state: ArcSwap<State>,
    /// One change of `state` at a time.
    changing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The longest that one look for a server process may take.
const DOUBT_PATIENCE: Duration = Duration::from_secs(5);

impl Catalog {
    /// Finds the catalog or creates it, agrees with it, and reads the schemas of every shard that answers. Shards that
    /// do not answer are logged; the catalog's own must.
    ///
    /// # Errors
    /// When the catalog's shard does not answer, or the configuration contradicts the catalog.
    pub async fn open(config: &Config) -> Result<(Self, Topology), CatalogError> {
        let (state, topology) = State::settle(config, 0, HashMap::new()).await?;
        let id = uuid::Uuid::new_v4().to_string();
        let catalog = Self {
            id,
            state: ArcSwap::from_pointee(state),
            changing: tokio::sync::Mutex::new(()),
        };
        Ok((catalog, topology))
    }

    /// Agrees with the catalog on a new configuration. On an error nothing has changed here, and `current` stays true.
    ///
    /// # Errors
    /// As [`Catalog::open`].
    pub async fn reload(
        &self,
        config: &Config,
        current: &Topology,
    ) -> Result<Topology, CatalogError> {
        let _changing = self.changing.lock().await;
        let before = self.state.load_full();
        let histories = before.agreed.assignments.histories.clone();
        let above = before.epoch.max(current.epoch);
        let (state, topology) = State::settle(config, above, histories).await?;
        self.state.store(Arc::new(state));
        Ok(topology)
    }

    /// Reads maps, refusals and schemas again, as after an [`Event`]. The catalog's shard may be down: then its last
    /// word stands. The new epoch is greater than `current`'s.
    ///
    /// # Errors
    /// When what is read contradicts the configuration.
    pub async fn read_again(&self, current: &Topology) -> Result<Topology, CatalogError> {
        let _changing = self.changing.lock().await;
        let (state, topology) = self.state.load_full().read_again(current.epoch).await?;
        self.state.store(Arc::new(state));
        Ok(topology)
    }

    /// After a change of schema through this Keyway: tells the others by a new epoch, and reads the schemas again.
    ///
    /// # Errors
    /// As [`Catalog::read_again`].
    pub async fn refresh_schema(&self, current: &Topology) -> Result<Topology, CatalogError> {
        if let Err(error) = self.raise_epoch().await {
            tracing::warn!(%error, "the other Keyways are not told of a change of schema");
        }
        self.read_again(current).await
    }

    /// Is a shard's schema another than the one that was read last? Also when a shard does not say.
    pub async fn schema_differs(&self) -> bool {
        let state = self.state.load_full();
        let known = state.fingerprints.len() == state.servers.names().count();
        let comparing = state
            .fingerprints
            .iter()
            .map(|(shard, known)| watch::is_as_known(&state, shard, known));
        !known || join_all(comparing).await.contains(&false)
    }

    /// Marks a table as not to be used, on all Keyways, until `keyway check` finds its shards equal again.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn refuse_table(
        &self,
        database: &str,
        table: &TableName,
        reason: &str,
    ) -> Result<(), CatalogError> {
        let state = self.state.load_full();
        let sql = "INSERT INTO keyway.refused (database, schema, name, reason) VALUES ($1, $2, $3, $4)
                   ON CONFLICT (database, schema, name) DO UPDATE SET reason = excluded.reason, since = now()";
        state
            .holder()
            .await?
            .execute(sql, &[&database, &table.schema, &table.name, &reason])
            .await
            .map_err(state.failed("refuse a table"))?;
        self.raise_epoch().await
    }

    /// Lets the given tables be used again.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn lift_refusals(&self, lifted: &[(String, TableName)]) -> Result<(), CatalogError> {
        if lifted.is_empty() {
            return Ok(());
        }
        let state = self.state.load_full();
        let holder = state.holder().await?;
        for (database, table) in lifted {
            let sql =
                "DELETE FROM keyway.refused WHERE database = $1 AND schema = $2 AND name = $3";
            holder
                .execute(sql, &[database, &table.schema, &table.name])
                .await
                .map_err(state.failed("lift a refusal"))?;
        }
        drop(holder);
        self.raise_epoch().await
    }

    /// A connection of its own to a shard's primary, for migrations.
    ///
    /// # Errors
    /// When the shard does not answer.
    pub async fn direct(&self, shard: &str) -> Result<servers::Direct, CatalogError> {
        self.state.load_full().servers.direct(shard).await
    }

    /// The shard that holds the catalog.
    #[must_use]
    pub fn holder_name(&self) -> String {
        self.state.load().agreed.catalog.clone()
    }

    /// Raises the epoch and notifies every Keyway: they read the schemas again.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn raise_epoch(&self) -> Result<(), CatalogError> {
        let state = self.state.load_full();
        state
            .holder()
            .await?
            .query(RAISE_EPOCH, &[])
            .await
            .map_err(state.failed("raise the epoch"))?;
        Ok(())
    }

    /// Requires versions of the shards of a keyspace, those named or all, and tells every Keyway if that is news. Nothing changes
    /// when `token` is not the lease on migrations any more.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn require(
        &self,
        keyspace: &str,
        versions: &[(String, Option<Vec<String>>)],
        token: i64,
    ) -> Result<(), CatalogError> {
        let state = self.state.load_full();
        let holder = state.holder().await?;
        let mut news = 0;
        for (version, shards) in versions {
            let sql = "WITH own AS (SELECT FROM keyway.leases WHERE name = $4 AND token = $5 FOR UPDATE)
                       INSERT INTO keyway.required AS r (keyspace, version, shards) SELECT $1::text, $2::text, $3::text[] FROM own
                       ON CONFLICT (keyspace, version) DO UPDATE SET shards = excluded.shards
                       WHERE r.shards IS DISTINCT FROM excluded.shards";
            let job = Job::Migrations.name();
            news += holder
                .execute(sql, &[&keyspace, version, shards, &job, &token])
                .await
                .map_err(state.failed("require versions"))?;
        }
        drop(holder);
        if news > 0 {
            self.raise_epoch().await?;
        }
        Ok(())
    }

    /// Requires versions no longer. True when they were required: every Keyway is told.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn require_no_more(
        &self,
        keyspace: &str,
        versions: &[String],
    ) -> Result<bool, CatalogError> {
        let state = self.state.load_full();
        let sql = "DELETE FROM keyway.required WHERE keyspace = $1 AND version = ANY ($2)";
        let gone = state
            .holder()
            .await?
            .execute(sql, &[&keyspace, &versions])
            .await
            .map_err(state.failed("require versions no more"))?;
        if gone > 0 {
            self.raise_epoch().await?;
        }
        Ok(gone > 0)
    }

    /// What is required of shards, as it was last read.
    #[must_use]
    pub fn required(&self) -> Vec<Required> {
        self.state.load().agreed.assignments.required.clone()
    }

    /// Every Keyway is to drop kept answers: those made of a table, or all.
    ///
    /// # Errors
    /// When the catalog's shard does not take it.
    pub async fn flush(&self, table: Option<&TableName>) -> Result<(), CatalogError> {
        let state = self.state.load_full();
        let sql = "INSERT INTO keyway.settings AS s (name, value) VALUES ($1, 1)
                   ON CONFLICT (name) DO UPDATE SET value = s.value + 1";
        state
            .holder()
            .await?
            .execute(sql, &[&agree::flushed_name(table)])
            .await
            .map_err(state.failed("note that kept answers are dropped"))?;
        self.raise_epoch().await
    }

    /// Is a server process gone whose connection was lost so long ago? What it was told to do is done then, or never will be.
    ///
    /// # Errors
    /// When the shard cannot be asked.
    pub async fn is_backend_gone(
        &self,
        shard: &str,
        pid: u32,
        ago: Duration,
    ) -> Result<bool, CatalogError> {
        // The number may be another process's by now. Only a superuser sees when others' began.
        const SQL: &str = "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND
            coalesce(backend_start <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2), true))";
        let state = self.state.load_full();
        if !state.servers.has(shard) {
            // It is no longer configured, and nothing of it is read.
            return Ok(true);
        }
        let asking = async {
            let server = state.servers.get(shard).await?;
            let pid = i32::try_from(pid).unwrap_or(-1);
            let row = server
                .query_one(SQL, &[&pid, &ago.as_secs_f64()])
                .await
                .map_err(state.failed("look for a server process"))?;
            Ok(row.get(0))
        };
        tokio::time::timeout(DOUBT_PATIENCE, asking)
            .await
            .unwrap_or_else(|_| {
                Err(CatalogError::Unreachable {
                    shard: shard.to_owned(),
                    server: state.servers.address(shard),
                    why: "it does not answer".to_owned(),
                })
            })
    }

    /// The cluster's UUID.
    #[must_use]
    pub fn cluster(&self) -> String {
        self.state.load().agreed.cluster.clone()
    }

    /// Shards that did not answer when schemas were last read.
    #[must_use]
    pub fn unread(&self) -> Vec<String> {
        self.state.load().unread.clone()
    }

    /// Waits until every Keyway with a living lease has acknowledged the catalog's present epoch. False when `within`
    /// passed first.
    ///
    /// # Errors
    /// When the catalog's shard does not answer.
    pub async fn wait_for_others(&self, within: Duration) -> Result<bool, CatalogError> {
        let state = self.state.load_full();
        let sql = "SELECT NOT EXISTS (
                     SELECT FROM keyway.keyways k, keyway.settings s
                     WHERE s.name = 'epoch' AND k.epoch < s.value AND k.id <> $1::text::uuid
                       AND k.seen > now() - $2::text::interval)";
        let lease = format!("{} seconds", watch::LEASE.as_secs());
        let deadline = tokio::time::Instant::now() + within;
        let mut every = tokio::time::interval(Duration::from_millis(50));
        loop {
            every.tick().await;
            let holder = state.holder().await?;
            let all: bool = holder
                .query_one(sql, &[&self.id, &lease])
                .await
                .and_then(|row| row.try_get(0))
                .map_err(state.failed("ask for acknowledgements"))?;
            if all {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }
}

impl State {
    /// `histories`: what shards had that may not be there now.
    async fn settle(
        config: &Config,
        above: u64,
        histories: HashMap<u16, Vec<(String, String)>>,
    ) -> Result<(Self, Topology), CatalogError> {
        let servers = Arc::new(Servers::new(config)?);
        let mut agreed = agree(config, &servers, Intent::Settle).await?;
        agreed.assignments.histories = histories;
        for (shard, error) in &agreed.down {
            tracing::warn!(%shard, %error, "shard is down; statements that need it will fail");
        }
        Self::with_schemas(config.clone(), servers, agreed, above).await
    }

    /// The same, with what catalog and shards say now.
    async fn read_again(&self, above: u64) -> Result<(Self, Topology), CatalogError> {
        let above = above.max(self.epoch);
        let mut assignments = self.agreed.assignments.clone();
        match self.read_assignments().await {
            Ok(read) => assignments = read,
            Err(error) => tracing::warn!(%error, "the catalog's last word stands"),
        }
        let agreed = Agreed {
            cluster: self.agreed.cluster.clone(),
            catalog: self.agreed.catalog.clone(),
            assignments,
            fresh: false,
            down: Vec::new(),
        };
        Self::with_schemas(
            self.config.clone(),
            Arc::clone(&self.servers),
            agreed,
            above,
        )
        .await
    }

    async fn with_schemas(
        config: Config,
        servers: Arc<Servers>,
        mut agreed: Agreed,
        above: u64,
    ) -> Result<(Self, Topology), CatalogError> {
        let Read {
            schemas,
            histories,
            unread,
        } = read_schemas(&servers, &agreed).await;
        agreed.assignments.histories.extend(histories);
        let mut topology = build(&config, &agreed.assignments, &schemas)?;
        topology.epoch = topology.catalog_epoch.max(above + 1);
        for error in &unread {
            tracing::warn!(shard = %error.0, error = %error.1, "schema not read");
        }
        let unread = unread.into_iter().map(|(shard, _)| shard).collect();
        let fingerprints = topology
            .shards
            .iter()
            .filter_map(|shard| {
                Some((
                    shard.name.clone(),
                    schemas.get(&shard.stable_id)?.fingerprint.clone(),
                ))
            })
            .collect();
        let state = Self {
            config,
            servers,
            agreed,
            unread,
            fingerprints,
            epoch: topology.epoch,
        };
        Ok((state, topology))
    }

    /// A connection to the catalog's shard.
    async fn holder(&self) -> Result<deadpool_postgres::Object, CatalogError> {
        self.servers.get(&self.agreed.catalog).await
    }

    /// Turns an error of the catalog's shard into ours.
    fn failed(&self, doing: &'static str) -> impl Fn(tokio_postgres::Error) -> CatalogError + '_ {
        CatalogError::at(&self.agreed.catalog, &self.servers, doing)
    }

    async fn read_assignments(&self) -> Result<Assignments, CatalogError> {
        let holder = self.holder().await?;
        let failed = self.failed("read the catalog");
        let mut assignments = self.agreed.assignments.clone();
        // First, so that all the rest is at least as new: who holds an epoch need not read again for it.
        assignments.epoch = agree::read_epoch(&**holder).await.map_err(&failed)?;
        for (keyspace, map) in &mut assignments.maps {
            *map = agree::read_map(&**holder, keyspace)
                .await
                .map_err(&failed)?;
        }
        assignments.refused = agree::read_refused(&**holder).await.map_err(&failed)?;
        assignments.required = agree::read_required(&**holder).await.map_err(&failed)?;
        assignments.flushed = agree::read_flushed(&**holder).await.map_err(&failed)?;
        Ok(assignments)
    }
}

/// What all shards said, all asked at once.
#[derive(Default)]
struct Read {
    schemas: Schemas,
    /// Versions that have run, by stable id: also of shards whose schema could not be read.
    histories: HashMap<u16, Vec<(String, String)>>,
    /// Shards whose schema could not be read.
    unread: Vec<(String, CatalogError)>,
}

/// Asks all shards that answer as themselves.
async fn read_schemas(servers: &Servers, agreed: &Agreed) -> Read {
    let names: Vec<&str> = servers.names().collect();
    let reading = names.iter().map(|name| read_shard(servers, agreed, name));
    let mut read = Read::default();
    for (name, result) in names.iter().zip(join_all(reading).await) {
        let Some(id) = agreed.assignments.shard_ids.get(*name) else {
            continue;
        };
        let schema = match result {
            Ok((history, schema)) => {
                read.histories.insert(*id, history);
                schema
            }
            Err(error) => Err(error),
        };
        match schema {
            Ok(schema) => {
                read.schemas.insert(*id, schema);
            }
            Err(error) => read.unread.push(((*name).to_owned(), error)),
        }
    }
    read
}

type History = Vec<(String, String)>;

/// A shard's history of migrations, and its schema if nobody has it locked.
async fn read_shard(
    servers: &Servers,
    agreed: &Agreed,
    name: &str,
) -> Result<(History, Result<Schema, CatalogError>), CatalogError> {
    let mut client = servers.get(name).await?;
    let failed = |doing| CatalogError::at(name, servers, doing);
    let identity = agree::read_identity(&client)
        .await
        .map_err(failed("read keyway.identity"))?;
    let expected = agreed.assignments.shard_ids.get(name).copied();
    let is_it =
        identity.is_some_and(|said| said.cluster == agreed.cluster && Some(said.shard) == expected);
    if !is_it {
        return Err(CatalogError::one(
            format!("shards.{name}.primary"),
            format!(
                "{} does not say that it is shard {name:?} of cluster {}",
                servers.address(name),
                agreed.cluster
            ),
        ));
    }
    let history = read::migrations(&**client)
        .await
        .map_err(failed("read keyway.migrations"))?;
    let schema = read_settled(&mut client).await;
    Ok((history, schema.map_err(failed("read the schema"))))
}

/// Reads the schema, again when something was dropped in the meantime: PostgreSQL's pg_get_… functions look at the
/// present, not at the snapshot, and miss what is gone.
async fn read_settled(
    client: &mut tokio_postgres::Client,
) -> Result<Schema, tokio_postgres::Error> {
    let mut tries_left = READ_TRIES_MAX - 1;
    loop {
        match read::schema(client).await {
            // Who has a table locked may have it for long.
            Err(error) if words::is_lock_wait(&error) => return Err(error),
            Err(error) if tries_left > 0 && error.as_db_error().is_some() => tries_left -= 1,
            result => return result,
        }
    }
}
