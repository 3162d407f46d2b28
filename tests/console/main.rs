//! The console in a real browser, against a real gateway: what an operator does, sees and is told.
//!
//! Every test ends with [`page::Page::done`]: no error in the browser's console, no violation of
//! the Content-Security-Policy, no request to anywhere but the admin listener.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod accessibility;
mod alarm;
mod clients;
mod failure;
mod files;
mod frame;
mod load;
mod many;
mod page;
mod purge;
mod roles;
mod rotation;
mod screenshots;
mod session;
mod stream;
mod widths;
