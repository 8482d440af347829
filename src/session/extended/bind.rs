//! Bind: a portal and its place.

use crate::route::choose::made::MadeKeys;
use crate::route::plan::Access;
use crate::session::Session;
use crate::session::cursors::CursorStatement;
use crate::session::error::SessionError;
use crate::session::extended::{Batch, Item, Need};
use crate::session::planner::Bound;
use crate::session::portal::{CursorChange, Effects, Hold, OwnCursor, Place, Portal};
use crate::session::prepared::{Body, Prepared};
use crate::statement::command::Command;
use crate::wire::error::SqlState;
use crate::wire::frontend::{self, Format};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    /// The keys that a Bind's statement leaves to their default.
    pub(super) fn keys_of_bind(&mut self, body: &Bytes) -> Option<(Arc<MadeKeys>, Rc<Prepared>)> {
        let bind = frontend::Bind::decode(body).ok()?;
        let prepared = self.find_statement(bind.statement).ok()?;
        let made = self.keys_of_prepared(&prepared)?;
        Some((made, prepared))
    }

    /// A Bind of the statement with keys for its rows.
    pub(super) async fn bind_with_keys(
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

    pub(super) fn bind_item(
        &mut self,
        body: &Bytes,
        item: usize,
    ) -> Result<(Item, Need), SessionError> {
        let bind = frontend::Bind::decode(body)
            .map_err(|error| SessionError::from_client_error(&error))?;
        let prepared = self.find_statement(bind.statement)?;
        self.bind_prepared(prepared, body, item)
    }

    /// In the order of PostgreSQL's exec_bind_message.
    pub(super) fn bind_prepared(
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
        let mut effects = Effects::none();
        let mut cursor = None;
        let place = match &Rc::clone(&prepared).body {
            Body::Command(_) | Body::Empty => Place::Local,
            Body::Execute(execution) => match self.bind_execution(&prepared, execution)? {
                // It fails when it runs.
                None => Place::Local,
                Some((written, plan)) => {
                    self.note_plan(plan.kind);
                    access = plan.access;
                    effects = Effects::of(&plan, self.topology.digest);
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
                        let declare = OwnCursor::Declare(declare, plan, query);
                        return self.own_cursor(&bind, &prepared, body, declare, item);
                    }
                    CursorStatement::Own(command) => {
                        let using = OwnCursor::Use(command);
                        return self.own_cursor(&bind, &prepared, body, using, item);
                    }
                };
                self.note_plan(plan.kind);
                access = plan.access;
                effects = Effects::of(&plan, self.topology.digest);
                if Self::is_for_one(&plan) && !plan.access.is_of_each_shard() && plan.text.is_none()
                {
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
            effects,
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
    pub(super) fn own_cursor(
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
            effects: Effects::none(),
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
}
