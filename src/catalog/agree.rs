//! Configuration and catalog brought to agree: created when there is none, extended by what is new, refused when they
//! contradict each other. Runs under advisory locks on every reachable shard, so that Keyways started at once take
//! turns.

use crate::catalog::servers::Servers;
use crate::catalog::{CatalogError, Contradiction};
use crate::config::{Config, KeyspaceConfig, TablePlacement};
use crate::topology::behind::Required;
use crate::topology::build::{Assignments, even_map};
use crate::topology::{BUCKETS, KeyHash, TableName};
use deadpool_postgres::Object;
use futures_util::future::join_all;
use std::collections::{BTreeMap, HashMap};
use std::ops::DerefMut;
use tokio_postgres::{Client, GenericClient};

/// `pg_advisory_lock`'s key: "keyway" in ASCII.
const LOCK: i64 = 0x006b_6579_7761_7900;

/// The version of `schema.sql`.
const VERSION: i64 = 1;

/// What a shard says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: String,
    pub(super) shard: u16,
    pub(super) name: String,
    pub(super) catalog: String,
}

/// What [`agree`] is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    /// To write what is new.
    Settle,
    /// To find out what would be said; everything is rolled back.
    Look,
}

/// What both agree on.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The cluster's UUID.
    pub(super) cluster: String,
    /// The shard that holds the catalog.
    pub(super) catalog: String,
    /// Ids, maps and refusals.
    pub(super) assignments: Assignments,
    /// There was no catalog before.
    pub(super) fresh: bool,
    /// Shards that could not be reached, and why.
    pub(super) down: Vec<(String, CatalogError)>,
}

/// A locked connection. It is taken out of its pool, so that dropping it, at any await, closes it and frees its lock.
struct Locked {
    client: deadpool_postgres::ClientWrapper,
    identity: Option<Identity>,
    /// Tells one database from another, whatever address it is reached by.
    place: String,
}

/// Brings them to agree.
///
/// Cancel safe: everything is written in transactions on connections that close when dropped.
pub(super) async fn agree(
    config: &Config,
    servers: &Servers,
    intent: Intent,
) -> Result<Agreed, CatalogError> {
    let (mut locked, down) = lock_all(servers).await?;
    let catalog = authority(config, servers, &locked)?;
    let fresh = locked.values().all(|shard| shard.identity.is_none());
    if fresh && !down.is_empty() {
        let (shard, error) = down.into_iter().next().expect("not empty");
        return Err(CatalogError::CreateWithoutAll {
            shard,
            source: Box::new(error),
        });
    }
    let Some(mut holder) = locked.remove(&catalog) else {
        let source = down
            .into_iter()
            .find(|(shard, _)| *shard == catalog)
            .map(|(_, error)| error);
        return Err(CatalogError::NoCatalog {
            shard: catalog,
            source: source.map(Box::new),
        });
    };
    let said = holder.identity.clone();
    let parties = Parties {
        config,
        servers,
        catalog: &catalog,
        intent,
    };
    let (cluster, assignments) = settle(&parties, &mut holder, &mut locked).await?;
    if said.is_none() && intent == Intent::Settle {
        tracing::info!(%cluster, %catalog, "catalog created");
    }
    // Connections close here, and with them the locks.
    Ok(Agreed {
        cluster,
        catalog,
        assignments,
        fresh,
        down,
    })
}

/// Connects to every shard; in the order of their names, locks those that answer.
async fn lock_all(
    servers: &Servers,
) -> Result<(BTreeMap<String, Locked>, Vec<(String, CatalogError)>), CatalogError> {
    let names: Vec<&str> = servers.names().collect();
    let connecting = names.iter().map(|name| servers.get(name));
    let mut locked = BTreeMap::new();
    let mut down = Vec::new();
    for (name, result) in names.iter().zip(join_all(connecting).await) {
        let client = match result {
            Ok(client) => Object::take(client),
            Err(error) => {
                down.push(((*name).to_owned(), error));
                continue;
            }
        };
        let place = client
            .query_one(
                "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/' ||
                        pg_catalog.pg_postmaster_start_time()::text || '/' || pg_catalog.current_database()",
                &[],
            )
            .await
            .and_then(|row| row.try_get(0))
            .map_err(CatalogError::at(name, servers, "ask which database this is"))?;
        locked.insert(
            (*name).to_owned(),
            Locked {
                client,
                identity: None,
                place,
            },
        );
    }
    // Before any lock, since two names for one database would wait for each other.
    check_distinct(servers, &locked)?;
    for (name, shard) in &mut locked {
        let failed = |doing| CatalogError::at(name, servers, doing);
        shard
            .client
            .execute("SELECT pg_catalog.pg_advisory_lock($1)", &[&LOCK])
            .await
            .map_err(failed("take the catalog's lock"))?;
        shard.identity = read_identity(&shard.client)
            .await
            .map_err(failed("read keyway.identity"))?;
    }
    Ok((locked, down))
}

