//! The command line: what each subcommand takes and how its values are read.

use crate::pacing::Shape;
use crate::sys;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Memory per connection, on a freshly started server
    Idle(IdleArgs),
    /// The same load on Shardcast and on nginx-rtmp in turn, each started and stopped here
    Compare(CompareArgs),
}

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
    /// CPUs of the load generator: worker i runs on the i-th, modulo their number
    #[arg(long, value_delimiter = ',')]
    pub pin: Vec<usize>,
    /// The server's process, to measure its CPU and memory (its children included)
    #[arg(long)]
    pub server_pid: Option<u32>,
}

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
    /// Storms with so many attempts under way, each followed by the next when it is answered
    #[arg(long, value_delimiter = ',', default_value = "1,32", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: Vec<u32>,
    /// Storms with so many attempts a second, however fast the server answers
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Vec<u32>,
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

/// Servers that are started here.
#[derive(Clone, Debug, Args)]
pub struct ServersArgs {
    /// The CPU servers run on
    #[arg(long, default_value_t = 0)]
    pub server_cpu: usize,
    /// The CPU the load generator runs on
    #[arg(long, default_value_t = 1)]
    pub client_cpu: usize,
    /// Values of Shardcast's --merge-ms, each measured as a server of its own
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub merge_ms: Vec<u32>,
    /// The Shardcast binary; without this and --nginx, both servers take part and the binary is the one beside this
    #[arg(long)]
    pub shardcast: Option<PathBuf>,
    /// nginx with its RTMP module takes part
    #[arg(long)]
    pub nginx: bool,
    /// The nginx binary
    #[arg(long, default_value = "/usr/sbin/nginx")]
    pub nginx_path: PathBuf,
    /// nginx's RTMP module; "builtin" if it is compiled in
    #[arg(long, default_value = "/usr/lib/nginx/modules/ngx_rtmp_module.so")]
    pub nginx_module: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
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

/// Where the streams are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub address: SocketAddr,
    pub tc_url: String,
    pub app: String,
    pub name: String,
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
    ("churn", "players", "4"),
    ("churn", "bitrate", "500k"),
    ("churn", "duration", "5s"),
];

impl Url {
    /// Of a server that was started here.
    pub fn of(address: SocketAddr) -> Self {
        Self { address, tc_url: format!("rtmp://{address}/live"), app: "live".into(), name: "load".into() }
    }

    /// The names of `streams` streams.
    pub fn names(&self, streams: u32) -> Vec<String> {
        match streams {
            1 => vec![self.name.clone()],
            _ => (0..streams).map(|stream| format!("{}-{stream}", self.name)).collect(),
        }
    }
}

/// The last part of the path is the name, all before it the app. Names are resolved once, here.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let rest = text.strip_prefix("rtmp://").ok_or("a URL begins with rtmp://")?;
    let (host, path) = rest.split_once('/').ok_or("a URL is rtmp://host:port/app/name: the app is missing")?;
    let (app, name) = path.rsplit_once('/').ok_or("a URL is rtmp://host:port/app/name: the name is missing")?;
    if app.is_empty() || name.is_empty() {
        return Err("neither app nor name may be empty".into());
    }
    let after_literal = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let with_port = if after_literal.contains(':') { host.to_owned() } else { format!("{host}:1935") };
    let mut addresses = with_port.to_socket_addrs().map_err(|error| format!("{with_port}: {error}"))?;
    let address = addresses.next().ok_or_else(|| format!("{with_port} has no address"))?;
    Ok(Url { address, tc_url: format!("rtmp://{host}/{app}"), app: app.to_owned(), name: name.to_owned() })
}

/// A share above 0, below 1.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| format!("{text} is no share like 0.05"))
}

/// A number with k, M or G behind it, or none.
pub fn parse_bitrate(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let bits = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bits.filter(|bits| (1..=100_000_000_000).contains(bits)).ok_or_else(|| format!("{text} is no bit rate like 2500k"))
}

/// A number of seconds, or with ms, s or m behind it; at most a week.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000.0)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1_000.0)
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * ms / 1_000.0);
    let seconds = seconds.filter(|seconds| (0.0..=604_800.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("{text} is no time like 20s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::with_defaults().debug_assert();
    }

    #[test]
    fn urls_have_a_host_an_app_and_a_name() {
        let url = parse_url("rtmp://127.0.0.1:19350/live/deep/cam").unwrap();
        assert_eq!(url.address, "127.0.0.1:19350".parse().unwrap());
        assert_eq!((url.app.as_str(), url.name.as_str()), ("live/deep", "cam"));
        assert_eq!(url.tc_url, "rtmp://127.0.0.1:19350/live/deep");
        assert_eq!(url.names(2), ["cam-0", "cam-1"]);
        assert_eq!(parse_url("rtmp://[::1]/live/cam").unwrap().address, "[::1]:1935".parse().unwrap());
        for bad in [
            "http://a/b/c",
            "rtmp://127.0.0.1",
            "rtmp://127.0.0.1/live",
            "rtmp://127.0.0.1/live/",
            "rtmp://127.0.0.1//a",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bit_rates_and_times_take_units() {
        assert_eq!(parse_bitrate("2500k"), Ok(2_500_000));
        assert_eq!(parse_bitrate("6M"), Ok(6_000_000));
        assert_eq!(parse_bitrate("800000"), Ok(800_000));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("15"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("40ms"), Ok(Duration::from_millis(40)));
        for bad in ["", "k", "-1k", "é", "99999999999999999999G"] {
            assert!(parse_bitrate(bad).is_err(), "{bad}");
        }
        for bad in ["", "s", "-1s", "NaN", "inf", "1h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
