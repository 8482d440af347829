//! One SELECT: its list, WHERE, GROUP BY, HAVING, WINDOW.

use crate::statement::lex::TokenKind;
use crate::statement::parse::reader::Reader;
use crate::statement::parse::{Parse, refuse};
use crate::statement::tree::{Distinct, Expr, Item, Select, Span};

impl Reader<'_> {
    /// Behind SELECT.
    pub(super) fn select(&mut self) -> Parse<Select> {
        let distinct = if self.word("distinct") {
            if self.word("on") {
                self.open()?;
                let keys = self.exprs()?;
                self.close()?;
                Distinct::On(keys)
            } else {
                Distinct::Rows
            }
        } else {
            self.word("all");
            Distinct::No
        };
        let items = if self.ends_items() {
            Vec::new()
        } else {
            self.items()?
        };
        let items_end = self.end_of_last();
        let into = if self.word("into") {
            for word in ["temporary", "temp", "unlogged", "local", "global", "table"] {
                self.word(word);
            }
            Some(self.name()?)
        } else {
            None
        };
        let from = if self.word("from") {
            self.table_references()?
        } else {
            Vec::new()
        };
        let filter = self.filter()?;
        let mut group_by_spans = Vec::new();
        let (group_by, grouping_sets) = self.group_by(&mut group_by_spans)?;
        let having_start = self.at;
        let having = if self.word("having") {
            Some(self.expr()?)
        } else {
            None
        };
        let grouped = !group_by.is_empty() || having.is_some() || distinct != Distinct::No;
        if items.is_empty() && grouped {
            return refuse("an empty select list with GROUP BY, HAVING or DISTINCT");
        }
        let having_span = having.is_some().then(|| self.span(having_start));
        let mut windows = Vec::new();
        if self.word("window") {
            loop {
                self.name_part()?;
                self.expect("as")?;
                windows.extend(self.window()?);
                if !self.symbol(b',') {
                    break;
                }
            }
        }
        Ok(Select {
            distinct,
            items,
            items_end,
            from,
            filter,
            group_by,
            group_by_spans,
            grouping_sets,
            having,
            having_span,
            windows,
            into,
        })
    }

    pub(super) fn filter(&mut self) -> Parse<Option<Expr>> {
        if self.word("where") {
            self.expr().map(Some)
        } else {
            Ok(None)
        }
    }

    /// A select list or RETURNING's.
    pub(super) fn items(&mut self) -> Parse<Vec<Item>> {
        let mut items = Vec::new();
        loop {
            items.push(self.item()?);
            if !self.symbol(b',') {
                return Ok(items);
            }
        }
    }

    fn item(&mut self) -> Parse<Item> {
        if self.is_operator("*") {
            return Ok(Item::Star);
        }
        let start = self.at;
        if let Some(qualifier) = self.qualified_star()? {
            return Ok(Item::QualifiedStar(qualifier));
        }
        let expr = self.expr()?;
        let span = self.span(start);
        let alias = if self.word("as") {
            Some(self.label()?)
        } else {
            self.bare_label()?
        };
        Ok(Item::Expr { expr, alias, span })
    }

    /// `t.*`, `s.t.*`
    fn qualified_star(&mut self) -> Parse<Option<Vec<String>>> {
        let mut at = self.at;
        loop {
            if !matches!(self.kind(at), Some(TokenKind::Word | TokenKind::Quoted))
                || !self.is_symbol(at + 1, b'.')
            {
                return Ok(None);
            }
            at += 2;
            if self.operator_at(at) == Some("*") {
                break;
            }
        }
        let mut parts = vec![self.name_part()?];
        self.skip();
        while self.operator_text() != Some("*") {
            parts.push(self.label()?);
            self.skip();
        }
        self.skip();
        Ok(Some(parts))
    }

    /// An alias without AS. Most keywords may be one, but not those that go on with the statement.
    fn bare_label(&mut self) -> Parse<Option<String>> {
        match self.kind(self.at) {
            Some(TokenKind::Quoted | TokenKind::UnicodeQuoted) => self.label().map(Some),
            Some(TokenKind::Word) => {
                let word = self.folded(self.at);
                // gram.y's AS_LABEL keywords.
                let needs_as = [
                    "array",
                    "as",
                    "char",
                    "character",
                    "create",
                    "day",
                    "except",
                    "fetch",
                    "filter",
                    "for",
                    "from",
                    "grant",
                    "group",
                    "having",
                    "hour",
                    "intersect",
                    "into",
                    "isnull",
                    "limit",
                    "minute",
                    "month",
                    "notnull",
                    "offset",
                    "on",
                    "order",
                    "over",
                    "overlaps",
                    "precision",
                    "returning",
                    "second",
                    "to",
                    "union",
                    "varying",
                    "where",
                    "window",
                    "with",
                    "within",
                    "without",
                    "year",
                ]
                .contains(&word.as_str());
                if needs_as {
                    Ok(None)
                } else {
                    self.label().map(Some)
                }
            }
            _ => Ok(None),
        }
    }

    /// Is the select list empty?
    fn ends_items(&self) -> bool {
        self.at_end()
            || self.is_symbol(self.at, b')')
            || [
                "from",
                "into",
                "where",
                "group",
                "having",
                "window",
                "order",
                "limit",
                "offset",
                "fetch",
                "for",
                "union",
                "intersect",
                "except",
            ]
            .iter()
            .any(|word| self.is_word(word))
    }

    /// GROUP BY's expressions and, for a plain list without rows, where they are; and whether it is more than a list.
    fn group_by(&mut self, spans: &mut Vec<Span>) -> Parse<(Vec<Expr>, bool)> {
        let mut keys = Vec::new();
        if !self.word("group") {
            return Ok((keys, false));
        }
        self.expect("by")?;
        let mut sets = self.word("distinct") || self.word("all");
        if sets && (self.at_end() || self.is_symbol(self.at, b')')) {
            return Ok((keys, true));
        }
        loop {
            let start = self.at;
            sets |= self.grouping_element(&mut keys)?;
            spans.push(self.span(start));
            if !self.symbol(b',') {
                return Ok((keys, sets));
            }
        }
    }

    fn grouping_element(&mut self, keys: &mut Vec<Expr>) -> Parse<bool> {
        let nested =
            (self.is_word("rollup") || self.is_word("cube")) && self.is_symbol(self.at + 1, b'(');
        if nested {
            self.skip();
        }
        if nested || self.words(&["grouping", "sets"]) {
            let beside = self.enter()?;
            self.open()?;
            loop {
                self.grouping_element(keys)?;
                if !self.symbol(b',') {
                    break;
                }
            }
            self.close()?;
            self.leave(beside)?;
            return Ok(true);
        }
        if self.is_symbol(self.at, b'(') && self.is_symbol(self.at + 1, b')') {
            self.at += 2;
            return Ok(true);
        }
        match self.expr()? {
            Expr::Row(parts) => keys.extend(parts),
            key => keys.push(key),
        }
        Ok(false)
    }
}
