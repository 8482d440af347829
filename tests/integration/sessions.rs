//! What belongs to a session stays with it, although server connections are shared: pools of one connection, two
//! clients, and the state that a first design forgets.

use std::sync::{Barrier, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use crate::harness::{Env, SHARDS, Setup, direct_target, eventually};
use crate::raw::{Client, Message, Value, bind, describe, execute, parse, rows_of, sync, tags};

const TABLES: &str = r##"
people = { key = "id" }
tickets = { key = "user_id" }
"left.same" = { key = "k" }
"right.same" = { key = "k" }
'"Quoted ""Table"""' = { key = '"The Key"' }
secrets = { key = "id" }
hooked = { key = "id" }
parents = { key = "id" }
families = { key = "id" }
counted = { key = "id" }
veiled = { key = "id" }
numbered = { key = "user_id" }
keyed = { key = "k" }
vouched = { key = "user_id", trust = ["vouched_pkey"] }
"##;

const SCHEMA: &str = r#"
create table people (id int primary key, name text, seen timestamptz, born date);
create table tickets (id bigserial primary key, user_id int not null, note text);
create schema "left";
create schema "right";
create table "left".same (k int primary key, v text);
create table "right".same (k int primary key, v text);
create table "Quoted ""Table""" ("The Key" int primary key, "a.b" text);
create table secrets (id int primary key, owner text);
"#;

/// Five shards with one server connection each, used by one test at a time.
fn one_connection() -> (&'static Env, MutexGuard<'static, ()>) {
    static ENV: OnceLock<Env> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let env = ENV.get_or_init(|| {
        let env = Setup {
            name: "sessions",
            pool_size: 1,
            tables: TABLES,
            schema: SCHEMA,
            // Workers keep their own connections; with one worker, one connection stays the same one.
            top: "workers = 1",
            pool: "checkout_timeout = \"5s\"",
            ..Setup::default()
        }
        .start();
        let mut client = env.client();
        for id in 1..=20 {
            client.run(&format!(
                "insert into people values ({id}, 'n{id}', '2024-01-01 00:00+00', '2024-02-01')"
            ));
            client.run(&format!("insert into secrets values ({id}, 'u{}')", id % 2));
        }
        client.run("insert into \"left\".same values (1, 'from left')");
        client.run("insert into \"right\".same values (1, 'from right')");
        client.bye();
        env
    });
    (env, turn)
}

/// Two clients over the same server connections.
fn pair(env: &Env) -> (Client, Client) {
    (env.client(), env.client())
}

#[test]
fn the_schema_applies() {
    let (env, _turn) = one_connection();
    assert!(
        env.schema_failures.is_empty(),
        "{}",
        env.schema_failures.join("\n")
    );
}

#[test]
fn values_that_no_shard_can_compare_are_refused() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let refused = |client: &mut Client, sql: &str| {
        assert_eq!(client.error(sql), "0A000", "{sql}");
    };
    for table in ["numbered", "vouched"] {
        client.run(&format!("create table {table} (id bigserial primary key, user_id int not null, uid uuid default gen_random_uuid())"));
    }
    client.run("insert into numbered (user_id) values (1)");
    client.run("insert into numbered values (default, 2, gen_random_uuid())");
    refused(&mut client, "insert into numbered values (1, 3)");
    refused(&mut client, "update numbered set id = 1 where user_id = 2");
    client.run("update numbered set id = id where user_id = 2");
    // It may hold what the table would not have compared before.
    client.run("insert into numbered (user_id, uid) values (3, '00000000-0000-4000-8000-000000000001'), (3, default)");
    client.run(
        "insert into numbered (user_id, uid) values (2, '00000000-0000-4000-8000-000000000001')",
    );
    refused(
        &mut client,
        "create unique index numbered_uid on numbered (uid)",
    );
    refused(
        &mut client,
        "alter table numbered add constraint numbered_uid unique (uid)",
    );
    for user in 1..=3 {
        client.run(&format!("delete from numbered where user_id = {user}"));
    }
    client.run("create unique index numbered_uid on numbered (uid)");
    client.run("insert into numbered (user_id) values (3)");
    refused(
        &mut client,
        "insert into numbered (user_id, uid) values (2, '00000000-0000-4000-8000-000000000001')",
    );
    // Within the transaction that creates it, no plan knows its columns yet.
    client.run("drop table numbered");
    client.run("begin");
    client.run("create table numbered (id bigserial primary key, user_id int not null)");
    client.run("create index on numbered (user_id)");
    refused(&mut client, "insert into numbered values (1, 3)");
    client.run("rollback");
    client.run("insert into vouched (id, user_id) values (1, 3)");
    client.run("drop table vouched");
    client.bye();
}

#[test]
fn the_types_of_keys_and_the_ranges_of_sequences_are_looked_at() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    client.run("create type feeling as enum ('sad', 'happy')");
    client.run("create domain small_text as varchar(9)");
    client.run("create domain smaller_text as small_text check (length(value) < 5)");
    client.run("create domain felt as feeling");
    client.run(
        "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    for key in ["feeling", "felt", "inet", "text collate ci", "interval"] {
        let sql = format!("create table keyed (k {key} primary key)");
        assert_eq!(client.error(&sql), "0A000", "{sql}");
    }
    for key in [
        "smaller_text",
        "text",
        "char(3)",
        "varchar(3) collate \"C\"",
        "serial",
    ] {
        client.run(&format!("create table keyed (k {key} primary key)"));
        client.run("drop table keyed");
    }
    for options in [
        "start 1000",
        "minvalue 5 start 5",
        "maxvalue 100",
        "cycle",
        "start 7 increment -1 minvalue -9 maxvalue 9",
    ] {
        let sql = format!(
            "create table keyed (k int, n bigint generated always as identity ({options}))"
        );
        assert_eq!(client.error(&sql), "0A000", "{sql}");
        let sql = format!("create sequence chosen {options}");
        assert_eq!(client.error(&sql), "0A000", "{sql}");
    }
    for (of, options) in [
        (
            "bigint",
            "start with 1 increment by 2 no minvalue no maxvalue cache 10 no cycle",
        ),
        ("bigint", "increment -1"),
        ("int", "minvalue 1"),
        ("int", "increment -1"),
    ] {
        client.run(&format!(
            "create table keyed (k int, n {of} generated always as identity ({options}))"
        ));
        client.run("insert into keyed values (1), (1)");
        assert_eq!(
            client.one("select count(distinct n) from keyed where k = 1"),
            "2"
        );
        client.run("drop table keyed");
    }
    // One that was there before has counted: it is not told to begin anew.
    let mut direct = Client::connect(&direct_target("sessions_s0"));
    direct.run("create sequence chosen");
    assert_eq!(direct.one("select nextval('chosen')"), "1");
    client.run("create sequence if not exists chosen");
    assert_eq!(direct.one("select nextval('chosen')"), "2");
    direct.bye();
    client.run("drop sequence chosen");
    client.run("create sequence chosen");
    assert_eq!(client.error("alter sequence chosen cycle"), "0A000");
    client.run("drop sequence chosen");
    client.run("drop collation ci");
    client.run("drop domain felt, smaller_text, small_text");
    client.run("drop type feeling");
    client.bye();
}

