//! Cancel requests: they end what the session does when they arrive, be it a statement or the wait for a server, and
//! nothing of anybody else's.

use std::io;
use std::thread;
use std::time::Duration;

use crate::gate::Gate;
use crate::harness::{Env, POLL, Setup, create_database, direct_target, eventually};
use crate::raw::{
    Client, Message, PATIENCE, Value, bind, cancel_request, execute, parse, query, sync,
};

const SCHEMA: &str =
    "create table items (k int primary key, v text);\ncreate table names (n text primary key);\n";
const ROWS: i32 = 30;

/// A router with one connection to each shard, and a key of each shard.
fn start(name: &str) -> (Env, [i32; 3]) {
    start_with(name, &[])
}

/// The same, with a gate in front of the sharded keyspace's servers.
fn gated(name: &str) -> (Gate, Env, [i32; 3]) {
    let gate = Gate::open();
    let shards = ["s0", "s1", "s2"].map(|shard| {
        let database = format!("{name}_{shard}");
        create_database(&database);
        (shard, gate.dsn(&database))
    });
    let (env, keys) = start_with(name, &shards);
    (gate, env, keys)
}

fn start_with(name: &str, elsewhere: &[(&str, String)]) -> (Env, [i32; 3]) {
    let env = Setup {
        name,
        pool_size: 1,
        tables: "items = { key = \"k\" }\nnames = { reference = true }",
        schema: SCHEMA,
        elsewhere,
        top: "workers = 1",
        pool: "checkout_timeout = \"30s\"",
        ..Setup::default()
    }
    .start();
    assert!(env.schema_failures.is_empty(), "{:?}", env.schema_failures);
    let mut client = env.client();
    for k in 1..=ROWS {
        client.run(&format!("insert into items values ({k}, 'v{k}')"));
    }
    let keys = ["s0", "s1", "s2"].map(|shard| {
        env.direct(shard)
            .one("select min(k) from items")
            .parse()
            .expect("a key")
    });
    (env, keys)
}

fn get(k: i32) -> String {
    format!("select v from items where k = {k}")
}

fn batch(sql: &str, k: i32) -> Vec<u8> {
    [
        parse("", sql, &[23]),
        bind("", "", &[Value::text(&k.to_string())], 0),
        execute("", 0),
    ]
    .concat()
}

/// A transaction that holds the servers of the shards that these keys are on.
fn hold(env: &Env, keys: &[i32]) -> Client {
    let mut holder = env.client();
    holder.run("begin");
    for k in keys {
        holder.run(&get(*k));
    }
    holder
}

/// Asks for the end of what a client does until it ends: the request may not have been read yet.
fn cancel_until_it_ends(client: &mut Client) -> Vec<Message> {
    let canceller = client.canceller();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.until_ready().expect("an answer"));
        while !waiting.is_finished() {
            canceller.cancel();
            thread::sleep(POLL);
        }
        waiting.join().expect("no panic")
    })
}

/// Sends what must wait for a server, and asks for its end.
fn canceled(client: &mut Client, what: &str, request: &[u8]) {
    client.send(request).expect("send");
    let messages = cancel_until_it_ends(client);
    let errors: Vec<&Message> = messages.iter().filter(|m| m.tag == b'E').collect();
    let [error] = errors[..] else {
        panic!("{what}: one error, not {messages:?}");
    };
    assert_eq!(error.sqlstate(), "57014", "{what}: {error:?}");
    assert!(
        format!("{error:?}").contains("canceling statement due to user request"),
        "{what}: {error:?}"
    );
}

/// Which servers a statement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Some,
    All,
}

