//! `keyway migrate` on real shards.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use crate::crowd::{is_soak, seed};
use crate::gate::{Control, Gate};
use crate::harness::{Router, cluster, create_database, eventually, free_port};
use crate::place::{Place, Ran, connect};
use crate::raw::Client;

const SHARDS: [&str; 3] = ["s0", "s1", "s2"];

/// Three shards of a keyspace and one of another, and files to run on them.
fn place(name: &'static str) -> Place {
    place_with(name, |database| {
        create_database(database);
        cluster().dsn(database)
    })
}

fn place_with(name: &'static str, dsn: impl Fn(&str) -> String) -> Place {
    let rest = "[databases.app]\nkeyspaces = [\"main\", \"solo\"]\ndefault = \"solo\"\n\
         [keyspaces.main]\nshards = [\"s0\", \"s1\", \"s2\"]\n\
         [keyspaces.main.tables]\nusers = { key = \"id\" }\nposts = { key = \"user_id\" }\n\
         [keyspaces.solo]\nshards = [\"solo\"]\n";
    let shards = ["s0", "s1", "s2", "solo"];
    let place = Place::new(name, &["migrate"], &shards, dsn, rest);
    fs::create_dir_all(place.directory.path().join("migrations/main")).unwrap();
    place
}

/// The same question on all shards of main.
fn all(site: &Place, sql: &str) -> Vec<String> {
    SHARDS.iter().map(|shard| site.on(shard).one(sql)).collect()
}

const USERS: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL);\n";

#[test]
fn every_shard_gets_every_migration_once() {
    let site = place("migrate_up");
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__posts.sql",
        "-- keyway: lock_timeout=2s\nCREATE TABLE posts (user_id bigint NOT NULL, title text);\n\
         CREATE FUNCTION titled(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN initcap($1); END $$;\n",
    );
    site.file(
        "main/V3__index.sql",
        "-- keyway: transaction=false\nCREATE INDEX CONCURRENTLY posts_title ON posts (title);\nANALYZE posts;\n",
    );
    site.file(
        "main/R__named.sql",
        "CREATE OR REPLACE VIEW named AS SELECT id, name FROM users;\n",
    );
    site.file(
        "solo/1_log.sql",
        "-- migrate:up\nCREATE TABLE log (what text);\n-- migrate:down\nDROP TABLE log;\n",
    );
    let plan = site.good(&["plan"]);
    assert_eq!(plan.lines().count(), 13, "{plan}");
    assert!(
        plan.contains("main s1: 3 index (2 statements, outside a transaction)"),
        "{plan}"
    );
    let before = site.run(&["status"]);
    assert_eq!(before.status, Some(1), "{before:?}");
    assert_eq!(site.good(&["up", "--dry-run"]), plan);
    assert_eq!(all(&site, "select to_regclass('users') is null"), ["t"; 3]);

    // A router that runs meanwhile knows what is new.
    let router = Router::start(&site.config);
    let up = site.good(&["up", "--canary", "s2", "--parallel", "2"]);
    assert_eq!(up.lines().count(), 13, "{up}");
    assert!(up.starts_with("main s2: 1 users ("), "{up}");
    let mut client = connect(&router);
    eventually("the router knows the table", || {
        let answer = client.simple("insert into users (name) values ('Ann'), ('Bob')");
        (answer.first()?.tag == b'C').then_some(())
    });

    let status = site.good(&["status"]);
    let lines: Vec<Vec<&str>> = status
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["main", "s0", "s1", "s2"]);
    assert_eq!(lines[1], ["1", "users", "done", "done", "done"]);
    assert_eq!(lines[4], ["R", "named", "named", "done", "done", "done"]);
    let json: serde_json::Value = serde_json::from_str(&site.good(&["status", "--json"])).unwrap();
    assert_eq!(json[2]["shards"]["s1"], "done");
    assert_eq!(
        all(
            &site,
            "select count(*) from pg_index where indrelid = 'posts'::regclass and indisvalid"
        ),
        ["1"; 3]
    );
    // Each shard counts in a range of its own.
    let next = all(&site, "select nextval('users_id_seq') >> 44");
    let mut ranges = next.clone();
    ranges.sort();
    ranges.dedup();
    assert_eq!(ranges.len(), 3, "{next:?}");

    assert_eq!(site.good(&["up"]), "");
    assert!(site.good(&["plan"]).starts_with("nothing to run"));
    // What can be repeated runs again when it has changed, and a new version on all.
    site.file(
        "main/R__named.sql",
        "CREATE OR REPLACE VIEW named AS SELECT id, name, 1 AS one FROM users;\n",
    );
    site.file(
        "main/V4__more.sql",
        "-- keyway: shards=s1\nALTER TABLE users ADD email text;\n",
    );
    let up = site.good(&["up", "--to", "4"]);
    assert_eq!(up.lines().count(), 1, "{up}");
    assert_eq!(site.good(&["up"]).lines().count(), 3);
    let columns = "select count(*) from information_schema.columns where table_name = 'users'";
    assert_eq!(all(&site, columns), ["2", "3", "2"]);
}

