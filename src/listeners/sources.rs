//! How many connections each source address has open, and all of them together.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::room::{Room, Taken};

/// Independent locks, so that the shards' accept paths rarely meet.
const LOCKS: usize = 16;

/// Counts open connections per source and bounds them. Shared by the shards of a listener.
///
/// The source of an IPv6 connection is its /64: one host has all addresses of it at its disposal.
pub struct Sources {
    limit: u32,
    room: Option<Arc<Room>>,
    admits: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    hash: RandomState,
    open: [Mutex<HashMap<IpAddr, u32>>; LOCKS],
}

impl Sources {
    /// At most `limit` connections of one source at a time; 0 means no limit.
    #[must_use]
    pub fn new(limit: u32) -> Arc<Self> {
        Self::restricted(limit, |_anybody| true)
    }

    /// The same, for those alone that `admits` lets in: a plain-text listener behind a TLS proxy
    /// takes connections from that proxy and from nobody else.
    #[must_use]
    pub fn restricted(
        limit: u32,
        admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::make(limit, None, admits)
    }

    /// The same, with no more connections, and streams of HTTP/2, than `room` has places.
    #[must_use]
    pub fn within(
        room: &Arc<Room>,
        limit: u32,
        admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::make(limit, Some(Arc::clone(room)), admits)
    }

    fn make(
        limit: u32,
        room: Option<Arc<Room>>,
        admits: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            limit,
            room,
            admits: Box::new(admits),
            hash: RandomState::new(),
            open: Default::default(),
        })
    }

    /// A place for one more connection from `peer`, given back when it is dropped; `None` over the
    /// limit or when the room is full. A peer without an internet address has no limit of its own.
    pub(super) fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Place> {
        if peer.is_some_and(|peer| !(self.admits)(peer.to_canonical())) {
            return None;
        }
        let room = self.enter()?;
        let Some(peer) = peer.filter(|_| self.limit > 0) else {
            return Some(Place {
                counted: None,
                _room: room,
            });
        };
        let source = source(peer);
        let mut open = self.open(source);
        let count = open.entry(source).or_default();
        if *count >= self.limit {
            return None;
        }
        *count = count.saturating_add(1);
        drop(open);
        Some(Place {
            counted: Some((Arc::clone(self), source)),
            _room: room,
        })
    }

    /// A place for one more stream of an admitted HTTP/2 connection; `None` when the room is full.
    pub(super) fn admit_stream(&self) -> Option<StreamPlace> {
        self.enter().map(|room| StreamPlace { _room: room })
    }

    /// The outer `None` means that the room is full, the inner one that there is no room to fill.
    #[expect(clippy::option_option, reason = "both are meant, and `?` reads them")]
    fn enter(&self) -> Option<Option<Taken>> {
        match &self.room {
            None => Some(None),
            Some(room) => room.enter().map(Some),
        }
    }

    fn open(&self, source: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        let lock = usize::try_from(self.hash.hash_one(source) % LOCKS as u64).unwrap_or(0);
        #[expect(
            clippy::indexing_slicing,
            reason = "a remainder by the length is an index"
        )]
        let open = &self.open[lock];
        open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, source: IpAddr) {
        let mut open = self.open(source);
        match open.get_mut(&source) {
            Some(count) if *count > 1 => *count -= 1,
            // The last one takes the entry with it: the map stays as small as its use.
            _ => drop(open.remove(&source)),
        }
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// One counted connection.
#[derive(Debug)]
pub(super) struct Place {
    counted: Option<(Arc<Sources>, IpAddr)>,
    _room: Option<Taken>,
}

/// One stream's place.
#[derive(Debug)]
pub(super) struct StreamPlace {
    _room: Option<Taken>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((sources, source)) = self.counted.take() {
            sources.leave(source);
        }
    }
}

fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn only_those_admitted_get_a_place() {
        let sources = Sources::restricted(0, |peer| peer.is_loopback());
        assert!(sources.admit(ip("127.0.0.1")).is_some());
        assert!(sources.admit(ip("::ffff:127.0.0.1")).is_some());
        assert!(sources.admit(ip("10.0.0.1")).is_none());
    }

    #[test]
    fn a_place_counts_until_it_is_given_back() {
        let sources = Sources::new(2);
        let first = sources.admit(ip("192.0.2.1")).unwrap();
        let _second = sources.admit(ip("192.0.2.1")).unwrap();
        assert!(sources.admit(ip("192.0.2.1")).is_none());
        assert!(sources.admit(ip("192.0.2.2")).is_some());
        drop(first);
        assert!(sources.admit(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn listeners_of_one_room_share_its_places() {
        let room = Room::of(3);
        let (one, two) = (
            Sources::within(&room, 2, |_anybody| true),
            Sources::within(&room, 2, |_anybody| true),
        );
        let first = one.admit(ip("192.0.2.1")).unwrap();
        let _second = one.admit(ip("192.0.2.1")).unwrap();
        assert!(one.admit(ip("192.0.2.1")).is_none(), "its own limit");
        let third = two.admit(ip("192.0.2.1")).unwrap();
        assert!(two.admit(ip("192.0.2.2")).is_none(), "no place left");
        assert!(two.admit_stream().is_none());
        drop(first);
        let stream = two.admit_stream().unwrap();
        assert!(one.admit(None).is_none());
        drop((third, stream));
        assert!(one.admit(None).is_some());
    }

    #[test]
    fn addresses_of_one_host_are_one_source() {
        let sources = Sources::new(1);
        let _six = sources.admit(ip("2001:db8::1")).unwrap();
        assert!(sources.admit(ip("2001:db8::2")).is_none());
        assert!(sources.admit(ip("2001:db8:0:1::1")).is_some());
        let _mapped = sources.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert!(sources.admit(ip("192.0.2.1")).is_none());
    }

    #[test]
    fn no_entry_outlives_its_connections() {
        let sources = Sources::new(3);
        drop([
            sources.admit(ip("192.0.2.1")),
            sources.admit(ip("192.0.2.1")),
        ]);
        assert!(
            sources
                .open
                .iter()
                .all(|open| open.lock().unwrap().is_empty())
        );
    }
}
