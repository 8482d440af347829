//! The protocol at the level of bytes: what is malformed, out of order, slow or rare. Every test compares with what
//! PostgreSQL does where it does the same, by running the same bytes on both.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::harness::{Env, Setup, cluster, create_database, direct_target, eventually, http_get};
use crate::raw::{
    self, Client, Message, PROTOCOL_3_0, PROTOCOL_3_2, Value, bind, close, describe, execute,
    flush, message, parse, query, rows_of, startup, sync, tags,
};

const SCHEMA: &str = "create table items (k int primary key, v text);\n\
     create table late (k int primary key deferrable initially deferred);\n\
     create table spread (k int primary key, v text);\n";

fn env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let env = Setup {
            name: "protocol",
            tables: "items = { key = \"k\" }\nlate = { key = \"k\" }\nspread = { key = \"k\" }",
            schema: SCHEMA,
            ..Setup::default()
        }
        .start();
        let mut client = env.client();
        for k in 1..=20 {
            client.run(&format!("insert into items values ({k}, 'v{k}')"));
        }
        env
    })
}

/// The same table on a plain PostgreSQL.
fn plain() -> Client {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        create_database("protocol_plain");
        let mut client = Client::connect(&direct_target("protocol_plain"));
        client.run(SCHEMA);
        client.run("insert into items select i, 'v' || i from generate_series(1, 20) i");
    });
    Client::connect(&direct_target("protocol_plain"))
}

/// What both say to the same bytes, message by message; errors by SQLSTATE and severity, rows as bytes.
fn same(bytes: &[u8], syncs: usize) {
    let answer = |mut client: Client| -> Vec<String> {
        client.send(bytes).expect("send");
        let mut lines = Vec::new();
        for _ in 0..syncs {
            let messages = match client.until_ready() {
                Ok(messages) => messages,
                Err(error) => {
                    lines.push(format!("closed: {:?}", error.kind()));
                    return lines;
                }
            };
            lines.extend(messages.iter().map(shown));
            lines.push(format!("Z {}", char::from(client.status)));
        }
        client.bye();
        lines
    };
    assert_eq!(
        answer(env().client()),
        answer(plain()),
        "keyway (left) and PostgreSQL (right)"
    );
}

/// What both say to the same requests, each answered before the next; errors with their texts.
fn same_turns(requests: &[Vec<u8>]) {
    let answer = |mut client: Client| -> Vec<String> {
        let mut lines = Vec::new();
        for request in requests {
            client.send(request).expect("send");
            let messages = client.until_ready().expect("ReadyForQuery");
            lines.extend(messages.iter().map(|message| match message.tag {
                b'E' => format!(
                    "{}: {} {}",
                    shown(message),
                    message.field(b'M').unwrap_or_default(),
                    message.field(b'D').unwrap_or_default()
                ),
                _ => shown(message),
            }));
            lines.push(format!("Z {}", char::from(client.status)));
        }
        client.bye();
        lines
    };
    let asked: Vec<_> = requests
        .iter()
        .map(|r| String::from_utf8_lossy(r).into_owned())
        .collect();
    assert_eq!(
        answer(env().client()),
        answer(plain()),
        "keyway (left) and PostgreSQL (right): {asked:?}"
    );
}

/// A batch with its Sync.
fn batch(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), sync()].concat()
}

/// A statement prepared and bound to a portal.
fn bound(portal: &str, sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind(portal, "", &[], 0)].concat()
}

fn shown(message: &Message) -> String {
    match message.tag {
        b'E' | b'N' => format!(
            "{} {} {}",
            char::from(message.tag),
            message.field(b'V').unwrap_or_default(),
            message.sqlstate()
        ),
        b'T' => format!("T {:?}", message.columns()),
        _ => format!("{message:?}"),
    }
}

/// The server answers `bytes` on a fresh socket with a FATAL or ERROR of one of `sqlstates`, or only hangs up.
fn refused_at_startup(bytes: &[u8], sqlstates: &[&str]) {
    let mut client = Client::open(env().router.port).expect("a socket");
    let _ = client.send(bytes);
    for message in client.until_closed() {
        assert_eq!(
            message.tag, b'E',
            "only an error before a login: {message:?}"
        );
        let sqlstate = message.sqlstate();
        assert!(
            sqlstates.contains(&sqlstate.as_str()),
            "{sqlstate} is none of {sqlstates:?}: {message:?}"
        );
    }
    still_serves();
}

fn still_serves() {
    let mut client = env().client();
    assert_eq!(client.one("select v from items where k = 3"), "v3");
    client.bye();
}

#[test]
fn garbage_before_startup_is_refused() {
    refused_at_startup(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &["08P01", "0A000"]);
    refused_at_startup(&[0xff; 64], &["08P01", "0A000"]);
    refused_at_startup(&[0; 64], &["08P01", "0A000"]);
    refused_at_startup(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], &["08P01", "0A000"]);
}

#[test]
fn startup_lengths_are_bounded() {
    for length in [
        0_u32,
        3,
        4,
        7,
        // The longest that is read is 10,000 without its own four: of a shorter one the rest would be awaited.
        10_005,
        1 << 20,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
    ] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
        refused_at_startup(&bytes, &["08P01"]);
    }
}

