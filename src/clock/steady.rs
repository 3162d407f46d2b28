//! The clock of a gateway: wall time, held against the time that really passed.
//!
//! Invariants: it never goes back behind a moment that [`Clock::not_before`] named (the key set's
//! high-water time), nor behind its own course, with one exception: a forward step that nothing
//! has confirmed is taken back when wall time takes it back. `now` takes no lock. May import
//! [`super`] alone.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Clock, ForwardStep, StepEnd, StepReport, Timestamp};

/// How much further than time passed wall time may move before it counts as a step. Slewing and
/// leap seconds stay far below it; a clock that was set, or a machine that was suspended, does not.
pub const MAX_FORWARD_STEP: Duration = Duration::from_secs(300);

/// After so long without another step, a step counts as confirmed. Time services that poll every
/// one or two minutes have then looked several times and would have put a wrong clock right, an
/// alert has reached somebody, and a laptop that woke up rotates again without being asked.
/// What waits meanwhile is harmless: keys that no unexpired token needs are retired a little later.
pub const STABLE_AFTER: Duration = Duration::from_secs(600);

/// Time passed since some fixed moment, which no setting of a clock changes.
type Monotonic = Box<dyn Fn() -> Duration + Send + Sync>;

/// A clock that follows wall time forwards at once and never goes back by itself: when wall time
/// is set back, it goes on from where it was, by the monotonic clock, until wall time has caught
/// up. So a wall clock set back neither reopens nor prolongs an idempotency window, nor makes good
/// tokens look as if they came from the future.
///
/// A forward step beyond [`MAX_FORWARD_STEP`] is reported until it is confirmed, taken back, or
/// [`STABLE_AFTER`] old. A machine that was suspended looks the same, because the monotonic clock
/// stops with it, and is treated the same. A step while the gateway does not run cannot be told
/// from a long pause.
pub struct SteadyClock {
    wall: Arc<dyn Clock>,
    passed: Monotonic,
    /// What this clock would have shown when `passed` was zero, in microseconds.
    course: AtomicI64,
    /// Below this the course never falls.
    floor: AtomicI64,
    /// For [`Clock::step_report`] alone; `now` never waits for it.
    watch: Mutex<Watch>,
}

/// What the last looks saw.
#[derive(Debug, Default)]
struct Watch {
    /// The course that is believed, and when it was noted; `None` before the first look.
    believed: Option<(i64, i64)>,
    pending: Option<Pending>,
    last_end: Option<StepEnd>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    since: Timestamp,
    /// The course at the last step, and when that was.
    course: i64,
    seen_at: i64,
}

impl SteadyClock {
    /// A steady clock over `wall`, by the operating system's monotonic clock.
    #[must_use]
    pub fn new(wall: Arc<dyn Clock>) -> Self {
        let origin = Instant::now();
        Self::with_monotonic(wall, move || origin.elapsed())
    }

    /// A steady clock over `wall`; `passed` tells how much time has passed since some fixed moment.
    #[must_use]
    pub fn with_monotonic(
        wall: Arc<dyn Clock>,
        passed: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self {
            wall,
            passed: Box::new(passed),
            course: AtomicI64::new(i64::MIN / 2),
            floor: AtomicI64::new(i64::MIN / 2),
            watch: Mutex::default(),
        }
    }

    /// The course of wall time, and the time passed.
    fn look_at_wall(&self) -> (i64, i64) {
        // In this order: a pause between the two reads makes wall time look older, which changes
        // nothing. The other way round every pause would push this clock ahead for good.
        let wall = self.wall.now().as_millis().saturating_mul(1000);
        let passed = self.passed_micros();
        (wall.saturating_sub(passed), passed)
    }

