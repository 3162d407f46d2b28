//! The published snapshot: what every request verifies with, swapped whole by a life-cycle step.
//!
//! A request holds a snapshot through a [`Holder`], which counts itself in the snapshot's own
//! counters. So a purge knows when the last holder of an old snapshot is gone. The count is exact:
//! a holder increments first and looks at `superseded` after, a publisher sets `superseded` first
//! and reads the counters after, both sequentially consistent; so either the holder backs off and
//! takes the newer snapshot, or the publisher sees it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::keys::{KeySet, Kid};
use crate::telemetry::KeySeries;
use crate::token::jose::TokenSigner;
use crate::token::{Claims, VerificationKeys};

pub use super::admitted::{Admitted, Permit};
use super::recovery::{KeyRecovery, Recovery};

use super::probe::Seat;

/// What a snapshot is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Verifying a token.
    Verify,
    /// Issuing a token, until it is handed out.
    Issue,
    /// Answering with the JWKS, until it is written.
    Jwks,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Verify, Self::Issue, Self::Jwks];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Issue => "issue",
            Self::Jwks => "jwks",
        }
    }
}

/// One committed key set, ready to use.
#[derive(Debug)]
pub struct Snapshot {
    /// The set.
    pub set: KeySet,
    /// Keys to verify with.
    pub keys: VerificationKeys,
    /// The active key.
    pub signer: TokenSigner,
    /// Body of a JWKS answer.
    pub jwks: Bytes,
    /// Strong entity tag of that body, quoted.
    pub jwks_etag: String,
    /// Metrics of each tombstone, in the order of [`VerificationKeys::tombstones`].
    pub tombstone_series: Vec<KeySeries>,
    /// Whom the end of each purged key broke, in the same order; `None` for retired ones.
    pub recoveries: Vec<Option<Arc<KeyRecovery>>>,
    /// Who waits to recover from a purge.
    pub recovery: Arc<Recovery>,
    /// Requests admitted by each live key and still open, in the order of
    /// [`VerificationKeys::live`]; shared between snapshots.
    pub admitted: Vec<Arc<Admitted>>,
}

impl Snapshot {
    /// Counts a request with these claims, admitted by the live key at `key` on the route at
    /// `route`. Allocates nothing once the client is known, and waits for nobody.
    #[must_use]
    pub fn permit(&self, key: usize, claims: &Claims, route: usize, now: Timestamp) -> Permit {
        let client = &claims.client_id;
        self.recovery.accepted(client, claims.issued_at, now);
        match self.admitted.get(key) {
            Some(admitted) => admitted.enter(client, route, now),
            None => Arc::<Admitted>::default().enter(client, route, now),
        }
    }
}

/// Counters of one worker; a cache line of its own, so that workers do not slow each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Held([AtomicUsize; 3]);

#[derive(Debug)]
struct Generation {
    snapshot: Arc<Snapshot>,
    superseded: AtomicBool,
    held: Vec<Held>,
    seat: Seat,
}

impl Generation {
    fn new(snapshot: Snapshot, workers: usize, seat: Seat) -> Self {
        let held = std::iter::repeat_with(Held::default)
            .take(workers.max(1))
            .collect();
        Self {
            snapshot: Arc::new(snapshot),
            superseded: AtomicBool::new(false),
            held,
            seat,
        }
    }

    fn count(&self, worker: usize, purpose: Purpose) -> &AtomicUsize {
        // A worker without a number of its own counts with worker 0: exact, only less telling.
        let held = self.held.get(worker).or_else(|| self.held.first());
        held.map_or(&NOBODY, |held| match (&held.0, purpose) {
            ([verify, _, _], Purpose::Verify) => verify,
            ([_, issue, _], Purpose::Issue) => issue,
            ([_, _, jwks], Purpose::Jwks) => jwks,
        })
    }

    fn is_free(&self) -> bool {
        self.held
            .iter()
            .flat_map(|held| &held.0)
            .all(|count| count.load(SeqCst) == 0)
    }
}

/// Never counted in: `held` has at least one entry.
static NOBODY: AtomicUsize = AtomicUsize::new(0);

/// The place where requests find the current snapshot.
#[derive(Debug)]
pub struct Published {
    current: ArcSwap<Generation>,
    /// Superseded generations that may still be held. Touched by life-cycle steps only.
    draining: Mutex<Vec<Arc<Generation>>>,
    workers: Vec<String>,
    seat: Seat,
}

/// Keeps a snapshot from being drained.
#[derive(Debug)]
pub struct Holder {
    generation: Arc<Generation>,
    worker: usize,
    purpose: Purpose,
}

