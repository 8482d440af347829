//! How a session comes by servers, and gives them back.

use crate::backend::pool::{CheckoutError, Lease, Pool};
use crate::backend::server::{Doubt, ServerState};
use crate::backend::settings::{DATESTYLE, SettingValue, Settings};
use crate::execute::relay::{RelayError, Reply, Script, To, drain, drain_rows};
use crate::route::keep::Spoils;
use crate::route::plan::{Access, Pin, Plan, PlanKind, ShardSet};
use crate::session::Session;
use crate::session::commands::check_setting;
use crate::session::error::SessionError;
use crate::session::planner::PendingSet;
use crate::session::transaction::{Participant, Wrote};
use crate::session::worker::{DECISIVE, Greeting};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::{EncodeError, ErrorFields, SqlState};
use crate::wire::frontend;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

/// A server for a statement, and what is still expected of it: the BEGIN that is glued to its first statement.
pub(super) struct Taken {
    pub(super) lease: Lease,
    pub(super) script: Script,
    /// What set_config() calls of the statements set, should they succeed.
    pub(super) sets: Vec<PendingSet>,
}

impl Taken {
    /// Ready for a statement.
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            script: Script::new(),
            sets: Vec::new(),
        }
    }
}

/// When a server that joins a transaction is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// Before anything else, with an answer of its own.
    First,
    /// In the same write as the statement.
    Together,
}

/// What a statement does, in a participant's words.
pub(super) fn wrote(access: Access) -> Wrote {
    match access {
        // What upkeep does to one shard is nothing to the others.
        Access::Read | Access::Lock | Access::Upkeep => Wrote::Nothing,
        Access::Write => Wrote::Rows,
        Access::Schema => Wrote::Schema,
    }
}

impl Session {
    /// The shard for a plan that one shard answers: where the transaction already is, if it may choose.
    pub(super) fn choose(&self, plan: &Plan) -> ShardId {
        if let Some(only) = plan.shards.only() {
            return only;
        }
        let in_use = self
            .block
            .iter()
            .flat_map(|b| &b.participants)
            .map(|p| p.shard);
        let kept = self.kept.iter().chain(&self.ahead).map(|(shard, _)| *shard);
        if let Some(shard) = in_use
            .chain(kept)
            .find(|shard| plan.shards.contains(*shard))
        {
            return shard;
        }
        let turn = self.worker.next_turn() % plan.shards.len().max(1);
        let in_turn = || {
            plan.shards
                .iter()
                .skip(turn)
                .chain(plan.shards.iter().take(turn))
        };
        let reachable = in_turn().find(|shard| !self.is_failing(*shard));
        reachable.or_else(|| in_turn().next()).unwrap_or(ShardId(0))
    }

    /// Could a server of this shard not be connected to, or is nothing sent to it?
    pub(super) fn is_failing(&self, shard: ShardId) -> bool {
        if self.topology.behind.contains_key(&shard) {
            return true;
        }
        let pool = self.worker.pool(&self.topology, &self.pools, shard);
        pool.is_some_and(|(pool, _)| pool.is_failing())
    }

