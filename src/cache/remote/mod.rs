//! Several Keyways as one: versions shared over Redis, and kept answers that all of them may give. In: what the sessions
//! of this Keyway are about to write, and what they would like to keep. Out: what the other Keyways write, as marks on this
//! Keyway's cells; tokens, which say whether an answer still holds; answers that another Keyway has kept.
//!
//! The same protocol as in `results::cells`, with Redis as the table. A write marks its cells in Redis before it is sent,
//! by a lease that is renewed while it is on its way. A cell that is not marked has a random token; a mark takes it away,
//! and its end makes another, whether it was taken back or has expired. An answer holds while the tokens of its cells
//! are those that were captured before its statement was sent. So whatever becomes of a message, a connection, a Keyway or
//! of Redis itself, an answer can only be void too early.
//!
//! - *Strict*: a write is not sent before Redis has its mark, and no answer is given without asking Redis for its tokens.
//!   A read that begins after a write was acknowledged sees it, on every Keyway.
//! - *Bounded*: nobody waits for Redis. Marks are told soon, and the other Keyways hear of them on a channel; who hears
//!   nothing (a message of one's own is overdue) keeps and gives nothing until it is in step again. A Keyway that cannot
//!   reach Redis goes on writing untold, and the others do not know; it tells all of it when Redis is back.
//!
//! What is assumed: all Keyways of a deployment have the same lease, Redis's clock does not jump ahead by a lease, and one
//! Redis is asked by all. A primary that was cut off and still answers, while another was promoted, is two.
//!
//! Redis down means slower, never wrong: everything here answers within `timeout`, and at once while Redis is away.
//! Never here: anything of sessions or topology but cells and digests.
//!
//! Reading order: `scripts` (what Redis does as one step), `tokens`, `own` (this Keyway's marks), `line` (the connection and
//! its breaker), `keeper` (tells and renews), `listener` (hears), `sealed` (answers as they lie in Redis).

mod keeper;
mod line;
mod listener;
mod numbers;
mod own;
mod scripts;
pub mod sealed;
mod tokens;

#[cfg(test)]
mod tests;

pub use numbers::Numbers;
pub use tokens::Tokens;

use crate::cache::results::cells::{Cell, Cells, Held};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use line::{Answer, Away, Line, Live, digest_text, never_used};
use numbers::Counts;
use own::{MarkId, Marked, Outcome, Own, Until, Wrote};
use redis::RedisResult;
use smallvec::{SmallVec, smallvec};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokens::{CELLS_MAX, EVERYTHING, folded, token};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

/// Answers that wait to be put to Redis.
const PUTS_MAX: usize = 1_024;

/// How often it is looked whether Redis has answered for the first time.
const FIRST_LOOK: Duration = Duration::from_millis(5);

/// Bytes of them.
const PUTS_BYTES: usize = 32 * 1024 * 1024;

/// What a read that begins after another Keyway's write may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The write, always.
    Strict,
    /// The write, once this Keyway has heard of it.
    Bounded,
}

/// How versions are shared.
#[derive(Clone)]
pub struct Options {
    /// `redis://`, `rediss://` or `unix:`; several are nodes of one cluster.
    pub urls: Vec<String>,
    /// All Keyways of the same name share.
    pub deployment: String,
    /// Who does not know it cannot make an answer that is given.
    pub secret: Vec<u8>,
    /// How long a mark outlives its Keyway. The same on all of them.
    pub lease: Duration,
    /// How long Redis may take to answer anything.
    pub timeout: Duration,
    /// What is promised.
    pub consistency: Consistency,
    /// Answers are shared too, not only their versions.
    pub answers: bool,
    /// Questions in a row without an answer, until Redis is away.
    pub failures_max: u32,
    /// The shortest wait before a new connection; it doubles up to `pause_max`.
    pub pause_min: Duration,
    /// The longest.
    pub pause_max: Duration,
    /// How often a message is sent to oneself. Who has not got one that was sent less than three of these ago is out of step.
    pub heartbeat: Duration,
    /// Writes on their way, and those that are over and not told. One more marks nothing by itself, and changes everything.
    pub marks_max: usize,
}

