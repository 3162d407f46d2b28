//! The metrics: one struct, one registry of its own, handles resolved at start.
//!
//! Invariants: names begin with `portcullis_` (those of the process excepted); label sets are
//! closed, and every series but those of kids and of `http_requests_total` below 5xx exists at 0
//! from the start, so that `increase()` misses nothing; no label ever holds a client, a path or a kid that
//! is not ours. What a request does takes no lock. `docs/metrics.md` lists every metric, and a
//! test compares the two.

mod cache;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod document;
mod endpoints;
mod installation;
mod keys;
mod labels;
mod readings;
mod registrar;
mod requests;
mod routes;
mod service;
mod streams;
#[cfg(test)]
mod tests;
mod workers;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prometheus::{Error, Histogram, IntCounter, Registry, Result, TextEncoder};

use self::cache::CacheMetrics;
use self::endpoints::EndpointsUp;
use self::installation::InstallationMetrics;
use self::keys::KeyMetrics;
pub use self::keys::{KeyFacts, KeySeries, KeySetFacts};
pub use self::labels::{
    AdminRefusal, CacheLookup, CodeClass, FailureCause, Grant, KeyStateLabel, RotationKind,
    RotationResult, TokenError, Trigger,
};
pub use self::readings::Readings;
use self::registrar::{Family, Registrar, prefixed};
use self::requests::{Requests, RouteRequests};
use self::routes::RouteFamilies;
pub use self::routes::{InFlight, RouteMetrics, UpstreamMetrics};
use self::service::{AdminMetrics, ClientMetrics, LogLinesDropped, OTHER_ENDPOINT, TokenMetrics};
pub use self::streams::TraceMetrics;
pub use self::workers::{OpenConnection, WorkerMetrics};
use super::log::Log;
use crate::clock::Timestamp;

/// Route label of requests to the issuer's own endpoints.
pub const ISSUER_ROUTE: &str = "issuer";

/// Route label of requests that matched no route.
pub const NO_ROUTE: &str = "none";

/// `Content-Type` of [`Metrics::render`].
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The names that become label values.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsLabels<'a> {
    /// Version of the program.
    pub version: &'a str,
    /// The configured routes; [`ISSUER_ROUTE`] and [`NO_ROUTE`] are added.
    pub routes: &'a [RouteLabels<'a>],
    /// The configured upstreams.
    pub upstreams: &'a [UpstreamLabels<'a>],
    /// The endpoints of the admin API; `other` is added.
    pub admin_endpoints: &'a [&'a str],
    /// The workers of the proxy listeners, as receipts name them.
    pub workers: &'a [String],
}

/// The names that a route contributes.
#[derive(Clone, Copy, Debug)]
pub struct RouteLabels<'a> {
    /// The route's name.
    pub name: &'a str,
    /// The methods that it takes; none when it takes any.
    pub methods: &'a [&'a str],
}

/// The names that an upstream contributes.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLabels<'a> {
    /// The upstream's name.
    pub name: &'a str,
    /// Its endpoints, as configured.
    pub endpoints: &'a [&'a str],
}

/// The metrics of a gateway.
pub struct Metrics {
    registry: Registry,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "what the documentation is compared with")
    )]
    families: Vec<Family>,
    routes: HashMap<String, Arc<RouteMetrics>>,
    upstreams: HashMap<String, Arc<UpstreamMetrics>>,
    workers: Vec<Arc<WorkerMetrics>>,
    /// In the order of [`CacheLookup::ALL`].
    auth_duration: Vec<Histogram>,
    cache: CacheMetrics,
    keys: KeyMetrics,
    installation: InstallationMetrics,
    tokens: TokenMetrics,
    clients: ClientMetrics,
    admin: AdminMetrics,
    log_lines_dropped: LogLinesDropped,
    access_log_dropped: IntCounter,
    traces: Arc<TraceMetrics>,
}

impl Metrics {
    /// Registers every metric and creates every series of a closed label set at 0.
    ///
    /// # Errors
    /// When a name comes twice among the routes (`issuer` and `none` are taken), the upstreams or
    /// the admin endpoints (`other` is taken).
    pub fn new(labels: &MetricsLabels<'_>) -> Result<Self> {
        let reserved = [ISSUER_ROUTE, NO_ROUTE].map(|name| RouteLabels { name, methods: &[] });
        let routes: Vec<&RouteLabels<'_>> = labels.routes.iter().chain(&reserved).collect();
        distinct("route", routes.iter().map(|route| route.name))?;
        distinct("upstream", labels.upstreams.iter().map(|of| of.name))?;
        let endpoints = labels.admin_endpoints.iter().copied();
        distinct("admin endpoint", endpoints.chain([OTHER_ENDPOINT]))?;

        let mut to = Registrar::default();
        service::program(&mut to, labels.version)?;
        let routes = register_routes(&mut to, &routes)?;
        let upstreams = routes::register_upstreams(&mut to, labels.upstreams)?;
        to.register(EndpointsUp::new(&upstreams)?)?;
        let workers = workers::register(&mut to, labels.workers)?;
        let auth_duration = routes::register_auth_duration(&mut to)?;
        let cache = CacheMetrics::register(&mut to)?;
        let keys = KeyMetrics::register(&mut to)?;
        let installation = InstallationMetrics::register(&mut to)?;
        let tokens = TokenMetrics::register(&mut to)?;
        let clients = ClientMetrics::register(&mut to)?;
        let admin = AdminMetrics::register(&mut to, labels.admin_endpoints)?;
        let log_lines_dropped = LogLinesDropped::register(&mut to)?;
        let access_log_dropped = streams::register_access_log(&mut to)?;
        let traces = TraceMetrics::register(&mut to)?;
        let (registry, families) = to.finish();
        Ok(Self {
            registry,
            families,
            routes,
            upstreams,
            workers,
            auth_duration,
            cache,
            keys,
            installation,
            tokens,
            clients,
            admin,
            log_lines_dropped,
            access_log_dropped,
            traces,
        })
    }

