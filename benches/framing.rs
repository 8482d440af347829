//! What the wire costs: walking a reply, cutting a stream into messages, and the messages of a prepared statement.

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use keyway::wire::backend::{self, TransactionStatus};
use keyway::wire::frame::{Walker, next_frame};
use keyway::wire::frontend::{self, Bind, Format};
use std::hint::black_box;

const MAX: usize = 1 << 20;

/// What pgbench -S gets with a prepared statement: one row of one column.
fn one_row() -> BytesMut {
    let mut out = BytesMut::new();
    backend::bind_complete(&mut out);
    backend::data_row(&mut out, [Some(&b"-1234567"[..])].into_iter());
    backend::command_complete(&mut out, "SELECT 1");
    backend::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

/// A read of 64 KiB in the middle of a long result: rows of four columns and about 60 bytes.
fn many_rows() -> BytesMut {
    let row = [
        Some(&b"1234567"[..]),
        Some(b"2024-02-29 12:34:56"),
        None,
        Some(b"some text"),
    ];
    let mut out = BytesMut::new();
    while out.len() < 64 << 10 {
        backend::data_row(&mut out, row.into_iter());
    }
    out
}

/// A client's Bind, Execute and Sync.
fn request() -> BytesMut {
    let mut out = BytesMut::new();
    let values = [Some(&b"1234567"[..])];
    frontend::bind(
        &mut out,
        "",
        "P0_1",
        &[Format::Text],
        values.into_iter(),
        &[Format::Text],
    )
    .expect("names without zero bytes");
    frontend::execute(&mut out, "", 0).expect("a name without zero bytes");
    frontend::sync(&mut out);
    out
}

/// The walker's stops in a buffer that is a whole number of messages.
fn stops(stream: &[u8]) -> u32 {
    let mut walker = Walker::backend(MAX);
    let mut stops = 0;
    while let Some(stop) = walker.next(stream).expect("a good stream") {
        stops += u32::from(stop.tag);
    }
    assert_eq!(walker.release(), stream.len());
    stops
}

fn frames(mut stream: &[u8]) -> u32 {
    let mut frames = 0;
    while let Some(frame) = next_frame(stream, MAX).expect("a good stream") {
        frames += u32::from(frame.tag);
        stream = &stream[frame.len..];
    }
    frames
}

fn framing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");

    let reply = one_row();
    group.bench_function("walk the reply with one row", |bench| {
        bench.iter(|| stops(black_box(&reply)));
    });
    let request = request();
    group.bench_function("frame a prepared request", |bench| {
        bench.iter(|| frames(black_box(&request)));
    });
    let bind = next_frame(&request, MAX)
        .ok()
        .flatten()
        .expect("a Bind")
        .body(&request);
    group.bench_function("decode a Bind", |bench| {
        bench.iter(|| {
            Bind::decode(black_box(bind))
                .expect("a Bind")
                .parameters
                .len()
        });
    });
    group.bench_function("copy a Bind under another name", |bench| {
        let room = || BytesMut::with_capacity(4096);
        bench.iter_batched_ref(
            room,
            |out| {
                frontend::bind_renamed(out, black_box(bind), "kw_00000001", "").expect("a Bind");
            },
            BatchSize::SmallInput,
        );
    });

    let rows = many_rows();
    group.throughput(Throughput::Bytes(
        u64::try_from(rows.len()).unwrap_or(u64::MAX),
    ));
    group.bench_function("walk 64 KiB of rows", |bench| {
        bench.iter(|| stops(black_box(&rows)));
    });
    group.bench_function("frame 64 KiB of rows", |bench| {
        bench.iter(|| frames(black_box(&rows)));
    });
    group.bench_function("read the columns of 64 KiB of rows", |bench| {
        bench.iter(|| {
            let mut rest: &[u8] = black_box(&rows);
            let mut nulls = 0;
            while let Ok(Some(frame)) = next_frame(rest, MAX) {
                let columns = backend::columns(frame.body(rest));
                nulls += columns.filter(|column| matches!(column, Ok(None))).count();
                rest = &rest[frame.len..];
            }
            nulls
        });
    });
    group.finish();
}

criterion_group!(benches, framing);
criterion_main!(benches);
