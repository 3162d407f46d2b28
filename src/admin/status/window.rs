//! What the totals of the metrics gained over the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::telemetry::Readings;

/// How far back the window looks.
pub(super) const WINDOW: Duration = Duration::from_secs(300);

/// Two samples are at least so far apart, so that their number is bounded.
const STEP: Duration = Duration::from_secs(5);

/// Readings of the last minutes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<(Timestamp, Readings)>);

/// The readings of now, and what they gained over [`WINDOW`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    pub(super) now: Readings,
    pub(super) issued: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    pub(super) compromised: u64,
    pub(super) violations: u64,
}

impl Window {
    /// Takes the readings of `now`. Totals were 0 at `started_at`.
    pub(super) fn over(&mut self, now: Readings, started_at: Timestamp, at: Timestamp) -> Recent {
        let samples = &mut self.0;
        // A clock that was set back: what was sampled after this moment tells nothing about it.
        samples.retain(|(sampled, _)| *sampled <= at);
        if samples.is_empty() {
            samples.push_back((started_at.min(at), Readings::default()));
        }
        if samples
            .back()
            .is_some_and(|(last, _)| at.since(*last) >= STEP)
        {
            samples.push_back((at, now));
        }
        // One sample from before the window stays, so that nothing within it is left out.
        while samples
            .get(1)
            .is_some_and(|(next, _)| at.since(*next) >= WINDOW)
        {
            samples.pop_front();
        }
        let before = samples.front().map_or(now, |(_, readings)| *readings);
        Recent {
            now,
            issued: now.tokens_issued.saturating_sub(before.tokens_issued),
            refused: now.token_refusals.saturating_sub(before.token_refusals),
            failed: now.token_failures.saturating_sub(before.token_failures),
            dropped: now
                .log_lines_dropped
                .saturating_sub(before.log_lines_dropped),
            compromised: now
                .compromised_key_uses
                .saturating_sub(before.compromised_key_uses),
            violations: now
                .lifecycle_violations
                .saturating_sub(before.lifecycle_violations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(issued: u64) -> Readings {
        Readings {
            tokens_issued: issued,
            ..Readings::default()
        }
    }

    #[test]
    fn gains_are_those_of_five_minutes_and_samples_are_few() {
        let at = Timestamp::from_seconds;
        let mut window = Window::default();
        assert_eq!(window.over(readings(7), at(0), at(0)).issued, 7);
        for second in 0..1000 {
            let issued = u64::try_from(second).unwrap() + 7;
            let recent = window.over(readings(issued), at(0), at(second));
            assert!(recent.issued <= 305 + 7, "{recent:?}");
        }
        assert!(window.0.len() <= 62, "{}", window.0.len());
        let recent = window.over(readings(1007), at(0), at(1000));
        assert!((300..=305).contains(&recent.issued), "{recent:?}");
        assert_eq!(window.over(readings(1007), at(0), at(2000)).issued, 0);
        // Set back before everything: totals of the process are all that is known.
        assert_eq!(window.over(readings(1007), at(0), at(-5)).issued, 1007);
    }
}
