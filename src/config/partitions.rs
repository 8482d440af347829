//! How a table is divided into PostgreSQL's partitions inside each of its shards, as the configuration or a keyspace's
//! `partitions.toml` declares it.

use crate::config::section::{Notes, Section};
use crate::config::values::{TableName, parse_identifier};
use std::collections::BTreeMap;

/// Partitions that a range parent has ahead of now, when nothing else is said.
pub const AHEAD: u32 = 3;

/// The most partitions ahead.
const AHEAD_MAX: u64 = 1_000;

/// The most partitions by hash.
const MODULUS_MAX: u64 = 1_024;

/// The longest retention, in years.
const RETAIN_YEARS_MAX: u64 = 1_000;

/// Columns that PARTITION BY HASH takes (PARTITION_MAX_KEYS).
const COLUMNS_MAX: usize = 32;

/// The schema that partitions are archived in, when nothing else is said.
const ARCHIVE: &str = "archive";

/// A table's partitions by its name.
pub type Declared = BTreeMap<TableName, Partitioned>;

/// One table's partitions. At least one of `range` and `hash` is there; with both, each range partition is divided by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partitioned {
    /// By ranges of a column.
    pub range: Option<Range>,
    /// By the hash of columns.
    pub hash: Option<Hash>,
    /// Range partitions kept ahead of the one that now (or the greatest value) falls into.
    pub ahead: u32,
    /// How far behind now a range partition ends before `then` is done to it. `None`: they stay for ever.
    pub retain: Option<Span>,
    /// What is done to partitions that are older.
    pub then: Then,
    /// The schema that `then = "archive"` moves partitions to.
    pub archive: String,
    /// Has a default partition for rows that fall into no other.
    pub default: bool,
}

/// PARTITION BY RANGE of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The column.
    pub column: String,
    /// The width of a partition.
    pub every: Span,
    /// Where the first partition of a parent without any begins: a date (`2026-01-01`, UTC) or a number. `None`: now, or the
    /// column's greatest value.
    pub start: Option<String>,
}

/// A width on a partition column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// So many of a unit of the calendar, in UTC. As a width it is always one.
    Time(u32, Unit),
    /// So many values of an integer column, from 1.
    Step(i64),
}

/// A unit of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// From minute 0.
    Hour,
    /// From 00:00 UTC.
    Day,
    /// From Monday (ISO 8601).
    Week,
    /// From the first.
    Month,
    /// From the first of January, April, July, October.
    Quarter,
    /// From the first of January.
    Year,
}

/// PARTITION BY HASH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hash {
    /// The columns.
    pub columns: Vec<String>,
    /// How many partitions, from 1.
    pub modulus: u16,
}

/// What is done to a partition that is older than `retain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// It becomes a table of its own.
    #[default]
    Detach,
    /// It becomes a table of its own in another schema.
    Archive,
    /// It is dropped.
    Drop,
}

