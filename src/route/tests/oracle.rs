//! Random joins and predicates over small tables, evaluated by hand: what the chosen shards answer together must be
//! what one server with all the rows answers. Refusals are right by definition; that not all is refused is checked.

use super::{Case, shard_of};
use crate::route::plan::PlanKind;
use std::fmt::Write;

type Value = Option<i64>;
/// k and x.
type Row = [Value; 2];

/// xorshift64*: the same cases in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn value(&mut self) -> Value {
        let value = self.below(7);
        if value == 6 {
            None
        } else {
            i64::try_from(value).ok()
        }
    }
}

#[derive(Debug, Clone)]
enum Term {
    Column(usize, usize),
    Constant(Value),
    Next(usize, usize),
}

#[derive(Debug, Clone)]
enum Test {
    Compare(&'static str, Term, Term),
    In(Term, Vec<Value>, bool),
    Any(Term, Vec<Value>),
    IsNull(Term, bool),
    Rows(usize, Value, Value),
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Exists(Box<Inner>, bool),
    InQuery(Term, Box<Inner>, bool),
}

/// A subquery over one table with its own alias.
#[derive(Debug, Clone)]
struct Inner {
    alias: usize,
    reference: bool,
    column: usize,
    /// `max(column)` instead of the column.
    folded: bool,
    filter: Option<Test>,
}

#[derive(Debug, Clone)]
enum Source {
    Table {
        alias: usize,
        reference: bool,
    },
    /// A derived table: its columns swapped, grouped by k, or filtered.
    Derived {
        alias: usize,
        swapped: bool,
        grouped: bool,
        inner: Inner,
    },
    Join(&'static str, Box<Source>, Box<Source>, Test),
}

/// Rows of t and of the reference table r.
#[derive(Debug, Clone)]
struct Data {
    t: Vec<Row>,
    r: Vec<Row>,
}

/// The rows in scope, by alias.
type Scope = Vec<Option<Row>>;

impl Term {
    fn random(dice: &mut Dice, aliases: &[usize]) -> Self {
        let alias = aliases[usize::try_from(dice.below(aliases.len() as u64)).unwrap()];
        // Mostly keys.
        let column = usize::from(dice.one_in(3));
        match dice.below(8) {
            0 => Self::Next(alias, column),
            1 | 2 => Self::Constant(dice.value()),
            _ => Self::Column(alias, column),
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Column(alias, column) => format!("a{alias}.{}", ["k", "x"][*column]),
            Self::Constant(value) => constant(*value),
            Self::Next(alias, column) => format!("a{alias}.{} + 1", ["k", "x"][*column]),
        }
    }

    fn value(&self, scope: &Scope) -> Value {
        let at = |alias: usize, column: usize| scope[alias].and_then(|row| row[column]);
        match self {
            Self::Column(alias, column) => at(*alias, *column),
            Self::Constant(value) => *value,
            Self::Next(alias, column) => at(*alias, *column).map(|value| value + 1),
        }
    }
}

fn constant(value: Value) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

fn list(values: &[Value]) -> String {
    values
        .iter()
        .map(|value| constant(*value))
        .collect::<Vec<_>>()
        .join(", ")
}

impl Test {
    fn random(dice: &mut Dice, aliases: &[usize], free: &mut usize, depth: u32) -> Self {
        let many = |dice: &mut Dice, free: &mut usize| {
            (0..2 + dice.below(2))
                .map(|_| Self::random(dice, aliases, free, depth - 1))
                .collect()
        };
        let kind = if depth == 0 {
            4 + dice.below(9)
        } else {
            dice.below(16)
        };
        match kind {
            0 | 1 => Self::And(many(dice, free)),
            2 => Self::Or(many(dice, free)),
            3 => Self::Not(Box::new(Self::random(dice, aliases, free, depth - 1))),
            4..=6 => {
                let (a, b) = (Term::random(dice, aliases), Term::random(dice, aliases));
                Self::Compare("=", a, b)
            }
            7 => {
                let a = Term::random(dice, aliases);
                Self::Compare("=", a, Term::Constant(dice.value()))
            }
            8 => {
                let op = ["<", "<>", ">="][usize::try_from(dice.below(3)).unwrap()];
                Self::Compare(op, Term::random(dice, aliases), Term::random(dice, aliases))
            }
            9 => {
                let values = (0..1 + dice.below(2)).map(|_| dice.value()).collect();
                Self::In(Term::random(dice, aliases), values, dice.one_in(3))
            }
            10 => Self::IsNull(Term::random(dice, aliases), dice.one_in(2)),
            11 => {
                let values = (0..dice.below(3)).map(|_| dice.value()).collect();
                Self::Any(Term::random(dice, aliases), values)
            }
            12 => {
                let alias = aliases[usize::try_from(dice.below(aliases.len() as u64)).unwrap()];
                Self::Rows(alias, dice.value(), dice.value())
            }
            13 | 14 => Self::Exists(
                Box::new(Inner::random(dice, aliases, free, depth)),
                dice.one_in(3),
            ),
            _ => {
                let term = Term::random(dice, aliases);
                Self::InQuery(
                    term,
                    Box::new(Inner::random(dice, aliases, free, depth)),
                    dice.one_in(3),
                )
            }
        }
    }

