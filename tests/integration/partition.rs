//! `keyway partition` on real shards.

use crate::harness::{Router, cluster, create_database, eventually, free_port};
use crate::place::{Place, Ran, connect};
use crate::raw::Client;

const SHARDS: [&str; 3] = ["s0", "s1", "s2"];

/// Three shards of a keyspace, with this on each, and what is declared beside its migrations.
fn place(name: &'static str, ddl: &str, declared: &str) -> Place {
    for shard in SHARDS {
        create_database(&format!("{name}_{shard}"));
    }
    let site = place_with(name, |database| cluster().dsn(database));
    each(&site, ddl);
    declare(&site, declared);
    site
}

fn place_with(name: &'static str, dsn: impl Fn(&str) -> String) -> Place {
    let rest = "[databases.app]\nkeyspaces = [\"main\"]\n\
         [keyspaces.main]\nshards = [\"s0\", \"s1\", \"s2\"]\n\
         [keyspaces.main.tables]\nevents = { key = \"user_id\" }\nusers = { key = \"id\" }\n\
         [functions.noticed]\nper_shard = true\n";
    Place::new(name, &["partition"], &SHARDS, dsn, rest)
}

fn declare(site: &Place, text: &str) {
    site.file("main/partitions.toml", text);
}

/// The same statements on all shards.
#[track_caller]
fn each(site: &Place, sql: &str) {
    for shard in SHARDS {
        site.on(shard).run(sql);
    }
}

/// The same question on all shards.
fn all(site: &Place, sql: &str) -> Vec<String> {
    SHARDS.iter().map(|shard| site.on(shard).one(sql)).collect()
}

const EVENTS: &str = "
    CREATE TABLE users (id bigint PRIMARY KEY);
    CREATE TABLE events (
        user_id bigint NOT NULL REFERENCES users,
        at timestamptz NOT NULL DEFAULT now(),
        number bigint GENERATED ALWAYS AS IDENTITY,
        doubled bigint GENERATED ALWAYS AS (user_id * 2) STORED,
        what text COLLATE \"C\" DEFAULT 'nothing' CHECK (what <> ''),
        PRIMARY KEY (user_id, at, number),
        CHECK (user_id > 0)
    ) PARTITION BY RANGE (at);
    ALTER TABLE events ALTER what SET STORAGE EXTERNAL;
    CREATE INDEX ON events (what);
    CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.what := NEW.what || '!'; RETURN NEW; END $$;
    CREATE TRIGGER notice BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION noticed();";

const MONTHLY: &str = "[events]\nrange = { column = \"at\", every = \"month\" }\n\
                       hash = { column = \"user_id\", modulus = 4 }\nahead = 2\n";

/// Names and bounds of all partitions, whatever the session's settings are.
const TREE: &str = "select coalesce(string_agg(relname || ' ' || pg_get_expr(relpartbound, c.oid), E'\\n' order by relname), '')
    from pg_partition_tree('public.events') t join pg_class c on c.oid = t.relid where t.level > 0";

fn in_utc(client: &mut Client) -> String {
    client.run("set timezone = 'UTC'; set datestyle = 'ISO'");
    client.one(TREE)
}

