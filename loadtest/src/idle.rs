//! Memory per connection: the slope of the server's resident memory between two audience sizes of one run, which leaves
//! out whatever the server needs once.

use crate::cli::{IdleArgs, Kind};
use crate::control::Control;
use crate::player::Role;
use crate::process::{Tree, kernel_tcp_kib};
use crate::report;
use crate::run::{self, Plan, with_workers};
use crate::shared::Phase;
use crate::stats::median;
use crate::sys::monotonic_ns;
use crate::tally::Tally;
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// Readings per audience size, spread over the second half of `--settle`; the middle one counts.
const READINGS: u32 = 9;
/// Resident memory grows by whole huge pages where an allocator asks for them.
const STEP_KIB: f64 = 2_048.0;
/// A slope less certain than this is none.
const UNCERTAINTY_KIB_MAX: f64 = 4.0;

#[derive(Serialize)]
pub struct IdleReport {
    pub kind: Kind,
    pub rss_idle_kib: u64,
    pub sizes: [Size; 2],
    /// Slope of the server's resident memory.
    pub kib_per_connection: f64,
    /// How far the slope may be off, as memory grows in steps.
    pub uncertain_by_kib: f64,
    /// Slope of the kernel's TCP buffers, the load generator's end of each connection included.
    pub kernel_kib_per_connection: f64,
    pub problems: Vec<String>,
}

/// Memory with so many players.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Size {
    pub players: u64,
    pub rss_kib: f64,
    pub kernel_tcp_kib: f64,
}

/// The `idle` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn idle(args: &IdleArgs) -> Result<ExitCode, String> {
    if args.large <= args.small {
        return Err("--large is above --small".into());
    }
    args.target.prepare(args.large)?;
    let report = measure(args)?;
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, false))
}

fn measure(args: &IdleArgs) -> Result<IdleReport, String> {
    let pid = args.target.server_pid.ok_or("memory is read from the server's process: --server-pid is needed")?;
    let server = Tree::of(pid)?;
    let mut load = args.load.clone();
    (load.streams, load.players) = (1, args.large);
    let settings = run::settings(&load, &args.target.url, &Plan::default());
    let waiting = args.kind == Kind::Waiting;
    let mut shares = run::shares(&load, 0);
    let workers = shares.len() as u32;
    for (share, worker) in shares.iter_mut().zip(0..) {
        // Players are dealt out in turn.
        let first = args.small / workers + u32::from(worker < args.small % workers);
        share.first = usize::try_from(first).unwrap_or(usize::MAX).min(share.players.len());
        if waiting {
            share.publishers.clear();
            share.players.iter_mut().for_each(|(_, role)| *role = Role::Waiting);
        }
    }
    let ((rss_idle_kib, sizes, joined), tally) = with_workers(&settings, shares, &args.target.pin, |shared| {
        let rss_idle_kib = server.rss_kib();
        let all = usize::try_from(args.large).unwrap_or(usize::MAX);
        let control = Control::new(shared, Some(&server), &load, all, "");
        control.await_publishers(usize::from(!waiting))?;
        let (mut sizes, mut joined) = ([Size { players: 0, rss_kib: 0.0, kernel_tcp_kib: 0.0 }; 2], true);
        for (slot, (phase, players)) in [(Phase::Join, args.small), (Phase::Grow, args.large)].into_iter().enumerate() {
            shared.enter(phase);
            let count = usize::try_from(players).unwrap_or(usize::MAX);
            joined &= control.await_players(count)?;
            sizes[slot] = read(u64::from(players), args.settle, &control, &server)?;
        }
        Ok((rss_idle_kib, sizes, joined))
    })?;
    Ok(IdleReport::new(args.kind, rss_idle_kib, sizes, joined, &tally))
}

