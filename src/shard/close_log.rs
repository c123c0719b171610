//! One log line per closed connection, but not one per attack: each reason gets a few lines a second, the rest is
//! counted and reported with the next line.

use std::{net::SocketAddr, time::Duration};

use super::close::CloseReason;
use crate::limits::CLOSE_LOG_LINES_PER_SECOND;

/// So many lines of one kind per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineBudget {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl LineBudget {
    /// Whether a line may be written now, and how many were not since the last one, if any.
    pub fn take(&mut self, per_second: u32, now: Duration) -> Option<Option<u64>> {
        if self.second != now.as_secs() {
            *self = Self { second: now.as_secs(), lines: 0, ..*self };
        }
        if self.lines >= per_second {
            self.suppressed += 1;
            return None;
        }
        self.lines += 1;
        let suppressed = std::mem::take(&mut self.suppressed);
        Some((suppressed > 0).then_some(suppressed))
    }
}

#[derive(Debug)]
pub(super) struct CloseLog {
    tallies: [LineBudget; CloseReason::ALL.len()],
}

impl Default for CloseLog {
    fn default() -> Self {
        Self { tallies: [LineBudget::default(); CloseReason::ALL.len()] }
    }
}

impl CloseLog {
    pub(super) fn line(&mut self, shard: usize, peer: SocketAddr, reason: CloseReason, what: &str, now: Duration) {
        let Some(suppressed) = self.tallies[reason as usize].take(CLOSE_LOG_LINES_PER_SECOND, now) else { return };
        tracing::warn!(%peer, shard, reason = reason.label(), suppressed, "closed: {what}");
    }
}
