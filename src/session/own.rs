//! What Keyway answers by itself in either protocol: EXPLAIN (ROUTE), SQL's PREPARE and EXECUTE.

use crate::execute::relay::{Position, Reply, To};
use crate::route::explain::{Explanation, explain, explain_refusal};
use crate::route::keep::{Changes, Spoils};
use crate::route::key::{NoParams, Param, Params, Values};
use crate::route::plan::{Access, Pin, Plan, PlanKind};
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::extended::{Item, Need, heavier};
use crate::session::portal::Place;
use crate::session::prepared::{Body, Execution, Prepared, SqlTypes};
use crate::session::servers::append_query;
use crate::session::shown::{CACHE_COLUMNS, ENTRY_COLUMNS, flush_called};
use crate::session::simple::{Ending, Ready};
use crate::statement::command::{Command, command};
use crate::statement::scan::{Hints, LiteralKind, ScanSettings, Scanned, Verb, literal_text, scan};
use crate::wire::backend::{self as reply, Field};
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frontend::{self, Format};
use crate::wire::types;
use std::ops::Range;
use std::rc::Rc;

/// EXECUTE's arguments, with the types that PREPARE declared; none where a server evaluates them.
struct Arguments<'a> {
    values: Vec<Option<Option<Vec<u8>>>>,
    types: &'a [u32],
}

impl Params for Arguments<'_> {
    fn get(&self, number: u16) -> Option<Param<'_>> {
        let index = usize::from(number).checked_sub(1)?;
        let value = self.values.get(index)?.as_ref()?;
        Some(Param {
            oid: self.types.get(index).copied().unwrap_or(0),
            binary: false,
            bytes: value.as_deref(),
        })
    }
}

impl Session {
    /// A statement about the session, simple protocol.
    pub(super) async fn simple_command(
        &mut self,
        command: Command,
        own: &str,
        hints: Option<Box<Hints>>,
        ending: Ending,
    ) -> Result<Ready, SessionError> {
        match command {
            Command::ExplainRoute { statement, json } => {
                self.refuse_in_failed_block()?;
                self.say_plan_description();
                self.explain_route(&own[statement], hints, json)?;
                Ok(Ready::Due)
            }
            Command::Prepare { name, types, body } => {
                self.refuse_in_failed_block()?;
                let before = own[..body.start].chars().count();
                let at = i64::try_from(before).unwrap_or(i64::MAX) + self.own_at;
                self.prepare(name, &types, &own[body], Some(at)).await?;
                Ok(Ready::Due)
            }
            Command::Execute { name, args } => {
                self.refuse_in_failed_block()?;
                self.execute_prepared(&name, &args, own, ending).await
            }
            other => {
                self.run_command(other, own).await?;
                Ok(Ready::Due)
            }
        }
    }

    /// A statement about the session, extended protocol.
    pub(super) async fn bound_command(
        &mut self,
        command: Command,
        own: &str,
        whole: &str,
    ) -> Result<(), SessionError> {
        match command {
            Command::ExplainRoute { statement, json } => {
                self.refuse_in_failed_block()?;
                let hints = self.scanned(whole)?.and_then(|whole| whole.hints);
                self.explain_route(&own[statement], hints, json)
            }
            Command::Prepare { name, types, body } => {
                self.refuse_in_failed_block()?;
                self.prepare(name, &types, &own[body], None).await
            }
            Command::Show(Some(name)) => {
                self.refuse_in_failed_block()?;
                self.show_hint(&name)
            }
            Command::CacheFlush(table) => {
                self.refuse_in_failed_block()?;
                self.flush_cache(table.as_deref()).await?;
                let nothing = std::iter::once(Some(&b""[..]));
                reply::data_row(&mut self.client.outbox, nothing);
                self.complete("SELECT 1");
                Ok(())
            }
            other => self.run_command(other, own).await,
        }
    }

