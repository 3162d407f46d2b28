//! How a line of the access log looks.
//!
//! Invariants: as for the log, a line holds exactly one line feed, its last byte, and nothing that
//! a terminal obeys; text from outside is escaped and at most 128 bytes long. A JSON line has the
//! same members whatever happened; what does not apply is `null`.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use super::{AccessFormat, SampleRate};
use crate::clock::Timestamp;
use crate::telemetry::log_format::{escape_outside, quote, quote_outside};
use crate::telemetry::request_record::{Anchor, Names, RequestRecord};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Longest name of ours in a line.
const NAME_LIMIT: usize = 128;

pub(super) struct Formatter {
    format: AccessFormat,
    names: Names,
    /// Shown when lines of successes stand for others.
    rate: Option<f64>,
}

impl Formatter {
    pub(super) fn new(format: AccessFormat, names: Names, rate: SampleRate) -> Self {
        Self {
            format,
            names,
            rate: (rate != SampleRate::ALL).then(|| rate.as_f64()),
        }
    }

    /// Appends the line of `record`.
    pub(super) fn line(&self, out: &mut String, record: &RequestRecord, anchor: &Anchor) {
        let time = anchor.wall(record.started);
        match self.format {
            AccessFormat::Json => self.json(out, record, time),
            AccessFormat::Common => self.common(out, record, time),
        }
    }

    fn json(&self, out: &mut String, record: &RequestRecord, time: Timestamp) {
        let _ = write!(out, "{{\"time\":\"{time}\",\"stream\":\"access\"");
        let mut line = Members(out);
        line.text("log_id", record.log_id);
        line.text("trace_id", record.trace.map(|trace| trace.trace_id));
        line.name("route", Some(self.names.route(record.place)));
        line.known("method", record.method.as_bytes());
        line.known("path", record.path.as_bytes());
        line.text("protocol", Some(record.protocol));
        line.plain("status", record.status);
        line.text("reason", record.reason);
        line.name("kid", record.kid.as_ref().map(|kid| kid.as_str()));
        line.text("key_state", record.key_state.map(|state| state.as_str()));
        match record.client.as_str() {
            Some(client) => line.outside("client_id", client.as_bytes()),
            None => line.plain("client_id", None::<u8>),
        }
        line.text("peer", record.peer);
        line.name("upstream", self.names.upstream(record));
        line.text("endpoint", endpoint(record));
        line.plain("duration_us", Some(micros(record.total)));
        line.plain("auth_us", auth(record));
        line.plain("upstream_us", upstream(record));
        line.plain("bytes_in", Some(record.bytes_in));
        line.plain("bytes_out", Some(record.bytes_out));
        if let Some(rate) = self.rate.filter(|_| record.is_success()) {
            line.plain("sample_rate", Some(rate));
        }
        out.push_str("}\n");
    }

    fn common(&self, out: &mut String, record: &RequestRecord, time: Timestamp) {
        match record.peer {
            Some(peer) => drop(write!(out, "{}", peer.ip())),
            None => out.push('-'),
        }
        out.push_str(" - ");
        match record.client.as_str() {
            Some(client) => word(out, client),
            None => out.push('-'),
        }
        out.push_str(" [");
        common_time(out, time);
        out.push_str("] \"");
        known(out, record.method.as_bytes());
        out.push(' ');
        known(out, record.path.as_bytes());
        let _ = write!(out, " {}\" ", record.protocol);
        bare(out, record.status);
        let _ = write!(out, " {}", record.bytes_out);
        let mut field = |name: &str, value: Option<&dyn fmt::Display>| {
            let _ = write!(out, " {name}=");
            bare(out, value);
        };
        field("log_id", shown(&record.log_id));
        field("trace_id", shown(&record.trace.map(|trace| trace.trace_id)));
        field("route", Some(&self.names.route(record.place)));
        field("reason", shown(&record.reason));
        field("kid", shown(&record.kid.as_ref().map(|kid| kid.as_str())));
        field(
            "key_state",
            shown(&record.key_state.map(|state| state.as_str())),
        );
        field("upstream", shown(&self.names.upstream(record)));
        field("endpoint", shown(&endpoint(record)));
        field("duration_us", Some(&micros(record.total)));
        field("auth_us", shown(&auth(record)));
        field("upstream_us", shown(&upstream(record)));
        field("bytes_in", Some(&record.bytes_in));
        if let Some(rate) = self.rate.filter(|_| record.is_success()) {
            field("sample_rate", Some(&rate));
        }
        out.push('\n');
    }
}

