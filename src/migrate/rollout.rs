//! One keyspace's migrations over all its shards: what each still needs, and the order in which they get it.

use crate::catalog::lease::{self, Job, shard_lock};
use crate::catalog::servers::Direct;
use crate::catalog::{Catalog, CatalogError};
use crate::migrate::files::Migration;
use crate::migrate::history;
use crate::migrate::plan::{Entry, Obstacle, Step, Wanted, steps};
use crate::migrate::run::{Place, StepError};
use crate::topology::TableName;
use crate::topology::ranges::{Fix, owned_by_any, range_block};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A keyspace to bring up to date.
#[derive(Debug)]
pub struct Keyspace<'k> {
    /// Its name.
    pub name: &'k str,
    /// Its shards with their stable ids, in order.
    pub shards: Vec<(String, u16)>,
    /// Its sharded tables, when it has several shards.
    pub sharded: Vec<TableName>,
    /// Its files.
    pub migrations: &'k [Migration],
}

/// How a rollout goes.
#[derive(Debug, Clone)]
pub struct Manner {
    /// What is wanted.
    pub wanted: Wanted,
    /// Shards at once.
    pub parallel: usize,
    /// The first shard, alone.
    pub canary: Option<String>,
    /// A shard that fails does not stop the others.
    pub goes_on: bool,
}

/// What stands in the way of a whole rollout: nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A shard does not answer.
    #[error("{0}")]
    Down(#[from] CatalogError),
    /// Files and history do not fit.
    #[error("{}", lines(.0))]
    Obstacles(Vec<(String, Obstacle)>),
    /// The canary is none of the keyspace's shards.
    #[error("keyspace {keyspace} has no shard {shard:?} to begin with")]
    NoCanary {
        /// The keyspace.
        keyspace: String,
        /// The name.
        shard: String,
    },
}

fn lines(obstacles: &[(String, Obstacle)]) -> String {
    let lines: Vec<String> = obstacles
        .iter()
        .map(|(shard, obstacle)| format!("{shard}: {obstacle}"))
        .collect();
    lines.join("\n")
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum News<'n> {
    /// A migration is done on a shard.
    Done {
        /// The shard.
        shard: &'n str,
        /// Which.
        migration: &'n Migration,
        /// How long it took.
        took: Duration,
    },
    /// It failed.
    Failed {
        /// The shard.
        shard: &'n str,
        /// Why.
        why: String,
    },
}

