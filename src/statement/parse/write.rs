//! INSERT, UPDATE, DELETE and MERGE.

use crate::statement::parse::reader::Reader;
use crate::statement::parse::{Parse, refuse};
use crate::statement::tree::{
    Assignment, Body, Cte, Delete, Expr, Insert, InsertSource, Item, Merge, MergeAction,
    MergeClause, Name, OnConflict, Update,
};

impl Reader<'_> {
    /// Behind INSERT.
    pub(super) fn insert(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Insert> {
        self.expect("into")?;
        let table = self.name()?;
        let alias = if self.word("as") {
            Some(self.name_part()?)
        } else {
            None
        };
        let columns = if self.is_symbol(self.at, b'(') && !self.is_query_group(self.at) {
            self.column_list()?
        } else {
            Vec::new()
        };
        let overriding_user = self.overriding_user()?;
        let source = self.insert_source()?;
        let on_conflict = if self.words(&["on", "conflict"]) {
            Some(self.on_conflict()?)
        } else {
            None
        };
        Ok(Insert {
            with,
            recursive,
            table,
            alias,
            columns,
            overriding_user,
            source,
            on_conflict,
            returning: self.returning()?,
        })
    }

    /// OVERRIDING SYSTEM or USER VALUE, if it is there: is it USER?
    fn overriding_user(&mut self) -> Parse<bool> {
        if !self.word("overriding") {
            return Ok(false);
        }
        let user = !self.word("system");
        if user {
            self.expect("user")?;
        }
        self.expect("value")?;
        Ok(user)
    }

    fn insert_source(&mut self) -> Parse<InsertSource> {
        if self.words(&["default", "values"]) {
            return Ok(InsertSource::Default);
        }
        let query = self.query()?;
        let plain = query.with.is_empty()
            && query.order_by.is_empty()
            && query.limit_span.is_none()
            && !query.locking;
        Ok(match query.body {
            Body::Values(rows) if plain => InsertSource::Values(rows),
            _ => InsertSource::Query(Box::new(query)),
        })
    }

    fn on_conflict(&mut self) -> Parse<OnConflict> {
        if self.is_symbol(self.at, b'(') {
            // Index expressions: neither tables nor volatile functions can stand in them.
            self.at = self.matching(self.at)? + 1;
            self.filter()?;
        } else if self.words(&["on", "constraint"]) {
            self.name_part()?;
        }
        self.expect("do")?;
        if self.word("nothing") {
            return Ok(OnConflict::Nothing);
        }
        self.expect("update")?;
        self.expect("set")?;
        let set = self.assignments()?;
        let filter = self.filter()?;
        Ok(OnConflict::Update { set, filter })
    }

    /// Behind UPDATE.
    pub(super) fn update(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Update> {
        let (table, alias) = self.target()?;
        self.expect("set")?;
        let set = self.assignments()?;
        let from = if self.word("from") {
            self.table_references()?
        } else {
            Vec::new()
        };
        let (filter, current_of) = self.filter_or_cursor()?;
        Ok(Update {
            with,
            recursive,
            table,
            alias,
            set,
            from,
            filter,
            current_of,
            returning: self.returning()?,
        })
    }

    /// Behind DELETE.
    pub(super) fn delete(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Delete> {
        self.expect("from")?;
        let (table, alias) = self.target()?;
        let using = if self.word("using") {
            self.table_references()?
        } else {
            Vec::new()
        };
        let (filter, current_of) = self.filter_or_cursor()?;
        Ok(Delete {
            with,
            recursive,
            table,
            alias,
            using,
            filter,
            current_of,
            returning: self.returning()?,
        })
    }

    /// Behind MERGE.
    pub(super) fn merge(&mut self, with: Vec<Cte>) -> Parse<Merge> {
        self.expect("into")?;
        let (table, alias) = self.target()?;
        self.expect("using")?;
        let source = self.table_reference()?;
        self.expect("on")?;
        let on = self.expr()?;
        let mut clauses = Vec::new();
        while self.word("when") {
            clauses.push(self.merge_clause()?);
        }
        if clauses.is_empty() {
            return refuse("MERGE without WHEN");
        }
        if self.is_word("returning") {
            return refuse("MERGE … RETURNING");
        }
        Ok(Merge {
            with,
            table,
            alias,
            source,
            on,
            clauses,
        })
    }

    fn merge_clause(&mut self) -> Parse<MergeClause> {
        self.word("not");
        self.expect("matched")?;
        if self.word("by") {
            // BY SOURCE works on rows that the join condition says nothing about.
            self.expect("target")?;
        }
        let condition = if self.word("and") {
            Some(self.expr()?)
        } else {
            None
        };
        self.expect("then")?;
        let action = if self.word("delete") {
            MergeAction::Delete
        } else if self.words(&["do", "nothing"]) {
            MergeAction::Nothing
        } else if self.word("update") {
            self.expect("set")?;
            MergeAction::Update(self.assignments()?)
        } else {
            self.expect("insert")?;
            let columns = if self.is_symbol(self.at, b'(') {
                self.column_list()?
            } else {
                Vec::new()
            };
            let overriding_user = self.overriding_user()?;
            let values = if self.words(&["default", "values"]) {
                None
            } else {
                self.expect("values")?;
                self.open()?;
                let values = self.exprs()?;
                self.close()?;
                Some(values)
            };
            MergeAction::Insert {
                columns,
                overriding_user,
                values,
            }
        };
        Ok(MergeClause { condition, action })
    }

    /// `[ONLY] name [*] [[AS] alias]`, where SET cannot be the alias.
    fn target(&mut self) -> Parse<(Name, Option<String>)> {
        let (name, _) = self.relation()?;
        let bare = self.alias_follows() && !self.is_word("set");
        let alias = if self.word("as") || bare {
            Some(self.name_part()?)
        } else {
            None
        };
        Ok((name, alias))
    }

    /// WHERE, or WHERE CURRENT OF.
    fn filter_or_cursor(&mut self) -> Parse<(Option<Expr>, Option<String>)> {
        if self.words(&["where", "current", "of"]) {
            return Ok((None, Some(self.name_part()?)));
        }
        Ok((self.filter()?, None))
    }

    fn assignments(&mut self) -> Parse<Vec<Assignment>> {
        let mut list = Vec::new();
        loop {
            list.push(self.assignment()?);
            if !self.symbol(b',') {
                return Ok(list);
            }
        }
    }

    fn assignment(&mut self) -> Parse<Assignment> {
        if self.symbol(b'(') {
            let mut columns = Vec::new();
            loop {
                columns.push(self.name_part()?);
                if self.is_symbol(self.at, b'.') || self.is_symbol(self.at, b'[') {
                    return refuse("an assignment to part of a column in a list");
                }
                if !self.symbol(b',') {
                    break;
                }
            }
            self.close()?;
            self.equals()?;
            let value = match self.expr()? {
                // `(a) = (1)`
                value if columns.len() == 1 => Expr::Row(match value {
                    Expr::Row(parts) => parts,
                    value @ Expr::Query(_) => return Ok(Assignment { columns, value }),
                    value => vec![value],
                }),
                value @ (Expr::Row(_) | Expr::Query(_)) => value,
                _ => return refuse("an assignment to a list is not understood"),
            };
            return Ok(Assignment { columns, value });
        }
        let column = self.name_part()?;
        // `a[1] = …`, `a.b = …` change a part of the column.
        let mut parts = Vec::new();
        loop {
            if self.symbol(b'[') {
                while !self.symbol(b']') {
                    if !self.symbol(b':') {
                        parts.push(self.expr()?);
                    }
                }
            } else if self.symbol(b'.') {
                self.label()?;
                parts.push(Expr::Null);
            } else {
                break;
            }
        }
        self.equals()?;
        let mut value = self.expr()?;
        if !parts.is_empty() {
            parts.push(value);
            value = Expr::Other(parts);
        }
        Ok(Assignment {
            columns: vec![column],
            value,
        })
    }

    fn equals(&mut self) -> Parse<()> {
        if self.is_operator("=") {
            Ok(())
        } else {
            refuse("= is missing")
        }
    }

    fn returning(&mut self) -> Parse<Vec<Item>> {
        if !self.word("returning") {
            return Ok(Vec::new());
        }
        if self.is_word("with") {
            return refuse("RETURNING WITH");
        }
        self.items()
    }
}
