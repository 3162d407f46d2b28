//! What is looked at when the gateway has stopped: the audit log, and everything it wrote.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::control::lock;
use super::gateway::{ERRORS, LOG};
use super::json::{number, text};
use super::stage::Stage;
use super::story::problem;
use super::tamper::how;

impl Stage {
    pub(super) fn check_the_audit(&mut self) -> Result<String, String> {
        let revision = lock(&self.common.history.sightings)
            .revisions
            .keys()
            .next_back()
            .copied();
        let revision = revision.unwrap_or_default();
        let run = |arguments: &[&str]| {
            self.binary
                .run(&self.scratch, arguments, &self.common.control)
        };
        let verified = run(&["audit", "verify", "--config", "portcullis.yaml"])?;
        let tail = run(&[
            "audit",
            "tail",
            "-n",
            "1000000",
            "--json",
            "--config",
            "portcullis.yaml",
        ])?;
        let records: Vec<Value> = tail
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let mut problems = problem(
            verified.code != Some(0) || !verified.stdout.starts_with("intact"),
            || {
                format!(
                    "`audit verify` {} {}",
                    how(&verified),
                    verified.stdout.trim()
                )
            },
        );
        problems.extend(problem(verified.stdout.contains("never logged"), || {
            format!(
                "`audit verify` found gaps: {}",
                verified.stdout.trim().replace('\n', "; ")
            )
        }));
        for (expected, record) in (1u64..).zip(&records) {
            if number(record, "revision") != expected {
                problems.push(format!(
                    "record {expected} of the audit log is of revision {}",
                    number(record, "revision")
                ));
                break;
            }
        }
        let last = records
            .last()
            .map(|record| number(record, "revision"))
            .unwrap_or_default();
        // The schedule may have gone on after the last look.
        problems.extend(problem(last < revision, || {
            format!("the audit log ends at revision {last}, but revision {revision} was in force")
        }));
        let said = format!(
            "{} records, one for each revision from 1 to {last}; intact",
            records.len()
        );
        let good = problems.is_empty();
        self.board.judge(13, problems, said.clone());
        if good {
            Ok(said)
        } else {
            Err("the audit log is not in order".to_owned())
        }
    }

    /// Every Log ID that a caller got is in exactly one line.
    pub(super) fn check_log_ids(&mut self) -> Result<String, String> {
        let log =
            std::fs::read(self.scratch.path(LOG)).map_err(|error| format!("no log: {error}"))?;
        let log = String::from_utf8_lossy(&log);
        let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
        let mut dropped = false;
        for line in log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        {
            dropped |= text(&line, "event").contains("dropped");
            let id = text(&line, "log_id").to_owned();
            if !id.is_empty() {
                lines.entry(id).or_default().push(line);
            }
        }
        let (mut problems, mut single) = (Vec::new(), 0);
        let mut shared: HashMap<String, u64> = HashMap::new();
        self.common.history.with(|records| {
            let whole = |life| records.whole_lives.contains(&life);
            for refusal in records
                .refusals
                .iter()
                .filter(|refusal| whole(refusal.life))
            {
                let Some(id) = &refusal.log_id else {
                    problems.push(format!("an answer {} carries no Log ID", refusal.status));
                    continue;
                };
                match lines.get(id).map(Vec::as_slice) {
                    Some([line]) if text(line, "event") == "denials_summary" => {
                        *shared.entry(id.clone()).or_default() += 1;
                    }
                    Some([line]) => {
                        single += 1;
                        let reason = text(line, "reason");
                        if refusal.on_route && refusal.purged != (reason == "key_purged") {
                            problems.push(format!(
                                "Log ID {id}: the answer and the log's reason {reason} differ"
                            ));
                        }
                    }
                    Some(many) => problems.push(format!("Log ID {id} is in {} lines", many.len())),
                    None if dropped => {}
                    None => problems.push(format!(
                        "Log ID {id} of an answer {} is in no line",
                        refusal.status
                    )),
                }
            }
        });
        for (id, answers) in &shared {
            let counted = lines
                .get(id)
                .and_then(|lines| lines.first())
                .map(|line| number(line, "count"));
            if counted.unwrap_or_default() < *answers {
                problems.push(format!(
                    "Log ID {id} was in {answers} answers, but its line counts {counted:?}"
                ));
            }
        }
        let bundled: u64 = shared.values().sum();
        let said = format!(
            "{single} refusals with a line of their own, {bundled} in {} summaries",
            shared.len()
        );
        if dropped {
            self.board.skipped(
                21,
                "the log lost lines, so that a missing one proves nothing",
            );
            problems
                .into_iter()
                .for_each(|problem| self.board.broken(21, problem));
        } else if single > 0 {
            self.board.judge(21, problems, said.clone());
        }
        Ok(said)
    }

    /// No token, secret or private half in what the gateway wrote; no file that others may read.
    pub(super) fn search_for_secrets(&mut self) -> Result<String, String> {
        let mut secrets: HashSet<String> = HashSet::new();
        for name in ["secrets/admin.token", "secrets/load.secret"] {
            let secret = std::fs::read_to_string(self.scratch.path(name)).unwrap_or_default();
            secrets.insert(secret.trim().to_owned());
        }
        let signatures = self.common.history.with(|records| {
            let ends = records
                .tokens
                .iter()
                .filter_map(|token| token.text.rsplit('.').next());
            secrets.extend(ends.map(str::to_owned));
            records.tokens.len()
        });
        let mut problems: Vec<String> = {
            let sightings = lock(&self.common.history.sightings);
            secrets.extend(sightings.sealed.values().flatten().cloned());
            sightings.leaks.iter().cloned().collect()
        };
        let mut searched = 0;
        for name in [LOG, ERRORS, "data/keys/audit.log"] {
            let bytes = std::fs::read(self.scratch.path(name)).unwrap_or_default();
            searched += bytes.len();
            let text = String::from_utf8_lossy(&bytes);
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
            if let Some(secret) = text.split(word).find(|word| secrets.contains(*word)) {
                let start: String = secret.chars().take(6).collect();
                problems.push(format!(
                    "{name} holds a token's signature, a secret or a sealed key ({start}…)"
                ));
            }
        }
        for (path, _) in super::scratch::files_below(&self.scratch.store()) {
            let mode = std::fs::metadata(&path)
                .map(|meta| meta.permissions().mode())
                .unwrap_or_default();
            problems.extend(problem(mode & 0o077 != 0, || {
                format!(
                    "others may read {} (mode {:o})",
                    path.display(),
                    mode & 0o7777
                )
            }));
        }
        let said = format!(
            "{signatures} signatures and every secret looked for in {} KiB of log",
            searched / 1024
        );
        self.board.judge(17, problems, said.clone());
        Ok(said)
    }
}
