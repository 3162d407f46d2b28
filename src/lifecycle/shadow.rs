//! Shadow purge: counts on live traffic, for a while, what a purge would have refused. Changes
//! nothing: no key, no revision, no file, no answer to any client.
//!
//! Counted are the requests that the keys in scope admitted. A request costs one look at a flag
//! while no shadow purge runs. One runs at a time, so that its cost is bounded.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::Kid;
use crate::keys::transition::{self, PurgeScope, Refusal};

use super::Lifecycle;
use super::admitted::Admitted;

/// Shortest shadow purge.
pub const MIN_SHADOW: Duration = Duration::from_secs(1);
/// Longest one.
pub const MAX_SHADOW: Duration = Duration::from_secs(300);

/// How many are remembered.
const MAX_SHADOWS: usize = 16;

/// One shadow purge, running or over.
#[derive(Debug)]
pub struct Shadow {
    /// Identifier, to ask for it again.
    pub id: Uuid,
    /// The keys that it counts for.
    pub kids: Vec<Kid>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    number: u64,
    requests: AtomicU64,
    unlisted: AtomicU64,
    /// By index of the route.
    routes: Vec<AtomicU64>,
    /// The keys' counters; let go of at the end.
    admitted: Mutex<Vec<Arc<Admitted>>>,
    result: OnceLock<ShadowCount>,
}

/// What a shadow purge counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowCount {
    /// Requests that a purge would have refused.
    pub requests: u64,
    /// Clients that sent them; an upper bound.
    pub clients: u64,
    /// Whether `clients` is exact: no client was beyond the memory bound.
    pub clients_exact: bool,
    /// The requests by index of the route.
    pub routes: Vec<u64>,
}

/// Why a shadow purge cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ShadowRefusal {
    /// Another one runs.
    #[error("the shadow purge {id} runs until {ends_at}; one at a time")]
    Running {
        /// Which.
        id: Uuid,
        /// When it is over.
        ends_at: Timestamp,
    },
    /// It names a key that does not exist.
    #[error(transparent)]
    Scope(#[from] Refusal),
}

/// The shadow purges of this process, newest first.
#[derive(Debug, Default)]
pub(super) struct Shadows {
    known: Mutex<Vec<Arc<Shadow>>>,
    started: AtomicU64,
}

impl Shadow {
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn count(&self, route: usize) {
        self.requests.fetch_add(1, Relaxed);
        if let Some(counter) = self.routes.get(route) {
            counter.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_unlisted(&self, route: usize) {
        self.unlisted.fetch_add(1, Relaxed);
        self.count(route);
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.result.get().is_some()
    }

    /// What it counted, so far or in the end.
    #[must_use]
    pub fn counted(&self) -> ShadowCount {
        self.result.get().map_or_else(|| self.now(), Clone::clone)
    }

    fn now(&self) -> ShadowCount {
        let admitted = self.admitted();
        let clients: BTreeSet<Arc<str>> = admitted
            .iter()
            .flat_map(|admitted| admitted.callers_in(self.number))
            .collect();
        let unlisted = self.unlisted.load(Relaxed);
        ShadowCount {
            requests: self.requests.load(Relaxed),
            clients: (clients.len() as u64).saturating_add(unlisted),
            clients_exact: unlisted == 0,
            routes: self
                .routes
                .iter()
                .map(|count| count.load(Relaxed))
                .collect(),
        }
    }

    /// A request that is counting at this moment may be left out.
    fn finish(&self) {
        for admitted in &*self.admitted() {
            admitted.watch(None);
        }
        let count = self.now();
        self.result.get_or_init(|| count);
        self.admitted().clear();
    }

    fn admitted(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Admitted>>> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifecycle {
    /// Begins to count what a purge of `scope` would refuse, for `length`, which is cut to
    /// [`MIN_SHADOW`] and [`MAX_SHADOW`]. `routes` is the number of routes.
    ///
    /// Must be called on a runtime, which ends it.
    ///
    /// # Errors
    /// [`ShadowRefusal`]; then nothing began.
    pub fn start_shadow(
        &self,
        scope: &PurgeScope,
        length: Duration,
        routes: usize,
    ) -> Result<Arc<Shadow>, ShadowRefusal> {
        let length = length.clamp(MIN_SHADOW, MAX_SHADOW);
        let mut known = self.shadows.known();
        if let Some(running) = known.first().filter(|shadow| !shadow.is_over()) {
            return Err(ShadowRefusal::Running {
                id: running.id,
                ends_at: running.ends_at,
            });
        }
        let snapshot = self.published.load();
        let kids = transition::doomed(&snapshot.set, scope)?;
        let of_kids = self.published.admitted_by_kid();
        let started_at = self.parts.clock.now();
        let shadow = Arc::new(Shadow {
            id: Uuid::new_v4(),
            started_at,
            ends_at: started_at.plus(length),
            // 0 is what a caller has that no shadow purge saw.
            number: self.shadows.started.fetch_add(1, Relaxed) + 1,
            requests: AtomicU64::new(0),
            unlisted: AtomicU64::new(0),
            routes: std::iter::repeat_with(AtomicU64::default)
                .take(routes)
                .collect(),
            admitted: Mutex::new(
                kids.iter()
                    .filter_map(|kid| of_kids.get(kid).cloned())
                    .collect(),
            ),
            result: OnceLock::new(),
            kids,
        });
        for admitted in &*shadow.admitted() {
            admitted.watch(Some(Arc::clone(&shadow)));
        }
        known.insert(0, Arc::clone(&shadow));
        known.truncate(MAX_SHADOWS);
        let ends = Arc::clone(&shadow);
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            ends.finish();
        });
        Ok(shadow)
    }

    /// A shadow purge, while this process remembers it.
    #[must_use]
    pub fn shadow(&self, id: Uuid) -> Option<Arc<Shadow>> {
        self.shadows
            .known()
            .iter()
            .find(|shadow| shadow.id == id)
            .map(Arc::clone)
    }
}

impl Shadows {
    fn known(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Shadow>>> {
        // A list of counters is valid whatever panicked elsewhere.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
