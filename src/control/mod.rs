//! The control thread: everything that is not media.
//!
//! [`run`] reads the command line (`args`, `values`, `cores`, or that of `check`, `relay`, `key` and `sign`) and the
//! configuration (`file`, `rules`), starts the log (`logs`), gives up what the process no longer needs (`containment`), starts
//! the fleet of shards, says what runs (`banner`, `progress`) and then serves the admin listener (`admin`, `exposition`,
//! `process`, `reconnect`, `drain`), keeps the rules in force (`access`), asks other servers for the shards (`callbacks`) and
//! reads files again that change (`reload`, `certificates`) until something ends the process (`ending`, `course`), a new process
//! in its place for one (`upgrade`). It may block
//! where shards may not. It never touches media.

mod access;
#[cfg(test)]
mod access_docs_tests;
mod admin;
mod args;
mod banner;
mod callbacks;
mod ceilings;
mod certificates;
mod check;
mod containment;
mod cores;
mod course;
#[cfg(test)]
mod docs_tests;
mod drain;
mod ending;
mod exposition;
mod file;
mod head;
mod key;
mod logs;
mod overload;
mod process;
mod progress;
mod reconnect;
mod relay;
mod reload;
mod reserve;
mod rules;
mod sign;
mod systemd;
mod upgrade;
mod values;

use std::{
    ffi::OsString,
    io::Write,
    net::{SocketAddr, TcpListener},
    process::ExitCode,
    sync::Arc,
};

use tokio::sync::oneshot;

use self::{
    admin::Node,
    args::{Answer, Face, Given, Settings},
    banner::Banner,
    callbacks::Callbacks,
    cores::Allowance,
    drain::Board,
    ending::{Causes, Orders, Signals},
    logs::Log,
    reload::Reload,
    systemd::Manager,
    upgrade::{Heir, Upgrades},
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
        "key" => key::run(&given),
        "sign" => sign::run(&given),
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
    let given_sockets = systemd::take_sockets(&mut inherited);
    let heir = Heir::claim(&mut inherited).map_err(|why| Fault(EXIT_USAGE, why))?;
    let manager = Manager::found();
    let admin = settings.admin.map(|addr| listen(addr, given, &mut inherited)).transpose()?;
    let callbacks = settings.callbacks.as_ref().map(Callbacks::new).transpose();
    let callbacks = callbacks.map_err(|why| Fault(EXIT_USAGE, format!("callbacks: {why}")))?;
    let mut config = settings.config.clone();
    config.predecessor = heir.as_ref().map(Heir::predecessor);
    if let Some(callbacks) = &callbacks {
        config.callbacks = callbacks.for_shards();
    }
    let found = ceilings::settle(&mut config.ceilings, config.cpus.len());
    let start_fault = |error| start_fault(error, settings, given);
    let sockets = Sockets::inherit(&config, &mut inherited).map_err(start_fault)?;
    for addr in inherited.left() {
        tracing::warn!("{addr} is not among the addresses to listen on any more: it is closed");
    }
    drop(inherited);
    let reloads = settings.reloads();
    let contained = containment::contain(&settings.containment, &config, &reloads, log)
        .map_err(|failed| containment_fault(&failed, settings, given))?;
    let fleet = Fleet::start_on(sockets, config).map_err(start_fault)?;
    for note in settings.notes.iter().cloned().chain(fleet.clamps().iter().map(args::clamp_note)) {
        tracing::warn!("{note}");
    }
    for note in found {
        tracing::info!("{note}");
    }
    contained.tell(matches!(settings.face, Face::Banner));
    let (order, orders) = ending::orders();
    let board = Board::new(settings.drain.plan.clone());
    let counts = callbacks.as_ref().map(Callbacks::counts);
    let node = Arc::new(Node::new(Arc::new(fleet), log.clone(), order, counts, board));
    if given_sockets > 0 {
        node.fleet.leave_sockets_open();
    }
    let parts = Parts { orders, admin, heir, manager, reloads };
    let outcome = runtime.block_on(async {
        if let Some(callbacks) = callbacks {
            callbacks.run(Arc::clone(&node.fleet));
        }
        let outcome = supervise(&node, parts, settings, given).await;
        if let (Ok(0), Some(counts)) = (&outcome, &node.callbacks) {
            callbacks::flush(counts).await;
        }
        outcome
    });
    let outcome = outcome.map_err(|error| failed("cannot serve", error));
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
            let error = std::io::ErrorKind::AddrInUse.into();
            Fault(EXIT_USAGE, args::listen_fault(settings.flag_of(&addr), &addr, &error, given))
        }
        StartError::Listen { addr, source } => {
            Fault(EXIT_USAGE, args::listen_fault(settings.flag_of(&addr), &addr, &source, given))
        }
        StartError::Option(error) => Fault(EXIT_USAGE, args::option_fault(&error, &settings.config.sockets, given)),
        StartError::Runtime { .. } if settings.config.driver == DriverChoice::Uring => {
            Fault(EXIT_USAGE, format!("--driver \"uring\": {error}: allow io_uring or choose auto or legacy"))
        }
        StartError::Runtime { .. } => Fault(EXIT_FAILED, error.to_string()),
    }
}

