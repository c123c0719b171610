//! What goes out: the task of each connection, which sends what the core has for it.

use std::{future::poll_fn, rc::Rc, task::Poll};

use super::{Driver, Reading};
use crate::{
    egress::Piece,
    shard::{
        close::CloseReason,
        conn::ConnId,
        core::{Core, Transmit},
        socket::{SendBuffer, Sent, Socket},
    },
};

impl Driver {
    /// A connection's task: sends what the core has for it, and once that has ended waits for the peer to close.
    ///
    /// There is one for each player, so what it holds while it waits counts: a block with what it captures, because a
    /// function keeps its arguments twice, and little besides the send while one is in flight.
    #[allow(clippy::manual_async_fn, reason = "see above")]
    pub(super) fn serve(self: Rc<Self>, mut socket: Socket, id: ConnId) -> impl Future<Output = ()> {
        async move {
            while let Some(piece) = self.next_piece(id).await {
                let sent = socket.send(piece).await;
                if self.note_sent(id, sent) {
                    self.woken(id).await;
                } else {
                    self.let_others_run().await;
                }
            }
            socket.end();
            while self.is_reading(id) {
                self.woken(id).await;
            }
            self.forget(id);
            drop(socket);
            self.with_core(|core| core.remove(id));
        }
    }

    /// Waits for the next piece of a connection; `None` once it has had its last.
    async fn next_piece(&self, id: ConnId) -> Option<Piece> {
        loop {
            match self.transmit(id) {
                Transmit::Send(piece) => return Some(piece),
                Transmit::Close => return None,
                Transmit::Park => self.woken(id).await,
            }
        }
    }

    pub(super) fn transmit(&self, id: ConnId) -> Transmit {
        let mut core = self.core.borrow_mut();
        let next = core.transmit(id);
        self.pass_on(&mut core);
        if matches!(next, Transmit::Park) {
            self.calm_down(&core, id);
        }
        next
    }

    /// True if the connection is to wait until it is woken.
    fn note_sent(&self, id: ConnId, (result, SendBuffer(piece)): Sent) -> bool {
        let Ok(count) = result else {
            self.read_last(id);
            self.with_core(|core| core.peer_closed(id, CloseReason::PeerReset));
            return false;
        };
        let mut core = self.core.borrow_mut();
        let parks = core.sent(id, piece, count);
        if parks {
            self.calm_down(&core, id);
        }
        parks
    }

    /// A send was a connection's last for now.
    pub(super) fn note_parked(&self, id: ConnId) {
        self.calm_down(&self.core.borrow(), id);
    }

    pub(super) fn is_reading(&self, id: ConnId) -> bool {
        self.slots.borrow().get(id).and_then(Option::as_ref).is_some_and(|slot| slot.reading != Reading::Ended)
    }

    pub(super) fn forget(&self, id: ConnId) {
        self.proxied.forget(id);
        if let Some(slot) = self.slots.borrow_mut().get_mut(id) {
            *slot = None;
        }
    }

    /// A player that is in step no longer needs each message by itself at once, unless the operator says so.
    fn calm_down(&self, core: &Core, id: ConnId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(id).and_then(Option::as_mut).filter(|slot| slot.hurried) else { return };
        if core.may_join_small_sends(id) {
            slot.hurried = false;
            slot.handle.join_small_sends(true);
        }
    }

    /// Waits until the connection's task is woken.
    pub(super) async fn woken(&self, id: ConnId) {
        poll_fn(|context| {
            let mut slots = self.slots.borrow_mut();
            let Some(slot) = slots.get_mut(id).and_then(Option::as_mut) else { return Poll::Ready(()) };
            if std::mem::take(&mut slot.woken) {
                return Poll::Ready(());
            }
            if slot.task.as_ref().is_none_or(|task| !task.will_wake(context.waker())) {
                slot.task = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
