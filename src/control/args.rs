//! The command line: flags, their environment variables, and faults in one line.
//!
//! [`configure`] turns arguments into the [`Settings`] the process starts with or an [`Answer`] to print: it reads the flags,
//! then the file that one of them may name, and checks what concerns several at once.

mod access;
mod addresses;
mod callbacks;
mod ceilings;
mod containment;
pub(super) mod drain;
mod faults;
pub(super) mod given;
mod proxied;
pub(super) mod relays;
mod settings;
mod sockets;
mod takeover;
#[cfg(test)]
mod tests;
mod tls;
mod upgrade;

use std::path::PathBuf;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, error::ErrorKind};

pub(super) use self::access::AccessSource;
pub(super) use self::drain::{Drain, DrainSettings};
pub(super) use self::faults::listen_fault;
pub(super) use self::given::Given;
pub(super) use self::settings::{Face, Settings};
pub(super) use self::sockets::{clamp_note, option_fault};
use self::{
    access::AccessArgs, callbacks::CallbackArgs, ceilings::CeilingArgs, containment::ContainmentArgs, drain::DrainArgs,
    proxied::ProxiedArgs, relays::RelayArgs, sockets::SocketArgs, takeover::TakeoverArgs, tls::TlsArgs,
    upgrade::UpgradeArgs,
};
use super::{
    cores::Allowance,
    file::ConfigFile,
    values::{self, AdminAddr, Bytes, CpuList, LogFormat},
};
use crate::{
    limits,
    media::TrackChoice,
    shard::{config::DriverChoice, listen_addr::ListenAddr, merge::Merging},
};

const EXAMPLES: &str = "\
Examples:
  shardcast                          one shard per CPU, RTMP on port 1935
  shardcast --rtmp 127.0.0.1:1935    for this machine only
  shardcast --merge-ms 0             the lowest delay at any load; auto (the default) merges as shards fill
  shardcast --cpus 2-5               four shards, on CPUs 2 to 5
  shardcast --pull 'live/*=rtmp://origin/live/{stream}'
                                     an edge: fetches what its players ask for
  shardcast --publish-keys keys.txt  only who has a key publishes; shardcast key NAME >> keys.txt makes one
  shardcast check edge.toml          what is wrong with a configuration file, and what it does
  shardcast relay rtmp://a/live/x rtmp://b/live/x
                                     sends one stream from a to b, without a server
  SHARDCAST_LOG=debug shardcast      every flag has an environment variable

Publish to rtmp://HOST:1935/APP/NAME and play the same URL. SIGTERM or Ctrl-C ends the
streams in order, a second one at once. A flag goes before its environment
variable, and both before the configuration file.";

/// Relays live streams: takes RTMP from encoders and sends it to RTMP players, one shard (thread) per CPU.
#[derive(Debug, Parser)]
#[command(
    name = "shardcast",
    version,
    override_usage = "shardcast [serve] [OPTIONS]\n       shardcast check FILE\n       shardcast relay FROM TO [OPTIONS]\n       shardcast key NAME [STREAMS..]\n       shardcast sign publish|play URL [OPTIONS]",
    after_help = EXAMPLES,
    max_term_width = 100
)]
pub(super) struct Args {
    /// What to do: serve is the default; the others have their own flags
    #[arg(value_name = "COMMAND", value_parser = command, hide = true)]
    command: Option<()>,

    /// Read settings from this TOML file: each flag under its own name, and [[pull]], [[push]], [[publish]] and
    /// [[play]] rules. Flags and variables go before it. shardcast check FILE says what is wrong with one and what it does
    #[arg(long, env = "SHARDCAST_CONFIG", value_name = "FILE", help_heading = "Configuration file")]
    config: Option<PathBuf>,

    /// Address to take publishers and players on: ADDR:PORT, a port alone for all IPv6 and IPv4 addresses, or unix:PATH for
    /// a socket file. Repeat it, or separate several by commas. Port 0 lets the system choose; the banner says which
    #[arg(long, env = "SHARDCAST_RTMP", value_name = "ADDR", value_delimiter = ',', default_value = "[::]:1935")]
    #[arg(value_parser = values::rtmp_addr, help_heading = "Listening")]
    rtmp: Vec<ListenAddr>,

    /// Address of the admin listener (/healthz /readyz /metrics /api/streams /api/relays /api/reconnect /api/drain), or
    /// 'off'. It has no passwords: keep it private
    #[arg(long, env = "SHARDCAST_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    #[arg(value_parser = values::admin_addr, help_heading = "Listening")]
    admin: AdminAddr,

    /// Number of shards. More than there are CPUs costs speed [default: CPUs this process may use, or the length of --cpus]
    #[arg(long, env = "SHARDCAST_SHARDS", value_name = "N", help_heading = "Cores")]
    #[arg(value_parser = values::whole(1..=limits::SHARDS_MAX as u64, "shards"))]
    shards: Option<u64>,

    /// CPUs to pin shards to, such as 0,2-5. Keep one free for network interrupts on a busy node
    #[arg(long, env = "SHARDCAST_CPUS", value_name = "LIST", value_parser = values::cpu_list, help_heading = "Cores")]
    cpus: Option<CpuList>,

