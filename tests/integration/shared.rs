//! Several Keyways in front of the same shards, that share versions and kept answers over a Redis: what each of them gives
//! after another's writes, and when Redis or one of them goes.
//!
//! As in `cache`, a row that is changed on its shard directly shows which answers were kept.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Env, Redis, Router, Setup, eventually, http_get};
use crate::raw::{Client, Message, Target, rows_of};

const TABLES: &str = r#"
users = { key = "id" }
orders = { key = "user_id" }
countries = { reference = true }
"#;

const SCHEMA: &str = "
create table users (id int primary key, name text, n int not null default 0);
create table orders (id int, user_id int references users on delete cascade, note text, primary key (user_id, id));
create table countries (code text primary key, name text);
create view shown as select id, name from users;
-- keyspace: settings
create table user_settings (id int primary key, value text);
";

/// Not what anything takes that goes well, and long before `cache.ttl`.
const SOON: Duration = Duration::from_secs(20);
/// How long marks outlive their Keyway.
const LEASE: Duration = Duration::from_secs(2);
/// As `cache.redis.timeout` in tests that do not take the time: machines are busy.
const UNHURRIED: &str = "500ms";
/// The deployment's secret.
const SECRET: &str = "a secret of the tests";

/// The shards know the user `guest` by a role of its own.
const GUEST: &str =
    "do $$ begin create role shared_guest login; exception when duplicate_object then null; end $$";

/// Two Keyways.
struct Pair {
    redis: Redis,
    env: Env,
    other: Router,
}

/// `cache` is more of `[cache]`; rows 1 to 60 of `users` are there.
fn start(name: &str, cache: &str, timeout: &str) -> Pair {
    let redis = Redis::start();
    let url = redis.url();
    start_with(name, cache, timeout, redis, &url)
}

fn start_with(name: &str, cache: &str, timeout: &str, redis: Redis, url: &str) -> Pair {
    let env = Setup {
        name,
        tables: TABLES,
        schema: SCHEMA,
        more: &format!(
            "[users.guest]\npassword = \"{}\"\nserver_user = \"shared_guest\"\n\
             [cache]\nenabled = true\n{cache}\n\
             [cache.redis]\nurls = [\"{}\"]\nsecret = \"{SECRET}\"\nlease = \"{}s\"\ntimeout = \"{timeout}\"\n",
            crate::harness::PASSWORD,
            url,
            LEASE.as_secs(),
        ),
        ..Setup::default()
    }
    .start();
    assert_eq!(env.schema_failures, Vec::<String>::new());
    let mut client = env.client();
    for id in 1..=60 {
        let insert = format!("insert into users values ({id}, 'first')");
        eventually("Redis is told in time", || {
            error_of(&client.simple(&insert)).is_none().then_some(())
        });
    }
    let other = env.another_router();
    Pair { redis, env, other }
}

fn strict(name: &str) -> Pair {
    start(name, "consistency = \"strict\"", UNHURRIED)
}

/// How often a router has given a kept answer.
fn hits(router: &Router, layer: &str) -> u64 {
    let (_, text) = http_get(router.http, "/metrics").expect("metrics");
    let name = format!("keyway_cache_hits_total{{layer=\"{layer}\"}} ");
    let count = text.lines().find_map(|line| line.strip_prefix(&name));
    count.and_then(|n| n.parse().ok()).expect("a count")
}

fn all_hits(router: &Router) -> u64 {
    hits(router, "memory") + hits(router, "redis")
}

/// A session through a router.
fn client_of(env: &Env, router: &Router) -> Client {
    Client::connect(&target_of(env, router))
}

fn target_of(env: &Env, router: &Router) -> Target {
    Target {
        port: router.port,
        ..env.target.clone()
    }
}

/// Asks until the answer is a kept one of this router, and returns it. Nobody else may ask it meanwhile.
fn until_kept(router: &Router, client: &mut Client, sql: &str) -> Vec<Vec<String>> {
    eventually(&format!("kept: {sql}"), || {
        let before = all_hits(router);
        let rows = client.rows(sql);
        (all_hits(router) > before).then_some(rows)
    })
}

/// Changes rows behind the routers' backs, wherever they are.
fn behind(env: &Env, sql: &str) {
    for shard in ["s0", "s1", "s2"] {
        env.direct(shard).run(sql);
    }
}

fn name_of(client: &mut Client, id: i32) -> String {
    client.one(&format!("select name from users where id = {id}"))
}

fn error_of(messages: &[Message]) -> Option<String> {
    let error = messages.iter().find(|m| m.tag == b'E');
    error.map(Message::sqlstate)
}

