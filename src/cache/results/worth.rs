//! Is an answer worth keeping? Most are kept at once. Of a kind of statement whose answers are hardly ever asked for again, only
//! those are that have been asked for twice: keeping costs more than asking whether it pays.
//!
//! A kind is a statement's shape. Kinds are counted by hash in a table of fixed size; two that share a place are one kind.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Kinds that are told apart.
const KINDS: usize = 1 << 12;

/// Questions that are remembered as asked once.
const ASKED: usize = 1 << 17;

/// Answers of a kind that are kept before it is judged.
const TRIALS: u32 = 256;

/// Answers kept for one given again: less is not worth it.
const KEPT_PER_HIT: u32 = 4;

/// Where counts are halved, so that the past counts less.
const COUNT_MAX: u32 = 1 << 16;

/// What has been seen of kinds and questions. Counts are close, not exact: threads that write at once may lose one.
#[derive(Debug)]
pub(super) struct Worth {
    /// Kept in the upper half, given again in the lower.
    kinds: Box<[AtomicU64]>,
    asked: Box<[AtomicU32]>,
}

impl Default for Worth {
    fn default() -> Self {
        Self {
            kinds: (0..KINDS).map(|_| AtomicU64::new(0)).collect(),
            asked: (0..ASKED).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

fn halves(count: u64) -> (u32, u32) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each half is taken by itself"
    )]
    let halves = ((count >> 32) as u32, count as u32);
    halves
}

/// A place in a table of this length.
fn place(hash: u64, length: usize) -> usize {
    usize::try_from(hash % length as u64).unwrap_or(0)
}

impl Worth {
    fn kind(&self, kind: u64) -> &AtomicU64 {
        &self.kinds[place(kind, KINDS)]
    }

    /// Is an answer of this kind to be kept, to a question of this hash?
    #[inline]
    pub(super) fn is_it(&self, kind: u64, hash: u64) -> bool {
        let (kept, hits) = halves(self.kind(kind).load(Ordering::Relaxed));
        kept < TRIALS || hits >= kept / KEPT_PER_HIT || self.was_asked(hash)
    }

    /// Has a question been asked before? From now on it has.
    fn was_asked(&self, hash: u64) -> bool {
        let place = &self.asked[place(hash, ASKED)];
        // The other bits than those of the place. None is 0, which is an empty place.
        let (high, _) = halves(hash);
        let mark = high | 1;
        place.swap(mark, Ordering::Relaxed) == mark
    }

    /// An answer was kept.
    pub(super) fn kept(&self, kind: u64) {
        self.count(kind, 1, 0);
    }

    /// An answer was given again.
    #[inline]
    pub(super) fn hit(&self, kind: u64) {
        self.count(kind, 0, 1);
    }

    fn count(&self, kind: u64, more_kept: u32, more_hits: u32) {
        let place = self.kind(kind);
        let (kept, hits) = halves(place.load(Ordering::Relaxed));
        let (mut kept, mut hits) = (kept + more_kept, hits + more_hits);
        if kept.max(hits) >= COUNT_MAX {
            (kept, hits) = (kept / 2, hits / 2);
        }
        place.store(u64::from(kept) << 32 | u64::from(hits), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_never_given_again_are_kept_when_asked_for_twice() {
        let worth = Worth::default();
        for hash in 0..u64::from(TRIALS) {
            assert!(worth.is_it(1, hash << 20));
            worth.kept(1);
        }
        let question = 77 << 40;
        assert!(!worth.is_it(1, question), "once");
        assert!(worth.is_it(1, question), "twice");
        assert!(worth.is_it(2, 78 << 40), "another kind has its trials");
        for _ in 0..TRIALS {
            worth.hit(1);
        }
        assert!(worth.is_it(1, 79 << 40), "it has become worth it");
    }

    #[test]
    fn the_past_counts_less() {
        let worth = Worth::default();
        for _ in 0..10 * COUNT_MAX {
            worth.kept(1);
            worth.hit(1);
        }
        assert!(worth.is_it(1, 1 << 40));
        for _ in 0..10 * COUNT_MAX {
            worth.kept(1);
        }
        assert!(!worth.is_it(1, 2 << 40));
    }
}
