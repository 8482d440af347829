//! Worker threads and their mail: connections handed over by the acceptor, cancel requests, the word to leave.

use crate::backend::budget::Ask;
use crate::backend::pool::Pools;
use crate::cache::results::store::Question;
use crate::metrics::WorkerMetrics;
use crate::session::again::Done;
use crate::session::cancel::Delivery;
use crate::session::login;
use crate::session::worker::{Shared, Worker};
use bytes::Bytes;
use std::net::TcpStream as StdTcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;

/// Mail that may wait for a worker.
pub const MAIL_MAX: usize = 4_096;

/// What a worker is told.
#[derive(Debug)]
pub enum Mail {
    /// Serve this client.
    Client(StdTcpStream, ClientCount),
    /// Cancel what this session does, if the key is right.
    Cancel {
        /// The process id its client was told.
        pid: u32,
        /// The secret.
        key: Bytes,
        /// Who asked waits for its end.
        delivery: Delivery,
    },
    /// Ask this again without a client, and keep the answer.
    Again(Box<Question>, Option<Done>),
    /// Sessions leave when they are idle.
    Drain,
    /// The snapshot changed: pools of servers that are gone may close.
    Look,
}

/// Counts a client while it is connected.
#[derive(Debug)]
pub struct ClientCount(Arc<AtomicUsize>);

impl ClientCount {
    /// One more, unless `max` are connected already.
    #[must_use]
    pub fn enter(count: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        if count.fetch_add(1, Ordering::AcqRel) >= max {
            count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for ClientCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a worker. Blocks the thread, and returns only when something is wrong: its mailbox stays open as long as there are
/// workers.
///
/// # Errors
/// The runtime cannot be made.
pub fn run(
    index: usize,
    shared: Arc<Shared>,
    pools: impl FnOnce(usize, Arc<WorkerMetrics>) -> Pools,
    mut mail: mpsc::Receiver<Mail>,
    mut asks: mpsc::Receiver<Ask>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async move {
        let metrics = shared.metrics.worker();
        let worker = Worker::new(index, shared, pools(index, Arc::clone(&metrics)), metrics);
        // Each in a task of its own: what runs here itself is polled whenever any session has something to do.
        let pools = Rc::clone(&worker);
        tokio::task::spawn_local(async move {
            while let Some(ask) = asks.recv().await {
                tokio::task::spawn_local(pools.pools.asked(&ask));
            }
        });
        let letters = tokio::task::spawn_local(async move {
            while let Some(letter) = mail.recv().await {
                read(&worker, letter);
            }
        });
        // A panic in it has been reported, and ends the worker.
        let _ = letters.await;
    });
    Ok(())
}

fn read(worker: &Rc<Worker>, letter: Mail) {
    match letter {
        Mail::Client(stream, count) => {
            let worker = Rc::clone(worker);
            tokio::task::spawn_local(async move {
                let _count = count;
                worker.metrics.clients.up();
                worker.metrics.clients_accepted.raise();
                // What a login needs is gone when the session begins.
                if let Some(mut session) = Box::pin(login::enter(stream, &worker)).await {
                    session.run().await;
                }
                worker.metrics.clients.down();
            });
        }
        Mail::Cancel { pid, key, delivery } => {
            let slot = worker.cancel_slot(pid);
            if let Some(slot) = slot.filter(|slot| slot.matches(&key)) {
                slot.cancel(worker, delivery);
            }
        }
        Mail::Again(question, done) => worker.ask_again(*question, done),
        Mail::Drain => worker.drain(),
        Mail::Look => {
            let topology = worker.shared.topology.load();
            worker.pools.retain(|address| {
                topology.shards.iter().any(|s| {
                    s.name == address.shard
                        && s.primary.host == address.host
                        && s.primary.port == address.port
                        && s.primary.database == address.database
                })
            });
        }
    }
}
