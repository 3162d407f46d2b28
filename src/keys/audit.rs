//! The audit record: exactly one per committed revision, embedded in the commit itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

use super::signing_key::Kid;

/// Who caused an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Actor {
    /// The named admin token.
    Admin(String),
    /// The command line, working on the store directly.
    Offline(String),
    /// The scheduler of the gateway.
    Scheduler,
}

/// What happened in a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "KeyEvent")]
pub enum Event {
    /// `init` made the first key set.
    Bootstrap,
    /// The pending key became active.
    Rotate,
    /// Keys were purged.
    RotateAndPurge,
    /// A purge made by mistake was undone for one key.
    Restore,
    /// Deprecated keys ran out, or tombstones were forgotten.
    Retire,
    /// The pending key was replaced, because the configured algorithm changed.
    ReplacePending,
    /// The longest token life time of the active key was raised.
    RaiseMaxTtl,
    /// A key was taken over from a former system.
    Import,
    /// Keys whose purge had been declared a mistake count as compromised after all.
    MarkCompromised,
    /// Private halves and documents were moved to another key-encryption key.
    Reseal,
    /// The previous generation was made current, because the key set was lost or damaged.
    Recover,
}

/// One event of the life cycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// The revision that this event made.
    pub revision: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// Who caused it.
    pub actor: Actor,
    /// The operator's words, if any.
    pub reason: Option<String>,
    /// Identifier of the rotation or purge.
    pub event_id: Option<Uuid>,
    /// Key that began to sign.
    pub activated: Option<Kid>,
    /// Key that stopped signing but still verifies.
    pub deprecated: Option<Kid>,
    /// Key newly published.
    pub published: Option<Kid>,
    /// Keys purged.
    pub purged: Vec<Kid>,
    /// Keys retired.
    pub retired: Vec<Kid>,
    /// Key restored.
    pub restored: Option<Kid>,
    /// Key taken over from a former system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Kid>,
    /// Purged keys that count as compromised from now on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compromised: Vec<Kid>,
}

impl AuditRecord {
    /// A record of `event` with no keys named yet.
    #[must_use]
    pub const fn new(revision: u64, at: Timestamp, event: Event, actor: Actor) -> Self {
        Self {
            revision,
            at,
            event,
            actor,
            reason: None,
            event_id: None,
            activated: None,
            deprecated: None,
            published: None,
            purged: Vec::new(),
            retired: Vec::new(),
            restored: None,
            imported: None,
            compromised: Vec::new(),
        }
    }
}
