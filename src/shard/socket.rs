//! One connection's socket: owned by the task that sends, through the runtime; read from, shut down and, over TLS, sent to at
//! once by descriptor.

use std::{
    io,
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use monoio::{
    BufResult,
    buf::{IoBuf, Slice},
    io::AsyncWriteRent,
};
use socket2::SockRef;

use crate::egress::Piece;

/// A socket that sends. It closes when it is dropped.
///
/// monoio's Unix stream, over a TCP socket too: to the runtime both are a descriptor, and its TCP stream remembers two
/// addresses besides, 96 bytes.
pub(super) struct Socket(monoio::net::UnixStream);

/// How many bytes of a piece went out.
pub(super) type Sent = BufResult<usize, SendBuffer>;

/// A piece as a buffer the ring may read until the send has completed.
pub(super) struct SendBuffer(pub(super) Piece);

// SAFETY: the bytes of a piece lie behind a reference count (`Bytes`, or a segment's block), are never moved or changed
// while the piece lives, and monoio keeps the piece until the operation has completed.
unsafe impl IoBuf for SendBuffer {
    fn read_ptr(&self) -> *const u8 {
        self.0.as_slice().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }
}

impl Socket {
    /// Registers a connected socket with the runtime of this thread.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        // Under io_uring the descriptor must block, or the kernel answers EAGAIN instead of waiting for room.
        monoio::net::UnixStream::from_std(UnixStream::from(socket)).map(Self)
    }

    /// Sends some of `piece`. The future must not be dropped before it ends: how many bytes went out would be lost.
    pub(super) fn send(&mut self, piece: Piece) -> impl Future<Output = Sent> {
        self.0.write(SendBuffer(piece))
    }

    /// As [`Socket::send`], of bytes that lie in a block of their own.
    pub(super) fn send_block(
        &mut self,
        block: Slice<Vec<u8>>,
    ) -> impl Future<Output = BufResult<usize, Slice<Vec<u8>>>> {
        self.0.write(block)
    }

    /// No more will be sent; what was is still delivered.
    pub(super) fn end(&self) {
        // SAFETY: the stream keeps its descriptor open.
        shut(unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }, Shutdown::Write);
    }

    /// For whatever does not send.
    ///
    /// # Safety
    /// The handle must be dropped before the socket is.
    pub(super) unsafe fn handle(&self) -> Handle {
        Handle(self.0.as_raw_fd())
    }
}

fn shut(fd: BorrowedFd<'_>, how: Shutdown) {
    // It fails only if the connection is gone already, which is what was wanted.
    let _ = SockRef::from(&fd).shutdown(how);
}

/// Has a socket end with a reset when it is closed: its peer knows at once, and nothing of it stays behind in the kernel.
pub(super) fn reset(socket: &OwnedFd) {
    // A Unix socket has no such end, and none is left behind.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// The descriptor of a [`Socket`], which outlives it.
#[derive(Debug)]
pub(super) struct Handle(RawFd);

impl Handle {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the socket it was taken from is still open: whoever took it promised so.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }

    /// Reads what has arrived, without waiting.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let count = {
            // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the call only ever writes initialised bytes.
            let buffer = unsafe { &mut *(std::ptr::from_mut::<[u8]>(buffer) as *mut [MaybeUninit<u8>]) };
            SockRef::from(&self.fd()).recv_with_flags(buffer, libc::MSG_DONTWAIT)?
        };
        Ok(&buffer[..count])
    }

    /// Sends what there is room for, without waiting. `more` is to come at once: the kernel may send it along.
    pub(super) fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
        SockRef::from(&self.fd()).send_with_flags(bytes, flags)
    }

    /// Lets the kernel join small sends while earlier ones are unacknowledged (Nagle's algorithm), or not.
    pub(super) fn join_small_sends(&self, on: bool) {
        // Accepted sockets send at once; one that cannot change that still works.
        let _ = SockRef::from(&self.fd()).set_tcp_nodelay(!on);
    }

    /// Ends the connection both ways, and with it whatever waits for it.
    pub(super) fn abort(&self) {
        shut(self.fd(), Shutdown::Both);
    }
}
