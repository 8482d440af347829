//! The fast path: one statement for one shard costs a look at what was seen before, two reads and two writes.
//!
//! A session at rest reads into the thread's scratch buffer. When the bytes are just one statement (a Query, or Parse,
//! Bind, Describe, Execute and Sync, of which Parse and Describe may be missing) of a shape that this worker has
//! planned, they go from there to a server at hand, and a reply that arrives whole goes back in the same way: nothing
//! is copied and hardly anything allocated. Everything else takes the ordinary way (`answer`) from the point it has
//! reached, with the same bytes as its result.

use crate::backend::pool::Lease;
use crate::backend::stream::Scratch;
use crate::cache::shapes::Reading;
use crate::execute::relay::{Reply, Script, To};
use crate::metrics::{Outcome, QueryPlan};
use crate::route::key::{NoParams, Params, Values};
use crate::route::plan::Access;
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::SessionHint;
use crate::session::cancel::CancelTarget;
use crate::session::error::SessionError;
use crate::session::planner::Bound;
use crate::session::portal::{Place, Portal};
use crate::session::prepared::{Body, Canonical, Known, MadeRecipe, Prepared};
use crate::session::servers::{Taken, wrote};
use crate::session::simple::Ready;
use crate::session::transaction::Wrote;
use crate::statement::scan::Scanned;
use crate::topology::ShardId;
use crate::wire::backend::tag as reply;
use crate::wire::frame::{HEADER, next_frame};
use crate::wire::frontend::{self, Bind, Parse, tag};
use bytes::Bytes;
use std::cell::RefCell;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Bytes read ahead from a client while a server works for it.
const READ_AHEAD: usize = 64 * 1024;

/// How an attempt at the fast path ended.
pub(super) enum Quick {
    /// The request is answered.
    Answered,
    /// The request, if there is one, waits in the inbox for the ordinary way.
    Ordinary,
    /// The session ends.
    Failed(SessionError),
}

/// A statement on its way.
struct Running {
    shard: ShardId,
    lease: Lease,
    request: Request,
    started: Instant,
}

/// What was sent.
enum Request {
    Query,
    Batch {
        /// With Parse.
        parses: bool,
        /// With Describe.
        described: bool,
    },
}

/// A statement whose shard is known.
struct Planned {
    shard: ShardId,
    access: Access,
    request: Request,
    /// The prepared statement that the batch binds.
    bound: Option<BoundStatement>,
    started: Instant,
}

struct BoundStatement {
    prepared: Rc<Prepared>,
    canonical: Rc<Canonical>,
    /// Where the body of the Bind is in the request.
    bind: Range<usize>,
}

/// What became of a client's bytes.
enum Arrived {
    Running(Running),
    /// No server is at hand: the statement waits for one.
    Waiting(Planned, Bytes),
    Ordinary,
}

/// How the wait for a reply ended.
enum Heard {
    /// The whole reply is the client's.
    Whole,
    /// It must be looked at.
    Other,
    ClientGone,
}

/// The messages of a batch: where their bodies are.
struct Batch {
    parse: Option<Range<usize>>,
    bind: Range<usize>,
    described: bool,
}

impl Session {
    /// Waits for the client's next bytes, and answers them if it can be done at once.
    pub(super) async fn quick(&mut self) -> Quick {
        if !self.is_at_rest() {
            return Quick::Ordinary;
        }
        self.client.rest();
        let mut running = match poll_fn(|context| self.poll_arrival(context)).await {
            Arrived::Running(running) => running,
            Arrived::Ordinary => return Quick::Ordinary,
            Arrived::Waiting(planned, bytes) => {
                match Box::pin(self.wait_for_server(planned, &bytes)).await {
                    Ok(running) => running,
                    Err(ended) => return ended,
                }
            }
        };
        let heard = poll_fn(|context| self.poll_reply(context, &mut running)).await;
        let started = running.started;
        let result = match heard {
            Heard::Whole => {
                self.give_back(running.shard, running.lease);
                Ok(())
            }
            Heard::Other => Box::pin(self.go_on(running)).await,
            Heard::ClientGone => {
                self.cancel.cancel(&self.worker);
                self.give_back(running.shard, running.lease);
                Err(SessionError::ClientGone)
            }
        };
        if let Err(error) = result {
            return Quick::Failed(error);
        }
        if self.block.is_none() {
            self.names.unnamed_portal = None;
            if !self.names.portals.is_empty() {
                self.names
                    .portals
                    .retain(|_, portal| portal.survives_its_transaction());
            }
        }
        match self.answered(started).await {
            Ok(()) => Quick::Answered,
            Err(error) => Quick::Failed(error),
        }
    }

