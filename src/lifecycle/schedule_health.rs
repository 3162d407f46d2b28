//! How the schedule is: when it looked last, and what it could not do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::keys::transition;
use crate::log_id::LogId;

use super::{Lifecycle, LifecycleError};

/// What there is to say of the schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFacts {
    /// When it last looked whether something is due; `None` before the first time.
    pub looked_at: Option<Timestamp>,
    /// What it fails to do at present.
    pub failing: Option<ScheduleTrouble>,
    /// What it failed to do last, over by now or not.
    pub last_failure: Option<ScheduleTrouble>,
    /// When the next automatic rotation is due.
    pub next_rotation_at: Timestamp,
}

/// Something that the schedule could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleTrouble {
    /// The first time in a row.
    pub since: Timestamp,
    /// The last time.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

/// Written by the schedule, read by those who ask; both hold the lock for a copy.
#[derive(Debug, Default)]
pub(super) struct ScheduleHealth(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    looked_at: Option<Timestamp>,
    is_failing: bool,
    /// Of the one line about the failures in a row.
    log_id: Option<LogId>,
    last_failure: Option<ScheduleTrouble>,
}

impl ScheduleHealth {
    pub(super) fn looked<T>(&self, now: Timestamp, done: &Result<T, LifecycleError>) {
        let mut state = self.lock();
        state.looked_at = Some(now);
        let was_failing = std::mem::replace(&mut state.is_failing, done.is_err());
        if done.is_ok() {
            state.log_id = None;
        }
        if let Err(error) = done {
            let since = state.last_failure.as_ref().filter(|_| was_failing);
            state.last_failure = Some(ScheduleTrouble {
                since: since.map_or(now, |failure| failure.since),
                at: now,
                why: error.to_string(),
            });
        }
    }

    /// Log ID of the line about the failures in a row, from the first of them on.
    pub(super) fn failure_log_id(&self) -> LogId {
        *self.lock().log_id.get_or_insert_with(LogId::random)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each field is valid by itself, whatever panicked elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifecycle {
    /// How the schedule is.
    #[must_use]
    pub fn schedule_facts(&self) -> ScheduleFacts {
        let state = self.schedule.lock().clone();
        let snapshot = self.published.load();
        ScheduleFacts {
            looked_at: state.looked_at,
            failing: state.last_failure.clone().filter(|_| state.is_failing),
            last_failure: state.last_failure,
            next_rotation_at: transition::next_rotation_at(&snapshot.set, &self.policy.timing),
        }
    }
}
