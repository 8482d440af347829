//! Pools of server connections: one per (worker, server, role), under one budget per (server, role) for the process.
//!
//! `bb8` opens, keeps and closes the connections of a pool. A worker takes from it what its sessions need and passes
//! that on from session to session: a connection given back goes to whoever waits longest, else it stays at hand, and
//! back to bb8 when it has not been used for a while. Nothing here is locked across threads on the way of an ordinary
//! statement.

use crate::backend::budget::{Ask, Budget, Budgets, Permit, PoolKey, Reserve};
use crate::backend::connect::{ConnectError, ConnectOptions, Role, ServerAddress};
use crate::backend::manager::{Counted, Failures, Manager};
use crate::backend::queue::{Queue, Waiter};
use crate::backend::server::Server;
use crate::backend::settings::Settings;
use crate::backend::tls::ServerConnectors;
use crate::metrics::{ShardMetrics, WorkerMetrics};
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How long a session that waits out of shard order waits before it asks for the reserve: most waits are over by then.
const RESERVE_AFTER: Duration = Duration::from_millis(50);

/// How long a connection stays at hand without being used.
const AT_HAND: Duration = Duration::from_secs(1);

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
    #[error("no free connection to shard {shard} within {waited:?}")]
    Full {
        /// The shard's name.
        shard: String,
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
    #[error("shard {shard} cannot be reached")]
    Connect {
        /// The shard's name.
        shard: String,
        /// Why.
        source: Arc<ConnectError>,
    },
}

impl CheckoutError {
    /// Nobody answers there, or a server that takes no connections at the moment.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        let Self::Connect { source, .. } = self else {
            return false;
        };
        match source.as_ref() {
            ConnectError::Unreachable { .. } | ConnectError::TimedOut { .. } => true,
            ConnectError::Rejected { code, .. } => code == "57P03",
            _ => false,
        }
    }
}

/// A connection that bb8 has lent to this worker.
type Lent = bb8::PooledConnection<'static, Manager>;

/// A connection that no session uses at the moment.
#[derive(Debug)]
struct AtHand {
    connection: Lent,
    /// It has been there since before the last sweep.
    swept: bool,
}

/// One worker's connections to one server for one role.
#[derive(Debug)]
pub struct Pool {
    connections: bb8::Pool<Manager>,
    /// Opens the connection beyond the pool's size.
    manager: Manager,
    /// Lent by bb8 and not in use, the last used last.
    at_hand: RefCell<Vec<AtHand>>,
    /// Somebody looks after `at_hand`.
    is_swept: Cell<bool>,
    queue: Queue<Result<Lent, CheckoutError>>,
    /// Connections that bb8 has been asked for.
    asked_for: Cell<usize>,
    failures: Failures,
    budget: Arc<Budget>,
    /// Connections on loan to sessions of this worker.
    busy: Cell<usize>,
    /// Sessions of this worker that wait for a connection.
    wanted: Arc<AtomicUsize>,
    /// Whose connections these are.
    pub address: ServerAddress,
    workers: u32,
    _keeps_one_more: Option<OwnedSemaphorePermit>,
    lifetime: Option<Duration>,
    checkout_timeout: Duration,
    metrics: Arc<ShardMetrics>,
    worker_metrics: Arc<WorkerMetrics>,
}

impl Pool {
    fn new(pools: &Pools, key: &PoolKey) -> Rc<Self> {
        let options = &pools.options;
        let budget = pools.budgets.budget(key, options.size, options.minimum);
        let workers = pools.budgets.workers();
        // What cannot be shared evenly is kept by the workers that use the server first.
        let keeps_one_more = Arc::clone(&budget.left_to_keep).try_acquire_owned().ok();
        let keeps = options.minimum / workers + u32::from(keeps_one_more.is_some());
        let share = (options.size / workers).max(1);
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
            open: Arc::new(AtomicUsize::new(0)),
            share: share as usize,
            keeps: keeps as usize,
        };
        let connections = bb8::Pool::builder()
            .max_size(options.size)
            .min_idle(Some(keeps))
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
            at_hand: RefCell::default(),
            is_swept: Cell::new(false),
            queue: Queue::default(),
            asked_for: Cell::new(0),
            failures,
            workers,
            _keeps_one_more: keeps_one_more,
            lifetime: options.lifetime,
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

