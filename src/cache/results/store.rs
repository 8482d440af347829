//! All kept answers of a process, and what they must be true of.

use crate::cache::remote::Tokens;
use crate::cache::results::cells::{Cell, Cells, Seen};
use crate::cache::results::doubt::Doubts;
use crate::cache::results::flight::Flights;
use crate::cache::results::key::{AsHashed, Asker, Key, KeyRef};
use crate::cache::results::reply::{Asked, Kept};
use crate::cache::results::worth::Worth;
use crate::route::keep::NotKept;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes that an answer takes besides its key and messages: the entry, its cells, its places in the store's tables (each
/// 8 bytes of key hash, two pointers, 21 of the store's own, half as many again for ghosts) and the allocator's share.
const OVERHEAD: usize = 480;

/// How long after a snapshot's end a session may still be about to plan a statement by it: it has looked at the snapshot,
/// and has not come to mark what it will write. Nothing is waited for in between.
const PAST: Duration = Duration::from_secs(60);

/// Snapshots before that are looked at one by one.
const PAST_MAX: usize = 16;

/// Askers known by a number; beyond it all are forgotten, and get others.
const ASKERS_MAX: usize = 10_000;

/// Answers smaller than this are expected; only the store's first tables depend on it.
const EXPECTED_ENTRY: usize = 4 * 1024;

/// An answer with what it must be true of.
#[derive(Debug)]
pub struct Entry {
    /// The answer.
    pub reply: Kept,
    /// How it was asked for.
    asked: Asked,
    /// Cells as they were before it was asked for.
    seen: Seen,
    /// The same, as Redis has them.
    tokens: Option<Tokens>,
    /// When it was asked for.
    made: Instant,
    /// Until when it may be given.
    until: Instant,
    /// How often it was given.
    hits: AtomicU64,
    /// When it was given last, in milliseconds behind `made`.
    given: AtomicU64,
    /// When it is to be asked for again, in milliseconds behind `made`.
    again: AtomicU64,
}

impl Entry {
    /// When it was asked for.
    #[must_use]
    pub fn made(&self) -> Instant {
        self.made
    }

    /// How often it was given.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Its versions in Redis, if they are shared.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// How long it may be given in all.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.until.duration_since(self.made)
    }

    /// Is it given so often, and so near its end, that it is to be asked for again? Says so once, and once more some time
    /// later, should nothing have come of it.
    #[inline]
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        let age = millis(now.saturating_duration_since(self.made));
        let due = self.again.load(Ordering::Relaxed);
        if age < due || self.hits() < HOT {
            return false;
        }
        let later = age + (millis(self.ttl()) / 20).max(AGAIN_MIN);
        self.again
            .compare_exchange(due, later, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// How long ago it was known to be true, for as little as anybody has noted. Where versions are asked for elsewhere, the
    /// cells do not tell of others' writes.
    fn doubted_for(&self, cells: &Cells, now: Instant) -> Duration {
        let known = if self.tokens.is_none() && cells.holds(&self.seen) {
            self.until
        } else {
            self.made + Duration::from_millis(self.given.load(Ordering::Relaxed))
        };
        now.saturating_duration_since(known.min(self.until))
    }
}

/// A time in milliseconds.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Answers given less often are not asked for again.
const HOT: u64 = 3;

/// How soon an answer is asked for again that was not to be had, in milliseconds.
const AGAIN_MIN: u64 = 1_000;

/// Questions that are watched for writes; beyond it answers are void as any other.
const WATCHED_MAX: usize = 1_000;

/// A question whose answer has been given, to be asked again.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asked.
    pub asker: Arc<Asker>,
    /// What.
    pub key: Key,
    /// How.
    pub asked: Asked,
    /// How long its answer may be given.
    pub ttl: Duration,
}

/// An answer that is asked for again when it is void.
#[derive(Debug)]
struct Watched {
    question: Question,
    /// Gone when it had to make room, or another took its place.
    entry: Weak<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Key, Arc<Entry>> for Bytes {
    fn weight(&self, key: &Key, entry: &Arc<Entry>) -> u64 {
        let tokens = entry.tokens.as_ref().map_or(0, Tokens::bytes);
        (OVERHEAD + key.len() + entry.reply.len() + tokens) as u64
    }
}

/// Counts what had to make room.
#[derive(Debug, Clone, Default)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Key, Arc<Entry>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: Key, _: Arc<Entry>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How answers are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Bytes for all answers.
    pub size: usize,
    /// Bytes that one may take.
    pub entry_max: usize,
}

