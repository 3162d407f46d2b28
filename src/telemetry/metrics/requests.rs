//! `http_requests_total`: counters by route, method and class of status.
//!
//! A series appears with its first request, but those of 5xx are there from the start: an alert has
//! to see the first failure, which is a rise only when a 0 was there before. A general counter family
//! would take its lock for a new series, on the request path, and a scrape holds the same lock
//! (invariant 20). Since the label sets are known at start, here every counter exists from the start
//! and a scrape leaves out those at 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, LabelPair, Metric, MetricFamily, MetricType};

use super::labels::CodeClass;

/// Methods counted by name on a route that does not restrict them (RFC 9110 §9.3, RFC 5789).
const USUAL_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

/// Label of every other method: a client may invent any number of them.
const OTHER_METHOD: &str = "other";

/// The counters of one route.
#[derive(Debug)]
pub(super) struct RouteRequests {
    route: String,
    methods: Vec<MethodRequests>,
    other: MethodRequests,
}

#[derive(Debug)]
struct MethodRequests {
    method: String,
    codes: [AtomicU64; CodeClass::ALL.len()],
}

impl RouteRequests {
    /// Counters for `methods`, or for the usual ones when the route takes any.
    pub(super) fn new(route: &str, methods: &[&str]) -> Self {
        let methods = if methods.is_empty() {
            &USUAL_METHODS[..]
        } else {
            methods
        };
        Self {
            route: route.to_owned(),
            methods: methods.iter().copied().map(MethodRequests::new).collect(),
            other: MethodRequests::new(OTHER_METHOD),
        }
    }

    pub(super) fn count(&self, method: &str, code: CodeClass) {
        let known = self.methods.iter().find(|known| known.method == method);
        if let Some(count) = known.unwrap_or(&self.other).codes.get(code as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl MethodRequests {
    fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            codes: Default::default(),
        }
    }

    fn samples(&self, route: &str, samples: &mut Vec<Metric>) {
        for (code, count) in CodeClass::ALL.iter().zip(&self.codes) {
            let count = count.load(Ordering::Relaxed);
            if count == 0 && *code != CodeClass::ServerError {
                continue;
            }
            let labels = [
                ("code", code.as_str()),
                ("method", &self.method),
                ("route", route),
            ];
            let mut sample = Metric::from_label(labels.map(pair).into());
            let mut counter = Counter::default();
            #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 requests")]
            counter.set_value(count as f64);
            sample.set_counter(counter);
            samples.push(sample);
        }
    }
}

pub(super) fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// The family of all routes.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    desc: Desc,
    routes: Vec<Arc<RouteRequests>>,
}

impl Requests {
    pub(super) fn new(
        name: String,
        help: &str,
        routes: Vec<Arc<RouteRequests>>,
    ) -> prometheus::Result<Self> {
        let labels = ["route", "method", "code"].map(str::to_owned).into();
        let desc = Desc::new(name, help.to_owned(), labels, Default::default())?;
        Ok(Self { desc, routes })
    }
}

impl Collector for Requests {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = Vec::new();
        for route in &self.routes {
            for method in route.methods.iter().chain([&route.other]) {
                method.samples(&route.route, &mut samples);
            }
        }
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::COUNTER);
        family.set_metric(samples);
        vec![family]
    }
}
