//! Changes that do not pass the router are seen: the shards tell of them, and what is kept of the rows is void.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use keyway::demo::cluster::{Auth, Cluster, ClusterOptions};
use tokio::time::Instant;

use crate::harness::{PASSWORD, Router, cluster, create_database, eventually, http_get};
use crate::raw::{Client, Target, query, rows_of};
use crate::tls::certificate;

/// Everything that is awaited comes long before the hour that answers are kept for.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

/// A table for each test, so that none voids what another has kept.
const SCHEMA: &str = "
create table users (id int primary key, name text);
create table quiet (id int primary key, name text);
create table first (id int primary key, name text);
create table second (id int primary key, name text);
create table emptied (id int primary key, name text);
create table parted (id int, day date, name text, primary key (id, day)) partition by range (day);
create table parted_2024 partition of parted for values from ('2024-01-01') to ('2025-01-01');
create table parted_2025 partition of parted for values from ('2025-01-01') to ('2026-01-01');
";

const TABLES: [&str; 6] = ["users", "quiet", "first", "second", "emptied", "parted"];

const SETTINGS: [(&str, &str); 4] = [
    ("timezone", "UTC"),
    ("wal_level", "logical"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
];

/// A cluster whose servers can tell.
fn telling_cluster() -> Cluster {
    let options = ClusterOptions {
        max_connections: 200,
        settings: &SETTINGS,
        ..ClusterOptions::default()
    };
    Cluster::start(&options).unwrap_or_else(|error| panic!("start PostgreSQL: {error}"))
}

fn target(cluster: &Cluster, database: &str) -> Target {
    Target {
        port: cluster.port(),
        user: "postgres".to_owned(),
        database: database.to_owned(),
        password: cluster.password().unwrap_or_default().to_owned(),
    }
}

/// A router over some databases of one cluster.
struct Followed {
    router: Router,
    shards: Vec<Target>,
    config: String,
}

impl Followed {
    /// The databases are there and have [`SCHEMA`]'s tables.
    fn start(shards: &[(Target, String)]) -> Self {
        let mut text = format!("workers = 2\n[users.app]\npassword = \"{PASSWORD}\"\n");
        let mut names = Vec::new();
        for (index, (_, dsn)) in shards.iter().enumerate() {
            text.push_str(&format!("[shards.s{index}]\nprimary = \"{dsn}\"\n"));
            names.push(format!("\"s{index}\""));
        }
        text.push_str(&format!(
            "[databases.app]\nkeyspaces = [\"main\"]\n[keyspaces.main]\nshards = [{}]\n[keyspaces.main.tables]\n",
            names.join(", ")
        ));
        for table in TABLES {
            text.push_str(&format!("{table} = {{ key = \"id\" }}\n"));
        }
        text.push_str("[cache]\nenabled = true\nfollow = true\nttl = \"1h\"\n");
        Self {
            router: Router::start(&text),
            shards: shards.iter().map(|(target, _)| target.clone()).collect(),
            config: text,
        }
    }

    /// Two shards of a cluster that can tell.
    fn two(cluster: &Cluster, name: &str) -> Self {
        let shards = [0, 1].map(|index| {
            let database = format!("{name}_{index}");
            cluster.create_database(&database).expect("a database");
            let target = target(cluster, &database);
            Client::connect(&target).run(SCHEMA);
            (target, cluster.dsn(&database))
        });
        Self::start(&shards)
    }

    fn client(&self) -> Client {
        Client::connect(&Target {
            port: self.router.port,
            user: "app".to_owned(),
            database: "app".to_owned(),
            password: PASSWORD.to_owned(),
        })
    }

    /// Behind the router's back, wherever the rows are.
    fn behind(&self, sql: &str) {
        for shard in &self.shards {
            Client::connect(shard).run(sql);
        }
    }

    /// By shard.
    fn numbers(&self, name: &str) -> BTreeMap<String, u64> {
        let (_, text) = http_get(self.router.http, "/metrics").expect("metrics");
        let name = format!("keyway_cache_follow_{name}{{shard=\"");
        let lines = text.lines().filter_map(|line| {
            let (shard, value) = line.strip_prefix(&name)?.split_once("\"} ")?;
            Some((shard.to_owned(), value.parse().ok()?))
        });
        lines.collect()
    }

    fn wait_in_step(&self) {
        eventually("every shard is in step", || {
            let in_step = self.numbers("in_step");
            (in_step.len() == self.shards.len() && in_step.values().all(|is| *is == 1))
                .then_some(())
        });
    }

    /// Whatever has been committed until now has been told, and taken in.
    fn wait_heard(&self) {
        let mut asking = Client::connect(&self.shards[0]);
        let end = asking.one("select pg_current_wal_insert_lsn()");
        let heard =
            format!("select count(*) from pg_stat_replication where write_lsn >= '{end}'::pg_lsn");
        let all = self.shards.len().to_string();
        eventually("everything is heard", || {
            (asking.one(&heard) == all).then_some(())
        });
    }

    /// What SHOW keyway.cache says of a shard.
    fn state(&self, shard: &str) -> String {
        let rows = self.client().rows("show keyway.cache");
        let name = format!("follow.{shard}.state");
        let row = rows.into_iter().find(|row| row[0] == name);
        row.unwrap_or_else(|| panic!("{name} is not shown"))[1].clone()
    }

    fn wait_state(&self, shard: &str, words: &str) {
        eventually(words, || self.state(shard).contains(words).then_some(()));
    }
}

fn env() -> &'static Followed {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static ENV: OnceLock<Followed> = OnceLock::new();
    ENV.get_or_init(|| {
        let env = Followed::two(CLUSTER.get_or_init(telling_cluster), "told");
        env.wait_in_step();
        env
    })
}

