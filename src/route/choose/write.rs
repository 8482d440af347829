//! INSERT, UPDATE, DELETE and MERGE: the target's rows stay on their shard.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Bound, BoundQuery, Source};
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::bind::stored::Written;
use crate::route::bind::tables::{Found, find_table};
use crate::route::builtin::{Effect, OF_EACH_ROW};
use crate::route::choose::calls::{Home, traits_of};
use crate::route::choose::context::Context;
use crate::route::choose::made::{made_keys, recipe_of_made};
use crate::route::choose::meet::{ManyShards, meet};
use crate::route::choose::names::key_names;
use crate::route::choose::rows::{insert_rows, query_keys, refuse_foreign_conflict, stored_part};
use crate::route::error::RouteError;
use crate::route::keep::{self, NotKept};
use crate::route::pins::{self, Analysis, Placed, key_of};
use crate::route::plan::Access;
use crate::route::recipe::{KeyGuard, Recipe, Route};
use crate::statement::tree::{InsertSource, Statement};
use crate::topology::{Placement, TableName};

pub(super) fn write(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    let mut binder = Binder::new(context);
    let bound = binder.modifying(tree)?;
    let mut traits = traits_of(&mut binder, context);
    traits.refuse()?;
    if let Some(refused) = binder.unchecked.take() {
        return Err(refused);
    }
    let mut analysis = pins::place(&binder, &bound);
    let target = match tree {
        Statement::Insert(insert) => &insert.table,
        Statement::Update(update) => &update.table,
        Statement::Delete(delete) => &delete.table,
        Statement::Merge(merge) => &merge.table,
        _ => return Err(RouteError::NoShard),
    };
    let table = match find_table(context, target)? {
        Found::Table(table) => table,
        Found::View(table, _) => {
            return Err(RouteError::View {
                view: table.name.to_string(),
                reason: "Writing through a view of a sharded keyspace is not supported".to_owned(),
            });
        }
        Found::Catalog => {
            return Err(RouteError::OneShardOnly {
                what: "a write to a system catalog".to_owned(),
                reason: format!("Catalog {}", target.name),
            });
        }
    };
    let guards = guards(&binder, &analysis)?;
    let mut rows = Vec::new();
    if let Statement::Insert(insert) = tree
        && matches!(table.placement, Placement::Sharded { .. })
    {
        refuse_foreign_conflict(insert, &table)?;
        rows = if matches!(insert.source, InsertSource::Query(_)) {
            query_keys(insert, &table, context, true)
                .into_iter()
                .collect()
        } else {
            match (
                insert_rows(insert, &table),
                made_keys(insert, &table, context),
            ) {
                (Ok(rows), _) => rows,
                // The rest of the statement is looked at when its rows have their keys.
                (Err(RouteError::KeyMissing { .. }), Some(made)) => {
                    return Ok(recipe_of_made(made, &table.name));
                }
                (Err(error), _) => return Err(error),
            }
        };
        if !rows.is_empty()
            && let Some(at) = analysis
                .sharded
                .iter()
                .position(|placed| is_target(&binder, placed, &bound))
        {
            analysis.sharded.remove(at);
        }
    }
    let inserted = !rows.is_empty();
    // The row's shard computes its values.
    if inserted && binder.calls.iter().all(is_of_each_row) {
        traits.home = Home::Anywhere;
    }
    let mut recipe = meet(
        &binder,
        &analysis,
        &traits,
        ManyShards::Write(table.name.to_string()),
        context,
    )?;
    recipe.access = Access::Write;
    recipe.keeps = Err(NotKept::Writes);
    recipe.changes = keep::changes(Some(tree), &binder, Some(&analysis), &traits, context);
    if let Route::Keyed(keyed) = &mut recipe.route {
        keyed.guards = guards;
        if inserted {
            let holders = context.holders(table.keyspace);
            keyed.allowed = if analysis.sharded.is_empty() && analysis.others.is_empty() {
                holders
            } else {
                keyed.allowed.intersection(&holders)
            };
            keyed.rows = rows;
            keyed.insert = Some((table.name.to_string(), key_names(key_of(&table))));
            "by the key of the row".clone_into(&mut recipe.reason);
        }
    }
    let mut tables: Vec<TableName> = recipe.tables.to_vec();
    if !tables.contains(&table.name) {
        tables.push(table.name.clone());
        recipe.tables = tables.into();
    }
    Ok(recipe)
}

/// A call that gives each row a value of its own on one PostgreSQL too, or the same everywhere.
fn is_of_each_row(call: &Call) -> bool {
    match call.effect {
        CallEffect::BuiltIn(Effect::Pure | Effect::Stable | Effect::Now) => true,
        CallEffect::BuiltIn(Effect::Volatile) => OF_EACH_ROW.contains(&call.name.as_str()),
        _ => false,
    }
}

/// The written reference of a statement is the first leaf of its block.
fn is_target(binder: &Binder<'_>, placed: &Placed, bound: &BoundQuery) -> bool {
    let Bound::Block(block) = &bound.body else {
        return false;
    };
    let mut leaves = Vec::new();
    block.tree.leaves(&mut leaves);
    leaves.contains(&placed.reference)
        && matches!(
            binder.refs[placed.reference].source,
            Source::Table { write: true, .. }
        )
}

/// Key columns may only be set to what they are.
pub(super) fn guards(
    binder: &Binder<'_>,
    analysis: &Analysis,
) -> Result<Vec<KeyGuard>, RouteError> {
    let mut guards = Vec::new();
    for write in &binder.key_writes {
        let Source::Table { table, .. } = &binder.refs[write.target].source else {
            continue;
        };
        let refused = || RouteError::KeyUpdate {
            table: table.name.to_string(),
            column: write.column.clone(),
        };
        let Some(placed) = analysis
            .sharded
            .iter()
            .find(|placed| placed.reference == write.target)
        else {
            return Err(refused());
        };
        match &write.written {
            // The row that could not be inserted has routed the statement by this very value; of a key of several
            // columns all must come from it.
            Written::Excluded if write.on_conflict => {
                let all = key_of(table).iter().all(|column| {
                    binder.key_writes.iter().any(|other| {
                        other.target == write.target
                            && other.column == column.name
                            && matches!(other.written, Written::Excluded)
                    })
                });
                if !all {
                    return Err(refused());
                }
            }
            Written::Node(node) if analysis.is_key(binder, placed, &write.column, *node) => {}
            Written::Constant(set) if !write.on_conflict => {
                let pinned = analysis.constants(binder, placed, &write.column);
                let Some(column) = key_of(table)
                    .iter()
                    .find(|column| column.name == write.column)
                else {
                    continue;
                };
                if pinned.is_empty() {
                    return Err(refused());
                }
                let part = stored_part(table, column, Vec::new());
                guards.push(KeyGuard {
                    table: table.name.to_string(),
                    column: write.column.clone(),
                    part,
                    set: set.clone(),
                    pinned,
                });
            }
            Written::Excluded | Written::Node(_) | Written::Constant(_) | Written::Other => {
                return Err(refused());
            }
        }
    }
    Ok(guards)
}
