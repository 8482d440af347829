//! Schema changes: on every shard of the keyspace or on none, and only what each shard can hold alone.

use crate::route::bind::Binder;
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::bind::constants::operand;
use crate::route::bind::tables::{Found, find_table};
use crate::route::builtin::{Effect, OF_EACH_ROW};
use crate::route::choose::calls::traits_of;
use crate::route::choose::context::Context;
use crate::route::choose::names::{key_names, listed, names_of};
use crate::route::clock::fixes_time;
use crate::route::error::RouteError;
use crate::route::keep::{Changes, NotKept};
use crate::route::key::{ConstantType, type_named};
use crate::route::pins::{self, key_of};
use crate::route::plan::{Access, Pin, PlanKind, ShardSet};
use crate::route::recipe::{Recipe, Route};
use crate::route::temporary::{self, is_temporary};
use crate::statement::tree::{
    AlterAction, Becomes, ColumnDefinition, CreateTable, Ddl, Expr, Name, Query, TableConstraint,
};
use crate::topology::build::UUID_GENERATORS;
use crate::topology::ranges::{Fix, identifier, literal, owned_by, quoted_name, range_block};
use crate::topology::{KeyColumn, KeyFamily, KeyspaceId, Placement, ShardId, Table, TableName};
use smallvec::SmallVec;
use std::sync::Arc;

/// A recipe that does not depend on values.
pub(crate) fn fixed(
    kind: PlanKind,
    shards: ShardSet,
    access: Access,
    tables: Arc<[TableName]>,
) -> Recipe {
    let reason = match kind {
        PlanKind::Broadcast => "every shard of the keyspace",
        PlanKind::Any => "every shard has a copy",
        PlanKind::Single | PlanKind::Scatter => "one shard has it all",
    };
    Recipe {
        route: Route::Fixed {
            kind,
            shards,
            after: Vec::new(),
        },
        access,
        tables,
        pin: None,
        set_config: false,
        outside_transaction: false,
        reason: reason.to_owned(),
        makes: None,
        makes_temporary: None,
        keeps: Err(NotKept::Utility),
        changes: match access {
            Access::Read | Access::Lock | Access::Upkeep => Changes::Nothing,
            Access::Write | Access::Schema => Changes::Everything,
        },
        untyped: SmallVec::new(),
    }
}

/// On every shard of a set.
fn everywhere(shards: ShardSet, tables: Arc<[TableName]>) -> Recipe {
    let kind = if shards.len() > 1 {
        PlanKind::Broadcast
    } else {
        PlanKind::Single
    };
    fixed(kind, shards, Access::Schema, tables)
}

/// VACUUM, ANALYZE and kin: every shard for itself.
pub(crate) fn maintenance(tables: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
    let mut shards = ShardSet::new();
    for name in tables {
        match find_table(context, name)? {
            Found::Table(table) | Found::View(table, _) => {
                shards.union_with(&context.shards(table.keyspace))
            }
            Found::Catalog => shards.union_with(&context.all_shards()),
        }
    }
    if tables.is_empty() {
        shards = context.all_shards();
    }
    Ok(everywhere(shards, listed(context, tables)))
}

/// No plan depends on it. Nor do answers, unless a broken index is built anew: then they may be others.
pub(crate) fn upkeep(recipe: &mut Recipe, rebuilds: bool) {
    recipe.access = Access::Upkeep;
    recipe.changes = if rebuilds {
        Changes::Everything
    } else {
        Changes::Nothing
    };
}

/// What a schema change that goes to one chosen shard means for the session.
pub(crate) fn forced(ddl: &Ddl, context: &Context<'_>, recipe: &mut Recipe) {
    let mut names = Vec::new();
    if is_temporary(context) {
        recipe.pin = Some(Pin::TemporaryTable);
    }
    match ddl {
        Ddl::CreateTable(create) => {
            if recipe.pin.is_none()
                && let Ok(Found::Table(table)) = find_table(context, &create.name)
                && let Route::Fixed { shards, after, .. } = &mut recipe.route
                && matches!(table.placement, Placement::Sharded { .. })
                && create.columns.iter().any(has_sequence)
            {
                *after = ranges(context, shards, &owned_by(&table.name), &Fix::Set);
            }
            names.push(create.name.clone());
        }
        Ddl::CreateAs { name, .. } => names.push(name.clone()),
        Ddl::AlterTable { table, .. } => names.push(table.clone()),
        Ddl::CreateIndex {
            table,
            concurrently,
            ..
        } => {
            recipe.outside_transaction = *concurrently;
            names.push(table.clone());
        }
        Ddl::Drop {
            kind,
            names: dropped,
            concurrently,
        } => {
            recipe.outside_transaction = *concurrently;
            if matches!(kind.as_str(), "table" | "view" | "materialized view") {
                names.extend(dropped.iter().cloned());
            }
        }
        Ddl::Other { tables, .. } => names.extend(tables.iter().cloned()),
    }
    recipe.tables = listed(context, &names);
    temporary::note(ddl, context, recipe);
}

