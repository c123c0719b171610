//! Which connections of a shard have something to read: one epoll set, itself waited for through the runtime.
//!
//! A wait for readiness per connection in the ring costs a task, an operation and a kernel request for each, 500 bytes and
//! more that an idle player does not need. Level-triggered: what a read budget leaves is reported again. Bound: at most
//! [`READY_BUDGET`] connections per wait.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};

use super::conn::ConnId;
use crate::limits::READY_BUDGET;

pub(super) struct Poller {
    epoll: OwnedFd,
    ready: monoio::net::UnixStream,
}

impl Poller {
    /// For the shard's thread, within its runtime.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // monoio waits for the readiness of sockets only by type; an epoll set does as well.
        let ready = monoio::net::UnixStream::from_std(UnixStream::from(epoll.try_clone()?))?;
        Ok(Self { epoll, ready })
    }

    /// `fd` stays in the set until it is removed.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, id: ConnId) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(id as u64), epoll::EventFlags::IN)?)
    }

    /// `fd`, a socket that has begun to connect, is reported once: when it has, or failed to.
    pub(super) fn add_connecting(&self, fd: BorrowedFd<'_>, id: ConnId) -> io::Result<()> {
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(id as u64), flags)?)
    }

    /// Of `fd`, in the set, no more is reported but that its peer has closed.
    pub(super) fn hold(&self, fd: BorrowedFd<'_>, id: ConnId) {
        self.modify(fd, id, epoll::EventFlags::RDHUP);
    }

    /// `fd`, in the set, is reported again when it has something to read.
    pub(super) fn resume(&self, fd: BorrowedFd<'_>, id: ConnId) {
        self.modify(fd, id, epoll::EventFlags::IN);
    }

    fn modify(&self, fd: BorrowedFd<'_>, id: ConnId, flags: epoll::EventFlags) {
        // It needs no memory, and fails only if the connection was removed before.
        let _ = epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(id as u64), flags);
    }

    pub(super) fn remove(&self, fd: BorrowedFd<'_>) {
        // It fails only if the connection was removed before.
        let _ = epoll::delete(self.epoll.as_fd(), fd);
    }

    /// Waits until connections are readable, or were closed by their peers, and appends some of them to `ids`.
    pub(super) async fn wait(&self, ids: &mut Vec<ConnId>, events: &mut Vec<epoll::Event>) -> io::Result<()> {
        self.ready.readable(false).await?;
        events.clear();
        events.reserve(READY_BUDGET);
        epoll::wait(&self.epoll, spare_capacity(events), Some(&Timespec::default()))?;
        ids.extend(events.iter().filter_map(|event| ConnId::try_from(event.data.u64()).ok()));
        Ok(())
    }
}
