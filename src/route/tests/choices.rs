//! One line per rule of DESIGN §5.

use super::{Case, Given, check, check_all};
use crate::route::choose::hint::RouteHint;
use crate::route::plan::{Access, Pin};
use crate::topology::TableName;

const ALL: &str = "scatter s0,s1,s2";

#[test]
fn a_key_pins() {
    check_all(&[
        ("SELECT * FROM users WHERE id = 7", "single {7}"),
        ("SELECT * FROM users WHERE 7 = id", "single {7}"),
        (
            "SELECT * FROM users u WHERE u.id = 7 AND u.name = 'x'",
            "single {7}",
        ),
        (
            "SELECT * FROM public.users WHERE users.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE public.users.id = 7",
            "single {7}",
        ),
        ("SELECT * FROM users WHERE id = '7'", "single {7}"),
        ("SELECT * FROM users WHERE id = 7.0", "single {7}"),
        ("SELECT * FROM users WHERE id = -7", "single {-7}"),
        ("SELECT * FROM users WHERE id = 7::int", "single {7}"),
        ("SELECT * FROM users WHERE id = '7'::bigint", "single {7}"),
        (
            "SELECT * FROM users WHERE id = ('7'::int8)::bigint",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id = ANY (('{7}'::int8[])::bigint[])",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id = (7.6::numeric)::bigint",
            "scatter s0,s1,s2",
        ),
        (
            "SELECT * FROM users WHERE id = CAST('7' AS bigint)",
            "single {7}",
        ),
        ("SELECT * FROM users WHERE id IN (7)", "single {7}"),
        (
            "SELECT * FROM users WHERE id IN (7, 8, 9)",
            "scatter {7}{8}{9}",
        ),
        ("SELECT * FROM users WHERE id = ANY(ARRAY[7])", "single {7}"),
        ("SELECT * FROM users WHERE id = ANY('{7}')", "single {7}"),
        (
            "SELECT * FROM users WHERE id = ANY('{7}'::bigint[])",
            "single {7}",
        ),
        ("SELECT * FROM users WHERE id = 7 OR id = 7", "single {7}"),
        (
            "SELECT * FROM users WHERE (id = 7 AND name = 'a') OR (id = 7 AND name = 'b')",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id = 7 AND (name = 'a' OR age > 3)",
            "single {7}",
        ),
        ("SELECT * FROM users WHERE (id) = (7)", "single {7}"),
        ("SELECT count(*) FROM users WHERE id = 7", "single {7}"),
        (
            "SELECT max(age) FROM users WHERE id = 7 GROUP BY name HAVING count(*) > 1",
            "single {7}",
        ),
        ("TABLE countries", "any s0,s1,s2"),
        ("SELECT * FROM badges WHERE code = 'abc'", "single {'abc'}"),
        ("SELECT * FROM users WHERE id IS NULL", "single s0"),
        ("SELECT * FROM users WHERE id = 7 FOR UPDATE", "single {7}"),
        ("(SELECT * FROM users WHERE id = 7)", "single {7}"),
        (
            "SELECT * FROM users WHERE id = 7 ORDER BY random() LIMIT 3",
            "single {7}",
        ),
    ]);
}

#[test]
fn what_is_not_certain_does_not_pin() {
    check_all(&[
        ("SELECT * FROM users", ALL),
        ("SELECT * FROM users WHERE id = 7 OR name = 'x'", ALL),
        ("SELECT * FROM users WHERE NOT (id = 7)", ALL),
        ("SELECT * FROM users WHERE (id = 7) IS NOT TRUE", ALL),
        ("SELECT * FROM users WHERE id <> 7", ALL),
        ("SELECT * FROM users WHERE id > 7", ALL),
        ("SELECT * FROM users WHERE id + 1 = 7", ALL),
        ("SELECT * FROM users WHERE id = 7 + 1", ALL),
        ("SELECT * FROM users WHERE id = abs(7)", ALL),
        ("SELECT * FROM users WHERE id = 7::float8", ALL),
        ("SELECT * FROM users WHERE id = 7::real", ALL),
        ("SELECT * FROM users WHERE id::text = '7'", ALL),
        ("SELECT * FROM users WHERE id IN (7, 1 + 1)", ALL),
        ("SELECT * FROM users WHERE id NOT IN (7)", ALL),
        ("SELECT * FROM users WHERE id <> ANY('{7}')", ALL),
        ("SELECT * FROM users WHERE id = ALL('{7}')", ALL),
        ("SELECT * FROM users WHERE id = 'x'", ALL),
        ("SELECT * FROM users WHERE id BETWEEN 7 AND 7", ALL),
        ("SELECT * FROM users WHERE name = '7'", ALL),
        (
            "SELECT * FROM users WHERE CASE WHEN id = 7 THEN true ELSE true END",
            ALL,
        ),
        ("SELECT * FROM users WHERE coalesce(id = 7, true)", ALL),
        ("SELECT id = 7 FROM users", ALL),
        ("SELECT * FROM badges WHERE code = 'abc'::char(3)", ALL),
        (
            "SELECT * FROM badges WHERE code = 'abcdefgh'::varchar(3)",
            ALL,
        ),
        ("SELECT * FROM badges WHERE code COLLATE \"C\" = 'abc'", ALL),
        ("SELECT * FROM events WHERE day = 'today'", ALL),
        ("SELECT * FROM events WHERE day = '01/02/2024'", ALL),
        ("SELECT * FROM users WHERE id OPERATOR(public.=) 7", ALL),
        ("SELECT count(*) FILTER (WHERE id = 7) FROM users", ALL),
    ]);
}

#[test]
fn what_selects_nothing_goes_anywhere() {
    check_all(&[
        ("SELECT * FROM users WHERE id = NULL", "any s0,s1,s2"),
        ("SELECT * FROM users WHERE id = 7.5", "any s0,s1,s2"),
        (
            "SELECT * FROM users WHERE id = 99999999999999999999",
            "any s0,s1,s2",
        ),
        ("SELECT * FROM users WHERE id = ANY('{}')", "any s0,s1,s2"),
        ("SELECT * FROM users WHERE id IN (NULL)", "any s0,s1,s2"),
        ("UPDATE users SET name = 'x' WHERE id = NULL", "single s0"),
        ("DELETE FROM users WHERE id = 7.5", "single s0"),
    ]);
    // Two keys at once: no row has both.
    let both = Case::new().words("SELECT * FROM users WHERE id = 1 AND id = 2", &[], None);
    assert!(
        both.starts_with("any") || both.starts_with("single"),
        "{both}"
    );
}