#[test]
fn a_statement_that_waits_for_a_server_can_be_canceled() {
    let (env, keys) = start("cancel_waits");
    let [a, b, c] = keys;
    let bound = "select v from items where k = $1";
    let all_bound = "select v from items where k > $1 order by k";
    let bytes = |pieces: &[Vec<u8>]| [pieces.concat(), sync()].concat();
    let statements = [
        ("one shard", Needs::Some, query(&get(a))),
        ("one shard, bound", Needs::Some, bytes(&[batch(bound, a)])),
        (
            "two shards, bound",
            Needs::Some,
            bytes(&[batch(bound, a), batch(bound, b)]),
        ),
        ("any shard", Needs::Some, query("select n from names")),
        (
            "two statements",
            Needs::Some,
            query(&format!("{}; {}", get(a), get(b))),
        ),
        (
            "a setting",
            Needs::Some,
            query("set timezone = 'Asia/Tokyo'"),
        ),
        (
            "a text that a server must judge",
            Needs::Some,
            query("selec 1"),
        ),
        (
            "SQL's PREPARE",
            Needs::Some,
            query(&format!("prepare p as {}", get(a))),
        ),
        (
            "a copy",
            Needs::Some,
            query("copy items to stdout /* keyway: shard=s1 */"),
        ),
        (
            "all shards",
            Needs::All,
            query("select v from items order by k"),
        ),
        (
            "all shards, bound",
            Needs::All,
            bytes(&[batch(all_bound, 0)]),
        ),
        (
            "a change of the schema",
            Needs::All,
            query("alter table items add column w int"),
        ),
    ];
    let mut client = env.client();
    for (what, needs, request) in &statements {
        // Nothing is to be had, twice, as the second time the statement is known; then all but the last shard.
        let all_but_last = (*needs == Needs::All).then_some(&keys[2..]);
        for held in [&keys[..], &keys[..]].into_iter().chain(all_but_last) {
            for begins in [false, true] {
                let mut holder = hold(&env, held);
                if begins {
                    client.run("begin");
                }
                canceled(&mut client, what, request);
                if begins {
                    assert_eq!(client.status, b'E', "{what}: the transaction has failed");
                    assert_eq!(client.error(&get(a)), "25P02", "{what}");
                    client.run("rollback");
                }
                assert_eq!(client.status, b'I', "{what}");
                let mut other = env.client();
                if held.len() == 1 {
                    // What it had before it waited is there for others.
                    assert_eq!(other.one(&get(a)), format!("v{a}"), "{what}");
                    assert_eq!(other.one(&get(b)), format!("v{b}"), "{what}");
                }
                holder.run("commit");
                for client in [&mut client, &mut other] {
                    assert_eq!(client.one(&get(c)), format!("v{c}"), "{what}");
                    let count = client.one("select count(*) from items");
                    assert_eq!(count, ROWS.to_string(), "{what}");
                    assert_eq!(client.one("show timezone"), "UTC", "{what}");
                }
                other.bye();
                holder.bye();
            }
        }
    }
    env.wait_idle();
    assert!(!env.router.log().contains("panicked"));
}

#[test]
fn others_that_wait_keep_their_places() {
    let (env, [a, ..]) = start("cancel_places");
    let mut holder = hold(&env, &[a]);
    let mut waiting: Vec<Client> = (0..6).map(|_| env.client()).collect();
    for client in &mut waiting {
        client.send(&query(&get(a))).expect("send");
    }
    for client in waiting.iter_mut().step_by(2) {
        let messages = cancel_until_it_ends(client);
        let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
        assert_eq!(error.sqlstate(), "57014");
    }
    holder.run("commit");
    for (place, client) in waiting.iter_mut().enumerate() {
        if place % 2 == 1 {
            let messages = client.until_ready().expect("an answer");
            assert!(messages.iter().all(|m| m.tag != b'E'), "{messages:?}");
        }
        assert_eq!(client.one(&get(a)), format!("v{a}"));
    }
    env.wait_idle();
}

/// Who waits for a shard that comes before one it holds waits in two places at once.
#[test]
fn a_wait_out_of_shard_order_can_be_canceled() {
    let (env, [a, b, c]) = start("cancel_order");
    let mut holder = hold(&env, &[a]);
    // It has the one connection beyond the pool's size.
    let mut beyond = hold(&env, &[c]);
    beyond.run(&get(a));
    for _ in 0..3 {
        let mut client = hold(&env, &[b]);
        canceled(&mut client, "out of order", &query(&get(a)));
        assert_eq!(client.status, b'E');
        client.run("rollback");
        assert_eq!(client.one(&get(b)), format!("v{b}"));
        client.bye();
    }
    beyond.run("commit");
    // The leave to go beyond is to be had again.
    let mut next = hold(&env, &[b]);
    next.run(&get(a));
    next.run("commit");
    holder.run("commit");
    assert_eq!(holder.one(&get(a)), format!("v{a}"));
    env.wait_idle();
}

#[test]
fn a_cancel_request_to_an_idle_session_is_void() {
    let (env, [a, ..]) = start("cancel_idle");
    let mut client = env.client();
    let mut holder = hold(&env, &[a]);
    for _ in 0..20 {
        client.canceller().cancel();
        client.run("begin");
        client.canceller().cancel();
        assert_eq!(client.status, b'T');
        client.run("commit");
        client.canceller().cancel();
    }
    // What is sent next must wait, and is not what was meant.
    client.send(&query(&get(a))).expect("send");
    holder.run("commit");
    let messages = client.until_ready().expect("an answer");
    assert!(messages.iter().all(|m| m.tag != b'E'), "{messages:?}");
    env.wait_idle();
}

