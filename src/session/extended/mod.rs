//! The extended protocol: batches of messages up to Sync or Flush, each planned as a whole before anything is sent.
//!
//! A batch for one shard goes there in one write and its replies come back in one read ([`Session::direct`]). Any other
//! batch is taken apart into segments ([`Session::stepwise`]) inside an implicit transaction.
//!
//! Reading order: this file (a batch from its first message to Sync), `understand` and `bind` (what its messages need),
//! `cached` (a batch that a kept answer answers), `direct`, `stepwise`, `told` (what clients were told of their statements stays true).

mod bind;
mod cached;
mod direct;
mod stepwise;
mod told;
mod understand;

use crate::backend::pool::Lease;
use crate::execute::relay::Reply;
use crate::route::plan::{Access, ShardSet};
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::planner::PendingSet;
use crate::session::portal::{CursorChange, Effects};
use crate::session::prepared::{Before, Canonical, Prepared};
use crate::session::servers::Taken;
use crate::topology::ShardId;
use crate::wire::frame::next_frame;
use crate::wire::frontend::{self, Format, tag};
use bytes::Bytes;
use smallvec::SmallVec;
use std::rc::Rc;

/// Bytes of one batch that are gathered before it is worked on without waiting for its Sync.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Sync,
    Flush,
}

/// One message of a batch, understood.
#[derive(Debug)]
pub(super) enum Item {
    Parse {
        prepared: Rc<Prepared>,
    },
    /// A Parse that will be refused, by a server if it finds fault with the text.
    ParseInVain {
        prepared: Rc<Prepared>,
    },
    Bind {
        portal: String,
        prepared: Rc<Prepared>,
        body: Bytes,
    },
    DescribeStatement(Rc<Prepared>),
    DescribePortal {
        portal: String,
        prepared: Rc<Prepared>,
    },
    Execute {
        portal: String,
        rows_max: u32,
        access: Access,
        /// The same for the result cache.
        effects: Rc<Effects>,
        /// It is a COPY.
        copies: bool,
        /// What it does to a cursor.
        cursor: Option<Rc<CursorChange>>,
        /// What set_config() calls in it set.
        sets: Vec<PendingSet>,
    },
    CloseStatement,
    ClosePortal(String, Closing),
}

/// Where the portal is that a Close closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    Nowhere,
    OnServer,
    /// Keyway's own, closed when the message is reached.
    Own,
}

impl Item {
    /// The portal that it names.
    fn portal(&self) -> Option<&str> {
        match self {
            Self::Bind { portal, .. }
            | Self::DescribePortal { portal, .. }
            | Self::Execute { portal, .. }
            | Self::ClosePortal(portal, _) => Some(portal),
            Self::Parse { .. }
            | Self::ParseInVain { .. }
            | Self::DescribeStatement(_)
            | Self::CloseStatement => None,
        }
    }
}

/// What a message needs.
#[derive(Debug)]
pub(super) enum Need {
    /// Nothing: Keyway answers.
    Nothing,
    /// Some server among these.
    Any(ShardSet),
    /// The server on this shard.
    Shard(ShardId),
    /// Keyway's own work: statements about the session, several shards.
    Own,
}

/// A batch in which every message is understood.
#[derive(Debug, Default)]
struct Batch {
    items: SmallVec<[(Item, Need); 6]>,
    /// Why the message behind the last item cannot be.
    failure: Option<SessionError>,
    executes: usize,
}

/// Statements sent to a server to be parsed.
#[derive(Debug)]
struct Parses {
    /// In order.
    sent: SmallVec<[(Rc<Canonical>, Under); 2]>,
    /// The server's unnamed statement before them.
    unnamed: Option<u64>,
}

impl Parses {
    /// Nothing sent to it yet.
    fn on(lease: &Lease) -> Self {
        Self {
            sent: SmallVec::new(),
            unnamed: lease.unnamed,
        }
    }

