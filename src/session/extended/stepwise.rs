//! A batch message by message: statements about the session itself, several shards, or both.

use crate::backend::server::Doubt;
use crate::execute::relay::{Keeps, Reply, To};
use crate::execute::scatter::Describe;
use crate::route::plan::{Access, PlanKind};
use crate::session::Session;
use crate::session::cursors::cannot_run;
use crate::session::error::SessionError;
use crate::session::extended::understand::no_portal;
use crate::session::extended::{Batch, Closing, Item, Need, Parses, SentIds};
use crate::session::portal::{Again, OwnCursor, Place, Portal, Ran};
use crate::session::prepared::{Body, Prepared};
use crate::session::transaction::BlockKind;
use crate::statement::command::Command;
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::SqlState;
use crate::wire::frontend::{self, Target};
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::rc::Rc;

impl Session {
    /// The batch message by message: statements about the session, several shards, or both.
    pub(super) async fn stepwise(
        &mut self,
        batch: Batch,
        keep_open: bool,
    ) -> Result<(), SessionError> {
        if self.block.is_none() && (batch.executes > 1 || keep_open) {
            self.open_block(BlockKind::Batch);
        }
        let named = batch.items.iter().filter_map(|(_, need)| match need {
            Need::Shard(shard) => Some(*shard),
            _ => None,
        });
        let named: BTreeSet<ShardId> = named.collect();
        if named.len() > 1 {
            self.take_ahead(&named).await?;
        }
        let mut segment: SmallVec<[Item; 6]> = SmallVec::new();
        let mut target: Option<ShardId> = None;
        for (item, need) in batch.items {
            let next = match need {
                Need::Nothing | Need::Own => None,
                Need::Shard(shard) => Some(shard),
                Need::Any(set) => Some(match target {
                    Some(shard) if set.contains(shard) => shard,
                    _ => self.choose_among(&set),
                }),
            };
            if let (Some(shard), true) = (target, next != target) {
                self.pay_bind().await?;
                self.segment(shard, &std::mem::take(&mut segment), To::Nobody)
                    .await?;
            }
            target = next;
            if next.is_some() {
                segment.push(item);
            } else {
                self.own_item(item).await?;
                self.notes().items_done += 1;
            }
        }
        self.pay_bind().await?;
        if let Some(shard) = target {
            self.segment(shard, &segment, To::Nobody).await?;
        }
        batch.failure.map_or(Ok(()), Err)
    }

    /// A message that Keyway answers itself.
    pub(super) async fn own_item(&mut self, item: Item) -> Result<(), SessionError> {
        if !matches!(item, Item::DescribePortal { .. } | Item::Execute { .. }) {
            self.pay_bind().await?;
        }
        let out = &mut self.client.outbox;
        match item {
            Item::Parse { .. } => reply::parse_complete(out),
            Item::ParseInVain { .. } => {}
            Item::Bind { portal, .. } => {
                // The shards' word on the parameters comes with Describe or Execute.
                if matches!(self.names.portal(&portal).map(|p| &p.place), Some(Place::Merge(plan)) if plan.kind == PlanKind::Scatter)
                {
                    self.notes().bind_owed = Some(portal);
                    return Ok(());
                }
                reply::bind_complete(&mut self.client.outbox);
            }
            Item::CloseStatement => reply::close_complete(out),
            Item::ClosePortal(name, closing) => {
                if closing == Closing::Own {
                    self.close_own_portal(&name).await?;
                }
                reply::close_complete(&mut self.client.outbox);
            }
            Item::DescribeStatement(prepared) => {
                reply::parameter_description(out, &prepared.types);
                self.describe_own(&prepared);
            }
            Item::DescribePortal { portal, .. } => self.describe_portal(&portal).await?,
            Item::Execute {
                portal, rows_max, ..
            } => self.execute_own(&portal, rows_max).await?,
        }
        Ok(())
    }

    /// Says the BindComplete that was held back, once a shard has seen the parameters.
    pub(super) async fn pay_bind(&mut self) -> Result<(), SessionError> {
        let Some(name) = self.notes().bind_owed.clone() else {
            return Ok(());
        };
        let Some(portal) = self.names.portal(&name) else {
            self.notes().bind_owed = None;
            reply::bind_complete(&mut self.client.outbox);
            return Ok(());
        };
        let Place::Merge(plan) = &portal.place else {
            return Ok(());
        };
        let (prepared, body) = (Rc::clone(&portal.prepared), portal.bind.clone());
        let shard = plan.shards.iter().next().unwrap_or(ShardId(0));
        self.describe_on(shard, &name, &prepared, &body, To::Nobody)
            .await
    }

