//! Queries around their SELECTs: WITH, set operations, VALUES, TABLE, ORDER BY, LIMIT, FOR UPDATE.

use crate::statement::parse::reader::Reader;
use crate::statement::parse::{CHAIN_MAX, Parse, refuse};
use crate::statement::tree::{Body, Cte, Distinct, Expr, From, Item, Query, Select, SetOp};

impl Reader<'_> {
    /// A query with its WITH.
    pub(super) fn query(&mut self) -> Parse<Query> {
        let beside = self.enter()?;
        let start = self.at;
        let (with, recursive) = self.with()?;
        let query = self.query_behind_with(start, with, recursive)?;
        self.leave(beside)?;
        Ok(query)
    }

    /// `(query)`
    pub(super) fn query_group(&mut self) -> Parse<Query> {
        let outer = std::mem::replace(&mut self.in_separates, false);
        self.open()?;
        let query = self.query()?;
        self.close()?;
        self.in_separates = outer;
        Ok(query)
    }

    /// Is the `(` at `at` that of a query? `((select 1))` and `((select 1) union …)` are, `((select 1) + 1)` is not.
    pub(super) fn is_query_group(&self, at: usize) -> bool {
        if !self.is_symbol(at, b'(') {
            return false;
        }
        let mut inner = at;
        while self.is_symbol(inner + 1, b'(') {
            inner += 1;
        }
        let is_one_of = |at: usize, words: &[&str]| words.iter().any(|word| self.word_at(at, word));
        if !is_one_of(inner + 1, &["select", "with", "values", "table"]) {
            return false;
        }
        const GOES_ON: &[&str] = &[
            "union",
            "intersect",
            "except",
            "order",
            "limit",
            "offset",
            "fetch",
            "for",
        ];
        while inner > at {
            let behind = self.closers[inner] + 1;
            if !is_one_of(behind, GOES_ON) && self.closers[inner - 1] != behind {
                return false;
            }
            inner -= 1;
        }
        true
    }

    pub(super) fn query_behind_with(
        &mut self,
        start: usize,
        with: Vec<Cte>,
        recursive: bool,
    ) -> Parse<Query> {
        let body = self.set_expression(0)?;
        let order_by = if self.word("order") {
            self.expect("by")?;
            self.order_keys()?
        } else {
            Vec::new()
        };
        if !order_by.is_empty() && !has_items(&body) {
            return refuse("ORDER BY without a select list");
        }
        let limit_at = self.end_of_last();
        let mut query = Query {
            with,
            recursive,
            body,
            order_by,
            limit: None,
            offset: None,
            with_ties: false,
            locking: false,
            limit_span: None,
            limit_at,
            span: 0..0,
        };
        self.limits(&mut query)?;
        while self.word("for") {
            query.locking |= self.lock_clause()?;
        }
        if query.limit_span.is_none() {
            self.limits(&mut query)?;
        }
        query.span = self.span(start);
        let parentheses = self.is_symbol(start, b'(');
        Ok(match query {
            // Parentheses around the whole, and nothing else. (TABLE t gives a nested query without any.)
            Query {
                with,
                body: Body::Nested(inner),
                order_by,
                limit_span: None,
                locking: false,
                ..
            } if parentheses && with.is_empty() && order_by.is_empty() => *inner,
            query => query,
        })
    }

    pub(super) fn with(&mut self) -> Parse<(Vec<Cte>, bool)> {
        if !self.word("with") {
            return Ok((Vec::new(), false));
        }
        let recursive = self.word("recursive");
        let mut entries = vec![self.cte()?];
        while self.symbol(b',') {
            entries.push(self.cte()?);
        }
        Ok((entries, recursive))
    }

    fn cte(&mut self) -> Parse<Cte> {
        let name = self.name_part()?;
        let mut columns = if self.is_symbol(self.at, b'(') {
            self.column_list()?
        } else {
            Vec::new()
        };
        self.expect("as")?;
        if self.word("not") {
            self.expect("materialized")?;
        } else {
            self.word("materialized");
        }
        self.open()?;
        let statement = self.data_statement()?;
        self.close()?;
        let mut added = Vec::new();
        if self.word("search") {
            if !self.word("depth") {
                self.expect("breadth")?;
            }
            self.expect("first")?;
            self.expect("by")?;
            self.plain_names()?;
            self.expect("set")?;
            added.push(self.name_part()?);
        }
        if self.word("cycle") {
            self.plain_names()?;
            self.expect("set")?;
            added.push(self.name_part()?);
            if self.word("to") {
                self.expr()?;
                self.expect("default")?;
                self.expr()?;
            }
            self.expect("using")?;
            added.push(self.name_part()?);
        }
        // They come behind the query's own columns.
        if !columns.is_empty() {
            columns.extend(added);
        }
        Ok(Cte {
            name,
            columns,
            statement,
        })
    }

    /// Set operations, INTERSECT binding tighter than the others.
    fn set_expression(&mut self, precedence: usize) -> Parse<Body> {
        let beside = self.begin();
        let body = self.set_operations(precedence)?;
        self.end(beside);
        Ok(body)
    }

    fn set_operations(&mut self, precedence: usize) -> Parse<Body> {
        let mut left = self.query_primary()?;
        let mut count = 0;
        loop {
            let (op, binds) = if self.is_word("union") {
                (SetOp::Union, 1)
            } else if self.is_word("except") {
                (SetOp::Except, 1)
            } else if self.is_word("intersect") {
                (SetOp::Intersect, 2)
            } else {
                return Ok(left);
            };
            if binds <= precedence {
                return Ok(left);
            }
            count += 1;
            if count > CHAIN_MAX {
                return refuse("too many set operations");
            }
            self.skip();
            let all = self.word("all");
            if !all {
                self.word("distinct");
            }
            let right = self.set_expression(binds)?;
            self.rise(1)?;
            left = Body::Set {
                op,
                all,
                left: Box::new(left),
                right: Box::new(right),
            };
        }
    }

    fn query_primary(&mut self) -> Parse<Body> {
        if self.is_symbol(self.at, b'(') {
            let query = self.query_group()?;
            let plain = query.with.is_empty()
                && query.order_by.is_empty()
                && query.limit_span.is_none()
                && !query.locking;
            return Ok(if plain {
                query.body
            } else {
                Body::Nested(Box::new(query))
            });
        }
        if self.word("select") {
            return Ok(Body::Select(Box::new(self.select()?)));
        }
        if self.word("values") {
            return Ok(Body::Values(self.values()?));
        }
        if self.word("table") {
            return self.table_query();
        }
        refuse("a query is missing")
    }

    /// Rows behind VALUES.
    fn values(&mut self) -> Parse<Vec<Vec<Expr>>> {
        let mut rows = Vec::new();
        loop {
            self.open()?;
            rows.push(self.exprs()?);
            self.close()?;
            if !self.symbol(b',') {
                return Ok(rows);
            }
        }
    }

    /// `TABLE t` is `SELECT * FROM t`, except that no columns can be added to it: there is no list to add them to.
    fn table_query(&mut self) -> Parse<Body> {
        let table = self.relation()?;
        let items_end = self.end_of_last();
        Ok(Body::Nested(Box::new(Query {
            with: Vec::new(),
            recursive: false,
            span: table.1.clone(),
            limit_at: items_end,
            body: Body::Select(Box::new(Select {
                distinct: Distinct::No,
                items: vec![Item::Star],
                items_end,
                from: vec![From::Table {
                    name: table.0,
                    alias: None,
                    columns: Vec::new(),
                    span: table.1,
                }],
                filter: None,
                group_by: Vec::new(),
                group_by_spans: Vec::new(),
                grouping_sets: false,
                having: None,
                having_span: None,
                windows: Vec::new(),
                into: None,
            })),
            order_by: Vec::new(),
            limit: None,
            offset: None,
            with_ties: false,
            locking: false,
            limit_span: None,
        })))
    }

    fn limits(&mut self, query: &mut Query) -> Parse<()> {
        let start = self.at;
        let (mut limit, mut offset) = (false, false);
        loop {
            if !limit && self.word("limit") {
                limit = true;
                query.limit = if self.word("all") {
                    None
                } else {
                    Some(self.expr()?).filter(|limit| *limit != Expr::Null)
                };
                if self.is_symbol(self.at, b',') {
                    return refuse("LIMIT a, b");
                }
            } else if !limit && self.word("fetch") {
                limit = true;
                if !self.word("first") {
                    self.expect("next")?;
                }
                query.limit = Some(if self.is_word("row") || self.is_word("rows") {
                    Expr::Number("1".to_owned())
                } else {
                    self.expr()?
                });
                if !self.word("row") {
                    self.expect("rows")?;
                }
                if self.word("with") {
                    self.expect("ties")?;
                    query.with_ties = true;
                } else {
                    self.expect("only")?;
                }
            } else if !offset && self.word("offset") {
                offset = true;
                query.offset = Some(self.expr()?);
                if !self.word("row") {
                    self.word("rows");
                }
            } else {
                break;
            }
        }
        if self.at > start {
            query.limit_span = Some(self.span(start));
        }
        Ok(())
    }

    /// Behind FOR; says whether rows are locked.
    fn lock_clause(&mut self) -> Parse<bool> {
        if self.words(&["read", "only"]) {
            return Ok(false);
        }
        let known = self.words(&["no", "key", "update"])
            || self.words(&["key", "share"])
            || self.word("update")
            || self.word("share");
        if !known {
            return refuse("FOR is not understood");
        }
        if self.word("of") {
            self.name()?;
            while self.symbol(b',') {
                self.name()?;
            }
        }
        if self.word("skip") {
            self.expect("locked")?;
        } else {
            self.word("nowait");
        }
        Ok(true)
    }
}

/// Can a column be added to the body's select list? TABLE has none, and behind an empty one a comma is an error.
fn has_items(body: &Body) -> bool {
    match body {
        Body::Select(select) => !select.items.is_empty(),
        Body::Nested(inner) => !is_table_query(inner),
        Body::Values(_) | Body::Set { .. } => true,
    }
}

/// `TABLE t`: the query is as long as the table's name.
fn is_table_query(query: &Query) -> bool {
    matches!(&query.body, Body::Select(select)
        if matches!(&select.from[..], [From::Table { span, .. }] if *span == query.span))
}