/// What is asked for now: the question and, when the answer comes, everything that keeping it needs.
#[derive(Debug)]
pub struct Asking {
    /// The question.
    pub key: Key,
    /// How it was asked.
    pub asked: Asked,
    /// The cells as they are before it is sent.
    pub seen: Seen,
    /// When.
    pub made: Instant,
    /// How long the answer may be given.
    pub ttl: Duration,
    /// The statement's kind, see [`Results::is_worth_it`].
    pub kind: u64,
    /// How many hundredths of its time go by before it is asked for again.
    pub soft_ttl_percent: u32,
    /// Who asks, when the answer is to be asked for again as soon as it is void.
    pub wanted: Option<Arc<Asker>>,
    /// Its versions in Redis before it is sent, if they are shared.
    pub tokens: Option<Tokens>,
}

/// Kept answers.
#[derive(Debug)]
pub struct Results {
    /// What they must be true of.
    pub cells: Arc<Cells>,
    /// Which are being asked for.
    pub flights: Arc<Flights>,
    /// Writes whose end nobody has seen.
    pub doubts: Doubts,
    entries: Cache<Key, Arc<Entry>, Bytes, AsHashed, Evictions>,
    evictions: Evictions,
    /// Of these, answers that a newer one took the place of.
    replaced: AtomicU64,
    worth: Worth,
    options: Options,
    seed: u64,
    askers: Mutex<HashMap<Box<[u8]>, Arc<Asker>>>,
    next_asker: AtomicU64,
    /// Digests of snapshots that were published before, and when the next one was.
    past: Mutex<VecDeque<(u128, Instant)>>,
    /// Are there any?
    has_past: AtomicBool,
    flushes: AtomicU64,
    watched: Mutex<HashMap<u64, Watched>>,
    /// Are there any?
    has_watched: AtomicBool,
}

/// How it stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Answers kept, void ones among them.
    pub entries: usize,
    /// Bytes they take.
    pub bytes: u64,
    /// Bytes they may take.
    pub size: usize,
    /// Bytes of the table of versions.
    pub cells_bytes: usize,
    /// Times that everything or a table was dropped by somebody's wish.
    pub flushes: u64,
    /// Answers that had to make room.
    pub evictions: u64,
    /// Writes whose end nobody has seen.
    pub in_doubt: usize,
}

