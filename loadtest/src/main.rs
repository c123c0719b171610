//! `shardcast-loadtest` measures any RTMP server from outside, as wrk and k6 do for HTTP.
//!
//! Publishers send stamped frames at the moment they are due; some players verify every message of them, the rest
//! drain their sockets as cheaply as the kernel allows. [`run`] drives one run, [`compare`] several on servers that it
//! starts itself. A run with a lost, corrupt or late frame says so and exits with 1.

#![allow(unreachable_pub, reason = "in a binary `pub` means: for the other modules")]

mod capacity;
mod chunks;
mod churn;
mod cli;
mod compare;
mod control;
mod cpus;
mod engine;
mod hostile;
mod html;
mod idle;
mod link;
mod max;
mod moving;
mod pacing;
mod payload;
mod player;
mod plot;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
#[cfg(test)]
mod sabotage;
mod server;
mod shared;
mod sockets;
mod stall;
mod stats;
mod storm;
mod sys;
mod tally;
mod tls;
mod variant;
mod verify;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let result = match cli::Cli::read().command {
        cli::Command::Run(args) => run::run(&args),
        cli::Command::Capacity(args) => capacity::capacity(&args),
        cli::Command::Churn(args) => churn::churn(&args),
        cli::Command::Hostile(args) => hostile::hostile(&args),
        cli::Command::Idle(args) => idle::idle(&args),
        cli::Command::Max(args) => max::max(&args),
        cli::Command::Stall(args) => stall::stall(&args),
        cli::Command::Compare(args) => compare::compare(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("shardcast-loadtest: {error}");
        ExitCode::from(2)
    })
}
