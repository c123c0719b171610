//! A connection: its session, what its message streams do, and what it is sending.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::close::CloseReason;
use crate::{egress::Piece, rtmp::server::ServerSession};

/// Key of a connection on its shard, until [`super::core::Core::remove`].
pub type ConnId = usize;

/// What one message stream of a connection is used for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use {
    Publishing {
        stream: u32,
        local: usize,
        epoch: u64,
        /// Shard time.
        last_media: Duration,
    },
    Playing {
        stream: u32,
        local: usize,
        watcher: usize,
    },
}

impl Use {
    pub(super) fn stream(&self) -> u32 {
        match self {
            Use::Publishing { stream, .. } | Use::Playing { stream, .. } => *stream,
        }
    }
}

/// A connection on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    /// Shard time by which its last bytes must be gone.
    pub(super) deadline: Duration,
    /// Nothing more is sent.
    pub(super) aborted: bool,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) session: ServerSession,
    pub(super) peer: SocketAddr,
    pub(super) uses: Vec<Use>,
    /// The use whose turn it is to send.
    pub(super) turn: usize,
    /// What a short send left of its piece. It goes first: nothing may be written in the middle of a chunk.
    pub(super) rest: Option<Piece>,
    /// Ends of messages that players left their place in; at most one message for each message stream.
    pub(super) unfinished: VecDeque<Piece>,
    /// The driver waits to be woken before it asks for more to send.
    pub(super) parked: bool,
    /// Shard time at which the send in flight last made progress.
    pub(super) sending_since: Option<Duration>,
    pub(super) closing: Option<Closing>,
    pub(super) reason: Option<CloseReason>,
}

impl Conn {
    pub(super) fn new(session: ServerSession, peer: SocketAddr) -> Self {
        Self {
            session,
            peer,
            uses: Vec::new(),
            turn: 0,
            rest: None,
            unfinished: VecDeque::new(),
            parked: false,
            sending_since: None,
            closing: None,
            reason: None,
        }
    }
}
