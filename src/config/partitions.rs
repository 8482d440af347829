//! How a table is divided into PostgreSQL's partitions inside each of its shards, as the configuration or a keyspace's
//! `partitions.toml` declares it.

/// Partitions that a range parent has ahead of now, when nothing else is said.
pub const AHEAD: u32 = 3;

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
