//! Several shards, their publishers and players on virtual time, hundreds of times over, each time by another seed.
//!
//! The cores, the mesh between them, the logs and both ends of every RTMP conversation are the real ones; sockets, bells
//! and clock are not. A model that knows nothing of the code says what each player must have received. A failing seed is
//! printed with the command that replays it; `bugs/` holds deliberate bugs that it must find.

mod link;
mod model;
mod node;
mod peer;
mod rng;
mod source;
mod strict;
mod tracks;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use world::Outcome;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds on all cores and returns what they met, in the order of the seeds.
fn run_all(seeds: std::ops::Range<u64>) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Vec::new());
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().expect("not poisoned").len() >= 10 {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| world::run(seed, false))) {
                        Ok(outcome) => found.lock().expect("not poisoned").push((seed, outcome)),
                        Err(_) => failed.lock().expect("not poisoned").push(seed),
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("not poisoned");
    failed.sort_unstable();
    if let Some(seed) = failed.first() {
        panic!(
            "seeds {failed:?} failed (see above); replay one with\n  \
             SHARDCAST_SEED={seed} cargo test --test simulation replay -- --nocapture"
        );
    }
    let mut found = found.into_inner().expect("not poisoned");
    found.sort_unstable_by_key(|(seed, _)| *seed);
    found.into_iter().map(|(_, outcome)| outcome).collect()
}

fn sum(outcomes: &[Outcome], of: impl Fn(&Outcome) -> u64) -> u64 {
    outcomes.iter().map(of).sum()
}

/// `SHARDCAST_SEEDS` says how many.
#[test]
fn every_player_gets_what_it_must_whatever_happens() {
    let seeds = number("SHARDCAST_SEEDS").unwrap_or(1_000);
    let outcomes = run_all(0..seeds);
    type Count = fn(&Outcome) -> u64;
    let met: [(&str, Count); 10] = [
        ("messages between shards", |outcome| outcome.mesh_messages),
        ("full queues between shards", |outcome| outcome.mesh_full),
        ("skips", |outcome| outcome.skips),
        ("gaps seen by slow players", |outcome| outcome.gaps),
        ("players evicted", |outcome| outcome.evicted),
        ("second publishers refused", |outcome| outcome.name_taken),
        ("publishers replaced by another", |outcome| outcome.takeovers),
        ("players told that nobody came", |outcome| outcome.not_found),
        ("plays that went on with the next publisher", |outcome| outcome.resumed),
        ("plays told the end", |outcome| outcome.ends_told),
    ];
    for (what, count) in met {
        println!("{what}: {}", sum(&outcomes, count));
    }
    println!("messages received: {}", sum(&outcomes, |outcome| outcome.received));
    if seeds >= 300 {
        for (what, count) in met {
            assert!(sum(&outcomes, count) > 0, "the seeds never met {what}");
        }
    }
}

#[test]
fn a_seed_means_the_same_each_time() {
    for seed in [1, 2, 3, 5, 8] {
        assert_eq!(world::run(seed, false), world::run(seed, false), "seed {seed}");
    }
}

/// Runs one seed: `SHARDCAST_SEED=n cargo test --test simulation replay -- --nocapture`.
#[test]
fn replay() {
    if let Some(seed) = number("SHARDCAST_SEED") {
        tracing_subscriber::fmt().without_time().with_ansi(false).with_test_writer().init();
        println!("{:?}", world::run(seed, true));
    }
}
