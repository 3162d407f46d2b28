//! A wrapper that makes any store fail, stand still or lose a race at a named step.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::keys::{AuditRecord, KeySet};

use super::error::StoreError;
use super::{AuditPage, CommitError, Committed, KeyStore, Loaded, SideDocument};

/// Where a call can be tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before a key set is loaded.
    Load,
    /// Before a commit reaches the store: a failure here has changed nothing.
    BeforeCommit,
    /// After a commit took effect, before its caller hears of it.
    AfterCommit,
    /// Before a side document is loaded.
    LoadSide,
    /// Before a side document is saved.
    SaveSide,
}

/// What happens there.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// An input/output error; [`StoreError::OutcomeUnknown`] after a commit.
    Fail,
    /// Somebody else committed first (only before a commit; elsewhere as [`Trouble::Fail`]).
    LoseRace,
    /// The call stands still until the gate opens.
    Hold(Gate),
}

/// Holds calls back until it is opened, and tells how many it holds.
#[derive(Clone, Debug)]
pub struct Gate {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self {
            open: watch::Sender::new(false),
            waiting: watch::Sender::new(0),
        }
    }

    /// Lets all calls through, now and later.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Returns as soon as at least `calls` calls have come to the gate.
    pub async fn reached(&self, calls: usize) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(
            self.waiting
                .subscribe()
                .wait_for(|waiting| *waiting >= calls)
                .await,
        );
    }

    async fn pass(&self) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        drop(self.open.subscribe().wait_for(|open| *open).await);
    }
}

/// A store with troubles.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn KeyStore>,
    troubles: Mutex<Vec<Planned>>,
}

#[derive(Clone, Debug)]
struct Planned {
    step: Step,
    trouble: Trouble,
    sticky: bool,
}

impl FaultyStore {
    /// A store without troubles yet.
    #[must_use]
    pub fn new(inner: Arc<dyn KeyStore>) -> Self {
        Self {
            inner,
            troubles: Mutex::default(),
        }
    }

    /// The next call that comes to `step` meets `trouble`; troubles of one step queue up.
    pub fn once(&self, step: Step, trouble: Trouble) {
        self.plan(step, trouble, false);
    }

    /// Every call that comes to `step` meets `trouble`, until [`FaultyStore::heal`].
    pub fn always(&self, step: Step, trouble: Trouble) {
        self.plan(step, trouble, true);
    }

    /// Ends all troubles.
    pub fn heal(&self) {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn plan(&self, step: Step, trouble: Trouble, sticky: bool) {
        self.troubles
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Planned {
                step,
                trouble,
                sticky,
            });
    }

    fn take(&self, step: Step) -> Option<Trouble> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let at = troubles.iter().position(|planned| planned.step == step)?;
        let planned = troubles.get(at)?.clone();
        if !planned.sticky {
            troubles.remove(at);
        }
        Some(planned.trouble)
    }

    async fn meet(&self, step: Step) -> Result<(), StoreError> {
        match self.take(step) {
            None => Ok(()),
            Some(Trouble::Hold(gate)) => {
                gate.pass().await;
                Ok(())
            }
            Some(Trouble::Fail | Trouble::LoseRace) => Err(StoreError::Io {
                path: "faulty".into(),
                step: "use",
                source: fault(),
            }),
        }
    }
}

fn fault() -> std::io::Error {
    std::io::Error::other("a fault was injected")
}

#[async_trait]
impl KeyStore for FaultyStore {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.meet(Step::Load).await?;
        self.inner.load().await
    }

    async fn commit(
        &self,
        expected_revision: u64,
        next: &KeySet,
    ) -> Result<Committed, CommitError> {
        match self.take(Step::BeforeCommit) {
            None => {}
            Some(Trouble::Hold(gate)) => gate.pass().await,
            Some(Trouble::LoseRace) => {
                return Err(CommitError::Conflict {
                    current: expected_revision + 1,
                });
            }
            Some(Trouble::Fail) => {
                return Err(CommitError::Store(StoreError::Io {
                    path: "faulty".into(),
                    step: "commit to",
                    source: fault(),
                }));
            }
        }
        let committed = self.inner.commit(expected_revision, next).await?;
        self.meet(Step::AfterCommit)
            .await
            .map_err(|_injected| StoreError::OutcomeUnknown {
                path: "faulty".into(),
                revision: next.revision,
                source: fault(),
            })?;
        Ok(committed)
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        self.meet(Step::LoadSide).await?;
        self.inner.load_side(name).await
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        self.meet(Step::SaveSide).await?;
        self.inner.save_side(name, data).await
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit_tail(count).await
    }

    async fn audit_page(&self, before: Option<u64>, limit: usize) -> Result<AuditPage, StoreError> {
        self.inner.audit_page(before, limit).await
    }
}
