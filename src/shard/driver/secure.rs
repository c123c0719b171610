//! Connections over TLS: their own task that sends, their own task that reads from all of them, and their sessions.
//!
//! Others cost nothing for it: what a connection needs besides lies in a map, and its slot says which task reads from it.
//! Bounds: one piece is encrypted at a time, straight from its log into memory of the shard's. What there is no room for lies in a
//! block that is given back once the bytes have left; nothing more is encrypted for that connection until then.

mod reading;
mod sending;

use std::{cell::RefCell, collections::HashMap, io, rc::Rc, sync::Arc};

use self::sending::Due;
use super::Driver;
use crate::{
    egress::Piece,
    limits,
    shard::{
        conn::ConnId, core::Transmit, dial::TlsFault, metrics::ShardMetrics, poller::Poller, socket::Socket, tls::Tls,
    },
};

/// A session, used by the connection's task and by the one that reads.
pub(super) type SharedTls = Rc<RefCell<Session>>;

pub(super) struct Session {
    tls: Tls,
    /// Why reading ended, if not in order.
    fault: Option<TlsFault>,
    /// The connection's own task sends: it shakes hands, waits for room, or ends.
    is_with_task: bool,
    /// The core had nothing more to send.
    is_done: bool,
    under_way: Option<UnderWay>,
}

/// A send that waits for room.
struct UnderWay {
    /// Encrypted.
    rest: Vec<u8>,
    piece: Piece,
    /// How much of the piece is encrypted.
    count: usize,
}

pub(super) struct Secure {
    pub(super) poller: Poller,
    pub(super) due: Due,
    /// What is being encrypted.
    scratch: RefCell<Vec<u8>>,
    blocks: Blocks,
    sessions: RefCell<HashMap<ConnId, SharedTls>>,
    metrics: Arc<ShardMetrics>,
}

impl Secure {
    /// For the shard's thread, within its runtime.
    pub(super) fn new(metrics: Arc<ShardMetrics>) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            due: Due::default(),
            scratch: RefCell::default(),
            blocks: Blocks::default(),
            sessions: RefCell::default(),
            metrics,
        })
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.borrow().is_empty()
    }

    pub(super) fn insert(&self, id: ConnId, tls: Tls) -> SharedTls {
        let session =
            Rc::new(RefCell::new(Session { tls, fault: None, is_with_task: true, is_done: false, under_way: None }));
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
            self.flush_sealed(&mut socket, id, &session).await;
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
            if !self.flush_sealed(socket, id, session).await {
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
}