    pub(super) async fn close_own_portal(&mut self, name: &str) -> Result<(), SessionError> {
        match self.names.close_portal(name) {
            Some(Portal {
                place: Place::Merging(gathering) | Place::Cursor(gathering, _),
                ..
            }) => self.close_gathering(&gathering).await,
            _ => Ok(()),
        }
    }

    /// What a statement about the session returns.
    pub(super) fn describe_own(&mut self, prepared: &Prepared) {
        use crate::statement::command::Command;
        match &prepared.body {
            Body::Command(Command::ExplainRoute { .. }) => self.say_plan_description(),
            Body::Command(command @ (Command::Show(_) | Command::CacheFlush(_))) => {
                self.say_own_columns(command);
            }
            Body::Routed(scanned) => match self.cursor_description(prepared.own_text(), scanned) {
                Some(description) => self.client.outbox.extend_from_slice(&description),
                None => reply::no_data(&mut self.client.outbox),
            },
            _ => reply::no_data(&mut self.client.outbox),
        }
    }

    pub(super) async fn describe_portal(&mut self, name: &str) -> Result<(), SessionError> {
        let Some(portal) = self.names.portal(name) else {
            return Err(no_portal(name));
        };
        let prepared = Rc::clone(&portal.prepared);
        if let Place::Cursor(_, description) = &portal.place {
            let description = description.clone();
            self.client.outbox.extend_from_slice(&description);
            return Ok(());
        }
        match &portal.place {
            Place::Merge(plan) if plan.kind == PlanKind::Scatter => {
                let body = portal.bind.clone();
                let shard = plan.shards.iter().next().unwrap_or(ShardId(0));
                self.describe_on(shard, name, &prepared, &body, To::Client)
                    .await
            }
            Place::Merging(_) | Place::Undone(_) | Place::Ran(_)
                if portal.place.columns().is_some() =>
            {
                let shard = portal.place.columns().unwrap_or(ShardId(0));
                let body = portal.bind.clone();
                self.describe_on(shard, name, &prepared, &body, To::Client)
                    .await
            }
            // A kept answer was given: no server has seen it.
            Place::Ran(_) if portal.access == Access::Read => {
                let body = portal.bind.clone();
                let Need::Any(shards) = self.parse_need(&prepared)? else {
                    self.describe_own(&prepared);
                    return Ok(());
                };
                let shard = self.choose_among(&shards);
                self.describe_on(shard, name, &prepared, &body, To::Client)
                    .await
            }
            _ => {
                self.describe_own(&prepared);
                Ok(())
            }
        }
    }

    /// The client's own text, bound as the client bound it, described by one shard: exactly its columns and formats.
    pub(super) async fn describe_on(
        &mut self,
        shard: ShardId,
        portal: &str,
        prepared: &Rc<Prepared>,
        body: &Bytes,
        whose: To,
    ) -> Result<(), SessionError> {
        let whose_bind = if self.notes().bind_owed.take().is_some() {
            To::Client
        } else {
            To::Nobody
        };
        let mut taken = self.take(shard, Access::Read).await?;
        let mut prepared_by_sql = SmallVec::new();
        if prepared.sql_types.is_some() {
            match self.send_prepare(shard, prepared, &mut taken) {
                Ok(true) => {
                    let canonical = prepared.canonical(&self.worker.statements, self.reading());
                    prepared_by_sql.push(canonical.id);
                }
                Ok(false) => {}
                Err(error) => {
                    taken.lease.doubt(Doubt::SessionState);
                    self.give_back(shard, taken.lease);
                    return Err(error);
                }
            }
        }
        let mut parses = Parses::on(&taken.lease);
        let known = self.ensure(
            shard,
            prepared,
            &mut taken.lease,
            &mut taken.script,
            &mut parses,
        );
        let name = match known {
            Ok(name) => name,
            Err(error) => {
                taken.lease.doubt(Doubt::SessionState);
                self.give_back(shard, taken.lease);
                return Err(error);
            }
        };
        let malformed = |_| SessionError::refuse(SqlState::PROTOCOL_VIOLATION, "malformed Bind");
        frontend::bind_renamed(&mut taken.lease.outbox, body, &name, portal).map_err(malformed)?;
        taken.script.expect(Reply::Bind, whose_bind);
        frontend::describe(&mut taken.lease.outbox, Target::Portal, portal)?;
        taken.script.expect(Reply::DescribePortal, whose);
        taken.script.keeps = Keeps::Clients;
        frontend::close(&mut taken.lease.outbox, Target::Portal, portal)?;
        taken.script.expect(Reply::Close, To::Nobody);
        frontend::sync(&mut taken.lease.outbox);
        taken.lease.expect_syncs(1);
        taken.script.expect(Reply::Sync, To::Nobody);
        let sent = SentIds::new(&parses, prepared_by_sql);
        let relayed = self.relay_batch(shard, taken, &sent).await?;
        if relayed.error.is_some() {
            return Err(SessionError::Statement(None));
        }
        if let Some(described) = relayed.described.first() {
            self.remember(prepared, described);
        }
        Ok(())
    }