#[test]
fn the_catalogs_schema_is_reached_by_no_name() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    for sql in [
        "set search_path = public, keyway",
        "set search_path to \"keyway\"",
        "set schema 'keyway'",
        "select set_config('search_path', 'keyway,public', false)",
        "set role keyway",
        "set local role 'keyway'",
        "set session authorization keyway",
        "select set_config('role', 'keyway', true)",
        "/* keyway: shard=s0 */ select * from keyway.identity",
        "/* keyway: shard=s0 */ copy keyway.settings to stdout",
        "/* keyway: shard=s0 */ do $$ begin perform from keyway.settings; end $$",
    ] {
        assert_eq!(client.error(sql), "0A000", "{sql}");
    }
    client.run("set search_path = public, \"left\"");
    for options in ["-c search_path=keyway", "-c role=keyway"] {
        let refused = Client::try_connect(&env.target, &[("options", options)]);
        assert_eq!(
            refused.err().map(|r| r.sqlstate()).as_deref(),
            Some("0A000"),
            "{options}"
        );
    }
    client.bye();
}

/// `"$user"` is the schema of whatever role the session has taken.
#[test]
fn a_role_finds_its_own_schema() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let plain = "select v from same where k = 1";
    for role in ["left", "right"] {
        let shards = ["s0", "s1", "s2"];
        for (index, shard) in shards.iter().enumerate() {
            let mut direct = Client::connect(&direct_target(&format!("sessions_{shard}")));
            if index == 0 {
                direct.run(&format!("create role \"{role}\""));
            }
            direct.run(&format!("grant usage on schema \"{role}\" to \"{role}\"; grant select on all tables in schema \"{role}\" to \"{role}\""));
            direct.bye();
        }
    }
    assert_eq!(
        client.error(plain),
        "0A000",
        "no schema of the login's name has it"
    );
    client.run("set role \"left\"");
    assert_eq!(client.one(plain), "from left");
    client.run("begin");
    client.run("set local role \"right\"");
    assert_eq!(client.one(plain), "from right");
    client.run("commit");
    assert_eq!(client.one(plain), "from left");
    client.run("reset role");
    client.run("set session authorization \"right\"");
    assert_eq!(client.one(plain), "from right");
    client.run("reset session authorization");
    client.bye();
    for shard in ["s0", "s1", "s2"] {
        let mut direct = Client::connect(&direct_target(&format!("sessions_{shard}")));
        direct.run("drop owned by \"left\", \"right\"");
        direct.bye();
    }
    let mut direct = Client::connect(&direct_target("sessions_s0"));
    direct.run("drop role \"left\", \"right\"");
    direct.bye();
}

#[test]
fn one_server_connection_serves_two_clients() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    for _ in 0..20 {
        assert_eq!(a.one("select name from people where id = 3"), "n3");
        assert_eq!(b.one("select name from people where id = 3"), "n3");
    }
    let pids: Vec<String> = [&mut a, &mut b]
        .into_iter()
        .map(|c| c.one("select pg_backend_pid() from people where id = 3"))
        .collect();
    assert_eq!(pids[0], pids[1], "a pool of one");
    for shard in SHARDS {
        // One that another test's client was left with may still be closing.
        eventually("no shard has more than one", || {
            let servers = env.servers(shard);
            let count = servers.iter().filter(|row| row[1].contains("people"));
            (count.count() <= 1).then_some(())
        });
    }
}

#[test]
fn a_setting_is_its_sessions_own() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    let default = b.one("select current_setting('work_mem') from people where id = 3");
    a.run("set work_mem = '7MB'");
    assert_eq!(
        a.one("select current_setting('work_mem') from people where id = 3"),
        "7MB"
    );
    assert_eq!(
        b.one("select current_setting('work_mem') from people where id = 3"),
        default
    );
    assert_eq!(
        a.one("select current_setting('work_mem') from people where id = 3"),
        "7MB"
    );
    a.run("reset work_mem");
    assert_eq!(
        a.one("select current_setting('work_mem') from people where id = 3"),
        default
    );
    a.run("set work_mem = '9MB'");
    a.run("reset all");
    assert_eq!(
        a.one("select current_setting('work_mem') from people where id = 3"),
        default
    );
}

#[test]
fn a_setting_reverts_with_its_transaction() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    let default = a.one("show work_mem");
    let at_server = "select current_setting('work_mem') from people where id = 3";
    a.run("begin");
    a.run("set work_mem = '7MB'");
    assert_eq!(a.one(at_server), "7MB");
    a.run("rollback");
    assert_eq!(a.one(at_server), default);
    assert_eq!(b.one(at_server), default);
    a.run("begin");
    a.run("select name from people where id = 3");
    a.run("set work_mem = '7MB'");
    a.run("savepoint s");
    a.run("set work_mem = '8MB'");
    a.run("rollback to s");
    assert_eq!(a.one(at_server), "7MB");
    a.run("commit");
    assert_eq!(a.one(at_server), "7MB");
    assert_eq!(b.one(at_server), default);
    a.run("begin");
    a.run("set local work_mem = '5MB'");
    assert_eq!(a.one(at_server), "5MB");
    a.run("commit");
    assert_eq!(a.one(at_server), "7MB");
    // A failed transaction takes its settings along, also when it ends with COMMIT.
    a.run("begin");
    a.run("set work_mem = '6MB'");
    assert_eq!(a.error("select 1 / 0"), "22012");
    let messages = a.simple("commit");
    assert_eq!(messages[0].text(), "ROLLBACK");
    assert_eq!(a.one(at_server), "7MB");
}

#[test]
fn set_config_is_a_setting_too() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    let default = b.one("show work_mem");
    let messages = a.simple("select set_config('work_mem', '7MB', false)");
    let refused = messages
        .iter()
        .any(|m| m.tag == b'E' && m.sqlstate() == "0A000");
    if !refused {
        assert_eq!(
            a.one("select current_setting('work_mem') from people where id = 3"),
            "7MB"
        );
    }
    assert_eq!(
        b.one("select current_setting('work_mem') from people where id = 3"),
        default
    );
    assert_eq!(
        b.one("select current_setting('work_mem') from people where id = 4"),
        default
    );
}

#[test]
fn a_custom_setting_is_missing_for_others() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("set app.tenant = 'u1'");
    let ask =
        "select coalesce(current_setting('app.tenant', true), 'missing') from people where id = 3";
    assert_eq!(a.one(ask), "u1");
    assert_eq!(b.one(ask), "missing", "not even an empty text");
    assert_eq!(
        b.error("select current_setting('app.tenant') from people where id = 3"),
        "42704"
    );
    a.run("reset app.tenant");
    a.run("select name from people where id = 3");
    a.bye();
    assert_eq!(b.one(ask), "missing");
    let mut c = env.client();
    assert_eq!(c.one(ask), "missing");
}

#[test]
fn literals_are_read_by_each_sessions_settings() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("set datestyle = 'SQL, MDY'");
    b.run("set datestyle = 'SQL, DMY'");
    let sql = "select to_char('01/02/2024'::date, 'YYYY-MM-DD') from people where id = $1";
    for _ in 0..3 {
        assert_eq!(rows_of(&a.extended(sql, &["3"])), [["2024-01-02"]]);
        assert_eq!(rows_of(&b.extended(sql, &["3"])), [["2024-02-01"]]);
    }
    let prepared = |client: &mut Client| {
        client.exchange(&[parse("same name", sql, &[]), sync()].concat());
        let mut got = Vec::new();
        for _ in 0..2 {
            got.extend(rows_of(
                &client.exchange(
                    &[
                        bind("", "same name", &[Value::text("3")], 0),
                        execute("", 0),
                        sync(),
                    ]
                    .concat(),
                ),
            ));
        }
        got
    };
    assert_eq!(prepared(&mut a), [["2024-01-02"], ["2024-01-02"]]);
    assert_eq!(prepared(&mut b), [["2024-02-01"], ["2024-02-01"]]);
    // A key that is a date, read by the session's DateStyle, goes to the right place or nowhere.
    a.run("set timezone = 'UTC'");
    b.run("set timezone = 'Asia/Tokyo'");
    let sql = "select extract(epoch from '2024-01-01 00:00'::timestamptz)::bigint from people where id = $1";
    assert_eq!(rows_of(&a.extended(sql, &["3"])), [["1704067200"]]);
    assert_eq!(rows_of(&b.extended(sql, &["3"])), [["1704034800"]]);
    assert_eq!(rows_of(&a.extended(sql, &["3"])), [["1704067200"]]);
}

