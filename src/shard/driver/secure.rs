//! Connections over TLS: their own task that sends, their own task that reads from all of them, and their sessions.
//!
//! Others cost nothing for it: what a connection needs besides lies in a map, and its slot says which task reads from it.
//! Bounds: one piece is encrypted at a time, after the one before has been sent.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc};

use bytes::Bytes;

use super::{Driver, Reading};
use crate::{
    egress::Piece,
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::Transmit,
        dial::TlsFault,
        poller::Poller,
        socket::{SendBuffer, Socket},
        tls::Tls,
    },
};

/// A session, used by the connection's task and by the one that reads.
pub(super) type SharedTls = Rc<RefCell<Session>>;

pub(super) struct Session {
    tls: Tls,
    /// Why reading ended, if not in order.
    fault: Option<TlsFault>,
}

pub(super) struct Secure {
    pub(super) poller: Poller,
    sessions: RefCell<HashMap<ConnId, SharedTls>>,
}

impl Secure {
    /// For the shard's thread, within its runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poller: Poller::new()?, sessions: RefCell::default() })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }

    pub(super) fn insert(&self, id: ConnId, tls: Tls) -> SharedTls {
        let session = Rc::new(RefCell::new(Session { tls, fault: None }));
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        session
    }
}

impl Driver {
    /// As [`Driver::serve`], over TLS: first its handshake.
    pub(super) async fn serve_secure(self: Rc<Self>, mut socket: Socket, id: ConnId, session: SharedTls) {
        if self.shake_hands(&mut socket, id, &session).await {
            self.send_sealed(&mut socket, id, &session).await;
            session.borrow_mut().tls.close();
        } else {
            let fault = session.borrow_mut().fault.take().unwrap_or(TlsFault::Truncated);
            self.handshake_failed(id, fault);
            // The peer need not be waited for.
            self.stop_reading(id);
        }
        // The last word, or the alert that says what was wrong. It may be too late for it.
        self.flush_sealed(&mut socket, id, &session).await;
        socket.end();
        while self.is_reading(id) {
            self.woken(id).await;
        }
        self.forget(id);
        self.secure.sessions.borrow_mut().remove(&id);
        drop(socket);
        self.with_core(|core| core.remove(id));
    }

    /// False: it failed.
    async fn shake_hands(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) -> bool {
        loop {
            if !self.flush_sealed(socket, id, session).await {
                return !session.borrow().tls.is_handshaking();
            }
            if !session.borrow().tls.is_handshaking() {
                return true;
            }
            if !self.is_reading(id) {
                return false;
            }
            self.woken(id).await;
        }
    }

    /// Sends what the core has, until that was the last or the connection broke.
    async fn send_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) {
        loop {
            // What TLS has to say by itself goes first.
            if !self.flush_sealed(socket, id, session).await {
                return;
            }
            match self.transmit(id) {
                Transmit::Close => return,
                Transmit::Park => self.woken(id).await,
                Transmit::Send(piece) => {
                    let count = session.borrow_mut().tls.seal(piece.as_slice());
                    if !self.flush_sealed(socket, id, session).await {
                        return;
                    }
                    self.core.borrow_mut().sent(id, piece, count);
                    self.let_others_run().await;
                }
            }
        }
    }

    /// Sends all that is encrypted. False: the connection broke, and the core knows.
    async fn flush_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) -> bool {
        loop {
            let Some(sealed) = session.borrow_mut().tls.output() else { return true };
            if !self.send_all(socket, sealed).await {
                while matches!(self.read_sealed(id, session), Ok(false)) {}
                if !self.dials.contains(id) {
                    self.with_core(|core| core.peer_closed(id, CloseReason::PeerReset));
                }
                return false;
            }
        }
    }

    async fn send_all(&self, socket: &mut Socket, bytes: Bytes) -> bool {
        let mut piece = Piece::Own(bytes);
        while !piece.is_empty() {
            let (result, SendBuffer(rest)) = socket.send(piece).await;
            piece = rest;
            match result {
                Ok(1..) => piece.advance(result.unwrap_or(0)),
                _ => return false,
            }
        }
        true
    }

    /// Reads from those that have something to say.
    pub(super) async fn read_secure(self: Rc<Self>) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            if let Err(error) = self.secure.poller.wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for TLS connections to become readable: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            for id in ready.drain(..) {
                let session = self.secure.sessions.borrow().get(&id).map(Rc::clone);
                let Some(session) = session else { continue };
                if let Err(reason) = self.read_sealed(id, &session) {
                    self.stop_reading(id);
                    // A dial that failed is the connection's task's to tell.
                    if !self.dials.contains(id) {
                        self.core.borrow_mut().peer_closed(id, reason);
                    }
                }
            }
            self.pass_on(&mut self.core.borrow_mut());
            self.let_others_run().await;
        }
    }

    /// Reads and decrypts up to a budget. True if that was all there is; errors: nothing more will come.
    fn read_sealed(&self, id: ConnId, session: &SharedTls) -> Result<bool, CloseReason> {
        let mut scratch = self.scratch.borrow_mut();
        self.core.borrow_mut().advance(self.start.elapsed());
        let mut budget = limits::READ_BUDGET_BYTES;
        while budget > 0 {
            let slots = self.slots.borrow();
            let Some(slot) = slots.get(id).and_then(Option::as_ref) else { return Ok(true) };
            match slot.reading {
                Reading::Yes => {}
                Reading::Held => return Err(CloseReason::PeerClosed),
                Reading::Ended => return Ok(true),
            }
            let received = slot.handle.receive(&mut scratch);
            drop(slots);
            match received {
                Ok([]) => return Err(self.end_of_sealed(session)),
                Ok(bytes) => {
                    let is_all = bytes.len() < limits::READ_BYTES;
                    budget = budget.saturating_sub(bytes.len());
                    if self.unseal(id, session, bytes)? {
                        return Err(CloseReason::PeerClosed);
                    }
                    if is_all || self.core.borrow().is_held(id) {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(CloseReason::PeerReset),
            }
        }
        Ok(false)
    }

    /// Hands on what `bytes` say. True: the peer says no more.
    fn unseal(&self, id: ConnId, session: &SharedTls, bytes: &[u8]) -> Result<bool, CloseReason> {
        let Session { tls, fault } = &mut *session.borrow_mut();
        let was_shaking_hands = tls.is_handshaking();
        let result = tls.receive(bytes, |plain| {
            // The first bytes may come with the end of the handshake.
            self.handshake_done(id);
            self.core.borrow_mut().receive(id, plain);
        });
        if result.is_ok() && was_shaking_hands && !tls.is_handshaking() {
            self.handshake_done(id);
        }
        // An answer of TLS itself, to a handshake or a change of keys, or an alert.
        if tls.wants_output()
            && let Some(slot) = self.slots.borrow_mut().get_mut(id).and_then(Option::as_mut)
        {
            slot.wake();
        }
        result.map_err(|error| {
            *fault = Some(error);
            CloseReason::Tls
        })
    }

    /// The connection ended without a close_notify, unless that came before.
    fn end_of_sealed(&self, session: &SharedTls) -> CloseReason {
        let Session { tls, fault } = &mut *session.borrow_mut();
        match tls.end() {
            Ok(()) => CloseReason::PeerClosed,
            Err(error) => {
                *fault = Some(error);
                CloseReason::Tls
            }
        }
    }
}
