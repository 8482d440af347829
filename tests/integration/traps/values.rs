//! R10 to R17, R42 and R43: questions whose answers are not a function of the rows that they name.

use crate::raw::{Client, Message, Value, bind, execute, parse, rows_of, sync};
use crate::traps::{
    PLAIN, Way, alone, among_others, behind, env, fresh_id, gives, is_old, keeps, keeps_by,
    keeps_things, kept, kept_row, own_row, tried,
};

#[test]
fn r10_functions_that_look_at_more_than_their_arguments_are_not_kept() {
    tried(|| {
        // A function that nobody knows to leave all as it is voids everything.
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        for shown in [
            "now()",
            "random()",
            "clock_timestamp()",
            "statement_timestamp()",
            "transaction_timestamp()",
            "timeofday()",
            "gen_random_uuid()",
            "txid_current()",
            "pg_current_xact_id()",
            "txid_current_snapshot()",
            "pg_backend_pid()",
            "current_setting('timezone')",
            "current_query()",
            "inet_server_port()",
            "pg_postmaster_start_time()",
            "pg_is_in_recovery()",
            "version()",
            "pg_typeof(v)",
            "age(tz)",
            "age(xmin)",
            "xmin::text",
            "ctid",
            "to_regclass('things')",
            "has_table_privilege('things', 'select')",
            "pg_relation_size('things')",
            "obj_description(1, 'pg_class')",
            "unsteady(id)",
            "undeclared(id)",
            "writes_scratch(0)",
            "v ### id",
            "pg_sleep(0)",
        ] {
            let question = format!("select v, {shown} from things where id = {{id}}");
            assert!(!keeps_things(env, &mut client, &question), "{shown}");
            if !shown.contains("writes") {
                let hidden = format!(
                    "select v from things where id = {{id}} and (({shown}) is not null or true)"
                );
                assert!(
                    !keeps_by(env, &mut client, Way::Simple, "things", &hidden),
                    "{hidden}"
                );
            }
        }
        for shown in [
            "lower(v)",
            "steady(id)",
            "to_char(tz, 'YYYY-MM-DD')",
            "v || abs(n)",
            "coalesce(v, 'none')",
            "md5(v)",
            "tz::text",
            "date_trunc('day', tz)",
            "n + 1",
        ] {
            let question = format!("select v, {shown} from things where id = {{id}}");
            kept(
                env,
                keeps_things(env, &mut client, &question),
                format_args!("{shown}"),
            );
        }
        // In every clause, and in what is read by others.
        for question in [
            "select v from things where id = {id} order by random()",
            "select v from things where id = {id} limit (select 1 + 0 * random())",
            "select v, count(*) over (order by now()) from things where id = {id}",
            "select max(v) from things where id = {id} group by unsteady(id)",
            "select v from (select v, random() r from things where id = {id}) s where r >= 0",
            "with w as (select v, now() from things where id = {id}) select v from w",
            "select v from things where id = {id} union all select clock_timestamp()::text",
            "select v from told_time where id = {id}",
            "select v, at from told_time where id = {id}",
            "select v from things, lateral (select random()) r where id = {id}",
            "select v from things join generate_series(1, 1 + (0 * random())::int) g on true where id = {id}",
        ] {
            assert!(!keeps_things(env, &mut client, question), "{question}");
        }
    });
}

#[test]
fn r10_sequences_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let id = own_row(env, "things");
        let key = format!("/* keyway: key={id} */");
        let next = format!("{key} select v, nextval('numbers') from things where id = {id}");
        let [one, two] = [0, 1].map(|_| client.rows(&next)[0][1].parse::<i64>().expect("a number"));
        assert!(two > one, "{two} behind {one}");
        kept(
            env,
            keeps_things(env, &mut client, PLAIN),
            "it is what may be",
        );
    });
}

#[test]
fn r11_words_that_stand_for_functions_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        for word in [
            "current_user",
            "user",
            "session_user",
            "current_role",
            "current_date",
            "current_time",
            "current_timestamp",
            "current_timestamp(3)",
            "localtime",
            "localtimestamp",
            "localtimestamp(0)",
            "current_catalog",
            "current_schema",
        ] {
            let question = format!("select v, {word} from things where id = {{id}}");
            assert!(!keeps_things(env, &mut client, &question), "{word}");
            let question = format!("select v from things where id = {{id}} and {word} is not null");
            assert!(!keeps_things(env, &mut client, &question), "{word}");
        }
        kept(
            env,
            keeps_things(
                env,
                &mut client,
                "select v as user_name, 'user' from of_things where id = {id}",
            ),
            "it is what may be",
        );
    });
}