impl Options {
    /// As they are unless somebody says otherwise.
    #[must_use]
    pub fn new(urls: Vec<String>, deployment: String, secret: Vec<u8>) -> Self {
        Self {
            urls,
            deployment,
            secret,
            lease: Duration::from_secs(30),
            timeout: Duration::from_millis(20),
            consistency: Consistency::Bounded,
            answers: true,
            failures_max: 5,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            heartbeat: Duration::from_secs(1),
            marks_max: 100_000,
        }
    }
}

/// Addresses carry passwords.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("urls", &self.urls.len())
            .field("deployment", &self.deployment)
            .field("lease", &self.lease)
            .field("timeout", &self.timeout)
            .field("consistency", &self.consistency)
            .finish_non_exhaustive()
    }
}

/// Why sharing cannot begin. An address is not quoted, as it may carry a password.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// There is none.
    #[error("no address of Redis is given")]
    NoAddress,
    /// The one at this place, counted from 1.
    #[error("address {0} of Redis is not redis://, rediss:// or unix: with what belongs to it")]
    Address(usize),
    /// Together they are no cluster.
    #[error(
        "the addresses of Redis are not those of one cluster: same user, same password, no unix socket"
    )]
    Cluster,
    /// The name is part of keys.
    #[error("the deployment's name is empty or has a brace or a blank in it")]
    Deployment,
    /// The system has no randomness or no thread for it.
    #[error("start the thread that talks to Redis")]
    Thread(#[source] std::io::Error),
}

/// Redis has not said within the patience that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis has not acknowledged the write's mark in time")]
pub struct NotTold;

/// Why there are no tokens, and so nothing is to be kept, nor given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A write is on its way, or one of ours is not told yet.
    Marked,
    /// Redis has lost its state, and marks of before may still be counted on.
    Unsettled,
    /// The Keyways plan by another topology than this.
    OtherTopology,
    /// Redis has not answered.
    Away,
    /// More cells than one answer may depend on.
    TooMany,
}

/// What Redis has for a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The tokens of its cells, as they are now.
    pub tokens: Result<Tokens, Why>,
    /// What lies under its name; to be opened with [`sealed::open`], and given only when its tokens are these.
    pub entry: Option<Bytes>,
}

/// The name of an answer, see `results::key::Key::name`.
pub type Name = [u8; 16];

/// Which state of Redis is known, and which topology it is told of.
#[derive(Debug, Default)]
struct Known {
    /// Process and birth.
    life: String,
    digest: Option<u128>,
    /// Redis has acknowledged the digest.
    is_told: bool,
    /// Since when Redis says another.
    disagrees: Option<Instant>,
}

/// An answer on its way to Redis.
struct Put {
    key: String,
    sealed: Vec<u8>,
    ttl: Duration,
}

/// What the thread and the sessions have in common.
struct Shared {
    options: Options,
    line: Line,
    own: Own,
    cells: Arc<Cells>,
    known: Mutex<Known>,
    /// Process and birth of a state of Redis that is older than a lease.
    settled: ArcSwapOption<String>,
    /// There is something to be told.
    work: Notify,
    /// Others' marks are to be judged again.
    judge: Notify,
    puts_bytes: AtomicUsize,
}

