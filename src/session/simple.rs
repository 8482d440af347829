//! The simple protocol: a message of statements, answered one after the other, ended by one ReadyForQuery.

use crate::backend::pool::Lease;
use crate::backend::settings::SettingValue;
use crate::cache::results::reply::Asked;
use crate::execute::relay::{Position, RelayError, Relayed, Reply, Tags, To, relay};
use crate::execute::scatter::Describe;
use crate::metrics::Outcome;
use crate::route::choose::made::MadeKeys;
use crate::route::keep::Spoils;
use crate::route::key::NoParams;
use crate::route::plan::{Access, Plan, PlanKind};
use crate::session::Session;
use crate::session::commands::{as_it_became, set_text};
use crate::session::cursors::CursorStatement;
use crate::session::error::SessionError;
use crate::session::own::own_command;
use crate::session::planner::PendingSet;
use crate::session::portal::CursorChange;
use crate::session::sequences::asks_for_value;
use crate::session::servers::{Taken, append_parse, append_query};
use crate::session::transaction::BlockKind;
use crate::statement::command::{self, Command, Scope, SetValue};
use crate::statement::parse::parse;
use crate::statement::scan::{Scanned, Verb, scan, shape};
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frontend;
use bytes::Bytes;
use smallvec::SmallVec;
use std::sync::Arc;

/// Who ends a statement's reply with ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The server's own is the client's.
    Server,
    /// Keyway says it later.
    Keyway,
}

/// ReadyForQuery has been said?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Said,
    Due,
}

/// When a statement's CommandComplete is said. The last of a message has to wait for the commit that follows it: should
/// that fail, PostgreSQL does not say it (exec_simple_query).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum LastTag {
    #[default]
    AtOnce,
    /// Later: the tag, once there is one.
    Waits(Option<String>),
}

impl LastTag {
    /// What becomes of a server's.
    pub(super) fn of_server(&self) -> Tags {
        match self {
            Self::AtOnce => Tags::Passed,
            Self::Waits(_) => Tags::Kept,
        }
    }
}

impl Session {
    /// Answers a Query message.
    pub(super) async fn simple_query(&mut self, message: &Bytes) -> Result<(), SessionError> {
        self.sync_void = false;
        self.names.unnamed = None;
        let result = match frontend::text(&message[5..]) {
            Ok(text) => self.statements(text, message).await,
            Err(error) => Err(SessionError::from_client_error(&error)),
        };
        self.simple_ended(result).await
    }

    /// Ends a Query message: its error, if it failed, and ReadyForQuery, if no server's was passed on.
    pub(super) async fn simple_ended(
        &mut self,
        result: Result<Ready, SessionError>,
    ) -> Result<(), SessionError> {
        let ready = match result {
            Ok(ready) => ready,
            Err(SessionError::Statement(fields)) => {
                self.last_tag = LastTag::AtOnce;
                if let Some(fields) = fields {
                    self.say_error(&fields);
                }
                self.fail_block();
                Ready::Due
            }
            Err(SessionError::Unparsed(fields, own)) => {
                self.last_tag = LastTag::AtOnce;
                Box::pin(self.say_unparsed(*fields, &own)).await?;
                Ready::Due
            }
            Err(other) => return Err(other),
        };
        if ready == Ready::Due {
            let mut ended = Ok(());
            if self.in_implicit_block() {
                ended = Box::pin(self.end_implicit_or_fail()).await;
            }
            match (ended, std::mem::take(&mut self.last_tag)) {
                (Ok(()), LastTag::Waits(Some(tag))) => self.complete(&tag),
                (Ok(()), _) | (Err(SessionError::Statement(None)), _) => {}
                (Err(SessionError::Statement(Some(fields))), _) => self.say_error(&fields),
                (Err(other), _) => return Err(other),
            }
            self.say_ready();
        }
        if self.block.as_ref().is_none_or(|block| !block.failed) {
            // The first statement that PostgreSQL runs takes the place of the unnamed portal.
            self.names.unnamed_portal = None;
        }
        // Only in a batch is there a Sync that COPY data makes void.
        self.sync_void = false;
        if self.block.is_none() {
            self.names.transaction_ended();
        }
        Ok(())
    }

