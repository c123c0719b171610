//! The old process: starts the new one on SIGUSR2, gives it the sockets, and once that one listens lets it have them alone.
//!
//! Bounds: one new process at a time, [`SUCCESSOR_PATIENCE`] to be ready in.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    VARIABLE,
    behind::{Behind, End, ended},
    descriptors,
    guards::{Guarding, Guards},
    line::Line,
    message::{Message, VERSION},
    program::Program,
};
use crate::{
    control::{
        admin::{self, Node},
        ending::{Leave, Order},
        systemd::Manager,
    },
    limits::{HANDOVER_DESCRIPTORS_MAX, SUCCESSOR_PATIENCE, SUCCESSOR_POLL},
    shard::{
        fleet::Fleet,
        inherited::{Listening, tcp_listener},
        passing::Passing,
        predecessor::Predecessor,
    },
};

/// What a service manager tells one process and not the next.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

/// What is needed to be replaced.
#[derive(Debug)]
pub(in crate::control) struct Upgrades {
    program: Program,
    asked: Signal,
    /// Sockets that are not the fleet's.
    others: Vec<Listening>,
    /// The service manager opened sockets itself, and goes on listening on them.
    lasting: bool,
    guarding: Guarding,
    manager: Option<Arc<Manager>>,
}

/// The process that has taken over.
#[derive(Debug)]
struct Successor {
    line: Line,
    starting: Starting,
}

/// From here on the signal does not end the process. Within the runtime.
pub(in crate::control) fn catch() -> io::Result<Signal> {
    signal(SignalKind::user_defined2())
}

/// Says that a process which is not to be replaced is not.
pub(in crate::control) async fn refuse(mut asked: Signal) {
    while asked.recv().await.is_some() {
        tracing::warn!("SIGUSR2 is ignored: a relay cannot be replaced while it runs, stop it and start another");
    }
}

impl Upgrades {
    /// `others`: what this process listens on besides the fleet's sockets. `lasting`: the service manager opened some of all.
    pub(in crate::control) fn new(
        program: Program,
        asked: Signal,
        others: Vec<Listening>,
        lasting: bool,
        guarding: Guarding,
        manager: Option<Arc<Manager>>,
    ) -> Self {
        Self { program, asked, others, lasting, guarding, manager }
    }

    /// Has the service manager keep what is listened on here, if it has room, in place of what it has.
    pub(in crate::control) fn keep(&self, fleet: &Fleet) -> io::Result<()> {
        let Some(manager) = &self.manager else { return Ok(()) };
        if manager.keep(&self.listening(fleet)?) {
            fleet.leave_sockets_open();
        }
        Ok(())
    }

    /// Copies of all sockets that are listened on here. What somebody else has shut is not, and no new process would take it.
    fn listening(&self, fleet: &Fleet) -> io::Result<Vec<Listening>> {
        let mut listening = fleet.listening()?;
        for known in &self.others {
            listening.push(known.try_clone()?);
        }
        listening.retain_mut(Listening::drop_shut);
        Ok(listening)
    }

    /// No new process is started after all, or none is left.
    fn note_alone(&self, node: &Node) {
        let Some(manager) = &self.manager else { return };
        if node.board.is_serving() {
            manager.ready();
        } else if node.board.is_draining() {
            manager.leaving();
        }
        // The new process may have had others kept.
        if let Err(error) = self.keep(&node.fleet) {
            tracing::warn!("the service manager keeps the sockets of a process that is gone: {error}");
        }
    }

    /// Whenever a new process has been asked for and listens, has this one leave. `admin` is the task that takes connections
    /// from the first of the other sockets.
    pub(in crate::control) async fn run(mut self, node: Arc<Node>, mut admin: Option<AbortHandle>) {
        loop {
            let successor = self.ready(&node).await;
            if node.order(|answer| Order::Leave(Leave::Successor, answer)).await {
                admin.iter().for_each(AbortHandle::abort);
                self.manager.iter().for_each(|manager| manager.note_replaced());
                let in_order = successor.serve(&mut self.asked, &node).await;
                if !in_order && node.order(Order::Resume).await {
                    tracing::warn!("connections are taken here again");
                    admin = self.serve_admin(&node);
                    self.manager.iter().for_each(|manager| manager.note_back());
                    self.note_alone(&node);
                } else {
                    tracing::info!("nobody takes connections: this process ends once its clients have left");
                    node.fleet.release_listeners();
                    self.others.clear();
                }
                continue;
            }
            tracing::warn!("this process leaves already: the new one is stopped");
            drop(successor);
            self.note_alone(&node);
        }
    }

