//! One worker thread's world: its pools, its plan cache, its sessions. Nothing in it is shared with another thread.

use crate::backend::connect::{Role, ServerAddress};
use crate::backend::pool::{Pool, Pools};
use crate::backend::settings::Settings;
use crate::cache::plans::PlanCache;
use crate::cache::remote::Remote;
use crate::cache::results::key::KeyWriter;
use crate::cache::results::store::Results;
use crate::cache::shapes::Shapes;
use crate::config::{Config, PoolMode};
use crate::execute::client::CopyBudget;
use crate::follow::Follow;
use crate::metrics::{Metrics, WorkerMetrics};
use crate::route::recipe::Recipe;
use crate::session::again::Waiting;
use crate::session::cancel::CancelSlot;
use crate::session::control::Control;
use crate::session::failures::LoginFailures;
use crate::session::listener::Mail;
use crate::session::login::Directory;
use crate::session::prepared::{Known, StatementTable};
use crate::topology::{ShardId, Topology};
use arc_swap::ArcSwap;
use bytes::BytesMut;
use hashbrown::HashMap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use tokio::sync::mpsc;

/// What all workers share: snapshots that the control plane replaces, and a way to ask it for work.
#[derive(Debug)]
pub struct Shared {
    /// The current topology.
    pub topology: ArcSwap<Topology>,
    /// Held while it is replaced: whoever replaces it must know what by.
    pub publishing: Mutex<()>,
    /// The current configuration.
    pub config: ArcSwap<Config>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The control plane.
    pub control: Control,
    /// Who may connect.
    pub directory: ArcSwap<Directory>,
    /// The workers' mailboxes.
    pub mailboxes: Vec<mpsc::Sender<Mail>>,
    /// Answers that are kept; `None` when the cache is off.
    pub results: Option<Arc<Results>>,
    /// Where their versions are shared with other Keyways, if they are.
    pub remote: Option<Arc<Remote>>,
    /// Changes on the shards that do not pass Keyway; `None` when they are not followed.
    pub follow: Option<Arc<Follow>>,
}

impl Shared {
    /// Sends mail to the worker whose session has this process id.
    pub fn post(&self, pid: u32, mail: Mail) {
        let worker = pid as usize % self.mailboxes.len().max(1);
        // A full mailbox loses a cancel request, which PostgreSQL's protocol allows: it promises nothing.
        if let Some(mailbox) = self.mailboxes.get(worker)
            && mailbox.try_send(mail).is_err()
        {
            tracing::warn!(worker, "a worker's mailbox is full");
        }
    }
}

/// A pool, and whose connections it holds.
pub type ShardPool = (Rc<Pool>, Rc<ServerAddress>);

/// One role's pools, by shard, for one epoch.
#[derive(Debug, Default)]
pub struct RolePools {
    role: Option<Role>,
    epoch: Cell<u64>,
    by_shard: RefCell<Vec<Option<ShardPool>>>,
}

impl RolePools {
    /// The role's name on the servers; `None`: each shard's own login.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.role.as_ref().map(|role| role.user.as_str())
    }
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The same as [`Shared::results`], nearer at hand.
    pub results: Option<Arc<Results>>,
    /// The same as [`Shared::remote`].
    pub remote: Option<Arc<Remote>>,
    /// What copies of answers on their way may take.
    pub copies: Arc<CopyBudget>,
    /// A question, while it is put together.
    pub question: RefCell<KeyWriter>,
    /// A kept answer, while it is told.
    pub telling: RefCell<BytesMut>,
    /// Its counters.
    pub metrics: Arc<WorkerMetrics>,
    /// Its server connections.
    pub pools: Pools,
    /// Its recipes.
    pub plans: RefCell<PlanCache<Recipe>>,
    /// Statements it has planned, by their texts.
    pub shapes: Shapes<Known>,
    /// Statements that its sessions have prepared.
    pub statements: StatementTable,
    /// Its sessions, by the process id their clients were told.
    sessions: RefCell<HashMap<u32, Entered>>,
    /// What a server says at login, by database, role and settings: the client's ParameterStatus messages.
    pub greetings: RefCell<HashMap<GreetingKey, Rc<Greeting>>>,
    /// Logins that failed.
    pub login_failures: LoginFailures,
    role_pools: RefCell<HashMap<Option<Role>, Rc<RolePools>>>,
    /// Questions that are to be asked again.
    pub waiting: RefCell<Waiting>,
    turn: Cell<usize>,
    /// Set when sessions should leave as soon as they are idle.
    pub draining: Cell<bool>,
}

/// A session, as its worker knows it.
#[derive(Debug)]
struct Entered {
    cancel: Rc<CancelSlot>,
    /// Wakes its task.
    waker: Option<Waker>,
}

/// Database, role and settings.
pub type GreetingKey = (String, Option<Role>, Arc<Settings>);

/// What a client is greeted with.
#[derive(Debug, Clone, Default)]
pub struct Greeting {
    /// ParameterStatus names and values.
    pub parameters: Vec<(String, String)>,
    /// The role its statements run as.
    pub user: Option<String>,
    /// The session's settings: the client's, and those [`DECISIVE`] ones that it left to the server. One value for all
    /// sessions of the worker that are greeted alike, as servers are compared with it by pointer.
    pub startup: Arc<Settings>,
    /// Its `extra_float_digits`.
    pub extra_float_digits: i32,
}