    async fn statements(&mut self, text: &str, message: &Bytes) -> Result<Ready, SessionError> {
        let statements = scan(text, self.scan_settings())
            .map_err(|error| SessionError::refuse(SqlState::SYNTAX_ERROR, error.to_string()))?;
        let real: SmallVec<[&Scanned; 1]> = statements
            .iter()
            .filter(|s| s.verb != Verb::Empty)
            .collect();
        match real.as_slice() {
            [] => {
                reply::empty_query_response(&mut self.client.outbox);
                Ok(Ready::Due)
            }
            [one] => {
                self.own_at = characters_before(text, one);
                let ready = self
                    .statement(text, one, Some(message), Ending::Server)
                    .await?;
                self.learn(text, one);
                Ok(ready)
            }
            several => Box::pin(self.several(text, several, message)).await,
        }
    }

    /// Several statements in one message.
    async fn several(
        &mut self,
        text: &str,
        several: &[&Scanned],
        message: &Bytes,
    ) -> Result<Ready, SessionError> {
        if let Some(ready) = self.all_on_one(text, several, message).await? {
            return Ok(ready);
        }
        self.is_read_alike(text, several)?;
        // PostgreSQL parses the whole message before it runs any of it.
        for scanned in several {
            self.must_parse(text, scanned).await?;
        }
        let asks = !self.worker_keeps && asks_for_value(text);
        let (mut seen, mut characters) = (0, 0);
        for (index, scanned) in several.iter().enumerate() {
            let begins = self.block.is_none();
            if begins {
                self.open_block(BlockKind::Message);
            }
            if asks && (begins || index == 0) {
                self.forget_sequences().await?;
            }
            characters += text[seen..scanned.range.start].chars().count();
            seen = scanned.range.start;
            self.own_at = i64::try_from(characters).unwrap_or(i64::MAX);
            if index + 1 == several.len() {
                self.last_tag = LastTag::Waits(None);
            }
            self.statement(text, scanned, None, Ending::Keyway).await?;
            self.look_around()?;
        }
        Ok(Ready::Due)
    }

    /// The message was taken apart by `standard_conforming_strings` as it is, so none but its last statement may change
    /// it: PostgreSQL would have read all of it by the old value, and a server reads each piece by itself.
    fn is_read_alike(&self, text: &str, several: &[&Scanned]) -> Result<(), SessionError> {
        const DECIDES: &str = "standard_conforming_strings";
        let settings = self.scan_settings();
        let others = several.split_last().map_or(&[][..], |(_, others)| others);
        let changes = |scanned: &&Scanned| {
            let own = &text[scanned.range.clone()];
            match command::command(own, scanned.verb, settings) {
                Ok(Command::Set { name, value, .. }) if name == DECIDES => match value {
                    SetValue::Values(words) => words.first().is_none_or(|word| {
                        super::is_off(&word.text) == settings.standard_conforming_strings
                    }),
                    _ => true,
                },
                Ok(Command::Reset(Some(name))) => name == DECIDES,
                Ok(Command::Reset(None) | Command::Discard(_)) => {
                    self.startup.get(DECIDES) != self.effective().get(DECIDES)
                }
                _ => false,
            }
        };
        if !others.iter().filter(|s| is_command(s.verb)).any(changes) {
            return Ok(());
        }
        Err(SessionError::unsupported(
            "standard_conforming_strings cannot change in the middle of a message",
            "How the statements behind it are to be read depends on it.",
            "Send it in a message of its own.",
        ))
    }

