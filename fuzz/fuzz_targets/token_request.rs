//! Runs `portcullis::testing::fuzz::token_request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::testing::fuzz::token_request(data));