/// Decides where a schema change goes.
pub(crate) fn recipe(ddl: &Ddl, context: &Context<'_>) -> Result<Recipe, RouteError> {
    if is_temporary(context) {
        return Err(temporary());
    }
    let mut recipe = changed(ddl, context)?;
    temporary::note(ddl, context, &mut recipe);
    if recipe.shards().len() > 1 && fixes_time(ddl, context) {
        return Err(RouteError::Schema {
            what: "a time that each shard would take from its own clock".to_owned(),
            reason: "A literal like 'now' and a partition's bound become constants when the schema is changed, and every \
                     shard changes it at another moment"
                .to_owned(),
            hint: "Write the time itself, or now() in a default for the time of each row.".to_owned(),
        });
    }
    Ok(recipe)
}

fn changed(ddl: &Ddl, context: &Context<'_>) -> Result<Recipe, RouteError> {
    match ddl {
        Ddl::CreateTable(create) => create_table(create, context),
        Ddl::AlterTable { table, actions } => alter_table(table, actions, context),
        Ddl::CreateIndex {
            table,
            unique,
            columns,
            concurrently,
        } => {
            let found = table_of(table, context)?;
            let mut late = false;
            if *unique {
                let plain: Vec<String> = columns.iter().flatten().cloned().collect();
                let shown: Vec<&str> = columns
                    .iter()
                    .map(|c| c.as_deref().unwrap_or("(…)"))
                    .collect();
                unique_over_shards(&found, "UNIQUE INDEX", &plain, &shown.join(", "), &[])?;
                late = relies_on_defaults(&found, &plain);
            }
            let shards = context.shards(found.keyspace);
            let mut recipe = everywhere(shards.clone(), Arc::from([found.name.clone()]));
            if late && *concurrently {
                return Err(RouteError::Schema {
                    what: "CREATE UNIQUE INDEX CONCURRENTLY without the sharding key".to_owned(),
                    reason: format!(
                        "Table {} may have rows on several shards, and each shard would compare its own only",
                        found.name
                    ),
                    hint: "Create it without CONCURRENTLY while the table is empty.".to_owned(),
                });
            }
            if late && let Route::Fixed { after, .. } = &mut recipe.route {
                *after = while_empty(&shards, &found.name);
            }
            recipe.outside_transaction = *concurrently;
            Ok(recipe)
        }
        Ddl::Drop {
            kind,
            names,
            concurrently,
        } => {
            let mut recipe = drop_objects(kind, names, context)?;
            recipe.outside_transaction = *concurrently;
            Ok(recipe)
        }
        Ddl::CreateAs { kind, name, query } => create_as(kind, name, query, context),
        Ddl::Other {
            what,
            tables,
            name,
            becomes,
        } => {
            relation_keeps_apart(what, name.as_ref(), becomes.as_ref(), context)?;
            other(what, tables, name.as_ref(), context)
        }
    }
}

/// A table that is not a system catalog.
fn table_of(name: &Name, context: &Context<'_>) -> Result<Arc<Table>, RouteError> {
    match find_table(context, name)? {
        Found::Table(table) | Found::View(table, _) => Ok(table),
        Found::Catalog => Err(RouteError::OneShardOnly {
            what: "a change of a system catalog".to_owned(),
            reason: format!("Catalog {}", name.name),
        }),
    }
}

fn create_table(create: &CreateTable, context: &Context<'_>) -> Result<Recipe, RouteError> {
    let table = match find_table(context, &create.name) {
        Ok(Found::Table(table)) => table,
        Ok(Found::View(table, _)) => table,
        Ok(Found::Catalog) => {
            return Err(RouteError::OneShardOnly {
                what: "CREATE TABLE".to_owned(),
                reason: format!("{} is the name of a system catalog", create.name.name),
            });
        }
        // A partition lives where its parent does.
        Err(unlisted) => match create
            .columns_from
            .as_ref()
            .map(|parent| find_table(context, parent))
        {
            Some(Ok(Found::Table(parent))) if parent.kind == 'p' => parent,
            _ => return Err(unlisted),
        },
    };
    let shards = context.shards(table.keyspace);
    let mut recipe = everywhere(shards.clone(), Arc::from([table.name.clone()]));
    let Placement::Sharded { key } = &table.placement else {
        if table.placement == Placement::Reference {
            reference_constraints(&table, create, context)?;
        }
        return Ok(recipe);
    };
    let mut key_to_see = false;
    for column in key {
        match create
            .columns
            .iter()
            .find(|definition| definition.name == column.name)
        {
            Some(definition) => key_to_see |= key_type(&table, definition)?,
            None if create.columns_from.is_some() => key_to_see = true,
            None => {
                return Err(RouteError::Schema {
                    what: "a table without its sharding key".to_owned(),
                    reason: format!("Table {} is sharded by {}", table.name, key_names(key)),
                    hint: "Add the column, or change the key in the configuration.".to_owned(),
                });
            }
        }
    }
    for column in &create.columns {
        narrow_sequence(&table, column)?;
        for constraint in &column.constraints {
            constraint_holds(&table, constraint, &create.columns, context)?;
        }
    }
    for constraint in &create.constraints {
        constraint_holds(&table, constraint, &create.columns, context)?;
    }
    let created = created(create, context);
    let mut blocks = Vec::new();
    if key_to_see {
        let block = key_block(&created, key);
        blocks.extend(shards.iter().map(|shard| (shard, block.clone())));
    }
    if create.columns.iter().any(has_sequence) {
        blocks.extend(ranges(context, &shards, &owned_by(&created), &Fix::Set));
    }
    if let Route::Fixed { after, .. } = &mut recipe.route {
        *after = blocks;
    }
    Ok(recipe)
}

