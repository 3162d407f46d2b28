//! Telemetry: log, access log, metrics and traces of the running gateway.
//!
//! Nothing here is global: a [`Log`] and a [`Metrics`] are handles that the composition root
//! creates and passes on, so two gateways in one process stay apart. The request path never waits
//! for either (invariant 20): a log line goes into a bounded queue or is counted as dropped, a
//! metric is one atomic addition on a handle resolved at start. Text from outside reaches a log
//! only through [`Line::outside`]; no token, secret or private key may be handed to this module.
//!
//! Layer 2. May import `clock`, `log_id` and the pure layer 1; of other crates `prometheus`,
//! `log`, `serde_json`, `ring` (the digest behind shared Log IDs), and for the collector of traces
//! `opentelemetry_proto`, `prost` and `ureq`.

mod access_log;
mod denial_log;
mod denial_window;
mod endpoint_health;
mod lanes;
mod log;
mod log_bridge;
#[cfg(any(test, feature = "testing"))]
mod log_capture;
mod log_format;
mod log_ring;
mod log_writer;
mod metrics;
mod redaction;
mod request_record;
#[cfg(test)]
mod test_clock;
mod trace;

pub use access_log::{
    AccessFormat, AccessLog, AccessLogParts, AccessLogSettings, AccessTarget, SampleRate,
};
pub use denial_log::{DENIAL_LINES_PER_SECOND, DenialLog, Disposition};
pub use endpoint_health::{EndpointHealth, EndpointState, Trouble};
pub use log::{Format, Level, Line, Log};
pub use log_bridge::install_bridge;
#[cfg(any(test, feature = "testing"))]
pub use log_capture::LogCapture;
pub use log_format::is_treacherous;
pub use log_ring::LogRing;
pub use log_writer::LogWriter;
pub use metrics::{
    AdminRefusal, CacheLookup, CodeClass, FailureCause, Grant, ISSUER_ROUTE, InFlight, KeyFacts,
    KeySeries, KeySetFacts, KeyStateLabel, METRICS_CONTENT_TYPE, Metrics, MetricsLabels, NO_ROUTE,
    OpenConnection, Readings, RotationKind, RotationResult, RouteLabels, RouteMetrics, TokenError,
    TraceMetrics, Trigger, UpstreamLabels, UpstreamMetrics, WorkerMetrics,
};
pub use request_record::{
    AuthStep, CLIENT_GONE, ClientName, KID_BYTES, PATH_BYTES, Place, RequestRecord, RouteNames,
    Short, Step, UpstreamStep,
};
pub use trace::{
    Fact, Header, LifecycleSpan, RequestTrace, SpanId, TraceId, TraceSettings, Traceparent, Tracer,
    TracerParts, is_tracestate, tracestate,
};
