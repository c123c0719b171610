//! What a fleet listens on: bound before it has threads, handed to a successor, given up at the end.
//!
//! The shards accept; here are the addresses, the socket files that somebody has to remove, and the copies of all sockets that a
//! successor gets. Driven by the control thread.

use std::{
    io, mem,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{Fleet, StartError, lock, mailbox::Command};
use crate::shard::{
    config::Config,
    inherited::{Inherited, Listening, RTMP, RTMPS},
    listen_addr::ListenAddr,
    listener::{self, Bound, Listener},
    unix_file::UnixFile,
};

/// By shard.
type Listeners = Vec<Vec<Listener>>;

/// What a fleet will listen on, before it has threads: meanwhile the process can give up what it needed to bind.
#[derive(Debug)]
pub struct Sockets {
    pub(super) rtmp: Bound,
    pub(super) rtmps: Bound,
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
        Ok(Self { rtmp: bind(RTMP, &config.rtmp)?, rtmps: bind(RTMPS, &config.rtmps)? })
    }
}

/// What stays open while the node takes connections.
#[derive(Debug, Default)]
pub(super) struct OpenSockets {
    /// To be removed.
    files: Mutex<Vec<UnixFile>>,
    others_files: Mutex<Vec<PathBuf>>,
    /// For a successor.
    listening: Mutex<Vec<Listening>>,
    /// Somebody else has the sockets too, and they outlive this process.
    lasting: AtomicBool,
    /// A successor takes connections.
    lent: AtomicBool,
    /// The shard that serves the next connection of a successor.
    adopter: AtomicUsize,
}

impl OpenSockets {
    pub(super) fn new(rtmp: &mut Bound, rtmps: &mut Bound) -> Self {
        let take = |bound: &mut Bound| (mem::take(&mut bound.files), mem::take(&mut bound.others_files));
        let ((mut files, mut others_files), (more_files, more_others)) = (take(rtmp), take(rtmps));
        files.extend(more_files);
        others_files.extend(more_others);
        let listening = mem::take(&mut rtmp.listening).into_iter().chain(mem::take(&mut rtmps.listening)).collect();
        Self {
            files: Mutex::new(files),
            others_files: Mutex::new(others_files),
            listening: Mutex::new(listening),
            ..Self::default()
        }
    }
}

impl Fleet {
    /// Copies of all sockets that are listened on, for a successor. None once no more connections are taken.
    pub fn listening(&self) -> io::Result<Vec<Listening>> {
        lock(&self.open.listening).iter().map(Listening::try_clone).collect()
    }

    /// The sockets outlive this process: when it stops accepting they go on listening, for whoever else has them.
    pub fn leave_sockets_open(&self) {
        self.open.lasting.store(true, Ordering::Relaxed);
    }

    /// Socket files that were another process's are this one's from now on, to be removed at its end.
    pub fn own_files(&self) {
        for path in lock(&self.open.others_files).drain(..) {
            match UnixFile::of(path) {
                Ok(file) => lock(&self.open.files).push(file),
                Err(error) => tracing::warn!("the socket file is not where it was: {error}"),
            }
        }
    }

    /// Takes no more connections: a successor does, from the same sockets, which are left as they are.
    pub fn release_listeners(&self) {
        lock(&self.open.files).drain(..).for_each(|file| drop(file.leave()));
        lock(&self.open.listening).clear();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::ReleaseListeners);
        }
    }

    /// A successor takes connections instead, from the same sockets, of which copies are kept.
    pub fn lend_listeners(&self) {
        self.open.lent.store(true, Ordering::Relaxed);
        let left: Vec<_> = lock(&self.open.files).drain(..).map(UnixFile::leave).collect();
        lock(&self.open.others_files).extend(left);
        for mailbox in &self.mailboxes {
            mailbox.send(Command::ReleaseListeners);
        }
    }

    /// Takes connections again after [`lend_listeners`](Self::lend_listeners), but for addresses that the successor has given
    /// up. Errors: there are no descriptors for it, or no addresses left.
    pub fn take_listeners_back(&self) -> io::Result<()> {
        for known in lock(&self.open.listening).extract_if(.., |known| !known.drop_shut()) {
            tracing::warn!("{}: nobody listens there any more: the process that has died gave it up", known.addr);
        }
        let listening = self.listening()?;
        if listening.is_empty() {
            return Err(io::Error::other("nobody listens any more"));
        }
        let shards = self.mailboxes.len();
        let (mut plain, mut secure) = (Listeners::new(), Listeners::new());
        plain.resize_with(shards, Vec::new);
        secure.resize_with(shards, Vec::new);
        for known in listening {
            let by_shard = if known.role == RTMPS { &mut secure } else { &mut plain };
            listener::share(known, by_shard)?;
        }
        self.open.lent.store(false, Ordering::Relaxed);
        for ((mailbox, plain), secure) in self.mailboxes.iter().zip(plain).zip(secure) {
            mailbox.send(Command::Listen { plain, secure });
        }
        self.own_files();
        Ok(())
    }

    /// Whether a successor was to take connections, and this process does not again.
    pub fn has_lent_listeners(&self) -> bool {
        self.open.lent.load(Ordering::Relaxed)
    }

    /// Whether connections are to be taken somewhere and cannot be, because somebody else has shut the socket.
    pub fn has_lost_listeners(&self) -> bool {
        self.metrics.iter().any(|shard| shard.listeners_shut.get() > 0)
    }

    /// Serves a connection that a successor made.
    pub fn adopt(&self, socket: OwnedFd) {
        let next = self.open.adopter.fetch_add(1, Ordering::Relaxed);
        if let Some(mailbox) = self.mailboxes.get(next % self.mailboxes.len().max(1)) {
            mailbox.send(Command::Adopt(socket));
        }
    }

    /// Takes no more connections; socket files are removed.
    pub fn stop_accepting(&self) {
        if self.open.lasting.load(Ordering::Relaxed) {
            self.release_listeners();
            return;
        }
        lock(&self.open.files).clear();
        lock(&self.open.listening).clear();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::StopAccepting);
        }
    }
}
