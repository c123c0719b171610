//! All shards of the process, as the control thread sees them: started together, asked, ended in order.
//!
//! A shard that panics, or that the watchdog finds hung, takes the process down: its thread stops where it is (tearing its
//! runtime down would free buffers the kernel may still read), the others get [`limits::PANIC_GRACE`] to end their streams, and [`Fleet::wait`] returns.

mod ends;
mod sockets;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    mem::ManuallyDrop,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize},
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use self::ends::{Ends, PanicWatch};
use super::{
    bell::EventBell,
    config::Config,
    core::{Core, Shared},
    dial::{Answer, DialDesk, DialId},
    driver::{Door, Driver, Setting},
    inherited::{Inherited, Listening},
    leaving::Departure,
    listen_addr::ListenAddr,
    listener::{self, Bound, Listener},
    mesh::{self, Bell, Port},
    metrics::{Gauge, ShardMetrics},
    overload::memory::{Memory, Weighed},
    questions::{Decision, Ticket},
    reconnect::ReconnectRequest,
    relaying::report::{RelayPart, RelayReport},
    report::StreamPart,
    runtime::ShardRuntime,
    socket_options::{Clamp, OptionError},
    tls,
    unix_file::UnixFile,
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

#[derive(Clone, Copy, Debug)]
pub struct ShardFacts {
    pub shard: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// "io_uring" or "epoll".
    pub driver: &'static str,
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

/// How the fleet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetEnd {
    /// All shards ended in order.
    Orderly,
    /// This shard panicked; the others had [`limits::PANIC_GRACE`] to end their streams.
    Panicked { shard: usize },
    /// This shard hung; the same.
    Hung { shard: usize },
}

/// What the control thread asks of a shard.
#[derive(Debug)]
pub(super) enum Command {
    Shutdown,
    StopAccepting,
    /// As `StopAccepting`, but the sockets go on in other hands.
    ReleaseListeners,
    /// A connection of the process that takes over.
    Adopt(OwnedFd),
    Leave(Departure, Sender<usize>),
    Stay,
    Reconnect(Arc<ReconnectRequest>, Sender<usize>),
    Report(Sender<Vec<StreamPart>>),
    ReportRelays(Sender<RelayPart>),
    Decided(Ticket, Decision),
    /// To what a dial of the shard asked.
    Answered(DialId, Answer),
    #[cfg(test)]
    Panic,
    #[cfg(test)]
    Act(Act),
}

/// Anything a test wants done on a shard's thread.
#[cfg(test)]
pub(super) struct Act(pub(super) Box<dyn FnOnce(&Driver) + Send>);

#[cfg(test)]
impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Act")
    }
}

/// Commands for one shard. Touched by people's requests and dials only, never by media.
#[derive(Debug)]
pub(super) struct Mailbox {
    commands: Mutex<VecDeque<Command>>,
    bell: EventBell,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { commands: Mutex::default(), bell: EventBell::new()? })
    }

    pub(super) fn bell(&self) -> &EventBell {
        &self.bell
    }

    pub(super) fn send(&self, command: Command) {
        lock(&self.commands).push_back(command);
        self.bell.ring();
    }

    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    pub(super) fn take(&self) -> VecDeque<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Fleet {
    rtmp: Vec<ListenAddr>,
    rtmps: Vec<ListenAddr>,
    tls: Option<Arc<tls::server::Server>>,
    /// Until the node takes no more connections.
    files: Mutex<Vec<UnixFile>>,
    others_files: Mutex<Vec<PathBuf>>,
    /// For a successor.
    listening: Mutex<Vec<Listening>>,
    /// Somebody else has the sockets too, and they outlive this process.
    lasting: AtomicBool,
    /// The shard that serves the next connection of a successor.
    adopter: AtomicUsize,
    clamps: Vec<Clamp>,
    facts: Vec<ShardFacts>,
    denied: Option<String>,
    metrics: Vec<Arc<ShardMetrics>>,
    mailboxes: Vec<Arc<Mailbox>>,
    gauge: LogGauge,
    memory: Arc<Memory>,
    start: Instant,
    ends: Arc<Ends>,
    _watchdog: Option<Watchdog>,
}

/// What a shard's thread is started with.
struct Seat {
    shard: usize,
    cpu: Option<usize>,
    shared: Shared,
    port: Port,
    metrics: Arc<ShardMetrics>,
    mailbox: Arc<Mailbox>,
    listeners: Vec<Listener>,
    /// Those for TLS.
    secure: Vec<Listener>,
    desk: DialDesk,
    start: Instant,
    ends: Arc<Ends>,
}

