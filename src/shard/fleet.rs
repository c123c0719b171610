//! All shards of the process, as the control thread sees them: started together, asked, ended in order.
//!
//! A shard that panics, or that the watchdog finds hung, takes the process down: its thread stops where it is (tearing its
//! runtime down would free buffers the kernel may still read), the others get [`limits::PANIC_GRACE`] to end their streams, and
//! [`Fleet::wait`] returns.

mod ends;
mod mailbox;
mod seat;
mod sockets;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

#[cfg(test)]
use self::mailbox::Act;
pub(super) use self::mailbox::{Command, Mailbox};
use self::{ends::Ends, seat::Seat, sockets::OpenSockets};
pub use self::{ends::FleetEnd, seat::ShardFacts, sockets::Sockets};
#[cfg(test)]
use super::driver::Driver;
use super::{
    config::Config,
    core::Shared,
    dial::DialDesk,
    leaving::Departure,
    listen_addr::ListenAddr,
    mesh::{self, Bell},
    metrics::{Gauge, ShardMetrics},
    overload::memory::{Memory, Weighed},
    predecessor::Predecessor,
    questions::{Decision, Ticket},
    reconnect::ReconnectRequest,
    relaying::report::RelayReport,
    report::StreamPart,
    socket_options::{Clamp, OptionError},
    tls,
    watchdog::Watchdog,
};
use crate::{limits, stream::segment::LogGauge};

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something already listens there.
    #[error("{0} is already in use by another process")]
    InUse(ListenAddr),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: ListenAddr, source: io::Error },
    #[error(transparent)]
    Option(#[from] OptionError),
    #[error("shard {shard}: {source}")]
    Runtime { shard: usize, source: io::Error },
}

/// One live stream, for `/api/streams`.
#[derive(Clone, Debug, Serialize)]
pub struct StreamReport {
    pub name: String,
    /// Owner shard.
    pub shard: usize,
    pub epoch: u64,
    pub publisher: String,
    pub uptime_ms: u64,
    pub bytes_in: u64,
    pub messages_in: u64,
    /// On all shards.
    pub players: u64,
    pub log_bytes: u64,
}

/// Clients that are to leave and are still here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// They were asked to reconnect elsewhere, or will be.
    pub asked: u64,
    /// They are let go before a keyframe: publishers, and all others.
    pub players: u64,
    pub publishers: u64,
}

impl Left {
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Fleet {
    rtmp: Vec<ListenAddr>,
    rtmps: Vec<ListenAddr>,
    tls: Option<Arc<tls::server::Server>>,
    open: OpenSockets,
    clamps: Vec<Clamp>,
    facts: Vec<ShardFacts>,
    denied: Option<String>,
    metrics: Vec<Arc<ShardMetrics>>,
    mailboxes: Vec<Arc<Mailbox>>,
    gauge: LogGauge,
    memory: Arc<Memory>,
    start: Instant,
    predecessor: Option<Arc<Predecessor>>,
    ends: Arc<Ends>,
    _watchdog: Option<Watchdog>,
}

impl Fleet {
    /// Binds and starts.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let sockets = Sockets::bind(&config)?;
        Self::start_on(sockets, config)
    }