#[test]
fn every_shard_gets_its_partitions() {
    let site = place("partition_apply", EVENTS, MONTHLY);
    for (shard, zone) in [("s1", "Asia/Kathmandu"), ("s2", "America/St_Johns")] {
        site.on(shard).run(&format!(
            "ALTER DATABASE partition_apply_{shard} SET timezone = '{zone}'; \
             ALTER DATABASE partition_apply_{shard} SET datestyle = 'German'"
        ));
    }
    let before = site.run(&["status"]);
    before.refused("");
    assert!(before.out.contains("3 missing"), "{before:?}");
    let plan = site.good(&["plan"]);
    assert_eq!(plan.matches("ATTACH PARTITION").count(), 9, "{plan}");
    assert_eq!(all(&site, TREE), [""; 3]);
    // A router that runs meanwhile takes rows as soon as there are partitions.
    let router = Router::start(&site.config);
    let mut client = connect(&router);
    each(&site, "insert into users select generate_series(1, 100)");
    let none = client.error("insert into events (user_id) values (7)");
    assert_eq!(none, "23514");
    let applied = site.good(&["apply"]);
    assert_eq!(applied.lines().count(), 9, "{applied}");
    eventually("the router takes rows", || {
        let answer = client.simple("insert into events (user_id) values (7)");
        (answer.first()?.tag == b'C').then_some(())
    });
    for user in 1..=20 {
        client.run(&format!("insert into events (user_id) values ({user})"));
    }
    assert_eq!(client.one("select count(*) from events"), "21");
    assert_eq!(
        client.rows("select what, doubled from events where user_id = 9"),
        [["nothing!", "18"]]
    );
    let trees: Vec<String> = SHARDS.map(|shard| in_utc(&mut site.on(shard))).into();
    assert_eq!(trees[0].lines().count(), 3 * 5, "{}", trees[0]);
    assert_eq!((&trees[1], &trees[2]), (&trees[0], &trees[0]));
    let now =
        "select 'events_p' || to_char(date_trunc('month', now() at time zone 'UTC'), 'YYYY_MM')";
    let now = site.on("s0").one(now);
    assert!(
        trees[0].starts_with(&format!("{now} FOR VALUES FROM (")),
        "{}",
        trees[0]
    );
    assert!(trees[0].contains("-01 00:00:00+00') TO ("), "{}", trees[0]);
    assert!(
        trees[0].contains(&format!(
            "{now}_h03 FOR VALUES WITH (modulus 4, remainder 3)"
        )),
        "{}",
        trees[0]
    );
    // All that the table has, its partitions have; and nothing of how they were made is left.
    let same = "select count(*) from pg_partition_tree('events') t
        where (select count(*) from pg_index where indrelid = t.relid) <> 2
           or (select count(*) from pg_trigger where tgrelid = t.relid and not tgisinternal) <> 1
           or (select count(*) from pg_constraint where conrelid = t.relid and contype = 'c') <> 2
           or (select attstorage::text from pg_attribute where attrelid = t.relid and attname = 'what') <> 'e'
           or not exists (select from pg_constraint where conrelid = t.relid and contype = 'f')";
    assert_eq!(all(&site, same), ["0"; 3]);

    assert!(site.good(&["apply"]).starts_with("nothing to do"));
    assert!(site.good(&["plan"]).starts_with("-- nothing to run"));
    let status = site.good(&["status", "--exact"]);
    assert_eq!(status.lines().count(), 4, "{status}");
    assert!(status.contains(" days"), "{status}");
    let json: serde_json::Value =
        serde_json::from_str(&site.good(&["status", "--exact", "--json"])).unwrap();
    let shards = json.as_array().unwrap();
    let rows: i64 = shards.iter().map(|one| one["rows"].as_i64().unwrap()).sum();
    assert_eq!((shards.len(), rows), (3, 21));
    assert_eq!(
        (&json[0]["partitions"], &json[0]["missing"]),
        (&3.into(), &0.into())
    );
    let days = json[1]["days_ahead"].as_i64().unwrap();
    assert!((58..=92).contains(&days), "{json}");
    // What is lost by hand comes back: a partition, and one of a partition.
    site.on("s0").run(&format!("drop table {now}_h02"));
    site.on("s2").run(&format!("drop table {now}"));
    site.run(&["status"]).refused("");
    assert_eq!(site.good(&["apply"]).lines().count(), 2);
    assert_eq!(in_utc(&mut site.on("s0")), trees[0]);
    assert_eq!(in_utc(&mut site.on("s2")), trees[0]);
}

/// What `plan` prints does what `apply` does.
#[test]
fn a_plan_can_be_pasted() {
    let ddl = format!(
        "{EVENTS} CREATE TABLE events_p2001 PARTITION OF events FOR VALUES FROM ('2001-01-01 00:00:00+00') TO ('2002-01-01 00:00:00+00'); \
         CREATE TABLE events_p2002 PARTITION OF events FOR VALUES FROM ('2002-01-01 00:00:00+00') TO ('2003-01-01 00:00:00+00');"
    );
    let declared = "[events]\nrange = { column = \"at\", every = \"year\" }\nhash = { column = \"user_id\", modulus = 2 }\n\
                    retain = \"5 years\"\nthen = \"archive\"\narchive = \"attic\"\n";
    let site = place("partition_paste", &ddl, declared);
    let plan = site.good(&["plan"]);
    let parts: Vec<&str> = plan.split("-- main shard ").collect();
    assert_eq!(parts.len(), 4, "{plan}");
    assert!(parts[2].starts_with("s1: events\n"), "{plan}");
    let mut psql = site.on("s1");
    psql.run(
        "set timezone = 'Asia/Kathmandu'; set datestyle = 'SQL, DMY'; set search_path = keyway",
    );
    let text = parts[2].split_once('\n').unwrap().1;
    for statement in text.split(";\n").filter(|one| !one.trim().is_empty()) {
        psql.run(statement);
    }
    site.good(&["apply"]);
    let tables = "select string_agg(relnamespace::regnamespace || '.' || relname || relispartition, ',' order by relname)
        from pg_class where relname like 'events\\_p%' and relkind in ('r', 'p')";
    let all = all(&site, tables);
    assert!(all[0].contains("attic.events_p2002false,"), "{all:?}");
    assert_eq!((&all[1], &all[2]), (&all[0], &all[0]));
    assert_eq!(in_utc(&mut site.on("s0")), in_utc(&mut site.on("s1")));
    assert!(site.good(&["plan"]).starts_with("-- nothing to run"));
    // Another day's plan.
    let later = site.good(&["plan", "--at", "2096-02-29", "--json"]);
    let later: serde_json::Value = serde_json::from_str(&later).unwrap();
    let text = later[0]["blocks"].to_string();
    assert!(text.contains("events_p2091\\\" ("), "{text}");
    assert!(!text.contains("events_p2090"), "{text}");
    site.run(&["plan", "--at", "2026-02-29"])
        .ended(2, "a day is such as");
}