/// During a rollout some shards have a column that others have not.
#[test]
fn shards_that_differ_are_not_mixed() {
    let site = place("migrate_mixed");
    site.file("main/V1__users.sql", USERS);
    site.good(&["up"]);
    let router = Router::start(&site.config);
    let mut client = connect(&router);
    for name in ["Ann", "Bob", "Cid", "Dee"] {
        client.simple(&format!("insert into users (name) values ('{name}')"));
    }
    let read = "select * from users order by id";
    assert_eq!(client.rows(read).len(), 4);
    site.on("s1").simple("alter table users add email text");
    site.on("s1")
        .simple("insert into users values (99, 'Eve', 'e')");
    for sql in [read, "select * from users"] {
        let answer = client.simple(sql);
        assert!(answer.iter().any(|message| message.tag == b'E'), "{sql}");
    }
    assert_eq!(client.rows("select id, name from users").len(), 5);
}

#[test]
fn a_statement_that_fails_leaves_nothing_of_its_file() {
    let site = place("migrate_fails");
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__bad.sql",
        "ALTER TABLE users ADD a int;\n\nALTER TABLE users ADD CHECK (no_such > 0);\n",
    );
    site.file("main/V3__after.sql", "CREATE TABLE posts (user_id bigint);");
    let ran = site.run(&["up", "--parallel", "1"]);
    ran.refused("main s0: V2__bad.sql:3: column \"no_such\" does not exist (42703)");
    // The others were not begun.
    assert_eq!(
        all(&site, "select to_regclass('users') is not null"),
        ["t", "f", "f"]
    );
    assert_eq!(
        site.on("s0")
            .one("select count(*) from information_schema.columns where table_name = 'users'"),
        "2"
    );
    site.run(&["status"]).refused("");
    let ran = site.run(&["up", "--on-error", "continue"]);
    ran.refused("main s2: V2__bad.sql:3");
    assert_eq!(
        all(&site, "select to_regclass('users') is not null"),
        ["t"; 3]
    );
    // The others wait for a canary that fails, whatever is said of errors.
    site.file(
        "main/V2__bad.sql",
        "ALTER TABLE users ADD CHECK (no_such > 0)",
    );
    let ran = site.run(&["up", "--canary", "s1", "--on-error", "continue"]);
    ran.refused("main s1: V2__bad.sql:1");
    assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
    site.run(&["up", "--canary", "s9"])
        .refused("no keyspace has a shard \"s9\" to begin with");
    // What a file SET is gone with it.
    site.file(
        "main/V2__bad.sql",
        "SET search_path = pg_catalog;\nSET ROLE pg_read_all_stats;\nRESET ROLE;\nALTER TABLE public.users ADD a int;\nSET ROLE pg_read_all_stats;\n",
    );
    assert_eq!(site.good(&["up"]).lines().count(), 6);
    site.good(&["status"]);
}

#[test]
fn files_that_changed_went_or_came_late_are_named() {
    let site = place("migrate_drift");
    site.file("main/V2__users.sql", USERS);
    site.good(&["up"]);
    site.file("main/V2__users.sql", "CREATE TABLE users (id bigint);");
    site.run(&["up"])
        .refused("s1: V2__users.sql was changed after it ran");
    site.run(&["plan"])
        .refused("s2: V2__users.sql was changed after it ran");
    assert!(site.run(&["status"]).out.contains("changed"));
    site.remove("main/V2__users.sql");
    site.run(&["up"])
        .refused("version 2 (users) has run and has no file");
    assert!(site.run(&["status"]).out.contains("users (no file)"));
    site.file("main/V2__users.sql", USERS);
    site.file("main/V1__early.sql", "CREATE TABLE posts (user_id bigint)");
    site.run(&["up"])
        .refused("V1__early.sql comes before version 2, which has run");
    assert_eq!(site.good(&["up", "--out-of-order"]).lines().count(), 3);
    site.file("main/nonsense.sql", "");
    site.run(&["up"])
        .refused("main/nonsense.sql: not a migration's name");
    site.remove("main/nonsense.sql");
    site.file("other/V1__x.sql", "SELECT 1");
    site.run(&["up"])
        .refused("the configuration has no keyspace \"other\"");
}

#[test]
fn a_shard_that_is_down_is_named_and_made_up_for() {
    let closed = free_port();
    let dsn = |database: &str| {
        let dsn = cluster().dsn(database);
        let port = format!(":{}/", cluster().port());
        if database.ends_with("_s1") {
            dsn.replace(&port, &format!(":{closed}/"))
        } else {
            dsn
        }
    };
    for shard in SHARDS.iter().chain(&["solo"]) {
        create_database(&format!("migrate_down_{shard}"));
    }
    let whole = place_with("migrate_down", |database| cluster().dsn(database));
    // The catalog is made when all shards answer.
    whole.good(&["up"]);
    let site = place_with("migrate_down", dsn);
    for site in [&whole, &site] {
        site.file("main/V1__users.sql", USERS);
    }
    let ran = site.run(&["up"]);
    ran.refused("shard s1");
    assert_eq!(
        all(&whole, "select to_regclass('users') is not null"),
        ["f"; 3]
    );
    let ran = site.run(&["up", "--on-error", "continue"]);
    ran.refused("main s1: connect to shard s1");
    assert_eq!(
        all(&whole, "select to_regclass('users') is not null"),
        ["t", "f", "t"]
    );
    let status = site.run(&["status"]);
    assert_eq!(status.status, Some(1));
    assert!(
        status.out.lines().any(|line| line
            .split_whitespace()
            .eq(["1", "users", "done", "down", "done"])),
        "{status:?}"
    );
    assert_eq!(whole.good(&["up"]).lines().count(), 1);
    whole.good(&["status"]);
}

