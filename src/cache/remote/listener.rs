//! What the other Keyways write, heard on a channel and held as marks on this Keyway's cells.
//!
//! A channel loses what it loses. So a message to oneself is sent with every heartbeat, and one that is overdue says that
//! others' may be lost too. In bounded mode everything is marked then. Whoever comes back subscribes first and asks for all
//! marks then: what changes in between is heard twice and not missed.

use crate::cache::remote::keeper::{Pause, SHORTEST};
use crate::cache::remote::line::digest_text;
use crate::cache::remote::numbers::Counts;
use crate::cache::remote::{Consistency, Options, Shared};
use crate::cache::results::cells::{Cell, Cells, Marks};
use futures_util::StreamExt;
use redis::aio::PubSubStream;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

/// How long subscribing may take.
const SUBSCRIBE: Duration = Duration::from_secs(2);

/// Longer than a mark, by which one is held whose end is not heard of.
const MORE: Duration = Duration::from_secs(1);

/// Marks held one by one. With more, everything is marked.
const HELD_MAX: usize = 100_000;

/// Another Keyway's mark.
struct Held {
    digest: String,
    cells: SmallVec<[Cell; 6]>,
    until: Instant,
    /// Of the cells, and of everything if its digest is not ours.
    marks: Marks,
}

/// What is said on the channel.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// `m <sender> <mark> <lease in ms> <digest> <cells>`
    Marked {
        mark: String,
        lease: Duration,
        digest: String,
        cells: SmallVec<[Cell; 6]>,
    },
    /// `r <sender> <mark> <lease in ms>`
    Renewed { mark: String, lease: Duration },
    /// `u <sender> <mark>`
    Unmarked { mark: String },
    /// `c <sender> <cells>`
    Changed { cells: SmallVec<[Cell; 6]> },
    /// `s <sender> <digest>`
    Snapshot,
    /// `p <sender> <µs of the sender's clock>`
    Probe { at: u64 },
}

/// Who says it and what; `None` for what nobody here understands.
fn understand(message: &str) -> Option<(&str, Said)> {
    let mut words = message.split(' ');
    let mut word = || words.next();
    let (kind, sender) = (word()?, word()?);
    let ms = |word: &str| Some(Duration::from_millis(word.parse().ok()?));
    let said = match kind {
        "m" => Said::Marked {
            mark: word()?.to_owned(),
            lease: ms(word()?)?,
            digest: word()?.to_owned(),
            cells: cells_of(word()?)?,
        },
        "r" => Said::Renewed {
            mark: word()?.to_owned(),
            lease: ms(word()?)?,
        },
        "u" => Said::Unmarked {
            mark: word()?.to_owned(),
        },
        "c" => Said::Changed {
            cells: cells_of(word()?)?,
        },
        "s" => {
            // Ours is judged by ours, and theirs comes with their marks.
            word()?;
            Said::Snapshot
        }
        "p" => Said::Probe {
            at: word()?.parse().ok()?,
        },
        _ => return None,
    };
    words.next().is_none().then_some((sender, said))
}

fn cells_of(list: &str) -> Option<SmallVec<[Cell; 6]>> {
    list.split(',')
        .map(|place| Cell::at(place.parse().ok()?))
        .collect()
}

/// The mark on everything that is held while nothing is heard. In strict mode every answer's tokens are asked for, so
/// nothing depends on hearing.
pub(super) fn out_of_step(options: &Options, cells: &Arc<Cells>) -> Option<Marks> {
    match options.consistency {
        Consistency::Strict => None,
        Consistency::Bounded => Some(cells.mark([Cell::EVERYTHING])),
    }
}

