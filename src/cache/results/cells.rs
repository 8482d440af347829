//! Versions: what a kept answer must still be true of, and what a write spoils.
//!
//! A *cell* is a number that changes with every write to some rows: those of a table on a shard, those of a key, a whole
//! shard, everything. An answer is kept with the cells it depends on, as they were before its statement was sent, and
//! holds while none of them has changed. Nobody looks for what a write has spoiled: it is seen when it is asked for.
//!
//! A write marks its cells before it is sent. While a cell is marked no answer that depends on it is kept, and the mark
//! itself has made all earlier ones void; so what is found in the cache was true when it was looked up, whenever between
//! mark and release the write took effect. The mark is released when the write is through, whatever became of it.
//!
//! Cells are found by hashing into a table of fixed size. Two things that share one spoil each other's answers, and do no
//! other harm.

use crate::topology::reach::Family;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::xxh3_64;

/// Cells in the table: 8 MiB.
pub const CELLS: u32 = 1 << 20;

/// Cells that stand for themselves; the others are found by hashing.
pub const FIXED: u32 = 1 << 10;

/// Of those, the first for snapshots of the topology.
const SNAPSHOTS: u32 = 1 << 9;

/// The bits of a cell's value that count the writes on their way; those above count changes.
const MARK_BITS: u32 = 24;

/// One more change.
const CHANGE: u64 = 1 << MARK_BITS;

/// A cell's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(u32);

impl Cell {
    /// Whatever is written anywhere in a way that nobody can follow.
    pub const EVERYTHING: Self = Self(0);

    /// Whatever is written on a shard in such a way. `shard` is its stable id, below 511.
    #[must_use]
    pub fn of_shard(shard: u16) -> Self {
        Self(1 + u32::from(shard) % (SNAPSHOTS - 1))
    }

    /// Every write that was planned by a snapshot of the topology. Another snapshot may know the same tables by other
    /// families.
    #[must_use]
    pub fn of_snapshot(digest: u128) -> Self {
        let place = digest % u128::from(FIXED - SNAPSHOTS);
        Self(SNAPSHOTS + u32::try_from(place).unwrap_or(0))
    }

    /// Every write to a family of tables on a shard.
    #[must_use]
    pub fn of_table(shard: u16, family: Family) -> Self {
        Self::hashed(1, family, u64::from(shard))
    }

    /// Writes to a family of tables on a shard that do not say whose rows they change.
    #[must_use]
    pub fn of_unpinned(shard: u16, family: Family) -> Self {
        Self::hashed(2, family, u64::from(shard))
    }

    /// Writes to a family's rows of one sharding key. `key` is a hash of it.
    #[must_use]
    pub fn of_key(family: Family, key: u64) -> Self {
        Self::hashed(3, family, key)
    }

    fn hashed(kind: u8, family: Family, what: u64) -> Self {
        let mut bytes = [0; 17];
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&family.0.to_le_bytes());
        bytes[9..].copy_from_slice(&what.to_le_bytes());
        let place = xxh3_64(&bytes) % u64::from(CELLS - FIXED);
        Self(FIXED + u32::try_from(place).unwrap_or(0))
    }

    /// The cell at a place, as another Keyway names it; `None` beyond the table.
    #[must_use]
    pub fn at(index: u32) -> Option<Self> {
        (index < CELLS).then_some(Self(index))
    }

    /// Its place in the table, below [`CELLS`].
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }
}

/// Cells as they were at some time.
pub type Seen = SmallVec<[(Cell, u64); 4]>;

/// A number that threads share. The protocol is tried with other implementations in tests.
pub trait Word: Default {
    /// Its value, with everything that was written before it got that value.
    fn load(&self) -> u64;
    /// Adds to it, and publishes what was written before.
    fn add(&self, amount: u64);
}

impl Word for AtomicU64 {
    #[inline]
    fn load(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn add(&self, amount: u64) {
        self.fetch_add(amount, Ordering::AcqRel);
    }
}

/// The table.
pub struct Cells<W = AtomicU64>(Box<[W]>);

impl<W> fmt::Debug for Cells<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cells").field(&self.0.len()).finish()
    }
}

impl<W: Word> Default for Cells<W> {
    fn default() -> Self {
        Self::new(CELLS)
    }
}

impl<W: Word> Cells<W> {
    /// A table of this size; smaller ones are for tests.
    #[must_use]
    pub fn new(cells: u32) -> Self {
        Self((0..cells).map(|_| W::default()).collect())
    }

