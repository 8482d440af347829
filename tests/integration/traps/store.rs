//! R30 to R32, R34, R41, R45 and R46: what is kept, how much, and for how long.

use std::thread;

use crate::cache::numbers;
use crate::harness::{Env, Setup, eventually};
use crate::raw::Client;
use crate::traps::writes::waiting;
use crate::traps::{
    PLAIN, Way, alone, among_others, behind, env, fresh_id, gives, is_old, keeps, keeps_things,
    kept, kept_row, own_row, tried,
};

/// One value of `SHOW keyway.cache`.
fn shown(client: &mut Client, name: &str) -> u64 {
    let rows = client.rows("show keyway.cache");
    let row = rows.iter().find(|row| row[0] == name);
    row.expect("a row of that name")[1]
        .parse()
        .expect("a number")
}

#[test]
fn r30_large_answers_go_through_and_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let sized =
            |size: usize| format!("select v, repeat('x', {size}) from things where id = {{id}}");
        kept(
            env,
            keeps_things(env, &mut client, &sized(500_000)),
            "it is what may be",
        );
        let large = sized(2_000_000);
        assert!(!keeps_things(env, &mut client, &large));
        let id = own_row(env, "things");
        for way in Way::ALL {
            let values = way.values(&mut client, &large, id);
            assert_eq!([values[0].len(), values[1].len()], [5, 2_000_000]);
        }
        // Many rows that are large together.
        let many = "select v, repeat('x', 1000) from things cross join generate_series(1, 3000) where id = {id}";
        for way in Way::ALL {
            assert_eq!(way.values(&mut client, many, id).len(), 6000);
        }
        assert!(!keeps_things(env, &mut client, many));
        kept(
            env,
            keeps_things(env, &mut client, PLAIN),
            "the session goes on",
        );
    });
}

#[test]
fn r31_many_who_miss_the_same_answer_ask_once() {
    let (env, _turn) = (env(), alone());
    const ASKERS: u64 = 8;
    let slow = "select v, waits(id) from things where id = {id}";
    for way in Way::ALL {
        let id = own_row(env, "things");
        let mut holders: Vec<Client> = ["s0", "s1", "s2"].map(|shard| env.direct(shard)).into();
        for holder in &mut holders {
            holder.run(&format!("select pg_advisory_lock({id})"));
        }
        let waits = || {
            numbers(env, "keyway_cache_waits_total")
                .values()
                .sum::<u64>()
        };
        let before = waits();
        let askers: Vec<_> = (0..ASKERS)
            .map(|_| thread::spawn(move || way.values(&mut env.client(), slow, id)))
            .collect();
        eventually("all but one wait for it", || {
            (waits() == before + ASKERS - 1).then_some(())
        });
        assert_eq!(waiting(&mut holders, id), 1, "one asks a shard");
        // Another question is not held up.
        assert!(is_old(&way.values(&mut env.client(), PLAIN, id)));
        behind(
            env,
            &format!("update things set v = 'behind' where id = {id}"),
        );
        for holder in &mut holders {
            holder.run("select pg_advisory_unlock_all()");
        }
        for asker in askers {
            assert!(
                is_old(&asker.join().expect("an answer")),
                "all are told the same"
            );
        }
        assert_eq!(waits(), before + ASKERS - 1);
    }
}

#[test]
fn r32_no_rows_are_an_answer_too() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let questions = [
            "select v from others where id = {id}",
            "select v from others where id in ({id}, -{id})",
            "select coalesce(max(v), 'none') from others where id = {id}",
        ];
        for question in questions {
            for way in Way::ALL {
                let id = fresh_id();
                let none = way.values(&mut client, question, id);
                assert!(!is_old(&none));
                behind(env, &format!("insert into others values ({id}, 'first')"));
                let again = way.values(&mut client, question, id);
                gives(env, &again, &none, || {
                    way.values(
                        &mut client,
                        &format!("/* keyway: cache=off */ {question}"),
                        id,
                    )
                });
                behind(env, &format!("delete from others where id = {id}"));
                client.run(&format!("insert into others values ({id}, 'first')"));
                assert!(is_old(&way.values(&mut client, question, id)), "{question}");
                client.run(&format!("delete from others where id = {id}"));
                assert_eq!(way.values(&mut client, question, id), none, "{question}");
            }
        }
    });
}

#[test]
fn r34_what_passes_no_keyway_is_seen_when_the_time_is_over() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let short = "select v from short_lived where id = {id}";
        let joined = "select s.v from short_lived s join things t on t.id = s.id or t.id <> s.id where s.id = {id} and t.id = {id}";
        let id = own_row(env, "short_lived");
        client.run(&format!("insert into things (id, v) values ({id}, 'x')"));
        for question in [short, joined] {
            kept(
                env,
                keeps(env, &mut client, "short_lived", short),
                "it is what may be",
            );
            behind(
                env,
                &format!("update short_lived set v = 'first' where id = {id}"),
            );
            eventually("the answer before is over", || {
                is_old(&Way::Simple.values(&mut client, question, id)).then_some(())
            });
            behind(
                env,
                &format!("update short_lived set v = 'behind' where id = {id}"),
            );
            eventually("its time is over", || {
                (!is_old(&Way::Simple.values(&mut client, question, id))).then_some(())
            });
        }
        // A hint shortens it, for those who give it.
        let id = kept_row(env, &mut client, "things", PLAIN);
        let hinted = format!("/* keyway: ttl=1ms */ {PLAIN}");
        eventually("it is older than that", || {
            (!is_old(&Way::Simple.values(&mut client, &hinted, id))).then_some(())
        });
    });
}

