use super::{
    Collation, Finish, Fold, FunctionKind, Planned, Refusal, Source, Types, Window, WindowError,
    plan_finish,
};
use crate::statement::parse::parse;
use crate::statement::scan::{ScanSettings, restore, scan, shape};
use crate::statement::tree::{Expr, From, Item, Name, Select, Statement};
use crate::wire::error::ClientError;

/// Tables of the tests: `t` and `u`, sharded by `k`, and a reference table `r`. `s` is text in the database's collation, `c`
/// is text under C, `d` text under a nondeterministic collation.
const TABLES: &[(&str, &[&str])] = &[
    ("t", &["k", "id", "g", "x", "s", "c", "d"]),
    ("u", &["k", "y"]),
    ("r", &["code", "name"]),
];

/// A binder that is just good enough for them.
struct TestTypes {
    database_is_c: bool,
    schema_known: bool,
}

impl TestTypes {
    /// The tables of a block: what they are called, and their columns.
    fn tables<'a>(&self, select: &'a Select) -> Vec<(&'a str, &'static [&'static str])> {
        fn collect<'a>(from: &'a From, tables: &mut Vec<(&'a str, &'static [&'static str])>) {
            match from {
                From::Table { name, alias, .. } => {
                    let columns = TABLES
                        .iter()
                        .find(|(table, _)| *table == name.name)
                        .map_or(&[][..], |(_, columns)| columns);
                    tables.push((alias.as_ref().unwrap_or(&name.name), columns));
                }
                From::Join { left, right, .. } => {
                    collect(left, tables);
                    collect(right, tables);
                }
                From::Subquery { .. } | From::Function { .. } => {}
            }
        }
        let mut tables = Vec::new();
        for from in &select.from {
            collect(from, &mut tables);
        }
        tables
    }

    fn columns(&self, select: &Select, table: Option<&str>) -> Option<Vec<&'static str>> {
        let tables = self
            .tables(select)
            .into_iter()
            .filter(|(name, _)| table.is_none_or(|table| table == *name));
        self.schema_known.then(|| {
            tables
                .flat_map(|(_, columns)| columns.iter().copied())
                .collect()
        })
    }
}

impl Types for TestTypes {
    fn distributes(&self, select: &Select) -> bool {
        self.tables(select)
            .iter()
            .any(|(_, columns)| columns.contains(&"k"))
    }

    fn key_is_covered(&self, select: &Select, columns: &[&Expr], stars: &[&Item]) -> bool {
        let is_key = |expr: &&Expr| matches!(expr, Expr::Column { name, .. } if name == "k");
        let has_key = |star: &&Item| self.star_has_column(select, star, "k") == Some(true);
        columns.iter().any(is_key) || stars.iter().any(has_key)
    }

    fn collation(&self, _: &Select, column: &Expr) -> Collation {
        match column {
            Expr::Column { name, .. } if name == "d" => Collation::Unknown,
            Expr::Column { name, .. }
                if matches!(name.as_str(), "s" | "name") && !self.database_is_c =>
            {
                Collation::Deterministic
            }
            _ => Collation::C,
        }
    }

    fn database_collation_is_c(&self) -> bool {
        self.database_is_c
    }

    fn deterministic(&self) -> bool {
        false
    }

    fn has_input_column(&self, select: &Select, name: &str) -> Option<bool> {
        self.columns(select, None)
            .map(|columns| columns.contains(&name))
    }

    fn star_has_column(&self, select: &Select, star: &Item, name: &str) -> Option<bool> {
        let table = match star {
            Item::QualifiedStar(table) => table.last().map(String::as_str),
            _ => None,
        };
        self.columns(select, table)
            .map(|columns| columns.contains(&name))
    }

    fn function(&self, name: &Name) -> FunctionKind {
        match name.name.as_str() {
            "count" | "sum" | "min" | "max" | "avg" | "string_agg" | "row_number" => {
                FunctionKind::BuiltinAggregate
            }
            "my_agg" => FunctionKind::Aggregate,
            "mine" => FunctionKind::Plain,
            "whose" => FunctionKind::Unknown,
            _ => FunctionKind::Builtin,
        }
    }

    fn is_local_column(&self, select: &Select, column: &Expr) -> Option<bool> {
        let Expr::Column { qualifier, name } = column else {
            return None;
        };
        qualifier
            .is_empty()
            .then(|| self.has_input_column(select, name))
            .flatten()
    }
}

const TYPES: TestTypes = TestTypes {
    database_is_c: false,
    schema_known: true,
};

