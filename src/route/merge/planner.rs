//! The planner proper: from the outermost block to a [`Finish`].

use super::names::{Truth, is_named};
use super::window::{self, Clause};
use super::{
    Collation, DistinctRows, Finish, Fold, FunctionKind, GroupKey, Groups, Planned, Refusal,
    SortKey, Source, Types, walk,
};
use crate::statement::tree::{
    Body, Distinct, Expr, From, FunctionCall, Item, Name, OrderKey, Query, Select, SetOp, Span,
};
use std::fmt::Write;

/// Plans a query whose shape text is `shape`.
pub(super) fn plan(query: &Query, types: &dyn Types, shape: &str) -> Result<Planned, Refusal> {
    let whole = Clauses::of(query)?;
    if whole.query.with_ties {
        return Err(refusal("WITH TIES needs rows of several shards"));
    }
    if whole.query.locking {
        return Err(refusal(
            "FOR UPDATE and its kin would lock rows on several shards",
        ));
    }
    match whole.body {
        Body::Select(select) => Block::new(select, types, shape)?.plan(&whole),
        Body::Set {
            op,
            all,
            left,
            right,
        } => plan_set(&whole, (*op, *all), left, right, types, shape),
        Body::Values(_) => Err(refusal("VALUES belongs to no shard")),
        Body::Nested(_) => Err(refusal(
            "a parenthesised query has ORDER BY, LIMIT or WITH of its own",
        )),
    }
}

const KEY_HINT: &str = "Name the sharding key in the WHERE clause, so that one shard answers.";

fn refusal(reason: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(reason, KEY_HINT)
}

/// The query that holds ORDER BY and LIMIT, and the body they belong to, without parentheses around either.
#[derive(Clone, Copy)]
struct Clauses<'a> {
    query: &'a Query,
    body: &'a Body,
}

impl<'a> Clauses<'a> {
    fn of(query: &'a Query) -> Result<Self, Refusal> {
        let mut this = Self {
            query,
            body: &query.body,
        };
        while let Body::Nested(inner) = this.body {
            if is_bare(this.query) {
                // `(SELECT … ORDER BY …)`: the clauses are inside.
                this = Self {
                    query: inner,
                    body: &inner.body,
                };
            } else if is_bare(inner) && inner.with.is_empty() {
                // `(SELECT …) ORDER BY …`: PostgreSQL adds them to the inner query.
                this.body = &inner.body;
            } else {
                return Err(refusal(
                    "a parenthesised query has ORDER BY, LIMIT or WITH of its own",
                ));
            }
        }
        Ok(this)
    }
}

/// Without clauses of its own; a WITH may be there.
fn is_bare(query: &Query) -> bool {
    query.order_by.is_empty()
        && query.limit_span.is_none()
        && query.limit.is_none()
        && query.offset.is_none()
        && !query.locking
        && !query.with_ties
}

/// One SELECT block, checked for what no finish can handle.
struct Block<'a> {
    select: &'a Select,
    types: &'a dyn Types,
    shape: &'a str,
    /// It has aggregates, GROUP BY or HAVING.
    grouped: bool,
    /// Its groups are put together from several shards, so every column needs its fold.
    folding: bool,
    /// Columns to add to the select list.
    hidden: Vec<String>,
    /// How a hidden column is put together, when groups are.
    hidden_folds: Vec<Fold>,
}

impl<'a> Block<'a> {
    fn new(select: &'a Select, types: &'a dyn Types, shape: &'a str) -> Result<Self, Refusal> {
        if select.into.is_some() {
            return Err(refusal(
                "SELECT INTO would create a table from rows of several shards",
            ));
        }
        if !select.windows.is_empty() {
            return Err(refusal("window functions need the rows of all shards"));
        }
        if select.grouping_sets {
            return Err(refusal(
                "GROUPING SETS, ROLLUP and CUBE need the rows of all shards",
            ));
        }
        if !types.distributes(select) {
            return Err(refusal("FROM or WHERE cannot be computed shard by shard"));
        }
        let mut this = Self {
            select,
            types,
            shape,
            grouped: !select.group_by.is_empty() || select.having.is_some(),
            folding: false,
            hidden: Vec::new(),
            hidden_folds: Vec::new(),
        };
        let on = match &select.distinct {
            Distinct::On(exprs) => exprs.as_slice(),
            Distinct::No | Distinct::Rows => &[],
        };
        let items = select.items.iter().filter_map(item_expr);
        for expr in items
            .chain(&select.group_by)
            .chain(&select.having)
            .chain(on)
        {
            this.grouped |= this.has_aggregate(expr)?;
        }
        Ok(this)
    }

