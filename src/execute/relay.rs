//! One server's replies to the client: every message in order, whole runs of rows untouched.
//!
//! What is expected is a [`Script`]: one step per message sent, each saying whether its reply is the client's or
//! nobody's (a Parse that Keyway added, a BEGIN it glued to the first statement), with Keyway's own replies between
//! them. A server whose replies do not follow the script is broken, never guessed at.

use crate::backend::server::{Doubt, Server, ServerState};
use crate::execute::client::Client;
use crate::execute::oids::{self, OidError};
use crate::topology::OidMap;
use crate::wire::backend::{self, TransactionStatus, tag};
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frame::{Stop, Walker, next_frame};
use crate::wire::frontend::tag as front;
use bytes::{Buf, Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::task::Poll;

/// The longest message, rows and COPY data apart, that a server may send.
const MESSAGE_MAX: usize = 1 << 30;

/// Bytes read ahead from a client while a server works for it.
const READ_AHEAD: usize = 64 * 1024;

/// Different notices of one statement that are remembered.
const NOTICES_MAX: usize = 1_000;

/// Bytes of COPY data on their way to a server at once.
const COPY_CHUNK: usize = 256 * 1024;

/// What a message that was sent will be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// ParseComplete
    Parse,
    /// BindComplete
    Bind,
    /// CloseComplete
    Close,
    /// ParameterDescription, then RowDescription or NoData
    DescribeStatement,
    /// RowDescription or NoData
    DescribePortal,
    /// Rows or COPY, then CommandComplete, EmptyQueryResponse or PortalSuspended
    Execute,
    /// Everything a simple Query answers before its ReadyForQuery
    Query,
    /// What a BEGIN in front of a statement answers: ParseComplete, BindComplete, CommandComplete
    Begin,
    /// ReadyForQuery
    Sync,
}

/// Whose a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// The client's.
    Client,
    /// Nobody's: read and dropped. Errors still reach the client.
    Nobody,
    /// Only its notices are the client's.
    Notices,
}

/// What becomes of the CommandComplete of a simple Query that is the client's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tags {
    /// It is passed on.
    #[default]
    Passed,
    /// It is kept in [`Relayed`], to be said later.
    Kept,
}

/// Whose descriptions a relay keeps the digests of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keeps {
    /// None.
    #[default]
    Nothing,
    /// Those that the client is told.
    Clients,
    /// All.
    All,
}

/// What a Describe was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// The digest of a statement's parameters (see [`oids::digest`]).
    pub parameters: Option<u128>,
    /// The digest of its columns.
    pub columns: u128,
}

/// One step of a script.
#[derive(Debug, Clone)]
enum Step {
    Await(Reply, To),
    Say(Bytes),
    Mark,
}

/// Where a server finds an error, and where that is in the client's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Position {
    /// The same: the server has the client's text.
    #[default]
    Same,
    /// So many characters further on: the server has a part of it.
    Further(i64),
    /// Nobody knows: the server has another text.
    Unknown,
}

impl Position {
    /// Makes the position of an error one in the client's text. False when there is nothing to change.
    pub fn correct(self, fields: &mut ErrorFields) -> bool {
        let Some(at) = fields.position else {
            return false;
        };
        let corrected = match self {
            Self::Same | Self::Further(0) => return false,
            Self::Further(by) => u32::try_from(i64::from(at) + by).ok().filter(|at| *at > 0),
            Self::Unknown => None,
        };
        fields.position = corrected;
        true
    }
}

/// What the client is told instead of some errors.
#[derive(Debug, Clone)]
pub struct Instead {
    /// Which.
    pub which: fn(&ErrorFields) -> bool,
    /// What it is told.
    pub fields: Box<ErrorFields>,
}