/// The full name of a table that is being created.
fn created(create: &CreateTable, context: &Context<'_>) -> TableName {
    TableName {
        schema: schema_created_in(&create.name, context),
        name: create.name.name.clone(),
    }
}

fn temporary() -> RouteError {
    RouteError::OneShardOnly {
        what: "a temporary table or other temporary object".to_owned(),
        reason: "It lives on one server".to_owned(),
    }
}

/// A reference table may refer to other reference tables only.
fn reference_constraints(
    table: &Table,
    create: &CreateTable,
    context: &Context<'_>,
) -> Result<(), RouteError> {
    let all = create
        .columns
        .iter()
        .flat_map(|column| &column.constraints)
        .chain(&create.constraints);
    for constraint in all {
        constraint_holds(table, constraint, &create.columns, context)?;
    }
    Ok(())
}

/// What a sharding key may be.
const KEY_TYPES: &str =
    "Use an integer, text, uuid, boolean, date, timestamp or bytea column as the sharding key.";

/// Is the key's type one whose equality is equality of bytes? True when only a server can tell: what a type of the
/// user's own is made of, how a collation compares.
fn key_type(table: &Table, column: &ColumnDefinition) -> Result<bool, RouteError> {
    let base = column
        .data_type
        .split('(')
        .next()
        .unwrap_or_default()
        .trim();
    let array = column.data_type.ends_with(']');
    if !array && (is_serial(base) || column.data_type.ends_with("time zone")) {
        return Ok(false);
    }
    let family = type_named(base);
    if let (ConstantType::Family(family), false) = (family, array) {
        return Ok(matches!(family, KeyFamily::Text | KeyFamily::Bpchar));
    }
    let built_in = [
        "numeric",
        "decimal",
        "dec",
        "real",
        "float",
        "float4",
        "float8",
        "double precision",
        "json",
        "jsonb",
        "citext",
    ];
    if !built_in.contains(&base) && !array {
        return Ok(true);
    }
    Err(RouteError::Schema {
        what: format!("a sharding key of type {base}"),
        reason: format!(
            "Column {} of table {}: equal values of the type may have different bytes",
            column.name, table.name
        ),
        hint: KEY_TYPES.to_owned(),
    })
}

/// A block that fails when a key column of the new table has a type, or a collation, that is none for a key.
fn key_block(table: &TableName, key: &[KeyColumn]) -> String {
    let names: Vec<String> = key.iter().map(|column| literal(&column.name)).collect();
    let types: Vec<String> = KeyFamily::OIDS.iter().map(u32::to_string).collect();
    format!(
        "DO $keyway$ DECLARE k record; BEGIN SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type \
         INTO k FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname IN ({}) \
         AND (coalesce(NOT c.collisdeterministic, false) OR NOT EXISTS (WITH RECURSIVE base(oid) AS (SELECT a.atttypid \
         UNION SELECT t.typbasetype FROM base JOIN pg_catalog.pg_type t ON t.oid = base.oid AND t.typtype = 'd') \
         SELECT FROM base WHERE base.oid IN ({}))) LIMIT 1; IF FOUND THEN RAISE EXCEPTION USING ERRCODE = '0A000', \
         MESSAGE = pg_catalog.concat({}, k.type), DETAIL = pg_catalog.concat({}, k.attname, {}), HINT = {}; END IF; END \
         $keyway$",
        quoted_name(&table.schema, &table.name),
        names.join(", "),
        types.join(", "),
        literal("a sharding key cannot have the type or collation of this column: "),
        literal("Column "),
        literal(&format!(
            " of table {table}: equal values may have different bytes, or the same value other bytes on another shard"
        )),
        literal(KEY_TYPES),
    )
}

fn has_sequence(column: &ColumnDefinition) -> bool {
    column.identity || is_serial(&column.data_type)
}

