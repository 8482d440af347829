//! A database of one shard behind a pool of one connection: everything PostgreSQL does, and nothing that one client does
//! to its server is there for the next.

use std::sync::OnceLock;

use crate::harness::{PASSWORD, Router, cluster, create_database, direct_target, eventually};
use crate::raw::{
    Client, Message, Target, Value, bind, describe, execute, message, parse, query, rows_of, sync,
    terminate,
};

const SCHEMA: &str = "create table talk (id int primary key, name text); grant all on talk to public; create table v (id int primary key, name text); insert into v values (1, 'one'), (2, 'two'); create role lone_bob;";

/// The router, and the same database on a plain PostgreSQL.
pub(crate) fn env() -> &'static (Router, Target, Target) {
    static ENV: OnceLock<(Router, Target, Target)> = OnceLock::new();
    ENV.get_or_init(|| {
        for database in ["lone", "lone_plain"] {
            create_database(database);
        }
        Client::connect(&direct_target("lone")).run(SCHEMA);
        let without_role = SCHEMA.split(" create role").next().unwrap();
        Client::connect(&direct_target("lone_plain")).run(without_role);
        let router = Router::start(&format!(
            "workers = 1\n[users.app]\npassword = \"{PASSWORD}\"\n[shards.only]\nprimary = \"{}\"\n\
             [databases.app]\nkeyspaces = [\"main\", \"keyed\"]\ndefault = \"main\"\n\
             [keyspaces.main]\nshards = [\"only\"]\n[keyspaces.keyed]\nshards = [\"only\"]\n\
             [keyspaces.keyed.tables]\nlone_keyed = {{ key = \"id\" }}\n\
             [pool]\nsize = 1\ncheckout_timeout = \"20s\"\n",
            cluster().dsn("lone")
        ));
        let target = Target {
            port: router.port,
            user: "app".to_owned(),
            database: "app".to_owned(),
            password: PASSWORD.to_owned(),
        };
        (router, target, direct_target("lone_plain"))
    })
}

pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What both say to the same requests, each answered before the next; errors and notices by SQLSTATE.
fn same(requests: &[Vec<u8>]) {
    let (_, target, plain) = env();
    let answer = |target: &Target| -> Vec<String> {
        let mut client = Client::connect(target);
        let mut lines = Vec::new();
        for request in requests {
            client.send(request).expect("send");
            match client.until_ready() {
                Ok(messages) => lines.extend(messages.iter().map(shown)),
                Err(error) => lines.push(format!("{:?}", error.kind())),
            }
            lines.push(format!("Z {}", char::from(client.status)));
        }
        let _ = client.send(&terminate());
        lines
    };
    let (keyway, postgres) = (answer(target), answer(plain));
    let asked: Vec<_> = requests
        .iter()
        .map(|r| String::from_utf8_lossy(r).into_owned())
        .collect();
    assert_eq!(
        keyway, postgres,
        "keyway (left) and PostgreSQL (right): {asked:?}"
    );
}

pub(crate) fn shown(message: &Message) -> String {
    match message.tag {
        b'E' | b'N' => format!("{} {}", char::from(message.tag), message.sqlstate()),
        // Tables have other OIDs on another server.
        b'T' => format!(
            "T {:?}",
            message
                .columns()
                .iter()
                .map(|c| (c.name.clone(), c.type_oid, c.format))
                .collect::<Vec<_>>()
        ),
        _ => format!("{message:?}"),
    }
}

fn batch(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[], 0), execute("", 0)].concat()
}

/// After `sql` by a client that stays, or that leaves, the next client sees what a new session sees.
fn leaves_nothing(sql: &[&str], probe: &str) {
    let _turn = turn();
    let (_, target, plain) = env();
    let fresh = Client::connect(plain).simple(probe);
    let fresh: Vec<String> = fresh.iter().map(shown).collect();
    for stays in [false, true] {
        let mut first = Client::connect(target);
        for text in sql {
            let messages = first.simple(text);
            assert!(
                messages.iter().all(|m| m.tag != b'E'),
                "{text}: {messages:?}"
            );
        }
        if !stays {
            first.bye();
            let mut next = Client::connect(target);
            let seen: Vec<String> = next.simple(probe).iter().map(shown).collect();
            assert_eq!(
                seen, fresh,
                "after {sql:?}: next client (left), new session (right)"
            );
            next.bye();
            continue;
        }
        // Beside it, the next client waits for a server, or gets a clean one.
        let mut next = Client::connect(target);
        next.send(&query(probe)).expect("send");
        first.bye();
        let seen = next.until_ready().expect("an answer");
        let seen: Vec<String> = seen.iter().map(shown).collect();
        assert_eq!(seen, fresh, "beside {sql:?}");
        next.bye();
    }
}

