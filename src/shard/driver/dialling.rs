//! Connections that the core orders: each is a task that dials, then serves.
//!
//! The core hears of it once: that the connection is there, or why not; of one it has aborted, nothing but its removal.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{Driver, Set};
use crate::{
    relay::upstream::Endpoint,
    shard::{
        conn::ConnId,
        dial::{Connected, Dial, DialError, Stage, TlsFault, Waiting},
        proxy_header::Behalf,
        socket::Socket,
        tls::Tls,
    },
};

/// Dials in progress, up to the end of their TLS handshake.
#[derive(Default)]
pub(super) struct Dials {
    current: RefCell<HashMap<ConnId, Dialling>>,
    /// What the core was told of those that failed.
    #[cfg(test)]
    pub(super) faults: RefCell<Vec<String>>,
}

struct Dialling {
    waiting: Rc<Waiting>,
    to: Endpoint,
    peer: Option<SocketAddr>,
    patience: Duration,
    until: Instant,
}

impl Dials {
    /// The core wants it no more.
    pub(super) fn give_up(&self, id: ConnId) {
        if let Some(dialling) = self.current.borrow().get(&id) {
            dialling.waiting.give_up();
        }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn is_empty(&self) -> bool {
        self.current.borrow().is_empty()
    }

    /// Whether its TLS handshake is not over.
    pub(super) fn contains(&self, id: ConnId) -> bool {
        self.current.borrow().contains_key(&id)
    }
}

impl Driver {
    pub(super) fn begin_dial(&self, dial: Dial) {
        let Some(me) = self.me.upgrade() else { return };
        let Dial { id, to, header, patience } = dial;
        let until = Instant::now() + patience;
        let waiting = Rc::<Waiting>::default();
        let dialling = Dialling { waiting: Rc::clone(&waiting), to: to.clone(), peer: None, patience, until };
        self.dials.current.borrow_mut().insert(id, dialling);
        monoio::spawn(async move {
            let served = match me.dialler.dial(&to, patience, &waiting).await {
                Some(Ok(connected)) => me.take_on(id, &to, header, connected),
                Some(Err(error)) => Err(error),
                None => {
                    me.dials.current.borrow_mut().remove(&id);
                    me.with_core(|core| core.remove(id));
                    return;
                }
            };
            if let Err(error) = served {
                me.dial_failed(id, &error);
                me.with_core(|core| core.remove(id));
            }
        });
    }

    pub(super) async fn watch_dials(self: Rc<Self>) {
        self.dialler.watch().await;
    }

    /// Serves a connection that was made, after its TLS handshake if it has one.
    fn take_on(
        self: &Rc<Self>,
        id: ConnId,
        to: &Endpoint,
        header: Option<Behalf>,
        connected: Connected,
    ) -> Result<(), DialError> {
        let Connected { socket, peer, secure } = connected;
        let no_room = |source: io::Error| DialError::Io { to: to.to_string(), address: Some(peer), source };
        let tls = secure.map(|(config, name)| Tls::with_node(config, name)).transpose();
        let tls = tls.map_err(|fault| DialError::Tls { to: to.to_string(), fault })?;
        if let Some(behalf) = header {
            let header = behalf.header(peer);
            // The first bytes of a connection: there is room for them, or it has broken.
            match SockRef::from(&socket).send(&header) {
                Ok(count) if count == header.len() => {}
                Ok(_) => return Err(no_room(io::ErrorKind::WriteZero.into())),
                Err(error) => return Err(no_room(error)),
            }
        }
        rustix::io::ioctl_fionbio(&socket, self.nonblocking).map_err(|errno| no_room(errno.into()))?;
        let socket = Socket::new(socket).map_err(no_room)?;
        let set = if tls.is_some() { Set::Secure } else { Set::Players };
        self.seat(&socket, id, set).map_err(no_room)?;
        if let Some(tls) = tls {
            if let Some(dialling) = self.dials.current.borrow_mut().get_mut(&id) {
                dialling.peer = Some(peer);
            }
            let tls = self.secure.insert(id, tls);
            monoio::spawn(self.clone().serve_secure(socket, id, tls));
        } else {
            self.dials.current.borrow_mut().remove(&id);
            monoio::spawn(self.clone().serve(socket, id));
            self.with_core(|core| core.dialed(id, peer));
        }
        Ok(())
    }

    /// The TLS handshake is over. False: it was before.
    pub(super) fn handshake_done(&self, id: ConnId) -> bool {
        let dialling = self.dials.current.borrow_mut().remove(&id);
        let Some(dialling) = dialling else { return false };
        if let Some(peer) = dialling.peer.filter(|_| !dialling.waiting.is_given_up()) {
            self.core.borrow_mut().dialed(id, peer);
        }
        true
    }

    /// The TLS handshake failed, by `fault`, or because its time was over.
    pub(super) fn handshake_failed(&self, id: ConnId, fault: TlsFault) {
        let error = {
            let dials = self.dials.current.borrow();
            let Some(dialling) = dials.get(&id) else { return };
            let to = dialling.to.to_string();
            match Instant::now() >= dialling.until {
                true => DialError::TimedOut { to, stage: Stage::Tls, patience: dialling.patience },
                false => DialError::Tls { to, fault },
            }
        };
        self.dial_failed(id, &error);
    }

    fn dial_failed(&self, id: ConnId, error: &DialError) {
        let dialling = self.dials.current.borrow_mut().remove(&id);
        if dialling.is_some_and(|dialling| !dialling.waiting.is_given_up()) {
            #[cfg(test)]
            self.dials.faults.borrow_mut().push(error.to_string());
            self.with_core(|core| core.dial_failed(id, error));
        }
    }

    /// Shuts down those connections whose TLS handshake has taken too long, which ends it. To the tick.
    pub(super) fn end_late_handshakes(&self) {
        let dials = self.dials.current.borrow();
        if dials.is_empty() {
            return;
        }
        let now = Instant::now();
        let slots = self.slots.borrow();
        for (id, _) in dials.iter().filter(|(_, dialling)| dialling.peer.is_some() && now >= dialling.until) {
            if let Some(slot) = slots.get(*id).and_then(Option::as_ref) {
                slot.handle.abort();
            }
        }
    }
}