#[test]
fn parameters_pin_like_literals() {
    let text = |value| Given::Text(value);
    check(
        "SELECT * FROM users WHERE id = $1",
        &[text("7")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Typed(20, "7")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Binary(23, vec![0, 0, 0, 7])],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Binary(0, vec![0, 0, 0, 0, 0, 0, 0, 7])],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Typed(1700, "7.0")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Typed(701, "7")],
        ALL,
    );
    check(
        "SELECT * FROM users WHERE id = $1",
        &[Given::Null],
        "any s0,s1,s2",
    );
    check(
        "SELECT * FROM users WHERE id = $1::int",
        &[text("7")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = $1::float8",
        &[text("7")],
        ALL,
    );
    check(
        "SELECT * FROM users WHERE id = $1::int + 1",
        &[text("7")],
        ALL,
    );
    check(
        "SELECT * FROM users WHERE id = ANY($1)",
        &[text("{7}")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = ANY($1::bigint[])",
        &[text("{7,NULL}")],
        "single {7}",
    );
    check(
        "SELECT * FROM users WHERE id = ANY($1)",
        &[Given::Typed(1016, "{7,8,9}")],
        "scatter {7}{8}{9}",
    );
    check(
        "SELECT * FROM users WHERE id = ANY($1)",
        &[Given::Typed(1022, "{7}")],
        ALL,
    );
    check(
        "SELECT * FROM users WHERE id IN ($1, $2)",
        &[text("7"), text("7")],
        "single {7}",
    );
    check(
        "SELECT * FROM badges WHERE code = $1",
        &[Given::Typed(1043, "abc")],
        "single {'abc'}",
    );
    check(
        "SELECT * FROM badges WHERE code = $1",
        &[Given::Typed(1042, "abc")],
        ALL,
    );
    // The same parameter elsewhere may have given it another type: 9007199254740993 is not itself as a float.
    check(
        "SELECT * FROM posts WHERE rank = $1 AND user_id = $1",
        &[text("7")],
        ALL,
    );
    check(
        "SELECT * FROM posts WHERE rank = $1 AND user_id = $1",
        &[Given::Typed(20, "7")],
        "single {7}",
    );
    check(
        "SELECT * FROM posts WHERE user_id = $1 OR (user_id = $1 AND id = $1)",
        &[text("7")],
        "single {7}",
    );
    check("SELECT $1, * FROM users WHERE id = $1", &[text("7")], ALL);
    // Not sent at all.
    check("SELECT * FROM users WHERE id = $2", &[text("7")], ALL);
}

#[test]
fn keys_of_several_columns_need_all_of_them() {
    let case = Case::new();
    let one = case.words(
        "SELECT * FROM members WHERE tenant = 1 AND code = 'a'",
        &[],
        None,
    );
    assert!(one.starts_with("single"), "{one}");
    for same in [
        "SELECT * FROM members WHERE code = 'a' AND tenant = 1",
        "SELECT * FROM members WHERE (tenant, code) = (1, 'a')",
        "SELECT * FROM members WHERE ROW(tenant, code) = ROW(1, 'a')",
        "SELECT * FROM members WHERE (tenant, code) IN ((1, 'a'))",
        "SELECT * FROM members WHERE tenant = 1 AND (code = 'a' OR code = 'a')",
        "SELECT * FROM members m JOIN members n ON m.tenant = n.tenant AND m.code = n.code WHERE m.tenant = 1 AND n.code = 'a'",
        "INSERT INTO members VALUES (1, 'a', 5)",
        "INSERT INTO members (code, x, tenant) VALUES ('a', 5, 1)",
        "DELETE FROM members WHERE tenant = 1 AND code = 'a'",
    ] {
        assert_eq!(case.words(same, &[], None), one, "{same}");
    }
    check_all(&[
        ("SELECT * FROM members WHERE tenant = 1", ALL),
        ("SELECT * FROM members WHERE code = 'a'", ALL),
        ("SELECT * FROM members WHERE tenant = 1 OR code = 'a'", ALL),
        (
            "DELETE FROM members WHERE tenant = 1",
            "refuse 0A000: the statement would write on several shards",
        ),
        ("INSERT INTO members (tenant) VALUES (1)", &one_null()),
        (
            "SELECT * FROM members WHERE tenant = 1 AND code IS NULL",
            &one_null(),
        ),
    ]);
}

/// The shard of members (1, NULL).
fn one_null() -> String {
    let mut bytes = 8u32.to_le_bytes().to_vec();
    bytes.extend(1i64.to_le_bytes());
    bytes.extend(u32::MAX.to_le_bytes());
    format!(
        "single s{}",
        xxhash_rust::xxh3::xxh3_64(&bytes) % 16_384 % 3
    )
}

#[test]
fn joins_stay_on_the_shard_when_the_keys_are_joined() {
    check_all(&[
        (
            "SELECT * FROM users u JOIN posts p ON p.user_id = u.id WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u JOIN posts p ON p.user_id = u.id WHERE p.user_id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u, posts p WHERE p.user_id = u.id AND u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u, posts p WHERE p.user_id = 7 AND u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM posts JOIN orders USING (user_id) WHERE user_id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id WHERE p.user_id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM posts p RIGHT JOIN users u ON p.user_id = u.id WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u JOIN countries c ON c.code = u.country WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM countries c LEFT JOIN users u ON c.code = u.country AND u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id LEFT JOIN orders o ON o.user_id = p.user_id WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u JOIN posts p ON p.user_id = u.id",
            ALL,
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id",
            ALL,
        ),
        (
            "SELECT * FROM users u JOIN countries c ON c.code = u.country",
            ALL,
        ),
        (
            "SELECT * FROM users u LEFT JOIN countries c ON c.code = u.country",
            ALL,
        ),
        (
            "SELECT * FROM countries c JOIN users u ON c.code = u.country",
            ALL,
        ),
        // Rows of the preserved side need all shards, whatever the nullable side is pinned to.
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id AND p.user_id = 7",
            ALL,
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id AND u.id = 7",
            ALL,
        ),
        // An anti-join: IS NULL speaks of the rows that found no partner.
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id WHERE p.user_id IS NULL",
            ALL,
        ),
        (
            "SELECT * FROM users u LEFT JOIN posts p ON p.user_id = u.id WHERE p.user_id IS NULL AND u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users a JOIN users b ON a.id = b.age",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users a, users b WHERE a.id = 7",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users a CROSS JOIN posts b",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM countries c LEFT JOIN users u ON c.code = u.country",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users u RIGHT JOIN countries c ON c.code = u.country",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM countries c LEFT JOIN users u ON c.id = u.id WHERE u.id IS NULL",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM countries c LEFT JOIN users u ON c.id = u.id WHERE u.id IS NULL AND c.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u FULL JOIN countries c ON c.code = u.country",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users u FULL JOIN posts p ON p.user_id = u.id WHERE u.id IS NULL",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users u FULL JOIN posts p ON p.user_id = u.id WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u JOIN badges b ON b.code = u.name",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users NATURAL JOIN posts",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM posts NATURAL JOIN follows WHERE user_id = 7",
            "refuse 0A000: the statement needs",
        ),
    ]);
}

