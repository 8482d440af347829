//! SQL's own names: DECLARE, FETCH, MOVE and CLOSE of cursors; PREPARE and EXECUTE.

use crate::execute::scatter::{Describe, Gathering, Rows};
use crate::route::key::Params;
use crate::route::plan::{Access, Pin, Plan, PlanKind};
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::portal::{Hold, Place, Portal};
use crate::session::prepared::{Body, Prepared};
use crate::statement::command::{Command, Declare, Direction, command};
use crate::statement::scan::{Scanned, Verb, scan};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::SqlState;
use crate::wire::frontend::Format;
use bytes::{Bytes, BytesMut};
use std::rc::Rc;

/// What a statement about cursors comes to.
pub(super) enum CursorStatement {
    /// It goes to a shard as it is, by this plan; then the cursor of this name is on that shard.
    Forward(Box<Plan>, Declare),
    /// A cursor over several shards is declared: the plan of its query and the query's own text.
    Declare(Declare, Box<Plan>, String),
    /// A cursor over several shards is used.
    Own(Command),
    /// It is none.
    None,
}

impl Session {
    /// Looks whether a statement is about a cursor over several shards.
    pub(super) fn cursor_statement(
        &mut self,
        own: &str,
        scanned: &Scanned,
        params: &dyn Params,
    ) -> Result<CursorStatement, SessionError> {
        if !matches!(
            scanned.verb,
            Verb::Declare | Verb::Fetch | Verb::Move | Verb::Close
        ) {
            return Ok(CursorStatement::None);
        }
        let Ok(read) = command(own, scanned.verb, self.scan_settings()) else {
            return Ok(CursorStatement::None);
        };
        match read {
            Command::Declare(declare) => self.declare_statement(own, declare, params),
            Command::Fetch { ref cursor, .. }
            | Command::Move { ref cursor, .. }
            | Command::Close(Some(ref cursor)) => {
                Ok(match self.names.portal(cursor).map(|p| &p.place) {
                    Some(Place::Cursor(..)) => CursorStatement::Own(read),
                    _ => CursorStatement::None,
                })
            }
            Command::Close(None) => {
                let own_ones = self
                    .names
                    .portals
                    .values()
                    .any(|p| matches!(p.place, Place::Cursor(..)));
                Ok(if own_ones {
                    CursorStatement::Own(read)
                } else {
                    CursorStatement::None
                })
            }
            _ => Ok(CursorStatement::None),
        }
    }

    fn declare_statement(
        &mut self,
        own: &str,
        declare: Declare,
        params: &dyn Params,
    ) -> Result<CursorStatement, SessionError> {
        let query = own[declare.query.clone()].to_owned();
        let scanned = scan(&query, self.scan_settings())
            .ok()
            .and_then(|statements| statements.into_iter().find(|s| s.verb != Verb::Empty));
        let Some(scanned) = scanned else {
            return Ok(CursorStatement::None);
        };
        let recipe = self.recipe(&query, &scanned)?;
        let mut plan = self.fill(&recipe, &query, &scanned, params)?;
        if plan.kind == PlanKind::Scatter && plan.shards.len() > 1 {
            if scanned.params > 0 {
                return Err(SessionError::unsupported(
                    "a cursor over several shards takes no parameters",
                    "Its query runs on each shard by itself.",
                    "Write the values into the query, or name the sharding key in it.",
                ));
            }
            return Ok(CursorStatement::Declare(declare, Box::new(plan), query));
        }
        if declare.hold {
            plan.pin = Some(Pin::HoldCursor);
        }
        let shard = self.choose(&plan);
        plan.shards = [shard].into_iter().collect();
        plan.kind = PlanKind::Single;
        Ok(CursorStatement::Forward(Box::new(plan), declare))
    }

    /// A cursor has been declared on a shard.
    pub(super) fn cursor_declared(&mut self, shard: ShardId, declare: &Declare) {
        let portal = Portal {
            prepared: nothing_prepared(),
            bind: Bytes::new(),
            place: Place::Server(shard),
            hold: match (declare.hold, &self.block) {
                (false, _) => Hold::No,
                (true, None) => Hold::Kept,
                (true, Some(_)) => Hold::Wanted,
            },
            level: self.savepoints_set(),
            access: Access::Lock,
            sets: Vec::new(),
        };
        if self.block.is_some() || declare.hold {
            self.names
                .portals
                .entry(declare.name.clone())
                .or_insert(portal);
        }
    }

    /// A cursor on a shard was closed.
    pub(super) fn cursor_closed(&mut self, own: &str) {
        match command(own, Verb::Close, self.scan_settings()) {
            Ok(Command::Close(Some(name))) => {
                self.names.portals.remove(&name);
            }
            _ => self.names.portals.clear(),
        }
    }

    /// The columns that FETCH from a cursor over several shards returns.
    pub(super) fn cursor_description(&mut self, own: &str, scanned: &Scanned) -> Option<Bytes> {
        let Ok(Command::Fetch { cursor, .. }) = command(own, scanned.verb, self.scan_settings())
        else {
            return None;
        };
        match &self.names.portal(&cursor)?.place {
            Place::Cursor(_, description) => Some(description.clone()),
            _ => None,
        }
    }

