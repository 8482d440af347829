//! Temporary tables and upkeep: nobody else's plans and kept answers know of them, unless they carry something further.

use std::sync::{MutexGuard, OnceLock, PoisonError};

use crate::harness::{
    Env, PASSWORD, Router, Setup, cluster, create_database, direct_target, http_get,
};
use crate::raw::{Client, Target, message, query, rows_of};

const SCHEMA: &str = "
create table things (id int primary key, v text);
create table others (id int primary key, v text);
create function mark(int) returns int language sql as $$ update public.things set v = 'further' where id = $1; select $1 $$;
create table marked (id int default mark(0));
create function marks() returns trigger language plpgsql as $$ begin perform mark(new.id); return new; end $$;
create schema tenant;
create table tenant.things (id int primary key, v text);
create view tenant.others as select mark(1), 'x'::text as v;
";

/// A router that keeps answers, in front of one database.
struct Site {
    shard: Target,
    router: Router,
    target: Target,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| Site::new("temporaries"))
}

impl Site {
    fn new(database: &str) -> Self {
        create_database(database);
        Client::connect(&direct_target(database)).run(SCHEMA);
        let router = Router::start(&format!(
            "workers = 2\n[users.app]\npassword = \"{PASSWORD}\"\n[shards.only]\nprimary = \"{}\"\n\
             [databases.app]\nkeyspaces = [\"main\"]\n[keyspaces.main]\nshards = [\"only\"]\n\
             [cache]\nenabled = true\n",
            cluster().dsn(database)
        ));
        let target = Target {
            port: router.port,
            user: "app".to_owned(),
            database: "app".to_owned(),
            password: PASSWORD.to_owned(),
        };
        Self {
            shard: direct_target(database),
            router,
            target,
        }
    }
}

/// A change of the schema by one test would be seen by another.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn epoch(router: &Router) -> u64 {
    let (_, text) = http_get(router.http, "/metrics").expect("metrics");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("keyway_topology_epoch "));
    line.expect("an epoch").parse().expect("a number")
}

impl Site {
    fn client(&self) -> Client {
        Client::connect(&self.target)
    }

    /// A row of this id whose answer is kept, though it is another by now.
    fn keep(&self, id: i32) -> Client {
        let mut shard = Client::connect(&self.shard);
        let mut client = self.client();
        client.run(&format!("delete from things where id = {id}"));
        client.run(&format!("insert into things values ({id}, 'first')"));
        assert_eq!(asked(&mut client, id), "first");
        shard.run(&format!("update things set v = 'behind' where id = {id}"));
        assert_eq!(asked(&mut client, id), "first", "it is kept");
        client
    }
}

fn asked(client: &mut Client, id: i32) -> String {
    client.one(&format!("select v from things where id = {id}"))
}

/// COPY of one column of numbers.
fn copy_into(client: &mut Client, table: &str, numbers: &[i32]) {
    client
        .send(&query(&format!("copy {table} (id) from stdin")))
        .expect("send");
    while client.read().expect("an answer").tag != b'G' {}
    let mut bytes = Vec::new();
    for number in numbers {
        bytes.extend(message(b'd', format!("{number}\n").as_bytes()));
    }
    bytes.extend(message(b'c', &[]));
    client.send(&bytes).expect("send");
    let answers = client.until_ready().expect("an answer");
    assert!(
        answers.iter().all(|answer| answer.tag != b'E'),
        "{answers:?}"
    );
}

