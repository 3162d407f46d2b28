//! Key-encryption keys in the life cycle: a new one for a compromised purge, and reseal.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, KekDemand, KeySet};
use crate::log_id::LogId;
use crate::store::{
    CommitError, KeyStore, Keyring, Loaded, RenewalError, SealError, StoreWarning, reseal_halves,
};
use crate::telemetry::Level;

use super::step::MAX_ATTEMPTS;
use super::{Lifecycle, LifecycleError};

/// A demand that is older than this is an alarm, once per such time.
const ALARM_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a reseal answers.
#[derive(Debug)]
pub struct Resealed {
    /// False when everything lay under the first key-encryption key already.
    pub changed: bool,
    /// The key set after it.
    pub set: KeySet,
    /// Identifier of the key-encryption key that seals and authenticates everything now.
    pub kek: String,
    /// Those that only old lines of the audit log, and old backups, still need.
    pub older: Vec<String>,
    /// What went wrong beside it.
    pub warnings: Vec<StoreWarning>,
}

impl Lifecycle {
    /// Reads the key-encryption keys again and moves everything that is stored to the first one;
    /// with `new_kek` a new one is made before, if the gateway manages the file.
    ///
    /// # Errors
    /// [`LifecycleError`]; then everything is sealed as before.
    pub async fn reseal(&self, order: &Order, new_kek: bool) -> Result<Resealed, LifecycleError> {
        for _attempt in 0..MAX_ATTEMPTS {
            let loaded = self.load().await?;
            order.check_seen(&loaded.set)?;
            read_again(&self.parts.keyring, &loaded, new_kek).await?;
            let Some(next) = next(&loaded, &self.parts.keyring, order)? else {
                return Ok(resealed(false, loaded.set, &self.parts.keyring));
            };
            if self.commit(&loaded.set, next.clone()).await? {
                return Ok(resealed(true, next, &self.parts.keyring));
            }
        }
        Err(LifecycleError::Contention(MAX_ATTEMPTS))
    }

