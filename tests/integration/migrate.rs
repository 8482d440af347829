//! `keyway migrate` on real shards.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{
    PASSWORD, Router, cluster, create_database, direct_target, eventually, free_port,
};
use crate::raw::{Client, Target};

const SHARDS: [&str; 3] = ["s0", "s1", "s2"];

/// Three shards of a keyspace and one of another, a configuration, and files to run on them.
struct Site {
    name: &'static str,
    directory: tempfile::TempDir,
    config: String,
}

impl Site {
    fn new(name: &'static str) -> Self {
        Self::with(name, |database| {
            create_database(database);
            cluster().dsn(database)
        })
    }

    fn with(name: &'static str, dsn: impl Fn(&str) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shards: String = SHARDS
            .iter()
            .chain(&["solo"])
            .map(|shard| {
                format!(
                    "[shards.{shard}]\nprimary = \"{}\"\n",
                    dsn(&format!("{name}_{shard}"))
                )
            })
            .collect();
        let config = format!(
            "[users.app]\npassword = \"{PASSWORD}\"\n{shards}\
             [databases.app]\nkeyspaces = [\"main\", \"solo\"]\ndefault = \"solo\"\n\
             [keyspaces.main]\nshards = [\"s0\", \"s1\", \"s2\"]\n\
             [keyspaces.main.tables]\nusers = {{ key = \"id\" }}\nposts = {{ key = \"user_id\" }}\n\
             [keyspaces.solo]\nshards = [\"solo\"]\n"
        );
        fs::write(directory.path().join("keyway.toml"), &config).unwrap();
        fs::create_dir_all(directory.path().join("migrations/main")).unwrap();
        Self {
            name,
            directory,
            config,
        }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.directory.path().join("migrations").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.directory.path().join("migrations").join(name)).unwrap();
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyway"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("KEYWAY") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.directory.path())
            .arg("migrate")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().unwrap())
    }

    fn good(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!(ran.status, Some(0), "{words:?}\n{}\n{}", ran.out, ran.err);
        ran.out
    }

    fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }

    fn on(&self, shard: &str) -> Client {
        Client::connect(&direct_target(&format!("{}_{shard}", self.name)))
    }

    /// The same question on all shards of main.
    fn all(&self, sql: &str) -> Vec<String> {
        SHARDS.iter().map(|shard| self.on(shard).one(sql)).collect()
    }

    /// Waits until the runner's statement with this in its text waits for a lock on `shard`.
    fn wait_stuck(&self, shard: &str, text: &str) {
        let mut watcher = Client::connect(&direct_target("postgres"));
        let sql = format!(
            "select count(*) from pg_stat_activity where datname = '{}_{shard}' and wait_event_type = 'Lock' \
             and query ilike '%{text}%'",
            self.name
        );
        eventually("the statement waits", || {
            (watcher.one(&sql) != "0").then_some(())
        });
    }

    /// Waits until no runner is connected to any shard.
    fn wait_gone(&self) {
        let mut watcher = Client::connect(&direct_target("postgres"));
        let sql = format!(
            "select count(*) from pg_stat_activity where datname like '{}\\_%' and application_name = 'keyway control'",
            self.name
        );
        eventually("the runner is gone", || {
            (watcher.one(&sql) == "0").then_some(())
        });
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    #[track_caller]
    fn refused(&self, words: &str) {
        assert_eq!(self.status, Some(1), "{self:?}");
        assert!(
            self.err.contains(words),
            "{words}\n{}\n{}",
            self.out,
            self.err
        );
    }
}

const USERS: &str = "CREATE TABLE users (id bigserial PRIMARY KEY, name text NOT NULL);\n";

#[test]
fn every_shard_gets_every_migration_once() {
    let site = Site::new("migrate_up");
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
    assert_eq!(site.all("select to_regclass('users') is null"), ["t"; 3]);

    // A router that runs meanwhile knows what is new.
    let router = Router::start(&site.config);
    let up = site.good(&["up", "--canary", "s2", "--parallel", "2"]);
    assert_eq!(up.lines().count(), 13, "{up}");
    assert!(up.starts_with("main s2: 1 users ("), "{up}");
    let mut client = Client::connect(&Target {
        port: router.port,
        user: "app".to_owned(),
        database: "app".to_owned(),
        password: PASSWORD.to_owned(),
    });
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
        site.all("select count(*) from pg_index where indrelid = 'posts'::regclass and indisvalid"),
        ["1"; 3]
    );
    // Each shard counts in a range of its own.
    let next = site.all("select nextval('users_id_seq') >> 44");
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
    assert_eq!(site.all(columns), ["2", "3", "2"]);
}

/// During a rollout some shards have a column that others have not.
#[test]
fn shards_that_differ_are_not_mixed() {
    let site = Site::new("migrate_mixed");
    site.file("main/V1__users.sql", USERS);
    site.good(&["up"]);
    let router = Router::start(&site.config);
    let target = Target {
        port: router.port,
        user: "app".to_owned(),
        database: "app".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let mut client = Client::connect(&target);
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
    let site = Site::new("migrate_fails");
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
        site.all("select to_regclass('users') is not null"),
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
        site.all("select to_regclass('users') is not null"),
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
    let site = Site::new("migrate_drift");
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
    let whole = Site::with("migrate_down", |database| cluster().dsn(database));
    // The catalog is made when all shards answer.
    whole.good(&["up"]);
    let site = Site::with("migrate_down", dsn);
    for site in [&whole, &site] {
        site.file("main/V1__users.sql", USERS);
    }
    let ran = site.run(&["up"]);
    ran.refused("shard s1");
    assert_eq!(
        whole.all("select to_regclass('users') is not null"),
        ["f"; 3]
    );
    let ran = site.run(&["up", "--on-error", "continue"]);
    ran.refused("main s1: connect to shard s1");
    assert_eq!(
        whole.all("select to_regclass('users') is not null"),
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
    let site = Site::new("migrate_two");
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
    let site = Site::new("migrate_lock");
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
fn killed(site: &Site, shard: &str, table: &str, statement: &str) -> Ran {
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
    let site = Site::new("migrate_killed");
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
    assert_eq!(site.all(valid), ["users_nametrue"; 3]);
    assert_eq!(
        site.all("select count(*) from information_schema.columns where table_name = 'once'"),
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
    assert_eq!(site.all(left), ["t"; 3]);
}

#[test]
fn new_migrations_have_names_that_are_read() {
    let site = Site::new("migrate_new");
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
