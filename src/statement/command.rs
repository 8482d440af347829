//! Session statements (SET, BEGIN, FETCH, …), read without a SQL parser.
//!
//! Each is read whole by PostgreSQL's grammar (src/backend/parser/gram.y). What does not fit is an error, and the
//! session lets a server say so in its own words.

use crate::statement::lex::{Lexer, Token, TokenKind, identifier, is_reserved};
use crate::statement::scan::{ScanSettings, Verb, decode_string, dollar_body};
use smallvec::SmallVec;
use std::ops::Range;

/// A session statement. Ranges are byte ranges in the text that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// BEGIN, START TRANSACTION.
    Begin(TransactionModes),
    /// COMMIT, END.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE SAVEPOINT.
    Release(String),
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo(String),
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.
    TwoPhase,
    /// SET of a setting, whatever its spelling (`SET TIME ZONE` sets `timezone`, `SET ROLE` sets `role` …).
    Set {
        /// SESSION (also when not said) or LOCAL.
        scope: Scope,
        /// The setting, in lower case.
        name: String,
        /// Its value.
        value: SetValue,
    },
    /// SET [LOCAL | SESSION] TRANSACTION modes.
    SetTransaction(TransactionModes),
    /// SET TRANSACTION SNAPSHOT.
    SetSnapshot,
    /// SET SESSION CHARACTERISTICS AS TRANSACTION modes.
    SetCharacteristics(TransactionModes),
    /// SET CONSTRAINTS.
    SetConstraints {
        /// DEFERRED rather than IMMEDIATE.
        deferred: bool,
    },
    /// RESET; `None` for ALL.
    Reset(Option<String>),
    /// SHOW; `None` for ALL.
    Show(Option<String>),
    /// DISCARD.
    Discard(Discard),
    /// PREPARE name [(types)] AS statement.
    Prepare {
        /// The name.
        name: String,
        /// The parameter types as written.
        types: Vec<String>,
        /// Where the statement is.
        body: Range<usize>,
    },
    /// EXECUTE name [(arguments)].
    Execute {
        /// The name.
        name: String,
        /// Where each argument's expression is.
        args: Vec<Range<usize>>,
    },
    /// DEALLOCATE; `None` for ALL.
    Deallocate(Option<String>),
    /// DECLARE name CURSOR FOR query.
    Declare(Declare),
    /// FETCH.
    Fetch {
        /// Which rows.
        direction: Direction,
        /// From which cursor.
        cursor: String,
    },
    /// MOVE.
    Move {
        /// Over which rows.
        direction: Direction,
        /// In which cursor.
        cursor: String,
    },
    /// CLOSE; `None` for ALL.
    Close(Option<String>),
    /// LISTEN.
    Listen(String),
    /// UNLISTEN; `None` for `*`.
    Unlisten(Option<String>),
    /// NOTIFY.
    Notify {
        /// The channel.
        channel: String,
        /// The payload, decoded; empty when there is none.
        payload: String,
    },
    /// SELECT keyway.cache_flush(…): of one table, or all.
    CacheFlush(Option<String>),
    /// EXPLAIN (ROUTE) statement.
    ExplainRoute {
        /// Where the statement is.
        statement: Range<usize>,
        /// FORMAT JSON.
        json: bool,
    },
}

/// The modes a transaction begins with; `None` where the text says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY or READ WRITE.
    pub read_only: Option<bool>,
    /// DEFERRABLE or NOT DEFERRABLE.
    pub deferrable: Option<bool>,
}

/// Isolation levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// READ UNCOMMITTED, which PostgreSQL runs as READ COMMITTED.
    ReadUncommitted,
    /// READ COMMITTED
    ReadCommitted,
    /// REPEATABLE READ
    RepeatableRead,
    /// SERIALIZABLE
    Serializable,
}

/// How long a SET lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Until the session ends, unless its transaction rolls back.
    Session,
    /// Until the transaction ends.
    Local,
}

