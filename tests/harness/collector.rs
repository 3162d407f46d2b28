//! A collector of traces in this process: it decodes with the types that are generated from the
//! official definitions of the protocol.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::upstream::Upstream;
use super::{Gateway, eventually};

/// A running collector; ends when dropped.
pub struct Collector {
    pub endpoint: String,
    seen: Arc<Seen>,
    _listener: Upstream,
}

#[derive(Default)]
struct Seen {
    spans: Mutex<Vec<Span>>,
    /// Every body, as it came.
    bytes: Mutex<Vec<Bytes>>,
    headers: Mutex<Vec<HeaderMap>>,
    /// When each delivery came.
    arrivals: Mutex<Vec<Instant>>,
    /// What the next deliveries are answered with, and their `Retry-After`; 200 when nothing is
    /// left.
    answers: Mutex<VecDeque<(u16, Option<u64>)>>,
    /// How many spans of a batch it claims to refuse.
    refuses: Mutex<i64>,
}

impl Collector {
    pub fn start() -> Self {
        let seen = Arc::<Seen>::default();
        let router = Router::new()
            .route("/v1/traces", axum::routing::post(receive))
            .with_state(Arc::clone(&seen));
        let listener = Upstream::of(router);
        Self {
            endpoint: format!("http://{}", listener.address),
            seen,
            _listener: listener,
        }
    }

    /// The section of the configuration that sends everything here.
    pub fn section(&self, more: &str) -> String {
        format!(
            "tracing: {{ sample_ratio: 1, otlp: {{ endpoint: \"{}\"{more} }} }}\n",
            self.endpoint
        )
    }

    /// Answers the next deliveries so.
    pub fn answer(&self, statuses: impl IntoIterator<Item = u16>) {
        self.seen
            .answers
            .lock()
            .expect("nobody panicked with it")
            .extend(statuses.into_iter().map(|status| (status, None)));
    }

    /// Answers the next delivery so, and asks for a pause of so many seconds.
    pub fn ask_for_pause(&self, status: u16, seconds: u64) {
        self.seen
            .answers
            .lock()
            .expect("nobody panicked with it")
            .push_back((status, Some(seconds)));
    }

    /// When each delivery came.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.seen
            .arrivals
            .lock()
            .expect("nobody panicked with it")
            .clone()
    }

    /// From now on so many spans of each delivery are refused.
    pub fn refuse(&self, spans: i64) {
        *self.seen.refuses.lock().expect("nobody panicked with it") = spans;
    }

    pub fn spans(&self) -> Vec<Span> {
        self.seen
            .spans
            .lock()
            .expect("nobody panicked with it")
            .clone()
    }

    /// Everything that arrived, as text where it is some.
    pub fn text(&self) -> String {
        let bodies = self.seen.bytes.lock().expect("nobody panicked with it");
        let texts = bodies.iter().map(|body| String::from_utf8_lossy(body));
        texts.collect::<Vec<_>>().join("\n")
    }

    pub fn headers(&self) -> Vec<HeaderMap> {
        self.seen
            .headers
            .lock()
            .expect("nobody panicked with it")
            .clone()
    }

    /// Waits for spans of which `found` makes something.
    pub async fn wait_for<T>(
        &self,
        gateway: &Gateway,
        what: &str,
        found: impl Fn(&[Span]) -> Option<T>,
    ) -> T {
        eventually(what, || async {
            gateway.flush_records().await;
            found(&self.spans())
        })
        .await
    }
}

async fn receive(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> Response {
    seen.arrivals
        .lock()
        .expect("nobody panicked with it")
        .push(Instant::now());
    let (status, pause) = seen
        .answers
        .lock()
        .expect("nobody panicked with it")
        .pop_front()
        .unwrap_or((200, None));
    let message = ExportTraceServiceRequest::decode(body.clone()).expect("an export request");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    seen.headers
        .lock()
        .expect("nobody panicked with it")
        .push(headers);
    seen.bytes
        .lock()
        .expect("nobody panicked with it")
        .push(body);
    let mut answer = ExportTraceServiceResponse::default();
    if status == 200 {
        let refused = *seen.refuses.lock().expect("nobody panicked with it");
        if refused > 0 {
            answer.partial_success = Some(ExportTracePartialSuccess {
                rejected_spans: refused,
                error_message: "too many".to_owned(),
            });
        }
        let spans = message
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans);
        seen.spans
            .lock()
            .expect("nobody panicked with it")
            .extend(spans);
    }
    let mut response = Response::new(Body::from(answer.encode_to_vec()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(seconds) = pause {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

/// An attribute of a span as text; empty when it has none of that name.
pub fn attribute(span: &Span, name: &str) -> String {
    match value(span, name) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

/// An attribute of a span; `None` when it has none of that name.
pub fn value(span: &Span, name: &str) -> Option<Value> {
    let found = span.attributes.iter().find(|of| of.key == name);
    found.and_then(|of| of.value.clone()?.value)
}

/// Bytes in hexadecimal, as in a header field.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The one span of that name; panics when there is another number.
pub fn the<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut named = spans.iter().filter(|span| span.name == name);
    let span = named.next();
    assert!(named.next().is_none(), "several spans `{name}`");
    span.unwrap_or_else(|| {
        let names: Vec<&String> = spans.iter().map(|span| &span.name).collect();
        panic!("no span `{name}` in {names:?}")
    })
}
