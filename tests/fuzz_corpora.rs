//! Every input the fuzzers keep, through the checks they make. `cargo test` needs no fuzzer for it.

use std::{fs, path::PathBuf};

#[path = "../fuzz/targets/mod.rs"]
mod targets;

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect()
}

/// Names the file on failure: libFuzzer's targets take it as their argument.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = corpus(target);
    let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut replayed = 0;
    for file in files {
        let path = file.expect("a directory entry").path();
        let data = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let result = std::panic::catch_unwind(|| run(&data));
        assert!(result.is_ok(), "{target} fails with {}", path.display());
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty: it guards nothing", directory.display());
}

macro_rules! corpora {
    ($($target:ident),+ $(,)?) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target), targets::$target::run);
            }
        )+

        const TARGETS: &[&str] = &[$(stringify!($target)),+];
    };
}

corpora!(
    access,
    aggregate,
    amf0,
    amf3,
    approach,
    chunk_reader,
    client_session,
    core_session,
    data_messages,
    handshake,
    media_tags,
    proxy_header,
    reconnect_url,
    seeded_session,
    server_session,
    splice,
    timeline,
);

#[test]
fn every_target_of_the_fuzzer_is_replayed() {
    let manifest =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml")).expect("fuzz/Cargo.toml");
    let mut fuzzed: Vec<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""))
        .collect();
    fuzzed.sort_unstable();
    assert_eq!(fuzzed, TARGETS);
}

/// What is checked of those who are let in is checked of somebody only as long as the seeds let them in.
#[test]
fn seeds_of_access_open_what_they_are_to_open() {
    let opens = |name: &str| {
        let seed = fs::read_to_string(corpus("access").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        targets::access::opens(seed.lines().next().unwrap_or_default())
    };
    for name in ["key", "link", "link_for_a_network", "token"] {
        assert!(opens(name), "{name}");
    }
    assert!(!opens("link_that_ran_out"));
}

/// `cargo test --test fuzz_corpora -- --ignored` writes the seeds anew, after the protocol changed.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn write_seeds() {
    for (target, name, bytes) in targets::seeds::all() {
        let directory = corpus(target);
        fs::create_dir_all(&directory).expect("fuzz/corpus can be written");
        fs::write(directory.join(format!("seed-{name}")), bytes).expect("fuzz/corpus can be written");
    }
}
