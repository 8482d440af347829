//! What binding gives: references, their columns, conditions, and the shape of the query around them.

use crate::route::bind::constants::Operand;
use crate::route::bind::scope::Level;
use crate::statement::tree::Name;
use crate::topology::{KeyFamily, Table};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;

/// A FROM entry, a target or a derived table.
pub(crate) type RefId = usize;

/// A column that may carry a key.
pub(crate) type NodeId = usize;

/// A condition.
pub(crate) type CondId = usize;

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
    pub(super) output: Output,
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
    /// The address of its [`Select`](crate::statement::tree::Select), 0 for other statements.
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
    pub(super) names: Level,
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

/// A reference.
#[derive(Debug)]
pub(crate) struct Ref {
    /// What it refers to.
    pub(crate) source: Source,
    /// The name it is known by in its scope.
    pub(super) alias: Option<String>,
    /// The table's own name, for `schema.table.column`.
    pub(super) own_name: Option<Name>,
    /// Its known columns, in order.
    pub(super) columns: Vec<RefColumn>,
    /// No other column exists.
    pub(super) complete: bool,
    /// Its own nodes.
    pub(super) nodes: std::ops::Range<NodeId>,
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
pub(super) struct RefColumn {
    pub(super) name: String,
    pub(super) node: Option<NodeId>,
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

/// What a query returns.
#[derive(Debug, Clone, Default)]
pub(super) struct Output {
    pub(super) columns: Vec<OutColumn>,
    /// `columns` are all, in order.
    pub(super) positional: bool,
    /// No other column name exists.
    pub(super) complete: bool,
}

/// A column that a query returns.
#[derive(Debug, Clone)]
pub(super) struct OutColumn {
    pub(super) name: Option<String>,
    /// The inner columns it is; a set operation has one per arm.
    pub(super) sources: SmallVec<[(NodeId, bool); 1]>,
    /// Each row's value is the (only) source's value.
    pub(super) outward: bool,
}

impl OutColumn {
    pub(super) fn opaque(name: Option<String>) -> Self {
        Self {
            name,
            sources: SmallVec::new(),
            outward: false,
        }
    }
}
