//! libFuzzer's way into `targets/data_messages.rs`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::data_messages::run(data));
