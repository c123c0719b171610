//! The same load on several servers in turn, the order reversed from run to run, summed up as medians and as ratios to
//! the first server.

use crate::cli::{CompareArgs, LoadArgs, ServersArgs, Url};
use crate::html;
use crate::plot;
use crate::report::{self, RunReport};
use crate::run::measure;
use crate::server::Server;
use crate::stats::median;
use crate::sys;
use crate::variant::Variant;
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// A server that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contender {
    Nginx,
    Shardcast { binary: PathBuf, variant: Variant },
}

#[derive(Serialize)]
struct Comparison {
    /// Of the first server, which the ratios refer to.
    base: String,
    servers: Vec<Summary>,
    notes: Vec<String>,
    problems: Vec<String>,
}

/// Medians over a server's runs.
#[derive(Serialize)]
struct Summary {
    server: String,
    cpu_share: f64,
    cpu_seconds_per_gb: f64,
    /// CPU per GB over the base's.
    cpu_ratio: f64,
    /// Server and load generator together: work that moves from one's CPU to the other's shows here.
    both_cpu_seconds_per_gb: f64,
    delay_p50_ms: f64,
    delay_p99_ms: f64,
    play_p99_ms: f64,
    keyframe_p50_ms: f64,
    kib_per_player: f64,
    megabits_per_second: f64,
    lost: u64,
    /// The longest any run's server waited for its CPU, over the window: others used the machine.
    waited_share_max: f64,
    runs: Vec<RunReport>,
}

/// The `compare` subcommand.
///
/// # Errors
/// A server could not be started or a run not be carried out.
pub fn compare(args: &CompareArgs) -> Result<ExitCode, String> {
    crate::cli::prepare(args.load.connections())?;
    // The controlling thread must not disturb the server either.
    sys::pin_thread(args.servers.client_cpu)
        .map_err(|error| format!("cannot use CPU {}: {error}", args.servers.client_cpu))?;
    let contenders = contenders(&args.servers)?;
    let mut runs: Vec<Vec<RunReport>> = contenders.iter().map(|_| Vec::new()).collect();
    for run in 0..args.runs {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let contender = &contenders[index];
            let label = format!("run {} of {}, {}", run + 1, args.runs, contender.name());
            let report = one(args, contender, &label).map_err(|error| format!("{}: {error}", contender.name()))?;
            eprintln!("run {} of {}: {}", run + 1, args.runs, one_line(contender, &report));
            runs[index].push(report);
        }
    }
    let comparison = Comparison::new(&contenders, &args.servers, runs);
    if let Some(path) = &args.html {
        html::write(path, &comparison.page())?;
    }
    if args.load.json {
        println!("{}", serde_json::to_string_pretty(&comparison).map_err(|error| error.to_string())?);
    } else {
        print!("{}", comparison.text());
    }
    Ok(report::exit_code(&comparison.problems, args.load.allow_loss))
}

/// nginx first if it takes part, so that ratios refer to it.
///
/// # Errors
/// The path of this binary is unknown.
pub fn contenders(args: &ServersArgs) -> Result<Vec<Contender>, String> {
    let both = !args.nginx && args.shardcast.is_none();
    let mut contenders = Vec::new();
    if (args.nginx || both) && !args.no_nginx {
        contenders.push(Contender::Nginx);
    }
    if args.shardcast.is_some() || both || args.no_nginx {
        let sibling = || std::env::current_exe().map(|path| path.with_file_name("shardcast"));
        let binary = args.shardcast.clone().map_or_else(sibling, Ok).map_err(|error| error.to_string())?;
        let variants = args.variants().into_iter();
        contenders.extend(variants.map(|variant| Contender::Shardcast { binary: binary.clone(), variant }));
    }
    Ok(contenders)
}

/// Starts `contender` with room for the connections of `load`.
///
/// # Errors
/// It could not be started.
pub fn start(args: &ServersArgs, contender: &Contender, load: &LoadArgs) -> Result<Server, String> {
    let connections = usize::try_from(load.connections()).unwrap_or(usize::MAX / 4);
    match contender {
        Contender::Nginx => Server::nginx(&args.nginx_path, &args.nginx_module, args.server_cpu, connections),
        Contender::Shardcast { binary, variant } => Server::shardcast(binary, args.server_cpu, variant),
    }
}

fn one(args: &CompareArgs, contender: &Contender, label: &str) -> Result<RunReport, String> {
    let server = start(&args.servers, contender, &args.load)?;
    let url = Url::of(server.address);
    let report = measure(&args.load, &url, &[args.servers.client_cpu], Some(server.pid()), label);
    server.stop();
    report
}

