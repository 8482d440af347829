//! Settings and the modes of transactions: two clients that share one server by turns see what they would see with a
//! PostgreSQL of their own, message by message.

use crate::harness::direct_target;
use crate::lone::{env, shown, turn};
use crate::raw::{Client, Target, bind, execute, parse, query, sync, terminate};

/// What drivers read and write values by.
const BELIEVED: [&str; 5] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
];

/// Runs each statement as the client of that number, on both, and compares what is said and what the client then believes
/// of its settings.
fn same(steps: &[(usize, &str)]) {
    let requests: Vec<(usize, Vec<u8>)> = steps
        .iter()
        .map(|(client, sql)| (*client, query(sql)))
        .collect();
    same_requests(steps, &requests);
}

fn same_requests(asked: &[(usize, &str)], requests: &[(usize, Vec<u8>)]) {
    let _turn = turn();
    let (_, target, plain) = env();
    let (keyway, postgres) = (answers(target, requests), answers(plain, requests));
    for (index, (ours, theirs)) in keyway.iter().zip(&postgres).enumerate() {
        assert_eq!(
            ours, theirs,
            "step {index}, keyway (left) and PostgreSQL (right): {asked:#?}"
        );
    }
}

fn answers(target: &Target, requests: &[(usize, Vec<u8>)]) -> Vec<Vec<String>> {
    let count = requests.iter().map(|(client, _)| client + 1).max();
    let mut clients: Vec<Client> = (0..count.unwrap_or(0))
        .map(|_| Client::connect(target))
        .collect();
    let answers = requests
        .iter()
        .map(|(client, request)| {
            let client = &mut clients[*client];
            client.send(request).expect("send");
            let messages = client.until_ready().expect("an answer");
            let mut lines: Vec<String> = messages.iter().map(shown).collect();
            lines.push(format!("Z {}", char::from(client.status)));
            // What the client believes, wherever in the reply it was told.
            for name in BELIEVED {
                lines.push(format!("{name} = {:?}", client.parameters.get(name)));
            }
            lines
        })
        .collect();
    for client in &mut clients {
        client.send(&terminate()).expect("send");
    }
    answers
}

fn role(sql: &str) {
    // Another test ends the database's connections.
    let _turn = turn();
    let mut client = Client::connect(&direct_target("lone"));
    for statement in sql.split(';') {
        // It may be there from another test.
        client.simple(statement);
    }
    client.bye();
}

#[test]
fn datestyle_is_two_settings() {
    same(&[
        (0, "set datestyle to iso"),
        (1, "set datestyle to 'SQL, DMY'"),
        (0, "select '01/02/2024'::date"),
        (1, "select '01/02/2024'::date"),
        (0, "select set_config('datestyle', 'dmy', false)"),
        (1, "select date '2024-02-01'"),
        (0, "show datestyle"),
        (0, "set datestyle to german"),
        (0, "set datestyle to ymd"),
        (1, "show datestyle"),
        (0, "show datestyle"),
        (
            0,
            "begin; set local datestyle to sql; select '01/02/03'::date; commit",
        ),
        (1, "select '01/02/2024'::date"),
        (0, "select '01/02/2024'::date"),
        (0, "reset datestyle"),
        (1, "select 1"),
        (0, "show datestyle"),
    ]);
}

#[test]
fn a_part_of_datestyle_at_login_inherits_nothing() {
    let _turn = turn();
    let (_, target, plain) = env();
    let seen = |target: &Target| {
        let mut first = Client::connect(target);
        first.run("set datestyle to german");
        let mut second = Client::try_connect(target, &[("DateStyle", "dmy")]).expect("a login");
        let style = second.rows("show datestyle");
        first.run("select 1");
        let again = second.rows("show datestyle");
        first.bye();
        second.bye();
        (style, again)
    };
    assert_eq!(seen(target), seen(plain));
}

