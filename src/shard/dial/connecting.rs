//! Sockets on their way to being connected: begun without blocking, looked at when the epoll set says so.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Instant,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Connected, DialError, Outcome, Progress, Stage, race::Race};
use crate::{
    limits,
    shard::{listen_addr::UNIX_PEER, socket_options::SocketOptions, sockopt},
};

/// Where one attempt goes.
#[derive(Debug)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix,
}

impl Target {
    /// What an endpoint's text does not say already.
    pub(super) fn shown(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix => None,
        }
    }
}

impl Progress<'_> {
    /// Connects to whichever of `addresses` answers first; the other sockets are closed.
    pub(super) async fn race(&self, addresses: Vec<SocketAddr>) -> Outcome {
        let mut race = Race::new(addresses);
        let mut attempts: Vec<(SocketAddr, Socket)> = Vec::new();
        let mut fault: Option<(SocketAddr, io::Error)> = None;
        let mut begun = 0;
        loop {
            if self.waiting.is_given_up() {
                return None;
            }
            let now = Instant::now();
            if now >= self.until {
                return Some(Err(self.timed_out(Stage::Connect { addresses: begun })));
            }
            while let Some(addr) = race.next(now) {
                begun += 1;
                match self.begin(addr) {
                    Ok(socket) => attempts.push((addr, socket)),
                    Err(error) => {
                        note(&mut fault, addr, error);
                        race.failed();
                    }
                }
            }
            let mut index = 0;
            while let Some((addr, socket)) = attempts.get(index) {
                match outcome(socket) {
                    Ok(false) => index += 1,
                    Ok(true) => {
                        let (peer, socket) = attempts.swap_remove(index);
                        self.dialler.connecting.remove(socket.as_fd());
                        return Some(Ok(Connected { socket: OwnedFd::from(socket), peer, secure: None }));
                    }
                    Err(error) => {
                        note(&mut fault, *addr, error);
                        race.failed();
                        // In order: what was begun first is preferred.
                        attempts.remove(index);
                    }
                }
            }
            if attempts.is_empty() && race.is_over() {
                return Some(Err(match fault {
                    Some((addr, error)) => self.failed(&Target::Tcp(addr), error),
                    None => DialError::NoAddress { host: self.to.to_string() },
                }));
            }
            if race.is_over() || race.due().is_some() {
                self.waiting.until(race.due().unwrap_or(self.until).min(self.until)).await;
            }
        }
    }

    fn begin(&self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = tcp(addr, &self.dialler.options)?;
        match socket.connect(&addr.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.dialler.connecting.add_connecting(socket.as_fd(), self.id)?;
        Ok(socket)
    }

    /// It connects at once or not at all.
    pub(super) fn connect_predecessor(&self) -> Result<Connected, DialError> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let connected = self.dialler.desk.predecessor.as_ref().ok_or_else(refused).and_then(|known| known.connect());
        let socket = connected.map_err(|error| self.failed(&Target::Unix, error))?;
        Ok(Connected { socket, peer: UNIX_PEER, secure: None })
    }

    /// A Unix socket connects at once or not at all, unless its listener has its hands full.
    pub(super) async fn connect_unix(&self, path: &Path) -> Outcome {
        loop {
            if self.waiting.is_given_up() {
                return None;
            }
            match unix(path) {
                Ok(socket) => {
                    return Some(Ok(Connected { socket: OwnedFd::from(socket), peer: UNIX_PEER, secure: None }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Some(Err(self.failed(&Target::Unix, error))),
            }
            let now = Instant::now();
            if now >= self.until {
                return Some(Err(self.timed_out(Stage::Connect { addresses: 1 })));
            }
            self.waiting.until(self.until.min(now + limits::UNIX_DIAL_RETRY)).await;
        }
    }
}

fn tcp(addr: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    sockopt::apply(&socket, options).map_err(io::Error::other)?;
    Ok(socket)
}

fn unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// Whether the socket has connected by now.
fn outcome(socket: &Socket) -> io::Result<bool> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps the fault that tells most: one of the other host's, rather than that this one has no way there.
fn note(fault: &mut Option<(SocketAddr, io::Error)>, addr: SocketAddr, error: io::Error) {
    let local =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable);
    if fault.as_ref().is_none_or(|(_, known)| local(known) || !local(&error)) {
        *fault = Some((addr, error));
    }
}
