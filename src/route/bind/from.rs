//! FROM: tables, views, subqueries, functions and the joins between them become references.

use crate::route::bind::bound::{
    BoundQuery, Child, Cond, CondId, Joined, Output, Ref, RefColumn, RefId, Source,
};
use crate::route::bind::columns::Resolved;
use crate::route::bind::expressions::{Bag, Place};
use crate::route::bind::scope::{Level, Scope};
use crate::route::bind::tables::{Found, find_table, is_ambiguous};
use crate::route::bind::{Binder, QUERY_DEPTH};
use crate::route::error::RouteError;
use crate::statement::parse::parse;
use crate::statement::scan::{Verb, says_time};
use crate::statement::tree::{From, JoinKind, JoinOn, Name, Query, Statement};
use crate::topology::Table;
use std::collections::HashSet;
use std::rc::Rc;

/// A FROM or a part of it.
pub(super) struct Side {
    pub(super) tree: Joined,
    pub(super) level: Level,
}

impl Side {
    pub(super) fn leaf(leaf: RefId) -> Self {
        Self {
            tree: Joined::Leaf(leaf),
            level: Level {
                leaves: vec![leaf],
                ..Level::default()
            },
        }
    }

    /// The next entry of a comma list.
    pub(super) fn cross(self, next: Self) -> Self {
        let mut level = self.level;
        level.leaves.extend(next.level.leaves);
        level.merged.extend(next.level.merged);
        level.opaque |= next.level.opaque;
        let tree = match self.tree {
            Joined::Nothing => next.tree,
            tree => Joined::Inner(Box::new(tree), Box::new(next.tree), Vec::new()),
        };
        Self { tree, level }
    }
}

