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
    time::{Instant, sleep, timeout},
};

use super::{
    VARIABLE, descriptors,
    line::Line,
    message::{Message, VERSION},
    program::Program,
};
use crate::{
    limits::{DRAIN_POLL, HANDOVER_DESCRIPTORS_MAX, STREAMS_PATIENCE, SUCCESSOR_PATIENCE, SUCCESSOR_POLL},
    shard::{fleet::Fleet, inherited::Listening, passing::Passing, reconnect::ReconnectRequest},
};

/// What a service manager tells one process and not the next.
const NOT_INHERITED: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID"];

const DESCRIPTION: &str = "The server is being replaced by a newer one: reconnect to the same place.";

/// What is needed to be replaced.
#[derive(Debug)]
pub(in crate::control) struct Upgrades {
    program: Program,
    asked: Signal,
    /// Sockets that are not the fleet's.
    others: Vec<Listening>,
}

/// The process that has taken over.
#[derive(Debug)]
pub(in crate::control) struct Successor {
    line: Line,
    child: Child,
}

impl Upgrades {
    /// `args` of this process, its name first. `others`: what it listens on besides the fleet's sockets.
    pub(in crate::control) fn new(args: &[OsString], others: Vec<Listening>) -> io::Result<Self> {
        Ok(Self { program: Program::new(args)?, asked: signal(SignalKind::user_defined2())?, others })
    }

    /// Waits until a new process has been asked for and listens. One that fails to is logged, and nothing else changes.
    pub(in crate::control) async fn taken_over(&mut self, fleet: &Fleet) -> Successor {
        loop {
            self.asked.recv().await;
            tracing::info!(program = %self.program.path.display(), "upgrading: the new process is being started");
            let begun = begin(&self.program, &self.others, fleet);
            tokio::pin!(begun);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut begun => break outcome,
                    _ = self.asked.recv() => tracing::warn!("an upgrade is under way: SIGUSR2 is ignored until it is over"),
                }
            };
            match outcome {
                Ok(successor) => return successor,
                Err(why) => tracing::error!("the upgrade failed, this process serves on: {why}"),
            }
        }
    }
}

/// A process that is killed unless it gets ready.
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
    let child = starting.0.take().ok_or("it cannot be waited for")?;
    Ok(Successor { line, child })
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
    pub(in crate::control) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives the new process the sockets for good, and serves its connections until it has ended.
    pub(in crate::control) fn give_up_to(self, fleet: Arc<Fleet>) {
        fleet.release_listeners();
        tokio::spawn(self.serve(fleet));
    }

    async fn serve(mut self, fleet: Arc<Fleet>) {
        // What fails here is that the new process has ended, which is heard next.
        let _ = self.line.send(&Message::Yours, &[]).await;
        loop {
            match self.line.receive().await {
                Ok(Some((Message::Connection, descriptors))) => {
                    descriptors.into_iter().for_each(|socket| fleet.adopt(socket));
                }
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("the process that took over cannot be heard: {error}");
                    break;
                }
            }
        }
        tracing::error!(pid = self.pid(), "the process that took over has ended: nobody takes connections");
        let _ = self.child.try_wait();
    }
}

/// Asks clients that can to reconnect, to the process that has taken over, and waits until all have left: at most `patience`.
pub(in crate::control) async fn leave(fleet: &Arc<Fleet>, over: Duration, patience: Duration) {
    let by = Instant::now() + patience;
    let request = ReconnectRequest { tc_url: None, description: DESCRIPTION.to_owned(), over };
    let asking = Arc::clone(fleet);
    // Its answers block.
    let asked = tokio::task::spawn_blocking(move || asking.request_reconnect(request, STREAMS_PATIENCE)).await;
    tracing::info!(asked = asked.unwrap_or(0), connections = fleet.connections(), "clients leave as they like");
    while fleet.connections() > 0 {
        if Instant::now() >= by {
            tracing::warn!(connections = fleet.connections(), "still here after {patience:?}: their streams end");
            return;
        }
        sleep(DRAIN_POLL).await;
    }
}
