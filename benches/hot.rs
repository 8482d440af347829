//! What one statement costs on the way through, piece by piece.

use criterion::{Criterion, criterion_group, criterion_main};
use keyway::statement::scan::{ScanSettings, scan};
use std::hint::black_box;

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

criterion_group!(hot, scanning);
criterion_main!(hot);
