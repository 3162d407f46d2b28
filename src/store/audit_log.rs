//! The audit log as a file: what is appended to it, and how it recovers from a failed append.
//!
//! Invariants: a line is written only after its revision is durable, so the log may lag behind
//! the key set but never runs ahead of it; each revision is written once; a record that could not
//! be appended is kept and goes first next time; what a failed append may have left is cut off.

use std::path::PathBuf;
use std::sync::Arc;

use crate::keys::AuditRecord;

use super::audit::{self, Entry, GENESIS, LineError};
use super::durable;
use super::error::{AtPath, StoreError, StoreWarning};
use super::file_layer::FileLayer;
use super::sealing::Keyring;

#[derive(Debug)]
pub(super) struct AuditLog {
    layer: Arc<dyn FileLayer>,
    path: PathBuf,
    keyring: Arc<Keyring>,
    issuer: String,
    /// Its name is on stable storage.
    named: bool,
    /// Length of what is known to be on disk.
    len: u64,
    /// Bytes of a failed append may follow after `len`.
    damaged: bool,
    last: Option<Last>,
    backlog: Vec<AuditRecord>,
}

#[derive(Clone, Debug)]
struct Last {
    revision: u64,
    mac: String,
}

impl AuditLog {
    /// Reads the log and finds its good end. A warning says what is wrong with it.
    pub(super) fn open(
        layer: Arc<dyn FileLayer>,
        path: PathBuf,
        keyring: Arc<Keyring>,
        issuer: String,
    ) -> Result<(Self, Option<StoreWarning>), StoreError> {
        let named = layer.stat(&path).at("look for", &path)?.is_some();
        let bytes = if named {
            layer.read(&path, u64::MAX).at("read", &path)?
        } else {
            Vec::new()
        };
        let scan = Scan::of(&bytes, &keyring, &issuer);
        let warning = scan.complaint().map(|rule| StoreWarning::Audit {
            path: path.clone(),
            rule,
        });
        let log = Self {
            layer,
            path,
            keyring,
            issuer,
            named,
            len: scan.keep as u64,
            damaged: scan.keep < bytes.len(),
            last: scan.last,
            backlog: Vec::new(),
        };
        Ok((log, warning))
    }

    /// Whether there was a log when it was opened, or has been one since.
    pub(super) const fn exists(&self) -> bool {
        self.named
    }

    /// The last revision that the log proves.
    pub(super) fn last_revision(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.revision)
    }

    /// Appends the record of a durable revision, after those that failed before; does nothing
    /// when it is there already.
    pub(super) fn record(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        let newest = self.backlog.last().map(|waiting| waiting.revision);
        if newest.max(self.last_revision()) < Some(record.revision) {
            self.backlog.push(record.clone());
        }
        if self.backlog.is_empty() && !self.damaged {
            return Ok(());
        }

        let (mut bytes, mut last) = (Vec::new(), self.last.clone());
        for record in &self.backlog {
            let prev_mac = last.as_ref().map_or(GENESIS, |last| last.mac.as_str());
            let (line, mac) = audit::encode(record, prev_mac, &self.keyring, &self.issuer)
                .map_err(|error| StoreError::InvalidNext {
                    rule: error.to_string(),
                })?;
            bytes.extend_from_slice(&line);
            last = Some(Last {
                revision: record.revision,
                mac,
            });
        }
        let appended = self.append(&bytes);
        // After a failure nobody knows how much of it is there; cut it off before the next try.
        self.damaged = appended.is_err();
        appended?;
        self.len += bytes.len() as u64;
        self.last = last;
        self.backlog.clear();
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let (layer, path) = (&self.layer, &self.path);
        let found = layer.stat(path).at("look at", path)?;
        let len = found.map_or(0, |stat| stat.len);
        // Somebody may have moved the log away to archive it; the chain goes on in a new file.
        self.named &= found.is_some();
        if !self.damaged || found.is_none() {
            self.len = len;
        }
        let mut file = layer.open_append(path).at("open", path)?;
        if self.damaged && len > self.len {
            file.truncate(self.len)
                .at("cut the incomplete end off", path)?;
        }
        file.write_all(bytes).at("append to", path)?;
        file.sync().at("flush", path)?;
        if !self.named {
            let dir = durable::parent(path);
            layer.sync_dir(dir).at("flush the directory", dir)?;
            self.named = true;
        }
        Ok(())
    }
}

/// What a log holds.
#[derive(Default)]
struct Scan {
    /// Where the part ends that is kept.
    keep: usize,
    last: Option<Last>,
    /// Authentic or not: complete lines that are not.
    bad_lines: usize,
    torn: bool,
    dropped_line: bool,
}

impl Scan {
    fn of(bytes: &[u8], keyring: &Keyring, issuer: &str) -> Self {
        let mut scan = Self::default();
        let (mut at, mut good_end, mut bad_at_end) = (0, 0, 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') {
                scan.torn = true;
                break;
            }
            at += line.len();
            match audit::decode(line, keyring, issuer) {
                Ok(Entry { record, mac, .. }) => {
                    scan.last = Some(Last {
                        revision: record.revision,
                        mac,
                    });
                    (good_end, bad_at_end) = (at, 0);
                }
                // Cannot be judged, so it is left alone; the chain restarts after it.
                Err(LineError::NoKey(_)) => (good_end, bad_at_end) = (at, 0),
                Err(_) => {
                    scan.bad_lines += 1;
                    bad_at_end += 1;
                }
            }
        }
        // A crash can spoil the one line that was not flushed yet. The key set holds its record,
        // so it is written again. More than one bad line is no crash: they stay as evidence.
        scan.dropped_line = bad_at_end == 1;
        scan.keep = if bad_at_end == 1 { good_end } else { at };
        scan
    }

    fn complaint(&self) -> Option<String> {
        let kept = self.bad_lines - usize::from(self.dropped_line);
        if kept > 0 {
            Some(format!("holds {kept} lines that are not authentic"))
        } else if self.dropped_line {
            Some("had a last line that was not authentic; it is replaced".to_owned())
        } else if self.torn {
            Some("had an incomplete last line; it is replaced".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complains_of_the_lines_that_stay() {
        let complaint = |bad_lines, dropped_line, torn| {
            let scan = Scan {
                bad_lines,
                dropped_line,
                torn,
                ..Scan::default()
            };
            scan.complaint().unwrap_or_default()
        };
        assert_eq!(complaint(0, false, false), "");
        assert!(complaint(0, false, true).contains("incomplete last line"));
        assert!(complaint(1, true, false).contains("a last line"));
        assert!(complaint(3, true, false).contains("holds 2 lines"));
        assert!(complaint(3, false, true).contains("holds 3 lines"));
    }
}
