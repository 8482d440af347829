//! R6 to R8 and R18 to R23: writes, seen by what they change and by when.

use std::thread;

use crate::harness::{Env, eventually};
use crate::raw::{Client, Value, bind, execute, message, parse, query, rows_of, sync};
use crate::traps::{
    PLAIN, Way, alone, among_others, behind, env, gives, is_old, is_voided, keeps, keeps_things,
    kept, kept_by, kept_row, own_row, tried,
};

/// Locks what `waits(id)` waits for, on every shard.
fn hold(env: &Env, id: i32) -> Vec<Client> {
    let shards = ["s0", "s1", "s2"].iter();
    shards
        .map(|shard| {
            let mut direct = env.direct(shard);
            direct.run(&format!("select pg_advisory_lock({id})"));
            direct
        })
        .collect()
}

/// How many statements wait in `waits(id)`.
pub(super) fn waiting(holders: &mut [Client], id: i32) -> usize {
    let count = format!(
        "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = {id} and database = (select oid from pg_database where datname = current_database())"
    );
    holders
        .iter_mut()
        .map(|holder| holder.one(&count).parse::<usize>().expect("a count"))
        .sum()
}

/// A read that has its snapshot and waits; what `meanwhile` does; and then what it says.
fn read_around(
    env: &'static Env,
    way: Way,
    question: &'static str,
    id: i32,
    meanwhile: impl FnOnce(),
) -> Vec<String> {
    let mut holders = hold(env, id);
    let reader = thread::spawn(move || way.values(&mut env.client(), question, id));
    eventually("the read waits", || {
        (waiting(&mut holders, id) == 1).then_some(())
    });
    meanwhile();
    for mut holder in holders {
        holder.run("select pg_advisory_unlock_all()");
    }
    reader.join().expect("the reader")
}

#[test]
fn r06_a_read_that_started_before_a_write_is_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        const SLOW: &str = "select v, waits(id) from counted where id = {id}";
        let writes: [&[&str]; 6] = [
            &["update counted set v = 'second' where id = {id}"],
            &[
                "begin",
                "update counted set v = 'second' where id = {id}",
                "commit",
            ],
            &[
                "/* keyway: key={id} */ update counted set v = 'second' where v = 'first' and id + 0 = {id}",
            ],
            &[
                "delete from counted where id = {id}",
                "insert into counted (id, v) values ({id}, 'second')",
            ],
            &[
                "with w as (update counted set v = 'second' where id = {id} returning 1) select * from w",
            ],
            &["/* keyway: key={id} */ select writes_counted({id})"],
        ];
        for way in Way::ALL {
            // Without a write it is kept.
            let id = own_row(env, "counted");
            assert!(is_old(&read_around(env, way, SLOW, id, || {})));
            behind(
                env,
                &format!("update counted set v = 'behind' where id = {id}"),
            );
            let mut client = env.client();
            kept(
                env,
                is_old(&way.values(&mut client, SLOW, id)),
                "it is kept",
            );
            for write in writes {
                let id = own_row(env, "counted");
                let seen = read_around(env, way, SLOW, id, || write_all(env, write, id));
                assert!(is_old(&seen), "it began before {write:?}: {seen:?}");
                let after = way.values(&mut client, SLOW, id);
                assert!(!is_old(&after), "behind {write:?}: {after:?}");
            }
        }
    });
}

fn write_all(env: &Env, write: &[&str], id: i32) {
    let mut writer = env.client();
    for sql in write {
        writer.run(&sql.replace("{id}", &id.to_string()));
    }
}

/// A question to all shards, whose servers show which row it is about.
fn spread(id: i32) -> String {
    format!("select v from counted where n = {{id}} and id <> -{id}")
}

fn prepare_spread(client: &mut Client, id: i32) {
    let text = spread(id).replace("{id}", "$1");
    client.exchange(&[parse("spread", &text, &[23]), sync()].concat());
}

fn ask_spread(way: Way, client: &mut Client, id: i32) -> Vec<String> {
    match way {
        Way::Simple => way.values(client, &spread(id), id),
        // Without a description, which one shard alone is asked for.
        Way::Extended => {
            let values = [Value::text(&id.to_string())];
            let mut messages = bind("", "spread", &values, 0);
            messages.extend(execute("", 0));
            messages.extend(sync());
            rows_of(&client.exchange(&messages)).concat()
        }
    }
}

