//! Access tokens: mint, recognise, verify, classify (RFC 9068, RFC 7515, RFC 8725).
//!
//! Invariants: the key decides the algorithm; signature before payload; a tombstone can classify
//! but never accept; nothing here reads a clock. May import `clock`, `log_id`,
//! `keys`, and of `clients` whose tokens are revoked.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod cache;
pub mod claims;
mod compact;
pub mod explain;
pub mod issue;
pub mod jose;
pub mod proven;
pub mod rejection;
mod strict_json;
pub mod verification_keys;
pub mod verify;

pub use cache::{CacheLimits, TokenCaches};
pub use claims::{Claims, RouteRules};
pub use proven::ProvenTokens;
pub use rejection::Rejection;
pub use verification_keys::VerificationKeys;
pub use verify::{Accepted, Effort, Refused, verify, verify_with};

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