#[test]
fn roles_come_back_in_their_order() {
    role("create role lone_super superuser; create role lone_low; create role lone_other");
    same(&[
        (0, "set session authorization lone_super"),
        (0, "set role lone_low"),
        (1, "select 1"),
        (0, "select current_user, session_user"),
        (0, "reset session authorization"),
        (1, "select 1"),
        (0, "select current_user = session_user"),
        (0, "set role lone_low"),
        (0, "set session authorization lone_other"),
        (1, "select 1"),
        (0, "select current_user, session_user"),
        (0, "reset session authorization"),
        (0, "select current_user = session_user"),
    ]);
    // What one may set, another's role may not have to reset.
    same(&[
        (0, "set role lone_low"),
        (0, "select current_user"),
        (1, "set log_min_duration_statement = 10000"),
        (1, "set role lone_low"),
        (1, "select current_user"),
        (0, "select current_user"),
        (1, "show log_min_duration_statement"),
        (0, "set role lone_other"),
        (1, "select current_user"),
        (0, "select current_user"),
    ]);
}

#[test]
fn a_custom_setting_once_set_is_empty_and_not_missing() {
    let seen = "select current_setting('lone.x', true) is null, current_setting('lone.x', true)";
    let each: &[&[&str]] = &[
        &["set lone.x = '1'", "reset lone.x"],
        &["set lone.x = '1'", "reset all"],
        &["begin", "set local lone.x = '1'", "commit"],
        &["begin", "set local lone.x = '1'", "rollback"],
        &["begin", "set lone.x = '1'", "rollback"],
        &["begin", "select set_config('lone.x', '1', true)", "commit"],
        &["select set_config('lone.x', '1', true)"],
        &[
            "begin",
            "savepoint a",
            "set lone.x = '1'",
            "rollback to a",
            "commit",
        ],
        &[
            "begin",
            "savepoint a",
            "set local lone.x = '1'",
            "rollback to a",
            "rollback",
        ],
        &["set local lone.x = '1'"],
        &["begin", "set local lone.x = '1'", "select 1/0", "rollback"],
    ];
    for sql in each {
        let mut steps: Vec<(usize, &str)> = Vec::new();
        steps.extend(sql.iter().map(|sql| (0, *sql)));
        steps.extend([(0, seen), (1, seen), (0, seen), (1, seen)]);
        same(&steps);
    }
}

#[test]
fn clients_hear_of_every_parameter_that_changes_back() {
    same(&[
        (0, "set timezone = 'Asia/Tokyo'; select nosuch"),
        (0, "show timezone"),
        (0, "set standard_conforming_strings = off"),
        (0, "begin"),
        (0, "set standard_conforming_strings = on"),
        (0, "select 1; select nosuch"),
        (0, "rollback"),
        (0, "show standard_conforming_strings"),
    ]);
    let item = |sql: &str| [parse("", sql, &[]), bind("", "", &[], 0), execute("", 0)].concat();
    let failing = [
        item("set timezone = 'Asia/Tokyo'"),
        item("select 1/0"),
        sync(),
    ];
    same_requests(
        &[(0, "SET and an error in one batch")],
        &[(0, failing.concat()), (0, query("show timezone"))],
    );
}

