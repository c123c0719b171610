//! Listening sockets: one per shard and address, spread by SO_REUSEPORT.
//!
//! SO_REUSEPORT lets a second process of the same user share a port in silence, so [`bind_all`] probes without it first.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::fleet::StartError;
use crate::limits;

/// Binds every address once per shard. The result is by shard, then by address; port 0 becomes a port of the system's
/// choice, the same on all shards.
pub(super) fn bind_all(
    addrs: &[SocketAddr],
    shards: usize,
) -> Result<(Vec<Vec<TcpListener>>, Vec<SocketAddr>), StartError> {
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    let mut bound = Vec::new();
    for asked in addrs {
        let mut addr = where_possible(*asked);
        if addr.port() != 0 {
            probe(addr).map_err(|source| start_error(*asked, source))?;
        }
        for listeners in &mut by_shard {
            let listener = listen(addr).map_err(|source| start_error(*asked, source))?;
            addr = listener.local_addr().map_err(|source| start_error(*asked, source))?;
            listeners.push(listener);
        }
        bound.push(addr);
    }
    Ok((by_shard, bound))
}

/// The IPv6 wildcard becomes the IPv4 one on a machine without IPv6.
fn where_possible(addr: SocketAddr) -> SocketAddr {
    let lacks_ipv6 = || Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_err();
    if addr.is_ipv6() && addr.ip().is_unspecified() && lacks_ipv6() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
    }
    addr
}

fn start_error(addr: SocketAddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return StartError::InUse(addr);
    }
    StartError::Listen { addr, source }
}

fn socket(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Fails if anybody listens there already, also with SO_REUSEPORT.
fn probe(addr: SocketAddr) -> io::Result<()> {
    socket(addr)?.bind(&addr.into())
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(addr)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit these: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(limits::NOTSENT_LOWAT_BYTES)?;
    socket.bind(&addr.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_reuseport_listener_has_is_in_use() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (_first, bound) = bind_all(&[any], 2).expect("free");
        assert!(matches!(bind_all(&bound, 1), Err(StartError::InUse(addr)) if addr == bound[0]));
    }

    #[test]
    fn all_shards_share_the_port_the_system_chose() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (by_shard, bound) = bind_all(&[any], 3).expect("free");
        assert_ne!(bound[0].port(), 0);
        assert!(by_shard.iter().all(|listeners| listeners[0].local_addr().expect("bound") == bound[0]));
    }
}
