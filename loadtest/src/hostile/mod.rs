//! Hostile connections of all kinds beside an audience that goes on watching: what the audience notices, and whether the
//! server is afterwards what it was before: memory, descriptors, and no growth from round to round.

mod flood;
mod script;

use self::flood::{Course, Fate, Fates, flood};
use crate::cli::{HostileArgs, LoadArgs};
use crate::process::Tree;
use crate::report::{self, RunReport};
use crate::run::{self, Plan, measure_plan};
use crate::shared::{NO_PART, Shared};
use crate::stats::Percentiles;
use crate::sys::monotonic_ns;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The server has this long to be what it was before.
const RECOVERY: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A delay up to this is good, however short it was in the calm.
const DELAY_FLOOR_MS: f64 = 10.0;
/// And one up to so many times that of the calm.
const DELAY_FACTOR: f64 = 2.0;
/// Memory may be above what it was by a share of it, or by this.
const RSS_SHARE: f64 = 0.05;
const RSS_FLOOR_KIB: f64 = 16.0 * 1_024.0;
/// And from the first round to the last it may rise by this, which is no growth.
const GROWTH_KIB: f64 = 4.0 * 1_024.0;

/// The server at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Footprint {
    pub rss_kib: u64,
    pub descriptors: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub fates: Fates,
    /// While they were there.
    pub highest: Footprint,
    /// Once it was what it had been before, or at the deadline.
    pub after: Footprint,
    /// From when the last of them left.
    pub recovered_after_seconds: f64,
    /// The audience's, while they were there.
    pub delay_ms: Percentiles,
}

#[derive(Serialize)]
pub struct HostileReport {
    pub connections_per_round: u32,
    /// With the audience, before the first round.
    pub before: Footprint,
    pub calm_delay_ms: Percentiles,
    pub rounds: Vec<Round>,
    /// The run as the audience had it.
    pub audience: RunReport,
    pub problems: Vec<String>,
}

/// The `hostile` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn hostile(args: &HostileArgs) -> Result<ExitCode, String> {
    if args.target.url.secure {
        return Err("--url: hostile connections speak RTMP without TLS; name an rtmp:// address of the server".into());
    }
    args.target.prepare(args.load.connections().saturating_add(args.connections))?;
    let report = measure(args)?;
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// Calm, then all rounds, each until the server has recovered.
///
/// # Errors
/// As [`measure_plan`], or a flood could not be carried out.
pub fn measure(args: &HostileArgs) -> Result<HostileReport, String> {
    let server = Tree::of(args.target.server_pid.ok_or("--server-pid is needed: its memory is what is looked at")?)?;
    let rounds = args.rounds;
    let names: Vec<String> =
        ["calm".into()].into_iter().chain((1..=rounds).map(|round| format!("round {round}"))).collect();
    // The longest it may take; the window ends as soon as the last round has.
    let load = LoadArgs { duration: args.calm + (args.storm + RECOVERY + LOOK * 8) * rounds, ..args.load.clone() };
    let settings = run::settings(&load, &args.target.url, &Plan::default());
    let seen: Mutex<Seen> = Mutex::new(Ok((None, Vec::new())));
    let beside = |shared: &Shared, over: &AtomicBool| {
        let watch = Watch { shared, over, server: &server };
        shared.enter_part(0);
        watch.pause(args.calm);
        shared.enter_part(NO_PART);
        let before = Footprint::of(&server);
        let round = |number: u32| {
            let first = u64::from(number) * u64::from(args.connections);
            let (lasts, one_address) = (args.storm, args.one_address);
            let course = Course { connections: args.connections.into(), lasts, one_address, first };
            watch.round(&settings, course, usize::try_from(number).unwrap_or(0) + 1, before)
        };
        let done: Result<Vec<Round>, String> = (0..rounds).map(round).collect();
        *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = done.map(|done| (Some(before), done));
        let now_ns = monotonic_ns();
        let give_up_ns = now_ns + u64::try_from(load.drain_deadline.as_nanos()).unwrap_or(0);
        shared.set_window(shared.window().start, now_ns, give_up_ns);
    };
    let plan = Plan { beside: Some(&beside), parts: &names, ..Plan::default() };
    let (audience, tally) = measure_plan(&load, &args.target.url, &args.target.pin, args.target.server_pid, &plan)?;
    let (before, mut rounds) = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)?;
    let delays: Vec<Percentiles> = tally.parts.iter().map(crate::stats::Times::percentiles).collect();
    for (round, delay) in rounds.iter_mut().zip(delays.iter().skip(1)) {
        round.delay_ms = *delay;
    }
    let calm = delays.first().copied().ok_or("there was no calm")?;
    Ok(HostileReport::new(args.connections, before.ok_or("no round was begun")?, calm, rounds, audience))
}