#[test]
fn startup_without_its_terminator_is_refused() {
    let mut bytes = startup(PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
    bytes.pop();
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    refused_at_startup(&bytes, &["08P01"]);
    // A name without a value.
    let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
    body.extend_from_slice(b"user\0app\0database\0\0");
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend(body);
    refused_at_startup(&bytes, &["08P01", "3D000", "28000", "28P01"]);
}

#[test]
fn startup_without_user_or_with_unknown_names_is_refused() {
    refused_at_startup(&startup(PROTOCOL_3_0, &[]), &["28000", "08P01"]);
    refused_at_startup(
        &startup(PROTOCOL_3_0, &[("database", "app")]),
        &["28000", "08P01"],
    );
    refused_at_startup(
        &startup(0x0004_0000, &[("user", "app")]),
        &["0A000", "08P01"],
    );
}

#[test]
fn wrong_password_user_and_database_are_refused_alike_for_users() {
    let target = env().target.clone();
    let refusal = |change: &dyn Fn(&mut raw::Target)| {
        let mut target = target.clone();
        change(&mut target);
        match Client::try_connect(&target, &[]) {
            Ok(_) => panic!("{target:?} is let in"),
            Err(refusal) => refusal.sqlstate(),
        }
    };
    assert_eq!(refusal(&|t| t.password = "wrong".to_owned()), "28P01");
    assert_eq!(refusal(&|t| t.password = String::new()), "28P01");
    assert_eq!(refusal(&|t| t.user = "nobody".to_owned()), "28P01");
    assert_eq!(refusal(&|t| t.database = "nothing".to_owned()), "3D000");
    let log = env().router.log();
    assert!(
        !log.contains(crate::harness::PASSWORD),
        "a password in the log"
    );
}

#[test]
fn another_client_encoding_is_refused_at_startup() {
    let refusal = Client::try_connect(&env().target, &[("client_encoding", "LATIN1")])
        .err()
        .expect("a refusal");
    assert_eq!(refusal.sqlstate(), "0A000");
    for name in ["UTF8", "utf-8", "'utf8'", "UNICODE"] {
        if name.starts_with('\'') {
            continue;
        }
        env().client_with(&[("client_encoding", name)]).bye();
    }
}

#[test]
fn startup_parameters_and_options_take_effect() {
    let mut client = env().client_with(&[
        ("application_name", "the tests"),
        ("DateStyle", "German, DMY"),
        (
            "options",
            "-c statement_timeout=1234 --work-mem=7MB -c app.name=a\\ b",
        ),
    ]);
    assert_eq!(client.one("show application_name"), "the tests");
    assert_eq!(client.one("show datestyle"), "German, DMY");
    assert_eq!(client.one("show statement_timeout"), "1234ms");
    assert_eq!(client.one("show work_mem"), "7MB");
    assert_eq!(client.one("show app.name"), "a b");
    assert_eq!(
        client.one("select current_setting('work_mem') from items where k = 4"),
        "7MB"
    );
    client.run("set work_mem = '8MB'");
    client.run("reset work_mem");
    assert_eq!(
        client.one("show work_mem"),
        "7MB",
        "RESET means the startup value"
    );
    assert_eq!(
        client.parameters.get("DateStyle").map(String::as_str),
        Some("German, DMY")
    );
    client.bye();
    for wrong in [
        ("options", "-c nope_nope=1"),
        ("work_mem", "much"),
        ("no_such_setting", "1"),
    ] {
        assert!(
            Client::try_connect(&env().target, &[wrong]).is_err(),
            "{wrong:?} is refused, as PostgreSQL does"
        );
    }
}

#[test]
fn parameter_status_is_told_and_kept_true() {
    let mut client = env().client();
    for name in [
        "server_version",
        "server_encoding",
        "client_encoding",
        "DateStyle",
        "TimeZone",
        "IntervalStyle",
        "integer_datetimes",
        "standard_conforming_strings",
    ] {
        assert!(
            client.parameters.contains_key(name),
            "{name} is missing: {:?}",
            client.parameters
        );
    }
    client.run("set timezone = 'Asia/Tokyo'");
    assert_eq!(client.parameters["TimeZone"], "Asia/Tokyo");
    client.run("begin; set timezone = 'UTC'; rollback");
    assert_eq!(client.parameters["TimeZone"], "Asia/Tokyo");
    // Another client's setting on the same server connections is not ours.
    let mut other = env().client();
    other.run("select v from items where k = 1");
    let told = other.parameters["TimeZone"].clone();
    assert_eq!(
        other.one("select current_setting('TimeZone') from items where k = 1"),
        told
    );
    assert_ne!(told, "Asia/Tokyo");
}

#[test]
fn ssl_and_gss_requests_are_answered_with_one_byte() {
    let mut client = Client::open(env().router.port).expect("a socket");
    let request = |code: u32| [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
    client.send(&request(80_877_104)).expect("GSSENCRequest");
    assert_eq!(client.read_byte().expect("an answer"), b'N');
    client.send(&request(80_877_103)).expect("SSLRequest");
    assert_eq!(
        client.read_byte().expect("an answer"),
        b'N',
        "TLS is off here"
    );
    client
        .send(&startup(
            PROTOCOL_3_0,
            &[("user", "app"), ("database", "app")],
        ))
        .expect("startup");
    client
        .log_in("app", crate::harness::PASSWORD)
        .expect("a session");
    assert_eq!(client.one("select 1"), "1");
    // Bytes sent before the answer to SSLRequest would be read before the handshake: refused (CVE-2021-23222).
    let mut early = request(80_877_103);
    early.extend(request(80_877_103));
    early.extend(request(80_877_103));
    early.extend(request(80_877_103));
    let mut client = Client::open(env().router.port).expect("a socket");
    client.send(&early).expect("send");
    client.half_close();
    let mut answers = 0;
    let end = loop {
        match client.read_byte() {
            Ok(_) => answers += 1,
            Err(error) => break error,
        }
        assert!(answers < 2_000, "requests are answered without end");
    };
    assert_ne!(end.kind(), io::ErrorKind::WouldBlock, "it stays open");
    still_serves();
}

#[test]
fn protocol_3_2_is_negotiated() {
    let mut client = Client::open(env().router.port).expect("a socket");
    client
        .send(&startup(
            PROTOCOL_3_2,
            &[("user", "app"), ("database", "app")],
        ))
        .expect("startup");
    let negotiated = negotiate(&mut client);
    assert!(
        negotiated.is_none_or(|m| m.body[..4] == PROTOCOL_3_0.to_be_bytes()),
        "only an older version is negotiated"
    );
    client
        .log_in("app", crate::harness::PASSWORD)
        .expect("a session");
    assert!(
        (4..=256).contains(&client.key.len()),
        "a cancel key of {} bytes",
        client.key.len()
    );
    assert_eq!(client.one("select 1"), "1");
    // A version of the future and an option that nobody knows are negotiated down and named.
    let mut client = Client::open(env().router.port).expect("a socket");
    client
        .send(&startup(
            0x0003_270f,
            &[("user", "app"), ("database", "app"), ("_pq_.shiny", "1")],
        ))
        .expect("startup");
    let offer = negotiate(&mut client).expect("NegotiateProtocolVersion");
    assert!(
        offer.body.windows(10).any(|w| w == b"_pq_.shiny"),
        "{offer:?}"
    );
    client
        .log_in("app", crate::harness::PASSWORD)
        .expect("a session");
    assert_eq!(client.one("select 1"), "1");
}

/// The NegotiateProtocolVersion that comes before authentication, if one comes. Puts nothing back: the
/// authentication request that follows is awaited by the login.
fn negotiate(client: &mut Client) -> Option<Message> {
    client.peek(b'v').expect("an answer to the startup message")
}

#[test]
fn a_slow_startup_is_cut_off() {
    // Nobody logs in here: on a machine that is busy, that may take longer.
    let timeout = Duration::from_secs(2);
    let env = Setup {
        name: "protocol_slow",
        more: "[limits]\nclient_login_timeout = \"2s\"",
        ..Setup::default()
    }
    .start();
    let started = tokio::time::Instant::now();
    let mut silent = Client::open(env.router.port).expect("a socket");
    let mut half = Client::open(env.router.port).expect("a socket");
    half.send(&startup(PROTOCOL_3_0, &[("user", "app")])[..9])
        .expect("send");
    let mut no_password = Client::open(env.router.port).expect("a socket");
    no_password
        .send(&startup(
            PROTOCOL_3_0,
            &[("user", "app"), ("database", "app")],
        ))
        .expect("send");
    for client in [&mut silent, &mut half, &mut no_password] {
        let said = client.until_closed();
        assert!(
            said.iter().all(|m| m.tag == b'R' || m.tag == b'E'),
            "{said:?}"
        );
    }
    assert!(
        started.elapsed() >= timeout,
        "it is not cut off before its time"
    );
}

#[test]
fn unknown_messages_and_bad_lengths_end_the_session() {
    let mut cases: Vec<(&str, Vec<u8>)> = vec![
        ("an unknown type", message(b'?', b"abc")),
        ("type zero", message(0, b"")),
        ("a server's type", message(b'T', b"\0\0")),
        ("a password after the login", message(b'p', b"secret\0")),
    ];
    for length in [0_u32, 1, 3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut bytes = vec![b'Q'];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(b"select 1\0");
        cases.push(("a bad length", bytes));
    }
    for (what, bytes) in cases {
        let mut client = env().client();
        client.send(&bytes).expect("send");
        client.half_close();
        let said = client.until_closed();
        for message in &said {
            let code = if message.tag == b'E' {
                message.sqlstate()
            } else {
                String::new()
            };
            assert!(
                message.tag == b'Z' || code == "08P01" || code == "53400" || code == "54000",
                "{what}: {message:?}"
            );
        }
    }
    still_serves();
}

#[test]
fn malformed_bodies_are_protocol_errors() {
    let bodies: &[(&str, u8, &[u8])] = &[
        ("Query without a terminator", b'Q', b"select 1"),
        ("Query with more after it", b'Q', b"select 1\0x"),
        ("Query that is empty", b'Q', b""),
        ("Parse without its end", b'P', b"\0select 1\0\0"),
        (
            "Parse with a count too large",
            b'P',
            b"\0select 1\0\xff\xff",
        ),
        ("Bind without its end", b'B', b"\0\0\0"),
        ("Bind with a count too large", b'B', b"\0\0\xff\xff"),
        (
            "Bind with a value too long",
            b'B',
            b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0",
        ),
        (
            "Bind with a negative length",
            b'B',
            b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        ),
        ("Describe of nothing", b'D', b""),
        ("Describe of an unknown kind", b'D', b"Xname\0"),
        ("Close of an unknown kind", b'C', b"Xname\0"),
        ("Execute without a count", b'E', b"\0"),
        ("Sync with a body", b'S', b"x"),
        ("Flush with a body", b'H', b"x"),
    ];
    for (what, tag, body) in bodies {
        let mut client = env().client();
        client.send(&message(*tag, body)).expect("send");
        client.send(&sync()).expect("send");
        loop {
            match client.read() {
                Ok(m) if m.tag == b'E' => assert!(
                    ["08P01", "26000"].contains(&m.sqlstate().as_str()),
                    "{what}: {m:?}"
                ),
                Ok(m) if m.tag == b'Z' => break,
                Ok(m) => assert!(b"1".contains(&m.tag), "{what}: {m:?}"),
                Err(error) => {
                    assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "{what}: no answer");
                    break;
                }
            }
        }
    }
    still_serves();
}

#[test]
fn invalid_utf8_and_nul_are_refused_as_postgresql_does() {
    same(&query_bytes(b"select '\xff'"), 1);
    same(&query_bytes(b"select '\xc3'"), 1);
    let mut bytes = parse("", "select $1::text", &[]);
    let value = Value {
        format: 0,
        bytes: Some(b"a\0b".to_vec()),
    };
    bytes.extend(bind("", "", &[value], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    same(&bytes, 1);
}

fn query_bytes(sql: &[u8]) -> Vec<u8> {
    let mut body = sql.to_vec();
    body.push(0);
    message(b'Q', &body)
}

#[test]
fn function_call_is_refused() {
    let mut client = env().client();
    let messages = client.exchange(&message(b'F', &[0, 0, 4, 198, 0, 0, 0, 0, 0, 0]));
    assert_eq!(tags(&messages), "E");
    assert_eq!(messages[0].sqlstate(), "0A000");
    assert_eq!(client.one("select 1"), "1");
}

#[test]
fn extended_one_by_one() {
    for sql in [
        "select v from items where k = 3",
        "select k from items order by k",
        "select 1",
        "",
        "insert into items values (3, 'x')",
        "set work_mem = '5MB'",
        "begin",
        "commit",
        "show work_mem",
    ] {
        let mut bytes = parse("", sql, &[]);
        bytes.extend(describe(b'S', ""));
        bytes.extend(bind("", "", &[], 0));
        bytes.extend(describe(b'P', ""));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        same(&bytes, 1);
    }
}

#[test]
fn named_statements_and_portals() {
    let mut bytes = parse("by key", "select v from items where k = $1", &[]);
    bytes.extend(describe(b'S', "by key"));
    for k in ["3", "4", "5"] {
        bytes.extend(bind("portal", "by key", &[Value::text(k)], 0));
        bytes.extend(describe(b'P', "portal"));
        bytes.extend(execute("portal", 0));
        bytes.extend(close(b'P', "portal"));
    }
    bytes.extend(close(b'S', "by key"));
    bytes.extend(close(b'S', "never there"));
    bytes.extend(close(b'P', "never there"));
    bytes.extend(sync());
    // Closed is gone.
    bytes.extend(bind("", "by key", &[Value::text("3")], 0));
    bytes.extend(sync());
    same(&bytes, 2);
}

#[test]
fn a_statement_may_be_described_and_run_in_separate_turns() {
    let mut bytes = parse(
        "s",
        "select k, v from items where k = $1 or k = $2 order by k",
        &[23],
    );
    bytes.extend(sync());
    bytes.extend(describe(b'S', "s"));
    bytes.extend(sync());
    bytes.extend(bind("", "s", &[Value::text("1"), Value::text("2")], 1));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    bytes.extend(bind("", "s", &[Value::text("7"), Value::text("2")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    same(&bytes, 4);
}

#[test]
fn wrong_names_and_counts() {
    let one = |parts: &[Vec<u8>]| {
        let mut bytes = parts.concat();
        bytes.extend(sync());
        same(&bytes, 1);
    };
    one(&[bind("", "nope", &[], 0)]);
    one(&[execute("nope", 0)]);
    one(&[describe(b'S', "nope")]);
    one(&[describe(b'P', "nope")]);
    one(&[parse("s", "select 1", &[]), parse("s", "select 2", &[])]);
    one(&[parse("", "select $1::int", &[]), bind("", "", &[], 0)]);
    one(&[
        parse("", "select 1", &[]),
        bind("", "", &[Value::text("1")], 0),
    ]);
    one(&[
        parse("", "select 1", &[]),
        bind("p", "", &[], 0),
        bind("p", "", &[], 0),
    ]);
    one(&[
        parse("", "select v from items where k = $1", &[]),
        bind("", "", &[Value::text("x")], 0),
        execute("", 0),
    ]);
    one(&[
        parse("", "select v from items where k = $1", &[]),
        bind(
            "",
            "",
            &[Value {
                format: 7,
                bytes: Some(vec![1]),
            }],
            0,
        ),
    ]);
    one(&[
        parse("", "select v from items where k = $2", &[]),
        describe(b'S', ""),
    ]);
    // A type that no shard has: PostgreSQL's XX000 from the shard whose types clients see, a refusal from the others.
    let mut client = env().client();
    let unknown = parse("", "select v from items where k = $1", &[999_999_999]);
    let messages = client.exchange(&[unknown, sync()].concat());
    assert!(["0A000", "XX000"].contains(&messages[0].sqlstate().as_str()));
    one(&[parse("", "select 1; select 2", &[])]);
}

#[test]
fn suspended_portals_continue() {
    for sql in [
        "select k from items order by k",
        "select i from generate_series(1, 10) i",
    ] {
        let mut bytes = parse("", sql, &[]);
        bytes.extend(bind("p", "", &[], 0));
        for rows in [2, 3, 1, 0] {
            bytes.extend(execute("p", rows));
        }
        bytes.extend(execute("p", 5));
        bytes.extend(sync());
        // A portal ends with its transaction.
        bytes.extend(execute("p", 1));
        bytes.extend(sync());
        same(&bytes, 2);
    }
}

#[test]
fn suspended_portals_live_over_syncs_in_a_transaction() {
    let mut bytes = query("begin");
    bytes.extend(parse("", "select k from items order by k", &[]));
    bytes.extend(bind("p", "", &[], 0));
    bytes.extend(execute("p", 4));
    bytes.extend(sync());
    bytes.extend(execute("p", 4));
    bytes.extend(sync());
    bytes.extend(query("select v from items where k = 3"));
    bytes.extend(execute("p", 0));
    bytes.extend(sync());
    bytes.extend(close(b'P', "p"));
    bytes.extend(execute("p", 1));
    bytes.extend(sync());
    bytes.extend(query("rollback"));
    same(&bytes, 7);
}

#[test]
fn a_row_limit_on_one_shard_and_over_all() {
    for sql in [
        "select v from items where k = 3",
        "select k from items where k < 0 order by k",
        "select k from items order by k",
    ] {
        for limit in [1, 19, 20, 21] {
            let mut bytes = parse("", sql, &[]);
            bytes.extend(bind("", "", &[], 1));
            bytes.extend(describe(b'P', ""));
            bytes.extend(execute("", limit));
            bytes.extend(execute("", limit));
            bytes.extend(sync());
            same(&bytes, 1);
        }
    }
}

#[test]
fn pipelines_skip_to_sync_after_an_error() {
    let step = |sql: &str, k: &str| {
        let mut bytes = parse("", sql, &[]);
        bytes.extend(bind("", "", &[Value::text(k)], 0));
        bytes.extend(describe(b'P', ""));
        bytes.extend(execute("", 0));
        bytes
    };
    let select = "select v from items where k = $1";
    let mut bytes = Vec::new();
    bytes.extend(step(select, "1"));
    bytes.extend(step(select, "2"));
    bytes.extend(step("select 1 / (k - 3) from items where k = $1", "3"));
    bytes.extend(step(select, "4"));
    bytes.extend(sync());
    bytes.extend(step(select, "5"));
    bytes.extend(step(select, "not a number"));
    bytes.extend(step(select, "6"));
    bytes.extend(sync());
    bytes.extend(step(select, "7"));
    bytes.extend(sync());
    same(&bytes, 3);
}

#[test]
fn a_pipeline_is_one_transaction() {
    let step = |sql: &str| [parse("", sql, &[]), bind("", "", &[], 0), execute("", 0)].concat();
    let mut bytes = step("insert into items values (1001, 'x')");
    bytes.extend(step("select v from items where k = 1001"));
    bytes.extend(step("select 1 / 0"));
    bytes.extend(sync());
    bytes.extend(query("select count(*) from items where k = 1001"));
    bytes.extend(step("insert into items values (1002, 'y')"));
    bytes.extend(step("delete from items where k = 1002 returning v"));
    bytes.extend(sync());
    same(&bytes, 3);
}

#[test]
fn a_pipeline_that_writes_on_two_shards_is_all_or_nothing() {
    // A table of its own: other tests count the rows of `items`.
    let step = |k: i32| {
        let sql = format!("insert into spread values ({k}, 'two')");
        [parse("", &sql, &[]), bind("", "", &[], 0), execute("", 0)].concat()
    };
    let mut client = env().client();
    let mut bytes: Vec<u8> = (2001..2021).flat_map(step).collect();
    bytes.extend(sync());
    let messages = client.exchange(&bytes);
    let errors: Vec<String> = messages
        .iter()
        .filter(|m| m.tag == b'E')
        .map(Message::sqlstate)
        .collect();
    let stored = client.one("select count(*) from spread");
    if errors.is_empty() {
        assert_eq!(stored, "20");
    } else {
        assert_eq!(errors, ["0A000"]);
        assert_eq!(stored, "0", "refused as a whole");
    }
}

#[test]
fn a_long_pipeline_keeps_its_order() {
    let mut client = env().client();
    let mut bytes = parse("get", "select k, v from items where k = $1", &[23]);
    for turn in 0..500 {
        bytes.extend(bind(
            "",
            "get",
            &[Value::text(&(turn % 20 + 1).to_string())],
            0,
        ));
        bytes.extend(execute("", 0));
        if turn % 7 == 0 {
            bytes.extend(sync());
        }
    }
    bytes.extend(sync());
    client.send(&bytes).expect("send");
    let mut rows = Vec::new();
    while rows.len() < 500 {
        let message = client.read().expect("an answer");
        assert_ne!(message.tag, b'E', "{message:?}");
        if message.tag == b'D' {
            rows.push(rows_of(&[message])[0][0].clone());
        }
    }
    let expected: Vec<String> = (0..500).map(|turn| (turn % 20 + 1).to_string()).collect();
    assert_eq!(rows, expected);
}

#[test]
fn flush_brings_what_is_ready() {
    let mut client = env().client();
    client
        .send(
            &[
                parse("", "select v from items where k = 3", &[]),
                describe(b'S', ""),
                flush(),
            ]
            .concat(),
        )
        .expect("send");
    assert_eq!(client.read().expect("ParseComplete").tag, b'1');
    assert_eq!(client.read().expect("ParameterDescription").tag, b't');
    assert_eq!(client.read().expect("RowDescription").tag, b'T');
    client
        .send(&[bind("", "", &[], 0), execute("", 0), flush()].concat())
        .expect("send");
    assert_eq!(client.read().expect("BindComplete").tag, b'2');
    assert_eq!(client.read().expect("DataRow").tag, b'D');
    assert_eq!(client.read().expect("CommandComplete").tag, b'C');
    client.send(&sync()).expect("send");
    assert_eq!(client.read().expect("ReadyForQuery").tag, b'Z');
    // An error after Flush comes at once, the rest is skipped up to Sync.
    client
        .send(&[parse("", "selec", &[]), flush()].concat())
        .expect("send");
    assert_eq!(client.read().expect("an error").sqlstate(), "42601");
    client
        .send(&[bind("", "", &[], 0), execute("", 0), sync()].concat())
        .expect("send");
    assert_eq!(client.read().expect("ReadyForQuery").tag, b'Z');
}

#[test]
fn simple_query_inside_a_pipeline() {
    let mut bytes = parse("s", "select v from items where k = $1", &[]);
    bytes.extend(bind("", "s", &[Value::text("1")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(query(
        "select v from items where k = 2; select v from items where k = 2",
    ));
    bytes.extend(bind("", "s", &[Value::text("3")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    same(&bytes, 2);
}

#[test]
fn unnamed_statement_is_replaced_and_kept() {
    let mut bytes = parse("", "select v from items where k = 1", &[]);
    bytes.extend(sync());
    bytes.extend(parse("", "select v from items where k = 2", &[]));
    bytes.extend(sync());
    bytes.extend(bind("", "", &[], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    // A simple query drops the unnamed statement.
    bytes.extend(query("select 1"));
    bytes.extend(bind("", "", &[], 0));
    bytes.extend(sync());
    same(&bytes, 5);
}

#[test]
fn discard_and_deallocate_in_the_extended_protocol() {
    let step = |sql: &str| {
        [
            parse("", sql, &[]),
            bind("", "", &[], 0),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let mut bytes = step("discard all");
    bytes.extend(step("deallocate all"));
    bytes.extend(step("unlisten *"));
    bytes.extend(step("reset all"));
    same(&bytes, 4);
    let mut bytes = parse("s", "select 1", &[]);
    bytes.extend(sync());
    bytes.extend(step("deallocate s"));
    bytes.extend(bind("", "s", &[], 0));
    bytes.extend(sync());
    same(&bytes, 3);
}

#[test]
fn sql_and_protocol_statements_share_their_names() {
    let mut bytes = query("prepare s as select v from items where k = $1");
    bytes.extend(parse("s", "select 1", &[]));
    bytes.extend(sync());
    bytes.extend(parse("t", "select v from items where k = 4", &[]));
    bytes.extend(sync());
    bytes.extend(query("execute t"));
    bytes.extend(query("deallocate t"));
    bytes.extend(query("execute t"));
    same(&bytes, 6);
    // What PREPARE made is bound and described as what the driver prepared, on whichever shard a key is.
    let mut bytes = query("prepare p as select v from items where k = $1");
    bytes.extend(query(
        "prepare q (int, text) as select v, $2 from items where k = $1",
    ));
    let mut syncs = 2;
    for k in ["1", "2", "3", "4", "5", "6"] {
        bytes.extend(describe(b'S', "p"));
        bytes.extend(bind("", "p", &[Value::text(k)], 0));
        bytes.extend(describe(b'P', ""));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        bytes.extend(describe(b'S', "q"));
        bytes.extend(bind("", "q", &[Value::text(k), Value::text("x")], 0));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        syncs += 2;
    }
    bytes.extend(query("begin"));
    bytes.extend(bind("", "p", &[Value::text("7")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    bytes.extend(query("commit"));
    bytes.extend(bind("", "p", &[Value::text("no number")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    bytes.extend(bind("", "p", &[Value::text("8")], 0));
    bytes.extend(execute("", 0));
    bytes.extend(sync());
    same(&bytes, syncs + 5);
}

/// The sum of a metric over all lines that carry these labels.
fn metric(name: &str, labels: &[&str]) -> f64 {
    let (status, page) = http_get(env().router.http, "/metrics").expect("metrics");
    assert_eq!(status, 200);
    let lines = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn metrics_count_what_happened() {
    let counts = || {
        [
            metric(
                "keyway_queries_total",
                &["plan=\"single\"", "outcome=\"done\""],
            ),
            metric("keyway_queries_total", &["plan=\"scatter\""]),
            metric("keyway_refusals_total", &["0A000"]),
            metric("keyway_plan_cache_hits_total", &[]),
            metric("keyway_query_seconds_count", &["plan=\"single\""]),
            metric("keyway_checkouts_total", &[]),
            metric("keyway_client_bytes_total", &["in"]),
            metric("keyway_client_bytes_total", &["out"]),
            metric("keyway_server_bytes_total", &["in"]),
            metric("keyway_server_bytes_total", &["out"]),
        ]
    };
    let before = counts();
    let mut client = env().client();
    for _ in 0..5 {
        client.run("select v from items where k = 1");
        client.extended("select v from items where k = $1", &["2"]);
        client.run("select count(*) from items");
        assert_eq!(client.error("select avg(k) from items"), "0A000");
    }
    client.bye();
    let least = [10.0, 5.0, 5.0, 8.0, 10.0, 25.0, 300.0, 300.0, 300.0, 300.0];
    // The last of them may be counted behind its answer.
    eventually(&format!("{least:?} more than {before:?}"), || {
        let after = counts();
        let mut all = after.iter().zip(&before).zip(&least);
        all.all(|((after, before), least)| after - before >= *least)
            .then_some(())
    });
    assert!(metric("keyway_plan_cache_entries", &[]) >= 4.0);
    assert!(metric("keyway_servers", &["idle"]) >= 1.0);
}

#[test]
fn what_stands_behind_an_error_has_never_been() {
    let run = |name: &str| [bind("", name, &[], 0), execute("", 0), sync()].concat();
    let mut bytes = parse("kept", "select v from items where k = 1", &[]);
    bytes.extend(parse("", "select v from items where k = 2", &[]));
    bytes.extend(sync());
    // One shard, several shards, and nothing but parsing: each with an error in the middle.
    for (before, bad, behind) in [
        (
            "select v from items where k = 3",
            "select 1 / 0 from items where k = 3",
            "select v from items where k = 3",
        ),
        (
            "select v from items where k = 3",
            "select 1 / 0 from items where k = 4",
            "select v from items where k = 5",
        ),
        (
            "select v from items where k = 3",
            "selec",
            "select v from items where k = 5",
        ),
        (
            "select count(*) from items",
            "select nothing from items where k = 4",
            "select 1",
        ),
    ] {
        for piece in [
            parse("before", before, &[]),
            bind("", "before", &[], 0),
            execute("", 0),
            parse("bad", bad, &[]),
            bind("", "bad", &[], 0),
            execute("", 0),
            parse("behind", behind, &[]),
            raw::close(b'S', "kept"),
            raw::close(b'S', "before"),
            parse("", "select v from items where k = 6", &[]),
            sync(),
        ] {
            bytes.extend(piece);
        }
        for name in ["kept", "before", "behind", ""] {
            bytes.extend(run(name));
        }
        for name in ["before", "bad", "behind"] {
            bytes.extend(raw::close(b'S', name));
        }
        bytes.extend(parse("", "select v from items where k = 2", &[]));
        bytes.extend(sync());
    }
    // An unnamed statement that does not parse takes the one before it away.
    bytes.extend(parse("", "selec", &[]));
    bytes.extend(sync());
    bytes.extend(run(""));
    same(&bytes, 1 + 4 * 6 + 2);
}

#[test]
fn cancel_ends_the_query_and_not_the_session() {
    let mut client = env().client();
    let canceller = client.canceller();
    for sql in [
        "select pg_sleep(300) from items where k = 3",
        "select count(*) from items where k < (select count(*) from generate_series(1, 1000000000))",
        "select pg_sleep(300)",
    ] {
        client.send(&query(sql)).expect("send");
        // The query may not have reached its server yet: ask until it ends, as every client must.
        let error = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let messages = client.until_ready().expect("an answer");
                messages
                    .into_iter()
                    .find(|m| m.tag == b'E')
                    .expect("an error")
            });
            while !waiting.is_finished() {
                canceller.cancel();
                std::thread::sleep(crate::harness::POLL);
            }
            waiting.join().expect("the answer")
        });
        assert_eq!(error.sqlstate(), "57014", "{sql}");
        // The CancelRequests have been answered, so none hits what comes next.
        let next = client.simple("select v from items where k = 3");
        assert_eq!(tags(&next), "TDC", "the session goes on: {next:?}");
    }
    env().wait_idle();
}

#[test]
fn a_wrong_cancel_key_cancels_nothing() {
    let mut client = env().client();
    let mut wrong = client.key.clone();
    wrong[0] ^= 1;
    client
        .send(&query("select pg_sleep(0.5) from items where k = 3"))
        .expect("send");
    for key in [wrong, Vec::new(), vec![0; 300]] {
        let mut other = Client::open(env().router.port).expect("a socket");
        other
            .send(&raw::cancel_request(client.pid, &key))
            .expect("send");
        let _ = other.until_closed();
    }
    let messages = client.until_ready().expect("an answer");
    assert_eq!(tags(&messages), "TDC", "{messages:?}");
}

#[test]
fn copy_by_bytes() {
    let mut bytes = query("copy (select k, v from items where k = 3) to stdout");
    bytes.extend(query("select 1"));
    same(&bytes, 2);
    // CopyFail, a message that does not belong there, and data that is not awaited.
    let mut bytes = query("copy user_activities from stdin");
    bytes.extend(message(b'f', b"no\0"));
    bytes.extend(query("select 2"));
    let mut client = env().client();
    client.run("create table if not exists user_activities (id int primary key)");
    let first = client.exchange(&bytes);
    assert_eq!(
        first
            .iter()
            .find(|m| m.tag == b'E')
            .map(Message::sqlstate)
            .as_deref(),
        Some("57014"),
        "{first:?}"
    );
    assert_eq!(tags(&client.until_ready().expect("the next answer")), "TDC");
    same(
        &[message(b'd', b"x\n"), message(b'c', b""), query("select 3")].concat(),
        1,
    );
}

#[test]
fn terminate_in_a_transaction_rolls_back() {
    let mut client = env().client();
    client.run("begin");
    client.run("insert into items values (3001, 'gone')");
    client.bye();
    let mut other = env().client();
    other.run("begin");
    // Waits for the end of the other transaction, and does not like its COMMIT.
    other.run("insert into items values (3001, 'not kept either')");
    other.run("rollback");
    assert_eq!(other.one("select count(*) from items where k = 3001"), "0");
}

#[test]
fn a_message_of_a_megabyte_passes() {
    let mut client = env().client();
    let long = "x".repeat(1 << 20);
    assert_eq!(
        client.one(&format!("select length('{long}') from items where k = 3")),
        long.len().to_string()
    );
    let messages = client.extended("select length($1) from items where k = 3", &[&long]);
    assert_eq!(rows_of(&messages), [[long.len().to_string()]]);
    assert_eq!(
        client
            .one("select repeat('y', 3000000) from items where k = 3")
            .len(),
        3_000_000
    );
}

#[test]
fn ten_thousand_prepared_statements_are_bounded() {
    let mut client = env().client();
    let before = env().router.resident_kib();
    for turn in 0..10 {
        let mut bytes = Vec::new();
        for n in 0..1_000 {
            bytes.extend(parse(
                &format!("s{turn}_{n}"),
                &format!("select v from items where k = $1 -- {turn} {n}"),
                &[],
            ));
        }
        bytes.extend(sync());
        let messages = client.exchange(&bytes);
        let complaint = messages.iter().find(|m| m.tag == b'E');
        if let Some(error) = complaint {
            assert_eq!(error.sqlstate(), "53400", "the bound is a configured limit");
            break;
        }
    }
    let growth = env().router.resident_kib().saturating_sub(before);
    assert!(growth < 200 * 1024, "{growth} KiB for 10,000 statements");
    let messages = client.exchange(
        &[
            bind("", "s0_7", &[Value::text("3")], 0),
            execute("", 0),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(rows_of(&messages), [["v3"]]);
    let counts = SHARD_STATEMENTS.map(|shard| {
        env()
            .direct(shard)
            .one("select count(*) from pg_prepared_statements")
    });
    assert_eq!(
        counts,
        ["0", "0", "0"],
        "a fresh server connection has none"
    );
}

const SHARD_STATEMENTS: [&str; 3] = ["s0", "s1", "s2"];

#[test]
fn the_plain_server_agrees_about_itself() {
    // Guards the tests' own client: PostgreSQL's answers to the extended protocol are what the manual says.
    let mut client = plain();
    let messages = client.extended("select v from items where k = $1::int", &["3"]);
    assert_eq!(tags(&messages), "12TDC");
    assert!(cluster().port() > 0);
}

#[test]
fn a_bind_is_answered_in_its_place() {
    let all = parse("all", "select k from items where k > $1 order by k", &[23]);
    let one = parse("one", "select v from items where k = $1", &[23]);
    let bytes = [
        all,
        one,
        bind("x", "all", &[Value::text("17")], 0),
        bind("y", "one", &[Value::text("3")], 0),
        execute("y", 0),
        execute("x", 0),
        sync(),
    ]
    .concat();
    same(&bytes, 1);
}

#[test]
fn a_cursor_over_shards_survives_a_refused_execute() {
    let mut client = env().client();
    client.run("begin");
    client.run("declare c cursor for select k from items order by k");
    client.run("savepoint here");
    let messages = client.exchange(&[execute("c", 1), sync()].concat());
    let error = messages.iter().find(|m| m.tag == b'E').expect("a refusal");
    assert_eq!(error.sqlstate(), "0A000");
    client.run("rollback to here");
    assert_eq!(client.one("fetch 1 from c"), "1");
    client.run("commit");
    client.bye();
}

/// Over several shards, and on one each of two.
const IN_ORDER: &str = "select k, v from items order by k";
const ONE: &str = "select v from items where k = 3";
const OTHER: &str = "select v from items where k = 9";

#[test]
fn rollback_to_takes_back_the_portals_behind_its_savepoint() {
    for sql in [IN_ORDER, ONE] {
        for name in ["", "p"] {
            same_turns(&[
                query("begin"),
                query("savepoint s"),
                query("update items set v = 'undone' where k = 3"),
                batch(&[bound(name, sql), execute(name, 1)]),
                query("rollback to s"),
                batch(&[execute(name, 2)]),
                query("rollback to s"),
                batch(&[bound(name, sql), execute(name, 1)]),
                query("rollback"),
            ]);
        }
        let declare = format!("declare c cursor for {sql}");
        for fetch in [vec![query("fetch 2 c")], vec![]] {
            let turns = [
                vec![query("begin"), query("savepoint s"), query(&declare)],
                fetch,
                vec![
                    query("rollback to s"),
                    query("fetch 2 c"),
                    query("rollback to s"),
                    query(&declare),
                    query("fetch 2 c"),
                    query("rollback"),
                ],
            ];
            same_turns(&turns.concat());
        }
        // What was made in front of it stays, also by RELEASE.
        same_turns(&[
            query("begin"),
            query("savepoint a"),
            query(&declare),
            batch(&[bound("p", sql), execute("p", 1)]),
            query("savepoint b"),
            query("savepoint c"),
            batch(&[bound("q", sql), execute("q", 1)]),
            query("release b"),
            query("savepoint d"),
            query("rollback to d"),
            query("fetch 1 c"),
            batch(&[execute("p", 1), execute("q", 1)]),
            query("rollback to a"),
            query("fetch 1 c"),
            query("rollback to a"),
            batch(&[execute("q", 1)]),
            query("rollback"),
        ]);
    }
    // The name is free for another shard.
    same_turns(&[
        query("begin"),
        query("savepoint s"),
        query(&format!("declare c cursor for {ONE}")),
        query("rollback to s"),
        query(&format!("declare c cursor for {OTHER}")),
        query("fetch 1 c"),
        query("rollback"),
    ]);
}

#[test]
fn a_portal_first_asked_behind_a_savepoint_is_not_read_from_its_start_again() {
    let mut client = env().client();
    client.run("begin");
    client.exchange(&batch(&[bound("p", IN_ORDER)]));
    client.run("savepoint s");
    let messages = client.exchange(&batch(&[execute("p", 1)]));
    assert_eq!(rows_of(&messages), [["1", "v1"]]);
    client.run("rollback to s");
    let messages = client.exchange(&batch(&[execute("p", 1)]));
    assert_eq!(messages[0].sqlstate(), "0A000");
    client.run("rollback");
    client.bye();
}

#[test]
fn a_held_cursor_is_there_if_its_transaction_commits() {
    let declare = |k| {
        query(&format!(
            "declare c cursor with hold for select v from items where k = {k}"
        ))
    };
    same_turns(&[
        query("begin"),
        declare(3),
        query("rollback"),
        query("fetch 1 c"),
        declare(9),
        query("begin"),
        query("savepoint s"),
        query("rollback to s"),
        query("fetch 1 c"),
        query("rollback"),
        declare(9),
        query("close c"),
        declare(3),
        query("close c"),
    ]);
}

/// A statement prepared, bound to a portal, and executed.
fn run(portal: &str, sql: &str) -> Vec<u8> {
    [bound(portal, sql), execute(portal, 0)].concat()
}

fn declare(name: &str, sql: &str) -> String {
    format!("declare {name} cursor for {sql}")
}

#[test]
fn a_cursor_has_its_name_for_itself() {
    let pairs = [
        (ONE, OTHER),
        (IN_ORDER, ONE),
        (ONE, IN_ORDER),
        (IN_ORDER, IN_ORDER),
        ("select 5", "select 6"),
        ("select 5", OTHER),
    ];
    for (first, second) in pairs {
        let (first, second) = (declare("c", first), declare("c", second));
        same_turns(&[
            query("begin"),
            query(&first),
            query("savepoint s"),
            query(&second),
            query("rollback to s"),
            query("fetch 1 c"),
            query("close c"),
            query(&second),
            query("fetch 1 c"),
            query("rollback"),
        ]);
        same_turns(&[query(&format!("{first}; {second}; fetch 1 c"))]);
        same_turns(&[
            query("begin"),
            batch(&[run("", &first), run("", &second)]),
            query("rollback"),
            query("begin"),
            batch(&[
                bound("x", &first),
                bound("y", &second),
                execute("x", 0),
                execute("y", 0),
            ]),
            query("rollback"),
            query("begin"),
            batch(&[
                run("", &first),
                run("", "close c"),
                run("", &second),
                run("", "fetch 1 c"),
            ]),
            query("rollback"),
            // Bound and not executed, it has declared nothing.
            query("begin"),
            batch(&[bound("x", &first)]),
            batch(&[run("c", ONE)]),
            query(&second),
            query("rollback"),
        ]);
    }
    same_turns(&[
        query("begin"),
        batch(&[run("c", ONE)]),
        query(&declare("c", OTHER)),
        query("rollback"),
        batch(&[run("", ONE), run("", &declare("c", OTHER))]),
    ]);
}

#[test]
fn close_frees_the_name_wherever_the_cursor_is() {
    for close_all in [query("close all"), batch(&[run("", "close all")])] {
        for (first, second) in [(ONE, OTHER), (ONE, IN_ORDER), (IN_ORDER, IN_ORDER)] {
            same_turns(&[
                query("begin"),
                query(&declare("c", first)),
                query(&declare("d", second)),
                batch(&[bound("p", second), execute("p", 1)]),
                close_all.clone(),
                query("savepoint s"),
                query("fetch 1 c"),
                query("rollback to s"),
                query("fetch 1 d"),
                query("rollback to s"),
                batch(&[execute("p", 1)]),
                query("rollback to s"),
                query(&declare("c", second)),
                query("fetch 1 c"),
                batch(&[run("d", first)]),
                query("rollback"),
            ]);
        }
        same_turns(&[
            query(&format!("declare c cursor with hold for {ONE}")),
            query(&format!("declare d cursor with hold for {OTHER}")),
            close_all.clone(),
            query("fetch 1 c"),
            query("fetch 1 d"),
            close_all.clone(),
        ]);
    }
    for sql in [ONE, IN_ORDER] {
        same_turns(&[
            query("begin"),
            batch(&[bound("p", sql), execute("p", 1)]),
            batch(&[run("", "close p"), run("p", OTHER)]),
            query("close p"),
            batch(&[run("p", ONE)]),
            query("rollback"),
        ]);
    }
}

#[test]
fn a_bind_that_fails_takes_no_name() {
    let wrong = |sql: &str| [parse("", sql, &[23]), bind("p", "", &[Value::text("x")], 0)].concat();
    for sql in [
        "select v from items where k = $1",
        "select v from items where k > $1 order by k",
    ] {
        same_turns(&[
            query("begin"),
            query("savepoint s"),
            batch(&[wrong(sql), execute("p", 0)]),
            query("rollback to s"),
            batch(&[run("p", OTHER)]),
            query("rollback"),
            batch(&[wrong(sql), bound("p", ONE), execute("p", 0)]),
            query("begin"),
            batch(&[bound("p", ONE), execute("p", 1)]),
            query("savepoint s"),
            // What an error skips has not been closed.
            batch(&[run("", "select 1 / 0"), close(b'P', "p"), bound("p", OTHER)]),
            query("rollback to s"),
            batch(&[describe(b'P', "p"), execute("p", 1)]),
            query("rollback"),
        ]);
    }
}

#[test]
fn a_portals_messages_mean_the_portal_that_has_its_name_then() {
    same_turns(&[
        batch(&[close(b'P', ""), run("", "begin")]),
        batch(&[close(b'P', "p"), run("p", IN_ORDER)]),
        batch(&[
            close(b'P', "p"),
            run("p", "savepoint s"),
            close(b'P', "p"),
            run("p", ONE),
        ]),
        batch(&[
            bound("", "savepoint b"),
            describe(b'P', ""),
            bound("", IN_ORDER),
            execute("", 0),
        ]),
        batch(&[
            bound("", IN_ORDER),
            describe(b'P', ""),
            bound("", "savepoint c"),
            describe(b'P', ""),
            bound("", ONE),
            describe(b'P', ""),
            execute("", 0),
        ]),
        batch(&[
            close(b'P', "p"),
            bound("p", IN_ORDER),
            execute("p", 2),
            close(b'P', "p"),
            bound("p", OTHER),
            describe(b'P', "p"),
            close(b'P', "p"),
            bound("p", "savepoint d"),
            execute("p", 0),
        ]),
        query("rollback"),
        batch(&[
            close(b'P', "x"),
            run("x", ONE),
            run("", "set work_mem = '5MB'"),
            close(b'P', "x"),
            run("x", OTHER),
        ]),
    ]);
}

#[test]
fn a_portal_that_has_run_answers_as_postgresqls() {
    let again = |sql: &str| {
        same_turns(&[
            query("begin"),
            batch(&[
                bound("p", sql),
                execute("p", 0),
                describe(b'P', "p"),
                execute("p", 0),
            ]),
            query("rollback"),
            batch(&[bound("", sql), execute("", 0), execute("", 5)]),
            query("rollback"),
        ]);
    };
    for sql in [
        "",
        "begin",
        "savepoint s",
        "set work_mem = '5MB'",
        "discard plans",
        "deallocate all",
        "close all",
        IN_ORDER,
        ONE,
        "select count(*) from items",
        "alter table late add zz int",
    ] {
        again(sql);
    }
    same_turns(&[
        query("begin"),
        query(&declare("c", IN_ORDER)),
        batch(&[bound("p", "fetch 2 c"), execute("p", 0), execute("p", 0)]),
        batch(&[bound("m", "move 2 c"), execute("m", 0), execute("m", 0)]),
        query("rollback"),
        query("begin"),
        batch(&[
            bound("p", IN_ORDER),
            execute("p", 19),
            execute("p", 2),
            execute("p", 1),
            describe(b'P', "p"),
        ]),
        query("rollback"),
    ]);
}

#[test]
fn binds_are_checked_in_postgresqls_order() {
    let two = || bind("", "", &[Value::text("1"), Value::text("2")], 0);
    for sql in [
        "begin",
        "set work_mem = '5MB'",
        "",
        "rollback",
        "discard plans",
        ONE,
        IN_ORDER,
    ] {
        same_turns(&[
            batch(&[parse("", sql, &[]), two(), execute("", 0)]),
            batch(&[
                parse("named", sql, &[]),
                bind("", "named", &[Value::text("1")], 0),
            ]),
            batch(&[
                parse("", sql, &[23, 23]),
                describe(b'S', ""),
                bind("", "", &[], 0),
            ]),
            query("rollback"),
            query("begin"),
            query("select 1 / 0"),
            batch(&[parse("", sql, &[]), two(), execute("", 0)]),
            batch(&[parse("", sql, &[23, 23]), two(), execute("", 0)]),
            query("rollback"),
        ]);
    }
    for sql in ["begin", "set work_mem = '5MB'"] {
        same_turns(&[
            batch(&[parse("", sql, &[0])]),
            batch(&[parse("", sql, &[705])]),
        ]);
    }
    same_turns(&[
        batch(&[parse("s", "select v from items where k = $1", &[])]),
        batch(&[bind("", "s", &[], 0), execute("", 0)]),
        query("prepare p as select $1::int"),
        query("execute p(1, 2)"),
        query("execute p"),
        query("execute p(1)"),
    ]);
}

#[test]
fn a_failed_block_is_told_of_syntax_errors_first() {
    let wrong = [
        "selec",
        "set x",
        "select 1 from",
        "begin work now",
        "fetch from",
        "",
    ];
    for sql in wrong
        .into_iter()
        .chain([ONE, IN_ORDER, "set work_mem = '5MB'"])
    {
        for began in ["begin; select v from items where k = 3", "begin"] {
            same_turns(&[
                query(began),
                query("select 1 / 0"),
                query(sql),
                batch(&[parse("", sql, &[])]),
                batch(&[parse("there", ONE, &[])]),
                query("rollback"),
            ]);
        }
    }
    same_turns(&[
        batch(&[parse("s", ONE, &[])]),
        batch(&[parse("s", "selec", &[])]),
        batch(&[parse("s", "select nothing from items where k = 3", &[])]),
        batch(&[parse("s", OTHER, &[])]),
        batch(&[run("", ONE), parse("s", "select 1", &[]), run("", ONE)]),
        batch(&[bind("", "s", &[], 0), execute("", 0)]),
        query("begin"),
        query("select 1 / 0"),
        batch(&[parse("s", ONE, &[])]),
        query("rollback"),
    ]);
}

#[test]
fn what_cursors_over_shards_cannot_do_is_refused() {
    let mut client = env().client();
    assert_eq!(
        client.error(&format!("declare c cursor with hold for {IN_ORDER}")),
        "0A000"
    );
    client.run("begin");
    client.exchange(&batch(&[bound("p", IN_ORDER), execute("p", 1)]));
    client.run("savepoint s");
    assert_eq!(client.error("fetch 1 p"), "0A000");
    client.run("rollback to s");
    let messages = client.exchange(&batch(&[execute("p", 1)]));
    assert_eq!(rows_of(&messages), [["2", "v2"]]);
    client.run("rollback");
    client.bye();
}

#[test]
fn a_commit_that_fails_leaves_its_statement_uncompleted() {
    for sql in [
        "select count(*) from items; insert into late values (3), (3)",
        "select count(*) from items; insert into late values (3), (3); select count(*) from items",
        "insert into late values (3), (3); set work_mem = '5MB'",
        "set work_mem = '5MB'; insert into late values (3), (3); select v from items where k = 3",
        "prepare dup as insert into late values (3), (3); execute dup",
        "select count(*) from items; insert into late values (3), (3); commit",
        "select count(*) from items; insert into late values (3); rollback",
        "select count(*) from items; select v from items where k = 3",
        "select count(*) from items; begin",
    ] {
        same_turns(&[query(sql), query("rollback"), query("show work_mem")]);
    }
}