/// What a setting is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// DEFAULT, and `SET TIME ZONE LOCAL`.
    Default,
    /// One value or a list of them.
    Values(Vec<SetWord>),
    /// `SET TIME ZONE INTERVAL '…'`: the text from INTERVAL on. Only SET TIME ZONE takes it.
    Interval(String),
    /// FROM CURRENT: changes nothing.
    Current,
}

/// One value of a SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetWord {
    /// As written.
    pub raw: String,
    /// What it means: unquoted, decoded, folded when it was a bare word.
    pub text: String,
}

/// What DISCARD drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// ALL
    All,
    /// PLANS
    Plans,
    /// SEQUENCES
    Sequences,
    /// TEMP
    Temp,
}

/// DECLARE … CURSOR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declare {
    /// The cursor's name.
    pub name: String,
    /// BINARY.
    pub binary: bool,
    /// SCROLL or NO SCROLL.
    pub scroll: Option<bool>,
    /// WITH HOLD.
    pub hold: bool,
    /// Where the query is.
    pub query: Range<usize>,
}

/// Which rows FETCH and MOVE mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The next `n`: NEXT, `n`, FORWARD [n]. A negative `n` goes backward, 0 reads the current row again.
    Forward(i32),
    /// ALL, FORWARD ALL.
    ForwardAll,
    /// The `n` before: PRIOR, BACKWARD [n].
    Backward(i32),
    /// BACKWARD ALL.
    BackwardAll,
    /// Row `n`, counted from the end when negative: FIRST, LAST, ABSOLUTE n.
    Absolute(i32),
    /// The row `n` away.
    Relative(i32),
}

/// The text is not the statement its first words promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in a session statement")]
pub struct CommandError;

/// Reads one session statement: the text of one statement, as `scan` cut it out.
///
/// # Errors
/// When PostgreSQL would find a syntax error in it, or `verb` is none of a session statement.
pub fn command(text: &str, verb: Verb, settings: ScanSettings) -> Result<Command, CommandError> {
    let mut tokens = SmallVec::new();
    let mut lexer = Lexer::new(text, settings);
    while let Some(token) = lexer.next().map_err(|_| CommandError)? {
        tokens.push(token);
    }
    let mut words = Words {
        text,
        tokens,
        at: 1,
    };
    let command = words.command(verb)?;
    words.end()?;
    Ok(command)
}

type Read<T> = Result<T, CommandError>;

/// The tokens of the statement, the first word passed.
struct Words<'a> {
    text: &'a str,
    tokens: SmallVec<[Token; 32]>,
    at: usize,
}

