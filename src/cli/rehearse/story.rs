//! The story of rotations: by hand, repeated, by sixteen callers at once, by the schedule; the
//! preview; tokens that nobody issued.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::Timestamp;

use super::calls::Caller;
use super::json::{list, moment, number, text};
use super::moves::{listed, parsed};
use super::stage::{PATIENCE, ROTATE, Stage, WINDOW};

/// Callers that ask at the same moment.
const CROWD: usize = 16;
/// How often a step that needs a quick machine is tried.
const TRIES: usize = 6;

impl Stage {
    pub(super) fn rotate_by_hand(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        caller.issue()?;
        self.look_at_store();
        let rotated = self.rotate(&caller)?;
        let (new, old) = (
            text(&rotated.answer, "activated"),
            text(&rotated.answer, "replaced"),
        );
        if let Some(jwks) = &rotated.jwks_before {
            let known = listed(&parsed(jwks));
            self.board.judge(
                11,
                problem(!known.iter().any(|kid| **kid == *new), || {
                    format!(
                        "the JWKS right before the rotation lacks the key {new} that it activated"
                    )
                }),
                "the JWKS right before a rotation held the key that it activated",
            );
        }
        match self.survivors(&[old.into()]) {
            Ok(0) => {}
            Ok(_) => self.board.held(
                17,
                "a rotated-out key's private half is gone from every file",
            ),
            Err(found) => found
                .into_iter()
                .for_each(|problem| self.board.broken(17, problem)),
        }
        let token = caller.issue()?;
        let (accepted, _, _) = self.show_tokens(&caller, 20);
        let signer = self.common.history.token(token).map(|token| token.kid);
        if signer.is_some_and(|kid| *kid == *old) {
            self.board
                .broken(3, format!("{old} signed a token after it was rotated out"));
        }
        Ok(format!(
            "revision {}, {accepted} tokens of old and new keys accepted",
            number(&rotated.answer, "revision")
        ))
    }

    /// Sixteen callers when a rotation is due, and sixteen more within its window. Each crowd is
    /// judged only when all of it was answered within the window: a slow machine breaks no promise.
    pub(super) fn rotate_by_a_crowd(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let (mut judged_due, mut judged_again) = (false, false);
        for _try in 0..TRIES {
            if judged_due && judged_again {
                break;
            }
            self.wait_for_window(&caller)?;
            let due = Crowd::ask(&caller)?;
            let jwks = caller.jwks()?;
            let again = Crowd::ask(&caller)?;
            let same_jwks = caller.jwks()? == jwks;
            let (Some(first), Some(last)) = (due.dates().min(), due.dates().max()) else {
                continue;
            };
            let in_time = |crowd: &Crowd, activated: Timestamp| {
                let answered = self.common.history.wall(crowd.last);
                answered < activated.plus(WINDOW - Duration::from_millis(50))
            };
            let (due_in_time, again_in_time) = (in_time(&due, first), in_time(&again, last));
            if due_in_time {
                judged_due = true;
                let said = format!("{CROWD} callers at once made one rotation");
                self.board.judge(10, due.problems(1), said);
            }
            if again_in_time {
                judged_again = true;
                let mut problems = again.problems(0);
                problems.extend(problem(!same_jwks, || {
                    "repeated calls within the window changed the JWKS".to_owned()
                }));
                let said = format!("{CROWD} calls within its window changed no byte of the JWKS");
                self.board.judge(10, problems, said);
            }
        }
        if !judged_again {
            let why = "this machine needs longer than the window of 800 ms for 16 calls";
            self.board.skipped(10, why);
        }
        let word = |judged| {
            if judged {
                "one rotation"
            } else {
                "too slow to judge"
            }
        };
        Ok(format!(
            "when due: {}; repeated: {}",
            word(judged_due),
            word(judged_again)
        ))
    }

    pub(super) fn rotate_by_schedule(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let before = number(&caller.keys()?, "revision");
        let last = self
            .common
            .control
            .wait("an automatic rotation", PATIENCE, || {
                let set = caller.keys().ok()?;
                let last = set.get("last_rotation")?.clone();
                (text(&last, "trigger") == "automatic" && number(&last, "revision") > before)
                    .then_some(last)
            });
        let last = match last {
            Ok(last) => last,
            Err(why) => {
                self.board.broken(3, "the schedule does not rotate");
                return Err(why);
            }
        };
        let (accepted, _, _) = self.show_tokens(&caller, 20);
        Ok(format!(
            "revision {}, {accepted} tokens accepted",
            number(&last, "revision")
        ))
    }

