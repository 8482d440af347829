//! Shape text → tree, by PostgreSQL's grammar (src/backend/parser/gram.y).
//!
//! A statement's clauses are read here from the lexer's tokens, so every span is exact; its expressions in
//! `expression`, which leaves operators and their precedence to sqlparser; definitions and upkeep in `definition`.
//! What is not understood is an error, never a guess.

use crate::statement::expression::qualified;
use crate::statement::lex::{Lexer, Token, TokenKind, identifier, is_reserved};
use crate::statement::scan::{ScanSettings, Verb, decode_string, dollar_body};
use crate::statement::tree::{
    Assignment, Body, Cte, Delete, Distinct, Expr, From, Insert, InsertSource, Item, JoinKind,
    JoinOn, Merge, MergeAction, MergeClause, Name, OnConflict, ParseError, Query, Select, SetOp,
    Span, Statement, Update,
};

/// How deep queries and expressions may nest.
pub(crate) const DEPTH_MAX: usize = 100;

/// How many joins or set operations may follow one another: they nest.
const CHAIN_MAX: usize = 256;

/// How long a shape text may be, in bytes.
const SHAPE_MAX: usize = 8 << 20;

/// What reading gives.
pub(crate) type Parse<T> = Result<T, ParseError>;

pub(crate) fn refuse<T>(reason: &str) -> Parse<T> {
    Err(ParseError {
        reason: reason.to_owned(),
    })
}

/// Reads a statement's shape text (see [`crate::statement::scan::shape`]).
///
/// # Errors
/// When the statement is not understood, or is a session statement.
pub fn parse(shape: &str, verb: Verb) -> Result<Statement, ParseError> {
    if shape.len() > SHAPE_MAX {
        return refuse("the statement is too long to be analysed");
    }
    let mut reader = Reader::new(shape)?;
    let statement = reader.statement(verb)?;
    if reader.at < reader.tokens.len() {
        return refuse("the statement goes on where it should end");
    }
    Ok(statement)
}

/// A place in the tokens of a statement.
pub(crate) struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// For each `(` or `[` the token that closes it.
    closers: Vec<usize>,
    /// The next token.
    pub(crate) at: usize,
    depth: usize,
    /// IN separates arguments here, as in `position(a in b)`.
    pub(crate) in_separates: bool,
}