const SETTINGS: ScanSettings = ScanSettings {
    standard_conforming_strings: true,
};

/// Plans a statement; the shards' text has its literals back.
fn plan_with(sql: &str, types: &TestTypes) -> Result<(Planned, String), Refusal> {
    let statements = scan(sql, SETTINGS).unwrap();
    let shape = shape(sql, &statements[0]);
    let Ok(Statement::Query(query)) = parse(&shape, statements[0].verb) else {
        panic!("not a query: {sql}")
    };
    let planned = plan_finish(&query, types, &shape)?;
    let text = planned.text_shape.as_deref().unwrap_or(&shape);
    let text = restore(text, sql, &statements[0]);
    Ok((planned, text))
}

fn plan(sql: &str) -> (Finish, String) {
    let (planned, text) =
        plan_with(sql, &TYPES).unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"));
    (planned.finish, text)
}

/// What the finish does, in words.
fn told(finish: &Finish) -> String {
    let mut words = Vec::new();
    if let Some(groups) = &finish.groups {
        let keys: Vec<String> = groups
            .keys
            .iter()
            .map(|key| key.column.to_string())
            .collect();
        let columns: Vec<&str> = groups
            .columns
            .iter()
            .map(|fold| match fold {
                Fold::First => "first",
                Fold::Count => "count",
                Fold::Sum => "sum",
                Fold::Min { text_is_c: false } => "min",
                Fold::Min { text_is_c: true } => "min c",
                Fold::Max { text_is_c: false } => "max",
                Fold::Max { text_is_c: true } => "max c",
            })
            .collect();
        words.push(format!(
            "group by [{}] into [{}]",
            keys.join(", "),
            columns.join(", ")
        ));
    }
    match finish.distinct {
        Some(distinct) if distinct.text_by_bytes => words.push("distinct".to_owned()),
        Some(_) => words.push("distinct without text".to_owned()),
        None => {}
    }
    let keys: Vec<String> = finish
        .order
        .iter()
        .map(|key| {
            let source = match &key.source {
                Source::Visible(column) => format!("{column}"),
                Source::VisibleFromEnd(column) => format!("end-{column}"),
                Source::Hidden(column) => format!("hidden {column}"),
                Source::Named(name) => name.clone(),
                Source::NamedOrHidden(name, column) => format!("{name} or hidden {column}"),
            };
            let direction = if key.descending { " desc" } else { "" };
            let nulls = match (key.descending, key.nulls_first) {
                (true, false) => " nulls last",
                (false, true) => " nulls first",
                _ => "",
            };
            let text = if key.text_is_c { "" } else { " no text" };
            format!("{source}{direction}{nulls}{text}")
        })
        .collect();
    if !keys.is_empty() {
        words.push(format!("order by {}", keys.join(", ")));
    }
    if finish.hidden > 0 {
        words.push(format!("hide {}", finish.hidden));
    }
    words.join("; ")
}

/// The statement is finished as told, from its own text.
fn check(sql: &str, expected: &str) {
    let (finish, text) = plan(sql);
    assert_eq!(told(&finish), expected, "{sql}");
    assert_eq!(text, sql);
}

/// The statement is finished as told, from another text.
fn check_text(sql: &str, expected: &str, expected_text: &str) {
    let (finish, text) = plan(sql);
    assert_eq!(told(&finish), expected, "{sql}");
    assert_eq!(text, expected_text, "{sql}");
}

fn refuse(sql: &str, reason: &str) {
    match plan_with(sql, &TYPES) {
        Ok((planned, _)) => panic!("{sql} is planned: {}", told(&planned.finish)),
        Err(refusal) => {
            assert!(refusal.reason.contains(reason), "{sql}: {refusal:?}");
            assert!(!refusal.hint.is_empty());
        }
    }
}

#[test]
fn plain_rows_are_concatenated() {
    check("SELECT * FROM t", "");
    check("SELECT id, lower(s) FROM t WHERE x > 7", "");
    check("SELECT t.*, u.y FROM t JOIN u USING (k) WHERE s = 'a'", "");
    check("(SELECT id FROM t)", "");
    check("SELECT id, mine(x) FROM t", "");
    check("SELECT id, generate_series(1, 3) FROM t", "");
    check("SELECT FROM t", "");
}

