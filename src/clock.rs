//! Wall time as the product uses it: integer Unix milliseconds, read through a trait.
//!
//! Core modules never read a clock; they take a [`Timestamp`]. Shells hold an `Arc<dyn Clock>`
//! from `app::Env` and read it once per request or life-cycle step. May import nothing of ours.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// RFC 3339 in UTC, always with three digits of milliseconds, so that texts sort like moments.
const RFC_3339_MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A moment as Unix milliseconds (UTC). Arithmetic saturates, so no clock value can panic.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// The moment `seconds` seconds after the Unix epoch (the unit of JWT claims, RFC 7519 §2).
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole Unix seconds, rounded towards the past.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Unix seconds with fraction, the form Prometheus wants.
    #[must_use]
    pub fn as_seconds_f64(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits hold every millisecond until the year 287396"
        )]
        let millis = self.0 as f64;
        millis / 1000.0
    }

    /// This moment moved into the future.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This moment moved into the past.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, the form of every surface.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0).saturating_mul(1_000_000);
        match OffsetDateTime::from_unix_timestamp_nanos(nanos).map(|at| at.format(RFC_3339_MILLIS))
        {
            Ok(Ok(text)) => f.write_str(&text),
            _ => write!(f, "unix-ms:{}", self.0),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Source of wall time. Implementations must be cheap: the request path reads it once.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current moment.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        let elapsed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(millis(elapsed))
    }
}

/// A clock that never goes back: when wall time is set back, it goes on from where it was, by the
/// monotonic clock, until wall time has caught up.
///
/// So a wall clock set back neither reopens an idempotency window nor makes good tokens look as if
/// they came from the future.
#[derive(Debug)]
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    origin: Instant,
    /// What this clock would have shown at `origin`, in microseconds; only ever raised.
    at_origin: AtomicI64,
}

impl SteadyClock {
    /// A steady clock over `wall`.
    #[must_use]
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        Self {
            origin: Instant::now(),
            at_origin: AtomicI64::new(i64::MIN / 2),
            wall,
        }
    }

    /// Never again shows a moment before `seen`, at which the installation is known to have run.
    pub fn not_before(&self, seen: Timestamp) {
        let seen = seen.as_millis().saturating_mul(1000);
        self.at_origin
            .fetch_max(seen.saturating_sub(self.elapsed()), Ordering::SeqCst);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.origin.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        // In this order: a pause between the two reads makes wall time look older, which changes
        // nothing. The other way round every pause would push this clock ahead for good.
        let wall = self.wall.now().as_millis().saturating_mul(1000);
        let elapsed = self.elapsed();
        let wall = wall.saturating_sub(elapsed);
        let before = self.at_origin.load(Ordering::Relaxed);
        if wall > before {
            self.at_origin.fetch_max(wall, Ordering::Relaxed);
        }
        Timestamp(wall.max(before).saturating_add(elapsed).div_euclid(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Settable(AtomicI64);

    impl Clock for Settable {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    /// A wall clock that is slow to answer, as when the thread is taken off its core.
    #[derive(Debug)]
    struct Slow(SystemClock);

    impl Clock for Slow {
        fn now(&self) -> Timestamp {
            std::thread::park_timeout(Duration::from_millis(5));
            let now = self.0.now();
            std::thread::park_timeout(Duration::from_millis(5));
            now
        }
    }

    #[test]
    fn pauses_never_push_a_steady_clock_ahead_of_wall_time() {
        let clock = SteadyClock::new(Arc::new(Slow(SystemClock)));
        for _ in 0..20 {
            assert!(clock.now() <= SystemClock.now());
        }
    }

    #[test]
    fn inv14_a_steady_clock_follows_forwards_and_never_goes_back() {
        let wall = Arc::new(Settable(AtomicI64::new(1_000_000)));
        let clock = SteadyClock::new(Arc::<Settable>::clone(&wall));
        let first = clock.now();
        assert!(first >= Timestamp(1_000_000));
        wall.0.store(0, Ordering::SeqCst);
        let set_back = clock.now();
        assert!(set_back >= first);
        assert!(
            set_back.since(first) < Duration::from_secs(60),
            "it goes on, it does not jump"
        );
        wall.0.store(9_000_000, Ordering::SeqCst);
        assert!(clock.now() >= Timestamp(9_000_000));
        clock.not_before(Timestamp(20_000_000));
        assert!(clock.now() >= Timestamp(20_000_000));
    }

    #[test]
    fn displays_rfc3339_utc() {
        assert_eq!(
            Timestamp::from_millis(0).to_string(),
            "1970-01-01T00:00:00.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
    }

    #[test]
    fn extreme_moments_neither_panic_nor_wrap() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Timestamp::from_millis(i64::MIN).since(last), Duration::ZERO);
        assert!(last.to_string().starts_with("unix-ms:"));
    }
}
