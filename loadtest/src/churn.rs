//! Connect-play-leave storms beside an audience that goes on watching: how fast `play` is answered, and what the
//! audience notices.

use crate::cli::ChurnArgs;
use crate::process::Tree;
use crate::report::{self, RunReport};
use crate::run::{self, Plan, measure_plan};
use crate::stats::Percentiles;
use crate::storm::{Mode, Outcome, storm};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

#[derive(Serialize)]
pub struct ChurnReport {
    pub storms: Vec<StormReport>,
    /// The run as the audience had it, all storms together.
    pub audience: RunReport,
    pub problems: Vec<String>,
}

#[derive(Serialize)]
pub struct StormReport {
    pub storm: String,
    pub seconds: f64,
    pub begun: u64,
    pub answered: u64,
    pub failed: u64,
    pub unfinished: u64,
    pub answered_per_second: f64,
    /// Per second of the server's CPU time, what it spends on the audience included.
    pub answered_per_server_cpu_second: Option<f64>,
    pub server_cpu_share: Option<f64>,
    /// From when an attempt was due to the answer to `play`.
    pub connect_to_play_ms: Percentiles,
    /// From sending `play` to its answer.
    pub play_ms: Percentiles,
    /// Of the storm's own thread, as the next.
    pub client_cpu_share: f64,
    pub client_waited_share: f64,
    pub problems: Vec<String>,
}

/// The `churn` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn churn(args: &ChurnArgs) -> Result<ExitCode, String> {
    let most = args.at_once.iter().copied().max().unwrap_or(0).max(args.rate.first().map_or(0, |_| 10_000));
    args.target.prepare(args.load.connections().saturating_add(most))?;
    let report = measure(args)?;
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// All storms in turn, in one window.
///
/// # Errors
/// As [`measure_plan`], or a storm could not be carried out.
pub fn measure(args: &ChurnArgs) -> Result<ChurnReport, String> {
    let (url, each) = (&args.target.url, args.load.duration);
    let at_once = args.at_once.iter().map(|count| Mode::AtOnce(*count));
    let modes: Vec<Mode> = at_once.chain(args.rate.iter().map(|rate| Mode::Rate(*rate))).collect();
    let mut load = args.load.clone();
    load.duration = each * u32::try_from(modes.len()).unwrap_or(1).max(1);
    let settings = run::settings(&load, url, &Plan::default());
    let late_ms = args.load.late.as_secs_f64() * 1e3;
    let storms = Mutex::new(Vec::new());
    let keep = |storm| storms.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(storm);
    let server = args.target.server_pid.map(Tree::of).transpose()?;
    let beside = |over: &AtomicBool| {
        for mode in &modes {
            let before = server.as_ref().map(Tree::cpu);
            let outcome = storm(&settings, *mode, each, over).map_err(|error| format!("a storm failed: {error}"));
            let used = server.as_ref().zip(before).map(|(server, before)| server.cpu().since(&before).total_seconds());
            keep(outcome.map(|outcome| StormReport::new(&outcome, used, late_ms)));
        }
    };
    let plan = Plan { beside: Some(&beside), ..Plan::default() };
    let (audience, _) = measure_plan(&load, url, &args.target.pin, args.target.server_pid, &plan)?;
    let storms = storms.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(ChurnReport::new(storms.into_iter().collect::<Result<_, _>>()?, audience))
}

