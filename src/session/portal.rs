//! Portals and cursors: a statement with its parameters, and where its rows come from.

use crate::execute::scatter::Gathering;
use crate::route::plan::{Access, Plan};
use crate::session::planner::PendingSet;
use crate::session::prepared::Prepared;
use crate::statement::command::{Command, Declare};
use crate::topology::ShardId;
use bytes::Bytes;
use std::rc::Rc;

/// A bound statement.
#[derive(Debug)]
pub struct Portal {
    /// What it runs.
    pub prepared: Rc<Prepared>,
    /// The body of the client's Bind; empty for a cursor.
    pub bind: Bytes,
    /// Where it stands.
    pub place: Place,
    /// WITH HOLD.
    pub hold: Hold,
    /// Savepoints that were set when it was made: ROLLBACK TO takes it back with those behind its savepoint.
    pub level: usize,
    /// What executing it does.
    pub access: Access,
    /// What set_config() calls in it set.
    pub(super) sets: Vec<PendingSet>,
}

/// Does a cursor outlive its transaction?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// No.
    No,
    /// WITH HOLD, should the transaction that declared it commit.
    Wanted,
    /// WITH HOLD, and it has.
    Kept,
}

/// SQL about a cursor over several shards.
#[derive(Debug)]
pub enum OwnCursor {
    /// DECLARE: the plan of its query, and the query's text.
    Declare(Declare, Plan, String),
    /// FETCH, MOVE, CLOSE.
    Use(Command),
}

/// Where a portal's rows come from.
#[derive(Debug)]
pub enum Place {
    /// Keyway itself: a statement about the session.
    Local,
    /// A portal of the same name on this shard's server.
    Server(ShardId),
    /// Several shards, not asked yet.
    Merge(Box<Plan>),
    /// SQL about a cursor over several shards.
    OwnCursor(Box<OwnCursor>),
    /// Several shards, some rows fetched.
    Merging(Box<Gathering>),
    /// A cursor over several shards: its rows, and what FETCH says of the columns.
    Cursor(Box<Gathering>, Bytes),
    /// No rows any more.
    Done,
    /// Its shards' portals were opened behind a savepoint, and went when that was rolled back to.
    Undone,
}