    fn sql(&self) -> String {
        let joined = |parts: &[Test], word: &str| {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| format!("({})", part.sql()))
                .collect();
            parts.join(word)
        };
        match self {
            Self::Compare(op, a, b) => format!("{} {op} {}", a.sql(), b.sql()),
            Self::In(term, values, not) => {
                format!(
                    "{} {}IN ({})",
                    term.sql(),
                    if *not { "NOT " } else { "" },
                    list(values)
                )
            }
            Self::Any(term, values) => format!("{} = ANY('{{{}}}')", term.sql(), list(values)),
            Self::IsNull(term, not) => {
                format!("{} IS {}NULL", term.sql(), if *not { "NOT " } else { "" })
            }
            Self::Rows(alias, k, x) => {
                format!(
                    "(a{alias}.k, a{alias}.x) = ({}, {})",
                    constant(*k),
                    constant(*x)
                )
            }
            Self::And(parts) => joined(parts, " AND "),
            Self::Or(parts) => joined(parts, " OR "),
            Self::Not(inner) => format!("NOT ({})", inner.sql()),
            Self::Exists(inner, not) => {
                format!("{}EXISTS ({})", if *not { "NOT " } else { "" }, inner.sql())
            }
            Self::InQuery(term, inner, not) => {
                format!(
                    "{} {}IN ({})",
                    term.sql(),
                    if *not { "NOT " } else { "" },
                    inner.sql()
                )
            }
        }
    }

