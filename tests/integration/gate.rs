//! A gate in front of a PostgreSQL server: what the server says passes message by message, until the test says stop.
//! What is held then can be released, or its connections cut. The control plane, which asks when it wants to, passes
//! freely unless a test says otherwise.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::harness::{cluster, eventually};
use crate::raw::PATIENCE;

#[derive(Default)]
struct State {
    /// Messages that may still pass; `None` lets all pass.
    left: Option<usize>,
    /// Connections whose server has spoken and is held.
    holding: usize,
    /// Connections that hold are cut now.
    cutting: bool,
    /// Bytes on their way to the server that are replaced, by bytes of the same length.
    replace: Option<(Vec<u8>, Vec<u8>)>,
    /// How often that happened.
    replaced: usize,
    /// Nothing is read from the router.
    deaf: bool,
    control: Control,
    /// New connections that wait to be let in; `None` lets them in at once.
    newcomers: Option<usize>,
    /// A test's own event, see [`Gate::note_done`].
    done: bool,
}

/// What becomes of what the servers say to the control plane.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Control {
    /// It passes, and counts for nothing.
    #[default]
    Free,
    /// It counts and is held like the rest, except on the control plane's ear.
    Held,
}

/// Whom a connection of the router serves.
#[derive(Clone, Copy)]
enum Who {
    /// Clients' sessions.
    Session,
    /// The control plane, which reads catalog and schemas.
    Control,
    /// The control plane's ear, which asks for the catalog's epoch by the clock.
    Listener,
}

impl Who {
    /// After these bytes for the server.
    fn told(self, bytes: &[u8]) -> Self {
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        match self {
            Self::Session if has(b"application_name\0keyway control\0") => Self::Control,
            Self::Control if has(b"LISTEN keyway_epoch") => Self::Listener,
            known => known,
        }
    }
}

/// The gate; connections through it end with the test's process.
pub(crate) struct Gate {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits for leave to pass one message on; false when the connection is over.
    fn may_pass(&self, who: Who, over: &AtomicBool) -> bool {
        let mut state = self.lock();
        let passes_freely = match who {
            Who::Session => false,
            Who::Control => state.control == Control::Free,
            Who::Listener => true,
        };
        if passes_freely {
            return !over.load(Ordering::SeqCst);
        }
        if state.left == Some(0) {
            state.holding += 1;
            self.changed.notify_all();
            while state.left == Some(0) && !state.cutting && !over.load(Ordering::SeqCst) {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            state.holding -= 1;
            self.changed.notify_all();
            if state.cutting {
                return false;
            }
        }
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
        }
        !over.load(Ordering::SeqCst)
    }

