//! One shard's task: connect, begin a stream, take in what is told, and begin again when it breaks.

use crate::backend::connect::{Role, ServerAddress};
use crate::cache::results::cells::{Cell, Marks};
use crate::follow::commits::{Commits, Heard, Snapshot};
use crate::follow::line::{FollowError, Line, Piece, Row};
use crate::follow::refusal::{PUBLICATION, explained, prepare};
use crate::follow::{How, News, Numbers};
use crate::wire::replication::{Lsn, Said, Streamed, read_said, read_streamed, status_update};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// How long a change may be on its way before nothing of its shard is given any more.
const LAG_MAX: Duration = Duration::from_secs(10);

/// How much of the log may be on its way, in bytes.
const LAG_BYTES_MAX: u64 = 64 << 20;

/// How often the shard is asked how far its log has come, and told how far this Keyway has.
const EVERY: Duration = Duration::from_secs(1);

/// The least and the most time between two looks whether a commit is seen by everybody.
const SOON: Duration = Duration::from_millis(1);
const LATER: Duration = Duration::from_millis(100);

/// How long a question may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Places of the log that are waited for at once.
const PLACES_MAX: usize = 64;

/// The least and the most time to the next try to connect.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// The time to the next try when somebody must do something first.
const REFUSED_AGAIN: Duration = Duration::from_secs(3);

/// For both connections: no timeout of the role's own ends a wait, and names mean PostgreSQL's.
const OPTIONS: (&str, &str) = ("options", "-c search_path= -c statement_timeout=0");

/// The number of a transaction that begins now.
const FENCE: &str = "SELECT pg_catalog.pg_current_xact_id()::text";

/// What is over, how far the log has come, and whether the publication still tells everything. What is committed with
/// `synchronous_commit = off` is in the log, and told, a moment after it is seen.
const PROBE: &str =
    "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_flush_lsn()::text,
  EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'keyway_cache'
          AND puballtables AND pubinsert AND pubupdate AND pubdelete AND pubtruncate)";

/// Seconds from the Unix epoch to PostgreSQL's.
const EPOCH: u64 = 946_684_800;

/// The task's own.
pub(super) struct Follower {
    pub(super) address: ServerAddress,
    /// The shard's own login.
    pub(super) role: Role,
    pub(super) stable_id: u16,
    pub(super) how: How,
    pub(super) numbers: Arc<Numbers>,
    pub(super) news: watch::Receiver<Arc<News>>,
}

/// What the shard answered to [`PROBE`].
struct Probe {
    snapshot: Snapshot,
    /// How far its log had come.
    end: Lsn,
    /// When it was asked.
    asked: Instant,
}

/// A question on its way, and the connection that it is asked on.
type Asking = Pin<Box<dyn Future<Output = (Line, Result<Probe, FollowError>)> + Send>>;

/// A stream of changes and what has been heard.
struct Streaming {
    commits: Commits,
    /// Everything up to here has been heard.
    heard: Lsn,
    /// Places of the log that have not been heard of yet, and when they were asked for.
    places: VecDeque<(Lsn, Instant)>,
    /// What has been committed up to then has been heard.
    current: Option<Instant>,
    /// How far the log has come, as far as is known.
    end: Lsn,
    /// Until all transactions up to this one are over, there may be commits from before the stream that some do not see yet.
    fence: Option<u64>,
    /// The shard waits for a status update.
    is_asked: bool,
}

/// Follows one shard, for ever. `marks` are the shard's, from before its first statement.
pub(super) async fn follow(mut follower: Follower, marks: Marks) {
    let mut out_of_step = Some(marks);
    let mut wait = AGAIN_MIN;
    let mut said = String::new();
    loop {
        let mut streaming = None;
        let attempt = Box::pin(follower.attempt(&mut streaming, &mut out_of_step));
        let Err(error) = attempt.await;
        // Before what it waits for is dropped.
        let was_in_step = out_of_step.is_none();
        out_of_step.get_or_insert_with(|| follower.mark());
        drop(streaming);
        let numbers = &follower.numbers;
        numbers.connected.store(false, Ordering::Relaxed);
        numbers.in_step.store(false, Ordering::Relaxed);
        let words = in_words(&error);
        numbers.say(&words);
        let shard = &follower.address.shard;
        if said == words && !was_in_step {
            tracing::debug!(shard, error = words, "its changes are not heard");
        } else {
            tracing::warn!(
                shard,
                error = words,
                "its changes are not heard: nothing of it is kept"
            );
        }
        said = words;
        if was_in_step {
            wait = AGAIN_MIN;
        }
        tokio::time::sleep(if error.is_refusal() {
            REFUSED_AGAIN
        } else {
            wait
        })
        .await;
        wait = (wait * 2).min(AGAIN_MAX);
        numbers.reconnects.fetch_add(1, Ordering::Relaxed);
    }
}