fn read(players: u64, settle: Duration, control: &Control, server: &Tree) -> Result<Size, String> {
    let (mut rss, mut kernel) = (Vec::new(), Vec::new());
    let start_ns = monotonic_ns();
    let half_ns = u64::try_from(settle.as_nanos() / 2).unwrap_or(u64::MAX / 4);
    control.doing("settling", Some(start_ns + 2 * half_ns));
    for reading in 0..READINGS {
        let at_ns = start_ns + half_ns + half_ns / u64::from(READINGS) * u64::from(reading + 1);
        control.sleep_until(at_ns)?;
        rss.push(server.rss_kib() as f64);
        kernel.push(kernel_tcp_kib() as f64);
    }
    let middle = |values: Vec<f64>| median(values).unwrap_or(0.0);
    Ok(Size { players, rss_kib: middle(rss), kernel_tcp_kib: middle(kernel) })
}

impl IdleReport {
    fn new(kind: Kind, rss_idle_kib: u64, sizes: [Size; 2], joined: bool, tally: &Tally) -> Self {
        let [small, large] = sizes;
        let more = large.players.saturating_sub(small.players).max(1) as f64;
        let uncertain_by_kib = 2.0 * STEP_KIB / more;
        let mut problems = Vec::new();
        if tally.players_failed > 0 {
            problems.push(format!("{} players failed: the sizes are not what they say", tally.players_failed));
        }
        if !joined || tally.players_unjoined > 0 {
            problems.push(format!("{} players never joined: the sizes are not what they say", tally.players_unjoined));
        }
        if tally.publishers_failed > 0 {
            problems.push("the publisher failed".into());
        }
        if uncertain_by_kib > UNCERTAINTY_KIB_MAX {
            problems.push(format!(
                "the sizes are too close: memory grows in steps, so the slope is off by up to {uncertain_by_kib:.1} KiB"
            ));
        }
        problems.extend(tally.reasons.iter().cloned());
        Self {
            kind,
            rss_idle_kib,
            sizes,
            kib_per_connection: (large.rss_kib - small.rss_kib) / more,
            uncertain_by_kib,
            kernel_kib_per_connection: (large.kernel_tcp_kib - small.kernel_tcp_kib) / more,
            problems,
        }
    }

    fn text(&self) -> String {
        let mut out = format!("{:<10}{:>12}{:>18}\n", "players", "server KiB", "kernel TCP KiB");
        out += &format!("{:<10}{:>12}\n", 0, self.rss_idle_kib);
        for Size { players, rss_kib, kernel_tcp_kib } in self.sizes {
            out += &format!("{players:<10}{rss_kib:>12.0}{kernel_tcp_kib:>18.0}\n");
        }
        out += &format!(
            "{:.2} KiB per {} player (off by at most {:.2}), and {:.2} in the kernel for both ends\n",
            self.kib_per_connection,
            if self.kind == Kind::Waiting { "waiting" } else { "playing" },
            self.uncertain_by_kib,
            self.kernel_kib_per_connection
        );
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [Size; 2] = [
        Size { players: 1_000, rss_kib: 20_000.0, kernel_tcp_kib: 100.0 },
        Size { players: 4_000, rss_kib: 26_000.0, kernel_tcp_kib: 3_100.0 },
    ];

    #[test]
    fn the_slope_leaves_out_what_is_needed_once() {
        let report = IdleReport::new(Kind::Playing, 10_000, SIZES, true, &Tally::new());
        assert_eq!((report.kib_per_connection, report.kernel_kib_per_connection), (2.0, 1.0));
        assert_eq!(report.problems, [""; 0]);
        assert!(report.text().contains("2.00 KiB per playing player (off by at most 1.37)"), "{}", report.text());
    }

    #[test]
    fn missing_players_and_close_sizes_are_problems() {
        let mut tally = Tally::new();
        tally.players_failed = 3;
        assert!(IdleReport::new(Kind::Waiting, 0, SIZES, true, &tally).problems[0].starts_with("3 players failed"));
        let close = [SIZES[0], Size { players: 1_100, ..SIZES[1] }];
        assert!(IdleReport::new(Kind::Waiting, 0, close, true, &Tally::new()).problems[0].contains("too close"));
    }
}