/// The lexer's side: tokens, words, names.
impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Parse<Self> {
        // `shape()` writes strings so that they read this way.
        let settings = ScanSettings {
            standard_conforming_strings: true,
        };
        let mut lexer = Lexer::new(text, settings);
        let mut tokens: Vec<Token> = Vec::new();
        let mut closers = Vec::new();
        let mut open: Vec<(usize, u8)> = Vec::new();
        loop {
            let token = match lexer.next() {
                Ok(Some(token)) => token,
                Ok(None) => break,
                Err(error) => return refuse(&error.to_string()),
            };
            match token.kind {
                TokenKind::Punctuation(b'(') => open.push((tokens.len(), b')')),
                TokenKind::Punctuation(b'[') => open.push((tokens.len(), b']')),
                TokenKind::Punctuation(close @ (b')' | b']')) => match open.pop() {
                    Some((at, wanted)) if wanted == close => closers[at] = tokens.len(),
                    _ => return refuse("parentheses do not match"),
                },
                TokenKind::NumberJunk | TokenKind::Other => {
                    return refuse("a character or number is not understood");
                }
                _ => {}
            }
            tokens.push(token);
            closers.push(0);
        }
        if !open.is_empty() {
            return refuse("parentheses do not match");
        }
        Ok(Reader {
            text,
            tokens,
            closers,
            at: 0,
            depth: 0,
            in_separates: false,
        })
    }

    /// Goes one level deeper; everything that can nest does so.
    pub(crate) fn enter(&mut self) -> Parse<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return refuse("the statement nests too deep");
        }
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(crate) fn token(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    pub(crate) fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    pub(crate) fn raw(&self, at: usize) -> &'a str {
        self.tokens
            .get(at)
            .map_or("", |token| &self.text[token.start..token.end])
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(crate) fn skip(&mut self) {
        self.at += 1;
    }

    /// An unquoted word in lower case; empty for anything else.
    pub(crate) fn folded(&self, at: usize) -> String {
        match self.kind(at) {
            Some(TokenKind::Word) => self.raw(at).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    pub(crate) fn word_at(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(TokenKind::Word) && self.raw(at).eq_ignore_ascii_case(word)
    }

    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.word_at(self.at, word)
    }

    /// Passes `word` if it is next.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Passes several words if all of them are next.
    pub(crate) fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .zip(self.at..)
            .all(|(word, at)| self.word_at(at, word));
        if found {
            self.at += words.len();
        }
        found
    }

    pub(crate) fn expect(&mut self, word: &str) -> Parse<()> {
        if self.word(word) {
            return Ok(());
        }
        Err(ParseError {
            reason: format!("{} is missing", word.to_ascii_uppercase()),
        })
    }

    pub(crate) fn is_symbol(&self, at: usize, symbol: u8) -> bool {
        self.kind(at) == Some(TokenKind::Punctuation(symbol))
    }

    pub(crate) fn symbol(&mut self, symbol: u8) -> bool {
        let found = self.is_symbol(self.at, symbol);
        self.at += usize::from(found);
        found
    }

    pub(crate) fn open(&mut self) -> Parse<()> {
        if self.symbol(b'(') {
            Ok(())
        } else {
            refuse("( is missing")
        }
    }

    pub(crate) fn close(&mut self) -> Parse<()> {
        if self.symbol(b')') {
            Ok(())
        } else {
            refuse(") is missing, or something stands in front of it that is not understood")
        }
    }

    /// The token that closes the `(` or `[` at `at`.
    pub(crate) fn matching(&self, at: usize) -> Parse<usize> {
        match self.closers.get(at) {
            Some(closer) if *closer > at => Ok(*closer),
            _ => refuse("( is missing"),
        }
    }

    pub(crate) fn operator_at(&self, at: usize) -> Option<&'a str> {
        match self.kind(at) {
            Some(TokenKind::Operator) => Some(self.raw(at)),
            _ => None,
        }
    }

    pub(crate) fn operator_text(&self) -> Option<&'a str> {
        self.operator_at(self.at)
    }

    /// Passes an operator if one is next.
    pub(crate) fn operator(&mut self) -> Option<&'a str> {
        let text = self.operator_text()?;
        self.at += 1;
        Some(text)
    }

    /// Passes this operator if it is next.
    pub(crate) fn is_operator(&mut self, operator: &str) -> bool {
        let found = self.operator_text() == Some(operator);
        self.at += usize::from(found);
        found
    }

    /// From token `start` to the last one passed, in bytes.
    pub(crate) fn span(&self, start: usize) -> Span {
        let from = self
            .tokens
            .get(start)
            .map_or(self.text.len(), |token| token.start);
        from..self.end_of_last().max(from)
    }

    /// Where the last passed token ends.
    pub(crate) fn end_of_last(&self) -> usize {
        match self.at.checked_sub(1) {
            Some(last) => self.tokens[last.min(self.tokens.len() - 1)].end,
            None => 0,
        }
    }

    /// The text of some tokens.
    pub(crate) fn text_of(&self, tokens: std::ops::Range<usize>) -> &'a str {
        match (self.tokens.get(tokens.start), tokens.end.checked_sub(1)) {
            (Some(first), Some(last)) if last >= tokens.start && last < self.tokens.len() => {
                &self.text[first.start..self.tokens[last].end]
            }
            _ => "",
        }
    }

    /// Any identifier, keywords too where `reserved` lets them.
    fn identifier(&mut self, reserved: bool) -> Parse<String> {
        let token = self.token();
        let name = token.and_then(|token| identifier(self.text, token));
        match (token, name) {
            (Some(token), Some(name)) => {
                let keyword = token.kind == TokenKind::Word && !reserved && is_reserved(&name);
                if keyword || name.is_empty() || name.contains('\0') {
                    return refuse("a name is missing");
                }
                self.skip();
                Ok(name)
            }
            _ => refuse("a name is missing"),
        }
    }

    /// A name that a reserved word cannot be.
    pub(crate) fn name_part(&mut self) -> Parse<String> {
        self.identifier(false)
    }

    /// A name that any word can be: behind AS or a dot.
    pub(crate) fn label(&mut self) -> Parse<String> {
        self.identifier(true)
    }

    /// `a` or `a.b`
    pub(crate) fn name(&mut self) -> Parse<Name> {
        // TYPE_FUNC_NAME keywords name neither tables nor columns, but collations and types.
        let mut parts = vec![self.name_part()?];
        while self.symbol(b'.') {
            parts.push(self.label()?);
        }
        qualified(parts)
    }

    /// `(a, b)`
    pub(crate) fn column_list(&mut self) -> Parse<Vec<String>> {
        self.open()?;
        let mut columns = vec![self.name_part()?];
        while self.symbol(b',') {
            columns.push(self.name_part()?);
        }
        self.close()?;
        Ok(columns)
    }

    /// A string's value.
    pub(crate) fn string(&mut self) -> Parse<String> {
        let raw = self.raw(self.at);
        let value = match self.kind(self.at) {
            Some(TokenKind::String) => decode_string(raw, false),
            Some(TokenKind::EscapeString) => decode_string(raw, true),
            Some(TokenKind::DollarString) => Ok(dollar_body(raw).into()),
            _ => return refuse("a string is missing"),
        };
        self.skip();
        match value {
            Ok(value) => Ok(value.into_owned()),
            Err(error) => refuse(&error.to_string()),
        }
    }

    /// A type as written, words in lower case, without blanks that mean nothing.
    pub(crate) fn data_type(&mut self) -> Parse<String> {
        let start = self.at;
        self.word("setof");
        let first = self.folded(self.at);
        match first.as_str() {
            "double" => {
                self.skip();
                self.expect("precision")?;
            }
            "character" | "char" | "nchar" | "bit" => {
                self.skip();
                self.word("varying");
                self.modifier()?;
            }
            "national" => {
                self.skip();
                if !self.word("char") {
                    self.expect("character")?;
                }
                self.word("varying");
                self.modifier()?;
            }
            "time" | "timestamp" => {
                self.skip();
                self.modifier()?;
                if !self.words(&["with", "time", "zone"]) {
                    self.words(&["without", "time", "zone"]);
                }
            }
            "interval" => {
                self.skip();
                self.modifier()?;
                self.interval_fields();
            }
            _ => {
                self.name_part()?;
                while self.symbol(b'.') {
                    self.label()?;
                }
                self.modifier()?;
            }
        }
        if self.word("array") {
            self.bounds()?;
        } else {
            while self.bounds()? {}
        }
        Ok(self.normal(start))
    }

    /// `(10, 2)`: numbers and words only.
    fn modifier(&mut self) -> Parse<()> {
        if !self.is_symbol(self.at, b'(') {
            return Ok(());
        }
        let close = self.matching(self.at)?;
        for at in self.at + 1..close {
            let known = matches!(
                self.kind(at),
                Some(TokenKind::Integer | TokenKind::Word | TokenKind::Punctuation(b','))
            ) || self.operator_at(at) == Some("-");
            if !known {
                return refuse("a type's modifier is not understood");
            }
        }
        self.at = close + 1;
        Ok(())
    }

    /// `[]` or `[3]`
    fn bounds(&mut self) -> Parse<bool> {
        if !self.symbol(b'[') {
            return Ok(false);
        }
        if self.kind(self.at) == Some(TokenKind::Integer) {
            self.skip();
        }
        if self.symbol(b']') {
            Ok(true)
        } else {
            refuse("a type's bounds are not understood")
        }
    }

    /// YEAR TO MONTH, SECOND(3) … behind an interval.
    pub(crate) fn interval_fields(&mut self) -> String {
        let start = self.at;
        let unit = |reader: &mut Self| {
            ["year", "month", "day", "hour", "minute", "second"]
                .iter()
                .any(|unit| reader.word(unit))
        };
        if unit(self) && self.word("to") {
            unit(self);
        }
        if self.at > start
            && self.word_at(self.at - 1, "second")
            && self.is_symbol(self.at, b'(')
            && self.modifier().is_err()
        {
            self.at = start;
        }
        self.normal(start)
    }

    /// The passed tokens from `start` on: words in lower case, one blank between words.
    fn normal(&self, start: usize) -> String {
        let mut normal = String::new();
        let mut after_word = false;
        for at in start..self.at {
            let word = matches!(
                self.kind(at),
                Some(TokenKind::Word | TokenKind::Quoted | TokenKind::Integer)
            );
            if word && after_word {
                normal.push(' ');
            }
            match self.kind(at) {
                Some(TokenKind::Word) => normal.push_str(&self.raw(at).to_ascii_lowercase()),
                _ => normal.push_str(self.raw(at)),
            }
            after_word = word || (self.is_symbol(at, b')') && !self.is_symbol(at + 1, b'['));
        }
        normal
    }
}

