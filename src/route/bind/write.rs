//! INSERT, UPDATE, DELETE and MERGE: each becomes a block of its target and what it is joined with.

use crate::route::bind::bound::{
    Block, Bound, BoundQuery, Child, Cond, CondId, Joined, NodeId, Output, RefId,
};
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::from::Side;
use crate::route::bind::scope::{Level, Scope};
use crate::route::bind::tables::{Found, find_table, is_ambiguous};
use crate::route::bind::unique::Given;
use crate::route::bind::{Binder, QUERY_DEPTH};
use crate::route::error::RouteError;
use crate::statement::tree::{
    Delete, From, Insert, InsertSource, Item, Merge, MergeAction, Name, OnConflict, Statement,
    Update,
};

impl Binder<'_> {
    pub(super) fn bind_modifying(
        &mut self,
        statement: &Statement,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        self.writes = true;
        self.deeper(QUERY_DEPTH)?;
        let bound = match statement {
            Statement::Query(query) => self.bind_query(query, scope),
            Statement::Insert(insert) => self.bind_insert(insert, scope),
            Statement::Update(update) => self.bind_update(update, scope),
            Statement::Delete(delete) => self.bind_delete(delete, scope),
            Statement::Merge(merge) => self.bind_merge(merge, scope),
            _ => Err(RouteError::OneShardOnly {
                what: "this statement".to_owned(),
                reason: "It cannot stand in WITH".to_owned(),
            }),
        };
        self.depth -= QUERY_DEPTH;
        bound
    }

    /// The target of a write. Views are refused unless one shard has them.
    fn target(&mut self, name: &Name, alias: Option<&str>) -> Result<RefId, RouteError> {
        let is_ambiguous = is_ambiguous(self.context, name);
        self.unkept.ambiguous |= is_ambiguous;
        self.unkept.ambiguous_target |= is_ambiguous;
        let leaf = match find_table(self.context, name)? {
            Found::Table(table) => self.table_ref(&table, true)?,
            Found::View(table, _) => {
                return Err(RouteError::View {
                    view: table.name.to_string(),
                    reason: "Writing through a view of a sharded keyspace is not supported"
                        .to_owned(),
                });
            }
            Found::Catalog => {
                return Err(RouteError::OneShardOnly {
                    what: "a write to a system catalog".to_owned(),
                    reason: format!("Catalog {}", name.name),
                });
            }
        };
        if name.schema.is_none() {
            self.bare.insert(leaf);
        }
        let reference = &mut self.refs[leaf];
        reference.alias = Some(alias.unwrap_or(&name.name).to_owned());
        reference.own_name = alias.is_none().then(|| name.clone());
        Ok(leaf)
    }

    fn bind_insert(
        &mut self,
        insert: &Insert,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        let entries = self.bind_with(&insert.with, insert.recursive, scope)?;
        let scope = &Scope {
            parent: Some(scope),
            level: None,
            with: &entries,
        };
        let target = self.target(&insert.table, insert.alias.as_deref())?;
        let mut children = Vec::new();
        let mut filter = Vec::new();
        let mut tree = Joined::Leaf(target);
        match &insert.source {
            InsertSource::Default => self.inserts(target, insert, &Given::Rows(&[])),
            InsertSource::Values(rows) => {
                self.inserts(target, insert, &Given::Rows(rows));
                for row in rows {
                    for (index, value) in row.iter().enumerate() {
                        let column = self.insert_column(insert, target, index);
                        self.mark_param(value, column.and_then(|node| self.nodes[node].family));
                        self.visit(value, scope, Place::Output, &mut Bag::new(&mut children))?;
                    }
                }
            }
            InsertSource::Query(query) => {
                let bound = self.bind_query(query, scope)?;
                let items = query.select().map_or(&[][..], |select| &select.items);
                for (index, item) in items.iter().enumerate() {
                    // Behind a star positions are not known.
                    let Item::Expr { expr, .. } = item else {
                        break;
                    };
                    let column = self.insert_column(insert, target, index);
                    self.mark_param(expr, column.and_then(|node| self.nodes[node].family));
                }
                let positional = bound.output.positional;
                let width = positional.then_some(bound.output.columns.len());
                self.inserts(target, insert, &Given::Query { width });
                let columns: Vec<Option<NodeId>> = bound
                    .output
                    .columns
                    .iter()
                    .enumerate()
                    .map(|given| self.stored_column(insert, target, given))
                    .collect();
                let source = self.derived(bound, None, &[])?;
                tree = Joined::Inner(Box::new(tree), Box::new(Joined::Leaf(source)), Vec::new());
                for (index, column) in columns.into_iter().enumerate() {
                    let given = self.refs[source].columns.get(index).and_then(|c| c.node);
                    if let (true, Some(node), Some(column)) = (positional, given, column)
                        && self.comparable(node, column)
                    {
                        filter.push(self.add_cond(Cond::Same(column, node)));
                    }
                }
            }
        }
        let side = Side {
            tree,
            level: Level {
                leaves: vec![target],
                ..Level::default()
            },
        };
        let here = Scope {
            parent: Some(scope),
            level: Some(&side.level),
            with: &[],
        };
        let mut bag = Bag::apart(&mut children);
        if let Some(OnConflict::Update { set, filter }) = &insert.on_conflict {
            for assignment in set {
                self.visit_assignment(
                    target,
                    &assignment.columns,
                    &assignment.value,
                    &here,
                    true,
                    &mut bag,
                )?;
            }
            if let Some(filter) = filter {
                self.visit(filter, &here, Place::Output, &mut bag)?;
            }
        }
        let mut output = self.select_output(&insert.returning, &side, &here, &mut bag)?;
        self.forget_written(target, &mut output);
        self.bind_unused(&entries, scope)?;
        Ok(modified(side, filter, children, output))
    }

    fn bind_update(
        &mut self,
        update: &Update,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        let entries = self.bind_with(&update.with, update.recursive, scope)?;
        let scope = &Scope {
            parent: Some(scope),
            level: None,
            with: &entries,
        };
        let target = self.target(&update.table, update.alias.as_deref())?;
        let mut children = Vec::new();
        let side = self.with_others(target, &update.from, scope, &mut children)?;
        let here = Scope {
            parent: Some(scope),
            level: Some(&side.level),
            with: &[],
        };
        let mut filter = Vec::new();
        if let Some(expr) = &update.filter {
            self.conjuncts(expr, &here, Place::Filter, &mut filter, &mut children)?;
        }
        let mut bag = Bag::new(&mut children);
        for assignment in &update.set {
            self.visit_assignment(
                target,
                &assignment.columns,
                &assignment.value,
                &here,
                false,
                &mut bag,
            )?;
        }
        let mut output = self.select_output(&update.returning, &side, &here, &mut bag)?;
        self.forget_written(target, &mut output);
        self.bind_unused(&entries, scope)?;
        Ok(modified(side, filter, children, output))
    }

    fn bind_delete(
        &mut self,
        delete: &Delete,
        scope: &Scope<'_>,
    ) -> Result<BoundQuery, RouteError> {
        let entries = self.bind_with(&delete.with, delete.recursive, scope)?;
        let scope = &Scope {
            parent: Some(scope),
            level: None,
            with: &entries,
        };
        let target = self.target(&delete.table, delete.alias.as_deref())?;
        let mut children = Vec::new();
        let side = self.with_others(target, &delete.using, scope, &mut children)?;
        let here = Scope {
            parent: Some(scope),
            level: Some(&side.level),
            with: &[],
        };
        let mut filter = Vec::new();
        if let Some(expr) = &delete.filter {
            self.conjuncts(expr, &here, Place::Filter, &mut filter, &mut children)?;
        }
        let mut bag = Bag::new(&mut children);
        let output = self.select_output(&delete.returning, &side, &here, &mut bag)?;
        self.bind_unused(&entries, scope)?;
        Ok(modified(side, filter, children, output))
    }

    fn bind_merge(&mut self, merge: &Merge, scope: &Scope<'_>) -> Result<BoundQuery, RouteError> {
        let entries = self.bind_with(&merge.with, false, scope)?;
        let scope = &Scope {
            parent: Some(scope),
            level: None,
            with: &entries,
        };
        let target = self.target(&merge.table, merge.alias.as_deref())?;
        let mut children = Vec::new();
        let source = self.bind_from(&merge.source, &Level::default(), scope, &mut children)?;
        let mut level = Level {
            leaves: vec![target],
            ..Level::default()
        };
        level.leaves.extend(&source.level.leaves);
        level.merged.extend(source.level.merged.iter().cloned());
        level.opaque |= source.level.opaque;
        let here = Scope {
            parent: Some(scope),
            level: Some(&level),
            with: &[],
        };
        let mut on = Vec::new();
        self.conjuncts(&merge.on, &here, Place::On, &mut on, &mut children)?;
        let mut bag = Bag::apart(&mut children);
        for clause in &merge.clauses {
            if let Some(condition) = &clause.condition {
                self.visit(condition, &here, Place::Output, &mut bag)?;
            }
            match &clause.action {
                MergeAction::Insert {
                    columns,
                    overriding_user,
                    values,
                } => {
                    let given = values.as_deref().unwrap_or_default();
                    self.merge_insert(target, columns, (given, *overriding_user), &here);
                    self.merge_inserts(target, columns, (given, *overriding_user));
                    for value in values.iter().flatten() {
                        self.visit(value, &here, Place::Output, &mut bag)?;
                    }
                }
                MergeAction::Update(set) => {
                    for assignment in set {
                        self.visit_assignment(
                            target,
                            &assignment.columns,
                            &assignment.value,
                            &here,
                            false,
                            &mut bag,
                        )?;
                    }
                }
                MergeAction::Delete | MergeAction::Nothing => {}
            }
        }
        self.bind_unused(&entries, scope)?;
        // Source rows without a match act too: the target is on the nullable side.
        let tree = Joined::Left(Box::new(source.tree), Box::new(Joined::Leaf(target)), on);
        Ok(modified(
            Side { tree, level },
            Vec::new(),
            children,
            Output::default(),
        ))
    }

    /// The target joined with FROM or USING.
    fn with_others(
        &mut self,
        target: RefId,
        others: &[From],
        scope: &Scope<'_>,
        children: &mut Vec<Child>,
    ) -> Result<Side, RouteError> {
        let mut side = Side::leaf(target);
        for from in others {
            let next = self.bind_from(from, &side.level, scope, children)?;
            side = side.cross(next);
        }
        Ok(side)
    }
}

/// A data-modifying statement as a block.
fn modified(
    side: Side,
    filter: Vec<CondId>,
    children: Vec<Child>,
    mut output: Output,
) -> BoundQuery {
    for column in &mut output.columns {
        column
            .sources
            .iter_mut()
            .for_each(|(_, inward)| *inward = false);
    }
    let block = Block {
        address: 0,
        tree: side.tree,
        filter,
        children,
        groups: None,
        folds: false,
        windows: false,
        fickle: false,
        distinct: None,
        names: side.level,
    };
    BoundQuery {
        body: Bound::Block(Box::new(block)),
        limited: false,
        children: Vec::new(),
        output,
    }
}
