//! The line on standard error that says what a command is doing, overwritten in place and cleared at its end.
//!
//! The controlling thread draws it between two of its looks, from figures that workers keep anyway. On a terminal it
//! appears unasked; elsewhere only with `--progress`, and then as lines of their own, more rarely.

use crate::process::{Cpu, Tree};
use crate::shared::Shared;
use crate::sys::{self, monotonic_ns};
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;

/// Between two lines on a terminal, and elsewhere.
const REDRAW_NS: u64 = 500_000_000;
const NEXT_LINE_NS: u64 = 5_000_000_000;
/// Where a terminal does not tell its width.
const COLUMNS: usize = 80;
/// Back to the line's begin, and erase it.
const CLEAR: &str = "\r\x1b[K";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Off,
    /// One line, overwritten.
    InPlace,
    /// A line now and then.
    Lines,
}

impl Style {
    /// `asked` is `--progress`.
    pub fn choose(asked: bool, terminal: bool) -> Self {
        match (terminal, asked) {
            (true, _) => Self::InPlace,
            (false, true) => Self::Lines,
            (false, false) => Self::Off,
        }
    }

    /// That of this process.
    pub fn of_stderr(asked: bool) -> Self {
        Self::choose(asked, std::io::stderr().is_terminal())
    }
}

/// What a line is made of.
#[derive(Clone, Debug, Default, PartialEq)]
struct Figures {
    elapsed_seconds: f64,
    /// Until the phase ends, if that is known.
    left_seconds: Option<f64>,
    joined: usize,
    players: usize,
    megabits_per_second: f64,
    /// Once frames of the window have arrived.
    delay_p99_ms: Option<f64>,
    server_cpu_share: Option<f64>,
}

/// What the last line was drawn from.
struct Reading {
    at_ns: u64,
    player_bytes: u64,
    server_cpu: Cpu,
}

pub struct Progress {
    style: Style,
    /// Which of several runs this is; may be empty.
    label: String,
    players: usize,
    phase: String,
    phase_from_ns: u64,
    phase_until_ns: Option<u64>,
    last: Option<Reading>,
    next_ns: u64,
}

impl Progress {
    pub fn new(style: Style, label: &str, players: usize) -> Self {
        Self {
            style,
            label: label.into(),
            players,
            phase: String::new(),
            phase_from_ns: monotonic_ns(),
            phase_until_ns: None,
            last: None,
            next_ns: 0,
        }
    }

    /// From now on `name` is what is done, until `until_ns` if that is known.
    pub fn enter(&mut self, name: &str, until_ns: Option<u64>) {
        (self.phase, self.phase_from_ns, self.phase_until_ns) = (name.into(), monotonic_ns(), until_ns);
    }

    /// The name of the phase changes, not its time.
    pub fn rename(&mut self, name: &str) {
        if self.style != Style::Off && self.phase != name {
            name.clone_into(&mut self.phase);
        }
    }

    /// Draws the line if it is time to.
    pub fn tick(&mut self, shared: &Shared, server: Option<&Tree>) {
        let now_ns = monotonic_ns();
        if self.style == Style::Off || now_ns < self.next_ns {
            return;
        }
        let figures = self.read(now_ns, shared, server);
        let text = line(&self.label, &self.phase, &figures);
        let mut out = std::io::stderr().lock();
        // Nobody can be told that standard error does not take it.
        let _ = match self.style {
            Style::Off => Ok(()),
            Style::InPlace => write!(out, "{CLEAR}{}", fit(&text, sys::columns().unwrap_or(COLUMNS))),
            Style::Lines => writeln!(out, "{text}"),
        };
        let _ = out.flush();
        self.next_ns = now_ns + if self.style == Style::Lines { NEXT_LINE_NS } else { REDRAW_NS };
    }

