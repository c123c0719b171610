//! `/metrics`: the shards' counters in the Prometheus text format, version 0.0.4.
//!
//! Every series exists from the start, at zero, so that a rate over it is right from its first event; but those of other nodes
//! (`relays`) come with them.

use std::{fmt::Write as _, sync::Arc, time::SystemTime};

mod callbacks;
mod relays;

use super::{
    callbacks::Counts,
    certificates,
    process::{self, Usage},
};
use crate::shard::{
    close::{CloseReason, RefuseReason, TurnedAway},
    fleet::ShardFacts,
    metrics::{Counter, ShardMetrics},
    overload::memory::Memory,
    relaying::report::RelayReport,
    tls::server::Server,
};

/// What one answer is made of.
pub(super) struct Sample<'a> {
    pub(super) shards: &'a [ShardFacts],
    /// One item per shard.
    pub(super) metrics: &'a [Arc<ShardMetrics>],
    pub(super) relays: &'a RelayReport,
    /// Of the process, if there are callbacks.
    pub(super) callbacks: Option<&'a Counts>,
    pub(super) log_bytes: u64,
    pub(super) memory: MemoryFacts,
    pub(super) tls: Option<&'a Server>,
    pub(super) log_lines_dropped: u64,
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) usage: Usage,
    pub(super) started: SystemTime,
    pub(super) uptime_s: f64,
}

/// Of the node's budget.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemoryFacts {
    pub(super) most: u64,
    pub(super) used: u64,
    pub(super) gop_bytes: usize,
}

impl From<&Memory> for MemoryFacts {
    fn from(memory: &Memory) -> Self {
        Self { most: memory.most(), used: memory.used(), gop_bytes: memory.gop_bytes() }
    }
}

/// A counter or gauge each shard has one of.
struct Series {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    read: fn(&ShardMetrics) -> i128,
}

macro_rules! series {
    ($($kind:ident $name:literal $field:ident $help:literal;)+) => {
        const SERIES: &[Series] = &[$(Series {
            name: concat!("shardcast_", $name),
            kind: stringify!($kind),
            help: $help,
            read: |shard| i128::from(shard.$field.get()),
        },)+];
    };
}

series! {
    counter "connections_accepted_total" connections_accepted "Connections accepted.";
    gauge "connections" connections "Connections open.";
    gauge "handshakes" handshakes "Connections that have not sent their connect yet.";
    gauge "overload_level" overload_level "0: none; 1: new players are refused; 2: and late ones closed; 3: and new publishers refused.";
    gauge "assembly_bytes" assembly_bytes "Bytes held of messages that are not whole, and behind requests that are not decided.";
    gauge "tls_connections" tls_connections "Connections over TLS, those to other nodes included.";
    gauge "publishers" publishers "Streams being published to this shard.";
    gauge "players" players "Players that receive a stream.";
    gauge "players_waiting" players_waiting "Players that wait for a stream or a keyframe.";
    counter "bytes_received_total" bytes_received "Bytes read from connections.";
    counter "bytes_sent_total" bytes_sent "Bytes the kernel took for connections.";
    counter "messages_received_total" messages_received "RTMP messages received.";
    counter "publish_bitrate_warnings_total" publish_rate_warnings "Times a publisher was found above --publish-bitrate-max.";
    counter "tags_malformed_total" tags_malformed "Media messages dropped because their tag is malformed.";
    counter "sends_total" sends "Sends given to the kernel.";
    counter "takeovers_total" takeovers "Times a publisher replaced another one of its name.";
    counter "skips_total" skips "Times a slow player skipped to a newer keyframe.";
    counter "joins_total" joins "Times a player started on a stream.";
    counter "mesh_messages_total" mesh_messages "Messages sent to other shards.";
    counter "mesh_full_total" mesh_full "Messages to other shards put off because a queue was full.";
    counter "doorbells_total" doorbells "Sleeping shards woken.";
    counter "reconnect_requests_total" reconnect_requests "Clients asked to go on at another server.";
    gauge "reconnecting" reconnecting "Clients asked to leave, or to be asked, that are still here.";
    gauge "leaving_publishers" leaving_publishers "Publishers that are to leave and cannot be asked to reconnect.";
    gauge "leaving_players" leaving_players "Other clients that are to leave and cannot be asked to reconnect.";
    counter "accept_failures_total" accept_failures "Accepts that failed for want of descriptors or memory.";
    gauge "listeners_shut" listeners_shut "Listeners that somebody else has shut, where no connections are taken any more.";
    counter "upstream_dials_total" upstream_dials "Connections to other nodes begun.";
    counter "pulls_begun_total" pulls_begun "Times a pulled stream was taken from a source, or went over to one.";
    counter "pulls_missed_total" pulls_missed "Times no source had a stream that was asked for.";
    counter "pushes_begun_total" pushes_begun "Times a target began to take a stream.";
    counter "slow_turns_total" slow_turns "Turns of the shard that took longer than 100 ms.";
}

