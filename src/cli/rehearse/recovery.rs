//! What must be true after a kill and a restart: all of the step or nothing of it, all of it if it
//! was answered, and the dead stay dead.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::calls::{Answer, Caller};
use super::control::lock;
use super::json::{list, text};
use super::moves::{listed, parsed, purged};
use super::stage::Stage;
use super::story::{in_state, problem};

impl Stage {
    /// A purge took effect for every key or for none, and for every one if it was answered.
    pub(super) fn check_purge(
        &mut self,
        before: &Value,
        after: &Value,
        said: &Value,
        sent: Instant,
        answer: &Option<Answer>,
    ) -> bool {
        let live = listed(after);
        let was = listed(before);
        let dead: Vec<Arc<str>> = list(after, "tombstones")
            .iter()
            .filter(|tombstone| text(tombstone, "state") == "purged")
            .map(|tombstone| Arc::from(text(tombstone, "kid")))
            .collect();
        let killed: Vec<_> = was
            .iter()
            .filter(|kid| dead.contains(kid))
            .cloned()
            .collect();
        let spared = was.iter().filter(|kid| live.contains(kid)).count();
        if !killed.is_empty() && spared > 0 {
            self.board.broken(
                12,
                format!(
                    "a killed purge took effect for {} keys and not for {spared}",
                    killed.len()
                ),
            );
        }
        match answer {
            Some(answer) => {
                let kids = purged(said);
                for kid in kids.iter().filter(|kid| live.contains(kid)) {
                    let problem = format!("the purge of {kid} was answered, then lost by a kill");
                    self.board.broken(7, problem.clone());
                    self.board.broken(12, problem);
                }
                // Answered, it is certain; 202 only once the process that held on is gone.
                let certain = if answer.status == 200 {
                    answer.answered
                } else {
                    Instant::now()
                };
                self.note_death_in(self.life - 1, kids, sent, certain);
                true
            }
            None if killed.is_empty() => false,
            None => {
                self.note_death_in(self.life, killed, sent, Instant::now());
                true
            }
        }
    }

    /// Keys that died earlier are dead: in the key set, in the JWKS, in every file.
    pub(super) fn check_the_dead(&mut self, caller: &Caller, after: &Value) -> Result<(), String> {
        let dead = self.common.history.with(|records| records.dead_now());
        let (live, jwks) = (listed(after), listed(&parsed(&caller.jwks()?)));
        let revived = dead
            .iter()
            .filter(|kid| live.contains(kid) || jwks.contains(kid));
        for kid in revived {
            self.board.broken(
                7,
                format!("the purged key {kid} verifies again after a restart"),
            );
        }
        if let Err(found) = self.survivors(&dead) {
            found
                .into_iter()
                .for_each(|problem| self.board.broken(8, problem));
        }
        let signers = (
            in_state(after, "active").len(),
            in_state(after, "pending").len(),
        );
        if signers != (1, 1) {
            self.board.broken(
                12,
                format!("the restart loaded {signers:?} active and pending keys"),
            );
        }
        Ok(())
    }

    /// How many purged keys were looked for after restarts, for the table.
    pub(super) fn conclude_kills(&mut self) {
        let dead = self.common.history.with(|records| records.dead_now());
        let known = lock(&self.common.history.sightings).sealed.len();
        if self.kills > 0 && !dead.is_empty() && known > 0 {
            self.board.held(
                7,
                format!(
                    "{} purged keys stayed dead over {} kills",
                    dead.len(),
                    self.kills
                ),
            );
            self.board.held(
                8,
                format!(
                    "no file held a purged private half after any of {} kills",
                    self.kills
                ),
            );
        }
    }
}

/// An answered rotation is there; tells whether one happened.
pub(super) fn check_rotation(
    before: &Value,
    after: &Value,
    said: &Value,
    broken: &mut dyn FnMut(String),
) -> bool {
    let live = listed(after);
    let kid = text(said, "activated");
    problem(
        !kid.is_empty() && !live.iter().any(|known| **known == *kid),
        || format!("the rotation to {kid} was answered, then lost by a kill"),
    )
    .into_iter()
    .for_each(broken);
    let active = |set: &Value| {
        in_state(set, "active")
            .first()
            .map(|key| text(key, "kid").to_owned())
    };
    active(before) != active(after)
}
