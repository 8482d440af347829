//! Pools of server connections: one per (worker, server, role), under one budget per (server, role) for the process.
//!
//! `bb8` keeps the connections of a pool; what it lacks is added around it: a fair queue (a waiting client is never
//! overtaken), a refusal at once when the server cannot be reached, and the budget that makes `pool.size` mean what it
//! says over all workers. Nothing here is locked across threads on the way of an ordinary statement.

use crate::backend::connect::{ConnectError, ConnectOptions, Role, ServerAddress, connect};
use crate::backend::server::Server;
use crate::backend::settings::Settings;
use crate::backend::tls::ServerConnectors;
use crate::metrics::{ShardMetrics, WorkerMetrics};
use bb8::ManageConnection;
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

/// How often the other workers are asked again for a connection they do not use.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a session that waits out of shard order waits before it asks for the reserve: most waits are over by then.
const RESERVE_AFTER: Duration = Duration::from_millis(50);

/// How pools behave.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Connections per server and role, over all workers.
    pub size: u32,
    /// Connections kept open per server and role, over all workers.
    pub minimum: u32,
    /// A connection older than this is closed when it becomes idle.
    pub lifetime: Option<Duration>,
    /// A connection idle for this long is closed.
    pub idle_timeout: Option<Duration>,
    /// How long a statement waits for a connection.
    pub checkout_timeout: Duration,
    /// For new connections.
    pub connect: ConnectOptions,
}

/// No connection for a statement.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CheckoutError {
    /// All connections were in use for the whole wait.
    #[error("no free connection to {server} within {waited:?}")]
    Full {
        /// The server.
        server: String,
        /// `pool.size`.
        size: u32,
        /// In use when the wait ended.
        busy: usize,
        /// Waiting when the wait ended.
        waiting: usize,
        /// How long was waited.
        waited: Duration,
    },
    /// The server cannot be reached.
    #[error("{source}")]
    Connect {
        /// The shard's name.
        shard: String,
        /// Why.
        source: Arc<ConnectError>,
    },
}

/// Another worker asks for one idle connection of this pool to be closed.
#[derive(Debug, Clone)]
pub struct Ask {
    key: PoolKey,
}

/// What names a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PoolKey {
    address: ServerAddress,
    role: Role,
}

/// Connections that may be open to one server for one role, over all workers.
#[derive(Debug)]
struct Budget {
    permits: Arc<Semaphore>,
    /// One connection beyond the size (see [`Reserve`]).
    reserve: Arc<Semaphore>,
    size: u32,
    starving: AtomicUsize,
    waiting: AtomicUsize,
}

/// The process's budgets, and a way to reach every worker.
#[derive(Debug)]
pub struct Budgets {
    budgets: Mutex<HashMap<PoolKey, Arc<Budget>>>,
    reserve: Arc<Semaphore>,
    workers: Vec<mpsc::Sender<Ask>>,
}

/// Leave to use one connection beyond the size of each pool; one session of the process has it at a time.
///
/// Who holds a connection to one server and waits for another's may close a circle of waiting sessions. Nobody does who
/// takes connections in shard order only. The others, transactions whose client names the shards in an order of its
/// own, come past a circle one by one: who has the reserve never waits for a pool, ends, and so frees what it held.
#[derive(Debug)]
pub struct Reserve {
    _permit: OwnedSemaphorePermit,
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
    /// For workers that listen on the other ends of these channels (see [`Pools::asked`]).
    #[must_use]
    pub fn new(workers: Vec<mpsc::Sender<Ask>>) -> Arc<Self> {
        Arc::new(Self {
            budgets: Mutex::default(),
            reserve: Arc::new(Semaphore::new(1)),
            workers,
        })
    }

