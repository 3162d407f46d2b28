//! Whom a purge broke, and who is back: the records that outlive the process.
//!
//! A client is *affected* by a purge from the first request that was refused for it alone. It has
//! *recovered* with the first request accepted after its last failure; a further failure, by
//! another instance of the client for example, takes that back.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

use super::signing_key::Kid;

/// The document beside the key set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryDocument {
    /// Purges, newest first.
    pub receipts: Vec<ReceiptRecord>,
    /// What became of the clients of each purged key.
    pub keys: Vec<KeyRecoveryRecord>,
}

/// What is kept of the receipt of a purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRecord {
    /// Identifier of the purge.
    pub purge_id: Uuid,
    /// Revision that it made.
    pub revision: u64,
    /// When it was committed.
    pub committed_at: Timestamp,
    /// Keys that died.
    pub kids: Vec<Kid>,
    /// Until when verifiers elsewhere may go on accepting from a cached JWKS.
    pub external_verifiers_until: Timestamp,
    /// When the last holder was gone; `None` while one was left.
    pub drained_at: Option<Timestamp>,
}

/// The clients that the end of one key broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecoveryRecord {
    /// The key.
    pub kid: Kid,
    /// The purge that ended it.
    pub purge_id: Uuid,
    /// When.
    pub died_at: Timestamp,
    /// Failures of clients that got no place of their own.
    pub unlisted_failures: u64,
    /// Whether somebody signs with it although it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<CompromisedUses>,
    /// By client.
    pub clients: BTreeMap<Arc<str>, ClientRecovery>,
}

/// Requests with tokens that a purged key signed so late that nobody legitimate can have: whoever
/// sent them has its private half, or knows who has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompromisedUses {
    /// How many.
    pub uses: u64,
    /// The first.
    pub first_at: Timestamp,
    /// The last.
    pub last_at: Timestamp,
}

impl CompromisedUses {
    /// Those of two keys together.
    #[must_use]
    fn and(self, other: Self) -> Self {
        Self {
            uses: self.uses.saturating_add(other.uses),
            first_at: self.first_at.min(other.first_at),
            last_at: self.last_at.max(other.last_at),
        }
    }
}

/// One client and one purge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecovery {
    /// First request refused only because of the purge.
    pub first_failure_at: Timestamp,
    /// Last one.
    pub last_failure_at: Timestamp,
    /// How many.
    pub failures: u64,
    /// When it was first issued a token after the first failure, or, if it had one since the purge
    /// already, that token's date of issue.
    pub new_token_at: Option<Timestamp>,
    /// First request accepted after the last failure.
    pub recovered_at: Option<Timestamp>,
}

impl ClientRecovery {
    /// Adds what the same client met under another key of the same purge.
    fn merge(&mut self, other: &Self) {
        self.first_failure_at = self.first_failure_at.min(other.first_failure_at);
        self.last_failure_at = self.last_failure_at.max(other.last_failure_at);
        self.failures = self.failures.saturating_add(other.failures);
        self.new_token_at = match (self.new_token_at, other.new_token_at) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
        self.recovered_at = self
            .recovered_at
            .zip(other.recovered_at)
            .map(|(one, two)| one.max(two));
    }
}

/// What a purge did to clients, over all its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeRecovery {
    /// By client.
    pub clients: BTreeMap<Arc<str>, ClientRecovery>,
    /// Failures of clients beyond the memory bound, which `clients` leaves out.
    pub unlisted_failures: u64,
    /// Uses of its keys by whoever has stolen them.
    pub compromised: Option<CompromisedUses>,
}

/// The sums of a [`PurgeRecovery`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverySums {
    /// Clients with at least one failure.
    pub affected: u64,
    /// Of those, issued a token since.
    pub got_new_token: u64,
    /// Of those affected, accepted since their last failure.
    pub recovered: u64,
    /// Failures of all of them.
    pub failures: u64,
}

