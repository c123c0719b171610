//! Connections that come, ask to play, and go as soon as they are answered: one thread, one epoll.
//!
//! They leave with a reset, which frees their port at once: an orderly end would keep it for a minute, and a storm would
//! run out of ports.

use crate::link::{Link, Received};
use crate::process;
use crate::publisher::session;
use crate::shared::Settings;
use crate::stats::Times;
use crate::sys::{self, Epoll, Ready, monotonic_ns};
use shardcast::rtmp::client::{ClientEvent, ClientRole, ClientSession};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An attempt not answered after this has failed.
const ANSWER_NS: u64 = 10_000_000_000;
/// Attempts under way at once when they come at a rate; a server this far behind fails further ones.
const OPEN_MAX: usize = 10_000;
const READ_BYTES: usize = 64 * 1024;
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
    /// From when an attempt was due to when it began.
    pub late: Times,
    pub reasons: BTreeSet<String>,
    /// Of one CPU, by this thread.
    pub cpu_share: f64,
    pub waited_share: f64,
}

struct Attempt {
    link: Link,
    session: ClientSession,
    due_ns: u64,
    play_ns: Option<u64>,
    /// Tells events of this attempt from those of the slot's earlier ones.
    token: u64,
}

struct Storm<'a> {
    settings: &'a Settings,
    epoll: Epoll,
    buffer: Vec<u8>,
    slots: Vec<Option<Attempt>>,
    free: Vec<usize>,
    outcome: Outcome,
}

/// Storms the first stream for `duration`, or until `over`.
///
/// # Errors
/// epoll failed.
pub fn storm(s: &Settings, mode: Mode, duration: Duration, over: &AtomicBool) -> std::io::Result<Outcome> {
    sys::wake_on_time();
    let slots = match mode {
        Mode::AtOnce(count) => usize::try_from(count).unwrap_or(OPEN_MAX),
        Mode::Rate(_) => OPEN_MAX,
    };
    let storm = Storm {
        settings: s,
        epoll: Epoll::new()?,
        buffer: vec![0; READ_BYTES],
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
        let (mut next_due_ns, mut next_look_ns) = (start_ns, start_ns);
        let mut ready = Vec::new();
        loop {
            let now_ns = monotonic_ns();
            if now_ns >= until_ns || over.load(Ordering::Acquire) {
                break;
            }
            if now_ns >= next_look_ns {
                next_look_ns = now_ns + u64::try_from(LOOK.as_nanos()).unwrap_or(0);
                self.expire(now_ns);
            }
            let wake_ns = self.begin_due(now_ns, &mut next_due_ns).min(next_look_ns).min(until_ns);
            self.epoll.wait(Duration::from_nanos(wake_ns.saturating_sub(monotonic_ns())), &mut ready)?;
            ready.iter().for_each(|event| self.handle(*event));
        }
        let seconds = (monotonic_ns() - start_ns) as f64 / 1e9;
        let mut outcome = self.outcome;
        outcome.unfinished = self.slots.iter().flatten().count() as u64;
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
        }
    }

    fn begin(&mut self, due_ns: u64) {
        self.outcome.begun += 1;
        self.outcome.late.record_ns(monotonic_ns().saturating_sub(due_ns));
        let Some(slot) = self.free.pop() else {
            return self.failed(format!("{OPEN_MAX} attempts were unanswered at once"));
        };
        let token = self.outcome.begun << 16 | slot as u64;
        let connect = || {
            let link = Link::connect(self.settings.address, &self.epoll, token, None)?;
            link.reset_on_drop()?;
            Ok::<_, std::io::Error>(link)
        };
        match connect() {
            Ok(link) => {
                let session = session(self.settings, 0, ClientRole::Play, due_ns ^ token << 20);
                self.slots[slot] = Some(Attempt { link, session, due_ns, play_ns: None, token });
            }
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
        match attempt.ready(ready, &self.epoll, &mut self.buffer) {
            Ok(false) => {}
            Ok(true) => {
                let now_ns = monotonic_ns();
                self.outcome.answered += 1;
                self.outcome.connect.record_ns(now_ns.saturating_sub(attempt.due_ns));
                self.outcome.play.record_ns(now_ns.saturating_sub(attempt.play_ns.unwrap_or(now_ns)));
                self.leave(slot);
            }
            Err(reason) => {
                self.leave(slot);
                self.failed(reason);
            }
        }
    }

    fn leave(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    fn expire(&mut self, now_ns: u64) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|attempt| now_ns.saturating_sub(attempt.due_ns) > ANSWER_NS) {
                self.leave(slot);
                self.failed(format!("no answer to play within {} s", ANSWER_NS / 1_000_000_000));
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

impl Attempt {
    /// Reads and writes what it can; true once `play` is answered.
    fn ready(&mut self, ready: Ready, epoll: &Epoll, buffer: &mut [u8]) -> Result<bool, String> {
        let fault = |error: std::io::Error| format!("connect: {error}");
        if ready.write {
            self.link.writable().map_err(fault)?;
        }
        let answered = ready.read && self.read(buffer)?;
        if self.play_ns.is_none() && self.session.deadline().is_none() {
            self.play_ns = Some(monotonic_ns());
        }
        if !answered {
            self.link.flush(epoll, self.session.output()).map_err(fault)?;
        }
        Ok(answered)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, String> {
        let count = match self.link.receive(buffer).map_err(|error| format!("read: {error}"))? {
            Received::Bytes(count) => count,
            Received::Nothing => return Ok(false),
            Received::End => return Err("the server closed the connection before it answered".into()),
        };
        let mut input = &buffer[..count];
        let now = Duration::from_nanos(monotonic_ns());
        while let Some(event) = self.session.receive(&mut input, now).map_err(|error| error.to_string())? {
            match event {
                ClientEvent::Playing => return Ok(true),
                ClientEvent::Status { code, level, .. } if level == "error" => {
                    return Err(format!("the server refused to play: {code}"));
                }
                _ => {}
            }
        }
        Ok(false)
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
