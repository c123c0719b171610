//! Publishers that send more than they may: the bit rate of each over some seconds, told at once and closed if it stays.
//!
//! Each connection has one account, for all it publishes, one after the other or at once. Looked at once a tick, from what its
//! logs have counted anyway. What is pulled has no such limit: the operator chose its source.
//! Bounds: an account for each connection that publishes or has done so within [`PUBLISH_RATE_WINDOW`]; none without a limit.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

use super::{
    close::CloseReason,
    conn::ConnId,
    core::Core,
    local::{LocalLog, Source},
    uses::Use,
};
use crate::limits::PUBLISH_RATE_WINDOW;

/// The accounts of a shard.
#[derive(Debug, Default)]
pub(super) struct Bitrates(HashMap<ConnId, Account, foldhash::fast::RandomState>);

#[derive(Debug)]
struct Account {
    watch: RateWatch,
    /// Of all that it has published since the account was opened.
    bytes: u64,
}

impl Bitrates {
    pub(super) fn forget(&mut self, id: ConnId) {
        self.0.remove(&id);
    }
}

/// What one publisher sent, window by window.
#[derive(Clone, Copy, Debug)]
struct RateWatch {
    since: Duration,
    /// Taken before the window began.
    bytes: u64,
    warned: bool,
}

/// What a window that has ended means. Rates are bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Within,
    /// The first window above the limit.
    Above(u64),
    /// One more.
    StaysAbove(u64),
}

impl RateWatch {
    /// `bytes` were taken so far; `most` bits per second are allowed. `None` while a window is open.
    fn look(&mut self, now: Duration, bytes: u64, most: u64) -> Option<Finding> {
        let elapsed = now.saturating_sub(self.since);
        if elapsed < PUBLISH_RATE_WINDOW {
            return None;
        }
        let bits = bytes.saturating_sub(self.bytes).saturating_mul(8);
        let rate = (bits as f64 / elapsed.as_secs_f64()) as u64;
        let warned = std::mem::replace(&mut self.warned, rate > most);
        (self.since, self.bytes) = (now, bytes);
        Some(match (rate > most, warned) {
            (false, _) => Finding::Within,
            (true, false) => Finding::Above(rate),
            (true, true) => Finding::StaysAbove(rate),
        })
    }
}

impl Core {
    /// Puts what the publishers of a stream have sent into their accounts: at ticks, and before one ends.
    pub(super) fn note_bitrates(&mut self, local: usize) {
        if self.config.ceilings.publish_bitrate_max == 0 {
            return;
        }
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        for LocalLog { source, .. } in &mut stream.logs {
            let Source::Owned(owned) = source else { continue };
            let (_, bytes) = owned.broadcast.counts();
            let more = bytes.saturating_sub(std::mem::replace(&mut owned.rated_bytes, bytes));
            // Who has ended is in the account already, and may be gone.
            if more > 0 && self.conns.get(owned.publisher).is_some_and(|conn| conn.session.upstream().is_none()) {
                match self.bitrates.0.entry(owned.publisher) {
                    Entry::Occupied(mut account) => account.get_mut().bytes += more,
                    // Its first window begins behind what came before it was looked at.
                    Entry::Vacant(vacant) => {
                        vacant.insert(Account {
                            watch: RateWatch { since: now, bytes: more, warned: false },
                            bytes: more,
                        });
                    }
                }
            }
        }
    }

    /// Looks at the publishers, once all is in their accounts.
    pub(super) fn watch_bitrates(&mut self) {
        let (now, most) = (self.time.now(), self.config.ceilings.publish_bitrate_max);
        let mut found = Vec::new();
        for (id, Account { watch, bytes }) in &mut self.bitrates.0 {
            found.extend(watch.look(now, *bytes, most).map(|finding| (*id, finding)));
        }
        for (id, finding) in found {
            match finding {
                Finding::Within => {
                    if self.conns.get(id).is_none_or(|conn| conn.uses.is_empty()) {
                        self.bitrates.forget(id);
                    }
                }
                Finding::Above(rate) => self.warn_loud_publisher(id, rate, most),
                Finding::StaysAbove(rate) => self.close_loud_publisher(id, rate, most),
            }
        }
    }

    fn warn_loud_publisher(&mut self, id: ConnId, rate: u64, most: u64) {
        self.metrics.publish_rate_warnings.add(1);
        let Some(conn) = self.conns.get(id) else { return };
        let stream = conn.uses.iter().find_map(|used| match used {
            Use::Publishing { local, .. } => self.streams.slab.get(*local).map(|stream| stream.key.to_string()),
            Use::Playing { .. } => None,
        });
        tracing::warn!(
            peer = %conn.peer(), stream, bits_per_s = rate,
            "publishes more than --publish-bitrate-max ({most} bit/s): it is closed if that goes on for another \
             {PUBLISH_RATE_WINDOW:?}"
        );
    }

    /// All that it publishes ends.
    fn close_loud_publisher(&mut self, id: ConnId, rate: u64, most: u64) {
        let Some(conn) = self.conns.get(id).filter(|conn| conn.closing().is_none()) else { return };
        let told = format!("{rate} bit/s, more than the {most} bit/s allowed: lower the encoder's bit rate");
        let logged = format!("it publishes {rate} bit/s, more than --publish-bitrate-max ({most} bit/s)");
        let publishes = |used: &Use| matches!(used, Use::Publishing { .. }).then(|| used.stream());
        let streams: Vec<u32> = conn.uses.iter().filter_map(publishes).collect();
        if conn.uses.is_empty() {
            // Between two publishes.
            self.log_close(id, CloseReason::PublishBitrate, &logged);
            self.close(id, CloseReason::PublishBitrate, false);
        }
        for stream in streams {
            self.give_publisher_up(id, stream, CloseReason::PublishBitrate, &told, &logged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of the bytes sent in each window; 1,000,000 bit/s are allowed.
    fn findings(windows: &[u64]) -> Vec<Finding> {
        let (mut watch, mut now, mut bytes) =
            (RateWatch { since: Duration::ZERO, bytes: 0, warned: false }, Duration::ZERO, 0);
        let mut found = Vec::new();
        for window in windows {
            bytes += window;
            assert_eq!(watch.look(now + PUBLISH_RATE_WINDOW / 2, bytes, 1_000_000), None, "the window is open");
            now += PUBLISH_RATE_WINDOW;
            found.extend(watch.look(now, bytes, 1_000_000));
        }
        found
    }

    #[test]
    fn two_windows_in_a_row_are_one_too_many() {
        let most = 125_000 * PUBLISH_RATE_WINDOW.as_secs();
        let twice = Finding::StaysAbove(2_000_000);
        assert_eq!(findings(&[most, 2 * most, 2 * most]), [Finding::Within, Finding::Above(2_000_000), twice]);
        assert_eq!(findings(&[2 * most, most, 2 * most])[1..], [Finding::Within, Finding::Above(2_000_000)]);
        assert_eq!(findings(&[most, 0, u64::from(u32::MAX)])[1], Finding::Within);
    }

    #[test]
    fn a_late_look_divides_by_the_time_that_passed() {
        let mut watch = RateWatch { since: Duration::ZERO, bytes: 0, warned: false };
        assert_eq!(watch.look(PUBLISH_RATE_WINDOW * 10, 5_000_000, 1_000_000), Some(Finding::Within));
    }
}
