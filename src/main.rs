//! The `shardcast` program: the allocator, and [`shardcast::control::run`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    shardcast::control::run(std::env::args_os().collect())
}
