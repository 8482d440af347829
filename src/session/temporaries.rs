//! The temporary tables that a session has made: whether it may have any, and those that writing to is sure to change nothing else.
//!
//! A name may outlive its table (ROLLBACK, ON COMMIT DROP). It says nothing then, unless somebody has made a table of that name
//! behind Keyway's back and within the time in which Keyway sees such changes.

use crate::route::plan::Pin;
use crate::route::recipe::Recipe;
use std::sync::Arc;

/// Names that are remembered; of more the oldest are forgotten, and what is done to their tables may be anything.
const TEMPORARIES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Temporaries {
    /// Tables that writing to changes nothing else.
    names: Vec<Arc<str>>,
    /// There may be tables or views that hide what others see.
    may_hide: bool,
}

impl Temporaries {
    /// Names of tables that writing to changes nothing else.
    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// May a name of a table mean another to this session than to others?
    #[inline]
    pub(super) fn may_hide(&self) -> bool {
        self.may_hide
    }

    /// Something is about to run that may do so.
    pub(super) fn may_come(&mut self) {
        self.may_hide = true;
    }

    /// A statement of this recipe is about to run. One that may do anything may also put triggers on temporary tables.
    pub(super) fn note(&mut self, recipe: &Recipe) {
        self.may_hide |= recipe.pin == Some(Pin::TemporaryTable);
        if let Some(name) = &recipe.makes_temporary {
            if self.names.contains(name) {
                return;
            }
            if self.names.len() == TEMPORARIES_MAX {
                self.names.remove(0);
            }
            self.names.push(Arc::clone(name));
        } else if !self.names.is_empty() && recipe.changes.are_unknown(&self.names) {
            self.names.clear();
        }
    }
}
