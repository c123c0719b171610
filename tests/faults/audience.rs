//! A publisher and 200 players that keep the rules, and what became of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::common::{
    rtmp::{AUDIO, Got, Message, Peer, VIDEO, message},
    seconds,
    server::{Driver, Server},
    wait_for,
};

pub const PLAYERS: usize = 200;
pub const FRAME: Duration = Duration::from_millis(40);
/// In frames.
pub const GOP: u32 = 25;
/// From when a frame was sent to when a player has it, at the 99th percentile, on a machine whose CPUs players, node and
/// other tests share.
const DELAY_BAR: Duration = Duration::from_millis(250);
/// What a node may keep of memory, and how long it has to give back the rest.
const RSS_SHARE: f64 = 0.05;
const RSS_FLOOR_KIB: f64 = 16.0 * 1_024.0;
const RECOVERY: Duration = seconds(60);

/// A video frame of `bytes` bytes that says which it is; every 25th is a keyframe.
pub fn frame(stream: u32, number: u32, bytes: usize) -> Message {
    let kind = if number.is_multiple_of(GOP) { 0x17 } else { 0x27 };
    let mut payload = [&[kind, 1, 0, 0, 0][..], &number.to_be_bytes(), &[0; 8]].concat();
    payload.resize(bytes, number as u8);
    message(6, VIDEO, stream, number * FRAME.as_millis() as u32, payload)
}

/// Which frame a message is.
pub fn number(message: &Message) -> u32 {
    let bytes: [u8; 4] = message.payload[5..9].try_into().expect("a frame of ours");
    u32::from_be_bytes(bytes)
}

/// Sound that says the same.
pub fn sound(stream: u32, number: u32) -> Message {
    let payload = [&[0xAF, 1, 0, 0, 0][..], &number.to_be_bytes(), &[0x55; 200]].concat();
    message(4, AUDIO, stream, number * FRAME.as_millis() as u32, payload)
}

/// See the file's head.
pub struct Audience {
    stop: Arc<AtomicBool>,
    publisher: JoinHandle<Result<u32, String>>,
    players: Vec<JoinHandle<Player>>,
}

struct Player {
    /// When a frame came, and how long after it was sent.
    frames: Vec<(Instant, Duration)>,
    first: Option<u32>,
    next: u32,
    faults: Vec<String>,
}

impl Audience {
    /// Publishes `name` and has it played: all players are there before the first frame.
    #[track_caller]
    pub fn new(server: &Server, name: &str, players: usize) -> Self {
        let before = server.metrics().sum("shardcast_players", &[]);
        let peers: Vec<Peer> = (0..players).map(|_| Peer::player(server.rtmp, name)).collect();
        let audience = Self::of(peers, server.rtmp, name);
        server.wait_metric("shardcast_players", &[], |now| now >= before + players as f64);
        audience
    }

    /// Players that have asked for what is published now at `addr`.
    pub fn of(peers: Vec<Peer>, addr: SocketAddr, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let origin = Instant::now();
        let play = |peer| {
            let stop = stop.clone();
            let small = std::thread::Builder::new().stack_size(512 * 1_024);
            small.spawn(move || Player::watch(peer, origin, &stop)).expect("a thread")
        };
        let players = peers.into_iter().map(play).collect();
        let (publisher, stream) = Peer::publisher(addr, name);
        let over = stop.clone();
        let publisher = std::thread::spawn(move || publish(publisher, stream, origin, &over));
        Self { stop, publisher, players }
    }

    /// Whether all who began still watch and publish.
    pub fn is_whole(&self) -> bool {
        !self.publisher.is_finished() && self.players.iter().all(|player| !player.is_finished())
    }

    /// Ends it: each player has had every frame, whole, once and in order. How late those since then were (p99).
    #[track_caller]
    pub fn assert_nothing_lost(self, since: Instant) -> Duration {
        let until = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.publisher.join().expect("it does not panic").expect("the publisher is served");
        let mut delays = Vec::new();
        for (who, player) in self.players.into_iter().enumerate() {
            let player = player.join().expect("it does not panic");
            assert!(player.faults.is_empty(), "player {who}: {:?}", player.faults);
            assert_eq!((player.first, player.next), (Some(0), sent), "player {who}: first and last frame");
            delays.extend(player.frames.iter().filter(|(at, _)| (since..until).contains(at)).map(|(_, delay)| *delay));
        }
        delays.sort_unstable();
        let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or_default();
        eprintln!("{} frames since, p99 {p99:?}", delays.len());
        p99
    }

