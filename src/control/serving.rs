//! A node from its start to its end, in the order that each step needs.
//!
//! [`serve`] starts the log, takes or binds all addresses ([`Opened`]), gives up what the process no longer needs
//! (`containment`), starts the shards, and supervises them ([`supervise`]) until `ending` says how the process ends. What can go
//! wrong before the shards run is a [`Fault`].

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::{runtime::Runtime, signal::unix::Signal, sync::oneshot};

use super::{
    EXIT_FAILED, EXIT_USAGE, Fault,
    admin::{self, Node},
    args::{self, Face, Given, Settings},
    banner::Banner,
    callbacks::{self, Callbacks},
    ceilings, containment,
    drain::Board,
    ending::{self, Causes, Orders, Signals},
    logs::Log,
    overload, process, progress,
    reload::{self, Reload},
    say,
    systemd::{self, Manager},
    upgrade::{self, Guarding, Heir, Program, Upgrades},
};
use crate::{
    limits,
    shard::{
        config::{Config, DriverChoice},
        fleet::{Fleet, FleetEnd, Sockets, StartError},
        inherited::{ADMIN, Inherited, Listening, tcp_listener},
    },
};

fn failed(what: &str, error: io::Error) -> Fault {
    Fault(EXIT_FAILED, format!("{what}: {error}"))
}

/// Serves until the process is to end. The exit code; unless it is 0, by [`std::process::exit`].
pub(super) fn serve(settings: Settings, given: &Given) -> Result<u8, Fault> {
    // Before anything else is opened: they have certain numbers.
    let sockets = systemd::given();
    let log = Log::start(&settings.log, settings.log_format).map_err(|error| failed("cannot start the log", error))?;
    let outcome = serve_logged(&settings, &log, given, sockets);
    log.finish(limits::LOG_FLUSH_DEADLINE);
    match outcome {
        // Shards may still be inside the kernel: leave without tearing their runtimes down.
        Ok(code) if code != 0 => std::process::exit(i32::from(code)),
        outcome => outcome,
    }
}

fn serve_logged(settings: &Settings, log: &Log, given: &Given, sockets: Vec<systemd::Given>) -> Result<u8, Fault> {
    let mut inherited = Inherited::default();
    let lasting = systemd::add_to(&mut inherited, sockets);
    // Before anybody can have put another program in its place.
    let program = Program::new(given.args());
    process::raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("cannot start the control thread", error))?;
    // First: until then the signal would end the process.
    let replaced = {
        let _within = runtime.enter();
        upgrade::catch().map_err(|error| failed("cannot catch SIGUSR2", error))?
    };
    let opened = Opened::open(settings, given, inherited, lasting)?;
    let reloads = settings.reloads();
    let contained = containment::contain(&settings.containment, &opened.config, &reloads, log)
        .map_err(|failed| containment_fault(&failed, settings, given))?;
    let Opened { config, found, sockets, lasting, admin, callbacks, heir, manager } = opened;
    let fleet = Fleet::start_on(sockets, config).map_err(|error| start_fault(error, settings, given))?;
    if lasting {
        fleet.leave_sockets_open();
    }
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
    let parts = Parts { orders, program, replaced, lasting, admin, heir, manager, reloads };
    run(runtime, &node, callbacks, supervise(&node, parts, settings))
}

/// Runs the node's tasks on this thread until it ends.
fn run(
    runtime: Runtime,
    node: &Arc<Node>,
    callbacks: Option<Callbacks>,
    supervised: impl Future<Output = io::Result<u8>>,
) -> Result<u8, Fault> {
    let outcome = runtime.block_on(async {
        if let Some(callbacks) = callbacks {
            callbacks.run(Arc::clone(&node.fleet));
        }
        let outcome = supervised.await;
        if let (Ok(0), Some(counts)) = (&outcome, &node.callbacks) {
            callbacks::flush(counts).await;
        }
        outcome
    });
    // An answer about streams may be under way on a blocking thread.
    runtime.shutdown_background();
    outcome.map_err(|error| failed("cannot serve", error))
}

