//! R24 to R26, R28, R29, R33 and R44: the protocol's shapes. A hit must leave a session as a server would have.

use crate::cache::numbers;
use crate::harness::{Env, eventually};
use crate::raw::{
    Client, Message, Value, bind, close, describe, execute, flush, message, parse, query, rows_of,
    sync, tags,
};
use crate::traps::writes::waiting;
use crate::traps::{
    PLAIN, Way, alone, among_others, behind, env, fresh_id, gives, is_old, keeps_things, kept,
    kept_by, kept_row, own_row, tried,
};

const SQL: &str = "select v, id from things where id = $1";

/// A Bind with formats as they are: of the values, and of the results.
fn bind_with(portal: &str, statement: &str, values: &[Value], results: &[i16]) -> Vec<u8> {
    let mut whole = bind(portal, statement, values, 0);
    // The last four bytes are one format; the tag and the length are in front.
    whole.truncate(whole.len() - 4);
    whole.extend_from_slice(&(results.len() as u16).to_be_bytes());
    for format in results {
        whole.extend_from_slice(&format.to_be_bytes());
    }
    message(b'B', &whole[5..])
}

fn id_value(id: i32) -> [Value; 1] {
    [Value::text(&id.to_string())]
}

/// Every message of a script, with its ReadyForQuery's status, and what differs between two servers taken out.
fn talk(client: &mut Client, script: &[Vec<u8>]) -> Vec<String> {
    let mut said = Vec::new();
    for request in script {
        for message in client.exchange(request) {
            said.push(match message.tag {
                b'T' => format!("T {:?}", message.columns()),
                b'E' => format!("E {}", message.sqlstate()),
                _ => format!("{message:?}"),
            });
        }
        said.push(format!("Z {}", char::from(client.status)));
    }
    said
}

/// The first request is what may be answered from the cache.
type Script = fn(i32) -> Vec<Vec<u8>>;

fn joined(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), sync()].concat()
}

fn asked(id: i32) -> Vec<u8> {
    joined(&[
        parse("", SQL, &[23]),
        bind("", "", &id_value(id), 0),
        describe(b'P', ""),
        execute("", 0),
    ])
}

/// What follows a question in a session, in and out of a transaction.
const SCRIPTS: [(&str, Script); 16] = [
    ("alone", |id| vec![asked(id)]),
    ("in a transaction", |id| {
        vec![query("begin"), asked(id), asked(id), query("commit")]
    }),
    ("the portal again", |id| {
        vec![
            query("begin"),
            asked(id),
            joined(&[execute("", 0)]),
            joined(&[execute("", 1)]),
            query("commit"),
        ]
    }),
    ("the portal described behind it", |id| {
        vec![
            query("begin"),
            asked(id),
            joined(&[describe(b'P', "")]),
            joined(&[describe(b'P', ""), execute("", 0)]),
            query("commit"),
        ]
    }),
    ("the portal described behind it, in binary", |id| {
        let ask = joined(&[
            parse("", SQL, &[23]),
            bind_with("", "", &id_value(id), &[0, 1]),
            execute("", 0),
        ]);
        vec![
            query("begin"),
            ask.clone(),
            joined(&[describe(b'P', "")]),
            query("rollback"),
            ask,
        ]
    }),
    ("the portal is gone outside a transaction", |id| {
        vec![
            asked(id),
            joined(&[execute("", 0)]),
            asked(id),
            joined(&[describe(b'P', "")]),
        ]
    }),
    ("the portal is gone behind Query", |id| {
        vec![
            query("begin"),
            asked(id),
            query("select 1"),
            joined(&[execute("", 0)]),
            query("rollback"),
        ]
    }),
    ("the portal closed", |id| {
        vec![
            query("begin"),
            asked(id),
            joined(&[close(b'P', ""), execute("", 0)]),
            query("rollback"),
        ]
    }),
    ("the portal behind a savepoint", |id| {
        vec![
            query("begin"),
            query("savepoint a"),
            asked(id),
            query("rollback to a"),
            joined(&[execute("", 0)]),
            query("rollback"),
        ]
    }),
    ("the unnamed statement again", |id| {
        vec![
            asked(id),
            joined(&[bind("", "", &id_value(id), 0), execute("", 0)]),
            joined(&[describe(b'S', "")]),
        ]
    }),
    ("the unnamed statement with another value", |id| {
        vec![
            asked(id),
            joined(&[
                bind("", "", &id_value(-id), 0),
                describe(b'P', ""),
                execute("", 0),
            ]),
        ]
    }),
    ("the unnamed statement is gone behind Query", |id| {
        vec![
            asked(id),
            query("select 1"),
            joined(&[bind("", "", &id_value(id), 0), execute("", 0)]),
        ]
    }),
    ("a failed transaction", |id| {
        vec![
            query("begin"),
            asked(id),
            query("select 1/0"),
            asked(id),
            query("rollback"),
            asked(id),
        ]
    }),
    ("a write behind it", |id| {
        vec![
            query("begin"),
            asked(id),
            query(&format!("update things set v = v where id = {id}")),
            asked(id),
            query("rollback"),
        ]
    }),
    ("a cursor behind it", |id| {
        vec![
            query("begin"),
            asked(id),
            query(&format!(
                "declare c cursor for select v from things where id = {id}"
            )),
            query("fetch 1 from c"),
            asked(id),
            query("commit"),
        ]
    }),
    ("settings behind it", |id| {
        vec![
            query("begin"),
            asked(id),
            query("set local work_mem = '1MB'"),
            query("show work_mem"),
            asked(id),
            query("commit"),
        ]
    }),
];

