//! Listening sockets: one per shard and address, spread by SO_REUSEPORT, with the operator's socket options; of a socket file
//! one, which the shards share. Sockets that were inherited come first: every one is accepted from, by whichever shard.
//!
//! SO_REUSEPORT lets a second process of the same user share a port in silence, so [`bind_all`] probes without it first.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    conn::Standing,
    fleet::StartError,
    inherited::{self, Inherited, Listening},
    listen_addr::{ListenAddr, UNIX_PEER},
    socket_options::{Clamp, OptionError, SocketOption, SocketOptions},
    sockopt, steering,
    unix_file::{self, UnixFile},
};

/// A socket that does not block and takes connections.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// Of one socket file, on each shard.
    Unix(UnixListener),
}

impl Listener {
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, peer)| (stream.into(), peer)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| (stream.into(), UNIX_PEER)),
        }
    }

    /// What those are who come by it.
    pub(super) fn standing(&self) -> Standing {
        match self {
            Self::Tcp(_) => Standing::Client,
            Self::Unix(_) => Standing::SocketFile,
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// A descriptor of its own, to wait by.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.try_clone().map(|listener| match listener {
            Self::Tcp(listener) => listener.into(),
            Self::Unix(listener) => listener.into(),
        })
    }

    /// Takes no more connections, on no shard if it is of a socket file, and ends every wait for one.
    pub(super) fn shut(&self) {
        let socket = match self {
            Self::Tcp(listener) => SockRef::from(listener),
            Self::Unix(listener) => SockRef::from(listener),
        };
        // It fails only if another shard was faster.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Where it listens.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr: Option<ListenAddr> = match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Into::into),
            Self::Unix(listener) => {
                let addr = listener.local_addr().ok();
                addr.and_then(|addr| addr.as_pathname().map(|path| ListenAddr::Unix(path.to_owned())))
            }
        };
        match addr {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a listener"),
        }
    }
}

/// What all shards listen on.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// What the sockets are for, as a successor is told.
    role: &'static str,
    /// By shard, then by address.
    pub(super) by_shard: Vec<Vec<Listener>>,
    /// With the ports the system chose.
    pub(super) addrs: Vec<ListenAddr>,
    /// Of those that are socket files.
    pub(super) files: Vec<UnixFile>,
    /// The same for every TCP socket.
    pub(super) clamps: Vec<Clamp>,
    /// Of sockets that were inherited: another process's until this one serves.
    pub(super) others_files: Vec<PathBuf>,
    /// All sockets, for a successor.
    pub(super) listening: Vec<Listening>,
}

/// Binds every address once per shard; `cpus` has the CPU each is pinned to. Port 0 becomes a port of the system's
/// choice, the same on all shards.
pub(super) fn bind_all(
    role: &'static str,
    addrs: &[ListenAddr],
    cpus: &[Option<usize>],
    options: &SocketOptions,
    inherited: &mut Inherited,
) -> Result<Bound, StartError> {
    let mut bound = Bound { role, by_shard: cpus.iter().map(|_| Vec::new()).collect(), ..Bound::default() };
    for addr in addrs {
        match addr {
            ListenAddr::Tcp(addr) => bound.bind_tcp(*addr, cpus, options, inherited)?,
            ListenAddr::Unix(path) => {
                bound.bind_unix(path, options, inherited).map_err(|source| start_error(addr.clone(), source))?;
            }
        }
    }
    // One tells for all: they differ in nothing that is cut short.
    let any = bound.by_shard.first().into_iter().flatten().find_map(|listener| match listener {
        Listener::Tcp(listener) => Some(listener),
        Listener::Unix(_) => None,
    });
    bound.clamps = any.map(|listener| sockopt::clamps(&SockRef::from(listener), options)).unwrap_or_default();
    Ok(bound)
}

