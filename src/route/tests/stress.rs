//! Long and deep statements of every kind: each gets a plan or a refusal, on a stack as small as a worker's.

use super::Case;

/// What std::thread gives, and so what a worker has.
const WORKER_STACK: usize = 2 << 20;

/// Routes on a worker's stack.
struct Small(Case);

impl Small {
    /// Reads, routes and drops the statement; its route in words.
    fn routed(&self, sql: &str) -> String {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(WORKER_STACK)
                .spawn_scoped(scope, || self.0.words(sql, &[], None))
                .unwrap()
                .join()
                .unwrap()
        })
    }
}

/// `head`, then `link` so many times, then `tail`.
fn chain(head: &str, link: &str, tail: &str, times: usize) -> String {
    [head, &link.repeat(times), tail].concat()
}

/// `open` and `close` around `core`, so many times.
fn nest(open: &str, core: &str, close: &str, times: usize) -> String {
    [&open.repeat(times), core, &close.repeat(times)].concat()
}

/// Whatever can follow an operand, over and over.
const LINKS: &[(&str, &str)] = &[
    ("7", "::int"),
    ("'a'", " COLLATE \"C\""),
    ("'a'", " COLLATE \"C\"::text"),
    ("'a'", "::text || 'b'"),
    ("1", " + 1"),
    ("1", " - x::int"),
    ("1", " = 1"),
    ("'a'", " || 'b'"),
    ("1", " AND 1"),
    ("1", " OR 1"),
    ("k = 1", " AND k = 1"),
    ("k = 1", " OR k = 1"),
    ("k = 1", " AND x = 1 OR k = 2"),
    ("k", " IS NULL"),
    ("k", " ISNULL"),
    ("k", " NOTNULL"),
    ("k", " IS DISTINCT FROM 1"),
    ("k", " IS NOT TRUE"),
    ("k", " IN (1)"),
    ("k", " BETWEEN 1 AND 2"),
    ("k", " LIKE 'a'"),
    ("k", " AT TIME ZONE 'UTC'"),
    ("k", " = ANY ('{1}')"),
    ("k", " OPERATOR(pg_catalog.+) 1"),
    ("k", "[1]"),
    ("k", "[1:2]"),
    ("(t)", ".k"),
    ("(t)", "[1].k"),
    ("t", ".k"),
    ("1", ", 1"),
    ("1", ", k::int"),
    ("f(1)", ", f(1)"),
];

/// Whatever can stand around an operand.
const SHELLS: &[(&str, &str)] = &[
    ("(", ")"),
    ("((", ")::int)"),
    ("NOT ", ""),
    ("NOT (", ")"),
    ("- ", ""),
    ("-(", ")"),
    ("~ ", ""),
    ("1 + (", ")"),
    ("k AND (k OR ", ")"),
    ("f(", ")"),
    ("CAST(", " AS int)"),
    ("ARRAY[", "]"),
    ("ROW(", ")"),
    ("(1, ", ")"),
    ("coalesce(", ", 1)"),
    ("CASE WHEN ", " THEN 1 END"),
    ("CASE ", " WHEN 1 THEN 2 END"),
    ("EXTRACT(epoch FROM ", ")"),
    ("position('a' IN ", ")"),
    ("count(*) FILTER (WHERE ", ")"),
    ("sum(1) OVER (ORDER BY ", ")"),
    ("1 IN (", ")"),
    ("1 = ANY (", ")"),
    ("(SELECT ", ")"),
    ("(SELECT ", " FROM t)"),
    ("(SELECT 1 FROM t WHERE ", ")"),
    ("EXISTS (SELECT 1 FROM t WHERE ", ")"),
    ("k IN (SELECT k FROM t WHERE ", ")"),
    ("k = ANY (SELECT k FROM t WHERE ", ")"),
    ("ARRAY(SELECT ", ")"),
    ("(VALUES (", "))"),
];

/// Where an expression may stand.
const PLACES: &[(&str, &str)] = &[
    ("SELECT ", " FROM t"),
    ("SELECT k FROM t WHERE k = 7 AND ", ""),
];

/// Within every bound, beyond those of nests, and beyond all.
const TIMES: &[usize] = &[90, 250, 3_000];

#[test]
fn long_chains_and_deep_nests_of_expressions_are_answered_or_refused() {
    let small = Small(Case::new());
    for times in TIMES {
        for (before, behind) in PLACES {
            for (head, link) in LINKS {
                small.routed(&chain(&format!("{before}{head}"), link, behind, *times));
            }
            for (open, close) in SHELLS {
                let nested = nest(open, "k", close, *times);
                small.routed(&format!("{before}{nested}{behind}"));
            }
        }
    }
}

