//! The thread that collects spans into batches and delivers them.
//!
//! Invariants: a batch is bounded; a failed delivery is tried again with growing pauses, for a
//! minute, and then given up and counted; the pauses go on over the batches until the collector
//! takes one; meanwhile the queues fill up, and what finds no room in them is counted there. The log
//! is told when the collector stops taking spans and when it takes them again, not in between.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::deliver::{Collector, Delivered};
use super::otlp::Encoder;
use super::pace::Pace;
use super::waiting::Waiting;
use crate::clock::Clock;
use crate::telemetry::log::{Level, Log};
use crate::telemetry::log_writer::FlushDesk;
use crate::telemetry::metrics::TraceMetrics;
use crate::telemetry::request_record::Anchor;

/// Spans of one delivery.
const BATCH_SPANS: usize = 512;

/// How long a span waits for others of its batch.
const BATCH_AGE: Duration = Duration::from_secs(1);

pub(super) struct Exporter {
    waiting: Arc<Waiting>,
    encoder: Encoder,
    collector: Collector,
    around: Around,
    /// Spans that wait to be delivered, and since when.
    batch: Vec<Span>,
    since: Option<Instant>,
    pace: Pace,
    /// Spans lost so far by the failure that lasts.
    failing: Option<u64>,
}

/// What the exporter works with beside spans.
pub(super) struct Around {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Log,
    pub(super) metrics: Arc<TraceMetrics>,
    pub(super) desk: Arc<FlushDesk>,
}

impl Exporter {
    pub(super) fn new(
        waiting: Arc<Waiting>,
        encoder: Encoder,
        collector: Collector,
        around: Around,
    ) -> Self {
        Self {
            waiting,
            encoder,
            collector,
            around,
            batch: Vec::new(),
            since: None,
            pace: Pace::new(),
            failing: None,
        }
    }

    pub(super) fn run(mut self) {
        self.waiting.answer_the_bell();
        loop {
            // Read before the queues are drained: all that a flush waits for is in them by now.
            let request = self.around.desk.open();
            let anchor = Anchor::now(&*self.around.clock);
            let (encoder, batch) = (&self.encoder, &mut self.batch);
            let drained = self
                .waiting
                .drain(|traced| encoder.spans(batch, &traced, &anchor));
            if !self.batch.is_empty() {
                self.since.get_or_insert_with(Instant::now);
            }
            let is_last = drained.ended || request.is_some();
            let is_due = self.since.is_some_and(|since| since.elapsed() >= BATCH_AGE);
            if is_last || is_due || self.batch.len() >= BATCH_SPANS {
                self.deliver_all(drained.ended);
            }
            if let Some(asked) = request {
                self.around.desk.answer(asked);
            }
            if drained.ended {
                return;
            }
            drained.rest();
        }
    }

    fn deliver_all(&mut self, ended: bool) {
        self.since = None;
        let mut spans = std::mem::take(&mut self.batch);
        while !spans.is_empty() {
            let rest = spans.split_off(spans.len().min(BATCH_SPANS));
            let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            let message = self.encoder.message(std::mem::replace(&mut spans, rest));
            self.deliver(&message, count, ended);
        }
    }

    /// Delivers one batch, or gives it up. Whoever waits for a flush waits for one try, not for a
    /// collector.
    fn deliver(&mut self, message: &ExportTraceServiceRequest, count: u64, ended: bool) {
        let mut first = None;
        loop {
            if !ended {
                self.rest_until_due();
            }
            let is_last = ended || self.around.desk.is_asked();
            let first = *first.get_or_insert_with(Instant::now);
            match self.collector.deliver(message) {
                Delivered::Taken { refused } => {
                    let refused = refused.min(count);
                    let metrics = &self.around.metrics;
                    self.waiting.settle(count, || {
                        metrics.delivered(count - refused);
                        metrics.refused(refused);
                    });
                    self.pace.taken();
                    return self.recovered();
                }
                Delivered::Refused { why, after } => {
                    self.pace.failed(Instant::now(), after);
                    return self.lost(count, &why);
                }
                Delivered::Later { why, after } => {
                    self.pace.failed(Instant::now(), after);
                    self.failed(&why);
                    if is_last || self.pace.is_too_late_for(first) {
                        return self.lost(count, &why);
                    }
                }
            }
        }
    }

    /// Sleeps until the collector may be asked, or a flush is asked for.
    fn rest_until_due(&self) {
        let Some(due) = self.pace.not_before() else {
            return;
        };
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            if left.is_zero() || self.around.desk.is_asked() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    fn failed(&mut self, why: &str) {
        if self.failing.is_some() {
            return;
        }
        self.failing = Some(0);
        self.around
            .log
            .event(
                Level::Warn,
                "trace_export_failed",
                "the collector takes no spans; requests are served as always, their spans are tried again and then dropped",
            )
            .outside("cause", why)
            .emit();
    }

    fn lost(&mut self, count: u64, why: &str) {
        self.failed(why);
        self.failing = self.failing.map(|lost| lost + count);
        let metrics = &self.around.metrics;
        self.waiting.settle(count, || metrics.undeliverable(count));
    }

    fn recovered(&mut self) {
        if let Some(lost) = self.failing.take() {
            self.around
                .log
                .event(
                    Level::Info,
                    "trace_export_recovered",
                    "the collector takes spans again",
                )
                .field("spans_lost", lost)
                .emit();
        }
    }
}