    /// A connection at hand with exactly these settings, if nobody has to be waited for.
    #[inline]
    #[must_use]
    pub fn check_out_at_once(self: &Rc<Self>, settings: &Arc<Settings>) -> Option<Lease> {
        if !self.queue.is_empty() {
            return None;
        }
        loop {
            let mut at_hand = self.at_hand.borrow_mut();
            let same = |c: &AtHand| {
                Arc::ptr_eq(c.connection.settings(), settings) && c.connection.may_serve(settings)
            };
            let found = at_hand.iter().rposition(same)?;
            let mut connection = at_hand.remove(found).connection;
            drop(at_hand);
            if connection.is_alive() {
                return Some(self.lend(connection));
            }
        }
    }

    /// A connection on which a session with `settings` may run, first come first served. Its own settings may differ.
    ///
    /// Cancel safe: nothing is held until it returns.
    ///
    /// # Errors
    /// [`CheckoutError::Full`] after `pool.checkout_timeout`; [`CheckoutError::Connect`] at once when a new
    /// connection was needed and the server cannot be reached.
    pub async fn check_out(
        self: &Rc<Self>,
        settings: &Arc<Settings>,
    ) -> Result<Lease, CheckoutError> {
        if let Some(lease) = self.check_out_at_once(settings) {
            return Ok(lease);
        }
        if self.queue.is_empty()
            && let Some(lease) = self.check_out_idle(settings).await
        {
            return Ok(lease);
        }
        self.wait_for_one(settings).await
    }

    /// A connection at hand, or one that bb8 holds idle.
    async fn check_out_idle(self: &Rc<Self>, settings: &Settings) -> Option<Lease> {
        while let Some(mut connection) = self.take_at_hand(settings) {
            if connection.is_alive() {
                return Some(self.lend(connection));
            }
        }
        while self.connections.state().idle_connections > 0 {
            let get = self.connections.get_owned();
            tokio::pin!(get);
            let got = poll_fn(|context| Poll::Ready(get.as_mut().poll(context))).await;
            let Poll::Ready(Ok(mut connection)) = got else {
                return None;
            };
            if connection.may_serve(settings) && connection.is_alive() {
                return Some(self.lend(connection));
            }
            connection.retire();
        }
        None
    }

    /// The connection at hand that was used last and fits. If none fits, one makes room for one that does.
    fn take_at_hand(&self, settings: &Settings) -> Option<Lent> {
        let mut at_hand = self.at_hand.borrow_mut();
        let fits = |c: &AtHand| c.connection.may_serve(settings);
        if let Some(index) = at_hand.iter().rposition(fits) {
            return Some(at_hand.remove(index).connection);
        }
        if !at_hand.is_empty() {
            at_hand.remove(0).connection.retire();
        }
        None
    }

    /// Queues up for a connection.
    async fn wait_for_one(
        self: &Rc<Self>,
        settings: &Arc<Settings>,
    ) -> Result<Lease, CheckoutError> {
        let started = tokio::time::Instant::now();
        let deadline = started + self.checkout_timeout;
        let _waiting = Counted::new(&self.budget.waiting);
        let _wanted = Counted::new(&self.wanted);
        let mut waiter = self.queue.join_last();
        let result = loop {
            self.ask_for_more();
            let turn = Turn { pool: self, waiter };
            match tokio::time::timeout_at(deadline, turn.waiter.wait()).await {
                Err(_) => break Err(self.full()),
                Ok(Err(error)) => break Err(error),
                Ok(Ok(mut connection)) => {
                    if connection.may_serve(settings) && connection.is_alive() {
                        break Ok(self.lend(connection));
                    }
                    connection.retire();
                    drop(connection);
                    waiter = self.queue.join_first();
                }
            }
        };
        self.worker_metrics.checkout_waits.note(started.elapsed());
        result
    }