#[test]
fn a_chained_transaction_has_the_modes_of_the_one_before() {
    let modes = "select current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('transaction_deferrable')";
    let each: &[&[&str]] = &[
        &["begin", "set transaction read only", "commit and chain"],
        &[
            "begin",
            "set transaction isolation level serializable",
            "select 1",
            "commit and chain",
        ],
        &[
            "begin",
            "set transaction isolation level serializable, deferrable",
            "rollback and chain",
        ],
        &[
            "begin read only",
            "set transaction read write",
            "rollback and chain",
        ],
        &[
            "begin",
            "set default_transaction_isolation = 'serializable'",
            "commit and chain",
        ],
        &[
            "begin",
            "set transaction_isolation = 'repeatable read'",
            "select 1",
            "commit and chain",
        ],
        &[
            "begin",
            "set local transaction_read_only = on",
            "select 1",
            "commit and chain",
        ],
        &[
            "begin",
            "select set_config('transaction_read_only', 'on', true)",
            "commit and chain",
        ],
        &[
            "begin read only, isolation level repeatable read",
            "select 1",
            "commit and chain",
            "rollback and chain",
        ],
        &[
            "begin isolation level serializable",
            "select 1/0",
            "commit and chain",
        ],
        &[
            "begin",
            "savepoint a",
            "set transaction read only",
            "rollback to a",
            "commit and chain",
        ],
        &[
            "set default_transaction_isolation = 'repeatable read'",
            "begin",
            "select 1",
            "commit and chain",
        ],
        // An error takes back what was said, not what a chain gave.
        &[
            "begin read only",
            "commit and chain",
            "select 1/0",
            "rollback and chain",
        ],
        &[
            "begin read only, isolation level serializable",
            "commit and chain",
            "set transaction read write",
            "select 1/0",
            "commit and chain",
            "select 1/0",
            "rollback and chain",
        ],
        // Behind a savepoint a rollback takes back what was said there, and nothing before.
        &[
            "begin",
            "savepoint a",
            "begin read only",
            "rollback and chain",
        ],
        &[
            "begin",
            "savepoint a",
            "begin read only",
            "commit and chain",
        ],
        &[
            "begin read only",
            "savepoint a",
            "select 1/0",
            "rollback and chain",
        ],
        &[
            "begin isolation level serializable",
            "savepoint a",
            "set transaction read only",
            "savepoint b",
            "select 1/0",
            "commit and chain",
        ],
        &[
            "begin read only",
            "savepoint a",
            "release a",
            "select 1/0",
            "rollback and chain",
        ],
    ];
    for sql in each {
        let mut steps: Vec<(usize, &str)> = Vec::new();
        steps.extend(sql.iter().map(|sql| (0, *sql)));
        steps.extend([
            (0, modes),
            (0, "insert into v values (77, 'x')"),
            (0, "rollback"),
            (1, modes),
        ]);
        same(&steps);
    }
}

#[test]
fn only_a_block_is_chained() {
    for sql in [
        "commit and chain",
        "rollback and chain",
        "select 1; commit and chain",
        "insert into v values (78, 'x'); commit and chain",
        "insert into v values (78, 'x'); rollback and chain",
    ] {
        same(&[
            (0, sql),
            (0, "insert into v values (79, 'y')"),
            (1, "delete from v where id > 70 returning id"),
            (0, "commit"),
        ]);
    }
    let item = |sql: &str| [parse("", sql, &[]), bind("", "", &[], 0), execute("", 0)].concat();
    same_requests(
        &[(0, "a batch")],
        &[
            (
                0,
                [item("select 1"), item("commit and chain"), sync()].concat(),
            ),
            (0, query("rollback")),
        ],
    );
}

#[test]
fn a_second_begin_gives_the_modes_it_names() {
    let modes =
        "select current_setting('transaction_isolation'), current_setting('transaction_read_only')";
    let each: &[&[&str]] = &[
        &["begin", "begin read only"],
        &["begin", "begin isolation level serializable"],
        &["begin", "select 1", "begin isolation level repeatable read"],
        &["begin", "select 1", "begin read only"],
        &["begin read only", "start transaction read write"],
        &["select 1; begin read only"],
        &["select 1; begin isolation level repeatable read"],
        &["set work_mem = '1MB'; begin isolation level repeatable read"],
        &["set work_mem = '1MB'; begin isolation level serializable, read only; select 1"],
        &[
            "begin",
            "savepoint a",
            "set transaction isolation level serializable",
        ],
        &[
            "begin isolation level serializable",
            "savepoint a",
            "set transaction isolation level serializable",
        ],
        &[
            "begin",
            "set local work_mem = '1MB'",
            "set transaction isolation level repeatable read",
        ],
        &[
            "begin",
            "set local search_path = public, pg_catalog",
            "set transaction isolation level repeatable read",
        ],
        &[
            "begin",
            "set local lone.x = 'it''s'",
            "set transaction isolation level repeatable read",
        ],
    ];
    for sql in each {
        let mut steps: Vec<(usize, &str)> = Vec::new();
        steps.extend(sql.iter().map(|sql| (0, *sql)));
        steps.extend([
            (0, modes),
            (0, "insert into v values (77, 'x')"),
            (0, "rollback"),
            (1, modes),
        ]);
        same(&steps);
    }
}

