//! A server with a healthy publisher and player on it, and the checks every hostile test ends with.

use crate::common::{
    rtmp::{AUDIO, Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Metrics, Server},
};

const CLOSED: &str = "shardcast_connections_closed_total";
const REFUSED: &str = "shardcast_requests_refused_total";
/// Growth of resident memory that one hostile connection may cause.
const GROWTH_KIB_MAX: u64 = 16 * 1024;

/// A publisher and a player of one stream that keep the rules.
pub struct Pair {
    pub publisher: Peer,
    pub stream: u32,
    pub player: Peer,
    sent: u32,
}

impl Pair {
    /// The player is on before anything is sent, so that it gets everything.
    #[track_caller]
    pub fn new(server: &Server, name: &str) -> Self {
        let waiting = server.metrics().sum("shardcast_players", &[]);
        let player = Peer::player(server.rtmp, name);
        server.wait_metric("shardcast_players", &[], |now| now > waiting);
        let (mut publisher, stream) = Peer::publisher(server.rtmp, name);
        publisher.announce_audio(stream);
        Self { publisher, stream, player, sent: 0 }
    }

    /// An audio message that no other equals.
    pub fn audio(&mut self) -> Message {
        self.sent += 1;
        let payload = [&[0xAF, 1][..], &self.sent.to_be_bytes(), &[0x55; 300]].concat();
        message(4, AUDIO, self.stream, self.sent * 20, payload)
    }

    /// A message sent as `bytes` arrives as `payload`.
    #[track_caller]
    pub fn arrives(&mut self, bytes: &[u8], payload: &[u8]) -> Message {
        assert!(self.publisher.write(bytes), "the publisher was closed");
        let got = self.player.next_media().expect("the player is served");
        assert!(got.payload == payload, "sent {} bytes, got {:?} bytes", payload.len(), got.payload.len());
        got
    }

    /// Both are unharmed: what the one sends is what the other gets.
    #[track_caller]
    pub fn assert_flows(&mut self) {
        for _ in 0..10 {
            let audio = self.audio();
            let bytes = audio.chunks(self.publisher.chunk_bytes);
            self.arrives(&bytes, &audio.payload);
        }
    }
}

/// A legacy H.264 keyframe of `bytes` bytes.
pub fn keyframe(bytes: usize, fill: u8) -> Vec<u8> {
    let mut payload = vec![fill; bytes];
    payload[..5].copy_from_slice(&[0x17, 1, 0, 0, 0]);
    payload
}

pub fn video(stream: u32, timestamp: u32, payload: impl Into<Vec<u8>>) -> Message {
    message(6, VIDEO, stream, timestamp, payload)
}

/// The server under attack.
pub struct Scene {
    pub server: Server,
    healthy: Pair,
    before: Metrics,
    rss_kib: u64,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With further flags.
    pub fn with(flags: &[&str]) -> Self {
        let flags = [&["--unpublish-grace-s", "1"][..], flags].concat();
        let server = Server::start(Driver::Uring, 1, &flags);
        let mut healthy = Pair::new(&server, "healthy");
        healthy.assert_flows();
        let before = server.metrics();
        let rss_kib = server.rss_kib();
        Self { server, healthy, before, rss_kib }
    }

    pub fn dial(&self) -> Peer {
        Peer::dial(self.server.rtmp)
    }

    pub fn greeted(&self) -> Peer {
        Peer::greeted(self.server.rtmp)
    }

    pub fn connected(&self) -> Peer {
        Peer::connected(self.server.rtmp)
    }

    pub fn pair(&self) -> Pair {
        Pair::new(&self.server, "subject")
    }

    /// The server closed `peer` for `reason`, by now or soon.
    #[track_caller]
    pub fn assert_closed(&self, mut peer: Peer, reason: &str) {
        self.assert_closed_again(&mut peer, reason, 1);
    }

    /// As `assert_closed`, for the `count`th time in this test.
    #[track_caller]
    pub fn assert_closed_again(&self, peer: &mut Peer, reason: &str, count: u32) {
        let closed = peer.closes_within(seconds(10));
        let reasons = self.server.metrics().grown(&self.before, CLOSED);
        assert!(closed, "the connection is still open, to be closed for {reason}; closed so far: {reasons:?}");
        self.wait_counted(CLOSED, reason, count);
    }

    #[track_caller]
    pub fn assert_refused(&self, reason: &str, count: u32) {
        self.wait_counted(REFUSED, reason, count);
    }

    #[track_caller]
    fn wait_counted(&self, counter: &str, reason: &str, count: u32) {
        let labels = [("reason", reason)];
        let before = self.before.sum(counter, &labels);
        self.server.wait_metric(counter, &labels, |now| now >= before + f64::from(count));
        let reasons = self.server.metrics().grown(&self.before, counter);
        assert!(reasons.iter().all(|counted| counted == reason || counted == "peer_closed"), "also: {reasons:?}");
    }

    /// How often connections were closed for `reason` in this test.
    pub fn closed(&self, reason: &str) -> u32 {
        let labels = [("reason", reason)];
        (self.server.metrics().sum(CLOSED, &labels) - self.before.sum(CLOSED, &labels)) as u32
    }

    #[track_caller]
    pub fn assert_memory_bounded(&self) {
        let now = self.server.rss_kib();
        let grown = now.saturating_sub(self.rss_kib);
        assert!(grown <= GROWTH_KIB_MAX, "resident memory grew by {grown} KiB to {now} KiB");
    }

    /// The end of every test: the server runs, the healthy pair lost nothing.
    #[track_caller]
    pub fn assert_unharmed(mut self) {
        self.healthy.assert_flows();
        self.server.assert_running();
        assert!(!self.server.log().contains("panicked"), "something panicked");
    }
}
