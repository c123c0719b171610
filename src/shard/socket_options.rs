//! What an operator may set on the sockets that carry RTMP. Applied by `sockopt` and `steering` as the shards listen;
//! the kernel hands each option on to the connections that are accepted.

use std::{fmt, io};

use crate::limits;

/// Each is a flag; the defaults are those of [`limits`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Bytes of the kernel's send buffer per connection (SO_SNDBUF), at most half of what an `i32` holds; `None` lets
    /// the kernel size it.
    pub send_buffer: Option<usize>,
    /// Unsent bytes the kernel may hold per connection before a send waits (TCP_NOTSENT_LOWAT); 0 leaves it to
    /// net.ipv4.tcp_notsent_lowat.
    pub notsent_lowat: u32,
    /// Microseconds a receive that finds nothing asks the network card (SO_BUSY_POLL), 0 never; `None` leaves it to
    /// net.core.busy_read.
    pub busy_poll_us: Option<u32>,
    /// Name of the congestion control (TCP_CONGESTION); `None` leaves it to net.ipv4.tcp_congestion_control.
    pub congestion: Option<String>,
    /// Connections that may wait to be accepted, per shard and address.
    pub backlog: i32,
    /// Whether a connection goes to the shard of the CPU its first packet arrives on. Needs each shard pinned to a CPU of
    /// its own.
    pub reuseport_cpu: bool,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            send_buffer: None,
            notsent_lowat: limits::NOTSENT_LOWAT_BYTES_DEFAULT,
            busy_poll_us: None,
            congestion: None,
            backlog: limits::LISTEN_BACKLOG_DEFAULT,
            reuseport_cpu: false,
        }
    }
}

/// One of [`SocketOptions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    SendBuffer,
    NotsentLowat,
    BusyPoll,
    Congestion,
    ReuseportCpu,
}

impl fmt::Display for SocketOption {
    /// As socket(7) and tcp(7) call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SendBuffer => "SO_SNDBUF",
            Self::NotsentLowat => "TCP_NOTSENT_LOWAT",
            Self::BusyPoll => "SO_BUSY_POLL",
            Self::Congestion => "TCP_CONGESTION",
            Self::ReuseportCpu => "SO_ATTACH_REUSEPORT_CBPF",
        })
    }
}

/// The kernel did not take an option.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {option}: {source}")]
pub struct OptionError {
    pub option: SocketOption,
    pub source: io::Error,
}

/// The kernel took less than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// net.core.wmem_max is below the send buffer.
    SendBuffer { asked_bytes: usize, given_bytes: usize },
    /// net.core.somaxconn is below the backlog.
    Backlog { asked: i32, given: i32 },
}