/// The whole answer.
pub(super) fn render(sample: &Sample) -> String {
    let mut out = String::with_capacity(16 * 1024);
    for series in SERIES {
        head(&mut out, series.name, series.kind, series.help);
        for (shard, metrics) in sample.metrics.iter().enumerate() {
            line(&mut out, format_args!("{}{{shard=\"{shard}\"}} {}", series.name, (series.read)(metrics)));
        }
    }
    load(&mut out, sample.metrics);
    if let Some(server) = sample.tls {
        certificates::expose(&mut out, server);
    }
    let closed = ("shardcast_connections_closed_total", "Connections closed, by reason.");
    by_reason(&mut out, closed, sample.metrics, CloseReason::ALL, |shard, why| (why.label(), shard.closed(why)));
    let turned_away =
        ("shardcast_connections_turned_away_total", "Connections closed as they were accepted, by reason.");
    by_reason(&mut out, turned_away, sample.metrics, TurnedAway::ALL, |shard, why| {
        (why.label(), shard.turned_away(why))
    });
    let refused = ("shardcast_requests_refused_total", "Requests refused on connections that live on, by reason.");
    by_reason(&mut out, refused, sample.metrics, RefuseReason::ALL, |shard, why| (why.label(), shard.refused(why)));
    relays::render(&mut out, sample.relays);
    if let Some(counts) = sample.callbacks {
        callbacks::render(&mut out, counts);
    }
    node(&mut out, sample);
    out
}

