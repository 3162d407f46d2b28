//! Pages of the audit log, newest first, beside the verdict on all of it.
//!
//! What was checked once is not checked again for a while: a page costs the check of what was appended
//! since, and the whole log is gone through anew at most once a minute. Nothing here takes the lock of
//! the store, so that reading a long log delays no commit; lines are only ever appended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::keys::AuditRecord;

use super::audit::{self, Chain};
use super::error::{AtPath, StoreError};
use super::file_layer::FileLayer;
use super::sealing::Keyring;

/// The whole log is checked anew when it was last checked so long ago.
const CHECK_AGAIN: Duration = Duration::from_secs(60);

/// Bytes that are read at a time; no line is as long.
const CHUNK: u64 = 1024 * 1024;

/// A place in the log is remembered every so many lines.
const BLOCK: u64 = 64;

/// A page of the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// Why the log is not what was written, if so.
    pub problem: Option<AuditProblem>,
    /// Newest first. Those after a bad line are not proven.
    pub records: Vec<AuditRecord>,
    /// The page goes on before this revision; `None` when it was the last one.
    pub next: Option<u64>,
}

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProblem {
    /// The first bad line, counted from 1; `None` when there is no log.
    pub line: Option<u64>,
    /// Which rule it breaks.
    pub rule: String,
}

impl AuditPage {
    /// At most `limit` of `records`, which are oldest first, from before the revision `before`.
    pub(super) fn of(records: Vec<AuditRecord>, before: Option<u64>, limit: usize) -> Self {
        let mut page = Self::default();
        for record in records.into_iter().rev() {
            if before.is_none_or(|before| record.revision < before) {
                page.push(record, limit);
            }
        }
        page
    }

    fn is_full(&self) -> bool {
        self.next.is_some()
    }

    fn push(&mut self, record: AuditRecord, limit: usize) {
        if self.records.len() < limit {
            self.records.push(record);
        } else if self.next.is_none() {
            self.next = self.records.last().map(|last| last.revision);
        }
    }
}

/// Reads the log of one store.
#[derive(Debug)]
pub(super) struct AuditReader {
    layer: Arc<dyn FileLayer>,
    path: PathBuf,
    keyring: Arc<Keyring>,
    issuer: String,
    checked: Option<Checked>,
}

/// How far the log has been checked.
#[derive(Debug)]
struct Checked {
    since: Instant,
    /// Bytes gone through.
    len: u64,
    chain: Chain,
    problem: Option<AuditProblem>,
    /// Where every block of lines begins, and with which revision.
    blocks: Vec<(u64, u64)>,
    lines_of_block: u64,
}

impl AuditReader {
    pub(super) const fn new(
        layer: Arc<dyn FileLayer>,
        path: PathBuf,
        keyring: Arc<Keyring>,
        issuer: String,
    ) -> Self {
        Self {
            layer,
            path,
            keyring,
            issuer,
            checked: None,
        }
    }

    pub(super) fn page(
        &mut self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let path = &self.path;
        let Some(stat) = self.layer.stat(path).at("look for", path)? else {
            self.checked = None;
            return Ok(AuditPage {
                problem: Some(AuditProblem {
                    line: None,
                    rule: format!("there is no audit log {}", path.display()),
                }),
                ..AuditPage::default()
            });
        };
        let still_good =
            |checked: &Checked| checked.since.elapsed() < CHECK_AGAIN && checked.len <= stat.len;
        let mut checked = self
            .checked
            .take()
            .filter(still_good)
            .unwrap_or_else(Checked::nothing);
        checked.go_on(&*self.layer, path, &self.keyring, &self.issuer)?;
        let page = checked.page(&*self.layer, path, before, limit);
        self.checked = Some(checked);
        page
    }
}

impl Checked {
    fn nothing() -> Self {
        Self {
            since: Instant::now(),
            len: 0,
            chain: Chain::default(),
            problem: None,
            blocks: Vec::new(),
            lines_of_block: 0,
        }
    }

