//! Runs `portcullis::testing::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::config(data));
