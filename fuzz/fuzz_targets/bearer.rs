//! Runs `portcullis::testing::fuzz::bearer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::bearer(data));