#[test]
fn only_one_runs_at_a_time() {
    let site = place("migrate_two");
    site.file("main/V1__users.sql", USERS);
    site.good(&["up"]);
    site.file(
        "main/V2__more.sql",
        "-- keyway: lock_timeout=10s\nALTER TABLE users ADD a int;",
    );
    let mut reader = site.on("s0");
    reader.simple("begin; select * from users");
    let first = site.spawn(&["up", "--parallel", "1"]);
    site.wait_stuck("s0", "ALTER TABLE users");
    site.run(&["up"])
        .refused("is running migrations (its lease holds until");
    let second = site.spawn(&["up", "--wait", "1m"]);
    reader.simple("commit");
    let first = Ran::of(&first.wait_with_output().unwrap());
    assert_eq!(
        (first.status, first.out.lines().count()),
        (Some(0), 3),
        "{first:?}"
    );
    let second = Ran::of(&second.wait_with_output().unwrap());
    assert_eq!(
        (second.status, second.out.as_str()),
        (Some(0), ""),
        "{second:?}"
    );
}

#[test]
fn nobody_waits_behind_a_migration_that_waits() {
    let site = place("migrate_lock");
    site.file("main/V1__users.sql", USERS);
    site.good(&["up"]);
    site.file(
        "main/V2__more.sql",
        "-- keyway: lock_timeout=1s\nALTER TABLE users ADD a int;",
    );
    let mut reader = site.on("s1");
    reader.simple("begin; select * from users");
    let runner = site.spawn(&["up"]);
    site.wait_stuck("s1", "ALTER TABLE users");
    // It gives way again and again: another reader is through at last.
    assert_eq!(site.on("s1").one("select count(*) from users"), "0");
    reader.simple("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(
        (ran.status, ran.out.lines().count()),
        (Some(0), 3),
        "{ran:?}"
    );
}

/// Kills the runner in the middle of its statement on a shard, and runs it again.
fn killed(site: &Place, shard: &str, table: &str, statement: &str) -> Ran {
    let mut reader = site.on(shard);
    reader.simple(&format!(
        "begin; lock table {table} in share update exclusive mode"
    ));
    let mut runner = site.spawn(&["up", "--parallel", "1"]);
    site.wait_stuck(shard, statement);
    runner.kill().unwrap();
    runner.wait().unwrap();
    reader.simple("commit");
    site.wait_gone();
    site.run(&["up", "--wait", "1m"])
}

#[test]
fn a_killed_runner_is_taken_up_where_it_stood() {
    let site = place("migrate_killed");
    site.file("main/V1__users.sql", USERS);
    site.good(&["up"]);
    // In a transaction: nothing of it is left.
    site.file(
        "main/V2__more.sql",
        "-- keyway: lock_timeout=1m\nCREATE TABLE posts (user_id bigint);\nALTER TABLE users ADD a int;",
    );
    let ran = killed(&site, "s1", "users", "ALTER TABLE users");
    assert_eq!(
        (ran.status, ran.out.lines().count()),
        (Some(0), 2),
        "{ran:?}"
    );
    // Outside: from the statement at hand on.
    site.file(
        "main/V3__index.sql",
        "-- keyway: transaction=false\nCREATE TABLE once (a int);\nCREATE INDEX CONCURRENTLY users_name ON users (name);\n\
         ALTER TABLE once ADD b int;",
    );
    let ran = killed(&site, "s2", "users", "CREATE INDEX CONCURRENTLY");
    assert_eq!(
        (ran.status, ran.out.lines().count()),
        (Some(0), 1),
        "{ran:?}"
    );
    let valid = "select string_agg(c.relname || i.indisvalid, ',') from pg_index i join pg_class c on c.oid = indexrelid where c.relname like 'users_name%'";
    assert_eq!(all(&site, valid), ["users_nametrue"; 3]);
    assert_eq!(
        all(
            &site,
            "select count(*) from information_schema.columns where table_name = 'once'"
        ),
        ["2"; 3]
    );
    site.good(&["status"]);
    // An index that waits for a reader when its runner dies is left invalid, and built anew.
    site.file(
        "main/V4__second.sql",
        "-- keyway: transaction=false\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS users_id_name ON public.users (id, name);",
    );
    let mut reader = site.on("s0");
    reader.simple("begin isolation level repeatable read; select * from users");
    let mut runner = site.spawn(&["up", "--parallel", "1"]);
    site.wait_stuck("s0", "CREATE UNIQUE INDEX CONCURRENTLY");
    runner.kill().unwrap();
    runner.wait().unwrap();
    let stop = "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'create unique index concurrently%' and datname = current_database()";
    site.on("s0").simple(stop);
    reader.simple("commit");
    site.wait_gone();
    let left = "select indisvalid from pg_index where indexrelid = 'users_id_name'::regclass";
    assert_eq!(site.on("s0").one(left), "f");
    site.good(&["up", "--wait", "1m"]);
    assert_eq!(all(&site, left), ["t"; 3]);
}

