//! What breaks: shards that die and come back, clients that leave in the middle, queries that are cancelled at any
//! moment. Afterwards the pools hold only idle servers, and nobody ever saw another's rows.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use keyway::demo::cluster::Cluster;

use crate::gate::Gate;
use crate::harness::{Env, Router, Setup, eventually, http_get, new_cluster};
use crate::raw::{Client, Message, Value, bind, execute, parse, query, rows_of, sync, terminate};

const TABLES: &str = "items = { key = \"k\" }\nnames = { reference = true }";
const SCHEMA: &str = "create table items (k int primary key, v text);\ncreate table names (n text primary key);\n-- keyspace: settings\ncreate table user_settings (user_id int primary key, theme text);\n";
/// Rows with keys 1..=ROWS.
const ROWS: i32 = 60;

fn start(name: &str, elsewhere: &[(&str, String)]) -> Env {
    let env = Setup {
        name,
        pool_size: 4,
        tables: TABLES,
        schema: SCHEMA,
        elsewhere,
        pool: "connect_timeout = \"10s\"\ncheckout_timeout = \"10s\"",
        ..Setup::default()
    }
    .start();
    let mut client = env.client();
    for k in 1..=ROWS {
        client.run(&format!("insert into items values ({k}, 'v{k}')"));
    }
    env
}

fn error_of(messages: &[Message]) -> Option<&Message> {
    messages.iter().find(|m| m.tag == b'E')
}

/// A key of each shard, found by asking the shards by hint.
fn keys_by_shard(client: &mut Client) -> Vec<i32> {
    ["s0", "s1", "s2"]
        .iter()
        .map(|shard| {
            client
                .one(&format!(
                    "/* keyway: shard={shard} */ select min(k) from items"
                ))
                .parse()
                .expect("a key")
        })
        .collect()
}

#[test]
fn a_dead_shard_fails_only_what_needs_it_and_comes_back() {
    let mut cluster: Cluster = new_cluster(50);
    cluster.create_database("lone").expect("a database");
    // Throwaway clusters do not wait for their log, and what is killed would lose its last rows.
    cluster
        .execute(
            "postgres",
            "alter database lone set synchronous_commit = on",
        )
        .expect("a durable database");
    let env = start("faults_dead", &[("s2", cluster.dsn("lone"))]);
    let mut client = env.client();
    let keys = keys_by_shard(&mut client);
    let mut in_transaction = env.client();
    in_transaction.run("begin");
    in_transaction.run(&format!(
        "update items set v = 'never' where k = {}",
        keys[2]
    ));
    let mut elsewhere = env.client();
    elsewhere.run("begin");
    elsewhere.run(&format!("update items set v = v where k = {}", keys[0]));

    cluster.kill9().expect("kill the shard");

    let started = Instant::now();
    for turn in 0..20 {
        for healthy in [keys[0], keys[1]] {
            assert_eq!(
                client.one(&format!("select v from items where k = {healthy}")),
                format!("v{healthy}"),
                "turn {turn}"
            );
        }
        client.run("select count(*) from user_settings");
        client.run("select count(*) from names");
        let messages = client.simple(&format!("select v from items where k = {}", keys[2]));
        let error = error_of(&messages).expect("the dead shard");
        assert!(
            ["08006", "57P03", "57P01", "57P02"].contains(&error.sqlstate().as_str()),
            "{error:?}"
        );
        if turn > 4 {
            let whole = format!("{error:?}");
            assert!(whole.contains("s2"), "the error names the shard: {whole}");
        }
        let messages = client.simple("select count(*) from items");
        assert!(error_of(&messages).is_some(), "a scatter needs every shard");
        assert_eq!(client.status, b'I');
    }
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "refused connections are told at once, not after {:?}",
        started.elapsed()
    );
    // The transaction on the dead shard is lost, the other goes on.
    let messages = in_transaction.simple(&format!("select v from items where k = {}", keys[2]));
    assert!(error_of(&messages).is_some());
    in_transaction.simple("rollback");
    assert_eq!(in_transaction.status, b'I');
    assert_eq!(
        in_transaction.one(&format!("select v from items where k = {}", keys[0])),
        format!("v{}", keys[0])
    );
    elsewhere.run("commit");
    // New clients get in while a shard is down.
    let mut late = env.client();
    assert_eq!(
        late.one(&format!("select v from items where k = {}", keys[1])),
        format!("v{}", keys[1])
    );
    assert_eq!(
        http_get(env.router.http, "/healthz").expect("healthz").0,
        200
    );

    cluster.start_again().expect("start the shard");
    eventually("the shard is used again", || {
        let messages = client.simple(&format!("select v from items where k = {}", keys[2]));
        (rows_of(&messages) == [[format!("v{}", keys[2])]]).then_some(())
    });
    assert_eq!(client.one("select count(*) from items"), ROWS.to_string());
}

