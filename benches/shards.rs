//! Shards: a message across the mesh, a publisher's bytes into its log, and from there to its players' pieces.

mod common;

use std::{
    hint::black_box,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::stage::{self, Silent, Stage};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::{read, write},
};
use shardcast::{
    limits::{CHUNK_BYTES_DEFAULT, CHUNK_BYTES_OUT_DEFAULT, READ_BYTES},
    rtmp::key::StreamKey,
    shard::{
        config::Config,
        mesh::{Bell, Port, message::MeshMessage, ports},
    },
};

/// A blocking eventfd.
#[derive(Clone)]
struct Eventfd(Arc<OwnedFd>);

impl Eventfd {
    fn new() -> Self {
        Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd")))
    }

    fn wait(&self) {
        read(&self.0, &mut [0; 8]).expect("eight bytes of an eventfd");
    }
}

impl Bell for Eventfd {
    fn ring(&self) {
        write(&self.0, &1_u64.to_ne_bytes()).expect("an eventfd takes a ring");
    }
}

fn mail(epoch: u64) -> MeshMessage {
    MeshMessage::Announce {
        key: StreamKey::new("", "live", "show").expect("valid"),
        epoch,
        provenance: std::sync::Arc::default(),
    }
}

/// Waits as a shard does: asleep if there is nothing to receive.
fn receive(port: &mut Port, bell: &Eventfd) -> u64 {
    loop {
        match port.receive() {
            Some((_, MeshMessage::Announce { epoch, .. })) => return epoch,
            Some(_) => {}
            None if port.sleep() => bell.wait(),
            None => {}
        }
    }
}

fn mesh(c: &mut Criterion) {
    let mut silent = ports(vec![Box::new(Silent), Box::new(Silent)]);
    let mut message = Some(mail(1));
    c.bench_function("mesh/send_and_receive_on_one_thread", |b| {
        b.iter(|| {
            assert!(silent[0].send(1, message.take().expect("it came back")).is_ok());
            silent[0].ring();
            message = silent[1].receive().map(|(_, message)| message);
        });
    });
    let bells = [Eventfd::new(), Eventfd::new()];
    let mut ends = ports(bells.iter().map(|bell| Box::new(bell.clone()) as Box<dyn Bell>).collect());
    let (mut there, mut here) = (ends.remove(1), ends.remove(0));
    let [own, other] = bells;
    // Sends everything back until it is sent a zero.
    let echo = thread::spawn(move || {
        loop {
            let epoch = receive(&mut there, &other);
            assert!(there.send(0, mail(epoch)).is_ok());
            there.ring();
            if epoch == 0 {
                return;
            }
        }
    });
    let mut hop = |epoch| {
        assert!(here.send(1, mail(epoch)).is_ok());
        here.ring();
        assert_eq!(receive(&mut here, &own), epoch);
    };
    c.bench_function("mesh/there_and_back_between_sleeping_threads", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            (1..=iterations).for_each(&mut hop);
            start.elapsed()
        });
    });
    hop(0);
    echo.join().expect("the echo ends");
}

/// A publisher as fast as it goes: a GOP of sixty 10 KB frames, read as the driver reads it. Elements are its chunks.
fn ingest(c: &mut Criterion) {
    const FRAME_BYTES: usize = 10_240;
    const FRAMES: usize = 60;
    let mut group = c.benchmark_group("core/ingest");
    // Chunks in, chunks out.
    for (theirs, ours) in [
        (1, CHUNK_BYTES_OUT_DEFAULT),
        (CHUNK_BYTES_DEFAULT, CHUNK_BYTES_DEFAULT),
        (CHUNK_BYTES_DEFAULT, CHUNK_BYTES_OUT_DEFAULT),
        (4_096, 4_096),
        (CHUNK_BYTES_OUT_DEFAULT, CHUNK_BYTES_OUT_DEFAULT),
    ] {
        let mut stage = Stage::alone(Config { chunk_bytes: ours, ..stage::at_once() }, theirs, 0);
        let [keyframe, frame] = stage.settle(FRAME_BYTES);
        let gop = [&keyframe[..], &frame.repeat(FRAMES - 1)].concat();
        group.throughput(Throughput::Elements((FRAMES * FRAME_BYTES.div_ceil(theirs)) as u64));
        group.bench_function(format!("chunks_of_{theirs}_into_{ours}"), |b| {
            b.iter(|| gop.chunks(READ_BYTES).map(|read| stage.publish(black_box(read))).sum::<u64>());
        });
    }
    group.finish();
}

/// Everything but the kernel: a publisher's frame in, a piece for each of its players out.
fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/frame_to_players");
    for players in [1, 100, 1_000] {
        let mut stage = Stage::alone(stage::at_once(), CHUNK_BYTES_OUT_DEFAULT, players);
        let [keyframe, _] = stage.settle(4_096);
        group.throughput(Throughput::Elements(players));
        group.bench_function(format!("{players}_players"), |b| {
            b.iter(|| stage.publish(black_box(&keyframe)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_millis(700))
        .warm_up_time(Duration::from_millis(200));
    targets = mesh, ingest, core
}
criterion_main!(benches);
