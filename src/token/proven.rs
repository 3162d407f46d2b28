//! A bounded memory of proven purged tokens: a client that goes on retrying one costs no signature.
//!
//! What is remembered is that the tombstone's key signed exactly these bytes, and their claims;
//! never a verdict: expiry, issuer and the rules of the route are evaluated every time, as if the
//! signature had just been checked. An entry belongs to one death of one key, so a key that was
//! restored and purged again starts empty.

use std::hash::RandomState;
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};

use super::Claims;

/// Most bytes of tokens and claims remembered.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// An entry counts as at least so many bytes, so that there are at most 4,096.
const MIN_ENTRY_BYTES: u64 = 1024;

/// The tokens. Shared by all key sets of a process; its own short shard locks are the only ones.
#[derive(Debug)]
pub struct ProvenTokens {
    entries: Cache<Entry, Arc<Claims>, Weight, RandomState>,
}

/// Hashed under a seed of this process, compared in full.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Entry {
    died_revision: u64,
    token: Box<[u8]>,
}

#[derive(PartialEq, Eq, Hash)]
struct Looked<'a> {
    died_revision: u64,
    token: &'a [u8],
}

impl Equivalent<Entry> for Looked<'_> {
    fn equivalent(&self, entry: &Entry) -> bool {
        self.died_revision == entry.died_revision && *self.token == *entry.token
    }
}

#[derive(Clone, Debug)]
struct Weight;

impl Weighter<Entry, Arc<Claims>> for Weight {
    fn weight(&self, entry: &Entry, _claims: &Arc<Claims>) -> u64 {
        // The claims are the decoded payload, so no longer than the token.
        (2 * entry.token.len() as u64).max(MIN_ENTRY_BYTES)
    }
}

impl ProvenTokens {
    /// An empty memory.
    #[must_use]
    pub fn new() -> Self {
        let entries = usize::try_from(MAX_BYTES / MIN_ENTRY_BYTES).unwrap_or(usize::MAX);
        Self {
            entries: Cache::with(
                entries,
                MAX_BYTES,
                Weight,
                RandomState::new(),
                DefaultLifecycle::default(),
            ),
        }
    }

    /// The claims of `token`, if a key that died at `died_revision` is known to have signed it.
    pub(super) fn get(&self, died_revision: u64, token: &[u8]) -> Option<Arc<Claims>> {
        self.entries.get(&Looked {
            died_revision,
            token,
        })
    }

    /// Remembers a token whose signature was just found good.
    pub(super) fn insert(&self, died_revision: u64, token: &[u8], claims: Arc<Claims>) {
        let entry = Entry {
            died_revision,
            token: Box::from(token),
        };
        self.entries.insert(entry, claims);
    }

    /// Drops the tokens of every key that died at `died_revision`.
    pub fn forget(&self, died_revision: u64) {
        self.entries
            .retain(|entry, _| entry.died_revision != died_revision);
    }

    /// How many tokens are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Default for ProvenTokens {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Arc<Claims> {
        let json = br#"{"iss":"i","sub":"s","client_id":"c","aud":"a","jti":"j","exp":2,"iat":1}"#;
        Arc::new(Claims::parse(json, false).unwrap())
    }

    #[test]
    fn finds_the_same_bytes_of_the_same_death_alone() {
        let proven = ProvenTokens::new();
        proven.insert(7, b"token", claims());
        assert!(proven.get(7, b"token").is_some());
        assert!(proven.get(7, b"token2").is_none());
        assert!(proven.get(8, b"token").is_none());
        proven.insert(8, b"token", claims());
        proven.forget(7);
        assert!(proven.get(7, b"token").is_none());
        assert!(proven.get(8, b"token").is_some());
    }

    #[test]
    fn is_bounded_in_number_and_bytes() {
        let proven = ProvenTokens::new();
        for number in 0..10_000_u32 {
            proven.insert(1, &number.to_be_bytes(), claims());
        }
        assert!((1..=4096).contains(&proven.len()), "{}", proven.len());
        let proven = ProvenTokens::new();
        for number in 0..2000_u32 {
            let mut long = vec![b'x'; 8 * 1024];
            long.extend(number.to_be_bytes());
            proven.insert(1, &long, claims());
        }
        assert!(proven.entries.weight() <= MAX_BYTES);
        // Each counts twice: for the token, and for the claims that it holds.
        let most = MAX_BYTES / (2 * 8 * 1024);
        let long = u64::try_from(proven.len()).unwrap();
        assert!((1..=most).contains(&long), "{long}");
    }
}
