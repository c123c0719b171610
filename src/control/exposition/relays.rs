//! The part of `/metrics` about pulls and pushes.
//!
//! No series is of one stream: there may be any number of them. A source or target has its own while there are few, at most
//! [`RELAY_LABELS_MAX`]; the others are together under the label `other`.

use std::collections::BTreeMap;

use super::{head, line};
use crate::{
    limits::RELAY_LABELS_MAX,
    shard::relaying::report::{PullLine, PushLine, RelayReport},
};

/// What is counted of each source, or each target.
#[derive(Default)]
struct Counts {
    states: BTreeMap<String, u64>,
    bytes: u64,
    attempts: u64,
    lag_ms_max: u64,
}

/// By label.
type Table = BTreeMap<String, Counts>;

pub(super) fn render(out: &mut String, report: &RelayReport) {
    let pulls = table(report.pulls.iter().map(|pull: &PullLine| {
        let PullLine { source, state, bytes_in, attempts, .. } = pull;
        (source.as_str(), state.as_str(), *bytes_in, *attempts, 0)
    }));
    let pushes = table(report.pushes.iter().map(|push: &PushLine| {
        let PushLine { target, state, bytes_out, attempts, lag_ms, .. } = push;
        (target.as_str(), state.as_str(), *bytes_out, *attempts, *lag_ms)
    }));
    gauge(out, "shardcast_pulls", "Streams that are pulled now, by source and state.", "source", &pulls);
    sum(out, "shardcast_pull_bytes", "Bytes of these pulls.", "source", &pulls, |counts| counts.bytes as f64);
    sum(out, "shardcast_pull_attempts", "Connects of these pulls.", "source", &pulls, |counts| counts.attempts as f64);
    gauge(out, "shardcast_pushes", "Pushes that go on now, by target and state.", "target", &pushes);
    sum(out, "shardcast_push_bytes", "Bytes of these pushes.", "target", &pushes, |counts| counts.bytes as f64);
    sum(out, "shardcast_push_attempts", "Connects of these pushes.", "target", &pushes, |counts| {
        counts.attempts as f64
    });
    let help = "How far the push that is furthest behind is.";
    sum(out, "shardcast_push_lag_seconds", help, "target", &pushes, |counts| counts.lag_ms_max as f64 / 1e3);
}

/// Labels in the order of the alphabet, so that the same ones have series from one time to the next.
fn table<'a>(lines: impl Iterator<Item = (&'a str, &'a str, u64, u64, u64)>) -> Table {
    let lines = lines.map(|line| (server(line.0), line)).collect::<Vec<_>>();
    let mut labels = lines.iter().map(|(label, _)| *label).collect::<Vec<_>>();
    labels.sort_unstable();
    labels.dedup();
    labels.truncate(RELAY_LABELS_MAX);
    let mut table = Table::new();
    for (label, (_, state, bytes, attempts, lag_ms)) in lines {
        let label = if labels.binary_search(&label).is_ok() { label } else { "other" };
        let counts = table.entry(label.to_owned()).or_default();
        *counts.states.entry(state.to_owned()).or_default() += 1;
        counts.bytes = counts.bytes.saturating_add(bytes);
        counts.attempts = counts.attempts.saturating_add(attempts);
        counts.lag_ms_max = counts.lag_ms_max.max(lag_ms);
    }
    table
}

/// The server of a source or target, without app and stream: `rtmp://host:port`, or a socket's path.
fn server(label: &str) -> &str {
    let start = label.find("://").map_or(0, |at| at + 3);
    match start {
        0 => label,
        _ => &label[..label[start..].find('/').map_or(label.len(), |end| start + end)],
    }
}

fn gauge(out: &mut String, name: &str, help: &str, kind: &str, table: &Table) {
    head(out, name, "gauge", help);
    for (label, counts) in table {
        for (state, number) in &counts.states {
            line(out, format_args!("{name}{{{kind}=\"{}\",state=\"{}\"}} {number}", escaped(label), escaped(state)));
        }
    }
}

/// These are gauges too: they fall when a pull or a push ends.
fn sum(out: &mut String, name: &str, help: &str, kind: &str, table: &Table, read: fn(&Counts) -> f64) {
    head(out, name, "gauge", help);
    for (label, counts) in table {
        line(out, format_args!("{name}{{{kind}=\"{}\"}} {}", escaped(label), read(counts)));
    }
}

/// A label's value as the format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(target: &str, state: &str) -> PushLine {
        PushLine {
            stream: "live/show".into(),
            shard: 0,
            target: target.into(),
            state: state.into(),
            bytes_out: 10,
            bits_per_second: 0,
            lag_ms: 500,
            attempts: 2,
            last_fault: None,
            since_ms: 0,
        }
    }

    fn text(pushes: Vec<PushLine>) -> String {
        let mut out = String::new();
        render(&mut out, &RelayReport { pulls: Vec::new(), pushes });
        out
    }

    #[test]
    fn targets_are_counted_by_server_and_state() {
        let text =
            text(vec![push("rtmp://a/x", "publishing"), push("rtmp://a/y", "publishing"), push("rtmp://b", "\"")]);
        for part in [
            "# TYPE shardcast_pulls gauge\n",
            "shardcast_pushes{target=\"rtmp://a\",state=\"publishing\"} 2\n",
            "shardcast_pushes{target=\"rtmp://b\",state=\"\\\"\"} 1\n",
            "shardcast_push_bytes{target=\"rtmp://a\"} 20\n",
            "shardcast_push_attempts{target=\"rtmp://b\"} 2\n",
            "shardcast_push_lag_seconds{target=\"rtmp://a\"} 0.5\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("live/show"));
    }

    #[test]
    fn series_are_bounded() {
        let text = text((0..1_000).map(|n| push(&format!("rtmp://host-{n:04}/x"), "publishing")).collect());
        let series = text.lines().filter(|line| line.starts_with("shardcast_pushes{")).count();
        assert_eq!(series, RELAY_LABELS_MAX + 1);
        assert!(text.contains("shardcast_pushes{target=\"other\",state=\"publishing\"} 968\n"), "{text}");
    }
}