/// The grammar's side: statements and queries.
impl Reader<'_> {
    fn statement(&mut self, verb: Verb) -> Parse<Statement> {
        match verb {
            Verb::Select
            | Verb::With
            | Verb::Insert
            | Verb::Update
            | Verb::Delete
            | Verb::Merge => self.data_statement(),
            Verb::Copy => self.copy(),
            Verb::Explain => self.explain(),
            Verb::Declare => self.declare(),
            Verb::Prepare => self.prepare(),
            Verb::Call => self.call_statement(),
            Verb::Lock => self.lock(),
            Verb::Truncate => self.truncate(),
            Verb::Maintenance => self.maintenance(),
            Verb::Ddl | Verb::Do => self.definition(),
            Verb::Empty
            | Verb::ExplainRoute
            | Verb::Begin
            | Verb::Commit
            | Verb::Rollback
            | Verb::Savepoint
            | Verb::Release
            | Verb::RollbackTo
            | Verb::TwoPhase
            | Verb::Set
            | Verb::Reset
            | Verb::Show
            | Verb::Discard
            | Verb::Execute
            | Verb::Deallocate
            | Verb::Fetch
            | Verb::Move
            | Verb::Close
            | Verb::Listen
            | Verb::Unlisten
            | Verb::Notify
            | Verb::Server
            | Verb::Unknown => refuse("not a statement that works on data"),
        }
    }

    /// SELECT, INSERT, UPDATE, DELETE or MERGE, with or without WITH.
    pub(crate) fn data_statement(&mut self) -> Parse<Statement> {
        self.enter()?;
        let start = self.at;
        let (with, recursive) = self.with()?;
        let statement = if self.word("insert") {
            Statement::Insert(self.insert(with, recursive)?)
        } else if self.word("update") {
            Statement::Update(self.update(with, recursive)?)
        } else if self.word("delete") {
            Statement::Delete(self.delete(with, recursive)?)
        } else if self.word("merge") {
            if recursive {
                return refuse("MERGE with WITH RECURSIVE");
            }
            Statement::Merge(self.merge(with)?)
        } else {
            Statement::Query(self.query_behind_with(start, with, recursive)?)
        };
        self.leave();
        Ok(statement)
    }

    /// A query with its WITH.
    pub(crate) fn query(&mut self) -> Parse<Query> {
        self.enter()?;
        let start = self.at;
        let (with, recursive) = self.with()?;
        let query = self.query_behind_with(start, with, recursive)?;
        self.leave();
        Ok(query)
    }

    fn with(&mut self) -> Parse<(Vec<Cte>, bool)> {
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

    /// `a, b`
    pub(crate) fn plain_names(&mut self) -> Parse<Vec<String>> {
        let mut names = vec![self.name_part()?];
        while self.symbol(b',') {
            names.push(self.name_part()?);
        }
        Ok(names)
    }

    /// Is the `(` at `at` that of a query? `((select 1))` and `((select 1) union …)` are, `((select 1) + 1)` is not.
    pub(crate) fn is_query_group(&self, at: usize) -> bool {
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

    /// `(query)`
    pub(crate) fn query_group(&mut self) -> Parse<Query> {
        let outer = std::mem::replace(&mut self.in_separates, false);
        self.open()?;
        let query = self.query()?;
        self.close()?;
        self.in_separates = outer;
        Ok(query)
    }

    fn query_behind_with(&mut self, start: usize, with: Vec<Cte>, recursive: bool) -> Parse<Query> {
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

    /// Set operations, INTERSECT binding tighter than the others.
    fn set_expression(&mut self, precedence: usize) -> Parse<Body> {
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

    /// Behind SELECT.
    fn select(&mut self) -> Parse<Select> {
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

    fn filter(&mut self) -> Parse<Option<Expr>> {
        if self.word("where") {
            self.expr().map(Some)
        } else {
            Ok(None)
        }
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
            self.enter()?;
            self.open()?;
            loop {
                self.grouping_element(keys)?;
                if !self.symbol(b',') {
                    break;
                }
            }
            self.close()?;
            self.leave();
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

    /// A select list or RETURNING's.
    fn items(&mut self) -> Parse<Vec<Item>> {
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

    fn table_references(&mut self) -> Parse<Vec<From>> {
        let mut list = Vec::new();
        loop {
            list.push(self.table_reference()?);
            if !self.symbol(b',') {
                return Ok(list);
            }
        }
    }

    /// A table with the joins behind it.
    fn table_reference(&mut self) -> Parse<From> {
        self.enter()?;
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
            left = From::Join {
                left: Box::new(left),
                right: Box::new(right),
                kind,
                on,
            };
        }
        self.leave();
        Ok(left)
    }

    /// The right side of a join whose condition comes behind it.
    fn join_operand(&mut self) -> Parse<From> {
        self.enter()?;
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
            left = From::Join {
                left: Box::new(left),
                right: Box::new(right),
                kind,
                on,
            };
        }
        self.leave();
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
    pub(crate) fn relation(&mut self) -> Parse<(Name, Span)> {
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
        let keyword = matches!(
            self.folded(self.at).as_str(),
            "current_catalog"
                | "current_date"
                | "current_role"
                | "current_schema"
                | "current_time"
                | "current_timestamp"
                | "current_user"
                | "localtime"
                | "localtimestamp"
                | "session_user"
                | "system_user"
                | "user"
        );
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
    fn alias_follows(&self) -> bool {
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

    fn returning(&mut self) -> Parse<Vec<Item>> {
        if !self.word("returning") {
            return Ok(Vec::new());
        }
        if self.is_word("with") {
            return refuse("RETURNING WITH");
        }
        self.items()
    }

    /// Behind INSERT.
    fn insert(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Insert> {
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

    /// Behind UPDATE.
    fn update(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Update> {
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
    fn delete(&mut self, with: Vec<Cte>, recursive: bool) -> Parse<Delete> {
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
    fn merge(&mut self, with: Vec<Cte>) -> Parse<Merge> {
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

/// For what is not a plain call.
fn empty_name() -> Name {
    Name {
        schema: None,
        name: String::new(),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
