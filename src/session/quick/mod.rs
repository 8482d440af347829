//! The fast path: one statement for one shard costs a look at what was seen before, two reads and two writes.
//!
//! A session at rest reads into the thread's scratch buffer. When the bytes are just one statement (a Query, or Parse,
//! Bind, Describe, Execute and Sync, of which Parse and Describe may be missing) of a shape that this worker has
//! planned, they go from there to a server at hand, and a reply that arrives whole goes back in the same way: nothing
//! is copied and hardly anything allocated. Everything else takes the ordinary way (`answer`) from the point it has
//! reached, with the same bytes as its result.

mod cached;
mod messages;
mod transaction;

use crate::backend::pool::Lease;
use crate::backend::stream::Scratch;
use crate::cache::shapes::Reading;
use crate::execute::relay::{Reply, Script, To};
use crate::metrics::{Outcome, QueryPlan};
use crate::route::keep::Spoils;
use crate::route::key::{NoParams, Values};
use crate::route::plan::Access;
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::SessionHint;
use crate::session::error::SessionError;
use crate::session::kept::{AskingNow, BoundTo};
use crate::session::planner::Bound;
use crate::session::portal::{Effects, Hold, Place, Portal};
use crate::session::prepared::{Body, Canonical, Known, MadeRecipe, Prepared};
use crate::session::quick::cached::CachesPart;
use crate::session::quick::messages::{Batch, Request, Sent};
use crate::session::quick::transaction::{BlockRequest, BlockWord};
use crate::session::servers::{Taken, wrote};
use crate::session::simple::Ready;
use crate::session::transaction::Wrote;
use crate::statement::scan::Scanned;
use crate::topology::ShardId;
use crate::wire::frame::{HEADER, next_frame};
use crate::wire::frontend::{self, Bind, Parse, tag};
use bytes::Bytes;
use std::cell::RefCell;
use std::future::poll_fn;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

/// Bytes read ahead from a client while a server works for it.
const READ_AHEAD: usize = 64 * 1024;

/// How an attempt at the fast path ended.
pub(super) enum Quick {
    /// The request is answered; the end of the answer may be in the client's outbox.
    Answered,
    /// The request, if there is one, waits in the inbox for the ordinary way.
    Ordinary,
    /// The ordinary way goes on from where this one ends.
    Unfinished(Box<Unfinished>),
    /// The session ends.
    Failed(SessionError),
}

/// What the fast path leaves to the ordinary way.
pub(super) enum Unfinished {
    /// No server is at hand: the statement waits for one.
    Waiting(Planned, Bytes),
    /// The reply must be looked at.
    Reply(Running),
}

/// A statement on its way. Dropped, it closes its server, which owes a reply.
#[derive(Debug)]
pub(super) struct Running {
    shard: ShardId,
    lease: Lease,
    request: Request,
    sent: Sent,
    started: Instant,
}

/// What a client's bytes ask for.
enum Asked {
    Statement(Planned),
    Block(BlockRequest),
    /// The client has been told a kept answer.
    Told(Instant),
}

