//! Traces: W3C context in and out, spans to an OpenTelemetry collector.
//!
//! A request fills one record, the same as for the access log, and a thread makes the spans of it:
//! the request, the decision about its token, the way to the upstream, the making of a token.
//!
//! Invariants: a request never waits for the collector: its record goes into a bounded queue of its
//! worker, and what finds no room, or cannot be delivered, is counted in
//! `portcullis_trace_spans_dropped_total`. Without a tracer nothing here runs at all. No span holds
//! a query, a token or a header field, but for the `tracestate` of its trace.

mod attributes;
mod context;
mod deliver;
mod export;
mod otlp;
mod pace;
mod state;
mod waiting;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::context::{SpanId, TraceId, Traceparent};
use self::deliver::Collector;
pub use self::deliver::Header;
use self::export::Exporter;
use self::otlp::Encoder;
pub use self::state::{is_tracestate, tracestate};
use self::waiting::Waiting;
use super::access_log::SampleRate;
use super::lanes::{self, Bell, Lanes};
use super::log::{Level, Log};
use super::log_writer::FlushDesk;
use super::metrics::{Metrics, TraceMetrics};
use super::request_record::{Names, RequestRecord, RouteNames};
use crate::clock::Clock;

/// Records that may wait of each worker; about 1.2 MiB, taken at start.
const LANE_RECORDS: u32 = 2048;

/// What the configuration says of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// Where spans are posted to, path included.
    pub endpoint: String,
    /// File with header fields for the collector, which may hold a credential.
    pub headers_file: Option<PathBuf>,
    /// PEM file with the authorities of an `https` collector.
    pub ca_file: Option<PathBuf>,
    /// For one delivery.
    pub timeout: Duration,
    /// Which share of the traces that begin here is recorded.
    pub sample_ratio: SampleRate,
}

/// Who makes spans. Clones belong to the same one.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    lanes: Lanes<Traced>,
    ratio: SampleRate,
    metrics: Arc<TraceMetrics>,
    desk: Arc<FlushDesk>,
    bell: Bell,
    waiting: Arc<Waiting>,
    log: Log,
}

/// What the exporting thread needs to know.
#[derive(Debug)]
pub struct TracerParts<'a> {
    /// The routes in their order.
    pub routes: Vec<RouteNames>,
    /// How many workers there are.
    pub workers: usize,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Learns of a collector that takes nothing.
    pub log: &'a Log,
    /// Where spans are counted.
    pub metrics: &'a Metrics,
    /// Version of the program.
    pub version: &'static str,
    /// Header fields for the collector.
    pub headers: Vec<Header>,
    /// What `ca_file` holds.
    pub authorities: Option<Vec<u8>>,
}

/// The place of a request in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTrace {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span, when the caller has one.
    pub parent: Option<SpanId>,
    /// The span of the request.
    pub request: SpanId,
    /// The span of the way to the upstream, which is the upstream's parent.
    pub upstream: SpanId,
    /// Whether spans are recorded.
    pub sampled: bool,
}

impl RequestTrace {
    /// The `traceparent` for the upstream.
    #[must_use]
    pub const fn onwards(&self) -> Traceparent {
        Traceparent {
            trace_id: self.trace_id,
            parent: self.upstream,
            sampled: self.sampled,
        }
    }

    /// The trace that a request names when nobody traces here.
    #[must_use]
    pub fn claimed(said: Traceparent) -> Self {
        Self {
            trace_id: said.trace_id,
            parent: Some(said.parent),
            request: said.parent,
            upstream: said.parent,
            sampled: false,
        }
    }
}

/// A step of the life cycle that has ended; a trace of its own.
#[derive(Clone, Debug)]
pub struct LifecycleSpan {
    /// What was done.
    pub name: &'static str,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// What is to be known of it; names of ours, values without secrets.
    pub attributes: Vec<(&'static str, Fact)>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Text of ours.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// A count.
    Number(u64),
}

/// What goes through the queues.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are requests, and a box would cost each an allocation"
)]
enum Traced {
    Request(RequestRecord),
    Lifecycle(LifecycleSpan),
}

