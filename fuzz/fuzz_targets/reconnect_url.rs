//! libFuzzer's way into `targets/reconnect_url.rs`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::reconnect_url::run(data));
