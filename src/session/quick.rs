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
use crate::metrics::QueryPlan;
use crate::route::key::{NoParams, Params, Values};
use crate::route::plan::Access;
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::SessionHint;
use crate::session::cancel::CancelTarget;
use crate::session::error::SessionError;
use crate::session::planner::Bound;
use crate::session::portal::{Place, Portal};
use crate::session::prepared::{Body, Known, MadeRecipe, Prepared};
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
use std::rc::Rc;
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
        /// The statement of the batch's own Parse.
        parsed: Option<Rc<Prepared>>,
        /// With Describe.
        described: bool,
    },
}

/// How the wait for a reply ended.
enum Heard {
    /// The whole reply is the client's.
    Whole,
    /// It must be looked at.
    Other,
    ClientGone,
}

/// The messages of a batch: their bodies, and where the Bind ends.
struct Batch<'a> {
    parse: Option<&'a [u8]>,
    bind: &'a [u8],
    /// Everything behind the Bind.
    rest: &'a [u8],
    described: bool,
}

impl Session {
    /// Waits for the client's next bytes, and answers them if it can be done at once.
    pub(super) async fn quick(&mut self) -> Quick {
        if !self.is_at_rest() {
            return Quick::Ordinary;
        }
        self.client.rest();
        let Some(mut running) = poll_fn(|context| self.poll_arrival(context)).await else {
            return Quick::Ordinary;
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

    /// Reads what the client sends. `None` leaves it in the inbox.
    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<Option<Running>> {
        if self.worker.draining.get() {
            return Poll::Ready(None);
        }
        let mut scratch = Scratch::take();
        let length = match self.client.poll_read_scratch(context, &mut scratch) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(length)) => length,
            // Met again by whoever reads next.
            Poll::Ready(Err(_)) => 0,
        };
        let bytes = &scratch.bytes()[..length];
        let running = self.start(context, bytes);
        if running.is_none() {
            self.client.inbox.extend_from_slice(bytes);
        }
        Poll::Ready(running)
    }

    /// Sends a statement on its way, if these bytes are one that can go at once.
    fn start(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Option<Running> {
        let first = *bytes.first()?;
        if !matches!(first, tag::QUERY | tag::PARSE | tag::BIND) {
            return None;
        }
        let started = Instant::now();
        self.look_around().ok()?;
        self.is_unseen = false;
        let (shard, lease, request) = if first == tag::QUERY {
            self.start_query(context, bytes)?
        } else {
            self.start_batch(context, bytes)?
        };
        self.worker.metrics.plan_cache_hits.raise();
        self.plan = QueryPlan::Single;
        self.outcome = crate::metrics::Outcome::Done;
        self.sync_void = false;
        self.bind_owed = None;
        Some(Running {
            shard,
            lease,
            request,
            started,
        })
    }

    fn start_query(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<(ShardId, Lease, Request)> {
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
        let shard = self.quick_shard(recipe, text, &scanned, &NoParams)?;
        let mut lease = self.take_at_once(shard, recipe.access)?;
        lease.unnamed = None;
        lease.request_now(context, bytes);
        self.names.unnamed = None;
        self.names.unnamed_portal = None;
        Some((shard, lease, Request::Query))
    }

    fn start_batch(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Option<(ShardId, Lease, Request)> {
        let batch = Batch::read(bytes, self.message_max)?;
        let bind = Bind::decode(batch.bind).ok()?;
        if !bind.portal.is_empty() {
            return None;
        }
        let prepared = match batch.parse {
            Some(parse) if bind.statement.is_empty() => self.parsed_at_once(parse)?,
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
        let mut lease = self.take_at_once(shard, recipe.access)?;
        let mut renamed = false;
        let known = if batch.parse.is_some() {
            lease.unnamed = Some(canonical.id);
            true
        } else if prepared.named {
            renamed = true;
            lease.has_prepared(canonical.id)
        } else {
            lease.unnamed == Some(canonical.id)
        };
        if !known {
            self.give_back(shard, lease);
            return None;
        }
        if renamed {
            let out = &mut lease.outbox;
            if frontend::bind_renamed(out, batch.bind, &canonical.name, "").is_err() {
                out.clear();
                self.give_back(shard, lease);
                return None;
            }
            out.extend_from_slice(batch.rest);
            lease.expect_syncs(1);
            // An error is met again when the reply is awaited.
            let _ = lease.poll_flush(context);
        } else {
            lease.request_now(context, bytes);
        }
        let parsed = batch.parse.is_some().then(|| Rc::clone(&prepared));
        if parsed.is_some() {
            self.names.unnamed.clone_from(&parsed);
        }
        if self.block.is_some() {
            // In a transaction it may be executed again.
            self.names.unnamed_portal = Some(Portal {
                prepared,
                bind: Bytes::new(),
                place: Place::Server(shard),
                hold: false,
                access: recipe.access,
            });
        }
        let described = batch.described;
        Some((shard, lease, Request::Batch { parsed, described }))
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
            Request::Batch { parsed, described } => {
                if parsed.is_some() {
                    script.expect(Reply::Parse, To::Client);
                }
                script.expect(Reply::Bind, To::Client);
                if described {
                    script.expect(Reply::DescribePortal, To::Client);
                }
                script.expect(Reply::Execute, To::Client);
                script.expect(Reply::Sync, To::Client);
                self.quick_batch_goes_on(shard, Taken { lease, script }, parsed)
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

impl<'a> Batch<'a> {
    /// `bytes` as the messages of one statement, and nothing else.
    fn read(bytes: &'a [u8], message_max: usize) -> Option<Self> {
        let mut rest = bytes;
        let mut next = || {
            let frame = next_frame(rest, message_max).ok()??;
            let body = frame.body(rest);
            rest = &rest[frame.len..];
            Some((frame.tag, body, rest))
        };
        let mut message = next()?;
        let mut parse = None;
        if message.0 == tag::PARSE {
            parse = Some(message.1);
            message = next()?;
        }
        let (tag::BIND, bind, behind_bind) = message else {
            return None;
        };
        message = next()?;
        let described = message.0 == tag::DESCRIBE;
        if described {
            if message.1 != b"P\0" {
                return None;
            }
            message = next()?;
        }
        // All rows of the unnamed portal.
        if message.0 != tag::EXECUTE || message.1 != b"\0\0\0\0\0" {
            return None;
        }
        let (tag::SYNC, _, []) = next()? else {
            return None;
        };
        Some(Self {
            parse,
            bind,
            rest: behind_bind,
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
        if let Self::Batch { parsed, described } = self {
            if parsed.is_some() && next(&mut rest)?.0 != reply::PARSE_COMPLETE {
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
            parsed: None,
            described: true,
        };
        assert_eq!(
            batch.whole_reply(BATCH_REPLY),
            None,
            "a Parse that nobody sent"
        );
        assert_eq!(batch.whole_reply(&BATCH_REPLY[5..]), Some(b'T'));
        let blind = Request::Batch {
            parsed: None,
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
            Batch::read(&bytes, 1 << 20).map(|b| (b.parse.is_some(), b.described, b.rest.len()))
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
