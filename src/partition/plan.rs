//! What is left to do for a table on a shard: partitions to make, and those that have become too old.

use crate::config::partitions::{Partitioned, Range, Span, Then, date};
use crate::config::values::TableName;
use crate::partition::bounds::Bound;
use crate::partition::calendar::{DAY, day_number};
use crate::partition::line::{Axis, Edge, before, floor, next};
use crate::partition::names::{DEFAULT, hash_suffix, partition_name, range_suffix};
use crate::partition::parent::{Child, Parent, Strategy};

/// The most partitions that a table is given at once.
pub const CREATIONS_MAX: usize = 10_000;

/// Where the table stands, as this moment has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since 1970-01-01 UTC.
    pub now: i128,
    /// The range column's greatest value, when it is an integer and there is a row.
    pub greatest: Option<i128>,
}

/// What is left to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Partitions to make, in order.
    pub create: Vec<Creation>,
    /// Partitions whose DETACH … CONCURRENTLY was cut off, and that are not too old.
    pub finalize: Vec<Child>,
    /// Partitions that have become too old; first one whose DETACH was cut off.
    pub retire: Vec<Child>,
    /// What cannot be done.
    pub problems: Vec<String>,
}

/// A partition to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// Its name.
    pub name: TableName,
    /// What it becomes a partition of: the table, or one of its partitions.
    pub of: TableName,
    /// What it takes.
    pub bound: Bound,
    /// The names of its own partitions by hash, in the order of remainders; empty when it has none.
    pub inner: Vec<TableName>,
}

/// A piece of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub lower: i128,
    /// Where it ends, without this point.
    pub upper: i128,
    /// Is it a whole cell of the grid?
    pub is_whole: bool,
}

/// The part of the line that must have partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From here.
    pub from: i128,
    /// Up to here, without this point.
    pub until: i128,
    /// What ends here or before is too old.
    pub cutoff: Option<i128>,
}

/// The first point of a declared range.
fn start(range: &Range) -> Option<i128> {
    let text = range.start.as_deref()?;
    match range.every {
        Span::Time(..) => {
            date(text).map(|(year, month, day)| day_number(year.into(), month, day) * DAY)
        }
        Span::Step(_) => text.parse().ok(),
    }
}

/// The ranges of a parent's partitions, those that are being detached too: PostgreSQL lets no other partition have theirs.
fn ranges(children: &[Child]) -> impl Iterator<Item = (Edge, Edge)> {
    children.iter().filter_map(|child| match child.bound {
        Bound::Range(lower, upper) => Some((lower, upper)),
        Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
    })
}

/// Where rows are written now: the time, or the greatest value. Not before `start`.
fn position(range: &Range, axis: Axis, moment: &Moment, children: &[Child]) -> i128 {
    let start = start(range);
    let here = if axis.is_time() {
        Some(moment.now)
    } else {
        moment.greatest.or_else(|| {
            let points = ranges(children).filter_map(|(lower, _)| lower.finite());
            points.min()
        })
    };
    let here = here.or(start).unwrap_or(0);
    start.map_or(here, |start| here.max(start))
}

/// What must have partitions: from the first there is, or `start`, to the end of the last ahead.
#[must_use]
pub fn wanted(
    declared: &Partitioned,
    range: &Range,
    axis: Axis,
    moment: &Moment,
    children: &[Child],
) -> Wanted {
    let position = position(range, axis, moment, children);
    let here = floor(position, range.every);
    let mut until = next(here, range.every);
    for _ in 0..declared.ahead {
        until = next(until, range.every);
    }
    let first = ranges(children)
        .flat_map(|(lower, upper)| [lower.finite(), upper.finite()])
        .flatten()
        .min();
    let first = first.or_else(|| start(range)).unwrap_or(here);
    let newest = if axis.is_time() {
        Some(moment.now)
    } else {
        moment
            .greatest
            .map(|greatest| in_bounds(greatest, children))
    };
    let cutoff = declared
        .retain
        .zip(newest)
        .map(|(retain, newest)| before(newest, retain));
    // The first partition may begin inside the cell of now.
    let mut from = if first <= position {
        first
    } else {
        here.max(start(range).unwrap_or(here))
    };
    if let Some(cutoff) = cutoff {
        from = from.max(floor(cutoff, range.every));
    }
    if let Some(end) = axis.end() {
        until = until.min(end);
    }
    Wanted {
        from,
        until,
        cutoff,
    }
}

/// The greatest value, as far as it tells of the others: one wrong value in a partition without an end must not make all
/// others old.
fn in_bounds(greatest: i128, children: &[Child]) -> i128 {
    let mut open = ranges(children).filter(|(_, upper)| *upper == Edge::Above);
    match open.find(|(lower, _)| *lower <= Edge::At(greatest)) {
        Some((Edge::At(lower), _)) => greatest.min(lower),
        _ => greatest,
    }
}

