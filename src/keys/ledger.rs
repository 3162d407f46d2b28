//! How many tokens of each key are still alive, and whose they are.
//!
//! Tokens are counted by key and by the minute in which they expire, clients by their last expiry.
//! So a count is an upper bound that is at most one minute too high, and the memory is bounded: for
//! each key at most as many minutes as a token can live, and one entry per client.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::signing_key::Kid;

/// Width of a bucket.
pub const BUCKET: Duration = Duration::from_secs(60);

/// Issued tokens by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    keys: BTreeMap<Kid, KeyLedger>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLedger {
    /// Tokens by the bucket of their expiry.
    buckets: BTreeMap<i64, u64>,
    /// The bucket of the last expiry of each client.
    clients: HashMap<String, i64>,
}

/// Tokens of one key that may still be accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveTokens {
    /// How many, at most.
    pub tokens: u64,
    /// Whose.
    pub clients: Vec<String>,
    /// When the last of them has expired, at the latest; `None` when there is none.
    pub until: Option<Timestamp>,
}

impl Ledger {
    /// Counts a token of `kid` for `client` that expires at `expires_at`.
    pub fn issued(&mut self, kid: &Kid, client: &str, expires_at: Timestamp) {
        if !self.keys.contains_key(kid) {
            self.keys.insert(kid.clone(), KeyLedger::default());
        }
        let Some(key) = self.keys.get_mut(kid) else {
            return;
        };
        let bucket = bucket_of(expires_at);
        let count = key.buckets.entry(bucket).or_default();
        *count = count.saturating_add(1);
        match key.clients.get_mut(client) {
            Some(last) => *last = bucket.max(*last),
            None => drop(key.clients.insert(client.to_owned(), bucket)),
        }
    }

    /// What is alive of `kid` at `now`, given the leeway that verification grants.
    #[must_use]
    pub fn live(&self, kid: &Kid, leeway: Duration, now: Timestamp) -> LiveTokens {
        let Some(key) = self.keys.get(kid) else {
            return LiveTokens::default();
        };
        let alive = |bucket: &i64| end_of(*bucket).plus(leeway) > now;
        let buckets = key.buckets.iter().filter(|(bucket, _)| alive(bucket));
        let mut clients: Vec<String> = key
            .clients
            .iter()
            .filter(|(_, last)| alive(last))
            .map(|(client, _)| client.clone())
            .collect();
        clients.sort_unstable();
        LiveTokens {
            tokens: buckets
                .clone()
                .map(|(_, count)| *count)
                .fold(0, u64::saturating_add),
            clients,
            until: buckets
                .map(|(bucket, _)| end_of(*bucket).plus(leeway))
                .next_back(),
        }
    }

    /// Forgets what has expired; keys without a live token go altogether.
    pub fn prune(&mut self, leeway: Duration, now: Timestamp) {
        for key in self.keys.values_mut() {
            key.buckets
                .retain(|bucket, _| end_of(*bucket).plus(leeway) > now);
            key.clients
                .retain(|_, last| end_of(*last).plus(leeway) > now);
        }
        self.keys.retain(|_, key| !key.buckets.is_empty());
    }
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
            (1, vec!["a".to_owned()])
        );
        assert_eq!(live(&ledger, 250), LiveTokens::default());
        ledger.prune(leeway, Timestamp::from_seconds(250));
        assert_eq!(ledger, Ledger::default());
        assert_eq!(
            ledger.live(&kid("other"), leeway, Timestamp::from_seconds(0)),
            LiveTokens::default()
        );
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
