//! Runs `portcullis::testing::fuzz::claims`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::claims(data));
