//! What comes in: connections accepted, and bytes read from whichever of them have something to say.
//!
//! Both go by budgets, so that neither starves the other or the players.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Poll, Waker},
};

use super::{Driver, Reading, Set, Slot};
use crate::{
    access::network::Network,
    limits,
    shard::{
        close::{CloseReason, TurnedAway},
        config::Config,
        conn::ConnId,
        listen_addr::UNIX_PEER,
        listener::Listener,
        poller::Poller,
        socket::{Socket, reset},
        tls,
    },
};

/// What those who connect to a listener have to do first.
#[derive(Clone, Default)]
pub(in super::super) struct Door {
    /// Say on whose behalf they connect, from these networks.
    pub(in super::super) balancers: Arc<[Network]>,
    /// Shake hands, if it is given.
    pub(in super::super) tls: Option<Arc<tls::server::Server>>,
}

impl Door {
    /// Those of plain listeners, and of those for TLS.
    pub(in super::super) fn both(config: &Config) -> (Self, Self) {
        let plain = Self { balancers: config.balancers.clone(), tls: None };
        (plain.clone(), Self { tls: config.tls.clone(), ..plain })
    }
}

/// Ends the waits of tasks that accept. Waits for readiness may be dropped; accepts are never under way meanwhile.
#[derive(Default)]
pub(super) struct Gate {
    closed: Cell<bool>,
    tasks: RefCell<Vec<Waker>>,
}

impl Gate {
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.tasks.borrow_mut().drain(..).for_each(Waker::wake);
    }

    /// A task that has not noticed that it was closed goes on.
    pub(super) fn reopen(&self) {
        self.closed.set(false);
    }

    /// What `wait` comes to; `None` once the gate is closed.
    async fn open<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            if self.closed.get() {
                return Poll::Ready(None);
            }
            let polled = wait.as_mut().poll(context);
            let mut tasks = self.tasks.borrow_mut();
            if polled.is_pending() && !tasks.iter().any(|task| task.will_wake(context.waker())) {
                tasks.push(context.waker().clone());
            }
            polled.map(Some)
        })
        .await
    }
}

impl Driver {
    /// Takes connections after it had stopped.
    pub(super) fn listen_again(&self, plain: Vec<Listener>, secure: Vec<Listener>) -> io::Result<()> {
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        let (plain_door, secure_door) = Door::both(&self.core.borrow().config);
        self.gate.reopen();
        me.listen(plain, &plain_door)?;
        me.listen(secure, &secure_door)
    }

    /// Takes connections as they come, a budget at a time.
    pub(super) async fn accept(self: Rc<Self>, listener: Listener, ready: monoio::net::TcpListener, door: Door) {
        while self.gate.open(ready.readable(false)).await.is_some_and(|waited| waited.is_ok()) {
            for _ in 0..limits::ACCEPT_BUDGET {
                // Others may have the sockets by now.
                if !self.takes_connections() {
                    return;
                }
                match listener.accept() {
                    Ok((socket, peer)) => {
                        if let Err(error) = self.clone().adopt(socket, peer, &door) {
                            self.cannot_accept(&listener, &error).await;
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) if !self.takes_connections() => {
                        tracing::debug!("stopped accepting: {error}");
                        return;
                    }
                    Err(error) => {
                        self.cannot_accept(&listener, &error).await;
                        break;
                    }
                }
            }
            self.let_others_run().await;
        }
    }

    /// The listeners are given up when it no longer does.
    fn takes_connections(&self) -> bool {
        !self.listeners.borrow().is_empty()
    }

    async fn cannot_accept(&self, listener: &Listener, error: &io::Error) {
        self.metrics.accept_failures.add(1);
        let now = self.start.elapsed();
        if let Some(suppressed) = self.accept_lines.borrow_mut().take(limits::ACCEPT_LOG_LINES_PER_SECOND, now) {
            tracing::warn!(
                suppressed,
                "cannot accept: {error}; raise the limit of open files (or fs.epoll.max_user_watches) or end connections"
            );
        }
        self.turn_away_waiting(listener);
        monoio::time::sleep(limits::ACCEPT_PAUSE).await;
    }

    /// Closes what waits to be accepted, by the descriptor held ready for it: a client that hears nothing does not go to another
    /// node. Whatever it frees meanwhile is taken the next time.
    fn turn_away_waiting(&self, listener: &Listener) {
        drop(self.reserve.borrow_mut().take());
        for _ in 0..limits::ACCEPT_BUDGET {
            let Ok((socket, peer)) = listener.accept() else { break };
            reset(&socket);
            self.core.borrow_mut().note_turned_away(peer, TurnedAway::Descriptors);
        }
        *self.reserve.borrow_mut() = reserve();
    }

    /// Takes in an accepted connection, or closes it if it is one too many. Errors: the runtime or the epoll set has no room for
    /// it, and it was closed.
    pub(super) fn adopt(self: Rc<Self>, socket: OwnedFd, peer: SocketAddr, door: &Door) -> io::Result<()> {
        // An IPv4 peer of a dual-stack listener is shown as what it is.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let is_balancer = peer != UNIX_PEER && door.balancers.iter().any(|network| network.contains(peer.ip()));
        let Some(id) = self.with_core(|core| core.admit(peer, !is_balancer)) else {
            reset(&socket);
            return Ok(());
        };
        let taken = self.clone().take_in(socket, id, is_balancer, door);
        if taken.is_err() {
            self.with_core(|core| core.remove(id));
        }
        taken
    }

    /// Begins to serve a connection that may stay.
    fn take_in(self: Rc<Self>, socket: OwnedFd, id: ConnId, is_balancer: bool, door: &Door) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, self.nonblocking)?;
        let socket = Socket::new(socket)?;
        let tls = door.tls.as_ref().map(|server| server.session()).transpose();
        let tls = tls.map_err(|fault| io::Error::other(fault.to_string()))?;
        let next = if tls.is_some() { Set::Secure } else { Set::Players };
        self.seat(&socket, id, if is_balancer { Set::Proxied } else { next })?;
        if is_balancer {
            self.proxied.insert(id, next);
        }
        match tls {
            Some(tls) => {
                self.core.borrow_mut().note_secure(id);
                let session = self.secure.insert(id, tls);
                drop(monoio::spawn(self.clone().serve_secure(socket, id, session)));
            }
            None => drop(monoio::spawn(self.clone().serve(socket, id))),
        }
        Ok(())
    }

    /// Gives a connection its slot, and a place in `set`. Errors: there is no room for it, and it has neither.
    pub(super) fn seat(&self, socket: &Socket, id: ConnId, set: Set) -> io::Result<()> {
        // SAFETY: it goes into the slot, or is dropped below; `serve` empties the slot before it drops the socket. A task is
        // never dropped before its end: the runtime outlives its thread's work and is not torn down.
        let handle = unsafe { socket.handle() };
        self.poller(set).add(handle.fd(), id)?;
        let mut slots = self.slots.borrow_mut();
        if slots.len() <= id {
            slots.resize_with(id + 1, || None);
        }
        slots[id] = Some(Slot { handle, task: None, woken: false, reading: Reading::Yes, set, hurried: true });
        Ok(())
    }

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
        let mut budget = limits::READ_BUDGET_BYTES;
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
        slot.wake();
    }
}

/// A descriptor to give up when there are no others.
pub(super) fn reserve() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}
