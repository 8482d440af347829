//! Two Keyways and a real Redis, which is killed, stopped, emptied and brought back.

mod model;
mod server;

use super::*;
use server::Server;
use std::future::Future;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Longer than anything takes that goes well.
const DEADLINE: Duration = Duration::from_secs(30);

const DIGEST: u128 = 7;

/// A Keyway.
struct Keyway {
    remote: Arc<Remote>,
    cells: Arc<Cells>,
}

fn options(server: &Server, consistency: Consistency) -> Options {
    Options {
        lease: Duration::from_secs(1),
        // Tests run on busy machines.
        timeout: Duration::from_secs(2),
        pause_min: Duration::from_millis(20),
        pause_max: Duration::from_millis(200),
        heartbeat: Duration::from_millis(300),
        consistency,
        ..Options::new(vec![server.url()], "test".to_owned(), b"secret".to_vec())
    }
}

fn start(options: Options) -> Keyway {
    let cells = Arc::new(Cells::default());
    let remote = Remote::start(options, Arc::clone(&cells)).expect("good options");
    Keyway { remote, cells }
}

fn keyway(server: &Server, consistency: Consistency) -> Keyway {
    let keyway = start(options(server, consistency));
    keyway.remote.snapshot(DIGEST);
    keyway
}

/// Asks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let end = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Their tokens, once they can be had.
async fn tokens(keyway: &Keyway, cells: &[Cell]) -> Tokens {
    let end = Instant::now() + DEADLINE;
    loop {
        match keyway.remote.look(DIGEST, cells, None).await.tokens {
            Ok(tokens) => return tokens,
            Err(why) => assert!(Instant::now() < end, "{why:?}"),
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

async fn why(keyway: &Keyway, digest: u128, cells: &[Cell]) -> Option<Why> {
    keyway.remote.look(digest, cells, None).await.tokens.err()
}

async fn in_step(keyway: &Keyway) {
    until("in step", async || !keyway.remote.numbers().is_out_of_step).await;
}

fn users() -> Cell {
    Cell::at(70_001).expect("in the table")
}

fn orders() -> Cell {
    Cell::at(900_000).expect("in the table")
}

#[tokio::test]
async fn a_write_is_seen_by_the_other() {
    let server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Strict),
        keyway(&server, Consistency::Strict),
    );
    let before = tokens(&two, &[users()]).await;
    let others = tokens(&two, &[orders()]).await;
    assert_eq!(tokens(&one, &[users()]).await, before, "all see the same");
    assert!(two.remote.holds(DIGEST, &before).await);
    assert!(!two.remote.holds(DIGEST + 1, &before).await);
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    assert!(marks.is_sure());
    assert!(!two.remote.holds(DIGEST, &before).await);
    assert_eq!(why(&two, DIGEST, &[users()]).await, Some(Why::Marked));
    assert!(two.remote.holds(DIGEST, &others).await);
    let second = two.remote.mark(DIGEST, &[users()]).await.expect("told");
    marks.settle(DEADLINE).await.expect("heard");
    assert_eq!(why(&two, DIGEST, &[users()]).await, Some(Why::Marked));
    drop(second);
    let after = tokens(&two, &[users()]).await;
    assert_ne!(after, before);
    assert!(one.remote.holds(DIGEST, &after).await);
    // A change without a write of ours.
    one.remote.change([users()]);
    until("changed", async || !two.remote.holds(DIGEST, &after).await).await;
    assert!(two.remote.holds(DIGEST, &others).await);
    one.remote.change([Cell::EVERYTHING]);
    until("changed", async || !two.remote.holds(DIGEST, &others).await).await;
}

#[tokio::test]
async fn a_mark_is_renewed_as_long_as_its_keyway_lives_and_its_end_by_time_is_a_change() {
    let server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Strict),
        keyway(&server, Consistency::Bounded),
    );
    let before = tokens(&two, &[users()]).await;
    in_step(&two).await;
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    // Three leases long.
    let end = Instant::now() + Duration::from_secs(3);
    until("three leases", async || {
        assert_eq!(why(&two, DIGEST, &[users()]).await, Some(Why::Marked));
        Instant::now() > end
    })
    .await;
    assert!(marks.is_sure());
    assert_eq!(two.cells.look([users()]), None);
    // It dies.
    std::mem::forget(marks);
    drop(one);
    let after = tokens(&two, &[users()]).await;
    assert_ne!(after, before);
    until("let go", async || two.cells.look([users()]).is_some()).await;
}