/// What is still expected from a server.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: VecDeque<Step>,
    passed: usize,
    /// The Sync has not been sent: a COPY comes first, whose data may end in an error of its own.
    pub late_sync: bool,
    /// A simple Query follows a BEGIN. Should that fail, the server skips the Query and waits for a Sync (§55.2.3).
    pub query_follows: bool,
    /// The digests of descriptions are wanted.
    pub keeps: Keeps,
    /// What becomes of a simple Query's CommandComplete.
    pub tags: Tags,
    /// Where the client's transaction stands. A server that has left it has failed it, and one that joins a transaction
    /// that has failed does not mend it.
    pub status: Option<TransactionStatus>,
    /// What the client is told instead of some errors.
    pub instead: Option<Instead>,
    /// Where errors are in the client's text.
    pub position: Position,
    /// Notices that are told once for several servers, and how often they have been.
    pub notices: Option<Notices>,
}

/// Notices of a statement that runs on several servers. What each says is told once.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    told: HashMap<Bytes, usize>,
    here: HashMap<Bytes, usize>,
}

impl Notices {
    /// The next server speaks.
    pub fn next_server(&mut self) {
        self.here.clear();
    }

    /// Has no server before said this as often?
    fn is_new(&mut self, body: &[u8]) -> bool {
        if self.told.len() >= NOTICES_MAX {
            return true;
        }
        let body = Bytes::copy_from_slice(body);
        let here = self.here.entry(body.clone()).or_default();
        *here += 1;
        let told = self.told.entry(body).or_default();
        let is_new = *here > *told;
        *told = (*told).max(*here);
        is_new
    }
}

impl Script {
    /// Expects nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Then this reply.
    pub fn expect(&mut self, reply: Reply, to: To) {
        self.steps.push_back(Step::Await(reply, to));
    }

    /// First of all this reply.
    pub fn expect_first(&mut self, reply: Reply, to: To) {
        self.steps.push_front(Step::Await(reply, to));
    }

    /// Then Keyway's own bytes to the client. Not said when an error before it skips to the next Sync.
    pub fn say(&mut self, bytes: Bytes) {
        self.steps.push_back(Step::Say(bytes));
    }

    /// Then this place, which counts once everything before it has been answered.
    pub fn mark(&mut self) {
        self.steps.push_back(Step::Mark);
    }

    /// How many marks were passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// All of `other` behind.
    pub fn append(&mut self, other: &mut Self) {
        self.steps.append(&mut other.steps);
    }

    /// Nothing more expected?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// ReadyForQuery messages in it.
    #[must_use]
    pub fn syncs(&self) -> u32 {
        let syncs = self
            .steps
            .iter()
            .filter(|s| matches!(s, Step::Await(Reply::Sync, _)))
            .count();
        u32::try_from(syncs).unwrap_or(u32::MAX)
    }

    fn front(&self) -> Option<(Reply, To)> {
        match self.steps.front() {
            Some(Step::Await(reply, to)) => Some((*reply, *to)),
            _ => None,
        }
    }

    /// Says what is to be said before the next reply.
    fn speak(&mut self, out: &mut BytesMut) {
        loop {
            match self.steps.front() {
                Some(Step::Say(bytes)) => out.extend_from_slice(bytes),
                Some(Step::Mark) => self.passed += 1,
                Some(Step::Await(..)) | None => return,
            }
            self.steps.pop_front();
        }
    }

    fn skip_to_sync(&mut self) {
        while !matches!(self.steps.front(), None | Some(Step::Await(Reply::Sync, _))) {
            self.steps.pop_front();
        }
    }
}

/// What was seen while relaying.
#[derive(Debug, Default)]
pub struct Relayed {
    /// The first error the server sent.
    pub error: Option<Failure>,
    /// The last CommandComplete's tag, cut at 32 bytes.
    pub tag: SmallVec<[u8; 32]>,
    /// The last portal was suspended, not completed.
    pub suspended: bool,
    /// Rows passed on.
    pub rows: u64,
    /// ParseComplete messages seen.
    pub parsed: usize,
    /// The answers to Describe messages, in order, if the script keeps them.
    pub described: SmallVec<[Described; 1]>,
    /// Data of a COPY FROM STDIN was passed on: a Sync the client sent before it is void (§55.2.7).
    pub copied: bool,
}

