//! The access log and the traces, as the configuration wants them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::Config;
use crate::http::{REFUSED, Refusal, RefusalLog};
use crate::telemetry::{
    AccessLog, AccessLogParts, Header, Log, Metrics, RequestRecord, RouteNames, Tracer, TracerParts,
};

use super::secrets::read_secret;
use super::{StartError, worker_names};

/// Most header fields for a collector.
const MAX_HEADERS: usize = 32;

/// What keeps records of requests; both parts may be off.
#[derive(Clone, Debug)]
pub struct Records {
    /// One line a request.
    pub access_log: Option<AccessLog>,
    /// Spans.
    pub tracer: Option<Tracer>,
}

impl Records {
    /// Starts what is on.
    pub(super) fn start(
        config: &Config,
        clock: &Arc<dyn Clock>,
        log: &Log,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        let routes: Vec<RouteNames> = config
            .routes
            .iter()
            .map(|route| RouteNames {
                route: route.name.clone(),
                template: route.matcher.path.template(),
                upstream: route.upstream.clone(),
                is_upstream_tls: config
                    .upstreams
                    .iter()
                    .any(|upstream| upstream.name == route.upstream && upstream.tls.is_some()),
            })
            .collect();
        let workers = worker_names(config).len();
        let access_log = config.access_log.as_ref().map(|settings| {
            let parts = AccessLogParts {
                routes: routes.clone(),
                workers,
                clock: Arc::clone(clock),
                log,
                metrics,
            };
            AccessLog::start(settings, parts).map_err(|source| StartError::AccessLog {
                target: settings.target.clone(),
                source,
            })
        });
        let tracer = config.tracing.as_ref().map(|settings| {
            let headers = settings.headers_file.as_deref().map(headers).transpose()?;
            let authorities = settings.ca_file.as_deref().map(|path| {
                std::fs::read(path).map_err(|source| StartError::TraceFile {
                    path: path.to_owned(),
                    why: source.to_string(),
                })
            });
            pingora::tls::install_default_crypto_provider();
            let parts = TracerParts {
                routes,
                workers,
                clock: Arc::clone(clock),
                log,
                metrics,
                version: env!("CARGO_PKG_VERSION"),
                headers: headers.unwrap_or_default(),
                authorities: authorities.transpose()?,
            };
            Tracer::start(settings, parts).map_err(StartError::Traces)
        });
        Ok(Self {
            access_log: access_log.transpose()?,
            tracer: tracer.transpose()?,
        })
    }

    /// Writes and delivers what is left, for so long at most for each of the two.
    pub fn flush(&self, patience: Duration) {
        let _in_time = self
            .access_log
            .as_ref()
            .is_none_or(|log| log.flush(patience));
        let _in_time = self
            .tracer
            .as_ref()
            .is_none_or(|tracer| tracer.flush(patience));
    }

    /// As [`Records::flush`], for a stop: nothing is written or delivered after it, and the log says
    /// how many spans are lost.
    pub fn finish(&self, patience: Duration) {
        if let Some(log) = &self.access_log {
            let _in_time = log.flush(patience);
        }
        if let Some(tracer) = &self.tracer {
            tracer.finish(patience);
        }
    }

    /// Adds a line of the access log to what `refusals` does: for requests on proxy listeners that
    /// no gateway gets to see.
    pub(super) fn with_lines(&self, refusals: RefusalLog) -> RefusalLog {
        let Some(access_log) = self.access_log.clone() else {
            return refusals;
        };
        Arc::new(move |refusal: &Refusal| {
            refusals(refusal);
            access_log.write_unserved(RequestRecord {
                status: Some(refusal.status.as_u16()),
                log_id: Some(refusal.log_id),
                reason: Some(REFUSED),
                peer: refusal.peer,
                ..RequestRecord::new(Instant::now())
            });
        })
    }
}

/// Header fields, one `Name: value` a line; empty lines and those that begin with `#` are left out.
fn headers(path: &Path) -> Result<Vec<Header>, StartError> {
    let text = read_secret(path)?;
    let wrong = |line: usize, rule: &str| StartError::TraceFile {
        path: path.to_owned(),
        why: format!("line {line}: {rule}"),
    };
    let mut headers = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| wrong(index + 1, "a header field is `Name: value`"))?;
        let (name, value) = (name.trim(), value.trim());
        let is_field =
            http::HeaderName::try_from(name).is_ok() && http::HeaderValue::try_from(value).is_ok();
        if !is_field {
            return Err(wrong(
                index + 1,
                "the name or the value is none that a header field may have (RFC 9110 section 5)",
            ));
        }
        if headers.len() == MAX_HEADERS {
            return Err(wrong(index + 1, "there are at most 32 header fields"));
        }
        headers.push(Header {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(headers)
}