    /// For a compromised purge: makes sure that what it seals lies under a key-encryption key that
    /// sealed nothing before. When that cannot be, the operator has to: then what the key set has
    /// to say of it. A purge never fails for this.
    pub(super) async fn renew_kek(&self, loaded: &Loaded) -> Option<Demanded> {
        let keyring = Arc::clone(&self.parts.keyring);
        let (before, in_use) = (keyring.ids(), loaded.keks.clone());
        let renewed = tokio::task::spawn_blocking(move || keyring.renew(&in_use)).await;
        let cause = match renewed {
            Ok(Ok(())) => {
                let first = self.parts.keyring.first_id();
                if !before.contains(&first) {
                    self.parts
                        .log
                        .event(
                            Level::Info,
                            "key_encryption_key_made",
                            "a new key-encryption key seals from now on; old lines of the audit log still need the older ones",
                        )
                        .field("key_encryption_key", first)
                        .field("older", before)
                        .emit();
                }
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(ended) => ended.to_string(),
        };
        Some(Demanded {
            compromised: self.parts.keyring.ids(),
            cause,
        })
    }

    /// Makes a set that a compromised purge made depend on the new key-encryption key alone, or
    /// notes that there is none.
    pub(super) fn seal_after_purge(
        &self,
        set: &mut KeySet,
        purge_id: Uuid,
        demanded: Option<&Demanded>,
    ) {
        if let Some(demanded) = demanded {
            transition::demand_kek(set, purge_id, demanded.compromised.clone());
            return;
        }
        // A half that survives a purge of named keys, and does not open, must not stop the purge;
        // whoever needs the half will find out.
        if let Ok((active, pending)) = reseal_halves(set, &self.parts.keyring) {
            set.active.sealed = active;
            set.pending.sealed = pending;
        }
        transition::settle_kek_demand(set, &self.parts.keyring.first_id());
    }

    /// Says what a committed set demands, and why.
    pub(super) fn warn_if_demanded(&self, set: &KeySet, demanded: Option<&Demanded>) {
        if let Some((demand, why)) = set.kek_demand.as_ref().zip(demanded) {
            self.warn_of_demand(demand, &why.cause);
        }
    }

    /// Says at once that a new key-encryption key is due.
    fn warn_of_demand(&self, demand: &KekDemand, cause: &str) {
        self.parts
            .log
            .event(
                Level::Warn,
                "key_encryption_key_demanded",
                "the purged keys lay sealed under key-encryption keys that may have leaked with them: put a new one in front, then run `portcullis keys reseal`",
            )
            .field("since", demand.since.to_string())
            .field("purge_id", demand.purge_id.to_string())
            .field("compromised", demand.compromised.clone())
            .field("cause", cause)
            .emit();
    }

    /// At the start: a new key in front ends an open demand at once; without one it is said again.
    pub(super) async fn meet_demand(&self) -> Result<(), LifecycleError> {
        let Some(demand) = self.current_set().kek_demand else {
            return Ok(());
        };
        if demand.compromised.contains(&self.parts.keyring.first_id()) {
            self.warn_of_demand(&demand, "it was not met before this start");
            return Ok(());
        }
        self.reseal(&Self::order(Actor::Scheduler, None), false)
            .await
            .map(drop)
    }

    /// The alarm: a demand that nobody met for a day.
    pub(super) fn alarm_of_demand(&self, now: Timestamp) {
        let Some(demand) = self.published.load().set.kek_demand.clone() else {
            return;
        };
        let mut last = self.kek_alarm();
        let quiet_until = last.unwrap_or(demand.since).plus(ALARM_AFTER);
        if now < quiet_until {
            return;
        }
        *last = Some(now);
        drop(last);
        self.parts
            .log
            .event(
                Level::Error,
                "key_encryption_key_overdue",
                "a new key-encryption key is due for more than a day: whoever took the purged keys may open what is stored; put a new one in front, then run `portcullis keys reseal`",
            )
            .log_id(LogId::random())
            .field("since", demand.since.to_string())
            .field("purge_id", demand.purge_id.to_string())
            .field("compromised", demand.compromised)
            .emit();
    }
}

/// Why a purge found no new key-encryption key, and which ones may have leaked.
pub(super) struct Demanded {
    pub(super) compromised: Vec<String>,
    pub(super) cause: String,
}

/// As [`Lifecycle::reseal`], on a store that no gateway works on; whoever calls holds its lock.
///
/// # Errors
/// [`LifecycleError`]; then everything is sealed as before.
pub async fn reseal_offline(
    store: &dyn KeyStore,
    keyring: &Arc<Keyring>,
    order: &Order,
    new_kek: bool,
) -> Result<Resealed, LifecycleError> {
    let mut loaded = store.load().await?;
    let mut warnings = std::mem::take(&mut loaded.warnings);
    read_again(keyring, &loaded, new_kek).await?;
    let Some(next) = next(&loaded, keyring, order)? else {
        return Ok(Resealed {
            warnings,
            ..resealed(false, loaded.set, keyring)
        });
    };
    let committed =
        store
            .commit(loaded.set.revision, &next)
            .await
            .map_err(|error| match error {
                CommitError::Store(error) => LifecycleError::Store(error),
                CommitError::Conflict { .. } => LifecycleError::Contention(1),
            })?;
    warnings.extend(committed.warnings);
    Ok(Resealed {
        warnings,
        ..resealed(true, next, keyring)
    })
}

async fn read_again(
    keyring: &Arc<Keyring>,
    loaded: &Loaded,
    new_kek: bool,
) -> Result<(), LifecycleError> {
    let (keyring, in_use) = (Arc::clone(keyring), loaded.keks.clone());
    let read = tokio::task::spawn_blocking(move || {
        if new_kek {
            keyring.renew(&in_use)
        } else {
            keyring.reload().map_err(RenewalError::from)
        }
    });
    read.await
        .map_err(|_panicked_or_cancelled| LifecycleError::TaskDied)?
        .map_err(LifecycleError::Renewal)
}

/// The set with everything under the first key-encryption key; `None` when it is so already.
fn next(loaded: &Loaded, keyring: &Keyring, order: &Order) -> Result<Option<KeySet>, SealError> {
    let first = keyring.first_id();
    let met = |demand: &KekDemand| !demand.compromised.contains(&first);
    if loaded.keks.iter().all(|kek| *kek == first)
        && !loaded.set.kek_demand.as_ref().is_some_and(met)
    {
        return Ok(None);
    }
    let halves = reseal_halves(&loaded.set, keyring)?;
    let mut next = transition::reseal(&loaded.set, halves, order, loaded.store_now);
    transition::settle_kek_demand(&mut next, &first);
    Ok(Some(next))
}

fn resealed(changed: bool, set: KeySet, keyring: &Keyring) -> Resealed {
    let mut ids = keyring.ids();
    let older = ids.split_off(1.min(ids.len()));
    Resealed {
        changed,
        set,
        kek: ids.pop().unwrap_or_default(),
        older,
        warnings: Vec::new(),
    }
}
