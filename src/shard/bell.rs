//! A shard's bell: an eventfd its runtime waits on, rung by other shards and by the control thread. And one that always rings.

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

/// Something that is always ready: a task that waits for it lets the runtime look at what else is. The ring's completions wait to
/// be asked for, and timers to be looked at, which is not done while any task can run.
pub(super) struct Turnstile(monoio::net::UnixStream);

impl Turnstile {
    /// For the shard's thread.
    pub(super) fn new() -> io::Result<Self> {
        let open = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        monoio::net::UnixStream::from_std(UnixStream::from(open)).map(Self)
    }

    pub(super) async fn pass(&self) {
        let _ = self.0.readable(false).await;
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
