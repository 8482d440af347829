//! Values that would have to be compared with other shards' rows.

use super::{Case, check_all};
use crate::route::choose::hint::RouteHint;
use crate::wire::error::ClientError;

/// The shard of user 7.
fn seven() -> String {
    Case::new().words("SELECT 1 FROM tickets WHERE user_id = 7", &[], None)
}

#[test]
fn generated_columns_take_no_other_value() {
    let no = "refuse 0A000: PRIMARY KEY (id) on table tickets";
    let uid = "refuse 0A000: UNIQUE (uid) on table tickets";
    let one = &seven();
    check_all(&[
        ("INSERT INTO tickets (user_id, note) VALUES (7, 'a')", one),
        ("INSERT INTO tickets (id, user_id) VALUES (DEFAULT, 7)", one),
        ("INSERT INTO tickets VALUES (DEFAULT, 7), (DEFAULT, 7)", one),
        ("INSERT INTO tickets (id, user_id) VALUES (1, 7)", no),
        ("INSERT INTO tickets (id, user_id) VALUES (NULL, 7)", no),
        (
            "INSERT INTO tickets (id, user_id) VALUES (DEFAULT, 7), (2, 7)",
            no,
        ),
        ("INSERT INTO tickets (user_id, id) VALUES (7, 1 + 1)", no),
        ("INSERT INTO tickets VALUES (1, 7)", no),
        (
            "INSERT INTO tickets (id, user_id) OVERRIDING SYSTEM VALUE VALUES (1, 7)",
            no,
        ),
        (
            "INSERT INTO tickets (id, user_id) OVERRIDING USER VALUE VALUES (1, 7)",
            one,
        ),
        (
            "INSERT INTO tickets (user_id, uid) OVERRIDING USER VALUE VALUES (7, '00000000-0000-0000-0000-000000000001')",
            uid,
        ),
        (
            "INSERT INTO tickets (id, user_id) VALUES (1, 7) ON CONFLICT DO NOTHING",
            no,
        ),
        (
            "INSERT INTO tickets (id, user_id) VALUES (1, 7) ON CONFLICT (id) DO UPDATE SET note = 'x'",
            no,
        ),
        (
            "INSERT INTO tickets (user_id) VALUES (7) ON CONFLICT DO NOTHING",
            one,
        ),
        (
            "INSERT INTO tickets (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET note = 'x'",
            one,
        ),
        (
            "INSERT INTO tickets (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET id = EXCLUDED.id",
            one,
        ),
        (
            "INSERT INTO tickets (user_id) VALUES (7) ON CONFLICT (id) DO UPDATE SET id = 5",
            no,
        ),
        (
            "INSERT INTO tickets (user_id, uid) VALUES (7, gen_random_uuid())",
            one,
        ),
        (
            "INSERT INTO tickets (user_id, uid) VALUES (7, pg_catalog.gen_random_uuid())",
            one,
        ),
        (
            "INSERT INTO tickets (user_id, uid) VALUES (7, public.gen_random_uuid())",
            "refuse 0A000",
        ),
        (
            "INSERT INTO tickets (user_id, uid) VALUES (7, '00000000-0000-0000-0000-000000000001')",
            uid,
        ),
        (
            "INSERT INTO tickets (user_id, uid) VALUES (7, coalesce(NULL, gen_random_uuid()))",
            uid,
        ),
        (
            "INSERT INTO tickets SELECT id, user_id FROM posts WHERE user_id = 7",
            no,
        ),
        (
            "INSERT INTO tickets SELECT * FROM posts WHERE user_id = 7",
            no,
        ),
        (
            "INSERT INTO tickets (user_id, id) SELECT user_id, id FROM posts WHERE user_id = 7",
            no,
        ),
        (
            "INSERT INTO tickets (user_id, note) SELECT user_id, body FROM posts WHERE user_id = 7",
            one,
        ),
        ("UPDATE tickets SET note = 'b' WHERE user_id = 7", one),
        (
            "UPDATE tickets SET id = id, uid = tickets.uid WHERE user_id = 7",
            one,
        ),
        (
            "UPDATE tickets t SET id = t.id, note = 'b' WHERE user_id = 7",
            one,
        ),
        (
            "UPDATE tickets SET (id, note) = (id, 'b') WHERE user_id = 7",
            one,
        ),
        (
            "UPDATE tickets SET (id, note) = (DEFAULT, 'b') WHERE user_id = 7",
            one,
        ),
        (
            "UPDATE tickets SET id = DEFAULT, uid = gen_random_uuid() WHERE user_id = 7",
            one,
        ),
        ("UPDATE tickets SET id = 5 WHERE user_id = 7", no),
        ("UPDATE tickets SET id = id + 1 WHERE user_id = 7", no),
        ("UPDATE tickets SET id = user_id WHERE user_id = 7", no),
        (
            "UPDATE tickets SET id = p.id FROM posts p WHERE tickets.user_id = 7 AND p.user_id = 7",
            no,
        ),
        (
            "UPDATE tickets SET (note, id) = ('b', 5) WHERE user_id = 7",
            no,
        ),
        (
            "UPDATE tickets SET (note, id) = (SELECT 'b', 5) WHERE user_id = 7",
            no,
        ),
        ("DELETE FROM tickets WHERE user_id = 7", one),
        (
            "MERGE INTO tickets t USING (VALUES (7)) v (u) ON t.user_id = v.u AND t.user_id = 7 WHEN MATCHED THEN UPDATE SET id = 5",
            "refuse 0A000",
        ),
        (
            "MERGE INTO tickets t USING posts p ON t.user_id = p.user_id AND p.user_id = 7 WHEN MATCHED THEN UPDATE SET id = p.id",
            no,
        ),
        (
            "MERGE INTO tickets t USING posts p ON t.user_id = p.user_id AND p.user_id = 7 WHEN NOT MATCHED THEN INSERT (id, user_id) VALUES (p.id, p.user_id)",
            no,
        ),
        (
            "WITH w AS (INSERT INTO tickets (id, user_id) VALUES (1, 7) RETURNING id) SELECT * FROM w",
            no,
        ),
        (
            "WITH w AS (UPDATE tickets SET id = 5 WHERE user_id = 7 RETURNING id) SELECT * FROM w",
            no,
        ),
        (
            "WITH w AS (UPDATE tickets SET id = 5 WHERE user_id = 7 RETURNING id) INSERT INTO posts (user_id) VALUES (7)",
            no,
        ),
        (
            "EXPLAIN INSERT INTO tickets (id, user_id) VALUES (1, 7)",
            no,
        ),
        (
            "PREPARE p AS INSERT INTO tickets (id, user_id) VALUES ($1, 7)",
            no,
        ),
    ]);
}