#[test]
fn r12_texts_that_say_now_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        for shown in [
            "'now'::timestamptz",
            "timestamptz 'today'",
            "cast('yesterday' as timestamp)",
            "date 'now'",
            "'tomorrow'::date",
            "' NOW '::timestamp",
            "e'\\x6eow'::timestamptz",
            "('n' || 'ow')::timestamptz",
            "tz > 'now'",
            "'[now, infinity)'::tstzrange",
            "'{now}'::timestamptz[]",
            "a::timestamptz",
            "'now'::text::timestamptz",
            "timestamptz(a)",
            "'12:00'::timetz",
        ] {
            let question = format!("select v, {shown} from things where id = {{id}}");
            assert!(!keeps_things(env, &mut client, &question), "{shown}");
        }
        for shown in [
            "tz",
            "tz::date",
            "tz::text",
            "tz at time zone 'Asia/Tokyo'",
            "'2024-01-01'::date",
        ] {
            let question = format!("select v, {shown} from things where id = {{id}}");
            kept(
                env,
                keeps_things(env, &mut client, &question),
                format_args!("{shown}"),
            );
        }
        // In a parameter.
        let ask = |client: &mut Client, id: i32, time: &str| -> Vec<String> {
            let mut messages = parse(
                "",
                "select v from things where id = $1 and tz < $2",
                &[23, 1184],
            );
            let values = [Value::text(&id.to_string()), Value::text(time)];
            messages.extend(bind("", "", &values, 0));
            messages.extend(execute("", 0));
            messages.extend(sync());
            rows_of(&client.exchange(&messages)).concat()
        };
        for (time, kept) in [("now", false), ("Today", false), ("2030-01-01", true)] {
            let id = own_row(env, "things");
            assert!(is_old(&ask(&mut client, id, time)));
            behind(
                env,
                &format!("update things set v = 'behind' where id = {id}"),
            );
            assert_eq!(is_old(&ask(&mut client, id, time)), kept, "{time}");
        }
    });
}

#[test]
fn r13_temporary_and_unlogged_tables_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        assert!(!keeps(
            env,
            &mut client,
            "unlogged",
            "select v from unlogged where id = {id}"
        ));
        // A temporary table of a name that is listed would hide it.
        let mut shadowed = env.client();
        let hides = "/* keyway: shard=s0 */ create temp table things (id int, v text)";
        assert_eq!(shadowed.error(hides), "0A000");
        kept(
            env,
            keeps_things(env, &mut shadowed, PLAIN),
            "it is what may be",
        );
        // Of another name: nothing in the session is kept or given while it is there.
        shadowed.run("/* keyway: shard=s0 */ create temp table passing as select 1 as x");
        let id = kept_row(env, &mut client, "things", PLAIN);
        assert!(!is_old(&Way::Simple.values(&mut shadowed, PLAIN, id)));
        assert!(!keeps_things(env, &mut shadowed, PLAIN));
        kept(
            env,
            is_old(&Way::Simple.values(&mut client, PLAIN, id)),
            "others are given it",
        );
        kept(
            env,
            keeps_things(env, &mut client, PLAIN),
            "it is what may be",
        );
    });
}

#[test]
fn r14_catalogs_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        for catalog in [
            "pg_class",
            "pg_catalog.pg_namespace",
            "information_schema.tables",
            "pg_stat_activity",
            "pg_stat_user_tables",
            "pg_settings",
            "pg_largeobject_metadata",
        ] {
            let question = format!(
                "select v from things where id = {{id}} and exists (select 1 from {catalog} offset 0) is not null"
            );
            assert!(!keeps_things(env, &mut client, &question), "{catalog}");
        }
        let object = "select v from things where id = {id} and 'things'::regclass is not null";
        assert!(!keeps_things(env, &mut client, object));
        kept(
            env,
            keeps_things(
                env,
                &mut client,
                "select v from things where id = {id} and exists (select 1 from shared) is not null",
            ),
            "it is what may be",
        );
    });
}

