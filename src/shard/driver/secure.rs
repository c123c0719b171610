//! Connections over TLS: their own task that sends, their own task that reads from all of them, and their sessions.
//!
//! Others cost nothing for it: what a connection needs besides lies in a map, and its slot says which task reads from it.
//! Bounds: one piece is encrypted at a time, straight from its log into a block of the shard's that is given back once the bytes
//! have left, and after the one before.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc, sync::Arc};

use monoio::buf::IoBuf;

use super::{Driver, Reading, yield_once};
use crate::{
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::Transmit,
        dial::TlsFault,
        metrics::ShardMetrics,
        poller::Poller,
        socket::Socket,
        tls::{Tls, server::client_fault},
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
    blocks: Blocks,
    sessions: RefCell<HashMap<ConnId, SharedTls>>,
    metrics: Arc<ShardMetrics>,
}

impl Secure {
    /// For the shard's thread, within its runtime.
    pub(super) fn new(metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        Ok(Self { poller: Poller::new()?, blocks: Blocks::default(), sessions: RefCell::default(), metrics })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }

    pub(super) fn insert(&self, id: ConnId, tls: Tls) -> SharedTls {
        let session = Rc::new(RefCell::new(Session { tls, fault: None }));
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        self.metrics.tls_connections.add(1);
        session
    }

    fn remove(&self, id: ConnId) {
        if self.sessions.borrow_mut().remove(&id).is_some() {
            self.metrics.tls_connections.add(-1);
        }
    }
}

/// Empty blocks for encrypted bytes. A connection has one only while there is no room for what it sends.
#[derive(Default)]
struct Blocks(RefCell<Vec<Vec<u8>>>);

impl Blocks {
    /// Whole from the first: one that grew would double, beyond what a connection may hold.
    fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(limits::TLS_BLOCK_BYTES_MAX))
    }

    fn give_back(&self, mut block: Vec<u8>) {
        let mut blocks = self.0.borrow_mut();
        if blocks.len() < limits::TLS_BLOCKS_SPARE_MAX && block.capacity() <= limits::TLS_BLOCK_BYTES_MAX {
            block.clear();
            blocks.push(block);
        }
    }
}

impl Driver {
    /// As [`Driver::serve`], over TLS: first its handshake.
    #[allow(clippy::manual_async_fn, reason = "as of `serve`")]
    pub(super) fn serve_secure(
        self: Rc<Self>,
        mut socket: Socket,
        id: ConnId,
        session: SharedTls,
    ) -> impl Future<Output = ()> {
        async move {
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
            self.flush_sealed(&mut socket, id, &session, false).await;
            socket.end();
            while self.is_reading(id) {
                self.woken(id).await;
            }
            self.forget(id);
            self.secure.remove(id);
            drop(socket);
            self.with_core(|core| core.remove(id));
        }
    }

    /// False: it failed, or takes too long.
    async fn shake_hands(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) -> bool {
        loop {
            if !self.flush_sealed(socket, id, session, false).await {
                return !session.borrow().tls.is_handshaking();
            }
            if !session.borrow().tls.is_handshaking() {
                return true;
            }
            if !self.is_reading(id) || self.is_closing(id) {
                return false;
            }
            self.woken(id).await;
        }
    }

    /// Whether the core has given up a client that has not finished its handshake; if not, it wakes the task when it does.
    fn is_closing(&self, id: ConnId) -> bool {
        if self.dials.contains(id) {
            return false;
        }
        match self.transmit(id) {
            Transmit::Close => true,
            Transmit::Park => false,
            // It says nothing before the client has.
            Transmit::Send(piece) => {
                self.core.borrow_mut().sent(id, piece, 0);
                false
            }
        }
    }

    /// Sends what the core has, until that was the last or the connection broke.
    async fn send_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls) {
        loop {
            // What TLS has to say by itself goes first.
            if !self.flush_sealed(socket, id, session, false).await {
                return;
            }
            match self.transmit(id) {
                Transmit::Close => return,
                Transmit::Park => self.woken(id).await,
                Transmit::Send(piece) => {
                    let count = session.borrow_mut().tls.seal(piece.as_slice());
                    if !self.flush_sealed(socket, id, session, count < piece.len()).await {
                        return;
                    }
                    let parks = self.core.borrow_mut().sent(id, piece, count);
                    if parks {
                        self.note_parked(id);
                        self.woken(id).await;
                    } else {
                        // A player with much to come and a network that takes it would keep the shard to itself.
                        yield_once().await;
                    }
                }
            }
        }
    }

    /// Sends what is encrypted: as far as there is room straight from the records, which are still in the CPU's cache. False: the
    /// connection broke, and the core knows.
    async fn flush_sealed(&self, socket: &mut Socket, id: ConnId, session: &SharedTls, more: bool) -> bool {
        while session.borrow().tls.wants_output() {
            if self.send_at_once(id, session, more) {
                return true;
            }
            let mut block = self.secure.blocks.take();
            session.borrow_mut().tls.output(&mut block);
            if !self.send_block(socket, id, block).await {
                self.broke(id, session);
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

    /// Sends all of a block, as there is room for it. False: the connection broke.
    async fn send_block(&self, socket: &mut Socket, id: ConnId, mut block: Vec<u8>) -> bool {
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
        is_all
    }

    /// True if there was room for all. Why not, the next send tells.
    fn send_at_once(&self, id: ConnId, session: &SharedTls, more: bool) -> bool {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(id).and_then(Option::as_ref) else { return false };
        session.borrow_mut().tls.send(&mut slot.handle.writer(more))
    }

    /// Reads from those that have something to say.
    pub(super) async fn read_secure(self: Rc<Self>) {
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
                        self.end_of_reading(id, &session, reason);
                    }
                }
            }
            self.pass_on(&mut self.core.borrow_mut());
            self.let_others_run().await;
        }
    }

    /// What has been read for a connection already.
    pub(super) fn read_secure_part(&self, id: ConnId, bytes: &[u8]) {
        let session = self.secure.sessions.borrow().get(&id).map(Rc::clone);
        let Some(session) = session else { return };
        let reason = match self.unseal(id, &session, bytes) {
            Ok(false) => return,
            Ok(true) => CloseReason::PeerClosed,
            Err(reason) => reason,
        };
        self.stop_reading(id);
        self.end_of_reading(id, &session, reason);
    }

    fn end_of_reading(&self, id: ConnId, session: &SharedTls, reason: CloseReason) {
        let mut core = self.core.borrow_mut();
        match &*session.borrow() {
            // An alert may tell it why.
            Session { tls, fault: Some(fault) } if tls.is_with_client() => {
                core.reject(id, reason, &client_fault(fault));
            }
            _ => core.peer_closed(id, reason),
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
            slot.wake();
        }
        result.map_err(|error| {
            *fault = Some(error);
            CloseReason::Tls
        })
    }

    /// The connection ended. Of another node, only a close_notify says that it was heard out; clients just hang up, and some look
    /// whether the port is open and say nothing at all.
    fn end_of_sealed(&self, session: &SharedTls) -> CloseReason {
        let Session { tls, fault } = &mut *session.borrow_mut();
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
