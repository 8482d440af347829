//! The line that a range partition is a piece of: the values of a date, a time or an integer column in order.
//!
//! A point is a whole number: microseconds since 1970-01-01 UTC, or the integer itself. It is wider than any column, so that
//! nothing here can overflow.

use crate::config::partitions::Span;
use crate::partition::calendar::{self, DAY, HOUR, SECOND, civil, day_number};

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// date
    Date,
    /// timestamp, read as UTC
    Timestamp,
    /// timestamptz
    TimestampTz,
    /// smallint
    Int2,
    /// integer
    Int4,
    /// bigint
    Int8,
}

/// The date and time types' own `-infinity`, which is above MINVALUE.
pub const EARLIEST: i128 = i128::MIN;

/// Their `infinity`, which is below MAXVALUE.
pub const LATEST: i128 = i128::MAX;

/// An end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// MINVALUE
    Below,
    /// A point.
    At(i128),
    /// MAXVALUE
    Above,
}

impl Edge {
    /// The point, if it is one that can be counted from.
    #[must_use]
    pub fn finite(self) -> Option<i128> {
        match self {
            Self::At(at) if at != EARLIEST && at != LATEST => Some(at),
            Self::At(_) | Self::Below | Self::Above => None,
        }
    }
}

impl Axis {
    /// By the name of a type in pg_catalog.
    #[must_use]
    pub fn of_type(name: &str) -> Option<Self> {
        Some(match name {
            "date" => Self::Date,
            "timestamp" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "int2" => Self::Int2,
            "int4" => Self::Int4,
            "int8" => Self::Int8,
            _ => return None,
        })
    }

    /// The type's name in pg_catalog.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampTz => "timestamptz",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
        }
    }

    /// Is it a line of times?
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Date | Self::Timestamp | Self::TimestampTz)
    }

    /// The least and the greatest integer.
    fn integers(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Int2 => (i16::MIN.into(), i16::MAX.into()),
            Self::Int4 => (i32::MIN.into(), i32::MAX.into()),
            Self::Int8 => (i64::MIN.into(), i64::MAX.into()),
            Self::Date | Self::Timestamp | Self::TimestampTz => return None,
        })
    }

    /// An edge that a partition of this type can have: an integer that the type does not have becomes MINVALUE or MAXVALUE.
    #[must_use]
    pub fn edge(self, at: i128) -> Edge {
        match self.integers() {
            Some((least, _)) if at < least => Edge::Below,
            Some((_, greatest)) if at > greatest => Edge::Above,
            _ => Edge::At(at),
        }
    }

    /// The end of the line, behind which no value can be: one more than the greatest integer.
    #[must_use]
    pub fn end(self) -> Option<i128> {
        self.integers().map(|(_, greatest)| greatest + 1)
    }

    /// Reads what PostgreSQL prints with DateStyle ISO.
    #[must_use]
    pub fn read(self, text: &str) -> Option<i128> {
        if !self.is_time() {
            return text.parse().ok();
        }
        match text {
            "infinity" => return Some(LATEST),
            "-infinity" => return Some(EARLIEST),
            _ => {}
        }
        let (text, is_before_christ) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (date, time) = match text.split_once(' ') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let day = read_date(date, is_before_christ)?;
        match (self, time) {
            (Self::Date, None) => Some(day * DAY),
            (Self::Timestamp, Some(time)) => Some(day * DAY + read_time(time)?),
            (Self::TimestampTz, Some(time)) => {
                let sign = time.find(['+', '-'])?;
                let (time, offset) = time.split_at(sign);
                let (sign, offset) = offset.split_at(1);
                let offset = read_offset(offset)?;
                let offset = if sign == "-" { -offset } else { offset };
                Some(day * DAY + read_time(time)? - offset)
            }
            _ => None,
        }
    }

    /// A point as a value in a statement, without quotes and the same in any session.
    #[must_use]
    pub fn text(self, at: i128) -> String {
        if !self.is_time() {
            return at.to_string();
        }
        let (year, month, day) = civil(at.div_euclid(DAY));
        let (year, era) = if year > 0 {
            (year, "")
        } else {
            (1 - year, " BC")
        };
        let date = format!("{year:04}-{month:02}-{day:02}");
        if self == Self::Date {
            return format!("{date}{era}");
        }
        let rest = at.rem_euclid(DAY);
        let (hours, rest) = (rest / HOUR, rest % HOUR);
        let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
        let (seconds, micros) = (rest / SECOND, rest % SECOND);
        let micros = match micros {
            0 => String::new(),
            micros => format!(".{micros:06}"),
        };
        let zone = if self == Self::TimestampTz { "+00" } else { "" };
        format!("{date} {hours:02}:{minutes:02}:{seconds:02}{micros}{zone}{era}")
    }

    /// An edge as FOR VALUES FROM and TO take it.
    #[must_use]
    pub fn bound(self, edge: Edge) -> String {
        match edge {
            Edge::Below => "MINVALUE".to_owned(),
            Edge::Above => "MAXVALUE".to_owned(),
            Edge::At(LATEST) => "'infinity'".to_owned(),
            Edge::At(EARLIEST) => "'-infinity'".to_owned(),
            Edge::At(at) if self.is_time() => format!("'{}'", self.text(at)),
            Edge::At(at) => at.to_string(),
        }
    }
}

/// `2026-01-31`; years may have more digits.
fn read_date(text: &str, is_before_christ: bool) -> Option<i128> {
    let mut parts = text.split('-');
    let year = number(parts.next()?)?;
    let month = u8::try_from(number(parts.next()?)?).ok()?;
    let day = u8::try_from(number(parts.next()?)?).ok()?;
    if parts.next().is_some() || year == 0 || !(1..=12).contains(&month) {
        return None;
    }
    let year = if is_before_christ { 1 - year } else { year };
    (1..=calendar::month_length(year, month))
        .contains(&day)
        .then(|| day_number(year, month, day))
}

/// `13:30:00.25` in microseconds.
fn read_time(text: &str) -> Option<i128> {
    let (whole, micros) = match text.split_once('.') {
        Some((whole, digits)) if (1..=6).contains(&digits.len()) => {
            let scale = 10_i128.pow(6 - u32::try_from(digits.len()).ok()?);
            (whole, number(digits)? * scale)
        }
        Some(_) => return None,
        None => (text, 0),
    };
    Some(read_offset(whole)? + micros)
}

/// `13:30:00`, `05:45` or `05`, in microseconds.
fn read_offset(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let hours = number(parts.next()?)?;
    let minutes = parts.next().map_or(Some(0), number)?;
    let seconds = parts.next().map_or(Some(0), number)?;
    if parts.next().is_some() {
        return None;
    }
    Some(hours * HOUR + (minutes * 60 + seconds) * SECOND)
}

fn number(text: &str) -> Option<i128> {
    let is_number =
        !text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Where the cell of the grid that a point falls into begins. Integers are counted from 0.
#[must_use]
pub fn floor(at: i128, every: Span) -> i128 {
    match every {
        Span::Time(_, unit) => calendar::floor(at, unit),
        Span::Step(step) => at - at.rem_euclid(step.into()),
    }
}

/// Where the cell behind it begins.
#[must_use]
pub fn next(at: i128, every: Span) -> i128 {
    match every {
        Span::Time(_, unit) => calendar::next(at, unit),
        Span::Step(step) => floor(at, every) + i128::from(step),
    }
}

/// So far before a point.
#[must_use]
pub fn before(at: i128, span: Span) -> i128 {
    match span {
        Span::Time(count, unit) => calendar::before(at, count, unit),
        Span::Step(step) => at - i128::from(step),
    }
}