#[test]
fn temporary_objects_are_their_sessions_own() {
    // Its own: those of a server that is closing go when its process ends.
    let gone =
        "select count(*) from pg_class where relnamespace = pg_my_temp_schema() and relkind <> 'i'";
    for create in [
        "create temp table lk (secret text)",
        "create table pg_temp.lk (secret text)",
        "create table \"pg_temp\".lk as select 1 as x",
        "create temporary table lk as select 1 as x",
        "create temp view lk as select 1 as x",
        "create or replace temp view lk as select 1 as x",
        "create temp sequence lk",
        "select 42 as x into temp lk",
        "select 42 as x into temporary table lk",
        "select 42 as x into pg_temp.lk",
        "explain analyze select 42 as x into temp lk",
        "explain analyze create temp table lk as select 1",
        "do $$ begin create temp table lk (x int); end $$",
        "begin; create temp table lk (x int); commit",
        "set search_path to pg_temp, public; create table lk (x int)",
    ] {
        leaves_nothing(&[create], gone);
    }
    let functions = "select count(*) from pg_proc where pronamespace = pg_my_temp_schema()";
    leaves_nothing(
        &["create function pg_temp.f() returns int language sql as 'select 1'"],
        functions,
    );
}

#[test]
fn what_code_sets_is_its_sessions_own() {
    let probe = "select current_user = session_user, current_setting('work_mem'), current_setting('search_path'), coalesce(current_setting('my.v', true), 'missing')";
    for change in [
        "do $$ begin perform set_config('role', 'lone_bob', false); end $$",
        "do $$ begin perform set_config('search_path', 'pg_catalog', false); end $$",
        "begin; do $$ begin perform set_config('work_mem', '3MB', false); end $$; commit",
        "create table lone_made as select set_config('work_mem', '3MB', false); drop table lone_made",
        "update pg_settings set setting = '3MB' where name = 'work_mem'",
        "begin; set local my.v = 'x'; select 1; commit",
        "begin; set my.v = 'x'; rollback",
        "begin; savepoint a; set my.v = 'x'; rollback to a; commit",
        "set my.v = 'x'",
        "select set_config('my.v', 'x', false)",
    ] {
        leaves_nothing(&[change], probe);
    }
    // Its own: those of a server that is closing go when its process ends.
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    leaves_nothing(
        &[
            "create table lone_made as select pg_advisory_lock(77)::text as x",
            "drop table lone_made",
        ],
        locks,
    );
    leaves_nothing(&["do $$ begin perform pg_advisory_lock(78); end $$"], locks);
}

#[test]
fn set_config_follows_its_session_through_everything() {
    let _turn = turn();
    // PostgreSQL leaves an empty setting behind where one was set and rolled back.
    let get = |name: &str| format!("nullif(current_setting('app.{name}', true), '')");
    let read = query(&format!("select {}, {}", get("a"), get("b")));
    let set = |name: &str| format!("select set_config('app.{name}', '1', false)");
    // Two in one message, or batch.
    same(&[query(&format!("{}; {}", set("a"), set("b"))), read.clone()]);
    same(&[
        [batch(&set("a")), batch(&set("b")), sync()].concat(),
        read.clone(),
    ]);
    // One that fails, or is never executed, sets nothing.
    same(&[
        query(&format!("{}; select from where (", set("a"))),
        query("select 1"),
        read.clone(),
    ]);
    same(&[
        [batch(&set("a")), batch("select 1 / 0"), sync()].concat(),
        query("select 1"),
        read.clone(),
    ]);
    same(&[
        [parse("", &set("a"), &[]), bind("", "", &[], 0), sync()].concat(),
        query("select 1"),
        read.clone(),
    ]);
    same(&[query("begin"), query(&set("a")), query("rollback"), read]);
}

#[test]
fn local_settings_reach_the_rest_of_their_message() {
    let _turn = turn();
    let show = "select current_setting('work_mem'), current_setting('transaction_isolation')";
    for set in [
        "set local work_mem = '3MB'",
        "set transaction isolation level serializable",
        "set local transaction_isolation = 'serializable'",
        "set constraints all deferred",
    ] {
        same(&[query(&format!("{set}; {show}")), query(show)]);
        same(&[query(set), query(show)]);
        same(&[[batch(set), batch(show), sync()].concat(), query(show)]);
        same(&[
            query("begin"),
            query(set),
            query(show),
            query("commit"),
            query(show),
        ]);
    }
    same(&[query(
        "set local role pg_read_all_data; select current_user = 'pg_read_all_data'",
    )]);
    same(&[query(
        "declare c cursor for select id from v order by id; fetch 1 from c; close c",
    )]);
}

#[test]
fn a_message_that_does_not_parse_does_nothing() {
    let _turn = turn();
    for text in [
        "select 1; selct 2",
        "begin; insert into v values (300, 'x'); commit; selct 1",
        "insert into v values (300, 'x'); begin; selct 1",
        "create table lone_new (x int); selct 1",
        "select 1; selct 2; select 3",
    ] {
        same(&[
            query(text),
            query("rollback"),
            query("select count(*) from v"),
        ]);
        same(&[
            query("begin"),
            query("insert into v values (301, 'y')"),
            query(text),
            query("rollback"),
            query("select count(*) from v"),
        ]);
    }
    // What is only unusual runs, also when it needs what the message made before.
    same(&[query(
        "create table lone_new (x int); insert into lone_new values (1); alter table lone_new set (fillfactor = 70); select * from lone_new; drop table lone_new",
    )]);
}