    /// The one column of EXPLAIN (ROUTE).
    pub(super) fn say_plan_description(&mut self) {
        self.say_text_column("QUERY PLAN");
    }

    /// One column, of texts.
    pub(super) fn say_text_column(&mut self, name: &str) {
        self.say_text_columns(&[name]);
    }

    /// Columns of texts.
    fn say_text_columns(&mut self, names: &[&str]) {
        let fields: Vec<Field> = names
            .iter()
            .map(|name| Field {
                name: (*name).to_owned(),
                table: 0,
                attribute: 0,
                type_oid: types::TEXT,
                type_len: -1,
                type_modifier: -1,
                format: Format::Text,
            })
            .collect();
        reply::row_description(&mut self.client.outbox, fields.iter());
    }

    /// The columns of what a statement about Keyway returns.
    pub(super) fn say_own_columns(&mut self, command: &Command) {
        match command {
            Command::Show(Some(name)) if name == "keyway.cache" => {
                self.say_text_columns(&CACHE_COLUMNS);
            }
            Command::Show(Some(name)) if name == "keyway.cache_entries" => {
                self.say_text_columns(&ENTRY_COLUMNS);
            }
            Command::Show(Some(name)) => self.say_text_column(name),
            Command::CacheFlush(_) => self.say_text_column("cache_flush"),
            _ => reply::no_data(&mut self.client.outbox),
        }
    }

    /// SHOW of a hint: empty when there is none.
    pub(super) fn show_hint(&mut self, name: &str) -> Result<(), SessionError> {
        let hint = self.hint_in_force();
        let value = match name {
            "keyway.key" => &hint.key,
            "keyway.shard" => &hint.shard,
            "keyway.cache" | "keyway.cache_entries" => {
                let rows = self.cache_shown(name == "keyway.cache_entries")?;
                for row in &rows {
                    let columns = row.iter().map(|value| Some(value.as_bytes()));
                    reply::data_row(&mut self.client.outbox, columns);
                }
                self.complete("SHOW");
                return Ok(());
            }
            other => return Err(unknown_hint(other)),
        };
        let value = value.clone().unwrap_or_default();
        reply::data_row(
            &mut self.client.outbox,
            std::iter::once(Some(value.as_bytes())),
        );
        self.complete("SHOW");
        Ok(())
    }

    fn explain_route(
        &mut self,
        statement: &str,
        hints: Option<Box<Hints>>,
        json: bool,
    ) -> Result<(), SessionError> {
        let explanation = self.explanation(statement, hints)?;
        let lines = if json {
            vec![format!("{:#}", explanation.json())]
        } else {
            explanation.lines()
        };
        for line in &lines {
            reply::data_row(
                &mut self.client.outbox,
                std::iter::once(Some(line.as_bytes())),
            );
        }
        self.complete("EXPLAIN");
        Ok(())
    }

    /// The first statement of a text.
    fn scanned(&self, text: &str) -> Result<Option<Scanned>, SessionError> {
        let statements = scan(text, self.scan_settings())
            .map_err(|error| SessionError::refuse(SqlState::SYNTAX_ERROR, error.to_string()))?;
        Ok(statements.into_iter().find(|s| s.verb != Verb::Empty))
    }

    /// Where a statement would go, by the same steps as when it runs. `hints` are the whole EXPLAIN's: they may stand
    /// anywhere in it.
    fn explanation(
        &self,
        text: &str,
        hints: Option<Box<Hints>>,
    ) -> Result<Explanation, SessionError> {
        let Some(mut explained) = self.scanned(text)? else {
            return Err(SessionError::refuse(
                SqlState::SYNTAX_ERROR,
                "there is no statement to explain",
            ));
        };
        explained.hints = hints;
        let values = Values {
            text,
            statement: &explained,
            params: &NoParams,
        };
        let (made, _) = self.decide(text, &explained)?;
        Ok(
            match made.and_then(|made| made.shown(&values, &self.topology).map(|plan| (made, plan)))
            {
                Ok((made, plan)) => {
                    let mut explanation = explain(&made, &plan, &values, &self.topology);
                    explanation.cache = self.explain_kept(&made, &values);
                    explanation
                }
                Err(error) => explain_refusal(&error, &self.topology),
            },
        )
    }

