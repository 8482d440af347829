//! Histories of reads and writes at random, and the question whether one register per row could have given them: no read
//! that begins after a write was acknowledged, or after another read has ended, may show an older state than that; and none
//! shows what was not committed. Kept answers must stand that like a shard's own.
//!
//! Every write adds one to its row's `n` and leaves its own number in `w`; so the order of writes is known, and each row that
//! is read says which write it is of. Copies of a row are made by triggers, in the same transaction. A twig is there or not:
//! each client has one, puts it up with an odd `n`, and takes it down by deleting its root.
//!
//! Some seconds long in an ordinary run, a minute with `KEYWAY_SOAK=1`, more with a number of seconds. `KEYWAY_SEED` repeats
//! what the clients do, though not when.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::numbers;
use crate::crowd::{Dice, seed};
use crate::harness::{Env, Redis, Router, Setup, direct_target, eventually};
use crate::raw::{
    Canceller, Client, Message, Target, Value, bind, execute, message, parse, query, rows_of, sync,
};

/// Registers: few, so that answers are asked for again and writes meet.
const KEYS: usize = 6;
/// As rows show it.
const NULL: &str = "∅";
/// As long as writes come thick; three times as long they hardly come.
const BUSY: Duration = Duration::from_millis(40);
/// Events of a register that are told when something is wrong with it.
const EVENTS: usize = 24;
/// A fault that takes its time comes once in so many turns.
const SELDOM: u64 = 20;
/// Nothing takes longer than a lock's wait, a pause and a slow machine.
const ANSWERED: Duration = Duration::from_secs(45);