    /// Executes a portal that no single server holds.
    pub(super) async fn execute_own(
        &mut self,
        name: &str,
        rows_max: u32,
    ) -> Result<(), SessionError> {
        let Some(portal) = self.names.portal(name) else {
            return Err(no_portal(name));
        };
        let prepared = Rc::clone(&portal.prepared);
        if matches!(portal.place, Place::Cursor(..)) {
            return Err(SessionError::unsupported(
                "Execute of a cursor over several shards is not supported",
                "SQL declared it, and SQL fetches from it.",
                "Use FETCH.",
            ));
        }
        if matches!(portal.place, Place::Undone(_)) {
            return Err(SessionError::unsupported(
                "a portal over several shards cannot go on behind ROLLBACK TO",
                "Its shards were first asked behind the savepoint, and have rolled back what they had of it.",
                "Bind it again, or execute it first in front of the savepoint.",
            ));
        }
        if let Place::Ran(ran) = &portal.place {
            let again = ran.again;
            if !self.ends_block(&prepared) {
                self.refuse_in_failed_block()?;
            }
            return match again {
                Again::Never => Err(cannot_run(name)),
                Again::Tag(tag) => {
                    self.complete(tag);
                    Ok(())
                }
            };
        }
        let columns = portal.place.columns();
        let place = std::mem::replace(&mut portal.place, Place::Ran(Ran::once(columns)));
        let tag = match place {
            Place::Local => match &prepared.body {
                Body::Empty => {
                    portal.place = Place::Local;
                    reply::empty_query_response(&mut self.client.outbox);
                    None
                }
                Body::Execute(execution) => return self.execute_nothing(execution),
                Body::Command(command) => {
                    let own = prepared.own_text().to_owned();
                    self.bound_command(command.clone(), &own, &prepared.text)
                        .await?;
                    match command {
                        Command::ExplainRoute { .. } => Some("EXPLAIN"),
                        Command::Show(_) => Some("SHOW"),
                        Command::CacheFlush(_) => Some(NO_MORE_ROWS),
                        _ => None,
                    }
                }
                Body::Routed(_) => {
                    return Err(SessionError::refuse(
                        SqlState::INTERNAL_ERROR,
                        "a routed statement is not local",
                    ));
                }
            },
            Place::Merge(plan) => {
                let body = portal.bind.clone();
                let reads = plan.kind == PlanKind::Scatter;
                if let Body::Routed(scanned) = &prepared.body {
                    self.refuse_behind_change(&prepared.text, scanned, &plan)?;
                }
                self.execute_spread(name, &prepared, &body, *plan, rows_max)
                    .await?;
                reads.then_some(NO_MORE_ROWS)
            }
            Place::Merging(gathering) => {
                self.fetch_portal(name, gathering, u64::from(rows_max))
                    .await?;
                Some(NO_MORE_ROWS)
            }
            Place::OwnCursor(statement) => match *statement {
                OwnCursor::Declare(declare, plan, query) => {
                    self.declare_own(&declare, &plan, &query).await?;
                    None
                }
                OwnCursor::Use(command) => {
                    let fetches = matches!(command, Command::Fetch { .. });
                    if fetches && rows_max > 0 {
                        return Err(SessionError::unsupported(
                            "FETCH from a cursor over several shards takes no row limit",
                            "It returns as many rows as it says.",
                            "Write the number of rows into FETCH.",
                        ));
                    }
                    // CLOSE ALL spares the portal that runs it.
                    let spared = matches!(command, Command::Close(None))
                        .then(|| self.names.close_portal(name))
                        .flatten();
                    let tag = self.use_own_cursor(command, Describe::No).await;
                    if let Some(portal) = spared {
                        self.names.set_portal(name, portal);
                    }
                    let tag = tag?;
                    self.complete(&tag);
                    fetches.then_some("FETCH 0")
                }
            },
            Place::Server(_) | Place::Cursor(..) | Place::Undone(_) | Place::Ran(_) => {
                return Err(SessionError::refuse(
                    SqlState::INTERNAL_ERROR,
                    "the portal is not Keyway's to run",
                ));
            }
        };
        // The statement may have closed its own portal.
        let place = self.names.portal(name).map(|portal| &mut portal.place);
        if let (Some(Place::Ran(ran)), Some(tag)) = (place, tag) {
            ran.again = Again::Tag(tag);
        }
        Ok(())
    }
}

/// What a SELECT that has returned all its rows says when it is executed again.
pub(super) const NO_MORE_ROWS: &str = "SELECT 0";
