//! One keyspace's partitions over all its shards.

use crate::catalog::Catalog;
use crate::catalog::lease::{self, Job, shard_lock};
use crate::catalog::servers::{Direct, chain};
use crate::config::partitions::{Declared, Partitioned};
use crate::config::values::TableName;
use crate::partition::calendar::{HOUR, SECOND};
use crate::partition::line::Axis;
use crate::partition::look::{Reach, look, micros, open};
use crate::partition::retired;
use crate::partition::run::{Place, StepError};
use crate::partition::steps::Step;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// Shards at once.
const PARALLEL: usize = 4;

/// How far the clocks of a shard and of this machine may be apart.
const CLOCKS_APART_MAX: i128 = HOUR;

/// A keyspace whose tables have partitions.
#[derive(Debug, Clone, Copy)]
pub struct Keyspace<'k> {
    /// Its name.
    pub name: &'k str,
    /// Its shards, in order.
    pub shards: &'k [String],
    /// Its declarations.
    pub declared: &'k Declared,
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What time it is.
    pub now: OffsetDateTime,
    /// A shard that fails does not stop the others.
    pub goes_on: bool,
    /// How long a DETACH … CONCURRENTLY waits for old transactions before it is left to the next run.
    pub patience: Duration,
}

/// The runner's lease: its number, and whether it is lost.
#[derive(Debug, Clone, Copy)]
pub struct Right<'l> {
    /// Greater than every runner's before.
    pub token: i64,
    /// True once it is lost.
    pub lost: &'l watch::Receiver<bool>,
}

/// How a shard came out of a run.
#[derive(Debug)]
pub struct ShardOutcome {
    /// The shard.
    pub shard: String,
    /// Why nothing could be done on it.
    pub failure: Option<String>,
    /// Its tables, those that the run came to.
    pub tables: Vec<TableOutcome>,
}

/// How a table came out of a run on a shard.
#[derive(Debug)]
pub struct TableOutcome {
    /// The table.
    pub table: TableName,
    /// Steps that were done.
    pub done: usize,
    /// How far its partitions reach now; `None` for one by hash, and when it could not be read.
    pub reach: Option<Reach>,
    /// What could not be done.
    pub failures: Vec<String>,
}

impl ShardOutcome {
    /// Is everything as it is declared?
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failure.is_none() && self.tables.iter().all(|table| table.failures.is_empty())
    }
}

/// What happens, as it happens.
#[derive(Debug)]
pub enum News<'n> {
    /// A step is done.
    Done {
        /// The shard.
        shard: &'n str,
        /// The step.
        step: &'n Step,
        /// How long it took.
        took: Duration,
    },
    /// Something could not be done.
    Failed {
        /// The shard.
        shard: &'n str,
        /// The table, unless it is the shard as a whole.
        table: Option<&'n TableName>,
        /// Why.
        why: &'n str,
    },
}

