//! Why a life-cycle step did not happen.

use thiserror::Error;

use crate::keygen::KeygenError;
use crate::keys::transition::Refusal;
use crate::store::{RenewalError, SealError, StoreError};
use crate::token::jose::KeyError;

/// Why a step did not happen; the keys published before stay in force.
#[derive(Debug, Error)]
pub enum LifecycleError {
    /// The state does not allow it; nobody's fault, and waiting may help.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other writers won every race.
    #[error("the key set changed {0} times while this step tried to commit; try again")]
    Contention(u32),
    /// No new key could be made.
    #[error("no new key could be generated")]
    Keygen(#[from] KeygenError),
    /// A private half could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no new key-encryption key.
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    /// A stored key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The task that did it died.
    #[error("the task that generates keys ended unexpectedly")]
    TaskDied,
}
