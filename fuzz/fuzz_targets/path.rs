//! Runs `portcullis::testing::fuzz::path`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::path(data));