/// An error a server sent.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Its fields, as the client was told them.
    pub fields: Box<ErrorFields>,
    /// It answered a message that Keyway had added.
    pub hidden: bool,
    /// What it answered.
    pub reply: Reply,
}

/// The relay came to an end that is not the script's.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The client is gone; the server may still be working.
    #[error("the client is gone")]
    ClientGone,
    /// The server is gone or not in sync; the client must be told, unless it has been.
    #[error("{shard}: {source}")]
    ServerLost {
        /// The shard.
        shard: String,
        /// Why.
        source: io::Error,
        /// A FATAL error said why and was passed on.
        told: bool,
    },
    /// The client asked for binary values that carry another shard's type OIDs.
    #[error("a column's binary form carries type OIDs that differ from shard to shard")]
    OidsInside,
    /// The server's replies did not follow the script.
    #[error("{shard}: unexpected message {tag:?} from the server")]
    OutOfStep {
        /// The shard.
        shard: String,
        /// The message's type.
        tag: char,
    },
}

/// How far the bytes at hand took the relay.
enum Turn {
    NeedMore,
    CopyIn,
    Done,
}

/// One relay at work.
struct Relay<'a> {
    script: &'a mut Script,
    /// The parameters of the statement that is being described.
    parameters: Option<u128>,
    relayed: Relayed,
    walker: Walker,
    shard: &'a str,
    oids: Option<&'a OidMap>,
}

/// Relays until `script` is through.
///
/// Cancel safe: the server stays `Busy` and is closed when its lease is dropped.
///
/// # Errors
/// See [`RelayError`]. The server is broken then.
pub async fn relay(
    server: &mut Server,
    client: &mut Client,
    script: &mut Script,
    shard: &str,
    oids: Option<&OidMap>,
) -> Result<Relayed, RelayError> {
    script.speak(&mut client.outbox);
    send_some(server).await;
    let mut relay = Relay {
        script,
        parameters: None,
        relayed: Relayed::default(),
        walker: Walker::backend(MESSAGE_MAX),
        shard,
        oids,
    };
    while !relay.script.is_empty() {
        match relay.read(server, &mut client.outbox)? {
            Turn::Done => break,
            Turn::NeedMore => {
                relay.sync_if_due(server).await;
                client.flush().await.map_err(|_| RelayError::ClientGone)?;
                relay.wait(server, client).await?;
            }
            Turn::CopyIn => {
                client.flush().await.map_err(|_| RelayError::ClientGone)?;
                Box::pin(relay.copy_in(server, client)).await?;
            }
        }
    }
    relay.relayed.rows = relay.walker.passed();
    Ok(relay.relayed)
}

/// Gives the socket what it takes now; what is left goes while the replies are awaited.
async fn send_some(server: &mut Server) {
    poll_fn(|context| {
        // An error is met again when the replies are awaited.
        let _ = server.poll_flush(context);
        Poll::Ready(())
    })
    .await;
}

