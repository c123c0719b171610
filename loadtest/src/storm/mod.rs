//! Connections that come, ask to play, and go: one thread, one epoll. What each does is an [`Attempt`]'s affair; when
//! the next begins, and how long it stays, is this file's.
//!
//! They leave with a reset, which frees their port at once: an orderly end would keep it for a minute, and a storm would
//! run out of ports.

mod attempt;
mod cached;

use crate::link::DISCARD_BYTES;
use crate::process;
use crate::shared::Settings;
use crate::stats::Times;
use crate::sys::{self, Epoll, Ready, monotonic_ns};
use attempt::{Attempt, Stay, Step};
use cached::Cached;
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An attempt not answered after this has failed.
const ANSWER_NS: u64 = 10_000_000_000;
/// Attempts under way at once when they come at a rate; a server this far behind fails further ones.
const OPEN_MAX: usize = 10_000;
const READ_BYTES: usize = 256 * 1024;
/// From burst to burst.
const BURST_NS: u64 = 1_000_000_000;
/// What the audience sees from so long before a burst until so long after counts as seen during it: the burst itself is
/// over in some milliseconds, and workers take note of a part of the window every five.
const BURST_LEAD_NS: u64 = 10_000_000;
const BURST_SHADOW_NS: u64 = 90_000_000;
/// How long those of a burst stay; like viewers, they take what they are sent.
const BURST_STAY_NS: u64 = 500_000_000;
/// Attempts at a whole GOP begin in its last tenth, but not so late that the next one begins before they play.
const GOP_END_SHARE: u64 = 10;
const GOP_MARGIN_NS: u64 = 30_000_000;
/// After an attempt at a whole GOP that found none.
const RETRY_NS: u64 = 100_000_000;
/// Different reasons of failures kept.
const REASONS_MAX: usize = 5;
/// Unanswered attempts are looked for this often.
const LOOK: Duration = Duration::from_millis(20);

/// When the next attempt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many under way, each followed by the next.
    AtOnce(u32),
    /// So many a second, whatever the server does.
    Rate(u32),
    /// So many at the same moment, once a second. They stay for half a second and read all they are sent.
    Burst(u32),
    /// One at a time, at the end of a GOP, and each stays until it has received all of what was cached.
    WholeGop,
}

/// What one storm has seen.
pub struct Outcome {
    pub mode: Mode,
    pub seconds: f64,
    pub begun: u64,
    pub answered: u64,
    pub failed: u64,
    /// Under way when time was up.
    pub unfinished: u64,
    /// From when an attempt was due to the answer to `play`.
    pub connect: Times,
    /// From sending `play` to its answer.
    pub play: Times,
    /// From sending `play`, and from when an attempt was due, to the last byte of what was cached.
    pub whole: Times,
    pub connect_to_whole: Times,
    /// Bytes of media until then, of all those together.
    pub whole_bytes: u64,
    /// Attempts that were sent nothing older than their `play`.
    pub uncached: u64,
    /// From when an attempt was due to when it began.
    pub late: Times,
    pub reasons: BTreeSet<String>,
    /// Of one CPU, by this thread.
    pub cpu_share: f64,
    pub waited_share: f64,
}

struct Storm<'a> {
    settings: &'a Settings,
    epoll: Epoll,
    buffer: Vec<u8>,
    scratch: Vec<MaybeUninit<u8>>,
    /// When a keyframe of the stream was due; all others are whole GOPs away.
    keyframe_ns: Option<u64>,
    /// Attempts at a whole GOP begin no earlier.
    retry_ns: u64,
    /// Told when a burst begins and ends, as far as the audience is concerned.
    mark: &'a dyn Fn(bool),
    marked: bool,
    shadow_until_ns: u64,
    slots: Vec<Option<Attempt>>,
    free: Vec<usize>,
    outcome: Outcome,
}

/// Storms the first stream for `duration`, or until `over`; `mark` is told when a burst begins and ends.
/// On a thread of its own: it may stand back.
///
/// # Errors
/// epoll failed.
pub fn storm(
    s: &Settings,
    mode: Mode,
    duration: Duration,
    over: &AtomicBool,
    mark: &dyn Fn(bool),
) -> std::io::Result<Outcome> {
    sys::wake_on_time();
    if matches!(mode, Mode::Burst(_)) {
        // What the audience sees is measured, so a worker on the same CPU goes first.
        sys::stand_back();
    }
    let slots = match mode {
        Mode::AtOnce(count) => usize::try_from(count).unwrap_or(OPEN_MAX),
        Mode::Rate(_) | Mode::Burst(_) => OPEN_MAX,
        Mode::WholeGop => 1,
    };
    let storm = Storm {
        settings: s,
        epoll: Epoll::new()?,
        buffer: vec![0; READ_BYTES],
        scratch: vec![MaybeUninit::uninit(); DISCARD_BYTES],
        keyframe_ns: None,
        retry_ns: 0,
        mark,
        marked: true,
        shadow_until_ns: 0,
        slots: (0..slots).map(|_| None).collect(),
        free: (0..slots).rev().collect(),
        outcome: Outcome::new(mode),
    };
    storm.run(duration, over)
}

