//! One client's conversation. In: a socket. Out: what PostgreSQL would answer, or a refusal that says why.
//!
//! This room holds a session's state and decides what happens next; it reads text by `statement`, asks `route` where
//! it goes, takes servers from `backend` and lets `execute` move the bytes. Only here an ErrorResponse is written.
//!
//! Reading order: `answer` (the loop), `quick` (the fast path), `simple` and `extended` (the two protocols), `planner`, `servers`,
//! `transaction`, `commands` (statements about the session itself), `keys` (sharding keys that Keyway makes), `temporaries` (the tables of one session), `login`, `failures`, `listener`, `worker`.

pub mod again;
pub mod answer;
pub mod cancel;
pub mod commands;
pub mod control;
pub mod cursors;
pub mod error;
pub mod extended;
pub mod failures;
mod kept;
pub mod keys;
pub mod listener;
pub mod login;
mod others;
pub mod own;
pub mod planner;
pub mod portal;
pub mod prepared;
mod quick;
pub mod sequences;
pub mod servers;
mod shown;
pub mod simple;
pub mod spread;
mod temporaries;
pub mod transaction;
pub mod worker;

use crate::backend::budget::Reserve;
use crate::backend::pool::Lease;
use crate::backend::settings::Settings;
use crate::execute::client::Client;
use crate::execute::relay::Position;
use crate::metrics::{Outcome, QueryPlan};
use crate::route::plan::{PlanKind, ShardSet};
use crate::session::cancel::CancelSlot;
use crate::session::error::SessionError;
use crate::session::prepared::Names;
use crate::session::temporaries::Temporaries;
use crate::session::transaction::{Block, BlockKind};
use crate::session::worker::{Greeting, RolePools, Worker};
use crate::statement::scan::ScanSettings;
use crate::topology::{Database, OidMap, ShardId, Topology};
use crate::wire::backend::{self as reply, TransactionStatus};
use crate::wire::error::ErrorFields;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// One client's session.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says one independent thing of the conversation; none is a state of another"
)]
pub struct Session {
    client: Client,
    worker: Rc<Worker>,
    /// The role's pools.
    pools: Rc<RolePools>,
    /// The snapshot of the statement at hand.
    topology: Arc<Topology>,
    /// The database of that snapshot.
    database: Arc<Database>,
    /// A number for the database's name, for the plan cache.
    database_key: u64,
    /// The settings it connected with: what RESET goes back to.
    startup: Arc<Settings>,
    /// Its settings outside transactions.
    settings: Arc<Settings>,
    /// What it was told at login.
    greeting: Rc<Greeting>,
    /// `keyway.key` and `keyway.shard`.
    hint: SessionHint,
    block: Option<Box<Block>>,
    names: Names,
    /// Servers that stay with the session between transactions.
    kept: Vec<(ShardId, Lease)>,
    /// Servers taken for statements of the request at hand that have not come to run yet.
    ahead: Vec<(ShardId, Lease)>,
    /// Leave to go beyond a pool's size, while it is needed.
    reserve: Weak<Reserve>,
    /// Why servers stay: shards whose server holds state of this session.
    pinned: ShardSet,
    /// The temporary tables that it made.
    temporaries: Temporaries,
    /// Pinned shards whose server was there after the last request.
    settled: ShardSet,
    /// Session pooling: every server stays.
    worker_keeps: bool,
    /// A pinned server was lost, and with it state that cannot be made again.
    pinned_lost: bool,
    /// The extended protocol skips to the next Sync after an error.
    skipping: bool,
    /// The data of a COPY made the Sync that came before it void: the client sends another.
    sync_void: bool,
    /// What set_config() calls of the statement that was planned last set. Whoever plans a statement takes it.
    pending_sets: Vec<planner::PendingSet>,
    /// Where the statement at hand begins in the client's text, in characters.
    own_at: i64,
    /// Where an error of the scatter at hand is in the client's text.
    position: Position,
    /// The statement that was planned last asks for what the session has taken of a sequence.
    asks_sequence: bool,
    /// What is to be remembered of the batch at hand, if there is anything.
    batch: Option<Box<prepared::BatchNotes>>,
    /// When CommandComplete of the statement at hand is said.
    last_tag: simple::LastTag,
    /// The fast path did not know the statement at hand.
    is_unseen: bool,
    cancel: Rc<CancelSlot>,
    /// The process id its client was told.
    pid: u32,
    /// What the fast path waits for.
    running: Option<quick::Running>,
    message_max: usize,
    /// What kind of plan the request at hand has had, for metrics.
    plan: QueryPlan,
    /// How it ended.
    outcome: Outcome,
    /// Who asks, for the result cache.
    who: Option<Box<kept::Who>>,
    /// An answer on its way that is to be kept.
    asking: Option<Box<kept::AskingNow>>,
    /// It has no client, and asks again for an answer that may be given so long.
    again: Option<std::time::Duration>,
    /// A write of its is done whose marks other Keyways may have forgotten before.
    outlived: bool,
    /// The answer that it gives next was kept by another Keyway.
    is_shared: bool,
    /// The answer that it gives next is void, and its shard cannot be reached.
    is_stale: bool,
    /// The last server that it wanted and did not get could not be reached.
    is_unreachable: bool,
    /// What it has changed, where answers are given that are void.
    changed: Option<Box<kept::Changed>>,
}