#[test]
fn what_was_refused_is_not_taken_for_done() {
    let site = place("migrate_refused");
    site.file(
        "main/V1__users.sql",
        "create table users (id bigint primary key, name text); create index users_name on users (id); create schema app;",
    );
    site.good(&["up"]);
    // The index that has the name is not the file's.
    let unique = "-- keyway: transaction=false\ncreate unique index concurrently users_name on public.users (name);";
    site.file("main/V2__unique.sql", unique);
    for _ in 0..3 {
        site.run(&["up"])
            .refused("\"users_name\" already exists (42P07)");
    }
    for shard in SHARDS {
        site.on(shard).run("drop index users_name");
    }
    site.good(&["up"]);
    let is_unique =
        "select indisunique and indisvalid from pg_index where indexrelid = 'users_name'::regclass";
    assert_eq!(all(&site, is_unique), ["t"; 3]);
    // What a file SET holds for the rest of it, also when that runs later.
    site.file(
        "main/V3__app.sql",
        "-- keyway: transaction=false\nset search_path = app;\nalter table late add column more int;\ncreate table inside (id int);",
    );
    site.run(&["up"]).refused("\"late\" does not exist");
    for shard in SHARDS {
        site.on(shard).run("create table app.late (id int)");
    }
    site.good(&["up"]);
    assert_eq!(
        all(
            &site,
            "select schemaname from pg_tables where tablename = 'inside'"
        ),
        ["app"; 3]
    );
}

/// Who was taken over from requires nothing: what it read may be undone.
#[test]
fn only_the_runner_says_what_is_required() {
    let site = place("migrate_requires");
    site.file("main/V1__users.sql", USERS);
    let has = |shard: &&&str| {
        site.on(shard)
            .one("select to_regclass('keyway.leases') is not null")
            == "t"
    };
    site.good(&["up", "--keyspace", "main"]);
    let catalog = SHARDS.iter().chain(&["solo"]).find(has).unwrap();
    let required = "select count(*) from keyway.required";
    assert_eq!(site.on(catalog).one(required), "1");
    site.on(catalog).run("delete from keyway.required");
    let mut lock = site.on(catalog);
    lock.run("begin; lock table keyway.required in share mode");
    let runner = site.spawn(&["up", "--keyspace", "main"]);
    site.wait_stuck(catalog, "insert into keyway.required");
    site.on(catalog)
        .run("update keyway.leases set token = token + 1");
    lock.run("commit");
    runner.wait_with_output().unwrap();
    assert_eq!(site.on(catalog).one(required), "0");
}

#[test]
fn new_migrations_have_names_that_are_read() {
    let site = place("migrate_new");
    let said = site.good(&["new", "Add users' e-mail!"]);
    let names: Vec<&str> = said
        .lines()
        .map(|line| line.rsplit('/').next().unwrap())
        .collect();
    assert!(
        names[0].starts_with("V20") && names[0].ends_with("__add_users_e_mail.sql"),
        "{said}"
    );
    assert!(names[1].ends_with("__add_users_e_mail.down.sql"), "{said}");
    site.good(&["new", "another", "--keyspace", "main"]);
    assert!(
        site.good(&["validate"])
            .starts_with("main: 2 migrations, 0 statements, the last 20")
    );
    site.good(&["new", "third", "--keyspace", "solo"]);
    site.run(&["new", "which"])
        .refused("name the keyspace with --keyspace; migrations has main, solo");
    site.run(&["new", "which", "--keyspace", "../x"])
        .refused("is not a keyspace's name");
    site.file("stray.sql", "");
    let ran = site.run(&["validate"]);
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.out
            .contains("migrations/stray.sql: belongs to no keyspace"),
        "{ran:?}"
    );
}

#[test]
fn versions_are_undone_on_every_shard() {
    let site = place("migrate_undo");
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__posts.sql",
        "CREATE TABLE posts (user_id bigint NOT NULL);",
    );
    site.file("main/V2__posts.down.sql", "DROP TABLE posts;");
    site.file(
        "main/3_index.sql",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY named ON users (name);\nCREATE TABLE once (a int);\n\
         -- migrate:down transaction:false\nDROP INDEX CONCURRENTLY named;\nDROP TABLE once;\n",
    );
    assert_eq!(
        site.good(&["down", "--keyspace", "main"]),
        "",
        "nothing ran yet"
    );
    site.good(&["up"]);
    let planned = site.good(&["down", "--dry-run"]);
    assert_eq!(
        planned.lines().next(),
        Some("main s0: undo 3 index (2 statements, outside a transaction)")
    );
    let undone = site.good(&["down", "--steps", "2", "--parallel", "1"]);
    let first: Vec<&str> = undone.lines().take(2).collect();
    assert!(
        first[0].starts_with("main s0: undone 3 index (")
            && first[1].starts_with("main s0: undone 2 posts ("),
        "{undone}"
    );
    assert_eq!(undone.lines().count(), 6, "{undone}");
    let tables = "select to_regclass('posts') is null and to_regclass('named') is null and to_regclass('once') is null";
    assert_eq!(all(&site, tables), ["t"; 3]);
    assert_eq!(
        all(&site, "select count(*) from keyway.migrations"),
        ["1"; 3]
    );
    site.run(&["down"])
        .refused("main: s0: V1__users.sql has no way back; write it to V1__users.down.sql");
    site.good(&["up"]);
    // A way back that fails half way is taken up where it stood.
    site.on("s1").simple("drop table once");
    let ran = site.run(&["down", "--parallel", "1"]);
    ran.refused("main s1: 3_index.sql:6: table \"once\" does not exist (42P01)");
    assert!(site.run(&["status"]).out.lines().any(|line| {
        line.split_whitespace()
            .eq(["3", "index", "missing", "undoing", "done"])
    }),);
    site.run(&["up"])
        .refused("s1: 3_index.sql is half undone; end that with `keyway migrate down`");
    site.on("s1").simple("create table once ()");
    assert_eq!(site.good(&["down"]).lines().count(), 2);
    site.good(&["up"]);
    site.good(&["status"]);
}

