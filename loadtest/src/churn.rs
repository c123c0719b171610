//! Connect-play-leave storms beside an audience that goes on watching: how fast `play` is answered, how long a cached
//! GOP takes, and what the audience notices: its delay is kept apart for the calm before the storms, and for each.

use crate::cli::ChurnArgs;
use crate::cpus::{Room, Thread};
use crate::process::Tree;
use crate::report::{self, RunReport};
use crate::run::{self, Plan, measure_plan};
use crate::shared::{NO_PART, Shared};
use crate::stats::Percentiles;
use crate::storm::{Mode, Outcome, storm};
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Between two storms, so that one's end is not the next one's begin.
const PAUSE: Duration = Duration::from_millis(500);
/// How soon an end of the window is noticed in the calm.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Serialize)]
pub struct ChurnReport {
    pub storms: Vec<StormReport>,
    /// The audience's delay before the storms, for as long as one of them.
    pub calm_delay_ms: Percentiles,
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
    /// If whole GOPs were waited for.
    pub whole_gop: Option<WholeGop>,
    /// From when a frame was due to when the audience's verified players had it, during this storm; of bursts, in the
    /// tenth of a second around each.
    pub audience_delay_ms: Percentiles,
    /// Of the storm's own thread, as the next.
    pub client_cpu_share: f64,
    pub client_waited_share: f64,
    pub problems: Vec<String>,
}

/// How long a player takes to have all that was cached, where that was a GOP but for its last tenth or less.
#[derive(Clone, Serialize)]
pub struct WholeGop {
    /// From sending `play` to the last byte.
    pub play_to_whole_ms: Percentiles,
    /// From the connect.
    pub connect_to_whole_ms: Percentiles,
    /// Media until then, on average.
    pub mean_bytes: u64,
    /// Players that were sent nothing older than their `play`: nothing was cached for them.
    pub uncached: u64,
}

/// A storm as it was seen from outside its thread.
struct Seen {
    outcome: Outcome,
    server_cpu_seconds: Option<f64>,
    /// CPUs the server could have used.
    server_cpus: usize,
}

/// The `churn` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn churn(args: &ChurnArgs) -> Result<ExitCode, String> {
    let most_of = |mode: &Mode| match mode {
        Mode::AtOnce(count) => *count,
        Mode::Rate(_) => 10_000,
        Mode::Burst(count) => count.saturating_mul(2),
        Mode::WholeGop => 1,
    };
    let most = modes(args).iter().map(most_of).max().unwrap_or(0);
    args.target.prepare(args.load.connections().saturating_add(most))?;
    let report = measure(args)?;
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// Bursts come last: what their thread yields to others it does not get back.
fn modes(args: &ChurnArgs) -> Vec<Mode> {
    let at_once = args.at_once.iter().map(|count| Mode::AtOnce(*count));
    let rates = args.rate.iter().map(|rate| Mode::Rate(*rate));
    let whole = args.whole_gop.then_some(Mode::WholeGop);
    let bursts = args.burst.iter().map(|count| Mode::Burst(*count));
    let modes: Vec<Mode> = at_once.chain(rates).chain(whole).chain(bursts).collect();
    if modes.is_empty() { vec![Mode::AtOnce(1), Mode::AtOnce(32)] } else { modes }
}

