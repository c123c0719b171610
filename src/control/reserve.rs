//! Descriptors that the admin listener holds ready for the time when there are no others: whoever looks after a full node must be
//! let in, and be answered.
//!
//! They are given up when accept fails for want of one, and taken back once nobody is being answered any more, who may need them.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};

use crate::limits::ADMIN_RESERVED_FILES;

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Reserve {
    files: Mutex<Vec<OwnedFd>>,
    answering: AtomicUsize,
}

/// While somebody is being answered. To be dropped after what it takes.
#[derive(Debug)]
pub(super) struct Answering(Arc<Reserve>);

pub(super) fn is_want_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error())).contains(&error.raw_os_error())
}

impl Reserve {
    pub(super) fn new() -> Arc<Self> {
        let reserve = Self::default();
        reserve.fill();
        Arc::new(reserve)
    }

    /// True if `error` is want of descriptors, and there are some now.
    pub(super) fn helps(&self, error: &io::Error) -> bool {
        let given_up = if is_want_of_files(error) { std::mem::take(&mut *self.files()) } else { Vec::new() };
        !given_up.is_empty()
    }

    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    fn fill(&self) {
        let mut files = self.files();
        while files.len() < ADMIN_RESERVED_FILES {
            let Ok(file) = eventfd(0, EventfdFlags::CLOEXEC) else { return };
            files.push(file);
        }
    }

    fn files(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.0.answering.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.fill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_helps_once_and_is_full_again_when_all_are_answered() {
        let reserve = Reserve::new();
        assert!(!reserve.helps(&io::ErrorKind::ConnectionAborted.into()), "that is no want of descriptors");
        let want = || io::Error::from(Errno::MFILE);
        assert!(reserve.helps(&want()));
        let (first, second) = (reserve.answering(), reserve.answering());
        assert!(!reserve.helps(&want()), "there is nothing left to give");
        drop(first);
        assert!(!reserve.helps(&want()), "somebody is being answered");
        drop(second);
        assert_eq!(reserve.files().len(), ADMIN_RESERVED_FILES);
        assert!(reserve.helps(&want()));
    }
}
