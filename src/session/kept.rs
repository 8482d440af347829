//! Answers that are given again: whether the statement at hand may have one, what it asks, and what it spoils.
//!
//! An answer is looked for before a shard is asked, and what a shard answers is copied on its way to the client and kept
//! when the request is through. A statement that changes anything marks it on its server before it is sent
//! ([`Server::writes`](crate::backend::server::Server::writes)).

use crate::backend::server::Server;
use crate::backend::settings::Settings;
use crate::cache::remote::Remote;
use crate::cache::results::cells::{Cell, Held, Marks};
use crate::cache::results::flight::{Boarding, Flight};
use crate::cache::results::key::{Asker, KeyRef, KeyWriter};
use crate::cache::results::reply::{Asked, Kept};
use crate::cache::results::store::{Asking, Entry, Question, Results};
use crate::config::{CACHE_TTL_MAX, OnWrite, TableCache, parse_time};
use crate::metrics::QueryPlan;
use crate::route::keep::{NotKept, Reads, Spoils, Touches};
use crate::route::key::Values;
use crate::route::plan::{Keep, ShardSet};
use crate::route::recipe::Recipe;
use crate::session::Session;
use crate::session::again::asker_bytes;
use crate::session::commands::is_one_snapshot;
use crate::session::error::SessionError;
use crate::session::others::{Shared, found_elsewhere};
use crate::session::transaction::{BlockKind, Wrote};
use crate::statement::scan::{Hints, ScanSettings, Scanned, says_time, without_comments};
use crate::topology::{Placement, ShardId, Topology};
use crate::wire::backend as reply;
use crate::wire::error::{ErrorFields, SqlState};
use crate::wire::frontend::{Bind, Format};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Settings that change no answer.
const HARMLESS: [&str; 8] = [
    "application_name",
    "client_connection_check_interval",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "statement_timeout",
    "tcp_keepalives_idle",
    "transaction_timeout",
];

/// An answer on its way.
#[derive(Debug)]
pub(super) struct AskingNow {
    pub(super) asking: Asking,
    /// Others wait for it.
    pub(super) flight: Flight,
    /// Where other Keyways find it.
    pub(super) shared: Option<Shared>,
}

/// Who asks, and what that is true of.
#[derive(Debug)]
pub(super) struct Who {
    settings: Arc<Settings>,
    epoch: u64,
    asker: Arc<Asker>,
    /// Its statements read from one snapshot, unless their transaction says otherwise.
    one_snapshot: bool,
    /// How its texts are read.
    strings: ScanSettings,
}

/// What a session has changed, and when.
#[derive(Debug, Default)]
pub(super) struct Changed(Vec<(Cell, Instant)>);

impl Changed {
    /// Cells that are remembered one by one.
    const MAX: usize = 64;

    fn note(&mut self, cells: &[Cell], now: Instant) {
        for cell in cells {
            match self.0.iter_mut().find(|(known, _)| known == cell) {
                Some((_, when)) => *when = now,
                None => self.0.push((*cell, now)),
            }
        }
        if self.0.len() > Self::MAX {
            self.0.clear();
            self.0.push((Cell::EVERYTHING, now));
        }
    }

    /// Has it been changed since?
    fn has(&self, cell: Cell, since: Instant) -> bool {
        let is = |(known, when): &(Cell, Instant)| {
            (*known == cell || *known == Cell::EVERYTHING) && *when >= since
        };
        self.0.iter().any(is)
    }
}

/// What the store says of a question.
#[derive(Debug)]
pub(super) enum Look {
    /// Here is the answer.
    Found(Arc<Entry>),
    /// There is none.
    Missing,
}

/// What a prepared statement was bound to.
pub(super) struct BoundTo<'a, 'b> {
    /// The types that the client declared.
    pub(super) types: &'a [u32],
    pub(super) bind: &'a Bind<'b>,
}

impl Session {
    /// May an answer be looked for, and kept, as the session stands?
    #[inline]
    pub(super) fn may_keep(&self) -> Result<(), NotKept> {
        if self.temporaries.may_hide() {
            return Err(NotKept::SessionState);
        }
        let Some(block) = &self.block else {
            return if self.reads_one_snapshot() {
                Err(NotKept::Isolation)
            } else {
                Ok(())
            };
        };
        if block.kind != BlockKind::Client {
            return Err(NotKept::Several);
        }
        if block.one_snapshot {
            return Err(NotKept::Isolation);
        }
        let has_written = block.participants.iter().any(|participant| {
            let is_writing = |server: &Server| server.is_writing();
            participant.wrote != Wrote::Nothing
                || participant.lease.as_deref().is_none_or(is_writing)
        });
        if block.failed || has_written || !block.changed.is_empty() {
            return Err(NotKept::Transaction);
        }
        Ok(())
    }

