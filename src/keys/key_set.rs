//! The whole key state of one issuer: one document, one revision.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

use super::audit::AuditRecord;
use super::document::Document;
use super::idempotency::StoredResult;
use super::signing_key::{
    ActiveKey, DeprecatedKey, Kid, PendingKey, PublicJwk, PublicKey, Tombstone,
};

/// The states in which a key verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Published, waiting.
    Pending,
    /// Signs.
    Active,
    /// Verifies only.
    Deprecated,
}

impl KeyState {
    /// Every state in which a key verifies.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Active, Self::Deprecated];

    /// Metric label and API value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
        }
    }
}

/// What caused a life-cycle step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// An operator.
    Manual,
    /// The schedule.
    Automatic,
}

/// Which operation activated a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivationKind {
    /// Plain rotation.
    Rotate,
    /// Rotation with purge.
    Purge,
    /// A key taken over from a former system began to sign.
    Import,
}

/// The last activation: what a repeated Rotate inside the window answers with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// `rotation_id` of the API.
    pub id: Uuid,
    /// Which operation.
    pub kind: ActivationKind,
    /// Who or what started it.
    pub trigger: Trigger,
    /// When it was committed.
    pub at: Timestamp,
    /// The revision it made.
    pub revision: u64,
    /// The key that began to sign.
    pub activated: Kid,
    /// The key that stopped signing, by deprecation or purge.
    pub replaced: Kid,
    /// Every key that a purge ended.
    pub purged: Vec<Kid>,
    /// Those of them that the caller had not seen: published after the revision it named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Kid>,
}

/// After a compromise: private halves must no longer be sealed under the keys that were in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KekDemand {
    /// When it was first demanded.
    pub since: Timestamp,
    /// The purge that demands it.
    pub purge_id: Uuid,
    /// Identifiers of the key-encryption keys in use then.
    pub compromised: Vec<String>,
}

/// The whole key state of one issuer. One active and one pending key, by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct KeySet {
    /// The issuer whose keys these are.
    pub issuer: String,
    /// Grows by one with every commit.
    pub revision: u64,
    /// The next key, standing ready.
    pub pending: PendingKey,
    /// The key that signs.
    pub active: ActiveKey,
    /// Keys that still verify, newest first.
    pub deprecated: Vec<DeprecatedKey>,
    /// What is left of retired and purged keys, newest first.
    pub tombstones: Vec<Tombstone>,
    /// The last rotation or purge; none since `init` means none.
    pub last_activation: Option<Activation>,
    /// The last purge.
    pub last_purge: Option<Activation>,
    /// Results kept under a caller's idempotency key, newest first.
    pub idempotency: Vec<StoredResult>,
    /// A new key-encryption key is demanded, since a compromise.
    pub kek_demand: Option<KekDemand>,
    /// How often a purge was undone. A set with a lower one than seen before revives nothing.
    pub restore_epoch: u64,
    /// The record of the event that made this revision.
    pub last_event: AuditRecord,
    /// Latest moment at which this store is known to have been used.
    pub high_water_time: Timestamp,
}

impl KeySet {
    /// Every key that verifies, with its state: pending, active, then deprecated newest first.
    pub fn verifying(&self) -> impl Iterator<Item = (KeyState, &PublicKey)> {
        [
            (KeyState::Pending, &self.pending.public),
            (KeyState::Active, &self.active.public),
        ]
        .into_iter()
        .chain(
            self.deprecated
                .iter()
                .map(|key| (KeyState::Deprecated, &key.public)),
        )
    }

    /// How many keys verify.
    #[must_use]
    pub fn len(&self) -> usize {
        2 + self.deprecated.len()
    }

    /// Never: a set always holds an active and a pending key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Whether `kid` names a live key or a tombstone.
    #[must_use]
    pub fn knows(&self, kid: &Kid) -> bool {
        self.verifying().any(|(_, key)| key.kid == *kid)
            || self
                .tombstones
                .iter()
                .any(|tombstone| tombstone.kid == *kid)
    }

    /// Whether a live key or a tombstone has this public half, whatever its name.
    #[must_use]
    pub fn knows_public_half(&self, jwk: &PublicJwk) -> bool {
        self.verifying().any(|(_, key)| key.jwk == *jwk)
            || self
                .tombstones
                .iter()
                .any(|tombstone| tombstone.public_jwk == *jwk)
    }
}