fn one_line(contender: &Contender, report: &RunReport) -> String {
    let server = report.server.as_ref();
    format!(
        "{}: {:.1} % CPU, {:.3} s/GB, delay p50 {:.2} p99 {:.2} ms, {:.1} KiB per player{}{}",
        contender.name(),
        server.map_or(f64::NAN, |server| server.cpu_share * 100.0),
        server.map_or(f64::NAN, |server| server.cpu_seconds_per_gb),
        report.delay_ms.p50,
        report.delay_ms.p99,
        server.map_or(f64::NAN, |server| server.kib_per_player),
        if report.problems.is_empty() { "" } else { "; PROBLEMS: " },
        report.problems.join("; "),
    )
}

impl Contender {
    pub fn name(&self) -> String {
        match self {
            Contender::Nginx => "nginx-rtmp".into(),
            Contender::Shardcast { variant, .. } => variant.name(),
        }
    }

    /// A note if it runs where the load generator does.
    fn beside_the_generator(&self, args: &ServersArgs) -> Option<String> {
        let Contender::Shardcast { variant, .. } = self else { return None };
        let shared = variant.cpus(args.server_cpu).ok()?.contains(&args.client_cpu);
        let (name, cpu) = (self.name(), args.client_cpu);
        shared.then(|| format!("{name} shares CPU {cpu} with the load generator: its delays are upper bounds"))
    }
}

impl Comparison {
    fn new(contenders: &[Contender], args: &ServersArgs, runs: Vec<Vec<RunReport>>) -> Self {
        let mut servers: Vec<Summary> =
            contenders.iter().zip(runs).map(|(contender, runs)| Summary::new(contender.name(), runs)).collect();
        let base = servers.first().map_or(f64::NAN, |summary| summary.cpu_seconds_per_gb);
        servers.iter_mut().for_each(|summary| summary.cpu_ratio = summary.cpu_seconds_per_gb / base);
        let problems_of = |summary: &Summary| {
            let name = summary.server.clone();
            let problems: Vec<String> = summary.runs.iter().flat_map(|run| run.problems.clone()).collect();
            problems.into_iter().map(move |problem| format!("{name}: {problem}"))
        };
        let problems = servers.iter().flat_map(problems_of).collect();
        let mut notes = vec![report::LOOPBACK.to_owned()];
        for summary in servers.iter().filter(|summary| summary.waited_share_max > report::WAITED_SHARE_MAX) {
            let name = &summary.server;
            notes.push(format!("{name} shared its CPU with others: these are not figures of a quiet machine"));
        }
        notes.extend(contenders.iter().filter_map(|contender| contender.beside_the_generator(args)));
        let base = servers.first().map(|summary| summary.server.clone()).unwrap_or_default();
        Self { base, servers, notes, problems }
    }

    /// Bars of the medians, and each server's run whose CPU per GB is the median one in plots.
    fn page(&self) -> String {
        let bars = |title, value: fn(&RunReport) -> f64| {
            let bar = |summary: &Summary| {
                let values = || summary.runs.iter().map(value);
                plot::Bar {
                    name: summary.server.clone(),
                    value: median(values()).unwrap_or(f64::NAN),
                    range: [values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max)],
                }
            };
            plot::bars(title, &self.servers.iter().map(bar).collect::<Vec<_>>())
        };
        let all = [
            bars("Server CPU, seconds per GB delivered", cpu_seconds_per_gb),
            bars("Server memory per player, KiB", kib_per_player),
            bars("Delay p50, ms", |run| run.delay_ms.p50),
            bars("Delay p99, ms", |run| run.delay_ms.p99),
            bars("Connect to first keyframe p50, ms", |run| run.connect.keyframe_ms.p50),
            bars("Connect to play answered p50, ms", |run| run.connect.play_ms.p50),
        ];
        let typical = |summary: &'_ Summary| {
            let distance = |run: &&RunReport| {
                run.server.as_ref().map_or(0.0, |server| (server.cpu_seconds_per_gb - summary.cpu_seconds_per_gb).abs())
            };
            summary.runs.iter().enumerate().min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1))).map(|(at, _)| at)
        };
        let runs: Vec<_> = self
            .servers
            .iter()
            .filter_map(|summary| Some((summary.server.as_str(), summary.runs.get(typical(summary)?)?)))
            .collect();
        html::comparison(&all, &runs, &self.problems, &self.text())
    }

    fn text(&self) -> String {
        let mut out = format!(
            "{:<26}{:>5}{:>8}{:>9}{:>8}{:>9}{:>10}{:>10}{:>11}{:>9}{:>9}{:>6}{:>7}\n",
            "medians",
            "runs",
            "CPU %",
            "s/GB",
            "ratio",
            "both",
            "p50 ms",
            "p99 ms",
            "keyframe",
            "KiB/pl.",
            "Mb/s",
            "lost",
            "wait %"
        );
        for summary in &self.servers {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{:<26}{:>5}{:>8.1}{:>9.3}{:>8.3}{:>9.3}{:>10.2}{:>10.2}{:>11.1}{:>9.1}{:>9.0}{:>6}{:>7.1}",
                summary.server,
                summary.runs.len(),
                summary.cpu_share * 100.0,
                summary.cpu_seconds_per_gb,
                summary.cpu_ratio,
                summary.both_cpu_seconds_per_gb,
                summary.delay_p50_ms,
                summary.delay_p99_ms,
                summary.keyframe_p50_ms,
                summary.kib_per_player,
                summary.megabits_per_second,
                summary.lost,
                summary.waited_share_max * 100.0
            );
        }
        let _ = writeln!(
            out,
            "s/GB: server CPU per GB delivered; ratio: over {}; both: with the load generator's",
            self.base
        );
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        for problem in &self.problems {
            let _ = writeln!(out, "PROBLEM: {problem}");
        }
        out
    }
}

