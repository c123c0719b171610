//! The flags for relaying: what is pulled and pushed, and how long another node is waited for.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgAction, Args};

use super::{
    super::{
        file::ConfigFile,
        rules::{
            self, Finding, Maker, PullText, PushText, Sources,
            secrets::{self, Secrets},
        },
        values,
    },
    Given,
};
use crate::{
    limits,
    relay::rules::{RelayRules, Timing},
};

#[derive(Args, Debug)]
#[command(next_help_heading = "Relaying (see docs/relay.md)")]
pub(in super::super) struct RelayArgs {
    /// Fetch streams from other nodes while somebody plays them: STREAMS=URL[,URL..], such as
    /// 'live/*=rtmp://primary/live/{stream},rtmp://backup/live/{stream}'. STREAMS is app/name, * stands for any letters; of
    /// the URLs the first that works serves. {stream} is the name asked for, {app} its app; unix:PATH is a node on this
    /// machine. The first rule that fits a stream counts. Repeat it, or separate rules by blanks
    #[arg(long, env = "SHARDCAST_PULL", value_name = "RULE")]
    pub(in super::super) pull: Vec<String>,

    /// Send what is published here, or pulled, on to other servers: STREAMS=URL[,URL..], to all URLs at once, such as
    /// 'live/show=rtmps://live.example/app/{env:STREAM_KEY}'. {env:NAME} and {file:PATH} are read at start and never shown.
    /// All rules that fit a stream count. Repeat it, or separate rules by blanks
    #[arg(long, env = "SHARDCAST_PUSH", value_name = "RULE")]
    pub(in super::super) push: Vec<String>,

    #[command(flatten)]
    pub(in super::super) upstream: UpstreamArgs,

    /// Seconds a stream is still pulled after its last player has left
    #[arg(long, env = "SHARDCAST_PULL_LINGER_S", value_name = "S", value_parser = linger())]
    #[arg(default_value_t = limits::PULL_LINGER_DEFAULT.as_secs())]
    pub(in super::super) pull_linger_s: u64,
}

/// What concerns each connection to another node; `shardcast relay` has these too.
#[derive(Args, Debug)]
#[command(next_help_heading = "Relaying (see docs/relay.md)")]
pub(in super::super) struct UpstreamArgs {
    /// What this node is called in the list of nodes a stream has passed, which keeps relays from going in circles: no two
    /// may have the same [default: the host's name and a random number]
    #[arg(long, env = "SHARDCAST_NODE", value_name = "NAME", value_parser = node)]
    pub(in super::super) node: Option<String>,

    /// Trust the certificates in this PEM file, instead of the system's, for rtmps:// to other nodes
    #[arg(long, env = "SHARDCAST_UPSTREAM_CA", value_name = "FILE")]
    pub(in super::super) upstream_ca: Option<PathBuf>,

    /// Begin connections to the nodes of --pull and --push with a PROXY header (version 2), as their --proxy-protocol expects: of
    /// what is pushed it names the publisher. In a file each [[pull]] and [[push]] has its own: proxy-protocol = "v2"
    #[arg(long, env = "SHARDCAST_UPSTREAM_PROXY_PROTOCOL", action = ArgAction::SetTrue, value_parser = values::switch)]
    pub(in super::super) upstream_proxy_protocol: bool,

    /// Milliseconds another node has to be connected to: its name resolved, TLS and RTMP shaken hands
    #[arg(long, env = "SHARDCAST_UPSTREAM_CONNECT_MS", value_name = "MS", value_parser = patience())]
    #[arg(default_value_t = limits::UPSTREAM_CONNECT_DEFAULT.as_millis() as u64)]
    pub(in super::super) upstream_connect_ms: u64,

    /// Milliseconds from then to its first media, before the next source is tried
    #[arg(long, env = "SHARDCAST_UPSTREAM_FIRST_BYTE_MS", value_name = "MS", value_parser = patience())]
    #[arg(default_value_t = limits::UPSTREAM_FIRST_BYTE_DEFAULT.as_millis() as u64)]
    pub(in super::super) upstream_first_byte_ms: u64,

    /// Milliseconds from one message of media to the next, before the next source is tried
    #[arg(long, env = "SHARDCAST_UPSTREAM_STALL_MS", value_name = "MS", value_parser = patience())]
    #[arg(default_value_t = limits::UPSTREAM_STALL_DEFAULT.as_millis() as u64)]
    pub(in super::super) upstream_stall_ms: u64,
}

