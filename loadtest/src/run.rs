//! One run from begin to end: publishers, players, warm-up, window, drain. Drives the workers and measures the server
//! and the load generator itself at the window's ends.

use crate::cli::{LoadArgs, RunArgs, Url};
use crate::control::{BEGIN_DEADLINE, Control};
use crate::cpus::{Room, Thread};
use crate::engine::{Share, Worker};
use crate::html;
use crate::player::Role;
use crate::process::{self, Cpu, Tree};
use crate::progress::Style;
use crate::report::{self, ClientReport, MachineReport, RunReport, Sample, ServerReport};
use crate::shared::{Phase, Settings, Shared};
use crate::sys::{self, monotonic_ns};
use crate::tally::Tally;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Shorter windows measure nothing: CPU time of a process counts in steps of 10 ms.
const WINDOW_MIN: Duration = Duration::from_millis(500);
/// The window is sampled this often, and in longer steps when that makes too many.
const SAMPLE_NS: u64 = 250_000_000;
const SAMPLES_MAX: u64 = 200;
/// After the verified players have everything, the others may still be behind by this.
const LAST_BYTES: Duration = Duration::from_millis(300);

/// What a run does beyond its load.
#[derive(Default)]
pub struct Plan<'a> {
    /// Further players of each stream, which stop reading when the window begins.
    pub stalled: u32,
    pub stalled_receive_bytes: usize,
    /// Publishers send as fast as verified players receive.
    pub unpaced: bool,
    /// Which of several runs this is, for the line of progress.
    pub label: &'a str,
    /// Names of the parts of the window, whose delays are kept apart; `beside` says which part it is.
    pub parts: &'a [String],
    /// Runs beside the window on a thread of its own, until told that the window is over.
    pub beside: Option<&'a Beside<'a>>,
}

/// What runs beside the window; the flag says that it is over.
pub type Beside<'a> = dyn Fn(&Shared, &AtomicBool) + Sync + 'a;

/// The `run` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn run(args: &RunArgs) -> Result<ExitCode, String> {
    let target = &args.target;
    target.prepare(args.load.connections())?;
    let url = Url { publish_at: target.publish_at, ..target.url.clone() };
    let report = measure(&args.load, &url, &target.pin, target.server_pid, "")?;
    if let Some(path) = &args.html {
        html::write(path, &html::run(&report))?;
    }
    report::print(&report, args.load.json, || report::text(&report))?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// Carries out one run; `label` says which of several it is.
///
/// # Errors
/// Publishers could not publish, the server's process is gone, or a worker failed.
pub fn measure(
    load: &LoadArgs,
    url: &Url,
    pin: &[usize],
    server_pid: Option<u32>,
    label: &str,
) -> Result<RunReport, String> {
    let (report, _) = measure_plan(load, url, pin, server_pid, &Plan { label, ..Plan::default() })?;
    Ok(report)
}

/// As [`measure`], with `plan`; the tally of all workers too.
pub fn measure_plan(
    load: &LoadArgs,
    url: &Url,
    pin: &[usize],
    server_pid: Option<u32>,
    plan: &Plan,
) -> Result<(RunReport, Tally), String> {
    if load.duration < WINDOW_MIN {
        return Err(format!("--duration is at least {} ms", WINDOW_MIN.as_millis()));
    }
    let server = server_pid.map(Tree::of).transpose()?;
    let settings = settings(load, url, plan);
    let (measured, tally) = with_workers(&settings, shares(load, plan.stalled), pin, |shared| {
        let players =
            settings.names.len() * usize::try_from(load.players.saturating_add(plan.stalled)).unwrap_or(usize::MAX);
        let control = Control::new(shared, server.as_ref(), load, players, plan.label).with_parts(plan.parts);
        conduct(load, &settings, &control, players, plan)
    })?;
    Ok((RunReport::new(load, &measured, &tally), tally))
}

