//! The extended protocol: batches of messages up to Sync or Flush, each planned as a whole before anything is sent.
//!
//! A batch for one shard goes there in one write and its replies come back in one read ([`Session::direct`]). Any other
//! batch is taken apart into segments ([`Session::stepwise`]) inside an implicit transaction.

use crate::backend::pool::Lease;
use crate::backend::server::Doubt;
use crate::execute::relay::{Described, Keeps, Position, Relayed, Reply, Script, To};
use crate::execute::scatter::Describe;
use crate::route::choose::made::MadeKeys;
use crate::route::plan::{Access, PlanKind, ShardSet};
use crate::session::Session;
use crate::session::cursors::{CursorStatement, cannot_run, declared_outside};
use crate::session::error::SessionError;
use crate::session::own::hint_shown;
use crate::session::planner::{Bound, PendingSet};
use crate::session::portal::{Again, CursorChange, Hold, OwnCursor, Place, Portal, Ran};
use crate::session::prepared::{Before, Body, Canonical, Prepared, Said, Told};
use crate::session::servers::Taken;
use crate::session::simple::{in_its_place, is_command};
use crate::session::transaction::BlockKind;
use crate::statement::command::{Command, command};
use crate::statement::parse::parse;
use crate::statement::scan::{Verb, scan, shape};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frame::next_frame;
use crate::wire::frontend::{self, Format, Target, tag};
use crate::wire::types;
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

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

/// Statements sent to a server to be parsed, in order.
#[derive(Debug, Default)]
struct Parses(SmallVec<[Rc<Canonical>; 2]>);

/// Statements that a batch makes known to its server.
#[derive(Debug, Default)]
struct SentIds {
    /// By Parse messages, in order.
    parsed: SmallVec<[u64; 2]>,
    /// By PREPARE, in front of the batch.
    prepared_by_sql: SmallVec<[u64; 2]>,
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

    /// Reads and plans messages as far as the first that Keyway executes itself, or that changes which cursors there
    /// are. Returns how many. Statements and portals are entered under their names as they would be when the message is
    /// reached, for the messages behind to find them.
    async fn understand(&mut self, messages: &[(u8, Bytes)]) -> (Batch, usize) {
        let mut batch = Batch::default();
        let notes = self.notes();
        notes.said.clear();
        notes.pinned.clear();
        notes.items_done = 0;
        for (index, (kind, body)) in messages.iter().enumerate() {
            if takes_own_portal(*kind, body, &batch) {
                return (batch, index);
            }
            let mut item = self.item(*kind, body, &mut batch);
            if item.is_err()
                && *kind == tag::BIND
                && let Some((made, prepared)) = self.keys_of_bind(body)
            {
                item = Box::pin(self.bind_with_keys(&made, &prepared, body, &batch)).await;
            }
            match item {
                Ok(entry) => {
                    let stops = match &entry {
                        (Item::Execute { .. }, Need::Own) => true,
                        (Item::Execute { cursor, .. }, _) => cursor.is_some(),
                        _ => false,
                    };
                    batch.items.push(entry);
                    if batch.failure.is_some() {
                        break;
                    }
                    if stops {
                        return (batch, index + 1);
                    }
                }
                Err(error) => {
                    if *kind == tag::PARSE && body.first() == Some(&0) {
                        let before = Before::Parsed(self.names.unnamed.take());
                        self.notes().said.push(Said {
                            item: batch.items.len(),
                            name: String::new(),
                            before,
                        });
                    }
                    batch.failure = Some(error);
                    break;
                }
            }
        }
        (batch, messages.len())
    }

    fn item(
        &mut self,
        kind: u8,
        body: &Bytes,
        batch: &mut Batch,
    ) -> Result<(Item, Need), SessionError> {
        let protocol = |error| SessionError::from_client_error(&error);
        match kind {
            tag::PARSE => {
                let parse = frontend::Parse::decode(body).map_err(protocol)?;
                self.parse_item(&parse, batch)
            }
            tag::BIND => self.bind_item(body, batch.items.len()),
            tag::DESCRIBE => {
                let describe = frontend::Describe::decode(body).map_err(protocol)?;
                match describe.kind {
                    Target::Statement => {
                        let prepared = self.find_statement(describe.name)?;
                        self.refuse_columns_in_failed_block(&prepared)?;
                        if let Body::Execute(execution) = &prepared.body {
                            return self.describe_execution(&prepared, execution);
                        }
                        let need = self.parse_need(&prepared)?;
                        Ok((Item::DescribeStatement(prepared), need))
                    }
                    Target::Portal => {
                        let (need, portal) = self.find_portal(describe.name)?;
                        let prepared = Rc::clone(&portal.prepared);
                        let portal = describe.name.to_owned();
                        Ok((Item::DescribePortal { portal, prepared }, need))
                    }
                }
            }
            tag::EXECUTE => {
                let execute = frontend::Execute::decode(body).map_err(protocol)?;
                batch.executes += 1;
                let counts_as_block = self.counts_as_block();
                self.still_executes(execute.portal)?;
                let (need, portal) = self.find_portal(execute.portal)?;
                let item = Item::Execute {
                    portal: execute.portal.to_owned(),
                    rows_max: execute.max_rows,
                    access: portal.access,
                    copies: portal.prepared.copies(),
                    cursor: portal.cursor.clone(),
                    // Only the first Execute of a portal calls set_config().
                    sets: std::mem::take(&mut portal.sets),
                };
                if let (Some(change), Need::Shard(shard)) = (&portal.cursor, &need)
                    && let CursorChange::Declares(declare) = &*Rc::clone(change)
                {
                    if !declare.hold && !counts_as_block {
                        return Err(declared_outside());
                    }
                    self.refuse_second_cursor(*shard, declare)?;
                }
                Ok((item, need))
            }
            _ => {
                let close = frontend::Close::decode(body).map_err(protocol)?;
                Ok(match close.kind {
                    Target::Statement => {
                        let before = if close.name.is_empty() {
                            self.names.unnamed.take()
                        } else {
                            self.names.statements.remove(close.name)
                        };
                        self.notes().said.push(Said {
                            item: batch.items.len(),
                            name: close.name.to_owned(),
                            before: Before::Closed(before),
                        });
                        (Item::CloseStatement, Need::Nothing)
                    }
                    Target::Portal => {
                        // Own portals are closed when the message is reached; a server's name is free from here on.
                        let (closing, need) = match self.find_portal(close.name) {
                            Ok((Need::Shard(shard), _)) => (Closing::OnServer, Need::Shard(shard)),
                            Ok(_) => (Closing::Own, Need::Own),
                            Err(_) => (Closing::Nowhere, Need::Nothing),
                        };
                        if closing == Closing::OnServer {
                            let before = self.names.close_portal(close.name);
                            self.notes().said.push(Said {
                                item: batch.items.len(),
                                name: close.name.to_owned(),
                                before: Before::Portal(before),
                            });
                        }
                        (Item::ClosePortal(close.name.to_owned(), closing), need)
                    }
                })
            }
        }
    }

