//! `shardcast relay FROM TO`: one stream from where it is to where it should be, without a server in between.
//!
//! It is a node that listens nowhere, with two rules: a stream of its own that is always pulled, and a push of it.

use std::{path::Path, time::Duration};

use clap::{CommandFactory, Parser};

use super::{
    EXIT_USAGE, Fault, Stop,
    args::{self, DrainSettings, Face, Given, Settings, relays::UpstreamArgs},
    containment::Containment,
    rules::{Finding, Maker, Piece, PullText, PushText, Sources, of_list, secrets::Secrets, secrets::veil},
    values::{self, AdminAddr, LogFormat},
};
use crate::{
    relay::rules::RelayRules,
    shard::config::{Config, DriverChoice},
};

/// What the stream is called in here if the URLs say all that others need to know.
const OWN_NAME: &str = "relay/stream";

const EXAMPLES: &str = "\
Examples:
  shardcast relay rtmp://origin/live/show rtmp://127.0.0.1/live/show
  shardcast relay rtmp://a/live/show,rtmp://b/live/show 'rtmps://live.example/app/{env:STREAM_KEY}'
  shardcast relay unix:/run/shardcast.sock rtmp://edge/live/show --stream live/show

What breaks is connected again, for ever, until Ctrl-C.";

/// Fetches a stream from one server and sends it to others, and shows how it goes.
#[derive(Debug, Parser)]
#[command(
    name = "shardcast relay",
    override_usage = "shardcast relay FROM[,FROM..] TO [TO..] [OPTIONS]",
    after_help = EXAMPLES,
    max_term_width = 100
)]
struct RelayCommand {
    /// URL of the stream, rtmp://, rtmps:// or unix:PATH; of several, separated by commas, the first that works serves
    #[arg(value_name = "FROM")]
    from: String,

    /// URLs to send it to, all at once. {env:NAME} and {file:PATH} stand for secrets, here and in FROM
    #[arg(value_name = "TO", required = true)]
    to: Vec<String>,

    /// What the stream is called, where a URL does not say it: unix:PATH, rtmp://HOST, or one with {app} or {stream}
    #[arg(long, env = "SHARDCAST_STREAM", value_name = "APP/NAME")]
    stream: Option<String>,

    #[command(flatten)]
    upstream: UpstreamArgs,

    /// Address of the admin listener (/metrics /api/relays), or 'off'
    #[arg(long, value_name = "ADDR", default_value = "off", value_parser = values::admin_addr)]
    admin: AdminAddr,

    /// How it talks to the kernel: uring (io_uring), legacy (epoll), or auto
    #[arg(long, env = "SHARDCAST_DRIVER", value_name = "DRIVER", default_value = "auto", value_parser = values::driver)]
    driver: DriverChoice,

    /// error, warn, info, debug, off, or a filter such as info,shardcast::shard=debug
    #[arg(long, env = "SHARDCAST_LOG", value_name = "LEVEL", default_value = "warn", value_parser = values::log_filter)]
    log: String,

    /// text for people, json (one object per line) for collectors
    #[arg(long, env = "SHARDCAST_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = values::log_format)]
    log_format: LogFormat,
}

/// What the process starts with.
pub(super) fn settings(given: &Given) -> Result<Settings, Stop> {
    let own = Given::new(given.args().get(1..).unwrap_or_default());
    let command: RelayCommand = args::parse(RelayCommand::command(), &own)?;
    command.settings(&own).map_err(|line| Fault(EXIT_USAGE, line).into())
}

impl RelayCommand {
    fn settings(self, given: &Given) -> Result<Settings, String> {
        let mut notes = Vec::new();
        let mut relays =
            RelayRules { node: self.upstream.name(), timing: self.upstream.timing(), ..RelayRules::default() };
        let stream = self.stream()?;
        let streams = Piece::new(&stream, 0);
        let secrets = Secrets::new(Path::new(""));

        let proxied = self.upstream.upstream_proxy_protocol;
        let pull = |maker: &mut Maker<'_>| {
            let sources = of_list(&self.from, 0).map_err(|fault| maker.findings.push(fault)).ok()?;
            let (streams, sources) = (streams.clone(), Sources::InOrder(sources));
            maker.pull(&PullText { streams, sources, always: true, linger: None, proxied })
        };
        relays.pulls.extend(made(&secrets, "FROM", &self.from, false, &mut notes, pull)?);
        for to in &self.to {
            let push = |maker: &mut Maker<'_>| {
                let targets = vec![Piece::new(to, 0)];
                maker.push(&PushText { streams: streams.clone(), targets, proxied })
            };
            relays.pushes.extend(made(&secrets, "TO", to, true, &mut notes, push)?);
        }
        let upstream_ca = self.upstream.ca().map_err(|why| format!("{} {why}", given.origin("--upstream-ca")))?;
        let to = self.to.iter().map(|to| veil(to, true)).collect::<Vec<_>>();
        Ok(Settings {
            face: Face::Relay { title: format!("{} -> {}", veil(&self.from, false), to.join(", ")) },
            config: Config { driver: self.driver, relays, upstream_ca, ..Config::default() },
            certificates: None,
            admin: self.admin.0,
            upgrade_timeout: crate::limits::UPGRADE_TIMEOUT_DEFAULT,
            drain: DrainSettings::default(),
            callbacks: None,
            access: None,
            containment: Containment::default(),
            log: self.log,
            log_format: self.log_format,
            notes,
        })
    }

    /// What the stream is called in here.
    fn stream(&self) -> Result<String, String> {
        let urls = self.from.split(',').chain(self.to.iter().map(String::as_str));
        match (&self.stream, urls.into_iter().find(|url| !names_stream(url))) {
            (Some(stream), _) => Ok(stream.clone()),
            (None, None) => Ok(OWN_NAME.to_owned()),
            (None, Some(url)) => {
                let url = veil(url, true);
                Err(format!("{url:?} names no stream: write rtmp://HOST/APP/NAME, or say --stream APP/NAME"))
            }
        }
    }
}

