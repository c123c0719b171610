//! The protocol core: chunks in and out, connect, the handshake.

mod common;

use std::{hint::black_box, time::Duration};

use bytes::BytesMut;
use common::wire;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

/// Payloads of one message, in bytes.
const PAYLOADS: [usize; 4] = [128, 1_024, 8 * 1_024, 64 * 1_024];
/// The worst there is; then what FFmpeg, OBS and this server write with.
const CHUNK_BYTES: [usize; 4] = [1, 128, 4_096, 60_000];

/// The input holds whole messages: of those in one chunk the reader lends the payload, and copies no byte.
fn chunks(c: &mut Criterion) {
    let mut read = c.benchmark_group("chunk_reader");
    for (payload, chunk_bytes) in PAYLOADS.iter().flat_map(|payload| CHUNK_BYTES.map(|chunk| (*payload, chunk))) {
        let (mut reader, bytes) = wire::chunked(payload, chunk_bytes);
        read.throughput(Throughput::Bytes(payload as u64));
        read.bench_function(format!("{payload}B_in_{chunk_bytes}"), |b| {
            b.iter(|| wire::read_message(&mut reader, black_box(&bytes)));
        });
    }
    read.finish();
    let mut write = c.benchmark_group("chunk_writer");
    for payload in PAYLOADS {
        let body = vec![0x27; payload];
        let (mut writer, mut out) = wire::writer(60_000);
        let mut timestamp = 0;
        write.throughput(Throughput::Bytes(payload as u64));
        write.bench_function(format!("{payload}B_in_60000"), |b| {
            b.iter(|| {
                out.clear();
                timestamp += 1;
                writer.write(wire::header(timestamp), black_box(&body), &mut out);
                black_box(out.len())
            });
        });
    }
    write.finish();
}

fn connect(c: &mut Criterion) {
    let body = wire::connect_body();
    c.bench_function("amf0/connect", |b| b.iter(|| wire::decode_amf0(black_box(&body))));
}

fn handshake(c: &mut Criterion) {
    for (name, digest) in [("simple", false), ("digest", true)] {
        let opening = wire::handshake_opening(digest);
        c.bench_function(&format!("handshake/server_{name}"), |b| {
            b.iter_batched_ref(
                || BytesMut::with_capacity(3_073),
                |out| wire::shake_hands(black_box(&opening), out),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_millis(700))
        .warm_up_time(Duration::from_millis(200));
    targets = chunks, connect, handshake
}
criterion_main!(benches);
