//! Kept answers that are asked for again without a client, and those that are given though their shard is away.

use std::collections::BTreeMap;

use keyway::demo::cluster::Cluster;

use crate::cache::numbers;
use crate::harness::{Env, Router, Setup, eventually, new_cluster};
use crate::raw::{Client, Message, rows_of};

const TABLES: &str =
    "prices = { key = \"id\" }\nstock = { key = \"id\" }\nplain = { key = \"id\" }";
const SCHEMA: &str = "create table prices (id int primary key, name text);
create table stock (id int primary key, name text);
create table plain (id int primary key, name text);";

fn start(name: &str, cache: &str, elsewhere: &[(&str, String)]) -> Env {
    let env = Setup {
        name,
        tables: TABLES,
        schema: SCHEMA,
        more: &format!("[cache]\nenabled = true\n{cache}"),
        pool: "connect_timeout = \"10s\"\ncheckout_timeout = \"10s\"",
        elsewhere,
        ..Setup::default()
    }
    .start();
    assert_eq!(env.schema_failures, Vec::<String>::new());
    let mut client = env.client();
    for table in ["prices", "stock", "plain"] {
        for id in 1..=20 {
            client.run(&format!("insert into {table} values ({id}, 'first')"));
        }
    }
    env
}

fn behind(env: &Env, sql: &str) {
    for shard in ["s0", "s1", "s2"] {
        env.direct(shard).run(sql);
    }
}

fn refreshes(env: &Env) -> BTreeMap<String, u64> {
    numbers(env, "keyway_cache_refreshes_total")
}

const KEPT: &str = "{outcome=\"kept\"}";

/// By the extended protocol, with a parameter, in a session with settings of its own.
fn asked(client: &mut Client, table: &str, id: i32) -> String {
    let sql = format!("select name from {table} where id = $1 and name <> $2");
    let id = id.to_string();
    let messages = client.extended(&sql, &[&id, "nobody"]);
    rows_of(&messages)[0][0].clone()
}

#[test]
fn what_is_given_often_is_asked_for_before_its_time_is_over() {
    let env = start("again_ahead", "ttl = \"20s\"\nsoft_ttl_percent = 10\n", &[]);
    let mut client = env.client();
    client.run("set timezone = 'Asia/Tokyo'");
    client.run("set search_path = public, pg_catalog");
    for id in [1, 2] {
        assert_eq!(asked(&mut client, "prices", id), "first");
    }
    for _ in 0..5 {
        assert_eq!(asked(&mut client, "prices", 1), "first");
    }
    behind(&env, "update prices set name = 'behind'");
    let misses = || numbers(&env, "keyway_cache_misses_total")[""];
    let before = misses();
    assert_eq!(asked(&mut client, "prices", 1), "first", "kept");
    eventually("the answer is new", || {
        (asked(&mut client, "prices", 1) == "behind").then_some(())
    });
    assert_eq!(misses(), before, "no client waited for it");
    assert_eq!(refreshes(&env)[KEPT], 1);
    assert_eq!(
        asked(&mut client, "prices", 2),
        "first",
        "nobody asks for it often"
    );
}

#[test]
fn what_is_wanted_is_asked_for_again_when_it_is_written() {
    let cache = "soft_ttl_percent = 100\n[cache.tables]\nprices = { on_write = \"refresh\" }\n";
    let env = start("again_write", cache, &[]);
    let mut client = env.client();
    for table in ["prices", "stock"] {
        for _ in 0..3 {
            assert_eq!(asked(&mut client, table, 1), "first");
            assert_eq!(
                client.one(&format!("select min(name) from {table}")),
                "first"
            );
        }
        // Given to nobody.
        assert_eq!(asked(&mut client, table, 2), "first");
    }
    client.run("begin");
    client.run("update prices set name = 'second' where id = 1");
    client.run("update stock set name = 'second' where id = 1");
    client.run("commit");
    eventually("two answers are asked for again", || {
        (refreshes(&env)[KEPT] == 2).then_some(())
    });
    behind(&env, "update prices set name = 'third'");
    behind(&env, "update stock set name = 'third'");
    assert_eq!(asked(&mut client, "prices", 1), "second", "kept since");
    assert_eq!(
        client.one("select min(name) from prices"),
        "first",
        "kept since"
    );
    assert_eq!(asked(&mut client, "stock", 1), "third");
    assert_eq!(client.one("select min(name) from stock"), "third");
    assert_eq!(refreshes(&env)[KEPT], 2);
}

