//! The command line. [`load`] is what all subcommands take, [`commands`] what each takes besides, [`servers`] which
//! servers are started here, and [`values`] how single values are read.

mod commands;
mod load;
mod servers;
mod values;

pub use commands::{CapacityArgs, ChurnArgs, CompareArgs, HostileArgs, IdleArgs, Kind, MaxArgs, RunArgs, StallArgs};
pub use load::{LoadArgs, TargetArgs, prepare};
pub use servers::ServersArgs;
pub use values::Url;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Measures any RTMP server from outside: delay, loss, CPU and memory.
#[derive(Debug, Parser)]
#[command(name = "shardcast-loadtest", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// One load on a server that runs already
    Run(RunArgs),
    /// Chunks and bytes a server delivers when publishers do not pace themselves, but send as fast as verified players
    /// receive; --bitrate, --fps and --gop shape the frames. For chunks of 128 bytes on both sides, set the server's too
    Max(MaxArgs),
    /// Players that stop reading among healthy ones, on a server that runs already
    Stall(StallArgs),
    /// The largest audience within a delay bound and without loss, on a server that runs already or on those of
    /// `compare`; --players is where the search begins
    Capacity(CapacityArgs),
    /// Storms of connect, play and leave, beside an audience that watches; --duration is that of each storm
    Churn(ChurnArgs),
    /// Hostile connections of all kinds beside an audience that watches: what it notices, and whether the server is
    /// afterwards what it was before; --duration is not used
    Hostile(HostileArgs),
    /// Memory per connection, on a freshly started server
    Idle(IdleArgs),
    /// The same load on Shardcast and on nginx-rtmp in turn, each started and stopped here
    Compare(CompareArgs),
}

impl Cli {
    /// Reads the command line; some subcommands have defaults of their own for the load.
    pub fn read() -> Self {
        let matches = Self::with_defaults().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    fn with_defaults() -> clap::Command {
        DEFAULTS.iter().fold(Self::command(), |command, (subcommand, argument, value)| {
            command.mut_subcommand(subcommand, |sub| sub.mut_arg(argument, |arg| arg.default_value(value)))
        })
    }
}

/// Subcommand, argument and its default.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("idle", "bitrate", "100k"),
    ("idle", "connect_rate", "1000"),
    ("capacity", "bitrate", "1M"),
    ("capacity", "duration", "8s"),
    ("max", "chunk_size", "128"),
    ("max", "drain_every", "2ms"),
    ("max", "sample", "1"),
    ("max", "players", "20"),
    ("hostile", "players", "200"),
    ("hostile", "sample", "200"),
    ("hostile", "bitrate", "500k"),
    ("churn", "players", "4"),
    ("churn", "bitrate", "500k"),
    ("churn", "duration", "5s"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::with_defaults().debug_assert();
    }
}
