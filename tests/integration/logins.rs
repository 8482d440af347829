//! Logins that fail: what the log says of them, and what nobody learns from them.

use crate::harness::{Env, PASSWORD, Setup, eventually, http_get};
use crate::raw::{Client, PROTOCOL_3_0, scram_verifier, startup};

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
             [databases.other]\nkeyspaces = [\"settings\"]\n\
             [limits]\nclient_login_timeout = \"4s\""
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
    // Too slow, when it has said who it is.
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
    let log = env.router.log();
    for secret in [PASSWORD, WRONG, &verifier[..]] {
        assert!(!log.contains(secret), "{secret:?} is in the log");
    }
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