pub fn settings(load: &LoadArgs, url: &Url, plan: &Plan) -> Settings {
    Settings {
        address: url.address,
        secure: url.secure,
        publish_secure: url.secure && url.publish_at.is_none(),
        publish_address: url.publish_at.unwrap_or(url.address),
        tc_url: url.tc_url.clone(),
        app: url.app.clone(),
        names: url.names(load.streams),
        shape: load.shape(),
        chunk_bytes: usize::try_from(load.chunk_size).unwrap_or(4_096),
        drain_every: load.drain_every.max(Duration::from_millis(1)),
        connects_per_second: load.connect_rate,
        threads: usize::try_from(load.threads).unwrap_or(1),
        stalled_receive_bytes: plan.stalled_receive_bytes,
        unpaced: plan.unpaced,
        parts: plan.parts.len(),
        progress: Style::of_stderr(load.progress) != Style::Off,
    }
}

/// Runs `conduct` while workers serve `shares`, then closes all connections.
pub fn with_workers<T>(
    settings: &Settings,
    shares: Vec<Share>,
    pin: &[usize],
    conduct: impl FnOnce(&Shared) -> Result<T, String>,
) -> Result<(T, Tally), String> {
    let shared = Shared::new(settings.names.len(), settings.threads);
    thread::scope(|scope| {
        let spawn = |share: Share| {
            let shared = &shared;
            let cpu = (!pin.is_empty()).then(|| pin[share.worker % pin.len()]);
            scope.spawn(move || work(settings, shared, share, cpu))
        };
        let workers: Vec<_> = shares.into_iter().map(spawn).collect();
        let measured = conduct(&shared);
        shared.enter(Phase::Close);
        let mut tally = Tally::new();
        for worker in workers {
            tally.add(worker.join().map_err(|_| "a worker panicked")??);
        }
        Ok((measured?, tally))
    })
}

fn work(settings: &Settings, shared: &Shared, share: Share, cpu: Option<usize>) -> Result<Tally, String> {
    let pinned = cpu.map_or(Ok(()), sys::pin_thread);
    let tally = pinned.and_then(|()| Worker::new(settings, shared, share)?.run());
    tally.map_err(|error| {
        let reason = format!("a worker of the load generator failed: {error}");
        shared.fail(reason.clone());
        reason
    })
}

/// Deals streams and players out to workers. The first players of each stream are the verified ones.
pub fn shares(load: &LoadArgs, stalled: u32) -> Vec<Share> {
    let workers = usize::try_from(load.threads).unwrap_or(1).max(1);
    let mut shares: Vec<Share> = (0..workers).map(|worker| Share { worker, ..Share::default() }).collect();
    let streams = usize::try_from(load.streams).unwrap_or(0);
    for stream in 0..streams {
        shares[stream % workers].publishers.push(stream);
    }
    for player in 0..load.players.saturating_add(stalled) {
        for stream in 0..streams {
            let worker = (stream + usize::try_from(player).unwrap_or(0)) % workers;
            let role = match player {
                _ if player >= load.players => Role::Stalled,
                _ if player < load.sample => Role::Verified,
                _ => Role::Drained,
            };
            shares[worker].players.push((stream, role));
        }
    }
    shares.iter_mut().for_each(|share| share.first = share.players.len());
    shares
}

/// What the controlling thread has measured.
pub struct Measured {
    pub window_seconds: f64,
    pub player_bytes: u64,
    pub join_seconds: f64,
    pub client: ClientReport,
    pub server: Option<ServerReport>,
    pub machine: MachineReport,
    pub timeline: Vec<Sample>,
    pub stalled_per_stream: u32,
    pub unpaced: bool,
}

/// The state of everything at one moment of the window.
struct Snapshot {
    at_ns: u64,
    player_bytes: u64,
    workers_cpu_ns: Vec<u64>,
    workers_waited: Vec<f64>,
    server_cpu: Cpu,
}

/// What is looked at only at the window's ends.
struct End {
    snapshot: Snapshot,
    rss_kib: u64,
    server_threads: Vec<Thread>,
    worker_threads: Vec<Thread>,
    own_cpu: Cpu,
    machine_seconds: f64,
}

