//! What happens beside the routes: the metrics of the program, the token endpoint, the admin API
//! and the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Result};

use super::labels::{AdminRefusal, CodeClass, Grant, TokenError};
use super::registrar::{Registrar, prefixed};

/// Label of requests to anything that is no admin endpoint.
pub(super) const OTHER_ENDPOINT: &str = "other";

/// Registers `build_info`, and the figures that Linux keeps of the process.
pub(super) fn program(to: &mut Registrar, version: &str) -> Result<()> {
    let info = to.int_gauges(
        "build_info",
        "Always 1; the label is the version.",
        &["version"],
    )?;
    info.get_metric_with_label_values(&[version])?.set(1);
    #[cfg(target_os = "linux")]
    to.register(prometheus::process_collector::ProcessCollector::for_self())?;
    Ok(())
}

/// The metrics of the token endpoint.
#[derive(Debug)]
pub(super) struct TokenMetrics {
    /// In the order of [`Grant::ALL`].
    issued: Vec<IntCounter>,
    /// In the order of [`TokenError::ALL`].
    errors: Vec<IntCounter>,
}

impl TokenMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        let issued = to.counters(
            "tokens_issued_total",
            "Access tokens issued, by grant.",
            &["grant"],
        )?;
        let errors = to.counters(
            "token_request_errors_total",
            "Token requests refused, by the error code of the answer.",
            &["error"],
        )?;
        let each = |family: &IntCounterVec, value| family.get_metric_with_label_values(&[value]);
        Ok(Self {
            issued: Grant::ALL
                .iter()
                .map(|grant| each(&issued, grant.as_str()))
                .collect::<Result<_>>()?,
            errors: TokenError::ALL
                .iter()
                .map(|error| each(&errors, error.as_str()))
                .collect::<Result<_>>()?,
        })
    }

    /// How many were issued so far, and how many requests were refused by each error, in the order of
    /// [`TokenError::ALL`].
    pub(super) fn totals(&self) -> (u64, impl Iterator<Item = (TokenError, u64)>) {
        let issued = self.issued.iter().map(IntCounter::get).sum();
        let errors = TokenError::ALL.iter().copied().zip(&self.errors);
        (
            issued,
            errors.map(|(error, counter)| (error, counter.get())),
        )
    }

    pub(super) fn issued(&self, grant: Grant) {
        if let Some(counter) = self.issued.get(grant as usize) {
            counter.inc();
        }
    }

    pub(super) fn error(&self, error: TokenError) {
        if let Some(counter) = self.errors.get(error as usize) {
            counter.inc();
        }
    }
}

/// The metrics of clients; numbers only, never a name.
#[derive(Debug)]
pub(super) struct ClientMetrics {
    enabled: IntGauge,
    disabled: IntGauge,
}

impl ClientMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        let family = to.int_gauges(
            "clients",
            "Clients of the configuration and of the store, by state.",
            &["state"],
        )?;
        let state = |name| family.get_metric_with_label_values(&[name]);
        Ok(Self {
            enabled: state("enabled")?,
            disabled: state("disabled")?,
        })
    }

    pub(super) fn show(&self, enabled: usize, disabled: usize) {
        for (gauge, count) in [(&self.enabled, enabled), (&self.disabled, disabled)] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// The metrics of the admin API.
#[derive(Debug)]
pub(super) struct AdminMetrics {
    endpoints: Vec<Endpoint>,
    other: Endpoint,
    /// In the order of [`AdminRefusal::ALL`].
    refusals: Vec<IntCounter>,
}

#[derive(Debug)]
struct Endpoint {
    name: String,
    /// In the order of [`CodeClass::ALL`].
    codes: Vec<IntCounter>,
}

impl Endpoint {
    fn new(family: &IntCounterVec, name: &str) -> Result<Self> {
        let counter =
            |code: &CodeClass| family.get_metric_with_label_values(&[name, code.as_str()]);
        Ok(Self {
            name: name.to_owned(),
            codes: CodeClass::ALL.iter().map(counter).collect::<Result<_>>()?,
        })
    }
}

impl AdminMetrics {
    pub(super) fn register(to: &mut Registrar, endpoints: &[&str]) -> Result<Self> {
        let family = to.counters(
            "admin_requests_total",
            "Requests to the admin API, by endpoint and class of status.",
            &["endpoint", "code"],
        )?;
        let refusals = to.counters(
            "admin_refusals_total",
            "Requests to the admin listener that were not let in, or not as far as they wanted, by reason.",
            &["reason"],
        )?;
        let refusal =
            |reason: &AdminRefusal| refusals.get_metric_with_label_values(&[reason.as_str()]);
        Ok(Self {
            endpoints: endpoints
                .iter()
                .map(|name| Endpoint::new(&family, name))
                .collect::<Result<_>>()?,
            other: Endpoint::new(&family, OTHER_ENDPOINT)?,
            refusals: AdminRefusal::ALL
                .iter()
                .map(refusal)
                .collect::<Result<_>>()?,
        })
    }

    pub(super) fn refused(&self, reason: AdminRefusal) {
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }

    pub(super) fn count(&self, endpoint: &str, code: CodeClass) {
        let known = self.endpoints.iter().find(|known| known.name == endpoint);
        if let Some(counter) = known.unwrap_or(&self.other).codes.get(code as usize) {
            counter.inc();
        }
    }
}

/// `log_lines_dropped_total`, read from the log at each scrape; 0 until a log is attached.
#[derive(Clone, Debug)]
pub(super) struct LogLinesDropped {
    shown: IntCounter,
    count: Arc<OnceLock<Arc<AtomicU64>>>,
}

impl LogLinesDropped {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        let opts = Opts::new(
            prefixed("log_lines_dropped_total"),
            "Log lines lost because the queue was full or writing failed.",
        );
        to.add(Self {
            shown: IntCounter::with_opts(opts)?,
            count: Arc::default(),
        })
    }

    pub(super) fn now(&self) -> u64 {
        let count = self.count.get();
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn attach(&self, count: Arc<AtomicU64>) {
        self.count.get_or_init(|| count);
    }
}

impl Collector for LogLinesDropped {
    fn desc(&self) -> Vec<&Desc> {
        self.shown.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.shown.collect();
        let count = self.now();
        for sample in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut counter = prometheus::proto::Counter::default();
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 lines")]
            counter.set_value(count as f64);
            sample.set_counter(counter);
        }
        families
    }
}