#[test]
fn now_in_a_prepared_statement_is_each_clients_own() {
    let (env, _turn) = one_connection();
    let sql = "select extract(epoch from 'now'::timestamptz) from people where id = $1";
    let seconds = |client: &mut Client| -> f64 {
        let run = [
            bind("", "s", &[Value::text("3")], 0),
            execute("", 0),
            sync(),
        ];
        let rows = rows_of(&client.exchange(&run.concat()));
        rows[0][0].parse().expect("seconds")
    };
    // PostgreSQL fixes 'now'::timestamptz at Parse: two clients that parse at different times see different times. It
    // parses again when its caches are reset, by an ANALYZE or by many changes of schemas, those of other databases too.
    eventually("a's time stays as it is", || {
        let (mut a, mut b) = pair(env);
        a.exchange(&[parse("s", sql, &[]), sync()].concat());
        let first = seconds(&mut a);
        a.run("select pg_sleep(0.05) from people where id = 3");
        b.exchange(&[parse("s", sql, &[]), sync()].concat());
        let (second, third) = (seconds(&mut b), seconds(&mut a));
        assert!(second - first > 0.04, "{first} and {second}");
        assert!((third - second).abs() > 1e-9, "a has b's time: {third}");
        ((third - first).abs() < 1e-9).then_some(())
    });
}

#[test]
fn prepared_statements_with_one_name_and_two_texts() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.exchange(
        &[
            parse("p", "select name from people where id = $1", &[]),
            sync(),
        ]
        .concat(),
    );
    b.exchange(
        &[
            parse("p", "select id, born from people where id = $1", &[]),
            sync(),
        ]
        .concat(),
    );
    for _ in 0..3 {
        let run = [
            bind("", "p", &[Value::text("3")], 0),
            describe(b'P', ""),
            execute("", 0),
            sync(),
        ]
        .concat();
        assert_eq!(rows_of(&a.exchange(&run)), [["n3"]]);
        assert_eq!(rows_of(&b.exchange(&run)), [["3", "2024-02-01"]]);
    }
    a.run("prepare q as select 1");
    b.run("prepare q as select 2");
    assert_eq!(
        (a.one("execute q"), b.one("execute q")),
        ("1".to_owned(), "2".to_owned())
    );
    a.run("deallocate q");
    assert_eq!(a.error("execute q"), "26000");
    assert_eq!(b.one("execute q"), "2");
}

#[test]
fn a_prepared_statement_survives_a_schema_change() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    b.run("create table if not exists user_settings (user_id int primary key, theme text)");
    let messages = a.exchange(
        &[
            parse("s", "select * from user_settings where user_id = $1", &[]),
            sync(),
        ]
        .concat(),
    );
    assert_eq!(tags(&messages), "1");
    let run = [
        bind("", "s", &[Value::text("3")], 0),
        execute("", 0),
        sync(),
    ]
    .concat();
    assert_eq!(tags(&a.exchange(&run)), "2C");
    b.run("alter table user_settings add column extra int");
    let messages = a.exchange(&run);
    let error = messages
        .iter()
        .find(|m| m.tag == b'E')
        .map(Message::sqlstate);
    // PostgreSQL: "cached plan must not change result type" (0A000). A fresh Parse sees the new column.
    assert!(
        error.is_none() || error.as_deref() == Some("0A000"),
        "{messages:?}"
    );
    let messages = a.extended("select * from user_settings where user_id = $1", &["3"]);
    assert_eq!(
        messages
            .iter()
            .find(|m| m.tag == b'T')
            .map(|m| m.columns().len()),
        Some(3)
    );
}

#[test]
fn search_path_decides_the_table() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("set search_path = \"left\"");
    b.run("set search_path = \"right\", public");
    for _ in 0..3 {
        assert_eq!(a.one("select v from same where k = 1"), "from left");
        assert_eq!(b.one("select v from same where k = 1"), "from right");
        assert_eq!(
            rows_of(&a.extended("select v from same where k = $1", &["1"])),
            [["from left"]]
        );
        assert_eq!(
            rows_of(&b.extended("select v from same where k = $1", &["1"])),
            [["from right"]]
        );
    }
    // No keyspace lists a table of this name on the path: Keyway says so before PostgreSQL can.
    assert_eq!(a.error("select name from people where id = 3"), "0A000");
    assert_eq!(b.one("select name from people where id = 3"), "n3");
    a.run("set search_path = \"right\"");
    assert_eq!(a.one("select v from same where k = 1"), "from right");
    a.run("begin");
    a.run("set local search_path = \"left\"");
    assert_eq!(a.one("select v from same where k = 1"), "from left");
    a.run("rollback");
    assert_eq!(a.one("select v from same where k = 1"), "from right");
    let mut c = env.client_with(&[("options", "-c search_path=left")]);
    assert_eq!(c.one("select v from same where k = 1"), "from left");
    c.run("set search_path = \"right\"");
    c.run("reset search_path");
    assert_eq!(c.one("select v from same where k = 1"), "from left");
    let mut d = env.client();
    assert_eq!(d.error("select v from same where k = 1"), "0A000");
}

#[test]
fn quoted_identifiers_are_kept() {
    let (env, _turn) = one_connection();
    let mut a = env.client();
    a.run("insert into \"Quoted \"\"Table\"\"\" values (5, 'five')");
    assert_eq!(
        a.one("select \"a.b\" from \"Quoted \"\"Table\"\"\" where \"The Key\" = 5"),
        "five"
    );
    assert_eq!(a.one("select \"a.b\" from public.\"Quoted \"\"Table\"\"\" \"where id = 7\" where \"The Key\" = 5"), "five");
    assert_eq!(a.error("select * from quoted where id = 5"), "0A000");
    a.run("delete from \"Quoted \"\"Table\"\"\" where \"The Key\" = 5");
}

#[test]
fn currval_belongs_to_the_session() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    let mine = a.one("insert into tickets (user_id, note) values (3, 'a') returning id");
    let other = b.one("insert into tickets (user_id, note) values (3, 'b') returning id");
    assert_ne!(mine, other);
    for sql in ["select currval('tickets_id_seq')", "select lastval()"] {
        let messages = a.simple(sql);
        match messages.iter().find(|m| m.tag == b'E') {
            // PostgreSQL's answer, or a clear refusal; never the other client's value.
            Some(error) => assert!(
                ["0A000", "55000"].contains(&error.sqlstate().as_str()),
                "{error:?}"
            ),
            None => assert_eq!(rows_of(&messages), [[mine.clone()]], "{sql}"),
        }
    }
    let mut c = env.client();
    // A session that asks for its own value may keep its server, and this pool has no other.
    let error = c.error("select currval('tickets_id_seq')");
    assert!(
        ["55000", "0A000", "53300"].contains(&error.as_str()),
        "{error}"
    );
}

/// Every server of the pools has taken values for another client before.
fn takes_everywhere(other: &mut Client) {
    for user in 1..=20 {
        other.run(&format!(
            "insert into tickets (user_id, note) values ({user}, 'other')"
        ));
    }
}