    /// Finds aggregates of this block; refuses what might be one, and window functions.
    fn has_aggregate<'e>(&self, expr: &'e Expr) -> Result<bool, Refusal> {
        let mut found = Ok(false);
        let mut note = |kind: Result<bool, Refusal>| match (&mut found, kind) {
            (Ok(found), Ok(is)) => *found |= is,
            (found @ Ok(_), Err(refusal)) => *found = Err(refusal),
            (Err(_), _) => {}
        };
        let mut calls = Vec::new();
        let mut queries = Vec::new();
        let mut visit = |expr: &'e Expr| {
            if let Expr::Function(call) = expr {
                calls.push(&**call);
            }
        };
        walk::expression(expr, &mut visit, &mut |query| queries.push(query));
        for call in calls {
            note(self.is_aggregate(call));
        }
        for query in queries {
            note(self.no_aggregate_of_ours(query).map(|()| false));
        }
        found
    }

    fn is_aggregate(&self, call: &FunctionCall) -> Result<bool, Refusal> {
        if call.over.is_some() {
            return Err(refusal("window functions need the rows of all shards"));
        }
        match self.types.function(&call.name) {
            FunctionKind::BuiltinAggregate | FunctionKind::Aggregate => Ok(true),
            FunctionKind::Builtin | FunctionKind::Plain
                if !call.star
                    && !call.distinct
                    && call.filter.is_none()
                    && call.order_by.is_empty() =>
            {
                Ok(false)
            }
            FunctionKind::Builtin | FunctionKind::Plain | FunctionKind::Unknown => {
                Err(refusal(format!(
                    "the function {} is not known, and could be an aggregate",
                    call.name.name
                )))
            }
        }
    }

    /// An aggregate inside a subquery whose arguments are all from outside belongs to the outer block (manual, 4.2.7).
    fn no_aggregate_of_ours(&self, query: &Query) -> Result<(), Refusal> {
        let mut suspect = false;
        let whole = walk::query(query, &mut |block, expr| {
            let Expr::Function(call) = expr else { return };
            let plain = matches!(
                self.types.function(&call.name),
                FunctionKind::Builtin | FunctionKind::Plain
            );
            // A window function is of its own block.
            suspect |= !plain && call.over.is_none() && !self.is_of_block(call, block);
        });
        if suspect || !whole {
            return Err(Refusal::new(
                "an aggregate in a subquery of the select list could belong to the outer query",
                "Write the aggregate's columns with their table's name.",
            ));
        }
        Ok(())
    }

    /// Does an aggregate written in `block` belong to it: has it a column of the block's own, or none at all?
    fn is_of_block(&self, call: &FunctionCall, block: Option<&Select>) -> bool {
        let (mut columns, mut local, mut queries) = (0, 0, 0);
        for part in walk::function_parts(call) {
            let mut visit = |expr: &Expr| {
                if matches!(expr, Expr::Column { .. }) {
                    columns += 1;
                    local += usize::from(block.is_some_and(|block| self.is_local(block, expr)));
                }
            };
            walk::expression(part, &mut visit, &mut |_| queries += 1);
        }
        local > 0 || columns + queries == 0
    }

    fn is_local(&self, block: &Select, column: &Expr) -> bool {
        let Expr::Column { qualifier, .. } = column else {
            return false;
        };
        match qualifier.as_slice() {
            [] => self.types.is_local_column(block, column) == Some(true),
            [table] => block.from.iter().any(|from| is_called(from, table)),
            _ => self.types.is_local_column(block, column) == Some(true),
        }
    }

    fn plan(mut self, whole: &Clauses<'_>) -> Result<Planned, Refusal> {
        for key in &whole.query.order_by {
            self.grouped |= self.has_aggregate(&key.expr)?;
        }
        let keys = self.group_keys()?;
        if self.grouped && !self.groups_are_covered(&keys) {
            return self.plan_groups(whole, &keys);
        }
        let distinct = self.distinct_rows()?;
        let mut order = Vec::with_capacity(whole.query.order_by.len());
        for key in &whole.query.order_by {
            order.push(self.sort_key(key)?);
        }
        let clause = window::pushed(whole.query.limit.as_ref(), whole.query.offset.as_ref())?;
        let finish = Finish {
            distinct,
            order,
            groups: None,
            ..self.finish(whole.query)
        };
        self.planned(whole.query, finish, clause)
    }

    /// DISTINCT of rows that are whole on their shards.
    fn distinct_rows(&self) -> Result<Option<DistinctRows>, Refusal> {
        match &self.select.distinct {
            Distinct::No => Ok(None),
            Distinct::On(exprs) => {
                let keys: Vec<Expr> = exprs
                    .iter()
                    .filter_map(|expr| self.distinct_key(expr))
                    .collect();
                if self
                    .types
                    .key_is_covered(self.select, &keys.iter().collect::<Vec<_>>(), &[])
                {
                    Ok(None)
                } else {
                    Err(refusal("DISTINCT ON needs the rows of all shards"))
                }
            }
            Distinct::Rows => {
                let exprs: Vec<&Expr> = self.select.items.iter().filter_map(item_expr).collect();
                let stars: Vec<&Item> = self
                    .select
                    .items
                    .iter()
                    .filter(|item| item_expr(item).is_none())
                    .collect();
                if self.types.key_is_covered(self.select, &exprs, &stars) {
                    return Ok(None);
                }
                Ok(Some(DistinctRows {
                    text_by_bytes: self.rows_by_bytes(),
                }))
            }
        }
    }

    /// Is equality of the select list's text that of its bytes?
    fn rows_by_bytes(&self) -> bool {
        self.select.items.iter().all(|item| match item_expr(item) {
            Some(expr) => self.by_bytes(expr),
            None => self.types.deterministic(),
        })
    }

    /// What a DISTINCT ON key stands for, where that is certain: an output name hides an input column.
    fn distinct_key(&self, expr: &Expr) -> Option<Expr> {
        match expr {
            Expr::Number(position) => {
                item_expr(&self.select.items[self.position(position).ok()?]).cloned()
            }
            Expr::Column { qualifier, name } if qualifier.is_empty() => {
                let mut meanings = self.select.items.iter().filter_map(|item| {
                    match (item, self.output_is_named(item, name)) {
                        (_, Truth::No) => None,
                        (Item::Star, _) => Some(Some(expr.clone())),
                        (Item::Expr { expr, .. }, Truth::Yes) => Some(Some(expr.clone())),
                        (Item::QualifiedStar(table), Truth::Yes) => Some(Some(column(table, name))),
                        (_, Truth::Maybe) => Some(None),
                    }
                });
                match meanings.next() {
                    None => Some(expr.clone()),
                    // Every item that could have the name must mean the same.
                    Some(first) => {
                        first.filter(|first| meanings.all(|other| other.as_ref() == Some(first)))
                    }
                }
            }
            expr => Some(expr.clone()),
        }
    }
}

