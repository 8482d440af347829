//! One pass over a message's text: statement boundaries, verb, hints, literals, fingerprint.

use crate::statement::lex::{Lexer, Token, TokenKind, is_word_byte};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

/// Placeholder numbers from here on stand for extracted literals in the shape text: literal `i` is
/// `$(LITERAL_BASE + i)`. PostgreSQL's own parameters end at 65535.
pub const LITERAL_BASE: u32 = 1_000_000;

/// How many literals one statement may have extracted; the rest stay in the shape.
pub const LITERALS_MAX: usize = 60_000;

/// How many statements one message may have.
pub const STATEMENTS_MAX: usize = 65_536;

/// Scanner settings that change how text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ScanSettings {
    /// `standard_conforming_strings`: off makes a backslash in `'…'` an escape.
    pub standard_conforming_strings: bool,
}

/// The first keyword(s) of a statement, as far as the session must tell them apart without a parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Nothing but white space and comments.
    Empty,
    /// SELECT, VALUES, TABLE, or a parenthesis that opens one.
    Select,
    /// WITH …
    With,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// MERGE
    Merge,
    /// COPY
    Copy,
    /// EXPLAIN
    Explain,
    /// `EXPLAIN (ROUTE …)`
    ExplainRoute,
    /// BEGIN, START TRANSACTION
    Begin,
    /// COMMIT, END
    Commit,
    /// ROLLBACK, ABORT (not TO, not PREPARED)
    Rollback,
    /// SAVEPOINT
    Savepoint,
    /// RELEASE
    Release,
    /// ROLLBACK TO
    RollbackTo,
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED
    TwoPhase,
    /// SET (incl. SET TRANSACTION, SET ROLE, SET CONSTRAINTS, SET SESSION AUTHORIZATION)
    Set,
    /// RESET
    Reset,
    /// SHOW
    Show,
    /// DISCARD
    Discard,
    /// PREPARE name
    Prepare,
    /// EXECUTE name
    Execute,
    /// DEALLOCATE
    Deallocate,
    /// DECLARE cursor
    Declare,
    /// FETCH
    Fetch,
    /// MOVE
    Move,
    /// CLOSE
    Close,
    /// LISTEN
    Listen,
    /// UNLISTEN
    Unlisten,
    /// NOTIFY
    Notify,
    /// LOCK
    Lock,
    /// TRUNCATE
    Truncate,
    /// VACUUM, ANALYZE, REINDEX, CLUSTER
    Maintenance,
    /// CHECKPOINT, LOAD, ALTER SYSTEM: acts on a server, not on data
    Server,
    /// CALL
    Call,
    /// DO
    Do,
    /// CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT, REASSIGN, REFRESH, IMPORT, SECURITY
    Ddl,
    /// Anything else
    Unknown,
}

impl Verb {
    /// Statements about rows that say nothing about the session.
    #[must_use]
    pub fn is_plain(self) -> bool {
        matches!(
            self,
            Self::Select | Self::With | Self::Insert | Self::Update | Self::Delete | Self::Merge
        )
    }
}

/// What an extracted literal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiteralKind {
    /// Digits only.
    Integer,
    /// With a point or an exponent.
    Decimal,
    /// `'…'`
    String,
    /// `E'…'`, or `'…'` with escapes when standard_conforming_strings is off.
    EscapeString,
    /// `$tag$…$tag$`
    DollarString,
}

/// A literal that was taken out of the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    /// First byte in the message's text (quotes and prefix included).
    pub start: u32,
    /// One behind the last byte.
    pub end: u32,
    /// Its kind.
    pub kind: LiteralKind,
}

/// A hint in a `/* keyway: … */` comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// `key=42`, `key='a b'`: the value's text.
    pub key: Option<String>,
    /// `shard=s1`.
    pub shard: Option<String>,
    /// `cache=off`.
    pub cache: Option<String>,
    /// `ttl=5s`: how old a kept answer may be.
    pub ttl: Option<String>,
    /// Parts that are not understood, to be refused by name.
    pub unknown: Vec<String>,
}

/// One statement of a message.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// The statement in the message's text, without the `;` and without surrounding white space and comments at
    /// its end; leading comments are left out too.
    pub range: Range<usize>,
    /// What it is.
    pub verb: Verb,
    /// xxh3-128 of the shape: tokens outside literals and comments, white space folded. Equal fingerprints mean
    /// equal shape texts (up to white space and comments).
    pub fingerprint: u128,
    /// The literals, in order of appearance.
    pub literals: SmallVec<[Literal; 8]>,
    /// The highest `$n`.
    pub params: u16,
    /// Hints, boxed because they are rare.
    pub hints: Option<Box<Hints>>,
    /// A string literal in it says now, today, tomorrow, yesterday, … (any case): its value depends on when it is
    /// parsed, so the statement's prepared form is not shared.
    pub time_words: bool,
    /// There may be comments in it: there are some in the message as far as it goes.
    pub commented: bool,
    /// How the text was read; [`shape()`] must read it the same way.
    pub settings: ScanSettings,
}