/// The identity of the shard behind `client`, if it has one.
pub(super) async fn read_identity(
    client: &Client,
) -> Result<Option<Identity>, tokio_postgres::Error> {
    let exists: bool = client
        .query_one(
            "SELECT pg_catalog.to_regclass('keyway.identity') IS NOT NULL",
            &[],
        )
        .await?
        .try_get(0)?;
    if !exists {
        return Ok(None);
    }
    let row = client
        .query_opt(
            "SELECT cluster::text, shard, name, catalog FROM keyway.identity",
            &[],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Identity {
        cluster: row.try_get(0)?,
        shard: id(row.try_get(1)?),
        name: row.try_get(2)?,
        catalog: row.try_get(3)?,
    }))
}

/// Ids are checked by the tables to be 0 to 511.
fn id(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Two names must not lead to one database.
fn check_distinct(
    servers: &Servers,
    locked: &BTreeMap<String, Locked>,
) -> Result<(), CatalogError> {
    let mut places: HashMap<&str, &str> = HashMap::new();
    for (name, shard) in locked {
        if let Some(first) = places.insert(&shard.place, name) {
            return Err(CatalogError::one(
                format!("shards.{name}.primary"),
                format!(
                    "{} is the same database as shard {first:?} ({})",
                    servers.address(name),
                    servers.address(first)
                ),
            ));
        }
    }
    Ok(())
}

/// Which shard holds the catalog: the recorded one; the configured or the first when nothing is recorded.
fn authority(
    config: &Config,
    servers: &Servers,
    locked: &BTreeMap<String, Locked>,
) -> Result<String, CatalogError> {
    let mut recorded = locked
        .iter()
        .filter_map(|(name, shard)| Some((name, shard.identity.as_ref()?)));
    let Some((name, first)) = recorded.next() else {
        let first = servers.names().next().unwrap_or_default();
        return Ok(config.catalog.clone().unwrap_or_else(|| first.to_owned()));
    };
    let mut contradictions = Vec::new();
    for (other_name, other) in recorded {
        if other.cluster != first.cluster {
            contradictions.push(Contradiction {
                key: format!("shards.{other_name}.primary"),
                what: format!(
                    "{} belongs to cluster {}, but shard {name:?} ({}) to cluster {}",
                    servers.address(other_name),
                    other.cluster,
                    servers.address(name),
                    first.cluster
                ),
            });
        }
    }
    if let Some(configured) = config
        .catalog
        .as_ref()
        .filter(|configured| **configured != first.catalog)
    {
        contradictions.push(Contradiction {
            key: "catalog".into(),
            what: format!(
                "the configuration says {configured:?}, but cluster {} has its catalog on {:?}",
                first.cluster, first.catalog
            ),
        });
    }
    if !config.shards.contains_key(&first.catalog) {
        contradictions.push(Contradiction {
            key: "shards".into(),
            what: format!(
                "cluster {} has its catalog on shard {:?}, which the configuration does not list",
                first.cluster, first.catalog
            ),
        });
    }
    if locked
        .get(&first.catalog)
        .is_some_and(|holder| holder.identity.is_none())
    {
        contradictions.push(Contradiction {
            key: format!("shards.{}.primary", first.catalog),
            what: format!(
                "{} holds no catalog, but shard {name:?} ({}) says that it holds cluster {}'s; is this another server, or was its schema keyway dropped?",
                servers.address(&first.catalog),
                servers.address(name),
                first.cluster
            ),
        });
    }
    if contradictions.is_empty() {
        Ok(first.catalog.clone())
    } else {
        Err(CatalogError::Contradicts(contradictions))
    }
}

/// A shard as the catalog has it.
struct ShardRow {
    id: u16,
    joined: bool,
}

/// A keyspace as the catalog has it.
enum Recorded {
    /// On this one shard.
    Whole(u16),
    /// By this hash, as [`hash_name`] writes it.
    Sharded(String),
}

/// Everything the catalog says, and what is done to it.
struct Ledger<'a> {
    config: &'a Config,
    servers: &'a Servers,
    catalog: &'a str,
    cluster: String,
    contradictions: Vec<Contradiction>,
    shards: BTreeMap<String, ShardRow>,
}