fn is_serial(data_type: &str) -> bool {
    matches!(
        data_type,
        "serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2"
    )
}

/// smallint has too few values to be cut into ranges.
fn narrow_sequence(table: &Table, column: &ColumnDefinition) -> Result<(), RouteError> {
    let small = matches!(column.data_type.as_str(), "smallserial" | "serial2")
        || (column.identity && matches!(column.data_type.as_str(), "smallint" | "int2"));
    if small {
        return Err(RouteError::Schema {
            what: "a smallint sequence".to_owned(),
            reason: format!(
                "Column {} of table {}: its values cannot be divided among shards",
                column.name, table.name
            ),
            hint: "Use bigserial or bigint GENERATED AS IDENTITY.".to_owned(),
        });
    }
    Ok(())
}

/// Can each shard hold the constraint alone?
fn constraint_holds(
    table: &Table,
    constraint: &TableConstraint,
    definitions: &[ColumnDefinition],
    context: &Context<'_>,
) -> Result<(), RouteError> {
    match constraint {
        TableConstraint::Local => Ok(()),
        TableConstraint::PrimaryKey(columns) => unique_over_shards(
            table,
            "PRIMARY KEY",
            columns,
            &columns.join(", "),
            definitions,
        ),
        TableConstraint::Unique(columns) => {
            unique_over_shards(table, "UNIQUE", columns, &columns.join(", "), definitions)
        }
        TableConstraint::Exclude(columns) => {
            unique_over_shards(table, "EXCLUDE", columns, &columns.join(", "), definitions)
        }
        TableConstraint::ForeignKey {
            columns,
            table: referenced,
            references,
            on_update_changes,
            on_delete_sets,
        } => {
            let key = ForeignKey {
                columns,
                referenced,
                references,
            };
            let changes = *on_update_changes || *on_delete_sets;
            key.holds(table, changes, context)
        }
    }
}

/// A unique constraint must contain the sharding key, or be unique by construction, or trusted.
fn unique_over_shards(
    table: &Table,
    kind: &str,
    columns: &[String],
    shown: &str,
    definitions: &[ColumnDefinition],
) -> Result<(), RouteError> {
    let Placement::Sharded { key } = &table.placement else {
        return Ok(());
    };
    if key.iter().all(|k| columns.contains(&k.name)) {
        return Ok(());
    }
    let exclude = kind == "EXCLUDE";
    let constructed = |name: &String| match definitions
        .iter()
        .find(|definition| definition.name == *name)
    {
        Some(definition) => has_sequence(definition) || random_uuid(definition),
        None => table
            .columns
            .iter()
            .any(|column| column.name == *name && column.unique_by_construction),
    };
    if (!exclude && columns.iter().any(constructed)) || trusted(table, columns) {
        return Ok(());
    }
    Err(RouteError::Constraint {
        table: table.name.to_string(),
        constraint: format!("{kind} ({shown})"),
        hint: format!(
            "Add the sharding key ({}) to it, use a generated column (bigserial, identity, uuid DEFAULT \
             gen_random_uuid()), or trust it with trust = [\"{}\"] in the table's configuration.",
            key_names(key),
            columns.join(",")
        ),
    })
}

fn trusted(table: &Table, columns: &[String]) -> bool {
    let mut sorted: Vec<&str> = columns.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    table.trust.iter().any(|trust| {
        let mut trusted: Vec<&str> = trust.split(',').map(str::trim).collect();
        trusted.sort_unstable();
        trusted == sorted
    })
}

/// Is what makes a permitted UNIQUE of these columns right that nobody gives one of them another value than its default?
fn relies_on_defaults(table: &Table, columns: &[String]) -> bool {
    match &table.placement {
        Placement::Sharded { key } => {
            !key.iter().all(|k| columns.contains(&k.name)) && !trusted(table, columns)
        }
        Placement::Reference | Placement::Unsharded => false,
    }
}

/// Does a table that is created rely on the defaults of its columns?
pub(crate) fn created_relies_on_defaults(create: &CreateTable, table: &Table) -> bool {
    let of_columns = create.columns.iter().flat_map(|column| &column.constraints);
    let mut constraints = create.constraints.iter().chain(of_columns);
    constraints.any(|constraint| match constraint {
        TableConstraint::PrimaryKey(columns) | TableConstraint::Unique(columns) => {
            relies_on_defaults(table, columns)
        }
        _ => false,
    })
}

