//! A session's transaction: a set of participants that join when a statement first needs them.

use crate::backend::pool::Lease;
use crate::backend::settings::Settings;
use crate::cache::results::cells::Marks;
use crate::route::changed::Changed;
use crate::session::commands::{is_one_snapshot, isolation_of};
use crate::session::control::SchemaChange;
use crate::session::{SessionHint, is_off};
use crate::statement::command::{Isolation, TransactionModes};
use crate::topology::{ShardId, TableName};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Savepoints and settings a transaction may collect for those who join later.
pub const LOG_MAX: usize = 10_000;

/// What a participant has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrote {
    /// Reads, locks.
    Nothing,
    /// A change of the schema: several participants may commit one after the other (DESIGN §6, broadcast).
    Schema,
    /// Rows.
    Rows,
}

/// One shard's part in a transaction.
#[derive(Debug)]
pub struct Participant {
    /// The shard.
    pub shard: ShardId,
    /// Its server; away while a statement runs on it, and for good when it was lost.
    pub lease: Option<Lease>,
    /// What it did.
    pub wrote: Wrote,
}

/// A savepoint and what ROLLBACK TO goes back to.
#[derive(Debug, Clone)]
pub struct Savepoint {
    /// Its name.
    pub name: String,
    /// The session's settings when it was set.
    pub settings: Arc<Settings>,
    /// With SET LOCAL.
    pub effective: Arc<Settings>,
    /// Entries of the log before it.
    pub log_len: usize,
    /// Changes of the schema before it.
    pub changes: usize,
    /// The transaction's modes.
    pub modes: TransactionModes,
    /// The session's hints.
    pub hint: SessionHint,
    /// `SET LOCAL keyway.…`.
    pub local_hint: Option<SessionHint>,
}

/// Who began a transaction block, which says when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// The client, by BEGIN.
    Client,
    /// A message of several statements: it ends with it.
    Message,
    /// A batch of the extended protocol: it ends at Sync.
    Batch,
}

/// Since when a transaction's servers know nothing of sequences but what it has done itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequences {
    /// They may know what other clients did.
    Shared,
    /// Keyway has made them forget, for the message at hand. What the client did before they know no more.
    Forgotten,
    /// The client has (DISCARD SEQUENCES).
    Discarded,
}

/// A transaction block, the client's (BEGIN) or an implicit one.
#[derive(Debug)]
pub struct Block {
    /// Who began it.
    pub kind: BlockKind,
    /// Only ROLLBACK and ROLLBACK TO may follow.
    pub failed: bool,
    /// The text that begins it on a shard.
    pub begin: Cow<'static, str>,
    /// Its modes, as far as they were said: with BEGIN, or since.
    pub modes: TransactionModes,
    /// Those that AND CHAIN gave it, which an error does not take away.
    pub inherited: TransactionModes,
    /// REPEATABLE READ or SERIALIZABLE: one snapshot, which several shards do not share.
    pub one_snapshot: bool,
    /// Who takes part, in order of joining.
    pub participants: Vec<Participant>,
    /// Statements that set the scene (SET LOCAL, SAVEPOINT …), replayed on each who joins.
    pub log: Vec<String>,
    /// Custom settings that were set in it: where it took place they exist from then on, whatever becomes of it.
    pub customs: BTreeSet<String>,
    /// The session's settings when it began.
    pub before: Arc<Settings>,
    /// The settings in force: the session's, with SET LOCAL.
    pub effective: Arc<Settings>,
    /// Its savepoints, innermost last.
    pub savepoints: Vec<Savepoint>,
    /// The session's hints when it began.
    pub hint_before: SessionHint,
    /// `SET LOCAL keyway.…`.
    pub local_hint: Option<SessionHint>,
    /// Whose sequence values its servers know.
    pub sequences: Sequences,
    /// Tables whose schema it changed.
    pub tables: Vec<TableName>,
    /// What it changed of the schema, as far as its later statements may depend on it.
    pub(crate) changed: Vec<Changed>,
    /// It has changed the schema, though a participant may have written rows since.
    pub changed_schema: Option<SchemaChange>,
    /// It has had a query that no server has seen: a kept answer, or what the session answers itself.
    pub had_query: bool,
    /// For the result cache: it has changed something on several shards at once.
    pub marks: Option<Marks>,
}

impl Participant {
    /// Its server waits for a statement?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let quiet = |lease: &Lease| lease.inbox.is_empty() && lease.outbox.is_empty();
        self.lease.as_ref().is_some_and(quiet)
    }
}

impl Block {
    /// A new one that nobody has joined.
    #[must_use]
    pub fn new(
        kind: BlockKind,
        begin: Cow<'static, str>,
        one_snapshot: bool,
        settings: &Arc<Settings>,
    ) -> Self {
        Self {
            kind,
            failed: false,
            begin,
            modes: TransactionModes::default(),
            inherited: TransactionModes::default(),
            one_snapshot,
            participants: Vec::new(),
            log: Vec::new(),
            customs: BTreeSet::new(),
            before: Arc::clone(settings),
            effective: Arc::clone(settings),
            savepoints: Vec::new(),
            hint_before: SessionHint::default(),
            local_hint: None,
            sequences: Sequences::Shared,
            tables: Vec::new(),
            changed: Vec::new(),
            changed_schema: None,
            had_query: false,
            marks: None,
        }
    }

    /// It ends by itself, with the message or at Sync.
    #[must_use]
    pub fn is_implicit(&self) -> bool {
        self.kind != BlockKind::Client
    }

    /// Does it read from one snapshot, by the modes it has?
    #[must_use]
    pub fn reads_one_snapshot(&self) -> bool {
        match self.modes.isolation {
            Some(level) => matches!(level, Isolation::RepeatableRead | Isolation::Serializable),
            None => is_one_snapshot(self.before.get("default_transaction_isolation")),
        }
    }

    /// Remembers a mode that was given by the name of its setting.
    pub fn set_mode(&mut self, name: &str, value: &str) {
        match name {
            "transaction_isolation" => {
                self.modes.isolation = isolation_of(value);
                self.one_snapshot = self.reads_one_snapshot();
            }
            "transaction_read_only" => self.modes.read_only = Some(!is_off(value)),
            "transaction_deferrable" => self.modes.deferrable = Some(!is_off(value)),
            _ => {}
        }
    }

    /// A setting was set in it.
    pub fn touched(&mut self, name: &str) {
        if name.contains('.') {
            self.customs.insert(name.to_owned());
        }
    }

    /// This shard's part.
    pub fn participant(&mut self, shard: ShardId) -> Option<&mut Participant> {
        self.participants.iter_mut().find(|p| p.shard == shard)
    }

    /// A shard other than `shard` that wrote rows, or the schema when `schema` does not excuse it.
    #[must_use]
    pub fn other_writer(&self, shard: ShardId, wrote: Wrote) -> Option<ShardId> {
        self.participants
            .iter()
            .find(|p| {
                p.shard != shard
                    && p.wrote > Wrote::Nothing
                    && !(p.wrote == Wrote::Schema && wrote == Wrote::Schema)
            })
            .map(|p| p.shard)
    }

    /// The only shard that wrote.
    #[must_use]
    pub fn only_writer(&self) -> Option<ShardId> {
        let mut writers = self
            .participants
            .iter()
            .filter(|p| p.wrote > Wrote::Nothing);
        let first = writers.next()?;
        writers.next().is_none().then_some(first.shard)
    }

    /// The innermost savepoint of this name.
    #[must_use]
    pub fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|s| s.name == name)
    }
}
