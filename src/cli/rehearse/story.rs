//! The story of rotations: by hand, repeated, by sixteen callers at once, by the schedule; the
//! preview; tokens that nobody issued.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};

use super::calls::{Answer, Caller};
use super::history::Outcome;
use super::json::{encoded, list, moment, number, part, text};
use super::stage::{PATIENCE, ROTATE, Stage, WINDOW, listed, parsed};

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
        let known = listed(&parsed(&rotated.jwks_before));
        self.board.judge(
            11,
            problem(!known.iter().any(|kid| **kid == *new), || {
                format!("the JWKS right before the rotation lacks the key {new} that it activated")
            }),
            "the JWKS right before a rotation held the key that it activated",
        );
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

    /// Sixteen callers when a rotation is due, and sixteen more within its window.
    pub(super) fn rotate_by_a_crowd(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        for _try in 0..TRIES {
            self.wait_for_window(&caller)?;
            let first = crowd(&caller, &json!({}))?;
            let jwks = caller.jwks()?;
            let again = crowd(&caller, &json!({}))?;
            let same_jwks = caller.jwks()? == jwks;
            let set = caller.keys()?;
            let answers: Vec<(u16, Value)> = first
                .iter()
                .chain(&again)
                .map(|answer| (answer.status, answer.json()))
                .collect();
            let last = again.iter().map(|answer| answer.answered).max();
            let at = answers
                .iter()
                .filter_map(|(_, body)| moment(text(body, "at")))
                .max();
            let (Some(last), Some(at)) = (last, at) else {
                continue;
            };
            let in_time =
                self.common.history.wall(last) < at.plus(WINDOW - Duration::from_millis(50));
            // A pending key that was too young, or a machine too slow to ask all within the window.
            if !in_time || answers.iter().any(|(status, _)| *status == 409) {
                continue;
            }
            let facts = |body: &Value| {
                ["rotation_id", "kind", "at", "activated", "replaced"]
                    .map(|name| text(body, name).to_owned())
            };
            let distinct: BTreeSet<_> = answers.iter().map(|(_, body)| facts(body)).collect();
            let changed = |bodies: &[(u16, Value)]| {
                let done = bodies
                    .iter()
                    .filter(|(_, body)| body.get("changed") == Some(&Value::Bool(true)));
                done.count()
            };
            let (early, late) = answers.split_at(CROWD);
            let mut problems = problem(distinct.len() != 1, || {
                format!(
                    "{} callers within one window got {} different rotations",
                    answers.len(),
                    distinct.len()
                )
            });
            problems.extend(problem(changed(early) > 1, || {
                format!(
                    "{} of {CROWD} concurrent callers were told that they rotated",
                    changed(early)
                )
            }));
            problems.extend(problem(changed(late) > 0, || {
                format!(
                    "{} repeated calls within the window rotated again",
                    changed(late)
                )
            }));
            problems.extend(problem(
                answers.iter().any(|(status, _)| *status != 200),
                || "a concurrent Rotate was answered with an error".to_owned(),
            ));
            problems.extend(problem(!same_jwks, || {
                format!(
                    "repeated calls changed the JWKS, at revision {}",
                    number(&set, "revision")
                )
            }));
            let said = format!("{} callers at once, one rotation, one JWKS", answers.len());
            self.board.judge(10, problems, said.clone());
            return Ok(said);
        }
        self.board.skipped(
            10,
            format!(
                "this machine took longer than the window of 800 ms for {} calls, {TRIES} times",
                2 * CROWD
            ),
        );
        Ok("not exercised: the machine is too slow".to_owned())
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

    /// Tokens that nobody issued: unknown kid, another algorithm, a changed claim, a signature of
    /// another token, and the same under a purged kid if there is one.
    pub(super) fn forge(&mut self) -> Result<String, String> {
        let caller = self.caller()?;
        let real = [caller.issue()?, caller.issue()?];
        let [Some(one), Some(other)] = real.map(|index| self.common.history.token(index)) else {
            return Err("no token to forge from".to_owned());
        };
        let dead = self.common.history.with(|records| {
            let dead = records.dead_now();
            records
                .tokens
                .iter()
                .rev()
                .find(|token| dead.contains(&token.kid))
                .cloned()
        });
        let mut forged = forgeries(&one.text, &other.text);
        if let Some(dead) = dead {
            let mine = forgeries(&dead.text, &other.text).into_iter();
            forged.extend(mine.filter(|(what, _)| *what != "an unknown kid"));
        }
        let mut refused = 0;
        for (what, compact) in &forged {
            match caller.show_forged(compact) {
                Outcome::Status(401) => refused += 1,
                outcome => self
                    .board
                    .broken(16, format!("a token with {what} got {outcome:?}")),
            }
        }
        self.board.judge(
            16,
            Vec::new(),
            format!("{refused} of {} forged tokens refused", forged.len()),
        );
        Ok(format!("{refused} of {} refused", forged.len()))
    }
}

fn forgeries(one: &str, other: &str) -> Vec<(&'static str, String)> {
    let cut = |token: &str| {
        token
            .rsplit_once('.')
            .map(|(body, end)| (body.to_owned(), end.to_owned()))
    };
    let (Some((body, signature)), Some((_, foreign))) = (cut(one), cut(other)) else {
        return Vec::new();
    };
    let with = |header: &Value, claims: &Value| {
        format!("{}.{}.{signature}", encoded(header), encoded(claims))
    };
    let (header, claims) = (part(one, 0), part(one, 1));
    let change = |value: &Value, name: &str, to: &str| {
        let mut changed = value.clone();
        if let Some(members) = changed.as_object_mut() {
            members.insert(name.to_owned(), json!(to));
        }
        changed
    };
    let mut forged = vec![
        (
            "an unknown kid",
            with(&change(&header, "kid", "nobody-has-this-key"), &claims),
        ),
        (
            "a changed claim",
            with(&header, &change(&claims, "sub", "root")),
        ),
        (
            "the signature of another token",
            format!("{body}.{foreign}"),
        ),
    ];
    for alg in ["none", "HS256", "ES256", "RS256", "EdDSA"] {
        if alg != text(&header, "alg") {
            forged.push((
                "another algorithm",
                with(&change(&header, "alg", alg), &claims),
            ));
        }
    }
    forged
}

/// The same call from many threads at the same moment.
fn crowd(caller: &Caller, body: &Value) -> Result<Vec<Answer>, String> {
    let barrier = Arc::new(Barrier::new(CROWD));
    let threads: Vec<_> = (0..CROWD)
        .map(|_| {
            let (caller, body, barrier) = (caller.clone(), body.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                caller.admin_post(ROTATE, &body)
            })
        })
        .collect();
    let ended = threads.into_iter().map(|thread| {
        let died = |_panic| Err("a calling thread died".to_owned());
        thread.join().unwrap_or_else(died)
    });
    ended.collect()
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
