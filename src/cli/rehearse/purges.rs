//! The story of purges: within the window, said twice, without saying what was seen, undone.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::calls::Caller;
use super::history::{Outcome, Turn};
use super::json::{list, text};
use super::moves::{listed, parsed, purge_of, purged};
use super::stage::{ROTATE, Stage, WINDOW};
use super::story::{in_state, problem};

/// Most tokens shown to the gateway after a purge.
const SHOWN: usize = 60;

impl Stage {
    /// A purge right after a rotation: it must not be taken for a repeated click.
    pub(super) fn purge_within_the_window(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let rotated = self.rotate(&caller)?;
        self.look_at_store();
        let answer = self.purge(&caller, &purge_of(&rotated.answer, "rehearsal"))?;
        let body = answer.json();
        // It is decided when it arrives; a new RSA key may take longer than the window.
        let in_window = answer.sent + WINDOW / 4 < rotated.answered + WINDOW;
        let executed =
            body.get("changed") == Some(&Value::Bool(true)) && text(&body, "kind") == "purge";
        let problems = problem(!executed, || {
            format!(
                "a purge {} ms after a rotation was answered `changed: {}`, kind {:?}",
                answer.answered.duration_since(rotated.answered).as_millis(),
                body.get("changed").unwrap_or(&Value::Null),
                text(&body, "kind")
            )
        });
        let swallowed = !problems.is_empty();
        if swallowed || in_window {
            let said = "a purge right after a rotation was carried out";
            self.board.judge(9, problems, said);
        }
        if swallowed {
            return Err("the purge was swallowed".to_owned());
        }
        self.after_purge(&caller, &rotated.answer, &body, answer.status)?;
        let (_, refused, _) = self.show_tokens(&caller, SHOWN);
        Ok(format!(
            "{} keys dead in {} ms, {refused} earlier tokens refused",
            purged(&body).len(),
            answer.answered.duration_since(answer.sent).as_millis()
        ))
    }

    /// What must be true the moment a purge has answered.
    fn after_purge(
        &mut self,
        caller: &Caller,
        before: &Value,
        answer: &Value,
        status: u16,
    ) -> Result<(), String> {
        let jwks = listed(&parsed(&caller.jwks()?));
        let dead = purged(answer);
        let receipt = answer.get("receipt").cloned().unwrap_or_default();
        let mut problems = Vec::new();
        for kid in listed(before) {
            problems.extend(problem(listed(answer).contains(&kid), || {
                format!("the purge spared the key {kid}, which verified when it came")
            }));
        }
        for kid in dead.iter().filter(|kid| jwks.contains(kid)) {
            problems.push(format!("the JWKS after the purge still holds {kid}"));
        }
        for kid in listed(answer).iter().filter(|kid| dead.contains(kid)) {
            problems.push(format!("the purge's own answer lists the dead key {kid}"));
        }
        let complete = receipt.get("complete") == Some(&Value::Bool(true));
        if status == 200 {
            let holders = list(&receipt, "still_held_by").len();
            self.board.judge(
                5,
                problem(!complete || holders > 0, || {
                    "a purge answered 200 with a receipt that is not complete".to_owned()
                }),
                "receipt complete when the purge answered",
            );
        }
        let survivors = self.survivors(&dead);
        match survivors {
            Ok(0) => self.board.skipped(
                8,
                "the store's file shows no sealed private halves to look for",
            ),
            Ok(count) if problems.is_empty() => self.board.held(
                8,
                format!(
                    "{} keys gone from the JWKS, {count} private halves from every file",
                    dead.len()
                ),
            ),
            Ok(_) => {}
            Err(found) => problems.extend(found),
        }
        problems
            .into_iter()
            .for_each(|problem| self.board.broken(8, problem));
        Ok(())
    }

