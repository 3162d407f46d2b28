//! The stored form of a key set: one flat document. Parsing it yields a valid [`KeySet`] or an
//! error that names the broken rule; nothing later has to check again.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Timestamp;

use super::audit::AuditRecord;
use super::idempotency::StoredResult;
use super::key_set::{Activation, KekDemand, KeySet, KeyState};
use super::legacy::LegacyRules;
use super::signing_key::{
    ActiveKey, Algorithm, DeprecatedKey, Kid, PendingKey, PublicJwk, PublicKey, SealedPrivate,
    Tombstone, millis,
};
use super::timing::MAX_KEYS;

/// The schema that this version writes. Older ones are read, and written anew by the next commit:
/// 1 had no idempotency keys, imported keys or demand for a new key-encryption key.
pub const SCHEMA: u32 = 2;
const OLDEST_SCHEMA: u32 = 1;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    schema: u32,
    issuer: String,
    revision: u64,
    keys: Vec<KeyRecord>,
    tombstones: Vec<Tombstone>,
    last_activation: Option<Activation>,
    last_purge: Option<Activation>,
    restore_epoch: u64,
    #[serde(default)]
    idempotency: Vec<StoredResult>,
    #[serde(default)]
    kek_demand: Option<KekDemand>,
    last_event: AuditRecord,
    high_water_time: Timestamp,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRecord {
    kid: Kid,
    alg: Algorithm,
    state: KeyState,
    public_jwk: PublicJwk,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_private: Option<SealedPrivate>,
    created_at: Timestamp,
    published_at: Timestamp,
    published_revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deprecated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verify_until: Option<Timestamp>,
    #[serde(with = "millis")]
    max_ttl: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    legacy: Option<LegacyRules>,
}

/// A document that does not describe a key set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum DocumentError {
    #[error(
        "its schema is {0}, this version reads {OLDEST_SCHEMA} to {SCHEMA}; run the version that wrote it, or a newer one"
    )]
    Schema(u32),
    #[error("a key set has exactly one {state} key, this one has {count}", state = .state.as_str())]
    Count { state: KeyState, count: usize },
    #[error("a key set holds at most {MAX_KEYS} keys, this one has {0}")]
    TooMany(usize),
    #[error("the kid {0} occurs twice")]
    DuplicateKid(Kid),
    #[error("the {state} key {kid} lacks {field}", state = .state.as_str())]
    Lacks {
        state: KeyState,
        kid: Kid,
        field: &'static str,
    },
    #[error("the deprecated key {0} still has a private half")]
    PrivateLeft(Kid),
    #[error("the record of the last event is for revision {1}, the set has {0}")]
    Event(u64, u64),
}

impl TryFrom<Document> for KeySet {
    type Error = DocumentError;

    fn try_from(document: Document) -> Result<Self, DocumentError> {
        if !(OLDEST_SCHEMA..=SCHEMA).contains(&document.schema) {
            return Err(DocumentError::Schema(document.schema));
        }
        if document.keys.len() > MAX_KEYS {
            return Err(DocumentError::TooMany(document.keys.len()));
        }
        if document.last_event.revision != document.revision {
            return Err(DocumentError::Event(
                document.revision,
                document.last_event.revision,
            ));
        }
        let mut seen = HashSet::new();
        let all = document.keys.iter().map(|key| &key.kid);
        for kid in all.chain(document.tombstones.iter().map(|tombstone| &tombstone.kid)) {
            if !seen.insert(kid.clone()) {
                return Err(DocumentError::DuplicateKid(kid.clone()));
            }
        }

        let (mut pending, mut active, mut deprecated) = (Vec::new(), Vec::new(), Vec::new());
        for record in document.keys {
            match record.state {
                KeyState::Pending => pending.push(record.into_pending()?),
                KeyState::Active => active.push(record.into_active()?),
                KeyState::Deprecated => deprecated.push(record.into_deprecated()?),
            }
        }
        Ok(Self {
            issuer: document.issuer,
            revision: document.revision,
            pending: exactly_one(KeyState::Pending, pending)?,
            active: exactly_one(KeyState::Active, active)?,
            deprecated,
            tombstones: document.tombstones,
            last_activation: document.last_activation,
            last_purge: document.last_purge,
            restore_epoch: document.restore_epoch,
            idempotency: document.idempotency,
            kek_demand: document.kek_demand,
            last_event: document.last_event,
            high_water_time: document.high_water_time,
        })
    }
}