/// The shard that has a row.
fn shard_of(env: &Env, id: i32) -> Client {
    let has = |shard: &&str| {
        let count = format!("select count(*) from things where id = {id}");
        env.direct(shard).one(&count) == "1"
    };
    let shard = ["s0", "s1", "s2"].into_iter().find(has);
    env.direct(shard.expect("a shard has it"))
}

#[test]
fn r24_a_session_goes_on_as_if_a_server_had_answered() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        for (name, script) in SCRIPTS {
            let id = own_row(env, "things");
            let requests = script(id);
            let expected = talk(&mut shard_of(env, id), &requests);
            let miss = talk(&mut env.client(), &requests);
            assert_eq!(miss, expected, "{name}: not kept yet");
            // Every question of a script in another session first, so that each is kept.
            talk(&mut env.client(), &script(id));
            let hit = talk(&mut env.client(), &requests);
            assert_eq!(hit, expected, "{name}: kept");
        }
        let id = own_row(env, "things");
        let mut client = env.client();
        let before = client.exchange(&asked(id));
        behind(
            env,
            &format!("update things set v = 'behind' where id = {id}"),
        );
        kept(env, client.exchange(&asked(id)) == before, "kept");
        let again = talk(
            &mut client,
            &[
                query("begin"),
                asked(id),
                joined(&[describe(b'P', "")]),
                query("commit"),
            ],
        );
        assert!(again.iter().any(|line| line.contains("first")), "{again:?}");
    });
}

