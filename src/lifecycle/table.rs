//! A table of names that requests read and write without a lock.
//!
//! A known name is found with one atomic load and no allocation. A new one copies the shard that
//! it falls into; nobody waits for that. Bounds are kept by a [`Room`], of which every value takes
//! a [`Place`] for as long as it lives.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;

/// So that an insertion copies little: with a full table of 65,536 names about a thousand.
const SHARDS: usize = 64;

/// Longest name: that of a client id. A longer one can only come from a stolen key.
const MAX_NAME: usize = 128;

type Shard<V> = HashMap<Arc<str>, Arc<V>, RandomState>;

/// Values by name.
#[derive(Debug)]
pub(super) struct Table<V> {
    shards: Box<[ArcSwap<Shard<V>>]>,
    hasher: RandomState,
}

impl<V> Table<V> {
    pub(super) fn new() -> Self {
        let hasher = RandomState::new();
        let empty = Arc::new(Shard::with_hasher(hasher.clone()));
        let shards = std::iter::repeat_with(|| ArcSwap::new(Arc::clone(&empty)));
        Self {
            shards: shards.take(SHARDS).collect(),
            hasher,
        }
    }

    /// Looks at the value of a known name.
    pub(super) fn with<R>(&self, name: &str, look: impl FnOnce(&Arc<V>) -> R) -> Option<R> {
        self.shard(name)?.load().get(name).map(look)
    }

    /// The value of `name` if `keep` says so, else a new one; `None` when `make` has none to give.
    pub(super) fn get_or_insert(
        &self,
        name: &str,
        keep: impl Fn(&V) -> bool,
        make: impl FnOnce() -> Option<V>,
    ) -> Option<Arc<V>> {
        if name.len() > MAX_NAME {
            return None;
        }
        let shard = self.shard(name)?;
        let mut make = Some(make);
        let mut made = None;
        loop {
            let seen = shard.load();
            if let Some(value) = seen.get(name)
                && keep(value)
            {
                return Some(Arc::clone(value));
            }
            if let Some(make) = make.take() {
                made = make().map(|value| (Arc::<str>::from(name), Arc::new(value)));
            }
            let (name, value) = made.as_ref()?;
            let mut next = Shard::clone(&seen);
            next.insert(Arc::clone(name), Arc::clone(value));
            let previous = shard.compare_and_swap(&*seen, Arc::new(next));
            if Arc::ptr_eq(&previous, &seen) {
                return Some(Arc::clone(value));
            }
        }
    }

    /// Drops what `keep` does not want; it may be asked more than once.
    pub(super) fn retain(&self, keep: impl Fn(&Arc<V>) -> bool) {
        for shard in &self.shards {
            if shard.load().values().all(&keep) {
                continue;
            }
            shard.rcu(|seen| {
                let mut next = Shard::clone(seen);
                next.retain(|_, value| keep(value));
                next
            });
        }
    }

    pub(super) fn for_each(&self, mut look: impl FnMut(&Arc<str>, &Arc<V>)) {
        for shard in &self.shards {
            for (name, value) in &**shard.load() {
                look(name, value);
            }
        }
    }

    fn shard(&self, name: &str) -> Option<&ArcSwap<Shard<V>>> {
        // The remainder fits, whatever the width of the machine.
        let index = usize::try_from(self.hasher.hash_one(name) % SHARDS as u64).unwrap_or(0);
        self.shards.get(index)
    }
}

/// Counts places of which there is a limited number, shared by several tables.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    most: usize,
}

/// One place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Room {
    pub(super) const fn of(most: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            most,
        }
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        // Beyond the bound the place is given back at once, by its drop.
        (self.taken.fetch_add(1, Relaxed) < self.most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_value_whoever_comes_first() {
        let (table, room) = (Table::<Place>::new(), Arc::new(Room::of(1000)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..500 {
                        let name = format!("n{number}");
                        let one = table
                            .get_or_insert(&name, |_| true, || room.take())
                            .unwrap();
                        let same = table.with(&name, |value| Arc::ptr_eq(value, &one));
                        assert_eq!(same, Some(true));
                    }
                });
            }
        });
        let mut count = 0;
        table.for_each(|_, _| count += 1);
        assert_eq!((count, room.taken.load(Relaxed)), (500, 500));
        table.retain(|_| false);
        assert_eq!(
            room.taken.load(Relaxed),
            0,
            "dropped values give their place back"
        );
        assert_eq!(table.with("n1", |_| ()), None);
    }

    #[test]
    fn a_full_room_and_an_endless_name_get_nothing() {
        let (table, room) = (Table::<Place>::new(), Arc::new(Room::of(2)));
        let insert = |name: &str| {
            table
                .get_or_insert(name, |_| true, || room.take())
                .is_some()
        };
        assert_eq!(["a", "b", "c", "a"].map(insert), [true, true, false, true]);
        assert!(!insert(&"x".repeat(129)));
        assert_eq!(room.taken.load(Relaxed), 2);
    }
}
