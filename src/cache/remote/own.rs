//! The marks of this Keyway's writes: which Redis knows of, and what is still to be told. No I/O, no clock of its own.

use crate::cache::remote::tokens::{fold, folded};
use crate::cache::results::cells::Cell;
use smallvec::SmallVec;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Cells whose changes are remembered one by one; beyond it everything has changed.
const CHANGES_MAX: usize = 1_000;

/// A mark's number, never used twice in a process.
pub(super) type MarkId = u64;

/// Cells of a mark.
pub(super) type Marked = SmallVec<[Cell; 6]>;

/// Until when a mark can be counted on, in µs since the start; shared with whoever holds it.
pub(super) type Until = Arc<AtomicU64>;

/// Does Redis know of a mark?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    /// It is being told.
    Now,
    Yes,
    /// It was asked, and nobody knows.
    Perhaps,
}

/// A write that is over.
#[derive(Debug)]
struct Over {
    /// Was it sent at all?
    wrote: bool,
    at: Instant,
    /// Could the mark be counted on up to the end?
    sure: bool,
    /// Redis is being told.
    telling: bool,
    waiting: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Mark {
    digest: u128,
    cells: Marked,
    told: Told,
    /// Redis was asked once, so it may know of it.
    asked: bool,
    until: Until,
    over: Option<Over>,
}

/// Something to be told.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Mark(MarkId, u128, Marked),
    Unmark(MarkId, Marked, Wrote),
}

/// Was a write sent?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrote {
    Yes,
    Never,
}

/// How telling a mark went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Redis has it; it was sent at this time.
    Told(Instant),
    /// It was not asked.
    NotAsked,
    /// Nobody knows.
    Perhaps,
}

/// Changes to be told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changes {
    cells: BTreeSet<Cell>,
}

impl Changes {
    fn add(&mut self, cells: impl IntoIterator<Item = Cell>) {
        if self.cells.contains(&Cell::EVERYTHING) {
            return;
        }
        self.cells.extend(cells);
        if self.cells.contains(&Cell::EVERYTHING) || self.cells.len() > CHANGES_MAX {
            self.cells = BTreeSet::from([Cell::EVERYTHING]);
        }
    }

    /// Which cells; with everything, only that.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> + '_ {
        self.cells.iter().copied()
    }

    fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn meet(&self, places: &[u32]) -> bool {
        self.cells.iter().any(|cell| places.contains(&fold(*cell)))
    }
}

#[derive(Debug, Default)]
struct Table {
    next: MarkId,
    marks: HashMap<MarkId, Mark>,
    /// Marks that may have something to be told, in order; one may be there twice.
    todo: VecDeque<MarkId>,
    changes: Changes,
    /// Those that are being told.
    telling: Changes,
    /// For each place in Redis, the marks on it that Redis may not know of.
    untold: HashMap<u32, usize>,
}

impl Table {
    fn is_untold(&mut self, cells: &[Cell]) {
        for place in folded(cells.iter().copied()) {
            *self.untold.entry(place).or_default() += 1;
        }
    }

    fn is_told(&mut self, cells: &[Cell]) {
        for place in folded(cells.iter().copied()) {
            if let Entry::Occupied(mut marks) = self.untold.entry(place) {
                *marks.get_mut() -= 1;
                if *marks.get() == 0 {
                    marks.remove();
                }
            }
        }
    }

    fn remove(&mut self, id: MarkId) -> Option<Mark> {
        let mark = self.marks.remove(&id)?;
        if mark.told != Told::Yes {
            self.is_told(&mark.cells);
        }
        Some(mark)
    }
}

/// All of a process.
#[derive(Debug)]
pub(super) struct Own {
    table: Mutex<Table>,
    start: Instant,
    lease: Duration,
    max: usize,
}

