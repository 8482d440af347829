//! Statements that nobody thought of: made at random from a small grammar, run on both sides, answered alike or
//! refused. `KEYWAY_SEED` repeats a run; a soak makes many more.

use super::{Case, Expectation, Mode, Sessions, Step, Verdict, compare, house, plain, turn};
use crate::crowd::{Dice, is_soak, seed};

/// A table of the grammar: its key, its other integer columns, its text columns.
struct Table {
    name: &'static str,
    key: &'static str,
    numbers: &'static [&'static str],
    texts: &'static [&'static str],
    /// Keys are about 0..keys.
    keys: u64,
}

const TABLES: &[Table] = &[
    Table {
        name: "t",
        key: "k",
        numbers: &["id", "g", "x"],
        texts: &["s"],
        keys: 20,
    },
    Table {
        name: "users",
        key: "id",
        numbers: &["age"],
        texts: &["name", "country"],
        keys: 41,
    },
    Table {
        name: "posts",
        key: "user_id",
        numbers: &["id", "likes"],
        texts: &["title"],
        keys: 41,
    },
    Table {
        name: "maybes",
        key: "k",
        numbers: &["n"],
        texts: &[],
        keys: 6,
    },
];

struct Grammar {
    dice: Dice,
}

impl Grammar {
    fn one_in(&mut self, chances: u64) -> bool {
        self.dice.below(chances) == 0
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.dice.below(list.len() as u64) as usize]
    }

    fn number(&mut self, table: &Table, alias: &str) -> String {
        if self.one_in(3) {
            return format!("{alias}.{}", table.key);
        }
        let column = self.pick(table.numbers);
        format!("{alias}.{column}")
    }

    fn column(&mut self, table: &Table, alias: &str) -> String {
        if !table.texts.is_empty() && self.one_in(4) {
            let column = self.pick(table.texts);
            return format!("{alias}.{column}");
        }
        self.number(table, alias)
    }

    fn expression(&mut self, table: &Table, alias: &str) -> String {
        let column = self.column(table, alias);
        let number = self.number(table, alias);
        match self.dice.below(9) {
            0 => format!("{number} + 1"),
            1 => format!("coalesce({number}, -1)"),
            2 => format!("case when {number} > 5 then 'big' else 'small' end"),
            3 => format!("-{number}"),
            _ => column,
        }
    }

    fn key_constant(&mut self, table: &Table) -> String {
        let value = self.dice.below(table.keys);
        match self.dice.below(7) {
            0 => format!("'{value}'"),
            1 => format!("{value}::bigint"),
            2 => format!("{value}.0"),
            3 => format!("({value} + 0)"),
            _ => value.to_string(),
        }
    }

    fn predicate(&mut self, table: &Table, alias: &str, depth: u32) -> String {
        let key = format!("{alias}.{}", table.key);
        let number = self.number(table, alias);
        let value = self.dice.below(40);
        match self.dice.below(if depth == 0 { 9 } else { 15 }) {
            0 | 1 => format!("{key} = {}", self.key_constant(table)),
            2 => format!(
                "{key} in ({}, {}, {})",
                self.key_constant(table),
                self.key_constant(table),
                self.key_constant(table)
            ),
            3 => format!("{number} > {value}"),
            4 => format!(
                "{number} is {}null",
                if self.one_in(2) { "not " } else { "" }
            ),
            5 => format!("{key} between {} and {}", value / 4, value / 2),
            6 => format!("{} = {key}", self.key_constant(table)),
            7 => format!(
                "{key} = any (array[{}, {}])",
                self.dice.below(20),
                self.dice.below(20)
            ),
            8 => format!("{number} <= {value}"),
            9 | 10 => format!(
                "({} and {})",
                self.predicate(table, alias, depth - 1),
                self.predicate(table, alias, depth - 1)
            ),
            11 => format!(
                "({} or {})",
                self.predicate(table, alias, depth - 1),
                self.predicate(table, alias, depth - 1)
            ),
            12 => format!("not ({})", self.predicate(table, alias, depth - 1)),
            13 => format!("({}) is not true", self.predicate(table, alias, depth - 1)),
            _ => {
                let other = self.pick(TABLES);
                let inner = self.predicate(other, "z", 0);
                match self.dice.below(3) {
                    0 => format!(
                        "{number} in (select z.{} from {} z where {inner})",
                        other.key, other.name
                    ),
                    1 => format!(
                        "exists (select 1 from {} z where z.{} = {key} and {inner})",
                        other.name, other.key
                    ),
                    _ => format!(
                        "{number} < (select count(*) from {} z where {inner})",
                        other.name
                    ),
                }
            }
        }
    }

    /// FROM and WHERE, with the tables and their aliases.
    fn source(&mut self) -> (String, Vec<(&'static Table, &'static str)>) {
        let first = self.pick(TABLES);
        let mut tables = vec![(first, "a")];
        let mut text = format!("from {} a", first.name);
        if self.one_in(3) {
            let second = self.pick(TABLES);
            let kind = self.pick(&["join", "join", "left join", "right join", "full join"]);
            let on = if self.one_in(4) {
                format!("a.{} = b.{}", first.numbers[0], second.key)
            } else {
                format!("a.{} = b.{}", first.key, second.key)
            };
            let more = if self.one_in(4) {
                format!(" and {}", self.predicate(second, "b", 0))
            } else {
                String::new()
            };
            text.push_str(&format!(" {kind} {} b on {on}{more}", second.name));
            tables.push((second, "b"));
        }
        if !self.one_in(4) {
            let (table, alias) = *self.pick(&tables);
            text.push_str(&format!(" where {}", self.predicate(table, alias, 2)));
        }
        (text, tables)
    }

    /// A query, and whether its order is total.
    fn query(&mut self) -> (String, bool) {
        let (source, tables) = self.source();
        let any = |grammar: &mut Self| *grammar.pick(&tables);
        let mut sql;
        let columns;
        if self.one_in(3) {
            let grouped = self.dice.below(3);
            let mut list: Vec<String> = (0..grouped)
                .map(|_| {
                    let (table, alias) = any(self);
                    if self.one_in(5) {
                        self.expression(table, alias)
                    } else {
                        self.column(table, alias)
                    }
                })
                .collect();
            let keys = list.clone();
            for _ in 0..=self.dice.below(2) {
                let (table, alias) = any(self);
                let number = self.number(table, alias);
                let aggregate = self.pick(&[
                    "count(*)",
                    "count(#)",
                    "sum(#)",
                    "min(#)",
                    "max(#)",
                    "count(distinct #)",
                    "avg(#)",
                    "sum(#) + 1",
                ]);
                list.push(aggregate.replace('#', &number));
            }
            sql = format!("select {} {source}", list.join(", "));
            columns = list.len();
            if !keys.is_empty() {
                sql.push_str(&format!(" group by {}", keys.join(", ")));
                if self.one_in(4) {
                    sql.push_str(" having count(*) > 1");
                }
            }
        } else {
            let list: Vec<String> = (0..=self.dice.below(3))
                .map(|_| {
                    let (table, alias) = any(self);
                    self.expression(table, alias)
                })
                .collect();
            let distinct = if self.one_in(5) { "distinct " } else { "" };
            sql = format!("select {distinct}{} {source}", list.join(", "));
            columns = list.len();
        }
        if self.one_in(8) {
            sql = format!("with c as ({sql}) select * from c");
        } else if self.one_in(8) {
            let set = self.pick(&["union", "union all", "except", "intersect"]);
            sql = format!("{sql} {set} {sql}");
        }
        let is_ordered = !self.one_in(3);
        if is_ordered {
            let order: Vec<String> = (1..=columns)
                .map(|n| {
                    let direction = self.pick(&["", " desc", " nulls first", " desc nulls last"]);
                    format!("{n}{direction}")
                })
                .collect();
            sql.push_str(&format!(" order by {}", order.join(", ")));
            if self.one_in(3) {
                sql.push_str(&format!(" limit {}", self.dice.below(12)));
            }
            if self.one_in(5) {
                sql.push_str(&format!(" offset {}", self.dice.below(6)));
            }
        }
        (sql, is_ordered)
    }

    /// A write, and what to look at afterwards.
    fn write(&mut self) -> Vec<String> {
        let table = &TABLES[0];
        let predicate = self.predicate(table, "t", 1);
        let key = self.key_constant(table);
        let write = match self.dice.below(4) {
            0 => format!("update t set x = x + 1 where {predicate}"),
            1 => format!("delete from t where {predicate}"),
            2 => format!(
                "insert into t (id, k, x) values ({}, {key}, 1)",
                1_000 + self.dice.below(100)
            ),
            _ => format!(
                "insert into t (id, k) values (1000, {key}), (1001, {})",
                self.key_constant(table)
            ),
        };
        vec![
            write,
            "select count(*), sum(x), sum(id) from t".to_owned(),
            format!("select count(*) from t where k = {key}"),
        ]
    }
}

