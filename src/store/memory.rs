//! Key set in memory: a backend like the others, gone with the process. For tests, rehearsals and
//! simulations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::keys::{AuditRecord, KeySet};

use super::error::StoreError;
use super::{CommitError, Committed, KeyStore, Loaded, SideDocument, check_step, keks_of};

/// A key set in memory. Replicas in one process share it by `Arc`.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In its stored form, so that what a file could not hold is refused here too.
    document: Option<Vec<u8>>,
    audit: Vec<AuditRecord>,
    side: HashMap<SideDocument, Vec<u8>>,
}

impl MemoryStore {
    /// A store without a key set.
    #[must_use]
    pub fn empty(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Mutex::default(),
        }
    }

    /// A store that holds `first`.
    ///
    /// # Errors
    /// [`StoreError::InvalidNext`] when `first` breaks a rule of its document.
    pub fn create(clock: Arc<dyn Clock>, first: &KeySet) -> Result<Self, StoreError> {
        let state = State {
            document: Some(encode(first)?),
            audit: vec![first.last_event.clone()],
            side: HashMap::new(),
        };
        Ok(Self {
            clock,
            state: Mutex::new(state),
        })
    }
}

impl State {
    fn set(&self) -> Result<KeySet, StoreError> {
        let path = || PathBuf::from("memory");
        let document = self
            .document
            .as_ref()
            .ok_or_else(|| StoreError::NotInitialised { path: path() })?;
        serde_json::from_slice(document).map_err(|error| StoreError::Corrupt {
            path: path(),
            rule: error.to_string(),
        })
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        let set = self.state.lock().await.set()?;
        Ok(Loaded {
            store_now: self.clock.now().max(set.high_water_time),
            keks: keks_of(&set, None),
            set,
            warnings: Vec::new(),
        })
    }

    async fn commit(
        &self,
        expected_revision: u64,
        next: &KeySet,
    ) -> Result<Committed, CommitError> {
        let mut state = self.state.lock().await;
        let current = state.set()?;
        check_step(expected_revision, &current.issuer, next)?;
        if current.revision != expected_revision {
            return Err(CommitError::Conflict {
                current: current.revision,
            });
        }
        state.document = Some(encode(next)?);
        state.audit.push(next.last_event.clone());
        Ok(Committed::default())
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state.lock().await.side.get(&name).cloned())
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        state.side.insert(name, data.to_vec());
        Ok(())
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let state = self.state.lock().await;
        let skip = state.audit.len().saturating_sub(count);
        Ok(state.audit.iter().skip(skip).cloned().collect())
    }
}

fn encode(set: &KeySet) -> Result<Vec<u8>, StoreError> {
    let invalid = |error: serde_json::Error| StoreError::InvalidNext {
        rule: error.to_string(),
    };
    let document = serde_json::to_vec(set).map_err(invalid)?;
    serde_json::from_slice::<KeySet>(&document).map_err(invalid)?;
    Ok(document)
}