    /// How many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    #[inline]
    fn word(&self, cell: Cell) -> &W {
        &self.0[cell.0 as usize % self.0.len()]
    }

    /// The cells as they are now; `None` while a write to one of them is on its way. For a statement that has not been
    /// sent yet.
    pub fn look(&self, cells: impl IntoIterator<Item = Cell>) -> Option<Seen> {
        let mut seen = Seen::new();
        for cell in cells {
            let value = self.word(cell).load();
            if value & (CHANGE - 1) != 0 {
                return None;
            }
            seen.push((cell, value));
        }
        Some(seen)
    }

    /// Is nothing of this changed, nor about to?
    #[inline]
    pub fn holds(&self, seen: &[(Cell, u64)]) -> bool {
        seen.iter()
            .all(|(cell, value)| self.word(*cell).load() == *value)
    }

    /// Something has changed, all at once: nobody waits for its end.
    pub fn change(&self, cell: Cell) {
        self.word(cell).add(CHANGE);
    }

    /// Marks cells that a write is about to change, until the marks are dropped.
    #[must_use]
    pub fn mark(self: &Arc<Self>, cells: impl IntoIterator<Item = Cell>) -> Marks<W> {
        let cells: SmallVec<[Cell; 6]> = cells.into_iter().collect();
        for cell in &cells {
            self.word(*cell).add(CHANGE + 1);
        }
        Marks {
            table: Arc::clone(self),
            cells,
            held: None,
        }
    }
}

/// What is kept as long as marks are: the same marks elsewhere.
pub trait Held: fmt::Debug + Send + Sync {
    /// Can they still be counted on?
    fn is_sure(&self) -> bool;
}

/// Cells that a write may change. Kept until it is known to be through; dropping releases them.
pub struct Marks<W: Word = AtomicU64> {
    table: Arc<Cells<W>>,
    cells: SmallVec<[Cell; 6]>,
    held: Option<Box<dyn Held>>,
}

impl<W: Word> fmt::Debug for Marks<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Marks").field(&self.cells).finish()
    }
}

impl<W: Word> Marks<W> {
    /// Keeps this as long as the marks.
    #[must_use]
    pub fn with(mut self, held: Option<Box<dyn Held>>) -> Self {
        self.held = held;
        self
    }

    /// Can what is kept with them be counted on?
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.is_sure())
    }

    /// Which.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }
}

impl<W: Word> Drop for Marks<W> {
    fn drop(&mut self) {
        // What is elsewhere first: whoever looks there has looked here before.
        self.held = None;
        for cell in &self.cells {
            // One change more, one mark less.
            self.table.word(*cell).add(CHANGE - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::TableName;

    fn family(name: &str) -> Family {
        Family::named(&TableName {
            schema: "public".to_owned(),
            name: name.to_owned(),
        })
    }

    fn seen(cells: &Cells, of: &[Cell]) -> Seen {
        cells.look(of.iter().copied()).expect("no write on its way")
    }

    #[test]
    fn a_write_makes_earlier_answers_void_and_lets_none_be_kept_meanwhile() {
        let cells = Arc::new(Cells::default());
        let cell = Cell::of_table(3, family("users"));
        let before = seen(&cells, &[cell]);
        assert!(cells.holds(&before));
        let marks = cells.mark([cell]);
        assert!(!cells.holds(&before));
        assert_eq!(cells.look([cell]), None);
        let second = cells.mark([cell]);
        drop(marks);
        assert_eq!(cells.look([cell]), None, "another write is on its way");
        drop(second);
        let after = seen(&cells, &[cell]);
        assert!(!cells.holds(&before));
        assert!(cells.holds(&after));
        cells.change(cell);
        assert!(!cells.holds(&after));
        assert!(cells.look([cell]).is_some());
    }

    #[test]
    fn what_is_different_has_cells_of_its_own() {
        let users = family("users");
        let mut all = vec![
            Cell::EVERYTHING,
            Cell::of_shard(0),
            Cell::of_shard(510),
            Cell::of_snapshot(0),
            Cell::of_snapshot(1),
            Cell::of_table(0, users),
            Cell::of_table(1, users),
            Cell::of_unpinned(0, users),
            Cell::of_key(users, 0),
            Cell::of_key(users, 1),
            Cell::of_table(0, family("orders")),
        ];
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|cell| cell.index() < CELLS));
    }
}
