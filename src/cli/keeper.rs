//! Keeps declared partitions ahead of the clock while the router runs. One Keyway of all does it, by the lease; the others
//! look how far they reach.

use crate::catalog::Catalog;
use crate::catalog::lease::{Held, Job, Lease, holder};
use crate::catalog::servers::chain;
use crate::cli::Failure;
use crate::config::partition_files::declarations;
use crate::config::partitions::{Declared, Partitioned, Span, Unit};
use crate::config::values::TableName;
use crate::config::{Config, Problems};
use crate::metrics::{Metrics, PartitionRun};
use crate::partition::look::{Reach, look, open};
use crate::partition::rollout::{Keyspace, Manner, News, Right, keep};
use std::collections::BTreeMap;
use std::time::Duration;
use time::OffsetDateTime;

/// A table whose partitions end sooner is warned of, unless so few are declared.
const HORIZON: Duration = Duration::from_secs(14 * 86_400);

/// How long a DETACH … CONCURRENTLY waits before it is left to the next run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds that a table's partitions reach ahead where they reach least, by keyspace and table.
type Horizons = BTreeMap<(String, String), i64>;

/// Makes all partitions before the router starts, waiting for another runner as long as `wait`.
///
/// # Errors
/// When some are not as declared.
pub(super) async fn at_start(config: &Config, wait: Duration) -> Result<(), Failure> {
    let declared = declarations(config, &config.migrations)?;
    if declared.values().all(BTreeMap::is_empty) {
        return Ok(());
    }
    let (catalog, _) = Catalog::open(config).await?;
    let metrics = Metrics::new();
    let round = Round {
        catalog: &catalog,
        config,
        declared,
        metrics: &metrics,
    };
    let lease = round.lease(wait).await.map_err(Failure::Other)?;
    let lease = lease.map_err(|held| Failure::Other(held.to_string()))?;
    let run = round.keep(&lease).await;
    lease.release().await;
    match run {
        PartitionRun::Done => Ok(()),
        PartitionRun::Failed | PartitionRun::Held => Err(Failure::Other(
            "not started: partitions are missing; `keyway partition status` shows which".to_owned(),
        )),
    }
}

/// Everything declared, once. Tells the metrics and the log.
pub(super) async fn look_after(
    catalog: &Catalog,
    config: &Config,
    metrics: &Metrics,
) -> PartitionRun {
    let run = match declarations(config, &config.migrations) {
        Ok(declared) if declared.values().all(BTreeMap::is_empty) => return PartitionRun::Done,
        Ok(declared) => {
            Round {
                catalog,
                config,
                declared,
                metrics,
            }
            .run()
            .await
        }
        Err(problems) => {
            for problem in Problems::iter(&problems) {
                tracing::error!(%problem, "partitions are not looked after");
            }
            PartitionRun::Failed
        }
    };
    metrics.partition_run(run);
    run
}

struct Round<'r> {
    catalog: &'r Catalog,
    config: &'r Config,
    declared: BTreeMap<String, Declared>,
    metrics: &'r Metrics,
}

