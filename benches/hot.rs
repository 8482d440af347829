//! What one statement costs on the way through, piece by piece.

use criterion::{Criterion, criterion_group, criterion_main};
use keyway::cache::plans::{PlanCache, PlanKey};
use keyway::cache::shapes::{Reading, Shapes};
use keyway::route::key::bucket;
use keyway::statement::scan::{ScanSettings, scan};
use keyway::topology::{KeyFamily, KeyHash};
use std::hint::black_box;
use std::rc::Rc;

fn scanning(criterion: &mut Criterion) {
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let mut group = criterion.benchmark_group("scan");
    for (name, text) in [
        (
            "pgbench_select",
            "SELECT abalance FROM pgbench_accounts WHERE aid = 123456;",
        ),
        (
            "insert_6_columns",
            "INSERT INTO orders (id, user_id, total, currency, status, note) \
             VALUES (1234567, 42, 19.99, 'EUR', 'pending', 'leave it at the neighbour''s door')",
        ),
        (
            "join_3_tables",
            "SELECT o.id, o.total, u.name, c.title FROM orders o JOIN users u ON u.id = o.user_id \
             LEFT JOIN countries c ON c.code = u.country WHERE o.user_id = 42 AND o.status IN ('paid', 'sent') \
             AND o.created_at > '2024-01-01' ORDER BY o.created_at DESC, o.id LIMIT 20 OFFSET 40",
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| scan(black_box(text), settings));
        });
    }
    group.finish();
}

/// From a text to what was planned for it: the scanner and the plan cache, and the comparison in front of them.
fn planned(criterion: &mut Criterion) {
    let settings = ScanSettings {
        standard_conforming_strings: true,
    };
    let known = "SELECT abalance FROM pgbench_accounts WHERE aid = 654321;";
    let text = "SELECT abalance FROM pgbench_accounts WHERE aid = 123456;";
    let scanned = scan(known, settings).expect("a statement").remove(0);
    let key = |fingerprint| PlanKey {
        fingerprint,
        database: 1,
        settings: 2,
    };
    let mut plans = PlanCache::new(100);
    assert!(plans.get(1, &key(scanned.fingerprint)).is_none());
    plans.insert(1, key(scanned.fingerprint), Rc::new(7));
    let reading = Reading {
        database: 1,
        settings: 2,
        epoch: 1,
    };
    let shapes = Shapes::default();
    shapes.learn(known, &scanned, reading, 7);

    let mut group = criterion.benchmark_group("planned");
    group.bench_function("scan and look into the plan cache", |bencher| {
        bencher.iter(|| {
            let scanned = scan(black_box(text), settings).expect("a statement");
            plans.get(1, &key(scanned[0].fingerprint)).expect("a plan")
        });
    });
    group.bench_function("compare with what was seen", |bencher| {
        bencher.iter(|| shapes.find(black_box(text), reading).expect("seen"));
    });
    let number = 123_456i64.to_le_bytes();
    group.bench_function("hash a key", |bencher| {
        bencher.iter(|| {
            let parts = [(KeyFamily::Int, Some(black_box(&number[..])))];
            bucket(KeyHash::Xxh3, &parts)
        });
    });
    group.finish();
}

criterion_group!(hot, scanning, planned);
criterion_main!(hot);
