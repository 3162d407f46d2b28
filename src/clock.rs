//! Wall time as the product uses it: integer Unix milliseconds, read through a trait.
//!
//! Core modules never read a clock; they take a [`Timestamp`]. Shells hold an `Arc<dyn Clock>`
//! from `app::Env` and read it once per request or life-cycle step. May import nothing of ours.

mod steady;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

pub use steady::{MAX_FORWARD_STEP, STABLE_AFTER, SteadyClock};

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

    /// The moment that an RFC 3339 text names, as every surface of ours writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = OffsetDateTime::parse(text, &Rfc3339)
            .ok()?
            .unix_timestamp_nanos();
        i64::try_from(nanos.div_euclid(1_000_000)).ok().map(Self)
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

    /// Never again shows a moment before `seen`, at which the installation is known to have run.
    /// A clock that cannot promise it does nothing.
    fn not_before(&self, _seen: Timestamp) {}

    /// How far this clock is ahead of the machine's, which was set back; zero for a clock that
    /// follows it everywhere.
    fn ahead_of_wall(&self) -> Duration {
        Duration::ZERO
    }

    /// Looks whether wall time has moved forward by more than time has passed. Whoever must not be
    /// deceived by such a step looks *after* reading [`Clock::now`]: a step that is in the moment
    /// read is then in the report as well. Not for the request path.
    fn step_report(&self) -> StepReport {
        StepReport::Quiet
    }

    /// Accepts the step that was seen at `since` ([`ForwardStep::since`]); false when no step, or
    /// another one, waits to be confirmed.
    fn confirm_step(&self, _since: Timestamp) -> bool {
        false
    }
}

/// What a clock knows of forward steps of wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepReport {
    /// There was none.
    Quiet,
    /// One waits to be confirmed.
    Pending(ForwardStep),
    /// None waits any more, and how the last one ended.
    Over(StepEnd),
}

/// A forward step of wall time that nothing has confirmed yet. The clock follows it at once, so
/// that no expired token is accepted; what cannot be undone waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardStep {
    /// When it was seen, by the clock after the step; also what names it.
    pub since: Timestamp,
    /// How much further wall time moved than time passed; steps in a row are added up.
    pub size: Duration,
    /// When it counts as confirmed unless the clock steps again.
    pub resumes_at: Timestamp,
}

/// How a forward step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepEnd {
    /// An operator confirmed the time.
    Confirmed,
    /// The clock ran on without another step for [`STABLE_AFTER`].
    Stable,
    /// Wall time went back to where it would have been without the step, and this clock with it.
    Reverted,
}

impl StepEnd {
    /// The word for logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Stable => "stable",
            Self::Reverted => "reverted",
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn reads_what_it_displays_and_other_offsets() {
        for millis in [0, 1_700_000_000_123, -1] {
            let at = Timestamp::from_millis(millis);
            assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        }
        assert_eq!(
            Timestamp::parse("1970-01-01T01:00:00+01:00"),
            Some(Timestamp::from_millis(0))
        );
        for bad in ["", "yesterday", "1970-01-01", "1970-01-01T00:00:00"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn extreme_moments_neither_panic_nor_wrap() {
        let last = Timestamp::from_millis(i64::MAX);
        assert_eq!(last.plus(Duration::MAX), last);
        assert_eq!(Timestamp::from_millis(i64::MIN).since(last), Duration::ZERO);
        assert!(last.to_string().starts_with("unix-ms:"));
    }
}