/// How long it takes.
fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let answer = what();
    (answer, started.elapsed())
}

impl Pair {
    fn one(&self) -> Client {
        self.env.client()
    }

    fn two(&self) -> Client {
        client_of(&self.env, &self.other)
    }

    /// Both answer this from what they keep.
    fn both_keep(&self, sql: &str) {
        until_kept(&self.env.router, &mut self.one(), sql);
        until_kept(&self.other, &mut self.two(), sql);
    }

    /// Names of the answers in Redis.
    fn answers(&self) -> Vec<String> {
        let mut all: Vec<String> = self.redis.ask(&["KEYS", "keyway:keyway:kept:*"]);
        all.sort();
        all
    }
}

#[test]
fn r34_a_strict_keyway_sees_at_once_what_another_has_written() {
    let pair = strict("shared_strict");
    let (mut one, mut two) = (pair.one(), pair.two());
    for shard in ["s0", "s1", "s2"] {
        one.run(&format!(
            "/* keyway: shard={shard} */ insert into countries values ('at', 'first')"
        ));
    }
    one.run("insert into user_settings values (1, 'first')");
    one.run("insert into orders values (1, 7, 'first'), (2, 7, 'second')");
    one.run("insert into orders values (1, 8, 'first')");
    let of = |id: i32| format!("select name from users where id = {id}");
    let changes = |id: i32| format!("update users set name = 'changed' where id = {id}");
    let in_block = |sql: String, end: &str| vec!["begin".to_owned(), sql.clone(), end.to_owned()];
    let everywhere = |sql: &str| {
        let of_shard = |shard: &&str| format!("/* keyway: shard={shard} */ {sql}");
        ["s0", "s1", "s2"].iter().map(of_shard).collect()
    };
    // What two reads, what one does, and what two reads then.
    let cases: Vec<(&str, String, Vec<String>, &str)> = vec![
        ("an update", of(1), vec![changes(1)], "changed"),
        ("a delete", "select count(*) from users where id = 2".to_owned(), vec!["delete from users where id = 2".to_owned()], "0"),
        ("an insert", "select count(*) from users where id = 100".to_owned(), vec!["insert into users values (100, 'new')".to_owned()], "1"),
        ("a transaction", of(3), in_block(changes(3), "commit"), "changed"),
        ("a rollback", of(4), in_block(changes(4), "rollback"), "first"),
        ("a savepoint", of(5), vec!["begin".into(), "savepoint a".into(), changes(5), "rollback to a".into(), "commit".into()], "first"),
        ("behind a savepoint", of(5), vec!["begin".into(), "savepoint a".into(), changes(5), "release a".into(), "commit".into()], "changed"),
        ("many shards", "select count(*) from users where name = 'many'".to_owned(), vec!["update users set name = 'many' where id = 6".into()], "1"),
        ("a set of keys", "select count(*) from users where id in (9, 10, 11) and name = 'first'".to_owned(), vec![changes(10)], "2"),
        ("a cascade", "select count(*) from orders where user_id = 7".to_owned(), vec!["delete from users where id = 7".into()], "0"),
        ("a join", "select u.name || o.note from users u join orders o on o.user_id = u.id where u.id = 8".to_owned(), vec!["update orders set note = ' changed' where user_id = 8".into()], "first changed"),
        ("a view", "select name from shown where id = 12".to_owned(), vec![changes(12)], "changed"),
        ("no key", "select count(*) from users where name = 'all'".to_owned(), vec!["/* keyway: shard=s0 */ update users set name = 'all'".into(), "/* keyway: shard=s1 */ update users set name = 'all'".into(), "/* keyway: shard=s2 */ update users set name = 'all'".into()], "59"),
        ("a data-modifying query", of(13), vec!["with c as (update users set name = 'with' where id = 13 returning id) select id from c".into()], "with"),
        ("a message of two", of(14), vec!["update users set name = 'one' where id = 14; update users set name = 'two' where id = 14".into()], "two"),
        ("a reference table", "select name from countries where code = 'at'".to_owned(), everywhere("update countries set name = 'changed'"), "changed"),
        ("another keyspace", "select value from user_settings where id = 1".to_owned(), vec!["update user_settings set value = 'changed' where id = 1".into()], "changed"),
        ("a truncate", "select count(*) from orders".to_owned(), everywhere("truncate orders"), "0"),
        ("a block that does what it likes", of(15), vec!["/* keyway: key=15 */ do $$ begin update users set name = 'done' where id = 15; end $$".into()], "done"),
    ];
    for (what, sql, writes, then) in &cases {
        for is_extended in [false, true] {
            let before = until_kept(&pair.other, &mut two, sql);
            let mut writer = pair.one();
            // The second time the writes come by the extended protocol, and change nothing more.
            for write in writes {
                if is_extended && !write.contains(';') {
                    let answer = writer.extended(write, &[]);
                    let error = error_of(&answer);
                    assert!(
                        error.is_none() || error.as_deref() == Some("23505"),
                        "{what}: {error:?}"
                    );
                } else {
                    writer.run(write);
                }
            }
            let answer = if is_extended {
                rows_of(&two.extended(sql, &[]))
            } else {
                two.rows(sql)
            };
            assert_eq!(answer, [[*then]], "{what}: after {before:?}");
            writer.bye();
        }
    }
    // By the extended protocol with a parameter, which is another question.
    let sql = "select name from users where id = $1";
    let ask = |two: &mut Client| rows_of(&two.extended(sql, &["16"]));
    ask(&mut two);
    eventually("kept", || {
        let before = all_hits(&pair.other);
        ask(&mut two);
        (all_hits(&pair.other) > before).then_some(())
    });
    behind(&pair.env, "update users set name = 'behind' where id = 16");
    assert_eq!(ask(&mut two), [["all"]], "kept");
    one.extended("update users set n = n + $2 where id = $1", &["16", "1"]);
    assert_eq!(ask(&mut two), [["behind"]]);
}

