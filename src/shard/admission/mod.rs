//! Who is let in: connections in all and by address, publishers, players of one stream.
//!
//! One for the process, asked when a connection is accepted or closed and when a client asks to publish or play, never for
//! media. What is refused here has cost an accept, or a request, and nothing else. Handshakes under way are each shard's own
//! affair (`handshakes`). Bounds: see `addresses` and `audiences`.

mod addresses;
mod audiences;
pub(super) mod handshakes;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use self::{addresses::Addresses, audiences::Audiences};
use super::{ceilings::Ceilings, close::TurnedAway};
use crate::rtmp::key::StreamKey;

/// What a connection is counted as, to be given back by [`Admission::release`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// It was not admitted: a test's, or to another node.
    #[default]
    None,
    /// One connection.
    Counted,
    /// One connection, and one of its address.
    OfAddress,
}

/// See the file's head.
#[derive(Debug)]
pub struct Admission {
    ceilings: Ceilings,
    addresses: Addresses,
    connections: AtomicUsize,
    publishers: AtomicUsize,
    audiences: Audiences,
}

impl Admission {
    pub fn new(ceilings: Ceilings) -> Self {
        Self {
            addresses: Addresses::new(ceilings.connects_per_ip, ceilings.connections_per_ip_max),
            ceilings,
            connections: AtomicUsize::new(0),
            publishers: AtomicUsize::new(0),
            audiences: Audiences::default(),
        }
    }

    /// A place for a connection from `ip`, or from somebody who is yet to say who he is (`None`). `now` is the process's time.
    pub fn admit(&self, ip: Option<IpAddr>, now: Duration) -> Result<Place, TurnedAway> {
        let most = self.ceilings.connections_max.filter(|most| *most > 0).unwrap_or(usize::MAX);
        if self.connections.fetch_add(1, Ordering::Relaxed) >= most {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            return Err(TurnedAway::Connections);
        }
        match ip {
            None => Ok(Place::Counted),
            Some(ip) => self.name(Place::Counted, ip, now).inspect_err(|_| self.release(Place::Counted, ip, now)),
        }
    }

    /// A connection that was let in turns out to come from `ip`. Errors: it is one too many of that address; its place is
    /// still to be released.
    pub fn name(&self, place: Place, ip: IpAddr, now: Duration) -> Result<Place, TurnedAway> {
        if place != Place::Counted || !self.addresses.counts() || self.is_exempt(ip) {
            return Ok(place);
        }
        self.addresses.enter(ip, now).map(|counted| if counted { Place::OfAddress } else { place })
    }

