//! Files and plans.

use crate::migrate::files::{FileProblem, Key, LOCK_TIMEOUT, Migration, read};
use crate::migrate::mend::mends;
use crate::migrate::plan::{Entry, Obstacle, State, Step, Wanted, steps, steps_back};
use crate::migrate::version::Version;
use std::time::Duration;

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn key(text: &str) -> Key {
    Key::Version(version(text))
}

/// Files in a directory.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn good(files: &[(&str, &str)]) -> Vec<Migration> {
    read(directory(files).path()).unwrap()
}

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    let problems = read(directory(files).path()).unwrap_err();
    problems.iter().map(FileProblem::to_string).collect()
}

fn texts(migration: &Migration) -> Vec<(&str, usize)> {
    let statements = migration.up.statements.iter();
    statements.map(|s| (s.text.as_str(), s.line)).collect()
}

#[test]
fn versions_are_compared_as_numbers() {
    assert!(version("2") < version("10"));
    assert!(version("1.9") < version("1.10"));
    assert!(version("1") < version("1.1"));
    assert_eq!(version("1.0"), version("1"));
    assert_eq!(version("1_2"), version("1.2"));
    assert_eq!(version("007"), version("7"));
    assert_eq!(version("20260101120000").to_string(), "20260101120000");
    assert_eq!(version("1_0").to_string(), "1");
    assert_eq!(version("0").to_string(), "0");
    for wrong in ["", "a", "1.", ".1", "1..2", "-1", "99999999999999999999"] {
        assert!(Version::parse(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn names_of_other_tools_are_known() {
    let migrations = good(&[
        (
            "V20260101120000__add_users.sql",
            "CREATE TABLE users (id bigint)",
        ),
        ("V20260101120000__add_users.down.sql", "DROP TABLE users"),
        ("V1__first.sql", "SELECT 1"),
        ("U1__first.sql", "SELECT -1"),
        ("V1.1__flyways_dots.sql", "SELECT 1"),
        ("U3__refinerys_late_one.sql", "SELECT 3"),
        (
            "20250101120000_dbmates.sql",
            "-- migrate:up\nSELECT 4;\n\n-- migrate:down\nSELECT -4;\n",
        ),
        ("20250102120000_sqlxs.up.sql", "SELECT 5"),
        ("20250102120000_sqlxs.down.sql", "SELECT -5"),
        ("R__a_view.sql", "CREATE OR REPLACE VIEW v AS SELECT 1"),
        ("README.md", "not a migration"),
        (".hidden.sql", "nor this"),
    ]);
    let found: Vec<(String, &str, Option<&str>)> = migrations
        .iter()
        .map(|m| {
            let down = m.down.as_ref().map(|down| down.statements[0].text.as_str());
            (m.key.to_string(), m.name.as_str(), down)
        })
        .collect();
    let expected = [
        ("1", "first", Some("SELECT -1")),
        ("1.1", "flyways_dots", None),
        ("3", "refinerys_late_one", None),
        ("20250101120000", "dbmates", Some("SELECT -4")),
        ("20250102120000", "sqlxs", Some("SELECT -5")),
        ("20260101120000", "add_users", Some("DROP TABLE users")),
        ("R a_view", "a_view", None),
    ];
    let expected: Vec<(String, &str, Option<&str>)> = expected
        .map(|(key, name, down)| (key.to_owned(), name, down))
        .into();
    assert_eq!(found, expected);
    let dbmates = &migrations[3];
    assert_eq!(texts(dbmates), [("SELECT 4", 2)]);
    assert_eq!(dbmates.down.as_ref().unwrap().statements[0].line, 5);
}

#[test]
fn statements_are_split_as_postgresql_reads_them() {
    let text = "-- a comment; with a semicolon\n\
                CREATE TABLE t (a text DEFAULT ';', \"b;\" int);\n\
                /* nested /* ; */ ; */\n\
                CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN RETURN 1; END $body$;;\n\
                CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;\n\
                CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\n\
                SELECT E'\\';'\n";
    let migrations = good(&[("V1__all.sql", text)]);
    let found = texts(&migrations[0]);
    let lines: Vec<usize> = found.iter().map(|(_, line)| *line).collect();
    assert_eq!(lines, [2, 4, 5, 6, 7]);
    assert!(found[1].0.ends_with("$body$"), "{found:?}");
    assert!(found[2].0.ends_with("END"), "{found:?}");
    assert_eq!(found[4].0, "SELECT E'\\';'");
}

#[test]
fn directives_stand_at_the_head() {
    let migrations = good(&[
        (
            "V1__one.sql",
            "-- Why.\n-- keyway: transaction=false, lock_timeout=250ms\n--keyway: shards=s0,s2\n\nCREATE INDEX CONCURRENTLY i ON t (a)",
        ),
        ("V2__two.sql", "SELECT 1"),
        (
            "3_three.sql",
            "-- migrate:up transaction:false\nVACUUM t;\n-- migrate:down\nSELECT 1",
        ),
    ]);
    let one = &migrations[0].up;
    assert!(!one.transaction);
    assert_eq!(one.lock_timeout, Duration::from_millis(250));
    assert_eq!(
        one.shards.as_deref(),
        Some(&["s0".to_owned(), "s2".to_owned()][..])
    );
    let two = &migrations[1].up;
    assert!(two.transaction);
    assert_eq!((two.lock_timeout, &two.shards), (LOCK_TIMEOUT, &None));
    assert!(!migrations[2].up.transaction);
    assert!(migrations[2].down.as_ref().unwrap().transaction);
}

#[test]
fn everything_that_is_wrong_is_said_with_its_line() {
    let found = problems(&[
        ("first.sql", "SELECT 1"),
        ("V1__a.sql", "SELECT 1"),
        ("V1.0__b.sql", "SELECT 1"),
        ("V2__c.sql", "SELECT 1;\n\nBEGIN;\nSELECT 2;\nCOMMIT"),
        (
            "V3__d.sql",
            "SELECT 1;\nCREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
        ),
        ("V4__e.sql", "\n\nSELECT 'no end"),
        ("V5__f.sql", "\\connect other"),
        ("V6__g.sql", "COPY t (a, b) FROM STDIN;\n1\t2\n\\."),
        (
            "V7__h.sql",
            "-- keyway: transation=false\nSELECT 1;\n-- keyway: transaction=false\nSELECT 2",
        ),
        ("V8__i.down.sql", "SELECT 1"),
        (
            "V10__k.sql",
            "-- keyway: transaction=false\nSET ROLE app;\nREINDEX INDEX CONCURRENTLY i",
        ),
        ("V11__l.sql", "SET ROLE app;\nREINDEX INDEX CONCURRENTLY i"),
        (
            "9_j.sql",
            "-- migrate:up transaction=false\nSELECT 1\n-- migrate:up\nSELECT 2",
        ),
    ]);
    let expected = [
        "first.sql: not a migration's name",
        "V1__a.sql: V1.0__b.sql has the same version",
        "V2__c.sql:3: the whole file is one transaction",
        "V2__c.sql:5: the whole file is one transaction",
        "V3__d.sql:2: PostgreSQL runs this statement only outside a transaction",
        "V4__e.sql:1:",
        "V5__f.sql:1: psql's backslash commands are not SQL",
        "V6__g.sql:1: COPY FROM STDIN has no data here",
        "V7__h.sql:1: \"transation\" is not a directive",
        "V7__h.sql:3: a directive stands in front of the first statement",
        "V8__i.down.sql: no file has the way there of that version",
        "V10__k.sql:2: outside a transaction the history is written between the statements",
        "V11__l.sql:2: PostgreSQL runs this statement only outside a transaction",
        "9_j.sql:1: \"transaction=false\" is not an option of a mark",
        "9_j.sql:3: the file has such a mark already",
    ];
    for expected in expected {
        assert!(
            found.iter().any(|problem| problem.starts_with(expected)),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn white_space_at_ends_does_not_change_a_checksum() {
    let sum = |text| good(&[("V1__a.sql", text)])[0].up.checksum.clone();
    let one = sum("SELECT 1;\nSELECT 2;\n");
    assert_eq!(one, sum("SELECT 1;  \r\nSELECT 2;\t\r\n\r\n"));
    assert_eq!(one, sum("\u{feff}SELECT 1;\nSELECT 2;"));
    assert_ne!(one, sum("SELECT 1;\n SELECT 2;"));
    assert_ne!(one, sum("SELECT 1;\n\nSELECT 2;"));
    assert_eq!(one.len(), 64);
}

/// A history entry of a migration as it is now.
fn entry(migration: &Migration, state: State) -> Entry {
    Entry {
        key: migration.key.clone(),
        name: migration.name.clone(),
        checksum: migration.up.checksum.clone(),
        state,
    }
}

fn shown(steps: Result<Vec<Step<'_>>, Vec<Obstacle>>) -> Vec<String> {
    match steps {
        Ok(steps) => steps
            .iter()
            .map(|step| format!("{} {} {}", step.migration.key, step.from, step.again))
            .collect(),
        Err(obstacles) => obstacles.iter().map(Obstacle::to_string).collect(),
    }
}

#[test]
fn what_is_left_follows_from_the_history() {
    let migrations = good(&[
        ("V1__a.sql", "SELECT 1"),
        ("V2__b.sql", "SELECT 2"),
        ("V3__c.sql", "-- keyway: shards=s1\nSELECT 3"),
        (
            "V4__d.sql",
            "-- keyway: transaction=false\nSELECT 4; SELECT 5",
        ),
        ("R__v.sql", "SELECT 6"),
    ]);
    let [one, two, _, four, view] = &migrations[..] else {
        panic!("{migrations:?}");
    };
    let left = |history: &[Entry], shard, wanted: &Wanted| {
        shown(steps(&migrations, history, shard, wanted))
    };
    let all = &Wanted::default();
    assert_eq!(
        left(&[], "s0", all),
        ["1 0 false", "2 0 false", "4 0 false", "R v 0 false"]
    );
    assert_eq!(left(&[], "s1", all)[2], "3 0 false");
    let done = |migration| entry(migration, State::Done);
    assert_eq!(
        left(&[done(one)], "s0", all),
        ["2 0 false", "4 0 false", "R v 0 false"]
    );
    let to = |to| Wanted {
        to: Some(version(to)),
        out_of_order: false,
    };
    assert_eq!(left(&[done(one)], "s0", &to("2")), ["2 0 false"]);
    // Half done, outside a transaction.
    let half = [
        done(one),
        done(two),
        entry(four, State::Running { begun: 2, done: 1 }),
    ];
    assert_eq!(left(&half, "s0", all), ["4 1 false", "R v 0 false"]);
    // What can be repeated runs again when its text has changed.
    let finished = [done(one), done(two), done(four), done(view)];
    assert_eq!(left(&finished, "s0", all), [""; 0]);
    let old = Entry {
        checksum: "other".to_owned(),
        ..done(view)
    };
    let finished = [done(one), done(two), done(four), old];
    assert_eq!(left(&finished, "s0", all), ["R v 0 true"]);
    let begun = [entry(one, State::Baseline), entry(two, State::Baseline)];
    assert_eq!(left(&begun, "s0", all), ["4 0 false", "R v 0 false"]);
    // Nothing goes forth from half of a way back.
    let back = [done(one), entry(two, State::Undoing { begun: 1, done: 1 })];
    assert_eq!(
        left(&back, "s0", all),
        ["V2__b.sql is half undone; end that with `keyway migrate down`"]
    );
}

#[test]
fn the_last_versions_are_undone_where_they_are() {
    let migrations = good(&[
        ("V1__a.sql", "SELECT 1"),
        ("V2__b.up.sql", "SELECT 2"),
        ("V3__c.sql", "SELECT 3"),
        ("V3__c.down.sql", "SELECT -3"),
        (
            "V4__d.sql",
            "-- migrate:up\nSELECT 4\n-- migrate:down\nSELECT -4; SELECT -5",
        ),
        ("R__v.sql", "SELECT 6"),
    ]);
    let [one, two, three, four, view] = &migrations[..] else {
        panic!("{migrations:?}");
    };
    let done = |migration| entry(migration, State::Done);
    let back = |histories: &[&[Entry]], count| {
        let named: Vec<(String, Vec<Entry>)> = ["s0", "s1"]
            .into_iter()
            .zip(histories)
            .map(|(shard, own)| (shard.to_owned(), own.to_vec()))
            .collect();
        match steps_back(&migrations, &named, count) {
            Ok(all) => all
                .iter()
                .map(|steps| {
                    let keys = steps.iter().map(|step| {
                        assert!(step.back && !step.script.statements.is_empty());
                        format!("{}:{}", step.migration.key, step.from)
                    });
                    keys.collect::<Vec<_>>().join(" ")
                })
                .collect::<Vec<String>>(),
            Err(obstacles) => obstacles
                .iter()
                .map(|(shard, obstacle)| format!("{shard}: {obstacle}"))
                .collect(),
        }
    };
    let whole = [done(one), done(two), done(three), done(four), done(view)];
    assert_eq!(back(&[&whole, &whole], 1), ["4:0", "4:0"]);
    assert_eq!(back(&[&whole, &whole], 2), ["4:0 3:0", "4:0 3:0"]);
    // The last versions of the keyspace, not of each shard.
    assert_eq!(back(&[&whole, &whole[..3]], 1), ["4:0", ""]);
    assert_eq!(
        back(&[&whole, &whole[..3]], 3),
        [
            "s0: V2__b.up.sql has no way back; write it to V2__b.down.sql",
            "s1: V2__b.up.sql has no way back; write it to V2__b.down.sql"
        ]
    );
    assert_eq!(back(&[&[], &[]], 1), ["", ""]);
    // Half undone: from where it stood.
    let mut half = entry(four, State::Undoing { begun: 2, done: 1 });
    half.checksum
        .clone_from(&four.down.as_ref().unwrap().checksum);
    assert_eq!(back(&[&[half.clone()], &whole], 1), ["4:1", "4:0"]);
    half.checksum = "other".to_owned();
    assert_eq!(
        back(&[&[half]], 1),
        ["s0: V4__d.sql was changed after 1 of its statements ran; restore it"]
    );
    let running = entry(three, State::Running { begun: 1, done: 0 });
    assert_eq!(
        back(&[&[running]], 1),
        ["s0: V3__c.sql ran half (0 of its statements); end that with `keyway migrate up`"]
    );
    let begun = entry(three, State::Baseline);
    assert_eq!(
        back(&[&[begun]], 1),
        [
            "s0: version 3 was there before the history began; Keyway did not run it and cannot undo it"
        ]
    );
}

#[test]
fn histories_are_corrected_by_what_the_files_say() {
    let migrations = good(&[
        ("V1__a.sql", "SELECT 1"),
        ("V2__b.sql", "SELECT 2"),
        (
            "V3__c.sql",
            "-- keyway: transaction=false\nSELECT 3; SELECT 4",
        ),
        ("R__v.sql", "SELECT 6"),
    ]);
    let changed = |index: usize, state| Entry {
        checksum: "other".to_owned(),
        ..entry(&migrations[index], state)
    };
    let gone = Entry {
        key: key("2.5"),
        name: "lost".to_owned(),
        checksum: "other".to_owned(),
        state: State::Done,
    };
    let history = [
        entry(&migrations[0], State::Done),
        changed(1, State::Done),
        gone.clone(),
        changed(2, State::Running { begun: 2, done: 1 }),
        changed(3, State::Done),
        Entry {
            state: State::Baseline,
            ..gone
        },
    ];
    let found: Vec<String> = mends(&migrations, &history)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "V2__b.sql: its present text counts as what ran",
            "2.5 lost has no file: forgotten",
            "V3__c.sql: its present text counts as what ran; it goes on behind statement 1",
        ]
    );
}

#[test]
fn what_stands_in_the_way_is_said() {
    let migrations = good(&[
        ("V1__a.sql", "SELECT 1"),
        ("V2__b.sql", "SELECT 2"),
        (
            "V3__c.sql",
            "-- keyway: transaction=false\nSELECT 3; SELECT 4",
        ),
    ]);
    let changed = |index: usize, state| Entry {
        checksum: "other".to_owned(),
        ..entry(&migrations[index], state)
    };
    let gone = Entry {
        key: key("2.5"),
        name: "lost".to_owned(),
        checksum: "other".to_owned(),
        state: State::Done,
    };
    let history = [
        changed(0, State::Done),
        gone,
        changed(2, State::Running { begun: 2, done: 1 }),
    ];
    let found = shown(steps(&migrations, &history, "s0", &Wanted::default()));
    let expected = [
        "version 2.5 (lost) has run and has no file",
        "V1__a.sql was changed after it ran",
        "V2__b.sql comes before version 2.5, which has run",
        "V3__c.sql was changed after 1 of its statements ran",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    let history = [entry(&migrations[1], State::Done)];
    let late = Wanted {
        to: None,
        out_of_order: true,
    };
    assert_eq!(
        shown(steps(&migrations, &history, "s0", &late)),
        ["1 0 false", "3 0 false"]
    );
}
