//! The process that this one takes over from, while it still serves who had come before.
//!
//! Its streams are had over connections made here: one end of a socket pair is sent there and served as if it had been
//! accepted. So nothing listens that others could find, and who may connect needs no rule.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::atomic::{AtomicBool, Ordering},
};

use super::passing::Passing;

/// The message that brings a connection: JSON, as all others between the two.
pub const CONNECTION: &[u8] = b"\"connection\"";

/// See the file's head.
#[derive(Debug)]
pub struct Predecessor {
    passing: Passing,
    gone: AtomicBool,
}

impl Predecessor {
    pub fn new(passing: Passing) -> Self {
        Self { passing, gone: AtomicBool::new(false) }
    }

    /// It has ended, or serves nobody any more.
    pub fn note_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// A connection to it, which does not block.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        if self.is_gone() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        self.passing.send(CONNECTION, &[theirs.as_fd()])?;
        Ok(ours.into())
    }
}