#[test]
fn a_server_connection_that_is_killed_is_replaced() {
    let env = start("faults_killed", &[]);
    let mut client = env.client();
    client.run("select count(*) from items");
    for shard in ["s0", "s1", "s2"] {
        let database = format!("faults_killed_{shard}");
        crate::harness::cluster()
            .execute("postgres", &format!("select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = '{database}'"))
            .expect("terminate");
    }
    // An idle server's death is no client's matter.
    for k in 1..=20 {
        assert_eq!(
            client.one(&format!("select v from items where k = {k}")),
            format!("v{k}")
        );
    }
    // In the middle of a transaction the client is told, and its transaction is over.
    client.run("begin");
    let pid = client.one("select pg_backend_pid() from items where k = 3");
    crate::harness::cluster()
        .execute("postgres", &format!("select pg_terminate_backend({pid})"))
        .expect("terminate");
    let messages = client.simple("select v from items where k = 3");
    let error = error_of(&messages).expect("the server is gone").sqlstate();
    assert!(["57P01", "08006"].contains(&error.as_str()), "{error}");
    client.simple("rollback");
    assert_eq!(client.one("select v from items where k = 3"), "v3");
    // A prepared statement survives its server.
    client.exchange(&[parse("p", "select v from items where k = $1", &[]), sync()].concat());
    let run = |k: i32| {
        [
            bind("", "p", &[Value::text(&k.to_string())], 0),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    assert_eq!(rows_of(&client.exchange(&run(3))), [["v3"]]);
    let pid = client.one("select pg_backend_pid() from items where k = 3");
    crate::harness::cluster()
        .execute("postgres", &format!("select pg_terminate_backend({pid})"))
        .expect("terminate");
    eventually("the statement works again", || {
        (rows_of(&client.exchange(&run(3))) == [["v3"]]).then_some(())
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_frees_its_servers() {
    let env = start("faults_leave", &[]);
    // More leavers than the pool has servers, in every posture.
    let postures: [&dyn Fn(&mut Client); 7] = [
        &|c| {
            c.send(&query("select pg_sleep(300) from items where k = 3"))
                .expect("send")
        },
        &|c| {
            c.send(&query("select pg_sleep(300), * from items"))
                .expect("send")
        },
        &|c| {
            c.run("begin");
            c.run("update items set v = 'left' where k = 3");
        },
        &|c| {
            c.send(&query(
                "select repeat('x', 1000), g from items, generate_series(1, 200000) g where k = 3",
            ))
            .expect("send")
        },
        &|c| {
            c.send(&query(
                "select k, g from items, generate_series(1, 20000) g order by k, g",
            ))
            .expect("send")
        },
        &|c| {
            c.send(&parse("", "select v from items where k = 3", &[]))
                .expect("send")
        },
        &|c| {
            c.send(&query(
                "copy (select g from items, generate_series(1, 1000000) g where k = 3) to stdout",
            ))
            .expect("send")
        },
    ];
    for turn in 0..3 {
        for (index, posture) in postures.iter().enumerate() {
            for farewell in [false, true] {
                let mut client = env.client();
                posture(&mut client);
                if farewell {
                    let _ = client.send(&terminate());
                }
                drop(client);
            }
            let mut other = env.client();
            let rows = eventually("a server is free", || {
                let rows = rows_of(&other.simple("select v from items where k = 3"));
                (!rows.is_empty()).then_some(rows)
            });
            assert_eq!(rows, [["v3"]], "turn {turn}, posture {index}");
        }
    }
    env.wait_idle();
    for shard in ["s0", "s1", "s2"] {
        // Those whose client has left are closed, which takes the server a moment.
        eventually("the pool's bound holds", || {
            (env.servers(shard).len() <= 4).then_some(())
        });
    }
}

#[test]
fn cancellation_at_any_moment_leaves_idle_servers_and_right_rows() {
    let env = start("faults_cancel", &[]);
    let watched = Mutex::new(env.client());
    let texts = [
        "select v from items where k = 7",
        "select v from items order by k",
        "select count(*) from items, generate_series(1, 3000)",
        "begin; update items set v = v where k = 7; commit",
    ];
    for turn in 0..200_u64 {
        let mut client = watched.lock().unwrap_or_else(PoisonError::into_inner);
        let canceller = client.canceller();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_micros(turn * 25));
                canceller.cancel();
            });
            let messages = client.simple(texts[(turn % 4) as usize]);
            if let Some(error) = error_of(&messages) {
                assert_eq!(error.sqlstate(), "57014", "turn {turn}: {error:?}");
            }
        });
        if client.status != b'I' {
            client.simple("rollback");
        }
        // The cancel has been delivered: it hits nothing that comes now, of this client or another.
        assert_eq!(
            client.one("select v from items where k = 8"),
            "v8",
            "turn {turn}: a later query is cancelled"
        );
        let mut other = env.client();
        assert_eq!(
            other.one("select v from items where k = 9"),
            "v9",
            "turn {turn}: another client's query is cancelled"
        );
        other.bye();
        drop(client);
    }
    env.wait_idle();
    let mut client = env.client();
    for k in 1..=ROWS {
        assert_eq!(
            client.one(&format!("select v from items where k = {k}")),
            format!("v{k}")
        );
    }
}