/// Who comes to terms, and what for.
struct Parties<'a> {
    config: &'a Config,
    servers: &'a Servers,
    catalog: &'a str,
    intent: Intent,
}

async fn settle(
    parties: &Parties<'_>,
    holder: &mut Locked,
    others: &mut BTreeMap<String, Locked>,
) -> Result<(String, Assignments), CatalogError> {
    let Parties {
        config,
        servers,
        catalog,
        intent,
    } = *parties;
    let failed = |doing| CatalogError::at(catalog, servers, doing);
    let writing = holder
        .client
        .deref_mut()
        .transaction()
        .await
        .map_err(failed("begin"))?;
    writing
        .batch_execute(include_str!("schema.sql"))
        .await
        .map_err(failed("create the schema keyway"))?;
    let version: i64 = writing
        .query_one(
            "SELECT value FROM keyway.settings WHERE name = 'version'",
            &[],
        )
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed("read keyway.settings"))?;
    if version != VERSION {
        return Err(CatalogError::Version {
            found: version,
            known: VERSION,
        });
    }
    let cluster = match &holder.identity {
        Some(identity) => identity.cluster.clone(),
        None => uuid::Uuid::new_v4().to_string(),
    };
    let mut ledger = Ledger {
        config,
        servers,
        catalog,
        cluster,
        contradictions: Vec::new(),
        shards: BTreeMap::new(),
    };
    ledger
        .enter_shards(&writing)
        .await
        .map_err(failed("enter the shards"))?;
    ledger.check_identities(holder.identity.as_ref(), others);
    let mut assignments = ledger
        .enter_keyspaces(&writing)
        .await
        .map_err(failed("enter the keyspaces"))?;
    ledger
        .enter_tables(&writing, &assignments, others)
        .await
        .map_err(failed("enter the tables"))?;
    if !ledger.contradictions.is_empty() {
        return Err(CatalogError::Contradicts(ledger.contradictions));
    }
    if holder.identity.is_none() {
        ledger
            .write_identity(&writing, catalog)
            .await
            .map_err(failed("write keyway.identity"))?;
        writing
            .execute(
                "UPDATE keyway.shards SET joined = true WHERE name = $1",
                &[&catalog],
            )
            .await
            .map_err(failed("enter the shards"))?;
    }
    assignments.epoch = read_epoch(&writing)
        .await
        .map_err(failed("read the epoch"))?;
    assignments.refused = read_refused(&writing)
        .await
        .map_err(failed("read keyway.refused"))?;
    assignments.required = read_required(&writing)
        .await
        .map_err(failed("read keyway.required"))?;
    assignments.flushed = read_flushed(&writing)
        .await
        .map_err(failed("read keyway.settings"))?;
    if intent == Intent::Look {
        writing.rollback().await.map_err(failed("roll back"))?;
        return Ok((ledger.cluster, assignments));
    }
    writing.commit().await.map_err(failed("commit"))?;

    for (name, shard) in others
        .iter_mut()
        .filter(|(_, shard)| shard.identity.is_none())
    {
        let failed = |doing| CatalogError::at(name, servers, doing);
        let joining = shard
            .client
            .deref_mut()
            .transaction()
            .await
            .map_err(failed("begin"))?;
        joining
            .batch_execute(include_str!("schema.sql"))
            .await
            .map_err(failed("create the schema keyway"))?;
        ledger
            .write_identity(&joining, name)
            .await
            .map_err(failed("write keyway.identity"))?;
        joining.commit().await.map_err(failed("commit"))?;
        holder
            .client
            .execute(
                "UPDATE keyway.shards SET joined = true WHERE name = $1",
                &[name],
            )
            .await
            .map_err(CatalogError::at(catalog, servers, "enter the shards"))?;
        tracing::info!(shard = %name, "shard joined the cluster");
    }
    Ok((ledger.cluster, assignments))
}