/// One shard has answered when the write comes, and another one not.
#[test]
fn r06_a_read_of_several_shards_that_started_before_a_write_is_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        // A row that is not on the last shard, which is the one that will wait.
        let row = || loop {
            let id = own_row(env, "counted");
            behind(env, &format!("update counted set n = {id} where id = {id}"));
            let count = format!("select count(*) from counted where id = {id}");
            let has = |shard: &&str| env.direct(shard).one(&count) == "1";
            if let Some(shard) = ["s0", "s1"].into_iter().find(has) {
                return (id, shard);
            }
        };
        let read = |way: Way, id: i32, shard: &str, meanwhile: &dyn Fn()| {
            let mut client = env.client();
            prepare_spread(&mut client, id);
            let mut holder = env.direct("s2");
            holder.run("begin; lock table counted in access exclusive mode");
            let reader = thread::spawn(move || ask_spread(way, &mut client, id));
            let waiting = "select count(*) from pg_locks where relation = 'counted'::regclass and not granted";
            eventually("a shard waits", || {
                (holder.one(waiting) == "1").then_some(())
            });
            // The row's has answered when it is idle again.
            let about = format!("id <> -{id}");
            eventually("the row's shard has answered", || {
                let servers = env.servers(shard);
                let asked =
                    |row: &Vec<String>| row[0].starts_with("idle") && row[1].contains(&about);
                servers.iter().any(asked).then_some(())
            });
            meanwhile();
            holder.run("commit");
            reader.join().expect("the reader")
        };
        let again = |way: Way, id: i32| {
            let mut client = env.client();
            prepare_spread(&mut client, id);
            ask_spread(way, &mut client, id)
        };
        for way in Way::ALL {
            let (id, shard) = row();
            assert!(is_old(&read(way, id, shard, &|| {})));
            behind(
                env,
                &format!("update counted set v = 'behind' where id = {id}"),
            );
            kept(env, is_old(&again(way, id)), "it is kept");
            for write in [
                &["update counted set v = 'second' where id = {id}"][..],
                &[
                    "begin",
                    "update counted set v = 'second' where id = {id}",
                    "commit",
                ],
                &["delete from counted where id = {id}"],
            ] {
                let (id, shard) = row();
                let seen = read(way, id, shard, &|| write_all(env, write, id));
                assert!(is_old(&seen), "it began before {write:?}: {seen:?}");
                let after = again(way, id);
                assert!(!is_old(&after), "behind {write:?}: {after:?}");
            }
        }
    });
}

#[test]
fn r06_a_read_while_a_write_is_on_its_way_is_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let (mut writer, mut reader) = (env.client(), env.client());
        for way in Way::ALL {
            let id = own_row(env, "things");
            assert!(is_old(&way.values(&mut reader, PLAIN, id)));
            writer.run("begin");
            writer.run(&format!("update things set v = 'second' where id = {id}"));
            // True now, and not for long.
            assert!(is_old(&way.values(&mut reader, PLAIN, id)));
            writer.run("commit");
            assert_eq!(way.values(&mut reader, PLAIN, id), ["second"]);
            behind(
                env,
                &format!("update things set v = 'behind' where id = {id}"),
            );
            let again = way.values(&mut reader, PLAIN, id).concat();
            gives(env, &again.as_str(), &"second", || "behind");
        }
    });
}

#[test]
fn r07_a_transaction_reads_what_it_wrote_and_keeps_it_from_others() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        for way in Way::ALL {
            let (mut client, mut other) = (env.client(), env.client());
            let id = kept_by(env, &mut client, way, "things", PLAIN);
            client.run("begin");
            kept(
                env,
                is_old(&way.values(&mut client, PLAIN, id)),
                format_args!("before its first write, {way:?}"),
            );
            client.run(&format!("update things set v = 'mine' where id = {id}"));
            assert_eq!(way.values(&mut client, PLAIN, id), ["mine"]);
            let scattered = "select max(v) from things where id in ({id}, -1)";
            assert_eq!(way.values(&mut client, scattered, id), ["mine"]);
            assert_eq!(way.values(&mut other, PLAIN, id), ["behind"]);
            // Another table's rows are not given either: they may be its own as well.
            client.run("rollback");
            assert_eq!(way.values(&mut client, PLAIN, id), ["behind"]);
            assert_eq!(way.values(&mut other, PLAIN, id), ["behind"]);
            kept(
                env,
                keeps_things(env, &mut client, PLAIN),
                "it is what may be",
            );
            // What it reads behind a write is not kept.
            let (id, second) = (own_row(env, "things"), own_row(env, "things"));
            client.run("begin");
            client.run(&format!("update things set n = 1 where id = {id}"));
            assert!(is_old(&way.values(&mut client, PLAIN, second)));
            behind(
                env,
                &format!("update things set v = 'behind' where id = {second}"),
            );
            assert_eq!(way.values(&mut client, PLAIN, second), ["behind"]);
            client.run("commit");
            // A read in a transaction that has not written is.
            let third = own_row(env, "things");
            client.run("begin");
            assert!(is_old(&way.values(&mut client, PLAIN, third)));
            behind(
                env,
                &format!("update things set v = 'behind' where id = {third}"),
            );
            kept(env, is_old(&way.values(&mut other, PLAIN, third)), "kept");
            client.run("commit");
        }
    });
}