fn exactly_one<K>(state: KeyState, keys: Vec<K>) -> Result<K, DocumentError> {
    let count = keys.len();
    let mut keys = keys.into_iter();
    match (keys.next(), count) {
        (Some(key), 1) => Ok(key),
        _ => Err(DocumentError::Count { state, count }),
    }
}

impl KeyRecord {
    fn into_pending(self) -> Result<PendingKey, DocumentError> {
        let sealed = self
            .sealed_private
            .clone()
            .ok_or_else(|| self.lacks("sealed_private"))?;
        Ok(PendingKey {
            public: self.into_public(),
            sealed,
        })
    }

    fn into_active(self) -> Result<ActiveKey, DocumentError> {
        let sealed = self
            .sealed_private
            .clone()
            .ok_or_else(|| self.lacks("sealed_private"))?;
        let activated_at = self
            .activated_at
            .ok_or_else(|| self.lacks("activated_at"))?;
        Ok(ActiveKey {
            public: self.into_public(),
            sealed,
            activated_at,
        })
    }

    fn into_deprecated(self) -> Result<DeprecatedKey, DocumentError> {
        if self.sealed_private.is_some() {
            return Err(DocumentError::PrivateLeft(self.kid));
        }
        let activated_at = self
            .activated_at
            .ok_or_else(|| self.lacks("activated_at"))?;
        let deprecated_at = self
            .deprecated_at
            .ok_or_else(|| self.lacks("deprecated_at"))?;
        let verify_until = self
            .verify_until
            .ok_or_else(|| self.lacks("verify_until"))?;
        Ok(DeprecatedKey {
            public: self.into_public(),
            activated_at,
            deprecated_at,
            verify_until,
        })
    }

    fn lacks(&self, field: &'static str) -> DocumentError {
        DocumentError::Lacks {
            state: self.state,
            kid: self.kid.clone(),
            field,
        }
    }

    fn into_public(self) -> PublicKey {
        PublicKey {
            kid: self.kid,
            alg: self.alg,
            jwk: self.public_jwk,
            created_at: self.created_at,
            published_at: self.published_at,
            published_revision: self.published_revision,
            max_ttl: self.max_ttl,
            legacy: self.legacy,
        }
    }

    fn of(state: KeyState, public: PublicKey) -> Self {
        Self {
            kid: public.kid,
            alg: public.alg,
            state,
            public_jwk: public.jwk,
            sealed_private: None,
            created_at: public.created_at,
            published_at: public.published_at,
            published_revision: public.published_revision,
            activated_at: None,
            deprecated_at: None,
            verify_until: None,
            max_ttl: public.max_ttl,
            legacy: public.legacy,
        }
    }
}

impl From<KeySet> for Document {
    fn from(set: KeySet) -> Self {
        let pending = KeyRecord {
            sealed_private: Some(set.pending.sealed),
            ..KeyRecord::of(KeyState::Pending, set.pending.public)
        };
        let active = KeyRecord {
            sealed_private: Some(set.active.sealed),
            activated_at: Some(set.active.activated_at),
            ..KeyRecord::of(KeyState::Active, set.active.public)
        };
        let deprecated = set.deprecated.into_iter().map(|key| KeyRecord {
            activated_at: Some(key.activated_at),
            deprecated_at: Some(key.deprecated_at),
            verify_until: Some(key.verify_until),
            ..KeyRecord::of(KeyState::Deprecated, key.public)
        });
        Self {
            schema: SCHEMA,
            issuer: set.issuer,
            revision: set.revision,
            keys: [pending, active].into_iter().chain(deprecated).collect(),
            tombstones: set.tombstones,
            last_activation: set.last_activation,
            last_purge: set.last_purge,
            restore_epoch: set.restore_epoch,
            idempotency: set.idempotency,
            kek_demand: set.kek_demand,
            last_event: set.last_event,
            high_water_time: set.high_water_time,
        }
    }
}
