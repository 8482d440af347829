//! Random conversations, simple and extended, of one to three clients that share one server connection: each message is
//! compared with what PostgreSQL says to clients that have a connection each, and so is the table they leave behind.
//!
//! A seed makes the same conversations again (`KEYWAY_SEED`); one that differs is cut down to what is needed.

use crate::crowd::{Dice, is_soak, seed};
use crate::harness::{direct_target, written_behind};
use crate::lone::{env, shown, turn};
use crate::raw::{
    Client, Target, Value, bind, close, describe, execute, flush, parse, query, sync, terminate,
};

/// Ends with its ReadyForQuery.
#[derive(Clone, Debug)]
struct Step {
    client: usize,
    label: String,
    bytes: Vec<u8>,
}

/// What both say the same to. `#` stands for a small number.
const STATEMENTS: &[&str] = &[
    "begin",
    "begin",
    "begin read only",
    "begin isolation level serializable",
    "start transaction",
    "commit",
    "commit",
    "end",
    "rollback",
    "commit and chain",
    "rollback and chain",
    "savepoint a",
    "savepoint b",
    "release a",
    "rollback to a",
    "rollback to b",
    "select #",
    "select id, name from talk order by id",
    "select name from talk where id = #",
    "insert into talk values (#, 'x')",
    "insert into talk values (#, 'y') returning id",
    "insert into talk values (#, 'z') on conflict (id) do update set name = 'w'",
    "update talk set name = name || '!' where id = #",
    "delete from talk where id = #",
    "with w as (delete from talk where id = # returning id) select count(*) from w",
    "select 1 / 0",
    "select nosuch",
    "select * from nosuch",
    "set work_mem = '1MB'",
    "set local work_mem = '2MB'",
    "set work_mem = nonsense",
    "reset work_mem",
    "reset all",
    "show work_mem",
    "set datestyle = german",
    "set datestyle = ymd",
    "reset datestyle",
    "select date '2024-02-01'",
    "set timezone = 'Asia/Tokyo'",
    "set local timezone = 'Europe/Berlin'",
    "show timezone",
    "set lone.x = '#'",
    "set local lone.x = '#'",
    "reset lone.x",
    "select current_setting('lone.x', true)",
    "select set_config('lone.x', '#', true)",
    "select set_config('work_mem', '3MB', false)",
    "set transaction read only",
    "set transaction isolation level repeatable read",
    "show transaction_read_only",
    "select current_setting('transaction_isolation')",
    "set role lone_bob",
    "reset role",
    "select current_user = session_user",
    "lock table talk",
    "copy talk to stdout",
    "",
    ";",
];

/// For messages of several.
const SEVERAL: &[&str] = &[
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "rollback to a",
    "select #",
    "insert into talk values (#, 'm')",
    "delete from talk where id = #",
    "select 1 / 0",
    "set work_mem = '1MB'",
    "set local work_mem = '2MB'",
    "show work_mem",
];

/// Only a client that has the server for itself: they keep it, or name what others share.
const ALONE: &[&str] = &[
    "set session characteristics as transaction isolation level serializable",
    "set session characteristics as transaction isolation level read committed",
    "prepare p as select name from talk where id = $1",
    "execute p (#)",
    "deallocate p",
    "deallocate all",
    "discard all",
    "create temp table scratch (x int)",
    "drop table scratch",
    "listen channel",
    "notify channel, '#'",
    "select pg_advisory_lock(#)",
    "select pg_advisory_unlock_all()",
];

const BATCHED: &[&str] = &[
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "rollback to a",
    "select id, name from talk order by id",
    "insert into talk values (#, 'b')",
    "update talk set name = 'u' where id = #",
    "select 1 / 0",
    "set work_mem = '1MB'",
    "set local work_mem = '2MB'",
    "show work_mem",
    "",
];

fn numbered(sql: &str, dice: &mut Dice) -> String {
    sql.replace('#', &dice.below(6).to_string())
}

fn pick<'a>(from: &[&'a str], dice: &mut Dice) -> &'a str {
    from[usize::try_from(dice.below(from.len() as u64)).unwrap_or(0)]
}

/// Some messages of the extended protocol, up to Sync.
fn batch(dice: &mut Dice) -> (String, Vec<u8>) {
    let (mut label, mut bytes) = (String::new(), Vec::new());
    for _ in 0..=dice.below(3) {
        let name = pick(&["", "", "s"], dice);
        match dice.below(10) {
            0..=5 => {
                let (sql, values): (String, Vec<Value>) = match dice.below(4) {
                    0 => (
                        "select name from talk where id = $1".to_owned(),
                        vec![Value::text(&dice.below(6).to_string())],
                    ),
                    1 => (
                        "insert into talk values ($1, 'p')".to_owned(),
                        vec![Value::text(&dice.below(6).to_string())],
                    ),
                    _ => (numbered(pick(BATCHED, dice), dice), Vec::new()),
                };
                let rows = u32::try_from(dice.below(3)).unwrap_or(0);
                label.push_str(&format!("P({name}:{sql}) B E({rows}) "));
                bytes.extend(parse(name, &sql, &[]));
                bytes.extend(bind("", name, &values, 0));
                if dice.below(2) == 0 {
                    label.push_str("D ");
                    bytes.extend(describe(b'P', ""));
                }
                bytes.extend(execute("", rows));
            }
            6 => {
                label.push_str(&format!("C({name}) "));
                bytes.extend(close(b'S', name));
            }
            7 if label.contains("B ") => {
                label.push_str("E() ");
                bytes.extend(execute("", 0));
            }
            // In a failed transaction a statement cannot be prepared on another server to be described.
            8 if name.is_empty() || label.contains("P(s:") => {
                label.push_str(&format!("D({name}) "));
                bytes.extend(describe(b'S', name));
            }
            _ => {
                label.push_str("H ");
                bytes.extend(flush());
            }
        }
    }
    bytes.extend(sync());
    (label + "S", bytes)
}