#[test]
fn temporary_tables_leave_kept_answers_and_plans_alone() {
    let site = Site::new("temporaries_quiet");
    let mut reader = site.keep(1);
    let before = epoch(&site.router);
    let mut client = site.client();
    let mut step = |client: &mut Client, sql: &str, extended: bool| {
        match (sql, extended) {
            ("copy", _) => copy_into(client, "batch", &[7, 8]),
            (_, true) => {
                let said = client.extended(sql, &[]);
                assert!(
                    said.iter().all(|answer| answer.tag != b'E'),
                    "{sql} {said:?}"
                );
            }
            (_, false) => client.run(sql),
        }
        assert_eq!(asked(&mut reader, 1), "first", "{sql} {extended}");
        assert_eq!(epoch(&site.router), before, "{sql}");
    };
    let steps = [
        "create temp table batch (id int primary key, v text default 'x', at timestamptz)",
        "copy",
        "insert into batch (id) values (9)",
        "insert into batch (id, v) select id, v from things on conflict do nothing",
        "update batch set v = 'y' from things where things.id = batch.id",
        "select count(*) from batch join things using (id)",
        "create index on batch (v)",
        "analyze batch",
        "begin",
        "delete from batch where id = 9",
        "rollback",
        "merge into batch using things on batch.id = things.id when matched then delete",
        "explain analyze insert into batch (id) values (10)",
        "prepare fill as insert into batch (id) values ($1)",
        "execute fill (11)",
        "truncate batch",
        "drop table batch",
        "drop table if exists batch",
        "create temporary table batch as select id from things",
        "insert into batch values (3)",
        "begin",
        "create temp table of_block (like things including all) on commit drop",
        "insert into of_block values (1, 'x')",
        "insert into others select id, v from of_block on conflict do nothing",
        "commit",
        "drop table batch",
        "create table pg_temp.of_schema as select 1 as id",
        "insert into of_schema values (2)",
        "discard temp",
        "discard all",
        "vacuum things",
        "analyze",
        "vacuum (full off, analyze) others",
    ];
    for (extended, sql) in [false, true]
        .into_iter()
        .flat_map(|e| steps.map(|sql| (e, sql)))
    {
        step(&mut client, sql, extended);
    }
    // By parameters, and by a session that has prepared its statements before.
    step(&mut client, "create temp table batch (id int)", false);
    for number in ["1", "2", "3"] {
        let said = client.extended("insert into batch values ($1::int)", &[number]);
        assert!(said.iter().all(|answer| answer.tag != b'E'), "{said:?}");
    }
    step(&mut client, "select 1", false);
    assert_eq!(client.one("select count(*) from batch"), "3");
    // What else such a statement writes to is void.
    let mut other = site.client();
    let count = "select count(*) from others where id between 100 and 199";
    assert_eq!(other.one(count), "0");
    step(
        &mut client,
        "insert into others select id + 100, 'x' from batch",
        false,
    );
    assert_eq!(other.one(count), "3");
    step(
        &mut client,
        "delete from others using batch where others.id = batch.id + 100",
        true,
    );
    assert_eq!(other.one(count), "0");
}

#[test]
fn what_builds_indexes_anew_may_change_answers_but_no_plan() {
    let site = Site::new("temporaries_rebuilt");
    let mut client = site.client();
    for sql in [
        "vacuum full things",
        "vacuum (analyze, full) things",
        "reindex table things",
        "reindex (verbose) index things_pkey",
        "cluster things using things_pkey",
    ] {
        let mut reader = site.keep(1);
        let before = epoch(&site.router);
        client.run(sql);
        assert_eq!(asked(&mut reader, 1), "behind", "{sql}");
        assert_eq!(epoch(&site.router), before, "{sql}");
    }
}

#[test]
fn a_temporary_table_that_carries_something_further_is_no_such_table() {
    let (site, _turn) = (site(), turn());
    // How it is made, and the statement that changes the row further.
    let of_trigger =
        "create trigger further before insert on batch for each row execute function marks()";
    for (made, writes) in [
        (
            vec!["create temp table batch (id int)", of_trigger],
            "insert into batch values (2)",
        ),
        (
            vec![
                "create temp table batch (id int)",
                "do $$ begin create trigger further before insert on batch for each row execute function marks(); end $$",
            ],
            "insert into batch values (2)",
        ),
        (
            vec!["create temp table batch (other int, id int default mark(2))"],
            "insert into batch (other) values (1)",
        ),
        (
            vec!["create temp table batch (id int check (mark(id) > 0))"],
            "insert into batch values (2)",
        ),
        (
            vec![
                "create temp table batch (other int)",
                "alter table batch add column id int",
                "alter table batch alter id set default mark(2)",
            ],
            "insert into batch (other) values (1)",
        ),
        (
            vec![
                "alter table marked alter id set default mark(2)",
                "create temp table batch (other int, like marked including defaults)",
            ],
            "insert into batch (other) values (1)",
        ),
        (
            vec![
                "create temp table batch (id int)",
                "create rule further as on insert to batch do also select mark(2)",
            ],
            "insert into batch values (1)",
        ),
        (
            vec!["create temp view batch as select mark(2) as id"],
            "select * from batch",
        ),
        (
            vec!["create temp table batch (id int)"],
            "insert into batch values (mark(2))",
        ),
        (
            vec!["create temp table batch as select 1 as id"],
            "update batch set id = mark(2)",
        ),
        (vec![], "create temp table batch as select mark(2) as id"),
        (vec![], "select mark(2) as id into temp batch"),
        (
            vec!["create temp table batch (id int)"],
            "explain analyze update batch set id = mark(2) where mark(2) > 0",
        ),
        (
            vec!["create temp table batch (id int)"],
            "with moved as (update things set v = 'further' where id = 2 returning id) insert into batch select id from moved",
        ),
    ] {
        let mut client = site.client();
        for sql in &made {
            client.run(sql);
        }
        let mut reader = site.keep(2);
        client.run(writes);
        let direct = Client::connect(&site.shard).one("select v from things where id = 2");
        // A view may be read without being run, an UPDATE find no row.
        assert_eq!(asked(&mut reader, 2), direct, "{made:?} {writes}");
        if !writes.starts_with("explain") {
            assert_eq!(direct, "further", "{made:?} {writes}");
        }
    }
}

