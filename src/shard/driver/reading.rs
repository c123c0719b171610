//! Bytes read from whichever connections have something to say.
//!
//! By budgets, so that publishers, other clients and what is sent to players do not starve each other.

use std::{io, rc::Rc};

use super::{Driver, Reading, Set};
use crate::{
    limits,
    shard::{close::CloseReason, conn::ConnId, poller::Poller},
};

impl Driver {
    pub(super) fn poller(&self, set: Set) -> &Poller {
        match set {
            Set::Players => &self.poller,
            Set::Publishers => &self.ingest,
            Set::Secure => &self.secure.poller,
            Set::Proxied => &self.proxied.poller,
        }
    }

    /// Reads from those publishers (`ingest`), or others, that have something to say, a batch at a time.
    pub(super) async fn read(self: Rc<Self>, ingest: bool) {
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        loop {
            let set = if ingest { Set::Publishers } else { Set::Players };
            if let Err(error) = self.poller(set).wait(&mut ready, &mut events).await {
                tracing::error!("cannot wait for connections to become readable: {error}");
                monoio::time::sleep(limits::ACCEPT_PAUSE).await;
            }
            let mut all_read = ready.len() < limits::READY_BUDGET;
            let until = self.start.elapsed() + limits::READ_TURN;
            for id in ready.drain(..) {
                match self.read_some(id) {
                    Ok(all) => all_read &= all,
                    Err(reason) => {
                        self.stop_reading(id);
                        self.core.borrow_mut().peer_closed(id, reason);
                    }
                }
                if !ingest && self.core.borrow().publishes(id) {
                    self.move_to_ingest(id);
                }
                // The others are reported again, before those that were read from.
                if self.core.borrow().process_time() >= until {
                    all_read = false;
                    break;
                }
            }
            // Once for all: what several publishers sent leaves in one pass.
            self.pass_on(&mut self.core.borrow_mut());
            let pause = self.core.borrow().read_pause();
            if ingest && all_read && !pause.is_zero() {
                monoio::time::sleep(pause).await;
            } else {
                self.let_others_run().await;
            }
        }
    }

    /// Reads up to a budget. True if that was all there is; errors: the peer has closed.
    fn read_some(&self, id: ConnId) -> Result<bool, CloseReason> {
        let slots = self.slots.borrow();
        let Some(slot) = slots.get(id).and_then(Option::as_ref) else { return Ok(true) };
        if slot.reading == Reading::Held {
            return Err(CloseReason::PeerClosed);
        }
        let mut scratch = self.scratch.borrow_mut();
        let mut core = self.core.borrow_mut();
        core.advance(self.start.elapsed());
        // Whoever does not publish has little to say.
        let mut budget = if slot.set == Set::Publishers { limits::READ_BUDGET_BYTES } else { limits::READ_BYTES };
        while budget > 0 {
            match slot.handle.receive(&mut scratch) {
                Ok([]) => return Err(CloseReason::PeerClosed),
                Ok(bytes) => {
                    core.receive(id, bytes);
                    budget = budget.saturating_sub(bytes.len());
                    if bytes.len() < limits::READ_BYTES || core.is_held(id) {
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

    /// Reads what came before the connection broke, which a failed send may tell first: a publisher's last messages. Nothing
    /// follows it, so it ends with the socket's receive buffer.
    pub(super) fn read_last(&self, id: ConnId) {
        while matches!(self.read_some(id), Ok(false)) {}
    }

    fn move_to_ingest(&self, id: ConnId) {
        // Where there is no room for it, it is read from as before.
        self.move_to(id, Set::Publishers);
    }

    /// Has a connection read from by the task of another set. False: there is no room for it.
    pub(super) fn move_to(&self, id: ConnId, set: Set) -> bool {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return false };
        if self.poller(set).add(slot.handle.fd(), id).is_err() {
            return false;
        }
        self.poller(slot.set).remove(slot.handle.fd());
        slot.set = set;
        true
    }

    pub(super) fn stop_reading(&self, id: ConnId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return };
        self.poller(slot.set).remove(slot.handle.fd());
        slot.reading = Reading::Ended;
        self.wake(id, slot);
    }
}
