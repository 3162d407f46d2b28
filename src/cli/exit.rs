//! How a command fails: one message, one exit code.

use std::process::ExitCode;

use thiserror::Error;

use crate::app::StartError;
use crate::config::ConfigErrors;
use crate::lifecycle::LifecycleError;
use crate::listeners::{BindError, ListenError, TlsError};
use crate::store::{KeyringError, RecoverError, StoreError};

/// Why a command failed.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A step of the life cycle, on a store that this command holds.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nobody listens where a gateway should.
    #[error("{0}")]
    Unreachable(String),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
    /// A value on the command line or on standard input that breaks a rule.
    #[error("{0}")]
    Usage(String),
    /// Something is initialised only in part, and going on would lose what is there.
    #[error("{0}")]
    NotInitialised(String),
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Bind(error) => Self::Bind(error),
            ListenError::Tls(error) => Self::Tls(error),
        }
    }
}

impl Failure {
    pub(super) const fn code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Tls(_) => 2,
            Self::Start(StartError::Lifecycle(LifecycleError::Store(error)))
            | Self::Lifecycle(LifecycleError::Store(error))
            | Self::Recover(RecoverError::Store(error))
            | Self::Store(error) => store_code(error),
            Self::Start(
                StartError::SecretFile { .. }
                | StartError::SecretMode { .. }
                | StartError::ClientStates(_),
            )
            | Self::Keyring(_)
            | Self::Recover(RecoverError::NothingLeft { .. })
            | Self::NotInitialised(_) => 3,
            Self::Start(
                StartError::ClientSecret { .. }
                | StartError::AdminToken { .. }
                | StartError::Clients(_)
                | StartError::Upstream(_)
                | StartError::AccessLog { .. }
                | StartError::TraceFile { .. }
                | StartError::Traces(_),
            ) => 2,
            Self::Bind(_) => 4,
            Self::Start(StartError::Lifecycle(_) | StartError::Metrics(_))
            | Self::Lifecycle(_)
            | Self::Recover(RecoverError::Intact { .. })
            | Self::Unreachable(_)
            | Self::Other(_) => 1,
        }
    }

    pub(super) fn report(&self) -> ExitCode {
        super::out::complain(&self.to_string());
        ExitCode::from(self.code())
    }
}

const fn store_code(error: &StoreError) -> u8 {
    match error {
        StoreError::Locked { .. } => 5,
        _ => 3,
    }
}
