//! Anything may happen in any order: what was captured before a mark never holds behind it, and nothing is captured while
//! a mark is there.

use super::{DIGEST, Keyway, Server, options, start, tokens, until};
use crate::cache::remote::{Consistency, RemoteMarks, Tokens};
use crate::cache::results::cells::Cell;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Clone)]
enum Step {
    /// A write of one of the Keyways begins.
    Mark(usize, Vec<Cell>),
    /// One of those on their way is over.
    Over(prop::sample::Index),
    /// A Keyway dies with a write on its way.
    Die(Vec<Cell>),
    Look(usize, Vec<Cell>),
    Change(usize, Vec<Cell>),
    Empty,
    Cut,
    Restart,
}

fn cells() -> impl Strategy<Value = Vec<Cell>> {
    // The last two share a place in Redis.
    let places = [0, 9, 600, 5_000, 6_000, 6_000 + (1 << 17) - 1_024];
    let cell = prop::sample::select(places.to_vec()).prop_filter_map("in the table", Cell::at);
    prop::collection::vec(cell, 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2_usize, cells()).prop_map(|(who, cells)| Step::Mark(who, cells)),
        9 => any::<prop::sample::Index>().prop_map(Step::Over),
        1 => cells().prop_map(Step::Die),
        16 => (0..2_usize, cells()).prop_map(|(who, cells)| Step::Look(who, cells)),
        2 => (0..2_usize, cells()).prop_map(|(who, cells)| Step::Change(who, cells)),
        1 => Just(Step::Empty),
        1 => Just(Step::Cut),
        1 => Just(Step::Restart),
    ]
}

/// Tokens that were captured, and whether something of theirs has changed since.
struct Captured {
    tokens: Tokens,
    cells: Vec<Cell>,
    is_void: bool,
}

struct Model {
    server: Server,
    keyways: [Keyway; 2],
    marks: Vec<(Vec<Cell>, RemoteMarks)>,
    captured: Vec<Captured>,
}

const LEASE: Duration = Duration::from_millis(300);

fn meet(one: &[Cell], two: &[Cell]) -> bool {
    let fold = |cell: &Cell| match cell.index() {
        place if place < 1_024 => place,
        place => 1_024 + (place - 1_024) % ((1 << 17) - 1_024),
    };
    one.contains(&Cell::EVERYTHING)
        || one
            .iter()
            .any(|cell| two.iter().any(|other| fold(cell) == fold(other)))
}

impl Model {
    fn new() -> Self {
        let server = Server::start();
        let one = || {
            let mut options = options(&server, Consistency::Strict);
            options.lease = LEASE;
            let keyway = start(options);
            keyway.remote.snapshot(DIGEST);
            keyway
        };
        let keyways = [one(), one()];
        Self {
            server,
            keyways,
            marks: Vec::new(),
            captured: Vec::new(),
        }
    }

    fn void(&mut self, cells: &[Cell]) {
        for captured in &mut self.captured {
            captured.is_void |= meet(cells, &captured.cells);
        }
    }

    async fn mark(&mut self, keyway: &Keyway, cells: &[Cell]) -> RemoteMarks {
        let end = Instant::now() + super::DEADLINE;
        loop {
            // After a restart it takes a while.
            if let Ok(marks) = keyway.remote.mark(DIGEST, cells).await {
                self.void(cells);
                return marks;
            }
            assert!(Instant::now() < end, "not told");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Mark(who, cells) => {
                let keyway = self.keyway(who);
                let marks = self.mark(&keyway, &cells).await;
                self.marks.push((cells, marks));
            }
            Step::Over(which) => {
                if !self.marks.is_empty() {
                    let at = which.index(self.marks.len());
                    drop(self.marks.swap_remove(at));
                }
            }
            Step::Die(cells) => {
                let mut options = options(&self.server, Consistency::Strict);
                options.lease = LEASE;
                let keyway = start(options);
                let marks = self.mark(&keyway, &cells).await;
                std::mem::forget(marks);
            }
            Step::Look(who, cells) => {
                let looked = self.keyway(who).remote.look(DIGEST, &cells, None).await;
                let Ok(tokens) = looked.tokens else {
                    return;
                };
                for (marked, marks) in &self.marks {
                    // One that could not be renewed in time on a busy machine may have expired.
                    let is_open = meet(marked, &cells) && marks.is_sure();
                    assert!(!is_open, "captured {cells:?} under a mark on {marked:?}");
                }
                self.captured.push(Captured {
                    tokens,
                    cells,
                    is_void: false,
                });
            }
            Step::Change(who, cells) => {
                self.keyway(who).remote.change(cells.iter().copied());
                let before: Vec<Tokens> = self
                    .captured
                    .iter()
                    .filter(|captured| meet(&cells, &captured.cells))
                    .map(|captured| captured.tokens.clone())
                    .collect();
                // Whoever changes them knows at once, the other when it is told.
                let remote = &self.keyway(1 - who).remote;
                for tokens in &before {
                    until("changed", async || !remote.holds(DIGEST, tokens).await).await;
                }
                self.void(&cells);
            }
            Step::Empty => {
                self.server.empty();
                self.void(&[Cell::EVERYTHING]);
            }
            Step::Cut => self.server.cut(),
            Step::Restart => {
                self.server.restart();
                self.void(&[Cell::EVERYTHING]);
            }
        }
    }

    fn keyway(&self, who: usize) -> Keyway {
        let keyway = &self.keyways[who];
        Keyway {
            remote: keyway.remote.clone(),
            cells: keyway.cells.clone(),
        }
    }

    async fn check(&self) {
        for keyway in &self.keyways {
            for captured in self.captured.iter().filter(|captured| captured.is_void) {
                let holds = keyway.remote.holds(DIGEST, &captured.tokens).await;
                assert!(!holds, "{:?} holds behind a mark", captured.cells);
            }
        }
    }
}

#[test]
fn whatever_happens_nothing_holds_behind_a_mark() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = Config {
        cases: 8,
        // A step waits for a real server.
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = prop::collection::vec(step(), 10..60);
    TestRunner::new(config)
        .run(&steps, |steps| {
            runtime.block_on(async {
                let mut model = Model::new();
                tokens(&model.keyway(0), &[Cell::EVERYTHING]).await;
                for step in steps {
                    model.take(step).await;
                    model.check().await;
                }
                model.marks.clear();
                // Whatever has happened, it comes to rest.
                for who in 0..2 {
                    let keyway = model.keyway(who);
                    let all: Vec<Cell> = [0, 9, 600, 5_000]
                        .into_iter()
                        .filter_map(Cell::at)
                        .collect();
                    let rest = tokens(&keyway, &all).await;
                    until("it holds", async || {
                        keyway.remote.holds(DIGEST, &rest).await
                    })
                    .await;
                }
            });
            Ok(())
        })
        .expect("every case");
}