#[test]
fn a_table_of_a_temporary_ones_name_is_another() {
    let (site, _turn) = (site(), turn());
    let mut reader = site.keep(3);
    // The session that has a temporary table reads that; the others go on.
    let mut client = site.client();
    client.run("create temp table things (id int, v text)");
    client.run("insert into things values (3, 'mine')");
    assert_eq!(asked(&mut client, 3), "mine");
    assert_eq!(asked(&mut client, 3), "mine");
    client.run("update public.things set v = 'theirs' where id = 3");
    assert_eq!(asked(&mut reader, 3), "theirs");
    assert_eq!(asked(&mut client, 3), "mine");
    client.run("drop table things");
    assert_eq!(asked(&mut client, 3), "theirs");
    // A name that was a temporary table's once is a table's that all see.
    client.run("begin; create temp table late (id int, v text) on commit drop; commit");
    client.run("create table late (id int primary key, v text)");
    client.run("insert into late values (1, 'first')");
    let late = "select v from late where id = 1";
    assert_eq!(reader.one(late), "first");
    assert_eq!(reader.one(late), "first");
    client.run("update late set v = 'second'");
    assert_eq!(reader.one(late), "second");
    let before = epoch(&site.router);
    client.run("drop table late");
    assert_ne!(epoch(&site.router), before);
    assert_eq!(reader.error(late), "42P01");
    // What is made beside a temporary one is none.
    client.run("create temp table source (id int primary key)");
    let before = epoch(&site.router);
    client.run("create table made as select * from pg_temp.source");
    assert_ne!(epoch(&site.router), before);
    client.run("drop table made");
    client.run("create schema bare; set search_path = bare, pg_temp, public");
    let before = epoch(&site.router);
    client.run("create table made_in (id int)");
    assert_ne!(epoch(&site.router), before);
    client.run("drop table made_in");
    client.run("drop schema bare; reset search_path");
    // Made behind the router's back, and dropped by a session that had a temporary one of the name.
    Client::connect(&site.shard).run("create table late (id int)");
    let before = epoch(&site.router);
    client.run("drop table late");
    assert_ne!(epoch(&site.router), before, "the shard's schema is another");
}

#[test]
fn a_session_with_state_is_given_kept_answers_if_it_has_made_nothing_temporary() {
    let (site, _turn) = (site(), turn());
    let table = "create temp table batch (id int, v text)";
    for (state, given) in [
        (vec!["listen news"], "first"),
        (vec!["select pg_advisory_lock(6)"], "first"),
        (vec!["declare c cursor with hold for select 1"], "first"),
        (vec![table], "behind"),
        (vec!["begin", table, "commit"], "behind"),
        (
            vec![
                table,
                "insert into batch select id, v from others",
                "create index on batch (id)",
                "drop table batch",
            ],
            "behind",
        ),
        (
            vec!["create temp table batch as select id from others"],
            "behind",
        ),
        (vec!["do $$ begin end $$"], "behind"),
        (vec!["create temp view batch as select 1"], "behind"),
        (vec!["select 1 as id into temp batch"], "behind"),
        (
            vec!["create temp table batch (id int default mark(0))"],
            "behind",
        ),
        (
            vec![
                table,
                "insert into batch values (6, 'mine')",
                "alter table batch rename to things",
            ],
            "mine",
        ),
        (
            vec!["create temp table things as select 6 as id, 'mine' as v"],
            "mine",
        ),
        (
            vec!["create temp view things as select 6 as id, 'mine' as v"],
            "mine",
        ),
        (
            vec!["do $$ begin create temp table things as select 6 as id, 'mine' as v; end $$"],
            "mine",
        ),
    ] {
        let mut reader = site.keep(6);
        let mut client = site.client();
        for sql in &state {
            client.run(sql);
        }
        if asked(&mut reader, 6) != "first" {
            // The state was a change that voids; what is kept now is what is there.
            Client::connect(&site.shard).run("update things set v = 'first' where id = 6");
            reader.run("select keyway.cache_flush('things')");
            assert_eq!(asked(&mut reader, 6), "first");
            Client::connect(&site.shard).run("update things set v = 'behind' where id = 6");
        }
        for way in [false, true] {
            let sql = "select v from things where id = 6";
            let said = if way {
                client.extended(sql, &[])
            } else {
                client.simple(sql)
            };
            assert_eq!(rows_of(&said), [[given]], "{state:?}");
        }
        assert_eq!(asked(&mut reader, 6), "first", "{state:?}");
    }
}