#[test]
fn r24_named_statements_are_the_clients_own() {
    let (env, _turn) = (env(), among_others());
    let id = own_row(env, "things");
    let ask = |name: &str, id: i32| joined(&[bind("", name, &id_value(id), 0), execute("", 0)]);
    let prepare = |name: &str, sql: &str| joined(&[parse(name, sql, &[23])]);
    let (mut one, mut two) = (env.client(), env.client());
    one.exchange(&prepare("a", SQL));
    two.exchange(&prepare("b", SQL));
    let first = one.exchange(&ask("a", id));
    assert_eq!(tags(&first), "2DC");
    behind(
        env,
        &format!("update things set v = 'behind' where id = {id}"),
    );
    assert_eq!(two.exchange(&ask("b", id)), first, "under another name");
    assert_eq!(one.exchange(&ask("a", id)), first);
    // A Bind of what was never parsed, or is closed, fails whatever is kept.
    let missing = two.exchange(&ask("a", id));
    assert_eq!(missing[0].sqlstate(), "26000");
    two.exchange(&joined(&[close(b'S', "b")]));
    assert_eq!(two.exchange(&ask("b", id))[0].sqlstate(), "26000");
    // Another text under the same name is another question.
    let other = "select id, v from things where id = $1";
    two.exchange(&prepare("b", other));
    let told = rows_of(&two.exchange(&ask("b", id)));
    assert_eq!(told, [[id.to_string(), "behind".to_owned()]]);
    // Described, then executed.
    let mut three = env.client();
    let described = three.exchange(&joined(&[parse("c", SQL, &[23]), describe(b'S', "c")]));
    assert_eq!(tags(&described), "1tT");
    let whole = joined(&[
        bind("", "c", &id_value(id), 0),
        describe(b'P', ""),
        execute("", 0),
    ]);
    let answer = three.exchange(&whole);
    assert_eq!(
        rows_of(&answer)[0][0],
        "behind",
        "what is kept says nothing of its columns"
    );
    behind(
        env,
        &format!("update things set v = 'later' where id = {id}"),
    );
    assert_eq!(answer[1].columns(), described[2].columns());
    assert_eq!(three.exchange(&whole), answer);
    // PREPARE and EXECUTE are answered by a shard.
    three.run("prepare d (int) as select v from things where id = $1");
    assert_eq!(three.one(&format!("execute d ({id})")), "later");
}

#[test]
fn r24_portals_read_in_pieces_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let ids = [
            own_row(env, "things"),
            own_row(env, "things"),
            own_row(env, "things"),
        ];
        let sql = format!(
            "select v, id from things where id in ({}, {}, {}) order by id",
            ids[0], ids[1], ids[2]
        );
        let all = joined(&[parse("", &sql, &[]), bind("", "", &[], 0), execute("", 0)]);
        let part = joined(&[parse("", &sql, &[]), bind("", "", &[], 0), execute("", 2)]);
        for first in [&part, &all] {
            let tag = |sent: &[u8]| if sent == part { "12DDs" } else { "12DDDC" };
            assert_eq!(tags(&client.exchange(first)), tag(first));
            assert_eq!(tags(&client.exchange(&all)), "12DDDC");
            assert_eq!(tags(&client.exchange(&part)), "12DDs");
            assert_eq!(tags(&client.exchange(&all)), "12DDDC");
            env.client()
                .run(&format!("update things set n = 1 where id = {}", ids[0]));
        }
        // In a transaction the rest follows, whole and once.
        for _ in 0..2 {
            client.run("begin");
            let opened = joined(&[parse("", &sql, &[]), bind("p", "", &[], 0), execute("p", 2)]);
            assert_eq!(tags(&client.exchange(&opened)), "12DDs");
            assert_eq!(tags(&client.exchange(&all)), "12DDDC");
            assert_eq!(tags(&client.exchange(&joined(&[execute("p", 0)]))), "DC");
            assert_eq!(tags(&client.exchange(&joined(&[execute("p", 0)]))), "C");
            client.run("commit");
        }
        behind(
            env,
            &format!(
                "update things set v = 'behind' where id in ({}, {}, {})",
                ids[0], ids[1], ids[2]
            ),
        );
        kept(
            env,
            is_old(&rows_of(&client.exchange(&all)).concat()),
            "all is kept",
        );
        assert!(
            !is_old(&rows_of(&client.exchange(&part)).concat()),
            "a part is not"
        );
    });
}

