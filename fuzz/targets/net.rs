//! Two shards on one mesh without sockets, and the clients connected to them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use shardcast::{
    egress::Piece,
    limits::TICK,
    rtmp::client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
    shard::{
        config::Config,
        conn::ConnId,
        core::{Core, Shared, Transmit},
        mesh::{Bell, ports},
        metrics::ShardMetrics,
    },
};

/// Nobody sleeps here: every turn asks every shard.
struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// Two shards and what they share.
pub struct Net {
    pub cores: Vec<Core>,
    pub metrics: Vec<Arc<ShardMetrics>>,
    pub shared: Shared,
    now: Duration,
    ticked: Duration,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub shard: usize,
    pub id: ConnId,
}

impl Net {
    pub fn new(chunk_bytes: usize) -> Self {
        let config = Config { chunk_bytes, cpus: vec![None, None], ..Config::default() };
        let shared = Shared::new(config);
        let metrics: Vec<_> = (0..2).map(|_| Arc::new(ShardMetrics::default())).collect();
        let ports = ports(vec![Box::new(Silent), Box::new(Silent)]);
        let cores = ports.into_iter().zip(&metrics).map(|(port, metrics)| Core::new(&shared, port, metrics.clone(), 1));
        Self { cores: cores.collect(), metrics, now: Duration::ZERO, ticked: Duration::ZERO, shared }
    }

    pub fn connect(&mut self, shard: usize) -> Place {
        Place { shard, id: self.cores[shard].connect(SocketAddr::from(([127, 0, 0, 1], 1_935))) }
    }

    pub fn receive(&mut self, at: Place, bytes: &[u8]) {
        self.cores[at.shard].receive(at.id, bytes);
    }

    pub fn remove(&mut self, at: Place) {
        self.cores[at.shard].remove(at.id);
    }

    /// Time passes, timers and ticks fall due, shards hear of each other.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        let tick = self.now - self.ticked >= TICK;
        if tick {
            self.ticked = self.now;
        }
        for core in &mut self.cores {
            core.advance(self.now);
            if core.due_at() <= self.now {
                core.timers();
            }
            if tick {
                core.tick();
            }
        }
        self.turn();
    }

    /// Shards take their mail until none has any.
    pub fn turn(&mut self) {
        for _ in 0..32 {
            if self.cores.iter_mut().fold(true, |quiet, core| core.before_sleep() & quiet) {
                return;
            }
        }
        panic!("the shards have mail for each other for ever");
    }

    /// All bytes there are for a connection; `None` once it is closed.
    pub fn take(&mut self, at: Place) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            match self.cores[at.shard].transmit(at.id) {
                Transmit::Send(piece) => {
                    bytes.extend_from_slice(piece.as_slice());
                    self.sent(at, piece, usize::MAX);
                }
                Transmit::Park => return Some(bytes),
                Transmit::Close => return None,
            }
        }
    }

    /// Reports a send of at most `count` bytes.
    pub fn sent(&mut self, at: Place, piece: Piece, count: usize) {
        let count = count.min(piece.len());
        self.cores[at.shard].sent(at.id, piece, count);
    }

    pub fn count(&self, what: impl Fn(&ShardMetrics) -> i64) -> i64 {
        self.metrics.iter().map(|metrics| what(metrics)).sum()
    }
}

/// A client that behaves.
pub struct Healthy {
    pub at: Place,
    pub session: ClientSession,
    pub live: bool,
    /// Media received: timestamp and payload.
    pub media: Vec<(u32, Vec<u8>)>,
}

impl Healthy {
    pub fn connect(net: &mut Net, shard: usize, role: ClientRole, name: &str) -> Self {
        let config = ClientConfig { chunk_bytes: 4_096, ..ClientConfig::new(role, "rtmp://host/live", "live", name) };
        let session = ClientSession::new(config, 1, Duration::ZERO);
        Self { at: net.connect(shard), session, live: false, media: Vec::new() }
    }

    /// Exchanges what there is with the server until neither has anything to say.
    pub fn talk(&mut self, net: &mut Net) {
        loop {
            let output = self.session.take_output();
            if !output.is_empty() {
                net.receive(self.at, &output);
            }
            let bytes = net.take(self.at).expect("a healthy connection stays open");
            let mut input = &bytes[..];
            while let Some(event) = self.session.receive(&mut input, Duration::ZERO).expect("the server keeps to RTMP")
            {
                match event {
                    ClientEvent::Publishing | ClientEvent::Playing => self.live = true,
                    ClientEvent::Media { timestamp, payload, .. } => self.media.push((timestamp, payload.to_vec())),
                    ClientEvent::Status { level, .. } if level == "status" => {}
                    other => panic!("a healthy connection is told {other:?}"),
                }
            }
            if bytes.is_empty() && self.session.output().is_empty() {
                return;
            }
        }
    }
}
