//! Rows whose sharding key is left to a default that Keyway can produce itself: a sequence's next value, a random uuid.
//!
//! PostgreSQL would make the value on the row's shard, which the value decides. So Keyway makes it first, and sends the
//! INSERT with it.

use crate::route::bind::stored::is_overridden;
use crate::route::choose::context::Context;
use crate::route::choose::rows::{constant_default, key_positions, rows_of};
use crate::route::key::{self, ConstantType, KeyValue, Use};
use crate::route::pins::key_of;
use crate::route::plan::{Access, PlanKind, ShardSet};
use crate::route::recipe::Recipe;
use crate::route::schema;
use crate::statement::tree::{Expr, Insert, InsertSource, Merge, MergeAction};
use crate::topology::{
    Column, KeyFamily, KeyspaceId, KeyspaceKind, ShardId, Table, TableName, Topology,
};
use std::sync::Arc;

/// The keys of an INSERT's rows, all of which it leaves to their column's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeKeys {
    /// The key column.
    pub column: String,
    /// Where DEFAULT stands for it in every row, which may also end in front of it; `None` when the column is not listed.
    pub place: Option<usize>,
    /// How many rows there are.
    pub rows: usize,
    /// It is GENERATED ALWAYS AS IDENTITY.
    pub always: bool,
    /// Where values come from.
    pub source: KeySource,
    /// Shards that own buckets of the table's keyspace.
    pub holders: ShardSet,
    /// Where a hint wants the rows.
    pub only: Option<ShardId>,
    family: KeyFamily,
    keyspace: KeyspaceId,
}

/// Where a key's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// gen_random_uuid(): any 122 random bits are as good as a server's.
    Uuid,
    /// A sequence, whose values differ from those of every other shard: an expression for its next value.
    Sequence(String),
}

impl MadeKeys {
    /// The shard that a value belongs to. `None` when it is not a value of the key's type.
    #[must_use]
    pub fn shard_of(&self, value: &str, topology: &Topology) -> Option<ShardId> {
        let keyspace = topology.keyspaces.get(usize::from(self.keyspace.0))?;
        let KeyspaceKind::Sharded { hash, map } = &keyspace.kind else {
            return None;
        };
        let value = key::from_string(
            value.as_bytes(),
            self.family,
            ConstantType::Context,
            Use::Store,
        );
        let KeyValue::Bytes(bytes) = value else {
            return None;
        };
        let bucket = key::bucket(*hash, &[(self.family, Some(&bytes))]);
        map.get(usize::from(bucket.0)).copied()
    }
}

/// What an INSERT leaves to Keyway, if that is the key of all its rows, and Keyway can make it.
pub(super) fn made_keys(insert: &Insert, table: &Table, context: &Context<'_>) -> Option<MadeKeys> {
    let [key] = key_of(table) else { return None };
    let column = table.columns.iter().find(|c| c.name == key.name)?;
    let family = key.family?;
    if !insert.with.is_empty() || !leaves_to_default(insert, table) {
        return None;
    }
    if insert.overriding_user && is_overridden(table, &key.name) {
        return None;
    }
    let source = source_of(table, column, family)?;
    let listed = !insert.columns.is_empty();
    let place = match key_positions(insert, table).ok()?.first().copied()? {
        Some(at) if rows_of(insert).iter().all(|row| at <= row.len()) => Some(at),
        // DEFAULT VALUES lists nothing, and has no row to look into.
        _ if listed || rows_of(insert).iter().all(|row| row.is_empty()) => None,
        _ => return None,
    };
    let always = column.generated == Some('a');
    let another_always = || {
        let mut others = table.columns.iter().filter(|c| c.name != column.name);
        others.any(|c| c.generated == Some('a'))
    };
    // OVERRIDING SYSTEM VALUE would be for that column, too.
    if always && another_always() {
        return None;
    }
    Some(MadeKeys {
        column: key.name.clone(),
        place,
        rows: rows_of(insert).len(),
        always,
        source,
        holders: context.holders(table.keyspace),
        only: None,
        family,
        keyspace: table.keyspace,
    })
}

/// A recipe for statements whose keys are made before they are planned. Any shard can parse them.
pub(super) fn recipe_of_made(made: MadeKeys, table: &TableName) -> Recipe {
    let shards = made.holders.clone();
    let mut recipe = schema::fixed(
        PlanKind::Any,
        shards,
        Access::Write,
        Arc::from([table.clone()]),
    );
    "by the key that Keyway makes for the row".clone_into(&mut recipe.reason);
    recipe.makes = Some(Arc::new(made));
    recipe
}