/// An error with its causes.
fn in_words(error: &FollowError) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

impl Follower {
    fn mark(&self) -> Marks {
        self.how.board.mark([Cell::of_shard(self.stable_id)])
    }

    /// One connection's life. Out of step when it begins; it may be in step when it ends.
    async fn attempt(
        &mut self,
        streaming: &mut Option<Streaming>,
        out_of_step: &mut Option<Marks>,
    ) -> Result<Infallible, FollowError> {
        // Named as the control plane's other connections.
        let named = ("application_name", "keyway control");
        let mut asking = Line::open(self, &[named, OPTIONS]).await?;
        patiently(prepare(&mut asking)).await?;
        let named = ("application_name", "keyway follow");
        let replication = ("replication", "database");
        let opened = Line::open(self, &[named, replication, OPTIONS]).await;
        let mut line = opened.map_err(|error| explained(error, &self.role.user))?;
        let slot = format!(
            "keyway_cache_{:016x}",
            getrandom::u64().map_err(FollowError::Random)?
        );
        self.numbers.say("waiting for transactions that run there");
        // It is gone with its connection: what happens meanwhile is made good by the marks.
        let create =
            format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        let created = line.rows(&create).await;
        let created = created.map_err(|error| explained(error, &self.role.user))?;
        let begin = created.first().and_then(|row| row.get(1)?.as_deref());
        let begin = begin
            .and_then(Lsn::parse)
            .ok_or(FollowError::Answer("CREATE_REPLICATION_SLOT"))?;
        line.begin(&format!(
            "START_REPLICATION SLOT {slot} LOGICAL {begin} (proto_version '1', publication_names '{PUBLICATION}')"
        ))
        .await?;
        // Whatever is committed from here on is told. What was before may not be seen by everybody yet.
        let fence = patiently(asking.rows(FENCE)).await?;
        let fence = fence.first().and_then(|row| row.first()?.as_deref());
        let fence = fence.and_then(|text| text.parse().ok());
        let families = Arc::clone(&self.news.borrow().families);
        let streaming = streaming.insert(Streaming {
            commits: Commits::new(self.stable_id, self.how.board.clone(), families),
            heard: begin,
            places: VecDeque::new(),
            current: None,
            end: begin,
            fence: Some(fence.ok_or(FollowError::Answer("pg_current_xact_id()"))?),
            is_asked: false,
        });
        self.numbers.connected.store(true, Ordering::Relaxed);
        self.stream(line, asking, streaming, out_of_step).await
    }

    /// Takes in the stream.
    async fn stream(
        &mut self,
        mut line: Line,
        asking: Line,
        streaming: &mut Streaming,
        out_of_step: &mut Option<Marks>,
    ) -> Result<Infallible, FollowError> {
        let mut every = tokio::time::interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = Some(asking);
        let mut probe: Option<Asking> = None;
        let mut is_due = true;
        let mut pace = SOON;
        let mut look_at = Instant::now();
        self.adopt(streaming);
        loop {
            self.stand(streaming, out_of_step);
            let has_to_look = streaming.commits.are_waiting() || streaming.fence.is_some();
            if (is_due || has_to_look && Instant::now() >= look_at)
                && let Some(asking) = idle.take()
            {
                is_due = false;
                probe = Some(Box::pin(ask(asking)));
            }
            tokio::select! {
                arrived = line.arrive() => {
                    arrived?;
                    let changes = hear_all(&mut line, streaming)?;
                    if changes > 0 {
                        self.numbers.changes.fetch_add(changes, Ordering::Relaxed);
                        pace = SOON;
                        look_at = Instant::now();
                    }
                    if std::mem::take(&mut streaming.is_asked) {
                        tell(&mut line, streaming, false).await?;
                    }
                }
                (asking, found) = async { match &mut probe {
                    Some(probe) => probe.await,
                    None => std::future::pending().await,
                } } => {
                    probe = None;
                    idle = Some(asking);
                    let found = found?;
                    streaming.settle(&found);
                    look_at = Instant::now() + pace;
                    pace = (pace * 2).min(LATER);
                    // Whether that place of the log has been reached is seen by its answer.
                    if streaming.heard < streaming.end {
                        tell(&mut line, streaming, true).await?;
                    }
                }
                _ = every.tick() => {
                    is_due = true;
                    tell(&mut line, streaming, false).await?;
                }
                () = tokio::time::sleep_until(look_at), if has_to_look && idle.is_some() => {}
                changed = self.news.changed() => {
                    // Nobody tells any more when the task is about to be ended.
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    self.adopt(streaming);
                }
            }
        }
    }

    /// Goes by the last snapshot.
    fn adopt(&mut self, streaming: &mut Streaming) {
        let news = Arc::clone(&self.news.borrow_and_update());
        streaming.commits.adopt(Arc::clone(&news.families));
        let mut bridge = news.bridge.lock().unwrap_or_else(PoisonError::into_inner);
        *bridge = None;
    }