/// The text is not lexically whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// `'…` without an end. PostgreSQL says the same.
    #[error("unterminated quoted string")]
    String,
    /// `"…` without an end.
    #[error("unterminated quoted identifier")]
    Identifier,
    /// `/* …` without an end.
    #[error("unterminated /* comment")]
    Comment,
    /// `$tag$…` without an end.
    #[error("unterminated dollar-quoted string")]
    Dollar,
    /// More than [`STATEMENTS_MAX`].
    #[error("more than {STATEMENTS_MAX} statements in one message")]
    Statements,
    /// `$n` beyond what the protocol can bind.
    #[error("there is no parameter with so high a number")]
    Parameter,
    /// `E'\xff'`, `E'\0'`, `E'\u12'`: does not decode to text.
    #[error("invalid escape in a string")]
    Escape,
}

/// Reads a message's text: its statements in order. A text without any gives one [`Verb::Empty`].
///
/// # Errors
/// When a quote or a comment has no end, or a parameter's number cannot be.
pub fn scan(text: &str, settings: ScanSettings) -> Result<SmallVec<[Scanned; 1]>, ScanError> {
    // A token puts three bytes at most into the fingerprint's input for each of its own.
    match text.len() {
        0..=170 => read_all(text, settings, &mut [0; 3 * 170]),
        171..=680 => read_all(text, settings, &mut [0; 3 * 680]),
        length => read_all(text, settings, &mut vec![0; 3 * length]),
    }
}

#[inline]
fn read_all(
    text: &str,
    settings: ScanSettings,
    buffer: &mut [u8],
) -> Result<SmallVec<[Scanned; 1]>, ScanError> {
    let mut statements = SmallVec::new();
    let mut lexer = Lexer::new(text, settings);
    let mut reader = Reader::new(text.as_bytes(), buffer);
    while let Some(token) = lexer.next()? {
        if token.kind == TokenKind::Punctuation(b';') && reader.may_end() {
            if let Some(statement) = reader.finish(text, settings, &mut lexer) {
                if statements.len() == STATEMENTS_MAX {
                    return Err(ScanError::Statements);
                }
                statements.push(statement);
                reader.clear();
            }
        } else {
            reader.read(token)?;
        }
    }
    if let Some(statement) = reader.finish(text, settings, &mut lexer) {
        statements.push(statement);
    }
    if statements.is_empty() {
        statements.push(Scanned {
            range: text.len()..text.len(),
            verb: Verb::Empty,
            fingerprint: xxhash_rust::xxh3::xxh3_128(&[]),
            literals: SmallVec::new(),
            params: 0,
            hints: None,
            time_words: false,
            commented: false,
            settings,
        });
    }
    Ok(statements)
}

/// Where the first statement's first word is: behind white space, comments and empty statements.
#[must_use]
pub fn beginning(text: &str) -> usize {
    let standard = ScanSettings {
        standard_conforming_strings: true,
    };
    let mut lexer = Lexer::new(text, standard);
    while let Ok(Some(token)) = lexer.next() {
        if token.kind != TokenKind::Punctuation(b';') {
            return token.start;
        }
    }
    text.len()
}

/// The statement's text with literal `i` replaced by `$(LITERAL_BASE + i)`. Strings that stay are written so that
/// they mean the same whatever standard_conforming_strings is.
#[must_use]
pub fn shape(text: &str, statement: &Scanned) -> String {
    let shape = without_literals(text, statement);
    if statement.settings.standard_conforming_strings || !shape.contains('\\') {
        shape
    } else {
        with_escape_strings(&shape, statement.settings)
    }
}

/// `'\n'` → `E'\n'`, `N'\n'` → `bpchar E'\n'`
#[cold]
fn with_escape_strings(shape: &str, settings: ScanSettings) -> String {
    let mut standard = String::with_capacity(shape.len() + 8);
    let mut lexer = Lexer::new(shape, settings);
    let mut at = 0;
    while let Ok(Some(token)) = lexer.next() {
        let raw = &shape[token.start..token.end];
        if !raw.contains('\\') {
            continue;
        }
        let (prefix, skipped) = match (token.kind, raw.as_bytes()[0]) {
            (TokenKind::EscapeString, b'\'') => ("E", 0),
            (TokenKind::BitString, b'n' | b'N') => ("bpchar E", 1),
            _ => continue,
        };
        standard.push_str(&shape[at..token.start]);
        if standard.bytes().last().is_some_and(is_word_byte) {
            standard.push(' ');
        }
        standard.push_str(prefix);
        at = token.start + skipped;
    }
    standard.push_str(&shape[at..]);
    standard
}

fn without_literals(text: &str, statement: &Scanned) -> String {
    let mut shape = String::with_capacity(statement.range.len() + 4 * statement.literals.len());
    let mut at = statement.range.start;
    for (literal, number) in statement.literals.iter().zip(LITERAL_BASE..) {
        let (start, end) = (literal.start as usize, literal.end as usize);
        shape.push_str(&text[at..start]);
        // `IN'x'AND` is whole without blanks, `IN$1000000AND` is not.
        if shape.bytes().last().is_some_and(is_word_byte) {
            shape.push(' ');
        }
        shape.push('$');
        shape.push_str(&number.to_string());
        if end < statement.range.end && is_word_byte(text.as_bytes()[end]) {
            shape.push(' ');
        }
        at = end;
    }
    shape.push_str(&text[at..statement.range.end]);
    shape
}