impl Tracer {
    /// Starts the thread that delivers spans. The collector need not be there.
    ///
    /// # Errors
    /// When `authorities` holds no certificate, or the system creates no thread.
    pub fn start(settings: &TraceSettings, parts: TracerParts<'_>) -> io::Result<Self> {
        let (lanes, ends) = lanes::lanes(parts.workers, LANE_RECORDS);
        let desk = Arc::<FlushDesk>::default();
        let metrics = parts.metrics.traces();
        let collector = Collector::new(settings, parts.headers, parts.authorities.as_deref())?;
        let waiting = Arc::new(Waiting::new(ends));
        let exporter = Exporter::new(
            Arc::clone(&waiting),
            Encoder::new(Names::new(parts.routes), parts.version),
            collector,
            export::Around {
                clock: parts.clock,
                log: parts.log.clone(),
                metrics: Arc::clone(&metrics),
                desk: Arc::clone(&desk),
            },
        );
        std::thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || exporter.run())?;
        Ok(Self(Arc::new(Shared {
            bell: lanes.bell(),
            lanes,
            ratio: settings.sample_ratio,
            metrics,
            desk,
            waiting,
            log: parts.log.clone(),
        })))
    }

    /// The place of a request whose `traceparent` fields are these: in the caller's trace when they
    /// are well-formed, recorded when the caller records it; else in a trace of its own, recorded
    /// by the ratio.
    #[must_use]
    pub fn begin<'a>(&self, traceparent: impl Iterator<Item = &'a [u8]>) -> RequestTrace {
        let said = Traceparent::parse(traceparent);
        let trace_id = said.map_or_else(TraceId::random, |said| said.trace_id);
        RequestTrace {
            trace_id,
            parent: said.map(|said| said.parent),
            request: SpanId::random(),
            upstream: SpanId::random(),
            sampled: said.map_or_else(
                || self.0.ratio.takes(trace_id.number()),
                |said| said.sampled,
            ),
        }
    }

    /// Hands the record of a recorded request over; never blocks.
    pub fn request(&self, worker: usize, record: RequestRecord) {
        self.push(worker, Traced::Request(record));
    }

    /// Hands over a step of the life cycle, which is always recorded; never blocks.
    pub fn lifecycle(&self, span: LifecycleSpan) {
        self.push(usize::MAX, Traced::Lifecycle(span));
    }

    fn push(&self, worker: usize, traced: Traced) {
        if let Err(traced) = self.0.lanes.push(worker, traced) {
            self.0.metrics.queue_full(traced.spans());
        }
    }

    /// Waits until what was handed over before is delivered or lost; false when that takes longer
    /// than `timeout`. While it is asked for, a failed delivery is not tried again.
    #[must_use = "false means that spans are still undelivered"]
    pub fn flush(&self, timeout: Duration) -> bool {
        let number = self.0.desk.request(true);
        self.0.bell.ring();
        self.0.desk.wait(number, timeout)
    }

    /// As [`Tracer::flush`], for a stop: what is not delivered then is lost and counted, and the log
    /// is told of how much. What comes after it is nobody's.
    pub fn finish(&self, timeout: Duration) {
        let metrics = &self.0.metrics;
        let before = metrics.undelivered();
        if !self.flush(timeout) {
            metrics.undeliverable(self.0.waiting.give_up());
        }
        let lost = metrics.undelivered() - before;
        if lost > 0 {
            self.0
                .log
                .event(
                    Level::Warn,
                    "trace_spans_lost",
                    "the collector did not take the last spans before the gateway stopped; they are lost",
                )
                .field("spans", lost)
                .emit();
        }
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("ratio", &self.0.ratio)
            .finish_non_exhaustive()
    }
}
