//! Arbitrary bytes and mutated conversations into a live router: it answers or closes, it lives, its memory is bounded,
//! and a neighbour's session is not disturbed. `KEYWAY_SEED` repeats a run.

use std::io;

use crate::crowd::{Dice, is_soak, seed};
use crate::harness::{Env, Setup};
use crate::raw::{
    Client, PATIENCE, PROTOCOL_3_0, PROTOCOL_3_2, Value, bind, cancel_request, close, describe,
    execute, flush, message, parse, query, startup, sync,
};

fn start(name: &str) -> Env {
    let env = Setup {
        name,
        pool_size: 4,
        tables: "items = { key = \"k\" }",
        more: "[limits]\nclient_login_timeout = \"20s\"\nmessage_max = \"1MiB\"",
        schema: "create table items (k int primary key, v text);\n",
        ..Setup::default()
    }
    .start();
    let mut client = env.client();
    for k in 1..=10 {
        client.run(&format!("insert into items values ({k}, 'v{k}')"));
    }
    env
}

fn rounds(ordinary: u64) -> u64 {
    if is_soak() { ordinary * 20 } else { ordinary }
}

/// A conversation as drivers have it, one message an element.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        query("select v from items where k = 3"),
        query("select k, v from items order by k limit 3; select 1"),
        parse("s", "select v from items where k = $1", &[23]),
        describe(b'S', "s"),
        bind(
            "",
            "s",
            &[Value {
                format: 1,
                bytes: Some(3_i32.to_be_bytes().to_vec()),
            }],
            1,
        ),
        describe(b'P', ""),
        execute("", 0),
        flush(),
        bind("p", "s", &[Value::text("4")], 0),
        execute("p", 1),
        execute("p", 0),
        close(b'P', "p"),
        close(b'S', "s"),
        sync(),
        parse(
            "",
            "select * from items where k = any ($1) order by k desc",
            &[1007],
        ),
        bind("", "", &[Value::text("{1,2,3}")], 0),
        execute("", 2),
        sync(),
        query("begin"),
        query("select v from items where k = 5 for update"),
        query("savepoint a"),
        query("select 1/0"),
        query("rollback to a"),
        query("copy (select k, v from items where k = 3) to stdout"),
        query("rollback"),
        query("copy user_activities from stdin"),
        message(b'd', b"1\t2\n"),
        message(b'c', b""),
        query("set work_mem = '5MB'"),
        query("show all"),
        message(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        message(b'X', b""),
    ]
}

fn mutate(dice: &mut Dice, messages: &mut Vec<Vec<u8>>) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(messages.len() as u64) as usize;
        let length = messages[at].len() as u64;
        match dice.below(9) {
            0 => {
                let byte = dice.below(length) as usize;
                messages[at][byte] = dice.below(256) as u8;
            }
            1 => {
                let byte = dice.below(length) as usize;
                messages[at].truncate(byte);
                messages[at].push(0);
            }
            2 => {
                let other = dice.below(messages.len() as u64) as usize;
                messages.swap(at, other);
            }
            3 => {
                let copy = messages[at].clone();
                messages.insert(at, copy);
            }
            4 => {
                messages.remove(at);
                if messages.is_empty() {
                    messages.push(sync());
                }
            }
            5 => {
                // Another length.
                let wrong =
                    [0, 3, 4, 5, 100, 70_000, 0x7fff_ffff, 0xffff_ffff][dice.below(8) as usize];
                if messages[at].len() >= 5 {
                    messages[at][1..5].copy_from_slice(&u32::to_be_bytes(wrong));
                }
            }
            6 => {
                let byte = dice.below(length) as usize;
                let noise: Vec<u8> = (0..dice.below(40)).map(|_| dice.below(256) as u8).collect();
                messages[at].splice(byte..byte, noise);
            }
            7 => {
                // The length made right again after noise: the body is wrong, the frame is not.
                let body: Vec<u8> = messages[at]
                    .get(5..)
                    .unwrap_or_default()
                    .iter()
                    .rev()
                    .copied()
                    .collect();
                messages[at] = message(messages[at][0], &body);
            }
            _ => messages[at] = message(b"QPBDECSHFdcfpX"[dice.below(14) as usize], &[0; 3]),
        }
    }
}

/// Sends bytes, ends the stream and reads what comes; a router that says nothing and keeps the socket is hung.
fn send_and_drain(mut client: Client, bytes: &[u8], what: &str) {
    client.patience(PATIENCE);
    let mut refused = false;
    for chunk in bytes.chunks(4_096) {
        refused |= client.send(chunk).is_err();
    }
    if !refused {
        client.half_close();
    }
    loop {
        match client.read_any() {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                panic!("{what}: the router hangs")
            }
            Err(_) => return,
        }
    }
}

fn check(env: &mut Env, neighbour: &mut Client, before_kib: u64, what: &str) {
    assert!(env.router.is_alive(), "{what}: the router is dead");
    assert_eq!(
        neighbour.one("select v from items where k = 7"),
        "v7",
        "{what}"
    );
    let growth = env.router.resident_kib().saturating_sub(before_kib);
    assert!(growth < 128 * 1024, "{what}: {growth} KiB more");
}

