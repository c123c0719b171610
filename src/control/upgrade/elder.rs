//! The old process: starts the new one on SIGUSR2, gives it the sockets, and once that one listens lets it have them alone.
//!
//! Bounds: one new process at a time, [`SUCCESSOR_PATIENCE`] to be ready in.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    VARIABLE, descriptors,
    line::Line,
    message::{Message, VERSION},
    program::Program,
};
use crate::{
    control::{
        admin::Node,
        ending::{Leave, Order},
        systemd::Manager,
    },
    limits::{HANDOVER_DESCRIPTORS_MAX, SUCCESSOR_PATIENCE, SUCCESSOR_POLL},
    shard::{fleet::Fleet, inherited::Listening, passing::Passing},
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
    manager: Option<Arc<Manager>>,
}

/// The process that has taken over.
#[derive(Debug)]
struct Successor {
    line: Line,
    starting: Starting,
}

impl Upgrades {
    /// `args` of this process, its name first. `others`: what it listens on besides the fleet's sockets.
    pub(in crate::control) fn new(
        args: &[OsString],
        others: Vec<Listening>,
        manager: Option<Arc<Manager>>,
    ) -> io::Result<Self> {
        Ok(Self { program: Program::new(args)?, asked: signal(SignalKind::user_defined2())?, others, manager })
    }

    /// Whenever a new process has been asked for and listens, has this one leave. `admin` is the task that takes connections
    /// from the first of the other sockets.
    pub(in crate::control) async fn run(mut self, node: Arc<Node>, admin: Option<AbortHandle>) {
        loop {
            let successor = self.ready(&node).await;
            if node.order(|answer| Order::Leave(Leave::Successor, answer)).await {
                admin.iter().for_each(AbortHandle::abort);
                self.manager.iter().for_each(|manager| manager.note_replaced());
                successor.serve(&mut self.asked, &node).await;
                return;
            }
            tracing::warn!("this process leaves already: the new one is stopped");
            drop(successor);
            self.manager.iter().for_each(|manager| manager.reloading(false));
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
            self.manager.iter().for_each(|manager| manager.reloading(true));
            let begun = begin(&self.program, &self.others, &node.fleet);
            tokio::pin!(begun);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut begun => break outcome,
                    _ = self.asked.recv() => {
                        tracing::warn!("an upgrade is under way: SIGUSR2 is ignored until it is over");
                    }
                }
            };
            match outcome {
                Ok(successor) => return successor,
                Err(why) => {
                    tracing::error!("the upgrade failed, this process serves on: {why}");
                    self.manager.iter().for_each(|manager| manager.reloading(false));
                }
            }
        }
    }
}

/// A process that is killed unless it may live.
#[derive(Debug)]
struct Starting(Option<Child>);

impl Starting {
    /// How it ended, of one that has closed its end of the socket pair.
    async fn ended(&mut self) -> Option<ExitStatus> {
        let by = Instant::now() + Duration::from_secs(1);
        let child = self.0.as_mut()?;
        loop {
            match child.try_wait() {
                Ok(None) if Instant::now() < by => sleep(SUCCESSOR_POLL).await,
                status => return status.ok().flatten(),
            }
        }
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

async fn begin(program: &Program, others: &[Listening], fleet: &Fleet) -> Result<Successor, String> {
    let path = program.path.display();
    let failed = |error: io::Error| format!("cannot start {path}: {error}");
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
        give(&line, others, fleet).await?;
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
async fn give(line: &Line, others: &[Listening], fleet: &Fleet) -> io::Result<()> {
    line.send(&Message::Hello { version: VERSION, pid: std::process::id() }, &[]).await?;
    let listening = fleet.listening()?;
    for Listening { role, chosen, sockets, .. } in listening.iter().chain(others) {
        let message = Message::Listening { role: role.clone(), chosen: *chosen };
        for some in sockets.chunks(HANDOVER_DESCRIPTORS_MAX) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            line.send(&message, &some).await?;
        }
    }
    if fleet.leaves_sockets_open() {
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
    /// Lets the new process have the sockets alone, and serves its connections until it has ended.
    async fn serve(mut self, asked: &mut Signal, node: &Node) {
        let Some(mut child) = self.starting.0.take() else { return };
        let pid = child.id();
        tracing::info!(pid, "a new process has taken over: those who are here are served until they leave");
        // What fails here is that the new process has ended, which is heard next.
        let _ = self.line.send(&Message::Yours, &[]).await;
        let mut in_order = false;
        loop {
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
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(pid, "the process that took over cannot be heard: {error}");
                    break;
                }
            }
        }
        match in_order {
            true => tracing::info!(pid, "the process that took over has ended: nobody takes connections"),
            false => tracing::error!(pid, "the process that took over has ended: nobody takes connections"),
        }
        let _ = child.try_wait();
    }
}
