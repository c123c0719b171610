//! Connections that wait for a decision: what the core asks is handed on, and they are not read meanwhile.
//!
//! They stay in their epoll set, for the end of their peers only.

use super::{Driver, Reading};
use crate::shard::{conn::ConnId, core::Core, questions::Decision};

impl Driver {
    /// Asks what the core has to ask, and stops or goes on reading as it says.
    pub(super) fn pass_on_questions(&self, core: &mut Core) {
        // Each round ends a request, of which a connection has as many as it has sent bytes for.
        while !core.take_questions().is_empty() {
            for question in std::mem::take(core.take_questions()) {
                let ticket = question.ticket;
                let taken = self.questions.as_ref().is_some_and(|desk| desk.take(question));
                if let Some(ticket) = ticket.filter(|_| !taken) {
                    core.decided(ticket, Decision::Failed("too many requests wait for one".to_owned()));
                }
            }
        }
        if !core.take_holds().is_empty() {
            for id in std::mem::take(core.take_holds()) {
                self.hold(id, core.is_held(id));
            }
        }
    }

    fn hold(&self, id: ConnId, held: bool) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return };
        let poller = self.poller(slot.set);
        match (slot.reading, held) {
            (Reading::Yes, true) => {
                poller.hold(slot.handle.fd(), id);
                slot.reading = Reading::Held;
            }
            (Reading::Held, false) => {
                poller.resume(slot.handle.fd(), id);
                slot.reading = Reading::Yes;
            }
            _ => {}
        }
    }
}
