//! How a `shardcast relay` goes: one line renewed in place on a terminal, a line now and then elsewhere.

use std::{
    io::{IsTerminal, Write as _},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::admin::Node;
use crate::{
    limits::{PROGRESS_INTERVAL, PROGRESS_PLAIN_INTERVAL, STREAMS_PATIENCE},
    shard::relaying::report::{PushLine, RelayReport},
};

/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;

/// Shows `title` and then how it goes, until the runtime ends.
pub(super) async fn show(node: Arc<Node>, title: String) {
    let terminal = std::io::stdout().is_terminal();
    say(&format!("{title}\nConnecting again whenever it breaks, until Ctrl-C.\n"));
    let mut ticks = interval(if terminal { PROGRESS_INTERVAL } else { PROGRESS_PLAIN_INTERVAL });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (start, mut progress) = (Instant::now(), Progress::default());
    // The first tick is at once, when there is nothing to say.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let asked = Arc::clone(&node);
        let Ok(report) = tokio::task::spawn_blocking(move || asked.fleet.relay_report(STREAMS_PATIENCE)).await else {
            return;
        };
        let line = progress.line(&report, start.elapsed());
        // A terminal that is stopped must not stop the control thread.
        let shown = tokio::task::spawn_blocking(move || match terminal {
            true => say(&format!("\r\x1b[K{}", cut(&line, columns()))),
            false => say(&format!("{line}\n")),
        });
        if shown.await.is_err() {
            return;
        }
    }
}

/// Leaves the line that was renewed.
pub(super) fn end() {
    if std::io::stdout().is_terminal() {
        say("\n");
    }
}

/// A reader that went away does not matter.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn columns() -> usize {
    let said = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
    if said > 0 { said } else { COLUMNS }
}

/// A line that wrapped could not be renewed in place.
fn cut(line: &str, columns: usize) -> String {
    match line.chars().count() < columns {
        true => line.to_owned(),
        false => line.chars().take(columns - 1).collect(),
    }
}

/// What is remembered from one line to the next.
#[derive(Debug, Default)]
struct Progress {
    last: Duration,
    last_bytes: u64,
}

impl Progress {
    fn line(&mut self, report: &RelayReport, now: Duration) -> String {
        let Some(pull) = report.pulls.first() else {
            return format!("{}  nothing is pulled yet", clock(now));
        };
        // A counter that began anew is no rate.
        let bytes = pull.bytes_in.saturating_sub(self.last_bytes);
        let seconds = now.saturating_sub(self.last).as_secs_f64();
        let rate = if seconds > 0.0 { bytes as f64 * 8.0 / seconds / 1e6 } else { 0.0 };
        (self.last, self.last_bytes) = (now, pull.bytes_in);
        let again = again(pull.attempts, pull.last_fault.as_deref());
        let pushes = report.pushes.iter().map(push).collect::<Vec<_>>().join("; ");
        let (state, source, megabytes) = (&pull.state, &pull.source, pull.bytes_in as f64 / 1e6);
        format!("{}  {state} {rate:.2} Mb/s, {megabytes:.1} MB from {source}{again} -> {pushes}", clock(now))
    }
}

fn push(push: &PushLine) -> String {
    let (state, target, lag_s) = (&push.state, &push.target, push.lag_ms as f64 / 1e3);
    let megabytes = push.bytes_out as f64 / 1e6;
    format!(
        "{target} {state}, {megabytes:.1} MB, {lag_s:.1} s behind{}",
        again(push.attempts, push.last_fault.as_deref())
    )
}

/// How often it was connected again, and why last.
fn again(attempts: u64, fault: Option<&str>) -> String {
    match (attempts.saturating_sub(1), fault) {
        (0, None) => String::new(),
        (0, Some(fault)) => format!(" ({fault})"),
        (times, None) => format!(" ({times} reconnects)"),
        (times, Some(fault)) => format!(" ({times} reconnects, last: {fault})"),
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::relaying::report::PullLine;

    fn report(bytes_in: u64, attempts: u64) -> RelayReport {
        let pull = PullLine {
            stream: "relay/stream".into(),
            shard: 0,
            source: "a:1935/live".into(),
            state: "live".into(),
            sources: 1,
            players: 1,
            bytes_in,
            bits_per_second: 0,
            attempts,
            last_fault: (attempts > 1).then(|| "no media for 2 s".into()),
            since_ms: 0,
        };
        let push = PushLine {
            stream: "relay/stream".into(),
            shard: 0,
            target: "b:1935/live".into(),
            state: "publishing".into(),
            bytes_out: 1_500_000,
            bits_per_second: 0,
            lag_ms: 340,
            attempts: 1,
            last_fault: None,
            since_ms: 0,
        };
        RelayReport { pulls: vec![pull], pushes: vec![push] }
    }

    #[test]
    fn a_line_says_rate_total_lag_and_reconnects() {
        let mut progress = Progress::default();
        let line = progress.line(&report(1_250_000, 1), Duration::from_secs(4));
        let expected =
            "00:00:04  live 2.50 Mb/s, 1.2 MB from a:1935/live -> b:1935/live publishing, 1.5 MB, 0.3 s behind";
        assert_eq!(line, expected);
        let line = progress.line(&report(1_250_000 + 250_000, 3), Duration::from_secs(3_665));
        assert!(
            line.starts_with("01:01:05  live 0.00 Mb/s, 1.5 MB from a:1935/live (2 reconnects, last: no media"),
            "{line}"
        );
        // The counter began anew.
        assert!(progress.line(&report(10, 3), Duration::from_secs(3_666)).contains("live 0.00 Mb/s"));
        assert!(progress.line(&RelayReport::default(), Duration::ZERO).ends_with("nothing is pulled yet"));
    }

    #[test]
    fn a_line_is_cut_before_it_wraps() {
        assert_eq!((cut("abc", 4).as_str(), cut("abc", 3).as_str(), cut("äbc", 1).as_str()), ("abc", "ab", ""));
    }
}