impl PurgeRecovery {
    /// The clients of one purge, from the records of its keys.
    #[must_use]
    pub fn of(records: impl IntoIterator<Item = KeyRecoveryRecord>) -> Self {
        let mut all = Self::default();
        for record in records {
            all.unlisted_failures = all
                .unlisted_failures
                .saturating_add(record.unlisted_failures);
            all.compromised = match (all.compromised, record.compromised) {
                (Some(one), Some(two)) => Some(one.and(two)),
                (one, two) => one.or(two),
            };
            for (client, recovery) in record.clients {
                match all.clients.get_mut(&client) {
                    Some(known) => known.merge(&recovery),
                    None => drop(all.clients.insert(client, recovery)),
                }
            }
        }
        all
    }

    /// The sums.
    #[must_use]
    pub fn sums(&self) -> RecoverySums {
        let mut sums = RecoverySums::default();
        for client in self.clients.values() {
            sums.affected += 1;
            sums.got_new_token += u64::from(client.new_token_at.is_some());
            sums.recovered += u64::from(client.recovered_at.is_some());
            sums.failures = sums.failures.saturating_add(client.failures);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(first: i64, last: i64, token: Option<i64>, back: Option<i64>) -> ClientRecovery {
        ClientRecovery {
            first_failure_at: Timestamp::from_seconds(first),
            last_failure_at: Timestamp::from_seconds(last),
            failures: 2,
            new_token_at: token.map(Timestamp::from_seconds),
            recovered_at: back.map(Timestamp::from_seconds),
        }
    }

    fn key(kid: &str, clients: &[(&str, ClientRecovery)]) -> KeyRecoveryRecord {
        KeyRecoveryRecord {
            kid: kid.parse().unwrap(),
            purge_id: Uuid::nil(),
            died_at: Timestamp::from_seconds(0),
            unlisted_failures: 1,
            compromised: None,
            clients: clients
                .iter()
                .map(|(name, of)| (Arc::from(*name), of.clone()))
                .collect(),
        }
    }

    #[test]
    fn uses_of_two_stolen_keys_are_those_of_one_purge() {
        let used = |uses, first, last| {
            Some(CompromisedUses {
                uses,
                first_at: Timestamp::from_seconds(first),
                last_at: Timestamp::from_seconds(last),
            })
        };
        let with = |compromised| KeyRecoveryRecord {
            compromised,
            ..key("k", &[])
        };
        assert_eq!(PurgeRecovery::of([with(None)]).compromised, None);
        let both = PurgeRecovery::of([with(used(2, 5, 9)), with(None), with(used(1, 3, 3))]);
        assert_eq!(both.compromised, used(3, 3, 9));
        // What an earlier version wrote is read.
        let old = r#"{"kid":"k","purge_id":"00000000-0000-0000-0000-000000000000","died_at":0,"unlisted_failures":1,"clients":{}}"#;
        let old: KeyRecoveryRecord = serde_json::from_str(old).unwrap();
        assert_eq!(old, key("k", &[]));
    }

    #[test]
    fn a_client_of_two_keys_is_one_client() {
        let both = PurgeRecovery::of([
            key(
                "k1",
                &[
                    ("a", client(5, 9, None, Some(12))),
                    ("b", client(1, 1, Some(2), None)),
                ],
            ),
            key("k2", &[("a", client(3, 4, Some(6), Some(7)))]),
        ]);
        let mut merged = client(3, 9, Some(6), Some(12));
        merged.failures = 4;
        assert_eq!(both.clients["a"], merged);
        assert_eq!(both.unlisted_failures, 2);
        let sums = RecoverySums {
            affected: 2,
            got_new_token: 2,
            recovered: 1,
            failures: 6,
        };
        assert_eq!(both.sums(), sums);
        let waiting = PurgeRecovery::of([
            key("k1", &[("a", client(5, 9, None, Some(12)))]),
            key("k2", &[("a", client(3, 4, None, None))]),
        ]);
        assert_eq!(
            waiting.sums().recovered,
            0,
            "it is back only when it is back under each key"
        );
    }
}
