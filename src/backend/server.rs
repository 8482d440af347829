//! One server connection: its state, what it has prepared and set, and the primitive of this room: send this request,
//! its replies come back in order.

use crate::backend::budget::Permit;
use crate::backend::settings::Settings;
use crate::backend::stream::{Scratch, Stream, Traffic, release};
use crate::cache::results::cells::{Cell, Held, Marks};
use crate::cache::results::store::Results;
use crate::metrics::ShardMetrics;
use crate::wire::backend::tag;
use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of notices and the like kept for a client; more are dropped.
const ASIDE_MAX: usize = 1 << 20;

/// Cells that one transaction marks; beyond it, it marks the one that stands for everything.
const CELLS_MARKED_MAX: usize = 4_096;

/// A buffer larger than this is not kept between statements.
const BUFFER_KEPT_MAX: usize = 64 * 1024;

/// What a server connection is doing. Only `Idle` goes back to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// In sync, outside a transaction.
    Idle,
    /// Replies are owed; behind them the given number of ReadyForQuery.
    Busy {
        /// ReadyForQuery messages still to come.
        syncs: u32,
    },
    /// In sync, inside a transaction block.
    InTransaction,
    /// In sync, inside a failed transaction block.
    Failed,
    /// Not to be used again.
    Broken(Doubt),
}

/// Why a server connection is not trusted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The socket closed or failed.
    #[error("the connection was lost")]
    Lost,
    /// Bytes that are no PostgreSQL message.
    #[error("the server broke the protocol")]
    Protocol,
    /// A cancel request was sent to it; the signal may arrive late.
    #[error("a cancel request was sent to it")]
    Canceled,
    /// It holds session state that the next client must not see.
    #[error("it holds another session's state")]
    SessionState,
    /// It is closed on purpose (drained, starving neighbour, reload).
    #[error("it was retired")]
    Retired,
}

/// Who a cancel request must name.
#[derive(Clone)]
pub struct CancelKey {
    /// The backend's process id.
    pub pid: u32,
    /// Its secret.
    pub secret: Bytes,
}

/// Whoever knows the secret can cancel.
impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// A connection to one PostgreSQL backend.
#[derive(Debug)]
pub struct Server {
    pub(super) stream: Stream,
    /// Bytes read and not yet consumed.
    pub inbox: BytesMut,
    /// Bytes to be sent with the next flush.
    pub outbox: BytesMut,
    state: ServerState,
    /// For cancel requests.
    pub cancel_key: CancelKey,
    /// ParameterStatus values as last reported.
    pub parameters: HashMap<String, String>,
    /// Notices, notifications and ParameterStatus that came beside a reply that was nobody's.
    aside: BytesMut,
    batch_clock: u64,
    settings: Arc<Settings>,
    custom_ever: BTreeSet<String>,
    prepared: HashMap<u64, u64>,
    prepared_max: usize,
    clock: u64,
    /// Which statement is its unnamed one.
    pub unnamed: Option<u64>,
    retire_when_idle: bool,
    opened: Instant,
    /// Since somebody last took it.
    pub traffic: Traffic,
    /// What the transaction at hand may have changed, for the result cache.
    writing: Option<Box<Writing>>,
    /// One ended whose marks could not be counted on any more.
    outlived: bool,
    _budget: Permit,
    metrics: Option<Arc<ShardMetrics>>,
}

/// Cells that a server's transaction has marked, until the transaction is seen to be over.
#[derive(Debug)]
struct Writing {
    results: Arc<Results>,
    shard: String,
    marks: Vec<Arc<Marks>>,
    cells: BTreeSet<Cell>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take()
            && !matches!(
                self.state,
                ServerState::Idle | ServerState::InTransaction | ServerState::Failed
            )
        {
            // What it was told may still be done.
            let doubts = &writing.results.doubts;
            doubts.add(writing.shard, self.cancel_key.pid, writing.marks);
        }
        if let Some(metrics) = &self.metrics {
            metrics.closed.raise();
            metrics.idle.down();
            if matches!(
                self.state,
                ServerState::Broken(_) | ServerState::Busy { .. }
            ) {
                metrics.doubted.raise();
            }
        }
    }
}

