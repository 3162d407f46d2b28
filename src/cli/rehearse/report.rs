//! What the person at the terminal, or the script, gets to see: every step as it goes, the table at
//! the end.

use std::time::Instant;

use serde_json::{Value, json};

use super::super::exit::Failure;
use super::super::out::say;
use super::Output;
use super::gateway::Binary;
use super::json::text;
use super::scratch::Scratch;
use super::stage::{NOT_RUNNING, Stage};
use super::verdict::Board;
use crate::keys;

/// A step: what it is called, the invariant that is broken when it cannot be carried out, and it.
pub(super) type Step = (&'static str, u8, fn(&mut Stage) -> Result<String, String>);

/// What the person at the terminal, or the script, gets to see.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    started: Instant,
    steps: Vec<Value>,
}

impl Report {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            started: Instant::now(),
            steps: Vec::new(),
        }
    }

    pub(super) fn line(&self, text: &str) {
        if self.output == Output::Table {
            say(text);
        }
    }

    /// Carries out a step. One that fails breaks its invariant; the rehearsal goes on.
    pub(super) fn step(&mut self, stage: &mut Stage, (name, invariant, step): Step) -> bool {
        stage.notice_death();
        if stage.common.control.is_interrupted() {
            return false;
        }
        let started = Instant::now();
        let result = step(stage);
        let took = started.elapsed();
        let (outcome, said) = match result {
            Ok(said) => ("ok", said),
            Err(why) if why == NOT_RUNNING => ("skipped", why),
            Err(why) => {
                stage.board.broken(invariant, format!("{name}: {why}"));
                ("failed", why)
            }
        };
        self.line(&format!(
            "{outcome:<8} {name:<30} {:>6} ms  {said}",
            took.as_millis()
        ));
        self.steps.push(json!({
            "name": name,
            "outcome": outcome,
            "result": said,
            "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }));
        outcome == "ok"
    }

    /// Without a key set and a gateway there is nothing to rehearse.
    pub(super) fn hopeless(&self, binary: &Binary) -> Failure {
        let last = self.steps.last().cloned().unwrap_or_default();
        let (name, why) = (text(&last, "name"), text(&last, "result"));
        Failure::Other(format!(
            "{} cannot be rehearsed: {name}: {why}",
            binary.path().display()
        ))
    }

    pub(super) fn finish(
        &self,
        board: &Board,
        binary: &Binary,
        algorithm: keys::Algorithm,
        (seed, kills): (u64, u32),
        kept: Option<&Scratch>,
    ) {
        let took = self.started.elapsed();
        if self.output == Output::Json {
            let report = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "binary": binary.path(),
                "algorithm": algorithm.as_str(),
                "store": "file",
                "seed": seed,
                "kills": kills,
                "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "passed": board.all_broken().is_empty(),
                "steps": self.steps,
                "invariants": board.json(),
                "scratch": kept.map(Scratch::dir),
            });
            say(&report.to_string());
            return;
        }
        say(&format!("\n{}", board.table()));
        if let Some(scratch) = kept {
            say(&format!("kept: {}", scratch.dir().display()));
        }
        say(&format!("took {} s", took.as_secs()));
    }
}