#[test]
fn a_message_may_ask_for_the_value_that_it_takes() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    takes_everywhere(&mut b);
    for user in 1..=8 {
        let rows = rows_of(&a.simple(&format!(
            "insert into tickets (user_id, note) values ({user}, 'm') returning id; \
             select currval('tickets_id_seq'), lastval()"
        )));
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert_eq!(rows[1], [rows[0][0].clone(), rows[0][0].clone()]);
        // Another client's is never told, nor that there is none: the session may have taken one before.
        for sql in [
            format!("select 1 from people where id = {user}; select lastval()"),
            format!("select 1; select currval('tickets_id_seq') from people where id = {user}"),
            "select lastval()".to_owned(),
        ] {
            assert_eq!(a.error(&sql), "0A000", "{sql}");
        }
        takes_everywhere(&mut b);
    }
    assert_eq!(a.error("select setseed(0.5); select 1"), "0A000");
    // What an earlier message of the transaction took is forgotten by then.
    a.run("begin");
    a.run("insert into tickets (user_id, note) values (3, 'm')");
    assert_eq!(a.error("select 1; select lastval()"), "0A000");
    a.run("rollback");
    a.bye();
    b.bye();
}

#[test]
fn a_transaction_that_discards_sequences_has_its_own() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    takes_everywhere(&mut b);
    let insert = |user: usize| {
        format!("insert into tickets (user_id, note) values ({user}, 't') returning id")
    };
    let asks = "select currval('tickets_id_seq')";
    for user in 1..=8 {
        a.run("begin");
        a.run(&insert(user));
        assert_eq!(a.error(asks), "0A000", "servers are shared");
        a.run("rollback");
        a.run("begin");
        a.run("discard sequences");
        let id = a.one(&insert(user));
        assert_eq!(a.one(asks), id);
        assert_eq!(a.one("select lastval()"), id);
        // Other shards join, and know nothing.
        assert_eq!(a.one("select count(*) from people"), "20");
        assert_eq!(a.one("select lastval()"), id);
        a.run("savepoint s");
        let undone = a.one(&insert(user));
        a.run("rollback to s");
        assert_eq!(a.one(asks), undone, "a sequence does not go back");
        let bound = a.extended("select lastval()", &[]);
        assert_eq!(rows_of(&bound), [[undone.clone()]]);
        assert_eq!(a.error("select currval('home_only')"), "0A000");
        a.run("rollback");
        assert_eq!(a.error(asks), "0A000");
        // Those who join behind ROLLBACK TO forget as well.
        a.run("begin");
        a.run("savepoint s");
        a.run("discard sequences");
        a.run("rollback to s");
        let nothing = format!("select lastval() from people where id = {user}");
        assert_eq!(a.error(&nothing), "55000");
        a.run("rollback");
        takes_everywhere(&mut b);
    }
    a.bye();
    b.bye();
}

#[test]
fn sequences_are_unique_over_shards() {
    let (env, _turn) = one_connection();
    let mut a = env.client();
    let mut ids: Vec<String> = (1..=40)
        .map(|user| {
            a.one(&format!(
                "insert into tickets (user_id, note) values ({user}, 'x') returning id"
            ))
        })
        .collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "serial values repeat");
    let refused =
        a.simple("insert into tickets (user_id, note) values (1, 'x'), (2, 'y') returning id");
    assert!(!tags(&refused).is_empty());
}

#[test]
fn an_aborted_transaction_says_so_until_it_ends() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("begin");
    assert_eq!(
        a.error("select 1 / (id - 3) from people where id = 3"),
        "22012"
    );
    assert_eq!(a.status, b'E');
    assert_eq!(a.error("select name from people where id = 4"), "25P02");
    assert_eq!(a.error("set work_mem = '7MB'"), "25P02");
    assert_eq!(a.error("savepoint s"), "25P02");
    let messages = a.extended("select name from people where id = $1", &["4"]);
    assert_eq!(
        messages
            .iter()
            .find(|m| m.tag == b'E')
            .map(Message::sqlstate)
            .as_deref(),
        Some("25P02")
    );
    // An aborted transaction holds no server that others wait for longer than they must.
    let messages = a.simple("commit");
    assert_eq!(
        messages.last().map(Message::text).as_deref(),
        Some("ROLLBACK")
    );
    assert_eq!(a.status, b'I');
    assert_eq!(a.one("select name from people where id = 3"), "n3");
    assert_eq!(b.one("select name from people where id = 3"), "n3");
    // The error is the router's own: a statement that it refuses aborts the transaction too.
    a.run("begin");
    assert_eq!(a.error("update people set id = 900 where id = 3"), "0A000");
    assert_eq!(a.status, b'E');
    assert_eq!(a.error("select 1"), "25P02");
    a.run("rollback");
}

#[test]
fn savepoints_reach_shards_that_join_later() {
    let (env, _turn) = one_connection();
    let mut a = env.client();
    a.run("begin");
    a.run("savepoint one");
    assert_eq!(a.one("select name from people where id = 1"), "n1");
    a.run("savepoint two");
    for id in 2..8 {
        assert_eq!(
            a.one(&format!("select name from people where id = {id}")),
            format!("n{id}")
        );
    }
    a.run("update people set name = 'changed' where id = 5");
    a.run("rollback to two");
    assert_eq!(a.one("select name from people where id = 5"), "n5");
    a.run("update people set name = 'changed' where id = 5");
    a.run("release one");
    assert_eq!(a.error("rollback to one"), "3B001");
    a.run("rollback");
    assert_eq!(a.one("select name from people where id = 5"), "n5");
    a.run("begin");
    a.run("savepoint s");
    assert_eq!(a.error("insert into people values (5, 'twice')"), "23505");
    a.run("rollback to s");
    assert_eq!(a.status, b'T');
    assert_eq!(a.one("select name from people where id = 6"), "n6");
    a.run("update people set name = 'again' where id = 5");
    a.run("commit");
    assert_eq!(a.one("select name from people where id = 5"), "again");
    a.run("update people set name = 'n5' where id = 5");
}

#[test]
fn a_custom_setting_stays_away_from_others_on_shards_that_join_later() {
    let (env, _turn) = one_connection();
    let reads = |client: &mut Client, sql: &str| -> Vec<String> {
        (1..12)
            .map(|id| client.one(&sql.replace('$', &id.to_string())))
            .collect()
    };
    for end in ["commit", "rollback"] {
        let (mut a, mut b) = pair(env);
        a.run("begin");
        a.run("set local my.tenant = '7'");
        let seen = reads(
            &mut a,
            "select current_setting('my.tenant') from people where id = $",
        );
        assert!(seen.iter().all(|value| value == "7"), "{seen:?}");
        a.run(end);
        let missing = "select current_setting('my.tenant', true) is null from people where id = $";
        let seen = reads(&mut b, missing);
        assert!(seen.iter().all(|value| value == "t"), "{seen:?}");
        let empty = "select current_setting('my.tenant') = '' from people where id = $";
        let seen = reads(&mut a, empty);
        assert!(seen.iter().all(|value| value == "t"), "{seen:?}");
        a.bye();
        b.bye();
    }
    // What a savepoint takes back leaves the same trace, on servers that were there and on those that join.
    let (mut a, mut b) = pair(env);
    a.run("begin");
    a.one("select name from people where id = 1");
    a.run("savepoint s");
    a.run("set local my.tenant = '7'");
    a.run("rollback to s");
    let empty = "select current_setting('my.tenant') = '' from people where id = $";
    let seen = reads(&mut a, empty);
    assert!(seen.iter().all(|value| value == "t"), "{seen:?}");
    a.run("commit");
    let missing = "select current_setting('my.tenant', true) is null from people where id = $";
    let seen = reads(&mut b, missing);
    assert!(seen.iter().all(|value| value == "t"), "{seen:?}");
    a.bye();
    b.bye();
}

