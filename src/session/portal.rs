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
    pub hold: bool,
    /// What executing it does.
    pub access: Access,
    /// What set_config() calls in it set.
    pub(super) sets: Vec<PendingSet>,
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
}

impl Portal {
    /// Only cursors WITH HOLD, which stay with their server, outlive the transaction they were made in.
    #[must_use]
    pub fn survives_its_transaction(&self) -> bool {
        self.hold
    }
}
