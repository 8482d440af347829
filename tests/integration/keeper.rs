//! `keyway serve` keeps declared partitions ahead of the clock.

use crate::harness::{
    PASSWORD, Router, cluster, create_database, direct_target, eventually, http_get,
};
use crate::place::connect;
use crate::raw::Client;

const SHARDS: [&str; 2] = ["s0", "s1"];
const EVENTS: &str = "create table events (id bigint, at timestamptz not null, primary key (id, at)) partition by range (at)";

fn config(name: &str, declared: &str) -> String {
    let shards: String = SHARDS
        .iter()
        .map(|shard| {
            let dsn = cluster().dsn(&format!("{name}_{shard}"));
            format!("[shards.{shard}]\nprimary = \"{dsn}\"\n")
        })
        .collect();
    format!(
        "migrations = \"/nowhere\"\n[users.app]\npassword = \"{PASSWORD}\"\n{shards}\
         [databases.app]\nkeyspaces = [\"main\"]\n[partitions]\nevery = \"1s\"\n\
         [keyspaces.main]\nshards = [\"s0\", \"s1\"]\n[keyspaces.main.tables]\nevents = {{ key = \"id\" }}\n{declared}"
    )
}

fn on(name: &str, shard: &str) -> Client {
    Client::connect(&direct_target(&format!("{name}_{shard}")))
}

/// Partitions on each shard. Midnight may pass while a test runs, so that one more is wanted than before.
fn children(name: &str) -> Vec<usize> {
    let sql = "select count(*) from pg_inherits where inhparent = 'public.events'::regclass";
    let count = |shard: &&str| on(name, shard).one(sql).parse().unwrap();
    SHARDS.iter().map(count).collect()
}

/// A sample of the metrics page.
fn metric(router: &Router, name: &str) -> Option<i64> {
    let (_, page) = http_get(router.http, "/metrics").ok()?;
    page.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

const HORIZON: &str = "keyway_partition_horizon_seconds{keyspace=\"main\",table=\"events\"}";

#[test]
fn declared_partitions_are_made_and_made_again() {
    let name = "keeper_made";
    for shard in SHARDS {
        create_database(&format!("{name}_{shard}"));
        on(name, shard).run(EVENTS);
    }
    // Nothing is declared yet.
    let mut first = Router::start(&config(name, ""));
    let second = Router::start(&config(name, ""));
    let declared = config(
        name,
        "[keyspaces.main.partitions.events]\nrange = { column = \"at\", every = \"month\" }\nahead = 2\n",
    );
    for router in [&first, &second] {
        router.replace_config(&declared);
        router.signal("HUP");
    }
    eventually("the partitions are made", || {
        (children(name).iter().all(|count| *count >= 3)).then_some(())
    });
    let mut app = connect(&first);
    for key in 1..=8 {
        app.run(&format!("insert into events values ({key}, now())"));
    }
    assert_eq!(app.one("select count(*) from events"), "8");
    for router in [&first, &second] {
        // The one that makes none may have looked before.
        let seconds = eventually("how far they reach", || {
            metric(router, HORIZON).filter(|seconds| *seconds > 0)
        });
        assert!((56 * 86_400..93 * 86_400).contains(&seconds), "{seconds}");
    }
    assert!(
        !first.log().contains("partitions end in"),
        "{}",
        first.log()
    );
    // One is lost: it is made again, by whom is left.
    first.signal("KILL");
    first.wait_exit();
    let last = "select format('drop table %s', max(inhrelid::regclass::text collate \"C\")) from pg_inherits where inhparent = 'public.events'::regclass";
    let mut shard = on(name, "s1");
    let drop = shard.one(last);
    shard.run(&drop);
    let left = children(name);
    assert!(left[1] < left[0], "{left:?}");
    eventually("it is made again", || {
        let now = children(name);
        (now[1] > left[1] && now[0] >= left[0]).then_some(())
    });
}

#[test]
fn partitions_that_end_soon_are_warned_of() {
    let name = "keeper_warns";
    for shard in SHARDS {
        create_database(&format!("{name}_{shard}"));
        on(name, shard).run(EVENTS);
    }
    // On one shard the name of the partition of the third day is taken.
    let taken = "select to_char(timezone('UTC', now()) + interval '2 days', '\"create table events_p\"YYYY_MM_DD\" ()\"')";
    let mut shard = on(name, "s1");
    let create = shard.one(taken);
    shard.run(&create);
    let router = Router::start(&config(
        name,
        "[keyspaces.main.partitions.events]\nrange = { column = \"at\", every = \"day\" }\nahead = 20\n",
    ));
    let log = eventually("the warning", || {
        let log = router.log();
        log.contains("partitions end in").then_some(log)
    });
    let warning = log
        .lines()
        .find(|line| line.contains("partitions end in"))
        .unwrap();
    assert!(
        warning.contains("WARN") && warning.contains("s1") && warning.contains("events"),
        "{warning}"
    );
    assert!(log.contains("something else is called"), "{log}");
    let seconds = eventually("how far they reach", || metric(&router, HORIZON));
    assert!((1..2 * 86_400).contains(&seconds), "{seconds}");
    let made = children(name);
    assert!(made[0] >= 21 && made[1] == made[0] - 1, "{made:?}");
    assert_eq!(
        metric(&router, "keyway_partition_runs_total{outcome=\"done\"}"),
        Some(0)
    );
    assert_ne!(
        metric(&router, "keyway_partition_runs_total{outcome=\"failed\"}"),
        Some(0)
    );
}

/// A table that was declared before it was made gets its partitions when it is, not with the next look by the clock.
#[test]
fn a_table_that_comes_later_gets_its_partitions_then() {
    let name = "keeper_later";
    for shard in SHARDS {
        create_database(&format!("{name}_{shard}"));
    }
    let declared =
        "[keyspaces.main.partitions.events]\nrange = { column = \"at\", every = \"month\" }\n";
    let router = Router::start(&config(name, declared).replace("every = \"1s\"", "every = \"1h\""));
    eventually("the table is missed", || {
        router
            .log()
            .contains("there is no such table")
            .then_some(())
    });
    let mut app = connect(&router);
    app.run(EVENTS);
    eventually("the partitions are made", || {
        children(name).iter().all(|count| *count >= 4).then_some(())
    });
    app.run("insert into events values (1, now())");
}
