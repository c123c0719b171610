//! One log line per closed connection, but not one per attack: each reason gets a few lines a second, the rest is
//! counted and reported with the next line.

use std::{net::SocketAddr, time::Duration};

use super::close::CloseReason;
use crate::limits::CLOSE_LOG_LINES_PER_SECOND;

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    second: u64,
    lines: u32,
    suppressed: u64,
}

#[derive(Debug)]
pub(super) struct CloseLog {
    tallies: [Tally; CloseReason::ALL.len()],
}

impl Default for CloseLog {
    fn default() -> Self {
        Self { tallies: [Tally::default(); CloseReason::ALL.len()] }
    }
}

impl CloseLog {
    pub(super) fn line(&mut self, shard: usize, peer: SocketAddr, reason: CloseReason, what: &str, now: Duration) {
        let tally = &mut self.tallies[reason as usize];
        if tally.second != now.as_secs() {
            *tally = Tally { second: now.as_secs(), lines: 0, ..*tally };
        }
        if tally.lines >= CLOSE_LOG_LINES_PER_SECOND {
            tally.suppressed += 1;
            return;
        }
        tally.lines += 1;
        let suppressed = std::mem::take(&mut tally.suppressed);
        tracing::warn!(%peer, shard, reason = reason.label(), suppressed, "closed: {what}");
    }
}