    /// Serves the first of the other sockets as it was served before.
    fn serve_admin(&mut self, node: &Arc<Node>) -> Option<AbortHandle> {
        match reopened(self.others.first_mut()?) {
            Ok(listener) => Some(tokio::spawn(admin::serve(listener, Arc::clone(node))).abort_handle()),
            Err(error) => {
                tracing::error!("nobody serves the admin listener any more: {error}");
                None
            }
        }
    }

    /// Waits until a new process listens. One that fails to is logged, and nothing else changes.
    async fn ready(&mut self, node: &Node) -> Successor {
        loop {
            self.asked.recv().await;
            if !node.board.is_serving() {
                // The new one would take connections before it could be told not to.
                tracing::warn!("this process leaves already: SIGUSR2 is ignored");
                continue;
            }
            tracing::info!(program = %self.program.path.display(), "upgrading: the new process is being started");
            self.manager.iter().for_each(|manager| manager.reloading());
            let outcome = {
                let listening = self.listening(&node.fleet);
                let begun = begin(&self.program, listening, self.lasting, self.guarding.now(), &node.fleet);
                tokio::pin!(begun);
                loop {
                    tokio::select! {
                        outcome = &mut begun => break Some(outcome),
                        _ = self.asked.recv() => {
                            tracing::warn!("an upgrade is under way: SIGUSR2 is ignored until it is over");
                        }
                        // Better before it takes connections than when it is ready.
                        () = sleep(SUCCESSOR_POLL) => {
                            if !node.board.is_serving() {
                                break None;
                            }
                        }
                    }
                }
            };
            match outcome {
                Some(Ok(successor)) => return successor,
                Some(Err(why)) => tracing::error!("the upgrade failed, this process serves on: {why}"),
                None => tracing::warn!("this process leaves meanwhile: the new one is stopped"),
            }
            self.note_alone(node);
        }
    }
}

/// A copy of a TCP listener. If the process that has died had shut it, one of the same address takes its place.
fn reopened(known: &mut Listening) -> io::Result<TcpListener> {
    if !known.drop_shut() {
        let addr = known.addr.tcp().ok_or(io::ErrorKind::AddrNotAvailable)?;
        known.sockets.push(std::net::TcpListener::bind(addr)?.into());
        tracing::warn!("{addr}: the admin listener is opened anew: the process that has died gave it up");
    }
    let socket = known.sockets.first().ok_or(io::ErrorKind::NotFound)?.try_clone()?;
    tcp_listener(socket).and_then(TcpListener::from_std)
}

/// A process that is killed unless it may live.
#[derive(Debug)]
struct Starting(Option<Child>);

impl Starting {
    async fn ended(&mut self) -> Option<ExitStatus> {
        ended(self.0.as_mut()?).await
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Both fail only if it has ended and was waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn begin(
    program: &Program,
    listening: io::Result<Vec<Listening>>,
    lasting: bool,
    guards: Guards,
    fleet: &Fleet,
) -> Result<Successor, String> {
    let path = program.path.display();
    let failed = |error: io::Error| format!("cannot start {path}: {error}");
    let listening = listening.map_err(failed)?;
    let (ours, theirs) = Passing::pair().map_err(failed)?;
    descriptors::close_at_exec().map_err(failed)?;
    let mut command = Command::new(&program.path);
    command.args(&program.args).env(VARIABLE, VERSION.to_string()).stdin(Stdio::from(theirs.into_fd()));
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    let child = command.spawn().map_err(failed)?;
    // It has copies of what this process should not keep: the other end.
    drop(command);
    let mut starting = Starting(Some(child));
    let line = Line::new(ours).map_err(failed)?;
    let ready = async {
        give(&line, &listening, lasting, guards, fleet).await?;
        is_ready(&line).await
    };
    match timeout(SUCCESSOR_PATIENCE, ready).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(match starting.ended().await {
                Some(status) => format!("{path} ended before it was ready: {status}"),
                None => format!("{path} cannot be heard: {error}"),
            });
        }
        Err(_) => return Err(format!("{path} was not ready within {SUCCESSOR_PATIENCE:?} and was stopped")),
    }
    Ok(Successor { line, starting })
}

