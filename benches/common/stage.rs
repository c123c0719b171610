//! A whole shard without its kernel: a publisher's bytes in, its players' pieces out.

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use shardcast::{
    rtmp::{
        client::{ClientConfig, ClientEvent, ClientRole, ClientSession},
        message::Kind,
    },
    shard::{
        config::Config,
        conn::ConnId,
        core::{Core, Shared, Transmit},
        merge::Merging,
        mesh::{Bell, ports},
        metrics::ShardMetrics,
    },
    stream::segment::LogGauge,
};

use super::frame;

pub(crate) struct Silent;

impl Bell for Silent {
    fn ring(&self) {}
}

/// A configuration that lets messages go at once.
pub(crate) fn at_once() -> Config {
    Config { merging: Merging::Fixed(Duration::ZERO), ..Config::default() }
}

/// Shards that share what the shards of a process share. `gauge` is of their logs.
pub(crate) fn cores(count: usize, config: Config, gauge: &LogGauge) -> Vec<Core> {
    let shared = Shared { gauge: gauge.clone(), ..Shared::new(config) };
    let bells = (0..count).map(|_| Box::new(Silent) as Box<dyn Bell>).collect();
    ports(bells).into_iter().map(|port| Core::new(&shared, port, Arc::new(ShardMetrics::default()), 1)).collect()
}

/// Gives the woken connections what there is for them, as the driver does. Returns the number of sends.
pub(crate) fn serve(core: &mut Core) -> u64 {
    let mut sends = 0;
    loop {
        let mut woken = std::mem::take(core.take_wakes());
        for id in woken.drain(..) {
            sends += drain(core, id);
        }
        *core.take_wakes() = woken;
        if !core.is_waking() {
            return sends;
        }
        core.wake_more(1);
    }
}

/// Sends all that a connection is to have. Returns the number of sends.
pub(crate) fn drain(core: &mut Core, id: ConnId) -> u64 {
    let mut sends = 0;
    while let Transmit::Send(piece) = core.transmit(id) {
        let count = black_box(piece.as_slice()).len();
        sends += 1;
        if core.sent(id, piece, count) {
            break;
        }
    }
    sends
}

pub(crate) struct Client {
    pub(crate) id: ConnId,
    pub(crate) session: ClientSession,
    live: bool,
}

impl Client {
    /// Accepted, and not yet heard of.
    pub(crate) fn accept(core: &mut Core, role: ClientRole, chunk_bytes: usize) -> Self {
        let config = ClientConfig { chunk_bytes, ..ClientConfig::new(role, "rtmp://host/live", "live", "show") };
        let id = core.connect(SocketAddr::from(([127, 0, 0, 1], 1_935)));
        Self { id, session: ClientSession::new(config, 1, Duration::ZERO), live: false }
    }

    /// Has what the client says answered until it publishes or plays.
    pub(crate) fn go_live(mut self, core: &mut Core) -> Self {
        while !self.live {
            let said = self.session.take_output();
            self.say(core, &said);
        }
        self
    }

    /// Has it answered until the client is about to say `command`, and returns that.
    pub(crate) fn stop_before(&mut self, core: &mut Core, command: &str) -> Bytes {
        loop {
            let said = self.session.take_output();
            if said.windows(command.len()).any(|window| window == command.as_bytes()) {
                return said;
            }
            assert!(!self.live, "it never said '{command}'");
            self.say(core, &said);
        }
    }

    fn say(&mut self, core: &mut Core, said: &[u8]) {
        core.receive(self.id, said);
        while let Transmit::Send(piece) = core.transmit(self.id) {
            let mut input = piece.as_slice();
            while let Some(event) = self.session.receive(&mut input, Duration::ZERO).expect("own server") {
                self.live |= matches!(event, ClientEvent::Publishing | ClientEvent::Playing);
            }
            let count = piece.len();
            core.sent(self.id, piece, count);
        }
    }
}

/// A shard with a publisher and players of its stream.
pub(crate) struct Stage {
    pub(crate) core: Core,
    pub(crate) publisher: Client,
    gauge: LogGauge,
    players: u64,
    at_ms: u64,
}

impl Stage {
    /// `gauge` is of the core's logs, `chunk_bytes` of what the publisher sends.
    pub(crate) fn new(mut core: Core, gauge: LogGauge, chunk_bytes: usize, players: u64) -> Self {
        let publisher = Client::accept(&mut core, ClientRole::Publish, chunk_bytes).go_live(&mut core);
        for _ in 0..players {
            Client::accept(&mut core, ClientRole::Play, 60_000).go_live(&mut core);
        }
        core.take_wakes().clear();
        Self { core, publisher, gauge, players, at_ms: 0 }
    }

    /// A shard alone in its process.
    pub(crate) fn alone(config: Config, chunk_bytes: usize, players: u64) -> Self {
        let gauge = LogGauge::default();
        Self::new(cores(1, config, &gauge).remove(0), gauge, chunk_bytes, players)
    }

    /// Publishes until players are in step and the publisher's headers are as short as they get. Returns a keyframe and
    /// another frame that may be sent any number of times: their headers say "a millisecond later, else as before".
    pub(crate) fn settle(&mut self, frame_bytes: usize) -> [Bytes; 2] {
        let mut timestamp = 0;
        let mut next = |stage: &mut Self, keyframe| {
            timestamp += 1;
            stage.publisher.session.send_media(Kind::Video, timestamp, &frame(frame_bytes, keyframe));
            let bytes = stage.publisher.session.take_output();
            (stage.publish(&bytes), bytes)
        };
        // Headers in full, then a delta, then neither.
        next(self, true);
        next(self, true);
        [true, false].map(|keyframe| {
            let (sends, bytes) = next(self, keyframe);
            assert_eq!(bytes[0] >> 6, 3, "the header says more than 'as before'");
            assert_eq!(sends, self.players, "a frame is one send for each player");
            bytes
        })
    }

    /// Publishes until the log has just begun a segment, so that the next frames do not.
    pub(crate) fn begin_segment(&mut self, bytes: &[u8]) {
        let before = self.gauge.bytes();
        while self.gauge.bytes() <= before {
            self.publish(bytes);
        }
    }

    /// A millisecond passes, and bytes of the publisher come in.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.at_ms += 1;
        self.core.advance(Duration::from_millis(self.at_ms));
        self.core.receive(self.publisher.id, bytes);
    }

    /// The same, and the players are sent what they are to have. Returns the number of sends.
    pub(crate) fn publish(&mut self, bytes: &[u8]) -> u64 {
        self.receive(bytes);
        serve(&mut self.core)
    }
}
