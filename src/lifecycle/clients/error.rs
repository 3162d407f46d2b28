//! Why a change of a client did not happen, or the clients document cannot be used.

use thiserror::Error;

use crate::clients::document::DocumentError;
use crate::clients::{ClientRefusal, SecretHashError};
use crate::store::StoreError;

/// Why a change did not happen, or the document cannot be used.
#[derive(Debug, Error)]
pub enum ClientsError {
    /// It is not allowed, or makes no sense.
    #[error(transparent)]
    Refused(#[from] ClientRefusal),
    /// The store failed. The clients are as before; after a restart the change may show all the
    /// same, if the store says so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store holds another document than the one in force.
    #[error(
        "the clients document in the store is not the one in force: somebody changed it or put an \
         older one back. The clients in force stay as they are; find out who did it, then restart"
    )]
    Replaced,
    /// The stored document breaks a rule.
    #[error(
        "the clients document in the store cannot be used: {0}; restore it from a backup of the \
         whole directory. Without it clients that were disabled would be let in again"
    )]
    Document(#[from] DocumentError),
    /// No secret could be generated.
    #[error("no client secret can be generated: the random number generator is unavailable")]
    Random,
    /// The task that did it died.
    #[error("the task that changes clients ended unexpectedly")]
    TaskDied,
}

impl From<SecretHashError> for ClientsError {
    fn from(_: SecretHashError) -> Self {
        Self::Random
    }
}
