//! One stream on its way from other nodes: which of its sources is asked, when the next one is, and when all begin anew.
//!
//! Sources are in order of preference; those whose nodes are known to be out of reach come last. They are asked one by one
//! until one sends media: that is a *round*. A round without success is followed by a pause, however many ask for the
//! stream meanwhile; who waits is told that it is missing, unless it was live lately. A live connection that breaks begins
//! a round of the others, itself last if it may still have the stream; one that had hardly begun goes on with the round
//! it came from, so that sources that break at once are not asked without pause. A stream that its source ended is asked
//! for elsewhere once and then again after pauses, as its publisher may come back.
//!
//! While a source serves, a second connection may be opened: to a better source, which takes over once it has sent for a
//! while, at a keyframe; or to where the source asked us to go. There are never more than two, called *legs*.
//!
//! The host calls [`next`](Puller::next) until `None` after each input and at [`deadline`](Puller::deadline). It need not
//! look at the deadline after each message: to come too early does no harm.

mod attempt;
mod report;
mod second;

use std::{collections::VecDeque, time::Duration};

pub use self::report::{Fault, PullReport};
use self::{
    attempt::{Attempt, Phase},
    second::{Second, Why},
};
use super::{backoff::Backoff, health::HealthBook, rules::Timing, upstream::Upstream};
use crate::limits::{
    BACK_OFF_FIRST, BACK_OFF_MAX, LIVE_LATELY, MISS_MEMORY_MAX, RELAY_STEADY, RETURN_FIRST, RETURN_PROOF,
};

/// One connection of a puller's. Numbers are not used again.
pub type Leg = u32;

/// What came of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The RTMP handshake is done.
    Connected,
    /// A message of media. `begins`: players can start at it, as it is a keyframe or a source without video's audio.
    Media { begins: bool },
    /// As `Media` where players can start, but not where the source that serves is: this one is not to be gone over to here.
    Apart,
    /// The connection is gone, or of no use any more: the host closes it.
    Failed(Fault),
    /// The source said that the stream ended. [`Order::Close`] follows.
    Ended,
}

/// What the host is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Open {
        leg: Leg,
        /// Of [`Puller::sources`]. For one that asked us to go elsewhere, the host knows where.
        source: usize,
    },
    /// Close it; nothing more is to be heard of it.
    Close { leg: Leg },
    /// Its messages are the stream's from now on, the one just heard included. What it sent before, headers above all,
    /// is for the host to keep.
    GoLive { leg: Leg },
    /// Nobody has the stream: tell whoever waits for it.
    Missing,
    /// Nobody wants it any more and all legs are closed: the last order until it is wanted again.
    Stop,
}

/// See the file's head.
#[derive(Debug)]
pub struct Puller {
    sources: Vec<Upstream>,
    timing: Timing,
    linger: Duration,
    orders: VecDeque<Order>,
    wanted: bool,
    /// Wanted since the last `Stop`.
    started: bool,
    /// When nobody has wanted it for long enough.
    stop_at: Duration,
    legs: Leg,
    /// The leg that serves, or that is tried while none does.
    first: Option<Attempt>,
    /// Since when `first` serves.
    live_since: Option<Duration>,
    second: Option<Second>,
    /// Sources that this round has still to try.
    round: VecDeque<usize>,
    /// The next round's time, if there is no leg.
    retry_at: Duration,
    backoff: Backoff,
    /// Better sources that this return has still to try, and the next return's time.
    better: VecDeque<usize>,
    return_at: Option<Duration>,
    return_backoff: Backoff,
    /// The source that serves asked us to go elsewhere, and when we go. Not at once if it has done so just before.
    move_at: Option<Duration>,
    moved_at: Option<Duration>,
    /// Who asks before this asks in vain.
    miss_until: Duration,
    missing: bool,
    /// Until when the last failure is kept in mind, so that the next pause is longer.
    remember_until: Duration,
    last_live: Option<Duration>,
    attempts: u64,
    last_fault: Option<Fault>,
    /// Of what `report` calls the state.
    since: Duration,
    /// Legs that were last ordered to be closed for being late, and what they failed to do.
    late: Vec<(Leg, Fault)>,
}

