//! Expressions of the shape text. The only file that names sqlparser.
//!
//! Operands (columns, calls, CASE, subqueries, casts, parentheses …) are read here, token by token, because
//! sqlparser rejects much of what PostgreSQL has there and accepts much that it has not. What stands between them,
//! operators and their precedence, is sqlparser's: each operand is given to it as a numbered name, and comes
//! back in its place.

use crate::statement::lex::{TokenKind, is_reserved};
use crate::statement::parse::reader::{Reader, qualified};
use crate::statement::parse::{DEPTH_MAX, Parse, refuse};
use crate::statement::scan::LITERAL_BASE;
use crate::statement::tree::{Expr, FunctionCall, Name, OrderKey, ParseError};
use sqlparser::ast::{self, BinaryOperator, Ident, UnaryOperator};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Word};

/// How many operators one expression may hold between two ANDs, ORs or commas: they nest.
const OPERATORS_MAX: usize = 256;

/// How many words and prefix operators may be among them: unlike those between two operands, they are read by recursion.
const WORDS_MAX: usize = 48;

/// How deep sqlparser may recurse for one chain of operators.
const RECURSION_MAX: usize = 300;

/// Functions whose arguments may be separated by words.
const WORDY_FUNCTIONS: &[&str] = &["extract", "overlay", "position", "substring", "trim"];

/// Keywords that are functions without parentheses.
pub(super) const KEYWORD_FUNCTIONS: &[&str] = &[
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "system_user",
    "user",
];

/// Operators and operands between two ANDs or ORs.
#[derive(Default)]
struct Chain {
    tokens: Vec<Token>,
    operands: Vec<Option<Expr>>,
    operators: usize,
    /// Those among them that are words or stand before their operand.
    words: usize,
    /// BETWEENs whose AND is still to come.
    betweens: usize,
    /// A BETWEEN SYMMETRIC is among them.
    symmetric: bool,
}

impl Chain {
    fn keyword(&mut self, keyword: Keyword, text: &str) -> Parse<()> {
        self.word()?;
        self.tokens.push(Token::Word(Word {
            value: text.to_owned(),
            quote_style: None,
            keyword,
        }));
        Ok(())
    }

    fn prefix(&mut self, token: Token) -> Parse<()> {
        self.word()?;
        self.tokens.push(token);
        Ok(())
    }

    fn operator(&mut self, token: Token) -> Parse<()> {
        self.count()?;
        self.tokens.push(token);
        Ok(())
    }

    fn word(&mut self) -> Parse<()> {
        self.words += 1;
        if self.words > WORDS_MAX {
            return refuse("an expression with too many operators");
        }
        self.count()
    }

