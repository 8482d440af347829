//! Statements about the session itself: transactions, settings, prepared statements, cursors over several shards.
//!
//! Each appends its reply to the client's outbox, without ReadyForQuery.

use crate::backend::pool::Lease;
use crate::backend::server::ServerState;
use crate::backend::settings::{DATESTYLE, SettingValue, Settings};
use crate::execute::relay::drain;
use crate::route::plan::Access;
use crate::route::reserved::SCHEMA;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::own::unknown_hint;
use crate::session::sequences::FORGET;
use crate::session::servers::append_query;
use crate::session::simple::LastTag;
use crate::session::temporaries::Temporaries;
use crate::session::transaction::{
    Block, BlockKind, LOG_MAX, Participant, Savepoint, Sequences, Wrote,
};
use crate::statement::command::{
    Command, Discard, Isolation, Scope, SetValue, SetWord, TransactionModes,
};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use std::borrow::Cow;
use std::sync::Arc;

/// Settings whose value is a list of identifiers: PostgreSQL quotes each (GUC_LIST_QUOTE).
const QUOTED_LISTS: &[&str] = &[
    "search_path",
    "temp_tablespaces",
    "session_preload_libraries",
    "local_preload_libraries",
];

/// Settings of the transaction at hand.
const OF_TRANSACTION: &str = "transaction_";

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Rollback,
}