#[test]
fn histories_are_repaired_and_begun() {
    let site = place("migrate_mend");
    site.file("main/V1__users.sql", USERS);
    site.file("main/V2__posts.sql", "CREATE TABLE posts (user_id bigint);");
    site.good(&["up"]);
    assert!(site.good(&["repair"]).starts_with("nothing to repair"));
    site.file("main/V1__people.sql", USERS);
    site.remove("main/V1__users.sql");
    site.file(
        "main/V2__posts.sql",
        "-- Posts.\nCREATE TABLE posts (user_id bigint);",
    );
    site.run(&["up"])
        .refused("V2__posts.sql was changed after it ran");
    let would = site.good(&["repair", "--dry-run"]);
    assert_eq!(would.lines().count(), 6, "{would}");
    site.run(&["up"]).refused("V2__posts.sql was changed");
    assert_eq!(site.good(&["repair"]), would);
    assert_eq!(site.good(&["up"]), "");
    site.good(&["status"]);
    // What has no file is forgotten, and may run again.
    site.remove("main/V2__posts.sql");
    site.run(&["status"]).refused("");
    assert!(
        site.good(&["repair"])
            .contains("main s1: 2 posts has no file: forgotten")
    );
    site.good(&["status"]);
    // All files of a keyspace that are gone are missed, too.
    fs::remove_dir_all(site.directory.path().join("migrations/main")).unwrap();
    for words in [["up"], ["plan"]] {
        site.run(&words)
            .refused("version 1 (people) has run and has no file");
    }
    assert!(site.run(&["status"]).out.contains("people (no file)"));

    // A file that ran half is mended and goes on behind the statement it came to.
    let site = place("migrate_half");
    let text = |what: &str| {
        format!(
            "-- keyway: transaction=false\nCREATE TABLE one ();\n{what};\nCREATE TABLE three ();"
        )
    };
    site.file("main/V1__half.sql", &text("CREATE TABLE two (nonsense)"));
    site.run(&["up"]).refused("V1__half.sql:3: ");
    site.file("main/V1__half.sql", &text("CREATE TABLE two ()"));
    site.run(&["up"])
        .refused("V1__half.sql was changed after 1 of its statements ran; restore it");
    let said = site.good(&["repair"]);
    assert!(
        said.lines().all(|line| line.ends_with(
            "V1__half.sql: its present text counts as what ran; it goes on behind statement 1"
        )),
        "{said}"
    );
    site.good(&["up"]);
    site.good(&["status"]);

    // Shards that were there before.
    let site = place("migrate_begin");
    for shard in SHARDS {
        site.on(shard)
            .simple("create table users (id bigint primary key)");
    }
    site.file("main/V1__users.sql", USERS);
    site.file("main/V2__posts.sql", "CREATE TABLE posts (user_id bigint);");
    site.run(&["up"])
        .refused("relation \"users\" already exists");
    for shard in SHARDS {
        site.on(shard).simple("delete from keyway.migrations");
    }
    let begun = site.good(&["baseline", "1"]);
    assert_eq!(begun.lines().next(), Some("main s0: begins at version 1"));
    assert!(
        site.good(&["baseline", "1.0"])
            .starts_with("main s0: had that baseline at version 1\n")
    );
    assert_eq!(site.good(&["up"]).lines().count(), 3);
    let status = site.good(&["status"]);
    assert!(
        status.lines().any(|line| line
            .split_whitespace()
            .eq(["1", "users", "baseline", "baseline", "baseline"])),
        "{status}"
    );
    site.run(&["baseline", "2"])
        .refused("s0 has a history of 2 migrations; a baseline is for shards without any");
    site.run(&["down", "--steps", "2"])
        .refused("version 1 was there before the history began");
    // A file that comes before the baseline and that it did not see is not passed over.
    site.file("main/V0.5__early.sql", "SELECT 1");
    site.run(&["up"])
        .refused("V0.5__early.sql comes before version 2");
    site.file("solo/V1__log.sql", "CREATE TABLE log (what text);");
    site.run(&["baseline", "1"])
        .refused("name the keyspace with --keyspace; those with migrations: main, solo");
}

/// Everything that a shard has of migrations and of what they made.
fn state(site: &Place, shard: &str) -> Vec<Vec<String>> {
    let mut client = site.on(shard);
    let asked = [
        "select key, kind, direction, begun, done, finished is not null from keyway.migrations order by 1, 2",
        "select c.relname, a.attname, a.attnum, a.attnotnull from pg_attribute a join pg_class c on c.oid = a.attrelid \
         join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and a.attnum > 0 order by 1, 3",
        "select c.relname, i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid \
         join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' order by 1",
        "select sequencename, min_value from pg_sequences where schemaname = 'public' order by 1",
        "select * from filled order by 1",
    ];
    asked.iter().flat_map(|sql| client.rows(sql)).collect()
}