#[test]
fn do_may_commit() {
    let _turn = turn();
    let text = "do $$ begin insert into v values (500, 'kept'); commit; insert into v values (501, 'gone'); rollback; end $$";
    same(&[
        query(text),
        query("select id from v where id >= 500 order by id"),
        query("delete from v where id >= 500"),
    ]);
    same(&[query("begin"), query(text), query("rollback")]);
    same(&[
        [batch(text), sync()].concat(),
        query("delete from v where id >= 500"),
    ]);
}

#[test]
fn a_sync_after_copy_is_answered() {
    let _turn = turn();
    let copies: [&[Vec<u8>]; 2] = [
        &[message(b'd', b"700\tcopied\n"), message(b'c', b"")],
        &[message(b'f', b"given up\0")],
    ];
    for data in copies {
        let copy = [query("copy v from stdin"), data.concat()].concat();
        let after: [Vec<u8>; 6] = [
            sync(),
            [batch("begin"), sync()].concat(),
            [batch("set work_mem = '3MB'"), sync()].concat(),
            [batch(""), sync()].concat(),
            [bind("", "nowhere", &[], 0), sync()].concat(),
            [batch("select count(*) from v"), sync()].concat(),
        ];
        for next in after {
            same(&[
                copy.clone(),
                next,
                query("rollback"),
                query("delete from v where id = 700"),
            ]);
        }
    }
}

#[test]
fn a_client_is_told_of_its_own_parameters_only() {
    let _turn = turn();
    let (_, target, _) = env();
    let connect =
        |name: &str| Client::try_connect(target, &[("application_name", name)]).expect("a login");
    let mut a = connect("its own secret");
    let mut b = connect("another");
    for _ in 0..3 {
        for (client, name) in [(&mut a, "its own secret"), (&mut b, "another")] {
            let messages: Vec<Message> = ["begin", "select 1", "commit"]
                .iter()
                .flat_map(|sql| client.simple(sql))
                .collect();
            for told in messages.iter().filter(|m| m.tag == b'S') {
                let text = String::from_utf8_lossy(&told.body).into_owned();
                assert!(text.contains(name), "{name} is told {text:?}");
            }
            let known = client.one("select current_setting('application_name')");
            assert_eq!(known, name);
        }
    }
    a.bye();
    b.bye();
    eventually("the pool is free again", || {
        let mut client = Client::connect(target);
        (rows_of(&client.simple("select 1")) == [["1"]]).then_some(())
    });
}

#[test]
fn a_servers_own_defaults_are_the_sessions() {
    let _turn = turn();
    let (_, target, plain) = env();
    // Greeted before the defaults change.
    Client::connect(target).bye();
    let defaults = [
        "standard_conforming_strings = off",
        "default_transaction_isolation = 'repeatable read'",
        "search_path = lone_other, public",
    ];
    let probe = r"select count(*) from v where name <> 'a\' and id = 1 -- '";
    for database in ["lone", "lone_plain"] {
        let mut client = Client::connect(&direct_target(database));
        client.run("create schema lone_other; create table lone_other.here (x int)");
        for default in defaults {
            client.run(&format!("alter database {database} set {default}"));
        }
        client.run(&format!("select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = '{database}' and pid <> pg_backend_pid()"));
    }
    let says = |target: &Target, set: Option<(&str, &str)>| {
        let more: Vec<(&str, &str)> = set.into_iter().collect();
        let mut client = Client::try_connect(target, &more).expect("a login");
        let mut lines = Vec::new();
        for sql in [
            probe,
            "show standard_conforming_strings",
            "show default_transaction_isolation",
            "show search_path",
            "select 'here'::regclass",
            "begin",
            "show transaction_isolation",
            "commit",
            "set standard_conforming_strings = on",
            r"select 'a\'",
            "reset standard_conforming_strings",
            "show standard_conforming_strings",
            "discard all",
            "show search_path",
        ] {
            lines.extend(
                client
                    .simple(sql)
                    .iter()
                    .filter(|m| m.tag != b'S')
                    .map(shown),
            );
        }
        lines
    };
    // Sessions that are greeted anew: settings of their own tell them from those before.
    for number in 0..3 {
        let name = format!("defaults {number}");
        let mine = Some(("application_name", name.as_str()));
        assert_eq!(says(target, mine), says(plain, mine));
    }
    for database in ["lone", "lone_plain"] {
        let mut client = Client::connect(&direct_target(database));
        client.run(&format!("alter database {database} reset all"));
        client.run("drop schema lone_other cascade");
    }
    // A session greeted before is as it was.
    assert_eq!(says(target, None).len(), says(plain, None).len());
}

