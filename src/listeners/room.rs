//! How many connections the process has room for: open files are what a crowd runs out of first, and
//! without one left nobody can be accepted on the admin listener and no key set can be written.
//!
//! A client's connection may hold two: its own, and one to an upstream while a request is forwarded;
//! on HTTP/2 every stream may hold one to an upstream. So clients get half of what is left when our
//! own needs are set aside, and each stream of HTTP/2 takes a place like a connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For files, the log, listening sockets and what each runtime needs.
const OWN: u64 = 160;

/// Idle connections to upstreams that each worker may keep.
const IDLE_OF_A_WORKER: u64 = 128;

/// Fewest and most connections to each of the admin and the metrics listener.
const LOCAL: (u64, u64) = (64, 4096);

/// Less makes no gateway, whatever the limit.
const FEWEST: u64 = 16;

/// A full house is said once in so long.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// How many connections of each kind fit under a limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Places on the proxy listeners together.
    pub clients: u64,
    /// Places on each of the others.
    pub local: u64,
}

impl Descriptors {
    /// Shares out `limit` open files of a process with so many workers.
    #[must_use]
    pub fn of(limit: u64, workers: usize) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        let (fewest, most) = LOCAL;
        let local = (limit / 16).clamp(fewest, most);
        let set_aside = workers
            .saturating_mul(IDLE_OF_A_WORKER)
            .saturating_add(OWN + 2 * local);
        Self {
            clients: (limit.saturating_sub(set_aside) / 2).max(FEWEST),
            local,
        }
    }
}

/// Places that several listeners share.
#[derive(Debug)]
pub struct Room {
    limit: u64,
    taken: AtomicU64,
    said: Mutex<Option<Instant>>,
}

impl Room {
    /// So many places.
    #[must_use]
    pub fn of(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: AtomicU64::new(0),
            said: Mutex::default(),
        })
    }

    /// A place until it is dropped; `None` when all are taken.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Taken> {
        if self.taken.fetch_add(1, Ordering::Relaxed) < self.limit {
            return Some(Taken(Arc::clone(self)));
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.say_that_it_is_full();
        None
    }

    /// Never waits: whoever holds the lock says it.
    fn say_that_it_is_full(&self) {
        let Ok(mut said) = self.said.try_lock() else {
            return;
        };
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            *said = Some(Instant::now());
            log::warn!(
                target: "portcullis::listeners",
                "connections are closed at once: all places are taken; raise the limit of open files (ulimit -n, LimitNOFILE) or lower limits.max_connections_per_address"
            );
        }
    }
}

/// One taken place.
#[derive(Debug)]
pub(super) struct Taken(Arc<Room>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_half_of_what_is_left() {
        let fits = |limit, workers| Descriptors::of(limit, workers).clients;
        assert_eq!(fits(1024, 1), (1024 - 160 - 128 - 128) / 2);
        assert_eq!(fits(1_048_576, 2), (1_048_576 - 160 - 8192 - 256) / 2);
        assert_eq!((fits(256, 1), fits(0, 20)), (16, 16));
        assert!(fits(u64::MAX, usize::MAX) >= 16);
    }

    #[test]
    fn a_place_is_taken_until_it_is_dropped() {
        let room = Room::of(2);
        let first = room.enter().unwrap();
        let _second = room.enter().unwrap();
        assert!(room.enter().is_none() && room.enter().is_none());
        drop(first);
        assert!(room.enter().is_some());
    }
}