/// The server before the first round, and what came of each.
type Seen = Result<(Option<Footprint>, Vec<Round>), String>;

struct Watch<'a> {
    shared: &'a Shared,
    over: &'a AtomicBool,
    server: &'a Tree,
}

impl Watch<'_> {
    fn pause(&self, duration: Duration) {
        let until_ns = monotonic_ns() + u64::try_from(duration.as_nanos()).unwrap_or(0);
        while monotonic_ns() < until_ns && !self.over.load(Ordering::Acquire) {
            thread::sleep(LOOK.min(duration));
        }
    }

    fn round(
        &self,
        settings: &crate::shared::Settings,
        course: Course,
        part: usize,
        before: Footprint,
    ) -> Result<Round, String> {
        self.shared.enter_part(part);
        let mut highest = before;
        let fates = thread::scope(|scope| {
            let flood = scope.spawn(|| flood(settings, course, self.over));
            while !flood.is_finished() {
                let now = Footprint::of(self.server);
                highest.rss_kib = highest.rss_kib.max(now.rss_kib);
                highest.descriptors = highest.descriptors.max(now.descriptors);
                thread::sleep(LOOK);
            }
            flood.join().map_err(|_| "a flood panicked".to_owned())
        })?;
        let fates = fates.map_err(|error| format!("a flood failed: {error}"))?;
        self.shared.enter_part(NO_PART);
        let left_ns = monotonic_ns();
        loop {
            thread::sleep(LOOK);
            let after = Footprint::of(self.server);
            let recovered_after_seconds = (monotonic_ns() - left_ns) as f64 / 1e9;
            let late = recovered_after_seconds > RECOVERY.as_secs_f64() || self.over.load(Ordering::Acquire);
            if after.is_back(before) || late {
                let delay_ms = crate::stats::Times::new().percentiles();
                return Ok(Round { fates, highest, after, recovered_after_seconds, delay_ms });
            }
        }
    }
}

impl Footprint {
    fn of(server: &Tree) -> Self {
        Self { rss_kib: server.rss_kib(), descriptors: server.descriptors() }
    }

    fn is_back(self, before: Self) -> bool {
        self.descriptors == before.descriptors && self.rss_kib as f64 <= before.rss_allowed_kib()
    }

    fn rss_allowed_kib(self) -> f64 {
        self.rss_kib as f64 + (self.rss_kib as f64 * RSS_SHARE).max(RSS_FLOOR_KIB)
    }
}

impl HostileReport {
    fn new(
        connections_per_round: u32,
        before: Footprint,
        calm_delay_ms: Percentiles,
        rounds: Vec<Round>,
        mut audience: RunReport,
    ) -> Self {
        let mut problems = std::mem::take(&mut audience.problems);
        let allowed_ms = (calm_delay_ms.p99 * DELAY_FACTOR).max(DELAY_FLOOR_MS);
        for (number, round) in (1..).zip(&rounds) {
            let mut problem = |what: String| problems.push(format!("round {number}: {what}"));
            if round.delay_ms.p99 > allowed_ms {
                problem(format!("the audience's delay was p99 {:.1} ms, allowed {allowed_ms:.1}", round.delay_ms.p99));
            }
            if round.after.descriptors != before.descriptors {
                let (now, then) = (round.after.descriptors, before.descriptors);
                problem(format!("{now} descriptors are open afterwards, {then} were before"));
            }
            if round.after.rss_kib as f64 > before.rss_allowed_kib() {
                let (now, allowed) = (round.after.rss_kib, before.rss_allowed_kib());
                problem(format!("{now} KiB of memory afterwards, allowed {allowed:.0}"));
            }
            // One connection of each kind at least was let in, or nothing was shown.
            let unseen = round.fates.iter().filter(|(_, fate)| fate.opened > 0 && fate.refused == fate.opened);
            for (kind, fate) in unseen {
                problem(format!("{kind}: none of {} was taken", fate.opened));
            }
        }
        if let [first, .., last] = rounds.as_slice() {
            let grown = last.after.rss_kib as f64 - first.after.rss_kib as f64;
            if grown > GROWTH_KIB {
                problems.push(format!("memory grew by {grown:.0} KiB from the first round to the last"));
            }
        }
        Self { connections_per_round, before, calm_delay_ms, rounds, audience, problems }
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", report::text(&self.audience));
        out += &format!(
            "{:<10}{:>9}{:>9}{:>9}{:>12}{:>12}{:>8}{:>10}\n",
            "", "p50 ms", "p99", "max", "memory KiB", "highest", "fds", "back in s"
        );
        let mut line = |name: &str, delay: &Percentiles, [rss, highest, fds]: [u64; 3], back: f64| {
            out += &format!(
                "{name:<10}{:>9.2}{:>9.2}{:>9.2}{rss:>12}{highest:>12}{fds:>8}{back:>10.1}\n",
                delay.p50, delay.p99, delay.max
            );
        };
        let before = self.before;
        line("calm", &self.calm_delay_ms, [before.rss_kib, before.rss_kib, before.descriptors], 0.0);
        for (number, round) in (1..).zip(&self.rounds) {
            let sizes = [round.after.rss_kib, round.highest.rss_kib, round.after.descriptors];
            line(&format!("round {number}"), &round.delay_ms, sizes, round.recovered_after_seconds);
        }
        out += &format!(
            "\n{} hostile connections a round; of all:\n{:<42}{:>9}{:>9}{:>9}{:>9}\n",
            self.connections_per_round, "kind", "opened", "refused", "closed", "left"
        );
        for (kind, fate) in self.all_fates() {
            let Fate { opened, refused, closed_by_server, left } = fate;
            out += &format!("{kind:<42}{opened:>9}{refused:>9}{closed_by_server:>9}{left:>9}\n");
        }
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }

