//! Binding: which table every name means, at every depth, and what must hold for its rows.
//!
//! In: a tree and the topology's names. Out: references ([`Ref`]), the columns that matter ([`Node`]), the conditions
//! that must hold ([`Conjunct`]) and the shape of the joins and subqueries ([`Block`]). `pins.rs` reads them.
//! What cannot be resolved for certain yields no condition, so it can only widen the route.

use crate::route::builtin::{self, Effect};
use crate::route::choose::Context;
use crate::route::error::RouteError;
use crate::route::key::{ConstantType, Values, element_type_named, type_named, type_of};
use crate::route::merge::walk;
use crate::statement::scan::{literal_text, says_time};
use crate::statement::tree::{
    Body, Cte, Delete, Distinct, Expr, From, FunctionCall, Insert, InsertSource, Item, JoinKind,
    JoinOn, Merge, MergeAction, Name, OnConflict, OrderKey, Query, Select, Statement, Update,
};
use crate::topology::{FunctionDeclaration, KeyFamily, Placement, Table, TableName};
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// A FROM entry, a target or a derived table.
pub(crate) type RefId = usize;
/// A column that may carry a key.
pub(crate) type NodeId = usize;
/// A condition.
pub(crate) type CondId = usize;

/// References one statement may have, with views and WITH entries expanded.
const REFS_MAX: usize = 512;
/// How deep a statement may nest, with views and WITH entries expanded: a query counts [`QUERY_DEPTH`], an arm of a set
/// operation one. It bounds the stack.
const DEPTH_MAX: usize = 384;
/// What a nested query adds.
const QUERY_DEPTH: usize = 4;

/// Columns that every table has: where a row is on its server, and since when.
const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];
/// Types whose values are OIDs of named objects, which are numbered on each server by itself.
const OBJECT_TYPES: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// A reference.
#[derive(Debug)]
pub(crate) struct Ref {
    /// What it refers to.
    pub(crate) source: Source,
    /// The name it is known by in its scope.
    alias: Option<String>,
    /// The table's own name, for `schema.table.column`.
    own_name: Option<Name>,
    /// Its known columns, in order.
    columns: Vec<RefColumn>,
    /// No other column exists.
    complete: bool,
    /// Its own nodes.
    nodes: std::ops::Range<NodeId>,
}

/// What a reference refers to.
#[derive(Debug)]
pub(crate) enum Source {
    /// A table with rows somewhere.
    Table {
        /// The table.
        table: Arc<Table>,
        /// It is written.
        write: bool,
    },
    /// A system catalog or an information_schema view.
    Catalog(String),
    /// A subquery, view or WITH entry.
    Derived {
        /// The query; `None` when it is placed elsewhere (a data-modifying WITH entry, a recursive reference).
        query: Option<Rc<BoundQuery>>,
        /// Its columns and the inner ones, where a condition may be pushed inwards.
        links_in: Vec<CondId>,
        /// What holds for each of its rows.
        facts: Vec<CondId>,
    },
    /// A function, VALUES or the like.
    Rows,
}

/// A column of a reference.
#[derive(Debug, Clone)]
struct RefColumn {
    name: String,
    node: Option<NodeId>,
}

/// A column whose type is of a key family.
#[derive(Debug)]
pub(crate) struct Node {
    /// Whose.
    pub(crate) reference: RefId,
    /// Its name.
    pub(crate) name: String,
    /// Its family, `None` only when the schema was not read.
    pub(crate) family: Option<KeyFamily>,
}

/// A condition that must hold.
#[derive(Debug)]
pub(crate) struct Conjunct {
    /// What it says.
    pub(crate) cond: Cond,
    /// References that are not null-extended where it holds.
    pub(crate) strict: Vec<RefId>,
    /// References it speaks of.
    pub(crate) mentions: Vec<RefId>,
}

/// What a condition says about columns.
#[derive(Debug, Clone)]
pub(crate) enum Cond {
    /// Nothing that is understood.
    True,
    /// The two are equal.
    Same(NodeId, NodeId),
    /// The column is in a set.
    Value(NodeId, Vec<Operand>),
    /// The column is not null.
    Strict(NodeId),
    /// All hold.
    And(Vec<Cond>),
    /// One holds.
    Or(Vec<Cond>),
}

/// A constant of the statement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    /// An extracted literal.
    Literal(usize),
    /// A parameter.
    Param(u16),
    /// A number in the shape.
    Number(String),
    /// A string in the shape.
    Text(String),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL, compared: equal to nothing.
    Null,
}

/// What a column is compared with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operand {
    /// A value.
    One {
        /// The constant.
        constant: Constant,
        /// With a minus before it.
        negative: bool,
        /// Its type.
        given: ConstantType,
    },
    /// Each element of an array.
    Each {
        /// The constant.
        constant: Constant,
        /// Its element type.
        given: ConstantType,
    },
    /// `IS NULL`: NULL itself.
    IsNull,
}

/// The joins of one block.
#[derive(Debug, Clone)]
pub(crate) enum Joined {
    /// No FROM.
    Nothing,
    /// A reference.
    Leaf(RefId),
    /// Inner or cross.
    Inner(Box<Joined>, Box<Joined>, Vec<CondId>),
    /// Left preserved, right nullable.
    Left(Box<Joined>, Box<Joined>, Vec<CondId>),
    /// Both preserved: the ON restricts neither.
    Full(Box<Joined>, Box<Joined>, Vec<CondId>),
}

impl Joined {
    /// Its references.
    pub(crate) fn leaves(&self, out: &mut Vec<RefId>) {
        match self {
            Self::Nothing => {}
            Self::Leaf(leaf) => out.push(*leaf),
            Self::Inner(left, right, _)
            | Self::Left(left, right, _)
            | Self::Full(left, right, _) => {
                left.leaves(out);
                right.leaves(out);
            }
        }
    }
}

/// A bound query expression.
#[derive(Debug)]
pub(crate) struct BoundQuery {
    /// The body.
    pub(crate) body: Bound,
    /// LIMIT, OFFSET or FETCH.
    pub(crate) limited: bool,
    /// Subqueries of LIMIT and of a set operation's ORDER BY.
    pub(crate) children: Vec<Child>,
    /// What it returns.
    output: Output,
}

/// A bound body.
#[derive(Debug)]
pub(crate) enum Bound {
    /// One SELECT block, or a data-modifying statement.
    Block(Box<Block>),
    /// A set operation.
    Set(Box<BoundQuery>, Box<BoundQuery>),
    /// VALUES.
    Values(Vec<Child>),
    /// A query in parentheses.
    Query(Box<BoundQuery>),
}

/// A bound SELECT block.
#[derive(Debug)]
pub(crate) struct Block {
    /// The address of its [`Select`], 0 for other statements.
    pub(crate) address: usize,
    /// FROM.
    pub(crate) tree: Joined,
    /// WHERE, and what its positive subqueries prove.
    pub(crate) filter: Vec<CondId>,
    /// Subqueries in expressions.
    pub(crate) children: Vec<Child>,
    /// GROUP BY's plain columns, when it groups.
    pub(crate) groups: Option<Vec<NodeId>>,
    /// It aggregates all its rows into one, or in ways that are not followed.
    pub(crate) folds: bool,
    /// It has window functions.
    pub(crate) windows: bool,
    /// Which rows or values it returns may differ between servers: DISTINCT ON, window functions, array_agg.
    pub(crate) fickle: bool,
    /// DISTINCT's columns, when there is one.
    pub(crate) distinct: Option<Vec<NodeId>>,
    /// Names visible in it.
    pub(crate) names: Level,
}

