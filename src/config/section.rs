//! Walking what was written, key by key, and collecting everything that is wrong with it.
//!
//! A getter that finds a wrong value notes a [`Problem`] and returns a harmless one, so that the walk goes on and all
//! problems are reported together. What nobody asked for is an unknown key.

use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's path, as in `keyspaces.main.shards`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.key, self.what)
        }
    }
}

/// What a walk shares: the problems found so far.
#[derive(Debug, Default)]
pub(super) struct Notes(RefCell<Vec<Problem>>);

impl Notes {
    /// Notes a problem.
    pub(super) fn add(&self, key: impl Into<String>, what: impl Into<String>) {
        self.0.borrow_mut().push(Problem {
            key: key.into(),
            what: what.into(),
        });
    }

    /// All of them, in order.
    pub(super) fn into_inner(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A table of the file, its keys not yet read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    left: BTreeMap<&'a str, &'a Value>,
    known: Vec<&'static str>,
    notes: &'a Notes,
}

impl<'a> Section<'a> {
    /// The section at `path`.
    pub(super) fn new(path: String, value: &'a Value, notes: &'a Notes) -> Self {
        let left = match value {
            Value::Object(entries) => entries
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
            _ => {
                notes.add(
                    path.clone(),
                    format!("a table is wanted here, not {}", kind(value)),
                );
                BTreeMap::new()
            }
        };
        Self {
            path,
            left,
            known: Vec::new(),
            notes,
        }
    }

    /// The section of a file's table `name`.
    pub(super) fn top(name: &str, value: &'a Value, notes: &'a Notes) -> Self {
        Self::new(join("", name), value, notes)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Is `key` written?
    pub(super) fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// The path of `key` in this section.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Notes a problem with `key`.
    pub(super) fn problem(&self, key: &str, what: impl Into<String>) {
        self.notes.add(self.path_of(key), what);
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.left.remove(key)
    }

    /// Text, or `None` when missing or empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.take(key)?;
        match scalar(value) {
            Some(text) if text.is_empty() => None,
            Some(text) => Some(text),
            None => {
                self.problem(key, format!("text is wanted here, not {}", kind(value)));
                None
            }
        }
    }

    /// True or false; false when missing.
    pub(super) fn yes(&mut self, key: &'static str) -> bool {
        let Some(value) = self.take(key) else {
            return false;
        };
        match scalar(value).as_deref() {
            Some("true" | "on" | "yes") => true,
            Some("false" | "off" | "no") => false,
            _ => {
                self.problem(key, "true or false is wanted here");
                false
            }
        }
    }

    /// A whole number from `low` to `high`.
    pub(super) fn number(&mut self, key: &'static str, low: u64, high: u64) -> Option<u64> {
        let value = self.take(key)?;
        let number = scalar(value).and_then(|text| text.parse::<u64>().ok());
        match number {
            Some(number) if (low..=high).contains(&number) => Some(number),
            _ => {
                self.problem(
                    key,
                    format!(
                        "a whole number from {low} to {high} is wanted here, not {}",
                        shown(value)
                    ),
                );
                None
            }
        }
    }

    /// A whole number from `low` to `high`, `low` when missing.
    pub(super) fn count(&mut self, key: &'static str, low: usize, high: usize) -> usize {
        self.number(key, low as u64, high as u64)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(low)
    }

    /// A time such as "300s"; never zero.
    pub(super) fn time(&mut self, key: &'static str) -> Duration {
        self.time_or_off(key, false)
            .unwrap_or(Duration::from_secs(1))
    }

    /// A time, or `None` for "off" or 0.
    pub(super) fn time_or_never(&mut self, key: &'static str) -> Option<Duration> {
        self.time_or_off(key, true)
    }

    fn time_or_off(&mut self, key: &'static str, off_allowed: bool) -> Option<Duration> {
        let value = self.take(key)?;
        let text = scalar(value).unwrap_or_default();
        if off_allowed && matches!(text.as_str(), "off" | "never" | "0") {
            return None;
        }
        match parse_time(&text) {
            Some(time) if !time.is_zero() => Some(time),
            Some(_) if off_allowed => None,
            _ => {
                let off = if off_allowed { " or \"off\"" } else { "" };
                self.problem(
                    key,
                    format!("a time such as \"500ms\", \"30s\", \"5m\", \"1h\"{off} is wanted here, not {}", shown(value)),
                );
                None
            }
        }
    }

    /// A size in bytes such as "64MiB", from `low` to `high`.
    pub(super) fn size(&mut self, key: &'static str, low: u64, high: u64) -> usize {
        let Some(value) = self.take(key) else {
            return usize::try_from(low).unwrap_or(0);
        };
        let size = scalar(value)
            .and_then(|text| parse_size(&text))
            .filter(|size| (low..=high).contains(size));
        size.and_then(|size| usize::try_from(size).ok()).unwrap_or_else(|| {
            self.problem(
                key,
                format!("a size from {low} to {high} bytes, such as \"64MiB\", is wanted here, not {}", shown(value)),
            );
            usize::try_from(low).unwrap_or(0)
        })
    }

