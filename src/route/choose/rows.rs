//! The keys of the rows that an INSERT gives.

use crate::route::bind::constants::{Constant, Operand, array_operands, operand};
use crate::route::bind::stored::{is_overridden, length_of};
use crate::route::bind::tables::family_of;
use crate::route::choose::context::Context;
use crate::route::error::RouteError;
use crate::route::key::{self, ConstantType, Use};
use crate::route::pins::{KeyPart, KeySet, key_of};
use crate::statement::tree::{Expr, From, Insert, InsertSource, Item, Name, OnConflict, Select};
use crate::topology::{KeyColumn, KeyFamily, Table, TableName};
use smallvec::SmallVec;

/// PostgreSQL's types without columns that are no keys (manual, chapter 8), and those whose length makes them none.
const SCALARS: [&str; 26] = [
    "bit",
    "bit varying",
    "char",
    "character",
    "character varying",
    "cidr",
    "double precision",
    "float4",
    "float8",
    "inet",
    "interval",
    "json",
    "jsonb",
    "macaddr",
    "money",
    "numeric",
    "real",
    "time",
    "time with time zone",
    "time without time zone",
    "timestamp",
    "timestamp with time zone",
    "timestamp without time zone",
    "timetz",
    "timestamptz",
    "varchar",
];

/// What stands behind a foreign table may be of several shards.
pub(super) fn refuse_foreign_conflict(insert: &Insert, table: &Table) -> Result<(), RouteError> {
    match &insert.on_conflict {
        Some(OnConflict::Update { .. }) if table.kind == 'f' => Err(RouteError::OneShardOnly {
            what: "ON CONFLICT on a foreign table".to_owned(),
            reason: format!("Table {}", table.name),
        }),
        _ => Ok(()),
    }
}

/// The keys of the rows of INSERT … VALUES.
pub(super) fn insert_rows(insert: &Insert, table: &Table) -> Result<Vec<KeySet>, RouteError> {
    let positions = key_positions(insert, table)?;
    rows_of(insert)
        .into_iter()
        .map(|row| row_key(table, &positions, row))
        .collect()
}

/// The keys of the rows of INSERT … SELECT, when constants give them: `SELECT 42, title FROM …`,
/// `SELECT * FROM unnest('{42,42}'::bigint[], …)`. `all`: there must be no other rows, as NULLs behind a shorter array's
/// elements would be.
pub(super) fn query_keys(
    insert: &Insert,
    table: &Table,
    context: &Context<'_>,
    all: bool,
) -> Option<KeySet> {
    let InsertSource::Query(query) = &insert.source else {
        return None;
    };
    // ROLLUP and its kin make NULLs of what they group by.
    let select = query.select().filter(|select| !select.grouping_sets)?;
    let positions = key_positions(insert, table).ok()?;
    let mut parts = SmallVec::new();
    for (column, position) in key_of(table).iter().zip(positions) {
        let one = |operand| stored_part(table, column, vec![operand]);
        let all_listed = || {
            let mut items = select.items.iter();
            items.all(|item| matches!(item, Item::Expr { .. }))
        };
        parts.push(match position {
            None => one(default_of(table, column).ok()?),
            Some(at) if at >= select.items.len() && all_listed() => {
                one(default_of(table, column).ok()?)
            }
            Some(at) => match selected(select, at)? {
                Selected::Value(value) => one(operand(value)?),
                Selected::Each(function, array) => {
                    let part = stored_part(table, column, array_operands(array)?);
                    let known = table.columns.iter().find(|c| c.name == column.name);
                    let has_null = all && known.is_none_or(|column| !column.not_null);
                    let is_exact = part.family.is_some_and(|family| is_array_of(array, family));
                    if has_null || !is_exact || !is_unnest(function, context) {
                        return None;
                    }
                    part
                }
            },
        });
    }
    Some(KeySet {
        keyspace: table.keyspace,
        parts,
        usage: Use::Store,
    })
}

/// What a column of a SELECT is.
enum Selected<'t> {
    /// An expression.
    Value(&'t Expr),
    /// The elements of an argument of a function.
    Each(&'t Name, &'t Expr),
}

