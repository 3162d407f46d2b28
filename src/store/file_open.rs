//! How the file backend begins: the names in its directory, the checks of modes, the lock, and
//! what a killed predecessor left to be finished.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::keys::KeySet;

use super::SideDocument;
use super::audit_log::AuditLog;
use super::durable;
use super::envelope::{self, corrupt, tampered};
use super::error::{AtPath, StoreError, StoreWarning};
use super::file::FileStoreConfig;
use super::file_core::Core;
use super::file_layer::{DIR_MODE, FILE_MODE, FileLayer, Lock};

/// Longest part of the lock file's text that is shown.
const MAX_HOLDER_CHARS: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) dir: PathBuf,
    pub(super) key_set: PathBuf,
    pub(super) key_set_tmp: PathBuf,
    pub(super) previous: PathBuf,
    pub(super) previous_tmp: PathBuf,
    pub(super) audit: PathBuf,
    pub(super) lock: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            key_set: dir.join("keyset.json"),
            key_set_tmp: dir.join("keyset.json.tmp"),
            previous: dir.join("keyset.prev.json"),
            previous_tmp: dir.join("keyset.prev.json.tmp"),
            audit: dir.join("audit.log"),
            lock: dir.join("lock"),
        }
    }

    pub(super) fn side(&self, name: SideDocument) -> PathBuf {
        self.dir.join(format!("{}.json", name.as_str()))
    }

    pub(super) fn side_tmp(&self, name: SideDocument) -> PathBuf {
        self.dir.join(format!("{}.json.tmp", name.as_str()))
    }

    /// What the absence of the key set means: that there never was one, unless something beside it
    /// shows that there was.
    pub(super) fn missing(
        &self,
        layer: &dyn FileLayer,
        known: bool,
    ) -> Result<StoreError, StoreError> {
        for trace in [&self.previous, &self.audit] {
            if layer.stat(trace).at("look for", trace)?.is_some() {
                let rule = format!(
                    "it is missing, although {} shows it once was there",
                    trace.display()
                );
                return Ok(corrupt(&self.key_set, rule));
            }
        }
        Ok(if known {
            corrupt(&self.key_set, "it is missing, although it was there before")
        } else {
            StoreError::NotInitialised {
                path: self.dir.clone(),
            }
        })
    }

    /// Neither a key set nor what is left of a lost one may be in the way of a new one.
    fn refuse_to_overwrite(&self, layer: &dyn FileLayer) -> Result<(), StoreError> {
        let path = &self.key_set;
        if layer.stat(path).at("look for", path)?.is_some() {
            return Err(StoreError::AlreadyInitialised { path: path.clone() });
        }
        match self.missing(layer, false)? {
            StoreError::NotInitialised { .. } => Ok(()),
            lost => Err(lost),
        }
    }

    pub(super) fn check_modes(&self, layer: &dyn FileLayer) -> Result<(), StoreError> {
        let sides = SideDocument::ALL.map(|name| self.side(name));
        let files = [&self.key_set, &self.previous, &self.audit, &self.lock];
        let too_wide = |path: &Path, most: u32, checked: u32| {
            let Some(stat) = layer.stat(path).at("look at", path)? else {
                return Ok(());
            };
            if stat.mode & checked & !most == 0 {
                return Ok(());
            }
            Err(StoreError::Permissions {
                path: path.to_owned(),
                mode: stat.mode,
                most,
            })
        };
        // A directory may inherit set-group-id from the one above; that lets nobody in.
        too_wide(&self.dir, DIR_MODE, 0o777)?;
        for file in files.into_iter().chain(&sides) {
            too_wide(file, FILE_MODE, 0o7777)?;
        }
        Ok(())
    }
}

/// Opens an existing key set, and finishes what a killed predecessor began.
pub(super) fn open(config: FileStoreConfig, layer: Arc<dyn FileLayer>) -> Result<Core, StoreError> {
    let paths = Paths::new(&config.dir);
    // Asked before the lock is taken: an empty directory is left empty.
    let found = layer.stat(&paths.key_set);
    if found.at("look for", &paths.key_set)?.is_none() {
        return Err(paths.missing(&*layer, false)?);
    }
    paths.check_modes(&*layer)?;
    let mut core = begin(config, layer, paths)?;

    core.remove_leftovers()?;
    for name in SideDocument::ALL {
        durable::remove_if_present(&*core.layer, &core.paths.side_tmp(name))?;
    }
    // A predecessor may have been killed between rename and flush: what is visible here is made
    // durable before anybody is told of it.
    let dir = core.paths.dir.clone();
    core.layer.sync_dir(&dir).at("flush the directory", &dir)?;
    let current = core.read()?;
    core.refuse_rollback(&current.set)?;
    if let Err(error) = core.renew_previous(&current) {
        core.warnings.push(StoreWarning::Previous(error));
    }
    core.check_audit(&current.set);
    core.log(&current.set.last_event);
    core.reported = Some(current);
    Ok(core)
}