/// A counter that each shard has one of for each reason.
fn by_reason<R: Copy>(
    out: &mut String,
    (name, help): (&str, &str),
    shards: &[Arc<ShardMetrics>],
    reasons: &[R],
    of: impl Fn(&ShardMetrics, R) -> (&'static str, &Counter),
) {
    head(out, name, "counter", help);
    for (shard, metrics) in shards.iter().enumerate() {
        for reason in reasons {
            let (label, counter) = of(metrics, *reason);
            line(out, format_args!("{name}{{shard=\"{shard}\",reason=\"{label}\"}} {}", counter.get()));
        }
    }
}

/// How full each shard is, and what it does about it.
fn load(out: &mut String, shards: &[Arc<ShardMetrics>]) {
    let name = "shardcast_load_ratio";
    head(
        out,
        name,
        "gauge",
        "Share of its time the shard was busy, or waiting for its CPU, over the last second or so.",
    );
    for (shard, metrics) in shards.iter().enumerate() {
        line(out, format_args!("{name}{{shard=\"{shard}\"}} {}", metrics.load_permille.get() as f64 / 1e3));
    }
    let name = "shardcast_merge_window_seconds";
    head(out, name, "gauge", "For how long messages are gathered before they are sent to players.");
    for (shard, metrics) in shards.iter().enumerate() {
        line(out, format_args!("{name}{{shard=\"{shard}\"}} {}", metrics.merge_window_us.get() as f64 / 1e6));
    }
}

/// What there is once per process.
fn node(out: &mut String, sample: &Sample) {
    head(out, "shardcast_shard_info", "gauge", "One per shard: the CPU it is pinned to (empty: none) and its driver.");
    for facts in sample.shards {
        let (shard, driver) = (facts.shard, facts.driver);
        let cpu = facts.cpu.map(|cpu| cpu.to_string()).unwrap_or_default();
        line(out, format_args!("shardcast_shard_info{{shard=\"{shard}\",cpu=\"{cpu}\",driver=\"{driver}\"}} 1"));
    }
    head(out, "shardcast_build_info", "gauge", "The version that runs.");
    line(out, format_args!("shardcast_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    let dropped = "shardcast_log_lines_dropped_total";
    head(out, dropped, "counter", "Log lines dropped because stderr was slower than they came.");
    line(out, format_args!("{dropped} {}", sample.log_lines_dropped));
    let gauges: [(&str, &str, f64); 12] = [
        (
            "shardcast_memory_max_bytes",
            "Memory the process may use (--memory-max); 0 for any.",
            sample.memory.most as f64,
        ),
        (
            "shardcast_memory_used_bytes",
            "Memory used of it, as of the last time it was weighed.",
            sample.memory.used as f64,
        ),
        (
            "shardcast_gop_max_bytes",
            "Bytes a keyframe may lie back for players to begin at it.",
            sample.memory.gop_bytes as f64,
        ),
        ("shardcast_log_bytes", "Bytes of all stream logs.", sample.log_bytes as f64),
        ("shardcast_ready", "1 while new connections are welcome.", f64::from(u8::from(sample.ready))),
        ("shardcast_draining", "1 while the node leaves service.", f64::from(u8::from(sample.draining))),
        ("shardcast_uptime_seconds", "Seconds since the start.", sample.uptime_s),
        ("process_start_time_seconds", "Start, in seconds since 1970.", process::unix_seconds(sample.started)),
        ("process_resident_memory_bytes", "Resident memory.", sample.usage.resident_bytes as f64),
        ("process_open_fds", "Open file descriptors.", sample.usage.open_files as f64),
        ("process_max_fds", "Limit on open file descriptors.", sample.usage.open_files_max as f64),
        ("process_threads", "Threads.", sample.usage.threads as f64),
    ];
    for (name, help, value) in gauges {
        head(out, name, "gauge", help);
        line(out, format_args!("{name} {value}"));
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    fn sample_of(metrics: &[Arc<ShardMetrics>]) -> String {
        let shards = [
            ShardFacts { shard: 0, cpu: Some(3), driver: "io_uring" },
            ShardFacts { shard: 1, cpu: None, driver: "epoll (legacy)" },
        ];
        render(&Sample {
            shards: &shards,
            metrics,
            relays: &RelayReport::default(),
            callbacks: None,
            log_bytes: 7,
            memory: MemoryFacts::default(),
            tls: None,
            log_lines_dropped: 5,
            ready: true,
            draining: false,
            usage: Usage { resident_bytes: 4_096, open_files: 9, open_files_max: 1_024, threads: 4 },
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            uptime_s: 2.5,
        })
    }

    #[test]
    fn counters_carry_their_shard() {
        let metrics = [Arc::new(ShardMetrics::default()), Arc::new(ShardMetrics::default())];
        metrics[1].players.add(-1);
        metrics[0].bytes_sent.add(u64::MAX);
        metrics[1].closed(CloseReason::NotRtmp).add(2);
        metrics[0].refused(RefuseReason::NameTaken).add(3);
        metrics[1].load_permille.set(250);
        metrics[0].merge_window_us.set(12_500);
        let text = sample_of(&metrics);
        for expected in [
            "shardcast_players{shard=\"1\"} -1",
            "shardcast_bytes_sent_total{shard=\"0\"} 18446744073709551615",
            "shardcast_connections_closed_total{shard=\"1\",reason=\"not_rtmp\"} 2",
            "shardcast_connections_closed_total{shard=\"0\",reason=\"shutdown\"} 0",
            "shardcast_requests_refused_total{shard=\"0\",reason=\"name_taken\"} 3",
            "shardcast_shard_info{shard=\"0\",cpu=\"3\",driver=\"io_uring\"} 1",
            "shardcast_shard_info{shard=\"1\",cpu=\"\",driver=\"epoll (legacy)\"} 1",
            "shardcast_load_ratio{shard=\"1\"} 0.25",
            "shardcast_merge_window_seconds{shard=\"0\"} 0.0125",
            "shardcast_log_bytes 7",
            "shardcast_log_lines_dropped_total 5",
            "shardcast_uptime_seconds 2.5",
            "process_start_time_seconds 1.5",
            "process_resident_memory_bytes 4096",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn every_series_has_one_head_and_no_line_stands_twice() {
        let text = sample_of(&[Arc::new(ShardMetrics::default()), Arc::new(ShardMetrics::default())]);
        let (mut heads, mut keys, mut current) = (HashSet::new(), HashSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                current = rest.split(' ').next().unwrap();
                assert!(heads.insert(current), "{current} is declared twice");
                assert_eq!(rest.ends_with(" counter"), current.ends_with("_total"), "{rest}");
            } else if !line.starts_with('#') {
                let (key, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(key.split('{').next().unwrap(), current, "{line} stands under another head");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(keys.insert(key), "{key} stands twice");
            }
        }
        assert_eq!(
            keys.len(),
            2 * (SERIES.len() + CloseReason::ALL.len() + RefuseReason::ALL.len() + TurnedAway::ALL.len() + 3) + 14
        );
    }
}