    fn reads_one_snapshot(&self) -> bool {
        match &self.who {
            Some(who) if Arc::ptr_eq(&who.settings, &self.settings) => who.one_snapshot,
            _ => is_one_snapshot(self.settings.get("default_transaction_isolation")),
        }
    }

    /// How the session's texts are read.
    pub(super) fn strings(&self) -> ScanSettings {
        match &self.who {
            Some(who) if Arc::ptr_eq(&who.settings, self.effective()) => who.strings,
            _ => self.scan_settings(),
        }
    }

    /// Who asks: database, user, role, settings and the snapshot that it is answered by.
    pub(super) fn asker(&mut self, results: &Results) -> Arc<Asker> {
        let epoch = self.topology.epoch;
        if let Some(who) = &self.who
            && who.epoch == epoch
            && Arc::ptr_eq(&who.settings, self.effective())
        {
            return Arc::clone(&who.asker);
        }
        let settings = self.effective().iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value));
        let bytes = asker_bytes(
            &self.database.name,
            self.topology.digest,
            self.pools.user(),
            self.greeting.user.as_deref(),
            settings.filter(|(name, _)| !HARMLESS.contains(name)),
        );
        let asker = results.asker(&bytes);
        let settings = Arc::clone(self.effective());
        let one_snapshot = is_one_snapshot(settings.get("default_transaction_isolation"));
        self.who = Some(Box::new(Who {
            settings,
            epoch,
            asker: Arc::clone(&asker),
            one_snapshot,
            strings: self.scan_settings(),
        }));
        asker
    }

    /// What an execution's answer is made of.
    pub(super) fn keep_of(&self, recipe: &Recipe, values: &Values<'_>) -> Result<Keep, NotKept> {
        let reads = recipe.keeps.as_ref().map_err(|why| *why)?;
        self.may_keep_of(values)?;
        Ok(Keep {
            reads: Arc::clone(reads),
            touches: recipe.touches(reads, values, &self.topology),
        })
    }

    /// Has the statement, as it was read, a text and values that say the same to everybody who reads them now?
    pub(super) fn may_keep_of(&self, values: &Values<'_>) -> Result<(), NotKept> {
        if says_time_now(values) {
            return Err(NotKept::Clock);
        }
        // Prepared under other settings, its strings and comments may end elsewhere.
        if values.statement.settings != self.strings() {
            return Err(NotKept::Utility);
        }
        Ok(())
    }

    /// How long an answer made of these tables may be given; an error when it may not.
    pub(super) fn ttl_of(&self, reads: &Reads, hints: Option<&Hints>) -> Result<Duration, NotKept> {
        let config = self.worker.shared.config.load();
        let cache = &config.cache;
        let mut ttl = self.again.unwrap_or(cache.ttl);
        if let Some(hints) = hints {
            if hints.cache.as_deref() == Some("off") {
                return Err(NotKept::Asked);
            }
            ttl = hints.ttl.as_deref().and_then(parse_ttl).unwrap_or(ttl);
        }
        if cache.tables.is_empty() {
            return Ok(ttl);
        }
        for table in &reads.tables {
            let Some(own) = cache.tables.get(table) else {
                continue;
            };
            if !own.enabled {
                return Err(NotKept::Asked);
            }
            ttl = own.ttl.map_or(ttl, |own| own.min(ttl));
        }
        Ok(ttl)
    }

    /// Counts a statement that the cache has no part in.
    pub(super) fn passed_by(&self, why: NotKept) {
        self.worker.metrics.cache_passed_by(why as usize);
    }

    /// Tells the client a kept answer. It stays in the outbox when the socket takes no more.
    pub(super) fn tell_kept(&mut self, entry: &Entry, asked: Asked) {
        // Whoever has the answer may look at the numbers.
        if std::mem::take(&mut self.is_stale) {
            self.worker.metrics.cache_stale.raise();
            self.say_stale();
        } else if std::mem::take(&mut self.is_shared) {
            self.worker.metrics.cache_hits_shared.raise();
        } else {
            self.worker.metrics.cache_hits.raise();
        }
        self.plan = QueryPlan::Cached;
        if let Some(block) = &mut self.block {
            block.had_query = true;
        }
        let status = self.status();
        let mut telling = self.worker.telling.borrow_mut();
        telling.clear();
        entry.reply.tell(asked, status, &mut telling);
        if self.client.outbox.is_empty() {
            self.client.send_now(&telling);
        } else {
            self.client.outbox.extend_from_slice(&telling);
        }
        if telling.capacity() > TELLING_KEPT_MAX {
            *telling = Default::default();
        }
    }

    /// The shards' marks for what a statement changes: nothing when the cache is off.
    pub(super) fn mark(
        &mut self,
        lease: &mut Server,
        shard: ShardId,
        spoils: &Spoils,
        held: Option<Box<dyn Held>>,
    ) {
        let Some(results) = self.worker.results.clone() else {
            return;
        };
        let cells = cells_of_spoils(self.by_this_snapshot(spoils), [shard], &self.topology);
        if !cells.is_empty() {
            self.note_changed(&cells);
            lease.writes(&results, self.shard_name(shard), &cells, |news| {
                held.or_else(|| self.tell_soon(news))
            });
        }
    }

    /// Marks for a change on several shards, beside those of their servers.
    ///
    /// # Errors
    /// As [`Session::tell_others`].
    pub(super) async fn marks(
        &mut self,
        spoils: &Spoils,
        shards: &[ShardId],
    ) -> Result<Option<Marks>, SessionError> {
        let Some(results) = self.worker.results.clone() else {
            return Ok(None);
        };
        let held = self.tell_others(spoils, shards).await?;
        let spoils = self.by_this_snapshot(spoils);
        let cells = cells_of_spoils(spoils, shards.iter().copied(), &self.topology);
        self.note_changed(&cells);
        let held = held.or_else(|| self.tell_soon(&cells));
        Ok(Some(results.cells.mark(cells).with(held)))
    }

    /// What the session changes is nothing that it is given void answers about.
    fn note_changed(&mut self, cells: &[Cell]) {
        let config = self.worker.shared.config.load();
        let gives_stale = |table: &TableCache| table.stale_if_error.is_some();
        if config.cache.tables.values().any(gives_stale) {
            let changed = self.changed.get_or_insert_default();
            changed.note(cells, Instant::now());
        }
    }

    /// How long after it was true an answer made of these tables is given when their shards cannot be reached.
    pub(super) fn stale_if_error(&self, reads: &Reads) -> Option<Duration> {
        let config = self.worker.shared.config.load();
        let tables = &config.cache.tables;
        if tables.is_empty() || self.block.is_some() || self.again.is_some() {
            return None;
        }
        let ages = reads
            .tables
            .iter()
            .map(|table| tables.get(table)?.stale_if_error);
        ages.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// A void answer that may be given should its shards not be reached.
    pub(super) fn find_stale(
        &self,
        results: &Results,
        reads: &Reads,
        key: KeyRef<'_>,
        asked: Asked,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let age = self.stale_if_error(reads)?;
        let has_changed = |cell, since| {
            let changed = self.changed.as_ref();
            changed.is_some_and(|changed| changed.has(cell, since))
        };
        results.find_stale(key, asked, age, now, has_changed)
    }

    /// Takes the servers of these shards. False when one that is needed cannot be reached.
    async fn can_reach(&mut self, shards: &ShardSet, reads: &Reads) -> Result<bool, SessionError> {
        let tables = &self.database.tables;
        let is_reference = |table| {
            let table = tables.get(table);
            table.is_some_and(|table| table.placement == Placement::Reference)
        };
        let one_is_enough = reads.tables.iter().all(is_reference);
        for shard in shards.iter() {
            self.is_unreachable = false;
            let taken = self.take_ahead(&[shard].into()).await;
            let reached = match taken {
                Ok(()) => true,
                Err(SessionError::Statement(_)) if self.is_unreachable => false,
                Err(error) => return Err(error),
            };
            if reached == one_is_enough {
                return Ok(reached);
            }
        }
        Ok(!one_is_enough)
    }

    fn say_stale(&mut self) {
        let mut fields = ErrorFields::warning(
            SqlState::WARNING,
            "the answer may be out of date: its shard cannot be reached",
        );
        fields.severity = "NOTICE".into();
        reply::notice_response(&mut self.client.outbox, &fields);
    }

    /// What was planned by a snapshot that is none any more may change rows that others know by other cells by now.
    pub(super) fn by_this_snapshot<'s>(&self, spoils: &'s Spoils) -> &'s Spoils {
        let current = self.worker.shared.topology.load().digest;
        if current == self.topology.digest || *spoils == Spoils::Nothing {
            spoils
        } else {
            &Spoils::Everything
        }
    }

    /// Asks the store, and counts.
    pub(super) fn look(
        &mut self,
        results: &Results,
        key: KeyRef<'_>,
        asked: Asked,
        kind: u64,
        (ttl, now): (Duration, Instant),
    ) -> Look {
        match results.find(key, asked, kind, ttl, now) {
            Some(entry) => Look::Found(entry),
            None => {
                self.worker.metrics.cache_misses.raise();
                Look::Missing
            }
        }
    }

    /// The request is through: its answer is kept, if it may be.
    pub(super) fn keep_what_was_told(&mut self) {
        let Some(now) = self.asking.take() else {
            return;
        };
        let told = self.client.recorded();
        let (Some(results), Some(told)) = (&self.worker.results, told) else {
            now.flight.was_in_vain();
            self.passed_by(NotKept::TooLarge);
            return;
        };
        let kept = keep(results, self.worker.remote.as_deref(), *now, &told);
        self.note_kept(kept);
    }

    /// Counts what became of an answer that was to be kept.
    pub(super) fn note_kept(&mut self, kept: Result<(), NotKept>) {
        match kept {
            Ok(()) => {
                self.worker.metrics.cache_stores.raise();
                self.again = None;
            }
            Err(why) => self.passed_by(why),
        }
    }

    /// The answer of a plan for these shards, if it is kept; else it is asked for, and kept when the request is through. `text` is the
    /// statement's own, `bound` what it was bound to.
    ///
    /// Waits while another session asks the same, up to `cache.wait`.
    pub(super) async fn answer_kept(
        &mut self,
        keeps: Result<(&ShardSet, &Keep), NotKept>,
        text: &str,
        scanned: &Scanned,
        bound: Option<BoundTo<'_, '_>>,
        asked: Asked,
    ) -> Result<Option<Arc<Entry>>, SessionError> {
        let Some(results) = self.worker.results.clone() else {
            return Ok(None);
        };
        let (shards, keep, ttl) = match self.may_answer(keeps, scanned.hints.as_deref()) {
            Ok(found) => found,
            Err(why) => {
                self.passed_by(why);
                return Ok(None);
            }
        };
        let asker = self.asker(&results);
        let key = {
            let mut writer = self.worker.question.borrow_mut();
            write_question(&mut writer, &asker, text, scanned, bound.as_ref());
            writer.finish(results.seed()).to_key()
        };
        let kind = kind_of(scanned);
        let wait = self.worker.shared.config.load().cache.wait;
        let hash = key.as_ref().hash();
        let mut waited = false;
        // Asked again, it is for an answer that is newer than the one there may be.
        let anew = self.again.is_some();
        loop {
            let now = Instant::now();
            if !anew
                && let Look::Found(entry) =
                    self.look(&results, key.as_ref(), asked, kind, (ttl, now))
                && self.holds_for_others(&entry).await
            {
                self.refresh_if_due(&asker, key.as_ref(), asked, &entry, now);
                return Ok(Some(entry));
            }
            if !anew && !results.is_worth_it(kind, key.as_ref()) {
                self.passed_by(NotKept::Seldom);
                return Ok(None);
            }
            let boarding = if waited {
                Boarding::First(results.flights.alone(hash))
            } else {
                results.flights.board(hash, wait)
            };
            let mut later = match boarding {
                Boarding::First(flight) => {
                    // Whoever asked before may have kept it between the two looks.
                    if !anew
                        && let Some(entry) = results.find(key.as_ref(), asked, kind, ttl, now)
                        && self.holds_for_others(&entry).await
                    {
                        return Ok(Some(entry));
                    }
                    let cells = cells_of_reads(&keep.touches, shards.iter(), &self.topology);
                    let Some(seen) = results.look(cells.iter().copied()) else {
                        self.passed_by(NotKept::WriteOnItsWay);
                        return Ok(None);
                    };
                    let others = match self.ask_others(&key, &asker, &cells).await {
                        Ok(others) => others,
                        Err(why) => {
                            self.passed_by(why);
                            return Ok(None);
                        }
                    };
                    let asking = Asking {
                        key,
                        asked,
                        seen,
                        made: Instant::now(),
                        ttl,
                        kind,
                        soft_ttl_percent: self.soft_ttl_percent(),
                        wanted: self.wanted(&keep.reads, asker),
                        tokens: None,
                    };
                    let (mut asking, mut shared) = (asking, None);
                    if let Some(others) = others {
                        asking.tokens = Some(others.tokens);
                        shared = others.shared;
                        let found = others.found.filter(|_| !anew);
                        if let Some(entry) =
                            found.and_then(|found| found_elsewhere(&results, &asking, &found))
                        {
                            flight.has_arrived();
                            self.is_shared = true;
                            return Ok(Some(entry));
                        }
                    }
                    let stale =
                        self.find_stale(&results, &keep.reads, asking.key.as_ref(), asked, now);
                    if let Some(entry) = stale
                        && !self.can_reach(shards, &keep.reads).await?
                    {
                        self.is_stale = true;
                        return Ok(Some(entry));
                    }
                    self.asking = Some(Box::new(AskingNow {
                        asking,
                        flight,
                        shared,
                    }));
                    self.client.record(results.entry_max(), &self.worker.copies);
                    return Ok(None);
                }
                Boarding::Later(_) if anew => return Ok(None),
                Boarding::Later(later) => later,
            };
            self.worker.metrics.cache_waits.raise();
            // An error says that whoever asked is through. What was not kept then may never be: nobody waits twice.
            let waiting = tokio::time::timeout(wait, later.changed());
            match self.cancel.unless_canceled(waiting).await {
                None => return Err(SessionError::canceled()),
                Some(Ok(_)) => waited = true,
                Some(Err(_)) => return Ok(None),
            }
        }
    }

    /// An answer that is given often is asked for again before its time is over.
    #[inline]
    pub(super) fn refresh_if_due(
        &self,
        asker: &Arc<Asker>,
        key: KeyRef<'_>,
        asked: Asked,
        entry: &Entry,
        now: Instant,
    ) {
        if entry.is_due(now) {
            self.worker.ask_again(
                Question {
                    asker: Arc::clone(asker),
                    key: key.to_key(),
                    asked,
                    ttl: entry.ttl(),
                },
                None,
            );
        }
    }

    pub(super) fn soft_ttl_percent(&self) -> u32 {
        self.worker.shared.config.load().cache.soft_ttl_percent
    }

    /// Who asks, if the answer is to be asked for again as soon as a write makes it void.
    pub(super) fn wanted(&self, reads: &Reads, asker: Arc<Asker>) -> Option<Arc<Asker>> {
        let config = self.worker.shared.config.load();
        let tables = &config.cache.tables;
        let is_wanted = |table| {
            let own = tables.get(table);
            own.is_some_and(|own| own.on_write == OnWrite::Refresh)
        };
        (!tables.is_empty() && reads.tables.iter().any(is_wanted)).then_some(asker)
    }

    fn may_answer<'p>(
        &self,
        keeps: Result<(&'p ShardSet, &'p Keep), NotKept>,
        hints: Option<&Hints>,
    ) -> Result<(&'p ShardSet, &'p Keep, Duration), NotKept> {
        let (shards, keep) = keeps?;
        self.may_keep()?;
        Ok((shards, keep, self.ttl_of(&keep.reads, hints)?))
    }
}