    /// In step or not?
    fn stand(&self, streaming: &Streaming, out_of_step: &mut Option<Marks>) {
        let lag = streaming.current.map(|current| current.elapsed());
        let bytes = streaming.end.0.saturating_sub(streaming.heard.0);
        let numbers = &self.numbers;
        let ms = lag.map_or(0, |lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        numbers.lag_ms.store(ms, Ordering::Relaxed);
        numbers.lag_bytes.store(bytes, Ordering::Relaxed);
        // Well within the bounds before it is trusted again.
        let share = if out_of_step.is_some() { 2 } else { 1 };
        let is_current = lag.is_some_and(|lag| lag <= LAG_MAX / share)
            && bytes <= LAG_BYTES_MAX / u64::from(share);
        let shard = &self.address.shard;
        if is_current && streaming.fence.is_none() {
            if out_of_step.take().is_some() {
                numbers.in_step.store(true, Ordering::Relaxed);
                numbers.say("in step");
                tracing::info!(shard, "its changes are heard");
            }
        } else if out_of_step.is_none() {
            *out_of_step = Some(self.mark());
            numbers.in_step.store(false, Ordering::Relaxed);
            numbers.say("its changes arrive too late");
            tracing::warn!(
                shard,
                ms,
                bytes,
                "its changes arrive too late: nothing of it is kept"
            );
        }
    }
}

impl Streaming {
    fn reach(&mut self, place: Lsn) {
        self.heard = self.heard.max(place);
        while let Some((place, asked)) = self.places.front()
            && *place <= self.heard
        {
            self.current = Some(*asked);
            self.places.pop_front();
        }
    }

    fn settle(&mut self, probe: &Probe) {
        self.commits.settle(&probe.snapshot);
        if self.fence.is_some_and(|xid| probe.snapshot.is_beyond(xid)) {
            self.fence = None;
        }
        self.end = self.end.max(probe.end);
        if self.places.len() < PLACES_MAX {
            self.places.push_back((probe.end, probe.asked));
        }
        self.reach(self.heard);
    }

    /// Takes in one piece of the stream. Says whether it was a transaction that changed something.
    fn hear(&mut self, piece: &[u8]) -> Result<Heard, FollowError> {
        match read_streamed(piece)? {
            Streamed::KeepAlive { end, asks } => {
                self.is_asked |= asks;
                self.reach(end);
                Ok(Heard::Nothing)
            }
            Streamed::Said(message) => {
                let said = read_said(message)?;
                let heard = self.commits.hear(&said)?;
                if let Said::Commit { end } = said {
                    self.reach(end);
                }
                Ok(heard)
            }
        }
    }
}

/// Takes in all that has arrived whole; returns how many transactions changed something.
fn hear_all(line: &mut Line, streaming: &mut Streaming) -> Result<u64, FollowError> {
    let mut changes = 0;
    loop {
        let heard = line.hear(|piece| match piece {
            Piece::Data(data) => streaming.hear(data).map(Some),
            Piece::Nothing => Ok(None),
        })?;
        match heard {
            Some(Heard::Change) => changes += 1,
            Some(Heard::Nothing) => {}
            None => return Ok(changes),
        }
    }
}

/// Tells the shard how far this Keyway has come. `asks` how far the shard has.
async fn tell(line: &mut Line, streaming: &Streaming, asks: bool) -> Result<(), FollowError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let clock = now.saturating_sub(Duration::from_secs(EPOCH)).as_micros();
    let clock = i64::try_from(clock).unwrap_or(i64::MAX);
    line.send(|out| status_update(out, streaming.heard, clock, asks))
        .await
}

/// Asks [`PROBE`], and gives the connection back.
async fn ask(mut line: Line) -> (Line, Result<Probe, FollowError>) {
    let asked = Instant::now();
    let answer = patiently(line.rows(PROBE)).await;
    let probe = answer.and_then(|rows| read_probe(&rows, asked));
    (line, probe)
}

fn read_probe(rows: &[Row], asked: Instant) -> Result<Probe, FollowError> {
    let column = |at: usize| rows.first()?.get(at)?.as_deref();
    if column(2) == Some("f") {
        return Err(FollowError::Unpublished);
    }
    let probe = column(0)
        .and_then(Snapshot::parse)
        .zip(column(1).and_then(Lsn::parse));
    let (snapshot, end) = probe.ok_or(FollowError::Answer("a question"))?;
    Ok(Probe {
        snapshot,
        end,
        asked,
    })
}

/// For what is answered at once.
async fn patiently<T>(
    asking: impl Future<Output = Result<T, FollowError>>,
) -> Result<T, FollowError> {
    tokio::time::timeout(ANSWER_MAX, asking)
        .await
        .unwrap_or(Err(FollowError::Silent(ANSWER_MAX)))
}
