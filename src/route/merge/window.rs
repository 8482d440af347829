//! LIMIT and OFFSET: their values for one execution, and what the shards get instead of them.

use super::{Finish, Refusal};
use crate::statement::scan::LITERAL_BASE;
use crate::statement::tree::Expr;
use crate::wire::error::{ClientError, SqlState};

/// OFFSET and LIMIT of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most.
    pub limit: Option<u64>,
}

/// A LIMIT or OFFSET that PostgreSQL refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// 2201W
    #[error("LIMIT must not be negative")]
    NegativeLimit,
    /// 2201X
    #[error("OFFSET must not be negative")]
    NegativeOffset,
}

impl ClientError for WindowError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::NegativeLimit => SqlState::INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
            Self::NegativeOffset => SqlState::INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE,
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
            None | Some(Expr::Null) => Ok(None),
            Some(Expr::Number(digits)) => Ok(Some(
                digits
                    .parse()
                    .expect("the planner takes only numbers that fit"),
            )),
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

/// What stands in the shards' text where the client's LIMIT and OFFSET stood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Clause {
    /// The client's own: a LIMIT alone.
    Own,
    /// Another one, perhaps empty.
    Other(String),
}

/// The clause for shards that each return the first OFFSET + LIMIT rows.
pub(super) fn pushed(limit: Option<&Expr>, offset: Option<&Expr>) -> Result<Clause, Refusal> {
    check(limit, offset)?;
    Ok(match (limit, offset) {
        (_, None) => Clause::Own,
        (None, Some(_)) => Clause::Other(unlimited(&[offset])),
        // In numeric, because the sum of two bigints may not be one; least() ignores a NULL, which is no limit.
        (Some(limit), Some(offset)) => Clause::Other(format!(
            "LIMIT least(9223372036854775807, ({})::int8::numeric + coalesce(({})::int8, 0))::int8",
            render(limit),
            render(offset)
        )),
    })
}

/// The clause for shards that return all rows.
pub(super) fn removed(limit: Option<&Expr>, offset: Option<&Expr>) -> Result<Clause, Refusal> {
    check(limit, offset)?;
    Ok(Clause::Other(unlimited(&[limit, offset])))
}

/// No limit, in a form that still names the parameters: PostgreSQL would not know a missing one's type, nor take a value
/// for it.
fn unlimited(exprs: &[Option<&Expr>]) -> String {
    let params: Vec<String> = exprs
        .iter()
        .flatten()
        .filter(|expr| matches!(uncast(expr), Expr::Param(_)))
        .map(|expr| format!("coalesce(({})::int8, 0)::numeric", render(expr)))
        .collect();
    if params.is_empty() {
        return String::new();
    }
    let sum = params.join(" + ");
    format!("LIMIT nullif({sum}, {sum})::int8")
}

/// Only what can be evaluated here exactly as PostgreSQL would.
fn check(limit: Option<&Expr>, offset: Option<&Expr>) -> Result<(), Refusal> {
    for (expr, clause) in [(limit, "LIMIT"), (offset, "OFFSET")] {
        let known = match expr {
            None => true,
            Some(Expr::Cast { expr, data_type }) => is_integer(data_type) && is_value(expr),
            Some(expr) => is_value(expr),
        };
        if !known {
            return Err(Refusal::new(
                format!("{clause} is an expression, and the query needs rows of several shards"),
                "Write LIMIT and OFFSET as whole numbers or parameters.",
            ));
        }
    }
    Ok(())
}

fn is_value(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(_) | Expr::Param(_) | Expr::Null => true,
        Expr::Number(digits) => digits.parse::<i64>().is_ok(),
        _ => false,
    }
}

/// One of the integer types, as written in a cast.
pub(super) fn is_integer(data_type: &str) -> bool {
    matches!(
        data_type,
        "int2" | "smallint" | "int4" | "int" | "integer" | "int8" | "bigint"
    )
}

/// As it stands in the shape text. Only for what `check` lets through.
fn render(expr: &Expr) -> String {
    match expr {
        Expr::Literal(index) => format!("${}", LITERAL_BASE as usize + index),
        Expr::Param(number) => format!("${number}"),
        Expr::Number(digits) => digits.clone(),
        Expr::Cast { expr, data_type } => format!("({})::{data_type}", render(expr)),
        _ => "NULL".to_owned(),
    }
}