    fn push(&mut self, canonical: &Rc<Canonical>, under: Under) {
        self.sent.push((Rc::clone(canonical), under));
    }

    fn ids(&self) -> SmallVec<[(u64, Under); 2]> {
        let id = |(canonical, under): &(Rc<Canonical>, Under)| (canonical.id, *under);
        self.sent.iter().map(id).collect()
    }
}

/// What a server knows a statement by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Under {
    /// A name that stays.
    Name,
    /// The unnamed statement.
    Unnamed,
    /// A name that is closed again.
    InVain,
}

impl Under {
    fn of(prepared: &Prepared) -> Self {
        if prepared.named {
            Self::Name
        } else {
            Self::Unnamed
        }
    }
}

/// Statements that a batch makes known to its server.
#[derive(Debug, Default)]
struct SentIds {
    /// By Parse messages, in order.
    parsed: SmallVec<[(u64, Under); 2]>,
    /// The unnamed statement before them.
    unnamed: Option<u64>,
    /// By PREPARE, in front of the batch.
    prepared_by_sql: SmallVec<[u64; 2]>,
}

impl SentIds {
    fn new(parses: &Parses, prepared_by_sql: SmallVec<[u64; 2]>) -> Self {
        Self {
            parsed: parses.ids(),
            unnamed: parses.unnamed,
            prepared_by_sql,
        }
    }

    /// The server's unnamed statement behind an error. A Parse that was reached ends it before it fails, one that was
    /// not reached does nothing (manual §55.2.3). `parsed`: the statements that were parsed.
    fn unnamed_behind_error(&self, parsed: usize, error: Reply) -> Option<u64> {
        let unnamed = |entry: &&(u64, Under)| entry.1 == Under::Unnamed;
        if error == Reply::Parse && self.parsed.get(parsed).as_ref().is_some_and(unnamed) {
            return None;
        }
        let last = self.parsed.iter().take(parsed).rfind(unnamed);
        last.map_or(self.unnamed, |(id, _)| Some(*id))
    }
}

impl Session {
    /// Answers the messages up to the next Sync or Flush.
    pub(super) async fn batch(&mut self) -> Result<(), SessionError> {
        self.batch = None;
        let (messages, cut) = self.gather().await?;
        if self.skipping {
            if cut == Cut::Sync {
                self.synced().await?;
            }
            return Ok(());
        }
        let result = self.run_messages(&messages, cut).await;
        self.batch_ended(result, cut).await
    }

    /// Ends a batch: its error, if it failed, and what Sync asks for.
    pub(super) async fn batch_ended(
        &mut self,
        result: Result<bool, SessionError>,
        cut: Cut,
    ) -> Result<(), SessionError> {
        if result.is_err() {
            self.unsay();
        }
        let said_ready = match result {
            Ok(said) => said,
            Err(SessionError::Statement(fields)) => {
                if let Some(fields) = fields {
                    self.say_error(&fields);
                }
                self.fail_block();
                self.skipping = true;
                false
            }
            Err(SessionError::Unparsed(fields, own)) => {
                Box::pin(self.say_unparsed(*fields, &own)).await?;
                self.skipping = true;
                false
            }
            Err(other) => return Err(other),
        };
        // The Sync in front of a COPY's data is ignored (§55.2.7): the client sends another.
        let void = std::mem::take(&mut self.sync_void);
        if cut == Cut::Sync && !void && !said_ready {
            self.synced().await?;
        }
        Ok(())
    }

    /// Runs the messages of a batch. What Keyway executes itself may change how the messages behind it are to be read
    /// (BEGIN, SET, DDL), so a batch is understood as far as the first of those, and then further. True when
    /// ReadyForQuery has been said.
    async fn run_messages(
        &mut self,
        messages: &[(u8, Bytes)],
        cut: Cut,
    ) -> Result<bool, SessionError> {
        let mut rest = messages;
        loop {
            let (batch, used) = self.understand(rest).await;
            rest = &rest[used..];
            if rest.is_empty() {
                return self.run_batch(batch, cut).await;
            }
            self.run_batch(batch, Cut::Flush).await?;
            self.look_around()?;
        }
    }

