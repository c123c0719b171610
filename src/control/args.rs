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
pub(super) mod given;
mod proxied;
pub(super) mod relays;
mod sockets;
mod takeover;
mod tls;
mod upgrade;

use std::{
    error::Error as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{
    ArgAction, CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

pub(super) use self::access::AccessSource;
pub(super) use self::drain::{Drain, DrainSettings};
pub(super) use self::given::Given;
pub(super) use self::sockets::{clamp_note, option_fault};
use self::{
    access::AccessArgs, callbacks::CallbackArgs, ceilings::CeilingArgs, containment::ContainmentArgs, drain::DrainArgs,
    proxied::ProxiedArgs, relays::RelayArgs, sockets::SocketArgs, takeover::TakeoverArgs, tls::TlsArgs,
    upgrade::UpgradeArgs,
};
use super::{
    access::Access,
    callbacks::Plan,
    certificates::CertificateFiles,
    containment::Containment,
    cores::{self, Allowance},
    file::ConfigFile,
    reload::Reload,
    rules::access::AccessMade,
    values::{self, AdminAddr, Bytes, CpuList, LogFormat},
};
use crate::{
    access::AccessInForce,
    limits,
    media::TrackChoice,
    shard::{
        config::{Config, DriverChoice},
        listen_addr::ListenAddr,
        merge::Merging,
    },
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

    /// Address of the admin listener (/healthz /readyz /metrics /api/streams /api/relays /api/reconnect /api/drain), or 'off'. It has
    /// no passwords: keep it private
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
    settings(args, &given, file.as_ref(), allowance).map_err(Answer::Fault)
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
    settings(args, &given, Some(file), allowance).map_err(Answer::Fault)
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
        _ => Answer::Fault(one_line(&error, given)),
    })
}

fn one_line(error: &clap::Error, given: &Given) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    // "--rtmp <ADDR>" without its placeholder.
    let argument = context(ContextKind::InvalidArg).and_then(|text| text.split([' ', '=']).next()).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    match (error.kind(), error.source()) {
        (ErrorKind::UnknownArgument, _) => {
            let hint = context(ContextKind::SuggestedArg).map(|arg| format!(" (did you mean {arg}?)"));
            let what = if argument.starts_with('-') { "option" } else { "argument" };
            format!("unknown {what} {argument:?}{}; shardcast --help lists the options", hint.unwrap_or_default())
        }
        (ErrorKind::ValueValidation, Some(why)) if argument.starts_with("--") => {
            format!("{} {value:?}: {why}", given.origin(argument))
        }
        (ErrorKind::ValueValidation, Some(why)) => format!("unknown command {value:?}: {why}; see shardcast --help"),
        (ErrorKind::InvalidValue, _) if value.is_empty() => format!("{argument} needs a value; see shardcast --help"),
        (ErrorKind::ArgumentConflict, _) => format!("{argument} is given more than once"),
        (ErrorKind::TooManyValues, _) => format!("{argument} takes no value, but got {value:?}"),
        (ErrorKind::MissingRequiredArgument, _) => {
            let names = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(names)) => names.as_slice(),
                _ => &[],
            };
            let missing = names.iter().map(|name| name.trim_matches(['<', '>', '.']));
            let command = given.args().first().map_or(Default::default(), |name| name.to_string_lossy());
            let missing = missing.collect::<Vec<_>>().join(" and ");
            format!("{command} needs {missing}; see shardcast {command} --help")
        }
        (ErrorKind::InvalidUtf8, _) => "an argument or SHARDCAST_ variable is not UTF-8".to_owned(),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// What the operator sees while the process runs.
#[derive(Debug)]
pub(super) enum Face {
    /// A server: where it listens, and what to try.
    Banner,
    /// One stream from one place to others: how it goes.
    Relay { title: String },
}

/// What the process starts with.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) face: Face,
    pub(super) config: Config,
    /// What is read again when it changes.
    pub(super) certificates: Option<CertificateFiles>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) drain: DrainSettings,
    /// Who is asked and told about clients.
    pub(super) callbacks: Option<Plan>,
    /// None: everybody may do everything, and there is nothing to read again.
    pub(super) access: Option<Access>,
    /// How long a process that was replaced serves those it has.
    pub(super) upgrade_timeout: Duration,
    pub(super) containment: Containment,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    /// For the log once it runs: accepted, but worth knowing.
    pub(super) notes: Vec<String>,
}

impl Settings {
    /// That `addr` is from.
    pub(super) fn flag_of(&self, addr: &ListenAddr) -> &'static str {
        let is_plain = self.config.rtmp.contains(addr) || !self.config.rtmps.contains(addr);
        if is_plain { "--rtmp" } else { "--rtmps" }
    }

    /// What is read again while the node runs.
    pub(super) fn reloads(&self) -> Vec<Reload> {
        let certificates = self.certificates.clone().zip(self.config.tls.clone());
        let certificates = certificates.map(|(files, server)| files.reload(server));
        let access = self.access.clone().map(Access::into_reload);
        certificates.into_iter().chain(access).collect()
    }
}

