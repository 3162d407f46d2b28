//! The schedule and the clock: after a forward step of wall time beyond 300 s nothing is rotated
//! or retired by the schedule until the time is confirmed (design, invariant 14).
//!
//! A manual Rotate and a purge never wait: they are asked for by somebody who is there.

use std::sync::{MutexGuard, PoisonError};

use crate::clock::{ForwardStep, StepReport, Timestamp};
use crate::log_id::LogId;
use crate::telemetry::Level;

use super::Lifecycle;

impl Lifecycle {
    /// The forward step of the clock for which the schedule waits, if it does. Writes beginning
    /// and end of it into log and metrics.
    #[must_use]
    pub fn schedule_pause(&self) -> Option<ForwardStep> {
        let ahead = self.parts.clock.ahead_of_wall();
        self.parts.metrics.clock_offset(ahead.as_secs_f64());
        // Looked up under the lock, so that two who look write their lines in order.
        let mut shown = self.shown_step();
        match self.parts.clock.step_report() {
            StepReport::Pending(step) => {
                if shown.is_none_or(|before| before.since != step.since) {
                    self.show_step(&step);
                }
                *shown = Some(step);
                Some(step)
            }
            StepReport::Over(how) => {
                if shown.take().is_some() {
                    self.show_end(how.as_str(), None);
                }
                None
            }
            StepReport::Quiet => None,
        }
    }

    /// Accepts the time after the step that was seen at `since`, so that the schedule goes on; false
    /// when the clock stepped again meanwhile, or nothing waits any more.
    #[must_use]
    pub fn confirm_clock(&self, since: Timestamp, actor: &str) -> bool {
        let mut shown = self.shown_step();
        let confirmed = self.parts.clock.confirm_step(since);
        if confirmed {
            *shown = None;
            self.show_end("confirmed", Some(actor));
        }
        confirmed
    }

    fn show_step(&self, step: &ForwardStep) {
        self.parts.metrics.clock_step(step.size.as_secs_f64());
        self.parts
            .log
            .event(
                Level::Error,
                "clock_stepped",
                "the wall clock moved forward by more than 300 s beyond the time that passed; automatic rotation and \
                 retirement wait until `portcullis keys confirm-clock`, until the clock is set back, or until resumes_at",
            )
            .log_id(LogId::random())
            .field("step_seconds", step.size.as_secs())
            .field("since", step.since.to_string())
            .field("resumes_at", step.resumes_at.to_string())
            .emit();
    }

    fn show_end(&self, how: &str, actor: Option<&str>) {
        self.parts.metrics.clock_step(0.0);
        self.parts
            .log
            .event(
                Level::Info,
                "clock_step_over",
                "automatic rotation and retirement go on after a step of the clock",
            )
            .field("how", how)
            .field("actor", actor)
            .emit();
    }

    fn shown_step(&self) -> MutexGuard<'_, Option<ForwardStep>> {
        // Either value is valid, whatever panicked elsewhere.
        self.shown_step
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
