//! One keyspace's migrations over all its shards: what each still needs, and the order in which they get it.

use crate::catalog::lease::{self, Job, Lease, shard_lock};
use crate::catalog::servers::{Direct, chain};
use crate::catalog::{Catalog, CatalogError};
use crate::migrate::files::Migration;
use crate::migrate::plan::{Entry, Obstacle, Step, Wanted, steps, steps_back};
use crate::migrate::run::{Place, StepError};
use crate::migrate::{history, required};
use crate::topology::TableName;
use crate::topology::ranges::{Fix, owned_by_any, range_block};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
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

/// Which way.
#[derive(Debug, Clone)]
pub enum Way {
    /// What is missing is run.
    Up(Wanted),
    /// So many versions are undone, the last first.
    Down(usize),
}

/// How a rollout goes.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Which way.
    pub way: Way,
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
    /// A shard has so many steps to do.
    Begun {
        /// The shard.
        shard: &'n str,
        /// Its steps.
        steps: usize,
    },
    /// A shard begins a step.
    Running {
        /// The shard.
        shard: &'n str,
        /// Which.
        step: &'n Step<'n>,
    },
    /// A step is done on a shard.
    Done {
        /// The shard.
        shard: &'n str,
        /// Which.
        step: &'n Step<'n>,
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
                .map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        (shard.clone(), entries)
    });
    join_all(read).await
}

/// A shard that is connected and locked, and its history.
#[derive(Debug)]
pub(super) struct Open<'k> {
    /// Its name and stable id.
    pub(super) shard: &'k (String, u16),
    /// The connection that holds its lock.
    pub(super) connection: Direct,
    /// What it has.
    pub(super) history: Vec<Entry>,
}

/// Connects to all shards of a keyspace and locks them. Returns those that could be, and the names of the others.
///
/// # Errors
/// When one does not answer, unless `goes_on`.
pub(super) async fn open_all<'k>(
    catalog: &Catalog,
    keyspace: &'k Keyspace<'_>,
    goes_on: bool,
    tell: &(dyn Fn(News<'_>) + Sync),
) -> Result<(Vec<Open<'k>>, Vec<String>), CatalogError> {
    let connecting = keyspace
        .shards
        .iter()
        .map(|(shard, _)| catalog.direct(shard));
    let connected = join_all(connecting).await;
    let (mut open, mut failed) = (Vec::new(), Vec::new());
    for (connected, shard) in connected.into_iter().zip(&keyspace.shards) {
        let read = match connected {
            Ok(connection) => read_locked(keyspace, connection).await,
            Err(error) if goes_on => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        match read {
            Ok((connection, history)) => open.push(Open {
                shard,
                connection,
                history,
            }),
            Err(why) => {
                tell(News::Failed {
                    shard: &shard.0,
                    why,
                });
                failed.push(shard.0.clone());
            }
        }
    }
    Ok((open, failed))
}

/// A runner that died may have a statement running, and even a COMMIT: the history is read behind that.
async fn read_locked(
    keyspace: &Keyspace<'_>,
    connection: Direct,
) -> Result<(Direct, Vec<Entry>), String> {
    shard_lock(&connection, Job::Migrations).await?;
    let read = async {
        lease::prepare(&connection.client).await?;
        history::prepare(&connection.client).await?;
        history::read(&connection.client, keyspace.name).await
    };
    let history = read.await.map_err(|error| chain(&error))?;
    Ok((connection, history))
}

/// A shard's steps.
type Ready<'k> = (&'k (String, u16), Direct, Vec<Step<'k>>);

/// What each shard has to do, as its history says, and what stands in the way.
pub fn steps_of<'m>(
    migrations: &'m [Migration],
    shards: &[(String, Vec<Entry>)],
    way: &Way,
) -> (Vec<Vec<Step<'m>>>, Vec<(String, Obstacle)>) {
    let mut obstacles = Vec::new();
    let all = match way {
        Way::Up(wanted) => shards
            .iter()
            .map(|(shard, history)| {
                steps(migrations, history, shard, wanted).unwrap_or_else(|own| {
                    obstacles.extend(own.into_iter().map(|one| (shard.clone(), one)));
                    Vec::new()
                })
            })
            .collect(),
        Way::Down(count) => steps_back(migrations, shards, *count).unwrap_or_else(|own| {
            obstacles = own;
            Vec::new()
        }),
    };
    (all, obstacles)
}

/// Brings all shards of a keyspace up to date, or back. Returns the shards that failed.
///
/// # Errors
/// When something stands in the way before anything was run.
pub async fn roll_out<'k>(
    catalog: &Catalog,
    keyspace: &'k Keyspace<'_>,
    manner: &Manner,
    lease: &Lease,
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
    let (open, mut failed) = open_all(catalog, keyspace, manner.goes_on, tell).await?;
    let read: Vec<(String, Vec<Entry>)> = open
        .iter()
        .map(|open| (open.shard.0.clone(), open.history.clone()))
        .collect();
    let (steps, obstacles) = steps_of(keyspace.migrations, &read, &manner.way);
    if !obstacles.is_empty() {
        return Err(RolloutError::Obstacles(obstacles));
    }
    let zipped = open.into_iter().zip(steps);
    let mut ready: Vec<Ready<'k>> = zipped
        .map(|(open, steps)| (open.shard, open.connection, steps))
        .collect();
    if !failed.is_empty() && !manner.goes_on {
        return Ok(failed);
    }
    if matches!(manner.way, Way::Down(_)) {
        let keys = ready.iter().flat_map(|(.., steps)| steps);
        required::lower(catalog, keyspace, keys.map(|step| &step.migration.key)).await?;
    }
    let is_canary = |name: &str| manner.canary.as_deref() == Some(name);
    ready.sort_by_key(|((name, _), ..)| !is_canary(name));
    let alone = usize::from(manner.canary.is_some());
    let stop = AtomicBool::new(false);
    let stop = &stop;
    for ((shard, _), _, steps) in &ready {
        tell(News::Begun {
            shard,
            steps: steps.len(),
        });
    }
    let run = |(shard, connection, steps): Ready<'k>| async move {
        let done = on_shard(
            catalog,
            keyspace,
            shard,
            connection,
            &steps,
            (lease, stop),
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
    required::raise(catalog, keyspace, lease.token).await?;
    Ok(failed)
}

/// One shard's steps. False when one failed.
async fn on_shard(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    (shard, id): &(String, u16),
    mut connection: Direct,
    steps: &[Step<'_>],
    (lease, stop): (&Lease, &AtomicBool),
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
        token: lease.token,
        behind: behind.as_deref(),
    };
    let mut all = true;
    for step in steps {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        tell(News::Running { shard, step });
        let mut lost = lease.lost.clone();
        let ended = tokio::select! {
            biased;
            _ = lost.wait_for(|lost| *lost) => Err(StepError::Fenced),
            ended = place.run(&mut connection, step) => ended,
        };
        match ended {
            Ok(()) => tell(News::Done {
                shard,
                step,
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
