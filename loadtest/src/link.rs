//! One non-blocking connection to the server under test: connect, write what a session has to say, read or discard.

use crate::sys::Epoll;
use crate::tls::Tls;
use bytes::{Buf, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

/// Bytes one discarding receive may take.
pub const DISCARD_BYTES: usize = 1 << 20;

pub struct Link {
    socket: Socket,
    tls: Option<Tls>,
    token: u64,
    connected: bool,
    /// Whether epoll watches for writing too.
    writing: bool,
}

/// What a receive found.
pub enum Received {
    Bytes(usize),
    Nothing,
    /// The peer ended the connection.
    End,
}

impl Link {
    /// Begins to connect and registers `token`; the first readiness to write tells that it is done. `receive_bytes` fixes
    /// the receive buffer, which the kernel otherwise grows as it is read.
    pub fn connect(address: SocketAddr, epoll: &Epoll, token: u64, receive_bytes: Option<usize>) -> io::Result<Self> {
        Self::connect_from(None, address, epoll, token, receive_bytes)
    }

    /// As `connect`, from an address of this machine that is not the kernel's choice.
    pub fn connect_from(
        from: Option<IpAddr>,
        address: SocketAddr,
        epoll: &Epoll,
        token: u64,
        receive_bytes: Option<usize>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        receive_bytes.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        from.map_or(Ok(()), |from| socket.bind(&SocketAddr::new(from, 0).into()))?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        epoll.add(socket.as_raw_fd(), token, true)?;
        Ok(Self { socket, tls: None, token, connected: false, writing: true })
    }

    /// What follows goes over TLS, if `secure`.
    pub fn over_tls(mut self, secure: bool) -> io::Result<Self> {
        self.tls = secure.then(Tls::new).transpose()?;
        Ok(self)
    }

    /// Writes as much of `out` as the kernel takes, and watches for writing while something is left.
    pub fn flush(&mut self, epoll: &Epoll, out: &mut BytesMut) -> io::Result<()> {
        let mut waits = false;
        if let Some(tls) = self.tls.as_mut().filter(|_| self.connected) {
            waits = tls.flush(&mut self.socket, out)?;
        }
        while !out.is_empty() && self.connected && self.tls.is_none() {
            match self.socket.write(out) {
                Ok(count) => out.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let writing = waits || !out.is_empty() || !self.connected;
        if writing != self.writing {
            epoll.change(self.socket.as_raw_fd(), self.token, writing)?;
            self.writing = writing;
        }
        Ok(())
    }

    /// To be called when epoll says the connection can be written.
    pub fn writable(&mut self) -> io::Result<()> {
        if !self.connected {
            self.socket.take_error()?.map_or(Ok(()), Err)?;
            self.connected = true;
        }
        Ok(())
    }

    /// Nothing more will be written: the peer reads the end behind all that was.
    pub fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(std::net::Shutdown::Write)
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        received(match &mut self.tls {
            Some(tls) => tls.receive(&mut self.socket, buffer),
            None => self.socket.read(buffer),
        })
    }

    /// Counts and drops what has arrived, without copying it (MSG_TRUNC, tcp(7)): `scratch` is not written. Of TLS it counts what
    /// it is sealed in, too, and nothing can be received after it.
    pub fn discard(&mut self, scratch: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
        received(self.socket.recv_with_flags(scratch, libc::MSG_TRUNC | libc::MSG_DONTWAIT))
    }

    /// Writes a few bytes if the kernel takes them at once; otherwise they are lost.
    pub fn send_now(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.flush(&mut self.socket, &mut BytesMut::from(bytes)).map(drop);
        }
        match self.socket.write(bytes) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Dropping it resets the connection (tcp(7), SO_LINGER 0), so that its port is free at once.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        self.socket.set_linger(Some(std::time::Duration::ZERO))
    }

    pub fn local_port(&self) -> Option<u16> {
        self.socket.local_addr().ok()?.as_socket().map(|address| address.port())
    }

    /// To be called after `unwatch`: epoll tells only of the connection's end.
    pub fn watch_end(&self, epoll: &Epoll) -> io::Result<()> {
        epoll.add_end(self.socket.as_raw_fd(), self.token)
    }

    /// From now on epoll says nothing about this connection.
    pub fn unwatch(&self, epoll: &Epoll) -> io::Result<()> {
        epoll.remove(self.socket.as_raw_fd())
    }
}

fn received(result: io::Result<usize>) -> io::Result<Received> {
    match result {
        Ok(0) => Ok(Received::End),
        Ok(count) => Ok(Received::Bytes(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    fn connected(epoll: &Epoll) -> (Link, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = Link::connect(listener.local_addr().unwrap(), epoll, 5, None).unwrap();
        let mut ready = Vec::new();
        epoll.wait(Duration::from_secs(5), &mut ready).unwrap();
        assert!(ready[0].write && ready[0].token == 5);
        link.writable().unwrap();
        (link, listener.accept().unwrap().0)
    }

    #[test]
    fn discarding_counts_every_byte_and_sees_the_end() {
        let epoll = Epoll::new().unwrap();
        let (mut link, mut peer) = connected(&epoll);
        link.flush(&epoll, &mut BytesMut::new()).unwrap();
        peer.write_all(&[7; 100_000]).unwrap();
        drop(peer);
        let mut scratch = vec![MaybeUninit::new(0x55); 64 * 1024];
        let (mut total, mut ready) = (0, Vec::new());
        loop {
            epoll.wait(Duration::from_secs(5), &mut ready).unwrap();
            match link.discard(&mut scratch).unwrap() {
                Received::Bytes(count) => total += count,
                Received::Nothing => {}
                Received::End => break,
            }
        }
        assert_eq!(total, 100_000);
        // SAFETY: initialised above, by us.
        assert!(scratch.iter().all(|byte| unsafe { byte.assume_init() } == 0x55), "nothing was copied");
    }

    #[test]
    fn a_refused_connection_is_an_error() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let epoll = Epoll::new().unwrap();
        let Ok(mut link) = Link::connect(address, &epoll, 1, None) else { return };
        epoll.wait(Duration::from_secs(5), &mut Vec::new()).unwrap();
        assert_eq!(link.writable().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