    /// As `assert_nothing_lost`, and what came since then came in time.
    #[track_caller]
    pub fn assert_unharmed(self, since: Instant) {
        let p99 = self.assert_nothing_lost(since);
        assert!(p99 <= DELAY_BAR, "frames were {p99:?} late (p99)");
    }
}

/// How many frames were sent.
fn publish(mut peer: Peer, stream: u32, origin: Instant, over: &AtomicBool) -> Result<u32, String> {
    let (begun, mut sent) = (Instant::now(), 0);
    while !over.load(Ordering::Relaxed) {
        let mut frame = frame(stream, sent, 2_000);
        frame.payload[9..17].copy_from_slice(&(origin.elapsed().as_nanos() as u64).to_be_bytes());
        if !peer.send(&frame) || !peer.send(&sound(stream, sent)) {
            return Err(format!("its connection was closed after frame {sent}"));
        }
        sent += 1;
        // What it is told is read, so that its end is not a reset.
        while let Got::Message(_) = peer.next(Duration::from_micros(1)) {}
        std::thread::sleep((begun + FRAME * sent).saturating_duration_since(Instant::now()));
    }
    // The players have to see the last one.
    std::thread::sleep(Duration::from_millis(500));
    Ok(sent)
}

impl Player {
    fn watch(mut peer: Peer, origin: Instant, stop: &AtomicBool) -> Self {
        let mut player = Self { frames: Vec::new(), first: None, next: 0, faults: Vec::new() };
        let mut patience_ends = None;
        while player.faults.is_empty() {
            match peer.next(Duration::from_millis(100)) {
                Got::Message(message) if message.type_id == VIDEO => player.take(&message, origin),
                Got::Message(_) => {}
                Got::Closed if patience_ends.is_some() => break,
                Got::Closed => player.faults.push(format!("was closed after frame {}", player.next)),
                Got::TimedOut => {}
            }
            if stop.load(Ordering::Relaxed) {
                let ends = *patience_ends.get_or_insert_with(|| Instant::now() + Duration::from_millis(1_500));
                if Instant::now() >= ends {
                    break;
                }
            }
        }
        player
    }

    fn take(&mut self, message: &Message, origin: Instant) {
        let number = number(message);
        let stamp: [u8; 8] = message.payload[9..17].try_into().expect("a frame of ours");
        let delay = origin.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(stamp)));
        let whole = message.payload.len() == 2_000 && message.payload[17..].iter().all(|byte| *byte == number as u8);
        if !whole {
            self.faults.push(format!("frame {number} is damaged"));
        }
        if *self.first.get_or_insert(number) != number && self.next != number {
            self.faults.push(format!("frame {number} came where {} was due", self.next));
        }
        self.next = number + 1;
        self.frames.push((Instant::now(), delay));
    }
}

/// A node with an audience, and what it took before a fault.
pub struct Ground {
    pub server: Server,
    pub audience: Audience,
    descriptors: usize,
    rss_kib: u64,
    since: Instant,
}

impl Ground {
    pub fn new(flags: &[&str]) -> Self {
        Self::by(&[], flags)
    }

    /// As `new`, by a launcher.
    pub fn by(launcher: &[&str], flags: &[&str]) -> Self {
        let flags = [&["--unpublish-grace-s", "1"][..], flags].concat();
        let server = Server::start_by(launcher, Driver::Auto, 2, &flags);
        let audience = Audience::new(&server, "healthy", PLAYERS);
        server.wait_live("healthy");
        std::thread::sleep(seconds(1));
        let (descriptors, rss_kib) = (server.descriptors(), server.rss_kib());
        Self { server, audience, descriptors, rss_kib, since: Instant::now() }
    }

    /// After the fault, and after all who brought it about have left.
    #[track_caller]
    pub fn assert_recovers(self) {
        let since = self.since;
        self.assert_recovered(since);
    }

    /// After a fault that held up everything until now.
    #[track_caller]
    pub fn assert_resumes(self) {
        std::thread::sleep(seconds(1));
        let since = Instant::now();
        std::thread::sleep(seconds(1));
        self.assert_recovered(since);
    }

    #[track_caller]
    fn assert_recovered(mut self, since: Instant) {
        self.server.assert_running();
        let allowed = self.rss_kib as f64 + (self.rss_kib as f64 * RSS_SHARE).max(RSS_FLOOR_KIB);
        wait_for("memory to come back", RECOVERY, || (self.server.rss_kib() as f64 <= allowed).then_some(()));
        wait_for("descriptors to come back", RECOVERY, || {
            (self.server.descriptors() == self.descriptors).then_some(())
        });
        self.audience.assert_unharmed(since);
        assert!(!self.server.log().contains("panicked"), "something panicked");
    }
}