/// A table with old partitions, the first two of which are too old.
const OLD: &str = "
    CREATE TABLE events (user_id bigint, at date NOT NULL) PARTITION BY RANGE (at);
    CREATE TABLE events_p2001 PARTITION OF events FOR VALUES FROM ('2001-01-01') TO ('2002-01-01') PARTITION BY HASH (user_id);
    CREATE TABLE events_p2001_h00 PARTITION OF events_p2001 FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    CREATE TABLE events_p2002 PARTITION OF events FOR VALUES FROM ('2002-01-01') TO ('2003-01-01');
    CREATE TABLE events_now PARTITION OF events FOR VALUES FROM ('2003-01-01') TO (MAXVALUE);
    INSERT INTO events VALUES (1, '2001-02-03'), (2, '2002-02-03'), (3, current_date);";

fn old(then: &str) -> String {
    format!(
        "[events]\nrange = {{ column = \"at\", every = \"year\" }}\nretain = \"10 years\"\nthen = \"{then}\"\n"
    )
}

const LEFT: &str = "select coalesce(string_agg(relnamespace::regnamespace || '.' || relname, ',' order by relname), '')
    from pg_class where relname like 'events\\_p%' and relkind in ('r', 'p')";

const PENDING: &str = "select count(*) from pg_inherits where inhdetachpending";

#[test]
fn old_partitions_leave_beside_readers_and_writers() {
    let site = place("partition_retire", OLD, &old("detach"));
    let mut reader = site.on("s1");
    reader.run("begin isolation level repeatable read");
    assert_eq!(reader.one("select count(*) from events"), "3");
    let runner = site.spawn(&["apply", "--detach-timeout", "2s"]);
    site.wait_stuck("s1", "DETACH PARTITION");
    // It waits, and nobody waits for it.
    let mut writer = site.on("s1");
    writer.run("set statement_timeout = '10s'; insert into events values (4, current_date)");
    assert_eq!(
        writer.one("select count(*) from events where at > '2010-01-01'"),
        "2"
    );
    assert_eq!(reader.one("select count(*) from events"), "3");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    ran.refused("main s1: events: partition events_p2001 is being detached and waits for transactions that began before (2 s so far); in a transaction: pid ");
    // The other shards are done.
    let gone = "select count(*) from pg_inherits where inhparent = 'events'::regclass and not inhdetachpending";
    assert_eq!(all(&site, gone), ["1", "2", "1"]);
    assert_eq!(site.on("s1").one(PENDING), "1");
    let status = site.run(&["status"]);
    status.refused("");
    assert!(status.out.contains("1 half detached"), "{status:?}");
    // It goes on waiting, and ends when it can.
    site.run(&["apply", "--detach-timeout", "300ms"])
        .refused("partition events_p2001 is being detached");
    reader.run("commit");
    let applied = site.good(&["apply"]);
    assert_eq!(applied.lines().count(), 2, "{applied}");
    assert_eq!(all(&site, gone), ["1"; 3]);
    let kept = "select (select count(*) from events_p2001) + (select count(*) from events_p2002)";
    assert_eq!(all(&site, kept), ["2"; 3]);
    site.good(&["status"]);
}

