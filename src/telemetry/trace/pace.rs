//! When the collector may be asked again.
//!
//! The pause outlives the batch that met it: giving spans up is no reason to ask sooner. Pure.

use std::time::{Duration, Instant};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that the gateway takes by itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause that a collector may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// For so long a batch is tried again; longer than any pause, so that each is followed by a try.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// The pauses since the collector last took something.
#[derive(Debug)]
pub(super) struct Pace {
    next: Duration,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self {
            next: FIRST_PAUSE,
            not_before: None,
        }
    }

    /// The collector took something.
    pub(super) const fn taken(&mut self) {
        *self = Self::new();
    }

    /// It did not, and asks for this pause, if for any.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>) {
        let pause = asked.map_or(self.next, |asked| asked.min(LONGEST_ASKED));
        self.not_before = Some(now + pause);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }

    /// When the next try is due; `None` for at once.
    pub(super) const fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether the next try would come too late for a batch that was first tried at `first`.
    pub(super) fn is_too_late_for(&self, first: Instant) -> bool {
        self.not_before
            .is_some_and(|due| due.saturating_duration_since(first) > GIVE_UP_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds after `first` at which a batch is tried that always meets a failure.
    fn tries(pace: &mut Pace, first: Instant, asked: Option<Duration>) -> Vec<f64> {
        let mut now = first;
        let mut tries = Vec::new();
        loop {
            now = now.max(pace.not_before().unwrap_or(now));
            tries.push(now.duration_since(first).as_secs_f64());
            pace.failed(now, asked);
            // The first try of a batch may itself have waited.
            let began = first + Duration::from_secs_f64(tries[0]);
            if pace.is_too_late_for(began) {
                return tries;
            }
        }
    }

    #[test]
    fn the_pause_that_a_collector_asks_for_is_kept_over_batches() {
        let start = Instant::now();
        for asked in [30, 3_600] {
            let mut pace = Pace::new();
            let asked = Some(Duration::from_secs(asked));
            assert_eq!(tries(&mut pace, start, asked), [0.0, 30.0, 60.0]);
            // The next batch waits out what the last one met.
            assert_eq!(tries(&mut pace, start, asked), [90.0, 120.0, 150.0]);
        }
    }

    #[test]
    fn pauses_grow_until_something_is_taken() {
        let start = Instant::now();
        let mut pace = Pace::new();
        let first = tries(&mut pace, start, None);
        assert_eq!(first[..6], [0.0, 0.25, 0.75, 1.75, 3.75, 7.75]);
        assert_eq!(first[6..9], [12.75, 17.75, 22.75]);
        assert!(first.last().is_some_and(|last| *last <= 60.0));
        let second = tries(&mut pace, start, None);
        assert_eq!(second[1] - second[0], 5.0, "no new beginning");
        pace.taken();
        assert_eq!(pace.not_before(), None);
        assert_eq!(tries(&mut pace, start, None)[..3], [0.0, 0.25, 0.75]);
    }
}
