//! What the rehearsal found out, by invariant: held, broken, or not exercised and why.
//!
//! Invariant of the board: a row is `held` only when something was observed that could have broken
//! it; silence is never success.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The promise, beside the numbered ones, that a stop ends with exit code 0.
pub(super) const STOP: u8 = 0;

/// Problems shown of a row; the rest is counted.
const MAX_SHOWN: usize = 3;

/// Number, short name, and why the row is empty when nothing was observed.
const ROWS: [(u8, &str, &str); 23] = [
    (STOP, "SIGTERM ends with 0", "no gateway was stopped"),
    (1, "one signer", "no key set was read"),
    (
        2,
        "verify before sign",
        "it concerns several replicas; this rehearsal runs one gateway",
    ),
    (
        3,
        "rotation breaks nothing",
        "no call was made around a rotation",
    ),
    (4, "no key signs beyond its end", "no key was deprecated"),
    (5, "a purge is final", "no purge was answered"),
    (
        6,
        "a remote purge is bounded",
        "it concerns several replicas; this rehearsal runs one gateway",
    ),
    (7, "a purge stays", "no purge outlived a restart"),
    (8, "no survivors", "no purge was answered"),
    (
        9,
        "a purge is never swallowed",
        "no purge was asked for within the window",
    ),
    (
        10,
        "Rotate is idempotent",
        "no repeated Rotate was answered within the window",
    ),
    (11, "publication age", "no key was rotated in"),
    (12, "crash-atomic", "nothing was killed"),
    (13, "total order", "the audit log was not read"),
    (
        14,
        "one clock",
        "a rehearsal cannot set the machine's clock",
    ),
    (15, "exact purge metric", "no metrics were compared"),
    (16, "kid integrity", "no forged token was sent"),
    (17, "secrets stay secret", "no output was searched"),
    (18, "tombstones outlive tokens", "no tombstone was seen"),
    (19, "preview changes nothing", "no preview was asked for"),
    (
        20,
        "the data path never waits",
        "the store was never taken away",
    ),
    (21, "Log ID", "nothing was refused"),
    (22, "undo keeps the dates", "no purge was undone"),
];

/// How a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Held,
    Broken,
    NotExercised,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "BROKEN",
            Self::NotExercised => "not exercised",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::NotExercised => "not_exercised",
        }
    }
}

#[derive(Debug, Default)]
struct Row {
    /// What was observed, and how often.
    evidence: Vec<(String, u32)>,
    problems: Vec<String>,
    skipped: Option<String>,
}

impl Row {
    fn seen(&self) -> Vec<String> {
        let seen = self.evidence.iter().map(|(evidence, times)| match times {
            1 => evidence.clone(),
            _ => format!("{evidence} ({times} times)"),
        });
        seen.collect()
    }
}

/// The table under construction.
#[derive(Debug, Default)]
pub(super) struct Board(BTreeMap<u8, Row>);

impl Board {
    /// Something was observed that could have broken the invariant, and did not.
    pub(super) fn held(&mut self, number: u8, evidence: impl Into<String>) {
        let evidence = evidence.into();
        let known = &mut self.row(number).evidence;
        match known.iter_mut().find(|(known, _)| *known == evidence) {
            Some((_, times)) => *times += 1,
            None => known.push((evidence, 1)),
        }
    }

    /// The invariant is broken; says by what.
    pub(super) fn broken(&mut self, number: u8, problem: impl Into<String>) {
        let problem = problem.into();
        let problems = &mut self.row(number).problems;
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// Nothing could be observed, for a reason that is not the usual one.
    pub(super) fn skipped(&mut self, number: u8, why: impl Into<String>) {
        self.row(number).skipped = Some(why.into());
    }

    /// Held with `evidence` when there are no `problems`, else broken by them.
    pub(super) fn judge(&mut self, number: u8, problems: Vec<String>, evidence: impl Into<String>) {
        if problems.is_empty() {
            self.held(number, evidence);
        }
        for problem in problems {
            self.broken(number, problem);
        }
    }

    fn row(&mut self, number: u8) -> &mut Row {
        self.0.entry(number).or_default()
    }

    fn verdict(&self, number: u8) -> Verdict {
        match self.0.get(&number) {
            Some(row) if !row.problems.is_empty() => Verdict::Broken,
            Some(row) if !row.evidence.is_empty() => Verdict::Held,
            _ => Verdict::NotExercised,
        }
    }

    /// The broken ones, as `number name`.
    pub(super) fn all_broken(&self) -> Vec<String> {
        let broken = ROWS
            .iter()
            .filter(|(number, ..)| self.verdict(*number) == Verdict::Broken);
        broken
            .map(|(number, name, _)| title(*number, name).trim_start().replace("  ", " "))
            .collect()
    }

    /// One line per invariant.
    pub(super) fn table(&self) -> String {
        let mut table = format!("{:<32} {:<14} EVIDENCE\n", "INVARIANT", "VERDICT");
        for (number, name, why) in ROWS {
            let verdict = self.verdict(number);
            let evidence = match (self.0.get(&number), verdict) {
                (Some(row), Verdict::Held) => row.seen().join("; "),
                (Some(row), Verdict::Broken) => shown(&row.problems),
                (row, _) => row
                    .and_then(|row| row.skipped.as_deref())
                    .unwrap_or(why)
                    .to_owned(),
            };
            let title = title(number, name);
            let verdict = verdict.as_str();
            table.push_str(&format!("{title:<32} {verdict:<14} {evidence}\n"));
        }
        table
    }

    /// The same for scripts; `number` is null for the row without one.
    pub(super) fn json(&self) -> Value {
        let row = |(number, name, why): &(u8, &str, &str)| {
            let empty = Row::default();
            let row = self.0.get(number).unwrap_or(&empty);
            let verdict = self.verdict(*number);
            let why =
                (verdict == Verdict::NotExercised).then(|| row.skipped.as_deref().unwrap_or(why));
            json!({
                "number": (*number != STOP).then_some(number),
                "name": name,
                "verdict": verdict.label(),
                "evidence": row.seen(),
                "problems": row.problems,
                "why": why,
            })
        };
        ROWS.iter().map(row).collect()
    }
}

fn title(number: u8, name: &str) -> String {
    if number == STOP {
        format!(" -  {name}")
    } else {
        format!("{number:>2}  {name}")
    }
}

fn shown(problems: &[String]) -> String {
    let mut text = problems
        .iter()
        .take(MAX_SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("; ");
    if problems.len() > MAX_SHOWN {
        text.push_str(&format!("; and {} more", problems.len() - MAX_SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_not_success_and_a_problem_outweighs_evidence() {
        let mut board = Board::default();
        assert_eq!(board.verdict(5), Verdict::NotExercised);
        board.skipped(5, "too slow");
        assert!(board.table().contains("too slow"));
        board.held(5, "10 calls");
        board.held(5, "10 calls");
        assert!(board.table().contains("10 calls (2 times)"));
        assert_eq!(board.verdict(5), Verdict::Held);
        board.judge(5, vec!["one got through".to_owned(); 2], "20 calls");
        assert_eq!(board.verdict(5), Verdict::Broken);
        assert_eq!(board.all_broken(), ["5 a purge is final"]);
        assert_eq!(board.table().matches("one got through").count(), 1);
        let json = board.json();
        assert_eq!(json[5]["verdict"], "broken");
        assert_eq!(json[14]["verdict"], "not_exercised");
        assert_eq!(json[0]["number"], Value::Null);
        assert_eq!(
            ROWS.map(|(number, ..)| number).to_vec(),
            (0..=22).collect::<Vec<u8>>()
        );
    }
}
