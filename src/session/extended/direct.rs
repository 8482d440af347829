//! Messages for one server: sent in one write, their replies relayed as they come.

use crate::backend::pool::Lease;
use crate::backend::server::Doubt;
use crate::execute::relay::{Keeps, Position, Relayed, Reply, Script, To};
use crate::route::keep::Spoils;
use crate::route::plan::Access;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::extended::{Batch, Closing, Cut, Item, Parses, SentIds, Under, heavier};
use crate::session::prepared::{Canonical, Prepared};
use crate::session::servers::Taken;
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::SqlState;
use crate::wire::frontend::{self, Format, Target};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use std::rc::Rc;

/// What a server calls a statement that is parsed only to hear what is wrong with it.
const IN_VAIN: &str = "kw_in_vain";

impl Session {
    /// The whole batch to one server in one write. True when its ReadyForQuery was passed on.
    pub(super) async fn direct(
        &mut self,
        shard: ShardId,
        batch: Batch,
        cut: Cut,
    ) -> Result<bool, SessionError> {
        if self.known_everywhere(&batch) {
            self.answer_known(&batch);
            self.notes().items_done += batch.items.len();
            return batch.failure.map_or(Ok(false), Err);
        }
        let implicit = self.block.as_ref().is_some_and(|b| b.is_implicit());
        // A COPY decides whether this Sync counts, so its ReadyForQuery waits for it.
        let copies = batch
            .items
            .iter()
            .any(|(item, _)| matches!(item, Item::Execute { copies: true, .. }));
        let whose = if cut == Cut::Sync && !implicit && !copies && batch.failure.is_none() {
            To::Client
        } else {
            To::Nobody
        };
        let items: SmallVec<[Item; 6]> = batch.items.into_iter().map(|(item, _)| item).collect();
        self.segment(shard, &items, whose).await?;
        if let Some(failure) = batch.failure {
            return Err(failure);
        }
        if whose == To::Client && self.block.is_none() {
            self.names.transaction_ended();
        }
        Ok(whose == To::Client)
    }

    /// Only statements to be parsed that a server has parsed before: no server need be asked again.
    pub(super) fn known_everywhere(&self, batch: &Batch) -> bool {
        let key = self.reading();
        batch.items.iter().all(|(item, _)| match item {
            Item::Parse { prepared } => {
                prepared.named
                    && prepared
                        .canonical(&self.worker.statements, key)
                        .parsed_once
                        .get()
            }
            Item::CloseStatement => true,
            _ => false,
        })
    }

    pub(super) fn answer_known(&mut self, batch: &Batch) {
        for (item, _) in &batch.items {
            match item {
                Item::Parse { .. } => reply::parse_complete(&mut self.client.outbox),
                _ => reply::close_complete(&mut self.client.outbox),
            }
        }
    }

