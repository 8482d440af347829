//! How a pool's connections are opened, and what is heard of attempts that fail.

use crate::backend::budget::{Ask, Budget, Budgets, Permit, PoolKey};
use crate::backend::connect::{ConnectError, ConnectOptions, connect};
use crate::backend::server::Server;
use crate::backend::tls::ServerConnectors;
use crate::metrics::ShardMetrics;
use bb8::ManageConnection;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the other workers are asked again for a connection they do not use.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Opens connections for one pool.
#[derive(Debug, Clone)]
pub struct Manager {
    pub(super) key: PoolKey,
    pub(super) options: ConnectOptions,
    pub(super) tls: ServerConnectors,
    pub(super) budget: Arc<Budget>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) worker: usize,
    pub(super) metrics: Arc<ShardMetrics>,
    pub(super) failing: Arc<AtomicBool>,
    pub(super) wanted: Arc<AtomicUsize>,
    /// Connections that this worker has open.
    pub(super) open: Arc<AtomicUsize>,
    /// Connections it may have whatever the others want.
    pub(super) share: usize,
    /// Connections it keeps open although nobody uses them.
    pub(super) keeps: usize,
}

/// Counts up while it lives.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(super) fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Manager {
    /// A permit to open one more connection; asks the other workers to close one when there is none.
    /// `None` when nobody of this worker waits for a connection any more: the permit is another's.
    async fn permit(&self) -> Option<Permit> {
        let counted = |permit| Permit::counted(permit, &self.open);
        if !self.is_needed() {
            return None;
        }
        let permits = Arc::clone(&self.budget.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return Some(counted(permit));
        }
        let acquired = permits.acquire_owned();
        tokio::pin!(acquired);
        // What is only to be kept is not asked of others, who would want it back.
        while self.is_wanted() {
            let has_less = self.open.load(Ordering::Relaxed) < self.share;
            let _starving = has_less.then(|| Counted::new(&self.budget.starving));
            self.ask(has_less);
            // Another worker may open a connection that nobody of its own waits for any more: it is asked again.
            if let Ok(permit) = tokio::time::timeout(ASK_AGAIN, acquired.as_mut()).await {
                let permit = permit.expect("budgets are never closed");
                return self.is_needed().then(|| counted(permit));
            }
        }
        None
    }

    /// Opens a connection under `permit`.
    pub(super) async fn open(&self, permit: Permit) -> Result<Box<Server>, ConnectError> {
        self.metrics.opening.up();
        let result = connect(
            &self.key.address,
            &self.key.role,
            &self.options,
            &self.tls,
            permit,
        )
        .await;
        self.metrics.opening.down();
        match result {
            Ok(mut server) => {
                self.failing.store(false, Ordering::Relaxed);
                server.count_in(&self.metrics);
                Ok(Box::new(server))
            }
            Err(error) => {
                self.metrics.failed.raise();
                Err(error)
            }
        }
    }

    /// Does a session of this worker wait for a connection?
    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Does one wait, or is one to be kept open anyway?
    fn is_needed(&self) -> bool {
        self.is_wanted() || self.open.load(Ordering::Relaxed) < self.keeps
    }

    /// Asks the other workers to close a connection.
    fn ask(&self, has_less: bool) {
        for (index, worker) in self.budgets.workers.iter().enumerate() {
            if index != self.worker {
                // A full channel means that worker is being asked already.
                let _ = worker.try_send(Ask {
                    key: self.key.clone(),
                    has_less,
                });
            }
        }
    }
}

impl ManageConnection for Manager {
    /// Boxed: a lease changes hands many times on a statement's way.
    type Connection = Box<Server>;
    type Error = ConnectError;

    async fn connect(&self) -> Result<Box<Server>, ConnectError> {
        match self.permit().await {
            Some(permit) => self.open(permit).await,
            None => Err(ConnectError::NotNeeded),
        }
    }

    async fn is_valid(&self, _: &mut Box<Server>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn has_broken(&self, server: &mut Box<Server>) -> bool {
        !server.is_reusable()
    }
}

/// The last failure to connect, and who waits to hear of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures {
    /// The last attempt failed.
    pub(super) failing: Arc<AtomicBool>,
    pub(super) last: Arc<Mutex<Option<Arc<ConnectError>>>>,
    pub(super) heard: Arc<Notify>,
}

impl Failures {
    /// The last one.
    pub(super) fn last(&self) -> Option<Arc<ConnectError>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

impl bb8::ErrorSink<ConnectError> for Failures {
    fn sink(&self, error: ConnectError) {
        if matches!(error, ConnectError::NotNeeded) {
            return;
        }
        let causes = causes(&error);
        // Each attempt fails alike while a server is away: one line tells of it.
        if self.failing.swap(true, Ordering::Relaxed) {
            tracing::debug!(error = causes, "no server connection");
        } else {
            tracing::warn!(error = causes, "no server connection");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.heard.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<ConnectError>> {
        Box::new(self.clone())
    }
}