    /// One of the named values.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        allowed: &[(&str, T)],
    ) -> Option<T> {
        let value = self.take(key)?;
        let text = scalar(value).unwrap_or_default();
        let found = allowed
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = allowed.iter().map(|(name, _)| *name).collect();
            self.problem(
                key,
                format!(
                    "one of {} is wanted here, not {}",
                    names.join(", "),
                    shown(value)
                ),
            );
        }
        found
    }

    /// An address with port; `localhost` and `*` are understood.
    pub(super) fn address(&mut self, key: &'static str) -> Option<SocketAddr> {
        let value = self.take(key)?;
        let text = scalar(value).unwrap_or_default();
        let spelled = match text.split_once(':') {
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            Some(("*", port)) => format!("0.0.0.0:{port}"),
            _ => text,
        };
        let address = spelled.parse().ok();
        if address.is_none() {
            self.problem(
                key,
                format!(
                    "an address and port such as \"127.0.0.1:6432\" is wanted here, not {}",
                    shown(value)
                ),
            );
        }
        address
    }

    /// An address, or `None` for "off".
    pub(super) fn address_or_off(&mut self, key: &'static str) -> Option<SocketAddr> {
        if self
            .left
            .get(key)
            .and_then(|value| scalar(value))
            .is_some_and(|text| matches!(text.as_str(), "off" | "false" | ""))
        {
            self.take(key);
            return None;
        }
        self.address(key)
    }

    /// A file that can be opened for reading.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        match std::fs::File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => self.problem(key, format!("{} is not a file", path.display())),
            Err(error) => self.problem(key, format!("{}: {error}", path.display())),
        }
        Some(path)
    }

    /// A list of texts; one text alone is a list of one, or of several when it has commas (environment variables have
    /// no lists).
    pub(super) fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let value = self.take(key)?;
        if let Value::Array(items) = value {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                match scalar(item) {
                    Some(text) => list.push(text),
                    None => self.notes.add(
                        format!("{}[{index}]", self.path_of(key)),
                        format!("text is wanted here, not {}", kind(item)),
                    ),
                }
            }
            return Some(list);
        }
        let Some(text) = scalar(value) else {
            self.problem(
                key,
                format!("a list of texts is wanted here, not {}", kind(value)),
            );
            return None;
        };
        Some(split_commas(&text))
    }

    /// A list of texts that may have commas.
    pub(super) fn raw_list(&mut self, key: &'static str) -> Option<Vec<String>> {
        if let Some(Value::String(text)) = self.left.get(key) {
            let list = vec![text.clone()];
            self.take(key);
            return Some(list);
        }
        self.list(key)
    }

    /// Ends the walk with one problem instead.
    pub(super) fn finish_unread(self, what: &str) {
        self.notes.add(self.path, what);
    }

    /// The named sections below `key`, such as every `[users.NAME]`.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<(String, Section<'a>)> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        let Value::Object(entries) = value else {
            self.notes
                .add(path, format!("a table is wanted here, not {}", kind(value)));
            return Vec::new();
        };
        let notes = self.notes;
        entries
            .iter()
            .map(|(name, value)| (name.clone(), Section::new(join(&path, name), value, notes)))
            .collect()
    }

    /// The section `key`; empty when missing.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let path = self.path_of(key);
        match self.take(key) {
            Some(value) => Section::new(path, value, self.notes),
            None => Section {
                path,
                left: BTreeMap::new(),
                known: Vec::new(),
                notes: self.notes,
            },
        }
    }

    /// A table of texts, by names of any kind.
    pub(super) fn texts(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let section = self.section(key);
        for (name, value) in &section.left {
            match scalar(value) {
                Some(text) => {
                    texts.insert((*name).to_owned(), text);
                }
                None => section.problem(name, format!("text is wanted here, not {}", kind(value))),
            }
        }
        texts
    }

    /// Ends the walk: what is left over is unknown.
    pub(super) fn finish(self) {
        for key in self.left.keys() {
            let mut known = self.known.clone();
            known.sort_unstable();
            self.problem(
                key,
                format!("unknown key; known here: {}", known.join(", ")),
            );
        }
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let key = if plain {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// A scalar as text, however it was written: environment variables are all text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// A value for a message: never used for keys that may hold a secret.
fn shown(value: &Value) -> String {
    match scalar(value) {
        Some(text) => format!("{text:?}"),
        None => kind(value).to_owned(),
    }
}

/// "a, b" as two, but `"a,b"` in double quotes as one.
fn split_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            ',' if !quoted => parts.push(String::new()),
            _ => {
                quoted ^= c == '"';
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    parts
        .into_iter()
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// "500ms", "30s", "5m", "1h", "2d"; a bare number is seconds. At most ten years.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let total = number.checked_mul(millis)?;
    (total <= 10 * 366 * 86_400_000).then(|| Duration::from_millis(total))
}

/// "4096", "64kB", "256MiB", "1GiB"; powers of 1,024, as PostgreSQL reads its own.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" | "KiB" => 1 << 10,
        "MB" | "MiB" => 1 << 20,
        "GB" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
