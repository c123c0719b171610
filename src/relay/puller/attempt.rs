//! One leg: how far it has come, and when it has taken too long.

use std::time::Duration;

use super::{Fault, Leg};
use crate::relay::rules::Timing;

#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) leg: Leg,
    pub(super) source: usize,
    pub(super) phase: Phase,
    /// When it was opened or connected, or sent media.
    pub(super) since: Duration,
    pub(super) opened: Duration,
    /// When it first sent what players can start at.
    pub(super) began: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    Connected,
    Sending,
}

impl Attempt {
    pub(super) fn deadline(&self, timing: &Timing) -> Duration {
        self.since
            + match self.phase {
                Phase::Connecting => timing.connect,
                Phase::Connected => timing.first_byte,
                Phase::Sending => timing.stall,
            }
    }

    /// What it means that it has sent nothing for too long.
    pub(super) fn silence(&self) -> Fault {
        match self.phase {
            Phase::Connecting => Fault::Unreachable,
            Phase::Connected => Fault::Silent,
            Phase::Sending => Fault::Stalled,
        }
    }
}
