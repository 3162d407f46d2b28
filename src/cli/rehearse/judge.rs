//! The verdicts that rest on the whole history: every call of every client, every look at the key
//! set.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::control::lock;
use super::history::{Call, Fate, History, Outcome, Records, Token};
use super::json::moment;
use super::sightings::Sightings;
use super::stage::PREPUBLISH;
use super::verdict::Board;

pub(super) fn judge(history: &History, board: &mut Board) {
    let mut calls = Calls::default();
    history.with(|records| {
        for call in &records.calls {
            if let Some(token) = records.tokens.get(call.token) {
                calls.judge(history, records, token, call);
            }
        }
        calls.conclude(records, board);
        tokens(history, records, board);
    });
    key_sets(history, board);
}

/// Counts of judged calls.
#[derive(Debug, Default)]
struct Calls {
    accepted: u64,
    refused: u64,
    open: u64,
    problems: Vec<(u8, String)>,
}

impl Calls {
    fn judge(&mut self, history: &History, records: &Records, token: &Token, call: &Call) {
        let mut broken = |number, problem| self.problems.push((number, problem));
        let at = history.wall(call.sent);
        let kid = &token.kid;
        let status = match call.outcome {
            Outcome::Silence if records.was_down(call.sent, call.answered) => return,
            Outcome::Silence => return broken(3, format!("a call at {at} got no answer")),
            Outcome::Purged => 401,
            Outcome::Status(status) => status,
        };
        if !matches!(status, 200 | 401) {
            return broken(3, format!("a call at {at} was answered {status}"));
        }
        let fate = records.fate(kid, call.sent, call.answered);
        let expired = history.had_expired(token, call);
        match (fate, expired, call.outcome) {
            (Fate::Alive, Some(false), Outcome::Status(200)) => self.accepted += 1,
            (Fate::Alive, Some(false), _) => broken(
                3,
                format!(
                    "a good token of {kid} was refused at {at}, although nothing had purged its key"
                ),
            ),
            (Fate::Dead(since), _, Outcome::Status(200)) if since < call.life => broken(
                7,
                format!("a token of the purged key {kid} was accepted at {at}, after a restart"),
            ),
            (Fate::Dead(_), _, Outcome::Status(200)) => broken(
                5,
                format!(
                    "a token of the purged key {kid} was accepted at {at}, after the purge had answered"
                ),
            ),
            (Fate::Dead(_), Some(false), Outcome::Purged) => self.refused += 1,
            (Fate::Dead(_), Some(false), _) => broken(
                15,
                format!(
                    "a token that only the purge of {kid} broke was refused at {at} for another reason"
                ),
            ),
            (_, Some(true), Outcome::Status(200)) => {
                broken(3, format!("an expired token of {kid} was accepted at {at}"));
            }
            (Fate::Alive, _, Outcome::Purged) => broken(
                15,
                format!("a token of {kid} was refused at {at} for a purge that never was"),
            ),
            _ => self.open += 1,
        }
    }

    fn conclude(self, records: &Records, board: &mut Board) {
        let has = |number| self.problems.iter().any(|(broken, _)| *broken == number);
        if !has(3) && self.accepted > 0 {
            board.held(
                3,
                format!("{} calls with good tokens, all accepted; {} judged by nobody, being near a purge or an expiry",
                    self.accepted, self.open),
            );
        }
        if !has(5) && !has(7) && self.refused > 0 {
            let purges = records.turns.iter().filter(|turn| turn.dead).count();
            board.held(
                5,
                format!(
                    "{} calls with tokens of purged keys after {purges} purges, all refused",
                    self.refused
                ),
            );
        }
        for (number, problem) in self.problems {
            board.broken(number, problem);
        }
    }
}