#[test]
fn a_savepoint_takes_hints_back() {
    let (env, _turn) = one_connection();
    let mut a = env.client();
    let count = "select count(*) from people where id < 20";
    let all = a.one(count);
    for set in ["set keyway.shard = 's1'", "set local keyway.shard = 's1'"] {
        a.run("begin");
        a.run("savepoint s");
        a.run(set);
        assert_ne!(a.one(count), all, "{set}");
        a.run("rollback to s");
        assert_eq!(a.one(count), all, "{set}");
        a.run("commit");
        assert_eq!(a.one(count), all, "{set}");
    }
    a.bye();
}

#[test]
fn hints_are_shown_like_settings() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let shown = |client: &mut Client, sql: &str| {
        let simple = client.simple(sql);
        let extended = client.exchange(
            &[
                parse("", sql, &[]),
                bind("", "", &[], 0),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(rows_of(&simple), rows_of(&extended));
        let columns = |messages: &[Message]| {
            let described = messages.iter().find(|m| m.tag == b'T').expect("columns");
            described.columns()[0].name.clone()
        };
        assert_eq!(columns(&simple), columns(&extended));
        assert_eq!(sql, format!("show {}", columns(&simple)));
        rows_of(&simple)[0][0].clone()
    };
    assert_eq!(shown(&mut client, "show keyway.shard"), "");
    client.run("set keyway.key = '42'");
    client.run("begin");
    client.run("set local keyway.shard = 's1'");
    assert_eq!(shown(&mut client, "show keyway.shard"), "s1");
    client.run("rollback");
    assert_eq!(shown(&mut client, "show keyway.shard"), "");
    assert_eq!(shown(&mut client, "show keyway.key"), "42");
    assert_eq!(client.error("show keyway.other"), "42704");
    client.bye();
}

#[test]
fn begin_alone_takes_no_server() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("begin");
    a.run("savepoint s");
    for id in 1..=20 {
        assert_eq!(
            b.one(&format!("select name from people where id = {id}")),
            format!("n{id}")
        );
    }
    a.run("commit");
}

#[test]
fn a_held_server_is_waited_for_and_the_wait_is_bounded() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("begin");
    a.run("update people set name = name where id = 3");
    let messages = b.simple("select name from people where id = 3");
    let error = messages
        .iter()
        .find(|m| m.tag == b'E')
        .expect("the pool is exhausted");
    assert_eq!(error.sqlstate(), "53300");
    assert!(
        error.field(b'D').is_some_and(|detail| detail.contains('1')),
        "the pool's numbers: {error:?}"
    );
    assert_eq!(b.status, b'I');
    // A server that is freed meanwhile is taken.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| b.one("select name from people where id = 3"));
        thread::sleep(Duration::from_millis(100));
        a.run("commit");
        assert_eq!(waiting.join().expect("b's row"), "n3");
    });
}

#[test]
fn two_clients_that_need_two_pools_each_do_not_wait_for_each_other() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    thread::scope(|scope| {
        for client in [&mut a, &mut b] {
            scope.spawn(move || {
                for _ in 0..100 {
                    assert_eq!(client.one("select count(*) from people"), "20");
                    client.run("select id from people order by id limit 3");
                }
            });
        }
    });
    // Transactions, and batches of one implicit transaction, that visit shards in opposite orders with one connection
    // each: all are answered.
    let mut ids: Vec<String> = ["s0", "s1", "s2"]
        .iter()
        .flat_map(|shard| env.direct(shard).rows("select id from people limit 3"))
        .flatten()
        .collect();
    assert_eq!(ids.len(), 9);
    for _ in 0..3 {
        let both_hold_one = Barrier::new(2);
        thread::scope(|scope| {
            for (client, reverse) in [(&mut a, false), (&mut b, true)] {
                let (mut ids, both_hold_one) = (ids.clone(), &both_hold_one);
                if reverse {
                    ids.reverse();
                }
                scope.spawn(move || {
                    client.run("begin");
                    for (step, id) in ids.iter().enumerate() {
                        let sql = format!("select name from people where id = {id}");
                        assert_eq!(client.one(&sql), format!("n{id}"));
                        if step == 0 {
                            both_hold_one.wait();
                        }
                    }
                    client.run("commit");
                    for pair in ids.chunks(4) {
                        let mut bytes = Vec::new();
                        for id in pair {
                            let sql = "select name from people where id = $1";
                            bytes.extend(parse("", sql, &[23]));
                            bytes.extend(bind("", "", &[Value::text(id)], 0));
                            bytes.extend(execute("", 0));
                        }
                        bytes.extend(sync());
                        let rows = rows_of(&client.exchange(&bytes));
                        let expected: Vec<_> = pair.iter().map(|id| [format!("n{id}")]).collect();
                        assert_eq!(rows, expected);
                    }
                });
            }
        });
        ids.rotate_left(3);
    }
    // What went beyond the pool's size is closed again.
    env.wait_idle();
    for shard in ["s0", "s1", "s2"] {
        eventually("one connection", || {
            (env.servers(shard).len() <= 1).then_some(())
        });
    }
    assert_eq!(a.one("select count(*) from people"), "20");
    assert_eq!(b.one("select count(*) from people"), "20");
}

#[test]
fn a_pool_of_one_serves_two_workers() {
    let env = Setup {
        name: "one_for_two",
        pool_size: 1,
        tables: "items = { key = \"k\" }",
        top: "workers = 2",
        pool: "checkout_timeout = \"20s\"",
        schema: "create table items (k int primary key, v text);\n",
        ..Setup::default()
    }
    .start();
    let mut first = env.client();
    for k in 1..=9 {
        first.run(&format!("insert into items values ({k}, 'v{k}')"));
    }
    // Clients take turns at the workers.
    let clients: Vec<Client> = (0..4).map(|_| env.client()).collect();
    let together = Barrier::new(clients.len());
    thread::scope(|scope| {
        for mut client in clients {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                for turn in 0..20 {
                    let k = turn % 9 + 1;
                    let sql = format!("select v from items where k = {k}");
                    assert_eq!(client.one(&sql), format!("v{k}"));
                }
                assert_eq!(client.one("select count(*) from items"), "9");
            });
        }
    });
}

#[test]
fn notifications_arrive() {
    let env = roomy();
    let (mut a, mut b) = pair(env);
    a.run("listen news");
    b.run("notify news, 'hello'");
    a.simple("select 1");
    let notification = a.notification();
    let text = String::from_utf8_lossy(&notification.body[4..]).into_owned();
    assert_eq!(text, "news\0hello\0");
    // While idle, without a statement of our own.
    b.run("select pg_notify('news', 'again')");
    assert!(a.notification().body.ends_with(b"news\0again\0"));
    // In a transaction it comes after COMMIT only.
    b.run("begin");
    b.run("notify news, 'later'");
    b.run("rollback");
    b.run("notify news, 'after'");
    assert!(a.notification().body.ends_with(b"news\0after\0"));
    a.run("unlisten news");
    b.run("notify news, 'nobody'");
    a.run("select 1");
    assert!(a.notifications.is_empty());
    // Another client on the same server connections hears nothing.
    assert!(b.notifications.is_empty());
}