/// The runner dies at a moment at which it waits for a server; the next one ends where an undisturbed one ends.
/// `moments`: which, of so many behind the reading of catalog and schemas, which changes nothing.
fn dies_anywhere(name: &'static str, moments: impl Fn(usize) -> Vec<usize>) {
    let gate = Gate::open();
    gate.control(Control::Held);
    let site = place_with(name, |database| gate.dsn(database));
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__filled.sql",
        "CREATE TABLE filled (a bigint PRIMARY KEY, b text);\nINSERT INTO filled VALUES (1, 'one'), (2, 'two');",
    );
    site.file(
        "main/V3__index.sql",
        "-- keyway: transaction=false\nCREATE INDEX CONCURRENTLY users_name ON users (name);\n\
         ALTER TABLE users ADD IF NOT EXISTS email text;\nCREATE UNIQUE INDEX CONCURRENTLY users_email ON users (email);",
    );
    site.file(
        "main/R__view.sql",
        "CREATE OR REPLACE VIEW named AS SELECT id, name FROM users;",
    );
    let fresh = || {
        for shard in SHARDS.iter().chain(&["solo"]) {
            create_database(&format!("{name}_{shard}"));
        }
        // The catalog, without any migration.
        site.good(&["plan"]);
    };
    let up = ["up", "--parallel", "1"];
    let counted = |words: &[&str]| {
        gate.stop_after(usize::MAX);
        site.good(words);
        let all = usize::MAX - gate.left();
        gate.release();
        all
    };
    fresh();
    // What a plan hears, a run hears first: all of it but the histories, which it reads under its locks.
    let opening = counted(&["plan"]) * 9 / 10;
    let all = counted(&up);
    let undisturbed: Vec<_> = SHARDS.iter().map(|shard| state(&site, shard)).collect();
    assert!(undisturbed[0].len() > 15, "{undisturbed:?}");
    let moments = moments(all - opening);
    eprintln!(
        "{all} moments, of which {} behind number {opening} are tried: {moments:?}",
        moments.len()
    );
    for moment in moments.into_iter().map(|moment| opening + moment) {
        fresh();
        gate.stop_after(moment);
        let mut runner = site.spawn(&up);
        let held = gate.wait_held_or(|| runner.try_wait().unwrap().is_some());
        assert!(held, "the runner ended before moment {moment}");
        runner.kill().unwrap();
        assert_eq!(runner.wait().unwrap().signal(), Some(9));
        gate.release();
        site.wait_gone();
        // Its lease would run out by itself, in 15 seconds.
        site.on("s0").simple("do $$ begin if to_regclass('keyway.leases') is not null then update keyway.leases set until = '-infinity'; end if; end $$");
        site.good(&up);
        site.good(&["status"]);
        for (shard, undisturbed) in SHARDS.iter().zip(&undisturbed) {
            assert_eq!(
                &state(&site, shard),
                undisturbed,
                "{shard}, moment {moment}"
            );
        }
    }
}

/// At one moment in four in a soak, else at a few; at others each time.
#[test]
fn soak_a_runner_that_dies_anywhere_leaves_nothing_wrong() {
    let seed = seed();
    dies_anywhere("migrate_dies", |all| {
        let count = if is_soak() { all / 4 } else { 8.min(all) };
        let offset = usize::try_from(seed).unwrap_or_default() % all;
        (0..count)
            .map(|part| (part * all + offset) / count)
            .collect()
    });
}

/// The error's SQLSTATE and DETAIL, or nothing.
fn failure(client: &mut Client, sql: &str) -> Option<(String, String)> {
    let answer = client.simple(sql);
    let error = answer.iter().find(|message| message.tag == b'E')?;
    Some((error.sqlstate(), error.field(b'D').unwrap_or_default()))
}

