//! The control thread: everything that is not media.
//!
//! [`run`] reads the command line (`args`, `values`, `cores`, or that of `check`, `relay`, `key` and `sign`) and the
//! configuration (`file`, `rules`). A node (`serving`) starts the log (`logs`), takes the service manager's sockets (`systemd`,
//! which also tells it how the node is), fits its bounds to the machine (`ceilings`), gives up what the process no longer needs
//! (`containment`), starts the fleet of shards and says what runs (`banner`, `progress`). Then it serves the admin listener
//! (`admin`, `head`, `reserve`; `exposition`, `process`; `reconnect` and `drain` by `parameters`), asks other servers for the
//! shards (`callbacks`), weighs the process's memory (`overload`) and reads files again that change (`reload`: `access`,
//! `certificates`) until something ends the process (`ending`, `course`), a new process in its place for one (`upgrade`). It may
//! block where shards may not. It never touches media.

mod access;
#[cfg(test)]
mod access_docs_tests;
mod admin;
mod allocator;
mod args;
mod banner;
mod callbacks;
mod ceilings;
mod certificates;
mod check;
mod containment;
mod cores;
mod course;
#[cfg(test)]
mod docs_tests;
mod drain;
mod ending;
mod exposition;
mod file;
mod head;
mod key;
mod logs;
mod overload;
mod parameters;
mod process;
mod progress;
mod reconnect;
mod relay;
mod reload;
mod reserve;
mod rules;
mod serving;
mod sign;
mod systemd;
mod upgrade;
mod values;

use std::{ffi::OsString, io::Write, process::ExitCode};

use self::{
    args::{Answer, Given},
    cores::Allowance,
    serving::serve,
};

/// Something else than the operator's input went wrong at start.
const EXIT_FAILED: u8 = 1;
/// The command line, the environment or an address is not usable as given.
const EXIT_USAGE: u8 = 2;
/// A shard panicked, hung or did not end (sysexits' EX_SOFTWARE).
const EXIT_SOFTWARE: u8 = 70;
/// A second signal: 128 and the signal's number are added, as shells do.
const EXIT_SIGNALLED: u8 = 128;

/// Why the process does not serve: the exit code and one line.
struct Fault(u8, String);

/// The whole program, `args` with its name first. Exits with 0 after an orderly end; `README.md` lists the codes.
///
/// A shard's panic and a second signal leave by [`std::process::exit`] instead of returning.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = args.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let given = Given::new(&args);
    let done = match command {
        "check" => check::run(&given, &Allowance::read()),
        "key" => key::run(&given),
        "sign" => sign::run(&given),
        "relay" => relay::settings(&given).and_then(|settings| Ok(serve(settings, &given)?)),
        _ => args::configure(&given, &Allowance::read())
            .map_err(Stop::from)
            .and_then(|settings| Ok(serve(settings, &given)?)),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(Stop::Text(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(Stop::Fault(Fault(code, line))) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(std::io::stderr(), "shardcast: {line}");
            ExitCode::from(code)
        }
    }
}

/// Why a command does not do what it is for.
enum Stop {
    /// It prints this instead.
    Text(String),
    Fault(Fault),
}

impl From<Answer> for Stop {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Text(text) => Self::Text(text),
            Answer::Fault(line) => Self::Fault(Fault(EXIT_USAGE, line)),
        }
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Text that is what the command is for: it has to arrive.
fn hand_out(text: &str) -> Result<(), Fault> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| Fault(EXIT_FAILED, format!("stdout: {error}")))
}

/// Text for the operator; a reader that went away does not matter.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
