//! Listening sockets that were open before the process was: its predecessor's, or those of whoever started it.
//!
//! A socket is known by the address it listens on, so that the configuration decides what is done with it. Where the system
//! had chosen the port, the predecessor says so and what the socket was for: such ones match in order. What nobody takes is
//! closed with the pool.

use std::{
    io,
    net::{Shutdown, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::listen_addr::ListenAddr;

/// What sockets are for, as successors and the service manager are told: the flags without their dashes.
pub const RTMP: &str = "rtmp";
pub const RTMPS: &str = "rtmps";
pub const ADMIN: &str = "admin";
pub const ROLES: [&str; 3] = [RTMP, RTMPS, ADMIN];

/// Sockets of one address, by which others listen on it too.
#[derive(Debug)]
pub struct Listening {
    /// One of [`ROLES`].
    pub role: String,
    pub addr: ListenAddr,
    /// The system chose the port.
    pub chosen: bool,
    /// In the order in which they began to listen.
    pub sockets: Vec<OwnedFd>,
}

impl Listening {
    pub fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { role: self.role.clone(), addr: self.addr.clone(), sockets, ..*self })
    }

    /// Drops the sockets that another process has shut, if any. False: none is left.
    pub fn drop_shut(&mut self) -> bool {
        self.sockets.retain(|socket| !is_shut(socket));
        !self.sockets.is_empty()
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    addr: ListenAddr,
    /// What for, where the system chose the port.
    chosen_for: Option<String>,
    socket: OwnedFd,
}

impl Inherited {
    /// Errors: it does not listen, or on nothing that this program could.
    pub fn add(&mut self, socket: OwnedFd, chosen_for: Option<String>) -> io::Result<()> {
        let addr = listens_on(&socket)?;
        self.sockets.push(Known { addr, chosen_for, socket });
        Ok(())
    }

    /// All sockets that listen on `asked`, in the order in which they were added.
    pub fn take(&mut self, role: &str, asked: &ListenAddr) -> Vec<OwnedFd> {
        let Some(addr) = self.sockets.iter().find(|known| known.is_for(role, asked)).map(|known| known.addr.clone())
        else {
            return Vec::new();
        };
        self.sockets.extract_if(.., |known| known.addr == addr).map(|known| known.socket).collect()
    }

    /// Nobody listens on what is left any more, in no process.
    pub fn shut(self) {
        for known in self.sockets {
            // It fails only if somebody was faster.
            let _ = SockRef::from(&known.socket).shutdown(Shutdown::Both);
        }
    }

    /// The addresses of those that nobody has taken.
    pub fn left(&self) -> Vec<&ListenAddr> {
        let mut addrs: Vec<&ListenAddr> = self.sockets.iter().map(|known| &known.addr).collect();
        addrs.dedup();
        addrs
    }
}

impl Known {
    fn is_for(&self, role: &str, asked: &ListenAddr) -> bool {
        match (asked, &self.addr) {
            (ListenAddr::Tcp(asked), ListenAddr::Tcp(addr)) if asked.port() == 0 => {
                asked.ip() == addr.ip() && self.chosen_for.as_deref() == Some(role)
            }
            (asked, addr) => asked == addr,
        }
    }
}

/// Whether nobody can connect any more.
fn is_shut(socket: &OwnedFd) -> bool {
    // One of a socket file goes on calling itself a listener.
    let mut hangs_up = [PollFd::new(socket, PollFlags::empty())];
    let polled = poll(&mut hangs_up, Some(&Timespec::default()));
    let hangs_up = polled.is_ok() && hangs_up[0].revents().contains(PollFlags::HUP);
    hangs_up || !SockRef::from(socket).is_listener().unwrap_or(false)
}

fn listens_on(socket: &OwnedFd) -> io::Result<ListenAddr> {
    let socket = SockRef::from(socket);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a socket that does not listen"));
    }
    let addr = socket.local_addr()?;
    if let Some(addr) = addr.as_socket() {
        return Ok(addr.into());
    }
    match addr.as_pathname() {
        Some(path) => Ok(ListenAddr::Unix(path.to_owned())),
        None => Err(io::Error::new(io::ErrorKind::InvalidInput, "its address is none of TCP, nor a socket file")),
    }
}

