//! Runs `portcullis::testing::fuzz::admin_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::admin_body(data));
