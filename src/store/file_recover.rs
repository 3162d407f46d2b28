//! What can be done about a lost or damaged key set file: the previous generation made current, on
//! an operator's word alone.
//!
//! Invariants: nothing here changes a file before [`Damaged::replace`]; a key set that is intact is
//! never replaced; the new generation has a higher revision than any that is proven to have been
//! stored. The damaged file is not kept: it may hold sealed private halves of the keys that the
//! recovery ends, and those must be gone from every file. Its length and SHA-256 are told instead.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use thiserror::Error;
use tokio::task::{JoinError, spawn_blocking};

use crate::keys::{AuditRecord, Event, KeySet, Kid};

use super::audit;
use super::durable;
use super::envelope;
use super::error::{AtPath, StoreError, StoreWarning};
use super::file::FileStoreConfig;
use super::file_core::Core;
use super::file_layer::{FileLayer, RealLayer};
use super::file_open::{self, Paths};
use super::keks_of;
use super::sealing::Keyring;

/// A store whose key set cannot be used, locked, with what is left of it.
pub struct Damaged {
    core: Core,
    /// Why the key set cannot be used.
    pub broken: StoreError,
    /// Length in bytes and SHA-256 in hexadecimal of the damaged file, if there is one.
    pub damaged_file: Option<(u64, String)>,
    /// The previous generation.
    pub previous: KeySet,
    /// The key-encryption keys that it is sealed and authenticated under.
    pub keks: Vec<String>,
    /// The highest revision that is proven to have been stored.
    pub proven_revision: u64,
    /// What the audit log says of later revisions than the previous generation's.
    pub later: Later,
}

/// What the audit log proves about the time after the previous generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Later {
    /// The keys that were purged, retired or stopped signing later.
    Ended(Vec<Kid>),
    /// It is not intact, so nobody knows whether a key was purged later; why.
    Unknown(String),
}

/// Why there is nothing to recover, or nothing to recover from.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The key set can be used.
    #[error(
        "the key set is intact at revision {revision}; there is nothing to recover, start the \
         gateway with `portcullis serve`"
    )]
    Intact {
        /// Its revision.
        revision: u64,
    },
    /// The previous generation cannot be used either.
    #[error(
        "the key set cannot be used ({broken}), and neither can the previous generation \
         ({previous}); restore a backup of the whole directory and then rotate with purge, or move \
         the directory away and start anew with `portcullis init`: clients then need new tokens"
    )]
    NothingLeft {
        /// Why the key set cannot be used.
        broken: Box<StoreError>,
        /// Why the previous generation cannot be used.
        previous: String,
    },
    /// The store cannot be worked on; recovery is not the remedy.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Damaged")
            .field("broken", &self.broken)
            .field("previous", &self.previous.revision)
            .finish_non_exhaustive()
    }
}

impl Damaged {
    /// Looks at a store that does not open. Takes its lock, changes nothing else.
    ///
    /// # Errors
    /// [`RecoverError`]
    pub async fn examine(config: FileStoreConfig) -> Result<Self, RecoverError> {
        Self::examine_on(config, Arc::new(RealLayer)).await
    }

    /// As [`Damaged::examine`], on a given file layer.
    ///
    /// # Errors
    /// As [`Damaged::examine`].
    pub async fn examine_on(
        config: FileStoreConfig,
        layer: Arc<dyn FileLayer>,
    ) -> Result<Self, RecoverError> {
        let dir = config.dir.clone();
        spawn_blocking(move || examine(config, layer))
            .await
            .unwrap_or_else(|ended| Err(died(&dir, ended).into()))
    }

    /// Makes `next` the current key set and the previous generation too, so that no file holds
    /// anything of the damaged one. Its revision must lie above [`Damaged::proven_revision`].
    ///
    /// # Errors
    /// [`StoreError`]; then the store is as damaged as before, or recovered. To try again is safe.
    pub async fn replace(self, next: &KeySet) -> Result<Vec<StoreWarning>, StoreError> {
        let (next, dir) = (next.clone(), self.core.paths.dir.clone());
        spawn_blocking(move || self.put(&next))
            .await
            .unwrap_or_else(|ended| Err(died(&dir, ended)))
    }