impl Bound {
    fn bind_tcp(
        &mut self,
        asked: SocketAddr,
        cpus: &[Option<usize>],
        options: &SocketOptions,
        inherited: &mut Inherited,
    ) -> Result<(), StartError> {
        let failed = |source| start_error(asked.into(), source);
        let mut addr = where_possible(asked);
        let given = inherited.take(self.role, &addr.into());
        if given.is_empty() && addr.port() != 0 {
            probe(addr).map_err(failed)?;
        }
        // The order in which they begin to listen is the order `steering` counts them in.
        let mut listeners = Vec::new();
        for socket in given {
            listeners.push(take_over(socket, options)?.map_err(failed)?);
        }
        let known = listeners.len();
        if let Some(listener) = listeners.first() {
            addr = listener.local_addr().map_err(failed)?;
        }
        while listeners.len() < self.by_shard.len() {
            let socket = open(addr).map_err(failed)?;
            sockopt::apply(&socket, options)?;
            let listener = match listen(&socket, addr, options.backlog) {
                Ok(()) => TcpListener::from(socket),
                // It was opened to be alone, or this user may not open another: shards share what there is.
                Err(_) if known > 0 => listeners[listeners.len() % known].try_clone().map_err(failed)?,
                Err(source) => return Err(failed(source)),
            };
            addr = listener.local_addr().map_err(failed)?;
            listeners.push(listener);
        }
        if options.reuseport_cpu {
            let cpus: Vec<_> = cpus.iter().copied().cycle().take(listeners.len()).collect();
            steer(listeners.last(), &cpus)?;
        }
        self.keep(addr.into(), asked.port() == 0, listeners.iter().map(AsFd::as_fd)).map_err(failed)?;
        let shards = self.by_shard.len();
        for (index, listener) in listeners.into_iter().enumerate() {
            self.by_shard[index % shards].push(Listener::Tcp(listener));
        }
        self.addrs.push(addr.into());
        Ok(())
    }

    fn bind_unix(&mut self, path: &Path, options: &SocketOptions, inherited: &mut Inherited) -> io::Result<()> {
        let addr = ListenAddr::Unix(path.to_owned());
        let mut given = inherited.take(self.role, &addr);
        if given.is_empty() {
            let (listener, file) = unix_file::listen(path, options.backlog)?;
            self.files.push(file);
            given.push(listener.into());
        } else {
            self.others_files.push(path.to_owned());
            for socket in &given {
                // It listens already: this gives it the backlog alone.
                SockRef::from(socket).listen(options.backlog)?;
            }
        }
        self.keep(addr.clone(), false, given.iter().map(AsFd::as_fd))?;
        for socket in given {
            share_unix(socket, &mut self.by_shard)?;
        }
        self.addrs.push(addr);
        Ok(())
    }

    /// Keeps copies of sockets for a successor.
    fn keep<'a>(
        &mut self,
        addr: ListenAddr,
        chosen: bool,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> io::Result<()> {
        let sockets = sockets.map(|socket| socket.try_clone_to_owned()).collect::<io::Result<_>>()?;
        self.listening.push(Listening { role: self.role.to_owned(), addr, chosen, sockets });
        Ok(())
    }
}

/// Deals the sockets of one address to shards as when it was bound.
pub(super) fn share(listening: Listening, by_shard: &mut [Vec<Listener>]) -> io::Result<()> {
    let shards = by_shard.len().max(1);
    for (index, socket) in listening.sockets.into_iter().enumerate() {
        match listening.addr {
            ListenAddr::Tcp(_) => by_shard[index % shards].push(Listener::Tcp(inherited::tcp_listener(socket)?)),
            ListenAddr::Unix(_) => share_unix(socket, by_shard)?,
        }
    }
    Ok(())
}

/// Every shard takes connections from the socket of a file.
fn share_unix(socket: OwnedFd, by_shard: &mut [Vec<Listener>]) -> io::Result<()> {
    let listener = inherited::unix_listener(socket)?;
    for listeners in by_shard {
        listeners.push(Listener::Unix(listener.try_clone()?));
    }
    Ok(())
}