/// Kills the runner while its DETACH on s1 waits for a reader.
fn killed_while_detaching(site: &Place, ends: impl Fn(&mut Client)) {
    let mut reader = site.on("s1");
    reader.run("begin isolation level repeatable read");
    reader.one("select count(*) from events");
    let mut runner = site.spawn(&["apply", "--on-error", "stop"]);
    site.wait_stuck("s1", "DETACH PARTITION");
    runner.kill().unwrap();
    runner.wait().unwrap();
    ends(&mut reader);
    site.wait_gone();
}

/// The server ends the DETACH of a runner that is gone, and the table stays as it is.
#[test]
fn what_was_detached_for_a_dead_runner_gets_its_end() {
    let site = place("partition_dead", OLD, &old("drop"));
    killed_while_detaching(&site, |reader| reader.run("commit"));
    assert_eq!(
        site.on("s1")
            .one("select relispartition from pg_class where relname = 'events_p2001'"),
        "f"
    );
    assert_eq!(
        site.on("s1").one(LEFT),
        "public.events_p2001,public.events_p2001_h00,public.events_p2002"
    );
    let plan = site.good(&["plan"]);
    assert!(
        plan.contains("DROP TABLE \"public\".\"events_p2001\";"),
        "{plan}"
    );
    site.good(&["apply", "--wait", "1m"]);
    assert_eq!(all(&site, LEFT), [""; 3]);
    assert_eq!(all(&site, "select count(*) from keyway.retired"), ["0"; 3]);
    assert_eq!(all(&site, "select count(*) from events"), ["1"; 3]);
}

/// The server dies with the runner, and the DETACH is half done.
#[test]
fn a_detach_that_was_cut_off_is_ended() {
    let site = place("partition_cut", OLD, &old("archive"));
    killed_while_detaching(&site, |reader| {
        let stop = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where query ilike '%detach partition%' and datname = current_database() and pid <> pg_backend_pid()";
        site.on("s1").one(stop);
        eventually("the session is gone", || {
            let sql = "select count(*) from pg_stat_activity where query ilike '%detach partition%concurrently' \
                       and datname = current_database() and pid <> pg_backend_pid()";
            (site.on("s1").one(sql) == "0").then_some(())
        });
        reader.run("commit");
    });
    assert_eq!(site.on("s1").one(PENDING), "1");
    let plan = site.good(&["plan"]);
    assert!(plan.contains("\"events_p2001\" FINALIZE;"), "{plan}");
    site.good(&["apply", "--wait", "1m"]);
    assert_eq!(
        all(&site, LEFT),
        ["archive.events_p2001,archive.events_p2001_h00,archive.events_p2002"; 3]
    );
    assert_eq!(all(&site, "select count(*) from keyway.retired"), ["0"; 3]);
    assert_eq!(
        all(
            &site,
            "select sum(user_id) from (select user_id from archive.events_p2001 union all select user_id from archive.events_p2002) t"
        ),
        ["3"; 3]
    );
    site.good(&["status"]);
}

/// A note about a partition does nothing to another table of its name, to one that was attached again, or against the
/// declaration of today.
#[test]
fn only_what_was_a_partition_is_dropped() {
    let site = place("partition_proof", OLD, &old("drop"));
    killed_while_detaching(&site, |reader| reader.run("commit"));
    // s1 has a table that is to be dropped.
    site.on("s1").run(
        "ALTER TABLE events_p2001 RENAME TO saved; CREATE TABLE events_p2001 (mine int); INSERT INTO events_p2001 VALUES (1)",
    );
    site.good(&["apply", "--wait", "1m"]);
    assert_eq!(site.on("s1").one("select mine from events_p2001"), "1");
    assert_eq!(site.on("s1").one("select count(*) from saved"), "1");
    assert_eq!(all(&site, "select count(*) from keyway.retired"), ["0"; 3]);
    // Again, and now the declaration says that it stays.
    site.on("s1").run(
        "DROP TABLE events_p2001; ALTER TABLE saved RENAME TO events_p2001;
         ALTER TABLE events ATTACH PARTITION events_p2001 FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')",
    );
    killed_while_detaching(&site, |reader| reader.run("commit"));
    declare(&site, &old("detach"));
    site.good(&["apply", "--wait", "1m"]);
    assert_eq!(site.on("s1").one("select count(*) from events_p2001"), "1");
    assert_eq!(all(&site, "select count(*) from keyway.retired"), ["0"; 3]);
    // And once more, and now it is to be kept for longer.
    site.on("s1").run(
        "ALTER TABLE events ATTACH PARTITION events_p2001 FOR VALUES FROM ('2001-01-01') TO ('2002-01-01')",
    );
    declare(&site, &old("drop"));
    killed_while_detaching(&site, |reader| reader.run("commit"));
    declare(&site, &old("drop").replace("10 years", "200 years"));
    site.good(&["apply", "--wait", "1m"]);
    assert_eq!(site.on("s1").one("select count(*) from events_p2001"), "1");
    assert_eq!(all(&site, "select count(*) from keyway.retired"), ["0"; 3]);
}