/// Stores the first key set of an issuer, where there is none.
pub(super) fn create(
    config: FileStoreConfig,
    layer: Arc<dyn FileLayer>,
    first: &KeySet,
) -> Result<Core, StoreError> {
    let paths = Paths::new(&config.dir);
    if first.issuer != config.issuer {
        return Err(StoreError::InvalidNext {
            rule: format!("it belongs to {}, not to {}", first.issuer, config.issuer),
        });
    }
    // Asked without the lock first, so that the answer is the same while a gateway holds it.
    paths.refuse_to_overwrite(&*layer)?;
    durable::create_dir_all(&*layer, &paths.dir).at("create", &paths.dir)?;
    paths.check_modes(&*layer)?;
    let mut core = begin(config, layer, paths)?;

    let paths = &core.paths;
    paths.refuse_to_overwrite(&*core.layer)?;
    let first = envelope::encode(&paths.key_set, first, &core.keyring)?;
    durable::replace(
        &*core.layer,
        &paths.key_set,
        &paths.key_set_tmp,
        &first.bytes,
    )?;
    if let Err(error) = core.renew_previous(&first) {
        core.warnings.push(StoreWarning::Previous(error));
    }
    core.log(&first.set.last_event);
    core.reported = Some(first);
    Ok(core)
}

pub(super) fn begin(
    config: FileStoreConfig,
    layer: Arc<dyn FileLayer>,
    paths: Paths,
) -> Result<Core, StoreError> {
    let holder = format!(
        "process {} since {}",
        std::process::id(),
        config.clock.now()
    );
    let lock = match layer.lock(&paths.lock, &holder).at("lock", &paths.lock)? {
        Lock::Held(lock) => lock,
        Lock::Taken(holder) => {
            return Err(StoreError::Locked {
                path: paths.lock,
                holder: printable(&holder),
            });
        }
    };
    let (audit, complaint) = AuditLog::open(
        Arc::clone(&layer),
        paths.audit.clone(),
        Arc::clone(&config.keyring),
        config.issuer.clone(),
    )?;
    Ok(Core {
        layer,
        paths,
        issuer: config.issuer,
        keyring: config.keyring,
        clock: config.clock,
        reported: None,
        in_doubt: false,
        audit,
        warnings: complaint.into_iter().collect(),
        sides_under: None,
        _lock: lock,
    })
}

impl Core {
    /// An authentic but older key set gives itself away when something beside it is newer: both
    /// are written only after the key set is durable. Whoever puts back the whole directory, or
    /// all three files, is not found out.
    pub(super) fn refuse_rollback(&self, current: &KeySet) -> Result<(), StoreError> {
        let paths = &self.paths;
        // An unreadable previous generation proves nothing; it is replaced later.
        let bytes = self.read_file(&paths.previous).ok().flatten();
        let previous = bytes.and_then(|bytes| {
            envelope::decode(&paths.previous, bytes, &self.issuer, &self.keyring).ok()
        });
        let proofs = [
            (&paths.previous, previous.map(|found| found.set.revision)),
            (&paths.audit, self.audit.last_revision()),
        ];
        for (path, proven) in proofs {
            if let Some(proven) = proven.filter(|proven| *proven > current.revision) {
                let rule = format!(
                    "its revision is {}, but {} proves that {proven} was stored: it is an older one",
                    current.revision,
                    path.display()
                );
                return Err(tampered(&paths.key_set, rule));
            }
        }
        Ok(())
    }

    fn check_audit(&mut self, current: &KeySet) {
        let rule = match self.audit.last_revision() {
            Some(last) if last + 1 < current.revision => format!(
                "lacks the revisions {} to {}",
                last + 1,
                current.revision - 1
            ),
            None if !self.audit.exists() && current.revision > 1 => format!(
                "was missing, although the key set is at revision {}; it begins anew",
                current.revision
            ),
            _ => return,
        };
        self.warnings.push(StoreWarning::Audit {
            path: self.paths.audit.clone(),
            rule,
        });
    }
}

/// Text of another process, fit to be shown.
fn printable(holder: &str) -> String {
    let shown: String = holder
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(MAX_HOLDER_CHARS)
        .collect();
    if shown.trim().is_empty() {
        "another process".to_owned()
    } else {
        shown
    }
}
