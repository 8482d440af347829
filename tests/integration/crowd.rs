//! Two thousand clients over a pool of twenty: they connect, idle, and run at random, and every one gets its own rows.
//! Some seconds long in an ordinary run, a minute with `KEYWAY_SOAK=1`.

use std::fmt::Write as _;
use std::net::TcpStream as StdStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{PASSWORD, Setup, eventually};
use crate::raw::{self, Client, Message, Value, bind, execute, parse, query, rows_of, sync};

const CLIENTS: u64 = 2_000;
const ROWS: u64 = 500;
/// Threads that log clients in.
const DOORS: u64 = 8;
/// A statement that takes longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(180);

/// xorshift64*: random enough, and the same for the same seed.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

/// A seed from `KEYWAY_SEED`; else always the same, so that a run judges the change at hand, and in the long form a new one.
/// Printed, so that a failure can be repeated.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("KEYWAY_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| match is_soak() {
        true => getrandom::u64().unwrap_or(1) % 1_000_000,
        false => 1_996,
    });
    eprintln!("KEYWAY_SEED={seed}");
    seed
}

/// Runs the long form?
pub(crate) fn is_soak() -> bool {
    std::env::var_os("KEYWAY_SOAK").is_some()
}

struct Guest {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: u64,
    dice: Dice,
    status: u8,
}

impl Guest {
    async fn ask(&mut self, bytes: &[u8]) -> Vec<Message> {
        let whole = async {
            self.stream.write_all(bytes).await.expect("send");
            let mut messages = Vec::new();
            loop {
                while let Some(message) = self.next() {
                    match message.tag {
                        b'Z' => {
                            self.status = message.body[0];
                            return messages;
                        }
                        b'S' | b'N' => {}
                        _ => messages.push(message),
                    }
                }
                let count = self.stream.read_buf(&mut self.buffer).await.expect("read");
                assert!(count > 0, "client {} is thrown out", self.number);
            }
        };
        match timeout(PATIENCE, whole).await {
            Ok(messages) => messages,
            Err(_) => panic!("client {} waits in vain", self.number),
        }
    }

    fn next(&mut self) -> Option<Message> {
        let length = u32::from_be_bytes(self.buffer.get(1..5)?.try_into().ok()?) as usize;
        if self.buffer.len() <= length {
            return None;
        }
        let rest = self.buffer.split_off(length + 1);
        let whole = std::mem::replace(&mut self.buffer, rest);
        Some(Message {
            tag: whole[0],
            body: whole[5..].to_vec(),
        })
    }

    async fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        self.answered(&query(sql), sql).await
    }

    /// The rows that these messages bring; `what` they are is for the error.
    async fn answered(&mut self, bytes: &[u8], what: &str) -> Vec<Vec<String>> {
        let messages = self.ask(bytes).await;
        if let Some(error) = messages.iter().find(|m| m.tag == b'E') {
            panic!("client {}: {what}: {error:?}", self.number);
        }
        rows_of(&messages)
    }

    /// One thing that an application does; every answer is checked against what only this client can expect.
    async fn act(&mut self) {
        let (k, mark) = (self.dice.below(ROWS) + 1, self.number);
        match self.dice.below(10) {
            0..=3 => {
                let rows = self
                    .rows(&format!("select k, v, {mark} from items where k = {k}"))
                    .await;
                assert_eq!(rows, [[k.to_string(), format!("v{k}"), mark.to_string()]]);
            }
            4..=5 => {
                let mut bytes = parse("", "select k, v, $2::text from items where k = $1", &[]);
                bytes.extend(bind(
                    "",
                    "",
                    &[Value::text(&k.to_string()), Value::text(&mark.to_string())],
                    0,
                ));
                bytes.extend(execute("", 0));
                bytes.extend(sync());
                let rows = self.answered(&bytes, "one statement").await;
                assert_eq!(rows, [[k.to_string(), format!("v{k}"), mark.to_string()]]);
            }
            6 => {
                // Prepared once, used for ever: the name is the same for all clients, the text is not.
                let text = format!("select v, {mark} from items where k = $1");
                let mut bytes = Vec::new();
                bytes.extend(raw::close(b'S', "mine"));
                bytes.extend(parse("mine", &text, &[23]));
                for turn in 0..3 {
                    bytes.extend(bind(
                        "",
                        "mine",
                        &[Value::text(&((k + turn) % ROWS + 1).to_string())],
                        0,
                    ));
                    bytes.extend(execute("", 0));
                }
                bytes.extend(sync());
                let rows = self.answered(&bytes, "a pipeline").await;
                let expected: Vec<[String; 2]> = (0..3)
                    .map(|turn| [format!("v{}", (k + turn) % ROWS + 1), mark.to_string()])
                    .collect();
                assert_eq!(rows, expected);
            }
            7 => {
                self.rows("begin").await;
                let rows = self
                    .rows(&format!(
                        "update items set n = n + 1 where k = {k} returning k, {mark}"
                    ))
                    .await;
                assert_eq!(rows, [[k.to_string(), mark.to_string()]]);
                let end = if self.dice.below(2) == 0 {
                    "commit"
                } else {
                    "rollback"
                };
                self.rows(end).await;
                assert_eq!(self.status, b'I');
            }
            8 => {
                self.rows(&format!("set application_name = 'client {mark}'"))
                    .await;
                let rows = self
                    .rows(&format!(
                        "select current_setting('application_name') from items where k = {k}"
                    ))
                    .await;
                assert_eq!(rows, [[format!("client {mark}")]]);
            }
            _ => {
                let rows = self
                    .rows(&format!(
                        "select k, {mark} from items where k <= 3 order by k"
                    ))
                    .await;
                assert_eq!(rows.len(), 3);
                assert!(rows.iter().all(|row| row[1] == mark.to_string()));
            }
        }
    }
}

