//! Pauses between attempts: each twice as long as the one before, up to a last one, each with jitter.

use std::time::Duration;

/// Splitmix64: the same seed gives the same pauses. Nothing secret depends on it.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// From nothing up to `longest`.
    pub(super) fn within(&mut self, longest: Duration) -> Duration {
        longest.mul_f64((self.next() >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Splitmix64's last step: every bit of the result depends on every bit of `z`.
pub(super) fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// The next pause, before jitter.
    pause: Duration,
    chance: Chance,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, pause: first, chance: Chance::new(seed) }
    }

    /// The pause after a failure: between half and all of what it is due, so that those who failed together do not come
    /// back together.
    pub fn pause(&mut self) -> Duration {
        let half = self.pause / 2;
        self.pause = self.pause.saturating_mul(2).min(self.longest);
        half + self.chance.within(half)
    }

    /// A moment within `longest`, for what is not to happen everywhere at once.
    pub(super) fn jitter(&mut self, longest: Duration) -> Duration {
        self.chance.within(longest)
    }

    /// After a success: the next failure is a first one.
    pub fn reset(&mut self) {
        self.pause = self.first;
    }

    /// After a failure that trying again soon will not mend.
    pub fn exhaust(&mut self) {
        self.pause = self.longest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new(FIRST, LONGEST, 7);
        for due in [1, 2, 4, 8, 16, 30, 30].map(Duration::from_secs) {
            let pause = backoff.pause();
            assert!(pause >= due / 2 && pause <= due, "{pause:?} of {due:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
        backoff.exhaust();
        assert!(backoff.pause() >= LONGEST / 2);
    }

    #[test]
    fn those_who_fail_together_come_back_apart() {
        let mut pauses: Vec<_> = (0..100).map(|seed| Backoff::new(FIRST, LONGEST, seed).pause()).collect();
        pauses.sort_unstable();
        assert!(pauses[99] - pauses[0] > FIRST / 3, "{pauses:?}");
        let same = Backoff::new(FIRST, LONGEST, 3).pause();
        assert_eq!(Backoff::new(FIRST, LONGEST, 3).pause(), same);
    }
}