    /// Sends these messages and a Sync to one server and relays the replies.
    pub(super) async fn segment(
        &mut self,
        shard: ShardId,
        items: &[Item],
        whose_sync: To,
    ) -> Result<(), SessionError> {
        // What is executed counts: a portal may have been bound in an earlier batch.
        let mut access = Access::Read;
        let mut spoils = Spoils::Nothing;
        let mut copying = false;
        let mut all_sets = Vec::new();
        for item in items {
            if let Item::Execute {
                access: own,
                effects,
                copies,
                sets,
                ..
            } = item
            {
                access = heavier(access, *own);
                spoils = spoils.and(effects.spoils(self.topology.digest));
                copying |= copies;
                all_sets.extend_from_slice(sets);
            }
        }
        // A PREPARE in front of the batch is a Query, which a server that could not begin would pass over.
        let prepares = items.iter().any(|item| match item {
            Item::Bind { prepared, .. } | Item::DescribeStatement(prepared) => {
                prepared.sql_types.is_some() || prepared.executes().is_some()
            }
            _ => false,
        });
        let mut taken = if prepares {
            let mut taken = self.take_to_change(shard, access, &spoils).await?;
            // The server has Keyway's name in place of the client's.
            taken.script.position = Position::Unknown;
            taken
        } else {
            self.take_and_begin(shard, access, &spoils).await?
        };
        let rewritten =
            |item: &Item| matches!(item, Item::Bind { prepared, .. } if prepared.rewritten);
        if items.iter().any(rewritten) {
            taken.script.position = Position::Unknown;
        }
        taken.sets = all_sets;
        taken.lease.begin_batch();
        if items.iter().any(|item| {
            matches!(
                item,
                Item::DescribeStatement(_) | Item::DescribePortal { .. }
            )
        }) {
            taken.script.keeps = Keeps::Clients;
        }
        let prepared_by_sql = match self.send_prepares(shard, items, &mut taken) {
            Ok(ids) => ids,
            Err(error) => {
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
        };
        let mut parses = Parses::on(&taken.lease);
        for item in items {
            let sent = self.send(
                shard,
                item,
                &mut taken.lease,
                &mut taken.script,
                &mut parses,
            );
            if let Err(error) = sent {
                // What was entered as prepared has not been sent.
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
            taken.script.mark();
        }
        if copying {
            frontend::flush(&mut taken.lease.outbox);
            taken.script.late_sync = true;
        } else {
            frontend::sync(&mut taken.lease.outbox);
        }
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Sync, whose_sync);
        let sent = SentIds::new(&parses, prepared_by_sql);
        let relayed = self.relay_batch(shard, taken, &sent).await;
        let (parsed, failed) = match &relayed {
            Ok(relayed) => (relayed.parsed, relayed.error.is_some()),
            Err(_) => (0, true),
        };
        if let Ok(relayed) = &relayed {
            self.remember_told(items, &relayed.described);
        }
        for (canonical, _) in parses.sent.iter().take(parsed) {
            canonical.parsed_once.set(true);
        }
        if failed {
            self.unsay();
        }
        let relayed = relayed?;
        if relayed.error.is_none() {
            for item in items {
                if let Item::Execute {
                    cursor: Some(change),
                    ..
                } = item
                {
                    self.cursor_changed(shard, change);
                }
            }
        }
        if relayed.error.is_some() {
            if whose_sync == To::Client {
                return Ok(());
            }
            return Err(SessionError::Statement(None));
        }
        Ok(())
    }

    /// In front of a batch, the PREPARE of each statement in it that SQL prepared and that the server does not know.
    pub(super) fn send_prepares(
        &self,
        shard: ShardId,
        items: &[Item],
        taken: &mut Taken,
    ) -> Result<SmallVec<[u64; 2]>, SessionError> {
        let mut ids = SmallVec::new();
        for item in items {
            let (Item::Bind { prepared, .. } | Item::DescribeStatement(prepared)) = item else {
                continue;
            };
            let by_sql = prepared.sql_types.as_ref().map(|_| prepared);
            let Some(prepared) = prepared.executes().or(by_sql) else {
                continue;
            };
            if self.send_prepare(shard, prepared, taken)? {
                let canonical = prepared.canonical(&self.worker.statements, self.reading());
                ids.push(canonical.id);
            }
        }
        Ok(ids)
    }

    /// Relays a batch's replies; statements that were not prepared after all are forgotten on the server.
    pub(super) async fn relay_batch(
        &mut self,
        shard: ShardId,
        mut taken: Taken,
        sent: &SentIds,
    ) -> Result<Relayed, SessionError> {
        let result = self.relay_lease(shard, &mut taken).await;
        self.notes().items_done += taken.script.passed();
        if matches!(&result, Ok(relayed) if relayed.error.is_some()) {
            self.unpin_unreached();
        }
        let parsed = result.as_ref().map_or(0, |relayed| relayed.parsed);
        for (id, _) in sent
            .parsed
            .iter()
            .skip(parsed)
            .filter(|(_, under)| *under == Under::Name)
        {
            taken.lease.forget_prepared(*id);
        }
        taken.lease.unnamed = match &result {
            Ok(relayed) => match &relayed.error {
                Some(error) => sent.unnamed_behind_error(parsed, error.reply),
                None => taken.lease.unnamed,
            },
            Err(_) => None,
        };
        let hidden = |relayed: &Relayed| relayed.error.as_ref().is_some_and(|e| e.hidden);
        if !sent.prepared_by_sql.is_empty() && result.as_ref().map_or(true, hidden) {
            for id in &sent.prepared_by_sql {
                taken.lease.forget_prepared(*id);
            }
            // Some of them may be there.
            taken.lease.retire();
        }
        self.give_back(shard, taken.lease);
        Ok(result?)
    }

    /// Appends one message to a server's outbox, and to the script what will answer it.
    pub(super) fn send(
        &mut self,
        shard: ShardId,
        item: &Item,
        lease: &mut Lease,
        script: &mut Script,
        parses: &mut Parses,
    ) -> Result<(), SessionError> {
        match item {
            Item::Parse { prepared } => {
                let key = self.reading();
                let canonical = prepared.canonical(&self.worker.statements, key);
                if prepared.named && lease.has_prepared(canonical.id) {
                    script.say(Bytes::from_static(b"1\0\0\0\x04"));
                } else {
                    self.send_parse(shard, &canonical, prepared, lease, script, To::Client)?;
                    parses.push(&canonical, Under::of(prepared));
                }
            }
            Item::ParseInVain { prepared } => {
                // Under a name of its own: what the server has unnamed stays.
                let types = self.server_types(shard, &prepared.types)?;
                frontend::parse(&mut lease.outbox, IN_VAIN, &prepared.text, &types)?;
                script.expect(Reply::Parse, To::Nobody);
                let canonical = prepared.canonical(&self.worker.statements, self.reading());
                parses.push(&canonical, Under::InVain);
                frontend::close(&mut lease.outbox, Target::Statement, IN_VAIN)?;
                script.expect(Reply::Close, To::Nobody);
            }
            Item::Bind {
                portal,
                prepared,
                body,
            } => {
                let name = self.ensure(shard, prepared, lease, script, parses)?;
                frontend::bind_renamed(&mut lease.outbox, body, &name, portal).map_err(|_| {
                    SessionError::refuse(SqlState::PROTOCOL_VIOLATION, "malformed Bind")
                })?;
                script.expect(Reply::Bind, To::Client);
                let formats = frontend::Bind::decode(body).map(|b| b.result_formats);
                let binary = formats.is_ok_and(|f| f.iter().any(|f| f == Format::Binary));
                if binary && self.type_map(shard).is_some() {
                    // Do the columns' binary forms name types by this shard's numbers? The client may not ask.
                    frontend::describe(&mut lease.outbox, Target::Portal, portal)?;
                    script.expect(Reply::DescribePortal, To::Nobody);
                }
            }
            Item::DescribeStatement(prepared) => {
                let name = self.ensure(shard, prepared, lease, script, parses)?;
                frontend::describe(&mut lease.outbox, Target::Statement, &name)?;
                script.expect(Reply::DescribeStatement, To::Client);
            }
            Item::DescribePortal { portal, .. } => {
                frontend::describe(&mut lease.outbox, Target::Portal, portal)?;
                script.expect(Reply::DescribePortal, To::Client);
            }
            Item::Execute {
                portal, rows_max, ..
            } => {
                frontend::execute(&mut lease.outbox, portal, *rows_max)?;
                script.expect(Reply::Execute, To::Client);
            }
            Item::CloseStatement => script.say(Bytes::from_static(b"3\0\0\0\x04")),
            Item::ClosePortal(portal, Closing::OnServer) => {
                frontend::close(&mut lease.outbox, Target::Portal, portal)?;
                script.expect(Reply::Close, To::Client);
            }
            Item::ClosePortal(..) => script.say(Bytes::from_static(b"3\0\0\0\x04")),
        }
        Ok(())
    }

    /// Makes sure that a server knows a statement; returns the name it knows it by.
    pub(super) fn ensure(
        &self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
        lease: &mut Lease,
        script: &mut Script,
        parses: &mut Parses,
    ) -> Result<String, SessionError> {
        let canonical = prepared.canonical(&self.worker.statements, self.reading());
        let known = if prepared.named {
            lease.has_prepared(canonical.id)
        } else {
            lease.unnamed == Some(canonical.id)
        };
        if !known && prepared.sql_types.is_some() {
            return Err(SessionError::refuse(
                SqlState::INTERNAL_ERROR,
                "a statement that SQL prepared was not made known to its server",
            ));
        }
        if !known {
            self.send_parse(shard, &canonical, prepared, lease, script, To::Nobody)?;
            parses.push(&canonical, Under::of(prepared));
        }
        Ok(canonical.name.clone())
    }

    pub(super) fn send_parse(
        &self,
        shard: ShardId,
        canonical: &Rc<Canonical>,
        prepared: &Prepared,
        lease: &mut Lease,
        script: &mut Script,
        to: To,
    ) -> Result<(), SessionError> {
        let types = self.server_types(shard, &prepared.types)?;
        if prepared.named {
            for evicted in lease.add_prepared(canonical.id) {
                // In front of everything else of the batch, so that no error can skip it.
                let mut close = BytesMut::new();
                frontend::close(&mut close, Target::Statement, &format!("kw_{evicted}"))?;
                close.extend_from_slice(&lease.outbox);
                lease.outbox = close;
                script.expect_first(Reply::Close, To::Nobody);
            }
        } else {
            lease.unnamed = Some(canonical.id);
        }
        frontend::parse(&mut lease.outbox, &canonical.name, &prepared.text, &types)?;
        script.expect(Reply::Parse, to);
        Ok(())
    }

    /// The client's type OIDs as this shard knows them.
    pub(in crate::session) fn server_types(
        &self,
        shard: ShardId,
        types: &[u32],
    ) -> Result<SmallVec<[u32; 4]>, SessionError> {
        let Some(map) = self.type_map(shard) else {
            return Ok(types.iter().copied().collect());
        };
        types
            .iter()
            .map(|oid| {
                map.server(*oid).ok_or_else(|| {
                    SessionError::unsupported(
                        "a parameter's type does not exist on every shard",
                        &format!(
                            "Type OID {oid} is not known on shard {}.",
                            self.shard_name(shard)
                        ),
                        "Create the type through Keyway, and run `keyway check`.",
                    )
                })
            })
            .collect()
    }
}
