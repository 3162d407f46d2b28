//! What happens to requests: the metrics of routes and upstreams.
//!
//! Invariant: a [`RouteMetrics`] holds every handle that a request needs, so that a request costs
//! atomic additions alone. A refusal is counted once, under one reason.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Result,
};

use super::UpstreamLabels;
use super::keys::KeySeries;
use super::labels::{CacheLookup, CodeClass, FailureCause, KeyStateLabel};
use super::registrar::{Registrar, histogram};
use super::requests::RouteRequests;
use crate::telemetry::EndpointHealth;
use crate::token::rejection::Rejection;

/// Seconds of a whole request. Our own share is below 1 ms, so the low end is fine enough to see
/// it; from there on it is the upstream's time, up to the longest read timeout in common use.
const REQUEST_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// Seconds to decide about a token: about 1 µs from a cache, 30 to 300 µs by a signature, more
/// only when the machine is overloaded, which the high end shows.
const AUTH_BUCKETS: [f64; 12] = [
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.005,
    0.025,
];

/// The families whose series belong to routes.
#[derive(Debug)]
pub(super) struct RouteFamilies {
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    allowed: IntCounterVec,
    denied: IntCounterVec,
    public: IntCounterVec,
    failures: IntCounterVec,
    compromised_key_use: IntCounter,
    lifecycle_violations: IntCounter,
}

impl RouteFamilies {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        Ok(Self {
            duration: to.histograms(
                "http_request_duration_seconds",
                "Time from the request's header to the end of its response.",
                &REQUEST_BUCKETS,
                "route",
            )?,
            in_flight: to.int_gauges(
                "http_requests_in_flight",
                "Requests that have begun and are not finished.",
                &["route"],
            )?,
            allowed: to.counters(
                "auth_allowed_total",
                "Requests whose token was accepted, by the state of the key that signed it.",
                &["route", "key_state"],
            )?,
            denied: to.counters(
                "auth_denied_total",
                "Requests refused for their token or the lack of one; each has exactly one reason.",
                &["route", "reason"],
            )?,
            public: to.counters(
                "auth_public_total",
                "Requests on routes that demand no token.",
                &["route"],
            )?,
            failures: to.counters(
                "request_failures_total",
                "Requests that failed in the gateway: answers 408 and 5xx of its own, and answers that it had to break off.",
                &["route", "cause"],
            )?,
            compromised_key_use: to.counter(
                "compromised_key_use_total",
                "Refused tokens that a purged key signed after its purge: a thief holds that key.",
            )?,
            lifecycle_violations: to.counter(
                "lifecycle_violations_total",
                "Unexpired tokens of a retired key; anything but 0 is a defect.",
            )?,
        })
    }

    /// The handles of one route, every series of it at 0.
    pub(super) fn route(&self, name: &str, requests: Arc<RouteRequests>) -> Result<RouteMetrics> {
        let counters = |family: &IntCounterVec, values: &mut dyn Iterator<Item = &'static str>| {
            values
                .map(|value| family.get_metric_with_label_values(&[name, value]))
                .collect::<Result<Vec<IntCounter>>>()
        };
        Ok(RouteMetrics {
            requests,
            duration: histogram(&self.duration, name)?,
            in_flight: self.in_flight.get_metric_with_label_values(&[name])?,
            allowed: counters(
                &self.allowed,
                &mut KeyStateLabel::ALL.iter().map(|state| state.as_str()),
            )?,
            denied: counters(
                &self.denied,
                &mut Rejection::ALL.iter().map(|reason| reason.as_str()),
            )?,
            public: self.public.get_metric_with_label_values(&[name])?,
            failures: counters(
                &self.failures,
                &mut FailureCause::ALL.iter().map(|cause| cause.as_str()),
            )?,
            compromised_key_use: self.compromised_key_use.clone(),
            lifecycle_violations: self.lifecycle_violations.clone(),
        })
    }
}

/// The metrics of one route, resolved at start.
#[derive(Debug)]
pub struct RouteMetrics {
    requests: Arc<RouteRequests>,
    duration: Histogram,
    in_flight: IntGauge,
    /// In the order of [`KeyStateLabel::ALL`].
    allowed: Vec<IntCounter>,
    /// In the order of [`Rejection::ALL`].
    denied: Vec<IntCounter>,
    public: IntCounter,
    /// In the order of [`FailureCause::ALL`].
    failures: Vec<IntCounter>,
    compromised_key_use: IntCounter,
    lifecycle_violations: IntCounter,
}