/// Tells of what happens.
pub type Tell<'t> = &'t (dyn Fn(News<'_>) + Sync);

/// Makes the partitions of a keyspace on all its shards what they are declared to be. Cancel safe: what was cut off is ended by
/// the next run.
pub async fn keep(
    catalog: &Catalog,
    keyspace: Keyspace<'_>,
    manner: &Manner,
    right: Right<'_>,
    tell: Tell<'_>,
) -> Vec<ShardOutcome> {
    let stop = AtomicBool::new(false);
    let stop = &stop;
    let run = |shard: &String| {
        let shard = shard.clone();
        async move {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let outcome = on_shard(catalog, &keyspace, &shard, manner, right, tell).await;
            if !outcome.is_good() && !manner.goes_on {
                stop.store(true, Ordering::Relaxed);
            }
            Some(outcome)
        }
    };
    let parallel = if manner.goes_on { PARALLEL } else { 1 };
    let runs: Vec<_> = keyspace.shards.iter().map(run).collect();
    let outcomes: Vec<Option<ShardOutcome>> = stream::iter(runs).buffered(parallel).collect().await;
    outcomes.into_iter().flatten().collect()
}

async fn on_shard(
    catalog: &Catalog,
    keyspace: &Keyspace<'_>,
    shard: &str,
    manner: &Manner,
    right: Right<'_>,
    tell: Tell<'_>,
) -> ShardOutcome {
    let mut outcome = ShardOutcome {
        shard: shard.to_owned(),
        failure: None,
        tables: Vec::new(),
    };
    if keyspace.declared.is_empty() {
        return outcome;
    }
    let mut connection = match ready(catalog, shard).await {
        Ok(connection) => connection,
        Err(why) => {
            tell(News::Failed {
                shard,
                table: None,
                why: &why,
            });
            outcome.failure = Some(why);
            return outcome;
        }
    };
    let mut changed = false;
    for (table, declared) in keyspace.declared {
        let one = Task {
            shard,
            table,
            declared,
            manner,
            right,
            tell,
        };
        let own = one.run(&mut connection, &mut changed).await;
        outcome.tables.push(own);
        if connection.client.is_closed() || *right.lost.borrow() {
            let why =
                "the connection or the lease is lost; the tables behind are left to the next run";
            tell(News::Failed {
                shard,
                table: None,
                why,
            });
            outcome.failure = Some(why.to_owned());
            break;
        }
    }
    drop(connection);
    // Keyways read the schemas again. One that is not told reads them with the next change.
    if changed && let Err(error) = catalog.raise_epoch().await {
        tracing::warn!(%error, "running Keyways are not told of the change of schema");
    }
    outcome
}

/// A connection that no other runner works beside.
async fn ready(catalog: &Catalog, shard: &str) -> Result<Direct, String> {
    let connection = open(catalog, shard).await?;
    shard_lock(&connection, Job::Partitions).await?;
    let clock =
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8";
    let prepared = async {
        lease::prepare(&connection.client).await?;
        retired::prepare(&connection.client).await?;
        connection.client.query_one(clock, &[]).await?.try_get(0)
    };
    let there: i64 = prepared.await.map_err(|error| chain(&error))?;
    agree(micros(OffsetDateTime::now_utc()), there.into())?;
    Ok(connection)
}

/// Do two clocks tell about the same time? A wrong one would have partitions dropped that are not old.
pub(super) fn agree(here: i128, there: i128) -> Result<(), String> {
    if (here - there).abs() <= CLOCKS_APART_MAX {
        return Ok(());
    }
    let told = |at: i128| Axis::TimestampTz.text(at - at.rem_euclid(SECOND));
    Err(format!(
        "here it is {}, and there {}; partitions are not touched while the clocks are so far apart",
        told(here),
        told(there)
    ))
}

/// One table of one shard.
struct Task<'t> {
    shard: &'t str,
    table: &'t TableName,
    declared: &'t Partitioned,
    manner: &'t Manner,
    right: Right<'t>,
    tell: Tell<'t>,
}

impl Task<'_> {
    async fn run(&self, connection: &mut Direct, changed: &mut bool) -> TableOutcome {
        let mut outcome = TableOutcome {
            table: self.table.clone(),
            done: 0,
            reach: None,
            failures: Vec::new(),
        };
        let found = look(
            &connection.client,
            self.table,
            self.declared,
            self.manner.now,
        );
        let found = match found.await {
            Ok(found) => found,
            Err(why) => {
                self.fail(&mut outcome, why);
                return outcome;
            }
        };
        for problem in found.problems.clone() {
            self.fail(&mut outcome, problem);
        }
        outcome.reach = found.reach;
        let place = Place {
            table: found.table(self.declared),
            parent: &found.parent.name,
            oid: found.parent.oid,
            token: self.right.token,
            patience: self.manner.patience,
        };
        if !found.stale.is_empty()
            && let Err(error) = place.forget(&mut connection.client, &found.stale).await
        {
            self.fail(&mut outcome, error.to_string());
        }
        let mut is_detaching = false;
        for step in &found.steps {
            let detaches = matches!(step, Step::Finalize(_) | Step::Retire { .. });
            // PostgreSQL detaches one at a time.
            if detaches && is_detaching {
                continue;
            }
            let started = Instant::now();
            let mut lost = self.right.lost.clone();
            *changed = true;
            let ended = tokio::select! {
                biased;
                _ = lost.wait_for(|lost| *lost) => Err(StepError::Fenced),
                ended = place.run(&mut connection.client, step) => ended,
            };
            match ended {
                Ok(()) => {
                    outcome.done += 1;
                    (self.tell)(News::Done {
                        shard: self.shard,
                        step,
                        took: started.elapsed(),
                    });
                }
                Err(error) => {
                    is_detaching |= matches!(error, StepError::Waits { .. });
                    let is_over = matches!(error, StepError::Fenced | StepError::Server { .. });
                    self.fail(&mut outcome, error.to_string());
                    if is_over {
                        return outcome;
                    }
                }
            }
        }
        if outcome.done > 0 {
            let again = look(
                &connection.client,
                self.table,
                self.declared,
                self.manner.now,
            );
            match again.await {
                Ok(found) => outcome.reach = found.reach,
                Err(why) => self.fail(&mut outcome, why),
            }
        }
        outcome
    }

    fn fail(&self, outcome: &mut TableOutcome, why: String) {
        (self.tell)(News::Failed {
            shard: self.shard,
            table: Some(self.table),
            why: &why,
        });
        outcome.failures.push(why);
    }
}
