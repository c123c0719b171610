//! A run's report for people.

use super::{RunReport, ServerReport};
use crate::stats::Percentiles;
use std::fmt::Write;

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
    let of_all = match server.cpus {
        1 => String::new(),
        cpus => format!(" ({:.0} % of the {cpus} it could use)", server.cpu_share * 100.0 / cpus as f64),
    };
    writeln!(
        out,
        "server: {:.2} s of CPU ({:.2} user, {:.2} system), {:.1} % of one CPU{of_all}, {:.3} s per GB delivered, waited \
         {:.1} %",
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
