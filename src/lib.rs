//! Portcullis: a reverse-proxy authentication gateway that issues OAuth 2.0 access tokens,
//! verifies them in front of upstream services, and turns its own signing keys.
//!
//! # Map
//! A module imports only lower layers; edges never import each other (`tests/architecture.rs`).
//!
//! | layer | modules |
//! |---|---|
//! | 5 | [`config`] [`listeners`] [`app`] [`cli`] |
//! | 4, edges | [`gateway`] [`issuer`] [`admin`] [`health`] |
//! | 3 | [`lifecycle`]: the only writer of key sets |
//! | 2 | [`store`] [`keygen`] [`telemetry`] [`http`] |
//! | 1, pure | [`keys`] [`token`] [`clients`] |
//! | 0 | [`clock`] [`log_id`] |
//!
//! # Three walks
//! - **A request**: [`listeners`] → [`gateway`] (`request_filter`, `admission`, `bearer`) →
//!   [`lifecycle::published`] → [`token::verify`](mod@token::verify) → `reply`, or `routes` and the upstream.
//! - **A rotation**: [`admin`] (`api`) → [`lifecycle`] (`rotate`) → [`keys::transition`] decides →
//!   [`store`] commits → [`lifecycle::published`] publishes → the next request's load.
//! - **A purge**: the same, then [`lifecycle::drain`] → the receipt.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod health;
pub mod http;
pub mod issuer;
pub mod keygen;
pub mod keys;
pub mod lifecycle;
pub mod listeners;
pub mod log_id;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
