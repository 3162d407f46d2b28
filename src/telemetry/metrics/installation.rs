//! What the gateway stands on: how old its word from the store is, how its clock compares with the
//! machine's, when its TLS certificates expire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily};
use prometheus::{Gauge, GaugeVec, Opts, Result};

use super::registrar::{Registrar, prefixed};
use crate::clock::Timestamp;

/// The metrics of store, clock and certificates.
#[derive(Debug)]
pub(super) struct InstallationMetrics {
    staleness: Staleness,
    clock_step: Gauge,
    clock_offset: Gauge,
    certificates: GaugeVec,
}

impl InstallationMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        Ok(Self {
            staleness: to.add(Staleness::new()?)?,
            clock_step: to.gauge(
                "clock_step_pending_seconds",
                "Size of a forward step of the clock that waits to be confirmed; 0 when none does.",
            )?,
            clock_offset: to.gauge(
                "clock_offset_seconds",
                "How far the gateway's clock is ahead of the machine's, which was set back; else 0.",
            )?,
            certificates: to.gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "When the first certificate of a TLS listener's chain expires, as a Unix time.",
                &["listener"],
            )?,
        })
    }

    pub(super) fn store_answered(&self) {
        self.staleness.end();
    }

    pub(super) fn clock_step(&self, seconds: f64) {
        self.clock_step.set(seconds);
    }

    pub(super) fn clock_offset(&self, seconds: f64) {
        self.clock_offset.set(seconds);
    }

    pub(super) fn certificate(&self, listener: &str, not_after: Timestamp) {
        // It fails for a wrong number of labels only.
        if let Ok(gauge) = self.certificates.get_metric_with_label_values(&[listener]) {
            gauge.set(not_after.as_seconds_f64());
        }
    }
}

/// `keyset_staleness_seconds`, reckoned at each scrape, so that it grows even when everything that
/// could report hangs; by a clock that no setting of the machine's changes.
#[derive(Clone, Debug)]
struct Staleness {
    shown: Gauge,
    origin: Instant,
    /// Milliseconds from `origin` to the store's last word.
    last: Arc<AtomicU64>,
}

impl Staleness {
    fn new() -> Result<Self> {
        let opts = Opts::new(
            prefixed("keyset_staleness_seconds"),
            "Time since the store last confirmed that the key set in force is the stored one.",
        );
        Ok(Self {
            shown: Gauge::with_opts(opts)?,
            origin: Instant::now(),
            last: Arc::default(),
        })
    }

    fn end(&self) {
        self.last.fetch_max(self.passed(), Ordering::Relaxed);
    }

    fn passed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Collector for Staleness {
    fn desc(&self) -> Vec<&Desc> {
        self.shown.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.shown.collect();
        let millis = self
            .passed()
            .saturating_sub(self.last.load(Ordering::Relaxed));
        for sample in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut gauge = proto::Gauge::default();
            #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
            gauge.set_value(millis as f64 / 1000.0);
            sample.set_gauge(gauge);
        }
        families
    }
}
