//! Connections that a load balancer makes for its clients: read from by a task of their own until their PROXY header has come,
//! then by the one that reads from others of their kind.
//!
//! The header comes before TLS, and within the time for the handshake. Balancers that only look whether the port is open, or
//! say that they connect for themselves, are no fault.

use std::{cell::RefCell, collections::HashMap, io, rc::Rc};

use super::{Driver, Reading, Set};
use crate::{
    limits,
    shard::{
        close::CloseReason,
        conn::ConnId,
        poller::Poller,
        proxy_header::{Client, HeaderReader},
    },
};

pub(super) struct Proxied {
    pub(super) poller: Poller,
    awaited: RefCell<HashMap<ConnId, Awaited>>,
}

struct Awaited {
    header: HeaderReader,
    /// Where the connection is read from after it.
    next: Set,
}

impl Proxied {
    /// For the shard's thread, within its runtime.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poller: Poller::new()?, awaited: RefCell::default() })
    }

    pub(super) fn insert(&self, id: ConnId, next: Set) {
        self.awaited.borrow_mut().insert(id, Awaited { header: HeaderReader::default(), next });
    }

    /// Of a connection that is there no longer.
    pub(super) fn forget(&self, id: ConnId) {
        let mut awaited = self.awaited.borrow_mut();
        if !awaited.is_empty() {
            awaited.remove(&id);
        }
    }
}

impl Driver {
    /// Reads from those whose header has not come.
    pub(super) async fn read_headers(self: Rc<Self>) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            if let Err(error) = self.proxied.poller.wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for load balancers: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            self.core.borrow_mut().advance(self.start.elapsed());
            for id in ready.drain(..) {
                self.read_header(id);
            }
            self.pass_on(&mut self.core.borrow_mut());
            self.let_others_run().await;
        }
    }

    fn read_header(&self, id: ConnId) {
        let mut scratch = self.scratch.borrow_mut();
        let received = {
            let slots = self.slots.borrow();
            let Some(slot) = slots.get(id).and_then(Option::as_ref).filter(|slot| slot.reading == Reading::Yes) else {
                return;
            };
            slot.handle.receive(&mut scratch)
        };
        let mut rest = match received {
            Ok([]) => return self.end_proxied(id, CloseReason::PeerClosed),
            Ok(bytes) => bytes,
            Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) => return,
            Err(_) => return self.end_proxied(id, CloseReason::PeerReset),
        };
        let read = match self.proxied.awaited.borrow_mut().get_mut(&id) {
            Some(awaited) => {
                awaited.header.receive(&mut rest).map(|client| client.map(|client| (client, awaited.next)))
            }
            None => return,
        };
        match read {
            Ok(None) => {}
            Ok(Some((client, next))) => self.introduce(id, client, next, rest),
            Err(error) => {
                self.stop_reading(id);
                self.core.borrow_mut().reject(id, CloseReason::ProxyHeader, &error.to_string());
            }
        }
    }

    fn end_proxied(&self, id: ConnId, reason: CloseReason) {
        self.stop_reading(id);
        self.core.borrow_mut().peer_closed(id, reason);
    }

    /// The header has come, and `rest` behind it.
    fn introduce(&self, id: ConnId, client: Client, next: Set, rest: &[u8]) {
        self.proxied.forget(id);
        if let Client::At(peer) = client
            && !self.core.borrow_mut().name_client(id, peer)
        {
            return;
        }
        if !self.move_to(id, next) {
            return self.end_proxied(id, CloseReason::PeerReset);
        }
        if rest.is_empty() {
            return;
        }
        if next == Set::Secure {
            self.read_secure_part(id, rest);
        } else {
            self.core.borrow_mut().receive(id, rest);
        }
    }
}
