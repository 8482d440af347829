//! The numbers as Prometheus reads them (OpenMetrics text).

use crate::metrics::{
    BOUNDS, CacheWatch, Count, FIRST_BOUND_BITS, FollowStanding, Level, Metrics, Outcome,
    PartitionRun, QueryPlan, REASONS_MAX, ShardMetrics, SharedStanding, Times, WorkerMetrics,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Picks one number of a shard's.
type Of<T> = fn(&ShardMetrics) -> &T;

/// Names and values.
type Labels = Vec<(&'static str, String)>;

impl Metrics {
    /// The HTTP content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Everything, as text.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Snapshot {
            metrics: Arc::clone(self),
        }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[derive(Debug)]
struct Snapshot {
    metrics: Arc<Metrics>,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let workers = self.metrics.all_workers();
        let mut page = Page { encoder, workers };
        page.info(
            "keyway_build",
            "This Keyway.",
            &[("version", env!("CARGO_PKG_VERSION"))],
        )?;
        page.gauge(
            "keyway_topology_epoch",
            "The published topology's epoch.",
            &[(Vec::new(), self.metrics.epoch())],
        )?;
        page.gauge(
            "keyway_shards_unread",
            "Shards whose schema could not be read.",
            &[(Vec::new(), self.metrics.unread())],
        )?;
        page.gauge(
            "keyway_shards_behind",
            "Shards that nothing is sent to, since they lack a migration.",
            &[(Vec::new(), self.metrics.behind())],
        )?;
        page.gauge(
            "keyway_draining",
            "1 while leaving.",
            &[(Vec::new(), self.metrics.leaving())],
        )?;

        page.gauge(
            "keyway_partition_horizon_seconds",
            "How far a table's declared partitions reach ahead of now, on the shard where they reach least.",
            &self.metrics.horizons(),
        )?;
        page.counter(
            "keyway_partition_runs",
            "Looks at all declared partitions, by how they ended.",
            &self.metrics.runs(),
        )?;

        page.level("keyway_clients", "Clients connected.", |worker| {
            &worker.clients
        })?;
        page.count(
            "keyway_clients_accepted",
            "Clients ever accepted.",
            |worker| &worker.clients_accepted,
        )?;
        page.count("keyway_logins_failed", "Logins that failed.", |worker| {
            &worker.logins_failed
        })?;
        page.count("keyway_cancels", "Cancel requests.", |worker| {
            &worker.cancels
        })?;
        page.directions(
            "keyway_client_bytes",
            "Bytes from (in) and to (out) clients.",
            |worker| (&worker.client_bytes_in, &worker.client_bytes_out),
        )?;
        page.directions(
            "keyway_server_bytes",
            "Bytes from (in) and to (out) servers.",
            |worker| (&worker.server_bytes_in, &worker.server_bytes_out),
        )?;

        page.queries()?;
        page.refusals()?;
        page.count(
            "keyway_plan_cache_hits",
            "Plans found in the cache.",
            |worker| &worker.plan_cache_hits,
        )?;
        page.count("keyway_plan_cache_misses", "Plans made.", |worker| {
            &worker.plan_cache_misses
        })?;
        page.level("keyway_plan_cache_entries", "Plans kept.", |worker| {
            &worker.plan_cache_entries
        })?;

        if let Some(watch) = self.metrics.cache.get() {
            page.cache(watch)?;
        }
        if let Some(followed) = self.metrics.followed() {
            page.followed(&followed)?;
        }

        if let Some(shared) = self.metrics.shared() {
            page.shared(&shared)?;
        }

        let waits = page.sum_times(|worker| &worker.checkout_waits);
        page.times(
            "keyway_checkout_wait",
            "Waits for a free server, those that had to wait.",
            &[(Vec::new(), waits)],
        )?;
        page.count(
            "keyway_checkout_timeouts",
            "Waits that ended without a server.",
            |worker| &worker.checkout_timeouts,
        )?;
        page.servers()?;
        process(&mut page)
    }
}

impl Metrics {
    fn epoch(&self) -> i64 {
        signed(self.epoch.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn unread(&self) -> i64 {
        signed(
            self.shards_unread
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    fn behind(&self) -> i64 {
        signed(
            self.shards_behind
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    fn horizons(&self) -> Vec<(Labels, i64)> {
        let horizons = self.partitions.horizons.lock();
        let horizons = horizons.unwrap_or_else(PoisonError::into_inner);
        let labelled = horizons.iter().map(|((keyspace, table), seconds)| {
            let labels = vec![("keyspace", keyspace.clone()), ("table", table.clone())];
            (labels, *seconds)
        });
        labelled.collect()
    }

    fn runs(&self) -> Vec<(Labels, u64)> {
        let labelled = PartitionRun::ALL.iter().map(|(run, name)| {
            let count = &self.partitions.runs[*run as usize];
            let count = count.load(std::sync::atomic::Ordering::Relaxed);
            (vec![("outcome", (*name).to_owned())], count)
        });
        labelled.collect()
    }

    fn leaving(&self) -> i64 {
        signed(self.draining.load(std::sync::atomic::Ordering::Relaxed))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
    workers: Vec<Arc<WorkerMetrics>>,
}

impl Page<'_> {
    fn info(
        &mut self,
        name: &str,
        help: &str,
        labels: &[(&'static str, &'static str)],
    ) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(&Pairs(labels))
    }

    fn gauge(&mut self, name: &str, help: &str, values: &[(Labels, i64)]) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            if labels.is_empty() {
                metric.encode_gauge(value)?;
            } else {
                metric.encode_family(labels)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, values: &[(Labels, u64)]) -> fmt::Result {
        let mut metric = self
            .encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            } else {
                metric
                    .encode_family(labels)?
                    .encode_counter::<NoLabelSet, _, u64>(value, None)?;
            }
        }
        Ok(())
    }

    fn sum(&self, of: impl Fn(&WorkerMetrics) -> &Count) -> u64 {
        self.workers.iter().map(|worker| of(worker).get()).sum()
    }

    fn count(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(&WorkerMetrics) -> &Count,
    ) -> fmt::Result {
        let total = self.sum(of);
        self.counter(name, help, &[(Vec::new(), total)])
    }

    fn level(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(&WorkerMetrics) -> &Level,
    ) -> fmt::Result {
        let total = self.workers.iter().map(|worker| of(worker).get()).sum();
        self.gauge(name, help, &[(Vec::new(), total)])
    }

    fn directions(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(&WorkerMetrics) -> (&Count, &Count),
    ) -> fmt::Result {
        let (into, out) = (
            self.sum(|worker| of(worker).0),
            self.sum(|worker| of(worker).1),
        );
        let label = |direction: &str| vec![("direction", direction.to_owned())];
        self.counter(name, help, &[(label("in"), into), (label("out"), out)])
    }

    fn queries(&mut self) -> fmt::Result {
        let mut counts = Vec::new();
        for (plan, plan_name) in QueryPlan::ALL {
            for (outcome, outcome_name) in Outcome::ALL {
                let labels = vec![
                    ("plan", plan_name.to_owned()),
                    ("outcome", outcome_name.to_owned()),
                ];
                counts.push((
                    labels,
                    self.sum(|worker| &worker.queries[plan as usize][outcome as usize]),
                ));
            }
        }
        self.counter(
            "keyway_queries",
            "Queries, by kind of plan and outcome.",
            &counts,
        )?;
        let times: Vec<_> = QueryPlan::ALL
            .iter()
            .map(|(plan, name)| {
                let summed = self.sum_times(|worker| &worker.query_times[*plan as usize]);
                (vec![("plan", (*name).to_owned())], summed)
            })
            .collect();
        self.times(
            "keyway_query",
            "From a query's arrival to the end of its reply.",
            &times,
        )
    }

    fn refusals(&mut self) -> fmt::Result {
        let mut summed: BTreeMap<String, u64> = BTreeMap::new();
        for worker in &self.workers {
            for (sqlstate, count) in worker
                .refusals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                *summed.entry(sqlstate.clone()).or_default() += count;
            }
        }
        let values: Vec<_> = summed
            .into_iter()
            .map(|(sqlstate, count)| (vec![("sqlstate", sqlstate)], count))
            .collect();
        self.counter(
            "keyway_refusals",
            "Keyway's own errors, by SQLSTATE.",
            &values,
        )
    }

    /// Only where answers are kept.
    fn cache(&mut self, watch: &CacheWatch) -> fmt::Result {
        let standing = (watch.standing)();
        let all = |value| [(Vec::new(), value)];
        self.gauge(
            "keyway_cache_entries",
            "Answers kept.",
            &all(standing.entries),
        )?;
        self.gauge(
            "keyway_cache_bytes",
            "Bytes that they take.",
            &all(standing.bytes),
        )?;
        self.gauge(
            "keyway_cache_writes_in_doubt",
            "Writes whose end nobody has seen; what they may change is not kept meanwhile.",
            &all(standing.in_doubt),
        )?;
        let hits = |count: fn(&WorkerMetrics) -> &Count| -> u64 {
            self.workers.iter().map(|worker| count(worker).get()).sum()
        };
        let layers = [
            ("memory", hits(|worker| &worker.cache_hits)),
            ("redis", hits(|worker| &worker.cache_hits_shared)),
        ];
        self.counter(
            "keyway_cache_hits",
            "Kept answers given, by where they were.",
            &layers.map(|(layer, count)| (vec![("layer", layer.to_owned())], count)),
        )?;
        self.count(
            "keyway_cache_misses",
            "Answers looked for and not found.",
            |worker| &worker.cache_misses,
        )?;
        self.count(
            "keyway_cache_stores",
            "Answers that came and were kept.",
            |worker| &worker.cache_stores,
        )?;
        self.count(
            "keyway_cache_waits",
            "Waits for an answer that another session had asked for.",
            |worker| &worker.cache_waits,
        )?;
        let refreshes = |count: fn(&WorkerMetrics) -> &Count| -> u64 {
            self.workers.iter().map(|worker| count(worker).get()).sum()
        };
        let refreshes = [
            ("kept", refreshes(|worker| &worker.cache_refreshes)),
            ("failed", refreshes(|worker| &worker.cache_refreshes_failed)),
            (
                "dropped",
                refreshes(|worker| &worker.cache_refreshes_dropped),
            ),
        ];
        let values =
            refreshes.map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        self.counter(
            "keyway_cache_refreshes",
            "Answers asked for again without a client, by what became of them.",
            &values,
        )?;
        self.count(
            "keyway_cache_stale_served",
            "Answers given though they were void, because their shard could not be reached.",
            |worker| &worker.cache_stale,
        )?;
        self.counter(
            "keyway_cache_evictions",
            "Answers that had to make room.",
            &[(Vec::new(), standing.evictions)],
        )?;
        self.counter(
            "keyway_cache_flushes",
            "Times that answers were dropped by somebody's wish.",
            &[(Vec::new(), standing.flushes)],
        )?;
        let passed_by = |number: usize| -> u64 {
            let counts = self.workers.iter();
            counts
                .map(|worker| worker.cache_passed_by.0[number].get())
                .sum()
        };
        let values: Vec<_> = watch
            .reasons
            .iter()
            .take(REASONS_MAX)
            .enumerate()
            .map(|(number, name)| (vec![("reason", (*name).to_owned())], passed_by(number)))
            .collect();
        self.counter(
            "keyway_cache_passed_by",
            "Statements that the cache has no part in, by the reason.",
            &values,
        )
    }

    /// Only where versions are shared with other Keyways.
    fn shared(&mut self, shared: &SharedStanding) -> fmt::Result {
        let one = |number: u64| [(Vec::new(), number)];
        let level = |number: u64| [(Vec::new(), i64::try_from(number).unwrap_or(i64::MAX))];
        self.gauge(
            "keyway_cache_redis_breaker_open",
            "1 while Redis is away and nothing is asked of it.",
            &level(u64::from(shared.is_away)),
        )?;
        self.gauge(
            "keyway_cache_redis_in_step",
            "1 while other Keyways' writes are heard of.",
            &level(u64::from(!shared.is_out_of_step)),
        )?;
        if let Some(lag) = shared.lag_us {
            self.gauge(
                "keyway_cache_redis_lag_microseconds",
                "How long it took last to hear of a write.",
                &level(lag),
            )?;
        }
        self.gauge(
            "keyway_cache_redis_marks",
            "Writes of this Keyway that are on their way, or that Redis was not told the end of.",
            &level(shared.marks),
        )?;
        self.counter(
            "keyway_cache_redis_operations",
            "Questions to Redis.",
            &one(shared.operations),
        )?;
        let failures = [("error", shared.errors), ("timeout", shared.timeouts)];
        self.counter(
            "keyway_cache_redis_failures",
            "Questions that Redis did not answer, or not in time.",
            &failures.map(|(kind, count)| (vec![("kind", kind.to_owned())], count)),
        )?;
        self.counter(
            "keyway_cache_redis_connections",
            "Connections made to Redis.",
            &one(shared.connections),
        )?;
        self.counter(
            "keyway_cache_redis_heard",
            "Messages of other Keyways.",
            &one(shared.heard),
        )?;
        let answers = [
            ("looked_for", shared.gets),
            ("there", shared.found),
            ("put", shared.puts),
            ("put_dropped", shared.puts_dropped),
        ];
        self.counter(
            "keyway_cache_redis_answers",
            "Answers in Redis, by what was done.",
            &answers.map(|(what, count)| (vec![("done", what.to_owned())], count)),
        )
    }

    /// Only where changes on the shards are followed.
    fn followed(&mut self, shards: &[FollowStanding]) -> fmt::Result {
        let label = |shard: &FollowStanding| vec![("shard", shard.shard.clone())];
        let gauge = |of: fn(&FollowStanding) -> u64| -> Vec<(Labels, i64)> {
            let bounded = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            shards
                .iter()
                .map(|shard| (label(shard), bounded(of(shard))))
                .collect()
        };
        let counter = |of: fn(&FollowStanding) -> u64| -> Vec<(Labels, u64)> {
            shards
                .iter()
                .map(|shard| (label(shard), of(shard)))
                .collect()
        };
        self.gauge(
            "keyway_cache_follow_connected",
            "1 while the shard tells of its changes.",
            &gauge(|shard| u64::from(shard.connected)),
        )?;
        self.gauge(
            "keyway_cache_follow_in_step",
            "1 while its changes arrive in time; otherwise nothing of it is kept.",
            &gauge(|shard| u64::from(shard.in_step)),
        )?;
        self.gauge(
            "keyway_cache_follow_lag_bytes",
            "Bytes of its log that have not arrived.",
            &gauge(|shard| shard.lag_bytes),
        )?;
        self.gauge(
            "keyway_cache_follow_lag_milliseconds",
            "How long ago it was that everything committed until then has arrived.",
            &gauge(|shard| shard.lag_ms),
        )?;
        self.counter(
            "keyway_cache_follow_changes",
            "Transactions that changed something.",
            &counter(|shard| shard.changes),
        )?;
        self.counter(
            "keyway_cache_follow_reconnects",
            "Tries to connect again.",
            &counter(|shard| shard.reconnects),
        )
    }

    fn servers(&mut self) -> fmt::Result {
        let mut shards: BTreeMap<String, Vec<Arc<ShardMetrics>>> = BTreeMap::new();
        for worker in &self.workers {
            for (name, shard) in worker
                .shards
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
            {
                shards
                    .entry(name.clone())
                    .or_default()
                    .push(Arc::clone(shard));
            }
        }
        let states: [(&str, Of<Level>); 3] = [
            ("idle", |shard| &shard.idle),
            ("busy", |shard| &shard.busy),
            ("opening", |shard| &shard.opening),
        ];
        let mut values = Vec::new();
        for (name, of_workers) in &shards {
            for (state, of) in states {
                let total = of_workers.iter().map(|shard| of(shard).get()).sum();
                values.push((
                    vec![("shard", name.clone()), ("state", state.to_owned())],
                    total,
                ));
            }
        }
        self.gauge(
            "keyway_servers",
            "Server connections, by shard and state.",
            &values,
        )?;
        let counts: [(&str, &str, Of<Count>); 5] = [
            (
                "keyway_servers_opened",
                "Server connections opened.",
                |shard| &shard.opened,
            ),
            (
                "keyway_servers_failed",
                "Server connections that could not be opened.",
                |shard| &shard.failed,
            ),
            (
                "keyway_servers_closed",
                "Server connections closed.",
                |shard| &shard.closed,
            ),
            (
                "keyway_servers_doubted",
                "Server connections closed in doubt about their state.",
                |shard| &shard.doubted,
            ),
            (
                "keyway_checkouts",
                "Times that a session took a server.",
                |shard| &shard.checkouts,
            ),
        ];
        for (name, help, of) in counts {
            let values: Vec<_> = shards
                .iter()
                .map(|(shard, of_workers)| {
                    (
                        vec![("shard", shard.clone())],
                        of_workers.iter().map(|shard| of(shard).get()).sum(),
                    )
                })
                .collect();
            self.counter(name, help, &values)?;
        }
        Ok(())
    }

    fn sum_times(&self, of: impl Fn(&WorkerMetrics) -> &Times) -> SummedTimes {
        let mut summed = SummedTimes {
            buckets: [0; BOUNDS],
            micros: 0,
        };
        for worker in &self.workers {
            let times = of(worker);
            for (total, bucket) in summed.buckets.iter_mut().zip(&times.buckets) {
                *total += bucket.get();
            }
            summed.micros += times.micros.get();
        }
        summed
    }

    fn times(&mut self, name: &str, help: &str, values: &[(Labels, SummedTimes)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(
            name,
            help,
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, times) in values {
            let buckets: Vec<(f64, u64)> = (FIRST_BOUND_BITS..)
                .zip(times.buckets)
                .map(|(bits, count)| {
                    let last = bits as usize == FIRST_BOUND_BITS as usize + BOUNDS - 1;
                    (if last { f64::MAX } else { seconds(1 << bits) }, count)
                })
                .collect();
            let count = times.buckets.iter().sum();
            let sum = seconds(times.micros);
            if labels.is_empty() {
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                metric
                    .encode_family(labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

struct SummedTimes {
    buckets: [u64; BOUNDS],
    micros: u64,
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// What Linux says about this process; elsewhere nothing.
fn process(page: &mut Page<'_>) -> fmt::Result {
    // proc(5): fields 14 and 15 are CPU time in ticks of 1/100 s (USER_HZ, fixed in the kernel's interface).
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
        let mut metric = page.encoder.encode_descriptor(
            "process_cpu",
            "User and system CPU time.",
            Some(&Unit::Seconds),
            MetricType::Counter,
        )?;
        metric.encode_counter::<NoLabelSet, _, u64>(
            &Duration::from_millis((user + system) * 10).as_secs_f64(),
            None,
        )?;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<i64>()
            .ok()
    });
    if let Some(kilobytes) = resident {
        page.gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            &[(Vec::new(), kilobytes * 1024)],
        )?;
    }
    Ok(())
}

/// Fixed labels.
#[derive(Debug)]
struct Pairs<'a>(&'a [(&'static str, &'static str)]);

impl EncodeLabelSet for Pairs<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}