#[test]
fn a_strict_keyway_sees_every_one_of_many_writes() {
    let pair = strict("shared_pairs");
    let (mut one, mut two) = (pair.one(), pair.two());
    until_kept(&pair.other, &mut two, "select n from users where id = 1");
    let before = all_hits(&pair.other);
    for turn in 1..=200 {
        let id = 1 + turn % 3;
        let sql = format!("select n from users where id = {id}");
        one.run(&format!("update users set n = {turn} where id = {id}"));
        // Read by the one at times too, so that either finds what the other has kept.
        if turn % 2 == 0 {
            assert_eq!(one.one(&sql), turn.to_string());
        }
        assert_eq!(two.one(&sql), turn.to_string());
        assert_eq!(two.one(&sql), turn.to_string());
        let sum = two.one("select count(*) from users where n > 0");
        assert_eq!(sum, turn.min(3).to_string());
    }
    let kept = all_hits(&pair.other) - before;
    assert!(kept >= 100, "{kept} of 600 were kept answers");
}

#[test]
fn a_change_of_the_schema_reaches_the_other_keyway() {
    let pair = strict("shared_schema");
    let (mut one, mut two) = (pair.one(), pair.two());
    let all = "select * from users where id = 1";
    assert_eq!(
        until_kept(&pair.other, &mut two, all),
        [["1", "first", "0"]]
    );
    one.run("alter table users add column more text default 'more'");
    assert_eq!(two.rows(all), [["1", "first", "0", "more"]]);
    // Once both plan by the same again.
    assert_eq!(
        until_kept(&pair.other, &mut two, all),
        [["1", "first", "0", "more"]]
    );
    one.run("create or replace view shown as select id, name || '!' as name from users");
    assert_eq!(two.one("select name from shown where id = 1"), "first!");
    let shown = "select name from shown where id = 2";
    assert_eq!(until_kept(&pair.other, &mut two, shown), [["first!"]]);
    one.run("update users set name = 'second' where id = 2");
    assert_eq!(two.rows(shown), [["second!"]]);
    one.run("alter table users drop column more");
    assert_eq!(two.rows(all), [["1", "first", "0"]]);
    until_kept(&pair.other, &mut two, all);
    one.run("grant select on users to public");
    assert_eq!(two.rows(all), [["1", "first", "0"]]);
}

#[test]
fn a_bounded_keyway_sees_soon_what_another_has_written() {
    let pair = start("shared_bounded", "", UNHURRIED);
    let (mut one, mut two) = (pair.one(), pair.two());
    let mut longest = Duration::ZERO;
    for turn in 1..=20 {
        let sql = "select n from users where id = 1";
        until_kept(&pair.other, &mut two, sql);
        until_kept(&pair.env.router, &mut one, sql);
        one.run(&format!("update users set n = {turn} where id = 1"));
        assert_eq!(one.one(sql), turn.to_string(), "its own at once");
        let ((), took) = timed(|| {
            eventually("the other's", || {
                (two.one(sql) == turn.to_string()).then_some(())
            });
        });
        longest = longest.max(took);
    }
    eprintln!("seen after {longest:?} at most");
    assert!(longest < SOON, "{longest:?}");
    // It was the other's message, and not that nothing is kept.
    let sql = "select n from users where id = 1";
    until_kept(&pair.other, &mut two, sql);
    behind(&pair.env, "update users set n = 77 where id = 1");
    assert_eq!(two.one(sql), "20", "kept");
    one.run("update users set name = 'x' where id = 1");
    eventually("void", || (two.one(sql) == "77").then_some(()));
}