#[test]
fn many_cancels_at_once() {
    let env = start("faults_cancels", &[]);
    let mut clients: Vec<Client> = (0..12).map(|_| env.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client
            .send(&query(&format!(
                "select pg_sleep(300) from items where k = {}",
                n + 1
            )))
            .expect("send");
    }
    let cancellers: Vec<_> = clients.iter().map(Client::canceller).collect();
    let (count, ended) = (clients.len(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for mut client in clients {
            let ended = &ended;
            scope.spawn(move || {
                let messages = client.until_ready().expect("an answer");
                let error = error_of(&messages).expect("an error").sqlstate();
                assert!(["57014", "53300"].contains(&error.as_str()), "{error}");
                ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        eventually("all are canceled", || {
            for canceller in &cancellers {
                canceller.cancel();
            }
            (ended.load(Ordering::SeqCst) == count).then_some(())
        });
    });
    env.wait_idle();
}

#[test]
fn a_slow_reader_does_not_grow_the_router() {
    let env = start("faults_slow", &[]);
    let before = env.router.resident_kib();
    let mut slow: Vec<Client> = (0..4).map(|_| env.client()).collect();
    for client in &mut slow {
        client.send(&query("select repeat('x', 1000), g from items, generate_series(1, 100000) g order by k, g")).expect("send");
    }
    thread::sleep(Duration::from_millis(1500));
    let growth = env.router.resident_kib().saturating_sub(before);
    assert!(
        growth < 64 * 1024,
        "{growth} KiB for replies that nobody reads: back pressure is missing"
    );
    drop(slow);
    env.wait_idle();
}

#[test]
fn many_statements_time_out_on_their_own() {
    let env = start("faults_timeout", &[]);
    let mut client = env.client();
    client.run("set statement_timeout = '100ms'");
    for _ in 0..10 {
        assert_eq!(
            client.error("select pg_sleep(5) from items where k = 3"),
            "57014"
        );
        let everywhere = "select count(*) from items where k < (select count(*) from generate_series(1, 1000000000))";
        assert_eq!(client.error(everywhere), "57014");
    }
    client.run("reset statement_timeout");
    assert_eq!(client.one("select v from items where k = 3"), "v3");
    env.wait_idle();
}

#[test]
fn a_stop_lets_queries_finish_and_a_second_signal_does_not() {
    let draining = |env: &Env| {
        eventually("the router drains", || {
            env.router.log().contains("draining").then_some(())
        });
    };
    let mut env = start("faults_stop", &[]);
    let mut owners = ["s0", "s1", "s2"].map(|shard| env.direct(shard));
    for owner in &mut owners {
        owner.run("begin; lock table items");
    }
    let mut busy = env.client();
    busy.send(&query("select v, 'waits' from items where k = 3"))
        .expect("send");
    // The query has reached its server before the router is told to stop, and ends when it has heard of it.
    env.wait_running(&["s0", "s1", "s2"], "waits");
    env.router.signal("TERM");
    draining(&env);
    assert!(env.router.is_alive(), "it waits for the query");
    for owner in owners {
        owner.bye();
    }
    let messages = busy.until_ready().expect("the query finishes");
    assert_eq!(rows_of(&messages)[0][0], "v3");
    drop(busy);
    assert_eq!(env.router.wait_exit(), Some(0));

    let mut env = start("faults_stop2", &[]);
    let mut stuck = env.client();
    stuck
        .send(&query("select pg_sleep(300) from items where k = 3"))
        .expect("send");
    env.wait_running(&["s0", "s1", "s2"], "pg_sleep(");
    env.router.signal("TERM");
    // Two signals that nobody has taken yet would be one.
    draining(&env);
    assert!(env.router.is_alive(), "it waits for the query");
    env.router.signal("TERM");
    env.router.wait_exit();
}

#[test]
fn a_router_that_is_starting_hears_signals() {
    let gate = Gate::open();
    gate.shut();
    let dsn = gate.dsn("postgres");
    let mut router = Router::launch(
        &format!(
            "[users.app]\npassword = \"x\"\n[shards.only]\nprimary = \"{dsn}\"\n\
             [databases.app]\nkeyspaces = [\"main\"]\n[keyspaces.main]\nshards = [\"only\"]\n\
             [pool]\nconnect_timeout = \"60s\"\n"
        ),
        &[],
    );
    // It waits for its shard, and has told nobody that it is ready.
    gate.wait_newcomers(1);
    router.signal("HUP");
    router.signal("TERM");
    assert_eq!(router.wait_exit(), Some(0));
}

#[test]
fn a_reload_keeps_clients_and_a_wrong_one_changes_nothing() {
    let env = start("faults_reload", &[]);
    let mut client = env.client();
    client.run("begin");
    client.run("update items set v = v where k = 3");
    env.router.signal("HUP");
    let mut other = env.client();
    assert_eq!(other.one("select v from items where k = 9"), "v9");
    client.run("commit");
    env.router.replace_config("this is = not [ toml");
    env.router.signal("HUP");
    for k in 1..=20 {
        assert_eq!(
            client.one(&format!("select v from items where k = {k}")),
            format!("v{k}")
        );
    }
    // A shard that joins brings no bucket: nothing is misrouted.
    crate::harness::create_database("faults_reload_s3");
    let dsn = crate::harness::cluster().dsn("faults_reload_s3");
    let config = env
        .config()
        .replace(
            "[databases.app]",
            &format!("[shards.s3]\nprimary = \"{dsn}\"\n[databases.app]"),
        )
        .replace(
            "shards = [\"s0\", \"s1\", \"s2\"]",
            "shards = [\"s0\", \"s1\", \"s2\", \"s3\"]",
        );
    env.router.replace_config(&config);
    env.router.signal("HUP");
    for _ in 0..3 {
        for k in 1..=ROWS {
            assert_eq!(
                client.one(&format!("select v from items where k = {k}")),
                format!("v{k}")
            );
        }
    }
}

#[test]
fn ten_routers_started_at_once_agree_on_the_catalog() {
    let env = start("faults_agree", &[]);
    let config = env.config().to_owned();
    let routers: Vec<_> = thread::scope(|scope| {
        let starting: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| crate::harness::Router::start(&config)))
            .collect();
        starting
            .into_iter()
            .map(|one| one.join().expect("a router"))
            .collect()
    });
    for router in &routers {
        let mut target = env.target.clone();
        target.port = router.port;
        let mut client = Client::connect(&target);
        for k in 1..=ROWS {
            assert_eq!(
                client.one(&format!("select v from items where k = {k}")),
                format!("v{k}")
            );
        }
    }
    // Shards in another order are the same shards: the catalog knows them, not the list.
    let reordered = config.replace(
        "shards = [\"s0\", \"s1\", \"s2\"]",
        "shards = [\"s2\", \"s0\", \"s1\"]",
    );
    let router = crate::harness::Router::launch(&reordered, &[]);
    let outcome = eventually("it serves or refuses", || {
        if let Ok((200, _)) = http_get(router.http, "/readyz") {
            return Some(true);
        }
        (!router.is_running()).then_some(false)
    });
    if outcome {
        let mut target = env.target.clone();
        target.port = router.port;
        let mut client = Client::connect(&target);
        for k in 1..=ROWS {
            assert_eq!(
                client.one(&format!("select v from items where k = {k}")),
                format!("v{k}")
            );
        }
    }
}