#[test]
fn what_no_finish_handles_is_refused() {
    refuse("SELECT id FROM t FOR UPDATE", "FOR UPDATE");
    refuse(
        "SELECT id FROM t ORDER BY id FETCH FIRST 3 ROWS WITH TIES",
        "WITH TIES",
    );
    refuse(
        "SELECT id, row_number() OVER (ORDER BY id) FROM t",
        "window",
    );
    refuse("SELECT id, count(*) OVER () FROM t", "window");
    refuse(
        "SELECT id FROM t ORDER BY count(*) OVER (PARTITION BY g)",
        "window",
    );
    refuse("SELECT id, x FROM t WINDOW w AS (ORDER BY id)", "window");
    refuse(
        "SELECT g, count(*) FROM t GROUP BY ROLLUP (g)",
        "GROUPING SETS",
    );
    refuse(
        "SELECT g, count(*) FROM t GROUP BY GROUPING SETS ((g), ())",
        "GROUPING SETS",
    );
    refuse("SELECT id INTO x FROM t", "SELECT INTO");
    refuse("SELECT code FROM r", "shard by shard");
    refuse("SELECT whose(id) FROM t", "could be an aggregate");
    refuse(
        "SELECT id FROM t ORDER BY whose(id)",
        "could be an aggregate",
    );
    refuse("VALUES (1), (2)", "VALUES");
    refuse(
        "SELECT DISTINCT ON (g) g, id FROM t ORDER BY g, id",
        "DISTINCT ON",
    );
    refuse(
        "(SELECT id FROM t ORDER BY id LIMIT 3) ORDER BY id DESC LIMIT 2",
        "parenthesised",
    );
}

#[test]
fn output_names_come_first_in_order_by() {
    check(
        "SELECT id, x FROM t ORDER BY x, id DESC",
        "order by x, id desc",
    );
    check(
        "SELECT id, x AS id2 FROM t ORDER BY id2 DESC NULLS LAST",
        "order by id2 desc nulls last",
    );
    // The alias, although t has a column x.
    check(
        "SELECT id AS x FROM t ORDER BY x NULLS FIRST",
        "order by x nulls first",
    );
    // Inside an expression it is the input column.
    check_text(
        "SELECT id AS x FROM t ORDER BY x + 0",
        "order by hidden 0 no text; hide 1",
        "SELECT id AS x, x + 0 AS \"__keyway_0\" FROM t ORDER BY x + 0",
    );
    check("SELECT * FROM t ORDER BY id", "order by id");
    check(
        "SELECT t.* FROM t JOIN u USING (k) ORDER BY id",
        "order by id",
    );
    check("SELECT id, x FROM t ORDER BY 2, 1", "order by 1, 0");
    check("SELECT *, x FROM t ORDER BY 3", "order by 2 no text");
    check("(SELECT id FROM t) ORDER BY id", "order by id");
    check("(SELECT id FROM t ORDER BY id)", "order by id");
}

#[test]
fn keys_that_are_not_selected_are_hidden_columns() {
    check_text(
        "SELECT id FROM t ORDER BY x DESC, g",
        "order by hidden 0 desc, hidden 1; hide 2",
        "SELECT id, x AS \"__keyway_0\", g AS \"__keyway_1\" FROM t ORDER BY x DESC, g",
    );
    check_text(
        "SELECT t.id FROM t JOIN u USING (k) ORDER BY u.y",
        "order by hidden 0; hide 1",
        "SELECT t.id, u.y AS \"__keyway_0\" FROM t JOIN u USING (k) ORDER BY u.y",
    );
    check_text(
        "SELECT u.* FROM t JOIN u USING (k) ORDER BY id",
        "order by hidden 0; hide 1",
        "SELECT u.*, id AS \"__keyway_0\" FROM t JOIN u USING (k) ORDER BY id",
    );
    // Literals come back in both places.
    check_text(
        "SELECT id FROM t ORDER BY x % 7, s || 'x' COLLATE \"C\", id",
        "order by hidden 0 no text, hidden 1 no text, id; hide 2",
        "SELECT id, x % 7 AS \"__keyway_0\", s || 'x' COLLATE \"C\" AS \"__keyway_1\" FROM t ORDER BY x % 7, s || 'x' COLLATE \"C\", id",
    );
    check_text("SELECT FROM t WHERE x = 1", "", "SELECT FROM t WHERE x = 1");
    // An empty select list has no place for a hidden column: the parser says so.
    let sql = "SELECT FROM t ORDER BY x";
    let statements = scan(sql, SETTINGS).unwrap();
    assert!(parse(&shape(sql, &statements[0]), statements[0].verb).is_err());
}

