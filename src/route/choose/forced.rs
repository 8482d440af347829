//! A statement whose shard is settled: only what the session must know of it is worked out.

use crate::route::bind::Binder;
use crate::route::bind::tables::{Found, find_table, is_ambiguous};
use crate::route::choose::calls::{access_of, traits_of};
use crate::route::choose::context::Context;
use crate::route::choose::names::{listed, table_names};
use crate::route::keep::{self, Changes, NotKept, copied};
use crate::route::pins;
use crate::route::plan::{Access, Pin, PlanKind, ShardSet};
use crate::route::recipe::{Recipe, Route};
use crate::route::schema;
use crate::route::temporary::{is_temporary, of_tables};
use crate::statement::scan::Verb;
use crate::statement::tree::{Body, CopyDirection, CopySubject, Ddl, Query, Statement};
use crate::topology::ShardId;
use smallvec::SmallVec;
use std::sync::Arc;

/// Everything goes to one shard; only what the session must know is worked out.
pub(super) fn forced(
    tree: Option<&Statement>,
    context: &Context<'_>,
    shard: ShardId,
    reason: &str,
) -> Recipe {
    let mut recipe = Recipe {
        route: Route::Fixed {
            kind: PlanKind::Single,
            shards: ShardSet::from_iter([shard]),
            after: Vec::new(),
        },
        access: match context.verb {
            Verb::Ddl => Access::Schema,
            Verb::Lock => Access::Lock,
            Verb::Select | Verb::Explain | Verb::Declare if tree.is_some() => Access::Read,
            _ => Access::Write,
        },
        tables: Arc::from([]),
        pin: match context.verb {
            Verb::Call | Verb::Do => Some(Pin::Opaque),
            _ => None,
        },
        set_config: false,
        outside_transaction: false,
        reason: reason.to_owned(),
        makes: None,
        makes_temporary: None,
        keeps: Err(NotKept::Hinted),
        changes: Changes::Everything,
        untyped: SmallVec::new(),
    };
    let Some(tree) = tree else {
        // Nothing is known of it, so it may do anything to the session.
        recipe.pin =
            (!context.shape.trim().eq_ignore_ascii_case("checkpoint")).then_some(Pin::Opaque);
        return recipe;
    };
    let mut binder = Binder::new(context);
    let bound = match tree {
        Statement::Query(query) => binder.query(query),
        Statement::Declare { query, hold, .. } => {
            recipe.pin = hold.then_some(Pin::HoldCursor);
            binder.query(query)
        }
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => binder.modifying(tree),
        Statement::Explain { statement, analyze } => {
            let inner = forced(Some(statement), context, shard, reason);
            let (access, changes) = if *analyze {
                (inner.access, inner.changes)
            } else {
                (Access::Read, Changes::Nothing)
            };
            return Recipe {
                access,
                changes,
                pin: inner.pin.filter(|_| *analyze),
                ..inner
            };
        }
        Statement::Prepare { statement, .. } => {
            return forced(Some(statement), context, shard, reason);
        }
        Statement::Copy(copy) => {
            recipe.access = match copy.direction {
                CopyDirection::From => Access::Write,
                CopyDirection::To => Access::Read,
            };
            if let CopySubject::Statement(statement) = &copy.subject {
                let inner = forced(Some(statement), context, shard, reason);
                return Recipe {
                    access: inner.access,
                    ..inner
                };
            }
            if let CopySubject::Table { name, .. } = &copy.subject {
                recipe.tables = listed(context, std::slice::from_ref(name));
                if let Ok(Found::Table(table)) = find_table(context, name)
                    && !is_ambiguous(context, name)
                {
                    recipe.changes = copied(name, &table, context);
                }
            }
            if copy.direction == CopyDirection::To {
                recipe.changes = Changes::Nothing;
            }
            return recipe;
        }
        Statement::Ddl(ddl) => {
            recipe.access = Access::Schema;
            schema::forced(ddl, context, &mut recipe);
            recipe.pin = recipe.pin.or_else(|| pin_of_definition(tree, context));
            return recipe;
        }
        Statement::Truncate { tables, .. } => {
            recipe.access = Access::Write;
            recipe.tables = listed(context, tables);
            recipe.changes = of_tables(tables, context);
            return recipe;
        }
        Statement::Lock { tables } => {
            recipe.access = Access::Lock;
            recipe.changes = Changes::Nothing;
            recipe.tables = listed(context, tables);
            return recipe;
        }
        Statement::Maintenance {
            tables,
            outside_transaction,
            rebuilds,
        } => {
            schema::upkeep(&mut recipe, *rebuilds);
            recipe.tables = listed(context, tables);
            recipe.outside_transaction = *outside_transaction;
            return recipe;
        }
        Statement::Call { .. } => return recipe,
    };
    let traits = traits_of(&mut binder, context);
    recipe.access = access_of(&binder, &traits);
    recipe.pin = traits.pin.or(recipe.pin);
    recipe.set_config = traits.set_config;
    if matches!(tree, Statement::Query(query) if selects_into(query)) && is_temporary(context) {
        recipe.pin = Some(Pin::TemporaryTable);
    }
    if traits.leaves || traits.unknown || writes_catalog(tree, context) {
        recipe.pin = recipe.pin.or(Some(Pin::Opaque));
    }
    if let Ok(bound) = bound {
        let analysis = pins::place(&binder, &bound);
        recipe.tables = table_names(&analysis);
        if !writes_catalog(tree, context) {
            recipe.changes = keep::changes(Some(tree), &binder, None, &traits, context);
        }
    }
    recipe
}

/// Why the session keeps its server behind DO and queries that create tables, whose calls run now.
pub(super) fn pin_of_definition(tree: &Statement, context: &Context<'_>) -> Option<Pin> {
    match tree {
        Statement::Ddl(_) if context.verb == Verb::Do => Some(Pin::Opaque),
        // A view's query never runs on its own.
        Statement::Ddl(Ddl::CreateAs { kind, query, .. }) if kind != "view" => {
            pin_of_query(query, context)
        }
        Statement::Query(query) if selects_into(query) => pin_of_query(query, context),
        Statement::Explain {
            analyze: true,
            statement,
        } => pin_of_definition(statement, context),
        _ => None,
    }
}

/// Why the session keeps its server behind a query that runs on one.
fn pin_of_query(query: &Query, context: &Context<'_>) -> Option<Pin> {
    let mut binder = Binder::new(context);
    // What cannot be bound is not known.
    let unknown = binder.query(query).is_err();
    let traits = traits_of(&mut binder, context);
    let opaque = unknown || traits.undeclared.is_some() || traits.unknown || traits.set_config;
    traits.pin.or(opaque.then_some(Pin::Opaque))
}

/// SELECT … INTO: it creates a table.
fn selects_into(query: &Query) -> bool {
    matches!(&query.body, Body::Select(select) if select.into.is_some())
}

/// Does it write to a system catalog? UPDATE pg_settings is a SET.
fn writes_catalog(tree: &Statement, context: &Context<'_>) -> bool {
    let target = match tree {
        Statement::Insert(insert) => &insert.table,
        Statement::Update(update) => &update.table,
        Statement::Delete(delete) => &delete.table,
        Statement::Merge(merge) => &merge.table,
        _ => return false,
    };
    matches!(find_table(context, target), Ok(Found::Catalog))
}