/// A statement's own text with one blank for each run of comments and white space that has a comment in it, else as it is. Two
/// statements of the same outcome mean the same.
#[must_use]
pub fn without_comments<'t>(text: &'t str, statement: &Scanned) -> Cow<'t, str> {
    let own = &text[statement.range.clone()];
    if !statement.commented {
        return Cow::Borrowed(own);
    }
    let mut lexer = Lexer::new(own, statement.settings);
    let mut kept = String::with_capacity(own.len());
    let mut end = 0;
    while let Ok(Some(token)) = lexer.next() {
        let between = &own[end..token.start];
        let commented = between.contains("/*") || between.contains("--");
        // A comment may hold two strings of a row apart, or together: a new line between them counts.
        kept.push_str(match commented {
            true if between.contains(['\n', '\r']) => "\n",
            true => " ",
            false => between,
        });
        kept.push_str(&own[token.start..token.end]);
        end = token.end;
    }
    Cow::Owned(kept)
}

/// Puts the literals' own text back for every placeholder of `shape`, which may have been rewritten since
/// [`shape()`] made it. `text` is the message that `statement` was read from.
#[must_use]
pub fn restore(shape: &str, text: &str, statement: &Scanned) -> String {
    let mut restored = String::with_capacity(shape.len());
    let standard = ScanSettings {
        standard_conforming_strings: true,
    };
    let mut lexer = Lexer::new(shape, standard);
    let mut at = 0;
    while let Ok(Some(token)) = lexer.next() {
        if token.kind != TokenKind::Param {
            continue;
        }
        let literal = shape[token.start + 1..token.end]
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(LITERAL_BASE as usize))
            .and_then(|index| statement.literals.get(index));
        if let Some(literal) = literal {
            restored.push_str(&shape[at..token.start]);
            restored.push_str(&text[literal.start as usize..literal.end as usize]);
            at = token.end;
        }
    }
    restored.push_str(&shape[at..]);
    restored
}

/// The literal's value: quotes removed, escapes decoded. A number is its own text.
///
/// # Errors
/// When an escape does not decode.
pub fn literal_text<'a>(
    text: &'a str,
    literal: &Literal,
    _settings: ScanSettings,
) -> Result<Cow<'a, str>, ScanError> {
    let raw = &text[literal.start as usize..literal.end as usize];
    match literal.kind {
        LiteralKind::Integer | LiteralKind::Decimal => Ok(Cow::Borrowed(raw)),
        LiteralKind::String => decode_string(raw, false),
        LiteralKind::EscapeString => decode_string(raw, true),
        LiteralKind::DollarString => Ok(Cow::Borrowed(dollar_body(raw))),
    }
}

/// What stands between the tags of a dollar-quoted string.
pub(crate) fn dollar_body(raw: &str) -> &str {
    let tag = raw[1..].find('$').map_or(raw.len(), |at| at + 2);
    raw.get(tag..raw.len().saturating_sub(tag)).unwrap_or("")
}

/// Decodes `'…'`, with or without a prefix letter, and its continuations.
pub(crate) fn decode_string(raw: &str, escapes: bool) -> Result<Cow<'_, str>, ScanError> {
    let open = raw.find('\'').ok_or(ScanError::String)?;
    let body = &raw[open + 1..];
    let plain = body.strip_suffix('\'').ok_or(ScanError::String)?;
    if !plain.contains(['\'', '\\']) || (!escapes && !plain.contains('\'')) {
        return Ok(Cow::Borrowed(plain));
    }
    let bytes = body.as_bytes();
    let mut decoded: Vec<u8> = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => {
                decoded.push(b'\'');
                at += 2;
            }
            b'\'' => {
                // The end, or a continuation: its opening quote is the first one behind the line comments.
                at += 1;
                while at < bytes.len() && bytes[at] != b'\'' {
                    if bytes[at] == b'-' {
                        at +=
                            memchr::memchr2(b'\n', b'\r', &bytes[at..]).ok_or(ScanError::String)?;
                    }
                    at += 1;
                }
                at += 1;
            }
            b'\\' if escapes => at = unescape(bytes, at + 1, &mut decoded)?,
            byte => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded)
        .map(Cow::Owned)
        .map_err(|_| ScanError::Escape)
}

/// Decodes what stands behind a backslash at `at`; gives where the text goes on.
fn unescape(bytes: &[u8], at: usize, decoded: &mut Vec<u8>) -> Result<usize, ScanError> {
    let digits = |from: usize, most: usize, radix: u32| {
        let digit = |byte: &u8| char::from(*byte).to_digit(radix);
        let mut value = 0u32;
        let mut count = 0;
        while let Some(digit) = bytes
            .get(from + count)
            .and_then(digit)
            .filter(|_| count < most)
        {
            value = value.wrapping_mul(radix).wrapping_add(digit);
            count += 1;
        }
        (value, count)
    };
    let byte = *bytes.get(at).ok_or(ScanError::String)?;
    let (plain, next) = match byte {
        b'b' => (8, at + 1),
        b'f' => (12, at + 1),
        b'n' => (b'\n', at + 1),
        b'r' => (b'\r', at + 1),
        b't' => (b'\t', at + 1),
        b'v' => (11, at + 1),
        b'0'..=b'7' => {
            let (value, count) = digits(at, 3, 8);
            (u8::try_from(value & 0xff).unwrap_or(0), at + count)
        }
        b'x' => match digits(at + 1, 2, 16) {
            (_, 0) => (b'x', at + 1),
            (value, count) => (u8::try_from(value).unwrap_or(0), at + 1 + count),
        },
        b'u' | b'U' => return unescape_unicode(bytes, at, decoded),
        other => (other, at + 1),
    };
    if plain == 0 {
        return Err(ScanError::Escape);
    }
    decoded.push(plain);
    Ok(next)
}

