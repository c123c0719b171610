//! The process that this one takes over from, while it still serves who had come before, and those before it.
//!
//! Its streams are had over connections made here: one end of a socket pair is sent there and served as if it had been
//! accepted. So nothing listens that others could find, and who may connect needs no rule.
//!
//! Each process of a chain of upgrades has lines to all before it: what one between carried ends with that one, and the one
//! before it is next. A process sees the end of its line only when nobody behind it is left.

use std::{
    collections::VecDeque,
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
use crate::limits::GENERATIONS;

/// The message that brings a connection: JSON, as all others between the two.
pub const CONNECTION: &[u8] = b"\"connection\"";

/// A process that came before, and the line to it.
#[derive(Debug)]
pub struct Elder {
    pub pid: u32,
    pub passing: Passing,
}

impl Elder {
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { pid: self.pid, passing: self.passing.try_clone()? })
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Predecessor {
    lines: Mutex<Lines>,
    gone: AtomicBool,
    generation: u8,
}

#[derive(Debug)]
struct Lines {
    /// The nearest first. Of those behind it some may have ended already.
    elders: VecDeque<Elder>,
    /// This process ends because it is to, and has said so.
    took_leave: bool,
}

impl Predecessor {
    /// `elders`: the nearest first. `generation` is that one's own.
    pub fn new(elders: impl IntoIterator<Item = Elder>, generation: u8) -> Self {
        let elders: VecDeque<_> = elders.into_iter().collect();
        let gone = AtomicBool::new(elders.is_empty());
        Self { lines: Mutex::new(Lines { elders, took_leave: false }), gone, generation }
    }

    /// Of the process that takes over: what counts up by one has as many values as processes may live at a time.
    pub fn next_generation(&self) -> u8 {
        (self.generation % GENERATIONS + 1) % GENERATIONS
    }

    /// The nearest has ended. The one before it, if there is one, is told `succeeds`, unless it knows that this one ends too.
    /// Errors: there is no descriptor for a copy.
    pub fn note_gone(&self, succeeds: &[u8]) -> io::Result<Option<Elder>> {
        let mut lines = self.lines();
        lines.elders.pop_front();
        self.gone.store(lines.elders.is_empty(), Ordering::Relaxed);
        let Some(next) = lines.elders.front() else { return Ok(None) };
        if !lines.took_leave {
            // What fails here is that it has ended, which is heard next.
            let _ = next.passing.send(succeeds, &[]);
        }
        next.try_clone().map(Some)
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Copies for a process that takes over from this one.
    pub fn elders(&self) -> io::Result<Vec<Elder>> {
        self.lines().elders.iter().map(Elder::try_clone).collect()
    }

    /// Says something to the nearest that has not ended. Errors: there is none, or it is behind.
    pub fn tell(&self, bytes: &[u8]) -> io::Result<()> {
        for elder in &self.lines().elders {
            match elder.passing.send(bytes, &[]) {
                // That it has ended may not have been noted yet.
                Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
                told => return told,
            }
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    /// Says to all that this process ends because it is to.
    pub fn take_leave(&self, bytes: &[u8]) {
        let mut lines = self.lines();
        lines.took_leave = true;
        for elder in &lines.elders {
            // What fails here is that it has ended.
            let _ = elder.passing.send(bytes, &[]);
        }
    }

    /// A connection to the nearest, which does not block.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let lines = self.lines();
        let Some(nearest) = lines.elders.front() else { return Err(io::ErrorKind::ConnectionRefused.into()) };
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        nearest.passing.send(CONNECTION, &[theirs.as_fd()])?;
        Ok(ours.into())
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Whoever panicked with it held left it whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn line(pid: u32) -> (Passing, Elder) {
        let (theirs, passing) = Passing::pair().expect("descriptors");
        (theirs, Elder { pid, passing })
    }

    /// What an elder hears, in order; the end is empty.
    fn heard(end: &Passing) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        while let Ok(passed) = end.receive() {
            let is_over = passed.bytes.is_empty();
            all.push(passed.bytes);
            if is_over {
                break;
            }
        }
        all
    }

    #[test]
    fn generations_differ_from_those_before() {
        let next = |generation| Predecessor::new([line(1).1], generation).next_generation();
        assert_eq!([0, 1, 14, 15, 16, 255].map(next), [1, 2, 15, 0, 1, 0]);
    }

    #[test]
    fn a_connection_arrives_at_the_other_end_until_that_is_gone() {
        let (old, elder) = line(1);
        let predecessor = Predecessor::new([elder], 0);
        let mut ours = UnixStream::from(predecessor.connect().expect("it lives"));
        let passed = old.receive().expect("it is there");
        assert_eq!(passed.bytes, CONNECTION);
        let mut theirs = UnixStream::from(passed.descriptors.into_iter().next().expect("a descriptor"));
        ours.write_all(b"hello").expect("it fits");
        let mut heard = [0; 5];
        theirs.read_exact(&mut heard).expect("it was sent");
        assert_eq!(&heard, b"hello");
        assert!(predecessor.note_gone(b"next").expect("descriptors").is_none());
        assert!(predecessor.is_gone());
        assert_eq!(predecessor.connect().expect_err("it is gone").kind(), io::ErrorKind::ConnectionRefused);
        assert!(old.receive().expect("the end").bytes.is_empty(), "nothing holds the socket");
    }

    #[test]
    fn the_one_before_is_next_when_the_nearest_has_ended() {
        let ((_, near), (far_end, far)) = (line(2), line(1));
        let predecessor = Predecessor::new([near, far], 1);
        let copies = predecessor.elders().expect("descriptors");
        assert_eq!(copies.iter().map(|elder| elder.pid).collect::<Vec<_>>(), [2, 1]);
        let next = predecessor.note_gone(b"next").expect("descriptors").expect("there is one");
        assert_eq!((next.pid, predecessor.is_gone()), (1, false));
        predecessor.connect().expect("it lives");
        assert_eq!(heard(&far_end), [b"next", CONNECTION]);
        drop((predecessor, next));
        assert!(heard(&far_end).is_empty(), "somebody behind it lives");
        drop(copies);
        assert_eq!(heard(&far_end), [b""]);
    }

    #[test]
    fn what_is_said_is_for_the_nearest_that_lives() {
        let ((near_end, near), (far_end, far)) = (line(2), line(1));
        let predecessor = Predecessor::new([near, far], 1);
        predecessor.tell(b"both live").expect("room");
        assert_eq!(near_end.receive().expect("it was sent").bytes, b"both live");
        // Nobody has noted it.
        drop(near_end);
        predecessor.tell(b"one lives").expect("room");
        assert_eq!(heard(&far_end), [b"one lives"]);
        drop(far_end);
        assert_eq!(predecessor.tell(b"none lives").expect_err("all are gone").kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn who_takes_leave_succeeds_nobody() {
        let ((near_end, near), (far_end, far)) = (line(2), line(1));
        let predecessor = Predecessor::new([near, far], 1);
        predecessor.take_leave(b"bye");
        assert!(predecessor.note_gone(b"next").expect("descriptors").is_some());
        drop(predecessor);
        assert_eq!((heard(&near_end), heard(&far_end)), (vec![b"bye".to_vec(), vec![]], vec![b"bye".to_vec(), vec![]]));
    }
}
