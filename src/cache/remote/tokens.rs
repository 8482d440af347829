//! Versions of cells as Redis has them.

use crate::cache::results::cells::{Cell, FIXED};
use smallvec::SmallVec;
use std::sync::Arc;

/// Cells of a deployment. Fewer than a process has, so that their tokens take some 10 MiB of Redis at most; those that
/// share one spoil each other's answers.
pub(super) const FOLDED: u32 = 1 << 17;

/// The place that stands for everything.
pub(super) const EVERYTHING: u32 = 0;

/// Cells that one question or write may name. Beyond it a write is one to everything, and an answer is not kept.
pub(super) const CELLS_MAX: usize = 1_000;

/// Places of cells.
pub(super) type Folded = SmallVec<[u32; 8]>;

/// Where a cell of the process's table is in the deployment's.
pub(super) fn fold(cell: Cell) -> u32 {
    match cell.index().checked_sub(FIXED) {
        None => cell.index(),
        Some(hashed) => FIXED + hashed % (FOLDED - FIXED),
    }
}

/// The places of these, each once, in order.
pub(super) fn folded(cells: impl IntoIterator<Item = Cell>) -> Folded {
    let mut places: Folded = cells.into_iter().map(fold).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// A random token for each cell that an answer depends on, with the state of Redis they are of. The answer holds while
/// the tokens are the same, all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Which process of Redis, and since when.
    life: Arc<str>,
    /// By which topology the cells have their names.
    digest: u128,
    /// Place and token, by place.
    cells: SmallVec<[(u32, u64); 6]>,
}

impl Tokens {
    pub(super) fn of(life: &str, digest: u128, cells: impl Iterator<Item = (u32, u64)>) -> Self {
        Self {
            life: life.into(),
            digest,
            cells: cells.collect(),
        }
    }

    /// By which topology.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) fn life(&self) -> &str {
        &self.life
    }

    pub(super) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.cells.iter().map(|(place, _)| *place)
    }

    /// How many bytes they take beside themselves.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let cells = if self.cells.spilled() {
            self.cells.capacity() * size_of::<(u32, u64)>()
        } else {
            0
        };
        cells + self.life.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_part(out, self.life.as_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
        let count = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for (place, token) in &self.cells {
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(&token.to_le_bytes());
        }
    }

    pub(super) fn read(from: &mut &[u8]) -> Option<Self> {
        let life = std::str::from_utf8(cut_part(from)?).ok()?.into();
        let digest = u128::from_le_bytes(cut(from)?);
        let count = u32::from_le_bytes(cut(from)?);
        // Not reserved by a number that nobody has checked.
        let mut cells = SmallVec::new();
        for _ in 0..count {
            cells.push((
                u32::from_le_bytes(cut(from)?),
                u64::from_le_bytes(cut(from)?),
            ));
        }
        Some(Self {
            life,
            digest,
            cells,
        })
    }
}

/// A token as Redis has it. What is none, a mark above all, is `None`.
pub(super) fn token(value: &str) -> Option<u64> {
    let hex = value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(value, 16).ok()).flatten()
}

/// Appends a part of any length.
pub(super) fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&(part.len() as u64).to_le_bytes());
    out.extend_from_slice(part);
}

/// Takes the next bytes.
pub(super) fn cut<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = from.split_first_chunk::<N>()?;
    *from = rest;
    Some(*bytes)
}

/// Takes a part.
pub(super) fn cut_part<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u64::from_le_bytes(cut(from)?)).ok()?;
    let (part, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::results::cells::CELLS;

    #[test]
    fn cells_that_stand_for_themselves_do_so_in_redis() {
        let at = |index| Cell::at(index).expect("in the table");
        for index in [0, 1, 511, 512, FIXED - 1, FIXED] {
            assert_eq!(fold(at(index)), index);
        }
        assert_eq!(fold(at(FOLDED)), FIXED);
        assert!(
            (0..CELLS)
                .step_by(977)
                .all(|index| fold(at(index)) < FOLDED)
        );
        assert_eq!(Cell::at(CELLS), None);
        let places = folded([at(FOLDED), at(3), at(FIXED), at(3)]);
        assert_eq!(places.as_slice(), [3, FIXED]);
    }

    #[test]
    fn a_token_is_sixteen_digits() {
        assert_eq!(token("00000000000000ff"), Some(255));
        assert_eq!(token("+0000000000000ff"), None);
        assert_eq!(token("!a.1=17000000000"), None);
        assert_eq!(token("ff"), None);
    }
}
