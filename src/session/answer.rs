//! The loop: one request after the other, each answered before the next.

use crate::metrics::{Outcome, QueryPlan};
use crate::route::plan::ShardSet;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::quick::Quick;
use crate::wire::error::{ClientError, ErrorFields, SqlState};
use crate::wire::frame::next_frame;
use crate::wire::frontend::tag;
use bytes::Bytes;
use std::future::poll_fn;
use std::task::Poll;
use tokio::time::Instant;

/// What the client asked for.
enum Request {
    /// A simple Query: the whole message.
    Query(Bytes),
    /// Messages of the extended protocol up to a Sync or Flush.
    Batch,
    /// A function call (fastpath): the whole message.
    FunctionCall,
    /// Left over from a COPY that ended early.
    Stray,
    /// Goodbye.
    Terminate,
}

/// Why waiting for a request ended without one.
enum Silence {
    /// The client closed its connection.
    ClientGone,
    /// The router is stopping.
    Draining,
    /// A server that holds this session's state is gone.
    PinnedLost,
}

impl Session {
    /// Answers until the client leaves.
    pub(super) async fn run(&mut self) {
        // Whoever lets sessions drain wakes this task, which then sees that it should leave.
        poll_fn(|context| {
            self.worker.wake_with(self.pid, context.waker());
            Poll::Ready(())
        })
        .await;
        loop {
            let mut quick = Quick::Ordinary;
            if self.is_at_rest() {
                self.client.rest();
                quick = poll_fn(|context| self.poll_quick(context)).await;
            }
            let ended = match quick {
                Quick::Answered => self.say_rest().await,
                // Of a size of its own: an idle session takes no more than it needs to wait.
                other => Box::pin(self.go_on_with(other)).await,
            };
            match ended {
                Ok(()) => {}
                Err(SessionError::ClientGone) => return,
                Err(SessionError::Fatal(fields)) => {
                    self.say_error(&fields);
                    // The client may be gone already; there is nobody else to tell.
                    let _ = Box::pin(self.client.flush()).await;
                    return;
                }
                Err(SessionError::Statement(_) | SessionError::Unparsed(..)) => {
                    unreachable!("answer() tells the client of these")
                }
            }
        }
    }

    /// Asks one request's messages without a client. `None` when it is not through.
    pub(super) async fn ask(&mut self, messages: bytes::BytesMut) -> Option<()> {
        self.client.inbox = messages;
        let request = self.next_request().await.ok()?.ok()?;
        Box::pin(self.answer(request)).await.ok()
    }

    /// What the fast path leaves: the rest of a reply, or the whole of a request.
    async fn go_on_with(&mut self, mut quick: Quick) -> Result<(), SessionError> {
        while let Quick::Unfinished(rest) = quick {
            quick = Box::pin(self.finish(*rest)).await;
        }
        match quick {
            Quick::Answered => self.say_rest().await,
            Quick::Failed(error) => Err(error),
            Quick::Ordinary | Quick::Unfinished(_) => match self.next_request().await? {
                Ok(Request::Terminate) => Err(SessionError::ClientGone),
                Ok(request) => Box::pin(self.answer(request)).await,
                Err(silence) => Err(self.silence(&silence)),
            },
        }
    }

    /// One request's way through the router. Statement errors are told to the client here.
    async fn answer(&mut self, request: Request) -> Result<(), SessionError> {
        self.look_around()?;
        let started = Instant::now();
        (self.plan, self.outcome) = (QueryPlan::Local, Outcome::Done);
        match request {
            Request::Query(message) => self.simple_query(&message).await?,
            // Of a size of its own: most statements need less.
            Request::Batch => Box::pin(self.batch()).await?,
            Request::FunctionCall => self.function_call(),
            Request::Stray | Request::Terminate => {}
        }
        if !self.ahead.is_empty() {
            self.give_back_ahead();
        }
        if std::mem::take(&mut self.outlived) {
            self.make_sure().await?;
        }
        self.is_through(started)?;
        self.say_rest().await
    }

    /// A request is through, but for what waits in the client's outbox.
    pub(super) fn is_through(&mut self, started: Instant) -> Result<(), SessionError> {
        if self.asking.is_some() {
            self.keep_what_was_told();
        }
        let metrics = &self.worker.metrics;
        metrics.query(self.plan, self.outcome, started.elapsed());
        let traffic = std::mem::take(&mut self.client.traffic);
        metrics.client_bytes_in.add(traffic.received);
        metrics.client_bytes_out.add(traffic.sent);
        if self.block.is_none() {
            self.tidy();
        }
        if self.pinned_lost {
            return Err(self.silence(&Silence::PinnedLost));
        }
        Ok(())
    }

    /// Sends what waits for the client, unless more requests are waiting already: their answers share a write.
    async fn say_rest(&mut self) -> Result<(), SessionError> {
        if self.client.inbox.is_empty() {
            self.client
                .flush()
                .await
                .map_err(|_| SessionError::ClientGone)?;
        }
        Ok(())
    }

