//! Bits per second of late, of a count of bytes that is looked at every tick.

use std::time::Duration;

use crate::limits::RATE_WINDOW;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    since: Duration,
    bytes: u64,
    bits_per_second: u64,
}

impl Rate {
    /// There have been `bytes` in all.
    pub(super) fn note(&mut self, bytes: u64, now: Duration) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed < RATE_WINDOW {
            return;
        }
        let bits = u128::from(bytes.saturating_sub(self.bytes)) * 8;
        self.bits_per_second = u64::try_from(bits * 1_000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX);
        (self.since, self.bytes) = (now, bytes);
    }

    /// Over the last whole window.
    pub(super) fn bits_per_second(&self) -> u64 {
        self.bits_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_window() {
        let mut rate = Rate::default();
        let mut bytes = 0;
        for tick in 1..=30 {
            bytes += if tick <= 20 { 12_500 } else { 0 };
            rate.note(bytes, RATE_WINDOW / 10 * tick);
            let expected = if (10..30).contains(&tick) { 1_000_000 } else { 0 };
            assert_eq!(rate.bits_per_second(), expected, "tick {tick}");
        }
    }
}
