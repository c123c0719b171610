//! A shard's bell: an eventfd its runtime waits on, rung by other shards and by the control thread.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustix::event::{EventfdFlags, eventfd};

use super::mesh::Bell;

/// The side that rings.
#[derive(Debug)]
pub(super) struct EventBell(OwnedFd);

impl EventBell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The side that waits, for the shard's thread.
    pub(super) fn waiter(&self) -> io::Result<BellWaiter> {
        let fd = self.0.try_clone()?;
        // monoio waits for the readiness of sockets only by type; an eventfd does as well.
        let ready = monoio::net::UnixStream::from_std(UnixStream::from(self.0.try_clone()?))?;
        Ok(BellWaiter { fd, ready })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Bell for EventBell {
    fn ring(&self) {
        // It fails only if the counter is about to overflow, and then it rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

pub(super) struct BellWaiter {
    fd: OwnedFd,
    ready: monoio::net::UnixStream,
}

impl BellWaiter {
    /// Waits for a ring and takes all there were.
    pub(super) async fn wait(&self) {
        let _ = self.ready.readable(false).await;
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }
}
