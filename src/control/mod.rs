//! The control thread: everything that is not media.
//!
//! [`run`] reads the command line (`args`, `values`, `cores`, or that of `check` and `relay`) and the configuration (`file`,
//! `rules`), starts the log (`logs`) and the fleet of shards, says what runs (`banner`, `progress`) and then serves the admin
//! listener (`admin`, `exposition`, `process`, `reconnect`) until a signal or a shard ends the process. It may block where
//! shards may not. It never touches media.

mod admin;
mod args;
mod banner;
mod check;
mod cores;
#[cfg(test)]
mod docs_tests;
mod exposition;
mod file;
mod logs;
mod process;
mod progress;
mod reconnect;
mod relay;
mod rules;
mod upgrade;
mod values;

use std::{
    ffi::OsString,
    future::pending,
    io::Write,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use self::{
    admin::Node,
    args::{Answer, Face, Given, Settings},
    banner::Banner,
    cores::Allowance,
    logs::Log,
    upgrade::{Heir, Successor, Upgrades},
};
use crate::{
    limits,
    shard::{
        config::DriverChoice,
        fleet::{Fleet, FleetEnd, Sockets, StartError},
        inherited::{Inherited, Listening, tcp_listener},
    },
};

/// Something else than the operator's input went wrong at start.
const EXIT_FAILED: u8 = 1;
/// The command line, the environment or an address is not usable as given.
const EXIT_USAGE: u8 = 2;
/// A shard panicked, hung or did not end (sysexits' EX_SOFTWARE).
const EXIT_SOFTWARE: u8 = 70;
/// A second signal: 128 and the signal's number are added, as shells do.
const EXIT_SIGNALLED: u8 = 128;

/// Why the process does not serve: the exit code and one line.
struct Fault(u8, String);

/// The whole program, `args` with its name first. Exits with 0 after an orderly end; `README.md` lists the codes.
///
/// A shard's panic and a second signal leave by [`std::process::exit`] instead of returning.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = args.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let given = Given::new(&args);
    let done = match command {
        "check" => check::run(&given, &Allowance::read()),
        "relay" => relay::settings(&given).and_then(|settings| Ok(serve(settings, &given)?)),
        _ => args::configure(&given, &Allowance::read())
            .map_err(Stop::from)
            .and_then(|settings| Ok(serve(settings, &given)?)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Stop::Text(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(Stop::Fault(Fault(code, line))) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(std::io::stderr(), "shardcast: {line}");
            ExitCode::from(code)
        }
    }
}

/// Why a command does not do what it is for.
enum Stop {
    /// It prints this instead.
    Text(String),
    Fault(Fault),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Text(text) => Self::Text(text),
            Answer::Fault(line) => Self::Fault(Fault(EXIT_USAGE, line)),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Text for the operator; a reader that went away does not matter.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn failed(what: &str, error: std::io::Error) -> Fault {
    Fault(EXIT_FAILED, format!("{what}: {error}"))
}

fn serve(settings: Settings, given: &Given) -> Result<u8, Fault> {
    let log = Log::start(&settings.log, settings.log_format).map_err(|error| failed("cannot start the log", error))?;
    let outcome = serve_logged(&settings, &log, given);
    log.finish(limits::LOG_FLUSH_DEADLINE);
    match outcome {
        // Shards may still be inside the kernel: leave without tearing their runtimes down.
        Ok(code) if code != 0 => std::process::exit(i32::from(code)),
        outcome => outcome,
    }
}

fn serve_logged(settings: &Settings, log: &Log, given: &Given) -> Result<u8, Fault> {
    process::raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start the control thread", error))?;
    let mut inherited = Inherited::default();
    let heir = Heir::claim(&mut inherited).map_err(|why| Fault(EXIT_USAGE, why))?;
    let admin = settings.admin.map(|addr| listen(addr, given, &mut inherited)).transpose()?;
    let mut config = settings.config.clone();
    config.predecessor = heir.as_ref().map(Heir::predecessor);
    let fleet = Sockets::inherit(&config, &mut inherited)
        .and_then(|sockets| Fleet::start_on(sockets, config))
        .map_err(|error| start_fault(error, settings, given))?;
    for addr in inherited.left() {
        tracing::warn!("{addr} is not among the addresses to listen on any more: it is closed");
    }
    drop(inherited);
    for note in settings.notes.iter().cloned().chain(fleet.clamps().iter().map(args::clamp_note)) {
        tracing::warn!("{note}");
    }
    let node = Arc::new(Node::new(Arc::new(fleet), log.clone()));
    let outcome =
        runtime.block_on(supervise(&node, admin, heir, settings, given)).map_err(|error| failed("cannot serve", error));
    // An answer about streams may be under way on a blocking thread.
    runtime.shutdown_background();
    outcome
}

/// What the admin listener is for, as a successor is told.
const ADMIN: &str = "admin";

fn listen(addr: SocketAddr, given: &Given, inherited: &mut Inherited) -> Result<TcpListener, Fault> {
    let socket = inherited.take(ADMIN, &addr.into()).pop().map_or_else(|| TcpListener::bind(addr), tcp_listener);
    socket
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| Fault(EXIT_USAGE, args::listen_fault("--admin", &addr.into(), &error, given)))
}

fn start_fault(error: StartError, settings: &Settings, given: &Given) -> Fault {
    match error {
        StartError::InUse(addr) => {
            Fault(EXIT_USAGE, args::listen_fault("--rtmp", &addr, &std::io::ErrorKind::AddrInUse.into(), given))
        }
        StartError::Listen { addr, source } => Fault(EXIT_USAGE, args::listen_fault("--rtmp", &addr, &source, given)),
        StartError::Option(error) => Fault(EXIT_USAGE, args::option_fault(&error, &settings.config.sockets, given)),
        StartError::Runtime { .. } if settings.config.driver == DriverChoice::Uring => {
            Fault(EXIT_USAGE, format!("--driver \"uring\": {error}: allow io_uring or choose auto or legacy"))
        }
        StartError::Runtime { .. } => Fault(EXIT_FAILED, error.to_string()),
    }
}

/// Says that the node is ready, serves until its end, and returns the exit code.
async fn supervise(
    node: &Arc<Node>,
    admin: Option<TcpListener>,
    heir: Option<Heir>,
    settings: &Settings,
    given: &Given,
) -> std::io::Result<u8> {
    let mut signals = Signals::catch()?;
    let copy = admin.as_ref().map(|listener| admin_socket(listener, settings)).transpose()?;
    let mut upgrades = match settings.face {
        Face::Banner => Some(Upgrades::new(given.args(), copy.into_iter().collect())?),
        Face::Relay { .. } => None,
    };
    tracing::info!(shards = node.fleet.shards().len(), "started");
    let admin = admin.map(tokio::net::TcpListener::from_std).transpose()?;
    let admin_addr = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let admin = admin.map(|listener| tokio::spawn(admin::serve(listener, Arc::clone(node))));
    let mut ended = watch(&node.fleet)?;
    match &settings.face {
        Face::Banner => greet(node, admin_addr),
        Face::Relay { title } => drop(tokio::spawn(progress::show(Arc::clone(node), title.clone()))),
    }
    if let Some(heir) = heir {
        tokio::spawn(heir.take_over(Arc::clone(&node.fleet)));
    }

    tokio::select! {
        end = &mut ended => return Ok(exit_code(end)),
        _ = signals.next() => {}
        successor = replaced(&mut upgrades, &node.fleet) => {
            admin.into_iter().for_each(|admin| admin.abort());
            node.retire();
            tracing::info!(pid = successor.pid(), "a new process has taken over: those who are here are served until they leave");
            successor.give_up_to(Arc::clone(&node.fleet));
            tokio::select! {
                end = &mut ended => return Ok(exit_code(end)),
                _ = signals.next() => {}
                () = upgrade::leave(&node.fleet, limits::RECONNECT_OVER_DEFAULT, settings.upgrade_timeout) => {}
            }
            return end(node, ended, signals).await;
        }
    }
    node.retire();
    if let Face::Relay { .. } = settings.face {
        progress::end();
    }
    if let Some(drain) = &settings.drain {
        tracing::info!(url = drain.url, "draining: clients are asked to go there; again to stop at once");
        node.fleet.stop_accepting();
        tokio::select! {
            end = &mut ended => return Ok(exit_code(end)),
            number = signals.next() => return Ok(stopped_at_once(number)),
            () = reconnect::drain(node, &drain.url, drain.timeout) => {}
        }
    }
    end(node, ended, signals).await
}

/// Ends all streams in order.
async fn end(node: &Node, ended: oneshot::Receiver<FleetEnd>, mut signals: Signals) -> std::io::Result<u8> {
    tracing::info!("ending: players get their last messages; again to stop at once");
    node.fleet.shutdown();
    tokio::select! {
        end = ended => Ok(exit_code(end)),
        number = signals.next() => Ok(stopped_at_once(number)),
        () = sleep(limits::SHUTDOWN_DEADLINE) => {
            tracing::error!("the shards did not end in {:?}", limits::SHUTDOWN_DEADLINE);
            Ok(EXIT_SOFTWARE)
        }
    }
}

/// A copy for a successor.
fn admin_socket(listener: &TcpListener, settings: &Settings) -> std::io::Result<Listening> {
    let chosen = settings.admin.is_some_and(|addr| addr.port() == 0);
    let (addr, copy) = (listener.local_addr()?, listener.try_clone()?);
    Ok(Listening { role: ADMIN.to_owned(), addr: addr.into(), chosen, sockets: vec![copy.into()] })
}

/// Waits for a process that takes over, where there can be one.
async fn replaced(upgrades: &mut Option<Upgrades>, fleet: &Fleet) -> Successor {
    match upgrades {
        Some(upgrades) => upgrades.taken_over(fleet).await,
        None => pending().await,
    }
}

/// Says where the node listens and what to try.
fn greet(node: &Node, admin: Option<SocketAddr>) {
    let text = Banner {
        rtmp: node.fleet.rtmp_addrs(),
        shards: node.fleet.shards(),
        uring_denied: node.fleet.uring_denied(),
        kernel: &process::kernel_release(),
        admin,
        pid: std::process::id(),
    }
    .text();
    // A terminal that is stopped must not stop the control thread.
    tokio::task::spawn_blocking(move || say(&text));
}

fn stopped_at_once(signal: u8) -> u8 {
    tracing::warn!("stopped at once by a second signal");
    EXIT_SIGNALLED + signal
}

/// The fleet's end, awaited on a thread of its own because [`Fleet::wait`] blocks.
fn watch(fleet: &Arc<Fleet>) -> std::io::Result<oneshot::Receiver<FleetEnd>> {
    let (sender, receiver) = oneshot::channel();
    let fleet = Arc::clone(fleet);
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        // Nobody listens any more if a second signal was faster.
        let _ = sender.send(fleet.wait());
    })?;
    Ok(receiver)
}

fn exit_code(end: Result<FleetEnd, oneshot::error::RecvError>) -> u8 {
    match end {
        Ok(FleetEnd::Orderly) => {
            tracing::info!("ended");
            0
        }
        Ok(FleetEnd::Panicked { shard }) => {
            tracing::error!(shard, "a shard panicked: the process ends");
            EXIT_SOFTWARE
        }
        Ok(FleetEnd::Hung { shard }) => {
            tracing::error!(shard, "a shard has hung: the process ends");
            EXIT_SOFTWARE
        }
        Err(_) => {
            tracing::error!("the fleet's watch panicked: the process ends");
            EXIT_SOFTWARE
        }
    }
}

/// SIGINT and SIGTERM. SIGPIPE is ignored by the standard library's start.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            Some(()) = self.interrupt.recv() => 2,
            Some(()) = self.terminate.recv() => 15,
            else => pending().await,
        }
    }
}