#[test]
fn r08_what_is_rolled_back_is_never_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let (mut client, mut other) = (env.client(), env.client());
        let update = |id: i32, v: &str| format!("update things set v = '{v}' where id = {id}");
        type End = (&'static str, fn(&mut Client, i32));
        let ends: [End; 3] = [
            ("rollback", |client, _| client.run("rollback")),
            ("an error", |client, id| {
                client.error(&format!("select 1 / n from things where id = {id}"));
                client.run("commit");
            }),
            ("a savepoint", |client, _| {
                client.run("rollback to a");
                client.run("commit");
            }),
        ];
        for (what, end) in ends {
            let id = own_row(env, "things");
            client.run("begin");
            client.run("savepoint a");
            client.run(&update(id, "undone"));
            assert_eq!(Way::Simple.values(&mut client, PLAIN, id), ["undone"]);
            assert_eq!(Way::Extended.values(&mut client, PLAIN, id), ["undone"]);
            end(&mut client, id);
            for way in Way::ALL {
                assert!(is_old(&way.values(&mut client, PLAIN, id)), "{what}");
                assert!(is_old(&way.values(&mut other, PLAIN, id)), "{what}");
            }
        }
        // The client goes away in the middle.
        let id = own_row(env, "things");
        let mut leaving = env.client();
        leaving.run("begin");
        leaving.run(&update(id, "undone"));
        assert_eq!(Way::Simple.values(&mut leaving, PLAIN, id), ["undone"]);
        drop(leaving);
        assert!(is_old(&Way::Simple.values(&mut other, PLAIN, id)));
        eventually("its write is over", || {
            keeps_things(env, &mut other, PLAIN).then_some(())
        });
        // ROLLBACK TO keeps what was written before.
        let id = own_row(env, "things");
        client.run("begin");
        client.run(&update(id, "stays"));
        client.run("savepoint a");
        client.run(&update(id, "undone"));
        client.run("rollback to a");
        assert_eq!(Way::Simple.values(&mut client, PLAIN, id), ["stays"]);
        client.run("commit");
        assert_eq!(Way::Simple.values(&mut other, PLAIN, id), ["stays"]);
    });
}

#[test]
fn r18_writes_that_no_statement_names_are_seen() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let targets = "select v from targets where id = {id}";
        // A trigger, and a rule.
        is_voided(
            env,
            "targets",
            targets,
            "/* keyway: key={id} */ insert into sources values ({id}, 'x')",
        );
        is_voided(
            env,
            "targets",
            targets,
            "/* keyway: key={id} */ insert into ruled values ({id}, 'x')",
        );
        // Foreign keys' actions.
        for write in [
            "delete from parents where id = {id}",
            "delete from parents where id in ({id}) returning id",
        ] {
            let mut client = env.client();
            let children = "select v from children where id = {id}";
            let id = own_row(env, "parents");
            client.run(&format!("insert into children values ({id}, 'first')"));
            assert!(is_old(&Way::Simple.values(&mut client, children, id)));
            behind(
                env,
                &format!("update children set v = 'behind' where id = {id}"),
            );
            kept(
                env,
                is_old(&Way::Simple.values(&mut client, children, id)),
                "kept",
            );
            client.run(&write.replace("{id}", &id.to_string()));
            assert!(
                Way::Simple.values(&mut client, children, id).is_empty(),
                "{write}"
            );
        }
        // Code of the user's.
        for write in [
            "/* keyway: key={id} */ select writes_things({id})",
            "/* keyway: key={id} */ call writes_by_call({id})",
            "/* keyway: key={id} */ do $$ begin update things set v = 'by do' where v = 'behind'; end $$",
        ] {
            is_voided(env, "things", PLAIN, write);
        }
        // What has nothing to do with it voids nothing.
        let mut client = env.client();
        let id = kept_row(
            env,
            &mut client,
            "others",
            "select v from others where id = {id}",
        );
        client.run(&format!(
            "insert into parents values ({}, 'x')",
            own_row(env, "things")
        ));
        client.run(&format!(
            "/* keyway: key={id} */ select writes_things({id})"
        ));
        let others = Way::Simple.values(&mut client, "select v from others where id = {id}", id);
        kept(env, is_old(&others), format_args!("{others:?}"));
    });
}