    fn parse_item(
        &mut self,
        parse: &frontend::Parse<'_>,
        batch: &mut Batch,
    ) -> Result<(Item, Need), SessionError> {
        let prepared = Rc::new(self.read_statement(parse)?);
        if !self.ends_block(&prepared) && !matches!(prepared.body, Body::Empty) {
            self.refuse_in_failed_block()
                .map_err(|refusal| self.or_syntax_error(refusal, &prepared))?;
        }
        if let Body::Command(_) | Body::Execute(_) = &prepared.body {
            all_types_known(&prepared.types)?;
        }
        if !parse.name.is_empty() {
            if self.names.statements.contains_key(parse.name) {
                let refusal = SessionError::refuse(
                    SqlState::DUPLICATE_PSTATEMENT,
                    format!("prepared statement \"{}\" already exists", parse.name),
                );
                // PostgreSQL finds what is wrong with the statement before it gives it the name.
                let Need::Any(shards) = self.parse_need(&prepared)? else {
                    return Err(refusal);
                };
                batch.failure = Some(refusal);
                let prepared = Rc::new(Prepared {
                    named: false,
                    ..self.read_statement(parse)?
                });
                return Ok((Item::ParseInVain { prepared }, Need::Any(shards)));
            }
            self.one_more_statement(parse.name)?;
        }
        let need = self.parse_need(&prepared)?;
        if let (true, Body::Routed(scanned)) = (parse.name.is_empty(), &prepared.body) {
            self.learn(parse.query, scanned);
        }
        let before = if parse.name.is_empty() {
            self.names.unnamed.replace(Rc::clone(&prepared))
        } else {
            let name = parse.name.to_owned();
            self.names.statements.insert(name, Rc::clone(&prepared))
        };
        self.notes().said.push(Said {
            item: batch.items.len(),
            name: parse.name.to_owned(),
            before: Before::Parsed(before),
        });
        Ok((Item::Parse { prepared }, need))
    }

