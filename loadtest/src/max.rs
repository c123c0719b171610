//! How much a server delivers when publishers send as fast as their verified players receive. Chunks are counted on the
//! verified connections and scaled by bytes to all of them.

use crate::cli::MaxArgs;
use crate::report::{self, RunReport};
use crate::run::{Plan, measure_plan};
use crate::tally::{Counted, Tally};
use serde::Serialize;
use std::process::ExitCode;

#[derive(Serialize)]
pub struct MaxReport {
    pub gigabytes_per_second: f64,
    /// Delivered to all players: chunks per byte as parsed, times all bytes.
    pub chunks_per_second: f64,
    pub messages_per_second: f64,
    /// What the parsed connections received in the window.
    pub parsed_bytes: u64,
    pub parsed_chunks: u64,
    pub publisher_chunk_bytes: u32,
    /// As the server announced them: smallest and largest.
    pub server_chunk_bytes: [u64; 2],
    pub server_cpu_share: Option<f64>,
    pub run: RunReport,
    pub problems: Vec<String>,
}

/// The `max` subcommand.
///
/// # Errors
/// The run could not be carried out.
pub fn max(args: &MaxArgs) -> Result<ExitCode, String> {
    if args.load.sample == 0 {
        return Err("--sample is at least 1: chunks are counted on verified players".into());
    }
    let target = &args.target;
    target.prepare(args.load.connections())?;
    let plan = Plan { unpaced: true, ..Plan::default() };
    let (run, tally) = measure_plan(&args.load, &target.url, &target.pin, target.server_pid, &plan)?;
    let report = MaxReport::new(run, &tally);
    report::print(&report, args.load.json, || report.text())?;
    Ok(report::exit_code(&report.problems, args.load.allow_loss))
}

impl MaxReport {
    fn new(mut run: RunReport, tally: &Tally) -> Self {
        let Counted { chunks, bytes, messages, chunk_bytes_min, chunk_bytes_max } = tally.chunks;
        let bytes_per_second = run.delivery.bytes as f64 / run.delivery.seconds;
        let per_second = |count: u64| count as f64 / bytes.max(1) as f64 * bytes_per_second;
        let mut problems = std::mem::take(&mut run.problems);
        if chunks == 0 {
            problems.push("no chunk was counted".into());
        }
        let idle = |server: &report::ServerReport| !server.saturated() && !run.machine.full();
        if run.server.as_ref().is_some_and(idle) && run.client.busiest_worker_share <= report::WORKER_SHARE_MAX {
            problems.push(
                "neither the server nor the load generator was saturated: this is not the most either can do; others \
                 used the machine, or there are too few --streams and --players"
                    .into(),
            );
        }
        if tally.chunks_lost > 0 {
            problems.push(format!("the chunks of {} players could not be followed", tally.chunks_lost));
        }
        if run.server.is_none() {
            run.notes.push(
                "without --server-pid nothing tells whether the server or the load generator was the limit".into(),
            );
        }
        let asked = u64::from(run.load.publisher_chunk_bytes);
        if (chunk_bytes_min, chunk_bytes_max) != (asked, asked) {
            run.notes.push(format!(
                "the server sends chunks of {chunk_bytes_min} to {chunk_bytes_max} bytes, publishers of {asked}"
            ));
        }
        Self {
            gigabytes_per_second: bytes_per_second / 1e9,
            chunks_per_second: per_second(chunks),
            messages_per_second: per_second(messages),
            parsed_bytes: bytes,
            parsed_chunks: chunks,
            publisher_chunk_bytes: run.load.publisher_chunk_bytes,
            server_chunk_bytes: [chunk_bytes_min, chunk_bytes_max],
            server_cpu_share: run.server.as_ref().map(|server| server.cpu_share),
            run,
            problems,
        }
    }

    fn text(&self) -> String {
        let mut out = format!(
            "{}\ndelivered {:.3} GB/s: {:.2} million chunks/s of {} bytes, {:.0} messages/s (from {} chunks parsed)\n",
            report::text(&self.run),
            self.gigabytes_per_second,
            self.chunks_per_second / 1e6,
            self.server_chunk_bytes[1],
            self.messages_per_second,
            self.parsed_chunks
        );
        self.problems.iter().for_each(|problem| out += &format!("PROBLEM: {problem}\n"));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn chunks_of_the_parsed_players_stand_for_all() {
        let mut tally = Tally::new();
        tally.chunks =
            Counted { chunks: 1_000, bytes: 129_000, messages: 10, chunk_bytes_min: 128, chunk_bytes_max: 128 };
        // A gigabyte in ten seconds.
        let max = MaxReport::new(report(|_, _| {}), &tally);
        assert!((max.chunks_per_second - 1e8 / 129.0).abs() < 1.0, "{}", max.chunks_per_second);
        assert_eq!((max.gigabytes_per_second, max.problems.len()), (0.1, 0));
        let busy = |client_share, server_share| {
            let mut run = report(|_, measured| {
                let cpu = crate::process::Cpu { scheduled_seconds: server_share * 10.0, ..Default::default() };
                measured.server = Some(report::ServerReport::new(&cpu, 1, 10.0, 1_000, [0; 4], 1));
                measured.client.busiest_worker_share = client_share;
                measured.unpaced = true;
            });
            run.notes.clear();
            MaxReport::new(run, &tally).problems.concat()
        };
        assert!(busy(0.99, 0.5).contains("bottleneck itself"), "{}", busy(0.99, 0.5));
        assert!(busy(0.5, 0.5).starts_with("neither"));
        assert_eq!((busy(0.99, 0.99), busy(0.5, 0.99)), (String::new(), String::new()));
        let together = report(|_, measured| {
            let cpu = crate::process::Cpu { scheduled_seconds: 11.0, ..Default::default() };
            measured.server = Some(report::ServerReport::new(&cpu, 2, 10.0, 1_000, [0; 4], 1));
            measured.client.busiest_worker_share = 0.8;
            measured.machine.both_cpu_share = 1.9;
        });
        assert_eq!(MaxReport::new(together, &tally).problems, [""; 0], "they share two CPUs and left nothing of them");
        assert_eq!(MaxReport::new(report(|_, _| {}), &Tally::new()).problems, ["no chunk was counted"]);
    }
}