    /// Starts a thread per shard. `sockets` were bound with the same `config`. Returns once all listen.
    pub fn start_on(sockets: Sockets, config: Config) -> Result<Self, StartError> {
        let shards = config.cpus.len();
        let Sockets { mut rtmp, mut rtmps } = sockets;
        let open = OpenSockets::new(&mut rtmp, &mut rtmps);
        // They differ in nothing that is cut short.
        let clamps = if rtmp.clamps.is_empty() { rtmps.clamps } else { rtmp.clamps };
        let by_shard = rtmp.by_shard.into_iter().zip(rtmps.by_shard);
        let bell_error = |source| StartError::Runtime { shard: 0, source };
        let mut mailboxes = Vec::new();
        let mut bells: Vec<Box<dyn Bell>> = Vec::new();
        for _ in 0..shards {
            let mailbox = Mailbox::new().map_err(bell_error)?;
            bells.push(Box::new(mailbox.bell().try_clone().map_err(bell_error)?));
            mailboxes.push(Arc::new(mailbox));
        }
        let cpus = config.cpus.clone();
        let predecessor = config.predecessor.clone();
        let desk = DialDesk::new(config.upstream_ca.clone(), predecessor.clone());
        let shared = Shared::new(config);
        let ends = Arc::new(Ends::default());
        let mut fleet = Self {
            rtmp: rtmp.addrs,
            rtmps: rtmps.addrs,
            tls: shared.config.tls.clone(),
            open,
            clamps,
            facts: Vec::new(),
            denied: None,
            metrics: (0..shards).map(|_| Arc::default()).collect(),
            mailboxes,
            gauge: shared.gauge.clone(),
            memory: shared.memory.clone(),
            start: Instant::now(),
            predecessor,
            ends: ends.clone(),
            _watchdog: None,
        };
        let start = fleet.start;
        for ((shard, (listeners, secure)), port) in by_shard.enumerate().zip(mesh::ports(bells)) {
            let seat = Seat {
                shard,
                cpu: cpus[shard],
                shared: shared.clone(),
                port,
                metrics: fleet.metrics[shard].clone(),
                mailbox: fleet.mailboxes[shard].clone(),
                listeners,
                secure,
                desk: desk.clone(),
                start,
                ends: ends.clone(),
            };
            let (facts, denied) = seat.start().map_err(|source| StartError::Runtime { shard, source })?;
            fleet.facts.push(facts);
            fleet.denied = fleet.denied.or(denied.map(|error| error.to_string()));
        }
        let watched = Arc::clone(&ends);
        let has_ended = move |shard| watched.has_ended(shard);
        let bite = move |shard| ends.fail(FleetEnd::Hung { shard });
        let watchdog = Watchdog::start(fleet.metrics.clone(), has_ended, bite);
        fleet._watchdog = Some(watchdog.map_err(|source| StartError::Runtime { shard: 0, source })?);
        Ok(fleet)
    }

    /// What is listened on, with the ports the system chose.
    pub fn rtmp_addrs(&self) -> &[ListenAddr] {
        &self.rtmp
    }

    /// What is listened on for TLS.
    pub fn rtmps_addrs(&self) -> &[ListenAddr] {
        &self.rtmps
    }

    /// What clients meet there.
    pub fn tls(&self) -> Option<&tls::server::Server> {
        self.tls.as_deref()
    }

    /// Where the kernel took less of a socket option than was asked for.
    pub fn clamps(&self) -> &[Clamp] {
        &self.clamps
    }

    pub fn shards(&self) -> &[ShardFacts] {
        &self.facts
    }

    /// Why io_uring is not used, if it is not and was not ruled out by the configuration.
    pub fn uring_denied(&self) -> Option<&str> {
        self.denied.as_deref()
    }

    pub fn metrics(&self) -> &[Arc<ShardMetrics>] {
        &self.metrics
    }

    /// How many connections there are, whatever they do.
    pub fn connected(&self) -> i64 {
        self.metrics.iter().map(|shard| shard.connections.get()).sum()
    }