/// Sends all sockets.
async fn give(line: &Line, listening: &[Listening], lasting: bool, guards: Guards, fleet: &Fleet) -> io::Result<()> {
    let hello = Message::Hello { version: VERSION, pid: std::process::id(), generation: fleet.generation(), guards };
    line.send(&hello, &[]).await?;
    for elder in fleet.predecessor().map(Predecessor::elders).transpose()?.unwrap_or_default() {
        line.send(&Message::Elder { pid: elder.pid }, &[elder.passing.as_fd()]).await?;
    }
    for Listening { role, chosen, sockets, .. } in listening {
        let message = Message::Listening { role: role.clone(), chosen: *chosen };
        for some in sockets.chunks(HANDOVER_DESCRIPTORS_MAX) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            line.send(&message, &some).await?;
        }
    }
    if lasting {
        line.send(&Message::Lasting, &[]).await?;
    }
    line.send(&Message::All, &[]).await
}

async fn is_ready(line: &Line) -> io::Result<()> {
    while let Some((message, _)) = line.receive().await? {
        if message == Message::Ready {
            return Ok(());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

impl Successor {
    /// Lets the new process have the sockets alone, and serves its connections until it has ended, and whoever took over from it.
    /// True: because it was to.
    async fn serve(mut self, asked: &mut Signal, node: &Node) -> bool {
        // It lives on when this process ends.
        let Some(mut behind) = self.starting.0.take().map(Behind::new) else { return false };
        tracing::info!(
            pid = behind.pid(),
            "a new process has taken over: those who are here are served until they leave"
        );
        // What fails here is that the new process has ended, which is heard next.
        let _ = self.line.send(&Message::Yours, &[]).await;
        // Whoever is the newest has said so; and the last that did of those between.
        let (mut in_order, mut ending) = (false, None);
        loop {
            let pid = behind.pid();
            let heard = tokio::select! {
                heard = self.line.receive() => heard,
                _ = asked.recv() => {
                    tracing::warn!("this process was replaced: SIGUSR2 is for process {pid}");
                    continue;
                }
            };
            match heard {
                Ok(Some((Message::Connection, descriptors))) => {
                    descriptors.into_iter().for_each(|socket| node.fleet.adopt(socket));
                }
                Ok(Some((message @ Message::Drain { .. }, _))) => {
                    if let Some(drain) = message.drain() {
                        tracing::info!(pid, mode = %drain.mode, "the process that took over leaves, and so does this one");
                        node.order(|answer| Order::Leave(Leave::Api(drain), answer)).await;
                    }
                }
                Ok(Some((Message::Goodbye, _))) => in_order = true,
                Ok(Some((Message::Ends { pid }, _))) => ending = Some(pid),
                Ok(Some((Message::Succeeds { pid: heir }, _))) => {
                    say_end(pid, in_order || ending == Some(pid), behind.is_succeeded_by(heir).await);
                    tracing::info!(pid = heir, "the process that took over from it serves on");
                    in_order = false;
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(pid, "the process that took over cannot be heard: {error}");
                    break;
                }
            }
        }
        let end = behind.end().await;
        say_end(behind.pid(), in_order || ending == Some(behind.pid()), end);
        in_order || matches!(end, End::Lives)
    }
}

fn say_end(pid: u32, in_order: bool, end: End) {
    match end {
        _ if in_order => tracing::info!(pid, "the process that took over has ended"),
        End::Status(status) => tracing::error!(pid, %status, "the process that took over has died"),
        End::Unknown => tracing::error!(pid, "the process that took over has died"),
        End::Lives => tracing::error!(pid, "the process that took over is not heard of any more"),
    }
}
