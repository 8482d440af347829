//! Keyway's own schema.

use super::{Case, check_all};
use crate::route::choose::hint::RouteHint;

#[test]
fn the_catalogs_schema_is_not_the_clients() {
    let own = "refuse 0A000: schema keyway is Keyway's own";
    for sql in [
        "SELECT * FROM keyway.identity",
        "SELECT * FROM KeyWay . identity",
        r#"TABLE "keyway".settings"#,
        r#"SELECT * FROM U&"key\0077ay".settings"#,
        "SELECT * FROM users WHERE id IN (SELECT shard FROM keyway.shards)",
        "UPDATE keyway.settings SET value = 2",
        "COPY keyway.buckets FROM STDIN",
        "TRUNCATE keyway.refused",
        "LOCK TABLE keyway.identity",
        "CREATE TABLE keyway.x (id int)",
        "CREATE VIEW v AS SELECT * FROM keyway.shards",
        "ALTER TABLE users SET SCHEMA keyway",
        "DROP SCHEMA keyway CASCADE",
        r#"DROP SCHEMA IF EXISTS other, "Third", keyway, fourth"#,
        "GRANT ALL ON ALL TABLES IN SCHEMA keyway TO bob",
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql IMMUTABLE AS $f$ SELECT max(value) FROM keyway.settings $f$",
        "DO $$ BEGIN EXECUTE 'DELETE FROM keyway.settings'; END $$",
        "DO 'BEGIN DELETE FROM keyway.settings; END'",
        "EXPLAIN SELECT * FROM keyway.identity",
        "PREPARE p AS SELECT * FROM keyway.identity",
        "not understood keyway.x at all",
    ] {
        let case = Case::new();
        for hint in [None, Some(RouteHint::Shard("s1"))] {
            let found = case.words(sql, &[], hint);
            assert!(found.starts_with(own), "{sql}: {found}");
        }
    }
    check_all(&[
        (
            "SELECT 'keyway.identity', name AS keyway FROM users WHERE id = 7",
            &Case::new().words("SELECT 1 FROM users WHERE id = 7", &[], None),
        ),
        (
            "COMMENT ON TABLE users IS 'see keyway.toml'",
            "broadcast s0,s1,s2",
        ),
        (
            "CREATE FUNCTION f() RETURNS text LANGUAGE sql STABLE AS $f$ SELECT current_setting('keyway.key', true) $f$",
            "broadcast s0,s1,s2",
        ),
    ]);
}
