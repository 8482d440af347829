//! What happened, in numbers. In: each worker's own counters, raised without a lock or a lookup. Out: Prometheus text,
//! summed over the workers when somebody asks.
//!
//! A metric is one field here and one line in `text.rs`. This room knows no other room.

mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Only goes up. Has one writer, its worker's thread, so that raising it is a plain load and store.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn raise(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(amount),
            Ordering::Relaxed,
        );
    }

    /// Now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down. One writer, as [`Count`].
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// One more.
    pub fn up(&self) {
        self.set(self.get() + 1);
    }

    /// One less.
    pub fn down(&self) {
        self.set(self.get() - 1);
    }

    /// So many.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds are powers of two of a microsecond: 32 µs, 64 µs, … 33.6 s, and infinity.
const FIRST_BOUND_BITS: u32 = 5;
/// Bounds, infinity included.
const BOUNDS: usize = 22;

/// How long things took. One writer, as [`Count`].
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Count; BOUNDS],
    micros: Count,
}

impl Times {
    /// Notes one.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The number of bits of (micros - 1) is the least power of two that is not below it.
        let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
        let index = bits.saturating_sub(FIRST_BOUND_BITS) as usize;
        self.buckets[index.min(BOUNDS - 1)].raise();
        self.micros.add(micros);
    }
}

/// Kinds of plan as metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryPlan {
    /// Answered by Keyway itself.
    Local,
    /// One shard.
    Single,
    /// Any one of some.
    Any,
    /// Several, merged.
    Scatter,
    /// The same change on all.
    Broadcast,
    /// A kept answer.
    Cached,
    /// None: it was not planned (refused, or not understood).
    None,
}

impl QueryPlan {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Local, "local"),
        (Self::Single, "single"),
        (Self::Any, "any"),
        (Self::Scatter, "scatter"),
        (Self::Broadcast, "broadcast"),
        (Self::Cached, "cached"),
        (Self::None, "none"),
    ];
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Done,
    /// PostgreSQL's error.
    Failed,
    /// Keyway's refusal.
    Refused,
    /// The server or the client went away.
    Broken,
}

impl Outcome {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Refused, "refused"),
        (Self::Broken, "broken"),
    ];
}

/// One worker's numbers.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Clients connected.
    pub clients: Level,
    /// Clients ever accepted.
    pub clients_accepted: Count,
    /// Logins that failed.
    pub logins_failed: Count,
    /// Bytes from clients.
    pub client_bytes_in: Count,
    /// Bytes to clients.
    pub client_bytes_out: Count,
    /// Bytes from servers.
    pub server_bytes_in: Count,
    /// Bytes to servers.
    pub server_bytes_out: Count,
    /// Plans found in the cache.
    pub plan_cache_hits: Count,
    /// Plans made.
    pub plan_cache_misses: Count,
    /// Plans kept.
    pub plan_cache_entries: Level,
    /// Kept answers given.
    pub cache_hits: Count,
    /// Answers given that another Keyway had kept.
    pub cache_hits_shared: Count,
    /// Answers looked for and not found.
    pub cache_misses: Count,
    /// Answers kept.
    pub cache_stores: Count,
    /// Waits for an answer that another session asked for.
    pub cache_waits: Count,
    /// Answers that were asked for again without a client, and kept.
    pub cache_refreshes: Count,
    /// Those that were not kept.
    pub cache_refreshes_failed: Count,
    /// Those that were not asked for, because too many waited.
    pub cache_refreshes_dropped: Count,
    /// Answers given though they were void, because their shard could not be reached.
    pub cache_stale: Count,
    /// Statements that the cache has no part in, by the numbers of their reasons.
    cache_passed_by: Reasons,
    /// Cancel requests.
    pub cancels: Count,
    /// Waits for a free server, those that had to wait.
    pub checkout_waits: Times,
    /// Waits that ended without one.
    pub checkout_timeouts: Count,
    queries: [[Count; Outcome::ALL.len()]; QueryPlan::ALL.len()],
    query_times: [Times; QueryPlan::ALL.len()],
    refusals: Mutex<BTreeMap<String, u64>>,
    shards: Mutex<BTreeMap<String, Arc<ShardMetrics>>>,
}

