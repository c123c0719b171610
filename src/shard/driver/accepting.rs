//! Connections as they come in: accepted by budgets, turned away where there is no room, and given their place.
//!
//! A shard without descriptors keeps one ready ([`reserve`]), by which it accepts and resets what waits: a client that hears
//! nothing does not go to another node.

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
        conn::{ConnId, Standing},
        listener::Listener,
        socket::{Socket, reset},
        tls,
    },
};

/// Of a listener: what is said of it.
const SHUT: &str = "no more connections are taken here: another process that has the socket too has shut it; restart the node, or replace it";

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
        self.metrics.listeners_shut.set(0);
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
                        if let Err(error) = self.clone().adopt(socket, listener.standing(), peer, &door) {
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
                    // It does not listen any more: whoever has the socket too, such as another process of an upgrade, shut it.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        // A successor that gives an address up may be faster than the word that it has taken over.
                        if self.gate.open(monoio::time::sleep(limits::ACCEPT_PAUSE)).await.is_none() {
                            return;
                        }
                        self.metrics.listeners_shut.add(1);
                        tracing::error!("{listener}: {SHUT}");
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
    pub(super) fn adopt(
        self: Rc<Self>,
        socket: OwnedFd,
        standing: Standing,
        peer: SocketAddr,
        door: &Door,
    ) -> io::Result<()> {
        // An IPv4 peer of a dual-stack listener is shown as what it is.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let is_balancer =
            standing == Standing::Client && door.balancers.iter().any(|network| network.contains(peer.ip()));
        let Some(id) = self.with_core(|core| core.admit(standing, peer, !is_balancer)) else {
            reset(&socket);
            return Ok(());
        };
        let taken = self.clone().take_in(socket, id, is_balancer, door);
        if taken.is_err() {
            self.with_core(|core| {
                core.note_turned_away(peer, TurnedAway::Descriptors);
                core.close(id, CloseReason::TurnedAway, true);
                core.remove(id);
            });
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
}

/// A descriptor to give up when there are no others.
pub(super) fn reserve() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}