    /// May the session prepare a statement under this name?
    pub(super) fn one_more_statement(&self, name: &str) -> Result<(), SessionError> {
        if self.names.statements.contains_key(name) {
            return Err(SessionError::refuse(
                SqlState::DUPLICATE_PSTATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        let max = self.worker.shared.config.load().limits.prepared_max;
        if self.names.statements.len() < max {
            return Ok(());
        }
        Err(SessionError::Statement(Some(Box::new(
            ErrorFields::error(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("this session has {max} prepared statements"),
            )
            .hint("Close some, or raise limits.prepared_max."),
        ))))
    }

    fn read_statement(&self, parse: &frontend::Parse<'_>) -> Result<Prepared, SessionError> {
        let settings = self.scan_settings();
        let statements = scan(parse.query, settings)
            .map_err(|error| SessionError::refuse(SqlState::SYNTAX_ERROR, error.to_string()))?;
        let mut real = statements.into_iter().filter(|s| s.verb != Verb::Empty);
        let body = match (real.next(), real.next()) {
            (None, _) => Body::Empty,
            (Some(_), Some(_)) => {
                return Err(SessionError::refuse(
                    SqlState::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                ));
            }
            (Some(scanned), None) if is_command(scanned.verb) => {
                let own = &parse.query[scanned.range.clone()];
                match command(own, scanned.verb, settings) {
                    Ok(Command::Execute { name, args }) => {
                        Body::Execute(self.execution(name, &args, own, scanned.params))
                    }
                    Ok(command) => Body::Command(command),
                    // A server says what is wrong with it.
                    Err(_) => Body::Routed(scanned),
                }
            }
            (Some(scanned), None) => {
                match hint_shown(&parse.query[scanned.range.clone()], &scanned, settings) {
                    Some(name) => Body::Command(Command::Show(Some(name))),
                    None => Body::Routed(scanned),
                }
            }
        };
        Ok(Prepared {
            text: Rc::from(parse.query),
            types: parse.types.iter().copied().collect(),
            body,
            named: !parse.name.is_empty(),
            sql_types: None,
            canonical: Default::default(),
            recipe: Default::default(),
            told: Default::default(),
            rewritten: false,
        })
    }

    /// A refusal of a statement that may not be one at all, which PostgreSQL would have found first.
    fn or_syntax_error(&self, refusal: SessionError, prepared: &Prepared) -> SessionError {
        match (&prepared.body, refusal) {
            (Body::Routed(scanned), SessionError::Statement(Some(fields)))
                if !self.is_understood(&prepared.text, scanned) =>
            {
                SessionError::Unparsed(fields, in_its_place(&prepared.text, scanned))
            }
            (_, refusal) => refusal,
        }
    }

    /// What returns rows is not described in a failed block (exec_describe_statement_message). Its server may not know
    /// that the block has failed, when the error was Keyway's.
    fn refuse_columns_in_failed_block(&self, prepared: &Prepared) -> Result<(), SessionError> {
        match &prepared.body {
            Body::Routed(scanned) if self.block.as_ref().is_some_and(|block| block.failed) => {
                let tree = parse(&shape(&prepared.text, scanned), scanned.verb);
                if matches!(scanned.verb, Verb::Show | Verb::Fetch)
                    || tree.is_ok_and(|tree| tree.returns_rows())
                {
                    return self.refuse_in_failed_block();
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The keys that a Bind's statement leaves to their default.
    fn keys_of_bind(&mut self, body: &Bytes) -> Option<(Arc<MadeKeys>, Rc<Prepared>)> {
        let bind = frontend::Bind::decode(body).ok()?;
        let prepared = self.find_statement(bind.statement).ok()?;
        let made = self.keys_of_prepared(&prepared)?;
        Some((made, prepared))
    }

    /// A Bind of the statement with keys for its rows.
    async fn bind_with_keys(
        &mut self,
        made: &MadeKeys,
        prepared: &Prepared,
        body: &Bytes,
        batch: &Batch,
    ) -> Result<(Item, Need), SessionError> {
        // The batch may be one transaction.
        let near = batch.items.iter().find_map(|(_, need)| match need {
            Need::Shard(shard) => Some(*shard),
            _ => None,
        });
        let prepared = self.prepared_with_keys(made, prepared, near).await?;
        self.bind_prepared(prepared, body, batch.items.len())
    }

    fn bind_item(&mut self, body: &Bytes, item: usize) -> Result<(Item, Need), SessionError> {
        let bind = frontend::Bind::decode(body)
            .map_err(|error| SessionError::from_client_error(&error))?;
        let prepared = self.find_statement(bind.statement)?;
        self.bind_prepared(prepared, body, item)
    }

    /// In the order of PostgreSQL's exec_bind_message.
    fn bind_prepared(
        &mut self,
        mut prepared: Rc<Prepared>,
        body: &Bytes,
        item: usize,
    ) -> Result<(Item, Need), SessionError> {
        let bind = frontend::Bind::decode(body)
            .map_err(|error| SessionError::from_client_error(&error))?;
        let given = bind.parameters.len();
        if let Some(wanted) = prepared.parameters().filter(|wanted| *wanted != given) {
            return Err(SessionError::refuse(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {given} parameters, but prepared statement \"{}\" requires {wanted}",
                    bind.statement
                ),
            ));
        }
        if !self.ends_block(&prepared) || given > 0 {
            self.refuse_in_failed_block()?;
        }
        if !bind.portal.is_empty() {
            if self.names.portals.contains_key(bind.portal) {
                return Err(SessionError::refuse(
                    SqlState::DUPLICATE_CURSOR,
                    format!("cursor \"{}\" already exists", bind.portal),
                ));
            }
            self.one_more_portal()?;
        }
        let mut access = Access::Read;
        let mut cursor = None;
        let place = match &Rc::clone(&prepared).body {
            Body::Command(_) | Body::Empty => Place::Local,
            Body::Execute(execution) => match self.bind_execution(&prepared, execution)? {
                // It fails when it runs.
                None => Place::Local,
                Some((written, plan)) => {
                    self.note_plan(plan.kind);
                    access = plan.access;
                    prepared = written;
                    let shard = self.choose(&plan);
                    if let Some(pin) = plan.pin {
                        self.pin_by_item(item, shard, pin);
                    }
                    Place::Server(shard)
                }
            },
            Body::Routed(scanned) => {
                let own = prepared.own_text().to_owned();
                let plan = match self.cursor_statement(
                    &own,
                    scanned,
                    &Bound {
                        types: prepared.routing_types(),
                        bind: &bind,
                    },
                )? {
                    CursorStatement::None => {
                        cursor = self.closes(&own, scanned).map(Rc::new);
                        self.plan_bound(&prepared, scanned, &bind)?
                    }
                    CursorStatement::Forward(plan, declare) => {
                        cursor = Some(Rc::new(CursorChange::Declares(declare)));
                        *plan
                    }
                    CursorStatement::Declare(declare, plan, query) => {
                        let declare = OwnCursor::Declare(declare, *plan, query);
                        return self.own_cursor(&bind, &prepared, body, declare, item);
                    }
                    CursorStatement::Own(command) => {
                        let using = OwnCursor::Use(command);
                        return self.own_cursor(&bind, &prepared, body, using, item);
                    }
                };
                self.note_plan(plan.kind);
                access = plan.access;
                if Self::is_for_one(&plan) && plan.access != Access::Schema && plan.text.is_none() {
                    let shard = self.choose(&plan);
                    if let Some(pin) = plan.pin {
                        self.pin_by_item(item, shard, pin);
                    }
                    Place::Server(shard)
                } else if !prepared.routing_types().is_empty() && prepared.sql_types.is_some() {
                    return Err(SessionError::unsupported(
                        "a statement that SQL prepared with types cannot run on several shards",
                        "Its parameters' types are written in SQL.",
                        "Send the statement itself, or prepare it by the driver.",
                    ));
                } else {
                    Place::Merge(Box::new(plan))
                }
            }
        };
        let need = match &place {
            Place::Server(shard) => Need::Shard(*shard),
            _ => Need::Own,
        };
        let portal = bind.portal.to_owned();
        let entry = Portal {
            prepared: Rc::clone(&prepared),
            bind: body.clone(),
            place,
            hold: Hold::No,
            level: self.savepoints_set(),
            access,
            cursor,
            sets: std::mem::take(&mut self.pending_sets),
        };
        self.enter_portal(&portal, entry, item);
        Ok((
            Item::Bind {
                portal,
                prepared,
                body: body.clone(),
            },
            need,
        ))
    }

    /// A bound statement about a cursor over several shards.
    fn own_cursor(
        &mut self,
        bind: &frontend::Bind<'_>,
        prepared: &Rc<Prepared>,
        body: &Bytes,
        statement: OwnCursor,
        item: usize,
    ) -> Result<(Item, Need), SessionError> {
        let fetches = matches!(statement, OwnCursor::Use(Command::Fetch { .. }));
        if fetches && bind.result_formats.iter().any(|f| f == Format::Binary) {
            return Err(SessionError::unsupported(
                "a cursor over several shards gives text, not the binary format",
                "Its rows are merged as the shards' text.",
                "Ask for the text format, or run the query without a cursor.",
            ));
        }
        let portal = bind.portal.to_owned();
        let place = Place::OwnCursor(Box::new(statement));
        let entry = Portal {
            prepared: Rc::clone(prepared),
            bind: body.clone(),
            place,
            hold: Hold::No,
            level: self.savepoints_set(),
            access: Access::Lock,
            cursor: None,
            sets: Vec::new(),
        };
        self.enter_portal(&portal, entry, item);
        Ok((
            Item::Bind {
                portal,
                prepared: Rc::clone(prepared),
                body: body.clone(),
            },
            Need::Own,
        ))
    }

    /// Enters the portal of the batch's message `item`.
    fn enter_portal(&mut self, name: &str, portal: Portal, item: usize) {
        let before = self.names.set_portal(name, portal);
        self.notes().said.push(Said {
            item,
            name: name.to_owned(),
            before: Before::Portal(before),
        });
    }

    /// A session may hold as many portals and cursors as prepared statements: each keeps its parameters.
    pub(super) fn one_more_portal(&self) -> Result<(), SessionError> {
        let max = self.worker.shared.config.load().limits.prepared_max;
        if self.names.portals.len() < max {
            return Ok(());
        }
        Err(SessionError::Statement(Some(Box::new(
            ErrorFields::error(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("this session has {max} portals and cursors"),
            )
            .hint("Close some, or raise limits.prepared_max."),
        ))))
    }

    /// COMMIT and ROLLBACK are the statements that may still be bound in a failed block.
    fn ends_block(&self, prepared: &Prepared) -> bool {
        use crate::statement::command::Command;
        matches!(
            prepared.body,
            Body::Command(
                Command::Commit { .. } | Command::Rollback { .. } | Command::RollbackTo(_)
            )
        )
    }

    fn find_statement(&self, name: &str) -> Result<Rc<Prepared>, SessionError> {
        self.names.statement(name).cloned().ok_or_else(|| {
            let message = if name.is_empty() {
                "unnamed prepared statement does not exist".to_owned()
            } else {
                format!("prepared statement \"{name}\" does not exist")
            };
            SessionError::refuse(SqlState::INVALID_SQL_STATEMENT_NAME, message)
        })
    }

    /// What parsing or describing a statement needs: nothing if it is Keyway's own.
    fn parse_need(&mut self, prepared: &Rc<Prepared>) -> Result<Need, SessionError> {
        match &prepared.body {
            Body::Empty | Body::Command(_) | Body::Execute(_) => Ok(Need::Own),
            // Only Keyway knows the columns of a cursor over several shards.
            Body::Routed(scanned)
                if self
                    .cursor_description(prepared.own_text(), scanned)
                    .is_some() =>
            {
                Ok(Need::Own)
            }
            Body::Routed(scanned) => Ok(Need::Any(self.shards_that_parse(prepared, scanned)?)),
        }
    }

    fn find_portal(&mut self, name: &str) -> Result<(Need, &mut Portal), SessionError> {
        match self.names.portal(name) {
            Some(portal) => {
                let need = match &portal.place {
                    Place::Server(shard) => Need::Shard(*shard),
                    _ => Need::Own,
                };
                Ok((need, portal))
            }
            None => Err(no_portal(name)),
        }
    }

    /// Runs a batch. True when ReadyForQuery has been said.
    async fn run_batch(&mut self, batch: Batch, cut: Cut) -> Result<bool, SessionError> {
        self.still_as_told(&batch).await?;
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

    /// The whole batch to one server in one write. True when its ReadyForQuery was passed on.
    async fn direct(
        &mut self,
        shard: ShardId,
        batch: Batch,
        cut: Cut,
    ) -> Result<bool, SessionError> {
        if self.known_everywhere(&batch) {
            self.answer_known(&batch);
            self.notes().items_done += batch.items.len();
            return batch.failure.map_or(Ok(false), Err);
        }
        let implicit = self.block.as_ref().is_some_and(|b| b.is_implicit());
        // A COPY decides whether this Sync counts, so its ReadyForQuery waits for it.
        let copies = batch
            .items
            .iter()
            .any(|(item, _)| matches!(item, Item::Execute { copies: true, .. }));
        let whose = if cut == Cut::Sync && !implicit && !copies && batch.failure.is_none() {
            To::Client
        } else {
            To::Nobody
        };
        let items: SmallVec<[Item; 6]> = batch.items.into_iter().map(|(item, _)| item).collect();
        self.segment(shard, &items, whose).await?;
        if let Some(failure) = batch.failure {
            return Err(failure);
        }
        if whose == To::Client && self.block.is_none() {
            self.names.transaction_ended();
        }
        Ok(whose == To::Client)
    }

    /// Only statements to be parsed that a server has parsed before: no server need be asked again.
    fn known_everywhere(&self, batch: &Batch) -> bool {
        let key = self.reading();
        batch.items.iter().all(|(item, _)| match item {
            Item::Parse { prepared } => {
                prepared.named
                    && prepared
                        .canonical(&self.worker.statements, key)
                        .parsed_once
                        .get()
            }
            Item::CloseStatement => true,
            _ => false,
        })
    }

    fn answer_known(&mut self, batch: &Batch) {
        for (item, _) in &batch.items {
            match item {
                Item::Parse { .. } => reply::parse_complete(&mut self.client.outbox),
                _ => reply::close_complete(&mut self.client.outbox),
            }
        }
    }

    /// Sends these messages and a Sync to one server and relays the replies.
    async fn segment(
        &mut self,
        shard: ShardId,
        items: &[Item],
        whose_sync: To,
    ) -> Result<(), SessionError> {
        // What is executed counts: a portal may have been bound in an earlier batch.
        let mut access = Access::Read;
        let mut copying = false;
        let mut all_sets = Vec::new();
        for item in items {
            if let Item::Execute {
                access: own,
                copies,
                sets,
                ..
            } = item
            {
                access = heavier(access, *own);
                copying |= copies;
                all_sets.extend_from_slice(sets);
            }
        }
        // A PREPARE in front of the batch is a Query, which a server that could not begin would pass over.
        let prepares = items.iter().any(|item| match item {
            Item::Bind { prepared, .. } | Item::DescribeStatement(prepared) => {
                prepared.sql_types.is_some() || prepared.executes().is_some()
            }
            _ => false,
        });
        let mut taken = if prepares {
            let mut taken = self.take(shard, access).await?;
            // The server has Keyway's name in place of the client's.
            taken.script.position = Position::Unknown;
            taken
        } else {
            self.take_and_begin(shard, access).await?
        };
        let rewritten =
            |item: &Item| matches!(item, Item::Bind { prepared, .. } if prepared.rewritten);
        if items.iter().any(rewritten) {
            taken.script.position = Position::Unknown;
        }
        taken.sets = all_sets;
        taken.lease.begin_batch();
        let mut parses = Parses::default();
        if items.iter().any(|item| {
            matches!(
                item,
                Item::DescribeStatement(_) | Item::DescribePortal { .. }
            )
        }) {
            taken.script.keeps = Keeps::Clients;
        }
        let prepared_by_sql = match self.send_prepares(shard, items, &mut taken) {
            Ok(ids) => ids,
            Err(error) => {
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
        };
        for item in items {
            let sent = self.send(
                shard,
                item,
                &mut taken.lease,
                &mut taken.script,
                &mut parses,
            );
            if let Err(error) = sent {
                // What was entered as prepared has not been sent.
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
            taken.script.mark();
        }
        if copying {
            frontend::flush(&mut taken.lease.outbox);
            taken.script.late_sync = true;
        } else {
            frontend::sync(&mut taken.lease.outbox);
        }
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Sync, whose_sync);
        let sent = SentIds {
            parsed: parses.0.iter().map(|p| p.id).collect(),
            prepared_by_sql,
        };
        let relayed = self.relay_batch(shard, taken, &sent).await;
        let (parsed, failed) = match &relayed {
            Ok(relayed) => (relayed.parsed, relayed.error.is_some()),
            Err(_) => (0, true),
        };
        if let Ok(relayed) = &relayed {
            self.remember_told(items, &relayed.described);
        }
        for canonical in parses.0.iter().take(parsed) {
            canonical.parsed_once.set(true);
        }
        if failed {
            self.unsay();
        }
        let relayed = relayed?;
        if relayed.error.is_none() {
            for item in items {
                if let Item::Execute {
                    cursor: Some(change),
                    ..
                } = item
                {
                    self.cursor_changed(shard, change);
                }
            }
        }
        if relayed.error.is_some() {
            if whose_sync == To::Client {
                return Ok(());
            }
            return Err(SessionError::Statement(None));
        }
        Ok(())
    }

    /// Remembers what the client has been told of statements for the first time.
    fn remember_told(&self, items: &[Item], described: &[Described]) {
        let mut described = described.iter();
        for item in items {
            let (Item::DescribeStatement(prepared) | Item::DescribePortal { prepared, .. }) = item
            else {
                continue;
            };
            if let Some(described) = described.next() {
                self.remember(prepared, described);
            }
        }
    }

    pub(super) fn remember(&self, prepared: &Prepared, described: &Described) {
        let known = prepared
            .told
            .get()
            .and_then(|told| told.described.parameters);
        let described = Described {
            parameters: described.parameters.or(known),
            ..*described
        };
        let reading = self.reading();
        prepared.told.set(Some(Told { reading, described }));
    }

    /// Are the statements of a batch still what the client was told they are? A change of the schema, or of the
    /// search_path, may have made them others since, which PostgreSQL refuses too (plancache.c, RevalidateCachedQuery).
    async fn still_as_told(&mut self, batch: &Batch) -> Result<(), SessionError> {
        let reading = self.reading();
        for (item, need) in &batch.items {
            let (Item::Bind { prepared, .. } | Item::DescribeStatement(prepared)) = item else {
                continue;
            };
            let prepared = prepared.executes().unwrap_or(prepared);
            let Some(told) = prepared.told.get().filter(|told| told.reading != reading) else {
                continue;
            };
            let shard = match need {
                Need::Shard(shard) => *shard,
                Need::Any(shards) => self.choose_among(shards),
                Need::Own | Need::Nothing => match &prepared.body {
                    Body::Routed(scanned) => {
                        let shards = self.shards_that_parse(prepared, scanned)?;
                        self.choose_among(&shards)
                    }
                    Body::Empty | Body::Command(_) | Body::Execute(_) => continue,
                },
            };
            self.is_as_told(shard, prepared, told).await?;
        }
        Ok(())
    }

    /// Is the statement still what the client was told it is?
    pub(super) async fn is_as_told(
        &mut self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
        told: Told,
    ) -> Result<(), SessionError> {
        let reading = self.reading();
        let now = self.described_now(shard, prepared).await?;
        let parameters = told.described.parameters.or(now.parameters);
        if now.columns != told.described.columns || parameters != now.parameters {
            return Err(SessionError::Statement(Some(Box::new(
                ErrorFields::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cached plan must not change result type",
                )
                .hint("Prepare the statement again."),
            ))));
        }
        prepared.told.set(Some(Told { reading, ..told }));
        Ok(())
    }

    /// How a server describes a statement now.
    pub(super) async fn described_now(
        &mut self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
    ) -> Result<Described, SessionError> {
        let mut taken = self.take(shard, Access::Read).await?;
        let mut parses = Parses::default();
        let mut prepared_by_sql = SmallVec::new();
        let made = if prepared.sql_types.is_some() {
            self.send_prepare(shard, prepared, &mut taken)
        } else {
            Ok(false)
        };
        let Taken { lease, script, .. } = &mut taken;
        script.keeps = Keeps::All;
        let sent = made.and_then(|made| {
            if made {
                let canonical = prepared.canonical(&self.worker.statements, self.reading());
                prepared_by_sql.push(canonical.id);
            }
            self.ensure(shard, prepared, lease, script, &mut parses)
        });
        let sent = sent.and_then(|name| {
            Ok(frontend::describe(
                &mut lease.outbox,
                Target::Statement,
                &name,
            )?)
        });
        if let Err(error) = sent {
            taken.lease.doubt(Doubt::SessionState);
            self.give_back(shard, taken.lease);
            return Err(error);
        }
        script.expect(Reply::DescribeStatement, To::Nobody);
        frontend::sync(&mut lease.outbox);
        lease.expect_syncs(1);
        script.expect(Reply::Sync, To::Nobody);
        let sent = SentIds {
            parsed: parses.0.iter().map(|p| p.id).collect(),
            prepared_by_sql,
        };
        let relayed = self.relay_batch(shard, taken, &sent).await?;
        // An error has been told.
        let described = relayed.described.first().copied();
        described.ok_or(SessionError::Statement(None))
    }

    /// In front of a batch, the PREPARE of each statement in it that SQL prepared and that the server does not know.
    fn send_prepares(
        &self,
        shard: ShardId,
        items: &[Item],
        taken: &mut Taken,
    ) -> Result<SmallVec<[u64; 2]>, SessionError> {
        let mut ids = SmallVec::new();
        for item in items {
            let (Item::Bind { prepared, .. } | Item::DescribeStatement(prepared)) = item else {
                continue;
            };
            let by_sql = prepared.sql_types.as_ref().map(|_| prepared);
            let Some(prepared) = prepared.executes().or(by_sql) else {
                continue;
            };
            if self.send_prepare(shard, prepared, taken)? {
                let canonical = prepared.canonical(&self.worker.statements, self.reading());
                ids.push(canonical.id);
            }
        }
        Ok(ids)
    }

    /// Relays the rest of a batch that the fast path has sent, and ends it. `parses`: it makes the unnamed statement.
    pub(super) async fn quick_batch_goes_on(
        &mut self,
        shard: ShardId,
        taken: Taken,
        parses: bool,
    ) -> Result<(), SessionError> {
        let sent = SentIds {
            parsed: taken.lease.unnamed.filter(|_| parses).into_iter().collect(),
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

    /// Relays a batch's replies; statements that were not prepared after all are forgotten on the server.
    async fn relay_batch(
        &mut self,
        shard: ShardId,
        mut taken: Taken,
        sent: &SentIds,
    ) -> Result<Relayed, SessionError> {
        let result = self.relay_lease(shard, &mut taken).await;
        self.notes().items_done += taken.script.passed();
        if matches!(&result, Ok(relayed) if relayed.error.is_some()) {
            self.unpin_unreached();
        }
        let parsed = result.as_ref().map_or(0, |relayed| relayed.parsed);
        for id in sent.parsed.iter().skip(parsed) {
            taken.lease.forget_prepared(*id);
            if taken.lease.unnamed == Some(*id) {
                taken.lease.unnamed = None;
            }
        }
        let hidden = |relayed: &Relayed| relayed.error.as_ref().is_some_and(|e| e.hidden);
        if !sent.prepared_by_sql.is_empty() && result.as_ref().map_or(true, hidden) {
            for id in &sent.prepared_by_sql {
                taken.lease.forget_prepared(*id);
            }
            // Some of them may be there.
            taken.lease.retire();
        }
        self.give_back(shard, taken.lease);
        Ok(result?)
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

    /// Appends one message to a server's outbox, and to the script what will answer it.
    fn send(
        &mut self,
        shard: ShardId,
        item: &Item,
        lease: &mut Lease,
        script: &mut Script,
        parses: &mut Parses,
    ) -> Result<(), SessionError> {
        match item {
            Item::Parse { prepared } => {
                let key = self.reading();
                let canonical = prepared.canonical(&self.worker.statements, key);
                if prepared.named && lease.has_prepared(canonical.id) {
                    script.say(Bytes::from_static(b"1\0\0\0\x04"));
                } else {
                    self.send_parse(shard, &canonical, prepared, lease, script, To::Client)?;
                    parses.0.push(canonical);
                }
            }
            Item::ParseInVain { prepared } => {
                self.ensure(shard, prepared, lease, script, parses)?;
            }
            Item::Bind {
                portal,
                prepared,
                body,
            } => {
                let name = self.ensure(shard, prepared, lease, script, parses)?;
                frontend::bind_renamed(&mut lease.outbox, body, &name, portal).map_err(|_| {
                    SessionError::refuse(SqlState::PROTOCOL_VIOLATION, "malformed Bind")
                })?;
                script.expect(Reply::Bind, To::Client);
                let formats = frontend::Bind::decode(body).map(|b| b.result_formats);
                let binary = formats.is_ok_and(|f| f.iter().any(|f| f == Format::Binary));
                if binary && self.type_map(shard).is_some() {
                    // Do the columns' binary forms name types by this shard's numbers? The client may not ask.
                    frontend::describe(&mut lease.outbox, Target::Portal, portal)?;
                    script.expect(Reply::DescribePortal, To::Nobody);
                }
            }
            Item::DescribeStatement(prepared) => {
                let name = self.ensure(shard, prepared, lease, script, parses)?;
                frontend::describe(&mut lease.outbox, Target::Statement, &name)?;
                script.expect(Reply::DescribeStatement, To::Client);
            }
            Item::DescribePortal { portal, .. } => {
                frontend::describe(&mut lease.outbox, Target::Portal, portal)?;
                script.expect(Reply::DescribePortal, To::Client);
            }
            Item::Execute {
                portal, rows_max, ..
            } => {
                frontend::execute(&mut lease.outbox, portal, *rows_max)?;
                script.expect(Reply::Execute, To::Client);
            }
            Item::CloseStatement => script.say(Bytes::from_static(b"3\0\0\0\x04")),
            Item::ClosePortal(portal, Closing::OnServer) => {
                frontend::close(&mut lease.outbox, Target::Portal, portal)?;
                script.expect(Reply::Close, To::Client);
            }
            Item::ClosePortal(..) => script.say(Bytes::from_static(b"3\0\0\0\x04")),
        }
        Ok(())
    }

    /// Makes sure that a server knows a statement; returns the name it knows it by.
    fn ensure(
        &self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
        lease: &mut Lease,
        script: &mut Script,
        parses: &mut Parses,
    ) -> Result<String, SessionError> {
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        let known = if prepared.named {
            lease.has_prepared(canonical.id)
        } else {
            lease.unnamed == Some(canonical.id)
        };
        if !known && prepared.sql_types.is_some() {
            return Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                "a statement that SQL prepared was not made known to its server",
            ));
        }
        if !known {
            self.send_parse(shard, &canonical, prepared, lease, script, To::Nobody)?;
            parses.0.push(Rc::clone(&canonical));
        }
        Ok(canonical.name.clone())
    }

    fn send_parse(
        &self,
        shard: ShardId,
        canonical: &Rc<Canonical>,
        prepared: &Prepared,
        lease: &mut Lease,
        script: &mut Script,
        to: To,
    ) -> Result<(), SessionError> {
        let types = self.server_types(shard, &prepared.types)?;
        if prepared.named {
            for evicted in lease.add_prepared(canonical.id) {
                // In front of everything else of the batch, so that no error can skip it.
                let mut close = BytesMut::new();
                frontend::close(&mut close, Target::Statement, &format!("kw_{evicted}"))?;
                close.extend_from_slice(&lease.outbox);
                lease.outbox = close;
                script.expect_first(Reply::Close, To::Nobody);
            }
        } else {
            lease.unnamed = Some(canonical.id);
        }
        frontend::parse(&mut lease.outbox, &canonical.name, &prepared.text, &types)?;
        script.expect(Reply::Parse, to);
        Ok(())
    }

    /// The client's type OIDs as this shard knows them.
    pub(super) fn server_types(
        &self,
        shard: ShardId,
        types: &[u32],
    ) -> Result<SmallVec<[u32; 4]>, SessionError> {
        let Some(map) = self.type_map(shard) else {
            return Ok(types.iter().copied().collect());
        };
        types
            .iter()
            .map(|oid| {
                map.server(*oid).ok_or_else(|| {
                    SessionError::unsupported(
                        "a parameter's type does not exist on every shard",
                        &format!(
                            "Type OID {oid} is not known on shard {}.",
                            self.shard_name(shard)
                        ),
                        "Create the type through Keyway, and run `keyway check`.",
                    )
                })
            })
            .collect()
    }

    /// The batch message by message: statements about the session, several shards, or both.
    async fn stepwise(&mut self, batch: Batch, keep_open: bool) -> Result<(), SessionError> {
        if self.block.is_none() && (batch.executes > 1 || keep_open) {
            self.open_block(BlockKind::Batch);
        }
        let named = batch.items.iter().filter_map(|(_, need)| match need {
            Need::Shard(shard) => Some(*shard),
            _ => None,
        });
        let named: BTreeSet<ShardId> = named.collect();
        if named.len() > 1 {
            self.take_ahead(&named).await?;
        }
        let mut segment: SmallVec<[Item; 6]> = SmallVec::new();
        let mut target: Option<ShardId> = None;
        for (item, need) in batch.items {
            let next = match need {
                Need::Nothing | Need::Own => None,
                Need::Shard(shard) => Some(shard),
                Need::Any(set) => Some(match target {
                    Some(shard) if set.contains(shard) => shard,
                    _ => self.choose_among(&set),
                }),
            };
            if let (Some(shard), true) = (target, next != target) {
                self.pay_bind().await?;
                self.segment(shard, &std::mem::take(&mut segment), To::Nobody)
                    .await?;
            }
            target = next;
            if next.is_some() {
                segment.push(item);
            } else {
                self.own_item(item).await?;
                self.notes().items_done += 1;
            }
        }
        self.pay_bind().await?;
        if let Some(shard) = target {
            self.segment(shard, &segment, To::Nobody).await?;
        }
        batch.failure.map_or(Ok(()), Err)
    }

    /// A message that Keyway answers itself.
    async fn own_item(&mut self, item: Item) -> Result<(), SessionError> {
        if !matches!(item, Item::DescribePortal { .. } | Item::Execute { .. }) {
            self.pay_bind().await?;
        }
        let out = &mut self.client.outbox;
        match item {
            Item::Parse { .. } => reply::parse_complete(out),
            Item::ParseInVain { .. } => {}
            Item::Bind { portal, .. } => {
                // The shards' word on the parameters comes with Describe or Execute.
                if matches!(self.names.portal(&portal).map(|p| &p.place), Some(Place::Merge(plan)) if plan.kind == PlanKind::Scatter)
                {
                    self.notes().bind_owed = Some(portal);
                    return Ok(());
                }
                reply::bind_complete(&mut self.client.outbox);
            }
            Item::CloseStatement => reply::close_complete(out),
            Item::ClosePortal(name, closing) => {
                if closing == Closing::Own {
                    self.close_own_portal(&name).await?;
                }
                reply::close_complete(&mut self.client.outbox);
            }
            Item::DescribeStatement(prepared) => {
                reply::parameter_description(out, &prepared.types);
                self.describe_own(&prepared);
            }
            Item::DescribePortal { portal, .. } => self.describe_portal(&portal).await?,
            Item::Execute {
                portal, rows_max, ..
            } => self.execute_own(&portal, rows_max).await?,
        }
        Ok(())
    }

    /// Says the BindComplete that was held back, once a shard has seen the parameters.
    async fn pay_bind(&mut self) -> Result<(), SessionError> {
        let Some(name) = self.notes().bind_owed.clone() else {
            return Ok(());
        };
        let Some(portal) = self.names.portal(&name) else {
            self.notes().bind_owed = None;
            reply::bind_complete(&mut self.client.outbox);
            return Ok(());
        };
        let Place::Merge(plan) = &portal.place else {
            return Ok(());
        };
        let (prepared, body) = (Rc::clone(&portal.prepared), portal.bind.clone());
        let shard = plan.shards.iter().next().unwrap_or(ShardId(0));
        self.describe_on(shard, &name, &prepared, &body, To::Nobody)
            .await
    }

    async fn close_own_portal(&mut self, name: &str) -> Result<(), SessionError> {
        match self.names.close_portal(name) {
            Some(Portal {
                place: Place::Merging(gathering) | Place::Cursor(gathering, _),
                ..
            }) => self.close_gathering(&gathering).await,
            _ => Ok(()),
        }
    }

    /// What a statement about the session returns.
    fn describe_own(&mut self, prepared: &Prepared) {
        use crate::statement::command::Command;
        match &prepared.body {
            Body::Command(Command::ExplainRoute { .. }) => self.say_plan_description(),
            Body::Command(Command::Show(Some(name))) => self.say_text_column(name),
            Body::Routed(scanned) => match self.cursor_description(prepared.own_text(), scanned) {
                Some(description) => self.client.outbox.extend_from_slice(&description),
                None => reply::no_data(&mut self.client.outbox),
            },
            _ => reply::no_data(&mut self.client.outbox),
        }
    }

    async fn describe_portal(&mut self, name: &str) -> Result<(), SessionError> {
        let Some(portal) = self.names.portal(name) else {
            return Err(no_portal(name));
        };
        let prepared = Rc::clone(&portal.prepared);
        if let Place::Cursor(_, description) = &portal.place {
            let description = description.clone();
            self.client.outbox.extend_from_slice(&description);
            return Ok(());
        }
        match &portal.place {
            Place::Merge(plan) if plan.kind == PlanKind::Scatter => {
                let body = portal.bind.clone();
                let shard = plan.shards.iter().next().unwrap_or(ShardId(0));
                self.describe_on(shard, name, &prepared, &body, To::Client)
                    .await
            }
            Place::Merging(_) | Place::Undone(_) | Place::Ran(_)
                if portal.place.columns().is_some() =>
            {
                let shard = portal.place.columns().unwrap_or(ShardId(0));
                let body = portal.bind.clone();
                self.describe_on(shard, name, &prepared, &body, To::Client)
                    .await
            }
            _ => {
                self.describe_own(&prepared);
                Ok(())
            }
        }
    }

    /// The client's own text, bound as the client bound it, described by one shard: exactly its columns and formats.
    async fn describe_on(
        &mut self,
        shard: ShardId,
        portal: &str,
        prepared: &Rc<Prepared>,
        body: &Bytes,
        whose: To,
    ) -> Result<(), SessionError> {
        let whose_bind = if self.notes().bind_owed.take().is_some() {
            To::Client
        } else {
            To::Nobody
        };
        let mut taken = self.take(shard, Access::Read).await?;
        let mut parses = Parses::default();
        let mut prepared_by_sql = SmallVec::new();
        if prepared.sql_types.is_some() {
            match self.send_prepare(shard, prepared, &mut taken) {
                Ok(true) => {
                    let canonical = prepared.canonical(&self.worker.statements, self.reading());
                    prepared_by_sql.push(canonical.id);
                }
                Ok(false) => {}
                Err(error) => {
                    taken.lease.doubt(Doubt::SessionState);
                    self.give_back(shard, taken.lease);
                    return Err(error);
                }
            }
        }
        let known = self.ensure(
            shard,
            prepared,
            &mut taken.lease,
            &mut taken.script,
            &mut parses,
        );
        let name = match known {
            Ok(name) => name,
            Err(error) => {
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
        };
        let malformed = |_| SessionError::refuse(SqlState::PROTOCOL_VIOLATION, "malformed Bind");
        frontend::bind_renamed(&mut taken.lease.outbox, body, &name, portal).map_err(malformed)?;
        taken.script.expect(Reply::Bind, whose_bind);
        frontend::describe(&mut taken.lease.outbox, Target::Portal, portal)?;
        taken.script.expect(Reply::DescribePortal, whose);
        taken.script.keeps = Keeps::Clients;
        frontend::close(&mut taken.lease.outbox, Target::Portal, portal)?;
        taken.script.expect(Reply::Close, To::Nobody);
        frontend::sync(&mut taken.lease.outbox);
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Sync, To::Nobody);
        let sent = SentIds {
            parsed: parses.0.iter().map(|p| p.id).collect(),
            prepared_by_sql,
        };
        let relayed = self.relay_batch(shard, taken, &sent).await?;
        if relayed.error.is_some() {
            return Err(SessionError::Statement(None));
        }
        if let Some(described) = relayed.described.first() {
            self.remember(prepared, described);
        }
        Ok(())
    }

    /// Executes a portal that no single server holds.
    async fn execute_own(&mut self, name: &str, rows_max: u32) -> Result<(), SessionError> {
        let Some(portal) = self.names.portal(name) else {
            return Err(no_portal(name));
        };
        let prepared = Rc::clone(&portal.prepared);
        if matches!(portal.place, Place::Cursor(..)) {
            return Err(SessionError::unsupported(
                "Execute of a cursor over several shards is not supported",
                "SQL declared it, and SQL fetches from it.",
                "Use FETCH.",
            ));
        }
        if matches!(portal.place, Place::Undone(_)) {
            return Err(SessionError::unsupported(
                "a portal over several shards cannot go on behind ROLLBACK TO",
                "Its shards were first asked behind the savepoint, and have rolled back what they had of it.",
                "Bind it again, or execute it first in front of the savepoint.",
            ));
        }
        if let Place::Ran(ran) = &portal.place {
            let again = ran.again;
            if !self.ends_block(&prepared) {
                self.refuse_in_failed_block()?;
            }
            return match again {
                Again::Never => Err(cannot_run(name)),
                Again::Tag(tag) => {
                    self.complete(tag);
                    Ok(())
                }
            };
        }
        let columns = portal.place.columns();
        let place = std::mem::replace(&mut portal.place, Place::Ran(Ran::once(columns)));
        let tag = match place {
            Place::Local => match &prepared.body {
                Body::Empty => {
                    portal.place = Place::Local;
                    reply::empty_query_response(&mut self.client.outbox);
                    None
                }
                Body::Execute(execution) => return self.execute_nothing(execution),
                Body::Command(command) => {
                    let own = prepared.own_text().to_owned();
                    self.bound_command(command.clone(), &own, &prepared.text)
                        .await?;
                    match command {
                        Command::ExplainRoute { .. } => Some("EXPLAIN"),
                        Command::Show(_) => Some("SHOW"),
                        _ => None,
                    }
                }
                Body::Routed(_) => {
                    return Err(SessionError::refuse(
                        SqlState::INTERNAL_ERROR,
                        "a routed statement is not local",
                    ));
                }
            },
            Place::Merge(plan) => {
                let body = portal.bind.clone();
                let reads = plan.kind == PlanKind::Scatter;
                if let Body::Routed(scanned) = &prepared.body {
                    self.refuse_behind_change(&prepared.text, scanned, &plan)?;
                }
                self.execute_spread(name, &prepared, &body, *plan, rows_max)
                    .await?;
                reads.then_some(NO_MORE_ROWS)
            }
            Place::Merging(gathering) => {
                self.fetch_portal(name, gathering, u64::from(rows_max))
                    .await?;
                Some(NO_MORE_ROWS)
            }
            Place::OwnCursor(statement) => match *statement {
                OwnCursor::Declare(declare, plan, query) => {
                    self.declare_own(&declare, &plan, &query).await?;
                    None
                }
                OwnCursor::Use(command) => {
                    let fetches = matches!(command, Command::Fetch { .. });
                    if fetches && rows_max > 0 {
                        return Err(SessionError::unsupported(
                            "FETCH from a cursor over several shards takes no row limit",
                            "It returns as many rows as it says.",
                            "Write the number of rows into FETCH.",
                        ));
                    }
                    // CLOSE ALL spares the portal that runs it.
                    let spared = matches!(command, Command::Close(None))
                        .then(|| self.names.close_portal(name))
                        .flatten();
                    let tag = self.use_own_cursor(command, Describe::No).await;
                    if let Some(portal) = spared {
                        self.names.set_portal(name, portal);
                    }
                    let tag = tag?;
                    self.complete(&tag);
                    fetches.then_some("FETCH 0")
                }
            },
            Place::Server(_) | Place::Cursor(..) | Place::Undone(_) | Place::Ran(_) => {
                return Err(SessionError::refuse(
                    SqlState::INTERNAL_ERROR,
                    "the portal is not Keyway's to run",
                ));
            }
        };
        // The statement may have closed its own portal.
        let place = self.names.portal(name).map(|portal| &mut portal.place);
        if let (Some(Place::Ran(ran)), Some(tag)) = (place, tag) {
            ran.again = Again::Tag(tag);
        }
        Ok(())
    }
}

/// What a SELECT that has returned all its rows says when it is executed again.
const NO_MORE_ROWS: &str = "SELECT 0";

/// Does a message take the name of a portal that Keyway runs itself, and that a message in front of it names? Those find
/// it by its name when they are reached.
fn takes_own_portal(kind: u8, body: &Bytes, batch: &Batch) -> bool {
    let own = |item: &&(Item, Need)| matches!(item.1, Need::Own) && item.0.portal().is_some();
    let mut own_ones = batch.items.iter().filter(own).peekable();
    if own_ones.peek().is_none() {
        return false;
    }
    let name = match kind {
        tag::BIND => frontend::Bind::decode(body).ok().map(|bind| bind.portal),
        tag::CLOSE => match frontend::Close::decode(body) {
            Ok(close) if close.kind == Target::Portal => Some(close.name),
            _ => None,
        },
        _ => None,
    };
    name.is_some_and(|name| own_ones.any(|(item, _)| item.portal() == Some(name)))
}

/// A parameter whose type the client leaves open must be used, and no statement about the session uses any.
fn all_types_known(types: &[u32]) -> Result<(), SessionError> {
    let open = |oid: &u32| matches!(*oid, types::UNSPECIFIED | types::UNKNOWN);
    match types.iter().position(open) {
        None => Ok(()),
        Some(index) => Err(SessionError::refuse(
            SqlState::INDETERMINATE_DATATYPE,
            format!("could not determine data type of parameter ${}", index + 1),
        )),
    }
}

fn no_portal(name: &str) -> SessionError {
    SessionError::refuse(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

/// The one of the two that asks more of a transaction.
pub(super) fn heavier(a: Access, b: Access) -> Access {
    let weight = |access| match access {
        Access::Read => 0,
        Access::Lock => 1,
        Access::Schema => 2,
        Access::Write => 3,
    };
    if weight(a) >= weight(b) { a } else { b }
}