/// Calm, then all storms in turn, in one window.
///
/// # Errors
/// As [`measure_plan`], or a storm could not be carried out.
pub fn measure(args: &ChurnArgs) -> Result<ChurnReport, String> {
    let (url, each) = (&args.target.url, args.load.duration);
    let modes = modes(args);
    let mut load = args.load.clone();
    let names: Vec<String> = ["calm".into()].into_iter().chain(modes.iter().map(|mode| name(*mode))).collect();
    load.duration = (each + PAUSE) * u32::try_from(names.len()).unwrap_or(1);
    let settings = run::settings(&load, url, &Plan::default());
    let storms = Mutex::new(Vec::new());
    let keep = |storm| storms.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(storm);
    let server = args.target.server_pid.map(Tree::of).transpose()?;
    let beside = |shared: &Shared, over: &AtomicBool| {
        shared.enter_part(0);
        calm(each, over);
        for (part, mode) in modes.iter().enumerate() {
            shared.enter_part(NO_PART);
            calm(PAUSE, over);
            shared.enter_part(part + 1);
            let cpu = server.as_ref().map(|server| (server.cpu(), server.threads()));
            let mark = |on| shared.enter_part(if on { part + 1 } else { NO_PART });
            let outcome =
                storm(&settings, *mode, each, over, &mark).map_err(|error| format!("a storm failed: {error}"));
            keep(outcome.map(|outcome| Seen::new(outcome, server.as_ref(), cpu)));
        }
        shared.enter_part(NO_PART);
    };
    let plan = Plan { beside: Some(&beside), parts: &names, ..Plan::default() };
    let (audience, tally) = measure_plan(&load, url, &args.target.pin, args.target.server_pid, &plan)?;
    let storms = storms.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seen = storms.into_iter().collect::<Result<Vec<Seen>, String>>()?;
    let delays: Vec<Percentiles> = tally.parts.iter().map(crate::stats::Times::percentiles).collect();
    Ok(ChurnReport::new(&seen, &delays, audience, args.load.late))
}

fn calm(duration: Duration, over: &AtomicBool) {
    let until_ns = crate::sys::monotonic_ns() + u64::try_from(duration.as_nanos()).unwrap_or(0);
    while crate::sys::monotonic_ns() < until_ns && !over.load(Ordering::Acquire) {
        thread::sleep(LOOK.min(duration));
    }
}

fn name(mode: Mode) -> String {
    match mode {
        Mode::AtOnce(1) => "one at a time".into(),
        Mode::AtOnce(count) => format!("{count} under way"),
        Mode::Rate(rate) => format!("{rate} per second"),
        Mode::Burst(count) => format!("bursts of {count}"),
        Mode::WholeGop => "whole GOP".into(),
    }
}

impl Seen {
    fn new(outcome: Outcome, server: Option<&Tree>, before: Option<(crate::process::Cpu, Vec<Thread>)>) -> Self {
        let room = |before: &[Thread], after: &[Thread]| Room::between(before, after, outcome.seconds).cpus();
        let used = server.zip(before).map(|(server, (cpu, threads))| {
            (server.cpu().since(&cpu).total_seconds(), room(&threads, &server.threads()))
        });
        let (server_cpu_seconds, server_cpus) = used.unzip();
        Self { outcome, server_cpu_seconds, server_cpus: server_cpus.unwrap_or(1) }
    }
}

