//! Spans between the workers and the collector, so that each is accounted for exactly once.
//!
//! Invariant: what was taken out of the queues is held until the exporter settles it, or until it is
//! given up at a stop, together with what is still in the queues; whichever comes first counts it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Traced;
use crate::telemetry::lanes::{Drained, LaneEnds};

pub(super) struct Waiting(Mutex<State>);

struct State {
    ends: LaneEnds<Traced>,
    /// Spans that the exporter holds.
    held: u64,
    given_up: bool,
}

impl Waiting {
    pub(super) const fn new(ends: LaneEnds<Traced>) -> Self {
        Self(Mutex::new(State {
            ends,
            held: 0,
            given_up: false,
        }))
    }

    /// Makes the calling thread the one that is woken.
    pub(super) fn answer_the_bell(&self) {
        self.lock().ends.answer_the_bell();
    }

    /// Hands what waits in the queues to `take`; the caller holds its spans from now on.
    pub(super) fn drain(&self, mut take: impl FnMut(Traced)) -> Drained {
        let mut state = self.lock();
        let State { ends, held, .. } = &mut *state;
        let drained = ends.drain(|traced| {
            *held += traced.spans();
            take(traced);
        });
        Drained {
            ended: drained.ended || state.given_up,
            ..drained
        }
    }

    /// So many spans are delivered or lost: has them counted, unless they were given up before.
    pub(super) fn settle(&self, spans: u64, count: impl FnOnce()) {
        let mut state = self.lock();
        if !state.given_up {
            state.held = state.held.saturating_sub(spans);
            count();
        }
    }

    /// Gives everything up that is not settled, for good; answers how many spans that is.
    pub(super) fn give_up(&self) -> u64 {
        let mut state = self.lock();
        let mut spans = std::mem::take(&mut state.held);
        state.ends.drain(|traced| spans += traced.spans());
        state.given_up = true;
        spans
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is valid by itself, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
