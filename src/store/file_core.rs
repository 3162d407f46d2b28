//! The file backend, one call after the other. See [`super::file`] for its promises.
//!
//! How a commit goes, and what a failure at each step means:
//! 1. read the current file: what compare-and-swap compares with is always the disk. A file that
//!    is older than, or other than, what this process last reported is refused, not adopted;
//! 2. write and flush the next document beside it;
//! 3. previous generation: a copy of the current file. But when the commit ends a private half,
//!    the copy that holds it is removed instead;
//! 4. rename: the commit point. A failure up to here has changed nothing;
//! 5. flush the directory. When that fails, the outcome is in doubt: the visible file is written
//!    once more, in full, because a flush that failed may later succeed without having written
//!    anything. If that works the outcome is known; else the caller is told that it is not, and
//!    every later call settles the doubt first, so that nothing is reported before it is durable;
//! 6. previous generation, when step 3 removed it: the document just committed, once more;
//! 7. the audit line;
//! 8. when the first key-encryption key is another one than before: the documents beside it, anew
//!    under that key. A failure in 6, 7 or 8 is a warning, made good later.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::keys::{AuditRecord, KeySet};

use super::audit;
use super::audit_log::AuditLog;
use super::durable;
use super::envelope::{self, Generation, MAX_DOCUMENT_BYTES, corrupt, tampered};
use super::error::{AtPath, StoreError, StoreWarning};
use super::file_layer::FileLayer;
use super::file_open::Paths;
use super::sealing::Keyring;
use super::{CommitError, Committed, Loaded, SideDocument, check_step, keks_of};

pub(super) struct Core {
    pub(super) layer: Arc<dyn FileLayer>,
    pub(super) paths: Paths,
    pub(super) issuer: String,
    pub(super) keyring: Arc<Keyring>,
    pub(super) clock: Arc<dyn Clock>,
    /// The newest generation that a caller was told of: nothing older is ever accepted.
    pub(super) reported: Option<Generation>,
    /// The visible key set may not be durable.
    pub(super) in_doubt: bool,
    pub(super) audit: AuditLog,
    pub(super) warnings: Vec<StoreWarning>,
    /// The key-encryption key that authenticates every document beside the key set, once known.
    pub(super) sides_under: Option<String>,
    /// Held as long as this value lives.
    pub(super) _lock: Box<dyn fmt::Debug + Send + Sync>,
}

impl Core {
    pub(super) fn load(&mut self) -> Result<Loaded, StoreError> {
        let Generation { set, kek, .. } = self.current()?;
        Ok(Loaded {
            store_now: self.clock.now().max(set.high_water_time),
            keks: keks_of(&set, Some(kek)),
            set,
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    pub(super) fn commit(
        &mut self,
        expected_revision: u64,
        next: &KeySet,
    ) -> Result<Committed, CommitError> {
        check_step(expected_revision, &self.issuer, next)?;
        let current = self.current()?;
        if current.set.revision != expected_revision {
            return Err(CommitError::Conflict {
                current: current.set.revision,
            });
        }
        let next = envelope::encode(&self.paths.key_set, next, &self.keyring)?;
        let ends_private = !private_halves(&current.set).is_subset(&private_halves(&next.set));

        self.remove_leftovers()?;
        durable::stage(&*self.layer, &self.paths.key_set_tmp, &next.bytes)?;
        let made_way = if ends_private {
            durable::remove_if_present(&*self.layer, &self.paths.previous)
        } else {
            self.write_previous(&current)
        };
        if let Err(error) = made_way.and_then(|()| self.publish(&next)) {
            if !self.in_doubt {
                // Not committed. What was cleared away for it is put back if possible; if not,
                // the next start does it.
                drop(self.remove_leftovers());
                drop(self.renew_previous(&current));
            }
            return Err(error.into());
        }

        if ends_private && let Err(error) = self.write_previous(&next) {
            self.warnings.push(StoreWarning::Previous(error));
        }
        self.log(&next.set.last_event);
        self.move_sides();
        Ok(Committed {
            warnings: std::mem::take(&mut self.warnings),
        })
    }

    pub(super) fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        let path = &self.paths.side(name);
        let Some(bytes) = self.read_file(path)? else {
            return Ok(None);
        };
        let side = envelope::decode_side(path, &bytes, name, &self.issuer, &self.keyring)?;
        Ok(Some(side.data))
    }

    /// Step 8.
    pub(super) fn move_sides(&mut self) {
        let first = self.keyring.first_id();
        if self.sides_under.as_ref() == Some(&first) {
            return;
        }
        let mut moved = true;
        for name in SideDocument::ALL {
            if let Err(error) = self.move_side(name, &first) {
                self.warnings.push(StoreWarning::Side(error));
                moved = false;
            }
        }
        self.sides_under = moved.then_some(first);
    }

    fn move_side(&self, name: SideDocument, first: &str) -> Result<(), StoreError> {
        let path = &self.paths.side(name);
        let Some(bytes) = self.read_file(path)? else {
            return Ok(());
        };
        let side = envelope::decode_side(path, &bytes, name, &self.issuer, &self.keyring)?;
        if side.kek == first {
            return Ok(());
        }
        self.save_side(name, &side.data)
    }

    pub(super) fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        let bytes = envelope::encode_side(name, &self.issuer, data, &self.keyring);
        let (path, tmp) = (self.paths.side(name), self.paths.side_tmp(name));
        durable::replace(&*self.layer, &path, &tmp, &bytes)
    }

    pub(super) fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let path = &self.paths.audit;
        if self.layer.stat(path).at("look for", path)?.is_none() {
            return Ok(Vec::new());
        }
        let bytes = self.layer.read(path, u64::MAX).at("read", path)?;
        audit::tail(bytes.as_slice(), count).map_err(|error| corrupt(path, error.to_string()))
    }

