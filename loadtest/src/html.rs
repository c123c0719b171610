//! Reports as one HTML file that can be attached to a mail: styles and plots inside, no scripts, nothing loaded.

use crate::plot::{Line, Plot, escape};
use crate::report::{self, RunReport};
use std::fmt::Write;
use std::path::Path;

/// Shares on the x axis of a delay plot, as powers of a tenth left above.
const SHARES: [(f64, &str); 5] = [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")];
const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#111}\
    pre{background:#f5f5f5;padding:1rem;overflow-x:auto;font-size:12px}\
    svg{display:inline-block;margin:.5rem;background:#fff;max-width:100%}\
    .problem{background:#fee2e2;border-left:4px solid #dc2626;padding:.4rem .8rem;margin:.3rem 0}\
    .good{background:#dcfce7;border-left:4px solid #059669;padding:.4rem .8rem}";

/// The page of one run.
pub fn run(report: &RunReport) -> String {
    page("One run", &report.problems, &plots(&[("this run", report)]), &report::text(report))
}

/// The page of several servers: their bars, the plots of one run of each, and all figures as text.
pub fn comparison(bars: &[String], runs: &[(&str, &RunReport)], problems: &[String], text: &str) -> String {
    page("Comparison", problems, &format!("{}{}", bars.concat(), plots(runs)), text)
}

fn plots(runs: &[(&str, &RunReport)]) -> String {
    let over_time = |title, value: fn(&report::Sample) -> Option<f64>| {
        let line = |(name, run): &(&str, &RunReport)| Line {
            name: (*name).to_owned(),
            points: run.timeline.iter().filter_map(|sample| Some((sample.at_seconds, value(sample)?))).collect(),
        };
        let lines: Vec<Line> = runs.iter().map(line).collect();
        Plot { title, x_name: "seconds", x_marks: &[], logarithmic: false }.svg(&lines)
    };
    let delays: Vec<Line> = runs
        .iter()
        .map(|(name, run)| Line {
            name: (*name).to_owned(),
            points: run.delay_curve_ms.iter().map(|(share, ms)| (-(1.0 - share).log10(), *ms)).collect(),
        })
        .collect();
    let delay = Plot {
        title: "Delay, ms (frame due to player has it)",
        x_name: "share of frames within it",
        x_marks: &SHARES,
        logarithmic: true,
    };
    [
        delay.svg(&delays),
        over_time("Delivered, Mb/s", |sample| Some(sample.megabits_per_second)),
        over_time("Server CPU, % of one", |sample| sample.server_cpu_share.map(|share| share * 100.0)),
        over_time("Load generator CPU, % of one", |sample| Some(sample.client_cpu_share * 100.0)),
        over_time("Server memory, MiB", |sample| sample.server_rss_kib.map(|kib| kib as f64 / 1_024.0)),
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
    let command: Vec<String> = std::env::args().collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>shardcast-loadtest: {title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>{verdict}<p>shardcast-loadtest {}, <code>{}</code></p>{plots}\
         <pre>{}</pre></html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&command.get(1..).unwrap_or_default().join(" ")),
        escape(text)
    )
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