/// Whether a URL says what to ask for.
fn names_stream(url: &str) -> bool {
    if url.starts_with("unix:") || url.contains("{stream}") || url.contains("{app}") {
        return false;
    }
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split('?').next().unwrap_or_default();
    // A host alone means the stream of the same name. What is no URL at all is said by its reader.
    !url.contains("://") || path.trim_end_matches('/').contains('/')
}

/// Runs `make`, and says what it found in `value` by the `name` of the argument.
fn made<T>(
    secrets: &Secrets,
    name: &str,
    value: &str,
    veil_names: bool,
    notes: &mut Vec<String>,
    make: impl FnOnce(&mut Maker<'_>) -> Option<T>,
) -> Result<Option<T>, String> {
    let mut maker = Maker { secrets, linger: Duration::ZERO, findings: Vec::new() };
    let rule = make(&mut maker);
    let said = |finding: &Finding| format!("{name} {:?}: {}", veil(value, veil_names), finding.text);
    match maker.findings.iter().find(|finding| finding.is_fault()) {
        Some(fault) => Err(said(fault)),
        None => {
            notes.extend(maker.findings.iter().map(said));
            Ok(rule)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn settings_of(line: &str) -> Result<Settings, String> {
        let words = ["shardcast"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect::<Vec<_>>();
        settings(&Given::new(&words)).map_err(|stop| match stop {
            Stop::Text(text) | Stop::Fault(Fault(_, text)) => text,
        })
    }

    #[test]
    fn it_is_a_pull_and_a_push_of_one_stream() {
        let settings = settings_of("relay rtmp://a/live/x,rtmp://b/live/x rtmp://c/live/x rtmp://d/live/y").unwrap();
        let rules = &settings.config.relays;
        assert_eq!((rules.pulls.len(), rules.pushes.len()), (1, 2));
        assert!(rules.pulls[0].always && rules.pulls[0].pattern == rules.pushes[0].pattern);
        assert!(settings.config.rtmp.is_empty() && settings.admin.is_none());
    }

    #[test]
    fn a_stream_without_a_name_is_asked_for() {
        for line in [
            "relay unix:/a rtmp://c/live/x",
            "relay rtmp://a/live/x rtmp://b",
            "relay rtmp://a/b/{stream} rtmp://c/d/e",
        ] {
            assert!(settings_of(line).unwrap_err().contains("--stream"), "{line}");
            assert!(settings_of(&format!("{line} --stream live/show")).is_ok(), "{line}");
        }
    }

    #[test]
    fn faults_name_the_argument_and_show_no_secrets() {
        for (line, parts) in [
            ("relay", &["needs FROM and TO"][..]),
            ("relay rtmp://a/b/c", &["needs TO"]),
            ("relay http://a/b/c rtmp://a/b/c", &["FROM \"http://a/b/c\": "]),
            ("relay rtmp://a/b/c http://a/b/c", &["TO \"http://a/b/*\": "]),
            ("relay rtmp://a/b/c rtmp://u:pearl@a/b", &["TO", "rtmp://*:*****@a/*", "no app"]),
            ("relay rtmp://a/b/c rtmp://a/b/{env:SHARDCAST_NO}", &["TO", "no such variable"]),
            ("relay a,,b rtmp://a/b/c", &["FROM", "expected a URL"]),
            ("relay a b --nodes x", &["did you mean --node?"]),
        ] {
            let fault = settings_of(line).unwrap_err();
            assert!(parts.iter().all(|part| fault.contains(part)) && fault.lines().count() == 1, "{line}: {fault}");
        }
    }
}
