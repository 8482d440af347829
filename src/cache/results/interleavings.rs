//! The cells' protocol in every order in which few threads can run it, weak memory included, by `loom`. A row is written
//! and read by the protocol, or by one that lacks a part of it; the first must never be found to give an old answer, the
//! others must be, or the models would show nothing.
//!
//! Preemptions are bounded, so that the models end. What is stale is counted and not asserted inside of a model: a panic
//! there would unwind threads whose marks loom no longer knows.

use crate::cache::results::cells::{Cell, Cells, Seen, Word};
use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Cells of the tables; those below do not meet in it.
const TABLE: u32 = 8;
/// Two parts of what an answer is made of.
const ONE: Cell = Cell::EVERYTHING;
/// As the snapshot before knows the rows, and as the next one does.
const BEFORE: u64 = 1;
const NEXT: u64 = 2;

fn other() -> Cell {
    Cell::of_shard(4)
}

fn rows_of_snapshot(digest: u64) -> Cell {
    Cell::of_shard(if digest == BEFORE { 5 } else { 6 })
}

fn snapshot(digest: u64) -> Cell {
    Cell::of_snapshot(u128::from(digest))
}

/// As in earnest.
#[derive(Default)]
struct Sound(AtomicU64);

impl Word for Sound {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::AcqRel);
    }
}

/// The bits of a word that count marks.
const MARKS: u64 = (1 << 24) - 1;

/// Has marks and counts no changes: behind a write it is as before.
#[derive(Default)]
struct Forgetful(AtomicU64);

impl Word for Forgetful {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn add(&self, amount: u64) {
        // A release is one mark less, beside a change.
        let marks = if amount & MARKS == MARKS {
            u64::MAX
        } else {
            amount & MARKS
        };
        self.0.fetch_add(marks, Ordering::AcqRel);
    }
}

/// Counts changes and shows no marks: what is read while a write is on its way is kept.
#[derive(Default)]
struct Unmarked(AtomicU64);

impl Word for Unmarked {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire) & !MARKS
    }

    fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::AcqRel);
    }
}

/// How a writer goes about it.
#[derive(Clone, Copy)]
enum Writing {
    /// Marks, writes, releases.
    Ours,
    /// Writes, marks and releases.
    MarksTooLate,
    /// Marks, releases and writes.
    ReleasesTooEarly,
    /// One change before it writes, and no mark.
    ChangesOnceBefore,
    /// One change when it has written, and no mark.
    ChangesOnceBehind,
}

/// How a reader goes about it.
#[derive(Clone, Copy)]
enum Reading {
    /// Looks at the cells before it asks the server.
    Ours,
    /// Looks at them when it has the answer.
    LooksTooLate,
}

/// A row on its server, the answer that is kept of it, and what anybody has been told.
struct World<W: Word> {
    cells: Arc<Cells<W>>,
    /// What answers are made of.
    made_of: Vec<Cell>,
    /// How often the row was written.
    row: AtomicU64,
    kept: Mutex<Option<(Seen, u64)>>,
    /// The newest state that anybody has been told of. Who begins after that must not see an older one.
    told: AtomicU64,
    /// Answers older than that, over all orders. Not loom's: it only counts.
    stale: Arc<AtomicUsize>,
}