fn cpu_seconds_per_gb(run: &RunReport) -> f64 {
    run.server.as_ref().map_or(f64::NAN, |server| server.cpu_seconds_per_gb)
}

fn kib_per_player(run: &RunReport) -> f64 {
    run.server.as_ref().map_or(f64::NAN, |server| server.kib_per_player)
}

impl Summary {
    fn new(server: String, runs: Vec<RunReport>) -> Self {
        let of = |value: fn(&RunReport) -> f64| median(runs.iter().map(value)).unwrap_or(f64::NAN);
        Self {
            server,
            cpu_share: of(|run| run.server.as_ref().map_or(f64::NAN, |server| server.cpu_share)),
            cpu_seconds_per_gb: of(cpu_seconds_per_gb),
            cpu_ratio: f64::NAN,
            both_cpu_seconds_per_gb: of(|run| cpu_seconds_per_gb(run) + run.client.cpu_seconds_per_gb),
            delay_p50_ms: of(|run| run.delay_ms.p50),
            delay_p99_ms: of(|run| run.delay_ms.p99),
            play_p99_ms: of(|run| run.connect.play_ms.p99),
            keyframe_p50_ms: of(|run| run.connect.keyframe_ms.p50),
            kib_per_player: of(kib_per_player),
            megabits_per_second: of(|run| run.delivery.megabits_per_second),
            lost: runs.iter().map(|run| run.verified.lost).sum(),
            waited_share_max: runs.iter().filter_map(|run| Some(run.server.as_ref()?.waited_share)).fold(0.0, f64::max),
            runs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn chosen(arguments: &str) -> Vec<String> {
        let arguments = ["t", "compare"].into_iter().chain(arguments.split_whitespace());
        let crate::cli::Command::Compare(args) = crate::cli::Cli::parse_from(arguments).command else {
            panic!("not compare")
        };
        contenders(&args.servers).unwrap().iter().map(Contender::name).collect()
    }

    #[test]
    fn variants_come_as_flags_and_nginx_can_be_left_out() {
        let parsed = |arguments: &[&str]| {
            let arguments = ["t", "compare", "--no-nginx"].iter().chain(arguments);
            let crate::cli::Command::Compare(args) = crate::cli::Cli::parse_from(arguments).command else {
                panic!("not compare")
            };
            contenders(&args.servers).unwrap().iter().map(Contender::name).collect::<Vec<_>>()
        };
        let variants = ["--variant", "--merge-ms 0", "--variant", "--cpus 0,1", "--variant", ""];
        assert_eq!(parsed(&variants), ["shardcast --merge-ms 0", "shardcast --cpus 0,1", "shardcast"]);
        assert_eq!(parsed(&["--merge-ms", "auto,default"]), ["shardcast --merge-ms auto", "shardcast"]);
        let common = ["--shardcast-args", "--chunk-size 128", "--merge-ms", "5", "--variant", "--chunk-size 64"];
        assert_eq!(parsed(&common), ["shardcast --merge-ms 5 --chunk-size 128", "shardcast --chunk-size 64"]);
    }

    #[test]
    fn a_server_on_the_generators_cpu_is_noted() {
        let crate::cli::Command::Compare(args) =
            crate::cli::Cli::parse_from(["t", "compare", "--no-nginx", "--variant", "--cpus 0,1", "--variant", ""])
                .command
        else {
            panic!("not compare")
        };
        let contenders = contenders(&args.servers).unwrap();
        let notes: Vec<_> = contenders.iter().map(|one| one.beside_the_generator(&args.servers)).collect();
        assert!(notes[0].as_ref().is_some_and(|note| note.contains("shares CPU 1")) && notes[1].is_none(), "{notes:?}");
    }

    #[test]
    fn each_merge_value_is_a_server_and_nginx_is_the_base() {
        let both = ["nginx-rtmp", "shardcast --merge-ms 0", "shardcast --merge-ms 40"];
        assert_eq!(chosen("--merge-ms 0,40"), both);
        assert_eq!(chosen("--merge-ms 0,40 --nginx --shardcast x"), both);
        assert_eq!(chosen("--nginx"), ["nginx-rtmp"]);
        assert_eq!(chosen("--shardcast x"), ["shardcast --merge-ms 0"]);
    }
}