#[tokio::test]
async fn the_end_of_a_write_whose_mark_has_expired_is_a_change_too() {
    let server = Server::start();
    let lease = Duration::from_secs(3);
    let with = |lease| {
        let keyway = start(Options {
            lease,
            ..options(&server, Consistency::Strict)
        });
        keyway.remote.snapshot(DIGEST);
        keyway
    };
    let (one, two) = (with(lease), with(lease));
    tokens(&two, &[users()]).await;
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    // As if it had not been renewed in time: its lease is over.
    server.age_marks();
    let between = tokens(&two, &[users()]).await;
    let others = tokens(&two, &[orders()]).await;
    assert!(two.remote.holds(DIGEST, &between).await);
    // What was read in between was read before the write took effect.
    marks.settle(DEADLINE).await.expect("told");
    assert!(!two.remote.holds(DIGEST, &between).await);
    // The mark may have been on everything as well.
    assert!(!two.remote.holds(DIGEST, &others).await);
    // Not renewed, it is marked anew.
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    server.age_marks();
    let between = tokens(&two, &[users()]).await;
    until("marked anew", async || {
        why(&two, DIGEST, &[users()]).await == Some(Why::Marked)
    })
    .await;
    drop(marks);
    tokens(&two, &[users()]).await;
    assert!(!two.remote.holds(DIGEST, &between).await);
}

#[tokio::test]
async fn tls_has_what_it_needs() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = nobody.local_addr().expect("an address").port();
    let keyway = start(Options::new(
        vec![format!("rediss://127.0.0.1:{port}")],
        "test".to_owned(),
        Vec::new(),
    ));
    let first = timeout(DEADLINE, async {
        let (mut client, _) = nobody.accept().await.expect("a client");
        client.read_u8().await.expect("a byte")
    });
    let first = first.await.expect("in time");
    assert_eq!(first, 0x16, "a handshake");
    assert!(keyway.remote.numbers().is_away);
}

#[tokio::test]
async fn a_redis_that_lost_all_is_another_one() {
    for how in [Server::empty, Server::restart] {
        let mut server = Server::start();
        let (one, two) = (
            keyway(&server, Consistency::Strict),
            keyway(&server, Consistency::Strict),
        );
        let before = tokens(&two, &[users()]).await;
        let marks = one.remote.mark(DIGEST, &[orders()]).await.expect("told");
        how(&mut server);
        // Never settled before the mark is there again: a lease lies between.
        until("marked anew", async || {
            assert!(!two.remote.holds(DIGEST, &before).await);
            let looked = why(&two, DIGEST, &[orders()]).await;
            assert_ne!(looked, None, "its mark is lost");
            looked == Some(Why::Marked)
        })
        .await;
        let after = tokens(&two, &[users()]).await;
        assert_ne!(after, before);
        drop(marks);
        tokens(&two, &[orders()]).await;
        assert!(!two.remote.holds(DIGEST, &before).await);
    }
}

#[tokio::test]
async fn a_state_that_comes_back_from_disk_is_of_a_life_before() {
    let mut server = Server::start();
    let two = keyway(&server, Consistency::Strict);
    let before = tokens(&two, &[users()]).await;
    server.restart_from_disk();
    until("back", async || {
        assert!(!two.remote.holds(DIGEST, &before).await);
        why(&two, DIGEST, &[users()]).await == Some(Why::Unsettled)
    })
    .await;
    assert_ne!(tokens(&two, &[users()]).await, before);
}