#[test]
fn subqueries_are_placed_at_every_depth() {
    check_all(&[
        (
            "SELECT * FROM users u WHERE u.id = 7 AND EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id)",
            "single {7}",
        ),
        (
            "SELECT (SELECT count(*) FROM posts p WHERE p.user_id = u.id) FROM users u WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id IN (SELECT user_id FROM posts WHERE user_id = 7)",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id = 7 AND id IN (SELECT user_id FROM posts)",
            "single {7}",
        ),
        (
            "SELECT * FROM users WHERE id = 7 AND id NOT IN (SELECT user_id FROM posts)",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM users WHERE id = 7 AND age > (SELECT avg(age) FROM users)",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users WHERE id = 7 AND age > (SELECT avg(age) FROM users WHERE id = 7)",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT * FROM users WHERE id = 7) x",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT * FROM users) x WHERE x.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT id AS a FROM users) x WHERE x.a = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT id FROM users) x (a) WHERE a = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT * FROM users ORDER BY age LIMIT 3) x WHERE x.id = 7",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM (SELECT user_id, count(*) c FROM posts GROUP BY user_id) x WHERE user_id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT body, max(user_id) AS m FROM posts GROUP BY body) x WHERE m = 7",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM (SELECT user_id, row_number() OVER (ORDER BY id) FROM posts) x WHERE user_id = 7",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM (SELECT DISTINCT user_id, body FROM posts) x WHERE user_id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT DISTINCT ON (body) user_id, body FROM posts) x WHERE user_id = 7",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users u CROSS JOIN LATERAL (SELECT * FROM posts p WHERE p.user_id = u.id ORDER BY id LIMIT 3) x WHERE u.id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM users u CROSS JOIN LATERAL (SELECT * FROM posts p WHERE p.user_id = u.id ORDER BY id LIMIT 3) x",
            ALL,
        ),
        // The lateral aggregate returns a row whatever its WHERE says: it does not pin users.
        (
            "SELECT * FROM users u CROSS JOIN LATERAL (SELECT count(*) FROM countries WHERE u.id = 7) x",
            ALL,
        ),
        (
            "SELECT * FROM users u WHERE EXISTS (SELECT count(*) FROM countries WHERE u.id = 7)",
            ALL,
        ),
        (
            "SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM countries WHERE u.id = 7)",
            "single {7}",
        ),
        (
            "SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id)",
            ALL,
        ),
        (
            "SELECT * FROM users u WHERE NOT EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id)",
            ALL,
        ),
        (
            "SELECT * FROM users WHERE id IN (SELECT user_id FROM posts)",
            ALL,
        ),
        (
            "SELECT * FROM users WHERE country IN (SELECT code FROM countries)",
            ALL,
        ),
        (
            "SELECT * FROM users WHERE country IN (SELECT code FROM countries ORDER BY name LIMIT 1)",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT * FROM users WHERE age IN (SELECT user_id FROM posts)",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM users WHERE EXISTS (SELECT 1 FROM posts)",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM users LIMIT (SELECT count(*) FROM posts)",
            "refuse 0A000",
        ),
        // The inner `id` is posts.id, not users.id.
        (
            "SELECT * FROM users WHERE EXISTS (SELECT 1 FROM posts WHERE user_id = id)",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM users u WHERE EXISTS (SELECT 1 FROM posts u WHERE u.user_id = 7)",
            "refuse 0A000",
        ),
        (
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM users WHERE id = 7)",
            "single {7}",
        ),
        (
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM users) THEN 1 END",
            "refuse 0A000",
        ),
        ("SELECT ARRAY(SELECT id FROM users)", "refuse 0A000"),
        (
            "SELECT ARRAY(SELECT id FROM users WHERE id = 7)",
            "single {7}",
        ),
        (
            "SELECT * FROM generate_series(1, 3) g, users WHERE id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM generate_series(1, 3) g LEFT JOIN users ON id = g",
            "refuse 0A000",
        ),
        ("SELECT * FROM active_users WHERE id = 7", "single {7}"),
        ("SELECT * FROM post_counts WHERE user_id = 7", "single {7}"),
        ("SELECT * FROM active_users", ALL),
    ]);
}

#[test]
fn with_entries_hide_tables_and_are_placed() {
    check_all(&[
        (
            "WITH c AS (SELECT * FROM users WHERE id = 7) SELECT * FROM c",
            "single {7}",
        ),
        (
            "WITH c AS (SELECT * FROM users) SELECT * FROM c WHERE id = 7",
            "single {7}",
        ),
        (
            "WITH c AS (SELECT * FROM users) SELECT * FROM c a JOIN c b ON a.id = b.id WHERE a.id = 7",
            "single {7}",
        ),
        (
            "WITH c AS (SELECT * FROM users) SELECT * FROM c a, c b WHERE a.id = 7",
            "refuse 0A000",
        ),
        (
            "WITH users AS (SELECT 1 AS id) SELECT * FROM users",
            "any s0,s1,s2",
        ),
        (
            "WITH users AS (SELECT * FROM users) SELECT * FROM users WHERE id = 7",
            "single {7}",
        ),
        (
            "WITH c AS (SELECT * FROM users WHERE id = 7) SELECT 1",
            "single {7}",
        ),
        ("WITH c AS (SELECT * FROM users) SELECT 1", "refuse 0A000"),
        (
            "WITH c (a) AS (SELECT id FROM users) SELECT * FROM c WHERE a = 7",
            "single {7}",
        ),
        (
            "WITH c AS (SELECT id FROM users LIMIT 1) SELECT * FROM c WHERE id = 7",
            "refuse 0A000",
        ),
        (
            "WITH a AS (SELECT * FROM users), b AS (SELECT * FROM a) SELECT * FROM b WHERE id = 7",
            "single {7}",
        ),
        (
            "WITH RECURSIVE r AS (SELECT id FROM users WHERE id = 7 UNION ALL SELECT id + 1 FROM r WHERE id < 9) SELECT * FROM r",
            "single {7}",
        ),
        (
            "WITH RECURSIVE r AS (SELECT followee_id AS id FROM follows WHERE follower_id = 7 UNION SELECT f.followee_id FROM follows f JOIN r ON f.follower_id = r.id) SELECT * FROM r",
            "refuse 0A000",
        ),
        (
            "WITH d AS (DELETE FROM posts WHERE user_id = 7 RETURNING *) SELECT * FROM d",
            "single {7}",
        ),
        (
            "WITH d AS (DELETE FROM posts RETURNING *) SELECT * FROM d",
            "refuse 0A000: the statement would write",
        ),
        (
            "WITH d AS (DELETE FROM posts WHERE user_id = 7 RETURNING user_id, id) INSERT INTO orders (user_id, id) SELECT user_id, id FROM d",
            "single {7}",
        ),
        (
            "WITH d AS (DELETE FROM posts WHERE user_id = 7) UPDATE users SET age = 1 WHERE id = 7",
            "single {7}",
        ),
        (
            "WITH d AS (DELETE FROM countries) SELECT 1",
            "refuse 0A000: writes to reference tables",
        ),
    ]);
    let deep: String = (1..40).fold("WITH c0 AS (SELECT 1 AS id)".to_owned(), |text, n| {
        format!(
            "{text}, c{n} AS (SELECT * FROM c{p} UNION ALL SELECT * FROM c{p})",
            p = n - 1
        )
    });
    check(&format!("{deep} SELECT * FROM c39"), &[], "refuse 54001");
}