#[test]
fn a_default_partition_is_lived_with() {
    let ddl = "
        CREATE TABLE events (user_id bigint, at timestamp NOT NULL) PARTITION BY RANGE (at);
        CREATE TABLE events_p2001 PARTITION OF events FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');";
    let declared = "[events]\nrange = { column = \"at\", every = \"year\" }\nretain = \"10 years\"\nthen = \"drop\"\n\
                    ahead = 1\ndefault = true\n";
    let site = place("partition_default", ddl, declared);
    // CONCURRENTLY while there is no default, then the default is made.
    site.good(&["apply"]);
    let children = "select string_agg(substr(relname, 7), ',' order by relname) from pg_partition_tree('events') t join pg_class c on c.oid = t.relid where level = 1";
    let year = "select extract(year from now() at time zone 'UTC')::int";
    let year: i32 = site.on("s0").one(year).parse().unwrap();
    let default = "_default";
    // Gaps are filled from where retention begins.
    let made: Vec<String> = (year - 10..=year + 1)
        .map(|year| format!("_p{year}"))
        .collect();
    let expected = format!("{default},{}", made.join(","));
    assert_eq!(all(&site, children), vec![expected.as_str(); 3]);
    // A row without a partition; the one that would take it cannot be made.
    site.on("s1").run(&format!(
        "INSERT INTO events VALUES (1, '{}-06-01')",
        year + 2
    ));
    declare(&site, &declared.replace("ahead = 1", "ahead = 3"));
    site.run(&["status"])
        .refused("main s1: events: rows are in the default partition");
    let ran = site.run(&["apply"]);
    ran.refused(&format!(
        "main s1: events: partition events_p{} cannot be attached, for rows of its range are in the default partition: ",
        year + 2
    ));
    assert!(
        ran.out.contains(&format!("s1: events_p{} made", year + 3)),
        "{ran:?}"
    );
    site.on("s1").run("DELETE FROM events");
    assert_eq!(site.good(&["apply"]).lines().count(), 1);
    // Beside a default partition a partition leaves at once, as soon as nobody reads the table.
    site.on("s2").run("CREATE TABLE events_p2003 PARTITION OF events FOR VALUES FROM ('2003-01-01') TO ('2004-01-01')");
    let mut reader = site.on("s2");
    reader.run("begin; select count(*) from events");
    let runner = site.spawn(&["apply"]);
    site.wait_stuck("s2", "DETACH PARTITION");
    assert_eq!(site.on("s2").one("select count(*) from events"), "0");
    reader.run("commit");
    let ran = Ran::of(&runner.wait_with_output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.contains("main s2: events_p2003 dropped"), "{ran:?}");
    assert_eq!(
        site.on("s2")
            .one("select to_regclass('events_p2003') is null"),
        "t"
    );
}

