//! Where a request came from, and how many forged tokens each source may still send.
//!
//! Pure: no I/O, no clock; `now` is an argument. No lock and, but for the table at the very first
//! forged token, no allocation. While no source owes anything, asking costs one relaxed load.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;

use super::limits::ForgedTokens;

/// Places that a source may have in the table.
const WAYS: usize = 8;

/// Sets of places; 65,536 places in all, 1 MiB.
const SETS: usize = 8192;

const MICROS_PER_SECOND: u64 = 1_000_000;

/// Counts forged tokens by source. Each source has a bucket of `burst` that refills by `per_second`;
/// what is stored is the moment at which the bucket will be full again.
///
/// Two threads may write one place at the same time. Then at worst one forged token is counted for
/// another source, or not at all; a source that others pushed out starts with a full bucket.
pub struct Forgers {
    /// Microseconds in which one token flows back.
    interval: u64,
    /// Microseconds in which an empty bucket becomes full.
    depth: u64,
    /// Latest moment at which any bucket becomes full; 0 when all are known to be.
    owed_until: AtomicU64,
    hash: RandomState,
    table: OnceLock<Box<[Place]>>,
}

/// A source and its bucket.
#[derive(Debug, Default)]
struct Place {
    /// [`key_of`] the source; 0 when free.
    key: AtomicU64,
    /// Unix microseconds.
    full_at: AtomicU64,
}

impl Forgers {
    /// Nobody owes anything yet.
    #[must_use]
    pub fn new(limit: ForgedTokens) -> Self {
        let interval = (MICROS_PER_SECOND / u64::from(limit.per_second.max(1))).max(1);
        Self {
            interval,
            depth: interval.saturating_mul(u64::from(limit.burst.max(1))),
            owed_until: AtomicU64::new(0),
            hash: RandomState::new(),
            table: OnceLock::new(),
        }
    }

    /// Whether no source can be limited; nothing else need be asked then.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.owed_until.load(Ordering::Relaxed) == 0
    }

    /// How long `source` has to wait before it may send another forged token; `None` when it may now.
    #[must_use]
    pub fn wait(&self, source: IpAddr, now: Timestamp) -> Option<Duration> {
        let now = micros(now);
        let owed_until = self.owed_until.load(Ordering::Relaxed);
        if owed_until <= now {
            // Every bucket is full; unless somebody has just taken from one, all is quiet again.
            let _taken = self.owed_until.compare_exchange(
                owed_until,
                0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            return None;
        }
        let key = key_of(source);
        let place = self.set(key)?.iter().find(|place| place.holds(key))?;
        let full_at = place.full_at.load(Ordering::Acquire);
        // Read between two looks at the key, it is this source's.
        if !place.holds(key) {
            return None;
        }
        // A clock that was set back must not prolong anything: never more than an empty bucket, and not
        // for longer either, so that it is remembered.
        let most = now.saturating_add(self.depth);
        for (moment, seen) in [(&place.full_at, full_at), (&self.owed_until, owed_until)] {
            if seen > most {
                let _changed =
                    moment.compare_exchange(seen, most, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
        let owed = full_at.min(most).saturating_sub(now);
        let wait = owed.saturating_sub(self.depth.saturating_sub(self.interval));
        (wait > 0).then(|| Duration::from_micros(wait))
    }

    /// Counts a forged token of `source`.
    pub fn note(&self, source: IpAddr, now: Timestamp) {
        let (key, now) = (key_of(source), micros(now));
        self.table
            .get_or_init(|| (0..SETS * WAYS).map(|_| Place::default()).collect());
        let Some(place) = self.set(key).and_then(|set| place_of(set, key)) else {
            return;
        };
        let taken = |full_at: u64| {
            let full_at = full_at.clamp(now, now.saturating_add(self.depth));
            full_at
                .saturating_add(self.interval)
                .min(now.saturating_add(self.depth))
        };
        let before = place
            .full_at
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |full_at| {
                Some(taken(full_at))
            });
        let full_at = taken(before.unwrap_or_default());
        self.owed_until.fetch_max(full_at, Ordering::Relaxed);
    }

    /// The places that the source may have; `None` while there is no table.
    fn set(&self, key: u64) -> Option<&[Place]> {
        let set = usize::try_from(self.hash.hash_one(key) % SETS as u64).ok()?;
        self.table.get()?.chunks_exact(WAYS).nth(set)
    }
}

/// The place of a source, or the one that it takes: the fullest bucket gives way.
fn place_of(set: &[Place], key: u64) -> Option<&Place> {
    if let Some(place) = set.iter().find(|place| place.holds(key)) {
        return Some(place);
    }
    let place = set
        .iter()
        .min_by_key(|place| place.full_at.load(Ordering::Relaxed))?;
    // First the bucket, so that nobody finds the other's debt under the new key.
    place.key.store(0, Ordering::Release);
    place.full_at.store(0, Ordering::Release);
    place.key.store(key, Ordering::Release);
    Some(place)
}

impl Place {
    fn holds(&self, key: u64) -> bool {
        self.key.load(Ordering::Acquire) == key
    }
}

impl fmt::Debug for Forgers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forgers")
            .field("interval", &self.interval)
            .field("depth", &self.depth)
            .finish_non_exhaustive()
    }
}

