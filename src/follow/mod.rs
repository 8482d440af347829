//! Changes that do not pass Keyway are seen: each shard's primary tells of every commit, and what is kept of the rows it
//! changed is void.
//!
//! In: the topology, each snapshot before it is published. Out: changes and marks of the result cache's cells, and numbers. It
//! never keeps or gives an answer, and nobody waits for it.
//!
//! A shard is *in step* while its changes arrive. Otherwise its cell is marked, so that nothing of it is kept or given: from
//! before the first statement, while a connection is lost, while what arrives is too old, and when the shard cannot tell at all.
//!
//! Reading order: `line` (a connection), `refusal` (what a shard needs), `commits` (what a transaction changed, and from when on
//! others see it), `shard` (one shard's task).

mod board;
mod commits;
mod line;
mod refusal;
mod shard;

use crate::backend::connect::{ConnectOptions, Role, ServerAddress};
use crate::backend::tls::ServerConnectors;
use crate::cache::remote::Remote;
use crate::cache::results::cells::{Cell, Cells, Marks};
use crate::follow::board::Board;
use crate::follow::commits::Families;
use crate::follow::shard::{Follower, follow};
use crate::metrics::FollowStanding;
use crate::topology::{Dsn, ShardId, Topology};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// All shards' changes. Dropping it ends their connections.
pub struct Follow {
    how: How,
    /// By the shards' stable ids.
    followed: Mutex<BTreeMap<u16, Followed>>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").finish_non_exhaustive()
    }
}

/// What all shards' tasks need.
#[derive(Clone)]
struct How {
    options: ConnectOptions,
    tls: ServerConnectors,
    board: Board,
}

/// One shard's task, from outside.
struct Followed {
    name: String,
    primary: Dsn,
    news: watch::Sender<Arc<News>>,
    numbers: Arc<Numbers>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a task is told of a new snapshot.
struct News {
    families: Arc<Families>,
    /// The shard's mark from before the snapshot is published until the task goes by its families.
    bridge: Mutex<Option<Marks>>,
}

/// How one shard's task stands. It writes, others read.
#[derive(Debug, Default)]
struct Numbers {
    connected: AtomicBool,
    in_step: AtomicBool,
    lag_bytes: AtomicU64,
    lag_ms: AtomicU64,
    changes: AtomicU64,
    reconnects: AtomicU64,
    /// In words.
    state: Mutex<String>,
}

impl Numbers {
    fn say(&self, state: impl Into<String>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state.into();
    }
}

impl Follow {
    /// Begins to follow every shard that a keyspace has. When it returns nothing of any shard is kept or given, until that
    /// shard is in step. To be called inside a runtime.
    #[must_use]
    pub fn start(
        topology: &Topology,
        options: ConnectOptions,
        tls: ServerConnectors,
        cells: Arc<Cells>,
        remote: Option<Arc<Remote>>,
    ) -> Self {
        let follow = Self {
            how: How {
                options,
                tls,
                board: Board::new(cells, remote),
            },
            followed: Mutex::default(),
        };
        follow.reload(topology);
        follow
    }

    /// Goes by this snapshot from now on. To be called before anybody plans by it, inside a runtime.
    pub fn reload(&self, topology: &Topology) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = std::mem::take(&mut *followed);
        for (index, shard) in (0..).zip(&topology.shards) {
            let id = ShardId(index);
            if !topology
                .keyspaces
                .iter()
                .any(|keyspace| keyspace.shards.contains(&id))
            {
                continue;
            }
            let families = Arc::new(families_of(topology, id));
            let mark = || self.how.board.mark([Cell::of_shard(shard.stable_id)]);
            let same = gone
                .remove(&shard.stable_id)
                .filter(|known| known.name == shard.name && known.primary == shard.primary);
            let entry = match same {
                Some(known) => {
                    if known.news.borrow().families != families {
                        known.news.send_replace(Arc::new(News {
                            families,
                            bridge: Mutex::new(Some(mark())),
                        }));
                    }
                    known
                }
                None => {
                    // Before the one that was there before is dropped with its marks.
                    let marks = mark();
                    self.begin(
                        &shard.name,
                        shard.stable_id,
                        &shard.primary,
                        families,
                        marks,
                    )
                }
            };
            followed.insert(shard.stable_id, entry);
        }
    }

    fn begin(
        &self,
        name: &str,
        stable_id: u16,
        primary: &Dsn,
        families: Arc<Families>,
        marks: Marks,
    ) -> Followed {
        let (news, told) = watch::channel(Arc::new(News {
            families,
            bridge: Mutex::default(),
        }));
        let numbers = Arc::new(Numbers::default());
        numbers.say("connecting");
        let follower = Follower {
            address: ServerAddress {
                shard: name.to_owned(),
                host: primary.host.clone(),
                port: primary.port,
                database: primary.database.clone(),
                tls: primary.tls,
            },
            role: Role {
                user: primary.user.clone(),
                password: primary.password.clone(),
            },
            stable_id,
            how: self.how.clone(),
            numbers: Arc::clone(&numbers),
            news: told,
        };
        Followed {
            name: name.to_owned(),
            primary: primary.clone(),
            news,
            numbers,
            task: tokio::spawn(follow(follower, marks)),
        }
    }

    /// How each shard stands, in the order of their stable ids.
    #[must_use]
    pub fn numbers(&self) -> Vec<FollowStanding> {
        let followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed
            .values()
            .map(|shard| {
                let numbers = &shard.numbers;
                let number = |of: &AtomicU64| of.load(Ordering::Relaxed);
                let state = numbers.state.lock();
                FollowStanding {
                    shard: shard.name.clone(),
                    connected: numbers.connected.load(Ordering::Relaxed),
                    in_step: numbers.in_step.load(Ordering::Relaxed),
                    lag_bytes: number(&numbers.lag_bytes),
                    lag_ms: number(&numbers.lag_ms),
                    changes: number(&numbers.changes),
                    reconnects: number(&numbers.reconnects),
                    state: state.unwrap_or_else(PoisonError::into_inner).clone(),
                }
            })
            .collect()
    }
}

/// The families of what is on a shard, by the keyspaces that it belongs to.
fn families_of(topology: &Topology, shard: ShardId) -> Families {
    let here = topology
        .keyspaces
        .iter()
        .zip(&topology.families)
        .filter(|(keyspace, _)| keyspace.shards.contains(&shard));
    here.flat_map(|(_, families)| families.iter())
        .map(|(name, family)| (name.clone(), *family))
        .collect()
}
