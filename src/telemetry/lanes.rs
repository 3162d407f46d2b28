//! Queues from the workers to a thread that writes: one bounded queue a worker, never waited for.
//!
//! Invariants: [`Lanes::push`] takes no lock, makes no system call but a wake-up every few thousand
//! entries, allocates nothing and waits for nobody; what finds its queue full is handed back, so
//! that the caller counts it. The receiving thread looks by itself every [`LOOK_EVERY`]: it never
//! blocks in a receive, so that no sender has to wake it. Used by `telemetry` alone.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

/// Pause between two looks at empty queues: how late an entry may be.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Pause while entries come: enough of them gather for one write, and not so many that writing them
/// keeps a worker from its core for long. Without it the receiver would spin beside the workers.
const GATHER: Duration = Duration::from_millis(2);

/// The sending ends, one for each worker and one for everybody else.
pub(super) struct Lanes<T> {
    lanes: Box<[Lane<T>]>,
    bell: Bell,
    /// Entries of a lane after which the receiver is woken: half of what the lane holds.
    ring_every: u32,
}

struct Lane<T> {
    sender: SyncSender<T>,
    pushed: AtomicU32,
}

/// Wakes the receiving thread, once that is known.
#[derive(Clone, Default)]
pub(super) struct Bell(Arc<OnceLock<Thread>>);

/// The receiving ends.
pub(super) struct LaneEnds<T> {
    receivers: Vec<Receiver<T>>,
    capacity: usize,
    bell: Bell,
}

/// What a look at the queues found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drained {
    /// Entries taken.
    pub(super) taken: usize,
    /// Nobody can push any more, and nothing is left.
    pub(super) ended: bool,
}

/// Queues of `capacity` entries for `workers` and for whoever is none of them.
pub(super) fn lanes<T>(workers: usize, capacity: u32) -> (Lanes<T>, LaneEnds<T>) {
    let bell = Bell::default();
    let places = usize::try_from(capacity).unwrap_or(usize::MAX);
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..=workers).map(|_| sync_channel(places)).unzip();
    let lane = |sender| Lane {
        sender,
        pushed: AtomicU32::new(0),
    };
    let lanes = Lanes {
        lanes: senders.into_iter().map(lane).collect(),
        bell: bell.clone(),
        ring_every: (capacity / 2).max(1),
    };
    let ends = LaneEnds {
        receivers,
        capacity: places,
        bell,
    };
    (lanes, ends)
}

impl<T> Lanes<T> {
    /// Hands `entry` over on the lane of `worker`; a number too high shares the last lane.
    ///
    /// # Errors
    /// The entry itself, when the lane is full.
    pub(super) fn push(&self, worker: usize, entry: T) -> Result<(), T> {
        let Some(lane) = self.lanes.get(worker).or_else(|| self.lanes.last()) else {
            return Err(entry);
        };
        if lane.pushed.fetch_add(1, Ordering::Relaxed) % self.ring_every == self.ring_every - 1 {
            self.bell.ring();
        }
        lane.sender
            .try_send(entry)
            .map_err(|refused| match refused {
                std::sync::mpsc::TrySendError::Full(entry)
                | std::sync::mpsc::TrySendError::Disconnected(entry) => entry,
            })
    }

    /// How many lanes there are.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }
}

impl Bell {
    /// Ends the pause of the receiving thread, or its next one.
    pub(super) fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

impl Drained {
    /// Pauses until the next look is due, or the bell rings.
    pub(super) fn rest(self) {
        thread::park_timeout(if self.taken == 0 { LOOK_EVERY } else { GATHER });
    }
}

impl<T> LaneEnds<T> {
    /// Makes the calling thread the one that is woken.
    pub(super) fn answer_the_bell(&self) {
        self.bell.0.get_or_init(thread::current);
    }

    /// Hands what waits to `take`, from each lane no more than it holds.
    pub(super) fn drain(&self, mut take: impl FnMut(T)) -> Drained {
        let mut taken = 0;
        let mut open = false;
        for receiver in &self.receivers {
            let mut left = self.capacity;
            open |= loop {
                if left == 0 {
                    break true;
                }
                match receiver.try_recv() {
                    Ok(entry) => {
                        take(entry);
                        taken += 1;
                        left -= 1;
                    }
                    Err(TryRecvError::Empty) => break true,
                    Err(TryRecvError::Disconnected) => break false,
                }
            };
        }
        Drained {
            taken,
            ended: !open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_hands_the_entry_back_and_others_go_on() {
        let (lanes, ends) = lanes::<u32>(1, 4);
        for entry in 0..4 {
            lanes.push(0, entry).unwrap();
        }
        assert_eq!(lanes.push(0, 4), Err(4));
        lanes.push(7, 5).unwrap();
        let mut seen = Vec::new();
        let drained = ends.drain(|entry| seen.push(entry));
        assert_eq!(seen, [0, 1, 2, 3, 5]);
        assert_eq!((drained.taken, drained.ended), (5, false));
        lanes.push(0, 6).unwrap();
        drop(lanes);
        assert!(ends.drain(|entry| seen.push(entry)).ended);
        assert_eq!(seen.last(), Some(&6), "what was pushed before the end");
    }

    #[test]
    fn many_threads_lose_and_repeat_nothing() {
        const EACH: u32 = 20_000;
        let (lanes, ends) = lanes::<u32>(2, 64);
        let lanes = Arc::new(lanes);
        let pushers: Vec<_> = (0..4)
            .map(|pusher| {
                let lanes = Arc::clone(&lanes);
                thread::spawn(move || {
                    let mut refused = 0_u64;
                    for entry in 0..EACH {
                        refused += u64::from(lanes.push(pusher, entry).is_err());
                    }
                    refused
                })
            })
            .collect();
        drop(lanes);
        let mut seen = 0_u64;
        while !ends.drain(|_| seen += 1).ended {
            thread::yield_now();
        }
        let refused: u64 = pushers
            .into_iter()
            .map(|pusher| pusher.join().unwrap())
            .sum();
        assert_eq!(seen + refused, 4 * u64::from(EACH));
    }
}
