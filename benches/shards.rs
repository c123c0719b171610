//! Shards: a message across the mesh, and a whole shard from a publisher's bytes to its players' pieces.

use std::{
    hint::black_box,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::{
    event::{EventfdFlags, eventfd},
    io::{read, write},
};
use shardcast::{
    rtmp::{
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
        key::StreamKey,
        message::Kind,
    },
    shard::{
        config::Config,
        conn::ConnId,
        core::{Core, Shared, Transmit},
        merge::Merging,
        mesh::{Bell, Port, message::MeshMessage, ports},
        metrics::ShardMetrics,
    },
};

struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

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
    MeshMessage::Announce { key: StreamKey::new("", "live", "show").expect("valid"), epoch }
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

struct Client {
    id: ConnId,
    session: ClientSession,
}

impl Client {
    fn connect(core: &mut Core, role: ClientRole) -> Self {
        let config = ClientConfig {
            tc_url: "rtmp://host/live".to_owned(),
            app: "live".to_owned(),
            name: "show".to_owned(),
            role,
            chunk_bytes: 60_000,
            digest: false,
        };
        let id = core.connect(SocketAddr::from(([127, 0, 0, 1], 1_935)));
        let mut client = Self { id, session: ClientSession::new(config, 1, Duration::ZERO) };
        let mut live = false;
        while !live {
            let output = client.session.take_output();
            core.receive(id, &output);
            while let Transmit::Send(piece) = core.transmit(id) {
                let mut input = piece.as_slice();
                while let Some(event) = client.session.receive(&mut input, Duration::ZERO).expect("own server") {
                    live |= matches!(event, ClientEvent::Publishing | ClientEvent::Playing);
                }
                let count = piece.len();
                core.sent(id, piece, count);
            }
        }
        client
    }
}

/// Everything but the kernel: a publisher's frame in, a piece for each of its players out.
fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core/frame_to_players");
    for players in [1, 100, 1_000] {
        let shared = Shared::new(Config { merging: Merging::Fixed(Duration::ZERO), ..Config::default() });
        let port = ports(vec![Box::new(Silent)]).remove(0);
        let mut core = Core::new(&shared, port, Arc::new(ShardMetrics::default()), 1);
        let mut publisher = Client::connect(&mut core, ClientRole::Publish);
        let watching: Vec<_> = (0..players).map(|_| Client::connect(&mut core, ClientRole::Play)).collect();
        let mut frame = vec![0x17, 1, 0, 0, 0];
        frame.resize(4_096, 0x55);
        let mut at_ms = 0;
        let mut publish = || {
            at_ms += 1;
            core.advance(Duration::from_millis(at_ms));
            publisher.session.send_media(Kind::Video, at_ms as u32, &frame);
            core.receive(publisher.id, &publisher.session.take_output());
            core.take_wakes().clear();
            let mut sends = 0;
            for client in &watching {
                while let Transmit::Send(piece) = core.transmit(client.id) {
                    let count = black_box(piece.as_slice()).len();
                    core.sent(client.id, piece, count);
                    sends += 1;
                }
            }
            sends
        };
        // The first frame comes after headers; from the second on a frame is one send per player.
        publish();
        assert_eq!(publish(), players, "a player misses the frame");
        group.throughput(Throughput::Elements(players));
        group.bench_function(format!("{players}_players"), |b| b.iter(&mut publish));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_millis(700))
        .warm_up_time(Duration::from_millis(200));
    targets = mesh, core
}
criterion_main!(benches);