#[test]
fn selected_expressions_are_found_again() {
    check(
        "SELECT lower(s) FROM t ORDER BY lower(s)",
        "order by 0 no text",
    );
    check("SELECT *, -x FROM t ORDER BY -x", "order by end-0 no text");
    check("SELECT x AS v, id FROM t ORDER BY x", "order by 0");
    check("SELECT t.x AS v FROM t ORDER BY t.x", "order by 0");
}

#[test]
fn names_that_only_postgresql_knows_wait_for_the_row_description() {
    // lower(s) is called lower, coalesce(…) coalesce; neither is an input column.
    check(
        "SELECT lower(s) FROM t ORDER BY lower",
        "order by lower no text",
    );
    let unknown = TestTypes {
        schema_known: false,
        ..TYPES
    };
    let (planned, _) = plan_with("SELECT * FROM t ORDER BY id", &unknown).unwrap();
    assert_eq!(told(&planned.finish), "order by id");
    // It could be the cast's type that names the column.
    check_text(
        "SELECT CASE WHEN x > 1 THEN g ELSE k END FROM t ORDER BY x",
        "order by x or hidden 0 no text; hide 1",
        "SELECT CASE WHEN x > 1 THEN g ELSE k END, x AS \"__keyway_0\" FROM t ORDER BY x",
    );
}

#[test]
fn text_is_ordered_by_bytes_only_where_that_is_the_collation() {
    check("SELECT s, c FROM t ORDER BY s, c", "order by s no text, c");
    check_text(
        "SELECT id FROM t ORDER BY s COLLATE \"C\", s COLLATE \"de_DE\", s COLLATE mine.\"C\"",
        "order by hidden 0, hidden 1 no text, hidden 2 no text; hide 3",
        "SELECT id, s COLLATE \"C\" AS \"__keyway_0\", s COLLATE \"de_DE\" AS \"__keyway_1\", s COLLATE mine.\"C\" AS \"__keyway_2\" \
         FROM t ORDER BY s COLLATE \"C\", s COLLATE \"de_DE\", s COLLATE mine.\"C\"",
    );
    let c = TestTypes {
        database_is_c: true,
        ..TYPES
    };
    let order = |sql| told(&plan_with(sql, &c).unwrap().0.finish);
    assert_eq!(
        order("SELECT s, lower(s) AS l FROM t ORDER BY s, l"),
        "order by s, l"
    );
    assert_eq!(
        order("SELECT lower(d) AS l FROM t ORDER BY l"),
        "order by l no text"
    );
    assert_eq!(
        order("SELECT lower(s COLLATE \"en_US\") AS l FROM t ORDER BY l"),
        "order by l no text"
    );
    assert_eq!(
        order("SELECT (SELECT max(u.y) FROM u) AS l FROM t ORDER BY l"),
        "order by l no text"
    );
}

#[test]
fn constants_are_no_keys() {
    for key in [
        "$1",
        "NULL",
        "TRUE",
        "'a'",
        "-1",
        "'a'::text",
        "1.5",
        "7",
        "0",
    ] {
        assert!(
            plan_with(&format!("SELECT id FROM t ORDER BY {key}"), &TYPES).is_err(),
            "{key}"
        );
        assert!(
            plan_with(&format!("SELECT id FROM t GROUP BY {key}"), &TYPES).is_err(),
            "{key}"
        );
    }
}

#[test]
fn a_parameter_keeps_the_place_that_gives_its_type() {
    check_text(
        "SELECT id FROM t ORDER BY x <-> $1",
        "order by hidden 0 no text; hide 1",
        "SELECT id, x <-> $1 AS \"__keyway_0\" FROM t ORDER BY x <-> $1",
    );
    refuse(
        "SELECT id FROM t WHERE id = $1 ORDER BY x + $1",
        "parameter",
    );
    check_text(
        "SELECT id FROM t WHERE id = $1 ORDER BY x + $11",
        "order by hidden 0 no text; hide 1",
        "SELECT id, x + $11 AS \"__keyway_0\" FROM t WHERE id = $1 ORDER BY x + $11",
    );
}