#[test]
fn nothing_is_sent_to_a_shard_without_what_all_have() {
    let site = place("migrate_behind");
    let all = site.config.clone();
    let two = all.replace("[\"s0\", \"s1\", \"s2\"]", "[\"s0\", \"s1\"]");
    let configure =
        |text: &str| fs::write(site.directory.path().join("keyway.toml"), text).unwrap();
    configure(&two);
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__only.sql",
        "-- keyway: shards=s0\nCREATE TABLE here ();",
    );
    site.good(&["up"]);
    let router = Router::start(&two);
    let mut app = connect(&router);
    for key in 1..=40 {
        app.run(&format!("insert into users values ({key}, 'u{key}')"));
    }
    let key_of = |shard: &str| site.on(shard).one("select min(id) from users");
    let (on_s0, on_s1) = (key_of("s0"), key_of("s1"));
    let one = |key: &str| format!("select name from users where id = {key}");

    // A shard that joins has no part in anything before it has its migrations, and buckets.
    configure(&all);
    router.replace_config(&all);
    router.signal("HUP");
    eventually("s2 has joined", || {
        (site
            .on("s0")
            .one("select count(*) from keyway.shards where joined")
            == "4")
            .then_some(())
    });
    assert_eq!(app.one("select count(*) from users"), "40");
    let status = site.run(&["status"]);
    assert!(
        status.out.lines().any(|line| line
            .split_whitespace()
            .eq(["1", "users", "done", "done", "missing"])),
        "{status:?}"
    );

    // While a version is run, shards with it and without it are served.
    site.file("main/V3__more.sql", "ALTER TABLE users ADD age int;");
    let mut reader = site.on("s1");
    reader.simple("begin; select * from users");
    let runner = site.spawn(&["up", "--parallel", "1"]);
    site.wait_stuck("s1", "ALTER TABLE users");
    assert_eq!(
        site.on("s0").one("select max(key) from keyway.migrations"),
        "3"
    );
    for key in [&on_s0, &on_s1] {
        assert_eq!(app.one(&one(key)), format!("u{key}"));
    }
    assert_eq!(app.one("select count(id) from users"), "40");
    reader.simple("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(
        (ran.status, ran.out.lines().count()),
        (Some(0), 4),
        "{ran:?}"
    );
    let required = "select string_agg(version || coalesce(shards::text, ''), ' ' order by version) from keyway.required";
    assert_eq!(site.on("s0").one(required), "1 2{s0} 3");

    // A shard that comes back from an old backup lacks what all have had.
    site.on("s1").simple("create table saved as select * from users; drop table users; delete from keyway.migrations where key = '1'");
    for router in [&router, &Router::start(&all)] {
        router.signal("HUP");
        let mut app = connect(router);
        let told = eventually("the router has heard", || {
            failure(&mut app, &one(&on_s1)).filter(|(state, _)| state == "57P03")
        });
        assert_eq!(
            told.1,
            "It lacks version 1 of keyspace main, which all shards have had."
        );
        assert_eq!(
            failure(&mut app, "select count(*) from users")
                .map(|(state, _)| state)
                .as_deref(),
            Some("57P03")
        );
        assert_eq!(app.one(&one(&on_s0)), format!("u{on_s0}"));
        // In a transaction it is the statement that fails.
        app.simple("begin");
        assert_eq!(app.one(&one(&on_s0)), format!("u{on_s0}"));
        assert_eq!(failure(&mut app, &one(&on_s1)).unwrap().0, "57P03");
        app.simple("rollback");
    }
    site.run(&["up"])
        .refused("V1__users.sql comes before version 3, which has run");
    assert_eq!(site.good(&["up", "--out-of-order"]).lines().count(), 1);
    site.on("s1").simple(
        "alter table users add age int; insert into users select * from saved; drop table saved",
    );
    let mut fresh = connect(&router);
    eventually("it is served again", || {
        failure(&mut fresh, &one(&on_s1)).is_none().then_some(())
    });
    assert_eq!(fresh.one(&one(&on_s1)), format!("u{on_s1}"));

    // What is undone is required no more.
    site.file("main/V3__more.down.sql", "ALTER TABLE users DROP age;");
    site.good(&["down"]);
    assert_eq!(site.on("s0").one(required), "1 2{s0}");
    eventually("it is served", || {
        failure(&mut fresh, &one(&on_s1)).is_none().then_some(())
    });
    assert_eq!(fresh.one("select count(id) from users"), "40");
}

#[test]
fn a_router_may_run_what_is_missing_before_it_starts() {
    let site = place("migrate_serve");
    site.file("main/V1__users.sql", USERS);
    site.file(
        "main/V2__more.sql",
        "ALTER TABLE users ADD age int DEFAULT 7;",
    );
    let config = format!(
        "migrations = \"{}\"\n{}",
        site.directory.path().join("migrations").display(),
        site.config
    );
    // Who comes second waits for the first.
    let start = || Router::launch_with(&config, &[], &["--migrate"]);
    for router in [start(), start()] {
        router.wait_ready();
        assert_eq!(connect(&router).rows("select age from users").len(), 0);
    }
    site.good(&["status"]);
    site.file(
        "main/V3__bad.sql",
        "ALTER TABLE users ADD CHECK (no_such > 0);",
    );
    let mut router = start();
    assert_eq!(router.wait_exit(), Some(1));
    let log = router.log();
    for words in [
        "main s0: V3__bad.sql:1: column \"no_such\" does not exist (42703)",
        "not started: migrations are missing; `keyway migrate status` shows which",
    ] {
        assert!(log.contains(words), "{log}");
    }
}

