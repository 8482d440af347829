//! Writes whose end nobody has seen: their connection was lost while they ran. PostgreSQL may commit one long after its
//! client has gone, so its cells stay marked until its server process is seen to be gone.

use crate::cache::results::cells::Marks;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A write in doubt.
pub struct Doubtful {
    /// The shard's name.
    pub shard: String,
    /// The server process that ran it.
    pub pid: u32,
    /// When its connection was lost.
    pub lost: Instant,
    marks: Vec<Arc<Marks>>,
}

impl fmt::Debug for Doubtful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doubtful")
            .field("shard", &self.shard)
            .field("pid", &self.pid)
            .field("marks", &self.marks.len())
            .finish_non_exhaustive()
    }
}

impl Doubtful {
    /// For how long it has been in doubt.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.lost.elapsed()
    }
}

/// All of a process. Bounded by the server connections that were lost since their shards were last reached.
#[derive(Debug, Default)]
pub struct Doubts {
    all: Mutex<Vec<Doubtful>>,
    more: Notify,
}

impl Doubts {
    /// A connection was lost while a write ran on it.
    pub fn add(&self, shard: String, pid: u32, marks: Vec<Arc<Marks>>) {
        let doubtful = Doubtful {
            shard,
            pid,
            lost: Instant::now(),
            marks,
        };
        self.lock().push(doubtful);
        self.more.notify_one();
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// None?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until there are some.
    ///
    /// Cancel safe.
    pub async fn some(&self) {
        while self.is_empty() {
            self.more.notified().await;
        }
    }

    /// Takes all, to look at them.
    #[must_use]
    pub fn take(&self) -> Vec<Doubtful> {
        std::mem::take(&mut *self.lock())
    }

    /// Gives back one that is still in doubt.
    pub fn keep(&self, doubtful: Doubtful) {
        self.lock().push(doubtful);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Doubtful>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
