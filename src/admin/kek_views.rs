//! What the admin API shows of key-encryption keys: identifiers and dates, never a key.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::keys::KeySet;
use crate::lifecycle::Resealed;

/// A new key-encryption key is due after a purge.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeyEncryptionKeyDemand")]
pub(super) struct KekDemandView {
    since: String,
    purge_id: Uuid,
    /// Identifiers of those that may have leaked.
    compromised: Vec<String>,
}

/// `POST keys/reseal`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Reseal")]
pub(super) struct ResealView {
    /// False when everything lay under the first key-encryption key already.
    changed: bool,
    revision: u64,
    /// The one that everything is sealed and authenticated under.
    key_encryption_key: String,
    /// Needed only for old lines of the audit log and old backups.
    older_key_encryption_keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encryption_key_demand: Option<KekDemandView>,
}

impl ResealView {
    pub(super) fn of(resealed: &Resealed) -> Self {
        Self {
            changed: resealed.changed,
            revision: resealed.set.revision,
            key_encryption_key: resealed.kek.clone(),
            older_key_encryption_keys: resealed.older.clone(),
            key_encryption_key_demand: demand(&resealed.set),
        }
    }
}

pub(super) fn demand(set: &KeySet) -> Option<KekDemandView> {
    set.kek_demand.as_ref().map(|demand| KekDemandView {
        since: demand.since.to_string(),
        purge_id: demand.purge_id,
        compromised: demand.compromised.clone(),
    })
}
