//! PostgreSQL's lexical rules (src/backend/parser/scan.l), one token at a time, nothing allocated.
//!
//! `scan`, `command` and `parse` all stand on this one reading, so that they cannot disagree about where a string,
//! a comment or a statement ends.

use crate::statement::scan::{ScanError, ScanSettings};

/// What a token is. A word is a keyword or an unquoted identifier: the grammar tells them apart, not the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Word,
    /// `"…"`
    Quoted,
    /// `U&"…"`
    UnicodeQuoted,
    Integer,
    Decimal,
    /// A number with letters behind it: an error or something else, depending on PostgreSQL's version.
    NumberJunk,
    /// `$1`
    Param,
    /// `'…'`
    String,
    /// `E'…'`, or `'…'` with a backslash when standard_conforming_strings is off.
    EscapeString,
    /// `$tag$…$tag$`
    DollarString,
    /// `U&'…'`
    UnicodeString,
    /// `B'…'`, `X'…'`, `N'…'`
    BitString,
    /// An operator, `*` `+` `<` and `=` included.
    Operator,
    /// `::`
    Cast,
    /// `:=`
    Assign,
    /// `..`
    DotDot,
    /// One of `( ) [ ] , ; : .`
    Punctuation(u8),
    /// A byte that starts nothing PostgreSQL knows.
    Other,
}

/// One token: its kind and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Walks over a text.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    settings: ScanSettings,
    /// Block comments that begin with `keyway:`, passed since somebody last took them.
    pub(crate) hints: Vec<(usize, usize)>,
    /// A comment was passed.
    pub(crate) commented: bool,
}

const IDENT_START: u8 = 1;
const IDENT: u8 = 2;
const OPERATOR: u8 = 4;
const SPACE: u8 = 8;
const DIGIT: u8 = 16;

/// Byte classes. Bytes from 0x80 on are letters, as in scan.l.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0usize;
    while i < 256 {
        table[i] = match i {
            0x41..=0x5a | 0x61..=0x7a | 0x5f | 0x80..=0xff => IDENT_START | IDENT,
            0x30..=0x39 => IDENT | DIGIT,
            0x24 => IDENT,
            0x20 | 0x09..=0x0d => SPACE,
            // ~ ! @ # ^ & | ` ? + - * / % < > =
            0x7e | 0x21 | 0x40 | 0x23 | 0x5e | 0x26 | 0x7c | 0x60 | 0x3f | 0x2b | 0x2d | 0x2a
            | 0x2f | 0x25 | 0x3c | 0x3e | 0x3d => OPERATOR,
            _ => 0,
        };
        i += 1;
    }
    table
}