    /// Takes a connection that nobody uses into use.
    #[inline]
    fn lend(self: &Rc<Self>, connection: Lent) -> Lease {
        self.busy.set(self.busy.get() + 1);
        self.metrics.checkouts.raise();
        self.metrics.busy.up();
        self.metrics.idle.down();
        Lease {
            connection: Connection::Lent(connection),
            pool: Rc::clone(self),
        }
    }

    /// Takes back what nobody uses any more: for whoever waits longest, else to have it at hand.
    #[inline]
    fn put_back(self: &Rc<Self>, mut connection: Lent) {
        connection.shrink();
        if !connection.is_reusable() || self.owes_a_connection() {
            connection.retire();
            drop(connection);
            self.ask_for_more();
            return;
        }
        self.pass_on(connection);
    }

    /// Gives a connection to whoever waits longest, else keeps it at hand.
    #[inline]
    fn pass_on(self: &Rc<Self>, mut connection: Lent) {
        if !self.queue.is_empty() {
            match self.queue.serve(Ok(connection)) {
                None => return,
                Some(Ok(back)) => connection = back,
                Some(Err(_)) => return,
            }
        }
        self.at_hand.borrow_mut().push(AtHand {
            connection,
            swept: false,
        });
        if !self.is_swept.get() {
            self.begin_sweeping();
        }
    }

    /// Asks bb8 for a connection for each session that waits, as far as the pool's size goes.
    fn ask_for_more(self: &Rc<Self>) {
        loop {
            let lent = self.busy.get() + self.at_hand.borrow().len();
            let asked_for = self.asked_for.get();
            let size = self.budget.size as usize;
            if asked_for >= self.queue.len() || lent + asked_for >= size {
                return;
            }
            self.asked_for.set(asked_for + 1);
            tokio::task::spawn_local(Rc::clone(self).bring_one());
        }
    }

    /// One more connection for whoever waits longest, as long as somebody waits.
    async fn bring_one(self: Rc<Self>) {
        let failed = self.failures.heard.notified();
        let deserted = self.queue.deserted();
        tokio::pin!(failed, deserted);
        failed.as_mut().enable();
        deserted.as_mut().enable();
        if self.queue.is_empty() {
            self.asked_for.set(self.asked_for.get() - 1);
            return;
        }
        let brought = tokio::select! {
            biased;
            got = self.connections.get_owned() => got.ok(),
            () = failed => {
                self.asked_for.set(self.asked_for.get() - 1);
                self.tell_of_failure();
                return;
            }
            () = deserted => None,
        };
        self.asked_for.set(self.asked_for.get() - 1);
        if let Some(connection) = brought {
            // Even if another worker wants it next: somebody here has waited for it, too.
            self.pass_on(connection);
        }
        self.ask_for_more();
    }

    /// An attempt to connect failed. Who waits for a connection that is in use may go on waiting if only the number of
    /// connections was the reason.
    fn tell_of_failure(&self) {
        let Some(source) = self.failures.last() else {
            return;
        };
        if self.busy.get() > 0 && source.is_too_many() {
            return;
        }
        let mut waiting = self.queue.len();
        while waiting > 0 {
            let error = CheckoutError::Connect {
                shard: self.address.shard.clone(),
                source: Arc::clone(&source),
            };
            self.queue.serve(Err(error));
            waiting -= 1;
        }
    }

