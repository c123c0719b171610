//! The stream log: messages appended, one flush handed to many players, players joining.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shardcast::{
    egress::{Next, Player, Policy},
    ingress::{Broadcast, broadcast::BroadcastConfig},
    limits::{CHUNK_BYTES_OUT_DEFAULT, GOP_BYTES_MAX_DEFAULT},
    rtmp::message::Kind,
    stream::segment::LogGauge,
};

const NOW: Duration = Duration::from_secs(1);
const POLICY: Policy = Policy { gop_cache: true, lag_max: Duration::from_secs(5), join_wait: Duration::from_secs(10) };

fn broadcast() -> Broadcast {
    let gauge = LogGauge::default();
    let mut stream = Broadcast::new(BroadcastConfig::new(CHUNK_BYTES_OUT_DEFAULT, GOP_BYTES_MAX_DEFAULT, gauge), None);
    let video = stream.publish(Kind::Video, 0, b"\x17\0\0\0\0\x01\x64\0\x1F\xFF", NOW, 0);
    let audio = stream.publish(Kind::Audio, 0, b"\xAF\0\x12\x10", NOW, 0);
    assert!(video.is_ok() && audio.is_ok());
    stream
}

fn frame(bytes: usize, keyframe: bool) -> Vec<u8> {
    let mut frame = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    frame.resize(bytes, 0x55);
    frame
}

/// Publishes `payload`, releases it, and lets go of what lies before it.
fn publish(stream: &mut Broadcast, at_ms: &mut u32, payload: &[u8]) {
    *at_ms += 1;
    let now = NOW + Duration::from_millis((*at_ms).into());
    black_box(stream.publish(Kind::Video, *at_ms, payload, now, *at_ms)).expect("a sound tag");
    let window = stream.views_mut()[0].log_mut().window_mut();
    window.release();
    window.prune(window.head());
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("log_append");
    for bytes in [128, 1_024, 8 * 1_024, 64 * 1_024] {
        let mut stream = broadcast();
        let mut at_ms = 0;
        // Keyframes: the join point moves along, and the log is let go of behind it.
        let payload = frame(bytes, true);
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes}B"), |b| b.iter(|| publish(&mut stream, &mut at_ms, &payload)));
    }
    group.finish();
}

/// One published frame (`log_append` says what that costs), then one piece for each player.
fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("cursor_flush");
    for players in [1, 100, 1_000] {
        let mut stream = broadcast();
        let mut at_ms = 0;
        let payload = frame(4_096, true);
        publish(&mut stream, &mut at_ms, &payload);
        let window = stream.views_mut()[0].log_mut().window_mut();
        let mut watching: Vec<_> = (0..players).map(|_| Player::new(window, false, NOW)).collect();
        for player in &mut watching {
            while let Next::Send(_) = player.next(window, &POLICY, NOW, |_| true) {}
        }
        group.throughput(Throughput::Elements(players));
        group.bench_function(format!("{players}_players"), |b| {
            b.iter(|| {
                publish(&mut stream, &mut at_ms, &payload);
                let window = stream.views_mut()[0].log_mut().window_mut();
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
    let mut stream = broadcast();
    let mut at_ms = 0;
    publish(&mut stream, &mut at_ms, &frame(40_000, true));
    for _ in 0..100 {
        publish(&mut stream, &mut at_ms, &frame(4_096, false));
    }
    let window = stream.views_mut()[0].log_mut().window_mut();
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
