//! The flags for what the kernel does with the sockets, and what to say where it does otherwise.

use std::io;

use clap::{ArgAction, Args};

use super::{
    super::values::{self, Bytes},
    Given,
};
use crate::{
    limits,
    shard::socket_options::{Clamp, OptionError, SocketOption, SocketOptions},
};

#[derive(Args, Debug)]
#[command(next_help_heading = "Sockets (see tuning/README.md)")]
pub(super) struct SocketArgs {
    /// Unsent bytes the kernel may hold for a player (K, M suffixes). A player that skips still gets them first: fewer is
    /// livelier, more spares sends. 0 leaves it to net.ipv4.tcp_notsent_lowat
    #[arg(long, env = "SHARDCAST_NOTSENT_LOWAT", value_name = "BYTES", value_parser = notsent_lowat)]
    #[arg(default_value_t = Bytes(limits::NOTSENT_LOWAT_BYTES_DEFAULT as usize))]
    notsent_lowat: Bytes,

    /// The kernel's send buffer per connection (K, M suffixes). It bounds the kernel's memory for a player and, with it,
    /// what the player can get per round trip; 0 lets the kernel size it as it measures the path
    #[arg(long, env = "SHARDCAST_SNDBUF", value_name = "BYTES", default_value = "0", value_parser = send_buffer)]
    sndbuf: Bytes,

    /// Name of the congestion control of all connections, such as bbr [default: net.ipv4.tcp_congestion_control]
    #[arg(long, env = "SHARDCAST_CONGESTION", value_name = "NAME", value_parser = congestion)]
    congestion: Option<String>,

    /// Connections that may wait to be accepted, per shard and address. net.core.somaxconn cuts it
    #[arg(long, env = "SHARDCAST_BACKLOG", value_name = "N", default_value_t = limits::LISTEN_BACKLOG_DEFAULT as u64)]
    #[arg(value_parser = values::whole(1..=limits::LISTEN_BACKLOG_MAX as u64, "connections"))]
    backlog: u64,

    /// Handle a connection on the shard of the CPU its packets arrive on, instead of spreading by hash: for network cards
    /// whose queues interrupt the shards' CPUs evenly. Needs a CPU per shard
    #[arg(long, env = "SHARDCAST_REUSEPORT_CPU", action = ArgAction::SetTrue, value_parser = values::switch)]
    reuseport_cpu: bool,

    /// Microseconds a receive that finds nothing asks the network card instead of waiting for its interrupt; 0 never.
    /// Some kernels want CAP_NET_ADMIN for it [default: net.core.busy_read]
    #[arg(long, env = "SHARDCAST_BUSY_POLL_US", value_name = "US")]
    #[arg(value_parser = values::whole(0..=u64::from(limits::BUSY_POLL_US_MAX), "microseconds"))]
    busy_poll_us: Option<u64>,
}

fn send_buffer(text: &str) -> Result<Bytes, String> {
    values::bytes_or_0(text, limits::SNDBUF_BYTES_MIN..=limits::SNDBUF_BYTES_MAX)
}

fn notsent_lowat(text: &str) -> Result<Bytes, String> {
    let range = limits::NOTSENT_LOWAT_BYTES_MIN as usize..=limits::NOTSENT_LOWAT_BYTES_MAX as usize;
    values::bytes_or_0(text, range)
}

fn congestion(text: &str) -> Result<String, String> {
    let sound = (1..=limits::CONGESTION_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(text.to_owned()) } else { Err(format!("expected a name; {}", Known::read())) }
}

impl SocketArgs {
    /// Checks against `cpus`, one item per shard. The error is one line.
    pub(super) fn options(self, cpus: &[Option<usize>], given: &Given) -> Result<SocketOptions, String> {
        if self.reuseport_cpu {
            let flag = given.origin("--reuseport-cpu");
            let pinned = cpus.iter().flatten().collect::<Vec<_>>();
            if pinned.len() < cpus.len() {
                return Err(format!(
                    "{flag}: the shards are not pinned to CPUs; name theirs by --cpus, without --no-pin"
                ));
            }
            if (1..pinned.len()).any(|index| pinned[..index].contains(&pinned[index])) {
                return Err(format!("{flag}: several shards share a CPU; leave --shards out, or list more --cpus"));
            }
        }
        Ok(SocketOptions {
            send_buffer: Some(self.sndbuf.0).filter(|bytes| *bytes > 0),
            // Within their ranges, all of them fit.
            notsent_lowat: u32::try_from(self.notsent_lowat.0).unwrap_or(u32::MAX),
            busy_poll_us: self.busy_poll_us.map(|us| u32::try_from(us).unwrap_or(u32::MAX)),
            congestion: self.congestion,
            backlog: i32::try_from(self.backlog).unwrap_or(i32::MAX),
            reuseport_cpu: self.reuseport_cpu,
        })
    }
}

/// Names of congestion controls this kernel has loaded, and those of them that need no privilege.
struct Known {
    available: String,
    allowed: String,
}

impl Known {
    fn read() -> Self {
        let read = |what: &str| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{what}_congestion_control"));
            text.map_or_else(|error| format!("(unknown: {error})"), |names| names.trim().replace(' ', ", "))
        };
        Self { available: read("available"), allowed: read("allowed") }
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this kernel has {}", self.available)
    }
}