    /// Goes through what is there and was not yet.
    fn go_on(
        &mut self,
        layer: &dyn FileLayer,
        path: &Path,
        keyring: &Keyring,
        issuer: &str,
    ) -> Result<(), StoreError> {
        loop {
            let bytes = layer.read_from(path, self.len, CHUNK).at("read", path)?;
            let complete = bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map(|at| at + 1);
            let is_last = (bytes.len() as u64) < CHUNK;
            let taken = match complete {
                Some(complete) => complete,
                // The last line is being written, or its writer was killed.
                None if is_last => return Ok(()),
                None => bytes.len(),
            };
            for line in bytes
                .get(..taken)
                .unwrap_or_default()
                .split_inclusive(|b| *b == b'\n')
            {
                self.line(line, keyring, issuer);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn line(&mut self, line: &[u8], keyring: &Keyring, issuer: &str) {
        // After the first bad line nothing can be proven; what follows is only found again.
        let revision = if self.problem.is_none() {
            match self.chain.follow(line, keyring, issuer) {
                Ok(revision) => Some(revision),
                Err(rule) => {
                    self.problem = Some(AuditProblem {
                        line: Some(self.chain.lines()),
                        rule: rule.to_string(),
                    });
                    audit::unproven(line).map(|record| record.revision)
                }
            }
        } else {
            audit::unproven(line).map(|record| record.revision)
        };
        let is_due = self.blocks.is_empty() || self.lines_of_block >= BLOCK;
        if let Some(revision) = revision.filter(|_| is_due) {
            // The first block begins with the log, whatever its first lines are.
            let at = if self.blocks.is_empty() { 0 } else { self.len };
            self.blocks.push((revision, at));
            self.lines_of_block = 0;
        }
        self.lines_of_block += 1;
        self.len += line.len() as u64;
    }

    fn page(
        &self,
        layer: &dyn FileLayer,
        path: &Path,
        before: Option<u64>,
        limit: usize,
    ) -> Result<AuditPage, StoreError> {
        let mut page = AuditPage {
            problem: self.problem.clone(),
            ..AuditPage::default()
        };
        let mut end = self.len;
        for (first, start) in self.blocks.iter().rev() {
            let (from, to) = (*start, std::mem::replace(&mut end, *start));
            if before.is_some_and(|before| *first >= before) {
                continue;
            }
            let bytes = layer.read_from(path, from, to - from).at("read", path)?;
            let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            let records = lines.into_iter().rev().filter_map(audit::unproven);
            for record in records.filter(|record| before.is_none_or(|b| record.revision < b)) {
                page.push(record, limit);
            }
            if page.is_full() {
                break;
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::keys::{Actor, Event};
    use crate::store::file_layer::RealLayer;
    use crate::store::kek::KekSecret;

    const ISSUER: &str = "https://issuer.test";

    struct Log {
        dir: tempfile::TempDir,
        keyring: Arc<Keyring>,
        last: String,
        bytes: Vec<u8>,
    }

    impl Log {
        fn new() -> Self {
            let secret = KekSecret::new([7; 32]);
            Self {
                dir: tempfile::tempdir().unwrap(),
                keyring: Arc::new(Keyring::new([secret]).unwrap()),
                last: String::new(),
                bytes: Vec::new(),
            }
        }

        fn append(&mut self, revisions: impl IntoIterator<Item = u64>) {
            for revision in revisions {
                let at = Timestamp::from_seconds(1);
                let record = AuditRecord::new(revision, at, Event::Rotate, Actor::Scheduler);
                let (line, mac) =
                    audit::encode(&record, &self.last, &self.keyring, ISSUER).unwrap();
                self.bytes.extend(line);
                self.last = mac;
            }
            self.write();
        }

        fn write(&self) {
            std::fs::write(self.path(), &self.bytes).unwrap();
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("audit.log")
        }

        fn reader(&self) -> AuditReader {
            AuditReader::new(
                Arc::new(RealLayer),
                self.path(),
                Arc::clone(&self.keyring),
                ISSUER.to_owned(),
            )
        }
    }

    /// All pages of a log.
    fn all(reader: &mut AuditReader, limit: usize) -> Vec<u64> {
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = reader.page(before, limit).unwrap();
            assert!(page.records.len() <= limit);
            found.extend(page.records.iter().map(|record| record.revision));
            match page.next {
                Some(next) => before = Some(next),
                None => return found,
            }
        }
    }

    #[test]
    fn pages_hold_every_record_once_newest_first_whatever_their_size() {
        let mut log = Log::new();
        let mut reader = log.reader();
        let missing = reader.page(None, 9).unwrap();
        assert_eq!(missing.problem.map(|problem| problem.line), Some(None));
        for (from, to) in [(1, 1), (2, 63), (64, 65), (66, 128), (129, 400)] {
            log.append(from..=to);
            let expected: Vec<u64> = (1..=to).rev().collect();
            for limit in [1, 2, 63, 64, 65, 1000] {
                assert_eq!(all(&mut reader, limit), expected, "{limit} of {to}");
                assert_eq!(all(&mut log.reader(), limit), expected);
            }
        }
        // One that is being written is left out.
        log.bytes.extend(b"{\"record\"");
        log.write();
        assert_eq!(reader.page(None, 1).unwrap().records[0].revision, 400);
        assert_eq!(reader.page(None, 1).unwrap().problem, None);
        // Somebody moved the log away and a new one began.
        let mut other = Log::new();
        other.append(1..=3);
        std::fs::copy(other.path(), log.path()).unwrap();
        assert_eq!(all(&mut reader, 2), [3, 2, 1]);
    }

    #[test]
    fn only_what_was_appended_is_checked_until_a_minute_is_over() {
        let mut log = Log::new();
        log.append(1..=200);
        let mut reader = log.reader();
        assert_eq!(reader.page(None, 1).unwrap().problem, None);
        // A line in the middle is changed: found when all is checked anew, not before.
        let at = log.bytes.len() / 2;
        let at = at + log.bytes[at..].iter().position(|b| *b == b'1').unwrap();
        log.bytes[at] = b'2';
        log.append([201]);
        let page = reader.page(None, 1).unwrap();
        assert_eq!((page.problem, page.records[0].revision), (None, 201));
        let lines = reader.checked.as_ref().unwrap().chain.lines();
        assert_eq!(lines, 201, "one more, not all of them again");
        let checked = reader.checked.as_mut().unwrap();
        checked.since = checked.since.checked_sub(CHECK_AGAIN).unwrap();
        let page = reader.page(None, 300).unwrap();
        let line = page.problem.unwrap().line.unwrap();
        assert!((90..=110).contains(&line), "{line}");
        assert!(page.records.len() >= 200, "what can be read is shown");
    }

    #[test]
    fn what_is_no_log_is_a_problem_and_no_more() {
        let mut log = Log::new();
        log.append(1..=2);
        let good = log.bytes.clone();
        log.bytes.extend(vec![b'x'; 3 * 1024 * 1024]);
        log.bytes.push(b'\n');
        log.bytes.extend(&good);
        log.write();
        let page = log.reader().page(None, 9).unwrap();
        assert_eq!(page.problem.unwrap().line, Some(3));
        assert_eq!(page.records.len(), 4);
    }
}