#[test]
fn r15_questions_that_lock_or_write_are_asked_every_time() {
    tried(|| {
        // A function that nobody knows to leave all as it is voids everything.
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        for strength in [
            "update",
            "no key update",
            "share",
            "key share",
            "update nowait",
            "share skip locked",
        ] {
            let question = format!("select v from things where id = {{id}} for {strength}");
            assert!(!keeps_things(env, &mut client, &question), "{strength}");
        }
        assert!(!keeps_things(
            env,
            &mut client,
            "select v from (select v from things where id = {id} for update) s"
        ));
        for call in [
            "pg_try_advisory_lock(151)",
            "pg_advisory_unlock_all()",
            "pg_try_advisory_xact_lock(152)",
            "pg_notify('r15', '')",
            "set_config('traps.r15', '', true)",
            "writes_scratch(0)",
        ] {
            let question = format!("select v, {call} from things where id = {{id}}");
            let mut own = env.client();
            assert!(!keeps_things(env, &mut own, &question), "{call}");
            let mut own = env.client();
            let question = format!("select v from things, {call} f where id = {{id}}");
            assert!(!keeps_things(env, &mut own, &question), "{call} in FROM");
        }
        // The lock is there, whatever was answered before.
        let id = own_row(env, "things");
        let sql = format!("select v from things where id = {id}");
        let locking = format!("{sql} for update");
        client.run(&sql);
        client.run(&locking);
        client.run("begin");
        assert_eq!(client.one(&locking), "first");
        let mut other = env.client();
        assert_eq!(other.error(&format!("{locking} nowait")), "55P03");
        client.run("rollback");
        assert_eq!(other.one(&format!("{locking} nowait")), "first");
    });
}

#[test]
fn r16_samples_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let sample = "select v from things tablesample bernoulli (100) where id = {id}";
        assert!(!keeps_things(env, &mut client, sample));
        let below =
            "select v from (select * from things tablesample system (100)) s where id = {id}";
        assert!(!keeps_things(env, &mut client, below));
        // Any rows will do for LIMIT without ORDER BY, the same ones too.
        let some = "select v from things where id = {id} limit 1";
        kept(
            env,
            keeps_things(env, &mut client, some),
            "it is what may be",
        );
    });
}

#[test]
fn r17_queries_with_a_write_in_them_write_every_time() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let targets = "select v from targets where id = {id}";
        for write in [
            "with w as (update targets set v = 'new' where id = {id} returning id) select 1 from w",
            "with w as (delete from targets where id = {id} returning id) select 1 from w",
            "/* keyway: key={id} */ with w as (insert into targets values ({id}, 'x') on conflict (id) do update set v = 'new' returning id) select * from w",
            "with r as (select 1), w as (update targets set v = 'new' where id = {id}) select v from things where id = {id}",
            "explain analyze update targets set v = 'new' where id = {id}",
            "explain (analyze, costs off) with w as (update targets set v = 'new' where id = {id} returning 1) select * from w",
            "merge into targets t using (values ({id})) s (id) on t.id = s.id and t.id = {id} when matched then update set v = 'new'",
        ] {
            crate::traps::is_voided(env, "targets", targets, write);
        }
        // It runs each time.
        let id = own_row(env, "scratch");
        let counts = format!(
            "with w as (update scratch set n = n + 1 where id = {id} returning n) select n from w"
        );
        assert_eq!([0; 3].map(|_| client.one(&counts)), ["1", "2", "3"]);
        let read = format!("select n from scratch where id = {id}");
        assert_eq!(client.one(&read), "3");
        client.extended(&counts, &[]);
        assert_eq!(client.one(&read), "4");
    });
}

#[test]
fn r42_cursors_and_what_describes_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let id = fresh_id();
        client.run(&format!(
            "insert into things (id, v) values ({id}, 'first')"
        ));
        let plain = format!("select v from things where id = {id}");
        let declare = format!("declare c cursor for {plain}");
        let fetched = |client: &mut Client| {
            client.run("begin");
            client.run(&declare);
            let value = client.one("fetch all from c");
            client.run("commit");
            value
        };
        let held = |client: &mut Client| {
            client.run(&format!("declare h cursor with hold for {plain}"));
            let value = client.one("fetch all from h");
            client.run("close h");
            value
        };
        assert_eq!(fetched(&mut client), "first");
        assert_eq!(client.one(&plain), "first");
        behind(
            env,
            &format!("update things set v = 'behind' where id = {id}"),
        );
        gives(env, &client.one(&plain).as_str(), &"first", || "behind");
        assert_eq!(fetched(&mut client), "behind");
        assert_eq!(held(&mut client), "behind");
        let mut other = env.client();
        gives(env, &other.one(&plain).as_str(), &"first", || "behind");
        // EXPLAIN names the plan as it is now; SHOW what is set now.
        let explain = format!("explain {plain}");
        let index = |rows: &[Vec<String>]| rows.concat().join(" ").contains("Index");
        other.run("set enable_seqscan = off");
        assert!(index(&other.rows(&explain)));
        other.run(
        "set enable_seqscan = on; set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off",
    );
        assert!(!index(&other.rows(&explain)));
        other.run("set work_mem = '1MB'");
        assert_eq!(other.one("show work_mem"), "1MB");
        other.run("set work_mem = '2MB'");
        assert_eq!(other.one("show work_mem"), "2MB");
        // COPY TO is answered by the shards.
        let copied = |client: &mut Client| -> Vec<Message> {
            client.simple(&format!("copy ({plain}) to stdout"))
        };
        let before = copied(&mut other);
        behind(
            env,
            &format!("update things set v = 'again' where id = {id}"),
        );
        assert_ne!(copied(&mut other), before);
    });
}