#[inline]
fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// May stand inside an unquoted identifier, so that something put beside it would join it.
#[inline]
pub(crate) fn is_word_byte(byte: u8) -> bool {
    is(byte, IDENT)
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, settings: ScanSettings) -> Self {
        Lexer {
            text: text.as_bytes(),
            at: 0,
            settings,
            hints: Vec::new(),
            commented: false,
        }
    }

    #[inline]
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token, or `None` at the end of the text.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Result<Option<Token>, ScanError> {
        loop {
            let Some(&byte) = self.text.get(self.at) else {
                return Ok(None);
            };
            if is(byte, SPACE) {
                self.at += 1;
                continue;
            }
            if byte == b'-' && self.peek(1) == b'-' {
                self.skip_line();
                continue;
            }
            if byte == b'/' && self.peek(1) == b'*' {
                self.skip_block()?;
                continue;
            }
            return self.token(byte).map(Some);
        }
    }

    #[inline(always)]
    fn token(&mut self, byte: u8) -> Result<Token, ScanError> {
        let start = self.at;
        let kind = if is(byte, IDENT_START) {
            match (byte, self.peek(1)) {
                (b'e' | b'E', b'\'') => {
                    self.at += 1;
                    self.string(true)?;
                    TokenKind::EscapeString
                }
                (b'b' | b'B' | b'x' | b'X', b'\'') => {
                    self.at += 1;
                    self.bit_string()?;
                    TokenKind::BitString
                }
                (b'n' | b'N', b'\'') => {
                    self.at += 1;
                    self.string(!self.settings.standard_conforming_strings)?;
                    TokenKind::BitString
                }
                (b'u' | b'U', b'&') if self.peek(2) == b'\'' => {
                    self.at += 2;
                    self.string(false)?;
                    TokenKind::UnicodeString
                }
                (b'u' | b'U', b'&') if self.peek(2) == b'"' => {
                    self.at += 2;
                    self.quoted()?;
                    TokenKind::UnicodeQuoted
                }
                _ => {
                    self.skip_word();
                    TokenKind::Word
                }
            }
        } else {
            match byte {
                b'0'..=b'9' => self.number(),
                b'.' => {
                    if is(self.peek(1), DIGIT) {
                        self.number()
                    } else if self.peek(1) == b'.' {
                        self.at += 2;
                        TokenKind::DotDot
                    } else {
                        self.at += 1;
                        TokenKind::Punctuation(b'.')
                    }
                }
                b'(' | b')' | b'[' | b']' | b',' | b';' => {
                    self.at += 1;
                    TokenKind::Punctuation(byte)
                }
                b'\'' => {
                    let escapes = !self.settings.standard_conforming_strings;
                    if self.string(escapes)? && escapes {
                        TokenKind::EscapeString
                    } else {
                        TokenKind::String
                    }
                }
                b'"' => {
                    self.quoted()?;
                    TokenKind::Quoted
                }
                b':' => match self.peek(1) {
                    b':' => {
                        self.at += 2;
                        TokenKind::Cast
                    }
                    b'=' => {
                        self.at += 2;
                        TokenKind::Assign
                    }
                    _ => {
                        self.at += 1;
                        TokenKind::Punctuation(b':')
                    }
                },
                b'$' => self.dollar()?,
                _ if is(byte, OPERATOR) => {
                    self.operator();
                    TokenKind::Operator
                }
                _ => {
                    self.at += 1;
                    TokenKind::Other
                }
            }
        };
        Ok(Token {
            kind,
            start,
            end: self.at,
        })
    }

    #[inline]
    fn skip_word(&mut self) {
        while self.at < self.text.len() && is(self.text[self.at], IDENT) {
            self.at += 1;
        }
    }

    fn skip_digits(&mut self) {
        while self.at < self.text.len() && is(self.text[self.at], DIGIT) {
            self.at += 1;
        }
    }

    #[inline]
    fn skip_line(&mut self) {
        self.commented = true;
        let rest = &self.text[self.at..];
        self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    }

    #[cold]
    fn skip_block(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            let rest = &self.text[self.at..];
            let Some(step) = memchr::memchr2(b'/', b'*', rest) else {
                return Err(ScanError::Comment);
            };
            self.at += step;
            match (self.text[self.at], self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                _ => self.at += 1,
            }
        }
        self.commented = true;
        let inside = self.text[start + 2..self.at - 2].trim_ascii_start();
        if inside.len() >= 7 && inside[..7].eq_ignore_ascii_case(b"keyway:") {
            let begin = self.at - 2 - (inside.len() - 7);
            self.hints.push((begin, self.at - 2));
        }
        Ok(())
    }

    /// A quoted string from its opening quote on; continuations (`'a'` newline `'b'`) belong to it. Says whether it
    /// holds a backslash.
    fn string(&mut self, escapes: bool) -> Result<bool, ScanError> {
        let mut backslash = false;
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let found = if escapes {
                memchr::memchr2(b'\'', b'\\', rest)
            } else {
                memchr::memchr(b'\'', rest)
            };
            let Some(step) = found else {
                return Err(ScanError::String);
            };
            self.at += step + 1;
            if rest[step] == b'\\' {
                backslash = true;
                if self.at >= self.text.len() {
                    return Err(ScanError::String);
                }
                self.at += 1;
            } else if self.peek(0) == b'\'' {
                self.at += 1;
            } else if let Some(next) = self.continuation() {
                self.at = next + 1;
            } else {
                return Ok(backslash);
            }
        }
    }

    /// Bit strings know no doubled quote.
    fn bit_string(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let step = memchr::memchr(b'\'', rest).ok_or(ScanError::String)?;
            self.at += step + 1;
            match self.continuation() {
                Some(next) => self.at = next + 1,
                None => return Ok(()),
            }
        }
    }

    /// Behind a closing quote: where the quote is that continues the string, if one does (white space with a
    /// newline in between, line comments allowed).
    #[inline]
    fn continuation(&self) -> Option<usize> {
        // Nearly every string is followed by one of these.
        if matches!(self.peek(0), b',' | b')' | b';' | 0) {
            return None;
        }
        let mut at = self.at;
        let mut newline = false;
        loop {
            match *self.text.get(at)? {
                b'\n' | b'\r' => {
                    newline = true;
                    at += 1;
                }
                b' ' | b'\t' | 0x0b | 0x0c => at += 1,
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    at += memchr::memchr2(b'\n', b'\r', &self.text[at..])?;
                }
                b'\'' if newline => return Some(at),
                _ => return None,
            }
        }
    }

    fn quoted(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let step = memchr::memchr(b'"', rest).ok_or(ScanError::Identifier)?;
            self.at += step + 1;
            if self.peek(0) != b'"' {
                return Ok(());
            }
            self.at += 1;
        }
    }

    fn number(&mut self) -> TokenKind {
        self.skip_digits();
        let mut kind = TokenKind::Integer;
        // `1..2` is 1, `..`, 2.
        if self.peek(0) == b'.' && self.peek(1) != b'.' {
            kind = TokenKind::Decimal;
            self.at += 1;
            self.skip_digits();
        }
        if matches!(self.peek(0), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
            if is(self.peek(1 + sign), DIGIT) {
                kind = TokenKind::Decimal;
                self.at += 1 + sign;
                self.skip_digits();
            }
        }
        if is(self.peek(0), IDENT_START) {
            self.skip_word();
            kind = TokenKind::NumberJunk;
        }
        kind
    }

    fn dollar(&mut self) -> Result<TokenKind, ScanError> {
        if is(self.peek(1), DIGIT) {
            self.at += 1;
            self.skip_digits();
            if is(self.peek(0), IDENT_START) {
                self.skip_word();
                return Ok(TokenKind::NumberJunk);
            }
            return Ok(TokenKind::Param);
        }
        let mut end = self.at + 1;
        while let Some(&byte) = self.text.get(end) {
            if byte == b'$' || !is(byte, IDENT) {
                break;
            }
            end += 1;
        }
        if self.text.get(end) != Some(&b'$') {
            self.at += 1;
            return Ok(TokenKind::Other);
        }
        let tag = &self.text[self.at..=end];
        let body = &self.text[end + 1..];
        let found = memchr::memmem::find(body, tag).ok_or(ScanError::Dollar)?;
        self.at = end + 1 + found + tag.len();
        Ok(TokenKind::DollarString)
    }

    fn operator(&mut self) {
        let start = self.at;
        let mut end = start + 1;
        while end < self.text.len() && is(self.text[end], OPERATOR) {
            // A comment may not hide in an operator.
            let pair = (self.text[end], self.text.get(end + 1).copied());
            if matches!(pair, (b'-', Some(b'-')) | (b'/', Some(b'*'))) {
                break;
            }
            end += 1;
        }
        // A trailing sign belongs to what follows, unless the operator holds a character that SQL's own never have.
        if end - start > 1 {
            let odd = self.text[start..end].iter().any(|byte| {
                matches!(
                    byte,
                    b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
                )
            });
            while !odd && end - start > 1 && matches!(self.text[end - 1], b'+' | b'-') {
                end -= 1;
            }
        }
        self.at = end;
    }
}

/// An identifier's name as PostgreSQL stores it: folded when unquoted, 63 bytes at most. `None` for what is not an
/// identifier, or an escaped one (`U&"…\…"`) that is not worth decoding.
pub(crate) fn identifier(text: &str, token: Token) -> Option<String> {
    let raw = &text[token.start..token.end];
    let mut name = match token.kind {
        TokenKind::Word => raw.to_ascii_lowercase(),
        TokenKind::Quoted => raw[1..raw.len() - 1].replace("\"\"", "\""),
        TokenKind::UnicodeQuoted if !raw.contains('\\') => {
            raw[3..raw.len() - 1].replace("\"\"", "\"")
        }
        _ => return None,
    };
    if name.len() > 63 {
        let mut end = 63;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    Some(name)
}

/// Words that cannot name a column, table, cursor … without quotes: PostgreSQL's RESERVED and TYPE_FUNC_NAME
/// keywords (src/include/parser/kwlist.h).
pub(crate) fn is_reserved(word: &str) -> bool {
    // Sorted, for the search.
    const RESERVED: &[&str] = &[
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "placing",
        "primary",
        "references",
        "returning",
        "right",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ];
    RESERVED.binary_search(&word).is_ok()
}