#[test]
fn tables_of_every_kind_of_key() {
    let ddl = "
        CREATE ROLE partition_kinds_owner;
        CREATE SCHEMA app AUTHORIZATION partition_kinds_owner;
        CREATE DOMAIN app.\"day of \"\"it\"\"\" AS date CHECK (value > '1900-01-01');
        CREATE TABLE app.\"Odd \"\"name\"\"\" (\"At\" app.\"day of \"\"it\"\"\") PARTITION BY RANGE (\"At\");
        ALTER TABLE app.\"Odd \"\"name\"\"\" OWNER TO partition_kinds_owner;
        CREATE TABLE numbers (n smallint, t text) PARTITION BY RANGE (n);
        CREATE TABLE numbers_own PARTITION OF numbers FOR VALUES FROM (20005) TO (20100);
        INSERT INTO numbers VALUES (20050);
        CREATE TABLE hashed (a int, b text) PARTITION BY HASH (a, b);
        CREATE TABLE hashed_own PARTITION OF hashed FOR VALUES WITH (MODULUS 3, REMAINDER 1);
        CREATE TABLE hours (at timestamptz) PARTITION BY RANGE (at);
        CREATE TABLE weeks (at timestamp) PARTITION BY RANGE (at);
        CREATE TABLE 表表表表表表表表表表表表表表表表表表表表表 (at date) PARTITION BY RANGE (at);
        CREATE TABLE 表表表表表表表表表表表表表表表表表表表表録 (at date) PARTITION BY RANGE (at);";
    // Roles are the cluster's, which all shards share here.
    let again = ddl.replace("CREATE ROLE partition_kinds_owner;", "");
    let declared = r#"
        ['app."Odd ""name"""']
        range = { column = '"At"', every = "day", start = "2024-02-28" }
        retain = "1 year"
        [numbers]
        range = { column = "n", every = 5000, start = -32768 }
        [hashed]
        hash = { columns = ["a", "b"], modulus = 3 }
        [hours]
        range = { column = "at", every = "hour" }
        ahead = 30
        [weeks]
        range = { column = "at", every = "week" }
        ["表表表表表表表表表表表表表表表表表表表表表"]
        range = { column = "at", every = "day" }
        hash = { column = "at", modulus = 2 }
        ["表表表表表表表表表表表表表表表表表表表表録"]
        range = { column = "at", every = "day" }
        hash = { column = "at", modulus = 2 }
    "#;
    let site = place("partition_kinds", "SELECT 1", declared);
    site.on("s0").run(ddl);
    site.on("s1").run(&again);
    site.on("s2").run(&again);
    site.good(&["apply"]);
    assert!(site.good(&["apply"]).starts_with("nothing to do"));
    site.good(&["status"]);
    let children = |table: &str| {
        format!(
            "select string_agg(relname || ' ' || pg_get_expr(relpartbound, c.oid), ',' order by c.oid)
             from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = '{table}'::regclass"
        )
    };
    assert_eq!(
        site.on("s0").one(&children("numbers")),
        "numbers_own FOR VALUES FROM ('20005') TO ('20100'),\
         numbers_p20100 FOR VALUES FROM ('20100') TO ('25000'),\
         numbers_p25000 FOR VALUES FROM ('25000') TO ('30000'),\
         numbers_p30000 FOR VALUES FROM ('30000') TO (MAXVALUE)"
    );
    assert_eq!(
        site.on("s1").one(&children("hashed")),
        "hashed_own FOR VALUES WITH (modulus 3, remainder 1),\
         hashed_h00 FOR VALUES WITH (modulus 3, remainder 0),\
         hashed_h02 FOR VALUES WITH (modulus 3, remainder 2)"
    );
    let odd = "select count(*), min(pg_get_userbyid(relowner)), max(pg_get_userbyid(relowner))
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'app.\"Odd \"\"name\"\"\"'::regclass";
    let rows = site.on("s2").rows(odd);
    let owner = "partition_kinds_owner";
    assert!(
        rows == [["369", owner, owner]] || rows == [["370", owner, owner]],
        "{rows:?}"
    );
    for (table, value) in [
        ("hours", "now() + interval '29 hours'"),
        ("weeks", "now() at time zone 'UTC' + interval '20 days'"),
        ("numbers", "32767"),
        ("hashed", "5"),
        ("app.\"Odd \"\"name\"\"\"", "now() + interval '2 days'"),
    ] {
        site.on("s1")
            .run(&format!("insert into {table} values ({value})"));
    }
    let long = "select count(*), count(distinct relname), max(length(relname::text::bytea)) from pg_class where relname ~ '^表+_[0-9a-f]{8}_p[0-9_]+_h0[01]$'";
    assert_eq!(site.on("s0").rows(long), [["16", "16", "61"]]);
    let named = "select count(*) from pg_class where relname ~ '^weeks_p\\d{4}_w\\d\\d$' or relname ~ '^hours_p\\d{4}_\\d\\d_\\d\\d_\\d\\d$'";
    assert_eq!(all(&site, named), ["35"; 3]);
}

