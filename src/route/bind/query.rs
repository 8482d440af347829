//! A query: its body, its SELECT blocks, and which of its output columns are plain columns from inside.

use crate::route::bind::bound::{
    Block, Bound, BoundQuery, Joined, NodeId, OutColumn, Output, RefId,
};
use crate::route::bind::columns::Resolved;
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::from::Side;
use crate::route::bind::scope::{Level, Scope};
use crate::route::bind::{Binder, QUERY_DEPTH};
use crate::route::builtin;
use crate::route::error::RouteError;
use crate::statement::tree::{Body, Distinct, Expr, Item, OrderKey, Query, Select};

/// What one block's expressions contain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traits {
    pub(super) aggregates: bool,
    pub(super) order_sensitive: bool,
    pub(super) windows: bool,
}

impl Binder<'_> {
    pub(super) fn bind_query(
        &mut self,
        query: &Query,
        outer: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        self.deeper(QUERY_DEPTH)?;
        let entries = self.bind_with(&query.with, query.recursive, outer)?;
        let scope = Scope {
            parent: Some(outer),
            level: None,
            with: &entries,
        };
        let limited = query.limit.is_some() || query.offset.is_some() || query.with_ties;
        self.locking |= query.locking;
        let mut bound = self.bind_body(&query.body, Some(&query.order_by), &scope)?;
        for expr in query.limit.iter().chain(&query.offset) {
            self.visit(
                expr,
                &scope,
                Place::Output,
                &mut Bag::apart(&mut bound.children),
            )?;
        }
        if limited {
            bound.limited = true;
            for column in &mut bound.output.columns {
                column
                    .sources
                    .iter_mut()
                    .for_each(|(_, inward)| *inward = false);
            }
        }
        self.bind_unused(&entries, outer)?;
        self.depth -= QUERY_DEPTH;
        Ok(bound)
    }

    fn bind_body(
        &mut self,
        body: &Body,
        order_by: Option<&[OrderKey]>,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        match body {
            Body::Select(select) => {
                let (block, output) =
                    self.bind_select(select, order_by.unwrap_or_default(), scope)?;
                Ok(BoundQuery {
                    body: Bound::Block(Box::new(block)),
                    limited: false,
                    children: Vec::new(),
                    output,
                })
            }
            Body::Values(rows) => {
                let mut children = Vec::new();
                for expr in rows.iter().flatten() {
                    self.visit(expr, scope, Place::Output, &mut Bag::new(&mut children))?;
                }
                let width = rows.first().map_or(0, Vec::len);
                let columns = (1..=width)
                    .map(|n| OutColumn::opaque(Some(format!("column{n}"))))
                    .collect();
                let output = Output {
                    columns,
                    positional: true,
                    complete: true,
                };
                Ok(BoundQuery {
                    body: Bound::Values(children),
                    limited: false,
                    children: Vec::new(),
                    output,
                })
            }
            Body::Set { left, right, .. } => {
                self.deeper(1)?;
                let left = self.bind_body(left, None, scope)?;
                let right = self.bind_body(right, None, scope)?;
                self.depth -= 1;
                let output = self.set_output(&left.output, &right.output);
                let mut children = Vec::new();
                for key in order_by.unwrap_or_default() {
                    self.visit(
                        &key.expr,
                        scope,
                        Place::Output,
                        &mut Bag::apart(&mut children),
                    )?;
                }
                let body = Bound::Set(Box::new(left), Box::new(right));
                Ok(BoundQuery {
                    body,
                    limited: false,
                    children,
                    output,
                })
            }
            Body::Nested(query) => {
                let inner = self.bind_query(query, scope)?;
                let output = inner.output.clone();
                let mut children = Vec::new();
                for key in order_by.unwrap_or_default() {
                    self.visit(
                        &key.expr,
                        scope,
                        Place::Output,
                        &mut Bag::apart(&mut children),
                    )?;
                }
                Ok(BoundQuery {
                    body: Bound::Query(Box::new(inner)),
                    limited: false,
                    children,
                    output,
                })
            }
        }
    }

    /// A set operation returns the left arm's names; a column is pushable when it is plain in both arms.
    fn set_output(&self, left: &Output, right: &Output) -> Output {
        let positional =
            left.positional && right.positional && left.columns.len() == right.columns.len();
        let columns = left.columns.iter().enumerate().map(|(index, column)| {
            let mut merged = OutColumn::opaque(column.name.clone());
            if let (true, Some(other)) = (positional, right.columns.get(index))
                && let (Some((a, _)), Some((b, _))) =
                    (column.sources.first(), other.sources.first())
                && self.comparable(*a, *b)
            {
                merged.sources = column
                    .sources
                    .iter()
                    .chain(&other.sources)
                    .copied()
                    .collect();
            }
            merged
        });
        Output {
            columns: columns.collect(),
            positional,
            complete: left.complete,
        }
    }

    fn bind_select(
        &mut self,
        select: &Select,
        order_by: &[OrderKey],
        scope: &Scope<'_>,
    ) -> Result<(Block, Output), RouteError> {
        self.traits.push(Traits::default());
        let mut children = Vec::new();
        let mut side = Side {
            tree: Joined::Nothing,
            level: Level::default(),
        };
        for from in &select.from {
            let next = self.bind_from(from, &side.level, scope, &mut children)?;
            side = side.cross(next);
        }
        let here = Scope {
            parent: Some(scope),
            level: Some(&side.level),
            with: &[],
        };
        let mut filter = Vec::new();
        if let Some(expr) = &select.filter {
            self.conjuncts(expr, &here, Place::Filter, &mut filter, &mut children)?;
        }
        let mut bag = Bag::new(&mut children);
        let output = self.select_output(&select.items, &side, &here, &mut bag)?;
        let groups = self.group_nodes(select, &output, &here, &mut bag)?;
        for expr in select.having.iter().chain(&select.windows) {
            self.visit(expr, &here, Place::Output, &mut bag)?;
        }
        for key in order_by {
            self.visit(&key.expr, &here, Place::Output, &mut bag)?;
        }
        let distinct = match &select.distinct {
            Distinct::No => None,
            Distinct::Rows => Some(
                output
                    .columns
                    .iter()
                    .flat_map(|c| c.sources.iter().map(|s| s.0))
                    .collect(),
            ),
            Distinct::On(exprs) => {
                let mut nodes = Vec::new();
                for expr in exprs {
                    self.visit(expr, &here, Place::Output, &mut bag)?;
                    nodes.extend(self.output_node(expr, &output, &here));
                }
                Some(nodes)
            }
        };
        self.writes |= select.into.is_some();
        let traits = self.traits.pop().unwrap_or_default();
        let distinct_on = matches!(select.distinct, Distinct::On(_));
        let grouped = !select.group_by.is_empty() || select.grouping_sets;
        let windows = traits.windows || !select.windows.is_empty();
        let folds =
            select.grouping_sets || (!grouped && (traits.aggregates || select.having.is_some()));
        let mut output = output;
        for column in &mut output.columns {
            column.outward &= !folds;
            for (node, inward) in &mut column.sources {
                *inward = !folds
                    && !windows
                    && groups.as_ref().is_none_or(|nodes| nodes.contains(node))
                    && (!distinct_on
                        || distinct
                            .as_ref()
                            .is_some_and(|nodes: &Vec<NodeId>| nodes.contains(node)));
            }
        }
        let block = Block {
            address: std::ptr::from_ref(select).addr(),
            tree: side.tree,
            filter,
            children,
            groups,
            folds,
            windows,
            fickle: windows || distinct_on || traits.order_sensitive,
            distinct,
            names: side.level,
        };
        Ok((block, output))
    }

    /// GROUP BY's plain columns: input columns first, then output names and ordinals, as PostgreSQL reads them.
    fn group_nodes(
        &mut self,
        select: &Select,
        output: &Output,
        here: &Scope<'_>,
        bag: &mut Bag<'_>,
    ) -> Result<Option<Vec<NodeId>>, RouteError> {
        if select.group_by.is_empty() {
            return Ok(None);
        }
        let mut nodes = Vec::new();
        for expr in &select.group_by {
            self.visit(expr, here, Place::Output, bag)?;
            nodes.extend(self.output_node(expr, output, here));
        }
        Ok(Some(nodes))
    }

    /// The plain column that an entry of GROUP BY or DISTINCT ON means.
    fn output_node(&self, expr: &Expr, output: &Output, here: &Scope<'_>) -> Option<NodeId> {
        let plain = |column: &OutColumn| {
            column
                .outward
                .then(|| column.sources.first().map(|s| s.0))
                .flatten()
        };
        match expr {
            Expr::Number(ordinal) if output.positional => {
                let index = ordinal.parse::<usize>().ok()?.checked_sub(1)?;
                plain(output.columns.get(index)?)
            }
            Expr::Column { qualifier, name } => match self.resolve(qualifier, name, here) {
                Resolved::Node(node) => Some(node),
                // An output name only when no input column can be meant.
                Resolved::Absent if qualifier.is_empty() => plain(
                    output
                        .columns
                        .iter()
                        .find(|c| c.name.as_deref() == Some(name))?,
                ),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn select_output(
        &mut self,
        items: &[Item],
        side: &Side,
        here: &Scope<'_>,
        bag: &mut Bag<'_>,
    ) -> Result<Output, RouteError> {
        let mut output = Output {
            columns: Vec::new(),
            positional: true,
            complete: true,
        };
        for item in items {
            match item {
                Item::Expr { expr, alias, .. } => {
                    self.visit(expr, here, Place::Output, bag)?;
                    let name = alias.clone().or_else(|| name_of(expr));
                    let mut column = OutColumn::opaque(name);
                    if let Expr::Column { qualifier, name } = expr
                        && let Resolved::Node(node) = self.resolve(qualifier, name, here)
                    {
                        column.sources.push((node, true));
                        column.outward = true;
                    }
                    output.complete &= column.name.is_some();
                    output.columns.push(column);
                }
                Item::Star => {
                    output.positional &= side.level.merged.is_empty();
                    for leaf in &side.level.leaves {
                        self.expand(*leaf, &mut output);
                    }
                }
                Item::QualifiedStar(qualifier) => match self.leaf_named(qualifier, here) {
                    Some(leaf) => self.expand(leaf, &mut output),
                    None => {
                        output.positional = false;
                        output.complete = false;
                    }
                },
            }
        }
        Ok(output)
    }

    /// Appends a reference's columns, as `*` does.
    fn expand(&self, leaf: RefId, output: &mut Output) {
        let reference = &self.refs[leaf];
        output.positional &= reference.complete;
        output.complete &= reference.complete;
        for column in &reference.columns {
            let mut out = OutColumn::opaque(Some(column.name.clone()));
            if let Some(node) = column.node {
                out.sources.push((node, true));
                out.outward = true;
            }
            output.columns.push(out);
        }
    }
}

/// The name PostgreSQL gives an output column without an alias, where that is certain.
fn name_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column { name, .. } | Expr::Field { name, .. } => Some(name.clone()),
        Expr::Function(call) if builtin::is_aggregate(&call.name.name) => {
            Some(call.name.name.clone())
        }
        Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => name_of(expr),
        _ => None,
    }
}
