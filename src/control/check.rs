//! `shardcast check FILE`: everything that is wrong with a configuration file, or what a node started with it would do.
//!
//! Nothing is listened on and nobody is connected to; the secrets it names are read, and not shown. Exits with 0, or with 2 after
//! a fault.

use std::{fmt::Write as _, io::Write as _, path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser};

use super::{
    EXIT_USAGE, Fault, Stop,
    args::{self, Answer, Args, Given, Settings},
    cores::Allowance,
    file::ConfigFile,
    rules::{Finding, Piece, PullText, Sources, secrets::veil},
    say,
};
use crate::access::Action;

/// Says what is wrong with a configuration file, with line and column, or what a node started with it would do
#[derive(Debug, Parser)]
#[command(name = "shardcast check", override_usage = "shardcast check FILE", max_term_width = 100)]
struct CheckArgs {
    /// The TOML file, as for --config
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The exit code.
pub(super) fn run(given: &Given, allowance: &Allowance) -> Result<u8, Stop> {
    let own = Given::new(given.args().get(1..).unwrap_or_default());
    let check: CheckArgs = args::parse(CheckArgs::command(), &own)?;
    let file = ConfigFile::read(&check.file, &Args::command()).map_err(|line| Fault(EXIT_USAGE, line))?;
    let findings = all(&file);
    let told = findings.iter().map(|finding| file.text.in_full(finding)).collect::<Vec<_>>().join("\n");
    let faults = findings.iter().filter(|finding| finding.is_fault()).count();
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().write_all(told.as_bytes());
    if faults > 0 {
        let plural = if faults == 1 { "" } else { "s" };
        let _ = writeln!(std::io::stderr(), "\nshardcast: {}: {faults} error{plural}", check.file.display());
        return Ok(EXIT_USAGE);
    }
    // As a node would be started with it, so that it is checked as one.
    match args::configured(&Given::default(), &file, allowance) {
        Ok(settings) => {
            let known: Vec<String> = findings.iter().map(|finding| file.text.in_short(finding)).collect();
            for note in settings.notes.iter().filter(|note| !known.contains(note)) {
                let _ = writeln!(std::io::stderr(), "{}: warning: {note}", check.file.display());
            }
            say(&summary(&file, &settings));
            Ok(0)
        }
        Err(Answer::Fault(line) | Answer::Text(line)) => Err(Fault(EXIT_USAGE, line).into()),
    }
}

/// All that can be said of a file, in the order of its lines.
fn all(file: &ConfigFile) -> Vec<Finding> {
    let (_, _, of_rules) = file.rules(&file.secrets(), Duration::ZERO);
    let (_, of_access) = file.access();
    let mut findings = [file.findings.clone(), of_rules, of_access].concat();
    findings.sort_by_key(|finding| finding.at.start);
    findings
}

fn summary(file: &ConfigFile, settings: &Settings) -> String {
    let config = &settings.config;
    let mut out = format!("{}: no errors. A node started with it\n", file.text.path.display());
    let rtmps = config.rtmps.iter().map(|addr| format!("{addr} (TLS)"));
    let addrs = config.rtmp.iter().map(ToString::to_string).chain(rtmps).collect::<Vec<_>>().join(", ");
    let admin = settings.admin.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
    let _ = writeln!(out, "  listens on {addrs} with {} shards; admin: {admin}", config.cpus.len());
    let said = |(name, setting): (&String, &super::file::Setting)| {
        format!("{name} {}", veil(&setting.values.join(","), false))
    };
    let sets = file.settings.iter().map(said).collect::<Vec<_>>().join("; ");
    if !sets.is_empty() {
        let _ = writeln!(out, "  sets {sets}");
    }
    // Those of a variable come before them.
    let before = config.relays.pulls.len().saturating_sub(file.pulls.len());
    for (text, rule) in file.pulls.iter().zip(config.relays.pulls.iter().skip(before)) {
        let _ = writeln!(out, "  pulls {}", pull(text, rule.linger));
    }
    for text in &file.pushes {
        let _ = writeln!(out, "  pushes {} to {}", text.streams.text, list(&text.targets, " and ", true));
    }
    let access = config.access.get();
    for (action, rules) in [(Action::Publish, &access.publish), (Action::Play, &access.play)] {
        if rules.is_empty() {
            let _ = writeln!(out, "  lets everybody {}", action.name());
        }
        for rule in rules {
            let _ = writeln!(out, "  lets {} {rule}", action.name());
        }
        if rules.last().is_some_and(|last| last.streams.is_some()) {
            let _ = writeln!(out, "  lets nobody {} other streams", action.name());
        }
    }
    if !file.pulls.is_empty() || !file.pushes.is_empty() {
        let timing = config.relays.timing;
        let [connect, first, stall] = [timing.connect, timing.first_byte, timing.stall].map(|time| time.as_millis());
        let _ = writeln!(
            out,
            "  gives another node {connect} ms to be connected to, {first} ms to its first media, {stall} ms"
        );
        let _ = writeln!(out, "    from one message to the next");
    }
    out
}

fn pull(text: &PullText, linger: Duration) -> String {
    let from = match &text.sources {
        Sources::InOrder(sources) => format!("from {}", list(sources, ", else ", false)),
        Sources::Spread { origins, backups } => {
            let origin = |(url, weight): &(Piece, u32)| format!("{} (weight {weight})", veil(&url.text, false));
            let origins = origins.iter().map(origin).collect::<Vec<_>>().join(", ");
            let backups = match backups.is_empty() {
                true => String::new(),
                false => format!(", else {}", list(backups, ", else ", false)),
            };
            format!("each from its own of {origins}, else the next{backups}")
        }
    };
    let when = match text.always {
        true => "always".to_owned(),
        false => format!("while somebody plays it and {} s longer", linger.as_secs()),
    };
    format!("{} {from}; {when}", text.streams.text)
}

/// As written: the placeholders of secrets stay what they are.
fn list(pieces: &[Piece], between: &str, names: bool) -> String {
    pieces.iter().map(|piece| veil(&piece.text, names)).collect::<Vec<_>>().join(between)
}
