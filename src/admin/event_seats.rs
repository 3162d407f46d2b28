//! The places of event streams: bounded in all and for each admin token, so that one token cannot
//! shut the others out.
//!
//! Invariants: at most [`MAX_STREAMS`] places are taken, at most [`MAX_OF_ONE`] by one token; a place
//! is given back when its stream is over, or at once when somebody with fewer needs it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Most streams at a time.
pub(super) const MAX_STREAMS: usize = 32;

/// Most streams of one admin token at a time.
pub(super) const MAX_OF_ONE: usize = 8;

/// The places, oldest first.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    id: u64,
    holder: String,
    evicted: Arc<Notify>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    id: u64,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoSeat {
    /// This token holds as many as one may.
    TooManyOfOne,
    /// All are taken, and nobody holds clearly more than the one who asks.
    Full,
}

impl Seats {
    /// A place for `holder`, and what is told when it is taken away.
    pub(super) fn take(self: &Arc<Self>, holder: &str) -> Result<(Seat, Arc<Notify>), NoSeat> {
        let mut taken = self.taken();
        let own = taken.places.iter().filter(|of| of.holder == holder).count();
        if own >= MAX_OF_ONE {
            return Err(NoSeat::TooManyOfOne);
        }
        if taken.places.len() >= MAX_STREAMS {
            taken.make_room(own)?;
        }
        let id = taken.next;
        taken.next += 1;
        let evicted = Arc::new(Notify::new());
        taken.places.push(Place {
            id,
            holder: holder.to_owned(),
            evicted: Arc::clone(&evicted),
        });
        let seats = Arc::clone(self);
        Ok((Seat { seats, id }, evicted))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // A list of finished values is valid whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Ends the oldest stream of whoever holds most, unless one who holds `own` would then hold as
    /// many: two would take the place from each other for ever.
    fn make_room(&mut self, own: usize) -> Result<(), NoSeat> {
        let mut held: HashMap<&str, usize> = HashMap::new();
        for place in &self.places {
            *held.entry(&place.holder).or_default() += 1;
        }
        let most = held.values().copied().max().unwrap_or_default();
        let of_most = |place: &Place| held.get(place.holder.as_str()) == Some(&most);
        match self.places.iter().position(of_most) {
            Some(oldest) if most > own + 1 => {
                self.places.remove(oldest).evicted.notify_one();
                Ok(())
            }
            _ => Err(NoSeat::Full),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.places.retain(|place| place.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_cannot_take_every_place() {
        let seats = Arc::<Seats>::default();
        let mut held = Vec::new();
        for holder in ["a", "b", "c", "d"] {
            for _ in 0..MAX_OF_ONE {
                held.push(seats.take(holder).unwrap());
            }
            assert_eq!(seats.take(holder).unwrap_err(), NoSeat::TooManyOfOne);
        }
        // Somebody new takes the place of the oldest of those who hold most, up to as many as they.
        let mut own = Vec::new();
        while let Ok(seat) = seats.take("e") {
            own.push(seat);
        }
        assert_eq!(own.len(), 6);
        assert_eq!(seats.taken().places.len(), MAX_STREAMS);
        assert_eq!(seats.take("e").unwrap_err(), NoSeat::Full);
        let left = |holder: &str| {
            let taken = seats.taken();
            taken.places.iter().filter(|of| of.holder == holder).count()
        };
        let left = ["a", "b", "c", "d"].map(left);
        assert_eq!(left.iter().sum::<usize>(), MAX_STREAMS - own.len());
        assert!(left.iter().all(|of| (6..=7).contains(of)), "{left:?}");
        // One that lost its place gives back nobody else's, and one that ends makes room.
        drop(held);
        assert_eq!(seats.taken().places.len(), own.len());
    }
}
