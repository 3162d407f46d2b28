//! What somebody does who has the private half of a dead key: how often, since when, until when.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};

use crate::clock::Timestamp;
use crate::keys::recovery::CompromisedUses;

/// A moment that has not come.
const NEVER: i64 = 0;

/// Uses of one key after its death; moments in Unix milliseconds.
#[derive(Debug)]
pub(super) struct Stolen {
    uses: AtomicU64,
    first_at: AtomicI64,
    last_at: AtomicI64,
}

impl Stolen {
    /// What an earlier process knew.
    pub(super) fn of(record: Option<CompromisedUses>) -> Self {
        let moment = |of: fn(CompromisedUses) -> Timestamp| {
            AtomicI64::new(record.map_or(NEVER, |uses| of(uses).as_millis().max(1)))
        };
        Self {
            uses: AtomicU64::new(record.map_or(0, |of| of.uses)),
            first_at: moment(|of| of.first_at),
            last_at: moment(|of| of.last_at),
        }
    }

    pub(super) fn used(&self, now: Timestamp) {
        let at = now.as_millis().max(1);
        let _not_the_first = self.first_at.compare_exchange(NEVER, at, SeqCst, SeqCst);
        self.last_at.fetch_max(at, SeqCst);
        // Counted last: whoever reads a count reads dates with it.
        self.uses.fetch_add(1, SeqCst);
    }

    /// `None` before the first.
    pub(super) fn record(&self) -> Option<CompromisedUses> {
        let uses = self.uses.load(SeqCst);
        (uses > 0).then(|| CompromisedUses {
            uses,
            first_at: Timestamp::from_millis(self.first_at.load(SeqCst)),
            last_at: Timestamp::from_millis(self.last_at.load(SeqCst)),
        })
    }
}