/// What another Keyway has kept is given, and nothing else that lies in Redis.
#[test]
fn answers_are_found_where_another_has_kept_them() {
    for (name, cache) in [
        ("shared_found", "consistency = \"strict\""),
        ("shared_found_bounded", ""),
    ] {
        let pair = start(name, cache, UNHURRIED);
        let sql = |id: i32| format!("select name from users where id = {id}");
        let mut one = pair.one();
        pair.env.direct("s0").run(GUEST);
        one.run("grant select on users to shared_guest");
        for id in 1..=6 {
            let before = pair.answers().len();
            until_kept(&pair.env.router, &mut one, &sql(id));
            eventually("put", || (pair.answers().len() > before).then_some(()));
        }
        behind(&pair.env, "update users set name = 'behind'");
        let mut two = pair.two();
        let before = hits(&pair.other, "redis");
        // A bounded one is not in step at first.
        eventually("in step", || {
            (two.one(&sql(1)) == "first" || name_of(&mut two, 2) == "first").then_some(())
        });
        assert_eq!(name_of(&mut two, 3), "first", "found");
        assert!(hits(&pair.other, "redis") > before);

        // Whoever asks otherwise, or as somebody else, asks another question.
        let mut elsewhere = Client::try_connect(
            &target_of(&pair.env, &pair.other),
            &[("search_path", "public, pg_temp")],
        )
        .expect("a session");
        assert_eq!(name_of(&mut elsewhere, 3), "behind");
        let guest = Target {
            user: "guest".to_owned(),
            ..target_of(&pair.env, &pair.other)
        };
        assert_eq!(name_of(&mut Client::connect(&guest), 3), "behind");
        let mut text = two.extended("select name from users where id = $1", &["3"]);
        text.retain(|m| m.tag == b'D');
        assert_eq!(rows_of(&text), [["behind"]], "another form of question");

        // Started anew, with the same secret.
        let third = pair.env.another_router();
        let mut three = client_of(&pair.env, &third);
        assert_eq!(
            until_kept(&third, &mut three, &sql(4)),
            [["first"]],
            "found"
        );
        assert!(hits(&third, "redis") > 0);
        // With another one.
        let config = pair.env.config().replace(SECRET, "another secret of tests");
        let stranger = Router::start(&config);
        let mut strange = client_of(&pair.env, &stranger);
        assert_eq!(until_kept(&stranger, &mut strange, &sql(4)), [["behind"]]);
        assert_eq!(hits(&stranger, "redis"), 0, "nothing that it can open");
    }
}

#[test]
fn r38_what_lies_in_redis_and_is_no_answer_is_never_given() {
    let pair = strict("shared_garbage");
    let mut one = pair.one();
    let sql = |id: i32| format!("select name from users where id = {id}");
    until_kept(&pair.env.router, &mut one, &sql(1));
    until_kept(&pair.env.router, &mut one, &sql(2));
    let keys = eventually("put", || Some(pair.answers()).filter(|all| all.len() == 2));
    let answers: Vec<Vec<u8>> = keys.iter().map(|key| pair.redis.get(key)).collect();
    behind(&pair.env, "update users set name = 'behind'");
    let longer = |extra: &[u8]| [&answers[0], extra].concat();
    let flipped = |at: usize| {
        let mut bytes = answers[0].clone();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        bytes
    };
    let mut lies = vec![
        Vec::new(),
        b"not an answer".to_vec(),
        vec![0; 4096],
        answers[0][..answers[0].len() / 2].to_vec(),
        longer(b"!"),
        longer(&answers[1]),
        // Another question's.
        answers[1].clone(),
        flipped(0),
        flipped(5),
        flipped(40),
        flipped(usize::MAX),
    ];
    // Their own first: it is given, or nothing here would say anything.
    lies.insert(0, answers[0].clone());
    let is_first = |client: &mut Client| {
        let names = [name_of(client, 1), name_of(client, 2)];
        names.iter().filter(|name| *name == "first").count()
    };
    for (turn, lie) in lies.iter().enumerate() {
        // One that has kept nothing itself.
        let router = pair.env.another_router();
        let mut client = client_of(&pair.env, &router);
        pair.redis.set(&keys[0], lie);
        pair.redis.set(&keys[1], &answers[1]);
        eventually("redis is asked", || {
            (name_of(&mut client, 3) == "behind" && hits(&router, "memory") > 0).then_some(())
        });
        // Of the two questions, one has its answer and the other the lie.
        let found = if turn == 0 { 2 } else { 1 };
        assert_eq!(is_first(&mut client), found, "turn {turn}: {lie:?}");
    }
    // Not even a text.
    pair.redis.ask::<i64>(&["DEL", &keys[0]]);
    pair.redis.ask::<i64>(&["LPUSH", &keys[0], "a list"]);
    pair.redis.set(&keys[1], &answers[1]);
    let router = pair.env.another_router();
    let mut client = client_of(&pair.env, &router);
    eventually("redis is asked", || {
        (name_of(&mut client, 3) == "behind" && hits(&router, "memory") > 0).then_some(())
    });
    assert_eq!(is_first(&mut client), 1, "a list");
    // What was an answer once, put back behind a write.
    one.run("update users set n = 1 where id = 1");
    one.run("update users set n = 1 where id = 2");
    pair.redis.ask::<i64>(&["DEL", &keys[0], &keys[1]]);
    pair.redis.set(&keys[0], &answers[0]);
    pair.redis.set(&keys[1], &answers[1]);
    assert_eq!(is_first(&mut client), 0, "void");
    assert_eq!(is_first(&mut pair.two()), 0, "void");
    // And the tokens themselves, lost or overwritten.
    until_kept(&pair.other, &mut pair.two(), &sql(1));
    pair.redis.set("{keyway:keyway}:versions", b"no hash");
    behind(&pair.env, "update users set name = 'again'");
    assert_eq!(name_of(&mut pair.two(), 1), "again");
}