    /// PREPARE: a server checks the statement now, the shard is found at EXECUTE. `at` is where it begins in the client's
    /// text, in characters.
    async fn prepare(
        &mut self,
        name: String,
        types: &[String],
        body: &str,
        at: Option<i64>,
    ) -> Result<(), SessionError> {
        self.one_more_statement(&name)?;
        let scanned = scan(body, self.scan_settings())
            .ok()
            .and_then(|statements| statements.into_iter().find(|s| s.verb != Verb::Empty))
            .ok_or_else(|| {
                SessionError::refuse(SqlState::SYNTAX_ERROR, "syntax error in PREPARE")
            })?;
        let prepared = Rc::new(Prepared {
            text: Rc::from(body),
            types: Default::default(),
            body: Body::Routed(scanned),
            named: true,
            sql_types: Some(SqlTypes::new(types)),
            canonical: Default::default(),
            recipe: Default::default(),
            told: Default::default(),
            rewritten: false,
        });
        let shard = self.shard_to_check(&prepared)?;
        let mut taken = self.take(shard, crate::route::plan::Access::Read).await?;
        let sent = self.send_prepare(shard, &prepared, &mut taken);
        if let Err(error) = sent {
            self.give_back(shard, taken.lease);
            return Err(error);
        }
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        let written = prepare_text(&canonical.name, &prepared);
        let in_front = written.chars().count() - prepared.text.chars().count();
        taken.script.position = match (at, i64::try_from(in_front)) {
            (Some(at), Ok(in_front)) => Position::Further(at - in_front),
            _ => Position::Unknown,
        };
        let relayed = self.relay_prepared(shard, &prepared, taken).await?;
        if relayed.error.is_some() {
            return Err(SessionError::Statement(None));
        }
        // Its columns are settled now (manual, PREPARE): a later change of them fails at EXECUTE.
        let described = self.described_now(shard, &prepared).await?;
        self.remember(&prepared, &described);
        self.names.statements.insert(name, prepared);
        self.complete("PREPARE");
        Ok(())
    }

