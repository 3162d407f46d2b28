//! Whether the store answers: a store that watches another one.
//!
//! Life-cycle steps and those who ask hold the lock for a copy; requests never touch it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::clock::{Clock, Timestamp};
use crate::keys::{AuditRecord, KeySet};
use crate::store::{
    AuditPage, CommitError, Committed, KeyStore, Loaded, SideDocument, StoreError, StoreWarning,
};

/// What there is to say of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// When it last did what it was asked.
    pub answered_at: Option<Timestamp>,
    /// The key set could not be loaded the last time.
    pub load: Option<StoreTrouble>,
    /// A key set could not be committed the last time.
    pub commit: Option<StoreTrouble>,
    /// Documents beside the key set that could not be loaded or saved the last time, by name.
    pub beside: BTreeMap<&'static str, StoreTrouble>,
    /// What the last load or commit of the key set found wrong beside it.
    pub warning: Option<StoreTrouble>,
    /// What failed last, over by now or not.
    pub last_failure: Option<StoreTrouble>,
}

/// Something that a store could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTrouble {
    /// The first time in a row.
    pub since: Timestamp,
    /// The last time.
    pub at: Timestamp,
    /// What it was asked for.
    pub what: &'static str,
    /// Why.
    pub why: String,
}

/// Where a [`WatchedStore`] notes how the other store is.
#[derive(Debug, Default)]
pub struct StoreHealth(Mutex<StoreFacts>);

impl StoreHealth {
    /// How it is now.
    #[must_use]
    pub fn facts(&self) -> StoreFacts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, StoreFacts> {
        // Each field is valid by itself, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StoreFacts {
    fn loaded(&mut self, now: Timestamp, loaded: &Result<Loaded, StoreError>) {
        match loaded {
            Ok(loaded) => {
                self.load = None;
                self.answered(now, &loaded.warnings);
            }
            Err(error) => {
                let trouble = trouble(self.load.as_ref(), now, "load the key set", error);
                self.last_failure = Some(trouble.clone());
                self.load = Some(trouble);
            }
        }
    }

    fn committed(&mut self, now: Timestamp, committed: &Result<Committed, CommitError>) {
        match committed {
            Ok(done) => {
                self.commit = None;
                self.answered(now, &done.warnings);
            }
            // Somebody else was faster: the store works.
            Err(CommitError::Conflict { .. }) => self.answered_at = Some(now),
            Err(CommitError::Store(error)) => {
                let trouble = trouble(self.commit.as_ref(), now, "commit a key set", error);
                self.last_failure = Some(trouble.clone());
                self.commit = Some(trouble);
            }
        }
    }

    fn answered(&mut self, now: Timestamp, warnings: &[StoreWarning]) {
        self.answered_at = Some(now);
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        let before = self.warning.take();
        if !texts.is_empty() {
            let why = texts.join("; ");
            self.warning = Some(trouble(
                before.as_ref(),
                now,
                "keep up what lies beside it",
                why,
            ));
        }
    }

    fn beside<T>(
        &mut self,
        name: SideDocument,
        now: Timestamp,
        what: &'static str,
        result: &Result<T, StoreError>,
    ) {
        match result {
            Ok(_) => {
                self.answered_at = Some(now);
                self.beside.remove(name.as_str());
            }
            Err(error) => {
                let trouble = trouble(self.beside.get(name.as_str()), now, what, error);
                self.last_failure = Some(trouble.clone());
                self.beside.insert(name.as_str(), trouble);
            }
        }
    }
}

fn trouble(
    before: Option<&StoreTrouble>,
    now: Timestamp,
    what: &'static str,
    why: impl ToString,
) -> StoreTrouble {
    StoreTrouble {
        since: before.map_or(now, |before| before.since),
        at: now,
        what,
        why: why.to_string(),
    }
}

/// Passes everything on to another store and notes how it went.
#[derive(Debug)]
pub struct WatchedStore {
    inner: Arc<dyn KeyStore>,
    clock: Arc<dyn Clock>,
    health: Arc<StoreHealth>,
}

impl WatchedStore {
    /// Watches `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn KeyStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            inner,
            clock,
            health: Arc::default(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Arc<StoreHealth> {
        Arc::clone(&self.health)
    }

    fn note(&self, note: impl FnOnce(&mut StoreFacts, Timestamp)) {
        let now = self.clock.now();
        note(&mut self.health.lock(), now);
    }
}

#[async_trait]
impl KeyStore for WatchedStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let loaded = self.inner.load().await;
        self.note(|facts, now| facts.loaded(now, &loaded));
        loaded
    }

    async fn commit(
        &self,
        expected_revision: u64,
        next: &KeySet,
    ) -> Result<Committed, CommitError> {
        let committed = self.inner.commit(expected_revision, next).await;
        self.note(|facts, now| facts.committed(now, &committed));
        committed
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        let loaded = self.inner.load_side(name).await;
        let what = "load a document beside the key set";
        self.note(|facts, now| facts.beside(name, now, what, &loaded));
        loaded
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        let saved = self.inner.save_side(name, data).await;
        let what = "save a document beside the key set";
        self.note(|facts, now| facts.beside(name, now, what, &saved));
        saved
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit_tail(count).await
    }

    async fn audit_page(&self, before: Option<u64>, limit: usize) -> Result<AuditPage, StoreError> {
        self.inner.audit_page(before, limit).await
    }
}