    /// Between transactions no server works for the session but those it keeps, and those that were pinned are there.
    fn tidy(&mut self) {
        if self.kept.is_empty() && self.ahead.is_empty() {
            // A server that was lost on the way has not been removed.
            self.cancel.forget_all();
        }
        if self.pinned.is_empty() {
            self.settled = ShardSet::new();
            return;
        }
        let now: ShardSet = self
            .kept
            .iter()
            .map(|(shard, _)| *shard)
            .filter(|shard| self.pinned.contains(*shard))
            .collect();
        // DISCARD may have ended the reason.
        let is_lost = |shard| self.pinned.contains(shard) && !now.contains(shard);
        self.pinned_lost |= self.settled.iter().any(is_lost);
        self.settled = now;
    }

    fn silence(&self, silence: &Silence) -> SessionError {
        match silence {
            Silence::ClientGone => SessionError::ClientGone,
            Silence::Draining => SessionError::Fatal(Box::new(ErrorFields::fatal(
                SqlState::ADMIN_SHUTDOWN,
                "terminating connection because the router is stopping",
            ))),
            Silence::PinnedLost => SessionError::Fatal(Box::new(
                ErrorFields::fatal(
                    SqlState::CONNECTION_FAILURE,
                    "the server that held this session's state was lost",
                )
                .hint("Connect again; temporary tables, LISTEN registrations and held cursors are gone."),
            )),
        }
    }

    /// The next whole request.
    ///
    /// Cancel safe: what was read stays in the inbox.
    async fn next_request(&mut self) -> Result<Result<Request, Silence>, SessionError> {
        loop {
            let frame = next_frame(&self.client.inbox, self.message_max)
                .map_err(|error| SessionError::Fatal(Box::new(error.fatal_fields())))?;
            let Some(frame) = frame else {
                if let Err(silence) = self.wait().await? {
                    return Ok(Err(silence));
                }
                continue;
            };
            if self.skipping && !matches!(frame.tag, tag::SYNC | tag::TERMINATE) {
                // After an error everything up to the next Sync is ignored (§55.2.3).
                let _ = self.client.inbox.split_to(frame.len);
                continue;
            }
            return Ok(Ok(match frame.tag {
                tag::QUERY => Request::Query(self.client.inbox.split_to(frame.len).freeze()),
                tag::PARSE
                | tag::BIND
                | tag::DESCRIBE
                | tag::EXECUTE
                | tag::CLOSE
                | tag::FLUSH
                | tag::SYNC => Request::Batch,
                tag::FUNCTION_CALL => {
                    let _ = self.client.inbox.split_to(frame.len);
                    Request::FunctionCall
                }
                // A COPY that failed leaves these behind (manual §55.2.7).
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {
                    let _ = self.client.inbox.split_to(frame.len);
                    Request::Stray
                }
                tag::TERMINATE => Request::Terminate,
                other => {
                    return Err(SessionError::Fatal(Box::new(ErrorFields::fatal(
                        SqlState::PROTOCOL_VIOLATION,
                        format!("invalid frontend message type {other}"),
                    ))));
                }
            }));
        }
    }

    /// Waits for bytes from the client, passing on what pinned servers say meanwhile (NOTIFY).
    async fn wait(&mut self) -> Result<Result<(), Silence>, SessionError> {
        self.client
            .flush()
            .await
            .map_err(|_| SessionError::ClientGone)?;
        self.client.rest();
        poll_fn(|context| {
            let may_leave = self.client.inbox.is_empty() && self.block.is_none();
            if may_leave && self.worker.draining.get() {
                return Poll::Ready(Ok(Err(Silence::Draining)));
            }
            match self.client.poll_fill(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(Ok(()))),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(Err(Silence::ClientGone))),
                Poll::Pending => {}
            }
            if self.kept.is_empty() {
                return Poll::Pending;
            }
            self.poll_kept(context).map(Ok)
        })
        .await
    }

    /// What servers that stay with the session say while it is idle.
    fn poll_kept(&mut self, context: &mut std::task::Context<'_>) -> Poll<Result<(), Silence>> {
        for (_, lease) in &mut self.kept {
            match lease.poll_fill(context) {
                Poll::Ready(Ok(())) => {
                    // Only asynchronous messages come to an idle session: whole ones are the client's.
                    while let Ok(Some(frame)) = next_frame(&lease.inbox, 1 << 30) {
                        self.client
                            .outbox
                            .extend_from_slice(&lease.inbox.split_to(frame.len));
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Silence::PinnedLost)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    /// The fastpath names functions by OID, which differ from shard to shard.
    fn function_call(&mut self) {
        let fields = ErrorFields::error(
            SqlState::FEATURE_NOT_SUPPORTED,
            "function calls by the fast-path protocol are not supported",
        )
        .hint("Call the function with SELECT.");
        self.say_error(&fields);
        self.say_ready();
    }
}
