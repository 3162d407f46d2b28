//! Results kept under the caller's `Idempotency-Key`, in the same commit as what they report.
//!
//! A repeated call with the same key gets the stored result, also after a restart; a call that
//! committed nothing stores nothing, so it is simply judged again. Bounded by age and by actor.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Timestamp;

use super::audit::Actor;
use super::key_set::{Activation, KeySet};

/// How long a result is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Most results that are kept for one actor.
pub const MAX_PER_ACTOR: usize = 256;

/// Longest key in characters.
pub const MAX_KEY_CHARS: usize = 64;

/// A caller's name for one attempt.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("minLength" = 1, "maxLength" = MAX_KEY_CHARS, "pattern" = "^[!-~]+$"))]
pub struct IdempotencyKey(String);

/// A text that is no idempotency key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an Idempotency-Key is 1 to {MAX_KEY_CHARS} visible ASCII characters; a UUID does well")]
pub struct IdempotencyKeyError;

impl FromStr for IdempotencyKey {
    type Err = IdempotencyKeyError;

    fn from_str(text: &str) -> Result<Self, IdempotencyKeyError> {
        let fits = (1..=MAX_KEY_CHARS).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdempotencyKeyError)
        }
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = IdempotencyKeyError;

    fn try_from(text: String) -> Result<Self, IdempotencyKeyError> {
        text.parse()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a call with an idempotency key says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The key.
    pub key: IdempotencyKey,
    /// Method and path; the same key on another endpoint is another one.
    pub operation: String,
    /// Digest of the body; another body under the same key is an error of the caller.
    pub body_digest: String,
}

/// A result that a repeated call gets again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredResult {
    /// Who called.
    pub actor: Actor,
    /// How.
    pub claim: Claim,
    /// What came of it.
    pub activation: Activation,
}

/// What is known of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalled<'a> {
    /// Nothing: it is a first call.
    Nothing,
    /// The result of the first call.
    Result(&'a StoredResult),
    /// The first call had another body.
    OtherBody,
}

/// Looks for the result of an earlier call.
#[must_use]
pub fn recall<'a>(set: &'a KeySet, actor: &Actor, claim: &Claim, now: Timestamp) -> Recalled<'a> {
    let same = |stored: &&StoredResult| {
        stored.actor == *actor
            && stored.claim.key == claim.key
            && stored.claim.operation == claim.operation
    };
    match kept(&set.idempotency, now).find(same) {
        None => Recalled::Nothing,
        Some(stored) if stored.claim.body_digest == claim.body_digest => Recalled::Result(stored),
        Some(_) => Recalled::OtherBody,
    }
}

/// When the actor may store a result again; `None` when it may now.
#[must_use]
pub fn full_until(set: &KeySet, actor: &Actor, now: Timestamp) -> Option<Timestamp> {
    let own = || kept(&set.idempotency, now).filter(|stored| stored.actor == *actor);
    if own().count() < MAX_PER_ACTOR {
        return None;
    }
    own().map(ends_at).min()
}

/// The results of `set` that are not too old, with a new one in front, if there is room for it.
pub(super) fn remember(
    set: &KeySet,
    actor: &Actor,
    claim: Option<&Claim>,
    activation: &Activation,
    now: Timestamp,
) -> Vec<StoredResult> {
    let new = claim
        .filter(|_| full_until(set, actor, now).is_none())
        .map(|claim| StoredResult {
            actor: actor.clone(),
            claim: claim.clone(),
            activation: activation.clone(),
        });
    new.into_iter()
        .chain(kept(&set.idempotency, now).cloned())
        .collect()
}

fn kept(stored: &[StoredResult], now: Timestamp) -> impl Iterator<Item = &StoredResult> {
    stored.iter().filter(move |stored| now < ends_at(stored))
}

fn ends_at(stored: &StoredResult) -> Timestamp {
    stored.activation.at.plus(KEPT_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bounded() {
        for good in ["a", "0b9f3f2e-7a5e-4d57-a1d9-ad2b0a4b7ad7", &"x".repeat(64)] {
            assert!(good.parse::<IdempotencyKey>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\tb", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(IdempotencyKeyError));
        }
    }
}
