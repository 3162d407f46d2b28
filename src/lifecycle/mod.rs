//! The only writer of key sets and of what was done to clients: load → decide (pure) → commit (CAS) → publish → drain.
//!
//! Invariants: whatever is published was committed before; a failed step leaves the published
//! keys in force; nothing here runs on a proxy worker. May import layers 0–2.

mod activity;
pub mod admitted;
pub mod clients;
mod clock_watch;
pub mod drain;
mod error;
pub mod impact;
mod import;
mod issued;
mod kek;
mod memory;
mod probe;
pub mod published;
mod purge;
pub mod recovery;
mod rotate;
mod schedule_health;
pub mod scheduler;
pub mod shadow;
mod step;
mod stolen;
mod store_health;
mod table;
mod traced;
mod traffic;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use uuid::Uuid;

pub use crate::store::AuditPage;
pub use activity::{ClientActivity, KeyActivity};
pub use clients::{ClientFailure, Clients, ClientsError};
pub use drain::Receipt;
pub use error::LifecycleError;
pub use impact::{KeyPreview, Preview};
pub use import::ImportCommand;
pub use issued::IssuedTokens;
pub use kek::{Resealed, reseal_offline};
pub use memory::PurgeProgress;
#[cfg(feature = "testing")]
pub use probe::Probe;
pub use published::{Holder, Published, Purpose, Snapshot};
pub use purge::PurgeCommand;
pub use rotate::RotationOutcome;
pub use schedule_health::{ScheduleFacts, ScheduleTrouble};
pub use shadow::{Shadow, ShadowRefusal};
pub use step::state_label;
pub use store_health::{StoreFacts, StoreHealth, StoreTrouble, WatchedStore};

use crate::clock::{Clock, ForwardStep, Timestamp};
use crate::keygen::KeyGenerator;
use crate::keys::timing::Timing;
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, Algorithm, KeySet, Trigger};
use crate::store::{KeyStore, Keyring, SideDocument};
use crate::telemetry::{Log, Metrics, Tracer};
use crate::token::CacheLimits;
use activity::Sightings;
use impact::KeptFigures;
use memory::Memory;
use schedule_health::ScheduleHealth;
use shadow::Shadows;
use traffic::Traffic;

/// What the life cycle works with; taken from `app::Env` once, at start.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where the key set lives.
    pub store: Arc<dyn KeyStore>,
    /// Makes new keys.
    pub keygen: Arc<dyn KeyGenerator>,
    /// Seals and opens private halves.
    pub keyring: Arc<Keyring>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Metrics of the key set.
    pub metrics: Arc<Metrics>,
    /// The log.
    pub log: Log,
}

/// What the configuration says about keys.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The issuer.
    pub issuer: String,
    /// Algorithm of new keys.
    pub algorithm: Algorithm,
    /// Timings, checked.
    pub timing: Timing,
    /// `aud` of the tokens that are issued; what a former system's audience may stand for.
    pub audience: Vec<String>,
    /// How many verified tokens each key remembers.
    pub token_cache: CacheLimits,
}

/// The life cycle of one issuer's keys.
pub struct Lifecycle {
    parts: Parts,
    policy: Policy,
    published: Arc<Published>,
    memory: Memory,
    /// A commit ended without telling whether it took effect; the next look at the store tells.
    uncertain: AtomicBool,
    /// The step of the clock that log and metrics show as pending.
    shown_step: Mutex<Option<ForwardStep>>,
    issued: IssuedTokens,
    traffic: Traffic,
    /// The counters as last written, so that nothing is written again unchanged.
    saved_counters: tokio::sync::Mutex<Vec<u8>>,
    /// When it was last said that a new key-encryption key is overdue.
    kek_alarm: Mutex<Option<Timestamp>>,
    figures: KeptFigures,
    watched_figures: KeptFigures,
    shadows: Shadows,
    schedule: ScheduleHealth,
    sightings: Sightings,
    /// Makes spans of steps, once one is attached.
    tracer: OnceLock<Tracer>,
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Lifecycle {
    /// Loads the key set, brings it up to the configuration and publishes it. Listeners open only
    /// after this. Never creates a key set.
    ///
    /// `workers` are the names of those that will hold snapshots, in the order of their numbers.
    ///
    /// # Errors
    /// [`LifecycleError`] when the store cannot be loaded or the set cannot be used.
    pub async fn start(
        parts: Parts,
        policy: Policy,
        workers: Vec<String>,
    ) -> Result<Arc<Self>, LifecycleError> {
        let loaded = parts.store.load().await?;
        // A clock set back while nothing ran must not stand still at the moment of the last commit:
        // that would prolong the idempotency window.
        parts.clock.not_before(loaded.set.high_water_time);
        let counters = parts.store.load_side(SideDocument::Counters).await?;
        let memory = Memory::load(&parts, &policy, &loaded.set).await;
        let first = step::snapshot(&parts, &policy, &memory, loaded.set.clone(), None)?;
        let lifecycle = Self {
            published: Arc::new(Published::new(first, workers)),
            uncertain: AtomicBool::new(false),
            shown_step: Mutex::default(),
            issued: IssuedTokens::start(
                issued::ledger(&parts, counters.as_deref()),
                Arc::clone(&memory.recovery),
            )
            .map_err(LifecycleError::Thread)?,
            memory,
            traffic: Traffic::since(parts.clock.now()),
            saved_counters: tokio::sync::Mutex::new(counters.unwrap_or_default()),
            figures: KeptFigures::default(),
            watched_figures: KeptFigures::default(),
            shadows: Shadows::default(),
            tracer: OnceLock::new(),
            kek_alarm: Mutex::default(),
            schedule: ScheduleHealth::default(),
            sightings: Sightings::default(),
            parts,
            policy,
        };
        lifecycle.adapt_to_configuration().await?;
        lifecycle.meet_demand().await?;
        lifecycle.show(&lifecycle.current_set());
        lifecycle.parts.metrics.store_answered();
        // From here on a step of the clock is seen.
        let _none_yet = lifecycle.schedule_pause();
        Ok(Arc::new(lifecycle))
    }

    /// What requests read.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// Where token endpoints count what they issue.
    #[must_use]
    pub fn issued_tokens(&self) -> IssuedTokens {
        self.issued.clone()
    }

    /// The timings in force.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.policy.timing
    }

    /// The key set in force.
    #[must_use]
    pub fn current_set(&self) -> KeySet {
        self.published.load().set.clone()
    }

    /// An order by an operator.
    #[must_use]
    pub fn order(actor: Actor, reason: Option<String>) -> Order {
        Order {
            id: Uuid::new_v4(),
            trigger: Trigger::Manual,
            actor,
            reason,
            seen_revision: None,
            claim: None,
        }
    }

    /// Replaces a pending key of another algorithm, and raises the longest token life time before
    /// a longer token can be signed.
    async fn adapt_to_configuration(&self) -> Result<(), LifecycleError> {
        let timing = &self.policy.timing;
        self.commit_if(|set, now| {
            transition::raise_max_ttl(set, timing.max_token_ttl, Actor::Scheduler, now)
        })
        .await?;
        let set = self.current_set();
        if set.pending.public.alg != self.policy.algorithm {
            let fresh = self.fresh_key(set.revision).await?;
            self.commit_if(move |set, now| {
                Some(transition::replace_pending(
                    set,
                    fresh.clone(),
                    timing,
                    Actor::Scheduler,
                    now,
                ))
            })
            .await?;
        }
        Ok(())
    }

    fn kek_alarm(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        self.kek_alarm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