impl StormReport {
    fn new(seen: &Seen, audience_delay_ms: Percentiles, late_ms: f64) -> Self {
        let Seen { outcome, server_cpu_seconds, server_cpus } = seen;
        let server_cpu_share = server_cpu_seconds.map(|cpu| cpu / outcome.seconds);
        let storm = name(outcome.mode);
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
        if busy && server_cpu_share.is_none_or(|share| !report::saturated(share, *server_cpus)) {
            problems.push(format!(
                "{storm}: the load generator used {:.0} % of its CPU: it was the bottleneck, not the server",
                outcome.cpu_share * 100.0
            ));
        }
        let whole_gop = (outcome.mode == Mode::WholeGop).then(|| WholeGop::new(outcome));
        if whole_gop.as_ref().is_some_and(|whole| whole.play_to_whole_ms.count == 0) {
            let uncached = outcome.uncached;
            problems.push(format!(
                "{storm}: no player received a whole cached GOP ({uncached} found nothing cached); is --duration several \
                 GOPs long?"
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
            whole_gop,
            audience_delay_ms,
            client_cpu_share: outcome.cpu_share,
            client_waited_share: outcome.waited_share,
            problems,
        }
    }
}

impl WholeGop {
    fn new(outcome: &Outcome) -> Self {
        let play_to_whole_ms = outcome.whole.percentiles();
        Self {
            play_to_whole_ms,
            connect_to_whole_ms: outcome.connect_to_whole.percentiles(),
            mean_bytes: outcome.whole_bytes / play_to_whole_ms.count.max(1),
            uncached: outcome.uncached,
        }
    }
}

impl ChurnReport {
    /// `delays` are those of the calm, then of each storm.
    fn new(seen: &[Seen], delays: &[Percentiles], mut audience: RunReport, late: Duration) -> Self {
        let delay = |part: usize| delays.get(part).copied().unwrap_or_else(|| crate::stats::Times::new().percentiles());
        let late_ms = late.as_secs_f64() * 1e3;
        let report = |(at, seen): (usize, &Seen)| StormReport::new(seen, delay(at + 1), late_ms);
        let storms: Vec<StormReport> = seen.iter().enumerate().map(report).collect();
        let mut problems = std::mem::take(&mut audience.problems);
        problems.extend(storms.iter().flat_map(|storm| storm.problems.clone()));
        for storm in storms.iter().filter(|storm| storm.client_waited_share > report::WAITED_SHARE_MAX) {
            let percent = storm.client_waited_share * 100.0;
            audience.notes.push(format!("{}: its thread waited for a CPU {percent:.0} % of the time", storm.storm));
        }
        Self { storms, calm_delay_ms: delay(0), audience, problems }
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", report::text(&self.audience));
        self.write_storms(&mut out);
        self.write_delays(&mut out);
        self.storms.iter().filter_map(|storm| storm.whole_gop.as_ref()).for_each(|whole| whole.write(&mut out));
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }

    fn write_storms(&self, out: &mut String) {
        *out += &format!(
            "{:<16}{:>9}{:>8}{:>9}{:>11}{:>10}{:>9}{:>9}{:>9}{:>11}{:>10}\n",
            "storm", "answered", "failed", "/s", "/s of CPU", "p50 ms", "p90", "p99", "max", "play p50", "p99"
        );
        for storm in &self.storms {
            let (all, play) = (&storm.connect_to_play_ms, &storm.play_ms);
            let per_cpu = storm.answered_per_server_cpu_second.map_or("-".into(), |per| format!("{per:.0}"));
            *out += &format!(
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
        *out += "times from when a connect was due to the answer to play; the last two from sending play\n\n";
    }

    /// What the audience noticed.
    fn write_delays(&self, out: &mut String) {
        *out += &format!("{:<16}{:>9}{:>9}{:>9}{:>9}\n", "audience's delay", "p50 ms", "p99", "max", "frames");
        let mut line = |name: &str, delay: &Percentiles| {
            *out += &format!("{name:<16}{:>9.2}{:>9.2}{:>9.2}{:>9}\n", delay.p50, delay.p99, delay.max, delay.count);
        };
        line("calm", &self.calm_delay_ms);
        self.storms.iter().for_each(|storm| line(&storm.storm, &storm.audience_delay_ms));
        *out += "of bursts, in the tenth of a second around each\n";
    }
}

impl WholeGop {
    fn write(&self, out: &mut String) {
        let (play, connect) = (&self.play_to_whole_ms, &self.connect_to_whole_ms);
        *out += &format!(
            "\nplay -> whole cached GOP received ({} KB on average): p50 {:.2} ms, p99 {:.2}, max {:.2} (from the connect: \
             p50 {:.2}, p99 {:.2}), {} players; {} found nothing cached\n",
            self.mean_bytes / 1_000,
            play.p50,
            play.p99,
            play.max,
            connect.p50,
            connect.p99,
            play.count,
            self.uncached
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome, server_cpu_seconds: Option<f64>, server_cpus: usize) -> StormReport {
        let delay = crate::stats::Times::new().percentiles();
        StormReport::new(&Seen { outcome, server_cpu_seconds, server_cpus }, delay, 5.0)
    }

    fn outcome(mode: Mode, change: impl FnOnce(&mut Outcome)) -> Outcome {
        let mut outcome = Outcome::new(mode);
        (outcome.seconds, outcome.begun, outcome.answered) = (2.0, 100, 100);
        change(&mut outcome);
        outcome
    }

    #[test]
    fn rates_are_per_second_and_per_second_of_the_servers_cpu() {
        let report = report(outcome(Mode::AtOnce(32), |_| {}), Some(0.5), 1);
        assert_eq!((report.answered_per_second, report.answered_per_server_cpu_second), (50.0, Some(200.0)));
        assert_eq!(report.problems, [""; 0]);
    }

    #[test]
    fn failures_lateness_and_a_busy_generator_are_problems() {
        let failed = outcome(Mode::Rate(50), |outcome| outcome.failed = 1);
        assert_eq!(report(failed, None, 1).problems, ["50 per second: 1 of 100 failed"]);
        let late = outcome(Mode::Rate(50), |outcome| outcome.late.record_ns(9_000_000));
        assert!(report(late, None, 1).problems[0].contains("began late"));
        let busy = || outcome(Mode::AtOnce(32), |outcome| outcome.cpu_share = 0.99);
        assert!(report(busy(), Some(1.0), 1).problems[0].contains("the bottleneck"));
        assert_eq!(report(busy(), Some(1.95), 1).problems, [""; 0], "the server was busy too");
        assert!(report(busy(), Some(1.95), 2).problems[0].contains("the bottleneck"), "it had another CPU");
    }

    #[test]
    fn whole_gops_are_summed_up_and_their_absence_is_a_problem() {
        let some = outcome(Mode::WholeGop, |outcome| {
            outcome.whole.record_ns(8_000_000);
            outcome.whole.record_ns(8_000_000);
            outcome.whole_bytes = 1_300_000;
        });
        let whole = report(some, None, 1).whole_gop.unwrap();
        assert_eq!((whole.mean_bytes, whole.play_to_whole_ms.count), (650_000, 2));
        let mut text = String::new();
        whole.write(&mut text);
        assert!(text.contains("received (650 KB on average): p50 8.0"), "{text}");
        let none = report(outcome(Mode::WholeGop, |outcome| outcome.uncached = 4), None, 1);
        assert!(none.problems[0].contains("(4 found nothing cached)"), "{:?}", none.problems);
        assert!(report(outcome(Mode::AtOnce(1), |_| {}), None, 1).whole_gop.is_none());
    }

    #[test]
    fn the_audiences_delay_is_told_for_the_calm_and_each_storm() {
        let delay = |ms: u64| {
            let mut times = crate::stats::Times::new();
            times.record_ns(ms * 1_000_000);
            times.percentiles()
        };
        let seen = Seen { outcome: outcome(Mode::Burst(100), |_| {}), server_cpu_seconds: None, server_cpus: 1 };
        let audience = crate::report::tests::report(|_, _| {});
        let report = ChurnReport::new(&[seen], &[delay(2), delay(9)], audience, Duration::from_millis(5));
        assert!((report.calm_delay_ms.p99 - 2.0).abs() < 0.1);
        assert!((report.storms[0].audience_delay_ms.p99 - 9.0).abs() < 0.1);
        assert!(report.text().contains("bursts of 100   "), "{}", report.text());
    }

    #[test]
    fn storms_are_those_asked_for_and_bursts_come_last() {
        use clap::Parser;
        let modes = |arguments: &str| {
            let arguments = ["t", "churn", "--url", "rtmp://127.0.0.1/a/b"].into_iter().chain(arguments.split(' '));
            let arguments = arguments.filter(|argument| !argument.is_empty());
            let crate::cli::Command::Churn(args) = crate::cli::Cli::parse_from(arguments).command else {
                panic!("not churn")
            };
            modes(&args)
        };
        assert_eq!(modes(""), [Mode::AtOnce(1), Mode::AtOnce(32)]);
        assert_eq!(modes("--burst 100 --whole-gop"), [Mode::WholeGop, Mode::Burst(100)]);
        assert_eq!(modes("--burst 9 --rate 50 --at-once 2"), [Mode::AtOnce(2), Mode::Rate(50), Mode::Burst(9)]);
    }
}