#[test]
fn limits_are_pushed_with_the_offset_added() {
    check("SELECT id FROM t ORDER BY id LIMIT 10", "order by id");
    check("SELECT id FROM t ORDER BY id LIMIT $1", "order by id");
    check(
        "SELECT id FROM t ORDER BY id FETCH FIRST 3 ROWS ONLY",
        "order by id",
    );
    check_text(
        "SELECT id FROM t ORDER BY id LIMIT 10 OFFSET 5",
        "order by id",
        "SELECT id FROM t ORDER BY id LIMIT least(9223372036854775807, (10)::int8::numeric + coalesce((5)::int8, 0))::int8",
    );
    check_text(
        "SELECT id FROM t LIMIT $1 OFFSET $2",
        "",
        "SELECT id FROM t LIMIT least(9223372036854775807, ($1)::int8::numeric + coalesce(($2)::int8, 0))::int8",
    );
    check_text(
        "SELECT id FROM t ORDER BY id OFFSET 50",
        "order by id",
        "SELECT id FROM t ORDER BY id ",
    );
    check_text(
        "SELECT id FROM t ORDER BY id OFFSET $1",
        "order by id",
        "SELECT id FROM t ORDER BY id LIMIT nullif(coalesce(($1)::int8, 0)::numeric, coalesce(($1)::int8, 0)::numeric)::int8",
    );
    check_text(
        "SELECT id FROM t LIMIT ALL OFFSET 1",
        "",
        "SELECT id FROM t ",
    );
    check("SELECT id FROM t LIMIT NULL", "");
    refuse("SELECT id FROM t LIMIT 2+1", "LIMIT is an expression");
    refuse(
        "SELECT id FROM t OFFSET (SELECT 1)",
        "OFFSET is an expression",
    );
    refuse("SELECT id FROM t LIMIT -1", "LIMIT is an expression");
    refuse(
        "SELECT id FROM t LIMIT $1::text::int",
        "LIMIT is an expression",
    );
}

#[test]
fn groups_are_never_limited_on_the_shards() {
    check_text(
        "SELECT g, count(*) FROM t GROUP BY g ORDER BY 2 DESC LIMIT 2",
        "group by [0] into [first, count]; order by 1 desc no text",
        "SELECT g, count(*) FROM t GROUP BY g ORDER BY 2 DESC ",
    );
    // The parameters are still there, so that PostgreSQL knows them.
    check_text(
        "SELECT count(*) FROM t LIMIT $2 OFFSET $1",
        "group by [] into [count]",
        "SELECT count(*) FROM t LIMIT nullif(coalesce(($2)::int8, 0)::numeric + coalesce(($1)::int8, 0)::numeric, \
         coalesce(($2)::int8, 0)::numeric + coalesce(($1)::int8, 0)::numeric)::int8",
    );
}

#[test]
fn windows_are_postgresqls() {
    #[derive(Debug, PartialEq)]
    enum Refused {
        Window(WindowError),
        Value,
    }
    impl std::convert::From<WindowError> for Refused {
        fn from(error: WindowError) -> Self {
            Self::Window(error)
        }
    }
    let window = |sql: &str, limit: Option<i64>, offset: Option<i64>| {
        plan(sql).0.window(|expr| match expr {
            Expr::Param(1) => Ok(limit),
            Expr::Param(2) => Ok(offset),
            _ => Err(Refused::Value),
        })
    };
    let sql = "SELECT id FROM t LIMIT $1 OFFSET $2";
    assert_eq!(
        window(sql, Some(3), Some(4)),
        Ok(Window {
            offset: 4,
            limit: Some(3)
        })
    );
    assert_eq!(
        window(sql, None, None),
        Ok(Window {
            offset: 0,
            limit: None
        })
    );
    assert_eq!(
        window(sql, Some(-1), Some(-1)),
        Err(Refused::Window(WindowError::NegativeOffset))
    );
    assert_eq!(
        window(sql, Some(-1), None),
        Err(Refused::Window(WindowError::NegativeLimit))
    );
    assert_eq!(
        window("SELECT id FROM t LIMIT $1::int", Some(9), None),
        Ok(Window {
            offset: 0,
            limit: Some(9)
        })
    );
    assert_eq!(
        window("SELECT id FROM t", None, None),
        Ok(Window::default())
    );
    assert_eq!(WindowError::NegativeLimit.sqlstate().code(), "2201W");
    assert_eq!(WindowError::NegativeOffset.sqlstate().code(), "2201X");
}