#[test]
fn r40_what_was_asked_often_is_asked_at_the_start() {
    let cache = "keep_popular = 2
[cache.warmup.cheapest]
sql = \"select name from stock where id = 1\"
database = \"app\"
user = \"app\"
[cache.warmup.wrong]
sql = \"delete from plain\"
database = \"app\"
user = \"app\"
[cache.warmup.one_too]
sql = \"delete from plain where id = 1\"
database = \"app\"
user = \"app\"
schedule = \"* * * * * *\"
[cache.warmup.bound]
sql = \"select name from stock where id = $1 and name <> $2\"
params = [\"2\", \"nobody\"]
database = \"app\"
user = \"app\"
schedule = \"* * * * * *\"\n";
    let mut env = start("again_start", cache, &[]);
    let mut client = env.client();
    client.run("set timezone = 'Asia/Tokyo'");
    for (id, times) in [(1, 9), (2, 3), (3, 6)] {
        for _ in 0..times {
            assert_eq!(asked(&mut client, "prices", id), "first");
        }
    }
    eventually("the schedule is due", || {
        (refreshes(&env)[KEPT] >= 2).then_some(())
    });

    // What was asked most often is known to the next process, and nothing else.
    client.bye();
    env.router.signal("TERM");
    assert_eq!(env.router.wait_exit(), Some(0));
    env.router = Router::start(env.config());
    env.target.port = env.router.port;
    eventually("four questions are asked at the start", || {
        (refreshes(&env)[KEPT] >= 4).then_some(())
    });
    let log = env.router.log();
    assert!(
        log.contains("warm-up: 6 of 6 questions, 4 answers kept"),
        "{log}"
    );
    // What is listed is there, in the form in which it is listed.
    behind(&env, "update stock set name = 'behind' where id = 1");
    let mut client = env.client();
    assert_eq!(client.one("select name from stock where id = 1"), "first");
    client.run("set timezone = 'Asia/Tokyo'");
    assert_eq!(client.one("select name from stock where id = 1"), "behind");
    behind(&env, "update prices set name = 'behind'");
    assert_eq!(asked(&mut client, "prices", 1), "first", "kept");
    assert_eq!(asked(&mut client, "prices", 2), "behind");
    assert_eq!(asked(&mut client, "prices", 3), "first", "kept");

    // What is no question is not asked.
    assert_eq!(client.one("select count(*) from plain"), "20");
    // And when answers were dropped they are asked again.
    let before = refreshes(&env)[KEPT];
    client.run("select keyway.cache_flush()");
    eventually("what is listed and what is popular", || {
        let log = env.router.log();
        log.contains("why=\"flush\"").then_some(())
    });
    assert!(refreshes(&env)[KEPT] >= before + 4);
    behind(&env, "update prices set name = 'later'");
    assert_eq!(asked(&mut client, "prices", 1), "behind", "kept");
}

#[test]
fn r39_an_answer_outlives_its_shard_for_a_while() {
    let mut cluster: Cluster = new_cluster(50);
    cluster.create_database("lone").expect("a database");
    cluster
        .execute(
            "postgres",
            "alter database lone set synchronous_commit = on",
        )
        .expect("a durable database");
    let cache = "ttl = \"500ms\"\nsoft_ttl_percent = 100\n[cache.tables]\nprices = { stale_if_error = \"1h\" }
stock = { stale_if_error = \"1s\" }\n";
    let env = start("again_stale", cache, &[("s2", cluster.dsn("lone"))]);
    let (mut client, mut other) = (env.client(), env.client());
    let ids = client.rows("/* keyway: shard=s2 */ select id from prices order by id");
    let ids: Vec<i32> = ids
        .iter()
        .map(|row| row[0].parse().expect("an id"))
        .collect();
    let (id, own) = (ids[0], ids[1]);
    for table in ["prices", "stock", "plain"] {
        for id in [id, own] {
            for _ in 0..2 {
                assert_eq!(asked(&mut client, table, id), "first");
                let sql = format!("select name from {table} where id = {id}");
                assert_eq!(client.one(&sql), "first");
            }
        }
    }
    client.run(&format!(
        "update prices set name = 'second' where id = {own}"
    ));
    cluster.kill9().expect("kill the shard");

    let stale = || numbers(&env, "keyway_cache_stale_served_total")[""];
    let error = |messages: &[Message]| {
        messages
            .iter()
            .find(|m| m.tag == b'E')
            .map(Message::sqlstate)
    };
    let one = |table: &str, id: i32| format!("select name from {table} where id = {id}");
    // Until its time is over it is given as ever. This one was asked for last.
    eventually("the time of all answers is over", || {
        let messages = client.simple(&one("plain", id));
        (error(&messages).as_deref() == Some("08006")).then_some(())
    });
    for client in [&mut client, &mut other] {
        let messages = client.simple(&one("prices", id));
        assert_eq!(rows_of(&messages), [["first"]]);
        let notice = messages.iter().find(|m| m.tag == b'N').expect("a notice");
        assert_eq!(notice.sqlstate(), "01000");
        assert_eq!(client.status, b'I');
        let before = stale();
        assert_eq!(asked(client, "prices", id), "first");
        assert_eq!(stale(), before + 1);
    }
    // Nobody is told what he has changed himself.
    assert_eq!(
        error(&client.simple(&one("prices", own))).as_deref(),
        Some("08006")
    );
    // Not in a transaction, not what was not asked before, not where it is not allowed, and not for longer.
    client.run("begin");
    assert_eq!(
        error(&client.simple(&one("prices", id))).as_deref(),
        Some("08006")
    );
    client.run("rollback");
    for sql in [
        format!("select name, 1 from prices where id = {id}"),
        format!("select p.name from prices p join plain q using (id) where id = {id}"),
        one("plain", id),
    ] {
        let messages = client.simple(&sql);
        assert_eq!(error(&messages).as_deref(), Some("08006"), "{sql}");
    }
    eventually("it is too old", || {
        let messages = client.simple(&one("stock", id));
        (error(&messages).as_deref() == Some("08006")).then_some(())
    });

    // Behind a REVOKE nobody knows who may have it, whether or not the shard has heard of it.
    let messages = client.simple("revoke select on prices from public");
    assert!(error(&messages).is_some(), "the shard is away");
    let messages = client.simple(&one("prices", id));
    assert_eq!(error(&messages).as_deref(), Some("08006"));

    cluster.start_again().expect("start the shard");
    eventually("the shard is used again", || {
        let messages = client.simple(&one("plain", id));
        (rows_of(&messages) == [["first"]]).then_some(())
    });
    let before = stale();
    assert_eq!(client.one(&one("prices", own)), "second");
    assert_eq!(asked(&mut client, "prices", id), "first");
    assert_eq!(stale(), before);
}
