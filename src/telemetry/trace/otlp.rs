//! From records to the messages of the OpenTelemetry protocol.
//!
//! The message types are generated from the official definitions. Attribute names follow the
//! semantic conventions where there is one, and begin with `portcullis.` elsewhere.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::attributes::{self, flag, text};
use super::context::{SpanId, TraceId};
use super::{LifecycleSpan, RequestTrace, Traced};
use crate::log_id::LogId;
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
        let method = attributes::method_in_name(record);
        let is_remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
        let trace_state = record.tracestate.as_deref().unwrap_or_default();
        let error = attributes::error_of_request(record);
        out.push(Span {
            parent_span_id: trace
                .parent
                .map(|parent| parent.as_bytes().to_vec())
                .unwrap_or_default(),
            flags: 1 | HAS_IS_REMOTE | is_remote,
            trace_state: trace_state.to_owned(),
            attributes: attributes::of_request(record, &self.names, error.as_deref()),
            status: failed(error.is_some(), record.reason),
            ..span(
                trace.trace_id,
                trace.request,
                &format!("{method} {}", self.names.route(record.place)),
                SpanKind::Server,
                whole,
                anchor,
            )
        });
        let child = |id, name: &str, kind, step: Step| Span {
            parent_span_id: trace.request.as_bytes().to_vec(),
            flags: 1 | HAS_IS_REMOTE,
            trace_state: trace_state.to_owned(),
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
            let error = attributes::error_of_upstream(record);
            out.push(Span {
                attributes: attributes::of_upstream(
                    record,
                    upstream,
                    &self.names,
                    error.as_deref(),
                ),
                status: failed(error.is_some(), record.reason),
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
}

impl Traced {
    /// How many spans it makes.
    pub(super) fn spans(&self) -> u64 {
        match self {
            Self::Request(record) => {
                u64::from(record.trace.is_some())
                    + u64::from(record.auth.is_some())
                    + u64::from(record.upstream.is_some())
                    + u64::from(record.issue.is_some())
            }
            Self::Lifecycle(_) => 1,
        }
    }
}

fn auth_attributes(record: &RequestRecord, cache: &str) -> Vec<KeyValue> {
    let is_accepted = record.key_state.is_some();
    let mut attributes = vec![
        text("portcullis.cache", cache),
        flag("portcullis.accepted", is_accepted),
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
            .map(|(name, fact)| attributes::of_fact(name, fact))
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
