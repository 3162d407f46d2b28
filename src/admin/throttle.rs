//! Wrong admin tokens by source address. The right one is never asked about here: nobody may be able
//! to lock an operator out of an emergency purge.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens that one source may send in [`WINDOW`] before it is told to wait.
const MAX_FAILURES: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Most sources remembered; beyond it the oldest is forgotten.
const MAX_SOURCES: usize = 4096;

/// The wrong tokens of the last minute, whichever way they were sent.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<HashMap<IpAddr, Vec<Instant>>>);

impl Failures {
    /// Notes a wrong token; `Some(wait)` when its source has had its tries.
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let source = source_of(address);
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MAX_SOURCES && !failures.contains_key(&source) {
            let oldest = failures
                .iter()
                .min_by_key(|(_, times)| times.last().copied());
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                failures.remove(&oldest);
            }
        }
        let times = failures.entry(source).or_default();
        times.retain(|at| now.duration_since(*at) < WINDOW);
        if times.len() >= MAX_FAILURES {
            let first = times.first().copied().unwrap_or(now);
            return Some(WINDOW.saturating_sub(now.duration_since(first)));
        }
        times.push(now);
        None
    }
}

/// One IPv6 host has a whole /64 to send from.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_failure_within_a_minute_waits() {
        let failures = Failures::default();
        let (start, address) = (Instant::now(), IpAddr::from([127, 0, 0, 1]));
        for second in 0..5 {
            assert_eq!(
                failures.note(address, start + Duration::from_secs(second)),
                None
            );
        }
        let wait = failures.note(address, start + Duration::from_secs(10));
        assert_eq!(wait, Some(Duration::from_secs(50)));
        assert_eq!(failures.note(IpAddr::from([127, 0, 0, 2]), start), None);
        assert_eq!(
            failures.note(address, start + Duration::from_secs(61)),
            None
        );
    }

    #[test]
    fn a_host_has_one_source_whatever_it_sends_from() {
        let source = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
    }
}