    /// The same purge again, as by a caller who did not hear the answer: clients that recovered
    /// live on. And one that does not say what it saw.
    pub(super) fn purge_said_twice(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let set = caller.keys()?;
        let body = purge_of(&set, "rehearsal, said twice");
        let first = self.purge(&caller, &body)?.json();
        let token = caller.issue()?;
        let again = self.purge(&caller, &body)?.json();
        let mut problems = problem(again.get("changed") != Some(&Value::Bool(false)), || {
            "a repeated purge killed the keys of clients that had recovered".to_owned()
        });
        problems.extend(problem(
            text(&again, "rotation_id") != text(&first, "rotation_id"),
            || "a repeated purge answered with another purge".to_owned(),
        ));
        if caller.verify(token) != Outcome::Status(200) {
            problems.push("a token issued after a purge was refused".to_owned());
        }
        self.board.judge(9, problems, "said twice, done once");
        let blind = caller.admin_post(ROTATE, &json!({ "purge": true }))?;
        if blind.status != 428 {
            self.board.broken(
                9,
                format!(
                    "a purge that names nothing seen was answered {}",
                    blind.status
                ),
            );
        }
        Ok(format!(
            "changed: false; one that names nothing seen: {}",
            blind.status
        ))
    }

    /// A purge declared a mistake, undone for a key that was deprecated before it.
    pub(super) fn undo_a_purge(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let token = caller.issue()?;
        let Some(kid) = self.common.history.token(token).map(|token| token.kid) else {
            return Err("no token".to_owned());
        };
        self.rotate(&caller)?;
        let set = caller.keys()?;
        let deprecated = in_state(&set, "deprecated");
        let Some(before) = deprecated.iter().find(|key| text(key, "kid") == &*kid) else {
            return Err(format!(
                "the key {kid} is not listed as deprecated after its rotation"
            ));
        };
        let until = text(before, "verify_until").to_owned();
        let mut purge = purge_of(&set, "rehearsal of an undo");
        if let Some(members) = purge.as_object_mut() {
            members.insert("mistake_undo".to_owned(), json!(true));
        }
        self.purge(&caller, &purge)?;
        let dead = caller.verify(token);
        let path = format!("/admin/v1/keys/{kid}/restore");
        let answer = caller.admin_post(&path, &json!({ "reason": "rehearsal" }))?;
        if answer.status != 200 {
            return Err(format!(
                "restore answered {}: {}",
                answer.status,
                text(&answer.json(), "detail")
            ));
        }
        let life = self.life;
        self.common.history.with(|records| {
            records.turns.push(Turn {
                kids: vec![Arc::clone(&kid)],
                dead: false,
                begun: answer.sent,
                certain: answer.answered,
                life,
            });
        });
        let set = answer.json();
        let restored = list(&set, "keys")
            .iter()
            .find(|key| text(key, "kid") == &*kid);
        let now = restored.map(|key| (text(key, "state"), text(key, "verify_until")));
        let mut problems = problem(now != Some(("deprecated", until.as_str())), || {
            format!("restored as {now:?}, but it verified until {until} before the purge")
        });
        let alive = caller.verify(token);
        let fresh = self
            .common
            .history
            .token(token)
            .is_some_and(|token| self.common.history.is_fresh(&token, Duration::from_secs(1)));
        problems.extend(problem(fresh && alive != Outcome::Status(200), || {
            format!("a token of the restored key got {alive:?}")
        }));
        problems.extend(problem(fresh && dead != Outcome::Purged, || {
            format!("between purge and restore the token got {dead:?}")
        }));
        self.board.judge(
            22,
            problems,
            format!("verify_until {until} before and after"),
        );
        Ok(format!("dead, then alive again until {until}"))
    }

    /// The undo of a purge that was no declared mistake.
    pub(super) fn restore_a_compromised_key(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let set = caller.keys()?;
        let Some(victim) = in_state(&set, "active")
            .first()
            .map(|key| text(key, "kid").to_owned())
        else {
            return Err("no active key".to_owned());
        };
        self.look_at_store();
        let answer = self.purge(&caller, &purge_of(&set, "rehearsal"))?;
        self.after_purge(&caller, &set, &answer.json(), answer.status)?;
        let path = format!("/admin/v1/keys/{victim}/restore");
        let answer = caller.admin_post(&path, &json!({}))?;
        self.board.judge(
            7,
            problem(answer.status < 400, || {
                format!("restore revived {victim}, whose purge was not declared a mistake")
            }),
            format!(
                "restoring a compromised key was refused with {}",
                answer.status
            ),
        );
        if answer.status < 400 {
            return Err("a compromised key was restored".to_owned());
        }
        self.show_tokens(&caller, SHOWN);
        Ok(format!("refused with {}", answer.status))
    }
}
