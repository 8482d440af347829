//! The client's word on where a statement goes, held to what the statement says of its keys.

use crate::route::bind::Binder;
use crate::route::bind::tables::{Found, find_table};
use crate::route::choose::context::Context;
use crate::route::choose::forced::forced;
use crate::route::choose::made::{generates_key, is_generated, made_keys, merge_generates_key};
use crate::route::choose::names::{key_names, listed};
use crate::route::choose::rows::{key_positions, query_keys, row_key, rows_of};
use crate::route::choose::write::guards;
use crate::route::error::RouteError;
use crate::route::key::{self, ConstantType, KeyValue, Use};
use crate::route::pins::{self, Analysis, KeySet, Keys, key_of};
use crate::route::recipe::{Hinted, PlacedKeys, Recipe, Route};
use crate::route::reserved;
use crate::route::temporary::is_temporary;
use crate::statement::scan::Verb;
use crate::statement::tree::{
    AlterAction, Body, Copy, CopyDirection, CopySubject, Cte, Ddl, Name, Query, Statement,
};
use crate::topology::{
    KeyColumn, KeyFamily, KeyspaceId, KeyspaceKind, Placement, ShardId, Table, TableName,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A client's word on where a statement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteHint<'a> {
    /// `key=…`: a key of the default keyspace.
    Key(&'a str),
    /// `shard=…`: a shard's name.
    Shard(&'a str),
}

/// Decides by the client's hint.
///
/// # Errors
/// When the hint names nothing, or a shard that lacks a table of the statement.
pub fn hinted(
    tree: Option<&Statement>,
    context: &Context<'_>,
    hint: RouteHint<'_>,
) -> Result<Recipe, RouteError> {
    reserved::refuse(context)?;
    let shard = match hint {
        RouteHint::Shard(name) => shard_named(context, name)?,
        RouteHint::Key(text) => {
            let any = context.home()?;
            shard_of_key(context, text, &forced(tree, context, any, "").tables)?
        }
    };
    let mut recipe = forced(tree, context, shard, "by hint");
    for name in recipe.tables.iter() {
        if let Some(reason) = context.database.refused.get(name) {
            return Err(RouteError::RefusedTable {
                table: name.to_string(),
                reason: reason.clone(),
            });
        }
        if let Some(table) = context.database.tables.get(name)
            && !context.shards(table.keyspace).contains(shard)
        {
            let keyspace = context.keyspace_name(table.keyspace);
            return Err(RouteError::Apart {
                tables: name.to_string(),
                reason: format!("keyspace {keyspace} is not on the shard the hint names"),
            });
        }
    }
    // Where one shard has everything, no key can be elsewhere, and a temporary table hides what its server has.
    if let (Some(tree), None) = (tree, context.only_shard()) {
        hides_no_table(tree, context)?;
        hold_to_keys(tree, context, shard, &mut recipe)?;
    }
    Ok(recipe)
}

/// A temporary table is on one server, and statements find the listed table of its name all the same.
fn hides_no_table(tree: &Statement, context: &Context<'_>) -> Result<(), RouteError> {
    let created = match tree {
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => {
            return hides_no_table(statement, context);
        }
        Statement::Query(Query {
            body: Body::Select(select),
            ..
        }) => select.into.as_ref().map(|name| &name.name),
        Statement::Ddl(Ddl::CreateTable(create)) => Some(&create.name.name),
        Statement::Ddl(Ddl::CreateAs { name, .. }) => Some(&name.name),
        _ => None,
    };
    let is_known = |table: &Name| {
        let names = listed(context, std::slice::from_ref(table));
        names
            .iter()
            .any(|name| context.database.tables.contains_key(name))
    };
    let renamed = match tree {
        Statement::Ddl(Ddl::AlterTable { table, actions }) if !is_known(table) => {
            actions.iter().find_map(|action| match action {
                AlterAction::RenameTable(name) => Some(name),
                _ => None,
            })
        }
        _ => None,
    };
    let Some(name) = created.filter(|_| is_temporary(context)).or(renamed) else {
        return Ok(());
    };
    // In whichever schema: the search_path may change.
    let mut tables = context.database.tables.values();
    match tables.find(|table| table.name.name == *name) {
        None => Ok(()),
        Some(hidden) => Err(RouteError::NameTaken {
            name: hidden.name.to_string(),
            keyspace: context.keyspace_name(hidden.keyspace).to_owned(),
        }),
    }
}

/// A hint stands for what the statement does not say; what the statement says of its keys must agree with it.
fn hold_to_keys(
    tree: &Statement,
    context: &Context<'_>,
    shard: ShardId,
    recipe: &mut Recipe,
) -> Result<(), RouteError> {
    let mut rows = Vec::new();
    given_rows(tree, context, &mut rows);
    if let Statement::Insert(insert) = tree
        && context.verb == Verb::Insert
        && let Some(table) = sharded(&insert.table, context)
        && let Some(mut made) = made_keys(insert, &table, context)
    {
        if !made.holders.contains(shard) {
            return Err(RouteError::BadHint {
                reason: format!("the hint's shard owns no key of table {}", table.name),
                hint: "Leave the hint out: Keyway makes the key, and finds its shard.".to_owned(),
            });
        }
        made.only = Some(shard);
        recipe.makes = Some(Arc::new(made));
        return Ok(());
    }
    no_generated_key(tree, context)?;
    let mut binder = Binder::new(context);
    let bound = match tree {
        Statement::Query(query) | Statement::Declare { query, .. } => binder.query(query),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => binder.modifying(tree),
        Statement::Explain { statement, .. } | Statement::Prepare { statement, .. } => {
            return hold_to_keys(statement, context, shard, recipe);
        }
        Statement::Copy(Copy {
            subject: CopySubject::Statement(statement),
            ..
        }) => return hold_to_keys(statement, context, shard, recipe),
        Statement::Copy(copy) => return copies_key(copy, context),
        Statement::Ddl(_)
        | Statement::Truncate { .. }
        | Statement::Lock { .. }
        | Statement::Maintenance { .. }
        | Statement::Call { .. } => return Ok(()),
    };
    // What cannot be bound says nothing but its rows: the hint stands for the rest.
    let analysis = bound.map_or_else(|_| Analysis::default(), |b| pins::place(&binder, &b));
    let guards = guards(&binder, &analysis)?;
    let places: Vec<PlacedKeys> = analysis
        .sharded
        .iter()
        .map(|placed| PlacedKeys {
            table: placed.table.name.to_string(),
            keys: analysis.keys(&binder, placed),
            holders: context.holders(placed.table.keyspace),
        })
        .filter(|place| place.keys != Keys::All)
        .collect();
    if places.is_empty() && rows.is_empty() && guards.is_empty() {
        return Ok(());
    }
    recipe.untyped = binder.untyped_params().into();
    recipe.route = Route::Hinted(Box::new(Hinted {
        shard,
        places,
        rows,
        guards,
    }));
    Ok(())
}

/// A hint cannot know which value PostgreSQL will generate, nor therefore whose shard it is.
fn no_generated_key(tree: &Statement, context: &Context<'_>) -> Result<(), RouteError> {
    for entry in with_of(tree) {
        no_generated_key(&entry.statement, context)?;
    }
    let target = match tree {
        Statement::Insert(insert) => sharded(&insert.table, context),
        Statement::Merge(merge) => sharded(&merge.table, context),
        _ => None,
    };
    let generates = |table: &Table| match tree {
        Statement::Insert(insert) => generates_key(insert, table),
        Statement::Merge(merge) => merge_generates_key(merge, table),
        _ => false,
    };
    match target.filter(|table| generates(table)) {
        Some(table) => Err(generated_key(&table)),
        None => Ok(()),
    }
}

fn copies_key(copy: &Copy, context: &Context<'_>) -> Result<(), RouteError> {
    let CopySubject::Table { name, columns } = &copy.subject else {
        return Ok(());
    };
    let Ok(Found::Table(table)) = find_table(context, name) else {
        return Ok(());
    };
    let left_out =
        |column: &KeyColumn| !columns.contains(&column.name) && is_generated(&table, &column.name);
    if copy.direction == CopyDirection::From
        && !columns.is_empty()
        && key_of(&table).iter().any(left_out)
    {
        return Err(generated_key(&table));
    }
    Ok(())
}

fn generated_key(table: &Table) -> RouteError {
    RouteError::KeyMissing {
        table: table.name.to_string(),
        column: key_names(key_of(table)),
        reason: "PostgreSQL generates it, and a hint cannot know for which shard".to_owned(),
    }
}

fn with_of(tree: &Statement) -> &[Cte] {
    match tree {
        Statement::Query(query) => &query.with,
        Statement::Insert(insert) => &insert.with,
        Statement::Update(update) => &update.with,
        Statement::Delete(delete) => &delete.with,
        Statement::Merge(merge) => &merge.with,
        _ => &[],
    }
}

/// A table of this name, if it is sharded.
fn sharded(name: &Name, context: &Context<'_>) -> Option<Arc<Table>> {
    match find_table(context, name) {
        Ok(Found::Table(table)) if matches!(table.placement, Placement::Sharded { .. }) => {
            Some(table)
        }
        _ => None,
    }
}

/// The rows whose keys a statement and its WITH entries give, with their tables.
fn given_rows(tree: &Statement, context: &Context<'_>, rows: &mut Vec<(String, KeySet)>) {
    for entry in with_of(tree) {
        given_rows(&entry.statement, context, rows);
    }
    if let Statement::Insert(insert) = tree
        && let Some(table) = sharded(&insert.table, context)
        && let Ok(positions) = key_positions(insert, &table)
    {
        let name = table.name.to_string();
        rows.extend(query_keys(insert, &table, context, false).map(|keys| (name.clone(), keys)));
        rows.extend(
            rows_of(insert)
                .into_iter()
                .filter_map(|row| Some((name.clone(), row_key(&table, &positions, row).ok()?))),
        );
    }
}

/// The shard of that name, in the database.
fn shard_named(context: &Context<'_>, name: &str) -> Result<ShardId, RouteError> {
    let named = |shard: &ShardId| {
        context
            .topology
            .shards
            .get(usize::from(shard.0))
            .is_some_and(|shard| shard.name == name)
    };
    let all = context.all_shards();
    all.iter().find(named).ok_or_else(|| {
        let names: Vec<&str> = all
            .iter()
            .filter_map(|shard| {
                context
                    .topology
                    .shards
                    .get(usize::from(shard.0))
                    .map(|shard| shard.name.as_str())
            })
            .collect();
        RouteError::BadHint {
            reason: "the hint names a shard that the database does not have".to_owned(),
            hint: format!("Shards are: {}.", names.join(", ")),
        }
    })
}

/// The shard of a key. The statement's own sharded tables say what type it has, else the default keyspace's do.
fn shard_of_key(
    context: &Context<'_>,
    text: &str,
    tables: &[TableName],
) -> Result<ShardId, RouteError> {
    let bad = |reason: &str| RouteError::BadHint {
        reason: reason.to_owned(),
        hint: "Name the shard with /* keyway: shard=… */ instead.".to_owned(),
    };
    let sharded = |id: &KeyspaceId| {
        let keyspace = context.topology.keyspaces.get(usize::from(id.0))?;
        match &keyspace.kind {
            KeyspaceKind::Sharded { hash, map } => Some((*id, *hash, Arc::clone(map))),
            KeyspaceKind::Unsharded => None,
        }
    };
    let mut all = context.database.keyspaces.iter().filter_map(sharded);
    let (id, hash, map) = match context.database.default.as_ref().and_then(sharded) {
        Some(keyspace) => keyspace,
        None => match (all.next(), all.next()) {
            (Some(keyspace), None) => keyspace,
            _ => return Err(bad("a key hint needs a default keyspace that is sharded")),
        },
    };
    let family_of_key = |table: &Table| match key_of(table) {
        [column] if table.keyspace == id => Some(column.family.map(family_rank)),
        _ => None,
    };
    let mentioned = tables
        .iter()
        .filter_map(|name| context.database.tables.get(name));
    let mut families: BTreeSet<Option<usize>> =
        mentioned.filter_map(|table| family_of_key(table)).collect();
    if families.is_empty() {
        families = context
            .database
            .tables
            .values()
            .filter_map(|table| family_of_key(table))
            .collect();
    }
    let family = match families.into_iter().collect::<Vec<_>>().as_slice() {
        [Some(rank)] => FAMILIES[*rank],
        [None] if !context.database.schema_known => KeyFamily::Int,
        _ => {
            return Err(bad(
                "the type of the hint's key is not certain: the tables have keys of several types",
            ));
        }
    };
    match key::from_string(text.as_bytes(), family, ConstantType::Context, Use::Compare) {
        KeyValue::Bytes(bytes) => {
            let bucket = key::bucket(hash, &[(family, Some(&bytes))]);
            map.get(usize::from(bucket.0))
                .copied()
                .ok_or(RouteError::NoShard)
        }
        _ => Err(bad(
            "the hint's key is not a value of the sharding key's type",
        )),
    }
}

/// Families in a fixed order.
const FAMILIES: [KeyFamily; 9] = [
    KeyFamily::Int,
    KeyFamily::Text,
    KeyFamily::Bpchar,
    KeyFamily::Uuid,
    KeyFamily::Bool,
    KeyFamily::Date,
    KeyFamily::Timestamp,
    KeyFamily::TimestampTz,
    KeyFamily::Bytea,
];

fn family_rank(family: KeyFamily) -> usize {
    FAMILIES.iter().position(|f| *f == family).unwrap_or(0)
}