    /// Can Keyway read a statement by itself?
    pub(super) fn is_understood(&self, text: &str, scanned: &Scanned) -> bool {
        if is_command(scanned.verb) || is_cursor_or_channel(scanned.verb) {
            let own = &text[scanned.range.clone()];
            command::command(own, scanned.verb, self.scan_settings()).is_ok()
        } else {
            parse(&shape(text, scanned), scanned.verb).is_ok()
        }
    }

    /// In a failed block PostgreSQL parses a statement before it refuses it.
    fn refuse_unless_unreadable(&self, text: &str, scanned: &Scanned) -> Result<(), SessionError> {
        let own = || in_its_place(text, scanned);
        self.refuse_in_failed_block()
            .map_err(|refusal| match refusal {
                SessionError::Statement(Some(fields)) if !self.is_understood(text, scanned) => {
                    SessionError::Unparsed(fields, own())
                }
                refusal => refusal,
            })
    }

    /// A statement that cannot be read fails its whole message.
    async fn must_parse(&mut self, text: &str, scanned: &Scanned) -> Result<(), SessionError> {
        if self.is_understood(text, scanned) {
            return Ok(());
        }
        // What is not understood goes by the rules for such statements, unless a server finds it wrong.
        match self.syntax_error(&text[scanned.range.clone()]).await? {
            Some(mut fields) => {
                Position::Further(characters_before(text, scanned)).correct(&mut fields);
                Err(SessionError::Statement(Some(fields)))
            }
            None => self.make_recipe(text, scanned).map(drop),
        }
    }

    /// What a server finds wrong with a text's syntax. The transaction does not notice: a name that an earlier
    /// statement of the message will create must not fail it.
    async fn syntax_error(&mut self, own: &str) -> Result<Option<Box<ErrorFields>>, SessionError> {
        const GUARD: &str = "SAVEPOINT keyway_syntax";
        const UNDO: &str = "ROLLBACK TO SAVEPOINT keyway_syntax; RELEASE SAVEPOINT keyway_syntax";
        let held = self.transaction_shard();
        let (shard, mut lease) = match held {
            Some(shard) => (shard, self.take(shard, Access::Read).await?.lease),
            None => {
                let settings = Arc::clone(self.effective());
                let shard = self.home()?;
                (shard, self.check_out(shard, &settings).await?)
            }
        };
        if held.is_some() {
            append_query(&mut lease, GUARD)?;
            lease.expect_syncs(1);
        }
        append_parse(&mut lease, own)?;
        if held.is_some() {
            append_query(&mut lease, UNDO)?;
            lease.expect_syncs(1);
        }
        let (lease, said) = self.hear(shard, lease).await?;
        self.give_back(shard, lease);
        Ok(said.filter(|fields| fields.is(SqlState::SYNTAX_ERROR)))
    }

    /// Several plain statements that all belong to one shard go there as they came: PostgreSQL itself gives them their
    /// implicit transaction.
    async fn all_on_one(
        &mut self,
        text: &str,
        statements: &[&Scanned],
        message: &Bytes,
    ) -> Result<Option<Ready>, SessionError> {
        if self.block.is_some() || !statements.iter().all(|s| s.verb.is_plain()) {
            return Ok(None);
        }
        let mut shard = None;
        let mut access = Access::Read;
        let mut spoils = Spoils::Nothing;
        let mut flexible = None;
        for scanned in statements {
            let Ok(plan) = self.plan_simple(text, scanned) else {
                return Ok(None);
            };
            let ordinary = Self::is_for_one(&plan)
                && plan.text.is_none()
                && plan.pin.is_none()
                && plan.after.is_empty()
                && !plan.access.is_of_each_shard()
                && self.pending_sets.is_empty();
            if !ordinary {
                return Ok(None);
            }
            if plan.access == Access::Write {
                access = Access::Write;
            }
            spoils = spoils.and(plan.spoils.clone());
            match (plan.shards.only(), shard) {
                (Some(only), None) => shard = Some(only),
                (Some(only), Some(chosen)) if only != chosen => return Ok(None),
                (Some(_), Some(_)) => {}
                (None, _) => flexible = Some(plan),
            }
        }
        if let (Some(chosen), Some(plan)) = (shard, &flexible)
            && !plan.shards.contains(chosen)
        {
            return Ok(None);
        }
        let Some(shard) = shard.or_else(|| flexible.map(|plan| self.choose(&plan))) else {
            return Ok(None);
        };
        let text = QueryText::Message(message);
        self.relay_query(shard, (access, &spoils), text, Vec::new(), Ending::Server)
            .await?;
        Ok(Some(Ready::Said))
    }

