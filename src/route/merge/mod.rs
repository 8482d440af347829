//! Planning the finish of a scatter: what text each shard runs, and how their rows become one answer.
//!
//! In: the query's tree, its shape text, and what the binder knows ([`Types`]). Out: a [`Planned`] text and [`Finish`],
//! or a [`Refusal`]. The caller has already proven that FROM and WHERE may run shard by shard ([`Types::distributes`]);
//! what is proven here is that select list, DISTINCT, GROUP BY, ORDER BY and LIMIT of the outermost query can be
//! finished from the shards' rows exactly as one PostgreSQL would. Whatever is not understood is refused.
//!
//! The types of the columns are not needed here: the executor (`execute/merge`) sees them in the shards' row
//! descriptions and refuses there, before the first row, what it cannot order or add exactly.

use crate::statement::tree::{Expr, Item, Name, Query, Select};
use std::borrow::Cow;

/// OFFSET and LIMIT of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most.
    pub limit: Option<u64>,
}

/// How the shards' rows become one answer. Made at planning, the same for every execution of a shape.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Finish {
    /// Columns at the end of the shards' rows that the client did not ask for.
    pub hidden: usize,
    /// Partial aggregates and groups to put together; `None` when the shards' rows are the answer's rows.
    pub groups: Option<Groups>,
    /// Equal rows are returned once.
    pub distinct: Option<DistinctRows>,
    /// The order of the answer; empty for any order. Without `groups` each shard returns its rows in this order.
    pub order: Vec<SortKey>,
    /// LIMIT, as [`Finish::window`] evaluates it.
    pub limit: Option<Expr>,
    /// OFFSET.
    pub offset: Option<Expr>,
}

/// DISTINCT over the visible columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DistinctRows {
    /// Text columns, if there are any, are equal when their bytes are (no nondeterministic collation).
    pub text_by_bytes: bool,
}

/// Partial groups from the shards: rows with equal keys become one.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// The grouping keys; none means one group that exists even without rows.
    pub keys: Vec<GroupKey>,
    /// How each column of the shards' rows, the hidden ones too, is put together.
    pub columns: Vec<Fold>,
}

/// A grouping key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKey {
    /// The column of the shards' rows, hidden ones counted on.
    pub column: usize,
    /// Text is equal when its bytes are.
    pub text_by_bytes: bool,
}

/// How partial values of one column become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// A group's rows agree (or PostgreSQL does not say whose value is shown): the first.
    First,
    /// Sum of counts.
    Count,
    /// Sum of sums; NULL without a value.
    Sum,
    /// The least, NULLs ignored.
    Min {
        /// Text is ordered by bytes (C collation).
        text_is_c: bool,
    },
    /// The greatest, NULLs ignored.
    Max {
        /// Text is ordered by bytes (C collation).
        text_is_c: bool,
    },
}

/// One key of the answer's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortKey {
    /// Where its value is.
    pub source: Source,
    /// DESC.
    pub descending: bool,
    /// NULLs come first.
    pub nulls_first: bool,
    /// Text is ordered by bytes (C collation).
    pub text_is_c: bool,
}

/// Which column of the shards' rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A visible column, from the left.
    Visible(usize),
    /// A visible column, from the right: 0 is the last (behind a `*` nothing else is known).
    VisibleFromEnd(usize),
    /// A hidden column, from the left of the hidden ones.
    Hidden(usize),
    /// The first visible column of this name in the row description. PostgreSQL has refused an ambiguous one.
    Named(String),
    /// The first visible column of this name, or this hidden one when there is none.
    NamedOrHidden(String, usize),
}

/// What the binder knows about names in one SELECT block. `select` is always a block of the query being planned
/// (found by reference, `std::ptr::eq`). Every answer may be "not known": then the query is refused where it matters.
pub trait Types {
    /// The rows of this block, before DISTINCT, grouping, ORDER BY and LIMIT, are the disjoint union of what the
    /// shards compute, for every one of them: FROM and WHERE, and every subquery at any depth, may run shard by shard.
    fn distributes(&self, select: &Select) -> bool;

    /// Rows that agree in `columns` (expressions of the block) and in all columns of `stars` ([`Item::Star`] or
    /// [`Item::QualifiedStar`]) are on one shard: the plain columns among them include the whole sharding key of one
    /// of the block's tables that is not on the nullable side of an outer join.
    fn key_is_covered(&self, select: &Select, columns: &[&Expr], stars: &[&Item]) -> bool;

