//! Where everything is that a statement needs: its tables, its functions', the catalogs.

use crate::route::bind::Binder;
use crate::route::bind::bound::BoundQuery;
use crate::route::choose::calls::{CallTraits, Home, access_of};
use crate::route::choose::context::Context;
use crate::route::choose::names::{names_of, table_names};
use crate::route::choose::scatter::scatter;
use crate::route::error::RouteError;
use crate::route::keep::{Changes, NotKept};
use crate::route::pins::Analysis;
use crate::route::plan::{Access, ShardSet};
use crate::route::recipe::{Keyed, PlacedKeys, Recipe, Route, Several};
use crate::statement::tree::Query;
use crate::topology::{Placement, TableName};
use smallvec::SmallVec;

/// What happens when several shards are needed.
pub(super) enum ManyShards<'q> {
    Read(&'q Query, &'q BoundQuery),
    Write(String),
}

/// The recipe for placed references: they must meet on one shard, or their rows can be merged.
pub(super) fn meet(
    binder: &Binder<'_>,
    analysis: &Analysis,
    traits: &CallTraits,
    several: ManyShards<'_>,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let access = access_of(binder, traits);
    let tables = table_names(analysis);
    let names = || names_of(&tables);
    for (table, write) in &analysis.others {
        if *write && table.placement == Placement::Reference && context.is_spread(table.keyspace) {
            return Err(RouteError::ReferenceWrite {
                table: table.name.to_string(),
            });
        }
    }
    let mut needed = ShardSet::new();
    let mut allowed: Option<ShardSet> = None;
    let mut allow = |shards: ShardSet| {
        allowed = Some(
            allowed
                .take()
                .map_or_else(|| shards.clone(), |before| before.intersection(&shards)),
        );
    };
    for (table, _) in &analysis.others {
        match table.placement {
            Placement::Reference => allow(context.holders(table.keyspace)),
            _ => {
                let shards = context.shards(table.keyspace);
                needed.union_with(&shards);
                allow(shards);
            }
        }
    }
    for placed in &analysis.sharded {
        allow(context.holders(placed.table.keyspace));
    }
    for (reads, writes) in &traits.touches {
        touch(reads, writes, context, &mut needed, &mut allow)?;
    }
    let nothing_placed = analysis.sharded.is_empty() && analysis.others.is_empty();
    if traits.home == Home::Needed || !analysis.catalogs.is_empty() {
        let home = ShardSet::from_iter([context.home()?]);
        needed.union_with(&home);
    }
    if let Some(name) = &traits.per_shard
        && nothing_placed
        && needed.is_empty()
    {
        return Err(RouteError::Function {
            name: name.clone(),
            reason: "it works on one shard's rows, and nothing in the statement says which"
                .to_owned(),
            hint: "Name the shard or key with /* keyway: shard=… */ or /* keyway: key=… */."
                .to_owned(),
        });
    }
    if nothing_placed && traits.home == Home::Preferred {
        needed.union_with(&ShardSet::from_iter([context.home()?]));
    }
    let allowed = match allowed {
        Some(allowed) => allowed,
        None if !needed.is_empty() => needed.clone(),
        None => match context.default_keyspace() {
            Some(keyspace) => context.holders(keyspace),
            None => ShardSet::from_iter([context.home()?]),
        },
    };
    let apart = if analysis.catalogs.is_empty() && traits.home != Home::Needed {
        RouteError::Apart {
            tables: names(),
            reason: "their keyspaces share no shard".to_owned(),
        }
    } else {
        RouteError::CatalogJoin { tables: names() }
    };
    let places: SmallVec<[PlacedKeys; 1]> = analysis
        .sharded
        .iter()
        .map(|placed| PlacedKeys {
            table: placed.table.name.to_string(),
            keys: analysis.keys(binder, placed),
            holders: context.holders(placed.table.keyspace),
        })
        .collect();
    let several = match several {
        ManyShards::Write(table) => Several::Refuse(RouteError::ManyShardWrite {
            table,
            reason: "its rows are on several shards and the sharding key does not name one"
                .to_owned(),
        }),
        ManyShards::Read(query, bound) => {
            let refused = |reason: String| {
                Several::Refuse(RouteError::ManyShards {
                    tables: names(),
                    reason,
                })
            };
            if access == Access::Lock {
                Several::Refuse(RouteError::ManyShardLock { tables: names() })
            } else if access != Access::Read {
                refused("it writes".to_owned())
            } else if needed.len() > 1 {
                Several::Refuse(RouteError::Apart {
                    tables: names(),
                    reason: "their keyspaces are on different shards".to_owned(),
                })
            } else if !analysis.catalogs.is_empty() || traits.home == Home::Needed {
                Several::Refuse(RouteError::CatalogJoin { tables: names() })
            } else if let Some(call) = &traits.unmergeable {
                refused(format!("{call} gives another value on each shard"))
            } else {
                scatter(binder, analysis, query, bound, context)
            }
        }
    };
    let reason = match (&analysis.sharded.is_empty(), needed.is_empty()) {
        (false, _) => "by the sharding key",
        (true, true) => "every shard has what it needs",
        (true, false) => "one shard has what it needs",
    };
    if access == Access::Lock
        && analysis.sharded.is_empty()
        && needed.is_empty()
        && allowed.len() > 1
    {
        return Err(RouteError::ManyShardLock { tables: names() });
    }
    Ok(Recipe {
        route: Route::Keyed(Box::new(Keyed {
            places,
            rows: Vec::new(),
            insert: None,
            needed,
            allowed,
            apart,
            several,
            guards: Vec::new(),
        })),
        access,
        tables,
        pin: traits.pin,
        set_config: traits.set_config,
        outside_transaction: false,
        reason: reason.to_owned(),
        makes: None,
        makes_temporary: None,
        // Whoever knows better says so.
        keeps: Err(NotKept::NotUnderstood),
        changes: Changes::Everything,
        untyped: binder.untyped_params().into(),
    })
}

/// Tables that a declared function touches.
pub(super) fn touch(
    reads: &[TableName],
    writes: &[TableName],
    context: &Context<'_>,
    needed: &mut ShardSet,
    allow: &mut impl FnMut(ShardSet),
) -> Result<(), RouteError> {
    for (name, write) in reads
        .iter()
        .map(|name| (name, false))
        .chain(writes.iter().map(|name| (name, true)))
    {
        let Some(table) = context.database.tables.get(name) else {
            return Err(RouteError::Function {
                name: name.to_string(),
                reason: "its declaration names a table that no keyspace has".to_owned(),
                hint: "Correct [functions] in the configuration.".to_owned(),
            });
        };
        match table.placement {
            Placement::Reference if write && context.is_spread(table.keyspace) => {
                return Err(RouteError::ReferenceWrite {
                    table: name.to_string(),
                });
            }
            Placement::Reference => allow(context.holders(table.keyspace)),
            Placement::Sharded { .. } | Placement::Unsharded => {
                let shards = context.holders(table.keyspace);
                needed.union_with(&shards);
                allow(shards);
            }
        }
    }
    Ok(())
}