impl<W: Word> World<W> {
    fn new(made_of: &[Cell], stale: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            cells: Arc::new(Cells::new(TABLE)),
            made_of: made_of.to_vec(),
            row: AtomicU64::new(0),
            kept: Mutex::new(None),
            told: AtomicU64::new(0),
            stale: Arc::clone(stale),
        })
    }

    fn change_row(&self) -> u64 {
        self.row.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A server has one state at a time, and whoever asks it gets that.
    fn read_row(&self) -> u64 {
        self.row.fetch_add(0, Ordering::AcqRel)
    }

    fn tell(&self, state: u64) {
        self.told.fetch_max(state, Ordering::AcqRel);
    }

    fn write(&self, cell: Cell, how: Writing) {
        let state = match how {
            Writing::Ours => {
                let _marks = self.cells.mark([cell]);
                self.change_row()
            }
            Writing::MarksTooLate => {
                let state = self.change_row();
                drop(self.cells.mark([cell]));
                state
            }
            Writing::ReleasesTooEarly => {
                drop(self.cells.mark([cell]));
                self.change_row()
            }
            Writing::ChangesOnceBefore => {
                self.cells.change(cell);
                self.change_row()
            }
            Writing::ChangesOnceBehind => {
                let state = self.change_row();
                self.cells.change(cell);
                state
            }
        };
        self.tell(state);
    }

    fn find(&self) -> Option<u64> {
        let kept = self.kept.lock().expect("nobody panics").clone();
        let (seen, state) = kept?;
        self.cells.holds(&seen).then_some(state)
    }

    fn look(&self) -> Option<Seen> {
        self.cells.look(self.made_of.iter().copied())
    }

    fn keep(&self, seen: Option<Seen>, state: u64) {
        if let Some(seen) = seen.filter(|seen| self.cells.holds(seen)) {
            *self.kept.lock().expect("nobody panics") = Some((seen, state));
        }
    }

    fn ask(&self, how: Reading) -> u64 {
        if let Some(state) = self.find() {
            return state;
        }
        match how {
            Reading::Ours => {
                let seen = self.look();
                let state = self.read_row();
                self.keep(seen, state);
                state
            }
            Reading::LooksTooLate => {
                let state = self.read_row();
                self.keep(self.look(), state);
                state
            }
        }
    }

    /// Checks an answer against what had been told before it was asked for.
    fn expect(&self, least: u64, state: u64) {
        if state < least {
            self.stale
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn read(&self, how: Reading) {
        let least = self.told.load(Ordering::Acquire);
        let state = self.ask(how);
        self.expect(least, state);
        self.tell(state);
    }
}

/// Preemptions that a model is run with at most.
const PREEMPTIONS: usize = 3;

/// Runs a model in every order, with no preemption, then one, and so on; how many stale answers it gave when it first
/// gave any.
fn stale_answers(model: impl Fn(&Arc<AtomicUsize>) + Sync + Send + Clone + 'static) -> usize {
    let stale = Arc::<AtomicUsize>::default();
    for preemptions in 0..=PREEMPTIONS {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        let (model, counted) = (model.clone(), Arc::clone(&stale));
        builder.check(move || model(&counted));
        if stale.load(std::sync::atomic::Ordering::Relaxed) > 0 {
            break;
        }
    }
    stale.load(std::sync::atomic::Ordering::Relaxed)
}

/// One writes, two read; the first of them twice.
fn a_writer_and_readers<W: Word + Send + Sync + 'static>(
    writing: Writing,
    reading: Reading,
) -> usize {
    stale_answers(move |stale| {
        let world = World::<W>::new(&[ONE], stale);
        let writer = thread::spawn({
            let world = Arc::clone(&world);
            move || world.write(ONE, writing)
        });
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || world.read(reading)
        });
        world.read(reading);
        world.read(reading);
        writer.join().expect("it ends");
        reader.join().expect("it ends");
        // Whatever came before.
        world.read(reading);
    })
}

/// Two write, each to a part of what a third reads.
fn two_writers<W: Word + Send + Sync + 'static>(writing: Writing, reading: Reading) -> usize {
    stale_answers(move |stale| {
        let world = World::<W>::new(&[ONE, other()], stale);
        let writers = [ONE, other()].map(|cell| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.write(cell, writing))
        });
        world.read(reading);
        world.read(reading);
        for writer in writers {
            writer.join().expect("it ends");
        }
        world.read(reading);
    })
}

#[test]
fn no_order_of_a_writer_and_readers_gives_an_old_answer() {
    assert_eq!(
        a_writer_and_readers::<Sound>(Writing::Ours, Reading::Ours),
        0
    );
}

#[test]
fn no_order_of_two_writers_and_a_reader_gives_an_old_answer() {
    assert_eq!(two_writers::<Sound>(Writing::Ours, Reading::Ours), 0);
}

/// Every part of the protocol is needed, and the models see when it is missing.
#[test]
fn what_lacks_a_part_of_the_protocol_gives_old_answers() {
    use Writing::{ChangesOnceBefore, ChangesOnceBehind, MarksTooLate, Ours, ReleasesTooEarly};
    let found = [
        (
            "marks behind the write",
            a_writer_and_readers::<Sound>(MarksTooLate, Reading::Ours),
        ),
        (
            "one change, behind the write",
            a_writer_and_readers::<Sound>(ChangesOnceBehind, Reading::Ours),
        ),
        (
            "release before the write",
            two_writers::<Sound>(ReleasesTooEarly, Reading::Ours),
        ),
        (
            "one change, before the write",
            two_writers::<Sound>(ChangesOnceBefore, Reading::Ours),
        ),
        (
            "a look behind the read",
            two_writers::<Sound>(Ours, Reading::LooksTooLate),
        ),
        (
            "marks without changes",
            two_writers::<Forgetful>(Ours, Reading::Ours),
        ),
        (
            "changes without marks",
            a_writer_and_readers::<Unmarked>(Ours, Reading::Ours),
        ),
    ];
    let missed: Vec<&str> = found
        .iter()
        .filter(|(_, stale)| *stale == 0)
        .map(|(what, _)| *what)
        .collect();
    assert_eq!(missed, Vec::<&str>::new(), "{found:?}");
}