/// What a shard's thread says once it runs, or cannot.
type Started = Result<(ShardFacts, Option<io::Error>), io::Error>;

/// What a fleet will listen on, before it has threads: meanwhile the process can give up what it needed to bind.
#[derive(Debug)]
pub struct Sockets {
    rtmp: Bound,
    rtmps: Bound,
}

impl Sockets {
    /// Probes and binds every address of `config`.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Self::inherit(config, &mut Inherited::default())
    }

    /// As [`bind`](Self::bind), with those of `inherited` that listen there already.
    pub fn inherit(config: &Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let mut bind =
            |role, addrs: &[ListenAddr]| listener::bind_all(role, addrs, &config.cpus, &config.sockets, inherited);
        Ok(Self { rtmp: bind("rtmp", &config.rtmp)?, rtmps: bind("rtmps", &config.rtmps)? })
    }
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
        let Sockets { rtmp, rtmps } = sockets;
        // They differ in nothing that is cut short.
        let clamps = if rtmp.clamps.is_empty() { rtmps.clamps } else { rtmp.clamps };
        let files = rtmp.files.into_iter().chain(rtmps.files).collect();
        let others_files = rtmp.others_files.into_iter().chain(rtmps.others_files).collect();
        let listening = rtmp.listening.into_iter().chain(rtmps.listening).collect();
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
        let desk = DialDesk::new(config.upstream_ca.clone(), config.predecessor.clone());
        let shared = Shared::new(config);
        let ends = Arc::new(Ends::default());
        let mut fleet = Self {
            rtmp: rtmp.addrs,
            rtmps: rtmps.addrs,
            tls: shared.config.tls.clone(),
            files: Mutex::new(files),
            others_files: Mutex::new(others_files),
            listening: Mutex::new(listening),
            lasting: AtomicBool::new(false),
            adopter: AtomicUsize::new(0),
            clamps,
            facts: Vec::new(),
            denied: None,
            metrics: (0..shards).map(|_| Arc::default()).collect(),
            mailboxes,
            gauge: shared.gauge.clone(),
            memory: shared.memory.clone(),
            start: Instant::now(),
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
        let has_ended = move |shard: usize| lock(&watched.ended).orderly & (1 << shard) != 0;
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
        let shards = self.metrics.iter();
        let held = shards
            .map(|shard| count(shard.assembly_bytes.get()) + count(shard.connections.get()) * limits::CONNECTION_BYTES);
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
        let mut state = lock(&self.ends.ended);
        loop {
            if let Some(end) = state.failed {
                drop(state);
                self.shutdown();
                self.wait_for_survivors();
                return end;
            }
            if state.orderly() == self.mailboxes.len() {
                return FleetEnd::Orderly;
            }
            state = self.ends.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wait_for_survivors(&self) {
        let by = Instant::now() + limits::PANIC_GRACE;
        let mut state = lock(&self.ends.ended);
        while state.orderly() + 1 < self.mailboxes.len() {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.ends.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

impl Seat {
    /// Starts the shard's thread and waits until it listens.
    fn start(self) -> Started {
        let (say, hear) = mpsc::channel();
        let name = format!("shard-{}", self.shard);
        thread::Builder::new().name(name).spawn(move || self.run(&say))?;
        hear.recv().unwrap_or_else(|_| Err(io::Error::other("the shard's thread ended before it listened")))
    }

    fn run(self, say: &Sender<Started>) {
        let watch = PanicWatch { shard: self.shard, ends: self.ends.clone() };
        if let Some(cpu) = self.cpu {
            let mut cpus = CpuSet::new();
            cpus.set(cpu);
            if let Err(error) = sched_setaffinity(None, &cpus) {
                let _ = say.send(Err(error.into()));
                return;
            }
        }
        // Never torn down: sends may be in flight when the thread ends, and their buffers stay until the process does.
        let (mut runtime, denied) = match ShardRuntime::build(self.shared.config.driver) {
            Ok((runtime, denied)) => (ManuallyDrop::new(runtime), denied),
            Err(error) => {
                let _ = say.send(Err(error));
                return;
            }
        };
        let facts = ShardFacts { shard: self.shard, cpu: self.cpu, driver: runtime.name() };
        let nonblocking = runtime.wants_nonblocking();
        // Handshakes need bytes that differ, not secrets.
        let nonce = nonce(self.shard);
        let core = Core::new(&self.shared, self.port, self.metrics.clone(), nonce);
        let result = runtime.block_on(async {
            let bell = self.mailbox.bell().waiter()?;
            let driver = Driver::new(
                core,
                Setting {
                    start: self.start,
                    metrics: self.metrics,
                    nonblocking,
                    mailbox: self.mailbox,
                    desk: self.desk,
                    sockets: self.shared.config.sockets.clone(),
                    questions: self.shared.config.callbacks.desk.clone(),
                },
            )?;
            let door = Door { balancers: self.shared.config.balancers.clone(), tls: None };
            driver.listen(self.listeners, &door)?;
            driver.listen(self.secure, &Door { tls: self.shared.config.tls.clone(), ..door })?;
            let _ = say.send(Ok((facts, denied)));
            driver.run(bell).await;
            Ok(())
        });
        match result {
            Ok(()) => watch.ended(),
            Err(error) => drop(say.send(Err(error))),
        }
    }
}

fn nonce(shard: usize) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_usize(shard);
    hasher.finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it held left the state whole: it is replaced or counted up in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpStream};

    use rustix::thread::sched_getaffinity;

    use super::*;
    use crate::shard::socket_options::SocketOptions;

    fn start(shards: usize) -> Fleet {
        let rtmp = vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()];
        Fleet::start(Config { rtmp, cpus: vec![None; shards], ..Config::default() }).expect("starts")
    }

    #[test]
    fn a_fleet_ends_in_order_when_told() {
        let fleet = start(2);
        assert!(fleet.streams(Duration::from_secs(5)).is_empty());
        fleet.shutdown();
        assert_eq!(fleet.wait(), FleetEnd::Orderly);
    }

    #[test]
    fn a_shard_that_panics_takes_the_others_along() {
        let fleet = start(3);
        fleet.mailboxes[1].send(Command::Panic);
        assert_eq!(fleet.wait(), FleetEnd::Panicked { shard: 1 });
        assert_eq!(lock(&fleet.ends.ended).orderly(), 2, "the survivors ended in order");
    }

    #[test]
    fn a_shard_that_hangs_takes_the_others_along() {
        let fleet = start(3);
        let began = Instant::now();
        let hang = Act(Box::new(|_: &Driver| thread::sleep(Duration::from_secs(30))));
        fleet.mailboxes[1].send(Command::Act(hang));
        assert_eq!(fleet.wait(), FleetEnd::Hung { shard: 1 });
        let took = began.elapsed();
        let expected = limits::WATCHDOG_TICK * limits::WATCHDOG_TICKS_MAX;
        assert!(took >= expected && took < expected * 2 + limits::PANIC_GRACE, "{took:?}");
        assert_eq!(lock(&fleet.ends.ended).orderly(), 2, "the survivors ended in order");
    }

    #[test]
    fn a_shard_that_is_slow_is_not_hung() {
        let fleet = start(2);
        fleet.act(|_| thread::sleep(Duration::from_secs(3)));
        let slow = || fleet.metrics()[0].slow_turns.get();
        let by = Instant::now() + Duration::from_secs(5);
        while slow() == 0 && Instant::now() < by {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(slow(), 1);
        fleet.shutdown();
        assert_eq!(fleet.wait(), FleetEnd::Orderly);
    }

    #[test]
    fn a_connection_is_handled_on_the_cpu_its_packets_arrive_on() {
        let mask = sched_getaffinity(None).expect("a mask");
        // Highest first: a shard's number is not its CPU's.
        let cpus = (0..CpuSet::MAX_CPU).rev().filter(|cpu| mask.is_set(*cpu)).take(4).collect::<Vec<_>>();
        let fleet = Fleet::start(Config {
            rtmp: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            cpus: cpus.iter().copied().map(Some).collect(),
            sockets: SocketOptions { reuseport_cpu: true, ..SocketOptions::default() },
            ..Config::default()
        })
        .expect("starts");
        let addr = fleet.rtmp_addrs()[0].tcp().expect("an address");
        let accepted = || fleet.metrics().iter().map(|shard| shard.connections_accepted.get()).collect::<Vec<_>>();
        for (shard, cpu) in cpus.iter().enumerate() {
            let mut alone = CpuSet::new();
            alone.set(*cpu);
            sched_setaffinity(None, &alone).expect("allowed");
            let _clients = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect::<Vec<_>>();
            let by = Instant::now() + Duration::from_secs(10);
            let expected = (0..cpus.len()).map(|other| if other <= shard { 20 } else { 0 }).collect::<Vec<_>>();
            while accepted() != expected && Instant::now() < by {
                thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(accepted(), expected, "from CPU {cpu} to shards on {cpus:?}");
        }
        fleet.shutdown();
        assert_eq!(fleet.wait(), FleetEnd::Orderly);
    }
}
