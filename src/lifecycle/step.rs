//! What every life-cycle step shares: generate and seal, commit and publish, show.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;

use crate::clock::Timestamp;
use crate::keys::{Activation, End, FreshKey, KeySet, KeyState, Kid, jwks, transition};
use crate::store::{CommitError, Loaded, StoreError, StoreWarning, seal_fresh};
use crate::telemetry::{KeyFacts, KeySeries, KeySetFacts, KeyStateLabel, Level};
use crate::token::VerificationKeys;
use crate::token::jose::TokenSigner;

use super::admitted::Admitted;
use super::drain::Receipt;
use super::memory::Memory;
use super::published::Snapshot;
use super::{Lifecycle, LifecycleError, Parts, Policy};

/// How often a step that lost the race loads and decides again.
pub(super) const MAX_ATTEMPTS: u32 = 64;

/// Tombstones that have a metric series of their own; older ones share one.
const MAX_TOMBSTONE_SERIES: usize = 128;

impl Lifecycle {
    /// Generates and seals a key of the configured algorithm, outside of any transaction and off
    /// the runtime's threads: an RSA key takes up to seconds.
    pub(super) async fn fresh_key(&self, base_revision: u64) -> Result<FreshKey, LifecycleError> {
        let keygen = Arc::clone(&self.parts.keygen);
        let keyring = Arc::clone(&self.parts.keyring);
        let issuer = self.policy.issuer.clone();
        let algorithm = self.policy.algorithm;
        let now = self.parts.clock.now();
        tokio::task::spawn_blocking(move || {
            let generated = keygen.generate(algorithm)?;
            Ok(seal_fresh(
                generated,
                &keyring,
                &issuer,
                base_revision,
                now,
            )?)
        })
        .await
        .map_err(|_panicked_or_cancelled| LifecycleError::TaskDied)?
    }

