//! What every backend must do, as one suite: a backend's own test is a few lines.
//!
//! ```ignore
//! conformance::run(|first| async move { Arc::new(MemoryStore::create(clock, &first)?) }).await;
//! ```
//! The suite panics with what is wrong.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "these are tests: a panic is how they fail"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keygen::{FixtureKeys, KeyGenerator};
use crate::keys::timing::Timing;
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, Algorithm, FreshKey, KeySet, Trigger};

use super::sealing::KekSecret;
use super::{CommitError, KeyStore, Keyring, SideDocument, StoreError, seal_fresh};

/// Concurrent writers of the compare-and-swap test.
const WRITERS: usize = 64;

/// Key sets to store, made by the real transitions.
#[derive(Debug)]
pub struct Samples {
    /// The issuer of every set.
    pub issuer: String,
    /// What their private halves are sealed with.
    pub keyring: Arc<Keyring>,
    keys: Box<dyn KeyGenerator>,
    timing: Timing,
}

impl Default for Samples {
    fn default() -> Self {
        Self::new()
    }
}

impl Samples {
    /// A source of key sets, with the same signing keys in every run.
    #[must_use]
    pub fn new() -> Self {
        Self::with_keys(FixtureKeys::new())
    }

    /// A source of key sets with signing keys from `keys`: new ones are needed to go on with a
    /// set that another process made.
    #[must_use]
    pub fn with_keys(keys: impl KeyGenerator + 'static) -> Self {
        Self {
            issuer: "https://issuer.example".to_owned(),
            keyring: Arc::new(Keyring::new([KekSecret::new([42; 32])]).unwrap()),
            keys: Box::new(keys),
            timing: Timing::default(),
        }
    }

    /// Revision 1.
    pub fn first(&self) -> KeySet {
        let now = Timestamp::from_seconds(1_700_000_000);
        transition::bootstrap(
            &self.issuer,
            self.fresh(0, now),
            self.fresh(0, now),
            &self.timing,
            Actor::Offline("test".to_owned()),
            now,
        )
    }

    /// `set` after a plain rotation: ends the private half of the active key.
    pub fn rotated(&self, set: &KeySet) -> KeySet {
        let now = later(set);
        let fresh = self.fresh(set.revision, now);
        transition::rotate(set, fresh, &order(), &self.timing, now).set
    }

    /// `set` after a purge: ends both private halves.
    pub fn purged(&self, set: &KeySet) -> KeySet {
        let now = later(set);
        let (active, pending) = (self.fresh(set.revision, now), self.fresh(set.revision, now));
        transition::purge_all(set, active, pending, &order(), &self.timing, now).set
    }

    /// `set` with another pending key: ends the private half of the one it had.
    pub fn with_pending_replaced(&self, set: &KeySet) -> KeySet {
        let now = later(set);
        let fresh = self.fresh(set.revision, now);
        transition::replace_pending(set, fresh, &self.timing, Actor::Scheduler, now)
    }

    /// `set` with a longer token life time: ends nothing.
    pub fn raised(&self, set: &KeySet) -> KeySet {
        let max_ttl = set.active.public.max_ttl + Duration::from_secs(1);
        transition::raise_max_ttl(set, max_ttl, Actor::Scheduler, later(set)).unwrap()
    }

    /// `set` with both private halves sealed anew: ends their old sealed forms.
    pub fn resealed(&self, set: &KeySet) -> KeySet {
        let [active, pending] = [
            (&set.active.public, &set.active.sealed),
            (&set.pending.public, &set.pending.sealed),
        ]
        .map(|(key, sealed)| {
            let (issuer, keyring) = (&set.issuer, &self.keyring);
            let private = keyring.open(issuer, &key.kid, key.alg, sealed).unwrap();
            let sealed = keyring.seal(issuer, &key.kid, key.alg, set.revision, &private);
            sealed.unwrap()
        });
        transition::reseal(set, (active, pending), &order(), later(set))
    }

    fn fresh(&self, base_revision: u64, now: Timestamp) -> FreshKey {
        let generated = self.keys.generate(Algorithm::Es256).unwrap();
        seal_fresh(generated, &self.keyring, &self.issuer, base_revision, now).unwrap()
    }
}

fn later(set: &KeySet) -> Timestamp {
    set.high_water_time.plus(Duration::from_secs(1000))
}

fn order() -> Order {
    Order {
        id: Uuid::new_v4(),
        trigger: Trigger::Manual,
        actor: Actor::Admin("ops".to_owned()),
        reason: Some("a drill".to_owned()),
        seen_revision: None,
        claim: None,
    }
}

/// Runs the whole suite; `create` makes a new store that holds the given set.
pub async fn run<F: Future<Output = Arc<dyn KeyStore>>>(create: impl Fn(KeySet) -> F) {
    let samples = Samples::new();
    let first = samples.first();
    loads_what_was_created(&*create(first.clone()).await, &first).await;
    round_trips(&*create(first.clone()).await, &samples).await;
    refuses_stale_and_impossible_commits(&*create(first.clone()).await, &samples).await;
    one_winner_per_revision(create(first.clone()).await, samples).await;
    keeps_side_documents(&*create(first).await).await;
}

