//! What the keys of `[pool]` promise.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Env, POLL, Setup, direct_target, eventually};
use crate::raw::Client;

/// A router with one row on one shard, which it is about.
fn start(name: &str, workers: u32, pool_size: u32, pool: &str) -> Env {
    let env = Setup {
        name,
        pool_size,
        tables: "items = { key = \"k\" }",
        schema: "create table items (k int primary key);\n",
        top: &format!("workers = {workers}"),
        pool,
        ..Setup::default()
    }
    .start();
    env.client().run("insert into items values (1)");
    env
}

const PID: &str = "select pg_backend_pid() from items where k = 1";

/// Looks at the pool's connections on the row's shard.
struct Watcher {
    client: Client,
    sql: String,
}

impl Watcher {
    fn new(env: &Env, name: &str) -> Self {
        let mut asking = env.client();
        let shard = ["s0", "s1", "s2"].into_iter().find(|shard| {
            let count = format!("/* keyway: shard={shard} */ select count(*) from items");
            asking.one(&count) == "1"
        });
        let sql = format!(
            "select pid from pg_stat_activity where datname = '{name}_{}' \
             and backend_type = 'client backend' and application_name = ''",
            shard.expect("one shard has it")
        );
        let client = Client::connect(&direct_target("postgres"));
        Self { client, sql }
    }

    fn pids(&mut self) -> BTreeSet<String> {
        let rows = self.client.rows(&self.sql);
        rows.into_iter().map(|row| row[0].clone()).collect()
    }
}

#[test]
fn a_minimum_smaller_than_the_number_of_workers_is_kept() {
    let name = "pools_minimum";
    let env = start(name, 4, 8, "minimum = 1\nlifetime = \"1s\"");
    let mut watcher = Watcher::new(&env, name);
    for _ in 0..3 {
        // What is older than its lifetime is closed, and something takes its place.
        let used = env.client().one(PID);
        eventually("an old connection is closed", || {
            (!watcher.pids().contains(&used)).then_some(())
        });
        eventually("one is kept", || (!watcher.pids().is_empty()).then_some(()));
    }
}

#[test]
fn workers_do_not_take_from_each_other_what_is_only_to_be_kept() {
    let name = "pools_kept";
    let env = start(name, 2, 2, "minimum = 2\nlifetime = \"off\"");
    let mut watcher = Watcher::new(&env, name);
    // A client of each worker: one is busy, the other's connection is at rest.
    let (mut busy, mut idle) = (env.client(), env.client());
    busy.run("begin");
    let first = busy.one(PID);
    let second = idle.one(PID);
    assert_ne!(first, second);
    // One that the router has closed is there until its server has noticed.
    let mut at_most_two = || {
        eventually("the pool's size holds", || {
            Some(watcher.pids()).filter(|pids| pids.len() <= 2)
        })
    };
    let mut seen = at_most_two();
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        seen.extend(at_most_two());
        thread::sleep(POLL);
    }
    assert!(seen.len() <= 3, "connections come and go: {seen:?}");
    busy.run("commit");
}

#[test]
fn the_mode_is_that_of_the_configuration_a_session_begins_with() {
    let name = "pools_mode";
    let env = start(name, 1, 1, "checkout_timeout = \"3s\"");
    let mut early = env.client();
    let first = early.one(PID);
    let apply = |config: &str, times: usize| {
        env.router.replace_config(config);
        env.router.signal("HUP");
        eventually("the configuration is read again", || {
            let log = env.router.log();
            let applied = |line: &&str| line.contains(" applied");
            (log.lines().filter(applied).count() == times).then_some(())
        });
    };
    let by_session = env
        .config()
        .replace("[pool]\n", "[pool]\nmode = \"session\"\n");
    apply(&by_session, 1);
    let log = env.router.log();
    assert!(log.contains("the new configuration is applied"), "{log}");
    assert!(!log.contains("only with a restart"), "{log}");
    for _ in 0..2 {
        let mut late = env.client();
        late.run(PID);
        assert_eq!(early.error(PID), "53300", "it is another session's");
        late.run(PID);
        late.bye();
        // What began before gives its server back after each statement.
        eventually("the server is to be had", || {
            let messages = early.simple(PID);
            messages.iter().any(|m| m.tag == b'D').then_some(())
        });
    }
    apply(env.config(), 2);
    let mut last = env.client();
    let pid = last.one(PID);
    assert_eq!(early.one(PID), pid, "a server for all");
    assert_ne!(pid, first, "those of a session are closed with it");
    // What needs a restart is told of until there has been one.
    let larger = env.config().replace("size = 1\n", "size = 3\n");
    apply(&larger, 3);
    apply(&larger, 4);
    let log = env.router.log();
    let told = log
        .lines()
        .filter(|line| line.contains("only with a restart"));
    assert_eq!(told.count(), 2, "{log}");
}