/// Listens for ever. `out` is held until it is in step for the first time.
pub(super) async fn listen(shared: Arc<Shared>, out: Option<Marks>) {
    let mut listener = Listener {
        held: HashMap::new(),
        too_many: None,
        heard: Instant::now(),
        out,
        shared,
    };
    listener.counts().out_of_step.store(true, Ordering::Relaxed);
    let mut pause = Pause::new(&listener.shared.options);
    for node in 0.. {
        let since = Instant::now();
        if let Some(stream) = listener.subscribe(node).await
            && listener.take_over().await
        {
            tracing::info!("other Keyways are heard");
            listener.step_in();
            listener.hear(stream).await;
            listener.step_out();
            tracing::info!("other Keyways are not heard");
            if since.elapsed() > listener.shared.options.pause_max {
                pause.reset();
            }
        }
        listener.forget();
        sleep(pause.next()).await;
    }
}

struct Listener {
    shared: Arc<Shared>,
    held: HashMap<String, Held>,
    /// Instead of marks for which there is no room.
    too_many: Option<(Marks, Instant)>,
    /// When the last message to ourselves that has come was sent.
    heard: Instant,
    /// Everything, while others are not heard.
    out: Option<Marks>,
}

/// Nobody listens any more, however that came about.
impl Drop for Listener {
    fn drop(&mut self) {
        // Before the marks that it held are dropped, and for ever.
        std::mem::forget(out_of_step(&self.shared.options, &self.shared.cells));
    }
}

impl Listener {
    fn counts(&self) -> &Counts {
        &self.shared.line.counts
    }