/// A hint's `ttl`: as the configuration writes times, a day at most.
pub(super) fn parse_ttl(text: &str) -> Option<Duration> {
    let ttl = parse_time(text)?;
    (!ttl.is_zero() && ttl <= CACHE_TTL_MAX).then_some(ttl)
}

/// Bytes of a buffer that stays with its worker.
const TELLING_KEPT_MAX: usize = 64 * 1024;

/// Keeps the answer that a client was told, here and where other Keyways find it.
pub(super) fn keep(
    results: &Results,
    remote: Option<&Remote>,
    now: AskingNow,
    told: &[u8],
) -> Result<(), NotKept> {
    let AskingNow {
        asking,
        flight,
        shared,
    } = now;
    let kept = match Kept::of(asking.asked, told) {
        None => Err(NotKept::NotPlain),
        Some(reply) => {
            let sealed = match (remote, &shared, &asking.tokens) {
                (Some(remote), Some(shared), Some(tokens)) => {
                    Some((remote, shared, shared.seal(remote, &asking, tokens, &reply)))
                }
                _ => None,
            };
            let ttl = asking.ttl;
            results.keep(asking, reply).map(|entry| {
                if let Some((remote, shared, sealed)) = sealed {
                    let left = ttl.saturating_sub(entry.made().elapsed());
                    shared.put(remote, sealed, left);
                }
            })
        }
    };
    match kept {
        Ok(()) => flight.has_arrived(),
        Err(NotKept::TooLarge) => flight.was_in_vain(),
        Err(_) => {}
    }
    // Only now do the others look.
    drop(flight);
    kept
}

