//! The service manager: sockets it opened or kept for this process, and what it is told (systemd's `LISTEN_FDS` and
//! `NOTIFY_SOCKET`; others know these protocols too).
//!
//! Without the variables nothing is done. What cannot be sent is passed over: nobody is served worse for that.

use std::{
    env,
    ffi::OsStr,
    io, iter,
    os::{
        fd::{AsFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::upgrade::descriptors;
use crate::shard::{
    fleet::Fleet,
    inherited::{Inherited, Listening, ROLES},
    passing,
};

/// Before the name of what a socket is for, in that of a socket that is kept: units name theirs as they like, `rtmp` for one.
const KEPT: &str = "shardcast-kept-";

fn kept_name(role: &str) -> String {
    format!("{KEPT}{role}")
}

/// A socket the manager gave to this process.
#[derive(Debug)]
pub(super) struct Given {
    socket: OwnedFd,
    /// For a process before ([`Manager::keep`]); the others the manager opened itself.
    is_kept: bool,
}

/// All of them. To be called once, and before anything else is opened.
pub(super) fn given() -> Vec<Given> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    if number("LISTEN_PID") != usize::try_from(std::process::id()).ok() {
        return Vec::new();
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let sockets = descriptors::given(number("LISTEN_FDS").unwrap_or(0));
    // Names may be missing.
    let names = names.split(':').chain(iter::repeat(""));
    sockets.into_iter().zip(names).map(|(socket, name)| Given { socket, is_kept: name.starts_with(KEPT) }).collect()
}

/// Adds those that listen. True: the manager opened some of them itself, and has them beyond the end of this process.
pub(super) fn add_to(inherited: &mut Inherited, given: Vec<Given>) -> bool {
    let mut opened = false;
    for Given { socket, is_kept } in given {
        match inherited.add(socket, None) {
            Ok(()) => opened |= !is_kept,
            Err(why) => tracing::warn!("a socket of the service manager's is closed: {why}"),
        }
    }
    opened
}

/// The manager, if there is one that wants to know.
#[derive(Debug)]
pub(super) struct Manager {
    socket: UnixDatagram,
    watchdog: Option<Duration>,
    /// Another process is the manager's business by now.
    replaced: AtomicBool,
}

impl Manager {
    pub(super) fn found() -> Option<Arc<Self>> {
        let name = env::var_os("NOTIFY_SOCKET")?;
        match connected(&name) {
            Ok(socket) => Some(Arc::new(Self { socket, watchdog: watchdog(), replaced: AtomicBool::new(false) })),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET {name:?}: {error}: the service manager is told nothing");
                None
            }
        }
    }

    /// This process serves.
    pub(super) fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
    }

    /// A new process is being started.
    pub(super) fn reloading(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=upgrading", monotonic_us()));
    }

    /// None was started after all, and this process leaves service.
    pub(super) fn leaving(&self) {
        self.tell("READY=1\nSTATUS=leaving");
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=ending");
    }

    /// From here the process that took over speaks for the service.
    pub(super) fn note_replaced(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }

    /// The process that took over is gone: this one speaks for the service again.
    pub(super) fn note_back(&self) {
        self.replaced.store(false, Ordering::Relaxed);
    }

    /// Has the manager keep the sockets for the next process, whenever this one ends, in place of those it has. False: it does
    /// not, because its unit has no room for them.
    pub(super) fn keep(&self, listening: &[Listening]) -> bool {
        let room = env::var("FDSTORE").ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
        if room == 0 {
            return false;
        }
        // Also what this process does not listen on: the one before did.
        ROLES.iter().for_each(|role| self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}", kept_name(role))));
        let count = listening.iter().map(|known| known.sockets.len()).sum::<usize>();
        if count > room {
            tracing::warn!(
                "the service manager keeps no sockets: FileDescriptorStoreMax={room} is less than the {count} there are"
            );
            return false;
        }
        listening.iter().flat_map(|known| known.sockets.iter().map(move |socket| (known, socket))).all(
            |(known, socket)| {
                let text = format!("FDSTORE=1\nFDNAME={}", kept_name(&known.role));
                passing::send_to(&self.socket, text.as_bytes(), &[socket.as_fd()]).is_ok()
            },
        )
    }

    /// Tells the manager twice in its time that this process works, as long as all shards turn.
    pub(super) async fn feed_watchdog(self: Arc<Self>, fleet: Arc<Fleet>) {
        let Some(period) = self.watchdog else { return };
        let mut before = Vec::new();
        loop {
            let turns = fleet.turns();
            let stand_still = turns.iter().zip(&before).any(|(now, before)| now == before);
            if !stand_still {
                self.tell("WATCHDOG=1");
            }
            before = turns;
            sleep(period / 2).await;
        }
    }

    fn tell(&self, text: &str) {
        if self.replaced.load(Ordering::Relaxed) {
            return;
        }
        if let Err(error) = self.socket.send(text.as_bytes()) {
            tracing::debug!("the service manager was not told {text:?}: {error}");
        }
    }
}

/// A leading `@` is for the abstract name space.
fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let addr = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    // A manager with its hands full must not hold up the control thread.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let for_this = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|us| for_this && *us > 0).map(Duration::from_micros)
}

fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}