fn name_in(client: &mut Client, table: &str, id: i32) -> String {
    let rows = client.rows(&format!("select name from {table} where id = {id}"));
    rows.into_iter().flatten().next().unwrap_or_default()
}

/// How often the kept answer of this statement has been given; nothing while none is kept.
fn hits(client: &mut Client, statement: &str) -> Option<u64> {
    let entries = client.rows("show keyway.cache_entries");
    let entry = entries.into_iter().find(|row| row[4].contains(statement))?;
    entry[0].parse().ok()
}

/// Asks until the answer comes from memory.
fn wait_kept(client: &mut Client, table: &str, id: i32) {
    eventually("the answer is kept", || {
        let before = hits(client, &format!("from {table} ")).unwrap_or(0);
        name_in(client, table, id);
        let after = hits(client, &format!("from {table} ")).unwrap_or(0);
        (after > before).then_some(())
    });
}

/// Awaits a value, and that it comes soon.
fn seen(client: &mut Client, table: &str, id: i32, expected: &str) {
    let began = Instant::now();
    eventually(expected, || {
        (name_in(client, table, id) == expected).then_some(())
    });
    assert!(began.elapsed() < SEEN_WITHIN, "{:?}", began.elapsed());
}

#[test]
fn r34_a_row_that_is_changed_on_its_shard_is_seen() {
    let env = env();
    let mut client = env.client();
    for id in 1..=16 {
        client.run(&format!("insert into users values ({id}, 'first')"));
        wait_kept(&mut client, "users", id);
    }
    env.behind("update users set name = 'behind'");
    for id in 1..=16 {
        seen(&mut client, "users", id, "behind");
    }
    // A change may be larger than anything that is read whole.
    env.behind("update users set name = repeat('long', 200000)");
    seen(&mut client, "users", 1, &"long".repeat(200_000));
    env.behind("update users set name = 'behind'");
    seen(&mut client, "users", 1, "behind");
    // What names no key, too.
    let count = "select count(*) from users where name = 'behind'";
    assert_eq!(client.one(count), "16");
    Client::connect(&env.shards[0]).run("delete from users");
    eventually("rows of one shard are gone", || {
        (client.one(count) != "16").then_some(())
    });
    env.behind("delete from users");
    eventually("all are gone", || (client.one(count) == "0").then_some(()));
    assert!(
        env.numbers("changes_total")
            .values()
            .all(|count| *count >= 2)
    );
}

