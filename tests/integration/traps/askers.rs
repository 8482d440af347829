//! R1 to R5: who asks, with which rights, in which settings, and what names mean to him.

use crate::harness::PASSWORD;
use crate::raw::{Client, Target};
use crate::traps::{
    PLAIN, READER, Way, alone, among_others, behind, env, fresh_id, gives, is_old, is_voided,
    keeps, keeps_things, kept, kept_row, own_row, tried,
};

#[test]
fn r01_another_user_or_role_asks_another_question() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let id = kept_row(
            env,
            &mut client,
            "others",
            "select v from others where id = {id}",
        );
        let sql = format!("select v from others where id = {id}");
        let mut same = env.client();
        assert_eq!(same.one(&sql), "first", "the same user is given it");
        let of = |user: &str| {
            Client::connect(&Target {
                user: user.to_owned(),
                password: PASSWORD.to_owned(),
                ..env.target.clone()
            })
        };
        assert_eq!(
            of("other").one(&sql),
            "first",
            "so is another with the same role on the shards"
        );
        assert_eq!(
            of("third").one(&sql),
            "behind",
            "one with another role is not"
        );
        assert_eq!(client.one(&sql), "first");
        // A role without the right to read it.
        for (take, drop) in [
            (format!("set role {READER}"), "reset role"),
            (
                format!("set session authorization {READER}"),
                "reset session authorization",
            ),
            (format!("begin; set local role {READER}"), "rollback"),
            (
                format!("select set_config('role', '{READER}', false)"),
                "reset role",
            ),
        ] {
            client.run(&take);
            assert_eq!(client.error(&sql), "42501", "{take}");
            let refused = client.extended("select v from others where id = $1", &[&id.to_string()]);
            assert!(refused.iter().any(|m| m.tag == b'E'), "{take}: {refused:?}");
            client.run(drop);
            assert_eq!(client.one(&sql), "first", "{drop}");
        }
        let mut reader = env.client_with(&[("options", &format!("-c role={READER}"))]);
        assert_eq!(reader.error(&sql), "42501");
    });
}

#[test]
fn r02_a_change_of_rights_voids_everything() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut admin = env.client();
        admin.run(&format!("grant select on others to {READER}"));
        let id = own_row(env, "others");
        let sql = format!("select v from others where id = {id}");
        let mut reader = env.client();
        reader.run(&format!("set role {READER}"));
        assert_eq!(reader.one(&sql), "first");
        behind(
            env,
            &format!("update others set v = 'behind' where id = {id}"),
        );
        gives(env, &reader.one(&sql).as_str(), &"first", || "behind");
        admin.run(&format!("revoke select on others from {READER}"));
        assert_eq!(reader.error(&sql), "42501");
        let role = format!("{READER}_too");
        env.direct("s0").run(&format!("create role {role}"));
        for change in [
            format!("grant select on others to {role}"),
            format!("revoke all on others from {role}"),
            format!("/* keyway: shard=s0 */ alter role {role} set work_mem = '5MB'"),
            "/* keyway: shard=s0 */ alter database traps_s0 connection limit 500".to_owned(),
            format!("alter default privileges in schema one grant select on tables to {READER}"),
            "create policy narrow on secret as restrictive using (true)".to_owned(),
            "alter policy narrow on secret using (id > 0)".to_owned(),
            "drop policy narrow on secret".to_owned(),
            "alter table parents disable row level security".to_owned(),
        ] {
            let mut client = env.client();
            let id = kept_row(env, &mut client, "things", PLAIN);
            admin.run(&change);
            let after = Way::Simple.values(&mut client, PLAIN, id);
            assert!(!is_old(&after), "{change}");
        }
    });
}

#[test]
fn r03_tables_with_row_security_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        kept(
            env,
            keeps(
                env,
                &mut client,
                "altered",
                "select v from altered where id = {id}",
            ),
            "it is what may be",
        );
        assert!(!keeps(
            env,
            &mut client,
            "secret",
            "select v from secret where id = {id}"
        ));
        assert!(!keeps(
            env,
            &mut client,
            "secret",
            "select v from of_secret where id = {id}"
        ));
        let joined =
            "select a.v from altered a left join secret s on s.id = a.id where a.id = {id}";
        assert!(!keeps(env, &mut client, "altered", joined));
        // It is switched on behind an answer that was kept, for a role that may read.
        client.run(&format!("grant select on altered to {READER}"));
        let mut reader = env.client();
        reader.run(&format!("set role {READER}"));
        let id = kept_row(
            env,
            &mut reader,
            "altered",
            "select v from altered where id = {id}",
        );
        client.run("alter table altered enable row level security");
        let sql = format!("select v from altered where id = {id}");
        assert_eq!(reader.rows(&sql), Vec::<Vec<String>>::new());
        client.run(
            "create policy by_setting on altered using (v = current_setting('traps.who', true))",
        );
        assert_eq!(reader.rows(&sql), Vec::<Vec<String>>::new());
        reader.run("set traps.who = 'behind'");
        assert_eq!(reader.one(&sql), "behind");
        reader.run("set traps.who = 'nobody'");
        assert_eq!(reader.rows(&sql), Vec::<Vec<String>>::new());
        client.run("drop policy by_setting on altered");
        client.run("alter table altered disable row level security");
        kept(
            env,
            keeps(
                env,
                &mut client,
                "altered",
                "select v from altered where id = {id}",
            ),
            "it is what may be",
        );
    });
}

