//! Nodes that pull from and push to each other, on virtual time, hundreds of times over, each time by another seed.
//!
//! An edge has a primary and a backup, or a shield between, and may push on; origins refuse, die, fall silent, lie and come
//! back, and so do their publishers, while players come and go. [`scene`] draws all that from the seed, [`stage`] plays
//! it, [`model`] says what each player must have seen, knowing nothing of how relays work. A failing seed is printed with
//! the command that replays it; `tests/simulation/bugs/relay-*` are deliberate bugs that it must find.

mod content;
mod model;
#[path = "../../../../tests/simulation/rng.rs"]
#[allow(dead_code, reason = "another simulation uses the rest")]
pub(super) mod rng;
mod scene;
mod stage;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{model::Outcome, scene::Scene};

const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run(seed: u64) -> Outcome {
    let scene = Scene::draw(seed);
    model::check(&stage::play(&scene))
}

/// `SHARDCAST_SEEDS` says how many.
#[test]
fn players_keep_what_some_source_has_whatever_happens_to_the_others() {
    let seeds = number("SHARDCAST_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = Mutex::new(Vec::new());
    let total = Mutex::new(Outcome::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.lock().expect("not poisoned").len() >= 10 {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(outcome) => total.lock().expect("not poisoned").add(&outcome),
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
             SHARDCAST_SEED={seed} cargo test -p shardcast --lib relay_sim::replay -- --nocapture"
        );
    }
    let total = total.into_inner().expect("not poisoned");
    println!("{total:#?}");
    if seeds >= 100 {
        total.assert_all_was_met();
    }
}

#[test]
fn a_seed_means_the_same_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

/// Runs one seed, named by `SHARDCAST_SEED`, and tells what happens in it.
#[test]
fn replay() {
    if let Some(seed) = number("SHARDCAST_SEED") {
        println!("{:#?}", Scene::draw(seed));
        println!("{:#?}", run(seed));
    }
}