    /// Waits until the router's bytes may be read.
    fn may_read(&self) {
        let state = self.lock();
        let hears = self.changed.wait_while(state, |state| state.deaf);
        drop(hears.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until a new connection's bytes may be read.
    fn may_enter(&self) {
        let mut state = self.lock();
        if let Some(newcomers) = &mut state.newcomers {
            *newcomers += 1;
            self.changed.notify_all();
        }
        let opened = self
            .changed
            .wait_while(state, |state| state.newcomers.is_some());
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }

    /// The client's bytes, with what is to be replaced.
    fn edit(&self, bytes: &mut [u8]) {
        let mut state = self.lock();
        let Some((from, to)) = state.replace.clone() else {
            return;
        };
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(from.len()).position(|w| w == from) {
            bytes[at + found..at + found + to.len()].copy_from_slice(&to);
            at += found + to.len();
            state.replaced += 1;
        }
    }
}

impl Gate {
    /// In front of the run's cluster, open.
    pub(crate) fn open() -> Self {
        Self::in_front_of(cluster().port())
    }

    /// In front of a server on this port, open. What is encrypted is not cut into messages: it passes as it comes.
    pub(crate) fn in_front_of(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared::default());
        let gates = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    return;
                };
                relay(&gates, &client, &server);
            }
        });
        Self { port, shared }
    }

    /// A connection string through the gate.
    pub(crate) fn dsn(&self, database: &str) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// From now on `messages` of the servers pass, and no more.
    pub(crate) fn stop_after(&self, messages: usize) {
        self.shared.change(|state| {
            state.left = Some(messages);
            state.done = false;
        });
    }

    /// Everything passes again.
    pub(crate) fn release(&self) {
        self.shared.change(|state| {
            state.left = None;
            state.deaf = false;
        });
    }

    /// From now on nothing more is read from the router.
    pub(crate) fn hold_requests(&self) {
        self.shared.change(|state| state.deaf = true);
    }

    /// What becomes of the control plane from now on.
    pub(crate) fn control(&self, control: Control) {
        self.shared.change(|state| state.control = control);
    }

    /// From now on new connections wait at the gate; those that are there are not concerned.
    pub(crate) fn shut(&self) {
        self.shared.change(|state| state.newcomers = Some(0));
    }

    /// Waits until so many new connections wait at the gate.
    pub(crate) fn wait_newcomers(&self, count: usize) {
        self.wait(|state| state.newcomers >= Some(count));
    }

    /// Lets them in, and all that come.
    pub(crate) fn let_in(&self) {
        self.shared.change(|state| state.newcomers = None);
    }

    /// Cuts the connections whose server is held, then everything passes again.
    pub(crate) fn cut(&self) {
        self.shared.change(|state| state.cutting = true);
        self.wait(|state| state.holding == 0);
        self.shared.change(|state| {
            state.cutting = false;
            state.left = None;
        });
    }

    /// What the test waits for, apart from the gate, has happened.
    pub(crate) fn note_done(&self) {
        self.shared.change(|state| state.done = true);
    }

    /// Waits until a server is held (true) or [`Gate::note_done`] (false).
    pub(crate) fn wait_held(&self) -> bool {
        self.wait(|state| state.holding > 0 || state.done);
        !self.shared.lock().done
    }

    /// Messages that may still pass.
    pub(crate) fn left(&self) -> usize {
        self.shared.lock().left.unwrap_or(usize::MAX)
    }

    /// Waits until a server is held (true) or `over` says so (false).
    pub(crate) fn wait_held_or(&self, mut over: impl FnMut() -> bool) -> bool {
        eventually("a server is held, or it is over", || {
            let held = self.shared.lock().holding > 0;
            (held || over()).then_some(held)
        })
    }

    /// From now on these bytes reach servers as those.
    pub(crate) fn replace(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len(), "messages keep their length");
        self.shared.change(|state| {
            state.replace = Some((from.to_vec(), to.to_vec()));
            state.replaced = 0;
        });
    }

    /// Nothing is replaced any more; how often it was.
    pub(crate) fn replace_nothing(&self) -> usize {
        let mut state = self.shared.lock();
        state.replace = None;
        state.replaced
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let state = self.shared.lock();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !until(state))
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        assert!(!waited.timed_out(), "nothing happens at the gate");
    }
}

/// Two threads for one connection.
fn relay(shared: &Arc<Shared>, client: &TcpStream, server: &TcpStream) {
    let over = Arc::new(AtomicBool::new(false));
    let pair = || {
        (
            client.try_clone().expect("a socket"),
            server.try_clone().expect("a socket"),
        )
    };
    for socket in [client, server] {
        socket.set_nodelay(true).expect("an option");
    }
    let end = |shared: &Shared, over: &AtomicBool, client: &TcpStream, server: &TcpStream| {
        over.store(true, Ordering::SeqCst);
        // They may be closed already.
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        shared.change(|_| ());
    };
    let (mut up, mut down) = (pair(), pair());
    let (gate, done) = (Arc::clone(shared), Arc::clone(&over));
    let who = Arc::new(Mutex::new(Who::Session));
    let whom = Arc::clone(&who);
    thread::spawn(move || {
        gate.may_enter();
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = up.0.read(&mut bytes) {
            gate.may_read();
            gate.edit(&mut bytes[..length]);
            let mut who = who.lock().unwrap_or_else(PoisonError::into_inner);
            *who = who.told(&bytes[..length]);
            drop(who);
            if up.1.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        end(&gate, &done, &up.0, &up.1);
    });
    let gate = Arc::clone(shared);
    thread::spawn(move || {
        let mut head = [0; 5];
        let mut before = 0;
        while down.1.read_exact(&mut head[..1]).is_ok() {
            // The answer to SSLRequest is one byte, and all behind it is TLS.
            if before == 0 && head[0] == b'S' {
                let _ = down.0.write_all(&head[..1]);
                let _ = std::io::copy(&mut down.1, &mut down.0);
                break;
            }
            if down.1.read_exact(&mut head[1..]).is_err() {
                break;
            }
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            let mut message = head.to_vec();
            message.resize(1 + length, 0);
            let whole = down.1.read_exact(&mut message[5..]).is_ok();
            let who = *whom.lock().unwrap_or_else(PoisonError::into_inner);
            // Parameters, and rows behind a first row, bring nobody to another place.
            let counts = head[0] != b'S' && !(head[0] == b'D' && before == b'D');
            before = head[0];
            if !whole
                || (counts && !gate.may_pass(who, &over))
                || down.0.write_all(&message).is_err()
            {
                break;
            }
        }
        end(&gate, &over, &down.0, &down.1);
    });
}
