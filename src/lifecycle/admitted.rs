//! What one live key admits: requests still open, how many there were, and whose.
//!
//! Requests write here, so nothing in it is locked: counters, and a table of callers that a
//! sampler reads without holding anybody up. A caller is known by key and client; a request of a
//! known one allocates nothing.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::Timestamp;

use super::shadow::Shadow;
use super::table::{Place, Room, Table};

/// Most pairs of key and client remembered, of all keys together; about 16 MiB. Requests of
/// clients beyond it are counted one by one, so that a number of clients stays an upper bound.
pub const MAX_CALLERS: usize = 65_536;

/// How far back the view from traffic looks.
pub const TRAFFIC_WINDOW: Duration = Duration::from_secs(300);

/// A caller is forgotten after this; longer than the window and than any shadow purge.
const FORGET_AFTER: Duration = Duration::from_secs(360);

/// Last use of a caller that was forgotten: whoever still holds it must look again.
const FORGOTTEN: i64 = i64::MAX;

/// Requests that one key admitted.
#[derive(Debug)]
pub struct Admitted {
    open: AtomicU64,
    uses: AtomicU64,
    purged: AtomicBool,
    callers: Table<Caller>,
    room: Arc<Room>,
    /// Requests of clients that got no place.
    unlisted: AtomicU64,
    /// Whether `shadow` holds one; looked at first, because it nearly never does.
    watched: AtomicBool,
    shadow: ArcSwapOption<Shadow>,
}

/// A client as one key knows it. May be kept beside a token that comes again and again.
#[derive(Debug)]
pub struct Caller {
    /// Unix seconds, so that a busy caller is written once a second.
    last_use: AtomicI64,
    /// Number of the last shadow purge that saw it.
    shadow: AtomicU64,
    _place: Place,
}

/// A request admitted by a key.
#[derive(Debug)]
pub struct Permit(Arc<Admitted>);

impl Admitted {
    /// Nothing admitted yet; callers share `room` with those of other keys.
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self {
            open: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            purged: AtomicBool::new(false),
            callers: Table::new(),
            room,
            unlisted: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            shadow: ArcSwapOption::empty(),
        }
    }

    /// How many requests are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(SeqCst)
    }

    /// How many there ever were.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.uses.load(Relaxed)
    }

    /// How many there ever were of clients without a place.
    #[must_use]
    pub fn unlisted(&self) -> u64 {
        self.unlisted.load(Relaxed)
    }

    /// Counts a request of `client` on the route at this index until the permit is dropped.
    #[must_use]
    pub fn enter(self: &Arc<Self>, client: &str, route: usize, now: Timestamp) -> Permit {
        let noted = self
            .callers
            .with(client, |caller| self.note(caller, route, now));
        if noted != Some(true) {
            match self.caller(client, now) {
                Some(caller) => {
                    self.note(&caller, route, now);
                }
                None => self.note_unlisted(route),
            }
        }
        self.permit()
    }

    /// As [`Admitted::enter`], for a caller that was looked up before.
    #[must_use]
    pub fn enter_as(
        self: &Arc<Self>,
        caller: &Caller,
        client: &str,
        route: usize,
        now: Timestamp,
    ) -> Permit {
        if self.note(caller, route, now) {
            self.permit()
        } else {
            self.enter(client, route, now)
        }
    }

    /// The caller `client`, to be kept; `None` when there is no place for it.
    #[must_use]
    pub fn caller(&self, client: &str, now: Timestamp) -> Option<Arc<Caller>> {
        let new = || {
            Some(Caller {
                last_use: AtomicI64::new(now.as_seconds()),
                shadow: AtomicU64::new(0),
                _place: self.room.take()?,
            })
        };
        self.callers
            .get_or_insert(client, |caller| !caller.is_forgotten(), new)
    }

    /// Clients that used the key within [`TRAFFIC_WINDOW`], a second more at most.
    pub(super) fn callers_at(&self, now: Timestamp) -> Vec<Arc<str>> {
        let since = now.minus(TRAFFIC_WINDOW).as_seconds();
        let mut clients = Vec::new();
        self.callers.for_each(|client, caller| {
            let last = caller.last_use.load(Relaxed);
            if last >= since && last != FORGOTTEN {
                clients.push(Arc::clone(client));
            }
        });
        clients
    }

    /// Every caller that is remembered, with its last use.
    pub(super) fn last_uses(&self, mut look: impl FnMut(&Arc<str>, Timestamp)) {
        self.callers.for_each(|client, caller| {
            let last = caller.last_use.load(Relaxed);
            if last != FORGOTTEN {
                look(client, Timestamp::from_seconds(last));
            }
        });
    }

    /// Clients that the shadow purge of this number saw.
    pub(super) fn callers_in(&self, shadow: u64) -> Vec<Arc<str>> {
        let mut clients = Vec::new();
        self.callers.for_each(|client, caller| {
            if caller.shadow.load(Relaxed) == shadow {
                clients.push(Arc::clone(client));
            }
        });
        clients
    }

    /// Forgets callers that have long been silent, and makes room for others.
    pub(super) fn prune(&self, now: Timestamp) {
        let before = now.minus(FORGET_AFTER).as_seconds();
        self.callers.retain(|caller| !caller.forget(before));
    }

    /// Lets a shadow purge count from now on, or no longer.
    pub(super) fn watch(&self, shadow: Option<Arc<Shadow>>) {
        let watched = shadow.is_some();
        self.shadow.store(shadow);
        self.watched.store(watched, SeqCst);
    }

    pub(super) fn mark_purged(&self) {
        self.purged.store(true, SeqCst);
    }

    /// False when the caller was forgotten meanwhile, so that nothing was noted.
    fn note(&self, caller: &Caller, route: usize, now: Timestamp) -> bool {
        let noted = caller.touch(now.as_seconds());
        if noted
            && self.watched.load(Relaxed)
            && let Some(shadow) = &*self.shadow.load()
        {
            caller.shadow.store(shadow.number(), Relaxed);
            shadow.count(route);
        }
        noted
    }

    fn note_unlisted(&self, route: usize) {
        self.unlisted.fetch_add(1, Relaxed);
        if self.watched.load(Relaxed)
            && let Some(shadow) = &*self.shadow.load()
        {
            shadow.count_unlisted(route);
        }
    }

    fn permit(self: &Arc<Self>) -> Permit {
        self.open.fetch_add(1, SeqCst);
        self.uses.fetch_add(1, Relaxed);
        Permit(Arc::clone(self))
    }
}

