//! What a column's name means: here while binding, and in a bound block when the merge planner asks.

use crate::route::bind::Binder;
use crate::route::bind::bound::{Block, NodeId, RefColumn, RefId, Source};
use crate::route::bind::scope::{Level, Scope};
use crate::statement::tree::{Expr, Item};
use crate::topology::Table;
use std::sync::Arc;

/// What a column name means.
pub(super) enum Resolved {
    /// This column.
    Node(NodeId),
    /// A column that cannot carry a key, or none for certain.
    Unknown,
    /// No column in sight.
    Absent,
}

impl Binder<'_> {
    pub(super) fn resolve(&self, qualifier: &[String], name: &str, scope: &Scope<'_>) -> Resolved {
        if !qualifier.is_empty() {
            let Some(leaf) = self.leaf_named(qualifier, scope) else {
                return Resolved::Unknown;
            };
            let reference = &self.refs[leaf];
            return match reference.columns.iter().find(|column| column.name == name) {
                Some(RefColumn {
                    node: Some(node), ..
                }) => Resolved::Node(*node),
                _ => Resolved::Unknown,
            };
        }
        let mut scope = Some(scope);
        while let Some(here) = scope {
            if let Some(level) = here.level {
                match self.resolve_in(name, level) {
                    Resolved::Absent => {}
                    resolved => return resolved,
                }
            }
            scope = here.parent;
        }
        Resolved::Absent
    }

    /// An unqualified name in one FROM. A table that certainly has the column wins over one that may have it too:
    /// if both had it, PostgreSQL would refuse the statement.
    pub(super) fn resolve_in(&self, name: &str, level: &Level) -> Resolved {
        if let Some((_, node)) = level.merged.iter().rev().find(|(merged, _)| merged == name) {
            return node.map_or(Resolved::Unknown, Resolved::Node);
        }
        if level.opaque {
            return Resolved::Unknown;
        }
        let mut found = None;
        let mut incomplete = false;
        for leaf in &level.leaves {
            let reference = &self.refs[*leaf];
            match reference.columns.iter().find(|column| column.name == name) {
                Some(_) if found.is_some() => return Resolved::Unknown,
                Some(column) => found = Some(column.node),
                None => incomplete |= !reference.complete,
            }
        }
        match found {
            Some(Some(node)) => Resolved::Node(node),
            Some(None) => Resolved::Unknown,
            None if incomplete => Resolved::Unknown,
            None => Resolved::Absent,
        }
    }

    /// The node of a plain column.
    pub(super) fn plain(&self, expr: &Expr, here: &Scope<'_>) -> Option<NodeId> {
        let Expr::Column { qualifier, name } = expr else {
            return None;
        };
        match self.resolve(qualifier, name, here) {
            Resolved::Node(node) => Some(node),
            _ => None,
        }
    }

    pub(super) fn leaf_named(&self, qualifier: &[String], scope: &Scope<'_>) -> Option<RefId> {
        let mut scope = Some(scope);
        while let Some(here) = scope {
            if let Some(level) = here.level {
                let mut matching = level
                    .leaves
                    .iter()
                    .filter(|leaf| self.is_called(**leaf, qualifier));
                if let Some(leaf) = matching.next() {
                    return matching.next().is_none().then_some(*leaf);
                }
            }
            scope = here.parent;
        }
        None
    }

    /// Does `qualifier.column` mean the reference?
    fn is_called(&self, leaf: RefId, qualifier: &[String]) -> bool {
        let reference = &self.refs[leaf];
        match qualifier {
            [name] => reference.alias.as_deref() == Some(name),
            [schema, name] => reference.own_name.as_ref().is_some_and(|own| {
                own.name == *name && own.schema.as_deref().is_none_or(|s| s == schema)
            }),
            _ => false,
        }
    }

    /// Is it a column that a reference surely has?
    pub(super) fn is_known(&self, qualifier: &[String], name: &str, here: &Scope<'_>) -> bool {
        let mut scope = Some(here);
        while let Some(here) = scope {
            let known = |level: &Level| {
                level.merged.iter().any(|(merged, _)| merged == name)
                    || level.leaves.iter().any(|leaf| {
                        (qualifier.is_empty() || self.is_called(*leaf, qualifier))
                            && self.has_column(*leaf, name) == Some(true)
                    })
            };
            if here.level.is_some_and(known) {
                return true;
            }
            scope = here.parent;
        }
        false
    }

    /// Does the innermost FROM in scope surely have what the column names?
    pub(super) fn is_of_level(&self, qualifier: &[String], name: &str, here: &Scope<'_>) -> bool {
        let Some(level) = here.innermost() else {
            return false;
        };
        if !qualifier.is_empty() {
            return level
                .leaves
                .iter()
                .any(|leaf| self.is_called(*leaf, qualifier));
        }
        level.merged.iter().any(|(merged, _)| merged == name)
            || level
                .leaves
                .iter()
                .any(|leaf| self.has_column(*leaf, name) == Some(true))
    }

    /// Equality of the two columns is equality of canonical bytes.
    pub(super) fn comparable(&self, a: NodeId, b: NodeId) -> bool {
        self.nodes[a].family == self.nodes[b].family
    }

    /// The node of a plain column of a block, for the merge planner.
    pub(crate) fn block_column(&self, block: &Block, expr: &Expr) -> Option<NodeId> {
        let Expr::Column { qualifier, name } = expr else {
            return None;
        };
        match self.resolve(
            qualifier,
            name,
            &Scope {
                parent: None,
                level: Some(&block.names),
                with: &[],
            },
        ) {
            Resolved::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The table's column that a plain column of a block is, if it is one directly.
    pub(crate) fn table_column(&self, block: &Block, expr: &Expr) -> Option<(Arc<Table>, String)> {
        let Expr::Column { qualifier, name } = expr else {
            return None;
        };
        let leaf = if qualifier.is_empty() {
            let mut holders = block
                .names
                .leaves
                .iter()
                .filter(|leaf| self.has_column(**leaf, name) != Some(false));
            let leaf = *holders.next()?;
            if holders.next().is_some()
                && !block.names.merged.iter().any(|(merged, _)| merged == name)
            {
                return None;
            }
            leaf
        } else {
            self.leaf_named(
                qualifier,
                &Scope {
                    parent: None,
                    level: Some(&block.names),
                    with: &[],
                },
            )?
        };
        match &self.refs[leaf].source {
            Source::Table { table, .. } => {
                // Column aliases rename by position.
                let position = self.refs[leaf]
                    .columns
                    .iter()
                    .position(|column| column.name == *name)?;
                let own = table.columns.get(position)?;
                Some((Arc::clone(table), own.name.clone()))
            }
            _ => None,
        }
    }

    /// The references a star of a block expands to.
    pub(crate) fn star_leaves(&self, block: &Block, star: &Item) -> Option<Vec<RefId>> {
        match star {
            Item::Star => Some(block.names.leaves.clone()),
            Item::QualifiedStar(qualifier) => {
                let scope = Scope {
                    parent: None,
                    level: Some(&block.names),
                    with: &[],
                };
                self.leaf_named(qualifier, &scope).map(|leaf| vec![leaf])
            }
            Item::Expr { .. } => None,
        }
    }

    /// The nodes of a reference's visible columns.
    pub(crate) fn leaf_nodes(&self, leaf: RefId) -> impl Iterator<Item = NodeId> + '_ {
        self.refs[leaf]
            .columns
            .iter()
            .filter_map(|column| column.node)
    }

    /// Does the reference have a column of that name? `None` when its columns are not all known.
    pub(crate) fn has_column(&self, leaf: RefId, name: &str) -> Option<bool> {
        let reference = &self.refs[leaf];
        if reference.columns.iter().any(|column| column.name == name) {
            return Some(true);
        }
        reference.complete.then_some(false)
    }

    /// Does the unqualified name mean a column of the block's FROM?
    pub(crate) fn has_input_column(&self, block: &Block, name: &str) -> Option<bool> {
        if block.names.merged.iter().any(|(merged, _)| merged == name) {
            return Some(true);
        }
        let mut all = true;
        for leaf in &block.names.leaves {
            match self.has_column(*leaf, name) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => all = false,
            }
        }
        all.then_some(false)
    }
}
