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
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::passing::Passing;

/// The message that brings a connection: JSON, as all others between the two.
pub const CONNECTION: &[u8] = b"\"connection\"";

/// See the file's head.
#[derive(Debug)]
pub struct Predecessor {
    /// Until it has ended.
    passing: Mutex<Option<Passing>>,
    gone: AtomicBool,
}

impl Predecessor {
    pub fn new(passing: Passing) -> Self {
        Self { passing: Mutex::new(Some(passing)), gone: AtomicBool::new(false) }
    }

    /// It has ended.
    pub fn note_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.passing().take();
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Says something to it. Errors: it has ended, or is behind.
    pub fn tell(&self, bytes: &[u8]) -> io::Result<()> {
        let passing = self.passing();
        passing.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?.send(bytes, &[])
    }

    /// A connection to it, which does not block.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let passing = self.passing();
        let Some(passing) = passing.as_ref() else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        passing.send(CONNECTION, &[theirs.as_fd()])?;
        Ok(ours.into())
    }

    fn passing(&self) -> MutexGuard<'_, Option<Passing>> {
        // Whoever panicked with it held left it whole.
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_connection_arrives_at_the_other_end_until_that_is_gone() {
        let (old, new) = Passing::pair().expect("descriptors");
        let predecessor = Predecessor::new(new);
        let mut ours = UnixStream::from(predecessor.connect().expect("it lives"));
        let passed = old.receive().expect("it is there");
        assert_eq!(passed.bytes, CONNECTION);
        let mut theirs = UnixStream::from(passed.descriptors.into_iter().next().expect("a descriptor"));
        ours.write_all(b"hello").expect("it fits");
        let mut heard = [0; 5];
        theirs.read_exact(&mut heard).expect("it was sent");
        assert_eq!(&heard, b"hello");
        predecessor.note_gone();
        assert!(predecessor.is_gone());
        assert_eq!(predecessor.connect().expect_err("it is gone").kind(), io::ErrorKind::ConnectionRefused);
        assert!(old.receive().expect("the end").bytes.is_empty(), "nothing holds the socket");
    }
}
