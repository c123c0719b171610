//! What a run has found: here as JSON, in [`mod@text`] for people; [`judge`] says what is wrong with it.

mod judge;
mod text;

use crate::cli::LoadArgs;
use crate::process::Cpu;
use crate::run::Measured;
use crate::stats::Percentiles;
use crate::tally::Tally;
use crate::verify::Findings;
use serde::Serialize;
use std::process::ExitCode;

pub use text::text;

/// A worker busier than this may itself have been what limited the run.
pub const WORKER_SHARE_MAX: f64 = 0.9;
/// Server or load generator waiting for a CPU longer than this share of the window: others use the machine.
pub const WAITED_SHARE_MAX: f64 = 0.05;

/// Others using more of a CPU than this are worth a note.
pub const OTHERS_SHARE_MAX: f64 = 0.1;

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
    pub machine: MachineReport,
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
    /// CPUs it could have used: those its busy threads can be spread over, as far as their affinity allows.
    pub cpus: usize,
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

/// The machine's CPUs in the window.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MachineReport {
    /// CPUs the busy threads of server and load generator can be spread over together.
    pub cpus_for_both: usize,
    /// What both used, of one CPU.
    pub both_cpu_share: f64,
    /// What all else on the machine used, interrupts included where the kernel counts them apart; of one CPU.
    pub others_cpu_share: f64,
}

impl MachineReport {
    /// Server and load generator left nothing of the CPUs they share.
    pub fn full(&self) -> bool {
        saturated(self.both_cpu_share, self.cpus_for_both)
    }
}

impl ServerReport {
    /// `cpus` are those it could have used; `rss_kib`: before anything connected, with publishers, when the window began,
    /// when it ended.
    pub fn new(cpu: &Cpu, cpus: usize, seconds: f64, player_bytes: u64, rss_kib: [u64; 4], players: usize) -> Self {
        let cpu_seconds = cpu.total_seconds();
        Self {
            cpu_seconds,
            user_seconds: cpu.user_seconds,
            system_seconds: cpu.system_seconds,
            cpu_share: cpu_seconds / seconds,
            cpus,
            cpu_seconds_per_gb: cpu_seconds / (player_bytes as f64 / 1e9),
            waited_share: cpu.waited_seconds / seconds,
            rss_idle_kib: rss_kib[0],
            rss_before_players_kib: rss_kib[1],
            rss_before_window_kib: rss_kib[2],
            rss_with_players_kib: rss_kib[3],
            kib_per_player: (rss_kib[3] as f64 - rss_kib[1] as f64) / players.max(1) as f64,
        }
    }

    /// Nothing of the CPUs it could have used is left.
    pub fn saturated(&self) -> bool {
        saturated(self.cpu_share, self.cpus)
    }
}

/// Whether `cpu_share` (of one) leaves nothing of `cpus`.
pub fn saturated(cpu_share: f64, cpus: usize) -> bool {
    cpu_share > WORKER_SHARE_MAX * cpus as f64
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
            machine: measured.machine,
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
            machine: MachineReport { cpus_for_both: 2, both_cpu_share: 0.1, others_cpu_share: 0.0 },
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
        let server = ServerReport::new(&cpu, 1, 10.0, 2_000_000_000, [100, 1_000, 1_200, 1_500], 500);
        assert_eq!((server.cpu_share, server.cpu_seconds_per_gb, server.kib_per_player), (0.4, 2.0, 1.0));
    }

    #[test]
    fn a_server_is_saturated_when_all_its_cpus_are() {
        let saturated = |cpu_seconds, cpus| {
            let cpu = Cpu { scheduled_seconds: cpu_seconds, ..Cpu::default() };
            ServerReport::new(&cpu, cpus, 10.0, 1, [0; 4], 1).saturated()
        };
        assert!(saturated(9.5, 1) && saturated(19.0, 2));
        assert!(!saturated(8.5, 1) && !saturated(9.5, 2), "one of two CPUs is left");
        let busy = |cpu_seconds, cpus| {
            report(|_, measured| {
                let cpu = Cpu { scheduled_seconds: cpu_seconds, ..Cpu::default() };
                measured.server = Some(ServerReport::new(&cpu, cpus, 10.0, 1, [0; 4], 1));
                measured.client.busiest_worker_share = 0.95;
            })
        };
        assert!(!busy(9.5, 1).generator_limited() && busy(9.5, 2).generator_limited());
    }

    #[test]
    fn what_others_used_is_noted() {
        let quiet = report(|_, _| {});
        let busy = report(|_, measured| {
            measured.server = Some(ServerReport::new(&Cpu::default(), 1, 10.0, 1, [0; 4], 1));
            measured.machine.others_cpu_share = 0.5;
        });
        assert!(!quiet.notes.concat().contains("other programs"));
        assert!(busy.notes.concat().contains("other programs used 50 % of a CPU"), "{:?}", busy.notes);
    }
}
