//! INSERT … SELECT whose rows get their keys from constants.

use super::{Case, Given, check, check_all, fill, shard_of};
use crate::route::choose::hint::RouteHint;

const SEVERAL: &str = "refuse 0A000: the statement would write on several shards (Table users: its rows belong to several shards)";
const UNKNOWN: &str = "refuse 0A000: the statement would write on several shards (Table users: its rows are on several shards and";

#[test]
fn a_constant_is_the_key_of_all_rows() {
    assert_ne!(shard_of(1), shard_of(2));
    let unknown = "refuse 0A000: the statement would write on several shards (Table posts: its rows are on several shards and";
    let apart = "refuse 0A000: the statement would write on several shards (Table posts: the key of its rows names one shard";
    check_all(&[
        (
            "INSERT INTO posts (user_id, body) SELECT 2, body FROM posts WHERE user_id = 2",
            "single {2}",
        ),
        (
            "INSERT INTO posts (body, user_id) SELECT 'x', 2",
            "single {2}",
        ),
        (
            "INSERT INTO posts (body, user_id) SELECT 'x', '2'",
            "single {2}",
        ),
        (
            "INSERT INTO posts (body, user_id) SELECT 'x', 2::bigint",
            "single {2}",
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT -2, 'x'",
            "single {-2}",
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 2, 'x' WHERE NOT EXISTS (SELECT FROM posts WHERE user_id = 2 AND body = 'x')",
            "single {2}",
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 2, tag FROM tags ORDER BY tag LIMIT 1",
            "single {2}",
        ),
        (
            "INSERT INTO posts (user_id, body) (SELECT DISTINCT 2, body FROM posts WHERE user_id = 2)",
            "single {2}",
        ),
        (
            "WITH u AS (SELECT name FROM users WHERE id = 2) INSERT INTO posts (user_id, body) SELECT 2, name FROM u RETURNING id",
            "single {2}",
        ),
        (
            "INSERT INTO users (id, name) SELECT 2, 'x' ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id, name = 'y'",
            "single {2}",
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT NULL, 'x'",
            "single s0",
        ),
        // The column that is not given has a constant default.
        ("INSERT INTO defaults (x) SELECT 5", "single {'none'}"),
        ("INSERT INTO defaults SELECT 'k'", "single {'k'}"),
        // What it reads is elsewhere, or everywhere.
        (
            "INSERT INTO posts (user_id, body) SELECT 2, body FROM posts WHERE user_id = 1",
            apart,
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 2, body FROM posts",
            apart,
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 2, theme FROM settings",
            "refuse 0A000",
        ),
        // No constant, or not surely the one that is stored.
        (
            "INSERT INTO posts (user_id, body) SELECT 2.5, 'x'",
            "refuse 0A000",
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 1 + 1, 'x'",
            unknown,
        ),
        (
            "INSERT INTO posts (user_id, body) SELECT 2, 'x' UNION SELECT 2, 'y'",
            unknown,
        ),
        (
            "INSERT INTO posts (user_id, score) SELECT 2, count(*) FROM posts WHERE user_id = 2 GROUP BY ROLLUP (1)",
            unknown,
        ),
        ("INSERT INTO labelled (code) SELECT 'abcd'", "refuse 0A000"),
        ("INSERT INTO labelled (code) SELECT 'abc'", "single {'abc'}"),
        // Behind a star nobody knows which column it is.
        (
            "INSERT INTO users (name, email, id) SELECT u.*, 2 FROM unnest('{a}'::text[]) u",
            UNKNOWN,
        ),
    ]);
    let insert = "INSERT INTO posts (user_id, body) SELECT $1, body FROM posts WHERE user_id = $1";
    check(insert, &[Given::Text("2")], "single {2}");
    check(
        insert,
        &[Given::Binary(20, 2i64.to_be_bytes().to_vec())],
        "single {2}",
    );
    let insert = "INSERT INTO posts (user_id, body) SELECT $1, $2";
    check(insert, &[Given::Text("2"), Given::Text("x")], "single {2}");
    check(
        insert,
        &[Given::Typed(1700, "2.5"), Given::Text("x")],
        "refuse 0A000",
    );
}