/// What ends here or before is too old. `None` when nothing is, or nobody knows.
#[must_use]
pub fn cutoff(
    declared: &Partitioned,
    axis: Option<Axis>,
    moment: &Moment,
    children: &[Child],
) -> Option<i128> {
    let range = declared.range.as_ref()?;
    wanted(declared, range, axis?, moment, children).cutoff
}

/// The pieces of what is wanted that no partition has, cut along the grid. `None` when they are more than a table may be given at
/// once.
#[must_use]
pub fn missing(
    every: Span,
    wanted: &Wanted,
    taken: impl Iterator<Item = (Edge, Edge)>,
) -> Option<Vec<Piece>> {
    let mut taken: Vec<(Edge, Edge)> = taken.collect();
    taken.sort_unstable();
    taken.push((Edge::At(wanted.until), Edge::Above));
    let mut pieces = Vec::new();
    let mut at = wanted.from;
    for (lower, upper) in taken {
        // Up to where this one begins.
        let free = match lower {
            Edge::Below => wanted.from,
            Edge::At(lower) => lower.min(wanted.until),
            Edge::Above => wanted.until,
        };
        while at < free {
            let cell = floor(at, every);
            let end = next(cell, every);
            let piece = Piece {
                lower: at,
                upper: end.min(free),
                is_whole: at == cell && end <= free,
            };
            at = piece.upper;
            if wanted.cutoff.is_some_and(|cutoff| piece.upper <= cutoff) {
                continue;
            }
            if pieces.len() == CREATIONS_MAX {
                return None;
            }
            pieces.push(piece);
        }
        match upper {
            Edge::Below => {}
            Edge::At(upper) => at = at.max(upper),
            Edge::Above => break,
        }
    }
    Some(pieces)
}

/// Up to where rows can be written from the position on, without a gap and without a default partition. `None` when not even
/// there.
#[must_use]
pub fn horizon(position: i128, children: &[Child]) -> Option<Edge> {
    let able = children.iter().filter(|child| !child.is_detaching);
    let mut taken: Vec<(Edge, Edge)> = able
        .filter_map(|child| match child.bound {
            Bound::Range(lower, upper) => Some((lower, upper)),
            Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
        })
        .collect();
    taken.sort_unstable();
    let mut reached = None;
    for (lower, upper) in taken {
        let here = reached.unwrap_or(Edge::At(position));
        if lower <= here && here < upper {
            reached = Some(upper);
        }
    }
    reached
}

/// Where rows of a table are written now, for [`horizon`]. `None` when it has no ranges.
#[must_use]
pub fn position_of(
    declared: &Partitioned,
    axis: Option<Axis>,
    moment: &Moment,
    children: &[Child],
) -> Option<i128> {
    let range = declared.range.as_ref()?;
    Some(position(range, axis?, moment, children))
}

/// What is left to do for a table whose key fits its declaration; `axis` is its line.
#[must_use]
pub fn plan(declared: &Partitioned, axis: Option<Axis>, parent: &Parent, moment: &Moment) -> Plan {
    let mut plan = Plan::default();
    for child in &parent.children {
        if let Bound::Other(text) = &child.bound {
            let why = format!(
                "partition {} has a bound that Keyway cannot read: {text}",
                child.name
            );
            return Plan {
                problems: vec![why],
                ..Plan::default()
            };
        }
    }
    match (&declared.range, axis) {
        (Some(range), Some(axis)) => {
            plan_ranges(&mut plan, declared, (range, axis), parent, moment)
        }
        _ => plan_hashes(&mut plan, declared, parent),
    }
    plan
}

fn plan_ranges(
    plan: &mut Plan,
    declared: &Partitioned,
    (range, axis): (&Range, Axis),
    parent: &Parent,
    moment: &Moment,
) {
    let wanted = wanted(declared, range, axis, moment, &parent.children);
    match missing(range.every, &wanted, ranges(&parent.children)) {
        None => plan.problems.push(format!(
            "more than {CREATIONS_MAX} partitions are missing between {} and {}; widen `every`, or detach the oldest partition",
            axis.text(wanted.from),
            axis.text(wanted.until)
        )),
        Some(pieces) => {
            for piece in pieces {
                let suffix = range_suffix(piece.lower, range.every, piece.is_whole);
                match suffix {
                    Some(suffix) => plan.create.push(range_creation(declared, axis, &parent.name, &piece, &suffix)),
                    None => plan.problems.push(format!("a partition from {} cannot be named; make it by hand", axis.text(piece.lower))),
                }
            }
        }
    }
    let has_default = parent
        .children
        .iter()
        .any(|child| child.bound == Bound::Default);
    if declared.default && !has_default {
        plan.create.push(Creation {
            name: beside(&parent.name, DEFAULT),
            of: parent.name.clone(),
            bound: Bound::Default,
            inner: Vec::new(),
        });
    }
    for child in &parent.children {
        let upper = match child.bound {
            Bound::Range(_, upper) => upper.finite(),
            Bound::Hash { .. } | Bound::Default | Bound::Other(_) => None,
        };
        let is_old = upper
            .zip(wanted.cutoff)
            .is_some_and(|(upper, cutoff)| upper <= cutoff);
        if is_old {
            plan.retire.push(child.clone());
        } else if child.is_detaching {
            plan.finalize.push(child.clone());
        } else {
            plan_inner(plan, declared, parent, child);
        }
    }
    plan.retire.sort_by_key(|child| {
        let lower = match child.bound {
            Bound::Range(lower, _) => lower,
            Bound::Hash { .. } | Bound::Default | Bound::Other(_) => Edge::Above,
        };
        (!child.is_detaching, lower)
    });
}

