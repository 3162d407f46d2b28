//! Where key sets are kept: the trait [`KeyStore`], its backends, and what protects the bytes.
//!
//! Invariants: compare-and-swap on the revision is the only way to change a key set; what `load`
//! or `commit` has reported is durable and is never lost or taken back by a crash; a document
//! that is not authentic is refused, the running set stays; private halves are stored sealed and
//! are gone from every file once the commit that ends them has answered. May import `clock`,
//! `keys`, and `keygen` for [`seal_fresh`].

pub mod audit;
mod audit_log;
mod audit_page;
#[cfg(feature = "testing")]
pub mod conformance;
mod durable;
mod envelope;
mod error;
#[cfg(feature = "testing")]
pub mod faulty_layer;
#[cfg(feature = "testing")]
pub mod faulty_store;
pub mod file;
mod file_core;
pub mod file_layer;
pub mod file_look;
mod file_open;
pub mod file_recover;
mod halves;
mod kek;
mod kek_file;
mod kek_renewal;
pub mod memory;
pub mod sealing;
#[cfg(feature = "testing")]
pub mod sim_disk;
#[cfg(feature = "testing")]
mod sim_state;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Timestamp;
use crate::keys::{AuditRecord, KeySet};

pub use audit_page::{AuditPage, AuditProblem};
pub use error::{StoreError, StoreWarning};
#[cfg(feature = "testing")]
pub use faulty_store::FaultyStore;
pub use file::{FileStore, FileStoreConfig};
pub use file_recover::{Damaged, RecoverError};
pub use halves::{reseal_halves, seal_fresh};
pub use kek_file::{KeyringError, MAX_KEYS_PER_FILE, write_new_kek, write_new_kek_on};
pub use kek_renewal::RenewalError;
pub use memory::MemoryStore;
pub use sealing::{Keyring, SealError};

/// A place that keeps one issuer's key set.
#[async_trait]
pub trait KeyStore: Send + Sync + fmt::Debug {
    /// The current key set. Every call asks the place itself, nothing is cached.
    ///
    /// # Errors
    /// [`StoreError`]; also when the set found is older than one this store has reported before.
    async fn load(&self) -> Result<Loaded, StoreError>;

    /// Replaces the set of revision `expected_revision` by `next`, whose revision is one higher.
    ///
    /// Runs to its end even when the returned future is dropped.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] when another revision is current; [`StoreError::OutcomeUnknown`]
    /// when only a later [`KeyStore::load`] can tell; otherwise nothing has changed.
    async fn commit(&self, expected_revision: u64, next: &KeySet)
    -> Result<Committed, CommitError>;

    /// A document beside the key set, `None` when it was never saved.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError>;

    /// Replaces a document beside the key set. Leaves the revision alone.
    ///
    /// # Errors
    /// [`StoreError`]; then the old document or the new one is stored, never a mixture.
    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError>;

    /// The last `count` audit records, oldest first.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError>;

    /// At most `limit` audit records from before the revision `before`, and whether the whole log is
    /// what was written. A store whose records nobody else can write proves them by having them.
    ///
    /// # Errors
    /// [`StoreError`]
    async fn audit_page(&self, before: Option<u64>, limit: usize) -> Result<AuditPage, StoreError> {
        Ok(AuditPage::of(
            self.audit_tail(usize::MAX).await?,
            before,
            limit,
        ))
    }
}

/// What [`KeyStore::load`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The current key set.
    pub set: KeySet,
    /// The store's idea of now: never before a moment at which this key set was used.
    pub store_now: Timestamp,
    /// Identifiers of the key-encryption keys that it is sealed and authenticated under.
    pub keks: Vec<String>,
    /// What is wrong beside it.
    pub warnings: Vec<StoreWarning>,
}

/// A commit that took effect and is durable.
#[derive(Debug, Default)]
#[non_exhaustive]
#[must_use = "a warning here wants an alarm"]
pub struct Committed {
    /// What went wrong beside it.
    pub warnings: Vec<StoreWarning>,
}

/// Why [`KeyStore::commit`] did not take effect.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Somebody else committed first.
    #[error("another commit came first: the key set is at revision {current} now")]
    Conflict {
        /// The current revision.
        current: u64,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A document kept beside the key set, so that saving it never bumps the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideDocument {
    /// What was done to clients.
    Clients,
    /// Counters of issued tokens.
    Counters,
    /// Receipts of purges, and who recovered from them.
    Recovery,
}

impl SideDocument {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Clients, Self::Counters, Self::Recovery];

    /// Its name, also that of its file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Counters => "counters",
            Self::Recovery => "recovery",
        }
    }
}

/// The key-encryption keys of a set: of its private halves, and of the document if it is
/// authenticated.
fn keks_of(set: &KeySet, document: Option<String>) -> Vec<String> {
    let halves = [&set.active.sealed, &set.pending.sealed].map(|sealed| sealed.kek.clone());
    let mut keks: Vec<String> = document.into_iter().chain(halves).collect();
    keks.sort_unstable();
    keks.dedup();
    keks
}

/// The rule that every backend applies before anything else.
fn check_step(expected_revision: u64, issuer: &str, next: &KeySet) -> Result<(), StoreError> {
    let rule = if Some(next.revision) != expected_revision.checked_add(1) {
        format!(
            "its revision is {}, but it follows revision {expected_revision}",
            next.revision
        )
    } else if next.issuer != issuer {
        format!("it belongs to {}, not to {issuer}", next.issuer)
    } else {
        return Ok(());
    };
    Err(StoreError::InvalidNext { rule })
}