/// Does PostgreSQL generate the key of some row, so that nobody knows it before?
pub(super) fn generates_key(insert: &Insert, table: &Table) -> bool {
    let Ok(positions) = key_positions(insert, table) else {
        return false;
    };
    let generated = |(at, column): (&Option<usize>, &crate::topology::KeyColumn)| {
        let left = |row: &[Expr]| {
            at.and_then(|at| row.get(at))
                .is_none_or(|value| *value == Expr::Default)
        };
        let rows = rows_of(insert);
        let leaves = match insert.source {
            InsertSource::Query(_) => at.is_none(),
            InsertSource::Values(_) | InsertSource::Default => rows.into_iter().any(left),
        };
        leaves && is_generated(table, &column.name)
    };
    positions.iter().zip(key_of(table)).any(generated)
}

/// Does a MERGE insert rows whose key PostgreSQL generates?
pub(super) fn merge_generates_key(merge: &Merge, table: &Table) -> bool {
    let inserts = merge
        .clauses
        .iter()
        .filter_map(|clause| match &clause.action {
            MergeAction::Insert {
                columns, values, ..
            } => Some((columns, values)),
            _ => None,
        });
    let left = |(columns, values): (&Vec<String>, &Option<Vec<Expr>>), name: &str| {
        let at = if columns.is_empty() {
            table.columns.iter().position(|column| column.name == name)
        } else {
            columns.iter().position(|column| column == name)
        };
        let value = at.zip(values.as_ref()).and_then(|(at, row)| row.get(at));
        value.is_none_or(|value| *value == Expr::Default)
    };
    inserts.into_iter().any(|insert| {
        key_of(table)
            .iter()
            .any(|column| is_generated(table, &column.name) && left(insert, &column.name))
    })
}

/// May a column's default be another value for every row, which nobody knows before?
pub(crate) fn is_generated(table: &Table, column: &str) -> bool {
    let Some(column) = table.columns.iter().find(|c| c.name == column) else {
        return false;
    };
    let default = column.default.as_deref().unwrap_or_default();
    matches!(column.generated, Some('a' | 'd'))
        || column.unique_by_construction
        || (constant_default(default).is_none() && calls_unknown(default))
}

/// Does a default call anything but what reads a setting, which the client may know? It may find a call in a string.
fn calls_unknown(default: &str) -> bool {
    let calls = default.match_indices('(').filter_map(|(at, _)| {
        let before = &default[..at];
        let name = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
        Some(&before[name.len()..]).filter(|name| !name.is_empty())
    });
    calls.into_iter().any(|name| name != "current_setting")
}

/// Do all rows leave the key to its default?
fn leaves_to_default(insert: &Insert, table: &Table) -> bool {
    let Ok(positions) = key_positions(insert, table) else {
        return false;
    };
    let Some(at) = positions.first() else {
        return false;
    };
    let rows = rows_of(insert);
    !rows.is_empty()
        && rows.into_iter().all(|row| {
            at.and_then(|at| row.get(at))
                .is_none_or(|value| *value == Expr::Default)
        })
}

/// Where a key's values come from, when Keyway knows what its default does.
pub(crate) fn source_of(table: &Table, column: &Column, family: KeyFamily) -> Option<KeySource> {
    // A domain may have rules of its own, and a sequence that counts on every shard from 1 makes the same key twice.
    if column.type_oid != column.base_oid || !column.unique_by_construction {
        return None;
    }
    match family {
        // PostgreSQL's own, which stands there without a schema; what another function makes only that function knows.
        KeyFamily::Uuid if column.default.as_deref() == Some("gen_random_uuid()") => {
            Some(KeySource::Uuid)
        }
        KeyFamily::Int if matches!(column.generated, Some('a' | 'd')) => {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let whole = format!(
                "{}.{}",
                quoted(&table.name.schema),
                quoted(&table.name.name)
            );
            Some(KeySource::Sequence(format!(
                "pg_catalog.nextval(pg_catalog.pg_get_serial_sequence({}, {})::pg_catalog.regclass)",
                literal(&whole)?,
                literal(&column.name)?
            )))
        }
        KeyFamily::Int => {
            let sequence = column
                .default
                .as_deref()?
                .strip_prefix("nextval(")?
                .strip_suffix("::regclass)")?;
            let plain = sequence.starts_with('\'') && !sequence.contains('\\');
            plain.then(|| {
                KeySource::Sequence(format!(
                    "pg_catalog.nextval({sequence}::pg_catalog.regclass)"
                ))
            })
        }
        _ => None,
    }
}

/// A string as SQL, however standard_conforming_strings is.
fn literal(text: &str) -> Option<String> {
    (!text.contains('\\')).then(|| format!("'{}'", text.replace('\'', "''")))
}