/// Puts a question together. Says whether one of its values says 'now', 'today' or the like.
pub(super) fn write_question(
    writer: &mut KeyWriter,
    asker: &Asker,
    text: &str,
    scanned: &Scanned,
    bound: Option<&BoundTo<'_, '_>>,
) -> bool {
    let own = without_comments(text, scanned);
    writer.begin(asker, own.as_bytes());
    let mut time = scanned.time_words;
    let Some(BoundTo { types, bind }) = bound else {
        return time;
    };
    let count = bind.parameters.len();
    let is_text = bind
        .result_formats
        .iter()
        .all(|format| format == Format::Text);
    // One format is all columns'; as many as there are not columns is an error.
    let all = bind.result_formats.len() <= 1;
    if count == 0 && is_text && all {
        // As a Query would ask.
        return time;
    }
    writer.number(types.len());
    for oid in *types {
        writer.number(*oid as usize);
    }
    writer.number(count);
    for (index, value) in bind.parameters.iter().enumerate() {
        writer.number(usize::from(
            bind.parameter_formats.get(index) == Format::Binary,
        ));
        writer.part_or_none(*value);
        time |= value.is_some_and(|value| value.len() > 2 && says_time(value));
    }
    let formats = if is_text && all {
        0
    } else {
        bind.result_formats.len()
    };
    writer.number(formats);
    for format in bind.result_formats.iter().take(formats) {
        writer.number(usize::from(format == Format::Binary));
    }
    time
}