fn endpoint(record: &RequestRecord) -> Option<SocketAddr> {
    record.upstream?.endpoint
}

fn auth(record: &RequestRecord) -> Option<u64> {
    record.auth.map(|auth| micros(auth.step.took))
}

fn upstream(record: &RequestRecord) -> Option<u64> {
    record.upstream.map(|upstream| micros(upstream.step.took))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
    value.as_ref().map(|value| -> &dyn fmt::Display { value })
}

fn bare(out: &mut String, value: Option<impl fmt::Display>) {
    match value {
        Some(value) => drop(write!(out, "{value}")),
        None => out.push('-'),
    }
}

/// Text that somebody else chose, or the sign for none.
fn known(out: &mut String, text: &[u8]) {
    if text.is_empty() {
        out.push('-');
    } else {
        escape_outside(out, text);
    }
}

/// One word, so without spaces and quotes.
fn word(out: &mut String, text: &str) {
    for byte in text.bytes().take(NAME_LIMIT) {
        if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// `10/Oct/2000:13:55:36 +0000`, out of RFC 3339.
fn common_time(out: &mut String, time: Timestamp) {
    let text = time.to_string();
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = part(5, 7)
        .parse::<usize>()
        .ok()
        .and_then(|month| MONTHS.get(month.checked_sub(1)?));
    match month {
        Some(month) => {
            let (day, year, clock) = (part(8, 10), part(0, 4), part(11, 19));
            let _ = write!(out, "{day}/{month}/{year}:{clock} +0000");
        }
        None => out.push_str(&text),
    }
}

/// The members of a JSON object behind the first ones.
struct Members<'a>(&'a mut String);

impl Members<'_> {
    /// Text of ours that needs no escaping.
    fn text(&mut self, name: &str, value: Option<impl fmt::Display>) {
        let _ = match value {
            Some(value) => write!(self.0, ",\"{name}\":\"{value}\""),
            None => write!(self.0, ",\"{name}\":null"),
        };
    }

    /// A number.
    fn plain(&mut self, name: &str, value: Option<impl fmt::Display>) {
        let _ = match value {
            Some(value) => write!(self.0, ",\"{name}\":{value}"),
            None => write!(self.0, ",\"{name}\":null"),
        };
    }

    /// A name that configuration or a key of ours gives.
    fn name(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                let _ = write!(self.0, ",\"{name}\":");
                quote(self.0, value, NAME_LIMIT);
            }
            None => self.plain(name, None::<u8>),
        }
    }

    /// Text that somebody else chose; of a request that was refused unread there is none.
    fn known(&mut self, name: &str, value: &[u8]) {
        if value.is_empty() {
            self.plain(name, None::<u8>);
        } else {
            self.outside(name, value);
        }
    }

    /// Text that somebody else chose.
    fn outside(&mut self, name: &str, value: &[u8]) {
        let _ = write!(self.0, ",\"{name}\":");
        quote_outside(self.0, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::Value;

    use super::*;
    use crate::log_id::LogId;
    use crate::telemetry::KeyStateLabel;
    use crate::telemetry::request_record::{
        AuthStep, ClientName, Place, RouteNames, Short, Step, UpstreamStep,
    };
    use crate::telemetry::test_clock::TestClock;
    use crate::telemetry::{CacheLookup, NO_ROUTE};

    fn formatter(format: AccessFormat, rate: f64) -> Formatter {
        let names = Names::new(vec![RouteNames {
            route: "api".to_owned(),
            upstream: "echo".to_owned(),
            ..RouteNames::default()
        }]);
        Formatter::new(format, names, SampleRate::new(rate).unwrap())
    }

    fn record() -> RequestRecord {
        let began = Instant::now();
        let step = |micros| Step {
            began,
            took: Duration::from_micros(micros),
        };
        RequestRecord {
            total: Duration::from_micros(1_234),
            method: Short::new("GET"),
            path: Short::new("/hello"),
            peer: Some(([127, 0, 0, 1], 4711).into()),
            place: Place::Route(0),
            status: Some(200),
            kid: Some(Short::new("the-kid")),
            key_state: Some(KeyStateLabel::Active),
            client: ClientName::Text("demo".to_owned()),
            auth: Some(AuthStep {
                step: step(5),
                lookup: CacheLookup::Hit,
            }),
            upstream: Some(UpstreamStep {
                step: step(900),
                endpoint: Some(([127, 0, 0, 1], 9003).into()),
            }),
            bytes_out: 42,
            ..RequestRecord::new(began)
        }
    }

    fn line(formatter: &Formatter, record: &RequestRecord) -> String {
        let clock = TestClock::at(Timestamp::from_millis(971_186_136_000));
        let mut anchor = Anchor::now(&*clock.handle());
        anchor.move_to(record.started);
        let mut out = String::new();
        formatter.line(&mut out, record, &anchor);
        assert_eq!(out.matches('\n').count(), 1);
        out
    }

    #[test]
    fn a_json_line_has_every_member() {
        let text = line(&formatter(AccessFormat::Json, 1.0), &record());
        assert_eq!(
            text,
            "{\"time\":\"2000-10-10T13:55:36.000Z\",\"stream\":\"access\",\"log_id\":null,\
             \"trace_id\":null,\"route\":\"api\",\"method\":\"GET\",\"path\":\"/hello\",\
             \"protocol\":\"HTTP/1.1\",\"status\":200,\"reason\":null,\"kid\":\"the-kid\",\
             \"key_state\":\"active\",\"client_id\":\"demo\",\"peer\":\"127.0.0.1:4711\",\
             \"upstream\":\"echo\",\"endpoint\":\"127.0.0.1:9003\",\"duration_us\":1234,\
             \"auth_us\":5,\"upstream_us\":900,\"bytes_in\":0,\"bytes_out\":42}\n"
        );
        let log_id = LogId::from_bytes([7; 16]);
        let refused = RequestRecord {
            status: Some(401),
            log_id: Some(log_id),
            reason: Some("missing"),
            place: Place::Ours(NO_ROUTE),
            ..RequestRecord::new(Instant::now())
        };
        let seen: Value =
            serde_json::from_str(&line(&formatter(AccessFormat::Json, 1.0), &refused)).unwrap();
        let whole: Value = serde_json::from_str(&text).unwrap();
        let names =
            |line: &Value| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(names(&seen), names(&whole), "the same members");
        assert_eq!(seen["log_id"], log_id.to_string());
        assert_eq!(seen["route"], "none");
        assert_eq!(
            (&seen["method"], &seen["path"]),
            (&Value::Null, &Value::Null)
        );
        let common = line(&formatter(AccessFormat::Common, 1.0), &refused);
        assert!(common.contains(" \"- - HTTP/1.1\" 401 "), "{common}");
    }

    #[test]
    fn a_common_line_begins_as_others_do() {
        let text = line(&formatter(AccessFormat::Common, 1.0), &record());
        assert_eq!(
            text,
            "127.0.0.1 - demo [10/Oct/2000:13:55:36 +0000] \"GET /hello HTTP/1.1\" 200 42 \
             log_id=- trace_id=- route=api reason=- kid=the-kid key_state=active upstream=echo \
             endpoint=127.0.0.1:9003 duration_us=1234 auth_us=5 upstream_us=900 bytes_in=0\n"
        );
    }

    #[test]
    fn sampled_lines_say_so_and_others_do_not() {
        let success = record();
        let refused = RequestRecord {
            status: Some(401),
            ..record()
        };
        for format in [AccessFormat::Json, AccessFormat::Common] {
            let formatter = formatter(format, 0.25);
            assert!(line(&formatter, &success).contains("sample_rate"));
            assert!(line(&formatter, &success).contains("0.25"));
            assert!(!line(&formatter, &refused).contains("sample_rate"));
        }
    }

    #[test]
    fn hostile_text_stays_within_its_field() {
        let hostile = "x\" 200 1 reason=none\n{\"stream\":\"access\"}\u{1b}[2J\u{202e}";
        let record = RequestRecord {
            method: Short::new(hostile),
            path: Short::new(hostile),
            client: ClientName::Text(hostile.to_owned()),
            ..record()
        };
        let json: Value =
            serde_json::from_str(&line(&formatter(AccessFormat::Json, 1.0), &record)).unwrap();
        assert_eq!(json["status"], 200);
        assert!(json["path"].as_str().unwrap().len() < 200);
        let common = line(&formatter(AccessFormat::Common, 1.0), &record);
        assert!(!common.contains('\u{1b}') && !common.contains('\u{202e}'));
        assert_eq!(
            common.replace("\\\"", "").matches('"').count(),
            2,
            "{common}"
        );
        let long = RequestRecord {
            path: Short::new("/".repeat(5_000)),
            ..record
        };
        let json: Value =
            serde_json::from_str(&line(&formatter(AccessFormat::Json, 1.0), &long)).unwrap();
        assert_eq!(json["path"], format!("{}…", "/".repeat(128)));
    }
}
