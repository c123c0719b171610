//! What a connection is sent next: what it is owed, what its session has to say, then what its players are to get, in turns.
//!
//! One send at a time is under way for each connection. The driver asks [`Core::transmit`] for it and reports it by
//! [`Core::sent`], until it is told to park.

use super::{conn::ConnId, core::Core, session::Session, uses::Use};
use crate::egress::{Next, Piece, TooSlow};

/// What a connection does next.
#[derive(Debug)]
pub enum Transmit {
    Send(Piece),
    /// Nothing until the connection is woken.
    Park,
    /// Its last byte was sent: end the sending side and wait for the peer to close.
    Close,
}

impl Core {
    /// What to send on a connection that has no send in flight.
    pub fn transmit(&mut self, id: ConnId) -> Transmit {
        loop {
            let Some(conn) = self.conns.get_mut(id) else { return Transmit::Close };
            if conn.closing().is_some_and(|closing| closing.aborted) {
                return Transmit::Close;
            }
            conn.parked = false;
            conn.has_more = true;
            if let Some(rest) = conn.take_owed() {
                return self.send(id, rest);
            }
            if conn.session.has_output() {
                let output = conn.session.take_output();
                return self.send(id, Piece::Own(output));
            }
            if conn.closing().is_some() {
                return Transmit::Close;
            }
            conn.has_more = conn.uses.len() > 1;
            match self.next_piece(id) {
                Next::Send(piece) => {
                    self.streams.merger.note_send();
                    return self.send(id, piece);
                }
                // An answer may have been written, or the connection closed, while looking.
                _ if self.has_news(id) => {}
                _ => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.park();
                    }
                    return Transmit::Park;
                }
            }
        }
    }

    fn has_news(&self, id: ConnId) -> bool {
        self.conns.get(id).is_none_or(|conn| conn.closing().is_some() || conn.session.has_output())
    }

    fn send(&mut self, id: ConnId, piece: Piece) -> Transmit {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.sending_since_ms = Some(self.time.now_ms());
        }
        self.metrics.sends.add(1);
        Transmit::Send(piece)
    }

    /// Whether the connection's player has joined and is in step, so that the kernel may join what little is sent.
    pub fn may_join_small_sends(&self, id: ConnId) -> bool {
        let in_step = |used: &Use| match used {
            Use::Playing { local, watcher, .. } => self.streams.is_in_step(*local, *watcher),
            Use::Publishing { .. } => false,
        };
        !self.config.tcp_nodelay && self.conns.get(id).is_some_and(|conn| conn.uses.iter().any(in_step))
    }

    /// A send has completed: `count` bytes of `piece` went out. True if there is nothing more, as if [`Core::transmit`] had
    /// said [`Transmit::Park`].
    pub fn sent(&mut self, id: ConnId, mut piece: Piece, count: usize) -> bool {
        self.metrics.bytes_sent.add(count as u64);
        let Some(conn) = self.conns.get_mut(id) else { return false };
        conn.sending_since_ms = None;
        if let Session::Upstream(upstream) = &mut conn.session {
            upstream.bytes_out += count as u64;
        }
        if count < piece.len() {
            piece.advance(count);
            conn.loose_ends().rest = Some(piece);
            return false;
        }
        if !conn.has_more {
            conn.park();
        }
        !conn.has_more
    }

    /// The driver sends something of its own, or has done so (`on` is false): its peer has to take that, too.
    pub fn sends_own(&mut self, id: ConnId, on: bool) {
        let now_ms = self.time.now_ms();
        if let Some(conn) = self.conns.get_mut(id) {
            conn.sending_since_ms = on.then_some(now_ms);
        }
    }

    /// Some of the send in flight went out.
    pub fn progressed(&mut self, id: ConnId) {
        let now_ms = self.time.now_ms();
        if let Some(since_ms) = self.conns.get_mut(id).and_then(|conn| conn.sending_since_ms.as_mut()) {
            *since_ms = now_ms;
        }
    }

    /// The next piece of the connection's players, who take turns.
    fn next_piece(&mut self, id: ConnId) -> Next {
        let Some(conn) = self.conns.get_mut(id) else { return Next::Idle };
        for _ in 0..conn.uses.len() {
            let conn = &mut self.conns[id];
            let Some(Use::Playing { stream, local, watcher }) = conn.next_turn() else { continue };
            let (next, is_all) = self.streams.next_piece(local, watcher, &self.policy, &self.time, &self.metrics);
            match next {
                Next::Send(piece) => {
                    self.conns[id].has_more |= !is_all;
                    return Next::Send(piece);
                }
                Next::TooSlow(why) => {
                    self.close_slow_player(id, why);
                    return Next::Idle;
                }
                Next::Left => {
                    self.let_player_go(id, stream);
                    return Next::End;
                }
                Next::End if self.tell_end(local, watcher) => return Next::End,
                Next::Idle | Next::End => {}
            }
        }
        Next::Idle
    }

    /// It did not keep up, or not at all.
    pub(super) fn close_slow_player(&mut self, id: ConnId, why: TooSlow) {
        let what = "it does not take what it is sent fast enough: its network is slower than the stream";
        self.log_close(id, why.into(), what);
        self.close(id, why.into(), true);
    }
}