    /// Answers one statement of a message.
    pub(super) async fn statement(
        &mut self,
        text: &str,
        scanned: &Scanned,
        message: Option<&Bytes>,
        ending: Ending,
    ) -> Result<Ready, SessionError> {
        let own = &text[scanned.range.clone()];
        if is_command(scanned.verb) {
            return match command::command(own, scanned.verb, self.scan_settings()) {
                Ok(command) => {
                    let hints = scanned.hints.clone();
                    Box::pin(self.simple_command(command, own, hints, ending)).await
                }
                // The genuine syntax error is a server's to give.
                Err(_) => {
                    self.refuse_unless_unreadable(text, scanned)?;
                    let own = in_its_place(text, scanned);
                    Box::pin(self.syntax_error_of_a_server(&own)).await
                }
            };
        }
        self.refuse_unless_unreadable(text, scanned)?;
        if let Some(command) = own_command(own, scanned, self.scan_settings()) {
            self.say_own_columns(&command);
            Box::pin(self.bound_command(command, own, own)).await?;
            return Ok(Ready::Due);
        }
        let plan = match self.cursor_statement(own, scanned, &NoParams)? {
            CursorStatement::None => match self.plan_simple(text, scanned) {
                Ok(plan) => plan,
                Err(error) => match self.keys_to_make(text, scanned) {
                    Some(made) => return Box::pin(self.insert_with_keys(&made, own, ending)).await,
                    None => return Err(error),
                },
            },
            CursorStatement::Forward(plan, declare) => {
                let shard = self.choose(&plan);
                if declare.hold || self.counts_as_block() {
                    self.refuse_second_cursor(shard, &declare)?;
                }
                let ready = Box::pin(self.run_simple(own, message, *plan, ending)).await?;
                if self.outcome != Outcome::Failed {
                    self.cursor_changed(shard, &CursorChange::Declares(declare));
                }
                return Ok(ready);
            }
            CursorStatement::Declare(declare, plan, query) => {
                Box::pin(self.declare_own(&declare, &plan, &query)).await?;
                return Ok(Ready::Due);
            }
            CursorStatement::Own(command) => {
                let tag = Box::pin(self.use_own_cursor(command, Describe::Yes)).await?;
                self.complete(&tag);
                return Ok(Ready::Due);
            }
        };
        if self.worker.results.is_some() && message.is_some() && ending == Ending::Server {
            let keeps = plan.keeps.as_ref().map_err(|why| *why);
            let keeps = keeps.map(|keep| (&plan.shards, keep));
            let kept = Box::pin(self.answer_kept(keeps, text, scanned, None, Asked::Query));
            if let Some(entry) = kept.await? {
                self.tell_kept(&entry, Asked::Query);
                return Ok(Ready::Said);
            }
        }
        let closes = self.closes(own, scanned);
        let ready = self.run_simple(own, message, plan, ending).await?;
        if let (Some(CursorChange::Closes(name)), true) = (closes, self.outcome != Outcome::Failed)
        {
            self.names.portals.remove(&name);
        }
        Ok(ready)
    }

