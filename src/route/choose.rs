//! Choosing: (tree, topology) → [`Recipe`]. One function per kind of statement; the default is to refuse.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Block, Bound, BoundQuery, Source};
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::bind::constants::{Constant, Operand, operand};
use crate::route::bind::stored::{Written, is_overridden, length_of};
use crate::route::bind::tables::{Found, family_of, find_table};
use crate::route::builtin::{self, Effect};
use crate::route::error::RouteError;
use crate::route::implied;
use crate::route::key::{self, ConstantType, KeyValue, Use};
use crate::route::merge::{self, Collation, FunctionKind, Types};
use crate::route::pins::{self, Analysis, KeyPart, KeySet, Keys, Placed, key_of};
use crate::route::plan::{Access, Pin, PlanKind, ShardSet};
use crate::route::recipe::{Hinted, KeyGuard, Keyed, PlacedKeys, Recipe, Route, Several};
use crate::route::schema;
use crate::statement::scan::Verb;
use crate::statement::tree::{
    AlterAction, Body, Copy, CopyDirection, CopySubject, Ddl, Expr, Insert, InsertSource, Item,
    Name, OnConflict, Query, Select, Statement,
};
use crate::topology::{
    Database, FunctionDeclaration, KeyColumn, KeyFamily, KeyspaceId, KeyspaceKind, Placement,
    ShardId, Table, TableName, Topology,
};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a statement is planned in.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The snapshot.
    pub topology: &'a Arc<Topology>,
    /// The client's database.
    pub database: &'a Arc<Database>,
    /// The session's search_path, `"$user"` already replaced or left out.
    pub search_path: &'a [String],
    /// The statement's verb.
    pub verb: Verb,
    /// The shape text that the tree's spans point into.
    pub shape: &'a str,
}

/// A client's word on where a statement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteHint<'a> {
    /// `key=…`: a key of the default keyspace.
    Key(&'a str),
    /// `shard=…`: a shard's name.
    Shard(&'a str),
}

impl Context<'_> {
    /// Its rows are on more than one shard, or may come to be.
    pub(crate) fn is_spread(&self, keyspace: KeyspaceId) -> bool {
        self.topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .is_none_or(|keyspace| match keyspace.kind {
                KeyspaceKind::Sharded { .. } => true,
                KeyspaceKind::Unsharded => keyspace.shards.len() != 1,
            })
    }

    /// All shards of a keyspace.
    pub(crate) fn shards(&self, keyspace: KeyspaceId) -> ShardSet {
        let keyspace = self.topology.keyspaces.get(usize::from(keyspace.0));
        keyspace
            .map(|keyspace| keyspace.shards.iter().copied().collect())
            .unwrap_or_default()
    }

    /// The shards that own buckets; a shard that joined without any has no rows yet.
    pub(crate) fn holders(&self, keyspace: KeyspaceId) -> ShardSet {
        match self
            .topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .map(|keyspace| &keyspace.kind)
        {
            Some(KeyspaceKind::Sharded { map, .. }) => map.iter().copied().collect(),
            _ => self.shards(keyspace),
        }
    }

    /// The only shard of the whole database.
    pub(crate) fn only_shard(&self) -> Option<ShardId> {
        self.all_shards().only()
    }

    /// Every shard of the database.
    pub(crate) fn all_shards(&self) -> ShardSet {
        let mut all = ShardSet::new();
        for keyspace in &self.database.keyspaces {
            all.union_with(&self.shards(*keyspace));
        }
        all
    }

    /// A keyspace's name.
    pub(crate) fn keyspace_name(&self, keyspace: KeyspaceId) -> &str {
        self.topology
            .keyspaces
            .get(usize::from(keyspace.0))
            .map_or("?", |keyspace| keyspace.name.as_str())
    }

    /// The default keyspace, or the only one.
    pub(crate) fn default_keyspace(&self) -> Option<KeyspaceId> {
        self.database
            .default
            .or(match self.database.keyspaces.as_slice() {
                [only] => Some(*only),
                _ => None,
            })
    }

    fn home(&self) -> Result<ShardId, RouteError> {
        self.database.home.ok_or(RouteError::NoShard)
    }
}