impl Own {
    /// None yet; `max` at once.
    pub(super) fn new(lease: Duration, max: usize) -> Self {
        Self {
            table: Mutex::default(),
            start: Instant::now(),
            lease,
            max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// µs since the start.
    pub(super) fn clock(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.lock().marks.len()
    }

    fn begin(&self, digest: u128, cells: Marked, told: Told) -> Option<(MarkId, Until)> {
        let mut table = self.lock();
        if table.marks.len() >= self.max {
            return None;
        }
        table.next += 1;
        let (id, until) = (table.next, Until::default());
        table.is_untold(&cells);
        let mark = Mark {
            digest,
            cells,
            told,
            asked: false,
            until: Arc::clone(&until),
            over: None,
        };
        table.marks.insert(id, mark);
        if told == Told::No {
            table.todo.push_back(id);
        }
        Some((id, until))
    }

    /// A mark that the caller tells itself; `None` when there are too many.
    pub(super) fn begin_telling(&self, digest: u128, cells: Marked) -> Option<(MarkId, Until)> {
        self.begin(digest, cells, Told::Now)
    }

    /// A mark that is to be told; `None` when there are too many.
    pub(super) fn begin_soon(&self, digest: u128, cells: Marked) -> Option<(MarkId, Until)> {
        self.begin(digest, cells, Told::No)
    }

    /// How telling a mark went. Anything to do again?
    pub(super) fn marked(&self, id: MarkId, outcome: Outcome) -> bool {
        let mut table = self.lock();
        let table = &mut *table;
        let Some(mark) = table.marks.get_mut(&id) else {
            return false;
        };
        let before = mark.told;
        mark.told = match outcome {
            Outcome::Told(sent) => {
                mark.until.store(self.good_until(sent), Ordering::Release);
                Told::Yes
            }
            Outcome::NotAsked if !mark.asked => Told::No,
            Outcome::NotAsked | Outcome::Perhaps => Told::Perhaps,
        };
        mark.asked |= outcome != Outcome::NotAsked;
        let more = mark.over.is_some() || mark.told != Told::Yes;
        if more {
            table.todo.push_back(id);
        }
        if (before, mark.told) == (Told::Now, Told::Yes) {
            let cells = mark.cells.clone();
            table.is_told(&cells);
        }
        more
    }

    /// Redis forgets a mark a lease after it has heard of it, which is not before it was sent. A tenth is for clocks of
    /// different speed.
    fn good_until(&self, sent: Instant) -> u64 {
        self.clock(sent + self.lease * 9 / 10)
    }

    /// A write is over. `waiting` hears when Redis knows it.
    pub(super) fn over(
        &self,
        id: MarkId,
        wrote: Wrote,
        now: Instant,
        waiting: Option<oneshot::Sender<()>>,
    ) {
        let mut table = self.lock();
        let Some(mark) = table.marks.get_mut(&id) else {
            return;
        };
        mark.over = Some(Over {
            wrote: wrote == Wrote::Yes,
            at: now,
            sure: self.clock(now) < mark.until.load(Ordering::Acquire),
            telling: false,
            waiting,
        });
        table.todo.push_back(id);
    }

    /// Redis was told that a write is over, or was not.
    pub(super) fn unmarked(&self, id: MarkId, told: bool, now: Instant) {
        let mut table = self.lock();
        let Some(mark) = table.marks.get_mut(&id) else {
            return;
        };
        let Some(over) = &mut mark.over else {
            return;
        };
        over.telling = false;
        // By then Redis has forgotten the mark by itself, which is a change too.
        let forgotten = now.saturating_duration_since(over.at) > self.lease * 2;
        let void = !told && forgotten && over.wrote && !over.sure;
        if told && let Some(waiting) = over.waiting.take() {
            // Nobody may wait any more.
            let _ = waiting.send(());
        }
        if told || forgotten {
            table.remove(id);
        } else {
            table.todo.push_back(id);
        }
        if void {
            table.changes.add([Cell::EVERYTHING]);
        }
    }

    /// The next things to be told, at most `max`.
    pub(super) fn jobs(&self, max: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        let mut table = self.lock();
        let table = &mut *table;
        while jobs.len() < max
            && let Some(id) = table.todo.pop_front()
        {
            let Some(mark) = table.marks.get_mut(&id) else {
                continue;
            };
            match (&mut mark.over, mark.told) {
                (None, Told::No | Told::Perhaps) => {
                    mark.told = Told::Now;
                    jobs.push(Job::Mark(id, mark.digest, mark.cells.clone()));
                }
                // Comes back when it is told.
                (_, Told::Now) | (None, Told::Yes) => {}
                (Some(over), Told::No) => {
                    // Redis has never heard of it. It is told what came of it.
                    if over.wrote {
                        table.changes.add(mark.cells.iter().copied());
                    }
                    table.remove(id);
                }
                (Some(over), Told::Yes | Told::Perhaps) => {
                    if !over.telling {
                        over.telling = true;
                        let wrote = if over.wrote { Wrote::Yes } else { Wrote::Never };
                        jobs.push(Job::Unmark(id, mark.cells.clone(), wrote));
                    }
                }
            }
        }
        jobs
    }

    /// Anything to be told?
    pub(super) fn has_work(&self) -> bool {
        let table = self.lock();
        !table.todo.is_empty() || !table.changes.is_empty()
    }

    /// These have changed.
    pub(super) fn changed(&self, cells: impl IntoIterator<Item = Cell>) {
        self.lock().changes.add(cells);
    }

    /// What has changed; `None` when nothing has.
    pub(super) fn take_changes(&self) -> Option<Changes> {
        let mut table = self.lock();
        table.telling = std::mem::take(&mut table.changes);
        (!table.telling.is_empty()).then(|| table.telling.clone())
    }

    /// What was taken is told, or comes back.
    pub(super) fn changes_told(&self, told: bool) {
        let mut table = self.lock();
        let telling = std::mem::take(&mut table.telling);
        if !told {
            table.changes.add(telling.cells());
        }
    }

    /// Does Redis know of all marks and changes at these places? Those of writes that were acknowledged to a client before
    /// this is asked are among them.
    pub(super) fn knows(&self, places: &[u32]) -> bool {
        let table = self.lock();
        let marked =
            !table.untold.is_empty() && places.iter().any(|place| table.untold.contains_key(place));
        !marked && !table.changes.meet(places) && !table.telling.meet(places)
    }

    /// Marks that Redis knows of and is to be told again, a third of a lease after the last time.
    pub(super) fn to_renew(&self, now: Instant) -> Vec<(MarkId, Marked)> {
        // 9/10 of a lease are counted on.
        let early = self.clock(now + self.lease * 17 / 30);
        self.lock()
            .marks
            .iter()
            .filter(|(_, mark)| {
                mark.over.is_none()
                    && mark.told == Told::Yes
                    && mark.until.load(Ordering::Acquire) <= early
            })
            .map(|(id, mark)| (*id, mark.cells.clone()))
            .collect()
    }

    /// A mark was renewed.
    pub(super) fn renewed(&self, id: MarkId, sent: Instant) {
        if let Some(mark) = self.lock().marks.get(&id) {
            let until = self.good_until(sent);
            mark.until.fetch_max(until, Ordering::AcqRel);
        }
    }

    /// Redis does not know it any more.
    pub(super) fn lapsed(&self, id: MarkId) {
        let mut table = self.lock();
        if let Some(mark) = table.marks.get_mut(&id)
            && mark.told == Told::Yes
        {
            mark.told = Told::Perhaps;
            let cells = mark.cells.clone();
            table.is_untold(&cells);
            table.todo.push_back(id);
        }
    }

    /// Redis has lost its state: all are told again.
    pub(super) fn all_lapsed(&self) {
        let mut table = self.lock();
        let table = &mut *table;
        let mut lapsed = Vec::new();
        for (id, mark) in &mut table.marks {
            if mark.over.is_none() && mark.told == Told::Yes {
                mark.told = Told::Perhaps;
                table.todo.push_back(*id);
                lapsed.push(mark.cells.clone());
            }
        }
        for cells in &lapsed {
            table.is_untold(cells);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    const LEASE: Duration = Duration::from_secs(30);

    fn cell() -> Cell {
        Cell::of_shard(3)
    }

    fn own() -> Own {
        Own::new(LEASE, 2)
    }

    #[test]
    fn a_mark_is_told_and_taken_back() {
        let own = own();
        let (id, until) = own.begin_soon(7, smallvec![cell()]).expect("room");
        assert!(matches!(own.jobs(9)[..], [Job::Mark(one, 7, _)] if one == id));
        assert!(own.jobs(9).is_empty(), "it is being told");
        own.over(id, Wrote::Yes, Instant::now(), None);
        assert!(own.jobs(9).is_empty(), "it is still being told");
        let place = [cell().index()];
        assert!(!own.knows(&place) && own.knows(&[9]));
        assert!(own.marked(id, Outcome::Told(Instant::now())));
        assert!(own.knows(&place));
        assert!(until.load(Ordering::Acquire) > 0);
        assert!(matches!(own.jobs(9)[..], [Job::Unmark(one, _, Wrote::Yes)] if one == id));
        own.unmarked(id, false, Instant::now());
        assert!(matches!(own.jobs(9)[..], [Job::Unmark(..)]), "again");
        own.unmarked(id, true, Instant::now());
        assert_eq!(own.len(), 0);
        assert!(!own.has_work());
    }

    #[test]
    fn a_write_that_came_and_went_untold_is_a_change() {
        let own = own();
        let (id, _) = own.begin_soon(7, smallvec![cell()]).expect("room");
        assert_eq!(own.jobs(9).len(), 1);
        own.marked(id, Outcome::NotAsked);
        own.over(id, Wrote::Yes, Instant::now(), None);
        assert!(own.jobs(9).is_empty());
        let changes = own.take_changes().expect("a change");
        assert_eq!(changes.cells().collect::<Vec<_>>(), [cell()]);
        let place = [cell().index()];
        assert!(!own.knows(&place));
        own.changes_told(false);
        assert!(own.has_work() && !own.knows(&place));
        assert!(own.take_changes().is_some());
        own.changes_told(true);
        assert!(!own.has_work() && own.knows(&place));
        // One that was never sent to its shard changes nothing.
        let own = self::own();
        let (id, _) = own.begin_telling(7, smallvec![cell()]).expect("room");
        own.marked(id, Outcome::NotAsked);
        own.over(id, Wrote::Never, Instant::now(), None);
        assert!(own.jobs(9).is_empty());
        assert_eq!(own.take_changes(), None);
        assert_eq!(own.len(), 0);
    }

    #[test]
    fn marks_are_bounded_and_so_are_changes() {
        let own = own();
        let one = own.begin_soon(7, smallvec![cell()]);
        assert!(one.is_some() && own.begin_soon(7, smallvec![cell()]).is_some());
        assert!(own.begin_soon(7, smallvec![cell()]).is_none());
        own.changed((0..=1_000).filter_map(|at| Cell::at(at + 5)));
        let all = own.take_changes().expect("changes");
        assert_eq!(all.cells().collect::<Vec<_>>(), [Cell::EVERYTHING]);
    }

    #[test]
    fn marks_are_renewed_and_told_anew_when_redis_has_lost_them() {
        let own = own();
        let (id, until) = own.begin_telling(7, smallvec![cell()]).expect("room");
        own.marked(id, Outcome::Told(Instant::now()));
        assert!(own.to_renew(Instant::now()).is_empty());
        let later = Instant::now() + LEASE / 3;
        assert_eq!(own.to_renew(later).len(), 1);
        let before = until.load(Ordering::Acquire);
        own.renewed(id, later);
        assert!(until.load(Ordering::Acquire) > before);
        assert!(own.to_renew(later).is_empty());
        let place = [cell().index()];
        assert!(own.knows(&place));
        own.all_lapsed();
        assert!(!own.knows(&place));
        assert!(matches!(own.jobs(9)[..], [Job::Mark(..)]));
        own.marked(id, Outcome::Told(later));
        assert!(own.knows(&place));
        own.lapsed(id);
        own.over(id, Wrote::Yes, later, None);
        assert!(!own.knows(&place));
        assert!(matches!(own.jobs(9)[..], [Job::Unmark(..)]));
        own.unmarked(id, true, later);
        assert!(own.knows(&place));
    }

    #[test]
    fn a_write_that_outlived_its_mark_untold_changes_everything() {
        for (sure, changes) in [(true, false), (false, true)] {
            let own = own();
            let (id, _) = own.begin_telling(7, smallvec![cell()]).expect("room");
            own.marked(id, Outcome::Told(Instant::now()));
            let end = Instant::now() + if sure { LEASE / 2 } else { LEASE };
            own.over(id, Wrote::Yes, end, None);
            assert_eq!(own.jobs(9).len(), 1);
            own.unmarked(id, false, end + LEASE * 3);
            assert_eq!(own.len(), 0);
            assert_eq!(own.take_changes().is_some(), changes);
        }
    }
}
