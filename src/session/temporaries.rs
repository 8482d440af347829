//! The temporary tables that a session has made, as far as writing to them is sure to change nothing else: names that
//! nobody else has seen mean those.
//!
//! A name may outlive its table (ROLLBACK, ON COMMIT DROP). It says nothing then, unless somebody has made a table of that name
//! behind Keyway's back and within the time in which Keyway sees such changes.

use crate::route::recipe::Recipe;
use std::sync::Arc;

/// Names that are remembered; of more the oldest are forgotten, and what is done to their tables may be anything.
const TEMPORARIES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Temporaries(Vec<Arc<str>>);

impl Temporaries {
    /// Their names.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.0
    }

    /// A statement of this recipe is about to run. One that may do anything may also put triggers on temporary tables.
    pub(super) fn note(&mut self, recipe: &Recipe) {
        if let Some(name) = &recipe.makes_temporary {
            if self.0.contains(name) {
                return;
            }
            if self.0.len() == TEMPORARIES_MAX {
                self.0.remove(0);
            }
            self.0.push(Arc::clone(name));
        } else if !self.0.is_empty() && recipe.changes.are_unknown(&self.0) {
            self.0.clear();
        }
    }
}