    /// An INSERT that leaves its sharding key to the default.
    async fn insert_with_keys(
        &mut self,
        made: &MadeKeys,
        own: &str,
        ending: Ending,
    ) -> Result<Ready, SessionError> {
        let text = self.with_keys(made, own, None).await?;
        let scanned = self.one_statement(&text)?;
        let mut plan = self.plan_simple(&text, &scanned)?;
        plan.text = Some(text);
        self.run_simple(own, None, plan, ending).await
    }

    /// Runs a planned statement of the simple protocol.
    pub(super) async fn run_simple(
        &mut self,
        own: &str,
        message: Option<&Bytes>,
        plan: Plan,
        ending: Ending,
    ) -> Result<Ready, SessionError> {
        self.note_plan(plan.kind);
        let sets = std::mem::take(&mut self.pending_sets);
        if plan.outside_transaction && self.block.as_ref().is_some_and(|b| !b.is_implicit()) {
            return Err(SessionError::refuse(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "this statement cannot run inside a transaction block",
            ));
        }
        self.must_parse_to_pin(own, message, &plan).await?;
        if !Self::is_for_one(&plan) {
            return match plan.kind {
                PlanKind::Scatter => Box::pin(self.scatter_simple(own, plan)).await,
                _ => Box::pin(self.broadcast_simple(own, plan)).await,
            };
        }
        if plan.access.is_of_each_shard() {
            // After it every plan may be another one.
            return Box::pin(self.broadcast_simple(own, plan)).await;
        }
        let shard = match plan.kind {
            PlanKind::Any => self.choose_reachable(&plan).await?,
            _ => self.choose(&plan),
        };
        if let Some(pin) = plan.pin {
            self.pin(shard, pin);
        }
        let text = match (&plan.text, message) {
            (Some(text), _) => QueryText::Rewritten(text),
            (None, Some(message)) => QueryText::Message(message),
            (None, None) => QueryText::Part(own, self.own_at),
        };
        // In an implicit block the server's ReadyForQuery is not the client's.
        let said = ending == Ending::Server && !self.in_implicit_block();
        self.relay_query(shard, (plan.access, &plan.spoils), text, sets, ending)
            .await?;
        Ok(if said { Ready::Said } else { Ready::Due })
    }

    /// A statement that would pin a server is parsed by it before: an error in that has done nothing to the session, but
    /// an error later may come from a function or block that took a lock first.
    async fn must_parse_to_pin(
        &mut self,
        own: &str,
        message: Option<&Bytes>,
        plan: &Plan,
    ) -> Result<(), SessionError> {
        let Some(shard) = plan.shards.only().filter(|_| plan.pin.is_some()) else {
            return Ok(());
        };
        if self.worker_keeps || self.pinned.contains(shard) {
            return Ok(());
        }
        // The position of an error is one in the client's text.
        let whole = message.and_then(|message| frontend::text(&message[5..]).ok());
        let (text, position) = match (plan.text.as_deref(), whole) {
            (Some(text), _) => (text, Position::Unknown),
            (None, Some(whole)) => (whole, Position::Same),
            (None, None) => (own, Position::Further(self.own_at)),
        };
        match self.parse_error(shard, text).await? {
            Some(mut fields) => {
                position.correct(&mut fields);
                Err(SessionError::Statement(Some(fields)))
            }
            None => Ok(()),
        }
    }

