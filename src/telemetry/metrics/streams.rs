//! What becomes of lines and spans: those of the access log and of the traces.

use std::sync::Arc;

use prometheus::{IntCounter, Result};

use super::registrar::Registrar;

/// Registers the lines of the access log that were lost.
pub(super) fn register_access_log(to: &mut Registrar) -> Result<IntCounter> {
    to.counter(
        "access_log_dropped_total",
        "Lines of the access log lost because the queue was full or writing failed.",
    )
}

/// The metrics of traces.
#[derive(Debug)]
pub struct TraceMetrics {
    delivered: IntCounter,
    queue_full: IntCounter,
    undeliverable: IntCounter,
    refused: IntCounter,
}

impl TraceMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Arc<Self>> {
        let delivered = to.counter(
            "trace_spans_exported_total",
            "Spans that the collector has taken.",
        )?;
        let dropped = to.counters(
            "trace_spans_dropped_total",
            "Spans lost on their way to the collector.",
            &["reason"],
        )?;
        let because = |reason| dropped.get_metric_with_label_values(&[reason]);
        Ok(Arc::new(Self {
            delivered,
            queue_full: because("queue_full")?,
            undeliverable: because("undeliverable")?,
            refused: because("refused")?,
        }))
    }

    /// The collector has them.
    pub(crate) fn delivered(&self, spans: u64) {
        self.delivered.inc_by(spans);
    }

    /// They found no room.
    pub(crate) fn queue_full(&self, spans: u64) {
        self.queue_full.inc_by(spans);
    }

    /// The collector could not be reached, refused the batch, or kept a stop waiting.
    pub(crate) fn undeliverable(&self, spans: u64) {
        self.undeliverable.inc_by(spans);
    }

    /// How many of them there are.
    pub(crate) fn undelivered(&self) -> u64 {
        self.undeliverable.get()
    }

    /// The collector took the batch without them.
    pub(crate) fn refused(&self, spans: u64) {
        self.refused.inc_by(spans);
    }
}
