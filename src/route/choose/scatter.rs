//! Can the rows of several shards become one answer? The merge planner decides, and asks what the binder knows.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Block, Bound, BoundQuery};
use crate::route::builtin;
use crate::route::choose::context::Context;
use crate::route::choose::names::{names_of, table_names};
use crate::route::error::RouteError;
use crate::route::merge::{self, Collation, FunctionKind, Types};
use crate::route::pins::Analysis;
use crate::route::recipe::Several;
use crate::statement::tree::{Expr, Item, Name, Query, Select};
use crate::topology::{Table, TableName};
use std::sync::Arc;

/// Can the rows of several shards be merged?
pub(super) fn scatter(
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
