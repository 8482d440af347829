//! Portals and cursors: a statement with its parameters, and where its rows come from.

use crate::execute::scatter::Gathering;
use crate::route::keep::{NotKept, Spoils};
use crate::route::plan::{Access, Keep, Plan, PlanKind, ShardSet};
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
    /// The same for the result cache.
    pub effects: Rc<Effects>,
    /// What it does to the cursor that it names.
    pub cursor: Option<Rc<CursorChange>>,
    /// What set_config() calls in it set.
    pub(super) sets: Vec<PendingSet>,
}

/// What the result cache must know of an execution.
#[derive(Debug)]
pub struct Effects {
    /// What it changes.
    pub spoils: Spoils,
    /// The snapshot's that says so.
    pub digest: u128,
    /// The shards that answer it, and what its answer is made of, if that is kept.
    pub keeps: Result<(ShardSet, Keep), NotKept>,
}

impl Effects {
    /// Of a plan.
    #[must_use]
    pub fn of(plan: &Plan, digest: u128) -> Rc<Self> {
        let keep = |keep: &Keep| (plan.shards.clone(), keep.clone());
        Rc::new(Self {
            spoils: plan.spoils.clone(),
            digest,
            keeps: plan.keeps.as_ref().map(keep).map_err(|why| *why),
        })
    }

    /// Of what Keyway runs by itself.
    #[must_use]
    pub fn none() -> Rc<Self> {
        Rc::new(Self {
            spoils: Spoils::Nothing,
            digest: 0,
            keeps: Err(NotKept::Utility),
        })
    }
}

impl Effects {
    /// What it changes, as this snapshot knows it: of what was planned by another nobody knows.
    #[must_use]
    pub fn spoils(&self, digest: u128) -> Spoils {
        match &self.spoils {
            Spoils::Nothing => Spoils::Nothing,
            spoils if self.digest == digest => spoils.clone(),
            _ => Spoils::Everything,
        }
    }
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

/// What a statement that goes to a shard as it is does to a cursor there, once it has run.
#[derive(Debug)]
pub enum CursorChange {
    /// DECLARE.
    Declares(Declare),
    /// CLOSE of the cursor with this name.
    Closes(String),
}

/// SQL about a cursor over several shards.
#[derive(Debug)]
pub enum OwnCursor {
    /// DECLARE: the plan of its query, and the query's text.
    Declare(Declare, Box<Plan>, String),
    /// FETCH, MOVE, CLOSE, and CLOSE ALL.
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
    /// Keyway has run it.
    Ran(Ran),
    /// Its shards' portals were opened behind a savepoint, and went when that was rolled back to. This shard knows its
    /// columns.
    Undone(ShardId),
}

impl Place {
    /// A shard that knows the columns of what Keyway runs.
    #[must_use]
    pub fn columns(&self) -> Option<ShardId> {
        match self {
            Self::Merge(plan) if plan.kind == PlanKind::Scatter => plan.shards.iter().next(),
            Self::Merging(gathering) => gathering.shards.first().copied(),
            Self::Undone(shard) => Some(*shard),
            Self::Ran(ran) => ran.columns,
            _ => None,
        }
    }
}

/// A portal that has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// A shard that knows its columns, if Keyway does not.
    pub columns: Option<ShardId>,
    /// What becomes of it when it is executed again.
    pub again: Again,
}

/// What a portal answers that has run (manual §55.2.3; PortalRun in PostgreSQL's pquery.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It cannot be run: it failed, or is a statement that returns no rows.
    Never,
    /// It has no more rows, and this tag.
    Tag(&'static str),
}

impl Ran {
    /// It runs, or has failed.
    #[must_use]
    pub fn once(columns: Option<ShardId>) -> Self {
        Self {
            columns,
            again: Again::Never,
        }
    }
}