    /// From now on connections that are not used go back to bb8, which closes them by its rules.
    fn begin_sweeping(self: &Rc<Self>) {
        self.is_swept.set(true);
        let pool = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(AT_HAND).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.sweep();
                if pool.at_hand.borrow().is_empty() {
                    pool.is_swept.set(false);
                    return;
                }
            }
        });
    }

    fn sweep(&self) {
        let mut leaving = Vec::new();
        let mut at_hand = self.at_hand.borrow_mut();
        for mut entry in std::mem::take(&mut *at_hand) {
            let old = self
                .lifetime
                .is_some_and(|lifetime| entry.connection.age() > lifetime);
            if old {
                entry.connection.retire();
            }
            if old || entry.swept {
                leaving.push(entry);
            } else {
                entry.swept = true;
                at_hand.push(entry);
            }
        }
        drop(at_hand);
        drop(leaving);
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
        settings: &Arc<Settings>,
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
        let server = self.manager.open(Permit::beyond(permit)).await?;
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

    fn full(&self) -> CheckoutError {
        self.worker_metrics.checkout_timeouts.raise();
        CheckoutError::Full {
            shard: self.address.shard.clone(),
            size: self.budget.size,
            busy: self.busy.get(),
            waiting: self.budget.waiting.load(Ordering::Relaxed),
            waited: self.checkout_timeout,
        }
    }

    /// Is a connection that comes back needed elsewhere? While another worker has less than its share and waits for
    /// leave to open one, a worker closes what it has beyond its own. A share cannot be less than one, so where there
    /// are more workers than shares every worker passes on what it has.
    #[inline]
    fn owes_a_connection(&self) -> bool {
        self.budget.starving.load(Ordering::Relaxed) > 0 && self.has_more_than_its_share()
    }

    fn has_more_than_its_share(&self) -> bool {
        self.manager.open.load(Ordering::Relaxed) > self.manager.share
            || self.budget.size < self.workers
    }

    /// Another worker asks: closes a connection that it has a right to, or that nobody here has used for a while.
    async fn close_one(&self, has_less: bool) {
        let any = has_less && self.has_more_than_its_share();
        let longest_unused = {
            let mut at_hand = self.at_hand.borrow_mut();
            let found = at_hand.first().is_some_and(|first| any || first.swept);
            found.then(|| at_hand.remove(0).connection)
        };
        if let Some(mut connection) = longest_unused {
            connection.retire();
        } else if self.connections.state().idle_connections > 0
            && let Ok(mut connection) = self.connections.get_owned().await
        {
            connection.retire();
        }
    }
}

/// A session's place in the queue. Leaving it passes on what it was served and did not take.
struct Turn<'a> {
    pool: &'a Rc<Pool>,
    waiter: Rc<Waiter<Result<Lent, CheckoutError>>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(Ok(connection)) = self.pool.queue.leave(&self.waiter) {
            self.pool.put_back(connection);
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
    Lent(Lent),
    /// One beyond its size.
    Beyond {
        server: Box<Server>,
        _leave: Rc<Reserve>,
    },
    /// Given back: while it is being dropped.
    Returned,
}

impl Lease {
    /// Whose connection it is.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.pool.address
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.pool.metrics.busy.down();
        self.pool.metrics.idle.up();
        let traffic = std::mem::take(&mut self.traffic);
        let metrics = &self.pool.worker_metrics;
        metrics.server_bytes_in.add(traffic.received);
        metrics.server_bytes_out.add(traffic.sent);
        if let Connection::Lent(connection) =
            std::mem::replace(&mut self.connection, Connection::Returned)
        {
            self.pool.busy.set(self.pool.busy.get().saturating_sub(1));
            self.pool.put_back(connection);
        }
    }
}

impl Deref for Lease {
    type Target = Server;

    #[inline]
    fn deref(&self) -> &Server {
        match &self.connection {
            Connection::Lent(connection) => connection,
            Connection::Beyond { server, .. } => server,
            Connection::Returned => {
                unreachable!("only a lease that is being dropped is given back")
            }
        }
    }
}

impl DerefMut for Lease {
    #[inline]
    fn deref_mut(&mut self) -> &mut Server {
        match &mut self.connection {
            Connection::Lent(connection) => connection,
            Connection::Beyond { server, .. } => server,
            Connection::Returned => {
                unreachable!("only a lease that is being dropped is given back")
            }
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

    /// Another worker needs a connection: closes one of ours that can be spared.
    pub fn asked(&self, ask: &Ask) -> impl Future<Output = ()> + use<> {
        let pool = self.pools.borrow().get(&ask.key).cloned();
        let has_less = ask.has_less;
        async move {
            if let Some(pool) = pool {
                pool.close_one(has_less).await;
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
