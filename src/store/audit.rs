//! The audit log's form: one JSON line per revision, each authenticated and chained to the one
//! before it.
//!
//! The chain shows lines that were edited, inserted, reordered or taken out. That lines are
//! missing at the beginning or the end it cannot show; the verdict therefore names the first and
//! the last revision, to be compared with the key set's.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::keys::AuditRecord;

use super::kek::Purpose;
use super::sealing::{Keyring, MacError, framed};

/// `prev_mac` of the first line of all.
pub(super) const GENESIS: &str = "";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    record: Box<RawValue>,
    kek: String,
    prev_mac: String,
    mac: String,
}

/// A line that is what this product wrote.
pub(super) struct Entry {
    pub(super) record: AuditRecord,
    pub(super) prev_mac: String,
    pub(super) mac: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LineError {
    /// It is not a line of an audit log.
    #[error("it is not an audit record: {0}")]
    Malformed(String),
    /// Its key-encryption key is not at hand.
    #[error(
        "it was written under the key-encryption key {0}, which is not among the configured ones; \
         an old line needs the old key: name its file with --kek-file"
    )]
    NoKey(String),
    /// It was changed.
    #[error("its authentication code does not match its content")]
    Changed,
    /// The line before it is another one than when it was written.
    #[error("it does not follow the line before it: a line was taken out, added or moved")]
    Unchained,
    /// Revisions must grow.
    #[error("its revision {0} does not come after {1}")]
    Backwards(u64, u64),
}

/// Why a log is not intact.
#[derive(Debug, Error)]
pub enum AuditError {
    /// It could not be read.
    #[error("the audit log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A line is bad; the ones before it are good.
    #[error("line {number} of the audit log is bad: {rule}")]
    Line {
        /// Counted from 1.
        number: u64,
        /// What is wrong with it.
        rule: LineError,
    },
}

/// What [`verify`] found in an intact log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditVerdict {
    /// Number of complete lines.
    pub lines: u64,
    /// Revision of the first line; more than 1 when the beginning is missing.
    pub first_revision: Option<u64>,
    /// Revision of the last line; compare it with the key set's.
    pub last_revision: Option<u64>,
    /// Revisions, from and to, that were never logged, because appending failed at the time.
    pub gaps: Vec<(u64, u64)>,
    /// The last line is incomplete: it is being written, or its writer was killed.
    pub torn: bool,
}

/// Checks every line of the log of `issuer`.
///
/// # Errors
/// [`AuditError`] naming the first bad line and the rule.
pub fn verify(
    mut log: impl BufRead,
    keyring: &Keyring,
    issuer: &str,
) -> Result<AuditVerdict, AuditError> {
    let mut verdict = AuditVerdict::default();
    let mut chain = Chain::default();
    let mut text = Vec::new();
    while log.read_until(b'\n', &mut text)? > 0 {
        if text.last() != Some(&b'\n') {
            verdict.torn = true;
            break;
        }
        let before = chain.last_revision();
        let followed = chain.follow(&text, keyring, issuer);
        verdict.lines = chain.lines();
        let revision = followed.map_err(|rule| AuditError::Line {
            number: verdict.lines,
            rule,
        })?;
        match before {
            None => verdict.first_revision = Some(revision),
            Some(before) if revision > before + 1 => verdict.gaps.push((before + 1, revision - 1)),
            Some(_) => {}
        }
        verdict.last_revision = Some(revision);
        text.clear();
    }
    Ok(verdict)
}

/// The chain of a log, followed line by line.
#[derive(Debug, Default)]
pub(super) struct Chain {
    lines: u64,
    /// Revision and code of the last line.
    last: Option<(u64, String)>,
}

impl Chain {
    /// Checks the next line, its newline included; answers with its revision.
    pub(super) fn follow(
        &mut self,
        text: &[u8],
        keyring: &Keyring,
        issuer: &str,
    ) -> Result<u64, LineError> {
        self.lines += 1;
        let entry = decode(text, keyring, issuer)?;
        let revision = entry.record.revision;
        match &self.last {
            None if revision == 1 && entry.prev_mac != GENESIS => return Err(LineError::Unchained),
            Some((_, mac)) if entry.prev_mac != *mac => return Err(LineError::Unchained),
            Some((last, _)) if revision <= *last => {
                return Err(LineError::Backwards(revision, *last));
            }
            _ => {}
        }
        self.last = Some((revision, entry.mac));
        Ok(revision)
    }

    /// Lines so far, the one that was refused included.
    pub(super) const fn lines(&self) -> u64 {
        self.lines
    }

    fn last_revision(&self) -> Option<u64> {
        self.last.as_ref().map(|(revision, _)| *revision)
    }
}

/// The record of a line, whether it is authentic or not; `None` when it is none.
pub(super) fn unproven(text: &[u8]) -> Option<AuditRecord> {
    parse(text).and_then(|line| record(&line)).ok()
}

