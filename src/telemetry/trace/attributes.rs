//! Attributes of spans, by the semantic conventions for HTTP spans.
//!
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>. Left out by decision, since they
//! are header fields or may hold secrets: `url.query`, `user_agent.original` and the caller's
//! `server.address`.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::Fact;
use crate::telemetry::log_format::escape_outside;
use crate::telemetry::request_record::{CLIENT_GONE, Names, RequestRecord, UpstreamStep};

/// The methods that the conventions know (RFC 9110, RFC 5789).
const KNOWN_METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// What the conventions call a method, or an error, that they do not know.
const OTHER: &str = "_OTHER";

/// The method as a span's name may show it: one that a client invented is left out.
pub(super) fn method_in_name(record: &RequestRecord) -> &'static str {
    known_method(record).unwrap_or("HTTP")
}

fn known_method(record: &RequestRecord) -> Option<&'static str> {
    KNOWN_METHODS
        .into_iter()
        .find(|known| known.as_bytes() == record.method.as_bytes())
}

fn push_method(to: &mut Vec<KeyValue>, record: &RequestRecord) {
    let known = known_method(record);
    to.push(text("http.request.method", known.unwrap_or(OTHER)));
    if known.is_none() {
        let sent = outside(record.method.as_bytes());
        to.push(text("http.request.method_original", &sent));
    }
}

/// What the conventions say of a server's span, and what we say of a request.
pub(super) fn of_request(
    record: &RequestRecord,
    names: &Names,
    error: Option<&str>,
) -> Vec<KeyValue> {
    let scheme = scheme(record.is_tls);
    let mut attributes = vec![
        text("url.scheme", scheme),
        text("url.path", &path(record)),
        text("network.protocol.version", version(record.protocol)),
        text("portcullis.route", names.route(record.place)),
        number("http.request.body.size", count(record.bytes_in)),
        number("http.response.body.size", count(record.bytes_out)),
    ];
    push_method(&mut attributes, record);
    if let Some(template) = names.template(record) {
        attributes.push(text("http.route", &outside(template)));
    }
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
    }
    if let Some(error) = error {
        attributes.push(text("error.type", error));
    }
    if let Some(log_id) = record.log_id {
        attributes.push(text("portcullis.log_id", &log_id.to_string()));
    }
    attributes
}

/// What the conventions say of a client's span, and which upstream it is.
pub(super) fn of_upstream(
    record: &RequestRecord,
    upstream: UpstreamStep,
    names: &Names,
    error: Option<&str>,
) -> Vec<KeyValue> {
    let name = names.upstream(record).unwrap_or_default();
    let mut attributes = vec![text("portcullis.upstream", name)];
    push_method(&mut attributes, record);
    if let Some(endpoint) = upstream.endpoint {
        let scheme = scheme(names.is_upstream_tls(record));
        let full = format!("{scheme}://{endpoint}{}", path(record));
        attributes.push(text("url.full", &full));
        attributes.push(text("server.address", &endpoint.ip().to_string()));
        attributes.push(number("server.port", endpoint.port().into()));
    }
    if let Some(status) = record.status.filter(|_| record.reason.is_none()) {
        attributes.push(number("http.response.status_code", status.into()));
    }
    if let Some(error) = error {
        attributes.push(text("error.type", error));
    }
    attributes
}

/// `error.type` of a server's span: the answer was 5xx, or there was none, or it broke off otherwise
/// than by its client. A refusal is the caller's error, not the server's.
pub(super) fn error_of_request(record: &RequestRecord) -> Option<String> {
    match record.status {
        Some(400..500) => None,
        Some(status) if status < 400 => {
            let broke_off = record.reason.filter(|reason| *reason != CLIENT_GONE);
            broke_off.map(str::to_owned)
        }
        status => Some(error(record, status)),
    }
}

/// `error.type` of a client's span, for which 4xx is an error too.
pub(super) fn error_of_upstream(record: &RequestRecord) -> Option<String> {
    let went_well = record.status.is_some_and(|status| status < 400);
    (record.reason.is_some() || !went_well).then(|| error(record, record.status))
}

fn error(record: &RequestRecord, status: Option<u16>) -> String {
    let of_status = || status.map_or_else(|| OTHER.to_owned(), |status| status.to_string());
    record.reason.map_or_else(of_status, str::to_owned)
}

/// The path without its query, as it may be shown.
fn path(record: &RequestRecord) -> String {
    outside(record.path.as_bytes())
}

const fn scheme(is_tls: bool) -> &'static str {
    if is_tls { "https" } else { "http" }
}

/// `HTTP/2.0` is called `2`.
fn version(protocol: &'static str) -> &'static str {
    match protocol.trim_start_matches("HTTP/") {
        "2.0" => "2",
        version => version,
    }
}

pub(super) fn of_fact(name: &str, fact: &Fact) -> KeyValue {
    match fact {
        Fact::Text(value) => text(name, value),
        Fact::Flag(value) => flag(name, *value),
        Fact::Number(value) => number(name, count(*value)),
    }
}

pub(super) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub(super) fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, Value::BoolValue(value))
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

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Text that somebody else chose, escaped and cut as in a log.
fn outside(text: &[u8]) -> String {
    let mut shown = String::new();
    escape_outside(&mut shown, text);
    shown
}
