//! How many tokens of each key are still alive, and whose they are.
//!
//! Tokens are counted by key and by the minute in which they expire, clients by their last expiry.
//! So a count is an upper bound that is at most one minute too high.
//!
//! Memory is bounded: for each key at most as many minutes as a token can live (24 h: 1,441
//! numbers, and as many again for clients without a place), and [`MAX_PAIRS`] pairs of key and
//! client with [`MAX_NAME_BYTES`] of names, of all keys together: about 20 MiB. A client beyond
//! that gets no place of its own; each of its tokens then counts as one client more, so that the
//! number of clients stays an upper bound, and [`LiveTokens::unlisted`] says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::signing_key::Kid;

/// Width of a bucket.
pub const BUCKET: Duration = Duration::from_secs(60);

/// Most pairs of key and client that have a place, of all keys together.
pub const MAX_PAIRS: usize = 100_000;

/// Most bytes of their names together, so that the stored document stays below its limit of 16 MiB.
pub const MAX_NAME_BYTES: usize = 4 * 1024 * 1024;

/// Issued tokens by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    keys: BTreeMap<Kid, KeyLedger>,
    #[serde(skip)]
    taken: Taken,
}

/// What of the bounds is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    pairs: usize,
    name_bytes: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLedger {
    /// Tokens by the bucket of their expiry.
    buckets: BTreeMap<i64, u64>,
    /// The bucket of the last expiry of each client.
    clients: HashMap<Arc<str>, i64>,
    /// Of the tokens in `buckets`, those whose client got no place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unlisted: BTreeMap<i64, u64>,
}

/// Tokens of one key that may still be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTokens {
    /// How many, at most.
    pub tokens: u64,
    /// Whose.
    pub clients: Vec<Arc<str>>,
    /// How many of the tokens belong to clients beyond the memory bound, which `clients` leaves
    /// out: at most so many further clients.
    pub unlisted: u64,
    /// When the last of them has expired, at the latest; `None` when there is none.
    pub until: Option<Timestamp>,
}

impl Ledger {
    /// A ledger as an earlier process wrote it.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut ledger: Self = serde_json::from_slice(bytes)?;
        ledger.recount();
        Ok(ledger)
    }

    /// Counts a token of `kid` for `client` that expires at `expires_at`.
    pub fn issued(&mut self, kid: &Kid, client: &str, expires_at: Timestamp) {
        if !self.keys.contains_key(kid) {
            self.keys.insert(kid.clone(), KeyLedger::default());
        }
        let Some(key) = self.keys.get_mut(kid) else {
            return;
        };
        let bucket = bucket_of(expires_at);
        add(&mut key.buckets, bucket);
        match key.clients.get_mut(client) {
            Some(last) => *last = bucket.max(*last),
            None if self.taken.admits(client) => {
                self.taken.add(client);
                key.clients.insert(Arc::from(client), bucket);
            }
            None => add(&mut key.unlisted, bucket),
        }
    }

    /// What is alive of `kid` at `now`, given the leeway that verification grants.
    #[must_use]
    pub fn live(&self, kid: &Kid, leeway: Duration, now: Timestamp) -> LiveTokens {
        let Some(key) = self.keys.get(kid) else {
            return LiveTokens::default();
        };
        let alive = |bucket: i64| end_of(bucket).plus(leeway) > now;
        let mut clients: Vec<Arc<str>> = key
            .clients
            .iter()
            .filter(|(_, last)| alive(**last))
            .map(|(client, _)| Arc::clone(client))
            .collect();
        clients.sort_unstable();
        LiveTokens {
            tokens: self.live_count(kid, leeway, now),
            clients,
            unlisted: sum(&key.unlisted, alive),
            until: key
                .buckets
                .keys()
                .next_back()
                .filter(|last| alive(**last))
                .map(|last| end_of(*last).plus(leeway)),
        }
    }

    /// [`LiveTokens::tokens`] alone.
    #[must_use]
    pub fn live_count(&self, kid: &Kid, leeway: Duration, now: Timestamp) -> u64 {
        self.keys.get(kid).map_or(0, |key| {
            sum(&key.buckets, |bucket| end_of(bucket).plus(leeway) > now)
        })
    }

    /// Whether `client` holds a live token of `kid`, as far as it has a place.
    #[must_use]
    pub fn holds(&self, kid: &Kid, client: &str, leeway: Duration, now: Timestamp) -> bool {
        let last = self.keys.get(kid).and_then(|key| key.clients.get(client));
        last.is_some_and(|last| end_of(*last).plus(leeway) > now)
    }

    /// Forgets what has expired; keys without a live token go altogether.
    pub fn prune(&mut self, leeway: Duration, now: Timestamp) {
        let alive = |bucket: i64| end_of(bucket).plus(leeway) > now;
        for key in self.keys.values_mut() {
            key.buckets.retain(|bucket, _| alive(*bucket));
            key.unlisted.retain(|bucket, _| alive(*bucket));
            key.clients.retain(|_, last| alive(*last));
        }
        self.keys.retain(|_, key| !key.buckets.is_empty());
        self.recount();
    }

    fn recount(&mut self) {
        self.taken = Taken::default();
        for client in self.keys.values().flat_map(|key| key.clients.keys()) {
            self.taken.add(client);
        }
    }
}

impl Taken {
    const fn admits(self, name: &str) -> bool {
        self.pairs < MAX_PAIRS && self.name_bytes.saturating_add(name.len()) <= MAX_NAME_BYTES
    }

