//! A worker: one thread, one epoll, its share of publishers and players. Publishers come first in every turn, because
//! a late publisher spoils every delay that is measured.

use crate::link::DISCARD_BYTES;
use crate::payload::FrameWriter;
use crate::player::{Player, Role, Step};
use crate::publisher::Publisher;
use crate::shared::{NO_PART, Phase, Settings, Shared};
use crate::sockets;
use crate::sys::{self, Epoll, Ready, monotonic_ns};
use crate::tally::Tally;
use crate::verify::Verifier;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes one receive of a parsing player may take.
const READ_BYTES: usize = 256 * 1024;
/// Drained players read before publishers get their turn again.
const SWEEP_PLAYERS: usize = 64;
/// The controlling thread's wishes are looked at this often.
const LOOK_NS: u64 = 5_000_000;
/// The delay so far is worked out this often, which takes some microseconds, if progress is shown.
const DELAY_LOOK_NS: u64 = 500_000_000;
/// Looks for stalled players that the server has let go.
const STALLED_LOOK_NS: u64 = 100_000_000;
/// Tokens of publishers have this bit; the rest is an index.
const PUBLISHER: u64 = 1 << 32;

/// A worker's connections to be.
#[derive(Clone, Debug, Default)]
pub struct Share {
    pub worker: usize,
    /// Stream numbers.
    pub publishers: Vec<usize>,
    /// Stream number and role.
    pub players: Vec<(usize, Role)>,
    /// How many of the players connect first; the others in [`Phase::Grow`].
    pub first: usize,
}

/// What a worker's connections use together.
pub struct Bench {
    pub epoll: Epoll,
    pub buffer: Vec<u8>,
    pub scratch: Vec<MaybeUninit<u8>>,
    pub frames: FrameWriter,
    /// Frames due in here count; publishers stop at its end. In ns.
    pub window: Range<u64>,
    /// The window's part, by number.
    pub part: usize,
    /// Received by all players of this worker.
    pub player_bytes: u64,
    pub tally: Tally,
}

#[derive(Clone, Copy)]
enum Connect {
    Publisher(usize),
    Player(usize),
}

pub struct Worker<'a> {
    settings: &'a Settings,
    shared: &'a Shared,
    share: Share,
    bench: Bench,
    /// `None` before the connect and after a failure; indexes are those of the share.
    publishers: Vec<Option<Publisher>>,
    players: Vec<Option<Player>>,
    /// What failed verified players had seen, with their streams: all that came later is lost to them.
    fallen: Vec<(usize, Verifier)>,
    /// Bytes each player had when the window began.
    window_start_bytes: Option<Vec<u64>>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    connects: VecDeque<Connect>,
    next_connect_ns: u64,
    next_look_ns: u64,
    /// When to say what the delay is; never if nobody wants to know.
    next_delay_ns: u64,
    next_sweep_ns: u64,
    /// When to look for stalled players that were let go.
    next_stalled_ns: u64,
    sweep_at: usize,
    phase: Phase,
    settled: bool,
}

impl<'a> Worker<'a> {
    pub fn new(settings: &'a Settings, shared: &'a Shared, share: Share) -> std::io::Result<Self> {
        let bench = Bench {
            epoll: Epoll::new()?,
            buffer: vec![0; READ_BYTES],
            scratch: vec![MaybeUninit::uninit(); DISCARD_BYTES],
            frames: FrameWriter::new(),
            window: u64::MAX..u64::MAX,
            part: NO_PART,
            player_bytes: 0,
            tally: Tally::with_parts(settings.parts),
        };
        let connects = (0..share.publishers.len()).map(Connect::Publisher).collect();
        Ok(Self {
            publishers: share.publishers.iter().map(|_| None).collect(),
            players: share.players.iter().map(|_| None).collect(),
            settings,
            shared,
            share,
            bench,
            fallen: Vec::new(),
            window_start_bytes: None,
            due: BinaryHeap::new(),
            connects,
            next_connect_ns: monotonic_ns(),
            next_look_ns: 0,
            next_delay_ns: if settings.progress { 0 } else { u64::MAX },
            next_sweep_ns: 0,
            next_stalled_ns: u64::MAX,
            sweep_at: 0,
            phase: Phase::Publish,
            settled: false,
        })
    }

