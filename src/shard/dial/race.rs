//! In which order and when a name's addresses are tried (RFC 8305, sections 4 and 5): families by turns, IPv6 first, the next
//! one when the last has failed or [`DIAL_ATTEMPT_PAUSE`] has passed.
//!
//! Bound: [`DIAL_ADDRESSES_MAX`] addresses. Time comes from the caller.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use crate::limits::{DIAL_ADDRESSES_MAX, DIAL_ATTEMPT_PAUSE};

#[derive(Debug)]
pub(super) struct Race {
    left: VecDeque<SocketAddr>,
    /// When the next one is due; `None`: at once.
    due: Option<Instant>,
}

impl Race {
    /// `addresses` as the resolver orders them (RFC 6724).
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self { left: by_turns(addresses), due: None }
    }

    /// The address to try now, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.due.is_some_and(|due| now < due) {
            return None;
        }
        let next = self.left.pop_front()?;
        self.due = Some(now + DIAL_ATTEMPT_PAUSE);
        Some(next)
    }

    /// An attempt has failed: the next address is due.
    pub(super) fn failed(&mut self) {
        self.due = None;
    }

    /// When [`Race::next`] has another; `None`: never.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.left.is_empty() { None } else { self.due }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }
}

fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let mut distinct = Vec::with_capacity(addresses.len());
    for addr in addresses {
        if !distinct.contains(&addr) {
            distinct.push(addr);
        }
    }
    let (six, four): (Vec<_>, Vec<_>) = distinct.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut order = VecDeque::new();
    while order.len() < DIAL_ADDRESSES_MAX {
        let (first, second) = (six.next(), four.next());
        if first.is_none() && second.is_none() {
            break;
        }
        order.extend(first.into_iter().chain(second));
    }
    order.truncate(DIAL_ADDRESSES_MAX);
    order
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addrs(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|addr| addr.parse().expect("an address")).collect()
    }

    fn order(list: &[&str]) -> Vec<String> {
        by_turns(addrs(list)).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns_ipv6_first() {
        assert_eq!(
            order(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1", "[::1]:1", "[::2]:1"]),
            ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"]
        );
        assert_eq!(order(&["1.0.0.1:1", "1.0.0.1:1"]), ["1.0.0.1:1"], "each once");
        assert!(order(&[]).is_empty());
    }

    #[test]
    fn no_more_than_so_many_addresses_are_tried() {
        let many = (0..100).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect::<Vec<_>>();
        let order = by_turns(many.clone());
        assert_eq!(order, &many[..DIAL_ADDRESSES_MAX]);
    }

    #[test]
    fn the_next_is_due_after_a_pause_or_a_failure() {
        let start = Instant::now();
        let mut race = Race::new(addrs(&["1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]));
        assert_eq!(race.next(start), Some(addrs(&["1.0.0.1:1"])[0]));
        assert_eq!(race.next(start), None);
        let due = start + DIAL_ATTEMPT_PAUSE;
        assert_eq!(race.due(), Some(due));
        assert_eq!(race.next(due - Duration::from_millis(1)), None);
        assert_eq!(race.next(due), Some(addrs(&["1.0.0.2:1"])[0]));
        race.failed();
        assert_eq!(race.next(due), Some(addrs(&["1.0.0.3:1"])[0]));
        assert!(race.is_over() && race.due().is_none() && race.next(due + DIAL_ATTEMPT_PAUSE).is_none());
    }
}
