//! What looks like a key and must not be taken for one.

use super::{Given, check, check_all};

const ALL: &str = "scatter s0,s1,s2";
const SPREAD: &str = "refuse 0A000";

#[test]
fn a_semi_join_says_nothing_of_which_rows_a_limit_keeps() {
    check_all(&[
        (
            "SELECT id FROM users u WHERE u.id IN (SELECT o.user_id FROM orders o ORDER BY o.user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE u.id = ANY (SELECT o.user_id FROM orders o ORDER BY o.user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE u.id = 27 AND u.id IN (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "DELETE FROM users WHERE id = 27 AND id IN (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM orders WHERE (user_id, id) IN (SELECT user_id, id FROM orders ORDER BY user_id DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders ORDER BY user_id OFFSET 3)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM \
             (SELECT user_id, rank() OVER (ORDER BY total) AS r FROM orders) z WHERE z.r = 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM \
             (SELECT user_id, count(*) OVER () AS n FROM orders) z WHERE z.n > 3)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT DISTINCT ON (total) user_id FROM orders ORDER BY total, id)",
            SPREAD,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders GROUP BY user_id ORDER BY count(*) DESC LIMIT 1)",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM \
             (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1) z WHERE z.user_id = u.id)",
            SPREAD,
        ),
        (
            "WITH z AS (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1) \
             SELECT id FROM users WHERE id IN (SELECT user_id FROM z)",
            SPREAD,
        ),
        (
            "SELECT x.id FROM (SELECT u.id FROM users u WHERE EXISTS (SELECT 1 FROM \
             (SELECT user_id FROM orders LIMIT 1) z WHERE z.user_id = u.id)) x WHERE x.id = 7",
            SPREAD,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id AND p.user_id IN \
             (SELECT user_id FROM orders ORDER BY total LIMIT 1))",
            SPREAD,
        ),
        (
            "COPY (SELECT id FROM users u WHERE u.id = 27 AND u.id IN \
             (SELECT user_id FROM orders ORDER BY user_id DESC LIMIT 1)) TO STDOUT",
            SPREAD,
        ),
        // What may be pushed inwards still is.
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE total > 3)",
            ALL,
        ),
        (
            "SELECT id FROM users WHERE id = 7 AND id IN (SELECT user_id FROM orders GROUP BY user_id HAVING count(*) > 3)",
            "single {7}",
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM (SELECT user_id FROM orders) z WHERE z.user_id = u.id)",
            ALL,
        ),
        (
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id ORDER BY o.id LIMIT 1)",
            ALL,
        ),
        (
            "SELECT id FROM users WHERE id IN (SELECT user_id FROM orders WHERE user_id = 7 ORDER BY total LIMIT 1)",
            "single {7}",
        ),
    ]);
}

#[test]
fn an_aggregate_of_an_outer_level_folds_that_level() {
    check_all(&[
        (
            "SELECT d.* FROM (SELECT (SELECT max(u.age)) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT sum(age)) AS m FROM users) d",
            SPREAD,
        ),
        (
            "WITH x AS (SELECT (SELECT count(u.id)) AS m FROM users u) SELECT * FROM x",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT max(u.age) FROM countries c LIMIT 1) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT (SELECT max(u.age))) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT 1 WHERE max(u.age) > 3) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT 1 HAVING max(u.age) > 3) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (VALUES (max(u.age))) AS m FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT d.* FROM (SELECT (SELECT count((SELECT u.age))) AS m FROM users u) d",
            SPREAD,
        ),
        // One column of its own keeps it where it stands.
        (
            "SELECT d.* FROM (SELECT u.id, (SELECT max(o.total) FROM orders o WHERE o.user_id = u.id) AS m FROM users u) d",
            ALL,
        ),
        (
            "SELECT d.* FROM (SELECT u.id, (SELECT count(*) FROM orders WHERE user_id = u.id) AS m FROM users u) d",
            ALL,
        ),
        (
            "SELECT d.* FROM (SELECT u.id, (SELECT sum(total + u.age) FROM orders WHERE user_id = u.id) AS m FROM users u) d",
            ALL,
        ),
    ]);
}

#[test]
fn equality_under_a_nondeterministic_collation_is_not_equality_of_bytes() {
    check_all(&[
        (
            "SELECT b.x FROM badges b JOIN tags l ON l.tag = b.code WHERE l.tag = 'ABC'",
            ALL,
        ),
        (
            "SELECT b.x FROM badges b, tags l WHERE l.tag = b.code AND l.tag = 'ABC'",
            ALL,
        ),
        (
            "SELECT b.x FROM badges b WHERE b.code IN (SELECT tag FROM tags WHERE tag = 'ABC')",
            ALL,
        ),
        (
            "SELECT b.x FROM badges b JOIN (SELECT tag AS code FROM tags) l USING (code) WHERE l.code = 'ABC'",
            ALL,
        ),
        (
            "SELECT b.x FROM badges b JOIN tags l ON l.tag = b.code WHERE b.code = 'ABC'",
            "single {'ABC'}",
        ),
        (
            "SELECT b.x FROM badges b JOIN tags l ON l.tag = b.code JOIN badges c ON c.code = l.tag",
            SPREAD,
        ),
    ]);
}