/// The declarations of named sections.
pub(super) fn check(sections: Vec<(String, Section<'_>)>, notes: &Notes) -> Declared {
    let mut declared = Declared::new();
    for (name, section) in sections {
        let Some(table) = TableName::parse(&name) else {
            section.finish_unread(
                "is not a table's name: NAME, SCHEMA.NAME, with double quotes where SQL needs them",
            );
            continue;
        };
        let path = section.path().to_owned();
        let partitioned = partitioned(section);
        if declared.insert(table, partitioned).is_some() {
            notes.add(path, "the same table is declared twice, in two spellings");
        }
    }
    declared
}

fn partitioned(mut section: Section<'_>) -> Partitioned {
    let range = section
        .has("range")
        .then(|| range(section.section("range")));
    let hash = section.has("hash").then(|| hash(section.section("hash")));
    if range.is_none() && hash.is_none() {
        section.problem(
            "range",
            "is missing, and so is hash: range = { column = \"at\", every = \"month\" } or hash = { column = \"id\", modulus = 4 }",
        );
    }
    let ahead = section.number("ahead", 1, AHEAD_MAX);
    let retain = section.text("retain");
    let then = section.choice(
        "then",
        &[
            ("detach", Then::Detach),
            ("archive", Then::Archive),
            ("drop", Then::Drop),
        ],
    );
    let archive = section.text("archive");
    let default = section.yes("default");
    if range.is_none() {
        for (key, is_said) in [
            ("ahead", ahead.is_some()),
            ("retain", retain.is_some()),
            ("default", default),
        ] {
            if is_said {
                section.problem(key, "belongs to a table with range");
            }
        }
    }
    if then.is_some() && retain.is_none() {
        section.problem(
            "then",
            "is done to partitions older than retain, which is missing",
        );
    }
    if archive.is_some() && then != Some(Then::Archive) {
        section.problem("archive", "belongs to then = \"archive\"");
    }
    let archive = archive.map_or(Some(ARCHIVE.to_owned()), |name| parse_identifier(&name));
    if archive
        .as_deref()
        .is_none_or(|name| name.starts_with("pg_") || name == "keyway")
    {
        section.problem("archive", "is not the name of a schema for tables");
    }
    let retain = retain.and_then(|text| {
        let every = range
            .as_ref()
            .and_then(|range| range.as_ref())
            .map(|range| range.every);
        match retention(&text, every) {
            Ok(retain) => Some(retain),
            Err(what) => {
                section.problem("retain", what);
                None
            }
        }
    });
    section.finish();
    Partitioned {
        range: range.flatten(),
        hash: hash.flatten(),
        ahead: ahead.and_then(|n| u32::try_from(n).ok()).unwrap_or(AHEAD),
        retain,
        then: then.unwrap_or_default(),
        archive: archive.unwrap_or_default(),
        default,
    }
}

fn range(mut section: Section<'_>) -> Option<Range> {
    let column = column(&mut section);
    let every = section.text("every");
    let every = match every.as_deref().map(width) {
        Some(Some(every)) => Some(every),
        Some(None) => {
            section.problem(
                "every",
                "hour, day, week, month, quarter, year or a number of values from 1 is wanted here",
            );
            None
        }
        None => {
            section.problem(
                "every",
                "is missing: hour, day, week, month, quarter, year or a number of values",
            );
            None
        }
    };
    let start = section.text("start");
    if let (Some(text), Some(every)) = (&start, every)
        && !is_start(text, every)
    {
        let wanted = match every {
            Span::Time(..) => "a date such as \"2026-01-01\" (UTC, years 1 to 9999)",
            Span::Step(_) => "a whole number, as every is one,",
        };
        section.problem("start", format!("{wanted} is wanted here, not {text:?}"));
    }
    section.finish();
    Some(Range {
        column: column?,
        every: every?,
        start,
    })
}

fn column(section: &mut Section<'_>) -> Option<String> {
    let Some(text) = section.text("column") else {
        section.problem("column", "is missing: the column's name");
        return None;
    };
    let column = parse_identifier(&text);
    if column.is_none() {
        section.problem("column", format!("{text:?} is not a column's name"));
    }
    column
}

fn hash(mut section: Section<'_>) -> Option<Hash> {
    let several = section.list("columns");
    let columns = match several {
        None => column(&mut section).map(|one| vec![one]),
        Some(several) => {
            if section.text("column").is_some() {
                section.problem("columns", "is there beside column; say one of them");
            }
            let mut columns: Vec<String> = Vec::new();
            for text in &several {
                match parse_identifier(text) {
                    Some(name) if columns.contains(&name) => {
                        section.problem("columns", format!("names {name:?} twice"));
                    }
                    Some(name) => columns.push(name),
                    None => section.problem("columns", format!("{text:?} is not a column's name")),
                }
            }
            if several.is_empty() || several.len() > COLUMNS_MAX {
                section.problem(
                    "columns",
                    format!("one to {COLUMNS_MAX} columns are wanted here"),
                );
            }
            Some(columns)
        }
    };
    let is_missing = !section.has("modulus");
    let modulus = section.number("modulus", 1, MODULUS_MAX);
    if is_missing {
        section.problem(
            "modulus",
            format!("is missing: how many partitions, 1 to {MODULUS_MAX}"),
        );
    }
    section.finish();
    Some(Hash {
        columns: columns?,
        modulus: modulus.and_then(|n| u16::try_from(n).ok())?,
    })
}

/// `month`, or a number of values.
fn width(text: &str) -> Option<Span> {
    match unit(text) {
        Some(unit) => Some(Span::Time(1, unit)),
        None => text.parse().ok().filter(|step| *step >= 1).map(Span::Step),
    }
}

fn unit(word: &str) -> Option<Unit> {
    Some(match word {
        "hour" => Unit::Hour,
        "day" => Unit::Day,
        "week" => Unit::Week,
        "month" => Unit::Month,
        "quarter" => Unit::Quarter,
        "year" => Unit::Year,
        _ => return None,
    })
}

/// `24 months`, or a number of values when the partitions are ranges of integers.
fn retention(text: &str, every: Option<Span>) -> Result<Span, String> {
    let wanted = |every| match every {
        Some(Span::Step(_)) => {
            format!("a number of values from 1 is wanted here, as every is one, not {text:?}")
        }
        _ => format!(
            "a time of the calendar such as \"24 months\" is wanted here (hours, days, weeks, months, quarters, years; at most {RETAIN_YEARS_MAX} years), not {text:?}"
        ),
    };
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, word) = text.split_at(digits);
    let word = word.trim();
    let span = if word.is_empty() {
        number.parse().ok().filter(|n| *n >= 1).map(Span::Step)
    } else {
        let unit = unit(word.strip_suffix('s').unwrap_or(word));
        let most = |unit| {
            RETAIN_YEARS_MAX
                * match unit {
                    Unit::Hour => 24 * 365,
                    Unit::Day => 365,
                    Unit::Week => 52,
                    Unit::Month => 12,
                    Unit::Quarter => 4,
                    Unit::Year => 1,
                }
        };
        let count = number.parse::<u32>().ok().filter(|n| *n >= 1);
        unit.zip(count)
            .filter(|(unit, count)| u64::from(*count) <= most(*unit))
            .map(|(unit, count)| Span::Time(count, unit))
    };
    match (span, every) {
        (Some(Span::Time(..)), Some(Span::Step(_)))
        | (Some(Span::Step(_)), Some(Span::Time(..))) => Err(wanted(every)),
        (Some(span), _) => Ok(span),
        (None, _) => Err(wanted(every)),
    }
}

/// A date that there is, or a number.
fn is_start(text: &str, every: Span) -> bool {
    match every {
        Span::Time(..) => date(text).is_some(),
        Span::Step(_) => text.parse::<i64>().is_ok(),
    }
}

/// `2026-01-01` as year, month, day. `None` when there is no such day between the years 1 and 9999.
#[must_use]
pub fn date(text: &str) -> Option<(i32, u8, u8)> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let is_number = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || year == 0 {
        return None;
    }
    let month = u8::try_from(month).ok()?;
    let day = u8::try_from(day).ok()?;
    let year = i32::from(year);
    time::Date::from_calendar_date(year, time::Month::try_from(month).ok()?, day).ok()?;
    Some((year, month, day))
}