/// A block for each shard that fails where the table has rows: before they had to be unique, anything could be given.
fn while_empty(shards: &ShardSet, table: &TableName) -> Vec<(ShardId, String)> {
    let block = format!(
        "DO $keyway$ BEGIN IF EXISTS (SELECT FROM {}.{}) THEN RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = {}, \
         DETAIL = {}, HINT = {}; END IF; END $keyway$",
        identifier(&table.schema),
        identifier(&table.name),
        literal("a constraint without the sharding key cannot be added to a table that has rows"),
        literal(&format!(
            "Rows of table {table} are spread over shards by the sharding key, and PostgreSQL compares those of one shard only"
        )),
        literal(
            "Add the constraint while the table is empty, make the sharding key part of it, or vouch for its columns \
             with trust in the table's configuration."
        ),
    );
    let shards = shards.iter().filter(|_| shards.len() > 1);
    shards.map(|shard| (shard, block.clone())).collect()
}

/// `uuid DEFAULT gen_random_uuid()`
fn random_uuid(column: &ColumnDefinition) -> bool {
    let random = |call: &crate::statement::tree::FunctionCall| {
        UUID_GENERATORS.contains(&call.name.name.as_str())
    };
    column.data_type == "uuid"
        && matches!(&column.default, Some(Expr::Function(call)) if random(call))
}

/// A foreign key.
struct ForeignKey<'a> {
    columns: &'a [String],
    referenced: &'a Name,
    references: &'a [String],
}

impl ForeignKey<'_> {
    /// Colocated (key to key), or to a reference table.
    fn holds(&self, table: &Table, changes: bool, context: &Context<'_>) -> Result<(), RouteError> {
        if table.placement == Placement::Unsharded {
            return Ok(());
        }
        let refused = |hint: &str| RouteError::Constraint {
            table: table.name.to_string(),
            constraint: format!("FOREIGN KEY ({})", self.columns.join(", ")),
            hint: hint.to_owned(),
        };
        let itself = self.referenced.name == table.name.name
            && self
                .referenced
                .schema
                .as_ref()
                .is_none_or(|schema| *schema == table.name.schema);
        let target = if itself {
            None
        } else {
            Some(table_of(self.referenced, context)?)
        };
        let target = target.as_deref().unwrap_or(table);
        if target.keyspace != table.keyspace {
            return Err(refused(
                "The tables are in different keyspaces: keep the reference in the application.",
            ));
        }
        let key = key_of(table);
        if changes
            && self
                .columns
                .iter()
                .any(|column| key.iter().any(|k| k.name == *column))
        {
            return Err(refused(
                "Its ON UPDATE or ON DELETE action would change the sharding key: use NO ACTION.",
            ));
        }
        let Placement::Sharded { key: target_key } = &target.placement else {
            return Ok(());
        };
        let wanted =
            "Make the sharding key part of it on both sides, or refer to a reference table.";
        if key.is_empty() || key.len() != target_key.len() {
            return Err(refused(wanted));
        }
        let colocated = key.iter().zip(target_key).all(|(own, other)| {
            let at = self.columns.iter().position(|column| *column == own.name);
            let same_family =
                own.family == other.family || own.family.is_none() || other.family.is_none();
            same_family
                && match (at, self.references.is_empty()) {
                    (Some(at), false) => self.references.get(at) == Some(&other.name),
                    // The primary key of the other table: its key, when both are one column.
                    (Some(_), true) => self.columns.len() == 1 && target_key.len() == 1,
                    (None, _) => false,
                }
        });
        if colocated {
            Ok(())
        } else {
            Err(refused(wanted))
        }
    }
}

/// An expression that fills the rows there are: every shard computes it for its own rows, in a transaction of its own.
/// What is another value for each row anyway may be computed anywhere.
fn computed_alike(
    table: &Table,
    what: &str,
    expr: &Expr,
    context: &Context<'_>,
) -> Result<(), RouteError> {
    if context.shards(table.keyspace).len() < 2 {
        return Ok(());
    }
    let mut binder = Binder::new(context);
    binder.alone(std::slice::from_ref(expr))?;
    traits_of(&mut binder, context).refuse()?;
    let alike = |call: &&Call| match call.effect {
        CallEffect::BuiltIn(Effect::Pure | Effect::Stable | Effect::NextValue) => true,
        CallEffect::BuiltIn(Effect::Volatile) => OF_EACH_ROW.contains(&call.name.as_str()),
        _ => false,
    };
    match binder.calls.iter().find(|call| !alike(call)) {
        None => Ok(()),
        Some(call) => Err(RouteError::Schema {
            what: format!("{what} with {}()", call.name),
            reason: format!(
                "Each shard would fill its rows of table {} with a value of its own",
                table.name
            ),
            hint: "Use a constant here; SET DEFAULT may follow for rows that are inserted later."
                .to_owned(),
        }),
    }
}