    /// Appends the PREPARE that a server needs, if it does not know the statement: true then.
    pub(super) fn send_prepare(
        &self,
        shard: crate::topology::ShardId,
        prepared: &Rc<Prepared>,
        taken: &mut super::servers::Taken,
    ) -> Result<bool, SessionError> {
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        if taken.lease.has_prepared(canonical.id) {
            return Ok(false);
        }
        for evicted in taken.lease.add_prepared(canonical.id) {
            append_query(&mut taken.lease, &format!("DEALLOCATE kw_{evicted}"))?;
            taken.lease.expect_syncs(1);
            taken.script.expect(Reply::Query, To::Nobody);
            taken.script.expect(Reply::Sync, To::Nobody);
        }
        if prepared.sql_types.is_none() {
            // The driver prepared it: by a Parse, as the driver did.
            let types = self.server_types(shard, &prepared.types)?;
            frontend::parse(
                &mut taken.lease.outbox,
                &canonical.name,
                &prepared.text,
                &types,
            )?;
            frontend::sync(&mut taken.lease.outbox);
            taken.lease.expect_syncs(1);
            taken.script.expect(Reply::Parse, To::Nobody);
            taken.script.expect(Reply::Sync, To::Nobody);
            return Ok(true);
        }
        append_query(&mut taken.lease, &prepare_text(&canonical.name, prepared))?;
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Query, To::Nobody);
        taken.script.expect(Reply::Sync, To::Nobody);
        Ok(true)
    }

    /// Relays; after an error it is not known what the server has prepared.
    async fn relay_prepared(
        &mut self,
        shard: crate::topology::ShardId,
        prepared: &Rc<Prepared>,
        mut taken: super::servers::Taken,
    ) -> Result<crate::execute::relay::Relayed, SessionError> {
        let result = self.relay_lease(shard, &mut taken).await;
        let hidden = result
            .as_ref()
            .is_ok_and(|r| r.error.as_ref().is_some_and(|e| e.hidden));
        if hidden {
            let canonical = prepared.canonical(&self.worker.statements, self.reading());
            taken.lease.forget_prepared(canonical.id);
        }
        self.give_back(shard, taken.lease);
        Ok(result?)
    }

    /// What an EXECUTE of this name runs.
    fn executed(&self, name: &str) -> Result<Rc<Prepared>, SessionError> {
        let Some(prepared) = self.names.statements.get(name) else {
            return Err(SessionError::refuse(
                SqlState::INVALID_SQL_STATEMENT_NAME,
                format!("prepared statement \"{name}\" does not exist"),
            ));
        };
        if let Body::Routed(_) = &prepared.body {
            return Ok(Rc::clone(prepared));
        }
        Err(SessionError::unsupported(
            "EXECUTE of a statement about the session is not supported",
            "The driver prepared a statement that Keyway runs itself.",
            "Send the statement itself.",
        ))
    }

    /// The plan of an EXECUTE of this statement, for one shard.
    fn plan_execution<T: AsRef<str>>(
        &mut self,
        prepared: &Prepared,
        args: &[T],
    ) -> Result<Plan, SessionError> {
        let Body::Routed(scanned) = &prepared.body else {
            return Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                "only a routed statement is executed",
            ));
        };
        let constants: Vec<Result<Option<Vec<u8>>, SessionError>> =
            args.iter().map(|arg| self.constant(arg.as_ref())).collect();
        let evaluated = match constants.iter().all(Result::is_ok) {
            true => None,
            false => Some(self.evaluated(args)?),
        };
        let arguments = Arguments {
            values: constants.iter().map(|c| c.as_ref().ok().cloned()).collect(),
            types: prepared.routing_types(),
        };
        let mut plan = match (
            &evaluated,
            self.plan_executed(prepared, scanned, &arguments),
        ) {
            (None, plan) => plan?,
            // Only where the place does not depend on them.
            (Some(recipe), Ok(mut plan)) if Self::is_for_one(&plan) => {
                plan.shards = plan.shards.intersection(&recipe.shards());
                if plan.shards.is_empty() {
                    return Err(not_constant());
                }
                plan
            }
            (Some(_), _) => return Err(not_constant()),
        };
        if let Some(recipe) = evaluated {
            plan.pin = plan.pin.or(recipe.pin);
            plan.access = heavier(plan.access, recipe.access);
            if recipe.changes != Changes::Nothing {
                plan.spoils = Spoils::Everything;
            }
        }
        if !Self::is_for_one(&plan) {
            return Err(SessionError::unsupported(
                "EXECUTE over several shards is not supported",
                "The statement reads more than one shard.",
                "Send the statement itself, or prepare it by the driver.",
            ));
        }
        if plan.access.is_of_each_shard() || plan.text.is_some() {
            return Err(SessionError::unsupported(
                "EXECUTE of a change of the schema is not supported",
                "The driver prepared a statement that Keyway rewrites, or runs on every shard.",
                "Send the statement itself.",
            ));
        }
        Ok(plan)
    }

    // === EXECUTE in the extended protocol: a server runs it, by the name that it knows the statement by

    /// What an EXECUTE that the client parses now would run.
    pub(super) fn execution(
        &self,
        name: String,
        args: &[Range<usize>],
        own: &str,
        params: u16,
    ) -> Execution {
        Execution {
            target: self.names.statements.get(&name).cloned(),
            args: args
                .iter()
                .map(|arg| own[arg.clone()].trim().to_owned())
                .collect(),
            name,
            params,
            reading: self.reading(),
            changes: self.changes(),
        }
    }

    /// How many changes of the schema the transaction has made.
    fn changes(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.changed.len())
    }

    /// An EXECUTE as a server that knows its target reads it.
    fn written(&self, prepared: &Prepared, own: &Execution, target: &Rc<Prepared>) -> Rc<Prepared> {
        let canonical = target.canonical(&self.worker.statements, self.reading());
        Rc::new(Prepared {
            text: Rc::from(execute_text(&canonical.name, &own.args)),
            types: prepared.types.clone(),
            body: Body::Execute(Execution {
                name: own.name.clone(),
                args: own.args.clone(),
                params: own.params,
                target: Some(Rc::clone(target)),
                reading: self.reading(),
                changes: self.changes(),
            }),
            named: false,
            sql_types: None,
            canonical: Default::default(),
            recipe: Default::default(),
            told: Default::default(),
            rewritten: false,
        })
    }

    /// Describe of an EXECUTE: PostgreSQL looks up what it runs when it parses it.
    pub(super) fn describe_execution(
        &mut self,
        prepared: &Rc<Prepared>,
        own: &Execution,
    ) -> Result<(Item, Need), SessionError> {
        let Some(target) = &own.target else {
            return Ok((Item::DescribeStatement(Rc::clone(prepared)), Need::Own));
        };
        match (&target.body, self.executed(&own.name)) {
            (Body::Routed(scanned), Ok(now)) if Rc::ptr_eq(&now, target) => {
                let shards = self.shards_that_parse(target, scanned)?;
                let written = self.written(prepared, own, target);
                Ok((Item::DescribeStatement(written), Need::Any(shards)))
            }
            (_, Err(error)) => Err(error),
            (_, Ok(_)) => Err(another_since()),
        }
    }

    /// Where a bound EXECUTE runs and as what; `None` when it will fail there.
    pub(super) fn bind_execution(
        &mut self,
        prepared: &Prepared,
        own: &Execution,
    ) -> Result<Option<(Rc<Prepared>, Plan)>, SessionError> {
        if !self.names.statements.contains_key(&own.name) {
            return Ok(None);
        }
        let target = self.executed(&own.name)?;
        let plan = match &target.body {
            // It will fail: there is no such parameter, or it has too many or too few.
            Body::Routed(scanned) if own.params > 0 || own.args.len() != target.arguments() => {
                let shards = self.shards_that_parse(&target, scanned)?;
                self.fixed(PlanKind::Any, shards, Access::Read, None)
            }
            _ => self.plan_execution(&target, &own.args)?,
        };
        Ok(Some((self.written(prepared, own, &target), plan)))
    }

    /// PostgreSQL looks up what an EXECUTE runs, and plans it, when the portal is executed.
    pub(super) fn still_executes(&mut self, portal: &str) -> Result<(), SessionError> {
        let (reading, changes) = (self.reading(), self.changes());
        let prepared = match self.names.portal(portal) {
            Some(portal) if matches!(portal.place, Place::Server(_)) => Rc::clone(&portal.prepared),
            _ => return Ok(()),
        };
        let Body::Execute(own) = &prepared.body else {
            return Ok(());
        };
        if let Some(target) = &own.target {
            right_number(&own.name, target, own.args.len())?;
        }
        let now = self.names.statements.get(&own.name);
        let same = match (now, &own.target) {
            (Some(now), Some(target)) => Rc::ptr_eq(now, target),
            _ => false,
        };
        if same && own.reading == reading && own.changes == changes {
            return Ok(());
        }
        Err(another_since())
    }

    /// A bound EXECUTE that had nothing to run.
    pub(super) fn execute_nothing(&self, own: &Execution) -> Result<(), SessionError> {
        self.executed(&own.name)?;
        Err(another_since())
    }

    /// EXECUTE of a prepared statement, simple protocol.
    async fn execute_prepared(
        &mut self,
        name: &str,
        args: &[Range<usize>],
        own: &str,
        ending: Ending,
    ) -> Result<Ready, SessionError> {
        let args: Vec<&str> = args.iter().map(|range| own[range.clone()].trim()).collect();
        let prepared = self.executed(name)?;
        right_number(name, &prepared, args.len())?;
        let plan = self.plan_execution(&prepared, &args)?;
        self.note_plan(plan.kind);
        let shard = self.choose(&plan);
        let sets = std::mem::take(&mut self.pending_sets);
        if let Some(told) = prepared
            .told
            .get()
            .filter(|told| told.reading != self.reading())
        {
            self.is_as_told(shard, &prepared, told).await?;
        }
        if let Some(pin) = plan.pin {
            self.pin(shard, pin);
        }
        let mut taken = self
            .take_to_change(shard, plan.access, &plan.spoils)
            .await?;
        taken.sets = sets;
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        let sent = self
            .send_prepare(shard, &prepared, &mut taken)
            .and_then(|_| append_query(&mut taken.lease, &execute_text(&canonical.name, &args)));
        if let Err(error) = sent {
            taken
                .lease
                .doubt(crate::backend::server::Doubt::SessionState);
            self.give_back(shard, taken.lease);
            return Err(error);
        }
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Query, To::Client);
        let implicit = self.block.as_ref().is_some_and(|b| b.is_implicit());
        let whose = if ending == Ending::Server && !implicit {
            To::Client
        } else {
            To::Nobody
        };
        taken.script.expect(Reply::Sync, whose);
        taken.script.tags = self.last_tag.of_server();
        taken.script.position = Position::Unknown;
        let relayed = self.relay_prepared(shard, &prepared, taken).await?;
        if relayed.error.is_some() && whose == To::Nobody {
            return Err(SessionError::Statement(None));
        }
        self.tag_kept(&relayed);
        Ok(if whose == To::Client {
            Ready::Said
        } else {
            Ready::Due
        })
    }

    /// What evaluating the arguments asks for, those that are no constants among them.
    fn evaluated<T: AsRef<str>>(&self, args: &[T]) -> Result<Rc<Recipe>, SessionError> {
        let text = format!("SELECT {}", listed(args));
        let scanned = self.scanned(&text)?.ok_or_else(not_constant)?;
        let recipe = self.recipe(&text, &scanned).map_err(|_| not_constant())?;
        // What `fill` refuses: values that a server's session has, or gets, and plans by a schema that has changed.
        let changed = self.block.as_ref().is_some_and(|b| !b.changed.is_empty());
        let of_session = matches!(recipe.pin, Some(Pin::SessionFunction | Pin::SequenceValue));
        if changed || recipe.set_config || of_session {
            return Err(not_constant());
        }
        Ok(recipe)
    }

    /// A constant's value; NULL is `None`.
    fn constant(&self, text: &str) -> Result<Option<Vec<u8>>, SessionError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("null") {
            return Ok(None);
        }
        if matches!(text.to_ascii_lowercase().as_str(), "true" | "false") {
            return Ok(Some(text.to_ascii_lowercase().into_bytes()));
        }
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => ("-", rest.trim_start()),
            None => ("", text),
        };
        let select = format!("SELECT {digits}");
        let statements = scan(&select, self.scan_settings()).map_err(|_| not_constant())?;
        let [one] = statements.as_slice() else {
            return Err(not_constant());
        };
        let [literal] = one.literals.as_slice() else {
            return Err(not_constant());
        };
        let whole = literal.start == 7 && literal.end as usize == select.len();
        let number = matches!(literal.kind, LiteralKind::Integer | LiteralKind::Decimal);
        if !whole || (!sign.is_empty() && !number) {
            return Err(not_constant());
        }
        let value =
            literal_text(&select, literal, self.scan_settings()).map_err(|_| not_constant())?;
        if number {
            let number = canonical_number(sign, &value).ok_or_else(not_constant)?;
            return Ok(Some(number.into_bytes()));
        }
        Ok(Some(value.into_owned().into_bytes()))
    }

    /// The plan of a statement that SQL prepared.
    pub(super) fn plan_executed(
        &mut self,
        prepared: &Prepared,
        scanned: &Scanned,
        params: &dyn Params,
    ) -> Result<crate::route::plan::Plan, SessionError> {
        let recipe = self.recipe_of(prepared, scanned)?;
        self.fill(&recipe, &prepared.text, scanned, params)
    }
}