/// A subquery in an expression.
#[derive(Debug)]
pub(crate) struct Child {
    /// The query.
    pub(crate) query: BoundQuery,
    /// What of the outer row may be pushed into it.
    pub(crate) links: Vec<CondId>,
    /// What it proves of the outer row. That follows from the rows it returns, so it must not choose them: a LIMIT or
    /// a window inside would see other rows.
    pub(crate) proves: Vec<CondId>,
    /// What holds for the outer row holds for it; not so in ON clauses.
    pub(crate) sees_outer: bool,
}

/// What a query returns.
#[derive(Debug, Clone, Default)]
struct Output {
    columns: Vec<OutColumn>,
    /// `columns` are all, in order.
    positional: bool,
    /// No other column name exists.
    complete: bool,
}

/// A column that a query returns.
#[derive(Debug, Clone)]
struct OutColumn {
    name: Option<String>,
    /// The inner columns it is; a set operation has one per arm.
    sources: SmallVec<[(NodeId, bool); 1]>,
    /// Each row's value is the (only) source's value.
    outward: bool,
}

/// The names of one FROM.
#[derive(Debug, Clone, Default)]
pub(crate) struct Level {
    leaves: Vec<RefId>,
    /// Columns merged by USING, with the node the name means.
    merged: Vec<(String, Option<NodeId>)>,
    /// A NATURAL join over unknown columns: unqualified names cannot be resolved.
    opaque: bool,
}

/// A FROM or a part of it.
struct Side {
    tree: Joined,
    level: Level,
}

/// Names in scope, innermost first.
struct Scope<'s> {
    parent: Option<&'s Scope<'s>>,
    level: Option<&'s Level>,
    with: &'s [WithEntry<'s>],
}

/// A WITH entry.
struct WithEntry<'s> {
    name: &'s str,
    columns: &'s [String],
    kind: WithKind<'s>,
    used: Cell<bool>,
}

/// How a WITH entry is referred to.
enum WithKind<'s> {
    /// A query, bound afresh at each reference in the scope that defines it: with the entries before it.
    Query { query: &'s Query, before: usize },
    /// A recursive query: placed once, on its own.
    Recursive,
    /// A data-modifying statement, placed once.
    Modifying { output: Output, facts: Vec<CondId> },
}

/// What one block's expressions contain.
#[derive(Debug, Clone, Copy, Default)]
struct Traits {
    aggregates: bool,
    order_sensitive: bool,
    windows: bool,
}

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its value can reach the answer.
    Output,
    /// WHERE or ON of an inner join.
    Filter,
    /// ON of an outer join.
    On,
}

/// A function call that matters.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) effect: CallEffect,
    /// Its value can reach the answer.
    pub(crate) output: bool,
}

/// What a call does.
#[derive(Debug, Clone)]
pub(crate) enum CallEffect {
    /// PostgreSQL's own.
    BuiltIn(Effect),
    /// Nothing of that name is known: PostgreSQL refuses it, or is newer than we.
    Unknown,
    /// A user's, not IMMUTABLE and not declared.
    Undeclared,
    /// A user's, declared.
    Declared(FunctionDeclaration, bool),
}

/// A key column that a statement sets.
#[derive(Debug)]
pub(crate) struct KeyWrite {
    /// The written table.
    pub(crate) target: RefId,
    /// The key column.
    pub(crate) column: String,
    /// Its new value.
    pub(crate) written: Written,
    /// ON CONFLICT DO UPDATE: routed by the row that was to be inserted.
    pub(crate) on_conflict: bool,
}

/// A key column's new value.
#[derive(Debug)]
pub(crate) enum Written {
    /// A column's.
    Node(NodeId),
    /// A constant.
    Constant(Operand),
    /// `EXCLUDED.key`.
    Excluded,
    /// Anything else.
    Other,
}

/// How often a parameter is used, and how often where its type follows from a key family.
#[derive(Debug, Default, Clone)]
pub(crate) struct ParamUse {
    total: u32,
    typed: u32,
    family: Option<KeyFamily>,
    mixed: bool,
}

/// Texts whose value can reach the answer: read as a time, 'now' would be each server's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeTexts {
    /// Some cannot be told from others: a time word anywhere in the statement counts.
    unseen: bool,
    literals: Vec<usize>,
    params: Vec<u16>,
}

impl TimeTexts {
    /// Does one of them say 'now', 'today' or the like in this execution?
    pub(crate) fn say_time(&self, values: &Values<'_>) -> bool {
        let statement = values.statement;
        let literal = |index: &usize| {
            statement.literals.get(*index).is_some_and(|literal| {
                literal_text(values.text, literal, statement.settings)
                    .map_or(true, |text| says_time(text.as_bytes()))
            })
        };
        let param = |number: &u16| {
            let given = values.params.get(*number);
            given.and_then(|param| param.bytes).is_some_and(says_time)
        };
        statement.time_words && (self.unseen || self.literals.iter().any(literal))
            || self.params.iter().any(param)
    }
}

/// The binder's state.
pub(crate) struct Binder<'c> {
    context: &'c Context<'c>,
    /// References.
    pub(crate) refs: Vec<Ref>,
    /// Columns.
    pub(crate) nodes: Vec<Node>,
    /// Conditions.
    pub(crate) conds: Vec<Conjunct>,
    /// Function calls that matter.
    pub(crate) calls: Vec<Call>,
    /// Parameters.
    pub(crate) params: HashMap<u16, ParamUse>,
    /// WITH entries that are placed on their own.
    pub(crate) separate: Vec<BoundQuery>,
    /// Key columns that are set.
    pub(crate) key_writes: Vec<KeyWrite>,
    /// FOR UPDATE and kin anywhere.
    pub(crate) locking: bool,
    /// SELECT … INTO, or a data-modifying statement.
    pub(crate) writes: bool,
    /// Texts that could say 'now' and reach the answer.
    pub(crate) time_casts: TimeTexts,
    traits: Vec<Traits>,
    depth: usize,
}

impl<'c> Binder<'c> {
    /// A binder for one statement.
    pub(crate) fn new(context: &'c Context<'c>) -> Self {
        Self {
            context,
            refs: Vec::new(),
            nodes: Vec::new(),
            conds: Vec::new(),
            calls: Vec::new(),
            params: HashMap::new(),
            separate: Vec::new(),
            key_writes: Vec::new(),
            locking: false,
            writes: false,
            time_casts: TimeTexts::default(),
            traits: vec![Traits::default()],
            depth: 0,
        }
    }

    /// Binds a top-level query.
    pub(crate) fn query(&mut self, query: &Query) -> Result<BoundQuery, RouteError> {
        self.bind_query(query, &Scope::root())
    }

    /// Parameters whose undeclared type does not surely follow from the key they are compared with.
    pub(crate) fn untyped_params(&self) -> Vec<u16> {
        let mut untyped: Vec<u16> = self
            .params
            .iter()
            .filter(|(_, uses)| uses.mixed || uses.total != uses.typed)
            .map(|(n, _)| *n)
            .collect();
        untyped.sort_unstable();
        untyped
    }

    // ---- queries ----

