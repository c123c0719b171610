//! The addresses that wrong keys came from of late, and how long no further key is taken from each.
//!
//! IPv6 addresses count by their /64, which is what one customer has. Bounds: [`WRONG_KEY_ADDRESSES_MAX`], and [`KEY_PAUSE_MAX`]
//! for what one address can bring on itself, also when the clock is set back. Driven by
//! [`AccessInForce`](super::AccessInForce).

use std::{collections::BTreeMap, net::IpAddr, ops::Bound};

use super::network::customer;
use crate::limits::{
    KEY_PAUSE_FIRST, KEY_PAUSE_MAX, WRONG_KEY_ADDRESSES_LOOKED_AT, WRONG_KEY_ADDRESSES_MAX, WRONG_KEYS_MAX,
    WRONG_KEYS_WINDOW,
};

/// See the file's head.
#[derive(Debug, Default)]
pub struct Failures {
    by_address: BTreeMap<IpAddr, Failed>,
    /// Where room was made last: next time it is looked for behind it.
    hand: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    wrong_keys: u32,
    /// Seconds since 1970, as those below.
    last_s: u64,
    /// Until then no key is looked at.
    until_s: u64,
}

impl Failed {
    fn is_old(&self, unix_s: u64) -> bool {
        let quiet_since = self.last_s.max(self.until_s);
        let set_back = quiet_since.saturating_sub(unix_s) > KEY_PAUSE_MAX.as_secs();
        set_back || unix_s.saturating_sub(quiet_since) >= WRONG_KEYS_WINDOW.as_secs()
    }
}

impl Failures {
    /// Seconds until a key from `peer` is looked at again; 0: now.
    pub fn pause_s(&self, peer: IpAddr, unix_s: u64) -> u64 {
        let failed = self.by_address.get(&customer(peer)).filter(|failed| !failed.is_old(unix_s));
        failed.map_or(0, |failed| failed.until_s.saturating_sub(unix_s))
    }

    /// A wrong key came from `peer`.
    pub fn note(&mut self, peer: IpAddr, unix_s: u64) {
        let peer = customer(peer);
        if !self.by_address.contains_key(&peer) && self.by_address.len() >= WRONG_KEY_ADDRESSES_MAX {
            self.make_room(unix_s);
        }
        let failed = self.by_address.entry(peer).or_insert(Failed { wrong_keys: 0, last_s: unix_s, until_s: 0 });
        if failed.is_old(unix_s) {
            *failed = Failed { wrong_keys: 0, last_s: unix_s, until_s: 0 };
        }
        failed.wrong_keys = failed.wrong_keys.saturating_add(1);
        failed.last_s = unix_s;
        if let Some(beyond) = failed.wrong_keys.checked_sub(WRONG_KEYS_MAX) {
            let pause_s = KEY_PAUSE_FIRST.as_secs().checked_shl(beyond.min(16)).unwrap_or(u64::MAX);
            failed.until_s = unix_s.saturating_add(pause_s.min(KEY_PAUSE_MAX.as_secs()));
        }
    }

    /// Of the next few addresses forgets those whose failures are old, or else the one that was quiet for longest: looking at
    /// all of them would hold everybody up for each wrong key.
    fn make_room(&mut self, unix_s: u64) {
        let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.by_address.range((behind, Bound::Unbounded)).chain(&self.by_address);
        let next: Vec<(IpAddr, Failed)> =
            next.take(WRONG_KEY_ADDRESSES_LOOKED_AT).map(|(peer, failed)| (*peer, *failed)).collect();
        self.hand = next.last().map(|(peer, _)| *peer);
        for (peer, _) in next.iter().filter(|(_, failed)| failed.is_old(unix_s)) {
            self.by_address.remove(peer);
        }
        if self.by_address.len() >= WRONG_KEY_ADDRESSES_MAX
            && let Some((peer, _)) = next.iter().min_by_key(|(_, failed)| failed.last_s.max(failed.until_s))
        {
            self.by_address.remove(peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn failed(failures: &mut Failures, peer: &str, times: u32, unix_s: u64) {
        (0..times).for_each(|_| failures.note(ip(peer), unix_s));
    }

    #[test]
    fn some_wrong_keys_are_forgiven_then_pauses_grow_to_their_bound() {
        let mut failures = Failures::default();
        failed(&mut failures, "10.0.0.1", WRONG_KEYS_MAX - 1, 1_000);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 1_000), 0);
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            failures.note(ip("10.0.0.1"), now);
            let pause = failures.pause_s(ip("10.0.0.1"), now);
            pauses.push(pause);
            assert_eq!(failures.pause_s(ip("10.0.0.1"), now + pause - 1), 1);
            now += pause;
            assert_eq!(failures.pause_s(ip("10.0.0.1"), now), 0);
        }
        assert_eq!(pauses[..3], [5, 10, 20]);
        assert_eq!(pauses.last(), Some(&KEY_PAUSE_MAX.as_secs()));
        assert_eq!(failures.pause_s(ip("10.0.0.2"), now - 1), 0);
    }

    #[test]
    fn a_quiet_minute_is_forgiveness() {
        let mut failures = Failures::default();
        failed(&mut failures, "10.0.0.1", WRONG_KEYS_MAX - 1, 1_000);
        failed(&mut failures, "10.0.0.1", WRONG_KEYS_MAX - 1, 1_060);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 1_060), 0);
        failures.note(ip("10.0.0.1"), 1_119);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 1_119), 5);
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut failures = Failures::default();
        failed(&mut failures, "10.0.0.1", WRONG_KEYS_MAX, 1_000_000);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 10), 0);
        failures.note(ip("10.0.0.1"), 10);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 10), 0);
        failures.note(ip("10.0.0.1"), u64::MAX);
    }

    #[test]
    fn one_customer_is_one_address() {
        let mut failures = Failures::default();
        failed(&mut failures, "2001:db8::1", WRONG_KEYS_MAX, 5);
        assert_eq!(failures.pause_s(ip("2001:db8::ffff:2"), 5), 5);
        assert_eq!(failures.pause_s(ip("2001:db8:0:1::1"), 5), 0);
        failed(&mut failures, "::ffff:10.0.0.1", WRONG_KEYS_MAX, 5);
        assert_eq!(failures.pause_s(ip("10.0.0.1"), 5), 5);
        assert_eq!(failures.pause_s(ip("::ffff:10.0.0.2"), 5), 0);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_quietest() {
        let mut failures = Failures::default();
        failed(&mut failures, "9.9.9.9", WRONG_KEYS_MAX + 4, 1_000);
        for n in 0..WRONG_KEY_ADDRESSES_MAX as u32 + 50 {
            failures.note(std::net::Ipv4Addr::from(0x0A00_0000 + n).into(), 1_001);
            assert!(failures.by_address.len() <= WRONG_KEY_ADDRESSES_MAX);
        }
        assert!(failures.pause_s(ip("9.9.9.9"), 1_001) > 0, "who is locked out is not who is forgotten");
        failures.note(ip("8.8.8.8"), 10_000);
        let few = WRONG_KEY_ADDRESSES_MAX - WRONG_KEY_ADDRESSES_LOOKED_AT..WRONG_KEY_ADDRESSES_MAX;
        assert!(few.contains(&failures.by_address.len()), "those that were looked at are old");
    }
}
