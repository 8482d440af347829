//! What a write stores: the key columns it sets, and which of the target's columns hold just what they were given.

use crate::route::bind::Binder;
use crate::route::bind::bound::{NodeId, OutColumn, Output, RefId, Source};
use crate::route::bind::constants::{Operand, operand};
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::scope::Scope;
use crate::route::error::RouteError;
use crate::statement::tree::{Expr, Insert};
use crate::topology::{Placement, Table};
use smallvec::SmallVec;
use std::sync::Arc;

/// A key column that a statement sets.
#[derive(Debug)]
pub(crate) struct KeyWrite {
    /// The written table.
    pub(crate) target: RefId,
    /// The key column.
    pub(crate) column: String,
    /// Its new value.
    pub(crate) written: Written,
    /// ON CONFLICT DO UPDATE: routed by the row that was to be inserted.
    pub(crate) on_conflict: bool,
}

/// A key column's new value.
#[derive(Debug)]
pub(crate) enum Written {
    /// A column's.
    Node(NodeId),
    /// A constant.
    Constant(Operand),
    /// `EXCLUDED.key`.
    Excluded,
    /// Anything else.
    Other,
}

impl Binder<'_> {
    /// `SET column = value`: a parameter is typed by the column.
    pub(super) fn visit_assignment(
        &mut self,
        target: RefId,
        columns: &[String],
        value: &Expr,
        here: &Scope<'_>,
        on_conflict: bool,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        for column in columns {
            if self.is_key(target, column) {
                let written = if columns.len() == 1 {
                    self.written(column, value, here)
                } else {
                    Written::Other
                };
                self.key_writes.push(KeyWrite {
                    target,
                    column: column.clone(),
                    written,
                    on_conflict,
                });
            }
        }
        self.assigns(target, columns, value, here);
        if let [column] = columns {
            let node = self.refs[target]
                .columns
                .iter()
                .find(|c| c.name == *column)
                .and_then(|c| c.node);
            self.mark_param(value, node.and_then(|node| self.nodes[node].family));
        }
        self.visit(value, here, Place::Output, bag)
    }

    /// A MERGE's INSERT writes each key column, by default where it does not name it.
    pub(super) fn merge_insert(
        &mut self,
        target: RefId,
        columns: &[String],
        (values, overriding_user): (&[Expr], bool),
        here: &Scope<'_>,
    ) {
        let Source::Table { table, .. } = &self.refs[target].source else {
            return;
        };
        let table = Arc::clone(table);
        let Placement::Sharded { key } = &table.placement else {
            return;
        };
        for column in key
            .iter()
            .map(|column| column.name.clone())
            .collect::<Vec<_>>()
        {
            let position = if columns.is_empty() {
                self.refs[target]
                    .columns
                    .iter()
                    .position(|c| c.name == column)
                    .filter(|_| self.refs[target].complete)
            } else {
                columns.iter().position(|c| *c == column)
            };
            let written = match position.and_then(|at| values.get(at)) {
                Some(value) if !(overriding_user && is_overridden(&table, &column)) => {
                    self.written(&column, value, here)
                }
                _ => Written::Other,
            };
            let written = match written {
                Written::Node(node) if !self.is_stored_whole(&[node], &table, &column) => {
                    Written::Other
                }
                written => written,
            };
            self.key_writes.push(KeyWrite {
                target,
                column,
                written,
                on_conflict: false,
            });
        }
    }

    fn written(&self, column: &str, value: &Expr, here: &Scope<'_>) -> Written {
        if let Expr::Column { qualifier, name } = value
            && qualifier.as_slice() == ["excluded"]
        {
            return if name == column {
                Written::Excluded
            } else {
                Written::Other
            };
        }
        match (self.plain(value, here), operand(value)) {
            (Some(node), _) => Written::Node(node),
            (None, Some(operand)) => Written::Constant(operand),
            (None, None) => Written::Other,
        }
    }

    fn is_key(&self, target: RefId, column: &str) -> bool {
        match &self.refs[target].source {
            Source::Table { table, .. } => match &table.placement {
                Placement::Sharded { key } => key.iter().any(|k| k.name == column),
                Placement::Reference | Placement::Unsharded => false,
            },
            _ => false,
        }
    }

    /// The target's column that the index-th value goes to.
    pub(super) fn insert_column(
        &self,
        insert: &Insert,
        target: RefId,
        index: usize,
    ) -> Option<NodeId> {
        let reference = &self.refs[target];
        if insert.columns.is_empty() {
            return if reference.complete {
                reference.columns.get(index)?.node
            } else {
                None
            };
        }
        let name = insert.columns.get(index)?;
        reference
            .columns
            .iter()
            .find(|column| column.name == *name)?
            .node
    }

    /// The node of [`Binder::insert_column`], when it stores just what the query's column gives it.
    pub(super) fn stored_column(
        &self,
        insert: &Insert,
        target: RefId,
        (index, given): (usize, &OutColumn),
    ) -> Option<NodeId> {
        let node = self.insert_column(insert, target, index)?;
        let Source::Table { table, .. } = &self.refs[target].source else {
            return None;
        };
        let column = self.nodes[node].name.as_str();
        let overridden = insert.overriding_user && is_overridden(table, column);
        let sources: SmallVec<[NodeId; 1]> = given.sources.iter().map(|(node, _)| *node).collect();
        (!overridden && self.is_stored_whole(&sources, table, column)).then_some(node)
    }

    /// Are these columns' values stored in a column as they are? One with a length or precision cuts blanks and
    /// rounds, unless they had the same before. char(n) has no blanks at its end that count.
    fn is_stored_whole(&self, sources: &[NodeId], table: &Table, column: &str) -> bool {
        let find = |table: &Table, name: &str| {
            let column = table.columns.iter().find(|column| column.name == name)?;
            Some(column.stored_as.clone())
        };
        let Some(stored_as) = find(table, column) else {
            return true;
        };
        if length_of(&stored_as).is_none() || stored_as.starts_with("character(") {
            return true;
        }
        sources.iter().all(|source| {
            let node = &self.nodes[*source];
            match &self.refs[node.reference].source {
                Source::Table { table, .. } => {
                    find(table, &node.name).is_some_and(|own| own == stored_as)
                }
                _ => false,
            }
        })
    }

    /// RETURNING gives the row as written (by SET, a trigger, a generated column), and what is known of the target's
    /// columns is about the row as found. Only the key is the same: nothing that could change it is let through.
    pub(super) fn forget_written(&self, target: RefId, output: &mut Output) {
        let own = &self.refs[target].nodes;
        for column in &mut output.columns {
            let kept = |(node, _): &(NodeId, bool)| {
                !own.contains(node) || self.is_key(target, &self.nodes[*node].name)
            };
            if !column.sources.iter().all(kept) {
                column.sources.clear();
                column.outward = false;
            }
        }
    }
}

/// Does OVERRIDING USER VALUE make PostgreSQL compute this column, whatever is given for it? So of what is not known.
pub(crate) fn is_overridden(table: &Table, column: &str) -> bool {
    let known = table.columns.iter().find(|known| known.name == column);
    known.is_none_or(|known| matches!(known.generated, Some('a' | 'd')))
}

/// The length or precision in a type as `format_type` prints it.
pub(crate) fn length_of(type_name: &str) -> Option<&str> {
    let (_, rest) = type_name.split_once('(')?;
    rest.split_once(')').map(|(length, _)| length)
}
