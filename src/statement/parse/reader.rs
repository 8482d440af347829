//! A place in the tokens of a statement, and what may stand there: words, symbols, operators, names, strings.

use crate::statement::lex::{Lexer, Token, TokenKind, identifier, is_reserved};
use crate::statement::parse::{DEPTH_MAX, HEIGHT_MAX, Parse, refuse};
use crate::statement::scan::{ScanSettings, decode_string, dollar_body};
use crate::statement::tree::{Name, ParseError, Span};

/// How high the trees are that stand beside the one being read.
#[derive(Clone, Copy)]
pub(super) struct Beside(usize);

/// A place in the tokens of a statement.
pub(super) struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// For each `(` or `[` the token that closes it.
    pub(super) closers: Vec<usize>,
    /// The next token.
    pub(super) at: usize,
    depth: usize,
    /// How high the tree is of what was read here, since the innermost [`Self::begin`].
    height: usize,
    /// IN separates arguments here, as in `position(a in b)`.
    pub(super) in_separates: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Parse<Self> {
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
            height: 0,
            in_separates: false,
        })
    }

    /// Goes one level deeper; everything that can nest does so. What it gives is for [`Self::leave`].
    pub(super) fn enter(&mut self) -> Parse<Beside> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return refuse("the statement nests too deep");
        }
        Ok(self.begin())
    }

    pub(super) fn leave(&mut self, beside: Beside) -> Parse<()> {
        self.depth -= 1;
        self.rise(1)?;
        self.end(beside);
        Ok(())
    }

    /// Begins a tree of its own; what it gives is for [`Self::end`].
    pub(super) fn begin(&mut self) -> Beside {
        Beside(std::mem::take(&mut self.height))
    }

    /// A tree of its own is read.
    pub(super) fn end(&mut self, beside: Beside) {
        self.height = self.height.max(beside.0);
    }

    /// Puts levels on top of what was read here. A chain of links is read in a loop, but walked and dropped link by link.
    pub(super) fn rise(&mut self, levels: usize) -> Parse<()> {
        self.height += levels;
        if self.height > HEIGHT_MAX {
            return refuse("the statement nests too deep");
        }
        Ok(())
    }

    pub(super) fn token(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    pub(super) fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    pub(super) fn raw(&self, at: usize) -> &'a str {
        self.tokens
            .get(at)
            .map_or("", |token| &self.text[token.start..token.end])
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn skip(&mut self) {
        self.at += 1;
    }

    /// An unquoted word in lower case; empty for anything else.
    pub(super) fn folded(&self, at: usize) -> String {
        match self.kind(at) {
            Some(TokenKind::Word) => self.raw(at).to_ascii_lowercase(),
            _ => String::new(),
        }
    }

    pub(super) fn word_at(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(TokenKind::Word) && self.raw(at).eq_ignore_ascii_case(word)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.word_at(self.at, word)
    }

    /// Passes `word` if it is next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    /// Passes several words if all of them are next.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .zip(self.at..)
            .all(|(word, at)| self.word_at(at, word));
        if found {
            self.at += words.len();
        }
        found
    }

    pub(super) fn expect(&mut self, word: &str) -> Parse<()> {
        if self.word(word) {
            return Ok(());
        }
        Err(ParseError {
            reason: format!("{} is missing", word.to_ascii_uppercase()),
        })
    }

    pub(super) fn is_symbol(&self, at: usize, symbol: u8) -> bool {
        self.kind(at) == Some(TokenKind::Punctuation(symbol))
    }

    pub(super) fn symbol(&mut self, symbol: u8) -> bool {
        let found = self.is_symbol(self.at, symbol);
        self.at += usize::from(found);
        found
    }

    pub(super) fn open(&mut self) -> Parse<()> {
        if self.symbol(b'(') {
            Ok(())
        } else {
            refuse("( is missing")
        }
    }

    pub(super) fn close(&mut self) -> Parse<()> {
        if self.symbol(b')') {
            Ok(())
        } else {
            refuse(") is missing, or something stands in front of it that is not understood")
        }
    }

    /// The token that closes the `(` or `[` at `at`.
    pub(super) fn matching(&self, at: usize) -> Parse<usize> {
        match self.closers.get(at) {
            Some(closer) if *closer > at => Ok(*closer),
            _ => refuse("( is missing"),
        }
    }

    pub(super) fn operator_at(&self, at: usize) -> Option<&'a str> {
        match self.kind(at) {
            Some(TokenKind::Operator) => Some(self.raw(at)),
            _ => None,
        }
    }

    pub(super) fn operator_text(&self) -> Option<&'a str> {
        self.operator_at(self.at)
    }

    /// Passes an operator if one is next.
    pub(super) fn operator(&mut self) -> Option<&'a str> {
        let text = self.operator_text()?;
        self.at += 1;
        Some(text)
    }

    /// Passes this operator if it is next.
    pub(super) fn is_operator(&mut self, operator: &str) -> bool {
        let found = self.operator_text() == Some(operator);
        self.at += usize::from(found);
        found
    }

    /// From token `start` to the last one passed, in bytes.
    pub(super) fn span(&self, start: usize) -> Span {
        let from = self
            .tokens
            .get(start)
            .map_or(self.text.len(), |token| token.start);
        from..self.end_of_last().max(from)
    }

    /// Where the last passed token ends.
    pub(super) fn end_of_last(&self) -> usize {
        match self.at.checked_sub(1) {
            Some(last) => self.tokens[last.min(self.tokens.len() - 1)].end,
            None => 0,
        }
    }

    /// The text of some tokens.
    pub(super) fn text_of(&self, tokens: std::ops::Range<usize>) -> &'a str {
        match (self.tokens.get(tokens.start), tokens.end.checked_sub(1)) {
            (Some(first), Some(last)) if last >= tokens.start && last < self.tokens.len() => {
                &self.text[first.start..self.tokens[last].end]
            }
            _ => "",
        }
    }

    /// A name that a reserved word cannot be.
    pub(super) fn name_part(&mut self) -> Parse<String> {
        self.identifier(false)
    }

    /// A name that any word can be: behind AS or a dot.
    pub(super) fn label(&mut self) -> Parse<String> {
        self.identifier(true)
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

    /// `a` or `a.b`
    pub(super) fn name(&mut self) -> Parse<Name> {
        // TYPE_FUNC_NAME keywords name neither tables nor columns, but collations and types.
        let mut parts = vec![self.name_part()?];
        while self.symbol(b'.') {
            parts.push(self.label()?);
        }
        qualified(parts)
    }

    /// `(a, b)`
    pub(super) fn column_list(&mut self) -> Parse<Vec<String>> {
        self.open()?;
        let mut columns = vec![self.name_part()?];
        while self.symbol(b',') {
            columns.push(self.name_part()?);
        }
        self.close()?;
        Ok(columns)
    }

    /// `a, b`
    pub(super) fn plain_names(&mut self) -> Parse<Vec<String>> {
        let mut names = vec![self.name_part()?];
        while self.symbol(b',') {
            names.push(self.name_part()?);
        }
        Ok(names)
    }

    /// A string's value.
    pub(super) fn string(&mut self) -> Parse<String> {
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
}

/// `a.b` as a name; a database in front is not supported.
pub(super) fn qualified(mut parts: Vec<String>) -> Parse<Name> {
    let name = parts.pop();
    let schema = parts.pop();
    match name {
        Some(name) if parts.is_empty() => Ok(Name { schema, name }),
        _ => refuse("a name of three parts"),
    }
}