/// Each with two values, and what is shown differently under them.
const OUTPUT: [(&str, [&str; 2], &str); 9] = [
    ("timezone", ["'UTC'", "'Asia/Tokyo'"], "tz"),
    (
        "timezone",
        ["'UTC'", "'Asia/Tokyo'"],
        "tz::text || tz::date",
    ),
    ("datestyle", ["'ISO, MDY'", "'German'"], "ts"),
    ("intervalstyle", ["postgres", "iso_8601"], "iv"),
    ("extra_float_digits", ["1", "-5"], "f"),
    ("bytea_output", ["hex", "escape"], "b"),
    ("lc_monetary", ["'C'", "'C.UTF-8'"], "m"),
    (
        "xmloption",
        ["content", "document"],
        "xmlparse(content '<a/>')::text",
    ),
    (
        "default_text_search_config",
        ["'english'", "'simple'"],
        "to_tsvector(v || ' running')",
    ),
];

#[test]
fn r04_settings_that_change_what_is_shown_are_part_of_the_question() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut writer = env.client();
        for (name, values, shown) in OUTPUT {
            let id = fresh_id();
            behind(
                env,
                &format!(
                    "insert into shared values ({id}, 'first', '2024-07-01 23:30+00', '2024-07-01 12:34', '1 day 2 hours', 0.1::float8 + 0.2, '\\x00ff41', 12.5)"
                ),
            );
            let sql = format!("select v, {shown} from shared where id = {id}");
            let mut client = env.client();
            let mut direct = env.direct("s0");
            let mut answers = Vec::new();
            for value in values {
                let set = format!("set {name} = {value}");
                client.run(&set);
                direct.run(&set);
                let answer = client.simple(&sql);
                let expected = direct.simple(&sql);
                assert_eq!(answer[1..], expected[1..], "{set}: {sql}");
                answers.push(answer);
            }
            if !["lc_monetary", "xmloption"].contains(&name) {
                assert_ne!(answers[0], answers[1], "{name} matters to {shown}");
            }
            behind(
                env,
                &format!("update shared set v = 'behind' where id = {id}"),
            );
            for (value, answer) in values.iter().zip(&answers) {
                client.run(&format!("set {name} = {value}"));
                let again = client.simple(&sql);
                gives(env, &again, answer, || {
                    client.simple(&format!("/* keyway: cache=off */ {sql}"))
                });
            }
            // By other ways to the same settings.
            client.run(&format!("set {name} = {}", values[0]));
            client.run("begin");
            client.run(&format!("set local {name} = {}", values[1]));
            assert_eq!(client.simple(&sql), answers[1], "SET LOCAL {name}");
            client.run("commit");
            assert_eq!(client.simple(&sql), answers[0], "behind SET LOCAL {name}");
            client.run("begin");
            client.run(&format!("set {name} = {}", values[1]));
            assert_eq!(
                client.simple(&sql),
                answers[1],
                "SET {name} in a transaction"
            );
            client.run("rollback");
            assert_eq!(client.simple(&sql), answers[0], "SET {name} rolled back");
            let text = values[1].trim_matches('\'');
            client.run(&format!("select set_config('{name}', '{text}', false)"));
            assert_eq!(client.simple(&sql), answers[1], "set_config {name}");
            client.run(&format!("set {name} = {}", values[0]));
            {
                let mut started = env.client_with(&[(name, text)]);
                assert_eq!(started.simple(&sql), answers[1], "{name} at the start");
            }
        }
        assert_eq!(writer.error("set client_encoding = 'LATIN1'"), "0A000");
        // A setting of the client's own may be read by anything: it is part of the question as well.
        let id = kept_row(env, &mut writer, "things", PLAIN);
        writer.run("set traps.mine = '1'");
        assert!(!is_old(&Way::Simple.values(&mut writer, PLAIN, id)));
        writer.run("reset traps.mine");
        kept(
            env,
            keeps_things(env, &mut writer, PLAIN),
            "it is what may be",
        );
        // One that changes no answer is not.
        let id = kept_row(env, &mut writer, "things", PLAIN);
        writer.run("set application_name = 'another'");
        kept(
            env,
            is_old(&Way::Simple.values(&mut writer, PLAIN, id)),
            "it still is",
        );
    });
}

#[test]
fn r05_a_name_means_what_the_search_path_says() {
    tried(|| {
        // A name that may mean two tables voids what is kept.
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let id = fresh_id();
        client.run(&format!("insert into one.named values ({id}, 'of one')"));
        client.run(&format!("insert into two.named values ({id}, 'of two')"));
        let sql = format!("select v from named where id = {id}");
        for _ in 0..2 {
            for schema in ["one", "two"] {
                client.run(&format!("set search_path = {schema}"));
                assert_eq!(client.one(&sql), format!("of {schema}"));
                let answer =
                    client.extended("select v from named where id = $1", &[&id.to_string()]);
                assert_eq!(crate::raw::rows_of(&answer), [[format!("of {schema}")]]);
            }
            behind(
                env,
                &format!("update one.named set v = 'of one' where id = {id}"),
            );
        }
        client.run("set search_path = one");
        behind(
            env,
            &format!("update one.named set v = 'behind' where id = {id}"),
        );
        gives(env, &client.one(&sql).as_str(), &"of one", || "behind");
        // A write by its whole name voids it.
        env.client()
            .run(&format!("update one.named set v = 'new' where id = {id}"));
        assert_eq!(client.one(&sql), "new");
        // Two schemas have one: which is meant is a matter of rights.
        client.run("set search_path = one, two");
        assert!(!keeps_by_name(env, &mut client));
        client.run("set search_path = one, public");
        kept(env, keeps_by_name(env, &mut client), "it is what may be");
        client.run("reset search_path");
        is_voided(
            env,
            "one.named",
            "select v from one.named where id = {id}",
            "update one.named set v = 'new' where id = {id}",
        );
    });
}

fn keeps_by_name(env: &crate::harness::Env, client: &mut Client) -> bool {
    keeps(
        env,
        client,
        "one.named",
        "select v from named where id = {id}",
    )
}
