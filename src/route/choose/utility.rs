//! What PostgreSQL calls utility statements, where rows are touched: EXPLAIN, DECLARE, COPY, TRUNCATE, LOCK, CALL.

use crate::route::bind::Binder;
use crate::route::bind::calls::CallEffect;
use crate::route::bind::tables::{Found, find_table, is_ambiguous};
use crate::route::builtin::Effect;
use crate::route::choose::calls::traits_of;
use crate::route::choose::choose;
use crate::route::choose::context::Context;
use crate::route::choose::meet::touch;
use crate::route::choose::names::{listed, names_of};
use crate::route::choose::read::read;
use crate::route::error::RouteError;
use crate::route::keep::{Changes, NotKept, copied};
use crate::route::plan::{Access, Pin, PlanKind, ShardSet};
use crate::route::recipe::{Recipe, Route, Several};
use crate::route::schema;
use crate::route::temporary::of_tables;
use crate::statement::parse::parse;
use crate::statement::scan::Verb;
use crate::statement::tree::{Copy, CopyDirection, CopySubject, Expr, Name, Query, Statement};
use crate::topology::{FunctionDeclaration, Placement, Table, TableName};
use std::sync::Arc;

pub(super) fn explain(
    analyze: bool,
    statement: &Statement,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let mut recipe = choose(statement, context)?;
    if let Route::Keyed(keyed) = &mut recipe.route
        && matches!(keyed.several, Several::Scatter { .. })
    {
        keyed.several = Several::Refuse(RouteError::OneShardOnly {
            what: "EXPLAIN".to_owned(),
            reason: "The statement needs several shards, and each has its own plan".to_owned(),
        });
    }
    if let Route::Fixed {
        kind: PlanKind::Broadcast,
        ..
    } = &recipe.route
    {
        return Err(RouteError::OneShardOnly {
            what: "EXPLAIN".to_owned(),
            reason: "The statement runs on every shard".to_owned(),
        });
    }
    recipe.keeps = Err(NotKept::Utility);
    if !analyze {
        recipe.access = Access::Read;
        recipe.changes = Changes::Nothing;
        recipe.pin = None;
        recipe.makes = None;
    }
    Ok(recipe)
}

/// A cursor over several shards is a merged portal: the session runs the query's own text.
pub(super) fn declare(
    hold: bool,
    query: &Query,
    span: &std::ops::Range<usize>,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let mut recipe = read(query, context)?;
    if let Route::Keyed(keyed) = &mut recipe.route
        && let Several::Scatter { .. } = &keyed.several
    {
        // The merge planner edits the text it is given, so it must be given the query's.
        let inner = context.shape.get(span.clone()).unwrap_or_default();
        let parsed = parse(inner, Verb::Select);
        keyed.several = match parsed {
            Ok(Statement::Query(own)) => {
                let own_recipe = read(
                    &own,
                    &Context {
                        shape: inner,
                        verb: Verb::Select,
                        ..*context
                    },
                )?;
                match own_recipe.route {
                    Route::Keyed(own) => match own.several {
                        Several::Scatter {
                            anchors,
                            text,
                            finish,
                            time_casts,
                        } => Several::Scatter {
                            anchors,
                            text: Some(text.unwrap_or_else(|| inner.to_owned())),
                            finish,
                            time_casts,
                        },
                        refuse @ Several::Refuse(_) => refuse,
                    },
                    Route::Fixed { .. } | Route::Hinted(_) => Several::Refuse(cursor_refused()),
                }
            }
            _ => Several::Refuse(cursor_refused()),
        };
    }
    if hold {
        recipe.pin = recipe.pin.or(Some(Pin::HoldCursor));
    }
    recipe.keeps = Err(NotKept::Utility);
    Ok(recipe)
}

fn cursor_refused() -> RouteError {
    RouteError::OneShardOnly {
        what: "DECLARE".to_owned(),
        reason: "The query's own text is not understood".to_owned(),
    }
}

pub(super) fn copy(copy: &Copy, context: &Context<'_>) -> Result<Recipe, RouteError> {
    let one_shard = |table: &Table| RouteError::OneShardOnly {
        what: "COPY".to_owned(),
        reason: format!("Table {} is on several shards", table.name),
    };
    match &copy.subject {
        CopySubject::Statement(statement) => {
            let mut recipe = choose(statement, context)?;
            if let Route::Keyed(keyed) = &mut recipe.route
                && let Several::Scatter { .. } = keyed.several
            {
                keyed.several = Several::Refuse(RouteError::OneShardOnly {
                    what: "COPY".to_owned(),
                    reason: "The query needs several shards".to_owned(),
                });
            }
            recipe.keeps = Err(NotKept::Utility);
            Ok(recipe)
        }
        CopySubject::Table { name, .. } => {
            let table = match find_table(context, name)? {
                Found::Table(table) => table,
                Found::View(table, _) => return Err(one_shard(&table)),
                Found::Catalog => {
                    let home = ShardSet::from_iter([context.home()?]);
                    return Ok(schema::fixed(
                        PlanKind::Single,
                        home,
                        Access::Read,
                        Arc::from([]),
                    ));
                }
            };
            let refused = context.database.refused.get(&table.name);
            if let Some(reason) = refused {
                return Err(RouteError::RefusedTable {
                    table: table.name.to_string(),
                    reason: reason.clone(),
                });
            }
            let holders = context.holders(table.keyspace);
            let (access, kind) = match copy.direction {
                CopyDirection::From => (Access::Write, PlanKind::Single),
                CopyDirection::To => (Access::Read, PlanKind::Any),
            };
            if copy.direction == CopyDirection::From
                && let Some(hazard) = table.hazards.first()
            {
                return Err(RouteError::Hazard {
                    table: table.name.to_string(),
                    hazard: hazard.clone(),
                });
            }
            let tables: Arc<[TableName]> = Arc::from([table.name.clone()]);
            match (&table.placement, copy.direction) {
                _ if context.shards(table.keyspace).len() == 1 => {
                    let mut recipe = schema::fixed(PlanKind::Single, holders, access, tables);
                    if copy.direction == CopyDirection::From && !is_ambiguous(context, name) {
                        recipe.changes = copied(name, &table, context);
                    }
                    Ok(recipe)
                }
                (Placement::Reference, CopyDirection::To) => {
                    Ok(schema::fixed(kind, holders, access, tables))
                }
                (Placement::Reference, CopyDirection::From) => Err(RouteError::ReferenceWrite {
                    table: table.name.to_string(),
                }),
                _ => Err(one_shard(&table)),
            }
        }
    }
}