    /// The generation on disk, known to be durable.
    pub(super) fn current(&mut self) -> Result<Generation, StoreError> {
        let current = self.read()?;
        if self.in_doubt {
            let paths = &self.paths;
            durable::replace(
                &*self.layer,
                &paths.key_set,
                &paths.key_set_tmp,
                &current.bytes,
            )?;
            self.in_doubt = false;
            if let Err(error) = self.renew_previous(&current) {
                self.warnings.push(StoreWarning::Previous(error));
            }
        }
        self.reported = Some(current.clone());
        self.log(&current.set.last_event);
        Ok(current)
    }

    /// The generation on disk, authentic and not older than what was reported.
    pub(super) fn read(&self) -> Result<Generation, StoreError> {
        let path = &self.paths.key_set;
        let Some(bytes) = self.read_file(path)? else {
            let known = self.reported.is_some();
            return Err(self.paths.missing(&*self.layer, known)?);
        };
        let found = envelope::decode(path, bytes, &self.issuer, &self.keyring)?;
        let Some(reported) = &self.reported else {
            return Ok(found);
        };
        let (was, is) = (reported.set.revision, found.set.revision);
        if is < was {
            let rule = format!("its revision is {is}, but {was} was stored: it is an older one");
            return Err(tampered(path, rule));
        }
        if is == was && found.bytes != reported.bytes {
            let rule = format!("it is another document of revision {is} than the one stored");
            return Err(tampered(path, rule));
        }
        Ok(found)
    }

    /// Steps 4 and 5.
    fn publish(&mut self, next: &Generation) -> Result<(), StoreError> {
        let (path, dir) = (self.paths.key_set.clone(), self.paths.dir.clone());
        let unknown = |path: &Path, source| StoreError::OutcomeUnknown {
            path: path.to_owned(),
            revision: next.set.revision,
            source,
        };
        self.in_doubt = true;
        if let Err(source) = self.layer.rename(&self.paths.key_set_tmp, &path) {
            // A call that failed may have taken effect all the same.
            match self.read() {
                Ok(found) if found.bytes == next.bytes => {}
                Ok(_) => {
                    self.in_doubt = false;
                    return Err(source).at("replace", &path);
                }
                Err(_) => return Err(unknown(&path, source)),
            }
        }
        if let Err(source) = self.layer.sync_dir(&dir) {
            return match self.current() {
                Ok(found) if found.bytes == next.bytes => Ok(()),
                Ok(_) => Err(source).at("flush the directory", &dir),
                Err(_) => Err(unknown(&dir, source)),
            };
        }
        self.in_doubt = false;
        self.reported = Some(next.clone());
        Ok(())
    }

    pub(super) fn write_previous(&self, generation: &Generation) -> Result<(), StoreError> {
        let paths = &self.paths;
        durable::replace(
            &*self.layer,
            &paths.previous,
            &paths.previous_tmp,
            &generation.bytes,
        )
    }

    /// Makes sure that there is a previous generation, and that it holds no private half which
    /// has ended: otherwise it becomes a copy of `current`.
    pub(super) fn renew_previous(&self, current: &Generation) -> Result<(), StoreError> {
        let path = &self.paths.previous;
        let found = self.read_file(path).and_then(|bytes| {
            let decode = |b| envelope::decode(path, b, &self.issuer, &self.keyring);
            bytes.map(decode).transpose()
        });
        if let Ok(Some(previous)) = found
            && private_halves(&previous.set).is_subset(&private_halves(&current.set))
        {
            return Ok(());
        }
        let written = self.write_previous(current);
        if written.is_err() {
            drop(durable::remove_if_present(&*self.layer, path));
        }
        written
    }

    pub(super) fn log(&mut self, record: &AuditRecord) {
        if let Err(error) = self.audit.record(record) {
            self.warnings.push(StoreWarning::AuditLag(error));
        }
    }

    pub(super) fn remove_leftovers(&self) -> Result<(), StoreError> {
        for tmp in [&self.paths.key_set_tmp, &self.paths.previous_tmp] {
            durable::remove_if_present(&*self.layer, tmp)?;
        }
        Ok(())
    }

    /// The content of a file, `None` when there is none.
    pub(super) fn read_file(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        let bytes = match self.layer.read(path, MAX_DOCUMENT_BYTES + 1) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            result => result.at("read", path)?,
        };
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(corrupt(path, "it is longer than 16 MiB"));
        }
        Ok(Some(bytes))
    }
}

/// The private halves that a key set holds.
fn private_halves(set: &KeySet) -> HashSet<&str> {
    [&set.active.sealed, &set.pending.sealed]
        .into_iter()
        .map(|sealed| sealed.data.as_str())
        .collect()
}