    /// Let the kernel move shards between CPUs: gentler beside other programs, slower alone
    #[arg(long, env = "SHARDCAST_NO_PIN", action = ArgAction::SetTrue, value_parser = values::switch)]
    #[arg(help_heading = "Cores")]
    no_pin: bool,

    /// How shards talk to the kernel: uring (io_uring), legacy (epoll), or auto: uring where it is allowed
    #[arg(long, env = "SHARDCAST_DRIVER", value_name = "DRIVER", default_value = "auto", value_parser = values::driver)]
    #[arg(help_heading = "Cores")]
    driver: DriverChoice,

    /// Gather messages for this many milliseconds before sending them to players: up to that much delay for less CPU,
    /// because sends become fewer and larger. 0 sends at once; auto does while the shards have slack, and gathers more
    /// as they fill
    #[arg(long, env = "SHARDCAST_MERGE_MS", value_name = "auto|MS", default_value = "auto", help_heading = "Delivery")]
    #[arg(value_parser = values::merging)]
    merge_ms: Merging,

    /// With --merge-ms auto, the delay a full shard may add: its window and the pass that follows it
    #[arg(long, env = "SHARDCAST_DELAY_TARGET_MS", value_name = "MS", help_heading = "Delivery")]
    #[arg(value_parser = values::whole(limits::DELAY_TARGET_MS_MIN..=limits::DELAY_TARGET_MS_MAX, "milliseconds"))]
    #[arg(default_value_t = limits::DELAY_TARGET_DEFAULT.as_millis() as u64)]
    delay_target_ms: u64,

    /// Let audio wait up to this many milliseconds for the next video message and be sent with it: fewer sends where
    /// nothing else is merged
    #[arg(long, env = "SHARDCAST_HOLD_AUDIO_MS", value_name = "MS", default_value_t = 0, help_heading = "Delivery")]
    #[arg(value_parser = values::whole(0..=limits::HOLD_AUDIO_MS_MAX, "milliseconds"))]
    hold_audio_ms: u64,

    /// Whether a player that joins starts at the newest keyframe already sent (on: picture at once) or waits for the
    /// next (off: lowest delay)
    #[arg(long, env = "SHARDCAST_GOP_CACHE", value_name = "on|off", default_value = "on", action = ArgAction::Set)]
    #[arg(value_parser = values::on_off, help_heading = "Delivery")]
    gop_cache: bool,

    /// "off" lets the kernel join a small send with the next while the player has not acknowledged the one before: half
    /// the CPU, and up to a round trip more delay. "on" sends at once, for the lowest delay over long distances
    #[arg(long, env = "SHARDCAST_TCP_NODELAY", value_name = "on|off", default_value = "off", action = ArgAction::Set)]
    #[arg(value_parser = values::on_off, help_heading = "Delivery")]
    tcp_nodelay: bool,

    /// Give up a keyframe that lies further back than this many bytes (K, M suffixes): bounds the memory of a stream
    /// with rare keyframes
    #[arg(long, env = "SHARDCAST_GOP_BYTES_MAX", value_name = "BYTES", value_parser = values::gop_bytes)]
    #[arg(default_value_t = Bytes(limits::GOP_BYTES_MAX_DEFAULT), help_heading = "Delivery")]
    gop_bytes_max: Bytes,

    /// Tracks for players whose play names none (as show?track=v1,a2 does): a list such as v1,a2, where v* is all video, a-
    /// no audio, and a kind not named has track 0; or all. Players that did not announce Multitrack get the first of each
    /// kind. The default is everything for those that did, track 0 for others
    #[arg(long, env = "SHARDCAST_TRACKS", value_name = "LIST", help_heading = "Delivery", default_value = "default")]
    tracks: TrackChoice,

    /// A player further behind than this many milliseconds skips to the newest keyframe. Lower is livelier, higher rides
    /// out worse networks and costs memory
    #[arg(long, env = "SHARDCAST_LAG_MS_MAX", value_name = "MS", help_heading = "Delivery")]
    #[arg(value_parser = values::whole(limits::LAG_MS_MAX_MIN..=limits::LAG_MS_MAX_MAX, "milliseconds"))]
    #[arg(default_value_t = limits::LAG_MAX_DEFAULT.as_millis() as u64)]
    lag_ms_max: u64,

    /// A player that finds no keyframe within this many milliseconds starts without one
    #[arg(long, env = "SHARDCAST_JOIN_WAIT_MS", value_name = "MS", help_heading = "Delivery")]
    #[arg(value_parser = values::whole(0..=limits::JOIN_WAIT_MS_MAX, "milliseconds"))]
    #[arg(default_value_t = limits::JOIN_WAIT_DEFAULT.as_millis() as u64)]
    join_wait_ms: u64,

    /// Bytes of an outbound RTMP chunk. Large chunks cost least; a few old players want 4096 or less
    #[arg(long, env = "SHARDCAST_CHUNK_SIZE", value_name = "BYTES", help_heading = "Delivery")]
    #[arg(value_parser = values::whole(limits::CHUNK_BYTES_OUT_MIN as u64..=limits::CHUNK_BYTES_OUT_MAX as u64, "bytes"))]
    #[arg(default_value_t = limits::CHUNK_BYTES_OUT_DEFAULT as u64)]
    chunk_size: u64,