#[test]
fn distinct_rows_are_told_apart_here() {
    check("SELECT DISTINCT g FROM t", "distinct");
    check(
        "SELECT DISTINCT s, lower(s) FROM t ORDER BY s DESC LIMIT 3",
        "distinct; order by s desc no text",
    );
    check("SELECT DISTINCT d FROM t", "distinct without text");
    check("SELECT DISTINCT d COLLATE \"C\" FROM t", "distinct");
    check("SELECT DISTINCT lower(d) FROM t", "distinct without text");
    check(
        "SELECT DISTINCT x + 1 AS v FROM t ORDER BY v",
        "distinct; order by v no text",
    );
    check(
        "SELECT DISTINCT x AS v FROM t ORDER BY x",
        "distinct; order by 0",
    );
    // PostgreSQL refuses it; with a hidden column it would not.
    refuse("SELECT DISTINCT g FROM t ORDER BY x", "SELECT DISTINCT");
    refuse(
        "SELECT DISTINCT x + 1 FROM t ORDER BY x + 1",
        "SELECT DISTINCT",
    );
    // The key is among the columns: equal rows are on one shard.
    check("SELECT DISTINCT k, g FROM t", "");
    check("SELECT DISTINCT * FROM t", "");
    check(
        "SELECT DISTINCT ON (k) k, id FROM t ORDER BY k, id DESC",
        "order by k, id desc",
    );
    check_text(
        "SELECT DISTINCT ON (k) id FROM t ORDER BY k, x LIMIT 3",
        "order by hidden 0, hidden 1; hide 2",
        "SELECT DISTINCT ON (k) id, k AS \"__keyway_0\", x AS \"__keyway_1\" FROM t ORDER BY k, x LIMIT 3",
    );
    check("SELECT DISTINCT ON (k) * FROM t ORDER BY k", "order by k");
    // k is an output column here, and not the key.
    refuse(
        "SELECT DISTINCT ON (k) g AS k FROM t ORDER BY k",
        "DISTINCT ON",
    );
}

#[test]
fn whole_aggregates_are_put_together() {
    check(
        "SELECT count(*), sum(x), min(id), max(id) FROM t",
        "group by [] into [count, sum, min c, max c]",
    );
    check(
        "SELECT count(x) FILTER (WHERE x > 1), 'a' FROM t",
        "group by [] into [count, first]",
    );
    check(
        "SELECT min(s), max(c), min(lower(c)) FROM t",
        "group by [] into [min, max c, min]",
    );
    check("SELECT min(DISTINCT x) FROM t", "group by [] into [min c]");
    check(
        "SELECT count(*) FROM t ORDER BY max(x)",
        "group by [] into [count]",
    );
    check(
        "SELECT pg_catalog.count(*) FROM t",
        "group by [] into [count]",
    );
    check(
        "SELECT count(*)::int, CAST(count(x) AS smallint) FROM t",
        "group by [] into [count, count]",
    );
    refuse("SELECT sum(x)::bigint FROM t", "inside an expression");
    refuse("SELECT count(*)::text FROM t", "inside an expression");
    refuse("SELECT count(DISTINCT x) FROM t", "count(DISTINCT");
    refuse("SELECT sum(DISTINCT x) FROM t", "sum(DISTINCT");
    refuse("SELECT avg(x) FROM t", "avg");
    refuse("SELECT string_agg(s, ',') FROM t", "string_agg");
    refuse("SELECT my_agg(x) FROM t", "my_agg");
    refuse("SELECT mine.count(x) FROM t", "count");
    refuse("SELECT count(*) + 1 FROM t", "inside an expression");
    refuse("SELECT coalesce(sum(x), 0) FROM t", "inside an expression");
    refuse("SELECT sum(x) / count(*) FROM t", "inside an expression");
    refuse("SELECT count(*) FROM t HAVING count(*) > 1", "HAVING");
    refuse("SELECT 1 FROM t HAVING true", "HAVING");
    refuse("SELECT DISTINCT count(*) FROM t", "DISTINCT");
    refuse("SELECT count(*), generate_series(1, 2) FROM t", "set");
    refuse("SELECT count(*), mine(1) FROM t", "set");
    refuse(
        "SELECT g, count(*) FROM t GROUP BY 2",
        "GROUP BY names an aggregate",
    );
}

