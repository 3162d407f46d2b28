//! The schedule: automatic rotation, retirement, forgetting of tombstones.
//!
//! [`Lifecycle::tick`] does everything that is due and is what tests drive; [`run`] calls it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, Trigger};
use crate::log_id::LogId;
use crate::telemetry::Level;

use super::impact::{SAMPLE_INTERVAL, SAVE_INTERVAL};
use super::{Lifecycle, LifecycleError};

/// Longest pause between two looks, so that a jump of the wall clock is noticed.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// How often the key set is read back from the store, besides what life-cycle steps do.
const STORE_LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Shortest pause, also after a failure, so that a broken store is not hammered.
const MIN_PAUSE: Duration = Duration::from_millis(20);

impl Lifecycle {
    /// Does everything that is due now; answers when something will be due next. While a forward
    /// step of the clock waits to be confirmed, nothing is.
    ///
    /// # Errors
    /// [`LifecycleError`]; what was due stays due.
    pub async fn tick(&self) -> Result<Timestamp, LifecycleError> {
        let done = self.do_what_is_due().await;
        self.schedule.looked(self.parts.clock.now(), &done);
        done
    }

    async fn do_what_is_due(&self) -> Result<Timestamp, LifecycleError> {
        let timing = &self.policy.timing;
        let now = self.parts.clock.now();
        if self.uncertain.load(Ordering::SeqCst) {
            self.load().await?;
        }
        // After `now` was read: a step that is in it is seen. Read again after that: a step that
        // was just taken back is in neither.
        if let Some(step) = self.schedule_pause() {
            return Ok(step.resumes_at);
        }
        let now = now.min(self.parts.clock.now());
        self.alarm_of_demand(now);
        // Cheap look at what is published; the steps decide again on what is stored.
        if transition::next_due(&self.current_set(), timing) > now {
            return Ok(transition::next_due(&self.current_set(), timing));
        }
        self.commit_if(|set, store_now| {
            // The store read the clock anew, and it may have stepped in between.
            transition::retire(set, store_now.min(now.max(set.high_water_time)))
        })
        .await?;
        if transition::next_rotation_at(&self.current_set(), timing) <= now {
            self.rotate(&Order {
                id: Uuid::new_v4(),
                trigger: Trigger::Automatic,
                actor: Actor::Scheduler,
                reason: None,
                seen_revision: None,
                claim: None,
            })
            .await?;
        }
        Ok(transition::next_due(&self.current_set(), timing))
    }
}

impl Lifecycle {
    /// Reads the key set back from the store, so that one that is gone, damaged or out of reach is
    /// known before a rotation or a purge needs it. Takes and answers whether that failed: a failure
    /// in a row is told once.
    pub async fn look_at_store(&self, failed_before: bool) -> bool {
        let failed = self.load().await.err();
        match (&failed, failed_before) {
            (Some(error), false) => self
                .parts
                .log
                .event(
                    Level::Error,
                    "store_unreadable",
                    "the key set cannot be read back from its store; the keys in force stay, but rotations and purges \
                     will fail until that is mended",
                )
                .log_id(LogId::random())
                .field("cause", error.to_string())
                .emit(),
            (None, true) => self
                .parts
                .log
                .event(
                    Level::Info,
                    "store_readable",
                    "the key set can be read back from its store again",
                )
                .emit(),
            _ => {}
        }
        failed.is_some()
    }
}

/// Ticks until `stop` resolves.
pub async fn run(lifecycle: Arc<Lifecycle>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let (mut failing, mut unreadable) = (false, false);
    let (mut sampled, mut saved, mut looked) = (Instant::now(), Instant::now(), Instant::now());
    loop {
        if looked.elapsed() >= STORE_LOOK_INTERVAL {
            unreadable = lifecycle.look_at_store(unreadable).await;
            looked = Instant::now();
        }
        if sampled.elapsed() >= SAMPLE_INTERVAL {
            lifecycle.sample().await;
            sampled = Instant::now();
        }
        if saved.elapsed() >= SAVE_INTERVAL {
            lifecycle.prune_callers();
            lifecycle.save_side_documents().await;
            saved = Instant::now();
        }
        let pause = match lifecycle.tick().await {
            Ok(due) => {
                failing = false;
                due.since(lifecycle.parts.clock.now())
                    .clamp(MIN_PAUSE, MAX_PAUSE)
            }
            Err(error) => {
                if !failing {
                    report(&lifecycle, &error);
                }
                failing = true;
                MAX_PAUSE
            }
        };
        tokio::select! {
            () = &mut stop => return lifecycle.save_side_documents().await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Once per failure in a row: the schedule tries again every second.
fn report(lifecycle: &Lifecycle, error: &LifecycleError) {
    lifecycle
        .parts
        .log
        .event(
            Level::Error,
            "schedule_failed",
            "a scheduled rotation or retirement could not be completed; the keys in force stay, the schedule tries again",
        )
        .log_id(lifecycle.schedule.failure_log_id())
        .field("cause", error.to_string())
        .emit();
}
