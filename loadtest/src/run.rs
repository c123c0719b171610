//! One run from begin to end: publishers, players, warm-up, window, drain. Drives the workers and measures the server
//! and the load generator itself at the window's ends.

use crate::cli::{LoadArgs, RunArgs, Url};
use crate::engine::{Share, Worker};
use crate::process::{self, Cpu, Tree};
use crate::report::{self, ClientReport, RunReport, ServerReport};
use crate::shared::{Phase, Settings, Shared};
use crate::sys::{self, monotonic_ns};
use crate::tally::Tally;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// How long publishers may take to be allowed to publish, and players to get a keyframe after the last one connected.
const BEGIN_DEADLINE: Duration = Duration::from_secs(15);
/// Shorter windows measure nothing: CPU time of a process counts in steps of 10 ms.
const WINDOW_MIN: Duration = Duration::from_millis(500);
/// Pause of the controlling thread between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// After the verified players have everything, the others may still be behind by this.
const LAST_BYTES: Duration = Duration::from_millis(300);

/// The `run` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn run(args: &RunArgs) -> Result<ExitCode, String> {
    sys::raise_descriptor_limit().map_err(|error| format!("cannot raise the limit of descriptors: {error}"))?;
    if let Some(cpu) = args.pin.first() {
        sys::pin_thread(*cpu).map_err(|error| format!("cannot use CPU {cpu}: {error}"))?;
    }
    let report = measure(&args.load, &args.url, &args.pin, args.server_pid)?;
    if args.load.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?);
    } else {
        print!("{}", report::text(&report));
    }
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