impl Relay<'_> {
    /// Sends the Sync that was held back, once everything before it is through.
    async fn sync_if_due(&mut self, server: &mut Server) {
        if self.script.late_sync && matches!(self.script.front(), Some((Reply::Sync, _))) {
            self.script.late_sync = false;
            crate::wire::frontend::sync(&mut server.outbox);
            send_some(server).await;
        }
    }

    /// Takes what has arrived as far as it goes.
    fn read(&mut self, server: &mut Server, out: &mut BytesMut) -> Result<Turn, RelayError> {
        let mut inbox = std::mem::take(&mut server.inbox);
        let result = self.read_from(&inbox, server, out);
        inbox.advance(self.walker.release());
        server.inbox = inbox;
        result
    }

    fn read_from(
        &mut self,
        buf: &[u8],
        server: &mut Server,
        out: &mut BytesMut,
    ) -> Result<Turn, RelayError> {
        let mut copied = 0;
        loop {
            let to = self.script.front().map_or(To::Client, |(_, to)| to);
            let stop = match self.walker.next(buf) {
                Ok(Some(stop)) => stop,
                Ok(None) => {
                    if to == To::Client {
                        out.extend_from_slice(&buf[copied..self.walker.position()]);
                    }
                    return Ok(Turn::NeedMore);
                }
                Err(_) => {
                    server.doubt(Doubt::Protocol);
                    let tag = buf.get(copied).map_or('?', |b| char::from(*b));
                    return Err(RelayError::OutOfStep {
                        shard: self.shard.to_owned(),
                        tag,
                    });
                }
            };
            // Rows between the last stop and this one belong to the step that is in front.
            if to == To::Client {
                out.extend_from_slice(&buf[copied..stop.start]);
            }
            copied = stop.end;
            self.stop(stop, &buf[stop.start..stop.end], server, out)?;
            if stop.tag == tag::COPY_IN_RESPONSE {
                return Ok(Turn::CopyIn);
            }
            if self.script.is_empty() {
                return Ok(Turn::Done);
            }
        }
    }

    /// One message that is not a row.
    fn stop(
        &mut self,
        stop: Stop<'_>,
        whole: &[u8],
        server: &mut Server,
        out: &mut BytesMut,
    ) -> Result<(), RelayError> {
        let Some((reply, to)) = self.script.front() else {
            return Err(self.out_of_step(server, stop.tag));
        };
        if self.script.keeps != Keeps::Nothing {
            self.keep(stop, reply, to);
        }
        let pass = |out: &mut BytesMut| {
            if to == To::Client {
                out.extend_from_slice(whole);
            }
        };
        let finished = match (stop.tag, reply) {
            (tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE, _) => {
                let notices = self.script.notices.as_mut();
                let is_new = stop.tag == tag::NOTIFICATION_RESPONSE
                    || to == To::Client
                    || (to == To::Notices && notices.is_none_or(|n| n.is_new(stop.body)));
                if is_new {
                    out.extend_from_slice(whole);
                }
                return Ok(());
            }
            (tag::PARAMETER_STATUS, _) => {
                if let Ok((name, value)) = backend::read_parameter_status(stop.body) {
                    server.parameters.insert(name.to_owned(), value.to_owned());
                }
                // Whoever the reply is for: what the client believes of its session must stay true.
                out.extend_from_slice(whole);
                return Ok(());
            }
            (tag::ERROR_RESPONSE, _) => {
                self.error(stop, whole, reply, to, out);
                return Ok(());
            }
            (tag::READY_FOR_QUERY, Reply::Sync) => {
                let status = stop.body.first().copied().unwrap_or(0);
                server.ready(status);
                let failed = match self.script.status {
                    Some(TransactionStatus::InTransaction) => status == b'I',
                    Some(TransactionStatus::Failed) => true,
                    Some(TransactionStatus::Idle) | None => false,
                };
                if failed && to == To::Client {
                    backend::ready_for_query(out, TransactionStatus::Failed);
                    self.script.steps.pop_front();
                    return Ok(());
                }
                true
            }
            (tag::READY_FOR_QUERY, Reply::Query) => {
                // The simple query's replies are through; the next step is its Sync.
                self.script.steps.pop_front();
                self.script.speak(out);
                return self.stop(stop, whole, server, out);
            }
            (tag::PARSE_COMPLETE, Reply::Parse) => {
                self.relayed.parsed += 1;
                true
            }
            (tag::PARSE_COMPLETE | tag::BIND_COMPLETE, Reply::Begin) => false,
            (tag::COMMAND_COMPLETE, Reply::Begin) => true,
            (tag::BIND_COMPLETE, Reply::Bind) | (tag::CLOSE_COMPLETE, Reply::Close) => true,
            (tag::PARAMETER_DESCRIPTION, Reply::DescribeStatement) => {
                return self.describe(stop, whole, to, out, server);
            }
            (tag::ROW_DESCRIPTION, Reply::DescribeStatement | Reply::DescribePortal) => {
                self.describe(stop, whole, to, out, server)?;
                self.script.steps.pop_front();
                self.script.speak(out);
                return Ok(());
            }
            (tag::ROW_DESCRIPTION, Reply::Query) => {
                return self.describe(stop, whole, to, out, server);
            }
            (tag::NO_DATA, Reply::DescribeStatement | Reply::DescribePortal) => true,
            (tag::COMMAND_COMPLETE, Reply::Execute | Reply::Query) => {
                self.relayed.suspended = false;
                let text = stop.body.split_last().map_or(&[][..], |(_, text)| text);
                self.relayed.tag = SmallVec::from_slice(&text[..text.len().min(32)]);
                if self.script.tags == Tags::Kept && reply == Reply::Query {
                    return Ok(());
                }
                reply == Reply::Execute
            }
            (tag::PORTAL_SUSPENDED, Reply::Execute) => {
                self.relayed.suspended = true;
                true
            }
            (tag::EMPTY_QUERY_RESPONSE, Reply::Execute | Reply::Query) => reply == Reply::Execute,
            (
                tag::COPY_IN_RESPONSE
                | tag::COPY_OUT_RESPONSE
                | tag::COPY_DONE
                | tag::FUNCTION_CALL_RESPONSE,
                Reply::Execute | Reply::Query,
            ) => false,
            _ => return Err(self.out_of_step(server, stop.tag)),
        };
        pass(out);
        if finished {
            self.script.steps.pop_front();
            self.script.speak(out);
        }
        Ok(())
    }

    /// Keeps the digest of a description.
    fn keep(&mut self, stop: Stop<'_>, reply: Reply, to: To) {
        let wanted = self.script.keeps == Keeps::All || to == To::Client;
        let describes = matches!(reply, Reply::DescribeStatement | Reply::DescribePortal);
        if !wanted || !describes {
            return;
        }
        let digest = || oids::digest(self.oids, stop.tag, stop.body).ok();
        match stop.tag {
            tag::PARAMETER_DESCRIPTION => self.parameters = digest(),
            tag::ROW_DESCRIPTION | tag::NO_DATA => {
                if let Some(columns) = digest() {
                    let parameters = self.parameters.take();
                    self.relayed.described.push(Described {
                        parameters,
                        columns,
                    });
                }
            }
            _ => {}
        }
    }

    fn describe(
        &mut self,
        stop: Stop<'_>,
        whole: &[u8],
        to: To,
        out: &mut BytesMut,
        server: &mut Server,
    ) -> Result<(), RelayError> {
        match (to, self.oids) {
            (To::Nobody | To::Notices, Some(oids)) => {
                // Nobody is shown the description, but rows in its formats may follow.
                if let Err(OidError::Inside) =
                    oids::description(oids, stop.tag, stop.body, &mut BytesMut::new())
                {
                    server.doubt(Doubt::SessionState);
                    return Err(RelayError::OidsInside);
                }
            }
            (To::Nobody | To::Notices, None) => {}
            (To::Client, None) => out.extend_from_slice(whole),
            (To::Client, Some(oids)) => {
                match oids::description(oids, stop.tag, stop.body, out) {
                    Ok(()) => {}
                    Err(OidError::Malformed(_)) => return Err(self.out_of_step(server, stop.tag)),
                    Err(OidError::Inside) => {
                        // The rows that follow must not be seen: the connection is given up.
                        server.doubt(Doubt::SessionState);
                        return Err(RelayError::OidsInside);
                    }
                }
            }
        }
        Ok(())
    }

    fn error(&mut self, stop: Stop<'_>, whole: &[u8], reply: Reply, to: To, out: &mut BytesMut) {
        let mut fields = backend::read_error(stop.body).unwrap_or_default();
        if self.relayed.error.is_none() {
            let moved = self.script.position.correct(&mut fields);
            if fields.ends_connection() {
                // The server's connection ends, the client's does not: to the client it is an ERROR.
                let told = ErrorFields {
                    severity: "ERROR".into(),
                    ..fields.clone()
                };
                backend::error_response(out, &told);
            } else if let Some(instead) =
                self.script.instead.as_ref().filter(|i| (i.which)(&fields))
            {
                backend::error_response(out, &instead.fields);
            } else if moved {
                backend::error_response(out, &fields);
            } else {
                out.extend_from_slice(whole);
            }
            self.relayed.error = Some(Failure {
                fields: Box::new(fields),
                hidden: to != To::Client,
                reply,
            });
        }
        if reply == Reply::Sync {
            return;
        }
        self.script.late_sync |= reply == Reply::Begin && self.script.query_follows;
        self.script.skip_to_sync();
    }

    fn out_of_step(&self, server: &mut Server, tag: u8) -> RelayError {
        server.doubt(Doubt::Protocol);
        RelayError::OutOfStep {
            shard: self.shard.to_owned(),
            tag: char::from(tag),
        }
    }

    fn lost(&self, source: io::Error) -> RelayError {
        let passing = matches!(self.script.front(), Some((_, To::Client)));
        if passing && !self.walker.at_boundary() {
            // Half a row is on its way to the client: nothing that follows could be understood.
            return RelayError::ClientGone;
        }
        RelayError::ServerLost {
            shard: self.shard.to_owned(),
            source,
            told: self.relayed.error.is_some(),
        }
    }

    /// Waits for the server, noticing when the client goes away.
    async fn wait(&self, server: &mut Server, client: &mut Client) -> Result<(), RelayError> {
        poll_fn(|context| {
            // Sending and reading side by side: a server that waits for us to read takes no more.
            if server.has_to_send()
                && let Poll::Ready(Err(source)) = server.poll_flush(context)
            {
                return Poll::Ready(Err(self.lost(source)));
            }
            if let Poll::Ready(result) = server.poll_fill(context) {
                return Poll::Ready(result.map_err(|source| self.lost(source)));
            }
            while client.inbox.len() < READ_AHEAD {
                match client.poll_fill(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(RelayError::ClientGone)),
                    Poll::Pending => break,
                }
            }
            Poll::Pending
        })
        .await
    }

    /// COPY … FROM STDIN: the client's data to the server, until the client ends it or the server objects.
    async fn copy_in(
        &mut self,
        server: &mut Server,
        client: &mut Client,
    ) -> Result<(), RelayError> {
        loop {
            if let Turn::Done = self.copy_replies(server, &mut client.outbox)? {
                return Ok(());
            }
            while let Some(tag) = take_copy_message(client, &mut server.outbox)? {
                self.relayed.copied = true;
                if matches!(tag, front::COPY_DONE | front::COPY_FAIL) {
                    if self.script.late_sync {
                        // Without it the server keeps its answer until a Sync, which waits for the answer.
                        crate::wire::frontend::flush(&mut server.outbox);
                    }
                    // What the server says of it is read by the relay, which also sends the rest of it.
                    return Ok(());
                }
                if server.outbox.len() >= COPY_CHUNK {
                    break;
                }
            }
            client.flush().await.map_err(|_| RelayError::ClientGone)?;
            self.copy_turn(server, client).await?;
        }
    }

    /// Waits until the server took data, or sent something, or the client did.
    async fn copy_turn(&self, server: &mut Server, client: &mut Client) -> Result<(), RelayError> {
        poll_fn(|context| {
            if let Poll::Ready(result) = server.poll_fill(context) {
                return Poll::Ready(result.map_err(|source| self.lost(source)));
            }
            if server.has_to_send() {
                return match server.poll_flush(context) {
                    Poll::Ready(result) => Poll::Ready(result.map_err(|source| self.lost(source))),
                    Poll::Pending => Poll::Pending,
                };
            }
            client
                .poll_fill(context)
                .map_err(|_| RelayError::ClientGone)
        })
        .await
    }

    /// The server spoke during COPY: notices, or the error that ends it.
    fn copy_replies(
        &mut self,
        server: &mut Server,
        out: &mut BytesMut,
    ) -> Result<Turn, RelayError> {
        if !server.inbox.is_empty() {
            self.read(server, out)?;
        }
        let over = self.relayed.error.is_some() || self.script.is_empty();
        Ok(if over { Turn::Done } else { Turn::NeedMore })
    }
}