fn unescape_unicode(bytes: &[u8], at: usize, decoded: &mut Vec<u8>) -> Result<usize, ScanError> {
    let unit = |at: usize| -> Result<(u32, usize), ScanError> {
        let width = match bytes.get(at) {
            Some(b'u') => 4,
            Some(b'U') => 8,
            _ => return Err(ScanError::Escape),
        };
        let digits = bytes.get(at + 1..at + 1 + width).ok_or(ScanError::Escape)?;
        let text = std::str::from_utf8(digits).map_err(|_| ScanError::Escape)?;
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ScanError::Escape);
        }
        let value = u32::from_str_radix(text, 16).map_err(|_| ScanError::Escape)?;
        Ok((value, at + 1 + width))
    };
    let (mut value, mut next) = unit(at)?;
    if (0xd800..0xdc00).contains(&value) {
        if bytes.get(next) != Some(&b'\\') {
            return Err(ScanError::Escape);
        }
        let (low, behind) = unit(next + 1)?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(ScanError::Escape);
        }
        value = 0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00);
        next = behind;
    }
    let character = char::from_u32(value)
        .filter(|c| *c != '\0')
        .ok_or(ScanError::Escape)?;
    decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(next)
}

/// Does a string say now, today, tomorrow or yesterday as a word of its own? PostgreSQL's date input takes words
/// apart at anything that is not a letter.
pub(crate) fn says_time(content: &[u8]) -> bool {
    let mut at = 0;
    while at < content.len() {
        if !content[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let start = at;
        while at < content.len() && content[at].is_ascii_alphabetic() {
            at += 1;
        }
        let word = &content[start..at];
        let hit = match word.len() {
            3 => word.eq_ignore_ascii_case(b"now"),
            5 => word.eq_ignore_ascii_case(b"today"),
            8 => word.eq_ignore_ascii_case(b"tomorrow"),
            9 => word.eq_ignore_ascii_case(b"yesterday"),
            _ => false,
        };
        if hit {
            return true;
        }
    }
    false
}

/// Words that mean something to the reader below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyword {
    /// An identifier, or a keyword that changes nothing.
    None,
    /// A value may follow it.
    Opener,
    /// DISTINCT: a value may follow, `ON (` behind it is a list of keys.
    Distinct,
    /// ON: a value may follow.
    On,
    /// SELECT, VALUES: begins a query, a value may follow; in parentheses it makes them a subquery's.
    Select,
    /// WITH, INSERT, TABLE …: the same, but no value may follow.
    Query,
    /// ORDER, GROUP, PARTITION
    OrderLike,
    /// BY
    By,
    /// Ends an ORDER BY or GROUP BY list; a value may follow (LIMIT, OFFSET, HAVING, RETURNING, WHERE).
    EndsListOpener,
    /// Ends an ORDER BY or GROUP BY list.
    EndsList,
    /// ARRAY
    Array,
    /// AS
    As,
    /// FOR
    For,
    /// BEGIN
    Begin,
    /// CASE, where a value may follow.
    Case,
    /// A type that cannot be a function: parentheses behind it hold its modifier.
    Type,
    /// END
    End,
}

#[inline]
fn keyword(word: &[u8]) -> Keyword {
    match word.len() {
        2 => match word {
            b"by" => Keyword::By,
            b"as" => Keyword::As,
            b"on" => Keyword::On,
            b"or" | b"in" => Keyword::Opener,
            _ => Keyword::None,
        },
        3 => match word {
            b"and" | b"not" | b"all" | b"any" => Keyword::Opener,
            b"for" => Keyword::For,
            b"end" => Keyword::End,
            b"bit" | b"dec" => Keyword::Type,
            _ => Keyword::None,
        },
        4 => match word {
            b"from" | b"when" | b"then" | b"else" | b"like" | b"join" | b"some" => Keyword::Opener,
            b"case" => Keyword::Case,
            b"with" => Keyword::Query,
            b"char" | b"time" => Keyword::Type,
            _ => Keyword::None,
        },
        5 => match word {
            b"where" | b"limit" => Keyword::EndsListOpener,
            b"order" | b"group" => Keyword::OrderLike,
            b"table" | b"merge" => Keyword::Query,
            b"ilike" | b"using" => Keyword::Opener,
            b"array" => Keyword::Array,
            b"union" | b"fetch" => Keyword::EndsList,
            b"begin" => Keyword::Begin,
            b"nchar" | b"float" => Keyword::Type,
            _ => Keyword::None,
        },
        6 => match word {
            b"select" | b"values" => Keyword::Select,
            b"insert" | b"update" | b"delete" => Keyword::Query,
            b"offset" | b"having" => Keyword::EndsListOpener,
            b"except" | b"window" => Keyword::EndsList,
            b"exists" | b"filter" => Keyword::Opener,
            _ => Keyword::None,
        },
        7 => match word {
            b"between" | b"lateral" => Keyword::Opener,
            b"numeric" | b"decimal" | b"varchar" => Keyword::Type,
            _ => Keyword::None,
        },
        8 => match word {
            b"distinct" => Keyword::Distinct,
            b"interval" => Keyword::Type,
            _ => Keyword::None,
        },
        9 => match word {
            b"returning" => Keyword::EndsListOpener,
            b"partition" => Keyword::OrderLike,
            b"intersect" => Keyword::EndsList,
            b"symmetric" => Keyword::Opener,
            b"timestamp" | b"character" => Keyword::Type,
            _ => Keyword::None,
        },
        _ => Keyword::None,
    }
}