#[test]
fn settings_of_every_spelling_arrive() {
    let each: &[&[&str]] = &[
        &["set search_path = \"$user\", public", "show search_path"],
        &["set search_path = 'Mixed Case', public", "show search_path"],
        &["set search_path to 'a,b', \"c\"\"d\"", "show search_path"],
        &["set search_path = default", "show search_path"],
        &["set search_path = ''", "show search_path"],
        &[
            "select set_config('search_path', 'Foo, \"Bar\", default', false)",
            "show search_path",
        ],
        &["set time zone 5", "show timezone"],
        &["set time zone interval '-3' hour", "show timezone"],
        &["set time zone local", "show timezone"],
        &[
            "set application_name = 'it''s \\ here'",
            "show application_name",
        ],
        &["set temp_tablespaces = ''", "show temp_tablespaces"],
        &["set work_mem = 4096", "show work_mem"],
        &["set datestyle = iso, dmy", "show datestyle"],
        &["set extra_float_digits = -3", "select 1.0::float8 / 3"],
        &["set enable_seqscan to false", "show enable_seqscan"],
    ];
    for sql in each {
        let mut steps: Vec<(usize, &str)> = Vec::new();
        for local in [false, true] {
            if local {
                steps.push((0, "begin"));
            }
            steps.extend(sql.iter().map(|sql| (0, *sql)));
            if local {
                steps.push((0, "commit"));
            }
            steps.push((1, sql[1]));
            steps.push((0, sql[1]));
        }
        same(&steps);
    }
}

#[test]
fn reset_all_reaches_local_settings() {
    same(&[
        (0, "begin"),
        (0, "set local work_mem = '1MB'"),
        (0, "reset all"),
        (0, "show work_mem"),
        (0, "commit"),
        (0, "show work_mem"),
    ]);
    same(&[
        (0, "set local nosuch = 1"),
        (0, "set local work_mem = 'bogus'"),
        (0, "set local work_mem = '2MB'"),
        (0, "show work_mem"),
    ]);
}

#[test]
fn set_config_keeps_the_server_when_it_is_certain() {
    let turn = self::turn();
    let (_, target, _) = env();
    let mut client = Client::connect(target);
    let server = |client: &mut Client| client.one("select pg_backend_pid()");
    let first = server(&mut client);
    for _ in 0..3 {
        client.run("begin");
        client.run("select set_config('lone.me', '7', true), set_config('work_mem', '1MB', true)");
        assert_eq!(client.one("select current_setting('lone.me')"), "7");
        client.run("commit");
        client.run("set lone.me = ''");
        let messages = client.extended("select set_config($1, $2, false)", &["lone.me", "8"]);
        assert!(messages.iter().all(|m| m.tag != b'E'), "{messages:?}");
        assert_eq!(client.one("select current_setting('lone.me')"), "8");
        assert_eq!(server(&mut client), first);
    }
    client.bye();
    // What may not happen is not believed.
    let mut client = Client::connect(target);
    for sql in [
        "select set_config('work_mem', '1MB', false) limit 0",
        "select set_config('work_mem', '1MB', false), generate_series(1, 0)",
        "select set_config('work_mem', '1MB', false) group by 1 having false",
    ] {
        assert_eq!(client.error(sql), "0A000", "{sql}");
    }
    client.bye();
    drop(turn);
    same(&[
        (0, "begin"),
        (
            0,
            "select set_config('work_mem', '3MB', false), 1, 'a'::text",
        ),
        (0, "select set_config('work_mem', 'nonsense', false)"),
        (0, "rollback"),
        (1, "show work_mem"),
        (0, "show work_mem"),
    ]);
}
