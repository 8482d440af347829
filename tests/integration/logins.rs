//! Logins that fail: what the log says of them, and what nobody learns from them.

use crate::harness::{Env, PASSWORD, Setup, eventually, http_get};
use crate::raw::{Client, PROTOCOL_3_0, message, scram_verifier, startup};

/// What must never be seen.
const WRONG: &str = "a wrong secret";

fn start(name: &str, more: &str) -> Env {
    Setup {
        name,
        top: "workers = 1",
        more,
        ..Setup::default()
    }
    .start()
}

/// Tries to log in; who it was to the router, and what it was told.
fn refused(env: &Env, user: &str, database: &str, password: &str, more: &[(&str, &str)]) -> String {
    let mut client = Client::open(env.router.port).expect("a connection");
    let address = client.socket().local_addr().expect("an address");
    let mut parameters = vec![("user", user), ("database", database)];
    parameters.extend_from_slice(more);
    client
        .send(&startup(PROTOCOL_3_0, &parameters))
        .expect("send");
    let refusal = client.log_in(user, password).expect_err("it is let in");
    assert_ne!(refusal.sqlstate(), "", "{refusal:?}");
    format!("address={address} ")
}

/// The log's only line with this in it.
fn line_with(env: &Env, mark: &str) -> String {
    eventually("the log tells of it", || {
        let log = env.router.log();
        let mut lines = log.lines().filter(|line| line.contains(mark));
        let line = lines.next()?.to_owned();
        assert_eq!(lines.next(), None, "one line for each");
        Some(line)
    })
}