fn steps(dice: &mut Dice, clients: usize) -> Vec<Step> {
    (0..4 + dice.below(20))
        .map(|_| {
            let client = usize::try_from(dice.below(clients as u64)).unwrap_or(0);
            let (label, bytes) = match dice.below(10) {
                0..=4 => {
                    let sql = numbered(pick(STATEMENTS, dice), dice);
                    (sql.clone(), query(&sql))
                }
                5 if clients == 1 => {
                    let sql = numbered(pick(ALONE, dice), dice);
                    (sql.clone(), query(&sql))
                }
                5 | 6 => {
                    let sql: Vec<String> = (0..2 + dice.below(3))
                        .map(|_| numbered(pick(SEVERAL, dice), dice))
                        .collect();
                    let sql = sql.join("; ");
                    (sql.clone(), query(&sql))
                }
                _ => batch(dice),
            };
            Step {
                client,
                label,
                bytes,
            }
        })
        .collect()
}

/// What is said to these steps. A step is left out whose client would have to wait for another's transaction.
fn talk(target: &Target, steps: &[Step]) -> (Vec<Step>, Vec<Vec<String>>) {
    let count = steps.iter().map(|step| step.client + 1).max().unwrap_or(0);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(target)).collect();
    let (mut taken, mut answers) = (Vec::new(), Vec::new());
    for step in steps {
        let busy = clients.iter().position(|client| client.status != b'I');
        if busy.is_some_and(|busy| busy != step.client) {
            continue;
        }
        let client = &mut clients[step.client];
        client.send(&step.bytes).expect("send");
        let mut lines = Vec::new();
        match client.until_ready() {
            Ok(messages) => lines.extend(messages.iter().map(shown)),
            Err(error) => lines.push(format!("{:?}", error.kind())),
        }
        lines.push(format!("Z {}", char::from(client.status)));
        // In a failed transaction nothing is read by them; they are told at its end.
        if client.status != b'E' {
            for name in ["DateStyle", "TimeZone"] {
                lines.push(format!("{name} = {:?}", client.parameters.get(name)));
            }
        }
        taken.push(step.clone());
        answers.push(lines);
    }
    for client in &mut clients {
        // One that the server has closed has nothing to say.
        let _ = client.send(&terminate());
    }
    (taken, answers)
}

fn reset(target: &Target) {
    let mut client = Client::connect(target);
    client.run(
        "set lock_timeout = '20s'; truncate talk; insert into talk values (1, 'one'), (2, 'two')",
    );
    client.bye();
}

fn left_behind(target: &Target) -> Vec<Vec<String>> {
    let mut client = Client::connect(target);
    // A transaction that its client left is over when this lock is there.
    client.run("begin; lock table talk");
    let rows = client.rows("select id, name from talk order by id");
    client.run("commit");
    client.bye();
    rows
}

/// The first difference between the two, if there is one.
fn difference(steps: &[Step]) -> Option<String> {
    let (_, target, plain) = env();
    let direct = direct_target("lone");
    reset(plain);
    reset(&direct);
    written_behind(target);
    let (taken, theirs) = talk(plain, steps);
    let (_, ours) = talk(target, &taken);
    for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        if ours != theirs {
            return Some(format!(
                "step {index}\n  Keyway:     {ours:?}\n  PostgreSQL: {theirs:?}"
            ));
        }
    }
    let (ours, theirs) = (left_behind(&direct), left_behind(plain));
    (ours != theirs).then(|| format!("rows\n  Keyway:     {ours:?}\n  PostgreSQL: {theirs:?}"))
}

#[test]
fn soak_random_conversations() {
    let _turn = turn();
    let seed = seed();
    let count = if is_soak() { 10_000 } else { 150 };
    for number in 0..count {
        let mut dice = Dice::new(seed + number);
        let clients = 1 + usize::try_from(dice.below(3)).unwrap_or(0);
        let mut steps = steps(&mut dice, clients);
        let Some(mut found) = difference(&steps) else {
            continue;
        };
        // What can be left out is.
        let mut index = 0;
        while index < steps.len() {
            let mut fewer = steps.clone();
            fewer.remove(index);
            match difference(&fewer) {
                Some(still) => (steps, found) = (fewer, still),
                None => index += 1,
            }
        }
        let said: Vec<String> = steps
            .iter()
            .map(|step| format!("{}: {}", step.client, step.label))
            .collect();
        panic!(
            "KEYWAY_SEED={} (the first of its conversations)\n{}\ndiffers at {found}",
            seed + number,
            said.join("\n")
        );
    }
}