impl Binder<'_> {
    pub(super) fn bind_from(
        &mut self,
        from: &From,
        left: &Level,
        scope: &Scope<'_>,
        children: &mut Vec<Child>,
    ) -> Result<Side, RouteError> {
        match from {
            From::Table {
                name,
                alias,
                columns,
                ..
            } => {
                let leaf = self.bind_table(name, alias.as_deref(), columns, scope)?;
                Ok(Side::leaf(leaf))
            }
            From::Subquery {
                lateral,
                query,
                alias,
                columns,
            } => {
                let sideways = Scope {
                    parent: Some(scope),
                    level: Some(left),
                    with: &[],
                };
                let bound = self.bind_query(query, if *lateral { &sideways } else { scope })?;
                let leaf = self.derived(bound, alias.clone(), columns)?;
                Ok(Side::leaf(leaf))
            }
            From::Function {
                name,
                args,
                alias,
                columns,
            } => {
                let sideways = Scope {
                    parent: Some(scope),
                    level: Some(left),
                    with: &[],
                };
                for arg in args {
                    self.visit(arg, &sideways, Place::Output, &mut Bag::apart(children))?;
                }
                self.call(name, Place::Output);
                let known: Vec<RefColumn> = columns
                    .iter()
                    .map(|name| RefColumn {
                        name: name.clone(),
                        node: None,
                    })
                    .collect();
                let alias = alias.clone().or_else(|| Some(name.name.clone()));
                let leaf = self.add_ref(Ref {
                    source: Source::Rows,
                    alias,
                    own_name: None,
                    columns: known,
                    complete: false,
                    nodes: 0..0,
                })?;
                Ok(Side::leaf(leaf))
            }
            From::Join {
                left: a,
                right: b,
                kind,
                on,
            } => {
                self.deeper(1)?;
                let a = self.bind_from(a, left, scope, children)?;
                let mut seen = left.clone();
                seen.leaves.extend(&a.level.leaves);
                seen.merged.extend(a.level.merged.iter().cloned());
                seen.opaque |= a.level.opaque;
                let b = self.bind_from(b, &seen, scope, children)?;
                self.depth -= 1;
                self.bind_join(a, b, *kind, on, scope, children)
            }
        }
    }

    fn bind_join(
        &mut self,
        a: Side,
        b: Side,
        kind: JoinKind,
        on: &JoinOn,
        scope: &Scope<'_>,
        children: &mut Vec<Child>,
    ) -> Result<Side, RouteError> {
        let mut level = a.level.clone();
        level.leaves.extend(&b.level.leaves);
        level.opaque |= b.level.opaque;
        level.merged.extend(b.level.merged.iter().cloned());
        let mut conds = Vec::new();
        match on {
            JoinOn::Nothing => {}
            JoinOn::On(expr) => {
                let here = Scope {
                    parent: Some(scope),
                    level: Some(&level),
                    with: &[],
                };
                self.conjuncts(expr, &here, Place::On, &mut conds, children)?;
            }
            JoinOn::Using(columns) => {
                for column in columns {
                    self.merge_column(column, &a.level, &b.level, kind, &mut level, &mut conds);
                }
            }
            JoinOn::Natural => match self.common_columns(&a.level, &b.level) {
                Some(columns) => {
                    for column in &columns {
                        self.merge_column(column, &a.level, &b.level, kind, &mut level, &mut conds);
                    }
                }
                None => level.opaque = true,
            },
        }
        let (a, b) = (Box::new(a.tree), Box::new(b.tree));
        let tree = match kind {
            JoinKind::Inner => Joined::Inner(a, b, conds),
            JoinKind::Left => Joined::Left(a, b, conds),
            JoinKind::Right => Joined::Left(b, a, conds),
            JoinKind::Full => Joined::Full(a, b, conds),
        };
        Ok(Side { tree, level })
    }

    /// One column of USING.
    fn merge_column(
        &mut self,
        column: &str,
        a: &Level,
        b: &Level,
        kind: JoinKind,
        level: &mut Level,
        conds: &mut Vec<CondId>,
    ) {
        let node = |resolved| {
            if let Resolved::Node(node) = resolved {
                Some(node)
            } else {
                None
            }
        };
        let left = node(self.resolve_in(column, a));
        let right = node(self.resolve_in(column, b));
        if let (Some(left), Some(right)) = (left, right)
            && self.comparable(left, right)
        {
            conds.push(self.add_cond(Cond::Same(left, right)));
        }
        let means = match kind {
            JoinKind::Inner | JoinKind::Left => left,
            JoinKind::Right => right,
            JoinKind::Full => None,
        };
        level.merged.retain(|(name, _)| name != column);
        level.merged.push((column.to_owned(), means));
    }

    /// The columns a NATURAL join compares, when they are known.
    fn common_columns(&self, a: &Level, b: &Level) -> Option<Vec<String>> {
        let names = |level: &Level| -> Option<Vec<String>> {
            let mut names = Vec::new();
            for leaf in &level.leaves {
                let reference = &self.refs[*leaf];
                if !reference.complete {
                    return None;
                }
                names.extend(reference.columns.iter().map(|c| c.name.clone()));
            }
            (!level.opaque).then_some(names)
        };
        // What an earlier join merged is there once more in each of its tables.
        let mut right: HashSet<String> = names(b)?.into_iter().collect();
        let left = names(a)?;
        Some(left.into_iter().filter(|name| right.remove(name)).collect())
    }

    fn bind_table(
        &mut self,
        name: &Name,
        alias: Option<&str>,
        columns: &[String],
        scope: &Scope<'_>,
    ) -> Result<RefId, RouteError> {
        if name.schema.is_none()
            && let Some((entry, entries, parent)) = scope.with_entry(&name.name)
        {
            return self.bind_with_entry(
                entry,
                entries,
                parent,
                alias.unwrap_or(&name.name),
                columns,
            );
        }
        if is_ambiguous(self.context, name) {
            self.unkept.ambiguous = true;
            self.ambiguous.push(name.name.clone());
        }
        let leaf = match find_table(self.context, name)? {
            Found::Catalog => self.add_ref(Ref {
                source: Source::Catalog(name.name.clone()),
                alias: None,
                own_name: Some(name.clone()),
                columns: Vec::new(),
                complete: false,
                nodes: 0..0,
            })?,
            Found::View(table, definition) => {
                let bound = self.bind_view(&table, &definition)?;
                self.derived(bound, None, &[])?
            }
            Found::Table(table) => self.table_ref(&table, false)?,
        };
        if name.schema.is_none() {
            self.bare.insert(leaf);
        }
        let reference = &mut self.refs[leaf];
        reference.alias = Some(alias.unwrap_or(&name.name).to_owned());
        reference.own_name = alias.is_none().then(|| name.clone());
        self.rename(leaf, columns);
        Ok(leaf)
    }

    fn bind_view(&mut self, table: &Table, definition: &str) -> Result<BoundQuery, RouteError> {
        let unplaced = |reason: String| RouteError::View {
            view: table.name.to_string(),
            reason,
        };
        self.unkept.never = self.unkept.never.or(table.reach.never);
        self.unkept.clock |= says_time(definition.as_bytes());
        self.deeper(QUERY_DEPTH)?;
        let query = parse_view(definition).map_err(unplaced)?;
        let bound = self.bind_query(&query, &Scope::root())?;
        self.depth -= QUERY_DEPTH;
        Ok(bound)
    }

    /// A reference to a bound query.
    pub(super) fn derived(
        &mut self,
        bound: BoundQuery,
        alias: Option<String>,
        columns: &[String],
    ) -> Result<RefId, RouteError> {
        let facts = self.facts(&bound);
        let output = bound.output.clone();
        let leaf = self.add_ref(Ref {
            source: Source::Derived {
                query: Some(Rc::new(bound)),
                links_in: Vec::new(),
                facts,
            },
            alias,
            own_name: None,
            columns: Vec::new(),
            complete: false,
            nodes: 0..0,
        })?;
        self.expose(leaf, &output);
        self.rename(leaf, columns);
        Ok(leaf)
    }

    /// Gives a derived reference its columns and links them with the inner ones.
    pub(super) fn expose(&mut self, leaf: RefId, output: &Output) {
        let mut columns = Vec::with_capacity(output.columns.len());
        let (mut inwards, mut outwards) = (Vec::new(), Vec::new());
        for column in &output.columns {
            let mut node = None;
            if let Some((first, _)) = column.sources.first() {
                let id = self.add_node(
                    leaf,
                    column.name.clone().unwrap_or_default(),
                    self.nodes[*first].family,
                );
                node = Some(id);
                for (source, inward) in &column.sources {
                    let link = self.add_link(id, *source);
                    if *inward {
                        inwards.push(link);
                    }
                    if column.outward {
                        outwards.push(link);
                    }
                }
            }
            columns.push(RefColumn {
                name: column.name.clone().unwrap_or_default(),
                node,
            });
        }
        let reference = &mut self.refs[leaf];
        reference.columns = columns;
        reference.complete = output.complete && output.positional;
        if !output.positional {
            // Names are known, positions are not: aliases by position must not use them.
            reference.columns.retain(|column| !column.name.is_empty());
        }
        if let Source::Derived {
            links_in, facts, ..
        } = &mut reference.source
        {
            links_in.extend(inwards);
            facts.extend(outwards);
        }
    }

    /// Column aliases: the first ones get new names; behind unknown columns nothing is certain.
    pub(super) fn rename(&mut self, leaf: RefId, columns: &[String]) {
        if columns.is_empty() {
            return;
        }
        let reference = &mut self.refs[leaf];
        if !reference.complete {
            reference.columns.clear();
        }
        for (index, name) in columns.iter().enumerate() {
            match reference.columns.get_mut(index) {
                Some(column) => column.name.clone_from(name),
                None => reference.columns.push(RefColumn {
                    name: name.clone(),
                    node: None,
                }),
            }
        }
    }
}

/// A view's definition as a query.
fn parse_view(definition: &str) -> Result<Query, String> {
    let text = definition.trim().trim_end_matches(';');
    match parse(text, Verb::Select) {
        Ok(Statement::Query(query)) => Ok(query),
        Ok(_) => Err("Its definition is not a query".to_owned()),
        Err(error) => Err(error.reason),
    }
}