    async fn subscribe(&self, node: usize) -> Option<PubSubStream> {
        let line = &self.shared.line;
        let client = line.nodes.get(node % line.nodes.len().max(1))?;
        let subscribed = timeout(SUBSCRIBE, async {
            let mut connection = client.get_async_pubsub().await?;
            connection.subscribe(&line.channel).await?;
            redis::RedisResult::Ok(connection.into_on_message())
        })
        .await;
        match subscribed {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "subscribe to redis");
                None
            }
            Err(_) => None,
        }
    }

    /// Holds the marks that there are.
    async fn take_over(&mut self) -> bool {
        let asked = Instant::now();
        let shared = Arc::clone(&self.shared);
        let line = &shared.line;
        let Ok(answer) = line.script(&line.scripts.live, None, &[]).await else {
            return false;
        };
        shared.note(&answer.life);
        for message in &answer.rest {
            self.take(message);
        }
        self.heard = asked;
        true
    }

    fn step_in(&mut self) {
        self.out = None;
        self.counts().out_of_step.store(false, Ordering::Relaxed);
    }

    fn step_out(&mut self) {
        self.out = out_of_step(&self.shared.options, &self.shared.cells);
        self.counts().out_of_step.store(true, Ordering::Relaxed);
    }

    /// Until the connection ends, or we do not hear ourselves.
    async fn hear(&mut self, mut stream: PubSubStream) {
        let heartbeat = self.shared.options.heartbeat;
        let mut looks = interval((heartbeat / 4).max(SHORTEST));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                message = stream.next() => {
                    let Some(message) = message else {
                        return;
                    };
                    self.take(&String::from_utf8_lossy(message.get_payload_bytes()));
                }
                () = shared.judge.notified() => self.judge(),
                _ = looks.tick() => {
                    self.forget();
                    if self.heard.elapsed() > heartbeat * 3 {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, message: &str) {
        let cells = Arc::clone(&self.shared.cells);
        let Some((sender, said)) = understand(message) else {
            // A Keyway that says other things may say what matters.
            cells.change(Cell::EVERYTHING);
            return;
        };
        if sender == self.shared.line.sender() {
            if let Said::Probe { at } = said {
                self.probed(at);
            }
            return;
        }
        match said {
            Said::Probe { .. } => return,
            Said::Marked {
                mark,
                lease,
                digest,
                cells,
            } => self.hold(mark, lease, digest, cells),
            Said::Renewed { mark, lease } => {
                let until = self.until(lease);
                match self.held.get_mut(&mark) {
                    Some(held) => held.until = until,
                    None => self.hold_everything(until),
                }
            }
            Said::Unmarked { mark } => {
                self.held.remove(&mark);
            }
            Said::Changed { cells: changed } => {
                for cell in changed {
                    cells.change(cell);
                }
            }
            Said::Snapshot => cells.change(Cell::EVERYTHING),
        }
        Counts::one(&self.counts().heard);
    }

    fn probed(&mut self, at: u64) {
        let now = Instant::now();
        let took = self.shared.own.clock(now).saturating_sub(at);
        // 0 says that there was none.
        let lag = took.saturating_add(1);
        self.counts().lag.store(lag, Ordering::Relaxed);
        if let Some(sent) = now.checked_sub(Duration::from_micros(took)) {
            self.heard = self.heard.max(sent);
        }
    }

    /// What another Keyway says is believed within reason.
    fn until(&self, lease: Duration) -> Instant {
        Instant::now() + lease.min(self.shared.options.lease * 10) + MORE
    }

    fn hold(&mut self, mark: String, lease: Duration, digest: String, cells: SmallVec<[Cell; 6]>) {
        let until = self.until(lease);
        if self.held.len() >= HELD_MAX && !self.held.contains_key(&mark) {
            self.hold_everything(until);
            return;
        }
        let marks = self.mark(&digest, &cells);
        let held = Held {
            digest,
            cells,
            until,
            marks,
        };
        // The marks that were held by that name, if any, are dropped behind the new ones.
        self.held.insert(mark, held);
    }

    /// A mark that nobody here knows of, and that is renewed, or for which there is no room.
    fn hold_everything(&mut self, until: Instant) {
        let marks = self.shared.cells.mark([Cell::EVERYTHING]);
        let until = self
            .too_many
            .take()
            .map_or(until, |(_, before)| before.max(until));
        self.too_many = Some((marks, until));
    }

    /// Whoever plans by another topology may call our cells by other names.
    fn mark(&self, digest: &str, cells: &[Cell]) -> Marks {
        let ours = self.shared.known().digest.map(digest_text);
        let other = ours.as_deref() != Some(digest);
        let everything = other.then_some(Cell::EVERYTHING);
        self.shared
            .cells
            .mark(cells.iter().copied().chain(everything))
    }

    /// Our topology has changed.
    fn judge(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        for one in held.values_mut() {
            one.marks = self.mark(&one.digest, &one.cells);
        }
        self.held = held;
    }

    /// Drops what has expired, which is a change.
    fn forget(&mut self) {
        let now = Instant::now();
        self.held.retain(|_, held| held.until > now);
        self.too_many.take_if(|(_, until)| *until <= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smallvec::smallvec;

    #[test]
    fn what_is_said_is_understood_or_not() {
        let cell = |place| Cell::at(place).expect("in the table");
        let ms = Duration::from_millis;
        let mark = || "a.1".to_owned();
        let cases = [
            (
                "m s a.1 30000 ff 0,17",
                Some(Said::Marked {
                    mark: mark(),
                    lease: ms(30_000),
                    digest: "ff".to_owned(),
                    cells: smallvec![cell(0), cell(17)],
                }),
            ),
            (
                "r s a.1 5",
                Some(Said::Renewed {
                    mark: mark(),
                    lease: ms(5),
                }),
            ),
            ("u s a.1", Some(Said::Unmarked { mark: mark() })),
            (
                "c s 3",
                Some(Said::Changed {
                    cells: smallvec![cell(3)],
                }),
            ),
            ("s s ff", Some(Said::Snapshot)),
            ("s s", None),
            ("p s 77", Some(Said::Probe { at: 77 })),
            ("p s 77 88", None),
            ("m s a.1 30000 ff 99999999", None),
            ("c s ", None),
            ("x s", None),
            ("", None),
        ];
        for (message, said) in cases {
            let expected = said.map(|said| ("s", said));
            assert_eq!(understand(message), expected, "{message}");
        }
    }
}