    /// Nothing waits, nothing is owed, and nothing but the text decides where a statement goes.
    fn is_at_rest(&self) -> bool {
        let plain = match &self.block {
            None => true,
            Some(block) => !block.implicit && !block.failed && block.local_hint.is_none(),
        };
        plain
            && self.client.inbox.is_empty()
            && self.client.outbox.is_empty()
            && !self.skipping
            && !self.worker_keeps
            && self.kept.is_empty()
            && self.ahead.is_empty()
            && self.hint == SessionHint::default()
    }

    /// Reads what the client sends. What is ordinary is left in the inbox.
    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<Arrived> {
        if self.worker.draining.get() {
            return Poll::Ready(Arrived::Ordinary);
        }
        let mut scratch = Scratch::take();
        let length = match self.client.poll_read_scratch(context, &mut scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(length)) => length,
            // Met again by whoever reads next.
            Poll::Ready(Err(_)) => 0,
        };
        let bytes = &scratch.bytes()[..length];
        let arrived = self.start(context, bytes);
        if matches!(arrived, Arrived::Ordinary) {
            self.client.inbox.extend_from_slice(bytes);
        }
        Poll::Ready(arrived)
    }

    /// Sends a statement on its way, if these bytes are one that can go at once.
    fn start(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Arrived {
        let Some(planned) = self.plan_at_once(bytes) else {
            return Arrived::Ordinary;
        };
        let Some(lease) = self.take_at_once(planned.shard, planned.access) else {
            // A transaction's server is where the ordinary way finds it, or not.
            return match self.block {
                None => Arrived::Waiting(planned, Bytes::copy_from_slice(bytes)),
                Some(_) => Arrived::Ordinary,
            };
        };
        match self.dispatch(context, planned, lease, bytes) {
            Ok(running) => Arrived::Running(running),
            Err((shard, lease)) => {
                self.give_back(shard, lease);
                Arrived::Ordinary
            }
        }
    }

    /// The shard for these bytes, if they are a statement of a known shape and nothing else.
    fn plan_at_once(&mut self, bytes: &[u8]) -> Option<Planned> {
        let first = *bytes.first()?;
        if !matches!(first, tag::QUERY | tag::PARSE | tag::BIND) {
            return None;
        }
        let started = Instant::now();
        self.look_around().ok()?;
        self.is_unseen = false;
        if first == tag::QUERY {
            self.plan_query(bytes, started)
        } else {
            self.plan_batch(bytes, started)
        }
    }

    fn plan_query(&mut self, bytes: &[u8], started: Instant) -> Option<Planned> {
        let frame = next_frame(bytes, self.message_max).ok()??;
        if frame.len != bytes.len() {
            return None;
        }
        let text = frontend::text(&bytes[HEADER..]).ok()?;
        let Some((seen, scanned)) = self.worker.shapes.find(text, self.own_reading()) else {
            self.is_unseen = true;
            return None;
        };
        let recipe = &seen.made.recipe;
        Some(Planned {
            shard: self.quick_shard(recipe, text, &scanned, &NoParams)?,
            access: recipe.access,
            request: Request::Query,
            bound: None,
            started,
        })
    }

    fn plan_batch(&mut self, bytes: &[u8], started: Instant) -> Option<Planned> {
        let batch = Batch::read(bytes, self.message_max)?;
        let bind = Bind::decode(&bytes[batch.bind.clone()]).ok()?;
        if !bind.portal.is_empty() {
            return None;
        }
        let prepared = match batch.parse {
            Some(ref parse) if bind.statement.is_empty() => {
                self.parsed_at_once(&bytes[parse.clone()])?
            }
            Some(_) => return None,
            None => Rc::clone(self.names.statement(bind.statement)?),
        };
        let Body::Routed(scanned) = &prepared.body else {
            return None;
        };
        if !scanned.verb.is_plain() || scanned.hints.is_some() || prepared.sql_types.is_some() {
            return None;
        }
        let recipe = self.made_recipe(&prepared)?;
        let params = Bound {
            types: &prepared.types,
            bind: &bind,
        };
        let shard = self.quick_shard(&recipe, &prepared.text, scanned, &params)?;
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        Some(Planned {
            shard,
            access: recipe.access,
            request: Request::Batch {
                parses: batch.parse.is_some(),
                described: batch.described,
            },
            bound: Some(BoundStatement {
                prepared,
                canonical,
                bind: batch.bind,
            }),
            started,
        })
    }

    /// Sends a request. Gives the server back when it does not know the request's prepared statement.
    fn dispatch(
        &mut self,
        context: &mut Context<'_>,
        planned: Planned,
        mut lease: Lease,
        bytes: &[u8],
    ) -> Result<Running, (ShardId, Lease)> {
        let shard = planned.shard;
        match planned.bound {
            None => {
                lease.unnamed = None;
                lease.request_now(context, bytes);
                self.names.unnamed = None;
                self.names.unnamed_portal = None;
            }
            Some(bound) => {
                let parses = matches!(planned.request, Request::Batch { parses: true, .. });
                let id = bound.canonical.id;
                if parses {
                    lease.unnamed = Some(id);
                    self.names.unnamed = Some(Rc::clone(&bound.prepared));
                } else if bound.prepared.named {
                    let out = &mut lease.outbox;
                    let body = &bytes[bound.bind.clone()];
                    let renamed = frontend::bind_renamed(out, body, &bound.canonical.name, "");
                    if renamed.is_err() || !lease.has_prepared(id) {
                        lease.outbox.clear();
                        return Err((shard, lease));
                    }
                } else if lease.unnamed != Some(id) {
                    return Err((shard, lease));
                }
                if lease.outbox.is_empty() {
                    lease.request_now(context, bytes);
                } else {
                    lease.outbox.extend_from_slice(&bytes[bound.bind.end..]);
                    lease.expect_syncs(1);
                    // An error is met again when the reply is awaited.
                    let _ = lease.poll_flush(context);
                }
                if self.block.is_some() {
                    // In a transaction it may be executed again.
                    self.names.unnamed_portal = Some(Portal {
                        prepared: bound.prepared,
                        bind: Bytes::new(),
                        place: Place::Server(shard),
                        hold: false,
                        access: planned.access,
                    });
                }
            }
        }
        self.worker.metrics.plan_cache_hits.raise();
        self.plan = QueryPlan::Single;
        self.outcome = Outcome::Done;
        self.sync_void = false;
        self.bind_owed = None;
        Ok(Running {
            shard,
            lease,
            request: planned.request,
            started: planned.started,
        })
    }

    /// Waits for a server and sends the request.
    async fn wait_for_server(&mut self, planned: Planned, bytes: &Bytes) -> Result<Running, Quick> {
        let settings = Arc::clone(&self.settings);
        let (shard, started) = (planned.shard, planned.started);
        let error = match self.check_out(shard, &settings).await {
            Ok(lease) if lease.inbox.is_empty() && lease.outbox.is_empty() => {
                let mut way = Some((planned, lease));
                let sent = poll_fn(|context| {
                    let (planned, lease) = way.take().expect("polled once");
                    Poll::Ready(self.dispatch(context, planned, lease, bytes))
                });
                match sent.await {
                    Ok(running) => return Ok(running),
                    Err((shard, lease)) => {
                        self.ahead.push((shard, lease));
                        self.client.inbox.extend_from_slice(bytes);
                        return Err(Quick::Ordinary);
                    }
                }
            }
            Ok(lease) => {
                self.ahead.push((shard, lease));
                self.client.inbox.extend_from_slice(bytes);
                return Err(Quick::Ordinary);
            }
            Err(error) => error,
        };
        let told = match planned.request {
            Request::Query => {
                self.names.unnamed = None;
                self.names.unnamed_portal = None;
                self.simple_ended(Err(error)).await
            }
            Request::Batch { .. } => self.quick_batch_failed(error).await,
        };
        let told = match told {
            Ok(()) => self.answered(started).await,
            Err(error) => Err(error),
        };
        Err(told.map_or_else(Quick::Failed, |()| Quick::Answered))
    }

    /// The unnamed statement that a Parse makes, if it has been made before.
    fn parsed_at_once(&mut self, body: &[u8]) -> Option<Rc<Prepared>> {
        let parse = Parse::decode(body).ok()?;
        if !parse.name.is_empty() {
            return None;
        }
        let reading = self.own_reading();
        let Some((seen, scanned)) = self.worker.shapes.find(parse.query, reading) else {
            self.is_unseen = true;
            return None;
        };
        let mut unnamed = seen.made.unnamed.borrow_mut();
        if let Some(known) = unnamed.as_ref()
            && *known.text == *parse.query
            && known.types.as_slice() == parse.types.as_slice()
        {
            return Some(Rc::clone(known));
        }
        let prepared = Rc::new(Prepared {
            text: Rc::from(parse.query),
            types: parse.types.iter().copied().collect(),
            body: Body::Routed(scanned),
            named: false,
            sql_types: None,
            canonical: RefCell::default(),
            recipe: RefCell::new(Some(MadeRecipe {
                epoch: reading.epoch,
                settings: reading.settings,
                recipe: Rc::clone(&seen.made.recipe),
            })),
        });
        *unnamed = Some(Rc::clone(&prepared));
        Some(prepared)
    }

    /// The recipe that a prepared statement was last planned with, if it still holds.
    fn made_recipe(&self, prepared: &Prepared) -> Option<Rc<Recipe>> {
        let made = prepared.recipe.borrow();
        let made = made.as_ref()?;
        let holds =
            made.epoch == self.topology.epoch && made.settings == self.effective().parse_key();
        holds.then(|| Rc::clone(&made.recipe))
    }

    fn quick_shard(
        &self,
        recipe: &Recipe,
        text: &str,
        statement: &Scanned,
        params: &dyn Params,
    ) -> Option<ShardId> {
        let values = Values {
            text,
            statement,
            params,
        };
        let shard = recipe.only_shard(&values, &self.topology)?;
        // Types whose OIDs differ from what the client knows must be looked at.
        self.type_map(shard).is_none().then_some(shard)
    }

    /// A server that can take a statement as it is: the transaction's, or one at hand with the session's settings.
    fn take_at_once(&mut self, shard: ShardId, access: Access) -> Option<Lease> {
        let Some(block) = &mut self.block else {
            let (pool, address) = self.worker.pool(&self.topology, &self.pools, shard)?;
            let lease = pool.check_out_at_once(&self.settings)?;
            if !lease.inbox.is_empty() {
                return None;
            }
            self.cancel.add(CancelTarget {
                address,
                key: lease.cancel_key.clone(),
            });
            return Some(lease);
        };
        let writes = wrote(access);
        let elsewhere = block.participants.iter().any(|p| p.shard != shard);
        if (writes > Wrote::Nothing && block.other_writer(shard, writes).is_some())
            || (block.one_snapshot && elsewhere)
        {
            return None;
        }
        let participant = block.participant(shard)?;
        let ready = participant
            .lease
            .as_ref()
            .is_some_and(|lease| lease.inbox.is_empty() && lease.outbox.is_empty());
        if !ready {
            return None;
        }
        participant.wrote = participant.wrote.max(writes);
        participant.lease.take()
    }

    /// Waits for the reply. Cancel safe: a server that owes one is closed.
    fn poll_reply(&mut self, context: &mut Context<'_>, running: &mut Running) -> Poll<Heard> {
        let lease = &mut running.lease;
        if !lease.outbox.is_empty()
            && let Poll::Ready(Err(_)) = lease.poll_flush(context)
        {
            return Poll::Ready(Heard::Other);
        }
        let mut scratch = Scratch::take();
        match lease.poll_read_scratch(context, &mut scratch) {
            Poll::Ready(Ok(length)) => {
                let bytes = &scratch.bytes()[..length];
                if let Some(status) = running.request.whole_reply(bytes) {
                    self.client.send_now(context, bytes);
                    lease.ready(status);
                    return Poll::Ready(Heard::Whole);
                }
                lease.inbox.extend_from_slice(bytes);
                return Poll::Ready(Heard::Other);
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Heard::Other),
            Poll::Pending => {}
        }
        drop(scratch);
        while self.client.inbox.len() < READ_AHEAD {
            match self.client.poll_fill(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Heard::ClientGone),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// The ordinary way from where the reply begins.
    async fn go_on(&mut self, running: Running) -> Result<(), SessionError> {
        let mut script = Script::new();
        let (shard, lease) = (running.shard, running.lease);
        match running.request {
            Request::Query => {
                script.expect(Reply::Query, To::Client);
                script.expect(Reply::Sync, To::Client);
                let relayed = self.relay_taken(shard, Taken { lease, script }).await;
                self.simple_ended(relayed.map(|_| Ready::Said)).await
            }
            Request::Batch { parses, described } => {
                if parses {
                    script.expect(Reply::Parse, To::Client);
                }
                script.expect(Reply::Bind, To::Client);
                if described {
                    script.expect(Reply::DescribePortal, To::Client);
                }
                script.expect(Reply::Execute, To::Client);
                script.expect(Reply::Sync, To::Client);
                self.quick_batch_goes_on(shard, Taken { lease, script }, parses)
                    .await
            }
        }
    }

    /// Remembers a statement that the fast path did not know.
    pub(super) fn learn(&mut self, text: &str, scanned: &Scanned) {
        if !std::mem::take(&mut self.is_unseen) || self.hint != SessionHint::default() {
            return;
        }
        if let Some(recipe) = self.known_recipe(scanned) {
            let known = Known {
                recipe,
                unnamed: RefCell::default(),
            };
            self.worker
                .shapes
                .learn(text, scanned, self.own_reading(), known);
        }
    }

    /// How this session reads texts now, without hints.
    fn own_reading(&self) -> Reading {
        Reading {
            database: self.database_key,
            settings: self.effective().parse_key(),
            epoch: self.topology.epoch,
        }
    }
}

impl Batch {
    /// `bytes` as the messages of one statement, and nothing else.
    fn read(bytes: &[u8], message_max: usize) -> Option<Self> {
        let mut at = 0;
        let mut next = || {
            let frame = next_frame(&bytes[at..], message_max).ok()??;
            let body = at + HEADER..at + frame.len;
            at = body.end;
            Some((frame.tag, body))
        };
        let mut message = next()?;
        let mut parse = None;
        if message.0 == tag::PARSE {
            parse = Some(message.1);
            message = next()?;
        }
        let (tag::BIND, bind) = message else {
            return None;
        };
        message = next()?;
        let described = message.0 == tag::DESCRIBE;
        if described {
            if &bytes[message.1] != b"P\0" {
                return None;
            }
            message = next()?;
        }
        // All rows of the unnamed portal.
        if message.0 != tag::EXECUTE || &bytes[message.1] != b"\0\0\0\0\0" {
            return None;
        }
        let (tag::SYNC, end) = next()? else {
            return None;
        };
        (end.end == bytes.len()).then_some(Self {
            parse,
            bind,
            described,
        })
    }
}

impl Request {
    /// The transaction status at the end of `bytes`, if they are the whole reply and the client may have it as it is.
    #[inline]
    fn whole_reply(&self, bytes: &[u8]) -> Option<u8> {
        let mut rest = bytes;
        let next = |rest: &mut &[u8]| {
            let frame = next_frame(rest, usize::MAX).ok()??;
            let last = rest[frame.len - 1];
            *rest = &rest[frame.len..];
            Some((frame.tag, last))
        };
        if let Self::Batch { parses, described } = self {
            if *parses && next(&mut rest)?.0 != reply::PARSE_COMPLETE {
                return None;
            }
            if next(&mut rest)?.0 != reply::BIND_COMPLETE {
                return None;
            }
            let columns = *described
                && !matches!(next(&mut rest)?.0, reply::ROW_DESCRIPTION | reply::NO_DATA);
            if columns {
                return None;
            }
        }
        loop {
            match next(&mut rest)? {
                (reply::DATA_ROW | reply::COMMAND_COMPLETE, _) => {}
                (reply::ROW_DESCRIPTION, _) if matches!(self, Self::Query) => {}
                (reply::READY_FOR_QUERY, status) if rest.is_empty() => return Some(status),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY_REPLY: &[u8] = b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    const BATCH_REPLY: &[u8] =
        b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T";

    #[test]
    fn only_a_whole_and_ordinary_reply_is_passed_on_unseen() {
        let query = Request::Query;
        assert_eq!(query.whole_reply(QUERY_REPLY), Some(b'I'));
        for end in 0..QUERY_REPLY.len() {
            assert_eq!(query.whole_reply(&QUERY_REPLY[..end]), None);
        }
        let mut more = QUERY_REPLY.to_vec();
        more.extend_from_slice(b"S\0\0\0\x08a\0b\0");
        assert_eq!(query.whole_reply(&more), None, "something behind it");
        let mut notice = b"N\0\0\0\x05\0".to_vec();
        notice.extend_from_slice(QUERY_REPLY);
        assert_eq!(query.whole_reply(&notice), None, "a notice");
        assert_eq!(query.whole_reply(b"E\0\0\0\x05\0Z\0\0\0\x05I"), None);
        assert_eq!(query.whole_reply(BATCH_REPLY), None);
        let batch = Request::Batch {
            parses: false,
            described: true,
        };
        assert_eq!(
            batch.whole_reply(BATCH_REPLY),
            None,
            "a Parse that nobody sent"
        );
        assert_eq!(batch.whole_reply(&BATCH_REPLY[5..]), Some(b'T'));
        let blind = Request::Batch {
            parses: false,
            described: false,
        };
        assert_eq!(blind.whole_reply(&BATCH_REPLY[5..]), None);
    }

    #[test]
    fn a_batch_of_one_statement_is_recognised() {
        let bind: &[u8] = b"B\0\0\0\x0c\0\0\0\0\0\0\0\0";
        let describe: &[u8] = b"D\0\0\0\x06P\0";
        let execute: &[u8] = b"E\0\0\0\x09\0\0\0\0\0";
        let sync: &[u8] = b"S\0\0\0\x04";
        let parse: &[u8] = b"P\0\0\0\x08\0\0\0\0";
        let read = |parts: &[&[u8]]| {
            let bytes = parts.concat();
            Batch::read(&bytes, 1 << 20)
                .map(|b| (b.parse.is_some(), b.described, bytes.len() - b.bind.end))
        };
        assert_eq!(read(&[bind, execute, sync]), Some((false, false, 15)));
        assert_eq!(
            read(&[parse, bind, describe, execute, sync]),
            Some((true, true, 22))
        );
        for other in [
            &[bind, execute][..],
            &[bind, execute, sync, sync],
            &[bind, sync],
            &[bind, b"D\0\0\0\x06S\0", execute, sync],
            &[bind, b"E\0\0\0\x09\0\0\0\0\x01", sync],
            &[bind, b"E\0\0\0\x0ap\0\0\0\0\0", sync],
            &[bind, execute, b"H\0\0\0\x04"],
            &[bind, bind, execute, sync],
            &[parse, parse, bind, execute, sync],
            &[execute, sync],
        ] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
