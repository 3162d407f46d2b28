//! One delivery to the collector: OTLP over HTTP with protobuf bodies.
//!
//! Invariants: a delivery ends within the configured time; header values may be credentials and
//! appear in no error and no `Debug`; redirects and proxies of the environment are not followed, so
//! that those values go to the configured place alone.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use ureq::tls::{PemItem, RootCerts, TlsConfig};

use super::TraceSettings;

/// Longest answer of a collector that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// A header field for the collector.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, perhaps a credential.
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: …", self.name)
    }
}

/// Where spans go.
pub(super) struct Collector {
    agent: ureq::Agent,
    endpoint: String,
    headers: Vec<Header>,
}

/// What came of a delivery.
#[derive(Debug)]
pub(super) enum Delivered {
    /// The collector has them, all but so many that it refused.
    Taken { refused: u64 },
    /// Another try may succeed, after this time if the collector said one.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// Another try would end the same; other spans may come after this time if the collector said
    /// one.
    Refused {
        why: String,
        after: Option<Duration>,
    },
}

impl Collector {
    /// # Errors
    /// When `authorities` holds no certificate.
    pub(super) fn new(
        settings: &TraceSettings,
        headers: Vec<Header>,
        authorities: Option<&[u8]>,
    ) -> io::Result<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = authorities {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates(pem)?)));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(settings.timeout))
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build();
        Ok(Self {
            agent: config.new_agent(),
            endpoint: settings.endpoint.clone(),
            headers,
        })
    }

    pub(super) fn deliver(&self, message: &ExportTraceServiceRequest) -> Delivered {
        let mut request = self
            .agent
            .post(&self.endpoint)
            .header("Content-Type", "application/x-protobuf");
        for Header { name, value } in &self.headers {
            request = request.header(name, value);
        }
        let mut answer = match request.send(message.encode_to_vec()) {
            Ok(answer) => answer,
            Err(error) => {
                return Delivered::Later {
                    why: error.to_string(),
                    after: None,
                };
            }
        };
        let status = answer.status().as_u16();
        let after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let why = format!("the collector answered {status}");
        match status {
            200..=299 => {
                let body = answer
                    .body_mut()
                    .with_config()
                    .limit(MAX_ANSWER)
                    .read_to_vec()
                    .unwrap_or_default();
                Delivered::Taken {
                    refused: refused(&body),
                }
            }
            // The ones that the protocol names as passing.
            429 | 502 | 503 | 504 => Delivered::Later { why, after },
            _ => Delivered::Refused { why, after },
        }
    }
}

/// How many spans a collector says that it refused.
fn refused(answer: &[u8]) -> u64 {
    ExportTraceServiceResponse::decode(answer)
        .ok()
        .and_then(|answer| answer.partial_success)
        .and_then(|partial| u64::try_from(partial.rejected_spans).ok())
        .unwrap_or_default()
}

fn certificates(pem: &[u8]) -> io::Result<Vec<ureq::tls::Certificate<'static>>> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(io::Error::other)? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(io::Error::other("the ca_file holds no certificate"));
    }
    Ok(found)
}
