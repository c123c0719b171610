//! The `shardcast` program: the allocator, and [`shardcast::control::run`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator asks for huge pages, which round a small node's memory up by tens of MiB and are not given back.
/// `docs/decisions.md` has the figures.
fn do_without_huge_pages() {
    // SAFETY: the call takes no pointers; it only sets a flag of this process. Where it is not known, nothing changes.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

fn main() -> ExitCode {
    do_without_huge_pages();
    shardcast::control::run(std::env::args_os().collect())
}