#[test]
fn r24_pipelines_and_named_portals_are_answered_in_order() {
    let (env, _turn) = (env(), among_others());
    let mut client = env.client();
    let (one, two) = (own_row(env, "things"), own_row(env, "things"));
    let ids = |messages: &[Message]| -> Vec<String> {
        rows_of(messages)
            .into_iter()
            .map(|row| row[1].clone())
            .collect()
    };
    let single = |id: i32| [bind("", "", &id_value(id), 0), execute("", 0)].concat();
    for _ in 0..2 {
        client.exchange(&asked(one));
        client.exchange(&asked(two));
        // Several in one batch.
        let batch = joined(&[parse("", SQL, &[23]), single(one), single(two), single(one)]);
        let answer = client.exchange(&batch);
        assert_eq!(tags(&answer), "12DC2DC2DC");
        assert_eq!(ids(&answer), [one, two, one].map(|id| id.to_string()));
        // Several batches at once.
        client
            .send(
                &[
                    asked(one),
                    asked(two),
                    query(&PLAIN.replace("{id}", &one.to_string())),
                    asked(two),
                ]
                .concat(),
            )
            .expect("send");
        for (number, expected) in ["1", "2", "q", "2"].into_iter().enumerate() {
            let answer = client.until_ready().expect("an answer");
            match expected {
                "q" => assert_eq!(tags(&answer), "TDC", "{number}"),
                which => {
                    let id = if which == "1" { one } else { two };
                    assert_eq!(tags(&answer), "12TDC", "{number}");
                    assert_eq!(ids(&answer), [id.to_string()], "{number}");
                }
            }
        }
        // A named portal.
        let named = joined(&[
            parse("", SQL, &[23]),
            bind("p", "", &id_value(one), 0),
            describe(b'P', "p"),
            execute("p", 0),
        ]);
        assert_eq!(tags(&client.exchange(&named)), "12TDC");
        // An error in the middle skips the rest.
        let broken = joined(&[
            parse("", SQL, &[23]),
            single(one),
            bind("", "nobody", &[], 0),
            single(two),
        ]);
        assert_eq!(tags(&client.exchange(&broken)), "12DCE");
        assert_eq!(ids(&client.exchange(&asked(two))), [two.to_string()]);
        // Flush: the answer comes before Sync.
        let flushed = [parse("", SQL, &[23]), single(one), flush()].concat();
        client.send(&flushed).expect("send");
        let part: Vec<Message> = (0..4).map(|_| client.read().expect("a message")).collect();
        assert_eq!(tags(&part), "12DC");
        assert_eq!(
            tags(&client.exchange(&[single(two), sync()].concat())),
            "2DC"
        );
        assert_eq!(client.status, b'I');
    }
}

#[test]
fn r25_formats_and_descriptions_are_part_of_the_shape() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let formats: [&[i16]; 6] = [&[], &[0], &[1], &[0, 0], &[0, 1], &[1, 0]];
        let id = own_row(env, "things");
        let binary = Value {
            format: 1,
            bytes: Some(id.to_be_bytes().to_vec()),
        };
        let questions: Vec<(Vec<u8>, bool)> = formats
            .iter()
            .flat_map(|results| {
                [id_value(id)[0].clone(), binary.clone()]
                    .into_iter()
                    .flat_map(|value| {
                        [false, true].map(|described| {
                            let mut parts = vec![
                                parse("", SQL, &[23]),
                                bind_with("", "", std::slice::from_ref(&value), results),
                            ];
                            if described {
                                parts.push(describe(b'P', ""));
                            }
                            parts.push(execute("", 0));
                            (joined(&parts), described)
                        })
                    })
            })
            .collect();
        // Each by a session of its own, in one order and the other: whoever is first fills what the others are given.
        let mut direct = shard_of(env, id);
        let expected: Vec<Vec<String>> = questions
            .iter()
            .map(|(q, _)| talk(&mut direct, std::slice::from_ref(q)))
            .collect();
        let ask_all = |backwards: bool| -> Vec<Vec<String>> {
            let mut client = env.client();
            let mut answers: Vec<(usize, Vec<String>)> = Vec::new();
            let order: Vec<usize> = if backwards {
                (0..questions.len()).rev().collect()
            } else {
                (0..questions.len()).collect()
            };
            for number in order {
                answers.push((
                    number,
                    talk(&mut client, std::slice::from_ref(&questions[number].0)),
                ));
            }
            answers.sort();
            answers.into_iter().map(|(_, answer)| answer).collect()
        };
        for backwards in [false, true] {
            env.client()
                .run(&format!("update things set n = n + 1 where id = {id}"));
            assert_eq!(ask_all(backwards), expected);
            assert_eq!(ask_all(!backwards), expected);
            behind(
                env,
                &format!("update things set v = 'later' where id = {id}"),
            );
            let again = ask_all(backwards);
            for (again, expected) in again.iter().zip(&expected) {
                gives(env, again, expected, || {
                    let later = |said: &String| said.replace("first", "later");
                    expected.iter().map(later).collect()
                });
            }
            behind(
                env,
                &format!("update things set v = 'first' where id = {id}"),
            );
        }
        // Formats that are not as many as columns are an error, kept or not.
        let wrong = joined(&[
            parse("", SQL, &[23]),
            bind_with("", "", &id_value(id), &[0, 0, 0]),
            execute("", 0),
        ]);
        for _ in 0..2 {
            assert_eq!(
                env.client()
                    .exchange(&wrong)
                    .last()
                    .expect("an error")
                    .sqlstate(),
                "08P01"
            );
        }
        // Simple and extended say the same.
        let simple = env
            .client()
            .simple(&format!("select v, id from things where id = {id}"));
        assert_eq!(rows_of(&simple), [["first".to_owned(), id.to_string()]]);
    });
}