#[test]
fn r43_transactions_with_one_snapshot_are_not_answered_from_what_is_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        for begin in [
            "begin isolation level repeatable read",
            "begin isolation level serializable",
            "begin isolation level serializable read only deferrable",
            "begin; set transaction isolation level repeatable read",
            "set default_transaction_isolation = 'repeatable read'; begin",
            "set session characteristics as transaction isolation level serializable; begin",
        ] {
            let id = kept_row(env, &mut client, "things", PLAIN);
            let mut own = env.client();
            for part in begin.split("; ") {
                own.run(part);
            }
            let seen = Way::Simple.values(&mut own, PLAIN, id);
            assert_eq!(seen, ["behind"], "{begin}");
            // Its snapshot stands, and is not told to others.
            behind(
                env,
                &format!("update things set v = 'later' where id = {id}"),
            );
            assert_eq!(
                Way::Extended.values(&mut own, PLAIN, id),
                ["behind"],
                "{begin}"
            );
            own.run("commit");
            kept(
                env,
                is_old(&Way::Simple.values(&mut client, PLAIN, id)),
                "kept for others",
            );
        }
        // Outside a transaction too.
        let mut own = env.client_with(&[("default_transaction_isolation", "repeatable read")]);
        assert!(!keeps_things(env, &mut own, PLAIN));
        own.run("set default_transaction_isolation = 'read committed'");
        kept(env, keeps_things(env, &mut own, PLAIN), "it is what may be");
        let exported = "set transaction snapshot '00000003-0000001B-1'";
        own.run("begin isolation level repeatable read");
        assert_eq!(own.error(exported), "0A000");
        own.run("rollback");
        // READ COMMITTED may have what is kept.
        let id = kept_row(env, &mut client, "things", PLAIN);
        for begin in [
            "begin",
            "begin isolation level read committed",
            "begin read only",
        ] {
            client.run(begin);
            assert!(
                is_old(&Way::Simple.values(&mut client, PLAIN, id)),
                "{begin}"
            );
            client.run("commit");
        }
    });
}

/// A query that a kept answer has answered is a query: what must come before the first one is refused behind it.
#[test]
fn r43_modes_of_a_transaction_cannot_change_behind_a_kept_answer() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        for change in [
            "set transaction isolation level repeatable read",
            "set transaction isolation level serializable",
            "begin isolation level serializable",
            "start transaction isolation level repeatable read",
            "set local transaction_isolation = 'serializable'",
            "set transaction_isolation = 'repeatable read'",
            "set transaction read write",
            "set transaction_read_only = off",
            "set transaction deferrable",
            "select set_config('transaction_isolation', 'serializable', true)",
        ] {
            for joined in [false, true] {
                for way in Way::ALL {
                    let id = own_row(env, "things");
                    way.values(&mut client, PLAIN, id);
                    behind(
                        env,
                        &format!("update things set v = 'behind' where id = {id}"),
                    );
                    // Of the same route, the same answer; and the modes can change in front of it.
                    client.run("begin read only");
                    if joined {
                        client.run("set local lock_timeout = '1min'");
                        client.run("savepoint a");
                    }
                    assert!(
                        is_old(&way.values(&mut client, PLAIN, id)),
                        "{change}: kept"
                    );
                    let refused = way.ask(&mut client, change, id);
                    let error = refused.iter().find(|m| m.tag == b'E');
                    assert_eq!(
                        error.map(Message::sqlstate).as_deref(),
                        Some("25001"),
                        "{change}, {way:?}, joined: {joined}"
                    );
                    assert_eq!(client.status, b'E');
                    client.run("rollback");
                }
            }
            if !change.starts_with("select") {
                client.run("begin read only");
                client.run(change);
                client.run("rollback");
            }
        }
        // The same level again is no change.
        let id = kept_row(env, &mut client, "things", PLAIN);
        client.run("begin");
        kept(
            env,
            is_old(&Way::Simple.values(&mut client, PLAIN, id)),
            "it still is",
        );
        client.run("set transaction isolation level read committed");
        client.run("set transaction read only");
        kept(
            env,
            is_old(&Way::Simple.values(&mut client, PLAIN, id)),
            "it still is",
        );
        assert_eq!(
            client.error(&format!("update things set v = 'x' where id = {id}")),
            "25006"
        );
        client.run("rollback");
    });
}