/// The `at`-th column of a SELECT.
fn selected(select: &Select, at: usize) -> Option<Selected<'_>> {
    let function = match select.from.as_slice() {
        [
            From::Function {
                name,
                args,
                alias,
                columns,
            },
        ] => Some((name, args, alias, columns)),
        _ => None,
    };
    let item = |item: &'_ Item| matches!(item, Item::Expr { .. });
    if !select.items.iter().take(at + 1).all(item) {
        let [Item::Star] = select.items.as_slice() else {
            return None;
        };
        let (name, args, ..) = function?;
        return Some(Selected::Each(name, argument(args, at)?));
    }
    let Some(Item::Expr { expr, .. }) = select.items.get(at) else {
        return None;
    };
    let (Expr::Column { qualifier, name }, Some((of, args, alias, columns))) = (expr, function)
    else {
        return Some(Selected::Value(expr));
    };
    // The only column of a function has the name of its alias.
    let called = alias.as_deref().unwrap_or(&of.name);
    let place = match columns.as_slice() {
        [] => (args.len() == 1 && name == called).then_some(0)?,
        columns => columns.iter().position(|column| column == name)?,
    };
    let is_its = match qualifier.as_slice() {
        [] => true,
        [qualifier] => qualifier == called,
        _ => false,
    };
    Some(Selected::Each(
        of,
        argument(args, place).filter(|_| is_its)?,
    ))
}

/// The argument of unnest() that its `at`-th column comes from: an array of a composite type in front of it would give
/// several columns.
fn argument(args: &[Expr], at: usize) -> Option<&Expr> {
    let is_scalar = |array: &Expr| {
        let Expr::Cast { data_type, .. } = array else {
            return false;
        };
        let Some(element) = data_type.strip_suffix("[]").map(str::trim_end) else {
            return false;
        };
        let name = element.split('(').next().unwrap_or(element).trim_end();
        key::type_named(element) != ConstantType::Other || SCALARS.contains(&name)
    };
    let (before, from) = args.split_at_checked(at)?;
    from.first().filter(|_| before.iter().all(is_scalar))
}

/// Does the text make it an array of that type?
fn is_array_of(array: &Expr, family: KeyFamily) -> bool {
    let Expr::Cast { data_type, .. } = array else {
        return false;
    };
    key::element_type_named(data_type) == ConstantType::Family(family)
}

/// Is it PostgreSQL's unnest()?
fn is_unnest(function: &Name, context: &Context<'_>) -> bool {
    let hidden = || {
        context.search_path.iter().any(|schema| {
            context.database.functions.contains_key(&TableName {
                schema: schema.clone(),
                name: function.name.clone(),
            })
        })
    };
    function.name == "unnest"
        && match function.schema.as_deref() {
            None => !hidden(),
            Some(schema) => schema == "pg_catalog",
        }
}

/// The rows that an INSERT gives by itself; DEFAULT VALUES is one without values.
pub(super) fn rows_of(insert: &Insert) -> Vec<&[Expr]> {
    match &insert.source {
        InsertSource::Values(rows) => rows.iter().map(Vec::as_slice).collect(),
        InsertSource::Default => vec![&[]],
        InsertSource::Query(_) => Vec::new(),
    }
}

/// Where each key column's value stands in a row; `None` for one that is not given.
pub(super) fn key_positions(
    insert: &Insert,
    table: &Table,
) -> Result<Vec<Option<usize>>, RouteError> {
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
pub(super) fn row_key(
    table: &Table,
    positions: &[Option<usize>],
    row: &[Expr],
) -> Result<KeySet, RouteError> {
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
pub(super) fn stored_part(table: &Table, column: &KeyColumn, operands: Vec<Operand>) -> KeyPart {
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
pub(super) fn constant_default(default: &str) -> Option<Operand> {
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

fn missing_key(table: &Table, column: &KeyColumn, reason: &str) -> RouteError {
    RouteError::KeyMissing {
        table: table.name.to_string(),
        column: column.name.clone(),
        reason: reason.to_owned(),
    }
}
