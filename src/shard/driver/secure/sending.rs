//! What goes out over TLS: one task sends to all connections for as long as there is room, and a connection's own waits for room.
//!
//! What is encrypted is sent from where it was, without the ring: by the time a submission was taken up, the bytes would have left
//! the CPU's cache. Nothing is waited for then, and waking a task for each send would only cost. Bounds: a turn of the task has
//! [`limits::TLS_TURNS_BUDGET`] connections, each with [`limits::TLS_SENDS_PER_TURN`] sends; the queue has a connection once, or
//! twice while it passes between its task and this one.

use std::rc::Rc;

use monoio::buf::IoBuf;

use super::{Secure, SharedTls, UnderWay};
use crate::{
    egress::Piece,
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::Transmit,
        dial::TlsFault,
        driver::{Driver, Slot, line::Line},
        prefetch::prefetch,
        socket::Socket,
    },
};

/// Connections to be looked at by the task that sends.
pub(in super::super) type Due = Line<ConnId>;

impl Due {
    /// The connection of `slot` may have something to send, or to do.
    pub(in super::super) fn add(&self, id: ConnId, slot: &mut Slot) {
        if std::mem::replace(&mut slot.woken, true) {
            return;
        }
        self.push(id);
    }
}

impl Secure {
    /// Those whose turn it is, with their sessions.
    fn take_due(&self, turns: &mut Vec<(ConnId, Option<SharedTls>)>) {
        let sessions = self.sessions.borrow();
        while turns.len() < limits::TLS_TURNS_BUDGET
            && let Some(id) = self.due.pop()
        {
            let session = sessions.get(&id).map(Rc::clone);
            if let Some(session) = &session {
                prefetch(&**session);
            }
            turns.push((id, session));
        }
    }
}

impl Driver {
    /// Sends to those that are due, in turns.
    pub(in super::super) async fn send_secure(self: Rc<Self>) {
        let mut turns = Vec::with_capacity(limits::TLS_TURNS_BUDGET);
        loop {
            self.secure.due.filled().await;
            self.secure.take_due(&mut turns);
            for at in 0..turns.len() {
                // While the one before is sent to.
                if let Some((_, Some(next))) = turns.get(at + 1) {
                    next.borrow().tls.prefetch_keys();
                }
                if let Some((id, session)) = turns.get(at) {
                    self.take_turn(*id, session.as_ref());
                }
            }
            turns.clear();
            self.let_all_run().await;
        }
    }

    /// Sends what a connection has to get, unless its own task does so: then that is woken.
    fn take_turn(&self, id: ConnId, session: Option<&SharedTls>) {
        let session = session.filter(|session| !session.borrow().is_with_task);
        if let Some(slot) = self.slots.borrow_mut().get_mut(id).and_then(Option::as_mut) {
            slot.woken = false;
            if session.is_none() {
                slot.wake();
            }
        }
        let Some(session) = session else { return };
        for _ in 0..limits::TLS_SENDS_PER_TURN {
            match self.transmit(id) {
                Transmit::Send(piece) => {
                    if !self.send_piece(id, session, piece) {
                        return;
                    }
                }
                Transmit::Park => {
                    // What TLS has to say by itself.
                    if session.borrow().tls.wants_output() {
                        self.hand_back(id, session);
                    }
                    return;
                }
                Transmit::Close => {
                    session.borrow_mut().is_done = true;
                    self.hand_back(id, session);
                    return;
                }
            }
        }
        if let Some(slot) = self.slots.borrow_mut().get_mut(id).and_then(Option::as_mut) {
            self.secure.due.add(id, slot);
        }
    }