/// A grouping key as written: an item of the select list, or an expression that is none.
enum KeyColumn<'a> {
    Item(usize),
    Expression(&'a Expr, String),
}

/// GROUP BY.
impl<'a> Block<'a> {
    fn group_keys(&self) -> Result<Vec<KeyColumn<'a>>, Refusal> {
        let spans = &self.select.group_by_spans;
        let mut keys = Vec::with_capacity(self.select.group_by.len());
        for (index, expr) in self.select.group_by.iter().enumerate() {
            let span = spans
                .get(index)
                .filter(|_| spans.len() == self.select.group_by.len());
            keys.push(self.group_key(expr, span)?);
        }
        Ok(keys)
    }

    fn group_key(&self, expr: &'a Expr, span: Option<&Span>) -> Result<KeyColumn<'a>, Refusal> {
        match expr {
            Expr::Number(position) => Ok(KeyColumn::Item(self.position(position)?)),
            Expr::Column { qualifier, name } if qualifier.is_empty() => {
                let named: Vec<(usize, Truth)> = self
                    .select
                    .items
                    .iter()
                    .enumerate()
                    // An item that is this very column means the same in either reading.
                    .filter(|(_, item)| item_expr(item) != Some(expr))
                    .map(|(index, item)| (index, self.output_is_named(item, name)))
                    .filter(|(_, named)| *named != Truth::No)
                    .collect();
                if named.is_empty() {
                    return Ok(self.item_or_expression(expr, span));
                }
                // Here an input column comes first (SQL:1992 said so; ORDER BY is the other way round).
                match (
                    self.types.has_input_column(self.select, name),
                    named.as_slice(),
                ) {
                    (Some(true), _) => Ok(self.item_or_expression(expr, span)),
                    (Some(false), [(index, Truth::Yes)]) => Ok(KeyColumn::Item(*index)),
                    _ => Err(Refusal::new(
                        format!("GROUP BY {name} could mean a column or an output name"),
                        "Write the column with its table's name, or the output column's position.",
                    )),
                }
            }
            expr if is_constant(expr) => Err(refusal("GROUP BY has a constant")),
            expr => Ok(self.item_or_expression(expr, span)),
        }
    }

    fn item_or_expression(&self, expr: &'a Expr, span: Option<&Span>) -> KeyColumn<'a> {
        let text = match span {
            Some(span) => self.text(span).map(str::to_owned),
            None => column_text(expr),
        };
        match self.item_like(expr, text.as_deref()) {
            Some(index) => KeyColumn::Item(index),
            // Without a text the shards cannot be asked for it: `hide` refuses.
            None => KeyColumn::Expression(expr, text.unwrap_or_default()),
        }
    }

    /// Every group is whole on one shard.
    fn groups_are_covered(&self, keys: &[KeyColumn<'_>]) -> bool {
        let exprs: Vec<&Expr> = keys
            .iter()
            .filter_map(|key| match key {
                KeyColumn::Item(index) => self.select.items.get(*index).and_then(item_expr),
                KeyColumn::Expression(expr, _) => Some(*expr),
            })
            .collect();
        !exprs.is_empty() && self.types.key_is_covered(self.select, &exprs, &[])
    }

    /// Groups that may have rows on several shards.
    fn plan_groups(
        mut self,
        whole: &Clauses<'_>,
        keys: &[KeyColumn<'a>],
    ) -> Result<Planned, Refusal> {
        self.folding = true;
        if self.select.having.is_some() {
            return Err(refusal("HAVING needs the groups of all shards"));
        }
        if self.select.distinct != Distinct::No {
            return Err(refusal(
                "DISTINCT over groups needs the groups of all shards",
            ));
        }
        let mut columns = Vec::with_capacity(self.select.items.len());
        for item in &self.select.items {
            let expr = item_expr(item)
                .ok_or_else(|| refusal("a * in a grouped query needs the rows of all shards"))?;
            columns.push(self.fold(expr)?);
        }
        let mut group_keys = Vec::with_capacity(keys.len());
        for key in keys {
            let (column, expr) = match key {
                KeyColumn::Item(index) => (*index, item_expr(&self.select.items[*index])),
                KeyColumn::Expression(expr, text) => (
                    columns.len() + self.hide(expr, text, Fold::First)?,
                    Some(*expr),
                ),
            };
            let text_by_bytes = expr.is_some_and(|expr| self.by_bytes(expr));
            if !matches!(columns.get(column), None | Some(Fold::First)) {
                return Err(refusal("GROUP BY names an aggregate"));
            }
            group_keys.push(GroupKey {
                column,
                text_by_bytes,
            });
        }
        let mut order = Vec::new();
        // One row is in any order.
        for key in whole.query.order_by.iter().filter(|_| !keys.is_empty()) {
            order.push(self.sort_key(key)?);
        }
        columns.append(&mut self.hidden_folds);
        let clause = window::removed(whole.query.limit.as_ref(), whole.query.offset.as_ref())?;
        let groups = Some(Groups {
            keys: group_keys,
            columns,
        });
        let finish = Finish {
            order,
            groups,
            distinct: None,
            ..self.finish(whole.query)
        };
        self.planned(whole.query, finish, clause)
    }

    /// How the partial values of an expression of a grouped query become one.
    fn fold(&self, expr: &Expr) -> Result<Fold, Refusal> {
        let call = match expr {
            Expr::Function(call) if self.is_aggregate(call)? => call,
            // A part of a count that leaves the type lets the whole leave it too, with PostgreSQL's own error.
            Expr::Cast { expr, data_type }
                if window::is_integer(data_type) && matches!(self.fold(expr), Ok(Fold::Count)) =>
            {
                return Ok(Fold::Count);
            }
            expr if self.has_aggregate(expr)? => {
                return Err(Refusal::new(
                    "an aggregate inside an expression needs the rows of all shards",
                    "Select the aggregate alone, or name the sharding key in the WHERE clause.",
                ));
            }
            // The same in all rows of its group, but only if it is one value.
            expr => {
                return if self.may_return_set(expr) {
                    Err(refusal(
                        "a function that may return a set stands beside groups of several shards",
                    ))
                } else {
                    Ok(Fold::First)
                };
            }
        };
        let name = &call.name;
        let builtin = self.types.function(name) == FunctionKind::BuiltinAggregate
            && name
                .schema
                .as_deref()
                .is_none_or(|schema| schema == "pg_catalog");
        let text_is_c = || matches!(call.args.as_slice(), [arg] if self.text_is_c(arg));
        match name.name.as_str() {
            _ if !builtin || !call.order_by.is_empty() => {}
            "count" if !call.distinct => return Ok(Fold::Count),
            "sum" if !call.distinct => return Ok(Fold::Sum),
            "min" => {
                return Ok(Fold::Min {
                    text_is_c: text_is_c(),
                });
            }
            "max" => {
                return Ok(Fold::Max {
                    text_is_c: text_is_c(),
                });
            }
            _ => {}
        }
        let distinct = if call.distinct { "DISTINCT " } else { "" };
        Err(refusal(format!(
            "{}({distinct}…) needs the rows of all shards",
            name.name
        )))
    }

    fn may_return_set(&self, expr: &Expr) -> bool {
        let mut found = false;
        let mut visit = |expr: &Expr| {
            if let Expr::Function(call) = expr {
                found |= self.types.function(&call.name) != FunctionKind::Builtin
                    || returns_set(&call.name);
            }
        };
        walk::expression(expr, &mut visit, &mut |_| {});
        found
    }
}

/// PostgreSQL's own functions that can stand in a select list and return a set (pg_proc.proretset, versions 12 to 18).
fn returns_set(name: &Name) -> bool {
    let name = name.name.as_str();
    matches!(
        name,
        "unnest"
            | "aclexplode"
            | "regexp_matches"
            | "regexp_split_to_table"
            | "string_to_table"
            | "txid_snapshot_xip"
            | "jsonb_path_query"
            | "jsonb_path_query_tz"
            | "_pg_expandarray"
    ) || ["generate_", "json_", "jsonb_", "pg_", "ts_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// ORDER BY.
impl Block<'_> {
    fn sort_key(&mut self, key: &OrderKey) -> Result<SortKey, Refusal> {
        let (source, text_is_c) = match &key.expr {
            Expr::Number(position) => match self.position(position) {
                Ok(index) => {
                    let expr = item_expr(&self.select.items[index]);
                    (
                        Source::Visible(index),
                        expr.is_some_and(|expr| self.text_is_c(expr)),
                    )
                }
                // Behind a `*` the text does not tell which column it is, but the position is the row's.
                Err(refused) => match position.parse::<usize>() {
                    Ok(position) if position > 0 && self.has_star() => {
                        (Source::Visible(position - 1), false)
                    }
                    _ => return Err(refused),
                },
            },
            Expr::Column { qualifier, name } if qualifier.is_empty() => {
                self.sort_name(key, name)?
            }
            expr if is_constant(expr) => return Err(refusal("ORDER BY has a constant")),
            _ => self.sort_expression(key)?,
        };
        Ok(SortKey {
            source,
            descending: key.descending,
            nulls_first: key.nulls_first.unwrap_or(key.descending),
            text_is_c,
        })
    }

    /// A bare name: an output column first, then an input column (manual, SELECT, "ORDER BY Clause").
    fn sort_name(&mut self, key: &OrderKey, name: &str) -> Result<(Source, bool), Refusal> {
        let found: Vec<(Truth, bool)> = self
            .select
            .items
            .iter()
            .map(|item| {
                let named = self.output_is_named(item, name);
                let text_is_c = match item {
                    Item::Expr { expr, .. } => named != Truth::No && self.text_is_c(expr),
                    Item::Star => self.text_is_c(&column(&[], name)),
                    Item::QualifiedStar(table) => self.text_is_c(&column(table, name)),
                };
                (named, text_is_c)
            })
            .filter(|(named, _)| *named != Truth::No)
            .collect();
        let mut text_is_c = found.iter().all(|(_, text_is_c)| *text_is_c);
        if found.is_empty() {
            return self.sort_expression(key);
        }
        let certain = found.iter().any(|(named, _)| *named == Truth::Yes);
        let hides = self.select.distinct != Distinct::Rows;
        if certain || !hides || self.types.has_input_column(self.select, name) != Some(true) {
            // PostgreSQL says what the columns are called; a name that is none of theirs is refused then.
            return Ok((Source::Named(name.to_owned()), text_is_c));
        }
        text_is_c &= self.text_is_c(&key.expr);
        let fold = if self.folding {
            self.fold(&key.expr)?
        } else {
            Fold::First
        };
        let text = self.text(&key.span).unwrap_or_default().to_owned();
        let hidden = self.hide(&key.expr, &text, fold)?;
        Ok((Source::NamedOrHidden(name.to_owned(), hidden), text_is_c))
    }

    /// An expression over input columns: an item of the select list, or a hidden column.
    fn sort_expression(&mut self, key: &OrderKey) -> Result<(Source, bool), Refusal> {
        let text = self.text(&key.span).unwrap_or_default().to_owned();
        let text_is_c = self.text_is_c(&key.expr);
        if let Some(source) = self
            .item_like(&key.expr, Some(&text))
            .and_then(|index| self.source_of(index))
        {
            return Ok((source, text_is_c));
        }
        if self.select.distinct == Distinct::Rows {
            return Err(Refusal::new(
                "an ORDER BY key of SELECT DISTINCT is not found in the select list",
                "Write the key exactly as in the select list, or as the output column's name.",
            ));
        }
        let fold = if self.folding {
            self.fold(&key.expr)?
        } else {
            Fold::First
        };
        let hidden = self.hide(&key.expr, &text, fold)?;
        Ok((Source::Hidden(hidden), text_is_c))
    }

    /// Where an item of the select list is in the row.
    fn source_of(&self, index: usize) -> Option<Source> {
        let is_star = |item: &Item| item_expr(item).is_none();
        let (before, behind) = self.select.items.split_at(index);
        if !before.iter().any(is_star) {
            Some(Source::Visible(index))
        } else if !behind.iter().any(is_star) {
            Some(Source::VisibleFromEnd(behind.len() - 1))
        } else {
            None
        }
    }

    /// Is an output column of this item called `name`?
    fn output_is_named(&self, item: &Item, name: &str) -> Truth {
        match item {
            Item::Expr {
                alias: Some(alias), ..
            } if alias == name => Truth::Yes,
            Item::Expr { alias: Some(_), .. } => Truth::No,
            Item::Expr {
                expr, alias: None, ..
            } => is_named(expr, name),
            star => match self.types.star_has_column(self.select, star, name) {
                Some(true) => Truth::Yes,
                Some(false) => Truth::No,
                None => Truth::Maybe,
            },
        }
    }
}

/// Texts, columns and collations.
impl Block<'_> {
    /// An item that surely has the same value: the same column, or the very same text (without literals, each of which
    /// has a placeholder of its own).
    fn item_like(&self, expr: &Expr, text: Option<&str>) -> Option<usize> {
        let is_column = matches!(expr, Expr::Column { .. });
        self.select.items.iter().position(|item| match item {
            Item::Expr {
                expr: other, span, ..
            } => (is_column && other == expr) || (text.is_some() && self.text(span) == text),
            Item::Star | Item::QualifiedStar(_) => false,
        })
    }

    /// The item at a written position (from 1), when no `*` stands before it.
    fn position(&self, written: &str) -> Result<usize, Refusal> {
        let unknown = || refusal("a position in ORDER BY or GROUP BY is not in the select list");
        let index = written
            .parse::<usize>()
            .ok()
            .and_then(|position| position.checked_sub(1))
            .ok_or_else(unknown)?;
        let up_to = self.select.items.get(..=index).ok_or_else(unknown)?;
        if up_to.iter().all(|item| item_expr(item).is_some()) {
            Ok(index)
        } else {
            Err(unknown())
        }
    }

    fn has_star(&self) -> bool {
        self.select
            .items
            .iter()
            .any(|item| item_expr(item).is_none())
    }

    /// Adds a hidden column with this text and says which it is.
    fn hide(&mut self, expr: &Expr, text: &str, fold: Fold) -> Result<usize, Refusal> {
        if let Some(index) = self.hidden.iter().position(|hidden| hidden == text) {
            return Ok(index);
        }
        let cannot = |reason| Refusal::new(reason, "Add the key to the select list.");
        if text.is_empty() || self.select.items.is_empty() {
            return Err(cannot(
                "a key that is not in the select list cannot be fetched",
            ));
        }
        if self.moves_parameter(expr, text) {
            // PostgreSQL takes a parameter's type from where it meets it first, and the select list comes first.
            return Err(cannot(
                "a key that is not in the select list uses a parameter that is used elsewhere too",
            ));
        }
        self.hidden.push(text.to_owned());
        self.hidden_folds.push(fold);
        Ok(self.hidden.len() - 1)
    }

    /// Does a parameter of the expression occur outside of it?
    fn moves_parameter(&self, expr: &Expr, text: &str) -> bool {
        let mut params = Vec::new();
        let mut subqueries = false;
        let mut visit = |expr: &Expr| {
            if let Expr::Param(number) = expr {
                params.push(*number);
            }
        };
        walk::expression(expr, &mut visit, &mut |_| subqueries = true);
        subqueries && text.contains('$')
            || params
                .iter()
                .any(|number| count_param(self.shape, *number) != count_param(text, *number))
    }

    fn text(&self, span: &Span) -> Option<&str> {
        self.shape
            .get(span.clone())
            .map(str::trim)
            .filter(|text| !text.is_empty())
    }

    /// Does PostgreSQL order this expression, if it is text, by its bytes?
    fn text_is_c(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Collate { collation, .. } => is_c(collation),
            Expr::Column { .. } => self.types.collation(self.select, expr) == Collation::C,
            // Any other expression takes its collation from its columns in ways that are not followed here; but when
            // there is no other than C, it is C.
            expr => self.types.database_collation_is_c() && self.only(expr, Collation::C),
        }
    }

    /// Is the expression, if it is text, equal to another only when the bytes are?
    fn by_bytes(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Collate { collation, .. } if is_c(collation) => true,
            Expr::Column { .. } => self.types.collation(self.select, expr) != Collation::Unknown,
            expr => self.only(expr, Collation::Deterministic),
        }
    }

    /// No collation in the expression is worse than `bound`.
    fn only(&self, expr: &Expr, bound: Collation) -> bool {
        let mut only = true;
        let mut subqueries = false;
        let mut visit = |expr: &Expr| match expr {
            Expr::Collate { collation, .. } => only &= is_c(collation),
            Expr::Column { .. } => {
                only &= match self.types.collation(self.select, expr) {
                    Collation::C => true,
                    Collation::Deterministic => bound == Collation::Deterministic,
                    Collation::Unknown => false,
                };
            }
            _ => {}
        };
        walk::expression(expr, &mut visit, &mut |_| subqueries = true);
        only && !subqueries
    }

    /// The finish as far as LIMIT and the hidden columns go.
    fn finish(&self, query: &Query) -> Finish {
        Finish {
            hidden: self.hidden.len(),
            limit: query.limit.clone(),
            offset: query.offset.clone(),
            ..Finish::default()
        }
    }

    fn planned(&self, query: &Query, finish: Finish, clause: Clause) -> Result<Planned, Refusal> {
        let mut edits = Vec::new();
        if !self.hidden.is_empty() {
            // Names of their own keep hidden columns from being meant by any name in the query.
            let mut name = String::from("__keyway_");
            while self.shape.contains(&name) {
                name.push('_');
            }
            let mut columns = String::new();
            for (index, text) in self.hidden.iter().enumerate() {
                write!(columns, ", {text} AS \"{name}{index}\"").expect("writing to a String");
            }
            edits.push((self.select.items_end..self.select.items_end, columns));
        }
        planned(query, self.shape, finish, clause, edits)
    }
}

/// The text with its edits, or none when it stays as it is.
fn planned(
    query: &Query,
    shape: &str,
    finish: Finish,
    clause: Clause,
    mut edits: Vec<(Span, String)>,
) -> Result<Planned, Refusal> {
    let lost = || refusal("LIMIT or the select list is not found in the text");
    if query.limit_span.is_none() && (query.limit.is_some() || query.offset.is_some()) {
        return Err(lost());
    }
    if let (Clause::Other(clause), Some(span)) = (clause, &query.limit_span) {
        edits.push((span.clone(), clause));
    }
    if edits.is_empty() {
        return Ok(Planned {
            text_shape: None,
            finish,
        });
    }
    edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = shape.to_owned();
    for (span, replacement) in edits {
        if shape.get(span.clone()).is_none() {
            return Err(lost());
        }
        text.replace_range(span, &replacement);
    }
    Ok(Planned {
        text_shape: Some(text),
        finish,
    })
}

/// UNION.
fn plan_set(
    whole: &Clauses<'_>,
    (op, all): (SetOp, bool),
    left: &Body,
    right: &Body,
    types: &dyn Types,
    shape: &str,
) -> Result<Planned, Refusal> {
    if op != SetOp::Union {
        return Err(refusal("INTERSECT and EXCEPT need the rows of all shards"));
    }
    let mut arms = Vec::new();
    for body in [left, right] {
        collect_arms(body, all, types, shape, &mut arms)?;
    }
    let mut order = Vec::with_capacity(whole.query.order_by.len());
    for key in &whole.query.order_by {
        let (source, column) = match &key.expr {
            Expr::Number(position) => {
                let index = position
                    .parse::<usize>()
                    .ok()
                    .and_then(|position| position.checked_sub(1));
                let index = index.ok_or_else(|| refusal("ORDER BY has a constant"))?;
                (Source::Visible(index), Some(index))
            }
            Expr::Column { qualifier, name } if qualifier.is_empty() => {
                let named = |item: &Item| arms[0].output_is_named(item, name) == Truth::Yes;
                (
                    Source::Named(name.clone()),
                    arms[0].select.items.iter().position(named),
                )
            }
            _ => return Err(refusal("ORDER BY of a UNION takes output columns only")),
        };
        // Each arm's column counts for the union's collation.
        let text_is_c = column.is_some_and(|index| {
            arms.iter().all(|arm| {
                !arm.has_star()
                    && arm
                        .select
                        .items
                        .get(index)
                        .and_then(item_expr)
                        .is_some_and(|expr| arm.text_is_c(expr))
            })
        });
        order.push(SortKey {
            source,
            descending: key.descending,
            nulls_first: key.nulls_first.unwrap_or(key.descending),
            text_is_c,
        });
    }
    let distinct = DistinctRows {
        text_by_bytes: arms.iter().all(Block::rows_by_bytes),
    };
    let finish = Finish {
        distinct: (!all).then_some(distinct),
        order,
        limit: whole.query.limit.clone(),
        offset: whole.query.offset.clone(),
        ..Finish::default()
    };
    let clause = window::pushed(whole.query.limit.as_ref(), whole.query.offset.as_ref())?;
    planned(whole.query, shape, finish, clause, Vec::new())
}

/// The SELECT blocks of a UNION. Below a UNION without ALL, equal rows are of no consequence.
fn collect_arms<'a>(
    body: &'a Body,
    all: bool,
    types: &'a dyn Types,
    shape: &'a str,
    arms: &mut Vec<Block<'a>>,
) -> Result<(), Refusal> {
    match body {
        Body::Select(select) => {
            let block = Block::new(select, types, shape)?;
            if block.grouped && !block.groups_are_covered(&block.group_keys()?) {
                return Err(refusal(
                    "an arm of the UNION has groups or aggregates of several shards",
                ));
            }
            let distinct = matches!(select.distinct, Distinct::On(_))
                || (all && select.distinct == Distinct::Rows);
            if distinct {
                return Err(refusal(
                    "an arm of the UNION is DISTINCT over several shards",
                ));
            }
            arms.push(block);
            Ok(())
        }
        Body::Set {
            op: SetOp::Union,
            all: inner,
            left,
            right,
        } if *inner || !all => {
            collect_arms(left, all, types, shape, arms)?;
            collect_arms(right, all, types, shape, arms)
        }
        Body::Set { .. } => Err(refusal(
            "set operations other than UNION ALL inside another need the rows of all shards",
        )),
        Body::Nested(query) if is_bare(query) && query.with.is_empty() => {
            collect_arms(&query.body, all, types, shape, arms)
        }
        Body::Nested(_) => Err(refusal(
            "an arm of the UNION has ORDER BY, LIMIT or WITH of its own",
        )),
        Body::Values(_) => Err(refusal("VALUES belongs to no shard")),
    }
}

