//! Dates and times as PostgreSQL writes them in DateStyle ISO (datetime.c, EncodeDateOnly and EncodeDateTime).

/// What `infinity` is on the wire in binary (date.h, timestamp.h).
const DATE_INFINITY: i64 = i32::MAX as i64;
const DATE_MINUS_INFINITY: i64 = i32::MIN as i64;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Days since 2000-01-01.
pub(super) fn date(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => Some(DATE_INFINITY),
        b"-infinity" => Some(DATE_MINUS_INFINITY),
        _ => {
            let mut cursor = Cursor(text);
            let date = cursor.date()?;
            let era = cursor.era()?;
            date.days(era)
        }
    }
}

/// Microseconds since midnight.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let mut cursor = Cursor(text);
    let time = cursor.time()?;
    cursor.0.is_empty().then_some(time)
}

/// Microseconds since 2000-01-01 00:00.
pub(super) fn timestamp(text: &[u8]) -> Option<i64> {
    instant(text, false)
}

/// Microseconds since 2000-01-01 00:00 UTC.
pub(super) fn timestamptz(text: &[u8]) -> Option<i64> {
    instant(text, true)
}

fn instant(text: &[u8], zoned: bool) -> Option<i64> {
    match text {
        b"infinity" => Some(i64::MAX),
        b"-infinity" => Some(i64::MIN),
        _ => {
            let mut cursor = Cursor(text);
            let date = cursor.date()?;
            cursor.skip(b' ')?;
            let time = cursor.time()?;
            let offset = if zoned { cursor.zone()? } else { 0 };
            let era = cursor.era()?;
            date.days(era)?
                .checked_mul(DAY)?
                .checked_add(time)?
                .checked_sub(offset)
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Era {
    Common,
    Before,
}

struct Date {
    year: i64,
    month: i64,
    day: i64,
}

impl Date {
    /// Days since 2000-01-01 in the proleptic Gregorian calendar, which PostgreSQL uses for all of time.
    fn days(&self, era: Era) -> Option<i64> {
        if self.year == 0 || !(1..=12).contains(&self.month) || !(1..=31).contains(&self.day) {
            return None;
        }
        // Astronomical: 1 BC is year 0. Years begin in March, so that the leap day is the last of its year.
        let year = if era == Era::Before {
            1 - self.year
        } else {
            self.year
        };
        let (year, month) = if self.month > 2 {
            (year, self.month - 3)
        } else {
            (year - 1, self.month + 9)
        };
        let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * month + 2) / 5 + self.day - 1;
        // 730,425 days lie between 0000-03-01 and 2000-01-01.
        Some(cycle * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 730_425)
    }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn skip(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    /// A number of `at_least` to `at_most` digits.
    fn number(&mut self, at_least: usize, at_most: usize) -> Option<i64> {
        let length = self
            .0
            .iter()
            .take(at_most)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if length < at_least {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(digit - b'0')),
        )
    }

    fn date(&mut self) -> Option<Date> {
        let year = self.number(4, 7)?;
        self.skip(b'-')?;
        let month = self.number(2, 2)?;
        self.skip(b'-')?;
        let day = self.number(2, 2)?;
        Some(Date { year, month, day })
    }

    /// HH:MM:SS[.ffffff] in microseconds.
    fn time(&mut self) -> Option<i64> {
        let hours = self.number(2, 2)?;
        self.skip(b':')?;
        let minutes = self.number(2, 2)?;
        self.skip(b':')?;
        let seconds = self.number(2, 2)?;
        let mut fraction = 0;
        if self.skip(b'.').is_some() {
            let before = self.0.len();
            fraction = self.number(1, 6)?;
            for _ in before - self.0.len()..6 {
                fraction *= 10;
            }
        }
        Some(((hours * 60 + minutes) * 60 + seconds) * SECOND + fraction)
    }

    /// +HH[:MM[:SS]] east of Greenwich, in microseconds.
    fn zone(&mut self) -> Option<i64> {
        let east = self.skip(b'+').is_some();
        if !east {
            self.skip(b'-')?;
        }
        let mut seconds = self.number(2, 2)? * 3600;
        if self.skip(b':').is_some() {
            seconds += self.number(2, 2)? * 60;
            if self.skip(b':').is_some() {
                seconds += self.number(2, 2)?;
            }
        }
        Some(if east {
            seconds * SECOND
        } else {
            -seconds * SECOND
        })
    }

    /// The end, perhaps with ` BC`.
    fn era(&mut self) -> Option<Era> {
        match self.0 {
            b"" => Some(Era::Common),
            b" BC" => Some(Era::Before),
            _ => None,
        }
    }
}
