//! The load, and the server it is put on: what all subcommands take.

use super::values::{Url, parse_bitrate, parse_duration, parse_url};
use crate::pacing::Shape;
use crate::sys;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::time::Duration;

/// The load itself, the same for all subcommands.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Streams, each with one publisher
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub streams: u32,
    /// Players of each stream
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub players: u32,
    /// Bits per second of video: 2500k, 6M (audio adds 128k)
    #[arg(long, default_value = "2500k", value_parser = parse_bitrate)]
    pub bitrate: u64,
    /// Video frames per second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub fps: u64,
    /// Time from keyframe to keyframe: 2s, 500ms
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub gop: Duration,
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub audio: Switch,
    /// Chunk size publishers send with, in bytes
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(128..=0xFF_FFFF))]
    pub chunk_size: u32,
    /// How long to measure
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Time between the last player's first keyframe and the measurement
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Players per stream that verify every message; the others only count bytes
    #[arg(long, default_value_t = 4)]
    pub sample: u32,
    /// Worker threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// New connections per second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connect_rate: u32,
    /// Drained players are read this often, as viewers a round trip away would acknowledge. Above 40 ms the kernel's
    /// delayed acknowledgements fire first, on the server's CPU
    #[arg(long, default_value = "30ms", value_parser = parse_duration)]
    pub drain_every: Duration,
    /// How long players may take for the last frames once publishers have stopped
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub drain_deadline: Duration,
    /// A run whose 99th percentile of publisher lateness is above this has no trustworthy delays
    #[arg(long, default_value = "5ms", value_parser = parse_duration)]
    pub late: Duration,
    /// Report lost, corrupt and late frames, but exit with 0
    #[arg(long)]
    pub allow_loss: bool,
    /// Show progress on standard error even if that is no terminal
    #[arg(long)]
    pub progress: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A server that runs already.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// rtmp://host:port/app/name; with several streams, name-0, name-1 ...
    #[arg(long, value_parser = parse_url)]
    pub url: Url,
    /// Publishers connect here, ADDR:PORT, and only players to --url: to measure what lies between two nodes
    #[arg(long, value_name = "ADDR")]
    pub publish_at: Option<SocketAddr>,
    /// CPUs of the load generator: worker i runs on the i-th, modulo their number
    #[arg(long, value_delimiter = ',')]
    pub pin: Vec<usize>,
    /// The server's process, to measure its CPU and memory (its children included)
    #[arg(long)]
    pub server_pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl TargetArgs {
    /// Descriptors and ports for `connections`, and the controlling thread on the load generator's first CPU.
    ///
    /// # Errors
    /// There are too few of them.
    pub fn prepare(&self, connections: u32) -> Result<(), String> {
        prepare(connections)?;
        let pinned = self.pin.first().map_or(Ok(()), |cpu| sys::pin_thread(*cpu));
        pinned.map_err(|error| format!("cannot use the CPUs of --pin: {error}"))
    }
}

impl LoadArgs {
    /// All publishers and players.
    pub fn connections(&self) -> u32 {
        self.players.saturating_add(1).saturating_mul(self.streams)
    }

    pub fn shape(&self) -> Shape {
        Shape {
            video_bits_per_second: self.bitrate,
            frames_per_second: self.fps,
            gop_ns: u64::try_from(self.gop.as_nanos()).unwrap_or(u64::MAX),
            audio: self.audio == Switch::On,
        }
    }
}

/// Raises the limit of descriptors.
///
/// # Errors
/// There are too few descriptors or ports for `connections`.
pub fn prepare(connections: u32) -> Result<(), String> {
    let limit =
        sys::raise_descriptor_limit().map_err(|error| format!("cannot raise the limit of descriptors: {error}"))?;
    if u64::from(connections) + DESCRIPTORS_OWN > limit {
        return Err(format!(
            "{connections} connections need more than the {limit} descriptors allowed; see ulimit -Hn"
        ));
    }
    let ports = sys::local_ports();
    if ports.is_some_and(|ports| connections > ports) {
        let ports = ports.unwrap_or(0);
        return Err(format!(
            "{connections} connections need more than {ports} ports; see net.ipv4.ip_local_port_range"
        ));
    }
    Ok(())
}

/// Descriptors of the load generator besides its connections.
const DESCRIPTORS_OWN: u64 = 100;
