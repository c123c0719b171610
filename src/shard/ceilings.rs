//! What an operator lets a node take at most. Each is a flag; `docs/limits.md` says what happens at it.

use crate::{access::network::Network, limits};

/// So many a second, after so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// See the file's head. Zero is no limit, where nothing else is said.
#[derive(Clone, Debug)]
pub struct Ceilings {
    /// Connections at once; `None` as many as the process may have files open, see [`crate::control`].
    pub connections_max: Option<usize>,
    /// Connections at once from one address.
    pub connections_per_ip_max: u32,
    /// New connections from one address.
    pub connects_per_ip: Option<Rate>,
    /// Addresses that the two before are not for.
    pub exempt: Vec<Network>,
    /// Connections that have not sent their `connect` yet.
    pub handshakes_max: usize,
    pub publishers_max: usize,
    pub players_per_stream_max: u32,
    /// Bits per second of one publisher, over [`limits::PUBLISH_RATE_WINDOW`].
    pub publish_bitrate_max: u64,
    pub message_bytes_max: usize,
    /// Of the process; `None` if the control thread is to ask the system, `Some(0)` without a limit.
    pub memory_bytes_max: Option<u64>,
    /// Whether a node that has too much to do sheds some of it.
    pub sheds: bool,
}

impl Ceilings {
    /// Silent peers leave room for clients, however few connections there may be.
    pub(super) fn handshakes_in_force(&self) -> usize {
        let share = self.connections_max.map(|most| (most / limits::HANDSHAKES_SHARE_DIVISOR).max(1));
        let set = (self.handshakes_max > 0).then_some(self.handshakes_max);
        share.into_iter().chain(set).min().unwrap_or(0)
    }
}

impl Default for Ceilings {
    fn default() -> Self {
        Self {
            connections_max: None,
            connections_per_ip_max: 0,
            connects_per_ip: Some(Rate {
                per_second: limits::CONNECTS_PER_IP_PER_SECOND,
                burst: limits::CONNECTS_PER_IP_BURST,
            }),
            exempt: limits::EXEMPT_NETWORKS_DEFAULT.iter().filter_map(|text| Network::parse(text).ok()).collect(),
            handshakes_max: limits::HANDSHAKES_MAX_DEFAULT,
            publishers_max: 0,
            players_per_stream_max: 0,
            publish_bitrate_max: 0,
            message_bytes_max: 0,
            memory_bytes_max: None,
            sheds: true,
        }
    }
}