/// Moves one COPY message from the client's inbox to `outbox`; `None` when there is no whole one.
fn take_copy_message(client: &mut Client, outbox: &mut BytesMut) -> Result<Option<u8>, RelayError> {
    let Ok(frame) = next_frame(&client.inbox, client.message_max) else {
        return Err(RelayError::ClientGone);
    };
    let Some(frame) = frame else {
        return Ok(None);
    };
    let message = client.inbox.split_to(frame.len);
    match frame.tag {
        front::COPY_DATA | front::COPY_DONE | front::COPY_FAIL => {
            outbox.extend_from_slice(&message);
            Ok(Some(frame.tag))
        }
        // Ignored during COPY (§55.2.7).
        front::FLUSH | front::SYNC => Ok(Some(frame.tag)),
        // Anything else is an error to the server, which fails the COPY with it.
        _ => {
            let reason = "unexpected message from the client during COPY from stdin";
            match crate::wire::frontend::copy_fail(outbox, reason) {
                Ok(()) => Ok(Some(front::COPY_FAIL)),
                Err(_) => Err(RelayError::ClientGone),
            }
        }
    }
}

impl crate::wire::error::ClientError for RelayError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::OidsInside => SqlState::FEATURE_NOT_SUPPORTED,
            Self::ClientGone | Self::ServerLost { .. } | Self::OutOfStep { .. } => {
                SqlState::CONNECTION_FAILURE
            }
        }
    }

    fn detail(&self) -> Option<String> {
        matches!(self, Self::OidsInside).then(|| {
            "A composite, an array of a user-defined type or a record names types by numbers inside its binary form.".to_owned()
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::OidsInside => "Ask for the text format, or cast the column to text.".to_owned(),
            Self::ClientGone | Self::ServerLost { .. } | Self::OutOfStep { .. } => {
                "The statement may or may not have taken effect.".to_owned()
            }
        })
    }
}

