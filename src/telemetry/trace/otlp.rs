//! From records to the messages of the OpenTelemetry protocol.
//!
//! The message types are generated from the official definitions. Attribute names follow the
//! semantic conventions where there is one, and begin with `portcullis.` elsewhere.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::context::{SpanId, TraceId};
use super::{LifecycleSpan, RequestTrace, Traced};
use crate::log_id::LogId;
use crate::telemetry::log_format::escape_outside;
use crate::telemetry::request_record::{Anchor, Names, RequestRecord, Step};

/// The flags of a span whose parent is known to be elsewhere, or not (`SpanFlags` of the protocol).
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Makes spans and the message around them.
pub(super) struct Encoder {
    names: Names,
    version: &'static str,
    /// Of this process, so that two replicas can be told apart.
    instance: String,
}

impl Encoder {
    pub(super) fn new(names: Names, version: &'static str) -> Self {
        Self {
            names,
            version,
            instance: LogId::random().to_string(),
        }
    }

    /// Appends the spans of one record.
    pub(super) fn spans(&self, out: &mut Vec<Span>, traced: &Traced, anchor: &Anchor) {
        match traced {
            Traced::Request(record) => {
                if let Some(trace) = record.trace {
                    self.request(out, record, trace, anchor);
                }
            }
            Traced::Lifecycle(span) => out.push(lifecycle(span, anchor)),
        }
    }

    /// The message that carries `spans`.
    pub(super) fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let resource = Resource {
            attributes: vec![
                text("service.name", "portcullis"),
                text("service.version", self.version),
                text("service.instance.id", &self.instance),
            ],
            ..Resource::default()
        };
        let scope = InstrumentationScope {
            name: "portcullis".to_owned(),
            version: self.version.to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = ScopeSpans {
            scope: Some(scope),
            spans,
            ..ScopeSpans::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![scope_spans],
                ..ResourceSpans::default()
            }],
        }
    }

    fn request(
        &self,
        out: &mut Vec<Span>,
        record: &RequestRecord,
        trace: RequestTrace,
        anchor: &Anchor,
    ) {
        let whole = Step {
            began: record.started,
            took: record.total,
        };
        let route = self.names.route(record.place);
        let method = outside(record.method.as_bytes());
        let is_remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
        out.push(Span {
            parent_span_id: trace
                .parent
                .map(|parent| parent.as_bytes().to_vec())
                .unwrap_or_default(),
            flags: 1 | HAS_IS_REMOTE | is_remote,
            attributes: self.request_attributes(record, &method),
            status: failed(
                record.status.is_none_or(|status| status >= 500),
                record.reason,
            ),
            ..span(
                trace.trace_id,
                trace.request,
                &format!("{method} {route}"),
                SpanKind::Server,
                whole,
                anchor,
            )
        });
        let child = |id, name: &str, kind, step: Step| Span {
            parent_span_id: trace.request.as_bytes().to_vec(),
            flags: 1 | HAS_IS_REMOTE,
            ..span(trace.trace_id, id, name, kind, step, anchor)
        };
        if let Some(auth) = record.auth {
            out.push(Span {
                attributes: auth_attributes(record, auth.lookup.as_str()),
                ..child(
                    SpanId::random(),
                    "verify token",
                    SpanKind::Internal,
                    auth.step,
                )
            });
        }
        if let Some(upstream) = record.upstream {
            let name = self.names.upstream(record).unwrap_or_default();
            let mut attributes = vec![
                text("portcullis.upstream", name),
                text("http.request.method", &method),
            ];
            if let Some(endpoint) = upstream.endpoint {
                attributes.push(text("server.address", &endpoint.ip().to_string()));
                attributes.push(number("server.port", endpoint.port().into()));
            }
            let from_upstream = record.reason.is_none();
            if let Some(status) = record.status.filter(|_| from_upstream) {
                attributes.push(number("http.response.status_code", status.into()));
            }
            let is_failure = !from_upstream || record.status.is_none_or(|status| status >= 400);
            out.push(Span {
                attributes,
                status: failed(is_failure, record.reason),
                ..child(
                    trace.upstream,
                    &format!("upstream {name}"),
                    SpanKind::Client,
                    upstream.step,
                )
            });
        }
        if let Some(issue) = record.issue {
            out.push(child(
                SpanId::random(),
                "issue token",
                SpanKind::Internal,
                issue,
            ));
        }
    }

    fn request_attributes(&self, record: &RequestRecord, method: &str) -> Vec<KeyValue> {
        let mut attributes = vec![
            text("http.request.method", method),
            text("url.path", &outside(record.path.as_bytes())),
            text(
                "network.protocol.version",
                record.protocol.trim_start_matches("HTTP/"),
            ),
            text("portcullis.route", self.names.route(record.place)),
            number("http.request.body.size", count(record.bytes_in)),
            number("http.response.body.size", count(record.bytes_out)),
        ];
        if let Some(status) = record.status {
            attributes.push(number("http.response.status_code", status.into()));
        }
        if let Some(peer) = record.peer {
            attributes.push(text("network.peer.address", &peer.ip().to_string()));
            attributes.push(number("network.peer.port", peer.port().into()));
        }
        if let Some(client) = record.client.as_str() {
            attributes.push(text("portcullis.client_id", &outside(client.as_bytes())));
        }
        if let Some(reason) = record.reason {
            attributes.push(text("portcullis.reason", reason));
            attributes.push(text("error.type", reason));
        }
        if let Some(log_id) = record.log_id {
            attributes.push(text("portcullis.log_id", &log_id.to_string()));
        }
        attributes
    }
}

