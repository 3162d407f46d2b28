//! `upstream_endpoint_up`, read from the state of the endpoints at each scrape.
//!
//! Not a general family: the library knows a series by its label values run together, and upstream
//! and endpoint names are the user's, so two could run together to the same text.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, Metric, MetricFamily, MetricType};

use super::registrar::prefixed;
use super::requests::pair;
use super::routes::UpstreamMetrics;
use crate::telemetry::EndpointHealth;

/// The family of all endpoints.
#[derive(Clone, Debug)]
pub(super) struct EndpointsUp {
    desc: Desc,
    endpoints: Vec<Arc<EndpointHealth>>,
}

impl EndpointsUp {
    pub(super) fn new(
        upstreams: &HashMap<String, Arc<UpstreamMetrics>>,
    ) -> prometheus::Result<Self> {
        let mut endpoints: Vec<Arc<EndpointHealth>> = upstreams
            .values()
            .flat_map(|upstream| upstream.endpoints())
            .map(Arc::clone)
            .collect();
        endpoints.sort_by(|one, two| name(one).cmp(&name(two)));
        // The same address twice is one endpoint to whoever looks at the metric.
        endpoints.dedup_by(|one, two| name(one) == name(two));
        let desc = Desc::new(
            prefixed("upstream_endpoint_up"),
            "1 while the endpoint can be used, 0 while it cannot; 1 until somebody has tried."
                .to_owned(),
            vec!["upstream".to_owned(), "endpoint".to_owned()],
            HashMap::new(),
        )?;
        Ok(Self { desc, endpoints })
    }
}

fn name(endpoint: &EndpointHealth) -> (&str, &str) {
    (endpoint.upstream(), endpoint.address())
}

impl Collector for EndpointsUp {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let samples = self.endpoints.iter().map(|endpoint| {
            let labels = [
                ("endpoint", endpoint.address()),
                ("upstream", endpoint.upstream()),
            ];
            let mut sample = Metric::from_label(labels.map(pair).into());
            let mut gauge = Gauge::default();
            gauge.set_value(f64::from(u8::from(endpoint.is_up())));
            sample.set_gauge(gauge);
            sample
        });
        let samples: Vec<Metric> = samples.collect();
        if samples.is_empty() {
            return Vec::new();
        }
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(samples);
        vec![family]
    }
}