/// A deployment's Redis, for all threads of the process. Dropping it ends the thread that talks to Redis, after a last
/// attempt to tell what is over. In bounded mode nothing is kept from then on: the other Keyways are not heard any more.
pub struct Remote {
    shared: Arc<Shared>,
    puts: mpsc::Sender<Put>,
    /// Dropped with it, which the thread sees.
    _stop: watch::Sender<()>,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Remote {
    /// Begins. Redis need not be there yet.
    ///
    /// # Errors
    /// Options that can never work.
    pub fn start(options: Options, cells: Arc<Cells>) -> Result<Arc<Self>, Malformed> {
        let name = &options.deployment;
        if name.is_empty() || name.contains(|c: char| "{}".contains(c) || c.is_whitespace()) {
            return Err(Malformed::Deployment);
        }
        let sender =
            never_used().map_err(|error| Malformed::Thread(std::io::Error::other(error)))?;
        let line = Line::new(&options, sender)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Malformed::Thread)?;
        let (puts, to_put) = mpsc::channel(PUTS_MAX);
        let (stop, stopped) = watch::channel(());
        let out_of_step = listener::out_of_step(&options, &cells);
        let shared = Arc::new(Shared {
            own: Own::new(options.lease, options.marks_max),
            options,
            line,
            cells,
            known: Mutex::default(),
            settled: ArcSwapOption::empty(),
            work: Notify::new(),
            judge: Notify::new(),
            puts_bytes: AtomicUsize::new(0),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("keyway-redis".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::spawn(listener::listen(Arc::clone(&of_thread), out_of_step));
                    tokio::spawn(keeper::put(Arc::clone(&of_thread), to_put));
                    keeper::keep(&of_thread, stopped).await;
                });
            })
            .map_err(Malformed::Thread)?;
        Ok(Arc::new(Self {
            shared,
            puts,
            _stop: stop,
        }))
    }

    /// Marks what a write is about to change, planned by this digest; it may be sent when this has returned.
    ///
    /// Cancel safe: a mark that nobody has got is taken back.
    ///
    /// # Errors
    /// When Redis has not said in time that it has the mark.
    pub async fn mark(&self, digest: u128, cells: &[Cell]) -> Result<RemoteMarks, NotTold> {
        let shared = &self.shared;
        if cells.is_empty() {
            return Ok(RemoteMarks::none(shared));
        }
        let cells = bounded(cells);
        let (id, until) = shared
            .own
            .begin_telling(digest, cells.clone())
            .ok_or(NotTold)?;
        let mut marks = RemoteMarks {
            shared: Arc::clone(shared),
            holds: Holds::Telling(id),
            until,
        };
        let outcome = shared.tell(id, digest, &cells).await;
        marks.holds = Holds::Unsent(id);
        shared.own.marked(id, outcome);
        if !matches!(outcome, Outcome::Told(_)) {
            return Err(NotTold);
        }
        marks.holds = Holds::Sent(id);
        Ok(marks)
    }

    /// As [`mark`](Self::mark), without waiting: Redis is told soon, or when it is back.
    #[must_use]
    pub fn mark_soon(&self, digest: u128, cells: &[Cell]) -> RemoteMarks {
        let shared = &self.shared;
        if cells.is_empty() {
            return RemoteMarks::none(shared);
        }
        let (holds, until) = match shared.own.begin_soon(digest, bounded(cells)) {
            Some((id, until)) => (Holds::Sent(id), until),
            None => {
                shared.own.changed([Cell::EVERYTHING]);
                (Holds::TooMany, Until::default())
            }
        };
        shared.work.notify_one();
        RemoteMarks {
            shared: Arc::clone(shared),
            holds,
            until,
        }
    }

    /// The tokens of these cells as they are now, for a statement that has not been sent yet, and what lies under a name.
    /// One round trip, unless a cell was never looked at or Redis has to say why not. What this Keyway has written and not
    /// told yet counts as if it had: its clients see their own writes, in bounded mode too.
    ///
    /// Cancel safe.
    pub async fn look(&self, digest: u128, cells: &[Cell], entry: Option<&Name>) -> Looked {
        let shared = &self.shared;
        let not = |why| Looked {
            tokens: Err(why),
            entry: None,
        };
        if cells.len() > CELLS_MAX {
            return not(Why::TooMany);
        }
        // Whoever writes by another topology marks everything.
        let places = folded(cells.iter().copied().chain([Cell::EVERYTHING]));
        if !shared.own.knows(&places) {
            return not(Why::Marked);
        }
        let key = entry.map(|name| shared.line.value(name));
        let looked = shared
            .line
            .ask(|live| async move {
                let (tokens, entry) = tokio::join!(
                    shared.tokens(&live, digest, &places),
                    shared.entry(&live, key)
                );
                Ok(Looked {
                    tokens: tokens?,
                    // Tokens are something without an answer; whatever else lies under its name.
                    entry: entry.unwrap_or_default(),
                })
            })
            .await;
        looked.unwrap_or_else(|_| not(Why::Away))
    }

    /// Does an answer with these tokens hold now, for whoever plans by this digest? `false` when Redis does not say so.
    ///
    /// Cancel safe.
    pub async fn holds(&self, digest: u128, tokens: &Tokens) -> bool {
        let shared = &self.shared;
        let places: Vec<u32> = tokens.places().collect();
        digest == tokens.digest()
            && shared.own.knows(&places)
            && shared
                .line
                .ask(|live| async move { shared.hold(&live, tokens).await })
                .await
                .unwrap_or(false)
    }

    /// Puts a sealed answer to Redis for this long. Nobody waits for it, and it may be lost.
    pub fn put(&self, name: &Name, sealed: Vec<u8>, ttl: Duration) {
        let shared = &self.shared;
        let bytes = sealed.len();
        let waiting = shared.puts_bytes.fetch_add(bytes, Ordering::AcqRel);
        let put = Put {
            key: shared.line.value(name),
            sealed,
            ttl,
        };
        if waiting + bytes > PUTS_BYTES || shared.line.is_away() || self.puts.try_send(put).is_err()
        {
            shared.puts_bytes.fetch_sub(bytes, Ordering::AcqRel);
            Counts::one(&shared.line.counts.puts_dropped);
        }
    }

    /// From now on statements are planned by the topology of this digest. Before the first of them, every other Keyway's
    /// write is one to everything.
    pub fn snapshot(&self, digest: u128) {
        let mut known = self.shared.known();
        if known.digest != Some(digest) {
            known.digest = Some(digest);
            known.is_told = false;
            known.disagrees = None;
        }
        drop(known);
        self.shared.judge.notify_one();
        self.shared.work.notify_one();
    }

    /// These have changed: told soon, or when Redis is back.
    pub fn change(&self, cells: impl IntoIterator<Item = Cell>) {
        self.shared.own.changed(cells);
        self.shared.work.notify_one();
    }

    /// Waits for Redis's first answer, but no longer than this. Says whether it came.
    pub async fn is_there(&self, patience: Duration) -> bool {
        let asking = async {
            while self.shared.line.is_away() || self.numbers().connections == 0 {
                tokio::time::sleep(FIRST_LOOK).await;
            }
        };
        timeout(patience, asking).await.is_ok()
    }

    /// How answers are sealed.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &self.shared.options.secret
    }

    /// Is a write not sent before Redis knows of it, and no answer given without asking it?
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.shared.options.consistency == Consistency::Strict
    }

    /// Are answers shared, or only their versions?
    #[must_use]
    pub fn shares_answers(&self) -> bool {
        self.shared.options.answers
    }

    /// What is promised.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        self.shared.options.consistency
    }

    /// How it stands.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let line = &self.shared.line;
        line.counts.numbers(line.is_away(), self.shared.own.len())
    }
}