#[test]
fn r19_partitions_parents_and_children_are_one_family() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let write = |table: &str| format!("update {table} set v = 'new' where id = {{id}}");
        let read = |table: &str| format!("select v from {table} where id = {{id}}");
        let tables = ["parted", "parted_low", "parted_low_low"];
        for read_from in tables {
            for written in tables {
                is_voided(env, "parted", &read(read_from), &write(written));
            }
            is_voided(
                env,
                "parted",
                &read(read_from),
                "update parted set d = 12, v = 'moved' where id = {id}",
            );
            is_voided(
                env,
                "parted",
                &read(read_from),
                "delete from parted where id = {id}",
            );
        }
        for read_from in ["ancestor", "descendant"] {
            for written in ["ancestor", "descendant"] {
                is_voided(env, "descendant", &read(read_from), &write(written));
            }
        }
        kept(
            env,
            keeps(env, &mut client, "parted", &read("parted")),
            "it is what may be",
        );
        let id = kept_row(env, &mut client, "parted", &read("parted"));
        // Another key's rows are others.
        let another = own_row(env, "parted");
        client.run(&format!(
            "update parted_low set v = 'new' where id = {another}"
        ));
        client.run(&format!("insert into ancestor values ({id}, 'x')"));
        kept(
            env,
            is_old(&Way::Simple.values(&mut client, &read("parted"), id)),
            "another key's rows are others",
        );
    });
}

#[test]
fn r20_views_are_what_they_are_made_of() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let write = "update things set v = 'new' where id = {id}";
        for question in [
            "select v from of_things where id = {id}",
            "select v from of_view where id = {id}",
            "select o.v from of_things o join of_view w on w.id = o.id where o.id = {id}",
            "select v from of_view where id in ({id}, -1)",
        ] {
            kept(
                env,
                keeps_things(env, &mut client, question),
                format_args!("{question}"),
            );
            is_voided(env, "things", question, write);
            is_voided(
                env,
                "things",
                question,
                "/* keyway: key={id} */ update of_things set v = 'new' where id = {id}",
            );
        }
        // A materialized view is what it was when it was last made. That its shard makes it anew is seen as a change of the
        // schema, when the router next looks for one.
        client.run("drop materialized view if exists activity_kinds");
        client.run("drop table if exists user_activities");
        client.run("create table user_activities (id int primary key, v text)");
        client.run("insert into user_activities values (1, 'first')");
        client.run("create materialized view activity_kinds as select id, v from user_activities");
        let mut shard = env.direct("activity");
        let made = "select v from activity_kinds where id = 1";
        for value in ["second", "third"] {
            let before = client.one(made);
            shard.run(&format!(
                "update user_activities set v = '{value}'; refresh materialized view activity_kinds"
            ));
            gives(env, &client.one(made), &before, || value.to_owned());
            client.run(&format!(
                "update user_activities set v = '{value}' where id = 1"
            ));
            gives(env, &client.one(made), &before, || value.to_owned());
            client.run("refresh materialized view activity_kinds");
            assert_eq!(client.one(made), value);
        }
        client.run("drop materialized view activity_kinds");
        assert_eq!(client.error(made), "42P01");
    });
}