#[test]
fn a_table_that_is_made_later_does_not_show_through_a_temporary_one() {
    let (site, _turn) = (site(), turn());
    let (mut client, mut other) = (site.client(), site.client());
    client.run("create temp table later (id int, v text)");
    client.run("insert into later values (1, 'mine')");
    other.run("create table later (id int primary key, v text)");
    other.run("insert into later values (1, 'theirs')");
    let sql = "select v from later where id = 1";
    for _ in 0..2 {
        assert_eq!(other.one(sql), "theirs");
        assert_eq!(client.one(sql), "mine");
        assert_eq!(rows_of(&client.extended(sql, &[])), [["mine"]]);
    }
    // And what it writes to its own leaves theirs as it is.
    client.run("update later set v = 'still mine'");
    assert_eq!(
        (other.one(sql), client.one(sql)),
        ("theirs".to_owned(), "still mine".to_owned())
    );
    other.run("drop table later");
}

#[test]
fn an_event_trigger_may_change_anything() {
    let (site, _turn) = (site(), turn());
    let mut client = site.client();
    client.run("create function on_ddl() returns event_trigger language plpgsql as $$ begin perform mark(4); end $$");
    client.run("create event trigger further on ddl_command_end execute function on_ddl()");
    let mut reader = site.keep(4);
    client.run("create temp table batch (id int)");
    assert_eq!(asked(&mut reader, 4), "further");
    let mut reader = site.keep(4);
    client.run("create index on batch (id)");
    assert_eq!(asked(&mut reader, 4), "further");
    client.run("drop event trigger further");
    client.run("drop function on_ddl()");
}

#[test]
fn a_name_of_two_schemas_is_read_without_voiding_others() {
    let (site, _turn) = (site(), turn());
    let mut reader = site.keep(5);
    let mut client = site.client();
    client.run("set search_path = tenant, public");
    client.run("insert into tenant.things values (5, 'of the tenant') on conflict do nothing");
    for _ in 0..3 {
        assert_eq!(asked(&mut client, 5), "of the tenant");
        assert_eq!(asked(&mut reader, 5), "first", "reading voids nothing");
    }
    client.run("update things set v = 'changed' where id = 5");
    assert_eq!(asked(&mut client, 5), "changed");
    // The schema's view writes, if it is the one that is meant.
    let mut reader = site.keep(1);
    client.run("select * from others");
    assert_eq!(asked(&mut reader, 1), "further");
}

#[test]
fn upkeep_that_fails_on_one_shard_leaves_its_table_in_use() {
    let env: Env = Setup {
        name: "upkeep",
        tables: "kept = { key = \"id\" }",
        schema: "create table kept (id int primary key, v text);",
        ..Setup::default()
    }
    .start();
    let mut client = env.client();
    client.run("insert into kept values (1, 'x')");
    client.run("vacuum kept");
    client.run("analyze kept");
    env.direct("s2").run("alter table kept rename v to w");
    assert_eq!(client.error("vacuum (analyze) kept (v)"), "42703");
    assert_eq!(client.error("analyze kept (v)"), "42703");
    assert_eq!(client.one("select count(*) from kept"), "1");
    env.direct("s2").run("alter table kept rename w to v");
    client.run("vacuum (analyze) kept (v)");
    // In a transaction it is nothing that keeps rows of one shard from being written.
    client.run("begin");
    client.run("insert into kept values (2, 'y')");
    client.run("analyze kept");
    client.run("commit");
    assert_eq!(
        rows_of(&client.simple("select id from kept order by id")),
        [["1"], ["2"]]
    );
}