/// A hash of a statement's shape.
#[inline]
pub(super) fn kind_of(scanned: &Scanned) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    let half = scanned.fingerprint as u64;
    half
}

/// Does a literal or parameter say 'now', 'today' or the like?
pub(super) fn says_time_now(values: &Values<'_>) -> bool {
    values.statement.time_words
        || (1..=values.statement.params).any(|number| {
            let param = values.params.get(number);
            param.and_then(|param| param.bytes).is_some_and(says_time)
        })
}

/// The cells that an answer from these shards depends on.
pub(super) fn cells_of_reads(
    touches: &Touches,
    shards: impl IntoIterator<Item = ShardId>,
    topology: &Topology,
) -> SmallVec<[Cell; 6]> {
    let mut cells = SmallVec::new();
    cells.push(Cell::EVERYTHING);
    for shard in shards {
        let shard = stable(shard, topology);
        cells.push(Cell::of_shard(shard));
        for touch in touches {
            cells.push(match touch.key {
                None => Cell::of_table(shard, touch.family),
                Some(_) => Cell::of_unpinned(shard, touch.family),
            });
        }
    }
    cells.extend(
        touches
            .iter()
            .filter_map(|touch| Some(Cell::of_key(touch.family, touch.key?))),
    );
    cells
}

/// The cells that a change on these shards spoils.
pub(super) fn cells_of_spoils(
    spoils: &Spoils,
    shards: impl IntoIterator<Item = ShardId>,
    topology: &Topology,
) -> SmallVec<[Cell; 6]> {
    let mut cells = SmallVec::new();
    if *spoils != Spoils::Nothing {
        cells.push(Cell::of_snapshot(topology.digest));
    }
    match spoils {
        Spoils::Nothing => {}
        Spoils::Everything => cells.push(Cell::EVERYTHING),
        Spoils::Shards => {
            let of = |shard| Cell::of_shard(stable(shard, topology));
            cells.extend(shards.into_iter().map(of));
        }
        Spoils::Rows(touches) => {
            for shard in shards {
                let shard = stable(shard, topology);
                for touch in touches {
                    cells.push(Cell::of_table(shard, touch.family));
                    cells.push(match touch.key {
                        None => Cell::of_unpinned(shard, touch.family),
                        Some(key) => Cell::of_key(touch.family, key),
                    });
                }
            }
        }
    }
    cells
}

fn stable(shard: ShardId, topology: &Topology) -> u16 {
    let shard = topology.shards.get(usize::from(shard.0));
    shard.map_or(u16::MAX, |shard| shard.stable_id)
}