#[test]
fn temporary_tables_stay_with_their_session_or_are_refused() {
    let env = roomy();
    let (mut a, mut b) = pair(env);
    let messages = a.simple("create temp table scratch (x int)");
    if let Some(error) = messages.iter().find(|m| m.tag == b'E') {
        assert_eq!(error.sqlstate(), "0A000");
        return;
    }
    a.run("insert into scratch values (1)");
    for _ in 0..10 {
        b.run("select name from people where id = 3");
        assert_eq!(a.one("select count(*) from scratch"), "1");
    }
    assert!(["42P01", "0A000"].contains(&b.error("select * from scratch").as_str()));
    a.bye();
    env.wait_idle();
    for _ in 0..10 {
        assert!(["42P01", "0A000"].contains(&b.error("select * from scratch").as_str()));
    }
}

#[test]
fn advisory_locks_exclude_other_sessions() {
    let env = roomy();
    let (mut a, mut b) = pair(env);
    let messages = a.simple("select pg_advisory_lock(77)");
    if let Some(error) = messages.iter().find(|m| m.tag == b'E') {
        assert_eq!(error.sqlstate(), "0A000");
        return;
    }
    assert_eq!(b.one("select pg_try_advisory_lock(77)"), "f");
    assert_eq!(
        a.one("select pg_try_advisory_lock(77)"),
        "t",
        "it is ours, and counted"
    );
    a.bye();
    env.wait_idle();
    crate::harness::eventually("the lock goes with its session", || {
        (b.one("select pg_try_advisory_lock(77)") == "t").then_some(())
    });
}

#[test]
fn row_level_security_sees_the_right_session() {
    let (env, _turn) = one_connection();
    let (mut a, mut b) = pair(env);
    a.run("set app.owner = 'u1'");
    b.run("set app.owner = 'u0'");
    let sql = "select count(*) from secrets where owner = current_setting('app.owner') and id = $1";
    for _ in 0..5 {
        assert_eq!(rows_of(&a.extended(sql, &["3"])), [["1"]]);
        assert_eq!(rows_of(&b.extended(sql, &["3"])), [["0"]]);
    }
    a.run("begin");
    a.run("set local app.owner = 'u0'");
    assert_eq!(rows_of(&a.extended(sql, &["3"])), [["0"]]);
    a.run("commit");
    assert_eq!(rows_of(&a.extended(sql, &["3"])), [["1"]]);
}

#[test]
fn a_policy_that_looks_beyond_its_shard_is_noticed_at_once() {
    let env = roomy();
    let mut a = env.client();
    a.run("create table veiled (id int primary key, owner text)");
    a.run("insert into veiled values (7, 'me')");
    a.run("alter table veiled enable row level security");
    a.run("create policy p on veiled using (owner = current_setting('app.owner'))");
    assert_eq!(a.one("select owner from veiled where id = 7"), "me");
    a.run("alter policy p on veiled using (exists (select from people where people.id = veiled.id + 1))");
    for sql in [
        "select owner from veiled where id = 7",
        "select count(*) from veiled",
        "update veiled set owner = 'you' where id = 7",
        "insert into veiled values (8, 'me')",
    ] {
        assert_eq!(a.error(sql), "0A000", "{sql}");
    }
    a.run("drop policy p on veiled");
    assert_eq!(a.one("select owner from veiled where id = 7"), "me");
    a.run("drop table veiled");
}

/// A sequence as pg_dump writes it.
#[test]
fn an_owned_sequence_counts_in_its_shards_range() {
    let env = roomy();
    let mut a = env.client();
    a.run("create table counted (id int primary key, n bigint)");
    a.run("create sequence counted_n owned by counted.n");
    a.run("alter table counted alter n set default nextval('counted_n')");
    let mut numbers: Vec<String> = (1..=12)
        .map(|id| {
            a.one(&format!(
                "insert into counted (id) values ({id}) returning n"
            ))
        })
        .collect();
    numbers.sort();
    numbers.dedup();
    assert_eq!(numbers.len(), 12, "{numbers:?}");
    a.run("drop table counted");
}

#[test]
fn constraints_that_one_shard_cannot_hold_are_refused() {
    let env = roomy();
    let mut a = env.client();
    for sql in [
        "create unique index people_name on people (name)",
        "alter table people add constraint people_name unique (name)",
        "create table families (id int primary key, name text unique)",
        "alter table tickets add constraint far foreign key (note) references people (name)",
        "prepare transaction 'mine'",
    ] {
        let messages = a.simple(sql);
        let error = messages
            .iter()
            .find(|m| m.tag == b'E')
            .unwrap_or_else(|| panic!("{sql} works: {messages:?}"));
        assert!(
            ["0A000", "25P01"].contains(&error.sqlstate().as_str()),
            "{sql}: {error:?}"
        );
        if error.sqlstate() == "0A000" {
            assert!(
                error.field(b'D').is_some() && error.field(b'H').is_some(),
                "{sql}: DETAIL and HINT are missing: {error:?}"
            );
        }
    }
    for shard in ["s0", "s1", "s2"] {
        assert_eq!(
            env.direct(shard)
                .one("select count(*) from pg_class where relname in ('people_name', 'families')"),
            "0"
        );
    }
}

#[test]
fn an_unlisted_table_is_refused_with_the_line_to_add() {
    let env = roomy();
    let mut a = env.client();
    let messages = a.simple("create table django_session (session_key text primary key)");
    let error = messages
        .iter()
        .find(|m| m.tag == b'E')
        .expect("an unlisted table in a sharded default keyspace");
    assert_eq!(error.sqlstate(), "0A000");
    let hint = error.field(b'H').unwrap_or_default();
    assert!(
        hint.contains("django_session"),
        "the hint names the table: {hint}"
    );
    for shard in SHARDS {
        assert_eq!(
            env.direct(shard)
                .one("select count(*) from pg_class where relname = 'django_session'"),
            "0"
        );
    }
}

#[test]
fn hints_place_what_cannot_be_seen() {
    let env = roomy();
    let mut a = env.client();
    let on = |client: &mut Client, shard: &str| {
        client.one(&format!(
            "/* keyway: shard={shard} */ select count(*) from people"
        ))
    };
    let counts = ["s0", "s1", "s2"].map(|shard| on(&mut a, shard));
    let direct =
        ["s0", "s1", "s2"].map(|shard| env.direct(shard).one("select count(*) from people"));
    assert_eq!(counts, direct);
    assert_eq!(
        a.one("/* keyway: key=3 */ select name from people where id = 3"),
        "n3"
    );
    a.run("set keyway.key = '3'");
    assert_eq!(a.one("select name from people where id = 3"), "n3");
    a.run("reset keyway.key");
    a.run("begin");
    a.run("set local keyway.shard = 's1'");
    assert_eq!(a.one("select count(*) from people"), direct[1]);
    a.run("commit");
    assert_eq!(a.one("select count(*) from people"), "20");
    assert!(
        a.simple("/* keyway: shard=nowhere */ select 1")
            .iter()
            .any(|m| m.tag == b'E'),
        "an unknown shard is an error"
    );
}

