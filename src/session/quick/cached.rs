//! Kept answers on the fast path: a hit costs a question, a look and a write.

use crate::cache::results::flight::Boarding;
use crate::cache::results::key::{Asker, Key};
use crate::cache::results::reply::Asked;
use crate::cache::results::store::Asking;
use crate::metrics::Outcome;
use crate::route::keep::{Changes, NotKept, Spoils};
use crate::route::key::Values;
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::kept::{
    AskingNow, BoundTo, Look, cells_of_reads, keep, kind_of, write_question,
};
use crate::session::portal::{Again, Effects, Hold, Place, Portal, Ran};
use crate::session::prepared::Prepared;
use crate::session::quick::messages::Request;
use crate::topology::ShardId;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What the cache has to do with a statement.
pub(super) enum CachesPart {
    /// The client has been told a kept answer.
    Told,
    /// A shard is to be asked.
    Asks {
        shard: ShardId,
        /// What the statement changes, if the cache must know.
        spoils: Option<Box<Spoils>>,
        /// The answer is to be kept.
        asking: Option<Box<AskingNow>>,
    },
}

impl CachesPart {
    /// The shard is asked, and nothing else.
    #[inline]
    pub(super) fn none(shard: ShardId) -> Self {
        Self::Asks {
            shard,
            spoils: None,
            asking: None,
        }
    }
}

/// What the cache says to a statement.
enum Cached {
    /// It has no part in it.
    No,
    /// It has no answer, and would keep one.
    Missing(Box<Missing>),
    /// The client has been told.
    Told,
}

/// A question that is to be asked.
struct Missing {
    key: Key,
    asked: Asked,
    ttl: Duration,
    made: Instant,
    asker: Arc<Asker>,
}

impl Session {
    /// Looks for an answer; else for the shard that is asked. `None`: the statement goes the ordinary way.
    pub(super) fn caches_part(
        &mut self,
        recipe: &Recipe,
        values: &Values<'_>,
        bound: Option<&BoundTo<'_, '_>>,
        request: Request,
        now: Instant,
    ) -> Option<CachesPart> {
        let missing = match self.cached_at_once(recipe, values, bound, request, now)? {
            Cached::Told => return Some(CachesPart::Told),
            Cached::Missing(missing) => Some(missing),
            Cached::No => None,
        };
        let shard = self.quick_shard(recipe, values)?;
        let spoils = self.quick_spoils(recipe, values);
        if self.tells_first(spoils.as_deref()) {
            return None;
        }
        let asking =
            missing.and_then(|missing| self.asking_at_once(*missing, recipe, values, shard));
        Some(CachesPart::Asks {
            shard,
            spoils,
            asking,
        })
    }

    /// Looks for an answer. `None`: somebody asks for it already, and is waited for on the ordinary way.
    fn cached_at_once(
        &mut self,
        recipe: &Recipe,
        values: &Values<'_>,
        bound: Option<&BoundTo<'_, '_>>,
        request: Request,
        now: Instant,
    ) -> Option<Cached> {
        if self.is_strict() && recipe.keeps.is_ok() {
            // Redis is asked first.
            return None;
        }
        Some(
            match self.look_at_once(recipe, values, bound, request, now) {
                Ok(cached) => cached?,
                Err(why) => {
                    self.passed_by(why);
                    Cached::No
                }
            },
        )
    }

