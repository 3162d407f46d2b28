//! Why a step of the life cycle is not carried out: one closed enum, whatever the step.

use std::time::Duration;

use thiserror::Error;

use crate::clock::Timestamp;
use crate::keys::idempotency;
use crate::keys::signing_key::Kid;

/// Why a plain rotation or a purge cannot be carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Rotating would exceed [`MAX_KEYS`](crate::keys::timing::MAX_KEYS); a live key is never dropped to make room.
    #[error(
        "the key set holds {0} keys, the most it may; wait until a deprecated key retires, or purge"
    )]
    KeySetFull(usize),
    /// Verifiers may still hold a JWKS answer without the pending key.
    #[error("the pending key {kid} was published too recently; it may sign from {ready_at}")]
    PendingTooYoung {
        /// The pending key.
        kid: Kid,
        /// When a rotation becomes possible.
        ready_at: Timestamp,
    },
    /// The caller names a key that this issuer never had, or forgot.
    #[error("there is no key {0}, alive or dead")]
    UnknownKid(Kid),
    /// The key is not a purged one.
    #[error(
        "the key {0} was not purged: only a purged key can be restored or declared compromised"
    )]
    NotPurged(Kid),
    /// The purge was not declared a mistake that may be undone.
    #[error(
        "the key {0} counts as compromised: its purge was not made with mistake_undo, so it stays dead"
    )]
    Compromised(Kid),
    /// Nothing that the key signed can be alive.
    #[error(
        "the key {0} would verify nothing any more: it never signed, or all its tokens have expired"
    )]
    NothingToRestore(Kid),
    /// The caller looked at an older key set than the one that a rotation would change.
    #[error(
        "seen_revision {seen} is not the current revision {current}: the key set has changed since; look again"
    )]
    StaleRevision {
        /// What the caller named.
        seen: u64,
        /// What is current.
        current: u64,
    },
    /// A key of that name or with that public half is known already.
    #[error("the key {0} is known already, alive or dead; a key is imported once")]
    KnownKey(Kid),
    /// A longer life time than any token may have.
    #[error("max_ttl {0:?} is out of bounds: 1s to 24h")]
    MaxTtl(Duration),
    /// The idempotency key was used for something else.
    #[error("this Idempotency-Key was used with another body; use a new one for a new request")]
    OtherBody,
    /// The actor has used up its idempotency keys for a day.
    #[error(
        "{max} results are stored for this actor already; use one Idempotency-Key per attempt, or none; the next is free at {free_at}",
        max = idempotency::MAX_PER_ACTOR
    )]
    IdempotencyFull {
        /// When the oldest is forgotten.
        free_at: Timestamp,
    },
    /// The caller names a revision that does not exist yet.
    #[error("seen_revision {seen} lies ahead of the current revision {current}")]
    RevisionAhead {
        /// What the caller named.
        seen: u64,
        /// What is current.
        current: u64,
    },
}