impl Server {
    pub(super) fn new(
        stream: Stream,
        cancel_key: CancelKey,
        parameters: HashMap<String, String>,
        prepared_max: usize,
        budget: Permit,
    ) -> Self {
        Self {
            stream,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            state: ServerState::Idle,
            cancel_key,
            parameters,
            aside: BytesMut::new(),
            batch_clock: 0,
            settings: Arc::default(),
            custom_ever: BTreeSet::new(),
            prepared: HashMap::new(),
            prepared_max: prepared_max.max(1),
            clock: 0,
            unnamed: None,
            retire_when_idle: false,
            opened: Instant::now(),
            traffic: Traffic::default(),
            writing: None,
            outlived: false,
            _budget: budget,
            metrics: None,
        }
    }

    /// From now on it is counted among its shard's connections.
    pub(super) fn count_in(&mut self, metrics: &Arc<ShardMetrics>) {
        metrics.opened.raise();
        metrics.idle.up();
        self.metrics = Some(Arc::clone(metrics));
    }

    /// Gives back what a large message has made of its buffers.
    #[inline]
    pub fn shrink(&mut self) {
        for buffer in [&mut self.inbox, &mut self.outbox] {
            if buffer.capacity() > BUFFER_KEPT_MAX {
                release(buffer);
            }
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> ServerState {
        self.state
    }

    /// How long it has been open.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Fit for another client?
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.state == ServerState::Idle
            && !self.retire_when_idle
            && self.inbox.is_empty()
            && self.outbox.is_empty()
    }

    /// Is an idle connection still one? A server that ended it while nobody looked has said so, or closed it.
    #[inline]
    pub fn is_alive(&mut self) -> bool {
        !self.stream.may_be_readable() || self.look()
    }

    /// Reads what an idle server has sent. Notices and parameters are left for who uses the connection next.
    #[cold]
    fn look(&mut self) -> bool {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.poll_fill(&mut context) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => {
                let first = self.inbox.first().copied();
                if first == Some(tag::ERROR_RESPONSE) {
                    self.doubt(Doubt::Lost);
                }
                first != Some(tag::ERROR_RESPONSE)
            }
            Poll::Ready(Err(_)) => false,
        }
    }

    /// From now on `syncs` more ReadyForQuery are owed.
    pub fn expect_syncs(&mut self, syncs: u32) {
        self.state = match self.state {
            ServerState::Busy { syncs: owed } => ServerState::Busy {
                syncs: owed + syncs,
            },
            ServerState::Broken(doubt) => ServerState::Broken(doubt),
            ServerState::Idle | ServerState::InTransaction | ServerState::Failed => {
                ServerState::Busy { syncs }
            }
        };
    }

    /// A ReadyForQuery with this status byte was consumed.
    #[inline]
    pub fn ready(&mut self, status: u8) {
        self.state = match (self.state, status) {
            (ServerState::Busy { syncs }, b'I' | b'T' | b'E') if syncs > 1 => {
                ServerState::Busy { syncs: syncs - 1 }
            }
            (ServerState::Busy { .. }, b'I') => {
                self.wrote();
                ServerState::Idle
            }
            (ServerState::Busy { .. }, b'T') => ServerState::InTransaction,
            (ServerState::Busy { .. }, b'E') => ServerState::Failed,
            (ServerState::Broken(doubt), _) => ServerState::Broken(doubt),
            _ => ServerState::Broken(Doubt::Protocol),
        };
    }

    /// Has its transaction marked what it may have changed?
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// What its transaction may have changed is as it will be.
    #[inline]
    pub fn wrote(&mut self) {
        if let Some(writing) = self.writing.take() {
            self.unmark(&writing);
        }
    }