#[test]
fn a_failed_login_is_logged_with_who_where_and_why() {
    let verifier = scram_verifier(PASSWORD);
    let env = start(
        "logins",
        &format!(
            "[users.guest]\npassword = \"{verifier}\"\ndatabases = [\"app\"]\n\
             [databases.other]\nkeyspaces = [\"settings\"]\n"
        ),
    );
    let long = "n".repeat(3_000);
    let odd = "two\nlines \"quoted\" \u{1b}[31m";
    let wrong = [("work_mem", WRONG)];
    let options = [("options", WRONG)];
    for (user, database, password, more, expected) in [
        (
            "app",
            "app",
            WRONG,
            &[][..],
            r#"user="app" database="app" * sqlstate="28P01" reason="the password is wrong""#,
        ),
        (
            "nobody",
            "app",
            WRONG,
            &[],
            r#"user="nobody" database="app" * sqlstate="28P01" reason="there is no such user, or no password that can be checked""#,
        ),
        (
            "app",
            "nothing",
            PASSWORD,
            &[],
            r#"user="app" database="nothing" * sqlstate="3D000" reason="there is no such database""#,
        ),
        (
            "guest",
            "other",
            PASSWORD,
            &[],
            r#"user="guest" database="other" * sqlstate="3D000" reason="the database is not among the user's""#,
        ),
        (
            "app",
            "app",
            PASSWORD,
            &wrong,
            r#"user="app" database="app" * sqlstate="22023" reason="no server accepts the session""#,
        ),
        (
            "app",
            "app",
            PASSWORD,
            &options,
            r#"user="app" database="app" * sqlstate="42601" reason="options that cannot be read""#,
        ),
        (
            odd,
            "app",
            WRONG,
            &[],
            r#"user="two\nlines \"quoted\" \u{1b}[31m" database="app" * sqlstate="28P01" reason="#,
        ),
        (&long, "app", WRONG, &[], r#"nnn" database="app" * "#),
    ] {
        let address = refused(&env, user, database, password, more);
        let line = line_with(&env, &address);
        let (before, after) = expected.split_once("* ").expect("a place for the address");
        let expected = format!("a login failed {before}{address}{after}");
        let is_long = user == long;
        assert!(line.contains(" WARN "), "{line}");
        assert!(
            line.contains(&expected) || is_long && line.contains(before) && line.len() < 400,
            "{line}\nis not {expected}"
        );
    }
    let log = env.router.log();
    for secret in [PASSWORD, WRONG, &verifier[..]] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
}

/// With a router of its own, where nobody else must log in within that time.
#[test]
fn a_login_that_takes_too_long_is_logged_when_it_has_said_who_it_is() {
    let env = start("logins_slow", "[limits]\nclient_login_timeout = \"2s\"");
    let mut slow = Client::open(env.router.port).expect("a connection");
    let address = slow.socket().local_addr().expect("an address");
    let hello = startup(PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
    slow.send(&hello).expect("send");
    let said = slow.until_closed();
    assert!(said.iter().all(|m| m.tag == b'R'), "{said:?}");
    let line = line_with(&env, &format!("address={address} "));
    assert!(
        line.contains("not done within limits.client_login_timeout"),
        "{line}"
    );
}

#[test]
fn a_flood_of_failed_logins_does_not_fill_the_log() {
    const TIMES: usize = 120;
    let env = start("logins_flood", "");
    let started = tokio::time::Instant::now();
    for _ in 0..TIMES {
        refused(&env, "nobody", "app", WRONG, &[]);
    }
    let periods = started.elapsed().as_secs() / 10 + 1;
    let log = env.router.log();
    let lines = log.lines().filter(|line| line.contains("a login failed"));
    let lines = lines.count() as u64;
    assert!((10..=10 * periods).contains(&lines), "{lines} lines");
    let (_, page) = http_get(env.router.http, "/metrics").expect("metrics");
    assert!(
        page.contains(&format!("keyway_logins_failed_total {TIMES}")),
        "all are counted: {page}"
    );
}

/// What anybody who gives this name is shown: the salt and the rounds of hashing.
fn challenge(env: &Env, user: &str) -> (String, String) {
    const FIRST: &[u8] = b"n,,n=,r=nonce";
    let mut client = Client::open(env.router.port).expect("a connection");
    let hello = startup(PROTOCOL_3_0, &[("user", user), ("database", "app")]);
    client.send(&hello).expect("send");
    client.read().expect("a choice of mechanisms");
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend((FIRST.len() as u32).to_be_bytes());
    body.extend(FIRST);
    client.send(&message(b'p', &body)).expect("send");
    let said = client.read().expect("a challenge");
    let text = String::from_utf8_lossy(&said.body[4..]).into_owned();
    let part = |name: &str| {
        let found = text.split(',').find_map(|field| field.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .to_owned()
    };
    (part("s="), part("i="))
}

#[test]
fn who_exists_cannot_be_told_from_a_challenge() {
    let env = start(
        "logins_mock",
        &format!("[users.guest]\npassword = \"{}\"", scram_verifier(PASSWORD)),
    );
    let strangers: Vec<String> = (0..40).map(|n| format!("stranger{n}")).collect();
    let names: Vec<&str> = ["app", "guest"]
        .into_iter()
        .chain(strangers.iter().map(String::as_str))
        .collect();
    let all =
        || -> Vec<(String, String)> { names.iter().map(|name| challenge(&env, name)).collect() };
    let first = all();
    // Strangers look like either of the users, and no two have one salt.
    let looks = |(salt, rounds): &(String, String)| (salt.len(), rounds.clone());
    let (app, guest) = (looks(&first[0]), looks(&first[1]));
    assert_ne!(app, guest);
    for (name, shown) in names.iter().zip(&first) {
        assert!([&app, &guest].contains(&&looks(shown)), "{name}: {shown:?}");
    }
    for one in [&app, &guest] {
        let alike = first.iter().filter(|shown| looks(shown) == *one);
        assert!(alike.count() > 5, "{one:?}");
    }
    let salts: std::collections::BTreeSet<&String> = first.iter().map(|(salt, _)| salt).collect();
    assert_eq!(salts.len(), names.len());
    // Nobody's changes, not even when the configuration is read again.
    assert_eq!(all(), first);
    env.router.replace_config(env.config());
    env.router.signal("HUP");
    eventually("the configuration is read again", || {
        let log = env.router.log();
        log.contains("the new configuration is applied")
            .then_some(())
    });
    assert_eq!(all(), first);
    // And those who exist can log in.
    for name in ["app", "guest"] {
        let mut target = env.target.clone();
        target.user = name.to_owned();
        Client::connect(&target).bye();
    }
}
