//! The OpenAPI document of the admin API against a real gateway: what it says happens, and what
//! happens it says.
//!
//! `PORTCULLIS_RENEW=examples` records the answers of the examples anew (`src/admin/examples`),
//! `PORTCULLIS_RENEW=docs` writes `docs/openapi.json` and `docs/admin-api.md`; `make api-docs` does
//! both. Without it the tests compare.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod answers;
mod committed;
mod document;
mod markdown;
mod schemathesis;
mod world;

/// Whether this run is to renew `what` instead of comparing.
fn renews(what: &str) -> bool {
    std::env::var("PORTCULLIS_RENEW").is_ok_and(|value| value == what)
}

/// A file of the project.
fn project_file(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
