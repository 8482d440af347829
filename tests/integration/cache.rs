//! Kept answers: what is given again, what is not, and that nobody can tell but by the clock.
//!
//! A row that is changed on its shard directly, behind the router's back, shows which answers were kept: those still
//! have the old value.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::harness::{Env, Setup, http_get};
use crate::raw::{Client, Message, Value, bind, describe, execute, parse, rows_of, sync};

const TABLES: &str = r#"
users = { key = "id" }
orders = { key = "user_id" }
countries = { reference = true }
"#;

const SCHEMA: &str = "
create table users (id int primary key, name text, born date, seen timestamptz);
create table orders (id int, user_id int references users on delete cascade, note text, primary key (user_id, id));
create table countries (code text primary key, name text);
create table user_settings (id int primary key, value text);
";

/// A router that keeps answers.
pub(crate) fn env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let env = Setup {
            name: "kept",
            tables: TABLES,
            schema: SCHEMA,
            more: "[cache]\nenabled = true\n",
            ..Setup::default()
        }
        .start();
        assert_eq!(env.schema_failures, Vec::<String>::new());
        env
    })
}

/// The router's counters of a name, by their labels.
pub(crate) fn numbers(env: &Env, name: &str) -> BTreeMap<String, u64> {
    let (_, text) = http_get(env.router.http, "/metrics").expect("metrics");
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let plain = labels.is_empty() || labels.starts_with('{');
        plain.then(|| Some((labels.to_owned(), value.parse().ok()?)))?
    });
    lines.collect()
}

/// Rows of one id that no other test uses.
fn fresh_user(env: &Env, id: i32) -> Client {
    let mut client = env.client();
    client.run(&format!(
        "insert into users values ({id}, 'first', '2024-02-01', '2024-01-01 00:00+00')"
    ));
    client
}

/// Changes a row behind the router's back, wherever it is.
fn behind(env: &Env, sql: &str) {
    for shard in ["s0", "s1", "s2"] {
        env.direct(shard).run(sql);
    }
}

fn name_of(client: &mut Client, id: i32) -> String {
    client.rows(&format!("select name from users where id = {id}"))[0][0].clone()
}

#[test]
fn an_answer_is_given_again_until_a_write_changes_it() {
    let env = env();
    let mut client = fresh_user(env, 1);
    assert_eq!(name_of(&mut client, 1), "first");
    behind(env, "update users set name = 'behind' where id = 1");
    assert_eq!(name_of(&mut client, 1), "first", "kept");
    assert_eq!(
        name_of(&mut env.client(), 1),
        "first",
        "kept for others too"
    );
    client.run("update users set name = 'second' where id = 1");
    assert_eq!(name_of(&mut client, 1), "second");
    behind(env, "update users set name = 'behind' where id = 1");
    assert_eq!(name_of(&mut client, 1), "second");
    // A write to another key spoils nothing.
    client.run("insert into users values (1001, 'other')");
    client.run("update users set name = 'more' where id = 1001");
    assert_eq!(name_of(&mut client, 1), "second");
    // One that names no key does.
    client.run("update users set seen = null where id = 1001 or id = 1001");
    assert_eq!(name_of(&mut client, 1), "second", "still of one key");
    client.run("delete from users where id = 1001");
    assert_eq!(name_of(&mut client, 1), "second");
    client.run("update users set name = 'third' where id = 1 and name = 'behind'");
    assert_eq!(name_of(&mut client, 1), "third");
}

#[test]
fn a_scatter_is_kept_until_any_of_its_tables_is_written() {
    let env = env();
    let mut client = fresh_user(env, 2);
    client.run("insert into users values (2002, 'scattered')");
    let count = |client: &mut Client| {
        client.rows("select count(*) from users where id in (2, 2002) and name is not null")[0][0]
            .clone()
    };
    assert_eq!(count(&mut client), "2");
    behind(env, "update users set name = null where id = 2");
    assert_eq!(count(&mut client), "2", "kept");
    client.run("update users set born = null where id = 2");
    assert_eq!(count(&mut client), "1");
}

#[test]
fn transactions_see_their_own_writes_and_spoil_when_they_end() {
    let env = env();
    let mut client = fresh_user(env, 3);
    let mut other = env.client();
    assert_eq!(name_of(&mut client, 3), "first");
    client.run("begin");
    assert_eq!(name_of(&mut client, 3), "first");
    client.run("update users set name = 'mine' where id = 3");
    assert_eq!(name_of(&mut client, 3), "mine");
    assert_eq!(name_of(&mut other, 3), "first", "not committed");
    assert_eq!(name_of(&mut other, 3), "first");
    client.run("commit");
    assert_eq!(name_of(&mut other, 3), "mine");
    client.run("begin");
    client.run("update users set name = 'undone' where id = 3");
    assert_eq!(name_of(&mut other, 3), "mine");
    client.run("rollback");
    assert_eq!(name_of(&mut client, 3), "mine");
}