impl RouteMetrics {
    /// A token was accepted that a key in this state signed.
    pub fn allowed(&self, state: KeyStateLabel) {
        if let Some(counter) = self.allowed.get(state as usize) {
            counter.inc();
        }
    }

    /// A request was refused. Counts the alarms too; for a token that only a purge broke use
    /// [`RouteMetrics::denied_by_purge`].
    pub fn denied(&self, reason: Rejection) {
        if let Some(counter) = self.denied.get(reason as usize) {
            counter.inc();
        }
        if reason == Rejection::CompromisedKeyInUse {
            self.compromised_key_use.inc();
        }
        if reason == Rejection::LifecycleViolation {
            self.lifecycle_violations.inc();
        }
    }

    /// A token was refused because its key was purged, and for no other reason: the one place that
    /// moves `purge_verification_failures_total` (invariant 15).
    pub fn denied_by_purge(&self, key: &KeySeries) {
        key.purge_failures.inc();
        self.denied(Rejection::KeyPurged);
    }

    /// A request on a route that demands no token.
    pub fn public(&self) {
        self.public.inc();
    }

    /// The gateway answered 5xx on its own account, or broke an answer off after its header.
    pub fn failed(&self, cause: FailureCause) {
        if let Some(counter) = self.failures.get(cause as usize) {
            counter.inc();
        }
    }

    /// Counts a request as in flight until the guard is dropped.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Requests in flight now.
    #[must_use]
    pub fn in_flight_now(&self) -> i64 {
        self.in_flight.get()
    }

    /// Refusals that only a thief or a defect of ours can cause: uses of a purged key after its purge,
    /// on any route, and unexpired tokens of a retired key.
    pub(super) fn alarms(&self) -> (u64, u64) {
        (
            self.compromised_key_use.get(),
            self.lifecycle_violations.get(),
        )
    }

    /// A request ended. A method that is not the route's own counts as `other`.
    pub fn observe(&self, method: &str, code: CodeClass, seconds: f64) {
        self.requests.count(method, code);
        self.duration.observe(seconds);
    }
}

/// A request in flight; dropping it ends that.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one upstream, resolved at start.
#[derive(Debug)]
pub struct UpstreamMetrics {
    duration: Histogram,
    endpoints: Vec<Arc<EndpointHealth>>,
}

impl UpstreamMetrics {
    /// An upstream answered, `seconds` after the request was sent to it.
    pub fn observe(&self, seconds: f64) {
        self.duration.observe(seconds);
    }

    /// The state of each endpoint, in the order of the configuration.
    #[must_use]
    pub fn endpoints(&self) -> &[Arc<EndpointHealth>] {
        &self.endpoints
    }
}

/// Registers the family of the upstreams and makes its series.
pub(super) fn register_upstreams(
    to: &mut Registrar,
    labels: &[UpstreamLabels<'_>],
) -> Result<HashMap<String, Arc<UpstreamMetrics>>> {
    let family = to.histograms(
        "upstream_request_duration_seconds",
        "Time from sending a request to an upstream to the header of its response.",
        &REQUEST_BUCKETS,
        "upstream",
    )?;
    let upstream = |label: &UpstreamLabels<'_>| {
        let endpoint = |address: &&str| Arc::new(EndpointHealth::new(label.name, address));
        let metrics = UpstreamMetrics {
            duration: histogram(&family, label.name)?,
            endpoints: label.endpoints.iter().map(endpoint).collect(),
        };
        Ok((label.name.to_owned(), Arc::new(metrics)))
    };
    labels.iter().map(upstream).collect()
}

/// Registers the time to decide about a token, in the order of [`CacheLookup::ALL`].
pub(super) fn register_auth_duration(to: &mut Registrar) -> Result<Vec<Histogram>> {
    let family = to.histograms(
        "auth_duration_seconds",
        "Time to decide about a token, by what the token cache said.",
        &AUTH_BUCKETS,
        "cache",
    )?;
    CacheLookup::ALL
        .iter()
        .map(|lookup| histogram(&family, lookup.as_str()))
        .collect()
}
