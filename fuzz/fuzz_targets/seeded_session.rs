//! libFuzzer's way into `targets/seeded_session.rs`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::seeded_session::run(data));