#[test]
fn set_operations_place_each_arm() {
    check_all(&[
        (
            "SELECT id FROM users WHERE id = 7 UNION SELECT user_id FROM posts WHERE user_id = 7",
            "single {7}",
        ),
        (
            "SELECT id FROM users WHERE id = 7 UNION ALL SELECT 1",
            "single {7}",
        ),
        (
            "SELECT code FROM countries EXCEPT SELECT code FROM countries",
            "any s0,s1,s2",
        ),
        (
            "SELECT * FROM (SELECT id FROM users UNION ALL SELECT user_id FROM posts) x WHERE id = 7",
            "single {7}",
        ),
        (
            "SELECT * FROM (SELECT id FROM users UNION ALL SELECT id FROM posts) x WHERE id = 7",
            "refuse 0A000",
        ),
        ("SELECT id FROM users UNION ALL SELECT 1", "refuse 0A000"),
        ("VALUES (1), (2)", "any s0,s1,s2"),
    ]);
    let two = Case::new().words(
        "SELECT id FROM users WHERE id = 1 EXCEPT SELECT id FROM users WHERE id = 2",
        &[],
        None,
    );
    assert!(
        two.starts_with("refuse") || super::shard_of(1) == super::shard_of(2),
        "{two}"
    );
}

#[test]
fn writes_go_to_one_shard() {
    let many = "refuse 0A000: the statement would write on several shards";
    check_all(&[
        ("INSERT INTO users (id, name) VALUES (7, 'x')", "single {7}"),
        ("INSERT INTO users VALUES (7, 'x')", "single {7}"),
        (
            "INSERT INTO users (name, id) VALUES ('x', 7), ('y', 7)",
            "single {7}",
        ),
        (
            "INSERT INTO users (name, id) VALUES ('x', '7')",
            "single {7}",
        ),
        (
            "INSERT INTO users (name, id) VALUES ('x', 7.0)",
            "single {7}",
        ),
        (
            "INSERT INTO users (name, id) VALUES ('x', 7.5)",
            "refuse 0A000: the row's shard cannot be found",
        ),
        (
            "INSERT INTO users (name, id) VALUES ('x', 3 + 4)",
            "refuse 0A000: the row's shard cannot be found",
        ),
        (
            "INSERT INTO users (name, id) VALUES ('x', nextval('s'))",
            "refuse 0A000: the row's shard cannot be found",
        ),
        ("INSERT INTO users (name) VALUES ('x')", "single s0"),
        (
            "INSERT INTO posts (user_id, body) VALUES (NULL, 'x')",
            "single s0",
        ),
        ("INSERT INTO defaults (x) VALUES (1)", "single {'none'}"),
        ("INSERT INTO defaults DEFAULT VALUES", "single {'none'}"),
        (
            "INSERT INTO defaults VALUES (DEFAULT, 1)",
            "single {'none'}",
        ),
        (
            "INSERT INTO uuids (x) VALUES (1)",
            "refuse 0A000: the row's shard cannot be found",
        ),
        ("INSERT INTO badges (code) VALUES ('abc')", "single {'abc'}"),
        (
            "INSERT INTO badges (code) VALUES ('abc        ')",
            "refuse 0A000: the row's shard cannot be found",
        ),
        (
            "INSERT INTO badges (code) VALUES (123)",
            "refuse 0A000: the row's shard cannot be found",
        ),
        (
            "INSERT INTO users (id) VALUES (7) ON CONFLICT DO NOTHING",
            "single {7}",
        ),
        (
            "INSERT INTO users (id) VALUES (7) ON CONFLICT (id) DO UPDATE SET name = 'x'",
            "single {7}",
        ),
        (
            "INSERT INTO users (id) VALUES (7) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id",
            "single {7}",
        ),
        (
            "INSERT INTO users (id) VALUES (7) ON CONFLICT (id) DO UPDATE SET id = 8",
            "refuse 0A000: the statement would change the sharding key",
        ),
        ("INSERT INTO posts SELECT * FROM posts", many),
        (
            "INSERT INTO posts SELECT * FROM posts WHERE user_id = 7",
            "single {7}",
        ),
        (
            "INSERT INTO orders (user_id, id) SELECT user_id, id FROM posts WHERE user_id = 7",
            "single {7}",
        ),
        (
            "INSERT INTO orders (user_id, id) SELECT id, user_id FROM posts WHERE user_id = 7",
            many,
        ),
        ("INSERT INTO orders (user_id, id) SELECT 7, 1", "single {7}"),
        ("INSERT INTO orders (user_id, id) SELECT 7 + 0, 1", many),
        (
            "INSERT INTO users (id, country) VALUES (7, (SELECT code FROM countries LIMIT 1))",
            "single {7}",
        ),
        (
            "INSERT INTO users (id, age) VALUES (7, (SELECT count(*) FROM posts WHERE user_id = 7))",
            "single {7}",
        ),
        (
            "INSERT INTO users (id, age) VALUES (7, (SELECT count(*) FROM posts))",
            many,
        ),
        ("UPDATE users SET name = 'x' WHERE id = 7", "single {7}"),
        ("UPDATE users SET name = 'x'", many),
        ("UPDATE users SET name = 'x' WHERE age = 7", many),
        (
            "UPDATE users SET id = 8 WHERE id = 7",
            "refuse 0A000: the statement would change the sharding key",
        ),
        (
            "UPDATE users SET id = 7, name = 'x' WHERE id = 7",
            "single {7}",
        ),
        ("UPDATE users SET id = id WHERE id = 7", "single {7}"),
        (
            "UPDATE users SET id = id + 1 WHERE id = 7",
            "refuse 0A000: the statement would change the sharding key",
        ),
        (
            "UPDATE users SET (id, name) = (7, 'x') WHERE id = 7",
            "refuse 0A000: the statement would change",
        ),
        (
            "UPDATE posts p SET body = u.name FROM users u WHERE u.id = p.user_id AND u.id = 7",
            "single {7}",
        ),
        (
            "UPDATE posts p SET user_id = u.id FROM users u WHERE u.id = p.user_id AND u.id = 7",
            "single {7}",
        ),
        ("DELETE FROM users WHERE id = 7 RETURNING *", "single {7}"),
        (
            "DELETE FROM posts p USING users u WHERE u.id = p.user_id AND u.id = 7",
            "single {7}",
        ),
        ("DELETE FROM users", many),
        (
            "DELETE FROM users WHERE id IN (SELECT user_id FROM posts WHERE user_id = 7)",
            "single {7}",
        ),
        (
            "UPDATE countries SET name = 'x'",
            "refuse 0A000: writes to reference tables",
        ),
        (
            "INSERT INTO countries VALUES ('x')",
            "refuse 0A000: writes to reference tables",
        ),
        (
            "UPDATE guarded SET x = 'y' WHERE user_id = 7",
            "refuse 0A000: writes to table guarded are not safe",
        ),
        ("SELECT * FROM guarded WHERE user_id = 7", "single {7}"),
        (
            "UPDATE active_users SET name = 'x' WHERE id = 7",
            "refuse 0A000: view active_users cannot be placed",
        ),
        ("UPDATE user_activities SET user_id = 1", "single activity"),
        ("INSERT INTO settings VALUES (1, '{}')", "single settings"),
        (
            "SELECT * FROM users FOR UPDATE",
            "refuse 0A000: the statement would lock on several shards",
        ),
        (
            "SELECT * FROM countries FOR UPDATE",
            "refuse 0A000: the statement would lock on several shards",
        ),
        (
            "MERGE INTO users u USING (SELECT * FROM posts WHERE user_id = 7) p ON u.id = p.user_id WHEN MATCHED THEN UPDATE SET name = p.body",
            "single {7}",
        ),
        (
            "MERGE INTO users u USING posts p ON u.id = p.user_id AND p.user_id = 7 WHEN MATCHED THEN DELETE",
            many,
        ),
        (
            "MERGE INTO users u USING (SELECT * FROM posts WHERE user_id = 7) p ON u.id = p.user_id WHEN NOT MATCHED THEN INSERT (id) VALUES (p.user_id)",
            "single {7}",
        ),
        (
            "MERGE INTO users u USING (SELECT * FROM posts WHERE user_id = 7) p ON u.id = p.user_id WHEN NOT MATCHED THEN INSERT (id) VALUES (p.id)",
            "refuse 0A000: the statement would change the sharding key",
        ),
    ]);
    let rows = Case::new().words(
        "INSERT INTO users (id) VALUES (1), (2), (3), (4), (5)",
        &[],
        None,
    );
    assert!(rows.starts_with(many), "{rows}");
    check(
        "UPDATE users SET id = $1 WHERE id = $2",
        &[Given::Text("7"), Given::Text("7")],
        "single {7}",
    );
    check(
        "UPDATE users SET id = $1 WHERE id = $2",
        &[Given::Text("8"), Given::Text("7")],
        "refuse 0A000",
    );
    check(
        "INSERT INTO users (id) VALUES ($1)",
        &[Given::Binary(20, vec![0, 0, 0, 0, 0, 0, 0, 7])],
        "single {7}",
    );
    check(
        "INSERT INTO users (id, age) VALUES ($1, $1)",
        &[Given::Text("7")],
        "single {7}",
    );
    check(
        "INSERT INTO posts (user_id, body) VALUES ($1, $1)",
        &[Given::Text("7")],
        "refuse 0A000",
    );
}