/// An address as one number, never 0: of IPv6 the first 64 bits, for one host has all addresses
/// behind them. Those of IPv4 lie in `ff00::/8`, where nothing comes from.
fn key_of(source: IpAddr) -> u64 {
    const V4: u64 = 0xffff_ffff_0000_0000;
    const ZERO: u64 = 0xffff_fffe_0000_0000;
    match source.to_canonical() {
        IpAddr::V4(v4) => V4 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => match u64::try_from(v6.to_bits() >> 64).unwrap_or_default() {
            0 => ZERO,
            prefix => prefix,
        },
    }
}

fn micros(now: Timestamp) -> u64 {
    u64::try_from(now.as_millis())
        .unwrap_or_default()
        .saturating_mul(1000)
}

type Admits = dyn Fn(IpAddr) -> bool + Send + Sync;

/// Whose word on where a request came from is taken; by default nobody's.
#[derive(Default)]
pub struct TrustedProxies(Option<Box<Admits>>);

impl TrustedProxies {
    /// Those that `admits` names.
    #[must_use]
    pub fn new(admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(admits)))
    }

    /// Whether `peer` is one of them.
    #[must_use]
    pub(super) fn trusts(&self, peer: IpAddr) -> bool {
        self.0
            .as_ref()
            .is_some_and(|admits| admits(peer.to_canonical()))
    }

    /// The source of a request: `peer`, unless it is a trusted proxy; then the last address of its
    /// `X-Forwarded-For` that is not one, or `peer` when there is no such address. An entry that is
    /// no address ends the search: whatever stands before it, no trusted proxy vouches for.
    pub(super) fn source<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    ) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let hops = forwarded_for
            .rev()
            .flat_map(|value| value.rsplit(|byte| *byte == b','))
            .map(|hop| address_of(str::from_utf8(hop).ok()?));
        for hop in hops {
            match hop {
                Some(hop) if self.trusts(hop) => {}
                hop => return hop.unwrap_or(peer),
            }
        }
        peer
    }
}

