//! A partition's bound as PostgreSQL prints it (`pg_get_expr(relpartbound)`).

use crate::partition::line::{Axis, Edge};

/// What a partition takes of its parent's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// From the first edge up to the second, without it.
    Range(Edge, Edge),
    /// Rows whose hash leaves this remainder.
    Hash {
        /// Divided by this.
        modulus: u32,
        /// From 0.
        remainder: u32,
    },
    /// What no other takes.
    Default,
    /// Another kind, as it was printed.
    Other(String),
}

impl Bound {
    /// Reads a bound of a parent whose range column, if it has one, is `axis`.
    #[must_use]
    pub fn read(text: &str, axis: Option<Axis>) -> Self {
        let other = || Self::Other(text.to_owned());
        if text == "DEFAULT" {
            return Self::Default;
        }
        if let Some(rest) = text.strip_prefix("FOR VALUES WITH ") {
            return hash(rest).unwrap_or_else(other);
        }
        axis.and_then(|axis| range(text.strip_prefix("FOR VALUES FROM ")?, axis))
            .unwrap_or_else(other)
    }
}

/// `(modulus 4, remainder 0)`
fn hash(text: &str) -> Option<Bound> {
    let (modulus, remainder) = inside(text)?.split_once(", ")?;
    Some(Bound::Hash {
        modulus: modulus.strip_prefix("modulus ")?.parse().ok()?,
        remainder: remainder.strip_prefix("remainder ")?.parse().ok()?,
    })
}

/// `('2026-01-01') TO ('2026-02-01')`
fn range(text: &str, axis: Axis) -> Option<Bound> {
    let (lower, upper) = text.split_once(" TO ")?;
    let edge = |text| match inside(text)? {
        "MINVALUE" => Some(Edge::Below),
        "MAXVALUE" => Some(Edge::Above),
        value => {
            let quoted = value
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''));
            axis.read(quoted.unwrap_or(value)).map(Edge::At)
        }
    };
    Some(Bound::Range(edge(lower)?, edge(upper)?))
}

fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('(')?.strip_suffix(')')
}
