//! What is at the other end of a connection: a client of this node, or a node that this one is a client of.
//!
//! Publishing and playing ask a session for the same few things whoever it talks to; what means nothing to the one at
//! hand does nothing.

use std::time::Duration;

use bytes::Bytes;

use super::relaying::{LegId, Provenance};
use crate::rtmp::{
    capabilities::{Capabilities, caps_ex},
    client::ClientSession,
    message::Kind,
    server::{PlayRefusal, PublishRefusal, ServerSession, SessionError},
};

#[derive(Debug)]
pub(super) enum Session {
    Client(ServerSession),
    Upstream(Box<Upstream>),
}

/// A connection to another node.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) session: ClientSession,
    pub(super) leg: LegId,
    /// There is a socket.
    pub(super) dialled: bool,
    /// The other side's handshake is complete.
    pub(super) greeted: bool,
    /// What it was sent of the stream.
    pub(super) bytes_out: u64,
}

impl Session {
    pub(super) fn upstream(&self) -> Option<&Upstream> {
        match self {
            Self::Client(_) => None,
            Self::Upstream(upstream) => Some(upstream),
        }
    }

    pub(super) fn upstream_mut(&mut self) -> Option<&mut Upstream> {
        match self {
            Self::Client(_) => None,
            Self::Upstream(upstream) => Some(upstream),
        }
    }

    pub(super) fn has_output(&self) -> bool {
        match self {
            Self::Client(session) => session.has_output(),
            Self::Upstream(upstream) => upstream.session.has_output(),
        }
    }

    pub(super) fn take_output(&mut self) -> Bytes {
        match self {
            Self::Client(session) => session.take_output(),
            Self::Upstream(upstream) => upstream.session.take_output(),
        }
    }

    /// Relays have deadlines of their own.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Client(session) => session.deadline(),
            Self::Upstream(_) => None,
        }
    }

    /// Whether the client's connect was accepted.
    pub(super) fn has_connected(&self) -> bool {
        match self {
            Self::Client(session) => session.has_connected(),
            Self::Upstream(_) => true,
        }
    }

    /// Bytes held of messages that are not whole. A node that is pulled from is the operator's choice.
    pub(super) fn in_flight_bytes(&self) -> usize {
        match self {
            Self::Client(session) => session.in_flight_bytes(),
            Self::Upstream(_) => 0,
        }
    }

    pub(super) fn discard_in_flight(&mut self) {
        if let Self::Client(session) = self {
            session.discard_in_flight();
        }
    }

    pub(super) fn timeout(&self, now: Duration) -> Result<(), SessionError> {
        match self {
            Self::Client(session) => session.timeout(now),
            Self::Upstream(_) => Ok(()),
        }
    }

    pub(super) fn capabilities(&self) -> Option<Capabilities> {
        match self {
            Self::Client(session) => session.capabilities(),
            Self::Upstream(upstream) => upstream.session.server_capabilities().cloned(),
        }
    }

    pub(super) fn takes_multitrack(&self) -> bool {
        match self {
            Self::Client(session) => session.takes_multitrack(),
            Self::Upstream(upstream) => {
                upstream.session.server_capabilities().is_some_and(|known| known.caps_ex & caps_ex::MULTITRACK != 0)
            }
        }
    }

    pub(super) fn receives(&self, stream: u32, kind: Kind) -> bool {
        match self {
            Self::Client(session) => session.receives(stream, kind),
            Self::Upstream(_) => true,
        }
    }

    /// The app of a client's connect, with its query.
    pub(super) fn app(&self) -> &str {
        match self {
            Self::Client(session) => session.app(),
            Self::Upstream(_) => "",
        }
    }

    /// The tcUrl of a client's connect, with its query.
    pub(super) fn tc_url(&self) -> &str {
        match self {
            Self::Client(session) => session.tc_url(),
            Self::Upstream(_) => "",
        }
    }

    /// Whether the client's stream has passed `node`, or may have: it has passed more than are told.
    pub(super) fn has_passed(&self, node: &str) -> bool {
        match self {
            Self::Client(session) => session.has_more_hops() || session.hops().any(|hop| hop == node),
            Self::Upstream(_) => false,
        }
    }

    /// Whether the client is another node, which gets the newest GOP at once: without media in time it would take the
    /// stream for missing, and whether its own players wait for a keyframe is its to say.
    pub(super) fn is_node(&self) -> bool {
        match self {
            Self::Client(session) => session.hops().next().is_some(),
            Self::Upstream(_) => true,
        }
    }

    /// What other nodes are told of what it publishes or asks for.
    pub(super) fn provenance(&self) -> Provenance {
        let hops = match self {
            Self::Client(session) => session.hops().map(ToOwned::to_owned).collect(),
            Self::Upstream(_) => Box::default(),
        };
        Provenance { hops, capabilities: self.capabilities(), publisher: None }
    }

    pub(super) fn accept_publish(&mut self, stream: u32) {
        if let Self::Client(session) = self {
            session.accept_publish(stream);
        }
    }

    pub(super) fn refuse_publish(&mut self, stream: u32, why: PublishRefusal, description: &str) {
        if let Self::Client(session) = self {
            session.refuse_publish(stream, why, description);
        }
    }

    pub(super) fn start_play(&mut self, stream: u32) {
        if let Self::Client(session) = self {
            session.start_play(stream);
        }
    }

    pub(super) fn refuse_play(&mut self, stream: u32, why: PlayRefusal, description: &str) {
        if let Self::Client(session) = self {
            session.refuse_play(stream, why, description);
        }
    }

    /// The stream has ended: a player is told, a node it is pushed to gets its orderly end.
    pub(super) fn end_play(&mut self, stream: u32) {
        match self {
            Self::Client(session) => session.end_play(stream),
            Self::Upstream(upstream) => upstream.session.close(),
        }
    }

    pub(super) fn end_publish(&mut self, stream: u32, description: &str) {
        if let Self::Client(session) = self {
            session.end_publish(stream, description);
        }
    }

    pub(super) fn replace_publish(&mut self, stream: u32, description: &str) {
        if let Self::Client(session) = self {
            session.replace_publish(stream, description);
        }
    }

    pub(super) fn can_reconnect(&self) -> bool {
        match self {
            Self::Client(session) => session.can_reconnect(),
            Self::Upstream(_) => false,
        }
    }

    pub(super) fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> bool {
        match self {
            Self::Client(session) => session.request_reconnect(tc_url, description),
            Self::Upstream(_) => false,
        }
    }
}