/// What a parenthesis, a bracket or the statement itself allows inside.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Literals here may be taken out.
    extract: bool,
    /// Inside an ORDER BY, GROUP BY or PARTITION BY list, where they may not.
    by_list: bool,
}

/// When a statement's literals may be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Not known yet: EXPLAIN before its statement, PREPARE before AS, DECLARE before FOR.
    Awaited,
    /// Now.
    Here,
    /// Never.
    Kept,
}

/// A buffer that is large enough, and how much of it is used.
struct Bytes<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl Bytes<'_> {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.buffer[self.length] = byte;
        self.length += 1;
    }

    #[inline]
    fn extend(&mut self, bytes: &[u8]) {
        self.buffer[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// As `extend`, in lower case. Words are short, so a plain loop beats a call.
    #[inline]
    fn extend_folded(&mut self, bytes: &[u8]) {
        let place = &mut self.buffer[self.length..self.length + bytes.len()];
        for (place, byte) in place.iter_mut().zip(bytes) {
            *place = byte.to_ascii_lowercase();
        }
        self.length += bytes.len();
    }

    #[inline]
    fn from(&self, start: usize) -> &[u8] {
        &self.buffer[start..self.length]
    }
}

/// Reads the tokens of one statement.
struct Reader<'a> {
    text: &'a [u8],
    /// The fingerprint's input: each token behind a zero byte. Every token delimits itself, so that two different
    /// lists of tokens never give the same bytes.
    shape: Bytes<'a>,
    literals: SmallVec<[Literal; 8]>,
    /// The statement itself, then one for each open parenthesis or bracket.
    levels: SmallVec<[Level; 16]>,
    start: usize,
    /// One behind the last token; 0 as long as there is none.
    end: usize,
    verb: Verb,
    body: Body,
    /// The last word, when the last token was one and meant something.
    previous: Keyword,
    before: Before,
    /// A value may stand next.
    opener: bool,
    /// A `(` next would open a call's arguments.
    call: bool,
    params: u16,
    time_words: bool,
    /// How many words have been read, up to [`WORDS`].
    words: usize,
    first_words: [Range<usize>; WORDS],
    /// CREATE FUNCTION or PROCEDURE, whose body may hold semicolons: how deep in BEGIN ATOMIC and CASE we are.
    routine: Option<usize>,
}

/// As many of a statement's first words tell its verb.
const WORDS: usize = 4;

/// What the last token was, as far as it changes how a word is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing yet, or only opening parentheses.
    Start,
    /// `(`
    Open,
    /// A dot, or an AS: a keyword behind it is a name.
    Name,
    /// Anything else.
    Other,
}

impl<'a> Reader<'a> {
    #[inline]
    fn new(text: &'a [u8], buffer: &'a mut [u8]) -> Self {
        let mut levels = SmallVec::new();
        levels.push(Level {
            extract: false,
            by_list: false,
        });
        Reader {
            text,
            shape: Bytes { buffer, length: 0 },
            literals: SmallVec::new(),
            levels,
            start: 0,
            end: 0,
            verb: Verb::Empty,
            body: Body::Awaited,
            previous: Keyword::None,
            before: Before::Start,
            opener: false,
            call: false,
            params: 0,
            time_words: false,
            words: 0,
            first_words: [0..0, 0..0, 0..0, 0..0],
            routine: None,
        }
    }

    /// May a `;` end the statement here?
    fn may_end(&self) -> bool {
        self.levels.len() == 1 && self.routine.is_none_or(|depth| depth == 0)
    }

    #[inline]
    fn finish(
        &mut self,
        text: &'a str,
        settings: ScanSettings,
        lexer: &mut Lexer<'_>,
    ) -> Option<Scanned> {
        if self.end == 0 {
            lexer.hints.clear();
            return None;
        }
        let hints = if lexer.hints.is_empty() {
            None
        } else {
            Some(Box::new(read_hints(text, lexer)))
        };
        Some(Scanned {
            range: self.start..self.end,
            verb: self.verb,
            fingerprint: xxhash_rust::xxh3::xxh3_128(self.shape.from(0)),
            literals: std::mem::take(&mut self.literals),
            params: self.params,
            hints,
            time_words: self.time_words,
            commented: lexer.commented,
            settings,
        })
    }