impl Round<'_> {
    async fn run(&self) -> PartitionRun {
        match self.lease(Duration::ZERO).await {
            Err(why) => {
                tracing::warn!(why, "partitions are not looked after");
                PartitionRun::Failed
            }
            Ok(Err(_)) => {
                self.look().await;
                PartitionRun::Held
            }
            Ok(Ok(lease)) => {
                let run = self.keep(&lease).await;
                lease.release().await;
                run
            }
        }
    }

    /// The lease, or who has it.
    async fn lease(&self, wait: Duration) -> Result<Result<Lease, Held>, String> {
        let connection = self.catalog.direct(&self.catalog.holder_name()).await;
        let connection = connection.map_err(|error| error.to_string())?;
        let lease = Lease::take(connection, Job::Partitions, &holder(), wait).await;
        lease.map_err(|error| chain(&error))
    }

    fn keyspaces(&self) -> impl Iterator<Item = Keyspace<'_>> {
        self.declared.iter().filter_map(|(name, declared)| {
            let shards = &self.config.keyspaces.get(name)?.shards;
            Some(Keyspace {
                name,
                shards,
                declared,
            })
        })
    }

    async fn keep(&self, lease: &Lease) -> PartitionRun {
        let manner = Manner {
            now: OffsetDateTime::now_utc(),
            goes_on: true,
            patience: PATIENCE,
        };
        let right = Right {
            token: lease.token,
            lost: &lease.lost,
        };
        let mut horizons = Horizons::new();
        let mut run = PartitionRun::Done;
        for keyspace in self.keyspaces() {
            let name = keyspace.name;
            let tell = |news: News<'_>| match news {
                News::Done { shard, step, took } => {
                    tracing::info!(keyspace = name, shard, ?took, "{}", step.words());
                }
                News::Failed { shard, table, why } => {
                    let table = table.map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(
                        keyspace = name,
                        shard,
                        table,
                        why,
                        "partitions are not as declared"
                    );
                }
            };
            for outcome in keep(self.catalog, keyspace, &manner, right, &tell).await {
                if !outcome.is_good() {
                    run = PartitionRun::Failed;
                }
                for table in &outcome.tables {
                    let place = (name, outcome.shard.as_str(), &table.table);
                    note(
                        &mut horizons,
                        place,
                        &keyspace.declared[&table.table],
                        table.reach,
                    );
                }
            }
        }
        self.metrics.set_partition_horizons(horizons);
        run
    }

    /// How far partitions reach that another Keyway keeps.
    async fn look(&self) {
        let now = OffsetDateTime::now_utc();
        let mut horizons = Horizons::new();
        for keyspace in self.keyspaces() {
            for shard in keyspace.shards {
                // Who keeps them says what is wrong.
                let Ok(connection) = open(self.catalog, shard).await else {
                    continue;
                };
                for (table, declared) in keyspace.declared {
                    if let Ok(found) = look(&connection.client, table, declared, now).await {
                        let place = (keyspace.name, shard.as_str(), table);
                        note(&mut horizons, place, declared, found.reach);
                    }
                }
            }
        }
        self.metrics.set_partition_horizons(horizons);
    }
}

/// Notes how far a table's partitions reach on a shard, and warns when that is not far.
fn note(
    horizons: &mut Horizons,
    (keyspace, shard, table): (&str, &str, &TableName),
    declared: &Partitioned,
    reach: Option<Reach>,
) {
    let Some(ahead) = reach
        .filter(|reach| reach.axis.is_time())
        .and_then(|reach| reach.ahead())
    else {
        return;
    };
    let seconds = i64::try_from(ahead / 1_000_000).unwrap_or(i64::MAX);
    let wanted = promised(declared).min(HORIZON);
    if ahead < i128::try_from(wanted.as_micros()).unwrap_or(i128::MAX) {
        tracing::warn!(
            keyspace,
            shard,
            %table,
            "partitions end in {} days and {} hours; `keyway partition status` says what is missing",
            seconds / 86_400,
            seconds / 3_600 % 24
        );
    }
    let key = (keyspace.to_owned(), table.to_string());
    let least = horizons.entry(key).or_insert(seconds);
    *least = seconds.min(*least);
}

/// How far the partitions reach at least when all are there.
fn promised(declared: &Partitioned) -> Duration {
    let Some(Span::Time(_, unit)) = declared.range.as_ref().map(|range| range.every) else {
        return Duration::MAX;
    };
    let hours = match unit {
        Unit::Hour => 1,
        Unit::Day => 24,
        Unit::Week => 7 * 24,
        Unit::Month => 28 * 24,
        Unit::Quarter => 90 * 24,
        Unit::Year => 365 * 24,
    };
    Duration::from_secs(3_600 * hours * u64::from(declared.ahead))
}

/// A time from 0.9 to 1.1 of `every`, so that Keyways that were started at once do not ask at once.
pub(super) fn about(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * chance())
}

/// From 0 to 1. Where the system gives no chance, a half: nothing depends on it but who comes first.
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
