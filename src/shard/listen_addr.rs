//! Where a node listens: an address and port, or a socket file.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path has at most [`crate::limits::UNIX_PATH_BYTES_MAX`] bytes.
    Unix(PathBuf),
}

impl ListenAddr {
    /// The address, of a listener that has one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for ListenAddr {
    /// As the command line takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the peer of a Unix socket is called: this machine, and a port that no TCP connection has.
pub(super) const UNIX_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How the process is called that takes over from this one. What it may do is its [`Standing`](super::conn::Standing)'s to say.
pub(super) const SUCCESSOR_PEER: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