/// All that is opened while the process has the rights it was started with.
struct Opened {
    /// As the machine and the process before let it be.
    config: Config,
    /// Lines for the log about that.
    found: Vec<String>,
    sockets: Sockets,
    /// The service manager opened some of the sockets, and has them beyond this process.
    lasting: bool,
    admin: Option<TcpListener>,
    callbacks: Option<Callbacks>,
    /// Set if another process is to be replaced.
    heir: Option<Heir>,
    manager: Option<Arc<Manager>>,
}

impl Opened {
    /// Takes what is in `inherited` or the process before has open, and binds what is left.
    fn open(settings: &Settings, given: &Given, mut inherited: Inherited, lasting: bool) -> Result<Self, Fault> {
        let mut heir = Heir::claim(&mut inherited).map_err(|why| Fault(EXIT_USAGE, why))?;
        if let Some(heir) = &heir {
            heir.check(&Guarding::of(&settings.config)).map_err(|why| Fault(EXIT_USAGE, why))?;
        }
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
        let sockets = Sockets::inherit(&config, &mut inherited);
        let sockets = sockets.map_err(|error| start_fault(error, settings, given))?;
        for addr in inherited.left() {
            tracing::warn!("{addr} is not among the addresses to listen on any more: it is closed");
        }
        let lasting = lasting || heir.as_ref().is_some_and(|heir| heir.lasting);
        if let Some(heir) = &mut heir {
            heir.keep_unused(inherited);
        }
        Ok(Self { config, found, sockets, lasting, admin, callbacks, heir, manager })
    }
}

fn listen(addr: SocketAddr, given: &Given, inherited: &mut Inherited) -> Result<TcpListener, Fault> {
    let socket = inherited.take(ADMIN, &addr.into()).pop().map_or_else(|| TcpListener::bind(addr), tcp_listener);
    socket
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| Fault(EXIT_USAGE, args::listen_fault("--admin", &addr.into(), &error, given)))
}

fn start_fault(error: StartError, settings: &Settings, given: &Given) -> Fault {
    match error {
        StartError::InUse(addr) => {
            let error = io::ErrorKind::AddrInUse.into();
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
    /// What an upgrade starts.
    program: io::Result<Program>,
    /// SIGUSR2.
    replaced: Signal,
    lasting: bool,
    admin: Option<TcpListener>,
    heir: Option<Heir>,
    manager: Option<Arc<Manager>>,
    reloads: Vec<Reload>,
}

/// Says that the node is ready, serves until its end, and returns the exit code.
async fn supervise(node: &Arc<Node>, parts: Parts, settings: &Settings) -> io::Result<u8> {
    let Parts { orders, program, replaced, lasting, admin, heir, manager, reloads } = parts;
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
        Face::Banner => {
            // First: nobody can know yet that this process is there to be told.
            let others = copy.into_iter().collect();
            let guarding = Guarding::of(&settings.config);
            let upgrades = Upgrades::new(program?, replaced, others, lasting, guarding, manager.clone());
            upgrades.keep(&node.fleet)?;
            tokio::spawn(upgrades.run(Arc::clone(node), admin));
            greet(node, admin_addr);
        }
        Face::Relay { title } => {
            tokio::spawn(upgrade::refuse(replaced));
            tokio::spawn(progress::show(Arc::clone(node), title.clone()));
        }
    }
    match heir {
        Some(heir) => drop(tokio::spawn(heir.take_over(Arc::clone(&node.fleet), manager.clone()))),
        None => manager.iter().for_each(|manager| manager.ready()),
    }
    if let Some(manager) = &manager {
        tokio::spawn(Arc::clone(manager).feed_watchdog(Arc::clone(&node.fleet)));
    }
    let code = ending::run(node, settings, Causes { signals, orders, ended, manager }).await;
    node.end_answers().await;
    Ok(code)
}

/// A copy for a successor.
fn admin_socket(listener: &TcpListener, settings: &Settings) -> io::Result<Listening> {
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
fn watch(fleet: &Arc<Fleet>) -> io::Result<oneshot::Receiver<FleetEnd>> {
    let (sender, receiver) = oneshot::channel();
    let fleet = Arc::clone(fleet);
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        // Nobody listens any more if a second signal was faster.
        let _ = sender.send(fleet.wait());
    })?;
    Ok(receiver)
}
