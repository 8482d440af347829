//! One table over the shards of its keyspace.

use crate::catalog::Catalog;
use crate::catalog::lease::{Job, shard_lock};
use crate::catalog::servers::Direct;
use crate::partition::convert::ConvertError;
use crate::partition::convert::run::{self, Outcome, Step};
use crate::partition::convert::standing::{self, Order};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What happens, as it happens.
#[derive(Debug)]
pub enum News {
    /// On the way.
    Step(Step),
    /// A shard is through.
    Done(Outcome, Duration),
    /// Nothing is left of a conversion that was begun; false when none was.
    Aborted(bool),
    /// It failed.
    Failed(String),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Convert.
    Convert {
        /// Shards at once.
        parallel: usize,
    },
    /// Take away what was begun.
    Abort,
}

/// The runner.
#[derive(Debug)]
pub struct Runner<'r> {
    /// Its job.
    pub job: Job,
    /// Its number.
    pub token: i64,
    /// True once its lease is lost.
    pub lost: &'r watch::Receiver<bool>,
}

type Tell<'t> = &'t (dyn Fn(&str, News) + Sync);

/// A session on each shard, when all may be converted. Nothing is changed on any shard as long as another one refuses.
async fn opened<'s>(
    catalog: &Catalog,
    shards: &'s [String],
    job: Job,
    tell: Tell<'_>,
) -> Option<Vec<(&'s str, Direct)>> {
    let open = shards.iter().map(|shard| async move {
        let connection = catalog.direct(shard).await.map_err(|e| e.to_string())?;
        // Of a runner that died a statement may still run.
        shard_lock(&connection, job).await?;
        run::open(&connection).await.map_err(|e| e.to_string())?;
        Ok::<_, String>((shard.as_str(), connection))
    });
    let mut sessions = Vec::new();
    for (opened, shard) in join_all(open).await.into_iter().zip(shards) {
        match opened {
            Ok(session) => sessions.push(session),
            Err(why) => tell(shard, News::Failed(why)),
        }
    }
    (sessions.len() == shards.len()).then_some(sessions)
}

/// Carries out a task on all shards. False when it failed somewhere.
pub async fn roll_out(
    catalog: &Catalog,
    shards: &[String],
    order: &Order,
    task: Task,
    runner: &Runner<'_>,
    tell: Tell<'_>,
) -> bool {
    let Some(sessions) = opened(catalog, shards, runner.job, tell).await else {
        return false;
    };
    let parallel = match task {
        Task::Abort => 1,
        Task::Convert { parallel } => {
            let mut is_possible = true;
            for (shard, connection) in &sessions {
                if let Err(error) = standing::analyse(&connection.client, order).await {
                    is_possible = false;
                    tell(shard, News::Failed(error.to_string()));
                }
            }
            if !is_possible {
                return false;
            }
            parallel.max(1)
        }
    };
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let each = |(shard, mut connection): (&str, Direct)| {
        let shard = shard.to_owned();
        async move {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let mut lost = runner.lost.clone();
            let ended = tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => Err(ConvertError::Lost),
                ended = on_shard(catalog, (&shard, &mut connection), order, task, runner, tell) => ended,
            };
            if let Err(error) = ended {
                stop.store(true, Ordering::Relaxed);
                tell(&shard, News::Failed(error.to_string()));
            }
        }
    };
    stream::iter(sessions)
        .map(each)
        .buffer_unordered(parallel)
        .collect::<()>()
        .await;
    !stop.load(Ordering::Relaxed)
}

async fn on_shard(
    catalog: &Catalog,
    (shard, connection): (&str, &mut Direct),
    order: &Order,
    task: Task,
    runner: &Runner<'_>,
    tell: Tell<'_>,
) -> Result<(), ConvertError> {
    let me = (runner.job, runner.token);
    match task {
        Task::Abort => {
            let was = run::abort(connection, &order.table, me).await?;
            tell(shard, News::Aborted(was));
        }
        Task::Convert { .. } => {
            let started = Instant::now();
            let step = |step| tell(shard, News::Step(step));
            let outcome = run::convert(connection, order, me, &step).await;
            // Keyways read the schemas again. One that is not told reads them with the next change.
            if let Err(error) = catalog.raise_epoch().await {
                tracing::warn!(%error, "running Keyways are not told of the change of schema");
            }
            tell(shard, News::Done(outcome?, started.elapsed()));
        }
    }
    Ok(())
}

/// The statements that converting would run on each shard.
pub async fn rehearse(
    catalog: &Catalog,
    shards: &[String],
    order: &Order,
) -> Vec<(String, Result<Vec<String>, String>)> {
    let each = shards.iter().map(|shard| async move {
        let lines = async {
            let connection = catalog.direct(shard).await.map_err(|e| e.to_string())?;
            run::open(&connection).await.map_err(|e| e.to_string())?;
            standing::rehearse(&connection.client, order)
                .await
                .map_err(|e| e.to_string())
        };
        (shard.clone(), lines.await)
    });
    join_all(each).await
}