/// A default by which Keyway would find other rows than the server has is said at login.
#[test]
fn a_servers_default_that_reads_otherwise_is_refused() {
    let _turn = turn();
    let (_, target, _) = env();
    let mut owner = Client::connect(&direct_target("lone"));
    for (number, (name, value, usual)) in [
        ("transform_null_equals", "on", "off"),
        ("array_nulls", "off", "on"),
        ("search_path", "public, keyway", "public"),
    ]
    .into_iter()
    .enumerate()
    {
        owner.run(&format!("alter database lone set {name} = {value}"));
        owner.run("select pg_terminate_backend(pid, 20000) from pg_stat_activity where datname = 'lone' and pid <> pg_backend_pid()");
        // A session of its own settings is greeted anew.
        let login = format!("otherwise {number}");
        let options = format!("-c {name}={usual}");
        let refused = Client::try_connect(target, &[("application_name", &login)]).err();
        let refused = refused.map(|refused| refused.sqlstate());
        assert_eq!(refused.as_deref(), Some("0A000"), "{name}");
        let mut client = Client::try_connect(
            target,
            &[("application_name", &login), ("options", &options)],
        )
        .unwrap_or_else(|refused| panic!("{name}: {}", refused.sqlstate()));
        assert_eq!(client.one(&format!("show {name}")), usual);
        client.bye();
        owner.run("alter database lone reset all");
    }
    owner.bye();
}

