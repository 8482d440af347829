//! Sharding keys that an INSERT leaves to their default: made before the statement is planned, and given in its text.
//!
//! The values come from the table's own sequence on one shard (any of them: no two shards' ranges meet), or are random
//! uuids. Rows of one statement, and statements of one transaction, get values that belong to one shard; a sequence's
//! values that belong elsewhere are left out, as those of transactions that were rolled back are.

use crate::backend::pool::Lease;
use crate::execute::relay::drain_rows;
use crate::route::choose::made::{KeySource, MadeKeys};
use crate::route::plan::Access;
use crate::session::Session;
use crate::session::error::SessionError;
use crate::session::prepared::{Body, Prepared};
use crate::session::servers::append_query;
use crate::session::transaction::{Sequences, Wrote};
use crate::statement::insert::{Given, give_column};
use crate::statement::scan::{Scanned, Verb, scan};
use crate::topology::ShardId;
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use std::rc::Rc;
use std::sync::Arc;

/// Values asked for at once.
const DRAWN_MAX: usize = 10_000;

/// How often values are asked for before the shard is given up: one that owns few buckets is seldom met.
const ROUNDS_MAX: usize = 100;

/// How often a value is left out because its shard cannot be reached.
const ANEW_MAX: usize = 4;

impl Session {
    /// The keys to be made before this statement can be planned.
    pub(super) fn keys_to_make(&self, text: &str, scanned: &Scanned) -> Option<Arc<MadeKeys>> {
        if scanned.verb != Verb::Insert || self.block.as_ref().is_some_and(|block| block.failed) {
            return None;
        }
        self.recipe(text, scanned).ok()?.makes.clone()
    }

    /// As [`Session::keys_to_make`], for what a client has prepared.
    pub(super) fn keys_of_prepared(&mut self, prepared: &Prepared) -> Option<Arc<MadeKeys>> {
        match &prepared.body {
            Body::Routed(scanned) if prepared.sql_types.is_none() => {
                self.keys_to_make(&prepared.text, scanned)
            }
            _ => None,
        }
    }

    /// A statement with its keys in it.
    pub(super) async fn with_keys(
        &mut self,
        made: &MadeKeys,
        own: &str,
        near: Option<ShardId>,
    ) -> Result<String, SessionError> {
        if self.worker_keeps {
            return Err(SessionError::unsupported(
                "a sharding key cannot be left to its default with session pooling",
                &format!(
                    "Keyway makes {} before the row's shard is known, and currval() and lastval() would not know of it.",
                    made.column
                ),
                "Give it in the statement, or use pool.mode = \"transaction\".",
            ));
        }
        if let Some(block) = &mut self.block {
            // What its servers know of sequences is no longer what the client took.
            block.sequences = Sequences::Shared;
        }
        let values = self.make_keys(made, near).await?;
        let given = Given {
            column: &made.column,
            place: made.place,
            values: &values,
            always: made.always,
        };
        give_column(own, self.scan_settings(), &given).ok_or_else(|| {
            SessionError::unsupported(
                "the row's shard cannot be found",
                &format!(
                    "The place of {} in the statement is not understood.",
                    made.column
                ),
                "List the columns, and give the sharding key.",
            )
        })
    }

    /// What a client has prepared, with keys for one execution.
    pub(super) async fn prepared_with_keys(
        &mut self,
        made: &MadeKeys,
        prepared: &Prepared,
        near: Option<ShardId>,
    ) -> Result<Rc<Prepared>, SessionError> {
        let Body::Routed(scanned) = &prepared.body else {
            return Err(broken("only a routed statement has rows"));
        };
        let range = scanned.range.clone();
        let own = self
            .with_keys(made, &prepared.text[range.clone()], near)
            .await?;
        // Hints stand in comments around the statement.
        let (before, behind) = (&prepared.text[..range.start], &prepared.text[range.end..]);
        let text = format!("{before}{own}{behind}");
        let scanned = self.one_statement(&text)?;
        Ok(Rc::new(Prepared {
            text: Rc::from(text),
            types: prepared.types.clone(),
            body: Body::Routed(scanned),
            named: false,
            sql_types: None,
            canonical: Default::default(),
            recipe: Default::default(),
            told: prepared.told.clone(),
            rewritten: true,
        }))
    }

    /// The only statement of a text that Keyway wrote.
    pub(super) fn one_statement(&self, text: &str) -> Result<Scanned, SessionError> {
        scan(text, self.scan_settings())
            .ok()
            .and_then(|statements| statements.into_iter().find(|s| s.verb != Verb::Empty))
            .ok_or_else(|| broken("a statement with its keys cannot be read"))
    }

