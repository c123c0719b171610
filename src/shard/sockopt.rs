//! Applies [`SocketOptions`] to a socket before it listens, and finds out what the kernel cut short.
//!
//! Accepted sockets inherit all of them, which costs no system call per connection; the tests read them back from there.
//! The congestion control must be set here and never on an accepted socket, which would keep what the first one began
//! (BBR's pacing survives the switch).

use std::io;

use socket2::Socket;

use super::socket_options::{Clamp, OptionError, SocketOption, SocketOptions};

pub(super) fn apply(socket: &Socket, options: &SocketOptions) -> Result<(), OptionError> {
    let refused = |option| move |source| OptionError { option, source };
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes).map_err(refused(SocketOption::SendBuffer))?;
    }
    socket.set_tcp_notsent_lowat(options.notsent_lowat).map_err(refused(SocketOption::NotsentLowat))?;
    match options.busy_poll_us.map(|us| (us, socket.set_busy_poll(us))) {
        // A kernel without busy polling does not poll.
        None | Some((0, _) | (_, Ok(()))) => {}
        Some((_, Err(source))) => return Err(refused(SocketOption::BusyPoll)(source)),
    }
    if let Some(name) = &options.congestion {
        socket.set_tcp_congestion(name.as_bytes()).map_err(refused(SocketOption::Congestion))?;
    }
    Ok(())
}

/// What `socket`, which has `options`, got less of than was asked for.
pub(super) fn clamps(socket: &Socket, options: &SocketOptions) -> Vec<Clamp> {
    let mut clamps = Vec::new();
    if let (Some(asked_bytes), Ok(size)) = (options.send_buffer, socket.send_buffer_size()) {
        // The kernel doubles what it is given, for its own overhead.
        let given_bytes = size / 2;
        if given_bytes < asked_bytes {
            clamps.push(Clamp::SendBuffer { asked_bytes, given_bytes });
        }
    }
    // Of this network namespace. Where /proc cannot be read, nobody is told; it listens all the same.
    if let Some(given) = backlog_max().ok().filter(|max| *max < options.backlog) {
        clamps.push(Clamp::Backlog { asked: options.backlog, given });
    }
    clamps
}

fn backlog_max() -> io::Result<i32> {
    std::fs::read_to_string("/proc/sys/net/core/somaxconn")?.trim().parse().map_err(io::Error::other)
}
