//! What partitions are called: the table's name, and behind it where the partition begins.

use crate::config::partitions::{Span, Unit};
use crate::partition::calendar::{DAY, HOUR, SECOND, civil, iso_week};
use sha2::{Digest, Sha256};

/// Bytes of a name (NAMEDATALEN - 1).
const BYTES_MAX: usize = 63;

/// The end of the default partition's name.
pub const DEFAULT: &str = "_default";

/// The end of the name of the partition that begins at `at`. A piece that is not a whole cell of the grid is named by a finer
/// unit than the grid's, so that both can be told apart. `None` before the year 1.
#[must_use]
pub fn range_suffix(at: i128, every: Span, is_whole: bool) -> Option<String> {
    let unit = match every {
        Span::Step(_) if at < 0 => return Some(format!("_pm{}", -at)),
        Span::Step(_) => return Some(format!("_p{at}")),
        Span::Time(_, unit) => unit,
    };
    let day_number = at.div_euclid(DAY);
    let (year, month, day) = civil(day_number);
    if year < 1 {
        return None;
    }
    if !is_whole {
        return Some(piece_suffix(at, unit));
    }
    Some(match unit {
        Unit::Hour => format!(
            "_p{year:04}_{month:02}_{day:02}_{:02}",
            at.rem_euclid(DAY) / HOUR
        ),
        Unit::Day => format!("_p{year:04}_{month:02}_{day:02}"),
        Unit::Week => {
            let (year, week) = iso_week(day_number);
            format!("_p{year:04}_w{week:02}")
        }
        Unit::Month => format!("_p{year:04}_{month:02}"),
        Unit::Quarter => format!("_p{year:04}_q{}", (month - 1) / 3 + 1),
        Unit::Year => format!("_p{year:04}"),
    })
}

fn piece_suffix(at: i128, unit: Unit) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY));
    let time = at.rem_euclid(DAY);
    let minute = 60 * SECOND;
    let needed = match time {
        time if time % SECOND != 0 => 4,
        time if time % minute != 0 => 3,
        time if time % HOUR != 0 => 2,
        0 => 0,
        _ => 1,
    };
    let least = match unit {
        Unit::Hour => 2,
        Unit::Day => 1,
        Unit::Week | Unit::Month | Unit::Quarter | Unit::Year => 0,
    };
    let parts = [
        format!("_{:02}", time / HOUR),
        format!("_{:02}", time % HOUR / minute),
        format!("_{:02}", time % minute / SECOND),
        format!("_{:06}", time % SECOND),
    ];
    let shown = parts[..needed.max(least)].concat();
    format!("_p{year:04}_{month:02}_{day:02}{shown}")
}

/// The end of the name of a partition by hash: as many digits as the last has, at least two.
#[must_use]
pub fn hash_suffix(remainder: u32, modulus: u32) -> String {
    let digits = modulus.saturating_sub(1).to_string().len().max(2);
    format!("_h{remainder:0digits$}")
}

/// A partition's name. A table's name that leaves no room is cut, with a hash of the whole behind it, so that two tables that
/// begin alike have partitions of different names.
#[must_use]
pub fn partition_name(table: &str, suffix: &str) -> String {
    if table.len() + suffix.len() <= BYTES_MAX {
        return format!("{table}{suffix}");
    }
    let digest = Sha256::digest(table.as_bytes());
    let hash = format!(
        "_{:02x}{:02x}{:02x}{:02x}",
        digest[0], digest[1], digest[2], digest[3]
    );
    let mut room = BYTES_MAX.saturating_sub(suffix.len() + hash.len());
    while !table.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{hash}{suffix}", &table[..room])
}