#[test]
fn keyspaces_and_names() {
    check_all(&[
        ("SELECT * FROM user_activities", "single activity"),
        (
            "SELECT * FROM user_activities a JOIN visits v ON v.id = a.id",
            "single activity",
        ),
        (
            "SELECT * FROM user_activities a JOIN settings s ON s.user_id = a.user_id",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM users u JOIN settings s ON s.user_id = u.id WHERE u.id = 7",
            "refuse 0A000",
        ),
        (
            "SELECT * FROM countries c JOIN settings s ON s.user_id = c.id",
            "refuse 0A000: the statement's tables are not on one",
        ),
        ("SELECT * FROM audit.users", "single activity"),
        (
            "SELECT * FROM \"Users\"",
            "refuse 0A000: table Users is in no keyspace",
        ),
        (
            "SELECT * FROM nowhere",
            "refuse 0A000: table nowhere is in no keyspace",
        ),
        (
            "SELECT * FROM torn",
            "refuse 0A000: table torn may not be used",
        ),
        ("SELECT * FROM pg_class", "single s0"),
        (
            "SELECT * FROM pg_catalog.pg_type t JOIN pg_class c ON c.reltype = t.oid",
            "single s0",
        ),
        ("SELECT * FROM information_schema.tables", "single s0"),
        ("SELECT * FROM pg_some_new_view", "single s0"),
        ("SELECT * FROM users, pg_class", "refuse 0A000"),
        ("SELECT 1", "any s0,s1,s2"),
        ("SELECT now(), 1 + 1, current_user", "any s0,s1,s2"),
        ("SELECT random()", "single s0"),
        ("SELECT version()", "any s0,s1,s2"),
    ]);
    let mut case = Case::new();
    case.search_path = vec!["audit".into(), "public".into()];
    assert_eq!(
        case.words("SELECT * FROM users", &[], None),
        "single activity"
    );
    assert_eq!(
        case.words("SELECT * FROM public.users WHERE id = 7", &[], None),
        super::fill("single {7}")
    );
}