    fn passed_micros(&self) -> i64 {
        micros((self.passed)())
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        // Every value of it is valid, whatever panicked elsewhere.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares the course with the one believed, and takes an unconfirmed step back when wall
    /// time does.
    fn look(&self, watch: &mut Watch) -> StepReport {
        let (wall, passed) = self.look_at_wall();
        let course = self.course.fetch_max(wall, Ordering::SeqCst).max(wall);
        let (believed, noted_at) = *watch.believed.get_or_insert((course, passed));
        let Some(pending) = watch.pending else {
            if course.saturating_sub(believed) > micros(MAX_FORWARD_STEP) {
                watch.pending = Some(Pending {
                    since: shown(course, passed),
                    course,
                    seen_at: passed,
                });
            } else if passed.saturating_sub(noted_at) >= micros(STABLE_AFTER) {
                // Not at every look: several steps in a row, each too small, count together.
                watch.believed = Some((course, passed));
            }
            return watch.report();
        };

        let floor = self.floor.load(Ordering::SeqCst);
        let back_to = wall.max(believed).max(floor);
        if back_to < course {
            self.course.store(back_to, Ordering::SeqCst);
        }
        let moved = back_to.saturating_sub(pending.course).saturating_abs();
        if back_to.saturating_sub(believed) <= micros(MAX_FORWARD_STEP) {
            watch.end(StepEnd::Reverted);
        } else if moved > micros(MAX_FORWARD_STEP) {
            watch.pending = Some(Pending {
                since: shown(back_to, passed),
                course: back_to,
                seen_at: passed,
            });
        } else if passed.saturating_sub(pending.seen_at) >= micros(STABLE_AFTER) {
            watch.believed = Some((back_to, passed));
            watch.end(StepEnd::Stable);
        }
        watch.report()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let (wall, passed) = self.look_at_wall();
        let before = self.course.load(Ordering::Relaxed);
        if wall > before {
            self.course.fetch_max(wall, Ordering::Relaxed);
        }
        shown(wall.max(before), passed)
    }

    fn not_before(&self, seen: Timestamp) {
        let seen = seen.as_millis().saturating_mul(1000);
        let course = seen.saturating_sub(self.passed_micros());
        self.floor.fetch_max(course, Ordering::SeqCst);
        self.course.fetch_max(course, Ordering::SeqCst);
    }

    fn ahead_of_wall(&self) -> Duration {
        let (wall, _passed) = self.look_at_wall();
        let ahead = self.course.load(Ordering::Relaxed).saturating_sub(wall);
        Duration::from_micros(u64::try_from(ahead).unwrap_or(0))
    }

    fn step_report(&self) -> StepReport {
        self.look(&mut self.watch())
    }

    fn confirm_step(&self, since: Timestamp) -> bool {
        let mut watch = self.watch();
        match self.look(&mut watch) {
            StepReport::Pending(step) if step.since == since => {
                let course = self.course.load(Ordering::SeqCst);
                watch.believed = Some((course, self.passed_micros()));
                watch.end(StepEnd::Confirmed);
                true
            }
            _ => false,
        }
    }
}

impl Watch {
    fn end(&mut self, how: StepEnd) {
        self.pending = None;
        self.last_end = Some(how);
    }

    fn report(&self) -> StepReport {
        match (self.pending, self.believed, self.last_end) {
            (Some(pending), Some((believed, _)), _) => StepReport::Pending(ForwardStep {
                since: pending.since,
                size: Duration::from_micros(
                    u64::try_from(pending.course.saturating_sub(believed)).unwrap_or(0),
                ),
                resumes_at: shown(
                    pending.course,
                    pending.seen_at.saturating_add(micros(STABLE_AFTER)),
                ),
            }),
            (_, _, Some(end)) => StepReport::Over(end),
            _ => StepReport::Quiet,
        }
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock")
            .field("wall", &self.wall)
            .field("course", &self.course)
            .field("floor", &self.floor)
            .finish_non_exhaustive()
    }
}

/// What a clock on this course shows when so much time has passed.
fn shown(course: i64, passed: i64) -> Timestamp {
    Timestamp::from_millis(course.saturating_add(passed).div_euclid(1000))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::SystemClock;
    use super::*;

    const SECOND: i64 = 1000;
    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    /// Some moment in 2023.
    const START: i64 = 1_700_000_000_000;

    /// Wall time and passed time, in milliseconds, moved by the test.
    #[derive(Debug, Default)]
    struct Times {
        wall: AtomicI64,
        passed: AtomicI64,
    }

    impl Clock for Times {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
        }
    }

