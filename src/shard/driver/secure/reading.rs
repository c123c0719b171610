//! What comes in over TLS: one task that reads from all connections.

use std::{io, rc::Rc};

use super::{Session, SharedTls};
use crate::{
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        driver::{Driver, Reading},
        tls::server::client_fault,
    },
};

impl Driver {
    /// Reads from those that have something to say.
    pub(in super::super) async fn read_secure(self: Rc<Self>) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            if let Err(error) = self.secure.poller.wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for TLS connections to become readable: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            let until = self.start.elapsed() + limits::READ_TURN;
            for id in ready.drain(..) {
                // The others are reported again, before those that were read from.
                if self.core.borrow().process_time() >= until {
                    break;
                }
                let session = self.secure.sessions.borrow().get(&id).map(Rc::clone);
                let Some(session) = session else { continue };
                if let Err(reason) = self.read_sealed(id, &session) {
                    self.stop_reading(id);
                    // A dial that failed is the connection's task's to tell.
                    if !self.dials.contains(id) {
                        self.end_of_session(id, &session, reason);
                    }
                }
            }
            self.pass_on(&mut self.core.borrow_mut());
            self.let_others_run().await;
        }
    }

    /// What has been read for a connection already.
    pub(in super::super) fn read_secure_part(&self, id: ConnId, bytes: &[u8]) {
        let session = self.secure.sessions.borrow().get(&id).map(Rc::clone);
        let Some(session) = session else { return };
        let reason = match self.unseal(id, &session, bytes) {
            Ok(false) => return,
            Ok(true) => CloseReason::PeerClosed,
            Err(reason) => reason,
        };
        self.stop_reading(id);
        self.end_of_session(id, &session, reason);
    }

    pub(super) fn end_of_session(&self, id: ConnId, session: &SharedTls, reason: CloseReason) {
        let mut core = self.core.borrow_mut();
        match &*session.borrow() {
            // An alert may tell it why.
            Session { tls, fault: Some(fault), .. } if tls.is_with_client() => {
                core.reject(id, reason, &client_fault(fault));
            }
            _ => core.peer_closed(id, reason),
        }
    }

    /// Reads and decrypts up to a budget. True if that was all there is; errors: nothing more will come.
    pub(super) fn read_sealed(&self, id: ConnId, session: &SharedTls) -> Result<bool, CloseReason> {
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
        let Session { tls, fault, .. } = &mut *session.borrow_mut();
        let was_shaking_hands = tls.is_handshaking();
        let result = tls.receive(bytes, |plain| {
            // The first bytes may come with the end of the handshake.
            if was_shaking_hands {
                self.handshake_done(id);
            }
            self.core.borrow_mut().receive(id, plain);
        });
        if result.is_ok() && was_shaking_hands && !tls.is_handshaking() {
            self.handshake_done(id);
        }
        // An answer of TLS itself, to a handshake or a change of keys, or an alert.
        if tls.wants_output()
            && let Some(slot) = self.slots.borrow_mut().get_mut(id).and_then(Option::as_mut)
        {
            self.secure.due.add(id, slot);
        }
        result.map_err(|error| {
            *fault = Some(error);
            CloseReason::Tls
        })
    }

    /// The connection ended. Of another node, only a close_notify says that it was heard out; clients just hang up, and some look
    /// whether the port is open and say nothing at all.
    fn end_of_sealed(&self, session: &SharedTls) -> CloseReason {
        let Session { tls, fault, .. } = &mut *session.borrow_mut();
        match tls.end() {
            Ok(()) => CloseReason::PeerClosed,
            Err(_) if tls.is_with_client() && !(tls.is_handshaking() && tls.has_heard()) => CloseReason::PeerClosed,
            Err(error) => {
                *fault = Some(error);
                CloseReason::Tls
            }
        }
    }
}
