//! Answers that are asked for without a client: when a write has made void what is wanted again (`on_write = "refresh"`), and
//! when a process starts or answers were dropped (`cache.warmup`, `cache.keep_popular`).

use crate::cache::results::reply::Asked;
use crate::cache::results::store::{Question, Results};
use crate::catalog::Catalog;
use crate::catalog::popular::Popular;
use crate::cli::router::told;
use crate::session::again::{Done, of_no_snapshot, question_of, question_of_warmup};
use crate::session::listener::Mail;
use crate::session::worker::Shared;
use chrono::Utc;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// How often it is looked for what a write has made void.
const LOOK: Duration = Duration::from_millis(50);

/// How often it is looked whether answers were dropped or a schedule is due.
const TURN: Duration = Duration::from_secs(1);

/// How often what is popular is noted.
const NOTE: Duration = Duration::from_secs(60);

/// How long a stop waits for that.
const AT_END: Duration = Duration::from_secs(2);

/// Questions that are asked at once, by worker.
const AT_ONCE: usize = 2;

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
                turn += 1;
                post(&shared, turn, question, None);
            }
        }
    };
    tokio::select! {
        () = refreshing => {}
        () = told(&mut stopped) => {}
    }
}

/// Gives a question to a worker. One whose mailbox is full loses it: a client will ask.
fn post(shared: &Shared, turn: usize, question: Question, done: Option<Done>) {
    if let Some(mailbox) = shared.mailboxes.get(turn % shared.mailboxes.len().max(1)) {
        let _ = mailbox.try_send(Mail::Again(Box::new(question), done));
    }
}

/// Asks what clients are about to ask: at the start, when answers were dropped, and when it is time.
pub(super) async fn warm_up(
    shared: Arc<Shared>,
    results: Arc<Results>,
    catalog: Arc<Catalog>,
    mut stopped: watch::Receiver<bool>,
) {
    let warming = async {
        let mut clock = tokio::time::interval(TURN);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut popular = noted(&shared, &catalog).await;
        run(&shared, &results, listed(&shared), &popular, "start").await;
        let (mut flushes, mut looked) = (results.standing().flushes, Utc::now());
        let mut note = Instant::now() + NOTE;
        loop {
            clock.tick().await;
            let now = Utc::now();
            let dropped = results.standing().flushes;
            if dropped == flushes {
                let due = due(&shared, looked, now);
                if !due.is_empty() {
                    run(&shared, &results, due, &[], "schedule").await;
                }
            } else {
                flushes = dropped;
                run(&shared, &results, listed(&shared), &popular, "flush").await;
            }
            looked = now;
            if Instant::now() >= note {
                note = Instant::now() + NOTE;
                popular = take_note(&shared, &results, &catalog, popular).await;
            }
        }
    };
    tokio::select! {
        () = warming => {}
        () = told(&mut stopped) => {}
    }
}

/// All questions of the configuration.
fn listed(shared: &Shared) -> Vec<Question> {
    let config = shared.config.load();
    let all = config.cache.warmup.values();
    all.map(|warm| question_of_warmup(&config, warm)).collect()
}

/// Those whose time has come since it was looked last.
fn due(
    shared: &Shared,
    looked: chrono::DateTime<Utc>,
    now: chrono::DateTime<Utc>,
) -> Vec<Question> {
    let config = shared.config.load();
    let is_due = |schedule: &String| {
        // The configuration has been checked.
        let next = croner::Cron::from_str(schedule)
            .and_then(|cron| cron.find_next_occurrence(&looked, false));
        next.is_ok_and(|next| next <= now)
    };
    let all = config.cache.warmup.values();
    all.filter(|warm| warm.schedule.as_ref().is_some_and(is_due))
        .map(|warm| question_of_warmup(&config, warm))
        .collect()
}

/// What the catalog has noted.
async fn noted(shared: &Shared, catalog: &Catalog) -> Vec<Question> {
    let max = shared.config.load().cache.keep_popular;
    if max == 0 {
        return Vec::new();
    }
    match catalog.popular(max).await {
        Ok(all) => all
            .into_iter()
            .map(|known| {
                let ttl = Duration::from_millis(u64::try_from(known.ttl).unwrap_or(0));
                question_of(known.asker, &known.question, known.extended, ttl)
            })
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "popular questions could not be read; they are not asked ahead");
            Vec::new()
        }
    }
}

/// Notes what is popular, for the next start.
pub(super) async fn note_at_end(shared: &Shared, catalog: &Catalog) {
    if let Some(results) = &shared.results {
        let noting = take_note(shared, results, catalog, Vec::new());
        if tokio::time::timeout(AT_END, noting).await.is_err() {
            tracing::warn!("popular questions could not be noted within {AT_END:?}");
        }
    }
}

/// Notes what is popular now. Gives what it was before when that is nothing: answers may just have been dropped.
async fn take_note(
    shared: &Shared,
    results: &Results,
    catalog: &Catalog,
    before: Vec<Question>,
) -> Vec<Question> {
    let max = shared.config.load().cache.keep_popular;
    if max == 0 {
        return Vec::new();
    }
    let asked = results.popular(max, Instant::now());
    if asked.is_empty() {
        return before;
    }
    let stored: Vec<Popular> = asked
        .iter()
        .map(|(question, hits)| Popular {
            asker: of_no_snapshot(&question.asker.bytes),
            question: question.key.question().to_vec(),
            extended: question.asked != Asked::Query,
            ttl: i64::try_from(question.ttl.as_millis()).unwrap_or(i64::MAX),
            hits: i64::try_from(*hits).unwrap_or(i64::MAX),
        })
        .collect();
    if let Err(error) = catalog.note_popular(&stored, max).await {
        tracing::warn!(%error, "popular questions could not be noted");
    }
    asked.into_iter().map(|(question, _)| question).collect()
}

/// Asks these, a few at once, and says how far it is.
async fn run(
    shared: &Arc<Shared>,
    results: &Results,
    mut questions: Vec<Question>,
    popular: &[Question],
    why: &'static str,
) {
    let now = Instant::now();
    let missing = popular
        .iter()
        .filter(|known| !results.holds(&known.key, now));
    questions.extend(missing.cloned());
    let all = questions.len();
    if all == 0 {
        return;
    }
    let workers = shared.mailboxes.len().max(1);
    let places = Arc::new(Semaphore::new(AT_ONCE * workers));
    let kept = Arc::new(AtomicUsize::new(0));
    for (number, question) in questions.into_iter().enumerate() {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        if number > 0 && number % 100 == 0 {
            let kept = kept.load(Ordering::Relaxed);
            tracing::info!(
                why,
                "warm-up: {number} of {all} questions, {kept} answers kept"
            );
        }
        post(shared, number, question, Some(done(&kept, place)));
    }
    // All of them, when the last is through.
    let _all = places
        .acquire_many(u32::try_from(AT_ONCE * workers).unwrap_or(1))
        .await;
    let kept = kept.load(Ordering::Relaxed);
    tracing::info!(
        why,
        "warm-up: {all} of {all} questions, {kept} answers kept"
    );
}

/// Lets the next one go when this one is through, or is lost.
fn done(kept: &Arc<AtomicUsize>, place: OwnedSemaphorePermit) -> Done {
    let kept = Arc::clone(kept);
    Done(Box::new(move |is_kept| {
        kept.fetch_add(usize::from(is_kept), Ordering::Relaxed);
        drop(place);
    }))
}