impl Ledger<'_> {
    fn contradict(&mut self, key: String, what: String) {
        self.contradictions.push(Contradiction { key, what });
    }

    async fn write_identity(
        &self,
        writing: &impl GenericClient,
        name: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let Some(row) = self.shards.get(name) else {
            return Ok(());
        };
        let sql = "INSERT INTO keyway.identity (cluster, shard, name, catalog) VALUES ($1::text::uuid, $2, $3, $4)";
        writing
            .execute(
                sql,
                &[&self.cluster, &i32::from(row.id), &name, &self.catalog],
            )
            .await?;
        Ok(())
    }

    /// Every configured shard gets an id, once and for ever; a shard that left keeps its row.
    async fn enter_shards(
        &mut self,
        writing: &impl GenericClient,
    ) -> Result<(), tokio_postgres::Error> {
        let mut next = 0;
        for row in writing
            .query("SELECT id, name, joined FROM keyway.shards", &[])
            .await?
        {
            let shard = ShardRow {
                id: id(row.try_get(0)?),
                joined: row.try_get(2)?,
            };
            next = next.max(shard.id + 1);
            self.shards.insert(row.try_get(1)?, shard);
        }
        for name in self.config.shards.keys() {
            let address = self.servers.address(name);
            if self.shards.contains_key(name) {
                let sql = "UPDATE keyway.shards SET address = $2 WHERE name = $1 AND address <> $2";
                writing.execute(sql, &[name, &address]).await?;
                continue;
            }
            if next > 511 {
                self.contradict(
                    format!("shards.{name}"),
                    "the catalog has given out all 512 ids".into(),
                );
                return Ok(());
            }
            let sql = "INSERT INTO keyway.shards (id, name, address) VALUES ($1, $2, $3)";
            writing
                .execute(sql, &[&i32::from(next), name, &address])
                .await?;
            self.shards.insert(
                name.clone(),
                ShardRow {
                    id: next,
                    joined: false,
                },
            );
            next += 1;
        }
        Ok(())
    }

    /// Who answers must be who is meant.
    fn check_identities(&mut self, holder: Option<&Identity>, others: &BTreeMap<String, Locked>) {
        let catalog = self.catalog.to_owned();
        let all = others
            .iter()
            .map(|(name, shard)| (name.as_str(), shard.identity.as_ref()))
            .chain([(catalog.as_str(), holder)]);
        let mut found = Vec::new();
        for (name, identity) in all {
            let Some(row) = self.shards.get(name) else {
                continue;
            };
            let address = self.servers.address(name);
            let what = match identity {
                None if row.joined => format!(
                    "{address} has no identity, but the catalog knows shard {name:?} (id {}) with rows on it; is this another server, or was its schema keyway dropped?",
                    row.id
                ),
                Some(said) if said.shard != row.id || said.name != name => format!(
                    "{address} says it is shard {:?} (id {}), the configuration and the catalog say shard {name:?} (id {})",
                    said.name, said.shard, row.id
                ),
                Some(said) if said.catalog != self.catalog => format!(
                    "{address} says the catalog is on shard {:?}, the other shards say {:?}",
                    said.catalog, self.catalog
                ),
                _ => continue,
            };
            found.push(Contradiction {
                key: format!("shards.{name}.primary"),
                what,
            });
        }
        self.contradictions.append(&mut found);
    }

    /// Every configured keyspace has its map; only a new one gets it here.
    async fn enter_keyspaces(
        &mut self,
        writing: &impl GenericClient,
    ) -> Result<Assignments, tokio_postgres::Error> {
        let mut known: HashMap<String, Recorded> = HashMap::new();
        for row in writing
            .query("SELECT name, hash, shard FROM keyway.keyspaces", &[])
            .await?
        {
            let hash: Option<String> = row.try_get(1)?;
            let recorded = match hash {
                Some(hash) => Recorded::Sharded(hash),
                // The table's CHECK: one of the two is there.
                None => Recorded::Whole(id(row.try_get(2)?)),
            };
            known.insert(row.try_get(0)?, recorded);
        }
        let mut assignments = Assignments {
            shard_ids: self
                .shards
                .iter()
                .map(|(name, row)| (name.clone(), row.id))
                .collect(),
            ..Assignments::default()
        };
        for (name, keyspace) in &self.config.keyspaces {
            let hash = keyspace.hash.map(hash_name);
            let ids: Vec<u16> = keyspace
                .shards
                .iter()
                .filter_map(|s| self.shards.get(s))
                .map(|row| row.id)
                .collect();
            let only = ids.first().copied().filter(|_| keyspace.hash.is_none());
            let map = match (known.get(name), keyspace.hash) {
                (None, _) => {
                    let sql =
                        "INSERT INTO keyway.keyspaces (name, hash, shard) VALUES ($1, $2, $3)";
                    writing
                        .execute(sql, &[name, &hash, &only.map(i32::from)])
                        .await?;
                    match keyspace.hash {
                        Some(hash) => {
                            let map = even_map(hash, &ids);
                            write_map(writing, name, &map).await?;
                            Some(map)
                        }
                        None => None,
                    }
                }
                (Some(Recorded::Whole(recorded)), None) => {
                    if Some(*recorded) != only {
                        let what = format!(
                            "the configuration says {:?}, the catalog has the keyspace's tables on shard {:?} (id {recorded})",
                            keyspace.shards,
                            self.shard_name(*recorded)
                        );
                        self.contradict(format!("keyspaces.{name}.shards"), what);
                    }
                    None
                }
                // A whole keyspace grows: all its rows are where they were, and so are all buckets.
                (Some(Recorded::Whole(recorded)), Some(_)) if ids.contains(recorded) => {
                    let sql = "UPDATE keyway.keyspaces SET hash = $2, shard = NULL WHERE name = $1";
                    writing.execute(sql, &[name, &hash]).await?;
                    let map = vec![*recorded; BUCKETS];
                    write_map(writing, name, &map).await?;
                    Some(map)
                }
                (Some(Recorded::Whole(recorded)), Some(_)) => {
                    let what = format!(
                        "the configuration says {:?}, the catalog has all of the keyspace on shard {:?}",
                        keyspace.shards,
                        self.shard_name(*recorded)
                    );
                    self.contradict(format!("keyspaces.{name}.shards"), what);
                    None
                }
                (Some(Recorded::Sharded(recorded)), configured) => {
                    if hash.as_ref() != Some(recorded) {
                        let says = hash
                            .clone()
                            .unwrap_or_else(|| "an unsharded keyspace".into());
                        let what = format!(
                            "the configuration says {says}, the catalog has placed rows by {recorded}"
                        );
                        self.contradict(format!("keyspaces.{name}.hash"), what);
                    }
                    let map = read_map(writing, name).await?;
                    self.check_map(name, keyspace, &map, &ids);
                    configured.is_some().then_some(map)
                }
            };
            if let Some(map) = map {
                assignments.maps.insert(name.clone(), map);
            }
        }
        Ok(assignments)
    }

    fn shard_name(&self, id: u16) -> String {
        self.shards
            .iter()
            .find(|(_, row)| row.id == id)
            .map(|(name, _)| name.clone())
            .unwrap_or_default()
    }

    fn check_map(&mut self, name: &str, keyspace: &KeyspaceConfig, map: &[u16], ids: &[u16]) {
        if map.len() != BUCKETS {
            let what = format!(
                "the catalog's bucket map has {} buckets instead of {BUCKETS}",
                map.len()
            );
            self.contradict(format!("keyspaces.{name}"), what);
        }
        let mut strays: Vec<u16> = map.iter().copied().filter(|id| !ids.contains(id)).collect();
        strays.sort_unstable();
        strays.dedup();
        for stray in strays {
            let what = format!(
                "the configuration says {:?}, but the catalog has {} buckets on shard {:?} (id {stray})",
                keyspace.shards,
                map.iter().filter(|id| **id == stray).count(),
                self.shard_name(stray)
            );
            self.contradict(format!("keyspaces.{name}.shards"), what);
        }
    }

    /// How each listed table is placed. A changed placement is fine while there are no rows, or one shard has them all.
    async fn enter_tables(
        &mut self,
        writing: &impl GenericClient,
        assignments: &Assignments,
        others: &BTreeMap<String, Locked>,
    ) -> Result<(), tokio_postgres::Error> {
        let mut known: HashMap<(String, TableName), String> = HashMap::new();
        for row in writing
            .query(
                "SELECT keyspace, schema, name, placement FROM keyway.tables",
                &[],
            )
            .await?
        {
            let table = TableName {
                schema: row.try_get(1)?,
                name: row.try_get(2)?,
            };
            known.insert((row.try_get(0)?, table), row.try_get(3)?);
        }
        let config = self.config;
        for (keyspace_name, keyspace) in &config.keyspaces {
            for (table, table_config) in &keyspace.tables {
                let placement = placement_name(&table_config.placement);
                let recorded = known.get(&(keyspace_name.clone(), table.clone()));
                if recorded == Some(&placement) {
                    continue;
                }
                if let Some(recorded) = recorded
                    && !is_on_one_shard(assignments, keyspace_name)
                    && !self
                        .is_empty_everywhere(writing, others, keyspace, table)
                        .await
                {
                    let what = format!(
                        "the configuration says {placement}, the catalog has placed its rows by {recorded}; it can change only while the table is empty on every shard"
                    );
                    self.contradict(format!("keyspaces.{keyspace_name}.tables.{table}"), what);
                    continue;
                }
                let sql = "INSERT INTO keyway.tables VALUES ($1, $2, $3, $4)
                           ON CONFLICT (keyspace, schema, name) DO UPDATE SET placement = excluded.placement";
                writing
                    .execute(
                        sql,
                        &[keyspace_name, &table.schema, &table.name, &placement],
                    )
                    .await?;
            }
        }
        Ok(())
    }

    /// False also when it cannot be told.
    async fn is_empty_everywhere(
        &self,
        holder: &impl GenericClient,
        others: &BTreeMap<String, Locked>,
        keyspace: &KeyspaceConfig,
        table: &TableName,
    ) -> bool {
        for shard in &keyspace.shards {
            let empty = if shard == self.catalog {
                is_empty(holder, table).await
            } else if let Some(other) = others.get(shard) {
                is_empty(&*other.client, table).await
            } else {
                return false;
            };
            if !matches!(empty, Ok(true)) {
                return false;
            }
        }
        true
    }
}