#[test]
fn explain_route_tells_the_plan() {
    let env = roomy();
    let mut a = env.client();
    let text = |client: &mut Client, sql: &str| -> String {
        client
            .rows(sql)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(text(&mut a, "explain (route) select * from people where id = 3").contains("single"));
    let hinted = "explain (route) /* keyway: shard=s1 */ select count(*) from people";
    assert!(text(&mut a, hinted).contains("single on s1"));
    let before = "/* keyway: shard=s2 */ explain (route) select count(*) from people";
    assert!(text(&mut a, before).contains("single on s2"));
    let nowhere = "explain (route) /* keyway: shard=nosuch */ select 1";
    assert!(text(&mut a, nowhere).contains("refused"));
    a.run("set keyway.shard = 's0'");
    assert!(text(&mut a, "explain (route) select count(*) from people").contains("single on s0"));
    a.run("reset keyway.shard");
    assert!(text(&mut a, "explain (route) select * from people order by id").contains("scatter"));
    assert!(
        text(&mut a, "explain (route) update people set id = 3").contains("0A000")
            || !a
                .simple("explain (route) update people set id = 3")
                .is_empty()
    );
}

#[test]
fn user_types_have_one_oid_for_clients() {
    let types = "create type mood as enum ('sad', 'ok');\ncreate domain tiny as int check (value < 10);\ncreate type spot as (x int, y int);\ncreate type hue as enum ('red');\n";
    let env = Setup {
        name: "oids",
        tables: "things = { key = \"id\" }",
        types,
        schema: "create table things (id int primary key, m mood, ms mood[], d tiny, ds tiny[], p spot, ps spot[], h hue);\n",
        ..Setup::default()
    }
    .start();
    assert!(env.schema_failures.is_empty(), "{:?}", env.schema_failures);
    let mut a = env.client();
    for id in 1..=10 {
        a.run(&format!("insert into things values ({id}, 'ok', '{{sad,ok}}', 5, '{{1,2}}', '(1,2)', '{{\"(3,4)\"}}', 'red')"));
    }
    let oids: Vec<String> = ["s0", "s1", "s2"]
        .iter()
        .map(|s| env.direct(s).one("select 'mood'::regtype::oid"))
        .collect();
    assert!(
        oids[0] != oids[1] && oids[1] != oids[2],
        "the shards differ: {oids:?}"
    );
    // What a driver does: look the type up, then trust it in every description.
    let mood: u32 = a
        .one("select oid from pg_type where typname = 'mood'")
        .parse()
        .expect("an OID");
    let moods: u32 = a
        .one("select typarray from pg_type where typname = 'mood'")
        .parse()
        .expect("an OID");
    for id in 1..=10 {
        let messages = a.simple(&format!("select m, ms from things where id = {id}"));
        let columns = messages[0].columns();
        assert_eq!(
            (columns[0].type_oid, columns[1].type_oid),
            (mood, moods),
            "id {id}"
        );
        assert_eq!(rows_of(&messages), [["ok", "{sad,ok}"]]);
        // A parameter typed by the client, and one that the server types.
        let bytes = [
            parse(
                "",
                "select id from things where id = $1 and m = $2",
                &[23, mood],
            ),
            describe(b'S', ""),
            bind(
                "",
                "",
                &[Value::text(&id.to_string()), Value::text("ok")],
                0,
            ),
            execute("", 0),
            sync(),
        ]
        .concat();
        let messages = a.exchange(&bytes);
        assert_eq!(messages[1].parameter_oids(), [23, mood], "{messages:?}");
        assert_eq!(rows_of(&messages), [[id.to_string()]]);
        let messages = a.exchange(
            &[
                parse("", "select m from things where id = 3 and m = $1", &[]),
                describe(b'S', ""),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(messages[1].parameter_oids(), [mood]);
        // Binary values with an OID inside are right or refused.
        let messages = a.exchange(
            &[
                parse("", &format!("select ms from things where id = {id}"), &[]),
                bind("", "", &[], 1),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        match messages.iter().find(|m| m.tag == b'E') {
            Some(error) => assert_eq!(error.sqlstate(), "0A000"),
            None => {
                let value = messages
                    .iter()
                    .find(|m| m.tag == b'D')
                    .expect("a row")
                    .row()[0]
                    .clone()
                    .expect("a value");
                assert_eq!(
                    value[8..12],
                    mood.to_be_bytes(),
                    "the element's OID inside the value"
                );
            }
        }
    }
    // A write whose rows the client cannot be given has not taken place.
    let mut refused = 0;
    for id in 101..=110 {
        let sql = format!("insert into things (id, ms) values ({id}, '{{sad}}') returning ms");
        let messages = a.exchange(
            &[
                parse("", &sql, &[]),
                bind("", "", &[], 1),
                execute("", 0),
                sync(),
            ]
            .concat(),
        );
        assert_eq!(a.status, b'I');
        let error = messages.iter().find(|m| m.tag == b'E');
        let there = a.one(&format!("select count(*) from things where id = {id}"));
        match error {
            Some(error) => {
                refused += 1;
                assert_eq!(error.sqlstate(), "0A000");
                assert_eq!(there, "0", "{id} is refused and there");
            }
            None => assert_eq!(there, "1", "{id} is answered and not there"),
        }
    }
    assert!(refused > 0, "no shard's numbers differ");
    a.run("delete from things where id = 101");
    let messages = a.simple("select id, m, p from things where id <= 10 order by id");
    assert_eq!(messages[0].columns()[1].type_oid, mood);
    assert_eq!(rows_of(&messages).len(), 10);
}

#[test]
fn ddl_fails_on_all_shards_or_none() {
    let env = roomy();
    let mut a = env.client();
    // One shard has a relation in the way.
    env.direct("s1").run("create table parents (other int)");
    let messages = a.simple("create table parents (id int primary key)");
    assert!(messages.iter().any(|m| m.tag == b'E'), "{messages:?}");
    assert_eq!(
        env.direct("s0")
            .one("select count(*) from pg_class where relname = 'parents'"),
        "0"
    );
    assert_eq!(
        env.direct("s2")
            .one("select count(*) from pg_class where relname = 'parents'"),
        "0"
    );
    env.direct("s1").run("drop table parents");
}

/// The same tables with a pool that nobody exhausts.
fn roomy() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let env = Setup {
            name: "roomy",
            tables: TABLES,
            schema: SCHEMA,
            ..Setup::default()
        }
        .start();
        let mut client = env.client();
        for id in 1..=20 {
            client.run(&format!(
                "insert into people values ({id}, 'n{id}', null, null)"
            ));
        }
        env
    })
}

#[test]
fn many_clients_prepare_the_same_text_under_their_own_names() {
    let env = roomy();
    let mut clients: Vec<Client> = (0..20).map(|_| env.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.exchange(
            &[
                parse(
                    &format!("s{n}"),
                    "select name from people where id = $1",
                    &[],
                ),
                sync(),
            ]
            .concat(),
        );
    }
    for turn in 0..5 {
        for (n, client) in clients.iter_mut().enumerate() {
            let id = (n + turn) % 20 + 1;
            let messages = client.exchange(
                &[
                    bind("", &format!("s{n}"), &[Value::text(&id.to_string())], 0),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            );
            assert_eq!(rows_of(&messages), [[format!("n{id}")]]);
        }
    }
    eventually("no more server connections than the pool's size", || {
        (env.servers("s0").len() <= 10).then_some(())
    });
}

/// An error over several shards costs neither a pinned server nor what it holds.
#[test]
fn an_error_over_shards_keeps_what_is_pinned() {
    let env = roomy();
    let (mut a, mut b) = pair(env);
    a.run("select pg_advisory_lock(4242)");
    for failing in [
        "select 1 / (id - 2) from people",
        "select id from people order by name limit -1",
    ] {
        assert!(!a.error(failing).is_empty());
        assert_eq!(b.one("select pg_try_advisory_lock(4242)"), "f", "{failing}");
    }
    assert_eq!(a.one("select pg_advisory_unlock(4242)"), "t");
    a.run("begin");
    a.run("declare c cursor with hold for select id from people where id = 7");
    a.run("commit");
    assert!(!a.error("select 1 / (id - 2) from people").is_empty());
    assert_eq!(a.one("fetch all from c"), "7");
    a.bye();
    b.bye();
}

/// The schema that statements are planned by is the one from before the transaction.
#[test]
fn a_transaction_reads_nothing_by_a_schema_it_has_changed() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let refused = |client: &mut Client, sql: &str| {
        let messages = client.simple(sql);
        let error = messages.iter().find(|m| m.tag == b'E');
        let state = error.map(Message::sqlstate);
        assert_eq!(state.as_deref(), Some("0A000"), "{sql}: {messages:?}");
    };
    client.run("create view turned as select id, id * 2 as twice from people");
    client.run("create view above as select twice as id, id as half from turned");
    let turn = "create or replace view turned as select id * 2 as id, id as twice from people";
    for read in [
        "select count(*) from turned where id = 6",
        "select count(*) from above where id = 6",
        "select \"turned\".twice from turned order by 1",
    ] {
        client.run("begin");
        client.run(turn);
        refused(&mut client, read);
        client.run("rollback");
        refused(&mut client, &format!("{turn}; {read}"));
        // Both protocols, and a statement that was planned before.
        client.run("begin");
        client.run(turn);
        client
            .send(
                &[
                    parse("", read, &[]),
                    bind("", "", &[], 0),
                    execute("", 0),
                    sync(),
                ]
                .concat(),
            )
            .expect("send");
        let messages = client.until_ready().expect("an answer");
        let error = messages.iter().find(|m| m.tag == b'E').expect(read);
        assert_eq!(error.sqlstate(), "0A000", "{read}");
        client.run("rollback");
    }
    client.run("begin");
    client.run("alter table people alter name type text collate \"C\"");
    refused(&mut client, "select name from people order by name");
    client.run("rollback");
    client.run("begin");
    client.run(
        "create function how_many() returns bigint language sql as 'select count(*) from people'",
    );
    refused(&mut client, "select how_many()");
    client.run("rollback");

    // What the change cannot concern goes on.
    client.run("begin");
    client.run(turn);
    client.run("create index on people (name)");
    assert_eq!(client.one("select count(*) from people"), "20");
    assert_eq!(client.one("select 1"), "1");
    client.run("rollback");
    // So does what is on one shard, with its new columns.
    client.run("begin");
    client.run("create table activity_kinds (id int primary key)");
    client.run("alter table activity_kinds add theme text default 'dark'");
    client.run("insert into activity_kinds values (1)");
    assert_eq!(client.one("select theme from activity_kinds"), "dark");
    client.run("create view themes as select theme as look from activity_kinds");
    client.run("alter table activity_kinds rename theme to colour");
    assert_eq!(
        client.one("select colour from activity_kinds where id = 1"),
        "dark"
    );
    client.run("rollback");
    client.run("begin");
    client.run(turn);
    client.run("commit");
    assert_eq!(client.one("select count(*) from turned where id = 6"), "1");
    client.run("drop view above, turned");
    // What was rolled back to a savepoint concerns nothing.
    client.run("begin");
    client.run("alter table people add early int");
    client.run("savepoint s");
    client.run(turn);
    client.run("rollback to s");
    refused(&mut client, "select count(*) from people");
    client.run("rollback to s");
    client.run("rollback");
    client.run("begin");
    client.run("savepoint s");
    client.run("alter table people add early int");
    client.run("rollback to s");
    assert_eq!(client.one("select count(*) from people"), "20");
    client.run("alter table people add early int");
    refused(&mut client, "select count(*) from people");
    client.run("rollback");
    // A portal was planned when it was bound.
    client.run("begin");
    let read = "select name from people order by id";
    client.exchange(&[parse("", read, &[]), bind("c", "", &[], 0), sync()].concat());
    client.run("alter table people alter name type int using 7");
    let late = client.exchange(&[execute("c", 0), sync()].concat());
    assert_eq!(late[0].sqlstate(), "0A000", "{late:?}");
    client.run("rollback");
    client.bye();
}

/// A text that is not the client's own whole message is sent to several shards, or to one.
#[test]
fn errors_of_many_shards_say_where_in_the_clients_text() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let bad = "name || 1 + true";
    for sql in [
        format!("/* é */ select id, {bad} from people order by seen, id limit 3"),
        format!("select 1;\n select {bad} from people"),
        format!("select 'é'; select {bad} from people where id = 3"),
        format!("begin; alter table people alter name type text using ({bad})"),
        format!("  alter table people alter name type text using ({bad})"),
        format!("select 1; prepare p as select {bad} from people where id = 3"),
        format!("/* é */ prepare p (int) as select {bad} from people where id = $1"),
    ] {
        let place = sql[..sql.find("+ true").expect("it is there")]
            .chars()
            .count()
            + 1;
        let messages = client.simple(&sql);
        let error = messages.iter().find(|m| m.tag == b'E').expect("an error");
        assert_eq!(error.sqlstate(), "42883", "{sql}: {error:?}");
        let told = error.field(b'P');
        assert!(
            told.is_none_or(|at| at == place.to_string()),
            "{sql}: {error:?}"
        );
        client.run("rollback");
    }
    client.bye();
}

/// Where each shard has the same to say it is said once; what one of them has to say is said too.
#[test]
fn notices_of_many_shards_are_told_once() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let notices = |client: &mut Client, sql: &str| {
        let messages = client.simple(sql);
        assert!(
            messages.iter().all(|m| m.tag != b'E'),
            "{sql}: {messages:?}"
        );
        messages.iter().filter(|m| m.tag == b'N').count()
    };
    client.run("create index told_once on people (name)");
    for sql in [
        "create index concurrently if not exists told_once on people (name)",
        "create index if not exists told_once on people (name)",
        "drop table if exists no_people, nobody",
    ] {
        let expected = 1 + usize::from(sql.contains("nobody"));
        assert_eq!(notices(&mut client, sql), expected, "{sql}");
    }
    client.run("drop index told_once");
    env.direct("s2")
        .run("create index told_by_one on people (name)");
    let there = "create index if not exists told_by_one on people (name)";
    assert_eq!(notices(&mut client, there), 1);
    client.run("drop index told_by_one");
    client.bye();
}