#[test]
fn the_extended_protocol_shares_answers_and_keeps_its_shape() {
    let env = env();
    let mut client = fresh_user(env, 4);
    let sql = "select id, name from users where id = $1";
    let ask = |client: &mut Client, described: bool, parsed: bool, format: i16| -> Vec<Message> {
        let mut messages = Vec::new();
        if parsed {
            messages.extend(parse("", sql, &[23]));
        }
        messages.extend(bind("", "", &[Value::text("4")], format));
        if described {
            messages.extend(describe(b'P', ""));
        }
        messages.extend(execute("", 0));
        messages.extend(sync());
        client.exchange(&messages)
    };
    let first = ask(&mut client, true, true, 0);
    let hits = || numbers(env, "keyway_cache_hits_total")["{layer=\"memory\"}"];
    let before = hits();
    assert_eq!(ask(&mut client, true, true, 0), first);
    assert_eq!(ask(&mut client, true, false, 0), first[1..].to_vec());
    let blind = ask(&mut client, false, false, 0);
    assert_eq!(blind, [&first[1..2], &first[3..]].concat());
    assert!(
        hits() >= before + 3,
        "{} after {before}: {:?} {:?} {:?} {:?}",
        hits(),
        numbers(env, "keyway_cache_misses_total"),
        numbers(env, "keyway_cache_stores_total"),
        numbers(env, "keyway_cache_waits_total"),
        numbers(env, "keyway_queries_total")
    );
    let binary = ask(&mut client, true, true, 1);
    assert_ne!(binary, first, "another format is another answer");
    assert_eq!(ask(&mut client, true, true, 1), binary);
}

#[test]
fn answers_are_dropped_when_somebody_wishes() {
    let env = env();
    let mut client = fresh_user(env, 5);
    client.run("insert into user_settings values (5, 'first')");
    let value = |client: &mut Client| client.one("select value from user_settings where id = 5");
    let both = |client: &mut Client| (name_of(client, 5), value(client));
    let first = ("first".to_owned(), "first".to_owned());
    assert_eq!(both(&mut client), first);
    behind(env, "update users set name = 'behind' where id = 5");
    env.direct("settings")
        .run("update user_settings set value = 'behind' where id = 5");
    assert_eq!(both(&mut client), first, "kept");
    assert_eq!(client.one("select keyway.cache_flush('user_settings')"), "");
    assert_eq!(both(&mut client), ("first".to_owned(), "behind".to_owned()));
    let answer = client.extended("select keyway.cache_flush()", &[]);
    assert_eq!(rows_of(&answer), [[""]]);
    let now = ("behind".to_owned(), "behind".to_owned());
    assert_eq!(both(&mut client), now);
    assert_eq!(
        client.error("select keyway.cache_flush('nothing')"),
        "42P01"
    );

    env.direct("settings")
        .run("update user_settings set value = 'again' where id = 5");
    assert_eq!(value(&mut client), "behind");
    let keyway = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_keyway"))
            .arg("flush")
            .args(arguments)
            .args(["-c".as_ref(), env.router.config_file().as_os_str()])
            .output()
            .expect("run keyway")
    };
    let flushed = keyway(&["user_settings"]);
    let said = String::from_utf8_lossy(&flushed.stdout).into_owned();
    assert_eq!(said, "kept answers made of user_settings are dropped\n");
    assert_eq!(value(&mut client), "again");
    behind(env, "update users set name = 'again' where id = 5");
    assert_eq!(name_of(&mut client, 5), "behind");
    assert!(keyway(&[]).status.success());
    assert_eq!(name_of(&mut client, 5), "again");
    assert_eq!(keyway(&["nothing"]).status.code(), Some(1));
    assert_eq!(
        client.rows("show keyway.cache")[0],
        ["enabled".to_owned(), "on".to_owned()]
    );
    // Without anybody's values.
    name_of(&mut client, 5);
    let shown = client.rows("show keyway.cache_entries");
    assert!(
        shown
            .iter()
            .any(|row| row[4].starts_with("select name from users where id = $")),
        "{shown:?}"
    );
}
