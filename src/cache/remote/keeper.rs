//! The thread's tasks that talk: keep a connection, tell what is to be told, renew the marks, put answers.

use crate::cache::remote::line::{Away, Line, digest_text};
use crate::cache::remote::numbers::Counts;
use crate::cache::remote::own::{Job, Outcome, Wrote};
use crate::cache::remote::{Options, Put, Shared, places_text, told};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Things told at once.
const AT_ONCE: usize = 64;

/// Of all that is done again and again.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Waits between attempts: longer each time, each of a random length, so that Keyways do not come all at once.
pub(super) struct Pause {
    next: Duration,
    min: Duration,
    max: Duration,
}

impl Pause {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            next: options.pause_min,
            min: options.pause_min,
            max: options.pause_max,
        }
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }

    /// Between half of it and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let mut random = [0];
        // Without randomness it is half of it.
        let _ = getrandom::fill(&mut random);
        let pause = self.next / 2 + self.next * u32::from(random[0]) / 512;
        self.next = (self.next * 2).min(self.max);
        pause
    }
}

/// Why serving a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Lost,
    Stopped,
}

/// Keeps a connection until the last handle is gone.
pub(super) async fn keep(shared: &Arc<Shared>, mut stop: watch::Receiver<()>) {
    let mut pause = Pause::new(&shared.options);
    let deployment = &shared.options.deployment;
    let mut said = String::new();
    loop {
        let connected = tokio::select! {
            connected = shared.line.connect() => connected,
            // The handle was dropped: it never sends.
            _ = stop.changed() => return,
        };
        match connected {
            Ok(answer) => {
                Counts::one(&shared.line.counts.connections);
                tracing::info!(deployment, "redis is there: versions are shared");
                said.clear();
                // What was not told may have been made void meanwhile.
                shared.note(&answer.life);
                let since = Instant::now();
                let ended = serve(shared, &mut stop).await;
                if ended == Ended::Stopped {
                    return;
                }
                tracing::warn!(deployment, "redis does not answer: versions are not shared");
                // One that comes and goes is waited for ever longer.
                if since.elapsed() > shared.options.pause_max {
                    pause.reset();
                }
            }
            Err(error) if error != said => {
                tracing::warn!(
                    deployment,
                    error,
                    "redis is not there: versions are not shared"
                );
                said = error;
            }
            Err(_) => {}
        }
        // Marks that can be told to nobody come to their end all the same.
        tell_all(shared).await;
        tokio::select! {
            () = sleep(pause.next()) => {}
            _ = stop.changed() => return,
        }
    }
}

async fn serve(shared: &Arc<Shared>, stop: &mut watch::Receiver<()>) -> Ended {
    let mut beats = interval(shared.options.heartbeat.max(SHORTEST));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renews = interval((shared.options.lease / 12).max(SHORTEST));
    renews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sweeps = interval(shared.options.lease.max(SHORTEST));
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if shared.line.is_away() {
            return Ended::Lost;
        }
        tokio::select! {
            () = shared.line.lost.notified() => {}
            () = shared.work.notified() => tell_all(shared).await,
            _ = renews.tick() => renew(shared).await,
            _ = beats.tick() => beat(shared).await,
            _ = sweeps.tick() => sweep(shared).await,
            _ = stop.changed() => {
                tell_all(shared).await;
                return Ended::Stopped;
            }
        }
    }
}

/// Tells all there is to be told. What fails is tried again with the next beat.
async fn tell_all(shared: &Shared) {
    let mut good = tell_snapshot(shared).await;
    // As many as there are now: what fails comes back to the queue.
    let mut left = shared.own.len() * 2 + AT_ONCE;
    while good && left > 0 {
        let jobs = shared.own.jobs(AT_ONCE);
        if jobs.is_empty() {
            break;
        }
        left = left.saturating_sub(jobs.len());
        let all = join_all(jobs.into_iter().map(|job| tell(shared, job))).await;
        good = all.iter().all(|good| *good);
    }
    if !good && shared.line.is_away() {
        // Those that are to be given up.
        for job in shared.own.jobs(usize::MAX) {
            tell(shared, job).await;
        }
        return;
    }
    if let Some(changes) = shared.own.take_changes() {
        let cells: Vec<_> = changes.cells().collect();
        let mut args = vec![told(&cells)];
        args.extend(places_text(&cells));
        let change = &shared.line.scripts.change;
        let answer = shared.line.script(change, None, &args).await;
        shared.own.changes_told(answer.is_ok());
        if let Ok(answer) = answer {
            shared.note(&answer.life);
        }
    }
}