/// Carries out one run.
///
/// # Errors
/// Publishers could not publish, the server's process is gone, or a worker failed.
pub fn measure(load: &LoadArgs, url: &Url, pin: &[usize], server_pid: Option<u32>) -> Result<RunReport, String> {
    if load.duration < WINDOW_MIN {
        return Err(format!("--duration is at least {} ms", WINDOW_MIN.as_millis()));
    }
    let settings = Settings {
        address: url.address,
        tc_url: url.tc_url.clone(),
        app: url.app.clone(),
        names: url.names(load.streams),
        shape: load.shape(),
        chunk_bytes: usize::try_from(load.chunk_size).unwrap_or(4_096),
        drain_every: load.drain_every.max(Duration::from_millis(1)),
        connects_per_second: load.connect_rate,
        threads: usize::try_from(load.threads).unwrap_or(1),
    };
    let server = server_pid.map(Tree::of).transpose()?;
    let shared = Shared::new(settings.names.len(), settings.threads);
    thread::scope(|scope| {
        let spawn = |share: Share| {
            let (settings, shared) = (&settings, &shared);
            let cpu = (!pin.is_empty()).then(|| pin[share.worker % pin.len()]);
            scope.spawn(move || work(settings, shared, share, cpu))
        };
        let workers: Vec<_> = shares(load).into_iter().map(spawn).collect();
        let measured = conduct(load, &settings, &shared, server.as_ref());
        shared.enter(Phase::Close);
        let mut tally = Tally::new();
        for worker in workers {
            tally.add(worker.join().map_err(|_| "a worker panicked")??);
        }
        Ok(RunReport::new(load, &measured?, tally))
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
fn shares(load: &LoadArgs) -> Vec<Share> {
    let workers = usize::try_from(load.threads).unwrap_or(1).max(1);
    let mut shares: Vec<Share> = (0..workers).map(|worker| Share { worker, ..Share::default() }).collect();
    let streams = usize::try_from(load.streams).unwrap_or(0);
    for stream in 0..streams {
        shares[stream % workers].publishers.push(stream);
    }
    for player in 0..load.players {
        for stream in 0..streams {
            let worker = (stream + usize::try_from(player).unwrap_or(0)) % workers;
            shares[worker].players.push((stream, player < load.sample));
        }
    }
    shares
}

/// What the controlling thread has measured.
pub struct Measured {
    pub window_seconds: f64,
    pub player_bytes: u64,
    pub join_seconds: f64,
    pub client: ClientReport,
    pub server: Option<ServerReport>,
}

/// The state of everything at one end of the window.
struct Snapshot {
    at_ns: u64,
    player_bytes: u64,
    workers_cpu_ns: Vec<u64>,
    workers_waited: Vec<f64>,
    server_cpu: Cpu,
}

fn conduct(load: &LoadArgs, settings: &Settings, shared: &Shared, server: Option<&Tree>) -> Result<Measured, String> {
    let streams = settings.names.len();
    let players = streams * usize::try_from(load.players).unwrap_or(usize::MAX);
    let connecting = |count: usize| Duration::from_secs_f64(count as f64 / f64::from(load.connect_rate));
    let rss_idle_kib = server.map_or(0, Tree::rss_kib);

    await_all(shared, server, connecting(streams) + BEGIN_DEADLINE, || {
        shared.publishing.load(Ordering::Acquire) == streams
    })?
    .then_some(())
    .ok_or("not all publishers were allowed to publish in time; is the URL's app one the server accepts?")?;
    // The server's own buffers of the stream are filled before players count, and the first player joins in the middle
    // of a GOP.
    thread::sleep((load.gop * 5 / 2).clamp(Duration::from_secs(1), Duration::from_secs(20)));
    let rss_before_kib = server.map_or(0, Tree::rss_kib);

    let join_from_ns = monotonic_ns();
    shared.enter(Phase::Join);
    await_all(shared, server, connecting(players) + load.gop * 2 + BEGIN_DEADLINE, || {
        shared.joined.load(Ordering::Acquire) == players
    })?;
    let join_seconds = (monotonic_ns() - join_from_ns) as f64 / 1e9;

    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let from_ns = monotonic_ns() + ns(load.warmup);
    let until_ns = from_ns + ns(load.duration);
    shared.set_window(from_ns, until_ns, until_ns + ns(load.drain_deadline));
    sleep_until(from_ns, shared, server)?;
    let start = Snapshot::take(shared, server);
    sleep_until(until_ns, shared, server)?;
    let end = Snapshot::take(shared, server);
    let rss_players_kib = server.map_or(0, Tree::rss_kib);

    await_all(shared, server, load.drain_deadline + BEGIN_DEADLINE, || {
        shared.settled.load(Ordering::Acquire) == settings.threads
    })?;
    thread::sleep(LAST_BYTES + load.drain_every * 2);
    let window_seconds = (end.at_ns - start.at_ns) as f64 / 1e9;
    let player_bytes = end.player_bytes - start.player_bytes;
    let server = server.map(|_| {
        let cpu = end.server_cpu.since(&start.server_cpu);
        let rss_kib = [rss_idle_kib, rss_before_kib, rss_players_kib];
        ServerReport::new(&cpu, window_seconds, player_bytes, rss_kib, players)
    });
    let client = client_report(&start, &end, window_seconds, player_bytes);
    Ok(Measured { window_seconds, player_bytes, join_seconds, client, server })
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

/// Waits until `done`; false if `deadline` came first.
fn await_all(s: &Shared, server: Option<&Tree>, deadline: Duration, done: impl Fn() -> bool) -> Result<bool, String> {
    let until_ns = monotonic_ns().saturating_add(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
    while !done() {
        check(s, server)?;
        if monotonic_ns() >= until_ns {
            return Ok(false);
        }
        thread::sleep(LOOK);
    }
    Ok(true)
}

fn sleep_until(at_ns: u64, shared: &Shared, server: Option<&Tree>) -> Result<(), String> {
    loop {
        let left = Duration::from_nanos(at_ns.saturating_sub(monotonic_ns()));
        if left.is_zero() {
            return Ok(());
        }
        check(shared, server)?;
        thread::sleep(left.min(Duration::from_millis(250)));
    }
}

fn check(shared: &Shared, server: Option<&Tree>) -> Result<(), String> {
    if let Some(reason) = shared.failure() {
        return Err(reason);
    }
    match server {
        Some(tree) if !tree.alive() => Err("the server's process ended during the run".into()),
        _ => Ok(()),
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
        let shares = shares(&args.load);
        let mut streams: Vec<_> = shares.iter().flat_map(|share| share.publishers.clone()).collect();
        streams.sort_unstable();
        assert_eq!(streams, [0, 1, 2]);
        let players: Vec<_> = shares.iter().flat_map(|share| share.players.clone()).collect();
        for stream in 0..3 {
            assert_eq!(players.iter().filter(|player| **player == (stream, true)).count(), 2);
            assert_eq!(players.iter().filter(|player| **player == (stream, false)).count(), 3);
        }
        assert!(shares.iter().all(|share| share.players.len() >= 7), "evenly");
    }
}