/// How everything that is kept is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flushing {
    /// Changes the cell, and forgets what is kept.
    Ours,
    /// Forgets what is kept, and nothing else.
    OnlyForgets,
}

/// A row is changed behind the protocol's back, and then all is dropped, while somebody asks.
fn a_flush(how: Flushing) -> usize {
    stale_answers(move |stale| {
        let world = World::<Sound>::new(&[ONE, other()], stale);
        let reads = |world: &World<Sound>| {
            // Until the flush anything may be said: only it tells.
            let least = world.told.load(Ordering::Acquire);
            let state = world.ask(Reading::Ours);
            world.expect(least, state);
        };
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                reads(&world);
                reads(&world);
            }
        });
        let state = world.change_row();
        if how == Flushing::Ours {
            world.cells.change(Cell::EVERYTHING);
        }
        *world.kept.lock().expect("nobody panics") = None;
        world.tell(state);
        reads(&world);
        reader.join().expect("it ends");
        reads(&world);
    })
}

#[test]
fn what_is_asked_while_all_is_dropped_does_not_come_back() {
    assert_eq!(a_flush(Flushing::Ours), 0);
    assert_ne!(a_flush(Flushing::OnlyForgets), 0);
}

/// How the next snapshot is published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publishing {
    /// The one before is noted as past, then the next is published.
    Ours,
    /// It is noted when the next one is published.
    NotedTooLate,
}

/// Sessions that plan by two snapshots, which know the same rows by other cells.
struct Snapshots {
    world: Arc<World<Sound>>,
    /// The digest of the one that statements are planned by.
    current: AtomicU64,
    /// Is there a snapshot before?
    has_past: AtomicU64,
    /// What is kept for askers of the next snapshot is in `world`; this is for the one before.
    kept_before: Mutex<Option<(Seen, u64)>>,
}

impl Snapshots {
    fn new(stale: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            world: World::new(&[], stale),
            current: AtomicU64::new(BEFORE),
            has_past: AtomicU64::new(0),
            kept_before: Mutex::new(None),
        })
    }

    fn publish(&self, how: Publishing) {
        if how == Publishing::Ours {
            self.has_past.store(1, Ordering::Release);
        }
        self.current.store(NEXT, Ordering::Release);
        if how == Publishing::NotedTooLate {
            self.has_past.store(1, Ordering::Release);
        }
    }

    /// A write that was planned by the snapshot before.
    fn write(&self) {
        let world = &self.world;
        let state = {
            let _marks = if self.current.load(Ordering::Acquire) == BEFORE {
                world
                    .cells
                    .mark([snapshot(BEFORE), rows_of_snapshot(BEFORE)])
            } else {
                world.cells.mark([snapshot(BEFORE), Cell::EVERYTHING])
            };
            world.change_row()
        };
        world.tell(state);
    }

    fn read(&self) {
        let world = &self.world;
        let least = world.told.load(Ordering::Acquire);
        let digest = self.current.load(Ordering::Acquire);
        let kept = if digest == BEFORE {
            &self.kept_before
        } else {
            &world.kept
        };
        let found = kept.lock().expect("nobody panics").clone();
        let state = match found.filter(|(seen, _)| world.cells.holds(seen)) {
            Some((_, state)) => state,
            None => {
                let mut made_of = vec![Cell::EVERYTHING, rows_of_snapshot(digest)];
                if self.has_past.load(Ordering::Acquire) == 1 {
                    made_of.push(snapshot(BEFORE));
                }
                let seen = world.cells.look(made_of);
                let state = world.read_row();
                if let Some(seen) = seen.filter(|seen| world.cells.holds(seen)) {
                    *kept.lock().expect("nobody panics") = Some((seen, state));
                }
                state
            }
        };
        world.expect(least, state);
        world.tell(state);
    }
}

fn a_late_session(how: Publishing) -> usize {
    stale_answers(move |stale| {
        let snapshots = Snapshots::new(stale);
        let writer = thread::spawn({
            let snapshots = Arc::clone(&snapshots);
            move || snapshots.write()
        });
        let publisher = thread::spawn({
            let snapshots = Arc::clone(&snapshots);
            move || snapshots.publish(how)
        });
        snapshots.read();
        snapshots.read();
        writer.join().expect("it ends");
        publisher.join().expect("it ends");
        snapshots.read();
    })
}

#[test]
fn a_session_that_writes_by_the_snapshot_before_is_seen() {
    assert_eq!(a_late_session(Publishing::Ours), 0);
    assert_ne!(a_late_session(Publishing::NotedTooLate), 0);
}