    fn read(&mut self, now_ns: u64, shared: &Shared, server: Option<&Tree>) -> Figures {
        let now = Reading {
            at_ns: now_ns,
            player_bytes: shared.player_bytes(),
            server_cpu: server.map(Tree::cpu).unwrap_or_default(),
        };
        let last = self.last.as_ref().unwrap_or(&now);
        let seconds = ((now_ns - last.at_ns) as f64 / 1e9).max(f64::MIN_POSITIVE);
        let first = last.at_ns == now_ns;
        let bytes = (now.player_bytes - last.player_bytes) as f64;
        let delay_micros = shared.delay_p99_micros();
        let figures = Figures {
            elapsed_seconds: now_ns.saturating_sub(self.phase_from_ns) as f64 / 1e9,
            left_seconds: self.phase_until_ns.map(|until_ns| until_ns.saturating_sub(now_ns) as f64 / 1e9),
            joined: shared.joined.load(Ordering::Relaxed),
            players: self.players,
            megabits_per_second: bytes * 8.0 / 1e6 / seconds,
            delay_p99_ms: (delay_micros > 0).then_some(delay_micros as f64 / 1e3),
            server_cpu_share: server
                .filter(|_| !first)
                .map(|_| now.server_cpu.since(&last.server_cpu).total_seconds() / seconds),
        };
        self.last = Some(now);
        figures
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.style == Style::InPlace {
            eprint!("{CLEAR}");
        }
    }
}

fn line(label: &str, phase: &str, figures: &Figures) -> String {
    let mut out = if label.is_empty() { String::new() } else { format!("{label}: ") };
    out += &format!("{phase} {:.0} s", figures.elapsed_seconds);
    if let Some(left) = figures.left_seconds {
        out += &format!(" ({:.0} s left)", left.ceil());
    }
    out += &format!("  {}/{} joined", figures.joined, figures.players);
    let places = usize::from(figures.megabits_per_second < 100.0);
    out += &format!("  {:.places$} Mb/s", figures.megabits_per_second);
    if let Some(delay) = figures.delay_p99_ms {
        out += &format!("  p99 {delay:.1} ms");
    }
    if let Some(share) = figures.server_cpu_share {
        out += &format!("  server {:.0} % CPU", share * 100.0);
    }
    out
}

/// As much of a line as `columns` hold: one that wraps could not be overwritten.
fn fit(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_on_terminals_and_where_it_is_asked_for() {
        assert_eq!(Style::choose(false, true), Style::InPlace);
        assert_eq!(Style::choose(true, false), Style::Lines);
        assert_eq!(Style::choose(false, false), Style::Off);
    }

    #[test]
    fn a_line_says_what_is_known() {
        let mut figures = Figures {
            elapsed_seconds: 3.2,
            left_seconds: Some(16.5),
            joined: 498,
            players: 500,
            megabits_per_second: 1_334.25,
            delay_p99_ms: Some(2.44),
            server_cpu_share: Some(0.153),
        };
        let all = "run 2 of 5: measuring 3 s (17 s left)  498/500 joined  1334 Mb/s  p99 2.4 ms  server 15 % CPU";
        assert_eq!(line("run 2 of 5", "measuring", &figures), all);
        (figures.left_seconds, figures.delay_p99_ms, figures.server_cpu_share) = (None, None, None);
        assert_eq!(line("", "joining", &figures), "joining 3 s  498/500 joined  1334 Mb/s");
    }

    #[test]
    fn a_line_never_wraps() {
        assert_eq!(fit("joining – 3 s", 10), "joining –");
        assert_eq!(fit("joining", 80), "joining");
        assert_eq!(fit("joining", 0), "");
    }

    #[test]
    fn rates_are_those_since_the_last_line() {
        let shared = Shared::new(1, 1);
        let mut progress = Progress::new(Style::Off, "", 1);
        let read = |progress: &mut Progress, at_ns, bytes| {
            shared.gauges[0].player_bytes.store(bytes, Ordering::Relaxed);
            progress.read(at_ns, &shared, None).megabits_per_second
        };
        assert_eq!(read(&mut progress, 1_000_000_000, 1_000), 0.0);
        assert_eq!(read(&mut progress, 3_000_000_000, 1_001_000), 4.0);
        assert_eq!(read(&mut progress, 4_000_000_000, 1_001_000), 0.0);
    }
}
