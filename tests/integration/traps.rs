//! Traps of result caches, one test or more each, by the numbers that the project's notes give them. A test sets the trap and
//! asks the same question without it, which is kept: so it can fail.
//!
//! A row that is changed on its shard directly, behind the router's back, shows what was kept: that still has the old value.
//!
//! Traps whose tests are elsewhere, or that cannot occur:
//!
//! - R9, answers filled from replicas: no statement is sent to a replica yet.
//! - R34 beyond `ttl`, changes that do not pass this Keyway: `follow::r34_…`, and those that pass another: `shared::r34_…`.
//! - R35, what a replication stream does not tell, and when it is late or lost: `follow::r35_…`.
//! - R36 to R38, a channel that loses messages, Redis away or slow, what lies in Redis and is none of ours: `shared::r36_…` to `r38_…`.
//! - R39, answers that outlive their shard: `again::r39_…`.
//! - R40, warming up in the name of who asked: `again::r40_…`.
//! - R27, two questions of one MD5: `src/cache/results/key.rs` and `src/cache/results/store.rs`, since nothing finds an answer by
//!   its MD5 name alone; `fidelity` gives two parameters of one MD5 to the router.

mod askers;
mod fidelity;
mod protocol;
mod store;
mod values;
mod writes;

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::harness::{Env, Setup, cluster};
use crate::raw::{Client, Message, Value, bind, describe, execute, parse, rows_of, sync};

const TABLES: &str = r#"
things = { key = "id" }
others = { key = "id" }
shared = { reference = true }
"one.named" = { key = "id" }
"two.named" = { key = "id" }
secret = { key = "id" }
unlogged = { key = "id" }
altered = { key = "id" }
short_lived = { key = "id" }
parents = { key = "id" }
children = { key = "id" }
sources = { key = "id" }
targets = { key = "id" }
ruled = { key = "id" }
parted = { key = "id" }
ancestor = { key = "id" }
descendant = { key = "id" }
counted = { key = "id" }
scratch = { key = "id" }
"#;

/// The trigger's function and the rule are not declared: they may do anything.
const SCHEMA: &str = r"
create table things (id int primary key, v text, n int default 0, a text default '2024-01-01', tz timestamptz default '2024-07-01 12:00+00');
create table others (id int primary key, v text);
create table shared (id int primary key, v text, tz timestamptz, ts timestamp, iv interval, f float8, b bytea, m money);
create schema one;
create schema two;
create table one.named (id int primary key, v text);
create table two.named (id int primary key, v text);
create table secret (id int primary key, v text);
alter table secret enable row level security;
create policy by_setting on secret using (v = current_setting('traps.who', true) or true);
create unlogged table unlogged (id int primary key, v text);
create table altered (id int primary key, v text);
create table short_lived (id int primary key, v text);
create table parents (id int primary key, v text);
create table children (id int primary key references parents (id) on delete cascade, v text);
create table sources (id int primary key, v text);
create table targets (id int primary key, v text);
create table ruled (id int primary key, v text);
create table parted (id int, v text, d int default 5, primary key (id, d)) partition by range (d);
create table parted_low partition of parted for values from (0) to (10) partition by range (d);
create table parted_low_low partition of parted_low for values from (0) to (7);
create table parted_high partition of parted for values from (10) to (20);
create table ancestor (id int primary key, v text);
create table descendant () inherits (ancestor);
create table counted (id int primary key, v text, n int default 0);
create table scratch (id int primary key, v text, n int default 0);
create view of_things as select id, v, n from things;
create view of_view as select id, upper(v) as v from of_things where n >= 0;
create view of_secret with (security_barrier) as select id, v from secret;
create view told_time as select id, v, now() as at from things;
create function waits(i int) returns int language plpgsql immutable as 'begin perform pg_advisory_lock_shared(i); perform pg_advisory_unlock_shared(i); return i; end';
create function notices(i int) returns int language plpgsql immutable as 'begin raise notice ''seen''; return i; end';
create function steady(i int) returns int language sql immutable as 'select i + 1';
create function unsteady(i int) returns int language sql stable as 'select i + 1';
create function undeclared(i int) returns int language sql immutable as 'select i + 1';
create function by_operator(t text, i int) returns text language sql stable as 'select t || i';
create operator ### (leftarg = text, rightarg = int, function = by_operator);
create function writes_things(i int) returns int language plpgsql volatile as 'begin update things set v = ''by function'' where id = i; return i; end';
create function fires() returns trigger language plpgsql as 'begin update targets set v = ''by trigger'' where id = new.id; return new; end';
create trigger fires after insert or update on sources for each row execute function fires();
create rule also as on insert to ruled do also update targets set v = 'by rule' where id = new.id;
create function writes_counted(i int) returns int language plpgsql volatile as 'begin update counted set v = ''by function'' where id = i; return i; end';
create function writes_scratch(i int) returns int language plpgsql volatile as 'begin update scratch set v = ''by function'' where id = i; return i; end';
create procedure writes_by_call(i int) language plpgsql as 'begin update things set v = ''by call'' where id = i; end';
create sequence numbers;
";