#[test]
fn functions_run_where_they_can() {
    let no = "refuse 0A000: function";
    check_all(&[
        ("SELECT twice(id) FROM users WHERE id = 7", "single {7}"),
        ("SELECT twice(id) FROM users", ALL),
        ("SELECT peek(id) FROM users WHERE id = 7", no),
        ("SELECT poke(id) FROM users WHERE id = 7", no),
        ("SELECT public.poke(1)", no),
        ("SELECT stamp(id) FROM users WHERE id = 7", "single {7}"),
        ("SELECT stamp(1)", no),
        ("SELECT stamp(id) FROM users", "refuse 0A000"),
        ("SELECT country_name('x')", "single s0"),
        (
            "SELECT country_name(country) FROM users WHERE id = 7",
            "single {7}",
        ),
        ("SELECT nothing_like_it(1)", "single s0"),
        ("SELECT id, random() FROM users WHERE id = 7", "single {7}"),
        (
            "SELECT id, random() FROM users",
            "refuse 0A000: the statement needs several shards",
        ),
        (
            "SELECT id, now() FROM users",
            "refuse 0A000: the statement needs several shards",
        ),
        ("SELECT id FROM users WHERE now() > '2024-01-01'", ALL),
        ("SELECT * FROM users ORDER BY random()", "refuse 0A000"),
        ("SELECT query_to_xml('select 1', true, true, '')", no),
        ("SELECT pg_relation_size('users')", no),
        ("SELECT lo_create(0)", no),
        ("SELECT pg_advisory_lock(1)", "single s0"),
        ("SELECT pg_notify('a', 'b')", "single s0"),
        ("SELECT nextval('s')", "single s0"),
        ("SELECT setval('s', 1)", no),
        ("SELECT pg_get_viewdef('x'::regclass)", "single s0"),
        ("SELECT * FROM peek(1)", no),
        ("SELECT * FROM users WHERE id = 7 AND poke(1) = 1", no),
        ("UPDATE users SET name = poke(1) WHERE id = 7", no),
        ("INSERT INTO users (id, age) VALUES (7, poke(1))", no),
    ]);
    let case = Case::new();
    let plan = |sql: &str| case.plan(sql, &[], None).unwrap();
    assert_eq!(
        plan("SELECT pg_advisory_lock(1)").pin,
        Some(Pin::AdvisoryLock)
    );
    assert_eq!(plan("SELECT pg_advisory_xact_lock(1)").pin, None);
    assert_eq!(plan("SELECT currval('s')").pin, Some(Pin::SequenceValue));
    assert_eq!(
        plan("SELECT lastval(), setseed(0.5)").pin,
        Some(Pin::SessionFunction)
    );
    assert_eq!(plan("SELECT 1").access, Access::Read);
    assert_eq!(
        plan("SELECT * FROM users WHERE id = 7 FOR SHARE").access,
        Access::Lock
    );
    assert_eq!(
        plan("WITH d AS (DELETE FROM posts WHERE user_id = 7) SELECT 1").access,
        Access::Write
    );
    assert!(
        case.recipe("SELECT set_config('a.b', 'c', false)", None)
            .unwrap()
            .set_config
    );
}

#[test]
fn other_statements() {
    let one = "refuse 0A000";
    check_all(&[
        ("EXPLAIN SELECT * FROM users WHERE id = 7", "single {7}"),
        (
            "EXPLAIN ANALYZE DELETE FROM users WHERE id = 7",
            "single {7}",
        ),
        (
            "EXPLAIN SELECT * FROM users",
            "refuse 0A000: EXPLAIN runs on one shard only",
        ),
        (
            "DECLARE c CURSOR FOR SELECT * FROM users WHERE id = 7",
            "single {7}",
        ),
        ("DECLARE c CURSOR FOR SELECT * FROM users", ALL),
        (
            "PREPARE p AS SELECT * FROM users WHERE id = 7",
            "single {7}",
        ),
        (
            "COPY users FROM STDIN",
            "refuse 0A000: COPY runs on one shard only",
        ),
        (
            "COPY users TO STDOUT",
            "refuse 0A000: COPY runs on one shard only",
        ),
        (
            "COPY (SELECT * FROM users WHERE id = 7) TO STDOUT",
            "single {7}",
        ),
        (
            "COPY (SELECT * FROM users) TO STDOUT",
            "refuse 0A000: COPY runs on one shard only",
        ),
        ("COPY user_activities FROM STDIN", "single activity"),
        ("COPY countries TO STDOUT", "any s0,s1,s2"),
        (
            "COPY countries FROM STDIN",
            "refuse 0A000: writes to reference tables",
        ),
        (
            "TRUNCATE users",
            "refuse 0A000: the statement would write on several shards",
        ),
        ("TRUNCATE user_activities", "single activity"),
        (
            "LOCK TABLE users",
            "refuse 0A000: the statement would lock on several shards",
        ),
        ("LOCK TABLE visits", "single activity"),
        ("VACUUM users", "broadcast s0,s1,s2"),
        ("ANALYZE user_activities", "single activity"),
        ("VACUUM", "broadcast s0,s1,s2,activity,settings"),
        ("CALL p(1)", one),
        ("CALL country_name('de', 1 + 2)", "single s0"),
        (
            "CALL country_name(now(), current_setting('app.x'))",
            "single s0",
        ),
        ("CALL public.country_name(upper('de'))", "single s0"),
        (
            "CALL country_name(poke())",
            "refuse 0A000: function poke cannot be used here",
        ),
        ("CALL country_name(nosuch(1))", one),
        ("CALL country_name(country_name('de'))", one),
        (
            "CALL country_name((SELECT name FROM users WHERE id = 1))",
            one,
        ),
        ("CALL country_name(nextval('s'))", one),
        ("CALL country_name(set_config('app.x', 'y', false))", one),
    ]);
    let case = Case::new();
    let plan = case
        .plan(
            "DECLARE c CURSOR FOR SELECT id FROM users WHERE age = 3",
            &[],
            None,
        )
        .unwrap();
    assert_eq!(
        plan.text.as_deref(),
        Some("SELECT id FROM users WHERE age = 3")
    );
    assert!(
        case.plan("VACUUM users", &[], None)
            .unwrap()
            .outside_transaction
    );
    assert_eq!(
        case.plan("EXPLAIN DELETE FROM users WHERE id = 7", &[], None)
            .unwrap()
            .access,
        Access::Read
    );
    let hold = case
        .plan(
            "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM users WHERE id = 7",
            &[],
            None,
        )
        .unwrap();
    assert_eq!(hold.pin, Some(Pin::HoldCursor));
}

#[test]
fn hints_force_a_shard() {
    let case = Case::new();
    let shard = |sql, name| case.words(sql, &[], Some(RouteHint::Shard(name)));
    let key = |sql, key| case.words(sql, &[], Some(RouteHint::Key(key)));
    assert_eq!(shard("SELECT * FROM users", "s1"), "single s1");
    assert_eq!(shard("UPDATE countries SET name = 'x'", "s1"), "single s1");
    assert_eq!(shard("TRUNCATE users", "s2"), "single s2");
    assert_eq!(shard("COPY users FROM STDIN", "s2"), "single s2");
    assert_eq!(shard("SELECT poke(1)", "s2"), "single s2");
    assert_eq!(shard("SELECT ((", "s1"), "single s1");
    assert_eq!(shard("CREATE TEMP TABLE x (a int)", "s1"), "single s1");
    assert!(
        shard("SELECT * FROM users", "activity")
            .starts_with("refuse 0A000: the statement's tables")
    );
    assert!(shard("SELECT * FROM users", "s9").starts_with("refuse 22023"));
    assert_eq!(key("SELECT * FROM users", "7"), super::fill("single {7}"));
    assert!(key("SELECT * FROM users", "x").starts_with("refuse 22023"));
    let temp = case
        .plan(
            "CREATE TEMP TABLE x (a int)",
            &[],
            Some(RouteHint::Shard("s1")),
        )
        .unwrap();
    assert_eq!(temp.pin, Some(Pin::TemporaryTable));
    assert!(
        case.words("SELECT ((", &[], None)
            .starts_with("refuse 0A000: the statement is not understood")
    );
}