    fn look_at_once(
        &mut self,
        recipe: &Recipe,
        values: &Values<'_>,
        bound: Option<&BoundTo<'_, '_>>,
        request: Request,
        now: Instant,
    ) -> Result<Option<Cached>, NotKept> {
        let Some(results) = self.worker.results.clone() else {
            return Ok(Some(Cached::No));
        };
        let reads = recipe.keeps.as_ref().map_err(|why| *why)?;
        self.may_keep()?;
        let ttl = self.ttl_of(reads, None)?;
        let asker = self.asker(&results);
        if values.statement.settings != self.strings() {
            return Err(NotKept::Utility);
        }
        let asked = request.asked();
        let worker = Rc::clone(&self.worker);
        let mut writer = worker.question.borrow_mut();
        if write_question(&mut writer, &asker, values.text, values.statement, bound) {
            return Err(NotKept::Clock);
        }
        let question = writer.finish(results.seed());
        let kind = kind_of(values.statement);
        if let Look::Found(entry) = self.look(&results, question, asked, kind, (ttl, now)) {
            self.refresh_if_due(&asker, question, asked, &entry, now);
            self.outcome = Outcome::Done;
            self.sync_void = false;
            self.batch = None;
            self.tell_kept(&entry, asked);
            return Ok(Some(Cached::Told));
        }
        if !results.is_worth_it(kind, question) {
            return Err(NotKept::Seldom);
        }
        if self.worker.remote.is_some() {
            // Another Keyway may have it.
            return Ok(None);
        }
        if self
            .find_stale(&results, reads, question, asked, now)
            .is_some()
        {
            // The ordinary way knows what to do should the shard not be reached.
            return Ok(None);
        }
        let wait = self.worker.shared.config.load().cache.wait;
        if results.flights.is_awaited(question.hash(), wait) {
            return Ok(None);
        }
        Ok(Some(Cached::Missing(Box::new(Missing {
            key: question.to_key(),
            asked,
            ttl,
            made: now,
            asker,
        }))))
    }

    /// The answer to come will be kept, unless a write is on its way, or somebody else keeps it.
    fn asking_at_once(
        &self,
        missing: Missing,
        recipe: &Recipe,
        values: &Values<'_>,
        shard: ShardId,
    ) -> Option<Box<AskingNow>> {
        let Missing {
            key,
            asked,
            ttl,
            made,
            asker,
        } = missing;
        let results = self.worker.results.as_ref()?;
        let reads = recipe.keeps.as_ref().ok()?;
        let wanted = self.wanted(reads, asker);
        let touches = recipe.touches(reads, values, &self.topology);
        let cells = cells_of_reads(&touches, [shard], &self.topology);
        let Some(seen) = results.look(cells) else {
            self.passed_by(NotKept::WriteOnItsWay);
            return None;
        };
        let wait = self.worker.shared.config.load().cache.wait;
        let Boarding::First(flight) = results.flights.board(key.as_ref().hash(), wait) else {
            return None;
        };
        let asking = Asking {
            key,
            asked,
            seen,
            made,
            ttl,
            kind: kind_of(values.statement),
            soft_ttl_percent: self.soft_ttl_percent(),
            wanted,
            tokens: None,
        };
        Some(Box::new(AskingNow {
            asking,
            flight,
            shared: None,
        }))
    }

    /// What a statement changes, if it does.
    fn quick_spoils(&mut self, recipe: &Recipe, values: &Values<'_>) -> Option<Box<Spoils>> {
        if recipe.changes == Changes::Nothing {
            return None;
        }
        let spoils = recipe.spoils(values, &self.topology, self.temporaries.names());
        self.temporaries.note(recipe);
        Some(Box::new(spoils))
    }

    /// Keeps an answer that has come whole.
    pub(super) fn keep_at_once(&mut self, asking: AskingNow, told: &[u8]) {
        if let Some(results) = &self.worker.results {
            let kept = keep(results, None, asking, told);
            self.note_kept(kept);
        }
    }

    /// A batch was answered by a kept answer: its names are as if a server had run it. `bind` is the body of its Bind.
    pub(in crate::session) fn told_at_once(
        &mut self,
        prepared: &Rc<Prepared>,
        parses: bool,
        bind: &[u8],
    ) {
        if parses {
            self.names.unnamed = Some(Rc::clone(prepared));
        }
        self.names.unnamed_portal = self.block.as_ref().map(|block| {
            Box::new(Portal {
                prepared: Rc::clone(prepared),
                // Should the client ask for its columns.
                bind: Bytes::copy_from_slice(bind),
                place: Place::Ran(Ran {
                    columns: None,
                    again: Again::Tag(NO_MORE_ROWS),
                }),
                hold: Hold::No,
                level: block.savepoints.len(),
                access: crate::route::plan::Access::Read,
                effects: Effects::none(),
                cursor: None,
                sets: Vec::new(),
            })
        });
    }
}

/// What a SELECT that has returned all its rows says when it is executed again.
const NO_MORE_ROWS: &str = "SELECT 0";

impl Request {
    /// For the cache.
    fn asked(self) -> Asked {
        match self {
            Self::Query => Asked::Query,
            Self::Batch { parses, described } => Asked::Batch { parses, described },
        }
    }
}