    /// Sync: the implicit transaction ends, and the client hears where it stands.
    async fn synced(&mut self) -> Result<(), SessionError> {
        self.skipping = false;
        if self.in_implicit_block() {
            Box::pin(self.end_implicit()).await?;
        }
        if self.block.is_none() {
            self.names.transaction_ended();
        }
        self.say_ready();
        Ok(())
    }

    /// The messages up to and without the next Sync or Flush. A batch that grows large is cut.
    async fn gather(&mut self) -> Result<(SmallVec<[(u8, Bytes); 6]>, Cut), SessionError> {
        let mut messages = SmallVec::new();
        let mut bytes = 0;
        loop {
            let frame = next_frame(&self.client.inbox, self.message_max).map_err(|error| {
                use crate::wire::error::ClientError;
                SessionError::Fatal(Box::new(error.fatal_fields()))
            })?;
            let Some(frame) = frame else {
                self.client
                    .flush()
                    .await
                    .map_err(|_| SessionError::ClientGone)?;
                self.client
                    .fill()
                    .await
                    .map_err(|_| SessionError::ClientGone)?;
                continue;
            };
            let cut = match frame.tag {
                tag::SYNC => Some(Cut::Sync),
                tag::FLUSH => Some(Cut::Flush),
                tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => None,
                // A simple Query or Terminate in the middle of a batch: what was sent so far is due.
                _ => return Ok((messages, Cut::Flush)),
            };
            let message = self.client.inbox.split_to(frame.len).freeze();
            if let Some(cut) = cut {
                return Ok((messages, cut));
            }
            bytes += message.len();
            if !self.skipping {
                messages.push((frame.tag, message.slice(5..)));
            }
            if bytes > BATCH_BYTES_MAX {
                return Ok((messages, Cut::Flush));
            }
        }
    }

    /// Runs a batch. True when ReadyForQuery has been said.
    async fn run_batch(&mut self, batch: Batch, cut: Cut) -> Result<bool, SessionError> {
        self.still_as_told(&batch).await?;
        if self.worker.results.is_some() && cut == Cut::Sync && batch.failure.is_none() {
            let items: SmallVec<[&Item; 6]> = batch.items.iter().map(|(item, _)| item).collect();
            if Box::pin(self.batch_kept(&items)).await? {
                return Ok(true);
            }
        }
        let runs = batch
            .items
            .iter()
            .any(|(item, _)| matches!(item, Item::Bind { .. } | Item::Execute { .. }));
        match self.one_target(&batch) {
            Some(shard) if self.may_write_unreadably(shard, &batch) => {
                // Should its rows turn out to be unreadable for the client, it is rolled back.
                Box::pin(self.stepwise(batch, true)).await?;
                Ok(false)
            }
            Some(shard) if (cut == Cut::Sync && batch.failure.is_none()) || !runs => {
                self.direct(shard, batch, cut).await
            }
            _ => {
                // What stands before a message that cannot be is answered, and rolled back with it.
                let keep_open = runs && (cut == Cut::Flush || batch.failure.is_some());
                Box::pin(self.stepwise(batch, keep_open)).await?;
                Ok(false)
            }
        }
    }

    /// Does a batch write by itself, and return binary rows from a shard that numbers types in its own way? Whether the
    /// rows carry such numbers is only known when they are described, which is too late for a write that has committed.
    fn may_write_unreadably(&self, shard: ShardId, batch: &Batch) -> bool {
        if self.block.is_some() || self.type_map(shard).is_none() {
            return false;
        }
        let writes = |item: &Item| {
            matches!(
                item,
                Item::Execute {
                    access: Access::Write,
                    ..
                }
            )
        };
        let binary = |item: &Item| match item {
            Item::Bind { body, .. } => frontend::Bind::decode(body)
                .is_ok_and(|bind| bind.result_formats.iter().any(|f| f == Format::Binary)),
            _ => false,
        };
        let items = || batch.items.iter().map(|(item, _)| item);
        items().any(writes) && items().any(binary)
    }