#[test]
fn the_elements_of_an_array_are_keys() {
    assert_ne!(shard_of(1), shard_of(2));
    check_all(&[
        (
            "INSERT INTO users (id, name) SELECT * FROM UNNEST(('{2,2}')::bigint[], ('{a,b}')::text[]) RETURNING users.id",
            "single {2}",
        ),
        (
            "INSERT INTO users (id, name) SELECT * FROM pg_catalog.unnest((ARRAY[2, 2])::bigint[], ('{a,b}')::text[])",
            "single {2}",
        ),
        (
            "INSERT INTO users (id, name) SELECT i, n FROM unnest('{a}'::text[], '{2}'::int[]) AS u (n, i) WHERE n <> 'b'",
            "single {2}",
        ),
        (
            "INSERT INTO users (id, name) SELECT u.i, 'x' FROM unnest('{2}'::bigint[]) WITH ORDINALITY AS u (i, n)",
            "single {2}",
        ),
        (
            "INSERT INTO users (id) SELECT x FROM unnest('{2}'::bigint[]) AS x",
            "single {2}",
        ),
        (
            "INSERT INTO users (id) SELECT unnest FROM unnest('{2}'::bigint[])",
            "single {2}",
        ),
        (
            "INSERT INTO users (id) SELECT x FROM unnest('{2,NULL}'::bigint[]) AS x",
            "single {2}",
        ),
        (
            "INSERT INTO users (name, id) SELECT * FROM unnest('{a}'::varchar(3)[], '{2}'::bigint[])",
            "single {2}",
        ),
        // The driver's cast in the application's.
        (
            "INSERT INTO users (id, name) SELECT * FROM UNNEST(('{2,2}'::int8[])::bigint[], ('{a,b}'::text[])::varchar(9)[])",
            "single {2}",
        ),
        (
            "INSERT INTO users (id) SELECT * FROM UNNEST(('{2}'::numeric[])::bigint[])",
            UNKNOWN,
        ),
        // No row at all.
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{}'::bigint[])",
            "single s0",
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest((ARRAY[])::bigint[])",
            "single s0",
        ),
        // Several shards.
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{1,2}'::bigint[])",
            SEVERAL,
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest((ARRAY[1, 2])::bigint[])",
            SEVERAL,
        ),
        // Another type than the key's is rounded, or nobody knows what it is.
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{2}'::numeric[])",
            UNKNOWN,
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{2}'::mine[])",
            UNKNOWN,
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{2}')",
            UNKNOWN,
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest(ARRAY[2])",
            UNKNOWN,
        ),
        (
            "INSERT INTO users (id) SELECT * FROM unnest('{x}'::bigint[])",
            "refuse 0A000",
        ),
        // An array of a composite type gives several columns.
        (
            "INSERT INTO users (name, id) SELECT * FROM unnest('{}'::home[], '{2}'::bigint[])",
            UNKNOWN,
        ),
        // Another function of that name, another column.
        (
            "INSERT INTO users (id) SELECT * FROM public.unnest('{2}'::bigint[])",
            "refuse 0A000",
        ),
        (
            "INSERT INTO users (id) SELECT * FROM generate_series('{2}'::bigint[])",
            "refuse",
        ),
        (
            "INSERT INTO users (id) SELECT y FROM unnest('{2}'::bigint[]) AS x, unnest('{1}'::bigint[]) AS y",
            UNKNOWN,
        ),
        // A column that may be NULL: a shorter array is filled up.
        (
            "INSERT INTO posts (user_id, body) SELECT * FROM unnest('{2}'::bigint[], '{a,b}'::text[])",
            "refuse 0A000: the statement would write on several shards (Table posts: its rows are on several shards and",
        ),
    ]);
    let insert = "INSERT INTO users (id, name) SELECT * FROM unnest($1::bigint[], $2::text[])";
    let names = || Given::Text("{a,b}");
    check(insert, &[Given::Text("{2,2}"), names()], "single {2}");
    check(insert, &[Given::Text("{1,2}"), names()], SEVERAL);
    check(insert, &[Given::Null, names()], "single s0");
    let mut binary: Vec<u8> = [1, 0, 20, 2, 1].map(i32::to_be_bytes).concat();
    for _ in 0..2 {
        binary.extend(8i32.to_be_bytes());
        binary.extend(2i64.to_be_bytes());
    }
    check(
        insert,
        &[Given::Binary(1016, binary), names()],
        "single {2}",
    );
}

#[test]
fn a_hint_must_agree_with_them() {
    let case = Case::new();
    let contradicts = "refuse 22023: the hint contradicts the statement's own key";
    let with = |sql, key| case.words(sql, &[], Some(RouteHint::Key(key)));
    for sql in [
        "INSERT INTO posts (user_id, body) SELECT 2, body FROM posts",
        "INSERT INTO users (id) SELECT * FROM unnest('{2,2}'::bigint[])",
    ] {
        assert_eq!(with(sql, "2"), fill("single {2}"), "{sql}");
        assert!(with(sql, "1").starts_with(contradicts), "{sql}");
    }
    // What may be NULL beside it does not matter here.
    let nullable = "INSERT INTO posts (user_id) SELECT * FROM unnest('{2}'::bigint[])";
    assert!(with(nullable, "1").starts_with(contradicts));
    let both = "INSERT INTO users (id) SELECT * FROM unnest('{1,2}'::bigint[])";
    for key in ["1", "2"] {
        assert!(with(both, key).starts_with(contradicts), "{key}");
    }
}

#[test]
fn a_type_that_another_schema_may_have_is_refused() {
    let mut case = Case::new();
    case.search_path = vec!["public".into(), "pg_catalog".into()];
    let refused = "refuse 0A000: a type that another schema than pg_catalog may have";
    for sql in [
        "INSERT INTO users (name, id) SELECT * FROM unnest('{}'::inet[], '{2}'::bigint[])",
        "INSERT INTO defaults (k) SELECT 'a '::text",
        "INSERT INTO defaults (k) VALUES ('a '::text)",
        "SELECT * FROM defaults WHERE k = 'a '::text",
        "SELECT * FROM users WHERE id = ANY ('{2}'::int8[])",
    ] {
        let found = case.words(sql, &[], None);
        assert!(found.starts_with(refused), "{sql} {found}");
    }
    for sql in [
        "SELECT * FROM users WHERE id = '2'::bigint",
        "SELECT * FROM users WHERE id = ANY ('{2}'::integer[])",
        "SELECT * FROM users WHERE id = '2'::pg_catalog.int8",
        "SELECT * FROM users WHERE id = 2 AND name = 'x'::character varying(9)",
        "SELECT * FROM users WHERE id = 2 AND now() > '2026-01-01'::timestamp(3) with time zone",
    ] {
        assert_eq!(case.words(sql, &[], None), fill("single {2}"), "{sql}");
    }
    case.search_path = vec!["pg_catalog".into(), "public".into()];
    let sql = "SELECT * FROM users WHERE id = '2'::int8";
    assert_eq!(case.words(sql, &[], None), fill("single {2}"));
}