/// An error in a row that comes behind the last one asked for is none: PostgreSQL stops in front of it.
#[test]
fn a_limit_over_shards_stops_in_front_of_an_error() {
    let (env, _turn) = one_connection();
    let mut client = env.client();
    let ids = |shard: &str| -> Vec<i32> {
        let rows = env.direct(shard).rows("select id from people order by id");
        rows.iter().filter_map(|row| row[0].parse().ok()).collect()
    };
    // A shard without any of the first three, whose second would fail.
    let failing = SHARDS
        .iter()
        .map(|shard| ids(shard))
        .find(|ids| ids.len() > 1 && ids[0] > 3)
        .expect("such a shard")[1];
    let first = format!("select id, 1 / (id - {failing}) from people order by id limit 3");
    client.run("set enable_seqscan = off; set enable_sort = off");
    let rows = client.rows(&first);
    let shown: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(shown, ["1", "2", "3"]);
    assert_eq!(
        client
            .extended(&first, &[])
            .iter()
            .filter(|m| m.tag == b'E')
            .count(),
        0
    );
    // One that is asked for is one, and so is one that has failed a transaction.
    let all = format!("select id, 1 / (id - {failing}) from people order by id limit 20");
    assert_eq!(client.error(&all), "22012");
    client.run("begin");
    assert_eq!(client.error(&first), "22012");
    client.run("rollback");
    client.bye();
}