    /// DECLARE over several shards: each has a portal, read in pieces.
    pub(super) async fn declare_own(
        &mut self,
        declare: &Declare,
        plan: &Plan,
        query: &str,
    ) -> Result<(), SessionError> {
        if !self.counts_as_block() {
            return Err(SessionError::refuse(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if declare.hold || declare.scroll == Some(true) {
            return Err(SessionError::unsupported(
                "a cursor over several shards can be neither WITH HOLD nor SCROLL",
                "Its rows are merged as they are fetched, forward only and inside the transaction.",
                "Leave WITH HOLD and SCROLL out, or name the sharding key in the query.",
            ));
        }
        if self.names.portals.contains_key(&declare.name) {
            return Err(SessionError::refuse(
                SqlState::DUPLICATE_CURSOR,
                format!("cursor \"{}\" already exists", declare.name),
            ));
        }
        self.one_more_portal()?;
        let formats: &[Format] = if declare.binary {
            &[Format::Binary]
        } else {
            &[]
        };
        let gathering = self.gathering_for(plan, query, formats).await?;
        let mut description = BytesMut::new();
        reply::row_description(&mut description, gathering.fields.iter());
        let description = description.freeze();
        self.names.set_portal(
            &declare.name,
            Portal {
                prepared: nothing_prepared(),
                bind: Bytes::new(),
                place: Place::Cursor(Box::new(gathering), description),
                hold: Hold::No,
                level: self.savepoints_set(),
                access: Access::Lock,
                sets: Vec::new(),
            },
        );
        reply::command_complete(&mut self.client.outbox, "DECLARE CURSOR");
        Ok(())
    }

    /// FETCH, MOVE and CLOSE of cursors over several shards.
    pub(super) async fn use_own_cursor(
        &mut self,
        command: Command,
        describe: Describe,
    ) -> Result<(), SessionError> {
        self.refuse_in_failed_block()?;
        match command {
            Command::Fetch { direction, cursor } => {
                let rows = rows_forward(direction)?;
                let (gathering, description) = self.take_cursor(&cursor)?;
                if describe == Describe::Yes {
                    self.client.outbox.extend_from_slice(&description);
                }
                let fetched = self
                    .move_cursor(&cursor, gathering, description, rows, Rows::Send)
                    .await?;
                reply::command_complete(&mut self.client.outbox, &format!("FETCH {fetched}"));
            }
            Command::Move { direction, cursor } => {
                let rows = rows_forward(direction)?;
                let (gathering, description) = self.take_cursor(&cursor)?;
                let moved = self
                    .move_cursor(&cursor, gathering, description, rows, Rows::Drop)
                    .await?;
                reply::command_complete(&mut self.client.outbox, &format!("MOVE {moved}"));
            }
            Command::Close(Some(name)) => {
                let (gathering, _) = self.take_cursor(&name)?;
                self.names.close_portal(&name);
                self.close_gathering(&gathering).await?;
                reply::command_complete(&mut self.client.outbox, "CLOSE CURSOR");
            }
            _ => {
                return Err(SessionError::unsupported(
                    "CLOSE ALL is not supported while a cursor over several shards is open",
                    "The cursors are on several servers.",
                    "Close them by name.",
                ));
            }
        }
        Ok(())
    }

    fn take_cursor(&mut self, name: &str) -> Result<(Box<Gathering>, Bytes), SessionError> {
        let place = self
            .names
            .portal(name)
            .map(|p| std::mem::replace(&mut p.place, Place::Done));
        match place {
            Some(Place::Cursor(gathering, description)) => Ok((gathering, description)),
            _ => Err(SessionError::refuse(
                SqlState::INVALID_CURSOR_NAME,
                format!("cursor \"{name}\" does not exist"),
            )),
        }
    }

    async fn move_cursor(
        &mut self,
        name: &str,
        mut gathering: Box<Gathering>,
        description: Bytes,
        rows: Option<u64>,
        whose: Rows,
    ) -> Result<u64, SessionError> {
        let (fetched, _) = self
            .fetch_rows(&mut gathering, rows.unwrap_or(0), whose)
            .await?;
        if let Some(portal) = self.names.portal(name) {
            portal.place = Place::Cursor(gathering, description);
        }
        Ok(fetched)
    }

    /// Where a statement prepared by SQL could be checked.
    pub(super) fn shard_to_check(&mut self, prepared: &Prepared) -> Result<ShardId, SessionError> {
        match &prepared.body {
            Body::Routed(scanned) => {
                let shards = self.shards_that_parse(prepared, scanned)?;
                Ok(self.choose_among(&shards))
            }
            Body::Command(_) | Body::Empty => self.home(),
        }
    }
}

/// How many rows forward; `None` for all.
fn rows_forward(direction: Direction) -> Result<Option<u64>, SessionError> {
    let backward = || {
        SessionError::unsupported(
            "a cursor over several shards moves forward only",
            "Its rows are merged as they are fetched and not kept.",
            "Use FETCH FORWARD, or name the sharding key in the query.",
        )
    };
    match direction {
        // FETCH 0 is the present row again, which a merge does not keep.
        Direction::Forward(rows) if rows > 0 => Ok(Some(u64::from(rows.unsigned_abs()))),
        Direction::ForwardAll => Ok(None),
        _ => Err(backward()),
    }
}

/// A cursor that SQL declared has no statement of the protocol's.
fn nothing_prepared() -> Rc<Prepared> {
    Rc::new(Prepared {
        text: Rc::from(""),
        types: Default::default(),
        body: Body::Empty,
        named: false,
        sql_types: None,
        canonical: Default::default(),
        recipe: Default::default(),
        told: Default::default(),
    })
}