/// SQLSTATEs told apart; others are counted together.
const SQLSTATES_MAX: usize = 64;

/// Reasons that the cache may have for passing a statement by.
pub const REASONS_MAX: usize = 40;

/// One count for each.
#[derive(Debug)]
struct Reasons([Count; REASONS_MAX]);

impl Default for Reasons {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl WorkerMetrics {
    /// The cache has no part in a statement, for the reason of this number.
    pub fn cache_passed_by(&self, reason: usize) {
        self.cache_passed_by.0[reason.min(REASONS_MAX - 1)].raise();
    }

    /// A query ended.
    pub fn query(&self, plan: QueryPlan, outcome: Outcome, took: Duration) {
        self.queries[plan as usize][outcome as usize].raise();
        self.query_times[plan as usize].note(took);
    }

    /// Keyway itself answered with an error. Off the fast path.
    pub fn refused(&self, sqlstate: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let known = refusals.contains_key(sqlstate) || refusals.len() < SQLSTATES_MAX;
        *refusals
            .entry(if known { sqlstate } else { "other" }.to_owned())
            .or_default() += 1;
    }

    /// The handle for one shard's servers; ask once and keep it.
    #[must_use]
    pub fn shard(&self, name: &str) -> Arc<ShardMetrics> {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(shards.entry(name.to_owned()).or_default())
    }
}

/// One worker's servers of one shard.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Connections in no use.
    pub idle: Level,
    /// Connections held by a session.
    pub busy: Level,
    /// Connections being opened.
    pub opening: Level,
    /// Connections opened.
    pub opened: Count,
    /// Connections that could not be opened.
    pub failed: Count,
    /// Connections closed, whatever the reason.
    pub closed: Count,
    /// Of those, closed in doubt about their state.
    pub doubted: Count,
    /// Times that a session took a server.
    pub checkouts: Count,
}

/// How a look at all declared partitions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionRun {
    /// All is as declared.
    Done,
    /// Something is not.
    Failed,
    /// Another Keyway keeps them; this one only looked.
    Held,
}

impl PartitionRun {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Done, "done"),
        (Self::Failed, "failed"),
        (Self::Held, "held"),
    ];
}

/// What is known of declared partitions. Written by the control plane, seldom.
#[derive(Debug, Default)]
struct Partitions {
    /// Seconds that a table's partitions reach ahead, on the shard where they reach least, by keyspace and table.
    horizons: Mutex<BTreeMap<(String, String), i64>>,
    runs: [AtomicU64; PartitionRun::ALL.len()],
}

/// How the result cache stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheStanding {
    /// Answers kept.
    pub entries: i64,
    /// Bytes they take.
    pub bytes: i64,
    /// Answers that had to make room.
    pub evictions: u64,
    /// Times that answers were dropped by somebody's wish.
    pub flushes: u64,
    /// Writes whose end nobody has seen.
    pub in_doubt: i64,
}

/// Whoever knows how the result cache stands.
pub struct CacheWatch {
    /// Names of the reasons for passing a statement by, by their numbers.
    pub reasons: Vec<&'static str>,
    /// Says how it stands.
    pub standing: Box<dyn Fn() -> CacheStanding + Send + Sync>,
}

impl fmt::Debug for CacheWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheWatch").finish_non_exhaustive()
    }
}

/// How well Keyway knows what is changed on a shard without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FollowStanding {
    /// The shard's name.
    pub shard: String,
    /// Its changes are streamed.
    pub connected: bool,
    /// All that is older than the bound has arrived; otherwise nothing of the shard is kept.
    pub in_step: bool,
    /// Bytes of its log that have not arrived, when it was last asked.
    pub lag_bytes: u64,
    /// How long ago it was, in milliseconds, that everything committed until then has arrived.
    pub lag_ms: u64,
    /// Transactions that changed something.
    pub changes: u64,
    /// Tries to connect again.
    pub reconnects: u64,
    /// In words: `in step`, or why it is not.
    pub state: String,
}