/// Two thousand sockets here and as many in the router need more descriptors than some systems give by default.
fn raise_descriptor_limit() {
    let done = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), "--nofile=8192:"])
        .output();
    if !done.is_ok_and(|output| output.status.success()) {
        eprintln!("prlimit does not work here: run the tests under `ulimit -n 8192`");
    }
}

#[test]
fn soak_two_thousand_clients_over_a_pool_of_twenty() {
    raise_descriptor_limit();
    let seed = seed();
    let verifier = raw::scram_verifier(PASSWORD);
    let env = Setup {
        name: "crowd",
        pool_size: 20,
        tables: "items = { key = \"k\" }",
        more: &format!("[users.crowd]\npassword = \"{verifier}\""),
        pool: "checkout_timeout = \"150s\"",
        schema: "create table items (k int primary key, v text, n int not null default 0);\n",
        ..Setup::default()
    }
    .start();
    let mut client = env.client();
    let mut load = String::new();
    for k in 1..=ROWS {
        writeln!(load, "insert into items values ({k}, 'v{k}');").expect("write to a string");
    }
    for line in load.lines() {
        client.run(line);
    }
    let mut target = env.target.clone();
    target.user = "crowd".to_owned();
    let streams: Vec<StdStream> = thread::scope(|scope| {
        let doors: Vec<_> = (0..DOORS)
            .map(|_| {
                scope.spawn(|| {
                    (0..CLIENTS / DOORS)
                        .map(|_| Client::connect(&target).into_stream())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        doors
            .into_iter()
            .flat_map(|door| door.join().expect("logins"))
            .collect()
    });
    assert_eq!(streams.len() as u64, CLIENTS);

    let length = Duration::from_secs(if is_soak() { 60 } else { 10 });
    let acts = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let end = Instant::now() + length;
        let guests: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(number, stream)| {
                let acts = Arc::clone(&acts);
                let number = number as u64;
                tokio::spawn(async move {
                    let mut guest = Guest {
                        stream: TcpStream::from_std(stream).expect("a socket"),
                        buffer: Vec::new(),
                        number,
                        dice: Dice::new(seed + number),
                        status: b'I',
                    };
                    loop {
                        // Most clients idle most of the time; whoever wakes after the end acts once more and leaves.
                        let pause = Duration::from_millis(guest.dice.below(4_000));
                        sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
                        guest.act().await;
                        acts.fetch_add(1, Ordering::Relaxed);
                        if Instant::now() >= end {
                            return;
                        }
                    }
                })
            })
            .collect();
        for guest in guests {
            guest.await.expect("a client got another's answer, or none");
        }
    });
    let acts = acts.load(Ordering::Relaxed);
    assert!(acts >= CLIENTS, "only {acts} acts");
    env.wait_idle();
    for shard in ["s0", "s1", "s2"] {
        // The pool's twenty, twice because of two roles.
        eventually("the pools' bound holds", || {
            (env.servers(shard).len() <= 2 * 20).then_some(())
        });
    }
    assert!(!env.router.log().contains("panicked"));
}
