//! The hot path in instructions, counted by callgrind: the same in each run, on a busy machine too, so that a
//! regression fails without a stopwatch. `benches/instructions-run` runs it.
//!
//! Each case runs once, in a process of its own, after a set-up that is not counted. Set-ups leave buffers as they are in
//! the long run: allocated, and with a log segment just begun.

mod common;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use common::{
    frame,
    log::Log,
    stage::{Client, Stage, at_once, cores, drain, serve},
    wire,
};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use shardcast::{
    limits::{CHUNK_BYTES_OUT_DEFAULT, FLUSH_BYTES_MAX},
    rtmp::{
        chunk::{ChunkReader, ChunkWriter},
        client::ClientRole,
    },
    shard::{config::Config, core::Core},
    stream::segment::LogGauge,
};

/// Bytes of a frame where nothing else is said.
const FRAME_BYTES: usize = 10_240;
/// Players of the stream that is flushed.
const PLAYERS: u64 = 500;

/// The most instructions a case may take: a tenth more than it took when its line was written. A case above its limit
/// fails the run. If a change is worth what it costs, or saves so much that the limit guards nothing any more, write what
/// `benches/instructions-run` counts, and a tenth, into its line, and say why in the commit.
///
/// Counted on x86-64 with AVX2, built by Rust 1.95; another compiler or C library moves them by a few per cent. Other
/// processors have no limits here.
mod most {
    // A frame of 10 KB in chunks of so many bytes.
    pub(crate) const READ_IN_128: u64 = 5_460;
    pub(crate) const READ_IN_4_KIB: u64 = 1_790;
    pub(crate) const READ_IN_64_KIB: u64 = 390;
    pub(crate) const WRITE_IN_128: u64 = 7_270;
    pub(crate) const WRITE_IN_60_000: u64 = 1_380;
    pub(crate) const APPEND_IN_128: u64 = 11_000;
    pub(crate) const APPEND_IN_60_000: u64 = 2_240;
    // The same through a shard, from a read to the log.
    pub(crate) const INGEST_IN_1: u64 = 589_000;
    pub(crate) const INGEST_IN_128: u64 = 17_340;
    pub(crate) const INGEST_IN_60_000: u64 = 3_490;
    // A frame to 500 players, until each waits for the next.
    pub(crate) const FLUSH: u64 = 319_900;
    // From `play` until the player has a GOP of 440 KB and waits.
    pub(crate) const JOIN: u64 = 36_100;
    // A frame from its owner to a player on another shard.
    pub(crate) const MESH_HOP: u64 = 6_050;
    // C0 and C1, answered.
    pub(crate) const HANDSHAKE_SIMPLE: u64 = 5_930;
    pub(crate) const HANDSHAKE_DIGEST: u64 = 432_000;
    pub(crate) const AMF0_CONNECT: u64 = 9_940;
}

fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    if cfg!(target_arch = "x86_64") {
        config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    }
    config
}

fn reader(chunk_bytes: usize) -> (ChunkReader, Bytes) {
    let (mut reader, bytes) = wire::chunked(FRAME_BYTES, chunk_bytes);
    wire::read_message(&mut reader, &bytes);
    (reader, bytes)
}

#[library_benchmark(setup = reader)]
#[bench::in_128(args = (128), config = at_most(most::READ_IN_128))]
#[bench::in_4_kib(args = (4_096), config = at_most(most::READ_IN_4_KIB))]
#[bench::in_64_kib(args = (65_536), config = at_most(most::READ_IN_64_KIB))]
fn read((mut reader, bytes): (ChunkReader, Bytes)) -> (ChunkReader, Bytes) {
    black_box(wire::read_message(&mut reader, black_box(&bytes)));
    (reader, bytes)
}

fn writer(chunk_bytes: usize) -> (ChunkWriter, BytesMut, Vec<u8>) {
    let (mut writer, mut out) = wire::writer(chunk_bytes);
    let payload = frame(FRAME_BYTES, false);
    writer.write(wire::header(1), &payload, &mut out);
    (writer, out, payload)
}

#[library_benchmark(setup = writer)]
#[bench::in_128(args = (128), config = at_most(most::WRITE_IN_128))]
#[bench::in_60_000(args = (60_000), config = at_most(most::WRITE_IN_60_000))]
fn write((mut writer, mut out, payload): (ChunkWriter, BytesMut, Vec<u8>)) -> (ChunkWriter, BytesMut, Vec<u8>) {
    writer.write(wire::header(2), black_box(&payload), &mut out);
    (writer, out, payload)
}

fn log(chunk_bytes: usize) -> (Log, Vec<u8>) {
    let mut log = Log::new(chunk_bytes);
    log.publish(&frame(FRAME_BYTES, true));
    let payload = frame(FRAME_BYTES, false);
    log.begin_segment(&payload);
    (log, payload)
}

#[library_benchmark(setup = log)]
#[bench::in_128(args = (128), config = at_most(most::APPEND_IN_128))]
#[bench::in_60_000(args = (60_000), config = at_most(most::APPEND_IN_60_000))]
fn append((mut log, payload): (Log, Vec<u8>)) -> (Log, Vec<u8>) {
    log.publish(black_box(&payload));
    (log, payload)
}