/// Hints set for the session or the transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionHint {
    /// `SET keyway.key`.
    pub key: Option<String>,
    /// `SET keyway.shard`.
    pub shard: Option<String>,
}

/// A boolean setting's value that means off, as PostgreSQL reads it (parse_bool).
fn is_off(text: &str) -> bool {
    let text = text.trim_matches('\'').to_ascii_lowercase();
    matches!(
        text.as_str(),
        "off" | "false" | "fals" | "fal" | "fa" | "no" | "0" | "of" | "f" | "n"
    )
}

/// A boolean setting's value that means on, as PostgreSQL reads it.
fn is_on(text: &str) -> bool {
    let text = text.trim_matches('\'').to_ascii_lowercase();
    matches!(
        text.as_str(),
        "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1"
    )
}

/// What its servers hold of the session must not reach another, nor a cancel request that is on its way to them.
impl Drop for Session {
    fn drop(&mut self) {
        self.worker.leave(self.pid);
        self.give_back_ahead();
        for (_, lease) in &mut self.kept {
            lease.retire();
        }
    }
}

impl Session {
    /// How texts are read now: what prepared statements are shared by. A changed schema makes a text another statement
    /// (`SELECT *`), so the snapshot's epoch is part of it.
    fn reading(&self) -> u64 {
        self.effective().parse_key() ^ self.topology.epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Takes the current snapshot for the next statement. Inside a transaction the snapshot may change between
    /// statements too: participants are named by shards that do not move (see [`Topology`]).
    fn look_around(&mut self) -> Result<(), SessionError> {
        let current = self.worker.shared.topology.load();
        if !Arc::ptr_eq(&current, &self.topology) {
            let Some(database) = current.databases.get(&self.database.name) else {
                return Err(SessionError::Fatal(Box::new(ErrorFields::fatal(
                    crate::wire::error::SqlState::INVALID_CATALOG_NAME,
                    format!(
                        "database \"{}\" was removed from the configuration",
                        self.database.name
                    ),
                ))));
            };
            self.database = Arc::clone(database);
            self.topology = Arc::clone(&current);
        }
        Ok(())
    }

    /// What is remembered of the batch at hand.
    fn notes(&mut self) -> &mut prepared::BatchNotes {
        self.batch.get_or_insert_default()
    }

    /// The settings in force for the next statement.
    fn effective(&self) -> &Arc<Settings> {
        self.block.as_ref().map_or(&self.settings, |b| &b.effective)
    }

    /// How the next text is to be read.
    fn scan_settings(&self) -> ScanSettings {
        use crate::backend::settings::SettingValue;
        let off = self
            .effective()
            .get("standard_conforming_strings")
            .is_some_and(|value| match value {
                SettingValue::Raw(text) | SettingValue::Text(text) => is_off(text),
            });
        ScanSettings {
            standard_conforming_strings: !off,
        }
    }

    /// Begins a transaction block that no shard takes part in yet.
    fn open_block(&mut self, kind: BlockKind) {
        let one_snapshot = self.one_snapshot(None);
        let mut block = Block::new(kind, "BEGIN".into(), one_snapshot, &self.settings);
        block.hint_before = self.hint.clone();
        self.block = Some(Box::new(block));
    }

    /// How many savepoints are set.
    fn savepoints_set(&self) -> usize {
        self.block.as_ref().map_or(0, |b| b.savepoints.len())
    }

    /// Is there a transaction that ends with its message or batch?
    fn in_implicit_block(&self) -> bool {
        self.block.as_ref().is_some_and(|b| b.is_implicit())
    }

    /// The type OIDs of a shard, when some differ from those that clients see.
    fn type_map(&self, shard: ShardId) -> Option<&OidMap> {
        self.database.oid_map(shard).map(AsRef::as_ref)
    }

    fn note_plan(&mut self, kind: PlanKind) {
        self.plan = match kind {
            PlanKind::Single => QueryPlan::Single,
            PlanKind::Any => QueryPlan::Any,
            PlanKind::Scatter => QueryPlan::Scatter,
            PlanKind::Broadcast => QueryPlan::Broadcast,
        };
    }

    /// What ReadyForQuery says.
    fn status(&self) -> TransactionStatus {
        match &self.block {
            Some(block) if block.failed => TransactionStatus::Failed,
            Some(block) if !block.is_implicit() => TransactionStatus::InTransaction,
            _ => TransactionStatus::Idle,
        }
    }

    fn say_ready(&mut self) {
        let status = self.status();
        reply::ready_for_query(&mut self.client.outbox, status);
    }

    fn say_error(&mut self, fields: &ErrorFields) {
        self.worker.metrics.refused(&fields.code);
        self.outcome = Outcome::Refused;
        reply::error_response(&mut self.client.outbox, fields);
    }
}
