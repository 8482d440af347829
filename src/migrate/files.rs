//! Migration files: a keyspace's directory → its migrations in order, or everything that is wrong with them.
//!
//! Names are those of the tools people come from: Flyway's and refinery's `V1__name.sql`, `U1__name.sql`, `R__name.sql`,
//! dbmate's `20260101120000_name.sql` with its `-- migrate:up` and `-- migrate:down`, and `name.up.sql` beside
//! `name.down.sql`. What is inside is split by the lexer and never parsed, so that any SQL PostgreSQL takes is fine.

use crate::config::parse_time;
use crate::migrate::concurrent::is_concurrent;
use crate::migrate::version::Version;
use crate::statement::lex::{Lexer, TokenKind};
use crate::statement::scan::{ScanSettings, Verb, beginning, scan};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a statement waits for a lock before it lets others pass and tries again.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes a migration file may have.
const FILE_MAX: u64 = 64 << 20;

/// A migration's place in the order of its keyspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Run once, in the order of versions.
    Version(Version),
    /// Run behind all versions whenever its text has changed, in the order of names.
    Repeatable(String),
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(out, "{version}"),
            Self::Repeatable(name) => write!(out, "R {name}"),
        }
    }
}

/// One migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// Its place.
    pub key: Key,
    /// What people call it: `add_users`.
    pub name: String,
    /// The way there.
    pub up: Script,
    /// The way back, if somebody wrote one.
    pub down: Option<Script>,
}

/// What one file, or one part of a file, runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The file's name.
    pub file: String,
    /// SHA-256 of the text, in hex: line ends are LF, white space at ends of lines and of the text does not count.
    pub checksum: String,
    /// All in one transaction with its history row (`-- keyway: transaction=false` says no).
    pub transaction: bool,
    /// How long a statement waits for a lock.
    pub lock_timeout: Duration,
    /// Only on these shards.
    pub shards: Option<Vec<String>>,
    /// Its statements.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// As it is sent, without the semicolon.
    pub text: String,
    /// The line of the file where it begins, from 1.
    pub line: usize,
}

/// Something wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}", line.map_or_else(String::new, |line| format!(":{line}")))]
pub struct FileProblem {
    /// The file's name.
    pub file: String,
    /// The line, from 1, if it is one line.
    pub line: Option<usize>,
    /// What.
    pub what: String,
}