pub(super) fn truncate(tables: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
    let mut needed = ShardSet::new();
    let mut names = Vec::new();
    for name in tables {
        let Found::Table(table) = find_table(context, name)? else {
            return Err(RouteError::OneShardOnly {
                what: "TRUNCATE".to_owned(),
                reason: format!("{} is not a table of a keyspace", name.name),
            });
        };
        if let Some(reason) = context.database.refused.get(&table.name) {
            return Err(RouteError::RefusedTable {
                table: table.name.to_string(),
                reason: reason.clone(),
            });
        }
        needed.union_with(&context.shards(table.keyspace));
        names.push(table.name.clone());
    }
    let listed: Arc<[TableName]> = names.into();
    if needed.len() > 1 {
        let reason = "TRUNCATE would empty its part on every shard".to_owned();
        return Err(RouteError::ManyShardWrite {
            table: names_of(&listed),
            reason,
        });
    }
    let mut recipe = schema::fixed(PlanKind::Single, needed, Access::Write, listed);
    recipe.changes = of_tables(tables, context);
    Ok(recipe)
}

pub(super) fn lock(tables: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
    let names = listed(context, tables);
    let mut needed = ShardSet::new();
    for name in tables {
        match find_table(context, name)? {
            Found::Table(table) | Found::View(table, _) => {
                needed.union_with(&context.shards(table.keyspace))
            }
            Found::Catalog => needed.insert(context.home()?),
        }
    }
    if needed.len() > 1 {
        return Err(RouteError::ManyShardLock {
            tables: names_of(&names),
        });
    }
    Ok(schema::fixed(PlanKind::Single, needed, Access::Lock, names))
}

pub(super) fn call(
    function: &Name,
    args: &[Expr],
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let not_known = || RouteError::OneShardOnly {
        what: "CALL".to_owned(),
        reason: format!(
            "What procedure {} reads and writes is not known",
            function.name
        ),
    };
    arguments_of_call(args, context)?;
    let schemas: Vec<&str> = match &function.schema {
        Some(schema) => vec![schema],
        None => context.search_path.iter().map(String::as_str).collect(),
    };
    // Which of several PostgreSQL takes depends on the arguments' types: all are answered for.
    let mut found = false;
    let mut needed = ShardSet::new();
    let mut allowed: Option<ShardSet> = None;
    for schema in schemas {
        let key = TableName {
            schema: schema.to_owned(),
            name: function.name.clone(),
        };
        for overload in context.database.functions.get(&key).into_iter().flatten() {
            let Some(FunctionDeclaration::Touches { reads, writes }) = &overload.declared else {
                return Err(not_known());
            };
            found = true;
            touch(
                reads,
                writes,
                context,
                &mut needed,
                &mut |shards: ShardSet| {
                    allowed = Some(
                        allowed
                            .take()
                            .map_or_else(|| shards.clone(), |a| a.intersection(&shards)),
                    );
                },
            )?;
        }
    }
    if !found {
        return Err(not_known());
    }
    if needed.is_empty() {
        needed.insert(
            allowed
                .as_ref()
                .and_then(|a| a.iter().next())
                .map_or_else(|| context.home(), Ok)?,
        );
    }
    if needed.only().is_none()
        || !allowed.is_none_or(|a| needed.iter().all(|shard| a.contains(shard)))
    {
        return Err(not_known());
    }
    let mut recipe = schema::fixed(PlanKind::Single, needed, Access::Write, Arc::from([]));
    recipe.pin = Some(Pin::Opaque);
    Ok(recipe)
}

/// A procedure's arguments are computed where it runs, so nothing in them may ask for a shard.
fn arguments_of_call(args: &[Expr], context: &Context<'_>) -> Result<(), RouteError> {
    let mut binder = Binder::new(context);
    binder.alone(args)?;
    let traits = traits_of(&mut binder, context);
    traits.refuse()?;
    let alike = |effect: &CallEffect| {
        matches!(
            effect,
            CallEffect::BuiltIn(Effect::Pure | Effect::Stable | Effect::Now | Effect::Volatile)
        )
    };
    match binder.calls.iter().find(|call| !alike(&call.effect)) {
        Some(call) => Err(RouteError::OneShardOnly {
            what: "CALL".to_owned(),
            reason: format!("Its arguments call {}", call.name),
        }),
        None if !binder.refs.is_empty() => Err(RouteError::OneShardOnly {
            what: "CALL".to_owned(),
            reason: "Its arguments read tables".to_owned(),
        }),
        None => Ok(()),
    }
}