    /// The one shard that can serve the whole batch, if there is one.
    fn one_target(&self, batch: &Batch) -> Option<ShardId> {
        let mut fixed = None;
        for (_, need) in &batch.items {
            match need {
                Need::Own => return None,
                Need::Shard(shard) if fixed.is_some_and(|f| f != *shard) => return None,
                Need::Shard(shard) => fixed = Some(*shard),
                Need::Any(_) | Need::Nothing => {}
            }
        }
        let mut allowed: Option<ShardSet> = None;
        for (_, need) in &batch.items {
            if let Need::Any(set) = need {
                allowed = Some(match allowed {
                    Some(known) => known.intersection(set),
                    None => set.clone(),
                });
            }
        }
        match (fixed, allowed) {
            (Some(shard), Some(set)) if !set.contains(shard) => None,
            (Some(shard), _) => Some(shard),
            (None, Some(set)) if !set.is_empty() => Some(self.choose_among(&set)),
            (None, _) => None,
        }
    }

    /// Relays the rest of a batch that the fast path has sent, and ends it. `parses`: it makes the unnamed statement.
    pub(super) async fn quick_batch_goes_on(
        &mut self,
        shard: ShardId,
        taken: Taken,
        parses: bool,
    ) -> Result<(), SessionError> {
        let sent = SentIds {
            parsed: taken
                .lease
                .unnamed
                .filter(|_| parses)
                .map(|id| (id, Under::Unnamed))
                .into_iter()
                .collect(),
            // What was there before a Parse of its own is not known any more.
            unnamed: taken.lease.unnamed.filter(|_| !parses),
            ..SentIds::default()
        };
        let relayed = self.relay_batch(shard, taken, &sent).await;
        let unparsed = relayed.as_ref().map_or(true, |relayed| relayed.parsed == 0);
        if parses && unparsed {
            self.names.unnamed = None;
        }
        self.batch_ended(relayed.map(|_| true), Cut::Sync).await
    }

    /// Ends a batch that the fast path could not send.
    pub(super) async fn quick_batch_failed(
        &mut self,
        error: SessionError,
    ) -> Result<(), SessionError> {
        self.batch_ended(Err(error), Cut::Sync).await
    }

    /// After an error the batch's messages that were not reached have never been.
    fn unsay(&mut self) {
        let done = self.notes().items_done;
        for said in std::mem::take(&mut self.notes().said).into_iter().rev() {
            if said.item < done {
                continue;
            }
            let before = match said.before {
                Before::Portal(Some(before)) => {
                    self.names.set_portal(&said.name, before);
                    continue;
                }
                Before::Portal(None) => {
                    self.names.close_portal(&said.name);
                    continue;
                }
                // A Parse that was reached ends the unnamed statement before it fails (manual §55.2.3).
                Before::Parsed(_) if said.name.is_empty() && said.item == done => None,
                Before::Parsed(before) | Before::Closed(before) => before,
            };
            match (said.name.is_empty(), before) {
                (true, before) => self.names.unnamed = before,
                (false, Some(before)) => {
                    self.names.statements.insert(said.name, before);
                }
                (false, None) => {
                    self.names.statements.remove(&said.name);
                }
            }
        }
    }
}

/// The one of the two that asks more of a transaction.
pub(super) fn heavier(a: Access, b: Access) -> Access {
    let weight = |access| match access {
        Access::Read => 0,
        Access::Lock => 1,
        Access::Schema | Access::Upkeep => 2,
        Access::Write => 3,
    };
    if weight(a) >= weight(b) { a } else { b }
}
