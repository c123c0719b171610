//! Reports as one HTML file that can be attached to a mail: styles and plots inside, no scripts, nothing loaded.

use crate::plot::{Line, Plot, escape};
use crate::report::{self, RunReport};
use std::fmt::Write;
use std::path::Path;

/// Shares on the x axis of a delay plot, as powers of a tenth left above.
const SHARES: [(f64, &str); 5] = [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")];
const STYLE: &str = ":root{color-scheme:light}\
    body{font:14px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}\
    h1{margin:0 0 .2rem}h2{margin:1.8rem 0 .2rem;font-size:1.15rem}p{margin:.3rem 0}.about{color:#333}\
    .plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(28rem,1fr));gap:1rem}svg{width:100%;background:#fff}\
    .keys{display:flex;flex-wrap:wrap;gap:.6rem;margin:.8rem 0}\
    .keys div{border:1px solid #bbb;border-radius:4px;padding:.4rem .9rem}.keys b{display:block;font-size:1.3rem}\
    pre{background:#f5f5f5;padding:1rem;white-space:pre-wrap;font-size:12px}\
    .problem{background:#fee2e2;border-left:4px solid #dc2626;padding:.4rem .8rem}\
    .good{background:#dcfce7;border-left:4px solid #059669;padding:.4rem .8rem}\
    @media print{body{margin:0;max-width:none}svg{break-inside:avoid}}";

/// The page of one run.
pub fn run(report: &RunReport) -> String {
    let plots =
        format!("{}<h2>The run</h2><div class=\"plots\">{}</div>", keys(report), plots(&[("this run", report)]));
    page("Load test: one run", &report.problems, &plots, &report::text(report))
}

/// The page of several servers: their bars, the plots of one run of each, and all figures as text.
pub fn comparison(bars: &[String], runs: &[(&str, &RunReport)], problems: &[String], text: &str) -> String {
    let plots = format!(
        "<h2>Medians of all runs</h2><p class=\"about\">Less is better everywhere; the thin line goes from the least to \
         the most of the runs, (x) is the ratio to the first.</p><div class=\"plots\">{}</div>\
         <h2>The run of each server with the median CPU per GB</h2><div class=\"plots\">{}</div>",
        bars.concat(),
        plots(runs)
    );
    page("Load test: comparison", problems, &plots, text)
}

/// The figures a reader looks for first.
fn keys(report: &RunReport) -> String {
    let mut keys = vec![
        (format!("{:.2} / {:.2} ms", report.delay_ms.p50, report.delay_ms.p99), "delay p50 / p99"),
        (report.verified.lost.to_string(), "frames lost"),
        (format!("{:.0} Mb/s", report.delivery.megabits_per_second), "delivered"),
        (format!("{:.2} ms", report.connect.play_ms.p50), "play answered, p50"),
    ];
    if let Some(server) = &report.server {
        keys.push((format!("{:.3} s", server.cpu_seconds_per_gb), "server CPU per GB"));
        keys.push((format!("{:.1} %", server.cpu_share * 100.0), "server CPU, of one"));
        keys.push((format!("{:.1} KiB", server.kib_per_player), "server memory per player"));
    }
    let tile = |(value, name): &(String, &str)| format!("<div><b>{}</b>{name}</div>", escape(value));
    format!("<div class=\"keys\">{}</div>", keys.iter().map(tile).collect::<String>())
}

fn plots(runs: &[(&str, &RunReport)]) -> String {
    let over_time = |title, y_name, value: fn(&report::Sample) -> Option<f64>| {
        let line = |(name, run): &(&str, &RunReport)| Line {
            name: (*name).to_owned(),
            points: run.timeline.iter().filter_map(|sample| Some((sample.at_seconds, value(sample)?))).collect(),
        };
        let lines: Vec<Line> = runs.iter().map(line).collect();
        Plot { title, y_name, x_name: "seconds", x_marks: &[], logarithmic: false }.svg(&lines)
    };
    let delays: Vec<Line> = runs
        .iter()
        .map(|(name, run)| Line {
            name: (*name).to_owned(),
            points: run.delay_curve_ms.iter().map(|(share, ms)| (-(1.0 - share).log10(), *ms)).collect(),
        })
        .collect();
    let delay = Plot {
        title: "Delay: frame due to player has it",
        y_name: "ms",
        x_name: "share of frames within this delay",
        x_marks: &SHARES,
        logarithmic: true,
    };
    [
        delay.svg(&delays),
        over_time("Delivered to all players", "Mb/s", |sample| Some(sample.megabits_per_second)),
        over_time("Server CPU", "% of one CPU", |sample| sample.server_cpu_share.map(|share| share * 100.0)),
        over_time("Load generator CPU", "% of one CPU", |sample| Some(sample.client_cpu_share * 100.0)),
        over_time("Server memory", "MiB resident", |sample| sample.server_rss_kib.map(|kib| kib as f64 / 1_024.0)),
    ]
    .concat()
}

fn page(title: &str, problems: &[String], plots: &str, text: &str) -> String {
    let mut verdict = String::new();
    for problem in problems {
        // Writing to a String cannot fail.
        let _ = write!(verdict, "<p class=\"problem\">{}</p>", escape(problem));
    }
    if problems.is_empty() {
        verdict.push_str("<p class=\"good\">No problem was found: nothing lost, late or damaged.</p>");
    }
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1><p class=\"about\">shardcast-loadtest {} <code>{}</code><br>{}</p>\
         {verdict}{plots}<h2>All figures</h2><pre>{}</pre></html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&command_line(std::env::args().skip(1))),
        escape(&machine()),
        escape(text)
    )
}

/// As a shell takes it.
fn command_line(arguments: impl Iterator<Item = String>) -> String {
    let plain = |argument: &String| {
        !argument.is_empty() && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_=.,:/@+%[]".contains(c))
    };
    let quoted = |argument: String| match plain(&argument) {
        true => argument,
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    };
    arguments.map(quoted).collect::<Vec<_>>().join(" ")
}

/// CPUs and kernel, as far as /proc tells.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = info.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("CPU", |line| line.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} x {model}, Linux {}", models.len().max(1), kernel.trim())
}

/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, page: &str) -> Result<(), String> {
    std::fs::write(path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Sample;
    use crate::report::tests::report;

    #[test]
    fn commands_can_be_copied_into_a_shell() {
        let arguments = ["compare", "--variant", "--cpus 0,1", "", "it's"].map(str::to_owned);
        assert_eq!(command_line(arguments.into_iter()), r"compare --variant '--cpus 0,1' '' 'it'\''s'");
    }

    #[test]
    fn a_page_has_all_plots_and_loads_nothing() {
        let step = |at_seconds, server: bool| Sample {
            at_seconds,
            megabits_per_second: 50.0,
            client_cpu_share: 0.2,
            server_cpu_share: server.then_some(0.5),
            server_rss_kib: server.then_some(20_000),
        };
        let with = |server| report(|_, measured| measured.timeline = vec![step(0.25, server), step(0.5, server)]);
        let page = run(&with(true));
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(run(&with(false)).matches("<svg").count(), 3, "nothing is known of the server");
        for outside in ["<script", "http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("No problem") && !page.contains("class=\"problem\""));
        let lost = run(&report(|tally, _| tally.findings.lost = 3));
        assert!(lost.contains("<p class=\"problem\">3 frames lost</p>"));
    }
}
