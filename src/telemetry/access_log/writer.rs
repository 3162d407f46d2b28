//! The thread that formats and writes the access log.
//!
//! Invariants: only this thread touches the target, so a slow or stuck one stops nobody else; what
//! it cannot write is counted and told to the log when that begins and when it ends.

use std::sync::Arc;

use prometheus::IntCounter;

use super::format::Formatter;
use super::target::Output;
use crate::clock::Clock;
use crate::telemetry::lanes::LaneEnds;
use crate::telemetry::log::{Level, Log};
use crate::telemetry::log_writer::FlushDesk;
use crate::telemetry::request_record::{Anchor, RequestRecord};

/// Bytes collected before a write, so that a busy log costs few system calls.
const BATCH_BYTES: usize = 64 * 1024;

pub(super) struct Writer {
    pub(super) ends: LaneEnds<RequestRecord>,
    pub(super) formatter: Formatter,
    pub(super) output: Output,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Log,
    pub(super) dropped: IntCounter,
    pub(super) desk: Arc<FlushDesk>,
}

impl Writer {
    pub(super) fn run(self) {
        let Self {
            ends,
            formatter,
            output,
            clock,
            log,
            dropped,
            desk,
        } = self;
        ends.answer_the_bell();
        let mut sink = Sink {
            output,
            log,
            dropped,
            failing: None,
        };
        let mut batch = String::new();
        loop {
            // Read before the queues are drained: all that a flush waits for is in them by now.
            let request = desk.open();
            let anchor = Anchor::now(&*clock);
            let drained = ends.drain(|record| {
                formatter.line(&mut batch, &record, &anchor);
                if batch.len() >= BATCH_BYTES {
                    sink.write(&mut batch);
                }
            });
            sink.write(&mut batch);
            if let Some(asked) = request {
                desk.answer(asked);
            }
            if drained.ended {
                return;
            }
            drained.rest();
        }
    }
}

struct Sink {
    output: Output,
    log: Log,
    dropped: IntCounter,
    /// Lines lost so far by the failure that lasts.
    failing: Option<u64>,
}

impl Sink {
    fn write(&mut self, batch: &mut String) {
        if batch.is_empty() {
            return;
        }
        match self.output.write(batch.as_bytes()) {
            Ok(()) => {
                if let Some(lost) = self.failing.take() {
                    self.log
                        .event(
                            Level::Warn,
                            "access_log_recovered",
                            "the access log is written again",
                        )
                        .field("lines_lost", lost)
                        .emit();
                }
            }
            Err(unwritten) => {
                self.dropped.inc_by(unwritten.lines);
                if self.failing.is_none() {
                    self.log
                        .event(
                            Level::Error,
                            "access_log_failed",
                            "the access log cannot be written; its lines are lost until it can: look at the space and the permissions of its target",
                        )
                        .field("cause", unwritten.cause.to_string())
                        .emit();
                }
                self.failing = Some(self.failing.unwrap_or_default() + unwritten.lines);
            }
        }
        batch.clear();
    }
}