/// A shard's history, or why it cannot be read.
pub async fn histories(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
) -> Vec<(String, Result<Vec<Entry>, String>)> {
    let read = keyspace.shards.iter().map(|(shard, _)| async move {
        let entries = match catalog.direct(shard).await {
            Ok(connection) => history::read(&connection.client, keyspace.name)
                .await
                .map_err(|error| crate::catalog::servers::chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        (shard.clone(), entries)
    });
    join_all(read).await
}

/// Brings all shards of a keyspace up to date. Returns the shards that failed.
///
/// # Errors
/// When something stands in the way before anything was run.
pub async fn roll_out<'k>(
    catalog: &Catalog,
    keyspace: &'k Keyspace<'_>,
    manner: &Manner,
    token: i64,
    lost: &watch::Receiver<bool>,
    tell: &(dyn Fn(News<'_>) + Sync),
) -> Result<Vec<String>, RolloutError> {
    if let Some(canary) = &manner.canary
        && !keyspace.shards.iter().any(|(shard, _)| shard == canary)
    {
        return Err(RolloutError::NoCanary {
            keyspace: keyspace.name.to_owned(),
            shard: canary.clone(),
        });
    }
    let mut failed = Vec::new();
    let mut ready = Vec::new();
    let mut obstacles = Vec::new();
    let opened = keyspace.shards.iter().map(|shard| async move {
        let connection = catalog.direct(&shard.0).await?;
        Ok::<_, CatalogError>((shard, connection))
    });
    for (opened, (shard, _)) in join_all(opened).await.into_iter().zip(&keyspace.shards) {
        let (shard, connection) = match opened {
            Ok(opened) => opened,
            Err(error) if manner.goes_on => {
                tell(News::Failed {
                    shard,
                    why: error.to_string(),
                });
                failed.push(shard.clone());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let read = async {
            // A runner that died may have a statement running, and even a COMMIT: its history is read behind that.
            shard_lock(&connection, Job::Migrations).await?;
            let read = async {
                lease::prepare(&connection.client).await?;
                history::prepare(&connection.client).await?;
                history::read(&connection.client, keyspace.name).await
            };
            read.await
                .map_err(|error| crate::catalog::servers::chain(&error))
        };
        let entries = match read.await {
            Ok(entries) => entries,
            Err(why) => {
                tell(News::Failed {
                    shard: &shard.0,
                    why,
                });
                failed.push(shard.0.clone());
                continue;
            }
        };
        match steps(keyspace.migrations, &entries, &shard.0, &manner.wanted) {
            Ok(steps) => ready.push((shard, connection, steps)),
            Err(own) => obstacles.extend(own.into_iter().map(|one| (shard.0.clone(), one))),
        }
    }
    if !obstacles.is_empty() {
        return Err(RolloutError::Obstacles(obstacles));
    }
    if !failed.is_empty() && !manner.goes_on {
        return Ok(failed);
    }
    let is_canary = |name: &str| manner.canary.as_deref() == Some(name);
    ready.sort_by_key(|((name, _), ..)| !is_canary(name));
    let alone = usize::from(manner.canary.is_some());
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let run = |(shard, connection, steps): (&'k (String, u16), Direct, Vec<Step<'k>>)| async move {
        let done = on_shard(
            catalog,
            keyspace,
            shard,
            connection,
            &steps,
            (token, lost, stop),
            tell,
        )
        .await;
        if !done && (!manner.goes_on || is_canary(&shard.0)) {
            stop.store(true, Ordering::Relaxed);
        }
        (shard.0.clone(), done)
    };
    let rest = ready.split_off(alone.min(ready.len()));
    for (part, parallel) in [(ready, 1), (rest, manner.parallel.max(1))] {
        let results: Vec<(String, bool)> = stream::iter(part)
            .map(run)
            .buffer_unordered(parallel)
            .collect()
            .await;
        failed.extend(
            results
                .into_iter()
                .filter(|(_, done)| !done)
                .map(|(shard, _)| shard),
        );
    }
    Ok(failed)
}

/// One shard's steps. False when one failed.
async fn on_shard(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    (shard, id): &(String, u16),
    mut connection: Direct,
    steps: &[Step<'_>],
    (token, lost, stop): (i64, &watch::Receiver<bool>, &AtomicBool),
    tell: &(dyn Fn(News<'_>) + Sync),
) -> bool {
    if steps.is_empty() {
        return true;
    }
    let fail = |why: String| {
        tell(News::Failed { shard, why });
        false
    };
    let behind = (!keyspace.sharded.is_empty())
        .then(|| range_block(*id, &owned_by_any(keyspace.sharded.iter()), &Fix::Set));
    let place = Place {
        keyspace: keyspace.name,
        token,
        behind: behind.as_deref(),
    };
    let mut all = true;
    for step in steps {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        let mut lost = lost.clone();
        let ended = tokio::select! {
            biased;
            _ = lost.wait_for(|lost| *lost) => Err(StepError::Fenced),
            ended = place.run(&mut connection, step) => ended,
        };
        match ended {
            Ok(()) => tell(News::Done {
                shard,
                migration: step.migration,
                took: started.elapsed(),
            }),
            Err(error) => {
                all = fail(error.to_string());
                break;
            }
        }
    }
    drop(connection);
    // Keyways read the schemas again. One that is not told reads them with the next change.
    if let Err(error) = catalog.raise_epoch().await {
        tracing::warn!(%error, "running Keyways are not told of the change of schema");
    }
    all
}