    /// A value for each row, all of one shard.
    async fn make_keys(
        &mut self,
        made: &MadeKeys,
        near: Option<ShardId>,
    ) -> Result<Vec<String>, SessionError> {
        let mut place = made.only.or_else(|| self.key_place(made, near));
        let mut keys = Vec::with_capacity(made.rows);
        for round in 0..ROUNDS_MAX {
            // The first one decides, unless something else has.
            let count = match place {
                None => 1,
                Some(_) => (made.rows - keys.len()) * made.holders.len().max(1),
            };
            let values = match &made.source {
                KeySource::Uuid => random_uuids(count.min(DRAWN_MAX))?,
                KeySource::Sequence(next) => {
                    self.draw(made, next, count.min(DRAWN_MAX), place).await?
                }
            };
            for value in values {
                let shard = made.shard_of(&value, &self.topology);
                // Nobody asks for a shard that is down; once in a while it is tried whether it still is.
                if place.is_none()
                    && (round >= ANEW_MAX || !shard.is_some_and(|s| self.is_failing(s)))
                {
                    place = shard;
                }
                if shard.is_some() && shard == place && keys.len() < made.rows {
                    keys.push(value);
                }
            }
            if keys.len() == made.rows {
                return Ok(keys.into_iter().map(|key| as_sql(made, &key)).collect());
            }
        }
        Err(SessionError::unsupported(
            "the row's shard cannot be found",
            &format!(
                "None of many values for {} belongs to the shard that the transaction or the hint asks for.",
                made.column
            ),
            "Give the sharding key in the statement.",
        ))
    }

    /// The shard that the transaction's rows should be on: where it writes, or at least reads.
    fn key_place(&self, made: &MadeKeys, near: Option<ShardId>) -> Option<ShardId> {
        let participants = || self.block.iter().flat_map(|block| &block.participants);
        let writer = participants().find(|p| p.wrote > Wrote::Nothing);
        let other = || participants().find(|p| made.holders.contains(p.shard));
        writer
            .or_else(other)
            .map(|participant| participant.shard)
            .or(near)
            .filter(|shard| made.holders.contains(*shard))
    }

    /// The next values of a table's sequence.
    async fn draw(
        &mut self,
        made: &MadeKeys,
        next: &str,
        count: usize,
        place: Option<ShardId>,
    ) -> Result<Vec<String>, SessionError> {
        let sql = format!("SELECT {next} FROM pg_catalog.generate_series(1, {count})");
        let taking_part = |session: &mut Self, shard| {
            let block = session.block.as_mut();
            block.is_some_and(|block| block.participant(shard).is_some())
        };
        if let Some(shard) = place
            && taking_part(self, shard)
        {
            let taken = self.take(shard, Access::Read).await?;
            return self.draw_from(shard, taken.lease, &sql).await;
        }
        let settings = match &self.block {
            Some(block) => Arc::clone(&block.before),
            None => Arc::clone(&self.settings),
        };
        // Always the same one, as long as it can be reached, so that values grow.
        let mut failed = None;
        for shard in made.holders.clone().iter() {
            if taking_part(self, shard) {
                continue;
            }
            match self.check_out(shard, &settings).await {
                Ok(lease) => return self.draw_from(shard, lease, &sql).await,
                Err(error @ SessionError::Statement(_)) if !error.is_canceled() => {
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| broken("no shard can be asked for a key")))
    }

    async fn draw_from(
        &mut self,
        shard: ShardId,
        mut lease: Lease,
        sql: &str,
    ) -> Result<Vec<String>, SessionError> {
        append_query(&mut lease, sql)?;
        lease.expect_syncs(1);
        let name = self.shard_name(shard).to_owned();
        let mut values = Vec::new();
        let heard = match lease.flush().await {
            Ok(()) => {
                let row = |body: &[u8]| {
                    if let Some(Ok(Some(value))) = reply::columns(body).next() {
                        values.push(String::from_utf8_lossy(value).into_owned());
                    }
                };
                drain_rows(&mut lease, &name, row)
                    .await
                    .map_err(SessionError::from)
            }
            Err(source) => Err(self.lost(&name, source)),
        };
        self.give_back(shard, lease);
        match heard? {
            None => Ok(values),
            Some(error) => Err(SessionError::Statement(Some(error))),
        }
    }
}

/// A key as SQL of its type.
fn as_sql(made: &MadeKeys, key: &str) -> String {
    match made.source {
        KeySource::Sequence(_) => key.to_owned(),
        KeySource::Uuid => format!("'{key}'::pg_catalog.uuid"),
    }
}

/// Of version 4, as gen_random_uuid() makes them (RFC 4122, 4.4).
fn random_uuids(count: usize) -> Result<Vec<String>, SessionError> {
    let mut uuids = Vec::with_capacity(count);
    for _ in 0..count {
        let mut bytes = [0_u8; 16];
        getrandom::fill(&mut bytes).map_err(|_| broken("no random bytes to be had"))?;
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        uuids.push(format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ));
    }
    Ok(uuids)
}

fn broken(what: &str) -> SessionError {
    SessionError::Statement(Some(Box::new(ErrorFields::error(
        SqlState::INTERNAL_ERROR,
        what,
    ))))
}
