//! The Gregorian calendar in UTC, forwards and backwards without end, as PostgreSQL has it. Times are microseconds since
//! 1970-01-01; the year before 1 is 0.

use crate::config::partitions::Unit;

/// Microseconds of a second.
pub const SECOND: i128 = 1_000_000;

/// Microseconds of an hour.
pub const HOUR: i128 = 3_600 * SECOND;

/// Microseconds of a day.
pub const DAY: i128 = 24 * HOUR;

/// Days since 1970-01-01.
#[must_use]
pub fn day_number(year: i128, month: u8, day: u8) -> i128 {
    // Years that begin in March end with the leap day.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = i128::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i128::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day's number.
#[must_use]
pub fn civil(day_number: i128) -> (i128, u8, u8) {
    let shifted = day_number + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let small = |number: i128| u8::try_from(number).expect("at most 31");
    let day = small(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    let month = small((month_from_march + 2) % 12 + 1);
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    (year, month, day)
}

/// The length of a month in days.
#[must_use]
pub fn month_length(year: i128, month: u8) -> u8 {
    let (next_year, next_month) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    let length = day_number(next_year, next_month, 1) - day_number(year, month, 1);
    u8::try_from(length).expect("at most 31")
}

/// The ISO 8601 year and week of a day.
#[must_use]
pub fn iso_week(day_number: i128) -> (i128, u8) {
    // The week belongs to the year of its Thursday. 1970-01-01 was one.
    let thursday = day_number + 3 - (day_number + 3).rem_euclid(7);
    let (year, ..) = civil(thursday);
    let week = (thursday - self::day_number(year, 1, 1)) / 7 + 1;
    (year, u8::try_from(week).expect("at most 53"))
}

/// Where the unit that a time falls into begins.
#[must_use]
pub fn floor(at: i128, unit: Unit) -> i128 {
    let day = at.div_euclid(DAY);
    let (year, month, _) = civil(day);
    match unit {
        Unit::Hour => at - at.rem_euclid(HOUR),
        Unit::Day => day * DAY,
        Unit::Week => (day - (day + 3).rem_euclid(7)) * DAY,
        Unit::Month => day_number(year, month, 1) * DAY,
        Unit::Quarter => day_number(year, (month - 1) / 3 * 3 + 1, 1) * DAY,
        Unit::Year => day_number(year, 1, 1) * DAY,
    }
}

/// Where the unit behind the one that a time falls into begins.
#[must_use]
pub fn next(at: i128, unit: Unit) -> i128 {
    let begin = floor(at, unit);
    match unit {
        Unit::Hour => begin + HOUR,
        Unit::Day => begin + DAY,
        Unit::Week => begin + 7 * DAY,
        Unit::Month | Unit::Quarter | Unit::Year => months_later(begin, months(unit)),
    }
}

/// So many units before a time. A day that the month does not have is its last: a month before March 31 is February 28 or 29.
#[must_use]
pub fn before(at: i128, count: u32, unit: Unit) -> i128 {
    let count = i128::from(count);
    match unit {
        Unit::Hour => at - count * HOUR,
        Unit::Day => at - count * DAY,
        Unit::Week => at - count * 7 * DAY,
        Unit::Month | Unit::Quarter | Unit::Year => months_later(at, -count * months(unit)),
    }
}

fn months(unit: Unit) -> i128 {
    match unit {
        Unit::Quarter => 3,
        Unit::Year => 12,
        Unit::Hour | Unit::Day | Unit::Week | Unit::Month => 1,
    }
}

fn months_later(at: i128, months: i128) -> i128 {
    let (year, month, day) = civil(at.div_euclid(DAY));
    let all = year * 12 + i128::from(month) - 1 + months;
    let year = all.div_euclid(12);
    let month = u8::try_from(all.rem_euclid(12) + 1).expect("at most 12");
    let day = day.min(month_length(year, month));
    day_number(year, month, day) * DAY + at.rem_euclid(DAY)
}
