//! The second leg, beside the one that serves: back to a better source, or to where the source asked us to go.

use std::time::Duration;

use super::{Fault, Leg, Order, Puller, attempt::Attempt};
use crate::{
    limits::{RETURN_FIRST, RETURN_PATIENCE},
    relay::{health::HealthBook, rules::Timing},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Second {
    pub(super) attempt: Attempt,
    pub(super) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Return,
    Move,
}

impl Second {
    /// It has to show in time that players can start at it.
    pub(super) fn deadline(&self, timing: &Timing) -> Duration {
        self.attempt.deadline(timing).min(self.attempt.opened + RETURN_PATIENCE)
    }
}

impl Puller {
    /// The source asks us to go elsewhere. Passed over unless `leg` serves.
    pub fn moved(&mut self, leg: Leg, now: Duration) {
        if self.live() == Some(leg) {
            let earliest = self.moved_at.map_or(now, |at| at + RETURN_FIRST);
            self.move_at = Some(now.max(earliest));
        }
    }

    /// The second leg takes over from the first. Should it break soon, the source that was left without need is the next.
    pub(super) fn switch(&mut self, to: Attempt, now: Duration, health: &HealthBook) {
        let Some(from) = self.first.replace(to) else { return };
        if self.is_steady(&from) {
            self.backoff.reset();
        }
        self.round = self.order(health, now);
        self.round.retain(|source| *source != to.source && *source != from.source);
        if from.source != to.source {
            self.round.push_front(from.source);
        }
        self.second = None;
        self.move_at = None;
        self.go_live(now);
        self.orders.push_back(Order::Close { leg: from.leg });
    }

    pub(super) fn second_lost(&mut self, fault: Fault, now: Duration, health: &mut HealthBook) {
        let Some(lost) = self.second.take() else { return };
        self.note(&lost.attempt, fault, now, health);
        match lost.why {
            Why::Move => self.move_at = Some(now + self.return_backoff.pause()),
            Why::Return if self.better.is_empty() => self.return_at = Some(now + self.return_backoff.pause()),
            Why::Return => self.return_at = Some(now),
        }
    }

    pub(super) fn move_if_due(&mut self, now: Duration) {
        let Some(source) = self.first.filter(|_| self.move_at.is_some_and(|at| at <= now)).map(|first| first.source)
        else {
            return;
        };
        if let Some(second) = self.second.take() {
            self.orders.push_back(Order::Close { leg: second.attempt.leg });
            self.return_at.get_or_insert(now + RETURN_FIRST);
        }
        self.move_at = None;
        self.moved_at = Some(now);
        self.second = Some(Second { attempt: self.open(source, now), why: Why::Move });
    }

    /// Tries the sources that are better than the one that serves, the best first, but for those known to be out of reach.
    pub(super) fn return_if_due(&mut self, now: Duration, health: &HealthBook) {
        if self.second.is_some() || self.return_at.is_none_or(|at| at > now) {
            return;
        }
        let begins = self.better.is_empty();
        if begins {
            self.better = (0..self.first.map_or(0, |first| first.source)).collect();
        }
        self.return_at = None;
        let mut well_at: Option<Duration> = None;
        while let Some(source) = self.better.pop_front() {
            match health.sick_until(&self.sources[source].endpoint, now) {
                Some(until) => well_at = Some(well_at.map_or(until, |at| at.min(until))),
                None => {
                    self.second = Some(Second { attempt: self.open(source, now), why: Why::Return });
                    return;
                }
            }
        }
        self.return_at = match well_at {
            // Not all streams at once whose primary is well again.
            Some(at) if begins => Some(at + self.return_backoff.jitter(RETURN_FIRST)),
            _ => Some(now + self.return_backoff.pause()),
        };
    }
}