#[test]
fn r41_answers_of_several_shards_hold_while_all_of_them_do() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let (mut client, mut writer) = (env.client(), env.client());
        // One row on each shard at least.
        let mut ids: Vec<i32> = Vec::new();
        let mut found: Vec<&str> = Vec::new();
        while found.len() < 3 {
            let id = own_row(env, "scratch");
            let has = |shard: &&str| {
                let count = format!("select count(*) from scratch where id = {id}");
                env.direct(shard).one(&count) == "1"
            };
            let shard = ["s0", "s1", "s2"]
                .into_iter()
                .find(has)
                .expect("a shard has it");
            if !found.contains(&shard) {
                found.push(shard);
                ids.push(id);
            }
        }
        let all = format!(
            "select count(*) from scratch where v = 'first' and id >= {}",
            ids[0]
        );
        let sum = format!(
            "select sum(n), min(v) from scratch where id in ({}, {}, {})",
            ids[0], ids[1], ids[2]
        );
        for id in &ids {
            let before = client.one(&all);
            let summed = client.rows(&sum);
            behind(env, "update scratch set n = n + 100");
            kept(env, client.rows(&sum) == summed, "kept");
            kept(env, client.one(&all) == before, "kept");
            writer.run(&format!("update scratch set v = 'x' where id = {id}"));
            let after: i64 = client.one(&all).parse().expect("a count");
            assert_eq!(after, before.parse::<i64>().expect("a count") - 1);
            assert_ne!(client.rows(&sum), summed);
        }
        // A key of another shard's row does not matter to an answer of one shard.
        let id = kept_row(
            env,
            &mut client,
            "scratch",
            "select v from scratch where id = {id}",
        );
        for other in &ids {
            writer.run(&format!("update scratch set v = 'y' where id = {other}"));
        }
        kept(
            env,
            is_old(&Way::Simple.values(&mut client, "select v from scratch where id = {id}", id)),
            "another key's row",
        );
        // Another topology: what was answered by the one before is nobody's answer any more.
        let id = kept_row(env, &mut client, "things", PLAIN);
        let config = env.config().replacen(
            "scratch = { key",
            "scratch_too = { key = \"id\" }\nscratch = { key",
            1,
        );
        assert_ne!(config, env.config());
        configure(env, &config);
        assert!(!is_old(&Way::Simple.values(&mut client, PLAIN, id)));
        kept(
            env,
            keeps_things(env, &mut client, PLAIN),
            "it is what may be",
        );
        configure(env, env.config());
    });
}

/// Gives the router another configuration, which is applied when this returns: nothing of it comes later, in another test.
fn configure(env: &Env, config: &str) {
    let applied = || env.router.log().matches("configuration is applied").count();
    let before = applied();
    env.router.replace_config(config);
    env.router.signal("HUP");
    eventually("the configuration is applied", || {
        (applied() > before).then_some(())
    });
}

/// A router of its own, with little room.
#[test]
fn r45_memory_stays_within_its_bound() {
    let env = Setup {
        name: "traps_small",
        tables: "things = { key = \"id\" }\n",
        schema: "create table things (id int primary key, v text);",
        more: "[cache]\nenabled = true\nsize = \"1MiB\"\nentry_max = \"64KiB\"\n",
        ..Setup::default()
    }
    .start();
    let (mut client, mut watcher) = (env.client(), env.client());
    client.run("insert into things values (1, 'first')");
    for round in 0..300 {
        // Of various lengths, all below what one may have.
        let length = 1_000 + (round * 2_713) % 60_000;
        client.run(&format!(
            "select v, repeat('x', {length}), {round} from things where id = 1"
        ));
        assert!(shown(&mut watcher, "bytes") <= 1 << 20);
    }
    assert!(shown(&mut watcher, "bytes") > 1 << 19, "it is used");
    assert!(shown(&mut watcher, "evictions") > 0);
    // Long questions count as well.
    for round in 0..200 {
        let comment = "y".repeat(20_000);
        client.run(&format!(
            "select v, {round} from things where id = 1 and v <> '{comment}'"
        ));
        assert!(shown(&mut watcher, "bytes") <= 1 << 20);
    }
    let before = shown(&mut watcher, "entries");
    assert!(before < 80, "{before} entries of 20000 bytes in 1 MiB");
    // There is room again when it is dropped, and it is used again.
    client.run("select keyway.cache_flush()");
    assert_eq!(shown(&mut watcher, "entries"), 0);
    assert_eq!(shown(&mut watcher, "bytes"), 0);
    client.run("select v from things where id = 1");
    assert_eq!(shown(&mut watcher, "entries"), 1);
}

/// A write looks for nothing: what it voids stays where it is until it must make room.
#[test]
fn r46_a_write_voids_many_answers_without_looking_for_them() {
    let (env, _turn) = (env(), alone());
    let (mut client, mut watcher) = (env.client(), env.client());
    let id = own_row(env, "scratch");
    let questions: Vec<String> = (0..200)
        .map(|number| format!("select v, {number} from scratch where id = {id}"))
        .collect();
    for question in &questions {
        client.run(question);
    }
    behind(
        env,
        &format!("update scratch set v = 'behind' where id = {id}"),
    );
    let given = questions
        .iter()
        .filter(|question| client.rows(question)[0][0] == "first")
        .count();
    kept(env, given > 190, format_args!("{given} are kept"));
    let entries = shown(&mut watcher, "entries");
    client.run(&format!("update scratch set n = 1 where id = {id}"));
    assert_eq!(
        shown(&mut watcher, "entries"),
        entries,
        "it has taken none away"
    );
    for question in &questions {
        assert_eq!(client.rows(question)[0][0], "behind");
    }
    assert!(
        shown(&mut watcher, "entries") <= entries + 1,
        "the new answers are where the old ones were"
    );
}