/// An inherited socket, with the options of this process: they hold for connections that come from now on.
fn take_over(socket: OwnedFd, options: &SocketOptions) -> Result<io::Result<TcpListener>, OptionError> {
    let socket = Socket::from(socket);
    sockopt::apply(&socket, options)?;
    // To one that listens already it gives the backlog alone.
    let prepared = socket.set_tcp_nodelay(true).and_then(|()| socket.listen(options.backlog));
    Ok(prepared.and_then(|()| inherited::tcp_listener(socket.into())))
}

/// The IPv6 wildcard becomes the IPv4 one on a machine without IPv6.
fn where_possible(addr: SocketAddr) -> SocketAddr {
    let lacks_ipv6 = || Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_err();
    if addr.is_ipv6() && addr.ip().is_unspecified() && lacks_ipv6() {
        return SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port());
    }
    addr
}

fn start_error(addr: ListenAddr, source: io::Error) -> StartError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return StartError::InUse(addr);
    }
    StartError::Listen { addr, source }
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Fails if anybody listens there already, also with SO_REUSEPORT.
fn probe(addr: SocketAddr) -> io::Result<()> {
    open(addr)?.bind(&addr.into())
}

fn listen(socket: &Socket, addr: SocketAddr, backlog: i32) -> io::Result<()> {
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it: no system call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)
}

