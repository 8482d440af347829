//! The temporary tables that a session has made: which names mean them, and whether writing to them is sure to change nothing
//! else.
//!
//! A name may outlive its table (ROLLBACK, ON COMMIT DROP). It says nothing then, unless somebody has made a table of that name
//! behind Keyway's back and within the time in which Keyway sees such changes.

use crate::route::keep::Reads;
use crate::route::plan::Pin;
use crate::route::recipe::Recipe;
use crate::topology::Database;
use std::sync::Arc;

/// Names that are remembered. With more, the session's tables may be any.
const TEMPORARIES_MAX: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Temporaries {
    /// Tables that nobody else has seen one of the name of.
    names: Vec<Arc<str>>,
    /// Something has run that could put triggers on them.
    are_plain: Plainness,
    /// There may be temporary tables, or views, under other names too.
    more: bool,
}

/// Is writing to the tables sure to change nothing else?
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Plainness {
    #[default]
    Plain,
    Doubtful,
}

impl Temporaries {
    /// Names of tables that writing to changes nothing else.
    pub(super) fn names(&self) -> &[Arc<str>] {
        match self.are_plain {
            Plainness::Plain => &self.names,
            Plainness::Doubtful => &[],
        }
    }

    /// May a temporary table be meant where one of these is read, of which others have seen?
    #[inline]
    pub(super) fn may_hide(&self, reads: &Reads) -> bool {
        self.more || !self.names.is_empty() && self.are_among(reads)
    }

    #[cold]
    fn are_among(&self, reads: &Reads) -> bool {
        let mut tables = reads.tables.iter();
        tables.any(|table| self.names.iter().any(|name| **name == *table.name))
    }

    /// Something has run that may have made any.
    pub(super) fn may_be_more(&mut self) {
        self.more = true;
    }

    /// A statement of this recipe is about to run, in a database as it is now.
    pub(super) fn note(&mut self, recipe: &Recipe, database: &Database) {
        match &recipe.makes_temporary {
            Some(name) if self.names.contains(name) => {}
            Some(name) if self.names.len() < TEMPORARIES_MAX && !is_taken(name, database) => {
                self.names.push(Arc::clone(name));
            }
            None if recipe.pin != Some(Pin::TemporaryTable) => {
                // Triggers may be put on temporary tables, and they may get other names.
                if !self.names.is_empty() && recipe.changes.are_unknown(self.names()) {
                    (self.are_plain, self.more) = (Plainness::Doubtful, true);
                }
            }
            Some(_) | None => self.more = true,
        }
    }
}

/// Do others see a table of this name, in whichever schema?
fn is_taken(name: &str, database: &Database) -> bool {
    database.tables.keys().any(|table| table.name == name)
}