    /// Sends a query to one shard and relays its reply.
    pub(super) async fn relay_query(
        &mut self,
        shard: crate::topology::ShardId,
        (access, spoils): (Access, &Spoils),
        text: QueryText<'_>,
        sets: Vec<PendingSet>,
        ending: Ending,
    ) -> Result<Relayed, SessionError> {
        let mut taken = self.take_and_begin(shard, access, spoils).await?;
        taken.sets = sets;
        taken.script.query_follows = true;
        match text {
            QueryText::Message(message) => taken.lease.outbox.extend_from_slice(message),
            QueryText::Part(text, by) => {
                taken.script.position = Position::Further(by);
                append_query(&mut taken.lease, text)?;
            }
            QueryText::Rewritten(text) => {
                taken.script.position = Position::Unknown;
                append_query(&mut taken.lease, text)?;
            }
        }
        taken.lease.unnamed = None;
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Query, To::Client);
        taken.script.tags = self.last_tag.of_server();
        let implicit = self.block.as_ref().is_some_and(|b| b.is_implicit());
        let whose = if ending == Ending::Server && !implicit {
            To::Client
        } else {
            To::Nobody
        };
        taken.script.expect(Reply::Sync, whose);
        let relayed = self.relay_taken(shard, taken).await?;
        if relayed.error.is_some() && whose == To::Nobody {
            return Err(SessionError::Statement(None));
        }
        self.tag_kept(&relayed);
        Ok(relayed)
    }

    /// The tag of a statement whose CommandComplete was not passed on.
    pub(super) fn tag_kept(&mut self, relayed: &Relayed) {
        if let LastTag::Waits(waiting) = &mut self.last_tag
            && !relayed.tag.is_empty()
        {
            *waiting = Some(String::from_utf8_lossy(&relayed.tag).into_owned());
        }
    }

    /// Sends what waits for a taken server, relays what its script expects, and gives it back.
    pub(super) async fn relay_taken(
        &mut self,
        shard: crate::topology::ShardId,
        mut taken: Taken,
    ) -> Result<Relayed, SessionError> {
        let result = self.relay_lease(shard, &mut taken).await;
        self.give_back(shard, taken.lease);
        Ok(result?)
    }

    /// Sends what waits for a taken server and relays what its script expects.
    pub(super) async fn relay_lease(
        &mut self,
        shard: crate::topology::ShardId,
        taken: &mut Taken,
    ) -> Result<Relayed, RelayError> {
        let topology = std::sync::Arc::clone(&self.topology);
        let name = topology
            .shards
            .get(usize::from(shard.0))
            .map_or("?", |s| s.name.as_str());
        let database = std::sync::Arc::clone(&self.database);
        let types = database.oid_map(shard).map(AsRef::as_ref);
        taken.script.status = Some(self.status());
        taken.script.instead = self.instead_of_forgotten();
        let result = relay(
            &mut taken.lease,
            &mut self.client,
            &mut taken.script,
            name,
            types,
        )
        .await;
        self.note_failure(&result);
        let sets = std::mem::take(&mut taken.sets);
        if !sets.is_empty() {
            let done = matches!(&result, Ok(relayed) if relayed.error.is_none());
            if !done {
                // Nobody knows what the server has: it is not for another session.
                taken.lease.retire();
            }
            if done {
                self.note_sets(&mut taken.lease, sets);
            }
        }
        result
    }

    /// Remembers what a query's set_config() has set, for the servers that the session uses next.
    fn note_sets(&mut self, lease: &mut Lease, sets: Vec<PendingSet>) {
        for set in sets {
            let PendingSet { name, value, local } = set;
            lease.touched_custom(&name);
            let mode = value.clone();
            let value = as_it_became(lease, &name, Some(SettingValue::Text(value)));
            match &mut self.block {
                Some(block) => {
                    let scope = if local { Scope::Local } else { Scope::Session };
                    block.log.push(set_text(scope, &name, value.as_ref()));
                    block.effective = Arc::new(block.effective.with(&name, value.clone()));
                    block.touched(&name);
                    block.set_mode(&name, &mode);
                }
                None if local => {
                    let customs = name.contains('.').then_some(name);
                    self.settings = self.settings.with_customs(&customs.into_iter().collect());
                    continue;
                }
                None => {}
            }
            if !local {
                self.settings = Arc::new(self.settings.with(&name, value));
            }
        }
        if self.block.is_none() {
            lease.set_settings(&self.settings);
        }
    }

    fn note_failure(&mut self, result: &Result<Relayed, RelayError>) {
        match result {
            Ok(relayed) => {
                self.sync_void |= relayed.copied;
                if relayed.error.is_some() {
                    self.outcome = Outcome::Failed;
                    if let Some(block) = &mut self.block {
                        block.failed = true;
                    }
                }
            }
            Err(RelayError::ClientGone) => self.cancel.abandon(&self.worker),
            Err(_) => self.fail_block(),
        }
    }

    /// A syntax error in a statement about the session: any server words it as PostgreSQL does.
    async fn syntax_error_of_a_server(&mut self, own: &str) -> Result<Ready, SessionError> {
        let shard = self.home()?;
        let fields = self.parse_error(shard, own).await?;
        let unnamed = || Box::new(ErrorFields::error(SqlState::SYNTAX_ERROR, "syntax error"));
        Err(SessionError::Statement(Some(
            fields.unwrap_or_else(unnamed),
        )))
    }

    /// Says why a text that Keyway does not understand is refused: as a syntax error, if that is what a server finds.
    pub(super) async fn say_unparsed(
        &mut self,
        refusal: ErrorFields,
        own: &str,
    ) -> Result<(), SessionError> {
        let shard = self.transaction_shard().map_or_else(|| self.home(), Ok);
        let told = match shard {
            Ok(shard) => self.parse_error(shard, own).await,
            Err(error) => Err(error),
        };
        let fields = match told {
            Ok(Some(fields)) if fields.is(SqlState::SYNTAX_ERROR) => *fields,
            Ok(Some(fields)) | Err(SessionError::Statement(Some(fields)))
                if fields.is(SqlState::QUERY_CANCELED) =>
            {
                *fields
            }
            Err(SessionError::ClientGone) => return Err(SessionError::ClientGone),
            _ => refusal,
        };
        self.say_error(&fields);
        self.fail_block();
        Ok(())
    }

    /// In a failed block only its end may follow.
    pub(super) fn refuse_in_failed_block(&self) -> Result<(), SessionError> {
        if self.block.as_ref().is_some_and(|b| b.failed) {
            return Err(SessionError::refuse(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }

    /// The transaction, if there is one, has failed.
    pub(super) fn fail_block(&mut self) {
        if let Some(block) = &mut self.block {
            block.failed = true;
        }
    }
}

/// A query's text, or the client's message that holds just it.
#[derive(Debug, Clone, Copy)]
pub(super) enum QueryText<'a> {
    /// The whole message, as it came.
    Message(&'a Bytes),
    /// A part of the client's message, and where it begins there.
    Part(&'a str, i64),
    /// Another text.
    Rewritten(&'a str),
}

/// Where a statement begins in its message, in characters.
pub(super) fn characters_before(text: &str, scanned: &Scanned) -> i64 {
    let before = text[..scanned.range.start].chars().count();
    i64::try_from(before).unwrap_or(i64::MAX)
}

/// A statement of a message, with blanks for what stands in front of it: an error is where it is in the message.
pub(super) fn in_its_place(text: &str, scanned: &Scanned) -> String {
    let before = text[..scanned.range.start].chars().count();
    let mut own = " ".repeat(before);
    own.push_str(&text[scanned.range.clone()]);
    own
}

/// Statements that the session plans by itself.
fn is_cursor_or_channel(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Show
            | Verb::Declare
            | Verb::Fetch
            | Verb::Move
            | Verb::Close
            | Verb::Listen
            | Verb::Unlisten
            | Verb::Notify
    )
}

/// Statements that are about the session, not about data.
pub(super) fn is_command(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Begin
            | Verb::Commit
            | Verb::Rollback
            | Verb::Savepoint
            | Verb::Release
            | Verb::RollbackTo
            | Verb::TwoPhase
            | Verb::Set
            | Verb::Reset
            | Verb::Discard
            | Verb::Prepare
            | Verb::Execute
            | Verb::Deallocate
            | Verb::ExplainRoute
    )
}