    /// A connection has ended. `ip` is the one it was admitted or named with.
    pub fn release(&self, place: Place, ip: IpAddr, now: Duration) {
        if place == Place::OfAddress {
            self.addresses.leave(ip, now);
        }
        if place != Place::None {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn is_exempt(&self, ip: IpAddr) -> bool {
        self.ceilings.exempt.iter().any(|network| network.contains(ip))
    }

    /// The limit, if no further publisher is let in. To be asked right before [`note_publisher`](Self::note_publisher): no more
    /// than one shard each can come between.
    pub fn publishers_full(&self) -> Option<usize> {
        let most = self.ceilings.publishers_max;
        (most > 0 && self.publishers.load(Ordering::Relaxed) >= most).then_some(most)
    }

    pub fn note_publisher(&self) {
        self.publishers.fetch_add(1, Ordering::Relaxed);
    }

    pub fn publisher_left(&self) {
        self.publishers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The limit, if `key` may have no further player. To be asked right before [`note_player`](Self::note_player).
    pub fn audience_full(&self, key: &StreamKey) -> Option<u32> {
        let most = self.ceilings.players_per_stream_max;
        (most > 0 && self.audiences.of(key) >= most).then_some(most)
    }

    pub fn note_player(&self, key: &StreamKey) {
        if self.ceilings.players_per_stream_max > 0 {
            self.audiences.enter(key);
        }
    }

    pub fn player_left(&self, key: &StreamKey) {
        if self.ceilings.players_per_stream_max > 0 {
            self.audiences.leave(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::ceilings::Rate, *};
    use crate::access::network::Network;

    const NOW: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admission(change: impl FnOnce(&mut Ceilings)) -> Admission {
        let mut ceilings = Ceilings::default();
        change(&mut ceilings);
        Admission::new(ceilings)
    }

    #[test]
    fn a_place_is_free_again_once_it_is_released() {
        let admission = admission(|ceilings| ceilings.connections_max = Some(2));
        let from = ip("192.0.2.1");
        let places = [admission.admit(Some(from), NOW), admission.admit(None, NOW)];
        assert_eq!(places, [Ok(Place::OfAddress), Ok(Place::Counted)]);
        assert_eq!(admission.admit(Some(from), NOW), Err(TurnedAway::Connections));
        admission.release(Place::Counted, from, NOW);
        assert_eq!(admission.admit(Some(from), NOW), Ok(Place::OfAddress));
    }

    #[test]
    fn who_is_turned_away_for_his_address_takes_no_place() {
        let admission = admission(|ceilings| {
            ceilings.connections_max = Some(2);
            ceilings.connections_per_ip_max = 1;
        });
        assert!(admission.admit(Some(ip("192.0.2.1")), NOW).is_ok());
        for _ in 0..5 {
            assert_eq!(admission.admit(Some(ip("192.0.2.1")), NOW), Err(TurnedAway::ConnectionsPerIp));
        }
        assert!(admission.admit(Some(ip("192.0.2.2")), NOW).is_ok());
    }

    #[test]
    fn a_client_behind_a_balancer_is_counted_once_it_is_known() {
        let admission = admission(|ceilings| ceilings.connections_per_ip_max = 1);
        let client = ip("192.0.2.1");
        let first = admission.admit(None, NOW).unwrap();
        assert_eq!(admission.name(first, client, NOW), Ok(Place::OfAddress));
        let second = admission.admit(None, NOW).unwrap();
        assert_eq!(admission.name(second, client, NOW), Err(TurnedAway::ConnectionsPerIp));
        admission.release(second, client, NOW);
        admission.release(Place::OfAddress, client, NOW);
        assert_eq!(admission.connections.load(Ordering::Relaxed), 0);
        assert_eq!(admission.admit(Some(client), NOW), Ok(Place::OfAddress));
    }

    #[test]
    fn trusted_networks_are_not_counted_by_address() {
        let admission = admission(|ceilings| {
            ceilings.connects_per_ip = Some(Rate { per_second: 1, burst: 1 });
            ceilings.exempt = vec![Network::parse("10.0.0.0/8").unwrap()];
        });
        for _ in 0..10 {
            assert_eq!(admission.admit(Some(ip("10.1.2.3")), NOW), Ok(Place::Counted));
        }
        assert!(admission.admit(Some(ip("127.0.0.1")), NOW).is_ok());
        assert_eq!(admission.admit(Some(ip("127.0.0.1")), NOW), Err(TurnedAway::ConnectRate), "it is not in the list");
    }

    #[test]
    fn publishers_and_players_are_counted_up_and_down() {
        let admission = admission(|ceilings| {
            ceilings.publishers_max = 1;
            ceilings.players_per_stream_max = 2;
        });
        let (a, b) = (StreamKey::new("", "live", "a").unwrap(), StreamKey::new("", "live", "b").unwrap());
        admission.note_publisher();
        assert_eq!(admission.publishers_full(), Some(1));
        admission.publisher_left();
        assert_eq!(admission.publishers_full(), None);
        admission.note_player(&a);
        assert_eq!(admission.audience_full(&a), None);
        admission.note_player(&a);
        assert_eq!((admission.audience_full(&a), admission.audience_full(&b)), (Some(2), None));
        admission.player_left(&a);
        assert_eq!(admission.audience_full(&a), None);
        admission.player_left(&a);
        assert!(admission.audiences.of(&a) == 0);
    }
}
