//! Cancel requests: from the client's key to the servers that work for it right now, or to its wait for one.

use crate::backend::connect::{self, ServerAddress};
use crate::backend::server::{CancelKey, Server};
use crate::session::worker::Worker;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;

/// Held until a cancel request has come to all it concerns; nothing is sent by it, its end is the word. The client's
/// connection is closed then (manual §55.2.8), and what the client sends from there on is not hit any more.
pub type Delivery = oneshot::Sender<Infallible>;

/// When a server whose client is gone is asked to stop, each time after the one before.
const ABANDONED: [Duration; 2] = [Duration::ZERO, Duration::from_millis(500)];

/// A server that works for a session.
#[derive(Debug, Clone)]
pub struct CancelTarget {
    /// Where it is.
    pub address: Rc<ServerAddress>,
    /// What a cancel request to it must say.
    pub key: CancelKey,
}

/// Does a session wait for a server?
#[derive(Default)]
enum Wait {
    #[default]
    No,
    /// It does: who is to be woken.
    Yes(Waker),
    /// It did, until a cancel request came.
    Canceled,
}

/// What a session shows to cancel requests.
#[derive(Default)]
pub struct CancelSlot {
    /// The secret of its BackendKeyData.
    pub secret: [u8; 32],
    /// How much of it the client was told (4 bytes in protocol 3.0).
    pub secret_len: usize,
    targets: RefCell<SmallVec<[CancelTarget; 1]>>,
    sent: Cell<bool>,
    wait: RefCell<Wait>,
}

/// The secret is the client's alone.
impl std::fmt::Debug for CancelSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelSlot")
            .field("targets", &self.targets.borrow().len())
            .finish_non_exhaustive()
    }
}

/// Whatever comes of a wait, afterwards there is none.
struct Over<'a>(&'a RefCell<Wait>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.replace(Wait::No);
    }
}

impl CancelSlot {
    /// For a client that was told `secret_len` bytes of `secret`.
    #[must_use]
    pub fn new(secret: [u8; 32], secret_len: usize) -> Self {
        Self {
            secret,
            secret_len,
            ..Self::default()
        }
    }

    /// A server begins to work for the session.
    pub fn add(&self, target: CancelTarget) {
        self.targets.borrow_mut().push(target);
    }

    /// The server of a lease begins to work for the session.
    pub fn add_server(&self, address: Rc<ServerAddress>, server: &Server) {
        self.add(CancelTarget {
            address,
            key: server.cancel_key.clone(),
        });
    }

    /// Once no server works for the session any more, a cancel that was sent concerns none of the next ones.
    pub fn clear_when_empty(&self) {
        if self.targets.borrow().is_empty() {
            self.sent.set(false);
        }
    }

    /// No server works for the session.
    pub fn forget_all(&self) {
        let mut targets = self.targets.borrow_mut();
        if !targets.is_empty() {
            targets.clear();
        }
        self.sent.set(false);
    }

    /// This server no longer works for the session.
    pub fn remove(&self, pid: u32) {
        self.targets.borrow_mut().retain(|t| t.key.pid != pid);
    }

    /// Was a cancel sent to the servers that work for the session? Its signal may arrive late, so they must not go to
    /// another client.
    #[must_use]
    pub fn was_sent(&self) -> bool {
        self.sent.get()
    }

    /// Asks every server that works for the session now to stop. While it waits for one none does, and the wait ends.
    pub fn cancel(&self, worker: &Rc<Worker>, delivery: Delivery) {
        if !self.end_wait() {
            self.ask_to_stop(worker, &ABANDONED[..1], Some(delivery));
        }
    }

    /// What `wait` for a server brings, or `None` when a cancel request comes first. One that came before concerns none
    /// of the statements behind it.
    ///
    /// Cancel safe, if `wait` is.
    pub async fn unless_canceled<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = pin!(wait);
        let _over = Over(&self.wait);
        poll_fn(|context| {
            // Looked at first: a server that was given to the session meanwhile is passed on when the wait is dropped.
            if matches!(*self.wait.borrow(), Wait::Canceled) {
                return Poll::Ready(None);
            }
            let polled = wait.as_mut().poll(context);
            if polled.is_pending() {
                self.wait.replace(Wait::Yes(context.waker().clone()));
            }
            polled.map(Some)
        })
        .await
    }

    /// Ends the session's wait for a server; false when it does not wait.
    fn end_wait(&self) -> bool {
        match self.wait.replace(Wait::Canceled) {
            Wait::No => {
                self.wait.replace(Wait::No);
                false
            }
            Wait::Yes(waker) => {
                waker.wake();
                true
            }
            Wait::Canceled => true,
        }
    }

    /// The client is gone and so are its connections to servers, but a server notices that only when it writes. A
    /// cancel that arrives before the server has read its query is void, so it is asked again. Nobody else is hit: the
    /// key is of that connection alone.
    pub fn abandon(&self, worker: &Rc<Worker>) {
        self.ask_to_stop(worker, &ABANDONED, None);
    }

    fn ask_to_stop(
        &self,
        worker: &Rc<Worker>,
        waits: &'static [Duration],
        delivery: Option<Delivery>,
    ) {
        let delivery = Rc::new(delivery);
        for target in self.targets.borrow().iter().cloned() {
            self.sent.set(true);
            let (worker, delivery) = (Rc::clone(worker), Rc::clone(&delivery));
            tokio::task::spawn_local(async move {
                let _delivery = delivery;
                for wait in waits {
                    tokio::time::sleep(*wait).await;
                    let options = worker.pools.connect_options();
                    let tls = worker.pools.tls();
                    let sent = connect::cancel(&target.address, &target.key, options, tls).await;
                    if let Err(error) = sent {
                        tracing::warn!(%error, "a cancel request did not reach its server");
                    }
                }
            });
        }
    }

    /// Is this the client's secret? Compared in constant time.
    #[must_use]
    pub fn matches(&self, secret: &[u8]) -> bool {
        let own = &self.secret[..self.secret_len];
        own.len() == secret.len()
            && own
                .iter()
                .zip(secret)
                .fold(0, |differs, (a, b)| differs | (a ^ b))
                == 0
    }
}
