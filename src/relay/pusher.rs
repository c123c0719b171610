//! One stream on its way to one target, as long as the stream lasts: when to connect, and when to begin anew.
//!
//! Everything a target does wrong ends in another attempt after a pause that doubles: only the operator or the stream's
//! end gives a target up. A target that refuses (a bad key, most likely) is asked again after the longest pause at once.
//! What is sent, and what is skipped when a target is slow, is the host's. Its deadlines are its own: the host calls
//! [`next`](Pusher::next) until `None` after each input and at [`deadline`](Pusher::deadline).

use std::time::Duration;

use super::{backoff::Backoff, puller::Fault, rules::Timing, upstream::Upstream};
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX, PROGRESS_DEADLINE, RELAY_STEADY};

/// See the file's head.
#[derive(Debug)]
pub struct Pusher {
    target: Upstream,
    timing: Timing,
    backoff: Backoff,
    state: State,
    /// Of the state.
    since: Duration,
    /// The stream is there to be pushed.
    wanted: bool,
    attempts: u64,
    last_fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The connection of a stream that has ended, or of an attempt that took too long, is to be closed.
    Closing,
    Connecting,
    /// Connected, and not yet publishing.
    Asking,
    Publishing,
    Waiting {
        until: Duration,
    },
}

/// What came of the connection that was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushHeard {
    /// The RTMP handshake is done.
    Connected,
    /// The target takes the stream.
    Publishing,
    /// The connection is gone.
    Failed(Fault),
    /// The target said no, and the connection is gone or is being closed.
    Refused,
}

/// What the host is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOrder {
    /// Connect to the target. There is no other connection to it.
    Open,
    /// Close the connection; nothing more is to be heard of it.
    Close,
}

/// A pusher for those who look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushReport {
    /// `idle`, `connecting`, `publishing` or `waiting`.
    pub state: &'static str,
    pub since: Duration,
    pub attempts: u64,
    pub last_fault: Option<Fault>,
}

impl Pusher {
    pub fn new(target: Upstream, timing: Timing, seed: u64) -> Self {
        Self {
            target,
            timing,
            backoff: Backoff::new(BACK_OFF_FIRST, BACK_OFF_MAX, seed),
            state: State::Idle,
            since: Duration::ZERO,
            wanted: false,
            attempts: 0,
            last_fault: None,
        }
    }

    pub fn target(&self) -> &Upstream {
        &self.target
    }

    /// The stream is there.
    pub fn begin(&mut self, now: Duration) {
        self.wanted = true;
        if self.state == State::Idle {
            self.enter(State::Waiting { until: now }, now);
        }
    }

    /// The stream has ended. A pause that is due stays due if it comes back.
    pub fn finish(&mut self, now: Duration) {
        self.wanted = false;
        if self.is_open() {
            self.succeeded(now);
            self.enter(State::Closing, now);
        }
    }

    pub fn hear(&mut self, heard: PushHeard, now: Duration) {
        if !self.is_open() {
            return;
        }
        match (heard, self.state) {
            (PushHeard::Connected, State::Connecting) => self.enter(State::Asking, now),
            (PushHeard::Publishing, State::Connecting | State::Asking) => self.enter(State::Publishing, now),
            (PushHeard::Failed(fault), _) => self.failed(fault, now),
            (PushHeard::Refused, _) => {
                self.backoff.exhaust();
                self.failed(Fault::Refused, now);
            }
            _ => {}
        }
    }

    /// What is to be done now; `None` until the next input or [`deadline`](Self::deadline).
    pub fn next(&mut self, now: Duration) -> Option<PushOrder> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        match self.state {
            State::Closing => {
                self.enter(State::Idle, now);
                if self.wanted {
                    self.enter(State::Waiting { until: now }, now);
                }
                Some(PushOrder::Close)
            }
            State::Waiting { .. } if due && !self.wanted => {
                self.enter(State::Idle, now);
                None
            }
            State::Waiting { .. } if due => {
                self.attempts += 1;
                self.enter(State::Connecting, now);
                Some(PushOrder::Open)
            }
            State::Connecting if due => self.timed_out(Fault::Unreachable, now),
            State::Asking if due => self.timed_out(Fault::Silent, now),
            _ => None,
        }
    }

    pub fn deadline(&self) -> Option<Duration> {
        match self.state {
            // A target that takes nothing is the host's to find, as players are.
            State::Idle | State::Publishing => None,
            State::Closing => Some(self.since),
            State::Connecting => Some(self.since + self.timing.connect),
            // A target far away takes its time to answer: patience as with players, if not more.
            State::Asking => Some(self.since + self.timing.first_byte.max(PROGRESS_DEADLINE)),
            State::Waiting { until } => Some(until),
        }
    }

    pub fn is_publishing(&self) -> bool {
        matches!(self.state, State::Publishing)
    }

    pub fn report(&self) -> PushReport {
        let state = match self.state {
            State::Idle | State::Closing => "idle",
            State::Connecting | State::Asking => "connecting",
            State::Publishing => "publishing",
            State::Waiting { .. } => "waiting",
        };
        PushReport { state, since: self.since, attempts: self.attempts, last_fault: self.last_fault }
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting | State::Asking | State::Publishing)
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
    }

    fn failed(&mut self, fault: Fault, now: Duration) {
        self.succeeded(now);
        self.last_fault = Some(fault);
        let until = now + self.backoff.pause();
        self.enter(State::Waiting { until }, now);
    }

    fn timed_out(&mut self, fault: Fault, now: Duration) -> Option<PushOrder> {
        self.failed(fault, now);
        Some(PushOrder::Close)
    }

    /// An attempt that published for a while was a success, whatever became of it.
    fn succeeded(&mut self, now: Duration) {
        if self.is_publishing() && now.saturating_sub(self.since) >= RELAY_STEADY {
            self.backoff.reset();
        }
    }
}

#[cfg(test)]
#[path = "pusher_tests.rs"]
mod tests;