/// An inherited TCP socket as the standard library's.
pub fn tcp_listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An inherited socket of a file.
pub(super) fn unix_listener(socket: OwnedFd) -> io::Result<UnixListener> {
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{fs::File, net::SocketAddr};

    use super::*;
    use crate::shard::testing::Folder;

    fn bound(pool: &mut Inherited, chosen_for: Option<&str>) -> ListenAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("free");
        let addr = listener.local_addr().expect("bound").into();
        pool.add(listener.into(), chosen_for.map(ToOwned::to_owned)).expect("it listens");
        addr
    }

    fn any() -> ListenAddr {
        SocketAddr::from(([127, 0, 0, 1], 0)).into()
    }

    #[test]
    fn sockets_are_found_by_their_address() {
        let mut pool = Inherited::default();
        let (first, second) = (bound(&mut pool, None), bound(&mut pool, None));
        assert!(pool.take("rtmp", &any()).is_empty(), "nobody chose these ports");
        assert!(pool.take("rtmp", &SocketAddr::from(([127, 0, 0, 2], 1)).into()).is_empty());
        assert_eq!(pool.take("rtmp", &second).len(), 1);
        assert!(pool.take("rtmp", &second).is_empty());
        assert_eq!(pool.left(), [&first]);
    }

    #[test]
    fn all_sockets_of_an_address_go_together_in_order() {
        let mut pool = Inherited::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("free");
        let addr = ListenAddr::from(listener.local_addr().expect("bound"));
        for _ in 0..3 {
            pool.add(listener.try_clone().expect("descriptors").into(), None).expect("it listens");
            bound(&mut pool, None);
        }
        assert_eq!(pool.take("rtmp", &addr).len(), 3);
        assert_eq!(pool.left().len(), 3);
    }

    #[test]
    fn chosen_ports_go_in_order_to_what_they_were_for() {
        let mut pool = Inherited::default();
        let admin = bound(&mut pool, Some("admin"));
        let rtmp = [bound(&mut pool, Some("rtmp")), bound(&mut pool, Some("rtmp"))];
        for addr in &rtmp {
            let taken = pool.take("rtmp", &any()).pop().expect("there is one");
            assert_eq!(listens_on(&taken).expect("it listens"), *addr);
        }
        assert!(pool.take("rtmp", &any()).is_empty());
        assert_eq!(pool.left(), [&admin]);
    }

    #[test]
    fn what_was_shut_is_dropped() {
        let folder = Folder::new("shut");
        let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("free"));
        let unix = |name| OwnedFd::from(UnixListener::bind(folder.path(name)).expect("a new file"));
        let sockets = vec![tcp(), unix("a"), tcp(), unix("b")];
        let mut listening = Listening { role: RTMP.to_owned(), addr: any(), chosen: false, sockets };
        assert!(listening.drop_shut());
        assert_eq!(listening.sockets.len(), 4);
        for socket in &listening.sockets[..2] {
            SockRef::from(socket).shutdown(Shutdown::Both).expect("it listens");
        }
        assert!(listening.drop_shut());
        assert_eq!(listening.sockets.len(), 2);
        listening.sockets.iter().for_each(|socket| SockRef::from(socket).shutdown(Shutdown::Both).expect("it listens"));
        assert!(!listening.drop_shut());
    }

    #[test]
    fn what_does_not_listen_is_refused() {
        let folder = Folder::new("inherited");
        let mut pool = Inherited::default();
        assert!(pool.add(File::open("/dev/null").expect("there").into(), None).is_err());
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("free");
        assert!(pool.add(socket.into(), None).is_err());
        let path = folder.path("node.sock");
        pool.add(UnixListener::bind(&path).expect("a new file").into(), None).expect("it listens");
        assert_eq!(pool.take("rtmp", &ListenAddr::Unix(path)).len(), 1);
        assert!(pool.left().is_empty());
    }
}