#[test]
fn what_does_not_fit_is_said() {
    let ddl = "
        CREATE TABLE events (user_id bigint, at date) PARTITION BY LIST (at);
        CREATE TABLE plain (at date);
        CREATE VIEW seen AS SELECT * FROM plain;
        CREATE TABLE texts (at text) PARTITION BY RANGE (at);
        CREATE TABLE dates (at date) PARTITION BY RANGE (at);
        CREATE TABLE moduli (a int) PARTITION BY HASH (a);
        CREATE TABLE moduli_own PARTITION OF moduli FOR VALUES WITH (MODULUS 8, REMAINDER 1);
        CREATE TABLE months (at date) PARTITION BY RANGE (at);
        CREATE TABLE months_default (mine int);";
    let names = ["events", "plain", "seen", "texts", "dates", "missing"];
    let mut declared: String = names
        .iter()
        .map(|name| format!("[{name}]\nrange = {{ column = \"at\", every = \"hour\" }}\n"))
        .collect();
    declared.push_str("[moduli]\nhash = { column = \"a\", modulus = 4 }\n");
    declared.push_str("[months]\nrange = { column = \"at\", every = \"month\" }\ndefault = true\n");
    let site = place("partition_misfit", ddl, &declared);
    for command in ["plan", "apply", "status"] {
        let ran = site.run(&[command]);
        for words in [
            "main s0: events: it is PARTITION BY LIST (at), and declared BY RANGE (at)",
            "main s1: plain: it is an ordinary table; `keyway partition convert plain`",
            "main s2: seen: it is a view, not a table",
            "main s2: texts: column \"at\" has type text; ranges are kept for date,",
            "main s2: dates: column \"at\" has type date, for which every = \"hour\" is too fine",
            "main s2: missing: there is no such table",
            "main s2: moduli: it has partitions of modulus 8, and modulus 4 is declared",
            "main s2: months: partition months_default is missing and cannot be made: something else is called months_default",
        ] {
            ran.refused(words);
        }
    }
    // The rest is done.
    assert_eq!(
        all(
            &site,
            "select count(*) from pg_inherits where inhparent = 'months'::regclass"
        ),
        ["4"; 3]
    );
    // What is wrong with declarations is told before any shard is asked.
    declare(
        &site,
        "[months]\nrange = { column = \"at\", every = \"fortnight\" }\nahaed = 3\n[plain]\n",
    );
    let ran = site.run(&["plan"]);
    ran.ended(
        64,
        "migrations/main/partitions.toml: months.range.every: hour, day,",
    );
    ran.ended(
        64,
        "migrations/main/partitions.toml: months.ahaed: unknown key",
    );
    ran.ended(
        64,
        "migrations/main/partitions.toml: plain.range: is missing, and so is hash",
    );
    let month = "{ range = { column = \"at\", every = \"month\" } }";
    declare(&site, &format!("months = {month}"));
    site.configure(&format!(
        "{}[keyspaces.main.partitions]\nmonths = {month}\n",
        site.config
    ));
    site.run(&["plan"]).ended(
        64,
        "keyspaces.main.partitions.months: migrations/main/partitions.toml declares it too",
    );
    declare(&site, "");
    site.good(&["plan"]);
    site.run(&["plan", "--directory", "nowhere"])
        .refused("nowhere is not a directory");
    site.run(&["plan", "--keyspace", "nobody"])
        .refused("no keyspace \"nobody\"");
}

#[test]
fn a_shard_that_is_down_stops_none_of_the_others() {
    let site = place("partition_down", EVENTS, MONTHLY);
    site.good(&["plan"]);
    let closed = free_port();
    let lame = place_with("partition_down", |database| {
        let dsn = cluster().dsn(database);
        let port = format!(":{}/", cluster().port());
        if database.ends_with("_s1") {
            dsn.replace(&port, &format!(":{closed}/"))
        } else {
            dsn
        }
    });
    declare(&lame, MONTHLY);
    lame.run(&["apply"]).refused("main s1: connect to shard s1");
    let count = "select count(*) from pg_inherits where inhparent = 'events'::regclass";
    assert_eq!(all(&site, count), ["3", "0", "3"]);
    let status = lame.run(&["status"]);
    status.refused("main s1: events: connect to shard s1");
    assert!(status.out.contains("unknown"), "{status:?}");
    lame.run(&["plan"])
        .refused("main s1: events: connect to shard s1");
    assert_eq!(site.good(&["apply"]).lines().count(), 3);
    assert_eq!(all(&site, count), ["3"; 3]);
}

