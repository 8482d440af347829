//! What is counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) operations: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) gets: AtomicU64,
    pub(super) found: AtomicU64,
    pub(super) puts: AtomicU64,
    pub(super) puts_dropped: AtomicU64,
    /// In µs; `u64::MAX` before the first.
    pub(super) lag: AtomicU64,
    pub(super) out_of_step: AtomicBool,
    pub(super) heard: AtomicU64,
}

impl Counts {
    pub(super) fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How it stands, for metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Redis is known to be away: nothing is asked.
    pub is_away: bool,
    /// Others' writes may go unheard. In bounded mode nothing is kept or given then.
    pub is_out_of_step: bool,
    /// Questions to Redis.
    pub operations: u64,
    /// Of those, answered with an error, or by the end of the connection.
    pub errors: u64,
    /// Of those, not answered in time.
    pub timeouts: u64,
    /// Connections made, the first among them.
    pub connections: u64,
    /// Answers looked for in Redis.
    pub gets: u64,
    /// Of those, there. Whether one fits is seen when it is opened.
    pub found: u64,
    /// Answers put to Redis.
    pub puts: u64,
    /// Answers that were not, since Redis was away or the queue was full.
    pub puts_dropped: u64,
    /// Messages of other Keyways.
    pub heard: u64,
    /// Writes of this Keyway that are on their way, or are over and not told.
    pub marks: usize,
    /// How long the last message to ourselves took, in µs.
    pub lag_us: Option<u64>,
}

impl Counts {
    pub(super) fn numbers(&self, is_away: bool, marks: usize) -> Numbers {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let lag = of(&self.lag);
        Numbers {
            is_away,
            is_out_of_step: self.out_of_step.load(Ordering::Relaxed),
            operations: of(&self.operations),
            errors: of(&self.errors),
            timeouts: of(&self.timeouts),
            connections: of(&self.connections),
            gets: of(&self.gets),
            found: of(&self.found),
            puts: of(&self.puts),
            puts_dropped: of(&self.puts_dropped),
            heard: of(&self.heard),
            marks,
            lag_us: lag.checked_sub(1),
        }
    }
}