/// docs/cache.md says what rights a user of Redis needs.
#[test]
fn the_rights_that_the_manual_asks_for_are_enough() {
    let redis = Redis::start();
    let said = include_str!("../../docs/cache.md")
        .lines()
        .find(|line| line.starts_with("ACL SETUSER"))
        .expect("the rights");
    let words: Vec<&str> = said.split_whitespace().collect();
    redis.ask::<()>(&words);
    let url = format!("{}?user=keyway&pass=PASSWORD", redis.url());
    let pair = start_with(
        "shared_rights",
        "consistency = \"strict\"",
        UNHURRIED,
        redis,
        &url,
    );
    let sql = "select name from users where id = 1";
    pair.both_keep(sql);
    pair.one()
        .run("update users set name = 'second' where id = 1");
    assert_eq!(name_of(&mut pair.two(), 1), "second");
    pair.both_keep(sql);
    pair.one().run("select keyway.cache_flush()");
    pair.both_keep(sql);
    // The log of what was refused is empty.
    let refused: Vec<redis::Value> = pair.redis.ask(&["ACL", "LOG"]);
    assert_eq!(refused, []);
}

#[test]
fn a_flush_by_one_is_one_for_all() {
    for (name, cache) in [
        ("shared_flush", "consistency = \"strict\""),
        ("shared_flush_bounded", ""),
    ] {
        let pair = start(name, cache, UNHURRIED);
        let (mut one, mut two) = (pair.one(), pair.two());
        let sql = "select name from users where id = 1";
        for (turn, arguments) in ["", "'users'"].iter().enumerate() {
            pair.both_keep(sql);
            eventually("put", || (!pair.answers().is_empty()).then_some(()));
            let now = format!("behind {turn}");
            behind(&pair.env, &format!("update users set name = '{now}'"));
            assert_ne!(one.one(sql), now, "kept");
            assert_ne!(two.one(sql), now, "kept");
            one.run(&format!("select keyway.cache_flush({arguments})"));
            assert_eq!(one.one(sql), now, "{name}: flush({arguments})");
            eventually("flushed", || (two.one(sql) == now).then_some(()));
        }
        // By the command.
        pair.both_keep(sql);
        behind(&pair.env, "update users set name = 'by the command'");
        assert_ne!(two.one(sql), "by the command", "kept");
        let flushed = std::process::Command::new(env!("CARGO_BIN_EXE_keyway"))
            .args(["flush", "-c"])
            .arg(pair.env.router.config_file())
            .output()
            .expect("run keyway");
        assert!(flushed.status.success());
        eventually("flushed", || {
            (one.one(sql) == "by the command" && two.one(sql) == "by the command").then_some(())
        });
    }
}

