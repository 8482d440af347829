//! What a table's name means, by the search path, and the reference it becomes.

use crate::route::bind::Binder;
use crate::route::bind::bound::{NodeId, Ref, RefColumn, RefId, Source};
use crate::route::builtin;
use crate::route::choose::context::Context;
use crate::route::error::RouteError;
use crate::route::key::{ConstantType, type_of};
use crate::statement::tree::Name;
use crate::topology::reach::TableReach;
use crate::topology::{KeyFamily, Placement, Table, TableName};
use std::sync::Arc;

/// What a table name means.
pub(crate) enum Found {
    /// A table, or a view on an unsharded keyspace.
    Table(Arc<Table>),
    /// A view whose definition must be placed.
    View(Arc<Table>, String),
    /// A system catalog.
    Catalog,
}

/// Finds a table by the search path. A name that nothing has belongs to the default keyspace when that has one shard
/// (PostgreSQL then says that it does not exist), and is refused otherwise.
pub(crate) fn find_table(context: &Context<'_>, name: &Name) -> Result<Found, RouteError> {
    match name.schema.as_deref() {
        Some("pg_catalog" | "information_schema") => return Ok(Found::Catalog),
        None if builtin::is_catalog_relation(&name.name) => return Ok(Found::Catalog),
        _ => {}
    }
    let database = context.database;
    let find = |schema: &str| {
        let key = TableName {
            schema: schema.to_owned(),
            name: name.name.clone(),
        };
        database.tables.get(&key).cloned()
    };
    let table = match &name.schema {
        Some(schema) => find(schema),
        None => context.search_path.iter().find_map(|schema| find(schema)),
    };
    if let Some(table) = table {
        let sharded = context.is_spread(table.keyspace);
        return Ok(match &table.view {
            Some(definition) if sharded => {
                let definition = definition.clone();
                Found::View(table, definition)
            }
            _ => Found::Table(table),
        });
    }
    if name.schema.is_none() && name.name.starts_with("pg_") {
        return Ok(Found::Catalog);
    }
    let schema = name.schema.clone().unwrap_or_else(|| {
        context
            .search_path
            .iter()
            .find(|s| *s != "$user")
            .cloned()
            .unwrap_or_else(|| "public".to_owned())
    });
    let table_name = TableName {
        schema,
        name: name.name.clone(),
    };
    if let Some(reason) = database.refused.get(&table_name) {
        return Err(RouteError::RefusedTable {
            table: table_name.to_string(),
            reason: reason.clone(),
        });
    }
    match database.default {
        Some(keyspace) if !context.is_spread(keyspace) => Ok(Found::Table(Arc::new(Table {
            reach: TableReach::unseen(&table_name),
            name: table_name,
            keyspace,
            placement: Placement::Unsharded,
            columns: Vec::new(),
            kind: 'r',
            trust: Vec::new(),
            hazards: Vec::new(),
            view: None,
            policy_hazards: Vec::new(),
            shared: Vec::new(),
        }))),
        other => {
            let keyspace = other
                .or_else(|| database.keyspaces.first().copied())
                .and_then(|id| context.topology.keyspaces.get(usize::from(id.0)))
                .map_or_else(|| "…".to_owned(), |keyspace| keyspace.name.clone());
            Err(RouteError::UnlistedTable {
                table: table_name.to_string(),
                keyspace,
            })
        }
    }
}

/// Do two schemas of the search path have a table of this name? PostgreSQL passes over a schema that the role may not use.
pub(crate) fn is_ambiguous(context: &Context<'_>, name: &Name) -> bool {
    let has = |schema: &&String| {
        let key = TableName {
            schema: (*schema).clone(),
            name: name.name.clone(),
        };
        context.database.tables.contains_key(&key)
    };
    name.schema.is_none() && context.search_path.iter().filter(has).count() > 1
}

impl Binder<'_> {
    /// A reference to a table, with its columns.
    pub(super) fn table_ref(
        &mut self,
        table: &Arc<Table>,
        write: bool,
    ) -> Result<RefId, RouteError> {
        if let Some(reason) = self.context.database.refused.get(&table.name) {
            return Err(RouteError::RefusedTable {
                table: table.name.to_string(),
                reason: reason.clone(),
            });
        }
        if write && let Some(hazard) = table.hazards.first() {
            return Err(RouteError::Hazard {
                table: table.name.to_string(),
                hazard: hazard.clone(),
            });
        }
        if let Some(hazard) = table.policy_hazards.first() {
            return Err(RouteError::Policy {
                table: table.name.to_string(),
                hazard: hazard.clone(),
            });
        }
        let leaf = self.add_ref(Ref {
            source: Source::Table {
                table: Arc::clone(table),
                write,
            },
            alias: None,
            own_name: None,
            columns: Vec::new(),
            complete: !table.columns.is_empty(),
            nodes: 0..0,
        })?;
        let first = self.nodes.len();
        let key = match &table.placement {
            Placement::Sharded { key } => key.as_slice(),
            Placement::Reference | Placement::Unsharded => &[],
        };
        let mut columns = Vec::new();
        for column in &table.columns {
            let of_key = key.iter().find(|k| k.name == column.name);
            let family = match of_key {
                Some(key) => key.family.or_else(|| family_of(column.base_oid)),
                None => family_of(column.base_oid),
            };
            // Under a nondeterministic collation equal values need not be the same bytes, so one says nothing of the
            // other's key.
            let family = family.filter(|_| column.deterministic);
            let node = family.map(|family| self.add_node(leaf, column.name.clone(), Some(family)));
            columns.push(RefColumn {
                name: column.name.clone(),
                node,
            });
        }
        for column in key {
            if !columns.iter().any(|known| known.name == column.name) {
                let node = (column.family.is_some() || !self.context.database.schema_known)
                    .then(|| self.add_node(leaf, column.name.clone(), column.family));
                columns.push(RefColumn {
                    name: column.name.clone(),
                    node,
                });
            }
        }
        self.refs[leaf].columns = columns;
        self.refs[leaf].nodes = first..self.nodes.len();
        Ok(leaf)
    }

    /// The node that carries a table's key column, whatever the column is called in its scope.
    pub(crate) fn key_node(&self, reference: RefId, name: &str) -> Option<NodeId> {
        let mut own = self.refs.get(reference)?.nodes.clone();
        own.find(|node| self.nodes[*node].name == name)
    }
}

/// The family of a built-in type.
pub(crate) fn family_of(oid: u32) -> Option<KeyFamily> {
    match type_of(oid) {
        ConstantType::Family(family) => Some(family),
        _ => None,
    }
}
