//! The moves that several steps share: a rotation of our own, a purge that is noted down.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clock::{Clock as _, SystemClock};

use super::calls::{Answer, Caller};
use super::history::Turn;
use super::json::{list, moment, number, text};
use super::sightings;
use super::stage::{PATIENCE, PREPUBLISH, ROTATE, Stage};

/// A plain rotation that this rehearsal caused.
#[derive(Debug)]
pub(super) struct Rotated {
    pub(super) answer: Value,
    pub(super) answered: Instant,
    /// The JWKS fetched right before it; `None` when the answer took so long that the schedule may have
    /// published the key in between.
    pub(super) jwks_before: Option<Vec<u8>>,
}

impl Stage {
    /// Waits until the idempotency window of the last activation is over.
    pub(super) fn wait_for_window(&self, caller: &Caller) -> Result<Value, String> {
        let mut set = Err("no key set".to_owned());
        self.common
            .control
            .wait("the end of the window", PATIENCE, || {
                set = caller.keys();
                let until = match &set {
                    Ok(set) => moment(text(set, "idempotency_window_until")),
                    Err(_) => return Some(()),
                };
                until
                    .is_none_or(|until| SystemClock.now() > until)
                    .then_some(())
            })?;
        set
    }

    /// Rotates until a rotation is this rehearsal's own, and not the schedule's.
    pub(super) fn rotate(&mut self, caller: &Caller) -> Result<Rotated, String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && !self.common.control.is_interrupted() {
            self.wait_for_window(caller)?;
            let asked = Instant::now();
            let jwks_before = caller.jwks()?;
            let answer = caller.admin_post(ROTATE, &json!({}))?;
            let body = answer.json();
            match answer.status {
                200 if body.get("changed") == Some(&Value::Bool(true)) => {
                    self.typical = answer.answered.duration_since(answer.sent);
                    return Ok(Rotated {
                        answer: body,
                        answered: answer.answered,
                        jwks_before: (answer.answered.duration_since(asked) < PREPUBLISH)
                            .then_some(jwks_before),
                    });
                }
                // The schedule was faster, or the pending key is too young just now.
                200 | 409 => {}
                status => {
                    return Err(format!(
                        "Rotate answered {status}: {}",
                        text(&body, "detail")
                    ));
                }
            }
        }
        Err("no Rotate was carried out: each one answered `changed: false`".to_owned())
    }

    /// Purges, and notes which keys are dead from when on.
    pub(super) fn purge(&self, caller: &Caller, body: &Value) -> Result<Answer, String> {
        let answer = caller.admin_post(ROTATE, body)?;
        let said = answer.json();
        if !matches!(answer.status, 200 | 202) {
            return Err(format!(
                "the purge answered {}: {}",
                answer.status,
                text(&said, "detail")
            ));
        }
        if said.get("changed") != Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        let mut certain = answer.answered;
        if answer.status == 202 {
            let path = format!("/admin/v1/keys/purges/{}", text(&said, "rotation_id"));
            certain = self
                .common
                .control
                .wait("the receipt to be complete", PATIENCE, || {
                    let receipt = caller.admin_get(&path).ok()?;
                    let complete = receipt.json().get("complete") == Some(&Value::Bool(true));
                    complete.then_some(receipt.answered)
                })?;
        }
        self.note_death_in(self.life, purged(&said), answer.sent, certain);
        Ok(answer)
    }

    /// Keys died, for certain during the given start of the gateway.
    pub(super) fn note_death_in(
        &self,
        life: u32,
        kids: Vec<Arc<str>>,
        begun: Instant,
        certain: Instant,
    ) {
        self.common.history.with(|records| {
            records.turns.push(Turn {
                kids,
                dead: true,
                begun,
                certain,
                life,
            });
        });
    }
}

/// The keys that a purge's answer says are dead.
pub(super) fn purged(answer: &Value) -> Vec<Arc<str>> {
    list(answer, "purged")
        .iter()
        .filter_map(Value::as_str)
        .map(Arc::from)
        .collect()
}

/// What a full purge sends.
pub(super) fn purge_of(set: &Value, reason: &str) -> Value {
    json!({ "purge": true, "seen_revision": number(set, "revision"), "reason": reason })
}

/// The keys that an answer lists.
pub(super) fn listed(document: &Value) -> Vec<Arc<str>> {
    sightings::kids(document).to_vec()
}

pub(super) fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}
