//! Publishers that send more than they may: the bit rate of each over some seconds, told at once and closed if it stays.
//!
//! Looked at once a tick, from what its log has counted anyway. What is pulled has no such limit: the operator chose its source.

use std::time::Duration;

use super::{
    close::CloseReason,
    conn::ConnId,
    core::Core,
    local::{LocalLog, Source},
    uses::Use,
};
use crate::limits::PUBLISH_RATE_WINDOW;

/// What one publisher sent, window by window.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateWatch {
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
    pub(super) fn new(now: Duration) -> Self {
        Self { since: now, bytes: 0, warned: false }
    }

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
    /// Looks at the publishers of a stream.
    pub(super) fn watch_bitrates(&mut self, local: usize) {
        let most = self.config.ceilings.publish_bitrate_max;
        if most == 0 {
            return;
        }
        let now = self.time.now();
        let Some(stream) = self.streams.slab.get_mut(local) else { return };
        let mut found = Vec::new();
        for LocalLog { epoch, source } in &mut stream.logs {
            let Source::Owned(owned) = source else { continue };
            let (_, bytes) = owned.broadcast.counts();
            found.extend(owned.rate.look(now, bytes, most).map(|finding| (*epoch, owned.publisher, finding)));
        }
        for (epoch, id, finding) in found {
            let publishes = |used: &&Use| matches!(used, Use::Publishing { local: of, epoch: by, .. } if (*of, *by) == (local, epoch));
            let Some(conn) = self.conns.get(id).filter(|conn| conn.session.upstream().is_none()) else { continue };
            let Some(message_stream) = conn.uses.iter().find(publishes).map(Use::stream) else { continue };
            match finding {
                Finding::Within => {}
                Finding::Above(rate) => {
                    self.metrics.publish_rate_warnings.add(1);
                    let stream = self.streams.slab.get(local).map(|stream| stream.key.to_string()).unwrap_or_default();
                    tracing::warn!(
                        peer = %conn.peer(), stream, bits_per_s = rate,
                        "publishes more than --publish-bitrate-max ({most} bit/s): it is closed if that goes on for another {PUBLISH_RATE_WINDOW:?}"
                    );
                }
                Finding::StaysAbove(rate) => self.close_loud_publisher(id, message_stream, rate, most),
            }
        }
    }

    fn close_loud_publisher(&mut self, id: ConnId, stream: u32, rate: u64, most: u64) {
        let told = format!("{rate} bit/s, more than the {most} bit/s allowed: lower the encoder's bit rate");
        let logged = format!("it publishes {rate} bit/s, more than --publish-bitrate-max ({most} bit/s)");
        self.give_publisher_up(id, stream, CloseReason::PublishBitrate, &told, &logged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found of the bytes sent in each window; 1,000,000 bit/s are allowed.
    fn findings(windows: &[u64]) -> Vec<Finding> {
        let (mut watch, mut now, mut bytes) = (RateWatch::new(Duration::ZERO), Duration::ZERO, 0);
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
        let mut watch = RateWatch::new(Duration::ZERO);
        assert_eq!(watch.look(PUBLISH_RATE_WINDOW * 10, 5_000_000, 1_000_000), Some(Finding::Within));
    }
}
