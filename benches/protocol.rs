//! The protocol core: chunks in and out, connect, the handshake.

use std::{hint::black_box, time::Duration};

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::rtmp::{
    amf0::{Decoder, Encoder},
    chunk::{ChunkReader, ChunkWriter},
    handshake::{ClientHandshake, ServerHandshake},
    message::{Header, type_id},
};

/// Payloads of one message, in bytes.
const PAYLOADS: [usize; 4] = [128, 1_024, 8 * 1_024, 64 * 1_024];
/// What FFmpeg, OBS and this server write with.
const CHUNK_BYTES: [usize; 3] = [128, 4_096, 60_000];

fn header(timestamp: u32) -> Header {
    Header { csid: 6, timestamp, length: 0, type_id: type_id::VIDEO, stream_id: 1 }
}

/// The input holds whole messages: of those in one chunk the reader lends the payload, and copies no byte.
fn chunks(c: &mut Criterion) {
    let mut read = c.benchmark_group("chunk_reader");
    for (payload, chunk_bytes) in PAYLOADS.iter().flat_map(|payload| CHUNK_BYTES.map(|chunk| (*payload, chunk))) {
        let mut writer = ChunkWriter::new();
        let mut set = BytesMut::new();
        writer.set_chunk_bytes(chunk_bytes, &mut set);
        let mut reader = ChunkReader::new();
        assert_eq!(reader.read(&mut &set[..]), Ok(None));
        let mut bytes = BytesMut::new();
        writer.write(header(0), &vec![0x27; payload], &mut bytes);
        read.throughput(Throughput::Bytes(payload as u64));
        read.bench_function(format!("{payload}B_in_{chunk_bytes}"), |b| {
            b.iter(|| {
                let mut input = black_box(&bytes[..]);
                let message = reader.read(&mut input).expect("well-formed").expect("whole");
                black_box(message.payload.len())
            });
        });
    }
    read.finish();
    let mut write = c.benchmark_group("chunk_writer");
    for payload in PAYLOADS {
        let body = vec![0x27; payload];
        let mut writer = ChunkWriter::new();
        let mut out = BytesMut::new();
        writer.set_chunk_bytes(60_000, &mut out);
        let mut timestamp = 0;
        write.throughput(Throughput::Bytes(payload as u64));
        write.bench_function(format!("{payload}B_in_60000"), |b| {
            b.iter(|| {
                out.clear();
                timestamp += 1;
                writer.write(header(timestamp), black_box(&body), &mut out);
                black_box(out.len())
            });
        });
    }
    write.finish();
}

fn connect(c: &mut Criterion) {
    let mut body = BytesMut::new();
    let mut out = Encoder::new(&mut body);
    out.string("connect").number(1.0).object().key("app").string("live").key("type").string("nonprivate");
    out.key("flashVer").string("FMLE/3.0 (compatible; FMSc/1.0)").key("swfUrl").string("rtmp://host/live");
    out.key("tcUrl").string("rtmp://host/live").key("capabilities").number(239.0).end();
    c.bench_function("amf0/connect", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(black_box(&body));
            let mut values = 0;
            while let Some(value) = decoder.next_value().expect("well-formed") {
                black_box(value);
                values += 1;
            }
            values
        });
    });
}

fn handshake(c: &mut Criterion) {
    for (name, digest) in [("simple", false), ("digest", true)] {
        let mut opening = BytesMut::new();
        ClientHandshake::new(1, digest).start(0, &mut opening);
        c.bench_function(&format!("handshake/server_{name}"), |b| {
            b.iter_batched_ref(
                || BytesMut::with_capacity(3_073),
                |out| {
                    let mut server = ServerHandshake::new(2);
                    server.receive(&mut black_box(&opening[..]), 0, out).expect("own client")
                },
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
