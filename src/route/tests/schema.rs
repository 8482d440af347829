//! Schema changes.

use super::{Case, check_all};
use crate::route::choose::hint::RouteHint;

#[test]
fn schema_changes_reach_every_shard_of_the_keyspace() {
    let all = "broadcast s0,s1,s2";
    let no = "refuse 0A000";
    check_all(&[
        ("CREATE TABLE users (id bigint PRIMARY KEY, name text)", all),
        ("CREATE TABLE users (id bigserial PRIMARY KEY)", all),
        (
            "CREATE TABLE posts (id bigserial PRIMARY KEY, user_id bigint)",
            all,
        ),
        (
            "CREATE TABLE posts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id bigint)",
            all,
        ),
        (
            "CREATE TABLE posts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint)",
            all,
        ),
        (
            "CREATE TABLE posts (id bigint, user_id bigint, PRIMARY KEY (user_id, id))",
            all,
        ),
        (
            "CREATE TABLE posts (id bigint PRIMARY KEY, user_id bigint)",
            "refuse 0A000: PRIMARY KEY (id) on table posts",
        ),
        (
            "CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE)",
            "refuse 0A000: UNIQUE (email)",
        ),
        (
            "CREATE TABLE users (id bigint, email text, UNIQUE (email, id))",
            all,
        ),
        (
            "CREATE TABLE users (email text)",
            "refuse 0A000: a table without its sharding key",
        ),
        (
            "CREATE TABLE users (id float8)",
            "refuse 0A000: a sharding key of type float8",
        ),
        (
            "CREATE TABLE users (id numeric(10,2))",
            "refuse 0A000: a sharding key of type numeric",
        ),
        (
            "CREATE TABLE users (id smallserial)",
            "refuse 0A000: a smallint sequence",
        ),
        (
            "CREATE TABLE posts (id bigserial, user_id bigint REFERENCES users (id))",
            all,
        ),
        (
            "CREATE TABLE posts (id bigserial, user_id bigint REFERENCES users)",
            all,
        ),
        (
            "CREATE TABLE posts (user_id bigint, u2 bigint REFERENCES users (id))",
            "refuse 0A000: FOREIGN KEY (u2)",
        ),
        (
            "CREATE TABLE posts (user_id bigint, c text REFERENCES countries (code))",
            all,
        ),
        (
            "CREATE TABLE posts (user_id bigint REFERENCES users (id) ON DELETE SET NULL)",
            "refuse 0A000: FOREIGN KEY (user_id)",
        ),
        (
            "CREATE TABLE posts (user_id bigint REFERENCES users (id) ON DELETE CASCADE)",
            all,
        ),
        (
            "CREATE TABLE countries (code text PRIMARY KEY, id serial)",
            all,
        ),
        (
            "CREATE TABLE countries (code text, u bigint REFERENCES users (id))",
            no,
        ),
        (
            "CREATE TABLE user_activities (id bigserial PRIMARY KEY, x text UNIQUE)",
            "single activity",
        ),
        (
            "CREATE TABLE unlisted (id bigint)",
            "refuse 0A000: table unlisted is in no keyspace",
        ),
        (
            "CREATE TEMP TABLE x (id bigint)",
            "refuse 0A000: a temporary table",
        ),
        (
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "refuse 0A000: a temporary table or other",
        ),
        (
            "CREATE TYPE \"pg_temp\" . t AS ENUM ('a')",
            "refuse 0A000: a temporary table or other",
        ),
        // What a security definer function should say (manual, CREATE FUNCTION).
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'",
            all,
        ),
        ("CREATE TABLE users AS SELECT * FROM posts", no),
        ("SELECT * INTO users FROM posts", no),
        ("CREATE VIEW v AS SELECT * FROM users", all),
        ("CREATE VIEW v AS SELECT * FROM users, settings", no),
        ("CREATE INDEX ON users (email)", all),
        (
            "CREATE UNIQUE INDEX ON users (email)",
            "refuse 0A000: UNIQUE INDEX (email)",
        ),
        ("CREATE UNIQUE INDEX ON users (id, email)", all),
        ("CREATE INDEX CONCURRENTLY ON users (email)", all),
        ("ALTER TABLE users ADD COLUMN x int DEFAULT 5", all),
        (
            "ALTER TABLE users ADD COLUMN x int UNIQUE",
            "refuse 0A000: UNIQUE (x)",
        ),
        (
            "ALTER TABLE users ADD CONSTRAINT u UNIQUE (email)",
            "refuse 0A000: UNIQUE (email)",
        ),
        ("ALTER TABLE posts ADD CONSTRAINT u PRIMARY KEY (id)", all),
        ("ALTER TABLE users DROP COLUMN id", no),
        ("ALTER TABLE users DROP COLUMN email", all),
        ("ALTER TABLE users ALTER COLUMN id TYPE int", no),
        ("ALTER TABLE users RENAME COLUMN id TO x", no),
        ("ALTER TABLE users RENAME TO x", no),
        (
            "ALTER TABLE countries ADD COLUMN x uuid DEFAULT gen_random_uuid()",
            no,
        ),
        ("ALTER TABLE countries ADD COLUMN x int DEFAULT 5", all),
        (
            "ALTER TABLE visits ADD COLUMN x uuid DEFAULT gen_random_uuid()",
            "single activity",
        ),
        ("DROP TABLE users", all),
        ("DROP TABLE users, posts", all),
        ("DROP TABLE users, visits", no),
        ("DROP TABLE visits", "single activity"),
        ("DROP TABLE IF EXISTS leftover", all),
        ("CREATE TYPE mood AS ENUM ('a')", all),
        ("CREATE EXTENSION pgcrypto", all),
        ("CREATE SCHEMA x", all),
        ("GRANT SELECT ON users TO bob", all),
        ("CREATE ROLE bob", no),
    ]);
}

