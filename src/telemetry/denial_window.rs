//! One second of refusals, counted by many threads and closed by one, without a lock.
//!
//! A [`Slot`] holds at most one open *window*. Invariants: a window is closed only by a
//! compare-and-swap that fails when anybody entered since the closer looked, and only when
//! everybody who entered has left, so nothing is counted after the counts were read; every window
//! has a number of its own. A note that finds the window of an older second still open, because
//! the closer is behind, joins it instead of waiting. Used by `denial_log` alone.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

/// What a window held when it was closed.
pub(super) struct Closed {
    /// Its number.
    pub(super) window: u32,
    /// The second that opened it.
    pub(super) second: i64,
    /// Shared refusals by position of their reason.
    pub(super) counts: Vec<u64>,
}

/// Where windows of some seconds are, one after the other.
pub(super) struct Slot {
    /// Bit 63: a window is open. Bits 32 to 62: its number. Bits 0 to 31: notes that ever entered
    /// the slot, wrapping.
    state: AtomicU64,
    /// Notes that ever left the slot, wrapping.
    left: AtomicU32,
    second: AtomicI64,
    own: AtomicU64,
    /// Shared refusals by position of their reason.
    counts: Box<[AtomicU64]>,
}

const OPEN: u64 = 1 << 63;

impl Slot {
    /// A slot that counts this many reasons.
    pub(super) fn new(reasons: usize) -> Self {
        Self {
            state: AtomicU64::new(0),
            left: AtomicU32::new(0),
            second: AtomicI64::new(0),
            own: AtomicU64::new(0),
            counts: (0..reasons).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Notes a refusal. The first `own_limit` of a window get a line of their own, which is
    /// `None`; a further one is counted, and the number of its window is the answer. `opened`
    /// numbers the windows.
    pub(super) fn note(
        &self,
        second: i64,
        opened: &AtomicU32,
        own_limit: u64,
        reason: usize,
    ) -> Option<u32> {
        let window = self.enter(second, opened);
        let own = self.own.fetch_add(1, Ordering::Relaxed) < own_limit;
        if !own && let Some(count) = self.counts.get(reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // Everything above is visible to whoever sees this note gone.
        self.left.fetch_add(1, Ordering::Release);
        (!own).then_some(window)
    }

    /// Enters the open window, or opens one; says its number.
    fn enter(&self, second: i64, opened: &AtomicU32) -> u32 {
        let mut seen = self.state.load(Ordering::Acquire);
        let mut fresh = None;
        loop {
            let entered = u64::from(low(seen).wrapping_add(1));
            let (window, opens) = if seen & OPEN == 0 {
                let number = *fresh.get_or_insert_with(|| opened.fetch_add(1, Ordering::Relaxed));
                (number & (u32::MAX >> 1), true)
            } else {
                (number_of(seen), false)
            };
            let next = OPEN | (u64::from(window) << 32) | entered;
            match self
                .state
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    if opens {
                        self.second.store(second, Ordering::Relaxed);
                    }
                    return window;
                }
                Err(current) => seen = current,
            }
        }
    }

    /// Closes the window when its second is not `now` and nobody is inside; takes its counts. Only
    /// one thread may close.
    pub(super) fn close(&self, now: Option<i64>) -> Option<Closed> {
        let seen = self.state.load(Ordering::Acquire);
        if seen & OPEN == 0 || self.left.load(Ordering::Acquire) != low(seen) {
            return None;
        }
        let second = self.second.load(Ordering::Relaxed);
        if now == Some(second) {
            return None;
        }
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|c| c.load(Ordering::Relaxed))
            .collect();
        let own = self.own.load(Ordering::Relaxed);
        self.state
            .compare_exchange(seen, seen & !OPEN, Ordering::AcqRel, Ordering::Acquire)
            .ok()?;
        // The next window may be open by now: subtract what was taken instead of clearing. Until
        // then that window may take a few notes for shared that could have had their own line.
        self.own.fetch_sub(own, Ordering::Relaxed);
        for (count, &taken) in self.counts.iter().zip(&counts) {
            count.fetch_sub(taken, Ordering::Relaxed);
        }
        Some(Closed {
            window: number_of(seen),
            second,
            counts,
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half of the state is meant"
)]
const fn low(state: u64) -> u32 {
    state as u32
}

// 31 bits are left after the shift.
const fn number_of(state: u64) -> u32 {
    ((state & !OPEN) >> 32) as u32
}