fn case(number: u64, sql: Vec<String>, unordered: bool) -> Case {
    Case {
        name: format!("random_{number}"),
        expectation: Expectation::Listed,
        modes: Mode::ALL.to_vec(),
        parameters: Vec::new(),
        unordered,
        autocommit: false,
        status_only: false,
        copy_fails: false,
        undescribed: false,
        error: None,
        cleanup: Vec::new(),
        steps: sql
            .into_iter()
            .map(|sql| Step { sql, input: None })
            .collect(),
    }
}

#[test]
fn soak_random_statements_are_answered_alike_or_refused() {
    let turn = turn();
    let (house, plain) = (house(), plain());
    let seed = seed();
    let mut grammar = Grammar {
        dice: Dice::new(seed),
    };
    let mut sessions = Sessions::default();
    let (mut equal, mut refused, mut failures) = (0_u32, 0_u32, Vec::new());
    let rounds = if is_soak() { 20_000 } else { 800 };
    for number in 0..rounds {
        let case = if grammar.one_in(5) {
            case(number, grammar.write(), true)
        } else {
            let (sql, is_ordered) = grammar.query();
            case(number, vec![sql], !is_ordered)
        };
        let mode = Mode::ALL[(number % 3) as usize];
        match compare(&mut sessions, &house.keyway, &plain.oracle, &case, mode) {
            Verdict::Equal => equal += 1,
            Verdict::Refused => refused += 1,
            Verdict::Different(text) if text.contains("the oracle itself says") => {
                // Not valid SQL (types that do not meet, say): the router must not make it valid, which the
                // comparison of errors in the written cases covers.
            }
            Verdict::Different(text) => {
                failures.push(format!("{}@{}: {text}", case.name, mode.name()))
            }
        }
        if failures.len() > 20 {
            break;
        }
    }
    drop(turn);
    eprintln!("{equal} statements answered alike, {refused} refused");
    assert!(
        failures.is_empty(),
        "KEYWAY_SEED={seed}: {} differ:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(
        equal > refused / 4,
        "{equal} answered, {refused} refused: the router refuses nearly everything"
    );
}

/// The grammar makes statements whose answer is determined: two plain servers agree.
#[test]
fn random_statements_are_sound() {
    let turn = turn();
    let plain = plain();
    let seed = seed();
    let mut grammar = Grammar {
        dice: Dice::new(seed),
    };
    let mut sessions = Sessions::default();
    let (mut equal, mut invalid) = (0_u32, 0_u32);
    for number in 0..400 {
        let case = if grammar.one_in(5) {
            case(number, grammar.write(), true)
        } else {
            let (sql, is_ordered) = grammar.query();
            case(number, vec![sql], !is_ordered)
        };
        match compare(
            &mut sessions,
            &plain.witness,
            &plain.oracle,
            &case,
            Mode::Simple,
        ) {
            Verdict::Equal => equal += 1,
            Verdict::Different(text) if text.contains("the oracle itself says") => invalid += 1,
            other => panic!("KEYWAY_SEED={seed}: {other:?}"),
        }
    }
    drop(turn);
    assert!(
        equal > invalid,
        "{equal} statements are valid, {invalid} are not"
    );
}