/// Checks flags against each other and the CPUs in `allowance`. The error is one line.
fn settings(args: Args, given: &Given, file: Option<&ConfigFile>, allowance: &Allowance) -> Result<Settings, String> {
    addresses::check(&args.rtmp, &args.tls.rtmps, args.admin.0, given)?;
    let listed = args.cpus.as_ref().map(|list| list.0.as_slice());
    let shards = args.shards.and_then(|n| usize::try_from(n).ok());
    let plan = cores::plan(shards, listed, !args.no_pin, allowance)
        .map_err(|why| format!("{} {:?}: {why}", given.origin("--cpus"), cores::list(listed.unwrap_or(&[]))))?;
    let sockets = args.sockets.options(&plan.cpus, given)?;
    let mut notes = plan.notes;
    let mut secrets: Vec<PathBuf> = args.callbacks.secret_file().map(Path::to_owned).into_iter().collect();
    let relays = args.relays.rules(given, file, &mut secrets, &mut notes)?;
    let access = AccessSource::new(args.access, given, file);
    let AccessMade { rules, files } = access.make(&mut notes)?;
    let in_force = Arc::new(AccessInForce::new(rules));
    let upstream_ca = args.relays.upstream.ca();
    let upstream_ca = upstream_ca.map_err(|why| format!("{} {why}", given.origin("--upstream-ca")))?;
    let callbacks = args.callbacks.plan(given, &relays.node, upstream_ca.clone(), &mut notes)?;
    let tls = args.tls.served(given, &mut notes)?;
    let config = Config {
        rtmp: args.rtmp,
        rtmps: args.tls.rtmps,
        tls: tls.server,
        balancers: args.proxied.balancers(given, &mut notes)?,
        cpus: plan.cpus,
        driver: args.driver,
        chunk_bytes: usize::try_from(args.chunk_size).unwrap_or(limits::CHUNK_BYTES_OUT_DEFAULT),
        merging: args.merge_ms,
        delay_target: Duration::from_millis(args.delay_target_ms),
        hold_audio: Duration::from_millis(args.hold_audio_ms),
        gop_cache: args.gop_cache,
        tcp_nodelay: args.tcp_nodelay,
        gop_bytes_max: args.gop_bytes_max.0,
        tracks: args.tracks,
        segment_bytes: limits::SEGMENT_BYTES,
        lag_max: Duration::from_millis(args.lag_ms_max),
        join_wait: Duration::from_millis(args.join_wait_ms),
        play_wait: Duration::from_secs(args.play_wait_s),
        publisher_idle: Duration::from_secs(args.idle_timeout_s),
        unpublish_grace: Duration::from_secs(args.unpublish_grace_s),
        sockets,
        relays,
        upstream_ca,
        ceilings: args.ceilings.ceilings(),
        access: Arc::clone(&in_force),
        takeover: args.takeover.takeover,
        callbacks: callbacks.as_ref().map(Plan::for_shards).unwrap_or_default(),
        predecessor: None,
    };
    Ok(Settings {
        face: Face::Banner,
        config,
        certificates: tls.files,
        admin: args.admin.0,
        drain: args.drain.drain(),
        callbacks,
        containment: args.containment.containment(args.config, secrets),
        access: Some(Access { source: access, files, in_force }),
        upgrade_timeout: args.upgrade.timeout(),
        log: args.log,
        log_format: args.log_format,
        notes,
    })
}

