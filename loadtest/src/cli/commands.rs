//! What each subcommand takes besides the load.

use super::load::{LoadArgs, TargetArgs};
use super::servers::ServersArgs;
use super::values::{Url, parse_duration, parse_share, parse_url};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Write the report with plots to this file: one page without scripts that loads nothing
    #[arg(long)]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Args)]
pub struct StallArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Players of each stream, besides the healthy --players, that read nothing more once the measurement begins
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stalled: u32,
    /// Receive buffer of those players, in bytes: the larger, the longer a server cannot notice them
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_024..=67_108_864))]
    pub receive_buffer: u32,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Args)]
pub struct IdleArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// What the players do
    #[arg(long, value_enum, default_value_t = Kind::Playing)]
    pub kind: Kind,
    /// The smaller audience
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub small: u32,
    /// The larger audience
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub large: u32,
    /// Time between an audience's last join and the end of its readings
    #[arg(long, default_value = "6s", value_parser = parse_duration)]
    pub settle: Duration,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Args)]
pub struct MaxArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Args)]
pub struct ChurnArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Storms with so many attempts under way, each followed by the next when it is answered; 1,32 if no other storm is
    /// asked for
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: Vec<u32>,
    /// Storms with so many attempts a second, however fast the server answers
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Vec<u32>,
    /// Storms with so many attempts at the same moment once a second, which stay for half a second as viewers would
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub burst: Vec<u32>,
    /// Also measures how long a player takes to receive a whole cached GOP, one player at a time at the end of a GOP
    #[arg(long)]
    pub whole_gop: bool,
    #[command(flatten)]
    pub load: LoadArgs,
}

#[derive(Debug, Args)]
pub struct HostileArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Hostile connections in each round, the kinds in turn
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(25..=1_000_000))]
    pub connections: u32,
    /// How often that is done
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// How long a round lasts: they come in its first half, and those that the server has not closed leave at its end
    #[arg(long, default_value = "12s", value_parser = parse_duration)]
    pub storm: Duration,
    /// How long the audience watches before the first round
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub calm: Duration,
    /// All from one address; otherwise each has its own in 127.0.0.0/8, so that limits per address do not count
    #[arg(long)]
    pub one_address: bool,
    #[command(flatten)]
    pub load: LoadArgs,
}

/// What an idle connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Players of a stream that is published
    Playing,
    /// Players that asked for a stream nobody publishes; the server must let them wait longer than the run takes
    Waiting,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Write the report with plots to this file: one page without scripts that loads nothing
    #[arg(long)]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Runs per server
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    #[command(flatten)]
    pub servers: ServersArgs,
}

#[derive(Debug, Args)]
pub struct CapacityArgs {
    #[command(flatten)]
    pub load: LoadArgs,
    /// The 99th percentile of delay that an audience has to stay within
    #[arg(long, default_value = "200ms", value_parser = parse_duration)]
    pub delay_p99: Duration,
    /// Largest audience tried, in players of each stream
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max: u32,
    /// The search ends when the next larger audience that failed is within this share
    #[arg(long, default_value_t = 0.05, value_parser = parse_share)]
    pub precision: f64,
    /// A server that runs already, instead of those started here: rtmp://host:port/app/name
    #[arg(long, value_parser = parse_url, conflicts_with_all = ["shardcast", "nginx"])]
    pub url: Option<Url>,
    /// The process of the server at --url
    #[arg(long, requires = "url")]
    pub server_pid: Option<u32>,
    /// CPUs of the load generator with --url
    #[arg(long, value_delimiter = ',', requires = "url")]
    pub pin: Vec<usize>,
    #[command(flatten)]
    pub servers: ServersArgs,
}
