//! Answers that are asked for again when a write has made them void (`on_write = "refresh"`).

use crate::cache::results::store::{Question, Results};
use crate::session::listener::Mail;
use crate::session::worker::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// How often it is looked for what a write has made void.
const LOOK: Duration = Duration::from_millis(50);

/// Asks for what is wanted again until the router stops.
pub(super) async fn refresh(
    shared: Arc<Shared>,
    results: Arc<Results>,
    mut stopped: watch::Receiver<bool>,
) {
    let refreshing = async {
        let mut clock = tokio::time::interval(LOOK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        loop {
            clock.tick().await;
            for question in results.wanted_again(Instant::now()) {
                post(&shared, &mut turn, question);
            }
        }
    };
    tokio::select! {
        () = refreshing => {}
        () = super::router::told(&mut stopped) => {}
    }
}

/// Gives a question to the next worker. One whose mailbox is full loses it: a client will ask.
fn post(shared: &Shared, turn: &mut usize, question: Question) {
    *turn = turn.wrapping_add(1);
    if let Some(mailbox) = shared.mailboxes.get(*turn % shared.mailboxes.len().max(1)) {
        let _ = mailbox.try_send(Mail::Again(Box::new(question)));
    }
}