impl RelayArgs {
    /// The rules that the flags are, and behind them those of the file; the files that they name go to `files`. The error is one
    /// line.
    pub(super) fn rules(
        &self,
        given: &Given,
        file: Option<&ConfigFile>,
        files: &mut Vec<PathBuf>,
        notes: &mut Vec<String>,
    ) -> Result<RelayRules, String> {
        let secrets = Secrets::new(Path::new(""));
        let linger = Duration::from_secs(self.pull_linger_s);
        let mut rules =
            RelayRules { node: self.upstream.name(), timing: self.upstream.timing(), ..RelayRules::default() };
        for (flag, values) in [("--pull", &self.pull), ("--push", &self.push)] {
            let origin = given.origin(flag);
            for value in values {
                let mut maker = Maker { secrets: &secrets, linger, findings: Vec::new() };
                match rules::of_flag(value) {
                    Ok(texts) if flag == "--pull" => {
                        let text = |(streams, urls)| PullText {
                            streams,
                            sources: Sources::InOrder(urls),
                            always: false,
                            linger: None,
                            proxied: self.upstream.upstream_proxy_protocol,
                        };
                        rules.pulls.extend(texts.into_iter().map(text).filter_map(|text| maker.pull(&text)));
                    }
                    Ok(texts) => {
                        let text = |(streams, targets)| PushText {
                            streams,
                            targets,
                            proxied: self.upstream.upstream_proxy_protocol,
                        };
                        rules.pushes.extend(texts.into_iter().map(text).filter_map(|text| maker.push(&text)));
                    }
                    Err(finding) => maker.findings.push(finding),
                }
                // What may be secret in it is not for logs, and a fault ends in one.
                let shown = secrets::veil(value, flag == "--push");
                let said = |finding: &Finding| {
                    let place = shown.get(..finding.at.start).map_or(0, |before| before.chars().count()) + 1;
                    format!("{origin} {shown:?}, character {place}: {}", finding.text)
                };
                if let Some(fault) = maker.findings.iter().find(|finding| finding.is_fault()) {
                    return Err(said(fault));
                }
                notes.extend(maker.findings.iter().map(said));
            }
            let count = rules.pulls.len().max(rules.pushes.len());
            if count > limits::RELAY_RULES_MAX {
                return Err(format!("{origin}: {count} rules, at most {} are taken", limits::RELAY_RULES_MAX));
            }
        }
        for (hidden, hiding) in rules::hidden_pulls(&rules.pulls) {
            let (origin, pulls) = (given.origin("--pull"), &rules.pulls);
            let (hidden, hiding) = (&pulls[hidden].pattern, &pulls[hiding].pattern);
            notes.push(format!(
                "{origin}: the rule for {hidden} never counts, the earlier one for {hiding} has its streams"
            ));
        }
        files.extend(secrets.into_files());
        let Some(file) = file else { return Ok(rules) };
        let secrets = file.secrets();
        let (pulls, pushes, findings) = file.rules(&secrets, linger);
        files.extend(secrets.into_files());
        if let Some(fault) = findings.iter().find(|finding| finding.is_fault()) {
            return Err(file.advised(fault));
        }
        notes.extend(findings.iter().map(|finding| file.text.in_short(finding)));
        rules.pulls.extend(pulls);
        rules.pushes.extend(pushes);
        Ok(rules)
    }
}

fn patience() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    values::whole(limits::UPSTREAM_MS_MIN..=limits::UPSTREAM_MS_MAX, "milliseconds")
}

pub(in super::super) fn linger() -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    values::whole(0..=limits::FLAG_SECONDS_MAX, "seconds")
}

/// It stands between commas in the list of hops.
fn node(text: &str) -> Result<String, String> {
    let sound = (1..=limits::NODE_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let expected = || format!("expected 1 to {} ASCII letters without blanks and commas", limits::NODE_NAME_BYTES_MAX);
    if sound { Ok(text.to_owned()) } else { Err(expected()) }
}

impl UpstreamArgs {
    pub(in super::super) fn timing(&self) -> Timing {
        Timing {
            connect: Duration::from_millis(self.upstream_connect_ms),
            first_byte: Duration::from_millis(self.upstream_first_byte_ms),
            stall: Duration::from_millis(self.upstream_stall_ms),
        }
    }

    pub(in super::super) fn name(&self) -> String {
        self.node.clone().unwrap_or_else(default_node)
    }

    /// The file of `--upstream-ca`, if it is there: its contents are looked at when they are first needed.
    pub(in super::super) fn ca(&self) -> Result<Option<PathBuf>, String> {
        let Some(path) = &self.upstream_ca else { return Ok(None) };
        match std::fs::File::open(path).and_then(|file| file.metadata()) {
            Ok(found) if found.is_file() => Ok(Some(path.clone())),
            Ok(_) => Err(format!("{path:?}: not a file; name a PEM file with the certificates to trust")),
            Err(error) => Err(format!("{path:?}: {error}; name a PEM file with the certificates to trust")),
        }
    }
}

/// The host's name, and what differs between two processes on it: a pid is the same in many containers.
fn default_node() -> String {
    use std::hash::{BuildHasher, Hasher};
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let graphic = |c: &char| c.is_ascii_graphic() && *c != ',';
    let host: String = host.chars().filter(graphic).take(limits::NODE_NAME_BYTES_MAX - 9).collect();
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish() as u32;
    format!("{host}-{number:08x}")
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{fault, settings_of},
        *,
    };

    #[test]
    fn every_flag_reaches_its_setting() {
        let line = "--pull live/*=rtmp://a/live/{stream},rtmp://b/live/{stream} --pull vod/*=rtmp://c/vod/{stream} \
                    --push live/show=rtmp://d/x/y --node edge-1 --upstream-ca /dev/../etc/hostname \
                    --upstream-connect-ms 100 --upstream-first-byte-ms 200 --upstream-stall-ms 300 --pull-linger-s 7";
        let config = settings_of(line).unwrap().config;
        let rules = config.relays;
        assert_eq!((rules.pulls.len(), rules.pushes.len(), rules.node.as_str()), (2, 1, "edge-1"));
        let timing = [rules.timing.connect, rules.timing.first_byte, rules.timing.stall];
        assert_eq!(timing.map(|time| time.as_millis()), [100, 200, 300]);
        assert!(rules.pulls.iter().all(|pull| pull.linger.as_secs() == 7 && !pull.always));
        assert!(config.upstream_ca.is_some());
    }

    #[test]
    fn two_processes_have_two_names() {
        assert_ne!(default_node(), default_node());
        assert!(node(&default_node()).is_ok(), "{}", default_node());
    }

    #[test]
    fn bad_values_are_named() {
        assert!(fault("--node a,b").starts_with("--node \"a,b\": expected 1 to 64 ASCII letters"));
        assert!(fault("--upstream-stall-ms 1").contains("from 50 to 600000"));
        assert!(fault("--upstream-ca /nowhere").starts_with("--upstream-ca \"/nowhere\": "));
        assert!(fault("--upstream-ca /").contains("not a file"));
    }
}