impl Words<'_> {
    fn command(&mut self, verb: Verb) -> Read<Command> {
        Ok(match verb {
            Verb::Begin => {
                if self.first_is("start") {
                    self.expect("transaction")?;
                } else {
                    self.work();
                }
                Command::Begin(self.modes(false)?)
            }
            Verb::Commit => Command::Commit {
                chain: self.chain()?,
            },
            Verb::Rollback => Command::Rollback {
                chain: self.chain()?,
            },
            Verb::Savepoint => Command::Savepoint(self.name()?),
            Verb::Release => {
                self.savepoint_word();
                Command::Release(self.name()?)
            }
            Verb::RollbackTo => {
                self.work();
                self.expect("to")?;
                self.savepoint_word();
                Command::RollbackTo(self.name()?)
            }
            Verb::TwoPhase => {
                self.at += 1;
                self.string()?;
                Command::TwoPhase
            }
            Verb::Set => self.set()?,
            Verb::Reset => Command::Reset(self.setting_or_all()?),
            Verb::Show => Command::Show(self.setting_or_all()?),
            Verb::Discard => Command::Discard(self.discard()?),
            Verb::Prepare => self.prepare()?,
            Verb::Execute => self.execute()?,
            Verb::Deallocate => {
                // `DEALLOCATE prepare` names a statement so.
                if self.peek_is("prepare") && self.at + 1 < self.tokens.len() {
                    self.at += 1;
                }
                Command::Deallocate(self.name_or_all()?)
            }
            Verb::Declare => self.declare()?,
            Verb::Fetch => {
                let (direction, cursor) = self.fetch()?;
                Command::Fetch { direction, cursor }
            }
            Verb::Move => {
                let (direction, cursor) = self.fetch()?;
                Command::Move { direction, cursor }
            }
            Verb::Close => Command::Close(self.name_or_all()?),
            Verb::Listen => Command::Listen(self.name()?),
            Verb::Unlisten => {
                if self.symbol("*") {
                    Command::Unlisten(None)
                } else {
                    Command::Unlisten(Some(self.name()?))
                }
            }
            Verb::Notify => {
                let channel = self.name()?;
                let payload = if self.symbol(",") {
                    self.string()?
                } else {
                    String::new()
                };
                Command::Notify { channel, payload }
            }
            Verb::ExplainRoute => self.explain_route()?,
            Verb::Empty
            | Verb::Select
            | Verb::With
            | Verb::Insert
            | Verb::Update
            | Verb::Delete
            | Verb::Merge
            | Verb::Copy
            | Verb::Explain
            | Verb::Lock
            | Verb::Truncate
            | Verb::Maintenance
            | Verb::Server
            | Verb::Call
            | Verb::Do
            | Verb::Ddl
            | Verb::Unknown => return Err(CommandError),
        })
    }

    fn raw(&self, at: usize) -> &str {
        self.tokens
            .get(at)
            .map_or("", |token| &self.text[token.start..token.end])
    }

    fn first_is(&self, word: &str) -> bool {
        self.raw(0).eq_ignore_ascii_case(word)
    }

    fn word_at(&self, at: usize, word: &str) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.kind == TokenKind::Word)
            && self.raw(at).eq_ignore_ascii_case(word)
    }

    fn peek_is(&self, word: &str) -> bool {
        self.word_at(self.at, word)
    }

    /// Passes `word` if it is next.
    fn word(&mut self, word: &str) -> bool {
        let found = self.peek_is(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Read<()> {
        if self.word(word) {
            Ok(())
        } else {
            Err(CommandError)
        }
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.raw(self.at) == symbol;
        self.at += usize::from(found);
        found
    }

    fn end(&self) -> Read<()> {
        if self.at == self.tokens.len() {
            Ok(())
        } else {
            Err(CommandError)
        }
    }

    fn next(&mut self) -> Read<Token> {
        let token = self.tokens.get(self.at).copied().ok_or(CommandError)?;
        self.at += 1;
        Ok(token)
    }

    fn name(&mut self) -> Read<String> {
        let token = self.next()?;
        let name = identifier(self.text, token).ok_or(CommandError)?;
        if name.is_empty() || (token.kind == TokenKind::Word && is_reserved(&name)) {
            return Err(CommandError);
        }
        Ok(name)
    }

    fn name_or_all(&mut self) -> Read<Option<String>> {
        if self.word("all") {
            Ok(None)
        } else {
            self.name().map(Some)
        }
    }

    fn string(&mut self) -> Read<String> {
        let token = self.next()?;
        self.decode(token)
    }

    fn decode(&self, token: Token) -> Read<String> {
        let raw = &self.text[token.start..token.end];
        match token.kind {
            TokenKind::String => decode_string(raw, false),
            TokenKind::EscapeString => decode_string(raw, true),
            TokenKind::DollarString => Ok(dollar_body(raw).into()),
            _ => return Err(CommandError),
        }
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| CommandError)
    }

    fn work(&mut self) {
        if !self.word("work") {
            self.word("transaction");
        }
    }

    /// `SAVEPOINT` before a savepoint's name, unless it is the name.
    fn savepoint_word(&mut self) {
        if self.peek_is("savepoint") && self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn chain(&mut self) -> Read<bool> {
        self.work();
        if !self.word("and") {
            return Ok(false);
        }
        let no = self.word("no");
        self.expect("chain")?;
        Ok(!no)
    }

    /// Transaction modes to the end of the statement.
    fn modes(&mut self, needed: bool) -> Read<TransactionModes> {
        let mut modes = TransactionModes::default();
        let mut first = true;
        while self.at < self.tokens.len() {
            if !first {
                self.symbol(",");
            }
            if self.word("isolation") {
                self.expect("level")?;
                modes.isolation = Some(self.isolation()?);
            } else if self.word("read") {
                let only = self.word("only");
                if !only {
                    self.expect("write")?;
                }
                modes.read_only = Some(only);
            } else if self.word("not") {
                self.expect("deferrable")?;
                modes.deferrable = Some(false);
            } else {
                self.expect("deferrable")?;
                modes.deferrable = Some(true);
            }
            first = false;
        }
        if needed && first {
            return Err(CommandError);
        }
        Ok(modes)
    }

    fn isolation(&mut self) -> Read<Isolation> {
        if self.word("serializable") {
            Ok(Isolation::Serializable)
        } else if self.word("repeatable") {
            self.expect("read")?;
            Ok(Isolation::RepeatableRead)
        } else {
            self.expect("read")?;
            if self.word("committed") {
                Ok(Isolation::ReadCommitted)
            } else {
                self.expect("uncommitted")?;
                Ok(Isolation::ReadUncommitted)
            }
        }
    }

    fn set(&mut self) -> Read<Command> {
        if self.peek_is("constraints") && !self.raw(self.at + 1).starts_with(['=', '.']) {
            self.at += 1;
            return self.set_constraints();
        }
        if self.peek_is("session") && self.word_at(self.at + 1, "characteristics") {
            self.at += 2;
            self.expect("as")?;
            self.expect("transaction")?;
            return Ok(Command::SetCharacteristics(self.modes(true)?));
        }
        let scope = if self.word("local") {
            Scope::Local
        } else {
            // SET SESSION AUTHORIZATION has no scope, SET SESSION SESSION AUTHORIZATION has one.
            if self.peek_is("session") && !self.word_at(self.at + 1, "authorization") {
                self.at += 1;
            }
            Scope::Session
        };
        if self.word("transaction") {
            if self.word("snapshot") {
                self.string()?;
                return Ok(Command::SetSnapshot);
            }
            return Ok(Command::SetTransaction(self.modes(true)?));
        }
        let (name, value) = self.assignment()?;
        Ok(Command::Set { scope, name, value })
    }

    fn set_constraints(&mut self) -> Read<Command> {
        if !self.word("all") {
            loop {
                self.name()?;
                while self.symbol(".") {
                    self.next()?;
                }
                if !self.symbol(",") {
                    break;
                }
            }
        }
        let deferred = self.word("deferred");
        if !deferred {
            self.expect("immediate")?;
        }
        Ok(Command::SetConstraints { deferred })
    }

    fn assignment(&mut self) -> Read<(String, SetValue)> {
        let special = |at: &Self, first, second| at.peek_is(first) && at.word_at(at.at + 1, second);
        let followed_by_string = self
            .tokens
            .get(self.at + 1)
            .is_some_and(|token| self.decode(*token).is_ok());
        let equals = matches!(self.raw(self.at + 1), "=" | ".")
            || self.word_at(self.at + 1, "to")
            || self.word_at(self.at + 1, "from");
        if special(self, "time", "zone") {
            self.at += 2;
            return Ok(("timezone".to_owned(), self.time_zone()?));
        }
        if special(self, "session", "authorization") {
            self.at += 2;
            return Ok(("session_authorization".to_owned(), self.role()?));
        }
        if special(self, "xml", "option") {
            self.at += 2;
            let word = self.next()?;
            let value = self.set_word(word)?;
            if !matches!(value.text.as_str(), "document" | "content") {
                return Err(CommandError);
            }
            return Ok(("xmloption".to_owned(), SetValue::Values(vec![value])));
        }
        if self.peek_is("role") && !equals {
            self.at += 1;
            let role = self.role()?;
            return Ok(("role".to_owned(), role));
        }
        if self.peek_is("schema") && followed_by_string {
            self.at += 1;
            let value = self.next()?;
            let value = self.set_word(value)?;
            return Ok(("search_path".to_owned(), SetValue::Values(vec![value])));
        }
        if self.peek_is("names") && !equals {
            self.at += 1;
            let value = if self.at == self.tokens.len() || self.word("default") {
                SetValue::Default
            } else {
                let token = self.next()?;
                self.decode(token)?;
                SetValue::Values(vec![self.set_word(token)?])
            };
            return Ok(("client_encoding".to_owned(), value));
        }
        let name = self.setting()?;
        if self.word("from") {
            self.expect("current")?;
            return Ok((name, SetValue::Current));
        }
        if !self.symbol("=") {
            self.expect("to")?;
        }
        if self.word("default") {
            return Ok((name, SetValue::Default));
        }
        let mut values = Vec::new();
        loop {
            let token = self.next()?;
            values.push(self.set_word(token)?);
            if !self.symbol(",") {
                return Ok((name, SetValue::Values(values)));
            }
        }
    }

    /// A setting's name: `a` or `a.b`, in lower case, as PostgreSQL compares them.
    fn setting(&mut self) -> Read<String> {
        let mut name = self.name()?;
        while self.symbol(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        name.make_ascii_lowercase();
        Ok(name)
    }

    fn setting_or_all(&mut self) -> Read<Option<String>> {
        let pair = |words: &Self, first, second| {
            words.peek_is(first) && words.word_at(words.at + 1, second)
        };
        if self.word("all") {
            return Ok(None);
        }
        if pair(self, "time", "zone") {
            self.at += 2;
            return Ok(Some("timezone".to_owned()));
        }
        if pair(self, "session", "authorization") {
            self.at += 2;
            return Ok(Some("session_authorization".to_owned()));
        }
        if pair(self, "transaction", "isolation") {
            self.at += 2;
            self.expect("level")?;
            return Ok(Some("transaction_isolation".to_owned()));
        }
        self.setting().map(Some)
    }

    /// The value that begins with `token`: a word, a string, a number with its sign.
    fn set_word(&mut self, token: Token) -> Read<SetWord> {
        let raw = &self.text[token.start..token.end];
        let text = match token.kind {
            TokenKind::Word => {
                let word = raw.to_ascii_lowercase();
                if is_reserved(&word) && !matches!(word.as_str(), "true" | "false" | "on") {
                    return Err(CommandError);
                }
                identifier(self.text, token).ok_or(CommandError)?
            }
            TokenKind::Quoted | TokenKind::UnicodeQuoted => {
                identifier(self.text, token).ok_or(CommandError)?
            }
            TokenKind::Integer | TokenKind::Decimal => raw.to_owned(),
            TokenKind::Operator if matches!(raw, "-" | "+") => {
                let sign = if raw == "-" { "-" } else { "" };
                let start = token.start;
                let number = self.next()?;
                if !matches!(number.kind, TokenKind::Integer | TokenKind::Decimal) {
                    return Err(CommandError);
                }
                return Ok(SetWord {
                    raw: self.text[start..number.end].to_owned(),
                    text: format!("{sign}{}", &self.text[number.start..number.end]),
                });
            }
            _ => self.decode(token)?,
        };
        Ok(SetWord {
            raw: raw.to_owned(),
            text,
        })
    }

    fn role(&mut self) -> Read<SetValue> {
        if self.word("default") {
            return Ok(SetValue::Default);
        }
        let token = self.next()?;
        if matches!(token.kind, TokenKind::Word)
            && is_reserved(&self.raw(self.at - 1).to_ascii_lowercase())
        {
            return Err(CommandError);
        }
        if matches!(
            token.kind,
            TokenKind::Integer | TokenKind::Decimal | TokenKind::Operator
        ) {
            return Err(CommandError);
        }
        Ok(SetValue::Values(vec![self.set_word(token)?]))
    }

    fn time_zone(&mut self) -> Read<SetValue> {
        if self.word("default") || self.word("local") {
            return Ok(SetValue::Default);
        }
        if self.peek_is("interval") {
            let start = self.next()?.start;
            if self.symbol("(") {
                self.count()?;
                if !self.symbol(")") {
                    return Err(CommandError);
                }
            }
            self.string()?;
            while self.at < self.tokens.len() {
                let unit = ["hour", "minute", "to"];
                if !unit.iter().any(|word| self.peek_is(word)) {
                    return Err(CommandError);
                }
                self.at += 1;
            }
            let end = self.tokens[self.at - 1].end;
            return Ok(SetValue::Interval(self.text[start..end].to_owned()));
        }
        let token = self.next()?;
        Ok(SetValue::Values(vec![self.set_word(token)?]))
    }

    fn discard(&mut self) -> Read<Discard> {
        let word = self.next()?;
        match self.text[word.start..word.end]
            .to_ascii_lowercase()
            .as_str()
        {
            "all" => Ok(Discard::All),
            "plans" => Ok(Discard::Plans),
            "sequences" => Ok(Discard::Sequences),
            "temp" | "temporary" => Ok(Discard::Temp),
            _ => Err(CommandError),
        }
    }

    /// From the next token to the end of the text, which must hold something.
    fn rest(&mut self) -> Read<Range<usize>> {
        let start = self.next()?.start;
        let end = self.tokens[self.tokens.len() - 1].end;
        self.at = self.tokens.len();
        Ok(start..end)
    }

    /// A list in parentheses, split at its own commas. None may be empty.
    fn list(&mut self) -> Read<Vec<Range<usize>>> {
        let mut parts = Vec::new();
        let mut depth = 0usize;
        let mut part: Option<Range<usize>> = None;
        loop {
            let token = self.next()?;
            match token.kind {
                TokenKind::Punctuation(b')') if depth == 0 => {
                    parts.push(part.ok_or(CommandError)?);
                    return Ok(parts);
                }
                TokenKind::Punctuation(b',') if depth == 0 => {
                    parts.push(part.take().ok_or(CommandError)?);
                    continue;
                }
                TokenKind::Punctuation(b'(' | b'[') => depth += 1,
                TokenKind::Punctuation(b')' | b']') => {
                    depth = depth.checked_sub(1).ok_or(CommandError)?;
                }
                _ => {}
            }
            let start = part.map_or(token.start, |part| part.start);
            part = Some(start..token.end);
        }
    }

    fn prepare(&mut self) -> Read<Command> {
        let name = self.name()?;
        let types = if self.symbol("(") {
            let types = self.list()?;
            types
                .into_iter()
                .map(|part| self.text[part].to_owned())
                .collect()
        } else {
            Vec::new()
        };
        self.expect("as")?;
        let body = self.rest()?;
        Ok(Command::Prepare { name, types, body })
    }

    fn execute(&mut self) -> Read<Command> {
        let name = self.name()?;
        let args = if self.symbol("(") {
            self.list()?
        } else {
            Vec::new()
        };
        Ok(Command::Execute { name, args })
    }

    fn declare(&mut self) -> Read<Command> {
        let name = self.name()?;
        let mut binary = false;
        let mut scroll = None;
        while !self.word("cursor") {
            if self.word("binary") {
                binary = true;
            } else if self.word("scroll") {
                if scroll == Some(false) {
                    return Err(CommandError);
                }
                scroll = Some(true);
            } else if self.word("no") {
                self.expect("scroll")?;
                if scroll == Some(true) {
                    return Err(CommandError);
                }
                scroll = Some(false);
            } else if !self.word("insensitive") {
                self.expect("asensitive")?;
            }
        }
        let hold = self.word("with");
        if hold || self.word("without") {
            self.expect("hold")?;
        }
        self.expect("for")?;
        let query = self.rest()?;
        Ok(Command::Declare(Declare {
            name,
            binary,
            scroll,
            hold,
            query,
        }))
    }

    fn fetch(&mut self) -> Read<(Direction, String)> {
        let direction = self.direction()?;
        if !self.word("from") {
            self.word("in");
        }
        Ok((direction, self.name()?))
    }

    fn direction(&mut self) -> Read<Direction> {
        // A lone word is a cursor's name, even if it is NEXT.
        if self.at + 1 == self.tokens.len() {
            return Ok(Direction::Forward(1));
        }
        for (word, direction) in [
            ("next", Direction::Forward(1)),
            ("prior", Direction::Backward(1)),
            ("first", Direction::Absolute(1)),
            ("last", Direction::Absolute(-1)),
            ("all", Direction::ForwardAll),
        ] {
            if self.word(word) {
                return Ok(direction);
            }
        }
        if self.word("absolute") {
            return self.count().map(Direction::Absolute);
        }
        if self.word("relative") {
            return self.count().map(Direction::Relative);
        }
        let forward = self.word("forward");
        if forward || self.word("backward") {
            if self.word("all") {
                return Ok(if forward {
                    Direction::ForwardAll
                } else {
                    Direction::BackwardAll
                });
            }
            let count = if self.number_follows() {
                self.count()?
            } else {
                1
            };
            return Ok(if forward {
                Direction::Forward(count)
            } else {
                Direction::Backward(count)
            });
        }
        if self.number_follows() {
            return self.count().map(Direction::Forward);
        }
        Ok(Direction::Forward(1))
    }

    fn number_follows(&self) -> bool {
        matches!(self.raw(self.at), "+" | "-")
            || self
                .tokens
                .get(self.at)
                .is_some_and(|token| token.kind == TokenKind::Integer)
    }

    /// A signed integer of 32 bits; the grammar takes no larger one.
    fn count(&mut self) -> Read<i32> {
        let minus = self.symbol("-");
        if !minus {
            self.symbol("+");
        }
        let token = self.next()?;
        if token.kind != TokenKind::Integer {
            return Err(CommandError);
        }
        let number: i32 = self.text[token.start..token.end]
            .parse()
            .map_err(|_| CommandError)?;
        Ok(if minus { -number } else { number })
    }

    fn explain_route(&mut self) -> Read<Command> {
        if !self.symbol("(") {
            return Err(CommandError);
        }
        let mut json = false;
        let mut route = false;
        for option in self.list()? {
            let option = self.text[option].to_ascii_lowercase();
            let mut words = option.split_ascii_whitespace();
            let value = |words: &mut std::str::SplitAsciiWhitespace<'_>| {
                words.next().map(|word| word.trim_matches('\'').to_owned())
            };
            match words.next() {
                Some("route") => {
                    route = match value(&mut words).as_deref() {
                        None | Some("true" | "on" | "1") => true,
                        Some("false" | "off" | "0") => false,
                        Some(_) => return Err(CommandError),
                    }
                }
                Some("format") => {
                    json = match value(&mut words).as_deref() {
                        Some("json") => true,
                        Some("text") => false,
                        _ => return Err(CommandError),
                    }
                }
                _ => return Err(CommandError),
            }
            if words.next().is_some() {
                return Err(CommandError);
            }
        }
        if !route {
            return Err(CommandError);
        }
        let statement = self.rest()?;
        Ok(Command::ExplainRoute { statement, json })
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