/// The migrations of a directory, in the order they run in.
///
/// # Errors
/// Everything that is wrong with its files.
pub fn read(directory: &Path) -> Result<Vec<Migration>, Vec<FileProblem>> {
    let mut problems = Vec::new();
    let mut files = BTreeMap::new();
    let whole = |what: String| {
        vec![FileProblem {
            file: directory.display().to_string(),
            line: None,
            what,
        }]
    };
    let entries = std::fs::read_dir(directory).map_err(|error| whole(error.to_string()))?;
    for entry in entries {
        let entry = entry.map_err(|error| whole(error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || !has_end(&name, ".sql") {
            continue;
        }
        match text_of(&entry.path()) {
            Ok(text) => {
                files.insert(name, text);
            }
            Err(what) => problems.push(FileProblem {
                file: name,
                line: None,
                what,
            }),
        }
    }
    let migrations = arrange(&files, &mut problems);
    if problems.is_empty() {
        Ok(migrations)
    } else {
        Err(problems)
    }
}

fn text_of(path: &PathBuf) -> Result<String, String> {
    let length = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if length > FILE_MAX {
        return Err(format!("{length} bytes; a migration may have {FILE_MAX}"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

fn has_end(name: &str, end: &str) -> bool {
    name.len() > end.len()
        && name.is_char_boundary(name.len() - end.len())
        && name[name.len() - end.len()..].eq_ignore_ascii_case(end)
}

/// What a file's name says.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    Up(Version, String),
    Down(Version, String),
    /// Flyway's way back of a version, or refinery's version that may come late.
    Undo(Version, String),
    Repeatable(String),
}

/// `V1__name.sql` and its kin. `None` for a name that no tool knows.
fn named(file: &str) -> Option<Named> {
    let stem = &file[..file.len() - ".sql".len()];
    let (stem, is_down) = match stem.rsplit_once('.') {
        Some((stem, "down")) => (stem, true),
        Some((stem, "up")) => (stem, false),
        _ => (stem, false),
    };
    if let Some(name) = stem
        .strip_prefix("R__")
        .or_else(|| stem.strip_prefix("r__"))
    {
        return (!name.is_empty() && !is_down).then(|| Named::Repeatable(name.to_owned()));
    }
    let first = stem.chars().next()?;
    let (version, name) = match first {
        'V' | 'v' | 'U' | 'u' => stem[1..].split_once("__")?,
        '0'..='9' => stem.split_once('_')?,
        _ => return None,
    };
    let version = Version::parse(version)?;
    let name = name.trim_matches('_');
    if name.is_empty() {
        return None;
    }
    let name = name.to_owned();
    Some(match first {
        'U' | 'u' if is_down => return None,
        'U' | 'u' => Named::Undo(version, name),
        _ if is_down => Named::Down(version, name),
        _ => Named::Up(version, name),
    })
}

/// Files by name → migrations in order.
fn arrange(files: &BTreeMap<String, String>, problems: &mut Vec<FileProblem>) -> Vec<Migration> {
    let mut ups: BTreeMap<Key, Migration> = BTreeMap::new();
    let mut downs: BTreeMap<Version, (String, &str)> = BTreeMap::new();
    let mut undos: Vec<(Version, String, String)> = Vec::new();
    for (file, text) in files {
        let complain = |what: &str| FileProblem {
            file: file.clone(),
            line: None,
            what: what.to_owned(),
        };
        let (key, name) = match named(file) {
            None => {
                problems.push(complain(
                    "not a migration's name: V20260101120000__add_users.sql, V1__add_users.down.sql, R__a_view.sql or 20260101120000_add_users.sql",
                ));
                continue;
            }
            Some(Named::Down(version, _)) => {
                if downs.insert(version, (file.clone(), text)).is_some() {
                    problems.push(complain("another file is the way back of the same version"));
                }
                continue;
            }
            Some(Named::Undo(version, name)) => {
                undos.push((version, name, file.clone()));
                continue;
            }
            Some(Named::Up(version, name)) => (Key::Version(version), name),
            Some(Named::Repeatable(name)) => (Key::Repeatable(name.clone()), name),
        };
        let (up, down) = scripts(file, text, problems);
        let migration = Migration {
            key: key.clone(),
            name,
            up,
            down,
        };
        if let Some(before) = ups.insert(key, migration) {
            problems.push(complain(&format!(
                "{} has the same version",
                before.up.file
            )));
        }
    }
    for (version, name, file) in undos {
        let text = files.get(&file).map(String::as_str).unwrap_or_default();
        if ups.contains_key(&Key::Version(version.clone())) {
            if downs.insert(version, (file.clone(), text)).is_some() {
                problems.push(FileProblem {
                    file,
                    line: None,
                    what: "another file is the way back of the same version".to_owned(),
                });
            }
        } else {
            let (up, down) = scripts(&file, text, problems);
            let key = Key::Version(version);
            ups.insert(
                key.clone(),
                Migration {
                    key,
                    name,
                    up,
                    down,
                },
            );
        }
    }
    for (version, (file, text)) in downs {
        match ups.get_mut(&Key::Version(version)) {
            Some(migration) if migration.down.is_none() => {
                migration.down = Some(script(&file, text, 1, true, problems));
            }
            Some(migration) => problems.push(FileProblem {
                file,
                line: None,
                what: format!("{} has its own way back", migration.up.file),
            }),
            None => problems.push(FileProblem {
                file,
                line: None,
                what: "no file has the way there of that version".to_owned(),
            }),
        }
    }
    ups.into_values().collect()
}

/// A file's way there and, between dbmate's marks, its way back.
fn scripts(file: &str, text: &str, problems: &mut Vec<FileProblem>) -> (Script, Option<Script>) {
    let marks: Vec<Mark<'_>> = marks(text).collect();
    let Some(up) = marks.iter().find(|mark| mark.is_up) else {
        return (script(file, text, 1, true, problems), None);
    };
    let part = |mark: &Mark<'_>| {
        let next = marks.iter().find(|other| other.start > mark.start);
        let end = next.map_or(text.len(), |next| next.start);
        &text[mark.end..end]
    };
    let mut problem = |line: usize, what: &str| {
        problems.push(FileProblem {
            file: file.to_owned(),
            line: Some(line),
            what: what.to_owned(),
        });
    };
    for (index, mark) in marks.iter().enumerate() {
        if marks[..index].iter().any(|other| other.is_up == mark.is_up) {
            problem(mark.line, "the file has such a mark already");
        }
        if let Some(option) = mark.unknown {
            problem(
                mark.line,
                &format!("{option:?} is not an option of a mark; there is transaction:false"),
            );
        }
    }
    let mut made =
        |mark: &Mark<'_>| script(file, part(mark), mark.line + 1, mark.transaction, problems);
    let down = marks.iter().find(|mark| !mark.is_up).map(&mut made);
    (made(up), down)
}

/// `-- migrate:up transaction:false`
struct Mark<'t> {
    is_up: bool,
    transaction: bool,
    unknown: Option<&'t str>,
    start: usize,
    end: usize,
    line: usize,
}

fn marks(text: &str) -> impl Iterator<Item = Mark<'_>> {
    let mut start = 0;
    text.split_inclusive('\n')
        .zip(1..)
        .filter_map(move |(whole, line)| {
            let from = start;
            start += whole.len();
            let words = whole.trim().strip_prefix("--")?.trim_start();
            let rest = words.strip_prefix("migrate:")?;
            let mut words = rest.split_whitespace();
            let is_up = match words.next()? {
                "up" => true,
                "down" => false,
                _ => return None,
            };
            let (mut transaction, mut unknown) = (true, None);
            for option in words {
                match option {
                    "transaction:false" => transaction = false,
                    "transaction:true" => transaction = true,
                    other => unknown = Some(other),
                }
            }
            Some(Mark {
                is_up,
                transaction,
                unknown,
                start: from,
                end: from + whole.len(),
                line,
            })
        })
}

/// A script's text. `line`: where it begins in its file.
fn script(
    file: &str,
    text: &str,
    line: usize,
    transaction: bool,
    problems: &mut Vec<FileProblem>,
) -> Script {
    let mut problem = |line: usize, what: String| {
        problems.push(FileProblem {
            file: file.to_owned(),
            line: Some(line),
            what,
        });
    };
    let mut script = Script {
        file: file.to_owned(),
        checksum: checksum(text),
        transaction,
        lock_timeout: LOCK_TIMEOUT,
        shards: None,
        statements: Vec::new(),
    };
    let line_at = |at: usize| line + text[..at].matches('\n').count();
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let scanned = match scan(text, settings) {
        Ok(scanned) => scanned,
        Err(error) => {
            problem(line, error.to_string());
            return script;
        }
    };
    let first = scanned
        .iter()
        .find(|statement| statement.verb != Verb::Empty)
        .map_or(text.len(), |statement| statement.range.start);
    let first = first + beginning(&text[first..]);
    let mut at = 0;
    for whole in text.split_inclusive('\n') {
        if let Some(words) = whole.trim().strip_prefix("--")
            && let Some(directives) = words.trim_start().strip_prefix("keyway:")
        {
            if at > first {
                problem(
                    line_at(at),
                    "a directive stands in front of the first statement".to_owned(),
                );
            } else if let Err(what) = direct(&mut script, directives) {
                problem(line_at(at), what);
            }
        }
        at += whole.len();
    }
    for statement in scanned.iter().filter(|s| s.verb != Verb::Empty) {
        let own = &text[statement.range.clone()];
        let begins = statement.range.start + beginning(own);
        let words = words(own);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some(what) = refused(statement.verb, &words, script.transaction, own) {
            problem(line_at(begins), what);
        }
        script.statements.push(Statement {
            text: own.trim().to_owned(),
            line: line_at(begins),
        });
    }
    script
}

/// `transaction=false, lock_timeout=3s, shards=s0,s1`: a comma without a key behind it belongs to the value.
fn direct(script: &mut Script, directives: &str) -> Result<(), String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in directives
        .split([',', ' ', '\t'])
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match (word.split_once('='), pairs.last_mut()) {
            (Some((key, value)), _) => pairs.push((key.to_ascii_lowercase(), value.to_owned())),
            (None, Some((key, value))) if key == "shards" => {
                value.push(',');
                value.push_str(word);
            }
            (None, _) => {
                return Err(format!(
                    "{word:?} is not a directive; there are transaction=false, lock_timeout=3s and shards=s0,s1"
                ));
            }
        }
    }
    for (key, value) in pairs {
        match key.as_str() {
            "transaction" => {
                script.transaction = match value.as_str() {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    _ => return Err(format!("transaction is true or false, not {value:?}")),
                }
            }
            "lock_timeout" => {
                script.lock_timeout = parse_time(&value)
                    .filter(|time| !time.is_zero())
                    .ok_or_else(|| {
                        format!("lock_timeout is a time such as 3s or 500ms, not {value:?}")
                    })?;
            }
            "shards" if value == "all" => script.shards = None,
            "shards" => {
                let names = value.split(',').filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_owned).collect();
                if names.is_empty() {
                    return Err("shards names no shard".to_owned());
                }
                script.shards = Some(names);
            }
            _ => {
                return Err(format!(
                    "{key:?} is not a directive; there are transaction, lock_timeout and shards"
                ));
            }
        }
    }
    Ok(())
}