#[test]
fn one_runs_at_a_time_and_gives_way_to_readers() {
    let site = place("partition_two", EVENTS, MONTHLY);
    // ATTACH needs the table that is referred to.
    let mut holder = site.on("s0");
    holder.run("begin; lock table users in access exclusive mode");
    let first = site.spawn(&["apply"]);
    site.wait_stuck("s0", "ATTACH PARTITION");
    site.run(&["apply"])
        .refused("is changing partitions (its lease holds until");
    let second = site.spawn(&["apply", "--wait", "1m"]);
    holder.run("commit");
    let first = Ran::of(&first.wait_with_output().unwrap());
    assert_eq!(
        (first.status, first.out.lines().count()),
        (Some(0), 9),
        "{first:?}"
    );
    let second = Ran::of(&second.wait_with_output().unwrap());
    assert_eq!(second.status, Some(0), "{second:?}");
    assert!(second.out.starts_with("nothing to do"), "{second:?}");
    // Killed in the middle of a partition, it leaves nothing of it.
    each(
        &site,
        "DROP TABLE events CASCADE; DROP TABLE users; DROP FUNCTION noticed",
    );
    each(&site, EVENTS);
    let mut holder = site.on("s1");
    holder.run("begin; lock table users in access exclusive mode");
    let mut runner = site.spawn(&["apply", "--on-error", "stop"]);
    site.wait_stuck("s1", "ATTACH PARTITION");
    runner.kill().unwrap();
    runner.wait().unwrap();
    holder.run("commit");
    site.wait_gone();
    let made =
        "select count(*) from pg_class where relname like 'events\\_p%' and relkind in ('r', 'p')";
    assert_eq!(all(&site, made), ["15", "0", "0"]);
    // A shard that has seen a newer runner lets this one do nothing.
    site.on("s2").run("insert into keyway.fences values ('partition', 1000000) on conflict (name) do update set token = excluded.token");
    site.run(&["apply", "--wait", "1m"])
        .refused("main s2: events: another runner has taken over");
    assert_eq!(all(&site, made), ["15", "15", "0"]);
    site.on("s2")
        .run("update keyway.fences set token = 1 where name = 'partition'");
    site.good(&["apply"]);
    assert_eq!(all(&site, made), ["15"; 3]);
}

/// What stands in the way of an old partition's end is told, and its end comes later.
#[test]
fn what_holds_an_old_partition_is_said() {
    let site = place("partition_held", OLD, &old("drop"));
    site.on("s0")
        .run("CREATE VIEW seen AS SELECT * FROM events_p2001");
    site.on("s1")
        .run("CREATE SCHEMA archive; CREATE TABLE archive.events_p2002 (mine int)");
    let ran = site.run(&["apply"]);
    ran.refused("main s0: events: DROP TABLE \"public\".\"events_p2001\": cannot drop table public.events_p2001 because other objects depend on it (2BP01)");
    assert_eq!(
        all(&site, LEFT)[0],
        "public.events_p2001,public.events_p2001_h00"
    );
    let status = site.good(&["status"]);
    assert!(status.contains("1 too old"), "{status}");
    site.on("s0").run("DROP VIEW seen");
    site.good(&["apply"]);
    assert_eq!(site.on("s0").one(LEFT), "");
    // A name that is taken in the archive.
    site.on("s1").run(
        "CREATE TABLE events_p2002 PARTITION OF events FOR VALUES FROM ('2002-01-01') TO ('2003-01-01')",
    );
    declare(&site, &old("archive"));
    site.run(&["apply"])
        .refused("partition events_p2002 is too old and cannot be archived: something else is called archive.events_p2002; rename it or drop it");
    let is_there =
        "SELECT relispartition FROM pg_class WHERE oid = 'public.events_p2002'::regclass";
    assert_eq!(site.on("s1").one(is_there), "t", "it stays what it is");
    site.on("s1").run("DROP TABLE archive.events_p2002");
    site.good(&["apply"]);
    assert_eq!(site.on("s1").one(LEFT), "archive.events_p2002");
}

/// docs/partitions.md is what happens.
#[test]
fn the_page_is_true() {
    let page = crate::harness::file("../docs/partitions.md");
    let block = |kind: &str| {
        let rest = page.split_once(&format!("```{kind}\n")).unwrap().1;
        rest.split_once("```").unwrap().0.to_owned()
    };
    let site = place("partition_page", &block("sql"), &block("toml"));
    let plan = site.good(&["plan", "--at", "2026-01-15", "--keyspace", "main"]);
    let head = "-- main shard s1: user_activities\n";
    let own = plan.split_once(head).unwrap().1;
    let first = block("plan");
    assert!(own.starts_with(&first), "the page has another plan:\n{own}");
    let second = first.replace("2026-02-01", "2026-03-01");
    let second = second.replace("2026-01-01", "2026-02-01");
    let second = second.replace("_p2026_01", "_p2026_02");
    let own = own.split_once("-- main shard").unwrap().0;
    assert_eq!(own, format!("{first}\n{second}\n"));
    site.good(&["apply"]);
    site.good(&["status"]);
}
