//! Reading a batch: what each of its messages means and needs, before anything is sent.

use crate::session::Session;
use crate::session::cursors::declared_outside;
use crate::session::error::SessionError;
use crate::session::extended::{Batch, Closing, Item, Need};
use crate::session::own::own_command;
use crate::session::portal::{CursorChange, Place, Portal};
use crate::session::prepared::{Before, Body, Prepared, Said};
use crate::session::simple::{in_its_place, is_command};
use crate::statement::command::{Command, command};
use crate::statement::parse::parse;
use crate::statement::scan::{Verb, scan, shape};
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frontend::{self, Target, tag};
use crate::wire::types;
use bytes::Bytes;
use std::rc::Rc;

impl Session {
    /// Reads and plans messages as far as the first that Keyway executes itself, or that changes which cursors there
    /// are. Returns how many. Statements and portals are entered under their names as they would be when the message is
    /// reached, for the messages behind to find them.
    pub(super) async fn understand(&mut self, messages: &[(u8, Bytes)]) -> (Batch, usize) {
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

    pub(super) fn item(
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
                    effects: Rc::clone(&portal.effects),
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

    pub(super) fn parse_item(
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
    pub(in crate::session) fn one_more_statement(&self, name: &str) -> Result<(), SessionError> {
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

    pub(super) fn read_statement(
        &self,
        parse: &frontend::Parse<'_>,
    ) -> Result<Prepared, SessionError> {
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
                match own_command(&parse.query[scanned.range.clone()], &scanned, settings) {
                    Some(command) => Body::Command(command),
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
    pub(super) fn or_syntax_error(
        &self,
        refusal: SessionError,
        prepared: &Prepared,
    ) -> SessionError {
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
    pub(super) fn refuse_columns_in_failed_block(
        &self,
        prepared: &Prepared,
    ) -> Result<(), SessionError> {
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

    /// Enters the portal of the batch's message `item`.
    pub(super) fn enter_portal(&mut self, name: &str, portal: Portal, item: usize) {
        let before = self.names.set_portal(name, portal);
        self.notes().said.push(Said {
            item,
            name: name.to_owned(),
            before: Before::Portal(before),
        });
    }

    /// A session may hold as many portals and cursors as prepared statements: each keeps its parameters.
    pub(in crate::session) fn one_more_portal(&self) -> Result<(), SessionError> {
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
    pub(super) fn ends_block(&self, prepared: &Prepared) -> bool {
        use crate::statement::command::Command;
        matches!(
            prepared.body,
            Body::Command(
                Command::Commit { .. } | Command::Rollback { .. } | Command::RollbackTo(_)
            )
        )
    }

    pub(super) fn find_statement(&self, name: &str) -> Result<Rc<Prepared>, SessionError> {
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
    pub(super) fn parse_need(&mut self, prepared: &Rc<Prepared>) -> Result<Need, SessionError> {
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

    pub(super) fn find_portal(&mut self, name: &str) -> Result<(Need, &mut Portal), SessionError> {
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
}

/// Does a message take the name of a portal that Keyway runs itself, and that a message in front of it names? Those find
/// it by its name when they are reached.
pub(super) fn takes_own_portal(kind: u8, body: &Bytes, batch: &Batch) -> bool {
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
pub(super) fn all_types_known(types: &[u32]) -> Result<(), SessionError> {
    let open = |oid: &u32| matches!(*oid, types::UNSPECIFIED | types::UNKNOWN);
    match types.iter().position(open) {
        None => Ok(()),
        Some(index) => Err(SessionError::refuse(
            SqlState::INDETERMINATE_DATATYPE,
            format!("could not determine data type of parameter ${}", index + 1),
        )),
    }
}

pub(super) fn no_portal(name: &str) -> SessionError {
    SessionError::refuse(
        SqlState::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}