/// Settings that decide how a statement is read, where it goes, and what rows look like to a merge. Servers may have other defaults (ALTER DATABASE … SET,
/// ALTER ROLE … SET), each connection those of the time it was opened, so a session keeps the ones it was greeted with.
pub const DECISIVE: [&str; 10] = [
    "search_path",
    "standard_conforming_strings",
    "default_transaction_isolation",
    "datestyle",
    "intervalstyle",
    "timezone",
    "extra_float_digits",
    "bytea_output",
    "transform_null_equals",
    "array_nulls",
];

/// Greetings kept per worker; beyond it all are forgotten and asked again.
pub const GREETINGS_MAX: usize = 1_000;

/// An eighth of what all answers may take, divided among the workers, but that of one at least.
fn copies_max(shared: &Shared) -> usize {
    let cache = &shared.config.load().cache;
    let share = cache.size / 8 / shared.mailboxes.len().max(1);
    share.max(cache.entry_max)
}

impl Worker {
    /// A worker without sessions.
    #[must_use]
    pub fn new(
        index: usize,
        shared: Arc<Shared>,
        pools: Pools,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        let plans_max = shared.config.load().limits.plan_cache_max;
        Rc::new(Self {
            index,
            metrics,
            results: shared.results.clone(),
            remote: shared.remote.clone(),
            copies: CopyBudget::new(copies_max(&shared)),
            question: RefCell::default(),
            telling: RefCell::default(),
            shared,
            pools,
            plans: RefCell::new(PlanCache::new(plans_max)),
            shapes: Shapes::default(),
            statements: StatementTable::default(),
            sessions: RefCell::default(),
            greetings: RefCell::default(),
            login_failures: LoginFailures::default(),
            role_pools: RefCell::default(),
            waiting: RefCell::default(),
            turn: Cell::new(0),
            draining: Cell::new(false),
        })
    }

    /// Enters a session under a process id that no other session of any worker has.
    pub fn enter(&self, cancel: &Rc<CancelSlot>) -> u32 {
        let workers = u32::try_from(self.shared.mailboxes.len().max(1)).unwrap_or(1);
        let own = u32::try_from(self.index).unwrap_or(0);
        let mut sessions = self.sessions.borrow_mut();
        loop {
            let turn =
                u32::try_from(self.next_turn() % (i32::MAX as usize / 1_024)).unwrap_or(0) + 1;
            let pid = turn * workers + own;
            if !sessions.contains_key(&pid) {
                let cancel = Rc::clone(cancel);
                sessions.insert(
                    pid,
                    Entered {
                        cancel,
                        waker: None,
                    },
                );
                return pid;
            }
        }
    }

    /// A session's task, woken when sessions should leave.
    pub fn wake_with(&self, pid: u32, waker: &Waker) {
        if let Some(entered) = self.sessions.borrow_mut().get_mut(&pid) {
            entered.waker = Some(waker.clone());
        }
    }

    /// A session has ended.
    pub fn leave(&self, pid: u32) {
        self.sessions.borrow_mut().remove(&pid);
    }

    /// What the session of this process id shows to cancel requests.
    #[must_use]
    pub fn cancel_slot(&self, pid: u32) -> Option<Rc<CancelSlot>> {
        let sessions = self.sessions.borrow();
        sessions.get(&pid).map(|entered| Rc::clone(&entered.cancel))
    }

    /// Lets sessions leave as soon as they are idle.
    pub fn drain(&self) {
        self.draining.set(true);
        for entered in self.sessions.borrow().values() {
            if let Some(waker) = &entered.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Counts up, to take turns between equals.
    pub fn next_turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// The pools of `role`; `None` is each shard's own login.
    #[must_use]
    pub fn role_pools(&self, role: Option<&Role>) -> Rc<RolePools> {
        let mut all = self.role_pools.borrow_mut();
        let pools = all.entry(role.cloned()).or_insert_with(|| {
            Rc::new(RolePools {
                role: role.cloned(),
                ..RolePools::default()
            })
        });
        Rc::clone(pools)
    }

    /// A role's pool on `shard`. `None` when the topology has no such shard.
    #[must_use]
    pub fn pool(
        &self,
        topology: &Topology,
        pools: &RolePools,
        shard: ShardId,
    ) -> Option<(Rc<Pool>, Rc<ServerAddress>)> {
        let mut by_shard = pools.by_shard.borrow_mut();
        if pools.epoch.get() != topology.epoch {
            by_shard.clear();
            pools.epoch.set(topology.epoch);
        }
        let index = usize::from(shard.0);
        if let Some(Some(found)) = by_shard.get(index) {
            return Some(found.clone());
        }
        let found = topology.shards.get(index)?;
        let address = ServerAddress {
            shard: found.name.clone(),
            host: found.primary.host.clone(),
            port: found.primary.port,
            database: found.primary.database.clone(),
            tls: found.primary.tls,
        };
        let own = Role {
            user: found.primary.user.clone(),
            password: found.primary.password.clone(),
        };
        let pool = self
            .pools
            .pool(&address, pools.role.as_ref().unwrap_or(&own));
        if by_shard.len() <= index {
            by_shard.resize(index + 1, None);
        }
        by_shard[index] = Some((pool, Rc::new(address)));
        by_shard[index].clone()
    }

    /// Servers stay with a client until it leaves?
    #[must_use]
    pub fn session_pooling(&self) -> bool {
        self.shared.config.load().pool.mode == PoolMode::Session
    }
}