    /// SQL's three truth values.
    fn truth(&self, scope: &Scope, data: &Data) -> Option<bool> {
        let equal = |a: Value, b: Value| Some(a? == b?);
        let any = |value: Value, values: &mut dyn Iterator<Item = Value>| {
            let mut unknown = false;
            for other in values {
                match equal(value, other) {
                    Some(true) => return Some(true),
                    Some(false) => {}
                    None => unknown = true,
                }
            }
            if unknown { None } else { Some(false) }
        };
        let negate = |truth: Option<bool>, not: bool| truth.map(|truth| truth != not);
        match self {
            Self::Compare(op, a, b) => {
                let (a, b) = (a.value(scope)?, b.value(scope)?);
                Some(match *op {
                    "=" => a == b,
                    "<" => a < b,
                    "<>" => a != b,
                    _ => a >= b,
                })
            }
            Self::In(term, values, not) => {
                negate(any(term.value(scope), &mut values.iter().copied()), *not)
            }
            Self::Any(term, values) => any(term.value(scope), &mut values.iter().copied()),
            Self::IsNull(term, not) => Some(term.value(scope).is_none() != *not),
            Self::Rows(alias, k, x) => {
                let row = scope[*alias].unwrap_or([None, None]);
                match (equal(row[0], *k), equal(row[1], *x)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                }
            }
            Self::And(parts) => {
                let truths: Vec<_> = parts.iter().map(|part| part.truth(scope, data)).collect();
                if truths.contains(&Some(false)) {
                    Some(false)
                } else if truths.contains(&None) {
                    None
                } else {
                    Some(true)
                }
            }
            Self::Or(parts) => {
                let truths: Vec<_> = parts.iter().map(|part| part.truth(scope, data)).collect();
                if truths.contains(&Some(true)) {
                    Some(true)
                } else if truths.contains(&None) {
                    None
                } else {
                    Some(false)
                }
            }
            Self::Not(inner) => negate(inner.truth(scope, data), true),
            Self::Exists(inner, not) => Some(inner.values(scope, data).is_empty() == *not),
            Self::InQuery(term, inner, not) => negate(
                any(
                    term.value(scope),
                    &mut inner.values(scope, data).into_iter(),
                ),
                *not,
            ),
        }
    }
}

impl Inner {
    fn random(dice: &mut Dice, aliases: &[usize], free: &mut usize, depth: u32) -> Self {
        let alias = *free;
        *free += 1;
        let mut inside = aliases.to_vec();
        inside.push(alias);
        // Mostly correlated.
        let filter = match dice.below(4) {
            0 => None,
            1 if depth > 0 => Some(Test::random(dice, &inside, free, depth - 1)),
            _ if aliases.is_empty() => Some(Test::random(dice, &inside, free, 0)),
            _ => {
                let outer = aliases[usize::try_from(dice.below(aliases.len() as u64)).unwrap()];
                Some(Test::Compare(
                    "=",
                    Term::Column(alias, 0),
                    Term::Column(outer, usize::from(dice.one_in(4))),
                ))
            }
        };
        let column = usize::from(dice.one_in(4));
        Self {
            alias,
            reference: dice.one_in(5),
            column,
            folded: dice.one_in(6),
            filter,
        }
    }

    fn sql(&self) -> String {
        let column = format!("a{}.{}", self.alias, ["k", "x"][self.column]);
        let item = if self.folded {
            format!("max({column})")
        } else {
            column
        };
        let table = if self.reference { "r" } else { "t" };
        format!(
            "SELECT {item} FROM {table} a{}{}",
            self.alias,
            filter_sql(self.filter.as_ref())
        )
    }

    fn rows(&self, scope: &Scope, data: &Data) -> Vec<Row> {
        let rows = if self.reference { &data.r } else { &data.t };
        let kept = |row: &&Row| {
            let mut inside = scope.clone();
            inside[self.alias] = Some(**row);
            self.filter
                .as_ref()
                .is_none_or(|filter| filter.truth(&inside, data) == Some(true))
        };
        rows.iter().filter(kept).copied().collect()
    }

    fn values(&self, scope: &Scope, data: &Data) -> Vec<Value> {
        let values = self
            .rows(scope, data)
            .into_iter()
            .map(|row| row[self.column]);
        if self.folded {
            vec![values.flatten().max()]
        } else {
            values.collect()
        }
    }
}

fn filter_sql(filter: Option<&Test>) -> String {
    filter
        .map(|filter| format!(" WHERE {}", filter.sql()))
        .unwrap_or_default()
}

impl Source {
    fn random(dice: &mut Dice, free: &mut usize, depth: u32) -> Self {
        if depth > 0 && !dice.one_in(3) {
            let left = Self::random(dice, free, depth - 1);
            let right = Self::random(dice, free, depth - 1);
            let mut aliases = left.aliases();
            aliases.extend(right.aliases());
            let kind = [
                "JOIN",
                "LEFT JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
                "JOIN",
                "LEFT JOIN",
            ][usize::try_from(dice.below(6)).unwrap()];
            // Mostly key to key.
            let (a, b) = (left.aliases(), right.aliases());
            let keys = Test::Compare(
                "=",
                Term::Column(a[usize::try_from(dice.below(a.len() as u64)).unwrap()], 0),
                Term::Column(b[usize::try_from(dice.below(b.len() as u64)).unwrap()], 0),
            );
            let on = match dice.below(4) {
                0 => Test::random(dice, &aliases, free, 1),
                1 => Test::And(vec![keys, Test::random(dice, &aliases, free, 1)]),
                _ => keys,
            };
            return Self::Join(kind, Box::new(left), Box::new(right), on);
        }
        let alias = *free;
        *free += 1;
        if dice.one_in(4) {
            let inner = Inner {
                folded: false,
                ..Inner::random(dice, &[], free, 1)
            };
            return Self::Derived {
                alias,
                swapped: dice.one_in(3),
                grouped: dice.one_in(2),
                inner,
            };
        }
        Self::Table {
            alias,
            reference: dice.one_in(3),
        }
    }