#[test]
fn a_temporary_table_hides_no_other() {
    let case = Case::new();
    let words = |sql: &str| case.words(sql, &[], Some(RouteHint::Shard("s1")));
    for sql in [
        "CREATE TEMP TABLE users (id int)",
        "CREATE TABLE pg_temp.users (id int)",
        "CREATE LOCAL TEMPORARY TABLE posts AS SELECT 1",
        "CREATE TEMP VIEW users AS SELECT 1 AS id",
        "SELECT 1 AS id INTO TEMP users",
        "EXPLAIN ANALYZE CREATE TEMP TABLE users AS SELECT 1 AS id",
        "ALTER TABLE mine RENAME TO users",
    ] {
        let found = words(sql);
        let refused = found.starts_with("refuse 0A000") && found.contains("is a table of keyspace");
        assert!(refused, "{sql} {found}");
    }
    for sql in [
        "CREATE TEMP TABLE mine (id int)",
        "CREATE TABLE users (id bigint)",
        "ALTER TABLE mine RENAME TO other",
    ] {
        assert_eq!(words(sql), "single s1", "{sql}");
    }
}

#[test]
fn a_hint_against_the_statements_own_key_is_refused() {
    let case = Case::new();
    let key = |sql, key| case.words(sql, &[], Some(RouteHint::Key(key)));
    let (two, other) = ("2", "1");
    assert_ne!(super::shard_of(1), super::shard_of(2));
    let contradicts = "refuse 22023: the hint contradicts the statement's own key";
    let on_two = super::fill("single {2}");
    for sql in [
        "INSERT INTO users (id) VALUES (1)",
        "INSERT INTO users (id, name) VALUES (2, 'a'), (1, 'b')",
        "INSERT INTO users (id, name) VALUES (1, 'b'), (poke(2), 'a')",
        "WITH n AS (INSERT INTO users (id) VALUES (1) RETURNING id) SELECT * FROM n",
        "INSERT INTO users (id) VALUES (1) ON CONFLICT DO NOTHING",
        "SELECT count(*) FROM users WHERE id = 1",
        "SELECT poke(id) FROM users WHERE id = 1",
        "SELECT * FROM users u, posts p WHERE u.id = 2 AND p.user_id = 1",
        "DELETE FROM users WHERE id = 1",
        "EXPLAIN SELECT * FROM users WHERE id = 1",
        "EXPLAIN ANALYZE INSERT INTO users (id) VALUES (1)",
        "DECLARE c CURSOR FOR SELECT * FROM users WHERE id = 1",
        "COPY (SELECT * FROM users WHERE id = 1) TO STDOUT",
    ] {
        assert!(key(sql, two).starts_with(contradicts), "{sql}");
        let own = key(sql, other);
        let accepted = own.starts_with("single") || sql.contains('2');
        assert!(accepted, "{sql} {own}");
    }
    for sql in [
        "UPDATE users SET id = 1003 WHERE id = 2",
        "UPDATE users SET id = id + 1",
        "UPDATE users SET id = 1003 WHERE name = poke(1)",
        "WITH n AS (UPDATE users SET id = 1003 WHERE id = 2) SELECT 1",
    ] {
        let found = key(sql, two);
        assert!(
            found.starts_with("refuse 0A000: the statement would change the sharding key"),
            "{sql} {found}"
        );
    }
    for sql in [
        "INSERT INTO users (id) VALUES (2)",
        "INSERT INTO users (id) VALUES (poke(2))",
        "INSERT INTO users (id) SELECT poke(2)",
        "UPDATE users SET id = 2, name = 'x' WHERE id = 2",
        "SELECT * FROM users WHERE id IN (1, 2)",
        "SELECT * FROM users WHERE id = NULL",
        "SELECT * FROM users u JOIN posts p ON p.user_id = u.id WHERE u.name = 'x'",
        "UPDATE users SET name = 'x'",
    ] {
        assert_eq!(key(sql, two), on_two, "{sql}");
    }
    // Of what cannot be bound, the rows are known all the same.
    let unbound = "INSERT INTO users (id, name) VALUES (1, (SELECT x FROM nobodys))";
    let shard = format!("s{}", super::shard_of(2));
    let found = case.words(unbound, &[], Some(RouteHint::Shard(&shard)));
    assert!(found.starts_with(contradicts), "{found}");
    let params = [super::Given::Typed(20, "1")];
    let found = case.words(
        "DELETE FROM users WHERE id = $1",
        &params,
        Some(RouteHint::Key(two)),
    );
    assert!(found.starts_with(contradicts), "{found}");
}

#[test]
fn what_postgresql_cuts_or_rounds_is_no_key() {
    let no = "refuse 0A000";
    check_all(&[
        (
            "INSERT INTO labelled (code) VALUES ('abc')",
            "single {'abc'}",
        ),
        ("INSERT INTO labelled (code) VALUES ('ab    ')", no),
        // Its domain may have a default.
        ("INSERT INTO labelled (x) VALUES (1)", no),
        (
            "SELECT * FROM labelled WHERE code = 'ab    '",
            "single {'ab    '}",
        ),
        (
            "INSERT INTO badges (code, x) SELECT w, 5 FROM words WHERE w = 'zz      '",
            no,
        ),
        (
            "INSERT INTO labelled (code) SELECT w FROM words WHERE w = 'zz      '",
            no,
        ),
        (
            "INSERT INTO labelled (code) SELECT code FROM labels WHERE code = 'zz'",
            no,
        ),
        (
            "INSERT INTO badges SELECT * FROM labels WHERE code = 'zz'",
            "single {'zz'}",
        ),
        (
            "INSERT INTO words SELECT * FROM labels WHERE code = 'zz'",
            "single {'zz'}",
        ),
        (
            "INSERT INTO seconds (at) SELECT at FROM stamps WHERE at = '2024-01-01 00:00:00.7'",
            no,
        ),
        (
            "MERGE INTO badges b USING words s ON b.code = s.w WHEN NOT MATCHED THEN INSERT (code) VALUES (s.w)",
            no,
        ),
    ]);
}