impl Puller {
    /// `sources`: the best first.
    pub fn new(sources: Vec<Upstream>, timing: Timing, linger: Duration, seed: u64) -> Self {
        Self {
            sources,
            timing,
            linger,
            orders: VecDeque::new(),
            wanted: false,
            started: false,
            stop_at: Duration::ZERO,
            legs: 0,
            first: None,
            live_since: None,
            second: None,
            round: VecDeque::new(),
            retry_at: Duration::ZERO,
            backoff: Backoff::new(BACK_OFF_FIRST, BACK_OFF_MAX, seed),
            better: VecDeque::new(),
            return_at: None,
            return_backoff: Backoff::new(RETURN_FIRST, BACK_OFF_MAX, !seed),
            move_at: None,
            moved_at: None,
            miss_until: Duration::ZERO,
            missing: false,
            remember_until: Duration::ZERO,
            last_live: None,
            attempts: 0,
            last_fault: None,
            since: Duration::ZERO,
            late: Vec::new(),
        }
    }

    pub fn sources(&self) -> &[Upstream] {
        &self.sources
    }

    /// Somebody wants the stream. To be called for each who asks anew: it has no count.
    pub fn want(&mut self, now: Duration) {
        self.wanted = true;
        if !self.started {
            self.started = true;
            self.since = now;
        }
        if self.first.is_none() {
            self.retry_at = self.retry_at.min(self.miss_until);
        }
    }

    /// Nobody wants the stream any more.
    pub fn unwant(&mut self, now: Duration) {
        if self.wanted {
            self.wanted = false;
            self.stop_at = now + self.linger;
        }
    }

    /// What is heard of a leg that is closed already is passed over.
    pub fn hear(&mut self, leg: Leg, heard: Heard, now: Duration, health: &mut HealthBook) {
        let is_first = self.first.is_some_and(|attempt| attempt.leg == leg);
        let is_second = self.second.is_some_and(|second| second.attempt.leg == leg);
        if !is_first && !is_second {
            return;
        }
        match heard {
            Heard::Connected => self.connected(leg, now, health),
            Heard::Media { begins } => self.media(leg, begins, now, health),
            Heard::Apart => {
                self.media(leg, false, now, health);
                if let Some(attempt) = self.attempt(leg) {
                    attempt.began.get_or_insert(now);
                }
            }
            Heard::Failed(fault) if is_first => self.first_lost(fault, now, health),
            Heard::Failed(fault) => self.second_lost(fault, now, health),
            Heard::Ended => {
                self.orders.push_back(Order::Close { leg });
                if is_first {
                    self.first_lost(Fault::Ended, now, health);
                } else {
                    self.second_lost(Fault::Ended, now, health);
                }
            }
        }
    }

    /// What is to be done now; `None` until the next input or [`deadline`](Self::deadline).
    pub fn next(&mut self, now: Duration, health: &mut HealthBook) -> Option<Order> {
        if self.orders.is_empty() && self.deadline().is_some_and(|deadline| deadline <= now) {
            self.advance(now, health);
        }
        self.orders.pop_front()
    }

