//! Names of tables and key columns, for recipes and for messages.

use crate::route::bind::tables::{Found, find_table};
use crate::route::choose::context::Context;
use crate::route::pins::Analysis;
use crate::statement::tree::Name;
use crate::topology::{KeyColumn, TableName};
use std::collections::BTreeSet;
use std::sync::Arc;

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

pub(super) fn table_names(analysis: &Analysis) -> Arc<[TableName]> {
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