/// Why the kernel does not take an option, and what to do, in one line.
pub(in super::super) fn option_fault(error: &OptionError, options: &SocketOptions, given: &Given) -> String {
    let OptionError { option, source } = error;
    let denied = source.kind() == io::ErrorKind::PermissionDenied;
    let unknown = source.raw_os_error() == Some(libc::ENOPROTOOPT);
    let (flag, value, advice) = match option {
        SocketOption::SendBuffer => {
            ("--sndbuf", options.send_buffer.unwrap_or(0).to_string(), "leave it to the kernel: 0".to_owned())
        }
        SocketOption::NotsentLowat => {
            ("--notsent-lowat", options.notsent_lowat.to_string(), "leave it to the kernel: 0".to_owned())
        }
        SocketOption::BusyPoll => {
            let us = options.busy_poll_us.unwrap_or(0).to_string();
            let advice = match (denied, unknown) {
                (true, _) => format!("it needs CAP_NET_ADMIN, or net.core.busy_read={us}"),
                (_, true) => "this kernel has no busy polling; leave it out".to_owned(),
                _ => "leave it out".to_owned(),
            };
            ("--busy-poll-us", us, advice)
        }
        SocketOption::Congestion => {
            let known = Known::read();
            let advice = match denied {
                true => format!("without CAP_NET_ADMIN there are {}", known.allowed),
                false => format!("{known}; others are modules: modprobe tcp_NAME"),
            };
            ("--congestion", options.congestion.clone().unwrap_or_default(), advice)
        }
        SocketOption::ReuseportCpu => {
            return format!("{}: {source}: it needs Linux 4.6; leave it out", given.origin("--reuseport-cpu"));
        }
    };
    format!("{} {value:?}: {source}: {advice}", given.origin(flag))
}

/// What the kernel cut short, for the log.
pub(in super::super) fn clamp_note(clamp: &Clamp) -> String {
    match clamp {
        Clamp::SendBuffer { asked_bytes, given_bytes } => {
            format!("--sndbuf {asked_bytes}: the kernel gives {given_bytes}; raise net.core.wmem_max or ask for less")
        }
        Clamp::Backlog { asked, given } => {
            format!("--backlog {asked}: the kernel gives {given}; raise net.core.somaxconn or ask for less")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fault, settings_of},
        *,
    };

    #[test]
    fn every_flag_reaches_its_option() {
        let line = "--sndbuf 256K --notsent-lowat 65536 --busy-poll-us 50 --congestion bbr --backlog 9 --reuseport-cpu";
        let options = settings_of(line).unwrap().config.sockets;
        let expected = SocketOptions {
            send_buffer: Some(256 << 10),
            notsent_lowat: 65_536,
            busy_poll_us: Some(50),
            congestion: Some("bbr".to_owned()),
            backlog: 9,
            reuseport_cpu: true,
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn absent_flags_and_zeros_leave_it_to_the_kernel() {
        assert_eq!(settings_of("").unwrap().config.sockets, SocketOptions::default());
        let zeros = settings_of("--sndbuf 0 --notsent-lowat 0 --busy-poll-us 0").unwrap().config.sockets;
        assert_eq!((zeros.send_buffer, zeros.notsent_lowat, zeros.busy_poll_us), (None, 0, Some(0)));
    }

    #[test]
    fn bad_values_are_named() {
        assert!(fault("--sndbuf 1K").contains("--sndbuf \"1K\": expected 0 or bytes such as 512K, from 16K to 512M"));
        assert!(fault("--notsent-lowat 1").starts_with("--notsent-lowat \"1\": expected 0 or bytes"));
        assert!(fault("--busy-poll-us 10001").contains("from 0 to 10000"));
        assert!(fault("--backlog 0").contains("whole number of connections from 1"));
        assert!(fault("--congestion sixteen-is-too-lo").contains("expected a name; this kernel has "));
        assert!(fault("--congestion=").contains("expected a name; this kernel has "));
    }

    #[test]
    fn steering_needs_a_cpu_for_each_shard() {
        assert!(fault("--reuseport-cpu --no-pin").starts_with("--reuseport-cpu: the shards are not pinned"));
        assert!(fault("--reuseport-cpu --shards 3").starts_with("--reuseport-cpu: several shards share a CPU"));
        assert!(settings_of("--reuseport-cpu --cpus 1").is_ok());
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        let options =
            SocketOptions { busy_poll_us: Some(50), congestion: Some("vegas".to_owned()), ..SocketOptions::default() };
        let given = Given::new(
            &["--busy-poll-us=50", "--congestion", "vegas", "--reuseport-cpu"].map(std::ffi::OsString::from),
        );
        for (option, errno, parts) in [
            (SocketOption::BusyPoll, libc::EPERM, &["--busy-poll-us \"50\": ", "CAP_NET_ADMIN", "busy_read=50"][..]),
            (SocketOption::BusyPoll, libc::ENOPROTOOPT, &["no busy polling"]),
            (SocketOption::Congestion, libc::ENOENT, &["--congestion \"vegas\": ", "this kernel has ", "modprobe"]),
            (SocketOption::Congestion, libc::EPERM, &["without CAP_NET_ADMIN there are "]),
            (SocketOption::ReuseportCpu, libc::ENOPROTOOPT, &["--reuseport-cpu: ", "Linux 4.6"]),
        ] {
            let error = OptionError { option, source: io::Error::from_raw_os_error(errno) };
            let line = option_fault(&error, &options, &given);
            assert!(parts.iter().all(|part| line.contains(part)) && line.lines().count() == 1, "{line}");
        }
    }
}