    fn bind_query(&mut self, query: &Query, outer: &Scope<'_>) -> Result<BoundQuery, RouteError> {
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

    fn deeper(&mut self, by: usize) -> Result<(), RouteError> {
        self.depth += by;
        if self.depth > DEPTH_MAX {
            return Err(RouteError::TooComplex {
                reason: format!("more than {} queries are nested", DEPTH_MAX / QUERY_DEPTH),
            });
        }
        Ok(())
    }

    /// WITH entries. Queries are bound where they are referred to; what modifies data or recurs, here.
    fn bind_with<'s>(
        &mut self,
        with: &'s [Cte],
        recursive: bool,
        outer: &Scope<'_>,
    ) -> Result<Vec<WithEntry<'s>>, RouteError> {
        let mut entries: Vec<WithEntry<'s>> = Vec::with_capacity(with.len());
        for (index, cte) in with.iter().enumerate() {
            let kind = match &cte.statement {
                // RECURSIVE lets an entry name itself and the later ones: each is placed on its own.
                Statement::Query(query) if recursive => {
                    let all: Vec<WithEntry<'_>> = with
                        .iter()
                        .map(|other| WithEntry::new(other, WithKind::Recursive))
                        .collect();
                    let scope = Scope {
                        parent: Some(outer),
                        level: None,
                        with: &all,
                    };
                    let bound = self.bind_query(query, &scope)?;
                    self.separate.push(bound);
                    WithKind::Recursive
                }
                Statement::Query(query) => WithKind::Query {
                    query,
                    before: index,
                },
                modifying => {
                    let scope = Scope {
                        parent: Some(outer),
                        level: None,
                        with: &entries,
                    };
                    let bound = self.bind_modifying(modifying, &scope)?;
                    let facts = self.facts(&bound);
                    let output = bound.output.clone();
                    self.separate.push(bound);
                    WithKind::Modifying { output, facts }
                }
            };
            entries.push(WithEntry::new(cte, kind));
        }
        Ok(entries)
    }

    /// Binds the WITH queries that nothing refers to: PostgreSQL checks them too.
    fn bind_unused(
        &mut self,
        entries: &[WithEntry<'_>],
        outer: &Scope<'_>,
    ) -> Result<(), RouteError> {
        for entry in entries.iter().rev() {
            if let (WithKind::Query { query, before }, false) = (&entry.kind, entry.used.get()) {
                let scope = Scope {
                    parent: Some(outer),
                    level: None,
                    with: &entries[..*before],
                };
                let bound = self.bind_query(query, &scope)?;
                self.separate.push(bound);
            }
        }
        Ok(())
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

    fn select_output(
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

    // ---- FROM ----

    fn bind_from(
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
                let a = self.bind_from(a, left, scope, children)?;
                let mut seen = left.clone();
                seen.leaves.extend(&a.level.leaves);
                seen.merged.extend(a.level.merged.iter().cloned());
                seen.opaque |= a.level.opaque;
                let b = self.bind_from(b, &seen, scope, children)?;
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
        let right = names(b)?;
        let mut common: Vec<String> = names(a)?
            .into_iter()
            .filter(|name| right.contains(name))
            .collect();
        common.dedup();
        Some(common)
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
        let leaf = match self.find_table(name)? {
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
        let reference = &mut self.refs[leaf];
        reference.alias = Some(alias.unwrap_or(&name.name).to_owned());
        reference.own_name = alias.is_none().then(|| name.clone());
        self.rename(leaf, columns);
        Ok(leaf)
    }

    /// Column aliases: the first ones get new names; behind unknown columns nothing is certain.
    fn rename(&mut self, leaf: RefId, columns: &[String]) {
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

    fn bind_with_entry(
        &mut self,
        entry: &WithEntry<'_>,
        entries: &[WithEntry<'_>],
        parent: Option<&Scope<'_>>,
        alias: &str,
        columns: &[String],
    ) -> Result<RefId, RouteError> {
        let leaf = match &entry.kind {
            WithKind::Query { query, before } => {
                entry.used.set(true);
                let scope = Scope {
                    parent,
                    level: None,
                    with: &entries[..*before],
                };
                let bound = self.bind_query(query, &scope)?;
                self.derived(bound, None, entry.columns)?
            }
            WithKind::Recursive => {
                let known = entry
                    .columns
                    .iter()
                    .map(|name| RefColumn {
                        name: name.clone(),
                        node: None,
                    })
                    .collect();
                self.add_ref(Ref {
                    source: Source::Derived {
                        query: None,
                        links_in: Vec::new(),
                        facts: Vec::new(),
                    },
                    alias: None,
                    own_name: None,
                    columns: known,
                    complete: false,
                    nodes: 0..0,
                })?
            }
            WithKind::Modifying { output, facts } => {
                let leaf = self.add_ref(Ref {
                    source: Source::Derived {
                        query: None,
                        links_in: Vec::new(),
                        facts: facts.clone(),
                    },
                    alias: None,
                    own_name: None,
                    columns: Vec::new(),
                    complete: false,
                    nodes: 0..0,
                })?;
                self.expose(leaf, output);
                self.rename(leaf, entry.columns);
                leaf
            }
        };
        self.refs[leaf].alias = Some(alias.to_owned());
        self.rename(leaf, columns);
        Ok(leaf)
    }

    fn bind_view(&mut self, table: &Table, definition: &str) -> Result<BoundQuery, RouteError> {
        let unplaced = |reason: String| RouteError::View {
            view: table.name.to_string(),
            reason,
        };
        self.deeper(QUERY_DEPTH)?;
        let query = crate::route::choose::parse_view(definition).map_err(unplaced)?;
        let bound = self.bind_query(&query, &Scope::root())?;
        self.depth -= QUERY_DEPTH;
        Ok(bound)
    }

    /// A reference to a bound query.
    fn derived(
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
    fn expose(&mut self, leaf: RefId, output: &Output) {
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

    /// What holds for every row the query returns.
    pub(crate) fn facts(&self, query: &BoundQuery) -> Vec<CondId> {
        match &query.body {
            Bound::Block(block) if !block.folds => {
                let tree = self.reduce(&block.tree, &self.strict_refs(&block.filter));
                let mut facts = block.filter.clone();
                self.holds(&tree, &mut facts);
                facts
            }
            Bound::Query(inner) => self.facts(inner),
            _ => Vec::new(),
        }
    }

    /// References that the conditions keep from being null-extended.
    pub(crate) fn strict_refs(&self, conds: &[CondId]) -> Vec<RefId> {
        conds
            .iter()
            .flat_map(|id| self.conds[*id].strict.iter().copied())
            .collect()
    }

    /// What holds for every row of a join.
    pub(crate) fn holds(&self, tree: &Joined, out: &mut Vec<CondId>) {
        match tree {
            Joined::Nothing | Joined::Full(..) => {}
            Joined::Leaf(leaf) => {
                if let Source::Derived { facts, .. } = &self.refs[*leaf].source {
                    out.extend(facts);
                }
            }
            Joined::Inner(left, right, on) => {
                out.extend(on);
                self.holds(left, out);
                self.holds(right, out);
            }
            Joined::Left(left, ..) => self.holds(left, out),
        }
    }

    /// Outer joins become inner where a strict condition above throws the null-extended rows away.
    pub(crate) fn reduce(&self, tree: &Joined, strict: &[RefId]) -> Joined {
        let touches = |side: &Joined| {
            let mut leaves = Vec::new();
            side.leaves(&mut leaves);
            leaves.iter().any(|leaf| strict.contains(leaf))
        };
        let inner = |left: &Joined, right: &Joined, on: &[CondId]| {
            let mut strict = strict.to_vec();
            strict.extend(self.strict_refs(on));
            Joined::Inner(
                Box::new(self.reduce(left, &strict)),
                Box::new(self.reduce(right, &strict)),
                on.to_vec(),
            )
        };
        match tree {
            Joined::Nothing | Joined::Leaf(_) => tree.clone(),
            Joined::Inner(left, right, on) => inner(left, right, on),
            Joined::Left(left, right, on) if touches(right) => inner(left, right, on),
            Joined::Left(left, right, on) => Joined::Left(
                Box::new(self.reduce(left, strict)),
                Box::new(self.reduce(right, &self.strict_refs(on))),
                on.clone(),
            ),
            Joined::Full(left, right, on) => match (touches(left), touches(right)) {
                (true, true) => inner(left, right, on),
                (true, false) => self.reduce(
                    &Joined::Left(left.clone(), right.clone(), on.clone()),
                    strict,
                ),
                (false, true) => self.reduce(
                    &Joined::Left(right.clone(), left.clone(), on.clone()),
                    strict,
                ),
                (false, false) => Joined::Full(
                    Box::new(self.reduce(left, &[])),
                    Box::new(self.reduce(right, &[])),
                    on.clone(),
                ),
            },
        }
    }

    // ---- data-modifying statements ----

    /// Binds INSERT, UPDATE, DELETE or MERGE.
    pub(crate) fn modifying(&mut self, statement: &Statement) -> Result<BoundQuery, RouteError> {
        self.bind_modifying(statement, &Scope::root())
    }

    fn bind_modifying(
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
        let leaf = match self.find_table(name)? {
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
        let reference = &mut self.refs[leaf];
        reference.alias = Some(alias.unwrap_or(&name.name).to_owned());
        reference.own_name = alias.is_none().then(|| name.clone());
        Ok(leaf)
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

    /// A MERGE's INSERT writes each key column, by default where it does not name it.
    fn merge_insert(
        &mut self,
        target: RefId,
        columns: &[String],
        (values, overriding_user): (&[Expr], bool),
        here: &Scope<'_>,
    ) {
        let Source::Table { table, .. } = &self.refs[target].source else {
            return;
        };
        let table = Arc::clone(table);
        let Placement::Sharded { key } = &table.placement else {
            return;
        };
        for column in key
            .iter()
            .map(|column| column.name.clone())
            .collect::<Vec<_>>()
        {
            let position = if columns.is_empty() {
                self.refs[target]
                    .columns
                    .iter()
                    .position(|c| c.name == column)
                    .filter(|_| self.refs[target].complete)
            } else {
                columns.iter().position(|c| *c == column)
            };
            let written = match position.and_then(|at| values.get(at)) {
                Some(value) if !(overriding_user && is_overridden(&table, &column)) => {
                    self.written(&column, value, here)
                }
                _ => Written::Other,
            };
            let written = match written {
                Written::Node(node) if !self.is_stored_whole(&[node], &table, &column) => {
                    Written::Other
                }
                written => written,
            };
            self.key_writes.push(KeyWrite {
                target,
                column,
                written,
                on_conflict: false,
            });
        }
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
            InsertSource::Default => {}
            InsertSource::Values(rows) => {
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
                let positional = bound.output.positional;
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

    /// The target's column that the index-th value goes to.
    fn insert_column(&self, insert: &Insert, target: RefId, index: usize) -> Option<NodeId> {
        let reference = &self.refs[target];
        if insert.columns.is_empty() {
            return if reference.complete {
                reference.columns.get(index)?.node
            } else {
                None
            };
        }
        let name = insert.columns.get(index)?;
        reference
            .columns
            .iter()
            .find(|column| column.name == *name)?
            .node
    }

    /// The node of [`Binder::insert_column`], when it stores just what the query's column gives it.
    fn stored_column(
        &self,
        insert: &Insert,
        target: RefId,
        (index, given): (usize, &OutColumn),
    ) -> Option<NodeId> {
        let node = self.insert_column(insert, target, index)?;
        let Source::Table { table, .. } = &self.refs[target].source else {
            return None;
        };
        let column = self.nodes[node].name.as_str();
        let overridden = insert.overriding_user && is_overridden(table, column);
        let sources: SmallVec<[NodeId; 1]> = given.sources.iter().map(|(node, _)| *node).collect();
        (!overridden && self.is_stored_whole(&sources, table, column)).then_some(node)
    }

    /// Are these columns' values stored in a column as they are? One with a length or precision cuts blanks and
    /// rounds, unless they had the same before. char(n) has no blanks at its end that count.
    fn is_stored_whole(&self, sources: &[NodeId], table: &Table, column: &str) -> bool {
        let find = |table: &Table, name: &str| {
            let column = table.columns.iter().find(|column| column.name == name)?;
            Some(column.stored_as.clone())
        };
        let Some(stored_as) = find(table, column) else {
            return true;
        };
        if length_of(&stored_as).is_none() || stored_as.starts_with("character(") {
            return true;
        }
        sources.iter().all(|source| {
            let node = &self.nodes[*source];
            match &self.refs[node.reference].source {
                Source::Table { table, .. } => {
                    find(table, &node.name).is_some_and(|own| own == stored_as)
                }
                _ => false,
            }
        })
    }

    /// `SET column = value`: a parameter is typed by the column.
    fn visit_assignment(
        &mut self,
        target: RefId,
        columns: &[String],
        value: &Expr,
        here: &Scope<'_>,
        on_conflict: bool,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        for column in columns {
            if self.is_key(target, column) {
                let written = if columns.len() == 1 {
                    self.written(column, value, here)
                } else {
                    Written::Other
                };
                self.key_writes.push(KeyWrite {
                    target,
                    column: column.clone(),
                    written,
                    on_conflict,
                });
            }
        }
        if let [column] = columns {
            let node = self.refs[target]
                .columns
                .iter()
                .find(|c| c.name == *column)
                .and_then(|c| c.node);
            self.mark_param(value, node.and_then(|node| self.nodes[node].family));
        }
        self.visit(value, here, Place::Output, bag)
    }

    /// RETURNING gives the row as written (by SET, a trigger, a generated column), and what is known of the target's
    /// columns is about the row as found. Only the key is the same: nothing that could change it is let through.
    fn forget_written(&self, target: RefId, output: &mut Output) {
        let own = &self.refs[target].nodes;
        for column in &mut output.columns {
            let kept = |(node, _): &(NodeId, bool)| {
                !own.contains(node) || self.is_key(target, &self.nodes[*node].name)
            };
            if !column.sources.iter().all(kept) {
                column.sources.clear();
                column.outward = false;
            }
        }
    }

    fn is_key(&self, target: RefId, column: &str) -> bool {
        match &self.refs[target].source {
            Source::Table { table, .. } => match &table.placement {
                Placement::Sharded { key } => key.iter().any(|k| k.name == column),
                Placement::Reference | Placement::Unsharded => false,
            },
            _ => false,
        }
    }

    fn written(&self, column: &str, value: &Expr, here: &Scope<'_>) -> Written {
        if let Expr::Column { qualifier, name } = value
            && qualifier.as_slice() == ["excluded"]
        {
            return if name == column {
                Written::Excluded
            } else {
                Written::Other
            };
        }
        match (self.plain(value, here), operand(value)) {
            (Some(node), _) => Written::Node(node),
            (None, Some(operand)) => Written::Constant(operand),
            (None, None) => Written::Other,
        }
    }

    // ---- names ----

    /// The table, view or catalog that a name means.
    pub(crate) fn find_table(&self, name: &Name) -> Result<Found, RouteError> {
        find_table(self.context, name)
    }

    /// A reference to a table, with its columns.
    fn table_ref(&mut self, table: &Arc<Table>, write: bool) -> Result<RefId, RouteError> {
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

    fn leaf_named(&self, qualifier: &[String], scope: &Scope<'_>) -> Option<RefId> {
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

    fn resolve(&self, qualifier: &[String], name: &str, scope: &Scope<'_>) -> Resolved {
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
    fn resolve_in(&self, name: &str, level: &Level) -> Resolved {
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

    // ---- conditions ----

    /// Equality of the two columns is equality of canonical bytes.
    fn comparable(&self, a: NodeId, b: NodeId) -> bool {
        self.nodes[a].family == self.nodes[b].family
    }

    fn add_ref(&mut self, reference: Ref) -> Result<RefId, RouteError> {
        if self.refs.len() >= REFS_MAX {
            return Err(RouteError::TooComplex {
                reason: format!("more than {REFS_MAX} table references"),
            });
        }
        self.refs.push(reference);
        Ok(self.refs.len() - 1)
    }

    fn add_node(&mut self, reference: RefId, name: String, family: Option<KeyFamily>) -> NodeId {
        self.nodes.push(Node {
            reference,
            name,
            family,
        });
        self.nodes.len() - 1
    }

    fn add_cond(&mut self, cond: Cond) -> CondId {
        let (mut strict, mut mentions) = (Vec::new(), Vec::new());
        self.describe(&cond, &mut strict, &mut mentions);
        self.conds.push(Conjunct {
            cond,
            strict,
            mentions,
        });
        self.conds.len() - 1
    }

    /// An identity, not a comparison: it says nothing about NULL.
    fn add_link(&mut self, a: NodeId, b: NodeId) -> CondId {
        let mentions = vec![self.nodes[a].reference, self.nodes[b].reference];
        self.conds.push(Conjunct {
            cond: Cond::Same(a, b),
            strict: Vec::new(),
            mentions,
        });
        self.conds.len() - 1
    }

    fn describe(&self, cond: &Cond, strict: &mut Vec<RefId>, mentions: &mut Vec<RefId>) {
        match cond {
            Cond::True => {}
            Cond::Same(a, b) => {
                for node in [a, b] {
                    strict.push(self.nodes[*node].reference);
                    mentions.push(self.nodes[*node].reference);
                }
            }
            Cond::Value(node, operands) => {
                mentions.push(self.nodes[*node].reference);
                if !operands.contains(&Operand::IsNull) {
                    strict.push(self.nodes[*node].reference);
                }
            }
            Cond::Strict(node) => {
                mentions.push(self.nodes[*node].reference);
                strict.push(self.nodes[*node].reference);
            }
            Cond::And(parts) => parts
                .iter()
                .for_each(|part| self.describe(part, strict, mentions)),
            Cond::Or(parts) => {
                let mut common: Option<Vec<RefId>> = None;
                for part in parts {
                    let mut these = Vec::new();
                    self.describe(part, &mut these, mentions);
                    common = Some(match common {
                        None => these,
                        Some(before) => before
                            .into_iter()
                            .filter(|leaf| these.contains(leaf))
                            .collect(),
                    });
                }
                strict.extend(common.unwrap_or_default());
            }
        }
    }

    /// Takes a WHERE or ON apart. Positive subqueries (`EXISTS`, `IN`) become semi-joins: what they prove holds.
    fn conjuncts(
        &mut self,
        expr: &Expr,
        here: &Scope<'_>,
        place: Place,
        conds: &mut Vec<CondId>,
        children: &mut Vec<Child>,
    ) -> Result<(), RouteError> {
        match expr {
            Expr::And(parts) => {
                for part in parts {
                    self.conjuncts(part, here, place, conds, children)?;
                }
                return Ok(());
            }
            Expr::Exists(query) if place == Place::Filter => {
                let query = self.bind_query(query, here)?;
                let proves = self.facts(&query);
                conds.extend(&proves);
                children.push(Child {
                    query,
                    links: Vec::new(),
                    proves,
                    sees_outer: true,
                });
                return Ok(());
            }
            Expr::InQuery {
                expr,
                query,
                negated: false,
            } if place == Place::Filter => {
                return self.semi_join(expr, query, here, conds, children);
            }
            Expr::Quantified {
                left,
                op,
                all: false,
                right,
            } if place == Place::Filter && op == "=" => {
                if let Expr::Query(query) = right.as_ref() {
                    return self.semi_join(left, query, here, conds, children);
                }
            }
            _ => {}
        }
        let mut bag = if place == Place::On {
            Bag::apart(children)
        } else {
            Bag::new(children)
        };
        self.visit(expr, here, place, &mut bag)?;
        let cond = self.condition(expr, here);
        if !matches!(cond, Cond::True) {
            let id = self.add_cond(cond);
            conds.push(id);
        }
        Ok(())
    }

    fn semi_join(
        &mut self,
        left: &Expr,
        query: &Query,
        here: &Scope<'_>,
        conds: &mut Vec<CondId>,
        children: &mut Vec<Child>,
    ) -> Result<(), RouteError> {
        self.visit(left, here, Place::Filter, &mut Bag::new(children))?;
        let query = self.bind_query(query, here)?;
        let mut proves = self.facts(&query);
        let exprs: &[Expr] = if let Expr::Row(parts) = left {
            parts
        } else {
            std::slice::from_ref(left)
        };
        let mut links = Vec::new();
        if query.output.positional && query.output.columns.len() == exprs.len() {
            for (expr, column) in exprs.iter().zip(query.output.columns.clone()) {
                let Some(outer) = self.plain(expr, here) else {
                    continue;
                };
                for (source, inward) in &column.sources {
                    if !self.comparable(outer, *source) {
                        continue;
                    }
                    let same = self.add_cond(Cond::Same(outer, *source));
                    if *inward {
                        links.push(same);
                    }
                    if column.outward {
                        proves.push(same);
                    }
                }
            }
        }
        conds.extend(&proves);
        children.push(Child {
            query,
            links,
            proves,
            sees_outer: true,
        });
        Ok(())
    }

    /// The node of a plain column.
    fn plain(&self, expr: &Expr, here: &Scope<'_>) -> Option<NodeId> {
        let Expr::Column { qualifier, name } = expr else {
            return None;
        };
        match self.resolve(qualifier, name, here) {
            Resolved::Node(node) => Some(node),
            _ => None,
        }
    }

    /// What an expression says when it must be true.
    fn condition(&self, expr: &Expr, here: &Scope<'_>) -> Cond {
        match expr {
            Expr::And(parts) => {
                let parts: Vec<Cond> = parts
                    .iter()
                    .map(|part| self.condition(part, here))
                    .filter(|part| !matches!(part, Cond::True))
                    .collect();
                if parts.is_empty() {
                    Cond::True
                } else {
                    Cond::And(parts)
                }
            }
            Expr::Or(parts) => {
                let parts: Vec<Cond> = parts
                    .iter()
                    .map(|part| self.condition(part, here))
                    .collect();
                if parts.iter().any(|part| matches!(part, Cond::True)) {
                    Cond::True
                } else {
                    Cond::Or(parts)
                }
            }
            Expr::Binary { op, left, right } => self.comparison(op, left, right, here),
            Expr::In {
                expr,
                list,
                negated: false,
            } => self.in_list(expr, list, here),
            Expr::Quantified {
                left,
                op,
                all: false,
                right,
            } if op == "=" => match self.plain(left, here) {
                Some(node) => match array_operands(right) {
                    Some(operands) => Cond::Value(node, operands),
                    None => Cond::True,
                },
                None => Cond::True,
            },
            Expr::IsNull { expr, negated } => match (self.plain(expr, here), negated) {
                (Some(node), true) => Cond::Strict(node),
                (Some(node), false) => Cond::Value(node, vec![Operand::IsNull]),
                (None, _) => Cond::True,
            },
            Expr::Between {
                expr,
                negated: false,
                ..
            } => self.plain(expr, here).map_or(Cond::True, Cond::Strict),
            _ => Cond::True,
        }
    }

    fn comparison(&self, op: &str, left: &Expr, right: &Expr, here: &Scope<'_>) -> Cond {
        if let (Expr::Row(left), Expr::Row(right)) = (left, right) {
            if op != "=" || left.len() != right.len() {
                return Cond::True;
            }
            let parts = left
                .iter()
                .zip(right)
                .map(|(l, r)| self.comparison("=", l, r, here));
            return Cond::And(parts.filter(|part| !matches!(part, Cond::True)).collect());
        }
        let (a, b) = (self.plain(left, here), self.plain(right, here));
        match (op, a, b) {
            ("=", Some(a), Some(b)) if self.comparable(a, b) => Cond::Same(a, b),
            ("=", Some(a), None) => {
                operand(right).map_or(Cond::Strict(a), |o| Cond::Value(a, vec![o]))
            }
            ("=", None, Some(b)) => {
                operand(left).map_or(Cond::Strict(b), |o| Cond::Value(b, vec![o]))
            }
            ("=" | "<" | ">" | "<=" | ">=" | "<>" | "!=", a, b) => {
                let parts: Vec<Cond> = a.into_iter().chain(b).map(Cond::Strict).collect();
                if parts.is_empty() {
                    Cond::True
                } else {
                    Cond::And(parts)
                }
            }
            _ => Cond::True,
        }
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], here: &Scope<'_>) -> Cond {
        if let Expr::Row(_) = expr {
            let rows: Vec<Cond> = list
                .iter()
                .map(|row| self.comparison("=", expr, row, here))
                .collect();
            let useful = |row: &Cond| matches!(row, Cond::And(parts) if !parts.is_empty());
            return if rows.iter().all(useful) {
                Cond::Or(rows)
            } else {
                Cond::True
            };
        }
        let Some(node) = self.plain(expr, here) else {
            return Cond::True;
        };
        let operands: Option<Vec<Operand>> = list.iter().map(operand).collect();
        // A list is compared as one type: a decimal among parameters would type the parameters numeric.
        let has_param = list.iter().any(|e| matches!(e, Expr::Param(_)));
        let all_plain = list
            .iter()
            .all(|e| matches!(e, Expr::Param(_) | Expr::Null));
        match operands {
            Some(operands) if !has_param || all_plain => Cond::Value(node, operands),
            _ => Cond::Strict(node),
        }
    }

    // ---- expressions ----

    /// Walks an expression for subqueries, functions and parameters.
    fn visit(
        &mut self,
        expr: &Expr,
        here: &Scope<'_>,
        place: Place,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        match expr {
            Expr::Column { qualifier, name } => {
                self.visit_column(qualifier, name, here, place);
                Ok(())
            }
            Expr::Literal(index) => {
                if place == Place::Output {
                    self.time_casts.literals.push(*index);
                }
                Ok(())
            }
            Expr::String(text) => {
                if place == Place::Output && says_time(text.as_bytes()) {
                    self.time_casts.unseen = true;
                }
                Ok(())
            }
            Expr::Null | Expr::Bool(_) | Expr::Number(_) | Expr::Default => Ok(()),
            Expr::Field { expr: inner, name } => {
                if self.is_callable(name) {
                    self.visit_notation(name, false, place);
                }
                self.visit(inner, here, place, bag)
            }
            Expr::Param(number) => {
                self.params.entry(*number).or_default().total += 1;
                if place == Place::Output {
                    self.time_casts.params.push(*number);
                }
                Ok(())
            }
            // A string that is not taken apart.
            Expr::Other(parts) if parts.is_empty() => {
                self.time_casts.unseen |= place == Place::Output;
                Ok(())
            }
            Expr::And(parts)
            | Expr::Or(parts)
            | Expr::Array(parts)
            | Expr::Row(parts)
            | Expr::Case(parts)
            | Expr::Other(parts) => parts
                .iter()
                .try_for_each(|part| self.visit(part, here, place, bag)),
            Expr::Not(inner) | Expr::Negate(inner) | Expr::Collate { expr: inner, .. } => {
                self.visit(inner, here, place, bag)
            }
            Expr::IsNull { expr: inner, .. } => self.visit(inner, here, place, bag),
            Expr::Cast {
                expr: inner,
                data_type,
            } => {
                if is_shown_by(data_type)
                    && let Some(parts) = object_parts(inner)
                {
                    return parts
                        .iter()
                        .try_for_each(|part| self.visit(part, here, place, bag));
                }
                if object_parts(expr).is_some() {
                    self.differs(data_type, place);
                }
                if let ConstantType::Family(family) = type_named(data_type) {
                    self.mark_param(inner, Some(family));
                } else if let ConstantType::Family(family) = element_type_named(data_type) {
                    self.mark_param(inner, Some(family));
                    if let Expr::Array(parts) = inner.as_ref() {
                        parts
                            .iter()
                            .for_each(|part| self.mark_param(part, Some(family)));
                    }
                }
                if place == Place::Output && is_time(data_type) {
                    self.time_casts.unseen = true;
                    if is_made_text(inner) {
                        self.differs(data_type, place);
                    }
                }
                self.visit(inner, here, place, bag)
            }
            Expr::Binary { op, left, right } => {
                if matches!(op.as_str(), "=" | "<" | ">" | "<=" | ">=" | "<>" | "!=") {
                    let family = |binder: &Self, e: &Expr| {
                        binder
                            .plain(e, here)
                            .and_then(|node| binder.nodes[node].family)
                    };
                    self.mark_param(right, family(self, left));
                    self.mark_param(left, family(self, right));
                }
                self.visit(left, here, place, bag)?;
                self.visit(right, here, place, bag)
            }
            Expr::In {
                expr: inner, list, ..
            } => {
                if list
                    .iter()
                    .all(|item| matches!(item, Expr::Param(_) | Expr::Null))
                {
                    let family = self
                        .plain(inner, here)
                        .and_then(|node| self.nodes[node].family);
                    for item in list {
                        self.mark_param(item, family);
                    }
                }
                self.visit(inner, here, place, bag)?;
                list.iter()
                    .try_for_each(|item| self.visit(item, here, place, bag))
            }
            Expr::Quantified { left, right, .. } => {
                let family = self
                    .plain(left, here)
                    .and_then(|node| self.nodes[node].family);
                self.mark_param(right, family);
                self.visit(left, here, place, bag)?;
                self.visit(right, here, place, bag)
            }
            Expr::Between {
                expr: inner,
                low,
                high,
                ..
            } => {
                let family = self
                    .plain(inner, here)
                    .and_then(|node| self.nodes[node].family);
                self.mark_param(low, family);
                self.mark_param(high, family);
                self.visit(inner, here, place, bag)?;
                self.visit(low, here, place, bag)?;
                self.visit(high, here, place, bag)
            }
            Expr::Exists(query) | Expr::Query(query) => self.child(query, here, bag),
            Expr::InQuery {
                expr: inner, query, ..
            } => {
                self.visit(inner, here, place, bag)?;
                self.child(query, here, bag)
            }
            Expr::Function(call) => {
                if object_parts(expr).is_some() {
                    self.differs(&call.name.name, place);
                }
                self.visit_call(call, here, place, bag)
            }
        }
    }

    fn child(
        &mut self,
        query: &Query,
        here: &Scope<'_>,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        let query = self.bind_query(query, here)?;
        bag.children.push(Child {
            query,
            links: Vec::new(),
            proves: Vec::new(),
            sees_outer: bag.sees_outer,
        });
        Ok(())
    }

    fn visit_call(
        &mut self,
        call: &FunctionCall,
        here: &Scope<'_>,
        place: Place,
        bag: &mut Bag<'_>,
    ) -> Result<(), RouteError> {
        let exprs = call
            .args
            .iter()
            .chain(&call.filter)
            .chain(&call.order_by)
            .chain(call.over.iter().flatten());
        for expr in exprs {
            self.visit(expr, here, place, bag)?;
        }
        if place == Place::Output && is_time(&call.name.name) && call.args.iter().any(is_made_text)
        {
            self.differs(&call.name.name, place);
        }
        let aggregate = self.call(&call.name, place);
        if call.over.is_some() {
            // A window function is of the block it is written in.
            if let Some(traits) = self.traits.last_mut() {
                traits.windows = true;
            }
        } else if aggregate {
            self.aggregates(&call.name.name, self.is_of_own_block(call, here));
        }
        Ok(())
    }

    /// What never reaches a merged answer: each server has its own value.
    fn differs(&mut self, what: &str, place: Place) {
        self.calls.push(Call {
            name: what.to_owned(),
            effect: CallEffect::BuiltIn(Effect::Volatile),
            output: place == Place::Output,
        });
    }

    /// Is it a column that a reference surely has?
    fn is_known(&self, qualifier: &[String], name: &str, here: &Scope<'_>) -> bool {
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

    /// A column may be none: `t.f`, where t has no column f, is the call f(t) (manual, 38.5.3).
    fn visit_column(&mut self, qualifier: &[String], name: &str, here: &Scope<'_>, place: Place) {
        if SYSTEM_COLUMNS.contains(&name) && !self.is_known(qualifier, name, here) {
            self.differs(name, place);
            return;
        }
        if name == "*" || qualifier.is_empty() {
            return;
        }
        // A database's name may stand in front.
        let qualifier = &qualifier[qualifier.len().saturating_sub(2)..];
        let Some(leaf) = self.leaf_named(qualifier, here) else {
            return;
        };
        let call = match self.has_column(leaf, name) {
            Some(has) => !has,
            // What a catalog has is not known here; a column of the name of an aggregate it has not.
            None => self.is_callable(name),
        };
        if call {
            let own = self.is_of_level(qualifier, name, here);
            self.visit_notation(name, own, place);
        }
    }

    /// Is something of that name an aggregate, or not PostgreSQL's own?
    fn is_callable(&self, name: &str) -> bool {
        let functions = &self.context.database.functions;
        builtin::is_aggregate(name)
            || self.context.search_path.iter().any(|schema| {
                functions.contains_key(&TableName {
                    schema: schema.clone(),
                    name: name.to_owned(),
                })
            })
    }

    /// A call in functional notation.
    fn visit_notation(&mut self, name: &str, own: bool, place: Place) {
        let function = Name {
            schema: None,
            name: name.to_owned(),
        };
        if self.call(&function, place) {
            self.aggregates(name, own);
            // The merge planner takes it for a column.
            self.differs(name, place);
        }
    }

    /// Notes an aggregate in the block it is written in, and, unless it is surely of that one, in every block around it.
    fn aggregates(&mut self, name: &str, own: bool) {
        let first = if own {
            self.traits.len().saturating_sub(1)
        } else {
            0
        };
        for traits in self.traits.iter_mut().skip(first) {
            traits.aggregates = true;
            traits.order_sensitive |= !builtin::is_order_free(name);
        }
    }

    /// An aggregate is of the innermost block that one of its columns is from (manual, 4.2.7): is it surely this one?
    fn is_of_own_block(&self, call: &FunctionCall, here: &Scope<'_>) -> bool {
        let (mut columns, mut queries, mut own) = (0, 0, false);
        for part in walk::function_parts(call) {
            let mut visit = |expr: &Expr| {
                if let Expr::Column { qualifier, name } = expr {
                    columns += 1;
                    own |= self.is_of_level(qualifier, name, here);
                }
            };
            walk::expression(part, &mut visit, &mut |_| queries += 1);
        }
        own || columns + queries == 0
    }

    /// Does the innermost FROM in scope surely have what the column names?
    fn is_of_level(&self, qualifier: &[String], name: &str, here: &Scope<'_>) -> bool {
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

    /// Records a call; says whether it may be an aggregate.
    fn call(&mut self, name: &Name, place: Place) -> bool {
        if name.name.is_empty() {
            return false;
        }
        let own = name
            .schema
            .as_deref()
            .is_none_or(|schema| schema == "pg_catalog");
        let built_in = if own {
            builtin::effect(&name.name)
        } else {
            None
        };
        let mut record = |effect: CallEffect| {
            let output = place == Place::Output;
            self.calls.push(Call {
                name: name.name.clone(),
                effect,
                output,
            });
        };
        let mut aggregate = own && builtin::is_aggregate(&name.name);
        if let Some(effect) = built_in
            && effect != Effect::Pure
            && effect != Effect::Stable
        {
            record(CallEffect::BuiltIn(effect));
        }
        let database = self.context.database;
        let schemas: Vec<&str> = match &name.schema {
            Some(schema) => vec![schema],
            None => self
                .context
                .search_path
                .iter()
                .map(String::as_str)
                .collect(),
        };
        let mut known = built_in.is_some();
        for schema in schemas {
            let key = TableName {
                schema: schema.to_owned(),
                name: name.name.clone(),
            };
            for function in database.functions.get(&key).into_iter().flatten() {
                known = true;
                aggregate |= function.kind == 'a';
                match &function.declared {
                    Some(declared) => {
                        record(CallEffect::Declared(
                            declared.clone(),
                            function.volatility == 'v',
                        ));
                    }
                    None if function.volatility == 'i' => {}
                    None => record(CallEffect::Undeclared),
                }
            }
        }
        if !known {
            record(CallEffect::Unknown);
            // It could be an aggregate of a newer PostgreSQL.
            aggregate = true;
        }
        aggregate
    }

    /// Notes that a parameter's type follows from `family` here.
    fn mark_param(&mut self, expr: &Expr, family: Option<KeyFamily>) {
        let (Expr::Param(number), Some(family)) = (expr, family) else {
            return;
        };
        let uses = self.params.entry(*number).or_default();
        uses.typed += 1;
        uses.mixed |= uses.family.is_some_and(|before| before != family);
        uses.family = Some(family);
    }
}

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
            name: table_name,
            keyspace,
            placement: Placement::Unsharded,
            columns: Vec::new(),
            kind: 'r',
            trust: Vec::new(),
            hazards: Vec::new(),
            view: None,
            row_security: false,
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

/// The length or precision in a type as `format_type` prints it.
pub(crate) fn length_of(type_name: &str) -> Option<&str> {
    let (_, rest) = type_name.split_once('(')?;
    rest.split_once(')').map(|(length, _)| length)
}

/// Does OVERRIDING USER VALUE make PostgreSQL compute this column, whatever is given for it? So of what is not known.
pub(crate) fn is_overridden(table: &Table, column: &str) -> bool {
    let known = table.columns.iter().find(|known| known.name == column);
    known.is_none_or(|known| matches!(known.generated, Some('a' | 'd')))
}

/// The family of a built-in type.
pub(crate) fn family_of(oid: u32) -> Option<KeyFamily> {
    match type_of(oid) {
        ConstantType::Family(family) => Some(family),
        _ => None,
    }
}

/// What a column name means.
enum Resolved {
    /// This column.
    Node(NodeId),
    /// A column that cannot carry a key, or none for certain.
    Unknown,
    /// No column in sight.
    Absent,
}

/// Where subqueries of an expression are put.
struct Bag<'b> {
    children: &'b mut Vec<Child>,
    sees_outer: bool,
}

impl<'b> Bag<'b> {
    /// Their outer row satisfies the block's conditions.
    fn new(children: &'b mut Vec<Child>) -> Self {
        Self {
            children,
            sees_outer: true,
        }
    }

    /// Nothing is known of their outer row.
    fn apart(children: &'b mut Vec<Child>) -> Self {
        Self {
            children,
            sees_outer: false,
        }
    }
}

impl OutColumn {
    fn opaque(name: Option<String>) -> Self {
        Self {
            name,
            sources: SmallVec::new(),
            outward: false,
        }
    }
}

impl Side {
    fn leaf(leaf: RefId) -> Self {
        Self {
            tree: Joined::Leaf(leaf),
            level: Level {
                leaves: vec![leaf],
                ..Level::default()
            },
        }
    }

    /// The next entry of a comma list.
    fn cross(self, next: Self) -> Self {
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

impl<'s> WithEntry<'s> {
    fn new(cte: &'s Cte, kind: WithKind<'s>) -> Self {
        Self {
            name: &cte.name,
            columns: &cte.columns,
            kind,
            used: Cell::new(false),
        }
    }
}

impl<'s> Scope<'s> {
    fn root() -> Self {
        Self {
            parent: None,
            level: None,
            with: &[],
        }
    }

    /// The names of the FROM around.
    fn innermost(&self) -> Option<&Level> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if here.level.is_some() {
                return here.level;
            }
            scope = here.parent;
        }
        None
    }

    /// The WITH entry of that name, its siblings, and the scope around them.
    fn with_entry(
        &self,
        name: &str,
    ) -> Option<(&WithEntry<'s>, &'s [WithEntry<'s>], Option<&Scope<'s>>)> {
        let mut scope = self;
        loop {
            if let Some(entry) = scope.with.iter().rev().find(|entry| entry.name == name) {
                return Some((entry, scope.with, scope.parent));
            }
            scope = scope.parent?;
        }
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

/// What a value that is an object's OID is made from. As text it is the object's name, the same everywhere.
fn object_parts(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Cast { expr, data_type } if OBJECT_TYPES.contains(&bare_type(data_type)) => {
            Some(std::slice::from_ref(&**expr))
        }
        Expr::Function(call) if call.name.name == "pg_typeof" => Some(&call.args),
        _ => None,
    }
}

/// A type that shows an object by its name.
fn is_shown_by(data_type: &str) -> bool {
    matches!(bare_type(data_type), "text" | "varchar" | "name")
}

/// A type's name without schema, quotes and array marks.
fn bare_type(data_type: &str) -> &str {
    let name = data_type.trim_end_matches(['[', ']', ' ']);
    name.rsplit('.').next().unwrap_or(name).trim_matches('"')
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

/// A constant: a literal, a parameter, or a cast of one.
pub(crate) fn operand(expr: &Expr) -> Option<Operand> {
    let (expr, given) = match expr {
        Expr::Cast { expr, data_type } => (expr.as_ref(), type_named(data_type)),
        expr => (expr, ConstantType::Context),
    };
    if given == ConstantType::Other {
        return None;
    }
    let (expr, negative) = match expr {
        Expr::Negate(inner) => (inner.as_ref(), true),
        expr => (expr, false),
    };
    let constant = constant(expr)?;
    if negative && !matches!(constant, Constant::Literal(_) | Constant::Number(_)) {
        return None;
    }
    Some(Operand::One {
        constant,
        negative,
        given,
    })
}

/// A bare constant.
fn constant(expr: &Expr) -> Option<Constant> {
    Some(match expr {
        Expr::Literal(index) => Constant::Literal(*index),
        Expr::Param(number) => Constant::Param(*number),
        Expr::Number(number) => Constant::Number(number.clone()),
        Expr::String(text) => Constant::Text(text.clone()),
        Expr::Bool(value) => Constant::Bool(*value),
        Expr::Null => Constant::Null,
        _ => return None,
    })
}

/// `= ANY (…)`: an array literal, parameter or constructor.
fn array_operands(expr: &Expr) -> Option<Vec<Operand>> {
    let (expr, given) = match expr {
        Expr::Cast { expr, data_type } => match element_type_named(data_type) {
            ConstantType::Other => return None,
            given => (expr.as_ref(), given),
        },
        expr => (expr, ConstantType::Context),
    };
    match expr {
        // A cast of the constructor is a cast of each element.
        Expr::Array(parts) => parts
            .iter()
            .map(|part| match operand(part)? {
                Operand::One {
                    constant,
                    negative,
                    given: ConstantType::Context,
                } => Some(Operand::One {
                    constant,
                    negative,
                    given,
                }),
                Operand::One { given: own, .. }
                    if given != ConstantType::Context && own != given =>
                {
                    None
                }
                operand => Some(operand),
            })
            .collect(),
        Expr::Literal(_) | Expr::Param(_) | Expr::String(_) | Expr::Null => {
            Some(vec![Operand::Each {
                constant: constant(expr)?,
                given,
            }])
        }
        _ => None,
    }
}

/// Text put together from constants: it could spell 'now' where nobody sees it. What a column gives is the row's own.
fn is_made_text(expr: &Expr) -> bool {
    let (mut columns, mut made, mut queries) = (false, false, false);
    let mut visit = |expr: &Expr| match expr {
        Expr::Column { .. } => columns = true,
        Expr::Binary { op, .. } => made |= op.contains('|'),
        Expr::Function(call) => made |= !makes_time(&call.name.name),
        Expr::Case(_) | Expr::Field { .. } | Expr::Other(_) => made = true,
        _ => {}
    };
    walk::expression(expr, &mut visit, &mut |_| queries = true);
    (made || queries) && !columns
}

/// A function that gives a time, or a part of one, from what is no text.
fn makes_time(name: &str) -> bool {
    name.starts_with("make_")
        || name.starts_with("justify_")
        || matches!(
            name,
            "date_bin"
                | "date_part"
                | "date_trunc"
                | "extract"
                | "timezone"
                | "to_date"
                | "to_timestamp"
        )
        || builtin::effect(name) == Some(Effect::Now)
}

/// A type whose input reads the clock for 'now' and 'today'.
fn is_time(data_type: &str) -> bool {
    let name = bare_type(data_type);
    [
        "time",
        "date",
        "tsrange",
        "tstzrange",
        "tsmultirange",
        "tstzmultirange",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}