#[test]
fn r26_the_status_is_the_sessions_own() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        for way in Way::ALL {
            let mut client = env.client();
            let id = kept_by(env, &mut client, way, "things", PLAIN);
            assert_eq!(client.status, b'I');
            client.run("begin");
            kept(
                env,
                is_old(&way.values(&mut client, PLAIN, id)),
                "it still is",
            );
            assert_eq!(client.status, b'T');
            client.error("select 1 / 0");
            assert_eq!(client.status, b'E');
            let refused = way.ask(&mut client, PLAIN, id);
            assert_eq!(refused.last().expect("an error").sqlstate(), "25P02");
            assert_eq!(client.status, b'E');
            client.run("rollback");
            kept(
                env,
                is_old(&way.values(&mut client, PLAIN, id)),
                "it still is",
            );
            assert_eq!(client.status, b'I');
            // What was first asked in a transaction, outside.
            let second = own_row(env, "things");
            client.run("begin");
            way.values(&mut client, PLAIN, second);
            assert_eq!(client.status, b'T');
            client.run("commit");
            behind(
                env,
                &format!("update things set v = 'behind' where id = {second}"),
            );
            kept(env, is_old(&way.values(&mut client, PLAIN, second)), "kept");
            assert_eq!(client.status, b'I');
        }
    });
}

#[test]
fn r26_answers_with_notices_or_new_parameters_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        let noticed = "select v, notices(id) from things where id = {id}";
        kept(
            env,
            keeps_things(
                env,
                &mut client,
                "select v, steady(id) from things where id = {id}",
            ),
            "it is what may be",
        );
        assert!(!keeps_things(env, &mut client, noticed));
        let id = own_row(env, "things");
        for way in Way::ALL {
            for _ in 0..3 {
                let answer = way.ask(&mut client, noticed, id);
                assert!(tags(&answer).contains('N'), "{answer:?}");
            }
        }
        // A notice that is not asked for changes what is asked.
        client.run("set client_min_messages = error");
        let answer = client.simple(&noticed.replace("{id}", &id.to_string()));
        assert_eq!(tags(&answer), "TDC");
        client.run("reset client_min_messages");
        let answer = client.simple(&noticed.replace("{id}", &id.to_string()));
        assert!(tags(&answer).contains('N'), "{answer:?}");
        // Parameters that a statement changes are told each time.
        for name in ["one", "two"] {
            client.run(&format!(
                "select set_config('application_name', '{name}', false)"
            ));
            assert_eq!(client.parameters["application_name"], name);
        }
    });
}

