//! Creates metric families and registers them, and remembers what was registered.

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
};

/// The registry during construction.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    registry: Registry,
    families: Vec<Family>,
}

/// A registered family, as `docs/metrics.md` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    pub(super) help: String,
    pub(super) kind: &'static str,
}

impl Registrar {
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(prefixed(name), help)?)
    }

    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(prefixed(name), help)?)
    }

    pub(super) fn int_gauge(&mut self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(prefixed(name), help)?)
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    pub(super) fn int_gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(prefixed(name), help), labels)?)
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        buckets: &[f64],
        label: &str,
    ) -> Result<HistogramVec> {
        let opts = HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, &[label])?)
    }

    /// Registers a collector and hands it back.
    pub(super) fn add<C: Collector + Clone + 'static>(&mut self, collector: C) -> Result<C> {
        self.register(collector.clone())?;
        Ok(collector)
    }

    /// Registers a collector for good.
    pub(super) fn register(&mut self, collector: impl Collector + 'static) -> Result<()> {
        let collected = collector.collect();
        let kind = |name: &str| {
            let family = collected.iter().find(|family| family.name() == name);
            family.map_or("untyped", |family| match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::GAUGE => "gauge",
                MetricType::HISTOGRAM => "histogram",
                MetricType::SUMMARY => "summary",
                MetricType::UNTYPED => "untyped",
            })
        };
        self.families
            .extend(collector.desc().into_iter().map(|desc| Family {
                name: desc.fq_name.clone(),
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
                kind: kind(&desc.fq_name),
            }));
        self.registry.register(Box::new(collector))
    }

    pub(super) fn finish(self) -> (Registry, Vec<Family>) {
        (self.registry, self.families)
    }
}

/// The full name of a metric of ours.
pub(super) fn prefixed(name: &str) -> String {
    format!("portcullis_{name}")
}

/// One histogram per label value, created now so that it shows at 0.
pub(super) fn histogram(family: &HistogramVec, value: &str) -> Result<Histogram> {
    family.get_metric_with_label_values(&[value])
}