const MORE: &str = r#"
[users.other]
password = "app secret"
[users.third]
password = "app secret"
server_user = "traps_third"
[cache]
enabled = true
[cache.tables]
short_lived = { ttl = "1s" }
[functions]
waits = { reads = [], writes = [] }
notices = { reads = [], writes = [] }
steady = { reads = [], writes = [] }
unsteady = { reads = [], writes = [] }
by_operator = { reads = [], writes = [] }
writes_things = { reads = [], writes = ["things"] }
writes_counted = { reads = [], writes = ["counted"] }
writes_scratch = { reads = [], writes = ["scratch"] }
"#;

/// A role that exists on the cluster, and owns nothing.
const READER: &str = "traps_reader";

fn env() -> &'static Env {
    static ENV: OnceLock<Env> = OnceLock::new();
    ENV.get_or_init(|| {
        let roles = format!("create role {READER}; create role traps_third login superuser");
        cluster().execute("postgres", &roles).expect("roles");
        let env = Setup {
            name: "traps",
            tables: TABLES,
            schema: SCHEMA,
            more: MORE,
            ..Setup::default()
        }
        .start();
        assert_eq!(env.schema_failures, Vec::<String>::new());
        env
    })
}

/// Some statements void everything that is kept: a test with one runs alone.
static TURN: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}

/// An answer was not kept that could have been: nothing is wrong, but the trap is not set. A write to its row may not have been
/// through yet, or something has voided everything.
struct NotKept(String);

/// Is what was kept given again? What is said of the router if not is for whoever reads of it.
#[track_caller]
fn kept(env: &Env, is_kept: bool, what: impl std::fmt::Display) {
    if !is_kept {
        let place = std::panic::Location::caller();
        let state = state(env);
        std::panic::resume_unwind(Box::new(NotKept(format!("{place}: {what}: {state}"))));
    }
}

/// As [`kept`], of a whole answer: it is the old one, or the one that is true by now, and nothing else.
#[track_caller]
fn gives<T: PartialEq + std::fmt::Debug>(env: &Env, answer: &T, old: &T, new: impl FnOnce() -> T) {
    if answer != old {
        assert_eq!(
            *answer,
            new(),
            "neither what was kept ({old:?}) nor what is true"
        );
        kept(env, false, format_args!("{old:?}"));
    }
}

/// Runs a test, three times over if answers were not kept on which its traps depend. A wrong answer fails it at once.
fn tried(test: impl Fn()) {
    for _ in 0..3 {
        let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&test)) else {
            return;
        };
        match panic.downcast::<NotKept>() {
            Ok(not_kept) => eprintln!("not kept: {}", not_kept.0),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    panic!("an answer is not kept, three times over");
}

/// An id that no other test has.
fn fresh_id() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A row with `v = 'first'` under an id of its own.
fn own_row(env: &Env, table: &str) -> i32 {
    let id = fresh_id();
    let mut client = env.client();
    client.run(&format!(
        "insert into {table} (id, v) values ({id}, 'first')"
    ));
    client.bye();
    id
}

/// Changes rows behind the router's back, wherever they are.
fn behind(env: &Env, sql: &str) {
    for shard in ["s0", "s1", "s2"] {
        let mut direct = env.direct(shard);
        direct.run(sql);
        direct.bye();
    }
}

/// How a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Simple,
    Extended,
}

impl Way {
    const ALL: [Self; 2] = [Self::Simple, Self::Extended];

    /// The whole answer to a question about the row `{id}`: a literal, or a parameter.
    fn ask(self, client: &mut Client, question: &str, id: i32) -> Vec<Message> {
        match self {
            Self::Simple => client.simple(&question.replace("{id}", &id.to_string())),
            Self::Extended => {
                let text = question.replace("{id}", "$1");
                let id = [Value::text(&id.to_string())];
                let values: &[Value] = if text.contains("$1") { &id } else { &[] };
                let mut messages = parse("", &text, &[23][..values.len()]);
                messages.extend(bind("", "", values, 0));
                messages.extend(describe(b'P', ""));
                messages.extend(execute("", 0));
                messages.extend(sync());
                client.exchange(&messages)
            }
        }
    }

