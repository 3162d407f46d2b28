//! Key set in a directory of files: the default backend, for one gateway process.
//!
//! ```text
//! <dir>/                0700
//!   keyset.json         the key set, authenticated as a whole, private halves sealed
//!   keyset.prev.json    the generation before; for recovery by hand, never loaded by itself
//!   audit.log           one line per revision
//!   clients.json  counters.json  recovery.json    documents beside the key set
//!   lock                held by the process that works here; says which
//! ```
//! Promises: a crash at any instruction leaves the key set before or after the commit; what
//! `load` or `commit` reported is on stable storage; no file holds a private half once the commit
//! that ended it has answered. An authentic but older `keyset.json` is refused while running,
//! and at the start if the audit log or the previous generation is newer; an older copy of the
//! whole directory is beyond detection. Of the documents beside the key set only authenticity is
//! checked, not age.
//!
//! Calls run one at a time, on the blocking pool: a slow disk delays life-cycle work, nothing
//! else.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::clock::Clock;
use crate::keys::{AuditRecord, KeySet};

use super::audit_page::{AuditPage, AuditReader};
use super::error::StoreError;
use super::file_core::Core;
use super::file_layer::{FileLayer, RealLayer};
use super::file_open;
use super::sealing::Keyring;
use super::{CommitError, Committed, KeyStore, Loaded, SideDocument};

/// Where a file store is, and what it needs.
#[derive(Clone, Debug)]
pub struct FileStoreConfig {
    /// Its directory.
    pub dir: PathBuf,
    /// The issuer whose key set it holds.
    pub issuer: String,
    /// Keys that seal and authenticate.
    pub keyring: Arc<Keyring>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

impl FileStoreConfig {
    /// Where the audit log of this store is.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }
}

/// A key set in files, locked against other processes until dropped.
pub struct FileStore {
    dir: PathBuf,
    // This lock is not poisoned by a panic; what it protects is read from disk every time.
    core: Arc<Mutex<Core>>,
    /// Reads the audit log, apart from what changes the key set.
    audit: Arc<Mutex<AuditReader>>,
}

impl FileStore {
    /// Opens the store of an initialised installation.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`], [`StoreError::Locked`], or what is wrong with the files.
    pub async fn open(config: FileStoreConfig) -> Result<Self, StoreError> {
        Self::open_on(config, Arc::new(RealLayer)).await
    }

    /// As [`FileStore::open`], on a given file layer.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub async fn open_on(
        config: FileStoreConfig,
        layer: Arc<dyn FileLayer>,
    ) -> Result<Self, StoreError> {
        let dir = config.dir.clone();
        let core = blocking(&dir, move || file_open::open(config, layer)).await??;
        Ok(Self::new(dir, core))
    }

    /// Makes a store that holds `first`; its directory too, if need be.
    ///
    /// # Errors
    /// [`StoreError::AlreadyInitialised`] when there is a key set, or what went wrong.
    pub async fn create(config: FileStoreConfig, first: &KeySet) -> Result<Self, StoreError> {
        Self::create_on(config, Arc::new(RealLayer), first).await
    }

    /// As [`FileStore::create`], on a given file layer.
    ///
    /// # Errors
    /// As [`FileStore::create`].
    pub async fn create_on(
        config: FileStoreConfig,
        layer: Arc<dyn FileLayer>,
        first: &KeySet,
    ) -> Result<Self, StoreError> {
        let (dir, first) = (config.dir.clone(), first.clone());
        let core = blocking(&dir, move || file_open::create(config, layer, &first)).await??;
        Ok(Self::new(dir, core))
    }

    fn new(dir: PathBuf, core: Core) -> Self {
        let audit = AuditReader::new(
            Arc::clone(&core.layer),
            core.paths.audit.clone(),
            Arc::clone(&core.keyring),
            core.issuer.clone(),
        );
        Self {
            dir,
            core: Arc::new(Mutex::new(core)),
            audit: Arc::new(Mutex::new(audit)),
        }
    }

    /// Runs `work` alone, on the blocking pool. Once begun it runs to its end, whatever becomes of
    /// the caller.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut core = Arc::clone(&self.core).lock_owned().await;
        blocking(&self.dir, move || work(&mut core)).await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl KeyStore for FileStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.with(Core::load).await?
    }

    async fn commit(
        &self,
        expected_revision: u64,
        next: &KeySet,
    ) -> Result<Committed, CommitError> {
        let next = next.clone();
        self.with(move |core| core.commit(expected_revision, &next))
            .await?
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(move |core| core.load_side(name)).await?
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        let data = data.to_vec();
        self.with(move |core| core.save_side(name, &data)).await?
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.with(move |core| core.audit_tail(count)).await?
    }

    async fn audit_page(&self, before: Option<u64>, limit: usize) -> Result<AuditPage, StoreError> {
        let mut audit = Arc::clone(&self.audit).lock_owned().await;
        blocking(&self.dir, move || audit.page(before, limit)).await?
    }
}

async fn blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(|ended| StoreError::Io {
        path: dir.to_owned(),
        step: "finish working in",
        source: std::io::Error::other(ended),
    })
}