/// A number as PostgreSQL prints it: that is what a parameter of a text type gets. `None` for one with an exponent.
fn canonical_number(sign: &str, digits: &str) -> Option<String> {
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let mut all = whole.bytes().chain(fraction.unwrap_or_default().bytes());
    if !all.all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let is_zero =
        whole == "0" && fraction.is_none_or(|digits| digits.bytes().all(|digit| digit == b'0'));
    let sign = if is_zero { "" } else { sign };
    Some(match fraction {
        None | Some("") => format!("{sign}{whole}"),
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
    })
}

/// A statement that looks like one for a shard, and is about Keyway: SHOW of what it knows, cache_flush().
pub(super) fn own_command(own: &str, scanned: &Scanned, settings: ScanSettings) -> Option<Command> {
    match scanned.verb {
        Verb::Select => flush_called(own).map(Command::CacheFlush),
        Verb::Show => match command(own, scanned.verb, settings) {
            Ok(Command::Show(Some(name))) if name.starts_with("keyway.") => {
                Some(Command::Show(Some(name)))
            }
            _ => None,
        },
        _ => None,
    }
}

/// There is no such hint.
pub(super) fn unknown_hint(name: &str) -> SessionError {
    SessionError::Statement(Some(Box::new(
        ErrorFields::error(
            SqlState::UNDEFINED_OBJECT,
            format!("unrecognized configuration parameter \"{name}\""),
        )
        .hint("Keyway knows keyway.key, keyway.shard, keyway.cache and keyway.cache_entries."),
    )))
}