fn containment_fault(failed: &containment::Failed, settings: &Settings, given: &Given) -> Fault {
    let flag = match (failed, &settings.containment.user) {
        (containment::Failed::User(_), Some(user)) => format!("{} \"{}\"", given.origin("--user"), user.text()),
        _ => format!("{} \"on\"", given.origin("--landlock")),
    };
    Fault(EXIT_USAGE, format!("{flag}: {failed}"))
}

/// What the control thread serves with, besides the node.
struct Parts {
    orders: Orders,
    admin: Option<TcpListener>,
    heir: Option<Heir>,
    manager: Option<Arc<Manager>>,
    reloads: Vec<Reload>,
}

/// Says that the node is ready, serves until its end, and returns the exit code.
async fn supervise(node: &Arc<Node>, parts: Parts, settings: &Settings, given: &Given) -> std::io::Result<u8> {
    let Parts { orders, admin, heir, manager, reloads } = parts;
    let signals = Signals::catch()?;
    let copy = admin.as_ref().map(|listener| admin_socket(listener, settings)).transpose()?;
    tracing::info!(shards = node.fleet.shards().len(), "started");
    let admin = admin.map(tokio::net::TcpListener::from_std).transpose()?;
    let admin_addr = admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let admin = admin.map(|listener| tokio::spawn(admin::serve(listener, Arc::clone(node))).abort_handle());
    reload::start(reloads)?;
    let ended = watch(&node.fleet)?;
    overload::spawn(node);
    match &settings.face {
        Face::Banner => greet(node, admin_addr),
        Face::Relay { title } => drop(tokio::spawn(progress::show(Arc::clone(node), title.clone()))),
    }
    if let Face::Banner = settings.face {
        let listening: Vec<Listening> = node.fleet.listening()?.into_iter().chain(copy).collect();
        let kept = manager.as_ref().is_some_and(|manager| manager.keep(&listening));
        if kept {
            node.fleet.leave_sockets_open();
        }
        let others = listening.into_iter().filter(|known| known.role == ADMIN).collect();
        let upgrades = Upgrades::new(given.args(), others, manager.clone())?;
        tokio::spawn(upgrades.run(Arc::clone(node), admin));
    }
    if let Some(heir) = heir {
        tokio::spawn(heir.take_over(Arc::clone(&node.fleet)));
    }
    if let Some(manager) = &manager {
        manager.ready();
        tokio::spawn(Arc::clone(manager).feed_watchdog(Arc::clone(&node.fleet)));
    }
    Ok(ending::run(node, settings, Causes { signals, orders, ended, manager }).await)
}

/// A copy for a successor.
fn admin_socket(listener: &TcpListener, settings: &Settings) -> std::io::Result<Listening> {
    let chosen = settings.admin.is_some_and(|addr| addr.port() == 0);
    let (addr, copy) = (listener.local_addr()?, listener.try_clone()?);
    Ok(Listening { role: ADMIN.to_owned(), addr: addr.into(), chosen, sockets: vec![copy.into()] })
}

/// Says where the node listens and what to try.
fn greet(node: &Node, admin: Option<SocketAddr>) {
    let text = Banner {
        rtmp: node.fleet.rtmp_addrs(),
        rtmps: node.fleet.rtmps_addrs(),
        tls: node.fleet.tls(),
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