    const fn add(&mut self, name: &str) {
        self.pairs = self.pairs.saturating_add(1);
        self.name_bytes = self.name_bytes.saturating_add(name.len());
    }
}

fn add(buckets: &mut BTreeMap<i64, u64>, bucket: i64) {
    let count = buckets.entry(bucket).or_default();
    *count = count.saturating_add(1);
}

fn sum(buckets: &BTreeMap<i64, u64>, alive: impl Fn(i64) -> bool) -> u64 {
    buckets
        .iter()
        .filter(|(bucket, _)| alive(**bucket))
        .map(|(_, count)| *count)
        .fold(0, u64::saturating_add)
}

const BUCKET_MILLIS: i64 = 60_000;

const fn bucket_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(BUCKET_MILLIS)
}

/// The first moment after the bucket.
const fn end_of(bucket: i64) -> Timestamp {
    Timestamp::from_millis(bucket.saturating_add(1).saturating_mul(BUCKET_MILLIS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kid(name: &str) -> Kid {
        name.parse().unwrap()
    }

    #[test]
    fn counts_tokens_and_clients_until_they_expire() {
        let mut ledger = Ledger::default();
        let leeway = Duration::from_secs(10);
        ledger.issued(&kid("k"), "a", Timestamp::from_seconds(100));
        ledger.issued(&kid("k"), "a", Timestamp::from_seconds(200));
        ledger.issued(&kid("k"), "b", Timestamp::from_seconds(100));
        let live =
            |ledger: &Ledger, now| ledger.live(&kid("k"), leeway, Timestamp::from_seconds(now));
        let now = live(&ledger, 0);
        assert_eq!((now.tokens, now.clients.len()), (3, 2));
        assert_eq!(now.until, Some(Timestamp::from_seconds(250)));
        assert_eq!(live(&ledger, 129).tokens, 3);
        assert_eq!(
            (live(&ledger, 130).tokens, live(&ledger, 130).clients),
            (1, vec![Arc::from("a")])
        );
        assert_eq!(live(&ledger, 250), LiveTokens::default());
        for (client, last) in [("b", 129), ("a", 249)] {
            let holds = |now| ledger.holds(&kid("k"), client, leeway, Timestamp::from_seconds(now));
            assert!(holds(last) && !holds(last + 1), "{client}");
        }
        assert!(!ledger.holds(&kid("k"), "c", leeway, Timestamp::from_seconds(0)));
        ledger.prune(leeway, Timestamp::from_seconds(250));
        assert_eq!(ledger, Ledger::default());
        assert_eq!(
            ledger.live(&kid("other"), leeway, Timestamp::from_seconds(0)),
            LiveTokens::default()
        );
    }

    #[test]
    fn inv19_clients_beyond_the_bound_still_count() {
        let mut ledger = Ledger::default();
        let at = Timestamp::from_seconds(600);
        // Names so long that their bytes run out before the places do.
        let long = |number: usize| format!("{number:0>128}");
        let most = MAX_NAME_BYTES / 128;
        for number in 0..most {
            ledger.issued(&kid("k"), &long(number), at);
        }
        ledger.issued(&kid("other"), &long(0), at);
        for number in [most, most, most + 1, 0] {
            ledger.issued(&kid("k"), &long(number), at);
        }
        let live = |ledger: &Ledger, kid_of: &str, now| {
            ledger.live(&kid(kid_of), Duration::ZERO, Timestamp::from_seconds(now))
        };
        let now = live(&ledger, "k", 0);
        assert_eq!((now.clients.len(), now.unlisted), (most, 3));
        assert!(now.clients.len() as u64 + now.unlisted >= most as u64 + 2);
        let other = live(&ledger, "other", 0);
        assert_eq!(
            (other.clients.len(), other.unlisted, other.tokens),
            (0, 1, 1)
        );

        let bytes = serde_json::to_vec(&ledger).unwrap();
        assert!(bytes.len() < 12 * 1024 * 1024, "{}", bytes.len());
        assert_eq!(Ledger::from_json(&bytes).unwrap(), ledger);
        // What runs out makes room.
        ledger.prune(Duration::ZERO, Timestamp::from_seconds(700));
        assert_eq!(ledger, Ledger::default());
        ledger.issued(&kid("k"), "a", Timestamp::from_seconds(800));
        assert_eq!(live(&ledger, "k", 700).clients.len(), 1);
    }

    proptest! {
        /// Never too low, and never more than one bucket too high.
        #[test]
        fn inv19_counts_are_upper_bounds_within_one_bucket(
            expiries in prop::collection::vec(0..100_000i64, 0..200),
            now in 0..100_000i64,
            leeway in 0..60u64,
        ) {
            let mut ledger = Ledger::default();
            for (index, expiry) in expiries.iter().enumerate() {
                ledger.issued(&kid("k"), &format!("c{}", index % 7), Timestamp::from_seconds(*expiry));
            }
            let leeway = Duration::from_secs(leeway);
            let now = Timestamp::from_seconds(now);
            let alive_at = |at: Timestamp| {
                expiries.iter().filter(|expiry| Timestamp::from_seconds(**expiry).plus(leeway) > at).count() as u64
            };
            let before = ledger.live(&kid("k"), leeway, now);
            prop_assert!(before.tokens >= alive_at(now));
            prop_assert!(before.tokens <= alive_at(now.minus(BUCKET)));
            ledger.prune(leeway, now);
            prop_assert_eq!(ledger.live(&kid("k"), leeway, now), before);
        }
    }
}
