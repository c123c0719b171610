//! A connection without a kernel: two pipes that delay, cut and hold back bytes, and end by FIN or RST.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::rng::Rng;

/// How a pipe treats what is written to it.
#[derive(Clone, Copy)]
pub(crate) struct Wire {
    /// Bytes that fit before the writer has to wait.
    pub(crate) capacity: usize,
    /// Largest piece that arrives at once.
    pub(crate) segment: usize,
    pub(crate) delay_ms: u64,
}

/// One direction. What is written arrives in order, each piece at its own time.
pub(crate) struct Pipe {
    wire: Wire,
    flying: VecDeque<(u64, Bytes)>,
    held: usize,
    last_arrival: u64,
    /// When the end arrives, once it was written.
    end_at: Option<u64>,
}

impl Pipe {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, flying: VecDeque::new(), held: 0, last_arrival: 0, end_at: None }
    }

    pub(crate) fn room(&self) -> usize {
        self.wire.capacity.saturating_sub(self.held)
    }

    pub(crate) fn write(&mut self, now: u64, mut bytes: Bytes, rng: &mut Rng) {
        self.held += bytes.len();
        while !bytes.is_empty() {
            let most = if rng.chance(3) { 3 } else { self.wire.segment };
            let cut = (1 + rng.below(most as u64) as usize).max(bytes.len().min(most) / 2).min(bytes.len());
            let arrival = self.arrival(now, rng);
            self.flying.push_back((arrival, bytes.split_to(cut)));
        }
    }

    fn arrival(&mut self, now: u64, rng: &mut Rng) -> u64 {
        self.last_arrival = self.last_arrival.max(now + rng.below(self.wire.delay_ms + 1));
        self.last_arrival
    }

    /// Ends the direction behind what was written.
    pub(crate) fn end(&mut self, now: u64, rng: &mut Rng) {
        let arrival = self.arrival(now, rng);
        self.end_at.get_or_insert(arrival);
    }

    pub(crate) fn readable(&self, now: u64) -> bool {
        self.flying.front().is_some_and(|(at, _)| *at <= now)
    }

    pub(crate) fn ended(&self, now: u64) -> bool {
        self.flying.is_empty() && self.end_at.is_some_and(|at| at <= now)
    }

    /// The next bytes that have arrived, at most `most`.
    pub(crate) fn read(&mut self, now: u64, most: usize) -> Option<Bytes> {
        let (_, bytes) = self.flying.front_mut().filter(|(at, _)| *at <= now && most > 0)?;
        let taken = bytes.split_to(bytes.len().min(most));
        if bytes.is_empty() {
            self.flying.pop_front();
        }
        self.held -= taken.len();
        Some(taken)
    }

    pub(crate) fn discard(&mut self) {
        self.flying.clear();
        self.held = 0;
    }
}

/// Both directions of a connection, and what its ends have done to it.
pub(crate) struct Link {
    pub(crate) to_server: Pipe,
    pub(crate) to_client: Pipe,
    /// The client sent RST.
    pub(crate) reset: bool,
    /// The client has closed and takes nothing any more.
    pub(crate) client_gone: bool,
    /// Bytes the server has read.
    pub(crate) read: u64,
    /// Those of them that it had read when it last took media.
    pub(crate) delivered: u64,
    /// The server takes media from it, or has ceased to at that time.
    pub(crate) publishes: bool,
    pub(crate) unpublished_at: Option<u64>,
    /// The server has let go of it.
    pub(crate) removed: bool,
}

impl Link {
    pub(crate) fn new(up: Wire, down: Wire) -> Self {
        Self {
            to_server: Pipe::new(up),
            to_client: Pipe::new(down),
            reset: false,
            client_gone: false,
            read: 0,
            delivered: 0,
            publishes: false,
            unpublished_at: None,
            removed: false,
        }
    }

    /// The client's orderly close.
    pub(crate) fn close(&mut self, now: u64, rng: &mut Rng) {
        self.to_server.end(now, rng);
        self.to_client.discard();
        self.client_gone = true;
    }

    /// The client's RST: what was on its way is lost.
    pub(crate) fn abort(&mut self) {
        self.to_server.discard();
        self.to_client.discard();
        self.reset = true;
        self.client_gone = true;
    }
}
