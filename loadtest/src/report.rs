//! What a run has found, as JSON and as text, and what is wrong with it.

use crate::cli::LoadArgs;
use crate::process::Cpu;
use crate::run::Measured;
use crate::stats::Percentiles;
use crate::tally::Tally;
use crate::verify::Findings;
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;

/// A worker busier than this may itself have been what limited the run.
pub const WORKER_SHARE_MAX: f64 = 0.9;
/// Server or load generator waiting for a CPU longer than this share of the window: others use the machine.
pub const WAITED_SHARE_MAX: f64 = 0.05;

/// What CPU figures mean where both sides share a machine.
pub const LOOPBACK: &str = "on loopback the server's CPU includes the kernel's receive path up to the players' sockets, \
    and what a server without TCP_NODELAY holds back is sent on the load generator's CPU";

#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub load: LoadReport,
    pub connect: ConnectReport,
    pub delivery: DeliveryReport,
    /// From when a frame was due to when a verified player had all of it.
    pub delay_ms: Percentiles,
    pub verified: Findings,
    pub publishers: PublisherReport,
    pub client: ClientReport,
    pub server: Option<ServerReport>,
    pub timeline: Vec<Sample>,
    /// Delays in ms below which a share of the frames lies: pairs of share and delay.
    pub delay_curve_ms: Vec<(f64, f64)>,
    /// Each makes the exit code 1.
    pub problems: Vec<String>,
    /// What a reader should know, but no fault of the server's.
    pub notes: Vec<String>,
}

/// What both sides did in one step of the window.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The step's end, from the window's begin.
    pub at_seconds: f64,
    pub megabits_per_second: f64,
    /// Of one CPU, as the next.
    pub client_cpu_share: f64,
    pub server_cpu_share: Option<f64>,
    pub server_rss_kib: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    pub streams: u32,
    pub players_per_stream: u32,
    /// Further players that stop reading when the window begins.
    pub stalled_per_stream: u32,
    /// Publishers sent as fast as verified players received.
    pub unpaced: bool,
    pub video_bits_per_second: u64,
    pub frames_per_second: u64,
    pub gop_ms: u64,
    pub audio: bool,
    pub publisher_chunk_bytes: u32,
    pub warmup_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConnectReport {
    /// From the first connect to the last player's first keyframe.
    pub seconds: f64,
    pub players_failed: u64,
    pub players_without_keyframe: u64,
    pub play_ms: Percentiles,
    pub keyframe_ms: Percentiles,
}