    fn count(&mut self) -> Parse<()> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return refuse("an expression with too many operators");
        }
        Ok(())
    }

    /// A stand-in: an identifier that no text from the wire can hold.
    fn operand(&mut self, expr: Expr) {
        self.tokens.push(Token::Word(Word {
            value: format!("\0{}", self.operands.len()),
            quote_style: Some('"'),
            keyword: Keyword::NoKeyword,
        }));
        self.operands.push(Some(expr));
    }

    fn finish(mut self) -> Parse<Expr> {
        if self.tokens.len() == 1
            && let Some(expr) = self.operands.pop().flatten()
        {
            return Ok(expr);
        }
        let dialect = PostgreSqlDialect {};
        let tokens = std::mem::take(&mut self.tokens);
        let mut parser = Parser::new(&dialect)
            .with_recursion_limit(RECURSION_MAX)
            .with_tokens(tokens);
        let not_understood = |_| ParseError {
            reason: "an expression is not understood".to_owned(),
        };
        let parsed = parser.parse_expr().map_err(not_understood)?;
        if parser.peek_token_ref().token != Token::EOF {
            return refuse("an expression is not understood");
        }
        let expr = self.tree(parsed)?;
        if self.operands.iter().any(Option::is_some) {
            return refuse("an expression is not understood");
        }
        Ok(expr)
    }

    fn boxed(&mut self, expr: ast::Expr) -> Parse<Box<Expr>> {
        self.tree(expr).map(Box::new)
    }

    /// The operand behind a stand-in.
    fn take(&mut self, name: &Ident) -> Parse<Expr> {
        name.value
            .strip_prefix('\0')
            .and_then(|index| index.parse::<usize>().ok())
            .and_then(|index| self.operands.get_mut(index))
            .and_then(Option::take)
            .ok_or_else(|| ParseError {
                reason: "an expression is not understood".to_owned(),
            })
    }

    /// sqlparser's tree → ours. Whatever is not named here is refused.
    fn tree(&mut self, expr: ast::Expr) -> Parse<Expr> {
        Ok(match expr {
            ast::Expr::Identifier(name) => self.take(&name)?,
            ast::Expr::BinaryOp { left, op, right } => return self.binary(*left, op, *right),
            ast::Expr::UnaryOp { op, expr } => {
                let operand = self.boxed(*expr)?;
                match op {
                    UnaryOperator::Not => Expr::Not(operand),
                    UnaryOperator::Minus => Expr::Negate(operand),
                    _ => Expr::Other(vec![*operand]),
                }
            }
            ast::Expr::IsNull(expr) => Expr::IsNull {
                expr: self.boxed(*expr)?,
                negated: false,
            },
            ast::Expr::IsNotNull(expr) => Expr::IsNull {
                expr: self.boxed(*expr)?,
                negated: true,
            },
            ast::Expr::IsTrue(expr)
            | ast::Expr::IsNotTrue(expr)
            | ast::Expr::IsFalse(expr)
            | ast::Expr::IsNotFalse(expr)
            | ast::Expr::IsUnknown(expr)
            | ast::Expr::IsNotUnknown(expr) => Expr::Other(vec![self.tree(*expr)?]),
            ast::Expr::IsDistinctFrom(left, right) => Expr::Binary {
                op: "is distinct from".to_owned(),
                left: self.boxed(*left)?,
                right: self.boxed(*right)?,
            },
            ast::Expr::IsNotDistinctFrom(left, right) => Expr::Binary {
                op: "is not distinct from".to_owned(),
                left: self.boxed(*left)?,
                right: self.boxed(*right)?,
            },
            ast::Expr::InList {
                expr,
                mut list,
                negated,
            } => {
                let left = self.boxed(*expr)?;
                let (Some(list), true) = (list.pop(), list.is_empty()) else {
                    return refuse("an IN list is not understood");
                };
                match self.tree(list)? {
                    Expr::Row(list) => Expr::In {
                        expr: left,
                        list,
                        negated,
                    },
                    Expr::Query(query) => Expr::InQuery {
                        expr: left,
                        query,
                        negated,
                    },
                    _ => return refuse("an IN list is not understood"),
                }
            }
            ast::Expr::Between {
                expr,
                negated,
                low,
                high,
            } => {
                let (expr, low, high) = (self.boxed(*expr)?, self.boxed(*low)?, self.boxed(*high)?);
                if self.symmetric {
                    Expr::Other(vec![*expr, *low, *high])
                } else {
                    Expr::Between {
                        expr,
                        low,
                        high,
                        negated,
                    }
                }
            }
            ast::Expr::Like {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            } => self.pattern(
                if negated { "not like" } else { "like" },
                *expr,
                *pattern,
                escape_char,
                any,
            )?,
            ast::Expr::ILike {
                negated,
                any,
                expr,
                pattern,
                escape_char,
            } => self.pattern(
                if negated { "not ilike" } else { "ilike" },
                *expr,
                *pattern,
                escape_char,
                any,
            )?,
            ast::Expr::SimilarTo {
                negated,
                expr,
                pattern,
                escape_char,
            } => self.pattern(
                if negated {
                    "not similar to"
                } else {
                    "similar to"
                },
                *expr,
                *pattern,
                escape_char,
                false,
            )?,
            ast::Expr::AnyOp {
                left,
                compare_op,
                right,
                is_some: _,
            } => Expr::Quantified {
                left: self.boxed(*left)?,
                op: operator_text(&compare_op)?,
                all: false,
                right: self.boxed(*right)?,
            },
            ast::Expr::AllOp {
                left,
                compare_op,
                right,
            } => Expr::Quantified {
                left: self.boxed(*left)?,
                op: operator_text(&compare_op)?,
                all: true,
                right: self.boxed(*right)?,
            },
            ast::Expr::AtTimeZone {
                timestamp,
                time_zone,
            } => {
                let timestamp = self.tree(*timestamp)?;
                let zone = self.tree(*time_zone)?;
                function("timezone", vec![zone, timestamp])
            }
            _ => return refuse("an expression is not understood"),
        })
    }

    fn pattern(
        &mut self,
        op: &str,
        expr: ast::Expr,
        pattern: ast::Expr,
        escape: Option<Box<ast::Expr>>,
        any: bool,
    ) -> Parse<Expr> {
        let left = self.boxed(expr)?;
        let right = self.boxed(pattern)?;
        let Some(escape) = escape.filter(|_| !any) else {
            return Ok(Expr::Binary {
                op: op.to_owned(),
                left,
                right,
            });
        };
        Ok(Expr::Other(vec![*left, *right, self.tree(*escape)?]))
    }

    /// A chain of left-associative operators is as deep as it is long, so its left side is walked in a loop.
    fn binary(&mut self, left: ast::Expr, op: BinaryOperator, right: ast::Expr) -> Parse<Expr> {
        let mut pending = vec![(op, right)];
        let mut deepest = left;
        while let ast::Expr::BinaryOp { left, op, right } = deepest {
            pending.push((op, *right));
            deepest = *left;
        }
        let mut expr = self.tree(deepest)?;
        while let Some((op, right)) = pending.pop() {
            let right = self.boxed(right)?;
            expr = match op {
                BinaryOperator::Overlaps => function("overlaps", vec![expr, *right]),
                op => Expr::Binary {
                    op: operator_text(&op)?,
                    left: Box::new(expr),
                    right,
                },
            };
        }
        Ok(expr)
    }
}

