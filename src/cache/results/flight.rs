//! One asks for all: of several sessions that miss the same answer at once, the first asks a shard, and the others wait
//! for what it keeps. They wait for one flight, once, and only while it may be worth it: not for one that has lasted
//! longer than anybody is to wait (its client may not read what it is told), and not for an answer that was too large to
//! keep the last time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Parts of the table, each with a lock of its own.
const PARTS: usize = 64;

/// Questions that are remembered as asked in vain.
const IN_VAIN: usize = 1 << 12;

/// Answers that are being asked for, by the hashes of their questions. Two questions may share a hash; the one then waits
/// for the other in vain, and asks for itself.
#[derive(Debug)]
pub struct Flights {
    parts: Box<[Mutex<Part>]>,
    /// Hashes of questions whose answers were too large; 0 is none.
    in_vain: Box<[AtomicU64]>,
}

type Part = HashMap<u64, Flying>;

/// An answer on its way.
#[derive(Debug)]
struct Flying {
    since: Instant,
    /// Who waits for it, once somebody does.
    waiting: Option<watch::Sender<()>>,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            in_vain: (0..IN_VAIN).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

/// One who asks. Dropped, whatever came of it, it lets those who wait for it go on.
#[derive(Debug)]
pub struct Flight {
    flights: Arc<Flights>,
    hash: u64,
    awaited: bool,
}

/// What is to be done about a missing answer.
#[derive(Debug)]
pub enum Boarding {
    /// Ask for it.
    First(Flight),
    /// Somebody does: wait until this says so, or has gone.
    Later(watch::Receiver<()>),
}

impl Flights {
    fn part(&self, hash: u64) -> &Mutex<Part> {
        // The low bits choose a place within the part.
        &self.parts[(hash >> 32) as usize % PARTS]
    }

    /// Asks for an answer, or for a wait until it is there. Nobody waits for one that has been on its way for `patience`.
    #[must_use]
    pub fn board(self: &Arc<Self>, hash: u64, patience: Duration) -> Boarding {
        if self.is_in_vain(hash) {
            return Boarding::First(self.alone(hash));
        }
        let mut part = self
            .part(hash)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match part.get_mut(&hash) {
            Some(flying) if flying.since.elapsed() < patience => {
                let sender = flying.waiting.get_or_insert_with(|| watch::channel(()).0);
                Boarding::Later(sender.subscribe())
            }
            Some(_) => Boarding::First(self.alone(hash)),
            None => {
                let flying = Flying {
                    since: Instant::now(),
                    waiting: None,
                };
                part.insert(hash, flying);
                Boarding::First(Flight {
                    flights: Arc::clone(self),
                    hash,
                    awaited: true,
                })
            }
        }
    }

    /// Asks for an answer that nobody is to wait for.
    #[must_use]
    pub fn alone(self: &Arc<Self>, hash: u64) -> Flight {
        Flight {
            flights: Arc::clone(self),
            hash,
            awaited: false,
        }
    }

    /// Does somebody ask for it who is to be waited for?
    #[must_use]
    pub fn is_awaited(&self, hash: u64, patience: Duration) -> bool {
        if self.is_in_vain(hash) {
            return false;
        }
        let part = self.part(hash).lock();
        part.unwrap_or_else(PoisonError::into_inner)
            .get(&hash)
            .is_some_and(|flying| flying.since.elapsed() < patience)
    }

    fn is_in_vain(&self, hash: u64) -> bool {
        self.place(hash).load(Ordering::Relaxed) == hash
    }

    fn place(&self, hash: u64) -> &AtomicU64 {
        &self.in_vain[usize::try_from(hash % IN_VAIN as u64).unwrap_or(0)]
    }
}

impl Flight {
    /// The answer was too large to be kept. The next one will be too, so nobody is to wait for it.
    pub fn was_in_vain(&self) {
        self.flights
            .place(self.hash)
            .store(self.hash, Ordering::Relaxed);
    }

    /// The answer has been kept.
    pub fn has_arrived(&self) {
        let place = self.flights.place(self.hash);
        if place.load(Ordering::Relaxed) == self.hash {
            place.store(0, Ordering::Relaxed);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.awaited {
            return;
        }
        let mut part = self
            .flights
            .part(self.hash)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The sender goes with the entry, and its receivers hear of that.
        part.remove(&self.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn first(flights: &Arc<Flights>, hash: u64) -> Flight {
        match flights.board(hash, PATIENCE) {
            Boarding::First(flight) => flight,
            Boarding::Later(_) => panic!("somebody asks already"),
        }
    }

    #[tokio::test]
    async fn the_first_asks_and_the_others_hear_when_it_is_done() {
        let flights = Arc::new(Flights::default());
        let asks = first(&flights, 7);
        let Boarding::Later(mut waiting) = flights.board(7, PATIENCE) else {
            panic!("somebody asks already");
        };
        drop(first(&flights, 8));
        assert!(flights.is_awaited(7, PATIENCE));
        assert!(!flights.is_awaited(8, PATIENCE), "it has been dropped");
        drop(asks);
        assert!(waiting.changed().await.is_err());
        drop(first(&flights, 7));
    }

    #[test]
    fn nobody_waits_for_one_who_has_asked_for_too_long() {
        let flights = Arc::new(Flights::default());
        let slow = first(&flights, 7);
        assert!(flights.is_awaited(7, PATIENCE));
        // No time is long enough for whoever has none.
        assert!(!flights.is_awaited(7, Duration::ZERO));
        let Boarding::First(hurries) = flights.board(7, Duration::ZERO) else {
            panic!("it does not wait");
        };
        drop(hurries);
        assert!(flights.is_awaited(7, PATIENCE), "the slow one still asks");
        drop(slow);
        assert!(!flights.is_awaited(7, PATIENCE));
    }

    #[test]
    fn nobody_waits_for_what_was_too_large_until_it_is_kept() {
        let flights = Arc::new(Flights::default());
        first(&flights, 7).was_in_vain();
        let (one, other) = (first(&flights, 7), first(&flights, 7));
        assert!(!flights.is_awaited(7, PATIENCE));
        one.has_arrived();
        drop((one, other));
        let asks = first(&flights, 7);
        assert!(flights.is_awaited(7, PATIENCE));
        drop(asks);
    }
}