const TABLES: &str = "
registers = { key = \"k\" }
echoes = { key = \"k\" }
leaves = { key = \"k\" }
roots = { key = \"k\" }
twigs = { key = \"k\" }
";

const SCHEMA: &str = "
create table registers (k int primary key, n bigint not null, w bigint not null);
create table echoes (k int primary key, n bigint, w bigint);
create table leaves (k int primary key references registers on delete cascade, n bigint, w bigint);
create table roots (k int primary key);
create table twigs (k int primary key references roots on delete cascade, n bigint);
create view shown as select k, n, w from registers;
create function register_new() returns trigger language plpgsql as $$ begin insert into leaves values (new.k, new.n, new.w); insert into echoes values (new.k, new.n, new.w) on conflict (k) do update set n = new.n, w = new.w; return new; end $$;
create function register_set() returns trigger language plpgsql as $$ begin update echoes set n = new.n, w = new.w where k = new.k; update leaves set n = new.n, w = new.w where k = new.k; return new; end $$;
create trigger of_new after insert on registers for each row execute function register_new();
create trigger of_set after update on registers for each row execute function register_set();
create function bump(int, bigint) returns bigint language sql as $$ update registers set n = n + 1, w = $2 where k = $1 returning n $$;
";

/// How long a Keyway's marks last in Redis when nobody renews them.
const LEASE: Duration = Duration::from_secs(2);

/// Locks are waited for, but not for ever: two shards do not know of each other's.
const SETTINGS: &str = "do $$ begin execute format('alter database %I set deadlock_timeout = ''100ms''', current_database()); execute format('alter database %I set lock_timeout = ''2s''', current_database()); end $$;";

const FUNCTIONS: &str = "
[functions]
register_new = { reads = [], writes = [\"leaves\", \"echoes\"] }
register_set = { reads = [], writes = [\"leaves\", \"echoes\"] }
";

/// Keyways in front of the same shards, to be written and read through as if they were one.
struct Keyways {
    /// What its databases' names begin with.
    name: &'static str,
    /// The first, and the shards.
    env: Env,
    /// The others.
    others: Vec<Mutex<Router>>,
    /// What they share.
    redis: Option<Mutex<Redis>>,
    /// Where clients connect, to one after the other.
    targets: Vec<Target>,
}

/// Two Keyways that share what is written and kept, strictly.
fn two() -> Keyways {
    let redis = Redis::start();
    let cache = format!(
        "consistency = \"strict\"\n[cache.redis]\nurls = [\"{}\"]\nsecret = \"a secret of the tests\"\nlease = \"{}s\"\ntimeout = \"500ms\"\n",
        redis.url(),
        LEASE.as_secs()
    );
    let mut keyways = with_cache(&cache);
    let other = keyways.env.another_router();
    let mut target = keyways.targets[0].clone();
    target.port = other.port;
    keyways.targets.push(target);
    keyways.others.push(Mutex::new(other));
    keyways.redis = Some(Mutex::new(redis));
    // Nothing is kept in the first lease of a Redis.
    for target in &keyways.targets {
        let mut client = Client::connect(target);
        eventually("answers are kept", || {
            client.run("select k from registers where k = 0");
            let kept = client.rows("show keyway.cache_entries");
            (!kept.is_empty()).then_some(())
        });
        client.bye();
    }
    keyways
}

/// One Keyway.
fn one() -> Keyways {
    with_cache("")
}

/// One Keyway with more of `[cache]`.
fn with_cache(cache: &str) -> Keyways {
    let name = if cache.is_empty() {
        "linear"
    } else {
        "linear_two"
    };
    let env = Setup {
        name,
        pool_size: 6,
        tables: TABLES,
        types: SETTINGS,
        schema: SCHEMA,
        more: &format!("[cache]\nenabled = true\n{cache}{FUNCTIONS}"),
        ..Setup::default()
    }
    .start();
    assert_eq!(env.schema_failures, Vec::<String>::new());
    let targets = vec![env.target.clone()];
    Keyways {
        name,
        env,
        others: Vec::new(),
        redis: None,
        targets,
    }
}

/// What goes wrong meanwhile.
type Fault = fn(&Keyways, &World, &mut Dice);

/// What has become of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody has asked for it to be committed.
    Open,
    /// It was asked for, or is autocommitted. It may take effect at any time, unless it is seen to fail.
    Committing,
    /// It has failed, or was rolled back.
    Undone,
}

/// What is known of a register.
#[derive(Default)]
struct Register {
    /// The newest `n` that anybody was told of: by an acknowledged write, or a read.
    told: AtomicU64,
    /// Writes that anybody has asked to commit: `n` is not above that.
    begun: AtomicU64,
    /// What happened to it last.
    events: Mutex<VecDeque<String>>,
}

/// A row as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shown {
    key: usize,
    n: u64,
    by: u64,
}

/// What all clients know together.
struct World {
    /// Behind the rows' the clients' twigs: up when odd.
    registers: Vec<Register>,
    /// Every write's, by its number. The first is what was there at the start.
    fates: Mutex<Vec<Fate>>,
    /// Whose a register's state is.
    writers: Mutex<HashMap<(usize, u64), u64>>,
    /// Keys of one shard.
    shards: Vec<(String, Vec<usize>)>,
    cancellers: Vec<Mutex<Option<Canceller>>>,
    clock: AtomicU64,
    begun: Instant,
    wrong: Mutex<Vec<String>>,
    over: AtomicBool,
    /// How often each thing was done, and what came of it.
    counts: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn new(keyways: &Keyways, clients: usize) -> Self {
        let mut client = Client::connect(&keyways.targets[0]);
        for key in 0..KEYS {
            client.run(&format!("insert into registers values ({key}, 0, 0)"));
        }
        let shards = ["s0", "s1", "s2"].map(|shard| {
            let rows = client.rows(&format!(
                "/* keyway: shard={shard} */ select k from registers order by k"
            ));
            let keys = rows.iter().map(|row| row[0].parse().expect("a key"));
            (shard.to_owned(), keys.collect())
        });
        client.bye();
        Self {
            registers: (0..KEYS + clients).map(|_| Register::default()).collect(),
            fates: Mutex::new(vec![Fate::Committing]),
            writers: Mutex::default(),
            shards: shards.into(),
            cancellers: (0..clients).map(|_| Mutex::default()).collect(),
            clock: AtomicU64::new(0),
            begun: Instant::now(),
            wrong: Mutex::default(),
            over: AtomicBool::new(false),
            counts: Mutex::default(),
        }
    }

    /// Is hardly anything written just now?
    fn is_calm(&self) -> bool {
        !(self.begun.elapsed().as_millis() / BUSY.as_millis()).is_multiple_of(4)
    }

    fn count(&self, what: &str) {
        *lock(&self.counts).entry(what.to_owned()).or_default() += 1;
    }

    fn note(&self, key: usize, event: &str) {
        let at = self.clock.fetch_add(1, Ordering::SeqCst);
        let mut events = lock(&self.registers[key].events);
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(format!("{at}: {event}"));
    }

    fn is_wrong(&self, key: usize, what: &str) {
        let events: Vec<String> = lock(&self.registers[key].events).iter().cloned().collect();
        let mut wrong = lock(&self.wrong);
        if wrong.len() < 5 {
            wrong.push(format!("{what}\n    {}", events.join("\n    ")));
        }
        self.over.store(true, Ordering::SeqCst);
    }

    /// Another write's number.
    fn begin(&self) -> u64 {
        let mut fates = lock(&self.fates);
        fates.push(Fate::Open);
        fates.len() as u64 - 1
    }

    /// It is about to be committed.
    fn commits(&self, by: u64, keys: &[usize]) {
        for key in keys {
            self.registers[*key].begun.fetch_add(1, Ordering::SeqCst);
            self.note(*key, &format!("write {by} may take effect"));
        }
        lock(&self.fates)[by as usize] = Fate::Committing;
    }

    fn undone(&self, by: u64) {
        lock(&self.fates)[by as usize] = Fate::Undone;
    }

    fn least(&self, key: usize) -> u64 {
        self.registers[key].told.load(Ordering::SeqCst)
    }

    fn all_least(&self) -> Vec<u64> {
        (0..KEYS).map(|key| self.least(key)).collect()
    }

    /// A write was acknowledged.
    fn acknowledged(&self, by: u64, key: usize, n: u64) {
        self.registers[key].told.fetch_max(n, Ordering::SeqCst);
        self.note(key, &format!("write {by} is acknowledged as {n}"));
    }

    /// A read has ended that anybody may learn from. `least` was known before it began.
    fn saw(&self, who: &str, what: &str, least: u64, shown: Shown) {
        let Shown { key, n, by } = shown;
        if n < least {
            let told = format!("{who}: {what}: register {key} has {n}, after {least} was told");
            self.is_wrong(key, &told);
        }
        let fate = lock(&self.fates).get(by as usize).copied();
        if fate != Some(Fate::Committing) {
            let told = format!("{who}: {what}: register {key} shows write {by}, which is {fate:?}");
            self.is_wrong(key, &told);
        }
        let writer = *lock(&self.writers).entry((key, n)).or_insert(by);
        if writer != by {
            let told = format!("{who}: {what}: register {key} at {n} is of {writer} and of {by}");
            self.is_wrong(key, &told);
        }
        if self.registers[key].told.fetch_max(n, Ordering::SeqCst) < n {
            self.note(key, &format!("{who}: {what} shows {n} of write {by}"));
        }
    }

    /// When all is over: nobody has seen what was rolled back later.
    fn check_at_the_end(&self) {
        let fates = lock(&self.fates);
        for ((key, n), by) in lock(&self.writers).iter() {
            if fates[*by as usize] != Fate::Committing {
                let told = format!(
                    "register {key} was seen at {n} of write {by}, which is {:?}",
                    fates[*by as usize]
                );
                self.is_wrong(*key, &told);
            }
        }
    }
}

/// What came of a request.
enum Said {
    Rows(Vec<Vec<String>>),
    /// An error's SQLSTATE.
    Error(String),
    /// The connection is gone.
    Lost,
}

/// Does nobody know what an error with this SQLSTATE has left behind?
fn is_in_doubt(sqlstate: &str) -> bool {
    ["08", "57", "XX"]
        .iter()
        .any(|class| sqlstate.starts_with(class))
}

/// One client.
struct Guest<'a> {
    name: String,
    number: usize,
    keyways: &'a Keyways,
    world: &'a World,
    dice: Dice,
    client: Option<Client>,
    /// Statements that it has prepared.
    prepared: HashMap<String, String>,
    /// Names that it has given.
    names: u64,
    /// Tries to log in.
    logins: usize,
    /// Clients leave in the middle of a write.
    leaves: bool,
    /// Nobody knows what has become of its twig.
    twig_in_doubt: bool,
}

/// What is read.
const READS: &[&str] = &[
    "select k, n, w from registers where k = $1",
    "select k, n, w from echoes where k = $1",
    "select k, n, w from leaves where k = $1",
    "select k, n, w from shown where k = $1",
    "select k, n, w from registers where k in ($1, $2)",
    "select r.k, r.n, r.w, e.k, e.n, e.w, l.k, l.n, l.w from registers r join echoes e on e.k = r.k join leaves l on l.k = r.k where r.k = $1",
    "select r.k, r.n, r.w, l.k, l.n, l.w from registers r join leaves l on l.k = r.k",
    "select k, n, w from registers order by k",
    "select k, n, w from echoes order by n, k",
    "select k, n, w from leaves where k = any (array[$1::int, $2::int]) order by k",
];
/// Those of one register.
const BY_KEY: u64 = 4;

/// Statements that write a register, and tell its `n`.
const WRITES: &[&str] = &[
    "update registers set n = n + 1, w = $2 where k = $1 returning k, n",
    "insert into registers values ($1, 0, $2) on conflict (k) do update set n = registers.n + 1, w = excluded.w returning k, n",
    "with changed as (update registers set n = n + 1, w = $2 where k = $1 returning k, n) select k, n from changed",
];

impl<'a> Guest<'a> {
    fn client(&mut self) -> Option<&mut Client> {
        while self.client.is_none() {
            if self.world.over.load(Ordering::SeqCst) {
                return None;
            }
            self.logins += 1;
            let turn = (self.number + self.logins) % self.keyways.targets.len();
            self.prepared.clear();
            match Client::try_connect(&self.keyways.targets[turn], &[]) {
                Ok(client) => {
                    client.patience(ANSWERED);
                    *lock(&self.world.cancellers[self.number]) = Some(client.canceller());
                    self.client = Some(client);
                }
                Err(refusal) => self.world.count(&format!("login: {}", refusal.sqlstate())),
            }
        }
        self.client.as_mut()
    }

    /// The messages for a statement in one protocol or the other, and whether it will be prepared by them.
    fn request(&mut self, sql: &str, values: &[u64]) -> (Vec<u8>, Option<String>) {
        let mode = self.dice.below(3);
        if mode == 0 || sql.contains(';') {
            let mut text = sql.to_owned();
            for (index, value) in values.iter().enumerate() {
                text = text.replace(&format!("${}", index + 1), &value.to_string());
            }
            return (query(&text), None);
        }
        let mut bytes = Vec::new();
        let mut news = None;
        let name = if mode == 1 {
            bytes.extend(parse("", sql, &[]));
            String::new()
        } else if let Some(name) = self.prepared.get(sql) {
            name.clone()
        } else {
            self.names += 1;
            let name = format!("s{}", self.names);
            bytes.extend(parse(&name, sql, &[]));
            news = Some(name.clone());
            name
        };
        let values: Vec<Value> = values.iter().map(|v| Value::text(&v.to_string())).collect();
        bytes.extend(bind("", &name, &values, 0));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        (bytes, news)
    }

    /// Asks and hears the answer.
    fn ask(&mut self, sql: &str, values: &[u64]) -> Said {
        if self.client().is_none() {
            return Said::Lost;
        }
        let (bytes, news) = self.request(sql, values);
        let said = self.exchange(&bytes);
        if let (Said::Rows(_), Some(name)) = (&said, news) {
            self.prepared.insert(sql.to_owned(), name);
        }
        self.count(sql, &said);
        said
    }

    fn count(&self, what: &str, said: &Said) {
        match said {
            Said::Rows(_) => self.world.count(what),
            Said::Error(sqlstate) => self.world.count(&format!("{what} — {sqlstate}")),
            Said::Lost => self.world.count(&format!("{what} — lost")),
        }
    }

    /// An answer's messages, or `None` when the connection is gone.
    fn hear(&mut self, bytes: &[u8]) -> Option<Vec<Message>> {
        let client = self.client()?;
        match client.send(bytes).and_then(|()| client.until_ready()) {
            Ok(messages) => Some(messages),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::WouldBlock {
                    let told = format!("{}: no answer in {ANSWERED:?}", self.name);
                    self.world.is_wrong(0, &told);
                }
                self.client = None;
                None
            }
        }
    }

    fn exchange(&mut self, bytes: &[u8]) -> Said {
        self.hear(bytes)
            .map_or(Said::Lost, |messages| said(&messages))
    }

    /// Ends what is left of a transaction.
    fn leave_transaction(&mut self) {
        if self.client.as_ref().is_some_and(|c| c.status != b'I') {
            self.ask("rollback", &[]);
            if self.client.as_ref().is_some_and(|c| c.status != b'I') {
                self.client = None;
            }
        }
    }

    /// Whoever has called what may have set anything keeps its server, and is given no kept answer any more.
    fn go(&mut self) {
        if let Some(client) = self.client.take() {
            client.bye();
        }
    }

    /// The first register is everybody's favourite.
    fn key(&mut self) -> usize {
        match self.dice.below(2) {
            0 => 0,
            _ => self.dice.below(KEYS as u64) as usize,
        }
    }

    fn a_read(&mut self) -> (&'static str, Vec<u64>) {
        let turn = if self.dice.below(6) > 0 {
            self.dice.below(BY_KEY)
        } else {
            self.dice.below(READS.len() as u64)
        };
        let sql = READS[turn as usize];
        let values = (1..=2)
            .filter(|number| sql.contains(&format!("${number}")))
            .map(|_| self.key() as u64)
            .collect();
        (sql, values)
    }

    /// Reads what is committed, and checks it.
    fn read(&mut self) {
        if self.dice.below(16) == 0 {
            return self.read_sum();
        }
        if self.dice.below(16) == 0 {
            return self.read_twigs();
        }
        let (sql, values) = self.a_read();
        let least = self.world.all_least();
        let Said::Rows(rows) = self.ask(sql, &values) else {
            return;
        };
        let what = format!("{sql} {values:?}");
        let shown: Vec<Vec<Shown>> = rows.iter().map(|row| shown(row)).collect();
        for row in &shown {
            for one in row {
                self.world.saw(&self.name, &what, least[one.key], *one);
            }
            if row.iter().any(|one| *one != row[0]) {
                let told = format!("{}: {what}: copies differ: {row:?}", self.name);
                self.world.is_wrong(row[0].key, &told);
            }
        }
        let mut wanted = values.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = if values.is_empty() {
            KEYS
        } else {
            wanted.len()
        };
        if rows.len() != wanted {
            let told = format!("{}: {what}: {} rows, not {wanted}", self.name, rows.len());
            self.world.is_wrong(0, &told);
        }
    }

    fn read_sum(&mut self) {
        let table = ["registers", "echoes", "leaves"][self.dice.below(3) as usize];
        let least: u64 = self.world.all_least().iter().sum();
        let sql = format!("select sum(n), count(*) from {table}");
        let Said::Rows(rows) = self.ask(&sql, &[]) else {
            return;
        };
        let most: u64 = (0..KEYS)
            .map(|key| self.world.registers[key].begun.load(Ordering::SeqCst))
            .sum();
        let sum: u64 = rows[0][0].parse().expect("a sum");
        if !(least..=most).contains(&sum) || rows[0][1] != KEYS.to_string() {
            let told = format!("{}: {sql}: {:?}, not {least}..={most}", self.name, rows[0]);
            self.world.is_wrong(0, &told);
        }
    }

    /// One twig, or all.
    fn read_twigs(&mut self) {
        let clients = self.world.registers.len() - KEYS;
        let only = self.dice.below(clients as u64);
        let is_one = self.dice.below(4) > 0;
        let least: Vec<u64> = (KEYS..KEYS + clients)
            .map(|key| self.world.least(key))
            .collect();
        let said = if is_one {
            self.ask("select k, n from twigs where k = $1", &[only])
        } else {
            self.ask("select k, n from twigs order by k", &[])
        };
        let Said::Rows(rows) = said else { return };
        let up: BTreeMap<u64, u64> = rows
            .iter()
            .map(|row| (number(&row[0]), number(&row[1])))
            .collect();
        for (client, least) in (0..).zip(least) {
            if is_one && client != only {
                continue;
            }
            let register = &self.world.registers[KEYS + client as usize];
            let most = register.begun.load(Ordering::SeqCst);
            // When it is down, nobody can tell since when.
            let n = up
                .get(&client)
                .copied()
                .unwrap_or(least.next_multiple_of(2));
            if !(least..=most).contains(&n) {
                let told = format!(
                    "{}: twig {client} is {:?}, not {least}..={most}",
                    self.name,
                    up.get(&client)
                );
                self.world.is_wrong(KEYS + client as usize, &told);
            }
            register.told.fetch_max(n, Ordering::SeqCst);
        }
    }

    /// Puts its twig up, or takes it down with its root.
    fn change_twig(&mut self) {
        if self.twig_in_doubt {
            return;
        }
        let (client, key) = (self.number as u64, KEYS + self.number);
        let begun = &self.world.registers[key].begun;
        let n = begun.load(Ordering::SeqCst) + 1;
        self.twig_in_doubt = true;
        let is_up = n % 2 == 1;
        if is_up
            && !matches!(
                self.ask("insert into roots values ($1)", &[client]),
                Said::Rows(_)
            )
        {
            return;
        }
        begun.store(n, Ordering::SeqCst);
        self.world.note(key, &format!("{n} may take effect"));
        let said = if is_up {
            self.ask("insert into twigs values ($1, $2)", &[client, n])
        } else {
            self.ask("delete from roots where k = $1", &[client])
        };
        if matches!(said, Said::Rows(_)) {
            self.world.acknowledged(n, key, n);
            self.twig_in_doubt = false;
        }
    }

    /// In one snapshot what was read stays as it is.
    fn read_in_one_snapshot(&mut self) {
        let key = self.key() as u64;
        if !matches!(
            self.ask("begin isolation level repeatable read", &[]),
            Said::Rows(_)
        ) {
            return self.leave_transaction();
        }
        let least = self.world.least(key as usize);
        let mut first = None;
        for _ in 0..3 {
            let sql = READS[self.dice.below(BY_KEY) as usize];
            let Said::Rows(rows) = self.ask(sql, &[key]) else {
                break;
            };
            // TRUNCATE empties a table for snapshots before it too (manual, 13.6).
            let Some(row) = rows.first() else { break };
            let now = shown(row)[0];
            self.world.saw(
                &self.name,
                sql,
                if first.is_none() { least } else { 0 },
                now,
            );
            if *first.get_or_insert(now) != now {
                let told = format!("{}: {sql}: {now:?} after {first:?}", self.name);
                self.world.is_wrong(key as usize, &told);
            }
        }
        self.ask("commit", &[]);
        self.leave_transaction();
    }

    /// An autocommitted write's answer is `key, n` for each row.
    fn write_at_once(&mut self, by: u64, keys: &[usize], sql: &str, values: &[u64]) {
        let least = self.world.all_least();
        self.world.commits(by, keys);
        match self.ask(sql, values) {
            // A row that is just being replaced is none.
            Said::Rows(rows) if rows.iter().all(|row| row[1] == NULL) => self.world.undone(by),
            Said::Rows(rows) => {
                for row in rows {
                    let (key, n) = (number(&row[0]) as usize, number(&row[1]));
                    if n <= least[key] {
                        let told = format!(
                            "{}: write {by}: register {key} becomes {n}, after {} was told",
                            self.name, least[key]
                        );
                        self.world.is_wrong(key, &told);
                    }
                    self.world.acknowledged(by, key, n);
                }
            }
            Said::Error(sqlstate) if is_in_doubt(&sqlstate) => {}
            Said::Error(_) => self.world.undone(by),
            Said::Lost => {}
        }
    }

    fn write(&mut self) {
        let (key, by) = (self.key(), self.world.begin());
        let values = [key as u64, by];
        match self.dice.below(23) {
            0..=6 => {
                let sql = WRITES[self.dice.below(WRITES.len() as u64) as usize];
                self.write_at_once(by, &[key], sql, &values);
            }
            7..=12 => self.write_in_transaction(by),
            13 => self.write_and_read_in_one_message(by, key),
            14 => {
                let update = format!("update registers set n = n + 1, w = {by} where k = {key}");
                if self.dice.below(2) == 0 {
                    self.write_silently(by, key, "update", &update);
                } else {
                    let sql = format!(
                        "/* keyway: key={key} */ do $$ begin {update}; if not found then raise exception 'gone'; end if; end $$"
                    );
                    self.write_silently(by, key, "do", &sql);
                    self.go();
                }
            }
            15 if self.dice.below(2) == 0 => {
                let sql = format!("/* keyway: key={key} */ select $1::int, bump($1, $2)");
                self.write_at_once(by, &[key], &sql, &values);
                self.go();
            }
            16 if self.dice.below(2) == 0 => self.write_without_a_key(by),
            17 => self.replace(by, key),
            18..=20 if self.leaves => self.write_and_leave(by, key),
            21 if self.dice.below(8) == 0 => self.replace_all_of_a_shard(by),
            22 if self.dice.below(16) == 0 => self.change_schema(),
            _ => self.write_at_once(by, &[key], WRITES[0], &values),
        }
    }

    /// Some rows of a shard.
    fn write_without_a_key(&mut self, by: u64) {
        let turn = self.dice.below(self.world.shards.len() as u64) as usize;
        let (shard, keys) = &self.world.shards[turn];
        let part = self.dice.below(2);
        let is_part = |key: &usize| *key as u64 % 2 == part;
        let keys: Vec<usize> = keys.iter().copied().filter(is_part).collect();
        let sql = format!(
            "/* keyway: shard={shard} */ update registers set n = n + 1, w = $1 where k % 2 = {part} returning k, n"
        );
        self.write_at_once(by, &keys, &sql, &[by]);
    }

    /// A write that does not tell what it made of its row: one more than anybody knew before it began, at least.
    fn write_silently(&mut self, by: u64, key: usize, what: &str, sql: &str) {
        let least = self.world.least(key);
        self.world.commits(by, &[key]);
        // A row that is just being replaced is none.
        let is_done = |tag: &str| tag == "UPDATE 1" || tag == "DO";
        let Some(messages) = self.hear(&query(sql)) else {
            return self.count(what, &Said::Lost);
        };
        let said = said(&messages);
        self.count(what, &said);
        match said {
            Said::Rows(_) if messages.iter().any(|m| m.tag == b'C' && is_done(&m.text())) => {
                self.world.acknowledged(by, key, least + 1);
            }
            Said::Error(sqlstate) if !is_in_doubt(&sqlstate) => self.world.undone(by),
            _ => {}
        }
    }

    fn write_and_read_in_one_message(&mut self, by: u64, key: usize) {
        self.world.commits(by, &[key]);
        let sql = "update registers set n = n + 1, w = $2 where k = $1 returning k, n, w; select k, n, w from leaves where k = $1";
        match self.ask(sql, &[key as u64, by]) {
            Said::Rows(rows) if rows.len() == 2 => {
                let (wrote, read) = (shown(&rows[0])[0], shown(&rows[1])[0]);
                if wrote != read {
                    let told = format!("{}: wrote {wrote:?} and reads {read:?}", self.name);
                    self.world.is_wrong(key, &told);
                }
                self.world.acknowledged(by, key, wrote.n);
            }
            Said::Rows(_) => self.world.undone(by),
            Said::Error(sqlstate) if !is_in_doubt(&sqlstate) => self.world.undone(by),
            _ => {}
        }
        self.leave_transaction();
    }

    /// Reads, writes some keys of a shard, reads its own, and commits or not.
    fn write_in_transaction(&mut self, by: u64) {
        if !matches!(self.ask("begin", &[]), Said::Rows(_)) {
            return self.leave_transaction();
        }
        for _ in 0..self.dice.below(3) {
            self.read();
        }
        let turn = self.dice.below(self.world.shards.len() as u64) as usize;
        let mut keys = self.world.shards[turn].1.clone();
        let count = 1 + self.dice.below(3) as usize;
        while keys.len() > count {
            let out = self.dice.below(keys.len() as u64) as usize;
            keys.remove(out);
        }
        let savepoint = self.dice.below(4) == 0;
        if savepoint {
            self.ask("savepoint a", &[]);
        }
        let mut own = Vec::new();
        for key in &keys {
            let sql = WRITES[self.dice.below(WRITES.len() as u64) as usize];
            let Said::Rows(rows) = self.ask(sql, &[*key as u64, by]) else {
                return self.leave_transaction();
            };
            let Some(row) = rows.first() else { continue };
            let n = number(&row[1]);
            own.push(Shown { key: *key, n, by });
            let sql = READS[self.dice.below(BY_KEY) as usize];
            let Said::Rows(rows) = self.ask(sql, &[*key as u64]) else {
                return self.leave_transaction();
            };
            if shown(&rows[0]) != [Shown { key: *key, n, by }] {
                let told = format!("{}: {sql}: {rows:?}, not its own {n} of {by}", self.name);
                self.world.is_wrong(*key, &told);
            }
        }
        if savepoint && self.dice.below(2) == 0 {
            self.ask("rollback to a", &[]);
            own.clear();
            // As it was before.
            self.read();
        }
        match self.dice.below(6) {
            0 => {
                self.ask("rollback", &[]);
            }
            1 if self.leaves => {
                self.world.count("leaves in a transaction");
                self.client = None;
            }
            _ if own.is_empty() => {
                self.ask("commit", &[]);
            }
            _ => {
                let keys: Vec<usize> = own.iter().map(|one| one.key).collect();
                self.world.commits(by, &keys);
                if self.leaves && self.dice.below(6) == 0 {
                    return self.send_and_leave(&query("commit"));
                }
                match self.ask("commit", &[]) {
                    Said::Rows(_) => {
                        for one in own {
                            self.world.acknowledged(by, one.key, one.n);
                        }
                    }
                    Said::Error(sqlstate) if !is_in_doubt(&sqlstate) => self.world.undone(by),
                    Said::Error(_) | Said::Lost => {}
                }
            }
        }
        self.leave_transaction();
    }

    /// A row goes and comes again.
    fn replace(&mut self, by: u64, key: usize) {
        if !matches!(self.ask("begin", &[]), Said::Rows(_)) {
            return self.leave_transaction();
        }
        let gone = self.ask(
            "delete from registers where k = $1 returning n",
            &[key as u64],
        );
        let Said::Rows(rows) = gone else {
            return self.leave_transaction();
        };
        let Some(row) = rows.first() else {
            return self.leave_transaction();
        };
        let n = number(&row[0]) + 1;
        let back = if self.dice.below(4) > 0 {
            self.ask(
                "insert into registers values ($1, $2, $3)",
                &[key as u64, n, by],
            )
        } else {
            self.copy(
                &format!("copy registers from stdin /* keyway: key={key} */"),
                &[Shown { key, n, by }],
            )
        };
        if matches!(back, Said::Rows(_)) {
            self.commit_known(by, &[Shown { key, n, by }]);
        }
        self.leave_transaction();
    }

    fn copy(&mut self, sql: &str, rows: &[Shown]) -> Said {
        let mut bytes = query(sql);
        for Shown { key, n, by } in rows {
            bytes.extend(message(b'd', format!("{key}\t{n}\t{by}\n").as_bytes()));
        }
        bytes.extend(message(b'c', b""));
        let said = self.exchange(&bytes);
        self.count("copy registers from stdin", &said);
        said
    }

    fn commit_known(&mut self, by: u64, rows: &[Shown]) {
        let keys: Vec<usize> = rows.iter().map(|one| one.key).collect();
        self.world.commits(by, &keys);
        match self.ask("commit", &[]) {
            Said::Rows(_) => {
                for one in rows {
                    self.world.acknowledged(by, one.key, one.n);
                }
            }
            Said::Error(sqlstate) if !is_in_doubt(&sqlstate) => self.world.undone(by),
            Said::Error(_) | Said::Lost => {}
        }
    }

    /// A shard's rows go all at once, and come again.
    fn replace_all_of_a_shard(&mut self, by: u64) {
        if !matches!(self.ask("begin", &[]), Said::Rows(_)) {
            return self.leave_transaction();
        }
        let turn = self.dice.below(self.world.shards.len() as u64) as usize;
        let (shard, keys) = &self.world.shards[turn];
        let hint = format!("/* keyway: shard={shard} */");
        let locked = format!("{hint} lock table registers in access exclusive mode");
        let (Said::Rows(_), Said::Rows(rows), Said::Rows(_)) = (
            self.ask(&locked, &[]),
            self.ask(&format!("{hint} select k, n from registers"), &[]),
            self.ask(&format!("{hint} truncate registers cascade"), &[]),
        ) else {
            return self.leave_transaction();
        };
        assert_eq!(rows.len(), keys.len(), "{shard}: nobody else writes now");
        let next = |row: &Vec<String>| Shown {
            key: number(&row[0]) as usize,
            n: number(&row[1]) + 1,
            by,
        };
        let news: Vec<Shown> = rows.iter().map(next).collect();
        if let Said::Rows(_) = self.copy(&format!("{hint} copy registers from stdin"), &news) {
            self.commit_known(by, &news);
        }
        self.leave_transaction();
    }

    fn change_schema(&mut self) {
        let sql = [
            "create or replace view shown as select k, n, w from registers",
            "grant select on registers to public",
            "analyze registers",
        ][self.dice.below(3) as usize];
        self.ask(sql, &[]);
    }

    /// Nobody hears what becomes of a write.
    fn write_and_leave(&mut self, by: u64, key: usize) {
        self.world.commits(by, &[key]);
        let sql = WRITES[0]
            .replace("$1", &key.to_string())
            .replace("$2", &by.to_string());
        let sql = match self.dice.below(3) {
            0 => sql,
            _ => format!("{sql}; select pg_sleep(0.1)"),
        };
        self.send_and_leave(&query(&sql));
    }

    fn send_and_leave(&mut self, bytes: &[u8]) {
        self.world.count("leaves in the middle of a write");
        if let Some(mut client) = self.client.take() {
            let _ = client.send(bytes);
        }
    }

    /// Most clients read most of the time, or hardly anything would be kept: what is written all the time is never kept.
    fn act(&mut self) {
        let writes = match (self.number.is_multiple_of(4), self.world.is_calm()) {
            (false, _) => 0,
            (true, false) => 50,
            (true, true) => 1,
        };
        match self.dice.below(1_000) {
            turn if turn < writes => self.write(),
            120..140 => self.read_in_one_snapshot(),
            160 => self.change_twig(),
            161..170 if !self.world.is_calm() => self.change_twig(),
            140..160 => {
                self.ask("begin", &[]);
                for _ in 0..4 {
                    self.read();
                }
                self.ask("commit", &[]);
                self.leave_transaction();
            }
            _ => self.read(),
        }
    }
}

fn said(messages: &[Message]) -> Said {
    match messages.iter().find(|m| m.tag == b'E') {
        Some(error) => Said::Error(error.sqlstate()),
        None => Said::Rows(rows_of(messages)),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// Columns `k, n, w`, once or more.
fn shown(row: &[String]) -> Vec<Shown> {
    row.chunks(3)
        .map(|of| Shown {
            key: number(&of[0]) as usize,
            n: number(&of[1]),
            by: number(&of[2]),
        })
        .collect()
}

/// A server process ends, whatever it does.
fn end_a_server(keyways: &Keyways, world: &World, _: &mut Dice) {
    world.count("fault: a server's end");
    Client::connect(&direct_target("postgres")).run(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname like '{}\\_s%' \
         and backend_type = 'client backend' and application_name <> 'keyway control' order by random() limit 1",
        keyways.name
    ));
}

/// Somebody's statement is cancelled.
fn cancel(_: &Keyways, world: &World, dice: &mut Dice) {
    let turn = dice.below(world.cancellers.len() as u64) as usize;
    let canceller = lock(&world.cancellers[turn]).clone();
    if let Some(canceller) = canceller {
        world.count("fault: a cancel request");
        canceller.cancel();
    }
}

/// A Keyway stands still.
fn pause(keyways: &Keyways, world: &World, dice: &mut Dice) {
    world.count("fault: a pause");
    let length = Duration::from_millis(10 + dice.below(200));
    stand_still(keyways, length, dice);
}

/// One of the Keyways stands still for longer than a lease, now and then: its marks expire meanwhile.
fn pause_past_a_lease(keyways: &Keyways, world: &World, dice: &mut Dice) {
    if dice.below(SELDOM) > 0 {
        return;
    }
    world.count("fault: a pause longer than a lease");
    let length = LEASE + Duration::from_millis(200 + dice.below(2_000));
    stand_still(keyways, length, dice);
}

fn stand_still(keyways: &Keyways, length: Duration, dice: &mut Dice) {
    let turn = dice.below(1 + keyways.others.len() as u64) as usize;
    let other = turn
        .checked_sub(1)
        .map(|other| lock(&keyways.others[other]));
    let router = other.as_deref().unwrap_or(&keyways.env.router);
    router.signal("STOP");
    thread::park_timeout(length);
    router.signal("CONT");
}

/// One of the other Keyways is killed, now and then: some time goes by until it keeps anything again.
fn kill_a_keyway(keyways: &Keyways, world: &World, dice: &mut Dice) {
    if dice.below(SELDOM) > 0 {
        return;
    }
    world.count("fault: a Keyway is killed");
    for other in &keyways.others {
        let mut router = lock(other);
        router.kill_and_restart();
        router.wait_ready();
    }
}

/// Redis is gone with all that it knew, for a moment.
fn restart_redis(keyways: &Keyways, world: &World, dice: &mut Dice) {
    if dice.below(SELDOM) > 0 {
        return;
    }
    let Some(redis) = &keyways.redis else { return };
    world.count("fault: Redis is restarted");
    let mut redis = lock(redis);
    redis.kill();
    thread::park_timeout(Duration::from_millis(dice.below(3_000)));
    redis.restart();
}

/// Redis stands still, at times for longer than a lease.
fn pause_redis(keyways: &Keyways, world: &World, dice: &mut Dice) {
    if dice.below(SELDOM) > 0 {
        return;
    }
    let Some(redis) = &keyways.redis else { return };
    world.count("fault: Redis stands still");
    let redis = lock(redis);
    redis.signal("STOP");
    thread::park_timeout(Duration::from_millis(dice.below(3_000)));
    redis.signal("CONT");
}

/// Lets clients read and write, and things go wrong, for some time.
fn act(
    keyways: &Keyways,
    world: &World,
    seed: u64,
    clients: usize,
    length: Duration,
    faults: &[Fault],
) {
    let end = Instant::now() + length;
    let is_over = || world.over.load(Ordering::SeqCst) || Instant::now() >= end;
    thread::scope(|scope| {
        for number in 0..clients {
            scope.spawn(move || {
                let mut guest = Guest {
                    name: format!("client {number}"),
                    number,
                    keyways,
                    world,
                    dice: Dice::new(seed + number as u64),
                    client: None,
                    prepared: HashMap::new(),
                    names: 0,
                    logins: 0,
                    leaves: !faults.is_empty(),
                    twig_in_doubt: false,
                };
                while !is_over() {
                    guest.act();
                }
            });
        }
        scope.spawn(move || {
            let mut dice = Dice::new(seed + clients as u64);
            while !faults.is_empty() && !is_over() {
                faults[dice.below(faults.len() as u64) as usize](keyways, world, &mut dice);
                thread::park_timeout(Duration::from_millis(20 + dice.below(150)));
            }
        });
    });
}

/// How long each part of a run is: `KEYWAY_SOAK` may say it in seconds.
fn length() -> Duration {
    let soak = std::env::var("KEYWAY_SOAK").ok();
    Duration::from_secs(match soak.map(|text| text.parse()) {
        None => 3,
        Some(Ok(seconds)) if seconds > 1 => seconds,
        Some(_) => 30,
    })
}

/// Starts Keyways, acts, first in peace and then with faults, and says what was wrong.
fn check(start: fn() -> Keyways, clients: usize, faults: &[Fault]) {
    let seed = seed();
    let keyways = start();
    let world = World::new(&keyways, clients);
    let started = Instant::now();
    act(&keyways, &world, seed, clients, length(), &[]);
    let of = |name: &str| numbers(&keyways.env, name).values().sum::<u64>();
    let hits = of("keyway_cache_hits_total");
    let misses = of("keyway_cache_misses_total");
    let passed_by = numbers(&keyways.env, "keyway_cache_passed_by_total");
    let is_in_peace = !world.over.load(Ordering::SeqCst);
    let peaceful = std::mem::take(&mut *lock(&world.counts));
    if is_in_peace {
        act(&keyways, &world, seed + 1, clients, length(), faults);
    }
    world.check_at_the_end();
    eprintln!("{hits} answers were kept ones, {misses} were not; {passed_by:?}");
    for (when, counts) in [
        ("in peace", &peaceful),
        ("with faults", &*lock(&world.counts)),
    ] {
        for (what, count) in counts {
            eprintln!("{when}: {count} × {what}");
        }
    }
    let wrong = lock(&world.wrong);
    assert!(
        wrong.is_empty(),
        "KEYWAY_SEED={seed}: after {:?}:\n{}",
        started.elapsed(),
        wrong.join("\n")
    );
    assert!(!keyways.env.router.log().contains("panicked"));
    for other in &keyways.others {
        assert!(!lock(other).log().contains("panicked"));
    }
    // Where nothing goes wrong, only locks are refused, what follows in their transactions, and a DO
    // whose row is gone.
    let errors: Vec<&String> = peaceful
        .keys()
        .filter(|what| {
            what.contains(" — ")
                && !["40P01", "55P03", "25P02", "P0001"]
                    .iter()
                    .any(|e| what.ends_with(e))
        })
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(hits > 20, "hardly anything was kept: {hits} of {misses}");
}

#[test]
fn soak_kept_answers_are_what_one_register_would_say() {
    let clients = if crate::crowd::is_soak() { 32 } else { 8 };
    check(one, clients, &[end_a_server, cancel, pause]);
}

#[test]
fn soak_two_strict_keyways_say_what_one_register_would_say() {
    let clients = if crate::crowd::is_soak() { 32 } else { 8 };
    if crate::crowd::is_soak() {
        let faults: &[Fault] = &[
            end_a_server,
            cancel,
            pause,
            pause_past_a_lease,
            kill_a_keyway,
            restart_redis,
            pause_redis,
        ];
        check(two, clients, faults);
    } else {
        check(two, clients, &[end_a_server, cancel, pause]);
    }
}
