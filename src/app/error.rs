//! Why the gateway cannot start.

use std::path::PathBuf;

use thiserror::Error;

use crate::clients::{RegistryError, SecretHashError};
use crate::gateway::upstreams::UpstreamError;
use crate::lifecycle::{ClientsError, LifecycleError};
use crate::telemetry::AccessTarget;

/// Why the gateway cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file with a secret or a hash cannot be read.
    #[error("cannot read {path}: {source}; `portcullis init` makes missing secrets")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read a file with a secret.
    #[error("{path} has mode {mode:04o}, so others may read it: chmod 0600 {path}")]
    SecretMode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// A client's hash cannot be used.
    #[error("client `{client}`: {source}")]
    ClientSecret {
        /// The client.
        client: String,
        /// Why.
        source: SecretHashError,
    },
    /// The admin token is too short or its hash has the wrong form.
    #[error("admin token `{name}`: {rule}")]
    AdminToken {
        /// The token's name.
        name: String,
        /// What is wrong.
        rule: &'static str,
    },
    /// The clients do not make a registry.
    #[error(transparent)]
    Clients(#[from] RegistryError),
    /// What was done to clients cannot be known.
    #[error(transparent)]
    ClientStates(#[from] ClientsError),
    /// An upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The key set cannot be used.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The access log cannot be written.
    #[error(
        "cannot write the access log to {target}: {source}; the directory must exist and be writable, or write `access_log: off`"
    )]
    AccessLog {
        /// Where it goes.
        target: AccessTarget,
        /// Why.
        source: std::io::Error,
    },
    /// A file that says how to reach the collector cannot be used.
    #[error("tracing: cannot use {path}: {why}")]
    TraceFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Traces cannot be made.
    #[error("tracing: {0}")]
    Traces(std::io::Error),
    /// Two metrics collide.
    #[error("the metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}