    /// Encrypts and sends a piece, or its beginning. True: there is more, and there was room.
    fn send_piece(&self, id: ConnId, session: &SharedTls, piece: Piece) -> bool {
        let mut block = self.secure.scratch.borrow_mut();
        block.clear();
        let sealed = session.borrow_mut().tls.seal(piece.as_slice(), &mut block);
        let count = match sealed {
            Ok(count) => count,
            Err(fault) => {
                self.give_up(id, session, fault);
                return false;
            }
        };
        let sent = self.send_at_once(id, &block, count < piece.len());
        if sent < block.len() {
            let mut rest = self.secure.blocks.take();
            rest.extend_from_slice(block.get(sent..).unwrap_or_default());
            session.borrow_mut().under_way = Some(UnderWay { rest, piece, count });
            self.hand_back(id, session);
            return false;
        }
        let parks = self.core.borrow_mut().sent(id, piece, count);
        if parks {
            self.note_parked(id);
        }
        !parks
    }

    /// Nothing more may be encrypted.
    fn give_up(&self, id: ConnId, session: &SharedTls, fault: TlsFault) {
        session.borrow_mut().is_done = true;
        // It may be so because of what was read, which has been told.
        if session.borrow().fault.is_none() {
            session.borrow_mut().fault = Some(fault);
            self.end_of_session(id, session, CloseReason::Tls);
            self.pass_on(&mut self.core.borrow_mut());
        }
        self.hand_back(id, session);
    }

    /// From here on the connection's own task sends.
    fn hand_back(&self, id: ConnId, session: &SharedTls) {
        session.borrow_mut().is_with_task = true;
        if let Some(slot) = self.slots.borrow_mut().get_mut(id).and_then(Option::as_mut) {
            slot.wake();
        }
    }

    /// Has the task that sends to all do so, and waits for room whenever that finds none. Ends when the last was sent or the
    /// connection broke.
    pub(super) async fn send_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) {
        loop {
            let under_way = session.borrow_mut().under_way.take();
            if let Some(UnderWay { rest, piece, count }) = under_way {
                if !self.send_block(socket, id, session, rest).await {
                    return;
                }
                self.core.borrow_mut().sent(id, piece, count);
            }
            if !self.flush_sealed(socket, id, session).await || session.borrow().is_done {
                return;
            }
            session.borrow_mut().is_with_task = false;
            self.secure.due.push(id);
            while !session.borrow().is_with_task {
                self.woken(id).await;
            }
        }
    }

    /// Sends what TLS has to say by itself. False: the connection broke, and the core knows.
    pub(super) async fn flush_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) -> bool {
        while session.borrow().tls.wants_output() {
            let mut block = self.secure.blocks.take();
            session.borrow_mut().tls.output(&mut block);
            self.core.borrow_mut().sends_own(id, true);
            let is_sent = self.send_block(socket, id, session, block).await;
            self.core.borrow_mut().sends_own(id, false);
            if !is_sent {
                return false;
            }
        }
        true
    }

    /// Takes in what came before the connection broke.
    fn broke(&self, id: ConnId, session: &SharedTls) {
        while matches!(self.read_sealed(id, session), Ok(false)) {}
        if !self.dials.contains(id) {
            self.with_core(|core| core.peer_closed(id, CloseReason::PeerReset));
        }
    }

    /// Sends all of a block, as there is room for it. False: the connection broke, and the core knows.
    async fn send_block(&self, socket: &mut Socket, id: ConnId, session: &SharedTls, mut block: Vec<u8>) -> bool {
        let mut sent = 0;
        while sent < block.len() {
            self.with_core(|core| core.progressed(id));
            let (result, rest) = socket.send_block(block.slice(sent..)).await;
            block = rest.into_inner();
            let Ok(count @ 1..) = result else { break };
            sent += count;
        }
        let is_all = sent == block.len();
        self.secure.blocks.give_back(block);
        if !is_all {
            self.broke(id, session);
        }
        is_all
    }

    /// Sends as many of `bytes` as there is room for, while they are in the CPU's cache. Why not all, the next send tells. `more`
    /// will come at once.
    fn send_at_once(&self, id: ConnId, bytes: &[u8], more: bool) -> usize {
        let slots = self.slots.borrow();
        slots.get(id).and_then(Option::as_ref).map_or(0, |slot| slot.handle.send(bytes, more).unwrap_or(0))
    }
}
