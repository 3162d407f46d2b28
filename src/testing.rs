//! Test doubles for `tests/` and `benches/`; compiled only with the feature `testing`.
//!
//! The others live beside what they stand for: `keygen::{FixtureKeys, FailingKeys}`,
//! `store::FaultyStore`, `telemetry::LogCapture`, `listeners::start_on_ephemeral`.

pub mod fuzz;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SteadyClock, SystemClock, Timestamp};

/// A clock that stands still until a test moves it. It reports no steps of its own; for those look
/// at it through [`ManualClock::steady`].
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    passed: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self {
            wall: AtomicI64::new(now.as_millis()),
            passed: AtomicU64::new(0),
        }
    }

    /// A clock that stands at the present.
    #[must_use]
    pub fn at_present() -> Self {
        Self::at(SystemClock.now())
    }

    /// Lets `duration` pass.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // Before wall time, so that nobody sees a step in between.
        self.passed.fetch_add(millis, Ordering::SeqCst);
        self.set(self.now().plus(duration));
    }

    /// Sets wall time, backwards too; no time passes.
    pub fn set(&self, now: Timestamp) {
        self.wall.store(now.as_millis(), Ordering::SeqCst);
    }

    /// The clock of a gateway whose wall clock is this one: what [`ManualClock::set`] does to it
    /// is a step, what [`ManualClock::advance`] does is not.
    #[must_use]
    pub fn steady(self: &Arc<Self>) -> Arc<dyn Clock> {
        let passed = Arc::clone(self);
        Arc::new(SteadyClock::with_monotonic(
            Arc::<Self>::clone(self),
            move || Duration::from_millis(passed.passed.load(Ordering::SeqCst)),
        ))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
}
