//! libFuzzer's way into `targets/media_tags.rs`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::media_tags::run(data));
