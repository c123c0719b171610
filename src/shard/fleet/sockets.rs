//! The fleet's listening sockets as other processes have them too: a predecessor's, a successor's, a service manager's.

use std::{io, os::fd::OwnedFd, sync::atomic::Ordering};

use super::{Command, Fleet, lock};
use crate::shard::{inherited::Listening, unix_file::UnixFile};

impl Fleet {
    /// Copies of all sockets that are listened on, for a successor. None once no more connections are taken.
    pub fn listening(&self) -> io::Result<Vec<Listening>> {
        lock(&self.listening).iter().map(Listening::try_clone).collect()
    }

    /// The sockets outlive this process: when it stops accepting they go on listening, for whoever else has them.
    pub fn leave_sockets_open(&self) {
        self.lasting.store(true, Ordering::Relaxed);
    }

    /// Socket files that were another process's are this one's from now on, to be removed at its end.
    pub fn own_files(&self) {
        for path in lock(&self.others_files).drain(..) {
            match UnixFile::of(path) {
                Ok(file) => lock(&self.files).push(file),
                Err(error) => tracing::warn!("the socket file is not where it was: {error}"),
            }
        }
    }

    /// Takes no more connections: a successor does, from the same sockets, which are left as they are.
    pub fn release_listeners(&self) {
        lock(&self.files).drain(..).for_each(UnixFile::leave);
        lock(&self.listening).clear();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::ReleaseListeners);
        }
    }

    /// Serves a connection that a successor made.
    pub fn adopt(&self, socket: OwnedFd) {
        let next = self.adopter.fetch_add(1, Ordering::Relaxed);
        if let Some(mailbox) = self.mailboxes.get(next % self.mailboxes.len().max(1)) {
            mailbox.send(Command::Adopt(socket));
        }
    }

    /// Takes no more connections; socket files are removed.
    pub fn stop_accepting(&self) {
        if self.lasting.load(Ordering::Relaxed) {
            self.release_listeners();
            return;
        }
        lock(&self.files).clear();
        lock(&self.listening).clear();
        for mailbox in &self.mailboxes {
            mailbox.send(Command::StopAccepting);
        }
    }
}