impl Session {
    /// Runs a statement about the session.
    pub(super) async fn run_command(
        &mut self,
        command: Command,
        own: &str,
    ) -> Result<(), SessionError> {
        let ends = matches!(
            command,
            Command::Commit { .. } | Command::Rollback { .. } | Command::RollbackTo(_)
        );
        if !ends {
            self.refuse_in_failed_block()?;
        }
        match command {
            Command::Begin(modes) => self.begin(modes, own).await,
            Command::Commit { chain } => self.end(End::Commit, chain).await,
            Command::Rollback { chain } => self.end(End::Rollback, chain).await,
            Command::Savepoint(name) => self.savepoint(name, own).await,
            Command::Release(name) => self.release_savepoint(&name, own).await,
            Command::RollbackTo(name) => self.rollback_to(&name, own).await,
            Command::TwoPhase => Err(SessionError::unsupported(
                "prepared transactions are not supported",
                "PREPARE TRANSACTION and its kin name a transaction on one server; Keyway spreads one over several.",
                "Commit with COMMIT.",
            )),
            Command::Set { scope, name, value } => self.set(scope, &name, &value, own).await,
            Command::SetTransaction(modes) => self.set_transaction(modes).await,
            Command::SetSnapshot => Err(SessionError::unsupported(
                "imported snapshots are not supported",
                "A snapshot belongs to one server.",
                "Leave SET TRANSACTION SNAPSHOT out.",
            )),
            Command::SetCharacteristics(modes) => self.set_characteristics(modes, own).await,
            Command::SetConstraints { .. } => {
                self.everywhere_and_later(own, "SET CONSTRAINTS").await
            }
            Command::Reset(name) => self.reset(name.as_deref()).await,
            Command::Discard(what) => self.discard(what, own).await,
            Command::Deallocate(name) => self.deallocate(name.as_deref()),
            other => Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                format!("{} is not run by the session", command_name(&other)),
            )),
        }
    }

    pub(super) fn complete(&mut self, tag: &str) {
        match &mut self.last_tag {
            LastTag::Waits(waiting) => *waiting = Some(tag.to_owned()),
            LastTag::AtOnce => reply::command_complete(&mut self.client.outbox, tag),
        }
    }

    fn warn(&mut self, state: SqlState, message: &str) {
        reply::notice_response(
            &mut self.client.outbox,
            &ErrorFields::warning(state, message),
        );
    }

    // === transactions

    async fn begin(&mut self, modes: TransactionModes, own: &str) -> Result<(), SessionError> {
        match &self.block {
            // BEGIN among several statements of a message: what ran before it belongs to the block (manual §55.2.2.1).
            Some(block) if block.is_implicit() => {
                self.modify_transaction(modes).await?;
                if let Some(block) = &mut self.block {
                    block.kind = BlockKind::Client;
                }
            }
            Some(_) => {
                self.warn(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "there is already a transaction in progress",
                );
                self.modify_transaction(modes).await?;
            }
            None => {
                let one_snapshot = self.one_snapshot(modes.isolation);
                let mut block = Block::new(
                    BlockKind::Client,
                    begin_text(modes),
                    one_snapshot,
                    &self.settings,
                );
                block.modes = modes;
                block.hint_before = self.hint.clone();
                self.block = Some(Box::new(block));
            }
        }
        let start = own
            .get(..5)
            .is_some_and(|word| word.eq_ignore_ascii_case("start"));
        self.complete(if start { "START TRANSACTION" } else { "BEGIN" });
        Ok(())
    }

    /// Does a transaction of this level, or of the session's default, read from one snapshot?
    pub(super) fn one_snapshot(&self, isolation: Option<Isolation>) -> bool {
        match isolation {
            Some(level) => matches!(level, Isolation::RepeatableRead | Isolation::Serializable),
            None => is_one_snapshot(self.settings.get("default_transaction_isolation")),
        }
    }

    async fn end(&mut self, end: End, chain: bool) -> Result<(), SessionError> {
        let in_block = self.block.as_ref().is_some_and(|b| !b.is_implicit());
        if !in_block && chain {
            let what = match end {
                End::Commit => "COMMIT AND CHAIN",
                End::Rollback => "ROLLBACK AND CHAIN",
            };
            return Err(SessionError::refuse(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            ));
        }
        if !in_block {
            self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "there is no transaction in progress",
            );
        }
        let Some(block) = &self.block else {
            self.complete(match end {
                End::Commit => "COMMIT",
                End::Rollback => "ROLLBACK",
            });
            return Ok(());
        };
        let end = if block.failed { End::Rollback } else { end };
        let chained = if chain {
            Some(self.chained_modes(block, end)?)
        } else {
            None
        };
        self.finish_block(end).await?;
        if let Some(modes) = chained {
            let one_snapshot = self.one_snapshot(modes.isolation);
            let begin = begin_text(modes);
            let mut next = Block::new(BlockKind::Client, begin, one_snapshot, &self.settings);
            (next.modes, next.inherited) = (modes, modes);
            next.hint_before = self.hint.clone();
            self.block = Some(Box::new(next));
        }
        self.complete(match end {
            End::Commit => "COMMIT",
            End::Rollback => "ROLLBACK",
        });
        Ok(())
    }

    /// The modes that AND CHAIN gives to the next transaction: those the block has now
    /// (SaveTransactionCharacteristics in PostgreSQL's xact.c). One that failed has lost what was said of it, but not what
    /// a chain gave it; behind a savepoint only what was said there is lost, by an error or by the rollback itself.
    fn chained_modes(&self, block: &Block, end: End) -> Result<TransactionModes, SessionError> {
        let mut modes = match (end, block.savepoints.first()) {
            (End::Rollback, Some(outermost)) => outermost.modes,
            _ if block.failed => block.inherited,
            _ => block.modes,
        };
        let default = |name: &str| match block.before.get(name) {
            Some(SettingValue::Raw(text) | SettingValue::Text(text)) => Some(text.as_str()),
            None => None,
        };
        let isolation = default("default_transaction_isolation").and_then(isolation_of);
        modes.isolation = modes.isolation.or(isolation);
        let read_only = default("default_transaction_read_only").map(|text| !super::is_off(text));
        modes.read_only = modes.read_only.or(read_only);
        let deferrable = default("default_transaction_deferrable").map(|text| !super::is_off(text));
        modes.deferrable = modes.deferrable.or(deferrable);
        // The server's own default is not known here; unless the session has changed it for good, BEGIN takes it again.
        let changed =
            |name| end == End::Commit && self.settings.get(name) != block.before.get(name);
        if (modes.read_only.is_none() && changed("default_transaction_read_only"))
            || (modes.deferrable.is_none() && changed("default_transaction_deferrable"))
        {
            return Err(SessionError::unsupported(
                "AND CHAIN is not supported in a transaction that changed the defaults of transactions",
                "The next transaction would begin with the new defaults, in place of this one's modes.",
                "End the transaction without AND CHAIN, and begin another.",
            ));
        }
        Ok(modes)
    }

    /// The message or batch is through: its implicit transaction ends.
    pub(super) async fn end_implicit_or_fail(&mut self) -> Result<(), SessionError> {
        let Some(block) = &self.block else {
            return Ok(());
        };
        if !block.is_implicit() {
            return Ok(());
        }
        let end = if block.failed {
            End::Rollback
        } else {
            End::Commit
        };
        self.finish_block(end).await
    }

    /// The same, telling the client at once when it fails.
    pub(super) async fn end_implicit(&mut self) -> Result<(), SessionError> {
        match self.end_implicit_or_fail().await {
            Err(SessionError::Statement(fields)) => {
                if let Some(fields) = fields {
                    self.say_error(&fields);
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Commits or rolls back every participant and forgets the block, whatever comes of it.
    async fn finish_block(&mut self, end: End) -> Result<(), SessionError> {
        let held = self.names.held_if_committed();
        let Some(mut block) = self.leave_block() else {
            return Ok(());
        };
        let participants = std::mem::take(&mut block.participants);
        let result = match end {
            End::Commit => self.commit(&block, participants).await,
            End::Rollback => {
                self.settings = Arc::clone(&block.before);
                self.hint = block.hint_before.clone();
                self.roll_back(participants, &block.before).await
            }
        };
        if end == End::Rollback || result.is_err() {
            self.names.close_portals(&held);
        }
        result
    }

    /// The transaction is over for the session, and with it its portals.
    pub(super) fn leave_block(&mut self) -> Option<Box<Block>> {
        let mut block = self.block.take()?;
        block.before = block.before.with_customs(&block.customs);
        self.settings = self.settings.with_customs(&block.customs);
        self.names.transaction_ended();
        Some(block)
    }

    /// The only participant, which was told to commit, answers.
    pub(super) async fn end_only(
        &mut self,
        shard: ShardId,
        lease: Lease,
    ) -> Result<(), SessionError> {
        let held = self.names.held_if_committed();
        let Some(block) = self.leave_block() else {
            return Ok(());
        };
        let wrote = block
            .participants
            .first()
            .map_or(Wrote::Nothing, |p| p.wrote);
        let ended = self
            .await_end(shard, lease, wrote, End::Commit, &block.before)
            .await;
        match ended {
            Ok(()) => self.complete("COMMIT"),
            Err(failure) => {
                self.names.close_portals(&held);
                self.settings = Arc::clone(&block.before);
                self.hint = block.hint_before.clone();
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Who wrote commits first: should that fail, the others have nothing to lose.
    async fn commit(
        &mut self,
        block: &Block,
        mut participants: Vec<Participant>,
    ) -> Result<(), SessionError> {
        if let Err(error) = self.others_still_know(&participants) {
            self.settings = Arc::clone(&block.before);
            self.hint = block.hint_before.clone();
            self.roll_back(participants, &block.before).await?;
            return Err(error);
        }
        participants.sort_by_key(|p| std::cmp::Reverse(p.wrote));
        let mut committed: Vec<ShardId> = Vec::new();
        let mut rest = participants.into_iter();
        while let Some(participant) = rest.next() {
            let shard = participant.shard;
            let wrote = participant.wrote;
            let failure = match self
                .end_participant(participant, End::Commit, &block.before)
                .await
            {
                Ok(()) => {
                    if wrote > Wrote::Nothing {
                        committed.push(shard);
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            let others: Vec<Participant> = rest.collect();
            let undone: Vec<ShardId> = others.iter().map(|p| p.shard).collect();
            self.roll_back(others, &block.before).await?;
            if committed.is_empty() {
                self.settings = Arc::clone(&block.before);
                self.hint = block.hint_before.clone();
                return Err(failure);
            }
            return Err(self
                .torn_schema_change(&committed, shard, &undone, &block.tables)
                .await);
        }
        if let Some(change) = block.changed_schema {
            self.schema_changed(change).await;
        }
        Ok(())
    }

    async fn roll_back(
        &mut self,
        participants: Vec<Participant>,
        before: &Arc<Settings>,
    ) -> Result<(), SessionError> {
        let outlived = self.outlived;
        for participant in participants {
            // A participant that cannot be rolled back is closed, which rolls it back.
            if let Err(SessionError::ClientGone) = self
                .end_participant(participant, End::Rollback, before)
                .await
            {
                return Err(SessionError::ClientGone);
            }
        }
        // What was undone, others need not know.
        self.outlived = outlived;
        Ok(())
    }

    /// One participant's COMMIT or ROLLBACK.
    async fn end_participant(
        &mut self,
        participant: Participant,
        end: End,
        before: &Arc<Settings>,
    ) -> Result<(), SessionError> {
        let shard = participant.shard;
        let name = self.shard_name(shard).to_owned();
        let Some(mut lease) = participant.lease else {
            return Err(SessionError::refuse(
                SqlState::CONNECTION_FAILURE,
                format!(
                    "the transaction's connection to shard {name} was lost; it was rolled back there"
                ),
            ));
        };
        append_query(
            &mut lease,
            if end == End::Commit {
                "COMMIT"
            } else {
                "ROLLBACK"
            },
        )?;
        lease.expect_syncs(1);
        self.await_end(shard, lease, participant.wrote, end, before)
            .await
    }

    /// What a participant answers to COMMIT or ROLLBACK.
    async fn await_end(
        &mut self,
        shard: ShardId,
        mut lease: Lease,
        wrote: Wrote,
        end: End,
        before: &Arc<Settings>,
    ) -> Result<(), SessionError> {
        let name = self.shard_name(shard).to_owned();
        let result = match lease.flush().await {
            Ok(()) => drain(&mut lease, &name).await,
            Err(source) => Err(crate::execute::relay::RelayError::ServerLost {
                shard: name.clone(),
                source,
                told: false,
            }),
        };
        let settings = if end == End::Commit {
            Arc::clone(&self.settings)
        } else {
            Arc::clone(before)
        };
        self.tell_changes(&mut lease);
        match result {
            Ok(None) => {
                lease.set_settings(&settings);
                self.let_go(shard, lease);
                Ok(())
            }
            Ok(Some(fields)) => {
                // The server rolled back, as PostgreSQL does when a COMMIT fails.
                lease.set_settings(before);
                self.let_go(shard, lease);
                Err(SessionError::Statement(Some(fields)))
            }
            Err(error) => {
                tracing::warn!(%error, "a transaction's connection was lost while it ended");
                self.let_go(shard, lease);
                if end == End::Commit && wrote > Wrote::Nothing {
                    return Err(SessionError::Statement(Some(Box::new(
                        ErrorFields::error(
                            SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
                            format!("the connection to shard {name} was lost during COMMIT"),
                        )
                        .detail("The transaction may have been committed or rolled back.")
                        .hint("Look at the data before trying again."),
                    ))));
                }
                Ok(())
            }
        }
    }

    async fn savepoint(&mut self, name: String, own: &str) -> Result<(), SessionError> {
        self.in_block("SAVEPOINT")?;
        self.on_participants(own).await?;
        let block = self.block.as_mut().expect("checked above");
        block.savepoints.push(Savepoint {
            name,
            settings: Arc::clone(&self.settings),
            effective: Arc::clone(&block.effective),
            log_len: block.log.len(),
            changes: block.changed.len(),
            modes: block.modes,
            hint: self.hint.clone(),
            local_hint: block.local_hint.clone(),
        });
        self.log(own)?;
        self.complete("SAVEPOINT");
        Ok(())
    }

    async fn release_savepoint(&mut self, name: &str, own: &str) -> Result<(), SessionError> {
        self.in_block("RELEASE SAVEPOINT")?;
        let index = self.find_savepoint(name)?;
        self.on_participants(own).await?;
        let block = self.block.as_mut().expect("checked above");
        block.savepoints.truncate(index);
        self.names.released(index);
        self.log(own)?;
        self.complete("RELEASE");
        Ok(())
    }

    async fn rollback_to(&mut self, name: &str, own: &str) -> Result<(), SessionError> {
        self.in_block("ROLLBACK TO SAVEPOINT")?;
        let index = self.find_savepoint(name)?;
        let block = self.block.as_mut().expect("checked above");
        if block.participants.iter().any(|p| p.lease.is_none()) {
            return Err(SessionError::refuse(
                SqlState::CONNECTION_FAILURE,
                "the transaction has lost a connection and can only be rolled back as a whole",
            ));
        }
        let savepoint = block.savepoints[index].clone();
        block.failed = false;
        self.on_participants(own).await?;
        self.names.rolled_back_to(index);
        let block = self.block.as_mut().expect("checked above");
        self.settings = savepoint.settings.with_customs(&block.customs);
        self.hint = savepoint.hint;
        block.local_hint = savepoint.local_hint;
        block.changed.truncate(savepoint.changes);
        block.modes = savepoint.modes;
        block.savepoints.truncate(index + 1);
        // The SAVEPOINT itself stays for those who join later, and so does the trace of a custom setting.
        block.log.truncate(savepoint.log_len + 1);
        let effective = savepoint.effective.with_customs(&block.customs);
        for name in effective.custom_names() {
            if savepoint.effective.get(&name).is_none() {
                let empty = SettingValue::Text(String::new());
                block
                    .log
                    .push(set_text(Scope::Session, &name, Some(&empty)));
            }
        }
        if block.sequences != Sequences::Shared {
            // What a server has forgotten does not come back, and who joins later forgets too.
            block.log.push(FORGET.to_owned());
        }
        block.effective = effective;
        block.one_snapshot = block.reads_one_snapshot();
        self.complete("ROLLBACK");
        Ok(())
    }

    fn find_savepoint(&self, name: &str) -> Result<usize, SessionError> {
        self.block
            .as_ref()
            .and_then(|b| b.savepoint(name))
            .ok_or_else(|| {
                SessionError::refuse(
                    SqlState::INVALID_SAVEPOINT_SPECIFICATION,
                    format!("savepoint \"{name}\" does not exist"),
                )
            })
    }

    fn in_block(&self, what: &str) -> Result<(), SessionError> {
        match &self.block {
            Some(block) if !block.is_implicit() => Ok(()),
            _ => Err(SessionError::refuse(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            )),
        }
    }

    /// Does a message of several statements, or the client's BEGIN, make a transaction block around this statement? A
    /// batch does not, although its statements share a transaction (IsTransactionBlock in PostgreSQL's xact.c).
    pub(super) fn counts_as_block(&self) -> bool {
        let kind = self.block.as_ref().map(|b| b.kind);
        matches!(kind, Some(BlockKind::Client | BlockKind::Message))
    }

    /// Is there a transaction whose later statements a SET LOCAL and its kin reach? Warns where PostgreSQL does, which is
    /// also in a batch, where they do reach the statements up to Sync.
    fn scene_lasts(&mut self, what: &str) -> bool {
        if !self.counts_as_block() {
            self.warn(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                &format!("{what} can only be used in transaction blocks"),
            );
        }
        self.block.is_some()
    }

    /// Runs a statement on every participant; the first error is the statement's.
    pub(super) async fn on_participants(&mut self, sql: &str) -> Result<(), SessionError> {
        let shards: Vec<ShardId> = self
            .block
            .iter()
            .flat_map(|b| &b.participants)
            .map(|p| p.shard)
            .collect();
        let mut failed = None;
        for (index, shard) in shards.into_iter().enumerate() {
            let Some(mut lease) = self
                .block
                .as_mut()
                .and_then(|b| b.participant(shard)?.lease.take())
            else {
                continue;
            };
            let name = self.shard_name(shard).to_owned();
            append_query(&mut lease, sql)?;
            lease.expect_syncs(1);
            lease.take_aside();
            let result = self.settle(&mut lease, &name).await;
            if index == 0 {
                self.tell_changes(&mut lease);
            }
            self.give_back(shard, lease);
            if let Err(error) = result {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Remembers a statement for those who join the transaction later.
    pub(super) fn log(&mut self, sql: &str) -> Result<(), SessionError> {
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        if block.log.len() >= LOG_MAX {
            return Err(SessionError::refuse(
                SqlState::CONFIGURATION_LIMIT_EXCEEDED,
                format!("a transaction may hold {LOG_MAX} savepoints and settings at most"),
            ));
        }
        block.log.push(sql.to_owned());
        Ok(())
    }

    /// For a statement that sets the scene of a transaction and answers with its own name.
    async fn everywhere_and_later(&mut self, own: &str, tag: &str) -> Result<(), SessionError> {
        if self.scene_lasts(tag) {
            self.on_participants(own).await?;
            self.log(own)?;
        }
        self.complete(tag);
        Ok(())
    }

    async fn set_transaction(&mut self, modes: TransactionModes) -> Result<(), SessionError> {
        if self.scene_lasts("SET TRANSACTION") {
            self.modify_transaction(modes).await?;
        }
        self.complete("SET");
        Ok(())
    }

    /// Gives the transaction at hand these modes, on every participant and on those who join later.
    async fn modify_transaction(&mut self, modes: TransactionModes) -> Result<(), SessionError> {
        if modes == TransactionModes::default() {
            return Ok(());
        }
        self.let_servers_know_of_queries().await?;
        let Some(block) = &mut self.block else {
            return Ok(());
        };
        let next = TransactionModes {
            isolation: modes.isolation.or(block.modes.isolation),
            read_only: modes.read_only.or(block.modes.read_only),
            deferrable: modes.deferrable.or(block.modes.deferrable),
        };
        if block.participants.is_empty() && block.log.is_empty() {
            // Whoever joins begins with them.
            block.begin = begin_text(next);
            block.modes = next;
            block.one_snapshot = block.reads_one_snapshot();
            return Ok(());
        }
        if next.isolation != block.modes.isolation && !block.savepoints.is_empty() {
            return Err(SessionError::refuse(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "SET TRANSACTION ISOLATION LEVEL must not be called in a subtransaction",
            ));
        }
        let before = std::mem::replace(&mut block.modes, next);
        let several = block.participants.len() > 1;
        let one_snapshot = block.reads_one_snapshot();
        let result = if several && one_snapshot {
            Err(several_snapshots())
        } else {
            let own = modes_text("SET TRANSACTION", modes);
            match self.on_participants(&own).await {
                Ok(()) => self.log(&own),
                failed => failed,
            }
        };
        if let Some(block) = &mut self.block {
            match &result {
                Ok(()) => block.one_snapshot = one_snapshot,
                Err(_) => block.modes = before,
            }
        }
        result
    }

    /// Some modes of a transaction cannot change behind its first query (check_XactIsoLevel and its like in PostgreSQL's
    /// variable.c). One that Keyway has answered itself is such a query: a server has to know of one.
    async fn let_servers_know_of_queries(&mut self) -> Result<(), SessionError> {
        const QUERY: &str = "SELECT";
        let had_query = |block: &mut Box<Block>| std::mem::take(&mut block.had_query);
        if !self.block.as_mut().is_some_and(had_query) {
            return Ok(());
        }
        let joined = self
            .block
            .as_ref()
            .is_some_and(|b| !b.participants.is_empty());
        if joined {
            return self.on_participants(QUERY).await;
        }
        let shard = self.home()?;
        let mut lease = self.take(shard, Access::Read).await?.lease;
        append_query(&mut lease, QUERY)?;
        lease.expect_syncs(1);
        let (lease, said) = self.hear(shard, lease).await?;
        self.give_back(shard, lease);
        said.map_or(Ok(()), |fields| Err(SessionError::Statement(Some(fields))))
    }

    /// The transaction at hand has had a statement with a snapshot (PlannedStmtRequiresSnapshot in PostgreSQL's pquery.c),
    /// and no server has seen it.
    pub(super) fn note_query(&mut self) {
        if let Some(block) = &mut self.block {
            block.had_query = true;
        }
    }

    async fn set_characteristics(
        &mut self,
        modes: TransactionModes,
        own: &str,
    ) -> Result<(), SessionError> {
        let _ = own;
        let mut values = Vec::new();
        if let Some(level) = modes.isolation {
            values.push((
                "default_transaction_isolation",
                isolation_text(level).to_ascii_lowercase(),
            ));
        }
        if let Some(read_only) = modes.read_only {
            values.push((
                "default_transaction_read_only",
                if read_only { "on" } else { "off" }.to_owned(),
            ));
        }
        if let Some(deferrable) = modes.deferrable {
            values.push((
                "default_transaction_deferrable",
                if deferrable { "on" } else { "off" }.to_owned(),
            ));
        }
        for (name, value) in values {
            self.apply(Scope::Session, name, Some(SettingValue::Text(value)))
                .await?;
        }
        self.complete("SET");
        Ok(())
    }

    // === settings

    async fn set(
        &mut self,
        scope: Scope,
        name: &str,
        value: &SetValue,
        own: &str,
    ) -> Result<(), SessionError> {
        let _ = own;
        if let Some(hint) = name.strip_prefix("keyway.") {
            self.set_hint(hint, scope, value)?;
        } else {
            let value = match value {
                SetValue::Current => {
                    self.complete("SET");
                    return Ok(());
                }
                SetValue::Default => self.startup.get(name).cloned(),
                SetValue::Interval(text) => Some(SettingValue::Raw(text.clone())),
                SetValue::Values(words) => Some(SettingValue::Text(joined(name, words))),
            };
            if name.starts_with(OF_TRANSACTION) {
                self.set_of_transaction(scope, name, value).await?;
            } else if scope == Scope::Local && self.block.is_none() {
                self.try_setting(scope, name, value.as_ref()).await?;
            } else {
                if scope == Scope::Local {
                    self.scene_lasts("SET LOCAL");
                }
                self.apply(scope, name, value).await?;
            }
        }
        self.complete("SET");
        Ok(())
    }

    /// `transaction_isolation` and its kin, which PostgreSQL forgets with the transaction.
    async fn set_of_transaction(
        &mut self,
        scope: Scope,
        name: &str,
        value: Option<SettingValue>,
    ) -> Result<(), SessionError> {
        if scope == Scope::Local && self.block.is_some() {
            self.scene_lasts("SET LOCAL");
        }
        self.let_servers_know_of_queries().await?;
        let one_snapshot = name == "transaction_isolation" && is_one_snapshot(value.as_ref());
        let Some(block) = &self.block else {
            return self.try_setting(scope, name, value.as_ref()).await;
        };
        if one_snapshot && block.participants.len() > 1 {
            return Err(several_snapshots());
        }
        self.apply(Scope::Local, name, value.clone()).await?;
        if let (Some(block), Some(SettingValue::Raw(text) | SettingValue::Text(text))) =
            (&mut self.block, &value)
        {
            block.set_mode(name, text);
        }
        Ok(())
    }

    /// A SET that is over with its statement: a server says whether it may be.
    async fn try_setting(
        &mut self,
        scope: Scope,
        name: &str,
        value: Option<&SettingValue>,
    ) -> Result<(), SessionError> {
        check_setting(name, value)?;
        let sql = set_text(scope, name, value);
        let shard = self.home()?;
        let mut lease = self.take(shard, Access::Read).await?.lease;
        let result = self.run_setting(shard, &mut lease, &sql, name).await;
        if result.is_ok() && name.contains('.') {
            let customs = [name.to_owned()].into_iter().collect();
            self.settings = self.settings.with_customs(&customs);
            lease.set_settings(&self.settings);
        }
        self.give_back(shard, lease);
        result
    }

    /// Sets `name` on a server, which checks the value, and remembers it. Inside a transaction on every participant
    /// and on those who join later.
    pub(super) async fn apply(
        &mut self,
        scope: Scope,
        name: &str,
        mut value: Option<SettingValue>,
    ) -> Result<(), SessionError> {
        check_setting(name, value.as_ref())?;
        let sql = set_text(scope, name, value.as_ref());
        if self
            .block
            .as_ref()
            .is_none_or(|b| b.participants.is_empty())
        {
            let shard = self.home()?;
            let taken = self.take(shard, Access::Read).await?;
            let mut lease = taken.lease;
            let result = self.run_setting(shard, &mut lease, &sql, name).await;
            if result.is_ok() {
                value = as_it_became(&lease, name, value);
            }
            if self.block.is_none() && result.is_ok() {
                let customs = name.contains('.').then(|| name.to_owned());
                let settings = Arc::new(self.settings.with(name, value));
                let settings = settings.with_customs(&customs.into_iter().collect());
                lease.set_settings(&settings);
                self.settings = settings;
                self.give_back(shard, lease);
                return Ok(());
            }
            self.give_back(shard, lease);
            result?;
        } else {
            let shards: Vec<ShardId> = self
                .block
                .iter()
                .flat_map(|b| &b.participants)
                .map(|p| p.shard)
                .collect();
            for (index, shard) in shards.into_iter().enumerate() {
                let Some(mut lease) = self
                    .block
                    .as_mut()
                    .and_then(|b| b.participant(shard)?.lease.take())
                else {
                    continue;
                };
                let known = self.client.outbox.len();
                let result = self.run_setting(shard, &mut lease, &sql, name).await;
                if index > 0 {
                    self.client.outbox.truncate(known);
                } else if result.is_ok() {
                    value = as_it_became(&lease, name, value);
                }
                self.give_back(shard, lease);
                result?;
            }
        }
        self.log(&set_text(scope, name, value.as_ref()))?;
        let block = self
            .block
            .as_mut()
            .expect("outside a block it has returned");
        block.touched(name);
        block.effective = Arc::new(block.effective.with(name, value.clone()));
        if scope == Scope::Session {
            self.settings = Arc::new(self.settings.with(name, value));
        }
        Ok(())
    }

    /// Sends one SET, passing ParameterStatus on to the client.
    async fn run_setting(
        &mut self,
        shard: ShardId,
        lease: &mut Lease,
        sql: &str,
        name: &str,
    ) -> Result<(), SessionError> {
        lease.touched_custom(name);
        append_query(lease, sql)?;
        lease.expect_syncs(1);
        lease.take_aside();
        let shard = self.shard_name(shard).to_owned();
        let result = self.settle(lease, &shard).await;
        self.tell_changes(lease);
        result
    }

    /// Tells the client what a server said beside its reply: notices, notifications, parameters that changed.
    fn tell_changes(&mut self, lease: &mut Lease) {
        self.client.outbox.extend_from_slice(&lease.take_aside());
    }

    fn set_hint(&mut self, hint: &str, scope: Scope, value: &SetValue) -> Result<(), SessionError> {
        let text = match value {
            SetValue::Default | SetValue::Current => None,
            SetValue::Values(words) => {
                let text = words
                    .iter()
                    .map(|w| w.text.as_str())
                    .collect::<Vec<_>>()
                    .join(", ");
                (!text.is_empty()).then_some(text)
            }
            SetValue::Interval(_) => None,
        };
        let mut hints = self.hint.clone();
        match hint {
            "key" => hints.key = text,
            "shard" => {
                if let Some(name) = &text
                    && !self.topology.shards.iter().any(|s| s.name == *name)
                {
                    let known: Vec<&str> = self
                        .topology
                        .shards
                        .iter()
                        .map(|s| s.name.as_str())
                        .collect();
                    return Err(SessionError::Statement(Some(Box::new(
                        ErrorFields::error(
                            SqlState::INVALID_PARAMETER_VALUE,
                            format!("there is no shard \"{name}\""),
                        )
                        .hint(format!("The shards are: {}.", known.join(", "))),
                    ))));
                }
                hints.shard = text;
            }
            other => {
                return Err(unknown_hint(&format!("keyway.{other}")));
            }
        }
        if scope == Scope::Session {
            self.hint = hints;
        } else if self.scene_lasts("SET LOCAL")
            && let Some(block) = &mut self.block
        {
            block.local_hint = Some(hints);
        }
        Ok(())
    }

    async fn reset(&mut self, name: Option<&str>) -> Result<(), SessionError> {
        match name {
            Some(hint) if hint.starts_with("keyway.") => {
                self.set_hint(&hint["keyway.".len()..], Scope::Session, &SetValue::Default)?;
            }
            Some(name) => {
                self.apply(Scope::Session, name, self.startup.get(name).cloned())
                    .await?
            }
            None => {
                self.hint = super::SessionHint::default();
                let changed: Vec<String> = self
                    .effective()
                    .iter()
                    .filter(|(name, value)| self.startup.get(name) != Some(value))
                    // RESET ALL leaves the role alone (manual, RESET).
                    .filter(|(name, _)| !matches!(name.as_str(), "role" | "session_authorization"))
                    .filter(|(name, _)| !name.starts_with(OF_TRANSACTION))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in changed {
                    self.apply(Scope::Session, &name, self.startup.get(&name).cloned())
                        .await?;
                }
            }
        }
        self.complete("RESET");
        Ok(())
    }

    async fn discard(&mut self, what: Discard, own: &str) -> Result<(), SessionError> {
        if what == Discard::All {
            if self.block.is_some() {
                return Err(SessionError::refuse(
                    SqlState::ACTIVE_SQL_TRANSACTION,
                    "DISCARD ALL cannot run inside a transaction block",
                ));
            }
            // Servers that held state of this session are closed; what they held goes with them.
            for (_, mut lease) in std::mem::take(&mut self.kept) {
                lease.retire();
                self.cancel.remove(lease.cancel_key.pid);
            }
            self.pinned = crate::route::plan::ShardSet::new();
            self.temporaries = Temporaries::default();
            self.names.statements.clear();
            self.names.portals.clear();
            self.hint = super::SessionHint::default();
            let changed: Vec<String> = self
                .settings
                .iter()
                .filter(|(name, value)| self.startup.get(name) != Some(value))
                .map(|(name, _)| name.clone())
                .collect();
            for name in changed {
                self.apply(Scope::Session, &name, self.startup.get(&name).cloned())
                    .await?;
            }
        } else {
            self.note_query();
            for index in 0..self.kept.len() {
                let shard = self.kept[index].0;
                let (_, mut lease) = self.kept.swap_remove(index);
                append_query(&mut lease, own)?;
                lease.expect_syncs(1);
                let name = self.shard_name(shard).to_owned();
                let result = self.settle(&mut lease, &name).await;
                if lease.state() == ServerState::Idle {
                    self.kept.push((shard, lease));
                    let last = self.kept.len() - 1;
                    self.kept.swap(index, last);
                }
                result?;
            }
            self.on_participants(own).await?;
            if what == Discard::Sequences && self.block.is_some() {
                self.log(FORGET)?;
                let block = self.block.as_mut().expect("just seen");
                block.sequences = Sequences::Discarded;
            }
        }
        self.complete(match what {
            Discard::All => "DISCARD ALL",
            Discard::Plans => "DISCARD PLANS",
            Discard::Sequences => "DISCARD SEQUENCES",
            Discard::Temp => "DISCARD TEMP",
        });
        Ok(())
    }

    // === prepared statements

    fn deallocate(&mut self, name: Option<&str>) -> Result<(), SessionError> {
        self.note_query();
        match name {
            None => {
                self.names.statements.clear();
                self.complete("DEALLOCATE ALL");
            }
            Some(name) => {
                if self.names.statements.remove(name).is_none() {
                    return Err(SessionError::refuse(
                        SqlState::INVALID_SQL_STATEMENT_NAME,
                        format!("prepared statement \"{name}\" does not exist"),
                    ));
                }
                self.complete("DEALLOCATE");
            }
        }
        Ok(())
    }
}

fn command_name(command: &Command) -> String {
    let debug = format!("{command:?}");
    debug
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn isolation_text(level: Isolation) -> &'static str {
    match level {
        Isolation::ReadUncommitted => "READ UNCOMMITTED",
        Isolation::ReadCommitted => "READ COMMITTED",
        Isolation::RepeatableRead => "REPEATABLE READ",
        Isolation::Serializable => "SERIALIZABLE",
    }
}

fn begin_text(modes: TransactionModes) -> Cow<'static, str> {
    if modes == TransactionModes::default() {
        return "BEGIN".into();
    }
    modes_text("BEGIN", modes).into()
}

fn modes_text(verb: &str, modes: TransactionModes) -> String {
    let mut text = verb.to_owned();
    if let Some(level) = modes.isolation {
        text.push_str(" ISOLATION LEVEL ");
        text.push_str(isolation_text(level));
    }
    match modes.read_only {
        Some(true) => text.push_str(" READ ONLY"),
        Some(false) => text.push_str(" READ WRITE"),
        None => {}
    }
    match modes.deferrable {
        Some(true) => text.push_str(" DEFERRABLE"),
        Some(false) => text.push_str(" NOT DEFERRABLE"),
        None => {}
    }
    text
}

/// An isolation level by the name a setting gives it.
pub(super) fn isolation_of(text: &str) -> Option<Isolation> {
    let levels = [
        Isolation::ReadUncommitted,
        Isolation::ReadCommitted,
        Isolation::RepeatableRead,
        Isolation::Serializable,
    ];
    let text = text.trim_matches('\'');
    levels
        .into_iter()
        .find(|level| isolation_text(*level).eq_ignore_ascii_case(text))
}

/// Does a transaction of this level read from one snapshot?
pub(super) fn is_one_snapshot(level: Option<&SettingValue>) -> bool {
    level.is_some_and(|value| match value {
        SettingValue::Raw(text) | SettingValue::Text(text) => {
            let text = text.to_ascii_lowercase();
            text.contains("repeatable") || text.contains("serializable")
        }
    })
}

fn several_snapshots() -> SessionError {
    SessionError::unsupported(
        "a transaction on several shards cannot become REPEATABLE READ or SERIALIZABLE",
        "Each shard has its own snapshot.",
        "Begin it with that level, and keep it on one shard.",
    )
}

/// A list of identifiers that means the same in SET as it does as a value: plain lower-case words, or quoted names.
fn is_identifier_list(text: &str) -> bool {
    text.split(',').map(str::trim).all(|word| {
        let quoted = word
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let mut bytes = word.bytes();
        match quoted {
            Some(name) => !name.is_empty() && !name.contains(['"', '\\']),
            None => {
                bytes
                    .next()
                    .is_some_and(|b| b == b'_' || b.is_ascii_lowercase())
                    && bytes.all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
                    && !matches!(word, "default" | "true" | "on" | "false")
            }
        }
    })
}

/// What PostgreSQL makes of a SET's list (flatten_set_variable_args): identifiers of a quoted list are quoted.
fn joined(name: &str, words: &[SetWord]) -> String {
    let quoted = QUOTED_LISTS.contains(&name);
    let is_plain = |text: &str| {
        let mut bytes = text.bytes();
        let first = bytes.next();
        first.is_some_and(|b| b == b'_' || b.is_ascii_lowercase())
            && bytes.all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let one = |word: &SetWord| {
        if quoted && !is_plain(&word.text) {
            crate::backend::settings::quote_setting_part(&word.text)
        } else {
            word.text.clone()
        }
    };
    words.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a server made of a setting's new value: of a part of DateStyle the whole.
pub(super) fn as_it_became(
    lease: &Lease,
    name: &str,
    value: Option<SettingValue>,
) -> Option<SettingValue> {
    let said = (name == DATESTYLE).then(|| lease.parameters.get("DateStyle"));
    match said.flatten() {
        Some(whole) if value.is_some() => Some(SettingValue::Text(whole.clone())),
        _ => value,
    }
}

/// The SET, or RESET, that gives a server this value.
pub(super) fn set_text(scope: Scope, name: &str, value: Option<&SettingValue>) -> String {
    use crate::backend::settings::{quote_literal, quote_setting};
    let local = if scope == Scope::Local { "LOCAL " } else { "" };
    match value {
        // Only SET TIME ZONE takes an INTERVAL, and only in this spelling.
        Some(SettingValue::Raw(raw)) if name == "timezone" => format!("SET {local}TIME ZONE {raw}"),
        Some(SettingValue::Raw(raw)) => format!("SET {local}{} TO {raw}", quote_setting(name)),
        // Not by set_config(): a SELECT takes a snapshot, and SET TRANSACTION must come before that.
        Some(SettingValue::Text(text)) if !QUOTED_LISTS.contains(&name) => {
            format!(
                "SET {local}{} TO {}",
                quote_setting(name),
                quote_literal(text)
            )
        }
        Some(SettingValue::Text(text)) if is_identifier_list(text) => {
            format!("SET {local}{name} TO {text}")
        }
        Some(SettingValue::Text(text)) => format!(
            "SELECT pg_catalog.set_config({},{},{})",
            quote_literal(name),
            quote_literal(text),
            scope == Scope::Local
        ),
        None => format!("SET {local}{} TO DEFAULT", quote_setting(name)),
    }
}

/// Refuses the settings under which Keyway would read a statement otherwise than the server.
pub(super) fn check_setting(name: &str, value: Option<&SettingValue>) -> Result<(), SessionError> {
    match name {
        "client_encoding" => check_encoding(value),
        "transform_null_equals" => check_null_equals(value),
        "array_nulls" => check_array_nulls(value),
        "seed" => check_seed(value),
        "search_path" => check_search_path(value),
        "role" | "session_authorization" => check_role(value),
        _ => Ok(()),
    }
}

/// Keys are hashed and text is compared as UTF-8.
fn check_encoding(value: Option<&SettingValue>) -> Result<(), SessionError> {
    let Some(SettingValue::Raw(text) | SettingValue::Text(text)) = value else {
        return Ok(());
    };
    let plain: String = text
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .collect::<String>()
        .to_ascii_lowercase();
    if matches!(plain.as_str(), "utf8" | "unicode") {
        return Ok(());
    }
    Err(SessionError::unsupported(
        "client_encoding must be UTF8",
        "Sharding keys are hashed as UTF-8.",
        "Connect with client_encoding = UTF8 and convert in the application.",
    ))
}

/// `key = NULL` selects nothing; under this setting it would select the rows of another shard.
fn check_null_equals(value: Option<&SettingValue>) -> Result<(), SessionError> {
    let Some(SettingValue::Raw(text) | SettingValue::Text(text)) = value else {
        return Ok(());
    };
    // What is not off is on, or an error.
    if super::is_off(text) {
        return Ok(());
    }
    Err(SessionError::unsupported(
        "transform_null_equals is not supported",
        "Keyway finds rows as key = NULL is read in SQL: it is never true.",
        "Write IS NULL.",
    ))
}

/// `'{NULL}'` has an element that is NULL; without this setting the element is a text, which is a key.
fn check_array_nulls(value: Option<&SettingValue>) -> Result<(), SessionError> {
    let Some(SettingValue::Raw(text) | SettingValue::Text(text)) = value else {
        return Ok(());
    };
    if super::is_on(text) {
        return Ok(());
    }
    Err(SessionError::unsupported(
        "array_nulls cannot be turned off",
        "Keyway finds rows as the elements of an array literal are read in SQL: NULL is no text.",
        "Write \"NULL\" in the literal for the text.",
    ))
}

/// Numbers drawn behind it would begin anew on the next server, and other clients would draw from this one.
fn check_seed(value: Option<&SettingValue>) -> Result<(), SessionError> {
    if value.is_none() {
        return Ok(());
    }
    Err(SessionError::unsupported(
        "SET seed is not supported",
        "The random numbers behind it belong to a server's session, which other clients use too.",
        "With pool.mode = \"session\", call setseed().",
    ))
}

/// A name without a schema would be the catalog's before it is the application's.
fn check_search_path(value: Option<&SettingValue>) -> Result<(), SessionError> {
    let Some(SettingValue::Raw(text) | SettingValue::Text(text)) = value else {
        return Ok(());
    };
    let names = super::planner::split_identifiers(text.trim_matches('\''));
    if names.iter().all(|name| name != SCHEMA) {
        return Ok(());
    }
    Err(own_schema("search_path"))
}

/// `"$user"` in the search_path stands for the schema of the role's name.
fn check_role(value: Option<&SettingValue>) -> Result<(), SessionError> {
    let Some(SettingValue::Raw(text) | SettingValue::Text(text)) = value else {
        return Ok(());
    };
    if super::planner::role_named(text) != SCHEMA {
        return Ok(());
    }
    Err(own_schema("the role"))
}

fn own_schema(what: &str) -> SessionError {
    SessionError::unsupported(
        &format!("{what} cannot be keyway"),
        "The schema of this name is Keyway's own, and statements would find its tables before the application's.",
        "Use another schema, or another role.",
    )
}
