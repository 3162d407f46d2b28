//! Accepted requests by key over the last minutes: the rates that a preview shows.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::Kid;

use super::admitted::TRAFFIC_WINDOW;

/// Two samples are at least so far apart, so that their number is bounded.
const STEP: Duration = Duration::from_secs(1);

/// How often a key had been used at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    pub(super) all: u64,
    /// By clients without a place.
    pub(super) unlisted: u64,
}

/// One key.
#[derive(Debug)]
struct Samples {
    counts: VecDeque<(Timestamp, Uses)>,
    /// When a sample last differed from the one before.
    last_used_at: Option<Timestamp>,
}

/// Samples of the last [`TRAFFIC_WINDOW`] by key. Requests never touch it.
#[derive(Debug)]
pub(super) struct Traffic(Mutex<State>);

#[derive(Debug)]
struct State {
    since: Timestamp,
    last: Timestamp,
    keys: HashMap<Kid, Samples>,
}

/// What was seen of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    /// Requests within the window.
    pub(super) requests: u64,
    pub(super) last_used_at: Option<Timestamp>,
    /// Requests by clients without a place.
    pub(super) unlisted: u64,
}

impl Traffic {
    /// Begins at `now`, before which nothing was used.
    pub(super) fn since(now: Timestamp) -> Self {
        Self(Mutex::new(State {
            since: now,
            last: now,
            keys: HashMap::new(),
        }))
    }

    /// Notes how often each key has been used so far; a key that is not named is forgotten.
    pub(super) fn sample(&self, uses: impl IntoIterator<Item = (Kid, Uses)>, now: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.last, now);
        let mut seen = BTreeSet::new();
        for (kid, count) in uses {
            let unused = (
                before,
                Uses {
                    all: 0,
                    unlisted: 0,
                },
            );
            let samples = state.keys.entry(kid.clone()).or_insert_with(|| Samples {
                counts: VecDeque::from([unused]),
                last_used_at: None,
            });
            let last = samples.counts.back().map_or(0, |(_, last)| last.all);
            if count.all > last {
                samples.last_used_at = Some(now);
            }
            note(&mut samples.counts, count, now);
            seen.insert(kid);
        }
        state.keys.retain(|kid, _| seen.contains(kid));
    }

    /// From when on all traffic is known, at `now`.
    pub(super) fn known_since(&self, now: Timestamp) -> Timestamp {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.since.max(now.minus(TRAFFIC_WINDOW))
    }

    pub(super) fn rate(&self, kid: &Kid) -> Rate {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(samples) = state.keys.get(kid) else {
            return Rate::default();
        };
        let counts = &samples.counts;
        let Some(((from, first), (to, last))) = counts.front().zip(counts.back()) else {
            return Rate::default();
        };
        let seconds = to.since(*from).as_secs_f64();
        let requests = last.all.saturating_sub(first.all);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let uses = requests as f64;
        Rate {
            requests,
            last_used_at: samples.last_used_at,
            per_second: if seconds > 0.0 { uses / seconds } else { 0.0 },
            unlisted: last.unlisted.saturating_sub(first.unlisted),
        }
    }
}

fn note(samples: &mut VecDeque<(Timestamp, Uses)>, count: Uses, now: Timestamp) {
    // The last but one is what the last one's distance is measured from.
    let crowded = samples.len() >= 2
        && samples
            .iter()
            .nth_back(1)
            .is_some_and(|(at, _)| now.since(*at) < STEP);
    if crowded {
        samples.pop_back();
    }
    samples.push_back((now, count));
    // One sample from before the window stays, so that nothing within it is left out.
    while samples
        .get(1)
        .is_some_and(|(at, _)| now.since(*at) >= TRAFFIC_WINDOW)
    {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn rates_cover_the_window_and_begin_with_the_key() {
        let kid: Kid = "k".parse().unwrap();
        let traffic = Traffic::since(at(0));
        let sample = |all, now| {
            traffic.sample(
                [(
                    kid.clone(),
                    Uses {
                        all,
                        unlisted: all / 2,
                    },
                )],
                at(now),
            );
            traffic.rate(&kid)
        };
        // The first sample counts from where the key was not there yet.
        assert_eq!(
            sample(20, 10_000),
            Rate {
                per_second: 2.0,
                requests: 20,
                last_used_at: Some(at(10_000)),
                unlisted: 10
            }
        );
        for step in 0..1000 {
            let _ = sample(20 + step, 10_000 + i64::try_from(step).unwrap() * 10);
        }
        let few = traffic.0.lock().unwrap().keys[&kid].counts.len();
        assert!(few < 30, "{few} samples of 10 s");
        let later = sample(5000, 400_000);
        assert!((later.per_second - 3981.0 / 380.0).abs() < 0.1, "{later:?}");
        assert_eq!(traffic.known_since(at(400_000)), at(100_000));
        let used = sample(5100, 500_000).last_used_at;
        assert_eq!(used, Some(at(500_000)));
        assert_eq!(sample(5100, 501_000).last_used_at, used);
        assert!((sample(5100, 701_000).per_second - 100.0 / 301.0).abs() < 0.01);
        traffic.sample([], at(701_001));
        assert_eq!(traffic.rate(&kid), Rate::default());
    }
}
