//! What a purge did over time: failures and recoveries in buckets of equal width, whose number is
//! bounded: when they run out, each two neighbours become one and the width doubles.

use std::time::Duration;

use crate::clock::Timestamp;

/// Most buckets.
pub const MAX_BUCKETS: usize = 120;

/// Width of the buckets at first.
const FIRST_WIDTH: Duration = Duration::from_secs(10);

/// Failures and recoveries since a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverTime {
    start: Timestamp,
    width: Duration,
    buckets: Vec<Counts>,
    /// Totals as last taken.
    seen: Counts,
}

/// Of a bucket, or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests refused because of the purge alone.
    pub failures: u64,
    /// Clients accepted again after failures; a client that fails again may recover again.
    pub recovered: u64,
}

impl OverTime {
    /// Nothing yet, from `start` on.
    #[must_use]
    pub const fn since(start: Timestamp) -> Self {
        Self {
            start,
            width: FIRST_WIDTH,
            buckets: Vec::new(),
            seen: Counts {
                failures: 0,
                recovered: 0,
            },
        }
    }

    /// Takes the totals of `now`: what is new in them happened now.
    pub fn take(&mut self, totals: Counts, now: Timestamp) {
        let place = loop {
            let width = self.width.as_millis().max(1);
            let place = now.since(self.start).as_millis() / width;
            match usize::try_from(place) {
                Ok(place) if place < MAX_BUCKETS => break place,
                _ => self.widen(),
            }
        };
        if self.buckets.len() <= place {
            self.buckets.resize(place + 1, Counts::default());
        }
        let (failures, recovered) = (
            totals.failures.saturating_sub(self.seen.failures),
            totals.recovered.saturating_sub(self.seen.recovered),
        );
        self.seen = totals;
        if let Some(bucket) = self.buckets.get_mut(place) {
            bucket.failures += failures;
            bucket.recovered += recovered;
        }
    }

    /// Width of every bucket.
    #[must_use]
    pub const fn width(&self) -> Duration {
        self.width
    }

    /// Begin and counts of each bucket, the oldest first, none left out.
    pub fn buckets(&self) -> impl Iterator<Item = (Timestamp, Counts)> {
        let begins = std::iter::successors(Some(self.start), |at| Some(at.plus(self.width)));
        begins.zip(self.buckets.iter().copied())
    }

    fn widen(&mut self) {
        self.width = self.width.saturating_mul(2);
        let pairs = self.buckets.chunks(2).map(|pair| Counts {
            failures: pair.iter().map(|of| of.failures).sum(),
            recovered: pair.iter().map(|of| of.recovered).sum(),
        });
        self.buckets = pairs.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn a_week_fits_and_nothing_is_lost() {
        let mut over_time = OverTime::since(at(1000));
        let total = |second: i64| u64::try_from(second / 7).unwrap();
        for second in (0..7 * 24 * 3600).step_by(61) {
            let totals = Counts {
                failures: total(second),
                recovered: total(second) / 2,
            };
            over_time.take(totals, at(1000 + second));
            assert!(over_time.buckets.len() <= MAX_BUCKETS);
            let sum: u64 = over_time.buckets().map(|(_, of)| of.failures).sum();
            assert_eq!(sum, total(second));
        }
        assert!(over_time.width() <= Duration::from_secs(2 * 3600));
        let begins: Vec<Timestamp> = over_time.buckets().map(|(begin, _)| begin).collect();
        assert_eq!(begins[0], at(1000));
        assert_eq!(begins[1], at(1000).plus(over_time.width()));
    }

    #[test]
    fn what_happened_is_in_the_bucket_of_its_time() {
        let mut over_time = OverTime::since(at(0));
        let totals = |failures, recovered| Counts {
            failures,
            recovered,
        };
        over_time.take(totals(3, 0), at(5));
        over_time.take(totals(4, 1), at(25));
        over_time.take(totals(4, 2), at(25));
        let buckets: Vec<Counts> = over_time.buckets().map(|(_, of)| of).collect();
        assert_eq!(buckets, [totals(3, 0), totals(0, 0), totals(1, 2)]);
        // Before its beginning there is no bucket; the first one takes it.
        over_time.take(totals(5, 2), at(-9));
        assert_eq!(over_time.buckets[0], totals(4, 0));
    }
}