fn item_expr(item: &Item) -> Option<&Expr> {
    match item {
        Item::Expr { expr, .. } => Some(expr),
        Item::Star | Item::QualifiedStar(_) => None,
    }
}

/// What PostgreSQL takes for a constant, perhaps a position, where a key stands.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(_)
        | Expr::Param(_)
        | Expr::Null
        | Expr::Bool(_)
        | Expr::Number(_)
        | Expr::String(_) => true,
        Expr::Negate(operand) | Expr::Cast { expr: operand, .. } => is_constant(operand),
        _ => false,
    }
}

/// `C`, `POSIX` or `ucs_basic`, of PostgreSQL's own.
fn is_c(collation: &Name) -> bool {
    collation
        .schema
        .as_deref()
        .is_none_or(|schema| schema == "pg_catalog")
        && matches!(collation.name.as_str(), "C" | "POSIX" | "ucs_basic")
}

fn column(qualifier: &[String], name: &str) -> Expr {
    Expr::Column {
        qualifier: qualifier.to_vec(),
        name: name.to_owned(),
    }
}

/// A column as it can stand in any text.
fn column_text(expr: &Expr) -> Option<String> {
    let Expr::Column { qualifier, name } = expr else {
        return None;
    };
    let quoted: Vec<String> = qualifier
        .iter()
        .chain([name])
        .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
        .collect();
    Some(quoted.join("."))
}

/// Is a FROM entry, or one of a join, called `table`?
fn is_called(from: &From, table: &str) -> bool {
    match from {
        From::Table { name, alias, .. } => alias.as_ref().unwrap_or(&name.name) == table,
        From::Subquery { alias, .. } => alias.as_deref() == Some(table),
        From::Function { name, alias, .. } => alias.as_ref().unwrap_or(&name.name) == table,
        From::Join { left, right, .. } => is_called(left, table) || is_called(right, table),
    }
}

/// How often `$number` stands in a text. What stands in a string or a quoted name counts too, which can only refuse more.
fn count_param(text: &str, number: u16) -> usize {
    let placeholder = format!("${number}");
    text.match_indices(&placeholder)
        .filter(|(at, _)| {
            !text[at + placeholder.len()..].starts_with(|next: char| next.is_ascii_digit())
        })
        .count()
}