#[derive(Clone, Debug, Serialize)]
pub struct DeliveryReport {
    pub seconds: f64,
    /// At all players.
    pub bytes: u64,
    pub megabits_per_second: f64,
    /// Players that received under nine tenths of the median of their stream.
    pub players_starved: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct PublisherReport {
    pub failed: u64,
    pub frames: u64,
    pub late_ms: Percentiles,
    /// Frames later than `--late`.
    pub late_frames: u64,
    pub backlog_bytes_max: usize,
}

/// The load generator's own cost in the window.
#[derive(Clone, Debug, Serialize)]
pub struct ClientReport {
    pub cpu_seconds: f64,
    pub cpu_seconds_per_gb: f64,
    /// CPU time of the busiest worker over the window.
    pub busiest_worker_share: f64,
    /// The longest a worker waited for a CPU, over the window.
    pub waited_share: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ServerReport {
    pub cpu_seconds: f64,
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// Of one CPU.
    pub cpu_share: f64,
    pub cpu_seconds_per_gb: f64,
    /// All its threads' time waiting for a CPU, over the window.
    pub waited_share: f64,
    pub rss_idle_kib: u64,
    pub rss_before_players_kib: u64,
    /// When the window began.
    pub rss_before_window_kib: u64,
    pub rss_with_players_kib: u64,
    pub kib_per_player: f64,
}

impl ServerReport {
    /// `rss_kib`: before anything connected, with publishers, when the window began, when it ended.
    pub fn new(cpu: &Cpu, seconds: f64, player_bytes: u64, rss_kib: [u64; 4], players: usize) -> Self {
        let cpu_seconds = cpu.total_seconds();
        Self {
            cpu_seconds,
            user_seconds: cpu.user_seconds,
            system_seconds: cpu.system_seconds,
            cpu_share: cpu_seconds / seconds,
            cpu_seconds_per_gb: cpu_seconds / (player_bytes as f64 / 1e9),
            waited_share: cpu.waited_seconds / seconds,
            rss_idle_kib: rss_kib[0],
            rss_before_players_kib: rss_kib[1],
            rss_before_window_kib: rss_kib[2],
            rss_with_players_kib: rss_kib[3],
            kib_per_player: (rss_kib[3] as f64 - rss_kib[1] as f64) / players.max(1) as f64,
        }
    }
}

impl RunReport {
    pub fn new(load: &LoadArgs, measured: &Measured, tally: &Tally) -> Self {
        let late_ns = u64::try_from(load.late.as_nanos()).unwrap_or(u64::MAX);
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut report = Self {
            load: LoadReport {
                streams: load.streams,
                players_per_stream: load.players,
                stalled_per_stream: measured.stalled_per_stream,
                unpaced: measured.unpaced,
                video_bits_per_second: load.bitrate,
                frames_per_second: load.fps,
                gop_ms: ms(load.gop),
                audio: load.shape().audio,
                publisher_chunk_bytes: load.chunk_size,
                warmup_ms: ms(load.warmup),
            },
            connect: ConnectReport {
                seconds: measured.join_seconds,
                players_failed: tally.players_failed,
                players_without_keyframe: tally.players_unjoined,
                play_ms: tally.play.percentiles(),
                keyframe_ms: tally.keyframe.percentiles(),
            },
            delivery: DeliveryReport {
                seconds: measured.window_seconds,
                bytes: measured.player_bytes,
                megabits_per_second: measured.player_bytes as f64 * 8.0 / 1e6 / measured.window_seconds,
                players_starved: tally.starved(),
            },
            delay_ms: tally.delay.percentiles(),
            verified: tally.findings,
            publishers: PublisherReport {
                failed: tally.publishers_failed,
                frames: tally.frames_sent,
                late_ms: tally.late.percentiles(),
                late_frames: tally.late.above_ns(late_ns),
                backlog_bytes_max: tally.publisher_backlog_max,
            },
            client: measured.client.clone(),
            server: measured.server.clone(),
            timeline: measured.timeline.clone(),
            delay_curve_ms: tally.delay.curve(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        report.problems = report.find_problems(load);
        report.problems.extend(tally.reasons.iter().cloned());
        report.notes = report.find_notes();
        report
    }

    /// Whether the load generator, and not the server, may be what limited the run.
    pub fn generator_limited(&self) -> bool {
        let server_busy = self.server.as_ref().is_some_and(|server| server.cpu_share > WORKER_SHARE_MAX);
        self.client.busiest_worker_share > WORKER_SHARE_MAX && !server_busy
    }

    /// Whether players missed anything, or got what they should not.
    pub fn server_failed(&self) -> bool {
        self.failures().iter().any(|(count, _)| *count > 0)
    }

    fn find_problems(&self, load: &LoadArgs) -> Vec<String> {
        let counted =
            self.failures().into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        let mut problems: Vec<String> = counted.collect();
        let late_ms = load.late.as_secs_f64() * 1e3;
        if self.publishers.late_ms.p99 > late_ms {
            // A worker that was idle half the time was late because it was not let run.
            let others = self.client.waited_share > WAITED_SHARE_MAX || self.client.busiest_worker_share < 0.5;
            problems.push(format!(
                "publishers were late (p99 {:.1} ms, allowed {late_ms:.1}): {}, so delays are upper bounds",
                self.publishers.late_ms.p99,
                if others { "others used the load generator's CPU" } else { "the load generator was a bottleneck" }
            ));
        }
        // Unpaced, a server that is saturated too is what is measured; paced, a saturated worker spoils delays.
        let saturated = self.client.busiest_worker_share > WORKER_SHARE_MAX;
        if saturated && (!self.load.unpaced || self.generator_limited()) {
            problems.push(format!(
                "the load generator's busiest worker used {:.0} % of its CPU: it was a bottleneck itself; give it more \
                 --threads or a larger --drain-every",
                self.client.busiest_worker_share * 100.0
            ));
        }
        if self.delay_ms.count == 0 {
            problems.push("no delay was measured: no verified player got a frame in the window".into());
        }
        problems
    }

    fn failures(&self) -> [(u64, &'static str); 10] {
        let found = &self.verified;
        [
            (self.publishers.failed, "publishers failed"),
            (self.connect.players_failed, "players failed"),
            (self.connect.players_without_keyframe, "players never got a keyframe"),
            (found.lost, "frames lost"),
            (found.disordered, "frames repeated or out of order"),
            (found.corrupt, "messages corrupt"),
            (found.timestamps_backwards, "timestamps went backwards"),
            (found.header_missing, "tracks began before their sequence header"),
            (found.tracks_silent, "tracks stayed silent"),
            (self.delivery.players_starved, "players received under 90 % of their stream's median"),
        ]
    }

    fn find_notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.verified.joined_without_keyframe > 0 {
            notes.push(format!(
                "{} of {} verified players were sent inter frames before any keyframe",
                self.verified.joined_without_keyframe, self.verified.players
            ));
        }
        if self.client.waited_share > WAITED_SHARE_MAX {
            let percent = self.client.waited_share * 100.0;
            notes.push(format!("the load generator waited for its CPU {percent:.0} % of the time: others use it too"));
        }
        let Some(server) = &self.server else { return notes };
        if server.waited_share > WAITED_SHARE_MAX {
            let percent = server.waited_share * 100.0;
            notes.push(format!("the server waited for a CPU {percent:.0} % of the time: others use it too"));
        }
        if server.rss_with_players_kib <= server.rss_before_players_kib {
            notes.push(
                "the server's memory did not grow with its players: it was not fresh, or gave memory back".into(),
            );
        }
        if server.cpu_share < self.client.busiest_worker_share {
            notes.push(format!(
                "the load generator used more CPU ({:.2} s) than the server ({:.2} s)",
                self.client.cpu_seconds, server.cpu_seconds
            ));
        }
        notes.push(LOOPBACK.into());
        notes
    }
}

/// 1 if there are problems, unless they are allowed.
pub fn exit_code(problems: &[String], allow: bool) -> ExitCode {
    if problems.is_empty() || allow { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a report to standard output, as JSON or as `text`.
///
/// # Errors
/// It has no JSON.
pub fn print<R: Serialize>(report: &R, json: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if json {
        println!("{}", serde_json::to_string_pretty(report).map_err(|error| error.to_string())?);
    } else {
        print!("{}", text());
    }
    Ok(())
}

/// The report for people.
pub fn text(report: &RunReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(report, &mut out);
    out
}

fn write_text(report: &RunReport, out: &mut String) -> std::fmt::Result {
    let (load, found) = (&report.load, &report.verified);
    let players = u64::from(load.streams) * (u64::from(load.players_per_stream) + u64::from(load.stalled_per_stream));
    writeln!(
        out,
        "load       {} x {} players, {:.2} Mb/s video at {} fps, GOP {} ms, audio {}",
        load.streams,
        load.players_per_stream,
        load.video_bits_per_second as f64 / 1e6,
        load.frames_per_second,
        load.gop_ms,
        if load.audio { "on" } else { "off" },
    )?;
    writeln!(out, "joined     {} of {players} in {:.2} s", report.connect.keyframe_ms.count, report.connect.seconds)?;
    writeln!(
        out,
        "delivered  {:.3} GB in {:.2} s, {:.1} Mb/s",
        report.delivery.bytes as f64 / 1e9,
        report.delivery.seconds,
        report.delivery.megabits_per_second
    )?;
    writeln!(
        out,
        "verified   {} players, {} frames: {} lost, {} out of order, {} corrupt, {} timestamps backwards",
        found.players, found.frames, found.lost, found.disordered, found.corrupt, found.timestamps_backwards
    )?;
    writeln!(out, "\n{:<28}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}", "ms", "p50", "p90", "p99", "p99.9", "max", "count")?;
    write_times(out, "connect -> play answered", &report.connect.play_ms)?;
    write_times(out, "connect -> first keyframe", &report.connect.keyframe_ms)?;
    write_times(out, "frame due -> player has it", &report.delay_ms)?;
    write_times(out, "frame due -> publisher sent", &report.publishers.late_ms)?;
    writeln!(
        out,
        "\nload generator: {:.2} s of CPU, busiest worker {:.0} %, waited {:.1} %; {} frames late; publisher backlog at \
         most {} bytes",
        report.client.cpu_seconds,
        report.client.busiest_worker_share * 100.0,
        report.client.waited_share * 100.0,
        report.publishers.late_frames,
        report.publishers.backlog_bytes_max
    )?;
    if let Some(server) = &report.server {
        write_server(out, server)?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    report.problems.iter().try_for_each(|problem| writeln!(out, "PROBLEM: {problem}"))
}

fn write_times(out: &mut String, name: &str, times: &Percentiles) -> std::fmt::Result {
    let Percentiles { count, p50, p90, p99, p999, max } = times;
    writeln!(out, "{name:<28}{p50:>9.2}{p90:>9.2}{p99:>9.2}{p999:>9.2}{max:>9.2}{count:>9}")
}

fn write_server(out: &mut String, server: &ServerReport) -> std::fmt::Result {
    writeln!(
        out,
        "server: {:.2} s of CPU ({:.2} user, {:.2} system), {:.1} % of one CPU, {:.3} s per GB delivered, waited {:.1} %",
        server.cpu_seconds,
        server.user_seconds,
        server.system_seconds,
        server.cpu_share * 100.0,
        server.cpu_seconds_per_gb,
        server.waited_share * 100.0
    )?;
    writeln!(
        out,
        "server memory: {} KiB idle, {} with publishers, {} with players: {:.1} KiB per player",
        server.rss_idle_kib, server.rss_before_players_kib, server.rss_with_players_kib, server.kib_per_player
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::Parser;

    pub(crate) fn report(change: impl FnOnce(&mut Tally, &mut Measured)) -> RunReport {
        let arguments = ["t", "run", "--url", "rtmp://127.0.0.1/a/b"];
        let crate::cli::Command::Run(args) = crate::cli::Cli::parse_from(arguments).command else { panic!("not run") };
        let mut tally = Tally::new();
        tally.delay.record_ns(1_000_000);
        tally.late.record_ns(10_000);
        let client =
            ClientReport { cpu_seconds: 1.0, cpu_seconds_per_gb: 1.0, busiest_worker_share: 0.1, waited_share: 0.0 };
        let mut measured = Measured {
            window_seconds: 10.0,
            player_bytes: 1_000_000_000,
            join_seconds: 1.0,
            client,
            server: None,
            timeline: Vec::new(),
            stalled_per_stream: 0,
            unpaced: false,
        };
        change(&mut tally, &mut measured);
        RunReport::new(&args.load, &measured, &tally)
    }

    #[test]
    fn a_clean_run_has_no_problem() {
        let report = report(|_, _| {});
        assert_eq!(report.problems, [""; 0]);
        assert_eq!(report.delivery.megabits_per_second, 800.0);
        assert!(!text(&report).contains("PROBLEM"));
    }

    #[test]
    fn loss_lateness_saturation_and_silence_are_problems() {
        let lost = report(|tally, _| tally.findings.lost = 3);
        assert_eq!(lost.problems, ["3 frames lost"]);
        assert!(text(&lost).contains("PROBLEM: 3 frames lost"));
        let late = report(|tally, _| (0..99).for_each(|_| tally.late.record_ns(6_000_000)));
        assert!(late.problems[0].starts_with("publishers were late"), "{:?}", late.problems);
        let saturated = report(|_, measured| measured.client.busiest_worker_share = 0.95);
        assert!(saturated.problems[0].contains("bottleneck"));
        let silent = report(|tally, _| tally.delay = crate::stats::Times::new());
        assert!(silent.problems[0].starts_with("no delay"));
    }

    #[test]
    fn the_server_is_charged_per_gigabyte_and_player() {
        let cpu = Cpu { user_seconds: 1.0, system_seconds: 3.0, scheduled_seconds: 4.0, waited_seconds: 0.1 };
        let server = ServerReport::new(&cpu, 10.0, 2_000_000_000, [100, 1_000, 1_200, 1_500], 500);
        assert_eq!((server.cpu_share, server.cpu_seconds_per_gb, server.kib_per_player), (0.4, 2.0, 1.0));
    }
}