/// A partition for a piece of a table, with its own by hash where they are declared.
#[must_use]
pub fn range_creation(
    declared: &Partitioned,
    axis: Axis,
    table: &TableName,
    piece: &Piece,
    suffix: &str,
) -> Creation {
    let modulus = declared.hash.as_ref().map_or(0, |hash| hash.modulus.into());
    let inner = (0..modulus).map(|remainder| {
        beside(
            table,
            &format!("{suffix}{}", hash_suffix(remainder, modulus)),
        )
    });
    Creation {
        name: beside(table, suffix),
        of: table.clone(),
        bound: Bound::Range(axis.edge(piece.lower), axis.edge(piece.upper)),
        inner: inner.collect(),
    }
}

/// A partition of `table` with this end of its name.
fn beside(table: &TableName, suffix: &str) -> TableName {
    TableName {
        schema: table.schema.clone(),
        name: partition_name(&table.name, suffix),
    }
}

/// Partitions by hash that are missing in a partition by range. One that is divided otherwise is respected.
fn plan_inner(plan: &mut Plan, declared: &Partitioned, parent: &Parent, child: &Child) {
    let (Some(hash), Some(inner)) = (&declared.hash, &child.inner) else {
        return;
    };
    let own = inner.columns.iter().map(Option::as_deref);
    let is_declared = inner.strategy == Strategy::Hash
        && own.eq(hash.columns.iter().map(|column| Some(column.as_str())))
        && moduli(&inner.bounds).all(|modulus| modulus == u32::from(hash.modulus));
    if is_declared {
        // A partition that was given its name by Keyway: theirs begin as it does.
        let end = child.name.name.strip_prefix(parent.name.name.as_str());
        let name = |suffix: &str| match end {
            Some(end) => beside(&parent.name, &format!("{end}{suffix}")),
            None => beside(&child.name, suffix),
        };
        missing_hashes(plan, &child.name, &inner.bounds, hash.modulus.into(), name);
    }
}

fn moduli(bounds: &[Bound]) -> impl Iterator<Item = u32> {
    bounds.iter().filter_map(|bound| match bound {
        Bound::Hash { modulus, .. } => Some(*modulus),
        Bound::Range(..) | Bound::Default | Bound::Other(_) => None,
    })
}

fn plan_hashes(plan: &mut Plan, declared: &Partitioned, parent: &Parent) {
    let Some(hash) = &declared.hash else {
        return;
    };
    let detaching = parent.children.iter().filter(|child| child.is_detaching);
    plan.finalize.extend(detaching.cloned());
    let wanted = u32::from(hash.modulus);
    let bounds: Vec<Bound> = parent
        .children
        .iter()
        .map(|child| child.bound.clone())
        .collect();
    if let Some(found) = moduli(&bounds).find(|modulus| *modulus != wanted) {
        plan.problems.push(format!(
            "it has partitions of modulus {found}, and modulus {wanted} is declared; PostgreSQL cannot change it, so declare {found}"
        ));
        return;
    }
    missing_hashes(plan, &parent.name, &bounds, wanted, |suffix| {
        beside(&parent.name, suffix)
    });
}

fn missing_hashes(
    plan: &mut Plan,
    of: &TableName,
    bounds: &[Bound],
    modulus: u32,
    name: impl Fn(&str) -> TableName,
) {
    for remainder in 0..modulus {
        let bound = Bound::Hash { modulus, remainder };
        if !bounds.contains(&bound) {
            plan.create.push(Creation {
                name: name(&hash_suffix(remainder, modulus)),
                of: of.clone(),
                bound,
                inner: Vec::new(),
            });
        }
    }
}

/// What becomes of a partition for which `intended` was written down when it was detached, and `declared` is said now: the milder.
#[must_use]
pub fn milder(intended: Then, declared: Then) -> Then {
    let harm = |then| match then {
        Then::Detach => 0,
        Then::Archive => 1,
        Then::Drop => 2,
    };
    if harm(declared) < harm(intended) {
        declared
    } else {
        intended
    }
}
