//! Statements on several shards: scatters, schema changes, and Keyway's own EXPLAIN (ROUTE).

use crate::backend::settings::SettingValue;
use crate::execute::merge::{Limits, MergeError, Merger, Setup, server_formats};
use crate::execute::relay::{Notices, Position, RelayError, Reply, To};
use crate::execute::scatter::{
    Describe, Gathering, Progress, Rows, ScatterError, Source, client_fields, fetch, open, settle,
    stream,
};
use crate::route::keep::Spoils;
use crate::route::plan::{Access, Plan, PlanKind};
use crate::session::Session;
use crate::session::control::SchemaChange;
use crate::session::error::SessionError;
use crate::session::portal::Place;
use crate::session::prepared::{Body, Prepared};
use crate::session::servers::{append_parse, append_query};
use crate::session::simple::{Ready, characters_before};
use crate::session::transaction::BlockKind;
use crate::statement::scan::{Verb, beginning};
use crate::topology::{ShardId, TableName};
use crate::wire::backend as reply;
use crate::wire::error::{ClientError, ErrorFields, SqlState};
use crate::wire::frontend::{self, Bind, Format};
use crate::wire::value::TextStyle;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    /// A read on several shards, simple protocol.
    pub(super) async fn scatter_simple(
        &mut self,
        own: &str,
        plan: Plan,
    ) -> Result<Ready, SessionError> {
        let mut sources = self.sources(&plan).await?;
        let text = plan.text.as_deref().unwrap_or(own);
        self.position = self.position_of(&plan);
        for source in &mut sources {
            append_query(&mut source.lease, text)?;
            source.lease.unnamed = None;
            source.lease.expect_syncs(1);
        }
        let rows = self.gather_rows(sources, &plan, &[], Describe::Yes).await?;
        self.complete(&format!("SELECT {rows}"));
        Ok(Ready::Due)
    }

    /// Where errors of a plan's own text are in the client's.
    fn position_of(&self, plan: &Plan) -> Position {
        match plan.text {
            Some(_) => Position::Unknown,
            None => Position::Further(self.own_at),
        }
    }

    /// The servers of a plan, in shard order, each ready for the statement.
    async fn sources(&mut self, plan: &Plan) -> Result<Vec<Source>, SessionError> {
        let shards: Vec<ShardId> = plan.shards.iter().collect();
        let mut sources = Vec::with_capacity(shards.len());
        for shard in shards {
            let result = self.source(shard, plan.access, &plan.spoils).await;
            match result {
                Ok(source) => sources.push(source),
                Err(error) => {
                    self.release(sources);
                    return Err(error);
                }
            }
        }
        Ok(sources)
    }

    async fn source(
        &mut self,
        shard: ShardId,
        access: Access,
        spoils: &Spoils,
    ) -> Result<Source, SessionError> {
        let taken = self.take_to_change(shard, access, spoils).await?;
        let oids = self.database.oid_map(shard).cloned();
        Ok(Source {
            shard,
            name: self.shard_name(shard).to_owned(),
            lease: taken.lease,
            oids,
            progress: Progress::default(),
        })
    }

    fn release(&mut self, sources: Vec<Source>) {
        for source in sources {
            self.give_back(source.shard, source.lease);
        }
    }

    /// Sends what waits for the sources, streams their merged rows, and gives them back.
    async fn gather_rows(
        &mut self,
        mut sources: Vec<Source>,
        plan: &Plan,
        formats: &[Format],
        describe: Describe,
    ) -> Result<u64, SessionError> {
        let mut merger = self.merger(plan, sources.len(), formats)?;
        for source in &mut sources {
            if let Err(error) = source.lease.flush().await {
                let error = self.lost(&source.name.clone(), error);
                self.fail_block();
                self.release(sources);
                return Err(error);
            }
        }
        let result = stream(&mut sources, &mut merger, describe, &mut self.client).await;
        let result = self.after_scatter(result, &mut sources).await;
        self.release(sources);
        result
    }

    /// After a failed scatter the sources are in sync again, or given up.
    async fn after_scatter<T>(
        &mut self,
        result: Result<T, ScatterError>,
        sources: &mut [Source],
    ) -> Result<T, SessionError> {
        let position = std::mem::take(&mut self.position);
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        self.fail_block();
        let error = match error {
            ScatterError::Shard(mut fields) => {
                position.correct(&mut fields);
                if fields.ends_connection() {
                    fields.severity = "ERROR".into();
                }
                SessionError::Statement(Some(fields))
            }
            ScatterError::Merge(error) => merge_error(&error),
            ScatterError::Relay(RelayError::ClientGone) => {
                self.cancel.abandon(&self.worker);
                return Err(SessionError::ClientGone);
            }
            ScatterError::Relay(error) => error.into(),
        };
        if self.block.is_some() || self.worker_keeps || !self.pinned.is_empty() {
            // The other participants stay in the transaction, and pinned servers with the session.
            let _ = settle(sources).await;
        }
        Err(error)
    }

    fn merger(
        &self,
        plan: &Plan,
        inputs: usize,
        formats: &[Format],
    ) -> Result<Merger, SessionError> {
        let Some(finish) = &plan.finish else {
            return Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                "a scatter without a finish",
            ));
        };
        let limits = self.worker.shared.config.load().limits.clone();
        Ok(Merger::new(Setup {
            finish: Arc::clone(finish),
            window: plan.window,
            inputs,
            result_formats: formats,
            style: self.text_style(),
            limits: Limits {
                groups_max: limits.groups_max,
                bytes_max: limits.merge_memory_max,
            },
        }))
    }

    /// How servers write dates and floats as text for this session.
    fn text_style(&self) -> TextStyle {
        let value = |name: &str| match self.effective().get(name) {
            Some(SettingValue::Raw(text) | SettingValue::Text(text)) => Some(text.clone()),
            None => None,
        };
        let told = |name: &str| {
            self.greeting
                .parameters
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.clone())
        };
        let date_style = value("datestyle")
            .or_else(|| told("DateStyle"))
            .unwrap_or_default();
        let digits = value("extra_float_digits").map_or(self.greeting.extra_float_digits, |v| {
            v.trim_matches('\'').parse().unwrap_or(0)
        });
        TextStyle::new(&date_style, digits)
    }

    /// A bound statement on several shards.
    pub(super) async fn execute_spread(
        &mut self,
        portal: &str,
        prepared: &Rc<Prepared>,
        body: &Bytes,
        plan: Plan,
        rows_max: u32,
    ) -> Result<(), SessionError> {
        if plan.kind != PlanKind::Scatter {
            let own = prepared.own_text().to_owned();
            self.own_at = match &prepared.body {
                Body::Routed(scanned) => characters_before(&prepared.text, scanned),
                Body::Empty | Body::Command(_) | Body::Execute(_) => 0,
            };
            return self.broadcast_simple(&own, plan).await.map(|_| ());
        }
        let bind = Bind::decode(body).map_err(|error| SessionError::from_client_error(&error))?;
        let formats: Vec<Format> = bind.result_formats.iter().collect();
        let name = if rows_max == 0 {
            String::new()
        } else {
            format!("keyway_{}", self.next_portal())
        };
        if rows_max != 0 && self.block.is_none() {
            // The shards' portals live until the transaction ends.
            self.open_block(BlockKind::Batch);
        }
        let mut sources = self.sources(&plan).await?;
        let owed = self.notes().bind_owed.take().is_some();
        if plan.text.is_some() {
            self.position = Position::Unknown;
        }
        for source in &mut sources {
            let sent = self.send_spread(source, prepared, &bind, &plan, &formats, &name);
            if let Err(error) = sent {
                source.lease.outbox.clear();
                self.release(sources);
                return Err(error);
            }
        }
        if rows_max == 0 {
            let describe = if owed {
                Describe::BindComplete
            } else {
                Describe::No
            };
            let rows = self.gather_rows(sources, &plan, &formats, describe).await?;
            self.complete(&format!("SELECT {rows}"));
            return Ok(());
        }
        let gathering = self.open_gathering(&plan, &formats, name, sources).await?;
        if owed {
            reply::bind_complete(&mut self.client.outbox);
        }
        self.fetch_portal(portal, Box::new(gathering), u64::from(rows_max))
            .await
    }

    /// Parse, Bind and Describe (and Execute, when all rows are wanted at once) for one shard.
    fn send_spread(
        &self,
        source: &mut Source,
        prepared: &Prepared,
        bind: &Bind<'_>,
        plan: &Plan,
        formats: &[Format],
        portal: &str,
    ) -> Result<(), SessionError> {
        let hidden = plan.finish.as_ref().map_or(0, |f| f.hidden);
        let out = &mut source.lease.outbox;
        let types = self.server_types(source.shard, &prepared.types)?;
        let text = plan.text.as_deref().unwrap_or(&prepared.text);
        frontend::parse(out, "", text, &types)?;
        let parameter_formats: Vec<Format> = bind.parameter_formats.iter().collect();
        let result_formats = server_formats(formats, hidden);
        frontend::bind(
            out,
            portal,
            "",
            &parameter_formats,
            bind.parameters
                .iter()
                .copied()
                .collect::<Vec<_>>()
                .into_iter(),
            &result_formats,
        )?;
        frontend::describe(out, frontend::Target::Portal, portal)?;
        if portal.is_empty() {
            frontend::execute(out, portal, 0)?;
        }
        frontend::sync(out);
        source.lease.unnamed = None;
        source.lease.expect_syncs(1);
        Ok(())
    }

    /// Sends the Binds of a portal that is read in pieces and takes in the columns.
    async fn open_gathering(
        &mut self,
        plan: &Plan,
        formats: &[Format],
        portal: String,
        mut sources: Vec<Source>,
    ) -> Result<Gathering, SessionError> {
        let merger = self.merger(plan, sources.len(), formats)?;
        let shards: Vec<ShardId> = sources.iter().map(|s| s.shard).collect();
        let mut gathering = Gathering {
            merger,
            ended: vec![false; shards.len()],
            shards,
            portal,
            level: self.savepoints_set(),
            fields: Vec::new(),
        };
        let mut opened = Ok(());
        for (index, source) in sources.iter_mut().enumerate() {
            if opened.is_ok() {
                let out = &mut self.client.outbox;
                opened = open(source, index, &mut gathering.merger, out).await;
            }
        }
        let opened = opened.and_then(|()| client_fields(&gathering.merger, &sources));
        let result = self.after_scatter(opened, &mut sources).await;
        self.release(sources);
        gathering.fields = result?;
        Ok(gathering)
    }

    /// Opens a portal on each shard for a cursor over several.
    pub(super) async fn gathering_for(
        &mut self,
        plan: &Plan,
        query: &str,
        formats: &[Format],
    ) -> Result<Gathering, SessionError> {
        let name = format!("keyway_{}", self.next_portal());
        let hidden = plan.finish.as_ref().map_or(0, |f| f.hidden);
        let mut sources = self.sources(plan).await?;
        self.position = Position::Unknown;
        for source in &mut sources {
            let out = &mut source.lease.outbox;
            let text = plan.text.as_deref().unwrap_or(query);
            let sent = frontend::parse(out, "", text, &[])
                .and_then(|()| {
                    frontend::bind(
                        out,
                        &name,
                        "",
                        &[],
                        std::iter::empty(),
                        &server_formats(formats, hidden),
                    )
                })
                .and_then(|()| frontend::describe(out, frontend::Target::Portal, &name));
            frontend::sync(out);
            source.lease.unnamed = None;
            source.lease.expect_syncs(1);
            if let Err(error) = sent {
                source.lease.outbox.clear();
                self.release(sources);
                return Err(error.into());
            }
        }
        self.open_gathering(plan, formats, name, sources).await
    }

    /// The next rows of a portal over several shards.
    pub(super) async fn fetch_portal(
        &mut self,
        name: &str,
        mut gathering: Box<Gathering>,
        rows_max: u64,
    ) -> Result<(), SessionError> {
        let (rows, more) = self
            .fetch_rows(&mut gathering, rows_max, Rows::Send)
            .await?;
        if more {
            reply::portal_suspended(&mut self.client.outbox);
            if let Some(portal) = self.names.portal(name) {
                portal.place = Place::Merging(gathering);
            }
        } else {
            self.close_gathering(&gathering).await?;
            self.complete(&format!("SELECT {rows}"));
        }
        Ok(())
    }

    pub(super) async fn fetch_rows(
        &mut self,
        gathering: &mut Gathering,
        rows_max: u64,
        whose: Rows,
    ) -> Result<(u64, bool), SessionError> {
        let mut sources = Vec::with_capacity(gathering.shards.len());
        for shard in gathering.shards.clone() {
            match self.source(shard, Access::Read, &Spoils::Nothing).await {
                Ok(source) => sources.push(source),
                Err(error) => {
                    self.release(sources);
                    return Err(error);
                }
            }
        }
        let result = fetch(gathering, &mut sources, rows_max, whose, &mut self.client).await;
        let result = self.after_scatter(result, &mut sources).await;
        self.release(sources);
        result
    }

    /// Closes the shards' portals early.
    pub(super) async fn close_gathering(
        &mut self,
        gathering: &Gathering,
    ) -> Result<(), SessionError> {
        for shard in gathering.shards.clone() {
            if self.block.is_none() {
                return Ok(());
            }
            let mut source = self.source(shard, Access::Read, &Spoils::Nothing).await?;
            let closed = frontend::close(
                &mut source.lease.outbox,
                frontend::Target::Portal,
                &gathering.portal,
            );
            frontend::sync(&mut source.lease.outbox);
            source.lease.expect_syncs(1);
            let name = source.name.clone();
            let result = self.settle(&mut source.lease, &name).await;
            self.give_back(shard, source.lease);
            result?;
            closed?;
        }
        Ok(())
    }

    fn next_portal(&self) -> usize {
        self.worker.next_turn()
    }

    // === the same change on every shard

    /// A schema change, or upkeep, on every shard of the plan.
    pub(super) async fn broadcast_simple(
        &mut self,
        own: &str,
        plan: Plan,
    ) -> Result<Ready, SessionError> {
        let shards: Vec<ShardId> = plan.shards.iter().collect();
        // On all of them from before the first begins until all know the new schema.
        let marks = self.marks(&plan.spoils, &shards).await?;
        if plan.outside_transaction {
            return self.broadcast_loose(own, &plan, &shards).await;
        }
        if plan.access == Access::Write && shards.len() > 1 {
            return Err(SessionError::unsupported(
                "the statement would write on several shards",
                "Cross-shard commit is not part of this version.",
                "Write the rows of one shard at a time.",
            ));
        }
        if let Some(pin) = plan.pin {
            for shard in &shards {
                self.pin(*shard, pin);
            }
        }
        if let ([shard], None) = (shards.as_slice(), &self.block)
            && plan.after.is_empty()
        {
            // Alone on its server it needs no transaction of ours, and may have its own (DO, CALL).
            let text = plan.text.as_deref().unwrap_or(own);
            let position = self.position_of(&plan);
            let said = self
                .run_on(*shard, &plan, text, position, &mut Notices::default())
                .await;
            // A block that fails may have committed before.
            if plan.access == Access::Schema && (said.is_ok() || plan.pin.is_some()) {
                self.schema_changed(change_of(&plan)).await;
            }
            let tag = said?;
            self.complete(&tag);
            return Ok(Ready::Due);
        }
        let own_block = self.block.is_none();
        if own_block {
            self.open_block(BlockKind::Batch);
        }
        let result = self.broadcast_in_block(own, &plan, &shards).await;
        if result.is_err() {
            self.fail_block();
        }
        let tag = match result {
            Ok(tag) => tag,
            Err(error) => return Err(error),
        };
        let changed = self.changed_by(own, &plan);
        if let Some(block) = &mut self.block {
            if plan.access == Access::Schema {
                block.tables.extend(plan.tables.iter().cloned());
                block.changed_schema = block.changed_schema.max(Some(change_of(&plan)));
            }
            block.changed.extend(changed);
            block.marks = block.marks.take().or(marks);
        }
        if own_block {
            self.end_implicit_or_fail().await?;
        }
        self.complete(&tag);
        Ok(Ready::Due)
    }

    async fn broadcast_in_block(
        &mut self,
        own: &str,
        plan: &Plan,
        shards: &[ShardId],
    ) -> Result<String, SessionError> {
        let text = plan.text.as_deref().unwrap_or(own);
        let mut tag = String::new();
        let mut notices = Notices::default();
        for (index, shard) in shards.iter().enumerate() {
            let mut texts = vec![text];
            texts.extend(
                plan.after
                    .iter()
                    .filter(|(s, _)| s == shard)
                    .map(|(_, sql)| sql.as_str()),
            );
            for (step, sql) in texts.into_iter().enumerate() {
                let position = match step {
                    0 => self.position_of(plan),
                    _ => Position::Unknown,
                };
                let said = self
                    .run_on(*shard, plan, sql, position, &mut notices)
                    .await?;
                if step == 0 && index == 0 {
                    tag = said;
                }
            }
        }
        Ok(tag)
    }

    /// Runs one statement on one shard and returns its command tag. The client is told what is new among `notices`.
    async fn run_on(
        &mut self,
        shard: ShardId,
        plan: &Plan,
        sql: &str,
        position: Position,
        notices: &mut Notices,
    ) -> Result<String, SessionError> {
        let mut taken = self
            .take_to_change(shard, plan.access, &plan.spoils)
            .await?;
        if let Err(error) = append_query(&mut taken.lease, sql) {
            taken.lease.outbox.clear();
            self.give_back(shard, taken.lease);
            return Err(error);
        }
        taken.lease.unnamed = None;
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Query, To::Notices);
        taken.script.expect(Reply::Sync, To::Nobody);
        taken.script.position = position;
        notices.next_server();
        taken.script.notices = Some(std::mem::take(notices));
        let result = self.relay_lease(shard, &mut taken).await;
        *notices = taken.script.notices.take().unwrap_or_default();
        self.give_back(shard, taken.lease);
        let relayed = result?;
        if relayed.error.is_some() {
            return Err(SessionError::Statement(None));
        }
        Ok(String::from_utf8_lossy(&relayed.tag).into_owned())
    }

    /// VACUUM and kin: shard after shard, each on its own.
    async fn broadcast_loose(
        &mut self,
        own: &str,
        plan: &Plan,
        shards: &[ShardId],
    ) -> Result<Ready, SessionError> {
        if self.block.is_some() {
            return Err(SessionError::refuse(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "this statement cannot run inside a transaction block",
            ));
        }
        let mut tag = String::new();
        let mut notices = Notices::default();
        let position = Position::Further(self.own_at);
        for (done, shard) in shards.iter().enumerate() {
            let said = self.run_on(*shard, plan, own, position, &mut notices);
            match said.await {
                Ok(said) => tag = said,
                Err(error) => {
                    if done > 0 && plan.access == Access::Schema {
                        let (done, not) = shards.split_at(done);
                        return Err(self
                            .torn_schema_change(done, not[0], &not[1..], &plan.tables)
                            .await);
                    }
                    return Err(error);
                }
            }
        }
        if plan.access == Access::Schema {
            self.schema_changed(change_of(plan)).await;
        }
        self.complete(&tag);
        Ok(Ready::Due)
    }

    /// Every statement from now on is planned with the schema as it is now.
    pub(super) async fn schema_changed(&mut self, change: SchemaChange) {
        let control = &self.worker.shared.control;
        if let Err(error) = control.schema_changed(change).await {
            tracing::error!(%error, "the schema could not be read again after a change");
            let notice = ErrorFields::warning(
                SqlState::WARNING,
                "the change is committed, but Keyway could not read the new schema",
            )
            .hint("Statements may be planned by the old schema until it is read again; send SIGHUP to the router.");
            reply::notice_response(&mut self.client.outbox, &notice);
        }
    }

    /// A schema change that some shards have and others have not: recorded, refused from now on, and told.
    pub(super) async fn torn_schema_change(
        &mut self,
        done: &[ShardId],
        failed: ShardId,
        undone: &[ShardId],
        tables: &[TableName],
    ) -> SessionError {
        let names = |shards: &[ShardId]| {
            shards
                .iter()
                .map(|s| self.shard_name(*s).to_owned())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut without = vec![failed];
        without.extend_from_slice(undone);
        let reason = format!(
            "a schema change is on {} and not on {}",
            names(done),
            names(&without)
        );
        tracing::error!(%reason, "a schema change is on some shards only");
        if let Err(error) = self
            .worker
            .shared
            .control
            .refuse(&self.database.name, tables, &reason)
            .await
        {
            tracing::error!(%error, "the torn schema change could not be recorded in the catalog");
        }
        SessionError::Statement(Some(Box::new(
            ErrorFields::error(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, "the schema change is on some shards only")
                .detail(format!("In words: {reason}."))
                .hint("Apply or undo it on the shards by hint; the tables are refused until `keyway check` finds them equal."),
        )))
    }

    // === errors and explanations from a server

    /// What a server says of a text that it parses, but does not run.
    pub(super) async fn parse_error(
        &mut self,
        shard: ShardId,
        sql: &str,
    ) -> Result<Option<Box<ErrorFields>>, SessionError> {
        let taken = self.take(shard, Access::Read).await?;
        let mut lease = taken.lease;
        append_parse(&mut lease, sql)?;
        let (lease, said) = self.hear(shard, lease).await?;
        self.give_back(shard, lease);
        Ok(said)
    }
}

/// A merge that stopped, as the client is told.
pub(super) fn merge_error(error: &MergeError) -> SessionError {
    SessionError::Statement(Some(Box::new(error.fields())))
}

impl Prepared {
    /// A COPY?
    #[must_use]
    pub fn copies(&self) -> bool {
        matches!(&self.body, Body::Routed(scanned) if scanned.verb == Verb::Copy)
    }

    /// The statement's own text, without what surrounds it.
    #[must_use]
    pub fn own_text(&self) -> &str {
        match &self.body {
            Body::Routed(scanned) => &self.text[scanned.range.clone()],
            // What a command says of its text is counted from its first word.
            Body::Command(_) | Body::Execute(_) | Body::Empty => {
                let own = self.text.get(beginning(&self.text)..).unwrap_or_default();
                own.trim_end().trim_end_matches(';')
            }
        }
    }
}

/// A table that is taken for one of the session's own may be one that all others see.
fn change_of(plan: &Plan) -> SchemaChange {
    if plan.of_temporaries {
        SchemaChange::Possible
    } else {
        SchemaChange::Made
    }
}