/// How many spans a record makes.
pub(super) fn spans_of(record: &RequestRecord) -> u64 {
    1 + u64::from(record.auth.is_some())
        + u64::from(record.upstream.is_some())
        + u64::from(record.issue.is_some())
}

fn auth_attributes(record: &RequestRecord, cache: &str) -> Vec<KeyValue> {
    let is_accepted = record.key_state.is_some();
    let mut attributes = vec![
        text("portcullis.cache", cache),
        attribute("portcullis.accepted", Value::BoolValue(is_accepted)),
    ];
    if let Some(state) = record.key_state {
        attributes.push(text("portcullis.key_state", state.as_str()));
    }
    if let Some(kid) = &record.kid {
        attributes.push(text("portcullis.kid", kid.as_str()));
    }
    if let Some(reason) = record.reason.filter(|_| !is_accepted) {
        attributes.push(text("portcullis.reason", reason));
    }
    attributes
}

fn lifecycle(done: &LifecycleSpan, anchor: &Anchor) -> Span {
    let step = Step {
        began: done.began,
        took: done.took,
    };
    Span {
        flags: 1 | HAS_IS_REMOTE,
        attributes: done
            .attributes
            .iter()
            .map(|(name, value)| text(name, value))
            .collect(),
        status: failed(done.failure.is_some(), done.failure.as_deref()),
        ..span(
            TraceId::random(),
            SpanId::random(),
            done.name,
            SpanKind::Internal,
            step,
            anchor,
        )
    }
}

fn span(
    trace_id: TraceId,
    span_id: SpanId,
    name: &str,
    kind: SpanKind,
    step: Step,
    anchor: &Anchor,
) -> Span {
    let start = anchor.nanos(step.began);
    let took = u64::try_from(step.took.as_nanos()).unwrap_or_default();
    Span {
        trace_id: trace_id.as_bytes().to_vec(),
        span_id: span_id.as_bytes().to_vec(),
        name: name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        ..Span::default()
    }
}

fn failed(is_failure: bool, why: Option<&str>) -> Option<Status> {
    is_failure.then(|| Status {
        message: why.unwrap_or_default().to_owned(),
        code: StatusCode::Error.into(),
    })
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn count(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Text that somebody else chose, redacted, escaped and cut as in a log.
fn outside(text: &[u8]) -> String {
    let mut shown = String::new();
    escape_outside(&mut shown, text);
    shown
}