/// Why the listener of `flag` does not start, in one line.
pub(super) fn listen_fault(flag: &str, addr: &ListenAddr, error: &std::io::Error, given: &Given) -> String {
    let is_file = matches!(addr, ListenAddr::Unix(_));
    let advice = match error.kind() {
        std::io::ErrorKind::AddrInUse if is_file => "another process listens there; stop it or choose another path",
        std::io::ErrorKind::PermissionDenied if is_file => "this user may not make or replace that file",
        std::io::ErrorKind::NotFound if is_file => "make the directory first",
        std::io::ErrorKind::AlreadyExists if is_file => "remove it or choose another path",
        _ if is_file => "choose another path",
        std::io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another port",
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher port",
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address; see ip address",
        _ => "choose another address",
    };
    format!("{} \"{addr}\": {error}: {advice}", given.origin(flag))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        std::iter::once("shardcast").chain(line.split_whitespace()).map(OsString::from).collect()
    }

    pub(super) fn settings_of(line: &str) -> Result<Settings, Answer> {
        let allowance = Allowance { cpus: vec![0, 1], parallelism: 2 };
        configure(&Given::new(&words(line)), &allowance)
    }

    pub(super) fn fault(line: &str) -> String {
        match settings_of(line) {
            Err(Answer::Fault(text)) => {
                assert_eq!(text.lines().count(), 1, "{text}");
                text
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_command_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        for line in ["", "serve"] {
            let settings = settings_of(line).unwrap();
            assert_eq!(settings.config.rtmp, [ListenAddr::Tcp("[::]:1935".parse().unwrap())]);
            assert_eq!(settings.admin, Some("127.0.0.1:9090".parse().unwrap()));
            assert_eq!(settings.config.cpus, [Some(0), Some(1)]);
        }
    }

    #[test]
    fn defaults_are_the_configurations() {
        let ours = settings_of("--rtmp 1935 --no-pin --shards 1").unwrap().config;
        let mut theirs = Config { rtmp: ours.rtmp.clone(), ..Config::default() };
        theirs.relays.node.clone_from(&ours.relays.node);
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let line = "serve --rtmp 1935,127.0.0.1:1936 --rtmp :1937,unix:/run/s.sock --shards 1 --cpus 1 --chunk-size 4096 --merge-ms 40 \
                    --gop-cache off --gop-bytes-max 8M --tracks v1,a* --lag-ms-max 900 --join-wait-ms 3 --play-wait-s 0 \
                    --idle-timeout-s 5 --unpublish-grace-s 6 --admin off --driver legacy --log debug --log-format json";
        let settings = settings_of(line).unwrap();
        let config = &settings.config;
        let ports = config.rtmp.iter().map(|addr| addr.tcp().map(|addr| addr.port())).collect::<Vec<_>>();
        assert_eq!(ports, [Some(1935), Some(1936), Some(1937), None]);
        assert_eq!(config.rtmp[3], ListenAddr::Unix("/run/s.sock".into()));
        assert_eq!((config.cpus.as_slice(), config.driver), (&[Some(1)][..], DriverChoice::Legacy));
        assert_eq!((config.chunk_bytes, config.gop_bytes_max, config.gop_cache), (4_096, 8 << 20, false));
        assert_eq!(config.merging, Merging::Fixed(Duration::from_millis(40)));
        assert_eq!((config.lag_max.as_millis(), config.join_wait.as_millis()), (900, 3));
        assert_eq!(config.play_wait, Duration::ZERO);
        assert_eq!(config.tracks.to_string(), "v1,a*");
        assert_eq!((config.publisher_idle.as_secs(), config.unpublish_grace.as_secs()), (5, 6));
        assert_eq!((settings.admin, settings.log.as_str(), settings.log_format), (None, "debug", LogFormat::Json));
    }

    #[test]
    fn a_fault_names_the_flag_the_value_and_what_to_do() {
        assert_eq!(
            fault("--merge-ms 5000"),
            "--merge-ms \"5000\": expected auto, or a whole number of milliseconds from 0 to 1000"
        );
        assert!(fault("--merge-ms=x").starts_with("--merge-ms \"x\": expected"));
        assert!(fault("--rtmp 1935,nowhere").starts_with("--rtmp \"nowhere\": expected an IP address"));
        assert!(fault("--cpus 7").starts_with("--cpus \"7\": CPU 7 is not among"));
        assert!(fault("--rtmp 1935 --rtmp 1935").contains("given twice"));
        assert!(fault("--rtmp unix:a --rtmp unix:a").starts_with("--rtmp \"unix:a\": given twice"));
        assert!(fault("--rtmp unix:").contains("the path is missing"));
        assert!(fault("--rtmp /run/s.sock").ends_with("for a socket file write unix:/run/s.sock"));
        assert!(fault(&format!("--rtmp unix:{}", "a".repeat(108))).contains("at most 107 bytes"));
        assert!(fault("--rtmp 9090").starts_with("--admin \"127.0.0.1:9090\": --rtmp has that port"));
        assert!(settings_of("--rtmp 127.0.0.2:9090").is_ok());
        assert!(fault("--tracks video").starts_with("--tracks \"video\": expected tracks such as v1,a2"));
        assert!(fault("--driver epoll").contains("auto, uring or legacy"));
        assert!(fault("--shards 0").contains("from 1 to 64"));
    }

    #[test]
    fn mistyped_words_get_a_hint() {
        assert!(fault("--merge-m 5").contains("did you mean --merge-ms?"));
        assert!(fault("--nonsense").starts_with("unknown option \"--nonsense\""));
        assert!(fault("play").starts_with("unknown command \"play\": expected serve (the default), check, relay"));
        assert!(fault("serve serve").starts_with("unknown argument \"serve\""));
        assert!(fault("--rtmp").starts_with("--rtmp needs a value"));
        assert!(fault("--merge-ms 1 --merge-ms 2").starts_with("--merge-ms is given more than once"));
        assert!(fault("--no-pin=1").contains("--no-pin"));
    }

    #[test]
    fn help_names_every_variable() {
        let Err(Answer::Text(help)) = settings_of("--help") else { panic!("no help") };
        for arg in Args::command().get_arguments().filter(|arg| arg.get_long().is_some_and(|l| l != "help")) {
            let variable = arg.get_env().unwrap_or_else(|| panic!("{arg} has no variable")).to_str().unwrap();
            let flag = arg.get_long().unwrap();
            assert!(help.contains(variable) && help.contains(&format!("--{flag}")), "{flag}");
            assert_eq!(variable, format!("SHARDCAST_{}", flag.to_uppercase().replace('-', "_")));
        }
    }
}
