//! What is known of each address that connections come from: how many it has, and how fast it may have more.
//!
//! An IPv6 client has a /64 to choose addresses from, so that is what counts. Bounds: an entry for each address with
//! connections, and [`ADDRESSES_IDLE_MAX`] for addresses without any that were here too lately to be forgotten. When those are
//! all taken, nobody is forgotten for it, or a flood of addresses could wipe out what is known of it: addresses not seen before
//! then share one bucket per stripe, and are let go uncounted.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::super::{ceilings::Rate, close::TurnedAway};
use crate::{
    access::network::customer,
    limits::{ADDRESSES_IDLE_MAX, ADDRESSES_SWEEP_PAUSE},
};

const STRIPES: usize = 64;

/// A token bucket, as the time at which it is full again. At most `burst` tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes a token, if there is one.
    fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let each = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.full_at.max(now);
        if full_at - now > each * rate.burst.saturating_sub(1) {
            return false;
        }
        self.full_at = full_at + each;
        true
    }

    fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}

#[derive(Debug, Default)]
struct Entry {
    connections: u32,
    bucket: Bucket,
}

#[derive(Debug, Default)]
struct Stripe {
    /// By [`customer`].
    entries: HashMap<IpAddr, Entry>,
    /// Those without connections.
    idle: usize,
    /// Of addresses there is no entry for.
    strangers: Bucket,
    swept_at: Option<Duration>,
}

impl Stripe {
    /// Forgets those of whom there is nothing to remember, but not at every occasion.
    fn sweep(&mut self, now: Duration) {
        if self.swept_at.is_some_and(|at| now < at + ADDRESSES_SWEEP_PAUSE) {
            return;
        }
        self.swept_at = Some(now);
        self.entries.retain(|_, entry| entry.connections > 0 || !entry.bucket.is_full(now));
        self.idle = self.entries.values().filter(|entry| entry.connections == 0).count();
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Addresses {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
    rate: Option<Rate>,
    /// Connections of one address; 0 for any number.
    each_max: u32,
    idle_max: usize,
}

impl Addresses {
    pub(super) fn new(rate: Option<Rate>, each_max: u32) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            rate,
            each_max,
            idle_max: ADDRESSES_IDLE_MAX / STRIPES,
        }
    }

    /// Whether anything is asked of addresses.
    pub(super) fn counts(&self) -> bool {
        self.rate.is_some() || self.each_max > 0
    }

    /// Counts a connection from `ip`; false if it is let in uncounted. `now` is the process's time.
    pub(super) fn enter(&self, ip: IpAddr, now: Duration) -> Result<bool, TurnedAway> {
        let client = customer(ip);
        let mut stripe = self.stripe(client);
        if !stripe.entries.contains_key(&client) && stripe.idle >= self.idle_max {
            stripe.sweep(now);
            if stripe.idle >= self.idle_max {
                let gets_in = self.rate.is_none_or(|rate| stripe.strangers.take(rate, now));
                return if gets_in { Ok(false) } else { Err(TurnedAway::ConnectRate) };
            }
        }
        let known = stripe.entries.contains_key(&client);
        let entry = stripe.entries.entry(client).or_default();
        if self.each_max > 0 && entry.connections >= self.each_max {
            return Err(TurnedAway::ConnectionsPerIp);
        }
        if !self.rate.is_none_or(|rate| entry.bucket.take(rate, now)) {
            return Err(TurnedAway::ConnectRate);
        }
        entry.connections = entry.connections.saturating_add(1);
        let returns = known && entry.connections == 1;
        if returns {
            stripe.idle = stripe.idle.saturating_sub(1);
        }
        Ok(true)
    }

    /// A connection that was counted has ended.
    pub(super) fn leave(&self, ip: IpAddr, now: Duration) {
        let client = customer(ip);
        let mut stripe = self.stripe(client);
        let Some(entry) = stripe.entries.get_mut(&client) else { return };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.connections > 0 {
            return;
        }
        if entry.bucket.is_full(now) {
            stripe.entries.remove(&client);
        } else {
            stripe.idle += 1;
        }
    }

    fn stripe(&self, client: IpAddr) -> MutexGuard<'_, Stripe> {
        let index = self.hasher.hash_one(client) as usize % STRIPES;
        // Whoever panicked with it held left counts that are at worst off by one.
        self.stripes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn entries(addresses: &Addresses) -> usize {
        addresses.stripes.iter().map(|stripe| stripe.lock().unwrap().entries.len()).sum()
    }