/// Whoever knows how well changes on the shards are known.
pub struct FollowWatch(pub Box<dyn Fn() -> Vec<FollowStanding> + Send + Sync>);

impl fmt::Debug for FollowWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowWatch").finish_non_exhaustive()
    }
}

/// How well versions are shared with other Keyways.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedStanding {
    /// Redis is away, and nothing is asked.
    pub is_away: bool,
    /// Others' writes may go unheard; a bounded Keyway keeps and gives nothing then.
    pub is_out_of_step: bool,
    /// Questions to Redis.
    pub operations: u64,
    /// Of those, answered with an error.
    pub errors: u64,
    /// Of those, not answered in time.
    pub timeouts: u64,
    /// Connections made.
    pub connections: u64,
    /// Answers looked for.
    pub gets: u64,
    /// Of those, there.
    pub found: u64,
    /// Answers put.
    pub puts: u64,
    /// Answers that were not put.
    pub puts_dropped: u64,
    /// Messages of other Keyways.
    pub heard: u64,
    /// This Keyway's writes that are on their way, or not told yet.
    pub marks: u64,
    /// How long a message to oneself took last, in microseconds: how long it takes to hear of a write.
    pub lag_us: Option<u64>,
}

/// Whoever knows how well versions are shared.
pub struct SharedWatch(pub Box<dyn Fn() -> SharedStanding + Send + Sync>);

impl fmt::Debug for SharedWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWatch").finish_non_exhaustive()
    }
}

/// All workers' numbers and the process's own.
#[derive(Debug, Default)]
pub struct Metrics {
    cache: OnceLock<CacheWatch>,
    follow: OnceLock<FollowWatch>,
    shared: OnceLock<SharedWatch>,
    partitions: Partitions,
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    epoch: AtomicU64,
    shards_unread: AtomicU64,
    shards_behind: AtomicU64,
    draining: AtomicU64,
}

impl Metrics {
    /// Nothing happened yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The result cache is on. Said once.
    pub fn watch_cache(&self, watch: CacheWatch) {
        let _ = self.cache.set(watch);
    }

    /// Changes on the shards are followed. Said once.
    pub fn watch_follow(&self, watch: FollowWatch) {
        let _ = self.follow.set(watch);
    }

    /// Versions are shared with other Keyways. Said once.
    pub fn watch_shared(&self, watch: SharedWatch) {
        let _ = self.shared.set(watch);
    }

    /// How well versions are shared; `None` when they are not.
    #[must_use]
    pub fn shared(&self) -> Option<SharedStanding> {
        self.shared.get().map(|watch| (watch.0)())
    }

    /// How well changes on each shard are known; `None` when nobody follows them.
    #[must_use]
    pub fn followed(&self) -> Option<Vec<FollowStanding>> {
        self.follow.get().map(|watch| (watch.0)())
    }

    /// Numbers for one more worker.
    #[must_use]
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::<WorkerMetrics>::default();
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&worker));
        worker
    }

    /// The published topology's epoch.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Shards whose schema could not be read.
    pub fn set_shards_unread(&self, count: usize) {
        self.shards_unread.store(count as u64, Ordering::Relaxed);
    }

    /// Shards that nothing is sent to, since they lack a migration.
    pub fn set_shards_behind(&self, count: usize) {
        self.shards_behind.store(count as u64, Ordering::Relaxed);
    }

    /// Whether Keyway is leaving.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(u64::from(draining), Ordering::Relaxed);
    }

    /// How far declared partitions reach, in seconds, by keyspace and table; those not named are forgotten.
    pub fn set_partition_horizons(&self, horizons: BTreeMap<(String, String), i64>) {
        let mut kept = self
            .partitions
            .horizons
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = horizons;
    }

    /// Declared partitions were looked at.
    pub fn partition_run(&self, run: PartitionRun) {
        self.partitions.runs[run as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Clients connected to all workers.
    #[must_use]
    pub fn clients(&self) -> i64 {
        self.all_workers()
            .iter()
            .map(|worker| worker.clients.get())
            .sum()
    }

    fn all_workers(&self) -> Vec<Arc<WorkerMetrics>> {
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