    /// Commits what `change` makes of the stored set, if anything, and publishes it.
    pub(super) async fn commit_if(
        &self,
        change: impl Fn(&KeySet, Timestamp) -> Option<KeySet>,
    ) -> Result<(), LifecycleError> {
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            let Some(next) = change(&loaded.set, loaded.store_now) else {
                return Ok(());
            };
            if self.commit(&loaded.set, next).await? {
                return Ok(());
            }
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    /// The commit point: all after it can be derived again from the store. False when another
    /// writer was faster.
    pub(super) async fn commit(&self, from: &KeySet, next: KeySet) -> Result<bool, LifecycleError> {
        // Made ready first: a set that cannot be used must not be committed.
        let admitted = self.published.admitted_by_kid();
        let snapshot = snapshot(
            &self.parts,
            &self.policy,
            &self.memory,
            next,
            Some(&admitted),
        )?;
        match self.parts.store.commit(from.revision, &snapshot.set).await {
            Ok(committed) => {
                self.warn(&committed.warnings);
                self.put_in_force(snapshot, &admitted);
                self.parts.metrics.store_answered();
                Ok(true)
            }
            Err(CommitError::Conflict { .. }) => Ok(false),
            Err(CommitError::Store(error)) => {
                if let StoreError::OutcomeUnknown { .. } = error {
                    self.uncertain.store(true, Ordering::SeqCst);
                }
                Err(error.into())
            }
        }
    }

    /// Loads the stored set; one that is newer than the published one, because a commit of unknown
    /// outcome took effect after all, is published at once.
    pub(super) async fn load(&self) -> Result<Loaded, LifecycleError> {
        let loaded = self.parts.store.load().await?;
        self.warn(&loaded.warnings);
        let before = self.published.load();
        if loaded.set.revision > before.set.revision {
            let admitted = self.published.admitted_by_kid();
            let set = loaded.set.clone();
            let next = snapshot(
                &self.parts,
                &self.policy,
                &self.memory,
                set,
                Some(&admitted),
            )?;
            self.put_in_force(next, &admitted);
            // A purge that nobody could answer for: whoever asks again learns when it is over.
            let unseen = |purge: &&Activation| purge.revision > before.set.revision;
            if let Some(purge) = loaded.set.last_purge.as_ref().filter(unseen) {
                let receipt = Receipt::new(purge, admitted, &self.policy.timing);
                self.memory.remember_unless_known(Arc::new(receipt));
            }
        }
        self.uncertain.store(false, Ordering::SeqCst);
        self.parts.metrics.store_answered();
        Ok(loaded)
    }

    /// Publishes a committed set; what purged keys have admitted is to be cut.
    fn put_in_force(&self, snapshot: Snapshot, admitted: &HashMap<Kid, Arc<Admitted>>) {
        let set = snapshot.set.clone();
        self.parts.clock.not_before(set.high_water_time);
        let purged = set.tombstones.iter().filter(|dead| dead.end == End::Purged);
        for admitted in purged.filter_map(|dead| admitted.get(&dead.kid)) {
            admitted.mark_purged();
        }
        self.published.publish(snapshot);
        self.show(&set);
    }

    fn warn(&self, warnings: &[StoreWarning]) {
        for warning in warnings {
            self.parts
                .log
                .event(Level::Warn, "store_warning", &warning.to_string())
                .emit();
        }
    }

    /// Writes the event into log and metrics.
    pub(super) fn show(&self, set: &KeySet) {
        let event = &set.last_event;
        let list = |kids: &[Kid]| kids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let name = |kid: &Option<Kid>| kid.as_ref().map(ToString::to_string);
        self.parts
            .log
            .event(Level::Info, "key_set_published", "a key set is in force")
            .field("revision", set.revision)
            .field("cause", serde_json::json!(event.event))
            .field("actor", serde_json::json!(event.actor))
            .field("activated", name(&event.activated))
            .field("deprecated", name(&event.deprecated))
            .field("published", name(&event.published))
            .field("purged", list(&event.purged))
            .field("retired", list(&event.retired))
            .field("restored", name(&event.restored))
            .field("imported", name(&event.imported))
            .field("compromised", list(&event.compromised))
            .outside("reason", event.reason.as_deref().unwrap_or_default())
            .emit();

        let mut facts = vec![
            KeyFacts {
                kid: set.pending.public.kid.as_str(),
                state: KeyStateLabel::Pending,
                not_after: None,
            },
            KeyFacts {
                kid: set.active.public.kid.as_str(),
                state: KeyStateLabel::Active,
                not_after: None,
            },
        ];
        facts.extend(set.deprecated.iter().map(|key| KeyFacts {
            kid: key.public.kid.as_str(),
            state: KeyStateLabel::Deprecated,
            not_after: Some(key.verify_until),
        }));
        let ended = |end| {
            set.tombstones
                .iter()
                .filter(|tombstone| tombstone.end == end)
                .count()
        };
        self.parts.metrics.show_key_set(&KeySetFacts {
            revision: set.revision,
            keys: &facts,
            retired: ended(End::Retired),
            purged: ended(End::Purged),
            last_rotation_at: set.last_activation.as_ref().map(|last| last.at),
            next_rotation_at: Some(transition::next_rotation_at(set, &self.policy.timing)),
            kek_demanded_since: set.kek_demand.as_ref().map(|demand| demand.since),
        });
    }
}

/// Makes a set ready: parses every key, opens the active one, renders the JWKS, resolves metrics.
pub(super) fn snapshot(
    parts: &Parts,
    policy: &Policy,
    memory: &Memory,
    set: KeySet,
    admitted: Option<&HashMap<Kid, Arc<Admitted>>>,
) -> Result<Snapshot, LifecycleError> {
    let timing = &policy.timing;
    let keys = VerificationKeys::new(
        &set,
        timing.leeway,
        timing.sign_drain + timing.clock_offset_max,
    )?
    .remembering(Arc::clone(&memory.proven))
    .caching(&memory.caches);
    let active = &set.active;
    let private = parts.keyring.open(
        &set.issuer,
        &active.public.kid,
        active.public.alg,
        &active.sealed,
    )?;
    let signer = TokenSigner::new(
        active.public.kid.clone(),
        active.public.alg,
        &private,
        &SystemRandom::new(),
    )?;
    let jwks = Bytes::from(jwks::document(&set));
    let jwks_etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest(&SHA256, &jwks)));
    // Series exist at 0 from a key's creation on; room is made first, so that live keys and the
    // newest tombstones always have one of their own.
    let dead = keys
        .tombstones()
        .iter()
        .take(MAX_TOMBSTONE_SERIES)
        .map(|key| key.kid.as_str());
    let kids: Vec<&str> = keys
        .live()
        .iter()
        .map(|key| key.kid.as_str())
        .chain(dead)
        .collect();
    parts.metrics.retain_kids(&kids);
    for key in keys.live() {
        let _created = parts.metrics.key_series(key.kid.as_str());
    }
    let tombstone_series: Vec<KeySeries> = keys
        .tombstones()
        .iter()
        .map(|key| parts.metrics.key_series(key.kid.as_str()))
        .collect();
    let recoveries = memory
        .recovery
        .of_tombstones(&set, &tombstone_series, &parts.metrics);
    let admitted = keys
        .live()
        .iter()
        .map(|key| {
            admitted.and_then(|known| known.get(&key.kid)).map_or_else(
                || Arc::new(Admitted::new(Arc::clone(&memory.callers))),
                Arc::clone,
            )
        })
        .collect();
    Ok(Snapshot {
        keys,
        signer,
        jwks,
        jwks_etag,
        tombstone_series,
        recoveries,
        recovery: Arc::clone(&memory.recovery),
        admitted,
        set,
    })
}

/// The metric label of a key state.
#[must_use]
pub const fn state_label(state: KeyState) -> KeyStateLabel {
    match state {
        KeyState::Pending => KeyStateLabel::Pending,
        KeyState::Active => KeyStateLabel::Active,
        KeyState::Deprecated => KeyStateLabel::Deprecated,
    }
}