#[test]
fn r28_different_questions_never_look_alike() {
    let (env, _turn) = (env(), among_others());
    let mut client = env.client();
    let id = own_row(env, "things");
    let sql = "select $2::text, $3::text, v from things where id = $1";
    let pairs: [[Option<&str>; 2]; 8] = [
        [Some("ab"), Some("c")],
        [Some("a"), Some("bc")],
        [Some("abc"), Some("")],
        [Some(""), Some("abc")],
        [Some("abc"), None],
        [None, Some("abc")],
        [None, None],
        [Some(""), Some("")],
    ];
    for _ in 0..2 {
        for pair in pairs {
            let values: Vec<Value> = [
                Some(id.to_string()),
                pair[0].map(str::to_owned),
                pair[1].map(str::to_owned),
            ]
            .into_iter()
            .map(|text| Value {
                format: 0,
                bytes: text.map(String::into_bytes),
            })
            .collect();
            let question = joined(&[
                parse("", sql, &[23, 25, 25]),
                bind("", "", &values, 0),
                execute("", 0),
            ]);
            let row = rows_of(&client.exchange(&question)).concat();
            let shown = |text: Option<&str>| text.unwrap_or("∅").to_owned();
            assert_eq!(
                row,
                [shown(pair[0]), shown(pair[1]), "first".to_owned()],
                "{pair:?}"
            );
        }
    }
    // The parameters' types are part of it.
    for (oid, expected) in [(25, "text"), (1043, "character varying")] {
        let typed = joined(&[
            parse(
                "",
                "select pg_typeof($2)::text, v from things where id = $1",
                &[23, oid],
            ),
            bind("", "", &[id_value(id)[0].clone(), Value::text("x")], 0),
            execute("", 0),
        ]);
        assert_eq!(rows_of(&client.exchange(&typed))[0][0], expected);
    }
    // Literals are compared as they are written: a blank, a case, a quote.
    for (literal, expected) in [
        ("'a'", "a"),
        ("'a '", "a "),
        ("'A'", "A"),
        ("''''", "'"),
        ("'--'", "--"),
        ("'/* a */'", "/* a */"),
    ] {
        for _ in 0..2 {
            let sql = format!("select {literal}, v from things where id = {id}");
            assert_eq!(client.rows(&sql)[0][0], expected, "{literal}");
        }
    }
}

#[test]
fn r29_comments_do_not_make_another_question() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        for way in Way::ALL {
            let id = kept_by(env, &mut client, way, "things", PLAIN);
            for text in [
                "/* controller='users',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01' */ select v from things where id = {id}",
                "select v from things where id = {id} /* request=1 */",
                "select v/* a /* nested */ one */ from things where id = {id} -- to the end",
            ] {
                let answer = way.values(&mut client, text, id);
                kept(
                    env,
                    is_old(&answer),
                    format_args!("{text}, {way:?}: {answer:?}"),
                );
            }
            // A hint is no comment.
            for hint in ["/* keyway: cache=off */", "/* keyway: key={id} */"] {
                let text = format!("{hint} {PLAIN}").replace("key={id}", &format!("key={id}"));
                assert_eq!(way.values(&mut client, &text, id), ["behind"], "{text}");
            }
            // What looks like a comment in a string is none.
            let quoted = "select v || '/* a */' from things where id = {id}";
            assert_eq!(way.values(&mut client, quoted, id), ["behind/* a */"]);
            let other = "select v || '/* b */' from things where id = {id}";
            assert_eq!(way.values(&mut client, other, id), ["behind/* b */"]);
        }
        assert_eq!(client.error("/* keyway: cach=off */ select 1"), "42601");
    });
}