#[test]
fn r21_a_change_of_the_schema_voids_what_was_answered_before() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let (mut client, mut other) = (env.client(), env.client());
        let altered = "select * from altered where id = {id}";
        for change in [
            "alter table altered add column more int default 7",
            "alter table altered rename column more to renamed",
            "alter table altered alter column renamed type text",
            "alter table altered drop column renamed",
            "comment on table altered is 'of a test'",
            "create index altered_v on altered (v)",
            "reindex table altered",
            "drop index altered_v",
            "create or replace function steady(i int) returns int language sql immutable as 'select i + 2'",
            "create or replace view of_view as select id, upper(v) as v from of_things where n >= -1",
        ] {
            let ids = Way::ALL.map(|way| kept_by(env, &mut client, way, "altered", altered));
            client.run(change);
            for (way, id) in Way::ALL.into_iter().zip(ids) {
                let answer = way.values(&mut other, altered, id);
                assert!(!is_old(&answer), "{change}: {answer:?}");
                let columns = if change.contains(" more") || change.contains(" type ") {
                    3
                } else {
                    2
                };
                assert_eq!(answer.len(), columns, "{change}: {answer:?}");
            }
        }
        let id = own_row(env, "things");
        let sum = format!("select steady(n), v from things where id = {id}");
        assert_eq!(client.rows(&sum)[0][0], "2");
        client.run("create or replace function steady(i int) returns int language sql immutable as 'select i + 1'");
        assert_eq!(client.rows(&sum)[0][0], "1");
        let viewed = format!("select v from of_view where id = {id}");
        assert_eq!(client.one(&viewed), "FIRST");
        client.run(
        "create or replace view of_view as select id, v || '!' as v from of_things where n >= 0",
    );
        assert_eq!(client.one(&viewed), "first!");
        client.run(
        "create or replace view of_view as select id, upper(v) as v from of_things where n >= 0",
    );
        assert_eq!(client.one(&viewed), "FIRST");
        // Rows and tables that go.
        let id = kept_row(env, &mut client, "altered", altered);
        assert_eq!(client.error("truncate altered"), "0A000");
        client.run(&format!("/* keyway: key={id} */ truncate altered"));
        assert!(Way::Simple.values(&mut other, altered, id).is_empty());
        let id = kept_row(env, &mut client, "altered", altered);
        client.run("begin");
        client.run(&format!("/* keyway: key={id} */ truncate altered"));
        assert!(Way::Simple.values(&mut client, altered, id).is_empty());
        client.run("rollback");
        assert_eq!(Way::Simple.values(&mut other, altered, id)[1], "behind");
        client.run("drop table altered");
        other.error("select * from altered where id = 1");
        client.run("create table altered (id int primary key, v text)");
        kept(
            env,
            keeps(env, &mut other, "altered", altered),
            "it is what may be",
        );
    });
}

#[test]
fn r22_copy_and_insert_select_are_writes() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let others = "select count(*), max(v) from others where id = {id}";
        // A row that is not there is an answer too.
        let id = own_row(env, "things");
        assert_eq!(Way::Simple.values(&mut client, others, id), ["0", "∅"]);
        behind(env, &format!("insert into others values ({id}, 'behind')"));
        kept(
            env,
            Way::Simple.values(&mut client, others, id) == ["0", "∅"],
            "kept",
        );
        behind(env, &format!("delete from others where id = {id}"));
        let mut copy = query(&format!("/* keyway: key={id} */ copy others from stdin"));
        copy.extend(message(b'd', format!("{id}\tcopied\n").as_bytes()));
        copy.extend(message(b'c', &[]));
        let answer = client.exchange(&copy);
        assert!(answer.iter().all(|m| m.tag != b'E'), "{answer:?}");
        assert_eq!(Way::Simple.values(&mut client, others, id), ["1", "copied"]);
        let insert = "insert into others select id, v from things where id = {id}";
        let id = own_row(env, "things");
        assert_eq!(Way::Extended.values(&mut client, others, id), ["0", "∅"]);
        Way::Extended.ask(&mut client, insert, id);
        assert_eq!(
            Way::Extended.values(&mut client, others, id),
            ["1", "first"]
        );
    });
}

#[test]
fn r23_messages_of_several_statements_are_not_kept_and_write() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let id = kept_row(env, &mut client, "things", PLAIN);
        let plain = PLAIN.replace("{id}", &id.to_string());
        for several in [
            format!("{plain}; {plain}"),
            format!("select 1; {plain}"),
            format!("{plain}; select 1"),
        ] {
            let answer = client.simple(&several);
            let values = rows_of(&answer).concat();
            assert!(
                values.contains(&"behind".to_owned()),
                "{several}: {values:?}"
            );
            assert!(!is_old(&values), "{several}: {values:?}");
        }
        gives(env, &client.one(&plain).as_str(), &"first", || "behind");
        assert_eq!(
            client.one(&format!(";; {plain} ;")),
            "first",
            "empty statements are none"
        );
        for write in [
            "update things set v = 'new' where id = {id}; select 1",
            "select 1; update things set v = 'new' where id = {id}",
            "begin; update things set v = 'new' where id = {id}; commit",
            "select 1; begin; update things set v = 'new' where id = {id}; commit; select 2",
        ] {
            let id = kept_row(env, &mut client, "things", PLAIN);
            env.client().run(&write.replace("{id}", &id.to_string()));
            assert_eq!(
                Way::Simple.values(&mut client, PLAIN, id),
                ["new"],
                "{write}"
            );
        }
    });
}
