//! What the controlling thread and the workers tell each other. Counters and stamps only; nobody waits for a lock
//! while media flows.

use crate::payload::Track;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What all workers need to know about a run.
#[derive(Clone, Debug)]
pub struct Settings {
    pub address: SocketAddr,
    /// Players speak TLS.
    pub secure: bool,
    /// Where publishers connect, and whether over TLS.
    pub publish_address: SocketAddr,
    pub publish_secure: bool,
    pub tc_url: String,
    pub app: String,
    /// The name of each stream.
    pub names: Vec<String>,
    pub shape: crate::pacing::Shape,
    pub chunk_bytes: usize,
    /// Each drained player is read this often.
    pub drain_every: Duration,
    /// The workers this many connects per second share.
    pub connects_per_second: u32,
    pub threads: usize,
    /// Receive buffer of players that stop reading.
    pub stalled_receive_bytes: usize,
    /// Publishers send as fast as verified players receive, instead of when frames are due.
    pub unpaced: bool,
    /// Parts of the window whose delays are kept apart.
    pub parts: usize,
    /// Workers say now and then what the delay is.
    pub progress: bool,
}

/// Outside all parts of the window.
pub const NO_PART: usize = usize::MAX;

/// Only the controlling thread changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Publishers connect and send.
    Publish,
    /// The first part of the players connects.
    Join,
    /// The rest of them.
    Grow,
    /// All connections go.
    Close,
}

pub struct Shared {
    phase: AtomicU32,
    window_from_ns: AtomicU64,
    window_until_ns: AtomicU64,
    give_up_ns: AtomicU64,
    part: AtomicUsize,
    /// Publishers that may send.
    pub publishing: AtomicUsize,
    /// Players that have their first keyframe, or failed.
    pub joined: AtomicUsize,
    /// Workers whose verified players have everything, or have given up.
    pub settled: AtomicUsize,
    pub streams: Vec<StreamEnd>,
    pub gauges: Vec<Gauges>,
    /// Why the run cannot go on.
    fatal: Mutex<Option<String>>,
    failed: AtomicBool,
}

/// How a stream ended: what players have to have seen.
#[derive(Default)]
pub struct StreamEnd {
    sent: [AtomicU64; 2],
    ended: AtomicBool,
    /// Video frames each verified player has seen, for an unpaced publisher.
    seen: Mutex<Vec<Arc<AtomicU64>>>,
}

/// A worker's running figures.
#[derive(Default)]
pub struct Gauges {
    /// Received by all players of this worker.
    pub player_bytes: AtomicU64,
    pub cpu_ns: AtomicU64,
    /// The 99th percentile so far; 0 before the first, and when no progress is shown.
    pub delay_p99_micros: AtomicU64,
    pub thread_id: AtomicU32,
}

impl Shared {
    pub fn new(streams: usize, workers: usize) -> Self {
        Self {
            phase: AtomicU32::new(Phase::Publish as u32),
            window_from_ns: AtomicU64::new(u64::MAX),
            window_until_ns: AtomicU64::new(u64::MAX),
            give_up_ns: AtomicU64::new(u64::MAX),
            part: AtomicUsize::new(NO_PART),
            publishing: AtomicUsize::new(0),
            joined: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            streams: (0..streams).map(|_| StreamEnd::default()).collect(),
            gauges: (0..workers).map(|_| Gauges::default()).collect(),
            fatal: Mutex::new(None),
            failed: AtomicBool::new(false),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Publish,
            1 => Phase::Join,
            2 => Phase::Grow,
            _ => Phase::Close,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u32, Ordering::Release);
    }

    /// Frames due from `from_ns` on count, up to `until_ns`, when publishers stop; at `give_up_ns` what has not come is
    /// lost.
    pub fn set_window(&self, from_ns: u64, until_ns: u64, give_up_ns: u64) {
        self.give_up_ns.store(give_up_ns, Ordering::Release);
        self.window_until_ns.store(until_ns, Ordering::Release);
        self.window_from_ns.store(from_ns, Ordering::Release);
    }

    pub fn window(&self) -> std::ops::Range<u64> {
        self.window_from_ns.load(Ordering::Acquire)..self.window_until_ns.load(Ordering::Acquire)
    }

    pub fn give_up_ns(&self) -> u64 {
        self.give_up_ns.load(Ordering::Acquire)
    }

    /// The window's part from now on, or [`NO_PART`].
    pub fn enter_part(&self, part: usize) {
        self.part.store(part, Ordering::Release);
    }

    pub fn part(&self) -> usize {
        self.part.load(Ordering::Acquire)
    }

    /// Of the worker that sees the worst.
    pub fn delay_p99_micros(&self) -> u64 {
        self.gauges.iter().map(|gauges| gauges.delay_p99_micros.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// Ends the run with an error; the first one is kept.
    pub fn fail(&self, reason: String) {
        let mut fatal = self.fatal.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        fatal.get_or_insert(reason);
        self.failed.store(true, Ordering::Release);
    }

    pub fn failure(&self) -> Option<String> {
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        self.fatal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn player_bytes(&self) -> u64 {
        self.gauges.iter().map(|gauges| gauges.player_bytes.load(Ordering::Relaxed)).sum()
    }

    pub fn cpu_ns(&self) -> Vec<u64> {
        self.gauges.iter().map(|gauges| gauges.cpu_ns.load(Ordering::Relaxed)).collect()
    }
}

impl StreamEnd {
    /// Where a verified player tells how far it is; `u64::MAX` while and when it does not count.
    pub fn watch(&self) -> Arc<AtomicU64> {
        let seen = Arc::new(AtomicU64::new(u64::MAX));
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(seen.clone());
        seen
    }

    /// Video frames the verified player furthest behind has seen; `None` if there is none.
    pub fn seen_least(&self) -> Option<u64> {
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.iter().map(|seen| seen.load(Ordering::Acquire)).filter(|seen| *seen != u64::MAX).min()
    }

    /// The publisher sends no more; `sent` counts frames by [`Track::index`].
    pub fn end(&self, sent: [u64; 2]) {
        for track in [Track::Audio, Track::Video] {
            self.sent[track.index()].store(sent[track.index()], Ordering::Relaxed);
        }
        self.ended.store(true, Ordering::Release);
    }

    /// What was sent, once the publisher has stopped.
    pub fn sent(&self) -> Option<[u64; 2]> {
        let sent = || [self.sent[0].load(Ordering::Relaxed), self.sent[1].load(Ordering::Relaxed)];
        self.ended.load(Ordering::Acquire).then(sent)
    }
}