    fn budget(&self, key: &PoolKey, size: u32) -> Arc<Budget> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry(key.clone()).or_insert_with(|| {
            Arc::new(Budget {
                permits: Arc::new(Semaphore::new(size as usize)),
                reserve: Arc::new(Semaphore::new(1)),
                size,
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

/// Opens connections for one pool.
#[derive(Debug, Clone)]
pub struct Manager {
    key: PoolKey,
    options: ConnectOptions,
    tls: ServerConnectors,
    budget: Arc<Budget>,
    budgets: Arc<Budgets>,
    worker: usize,
    metrics: Arc<ShardMetrics>,
    failing: Arc<AtomicBool>,
    wanted: Arc<AtomicUsize>,
    keeps_some: bool,
}

/// Counts up while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
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
    /// A permit to open one more connection; asks the other workers to close an idle one when there is none.
    /// `None` when nobody of this worker waits for a connection any more: the permit is another's.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.budget.permits);
        if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            return self.is_needed().then_some(permit);
        }
        let _starving = Counted::new(&self.budget.starving);
        let acquired = permits.acquire_owned();
        tokio::pin!(acquired);
        loop {
            self.ask();
            // Another worker may open a connection that nobody of its own waits for any more: it is asked again.
            if let Ok(permit) = tokio::time::timeout(ASK_AGAIN, acquired.as_mut()).await {
                let permit = permit.expect("budgets are never closed");
                return self.is_needed().then_some(permit);
            }
            if !self.is_needed() {
                return None;
            }
        }
    }

    /// Opens a connection under `permit`.
    async fn open(&self, permit: OwnedSemaphorePermit) -> Result<Box<Server>, ConnectError> {
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

    /// Does a session of this worker wait for a connection, or is one to be kept open anyway?
    fn is_needed(&self) -> bool {
        self.keeps_some || self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Asks the other workers to close an idle connection.
    fn ask(&self) {
        for (index, worker) in self.budgets.workers.iter().enumerate() {
            if index != self.worker {
                // A full channel means that worker is being asked already.
                let _ = worker.try_send(Ask {
                    key: self.key.clone(),
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
struct Failures {
    /// The last attempt failed.
    failing: Arc<AtomicBool>,
    last: Arc<Mutex<Option<Arc<ConnectError>>>>,
    heard: Arc<Notify>,
}

impl bb8::ErrorSink<ConnectError> for Failures {
    fn sink(&self, error: ConnectError) {
        if matches!(error, ConnectError::NotNeeded) {
            return;
        }
        tracing::warn!(%error, "no server connection");
        self.failing.store(true, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        self.heard.notify_waiters();
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<ConnectError>> {
        Box::new(self.clone())
    }
}

/// One worker's connections to one server for one role.
#[derive(Debug)]
pub struct Pool {
    connections: bb8::Pool<Manager>,
    /// Opens the connection beyond the pool's size.
    manager: Manager,
    turn: Arc<Semaphore>,
    failures: Failures,
    budget: Arc<Budget>,
    /// Connections on loan to sessions of this worker.
    busy: Cell<usize>,
    /// Sessions of this worker that wait for a connection and have their turn.
    wanted: Arc<AtomicUsize>,
    /// Whose connections these are.
    pub address: ServerAddress,
    fair_share: u32,
    workers: u32,
    checkout_timeout: Duration,
    metrics: Arc<ShardMetrics>,
    worker_metrics: Arc<WorkerMetrics>,
}

impl Pool {
    fn new(pools: &Pools, key: &PoolKey) -> Rc<Self> {
        let options = &pools.options;
        let budget = pools.budgets.budget(key, options.size);
        let workers = u32::try_from(pools.budgets.workers.len().max(1)).unwrap_or(1);
        let failures = Failures::default();
        let wanted = Arc::new(AtomicUsize::new(0));
        let metrics = pools.metrics.shard(&key.address.shard);
        let manager = Manager {
            key: key.clone(),
            options: options.connect.clone(),
            tls: pools.tls.clone(),
            budget: Arc::clone(&budget),
            budgets: Arc::clone(&pools.budgets),
            worker: pools.worker,
            metrics: Arc::clone(&metrics),
            failing: Arc::clone(&failures.failing),
            wanted: Arc::clone(&wanted),
            keeps_some: options.minimum > 0,
        };
        let connections = bb8::Pool::builder()
            .max_size(options.size)
            .min_idle(Some(options.minimum / workers))
            .max_lifetime(options.lifetime)
            .idle_timeout(options.idle_timeout)
            .connection_timeout(options.checkout_timeout)
            .test_on_check_out(false)
            .retry_connection(false)
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .error_sink(Box::new(failures.clone()))
            .build_unchecked(manager.clone());
        Rc::new(Self {
            connections,
            manager,
            turn: Arc::new(Semaphore::new(options.size as usize)),
            failures,
            fair_share: (options.size / workers).max(1),
            workers,
            metrics,
            worker_metrics: Arc::clone(&pools.metrics),
            budget,
            busy: Cell::new(0),
            wanted,
            address: key.address.clone(),
            checkout_timeout: options.checkout_timeout,
        })
    }

    /// Could the last new connection not be opened?
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures.failing.load(Ordering::Relaxed)
    }

    /// A connection on which a session with `settings` may run, first come first served.
    ///
    /// Cancel safe: nothing is held until it returns.
    ///
    /// # Errors
    /// [`CheckoutError::Full`] after `pool.checkout_timeout`; [`CheckoutError::Connect`] at once when a new
    /// connection was needed and the server cannot be reached.
    pub async fn check_out(self: &Rc<Self>, settings: &Settings) -> Result<Lease, CheckoutError> {
        let turn = match Arc::clone(&self.turn).try_acquire_owned() {
            Ok(turn) => turn,
            Err(_) => {
                let _waiting = Counted::new(&self.budget.waiting);
                let started = tokio::time::Instant::now();
                let acquired = tokio::time::timeout(
                    self.checkout_timeout,
                    Arc::clone(&self.turn).acquire_owned(),
                );
                let acquired = acquired.await;
                self.worker_metrics.checkout_waits.note(started.elapsed());
                acquired
                    .map_err(|_| self.full())?
                    .expect("turns are never closed")
            }
        };
        loop {
            let mut connection = self.connection().await?;
            if connection.may_serve(settings) {
                self.busy.set(self.busy.get() + 1);
                self.metrics.checkouts.raise();
                self.metrics.busy.up();
                self.metrics.idle.down();
                return Ok(Lease {
                    connection: Connection::Pooled {
                        connection,
                        _turn: turn,
                    },
                    pool: Rc::clone(self),
                });
            }
            connection.retire();
        }
    }

    /// As [`Pool::check_out`], for a session that holds a connection to a server behind this one in shard order.
    /// `reserve` is the session's leave to go beyond a pool's size, if it has it already.
    ///
    /// Cancel safe: nothing is held until it returns.
    ///
    /// # Errors
    /// As [`Pool::check_out`].
    pub async fn check_out_of_order(
        self: &Rc<Self>,
        settings: &Settings,
        reserve: &mut Weak<Reserve>,
    ) -> Result<Lease, CheckoutError> {
        let ordinary = self.check_out(settings);
        let beyond = self.beyond(reserve);
        tokio::pin!(ordinary, beyond);
        tokio::select! {
            biased;
            got = &mut ordinary => return got,
            got = &mut beyond => match got {
                Ok(lease) => return Ok(lease),
                Err(error) => tracing::warn!(%error, "no connection beyond the pool's size"),
            }
        }
        ordinary.await
    }

    /// A connection beyond the pool's size, closed after use.
    async fn beyond(self: &Rc<Self>, reserve: &mut Weak<Reserve>) -> Result<Lease, ConnectError> {
        tokio::time::sleep(RESERVE_AFTER).await;
        let leave = match reserve.upgrade() {
            Some(leave) => leave,
            None => {
                let permits = Arc::clone(&self.manager.budgets.reserve);
                let permit = permits.acquire_owned().await;
                Rc::new(Reserve {
                    _permit: permit.expect("the reserve is never closed"),
                })
            }
        };
        *reserve = Rc::downgrade(&leave);
        let permit = Arc::clone(&self.budget.reserve).acquire_owned().await;
        let permit = permit.expect("budgets are never closed");
        let server = self.manager.open(permit).await?;
        self.metrics.checkouts.raise();
        self.metrics.busy.up();
        self.metrics.idle.down();
        Ok(Lease {
            connection: Connection::Beyond {
                server,
                _leave: leave,
            },
            pool: Rc::clone(self),
        })
    }

    async fn connection(&self) -> Result<bb8::PooledConnection<'static, Manager>, CheckoutError> {
        let _wanted = Counted::new(&self.wanted);
        loop {
            let failed = self.failures.heard.notified();
            tokio::pin!(failed);
            failed.as_mut().enable();
            tokio::select! {
                biased;
                got = self.connections.get_owned() => return got.map_err(|_| self.full()),
                () = failed => {}
            }
            // Somebody's attempt failed. An idle connection would still do.
            if self.connections.state().idle_connections == 0 {
                let last = self
                    .failures
                    .last
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                if let Some(source) = last {
                    return Err(CheckoutError::Connect {
                        shard: self.address.shard.clone(),
                        source,
                    });
                }
            }
        }
    }

    fn full(&self) -> CheckoutError {
        self.worker_metrics.checkout_timeouts.raise();
        CheckoutError::Full {
            server: self.address.to_string(),
            size: self.budget.size,
            busy: self.busy.get(),
            waiting: self.budget.waiting.load(Ordering::Relaxed),
            waited: self.checkout_timeout,
        }
    }

    /// Is a connection that comes back needed elsewhere? While another worker waits for leave to open one, a worker
    /// closes what it has beyond its share, or what none of its own sessions waits for: a share cannot be less than
    /// one, so there may be more workers than shares.
    fn owes_a_connection(&self) -> bool {
        self.budget.starving.load(Ordering::Relaxed) > 0
            && (!self.is_awaited(1)
                || self.connections.state().connections > self.fair_share
                || self.budget.size < self.workers)
    }

    /// Does a session of this worker wait for a connection? `leaving` have given theirs back and not yet their turn.
    fn is_awaited(&self, leaving: usize) -> bool {
        let turns = (self.budget.size as usize).saturating_sub(self.turn.available_permits());
        turns > self.busy.get() + leaving
    }

    async fn close_one_idle(&self) {
        let state = self.connections.state();
        if state.idle_connections > 0
            && (!self.is_awaited(0) || state.connections > self.fair_share)
            && let Ok(mut connection) = self.connections.get_owned().await
        {
            connection.retire();
        }
    }
}

/// A server connection on loan. Dropping it returns the connection if it is idle and in sync, and closes it otherwise.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
}

#[derive(Debug)]
enum Connection {
    /// The pool's.
    Pooled {
        connection: bb8::PooledConnection<'static, Manager>,
        _turn: OwnedSemaphorePermit,
    },
    /// One beyond its size.
    Beyond {
        server: Box<Server>,
        _leave: Rc<Reserve>,
    },
}

impl Lease {
    /// Whose connection it is.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.pool.address
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.metrics.busy.down();
        self.pool.metrics.idle.up();
        if let Connection::Pooled { connection, .. } = &mut self.connection {
            self.pool.busy.set(self.pool.busy.get().saturating_sub(1));
            if self.pool.owes_a_connection() {
                connection.retire();
            }
        }
    }
}

impl Deref for Lease {
    type Target = Server;

    fn deref(&self) -> &Server {
        match &self.connection {
            Connection::Pooled { connection, .. } => connection,
            Connection::Beyond { server, .. } => server,
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Server {
        match &mut self.connection {
            Connection::Pooled { connection, .. } => connection,
            Connection::Beyond { server, .. } => server,
        }
    }
}

/// One worker's pools.
#[derive(Debug)]
pub struct Pools {
    worker: usize,
    budgets: Arc<Budgets>,
    options: PoolOptions,
    tls: ServerConnectors,
    metrics: Arc<WorkerMetrics>,
    pools: RefCell<HashMap<PoolKey, Rc<Pool>>>,
}

impl Pools {
    /// The pools of worker number `worker`.
    #[must_use]
    pub fn new(
        worker: usize,
        budgets: Arc<Budgets>,
        options: PoolOptions,
        tls: ServerConnectors,
        metrics: Arc<WorkerMetrics>,
    ) -> Self {
        Self {
            worker,
            budgets,
            options,
            tls,
            metrics,
            pools: RefCell::default(),
        }
    }

    /// The pool for this server and role, made at first use.
    #[must_use]
    pub fn pool(&self, address: &ServerAddress, role: &Role) -> Rc<Pool> {
        let key = PoolKey {
            address: address.clone(),
            role: role.clone(),
        };
        if let Some(pool) = self.pools.borrow().get(&key) {
            return Rc::clone(pool);
        }
        let pool = Pool::new(self, &key);
        self.pools.borrow_mut().insert(key, Rc::clone(&pool));
        pool
    }

    /// Another worker needs a connection: closes an idle one of ours.
    pub fn asked(&self, ask: &Ask) -> impl Future<Output = ()> + use<> {
        let pool = self.pools.borrow().get(&ask.key).cloned();
        async move {
            if let Some(pool) = pool {
                pool.close_one_idle().await;
            }
        }
    }

    /// Forgets pools of servers that `keep` does not name; their idle connections close.
    pub fn retain(&self, keep: impl Fn(&ServerAddress) -> bool) {
        self.pools.borrow_mut().retain(|key, _| keep(&key.address));
    }

    /// How connections are opened, for cancel requests.
    #[must_use]
    pub fn connect_options(&self) -> &ConnectOptions {
        &self.options.connect
    }

    /// TLS towards servers.
    #[must_use]
    pub fn tls(&self) -> &ServerConnectors {
        &self.tls
    }
}