#[test]
fn r33_errors_are_not_kept() {
    tried(|| {
        let (env, _turn) = (env(), among_others());
        let mut client = env.client();
        for way in Way::ALL {
            let id = own_row(env, "things");
            let question = "select v, 10 / n from things where id = {id}";
            for _ in 0..2 {
                let answer = way.ask(&mut client, question, id);
                assert_eq!(answer.last().expect("an error").sqlstate(), "22012");
            }
            behind(env, &format!("update things set n = 5 where id = {id}"));
            assert_eq!(way.values(&mut client, question, id), ["first", "2"]);
            behind(env, &format!("update things set n = 0 where id = {id}"));
            kept(
                env,
                way.values(&mut client, question, id) == ["first", "2"],
                "kept",
            );
        }
        // One that fails behind its first rows.
        let ids = [own_row(env, "things"), own_row(env, "things")];
        behind(
            env,
            &format!("update things set n = 1 where id = {}", ids[0]),
        );
        let some = format!(
            "select repeat(v, 5000), 10 / n from things where id in ({}, {}) order by id",
            ids[0], ids[1]
        );
        for _ in 0..2 {
            assert_eq!(client.error(&some), "22012");
        }
        behind(
            env,
            &format!("update things set n = 1 where id = {}", ids[1]),
        );
        assert_eq!(client.rows(&some).len(), 2);
        // An unknown table or column that comes to be.
        assert_eq!(client.error("select w from things where id = 1"), "42703");
    });
}

#[test]
fn r33_a_cancelled_question_is_asked_again_by_those_who_wait() {
    let (env, _turn) = (env(), alone());
    let id = own_row(env, "things");
    let slow = "select v, waits(id) from things where id = {id}";
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
    let mut first = env.client();
    let canceller = first.canceller();
    let asker = std::thread::spawn(move || Way::Simple.ask(&mut first, slow, id));
    eventually("the first asks", || {
        (waiting(&mut holders, id) == 1).then_some(())
    });
    let other = std::thread::spawn(move || Way::Simple.values(&mut env.client(), slow, id));
    eventually("the other waits", || (waits() == before + 1).then_some(()));
    canceller.cancel();
    let answer = asker.join().expect("an answer");
    assert_eq!(answer.last().expect("an error").sqlstate(), "57014");
    // The other asks for itself now.
    eventually("the other asks", || {
        (waiting(&mut holders, id) == 1).then_some(())
    });
    for holder in &mut holders {
        holder.run("select pg_advisory_unlock_all()");
    }
    assert!(is_old(&other.join().expect("an answer")));
    behind(
        env,
        &format!("update things set v = 'behind' where id = {id}"),
    );
    let after = Way::Simple.values(&mut env.client(), slow, id);
    // The other's answer may have been kept; the cancelled one's was none.
    assert_eq!(after.len(), 2);
}

#[test]
fn r44_a_prepared_statement_whose_columns_change_is_not_answered_as_before() {
    tried(|| {
        let (env, _turn) = (env(), alone());
        let mut client = env.client();
        let all = "select * from altered where id = $1";
        let id = fresh_id();
        client.run(&format!(
            "insert into altered (id, v) values ({id}, 'first')"
        ));
        let mut prepared = env.client();
        prepared.exchange(&joined(&[parse("all", all, &[23]), describe(b'S', "all")]));
        let ask = |prepared: &mut Client| {
            prepared.exchange(&joined(&[
                bind("", "all", &id_value(id), 0),
                execute("", 0),
            ]))
        };
        let before = ask(&mut prepared);
        assert_eq!(rows_of(&before)[0].len(), 2);
        behind(
            env,
            &format!("update altered set v = 'behind' where id = {id}"),
        );
        kept(env, ask(&mut prepared) == before, "kept");
        client.run("alter table altered add column more int default 7");
        let after = ask(&mut prepared);
        // PostgreSQL refuses it where the client was told of other columns.
        assert_eq!(
            after.last().map(Message::sqlstate).as_deref(),
            Some("0A000"),
            "{after:?}"
        );
        let fresh = client.extended(all, &[&id.to_string()]);
        assert_eq!(rows_of(&fresh)[0].len(), 3);
        kept_row(
            env,
            &mut client,
            "altered",
            "select v, more from altered where id = {id}",
        );
        client.run("alter table altered drop column more");
        let fresh = client.extended(all, &[&id.to_string()]);
        assert_eq!(rows_of(&fresh)[0].len(), 2);
        assert_eq!(
            rows_of(&ask(&mut prepared)),
            [[id.to_string(), "behind".to_owned()]]
        );
    });
}