    /// The handles of a route; [`ISSUER_ROUTE`] and [`NO_ROUTE`] exist always. To be asked at
    /// start and kept.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<Arc<RouteMetrics>> {
        self.routes.get(name).map(Arc::clone)
    }

    /// The handles of an upstream. To be asked at start and kept.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<Arc<UpstreamMetrics>> {
        self.upstreams.get(name).map(Arc::clone)
    }

    /// A decision about a token took so long, after this lookup in the cache of verified tokens.
    pub fn auth_duration(&self, lookup: CacheLookup, seconds: f64) {
        self.cache.lookup(lookup);
        if let Some(histogram) = self.auth_duration.get(lookup as usize) {
            histogram.observe(seconds);
        }
    }

    /// What the cache of verified tokens holds, and how many it has let go so far.
    pub fn token_cache(&self, entries: usize, bytes: u64, evictions: u64) {
        self.cache.show(entries, bytes, evictions);
    }

    /// The handles of a worker, by its number among all of them. To be asked at start and kept.
    #[must_use]
    pub fn worker(&self, number: usize) -> Option<Arc<WorkerMetrics>> {
        self.workers.get(number).map(Arc::clone)
    }

    /// The handles of a key of ours or of its tombstone, created at 0 when new. At most 192 kids
    /// have series of their own; a further one counts under `kid="other"`, so ask for live keys
    /// first and for tombstones from the newest on, after [`Metrics::retain_kids`].
    #[must_use]
    pub fn key_series(&self, kid: &str) -> KeySeries {
        self.keys.series(kid)
    }

    /// Shows the clients of purges too old for series of their own.
    pub fn older_purge_clients(&self, affected: i64, recovered: i64) {
        self.keys.older_purge_clients(affected, recovered);
    }

    /// Ends the series of every kid that is not listed.
    pub fn retain_kids(&self, kids: &[&str]) {
        self.keys.retain(kids);
    }

    /// Shows a key set that was just published.
    pub fn show_key_set(&self, facts: &KeySetFacts<'_>) {
        self.keys.show(facts);
    }

    /// The store has just confirmed that the key set in force is the stored one.
    pub fn store_answered(&self) {
        self.installation.store_answered();
    }

    /// Shows the forward step of the clock for which the schedule waits, 0 when it does not.
    pub fn clock_step(&self, seconds: f64) {
        self.installation.clock_step(seconds);
    }

    /// Shows how far the gateway's clock is ahead of the machine's.
    pub fn clock_offset(&self, seconds: f64) {
        self.installation.clock_offset(seconds);
    }

    /// Shows when the certificates that a listener serves expire. To be called at start, with the
    /// names of configured listeners.
    pub fn certificate(&self, listener: &str, not_after: Timestamp) {
        self.installation.certificate(listener, not_after);
    }

    /// Shows how many tokens of keys in this state are alive.
    pub fn live_tokens(&self, state: KeyStateLabel, tokens: u64) {
        self.keys.live_tokens(state, tokens);
    }

    /// A rotation or purge was answered after `seconds`.
    pub fn rotation(
        &self,
        trigger: Trigger,
        kind: RotationKind,
        result: RotationResult,
        seconds: f64,
    ) {
        self.keys.rotation(trigger, kind, result, seconds);
    }

    /// A token was issued.
    pub fn token_issued(&self, grant: Grant) {
        self.tokens.issued(grant);
    }

    /// A token request was refused.
    pub fn token_error(&self, error: TokenError) {
        self.tokens.error(error);
    }

    /// Shows how many clients there are, of the configuration and of the store.
    pub fn clients(&self, enabled: usize, disabled: usize) {
        self.clients.show(enabled, disabled);
    }

    /// The admin API answered. What is not one of its endpoints counts as `other`.
    pub fn admin_request(&self, endpoint: &str, code: CodeClass) {
        self.admin.count(endpoint, code);
    }

    /// The admin listener did not let somebody in, or not as far as they wanted.
    pub fn admin_refused(&self, reason: AdminRefusal) {
        self.admin.refused(reason);
    }

    /// Shows the lines that `log` loses; the first log given stays.
    pub fn attach_log(&self, log: &Log) {
        self.log_lines_dropped.attach(log.dropped_counter());
    }

    /// Lost lines of the access log.
    pub(super) fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.clone()
    }

    /// What becomes of spans.
    pub(super) fn traces(&self) -> Arc<TraceMetrics> {
        Arc::clone(&self.traces)
    }

    /// The Prometheus text format of now, for [`METRICS_CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // It fails for a family without a name alone; the registry admits none.
        drop(TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text));
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

fn register_routes(
    to: &mut Registrar,
    labels: &[&RouteLabels<'_>],
) -> Result<HashMap<String, Arc<RouteMetrics>>> {
    let families = RouteFamilies::register(to)?;
    let mut requests = Vec::new();
    let mut routes = HashMap::new();
    for label in labels {
        let counted = Arc::new(RouteRequests::new(label.name, label.methods));
        requests.push(Arc::clone(&counted));
        routes.insert(
            label.name.to_owned(),
            Arc::new(families.route(label.name, counted)?),
        );
    }
    to.add(Requests::new(
        prefixed("http_requests_total"),
        "Requests that ended, by route, method and class of status.",
        requests,
    )?)?;
    Ok(routes)
}

/// Two things under one label value would share counters, and one of them would go unseen.
fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(Error::Msg(format!(
                "{what} name {name:?} is used twice or reserved; give it another name"
            )));
        }
        seen.push(name);
    }
    Ok(())
}