#[test]
fn returning_gives_what_was_written_not_what_was_found() {
    check_all(&[
        (
            "WITH d AS (UPDATE orders SET id = 9 WHERE user_id = 4 AND id = 0 RETURNING id) \
             SELECT u.id FROM users u JOIN d ON u.id = d.id",
            SPREAD,
        ),
        (
            "WITH d AS (UPDATE orders SET id = 9 WHERE user_id = 4 AND id = 4 RETURNING id) \
             SELECT u.id FROM users u WHERE u.id IN (SELECT id FROM d)",
            SPREAD,
        ),
        (
            "WITH d AS (UPDATE orders SET total = 9 WHERE user_id = 4 AND id = user_id RETURNING *) \
             SELECT u.id FROM users u JOIN d ON u.id = d.id",
            SPREAD,
        ),
        (
            "WITH d AS (INSERT INTO orders (user_id, id) SELECT user_id, user_id FROM posts WHERE user_id = 4 \
             ON CONFLICT (user_id, id) DO UPDATE SET id = 9 RETURNING id) SELECT u.id FROM users u JOIN d ON u.id = d.id",
            SPREAD,
        ),
        // The key stays what it was, and what a DELETE gives is what it found.
        (
            "WITH d AS (UPDATE orders SET id = 9 WHERE user_id = 4 RETURNING user_id) \
             SELECT u.id FROM users u JOIN d ON u.id = d.user_id",
            "single {4}",
        ),
        (
            "WITH d AS (DELETE FROM orders WHERE user_id = 4 AND id = 4 RETURNING id) \
             SELECT u.id FROM users u JOIN d ON u.id = d.id",
            "single {4}",
        ),
        (
            "WITH d AS (UPDATE orders SET id = 9 FROM posts p WHERE p.user_id = orders.user_id AND orders.user_id = 4 \
             RETURNING p.user_id) SELECT u.id FROM users u JOIN d ON u.id = d.user_id",
            "single {4}",
        ),
    ]);
}

#[test]
fn a_name_that_is_no_column_is_a_call() {
    check_all(&[
        ("SELECT u.count FROM users u", SPREAD),
        ("SELECT users.count FROM users", SPREAD),
        ("SELECT public.users.count FROM users", SPREAD),
        ("SELECT app.public.users.count FROM users", SPREAD),
        ("SELECT (u).count FROM users u", SPREAD),
        ("SELECT (users.*).array_agg FROM users", SPREAD),
        ("SELECT u.array_agg FROM users u", SPREAD),
        ("SELECT d.* FROM (SELECT u.count FROM users u) d", SPREAD),
        ("SELECT d.count FROM (SELECT id FROM users) d", SPREAD),
        (
            "SELECT d.* FROM (SELECT (SELECT u.count) AS n FROM users u) d",
            SPREAD,
        ),
        (
            "SELECT g.count FROM users u, generate_series(1, 3) g",
            SPREAD,
        ),
        ("SELECT u.first_of FROM users u", SPREAD),
        (
            "SELECT u.peek FROM users u WHERE u.id = 7",
            "refuse 0A000: function peek",
        ),
        (
            "SELECT (u).peek FROM users u WHERE u.id = 7",
            "refuse 0A000: function peek",
        ),
        (
            "SELECT (SELECT u).peek FROM users u WHERE u.id = 7",
            "refuse 0A000: function peek",
        ),
        (
            "SELECT id FROM users x WHERE x.peek > 20",
            "refuse 0A000: function peek",
        ),
        ("SELECT u.stamp FROM users u", SPREAD),
        ("SELECT u.nothing_of_that_name FROM users u", SPREAD),
        // Pinned, it is one server's answer whatever it is.
        ("SELECT u.count FROM users u WHERE u.id = 7", "single {7}"),
        (
            "SELECT u.nothing_of_that_name FROM users u WHERE u.id = 7",
            "single {7}",
        ),
        ("SELECT u.twice FROM users u", ALL),
        ("SELECT (u).name FROM users u", ALL),
        ("SELECT (u.name).first FROM users u", ALL),
        // Columns that are named by the calls they are.
        (
            "SELECT d.user_id, d.count FROM (SELECT user_id, count(*) FROM orders GROUP BY user_id) d",
            ALL,
        ),
        (
            "SELECT d.max FROM (SELECT user_id, max(id)::int FROM orders GROUP BY user_id) d",
            ALL,
        ),
        (
            "SELECT d.id FROM (SELECT u.id, u.age + 1 FROM users u) d",
            ALL,
        ),
    ]);
}