#[test]
fn groups_are_put_together_by_their_keys() {
    check(
        "SELECT g, count(*) FROM t GROUP BY g",
        "group by [0] into [first, count]",
    );
    check("SELECT g FROM t GROUP BY g", "group by [0] into [first]");
    check(
        "SELECT count(*), g AS v FROM t GROUP BY v",
        "group by [1] into [count, first]",
    );
    check(
        "SELECT g % 2, count(*) FROM t GROUP BY 1 ORDER BY 1",
        "group by [0] into [first, count]; order by 0 no text",
    );
    check(
        "SELECT g, count(*) AS n FROM t GROUP BY g ORDER BY n DESC, g",
        "group by [0] into [first, count]; order by n desc no text, g",
    );
    check_text(
        "SELECT count(*) FROM t GROUP BY g",
        "group by [1] into [count, first]; hide 1",
        "SELECT count(*), g AS \"__keyway_0\" FROM t GROUP BY g",
    );
    // Two literals are two placeholders: not provably the same expression.
    check_text(
        "SELECT g % 2, count(*) FROM t GROUP BY g % 2",
        "group by [2] into [first, count, first]; hide 1",
        "SELECT g % 2, count(*), g % 2 AS \"__keyway_0\" FROM t GROUP BY g % 2",
    );
    check_text(
        "SELECT date_trunc('day', x), sum(id) FROM t GROUP BY date_trunc('day', x) ORDER BY sum(id) DESC, max(g) LIMIT 3",
        "group by [2] into [first, sum, first, max c]; order by 1 desc no text, hidden 1 no text; hide 2",
        "SELECT date_trunc('day', x), sum(id), date_trunc('day', x) AS \"__keyway_0\", max(g) AS \"__keyway_1\" \
         FROM t GROUP BY date_trunc('day', x) ORDER BY sum(id) DESC, max(g) ",
    );
    // GROUP BY takes the input column x, ORDER BY the output column x.
    check_text(
        "SELECT g AS x, count(*) FROM t GROUP BY x, g ORDER BY x",
        "group by [2, 0] into [first, count, first]; order by x; hide 1",
        "SELECT g AS x, count(*), x AS \"__keyway_0\" FROM t GROUP BY x, g ORDER BY x",
    );
    refuse(
        "SELECT g, count(*) FROM t GROUP BY g HAVING count(*) < 6",
        "HAVING",
    );
    refuse("SELECT g, avg(x) FROM t GROUP BY g", "avg");
    refuse(
        "SELECT g, count(*) FROM t GROUP BY g ORDER BY count(*) + 1",
        "inside an expression",
    );
    refuse("SELECT * FROM t GROUP BY id", "*");
    refuse("SELECT g, unnest(x) FROM t GROUP BY g", "set");
    refuse("SELECT DISTINCT count(*) FROM t GROUP BY g", "DISTINCT");
    let unknown = TestTypes {
        schema_known: false,
        ..TYPES
    };
    let refused = plan_with("SELECT count(*), g AS v FROM t GROUP BY v", &unknown).unwrap_err();
    assert!(refused.reason.contains("could mean"));
    assert!(plan_with("SELECT g, count(*) FROM t GROUP BY g", &unknown).is_ok());
}

#[test]
fn groups_that_include_the_key_are_whole_on_their_shards() {
    check("SELECT k, avg(x) FROM t GROUP BY k HAVING count(*) > 1", "");
    check(
        "SELECT k, count(DISTINCT x) AS n FROM t GROUP BY k, g ORDER BY n DESC LIMIT 3",
        "order by n desc no text",
    );
    check_text(
        "SELECT coalesce(sum(x), 0) FROM t GROUP BY 1 + x, k ORDER BY sum(x) OFFSET 2",
        "order by hidden 0 no text; hide 1",
        "SELECT coalesce(sum(x), 0), sum(x) AS \"__keyway_0\" FROM t GROUP BY 1 + x, k ORDER BY sum(x) ",
    );
    // The counts are not told apart by the key.
    check("SELECT DISTINCT count(*) FROM t GROUP BY k", "distinct");
    refuse("SELECT avg(x) FROM t GROUP BY k + 0", "avg");
}

#[test]
fn aggregates_in_subqueries_belong_where_their_columns_do() {
    check(
        "SELECT id, (SELECT count(*) FROM u WHERE u.k = t.k) FROM t",
        "",
    );
    check(
        "SELECT id, (SELECT max(u.y) FROM u WHERE u.k = t.k) FROM t",
        "",
    );
    check(
        "SELECT id, (SELECT max(y) FROM u WHERE u.k = t.k) FROM t",
        "",
    );
    check(
        "SELECT id, EXISTS (SELECT 1 FROM u WHERE u.k = t.k) FROM t",
        "",
    );
    refuse(
        "SELECT (SELECT sum(t.x) FROM u) FROM t",
        "belong to the outer query",
    );
    refuse(
        "SELECT (SELECT 1 FROM u WHERE u.y = sum(x)) FROM t",
        "belong to the outer query",
    );
    refuse(
        "SELECT (SELECT 1 FROM u ORDER BY (SELECT max(t.x) FROM r)) FROM t",
        "belong to the outer query",
    );
    refuse(
        "SELECT id FROM t ORDER BY (SELECT sum(t.x) FROM u)",
        "belong to the outer query",
    );
}