/// Steers the connections of one address, of whose listeners one is given. Once for the group is enough.
fn steer(listener: Option<&TcpListener>, cpus: &[Option<usize>]) -> Result<(), OptionError> {
    let refused = |source| OptionError { option: SocketOption::ReuseportCpu, source };
    let cpus = cpus.iter().copied().collect::<Option<Vec<_>>>();
    let cpus = cpus.ok_or_else(|| refused(io::Error::other("a shard is not pinned to a CPU")))?;
    match listener {
        Some(listener) => steering::attach(listener, &cpus).map_err(refused),
        None => Ok(()),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        net::TcpStream,
        time::{Duration, Instant},
    };

    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    use socket2::SockAddr;

    use super::*;
    use crate::{limits, shard::testing::Folder};

    const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

    /// Without anything inherited.
    fn bind_all(addrs: &[ListenAddr], cpus: &[Option<usize>], options: &SocketOptions) -> Result<Bound, StartError> {
        super::bind_all("rtmp", addrs, cpus, options, &mut Inherited::default())
    }

    fn loopback() -> ListenAddr {
        SocketAddr::from((LOOPBACK, 0)).into()
    }

    fn tcp(listener: &Listener) -> &TcpListener {
        match listener {
            Listener::Tcp(listener) => listener,
            Listener::Unix(_) => panic!("a socket file"),
        }
    }

    fn bind(options: &SocketOptions) -> Bound {
        let addrs = [loopback(), SocketAddr::from(([0_u16; 8], 0)).into()];
        bind_all(&addrs, &[None], options).expect("free ports")
    }

    /// A connection to each address, as its client and as accepted.
    fn connect(bound: &Bound) -> Vec<(TcpStream, TcpStream)> {
        let pair = |(listener, addr): (&Listener, &ListenAddr)| {
            let (listener, port) = (tcp(listener), addr.tcp().expect("an address").port());
            let client = TcpStream::connect((LOOPBACK, port)).expect("listens");
            listener.set_nonblocking(false).expect("a flag");
            (client, listener.accept().expect("connected").0)
        };
        bound.by_shard[0].iter().zip(&bound.addrs).map(pair).collect()
    }

    #[test]
    fn a_port_that_another_reuseport_listener_has_is_in_use() {
        let first = bind_all(&[loopback()], &[None; 2], &SocketOptions::default()).expect("free");
        let second = bind_all(&first.addrs, &[None], &SocketOptions::default());
        assert!(matches!(second, Err(StartError::InUse(addr)) if addr == first.addrs[0]));
    }

    #[test]
    fn all_shards_share_the_port_the_system_chose() {
        let bound = bind_all(&[loopback()], &[None; 3], &SocketOptions::default()).expect("free");
        let addr = bound.addrs[0].tcp().expect("an address");
        assert_ne!(addr.port(), 0);
        assert!(bound.by_shard.iter().all(|listeners| tcp(&listeners[0]).local_addr().expect("bound") == addr));
    }

    #[test]
    fn an_inherited_socket_file_gets_the_backlog_that_is_asked_for() {
        let folder = Folder::new("backlog");
        let path = folder.path("node.sock");
        let mut inherited = Inherited::default();
        inherited.add(UnixListener::bind(&path).expect("a new file").into(), None).expect("it listens");
        let options = SocketOptions { backlog: 1, ..SocketOptions::default() };
        let addrs = [ListenAddr::Unix(path.clone())];
        let _bound = super::bind_all("rtmp", &addrs, &[None], &options, &mut inherited).expect("it was inherited");
        let connect = || {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("descriptors");
            client.connect(&SockAddr::unix(&path).expect("a short path")).map(|()| client)
        };
        // The kernel lets one more wait.
        let _waiting = [connect().expect("room"), connect().expect("room")];
        assert_eq!(connect().expect_err("no room").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn by_default_accepted_sockets_are_the_kernels_but_for_what_waits_unsent() {
        let bound = bind(&SocketOptions::default());
        assert!(!bound.clamps.iter().any(|clamp| matches!(clamp, Clamp::SendBuffer { .. })));
        let plain = TcpListener::bind((LOOPBACK, 0)).expect("free");
        let _client = TcpStream::connect(plain.local_addr().expect("bound")).expect("listens");
        let (plain, _) = plain.accept().expect("connected");
        let plain = SockRef::from(&plain);
        for (_client, accepted) in connect(&bound) {
            let accepted = SockRef::from(&accepted);
            assert_eq!(accepted.tcp_notsent_lowat().unwrap(), limits::NOTSENT_LOWAT_BYTES_DEFAULT);
            assert!(accepted.tcp_nodelay().unwrap());
            assert_eq!(accepted.send_buffer_size().unwrap(), plain.send_buffer_size().unwrap());
            assert_eq!(accepted.tcp_congestion().unwrap(), plain.tcp_congestion().unwrap());
        }
    }

    #[test]
    fn accepted_sockets_inherit_the_send_buffer_and_what_may_wait_unsent() {
        let options =
            SocketOptions { send_buffer: Some(96 * 1024), notsent_lowat: 48 * 1024, ..SocketOptions::default() };
        for (_client, accepted) in connect(&bind(&options)) {
            let accepted = SockRef::from(&accepted);
            assert_eq!(accepted.send_buffer_size().unwrap(), 2 * 96 * 1024);
            assert_eq!(accepted.tcp_notsent_lowat().unwrap(), 48 * 1024);
        }
    }

    #[test]
    fn accepted_sockets_inherit_busy_polling_where_it_is_allowed() {
        let options = SocketOptions { busy_poll_us: Some(37), ..SocketOptions::default() };
        match bind_all(&[loopback()], &[None], &options) {
            Ok(bound) => {
                for (_client, accepted) in connect(&bound) {
                    assert_eq!(SockRef::from(&accepted).busy_poll().unwrap(), 37);
                }
            }
            // Older kernels want a privilege, and some are built without it.
            Err(StartError::Option(error)) => assert_eq!(error.option, SocketOption::BusyPoll),
            Err(error) => panic!("{error}"),
        }
        bind(&SocketOptions { busy_poll_us: Some(0), ..SocketOptions::default() });
    }

    #[test]
    fn accepted_sockets_inherit_the_congestion_control() {
        let allowed = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_allowed_congestion_control").unwrap();
        for name in allowed.split_whitespace() {
            let options = SocketOptions { congestion: Some(name.to_owned()), ..SocketOptions::default() };
            for (_client, accepted) in connect(&bind(&options)) {
                let inherited = SockRef::from(&accepted).tcp_congestion().unwrap();
                assert_eq!(String::from_utf8_lossy(&inherited).trim_end_matches('\0'), name);
            }
        }
        let options = SocketOptions { congestion: Some("carrier-pigeon".to_owned()), ..SocketOptions::default() };
        let refused = bind_all(&[loopback()], &[None], &options);
        assert!(matches!(refused, Err(StartError::Option(error)) if error.option == SocketOption::Congestion));
    }

    #[test]
    fn what_the_kernel_cuts_short_is_said_once() {
        let asked_bytes = limits::SNDBUF_BYTES_MAX;
        let options = SocketOptions {
            send_buffer: Some(asked_bytes),
            backlog: limits::LISTEN_BACKLOG_MAX,
            ..SocketOptions::default()
        };
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
        let (wmem_max, somaxconn) =
            (read("wmem_max").trim().parse().unwrap(), read("somaxconn").trim().parse().unwrap());
        assert_eq!(
            bind(&options).clamps,
            [
                Clamp::SendBuffer { asked_bytes, given_bytes: wmem_max },
                Clamp::Backlog { asked: limits::LISTEN_BACKLOG_MAX, given: somaxconn },
            ],
        );
    }

    /// Runs `act` with this thread on `cpu` alone.
    fn on_cpu<R>(cpu: usize, act: impl FnOnce() -> R) -> R {
        let before = sched_getaffinity(None).expect("a mask");
        let mut alone = CpuSet::new();
        alone.set(cpu);
        sched_setaffinity(None, &alone).expect("one of its own");
        let result = act();
        sched_setaffinity(None, &before).expect("as before");
        result
    }

    /// How many of 20 connections from `cpu` each of the listeners for `cpus` gets.
    fn spread(cpus: &[usize], from: usize) -> Vec<usize> {
        let options = SocketOptions { reuseport_cpu: true, ..SocketOptions::default() };
        let pinned = cpus.iter().copied().map(Some).collect::<Vec<_>>();
        let bound = bind_all(&[loopback()], &pinned, &options).expect("steers");
        let addr = bound.addrs[0].tcp().expect("an address");
        let clients = on_cpu(from, || (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect::<Vec<_>>());
        let count = |listeners: &Vec<Listener>| std::iter::from_fn(|| listeners[0].accept().ok()).count();
        let mut counts = vec![0; cpus.len()];
        let by = Instant::now() + Duration::from_secs(10);
        // The last packet of a handshake may still be on its way.
        while counts.iter().sum::<usize>() < clients.len() && Instant::now() < by {
            counts.iter_mut().zip(&bound.by_shard).for_each(|(counted, listeners)| *counted += count(listeners));
        }
        counts
    }

    #[test]
    fn connections_are_steered_to_the_shard_of_their_cpu() {
        let mask = sched_getaffinity(None).expect("a mask");
        // Shards of CPUs that no packet arrives on stand in for those of a larger machine.
        let absent = CpuSet::MAX_CPU;
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)) {
            assert_eq!(spread(&[cpu, absent], cpu), [20, 0]);
            assert_eq!(spread(&[absent, cpu], cpu), [0, 20]);
            assert_eq!(spread(&[absent, absent + 1, cpu], cpu), [0, 0, 20]);
            let mut by_number = [0; 3];
            by_number[cpu % 3] = 20;
            assert_eq!(spread(&[absent, absent + 1, absent + 2], cpu), by_number);
        }
    }

    #[test]
    fn steering_needs_pinned_shards() {
        let options = SocketOptions { reuseport_cpu: true, ..SocketOptions::default() };
        let refused = bind_all(&[loopback()], &[Some(0), None], &options);
        assert!(matches!(refused, Err(StartError::Option(error)) if error.option == SocketOption::ReuseportCpu));
    }
}
