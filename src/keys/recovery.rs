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
    /// By client.
    pub clients: BTreeMap<Arc<str>, ClientRecovery>,
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
            clients: clients
                .iter()
                .map(|(name, of)| (Arc::from(*name), of.clone()))
                .collect(),
        }
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