    impl Times {
        fn steady() -> (Arc<Self>, SteadyClock) {
            let times = Arc::new(Self::default());
            times.set(START);
            let passed = Arc::clone(&times);
            let clock = SteadyClock::with_monotonic(Arc::<Self>::clone(&times), move || {
                Duration::from_millis(u64::try_from(passed.passed.load(Ordering::SeqCst)).unwrap())
            });
            assert_eq!(clock.now().as_millis(), START);
            assert_eq!(clock.step_report(), StepReport::Quiet);
            (times, clock)
        }

        fn set(&self, wall: i64) {
            self.wall.store(wall, Ordering::SeqCst);
        }

        fn step(&self, millis: i64) {
            self.wall.fetch_add(millis, Ordering::SeqCst);
        }

        fn pass(&self, millis: i64) {
            self.passed.fetch_add(millis, Ordering::SeqCst);
            self.step(millis);
        }
    }

    fn pending(clock: &SteadyClock) -> ForwardStep {
        match clock.step_report() {
            StepReport::Pending(step) => step,
            other => panic!("no step waits: {other:?}"),
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
        assert_eq!(clock.step_report(), StepReport::Quiet);
    }

    #[test]
    fn inv14_a_steady_clock_follows_forwards_and_never_goes_back() {
        let (times, clock) = Times::steady();
        assert_eq!(clock.ahead_of_wall(), Duration::ZERO);
        times.step(-DAY);
        assert_eq!(clock.now().as_millis(), START, "it stays");
        assert_eq!(clock.ahead_of_wall(), Duration::from_secs(24 * 3600));
        times.pass(HOUR);
        assert_eq!(clock.now().as_millis(), START + HOUR, "and goes on");
        assert_eq!(clock.step_report(), StepReport::Quiet);
        assert_eq!(
            clock.ahead_of_wall(),
            Duration::from_secs(24 * 3600),
            "however long it takes"
        );
        times.set(START + 2 * HOUR);
        assert_eq!(clock.now().as_millis(), START + 2 * HOUR);
        assert_eq!(clock.ahead_of_wall(), Duration::ZERO);
        clock.not_before(Timestamp::from_millis(START + DAY));
        assert_eq!(clock.now().as_millis(), START + DAY);
        times.pass(SECOND);
        assert_eq!(clock.now().as_millis(), START + DAY + SECOND);
    }

    #[test]
    fn inv14_a_step_counts_from_300_seconds_on_and_small_ones_add_up() {
        let (times, clock) = Times::steady();
        times.step(300 * SECOND);
        assert_eq!(clock.step_report(), StepReport::Quiet, "exactly 300 s");
        times.step(1);
        let step = pending(&clock);
        assert_eq!(step.size, Duration::from_millis(300_001));
        assert_eq!(step.since, clock.now());

        let (times, clock) = Times::steady();
        for _ in 0..3 {
            assert_eq!(clock.step_report(), StepReport::Quiet);
            times.step(101 * SECOND);
            times.pass(SECOND);
        }
        assert_eq!(pending(&clock).size, Duration::from_secs(303));

        // A clock that runs a little fast is none of this, however long it runs.
        let (times, clock) = Times::steady();
        for _ in 0..1000 {
            times.pass(HOUR);
            times.step(SECOND);
            assert_eq!(clock.step_report(), StepReport::Quiet);
        }
    }

    #[test]
    fn inv14_a_step_ends_when_it_is_confirmed() {
        let (times, clock) = Times::steady();
        times.step(DAY);
        let first = pending(&clock);
        assert!(
            !clock.confirm_step(Timestamp::from_millis(START)),
            "another step"
        );
        // A further step is another one: whoever saw the first has not seen it.
        times.pass(SECOND);
        times.step(DAY);
        assert!(!clock.confirm_step(first.since));
        let second = pending(&clock);
        assert_eq!(second.size, Duration::from_secs(2 * 24 * 3600));
        assert!(clock.confirm_step(second.since));
        assert_eq!(clock.step_report(), StepReport::Over(StepEnd::Confirmed));
        assert!(!clock.confirm_step(second.since), "only once");
        // Back again is then an ordinary step back, which changes nothing.
        let now = clock.now();
        times.step(-2 * DAY);
        assert_eq!(clock.step_report(), StepReport::Over(StepEnd::Confirmed));
        assert_eq!(clock.now(), now);
        times.step(2 * DAY);
        assert_eq!(clock.now(), now);
        assert_eq!(clock.step_report(), StepReport::Over(StepEnd::Confirmed));
    }

    #[test]
    fn inv14_a_step_ends_after_ten_minutes_without_another() {
        let (times, clock) = Times::steady();
        times.step(DAY);
        let step = pending(&clock);
        assert_eq!(step.resumes_at, step.since.plus(STABLE_AFTER));
        times.pass(599 * SECOND);
        assert_eq!(pending(&clock), step);
        // Another step, either way, starts the time again.
        times.step(-HOUR);
        let again = pending(&clock);
        assert_eq!(again.resumes_at, clock.now().plus(STABLE_AFTER));
        assert_eq!(again.size, Duration::from_secs(23 * 3600));
        times.pass(600 * SECOND - 1);
        assert_eq!(pending(&clock), again);
        times.pass(1);
        assert_eq!(clock.step_report(), StepReport::Over(StepEnd::Stable));
        assert_eq!(clock.now(), again.resumes_at);
    }

    #[test]
    fn inv14_a_step_that_is_taken_back_leaves_the_clock_where_it_would_have_been() {
        let (times, clock) = Times::steady();
        times.step(DAY);
        pending(&clock);
        assert_eq!(
            clock.now().as_millis(),
            START + DAY,
            "tokens expire meanwhile"
        );
        times.pass(60 * SECOND);
        // A little too far back: the clock never falls behind its own course.
        times.step(-DAY - 20 * SECOND);
        assert_eq!(clock.step_report(), StepReport::Over(StepEnd::Reverted));
        assert_eq!(clock.now().as_millis(), START + 60 * SECOND);
        times.pass(20 * SECOND);
        assert_eq!(clock.now().as_millis(), START + 80 * SECOND);
        // And the next step is seen again.
        times.step(HOUR);
        pending(&clock);
    }

    #[test]
    fn inv14_a_clock_never_falls_behind_what_was_committed_during_a_step() {
        let (times, clock) = Times::steady();
        times.step(DAY);
        let step = pending(&clock);
        clock.not_before(step.since);
        times.step(-DAY);
        assert_eq!(pending(&clock).since, step.since, "it still waits");
        assert_eq!(clock.now(), step.since);
        assert!(clock.confirm_step(step.since));
    }

    #[test]
    fn extreme_clocks_neither_panic_nor_wrap() {
        for wall in [
            i64::MIN,
            -1,
            0,
            2_147_483_648_000,
            4_294_967_296_000,
            i64::MAX,
        ] {
            let (times, clock) = Times::steady();
            times.set(wall);
            let after = clock.now();
            assert!(after.as_millis() >= START, "{wall}");
            let _any = clock.step_report();
            clock.not_before(Timestamp::from_millis(wall));
            let _any = clock.step_report();
            assert!(clock.now() >= after);
        }
    }
}