    pub(super) fn preview(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        for _try in 0..TRIES {
            let (store, set, jwks) = (self.look_at_store(), caller.keys()?, caller.jwks()?);
            let known = self.common.history.with(|records| records.tokens.len());
            let answer = caller.admin_get("/admin/v1/keys/preview")?;
            if answer.status != 200 {
                return Err(format!("the preview answered {}", answer.status));
            }
            let body = answer.json();
            let after = caller.keys()?;
            let unchanged = self.look_at_store() == store && after == set && caller.jwks()? == jwks;
            // Our own share of the live tokens; a purge would break these at least.
            let expires_after = self.common.history.wall(answer.answered);
            let live = self.common.history.with(|records| {
                let before = records.tokens.iter().take(known);
                before
                    .filter(|token| token.expires_at > expires_after)
                    .count() as u64
            });
            let shown = number(&body, "live_tokens");
            if !unchanged && number(&set, "revision") != number(&after, "revision") {
                // The schedule did something in between.
                continue;
            }
            let mut problems = problem(!unchanged, || {
                "a preview changed the key set, its file or the JWKS".to_owned()
            });
            problems.extend(problem(shown < live, || {
                format!("the preview says {shown} live tokens, but {live} are")
            }));
            let said =
                format!("{shown} live tokens shown, {live} known; file, keys and JWKS unchanged");
            self.board.judge(19, problems, said.clone());
            return Ok(said);
        }
        self.board
            .skipped(19, "an automatic rotation came between, every time");
        Ok("not exercised: the schedule came between".to_owned())
    }
}

/// The answers to the same Rotate from many threads at the same moment.
struct Crowd {
    answers: Vec<(u16, Value)>,
    last: Instant,
}

impl Crowd {
    fn ask(caller: &Caller) -> Result<Self, String> {
        let barrier = Arc::new(Barrier::new(CROWD));
        let threads: Vec<_> = (0..CROWD)
            .map(|_| {
                let (caller, barrier) = (caller.clone(), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    caller.admin_post(ROTATE, &json!({}))
                })
            })
            .collect();
        let mut crowd = Self {
            answers: Vec::new(),
            last: Instant::now(),
        };
        for thread in threads {
            let died = |_panic| Err("a calling thread died".to_owned());
            let answer = thread.join().unwrap_or_else(died)?;
            crowd.last = crowd.last.max(answer.answered);
            crowd.answers.push((answer.status, answer.json()));
        }
        Ok(crowd)
    }

    /// When the rotations that were answered took place; none if one was refused for now.
    fn dates(&self) -> impl Iterator<Item = Timestamp> {
        let refused = self.answers.iter().any(|(status, _)| *status == 409);
        let answers = self.answers.iter().filter(move |_| !refused);
        answers.filter_map(|(_, body)| moment(text(body, "at")))
    }

    /// They must have got one rotation, and at most `made` of them made it.
    fn problems(&self, made: usize) -> Vec<String> {
        let facts = |body: &Value| {
            ["rotation_id", "kind", "at", "activated", "replaced"]
                .map(|name| text(body, name).to_owned())
        };
        let distinct: BTreeSet<_> = self.answers.iter().map(|(_, body)| facts(body)).collect();
        let changed = |body: &Value| body.get("changed") == Some(&Value::Bool(true));
        let changed = self
            .answers
            .iter()
            .filter(|(_, body)| changed(body))
            .count();
        let mut problems = problem(distinct.len() != 1, || {
            format!(
                "{CROWD} callers within one window got {} different rotations",
                distinct.len()
            )
        });
        problems.extend(problem(changed > made, || {
            format!("{changed} of {CROWD} callers within one window were told that they rotated")
        }));
        problems.extend(problem(
            self.answers.iter().any(|(status, _)| *status != 200),
            || "a concurrent Rotate was answered with an error".to_owned(),
        ));
        problems
    }
}

pub(super) fn problem(is_one: bool, what: impl FnOnce() -> String) -> Vec<String> {
    is_one.then(what).into_iter().collect()
}

/// Keys in the order of an answer, in one state.
pub(super) fn in_state<'a>(set: &'a Value, state: &str) -> Vec<&'a Value> {
    list(set, "keys")
        .iter()
        .filter(|key| text(key, "state") == state)
        .collect()
}