/// Decides where statements of this shape go.
///
/// # Errors
/// When they cannot be answered exactly, whatever their values.
pub fn recipe(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    let mut recipe = chosen(tree, context)?;
    if let Some(pin) = pin_of_definition(tree, context) {
        if recipe.shards().len() > 1 {
            return Err(RouteError::OneShardOnly {
                what: "code whose effects are not known".to_owned(),
                reason: "It would run on every shard".to_owned(),
            });
        }
        recipe.pin = recipe.pin.or(Some(pin));
    }
    Ok(recipe)
}

/// Why the session keeps its server behind DO and queries that create tables, whose calls run now.
fn pin_of_definition(tree: &Statement, context: &Context<'_>) -> Option<Pin> {
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

/// As the session may run it: where it can be answered exactly, or where everything is.
fn chosen(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match (choose(tree, context), context.only_shard()) {
        (Err(error @ (RouteError::RefusedTable { .. } | RouteError::BadHint { .. })), _) => {
            Err(error)
        }
        // A keyspace that has one shard today may have two tomorrow: its schema is held to the rules.
        (
            Err(
                error @ (RouteError::Constraint { .. }
                | RouteError::Schema { .. }
                | RouteError::UnlistedTable { .. }),
            ),
            Some(_),
        ) if matches!(tree, Statement::Ddl(_)) => Err(error),
        // Where one shard has everything, nothing can be on another.
        (Err(_), Some(shard)) => Ok(forced(
            Some(tree),
            context,
            shard,
            "the database has one shard",
        )),
        (result, _) => result,
    }
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
    let Some(name) = created
        .filter(|_| schema::is_temporary(context))
        .or(renamed)
    else {
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
        Statement::Copy(_)
        | Statement::Ddl(_)
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

/// The rows whose keys a statement and its WITH entries give, with their tables.
fn given_rows(tree: &Statement, context: &Context<'_>, rows: &mut Vec<(String, KeySet)>) {
    let with = match tree {
        Statement::Query(query) => &query.with,
        Statement::Insert(insert) => &insert.with,
        Statement::Update(update) => &update.with,
        Statement::Delete(delete) => &delete.with,
        Statement::Merge(merge) => &merge.with,
        _ => return,
    };
    for entry in with {
        given_rows(&entry.statement, context, rows);
    }
    if let Statement::Insert(insert) = tree
        && let Ok(Found::Table(table)) = find_table(context, &insert.table)
        && matches!(table.placement, Placement::Sharded { .. })
        && let Ok(positions) = key_positions(insert, &table)
    {
        let name = table.name.to_string();
        rows.extend(
            rows_of(insert)
                .into_iter()
                .filter_map(|row| Some((name.clone(), row_key(&table, &positions, row).ok()?))),
        );
    }
}

/// Decides for a statement that the parser did not understand.
///
/// # Errors
/// Unless the database has one shard.
pub fn unparsed(reason: &str, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match context.only_shard() {
        Some(shard) => Ok(forced(None, context, shard, "the database has one shard")),
        None => Err(RouteError::Unparsed {
            reason: reason.to_owned(),
        }),
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

/// Everything goes to one shard; only what the session must know is worked out.
fn forced(tree: Option<&Statement>, context: &Context<'_>, shard: ShardId, reason: &str) -> Recipe {
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
        untyped: SmallVec::new(),
    };
    let Some(tree) = tree else {
        // Nothing is known of it, so it may do anything to the session.
        recipe.pin = Some(Pin::Opaque);
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
            let access = if *analyze { inner.access } else { Access::Read };
            return Recipe {
                access,
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
            return recipe;
        }
        Statement::Lock { tables } => {
            recipe.access = Access::Lock;
            recipe.tables = listed(context, tables);
            return recipe;
        }
        Statement::Maintenance {
            tables,
            outside_transaction,
        } => {
            recipe.access = Access::Schema;
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
    if matches!(tree, Statement::Query(query) if selects_into(query))
        && schema::is_temporary(context)
    {
        recipe.pin = Some(Pin::TemporaryTable);
    }
    if traits.undeclared.is_some() || traits.unknown || writes_catalog(tree, context) {
        recipe.pin = recipe.pin.or(Some(Pin::Opaque));
    }
    if let Ok(bound) = bound {
        let analysis = pins::place(&binder, &bound);
        recipe.tables = table_names(&analysis);
    }
    recipe
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

/// SELECT … INTO: it creates a table.
fn selects_into(query: &Query) -> bool {
    matches!(&query.body, Body::Select(select) if select.into.is_some())
}

/// Full names of the tables that are known.
pub(crate) fn listed(context: &Context<'_>, names: &[Name]) -> Arc<[TableName]> {
    names
        .iter()
        .filter_map(|name| match find_table(context, name) {
            Ok(Found::Table(table) | Found::View(table, _)) => Some(table.name.clone()),
            _ => None,
        })
        .collect()
}

fn choose(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match tree {
        Statement::Query(query) => read(query, context),
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_) => write(tree, context),
        Statement::Copy(copy) => self::copy(copy, context),
        Statement::Explain { analyze, statement } => explain(*analyze, statement, context),
        Statement::Declare {
            hold,
            query,
            query_span,
            ..
        } => declare(*hold, query, query_span, context),
        Statement::Prepare { statement, .. } => choose(statement, context),
        Statement::Ddl(ddl) => schema::recipe(ddl, context),
        // CASCADE reaches tables of the same shard only.
        Statement::Truncate { tables, .. } => truncate(tables, context),
        Statement::Lock { tables } => lock(tables, context),
        Statement::Maintenance {
            tables,
            outside_transaction,
        } => schema::maintenance(tables, *outside_transaction, context),
        Statement::Call { function, args } => call(function, args, context),
    }
}

// ---- reads ----

fn read(query: &Query, context: &Context<'_>) -> Result<Recipe, RouteError> {
    if let Body::Select(select) = &query.body
        && let Some(name) = &select.into
    {
        return schema::select_into(name, query, context);
    }
    let mut binder = Binder::new(context);
    let bound = binder.query(query)?;
    let traits = traits_of(&mut binder, context);
    traits.refuse()?;
    let analysis = pins::place(&binder, &bound);
    if let Some(table) = analysis
        .sharded
        .iter()
        .find(|placed| placed.write)
        .map(|placed| &placed.table)
    {
        // A data-modifying WITH entry.
        let several = ManyShards::Write(table.name.to_string());
        return meet(&binder, &analysis, &traits, several, context);
    }
    meet(
        &binder,
        &analysis,
        &traits,
        ManyShards::Read(query, &bound),
        context,
    )
}

/// What happens when several shards are needed.
enum ManyShards<'q> {
    Read(&'q Query, &'q BoundQuery),
    Write(String),
}

/// The recipe for placed references: they must meet on one shard, or their rows can be merged.
fn meet(
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
        untyped: binder.untyped_params().into(),
    })
}

/// Tables that a declared function touches.
fn touch(
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

/// Can the rows of several shards be merged?
fn scatter(
    binder: &Binder<'_>,
    analysis: &Analysis,
    query: &Query,
    bound: &BoundQuery,
    context: &Context<'_>,
) -> Several {
    let tables = table_names(analysis);
    let refused = |reason: String| {
        Several::Refuse(RouteError::ManyShards {
            tables: names_of(&tables),
            reason,
        })
    };
    let mut arms = Vec::new();
    outer_blocks(bound, &mut arms);
    let mut anchors = Vec::new();
    for block in &arms {
        match analysis.anchor(binder, block.address) {
            Ok(anchor) => anchors.push(anchor),
            Err(reason) => return refused(reason),
        }
    }
    if anchors.is_empty() {
        return refused("its rows cannot be divided by shard".to_owned());
    }
    let scope = MergeScope {
        binder,
        analysis,
        bound,
        context,
    };
    match merge::plan_finish(query, &scope, context.shape) {
        Ok(planned) => Several::Scatter {
            anchors,
            text: planned.text_shape,
            finish: Arc::new(planned.finish),
            time_casts: binder.time_casts.clone(),
        },
        Err(refusal) => Several::Refuse(RouteError::Merge(refusal)),
    }
}

/// The outermost blocks: one, or the arms of a set operation.
fn outer_blocks<'q>(query: &'q BoundQuery, out: &mut Vec<&'q Block>) {
    match &query.body {
        Bound::Block(block) => out.push(block),
        Bound::Set(left, right) => {
            outer_blocks(left, out);
            outer_blocks(right, out);
        }
        Bound::Query(inner) => outer_blocks(inner, out),
        Bound::Values(_) => {}
    }
}

/// What the merge planner may ask.
struct MergeScope<'a, 'c> {
    binder: &'a Binder<'c>,
    analysis: &'a Analysis,
    bound: &'a BoundQuery,
    context: &'a Context<'c>,
}

impl MergeScope<'_, '_> {
    fn block(&self, select: &Select) -> Option<&Block> {
        let address = std::ptr::from_ref(select).addr();
        let mut blocks = Vec::new();
        outer_blocks(self.bound, &mut blocks);
        blocks.into_iter().find(|block| block.address == address)
    }
}

impl Types for MergeScope<'_, '_> {
    fn distributes(&self, select: &Select) -> bool {
        self.block(select)
            .is_some_and(|block| self.analysis.anchor(self.binder, block.address).is_ok())
    }

    fn key_is_covered(&self, select: &Select, columns: &[&Expr], stars: &[&Item]) -> bool {
        let Some(block) = self.block(select) else {
            return false;
        };
        let mut nodes: Vec<usize> = columns
            .iter()
            .filter_map(|column| self.binder.block_column(block, column))
            .collect();
        for star in stars {
            for leaf in self.binder.star_leaves(block, star).unwrap_or_default() {
                nodes.extend(self.binder.leaf_nodes(leaf));
            }
        }
        self.analysis.covers_key(self.binder, block.address, &nodes)
    }

    fn collation(&self, select: &Select, column: &Expr) -> Collation {
        let Some(block) = self.block(select) else {
            return Collation::Unknown;
        };
        let Some((table, name)) = self.binder.table_column(block, column) else {
            return Collation::Unknown;
        };
        match table.columns.iter().find(|column| column.name == name) {
            Some(column) if column.collation_is_c => Collation::C,
            Some(column) if column.deterministic => Collation::Deterministic,
            _ => Collation::Unknown,
        }
    }

    fn database_collation_is_c(&self) -> bool {
        self.context.database.collation_is_c
    }

    fn deterministic(&self) -> bool {
        let all = |table: &Table| {
            !table.columns.is_empty() && table.columns.iter().all(|column| column.deterministic)
        };
        self.analysis
            .sharded
            .iter()
            .all(|placed| all(&placed.table))
            && self.analysis.others.iter().all(|(table, _)| all(table))
    }

    fn has_input_column(&self, select: &Select, name: &str) -> Option<bool> {
        self.binder.has_input_column(self.block(select)?, name)
    }

    fn star_has_column(&self, select: &Select, star: &Item, name: &str) -> Option<bool> {
        let mut known = true;
        for leaf in self.binder.star_leaves(self.block(select)?, star)? {
            match self.binder.has_column(leaf, name) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => known = false,
            }
        }
        known.then_some(false)
    }

    fn function(&self, name: &Name) -> FunctionKind {
        let database = self.context.database;
        if !database.schema_known {
            return FunctionKind::Unknown;
        }
        let schemas: Vec<&str> = match &name.schema {
            Some(schema) => vec![schema],
            None => self
                .context
                .search_path
                .iter()
                .map(String::as_str)
                .collect(),
        };
        let mut users = false;
        for schema in schemas {
            let key = TableName {
                schema: schema.to_owned(),
                name: name.name.clone(),
            };
            for function in database.functions.get(&key).into_iter().flatten() {
                if matches!(function.kind, 'a' | 'w') {
                    return FunctionKind::Aggregate;
                }
                users = true;
            }
        }
        let own = name
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
        match (users, own && builtin::effect(&name.name).is_some()) {
            _ if own && (builtin::is_aggregate(&name.name) || builtin::is_window(&name.name)) => {
                if users {
                    FunctionKind::Aggregate
                } else {
                    FunctionKind::BuiltinAggregate
                }
            }
            (true, _) => FunctionKind::Plain,
            (false, true) => FunctionKind::Builtin,
            (false, false) => FunctionKind::Unknown,
        }
    }
}

// ---- writes ----

fn write(tree: &Statement, context: &Context<'_>) -> Result<Recipe, RouteError> {
    let mut binder = Binder::new(context);
    let bound = binder.modifying(tree)?;
    let traits = traits_of(&mut binder, context);
    traits.refuse()?;
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
        && !matches!(insert.source, InsertSource::Query(_))
    {
        rows = insert_rows(insert, &table)?;
        if let Some(at) = analysis
            .sharded
            .iter()
            .position(|placed| is_target(&binder, placed, &bound))
        {
            analysis.sharded.remove(at);
        }
    }
    let inserted = !rows.is_empty();
    let mut recipe = meet(
        &binder,
        &analysis,
        &traits,
        ManyShards::Write(table.name.to_string()),
        context,
    )?;
    recipe.access = Access::Write;
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
fn guards(binder: &Binder<'_>, analysis: &Analysis) -> Result<Vec<KeyGuard>, RouteError> {
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

/// The keys of the rows of INSERT … VALUES.
fn insert_rows(insert: &Insert, table: &Table) -> Result<Vec<KeySet>, RouteError> {
    if let Some(OnConflict::Update { .. }) = &insert.on_conflict
        && table.kind == 'f'
    {
        return Err(RouteError::OneShardOnly {
            what: "ON CONFLICT on a foreign table".to_owned(),
            reason: format!("Table {}", table.name),
        });
    }
    let positions = key_positions(insert, table)?;
    rows_of(insert)
        .into_iter()
        .map(|row| row_key(table, &positions, row))
        .collect()
}

/// The rows that an INSERT gives by itself; DEFAULT VALUES is one without values.
fn rows_of(insert: &Insert) -> Vec<&[Expr]> {
    match &insert.source {
        InsertSource::Values(rows) => rows.iter().map(Vec::as_slice).collect(),
        InsertSource::Default => vec![&[]],
        InsertSource::Query(_) => Vec::new(),
    }
}

fn missing_key(table: &Table, column: &KeyColumn, reason: &str) -> RouteError {
    RouteError::KeyMissing {
        table: table.name.to_string(),
        column: column.name.clone(),
        reason: reason.to_owned(),
    }
}

/// Where each key column's value stands in a row; `None` for one that is not given.
fn key_positions(insert: &Insert, table: &Table) -> Result<Vec<Option<usize>>, RouteError> {
    let known = !table.columns.is_empty() || matches!(insert.source, InsertSource::Default);
    let position = |column: &KeyColumn| {
        if insert.overriding_user && is_overridden(table, &column.name) {
            return Ok(None);
        }
        if !insert.columns.is_empty() {
            return Ok(insert.columns.iter().position(|name| *name == column.name));
        }
        if !known {
            let reason = "the table's columns are not known, so list them in the INSERT";
            return Err(missing_key(table, column, reason));
        }
        Ok(table.columns.iter().position(|c| c.name == column.name))
    };
    key_of(table).iter().map(position).collect()
}

/// The key of one row.
fn row_key(table: &Table, positions: &[Option<usize>], row: &[Expr]) -> Result<KeySet, RouteError> {
    let mut parts = SmallVec::new();
    for (column, position) in key_of(table).iter().zip(positions) {
        let operand = match position.and_then(|at| row.get(at)) {
            None | Some(Expr::Default) => default_of(table, column)?,
            Some(value) => operand(value).ok_or_else(|| {
                let reason = "its value is an expression that only PostgreSQL can compute";
                missing_key(table, column, reason)
            })?,
        };
        parts.push(stored_part(table, column, vec![operand]));
    }
    Ok(KeySet {
        keyspace: table.keyspace,
        parts,
        usage: Use::Store,
    })
}

/// A key column as it stores values.
fn stored_part(table: &Table, column: &KeyColumn, operands: Vec<Operand>) -> KeyPart {
    let known = table.columns.iter().find(|c| c.name == column.name);
    let typmod = known.and_then(|column| length_of(&column.stored_as));
    let family = column
        .family
        .or_else(|| known.and_then(|column| family_of(column.base_oid)));
    KeyPart {
        family,
        operands,
        chars_max: match family {
            Some(KeyFamily::Text | KeyFamily::Bpchar) => typmod.and_then(|n| n.parse().ok()),
            _ => None,
        },
        whole_seconds: matches!(family, Some(KeyFamily::Timestamp | KeyFamily::TimestampTz))
            && typmod.is_some(),
    }
}

/// The constant that a key column takes when the INSERT does not give it.
fn default_of(table: &Table, column: &KeyColumn) -> Result<Operand, RouteError> {
    let missing = |reason: &str| missing_key(table, column, reason);
    let Some(known) = table.columns.iter().find(|c| c.name == column.name) else {
        return Err(missing(
            "the INSERT does not give it and its default is not known",
        ));
    };
    if known.generated.is_some() {
        return Err(missing(
            "PostgreSQL generates it, and only after the row's shard is chosen",
        ));
    }
    let one = |constant, given| Operand::One {
        constant,
        negative: false,
        given,
    };
    let Some(default) = known.default.as_deref() else {
        if known.base_oid != known.type_oid {
            return Err(missing(
                "its type is a domain, which may have a default of its own",
            ));
        }
        // NULL: bucket 0; where the column forbids it, PostgreSQL says so.
        return Ok(one(Constant::Null, ConstantType::Context));
    };
    constant_default(default).ok_or_else(|| {
        missing("its default is computed by PostgreSQL, and only after the row's shard is chosen")
    })
}

/// `'x'::text`, `7`, `'7'::bigint`, `true`, `NULL::text`, as pg_get_expr prints constants.
fn constant_default(default: &str) -> Option<Operand> {
    let (value, given) = match default.rsplit_once("::") {
        Some((value, data_type)) if !data_type.contains('\'') => {
            (value, key::type_named(data_type))
        }
        _ => (default, ConstantType::Context),
    };
    if given == ConstantType::Other {
        return None;
    }
    let constant = if let Some(body) = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
    {
        if body.replace("''", "").contains('\'') || body.contains('\\') {
            return None;
        }
        Constant::Text(body.replace("''", "'"))
    } else if value.eq_ignore_ascii_case("null") {
        Constant::Null
    } else if value == "true" || value == "false" {
        Constant::Bool(value == "true")
    } else {
        let digits = value.trim_start_matches('(').trim_end_matches(')');
        let number = digits.strip_prefix('-').unwrap_or(digits);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        return Some(Operand::One {
            constant: Constant::Number(number.to_owned()),
            negative: digits.starts_with('-'),
            given,
        });
    };
    Some(Operand::One {
        constant,
        negative: false,
        given,
    })
}

// ---- other statements ----

fn explain(
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
    if !analyze {
        recipe.access = Access::Read;
        recipe.pin = None;
    }
    Ok(recipe)
}

/// A cursor over several shards is a merged portal: the session runs the query's own text.
fn declare(
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
        let parsed = crate::statement::parse::parse(inner, Verb::Select);
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
    Ok(recipe)
}

fn cursor_refused() -> RouteError {
    RouteError::OneShardOnly {
        what: "DECLARE".to_owned(),
        reason: "The query's own text is not understood".to_owned(),
    }
}

fn copy(copy: &Copy, context: &Context<'_>) -> Result<Recipe, RouteError> {
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
                    Ok(schema::fixed(PlanKind::Single, holders, access, tables))
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

fn truncate(tables: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
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
    let tables: Arc<[TableName]> = names.into();
    if needed.len() > 1 {
        let reason = "TRUNCATE would empty its part on every shard".to_owned();
        return Err(RouteError::ManyShardWrite {
            table: names_of(&tables),
            reason,
        });
    }
    Ok(schema::fixed(
        PlanKind::Single,
        needed,
        Access::Write,
        tables,
    ))
}

fn lock(tables: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
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

fn call(function: &Name, args: &[Expr], context: &Context<'_>) -> Result<Recipe, RouteError> {
    let _ = args;
    let schemas: Vec<&str> = match &function.schema {
        Some(schema) => vec![schema],
        None => context.search_path.iter().map(String::as_str).collect(),
    };
    for schema in schemas {
        let key = TableName {
            schema: schema.to_owned(),
            name: function.name.clone(),
        };
        let declared = context
            .database
            .functions
            .get(&key)
            .into_iter()
            .flatten()
            .find_map(|f| f.declared.as_ref());
        if let Some(FunctionDeclaration::Touches { reads, writes }) = declared {
            let mut needed = ShardSet::new();
            let mut allowed: Option<ShardSet> = None;
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
            if needed.is_empty() {
                needed.insert(
                    allowed
                        .as_ref()
                        .and_then(|a| a.iter().next())
                        .map_or_else(|| context.home(), Ok)?,
                );
            }
            if needed.only().is_some()
                && allowed.is_none_or(|a| needed.iter().all(|shard| a.contains(shard)))
            {
                let mut recipe =
                    schema::fixed(PlanKind::Single, needed, Access::Write, Arc::from([]));
                recipe.pin = Some(Pin::Opaque);
                return Ok(recipe);
            }
        }
    }
    Err(RouteError::OneShardOnly {
        what: "CALL".to_owned(),
        reason: format!(
            "What procedure {} reads and writes is not known",
            function.name
        ),
    })
}

// ---- functions ----

/// What a statement's calls ask for together.
#[derive(Debug)]
struct CallTraits {
    home: Home,
    /// A call whose value differs between shards.
    unmergeable: Option<String>,
    pin: Option<Pin>,
    set_config: bool,
    /// Write: moves sequences, notifies or calls a declared function that writes. Lock: advisory locks.
    access: Access,
    /// A function that may touch anything, and why.
    undeclared: Option<(String, &'static str)>,
    /// A name that nothing is known of.
    unknown: bool,
    /// A function that works on one shard's rows.
    per_shard: Option<String>,
    touches: Vec<(Vec<TableName>, Vec<TableName>)>,
}

/// What calls ask of the home shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Home {
    /// Nothing.
    Anywhere,
    /// Without tables the statement goes there.
    Preferred,
    /// They work there only (advisory locks, NOTIFY, catalog lookups).
    Needed,
}

impl CallTraits {
    fn of(calls: &[Call]) -> Self {
        let mut traits = Self {
            home: Home::Anywhere,
            unmergeable: None,
            pin: None,
            set_config: false,
            access: Access::Read,
            undeclared: None,
            unknown: false,
            per_shard: None,
            touches: Vec::new(),
        };
        for call in calls {
            traits.add(call);
        }
        traits
    }

    fn add(&mut self, call: &Call) {
        let mut differs = true;
        match &call.effect {
            CallEffect::BuiltIn(effect) => {
                differs = !matches!(effect, Effect::Pure | Effect::Stable)
                    && (*effect != Effect::Now || call.output);
                self.add_built_in(*effect, &call.name);
            }
            CallEffect::Unknown => {
                self.unknown = true;
                self.home = self.home.max(Home::Preferred);
            }
            CallEffect::Undeclared => {
                let why = "it is not IMMUTABLE, so it may read or write other tables";
                self.undeclared = Some((call.name.clone(), why));
            }
            CallEffect::Declared(FunctionDeclaration::PerShard, volatile) => {
                self.per_shard = Some(call.name.clone());
                if *volatile {
                    self.access = Access::Write;
                }
            }
            CallEffect::Declared(FunctionDeclaration::Touches { reads, writes }, _) => {
                if !writes.is_empty() {
                    self.access = Access::Write;
                }
                self.home = self.home.max(Home::Preferred);
                self.touches.push((reads.clone(), writes.clone()));
            }
        }
        if differs {
            self.unmergeable.get_or_insert_with(|| call.name.clone());
        }
    }

    fn add_built_in(&mut self, effect: Effect, name: &str) {
        let lock = |access: Access| {
            if access == Access::Read {
                Access::Lock
            } else {
                access
            }
        };
        let home = match effect {
            Effect::Pure | Effect::Stable | Effect::Now | Effect::SetValue | Effect::Server => {
                Home::Anywhere
            }
            Effect::Volatile | Effect::NextValue | Effect::SessionValue | Effect::SetConfig => {
                Home::Preferred
            }
            Effect::Catalog
            | Effect::AdvisoryTransaction
            | Effect::AdvisorySession
            | Effect::Notify => Home::Needed,
        };
        self.home = self.home.max(home);
        match effect {
            Effect::Pure | Effect::Stable | Effect::Now | Effect::Catalog | Effect::Volatile => {}
            Effect::NextValue | Effect::Notify => self.access = Access::Write,
            Effect::SetValue => {
                self.undeclared = Some((
                    name.to_owned(),
                    "it would move the sequence of one shard only",
                ));
            }
            Effect::SessionValue => self.pin = self.pin.or(Some(Pin::SessionFunction)),
            Effect::AdvisoryTransaction => self.access = lock(self.access),
            Effect::AdvisorySession => {
                self.access = lock(self.access);
                self.pin = Some(Pin::AdvisoryLock);
            }
            Effect::SetConfig => self.set_config = true,
            Effect::Server => {
                let why = "it acts on one server, or reads what the router cannot see";
                self.undeclared = Some((name.to_owned(), why));
            }
        }
    }

    fn refuse(&self) -> Result<(), RouteError> {
        match &self.undeclared {
            None => Ok(()),
            Some((name, reason)) => Err(RouteError::Function {
                name: name.clone(),
                reason: (*reason).to_owned(),
                hint:
                    "Declare it in [functions], make it IMMUTABLE if it is, or name the shard with \
                       /* keyway: shard=… */."
                        .to_owned(),
            }),
        }
    }
}

/// What a bound statement's calls ask for, those included that it does not name.
fn traits_of(binder: &mut Binder<'_>, context: &Context<'_>) -> CallTraits {
    implied::add_calls(binder, context);
    CallTraits::of(&binder.calls)
}

fn access_of(binder: &Binder<'_>, traits: &CallTraits) -> Access {
    if binder.writes || traits.access == Access::Write {
        Access::Write
    } else if binder.locking || traits.access == Access::Lock {
        Access::Lock
    } else {
        Access::Read
    }
}

// ---- names ----

fn table_names(analysis: &Analysis) -> Arc<[TableName]> {
    let names: BTreeSet<&TableName> = analysis
        .sharded
        .iter()
        .map(|placed| &placed.table.name)
        .chain(analysis.others.iter().map(|(table, _)| &table.name))
        .collect();
    names.into_iter().cloned().collect()
}

pub(crate) fn names_of(tables: &[TableName]) -> String {
    tables
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(crate) fn key_names(key: &[KeyColumn]) -> String {
    key.iter()
        .map(|column| column.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