    /// Makes ready for the next statement.
    fn clear(&mut self) {
        self.shape.length = 0;
        self.levels.truncate(1);
        self.levels[0] = Level {
            extract: false,
            by_list: false,
        };
        self.end = 0;
        self.verb = Verb::Empty;
        self.body = Body::Awaited;
        self.previous = Keyword::None;
        self.before = Before::Start;
        self.opener = false;
        self.call = false;
        self.params = 0;
        self.time_words = false;
        self.words = 0;
        self.routine = None;
    }

    #[inline(always)]
    fn read(&mut self, token: Token) -> Result<(), ScanError> {
        if self.end == 0 {
            self.start = token.start;
        }
        self.end = token.end;
        let text = self.text;
        let raw = &text[token.start..token.end];
        self.shape.push(0);
        match token.kind {
            TokenKind::Word => {
                let from = self.shape.length;
                self.shape.extend_folded(raw);
                self.word(from);
                return Ok(());
            }
            TokenKind::Quoted | TokenKind::UnicodeQuoted => {
                self.shape.extend(raw);
                self.start_with_no_word();
                self.call = if self.before == Before::Name {
                    self.call
                } else {
                    self.opener
                };
                self.opener = false;
                self.before = Before::Other;
                self.previous = Keyword::None;
                return Ok(());
            }
            TokenKind::Integer => self.literal(token, LiteralKind::Integer),
            TokenKind::Decimal => self.literal(token, LiteralKind::Decimal),
            TokenKind::String => {
                self.look_for_time(&raw[1..]);
                // A continued string hides a word as well as an escape does.
                self.time_words |= memchr::memchr(b'\n', raw).is_some() && hidden_time(raw, false);
                self.literal(token, LiteralKind::String);
            }
            TokenKind::EscapeString => {
                // What an escape hides may be a time word.
                self.time_words |=
                    memchr::memchr2(b'\\', b'\n', raw).is_some() && hidden_time(raw, true);
                self.look_for_time(raw);
                self.literal(token, LiteralKind::EscapeString);
            }
            TokenKind::DollarString => {
                self.look_for_time(raw);
                self.literal(token, LiteralKind::DollarString);
            }
            TokenKind::UnicodeString => {
                self.time_words = true;
                self.shape.extend(raw);
                self.value();
            }
            TokenKind::BitString => {
                self.look_for_time(&raw[1..]);
                self.time_words |= memchr::memchr2(b'\\', b'\n', raw).is_some();
                self.shape.extend(raw);
                self.value();
            }
            TokenKind::NumberJunk => {
                self.shape.extend(raw);
                self.value();
            }
            TokenKind::Param => {
                let digits = std::str::from_utf8(&raw[1..]).unwrap_or("");
                let number: u16 = digits.parse().map_err(|_| ScanError::Parameter)?;
                self.params = self.params.max(number);
                self.shape.extend(raw);
                self.value();
            }
            TokenKind::Operator | TokenKind::Assign => {
                self.shape.extend(raw);
                self.value();
                self.opener = true;
            }
            TokenKind::Cast | TokenKind::DotDot => {
                self.shape.extend(raw);
                self.value();
            }
            TokenKind::Punctuation(byte) => {
                self.shape.push(byte);
                self.punctuation(byte);
                return Ok(());
            }
            TokenKind::Other => {
                self.shape.push(6);
                self.shape.extend(raw);
                self.value();
            }
        }
        Ok(())
    }

    /// A statement that does not begin with a word is none that we know.
    fn start_with_no_word(&mut self) {
        if self.words == 0 {
            self.words = WORDS;
            self.verb = Verb::Unknown;
            self.body = Body::Kept;
        }
    }

    /// Behind something that is neither a word nor a parenthesis.
    #[inline(always)]
    fn value(&mut self) {
        self.start_with_no_word();
        self.opener = false;
        self.call = false;
        self.before = Before::Other;
        self.previous = Keyword::None;
    }

    #[inline]
    fn look_for_time(&mut self, content: &[u8]) {
        self.time_words = self.time_words || says_time(content);
    }

    /// Takes a literal out of the shape where that is allowed.
    #[inline(always)]
    fn literal(&mut self, token: Token, kind: LiteralKind) {
        let level = self.level();
        let place = (u32::try_from(token.start), u32::try_from(token.end));
        match place {
            (Ok(start), Ok(end))
                if self.opener
                    && level.extract
                    && !level.by_list
                    && self.literals.len() < LITERALS_MAX =>
            {
                self.shape.push(match kind {
                    LiteralKind::Integer => 1,
                    LiteralKind::Decimal => 2,
                    LiteralKind::String => 3,
                    LiteralKind::EscapeString => 4,
                    LiteralKind::DollarString => 5,
                });
                self.literals.push(Literal { start, end, kind });
            }
            _ => self.shape.extend(&self.text[token.start..token.end]),
        }
        self.value();
    }

    #[inline]
    fn level(&self) -> Level {
        self.levels[self.levels.len() - 1]
    }

