//! The largest audience that a server serves within a delay bound and without loss, found by doubling, then bisection.
//! An audience counts as too large when it fails twice, as a machine's hiccup is no capacity.

use crate::cli::{CapacityArgs, LoadArgs, Url};
use crate::compare::{self, Contender};
use crate::report::{self, RunReport};
use crate::run::measure;
use crate::sys;
use serde::Serialize;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Between probes, so that a server that is not started anew sees the last audience off.
const PAUSE: Duration = Duration::from_secs(1);

/// What limits an audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The next larger audience lost frames or saw them late.
    Server,
    /// The next larger one was too much for the load generator: the server may serve more.
    LoadGenerator,
    /// `--max` was reached.
    Max,
}

/// What became of one audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Held,
    Broke,
    /// It broke, but the load generator was saturated.
    Unclear,
}

#[derive(Serialize)]
struct CapacityReport {
    delay_p99_bound_ms: f64,
    servers: Vec<Capacity>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct Capacity {
    server: String,
    /// Players of each stream, and of all.
    players_per_stream: u32,
    players: u64,
    /// Players over those of the first server.
    ratio: f64,
    limited_by: Limit,
    probes: Vec<Probe>,
}

#[derive(Clone, Serialize)]
struct Probe {
    players_per_stream: u32,
    verdict: Verdict,
    delay_p99_ms: f64,
    lost: u64,
    server_cpu_share: Option<f64>,
    client_busiest_worker_share: f64,
    problems: Vec<String>,
}

/// The `capacity` subcommand.
///
/// # Errors
/// A server could not be started or a probe not be carried out.
pub fn capacity(args: &CapacityArgs) -> Result<ExitCode, String> {
    // Whether the largest audiences have descriptors shows when they are probed.
    crate::cli::prepare(args.load.connections())?;
    let servers = &args.servers;
    let pin = if args.url.is_some() { args.pin.clone() } else { vec![servers.client_cpu] };
    let pinned = pin.first().map_or(Ok(()), |cpu| sys::pin_thread(*cpu));
    pinned.map_err(|error| format!("cannot use the CPUs given: {error}"))?;
    let mut found = Vec::new();
    match &args.url {
        Some(url) => {
            found.push(search_one(args, "server", |load, label| measure(load, url, &pin, args.server_pid, label))?)
        }
        None => {
            for contender in compare::contenders(servers)? {
                let probe = |load: &LoadArgs, label: &str| one(args, &contender, load, &pin, label);
                found.push(search_one(args, &contender.name(), probe)?);
            }
        }
    }
    let report = CapacityReport::new(args.delay_p99.as_secs_f64() * 1e3, found);
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, false))
}

fn one(
    args: &CapacityArgs,
    contender: &Contender,
    load: &LoadArgs,
    pin: &[usize],
    label: &str,
) -> Result<RunReport, String> {
    let server = compare::start(&args.servers, contender, load)?;
    let url = Url::of(server.address);
    let report = measure(load, &url, pin, Some(server.pid()), label);
    server.stop();
    report
}

fn search_one(
    args: &CapacityArgs,
    name: &str,
    run: impl Fn(&LoadArgs, &str) -> Result<RunReport, String>,
) -> Result<Capacity, String> {
    let bound_ms = args.delay_p99.as_secs_f64() * 1e3;
    let mut probes = Vec::new();
    let mut once = |players: u32| {
        let load = LoadArgs { players, ..args.load.clone() };
        crate::cli::prepare(load.connections())?;
        let report = run(&load, &format!("{name}, {players} players per stream"))?;
        thread::sleep(PAUSE);
        let probe = Probe::new(players, &report, bound_ms);
        eprintln!(
            "{name}: {players} players per stream {:?}: p99 {:.1} ms, {} lost",
            probe.verdict, probe.delay_p99_ms, probe.lost
        );
        probes.push(probe.clone());
        Ok::<_, String>(probe.verdict)
    };
    let probe = |players: u32| match once(players)? {
        Verdict::Held => Ok(Verdict::Held),
        _ => once(players),
    };
    let (players_per_stream, limited_by) = search(args.load.players.min(args.max), args.max, args.precision, probe)?;
    let players = u64::from(players_per_stream) * u64::from(args.load.streams);
    Ok(Capacity { server: name.into(), players_per_stream, players, ratio: f64::NAN, limited_by, probes })
}