async fn loads_what_was_created(store: &dyn KeyStore, first: &KeySet) {
    let loaded = store.load().await.unwrap();
    assert_eq!(loaded.set, *first);
    assert!(loaded.store_now >= first.high_water_time);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(
        store.audit_tail(10).await.unwrap(),
        std::slice::from_ref(&first.last_event)
    );
}

async fn round_trips(store: &dyn KeyStore, samples: &Samples) {
    let mut set = store.load().await.unwrap().set;
    let mut events = vec![set.last_event.clone()];
    for round in 0..12 {
        let next = match round % 4 {
            0 => samples.rotated(&set),
            1 => samples.raised(&set),
            2 => samples.with_pending_replaced(&set),
            _ => samples.purged(&set),
        };
        let committed = store.commit(set.revision, &next).await.unwrap();
        assert!(committed.warnings.is_empty(), "{:?}", committed.warnings);
        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.set, next);
        assert!(loaded.store_now >= next.high_water_time);
        events.push(next.last_event.clone());
        set = next;
    }
    assert_eq!(store.audit_tail(100).await.unwrap(), events);
    assert_eq!(
        store.audit_tail(3).await.unwrap(),
        events.split_off(events.len() - 3)
    );
    assert!(store.audit_tail(0).await.unwrap().is_empty());
}

async fn refuses_stale_and_impossible_commits(store: &dyn KeyStore, samples: &Samples) {
    let first = store.load().await.unwrap().set;
    let second = samples.rotated(&first);
    drop(store.commit(1, &second).await.unwrap());

    let stale = store.commit(1, &samples.purged(&first)).await;
    assert!(
        matches!(stale, Err(CommitError::Conflict { current: 2 })),
        "{stale:?}"
    );
    let third = samples.rotated(&second);
    let ahead = store
        .commit(
            7,
            &KeySet {
                revision: 8,
                ..third.clone()
            },
        )
        .await;
    assert!(
        matches!(ahead, Err(CommitError::Conflict { current: 2 })),
        "{ahead:?}"
    );

    let impossible = [
        KeySet {
            revision: 2,
            ..third.clone()
        },
        KeySet {
            revision: 4,
            ..third.clone()
        },
        KeySet {
            issuer: "https://other.example".to_owned(),
            ..third.clone()
        },
        // Its last event tells of another revision.
        KeySet {
            last_event: second.last_event.clone(),
            ..third.clone()
        },
        // One kid twice.
        KeySet {
            active: second.active.clone(),
            ..third.clone()
        },
    ];
    for next in impossible {
        let refused = store.commit(2, &next).await;
        assert!(
            matches!(
                refused,
                Err(CommitError::Store(StoreError::InvalidNext { .. }))
            ),
            "{refused:?}"
        );
    }
    assert_eq!(store.load().await.unwrap().set, second);
    assert_eq!(store.audit_tail(10).await.unwrap().len(), 2);
}

async fn one_winner_per_revision(store: Arc<dyn KeyStore>, samples: Samples) {
    let winners = Arc::new(Mutex::new(HashMap::new()));
    let samples = Arc::new(samples);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, samples) = (Arc::clone(&store), Arc::clone(&samples));
            let winners = Arc::clone(&winners);
            tokio::spawn(async move {
                let mut last_seen = 0;
                loop {
                    let set = store.load().await.unwrap().set;
                    assert!(set.revision >= last_seen, "the revision went back");
                    last_seen = set.revision;
                    let next = samples.raised(&set);
                    match store.commit(set.revision, &next).await {
                        Ok(_) => {
                            let before = winners.lock().unwrap().insert(next.revision, writer);
                            assert_eq!(before, None, "two won revision {}", next.revision);
                            return;
                        }
                        Err(CommitError::Conflict { current }) => {
                            assert!(current > set.revision);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let won = WRITERS as u64 + 1;
    assert_eq!(store.load().await.unwrap().set.revision, won);
    let mut revisions: Vec<u64> = winners.lock().unwrap().keys().copied().collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=won).collect::<Vec<_>>());
    let logged = store.audit_tail(1000).await.unwrap();
    let logged: Vec<u64> = logged.iter().map(|record| record.revision).collect();
    assert_eq!(logged, (1..=won).collect::<Vec<_>>());
}

async fn keeps_side_documents(store: &dyn KeyStore) {
    let before = store.load().await.unwrap().set;
    for name in SideDocument::ALL {
        assert_eq!(store.load_side(name).await.unwrap(), None);
    }
    for data in [&b"{\"a\":1}"[..], b"", &[0, 255, 10], &[7; 100_000]] {
        for name in SideDocument::ALL {
            let own = [name.as_str().as_bytes(), data].concat();
            store.save_side(name, &own).await.unwrap();
        }
        for name in SideDocument::ALL {
            let own = [name.as_str().as_bytes(), data].concat();
            assert_eq!(store.load_side(name).await.unwrap(), Some(own));
        }
    }
    assert_eq!(store.load().await.unwrap().set, before);
}