/// The PREPARE by which a server gets to know a statement by this name.
fn prepare_text(name: &str, prepared: &Prepared) -> String {
    let types = prepared.sql_types.as_ref();
    let types = types.map_or("", |types| types.written.as_str());
    format!("PREPARE {name}{types} AS {}", prepared.text)
}

/// An EXECUTE gives its statement as many arguments as that wants.
fn right_number(name: &str, prepared: &Prepared, given: usize) -> Result<(), SessionError> {
    let wanted = prepared.arguments();
    if given == wanted {
        return Ok(());
    }
    Err(SessionError::Statement(Some(Box::new(
        ErrorFields::error(
            SqlState::SYNTAX_ERROR,
            format!("wrong number of parameters for prepared statement \"{name}\""),
        )
        .detail(format!("Expected {wanted} parameters but got {given}.")),
    ))))
}

/// Arguments, one after the other.
fn listed<T: AsRef<str>>(args: &[T]) -> String {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    args.join(", ")
}

/// The EXECUTE of the statement that a server knows by this name.
fn execute_text<T: AsRef<str>>(name: &str, args: &[T]) -> String {
    if args.is_empty() {
        format!("EXECUTE {name}")
    } else {
        format!("EXECUTE {name}({})", listed(args))
    }
}

/// What a bound or parsed EXECUTE would run is not what it was.
fn another_since() -> SessionError {
    SessionError::unsupported(
        "EXECUTE behind a change of what it runs is not supported",
        "Since it was parsed or bound, the statement has been prepared or deallocated, or a setting or the schema has changed.",
        "Parse and bind the EXECUTE again.",
    )
}

fn not_constant() -> SessionError {
    SessionError::unsupported(
        "the arguments of EXECUTE must be constants",
        "The shard is found from them before a server evaluates anything.",
        "Write plain numbers and strings.",
    )
}