#[test]
fn sequences_get_ranges_of_their_own() {
    let case = Case::new();
    let plan = case
        .plan(
            "CREATE TABLE posts (id bigserial PRIMARY KEY, user_id bigint)",
            &[],
            None,
        )
        .unwrap();
    assert_eq!(plan.after.len(), 3);
    let (shard, block) = &plan.after[1];
    assert_eq!(shard.0, 1);
    assert!(
        block.contains("17592186044417::int8, 35184372088832::int8"),
        "{block}"
    );
    assert!(block.contains("4194305, 8388608"), "{block}");
    assert!(
        block.contains("E'\"public\".\"posts\"'::pg_catalog.regclass"),
        "{block}"
    );
    assert!(
        case.plan("CREATE TABLE posts (id bigint, user_id bigint)", &[], None)
            .unwrap()
            .after
            .is_empty()
    );
    assert_eq!(
        case.plan("CREATE SEQUENCE s", &[], None)
            .unwrap()
            .after
            .len(),
        3
    );
    for owned in [
        "CREATE SEQUENCE s OWNED BY posts.id",
        "CREATE SEQUENCE public.s AS integer START WITH 1 INCREMENT BY 1 CACHE 1 OWNED BY public.posts.id",
        "ALTER SEQUENCE s OWNED BY posts.id",
        "ALTER SEQUENCE s MAXVALUE 100 OWNED BY posts.id",
    ] {
        let plan = case.plan(owned, &[], None).unwrap();
        assert_eq!(plan.after.len(), 3, "{owned}");
        assert!(plan.after[0].1.contains("regclass"), "{owned}");
    }
    assert_eq!(
        case.plan("ALTER TABLE posts ADD COLUMN n serial", &[], None)
            .unwrap()
            .after
            .len(),
        3
    );
    let hinted = case
        .plan(
            "CREATE TABLE posts (id bigserial, user_id bigint)",
            &[],
            Some(RouteHint::Shard("s2")),
        )
        .unwrap();
    assert_eq!(hinted.after.len(), 1);
    let concurrently = case
        .plan("CREATE INDEX CONCURRENTLY ON users (email)", &[], None)
        .unwrap();
    assert!(concurrently.outside_transaction);
}

#[test]
fn a_name_of_another_keyspace_is_not_taken() {
    let mut case = Case::new();
    let topology = std::sync::Arc::make_mut(&mut case.topology);
    let mut database = (*topology.databases["app"]).clone();
    // The unsharded keyspace activity.
    database.default = Some(crate::topology::KeyspaceId(1));
    topology
        .databases
        .insert("app".to_owned(), std::sync::Arc::new(database));
    let words = |sql: &str| case.words(sql, &[], None);
    for sql in [
        "ALTER TABLE newt RENAME TO users",
        "ALTER TABLE user_activities RENAME TO settings",
        "ALTER TABLE audit.users SET SCHEMA public",
        "ALTER VIEW newv RENAME TO users",
        "ALTER MATERIALIZED VIEW newv RENAME TO \"users\"",
        "ALTER VIEW audit.users SET SCHEMA public",
        "ALTER SCHEMA audit RENAME TO public",
        "CREATE VIEW users AS SELECT 1",
        "CREATE OR REPLACE VIEW public.users AS SELECT id FROM visits",
        "CREATE MATERIALIZED VIEW settings AS SELECT id FROM visits",
        "CREATE FOREIGN TABLE users (id int) SERVER x",
    ] {
        let found = words(sql);
        let expected = "refuse 0A000: ";
        assert!(
            found.starts_with(expected) && found.contains("is a table of keyspace"),
            "{sql} {found}"
        );
    }
    for sql in [
        "ALTER TABLE newt RENAME TO newer",
        "ALTER TABLE newt RENAME TO visits",
        "ALTER TABLE newt RENAME COLUMN users TO settings",
        "ALTER TABLE newt SET SCHEMA audit",
        "ALTER VIEW newv RENAME TO newer",
        "ALTER VIEW newv RENAME COLUMN id TO users",
        "CREATE VIEW newv AS SELECT id FROM visits",
    ] {
        assert_eq!(words(sql), "single activity", "{sql}");
    }
}

