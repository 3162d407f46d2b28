//! Test doubles for `tests/` and `benches/`; compiled only with the feature `testing`.
//!
//! The others live beside what they stand for: `keygen::{FixtureKeys, FailingKeys}`,
//! `store::FaultyStore`, `telemetry::LogCapture`, `listeners::start_on_ephemeral`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock, Timestamp};

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_millis()))
    }

    /// A clock that stands at the present.
    #[must_use]
    pub fn at_present() -> Self {
        Self::at(SystemClock.now())
    }

    /// Moves on by `duration`.
    pub fn advance(&self, duration: Duration) {
        self.set(self.now().plus(duration));
    }

    /// Moves to `now`, backwards too.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}