fn conduct(
    load: &LoadArgs,
    settings: &Settings,
    control: &Control,
    players: usize,
    plan: &Plan,
) -> Result<Measured, String> {
    let (shared, server) = (control.shared, control.server);
    let rss_idle_kib = server.map_or(0, Tree::rss_kib);
    control.await_publishers(settings.names.len())?;
    // The server's own buffers of the stream are filled before players count, and the first player joins in the middle
    // of a GOP.
    control.sleep((load.gop * 5 / 2).clamp(Duration::from_secs(1), Duration::from_secs(20)))?;
    let rss_before_kib = server.map_or(0, Tree::rss_kib);

    let join_from_ns = monotonic_ns();
    shared.enter(Phase::Join);
    control.await_players(players)?;
    let join_seconds = (monotonic_ns() - join_from_ns) as f64 / 1e9;

    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let from_ns = monotonic_ns() + ns(load.warmup);
    let until_ns = from_ns + ns(load.duration);
    shared.set_window(from_ns, until_ns, until_ns + ns(load.drain_deadline));
    control.doing("warming up", Some(from_ns));
    control.sleep_until(from_ns)?;
    control.doing("measuring", Some(until_ns));
    let start = End::take(control);
    let over = AtomicBool::new(false);
    let timeline = thread::scope(|scope| {
        if let Some(beside) = plan.beside {
            scope.spawn(|| beside(shared, &over));
        }
        let timeline = observe(control, &start.snapshot);
        over.store(true, Ordering::Release);
        timeline
    })?;
    let end = End::take(control);

    control.doing("draining", None);
    control.await_all(load.drain_deadline + BEGIN_DEADLINE, || {
        shared.settled.load(Ordering::Acquire) == settings.threads
    })?;
    thread::sleep(LAST_BYTES + load.drain_every * 2);
    let window_seconds = (end.snapshot.at_ns - start.snapshot.at_ns) as f64 / 1e9;
    let player_bytes = end.snapshot.player_bytes - start.snapshot.player_bytes;
    let server_room = Room::between(&start.server_threads, &end.server_threads, window_seconds);
    let server = server.map(|_| {
        let cpu = end.snapshot.server_cpu.since(&start.snapshot.server_cpu);
        let rss_kib = [rss_idle_kib, rss_before_kib, start.rss_kib, end.rss_kib];
        ServerReport::new(&cpu, server_room.cpus(), window_seconds, player_bytes, rss_kib, players)
    });
    Ok(Measured {
        window_seconds,
        player_bytes,
        join_seconds,
        client: client_report(&start.snapshot, &end.snapshot, window_seconds, player_bytes),
        server,
        machine: machine_report(&start, &end, &server_room, window_seconds),
        timeline,
        stalled_per_stream: plan.stalled,
        unpaced: plan.unpaced,
    })
}

/// Samples what both sides do, until the window's end, which may be brought forward meanwhile.
fn observe(control: &Control, start: &Snapshot) -> Result<Vec<Sample>, String> {
    let (s, server) = (control.shared, control.server);
    let until_ns = s.window().end;
    let (mut samples, mut last) = (Vec::new(), Snapshot::take(s, server));
    let seconds = (until_ns.saturating_sub(last.at_ns)) / 1_000_000_000;
    let every_ns = (seconds / SAMPLES_MAX + 1) * SAMPLE_NS;
    while last.at_ns < s.window().end {
        control.sleep_until((last.at_ns + every_ns).min(s.window().end))?;
        let now = Snapshot::take(s, server);
        let seconds = (now.at_ns - last.at_ns) as f64 / 1e9;
        let client_ns = now.workers_cpu_ns.iter().sum::<u64>().saturating_sub(last.workers_cpu_ns.iter().sum());
        samples.push(Sample {
            at_seconds: (now.at_ns - start.at_ns) as f64 / 1e9,
            megabits_per_second: (now.player_bytes - last.player_bytes) as f64 * 8.0 / 1e6 / seconds,
            client_cpu_share: client_ns as f64 / 1e9 / seconds,
            server_cpu_share: server.map(|_| now.server_cpu.since(&last.server_cpu).total_seconds() / seconds),
            server_rss_kib: server.map(Tree::rss_kib),
        });
        last = now;
    }
    Ok(samples)
}