/// Each shard would enforce the index's equality among its own rows, and a shard is found by the key's bytes.
#[test]
fn unique_indexes_compare_the_key_as_its_column_does() {
    let all = "broadcast s0,s1,s2";
    let no = "refuse 0A000: UNIQUE";
    check_all(&[
        ("CREATE UNIQUE INDEX ON words (w)", all),
        ("CREATE UNIQUE INDEX ON words (x, w DESC NULLS LAST)", all),
        ("CREATE UNIQUE INDEX ON words (w COLLATE \"C\", x)", all),
        (
            "CREATE UNIQUE INDEX ON words (w COLLATE pg_catalog.\"default\")",
            all,
        ),
        ("CREATE UNIQUE INDEX ON words (w text_pattern_ops)", all),
        (
            "CREATE UNIQUE INDEX ON words (w COLLATE \"C\" pg_catalog.text_ops ASC)",
            all,
        ),
        ("CREATE UNIQUE INDEX ON words (w COLLATE ci)", no),
        ("CREATE UNIQUE INDEX ON words (w COLLATE ci, x)", no),
        (
            "CREATE UNIQUE INDEX ON words (x, w COLLATE public.\"C\")",
            no,
        ),
        (
            "CREATE UNIQUE INDEX ON words (w COLLATE \"C\" loose_ops)",
            no,
        ),
        ("CREATE UNIQUE INDEX ON words (w my.text_ops)", no),
        ("CREATE INDEX ON words (w COLLATE ci)", all),
    ]);
}

/// What fills the rows that are there is computed by each shard.
#[test]
fn columns_are_filled_with_what_every_shard_computes_alike() {
    let all = "broadcast s0,s1,s2";
    let no = "refuse 0A000: ADD COLUMN … DEFAULT with";
    let using = "refuse 0A000: ALTER COLUMN … TYPE … USING with";
    check_all(&[
        ("ALTER TABLE users ADD COLUMN n int DEFAULT 7", all),
        (
            "ALTER TABLE users ADD n text NOT NULL DEFAULT upper('x') || lower('Y'::text)",
            all,
        ),
        ("ALTER TABLE users ADD COLUMN n int DEFAULT twice(2)", all),
        (
            "ALTER TABLE users ADD COLUMN n uuid DEFAULT gen_random_uuid()",
            all,
        ),
        (
            "ALTER TABLE users ADD COLUMN n float8 DEFAULT random()",
            all,
        ),
        (
            "ALTER TABLE users ADD COLUMN n bigint DEFAULT nextval('s')",
            all,
        ),
        (
            "ALTER TABLE users ADD COLUMN n text DEFAULT current_user",
            all,
        ),
        (
            "ALTER TABLE users ADD COLUMN n timestamptz DEFAULT now()",
            no,
        ),
        (
            "ALTER TABLE users ADD COLUMN n timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP",
            no,
        ),
        (
            "ALTER TABLE users ADD COLUMN n date DEFAULT (now() AT TIME ZONE 'UTC')::date",
            no,
        ),
        (
            "ALTER TABLE users ADD COLUMN n text DEFAULT current_database()",
            no,
        ),
        (
            "ALTER TABLE users ADD m int, ADD n text DEFAULT current_catalog",
            no,
        ),
        (
            "ALTER TABLE users ADD COLUMN n int DEFAULT poke()",
            "refuse 0A000: function poke",
        ),
        ("ALTER TABLE users ADD COLUMN n int DEFAULT nosuch()", no),
        ("ALTER TABLE users ALTER COLUMN age TYPE bigint", all),
        (
            "ALTER TABLE users ALTER age TYPE text USING age::text || upper(name)",
            all,
        ),
        (
            "ALTER TABLE users ALTER age SET DATA TYPE text COLLATE \"C\" USING lower(name), DROP flag",
            all,
        ),
        (
            "ALTER TABLE users ALTER age TYPE text USING age::text || current_database()",
            using,
        ),
        (
            "ALTER TABLE users ALTER age TYPE timestamptz USING now()",
            using,
        ),
        (
            "ALTER TABLE users ALTER age TYPE int USING peek(age)",
            "refuse 0A000: function peek",
        ),
        (
            "ALTER TABLE users ALTER age SET DEFAULT extract(year from now())",
            all,
        ),
        (
            "ALTER TABLE user_activities ADD COLUMN n timestamptz DEFAULT now()",
            "single activity",
        ),
    ]);
}