#[tokio::test]
async fn a_server_that_has_become_a_replica_is_not_believed() {
    let (primary, other) = (Server::on_port(), Server::on_port());
    let two = keyway(&primary, Consistency::Strict);
    let late = start(Options {
        // It is not told by the next heartbeat.
        heartbeat: Duration::from_secs(3_600),
        lease: Duration::from_secs(3_600),
        ..options(&other, Consistency::Strict)
    });
    until("connected", async || !late.remote.numbers().is_away).await;
    other.follow(&primary);
    let seen = tokens(&two, &[users()]).await;
    until("the replica has it", async || {
        other.versions() == primary.versions()
    })
    .await;
    assert!(two.remote.holds(DIGEST, &seen).await);
    // It has the tokens, as they were some time ago.
    assert!(!late.remote.holds(DIGEST, &seen).await);
    assert!(late.remote.mark(DIGEST, &[users()]).await.is_err());
    until("given up", async || late.remote.numbers().is_away).await;
}

#[tokio::test]
async fn lost_connections_are_made_again_and_nothing_is_lost() {
    let server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Strict),
        keyway(&server, Consistency::Strict),
    );
    let others = tokens(&two, &[orders()]).await;
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    for _ in 0..3 {
        server.cut();
        until("connected", async || {
            why(&two, DIGEST, &[users()]).await == Some(Why::Marked)
        })
        .await;
    }
    drop(marks);
    tokens(&two, &[users()]).await;
    assert!(two.remote.holds(DIGEST, &others).await);
    assert!(two.remote.numbers().connections > 1);
}

#[tokio::test]
async fn a_redis_that_hangs_costs_no_more_than_the_patience() {
    let server = Server::start();
    let patience = Duration::from_millis(100);
    let keyway = start(Options {
        timeout: patience,
        ..options(&server, Consistency::Strict)
    });
    keyway.remote.snapshot(DIGEST);
    let before = tokens(&keyway, &[users()]).await;
    server.hang();
    until("the breaker is open", async || {
        let asked = Instant::now();
        assert!(!keyway.remote.holds(DIGEST, &before).await);
        assert_eq!(why(&keyway, DIGEST, &[users()]).await, Some(Why::Away));
        assert!(keyway.remote.mark(DIGEST, &[orders()]).await.is_err());
        // Three patiences, and what a busy machine adds.
        assert!(asked.elapsed() < patience * 20);
        keyway.remote.numbers().is_away
    })
    .await;
    let asked = keyway.remote.numbers();
    assert_eq!(why(&keyway, DIGEST, &[users()]).await, Some(Why::Away));
    assert!(keyway.remote.mark(DIGEST, &[orders()]).await.is_err());
    assert_eq!(keyway.remote.numbers().operations, asked.operations);
    assert!(asked.timeouts > 0);
    server.go_on();
    // The marks that were refused are taken back, or expire.
    tokens(&keyway, &[orders()]).await;
    let after = tokens(&keyway, &[users()]).await;
    assert!(keyway.remote.holds(DIGEST, &after).await);
    until("all told", async || keyway.remote.numbers().marks == 0).await;
}

#[tokio::test]
async fn marks_are_heard_by_the_other() {
    let server = Server::start();
    let one = keyway(&server, Consistency::Bounded);
    let early = one.remote.mark_soon(DIGEST, &[orders()]);
    until("told", async || early.is_sure()).await;
    let two = keyway(&server, Consistency::Bounded);
    assert_eq!(two.cells.look([Cell::EVERYTHING]), None, "not yet in step");
    in_step(&two).await;
    until("its digest is known", async || {
        two.cells.look([Cell::EVERYTHING]).is_some()
    })
    .await;
    assert_eq!(two.cells.look([orders()]), None, "taken over");
    let before = two.cells.look([users()]).expect("no write on its way");
    let marks = one.remote.mark_soon(DIGEST, &[users()]);
    until("heard", async || two.cells.look([users()]).is_none()).await;
    assert!(one.cells.look([users()]).is_some(), "its own are its own");
    marks.settle(DEADLINE).await.expect("told");
    until("let go", async || two.cells.look([users()]).is_some()).await;
    assert!(!two.cells.holds(&before));
    assert_eq!(two.cells.look([orders()]), None);
    drop(early);
    until("let go", async || two.cells.look([orders()]).is_some()).await;
    let before = two.cells.look([users()]).expect("no write on its way");
    one.remote.change([users()]);
    until("changed", async || !two.cells.holds(&before)).await;
    until("a lag", async || one.remote.numbers().lag_us.is_some()).await;
    assert!(two.remote.numbers().heard > 0);
}