/// The address in one entry of `X-Forwarded-For`, as proxies write it: alone, with a port, an IPv6
/// address in brackets, and all that as RFC 7239 §6 has it, in quotes and behind `for=`.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let hop = match hop.split_at_checked(4) {
        Some((name, node)) if name.eq_ignore_ascii_case("for=") => node,
        _ => hop,
    };
    let quoted = hop.strip_prefix('"').and_then(|hop| hop.strip_suffix('"'));
    let hop = quoted.unwrap_or(hop);
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let bare = hop.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustedProxies")
            .field(&self.0.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn forgers() -> Forgers {
        Forgers::new(ForgedTokens {
            burst: 5,
            per_second: 2,
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(millis: u64) -> Timestamp {
        T0.plus(Duration::from_millis(millis))
    }

    fn exhaust(forgers: &Forgers, source: IpAddr, now: Timestamp) {
        for _ in 0..5 {
            assert_eq!(forgers.wait(source, now), None);
            forgers.note(source, now);
        }
    }

    #[test]
    fn a_source_is_limited_beyond_its_burst_and_recovers_with_time() {
        let (forgers, source) = (forgers(), ip("192.0.2.1"));
        assert!(forgers.is_quiet());
        exhaust(&forgers, source, T0);
        assert_eq!(forgers.wait(source, T0), Some(Duration::from_millis(500)));
        assert_eq!(
            forgers.wait(source, after(499)),
            Some(Duration::from_millis(1))
        );
        // One came back, and is used up again.
        assert_eq!(forgers.wait(source, after(500)), None);
        forgers.note(source, after(500));
        assert!(forgers.wait(source, after(500)).is_some());
        // A full burst is back after burst / per_second.
        assert!(!forgers.is_quiet());
        exhaust(&forgers, source, after(3000));
        assert!(forgers.wait(source, after(3000)).is_some());
        assert_eq!(forgers.wait(source, after(6000)), None);
        assert!(forgers.is_quiet(), "nobody owes anything any more");
    }

    #[test]
    fn others_are_not_affected() {
        let forgers = forgers();
        exhaust(&forgers, ip("192.0.2.1"), T0);
        exhaust(&forgers, ip("2001:db8::1"), T0);
        for other in ["192.0.2.2", "2001:db8:0:1::1", "::1", "::ffff:192.0.2.3"] {
            assert_eq!(forgers.wait(ip(other), T0), None, "{other}");
        }
        // One host: its whole /64, and an IPv4 address in either spelling.
        assert!(forgers.wait(ip("2001:db8::2"), T0).is_some());
        assert!(forgers.wait(ip("::ffff:192.0.2.1"), T0).is_some());
    }

    #[test]
    fn a_clock_that_is_set_back_prolongs_nothing() {
        let (forgers, source) = (forgers(), ip("192.0.2.1"));
        exhaust(&forgers, source, after(3_600_000));
        assert_eq!(forgers.wait(source, T0), Some(Duration::from_millis(500)));
        assert_eq!(forgers.wait(source, after(500)), None);
        assert_eq!(forgers.wait(source, after(5000)), None);
        assert!(forgers.is_quiet());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_sources_are_remembered() {
        let (forgers, worst) = (forgers(), ip("192.0.2.1"));
        exhaust(&forgers, worst, T0);
        for number in 0..200_000_u32 {
            forgers.note(IpAddr::from(number.to_be_bytes()), T0);
        }
        let table = forgers.table.get().unwrap();
        assert_eq!(table.len(), 65_536);
        assert!(forgers.wait(worst, T0).is_some());
    }

    #[test]
    fn threads_lose_no_count_of_one_source() {
        let forgers = Forgers::new(ForgedTokens {
            burst: 4000,
            per_second: 1,
        });
        let source = ip("192.0.2.1");
        forgers.note(source, T0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..999).for_each(|_| forgers.note(source, T0)));
            }
        });
        assert_eq!(forgers.wait(source, T0), None);
        (0..3).for_each(|_| forgers.note(source, T0));
        assert!(forgers.wait(source, T0).is_some());
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = TrustedProxies::new(|peer| peer.to_string().starts_with("10."));
        let of = |proxies: &TrustedProxies, peer: &str, fields: &[&str]| {
            let fields = fields.iter().map(|field| field.as_bytes());
            proxies.source(ip(peer), fields).to_string()
        };
        for (peer, fields, source) in [
            ("10.0.0.1", &["192.0.2.1"][..], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (
                "10.0.0.1",
                &["198.51.100.9", "192.0.2.1,10.0.0.2"],
                "192.0.2.1",
            ),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:80"], "192.0.2.1"),
            ("10.0.0.1", &["192.0.2.1:5555, 10.0.0.2:80"], "192.0.2.1"),
            ("10.0.0.1", &["[2001:db8::1]:5"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (
                "10.0.0.1",
                &["for=192.0.2.1, For=\"10.0.0.2:80\""],
                "192.0.2.1",
            ),
            ("10.0.0.1", &["192.0.2.1:99999"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.1:"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.9, \"192.0.2.1"], "10.0.0.1"),
            ("10.0.0.1", &["[192.0.2.1]"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.9, for=_hidden"], "10.0.0.1"),
            ("192.0.2.7", &["192.0.2.1"], "192.0.2.7"),
        ] {
            assert_eq!(of(&proxies, peer, fields), source, "{peer} {fields:?}");
        }
        let nobody = TrustedProxies::default();
        assert_eq!(of(&nobody, "10.0.0.1", &["192.0.2.1"]), "10.0.0.1");
    }
}
