//! The names in sight: of each FROM around an expression, and of the WITH entries.

use crate::route::bind::bound::{CondId, NodeId, Output, RefId};
use crate::statement::tree::{Cte, Query};
use std::cell::Cell;

/// Names in scope, innermost first.
pub(super) struct Scope<'s> {
    pub(super) parent: Option<&'s Scope<'s>>,
    pub(super) level: Option<&'s Level>,
    pub(super) with: &'s [WithEntry<'s>],
}

impl<'s> Scope<'s> {
    pub(super) fn root() -> Self {
        Self {
            parent: None,
            level: None,
            with: &[],
        }
    }

    /// The names of the FROM around.
    pub(super) fn innermost(&self) -> Option<&Level> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if here.level.is_some() {
                return here.level;
            }
            scope = here.parent;
        }
        None
    }

    /// The WITH entry of that name, its siblings, and the scope around them.
    pub(super) fn with_entry(
        &self,
        name: &str,
    ) -> Option<(&WithEntry<'s>, &'s [WithEntry<'s>], Option<&Scope<'s>>)> {
        let mut scope = self;
        loop {
            if let Some(entry) = scope.with.iter().rev().find(|entry| entry.name == name) {
                return Some((entry, scope.with, scope.parent));
            }
            scope = scope.parent?;
        }
    }
}

/// The names of one FROM.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    pub(super) leaves: Vec<RefId>,
    /// Columns merged by USING, with the node the name means.
    pub(super) merged: Vec<(String, Option<NodeId>)>,
    /// A NATURAL join over unknown columns: unqualified names cannot be resolved.
    pub(super) opaque: bool,
}

/// A WITH entry.
pub(super) struct WithEntry<'s> {
    pub(super) name: &'s str,
    pub(super) columns: &'s [String],
    pub(super) kind: WithKind<'s>,
    pub(super) used: Cell<bool>,
}

impl<'s> WithEntry<'s> {
    pub(super) fn new(cte: &'s Cte, kind: WithKind<'s>) -> Self {
        Self {
            name: &cte.name,
            columns: &cte.columns,
            kind,
            used: Cell::new(false),
        }
    }
}

/// How a WITH entry is referred to.
pub(super) enum WithKind<'s> {
    /// A query, bound afresh at each reference in the scope that defines it: with the entries before it.
    Query { query: &'s Query, before: usize },
    /// A recursive query: placed once, on its own.
    Recursive,
    /// A data-modifying statement, placed once.
    Modifying { output: Output, facts: Vec<CondId> },
}
