//! The stream log: messages appended, one flush handed to many players, players joining.

mod common;

use std::{hint::black_box, time::Duration};

use common::{
    frame,
    log::{Log, NOW, POLICY},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardcast::{
    egress::{Next, Player},
    limits::CHUNK_BYTES_OUT_DEFAULT,
};

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("log_append");
    for bytes in [128, 1_024, 8 * 1_024, 64 * 1_024] {
        let mut log = Log::new(CHUNK_BYTES_OUT_DEFAULT);
        // Keyframes: the join point moves along, and the log is let go of behind it.
        let payload = frame(bytes, true);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes}B"), |b| b.iter(|| log.publish(&payload)));
    }
    group.finish();
}

/// One published frame (`log_append` says what that costs), then one piece for each player.
fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("cursor_flush");
    for players in [1, 100, 1_000] {
        let mut log = Log::new(CHUNK_BYTES_OUT_DEFAULT);
        let payload = frame(4_096, true);
        log.publish(&payload);
        let mut watching = log.players(players);
        group.throughput(Throughput::Elements(players));
        group.bench_function(format!("{players}_players"), |b| {
            b.iter(|| {
                log.publish(&payload);
                let window = log.window();
                for player in &mut watching {
                    let Next::Send(piece) = player.next(window, &POLICY, NOW, |_| true) else {
                        panic!("every player has a frame to send");
                    };
                    black_box(piece.as_slice().len());
                }
            });
        });
    }
    group.finish();
}

/// What each joiner costs once the first one has had the headers encoded.
fn join(c: &mut Criterion) {
    let mut log = Log::with_gop();
    let window = log.window();
    c.bench_function("join/headers_and_first_flush", |b| {
        b.iter(|| {
            let mut player = Player::new(window, false, NOW);
            let headers = player.next(window, &POLICY, NOW, |_| true);
            let flush = player.next(window, &POLICY, NOW, |_| true);
            assert!(matches!((&headers, &flush), (Next::Send(_), Next::Send(_))));
            (headers, flush)
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_millis(700))
        .warm_up_time(Duration::from_millis(200));
    targets = append, flush, join
}
criterion_main!(benches);
