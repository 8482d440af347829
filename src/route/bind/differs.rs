//! Values that each server has of its own: OIDs, places of rows, and times that a text says.

use crate::route::bind::Binder;
use crate::route::bind::calls::{Call, CallEffect};
use crate::route::bind::expressions::Place;
use crate::route::bind::scope::Scope;
use crate::route::builtin::{self, Effect};
use crate::route::key::{Values, is_certain_type};
use crate::route::merge::walk;
use crate::statement::scan::{literal_text, says_time};
use crate::statement::tree::Expr;
use crate::topology::KeyFamily;

/// Columns that every table has: where a row is on its server, and since when.
pub(super) const SYSTEM_COLUMNS: [&str; 6] = ["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// Types whose values are OIDs of named objects, which are numbered on each server by itself.
const OBJECT_TYPES: [&str; 11] = [
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// Texts whose value can reach the answer: read as a time, 'now' would be each server's own.
#[derive(Debug, Clone, Default)]
pub(crate) struct TimeTexts {
    /// Some cannot be told from others: a time word anywhere in the statement counts.
    pub(super) unseen: bool,
    pub(super) literals: Vec<usize>,
    pub(super) params: Vec<u16>,
}

impl TimeTexts {
    /// Does one of them say 'now', 'today' or the like in this execution?
    pub(crate) fn say_time(&self, values: &Values<'_>) -> bool {
        let statement = values.statement;
        let literal = |index: &usize| {
            statement.literals.get(*index).is_some_and(|literal| {
                literal_text(values.text, literal, statement.settings)
                    .map_or(true, |text| says_time(text.as_bytes()))
            })
        };
        let param = |number: &u16| {
            let given = values.params.get(*number);
            given.and_then(|param| param.bytes).is_some_and(says_time)
        };
        statement.time_words && (self.unseen || self.literals.iter().any(literal))
            || self.params.iter().any(param)
    }
}

impl Binder<'_> {
    /// Might this be text that is read as a time, and says 'now'? Not so of a constant, which is looked at when it is given,
    /// and of what is a time already.
    pub(super) fn may_say_time(&self, expr: &Expr, here: &Scope<'_>) -> bool {
        match expr {
            Expr::Literal(_) | Expr::Param(_) | Expr::String(_) | Expr::Number(_) | Expr::Null => {
                false
            }
            Expr::Function(call) => !makes_time(&call.name.name),
            Expr::Cast { data_type, expr } => !is_time(data_type) && self.may_say_time(expr, here),
            Expr::Column { .. } => {
                let family = self
                    .plain(expr, here)
                    .and_then(|node| self.nodes[node].family);
                !matches!(
                    family,
                    Some(KeyFamily::Date | KeyFamily::Timestamp | KeyFamily::TimestampTz)
                )
            }
            _ => true,
        }
    }

    /// What never reaches a merged answer: each server has its own value.
    pub(super) fn differs(&mut self, what: &str, place: Place) {
        self.calls.push(Call {
            name: what.to_owned(),
            effect: CallEffect::BuiltIn(Effect::Volatile),
            output: place == Place::Output,
        });
    }
}

/// What a value that is an object's OID is made from. As text it is the object's name, the same everywhere.
pub(super) fn object_parts(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Cast { expr, data_type } if OBJECT_TYPES.contains(&bare_type(data_type)) => {
            Some(std::slice::from_ref(&**expr))
        }
        Expr::Function(call) if call.name.name == "pg_typeof" => Some(&call.args),
        _ => None,
    }
}

/// A type that shows an object by its name.
pub(super) fn is_shown_by(data_type: &str) -> bool {
    matches!(bare_type(data_type), "text" | "varchar" | "name")
}

/// Text put together from constants: it could spell 'now' where nobody sees it. What a column gives is the row's own.
pub(super) fn is_made_text(expr: &Expr) -> bool {
    let (mut columns, mut made, mut queries) = (false, false, false);
    let mut visit = |expr: &Expr| match expr {
        Expr::Column { .. } => columns = true,
        Expr::Binary { op, .. } => made |= op.contains('|'),
        Expr::Function(call) => made |= !makes_time(&call.name.name),
        Expr::Case(_) | Expr::Field { .. } | Expr::Other(_) => made = true,
        _ => {}
    };
    walk::expression(expr, &mut visit, &mut |_| queries = true);
    (made || queries) && !columns
}

/// A function that gives a time, or a part of one, from what is no text.
fn makes_time(name: &str) -> bool {
    name.starts_with("make_")
        || name.starts_with("justify_")
        || matches!(
            name,
            "date_bin"
                | "date_part"
                | "date_trunc"
                | "extract"
                | "timezone"
                | "to_date"
                | "to_timestamp"
        )
        || builtin::effect(name) == Some(Effect::Now)
}

/// A type whose input reads the clock for 'now' and 'today'.
pub(in crate::route) fn is_time(data_type: &str) -> bool {
    let name = bare_type(data_type);
    [
        "time",
        "date",
        "tsrange",
        "tstzrange",
        "tsmultirange",
        "tstzmultirange",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// A time of day with a zone: what has none gets that of today, summer's or winter's.
pub(in crate::route) fn is_zoned_time(data_type: &str) -> bool {
    let name = bare_type(data_type);
    let zoned = name.ends_with("with time zone") && !name.starts_with("timestamp");
    name.starts_with("timetz") || zoned
}

/// A type of PostgreSQL's own whose input never reads the clock. A user's may be made of one that does.
pub(super) fn holds_no_time(data_type: &str) -> bool {
    let name = data_type.split('(').next().unwrap_or_default();
    is_certain_type(data_type) || TIMELESS.contains(&bare_type(name.trim_end()))
}

/// See [`holds_no_time`].
const TIMELESS: [&str; 34] = [
    "bool",
    "bpchar",
    "bytea",
    "cidr",
    "citext",
    "float4",
    "float8",
    "inet",
    "int2",
    "int4",
    "int4range",
    "int8",
    "int8range",
    "json",
    "jsonb",
    "jsonpath",
    "macaddr",
    "macaddr8",
    "money",
    "name",
    "numrange",
    "oid",
    "point",
    "regclass",
    "regconfig",
    "regrole",
    "regtype",
    "text",
    "tsquery",
    "tsvector",
    "uuid",
    "varbit",
    "varchar",
    "xml",
];

/// A type's name without schema, quotes and array marks.
fn bare_type(data_type: &str) -> &str {
    let name = data_type.trim_end_matches(['[', ']', ' ']);
    name.rsplit('.').next().unwrap_or(name).trim_matches('"')
}