/// An operator as PostgreSQL spells it.
fn operator_text(op: &BinaryOperator) -> Parse<String> {
    Ok(match op {
        BinaryOperator::And
        | BinaryOperator::Or
        | BinaryOperator::Xor
        | BinaryOperator::Overlaps => {
            return refuse("an operator is not understood");
        }
        BinaryOperator::NotEq => "<>".to_owned(),
        BinaryOperator::Custom(text) => text.clone(),
        op => op.to_string(),
    })
}

fn function(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Box::new(FunctionCall {
        name: Name {
            schema: None,
            name: name.to_owned(),
        },
        args,
        star: false,
        distinct: false,
        filter: None,
        order_by: Vec::new(),
        over: None,
    }))
}

/// An operator's token, as sqlparser has it. Its own tokens where the precedence differs from that of all others.
fn operator_token(text: &str) -> Token {
    match text {
        "=" => Token::Eq,
        "<" => Token::Lt,
        ">" => Token::Gt,
        "<=" => Token::LtEq,
        ">=" => Token::GtEq,
        "<>" | "!=" => Token::Neq,
        "+" => Token::Plus,
        "-" => Token::Minus,
        "*" => Token::Mul,
        "/" => Token::Div,
        "%" => Token::Mod,
        "^" => Token::Caret,
        "~" => Token::Tilde,
        "~*" => Token::TildeAsterisk,
        "!~" => Token::ExclamationMarkTilde,
        "!~*" => Token::ExclamationMarkTildeAsterisk,
        "~~" => Token::DoubleTilde,
        "~~*" => Token::DoubleTildeAsterisk,
        "!~~" => Token::ExclamationMarkDoubleTilde,
        "!~~*" => Token::ExclamationMarkDoubleTildeAsterisk,
        other => Token::CustomBinaryOperator(other.to_owned()),
    }
}