fn alter_table(
    name: &Name,
    actions: &[AlterAction],
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let table = table_of(name, context)?;
    let shards = context.shards(table.keyspace);
    let mut recipe = everywhere(shards.clone(), Arc::from([table.name.clone()]));
    if table.placement == Placement::Unsharded && !context.is_spread(table.keyspace) {
        for action in actions {
            let (schema, name) = match action {
                AlterAction::RenameTable(name) => (&table.name.schema, name),
                AlterAction::SetSchema(schema) => (schema, &table.name.name),
                _ => continue,
            };
            name_is_free(schema, name, table.keyspace, context)?;
        }
        return Ok(recipe);
    }
    let key = key_of(&table);
    let refused = |what: &str, hint: &str| RouteError::Schema {
        what: what.to_owned(),
        reason: format!("Table {} is spread over shards", table.name),
        hint: hint.to_owned(),
    };
    let is_key = |column: &String| key.iter().any(|k| k.name == *column);
    let mut sequences = false;
    let mut late = false;
    for action in actions {
        match action {
            AlterAction::Local => {}
            AlterAction::AddColumn(column) => {
                sequences |= has_sequence(column);
                if table.placement == Placement::Reference && !same_on_all_copies(column) {
                    return Err(refused(
                        "ADD COLUMN with a computed default on a reference table",
                        "Each copy would compute values of its own: add the column without a default, then fill it \
                         with constants.",
                    ));
                }
                if let Some(default) = &column.default {
                    computed_alike(&table, "ADD COLUMN … DEFAULT", default, context)?;
                }
                narrow_sequence(&table, column)?;
                for constraint in &column.constraints {
                    constraint_holds(&table, constraint, std::slice::from_ref(column), context)?;
                }
            }
            AlterAction::AddConstraint(constraint) => {
                constraint_holds(&table, constraint, &[], context)?;
                late |= match constraint {
                    TableConstraint::PrimaryKey(columns) | TableConstraint::Unique(columns) => {
                        relies_on_defaults(&table, columns)
                    }
                    _ => false,
                };
            }
            AlterAction::DropColumn(column) | AlterAction::AlterType(column, _)
                if is_key(column) =>
            {
                return Err(refused(
                    "changing the sharding key's column",
                    "Create a new table and copy the rows.",
                ));
            }
            AlterAction::RenameColumn(column, _) if is_key(column) => {
                return Err(refused(
                    "renaming the sharding key's column",
                    "Keep its name, or create a new table.",
                ));
            }
            AlterAction::AlterType(_, Some(using)) => {
                computed_alike(&table, "ALTER COLUMN … TYPE … USING", using, context)?;
            }
            AlterAction::DropColumn(_)
            | AlterAction::AlterType(_, None)
            | AlterAction::SetDefault(..)
            | AlterAction::RenameColumn(..) => {}
            AlterAction::RenameTable(_) | AlterAction::SetSchema(_) => {
                return Err(refused(
                    "renaming a table that the configuration lists",
                    "Create a table of the new name, list it, and copy the rows.",
                ));
            }
            AlterAction::Other => {
                return Err(refused(
                    "this ALTER TABLE",
                    "Run it shard by shard with /* keyway: shard=… */ if each shard can do it alone.",
                ));
            }
        }
    }
    if let (true, Route::Fixed { after, .. }) = (late, &mut recipe.route) {
        *after = while_empty(&shards, &table.name);
    }
    if sequences && table.placement != Placement::Reference {
        let ranges = ranges(
            context,
            &shards,
            &owned_by(&table.name),
            &Fix::SetIfEmpty(table.name.clone()),
        );
        if let Route::Fixed { after, .. } = &mut recipe.route {
            after.extend(ranges);
        }
    }
    Ok(recipe)
}