    /// As [`Session::choose`], passing over shards that cannot be reached: their answer would be the same.
    pub(super) async fn choose_reachable(&mut self, plan: &Plan) -> Result<ShardId, SessionError> {
        let first = self.choose(plan);
        if self.block.is_some()
            || plan.shards.len() < 2
            || self.kept.iter().any(|(s, _)| *s == first)
        {
            return Ok(first);
        }
        let settings = Arc::clone(&self.settings);
        let mut failed = None;
        let others = plan.shards.iter().filter(|shard| *shard != first);
        for shard in std::iter::once(first).chain(others) {
            match self.check_out(shard, &settings).await {
                Ok(lease) => {
                    self.ahead.push((shard, lease));
                    return Ok(shard);
                }
                Err(error @ SessionError::Statement(_)) if !error.is_canceled() => {
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(first), Err)
    }

    /// A server on `shard` for a statement that does `access`: the transaction's, joining it if need be, or one of
    /// its own.
    ///
    /// Cancel safe: a server that is being prepared is closed.
    pub(super) async fn take(
        &mut self,
        shard: ShardId,
        access: Access,
    ) -> Result<Taken, SessionError> {
        let spoils = unknown(access);
        self.take_joining(shard, access, &spoils, Joining::First)
            .await
    }

    /// As [`Session::take`], for a statement that changes no more than `spoils` says.
    pub(super) async fn take_to_change(
        &mut self,
        shard: ShardId,
        access: Access,
        spoils: &Spoils,
    ) -> Result<Taken, SessionError> {
        self.take_joining(shard, access, spoils, Joining::First)
            .await
    }

    /// As [`Session::take`], for a statement that is sent at once: the BEGIN of a transaction that joins goes with it.
    pub(super) async fn take_and_begin(
        &mut self,
        shard: ShardId,
        access: Access,
        spoils: &Spoils,
    ) -> Result<Taken, SessionError> {
        self.take_joining(shard, access, spoils, Joining::Together)
            .await
    }

    /// What the statement changes is marked on its server, from before it is sent until its transaction is over.
    async fn take_joining(
        &mut self,
        shard: ShardId,
        access: Access,
        spoils: &Spoils,
        joining: Joining,
    ) -> Result<Taken, SessionError> {
        let held = self.tell_others(spoils, &[shard]).await?;
        let mut taken = self.take_unmarked(shard, access, joining).await?;
        self.mark(&mut taken.lease, shard, spoils, held);
        Ok(taken)
    }

    async fn take_unmarked(
        &mut self,
        shard: ShardId,
        access: Access,
        joining: Joining,
    ) -> Result<Taken, SessionError> {
        if self.block.is_none() {
            let settings = Arc::clone(&self.settings);
            let lease = self.check_out(shard, &settings).await?;
            return Ok(Taken::new(lease));
        }
        self.may_take_part(shard, access)?;
        let block = self.block.as_mut().expect("checked above");
        if let Some(participant) = block.participant(shard) {
            participant.wrote = participant.wrote.max(wrote(access));
            return match participant.lease.take() {
                Some(lease) => Ok(Taken::new(lease)),
                None => Err(SessionError::refuse(
                    SqlState::CONNECTION_FAILURE,
                    format!(
                        "the transaction's connection to shard {} was lost",
                        self.shard_name(shard)
                    ),
                )),
            };
        }
        Box::pin(self.join(shard, access, joining)).await
    }

    /// Cross-shard commit does not exist yet: one shard may write. One snapshot is one shard's.
    fn may_take_part(&self, shard: ShardId, access: Access) -> Result<(), SessionError> {
        let Some(block) = &self.block else {
            return Ok(());
        };
        let writes = wrote(access);
        if writes > Wrote::Nothing
            && let Some(other) = block.other_writer(shard, writes)
        {
            return Err(SessionError::unsupported(
                "a transaction cannot write on a second shard",
                &format!(
                    "It has written on shard {}, and this statement writes on shard {}.",
                    self.shard_name(other),
                    self.shard_name(shard)
                ),
                "Write rows of one shard in a transaction; cross-shard commit is not part of this version.",
            ));
        }
        if block.one_snapshot && block.participants.iter().any(|p| p.shard != shard) {
            return Err(SessionError::unsupported(
                "a REPEATABLE READ or SERIALIZABLE transaction cannot use a second shard",
                &format!(
                    "It has used shard {}, and this statement needs shard {}: their snapshots would differ.",
                    self.shard_name(block.participants[0].shard),
                    self.shard_name(shard)
                ),
                "Use READ COMMITTED, or keep the transaction on one shard.",
            ));
        }
        Ok(())
    }

    /// A server of the pool joins the transaction.
    async fn join(
        &mut self,
        shard: ShardId,
        access: Access,
        joining: Joining,
    ) -> Result<Taken, SessionError> {
        let block = self.block.as_ref().expect("only a transaction is joined");
        let (before, begin, log) = (
            Arc::clone(&block.before),
            block.begin.clone(),
            block.log.clone(),
        );
        let customs = block.customs.clone();
        let mut taken = Taken::new(self.check_out(shard, &before).await?);
        for name in &customs {
            taken.lease.touched_custom(name);
        }
        if joining == Joining::Together && log.is_empty() {
            append_begin(&mut taken.lease, &begin);
            taken.script.expect(Reply::Begin, To::Nobody);
        } else if let Err(error) = self
            .begin_first(shard, &mut taken.lease, &begin, &log)
            .await
        {
            // One that did not begin is idle: let go, not just dropped, as a cancel request may be on its way to it.
            self.let_go(shard, taken.lease);
            return Err(error);
        }
        let block = self.block.as_mut().expect("still in the transaction");
        block.participants.push(Participant {
            shard,
            lease: None,
            wrote: wrote(access),
        });
        Ok(taken)
    }

    /// Begins a transaction on a server, and sets its scene there.
    async fn begin_first(
        &mut self,
        shard: ShardId,
        lease: &mut Lease,
        begin: &str,
        log: &[String],
    ) -> Result<(), SessionError> {
        for statement in std::iter::once(begin).chain(log.iter().map(String::as_str)) {
            append_query(lease, statement)?;
            lease.expect_syncs(1);
        }
        let name = self.shard_name(shard).to_owned();
        self.settle(lease, &name).await
    }

    /// Sends what waits and reads what is owed; an error of the server is the statement's.
    pub(super) async fn settle(
        &mut self,
        lease: &mut Lease,
        shard: &str,
    ) -> Result<(), SessionError> {
        lease
            .flush()
            .await
            .map_err(|source| self.lost(shard, source))?;
        match drain(lease, shard).await? {
            None => Ok(()),
            Some(error) => Err(SessionError::Statement(Some(error))),
        }
    }

    /// Sends what waits and reads what is owed; returns the first error among it.
    pub(super) async fn hear(
        &mut self,
        shard: ShardId,
        mut lease: Lease,
    ) -> Result<(Lease, Option<Box<ErrorFields>>), SessionError> {
        let name = self.shard_name(shard).to_owned();
        let result = match lease.flush().await {
            Ok(()) => drain(&mut lease, &name).await.map_err(SessionError::from),
            Err(source) => Err(self.lost(&name, source)),
        };
        match result {
            Ok(said) => Ok((lease, said)),
            Err(error) => {
                self.give_back(shard, lease);
                Err(error)
            }
        }
    }

    /// The statement's server is gone before it answered.
    pub(super) fn lost(&self, shard: &str, source: std::io::Error) -> SessionError {
        crate::execute::relay::RelayError::ServerLost {
            shard: shard.to_owned(),
            source,
            told: false,
        }
        .into()
    }

    /// A server on `shard` with these settings applied, kept from before or from the pool.
    pub(super) async fn check_out(
        &mut self,
        shard: ShardId,
        settings: &Arc<Settings>,
    ) -> Result<Lease, SessionError> {
        let mut tries = 0;
        loop {
            let mut lease = self.server_at_hand(shard, settings).await?;
            if Arc::ptr_eq(lease.settings(), settings) {
                return Ok(lease);
            }
            tries += 1;
            match Box::pin(self.apply_settings(shard, &mut lease, settings)).await {
                Ok(()) => return Ok(lease),
                // Its last session's statement_timeout has ended what would have reset it.
                Err(SessionError::Statement(Some(fields)))
                    if tries < APPLY_TRIES
                        && fields.is(SqlState::QUERY_CANCELED)
                        && !self.cancel.was_sent() =>
                {
                    self.cancel.remove(lease.cancel_key.pid);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A server on `shard`, kept from before or from the pool, with the settings of whoever had it last.
    async fn server_at_hand(
        &mut self,
        shard: ShardId,
        settings: &Arc<Settings>,
    ) -> Result<Lease, SessionError> {
        if self.again.is_some() && self.asking.is_none() {
            // Without a client nothing is run but what is asked for to be kept, whatever a list of questions says.
            return Err(SessionError::refuse(
                SqlState::FEATURE_NOT_SUPPORTED,
                "without a client only queries whose answers are kept are asked",
            ));
        }
        let at_hand = |servers: &mut Vec<(ShardId, Lease)>| {
            let index = servers.iter().position(|(held, _)| *held == shard)?;
            Some(servers.swap_remove(index).1)
        };
        if let Some(lease) = at_hand(&mut self.kept).or_else(|| at_hand(&mut self.ahead)) {
            return Ok(lease);
        }
        if let Some(what) = self.topology.behind.get(&shard) {
            return Err(self.is_behind(shard, what));
        }
        let Some((pool, address)) = self.worker.pool(&self.topology, &self.pools, shard) else {
            return Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                "the plan names a shard that the topology does not have",
            ));
        };
        let waited = if self.is_out_of_order(shard) {
            let waits = pool.check_out_of_order(settings, &mut self.reserve);
            self.cancel.unless_canceled(Box::pin(waits)).await
        } else {
            self.cancel.unless_canceled(pool.check_out(settings)).await
        };
        let waited = waited.ok_or_else(SessionError::canceled)?;
        self.is_unreachable = waited.as_ref().is_err_and(CheckoutError::is_unreachable);
        let mut lease = waited?;
        self.cancel.add_server(address, &lease);
        // What its last session had is nothing to this one.
        lease.take_aside();
        Ok(lease)
    }

    /// The shard has another schema than the statement was written for.
    #[cold]
    fn is_behind(&self, shard: ShardId, what: &str) -> SessionError {
        let message = format!("shard {} is not up to date", self.shard_name(shard));
        let fields = ErrorFields::error(SqlState::CANNOT_CONNECT_NOW, message)
            .detail(what)
            .hint("Run `keyway migrate status`, and `keyway migrate up` to run what is missing.");
        SessionError::Statement(Some(Box::new(fields)))
    }

    /// May waiting for a server of this shard close a circle of waiting sessions? Every circle has a session in it that
    /// holds a server of a shard behind the one it waits for. Who has the reserve already waits for nobody.
    fn is_out_of_order(&self, shard: ShardId) -> bool {
        if self.reserve.strong_count() > 0 {
            return true;
        }
        let participants = self.block.iter().flat_map(|b| &b.participants);
        let held = self.kept.iter().chain(&self.ahead);
        participants
            .map(|p| p.shard)
            .chain(held.map(|(held, _)| *held))
            .any(|held| held > shard)
    }

    /// Takes the servers of several statements to come, in shard order: in that order nobody waits for whom he keeps
    /// waiting.
    pub(super) async fn take_ahead(
        &mut self,
        shards: &std::collections::BTreeSet<ShardId>,
    ) -> Result<(), SessionError> {
        let settings = match &self.block {
            Some(block) => Arc::clone(&block.before),
            None => Arc::clone(&self.settings),
        };
        for shard in shards {
            let joined = self.block.as_mut().and_then(|b| b.participant(*shard));
            if joined.is_none() {
                let lease = self.check_out(*shard, &settings).await?;
                self.ahead.push((*shard, lease));
            }
        }
        Ok(())
    }

    /// Gives back servers that were taken ahead and not used.
    pub(super) fn give_back_ahead(&mut self) {
        for (shard, lease) in std::mem::take(&mut self.ahead) {
            self.let_go(shard, lease);
        }
    }

    /// Takes a server from what its last session had set to `settings`.
    async fn apply_settings(
        &mut self,
        shard: ShardId,
        lease: &mut Lease,
        settings: &Arc<Settings>,
    ) -> Result<(), SessionError> {
        if let Some(sql) = lease.settings().difference(settings) {
            append_query(lease, &sql)?;
            lease.expect_syncs(1);
            let name = self.shard_name(shard).to_owned();
            if let Err(error) = self.settle(lease, &name).await {
                // Some of the settings may be applied, others not.
                lease.doubt(Doubt::SessionState);
                return Err(error);
            }
        }
        lease.set_settings(settings);
        lease.take_aside();
        Ok(())
    }

    /// The statement is through: the server stays with the transaction, or with the session if something pins it, or
    /// goes back to its pool. A server that is not in sync is closed by that.
    pub(super) fn give_back(&mut self, shard: ShardId, mut lease: Lease) {
        if let Some(block) = self.block.as_mut() {
            let in_block = matches!(
                lease.state(),
                ServerState::InTransaction | ServerState::Failed | ServerState::Busy { .. }
            );
            let failed = !in_block || lease.state() == ServerState::Failed;
            if let Some(participant) = block.participant(shard) {
                if in_block {
                    participant.lease = Some(lease);
                } else {
                    // It left the transaction behind our back, or broke: its part is lost.
                    lease.doubt(Doubt::SessionState);
                }
                block.failed |= failed;
                return;
            }
        }
        self.let_go(shard, lease);
    }

    /// A server leaves the session's transaction or statement.
    pub(super) fn let_go(&mut self, shard: ShardId, mut lease: Lease) {
        if lease.is_marked() {
            if lease.state() == ServerState::Idle {
                // It was marked for a statement that was not sent after all.
                lease.wrote();
            }
            self.outlived |= lease.take_outlived();
        }
        if self.pinned.contains(shard) || self.worker_keeps {
            if lease.state() == ServerState::Idle {
                // It holds state of this session, so it is closed when the session ends.
                lease.retire();
                self.kept.push((shard, lease));
                return;
            }
            self.pinned_lost |= self.pinned.contains(shard);
        }
        self.cancel.remove(lease.cancel_key.pid);
        if self.cancel.was_sent() {
            lease.retire();
        }
        drop(lease);
        self.cancel.clear_when_empty();
    }

    /// From now on the server on `shard` stays with this session.
    pub(super) fn pin(&mut self, shard: ShardId, reason: Pin) {
        if reason == Pin::Opaque {
            self.temporaries.may_come();
        }
        if !self.pinned.contains(shard) {
            tracing::debug!(
                ?reason,
                shard = self.shard_name(shard),
                "a session keeps its server"
            );
            self.pinned.insert(shard);
        }
    }

    /// As [`Session::pin`], for a message of the batch at hand that has not been sent yet.
    pub(super) fn pin_by_item(&mut self, item: usize, shard: ShardId, reason: Pin) {
        if !self.pinned.contains(shard) {
            self.notes().pinned.push((item, shard));
        }
        self.pin(shard, reason);
    }

    /// The batch at hand has failed: a message that was not reached has done nothing that would pin a server.
    pub(super) fn unpin_unreached(&mut self) {
        let notes = self.notes();
        let done = notes.items_done;
        let unreached: ShardSet = notes
            .pinned
            .drain(..)
            .filter(|(item, _)| *item > done)
            .map(|(_, shard)| shard)
            .collect();
        if !unreached.is_empty() {
            let rest = self.pinned.iter();
            self.pinned = rest.filter(|shard| !unreached.contains(*shard)).collect();
        }
    }

    /// Must this plan be split, or does one server answer it?
    pub(super) fn is_for_one(plan: &Plan) -> bool {
        matches!(plan.kind, PlanKind::Single | PlanKind::Any) || plan.shards.len() == 1
    }

    /// A shard's name, for errors.
    pub(super) fn shard_name(&self, shard: ShardId) -> &str {
        self.topology
            .shards
            .get(usize::from(shard.0))
            .map_or("?", |s| s.name.as_str())
    }
}

/// What a statement changes of which nothing else is known.
fn unknown(access: Access) -> Spoils {
    match access {
        Access::Read | Access::Lock => Spoils::Nothing,
        Access::Write | Access::Schema | Access::Upkeep => Spoils::Everything,
    }
}

/// Servers that may fail to take a session's settings for a reason of their own before the session hears of it.
const APPLY_TRIES: usize = 3;

/// Appends a BEGIN by the extended protocol, without a Sync. Should it fail, a canceled one say, the server skips what
/// was sent with it up to the next Sync (manual §55.2.3), so that no statement runs outside its transaction.
pub(super) fn append_begin(lease: &mut Lease, begin: &str) {
    lease.unnamed = None;
    let out = &mut lease.outbox;
    let none = std::iter::empty::<Option<&[u8]>>();
    frontend::parse(out, "", begin, &[])
        .and_then(|()| frontend::bind(out, "", "", &[], none, &[]))
        .and_then(|()| frontend::execute(out, "", 0))
        .expect("a BEGIN is short");
}

/// Appends a simple Query to a server's outbox.
pub(super) fn append_query(lease: &mut Lease, sql: &str) -> Result<(), SessionError> {
    // A simple Query ends the unnamed statement (manual §55.2.3).
    lease.unnamed = None;
    frontend::query(&mut lease.outbox, sql).map_err(|error| given_up(lease, error))
}

/// Appends a Parse of the unnamed statement, and a Sync.
pub(super) fn append_parse(lease: &mut Lease, sql: &str) -> Result<(), SessionError> {
    lease.unnamed = None;
    frontend::parse(&mut lease.outbox, "", sql, &[]).map_err(|error| given_up(lease, error))?;
    frontend::sync(&mut lease.outbox);
    lease.expect_syncs(1);
    Ok(())
}

/// A server that is dropped because of a text that cannot be sent is not for another session: it may be canceled yet.
fn given_up(lease: &mut Lease, error: EncodeError) -> SessionError {
    lease.retire();
    error.into()
}

/// Asks a server what a session with these settings is told at login.
pub(super) async fn greet(
    pool: &Rc<Pool>,
    settings: &Arc<Settings>,
) -> Result<Greeting, SessionError> {
    let mut lease = pool.check_out(settings).await?;
    let shard = pool.address.shard.clone();
    if let Some(sql) = lease.settings().difference(settings) {
        append_query(&mut lease, &sql)?;
        lease.expect_syncs(1);
        flush_and_drain(&mut lease, &shard).await?;
    }
    lease.set_settings(settings);
    let asked: String = DECISIVE
        .iter()
        .map(|name| format!(", pg_catalog.current_setting('{name}')"))
        .collect();
    append_query(
        &mut lease,
        &format!("SELECT current_user, pg_catalog.current_setting('extra_float_digits'){asked}"),
    )?;
    lease.expect_syncs(1);
    let row = flush_and_drain(&mut lease, &shard).await?;
    let mut columns = row
        .iter()
        .flat_map(|row| reply::columns(row))
        .map(|column| match column {
            Ok(Some(value)) => String::from_utf8_lossy(value).into_owned(),
            _ => String::new(),
        });
    let user = columns.next();
    let extra_float_digits = columns
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    let mut startup = Settings::clone(settings);
    for (name, value) in DECISIVE.iter().zip(columns) {
        // A client may have given one part of DateStyle.
        if startup.get(name).is_none() || *name == DATESTYLE {
            let value = Some(SettingValue::Text(value));
            check_default(name, value.as_ref(), &shard)?;
            startup = startup.with(name, value);
        }
    }
    let role = user.clone().map(SettingValue::Text);
    check_default("role", role.as_ref(), &shard)?;
    // What it said of parameters is in its greeting, and nobody else's to hear.
    lease.take_aside();
    let mut parameters: Vec<(String, String)> = lease
        .parameters
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    parameters.sort();
    Ok(Greeting {
        parameters,
        user,
        startup: Arc::new(startup),
        extra_float_digits,
    })
}

/// A default that Keyway would read statements otherwise by than the server does, and that the client has not set.
fn check_default(
    name: &str,
    value: Option<&SettingValue>,
    shard: &str,
) -> Result<(), SessionError> {
    check_setting(name, value).map_err(|error| match error {
        SessionError::Statement(Some(fields)) => {
            let hint = format!(
                "It is so by default on shard {shard}: change it there with ALTER DATABASE or ALTER ROLE, or set it in the \
                 connection's options."
            );
            SessionError::Statement(Some(Box::new(fields.hint(hint))))
        }
        other => other,
    })
}

/// Sends what waits, reads what is owed, and returns the body of the first row. A server that objects is closed.
async fn flush_and_drain(lease: &mut Lease, shard: &str) -> Result<Option<Bytes>, SessionError> {
    let lost = |source| RelayError::ServerLost {
        shard: shard.to_owned(),
        source,
        told: false,
    };
    lease.flush().await.map_err(lost)?;
    let mut row = None;
    match drain_rows(lease, shard, |body| {
        row = row.take().or(Some(Bytes::copy_from_slice(body)))
    })
    .await?
    {
        None => Ok(row),
        Some(error) => {
            lease.doubt(Doubt::SessionState);
            Err(SessionError::Statement(Some(error)))
        }
    }
}