/// Sends a CancelRequest, and leaves its connection open.
fn ask_for_the_end(client: &Client, env: &Env) -> Client {
    let mut asking = Client::open(env.router.port).expect("a connection");
    asking
        .send(&cancel_request(client.pid, &client.key))
        .expect("send");
    asking
}

/// As PostgreSQL does: who has seen its CancelRequest's connection closed may send the next statement.
#[test]
fn a_cancel_request_is_answered_when_it_has_been_delivered() {
    let (gate, env, [a, b, c]) = gated("cancel_answer");
    let mut client = env.client();
    for (what, sql) in [
        ("one shard", get(c)),
        ("all shards", "select v from items order by k".to_owned()),
    ] {
        let mut owner = env.direct("s2");
        owner.run("begin; lock table items");
        client.send(&query(&sql)).expect("send");
        env.wait_running(&["s2"], "from items");
        gate.shut();
        let mut asking = ask_for_the_end(&client, &env);
        gate.wait_newcomers(1);
        asking.patience(Duration::from_millis(300));
        let early = asking.read_byte().expect_err("nothing is said");
        assert_ne!(
            early.kind(),
            io::ErrorKind::UnexpectedEof,
            "{what}: the connection is closed before the server has heard of it"
        );
        gate.let_in();
        asking.patience(PATIENCE);
        assert!(asking.until_closed().is_empty(), "{what}");
        let messages = client.until_ready().expect("an answer");
        let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
        assert_eq!(error.sqlstate(), "57014", "{what}");
        owner.run("rollback");
        for k in [a, b, c] {
            assert_eq!(client.one(&get(k)), format!("v{k}"), "{what}");
        }
    }
    env.wait_idle();
}

/// Cancel requests are at the gate and their session has no use for the server any more: whoever comes next runs a
/// statement there, before they are let in.
fn next_is_spared(gate: &Gate, env: &Env, name: &str, shard: &str, k: i32) {
    let mut next = env.client();
    let sleeps = format!("select pg_sleep(0.3), v from items where k = {k}");
    next.send(&query(&sleeps)).expect("send");
    // It runs, or waits for a connection in place of the one that may be hit.
    let connections = format!(
        "select coalesce(bool_and(state = 'active'), true) from pg_stat_activity \
         where datname = '{name}_{shard}' and backend_type = 'client backend' and application_name not like 'keyway%'"
    );
    let mut watcher = Client::connect(&direct_target("postgres"));
    eventually("the next client's statement is on its way", || {
        (watcher.one(&connections) == "t").then_some(())
    });
    gate.let_in();
    let messages = next.until_ready().expect("an answer");
    let error = messages.iter().find(|m| m.tag == b'E');
    assert!(error.is_none(), "another client's statement: {error:?}");
    assert_eq!(next.one(&get(k)), format!("v{k}"));
    env.wait_idle();
}

#[test]
fn a_server_that_was_taken_ahead_is_not_given_on_with_a_cancel_behind_it() {
    let name = "cancel_ahead";
    let (gate, env, [a, b, _]) = gated(name);
    let mut client = env.client();
    let bytes = [
        batch("select pg_sleep(300) from items where k = $1", a),
        batch("select v from items where k = $1", b),
        sync(),
    ]
    .concat();
    client.send(&bytes).expect("send");
    env.wait_running(&["s0"], "pg_sleep(");
    gate.shut();
    client.bye();
    gate.wait_newcomers(2);
    next_is_spared(&gate, &env, name, "s1", b);
}

#[test]
fn a_server_that_could_not_begin_is_not_given_on_with_a_cancel_behind_it() {
    let name = "cancel_begin";
    let (gate, env, [a, ..]) = gated(name);
    let mut client = env.client();
    client.run("begin");
    gate.replace(b"BEGIN\0", b"BEGAN\0");
    gate.stop_after(0);
    client
        .send(&query("select v from items order by k"))
        .expect("send");
    assert!(gate.wait_held(), "the server has answered");
    gate.shut();
    let mut asking = ask_for_the_end(&client, &env);
    gate.wait_newcomers(1);
    gate.release();
    let messages = client.until_ready().expect("an answer");
    assert_eq!(gate.replace_nothing(), 1, "the first server's BEGIN");
    let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
    assert_eq!(error.sqlstate(), "42601", "{error:?}");
    next_is_spared(&gate, &env, name, "s0", a);
    assert!(asking.until_closed().is_empty());
    client.run("rollback");
    assert_eq!(client.one(&get(a)), format!("v{a}"));
    env.wait_idle();
}
