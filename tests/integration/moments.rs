//! Each moment at which a session waits for a server: there the client leaves, or the server does. Afterwards the pools
//! hold only idle servers in sync, what is not committed is not there, and the next client sees only its own.

use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::gate::{Control, Gate};
use crate::harness::{Env, Setup, cluster, create_database, eventually};
use crate::raw::{Value, bind, close, describe, execute, message, parse, query, rows_of, sync};

const SCHEMA: &str = "create table items (k int primary key, v text);";
const ROWS: i32 = 30;
/// The conversation before which the pool's connection is ended.
const NEW: &str = "a query on a new connection";
/// The conversation that changes the schema.
const SCHEMA_CHANGE: &str = "a change of the schema";

/// A router with one connection to each shard, behind a gate.
fn gated(name: &str) -> (Gate, Env) {
    let gate = Gate::open();
    let shards: Vec<(&str, String)> = ["s0", "s1", "s2"]
        .iter()
        .map(|shard| {
            let database = format!("{name}_{shard}");
            create_database(&database);
            (*shard, gate.dsn(&database))
        })
        .collect();
    let env = Setup {
        name,
        pool_size: 1,
        tables: "items = { key = \"k\" }",
        schema: SCHEMA,
        elsewhere: &shards,
        // Else the connection goes from one worker's pool to the other's, by a new login.
        top: "workers = 1",
        ..Setup::default()
    }
    .start();
    assert!(env.schema_failures.is_empty(), "{:?}", env.schema_failures);
    let mut client = env.client();
    for k in 1..=ROWS {
        client.run(&format!("insert into items values ({k}, 'v{k}')"));
    }
    (gate, env)
}

/// Two keys of one shard, then one of another.
fn three_keys(env: &Env) -> [i32; 3] {
    let of = |shard: &str| -> Vec<i32> {
        env.direct(shard)
            .rows("select k from items order by k")
            .iter()
            .map(|row| row[0].parse().expect("a key"))
            .collect()
    };
    let (first, second) = (of("s0"), of("s1"));
    [first[0], first[1], second[0]]
}