    #[inline]
    fn level_mut(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    #[inline(always)]
    fn punctuation(&mut self, byte: u8) {
        let level = self.level();
        let inherited = level.extract && !level.by_list;
        match byte {
            b'(' => {
                self.levels.push(Level {
                    extract: inherited && (self.opener || self.call),
                    by_list: false,
                });
                self.opener = true;
                self.call = false;
                self.previous = Keyword::None;
                // A statement may begin with parentheses, EXPLAIN's options too.
                if self.before != Before::Start {
                    self.before = Before::Open;
                }
            }
            b'[' => {
                let array = self.previous == Keyword::Array || self.opener;
                self.value();
                self.levels.push(Level {
                    extract: inherited && array,
                    by_list: false,
                });
                self.opener = true;
            }
            b')' | b']' => {
                if self.levels.len() > 1 {
                    self.levels.pop();
                }
                self.value();
            }
            b',' => {
                self.value();
                self.opener = true;
            }
            b'.' => {
                let call = self.call;
                self.value();
                self.call = call;
                self.before = Before::Name;
            }
            _ => self.value(),
        }
    }

    /// A word, whose folded text is the shape from `from` on.
    #[inline(always)]
    fn word(&mut self, from: usize) {
        let keyword = if self.before == Before::Name {
            Keyword::None
        } else {
            keyword(self.shape.from(from))
        };
        if self.words < WORDS {
            self.first_words[self.words] = from..self.shape.length;
            self.words += 1;
            self.read_verb();
        }
        if self.body == Body::Awaited {
            self.await_body(from, keyword);
        }
        if let Some(depth) = self.routine {
            self.routine = Some(self.body_depth(from, keyword, depth));
        }
        let after_name = self.before == Before::Name;
        let open = matches!(self.before, Before::Open | Before::Start);
        let call = if after_name { self.call } else { self.opener };
        self.before = Before::Other;
        self.opener = false;
        self.call = false;
        match keyword {
            Keyword::None => self.call = call,
            Keyword::Array => self.call = call,
            Keyword::Opener | Keyword::Distinct | Keyword::Case => self.opener = true,
            // DISTINCT ON (keys)
            Keyword::On => self.opener = self.previous != Keyword::Distinct,
            Keyword::Select | Keyword::Query => {
                self.opener = keyword == Keyword::Select;
                if open {
                    self.level_mut().extract = self.body == Body::Here;
                }
            }
            Keyword::By => {
                if self.previous == Keyword::OrderLike {
                    self.level_mut().by_list = true;
                }
            }
            Keyword::EndsListOpener => {
                self.opener = true;
                self.level_mut().by_list = false;
            }
            Keyword::EndsList | Keyword::For => self.level_mut().by_list = false,
            Keyword::As => {
                if self.verb != Verb::Prepare {
                    self.before = Before::Name;
                }
            }
            Keyword::OrderLike | Keyword::Begin | Keyword::End | Keyword::Type => {}
        }
        self.previous = keyword;
    }

    /// Does this word begin the statement inside EXPLAIN, PREPARE or DECLARE?
    fn await_body(&mut self, from: usize, keyword: Keyword) {
        let at_root = self.levels.len() == 1;
        let here = match self.verb {
            Verb::Explain | Verb::ExplainRoute => match keyword {
                Keyword::Select | Keyword::Query => true,
                _ => match self.shape.from(from) {
                    b"create" | b"execute" | b"declare" | b"refresh" if at_root => {
                        self.body = Body::Kept;
                        return;
                    }
                    b"route" if self.levels.len() == 2 && self.opener => {
                        self.verb = Verb::ExplainRoute;
                        return;
                    }
                    _ => return,
                },
            },
            Verb::Prepare => at_root && keyword == Keyword::As,
            Verb::Declare => at_root && keyword == Keyword::For,
            _ => false,
        };
        if here {
            self.body = Body::Here;
            self.levels[0].extract = true;
        }
    }

    /// Follows BEGIN ATOMIC … END, in which CASE … END nests.
    fn body_depth(&self, from: usize, keyword: Keyword, depth: usize) -> usize {
        match keyword {
            Keyword::Case if depth > 0 => depth + 1,
            Keyword::End => depth.saturating_sub(1),
            _ if depth == 0
                && self.previous == Keyword::Begin
                && self.shape.from(from) == b"atomic" =>
            {
                1
            }
            _ => depth,
        }
    }

    /// The verb, as far as the words read so far tell it.
    fn read_verb(&mut self) {
        let word = |index: usize| &self.shape.buffer[self.first_words[index].clone()];
        let last = word(self.words - 1);
        if self.words > 1 {
            match (self.verb, self.words, last) {
                (Verb::Commit | Verb::Rollback, 2, b"prepared") => self.verb = Verb::TwoPhase,
                (Verb::Prepare, 2, b"transaction") => self.verb = Verb::TwoPhase,
                (Verb::TwoPhase, 3, b"as") if word(0) == b"prepare" => self.verb = Verb::Prepare,
                (Verb::Rollback, 2 | 3, b"to") => self.verb = Verb::RollbackTo,
                (Verb::Ddl, 2, b"system") if word(0) == b"alter" => self.verb = Verb::Server,
                (Verb::Ddl, _, b"function" | b"procedure") if word(0) == b"create" => {
                    self.routine = Some(0);
                }
                _ => {}
            }
            return;
        }
        let (verb, body) = first_word(last, self.levels.len() > 1);
        self.verb = verb;
        self.body = body;
        for level in &mut self.levels {
            level.extract = body == Body::Here;
        }
    }
}

/// The verb a first word gives, and where its literals begin to be extracted.
fn first_word(word: &[u8], in_parentheses: bool) -> (Verb, Body) {
    let verb = match word {
        b"select" | b"values" | b"table" => Verb::Select,
        b"with" if in_parentheses => Verb::Select,
        // Parentheses open queries only.
        _ if in_parentheses => Verb::Unknown,
        b"with" => Verb::With,
        b"insert" => Verb::Insert,
        b"update" => Verb::Update,
        b"delete" => Verb::Delete,
        b"merge" => Verb::Merge,
        b"explain" => return (Verb::Explain, Body::Awaited),
        b"prepare" => return (Verb::Prepare, Body::Awaited),
        b"declare" => return (Verb::Declare, Body::Awaited),
        b"begin" | b"start" => return (Verb::Begin, Body::Kept),
        b"commit" | b"end" => return (Verb::Commit, Body::Kept),
        b"rollback" | b"abort" => return (Verb::Rollback, Body::Kept),
        b"savepoint" => return (Verb::Savepoint, Body::Kept),
        b"release" => return (Verb::Release, Body::Kept),
        b"copy" => return (Verb::Copy, Body::Kept),
        b"set" => return (Verb::Set, Body::Kept),
        b"reset" => return (Verb::Reset, Body::Kept),
        b"show" => return (Verb::Show, Body::Kept),
        b"discard" => return (Verb::Discard, Body::Kept),
        b"execute" => return (Verb::Execute, Body::Kept),
        b"deallocate" => return (Verb::Deallocate, Body::Kept),
        b"fetch" => return (Verb::Fetch, Body::Kept),
        b"move" => return (Verb::Move, Body::Kept),
        b"close" => return (Verb::Close, Body::Kept),
        b"listen" => return (Verb::Listen, Body::Kept),
        b"unlisten" => return (Verb::Unlisten, Body::Kept),
        b"notify" => return (Verb::Notify, Body::Kept),
        b"lock" => return (Verb::Lock, Body::Kept),
        b"truncate" => return (Verb::Truncate, Body::Kept),
        b"vacuum" | b"analyze" | b"analyse" | b"reindex" | b"cluster" => {
            return (Verb::Maintenance, Body::Kept);
        }
        b"checkpoint" | b"load" => return (Verb::Server, Body::Kept),
        b"call" => return (Verb::Call, Body::Kept),
        b"do" => return (Verb::Do, Body::Kept),
        b"create" | b"alter" | b"drop" | b"grant" | b"revoke" | b"comment" | b"reassign"
        | b"refresh" | b"import" | b"security" => return (Verb::Ddl, Body::Kept),
        _ => Verb::Unknown,
    };
    let body = if verb == Verb::Unknown {
        Body::Kept
    } else {
        Body::Here
    };
    (verb, body)
}

/// Looks for a time word in a string's value. One that cannot be decoded counts as one that says it.
#[cold]
fn hidden_time(raw: &[u8], escapes: bool) -> bool {
    std::str::from_utf8(raw)
        .ok()
        .and_then(|raw| decode_string(raw, escapes).ok())
        .is_none_or(|content| says_time(content.as_bytes()))
}

/// How many parts of a hint that are not understood are kept.
const UNKNOWN_MAX: usize = 8;

#[cold]
fn read_hints(text: &str, lexer: &mut Lexer<'_>) -> Hints {
    let mut hints = Hints::default();
    for (start, end) in lexer.hints.drain(..) {
        let mut rest = text.get(start..end).unwrap_or("");
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            if rest.is_empty() {
                break;
            }
            let (name, value, behind) = hint_item(rest);
            let place = match name.trim().to_ascii_lowercase().as_str() {
                "key" => Some(&mut hints.key),
                "shard" => Some(&mut hints.shard),
                "cache" => Some(&mut hints.cache),
                "ttl" => Some(&mut hints.ttl),
                _ => None,
            };
            match (place, value) {
                (Some(place @ None), Some(value)) => *place = Some(value),
                (Some(Some(same)), Some(value)) if *same == value => {}
                _ if hints.unknown.len() < UNKNOWN_MAX => {
                    let item = rest[..rest.len() - behind.len()].trim();
                    hints.unknown.push(item.chars().take(64).collect());
                }
                _ => {}
            }
            rest = behind;
        }
    }
    hints
}

/// One `name=value`: the name, the value when there is a whole one, and what stands behind.
fn hint_item(rest: &str) -> (&str, Option<String>, &str) {
    let ends = |c: char| c.is_whitespace() || c == ',';
    let name_end = rest.find(|c| ends(c) || c == '=').unwrap_or(rest.len());
    let (name, behind) = rest.split_at(name_end);
    let Some(value) = behind.trim_start().strip_prefix('=') else {
        return (name, None, behind);
    };
    let value = value.trim_start();
    let Some(quoted) = value.strip_prefix('\'') else {
        let (bare, behind) = value.split_at(value.find(ends).unwrap_or(value.len()));
        let whole = !bare.is_empty() && !bare.contains('\'');
        return (name, whole.then(|| bare.to_owned()), behind);
    };
    let mut content = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if character != '\'' {
            content.push(character);
        } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
            content.push('\'');
        } else {
            let behind = &quoted[at + 1..];
            let whole = behind.is_empty() || behind.starts_with(ends);
            return (name, whole.then_some(content), behind);
        }
    }
    (name, None, "")
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
