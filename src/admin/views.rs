//! What the admin API shows: public facts only, dates in RFC 3339.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::keys::timing::Timing;
use crate::keys::transition::next_rotation_at;
use crate::keys::{
    Activation, ActivationKind, Algorithm, KeySet, KeyState, Kid, PublicKey, Tombstone, Trigger,
};
use crate::lifecycle::{KeyActivity, Receipt, RotationOutcome};

use super::clock::PauseView;
use super::kek_views::{KekDemandView, demand};

/// What an activation can be, as [`kind`] says it.
const KINDS: [&str; 3] = ["rotate", "purge", "import"];

/// `GET keys`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeySet")]
pub(super) struct KeySetView {
    issuer: String,
    revision: u64,
    keys: Vec<KeyView>,
    tombstones: Vec<TombstoneView>,
    last_rotation: Option<ActivationView>,
    next_rotation_at: String,
    /// Until when a plain Rotate changes nothing.
    idempotency_window_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encryption_key_demand: Option<KekDemandView>,
    /// Automatic rotation and retirement wait; null when they do not.
    schedule_paused: Option<PauseView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Key")]
struct KeyView {
    #[schemars(with = "Kid")]
    kid: String,
    #[schemars(with = "Algorithm")]
    alg: &'static str,
    #[schemars(extend("enum" = ["active", "pending", "deprecated"]))]
    state: &'static str,
    created_at: String,
    published_at: String,
    activated_at: Option<String>,
    deprecated_at: Option<String>,
    /// From then on the key verifies nothing; of the active key not decided yet.
    verify_until: Option<String>,
    #[serde(flatten)]
    activity: Option<KeyActivityView>,
}

/// What a key did; in `GET keys` alone.
#[derive(Debug, Serialize, JsonSchema)]
struct KeyActivityView {
    /// Tokens issued and not expired; at most a minute's too many.
    live_tokens: u64,
    /// Accepted requests of the last five minutes.
    requests_5m: u64,
    /// When it last accepted one, to a second; null when it did not since the process started.
    last_used_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tombstone")]
struct TombstoneView {
    #[schemars(with = "Kid")]
    kid: String,
    #[schemars(with = "Algorithm")]
    alg: &'static str,
    #[schemars(extend("enum" = ["retired", "purged"]))]
    state: &'static str,
    created_at: String,
    /// Null for a key that never signed.
    activated_at: Option<String>,
    /// When it stopped signing, if that was before its end.
    deprecated_at: Option<String>,
    ended_at: String,
    purge_id: Option<Uuid>,
    /// Whether it can be restored.
    mistake_undo: bool,
    tombstone_until: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LastRotation")]
struct ActivationView {
    rotation_id: Uuid,
    #[schemars(extend("enum" = KINDS))]
    kind: &'static str,
    #[schemars(extend("enum" = ["manual", "automatic"]))]
    trigger: &'static str,
    at: String,
    revision: u64,
    #[schemars(with = "Kid")]
    activated: String,
    #[schemars(with = "Kid")]
    replaced: String,
}

/// `POST keys/rotate`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Rotation")]
pub(super) struct RotationView {
    rotation_id: Uuid,
    /// False when it had already happened and nothing was done now.
    changed: bool,
    #[schemars(extend("enum" = KINDS))]
    kind: &'static str,
    at: String,
    revision: u64,
    #[schemars(with = "Kid")]
    activated: String,
    #[schemars(with = "Kid")]
    replaced: String,
    #[schemars(with = "Vec<Kid>")]
    purged: Vec<String>,
    /// Keys that a purge ended although they were newer than the revision its caller had seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Kid>")]
    unseen: Vec<String>,
    keys: Vec<KeyView>,
    idempotency_window_until: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encryption_key_demand: Option<KekDemandView>,
}

/// `GET keys/purges/{id}`, and part of a purge's answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Receipt")]
pub(super) struct ReceiptView {
    purge_id: Uuid,
    /// Whether no worker holds a purged key any more.
    complete: bool,
    #[schemars(with = "Vec<Kid>")]
    kids: Vec<String>,
    committed_at: String,
    drained_at: Option<String>,
    /// The workers that still do.
    still_held_by: Vec<String>,
    /// From when on no process of this gateway accepts or issues by the purged keys.
    effective_everywhere_by: Option<String>,
    /// Until when other verifiers may go by a JWKS answer that they keep.
    external_verifiers_until: String,
    /// Requests that the purged keys admitted and that run still.
    open_requests: u64,
}

impl KeySetView {
    pub(super) fn of(
        set: &KeySet,
        timing: &Timing,
        schedule_paused: Option<PauseView>,
        activity: &HashMap<Kid, KeyActivity>,
    ) -> Self {
        let window = set
            .last_activation
            .as_ref()
            .map(|last| window_until(last, timing));
        Self {
            issuer: set.issuer.clone(),
            revision: set.revision,
            keys: keys(set, Some(activity)),
            tombstones: set.tombstones.iter().map(TombstoneView::of).collect(),
            last_rotation: set.last_activation.as_ref().map(ActivationView::of),
            next_rotation_at: next_rotation_at(set, timing).to_string(),
            idempotency_window_until: window,
            key_encryption_key_demand: demand(set),
            schedule_paused,
        }
    }
}

impl RotationView {
    pub(super) fn of(outcome: &RotationOutcome, timing: &Timing) -> Self {
        let activation = &outcome.activation;
        Self {
            rotation_id: activation.id,
            changed: outcome.changed,
            kind: kind(activation.kind),
            at: activation.at.to_string(),
            revision: outcome.set.revision,
            activated: activation.activated.to_string(),
            replaced: activation.replaced.to_string(),
            purged: activation.purged.iter().map(ToString::to_string).collect(),
            unseen: activation.unseen.iter().map(ToString::to_string).collect(),
            keys: keys(&outcome.set, None),
            idempotency_window_until: window_until(activation, timing),
            receipt: outcome.receipt.as_deref().map(ReceiptView::of),
            key_encryption_key_demand: demand(&outcome.set),
        }
    }
}

impl ReceiptView {
    pub(super) fn of(receipt: &Receipt) -> Self {
        let state = receipt.state();
        let drained_at = state.drained_at.map(|at| at.to_string());
        Self {
            purge_id: receipt.purge_id,
            complete: drained_at.is_some(),
            kids: receipt.kids.iter().map(ToString::to_string).collect(),
            committed_at: receipt.committed_at.to_string(),
            still_held_by: state.still_held_by,
            effective_everywhere_by: drained_at.clone(),
            drained_at,
            external_verifiers_until: receipt.external_verifiers_until.to_string(),
            open_requests: receipt.open_requests(),
        }
    }
}

impl TombstoneView {
    fn of(tombstone: &Tombstone) -> Self {
        Self {
            kid: tombstone.kid.to_string(),
            alg: tombstone.alg.as_str(),
            state: match tombstone.end {
                crate::keys::End::Retired => "retired",
                crate::keys::End::Purged => "purged",
            },
            created_at: tombstone.created_at.to_string(),
            activated_at: tombstone.activated_at.map(|at| at.to_string()),
            deprecated_at: tombstone.deprecated_at.map(|at| at.to_string()),
            ended_at: tombstone.died_at.to_string(),
            purge_id: tombstone.purge_id,
            mistake_undo: tombstone.mistake_undo,
            tombstone_until: tombstone.tombstone_until.to_string(),
        }
    }
}

impl ActivationView {
    fn of(activation: &Activation) -> Self {
        Self {
            rotation_id: activation.id,
            kind: kind(activation.kind),
            trigger: match activation.trigger {
                Trigger::Manual => "manual",
                Trigger::Automatic => "automatic",
            },
            at: activation.at.to_string(),
            revision: activation.revision,
            activated: activation.activated.to_string(),
            replaced: activation.replaced.to_string(),
        }
    }
}

/// Active first, then pending, then deprecated from the newest on.
fn keys(set: &KeySet, activity: Option<&HashMap<Kid, KeyActivity>>) -> Vec<KeyView> {
    let key = |state, key| KeyView::of(state, key, activity);
    let active = KeyView {
        activated_at: Some(set.active.activated_at.to_string()),
        ..key(KeyState::Active, &set.active.public)
    };
    let deprecated = set.deprecated.iter().map(|key| KeyView {
        activated_at: Some(key.activated_at.to_string()),
        deprecated_at: Some(key.deprecated_at.to_string()),
        verify_until: Some(key.verify_until.to_string()),
        ..KeyView::of(KeyState::Deprecated, &key.public, activity)
    });
    [active, key(KeyState::Pending, &set.pending.public)]
        .into_iter()
        .chain(deprecated)
        .collect()
}

impl KeyView {
    fn of(state: KeyState, key: &PublicKey, activity: Option<&HashMap<Kid, KeyActivity>>) -> Self {
        // A key that was made since activity was looked at has done nothing yet.
        let of_key = |all: &HashMap<Kid, KeyActivity>| all.get(&key.kid).copied();
        let activity = activity.map(|all| KeyActivityView::of(of_key(all).unwrap_or_default()));
        Self {
            activity,
            kid: key.kid.to_string(),
            alg: key.alg.as_str(),
            state: state.as_str(),
            created_at: key.created_at.to_string(),
            published_at: key.published_at.to_string(),
            activated_at: None,
            deprecated_at: None,
            verify_until: None,
        }
    }
}

impl KeyActivityView {
    fn of(activity: KeyActivity) -> Self {
        Self {
            live_tokens: activity.live_tokens,
            requests_5m: activity.requests,
            last_used_at: activity.last_used_at.map(|at| at.to_string()),
        }
    }
}

fn window_until(activation: &Activation, timing: &Timing) -> String {
    activation.at.plus(timing.idempotency_window).to_string()
}

const fn kind(kind: ActivationKind) -> &'static str {
    match kind {
        ActivationKind::Rotate => "rotate",
        ActivationKind::Purge => "purge",
        ActivationKind::Import => "import",
    }
}