    #[inline(never)]
    fn unmark(&mut self, writing: &Writing) {
        self.outlived |= !writing.marks.iter().all(|marks| marks.is_sure());
    }

    /// Is there anything to be said of marks: some it still has, or some it had?
    #[inline]
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.writing.is_some() || self.outlived
    }

    /// Has a transaction ended since this was last asked whose marks could not be counted on up to its end?
    #[inline]
    pub fn take_outlived(&mut self) -> bool {
        std::mem::take(&mut self.outlived)
    }

    /// A statement that is about to be sent may change what these cells stand for. They stay marked until the transaction
    /// is over; should the connection be lost before that is seen, until its process is gone.
    pub fn writes(
        &mut self,
        results: &Arc<Results>,
        shard: &str,
        cells: &[Cell],
        held: impl FnOnce(&[Cell]) -> Option<Box<dyn Held>>,
    ) {
        let cells = self.not_marked(cells);
        if cells.is_empty() {
            return;
        }
        let writing = self.writing.get_or_insert_with(|| {
            Box::new(Writing {
                results: Arc::clone(results),
                shard: shard.to_owned(),
                marks: Vec::new(),
                cells: BTreeSet::new(),
            })
        });
        writing.cells.extend(cells.iter().copied());
        let held = held(&cells);
        let marks = results.cells.mark(cells).with(held);
        writing.marks.push(Arc::new(marks));
    }

    /// Which of these its transaction has not marked yet; with very many, everything.
    #[must_use]
    pub fn not_marked(&self, cells: &[Cell]) -> SmallVec<[Cell; 6]> {
        let known = self.writing.as_ref().map(|writing| &writing.cells);
        let Some(known) = known else {
            return SmallVec::from_slice(cells);
        };
        if known.contains(&Cell::EVERYTHING) {
            return SmallVec::new();
        }
        // A transaction that changes very many things changes everything.
        if known.len() + cells.len() > CELLS_MARKED_MAX {
            return smallvec![Cell::EVERYTHING];
        }
        let news = cells.iter().copied();
        news.filter(|cell| !known.contains(cell)).collect()
    }

    /// Can the marks of its transaction be counted on, wherever they are?
    #[must_use]
    pub fn is_sure(&self) -> bool {
        let sure = |writing: &Writing| writing.marks.iter().all(|marks| marks.is_sure());
        self.writing.as_deref().is_none_or(sure)
    }

    /// Never to be used again. The first reason stays.
    pub fn doubt(&mut self, doubt: Doubt) {
        if !matches!(self.state, ServerState::Broken(_)) {
            self.state = ServerState::Broken(doubt);
        }
    }

    /// Close it instead of returning it to its pool.
    pub fn retire(&mut self) {
        self.retire_when_idle = true;
    }

    /// Keeps a message that a client may want to hear although the reply it came with is nobody's.
    pub fn put_aside(&mut self, message: &[u8]) {
        if self.aside.len() < ASIDE_MAX {
            self.aside.extend_from_slice(message);
        }
    }

    /// What was put aside since the last call.
    pub fn take_aside(&mut self) -> BytesMut {
        std::mem::take(&mut self.aside)
    }

    /// From here on no statement used is evicted until the next batch begins.
    pub fn begin_batch(&mut self) {
        self.batch_clock = self.clock;
    }

    /// What is applied on it.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// A session with these settings may use it (see [`Settings::custom_names`]).
    #[must_use]
    pub fn may_serve(&self, wanted: &Settings) -> bool {
        self.custom_ever.is_empty()
            || self
                .custom_ever
                .iter()
                .all(|name| wanted.get(name).is_some())
    }

    /// Says what is applied on it now.
    pub fn set_settings(&mut self, settings: &Arc<Settings>) {
        if !Arc::ptr_eq(&self.settings, settings) {
            self.custom_ever.extend(settings.custom_names());
            self.settings = Arc::clone(settings);
        }
    }

    /// A custom setting was touched on it, if only inside a transaction.
    pub fn touched_custom(&mut self, name: &str) {
        if name.contains('.') {
            self.custom_ever.insert(name.to_owned());
        }
    }

    /// Is statement `id` prepared on it? Counts as a use.
    pub fn has_prepared(&mut self, id: u64) -> bool {
        self.clock += 1;
        match self.prepared.get_mut(&id) {
            Some(used) => {
                *used = self.clock;
                true
            }
            None => false,
        }
    }

    /// Statement `id` is being prepared on it; returns those to close when there are too many, but none that the batch
    /// at hand uses.
    pub fn add_prepared(&mut self, id: u64) -> Vec<u64> {
        self.clock += 1;
        let mut evicted = Vec::new();
        while self.prepared.len() >= self.prepared_max {
            let oldest = self
                .prepared
                .iter()
                .min_by_key(|(_, used)| **used)
                .filter(|(_, used)| **used <= self.batch_clock)
                .map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            self.prepared.remove(&oldest);
            evicted.push(oldest);
        }
        self.prepared.insert(id, self.clock);
        evicted
    }

    /// Statement `id` is not prepared on it after all (its Parse failed).
    pub fn forget_prepared(&mut self, id: u64) {
        self.prepared.remove(&id);
    }

    /// DISCARD ALL or DEALLOCATE ALL ran on it.
    pub fn forget_all_prepared(&mut self) {
        self.prepared.clear();
        self.unnamed = None;
    }

    /// How many statements it holds.
    #[must_use]
    pub fn prepared_len(&self) -> usize {
        self.prepared.len()
    }

    /// Sends what is in the outbox.
    ///
    /// Cancel safe: the state is `Busy`, so a server with half a request sent is closed.
    ///
    /// # Errors
    /// The socket's; the server is then broken.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.traffic.send(self.outbox.len());
        let result = self.stream.write_from(&mut self.outbox).await;
        if result.is_err() {
            self.doubt(Doubt::Lost);
        }
        result
    }

    /// Has the socket not taken everything yet?
    #[inline]
    #[must_use]
    pub fn has_to_send(&self) -> bool {
        !self.outbox.is_empty() || self.stream.has_to_flush()
    }

    /// Writes what the socket takes; for use in a select with reading.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.outbox.len();
        let result = self.stream.poll_write_from(context, &mut self.outbox);
        self.traffic.send(waiting - self.outbox.len());
        let result = ready!(result);
        if result.is_err() {
            self.doubt(Doubt::Lost);
        }
        Poll::Ready(result)
    }

    /// Appends what has arrived to the inbox.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.stream.poll_read_into(context, &mut self.inbox)) {
            Ok(0) => {
                self.doubt(Doubt::Lost);
                Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()))
            }
            Ok(length) => {
                self.traffic.receive(length);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.doubt(Doubt::Lost);
                Poll::Ready(Err(error))
            }
        }
    }

    /// Reads into `scratch` instead of the inbox, which is empty.
    #[inline]
    pub fn poll_read_scratch(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<usize>> {
        let read = self.stream.poll_read_scratch(context, scratch);
        if let Poll::Ready(Ok(length)) = read {
            self.traffic.receive(length);
        }
        read
    }

    /// Sends a request of one Sync as far as the socket takes it now; the rest waits in the outbox, which is empty.
    #[inline]
    pub fn request_now(&mut self, bytes: &[u8]) {
        self.expect_syncs(1);
        self.stream.write_now(bytes, &mut self.outbox);
        self.traffic.send(bytes.len() - self.outbox.len());
    }

    /// Waits for more bytes in the inbox.
    ///
    /// Cancel safe: what was read is in the inbox; a server that still owes replies is `Busy` and will be closed.
    ///
    /// # Errors
    /// The socket's, or end of file; the server is then broken.
    pub async fn fill(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_fill(context)).await
    }
}