#[test]
fn what_names_a_row_or_an_object_by_number_is_each_shards_own() {
    check_all(&[
        ("SELECT id FROM users WHERE ctid = '(0,1)'", SPREAD),
        ("SELECT id FROM users u WHERE u.ctid = '(0,1)'", SPREAD),
        ("SELECT id, xmin FROM users", SPREAD),
        ("SELECT count(*) FROM users GROUP BY tableoid", SPREAD),
        ("SELECT id FROM users ORDER BY cmin, cmax, xmax", SPREAD),
        ("SELECT d.ctid FROM (SELECT ctid FROM users) d", SPREAD),
        ("SELECT DISTINCT 'users'::regclass::oid FROM users", SPREAD),
        ("SELECT 'users'::regclass::oid::int FROM users", SPREAD),
        (
            "SELECT CAST(CAST('users' AS regclass) AS bigint) FROM users",
            SPREAD,
        ),
        (
            "SELECT CAST('users' AS pg_catalog.regclass)::oid FROM users",
            SPREAD,
        ),
        ("SELECT oid(regclass 'users') FROM users", SPREAD),
        ("SELECT regclass('users')::oid FROM users", SPREAD),
        ("SELECT pg_typeof(name)::oid FROM users", SPREAD),
        (
            "SELECT id FROM users WHERE 'users'::regclass > 16400",
            SPREAD,
        ),
        ("SELECT 'users'::regclass::oid IN (1, 2) FROM users", SPREAD),
        (
            "SELECT d.c::oid FROM (SELECT 'users'::regclass AS c FROM users) d",
            SPREAD,
        ),
        ("SELECT id FROM users ORDER BY name::regtype", SPREAD),
        ("SELECT array['users'::regclass] FROM users", SPREAD),
        (
            "SELECT id FROM users WHERE id = 7 AND ctid = '(0,1)'",
            "single {7}",
        ),
        (
            "SELECT 'users'::regclass::oid FROM users WHERE id = 7",
            "single {7}",
        ),
        // Its binary form is the number.
        ("SELECT id, 'users'::regclass FROM users", SPREAD),
        ("SELECT id, pg_typeof(name) FROM users", SPREAD),
        ("SELECT 'users'::regclass::oid", "single s0"),
        ("SELECT id, 'users'::regclass::text FROM users", ALL),
        ("SELECT id, pg_typeof(name)::text FROM users", ALL),
        ("SELECT d.xmin FROM (SELECT id AS xmin FROM users) d", ALL),
        ("SELECT xmin FROM (SELECT id AS xmin FROM users) d", ALL),
    ]);
}

#[test]
fn what_says_now_in_the_answer_is_each_servers_own() {
    check_all(&[
        ("SELECT id, 'now'::timestamptz FROM users", SPREAD),
        ("SELECT tstzrange('now', NULL) FROM users", SPREAD),
        ("SELECT timestamptz('now') FROM users", SPREAD),
        ("SELECT timestamptz_in('now', 0, -1) FROM users", SPREAD),
        ("SELECT date_trunc('day', 'today') FROM users", SPREAD),
        ("SELECT ('no' || 'w')::timestamptz FROM users", SPREAD),
        ("SELECT timestamptz('no' || 'w') FROM users", SPREAD),
        (
            "SELECT concat('no', 'w')::pg_catalog.date FROM users",
            SPREAD,
        ),
        ("SELECT concat('[no', 'w,)')::tstzrange FROM users", SPREAD),
        ("SELECT reverse('won')::date FROM users", SPREAD),
        ("SELECT (SELECT 'no' || 'w')::date FROM users", SPREAD),
        (
            "SELECT count(*) FROM orders GROUP BY placed - 'today'",
            SPREAD,
        ),
        ("SELECT id FROM orders ORDER BY placed - 'now'", SPREAD),
        (
            "SELECT d.x FROM (SELECT coalesce(placed, 'now') AS x FROM orders) d",
            SPREAD,
        ),
        (
            "SELECT timestamptz('now') FROM users WHERE id = 7",
            "single {7}",
        ),
        (
            "SELECT placed FROM orders UNION SELECT 'now' FROM users",
            SPREAD,
        ),
        ("SELECT id, 'nowhere' FROM users WHERE name = 'now'", ALL),
        (
            "SELECT id, age + 1 FROM users WHERE name = 'now' LIMIT 3",
            ALL,
        ),
        (
            "SELECT id, coalesce(name, 'none') FROM users WHERE name = 'now'",
            ALL,
        ),
        (
            "SELECT id, (date '2024-01-01' + 1)::timestamp FROM users",
            ALL,
        ),
        (
            "SELECT id, date_trunc('day', placed)::date FROM orders",
            ALL,
        ),
        (
            "SELECT id, make_date(2024, 1, 1)::timestamp FROM users",
            ALL,
        ),
        ("SELECT id FROM orders WHERE placed < 'now'", ALL),
    ]);
    check(
        "SELECT id, $1::timestamptz FROM users",
        &[Given::Text("now")],
        SPREAD,
    );
    check(
        "SELECT id, $1::timestamptz FROM users",
        &[Given::Text("2024-01-01")],
        ALL,
    );
}

#[test]
fn what_a_server_says_of_itself_is_not_merged() {
    check_all(&[
        (
            "SELECT id FROM users WHERE current_database() = 's1'",
            SPREAD,
        ),
        ("SELECT id, current_catalog FROM users", SPREAD),
        ("SELECT inet_client_port() FROM users", SPREAD),
        (
            "SELECT current_database() FROM users WHERE id = 7",
            "single {7}",
        ),
        ("SELECT current_database()", "single s0"),
    ]);
}