/// More cells than a mark may have are everything.
fn bounded(cells: &[Cell]) -> Marked {
    if cells.len() > CELLS_MAX {
        smallvec![Cell::EVERYTHING]
    } else {
        SmallVec::from_slice(cells)
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A mark's name in the deployment.
    fn mark_name(&self, id: MarkId) -> String {
        format!("{}.{id:x}", self.line.sender())
    }

    /// Tells Redis of a mark.
    async fn tell(&self, id: MarkId, digest: u128, cells: &[Cell]) -> Outcome {
        let mut args = vec![self.mark_name(id), told(cells)];
        args.extend(places_text(cells));
        let sent = Instant::now();
        let mark = &self.line.scripts.mark;
        match self.line.script(mark, Some(digest), &args).await {
            Ok(answer) => {
                self.note(&answer.life);
                Outcome::Told(sent)
            }
            Err(Away::NotAsked) => Outcome::NotAsked,
            Err(Away::Perhaps) => Outcome::Perhaps,
        }
    }

    /// Every answer says in which state of Redis it was given. In another one, nothing is known of our marks.
    fn note(&self, life: &str) {
        let mut known = self.known();
        if known.life == life {
            return;
        }
        life.clone_into(&mut known.life);
        known.is_told = false;
        known.disagrees = None;
        drop(known);
        self.own.all_lapsed();
        self.work.notify_one();
    }

    /// Fields of the state and tokens of places; `None` in a cluster, where it is not known who would answer.
    async fn read(&self, live: &Live, places: &[u32]) -> RedisResult<Option<Read>> {
        let Some(process) = &live.process else {
            return Ok(None);
        };
        let mut command = redis::cmd("HMGET");
        command
            .arg(self.line.versions())
            .arg(&["life", "born", "digest"])
            .arg(places);
        let mut fields: Vec<Option<String>> =
            command.query_async(&mut live.connection.clone()).await?;
        if fields.len() != places.len() + 3 {
            return Ok(None);
        }
        let tokens = fields.split_off(3);
        let mut fields = fields.into_iter();
        let (Some(Some(life)), Some(Some(born)), Some(Some(digest))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Ok(None);
        };
        // The state of another process, which a replica had and has not been asked about yet.
        if life != *process {
            return Ok(None);
        }
        Ok(Some(Read {
            life: format!("{life}@{born}"),
            digest,
            tokens,
        }))
    }

    /// The tokens of these places. Reading them is enough when all is well; the script says what is not, and gives tokens to
    /// cells that have none.
    async fn tokens(
        &self,
        live: &Live,
        digest: u128,
        places: &[u32],
    ) -> RedisResult<Result<Tokens, Why>> {
        if let Some(read) = self.read(live, places).await? {
            let settled = self.settled.load();
            let good = settled.as_deref() == Some(&read.life) && read.digest == digest_text(digest);
            if good && let Some(tokens) = tokens_of(&read.life, digest, places, &read.tokens) {
                return Ok(Ok(tokens));
            }
        }
        let answer = self.ask_tokens(live, digest, places).await?;
        Ok(match answer.word.as_str() {
            "clean" => {
                let values: Vec<Option<String>> = answer.rest.into_iter().map(Some).collect();
                match tokens_of(&answer.life, digest, places, &values) {
                    Some(tokens) => {
                        self.settled.store(Some(Arc::new(answer.life)));
                        Ok(tokens)
                    }
                    None => Err(Why::Away),
                }
            }
            "marked" => Err(Why::Marked),
            "unsettled" => Err(Why::Unsettled),
            "other" => Err(Why::OtherTopology),
            _ => Err(Why::Away),
        })
    }

    async fn ask_tokens(&self, live: &Live, digest: u128, places: &[u32]) -> RedisResult<Answer> {
        let args: Vec<String> = places.iter().map(u32::to_string).collect();
        let look = &self.line.scripts.look;
        let mut connection = live.connection.clone();
        let answer = self
            .line
            .invoke(&mut connection, look, Some(digest), &args)
            .await?;
        self.note(&answer.life);
        Ok(answer)
    }

    /// Whoever has tokens got them from a settled state, so reading it again is enough.
    async fn hold(&self, live: &Live, tokens: &Tokens) -> RedisResult<bool> {
        let places: Vec<u32> = tokens.places().collect();
        let digest = tokens.digest();
        if live.process.is_none() {
            let now = self.tokens(live, digest, &places).await?;
            return Ok(now.as_ref() == Ok(tokens));
        }
        let read = self.read(live, &places).await?;
        Ok(read.is_some_and(|read| {
            read.life == tokens.life()
                && read.digest == digest_text(digest)
                && tokens_of(&read.life, digest, &places, &read.tokens).as_ref() == Some(tokens)
        }))
    }

    async fn entry(&self, live: &Live, key: Option<String>) -> RedisResult<Option<Bytes>> {
        let Some(key) = key else {
            return Ok(None);
        };
        Counts::one(&self.line.counts.gets);
        let found: Option<Vec<u8>> = redis::cmd("GET")
            .arg(key)
            .query_async(&mut live.connection.clone())
            .await?;
        if found.is_some() {
            Counts::one(&self.line.counts.found);
        }
        Ok(found.map(Bytes::from))
    }
}

/// The state as it was read.
struct Read {
    life: String,
    digest: String,
    tokens: Vec<Option<String>>,
}

/// `None` when one is none.
fn tokens_of(
    life: &str,
    digest: u128,
    places: &[u32],
    values: &[Option<String>],
) -> Option<Tokens> {
    let tokens: SmallVec<[u64; 8]> = values
        .iter()
        .map(|value| token(value.as_deref()?))
        .collect::<Option<_>>()?;
    let all = tokens.len() == places.len() && places.first() == Some(&EVERYTHING);
    all.then(|| Tokens::of(life, digest, places.iter().copied().zip(tokens)))
}

/// Cells by their places in a Keyway's table, as the channel has them.
fn told(cells: &[Cell]) -> String {
    let mut text = String::new();
    for cell in cells {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{}", cell.index());
    }
    text
}

/// Cells by their places in Redis.
fn places_text(cells: &[Cell]) -> impl Iterator<Item = String> + use<> {
    folded(cells.iter().copied())
        .into_iter()
        .map(|place| place.to_string())
}

/// What a handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// A write that changes nothing.
    Nothing,
    /// A mark that is being told.
    Telling(MarkId),
    /// A mark whose write was not sent.
    Unsent(MarkId),
    /// A mark whose write may be on its way.
    Sent(MarkId),
    /// One mark too many: its end changes everything.
    TooMany,
}