#[test]
fn rows_that_nothing_makes_unique_are_not_inserted() {
    let no = "refuse 0A000: UNIQUE (email) on table accounts";
    let one = &seven();
    check_all(&[
        ("INSERT INTO accounts (user_id, email) VALUES (7, 'a')", no),
        ("INSERT INTO accounts (user_id) VALUES (7)", no),
        ("UPDATE accounts SET email = 'a' WHERE user_id = 7", no),
        ("UPDATE accounts SET email = DEFAULT WHERE user_id = 7", no),
        (
            "UPDATE accounts SET email = email, x = 1 WHERE user_id = 7",
            one,
        ),
        ("DELETE FROM accounts WHERE user_id = 7", one),
    ]);
}

#[test]
fn the_refusal_says_what_to_do() {
    let case = Case::new();
    let refused = |sql: &str| case.plan(sql, &[], None).unwrap_err();
    let error = refused("INSERT INTO tickets (id, user_id) VALUES (1, 7)");
    assert!(error.detail().unwrap().contains("Values of id are unique"));
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("write DEFAULT") && hint.contains("trust = [\"tickets_pkey\"]"),
        "{hint}"
    );
    let error = refused("INSERT INTO accounts (user_id, email) VALUES (7, 'a')");
    let hint = error.hint().unwrap();
    assert!(hint.contains("trust = [\"accounts_email_key\"]"), "{hint}");
}

/// Whoever names the shard answers for what other shards have.
#[test]
fn a_hint_vouches_for_the_value() {
    let words = |hint| {
        let sql = "INSERT INTO tickets (id, user_id) VALUES (1, 7)";
        Case::new().words(sql, &[], Some(hint))
    };
    assert_eq!(words(RouteHint::Key("7")), seven());
}

/// Rows that are there could have any value before the constraint.
#[test]
fn a_late_constraint_asks_for_an_empty_table() {
    let case = Case::new();
    let after = |sql: &str| case.plan(sql, &[], None).unwrap().after;
    for sql in [
        "ALTER TABLE posts ADD PRIMARY KEY (id)",
        "ALTER TABLE posts ADD CONSTRAINT u UNIQUE (id, body)",
        "CREATE UNIQUE INDEX ON posts (id)",
    ] {
        let after = after(sql);
        assert_eq!(after.len(), 3, "{sql}");
        let block = &after[0].1;
        assert!(
            block.contains("IF EXISTS (SELECT FROM \"public\".\"posts\")"),
            "{block}"
        );
    }
    for sql in [
        "ALTER TABLE posts ADD PRIMARY KEY (user_id, id)",
        "CREATE UNIQUE INDEX ON posts (id, user_id)",
        "CREATE INDEX ON posts (id)",
        "ALTER TABLE posts ADD COLUMN u uuid DEFAULT gen_random_uuid() UNIQUE",
    ] {
        assert!(after(sql).is_empty(), "{sql}");
    }
    check_all(&[(
        "CREATE UNIQUE INDEX CONCURRENTLY ON posts (id)",
        "refuse 0A000: CREATE UNIQUE INDEX CONCURRENTLY",
    )]);
}

/// A data-modifying WITH entry under a SELECT is held to the same rules as at the top.
#[test]
fn writes_below_a_select_keep_the_sharding_key() {
    check_all(&[
        (
            "WITH w AS (UPDATE users SET id = 8 WHERE id = 7 RETURNING id) SELECT * FROM w",
            "refuse 0A000: the statement would change the sharding key",
        ),
        (
            "WITH w AS (UPDATE users SET id = 7 WHERE id = 7 RETURNING id) SELECT * FROM w",
            &Case::new().words("SELECT 1 FROM users WHERE id = 7", &[], None),
        ),
    ]);
}