fn is_on_one_shard(assignments: &Assignments, keyspace: &str) -> bool {
    assignments
        .maps
        .get(keyspace)
        .is_none_or(|map| map.windows(2).all(|pair| pair[0] == pair[1]))
}

/// True when the table, its partitions and children do not exist or hold no page. Asked of sizes, not of rows: the
/// control plane may not be allowed to read them, and row-level security could hide some.
async fn is_empty(
    client: &impl GenericClient,
    table: &TableName,
) -> Result<bool, tokio_postgres::Error> {
    let quoted = format!("{}.{}", quote(&table.schema), quote(&table.name));
    let sql = "WITH RECURSIVE relations(oid) AS (
                 SELECT pg_catalog.to_regclass($1::text)::oid
                 UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN relations r ON i.inhparent = r.oid)
               SELECT coalesce(sum(pg_catalog.pg_relation_size(oid)), 0) = 0 FROM relations WHERE oid IS NOT NULL";
    client.query_one(sql, &[&quoted]).await?.try_get(0)
}

/// An identifier in double quotes.
pub(crate) fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn hash_name(hash: KeyHash) -> String {
    match hash {
        KeyHash::Xxh3 => "xxh3".into(),
        KeyHash::Postgres { modulus } => format!("postgres with modulus {modulus}"),
    }
}