    #[test]
    fn a_bucket_has_its_burst_and_then_its_rate() {
        let addresses = Addresses::new(Some(RATE), 0);
        let from = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(addresses.enter(from, ms(0)), Ok(true));
        }
        assert_eq!(addresses.enter(from, ms(99)), Err(TurnedAway::ConnectRate));
        assert_eq!(addresses.enter(from, ms(100)), Ok(true));
        assert_eq!(addresses.enter(from, ms(100)), Err(TurnedAway::ConnectRate));
        assert_eq!(addresses.enter(ip("192.0.2.2"), ms(100)), Ok(true), "another address has its own");
        let late = (0..10).filter(|_| addresses.enter(from, ms(10_000)).is_ok()).count();
        assert_eq!(late, 3, "what is not used does not add up beyond the burst");
    }

    #[test]
    fn one_address_has_so_many_at_once() {
        let addresses = Addresses::new(None, 2);
        let from = ip("192.0.2.1");
        assert_eq!([addresses.enter(from, ms(0)), addresses.enter(from, ms(0))], [Ok(true), Ok(true)]);
        assert_eq!(addresses.enter(ip("::ffff:192.0.2.1"), ms(0)), Err(TurnedAway::ConnectionsPerIp));
        addresses.leave(from, ms(0));
        assert_eq!(addresses.enter(from, ms(0)), Ok(true));
        addresses.leave(from, ms(1));
        addresses.leave(from, ms(1));
        assert_eq!(entries(&addresses), 0);
    }

    #[test]
    fn an_ipv6_client_is_its_64_bits() {
        let addresses = Addresses::new(None, 1);
        assert_eq!(addresses.enter(ip("2001:db8:0:1::1"), ms(0)), Ok(true));
        assert_eq!(addresses.enter(ip("2001:db8:0:1:ffff::2"), ms(0)), Err(TurnedAway::ConnectionsPerIp));
        assert_eq!(addresses.enter(ip("2001:db8:0:2::1"), ms(0)), Ok(true));
    }

    #[test]
    fn whoever_is_slowed_down_is_so_after_a_new_connection_too() {
        let addresses = Addresses::new(Some(RATE), 0);
        let from = ip("192.0.2.1");
        for _ in 0..3 {
            assert_eq!(addresses.enter(from, ms(0)), Ok(true));
            addresses.leave(from, ms(0));
        }
        assert_eq!(entries(&addresses), 1, "it is remembered until its bucket is full");
        assert_eq!(addresses.enter(from, ms(10)), Err(TurnedAway::ConnectRate));
        assert_eq!(addresses.enter(from, ms(300)), Ok(true));
        addresses.leave(from, ms(400));
        assert_eq!(entries(&addresses), 0);
    }

    #[test]
    fn a_flood_of_addresses_wipes_nothing_out_and_costs_bounded_memory() {
        let slow = Rate { per_second: 1, burst: 2 };
        let addresses = Addresses { idle_max: 4, ..Addresses::new(Some(slow), 0) };
        let blocked = ip("192.0.2.1");
        while addresses.enter(blocked, ms(0)).is_ok() {
            addresses.leave(blocked, ms(0));
        }
        let mut let_in = 0;
        for n in 0..20_000_u32 {
            let from = IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 | n));
            if let Ok(counted) = addresses.enter(from, ms(1)) {
                let_in += 1;
                if counted {
                    addresses.leave(from, ms(1));
                }
            }
        }
        assert!(entries(&addresses) <= 4 * STRIPES + STRIPES, "{} entries", entries(&addresses));
        assert!((4 * STRIPES..=8 * STRIPES).contains(&let_in), "{let_in} were let in");
        assert_eq!(addresses.enter(blocked, ms(2)), Err(TurnedAway::ConnectRate), "it is not forgotten");
        assert_eq!(addresses.enter(ip("198.51.100.1"), ms(3_000)), Ok(true), "a while later all is as it was");
    }

    #[test]
    fn any_number_of_addresses_with_connections_is_counted() {
        let addresses = Addresses { idle_max: 1, ..Addresses::new(Some(RATE), 0) };
        for n in 0..1_000 {
            assert_eq!(addresses.enter(IpAddr::V4(Ipv4Addr::from_bits(n)), ms(0)), Ok(true), "{n}");
        }
    }
}
