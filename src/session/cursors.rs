//! SQL's own names: DECLARE, FETCH, MOVE and CLOSE of cursors; PREPARE and EXECUTE.

use crate::execute::scatter::{Describe, Gathering, Rows};
use crate::route::key::Params;
use crate::route::plan::{Access, Pin, Plan, PlanKind};
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::portal::{Again, CursorChange, Effects, Hold, Place, Portal, Ran};
use crate::session::prepared::{Body, Prepared};
use crate::session::servers::append_query;
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
                Ok(match self.names.portals.get(cursor).map(|p| &p.place) {
                    Some(Place::Server(_)) | None => CursorStatement::None,
                    Some(_) => CursorStatement::Own(read),
                })
            }
            Command::Close(None) => Ok(CursorStatement::Own(read)),
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
        let shard = match self.names.portals.get(&declare.name).map(|p| &p.place) {
            // Its server knows the name, and says so.
            Some(Place::Server(shard)) if plan.shards.contains(*shard) => *shard,
            _ => self.choose(&plan),
        };
        plan.shards = [shard].into_iter().collect();
        plan.kind = PlanKind::Single;
        Ok(CursorStatement::Forward(Box::new(plan), declare))
    }

    /// Portals and cursors share their names, which are a session's, whatever the shard. What a shard has itself under
    /// the name is its own to refuse.
    pub(super) fn refuse_second_cursor(
        &self,
        shard: ShardId,
        declare: &Declare,
    ) -> Result<(), SessionError> {
        match self.names.portals.get(&declare.name).map(|p| &p.place) {
            None => Ok(()),
            Some(Place::Server(holder)) if *holder == shard => Ok(()),
            Some(_) => Err(cursor_exists(&declare.name)),
        }
    }

    /// A statement has declared a cursor on a shard, or closed one there.
    pub(super) fn cursor_changed(&mut self, shard: ShardId, change: &CursorChange) {
        let declare = match change {
            CursorChange::Declares(declare) => declare,
            CursorChange::Closes(name) => {
                self.names.portals.remove(name);
                return;
            }
        };
        let hold = match (declare.hold, &self.block) {
            (false, None) => return,
            (false, Some(_)) => Hold::No,
            (true, None) => Hold::Kept,
            (true, Some(_)) => Hold::Wanted,
        };
        let portal = Portal {
            prepared: nothing_prepared(),
            bind: Bytes::new(),
            place: Place::Server(shard),
            hold,
            level: self.savepoints_set(),
            access: Access::Lock,
            effects: Effects::none(),
            cursor: None,
            sets: Vec::new(),
        };
        self.names.portals.insert(declare.name.clone(), portal);
    }

    /// The cursor that a CLOSE closes.
    pub(super) fn closes(&self, own: &str, scanned: &Scanned) -> Option<CursorChange> {
        if scanned.verb != Verb::Close {
            return None;
        }
        match command(own, Verb::Close, self.scan_settings()) {
            Ok(Command::Close(Some(name))) => Some(CursorChange::Closes(name)),
            _ => None,
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
        if !declare.hold && !self.counts_as_block() {
            return Err(declared_outside());
        }
        if declare.hold || declare.scroll == Some(true) {
            return Err(SessionError::unsupported(
                "a cursor over several shards can be neither WITH HOLD nor SCROLL",
                "Its rows are merged as they are fetched, forward only and inside the transaction.",
                "Leave WITH HOLD and SCROLL out, or name the sharding key in the query.",
            ));
        }
        if self.names.portals.contains_key(&declare.name) {
            return Err(cursor_exists(&declare.name));
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
                effects: Effects::none(),
                cursor: None,
                sets: Vec::new(),
            },
        );
        self.complete("DECLARE CURSOR");
        Ok(())
    }

    /// FETCH, MOVE and CLOSE of cursors over several shards, and CLOSE ALL. Returns the tag that completes it.
    pub(super) async fn use_own_cursor(
        &mut self,
        command: Command,
        describe: Describe,
    ) -> Result<String, SessionError> {
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
                Ok(format!("FETCH {fetched}"))
            }
            Command::Move { direction, cursor } => {
                let rows = rows_forward(direction)?;
                let (gathering, description) = self.take_cursor(&cursor)?;
                let moved = self
                    .move_cursor(&cursor, gathering, description, rows, Rows::Drop)
                    .await?;
                Ok(format!("MOVE {moved}"))
            }
            Command::Close(Some(name)) => {
                self.note_query();
                match self.names.portals.remove(&name).map(|p| p.place) {
                    Some(Place::Cursor(gathering, _) | Place::Merging(gathering)) => {
                        self.close_gathering(&gathering).await?;
                    }
                    Some(_) => {}
                    None => return Err(no_cursor(&name)),
                }
                Ok("CLOSE CURSOR".to_owned())
            }
            _ => {
                self.note_query();
                self.close_all().await?;
                Ok("CLOSE CURSOR ALL".to_owned())
            }
        }
    }

    /// CLOSE ALL: whatever a server of the session has open, and what Keyway has.
    async fn close_all(&mut self) -> Result<(), SessionError> {
        const ALL: &str = "CLOSE ALL";
        let mut closed = self.on_participants(ALL).await;
        for (shard, mut lease) in std::mem::take(&mut self.kept) {
            append_query(&mut lease, ALL)?;
            lease.expect_syncs(1);
            let name = self.shard_name(shard).to_owned();
            closed = closed.and(self.settle(&mut lease, &name).await);
            self.let_go(shard, lease);
        }
        self.names.portals.clear();
        self.names.unnamed_portal = None;
        closed
    }

    /// The rows of a cursor that is about to move. Should that fail it can move no more.
    fn take_cursor(&mut self, name: &str) -> Result<(Box<Gathering>, Bytes), SessionError> {
        let Some(portal) = self.names.portals.get_mut(name) else {
            return Err(no_cursor(name));
        };
        match std::mem::replace(&mut portal.place, Place::Ran(Ran::once(None))) {
            Place::Cursor(gathering, description) => Ok((gathering, description)),
            Place::Ran(Ran {
                again: Again::Never,
                ..
            }) => Err(cannot_run(name)),
            other => {
                portal.place = other;
                Err(SessionError::unsupported(
                    "FETCH and MOVE of a portal that Keyway runs are not supported",
                    "The protocol's Bind made it, and its rows are merged for the protocol's Execute.",
                    "Execute the portal, or DECLARE a cursor for its query.",
                ))
            }
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
            Body::Command(_) | Body::Execute(_) | Body::Empty => self.home(),
        }
    }
}

fn cursor_exists(name: &str) -> SessionError {
    SessionError::refuse(
        SqlState::DUPLICATE_CURSOR,
        format!("cursor \"{name}\" already exists"),
    )
}

fn no_cursor(name: &str) -> SessionError {
    SessionError::refuse(
        SqlState::INVALID_CURSOR_NAME,
        format!("cursor \"{name}\" does not exist"),
    )
}

/// A cursor without HOLD is declared outside a transaction block.
pub(super) fn declared_outside() -> SessionError {
    SessionError::refuse(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        "DECLARE CURSOR can only be used in transaction blocks",
    )
}

/// A portal that has run, or failed, and returns nothing more.
pub(super) fn cannot_run(name: &str) -> SessionError {
    SessionError::refuse(
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("portal \"{name}\" cannot be run"),
    )
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
        rewritten: false,
    })
}