    fn put(self, next: &KeySet) -> Result<Vec<StoreWarning>, StoreError> {
        let mut core = self.core;
        let invalid = |rule: &str| StoreError::InvalidNext {
            rule: rule.to_owned(),
        };
        if next.revision <= self.proven_revision {
            return Err(invalid("its revision was stored before"));
        }
        if next.issuer != core.issuer {
            return Err(invalid("it belongs to another issuer"));
        }
        let next = envelope::encode(&core.paths.key_set, next, &core.keyring)?;
        core.remove_leftovers()?;
        let (path, tmp) = (&core.paths.key_set, &core.paths.key_set_tmp);
        durable::replace(&*core.layer, path, tmp, &next.bytes)?;
        // Whatever the previous one holds has ended, or is in this one as well.
        core.write_previous(&next)?;
        core.log(&next.set.last_event);
        core.move_sides();
        Ok(core.warnings)
    }
}

fn examine(config: FileStoreConfig, layer: Arc<dyn FileLayer>) -> Result<Damaged, RecoverError> {
    let paths = Paths::new(&config.dir);
    let found = layer.stat(&paths.key_set);
    if found.at("look for", &paths.key_set)?.is_none()
        && let initial @ StoreError::NotInitialised { .. } = paths.missing(&*layer, false)?
    {
        return Err(initial.into());
    }
    paths.check_modes(&*layer)?;
    let core = file_open::begin(config, layer, paths)?;
    let read = core.read();
    let broken = match read.and_then(|g| core.refuse_rollback(&g.set).map(|()| g)) {
        Ok(intact) => {
            return Err(RecoverError::Intact {
                revision: intact.set.revision,
            });
        }
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Tampered { .. })) => error,
        Err(other) => return Err(other.into()),
    };

    let path = &core.paths.previous;
    let previous = core.read_file(path).and_then(|bytes| match bytes {
        Some(bytes) => envelope::decode(path, bytes, &core.issuer, &core.keyring),
        None => Err(envelope::corrupt(path, "it is missing")),
    });
    let previous = match previous {
        Ok(previous) => previous,
        // A key that is not at hand, or a newer version's file, is no damage.
        Err(error @ (StoreError::NoKey { .. } | StoreError::NewerSchema { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            return Err(RecoverError::NothingLeft {
                broken: Box::new(broken),
                previous: error.to_string(),
            });
        }
    };
    let log = core.layer.read(&core.paths.audit, u64::MAX);
    let later = match log {
        Ok(log) => later(&log, &core.keyring, &core.issuer, previous.set.revision),
        Err(error) => Later::Unknown(format!("the audit log cannot be read: {error}")),
    };
    let logged = core.audit.last_revision().unwrap_or_default();
    let damaged = core.layer.read(&core.paths.key_set, u64::MAX).ok();
    Ok(Damaged {
        broken,
        damaged_file: damaged.map(|bytes| (bytes.len() as u64, sha256(&bytes))),
        keks: keks_of(&previous.set, Some(previous.kek)),
        proven_revision: logged.max(previous.set.revision),
        previous: previous.set,
        later,
        core,
    })
}

/// Reads the log's records after `revision`; only a log that is intact, and goes on from there
/// without a gap, proves anything.
fn later(log: &[u8], keyring: &Keyring, issuer: &str, revision: u64) -> Later {
    let verdict = match audit::verify(log, keyring, issuer) {
        Ok(verdict) => verdict,
        Err(error) => return Later::Unknown(error.to_string()),
    };
    if verdict.torn {
        return Later::Unknown("the last line of the audit log is incomplete".to_owned());
    }
    if verdict.first_revision.is_none_or(|first| first > revision)
        || verdict.last_revision < Some(revision)
    {
        return Later::Unknown(format!(
            "the audit log does not cover revision {revision}, the previous generation's"
        ));
    }
    if let Some((from, to)) = verdict.gaps.iter().find(|(_, to)| *to > revision) {
        return Later::Unknown(format!("the audit log lacks the revisions {from} to {to}"));
    }
    let records = match audit::tail(log, usize::MAX) {
        Ok(records) => records,
        Err(error) => return Later::Unknown(error.to_string()),
    };
    Later::Ended(ended(&records, revision))
}

/// The keys whose private half, or whole life, ended after `revision`.
fn ended(records: &[AuditRecord], revision: u64) -> Vec<Kid> {
    let (mut ended, mut pending) = (Vec::new(), None);
    for record in records {
        if record.revision > revision {
            ended.extend(record.purged.iter().chain(&record.retired).cloned());
            ended.extend(record.deprecated.clone());
            // Its record names the newcomer alone.
            if record.event == Event::ReplacePending {
                ended.extend(pending.take());
            }
        }
        pending = record.published.clone().or(pending);
    }
    ended.sort_unstable();
    ended.dedup();
    ended
}

fn died(dir: &Path, ended: JoinError) -> StoreError {
    StoreError::Io {
        path: dir.to_owned(),
        step: "finish working in",
        source: io::Error::other(ended),
    }
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest(&SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
