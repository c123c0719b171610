//! A connection: its session, what its message streams do, and what it is sending.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    admission::Place,
    asking::Pending,
    listen_addr::{SUCCESSOR_SHOWN_AS, UNIX_PEER},
    relaying::RelayId,
    session::Session,
    uses::{Use, Uses},
};
use crate::egress::Piece;

/// Key of a connection on its shard, until [`super::core::Core::remove`].
pub type ConnId = usize;

/// What a connection is to this node: told by how it came, never by an address, which a load balancer's client may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anybody, or another node that was dialled.
    Client,
    /// By a socket file: whoever may use it is trusted, as far as there are limits to addresses.
    SocketFile,
    /// The process that takes over from this one: what it asks for, it may have.
    Successor,
}

/// The other end, in no more bytes than an address has.
#[derive(Clone, Copy, Debug)]
enum End {
    Client(IpAddr),
    SocketFile,
    Successor,
}

/// A connection on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    /// Shard time by which its last bytes must be gone.
    pub(super) deadline: Duration,
    /// Nothing more is sent.
    pub(super) aborted: bool,
}

/// What is left to do about a connection before anything new: few have any.
#[derive(Debug, Default)]
pub(super) struct LooseEnds {
    /// What a short send left of its piece. It goes first: nothing may be written in the middle of a chunk.
    pub(super) rest: Option<Piece>,
    /// Ends of messages that players left their place in; at most one message for each message stream.
    pub(super) unfinished: VecDeque<Piece>,
    pub(super) closing: Option<Closing>,
    /// It is not read until this is decided.
    pub(super) pending: Option<Box<Pending>>,
    /// Requests that were denied.
    pub(super) denials: u8,
}

/// Its size is most of what a quiet player costs: see the test below.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) session: Session,
    pub(super) uses: Uses,
    /// Kept until the connection parks, so that a slow player costs no allocation per send.
    loose_ends: Option<Box<LooseEnds>>,
    /// Shard time in milliseconds, modulo 2^32, at which the send in flight last made progress.
    pub(super) sending_since_ms: Option<u32>,
    end: End,
    /// Of a client.
    peer_port: u16,
    /// The use whose turn it is to send.
    turn: u8,
    /// The driver waits to be woken before it asks for more to send.
    pub(super) parked: bool,
    /// There may be more to send than what is being sent.
    pub(super) has_more: bool,
    pub(super) place: Place,
    /// It has not sent its connect.
    pub(super) is_new: bool,
}

impl Conn {
    pub(super) fn new(session: Session, peer: SocketAddr, standing: Standing) -> Self {
        Self {
            session,
            uses: Uses::default(),
            loose_ends: None,
            sending_since_ms: None,
            end: match standing {
                Standing::Client => End::Client(peer.ip()),
                Standing::SocketFile => End::SocketFile,
                Standing::Successor => End::Successor,
            },
            peer_port: peer.port(),
            turn: 0,
            parked: false,
            has_more: false,
            place: Place::None,
            is_new: false,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.end {
            End::Client(_) => Standing::Client,
            End::SocketFile => Standing::SocketFile,
            End::Successor => Standing::Successor,
        }
    }

    /// Its client is the process that takes over.
    pub(super) fn is_successor(&self) -> bool {
        self.standing() == Standing::Successor
    }

    /// Its client came by a socket file, and has no address.
    pub(super) fn is_local(&self) -> bool {
        matches!(self.end, End::SocketFile)
    }

    pub(super) fn peer(&self) -> SocketAddr {
        match self.end {
            End::Client(ip) => SocketAddr::new(ip, self.peer_port),
            End::SocketFile => UNIX_PEER,
            End::Successor => SUCCESSOR_SHOWN_AS,
        }
    }

    /// The other end of a connection that had to be made first, or is behind a load balancer. Its standing stays.
    pub(super) fn set_peer(&mut self, peer: SocketAddr) {
        if let End::Client(_) = self.end {
            (self.end, self.peer_port) = (End::Client(peer.ip()), peer.port());
        }
    }

    pub(super) fn closing(&self) -> Option<Closing> {
        self.loose_ends.as_ref().and_then(|ends| ends.closing)
    }

    /// Whether what comes in is for the session: not once it closes, nor while it waits for a decision.
    pub(super) fn listens(&self) -> bool {
        self.loose_ends.as_ref().is_none_or(|ends| ends.closing.is_none() && ends.pending.is_none())
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.loose_ends.as_ref().and_then(|ends| ends.pending.as_deref())
    }

    /// Bytes that came behind a request that is not decided.
    pub(super) fn unread_bytes(&self) -> usize {
        self.pending().map_or(0, Pending::unread_bytes)
    }

    pub(super) fn pending_mut(&mut self) -> Option<&mut Pending> {
        self.loose_ends.as_mut().and_then(|ends| ends.pending.as_deref_mut())
    }

    /// The request of that number, if the connection still waits with it.
    pub(super) fn take_pending(&mut self, number: u64) -> Option<Box<Pending>> {
        self.loose_ends.as_mut()?.pending.take_if(|pending| pending.number == number)
    }

    /// To note something in.
    pub(super) fn loose_ends(&mut self) -> &mut LooseEnds {
        self.loose_ends.get_or_insert_default()
    }

    /// What must go out before anything else.
    pub(super) fn take_owed(&mut self) -> Option<Piece> {
        let ends = self.loose_ends.as_mut()?;
        ends.rest.take().or_else(|| ends.unfinished.pop_front())
    }

    /// The next use in turn.
    pub(super) fn next_turn(&mut self) -> Option<Use> {
        let turn = (usize::from(self.turn) + 1) % self.uses.len().max(1);
        // There are no more uses than message streams.
        self.turn = turn as u8;
        self.uses.get(turn).copied()
    }

    /// There is something to send. True if the driver waits to be told.
    pub(super) fn wake(&mut self) -> bool {
        self.has_more = true;
        std::mem::take(&mut self.parked)
    }

    /// A stream is pulled over it.
    pub(super) fn is_source(&self) -> bool {
        self.session.upstream().is_some_and(|upstream| matches!(upstream.leg.relay, RelayId::Pull(_)))
    }

    /// Nothing is left to send.
    pub(super) fn park(&mut self) {
        self.parked = true;
        self.loose_ends.take_if(|ends| ends.are_tied_up());
    }
}

impl LooseEnds {
    fn are_tied_up(&self) -> bool {
        self.rest.is_none()
            && self.unfinished.is_empty()
            && self.closing.is_none()
            && self.pending.is_none()
            && self.denials == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{super::local::Watcher, *};

    /// The allocator's classes around a connection's box are 256, 320 and 384 bytes; watchers lie side by side in a slab. A
    /// byte more than a class costs every player the next one.
    #[test]
    fn a_quiet_player_is_small() {
        assert!(size_of::<Conn>() <= 256, "a connection has {} bytes", size_of::<Conn>());
        assert!(size_of::<Watcher>() <= 72, "a watcher has {} bytes", size_of::<Watcher>());
    }
}
