use super::{Metrics, Outcome, QueryPlan};
use std::time::Duration;

#[test]
fn workers_are_summed() {
    let metrics = Metrics::new();
    let (first, second) = (metrics.worker(), metrics.worker());
    first.clients.up();
    second.clients.up();
    second.clients.up();
    second.clients.down();
    first.query(QueryPlan::Single, Outcome::Done, Duration::from_micros(40));
    second.query(QueryPlan::Single, Outcome::Done, Duration::from_secs(100));
    second.query(QueryPlan::None, Outcome::Refused, Duration::ZERO);
    second.refused("0A000");
    first.shard("s0").busy.up();
    second.shard("s0").busy.up();
    first.client_bytes_in.add(7);
    metrics.set_epoch(12);
    let text = metrics.text().unwrap();
    for line in [
        "keyway_clients 2",
        "keyway_queries_total{plan=\"single\",outcome=\"done\"} 2",
        "keyway_queries_total{plan=\"none\",outcome=\"refused\"} 1",
        "keyway_query_seconds_count{plan=\"single\"} 2",
        "keyway_query_seconds_bucket{le=\"0.000032\",plan=\"single\"} 0",
        "keyway_query_seconds_bucket{le=\"0.000064\",plan=\"single\"} 1",
        "keyway_query_seconds_bucket{le=\"33.554432\",plan=\"single\"} 1",
        "keyway_query_seconds_bucket{le=\"+Inf\",plan=\"single\"} 2",
        "keyway_refusals_total{sqlstate=\"0A000\"} 1",
        "keyway_servers{shard=\"s0\",state=\"busy\"} 2",
        "keyway_client_bytes_total{direction=\"in\"} 7",
        "keyway_topology_epoch 12",
        "keyway_checkout_wait_seconds_count 0",
        "# EOF",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} is missing in:\n{text}"
        );
    }
    assert!(text.contains("keyway_build_info{version="), "{text}");
}

#[test]
fn times_fall_into_the_bucket_that_holds_them() {
    let check = |micros: u64, index: usize| {
        let times = super::Times::default();
        times.note(Duration::from_micros(micros));
        let found = times.buckets.iter().position(|bucket| bucket.get() == 1);
        assert_eq!(found, Some(index), "{micros} µs");
    };
    check(0, 0);
    check(32, 0);
    check(33, 1);
    check(64, 1);
    check(65, 2);
    check(1 << 25, 20);
    check((1 << 25) + 1, 21);
    check(u64::MAX, 21);
}

#[test]
fn unheard_of_sqlstates_do_not_grow_without_bound() {
    let metrics = Metrics::new();
    let worker = metrics.worker();
    for number in 0..1_000 {
        worker.refused(&format!("{number:05}"));
    }
    assert!(worker.refusals.lock().unwrap().len() <= super::SQLSTATES_MAX + 1);
}
