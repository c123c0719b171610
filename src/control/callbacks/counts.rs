//! What is counted of callbacks, for `/metrics`, and how many wait.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    limits,
    shard::questions::{Event, Question},
};

/// How a callback ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in super::super) enum Outcome {
    Allowed,
    Denied,
    /// Told, of an event that nobody decides about.
    Told,
    /// No answer in time.
    Timeout,
    /// No answer, or none that says anything.
    Failed,
    /// Not sent: too many waited.
    Overflow,
}

impl Outcome {
    pub(in super::super) const ALL: &[Self] =
        &[Self::Allowed, Self::Denied, Self::Told, Self::Timeout, Self::Failed, Self::Overflow];

    pub(in super::super) const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Told => "told",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
            Self::Overflow => "overflow",
        }
    }
}

/// Touched by requests of clients only, never by media.
#[derive(Debug, Default)]
pub(in super::super) struct Counts {
    outcomes: [[AtomicU64; Outcome::ALL.len()]; Event::ALL.len()],
    /// Time of those that were answered or given up, in microseconds.
    micros: [AtomicU64; Event::ALL.len()],
    /// By matter.
    queued: [AtomicUsize; 2],
    under_way: AtomicUsize,
}

/// Each has a queue and requests of its own: clients wait for what is asked, and nobody for what is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Matter {
    Asked,
    Told,
}

impl Matter {
    pub(super) const ALL: [Self; 2] = [Self::Asked, Self::Told];

    pub(super) fn of(question: &Question) -> Self {
        if question.ticket.is_some() { Self::Asked } else { Self::Told }
    }
}

impl Counts {
    /// Takes a place in the queue; false if there is none.
    pub(super) fn enter(&self, matter: Matter) -> bool {
        let taken = |queued: usize| (queued < limits::CALLBACKS_QUEUED_MAX).then_some(queued + 1);
        self.queued[matter as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    /// The place is free again.
    pub(super) fn leave(&self, matter: Matter) {
        self.queued[matter as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// A request begins; it was queued until now.
    pub(super) fn begin(&self, matter: Matter) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.leave(matter);
    }

    pub(super) fn end(&self, event: Event, outcome: Outcome, took: Duration) {
        self.count(event, outcome, took);
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self, event: Event, outcome: Outcome, took: Duration) {
        self.outcomes[event as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros[event as usize].fetch_add(micros, Ordering::Relaxed);
    }

    pub(in super::super) fn outcome(&self, event: Event, outcome: Outcome) -> u64 {
        self.outcomes[event as usize][outcome as usize].load(Ordering::Relaxed)
    }

    pub(in super::super) fn seconds(&self, event: Event) -> f64 {
        self.micros[event as usize].load(Ordering::Relaxed) as f64 / 1e6
    }

    pub(in super::super) fn queued(&self) -> usize {
        self.queued.iter().map(|queued| queued.load(Ordering::Relaxed)).sum()
    }

    pub(in super::super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(super) fn waiting(&self) -> usize {
        // In this order none that goes over from one to the other is missed: it is counted in both meanwhile.
        self.queued() + self.under_way()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting() == 0
    }
}