/// What clients do, each request answered before the next.
fn conversations([a, b, other]: [i32; 3]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let batch = |sql: &str, k: i32| {
        [
            parse("", sql, &[23]),
            bind("", "", &[Value::text(&k.to_string())], 0),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let set = |k: i32| format!("update items set v = 'written' where k = {k}");
    let bound_set = "update items set v = 'written' where k = $1";
    let get = format!("select v from items where k = {a}");
    let copied = [
        query(&format!("copy items from stdin /* keyway: key={a} */")),
        message(b'd', b"1000\tx\n"),
        message(b'f', b"given up\0"),
    ]
    .concat();
    vec![
        (NEW, vec![query(&get)]),
        ("a query", vec![query(&get), query(&get)]),
        (
            "a batch",
            vec![
                batch("select v from items where k = $1", a),
                batch("select v from items where k = $1", b),
            ],
        ),
        (
            "a transaction",
            vec![
                query("begin"),
                query(&set(a)),
                query(&set(b)),
                query("commit"),
            ],
        ),
        (
            "a transaction of batches",
            vec![
                [
                    parse("", "begin", &[]),
                    bind("", "", &[], 0),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
                batch(bound_set, a),
                batch(bound_set, b),
                [
                    parse("", "commit", &[]),
                    bind("", "", &[], 0),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            ],
        ),
        (
            "a transaction with a scene",
            vec![
                query("begin isolation level repeatable read"),
                query("set local timezone = 'Asia/Tokyo'"),
                query("savepoint here"),
                query(&set(a)),
                query("rollback to here"),
                query(&set(a)),
                query(&set(b)),
                query("end"),
            ],
        ),
        (
            "a transaction that is rolled back",
            vec![
                query("begin"),
                query(&set(a)),
                query(&set(b)),
                query("rollback"),
            ],
        ),
        (
            "statements of one message",
            vec![query(&format!("{}; {}; select 1", set(a), set(b)))],
        ),
        (
            "a message with its own transaction",
            vec![query(&format!(
                "begin; {}; {}; commit; {get}",
                set(a),
                set(b)
            ))],
        ),
        (
            "a pipeline",
            vec![
                [
                    parse("", bound_set, &[23]),
                    bind("", "", &[Value::text(&a.to_string())], 0),
                    execute("", 0),
                    bind("", "", &[Value::text(&b.to_string())], 0),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            ],
        ),
        (
            "a named statement",
            vec![
                [
                    parse("p", "select v from items where k = $1", &[23]),
                    sync(),
                ]
                .concat(),
                [
                    bind("", "p", &[Value::text(&a.to_string())], 0),
                    execute("", 0),
                    bind("", "p", &[Value::text(&other.to_string())], 0),
                    execute("", 0),
                    close(b'S', "p"),
                    sync(),
                ]
                .concat(),
            ],
        ),
        (
            "rows of all shards",
            vec![
                query("select k, v from items order by k limit 12"),
                batch("select v from items where k > $1 order by k", 3),
                query("select count(*), max(k) from items"),
            ],
        ),
        (
            "a cursor over all shards",
            vec![
                query("begin"),
                query("declare c cursor for select k from items order by k"),
                query("fetch 5 from c"),
                query("close c"),
                query("commit"),
            ],
        ),
        (
            "settings",
            vec![
                query("set timezone = 'Asia/Tokyo'"),
                query(&get),
                query("reset timezone"),
                query(&format!("select v from items where k = {other}")),
            ],
        ),
        (
            "a copy out",
            vec![query(&format!(
                "copy (select k, v from items where k = {a}) to stdout"
            ))],
        ),
        ("a copy in", vec![copied]),
        (
            "a statement that fails",
            vec![
                query("begin"),
                query(&set(a)),
                query(&format!("select 1 / (k - k) from items where k = {a}")),
                query("rollback"),
            ],
        ),
        (
            "a prepared statement of SQL",
            vec![
                query("prepare q (int) as select v from items where k = $1"),
                query(&format!("execute q ({a})")),
                query(&format!("execute q ({other})")),
                query("deallocate q"),
            ],
        ),
        (
            SCHEMA_CHANGE,
            vec![
                query("create table passing (k int primary key)"),
                query("drop table if exists passing"),
            ],
        ),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Client,
    Server,
}

/// Holds the conversation's servers after `messages` of their messages, and lets somebody leave. False when the
/// conversation was over before.
fn interrupted(
    gate: &Gate,
    env: &Env,
    requests: &[Vec<u8>],
    messages: usize,
    leaves: Leaves,
) -> bool {
    let mut client = env.client();
    let socket: TcpStream = client.socket();
    let client = Mutex::new(&mut client);
    gate.stop_after(messages);
    let held = thread::scope(|scope| {
        let conversation = scope.spawn(|| {
            let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
            let all = requests.iter().try_for_each(|request| {
                client.send(request)?;
                client.until_ready().map(drop)
            });
            gate.note_done();
            all
        });
        let held = gate.wait_held();
        match leaves {
            Leaves::Client if held => {
                socket.shutdown(Shutdown::Both).expect("leave");
                let left = conversation.join().expect("no panic");
                assert!(left.is_err(), "nobody is there for an answer");
                gate.release();
            }
            Leaves::Client | Leaves::Server => {
                gate.cut();
                let answered = conversation.join().expect("no panic");
                assert!(
                    answered.is_ok(),
                    "a lost server is no lost client: {answered:?}"
                );
            }
        }
        held
    });
    if leaves == Leaves::Server || !held {
        // The session goes on, whatever its server did.
        let client = client.into_inner().unwrap_or_else(PoisonError::into_inner);
        if client.status != b'I' {
            client.simple("rollback");
        }
        assert_eq!(client.status, b'I');
        // A change of the schema makes the router read the schemas again, which a cut may have hit.
        let all = || {
            let rows = rows_of(&client.simple("select count(*) from items"));
            (rows == [[ROWS.to_string()]]).then_some(())
        };
        eventually("all rows are counted", all);
    }
    held
}

/// Lets `leaves` happen at each moment of each conversation.
fn at_each_moment(name: &str, leaves: Leaves) {
    let (gate, env) = gated(name);
    let keys = three_keys(&env);
    let mut moments = 0;
    for (what, requests) in conversations(keys) {
        // A change of the schema has the schemas read again, in hundreds of messages that are alike.
        let stride = if what == SCHEMA_CHANGE { 14 } else { 1 };
        gate.control(if what == SCHEMA_CHANGE {
            Control::Held
        } else {
            Control::Free
        });
        for messages in (0..).step_by(stride) {
            if what == NEW {
                let database = format!("{name}_s0");
                let kill = format!(
                    "select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = '{database}' and application_name <> 'keyway'"
                );
                cluster().execute("postgres", &kill).expect("terminate");
            }
            let held = interrupted(&gate, &env, &requests, messages, leaves);
            env.wait_idle();
            // Both or none.
            let mut owner = env.direct("s0");
            let written =
                owner.one("select count(*) from items where v = 'written' having count(*) <> 1");
            assert!(
                ["0", "2"].contains(&written.as_str()),
                "{what}, after {messages} messages: one of two"
            );
            owner.run("update items set v = 'v' || k where v = 'written'");
            owner.bye();
            // The next client is served by the same connections, if they are still there.
            let mut next = env.client();
            let rows = eventually("the next client is answered", || {
                let rows = rows_of(&next.simple("select k, v from items order by k"));
                (!rows.is_empty()).then_some(rows)
            });
            let expected: Vec<_> = (1..=ROWS)
                .map(|k| vec![k.to_string(), format!("v{k}")])
                .collect();
            assert_eq!(rows, expected, "{what}, after {messages} messages");
            for key in [keys[0], keys[2]] {
                let zone = next.one(&format!(
                    "select current_setting('timezone') from items where k = {key}"
                ));
                assert_ne!(zone, "Asia/Tokyo", "{what}, after {messages} messages");
            }
            next.bye();
            if !held {
                break;
            }
            moments += 1;
        }
        // DDL that was interrupted between its commits leaves a table on some shards.
        let mut client = env.client();
        client.simple("drop table if exists passing");
        client.bye();
    }
    eprintln!("{moments} moments at which the {leaves:?} leaves");
    assert!(moments > 50, "{moments} moments");
}

#[test]
fn a_client_leaves_at_each_moment() {
    at_each_moment("moments_client", Leaves::Client);
}

#[test]
fn a_server_leaves_at_each_moment() {
    at_each_moment("moments_server", Leaves::Server);
}

/// A BEGIN travels with the statement behind it. When it fails, the statement has not run.
#[test]
fn a_begin_that_fails_takes_its_statement_with_it() {
    let (gate, env) = gated("moments_begin");
    let [a, ..] = three_keys(&env);
    let set = "update items set v = 'written' where k = ";
    let in_batches = |sql: &str| {
        [
            parse("", sql, &[]),
            bind("", "", &[], 0),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let update = format!("{set}{a}");
    for form in ["simple", "extended"] {
        let ask = |sql: &str| {
            if form == "simple" {
                query(sql)
            } else {
                in_batches(sql)
            }
        };
        for turn in 0..4 {
            let mut client = env.client();
            // From the second turn on, all of it takes the fast path.
            client.exchange(&ask("begin"));
            gate.replace(b"BEGIN\0", b"BEGAN\0");
            let messages = client.exchange(&ask(&update));
            let replaced = gate.replace_nothing();
            assert_eq!(replaced, 1, "{form}, turn {turn}");
            let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
            assert_eq!(error.sqlstate(), "42601", "{form}, turn {turn}");
            assert_eq!(messages.iter().filter(|m| m.tag == b'C').count(), 0);
            assert_eq!(client.status, b'E', "{form}, turn {turn}");
            assert_eq!(client.error(&update), "25P02");
            client.exchange(&ask("commit"));
            assert_eq!(client.status, b'I');
            let unchanged = client.one(&format!("select v from items where k = {a}"));
            assert_eq!(unchanged, format!("v{a}"), "{form}, turn {turn}");
            // And one that does not fail is one transaction.
            client.exchange(&ask("begin"));
            client.exchange(&ask(&update));
            assert_eq!(client.status, b'T');
            client.exchange(&ask("rollback"));
            client.bye();
        }
    }
    env.wait_idle();
}