/// A stage whose publisher and players use chunks of so many bytes, and its next frame.
fn stage(theirs: usize, ours: usize, players: u64) -> (Box<Stage>, Bytes) {
    let mut stage = Box::new(Stage::alone(Config { chunk_bytes: ours, ..at_once() }, theirs, players));
    let [_, frame] = stage.settle(FRAME_BYTES);
    stage.begin_segment(&frame);
    (stage, frame)
}

#[library_benchmark(setup = stage)]
#[bench::in_1(args = (1, CHUNK_BYTES_OUT_DEFAULT, 0), config = at_most(most::INGEST_IN_1))]
#[bench::in_128(args = (128, 128, 0), config = at_most(most::INGEST_IN_128))]
#[bench::in_60_000(args = (60_000, 60_000, 0), config = at_most(most::INGEST_IN_60_000))]
fn ingest((mut stage, frame): (Box<Stage>, Bytes)) -> (Box<Stage>, Bytes) {
    stage.receive(black_box(&frame));
    (stage, frame)
}

#[library_benchmark(setup = stage)]
#[bench::to_500_players(args = (60_000, 60_000, PLAYERS), config = at_most(most::FLUSH))]
fn flush((mut stage, frame): (Box<Stage>, Bytes)) -> (Box<Stage>, Bytes) {
    let sends = stage.publish(black_box(&frame));
    assert_eq!(sends, PLAYERS);
    (stage, frame)
}

/// A stage with a GOP, and somebody about to play it.
fn joiner() -> (Box<Stage>, Client, Bytes) {
    let mut stage = Box::new(Stage::alone(at_once(), 60_000, 1));
    let [keyframe, frame] = stage.settle(4_400);
    stage.publish(&keyframe);
    (0..99).for_each(|_| assert_eq!(stage.publish(&frame), 1));
    let mut client = Client::accept(&mut stage.core, ClientRole::Play, 60_000);
    let play = client.stop_before(&mut stage.core, "\x02\0\x04play");
    (stage, client, play)
}

#[library_benchmark]
#[bench::a_gop(setup = joiner, config = at_most(most::JOIN))]
fn join((mut stage, client, play): (Box<Stage>, Client, Bytes)) -> (Box<Stage>, Client, Bytes) {
    stage.core.receive(client.id, black_box(&play));
    let sends = drain(&mut stage.core, client.id);
    assert!(sends > 440_000 / FLUSH_BYTES_MAX as u64, "the GOP is more than {sends} sends");
    (stage, client, play)
}

/// A stage whose player sits on another shard.
fn two_shards() -> (Box<Stage>, Box<Core>, Bytes) {
    let gauge = LogGauge::default();
    let mut cores = cores(2, at_once(), &gauge);
    let (mut follower, owner) = (Box::new(cores.remove(1)), cores.remove(0));
    let mut stage = Box::new(Stage::new(owner, gauge, 60_000, 0));
    Client::accept(&mut follower, ClientRole::Play, 60_000).go_live(&mut follower);
    follower.turn();
    stage.core.turn();
    let [_, frame] = stage.settle(FRAME_BYTES);
    stage.begin_segment(&frame);
    for _ in 0..2 {
        stage.receive(&frame);
        follower.turn();
        serve(&mut follower);
    }
    (stage, follower, frame)
}

#[library_benchmark]
#[bench::to_a_player(setup = two_shards, config = at_most(most::MESH_HOP))]
fn mesh_hop((mut stage, mut follower, frame): (Box<Stage>, Box<Core>, Bytes)) -> (Box<Stage>, Box<Core>, Bytes) {
    stage.receive(black_box(&frame));
    follower.turn();
    assert_eq!(serve(&mut follower), 1);
    (stage, follower, frame)
}

fn opening(digest: bool) -> (Bytes, BytesMut) {
    (wire::handshake_opening(digest), BytesMut::with_capacity(4_096))
}

#[library_benchmark(setup = opening)]
#[bench::simple(args = (false), config = at_most(most::HANDSHAKE_SIMPLE))]
#[bench::digest(args = (true), config = at_most(most::HANDSHAKE_DIGEST))]
fn handshake((opening, mut out): (Bytes, BytesMut)) -> (Bytes, BytesMut) {
    wire::shake_hands(black_box(&opening), &mut out);
    (opening, out)
}

#[library_benchmark]
#[bench::connect(setup = wire::connect_body, config = at_most(most::AMF0_CONNECT))]
fn amf0(body: Bytes) -> Bytes {
    black_box(wire::decode_amf0(black_box(&body)));
    body
}

library_benchmark_group!(name = protocol, benchmarks = [read, write, handshake, amf0]);
library_benchmark_group!(name = stream, benchmarks = [append]);
library_benchmark_group!(name = shard, benchmarks = [ingest, flush, join, mesh_hop]);

/// Where the C library copies by `rep movsb`, callgrind counts an instruction a byte, and the copies hide all the rest.
const NO_REP_MOVSB: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM";

main!(
    config = LibraryBenchmarkConfig::default()
        .env("GLIBC_TUNABLES", NO_REP_MOVSB)
        .tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [protocol, stream, shard]
);
