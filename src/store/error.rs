//! Why a store refused: a closed list, each with what to do next.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the store could not do what it was asked. Nothing was changed, unless it is
/// [`StoreError::OutcomeUnknown`].
#[derive(Debug, Error)]
pub enum StoreError {
    /// There is no key set.
    #[error("there is no key set in {}; make one with `portcullis init`", .path.display())]
    NotInitialised {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is a key set already.
    #[error(
        "there is a key set already: {}; it is never overwritten, move it away to start anew",
        .path.display()
    )]
    AlreadyInitialised {
        /// The key set.
        path: PathBuf,
    },
    /// Another process works on the store.
    #[error(
        "the store {} is locked by {holder}; stop that process, or use its admin listener",
        .path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the holder says of itself.
        holder: String,
    },
    /// Others could read or write it.
    #[error(
        "{} has mode {mode:04o}, wider than {most:04o}: chmod {most:04o} {}",
        .path.display(), .path.display()
    )]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The widest that is accepted.
        most: u32,
    },
    /// It is not a document that this version can read.
    #[error(
        "{} cannot be read: {rule}; restore it from a backup of the whole directory, or see what \
         `portcullis store recover` can do",
        .path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The violated rule.
        rule: String,
    },
    /// Somebody else than this product wrote it, or put an older one in its place.
    #[error(
        "{} is not what was stored: {rule}; find out who changed it, then restore the directory \
         from a trusted backup, or see what `portcullis store recover` can do",
        .path.display()
    )]
    Tampered {
        /// The file.
        path: PathBuf,
        /// The violated rule.
        rule: String,
    },
    /// A later version of this product wrote it.
    #[error(
        "{} has the schema {found}, this version reads up to {reads}: it was written by a newer \
         portcullis; run that version, or restore the whole directory from a backup made before \
         the upgrade and then rotate with purge",
        .path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The latest one that is understood.
        reads: u32,
    },
    /// It belongs to another issuer.
    #[error(
        "{} is the key set of the issuer {stored}, but issuer.url is {configured}; correct the \
         configuration, or name another directory",
        .path.display()
    )]
    WrongIssuer {
        /// The file.
        path: PathBuf,
        /// Whose key set it is.
        stored: String,
        /// Whose was expected.
        configured: String,
    },
    /// The key-encryption key is not at hand.
    #[error(
        "{} was written under the key-encryption key {kek}, which is not among the configured \
         ones; add its file to keys.encryption_key_files",
        .path.display()
    )]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Identifier of the missing key-encryption key.
        kek: String,
    },
    /// A key set that no store may hold; a fault of the caller.
    #[error("the key set was not committed: {rule}; this is a defect, please report it")]
    InvalidNext {
        /// The violated rule.
        rule: String,
    },
    /// Neither success nor failure can be promised.
    #[error(
        "whether revision {revision} is committed is unknown: flushing {} failed ({source}), and \
         so did asking the disk afterwards; load again to learn the outcome",
        .path.display()
    )]
    OutcomeUnknown {
        /// The file or directory that could not be flushed.
        path: PathBuf,
        /// The revision in doubt.
        revision: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {step} {}: {source}; {}", .path.display(), advice(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether a stored document was refused for what it is, rather than that it could not be
    /// read or written.
    #[must_use]
    pub const fn is_refused_document(&self) -> bool {
        match self {
            Self::Corrupt { .. }
            | Self::Tampered { .. }
            | Self::NewerSchema { .. }
            | Self::WrongIssuer { .. }
            | Self::NoKey { .. } => true,
            Self::NotInitialised { .. }
            | Self::AlreadyInitialised { .. }
            | Self::Locked { .. }
            | Self::Permissions { .. }
            | Self::InvalidNext { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Io { .. } => false,
        }
    }
}

/// Something that went wrong beside a success: worth an alarm, not a failure.
#[derive(Debug, Error)]
pub enum StoreWarning {
    /// The file that holds the previous generation is missing or stale. It never holds a private
    /// half that has ended.
    #[error("the previous generation is not kept: {0}")]
    Previous(#[source] StoreError),
    /// The audit log lags behind; its lines are kept in memory and written with the next one.
    #[error("the audit log is incomplete for now: {0}")]
    AuditLag(#[source] StoreError),
    /// A document beside the key set is still authenticated by an older key-encryption key.
    #[error(
        "a document beside the key set could not be moved to the new key-encryption key, so keep \
         the old one: {0}"
    )]
    Side(#[source] StoreError),
    /// The audit log was found in a bad state.
    #[error("the audit log {} {rule}; keep a copy of it if nobody here knows why", .path.display())]
    Audit {
        /// The log.
        path: PathBuf,
        /// What is wrong with it, and what was done.
        rule: String,
    },
}

/// Names the step and the path of a failed call.
pub(super) trait AtPath<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, step: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io {
            path: path.to_owned(),
            step,
            source,
        })
    }
}

/// What to do about the commonest refusals.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space on that file system, then try again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "mount that file system writable, then try again",
        io::ErrorKind::PermissionDenied => {
            "give the user that runs the gateway read and write access there"
        }
        _ => "check that file system, then try again",
    }
}
