//! FROM: tables, subqueries, functions, the joins between them and their aliases.

use crate::statement::lex::{TokenKind, is_reserved};
use crate::statement::parse::expression::KEYWORD_FUNCTIONS;
use crate::statement::parse::reader::Reader;
use crate::statement::parse::{CHAIN_MAX, Parse, refuse};
use crate::statement::tree::{Expr, From, JoinKind, JoinOn, Name, Span};

impl Reader<'_> {
    pub(super) fn table_references(&mut self) -> Parse<Vec<From>> {
        let mut list = Vec::new();
        loop {
            list.push(self.table_reference()?);
            if !self.symbol(b',') {
                return Ok(list);
            }
        }
    }

    /// A table with the joins behind it.
    pub(super) fn table_reference(&mut self) -> Parse<From> {
        let beside = self.enter()?;
        let mut left = self.table_primary()?;
        let mut count = 0;
        while let Some((kind, natural, cross)) = self.join_words()? {
            count += 1;
            if count > CHAIN_MAX {
                return refuse("too many joins");
            }
            let right = if natural || cross {
                self.table_primary()?
            } else {
                // `a JOIN b JOIN c ON … ON …`: what stands before the ON belongs to the right side.
                self.join_operand()?
            };
            let on = if natural {
                JoinOn::Natural
            } else if cross {
                JoinOn::Nothing
            } else {
                self.join_condition()?
            };
            self.rise(1)?;
            left = From::Join {
                left: Box::new(left),
                right: Box::new(right),
                kind,
                on,
            };
        }
        self.leave(beside)?;
        Ok(left)
    }

    /// The right side of a join whose condition comes behind it.
    fn join_operand(&mut self) -> Parse<From> {
        let beside = self.enter()?;
        let mut left = self.table_primary()?;
        while !self.is_word("on") && !self.is_word("using") {
            let Some((kind, natural, cross)) = self.join_words()? else {
                return refuse("a join without ON or USING");
            };
            let (right, on) = if natural || cross {
                let on = if natural {
                    JoinOn::Natural
                } else {
                    JoinOn::Nothing
                };
                (self.table_primary()?, on)
            } else {
                let right = self.join_operand()?;
                (right, self.join_condition()?)
            };
            self.rise(1)?;
            left = From::Join {
                left: Box::new(left),
                right: Box::new(right),
                kind,
                on,
            };
        }
        self.leave(beside)?;
        Ok(left)
    }

    /// Passes `[NATURAL] [INNER | LEFT | RIGHT | FULL | CROSS] JOIN`: its kind, NATURAL, CROSS.
    fn join_words(&mut self) -> Parse<Option<(JoinKind, bool, bool)>> {
        let start = self.at;
        let natural = self.word("natural");
        let (kind, cross) = if self.word("cross") {
            (JoinKind::Inner, true)
        } else if self.word("inner") {
            (JoinKind::Inner, false)
        } else {
            let kind = if self.word("left") {
                JoinKind::Left
            } else if self.word("right") {
                JoinKind::Right
            } else if self.word("full") {
                JoinKind::Full
            } else {
                JoinKind::Inner
            };
            if kind != JoinKind::Inner {
                self.word("outer");
            }
            (kind, false)
        };
        if self.word("join") {
            if natural && cross {
                return refuse("NATURAL CROSS JOIN");
            }
            return Ok(Some((kind, natural, cross)));
        }
        if self.at > start {
            return refuse("JOIN is missing");
        }
        Ok(None)
    }

    fn join_condition(&mut self) -> Parse<JoinOn> {
        if self.word("on") {
            return self.expr().map(JoinOn::On);
        }
        self.expect("using")?;
        let columns = self.column_list()?;
        if self.word("as") {
            self.name_part()?;
        }
        Ok(JoinOn::Using(columns))
    }

    fn table_primary(&mut self) -> Parse<From> {
        let lateral = self.word("lateral");
        if self.is_query_group(self.at) {
            let query = self.query_group()?;
            let (alias, columns) = self.alias()?;
            return Ok(From::Subquery {
                lateral,
                query: Box::new(query),
                alias,
                columns,
            });
        }
        if !lateral && self.is_symbol(self.at, b'(') {
            self.skip();
            let inner = self.table_reference()?;
            self.close()?;
            if self.is_word("as") || self.alias_follows() {
                return refuse("an alias of a join in parentheses");
            }
            return Ok(inner);
        }
        if self.is_word("rows") && self.word_at(self.at + 1, "from") {
            return self.rows_from();
        }
        if self.is_function() {
            return self.function_table();
        }
        if lateral {
            return refuse("LATERAL is not understood");
        }
        let (name, span) = self.relation()?;
        let (alias, columns) = self.alias()?;
        if self.is_word("tablesample") {
            return refuse("TABLESAMPLE");
        }
        Ok(From::Table {
            name,
            alias,
            columns,
            span,
        })
    }

    /// `[ONLY] name [*]`, `ONLY (name)`: the name and where it stands.
    pub(super) fn relation(&mut self) -> Parse<(Name, Span)> {
        let only = self.word("only");
        let parentheses = only && self.symbol(b'(');
        let start = self.at;
        let name = self.name()?;
        let span = self.span(start);
        if parentheses {
            self.close()?;
        } else if !only {
            self.is_operator("*");
        }
        Ok((name, span))
    }

    /// Is a call next?
    fn is_function(&self) -> bool {
        let mut at = self.at;
        while self.is_symbol(at + 1, b'.') {
            at += 2;
        }
        let keyword = KEYWORD_FUNCTIONS.contains(&self.folded(self.at).as_str());
        keyword
            || (matches!(self.kind(at), Some(TokenKind::Word | TokenKind::Quoted))
                && self.is_symbol(at + 1, b'(')
                && !self.word_at(self.at, "only"))
    }

    fn function_table(&mut self) -> Parse<From> {
        if matches!(self.folded(self.at).as_str(), "xmltable" | "json_table") {
            return refuse("XMLTABLE and JSON_TABLE");
        }
        let (name, args) = match self.operand()? {
            Expr::Function(call) => {
                let mut args = call.args;
                args.extend(call.filter);
                args.extend(call.order_by);
                args.extend(call.over.unwrap_or_default());
                (call.name, args)
            }
            // COALESCE and such are expressions all the same.
            Expr::Cast { expr, .. } => (empty_name(), vec![*expr]),
            _ => return refuse("a function in FROM is not understood"),
        };
        self.words(&["with", "ordinality"]);
        let (alias, columns) = self.function_alias()?;
        Ok(From::Function {
            name,
            args,
            alias,
            columns,
        })
    }

    /// `ROWS FROM (f(…) [AS (columns)], …)`
    fn rows_from(&mut self) -> Parse<From> {
        self.at += 2;
        self.open()?;
        let mut args = Vec::new();
        loop {
            args.push(self.operand()?);
            if self.word("as") {
                self.column_definitions()?;
            }
            if !self.symbol(b',') {
                break;
            }
        }
        self.close()?;
        self.words(&["with", "ordinality"]);
        let (alias, columns) = self.function_alias()?;
        Ok(From::Function {
            name: empty_name(),
            args,
            alias,
            columns,
        })
    }

    /// A word that can only be an alias stands next.
    pub(super) fn alias_follows(&self) -> bool {
        match self.kind(self.at) {
            Some(TokenKind::Quoted | TokenKind::UnicodeQuoted) => true,
            Some(TokenKind::Word) => {
                let word = self.folded(self.at);
                !is_reserved(&word)
            }
            _ => false,
        }
    }

    /// `[AS] alias [(columns)]`
    fn alias(&mut self) -> Parse<(Option<String>, Vec<String>)> {
        if !self.word("as") && !self.alias_follows() {
            return Ok((None, Vec::new()));
        }
        let alias = self.name_part()?;
        let columns = if self.is_symbol(self.at, b'(') {
            self.column_list()?
        } else {
            Vec::new()
        };
        Ok((Some(alias), columns))
    }

    /// As [`Self::alias`], or with column definitions, or those alone behind AS.
    fn function_alias(&mut self) -> Parse<(Option<String>, Vec<String>)> {
        let said = self.word("as");
        if said && self.is_symbol(self.at, b'(') {
            return Ok((None, self.column_definitions()?));
        }
        if !said && !self.alias_follows() {
            return Ok((None, Vec::new()));
        }
        let alias = self.name_part()?;
        let columns = if self.is_symbol(self.at, b'(') {
            self.column_definitions()?
        } else {
            Vec::new()
        };
        Ok((Some(alias), columns))
    }

    /// `(a int, b text)` or `(a, b)`: the names.
    fn column_definitions(&mut self) -> Parse<Vec<String>> {
        self.open()?;
        let mut columns = Vec::new();
        loop {
            columns.push(self.name_part()?);
            if !self.is_symbol(self.at, b',') && !self.is_symbol(self.at, b')') {
                self.data_type()?;
                if self.word("collate") {
                    self.name()?;
                }
            }
            if !self.symbol(b',') {
                break;
            }
        }
        self.close()?;
        Ok(columns)
    }
}

/// For what is not a plain call.
fn empty_name() -> Name {
    Name {
        schema: None,
        name: String::new(),
    }
}