/// Who signed which token when, and until when the key verifies.
fn tokens(history: &History, records: &Records, board: &mut Board) {
    let sightings = lock(&history.sightings);
    let mut late = 0;
    let mut ends: HashMap<&Arc<str>, u64> = HashMap::new();
    for token in &records.tokens {
        let kid = &token.kid;
        match records.fate(kid, token.sent, token.answered) {
            Fate::Dead(since) => {
                let number = if since < token.life { 7 } else { 5 };
                let at = history.wall(token.sent);
                board.broken(
                    number,
                    format!("a token was issued by the purged key {kid} at {at}"),
                );
                late += 1;
            }
            Fate::Alive | Fate::Either => {}
        }
        let until = sightings
            .keys
            .get(kid)
            .and_then(|facts| facts.verify_until.as_deref());
        if let Some(until) = until.and_then(moment) {
            *ends.entry(kid).or_default() += 1;
            if token.expires_at > until {
                let expires = token.expires_at;
                board.broken(
                    4,
                    format!("{kid} signed a token until {expires}, but verifies until {until}"),
                );
            }
        }
    }
    let moved = sightings
        .keys
        .iter()
        .filter_map(|(kid, facts)| Some((kid, facts.moved.clone()?)));
    for (kid, (before, after)) in moved {
        board.broken(
            4,
            format!("verify_until of {kid} moved from {before} to {after}"),
        );
    }
    if late == 0 && !records.turns.is_empty() {
        board.held(
            5,
            format!(
                "{} tokens issued, none by a purged key",
                records.tokens.len()
            ),
        );
    }
    if !ends.is_empty() {
        let tokens: u64 = ends.values().sum();
        board.held(
            4,
            format!(
                "{tokens} tokens of {} rotated-out keys end before their key",
                ends.len()
            ),
        );
    }
    for (status, at) in &records.unissued {
        if !records.was_down(*at, *at + Duration::from_secs(1)) {
            let at = history.wall(*at);
            board.broken(
                3,
                format!("a request for a token at {at} was answered {status}"),
            );
        }
    }
}

/// One signer, publication age, and the dead in no list.
fn key_sets(history: &History, board: &mut Board) {
    let sightings = lock(&history.sightings);
    let odd = sightings
        .revisions
        .iter()
        .filter(|(_, signers)| **signers != (1, 1));
    let odd: Vec<String> = odd
        .map(|(revision, (active, pending))| {
            format!("revision {revision} shows {active} active and {pending} pending keys")
        })
        .collect();
    if !sightings.revisions.is_empty() {
        board.judge(
            1,
            odd,
            format!(
                "{} revisions seen, one active and one pending key in each",
                sightings.revisions.len()
            ),
        );
    }
    ages(&sightings, board);
    history.with(|records| {
        let mut missing: BTreeSet<String> = BTreeSet::new();
        let mut revived: BTreeSet<String> = BTreeSet::new();
        for (list, what) in [(&sightings.live, "GET keys"), (&sightings.jwks, "the JWKS")] {
            for shown in list {
                for kid in shown.kids.iter() {
                    if let Fate::Dead(_) = records.fate(kid, shown.sent, shown.answered) {
                        revived.insert(format!(
                            "{what} showed the purged key {kid} at {}",
                            history.wall(shown.sent)
                        ));
                    }
                }
            }
        }
        for shown in &sightings.jwks {
            for (kid, facts) in &sightings.keys {
                let known = facts.seen.is_some_and(|seen| seen < shown.sent);
                let alive = known
                    && records.fate(kid, shown.sent, shown.answered) == Fate::Alive
                    && !sightings.tombstones.contains_key(kid);
                if alive && !shown.kids.contains(kid) {
                    missing.insert(format!(
                        "the JWKS at {} lacks the live key {kid}",
                        history.wall(shown.sent)
                    ));
                }
            }
        }
        if !sightings.jwks.is_empty() && !sightings.rotated_in.is_empty() {
            board.judge(
                11,
                missing.into_iter().collect(),
                format!(
                    "{} JWKS answers held every key that was published before them",
                    sightings.jwks.len()
                ),
            );
        }
        for problem in revived {
            board.broken(8, problem);
        }
    });
}

/// A key that was rotated in had stood published for `prepublish`; `init` alone may be quicker,
/// because no JWKS answer came before it.
fn ages(sightings: &Sightings, board: &mut Board) {
    let first = sightings
        .keys
        .values()
        .filter_map(|facts| moment(&facts.published_at))
        .min();
    let mut youngest: Option<Duration> = None;
    let mut problems = Vec::new();
    for kid in &sightings.rotated_in {
        let Some(facts) = sightings.keys.get(kid) else {
            continue;
        };
        let activated = facts.activated_at.as_deref().and_then(moment);
        let (Some(published), Some(activated)) = (moment(&facts.published_at), activated) else {
            continue;
        };
        if Some(published) == first {
            continue;
        }
        let age = activated.since(published);
        youngest = Some(youngest.map_or(age, |least| least.min(age)));
        if age < PREPUBLISH {
            problems.push(format!(
                "{kid} signed {} ms after its publication",
                age.as_millis()
            ));
        }
    }
    if let Some(youngest) = youngest {
        let said = format!(
            "{} keys rotated in, {} by the schedule; the youngest stood published for {} ms",
            sightings.rotated_in.len(),
            sightings.automatic.len(),
            youngest.as_millis()
        );
        board.judge(11, problems, said);
    }
}