#[test]
fn a_transaction_of_several_tables_is_seen_in_all_of_them() {
    let env = env();
    let mut client = env.client();
    client.run("insert into first values (1, 'first')");
    client.run("insert into second values (1, 'first')");
    wait_kept(&mut client, "first", 1);
    wait_kept(&mut client, "second", 1);
    env.behind(
        "begin; update first set name = 'one'; savepoint a; update second set name = 'two'; commit",
    );
    seen(&mut client, "first", 1, "one");
    seen(&mut client, "second", 1, "two");
    // In two steps, of which the first changes nothing for others.
    wait_kept(&mut client, "first", 1);
    for (number, shard) in env.shards.iter().enumerate() {
        let mut shard = Client::connect(shard);
        shard.run(&format!(
            "begin; update first set name = 'three'; prepare transaction 'told {number}'"
        ));
    }
    assert_eq!(name_in(&mut client, "first", 1), "one");
    for (number, shard) in env.shards.iter().enumerate() {
        Client::connect(shard).run(&format!("commit prepared 'told {number}'"));
    }
    seen(&mut client, "first", 1, "three");
}

#[test]
fn r35_a_table_that_is_emptied_is_seen() {
    let env = env();
    let mut client = env.client();
    client.run("insert into emptied values (1, 'first')");
    wait_kept(&mut client, "emptied", 1);
    env.behind("truncate emptied");
    seen(&mut client, "emptied", 1, "");
}

#[test]
fn a_partition_that_is_written_is_its_parent() {
    let env = env();
    let mut client = env.client();
    client.run("insert into parted values (1, '2024-05-05', 'first')");
    wait_kept(&mut client, "parted", 1);
    env.behind("update parted_2024 set name = 'behind'");
    seen(&mut client, "parted", 1, "behind");
    // By way of the parent, into the other.
    wait_kept(&mut client, "parted", 1);
    env.behind("update parted set name = 'moved', day = '2025-05-05'");
    seen(&mut client, "parted", 1, "moved");
    wait_kept(&mut client, "parted", 1);
    env.behind("truncate parted");
    seen(&mut client, "parted", 1, "");
}

#[test]
fn what_is_rolled_back_voids_nothing() {
    let env = env();
    let mut client = env.client();
    client.run("insert into quiet values (1, 'first')");
    env.wait_heard();
    wait_kept(&mut client, "quiet", 1);
    env.behind("begin; update quiet set name = 'undone'; rollback");
    env.behind("begin; select * from quiet for update; commit");
    let before = hits(&mut client, "from quiet ").expect("kept");
    env.wait_heard();
    assert_eq!(name_in(&mut client, "quiet", 1), "first");
    assert_eq!(hits(&mut client, "from quiet "), Some(before + 1));
}