    fn aliases(&self) -> Vec<usize> {
        match self {
            Self::Table { alias, .. } | Self::Derived { alias, .. } => vec![*alias],
            Self::Join(_, left, right, _) => {
                let mut aliases = left.aliases();
                aliases.extend(right.aliases());
                aliases
            }
        }
    }

    fn sql(&self) -> String {
        match self {
            Self::Table { alias, reference } => {
                format!("{} a{alias}", if *reference { "r" } else { "t" })
            }
            Self::Derived {
                alias,
                swapped,
                grouped,
                inner,
            } => {
                let i = inner.alias;
                let (k, x) = if *grouped {
                    ("k".to_owned(), format!("max(a{i}.x)"))
                } else {
                    ("k".to_owned(), format!("a{i}.x"))
                };
                let items = if *swapped {
                    format!("{x} AS k, a{i}.{k} AS x")
                } else {
                    format!("a{i}.{k} AS k, {x} AS x")
                };
                let group = if *grouped {
                    format!(" GROUP BY a{i}.k")
                } else {
                    String::new()
                };
                let table = if inner.reference { "r" } else { "t" };
                format!(
                    "(SELECT {items} FROM {table} a{i}{}{group}) a{alias}",
                    filter_sql(inner.filter.as_ref())
                )
            }
            Self::Join(kind, left, right, on) => {
                let right_sql = right.sql();
                let right_sql = if matches!(**right, Self::Join(..)) {
                    format!("({right_sql})")
                } else {
                    right_sql
                };
                format!("{} {kind} {right_sql} ON {}", left.sql(), on.sql())
            }
        }
    }

