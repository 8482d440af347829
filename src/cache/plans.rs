//! Recipes by shape: the plan cache of one worker. Bounded by two generations: what was not asked for while the young
//! one filled up is forgotten with the old one.

use hashbrown::HashMap;
use std::rc::Rc;

/// What a recipe is cached under. The epoch is not part of it: a new epoch empties the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanKey {
    /// The shape's fingerprint.
    pub fingerprint: u128,
    /// The database and the settings that change how names and literals are read, as one number each.
    pub database: u64,
    /// See `database`.
    pub settings: u64,
}

/// Values by [`PlanKey`].
#[derive(Debug)]
pub struct PlanCache<T> {
    epoch: u64,
    young: HashMap<PlanKey, Rc<T>>,
    old: HashMap<PlanKey, Rc<T>>,
    generation_max: usize,
}

impl<T> PlanCache<T> {
    /// Holds at most `entries_max`.
    #[must_use]
    pub fn new(entries_max: usize) -> Self {
        Self {
            epoch: 0,
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (entries_max / 2).max(1),
        }
    }

    /// The value made for this key in this epoch.
    #[inline]
    pub fn get(&mut self, epoch: u64, key: &PlanKey) -> Option<Rc<T>> {
        if epoch != self.epoch {
            self.young.clear();
            self.old.clear();
            self.epoch = epoch;
            return None;
        }
        if let Some(value) = self.young.get(key) {
            return Some(Rc::clone(value));
        }
        let value = self.old.remove(key)?;
        self.insert(epoch, *key, Rc::clone(&value));
        Some(value)
    }

    /// Remembers a value. One made in another epoch than the cache's is not kept.
    pub fn insert(&mut self, epoch: u64, key: PlanKey, value: Rc<T>) {
        if epoch != self.epoch {
            return;
        }
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// None held?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> PlanKey {
        PlanKey {
            fingerprint: u128::from(n),
            database: 0,
            settings: 0,
        }
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = PlanCache::new(100);
        assert!(cache.get(1, &key(0)).is_none());
        for n in 0..10_000 {
            cache.insert(1, key(n), Rc::new(n));
            assert!(cache.len() <= 101);
            assert_eq!(cache.get(1, &key(0)).as_deref(), Some(&0));
        }
    }

    #[test]
    fn a_new_epoch_forgets_everything() {
        let mut cache = PlanCache::new(10);
        cache.get(1, &key(1));
        cache.insert(1, key(1), Rc::new(1));
        assert!(cache.get(2, &key(1)).is_none());
        cache.insert(1, key(1), Rc::new(1));
        assert!(cache.is_empty());
    }
}