fn placement_name(placement: &TablePlacement) -> String {
    match placement {
        TablePlacement::Key { columns, .. } => {
            format!(
                "key ({})",
                columns
                    .iter()
                    .map(|column| quote(column))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
        TablePlacement::Reference => "reference".into(),
        TablePlacement::Whole => "whole".into(),
    }
}

/// Runs of equal shards, one row each.
async fn write_map(
    writing: &impl GenericClient,
    keyspace: &str,
    map: &[u16],
) -> Result<(), tokio_postgres::Error> {
    writing
        .execute(
            "DELETE FROM keyway.buckets WHERE keyspace = $1",
            &[&keyspace],
        )
        .await?;
    let (mut firsts, mut lasts, mut shards) = (Vec::new(), Vec::new(), Vec::new());
    for (bucket, shard) in (0i32..).zip(map) {
        if shards.last() == Some(&i32::from(*shard)) {
            if let Some(last) = lasts.last_mut() {
                *last = bucket;
            }
        } else {
            firsts.push(bucket);
            lasts.push(bucket);
            shards.push(i32::from(*shard));
        }
    }
    let sql =
        "INSERT INTO keyway.buckets SELECT $1, * FROM unnest($2::int[], $3::int[], $4::int[])";
    writing
        .execute(sql, &[&keyspace, &firsts, &lasts, &shards])
        .await?;
    Ok(())
}

/// As many entries as there are buckets without a gap.
pub(super) async fn read_map(
    reading: &impl GenericClient,
    keyspace: &str,
) -> Result<Vec<u16>, tokio_postgres::Error> {
    let mut map = Vec::with_capacity(BUCKETS);
    let sql = "SELECT first, last, shard FROM keyway.buckets WHERE keyspace = $1 ORDER BY first";
    for row in reading.query(sql, &[&keyspace]).await? {
        let (first, last, shard): (i32, i32, i32) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if usize::try_from(first) != Ok(map.len()) {
            break;
        }
        map.extend((first..=last).map(|_| id(shard)));
    }
    Ok(map)
}

/// The catalog's epoch.
pub(super) async fn read_epoch(reading: &impl GenericClient) -> Result<u64, tokio_postgres::Error> {
    let epoch: i64 = reading
        .query_one(
            "SELECT value FROM keyway.settings WHERE name = 'epoch'",
            &[],
        )
        .await?
        .try_get(0)?;
    Ok(u64::try_from(epoch).unwrap_or(0))
}

/// The tables that may not be used.
pub(super) async fn read_refused(
    reading: &impl GenericClient,
) -> Result<Vec<(String, TableName, String)>, tokio_postgres::Error> {
    let mut refused = Vec::new();
    for row in reading
        .query(
            "SELECT database, schema, name, reason FROM keyway.refused ORDER BY 1, 2, 3",
            &[],
        )
        .await?
    {
        let table = TableName {
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
        };
        refused.push((row.try_get(0)?, table, row.try_get(3)?));
    }
    Ok(refused)
}

/// What is required of shards.
pub(super) async fn read_required(
    reading: &impl GenericClient,
) -> Result<Vec<Required>, tokio_postgres::Error> {
    let mut required = Vec::new();
    for row in reading
        .query("SELECT keyspace, version, shards FROM keyway.required", &[])
        .await?
    {
        required.push(Required {
            keyspace: row.try_get(0)?,
            version: row.try_get(1)?,
            shards: row.try_get(2)?,
        });
    }
    Ok(required)
}

/// How often kept answers were dropped by somebody's wish: all, and those of tables.
pub(super) async fn read_flushed(
    reading: &impl GenericClient,
) -> Result<BTreeMap<Option<TableName>, i64>, tokio_postgres::Error> {
    let sql = "SELECT name, value FROM keyway.settings WHERE name LIKE 'flushed %'";
    let mut flushed = BTreeMap::new();
    for row in reading.query(sql, &[]).await? {
        let name: String = row.try_get(0)?;
        let table = name.strip_prefix("flushed ").unwrap_or_default();
        flushed.insert(TableName::parse(table), row.try_get(1)?);
    }
    Ok(flushed)
}

/// What [`read_flushed`] reads a flush of this table as, or of everything.
pub(super) fn flushed_name(table: Option<&TableName>) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = table.map(|table| format!("{}.{}", quoted(&table.schema), quoted(&table.name)));
    format!("flushed {}", table.unwrap_or_default())
}