/// Was it told?
async fn tell(shared: &Shared, job: Job) -> bool {
    let is_away = shared.line.is_away();
    match job {
        // There may be many.
        Job::Mark(id, ..) if is_away => {
            shared.own.marked(id, Outcome::NotAsked);
            false
        }
        Job::Unmark(id, ..) if is_away => {
            shared.own.unmarked(id, false, Instant::now());
            false
        }
        Job::Mark(id, digest, cells) => {
            let outcome = shared.tell(id, digest, &cells).await;
            shared.own.marked(id, outcome);
            matches!(outcome, Outcome::Told(_))
        }
        Job::Unmark(id, cells, wrote) => {
            let word = match wrote {
                Wrote::Yes => "over",
                Wrote::Never => "never",
            };
            let mut args = vec![shared.mark_name(id), word.to_owned()];
            args.extend(places_text(&cells));
            let unmark = &shared.line.scripts.unmark;
            let answer = shared.line.script(unmark, None, &args).await;
            shared.own.unmarked(id, answer.is_ok(), Instant::now());
            if let Ok(answer) = &answer {
                shared.note(&answer.life);
            }
            answer.is_ok()
        }
    }
}

async fn tell_snapshot(shared: &Shared) -> bool {
    let digest = {
        let known = shared.known();
        match known.digest {
            Some(digest) if !known.is_told => digest,
            Some(_) | None => return true,
        }
    };
    let snapshot = &shared.line.scripts.snapshot;
    let Ok(answer) = shared.line.script(snapshot, Some(digest), &[]).await else {
        return false;
    };
    shared.note(&answer.life);
    let mut known = shared.known();
    if known.digest == Some(digest) && known.life == answer.life {
        known.is_told = true;
    }
    true
}

async fn renew(shared: &Shared) {
    let due = shared.own.to_renew(Instant::now());
    for some in due.chunks(AT_ONCE) {
        join_all(some.iter().map(|(id, cells)| async move {
            let mut args = vec![shared.mark_name(*id)];
            args.extend(places_text(cells));
            let sent = Instant::now();
            let renew = &shared.line.scripts.renew;
            let Ok(answer) = shared.line.script(renew, None, &args).await else {
                return;
            };
            shared.note(&answer.life);
            if answer.word == "ok" {
                shared.own.renewed(*id, sent);
            } else {
                shared.own.lapsed(*id);
            }
        }))
        .await;
    }
    if shared.own.has_work() {
        tell_all(shared).await;
    }
}

/// Says something to ourselves, and asks how Redis stands.
async fn beat(shared: &Shared) {
    let now = shared.own.clock(Instant::now());
    let probe = format!("p {} {now}", shared.line.sender());
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(&shared.line.channel).arg(probe);
    // A probe that is lost is missed by the listener.
    let (_, state): (Result<i64, Away>, _) =
        tokio::join!(shared.line.command(&publish), shared.line.state(None));
    if let Ok(answer) = state {
        shared.note(&answer.life);
        let agreed = answer.rest.first().map_or("", String::as_str);
        agree(shared, agreed);
    }
    tell_all(shared).await;
}

/// Another Keyway's topology is left alone for a lease: it may be the newer one. But one that nobody has any more must not
/// stay for ever.
fn agree(shared: &Shared, agreed: &str) {
    let mut known = shared.known();
    let Some(digest) = known.digest.filter(|_| known.is_told) else {
        return;
    };
    if agreed == digest_text(digest) {
        known.disagrees = None;
        return;
    }
    let since = *known.disagrees.get_or_insert_with(Instant::now);
    if agreed.is_empty() || since.elapsed() > shared.options.lease {
        known.is_told = false;
        known.disagrees = None;
    }
}

/// Redis forgets what has expired.
async fn sweep(shared: &Shared) {
    let line: &Line = &shared.line;
    if let Ok(answer) = line.script(&line.scripts.live, None, &[]).await {
        shared.note(&answer.life);
    }
}

/// Puts answers, some at once. One that is not taken in time is dropped.
pub(super) async fn put(shared: Arc<Shared>, mut puts: mpsc::Receiver<Put>) {
    let mut some = Vec::new();
    while puts.recv_many(&mut some, AT_ONCE).await > 0 {
        let counts = &shared.line.counts;
        let all = some.drain(..).map(|put| {
            let bytes = put.sealed.len();
            let mut set = redis::cmd("SET");
            let ttl = u64::try_from(put.ttl.as_millis()).unwrap_or(u64::MAX);
            set.arg(put.key).arg(put.sealed);
            // Redis knows 2^63 ms, and nothing below one.
            set.arg("PX").arg(ttl.clamp(1, 1 << 50));
            let shared = &shared;
            async move {
                let done: Result<(), Away> = shared.line.command(&set).await;
                shared.puts_bytes.fetch_sub(bytes, Ordering::AcqRel);
                Counts::one(match done {
                    Ok(()) => &counts.puts,
                    Err(_) => &counts.puts_dropped,
                });
            }
        });
        join_all(all).await;
    }
}