#[test]
fn what_runs_unnamed_is_a_call() {
    use crate::topology::ImpliedBy::{Cast, Column, Name};
    let mut case = Case::new();
    let topology = std::sync::Arc::make_mut(&mut case.topology);
    let mut database = (*topology.databases["app"]).clone();
    let named = |name: &str| TableName {
        schema: "public".into(),
        name: name.into(),
    };
    let operators = [("###", "peek"), ("%%", "country_name"), ("#!", "twice")];
    for (operator, function) in operators {
        let behind = vec![named(function)];
        database.implied.operators.insert(operator.into(), behind);
    }
    let types = [("label", Name), ("jsonb", Column), ("posts", Cast)];
    for (name, by) in types {
        let function = named("peek");
        let calls = vec![crate::topology::ImpliedCall { function, by }];
        database.implied.types.insert(name.into(), calls);
    }
    let view = database.tables.get_mut(&named("active_users")).unwrap();
    std::sync::Arc::make_mut(view).view =
        Some("SELECT id, name FROM users WHERE id OPERATOR(public.###) 1".into());
    topology
        .databases
        .insert("app".to_owned(), std::sync::Arc::new(database));
    let words = |sql: &str| case.words(sql, &[], None);
    let refused = "refuse 0A000: function peek cannot be used here";
    for sql in [
        "SELECT 1 ### 2",
        "SELECT id FROM users WHERE id = 7 AND ### age",
        "UPDATE users SET age = age###3 WHERE id = 7",
        "SELECT name FROM active_users WHERE id = 7",
        "SELECT name::label FROM users WHERE id = 7",
        "SELECT CAST(name AS public.\"label\"[]) FROM users WHERE id = 7",
        "SELECT label(name) FROM users WHERE id = 7",
        "SELECT value FROM settings",
        "SELECT '(1)'::posts FROM users WHERE id = 7",
        "DECLARE c CURSOR FOR SELECT 1 ### id FROM users WHERE id = 7",
    ] {
        let found = words(sql);
        assert!(found.starts_with(refused), "{sql} {found}");
    }
    let seven = super::fill("single {7}");
    for sql in [
        "SELECT age # 2 FROM users WHERE id = 7",
        "SELECT name AS labels FROM users WHERE id = 7",
        "SELECT body FROM posts WHERE user_id = 7",
        // Its function is declared, or IMMUTABLE.
        "SELECT age %% 2 FROM users WHERE id = 7",
        "SELECT age #! 2 FROM users WHERE id = 7",
    ] {
        assert_eq!(words(sql), seven, "{sql}");
    }
    // A hint names the shard, as for a function that is named; the session keeps its server.
    let hint = Some(RouteHint::Shard("s1"));
    let plan = case.plan("SELECT 1 ### 2", &[], hint).unwrap();
    assert_eq!(plan.pin, Some(Pin::Opaque));
}

#[test]
fn what_postgresql_overrides_is_no_key() {
    let mut case = Case::new();
    let topology = std::sync::Arc::make_mut(&mut case.topology);
    let mut database = (*topology.databases["app"]).clone();
    for table in database.tables.values_mut() {
        if table.name.name == "users" && table.name.schema == "public" {
            std::sync::Arc::make_mut(table).columns[0].generated = Some('d');
        }
    }
    topology
        .databases
        .insert("app".to_owned(), std::sync::Arc::new(database));
    let words = |sql: &str| case.words(sql, &[], None);
    let seven = super::fill("single {7}");
    for clause in ["", "OVERRIDING SYSTEM VALUE"] {
        let sql = format!("INSERT INTO users (id, name) {clause} VALUES (7, 'x')");
        assert_eq!(words(&sql), seven, "{sql}");
        let sql = format!(
            "INSERT INTO users (id, name) {clause} SELECT user_id, body FROM posts WHERE user_id = 7"
        );
        assert_eq!(words(&sql), seven, "{sql}");
    }
    for sql in [
        "INSERT INTO users (id, name) OVERRIDING USER VALUE VALUES (7, 'x')",
        "INSERT INTO users OVERRIDING USER VALUE VALUES (7, 'x')",
        "INSERT INTO users (id) OVERRIDING USER VALUE SELECT user_id FROM posts WHERE user_id = 7",
        "MERGE INTO users USING posts ON id = user_id WHEN NOT MATCHED THEN INSERT (id) \
         OVERRIDING USER VALUE VALUES (user_id)",
    ] {
        assert!(
            words(sql).starts_with("refuse 0A000"),
            "{sql} {}",
            words(sql)
        );
    }
    // A column that is no identity keeps what it is given.
    let posts = "INSERT INTO posts (user_id, body) OVERRIDING USER VALUE VALUES (7, 'x')";
    assert_eq!(words(posts), seven);
}

#[test]
fn offline_the_key_columns_are_known_and_nothing_else() {
    let mut case = Case::new();
    let topology = std::sync::Arc::make_mut(&mut case.topology);
    let mut database = (*topology.databases["app"]).clone();
    database.schema_known = false;
    database.functions.clear();
    for table in database.tables.values_mut() {
        let table = std::sync::Arc::make_mut(table);
        table.columns.clear();
        table.view = None;
        if let crate::topology::Placement::Sharded { key } = &mut table.placement {
            key.iter_mut().for_each(|column| column.family = None);
        }
    }
    topology
        .databases
        .insert("app".to_owned(), std::sync::Arc::new(database));
    let words = |sql: &str| case.words(sql, &[], None);
    let seven = super::fill("single {7}");
    for sql in [
        "SELECT * FROM users WHERE id = 7",
        "SELECT * FROM users u JOIN posts p ON p.user_id = u.id WHERE u.id = 7",
        "SELECT * FROM posts JOIN orders USING (user_id) WHERE user_id = 7",
        "INSERT INTO users (id, name) VALUES (7, 'x')",
        "UPDATE users SET name = 'x' WHERE id = 7",
        "SELECT * FROM (SELECT * FROM posts) x WHERE x.user_id = 7",
    ] {
        assert_eq!(words(sql), seven, "{sql}");
    }
    assert!(words("INSERT INTO users VALUES (7, 'x')").starts_with("refuse 0A000"));
    assert!(words("DELETE FROM users WHERE id = '7'").starts_with("refuse 0A000"));
    assert!(words("SELECT * FROM users, posts WHERE id = 7").starts_with("refuse 0A000"));
}

/// A shard would decide by its own rows which ones are seen or may be written.
#[test]
fn tables_whose_policies_look_beyond_a_shard_are_refused() {
    let no = "refuse 0A000: row-level security of table veiled cannot be applied on each shard alone (policy p reads posts)";
    check_all(&[
        ("SELECT * FROM veiled", no),
        ("SELECT * FROM veiled WHERE user_id = 1", no),
        (
            "SELECT * FROM users WHERE id IN (SELECT user_id FROM veiled)",
            no,
        ),
        ("INSERT INTO veiled VALUES (1, 'x')", no),
        ("UPDATE veiled SET x = 'y' WHERE user_id = 1", no),
        ("DELETE FROM veiled WHERE user_id = 1", no),
        (
            "INSERT INTO orders (id, user_id) SELECT 1, user_id FROM veiled",
            no,
        ),
        (
            "COPY (SELECT * FROM veiled WHERE user_id = 1) TO STDOUT",
            no,
        ),
        ("DROP POLICY p ON veiled", "broadcast s0,s1,s2"),
        (
            "ALTER TABLE veiled DISABLE ROW LEVEL SECURITY",
            "broadcast s0,s1,s2",
        ),
    ]);
}
