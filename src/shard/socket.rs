//! One connection's socket on a monoio runtime: readiness, non-blocking reads, owned sends.
//!
//! `unsafe`, because monoio offers either an exclusive reference per operation or halves that park a buffer per idle
//! connection: waiting for readiness instead costs 355 bytes where a parked read costs 4.4 KiB.

use std::{
    cell::UnsafeCell,
    io,
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::{AsRawFd, BorrowedFd},
    rc::Rc,
};

use monoio::{buf::IoBuf, io::AsyncWriteRent, net::TcpStream};
use socket2::SockRef;

use crate::egress::Piece;

/// A socket shared by the task that reads and the task that writes, both on the shard's thread.
#[derive(Clone)]
pub(super) struct Socket(Rc<UnsafeCell<TcpStream>>);

/// A piece as a buffer the ring may read until the send has completed.
struct SendBuffer(Piece);

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
    /// Registers an accepted socket with the runtime of this thread.
    pub(super) fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        // Under io_uring the descriptor must block, or the kernel answers EAGAIN instead of waiting for room.
        TcpStream::from_std(stream).map(|stream| Self(Rc::new(UnsafeCell::new(stream))))
    }

    /// Waits until there is something to read, or the peer has closed.
    pub(super) async fn readable(&self) -> io::Result<()> {
        // SAFETY: `readable` uses the reference to clone the descriptor's handle into its operation before it first
        // waits, and the thread runs one task at a time, so it never overlaps the exclusive reference in `send`.
        let stream = unsafe { &*self.0.get() };
        stream.readable(false).await
    }

    /// Sends some of `piece`. The future must not be dropped before it ends: how many bytes went out would be lost.
    pub(super) async fn send(&self, piece: Piece) -> (io::Result<usize>, Piece) {
        let sending = {
            // SAFETY: `write` uses the reference to clone the descriptor's handle into its operation and returns; no
            // other reference is in use meanwhile, the thread runs one task at a time.
            let stream = unsafe { &mut *self.0.get() };
            stream.write(SendBuffer(piece))
        };
        let (result, SendBuffer(piece)) = sending.await;
        (result, piece)
    }

    /// Reads what has arrived, without waiting.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let count = {
            // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the call only ever writes initialised bytes.
            let buffer = unsafe { &mut *(std::ptr::from_mut::<[u8]>(buffer) as *mut [MaybeUninit<u8>]) };
            SockRef::from(&self.fd()).recv_with_flags(buffer, DONT_WAIT)?
        };
        Ok(&buffer[..count])
    }

    /// Lets the kernel join small sends while earlier ones are unacknowledged (Nagle's algorithm).
    pub(super) fn join_small_sends(&self) {
        // Accepted sockets send at once; one that cannot change that still works.
        let _ = SockRef::from(&self.fd()).set_tcp_nodelay(false);
    }

    pub(super) fn shutdown(&self, how: Shutdown) {
        // It fails only if the connection is gone already, which is what was wanted.
        let _ = SockRef::from(&self.fd()).shutdown(how);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as in `readable`; the descriptor stays open as long as the stream, which `self` keeps.
        unsafe { BorrowedFd::borrow_raw((*self.0.get()).as_raw_fd()) }
    }
}

/// MSG_DONTWAIT on Linux.
const DONT_WAIT: i32 = 0x40;
