//! What the control thread asks of a shard, and how it gets there.
//!
//! A mailbox is touched by people's requests, answers and dials only, never by media: it may lock and allocate. Whoever sends
//! rings the shard's bell; the shard takes all there is at once. How much waits there is bounded by those who send.

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, mpsc::Sender},
};

use super::lock;
#[cfg(test)]
use crate::shard::driver::Driver;
use crate::shard::{
    bell::EventBell,
    dial::{Answer, DialId},
    leaving::Departure,
    listener::Listener,
    mesh::Bell,
    questions::{Decision, Ticket},
    reconnect::ReconnectRequest,
    relaying::report::RelayPart,
    report::StreamPart,
};

/// What the control thread asks of a shard.
#[derive(Debug)]
pub(in crate::shard) enum Command {
    Shutdown,
    StopAccepting,
    /// As `StopAccepting`, but the sockets go on in other hands.
    ReleaseListeners,
    /// Takes connections again.
    Listen {
        plain: Vec<Listener>,
        /// For TLS.
        secure: Vec<Listener>,
    },
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
pub(in crate::shard) struct Act(pub(in crate::shard) Box<dyn FnOnce(&Driver) + Send>);

#[cfg(test)]
impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Act")
    }
}

/// Commands for one shard.
#[derive(Debug)]
pub(in crate::shard) struct Mailbox {
    commands: Mutex<VecDeque<Command>>,
    bell: EventBell,
}

impl Mailbox {
    pub(in crate::shard) fn new() -> io::Result<Self> {
        Ok(Self { commands: Mutex::default(), bell: EventBell::new()? })
    }

    pub(in crate::shard) fn bell(&self) -> &EventBell {
        &self.bell
    }

    pub(in crate::shard) fn send(&self, command: Command) {
        lock(&self.commands).push_back(command);
        self.bell.ring();
    }

    pub(in crate::shard) fn ring(&self) {
        self.bell.ring();
    }

    pub(in crate::shard) fn take(&self) -> VecDeque<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }
}