#[test]
fn unions_are_rows_of_all_arms() {
    check("SELECT id FROM t UNION ALL SELECT y FROM u", "");
    check(
        "SELECT id FROM t UNION ALL SELECT y FROM u ORDER BY id LIMIT 3",
        "order by id",
    );
    check(
        "SELECT id, c FROM t UNION ALL (SELECT y, s FROM t) ORDER BY 1, c DESC",
        "order by 0, c desc no text",
    );
    check("SELECT id FROM t UNION SELECT y FROM u", "distinct");
    check(
        "SELECT d FROM t UNION SELECT s FROM t",
        "distinct without text",
    );
    check(
        "SELECT id FROM t UNION (SELECT y FROM u UNION ALL SELECT x FROM t) ORDER BY id",
        "distinct; order by id",
    );
    check(
        "SELECT DISTINCT id FROM t UNION SELECT y FROM u",
        "distinct",
    );
    check(
        "SELECT k, count(*) FROM t GROUP BY k UNION ALL SELECT k, y FROM u",
        "",
    );
    refuse(
        "SELECT id FROM t UNION ALL SELECT code FROM r",
        "shard by shard",
    );
    refuse("SELECT id FROM t EXCEPT SELECT y FROM u", "EXCEPT");
    refuse("SELECT id FROM t INTERSECT SELECT y FROM u", "INTERSECT");
    refuse(
        "(SELECT id FROM t UNION SELECT y FROM u) UNION ALL SELECT x FROM t",
        "set operations",
    );
    refuse(
        "SELECT DISTINCT id FROM t UNION ALL SELECT y FROM u",
        "DISTINCT",
    );
    refuse(
        "SELECT count(*) FROM t UNION ALL SELECT y FROM u",
        "aggregates",
    );
    refuse(
        "(SELECT id FROM t LIMIT 1) UNION ALL SELECT y FROM u",
        "ORDER BY, LIMIT",
    );
    refuse("SELECT id FROM t UNION ALL VALUES (1)", "VALUES");
}

#[test]
fn hidden_names_cannot_be_meant() {
    check_text(
        "SELECT id FROM t ORDER BY x, \"__keyway_0\"",
        "order by hidden 0, hidden 1; hide 2",
        "SELECT id, x AS \"__keyway__0\", \"__keyway_0\" AS \"__keyway__1\" FROM t ORDER BY x, \"__keyway_0\"",
    );
}

#[test]
fn a_with_stays_in_the_text() {
    check_text(
        "WITH w AS (SELECT 1) SELECT id FROM t ORDER BY x",
        "order by hidden 0; hide 1",
        "WITH w AS (SELECT 1) SELECT id, x AS \"__keyway_0\" FROM t ORDER BY x",
    );
}

#[test]
fn a_finish_can_be_told_to_people() {
    let tell = |sql: &str| plan(sql).0.to_string();
    assert_eq!(tell("SELECT id FROM t"), "concatenate");
    assert_eq!(
        tell("SELECT *, x + 1 AS v FROM t ORDER BY v DESC, x + 2, 1 LIMIT 7 OFFSET 3"),
        "merge, order by [v desc, hidden 1, 1], offset, limit, drop 1 hidden"
    );
    assert_eq!(
        tell("SELECT DISTINCT g FROM t LIMIT 3"),
        "concatenate, distinct, limit"
    );
    assert_eq!(
        tell("SELECT g, count(*), min(x) FROM t GROUP BY g ORDER BY 2 DESC NULLS LAST"),
        "group by [1] into [first, count, min], order by [2 desc nulls last]"
    );
}

#[test]
fn a_query_inside_another_statement_is_cut_out() {
    let sql = "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY x LIMIT 3 OFFSET 2";
    let statements = scan(sql, SETTINGS).unwrap();
    let shape = shape(sql, &statements[0]);
    let Ok(Statement::Declare {
        query, query_span, ..
    }) = parse(&shape, statements[0].verb)
    else {
        panic!("not a DECLARE");
    };
    let planned = plan_finish(&query, &TYPES, &shape).unwrap();
    let text = planned.query_text(&shape, &query_span).unwrap();
    assert!(text.starts_with("SELECT id, x AS"), "{text}");
    assert!(text.ends_with("::int8"), "{text}");
    let own = Planned {
        text_shape: None,
        ..planned
    };
    assert_eq!(
        own.query_text(&shape, &query_span),
        Some(&shape[query_span])
    );
}