    /// Bytes of all stream logs of the process.
    pub fn log_bytes(&self) -> u64 {
        self.gauge.bytes()
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Weighs the process's memory, of which `resident` bytes are in use by the kernel's account.
    pub fn weigh_memory(&self, resident: u64) -> Weighed {
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let held = self.metrics.iter().map(|shard| {
            let connections = count(shard.connections.get()) * limits::CONNECTION_BYTES;
            let tls = count(shard.tls_connections.get()) * limits::TLS_CONNECTION_BYTES;
            count(shard.assembly_bytes.get()) + connections + tls
        });
        let accounted = self.gauge.bytes() + held.sum::<u64>();
        self.memory.weigh(accounted, resident, self.start.elapsed())
    }

    /// Live streams. Blocks up to `patience` for the shards' answers.
    pub fn streams(&self, patience: Duration) -> Vec<StreamReport> {
        let mut parts = BTreeMap::new();
        for part in self.ask(patience, Command::Report).flatten() {
            StreamPart::merge(parts.entry(part.name.clone()).or_default(), part);
        }
        parts.into_values().filter_map(StreamPart::into_report).collect()
    }

    /// What is pulled and pushed. Blocks up to `patience` for the shards' answers.
    pub fn relay_report(&self, patience: Duration) -> RelayReport {
        RelayReport::of(self.ask(patience, Command::ReportRelays))
    }

    /// Sends each shard a command and waits for the answers.
    fn ask<T>(&self, patience: Duration, command: impl Fn(Sender<T>) -> Command) -> impl Iterator<Item = T> {
        let (answer, answers) = mpsc::channel();
        for mailbox in &self.mailboxes {
            mailbox.send(command(answer.clone()));
        }
        drop(answer);
        let by = Instant::now() + patience;
        std::iter::from_fn(move || answers.recv_timeout(by.saturating_duration_since(Instant::now())).ok())
    }

    /// How often the clock of each shard has ticked.
    pub fn turns(&self) -> Vec<u64> {
        self.metrics.iter().map(|shard| shard.turns.get()).collect()
    }

    /// Answers a question that a shard had: see [`questions`](super::questions).
    pub fn decide(&self, ticket: Ticket, decision: Decision) {
        if let Some(mailbox) = self.mailboxes.get(ticket.shard) {
            mailbox.send(Command::Decided(ticket, decision));
        }
    }

    /// Asks all clients that announced it to reconnect as `request` says. Returns how many will be asked; blocks up to
    /// `patience` for the shards' answers.
    pub fn request_reconnect(&self, request: ReconnectRequest, patience: Duration) -> usize {
        let request = Arc::new(request);
        self.ask(patience, |answer| Command::Reconnect(request.clone(), answer)).sum()
    }

    /// All clients leave as `departure` says. Returns how many will be asked to reconnect; blocks up to `patience` for the
    /// shards' answers.
    pub fn leave(&self, departure: &Departure, patience: Duration) -> usize {
        self.ask(patience, |answer| Command::Leave(departure.clone(), answer)).sum()
    }

    /// Nobody has to leave any more.
    pub fn stay(&self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stay);
        }
    }

    /// The process that this one took over from, until it has ended.
    pub fn predecessor(&self) -> Option<&Predecessor> {
        self.predecessor.as_deref().filter(|known| !known.is_gone())
    }

    /// How many processes of the node came before, modulo [`limits::GENERATIONS`].
    pub fn generation(&self) -> u8 {
        self.predecessor.as_ref().map_or(0, |known| known.next_generation())
    }

    /// Who is still to leave.
    pub fn left(&self) -> Left {
        let sum = |gauge: fn(&ShardMetrics) -> &Gauge| -> u64 {
            self.metrics.iter().map(|shard| u64::try_from(gauge(shard).get()).unwrap_or(0)).sum()
        };
        Left {
            asked: sum(|shard| &shard.reconnecting),
            players: sum(|shard| &shard.leaving_players),
            publishers: sum(|shard| &shard.leaving_publishers),
        }
    }

    /// Begins the orderly end: no new connections; players get the last messages and their end of stream, within
    /// [`limits::SHUTDOWN_GRACE`].
    pub fn shutdown(&self) {
        self.stop_accepting();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Shutdown);
        }
    }

    /// Does `act` on the first shard's thread.
    #[cfg(test)]
    pub(super) fn act<R: Send + 'static>(&self, act: impl FnOnce(&Driver) -> R + Send + 'static) -> R {
        let (say, hear) = mpsc::channel();
        let act = Act(Box::new(move |driver| say.send(act(driver)).expect("it is heard")));
        self.mailboxes[0].send(Command::Act(act));
        hear.recv_timeout(Duration::from_secs(10)).expect("the shard runs")
    }

    /// Blocks until all shards have ended, or one has panicked or hung.
    pub fn wait(&self) -> FleetEnd {
        let shards = self.mailboxes.len();
        let end = self.ends.wait(shards);
        if end != FleetEnd::Orderly {
            if self.predecessor().is_some() {
                // It goes on with the sockets.
                self.release_listeners();
            }
            self.shutdown();
            self.ends.wait_for_survivors(shards);
        }
        end
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it held left the state whole: it is replaced or counted up in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
