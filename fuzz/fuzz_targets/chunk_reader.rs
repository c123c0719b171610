//! libFuzzer's way into `targets/chunk_reader.rs`.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::chunk_reader::run(data));