impl Holder {
    /// The snapshot held.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.generation.snapshot
    }

    /// Whether no newer snapshot has been published.
    #[must_use]
    pub fn is_current(&self) -> bool {
        !self.generation.superseded.load(SeqCst)
    }

    /// Keeps on holding while what was made from the snapshot is written to its client.
    #[must_use]
    pub fn handing_out(self) -> HandingOut {
        let kid = self.snapshot().signer.kid();
        self.generation
            .seat
            .completing(self.worker, self.purpose, kid);
        HandingOut(self)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.generation
            .count(self.worker, self.purpose)
            .fetch_sub(1, SeqCst);
    }
}

/// A holder whose token or JWKS answer is on its way; dropped when that is written.
#[derive(Debug)]
pub struct HandingOut(Holder);

impl Drop for HandingOut {
    fn drop(&mut self) {
        let holder = &self.0;
        let kid = holder.snapshot().signer.kid();
        let seat = &holder.generation.seat;
        seat.completed(holder.worker, holder.purpose, kid);
    }
}

impl Published {
    pub(super) fn new(first: Snapshot, workers: Vec<String>) -> Self {
        let seat = Seat::default();
        let first = Generation::new(first, workers.len(), seat.clone());
        Self {
            current: ArcSwap::from_pointee(first),
            draining: Mutex::default(),
            workers,
            seat,
        }
    }

    /// The current snapshot for reading facts. Verifying, issuing and answering with JWKS need
    /// [`Published::hold`] or [`Published::with`].
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.load().snapshot)
    }

    /// Holds the current snapshot across waiting points.
    #[must_use]
    pub fn hold(&self, worker: usize, purpose: Purpose) -> Holder {
        loop {
            let generation = self.current.load_full();
            generation.count(worker, purpose).fetch_add(1, SeqCst);
            let holder = Holder {
                generation,
                worker,
                purpose,
            };
            if holder.is_current() {
                return holder;
            }
        }
    }

    /// Runs `verify` with the current snapshot, holding it only that long: one atomic load and two
    /// uncontended increments, no lock, no reference count shared between workers.
    pub fn with<R>(&self, worker: usize, verify: impl FnOnce(&Snapshot) -> R) -> R {
        loop {
            let generation = self.current.load();
            let count = generation.count(worker, Purpose::Verify);
            count.fetch_add(1, SeqCst);
            let _leave = Leave(count);
            if !generation.superseded.load(SeqCst) {
                return verify(&generation.snapshot);
            }
        }
    }

    /// The last thing that a verification under [`Published::with`] does when it accepts.
    pub fn accepted(&self, worker: usize, kid: &Kid) {
        self.seat.completing(worker, Purpose::Verify, kid);
        self.seat.completed(worker, Purpose::Verify, kid);
    }

    /// Makes `next` the current snapshot unless a newer one already is.
    pub(super) fn publish(&self, next: Snapshot) {
        let mut draining = self.draining();
        if next.set.revision <= self.current.load().snapshot.set.revision {
            return;
        }
        let next = Generation::new(next, self.workers.len(), self.seat.clone());
        let next = Arc::new(next);
        let old = self.current.swap(next);
        old.superseded.store(true, SeqCst);
        draining.push(old);
        draining.retain(|generation| !generation.is_free());
    }

    /// Who still holds a superseded snapshot older than `revision`, as `worker (purpose)`.
    pub(super) fn holders_before(&self, revision: u64) -> Vec<String> {
        let mut draining = self.draining();
        draining.retain(|generation| !generation.is_free());
        let old = draining
            .iter()
            .filter(|generation| generation.snapshot.set.revision < revision);
        let mut names: Vec<String> = old.flat_map(|generation| self.names(generation)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What is open of requests admitted by live keys, to be carried into the next snapshot.
    pub(super) fn admitted_by_kid(&self) -> HashMap<Kid, Arc<Admitted>> {
        let snapshot = self.load();
        let kids = snapshot.keys.live().iter().map(|key| key.kid.clone());
        kids.zip(snapshot.admitted.iter().map(Arc::clone)).collect()
    }

    pub(super) const fn seat(&self) -> &Seat {
        &self.seat
    }

    fn names(&self, generation: &Generation) -> Vec<String> {
        let held = |worker: usize| {
            Purpose::ALL
                .into_iter()
                .filter(move |purpose| generation.count(worker, *purpose).load(SeqCst) > 0)
        };
        self.workers
            .iter()
            .enumerate()
            .flat_map(|(number, name)| {
                held(number).map(move |purpose| format!("{name} ({})", purpose.as_str()))
            })
            .collect()
    }

    fn draining(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Generation>>> {
        // A list of counters is valid whatever panicked elsewhere.
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
