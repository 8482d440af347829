//! What clients have been told of their statements stays true.

use crate::backend::server::Doubt;
use crate::execute::relay::{Described, Keeps, Reply, To};
use crate::route::plan::Access;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::extended::{Batch, Item, Need, Parses, SentIds};
use crate::session::prepared::{Body, Prepared, Told};
use crate::session::servers::Taken;
use crate::topology::ShardId;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frontend::{self, Target};
use smallvec::SmallVec;
use std::rc::Rc;

impl Session {
    /// Remembers what the client has been told of statements for the first time.
    pub(super) fn remember_told(&self, items: &[Item], described: &[Described]) {
        let mut described = described.iter();
        for item in items {
            let (Item::DescribeStatement(prepared) | Item::DescribePortal { prepared, .. }) = item
            else {
                continue;
            };
            if let Some(described) = described.next() {
                self.remember(prepared, described);
            }
        }
    }

    pub(in crate::session) fn remember(&self, prepared: &Prepared, described: &Described) {
        let known = prepared
            .told
            .get()
            .and_then(|told| told.described.parameters);
        let described = Described {
            parameters: described.parameters.or(known),
            ..*described
        };
        let reading = self.reading();
        prepared.told.set(Some(Told { reading, described }));
    }

    /// Are the statements of a batch still what the client was told they are? A change of the schema, or of the
    /// search_path, may have made them others since, which PostgreSQL refuses too (plancache.c, RevalidateCachedQuery).
    pub(super) async fn still_as_told(&mut self, batch: &Batch) -> Result<(), SessionError> {
        let reading = self.reading();
        for (item, need) in &batch.items {
            let (Item::Bind { prepared, .. } | Item::DescribeStatement(prepared)) = item else {
                continue;
            };
            let prepared = prepared.executes().unwrap_or(prepared);
            let Some(told) = prepared.told.get().filter(|told| told.reading != reading) else {
                continue;
            };
            let shard = match need {
                Need::Shard(shard) => *shard,
                Need::Any(shards) => self.choose_among(shards),
                Need::Own | Need::Nothing => match &prepared.body {
                    Body::Routed(scanned) => {
                        let shards = self.shards_that_parse(prepared, scanned)?;
                        self.choose_among(&shards)
                    }
                    Body::Empty | Body::Command(_) | Body::Execute(_) => continue,
                },
            };
            self.is_as_told(shard, prepared, told).await?;
        }
        Ok(())
    }

    /// Is the statement still what the client was told it is?
    pub(in crate::session) async fn is_as_told(
        &mut self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
        told: Told,
    ) -> Result<(), SessionError> {
        let reading = self.reading();
        let now = self.described_now(shard, prepared).await?;
        let parameters = told.described.parameters.or(now.parameters);
        if now.columns != told.described.columns || parameters != now.parameters {
            return Err(SessionError::Statement(Some(Box::new(
                ErrorFields::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    "cached plan must not change result type",
                )
                .hint("Prepare the statement again."),
            ))));
        }
        prepared.told.set(Some(Told { reading, ..told }));
        Ok(())
    }

    /// How a server describes a statement now.
    pub(in crate::session) async fn described_now(
        &mut self,
        shard: ShardId,
        prepared: &Rc<Prepared>,
    ) -> Result<Described, SessionError> {
        let mut taken = self.take(shard, Access::Read).await?;
        let mut prepared_by_sql = SmallVec::new();
        let made = if prepared.sql_types.is_some() {
            self.send_prepare(shard, prepared, &mut taken)
        } else {
            Ok(false)
        };
        let Taken { lease, script, .. } = &mut taken;
        let mut parses = Parses::on(lease);
        script.keeps = Keeps::All;
        let sent = made.and_then(|made| {
            if made {
                let canonical = prepared.canonical(&self.worker.statements, self.reading());
                prepared_by_sql.push(canonical.id);
            }
            self.ensure(shard, prepared, lease, script, &mut parses)
        });
        let sent = sent.and_then(|name| {
            Ok(frontend::describe(
                &mut lease.outbox,
                Target::Statement,
                &name,
            )?)
        });
        if let Err(error) = sent {
            taken.lease.doubt(Doubt::SessionState);
            self.give_back(shard, taken.lease);
            return Err(error);
        }
        script.expect(Reply::DescribeStatement, To::Nobody);
        frontend::sync(&mut lease.outbox);
        lease.expect_syncs(1);
        script.expect(Reply::Sync, To::Nobody);
        let sent = SentIds::new(&parses, prepared_by_sql);
        let relayed = self.relay_batch(shard, taken, &sent).await?;
        // An error has been told.
        let described = relayed.described.first().copied();
        described.ok_or(SessionError::Statement(None))
    }
}