impl Reader<'_> {
    /// An expression (gram.y's a_expr), to the first token that cannot belong to it.
    pub(super) fn expr(&mut self) -> Parse<Expr> {
        let beside = self.enter()?;
        let mut any_of: Vec<Expr> = Vec::new();
        let mut all_of: Vec<Expr> = Vec::new();
        loop {
            let (chain, next) = self.chain()?;
            match chain.finish()? {
                Expr::And(parts) => all_of.extend(parts),
                part => all_of.push(part),
            }
            if next == After::And {
                continue;
            }
            match one_or(std::mem::take(&mut all_of), Expr::And)? {
                Expr::Or(parts) => any_of.extend(parts),
                part => any_of.push(part),
            }
            if next == After::End {
                self.leave(beside)?;
                return one_or(any_of, Expr::Or);
            }
        }
    }

    pub(super) fn exprs(&mut self) -> Parse<Vec<Expr>> {
        let mut list = vec![self.expr()?];
        while self.symbol(b',') {
            list.push(self.expr()?);
        }
        Ok(list)
    }

    /// Operands and operators up to AND, OR or the expression's end.
    fn chain(&mut self) -> Parse<(Chain, After)> {
        let mut chain = Chain::default();
        let beside = self.begin();
        loop {
            self.prefix_operators(&mut chain)?;
            let operand = self.operand()?;
            chain.operand(operand);
            loop {
                match self.after_operand(&mut chain)? {
                    After::Complete => {}
                    After::Operand => break,
                    end @ (After::And | After::Or | After::End) => {
                        self.rise(chain.operators)?;
                        self.end(beside);
                        return Ok((chain, end));
                    }
                }
            }
        }
    }

    fn prefix_operators(&mut self, chain: &mut Chain) -> Parse<()> {
        loop {
            if self.word("not") {
                chain.keyword(Keyword::NOT, "NOT")?;
            } else if let Some(operator) = self.operator() {
                chain.prefix(match operator {
                    "-" => Token::Minus,
                    "+" => Token::Plus,
                    "*" | "/" | "%" | "^" | "<" | ">" | "=" | "<=" | ">=" | "<>" | "!=" => {
                        return refuse("an operator stands where a value should");
                    }
                    // All others mean the same to routing, and this one sqlparser has.
                    _ => Token::Tilde,
                })?;
            } else {
                return Ok(());
            }
        }
    }

    /// Reads what stands behind an operand.
    fn after_operand(&mut self, chain: &mut Chain) -> Parse<After> {
        if let Some(operator) = self.operator() {
            return self.quantified(chain, operator_token(operator));
        }
        if self.kind(self.at) != Some(TokenKind::Word) {
            return self.end_of_chain(chain);
        }
        if self.is_word("operator") && self.is_symbol(self.at + 1, b'(') {
            let token = self.named_operator()?;
            return self.quantified(chain, token);
        }
        if self.word("and") {
            if chain.betweens == 0 {
                return Ok(After::And);
            }
            chain.betweens -= 1;
            chain.keyword(Keyword::AND, "AND")?;
            return Ok(After::Operand);
        }
        if self.word("overlaps") {
            chain.keyword(Keyword::OVERLAPS, "OVERLAPS")?;
            return Ok(After::Operand);
        }
        if self.is_word("at") && self.word_at(self.at + 1, "time") {
            self.at += 2;
            self.expect("zone")?;
            chain.keyword(Keyword::AT, "AT")?;
            chain.keyword(Keyword::TIME, "TIME")?;
            chain.keyword(Keyword::ZONE, "ZONE")?;
            return Ok(After::Operand);
        }
        if self.word("isnull") {
            chain.keyword(Keyword::IS, "IS")?;
            chain.keyword(Keyword::NULL, "NULL")?;
            return Ok(After::Complete);
        }
        if self.word("notnull") {
            chain.keyword(Keyword::IS, "IS")?;
            chain.keyword(Keyword::NOT, "NOT")?;
            chain.keyword(Keyword::NULL, "NULL")?;
            return Ok(After::Complete);
        }
        if self.word("is") {
            return self.is_test(chain);
        }
        if self.word("escape") {
            chain.keyword(Keyword::ESCAPE, "ESCAPE")?;
            return Ok(After::Operand);
        }
        self.membership(chain)
    }

    fn end_of_chain(&mut self, chain: &Chain) -> Parse<After> {
        if chain.betweens > 0 {
            return refuse("BETWEEN without AND");
        }
        Ok(if self.word("or") {
            After::Or
        } else {
            After::End
        })
    }

    /// Behind a binary operator: an operand, or ANY, SOME or ALL with its own.
    fn quantified(&mut self, chain: &mut Chain, operator: Token) -> Parse<After> {
        let all = self.is_word("all");
        if !(all || self.is_word("any") || self.is_word("some")) {
            chain.operator(operator)?;
            return Ok(After::Operand);
        }
        self.skip();
        let operand = self.parenthesised()?;
        // sqlparser takes a quantifier behind comparisons only.
        let known = !matches!(
            operator,
            Token::CustomBinaryOperator(_)
                | Token::Plus
                | Token::Minus
                | Token::Mul
                | Token::Div
                | Token::Mod
                | Token::Caret
        );
        chain.operator(operator)?;
        if known {
            if all {
                chain.keyword(Keyword::ALL, "ALL")?;
            } else {
                chain.keyword(Keyword::ANY, "ANY")?;
            }
            chain.tokens.push(Token::LParen);
            chain.operand(operand);
            chain.tokens.push(Token::RParen);
        } else {
            chain.operand(Expr::Other(vec![operand]));
        }
        Ok(After::Complete)
    }

    /// `OPERATOR(schema.op)`; PostgreSQL gives it the precedence of "any other operator", whatever the operator.
    fn named_operator(&mut self) -> Parse<Token> {
        self.at += 2;
        let mut text = String::from("OPERATOR(");
        while self.operator_text().is_none() {
            text.push_str(&self.name_part()?);
            if !self.symbol(b'.') {
                return refuse("OPERATOR() is not understood");
            }
            text.push('.');
        }
        text.push_str(self.operator().unwrap_or(""));
        self.close()?;
        text.push(')');
        Ok(Token::CustomBinaryOperator(text))
    }

    /// `IS …`
    fn is_test(&mut self, chain: &mut Chain) -> Parse<After> {
        chain.keyword(Keyword::IS, "IS")?;
        if self.word("not") {
            chain.keyword(Keyword::NOT, "NOT")?;
        }
        if self.word("distinct") {
            self.expect("from")?;
            chain.keyword(Keyword::DISTINCT, "DISTINCT")?;
            chain.keyword(Keyword::FROM, "FROM")?;
            return Ok(After::Operand);
        }
        if self.word("null") {
            chain.keyword(Keyword::NULL, "NULL")?;
            return Ok(After::Complete);
        }
        if self.word("json") {
            if !(self.word("value") || self.word("array") || self.word("object")) {
                self.word("scalar");
            }
            if (self.is_word("with") || self.is_word("without"))
                && self.word_at(self.at + 1, "unique")
            {
                self.at += 2;
                self.word("keys");
            }
        } else if !["true", "false", "unknown", "document", "normalized"]
            .iter()
            .any(|word| self.word(word))
        {
            // IS NFC NORMALIZED
            self.name_part()?;
            self.expect("normalized")?;
        }
        chain.keyword(Keyword::UNKNOWN, "UNKNOWN")?;
        Ok(After::Complete)
    }

    /// [NOT] IN, BETWEEN, LIKE, ILIKE, SIMILAR TO, or the end.
    fn membership(&mut self, chain: &mut Chain) -> Parse<After> {
        let not = usize::from(self.is_word("not"));
        let at = self.at + not;
        let like = if self.word_at(at, "like") {
            Some((Keyword::LIKE, "LIKE"))
        } else if self.word_at(at, "ilike") {
            Some((Keyword::ILIKE, "ILIKE"))
        } else {
            None
        };
        let similar = self.word_at(at, "similar") && self.word_at(at + 1, "to");
        let between = self.word_at(at, "between");
        let within = self.word_at(at, "in") && !self.in_separates;
        if like.is_none() && !similar && !between && !within {
            return self.end_of_chain(chain);
        }
        self.at = at + 1;
        if not == 1 {
            chain.keyword(Keyword::NOT, "NOT")?;
        }
        if within {
            chain.keyword(Keyword::IN, "IN")?;
            let list = self.in_list()?;
            chain.tokens.push(Token::LParen);
            chain.operand(list);
            chain.tokens.push(Token::RParen);
            return Ok(After::Complete);
        }
        if between {
            chain.keyword(Keyword::BETWEEN, "BETWEEN")?;
            if self.word("symmetric") {
                chain.symmetric = true;
            } else {
                self.word("asymmetric");
            }
            chain.betweens += 1;
            return Ok(After::Operand);
        }
        let Some((keyword, text)) = like else {
            self.at += 1;
            chain.keyword(Keyword::SIMILAR, "SIMILAR")?;
            chain.keyword(Keyword::TO, "TO")?;
            return Ok(After::Operand);
        };
        chain.keyword(keyword, text)?;
        if self.word("any") || self.word("some") || self.word("all") {
            let operand = self.parenthesised()?;
            chain.operand(Expr::Other(vec![operand]));
            return Ok(After::Complete);
        }
        Ok(After::Operand)
    }

    /// `(query)` or `(a, b, …)` behind IN: an [`Expr::Query`] or the list as an [`Expr::Row`].
    fn in_list(&mut self) -> Parse<Expr> {
        if self.is_query_group(self.at) {
            return self.subquery();
        }
        self.open()?;
        let list = self.nested(Self::exprs)?;
        self.close()?;
        Ok(Expr::Row(list))
    }

    /// `(query)` or `(expression)`.
    fn parenthesised(&mut self) -> Parse<Expr> {
        if self.is_query_group(self.at) {
            return self.subquery();
        }
        self.open()?;
        let expr = self.nested(Self::expr)?;
        self.close()?;
        Ok(expr)
    }

    /// Reads the query group that begins here.
    fn subquery(&mut self) -> Parse<Expr> {
        let query = self.query_group()?;
        Ok(Expr::Query(Box::new(query)))
    }

    /// Inside parentheses an IN is an operator again, even in `position((a in (b)) in c)`.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        let outer = std::mem::replace(&mut self.in_separates, false);
        let result = read(self);
        self.in_separates = outer;
        result
    }

    /// One operand with its casts, subscripts and collation.
    pub(super) fn operand(&mut self) -> Parse<Expr> {
        let beside = self.begin();
        let mut expr = self.primary()?;
        loop {
            if self.kind(self.at) == Some(TokenKind::Cast) {
                self.skip();
                self.rise(1)?;
                let data_type = self.data_type()?;
                expr = Expr::Cast {
                    expr: Box::new(expr),
                    data_type,
                };
            } else if self.word("collate") {
                self.rise(1)?;
                let collation = self.name()?;
                expr = Expr::Collate {
                    expr: Box::new(expr),
                    collation,
                };
            } else {
                self.end(beside);
                return Ok(expr);
            }
        }
    }

    fn primary(&mut self) -> Parse<Expr> {
        let Some(token) = self.token() else {
            return refuse("an expression is missing");
        };
        let raw = self.raw(self.at);
        let expr = match token.kind {
            TokenKind::Param => {
                let number = raw[1..].parse::<u32>().unwrap_or(u32::MAX);
                self.skip();
                match number.checked_sub(LITERAL_BASE) {
                    Some(index) => Expr::Literal(index as usize),
                    None => Expr::Param(u16::try_from(number).map_err(|_| ParseError {
                        reason: "a parameter's number is too high".to_owned(),
                    })?),
                }
            }
            TokenKind::Integer | TokenKind::Decimal => {
                let number = raw.to_owned();
                self.skip();
                return Ok(Expr::Number(number));
            }
            TokenKind::String | TokenKind::EscapeString | TokenKind::DollarString => {
                return self.string().map(Expr::String);
            }
            TokenKind::UnicodeString => {
                self.skip();
                if self.word("uescape") {
                    self.string()?;
                }
                return Ok(Expr::Other(Vec::new()));
            }
            TokenKind::BitString => {
                self.skip();
                return Ok(Expr::Other(Vec::new()));
            }
            TokenKind::Punctuation(b'(') => {
                if self.is_query_group(self.at) {
                    self.subquery()?
                } else {
                    self.skip();
                    let mut list = self.nested(Self::exprs)?;
                    self.close()?;
                    match list.pop() {
                        Some(expr) if list.is_empty() => expr,
                        Some(last) => {
                            list.push(last);
                            Expr::Row(list)
                        }
                        None => return refuse("an expression is missing"),
                    }
                }
            }
            TokenKind::Word => return self.word_primary(),
            TokenKind::Quoted | TokenKind::UnicodeQuoted => return self.named_primary(),
            _ => return refuse("an expression is not understood"),
        };
        self.indirection(expr)
    }

    /// Subscripts, slices and fields: what they are applied to is no longer a column's own value.
    fn indirection(&mut self, expr: Expr) -> Parse<Expr> {
        let mut children = vec![expr];
        let mut subscripted = false;
        loop {
            if self.symbol(b'[') {
                subscripted = true;
                if self.symbol(b']') {
                    return refuse("a subscript is missing");
                }
                for part in 0..2 {
                    if !self.is_symbol(self.at, b':') && !self.is_symbol(self.at, b']') {
                        children.push(self.nested(Self::expr)?);
                    }
                    if part == 0 && !self.symbol(b':') {
                        break;
                    }
                }
                if !self.symbol(b']') {
                    return refuse("a subscript is not understood");
                }
            } else if self.is_symbol(self.at, b'.') {
                self.skip();
                if self.operator_text() == Some("*") {
                    return refuse("(…).* stands for columns that are not known");
                }
                let expr = Box::new(applied_to(children, subscripted)?);
                let name = self.label()?;
                // They nest, unlike subscripts.
                self.rise(1)?;
                children = vec![Expr::Field { expr, name }];
                subscripted = false;
            } else {
                return applied_to(children, subscripted);
            }
        }
    }

    /// An operand that begins with an unquoted word.
    fn word_primary(&mut self) -> Parse<Expr> {
        if let Some(typed) = self.typed_literal()? {
            return Ok(typed);
        }
        let word = self.folded(self.at);
        let called = self.is_symbol(self.at + 1, b'(');
        match word.as_str() {
            "null" => {
                self.skip();
                Ok(Expr::Null)
            }
            "true" | "false" => {
                self.skip();
                Ok(Expr::Bool(word == "true"))
            }
            "default" => {
                self.skip();
                Ok(Expr::Default)
            }
            "case" => self.case(),
            "cast" | "treat" if called => self.cast(),
            "array" => self.array(),
            "row" if called => self.row(),
            "exists" if called && self.is_query_group(self.at + 1) => {
                self.skip();
                let query = self.query_group()?;
                Ok(Expr::Exists(Box::new(query)))
            }
            _ if KEYWORD_FUNCTIONS.contains(&word.as_str())
                && !self.is_symbol(self.at + 1, b'.') =>
            {
                self.skip();
                if self.symbol(b'(') {
                    // current_timestamp(3), current_schema()
                    if !self.symbol(b')') {
                        self.expr()?;
                        self.close()?;
                    }
                }
                Ok(function(&word, Vec::new()))
            }
            _ if is_reserved(&word) && !(called && may_be_function(&word)) => {
                refuse("an expression is not understood")
            }
            _ => self.named_primary(),
        }
    }

    /// A column or a call.
    fn named_primary(&mut self) -> Parse<Expr> {
        let unquoted = self.kind(self.at) == Some(TokenKind::Word);
        let called = self.is_symbol(self.at + 1, b'(');
        let first = if called && may_be_function(&self.folded(self.at)) {
            self.label()?
        } else {
            self.name_part()?
        };
        let mut parts = vec![first];
        while self.is_symbol(self.at, b'.') {
            self.skip();
            // `t.*` as a value is t's whole row.
            if self.is_operator("*") {
                return Ok(Expr::Column {
                    qualifier: parts,
                    name: "*".to_owned(),
                });
            }
            parts.push(self.label()?);
        }
        if self.is_symbol(self.at, b'(') {
            let plain = unquoted && parts.len() == 1;
            return self.call(qualified(parts)?, plain);
        }
        let Some(name) = parts.pop() else {
            return refuse("a name is missing");
        };
        self.indirection(Expr::Column {
            qualifier: parts,
            name,
        })
    }

    /// A call's arguments and what may follow them. `plain` is a name that is neither quoted nor qualified, as
    /// the functions with grammar of their own are.
    pub(super) fn call(&mut self, name: Name, plain: bool) -> Parse<Expr> {
        let beside = self.enter()?;
        let wordy = plain && WORDY_FUNCTIONS.contains(&name.name.as_str());
        self.open()?;
        let outer = std::mem::replace(&mut self.in_separates, wordy && name.name == "position");
        let mut call = self.arguments(name, wordy)?;
        self.in_separates = outer;
        self.close()?;
        if self.word("within") {
            self.expect("group")?;
            self.open()?;
            self.expect("order")?;
            self.expect("by")?;
            let keys = self.nested(Self::order_keys)?;
            call.order_by.extend(keys.into_iter().map(|key| key.expr));
            self.close()?;
        }
        if self.is_word("filter") && self.is_symbol(self.at + 1, b'(') {
            self.at += 2;
            self.expect("where")?;
            call.filter = Some(self.nested(Self::expr)?);
            self.close()?;
        }
        if self.word("over") {
            call.over = Some(if self.is_symbol(self.at, b'(') {
                self.nested(Self::window)?
            } else {
                self.name_part()?;
                Vec::new()
            });
        }
        self.leave(beside)?;
        Ok(Expr::Function(Box::new(call)))
    }

    fn arguments(&mut self, name: Name, wordy: bool) -> Parse<FunctionCall> {
        let mut call = FunctionCall {
            name,
            args: Vec::new(),
            star: false,
            distinct: false,
            filter: None,
            order_by: Vec::new(),
            over: None,
        };
        if self.operator_text() == Some("*") && self.is_symbol(self.at + 1, b')') {
            self.skip();
            call.star = true;
            return Ok(call);
        }
        if self.is_symbol(self.at, b')') {
            return Ok(call);
        }
        if self.word("distinct") {
            call.distinct = true;
        } else {
            self.word("all");
        }
        if wordy && (self.word("both") || self.word("leading") || self.word("trailing")) {
            self.word("from");
        }
        loop {
            self.word("variadic");
            // name => value, name := value
            if matches!(
                self.kind(self.at),
                Some(TokenKind::Word | TokenKind::Quoted)
            ) && (self.operator_at(self.at + 1) == Some("=>")
                || self.kind(self.at + 1) == Some(TokenKind::Assign))
            {
                self.at += 2;
            }
            // EXTRACT's field is a keyword, not a column.
            if wordy
                && call.name.name == "extract"
                && call.args.is_empty()
                && self.kind(self.at) == Some(TokenKind::Word)
                && self.word_at(self.at + 1, "from")
            {
                let field = self.folded(self.at);
                self.skip();
                call.args.push(Expr::String(field));
            } else {
                call.args.push(self.expr()?);
            }
            if self.symbol(b',') {
                continue;
            }
            let separated = wordy
                && ["from", "for", "in", "placing", "similar", "escape"]
                    .iter()
                    .any(|word| self.word(word));
            if !separated {
                break;
            }
        }
        if self.word("order") {
            self.expect("by")?;
            let keys = self.order_keys()?;
            call.order_by = keys.into_iter().map(|key| key.expr).collect();
        }
        Ok(call)
    }

    /// A window's definition in parentheses: all its expressions.
    pub(super) fn window(&mut self) -> Parse<Vec<Expr>> {
        self.open()?;
        let mut exprs = Vec::new();
        if !["partition", "order", "range", "rows", "groups"]
            .iter()
            .any(|word| self.is_word(word))
            && !self.is_symbol(self.at, b')')
        {
            self.name_part()?;
        }
        if self.word("partition") {
            self.expect("by")?;
            exprs.extend(self.exprs()?);
        }
        if self.word("order") {
            self.expect("by")?;
            exprs.extend(self.order_keys()?.into_iter().map(|key| key.expr));
        }
        if self.word("range") || self.word("rows") || self.word("groups") {
            let between = self.word("between");
            self.frame_bound(&mut exprs)?;
            if between {
                self.expect("and")?;
                self.frame_bound(&mut exprs)?;
            }
            if self.word("exclude") {
                if self.word("current") {
                    self.expect("row")?;
                } else if self.word("no") {
                    self.expect("others")?;
                } else if !self.word("group") {
                    self.expect("ties")?;
                }
            }
        }
        self.close()?;
        Ok(exprs)
    }

    fn frame_bound(&mut self, exprs: &mut Vec<Expr>) -> Parse<()> {
        if self.is_word("current") && self.word_at(self.at + 1, "row") {
            self.at += 2;
            return Ok(());
        }
        if !self.word("unbounded") {
            exprs.push(self.expr()?);
        }
        if !self.word("preceding") {
            self.expect("following")?;
        }
        Ok(())
    }

    /// The keys of an ORDER BY, behind the BY.
    pub(super) fn order_keys(&mut self) -> Parse<Vec<OrderKey>> {
        let mut keys = Vec::new();
        loop {
            let start = self.at;
            let expr = self.expr()?;
            let span = self.span(start);
            if self.is_word("using") {
                return refuse("ORDER BY … USING");
            }
            let descending = self.word("desc");
            if !descending {
                self.word("asc");
            }
            let nulls_first = if self.word("nulls") {
                let first = self.word("first");
                if !first {
                    self.expect("last")?;
                }
                Some(first)
            } else {
                None
            };
            keys.push(OrderKey {
                expr,
                descending,
                nulls_first,
                span,
            });
            if !self.symbol(b',') {
                return Ok(keys);
            }
        }
    }

    fn case(&mut self) -> Parse<Expr> {
        let beside = self.enter()?;
        let outer = std::mem::replace(&mut self.in_separates, false);
        self.skip();
        let mut children = Vec::new();
        if !self.is_word("when") {
            children.push(self.expr()?);
        }
        while self.word("when") {
            children.push(self.expr()?);
            self.expect("then")?;
            children.push(self.expr()?);
        }
        if self.word("else") {
            children.push(self.expr()?);
        }
        self.expect("end")?;
        self.in_separates = outer;
        self.leave(beside)?;
        Ok(Expr::Case(children))
    }

    fn cast(&mut self) -> Parse<Expr> {
        self.skip();
        self.open()?;
        let expr = self.nested(Self::expr)?;
        self.expect("as")?;
        let data_type = self.data_type()?;
        self.close()?;
        Ok(Expr::Cast {
            expr: Box::new(expr),
            data_type,
        })
    }

    fn array(&mut self) -> Parse<Expr> {
        self.skip();
        if self.is_query_group(self.at) {
            return Ok(Expr::Other(vec![self.subquery()?]));
        }
        self.nested(Self::array_elements)
    }

    /// `[a, b]`, `[[a], [b]]`
    fn array_elements(&mut self) -> Parse<Expr> {
        let beside = self.enter()?;
        if !self.symbol(b'[') {
            return refuse("an ARRAY is not understood");
        }
        let mut elements = Vec::new();
        while !self.symbol(b']') {
            if !elements.is_empty() && !self.symbol(b',') {
                return refuse("an ARRAY is not understood");
            }
            elements.push(if self.is_symbol(self.at, b'[') {
                self.array_elements()?
            } else {
                self.expr()?
            });
        }
        self.leave(beside)?;
        Ok(Expr::Array(elements))
    }

    fn row(&mut self) -> Parse<Expr> {
        self.at += 2;
        let list = if self.is_symbol(self.at, b')') {
            Vec::new()
        } else {
            self.nested(Self::exprs)?
        };
        self.close()?;
        Ok(Expr::Row(list))
    }

    /// `date '…'`, `interval '1 day'`, `timestamp with time zone '…'`, `schema.type '…'`
    fn typed_literal(&mut self) -> Parse<Option<Expr>> {
        let word = self.folded(self.at);
        if is_reserved(&word) || matches!(word.as_str(), "escape" | "uescape" | "zone") {
            return Ok(None);
        }
        let start = self.at;
        let Ok(mut data_type) = self.data_type() else {
            self.at = start;
            return Ok(None);
        };
        let value = match self.kind(self.at) {
            Some(TokenKind::String | TokenKind::EscapeString | TokenKind::DollarString) => {
                Expr::String(self.string()?)
            }
            Some(TokenKind::UnicodeString | TokenKind::BitString) => self.primary()?,
            _ => {
                self.at = start;
                return Ok(None);
            }
        };
        if word == "interval" {
            let fields = self.interval_fields();
            if !fields.is_empty() {
                data_type = format!("{data_type} {fields}");
            }
        }
        Ok(Some(Expr::Cast {
            expr: Box::new(value),
            data_type,
        }))
    }
}

/// What an expression goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// An operand must follow.
    Operand,
    /// An operand is complete; an operator may follow.
    Complete,
    And,
    Or,
    End,
}

/// What subscripts make of the first of `parts`; without any, that itself.
fn applied_to(mut parts: Vec<Expr>, subscripted: bool) -> Parse<Expr> {
    if subscripted {
        return Ok(Expr::Other(parts));
    }
    parts.pop().ok_or_else(|| ParseError {
        reason: "an expression is missing".to_owned(),
    })
}

/// One part stays what it is.
fn one_or(mut parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Parse<Expr> {
    match parts.pop() {
        Some(only) if parts.is_empty() => Ok(only),
        Some(last) => {
            parts.push(last);
            Ok(join(parts))
        }
        None => refuse("an expression is missing"),
    }
}

/// Reserved words that name functions all the same (gram.y's type_function_name and func_expr).
fn may_be_function(word: &str) -> bool {
    matches!(
        word,
        "left"
            | "right"
            | "like"
            | "ilike"
            | "notnull"
            | "isnull"
            | "overlaps"
            | "collation"
            | "binary"
    )
}

const _: () = assert!(DEPTH_MAX < RECURSION_MAX);