    /// Runs until the controlling thread closes the run.
    pub fn run(mut self) -> std::io::Result<Tally> {
        sys::wake_on_time();
        self.shared.gauges[self.share.worker].thread_id.store(sys::thread_id(), Ordering::Relaxed);
        let mut ready = Vec::new();
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= self.next_look_ns {
                self.look(now_ns);
                if self.phase == Phase::Close {
                    return Ok(self.finish());
                }
            }
            self.send_due();
            self.connect_due(now_ns);
            self.sweep_due(now_ns);
            let timeout = Duration::from_nanos(self.next_turn_ns().saturating_sub(monotonic_ns()));
            self.bench.epoll.wait(timeout, &mut ready)?;
            for event in &ready {
                self.handle(*event);
                if self.due.peek().is_some_and(|Reverse((at_ns, _))| *at_ns <= monotonic_ns()) {
                    self.send_due();
                }
            }
        }
    }

    /// Takes note of the phase and the window, and publishes the gauges.
    fn look(&mut self, now_ns: u64) {
        self.next_look_ns = now_ns + LOOK_NS;
        let phase = self.shared.phase();
        let (first, all) = (self.share.first, self.share.players.len());
        let connecting = match (self.phase, phase) {
            (Phase::Publish, Phase::Join) => 0..first,
            (Phase::Join, Phase::Grow) => first..all,
            _ => 0..0,
        };
        if !connecting.is_empty() {
            self.connects.extend(connecting.map(Connect::Player));
            self.next_connect_ns = now_ns;
        }
        self.phase = phase;
        self.bench.window = self.shared.window();
        self.bench.part = self.shared.part();
        if now_ns >= self.bench.window.start && self.window_start_bytes.is_none() {
            let bytes = |player: &Option<Player>| player.as_ref().map_or(0, |player| player.bytes);
            self.window_start_bytes = Some(self.players.iter().map(bytes).collect());
            self.stall(now_ns);
        }
        if now_ns >= self.next_stalled_ns {
            self.next_stalled_ns = now_ns + STALLED_LOOK_NS;
            self.find_closed(now_ns);
        }
        let gauges = &self.shared.gauges[self.share.worker];
        gauges.player_bytes.store(self.bench.player_bytes, Ordering::Relaxed);
        gauges.cpu_ns.store(sys::thread_cpu_ns(), Ordering::Relaxed);
        if now_ns >= self.next_delay_ns {
            self.next_delay_ns = now_ns + DELAY_LOOK_NS;
            gauges.delay_p99_micros.store(self.bench.tally.delay.p99_micros(), Ordering::Relaxed);
        }
        if now_ns >= self.bench.window.end && !self.settled {
            self.settle(now_ns);
        }
    }

    /// Those that are to stop reading stop now.
    fn stall(&mut self, now_ns: u64) {
        for index in 0..self.players.len() {
            let Some(player) = self.players[index].as_mut().filter(|player| player.role == Role::Stalled) else {
                continue;
            };
            match player.stall(&self.bench, now_ns) {
                Ok(()) => self.next_stalled_ns = now_ns + STALLED_LOOK_NS,
                Err(reason) => self.player_failed(index, reason),
            }
        }
    }

    /// An orderly end does not reach a peer that does not read: it is behind data the peer has no room for. The kernel's
    /// table of sockets tells, if the server is on this machine.
    fn find_closed(&mut self, now_ns: u64) {
        let Some(served) = sockets::served_ports(self.settings.address.port()) else { return };
        for index in 0..self.players.len() {
            let Some(player) = self.players[index].as_ref().filter(|player| player.stalled_ns().is_some()) else {
                continue;
            };
            if player.local_port().is_some_and(|port| !served.contains(&port)) {
                self.stalled_closed(index, now_ns);
            }
        }
    }

    fn stalled_closed(&mut self, index: usize, now_ns: u64) {
        let Some(since_ns) = self.players[index].take().and_then(|player| player.stalled_ns()) else { return };
        self.bench.tally.stalled_closed.record_ns(now_ns - since_ns);
    }

    /// Once publishers have stopped: are the verified players done?
    fn settle(&mut self, now_ns: u64) {
        let done = |player: &Player| match (player.verifier(), self.shared.streams[player.stream].sent()) {
            (Some(verifier), Some(sent)) => verifier.complete(sent),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if self.players.iter().flatten().all(done) || now_ns >= self.shared.give_up_ns() {
            self.settled = true;
            self.shared.settled.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn next_turn_ns(&self) -> u64 {
        let due_ns = self.due.peek().map_or(u64::MAX, |Reverse((at_ns, _))| *at_ns);
        let connect_ns = if self.connects.is_empty() { u64::MAX } else { self.next_connect_ns };
        self.next_look_ns.min(due_ns).min(connect_ns).min(self.next_sweep_ns)
    }

    fn send_due(&mut self) {
        while let Some(Reverse((at_ns, index))) = self.due.peek().copied() {
            if at_ns > monotonic_ns() {
                return;
            }
            self.due.pop();
            let Some(publisher) = &mut self.publishers[index] else { continue };
            if self.settings.unpaced && monotonic_ns() >= self.bench.window.start {
                self.send_unpaced(index);
                continue;
            }
            if let Err(reason) = publisher.send_due(self.settings, &mut self.bench) {
                self.publisher_failed(index, reason);
                continue;
            }
            match publisher.next_due_ns() {
                Some(next_ns) if next_ns < self.bench.window.end => self.due.push(Reverse((next_ns, index))),
                _ => self.shared.streams[publisher.stream].end(publisher.sent()),
            }
        }
    }

    fn send_unpaced(&mut self, index: usize) {
        let Some(publisher) = &mut self.publishers[index] else { return };
        let stream = &self.shared.streams[publisher.stream];
        match publisher.send_unpaced(stream.seen_least(), &mut self.bench) {
            Ok(next_ns) if next_ns < self.bench.window.end => self.due.push(Reverse((next_ns, index))),
            Ok(_) => stream.end(publisher.sent()),
            Err(reason) => self.publisher_failed(index, reason),
        }
    }

    fn connect_due(&mut self, now_ns: u64) {
        while now_ns >= self.next_connect_ns {
            let Some(connect) = self.connects.pop_front() else { return };
            let workers = self.settings.threads as u64;
            self.next_connect_ns += 1_000_000_000 * workers / u64::from(self.settings.connects_per_second.max(1));
            match connect {
                Connect::Publisher(index) => {
                    let (stream, token) = (self.share.publishers[index], PUBLISHER | index as u64);
                    match Publisher::connect(self.settings, stream, token, &self.bench) {
                        Ok(publisher) => self.publishers[index] = Some(publisher),
                        Err(reason) => self.publisher_failed(index, reason),
                    }
                }
                Connect::Player(index) => {
                    let (stream, role) = self.share.players[index];
                    match Player::connect(self.settings, stream, role, index as u64, &self.bench) {
                        Ok(mut player) => {
                            if self.settings.unpaced && role == Role::Verified {
                                player.report_to(self.shared.streams[stream].watch());
                            }
                            self.players[index] = Some(player);
                        }
                        Err(reason) => self.player_failed(index, reason),
                    }
                }
            }
        }
    }

    fn handle(&mut self, ready: Ready) {
        let index = usize::try_from(ready.token & (PUBLISHER - 1)).unwrap_or(usize::MAX);
        if ready.token & PUBLISHER != 0 {
            let Some(Some(publisher)) = self.publishers.get_mut(index) else { return };
            match publisher.ready(ready, self.settings, &mut self.bench) {
                Ok(false) => {}
                Ok(true) => {
                    self.due.push(Reverse((publisher.next_due_ns().unwrap_or(0), index)));
                    self.shared.publishing.fetch_add(1, Ordering::AcqRel);
                }
                Err(reason) => self.publisher_failed(index, reason),
            }
            return;
        }
        let Some(Some(player)) = self.players.get_mut(index) else { return };
        if player.stalled_ns().is_some() {
            return self.stalled_closed(index, monotonic_ns());
        }
        match player.ready(ready, self.settings, &mut self.bench) {
            Ok(Step::Same) => {}
            Ok(Step::Joined) => {
                self.shared.joined.fetch_add(1, Ordering::AcqRel);
            }
            Err(reason) => self.player_failed(index, reason),
        }
    }

    /// Reads the next few drained players, so that each is read once in `drain_every`.
    fn sweep_due(&mut self, now_ns: u64) {
        if now_ns < self.next_sweep_ns {
            return;
        }
        let count = self.players.len().min(SWEEP_PLAYERS);
        for _ in 0..count {
            self.sweep_at = (self.sweep_at + 1) % self.players.len();
            let Some(player) = &mut self.players[self.sweep_at] else { continue };
            if !player.drained() {
                continue;
            }
            if let Err(reason) = player.drain(&mut self.bench, now_ns) {
                self.player_failed(self.sweep_at, reason);
            }
        }
        let every_ns = u64::try_from(self.settings.drain_every.as_nanos()).unwrap_or(u64::MAX);
        self.next_sweep_ns = now_ns + every_ns * count as u64 / self.players.len().max(1) as u64;
        if count == 0 {
            self.next_sweep_ns = u64::MAX;
        }
    }

    fn publisher_failed(&mut self, index: usize, reason: String) {
        let sent = self.publishers[index].take().map_or([0; 2], |publisher| publisher.sent());
        self.shared.streams[self.share.publishers[index]].end(sent);
        self.bench.tally.publishers_failed += 1;
        if self.phase == Phase::Publish {
            self.shared.fail(reason.clone());
        }
        self.bench.tally.reason(reason);
    }

    fn player_failed(&mut self, index: usize, reason: String) {
        let mut player = self.players[index].take();
        player.iter_mut().for_each(|player| player.leave(&mut self.bench));
        if player.as_ref().is_none_or(|player| !player.joined()) {
            self.bench.tally.players_unjoined += 1;
            self.shared.joined.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(player) = player {
            let stream = player.stream;
            self.fallen.extend(player.into_verifier().map(|verifier| (stream, verifier)));
        }
        self.bench.tally.players_failed += 1;
        self.bench.tally.reason(reason);
    }

    fn finish(mut self) -> Tally {
        let starts = self.window_start_bytes.take().unwrap_or_default();
        for (index, slot) in std::mem::take(&mut self.players).into_iter().enumerate() {
            let Some(mut player) = slot else { continue };
            player.leave(&mut self.bench);
            self.bench.tally.players_unjoined += u64::from(!player.joined());
            if player.stalled_ns().is_some() {
                self.bench.tally.stalled_open += 1;
                continue;
            }
            let start = starts.get(index).copied().unwrap_or(0);
            self.bench.tally.window_bytes.push((player.stream, player.bytes - start));
            let stream = player.stream;
            self.fallen.extend(player.into_verifier().map(|verifier| (stream, verifier)));
        }
        for (stream, verifier) in self.fallen {
            let sent = self.shared.streams[stream].sent().unwrap_or_default();
            self.bench.tally.findings.add(&verifier.finish(sent));
        }
        self.bench.tally.players_unjoined += self.connects.len() as u64;
        self.bench.tally
    }
}