#[tokio::test]
async fn who_hears_nothing_keeps_nothing() {
    let mut server = Server::start();
    let two = keyway(&server, Consistency::Bounded);
    let strict = keyway(&server, Consistency::Strict);
    in_step(&two).await;
    in_step(&strict).await;
    let everything = || two.cells.look([Cell::EVERYTHING]);
    until("quiet", async || everything().is_some()).await;
    let aside = strict.cells.look([users()]).expect("no write on its way");
    // The channel alone.
    let before = everything().expect("quiet");
    server.cut_channels();
    until("out of step", async || !two.cells.holds(&before)).await;
    until("in step again", async || everything().is_some()).await;
    // Redis altogether, by silence and by its end.
    server.hang();
    until("out of step", async || everything().is_none()).await;
    assert!(two.remote.numbers().is_out_of_step);
    server.go_on();
    until("in step again", async || everything().is_some()).await;
    server.stop();
    until("out of step", async || everything().is_none()).await;
    server.run();
    until("in step again", async || everything().is_some()).await;
    assert!(strict.cells.holds(&aside));
    // Nobody listens for the cells any more.
    let cells = Arc::clone(&two.cells);
    drop(two);
    until("deaf", async || cells.look([Cell::EVERYTHING]).is_none()).await;
}

#[tokio::test]
async fn what_was_written_untold_is_told_later() {
    let mut server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Bounded),
        keyway(&server, Consistency::Bounded),
    );
    let (before, others) = (
        tokens(&two, &[users()]).await,
        tokens(&two, &[orders()]).await,
    );
    server.hang();
    until("away", async || {
        let _ = why(&one, DIGEST, &[users()]).await;
        one.remote.numbers().is_away
    })
    .await;
    let still = one.remote.mark_soon(DIGEST, &[orders()]);
    drop(one.remote.mark_soon(DIGEST, &[users()]));
    assert!(!still.is_sure());
    server.go_on();
    until("told", async || still.is_sure()).await;
    assert!(!two.remote.holds(DIGEST, &others).await);
    until("told", async || !two.remote.holds(DIGEST, &before).await).await;
    server.restart();
    // Never sure of what it does not know.
    until("marked anew", async || {
        why(&two, DIGEST, &[orders()]).await == Some(Why::Marked)
    })
    .await;
    drop(still);
    until("all told", async || one.remote.numbers().marks == 0).await;
}

#[tokio::test]
async fn who_writes_without_waiting_sees_its_own_writes_at_once() {
    let server = Server::start();
    let one = keyway(&server, Consistency::Bounded);
    for round in 0..50 {
        let before = tokens(&one, &[users()]).await;
        let marks = one.remote.mark_soon(DIGEST, &[users()]);
        assert_eq!(why(&one, DIGEST, &[users()]).await, Some(Why::Marked));
        if round % 2 == 0 {
            until("told", async || marks.is_sure()).await;
        }
        drop(marks);
        assert!(!one.remote.holds(DIGEST, &before).await);
        let looked = one.remote.look(DIGEST, &[users()], None).await;
        assert_ne!(looked.tokens, Ok(before));
        one.remote.change([orders()]);
    }
}

#[tokio::test]
async fn more_writes_than_there_is_room_for_change_everything() {
    let server = Server::start();
    let one = start(Options {
        marks_max: 1,
        ..options(&server, Consistency::Bounded)
    });
    one.remote.snapshot(DIGEST);
    let before = tokens(&one, &[orders()]).await;
    let first = one.remote.mark_soon(DIGEST, &[users()]);
    until("told", async || first.is_sure()).await;
    assert!(one.remote.holds(DIGEST, &before).await);
    let second = one.remote.mark_soon(DIGEST, &[users()]);
    assert!(!second.is_sure());
    until("told", async || !one.remote.holds(DIGEST, &before).await).await;
    let before = tokens(&one, &[orders()]).await;
    drop(second);
    until("told", async || !one.remote.holds(DIGEST, &before).await).await;
}