/// The largest audience of up to `max` that holds, to `precision` as a share of it, and what limits it.
fn search(
    from: u32,
    max: u32,
    precision: f64,
    mut probe: impl FnMut(u32) -> Result<Verdict, String>,
) -> Result<(u32, Limit), String> {
    let (mut held, mut next) = (0, from.max(1));
    let mut above = loop {
        match probe(next)? {
            Verdict::Held if next >= max => return Ok((next, Limit::Max)),
            Verdict::Held => held = next,
            verdict => break (next, verdict),
        }
        next = next.saturating_mul(2).min(max);
    };
    while f64::from(above.0 - held) > (precision * f64::from(held)).max(1.0) {
        let middle = held + (above.0 - held) / 2;
        match probe(middle)? {
            Verdict::Held => held = middle,
            verdict => above = (middle, verdict),
        }
    }
    Ok((held, if above.1 == Verdict::Unclear { Limit::LoadGenerator } else { Limit::Server }))
}

impl Probe {
    fn new(players_per_stream: u32, report: &RunReport, bound_ms: f64) -> Self {
        let within = report.delay_ms.count > 0 && report.delay_ms.p99 <= bound_ms;
        let verdict = match report.generator_limited() {
            _ if within && !report.server_failed() => Verdict::Held,
            true => Verdict::Unclear,
            false => Verdict::Broke,
        };
        Self {
            players_per_stream,
            verdict,
            delay_p99_ms: report.delay_ms.p99,
            lost: report.verified.lost,
            server_cpu_share: report.server.as_ref().map(|server| server.cpu_share),
            client_busiest_worker_share: report.client.busiest_worker_share,
            problems: report.problems.clone(),
        }
    }
}

impl CapacityReport {
    fn new(delay_p99_bound_ms: f64, mut servers: Vec<Capacity>) -> Self {
        let base = servers.first().map_or(f64::NAN, |server| server.players as f64);
        let mut problems = Vec::new();
        for server in &mut servers {
            server.ratio = server.players as f64 / base;
            let name = &server.server;
            match server.limited_by {
                _ if server.players == 0 => problems.push(format!("{name}: not even the smallest audience was served")),
                Limit::LoadGenerator => problems.push(format!(
                    "{name}: the load generator was the bottleneck above {} players: the server serves at least these; \
                     give the load generator more --threads or a larger --drain-every",
                    server.players
                )),
                Limit::Max => problems.push(format!("{name}: --max was reached: the server serves at least this")),
                Limit::Server => {}
            }
        }
        Self { delay_p99_bound_ms, servers, problems }
    }

    fn text(&self) -> String {
        let mut out = format!("largest audience, no loss and delay p99 within {} ms\n", self.delay_p99_bound_ms);
        out += &format!("{:<28}{:>9}{:>8}{:>8}   limited by\n", "", "players", "ratio", "probes");
        for server in &self.servers {
            let limit = match server.limited_by {
                Limit::Server => "the server",
                Limit::LoadGenerator => "the load generator",
                Limit::Max => "--max",
            };
            let (name, probes) = (&server.server, server.probes.len());
            out += &format!("{name:<28}{:>9}{:>8.2}{probes:>8}   {limit}\n", server.players, server.ratio);
        }
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(from: u32, max: u32, holds: u32, beyond: Verdict) -> (u32, Limit) {
        let mut probes = 0;
        let found = search(from, max, 0.05, |players| {
            probes += 1;
            Ok(if players <= holds { Verdict::Held } else { beyond })
        });
        assert!(probes < 30, "{probes}");
        found.unwrap()
    }

    #[test]
    fn the_largest_audience_is_found_to_the_precision() {
        for holds in [1, 7, 99, 100, 101, 640, 5_000] {
            let (players, limit) = found(100, 100_000, holds, Verdict::Broke);
            assert!(
                players <= holds && f64::from(holds - players) <= (0.05 * f64::from(players)).max(1.0),
                "{players}"
            );
            assert_eq!(limit, Limit::Server);
        }
        assert_eq!(found(100, 100_000, 0, Verdict::Broke).0, 0);
    }

    #[test]
    fn it_says_what_stopped_it() {
        assert_eq!(found(100, 1_000, 5_000, Verdict::Broke), (1_000, Limit::Max));
        assert_eq!(found(100, 1_000, 300, Verdict::Unclear).1, Limit::LoadGenerator);
        assert_eq!(search(1, 9, 0.1, |_| Err("gone".into())), Err("gone".into()));
    }

    #[test]
    fn late_is_broken_and_a_saturated_generator_makes_it_unclear() {
        let verdict = |bound, share| {
            let report = report::tests::report(|_, measured| measured.client.busiest_worker_share = share);
            Probe::new(1, &report, bound).verdict
        };
        assert_eq!(verdict(2.0, 0.1), Verdict::Held);
        assert_eq!(verdict(0.5, 0.1), Verdict::Broke);
        assert_eq!(verdict(0.5, 0.95), Verdict::Unclear);
    }
}