/// A name finds one table in the whole database: what took the name of another keyspace's table could not be reached.
fn name_is_free(
    schema: &str,
    name: &str,
    keyspace: KeyspaceId,
    context: &Context<'_>,
) -> Result<(), RouteError> {
    let wanted = TableName {
        schema: schema.to_owned(),
        name: name.to_owned(),
    };
    match context.database.tables.get(&wanted) {
        Some(taken) if taken.keyspace != keyspace => Err(RouteError::NameTaken {
            name: wanted.to_string(),
            keyspace: context.keyspace_name(taken.keyspace).to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The same for what is no table: views and their like, and schemas, which take their tables along.
fn relation_keeps_apart(
    what: &str,
    name: Option<&Name>,
    becomes: Option<&Becomes>,
    context: &Context<'_>,
) -> Result<(), RouteError> {
    let (Some(name), Some(keyspace)) = (name, context.default_keyspace()) else {
        return Ok(());
    };
    let schema = || {
        let found = name.schema.clone().or_else(|| {
            let has = |schema: &&String| {
                let name = TableName {
                    schema: (*schema).clone(),
                    name: name.name.clone(),
                };
                context.database.tables.contains_key(&name)
            };
            context.search_path.iter().find(has).cloned()
        });
        found.unwrap_or_else(|| schema_created_in(name, context))
    };
    match (what, becomes) {
        ("CREATE FOREIGN TABLE", _) => {
            let schema = schema_created_in(name, context);
            name_is_free(&schema, &name.name, keyspace, context)
        }
        ("ALTER SCHEMA", Some(Becomes::Named(new))) => {
            let tables = context.database.tables.values();
            tables
                .filter(|table| table.name.schema == *new)
                .try_for_each(|table| name_is_free(new, &table.name.name, keyspace, context))
        }
        (
            "ALTER VIEW"
            | "ALTER MATERIALIZED VIEW"
            | "ALTER FOREIGN TABLE"
            | "ALTER INDEX"
            | "ALTER SEQUENCE",
            Some(becomes),
        ) => match becomes {
            Becomes::Named(new) => name_is_free(&schema(), new, keyspace, context),
            Becomes::InSchema(new) => name_is_free(new, &name.name, keyspace, context),
        },
        _ => Ok(()),
    }
}

/// The schema that a new object of this name is in.
fn schema_created_in(name: &Name, context: &Context<'_>) -> String {
    let first = || context.search_path.iter().find(|s| *s != "$user").cloned();
    let schema = name.schema.clone().or_else(first);
    schema.unwrap_or_else(|| "public".to_owned())
}

/// A default that gives every copy the same values.
fn same_on_all_copies(column: &ColumnDefinition) -> bool {
    !has_sequence(column)
        && column
            .default
            .as_ref()
            .is_none_or(|default| matches!(default, Expr::Null) || operand(default).is_some())
}

fn drop_objects(kind: &str, names: &[Name], context: &Context<'_>) -> Result<Recipe, RouteError> {
    let of_tables = matches!(
        kind,
        "table" | "view" | "materialized view" | "foreign table"
    );
    if cluster_wide(kind) {
        return Err(cluster_refused(&format!("DROP {}", kind.to_uppercase())));
    }
    let mut keyspaces: Vec<KeyspaceId> = Vec::new();
    let mut tables = Vec::new();
    for name in names {
        let keyspace = match find_table(context, name) {
            Ok(Found::Table(table) | Found::View(table, _)) if of_tables => {
                tables.push(table.name.clone());
                table.keyspace
            }
            _ if matches!(kind, "index" | "sequence") => keyspace_of_attached(name, context)?,
            // What nobody lists, an earlier configuration may have left on every shard.
            _ => default_keyspace(context)?,
        };
        if !keyspaces.contains(&keyspace) {
            keyspaces.push(keyspace);
        }
    }
    match keyspaces.as_slice() {
        [keyspace] => Ok(everywhere(context.shards(*keyspace), tables.into())),
        [] => Ok(everywhere(
            context.shards(default_keyspace(context)?),
            Arc::from([]),
        )),
        _ => Err(RouteError::Apart {
            tables: names_of(&tables),
            reason: "they are in different keyspaces".to_owned(),
        }),
    }
}

/// The keyspace of an index or a sequence. One that exists nowhere is missed by the default keyspace.
fn keyspace_of_attached(name: &Name, context: &Context<'_>) -> Result<KeyspaceId, RouteError> {
    let find = |schema: &str| {
        let name = TableName {
            schema: schema.to_owned(),
            name: name.name.clone(),
        };
        context.database.attached.get(&name)
    };
    let found = match &name.schema {
        Some(schema) => find(schema),
        None => context.search_path.iter().find_map(|schema| find(schema)),
    };
    match found.map(Vec::as_slice) {
        None | Some([]) => default_keyspace(context),
        Some([keyspace]) => Ok(*keyspace),
        Some(_) => Err(RouteError::Schema {
            what: format!("a change of {}", name.name),
            reason: "Several keyspaces have an index or a sequence of this name".to_owned(),
            hint: "Name the shard with /* keyway: shard=… */, one after the other.".to_owned(),
        }),
    }
}

fn default_keyspace(context: &Context<'_>) -> Result<KeyspaceId, RouteError> {
    context.default_keyspace().ok_or_else(|| RouteError::Schema {
        what: "a schema change without a table".to_owned(),
        reason: "The database has several keyspaces and no default".to_owned(),
        hint: "Set databases.….default in the configuration, or name the shard with /* keyway: shard=… */.".to_owned(),
    })
}

fn create_as(
    kind: &str,
    name: &Name,
    query: &Query,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let mut binder = Binder::new(context);
    let bound = binder.query(query)?;
    let analysis = pins::place(&binder, &bound);
    let mut keyspaces: Vec<KeyspaceId> = analysis
        .sharded
        .iter()
        .map(|placed| placed.table.keyspace)
        .chain(analysis.others.iter().map(|(table, _)| table.keyspace))
        .collect();
    keyspaces.sort_unstable();
    keyspaces.dedup();
    let keyspace = match keyspaces.as_slice() {
        [] => default_keyspace(context)?,
        [keyspace] => *keyspace,
        _ => {
            return Err(RouteError::Apart {
                tables: name.name.clone(),
                reason: "its query reads several keyspaces".to_owned(),
            });
        }
    };
    let shards = context.shards(keyspace);
    if shards.len() > 1 && kind != "view" {
        return Err(RouteError::Schema {
            what: format!("CREATE {} AS", kind.to_uppercase()),
            reason: "Each shard would hold the rows it computed itself".to_owned(),
            hint: "Create the table and fill it with INSERT.".to_owned(),
        });
    }
    if kind != "table" {
        let schema = schema_created_in(name, context);
        name_is_free(&schema, &name.name, keyspace, context)?;
    }
    if kind == "table" {
        // The new table must live where its rows are computed.
        let table = table_of(name, context)?;
        if table.keyspace != keyspace {
            return Err(RouteError::Apart {
                tables: name.name.clone(),
                reason: "its query reads another keyspace".to_owned(),
            });
        }
    }
    Ok(everywhere(
        shards,
        listed(context, std::slice::from_ref(name)),
    ))
}

/// SELECT … INTO is CREATE TABLE AS.
pub(crate) fn select_into(
    name: &Name,
    query: &Query,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    if is_temporary(context) {
        return Err(temporary());
    }
    create_as("table", name, query, context)
}

/// Objects of the whole PostgreSQL cluster, which shards may share.
fn cluster_wide(kind: &str) -> bool {
    matches!(
        kind,
        "database" | "role" | "user" | "group" | "tablespace" | "subscription" | "publication"
    )
}

fn cluster_refused(what: &str) -> RouteError {
    RouteError::Schema {
        what: what.to_owned(),
        reason: "It changes a PostgreSQL cluster, not one database".to_owned(),
        hint: "Run it on the servers themselves.".to_owned(),
    }
}

fn other(
    what: &str,
    tables: &[Name],
    name: Option<&Name>,
    context: &Context<'_>,
) -> Result<Recipe, RouteError> {
    let object = what
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .to_lowercase();
    if cluster_wide(&object) || what.starts_with("REASSIGN") || what.starts_with("ALTER SYSTEM") {
        return Err(cluster_refused(what));
    }
    if tables.is_empty() {
        let keyspace = match name {
            Some(name) if matches!(what, "ALTER INDEX" | "ALTER SEQUENCE") => {
                keyspace_of_attached(name, context)?
            }
            _ => default_keyspace(context)?,
        };
        let shards = context.shards(keyspace);
        let mut recipe = everywhere(shards.clone(), Arc::from([]));
        fix_range(&mut recipe, what, name, keyspace, context);
        return Ok(recipe);
    }
    let mut keyspaces: Vec<KeyspaceId> = Vec::new();
    let mut names = Vec::new();
    for name in tables {
        let table = table_of(name, context)?;
        keyspaces.push(table.keyspace);
        names.push(table.name.clone());
    }
    keyspaces.sort_unstable();
    keyspaces.dedup();
    match keyspaces.as_slice() {
        [keyspace] => {
            let mut recipe = everywhere(context.shards(*keyspace), names.into());
            fix_range(&mut recipe, what, name, *keyspace, context);
            Ok(recipe)
        }
        _ => Err(RouteError::Apart {
            tables: names_of(&names),
            reason: "they are in different keyspaces".to_owned(),
        }),
    }
}

// ---- sequences ----

/// A sequence that is made or changed by itself, whether or not a table's column owns it.
fn fix_range(
    recipe: &mut Recipe,
    what: &str,
    name: Option<&Name>,
    keyspace: KeyspaceId,
    context: &Context<'_>,
) {
    let fix = match what {
        "CREATE SEQUENCE" => Fix::Set,
        "ALTER SEQUENCE" => Fix::Check,
        _ => return,
    };
    if let (Some(name), true) = (name, context.is_spread(keyspace)) {
        let shards = context.shards(keyspace);
        if let Route::Fixed { after, .. } = &mut recipe.route {
            *after = ranges(context, &shards, &sequence_named(name), &fix);
        }
    }
}

/// A condition on `pg_class c` that finds one sequence, by the search path unless it names its schema.
fn sequence_named(name: &Name) -> String {
    let text = match &name.schema {
        Some(schema) => quoted_name(schema, &name.name),
        None => literal(&identifier(&name.name)),
    };
    format!("c.oid = {text}::pg_catalog.regclass")
}

/// One DO block per shard that gives its sequences the shard's own range.
fn ranges(
    context: &Context<'_>,
    shards: &ShardSet,
    which: &str,
    fix: &Fix,
) -> Vec<(ShardId, String)> {
    let mut after = Vec::new();
    for shard in shards.iter() {
        let Some(id) = context
            .topology
            .shards
            .get(usize::from(shard.0))
            .map(|shard| shard.stable_id)
        else {
            continue;
        };
        after.push((shard, range_block(id, which, fix)));
    }
    after
}