    /// Its values.
    fn values(self, client: &mut Client, question: &str, id: i32) -> Vec<String> {
        let messages = self.ask(client, question, id);
        if let Some(error) = messages.iter().find(|m| m.tag == b'E') {
            panic!("{question} for {id}, {self:?}: {error:?}");
        }
        rows_of(&messages).concat()
    }
}

/// Is there the old value of the row among these?
fn is_old(values: &[String]) -> bool {
    values
        .iter()
        .any(|value| value.eq_ignore_ascii_case("first"))
}

/// Asks, changes the row behind the router's back, and asks again: is the first answer given? A question may be asked three
/// times over before that is denied. One that is refused is not kept.
fn keeps_by(env: &Env, client: &mut Client, way: Way, table: &str, question: &str) -> bool {
    (0..3).any(|_| {
        let id = own_row(env, table);
        let answer = way.ask(client, question, id);
        let error = answer.iter().find(|m| m.tag == b'E');
        if error.is_some_and(|error| error.sqlstate() == "0A000") {
            return false;
        }
        assert_eq!(error, None, "{question}, {way:?}");
        let before = rows_of(&answer).concat();
        assert!(is_old(&before), "{question}, {way:?}: {before:?}");
        behind(
            env,
            &format!("update {table} set v = 'behind' where id = {id}"),
        );
        is_old(&way.values(client, question, id))
    })
}

/// The same for every way, which must agree.
fn keeps(env: &Env, client: &mut Client, table: &str, question: &str) -> bool {
    let [simple, extended] = Way::ALL.map(|way| keeps_by(env, client, way, table, question));
    kept(
        env,
        simple == extended,
        format_args!("{question}: simple, and extended"),
    );
    simple
}

fn keeps_things(env: &Env, client: &mut Client, question: &str) -> bool {
    keeps(env, client, "things", question)
}

/// A plain question, which is kept when nothing forbids it.
const PLAIN: &str = "select v from things where id = {id}";

/// A question about a row of `table` is kept until `write`, by whoever, and answered by a shard behind it.
fn is_voided(env: &Env, table: &str, question: &str, write: &str) {
    let (mut reader, mut writer) = (env.client(), env.client());
    for run in ["simple", "extended", "in a transaction"] {
        let id = kept_row(env, &mut reader, table, question);
        let sql = write.replace("{id}", &id.to_string());
        match run {
            "simple" => writer.run(&sql),
            "extended" => {
                let messages = writer.extended(&sql, &[]);
                let error = messages.iter().find(|m| m.tag == b'E');
                assert_eq!(error, None, "{sql}");
            }
            _ => {
                writer.run("begin");
                writer.run(&sql);
                writer.run("commit");
            }
        }
        let after = Way::Simple.values(&mut reader, question, id);
        assert!(
            !is_old(&after),
            "{question} behind {write}, {run}: {after:?}"
        );
    }
}

/// The answer about this row is kept, and is not true any more.
fn kept_row(env: &Env, reader: &mut Client, table: &str, question: &str) -> i32 {
    kept_by(env, reader, Way::Simple, table, question)
}

fn kept_by(env: &Env, reader: &mut Client, way: Way, table: &str, question: &str) -> i32 {
    for _ in 0..3 {
        let id = own_row(env, table);
        assert!(is_old(&way.values(reader, question, id)), "{question}");
        behind(
            env,
            &format!("update {table} set v = 'behind' where id = {id}"),
        );
        if is_old(&way.values(reader, question, id)) {
            return id;
        }
    }
    kept(env, false, question);
    unreachable!("it is not")
}

fn state(env: &Env) -> String {
    let passed_by = crate::cache::numbers(env, "keyway_cache_passed_by_total");
    let passed_by: Vec<_> = passed_by.iter().filter(|(_, n)| **n > 0).collect();
    let route = env
        .client()
        .rows("explain (route) select v from things where id = 1");
    let log = env.router.log();
    let tail: Vec<&str> = log.lines().rev().take(12).collect();
    let cache = env.client().rows("show keyway.cache");
    format!("{passed_by:?} {route:?} {cache:?} {tail:#?}")
}