    fn all_fates(&self) -> Fates {
        let mut all = Fates::new();
        for (kind, fate) in self.rounds.iter().flat_map(|round| &round.fates) {
            let sum = all.entry(kind).or_default();
            sum.opened += fate.opened;
            sum.refused += fate.refused;
            sum.closed_by_server += fate.closed_by_server;
            sum.left += fate.left;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentiles(ms: u64) -> Percentiles {
        let mut times = crate::stats::Times::new();
        times.record_ns(ms * 1_000_000);
        times.percentiles()
    }

    const BEFORE: Footprint = Footprint { rss_kib: 50_000, descriptors: 210 };

    fn report(change: impl Fn(usize, &mut Round)) -> HostileReport {
        let round = |number| {
            let mut round = Round {
                fates: Fates::from([("silent", Fate { opened: 4, closed_by_server: 4, ..Fate::default() })]),
                highest: Footprint { rss_kib: 90_000, descriptors: 9_000 },
                after: BEFORE,
                recovered_after_seconds: 0.5,
                delay_ms: percentiles(4),
            };
            change(number, &mut round);
            round
        };
        let audience = crate::report::tests::report(|_, _| {});
        HostileReport::new(4, BEFORE, percentiles(3), (0..5).map(round).collect(), audience)
    }

    #[test]
    fn a_server_over_tls_is_refused() {
        use clap::Parser;
        let arguments = "t hostile --url rtmps://127.0.0.1/a/b --server-pid 1";
        let crate::cli::Command::Hostile(args) = crate::cli::Cli::parse_from(arguments.split(' ')).command else {
            panic!("not hostile")
        };
        assert!(hostile(&args).unwrap_err().contains("without TLS"));
    }

    #[test]
    fn a_server_that_is_what_it_was_has_no_problem() {
        let report = report(|_, round| round.delay_ms = percentiles(9));
        assert_eq!(report.problems, [""; 0]);
        assert!(
            report.text().contains("silent                                           20        0       20        0")
        );
    }

    #[test]
    fn each_bar_can_be_missed() {
        let missed = |change: fn(usize, &mut Round)| report(change).problems;
        assert_eq!(
            missed(|at, round| round.delay_ms = percentiles(if at == 1 { 12 } else { 3 })),
            ["round 2: the audience's delay was p99 12.0 ms, allowed 10.0"]
        );
        assert_eq!(
            missed(|at, round| round.after.descriptors += u64::from(at == 4)),
            ["round 5: 211 descriptors are open afterwards, 210 were before"]
        );
        assert_eq!(
            missed(|_, round| round.after.rss_kib += 16 * 1_024 + 1)[0],
            "round 1: 66385 KiB of memory afterwards, allowed 66384"
        );
        assert_eq!(
            missed(|at, round| round.after.rss_kib += 1_025 * at as u64),
            ["memory grew by 4100 KiB from the first round to the last"]
        );
        assert!(missed(|_, round| round.fates.values_mut().for_each(|fate| fate.refused = 4))[0].contains("none of 4"));
    }
}
