//! Descriptors passed from process to process: a pair of local sockets whose messages carry some (SCM_RIGHTS).
//!
//! SOCK_SEQPACKET, so that a message arrives whole with its descriptors, or not at all. What arrives is closed at exec. A
//! message that is longer than [`HANDOVER_MESSAGE_BYTES_MAX`], or brings more than [`HANDOVER_DESCRIPTORS_MAX`], is an
//! error: its descriptors are closed.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    cmsg_space,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
};

use crate::limits::{HANDOVER_DESCRIPTORS_MAX, HANDOVER_MESSAGE_BYTES_MAX};

const SPACE: usize = cmsg_space!(ScmRights(HANDOVER_DESCRIPTORS_MAX));

/// One end. It does not block.
#[derive(Debug)]
pub struct Passing(OwnedFd);

/// What came, with its descriptors. No bytes: the other end is closed.
#[derive(Debug, Default)]
pub struct Passed {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Passing {
    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// `None`: it is no such socket.
    pub fn new(end: OwnedFd) -> Option<Self> {
        let fits = rustix::net::sockopt::socket_domain(&end) == Ok(AddressFamily::UNIX)
            && rustix::net::sockopt::socket_type(&end) == Ok(SocketType::SEQPACKET)
            && rustix::io::ioctl_fionbio(&end, true).is_ok();
        fits.then_some(Self(end))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// All of it or an error, [`io::ErrorKind::WouldBlock`] if the other end is behind.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        send_to(&self.0, bytes, descriptors)
    }

    pub fn receive(&self) -> io::Result<Passed> {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = vec![0; HANDOVER_MESSAGE_BYTES_MAX];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of the hand-over is too long"));
        }
        bytes.truncate(received.bytes);
        Ok(Passed { bytes, descriptors })
    }
}

/// Sends a message on any connected local socket that keeps messages apart.
pub fn send_to(socket: &impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let few = descriptors.len() <= HANDOVER_DESCRIPTORS_MAX;
    let taken = descriptors.is_empty() || (few && control.push(SendAncillaryMessage::ScmRights(descriptors)));
    if !taken {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl AsFd for Passing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (one, other) = Passing::pair().expect("descriptors");
        assert_eq!(other.receive().expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
        let (mut near, far) = UnixStream::pair().expect("descriptors");
        one.send(b"first", &[far.as_fd()]).expect("room");
        one.send(b"second", &[]).expect("room");
        drop(far);
        let first = other.receive().expect("it is there");
        assert_eq!(first.bytes, b"first");
        let [passed] = <[OwnedFd; 1]>::try_from(first.descriptors).expect("one descriptor");
        assert!(rustix::io::fcntl_getfd(&passed).expect("open").contains(rustix::io::FdFlags::CLOEXEC));
        UnixStream::from(passed).write_all(b"hello").expect("the pair's other end");
        let mut heard = String::new();
        near.read_to_string(&mut heard).expect("it was closed");
        assert_eq!(heard, "hello");
        assert_eq!(other.receive().expect("it is there").bytes, b"second");
        drop(one);
        let end = other.receive().expect("the end");
        assert!(end.bytes.is_empty() && end.descriptors.is_empty());
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let (one, other) = Passing::pair().expect("descriptors");
        let null = File::open("/dev/null").expect("it is there");
        let many = vec![null.as_fd(); HANDOVER_DESCRIPTORS_MAX + 1];
        assert!(one.send(b"x", &many).is_err());
        one.send(b"x", &many[1..]).expect("as many as may be");
        assert_eq!(other.receive().expect("it is there").descriptors.len(), HANDOVER_DESCRIPTORS_MAX);
        one.send(&vec![b'x'; HANDOVER_MESSAGE_BYTES_MAX + 1], &[]).expect("the kernel takes it");
        assert_eq!(other.receive().expect_err("too long").kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn other_sockets_are_not_taken() {
        assert!(Passing::new(UnixStream::pair().expect("descriptors").0.into()).is_none());
        assert!(Passing::new(File::open("/dev/null").expect("it is there").into()).is_none());
        assert!(Passing::new(Passing::pair().expect("descriptors").0.into_fd()).is_some());
    }
}