    /// When something is to be done even if nothing is heard.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.orders.is_empty() {
            return Some(Duration::ZERO);
        }
        if !self.started {
            return None;
        }
        let Some(first) = self.first else {
            return Some(if self.wanted { self.retry_at } else { Duration::ZERO });
        };
        let times = [
            Some(first.deadline(&self.timing)),
            self.second.map(|second| second.deadline(&self.timing)),
            (!self.wanted).then_some(self.stop_at),
            self.return_at.filter(|_| self.wanted && self.second.is_none()),
            self.move_at.filter(|_| self.wanted),
        ];
        times.into_iter().flatten().min()
    }

    /// The leg that serves.
    pub fn live(&self) -> Option<Leg> {
        self.first.filter(|_| self.live_since.is_some()).map(|first| first.leg)
    }

    /// Whether the stream was just found nowhere: who asks for it now is to be refused, without [`want`](Self::want).
    pub fn is_missing(&self, now: Duration) -> bool {
        self.missing && self.first.is_none() && now < self.miss_until
    }

    /// What a leg was too late for, when [`Order::Close`] says to close it.
    pub fn was_late(&self, leg: Leg) -> Option<Fault> {
        self.late.iter().find(|(late, _)| *late == leg).map(|(_, fault)| *fault)
    }

    /// Whether it can be forgotten: nobody wants it, and there is no failure to keep in mind.
    pub fn is_idle(&self, now: Duration) -> bool {
        !self.started && self.orders.is_empty() && now >= self.remember_until
    }

    pub fn report(&self) -> PullReport {
        let source = self.first.map(|first| first.source);
        let state = match (self.first, self.live_since) {
            _ if !self.started => "idle",
            (None, _) if self.missing => "missing",
            (None, _) => "waiting",
            (Some(_), None) => "connecting",
            (Some(first), Some(_)) if first.source == 0 => "live",
            (Some(_), Some(_)) => "backup",
        };
        PullReport { state, source, since: self.since, attempts: self.attempts, last_fault: self.last_fault }
    }

    fn advance(&mut self, now: Duration, health: &mut HealthBook) {
        self.time_out(now, health);
        if !self.wanted && self.started && (now >= self.stop_at || self.first.is_none()) {
            self.stop(now);
        }
        if !self.wanted {
            return;
        }
        if self.first.is_none() && self.retry_at <= now {
            self.round = self.order(health, now);
            self.try_next(now);
        }
        if self.live_since.is_some() {
            self.move_if_due(now);
            self.return_if_due(now, health);
        }
    }

    fn time_out(&mut self, now: Duration, health: &mut HealthBook) {
        self.late.clear();
        if let Some(second) = self.second.filter(|second| second.deadline(&self.timing) <= now) {
            self.orders.push_back(Order::Close { leg: second.attempt.leg });
            self.late.push((second.attempt.leg, second.attempt.silence()));
            self.second_lost(second.attempt.silence(), now, health);
        }
        if let Some(first) = self.first.filter(|first| first.deadline(&self.timing) <= now) {
            self.orders.push_back(Order::Close { leg: first.leg });
            self.late.push((first.leg, first.silence()));
            self.first_lost(first.silence(), now, health);
        }
    }

    fn connected(&mut self, leg: Leg, now: Duration, health: &mut HealthBook) {
        let Some(attempt) = self.attempt(leg).filter(|attempt| attempt.phase == Phase::Connecting) else { return };
        attempt.phase = Phase::Connected;
        attempt.since = now;
        let source = attempt.source;
        health.well(&self.sources[source].endpoint);
    }

    fn media(&mut self, leg: Leg, begins: bool, now: Duration, health: &mut HealthBook) {
        let Some(attempt) = self.attempt(leg) else { return };
        attempt.phase = Phase::Sending;
        attempt.since = now;
        if begins && attempt.began.is_none() {
            attempt.began = Some(now);
        }
        if self.live_since.is_none() {
            self.go_live(now);
        }
        let Some(second) = self.second.filter(|second| begins && second.attempt.leg == leg) else { return };
        let proven = second.attempt.began.is_some_and(|began| now >= began + RETURN_PROOF);
        if second.why == Why::Move || proven {
            self.switch(second.attempt, now, health);
        }
    }

    /// `first` serves from now on.
    fn go_live(&mut self, now: Duration) {
        let Some(first) = self.first else { return };
        self.orders.push_back(Order::GoLive { leg: first.leg });
        self.live_since = Some(now);
        self.since = now;
        self.missing = false;
        self.better.clear();
        self.return_at = (first.source > 0).then(|| now + self.return_backoff.pause());
    }

    /// The first leg is no more: the second takes its place if there is one, otherwise the next source's turn has come.
    fn first_lost(&mut self, fault: Fault, now: Duration, health: &mut HealthBook) {
        let Some(lost) = self.first.take() else { return };
        self.note(&lost, fault, now, health);
        let (was_live, was_steady) = (self.live_since.is_some(), self.is_steady(&lost));
        if was_live {
            self.last_live = Some(now);
        }
        if was_steady {
            self.backoff.reset();
            if lost.source == 0 {
                self.return_backoff.reset();
            }
            self.round = self.order(health, now);
            self.round.retain(|source| *source != lost.source);
            if fault != Fault::Ended {
                self.round.push_back(lost.source);
            }
        }
        self.live_since = None;
        self.since = now;
        self.return_at = None;
        self.move_at = None;
        self.better.clear();
        match self.second.take() {
            Some(second) => {
                self.first = Some(second.attempt);
                self.round.retain(|source| *source != second.attempt.source);
                if second.attempt.phase == Phase::Sending {
                    self.go_live(now);
                }
            }
            // A round is finished also when those who asked left: the next ones must find what came of it.
            None if self.wanted || (!was_live && now < self.stop_at) => self.try_next(now),
            None if !was_steady => self.give_up(now),
            None => {}
        }
    }

    fn note(&mut self, lost: &Attempt, fault: Fault, now: Duration, health: &mut HealthBook) {
        self.last_fault = Some(fault);
        if lost.phase == Phase::Connecting && fault.is_of_node() {
            health.failed(&self.sources[lost.source].endpoint, now);
        }
    }

    /// Whether `first` was served from long enough to be no fluke.
    fn is_steady(&self, first: &Attempt) -> bool {
        self.live_since.is_some_and(|since| first.since.saturating_sub(since) >= RELAY_STEADY)
    }

    fn try_next(&mut self, now: Duration) {
        match self.round.pop_front() {
            Some(source) => {
                self.since = now;
                self.first = Some(self.open(source, now));
            }
            None => self.give_up(now),
        }
    }

    /// The round is over.
    fn give_up(&mut self, now: Duration) {
        let pause = self.backoff.pause();
        let memory = pause.min(MISS_MEMORY_MAX);
        self.since = now;
        self.retry_at = now + pause;
        self.miss_until = now + memory;
        self.remember_until = now + memory * 2;
        self.missing = self.last_live.is_none_or(|live| now >= live + LIVE_LATELY);
        if self.missing && self.wanted {
            self.orders.push_back(Order::Missing);
        }
    }

    fn open(&mut self, source: usize, now: Duration) -> Attempt {
        let leg = self.legs;
        self.legs = self.legs.wrapping_add(1);
        self.attempts += 1;
        self.orders.push_back(Order::Open { leg, source });
        Attempt { leg, source, phase: Phase::Connecting, since: now, opened: now, began: None }
    }

    fn stop(&mut self, now: Duration) {
        let legs = [self.second.take().map(|second| second.attempt.leg), self.first.take().map(|first| first.leg)];
        self.orders.extend(legs.into_iter().flatten().map(|leg| Order::Close { leg }));
        self.orders.push_back(Order::Stop);
        if self.live_since.take().is_some() {
            self.last_live = Some(now);
        }
        self.started = false;
        self.since = now;
        self.return_backoff.reset();
        self.return_at = None;
        self.move_at = None;
        self.better.clear();
        self.round.clear();
    }

    /// All sources, those out of reach last.
    fn order(&self, health: &HealthBook, now: Duration) -> VecDeque<usize> {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|source| health.is_sick(&self.sources[*source].endpoint, now));
        order.into()
    }

    fn attempt(&mut self, leg: Leg) -> Option<&mut Attempt> {
        let second = self.second.as_mut().map(|second| &mut second.attempt);
        [self.first.as_mut(), second].into_iter().flatten().find(|attempt| attempt.leg == leg)
    }
}

#[cfg(test)]
#[path = "puller_tests.rs"]
mod tests;
