//! One pass over a message's text: statement boundaries, verb, hints, literals, fingerprint.

use smallvec::SmallVec;
use std::ops::Range;

/// Placeholder numbers from here on stand for extracted literals in the shape text: literal `i` is
/// `$(LITERAL_BASE + i)`. PostgreSQL's own parameters end at 65535.
pub const LITERAL_BASE: u32 = 1_000_000;

/// How many literals one statement may have extracted; the rest stay in the shape.
pub const LITERALS_MAX: usize = 60_000;

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
}