#[test]
fn keyways_that_know_other_tables_give_nothing_wrong() {
    let pair = strict("shared_digests");
    // It knows one table more, and that writes nothing.
    let config = pair.env.config().replace(
        "[keyspaces.main.tables]\n",
        "[keyspaces.main.tables]\nextras = { key = \"id\" }\n",
    ) + "[functions]\nnothing = { reads = [], writes = [] }\n";
    let stranger = Router::start(&config);
    let (mut one, mut two) = (pair.one(), pair.two());
    let mut strange = client_of(&pair.env, &stranger);
    let sql = "select n from users where id = 1";
    let end = Instant::now() + LEASE * 4;
    let mut turn = 0;
    while Instant::now() < end {
        turn += 1;
        let writer = match turn % 3 {
            0 => &mut one,
            1 => &mut two,
            _ => &mut strange,
        };
        writer.run(&format!("update users set n = {turn} where id = 1"));
        for client in [&mut one, &mut two, &mut strange] {
            for _ in 0..3 {
                assert_eq!(client.one(sql), turn.to_string());
            }
        }
    }
    // Whatever they agreed on by turns: at last there is one kind of them again.
    drop(stranger);
    pair.both_keep(sql);
    one.run("update users set n = -1 where id = 1");
    assert_eq!(two.one(sql), "-1");
}