#[tokio::test]
async fn a_mark_that_nobody_waits_for_is_taken_back() {
    let server = Server::start();
    let one = keyway(&server, Consistency::Strict);
    tokens(&one, &[users()]).await;
    let cells = [users()];
    let mut telling = Box::pin(one.remote.mark(DIGEST, &cells));
    // Asked, and not answered.
    tokio::select! {
        biased;
        // It was answered while it was asked: taken back all the same.
        told = &mut telling => assert!(told.is_ok()),
        () = std::future::ready(()) => {}
    }
    drop(telling);
    until("taken back", async || one.remote.numbers().marks == 0).await;
    tokens(&one, &[users()]).await;
}

#[tokio::test]
async fn who_plans_by_another_topology_marks_everything_and_keeps_nothing() {
    let server = Server::start();
    let (one, two) = (
        start(options(&server, Consistency::Bounded)),
        keyway(&server, Consistency::Bounded),
    );
    let before = tokens(&two, &[orders()]).await;
    in_step(&two).await;
    until("quiet", async || two.cells.look([orders()]).is_some()).await;
    assert_eq!(
        why(&one, DIGEST + 1, &[users()]).await,
        Some(Why::OtherTopology)
    );
    let marks = one.remote.mark(DIGEST + 1, &[users()]).await.expect("told");
    assert!(!two.remote.holds(DIGEST, &before).await);
    assert_eq!(why(&two, DIGEST, &[orders()]).await, Some(Why::Marked));
    until("heard", async || {
        two.cells.look([Cell::EVERYTHING]).is_none()
    })
    .await;
    drop(marks);
    tokens(&two, &[orders()]).await;
    until("let go", async || {
        two.cells.look([Cell::EVERYTHING]).is_some()
    })
    .await;
    // One that is agreed on by nobody alive any more does not stay.
    one.remote.snapshot(DIGEST + 1);
    until("it has the word", async || {
        why(&two, DIGEST, &[orders()]).await == Some(Why::OtherTopology)
    })
    .await;
    drop(one);
    tokens(&two, &[orders()]).await;
}

#[tokio::test]
async fn a_write_by_a_topology_that_is_not_known_here_is_one_to_everything() {
    let server = Server::start();
    let (one, two) = (
        start(options(&server, Consistency::Bounded)),
        keyway(&server, Consistency::Bounded),
    );
    tokens(&two, &[users()]).await;
    in_step(&two).await;
    one.remote.snapshot(DIGEST + 1);
    until("it has the word", async || {
        why(&two, DIGEST, &[users()]).await == Some(Why::OtherTopology)
    })
    .await;
    let marks = one.remote.mark(DIGEST + 1, &[users()]).await.expect("told");
    let everything = || two.cells.look([Cell::EVERYTHING]);
    until("heard", async || two.cells.look([users()]).is_none()).await;
    assert_eq!(everything(), None);
    // Until it is known here too.
    two.remote.snapshot(DIGEST + 1);
    until("judged", async || everything().is_some()).await;
    assert_eq!(two.cells.look([users()]), None);
    drop(marks);
    until("let go", async || two.cells.look([users()]).is_some()).await;
}

