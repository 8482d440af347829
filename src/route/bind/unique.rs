//! Constraints that no shard can check alone: a write may leave their columns to defaults that are unique over all
//! shards, and to what they are; any other value could be a row's of another shard already.

use crate::route::bind::Binder;
use crate::route::bind::bound::{RefId, Source};
use crate::route::bind::scope::Scope;
use crate::route::bind::stored::is_overridden;
use crate::route::error::RouteError;
use crate::statement::tree::{Expr, Insert};
use crate::topology::{SharedConstraint, Table};
use std::sync::Arc;

/// What an INSERT gives.
pub(super) enum Given<'a> {
    /// Rows; none for DEFAULT VALUES.
    Rows(&'a [Vec<Expr>]),
    /// A query's rows, of so many columns if that is known.
    Query { width: Option<usize> },
}

impl Binder<'_> {
    /// INSERT.
    pub(super) fn inserts(&mut self, target: RefId, insert: &Insert, given: &Given<'_>) {
        let Some(table) = self.shared_by_shards(target) else {
            return;
        };
        for constraint in &table.shared {
            let by_default = constraint.generated.as_ref().is_some_and(|column| {
                let at = match position(&table, &insert.columns, column) {
                    Some(at) if !(insert.overriding_user && is_overridden(&table, column)) => at,
                    _ => return true,
                };
                match given {
                    Given::Rows(rows) => rows.iter().all(|row| {
                        row.get(at)
                            .is_none_or(|value| self.is_generated(&table, column, value))
                    }),
                    Given::Query { width } => {
                        insert.columns.is_empty() && width.is_some_and(|width| width <= at)
                    }
                }
            });
            if !by_default {
                self.note_unchecked(&table, constraint);
            }
        }
    }

    /// A MERGE's INSERT; no values are DEFAULT VALUES.
    pub(super) fn merge_inserts(
        &mut self,
        target: RefId,
        columns: &[String],
        (values, overriding_user): (&[Expr], bool),
    ) {
        let Some(table) = self.shared_by_shards(target) else {
            return;
        };
        for constraint in &table.shared {
            let by_default = constraint.generated.as_ref().is_some_and(|column| {
                (overriding_user && is_overridden(&table, column))
                    || position(&table, columns, column)
                        .and_then(|at| values.get(at))
                        .is_none_or(|value| self.is_generated(&table, column, value))
            });
            if !by_default {
                self.note_unchecked(&table, constraint);
            }
        }
    }

    /// `SET columns = value`.
    pub(super) fn assigns(
        &mut self,
        target: RefId,
        columns: &[String],
        value: &Expr,
        here: &Scope<'_>,
    ) {
        let Some(table) = self.shared_by_shards(target) else {
            return;
        };
        for (index, column) in columns.iter().enumerate() {
            let value = match (value, columns.len()) {
                (Expr::Row(parts), _) => parts.get(index),
                (value, 1) => Some(value),
                _ => None,
            };
            for constraint in &table.shared {
                let concerned = match &constraint.generated {
                    Some(generated) => generated == column,
                    None => constraint.expressions || constraint.columns.contains(column),
                };
                let generates = constraint.generated.is_some();
                let kept = || {
                    value.is_some_and(|value| {
                        self.is_itself(target, column, value, here)
                            || (generates
                                && (self.is_generated(&table, column, value)
                                    || is_excluded(column, value)))
                    })
                };
                if concerned && !kept() {
                    self.note_unchecked(&table, constraint);
                }
            }
        }
    }

    /// The written table, when it has such constraints and more than one shard has its rows.
    fn shared_by_shards(&self, target: RefId) -> Option<Arc<Table>> {
        let Source::Table { table, .. } = &self.refs[target].source else {
            return None;
        };
        let shared =
            !table.shared.is_empty() && self.context.holders(table.keyspace).only().is_none();
        shared.then(|| Arc::clone(table))
    }

    /// DEFAULT, or what a uuid's default does: a call of PostgreSQL's own generator.
    fn is_generated(&self, table: &Table, column: &str, value: &Expr) -> bool {
        let call = match value {
            Expr::Default => return true,
            Expr::Function(call) => call,
            _ => return false,
        };
        let is_uuid = table
            .columns
            .iter()
            .any(|known| known.name == column && known.base_oid == UUID_OID);
        let is_own = match call.name.schema.as_deref() {
            Some(schema) => schema == "pg_catalog",
            // A user's function of the name may come first in the search_path.
            None => {
                let mut names = self.context.database.functions.keys();
                !names.any(|known| known.name == call.name.name)
            }
        };
        is_uuid && is_own && call.name.name == "gen_random_uuid" && call.args.is_empty()
    }

    /// `SET id = id`.
    fn is_itself(&self, target: RefId, column: &str, value: &Expr, here: &Scope<'_>) -> bool {
        self.plain(value, here).is_some_and(|node| {
            let node = &self.nodes[node];
            node.reference == target && node.name == column
        })
    }

    fn note_unchecked(&mut self, table: &Table, constraint: &SharedConstraint) {
        self.unchecked.get_or_insert_with(|| RouteError::Unchecked {
            table: table.name.to_string(),
            name: constraint.name.clone(),
            constraint: constraint.shown.clone(),
            generated: constraint.generated.clone(),
        });
    }
}

/// PostgreSQL's uuid.
const UUID_OID: u32 = 2950;

/// Where a column's value stands in a row that is given; `None` when it takes its default.
fn position(table: &Table, columns: &[String], column: &str) -> Option<usize> {
    if columns.is_empty() {
        table.columns.iter().position(|known| known.name == column)
    } else {
        columns.iter().position(|given| given == column)
    }
}

/// `EXCLUDED.id`: the default that the row was to have.
fn is_excluded(column: &str, value: &Expr) -> bool {
    matches!(value, Expr::Column { qualifier, name } if qualifier.as_slice() == ["excluded"] && name == column)
}
