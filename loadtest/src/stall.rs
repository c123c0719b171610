//! Players that stop reading among healthy ones: what the healthy ones notice, when the server lets the others go, and
//! what that costs it in memory.

use crate::cli::{StallArgs, TargetArgs};
use crate::report::{self, RunReport};
use crate::run::{Plan, measure_plan};
use crate::stats::Percentiles;
use crate::tally::Tally;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Serialize)]
pub struct StallReport {
    /// Players that stopped reading when the window began.
    pub stalled: u64,
    /// From then to when the server let them go.
    pub closed_after_ms: Percentiles,
    /// Not let go until the run's end.
    pub never_closed: u64,
    /// The server's memory when the window began, at its highest, and at the window's end.
    pub rss_kib: Option<[u64; 3]>,
    /// What the highest is above the first, per stalled player.
    pub kib_per_stalled_player: Option<f64>,
    /// The run as the healthy players had it.
    pub healthy: RunReport,
    pub problems: Vec<String>,
}

/// The `stall` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn stall(args: &StallArgs) -> Result<ExitCode, String> {
    args.target.prepare(args.load.connections().saturating_add(args.stalled.saturating_mul(args.load.streams)))?;
    let report = measure(args, &args.target)?;
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// One run with `args.stalled` players that stop reading.
///
/// # Errors
/// As [`measure_plan`].
pub fn measure(args: &StallArgs, target: &TargetArgs) -> Result<StallReport, String> {
    let stalled_receive_bytes = usize::try_from(args.receive_buffer).unwrap_or(65_536);
    let plan = Plan { stalled: args.stalled, stalled_receive_bytes, ..Plan::default() };
    let (healthy, tally) = measure_plan(&args.load, &target.url, &target.pin, target.server_pid, &plan)?;
    let expected = u64::from(args.stalled) * u64::from(args.load.streams);
    Ok(StallReport::new(expected, healthy, &tally))
}

impl StallReport {
    fn new(expected: u64, mut healthy: RunReport, tally: &Tally) -> Self {
        let closed_after_ms = tally.stalled_closed.percentiles();
        let stalled = closed_after_ms.count + tally.stalled_open;
        let mut problems = std::mem::take(&mut healthy.problems);
        if stalled < expected {
            problems.push(format!("{} of {expected} players were gone before they could stall", expected - stalled));
        }
        let samples: Vec<u64> = healthy.timeline.iter().filter_map(|sample| sample.server_rss_kib).collect();
        let before = healthy.server.as_ref().map(|server| server.rss_before_window_kib);
        let highest = samples.iter().copied().max();
        let rss_kib = before.zip(highest).zip(samples.last()).map(|((before, highest), end)| [before, highest, *end]);
        let kib_per_stalled_player =
            rss_kib.map(|[before, highest, _]| highest.saturating_sub(before) as f64 / stalled.max(1) as f64);
        let never_closed = tally.stalled_open;
        Self { stalled, closed_after_ms, never_closed, rss_kib, kib_per_stalled_player, healthy, problems }
    }

    fn text(&self) -> String {
        let closed = &self.closed_after_ms;
        let mut out = format!("{}\n{} players stopped reading: ", report::text(&self.healthy), self.stalled);
        out += &match closed.count {
            0 => format!("none was let go in {:.1} s\n", self.healthy.delivery.seconds),
            count => format!(
                "{count} let go after {:.1} s (median; last {:.1} s), {} never\n",
                closed.p50 / 1e3,
                closed.max / 1e3,
                self.never_closed
            ),
        };
        if let (Some([before, highest, end]), Some(each)) = (self.rss_kib, self.kib_per_stalled_player) {
            out += &format!(
                "server memory: {before} KiB before, {highest} at most ({each:.0} per stalled player), {end} at the end\n"
            );
        }
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn those_let_go_and_those_not_make_all() {
        let mut tally = Tally::new();
        tally.stalled_closed.record_ns(4_000_000_000);
        tally.stalled_open = 2;
        let whole = StallReport::new(3, report(|_, _| {}), &tally);
        assert_eq!((whole.stalled, whole.never_closed, whole.problems.len()), (3, 2, 0));
        assert!(whole.text().contains("1 let go after 4.0 s (median; last 4.0 s), 2 never"), "{}", whole.text());
        let short = StallReport::new(5, report(|_, _| {}), &tally);
        assert_eq!(short.problems, ["2 of 5 players were gone before they could stall"]);
    }
}