#[test]
fn soak_arbitrary_bytes_before_the_login() {
    let mut env = start("fuzz_startup");
    let mut neighbour = env.client();
    let before = env.router.resident_kib();
    let seed = seed();
    let mut dice = Dice::new(seed);
    for round in 0..rounds(300) {
        let mut bytes: Vec<u8> = match dice.below(6) {
            0 => (0..dice.below(2_000))
                .map(|_| dice.below(256) as u8)
                .collect(),
            1 => startup(
                PROTOCOL_3_0,
                &[("user", "app"), ("database", "app"), ("options", "-c a=b")],
            ),
            2 => startup(PROTOCOL_3_2, &[("user", "app"), ("_pq_.x", "y")]),
            3 => cancel_request(dice.below(1 << 20) as u32, &[1, 2, 3, 4]),
            4 => [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat(),
            _ => [
                startup(PROTOCOL_3_0, &[("user", "app")]),
                message(b'p', b"SCRAM-SHA-256\0\0\0\0\x05n,,n="),
            ]
            .concat(),
        };
        for _ in 0..dice.below(4) {
            if !bytes.is_empty() {
                let at = dice.below(bytes.len() as u64) as usize;
                bytes[at] = dice.below(256) as u8;
            }
        }
        let client = Client::open(env.router.port).expect("a socket");
        send_raw(client, &bytes, &format!("seed {seed}, round {round}"));
        if round % 50 == 49 {
            check(
                &mut env,
                &mut neighbour,
                before,
                &format!("seed {seed}, round {round}"),
            );
        }
    }
    check(&mut env, &mut neighbour, before, "after all");
    assert!(
        !env.router.log().contains("panicked"),
        "seed {seed}: a panic"
    );
}

/// Before the login an answer need not be a message (SSLRequest gets one byte), so only the end is awaited.
fn send_raw(mut client: Client, bytes: &[u8], what: &str) {
    client.patience(PATIENCE);
    if client.send(bytes).is_ok() {
        client.half_close();
    }
    loop {
        match client.read_byte() {
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                panic!("{what}: the router hangs")
            }
            Err(_) => return,
        }
    }
}

#[test]
fn soak_mutated_conversations() {
    let mut env = start("fuzz_session");
    let mut neighbour = env.client();
    neighbour.run("create table if not exists user_activities (id int, k int)");
    let before = env.router.resident_kib();
    let seed = seed();
    let mut dice = Dice::new(seed);
    for round in 0..rounds(300) {
        let mut messages = conversation();
        if dice.below(2) == 0 {
            let start = dice.below(messages.len() as u64) as usize;
            messages.rotate_left(start);
        }
        mutate(&mut dice, &mut messages);
        let what = format!("seed {seed}, round {round}");
        send_and_drain(env.client(), &messages.concat(), &what);
        if round % 25 == 24 {
            check(&mut env, &mut neighbour, before, &what);
        }
    }
    env.wait_idle();
    check(&mut env, &mut neighbour, before, "after all");
    assert!(
        !env.router.log().contains("panicked"),
        "seed {seed}: a panic"
    );
}

#[test]
fn soak_arbitrary_sql() {
    let mut env = start("fuzz_sql");
    let mut neighbour = env.client();
    let before = env.router.resident_kib();
    let seed = seed();
    let mut dice = Dice::new(seed);
    let words = [
        "select",
        "from",
        "items",
        "where",
        "k",
        "=",
        "3",
        "'x'",
        "(",
        ")",
        ",",
        "*",
        "and",
        "or",
        "not",
        "in",
        "$1",
        "union",
        "all",
        "with",
        "as",
        "order by",
        "limit",
        "group by",
        "join",
        "on",
        "left",
        "null",
        "::int",
        "case",
        "when",
        "then",
        "end",
        "exists",
        "values",
        "$$",
        "--",
        "/*",
        "*/",
        "\"",
        "E'\\",
        "U&'",
        "1e5",
        "0x",
        ";",
        ".",
        "[",
        "]",
        "any",
        "array",
        "between",
        "like",
        "insert into",
        "update",
        "delete from",
        "set",
        "returning",
        "explain",
        "prepare p as",
        "execute p",
        "declare c cursor for",
        "fetch",
        "copy",
        "to stdout",
        "begin",
        "commit",
        "rollback",
        "savepoint s",
        "/* keyway: key=3 */",
        "/* keyway: shard=s0 */",
        "\u{e9}",
        "\u{1f600}",
        "over",
        "filter",
        "lateral",
        "interval",
        "is",
        "true",
    ];
    let mut client = env.client();
    for round in 0..rounds(2_000) {
        let count = dice.below(25) + 1;
        let sql: Vec<&str> = (0..count)
            .map(|_| words[dice.below(words.len() as u64) as usize])
            .collect();
        let mut sql = sql.join(if dice.below(8) == 0 { "" } else { " " });
        if dice.below(200) == 0 {
            sql = "(".repeat(5_000) + &sql;
        }
        if sql.contains("stdin") {
            continue;
        }
        let what = format!("seed {seed}, round {round}: {sql:.200}");
        let bytes = if dice.below(2) == 0 {
            query(&sql)
        } else {
            [parse("", &sql, &[]), describe(b'S', ""), sync()].concat()
        };
        client.patience(PATIENCE);
        if let Err(error) = client.send(&bytes).and_then(|()| client.until_ready()) {
            assert!(
                !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ),
                "{what}: the router hangs"
            );
            assert!(env.router.is_alive(), "{what}: the router is dead");
            client = env.client();
        }
        if client.status != b'I' {
            client.simple("rollback");
        }
        if round % 200 == 199 {
            // What the noise may have changed is put back: the neighbour looks at one row.
            client.simple(
                "insert into items values (7, 'v7') on conflict (k) do update set v = 'v7'",
            );
            check(&mut env, &mut neighbour, before, &what);
        }
    }
    assert!(
        !env.router.log().contains("panicked"),
        "seed {seed}: a panic"
    );
}