impl Storm<'_> {
    fn run(mut self, duration: Duration, over: &AtomicBool) -> std::io::Result<Outcome> {
        let start_ns = monotonic_ns();
        let until_ns = start_ns + u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4);
        let (cpu_ns, waited) = (sys::thread_cpu_ns(), waited_seconds());
        let lead_ns = if matches!(self.outcome.mode, Mode::Burst(_)) { 2 * BURST_LEAD_NS } else { 0 };
        let (mut next_due_ns, mut next_look_ns) = (start_ns + lead_ns, start_ns);
        let mut ready = Vec::new();
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= until_ns || over.load(Ordering::Acquire) {
                break;
            }
            if now_ns >= next_look_ns {
                next_look_ns = now_ns + u64::try_from(LOOK.as_nanos()).unwrap_or(0);
                self.leave_due(now_ns);
            }
            let wake_ns = self.begin_due(now_ns, &mut next_due_ns).min(next_look_ns).min(until_ns);
            self.epoll.wait(Duration::from_nanos(wake_ns.saturating_sub(monotonic_ns())), &mut ready)?;
            ready.iter().for_each(|event| self.handle(*event));
        }
        let seconds = (monotonic_ns() - start_ns) as f64 / 1e9;
        let mut outcome = self.outcome;
        outcome.unfinished = self.slots.iter().flatten().filter(|attempt| !attempt.answered).count() as u64;
        outcome.seconds = seconds;
        outcome.cpu_share = (sys::thread_cpu_ns() - cpu_ns) as f64 / 1e9 / seconds;
        outcome.waited_share = (waited_seconds() - waited) / seconds;
        Ok(outcome)
    }

    /// Begins what is due; returns when the next is.
    fn begin_due(&mut self, now_ns: u64, next_due_ns: &mut u64) -> u64 {
        match self.outcome.mode {
            Mode::AtOnce(_) => {
                // As many as there were free: one that fails at once is not begun again before the next turn.
                for _ in 0..self.free.len() {
                    self.begin(monotonic_ns());
                }
                if self.free.is_empty() { u64::MAX } else { now_ns + 1_000_000 }
            }
            Mode::Rate(rate) => {
                while *next_due_ns <= now_ns {
                    self.begin(*next_due_ns);
                    *next_due_ns += 1_000_000_000 / u64::from(rate.max(1));
                }
                *next_due_ns
            }
            Mode::Burst(count) => self.burst_due(count, now_ns, next_due_ns),
            Mode::WholeGop => {
                let at_ns = self.gop_end_ns(now_ns).max(self.retry_ns);
                if self.free.is_empty() {
                    return u64::MAX;
                }
                if at_ns <= now_ns {
                    self.begin(monotonic_ns());
                }
                at_ns.max(now_ns + 1_000_000)
            }
        }
    }

    fn burst_due(&mut self, count: u32, now_ns: u64, next_due_ns: &mut u64) -> u64 {
        if *next_due_ns <= now_ns {
            // Each counts from its own connect: that they are one after the other is what one thread can do.
            (0..count).for_each(|_| self.begin(monotonic_ns()));
            self.shadow_until_ns = now_ns + BURST_SHADOW_NS;
            *next_due_ns += BURST_NS;
        }
        let lead_ns = next_due_ns.saturating_sub(BURST_LEAD_NS);
        let marked = now_ns < self.shadow_until_ns || now_ns >= lead_ns;
        if marked != self.marked {
            (self.mark)(marked);
            self.marked = marked;
        }
        [self.shadow_until_ns, lead_ns, *next_due_ns]
            .into_iter()
            .filter(|at_ns| *at_ns > now_ns)
            .min()
            .unwrap_or(now_ns)
    }

    /// From when an attempt finds all of a GOP but its last tenth cached: at once if it is so now, or if nothing is known.
    fn gop_end_ns(&self, now_ns: u64) -> u64 {
        let gop_ns = self.settings.shape.gop_ns.max(1);
        let Some(keyframe_ns) = self.keyframe_ns else { return now_ns };
        let into_ns = now_ns.saturating_sub(keyframe_ns) % gop_ns;
        let from_ns = gop_ns - gop_ns / GOP_END_SHARE;
        match into_ns {
            _ if into_ns < from_ns => now_ns + from_ns - into_ns,
            _ if into_ns + GOP_MARGIN_NS >= gop_ns => now_ns + gop_ns - into_ns + from_ns,
            _ => now_ns,
        }
    }

    fn begin(&mut self, due_ns: u64) {
        self.outcome.begun += 1;
        self.outcome.late.record_ns(monotonic_ns().saturating_sub(due_ns));
        let Some(slot) = self.free.pop() else {
            return self.failed(format!("{OPEN_MAX} attempts were unanswered at once"));
        };
        let token = self.outcome.begun << 16 | slot as u64;
        let (stay, frame_ns) = match self.outcome.mode {
            Mode::AtOnce(_) | Mode::Rate(_) => (Stay::Answer, 0),
            Mode::Burst(_) => (Stay::Until(due_ns + BURST_STAY_NS), 0),
            Mode::WholeGop => (Stay::Whole, 1_000_000_000 / self.settings.shape.frames_per_second.max(1)),
        };
        match Attempt::connect(self.settings, &self.epoll, due_ns, token, stay, frame_ns) {
            Ok(attempt) => self.slots[slot] = Some(attempt),
            Err(error) => {
                self.free.push(slot);
                self.failed(format!("connect: {error}"));
            }
        }
    }

    fn handle(&mut self, ready: Ready) {
        let slot = usize::try_from(ready.token & 0xFFFF).unwrap_or(0);
        let Some(Some(attempt)) = self.slots.get_mut(slot) else { return };
        if attempt.token != ready.token {
            return;
        }
        let answered_before = attempt.answered;
        let step = attempt.ready(ready, &self.epoll, &mut self.buffer, &mut self.scratch);
        let now_ns = monotonic_ns();
        if attempt.answered && !answered_before {
            self.outcome.answered += 1;
            self.outcome.connect.record_ns(now_ns.saturating_sub(attempt.due_ns));
            self.outcome.play.record_ns(now_ns.saturating_sub(attempt.play_ns.unwrap_or(now_ns)));
        }
        match step {
            Ok(Step::Stays) => {}
            Ok(Step::Leaves(cached)) => {
                if let Some(cached) = cached {
                    self.cached(slot, cached, now_ns);
                }
                self.leave(slot);
            }
            Err(reason) => {
                self.leave(slot);
                self.failed(reason);
            }
        }
    }

    /// Counts what was cached, if it was a GOP but for its last tenth.
    fn cached(&mut self, slot: usize, cached: Cached, now_ns: u64) {
        let Some(attempt) = &self.slots[slot] else { return };
        let (due_ns, play_ns) = (attempt.due_ns, attempt.play_ns.unwrap_or(now_ns));
        let Cached::Whole { keyframe_ns, bytes } = cached else {
            self.outcome.uncached += 1;
            self.retry_ns = now_ns + RETRY_NS;
            return;
        };
        self.keyframe_ns = Some(keyframe_ns);
        let gop_ns = self.settings.shape.gop_ns;
        if play_ns.saturating_sub(keyframe_ns) < gop_ns - gop_ns / GOP_END_SHARE {
            return;
        }
        self.outcome.whole.record_ns(now_ns.saturating_sub(play_ns));
        self.outcome.connect_to_whole.record_ns(now_ns.saturating_sub(due_ns));
        self.outcome.whole_bytes += bytes;
    }

    fn leave(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    /// Those that have stayed long enough go; those unanswered for too long have failed.
    fn leave_due(&mut self, now_ns: u64) {
        for slot in 0..self.slots.len() {
            let Some(attempt) = &self.slots[slot] else { continue };
            let unfinished = now_ns.saturating_sub(attempt.due_ns) > ANSWER_NS;
            match attempt.stay {
                Stay::Until(at_ns) if attempt.answered && now_ns >= at_ns => self.leave(slot),
                _ if unfinished => {
                    let what = if attempt.answered { "the whole GOP did not come" } else { "no answer to play" };
                    self.leave(slot);
                    self.failed(format!("{what} within {} s", ANSWER_NS / 1_000_000_000));
                }
                _ => {}
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.outcome.failed += 1;
        if self.outcome.reasons.len() < REASONS_MAX {
            self.outcome.reasons.insert(reason);
        }
    }
}

impl Outcome {
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            seconds: 0.0,
            begun: 0,
            answered: 0,
            failed: 0,
            unfinished: 0,
            connect: Times::new(),
            play: Times::new(),
            whole: Times::new(),
            connect_to_whole: Times::new(),
            whole_bytes: 0,
            uncached: 0,
            late: Times::new(),
            reasons: BTreeSet::new(),
            cpu_share: 0.0,
            waited_share: 0.0,
        }
    }
}

fn waited_seconds() -> f64 {
    process::thread_times(std::process::id(), sys::thread_id()).1
}