/// What a write may change, on all Keyways. Kept until it is known to be through; dropping tells Redis so, until it is
/// heard or the mark has expired.
pub struct RemoteMarks {
    shared: Arc<Shared>,
    holds: Holds,
    until: Until,
}

impl fmt::Debug for RemoteMarks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteMarks").field(&self.holds).finish()
    }
}

impl RemoteMarks {
    fn none(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            holds: Holds::Nothing,
            until: Until::default(),
        }
    }

    /// Does Redis certainly still know of it? Not once a lease is over in which it could not be renewed: then others may
    /// keep answers that this write makes void.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        let now = self.shared.own.clock(Instant::now());
        self.holds == Holds::Nothing || now < self.until.load(Ordering::Acquire)
    }

    /// The write is through; waits this long for Redis to know it.
    ///
    /// Cancel safe: Redis is told anyway.
    ///
    /// # Errors
    /// When it has not said so in time. It is told as if this had been dropped.
    pub async fn settle(mut self, patience: Duration) -> Result<(), NotTold> {
        let (heard, hears) = oneshot::channel();
        match std::mem::replace(&mut self.holds, Holds::Nothing) {
            Holds::Nothing => return Ok(()),
            Holds::Sent(id) => {
                self.shared
                    .own
                    .over(id, Wrote::Yes, Instant::now(), Some(heard));
            }
            // Nobody gets a handle of such a mark.
            Holds::Unsent(_) | Holds::Telling(_) => return Err(NotTold),
            Holds::TooMany => {
                self.shared.own.changed([Cell::EVERYTHING]);
                self.shared.work.notify_one();
                return Err(NotTold);
            }
        }
        self.shared.work.notify_one();
        match timeout(patience, hears).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotTold),
        }
    }
}

impl Held for RemoteMarks {
    fn is_sure(&self) -> bool {
        self.is_sure()
    }
}

impl Drop for RemoteMarks {
    fn drop(&mut self) {
        let (own, now) = (&self.shared.own, Instant::now());
        match self.holds {
            Holds::Nothing => return,
            Holds::Telling(id) => {
                own.marked(id, Outcome::Perhaps);
                own.over(id, Wrote::Never, now, None);
            }
            Holds::Unsent(id) => own.over(id, Wrote::Never, now, None),
            Holds::Sent(id) => own.over(id, Wrote::Yes, now, None),
            Holds::TooMany => own.changed([Cell::EVERYTHING]),
        }
        self.shared.work.notify_one();
    }
}