    /// Seconds a player waits for a stream that nobody publishes yet; 0 for ever
    #[arg(long, env = "SHARDCAST_PLAY_WAIT_S", value_name = "S", help_heading = "Streams")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::PLAY_WAIT_DEFAULT.as_secs())]
    play_wait_s: u64,

    /// Close a publisher that has sent no media for this many seconds, which frees its name; 0 never
    #[arg(long, env = "SHARDCAST_IDLE_TIMEOUT_S", value_name = "S", help_heading = "Streams")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::PUBLISHER_IDLE_DEFAULT.as_secs())]
    idle_timeout_s: u64,

    /// Seconds the players of a lost publisher wait for it to come back before their stream ends
    #[arg(long, env = "SHARDCAST_UNPUBLISH_GRACE_S", value_name = "S", help_heading = "Streams")]
    #[arg(value_parser = values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds"))]
    #[arg(default_value_t = limits::UNPUBLISH_GRACE_DEFAULT.as_secs())]
    unpublish_grace_s: u64,

    #[command(flatten)]
    takeover: TakeoverArgs,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    proxied: ProxiedArgs,

    #[command(flatten)]
    drain: DrainArgs,

    #[command(flatten)]
    upgrade: UpgradeArgs,

    #[command(flatten)]
    ceilings: CeilingArgs,

    #[command(flatten)]
    relays: RelayArgs,

    #[command(flatten)]
    callbacks: CallbackArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    sockets: SocketArgs,

    #[command(flatten)]
    containment: ContainmentArgs,

    /// error, warn, info, debug, trace (not in release builds), off, or a filter such as info,shardcast::shard=debug
    #[arg(long, env = "SHARDCAST_LOG", value_name = "LEVEL", default_value = "info", value_parser = values::log_filter)]
    #[arg(help_heading = "Log (on stderr)")]
    log: String,

    /// text for people, json (one object per line) for collectors
    #[arg(long, env = "SHARDCAST_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = values::log_format, help_heading = "Log (on stderr)")]
    log_format: LogFormat,
}

fn command(text: &str) -> Result<(), String> {
    match text {
        "serve" => Ok(()),
        "check" | "relay" | "key" | "sign" => Err("it goes first, before all flags".to_owned()),
        _ => Err("expected serve (the default), check, relay, key or sign".to_owned()),
    }
}

/// What is printed instead of serving.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `--help` or `--version`, for stdout.
    Text(String),
    /// One line, without its end, for stderr.
    Fault(String),
}

/// The settings of a command line, the environment and the configuration file it names. `allowance` has the CPUs.
pub(super) fn configure(given: &Given, allowance: &Allowance) -> Result<Settings, Answer> {
    let (args, given, file) = read(given)?;
    settings::settings(args, &given, file.as_ref(), allowance).map_err(Answer::Fault)
}

fn read(given: &Given) -> Result<(Args, Given, Option<ConfigFile>), Answer> {
    let args = parse::<Args>(Args::command(), given)?;
    let Some(path) = &args.config else { return Ok((args, given.clone(), None)) };
    let origin = given.origin("--config");
    let file = ConfigFile::read(path, &Args::command()).map_err(|why| Answer::Fault(format!("{origin} {why}")))?;
    let (args, given) = read_on(given, &file)?;
    Ok((args, given, Some(file)))
}

/// Once more, with what is in the file.
fn read_on(given: &Given, file: &ConfigFile) -> Result<(Args, Given), Answer> {
    if let Some(fault) = file.findings.iter().find(|finding| finding.is_fault()) {
        return Err(Answer::Fault(file.advised(fault)));
    }
    let given = given.with_file(file.places());
    Ok((parse(file.as_defaults(Args::command()), &given)?, given))
}

/// As [`configure`], with a file that has been read.
pub(super) fn configured(given: &Given, file: &ConfigFile, allowance: &Allowance) -> Result<Settings, Answer> {
    let (args, given) = read_on(given, file)?;
    settings::settings(args, &given, Some(file), allowance).map_err(Answer::Fault)
}

/// What says who may publish and play, read again as at the start of `given`. The error is one line.
pub(super) fn access(given: &Given) -> Result<AccessSource, String> {
    match read(given) {
        Ok((args, given, file)) => Ok(AccessSource::new(args.access, &given, file.as_ref())),
        Err(Answer::Fault(line) | Answer::Text(line)) => Err(line),
    }
}

/// Reads the flags of `command`; the environment fills in for those that are absent.
pub(super) fn parse<T: FromArgMatches>(command: clap::Command, given: &Given) -> Result<T, Answer> {
    let command = command.mut_args(|arg| arg.hide_env_values(true));
    let read = command.try_get_matches_from(given.args()).and_then(|matches| T::from_arg_matches(&matches));
    read.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            Answer::Text(format!("{}\n", error.to_string().trim_end()))
        }
        _ => Answer::Fault(faults::one_line(&error, given)),
    })
}