impl StormReport {
    fn new(outcome: &Outcome, server_cpu_seconds: Option<f64>, late_ms: f64) -> Self {
        let server_cpu_share = server_cpu_seconds.map(|cpu| cpu / outcome.seconds);
        let storm = match outcome.mode {
            Mode::AtOnce(1) => "one at a time".into(),
            Mode::AtOnce(count) => format!("{count} at once"),
            Mode::Rate(rate) => format!("{rate} per second"),
        };
        let mut problems = Vec::new();
        if outcome.failed > 0 {
            problems.push(format!("{storm}: {} of {} failed", outcome.failed, outcome.begun));
        }
        if outcome.answered == 0 {
            problems.push(format!("{storm}: none was answered"));
        }
        problems.extend(outcome.reasons.iter().map(|reason| format!("{storm}: {reason}")));
        // One at a time, each side waits for the other; only several at once can be more than a thread can start.
        let busy = outcome.cpu_share > report::WORKER_SHARE_MAX && outcome.mode != Mode::AtOnce(1);
        if busy && server_cpu_share.is_none_or(|share| share < report::WORKER_SHARE_MAX) {
            problems.push(format!(
                "{storm}: the load generator used {:.0} % of its CPU: it was the bottleneck, not the server",
                outcome.cpu_share * 100.0
            ));
        }
        let late = outcome.late.percentiles();
        if late.p99 > late_ms {
            problems.push(format!(
                "{storm}: attempts began late (p99 {:.1} ms, allowed {late_ms:.1}): the load generator held them up",
                late.p99
            ));
        }
        Self {
            storm,
            seconds: outcome.seconds,
            begun: outcome.begun,
            answered: outcome.answered,
            failed: outcome.failed,
            unfinished: outcome.unfinished,
            answered_per_second: outcome.answered as f64 / outcome.seconds,
            answered_per_server_cpu_second: server_cpu_seconds
                .filter(|cpu| *cpu >= 0.05)
                .map(|cpu| outcome.answered as f64 / cpu),
            server_cpu_share,
            connect_to_play_ms: outcome.connect.percentiles(),
            play_ms: outcome.play.percentiles(),
            client_cpu_share: outcome.cpu_share,
            client_waited_share: outcome.waited_share,
            problems,
        }
    }
}

impl ChurnReport {
    fn new(storms: Vec<StormReport>, mut audience: RunReport) -> Self {
        let mut problems = std::mem::take(&mut audience.problems);
        problems.extend(storms.iter().flat_map(|storm| storm.problems.clone()));
        for storm in storms.iter().filter(|storm| storm.client_waited_share > report::WAITED_SHARE_MAX) {
            let percent = storm.client_waited_share * 100.0;
            audience.notes.push(format!("{}: its thread waited for a CPU {percent:.0} % of the time", storm.storm));
        }
        Self { storms, audience, problems }
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", report::text(&self.audience));
        out += &format!(
            "{:<16}{:>9}{:>8}{:>9}{:>11}{:>10}{:>9}{:>9}{:>9}{:>11}{:>10}\n",
            "storm", "answered", "failed", "/s", "/s of CPU", "p50 ms", "p90", "p99", "max", "play p50", "p99"
        );
        for storm in &self.storms {
            let (all, play) = (&storm.connect_to_play_ms, &storm.play_ms);
            let per_cpu = storm.answered_per_server_cpu_second.map_or("-".into(), |per| format!("{per:.0}"));
            out += &format!(
                "{:<16}{:>9}{:>8}{:>9.0}{per_cpu:>11}{:>10.2}{:>9.2}{:>9.2}{:>9.2}{:>11.2}{:>10.2}\n",
                storm.storm,
                storm.answered,
                storm.failed,
                storm.answered_per_second,
                all.p50,
                all.p90,
                all.p99,
                all.max,
                play.p50,
                play.p99
            );
        }
        out += "times from when a connect was due to the answer to play; the last two from sending play\n";
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(mode: Mode, change: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = Outcome::new(mode);
        (outcome.seconds, outcome.begun, outcome.answered) = (2.0, 100, 100);
        change(&mut outcome);
        outcome
    }

    #[test]
    fn rates_are_per_second_and_per_second_of_the_servers_cpu() {
        let report = StormReport::new(&outcome(Mode::AtOnce(32), |_| {}), Some(0.5), 5.0);
        assert_eq!((report.answered_per_second, report.answered_per_server_cpu_second), (50.0, Some(200.0)));
        assert_eq!(report.problems, [""; 0]);
    }

    #[test]
    fn failures_lateness_and_a_busy_generator_are_problems() {
        let failed = outcome(Mode::Rate(50), |outcome| outcome.failed = 1);
        assert_eq!(StormReport::new(&failed, None, 5.0).problems, ["50 per second: 1 of 100 failed"]);
        let late = outcome(Mode::Rate(50), |outcome| outcome.late.record_ns(9_000_000));
        assert!(StormReport::new(&late, None, 5.0).problems[0].contains("began late"));
        let busy = outcome(Mode::AtOnce(32), |outcome| outcome.cpu_share = 0.99);
        assert!(StormReport::new(&busy, Some(1.0), 5.0).problems[0].contains("the bottleneck"));
        assert_eq!(StormReport::new(&busy, Some(1.95), 5.0).problems, [""; 0], "the server was busy too");
    }
}
