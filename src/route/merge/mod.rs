//! Planning the finish of a scatter: what text each shard runs, and how their rows become one answer.
//!
//! In: the query's tree, its shape text, and what the binder knows ([`Types`]). Out: a [`Planned`] text and [`Finish`],
//! or a [`Refusal`]. The caller has already proven that FROM and WHERE may run shard by shard ([`Types::distributes`]);
//! what is proven here is that select list, DISTINCT, GROUP BY, ORDER BY and LIMIT of the outermost query can be
//! finished from the shards' rows exactly as one PostgreSQL would. Whatever is not understood is refused.
//!
//! The types of the columns are not needed here: the executor (`execute/merge`) sees them in the shards' row
//! descriptions and refuses there, before the first row, what it cannot order or add exactly.

mod names;
mod planner;
#[cfg(test)]
mod tests;
pub(in crate::route) mod walk;
mod window;

use crate::statement::tree::{Expr, Item, Name, Query, Select, Span};
use std::borrow::Cow;
use std::fmt;

pub use window::{Window, WindowError};

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

/// For people: what happens to the rows, without any literal.
impl fmt::Display for Finish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(groups) = &self.groups {
            write!(
                f,
                "group by [{}] into [{}]",
                list(&groups.keys),
                list(&groups.columns)
            )?;
        } else {
            f.write_str(if self.order.is_empty() {
                "concatenate"
            } else {
                "merge"
            })?;
        }
        if self.distinct.is_some() {
            f.write_str(", distinct")?;
        }
        if !self.order.is_empty() {
            write!(f, ", order by [{}]", list(&self.order))?;
        }
        if self.offset.is_some() {
            f.write_str(", offset")?;
        }
        if self.limit.is_some() {
            f.write_str(", limit")?;
        }
        if self.hidden > 0 {
            write!(f, ", drop {} hidden", self.hidden)?;
        }
        Ok(())
    }
}

fn list<T: fmt::Display>(parts: &[T]) -> String {
    parts
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Its column, from 1 as in SQL.
impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.column + 1)
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Min { .. } => "min",
            Self::Max { .. } => "max",
        })
    }
}

impl fmt::Display for SortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Visible(column) => write!(f, "{}", column + 1)?,
            Source::VisibleFromEnd(0) => f.write_str("last")?,
            Source::VisibleFromEnd(back) => write!(f, "last but {back}")?,
            Source::Hidden(hidden) => write!(f, "hidden {}", hidden + 1)?,
            Source::Named(name) => f.write_str(name)?,
            Source::NamedOrHidden(name, hidden) => write!(f, "{name} or hidden {}", hidden + 1)?,
        }
        f.write_str(match (self.descending, self.nulls_first) {
            (false, false) => "",
            (false, true) => " nulls first",
            (true, true) => " desc",
            (true, false) => " desc nulls last",
        })
    }
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

    /// What a call of this name may find: PostgreSQL's own and users' functions.
    fn function(&self, name: &Name) -> FunctionKind;

    /// `column`, written in `select` (a block of a subquery), is a column of `select`'s own FROM and not of an outer
    /// block's. Asked only where the text alone does not tell.
    fn is_local_column(&self, select: &Select, column: &Expr) -> Option<bool> {
        let _ = (select, column);
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

/// What the functions of a name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// PostgreSQL's own aggregate or window function, and no user's function has the name.
    BuiltinAggregate,
    /// Plain functions of PostgreSQL's, and no user's function has the name.
    Builtin,
    /// Plain functions, some of them users': they may return sets.
    Plain,
    /// A user's aggregate or window function is among them.
    Aggregate,
    /// The schema was not read, so it could be anything.
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

impl Planned {
    /// The text of the query alone, when the shape text is a longer statement (DECLARE, COPY) that has it at `query`.
    #[must_use]
    pub fn query_text<'a>(&'a self, shape: &'a str, query: &Span) -> Option<&'a str> {
        let text = self.text_shape.as_deref().unwrap_or(shape);
        // Nothing outside of the query has been changed.
        let behind = shape.len().checked_sub(query.end)?;
        text.get(query.start..text.len().checked_sub(behind)?)
    }
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

impl Refusal {
    fn new(reason: impl Into<Cow<'static, str>>, hint: &'static str) -> Self {
        Self {
            reason: reason.into(),
            hint: Cow::Borrowed(hint),
        }
    }
}

/// Plans the finish of `query`, whose shape text is `shape`.
///
/// # Errors
/// When the answer could differ from one PostgreSQL's, with the reason.
pub fn plan_finish(query: &Query, types: &dyn Types, shape: &str) -> Result<Planned, Refusal> {
    planner::plan(query, types, shape)
}