/// A statement's first words, in upper case; symbols and strings end them.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut lexer = Lexer::new(
        text,
        ScanSettings {
            standard_conforming_strings: true,
        },
    );
    let mut words = Vec::new();
    while let Ok(Some(token)) = lexer.next() {
        match token.kind {
            TokenKind::Word | TokenKind::Quoted => {
                words.push(text[token.start..token.end].to_ascii_uppercase());
            }
            TokenKind::Punctuation(b'.' | b'(' | b')' | b',') => {}
            _ => break,
        }
        if words.len() == 64 {
            break;
        }
    }
    words
}

/// What cannot be in a migration, and why.
fn refused(verb: Verb, words: &[&str], transaction: bool, text: &str) -> Option<String> {
    if text.trim_start().starts_with('\\') {
        return Some("psql's backslash commands are not SQL".to_owned());
    }
    let own = match verb {
        Verb::Begin | Verb::Commit | Verb::Rollback => true,
        Verb::RollbackTo | Verb::Savepoint | Verb::Release => false,
        _ => words.starts_with(&["PREPARE", "TRANSACTION"]),
    };
    if own {
        return Some(if transaction {
            "the whole file is one transaction, with its history row; leave BEGIN and COMMIT out"
                .to_owned()
        } else {
            "each statement of this file is its own transaction; leave BEGIN and COMMIT out"
                .to_owned()
        });
    }
    let role = matches!(
        words,
        ["SET", "SESSION", "AUTHORIZATION", ..]
            | ["SET", "ROLE", ..]
            | ["SET", "SESSION" | "LOCAL", "ROLE", ..]
    );
    if role && !transaction {
        return Some("outside a transaction the history is written between the statements, by the runner's role; leave SET ROLE out".to_owned());
    }
    if words.first() == Some(&"COPY") && words.windows(2).any(|pair| pair == ["FROM", "STDIN"]) {
        return Some("COPY FROM STDIN has no data here; use INSERT".to_owned());
    }
    let outside = match words {
        ["VACUUM", ..] => true,
        [
            "CREATE" | "DROP",
            "DATABASE" | "TABLESPACE" | "SUBSCRIPTION",
            ..,
        ] => true,
        ["ALTER", "SYSTEM", ..] => true,
        ["REINDEX", "DATABASE" | "SYSTEM", ..] => true,
        _ => is_concurrent(text),
    };
    (outside && transaction).then(|| {
        "PostgreSQL runs this statement only outside a transaction: put `-- keyway: transaction=false` at the head of a file of its own".to_owned()
    })
}

/// SHA-256 of a text whose line ends and trailing white space do not matter.
fn checksum(text: &str) -> String {
    let mut digest = Sha256::new();
    for line in text.trim_end().lines() {
        digest.update(line.trim_end());
        digest.update(b"\n");
    }
    digest
        .finalize()
        .iter()
        .fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}