/// A statement whose shard is known.
pub(super) struct Planned {
    shard: ShardId,
    access: Access,
    request: Request,
    /// The prepared statement that the batch binds.
    bound: Option<BoundStatement>,
    started: Instant,
    /// What it changes, if the cache must know.
    spoils: Option<Box<Spoils>>,
    /// Its answer is to be kept.
    asking: Option<Box<AskingNow>>,
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
    /// The answer is in the client's outbox.
    Answered(Instant),
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

impl Session {
    /// Waits for the client's next bytes, and answers them if it can be done at once.
    ///
    /// Cancel safe: the statement on its way is the session's, and its server is closed with it.
    pub(super) fn poll_quick(&mut self, context: &mut Context<'_>) -> Poll<Quick> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => match ready!(self.poll_arrival(context)) {
                Arrived::Running(running) => running,
                Arrived::Ordinary => return Poll::Ready(Quick::Ordinary),
                Arrived::Answered(started) => return Poll::Ready(self.quickly_answered(started)),
                Arrived::Waiting(planned, bytes) => {
                    let rest = Unfinished::Waiting(planned, bytes);
                    return Poll::Ready(Quick::Unfinished(Box::new(rest)));
                }
            },
        };
        let Poll::Ready(heard) = self.poll_reply(context, &mut running) else {
            self.running = Some(running);
            return Poll::Pending;
        };
        Poll::Ready(match heard {
            Heard::Whole => {
                if running.sent == Sent::Commit {
                    self.committed(running.shard, running.lease);
                } else {
                    self.give_back(running.shard, running.lease);
                }
                self.quickly_answered(running.started)
            }
            Heard::Other => Quick::Unfinished(Box::new(Unfinished::Reply(running))),
            Heard::ClientGone => {
                self.cancel.abandon(&self.worker);
                self.give_back(running.shard, running.lease);
                Quick::Failed(SessionError::ClientGone)
            }
        })
    }

    /// What the fast path could not finish, to its end.
    pub(super) async fn finish(&mut self, rest: Unfinished) -> Quick {
        let (started, result) = match rest {
            Unfinished::Waiting(planned, bytes) => {
                return match self.wait_for_server(planned, &bytes).await {
                    Ok(running) => {
                        self.running = Some(running);
                        poll_fn(|context| self.poll_quick(context)).await
                    }
                    Err(ended) => ended,
                };
            }
            Unfinished::Reply(running) if running.sent == Sent::Commit => {
                (running.started, self.commit_goes_on(running).await)
            }
            Unfinished::Reply(running) => (running.started, self.go_on(running).await),
        };
        match result {
            Ok(()) => self.quickly_answered(started),
            Err(error) => Quick::Failed(error),
        }
    }

    /// The request is through, but for what waits in the client's outbox.
    fn quickly_answered(&mut self, started: Instant) -> Quick {
        if self.block.is_none() {
            self.names.transaction_ended();
        }
        match self.is_through(started) {
            Ok(()) => Quick::Answered,
            Err(error) => Quick::Failed(error),
        }
    }

    /// Nothing waits, nothing is owed, and nothing but the text decides where a statement goes.
    pub(super) fn is_at_rest(&self) -> bool {
        let plain = match &self.block {
            None => true,
            Some(block) => {
                !block.is_implicit()
                    && !block.failed
                    && block.local_hint.is_none()
                    && block.changed.is_empty()
            }
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
        let planned = match self.plan_at_once(bytes) {
            Some(Asked::Statement(planned)) => planned,
            Some(Asked::Block(asked)) => return self.block_at_once(asked),
            Some(Asked::Told(started)) => return Arrived::Answered(started),
            None => return Arrived::Ordinary,
        };
        let Some((lease, sent)) = self.take_at_once(planned.shard, planned.access) else {
            // A transaction's server is where the ordinary way finds it, or not.
            return if self.block.is_none() || self.is_only_begun() {
                Arrived::Waiting(planned, Bytes::copy_from_slice(bytes))
            } else {
                Arrived::Ordinary
            };
        };
        match self.dispatch(context, planned, lease, sent, bytes) {
            Ok(running) => Arrived::Running(running),
            Err((shard, lease)) => {
                if sent == Sent::BeginAndStatement {
                    self.join_not(shard, lease);
                } else {
                    self.give_back(shard, lease);
                }
                Arrived::Ordinary
            }
        }
    }

    /// What these bytes ask for, if they are a statement of a known shape and nothing else.
    fn plan_at_once(&mut self, bytes: &[u8]) -> Option<Asked> {
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

    fn plan_query(&mut self, bytes: &[u8], started: Instant) -> Option<Asked> {
        let frame = next_frame(bytes, self.message_max).ok()??;
        if frame.len != bytes.len() {
            return None;
        }
        let text = frontend::text(&bytes[HEADER..]).ok()?;
        if let Some(word) = BlockWord::of(text) {
            return Some(Asked::Block(BlockRequest {
                word,
                request: Request::Query,
                unnamed: None,
                started,
            }));
        }
        let Some((seen, scanned)) = self.worker.shapes.find(text, self.own_reading()) else {
            self.is_unseen = true;
            return None;
        };
        let recipe = &seen.made.recipe;
        let values = Values {
            text,
            statement: &scanned,
            params: &NoParams,
        };
        let part = if self.worker.results.is_none() {
            CachesPart::none(self.quick_shard(recipe, &values)?)
        } else {
            self.caches_part(recipe, &values, None, Request::Query, started)?
        };
        let CachesPart::Asks {
            shard,
            spoils,
            asking,
        } = part
        else {
            self.names.unnamed = None;
            self.names.unnamed_portal = None;
            return Some(Asked::Told(started));
        };
        Some(Asked::Statement(Planned {
            shard,
            access: recipe.access,
            request: Request::Query,
            bound: None,
            started,
            spoils,
            asking,
        }))
    }

    fn plan_batch(&mut self, bytes: &[u8], started: Instant) -> Option<Asked> {
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
        if prepared.parameters() != Some(bind.parameters.len()) {
            return None;
        }
        let request = Request::Batch {
            parses: batch.parse.is_some(),
            described: batch.described,
        };
        let Body::Routed(scanned) = &prepared.body else {
            let word = BlockWord::of_prepared(&prepared)?;
            let is_plain = bind.parameters.is_empty() && bind.result_formats.len() <= 1;
            return is_plain.then(|| {
                Asked::Block(BlockRequest {
                    word,
                    request,
                    unnamed: batch.parse.is_some().then_some(prepared),
                    started,
                })
            });
        };
        if !scanned.verb.is_plain() || scanned.hints.is_some() || prepared.sql_types.is_some() {
            return None;
        }
        let recipe = self.made_recipe(&prepared)?;
        // What a client is told of a statement for the first time is remembered, and must still be true.
        let reading = self.reading();
        match prepared.told.get() {
            Some(told) if told.reading != reading => return None,
            None if batch.described && prepared.named => return None,
            _ => {}
        }
        let params = Bound {
            types: &prepared.types,
            bind: &bind,
        };
        let values = Values {
            text: &prepared.text,
            statement: scanned,
            params: &params,
        };
        let part = if self.worker.results.is_none() {
            CachesPart::none(self.quick_shard(&recipe, &values)?)
        } else {
            let bound = BoundTo {
                types: &prepared.types,
                bind: &bind,
            };
            self.caches_part(&recipe, &values, Some(&bound), request, started)?
        };
        let CachesPart::Asks {
            shard,
            spoils,
            asking,
        } = part
        else {
            self.told_at_once(&prepared, batch.parse.is_some(), &bytes[batch.bind]);
            return Some(Asked::Told(started));
        };
        let canonical = prepared.canonical(&self.worker.statements, reading);
        Some(Asked::Statement(Planned {
            shard,
            access: recipe.access,
            request,
            bound: Some(BoundStatement {
                prepared,
                canonical,
                bind: batch.bind,
            }),
            started,
            spoils,
            asking,
        }))
    }

    /// Sends a request behind what waits for the server. Gives the server back when it does not know the request's
    /// prepared statement.
    fn dispatch(
        &mut self,
        context: &mut Context<'_>,
        planned: Planned,
        mut lease: Lease,
        sent: Sent,
        bytes: &[u8],
    ) -> Result<Running, (ShardId, Lease)> {
        let shard = planned.shard;
        if let Some(spoils) = &planned.spoils {
            self.mark(&mut lease, shard, spoils, None);
        }
        // All of the request but a Bind that names the statement as the server knows it.
        let mut rest = bytes;
        match planned.bound {
            None => {
                lease.unnamed = None;
                self.names.unnamed = None;
                self.names.unnamed_portal = None;
            }
            Some(bound) => {
                let id = bound.canonical.id;
                if matches!(planned.request, Request::Batch { parses: true, .. }) {
                    lease.unnamed = Some(id);
                    self.names.unnamed = Some(Rc::clone(&bound.prepared));
                } else if bound.prepared.named {
                    if !lease.has_prepared(id) {
                        return Err((shard, lease));
                    }
                    let waiting = lease.outbox.len();
                    let body = &bytes[bound.bind.clone()];
                    let name = &bound.canonical.name;
                    if frontend::bind_renamed(&mut lease.outbox, body, name, "").is_err() {
                        lease.outbox.truncate(waiting);
                        return Err((shard, lease));
                    }
                    rest = &bytes[bound.bind.end..];
                } else if lease.unnamed != Some(id) {
                    return Err((shard, lease));
                }
                if let Some(block) = &self.block {
                    // In a transaction it may be executed again.
                    self.names.unnamed_portal = Some(Box::new(Portal {
                        prepared: bound.prepared,
                        bind: Bytes::new(),
                        place: Place::Server(shard),
                        hold: Hold::No,
                        level: block.savepoints.len(),
                        access: planned.access,
                        effects: Effects::none(),
                        cursor: None,
                        sets: Vec::new(),
                    }));
                }
            }
        }
        if lease.outbox.is_empty() {
            lease.request_now(rest);
        } else {
            lease.outbox.extend_from_slice(rest);
            lease.expect_syncs(1);
            // An error is met again when the reply is awaited.
            let _ = lease.poll_flush(context);
        }
        self.worker.metrics.plan_cache_hits.raise();
        self.plan = QueryPlan::Single;
        self.outcome = Outcome::Done;
        self.sync_void = false;
        self.batch = None;
        self.asking = planned.asking;
        Ok(Running {
            shard,
            lease,
            request: planned.request,
            sent,
            started: planned.started,
        })
    }

    /// Waits for a server and sends the request.
    async fn wait_for_server(&mut self, planned: Planned, bytes: &Bytes) -> Result<Running, Quick> {
        let (settings, sent) = match &self.block {
            None => (Arc::clone(&self.settings), Sent::Statement),
            Some(block) => (Arc::clone(&block.before), Sent::BeginAndStatement),
        };
        let (shard, started) = (planned.shard, planned.started);
        let error = match self.check_out(shard, &settings).await {
            Ok(mut lease) if lease.inbox.is_empty() && lease.outbox.is_empty() => {
                if sent == Sent::BeginAndStatement {
                    self.join_first(shard, planned.access, &mut lease);
                }
                let mut way = Some((planned, lease));
                let dispatched = poll_fn(|context| {
                    let (planned, lease) = way.take().expect("polled once");
                    Poll::Ready(self.dispatch(context, planned, lease, sent, bytes))
                });
                match dispatched.await {
                    Ok(running) => return Ok(running),
                    Err((shard, mut lease)) => {
                        if let Some(block) = &mut self.block {
                            lease.outbox.clear();
                            block.participants.pop();
                        }
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
        Err(match told.and_then(|()| self.is_through(started)) {
            Ok(()) => Quick::Answered,
            Err(error) => Quick::Failed(error),
        })
    }

    /// The unnamed statement that a Parse makes, if it has been made before.
    fn parsed_at_once(&mut self, body: &[u8]) -> Option<Rc<Prepared>> {
        let parse = Parse::decode(body).ok()?;
        if !parse.name.is_empty() {
            return None;
        }
        if let Some(word) = BlockWord::of(parse.query) {
            return parse.types.is_empty().then(|| word.prepared(parse.query));
        }
        let reading = self.own_reading();
        let Some((seen, scanned)) = self.worker.shapes.find(parse.query, reading) else {
            self.is_unseen = true;
            return None;
        };
        let mut unnamed = seen.made.unnamed.borrow_mut();
        // What 'now' means is fixed by each session's own Parse.
        let is_shared = !scanned.time_words;
        if let Some(known) = unnamed.as_ref()
            && is_shared
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
            told: Default::default(),
            rewritten: false,
        });
        if is_shared {
            *unnamed = Some(Rc::clone(&prepared));
        }
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

    fn quick_shard(&self, recipe: &Recipe, values: &Values<'_>) -> Option<ShardId> {
        let shard = recipe.only_shard(values, &self.topology)?;
        // Types whose OIDs differ from what the client knows must be looked at.
        self.type_map(shard).is_none().then_some(shard)
    }

    /// A server that can take a statement as it is: the transaction's, or one at hand with the session's settings.
    fn take_at_once(&mut self, shard: ShardId, access: Access) -> Option<(Lease, Sent)> {
        let Some(block) = &mut self.block else {
            let (pool, address) = self.worker.pool(&self.topology, &self.pools, shard)?;
            let lease = pool.check_out_at_once(&self.settings)?;
            if !lease.inbox.is_empty() {
                return None;
            }
            self.cancel.add_server(address, &lease);
            return Some((lease, Sent::Statement));
        };
        let writes = wrote(access);
        let elsewhere = block.participants.iter().any(|p| p.shard != shard);
        if (writes > Wrote::Nothing && block.other_writer(shard, writes).is_some())
            || (block.one_snapshot && elsewhere)
        {
            return None;
        }
        let Some(participant) = block.participant(shard) else {
            let lease = self.join_at_once(shard, access)?;
            return Some((lease, Sent::BeginAndStatement));
        };
        if !participant.is_ready() {
            return None;
        }
        participant.wrote = participant.wrote.max(writes);
        Some((participant.lease.take()?, Sent::Statement))
    }

    /// Waits for the reply. Cancel safe: a server that owes one is closed.
    fn poll_reply(&mut self, context: &mut Context<'_>, running: &mut Running) -> Poll<Heard> {
        let lease = &mut running.lease;
        if lease.has_to_send()
            && let Poll::Ready(Err(_)) = lease.poll_flush(context)
        {
            return Poll::Ready(Heard::Other);
        }
        let mut scratch = Scratch::take();
        match lease.poll_read_scratch(context, &mut scratch) {
            Poll::Ready(Ok(length)) => {
                let bytes = &scratch.bytes()[..length];
                match running.sent.whole_reply(running.request, bytes) {
                    // A server that has left the transaction has failed it.
                    Some((b'I', _)) if self.block.is_some() && running.sent != Sent::Commit => {}
                    Some((status, own)) => {
                        // What it has changed is so before the client hears of it.
                        lease.ready(status);
                        // Of a COMMIT nothing, and some of its answer may be waiting.
                        if !own.is_empty() {
                            self.client.send_now(own);
                        }
                        if let Some(asking) = self.asking.take() {
                            self.keep_at_once(*asking, own);
                        }
                        return Poll::Ready(Heard::Whole);
                    }
                    None => {}
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
        if let (Some(_), Some(results)) = (&self.asking, &self.worker.results) {
            self.client.record(results.entry_max(), &self.worker.copies);
        }
        let mut script = Script::new();
        if running.sent == Sent::BeginAndStatement {
            script.expect(Reply::Begin, To::Nobody);
        }
        let (shard, lease) = (running.shard, running.lease);
        match running.request {
            Request::Query => {
                script.query_follows = true;
                script.expect(Reply::Query, To::Client);
                script.expect(Reply::Sync, To::Client);
                let relayed = self
                    .relay_taken(
                        shard,
                        Taken {
                            lease,
                            script,
                            sets: Vec::new(),
                        },
                    )
                    .await;
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
                self.quick_batch_goes_on(
                    shard,
                    Taken {
                        lease,
                        script,
                        sets: Vec::new(),
                    },
                    parses,
                )
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