/// The server is killed, the stream is cut, the router leaves.
#[test]
fn r35_nothing_is_given_while_nobody_hears_of_changes() {
    let mut cluster = telling_cluster();
    // What is killed has what it said it has.
    cluster
        .execute("postgres", "alter system set synchronous_commit = on")
        .and_then(|()| cluster.execute("postgres", "select pg_reload_conf()"))
        .expect("synchronous commits");
    let mut env = Followed::two(&cluster, "killed");
    env.wait_in_step();
    let mut client = env.client();
    for id in [1, 2, 3, 4] {
        client.run(&format!("insert into users values ({id}, 'first')"));
        wait_kept(&mut client, "users", id);
    }
    cluster.kill9().expect("kill the server");
    eventually("out of step", || {
        let in_step = env.numbers("in_step");
        in_step.values().all(|is| *is == 0).then_some(())
    });
    assert_ne!(client.error("select name from users where id = 1"), "");
    cluster.start_again().expect("start the server again");
    env.behind("update users set name = 'meanwhile'");
    // From here on never the value before, in step or not.
    let mut ask = |id: i32| {
        eventually("an answer", || {
            let messages = client.simple(&format!("select name from users where id = {id}"));
            let failed = messages.iter().any(|message| message.tag == b'E');
            (!failed).then(|| rows_of(&messages)[0][0].clone())
        })
    };
    let mut asked = 0;
    while env.numbers("in_step").values().any(|is| *is == 0) || asked < 20 {
        for id in [1, 2, 3, 4] {
            assert_eq!(ask(id), "meanwhile");
        }
        asked += 1;
        assert!(asked < 10_000, "in step again");
    }
    assert!(
        env.numbers("reconnects_total")
            .values()
            .all(|count| *count > 0)
    );
    wait_kept(&mut client, "users", 1);
    env.behind("update users set name = 'second'");
    seen(&mut client, "users", 1, "second");

    // A partition that is made by way of the router is known for what it is.
    let connected = env.numbers("reconnects_total");
    client.run("create table parted_2026 partition of parted for values from ('2026-01-01') to ('2027-01-01')");
    client.run("insert into parted values (1, '2026-05-05', 'first')");
    env.wait_heard();
    wait_kept(&mut client, "parted", 1);
    wait_kept(&mut client, "users", 1);
    let before = hits(&mut client, "from users ").expect("kept");
    env.behind("update parted_2026 set name = 'behind'");
    seen(&mut client, "parted", 1, "behind");
    env.wait_heard();
    assert_eq!(name_in(&mut client, "users", 1), "second");
    assert_eq!(hits(&mut client, "from users "), Some(before + 1));
    assert_eq!(env.numbers("reconnects_total"), connected);

    // The stream is cut.
    let before = env.numbers("reconnects_total");
    let mut postgres = Client::connect(&target(&cluster, "postgres"));
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_replication";
    assert_eq!(postgres.one(cut), "2");
    env.behind("update users set name = 'third'");
    eventually("connected again", || {
        let now = env.numbers("reconnects_total");
        now.iter()
            .all(|(shard, count)| *count > before[shard])
            .then_some(())
    });
    env.wait_in_step();
    assert_eq!(name_in(&mut client, "users", 1), "third");
    wait_kept(&mut client, "users", 1);
    env.behind("update users set name = 'fourth'");
    seen(&mut client, "users", 1, "fourth");

    // The publication is dropped: it is made again.
    let before = env.numbers("reconnects_total");
    Client::connect(&env.shards[0]).run("drop publication keyway_cache");
    eventually("made again", || {
        let is_later = env.numbers("reconnects_total")["s0"] > before["s0"];
        let publication = "select count(*) from pg_publication";
        let is_there = Client::connect(&env.shards[0]).one(publication) == "1";
        (is_later && is_there).then_some(())
    });
    env.wait_in_step();

    // It leaves, and its slots with it.
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(postgres.one(slots), "2");
    env.router.signal("TERM");
    env.router.wait_exit();
    eventually("no slot is left", || {
        (postgres.one(slots) == "0").then_some(())
    });
}

/// A shard's connection string is another one: it is followed from the beginning, by that.
#[test]
fn a_reload_changes_who_is_followed() {
    let cluster = telling_cluster();
    let env = Followed::two(&cluster, "reloaded");
    env.wait_in_step();
    let mut client = env.client();
    for id in 1..=8 {
        client.run(&format!("insert into users values ({id}, 'first')"));
    }
    env.wait_heard();
    let mut postgres = Client::connect(&target(&cluster, "postgres"));
    let mut senders = || postgres.rows("select pid from pg_stat_replication order by 1");
    let before = senders();
    let dsn = cluster.dsn("reloaded_0");
    let config = env.config.replace(&dsn, &format!("{dsn}?sslmode=disable"));
    assert_ne!(config, env.config);
    env.router.replace_config(&config);
    env.router.signal("HUP");
    eventually("one of them is another", || {
        let now = senders();
        let same = now.iter().filter(|pid| before.contains(pid)).count();
        (now.len() == 2 && same == 1).then_some(())
    });
    env.wait_in_step();
    for id in 1..=8 {
        wait_kept(&mut client, "users", id);
    }
    env.behind("update users set name = 'behind'");
    for id in 1..=8 {
        seen(&mut client, "users", id, "behind");
    }
    // What only a start can change is said.
    let off = config.replace("follow = true", "follow = false");
    env.router.replace_config(&off);
    env.router.signal("HUP");
    eventually("it is said", || {
        env.router.log().contains("cache.follow").then_some(())
    });
    env.wait_in_step();
}

