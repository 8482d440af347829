//! Walks over expressions and queries.

use crate::statement::tree::{
    Body, Distinct, Expr, From, FunctionCall, Item, JoinOn, Query, Select, Statement,
};

/// Calls `visit` for the expression and everything below it that belongs to the same query block, and `subquery` for
/// the subqueries it comes to, without entering them.
pub(in crate::route) fn expression<'a>(
    expr: &'a Expr,
    visit: &mut dyn FnMut(&'a Expr),
    subquery: &mut dyn FnMut(&'a Query),
) {
    visit(expr);
    match expr {
        Expr::Column { .. }
        | Expr::Literal(_)
        | Expr::Param(_)
        | Expr::Null
        | Expr::Bool(_)
        | Expr::Number(_)
        | Expr::String(_)
        | Expr::Default => {}
        Expr::And(parts)
        | Expr::Or(parts)
        | Expr::Array(parts)
        | Expr::Row(parts)
        | Expr::Case(parts)
        | Expr::Other(parts) => {
            for part in parts {
                expression(part, visit, subquery);
            }
        }
        Expr::Not(operand)
        | Expr::Negate(operand)
        | Expr::IsNull { expr: operand, .. }
        | Expr::Cast { expr: operand, .. }
        | Expr::Field { expr: operand, .. }
        | Expr::Collate { expr: operand, .. } => expression(operand, visit, subquery),
        Expr::Binary { left, right, .. } | Expr::Quantified { left, right, .. } => {
            expression(left, visit, subquery);
            expression(right, visit, subquery);
        }
        Expr::In { expr, list, .. } => {
            expression(expr, visit, subquery);
            for part in list {
                expression(part, visit, subquery);
            }
        }
        Expr::InQuery { expr, query, .. } => {
            expression(expr, visit, subquery);
            subquery(query);
        }
        Expr::Between {
            expr, low, high, ..
        } => {
            for part in [expr, low, high] {
                expression(part, visit, subquery);
            }
        }
        Expr::Exists(query) | Expr::Query(query) => subquery(query),
        Expr::Function(call) => {
            for part in function_parts(call) {
                expression(part, visit, subquery);
            }
        }
    }
}

/// Everything written inside a call.
pub(in crate::route) fn function_parts(call: &FunctionCall) -> impl Iterator<Item = &Expr> {
    let over = call.over.iter().flatten();
    call.args
        .iter()
        .chain(&call.filter)
        .chain(&call.order_by)
        .chain(over)
}

/// Calls `visit` for each expression of each block of the query, at every depth, with its block: `None` outside of any
/// (VALUES, ORDER BY and LIMIT of set operations). Returns false when something in it was not understood.
pub(super) fn query<'a>(
    query: &'a Query,
    visit: &mut dyn FnMut(Option<&'a Select>, &'a Expr),
) -> bool {
    let mut whole = true;
    for cte in &query.with {
        // Data-modifying statements below the top level are PostgreSQL's error.
        whole &= matches!(&cte.statement, Statement::Query(inner) if self::query(inner, visit));
    }
    let block = match &query.body {
        Body::Select(select) => Some(&**select),
        _ => None,
    };
    whole &= body(&query.body, visit);
    let keys = query.order_by.iter().map(|key| &key.expr);
    for expr in keys.chain(&query.limit).chain(&query.offset) {
        whole &= deep(block, expr, visit);
    }
    whole
}

fn body<'a>(body: &'a Body, visit: &mut dyn FnMut(Option<&'a Select>, &'a Expr)) -> bool {
    match body {
        Body::Select(block) => select(block, visit),
        Body::Values(rows) => rows
            .iter()
            .flatten()
            .fold(true, |whole, expr| whole & deep(None, expr, visit)),
        Body::Set { left, right, .. } => self::body(left, visit) & self::body(right, visit),
        Body::Nested(inner) => query(inner, visit),
    }
}

fn select<'a>(block: &'a Select, visit: &mut dyn FnMut(Option<&'a Select>, &'a Expr)) -> bool {
    let items = block.items.iter().filter_map(|item| match item {
        Item::Expr { expr, .. } => Some(expr),
        Item::Star | Item::QualifiedStar(_) => None,
    });
    let on = match &block.distinct {
        Distinct::On(exprs) => exprs.as_slice(),
        Distinct::No | Distinct::Rows => &[],
    };
    let mut whole = true;
    let exprs = items
        .chain(on)
        .chain(&block.filter)
        .chain(&block.group_by)
        .chain(&block.having);
    for expr in exprs.chain(&block.windows) {
        whole &= deep(Some(block), expr, visit);
    }
    for entry in &block.from {
        whole &= from(block, entry, visit);
    }
    whole
}

fn from<'a>(
    block: &'a Select,
    entry: &'a From,
    visit: &mut dyn FnMut(Option<&'a Select>, &'a Expr),
) -> bool {
    match entry {
        From::Table { .. } => true,
        From::Subquery { query: inner, .. } => query(inner, visit),
        From::Function { args, .. } => args
            .iter()
            .fold(true, |whole, arg| whole & deep(Some(block), arg, visit)),
        From::Join {
            left, right, on, ..
        } => {
            let whole = from(block, left, visit) & from(block, right, visit);
            match on {
                JoinOn::On(condition) => whole & deep(Some(block), condition, visit),
                JoinOn::Nothing | JoinOn::Using(_) | JoinOn::Natural => whole,
            }
        }
    }
}

/// An expression of a block, with the subqueries in it.
fn deep<'a>(
    block: Option<&'a Select>,
    expr: &'a Expr,
    visit: &mut dyn FnMut(Option<&'a Select>, &'a Expr),
) -> bool {
    let mut inner = Vec::new();
    expression(expr, &mut |expr| visit(block, expr), &mut |query| {
        inner.push(query)
    });
    inner
        .into_iter()
        .fold(true, |whole, inner| whole & query(inner, visit))
}