    /// How the text of a plain column ([`Expr::Column`]) of the block compares; [`Collation::C`] for columns of types
    /// without a collation.
    fn collation(&self, select: &Select, column: &Expr) -> Collation;

    /// The database's own collation is C or POSIX on every shard.
    fn database_collation_is_c(&self) -> bool;

    /// No column of the statement's tables is known to have, or could have, a nondeterministic collation.
    fn deterministic(&self) -> bool;

    /// Does the unqualified name mean a column of the block's FROM?
    fn has_input_column(&self, select: &Select, name: &str) -> Option<bool>;

    /// Does `star` ([`Item::Star`] or [`Item::QualifiedStar`]) of the block expand to a column of this name?
    fn star_has_column(&self, select: &Select, star: &Item, name: &str) -> Option<bool>;

    /// The user-defined function of this name, as a call with this name could find it. PostgreSQL's own are known here.
    fn user_function(&self, name: &Name) -> UserFunction;

    /// `column`, written in `query` (a subquery of the block) is a column of `query`'s own FROM, not of an outer block.
    fn is_local_column(&self, query: &Query, column: &Expr) -> Option<bool> {
        let _ = (query, column);
        None
    }
}

/// How text compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// Order and equality are those of the bytes (C, POSIX, ucs_basic), or the type has no collation.
    C,
    /// Equality is that of the bytes, the order is the locale's.
    Deterministic,
    /// Not known, or nondeterministic.
    Unknown,
}

/// What is known about user-defined functions of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserFunction {
    /// There is none: the name means PostgreSQL's own, or nothing.
    None,
    /// A plain function, perhaps one that returns a set.
    Plain,
    /// An aggregate or window function.
    Aggregate,
    /// The schema was not read.
    Unknown,
}

/// A finish with the text that feeds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// What each shard runs, in shape form (literals are still `$1000000+i`; one may stand there twice); `None` when
    /// it is the client's own text.
    pub text_shape: Option<String>,
    /// What happens to the rows.
    pub finish: Finish,
}

/// Why the query cannot be answered from several shards. Never holds a literal of the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What is in the way (DETAIL).
    pub reason: Cow<'static, str>,
    /// What to do (HINT).
    pub hint: Cow<'static, str>,
}

/// A LIMIT or OFFSET that PostgreSQL refuses, or that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// 2201W
    #[error("LIMIT must not be negative")]
    NegativeLimit,
    /// 2201X
    #[error("OFFSET must not be negative")]
    NegativeOffset,
}

impl WindowError {
    /// PostgreSQL's SQLSTATE for it.
    #[must_use]
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::NegativeLimit => "2201W",
            Self::NegativeOffset => "2201X",
        }
    }
}

impl Finish {
    /// LIMIT and OFFSET with one execution's values. `value_of` is asked for [`Expr::Literal`] and [`Expr::Param`]
    /// only, and answers `None` for NULL; it refuses what is not a plain integer.
    ///
    /// # Errors
    /// What `value_of` refuses, and negative values, in PostgreSQL's order (OFFSET first).
    pub fn window<E: From<WindowError>>(
        &self,
        value_of: impl Fn(&Expr) -> Result<Option<i64>, E>,
    ) -> Result<Window, E> {
        let value = |expr: &Option<Expr>| match expr.as_ref().map(uncast) {
            None => Ok(None),
            Some(Expr::Number(digits)) => Ok(digits.parse::<i64>().ok()),
            Some(expr) => value_of(expr),
        };
        let offset = value(&self.offset)?.unwrap_or(0);
        let offset = u64::try_from(offset).map_err(|_| WindowError::NegativeOffset)?;
        let limit = match value(&self.limit)? {
            Some(limit) => Some(u64::try_from(limit).map_err(|_| WindowError::NegativeLimit)?),
            None => None,
        };
        Ok(Window { offset, limit })
    }
}

/// The operand of a cast.
fn uncast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast { expr, .. } => expr,
        expr => expr,
    }
}

/// Plans the finish of `query`, whose shape text is `shape`.
///
/// # Errors
/// When the answer could differ from one PostgreSQL's, with the reason.
pub fn plan_finish(query: &Query, types: &dyn Types, shape: &str) -> Result<Planned, Refusal> {
    let _ = (query, types, shape);
    Err(Refusal {
        reason: Cow::Borrowed("the query needs rows of several shards"),
        hint: Cow::Borrowed("Name the sharding key in the WHERE clause."),
    })
}