/// Each chain and each nest alone would be allowed.
#[test]
fn chains_inside_nests_are_answered_or_refused() {
    let small = Small(Case::new());
    let shells = [
        ("(", ")"),
        ("f(", ")"),
        ("(SELECT ", ")"),
        ("k IN (SELECT k FROM t WHERE ", ")"),
    ];
    for (head, link) in LINKS {
        for (open, close) in shells {
            for times in [30, 90] {
                let close = format!("{}{close}", link.repeat(90));
                let nested = nest(open, head, &close, times);
                small.routed(&format!("SELECT k FROM t WHERE k = 7 AND {nested}"));
            }
        }
    }
}

#[test]
fn long_chains_and_deep_nests_of_queries_are_answered_or_refused() {
    let small = Small(Case::new());
    for times in TIMES {
        for op in ["UNION", "UNION ALL", "INTERSECT", "EXCEPT"] {
            small.routed(&chain("SELECT 1", &format!(" {op} SELECT 1"), "", *times));
            let link = format!(" {op} SELECT k FROM t");
            small.routed(&chain("SELECT k FROM t", &link, "", *times));
            small.routed(&nest("(SELECT 1 ", "SELECT 1", ")", *times));
            let open = format!("(SELECT 1 {op} ");
            small.routed(&nest(&open, "SELECT 1", ")", *times));
            let close = format!(" {op} SELECT 1)");
            small.routed(&nest("(", "SELECT 1", &close, *times));
        }
        for join in [
            " JOIN t b USING (k)",
            " LEFT JOIN t b ON a.k = b.k",
            " FULL JOIN t b ON a.k = b.k",
            " CROSS JOIN t",
            " NATURAL JOIN t",
            ", t",
            ", LATERAL (SELECT 1) b",
            ", f(1)",
        ] {
            small.routed(&chain("SELECT 1 FROM t a", join, "", *times));
        }
        let numbered: String = (0..*times)
            .map(|n| format!(" LEFT JOIN t t{n} ON t{n}.k = a.k"))
            .collect();
        small.routed(&format!("SELECT 1 FROM t a{numbered} WHERE a.k = 7"));
        let tail = " ON true".repeat(*times);
        small.routed(&chain("SELECT 1 FROM t", " JOIN t", &tail, *times));
        small.routed(&nest("SELECT 1 FROM (", "SELECT 1", ") a", *times));
        small.routed(&nest("SELECT k FROM (", "SELECT k FROM t", ") a", *times));
        let joins = nest("(", "t", " JOIN t ON true)", *times);
        small.routed(&format!("SELECT 1 FROM {joins}"));
        let entries: String = (0..*times)
            .map(|n| format!("w{} AS (SELECT * FROM w{n}), ", n + 1))
            .collect();
        small.routed(&format!(
            "WITH w0 AS (SELECT 1), {entries}z AS (SELECT 1) SELECT * FROM w{times}"
        ));
        let entries: String = (0..*times)
            .map(|n| {
                format!(
                    "w{} AS (SELECT a.k FROM w{n} a JOIN w{n} b USING (k)), ",
                    n + 1
                )
            })
            .collect();
        small.routed(&format!(
            "WITH w0 AS (SELECT k FROM t), {entries}z AS (SELECT 1) SELECT * FROM w{times}"
        ));
        small.routed(&nest("WITH w AS (", "SELECT 1", ") SELECT 1", *times));
        let rows = chain("INSERT INTO t (k, x) VALUES (1, 2)", ", (1, 2)", "", *times);
        small.routed(&rows);
        let sets = chain(
            "SELECT count(*) FROM t GROUP BY ",
            "GROUPING SETS (",
            "k",
            *times,
        );
        small.routed(&(sets + &")".repeat(*times)));
        small.routed(&chain(
            "EXPLAIN ",
            "EXPLAIN ",
            "SELECT k FROM t WHERE k = 7",
            *times,
        ));
        small.routed(&chain(
            "CREATE VIEW v AS SELECT k",
            "::int",
            " FROM t",
            *times,
        ));
        small.routed(&chain(
            "CREATE TABLE n (k int CHECK (k",
            "::int",
            " > 0))",
            *times,
        ));
        small.routed(&chain("CREATE INDEX ON t ((k", "::int", "))", *times));
    }
}

#[test]
fn statements_of_an_ordinary_depth_are_routed() {
    let small = Small(Case::new());
    for sql in [
        chain("SELECT 7", "::int", " FROM t WHERE k = 7", 90),
        chain("SELECT 1", " + 1", " FROM t WHERE k = 7", 200),
        chain("SELECT k FROM t WHERE k = 7", " AND x = 1", "", 20_000),
        chain(
            "SELECT k FROM t WHERE k = 7 AND (x = 1",
            " OR x = 1",
            ")",
            20_000,
        ),
        chain(
            "SELECT k FROM t WHERE k = 7 AND x IN (1",
            ", x::int",
            ")",
            20_000,
        ),
    ] {
        let route = small.routed(&sql);
        assert!(route.starts_with("single"), "{}: {route}", &sql[..40]);
    }
}