/// Reads and drops replies until nothing is owed, keeping the first error.
///
/// Cancel safe: as [`relay`].
///
/// # Errors
/// The server is lost or out of step.
pub async fn drain(
    server: &mut Server,
    shard: &str,
) -> Result<Option<Box<ErrorFields>>, RelayError> {
    drain_rows(server, shard, |_| ()).await
}

/// As [`drain`], showing each DataRow's body to `row`.
///
/// Cancel safe: as [`relay`].
///
/// # Errors
/// As [`drain`].
pub async fn drain_rows(
    server: &mut Server,
    shard: &str,
    mut row: impl FnMut(&[u8]),
) -> Result<Option<Box<ErrorFields>>, RelayError> {
    let mut error = None;
    while let ServerState::Busy { .. } = server.state() {
        let frame = match next_frame(&server.inbox, MESSAGE_MAX) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                server
                    .fill()
                    .await
                    .map_err(|source| RelayError::ServerLost {
                        shard: shard.to_owned(),
                        source,
                        told: false,
                    })?;
                continue;
            }
            Err(_) => {
                server.doubt(Doubt::Protocol);
                return Err(RelayError::OutOfStep {
                    shard: shard.to_owned(),
                    tag: '?',
                });
            }
        };
        let message = server.inbox.split_to(frame.len);
        let body = frame.body(&message);
        match frame.tag {
            tag::READY_FOR_QUERY => server.ready(body.first().copied().unwrap_or(0)),
            tag::DATA_ROW => row(body),
            tag::ERROR_RESPONSE if error.is_none() => {
                error = backend::read_error(body).ok().map(Box::new)
            }
            tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE => server.put_aside(&message),
            tag::PARAMETER_STATUS => {
                server.put_aside(&message);
                if let Ok((name, value)) = backend::read_parameter_status(body) {
                    server.parameters.insert(name.to_owned(), value.to_owned());
                }
            }
            _ => {}
        }
    }
    match server.state() {
        ServerState::Broken(_) => Err(RelayError::OutOfStep {
            shard: shard.to_owned(),
            tag: 'Z',
        }),
        _ => Ok(error),
    }
}
