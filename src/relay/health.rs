//! Which nodes could not be reached lately, whichever stream was asked for. A shard keeps one book for all its pulls, so
//! that one stream's failure spares the others the same wait.
//!
//! Only that a node cannot be reached counts: whether it has a stream is that stream's matter. At most
//! [`HEALTH_ENDPOINTS_MAX`] nodes are kept: with another, the one that is to be well again first is forgotten.

use std::{collections::HashMap, time::Duration};

use super::{backoff::Backoff, upstream::Endpoint};
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX, HEALTH_ENDPOINTS_MAX};

/// See the file's head.
#[derive(Debug)]
pub struct HealthBook {
    sick: HashMap<Endpoint, Sick, foldhash::fast::FixedState>,
    seed: u64,
}

#[derive(Debug)]
struct Sick {
    until: Duration,
    backoff: Backoff,
    failures: u32,
}

impl HealthBook {
    pub fn new(seed: u64) -> Self {
        Self { sick: HashMap::default(), seed }
    }

    /// `endpoint` could not be reached. What fails while it is known to be sick was under way before and says nothing new.
    pub fn failed(&mut self, endpoint: &Endpoint, now: Duration) {
        if !self.sick.contains_key(endpoint) {
            self.make_room();
            self.seed = self.seed.wrapping_add(1);
            let backoff = Backoff::new(BACK_OFF_FIRST, BACK_OFF_MAX, self.seed);
            self.sick.insert(endpoint.clone(), Sick { until: Duration::ZERO, backoff, failures: 0 });
        }
        let Some(sick) = self.sick.get_mut(endpoint).filter(|sick| sick.until <= now) else { return };
        sick.failures = sick.failures.saturating_add(1);
        sick.until = now + sick.backoff.pause();
    }

    /// `endpoint` was reached.
    pub fn well(&mut self, endpoint: &Endpoint) {
        self.sick.remove(endpoint);
    }

    /// Until when `endpoint` is better not asked.
    pub fn sick_until(&self, endpoint: &Endpoint, now: Duration) -> Option<Duration> {
        self.sick.get(endpoint).map(|sick| sick.until).filter(|until| *until > now)
    }

    pub fn is_sick(&self, endpoint: &Endpoint, now: Duration) -> bool {
        self.sick_until(endpoint, now).is_some()
    }

    /// How often in a row `endpoint` could not be reached.
    pub fn failures(&self, endpoint: &Endpoint) -> u32 {
        self.sick.get(endpoint).map_or(0, |sick| sick.failures)
    }

    fn make_room(&mut self) {
        if self.sick.len() < HEALTH_ENDPOINTS_MAX {
            return;
        }
        let first = self.sick.iter().min_by_key(|(_, sick)| sick.until).map(|(endpoint, _)| endpoint.clone());
        if let Some(first) = first {
            self.sick.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: usize) -> Endpoint {
        Endpoint::Tcp { host: format!("n{number}"), port: 1_935, secure: false }
    }

    #[test]
    fn a_node_is_sick_for_a_while_and_longer_each_time() {
        let mut book = HealthBook::new(1);
        let mut now = Duration::from_secs(9);
        assert!(!book.is_sick(&node(0), now));
        let mut last = Duration::ZERO;
        for failures in 1..=3 {
            book.failed(&node(0), now);
            let until = book.sick_until(&node(0), now).expect("sick");
            assert_eq!(book.failures(&node(0)), failures);
            assert!(until - now >= last && until - now <= BACK_OFF_MAX);
            assert!(!book.is_sick(&node(1), now));
            last = until - now;
            now = until;
            assert!(!book.is_sick(&node(0), now));
        }
        book.well(&node(0));
        assert_eq!(book.failures(&node(0)), 0);
    }

    #[test]
    fn many_streams_that_fail_at_once_count_as_one_failure() {
        let mut book = HealthBook::new(1);
        for _ in 0..1_000 {
            book.failed(&node(0), Duration::from_secs(1));
        }
        assert_eq!(book.failures(&node(0)), 1);
        assert!(!book.is_sick(&node(0), Duration::from_secs(1) + BACK_OFF_FIRST));
    }

    #[test]
    fn the_book_is_bounded() {
        let mut book = HealthBook::new(1);
        for number in 0..HEALTH_ENDPOINTS_MAX + 10 {
            book.failed(&node(number), Duration::from_secs(number as u64 * 100));
        }
        assert_eq!(book.sick.len(), HEALTH_ENDPOINTS_MAX);
        assert_eq!(book.failures(&node(0)), 0);
        assert_eq!(book.failures(&node(HEALTH_ENDPOINTS_MAX + 9)), 1);
    }
}