/// What becomes a constant in the schema must be the same one on every shard.
#[test]
fn a_shards_clock_does_not_become_part_of_the_schema() {
    let no = "refuse 0A000: a time that each shard would take from its own clock";
    let all = "broadcast s0,s1,s2";
    check_all(&[
        (
            "CREATE TABLE users (id bigint, at timestamptz DEFAULT 'now')",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamp DEFAULT 'now'::timestamp)",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at date DEFAULT (('today'))::date)",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at text DEFAULT CAST('tomorrow' AS pg_catalog.date)::text)",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at text DEFAULT timestamp(3) with time zone 'now')",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at mytime DEFAULT 'now')",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz CHECK (at > 'now'))",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz, CHECK ('2020-01-01' < at AND 'now' < at))",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at date GENERATED ALWAYS AS (date 'today') STORED)",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz) PARTITION BY RANGE (at)",
            all,
        ),
        (
            "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('today') TO ('2030-01-01')",
            "refuse 0A000",
        ),
        ("ALTER TABLE users ALTER COLUMN age SET DEFAULT 'now'", no),
        (
            "ALTER TABLE users ADD COLUMN at timestamp DEFAULT 'now'",
            no,
        ),
        (
            "ALTER TABLE orders ALTER placed SET DEFAULT timestamptz 'today'",
            no,
        ),
        ("ALTER TABLE orders ADD CHECK (placed > 'yesterday')", no),
        ("CREATE INDEX ON orders (total) WHERE placed > 'now'", no),
        (
            "CREATE VIEW v AS SELECT * FROM orders WHERE placed > 'now'",
            no,
        ),
        (
            "CREATE VIEW v AS SELECT id, 'now'::timestamptz FROM orders",
            no,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz DEFAULT now())",
            all,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz DEFAULT CURRENT_TIMESTAMP, d date DEFAULT CURRENT_DATE)",
            all,
        ),
        (
            "CREATE TABLE users (id bigint, due text DEFAULT 'today', v varchar(9) DEFAULT 'now')",
            all,
        ),
        (
            "CREATE TABLE users (id bigint, due text CHECK (due IN ('today', 'tomorrow')), at timestamptz)",
            all,
        ),
        (
            "CREATE TABLE users (id bigint, at timestamptz DEFAULT '2024-01-01', note text DEFAULT 'now and then')",
            all,
        ),
        ("ALTER TABLE users ALTER name SET DEFAULT 'now'", all),
        ("COMMENT ON TABLE users IS 'as of now'", all),
        (
            "CREATE TABLE user_activities (id bigint, at timestamp DEFAULT 'now')",
            "single activity",
        ),
    ]);
}

/// What only a server knows of a key's type, each shard is asked behind CREATE TABLE.
#[test]
fn the_types_of_keys_are_known_or_looked_at() {
    let case = Case::new();
    for (sql, looked_at) in [
        ("CREATE TABLE users (id mood)", true),
        ("CREATE TABLE users (id public.positive)", true),
        ("CREATE TABLE users (id inet)", true),
        ("CREATE TABLE users (id text COLLATE ci)", true),
        ("CREATE TABLE users (LIKE posts)", true),
        ("CREATE TABLE users (id bigint)", false),
        ("CREATE TABLE users (id uuid)", false),
        ("CREATE TABLE users (id timestamp(3) with time zone)", false),
    ] {
        let after = case.plan(sql, &[], None).unwrap().after;
        assert_eq!(after.len(), if looked_at { 3 } else { 0 }, "{sql}");
        for (_, block) in after {
            assert!(block.contains("a.attname IN (E'id')"), "{block}");
        }
    }
    check_all(&[
        (
            "CREATE TABLE users (id int[])",
            "refuse 0A000: a sharding key of type",
        ),
        (
            "CREATE TABLE users (id jsonb)",
            "refuse 0A000: a sharding key of type jsonb",
        ),
        (
            "CREATE TABLE users (id mood[])",
            "refuse 0A000: a sharding key of type",
        ),
    ]);
}