/// What a strict Keyway says while Redis is not there.
fn check_strict_without_redis(pair: &Pair, then: &str) {
    let (mut one, mut two) = (pair.one(), pair.two());
    let started = Instant::now();
    behind(&pair.env, &format!("update users set name = '{then}'"));
    for _ in 0..10 {
        assert_eq!(name_of(&mut two, 1), then, "nothing kept is given");
        assert_eq!(name_of(&mut one, 1), then, "nothing kept is given");
    }
    eprintln!("20 reads and more took {:?}", started.elapsed());
    for _ in 0..10 {
        let update = "update users set n = n + 1 where id = 1";
        let (error, took) = timed(|| one.error(update));
        assert_eq!(error, "57P03");
        assert!(took < Duration::from_secs(1), "{took:?}");
        let (answer, took) = timed(|| two.extended(update, &[]));
        assert_eq!(error_of(&answer).as_deref(), Some("57P03"));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    one.run("begin");
    assert_eq!(name_of(&mut one, 1), then);
    assert_eq!(
        one.error("update users set n = n + 1 where id = 1"),
        "57P03"
    );
    assert_eq!(one.error("select 1"), "25P02");
    one.run("rollback");
    assert_eq!(name_of(&mut one, 1), then);
    assert_eq!(one.error("/* keyway: shard=s0 */ truncate orders"), "57P03");
    assert_eq!(one.error("alter table users add column never int"), "57P03");
    assert_eq!(one.status, b'I');
    assert_eq!(two.one("select n from users where id = 1"), "0");
    // Reads in a block, and one that locks, need nobody to be told.
    one.run("begin");
    assert_eq!(name_of(&mut one, 2), then);
    one.run("commit");
}

#[test]
fn r37_a_strict_keyway_without_redis_reads_and_refuses_to_write() {
    let mut pair = start("shared_away", "consistency = \"strict\"", "100ms");
    let sql = "select name from users where id = 1";
    pair.both_keep(sql);
    behind(&pair.env, "update users set name = 'behind'");
    assert_eq!(name_of(&mut pair.two(), 1), "first", "kept");
    pair.redis.signal("STOP");
    check_strict_without_redis(&pair, "stopped");
    pair.redis.signal("CONT");
    until_writes(&pair);
    pair.both_keep(sql);
    let (mut one, mut two) = (pair.one(), pair.two());
    one.run("update users set name = 'written' where id = 1");
    assert_eq!(name_of(&mut two, 1), "written");

    pair.both_keep(sql);
    one.run("update users set n = 0 where id = 1");
    pair.both_keep(sql);
    pair.redis.kill();
    check_strict_without_redis(&pair, "killed");
    pair.redis.restart();
    assert_eq!(name_of(&mut two, 1), "killed", "nothing of before");
    until_writes(&pair);
    assert_eq!(name_of(&mut two, 1), "killed", "nothing of before");
    pair.both_keep(sql);
    one.run("update users set name = 'at last' where id = 1");
    assert_eq!(name_of(&mut two, 1), "at last");
}

/// Until both write again. Row 60 is what they write.
fn until_writes(pair: &Pair) {
    for mut client in [pair.one(), pair.two()] {
        eventually("writes are done again", || {
            let answer = client.simple("update users set n = n + 1 where id = 60");
            error_of(&answer).is_none().then_some(())
        });
    }
}

#[test]
fn a_keyway_that_may_degrade_writes_without_redis() {
    let cache = "consistency = \"strict\"\non_loss = \"degrade\"";
    let mut pair = start("shared_degrade", cache, "100ms");
    let sql = "select name from users where id = 1";
    for (turn, is_killed) in [false, true].into_iter().enumerate() {
        pair.both_keep(sql);
        let (mut one, mut two) = (pair.one(), pair.two());
        if is_killed {
            pair.redis.kill();
        } else {
            pair.redis.signal("STOP");
        }
        for step in 0..20 {
            let name = format!("{turn}.{step}");
            let (answer, took) =
                timed(|| one.simple(&format!("update users set name = '{name}' where id = 1")));
            assert_eq!(error_of(&answer), None);
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_eq!(name_of(&mut one, 1), name);
            assert_eq!(name_of(&mut two, 1), name, "nothing is given without Redis");
        }
        one.run("begin");
        one.run("update users set name = 'in a block' where id = 1");
        one.run("commit");
        assert_eq!(name_of(&mut two, 1), "in a block");
        if is_killed {
            pair.redis.restart();
        } else {
            pair.redis.signal("CONT");
        }
        // What was not told is told soon.
        eventually("told", || {
            (name_of(&mut two, 1) == "in a block").then_some(())
        });
        eventually("kept, and no older", || {
            let before = all_hits(&pair.other);
            let name = name_of(&mut two, 1);
            (all_hits(&pair.other) > before && name == "in a block").then_some(())
        });
        pair.both_keep(sql);
        one.run(&format!(
            "update users set name = 'after {turn}' where id = 1"
        ));
        eventually("strict again", || {
            (name_of(&mut two, 1) == format!("after {turn}")).then_some(())
        });
    }
}

#[test]
fn r36_a_bounded_keyway_without_redis_goes_on_and_keeps_nothing() {
    let mut pair = start("shared_adrift", "", "20ms");
    let sql = "select name from users where id = 1";
    for (turn, is_killed) in [false, true].into_iter().enumerate() {
        pair.both_keep(sql);
        let (mut one, mut two) = (pair.one(), pair.two());
        if is_killed {
            pair.redis.kill();
        } else {
            pair.redis.signal("STOP");
        }
        let mut times = Vec::new();
        for step in 0..20 {
            let sql = format!("update users set n = {step} where id = 2");
            let (answer, took) = timed(|| one.simple(&sql));
            assert_eq!(error_of(&answer), None);
            times.push(took);
            let (n, took) = timed(|| one.one("select n from users where id = 2"));
            assert_eq!(n, step.to_string(), "its own");
            times.push(took);
            let id = 10 + step;
            let ((), took) =
                timed(|| drop(two.rows(&format!("select n from users where id = {id}"))));
            times.push(took);
        }
        times.sort();
        eprintln!("without Redis, the longest of 60 took {:?}", times[59]);
        // Machines are busy: a few may take longer for other reasons.
        assert!(times[54] < Duration::from_millis(100), "{times:?}");
        // Out of step, nothing is given.
        eventually("out of step", || {
            let before = all_hits(&pair.other);
            let _ = name_of(&mut two, 1);
            (all_hits(&pair.other) == before).then_some(())
        });
        for step in 0..10 {
            let name = format!("{turn}.{step}");
            one.run(&format!("update users set name = '{name}' where id = 1"));
            assert_eq!(name_of(&mut two, 1), name);
            assert_eq!(name_of(&mut one, 1), name);
        }
        if is_killed {
            pair.redis.restart();
        } else {
            pair.redis.signal("CONT");
        }
        let last = format!("{turn}.9");
        for _ in 0..20 {
            assert_eq!(name_of(&mut two, 1), last);
        }
        assert_eq!(until_kept(&pair.other, &mut two, sql), [[last.clone()]]);
        assert_eq!(until_kept(&pair.env.router, &mut one, sql), [[last]]);
        one.run(&format!(
            "update users set name = 'after {turn}' where id = 1"
        ));
        eventually("heard again", || {
            (name_of(&mut two, 1) == format!("after {turn}")).then_some(())
        });
    }
}

#[test]
fn a_commit_that_others_may_not_know_of_any_more_is_refused() {
    let pair = strict("shared_commit");
    let sql = "select name from users where id = 1";
    pair.both_keep(sql);
    let (mut one, mut two) = (pair.one(), pair.two());
    for is_extended in [false, true] {
        one.run("begin");
        one.run("update users set name = 'never' where id = 1");
        pair.redis.signal("STOP");
        let away = Instant::now();
        while away.elapsed() < LEASE + LEASE / 2 {
            assert_eq!(name_of(&mut two, 1), "first");
        }
        let error = if is_extended {
            error_of(&one.extended("commit", &[]))
        } else {
            Some(one.error("commit"))
        };
        assert_eq!(error.as_deref(), Some("57P03"));
        assert_eq!(one.status, b'I');
        assert_eq!(name_of(&mut one, 1), "first", "rolled back");
        pair.redis.signal("CONT");
        until_writes(&pair);
        assert_eq!(until_kept(&pair.other, &mut two, sql), [["first"]]);
    }
    // One that is away for less than a lease does no harm.
    one.run("begin");
    one.run("update users set name = 'done' where id = 1");
    pair.redis.signal("STOP");
    pair.redis.signal("CONT");
    one.run("commit");
    assert_eq!(name_of(&mut two, 1), "done");
}

#[test]
fn a_keyway_that_is_killed_in_a_write_leaves_nothing_old_behind() {
    let mut pair = strict("shared_killed");
    let sql = "select name from users where id = 1";
    pair.both_keep(sql);
    // Inside a transaction, which ends with its client.
    let mut one = pair.one();
    one.run("begin");
    one.run("update users set name = 'never' where id = 1");
    let mut two = pair.two();
    assert_eq!(name_of(&mut two, 1), "first");
    let killed = Instant::now();
    pair.env.router.kill_and_restart();
    let hits_then = all_hits(&pair.other);
    while killed.elapsed() < LEASE / 3 {
        assert_eq!(name_of(&mut two, 1), "first");
    }
    assert_eq!(
        all_hits(&pair.other),
        hits_then,
        "marked until the lease is over"
    );
    assert_eq!(until_kept(&pair.other, &mut two, sql), [["first"]]);
    pair.env.router.wait_ready();
    pair.one()
        .run("update users set name = 'second' where id = 1");
    assert_eq!(name_of(&mut two, 1), "second");
}

/// A statement goes on after its Keyway was killed, until its server sees that; should it be committed, the others see it.
#[test]
fn a_write_that_outlives_its_keyway_is_seen() {
    let mut pair = strict("shared_outlived");
    let sql = "select name from users where id = 2";
    pair.both_keep(sql);
    let mut one = pair.one();
    let long = LEASE.as_secs() * 3;
    let update = format!("update users set name = 'late' || pg_sleep({long}) where id = 2");
    one.send(&crate::raw::query(&update)).expect("sent");
    pair.env
        .wait_running(&["s0", "s1", "s2"], "'late' || pg_sleep");
    let mut two = pair.two();
    assert_eq!(name_of(&mut two, 2), "first");
    pair.env.router.kill_and_restart();
    let of_shard = |shard: &&str| -> Vec<Vec<String>> { pair.env.direct(shard).rows(sql) };
    let is_running = || {
        let running = |shard: &&str| {
            let servers = pair.env.servers(shard);
            servers
                .iter()
                .any(|row| row[0] == "active" && row[1].contains("'late'"))
        };
        ["s0", "s1", "s2"].iter().any(running)
    };
    eventually("its end", || {
        // Asked all the time, so that it is kept as soon as it may be.
        let _ = name_of(&mut two, 2);
        (!is_running()).then_some(())
    });
    let now: Vec<_> = ["s0", "s1", "s2"].iter().flat_map(of_shard).collect();
    eprintln!("on its shard it is {now:?}");
    assert_eq!(two.rows(sql), now);
    assert_eq!(until_kept(&pair.other, &mut two, sql), now);
}

#[test]
fn a_write_that_outlives_its_mark_is_not_told_before_others_know() {
    let pair = strict("shared_long");
    let sql = "select name from users where id = 2";
    pair.both_keep(sql);
    let (mut one, mut two) = (pair.one(), pair.two());
    let long = LEASE.as_secs() * 2;
    let update = format!("update users set name = 'late' || pg_sleep({long}) where id = 2");
    one.send(&crate::raw::query(&update)).expect("sent");
    let shards = ["s0", "s1", "s2"];
    pair.env.wait_running(&shards, "'late' || pg_sleep");
    pair.redis.signal("STOP");
    let (told, hears) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let answer = one.until_ready().expect("an answer");
        told.send(answer).expect("somebody hears");
        one
    });
    eventually("the row is written", || {
        let rows = |shard: &&str| pair.env.direct(shard).rows(sql);
        shards
            .iter()
            .flat_map(rows)
            .any(|row| row == ["late"])
            .then_some(())
    });
    let early = hears.recv_timeout(Duration::from_millis(300));
    assert!(early.is_err(), "told while Redis is away: {early:?}");
    pair.redis.signal("CONT");
    let answer = hears.recv_timeout(LEASE * 4).expect("an answer");
    assert_eq!(error_of(&answer), None, "{answer:?}");
    assert_eq!(two.rows(sql), [["late"]]);
    waiting.join().expect("the client").bye();
}