#[tokio::test]
async fn a_write_by_the_topology_before_is_one_to_everything() {
    let server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Bounded),
        keyway(&server, Consistency::Bounded),
    );
    let before = tokens(&two, &[orders()]).await;
    in_step(&two).await;
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    two.remote.snapshot(DIGEST + 1);
    until("agreed", async || {
        let why = why(&two, DIGEST + 1, &[orders()]).await;
        assert_ne!(why, None, "it may change orders");
        why == Some(Why::Marked)
    })
    .await;
    assert!(!two.remote.holds(DIGEST, &before).await);
    until("held", async || {
        two.cells.look([Cell::EVERYTHING]).is_none()
    })
    .await;
    marks.settle(DEADLINE).await.expect("told");
    assert_eq!(why(&two, DIGEST + 1, &[orders()]).await, None);
    until("let go", async || {
        two.cells.look([Cell::EVERYTHING]).is_some()
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_found_by_the_other() {
    let server = Server::start();
    let (one, two) = (
        keyway(&server, Consistency::Strict),
        keyway(&server, Consistency::Strict),
    );
    let (name, question) = ([5; 16], b"SELECT 1");
    let seen = tokens(&one, &[users()]).await;
    let sealed = sealed::seal(
        &sealed::Sealing {
            question,
            tokens: &seen,
            reply: b"columns and rows",
            described: 7,
            made_ms: 1,
            ttl_ms: 2,
        },
        one.remote.secret(),
    );
    one.remote.put(&name, sealed, DEADLINE);
    let mut found = None;
    let end = Instant::now() + DEADLINE;
    while found.is_none() {
        assert!(Instant::now() < end, "not found");
        let looked = two.remote.look(DIGEST, &[users()], Some(&name)).await;
        assert_eq!(looked.tokens.as_ref(), Ok(&seen));
        found = looked.entry;
    }
    let opened = sealed::open(&found.expect("found"), two.remote.secret(), question);
    let opened = opened.expect("it is ours");
    assert_eq!(opened.tokens, seen);
    assert_eq!(&opened.reply[..], b"columns and rows");
    let numbers = two.remote.numbers();
    assert!(numbers.gets >= numbers.found && numbers.found == 1);
    until("counted", async || one.remote.numbers().puts == 1).await;
    // With nobody there it is dropped.
    let nowhere = Options::new(
        vec!["unix:///nowhere/redis".to_owned()],
        "test".to_owned(),
        Vec::new(),
    );
    let alone = start(nowhere);
    alone.remote.put(&name, vec![0; 9], DEADLINE);
    assert_eq!(alone.remote.numbers().puts_dropped, 1);
    assert_eq!(why(&alone, DIGEST, &[users()]).await, Some(Why::Away));
    assert!(alone.remote.numbers().is_away);
}

#[tokio::test]
async fn a_cluster_is_asked_as_one_server_is() {
    let server = Server::cluster();
    let mut options = options(&server, Consistency::Bounded);
    options.urls = vec![server.url(), server.url()];
    let (one, two) = (start(options.clone()), start(options));
    one.remote.snapshot(DIGEST);
    two.remote.snapshot(DIGEST);
    let before = tokens(&two, &[users()]).await;
    assert!(two.remote.holds(DIGEST, &before).await);
    in_step(&two).await;
    let marks = one.remote.mark(DIGEST, &[users()]).await.expect("told");
    assert!(!two.remote.holds(DIGEST, &before).await);
    until("heard", async || two.cells.look([users()]).is_none()).await;
    drop(marks);
    assert_ne!(tokens(&two, &[users()]).await, before);
}

#[test]
fn what_can_never_work_is_said_and_no_password_with_it() {
    let with = |urls: &[&str], deployment: &str| {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        let options = Options::new(urls, deployment.to_owned(), b"hidden".to_vec());
        assert!(!format!("{options:?}").contains("hidden"));
        let error = Remote::start(options, Arc::default()).expect_err("malformed");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hidden"), "{said}");
        error
    };
    let bad = "http://user:hidden@host";
    assert!(matches!(with(&[], "a"), Malformed::NoAddress));
    assert!(matches!(with(&[bad], "a"), Malformed::Address(1)));
    assert!(matches!(
        with(&["redis://u:hidden@host", bad], "a"),
        Malformed::Address(2)
    ));
    let good = "redis://u:hidden@host";
    for name in ["", "a b", "a}b"] {
        assert!(matches!(with(&[good], name), Malformed::Deployment));
    }
    assert!(matches!(
        with(&[good, "redis://v:hidden2@host"], "a"),
        Malformed::Cluster
    ));
}