#[test]
fn r35_changes_that_arrive_too_late_are_not_waited_for() {
    let cluster = telling_cluster();
    let env = Followed::two(&cluster, "late");
    env.wait_in_step();
    let mut client = env.client();
    client.run("insert into users values (1, 'first')");
    env.wait_heard();
    wait_kept(&mut client, "users", 1);
    let mut postgres = Client::connect(&target(&cluster, "postgres"));
    let signal = |name: &str, pids: &[Vec<String>]| {
        for pid in pids.iter().flatten() {
            let done = std::process::Command::new("/bin/sh")
                .args(["-c", r#"kill -s "$0" "$1""#, name, pid])
                .status();
            assert!(done.is_ok_and(|status| status.success()), "send {name}");
        }
    };
    let senders = postgres.rows("select pid from pg_stat_replication");
    signal("STOP", &senders);
    env.behind("update users set name = 'second'");
    seen(&mut client, "users", 1, "second");
    env.wait_state("s0", "its changes arrive too late");
    assert!(
        env.numbers("lag_milliseconds")
            .values()
            .all(|ms| *ms > 9_000)
    );
    env.behind("update users set name = 'third'");
    assert_eq!(name_in(&mut client, "users", 1), "third");
    signal("CONT", &senders);
    env.wait_in_step();
    assert_eq!(env.numbers("reconnects_total").values().sum::<u64>(), 0);
    wait_kept(&mut client, "users", 1);
    env.behind("update users set name = 'fourth'");
    seen(&mut client, "users", 1, "fourth");
}

/// With synchronous replication a commit is told before anybody else sees it: what is read between the two is old, and must not
/// be kept as if it were new.
#[test]
fn a_commit_that_is_told_before_it_is_seen_is_not_forgotten() {
    let cluster = telling_cluster();
    let env = Followed::two(&cluster, "told_early");
    env.wait_in_step();
    let mut client = env.client();
    client.run("insert into users values (1, 'first')");
    env.wait_heard();
    wait_kept(&mut client, "users", 1);
    let rows = |shard: &Target| Client::connect(shard).one("select count(*) from users");
    let holder = env.shards.iter().find(|shard| rows(shard) == "1");
    let holder = holder.expect("a shard has the row");
    let mut postgres = Client::connect(&target(&cluster, "postgres"));
    let quorum = |postgres: &mut Client, names: &str| {
        postgres.run(&format!(
            "alter system set synchronous_standby_names = '{names}'"
        ));
        postgres.run("select pg_reload_conf()");
        eventually("reloaded", || {
            let now = Client::connect(holder).one("show synchronous_standby_names");
            (now == names).then_some(())
        });
    };
    quorum(&mut postgres, "nobody");
    let changes = |env: &Followed| env.numbers("changes_total").values().sum::<u64>();
    let before = changes(&env);
    let mut writer = Client::connect(holder);
    writer.run("set synchronous_commit = on");
    writer
        .send(&query("update users set name = 'second'"))
        .expect("send");
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    eventually("the commit waits", || {
        (postgres.one(waits) == "1").then_some(())
    });
    eventually("and has been told", || {
        (changes(&env) > before).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(name_in(&mut client, "users", 1), "first");
    }
    quorum(&mut postgres, "");
    writer.until_ready().expect("committed");
    assert_eq!(name_in(&mut client, "users", 1), "second");
    wait_kept(&mut client, "users", 1);
    assert_eq!(name_in(&mut client, "users", 1), "second");

    // One that runs when the stream begins is waited for.
    writer.run("begin; update users set name = 'third'");
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_replication";
    assert_eq!(postgres.one(cut), "2");
    for shard in ["s0", "s1"] {
        env.wait_state(shard, "waiting for transactions that run there");
    }
    assert_eq!(env.numbers("in_step").values().sum::<u64>(), 0);
    assert_eq!(name_in(&mut client, "users", 1), "second");
    writer.run("commit");
    assert_eq!(name_in(&mut client, "users", 1), "third");
    env.wait_in_step();
    assert_eq!(name_in(&mut client, "users", 1), "third");
}

/// The router runs, keeps nothing of that shard, and says why.
#[test]
fn a_shard_that_cannot_tell_is_not_kept() {
    create_database("mute");
    let mute = crate::harness::direct_target("mute");
    Client::connect(&mute).run(SCHEMA);
    let env = Followed::start(&[(mute.clone(), cluster().dsn("mute"))]);
    env.wait_state("s0", "wal_level is replica there: set wal_level = logical");
    let log = env.router.log();
    assert_eq!(log.matches("wal_level is replica").count(), 1, "{log}");
    let mut client = env.client();
    client.run("insert into users values (1, 'first')");
    for name in ["second", "third"] {
        name_in(&mut client, "users", 1);
        name_in(&mut client, "users", 1);
        env.behind(&format!("update users set name = '{name}'"));
        assert_eq!(name_in(&mut client, "users", 1), name);
    }
    assert_eq!(env.numbers("connected")["s0"], 0);
    let publications = "select count(*) from pg_publication";
    assert_eq!(Client::connect(&mute).one(publications), "0");
}

#[test]
fn a_role_that_may_not_replicate_is_told_what_it_lacks() {
    // By TLS and SCRAM.
    let password = "plain secret";
    let certificate = certificate();
    let cluster = Cluster::start(&ClusterOptions {
        settings: &[&SETTINGS[..], &[("ssl", "on")]].concat(),
        auth: Auth::Scram { password },
        files: &[
            ("server.crt", certificate.chain.as_bytes()),
            ("server.key", certificate.key.as_bytes()),
        ],
        ..ClusterOptions::default()
    })
    .expect("a cluster with TLS");
    let mut postgres = Client::connect(&target(&cluster, "postgres"));
    postgres.run(&format!("create role plain login password '{password}'"));
    cluster.create_database("owned").expect("a database");
    let owned = target(&cluster, "owned");
    Client::connect(&owned).run("alter database owned owner to plain");
    let plain = Target {
        user: "plain".to_owned(),
        ..owned.clone()
    };
    let mut superuser = Client::connect(&owned);
    superuser.run("alter schema public owner to plain");
    Client::connect(&plain).run(SCHEMA);
    Client::connect(&plain).run("create table nameless (id int)");
    let dsn = format!("{}?sslmode=require", cluster.dsn_of("plain", "owned"));
    let env = Followed::start(&[(plain, dsn)]);
    env.wait_state(
        "s0",
        "tables without a primary key once they are published (public.nameless)",
    );
    let mut client = env.client();
    client.run("insert into users values (1, 'first')");
    let is_not_kept = |client: &mut Client, name: &str| {
        name_in(client, "users", 1);
        name_in(client, "users", 1);
        env.behind(&format!("update users set name = '{name}'"));
        assert_eq!(name_in(client, "users", 1), name);
    };
    is_not_kept(&mut client, "second");
    superuser.run("alter table nameless replica identity full");
    env.wait_state(
        "s0",
        "a superuser must run CREATE PUBLICATION keyway_cache FOR ALL TABLES",
    );
    is_not_kept(&mut client, "third");
    superuser.run("create publication keyway_cache for all tables");
    env.wait_state("s0", "role plain may not replicate: ALTER ROLE");
    is_not_kept(&mut client, "fourth");
    postgres.run("alter role plain replication");
    env.wait_in_step();
    wait_kept(&mut client, "users", 1);
    env.behind("update users set name = 'fifth'");
    seen(&mut client, "users", 1, "fifth");
    let encrypted = "select ssl from pg_stat_ssl join pg_stat_replication using (pid)";
    assert_eq!(postgres.one(encrypted), "t");
}
