//! Which temporary tables are known to be nothing but that.

use super::{Case, RouteHint};
use crate::route::keep::Changes;
use crate::route::plan::Access;
use crate::topology::{Database, ImpliedBy, ImpliedCall, TableName};
use std::sync::Arc;

/// The name that the session is told of, and whether the statement is no change of the schema.
fn made(case: &Case, sql: &str) -> (Option<String>, bool) {
    let recipe = case.recipe(sql, Some(RouteHint::Shard("s1"))).unwrap();
    let nothing = Changes::Parts(Default::default());
    let own = recipe.access == Access::Write && recipe.changes == nothing;
    (recipe.makes_temporary.map(|name| name.to_string()), own)
}

/// The same, where the database is another.
fn with(change: impl FnOnce(&mut Database)) -> Case {
    let mut case = Case::new();
    let topology = Arc::make_mut(&mut case.topology);
    let app = topology.databases.get_mut("app").unwrap();
    change(Arc::make_mut(app));
    case
}

const PLAIN: &str = "CREATE TEMP TABLE x (a int)";

#[test]
fn what_runs_nothing_else_is_plain() {
    let case = Case::new();
    for sql in [
        PLAIN,
        "CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS x (a serial, b text DEFAULT 'y', c bool DEFAULT true, d int DEFAULT NULL, PRIMARY KEY (a), UNIQUE (b))",
        "CREATE TABLE pg_temp.x (a int NOT NULL) ON COMMIT DROP",
        "CREATE TEMP TABLE x AS SELECT 1 AS a",
    ] {
        assert_eq!(made(&case, sql), (Some("x".to_owned()), true), "{sql}");
    }
}

#[test]
fn what_may_run_something_is_not() {
    let case = Case::new();
    for sql in [
        "CREATE TEMP TABLE x (a int DEFAULT poke(1))",
        "CREATE TEMP TABLE x (a int DEFAULT 1 + 1)",
        "CREATE TEMP TABLE x (a int CHECK (a > 0))",
        "CREATE TEMP TABLE x (a int, CONSTRAINT c CHECK (poke(a) > 0))",
        "CREATE TEMP TABLE x (a int, b int GENERATED ALWAYS AS (a + 1) STORED)",
        "CREATE TEMP TABLE x (a int) INHERITS (y)",
        "CREATE TEMP TABLE x OF y",
        "CREATE TEMP TABLE x (LIKE nowhere INCLUDING ALL)",
    ] {
        assert_eq!(made(&case, sql), (None, true), "{sql}");
    }
    // Not temporary by its first words, though it may be one.
    for sql in [
        "CREATE TABLE x AS SELECT * FROM pg_temp.y",
        "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1",
        "CREATE TEMP VIEW x AS SELECT 1",
        "CREATE TEMP SEQUENCE x",
    ] {
        assert_eq!(made(&case, sql), (None, false), "{sql}");
    }
}

#[test]
fn event_triggers_and_types_may_run_something() {
    let case = with(|app| app.event_triggers = true);
    assert_eq!(made(&case, PLAIN), (None, false));
    for (by, name) in [
        (ImpliedBy::Column, None),
        (ImpliedBy::Name, Some("x".to_owned())),
        (ImpliedBy::Cast, Some("x".to_owned())),
    ] {
        let function = TableName {
            schema: "public".to_owned(),
            name: "poke".to_owned(),
        };
        let case = with(|app| {
            let call = ImpliedCall { function, by };
            app.implied.types.insert("dom".to_owned(), vec![call]);
        });
        assert_eq!(made(&case, PLAIN), (name, true), "{by:?}");
    }
}
