//! One end of the socket pair between the two processes, on the control thread.

use std::{
    io,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use tokio::io::Interest;

use super::message::Message;
use crate::shard::passing::{Passed, Passing};

#[derive(Debug)]
pub(super) struct Line {
    passing: Passing,
    /// tokio waits for the readiness of sockets only by type; that of other types of socket it tells as well.
    ready: tokio::net::UnixStream,
}

impl Line {
    /// Within the runtime.
    pub(super) fn new(passing: Passing) -> io::Result<Self> {
        let ready = UnixStream::from(passing.try_clone()?.into_fd());
        Ok(Self { passing, ready: tokio::net::UnixStream::from_std(ready)? })
    }

    pub(super) async fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = message.bytes();
        self.ready.async_io(Interest::WRITABLE, || self.passing.send(&bytes, descriptors)).await
    }

    /// `None`: the other end is closed.
    pub(super) async fn receive(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        match self.ready.async_io(Interest::READABLE, || self.passing.receive()).await {
            Ok(Passed { bytes, .. }) if bytes.is_empty() => Ok(None),
            Ok(Passed { bytes, descriptors }) => Ok(Some((Message::read(&bytes)?, descriptors))),
            // It was closed with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}