#[test]
fn a_statement_stays_what_its_client_was_told() {
    let _turn = turn();
    let run = |name: &str| [bind("", name, &[], 1), execute("", 0), sync()].concat();
    let described = |name: &str, kind: u8| {
        [
            bind("", name, &[], 1),
            describe(kind, if kind == b'S' { name } else { "" }),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let parsed = |sql: &str| [parse("s", sql, &[]), sync()].concat();
    for (change, back) in [
        (
            "alter table changing alter a type text using 'zzzz'",
            "alter table changing alter a type int using 4",
        ),
        ("set search_path to lone_else, public", "reset search_path"),
        (
            "begin; alter table changing alter a type text using 'zzzz'",
            "rollback",
        ),
        (
            "alter table changing rename a to b",
            "alter table changing rename b to a",
        ),
        (
            "alter table changing add c int",
            "alter table changing drop c",
        ),
    ] {
        for kind in [b'S', b'P'] {
            same(&[
                query(
                    "create schema lone_else; create table changing (a int); insert into changing values (7); create table lone_else.changing (a text); insert into lone_else.changing values ('else')",
                ),
                parsed("select * from changing"),
                described("s", kind),
                run("s"),
                query(change),
                run("s"),
                run("s"),
                described("s", kind),
                query("rollback"),
                query(back),
                run("s"),
                query("drop schema lone_else cascade; drop table changing"),
            ]);
        }
    }
    // A change elsewhere changes nothing.
    same(&[
        query("create table changing (a int); insert into changing values (7)"),
        parsed("select a from changing"),
        described("s", b'S'),
        query("create table lone_new (x int); drop table lone_new"),
        run("s"),
        query("alter table changing add c int"),
        run("s"),
        query("drop table changing"),
    ]);
}

#[test]
fn small_things_are_as_postgresql_says() {
    let _turn = turn();
    same(&[
        query("set search_path to a, b_2, \"C\", \"with space\""),
        query("show search_path"),
        query("set search_path to ''"),
        query("show search_path"),
        query("set search_path to default"),
        query("show search_path"),
    ]);
    // What stands in a message is read by one setting, from its first statement to its last.
    same(&[query(
        r"set standard_conforming_strings = on; select 'a\'; select 2",
    )]);
    let mut client = Client::connect(&env().1);
    let message = r"set standard_conforming_strings = off; select 'a\\'; select 2";
    assert_eq!(client.error(message), "0A000");
    client.bye();
}

#[test]
fn now_is_when_each_session_parsed_it() {
    let _turn = turn();
    let (_, target, _) = env();
    let (mut a, mut b) = (Client::connect(target), Client::connect(target));
    let whole = [
        parse("", "select 'now'::timestamptz::text", &[]),
        bind("", "", &[], 0),
        execute("", 0),
        sync(),
    ]
    .concat();
    let again = [bind("", "", &[], 0), execute("", 0), sync()].concat();
    // The first rounds teach the fast path.
    for _ in 0..3 {
        let first = rows_of(&a.exchange(&whole));
        let other = rows_of(&b.exchange(&whole));
        assert_ne!(first, other);
        let same_text = rows_of(&a.exchange(&again));
        assert_ne!(same_text, other, "another session's now");
    }
    a.bye();
    b.bye();
}

#[test]
fn a_pin_ends_with_discard_and_may_come_again() {
    let _turn = turn();
    let (_, target, _) = env();
    let mut client = Client::connect(target);
    for _ in 0..3 {
        client.run("select pg_advisory_lock(99)");
        assert_eq!(client.one("select count(*) from v"), "2");
        client.run("discard all");
        assert_eq!(client.one("select count(*) from v"), "2");
        let mut other = Client::connect(target);
        assert_eq!(other.one("select pg_try_advisory_lock(99)"), "t");
        other.bye();
    }
    client.bye();
}

/// What only is not understood costs nobody the server.
#[test]
fn ordinary_writes_pin_nothing() {
    let _turn = turn();
    let (_, target, _) = env();
    let mut stays = Client::connect(target);
    stays.run("create view lone_view as select id, name from v");
    stays.run("create table lone_ruled (x int)");
    stays.run("create rule r as on delete to lone_ruled do also select 1");
    stays.run("create function lone_default() returns int language sql stable as 'select 1'");
    stays.run("create table lone_defaulted (x int default lone_default(), y int)");
    stays.run("create table lone_keyed (id int primary key, x int default lone_default())");
    stays.run("create view lone_keyed_view as select id from lone_keyed");
    stays.bye();
    let mut stays = Client::connect(target);
    let mut other = Client::connect(target);
    for write in [
        "insert into lone_view values (900, 'by view')",
        "update lone_view set name = 'again' where id = 900",
        "delete from lone_view where id = 900",
        "delete from lone_ruled",
        "insert into lone_defaulted (y) values (1)",
        "insert into lone_keyed (id) values (1)",
        "delete from lone_keyed_view where id = 1",
        "with gone as (delete from lone_defaulted returning y) select count(*) from gone",
    ] {
        stays.run(write);
        // The pool has one connection: a pinned one would not come back while the other client is there.
        assert_eq!(
            other.one("select name from v where id = 1"),
            "one",
            "after {write}"
        );
    }
    stays.run(
        "drop view lone_view, lone_keyed_view; drop table lone_ruled, lone_defaulted, lone_keyed; drop function lone_default()",
    );
    stays.bye();
    other.bye();
}

#[test]
fn what_sql_prepared_stays_what_its_client_was_told() {
    let _turn = turn();
    same(&[
        query("create table changing (a int); insert into changing values (7)"),
        query("prepare s (int) as select a from changing where a > $1"),
        [describe(b'S', "s"), sync()].concat(),
        query("alter table changing add c int"),
        [
            bind("", "s", &[Value::text("1")], 0),
            execute("", 0),
            sync(),
        ]
        .concat(),
        query("alter table changing alter a type text using 'zzzz'"),
        [
            bind("", "s", &[Value::text("1")], 0),
            execute("", 0),
            sync(),
        ]
        .concat(),
        query("deallocate s"),
        query("drop table changing"),
    ]);
}

/// The pool has one connection: a client that keeps it keeps all others from the database.
fn is_served(other: &mut Client, after: &str) {
    let messages = other.simple("select name from v where id = 1");
    assert!(
        messages.iter().all(|m| m.tag != b'E'),
        "after {after}: {messages:?}"
    );
}

#[test]
fn what_does_not_parse_keeps_no_server() {
    let _turn = turn();
    let (_, target, _) = env();
    let mut stays = Client::connect(target);
    let mut other = Client::connect(target);
    let both = |sql: &str| [query(sql), [batch(sql), sync()].concat()];
    for sql in [
        "selec",
        "select * frm v",
        "select 1 from",
        "call nosuch()",
        "listen",
        "select setval('nosuch', 1)",
        "select pg_advisory_lock(nosuch)",
        "create temp table broken (",
    ] {
        for request in both(sql) {
            stays.send(&request).expect("send");
            let messages = stays.until_ready().expect("an answer");
            assert!(messages.iter().any(|m| m.tag == b'E'), "{sql}: no error");
            is_served(&mut other, sql);
        }
    }
    // In a transaction, and behind another failure.
    stays.run("begin");
    stays.send(&query("selec")).expect("send");
    stays.until_ready().expect("an answer");
    stays.run("rollback");
    is_served(&mut other, "selec in a transaction");
    let behind = [
        batch("select 1 / 0"),
        batch("select pg_advisory_lock(9)"),
        sync(),
    ];
    stays.send(&behind.concat()).expect("send");
    stays.until_ready().expect("an answer");
    is_served(&mut other, "a lock that was not reached");
    stays.bye();
    other.bye();
}

/// An error may come after a function has taken a lock that no ROLLBACK gives back.
#[test]
fn what_fails_while_it_runs_keeps_its_server() {
    let _turn = turn();
    let (_, target, plain) = env();
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and database = (select oid from pg_database where datname = 'lone')";
    for sql in [
        "do $$ begin perform pg_advisory_lock(4711); execute 'selec'; end $$",
        "select pg_advisory_lock(4711), 1 / (id - 1) from v order by id using <",
    ] {
        for request in [query(sql), [batch(sql), sync()].concat()] {
            let mut holds = Client::connect(target);
            holds.send(&request).expect("send");
            let messages = holds.until_ready().expect("an answer");
            assert!(messages.iter().any(|m| m.tag == b'E'), "{sql}: no error");
            assert_eq!(holds.one(locks), "1", "{sql}");
            holds.bye();
            let mut watches = Client::connect(plain);
            eventually("the lock to be gone", || {
                (watches.one(locks) == "0").then_some(())
            });
            watches.bye();
        }
    }
}

#[test]
fn functions_that_leave_nothing_keep_no_server() {
    let _turn = turn();
    let (_, target, _) = env();
    let mut stays = Client::connect(target);
    let mut other = Client::connect(target);
    stays.run("create sequence lone_moved");
    for sql in [
        "select pg_table_size('v')",
        "select pg_cancel_backend(0)",
        "select pg_stat_reset()",
        "select lo_unlink(lo_creat(-1))",
        "select setval('lone_moved', 7)",
        "checkpoint",
    ] {
        stays.run(sql);
        is_served(&mut other, sql);
    }
    stays.run("/* keyway: shard=only */ drop sequence lone_moved");
    stays.bye();
    other.bye();
}

#[test]
fn execute_finds_changed_columns_and_evaluates_its_arguments() {
    let _turn = turn();
    same(&[
        query("create table grown (id int, a text); insert into grown values (3, 'three')"),
        query("prepare p (int) as select * from grown where id = $1"),
        query("prepare q (timestamptz) as select $1 > '2000-01-01'"),
        query("prepare r (int) as select a from grown where id = $1"),
        query("execute p(1 + 2)"),
        query("execute q(now())"),
        query("execute p((select 3))"),
        query("execute p(nosuch)"),
        query("alter table grown add b int"),
        query("execute p(3)"),
        query("execute p(2 + 1)"),
        query("execute r(3)"),
        query("execute r(3)"),
        query("deallocate p"),
        query("prepare p (int) as select * from grown where id = $1"),
        query("execute p(3)"),
        query("begin; alter table grown drop b"),
        query("execute p(3)"),
        query("rollback"),
        query("execute p(3)"),
        query("deallocate all"),
        query("drop table grown"),
    ]);
    // What an argument leaves behind is the session's as ever.
    let (_, target, plain) = env();
    let mut holds = Client::connect(target);
    holds.run("prepare l (text) as select $1 is null");
    holds.run("execute l(pg_advisory_lock(4712))");
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = 4712 and database = (select oid from pg_database where datname = 'lone')";
    assert_eq!(holds.one(locks), "1");
    let sets = holds.simple("execute l(set_config('work_mem', '1MB', false))");
    assert!(
        sets.iter()
            .any(|m| m.tag == b'E' && m.sqlstate() == "0A000"),
        "{sets:?}"
    );
    holds.bye();
    let mut watches = Client::connect(plain);
    eventually("the lock to be gone", || {
        (watches.one(locks) == "0").then_some(())
    });
    watches.bye();
}

/// SQL's EXECUTE by a driver that speaks the extended protocol.
#[test]
fn execute_runs_by_the_extended_protocol() {
    let _turn = turn();
    let whole = |sql: &str, oids: &[u32], values: &[Value], format: i16| {
        [
            parse("", sql, oids),
            describe(b'S', ""),
            bind("", "", values, format),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    let plain = |sql: &str| whole(sql, &[], &[], 0);
    same(&[
        whole("execute p(1)", &[], &[], 0),
        whole(
            "prepare p (int) as select id, name from v where id >= $1 order by id",
            &[],
            &[],
            0,
        ),
        plain("execute p(1)"),
        whole("/* first */ execute p(1) ;", &[], &[], 1),
        plain("execute p(1 + 1)"),
        plain("execute p(nosuch)"),
        plain("execute p('x')"),
        plain("execute p"),
        plain("execute p(1, 2)"),
        plain("execute p(1"),
        plain("execute p($1)"),
        whole("execute p($1)", &[23], &[Value::text("1")], 0),
        whole("execute p(1)", &[], &[Value::text("1")], 0),
        // A statement of a driver's is one of SQL's.
        [
            parse("d", "select name from v where id = $1", &[23]),
            sync(),
        ]
        .concat(),
        plain("execute d(2)"),
        query("execute d(2)"),
        [parse("e", "execute d(1)", &[]), describe(b'S', "e"), sync()].concat(),
        [bind("", "e", &[], 1), execute("", 0), sync()].concat(),
        [
            bind("", "e", &[], 0),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat(),
        [message(b'C', b"Sd\0"), sync()].concat(),
        [bind("", "e", &[], 0), execute("", 0), sync()].concat(),
        // Row by row, and in one transaction.
        [
            parse("", "execute p(0)", &[]),
            bind("", "", &[], 0),
            execute("", 1),
            execute("", 1),
            execute("", 0),
            sync(),
        ]
        .concat(),
        query("begin"),
        [
            parse("", "execute p(0)", &[]),
            bind("c", "", &[], 0),
            execute("c", 1),
            sync(),
        ]
        .concat(),
        query("fetch 1 from c"),
        [execute("c", 0), sync()].concat(),
        query("rollback"),
        plain("prepare i (int) as insert into v values ($1, 'n')"),
        plain("execute i(3)"),
        plain("prepare r as delete from v where id > 2 returning id"),
        plain("execute r"),
        plain("execute r"),
        query("begin; select 1/0"),
        plain("execute r"),
        query("rollback"),
        query("select count(*) from v"),
        plain("deallocate p"),
        plain("execute p(1)"),
        query("deallocate all"),
    ]);
}

#[test]
fn a_transaction_that_discards_sequences_has_its_own() {
    let _turn = turn();
    let asks = "select currval('taken_id_seq'), lastval()";
    same(&[
        query("create table taken (id serial, a int unique)"),
        query("begin; discard sequences"),
        query("select lastval()"),
        query("rollback"),
        query("begin; discard sequences"),
        query("savepoint s; insert into taken (a) values (1)"),
        query(asks),
        query("insert into taken (a) values (1)"),
        query("rollback to s"),
        query(asks),
        query("select currval('nosuch')"),
        query("rollback"),
        query("begin; discard sequences; insert into taken (id) values (70)"),
        query(asks),
        query("rollback"),
        query("insert into taken (a) values (3); select lastval()"),
        query("drop table taken"),
    ]);
}

#[test]
fn errors_say_where_in_the_clients_text() {
    let _turn = turn();
    let places = |target: &Target| -> Vec<Option<String>> {
        let mut client = Client::connect(target);
        let mut places = Vec::new();
        for sql in [
            "begin; select 'é'; select nosuch",
            "begin; /* é */ select nosuch from v; select 1",
            "select 1; selec 2",
            "begin; select 1; selec 2",
            "  /* é */ selec 2",
            "begin; insert into v values (1, 2, 3)",
            "begin; prepare p as select nosuch",
            " /* é */ prepare p (int) as select $1, nosuch",
            "begin; alter table v add c nosuch; select 1",
            "begin; set work_mem = = 1",
            "begin; show 1 2",
            "begin; do 5",
        ] {
            let messages = client.simple(sql);
            let error = messages.iter().find(|m| m.tag == b'E').expect(sql);
            places.push(error.field(b'P'));
            client.run("rollback");
        }
        let _ = client.send(&terminate());
        places
    };
    let (_, target, plain) = env();
    assert_eq!(
        places(target),
        places(plain),
        "keyway (left) and PostgreSQL (right)"
    );
}

/// A portal without a name outlives what fails in front of it.
#[test]
fn the_unnamed_portal_of_a_failed_block_is_there() {
    let _turn = turn();
    same(&[
        query("begin"),
        [parse("", "select 1", &[]), bind("", "", &[], 0), sync()].concat(),
        [
            parse("", "select 1/0", &[]),
            bind("f", "", &[], 0),
            execute("f", 0),
            sync(),
        ]
        .concat(),
        [execute("", 0), sync()].concat(),
        query("select 2"),
        [execute("", 0), sync()].concat(),
        query("rollback"),
        [execute("", 0), sync()].concat(),
        query("begin"),
        [parse("", "select 1", &[]), bind("", "", &[], 0), sync()].concat(),
        query("savepoint s"),
        [execute("", 0), sync()].concat(),
        query("rollback"),
    ]);
}

/// PostgreSQL looks up what an EXECUTE runs when its portal is executed; a shard was chosen when it was bound.
#[test]
fn a_bound_execute_whose_statement_changes_is_refused() {
    let _turn = turn();
    let mut client = Client::connect(&env().1);
    for change in [
        "deallocate p",
        "deallocate p; prepare p as select 2",
        "set search_path = x",
    ] {
        client.run("prepare p as select 1");
        client.run("begin");
        let bound = [parse("", "execute p", &[]), bind("c", "", &[], 0), sync()].concat();
        client.exchange(&bound);
        client.run(change);
        let refused = client.exchange(&[execute("c", 0), sync()].concat());
        assert_eq!(refused[0].sqlstate(), "0A000", "{change}: {refused:?}");
        client.run("rollback");
        client.run("deallocate all");
    }
    client.bye();
}

/// A comment in front of a statement about the session is no part of it.
#[test]
fn commands_begin_behind_comments() {
    let _turn = turn();
    let run = |sql: &str| {
        [
            parse("", sql, &[]),
            bind("", "", &[], 0),
            execute("", 0),
            sync(),
        ]
        .concat()
    };
    same(&[
        run("/* é an own query */ prepare behind (int) as select $1 + 1;"),
        run("-- ä\n ; /* b */ set work_mem = '2MB' -- c"),
        run("/* ö */ execute behind (41)"),
        query("show work_mem"),
        run("/* ü */ deallocate behind"),
        run("reset work_mem"),
    ]);
    let mut client = Client::connect(&env().1);
    let route = run("/* keyway: key=1 */ /* é */ explain (route) select 1");
    let rows = rows_of(&client.exchange(&route));
    assert!(rows[0][0].starts_with("Plan: "), "{rows:?}");
}

/// What returns rows is not described in a failed transaction, whoever raised the error.
#[test]
fn a_failed_transaction_describes_no_rows() {
    let _turn = turn();
    for sql in [
        "select id from v where id = $1",
        "insert into v values ($1, 'q') returning id",
        "show work_mem",
        "delete from v where id = $1",
        "explain select 1",
    ] {
        same(&[
            query("begin"),
            // A parameter too many: an error that no server hears of.
            [
                parse("", sql, &[]),
                bind("", "", &[Value::text("1"), Value::text("2")], 0),
                sync(),
            ]
            .concat(),
            [describe(b'S', ""), sync()].concat(),
            query("rollback"),
        ]);
    }
}

/// What was parsed before the error is there to be described.
#[test]
fn a_failed_transaction_describes_what_it_has_parsed() {
    let _turn = turn();
    let update = "update v set name = 'u' where id = 2";
    for rows in [0, 1] {
        same(&[
            [parse("s", "select 1", &[]), sync()].concat(),
            query("begin read only"),
            [
                parse("", update, &[]),
                bind("", "", &[], 0),
                execute("", rows),
                parse("s", "insert into v values ($1, 'p')", &[]),
                bind("", "s", &[Value::text("1")], 0),
                execute("", 0),
                describe(b'S', "s"),
                sync(),
            ]
            .concat(),
            [describe(b'S', ""), sync()].concat(),
            query("rollback"),
        ]);
    }
}

/// A Parse that an error skips takes no statement's place, one that fails leaves none.
#[test]
fn a_failed_transaction_describes_its_unnamed_statement() {
    let _turn = turn();
    let insert = "insert into v values ($1, 'p')";
    let failing = || {
        [
            parse("", insert, &[]),
            bind("", "", &[Value::text("nine")], 0),
            execute("", 1),
        ]
        .concat()
    };
    for (first, then) in [
        (
            failing(),
            parse("", "select name from v where id = $1", &[]),
        ),
        (
            failing(),
            [parse("", "select 1", &[]), parse("", "select 2", &[])].concat(),
        ),
        (parse("", insert, &[]), parse("", "select nothing", &[])),
        (parse("", insert, &[]), parse("s", "select nothing", &[])),
        (
            parse("", insert, &[]),
            [
                parse("", "update v set name = $1", &[]),
                bind("", "", &[Value::text("1"), Value::text("2")], 0),
                parse("", "select 2", &[]),
            ]
            .concat(),
        ),
    ] {
        same(&[
            query("begin"),
            [first, then, sync()].concat(),
            [describe(b'S', ""), sync()].concat(),
            query("rollback"),
            [describe(b'S', ""), sync()].concat(),
        ]);
    }
}

/// A named statement that fails does nothing to the unnamed one.
#[test]
fn a_failed_transaction_keeps_its_unnamed_statement() {
    let _turn = turn();
    let divide = |by| [bind("", "d", &[Value::text(by)], 0), execute("", 0), sync()].concat();
    same(&[
        [parse("d", "select 1 / $1::int", &[]), sync()].concat(),
        [describe(b'S', "d"), sync()].concat(),
        divide("1"),
        query("begin"),
        divide("1"),
        [parse("", "insert into v values ($1, 'p')", &[]), sync()].concat(),
        divide("0"),
        [describe(b'S', ""), sync()].concat(),
        query("rollback"),
    ]);
}

/// Nor does it matter to the description that Keyway raised the error, and no server takes part yet.
#[test]
fn a_failed_transaction_describes_what_no_server_has() {
    let _turn = turn();
    for _ in 0..3 {
        same(&[
            query("begin"),
            [
                parse("", "insert into v values ($1, 'p')", &[]),
                bind("", "", &[], 0),
                execute("", 1),
                sync(),
            ]
            .concat(),
            [describe(b'S', ""), sync()].concat(),
            query("rollback"),
        ]);
    }
}

/// A server that joins a failed transaction, to describe a statement, does not mend it.
#[test]
fn a_failed_transaction_stays_failed() {
    let _turn = turn();
    let insert = "insert into v values ($1, 'p')";
    same(&[
        [parse("s", insert, &[]), sync()].concat(),
        [batch("begin"), parse("s", insert, &[]), sync()].concat(),
        [describe(b'S', "s"), sync()].concat(),
        query("select 1"),
        query("rollback"),
    ]);
}

#[test]
fn isolation_is_fixed_by_what_takes_a_snapshot() {
    let _turn = turn();
    for first in [
        "deallocate all",
        "prepare fixed as select 1",
        "prepare fixed as select 1; deallocate fixed",
        "discard plans",
        "discard sequences",
        "discard temp",
        "show work_mem",
        "set local work_mem = '1MB'",
        "set constraints all deferred",
        "lock table talk",
        "listen fixed",
        "unlisten fixed",
        "checkpoint",
        "select 1",
        "savepoint a",
        "declare c cursor for select 1",
        "close all",
        "explain select 1",
    ] {
        for change in [
            "set transaction isolation level serializable",
            "begin isolation level repeatable read",
            "set transaction read write",
        ] {
            same(&[
                query("begin"),
                query(first),
                query(change),
                query("rollback"),
                query("discard all"),
            ]);
        }
    }
}
