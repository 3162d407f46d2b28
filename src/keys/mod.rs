//! The key set and its life cycle as pure functions.
//!
//! Invariants: a [`KeySet`] holds exactly one active and one pending key by construction; every
//! function takes `now` and new keys as arguments and returns a new set; nothing here reads a
//! clock, a file or randomness. May import only `clock` and `log_id`.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod audit;
mod document;
pub mod holdings;
pub mod idempotency;
pub mod jwks;
pub mod key_set;
pub mod ledger;
pub mod legacy;
pub mod over_time;
pub mod recovery;
pub mod signing_key;
pub mod timing;
pub mod transition;

pub use audit::{Actor, AuditRecord, Event};
pub use document::SCHEMA;
pub use idempotency::IdempotencyKey;
pub use key_set::{Activation, ActivationKind, KekDemand, KeySet, KeyState, Trigger};
pub use legacy::LegacyRules;
pub use signing_key::{
    ActiveKey, Algorithm, DeprecatedKey, End, FreshKey, Kid, PendingKey, PublicJwk, PublicKey,
    SealedPrivate, Tombstone,
};