/// The last `count` records of a log, oldest first; not checked, an incomplete last line left out.
///
/// # Errors
/// [`AuditError`] when the log cannot be read, or a line among the last ones is no record.
pub fn tail(mut log: impl BufRead, count: usize) -> Result<Vec<AuditRecord>, AuditError> {
    let mut last = VecDeque::new();
    let (mut number, mut text) = (0, Vec::new());
    while log.read_until(b'\n', &mut text)? > 0 {
        if text.last() != Some(&b'\n') {
            break;
        }
        number += 1;
        last.push_back((number, std::mem::take(&mut text)));
        if last.len() > count {
            last.pop_front();
        }
    }
    let records = last.into_iter().map(|(number, text)| {
        parse(&text)
            .and_then(|line| record(&line))
            .map_err(|rule| AuditError::Line { number, rule })
    });
    records.collect()
}

/// The line for `record` after the line whose code is `prev_mac`, and its own code.
pub(super) fn encode(
    record: &AuditRecord,
    prev_mac: &str,
    keyring: &Keyring,
    issuer: &str,
) -> Result<(Vec<u8>, String), serde_json::Error> {
    let record = serde_json::value::to_raw_value(record)?;
    let mac = keyring.mac(Purpose::Audit, &input(issuer, prev_mac, &record));
    let bytes = serialised(&Line {
        record,
        kek: mac.kek,
        prev_mac: prev_mac.to_owned(),
        mac: mac.code.clone(),
    });
    Ok((bytes, mac.code))
}

/// Reads a line, its newline included, and checks that it is authentic.
pub(super) fn decode(text: &[u8], keyring: &Keyring, issuer: &str) -> Result<Entry, LineError> {
    let line = parse(text)?;
    keyring
        .check_mac(
            &line.kek,
            Purpose::Audit,
            &input(issuer, &line.prev_mac, &line.record),
            &line.mac,
        )
        .map_err(|error| match error {
            MacError::NoKey => LineError::NoKey(line.kek.clone()),
            MacError::Mismatch => LineError::Changed,
        })?;
    if serialised(&line) != text {
        return Err(LineError::Changed);
    }
    Ok(Entry {
        record: record(&line)?,
        prev_mac: line.prev_mac,
        mac: line.mac,
    })
}

fn parse(text: &[u8]) -> Result<Line, LineError> {
    serde_json::from_slice(text).map_err(|error| LineError::Malformed(error.to_string()))
}

fn record(line: &Line) -> Result<AuditRecord, LineError> {
    serde_json::from_str(line.record.get()).map_err(|error| LineError::Malformed(error.to_string()))
}

fn serialised(line: &Line) -> Vec<u8> {
    // Serialising strings into a Vec cannot fail.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn input(issuer: &str, prev_mac: &str, record: &RawValue) -> Vec<u8> {
    framed(&[
        issuer.as_bytes(),
        prev_mac.as_bytes(),
        record.get().as_bytes(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::keys::{Actor, Event};
    use crate::store::kek::KekSecret;

    const ISSUER: &str = "https://issuer.example";

    /// What becomes of lines with these revisions, each chained to the one that is named before it.
    fn follow(lines: &[(u64, Option<u64>)]) -> Result<u64, LineError> {
        let keyring = Keyring::new([KekSecret::new([1; 32])]).unwrap();
        let mut macs = std::collections::HashMap::from([(None, GENESIS.to_owned())]);
        let mut chain = Chain::default();
        let mut last = Ok(0);
        for (revision, after) in lines {
            let at = Timestamp::from_seconds(1_800_000_000);
            let record = AuditRecord::new(*revision, at, Event::Rotate, Actor::Scheduler);
            let before = macs
                .get(after)
                .cloned()
                .unwrap_or_else(|| "other".to_owned());
            let (line, mac) = encode(&record, &before, &keyring, ISSUER).unwrap();
            macs.insert(Some(*revision), mac);
            last = chain.follow(&line, &keyring, ISSUER);
            if last.is_err() {
                break;
            }
        }
        last
    }

    #[test]
    fn a_chain_begins_with_nothing_and_goes_on_with_the_line_before() {
        assert_eq!(follow(&[(1, None), (2, Some(1)), (5, Some(2))]), Ok(5));
        // The beginning may have been cut off, but before the first revision there was nothing.
        assert_eq!(follow(&[(7, Some(6)), (8, Some(7))]), Ok(8));
        assert_eq!(follow(&[(1, Some(9))]), Err(LineError::Unchained));
        assert_eq!(follow(&[(1, None), (2, None)]), Err(LineError::Unchained));
        assert_eq!(
            follow(&[(1, None), (2, Some(1)), (3, Some(1))]),
            Err(LineError::Unchained)
        );
        assert_eq!(
            follow(&[(7, Some(6)), (7, Some(7))]),
            Err(LineError::Backwards(7, 7))
        );
    }
}
