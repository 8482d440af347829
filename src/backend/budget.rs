//! How many connections may be open to one server for one role, over all workers of the process.

use crate::backend::connect::{Role, ServerAddress};
use hashbrown::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Another worker asks for one idle connection of this pool to be closed.
#[derive(Debug, Clone)]
pub struct Ask {
    pub(super) key: PoolKey,
    /// It has less than its share. Otherwise it would like more, and only what nobody uses is given up for that.
    pub(super) has_less: bool,
}

/// Leave for one open connection.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
    /// The worker's open connections, this one among them; none is counted beyond the pool's size.
    open: Option<Arc<AtomicUsize>>,
}

impl Permit {
    /// Of the budget, counted among the worker's `open` connections.
    pub(super) fn counted(permit: OwnedSemaphorePermit, open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self {
            _permit: permit,
            open: Some(Arc::clone(open)),
        }
    }

    /// Of the reserve.
    #[must_use]
    pub fn beyond(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: permit,
            open: None,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What names a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) address: ServerAddress,
    pub(super) role: Role,
}

/// Connections that may be open to one server for one role, over all workers.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) permits: Arc<Semaphore>,
    /// One connection beyond the size (see [`Reserve`]).
    pub(super) reserve: Arc<Semaphore>,
    pub(super) size: u32,
    /// Connections to be kept open that are left when each worker keeps as many as the others.
    pub(super) left_to_keep: Arc<Semaphore>,
    pub(super) starving: AtomicUsize,
    pub(super) waiting: AtomicUsize,
}

/// The process's budgets, and a way to reach every worker.
#[derive(Debug)]
pub struct Budgets {
    budgets: Mutex<HashMap<PoolKey, Arc<Budget>>>,
    pub(super) reserve: Arc<Semaphore>,
    pub(super) workers: Vec<mpsc::Sender<Ask>>,
}

/// Leave to use one connection beyond the size of each pool; one session of the process has it at a time.
///
/// Who holds a connection to one server and waits for another's may close a circle of waiting sessions. Nobody does who
/// takes connections in shard order only. The others, transactions whose client names the shards in an order of its
/// own, come past a circle one by one: who has the reserve never waits for a pool, ends, and so frees what it held.
#[derive(Debug)]
pub struct Reserve {
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What a scrape shows of one server and role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolCounts {
    /// The shard.
    pub shard: String,
    /// The role.
    pub user: String,
    /// Open connections.
    pub open: usize,
    /// Statements waiting for one.
    pub waiting: usize,
    /// The limit.
    pub size: usize,
}

impl Budgets {
    /// For workers that listen on the other ends of these channels (see [`Pools::asked`](crate::backend::pool::Pools::asked)).
    #[must_use]
    pub fn new(workers: Vec<mpsc::Sender<Ask>>) -> Arc<Self> {
        Arc::new(Self {
            budgets: Mutex::default(),
            reserve: Arc::new(Semaphore::new(1)),
            workers,
        })
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> u32 {
        u32::try_from(self.workers.len().max(1)).unwrap_or(1)
    }

    pub(super) fn budget(&self, key: &PoolKey, size: u32, minimum: u32) -> Arc<Budget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry(key.clone()).or_insert_with(|| {
            Arc::new(Budget {
                permits: Arc::new(Semaphore::new(size as usize)),
                reserve: Arc::new(Semaphore::new(1)),
                size,
                left_to_keep: Arc::new(Semaphore::new((minimum % self.workers()) as usize)),
                starving: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
            })
        });
        Arc::clone(budget)
    }

    /// For metrics.
    #[must_use]
    pub fn counts(&self) -> Vec<PoolCounts> {
        let budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        budgets
            .iter()
            .map(|(key, budget)| PoolCounts {
                shard: key.address.shard.clone(),
                user: key.role.user.clone(),
                open: (budget.size as usize).saturating_sub(budget.permits.available_permits()),
                waiting: budget.waiting.load(Ordering::Relaxed),
                size: budget.size as usize,
            })
            .collect()
    }
}