/// Directories as dbmate, refinery, Flyway, sqlx and golang-migrate leave them: each alone runs forth and, where the tool
/// has ways back, back.
#[test]
fn files_of_other_tools_run_unchanged() {
    let dbmate: &[(&str, &str)] = &[
        (
            "20151129054053_test_migration.sql",
            "-- migrate:up\ncreate table users (\n  id serial,\n  name varchar(255)\n);\ninsert into users (id, name) values (1, 'alice');\n\n\
             -- migrate:down\ndrop table users;\n",
        ),
        (
            "20200227231541_test_posts.sql",
            "-- migrate:up transaction:false\ncreate table posts (\n  id integer,\n  name varchar(255)\n);\n\n-- migrate:down\ndrop table posts;\n",
        ),
        (
            "20230101000000_add_enum.sql",
            "-- migrate:up transaction:false\nCREATE TYPE colour AS ENUM ('red');\nALTER TYPE colour ADD VALUE 'orange' AFTER 'red';\n\
             -- migrate:down\nDROP TYPE colour;\n",
        ),
    ];
    let refinery: &[(&str, &str)] = &[
        (
            "V1__initial.sql",
            "CREATE TABLE persons (\n    id int,\n    name varchar(255),\n    city varchar(255)\n);\n",
        ),
        (
            "V2__add_cars_and_motos_table.sql",
            "CREATE TABLE cars (id int, name varchar(255));\nCREATE TABLE motos (id int, name varchar(255));\n",
        ),
        (
            "V3__add_brand_to_cars_table.sql",
            "ALTER TABLE cars ADD brand varchar(255);\n",
        ),
        (
            "U4__add_year_to_motos_table.sql",
            "ALTER TABLE motos ADD brand varchar(255);",
        ),
    ];
    let flyway: &[(&str, &str)] = &[
        (
            "V1__Create_person_table.sql",
            "create table PERSON (\r\n    ID int not null,\r\n    NAME varchar(100) not null\r\n);\r\n",
        ),
        ("U1__Create_person_table.sql", "DROP TABLE PERSON;\n"),
        (
            "V1.1__Add_people.sql",
            "insert into PERSON (ID, NAME) values (1, 'Axel');\ninsert into PERSON (ID, NAME) values (2, 'Mr. Foo; \\');\n",
        ),
        ("U1.1__Add_people.sql", "delete from PERSON;"),
        (
            "V2_1__Audit.sql",
            "CREATE FUNCTION audit() RETURNS trigger AS $body$\nBEGIN\n  /* nested /* comment; */ ; */\n  NEW.NAME := upper(NEW.NAME);\n  RETURN NEW;\nEND;\n$body$ LANGUAGE plpgsql;\n\
          CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a; SELECT a * 2; END;\n",
        ),
        (
            "U2.1__Audit.sql",
            "DROP FUNCTION audit();\nDROP FUNCTION twice(int);\n",
        ),
        (
            "R__Person_view.sql",
            "CREATE OR REPLACE VIEW all_names AS SELECT NAME FROM PERSON;\n",
        ),
    ];
    let sqlx: &[(&str, &str)] = &[
        (
            "20210101000001_first.up.sql",
            "CREATE TABLE first (id BIGSERIAL PRIMARY KEY);",
        ),
        ("20210101000001_first.down.sql", "DROP TABLE first;"),
        (
            "20210101000002_second.up.sql",
            "CREATE TABLE second (id uuid DEFAULT gen_random_uuid());",
        ),
        ("20210101000002_second.down.sql", "DROP TABLE second;"),
    ];
    let golang: &[(&str, &str)] = &[
        ("1_init.up.sql", "CREATE TABLE init (a int);"),
        ("1_init.down.sql", "DROP TABLE IF EXISTS init;"),
        ("000002_more.up.sql", "ALTER TABLE init ADD b text;"),
        ("000002_more.down.sql", "ALTER TABLE init DROP b;"),
    ];
    let tools = [
        ("dbmate", dbmate, 3),
        ("refinery", refinery, 0),
        ("flyway", flyway, 3),
        ("sqlx", sqlx, 2),
        ("golang", golang, 2),
    ];
    for (tool, files, back) in tools {
        let site = place("migrate_tools");
        for (name, text) in files {
            site.file(&format!("solo/{name}"), text);
        }
        let versions = files.iter().filter(|(name, _)| {
            !name.contains(".down.") && (tool != "flyway" || !name.starts_with('U'))
        });
        assert_eq!(
            site.good(&["up"]).lines().count(),
            versions.count(),
            "{tool}"
        );
        site.good(&["status"]);
        assert_eq!(site.good(&["up"]), "", "{tool}");
        let made = "select count(*) from (select relname from pg_class where relkind in ('r', 'v') and relnamespace = 'public'::regnamespace \
                    union all select proname from pg_proc where pronamespace = 'public'::regnamespace) s";
        assert_ne!(site.on("solo").one(made), "0", "{tool}");
        if tool == "flyway" {
            assert_eq!(
                site.on("solo").rows("select name from person order by id"),
                [["Axel"], ["Mr. Foo; \\"]]
            );
            // Its view stands in the way of dropping the table, as it does with Flyway.
            site.on("solo").simple("drop view all_names");
        }
        if back > 0 {
            let steps = back.to_string();
            assert_eq!(
                site.good(&["down", "--steps", &steps]).lines().count(),
                back,
                "{tool}"
            );
            assert_eq!(site.on("solo").one(made), "0", "{tool}");
        }
    }
}

/// A shard whose schema cannot be read for a while has its history all the same: it is not taken for one that lacks versions.
#[test]
fn a_shard_with_a_locked_table_is_not_behind() {
    let site = place("migrate_locked");
    site.file(
        "main/V1__users.sql",
        "CREATE TABLE users (id bigint PRIMARY KEY, name text); CREATE TABLE posts (user_id bigint, title text); \
         CREATE VIEW named AS SELECT name FROM users;",
    );
    site.good(&["up"]);
    let mut locker = site.on("s1");
    locker.run("begin; lock table users in access exclusive mode");
    let router = Router::start(&site.config);
    let log = router.log();
    assert!(log.contains("schema not read"), "{log}");
    let mut app = connect(&router);
    for user in 1..=20 {
        app.run(&format!("insert into posts values ({user}, 'p{user}')"));
    }
    assert_eq!(app.one("select count(*) from posts"), "20");
    locker.run("rollback");
    assert_eq!(app.one("select count(*) from users"), "0");
}