fn client_report(start: &Snapshot, end: &Snapshot, seconds: f64, player_bytes: u64) -> ClientReport {
    let cpu = |(end, start): (&u64, &u64)| end.saturating_sub(*start) as f64 / 1e9;
    let cpus: Vec<f64> = end.workers_cpu_ns.iter().zip(&start.workers_cpu_ns).map(cpu).collect();
    let waits = end.workers_waited.iter().zip(&start.workers_waited).map(|(end, start)| (end - start) / seconds);
    ClientReport {
        cpu_seconds: cpus.iter().sum(),
        cpu_seconds_per_gb: cpus.iter().sum::<f64>() / (player_bytes as f64 / 1e9),
        busiest_worker_share: cpus.iter().fold(0.0, |most: f64, cpu| most.max(cpu / seconds)),
        waited_share: waits.fold(0.0, f64::max),
    }
}

fn machine_report(start: &End, end: &End, server_room: &Room, seconds: f64) -> MachineReport {
    let workers = Room::between(&start.worker_threads, &end.worker_threads, seconds);
    let server = end.snapshot.server_cpu.since(&start.snapshot.server_cpu).total_seconds();
    let both = server + end.own_cpu.since(&start.own_cpu).total_seconds();
    MachineReport {
        cpus_for_both: server_room.and(&workers).cpus(),
        both_cpu_share: both / seconds,
        others_cpu_share: (end.machine_seconds - start.machine_seconds - both).max(0.0) / seconds,
    }
}

impl Snapshot {
    fn take(shared: &Shared, server: Option<&Tree>) -> Self {
        let waited = |gauges: &crate::shared::Gauges| {
            process::thread_times(std::process::id(), gauges.thread_id.load(Ordering::Relaxed)).1
        };
        Self {
            at_ns: monotonic_ns(),
            player_bytes: shared.player_bytes(),
            workers_cpu_ns: shared.cpu_ns(),
            workers_waited: shared.gauges.iter().map(waited).collect(),
            server_cpu: server.map(Tree::cpu).unwrap_or_default(),
        }
    }
}

impl End {
    fn take(control: &Control) -> Self {
        let worker = |gauges: &crate::shared::Gauges| {
            process::thread(std::process::id(), gauges.thread_id.load(Ordering::Relaxed))
        };
        Self {
            snapshot: Snapshot::take(control.shared, control.server),
            machine_seconds: process::machine_seconds(),
            own_cpu: Tree::own().cpu(),
            rss_kib: control.server.map_or(0, Tree::rss_kib),
            server_threads: control.server.map(Tree::threads).unwrap_or_default(),
            worker_threads: control.shared.gauges.iter().map(worker).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn every_stream_and_player_is_dealt_out_once() {
        let arguments = "t run --url rtmp://127.0.0.1/a/b --streams 3 --players 5 --sample 2 --threads 2";
        let crate::cli::Command::Run(args) = crate::cli::Cli::parse_from(arguments.split(' ')).command else {
            panic!("not run")
        };
        let shares = shares(&args.load, 1);
        let mut streams: Vec<_> = shares.iter().flat_map(|share| share.publishers.clone()).collect();
        streams.sort_unstable();
        assert_eq!(streams, [0, 1, 2]);
        let players: Vec<_> = shares.iter().flat_map(|share| share.players.clone()).collect();
        for stream in 0..3 {
            let count = |role| players.iter().filter(|player| **player == (stream, role)).count();
            assert_eq!([Role::Verified, Role::Drained, Role::Stalled].map(count), [2, 3, 1]);
        }
        assert!(shares.iter().all(|share| share.players.len() >= 8 && share.first == share.players.len()), "evenly");
    }
}