    fn rows(&self, width: usize, data: &Data) -> Vec<Scope> {
        let single = |alias: usize, row: Row| {
            let mut scope: Scope = vec![None; width];
            scope[alias] = Some(row);
            scope
        };
        match self {
            Self::Table { alias, reference } => {
                let rows = if *reference { &data.r } else { &data.t };
                rows.iter().map(|row| single(*alias, *row)).collect()
            }
            Self::Derived {
                alias,
                swapped,
                grouped,
                inner,
            } => {
                let mut rows = inner.rows(&vec![None; width], data);
                if *grouped {
                    let mut keys: Vec<Value> = rows.iter().map(|row| row[0]).collect();
                    keys.sort_unstable();
                    keys.dedup();
                    let max = |key: Value| {
                        rows.iter()
                            .filter(|row| row[0] == key)
                            .filter_map(|row| row[1])
                            .max()
                    };
                    rows = keys.iter().map(|key| [*key, max(*key)]).collect();
                }
                rows.into_iter()
                    .map(|row| single(*alias, if *swapped { [row[1], row[0]] } else { row }))
                    .collect()
            }
            Self::Join(kind, left, right, on) => {
                let (a, b) = (left.rows(width, data), right.rows(width, data));
                let mut joined = Vec::new();
                let mut matched = vec![false; b.len()];
                for left in &a {
                    let mut found = false;
                    for (index, right) in b.iter().enumerate() {
                        let both: Scope = left.iter().zip(right).map(|(l, r)| l.or(*r)).collect();
                        if on.truth(&both, data) == Some(true) {
                            found = true;
                            matched[index] = true;
                            joined.push(both);
                        }
                    }
                    if !found && matches!(*kind, "LEFT JOIN" | "FULL JOIN") {
                        joined.push(left.clone());
                    }
                }
                if matches!(*kind, "RIGHT JOIN" | "FULL JOIN") {
                    joined.extend(
                        b.iter()
                            .zip(matched)
                            .filter(|(_, matched)| !matched)
                            .map(|(row, _)| row.clone()),
                    );
                }
                joined
            }
        }
    }
}

/// The answer as a sorted list of rows.
fn answer(source: &Source, filter: Option<&Test>, width: usize, data: &Data) -> Vec<Vec<Row>> {
    let aliases = source.aliases();
    let mut rows: Vec<Vec<Row>> = source
        .rows(width, data)
        .into_iter()
        .filter(|scope| filter.is_none_or(|filter| filter.truth(scope, data) == Some(true)))
        .map(|scope| {
            aliases
                .iter()
                .map(|alias| scope[*alias].unwrap_or([None, None]))
                .collect()
        })
        .collect();
    rows.sort_unstable();
    rows
}

#[test]
fn chosen_shards_answer_as_one_server() {
    let case = Case::new();
    let (mut single, mut scatter, mut any, mut refused) = (0, 0, 0, 0);
    for seed in 1..=1_500u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut free = 0;
        let joins = u32::try_from(dice.below(3)).unwrap();
        let source = Source::random(&mut dice, &mut free, joins);
        let aliases = source.aliases();
        let filter = (!dice.one_in(8)).then(|| {
            let test = Test::random(&mut dice, &aliases, &mut free, 2);
            let last = Term::Column(aliases[aliases.len() - 1], 0);
            match dice.below(8) {
                // A key, so that much is single.
                0..=3 => {
                    let key = Term::Column(aliases[0], 0);
                    let pin = Test::Compare("=", key, Term::Constant(dice.value()));
                    Test::And(vec![pin, test])
                }
                // An anti-join, when the last one is on the nullable side.
                4 => Test::And(vec![Test::IsNull(last, false), test]),
                5 => Test::IsNull(last, false),
                _ => test,
            }
        });
        let sql = format!(
            "SELECT * FROM {}{}",
            source.sql(),
            filter_sql(filter.as_ref())
        );
        let Ok(plan) = case.plan(&sql, &[], None) else {
            refused += 1;
            continue;
        };
        for _ in 0..2 {
            let mut rows = |count: u64| {
                (0..count)
                    .map(|_| [dice.value(), dice.value()])
                    .collect::<Vec<Row>>()
            };
            let whole = Data {
                t: rows(6),
                r: rows(2),
            };
            let on_shard = |shard: usize| Data {
                t: whole
                    .t
                    .iter()
                    .filter(|row| row[0].map_or(0, shard_of) == shard)
                    .copied()
                    .collect(),
                r: whole.r.clone(),
            };
            let expected = answer(&source, filter.as_ref(), free, &whole);
            let parts: Vec<_> = plan
                .shards
                .iter()
                .map(|shard| {
                    answer(
                        &source,
                        filter.as_ref(),
                        free,
                        &on_shard(usize::from(shard.0)),
                    )
                })
                .collect();
            let mut message = String::new();
            write!(
                message,
                "seed {seed}: {sql}\n{:?} on {}\n{whole:?}",
                plan.kind,
                case.names(&plan.shards)
            )
            .unwrap();
            if plan.kind == PlanKind::Any {
                for part in parts {
                    assert_eq!(part, expected, "{message}");
                }
            } else {
                let mut together: Vec<_> = parts.into_iter().flatten().collect();
                together.sort_unstable();
                assert_eq!(together, expected, "{message}");
            }
        }
        match plan.kind {
            PlanKind::Single => single += 1,
            PlanKind::Scatter => scatter += 1,
            PlanKind::Any | PlanKind::Broadcast => any += 1,
        }
    }
    let counts = format!("single {single}, scatter {scatter}, any {any}, refused {refused}");
    assert!(single > 150 && scatter > 150 && any > 15, "{counts}");
}