impl Results {
    /// Keeps nothing yet. `seed` is random.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Arc<Self> {
        let size = options.size as u64;
        let built = OptionsBuilder::new()
            .weight_capacity(size)
            .estimated_items_capacity((options.size / EXPECTED_ENTRY).max(16))
            .build()
            .expect("capacity and expected items are given");
        let evictions = Evictions::default();
        Arc::new(Self {
            cells: Arc::default(),
            flights: Arc::default(),
            doubts: Doubts::default(),
            entries: Cache::with_options(built, Bytes, AsHashed::default(), evictions.clone()),
            evictions,
            replaced: AtomicU64::new(0),
            worth: Worth::default(),
            options,
            seed,
            askers: Mutex::default(),
            next_asker: AtomicU64::new(1),
            past: Mutex::default(),
            has_past: AtomicBool::new(false),
            flushes: AtomicU64::new(0),
            watched: Mutex::default(),
            has_watched: AtomicBool::new(false),
        })
    }

    /// What keys are hashed with.
    #[inline]
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The number for whoever asks.
    #[must_use]
    pub fn asker(&self, bytes: &[u8]) -> Arc<Asker> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = askers.get(bytes) {
            return Arc::clone(known);
        }
        if askers.len() >= ASKERS_MAX {
            askers.clear();
        }
        let asker = Arc::new(Asker {
            id: self.next_asker.fetch_add(1, Ordering::Relaxed),
            bytes: bytes.into(),
        });
        askers.insert(bytes.into(), Arc::clone(&asker));
        asker
    }

    /// Is the answer to a question that has just been missed worth keeping? `kind` is a hash of its statement's shape.
    #[inline]
    #[must_use]
    pub fn is_worth_it(&self, kind: u64, key: KeyRef<'_>) -> bool {
        self.worth.is_it(kind, key.hash())
    }

    /// The answer, if there is one that still holds and is not older than `ttl`.
    #[inline]
    #[must_use]
    pub fn find(
        &self,
        key: KeyRef<'_>,
        asked: Asked,
        kind: u64,
        ttl: Duration,
        now: Instant,
    ) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&key)?;
        let holds = entry.until > now
            && entry.made + ttl > now
            && entry.reply.answers(asked)
            && self.cells.holds(&entry.seen);
        if holds {
            entry.hits.fetch_add(1, Ordering::Relaxed);
            let age = millis(now.saturating_duration_since(entry.made));
            entry.given.store(age, Ordering::Relaxed);
            self.worth.hit(kind);
        }
        holds.then_some(entry)
    }

    /// The answer, if there is one that was true at most `age` ago, and nothing but rows has changed since: behind a REVOKE or
    /// a change of the schema nobody knows who may still have it. `has_changed` says whether the asking session itself has
    /// changed one of these cells since the answer was made.
    #[must_use]
    pub fn find_stale(
        &self,
        key: KeyRef<'_>,
        asked: Asked,
        age: Duration,
        now: Instant,
        has_changed: impl Fn(Cell, Instant) -> bool,
    ) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&key)?;
        let own = |(cell, _): &(Cell, u64)| has_changed(*cell, entry.made);
        let mut all = entry.seen.iter().filter(|(c, _)| *c == Cell::EVERYTHING);
        let only_rows = all.all(|seen| self.cells.holds(std::slice::from_ref(seen)));
        let may = only_rows
            && entry.reply.answers(asked)
            && entry.doubted_for(&self.cells, now) <= age
            && !entry.seen.iter().any(own);
        may.then_some(entry)
    }

    /// Questions whose answers a write has made void since they were last looked at, and which are wanted again: those that
    /// were given at least once. Nobody waits for the writes that are on their way.
    #[must_use]
    pub fn wanted_again(&self, now: Instant) -> Vec<Question> {
        if !self.has_watched.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut again = Vec::new();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, watched| {
            let Some(entry) = watched.entry.upgrade() else {
                return false;
            };
            if entry.until <= now {
                return false;
            }
            if self.cells.holds(&entry.seen) {
                return true;
            }
            let cells = entry.seen.iter().map(|(cell, _)| *cell);
            if self.cells.look(cells).is_none() {
                return true;
            }
            if entry.hits() > 0 {
                again.push(watched.question.clone());
            }
            false
        });
        self.has_watched
            .store(!watched.is_empty(), Ordering::Release);
        again
    }

    /// The questions whose answers were given most often, `max` at most, and how often.
    #[must_use]
    pub fn popular(&self, max: usize, now: Instant) -> Vec<(Question, u64)> {
        let used = self.most_used(max, now);
        let askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        let askers: HashMap<u64, &Arc<Asker>> =
            askers.values().map(|asker| (asker.id, asker)).collect();
        let question = |(key, entry): (Key, Arc<Entry>)| {
            let question = Question {
                asker: Arc::clone(askers.get(&key.asker())?),
                key,
                asked: entry.asked,
                ttl: entry.ttl(),
            };
            (entry.hits() > 0).then(|| (question, entry.hits()))
        };
        used.into_iter().filter_map(question).collect()
    }

    /// Is there an answer to this that still holds?
    #[must_use]
    pub fn holds(&self, key: &Key, now: Instant) -> bool {
        let entry = self.entries.get(&key.as_ref());
        entry.is_some_and(|entry| entry.until > now && self.cells.holds(&entry.seen))
    }

    /// Keeps an answer, if it is still true.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn keep(&self, asking: Asking, reply: Kept) -> Result<Arc<Entry>, NotKept> {
        if !self.cells.holds(&asking.seen) {
            return Err(NotKept::WriteOnItsWay);
        }
        if OVERHEAD + asking.key.len() + reply.len() > self.options.entry_max {
            return Err(NotKept::TooLarge);
        }
        self.worth.kept(asking.kind);
        let soft = match asking.soft_ttl_percent {
            percent @ 0..100 => millis(asking.ttl * percent / 100),
            _ => u64::MAX,
        };
        let entry = Arc::new(Entry {
            reply,
            asked: asking.asked,
            seen: asking.seen,
            tokens: asking.tokens,
            made: asking.made,
            until: asking.made + asking.ttl,
            hits: AtomicU64::new(0),
            given: AtomicU64::new(0),
            again: AtomicU64::new(soft),
        });
        if let Some(asker) = asking.wanted {
            let question = Question {
                asker,
                key: asking.key.clone(),
                asked: asking.asked,
                ttl: asking.ttl,
            };
            self.watch(question, Arc::downgrade(&entry));
        }
        if self.entries.contains_key(&asking.key) {
            self.replaced.fetch_add(1, Ordering::Relaxed);
        }
        self.entries.insert(asking.key, Arc::clone(&entry));
        Ok(entry)
    }

    fn watch(&self, question: Question, entry: Weak<Entry>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = question.key.as_ref().hash();
        if watched.len() < WATCHED_MAX || watched.contains_key(&hash) {
            watched.insert(hash, Watched { question, entry });
            self.has_watched.store(true, Ordering::Release);
        }
    }

    /// Bytes that an answer may have to be kept.
    #[must_use]
    pub fn entry_max(&self) -> usize {
        self.options.entry_max
    }

    /// From now on statements are planned by the snapshot of this digest, and no more by the one `before`. Sessions may
    /// still write by that. What is kept for those who ask by it is void: should it come back, its answers would not know
    /// of writes that were planned meanwhile, by other cells.
    pub fn next_snapshot(&self, before: u128, now: u128) {
        self.cells.change(Cell::EVERYTHING);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        // What was changed back is known by the same cells again. Were it past, every write would void everything.
        past.retain(|(digest, _)| *digest != before && *digest != now);
        past.push_back((before, Instant::now()));
        self.has_past.store(true, Ordering::Release);
    }

    /// The cells as they are now, and those of the snapshots before: a write that was planned by one of them may change
    /// rows that this snapshot knows by other cells. `None` while a write to one of them is on its way.
    #[must_use]
    pub fn look(&self, cells: impl IntoIterator<Item = Cell>) -> Option<Seen> {
        let mut seen = self.cells.look(cells)?;
        if self.has_past.load(Ordering::Acquire) {
            seen.extend(self.look_back()?);
        }
        Some(seen)
    }

    #[cold]
    fn look_back(&self) -> Option<Seen> {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((digest, since)) = past.front() {
            // One that nobody writes by any more, and that no session can still be about to plan by.
            if since.elapsed() < PAST && past.len() <= PAST_MAX
                || self.cells.look([Cell::of_snapshot(*digest)]).is_none()
            {
                break;
            }
            past.pop_front();
        }
        self.has_past.store(!past.is_empty(), Ordering::Release);
        if past.len() > PAST_MAX {
            return None;
        }
        let cells = past.iter().map(|(digest, _)| Cell::of_snapshot(*digest));
        self.cells.look(cells)
    }

    /// Drops everything.
    pub fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.cells.change(Cell::EVERYTHING);
        self.entries.clear();
    }

    /// What these cells stand for is void, and with it dropped: it is not given when a shard is away either.
    pub fn flush_cells(&self, cells: impl IntoIterator<Item = Cell>) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for cell in cells {
            self.cells.change(cell);
        }
        self.entries
            .retain(|_, entry| self.cells.holds(&entry.seen));
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing {
            entries: self.entries.len(),
            bytes: self.entries.weight(),
            size: self.options.size,
            cells_bytes: self.cells.bytes(),
            flushes: self.flushes.load(Ordering::Relaxed),
            evictions: self
                .evictions
                .0
                .load(Ordering::Relaxed)
                .saturating_sub(self.replaced.load(Ordering::Relaxed)),
            in_doubt: self.doubts.len(),
        }
    }

    /// Answers that hold, at most `max`, those given most often first.
    #[must_use]
    pub fn most_used(&self, max: usize, now: Instant) -> Vec<(Key, Arc<Entry>)> {
        let holds = |entry: &Arc<Entry>| entry.until > now && self.cells.holds(&entry.seen);
        let mut all: Vec<(Key, Arc<Entry>)> = self
            .entries
            .iter()
            .filter(|(_, entry)| holds(entry))
            .collect();
        all.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.hits()));
        all.truncate(max);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::results::key::KeyWriter;
    use crate::topology::TableName;
    use crate::topology::reach::Family;

    const ASKED: Asked = Asked::Query;

    fn results(size: usize, entry_max: usize) -> Arc<Results> {
        Results::new(Options { size, entry_max }, 42)
    }

    fn key(results: &Results, text: &str) -> Key {
        let mut writer = KeyWriter::default();
        writer.begin(&results.asker(b"somebody"), text.as_bytes());
        writer.finish(results.seed()).to_key()
    }

    fn reply(length: usize) -> Kept {
        let mut told = b"T\0\0\0\x06\0\0D".to_vec();
        told.extend_from_slice(&u32::try_from(length + 4).expect("short").to_be_bytes());
        told.extend(std::iter::repeat_n(0, length));
        told.extend_from_slice(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I");
        Kept::of(ASKED, &told).expect("an answer")
    }

    fn asking(results: &Results, text: &str, cell: Cell, ttl: Duration) -> Asking {
        Asking {
            key: key(results, text),
            asked: ASKED,
            seen: results.cells.look([cell]).expect("no write on its way"),
            made: Instant::now(),
            ttl,
            kind: 0,
            soft_ttl_percent: 80,
            wanted: None,
            tokens: None,
        }
    }

    fn users() -> Cell {
        let name = TableName {
            schema: "public".to_owned(),
            name: "users".to_owned(),
        };
        Cell::of_table(0, Family::named(&name))
    }

    #[test]
    fn an_answer_is_found_until_a_write_or_its_end() {
        let results = results(1 << 20, 1 << 16);
        let found = |text: &str| {
            let key = key(&results, text);
            results
                .find(
                    key.as_ref(),
                    ASKED,
                    0,
                    Duration::from_secs(3600),
                    Instant::now(),
                )
                .is_some()
        };
        let hour = Duration::from_secs(3600);
        assert!(!found("a"));
        assert_eq!(
            results
                .keep(asking(&results, "a", users(), hour), reply(10))
                .map(drop),
            Ok(())
        );
        assert!(found("a"));
        assert!(!found("b"));
        drop(results.cells.mark([users()]));
        assert!(!found("a"));
        assert_eq!(
            results
                .keep(asking(&results, "b", users(), Duration::ZERO), reply(10))
                .map(drop),
            Ok(())
        );
        assert!(!found("b"), "its time is over");
    }

    #[test]
    fn what_makes_room_is_counted_and_what_is_replaced_is_not() {
        let results = results(1 << 14, 1 << 12);
        let hour = Duration::from_secs(3600);
        let keep = |text: &str| {
            let asking = asking(&results, text, users(), hour);
            results.keep(asking, reply(1_000)).expect("kept");
        };
        for _ in 0..5 {
            keep("the same");
        }
        let standing = results.standing();
        assert_eq!((standing.entries, standing.evictions), (1, 0));
        (0..100).for_each(|number| keep(&format!("{number}")));
        let standing = results.standing();
        assert_eq!(standing.evictions + standing.entries as u64, 101);
        assert!(standing.evictions > 80, "{standing:?}");
    }

    /// Whatever a key is called by, its hash here or its MD5 name elsewhere, it is compared whole.
    #[test]
    fn two_questions_of_one_hash_have_two_answers() {
        let results = results(1 << 20, 1 << 16);
        let hour = Duration::from_secs(3600);
        let keep = |text: &str, length: usize| {
            let asking = asking(&results, text, users(), hour);
            let key = asking.key.clone().with_hash(5);
            assert_eq!(
                results
                    .keep(Asking { key, ..asking }, reply(length))
                    .map(drop),
                Ok(())
            );
        };
        let found = |text: &str| {
            let key = key(&results, text).with_hash(5);
            let entry = results.find(key.as_ref(), ASKED, 0, hour, Instant::now());
            entry.map(|entry| entry.reply.len())
        };
        keep("a", 10);
        assert_eq!(found("b"), None, "a collision is a miss");
        keep("b", 20);
        assert_eq!(found("b"), found("a").map(|length| length + 10));
        assert_eq!(results.standing().entries, 2);
    }

    #[test]
    fn what_was_asked_before_a_write_is_not_kept_behind_it() {
        let results = results(1 << 20, 1 << 16);
        let early = asking(&results, "a", users(), Duration::from_secs(9));
        let marks = results.cells.mark([users()]);
        assert_eq!(results.cells.look([users()]), None);
        drop(marks);
        assert_eq!(
            results.keep(early, reply(1)).map(drop),
            Err(NotKept::WriteOnItsWay)
        );
    }

    #[test]
    fn answers_stay_within_their_bounds() {
        let results = results(1 << 20, 1 << 16);
        let hour = Duration::from_secs(3600);
        assert_eq!(
            results
                .keep(asking(&results, "large", users(), hour), reply(1 << 16))
                .map(drop),
            Err(NotKept::TooLarge)
        );
        for n in 0..1_000 {
            let asking = asking(&results, &n.to_string(), users(), hour);
            assert_eq!(results.keep(asking, reply(8_000)).map(drop), Ok(()));
            assert!(results.standing().bytes <= 1 << 20);
        }
        assert!(results.standing().entries > 50);
        results.flush();
        assert_eq!(results.standing().entries, 0);
    }

    #[test]
    fn writes_by_a_snapshot_before_are_seen() {
        let results = results(1 << 20, 1 << 16);
        let (before, other) = (Cell::of_snapshot(1), Cell::of_snapshot(2));
        let now = 1_000;
        let seen = results.look([users()]).expect("no write on its way");
        assert_eq!(seen.len(), 1);
        let marks = results.cells.mark([before]);
        results.next_snapshot(1, now);
        assert_eq!(results.look([users()]), None, "it may write to users");
        drop(marks);
        let seen = results.look([users()]).expect("it is over");
        assert_eq!(seen.len(), 2);
        drop(results.cells.mark([before]));
        assert!(!results.cells.holds(&seen), "a session was late");
        results.next_snapshot(2, now);
        results.next_snapshot(1, now);
        assert_eq!(results.look([users()]).map(|seen| seen.len()), Some(3));
        // Many at once: nothing is kept while any is written by, and then all of them are forgotten.
        let marks = results.cells.mark([other]);
        for digest in 3..100 {
            results.next_snapshot(digest, now);
        }
        assert_eq!(results.look([users()]), None);
        drop(marks);
        let seen = results.look([users()]).expect("nobody writes");
        assert_eq!(seen.len(), 1 + PAST_MAX);
    }

    #[test]
    fn a_snapshot_that_comes_back_finds_none_of_its_answers() {
        let results = results(1 << 20, 1 << 16);
        let hour = Duration::from_secs(3600);
        let mut asking = asking(&results, "a", Cell::EVERYTHING, hour);
        asking
            .seen
            .extend(results.look([users()]).expect("no write on its way"));
        assert_eq!(results.keep(asking, reply(10)).map(drop), Ok(()));
        let key = key(&results, "a");
        let is_found = || {
            let now = Instant::now();
            results.find(key.as_ref(), ASKED, 0, hour, now).is_some()
        };
        assert!(is_found());
        // The next one knows the rows by another cell, and somebody writes.
        results.next_snapshot(1, 2);
        drop(results.cells.mark([Cell::of_snapshot(2)]));
        results.next_snapshot(2, 1);
        assert!(!is_found());
    }

    #[test]
    fn a_snapshot_that_is_back_is_not_past() {
        let results = results(1 << 20, 1 << 16);
        results.next_snapshot(1, 2);
        results.next_snapshot(2, 1);
        let seen = results.look([users()]).expect("no write on its way");
        assert_eq!(seen.len(), 2, "the other one is past");
        drop(results.cells.mark([Cell::of_snapshot(1)]));
        assert!(
            results.cells.holds(&seen),
            "it writes by cells that are known"
        );
        drop(results.cells.mark([Cell::of_snapshot(2)]));
        assert!(!results.cells.holds(&seen));
    }

    #[test]
    fn a_void_answer_is_stale_only_while_nothing_but_rows_has_changed() {
        let results = results(1 << 20, 1 << 16);
        let hour = Duration::from_secs(3600);
        let key = key(&results, "a");
        let stale = |age: Duration, has_changed: bool| {
            let now = Instant::now();
            let own = |_: Cell, _: Instant| has_changed;
            results
                .find_stale(key.as_ref(), ASKED, age, now, own)
                .is_some()
        };
        let keep = || {
            let mut asking = asking(&results, "a", users(), hour);
            let all = results.look([Cell::EVERYTHING]).expect("nobody writes");
            asking.seen.extend(all);
            assert_eq!(results.keep(asking, reply(10)).map(drop), Ok(()));
        };
        keep();
        assert!(stale(Duration::ZERO, false), "it is true");
        drop(results.cells.mark([users()]));
        assert!(stale(hour, false));
        assert!(!stale(hour, true), "one's own write");
        assert!(!stale(Duration::ZERO, false), "too long ago");
        results.cells.change(Cell::EVERYTHING);
        assert!(!stale(hour, false), "a REVOKE, or a change of the schema");
        keep();
        assert!(stale(hour, false));
        results.flush_cells([users()]);
        assert!(!stale(hour, false), "somebody wished it gone");
    }

    #[test]
    fn askers_keep_their_numbers() {
        let results = results(1 << 20, 1 << 16);
        let (one, two) = (results.asker(b"one"), results.asker(b"two"));
        assert_ne!(one.id, two.id);
        assert_eq!(results.asker(b"one").id, one.id);
        for n in 0..ASKERS_MAX {
            let _ = results.asker(&n.to_le_bytes());
        }
        assert_ne!(
            results.asker(b"one").id,
            one.id,
            "a number is never used again"
        );
    }
}