impl Default for Admitted {
    fn default() -> Self {
        Self::new(Arc::new(Room::of(MAX_CALLERS)))
    }
}

impl Caller {
    fn touch(&self, second: i64) -> bool {
        let mut last = self.last_use.load(Relaxed);
        while last != FORGOTTEN {
            if last >= second {
                return true;
            }
            match self
                .last_use
                .compare_exchange_weak(last, second, Relaxed, Relaxed)
            {
                Ok(_) => return true,
                Err(newer) => last = newer,
            }
        }
        false
    }

    /// Whether it is forgotten, now at the latest if its last use lies before `second`.
    fn forget(&self, second: i64) -> bool {
        let last = self.last_use.load(Relaxed);
        last == FORGOTTEN
            || (last < second
                && self
                    .last_use
                    .compare_exchange(last, FORGOTTEN, Relaxed, Relaxed)
                    .is_ok())
    }

    fn is_forgotten(&self) -> bool {
        self.last_use.load(Relaxed) == FORGOTTEN
    }
}

impl Permit {
    /// Whether the key that admitted the request has been purged since.
    #[must_use]
    pub fn key_was_purged(&self) -> bool {
        self.0.purged.load(SeqCst)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(second)
    }

    #[test]
    fn a_caller_counts_for_five_minutes_after_its_last_use() {
        let admitted = Arc::new(Admitted::default());
        drop(admitted.enter("a", 0, at(0)));
        drop(admitted.enter("b", 0, at(0)));
        drop(admitted.enter("a", 0, at(200)));
        let names = |now| {
            let mut names = admitted.callers_at(at(now));
            names.sort_unstable();
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(300), ["a", "b"]);
        assert_eq!(names(301), ["a"]);
        assert!(names(501).is_empty());
        assert_eq!((admitted.uses(), admitted.open()), (3, 0));
    }

    #[test]
    fn a_handle_kept_beyond_its_pruning_loses_no_use() {
        let admitted = Arc::new(Admitted::default());
        let kept = admitted.caller("a", at(0)).unwrap();
        admitted.prune(at(361));
        assert!(admitted.callers_at(at(100)).is_empty());
        drop(admitted.enter_as(&kept, "a", 0, at(400)));
        assert_eq!(admitted.callers_at(at(400)).len(), 1);
    }

    #[test]
    fn inv19_callers_beyond_the_bound_are_counted_one_by_one() {
        let room = Arc::new(Room::of(2));
        let admitted = [0, 1].map(|_| Arc::new(Admitted::new(Arc::clone(&room))));
        drop(admitted[0].enter("a", 0, at(0)));
        drop(admitted[1].enter("a", 0, at(0)));
        drop(admitted[1].enter("b", 0, at(0)));
        drop(admitted[1].enter("b", 0, at(0)));
        assert_eq!(admitted[1].callers_at(at(0)).len(), 1);
        assert_eq!((admitted[1].unlisted(), admitted[1].uses()), (2, 3));
        // A key that is gone gives its places back.
        let [gone, stays] = admitted;
        drop(gone);
        drop(stays.enter("b", 0, at(0)));
        assert_eq!(stays.callers_at(at(0)).len(), 2);
    }
}
