//! What the composition is made of, from the configuration alone or with handles of the metrics.

use std::sync::Arc;

use crate::admin::{self, WatchedUpstream};
use crate::config::Config;
use crate::gateway::PreparedRoute;
use crate::gateway::upstreams::{Upstream, UpstreamSpec};
use crate::http::RefusalLog;
use crate::issuer::IssuerSpec;
use crate::telemetry::{
    Level, Log, Metrics, MetricsLabels, RouteLabels, RouteMetrics, UpstreamLabels,
};

use super::StartError;

/// Names of those who hold snapshots: one for each worker of each proxy listener, or one for all
/// of a listener's when they share a service.
pub(super) fn worker_names(config: &Config) -> Vec<String> {
    let (services, _threads) = config.server.spread();
    let of = |address| (0..services).map(move |number| format!("proxy {address} worker {number}"));
    config
        .listeners
        .proxy
        .iter()
        .flat_map(|listener| of(listener.address))
        .collect()
}

pub(super) fn metrics_of(config: &Config) -> Result<Metrics, StartError> {
    let methods: Vec<Vec<&str>> = config
        .routes
        .iter()
        .map(|route| {
            route
                .matcher
                .methods
                .iter()
                .map(http::Method::as_str)
                .collect()
        })
        .collect();
    let routes: Vec<RouteLabels<'_>> = config
        .routes
        .iter()
        .zip(&methods)
        .map(|(route, methods)| RouteLabels {
            name: &route.name,
            methods,
        })
        .collect();
    let endpoints: Vec<Vec<&str>> = config
        .upstreams
        .iter()
        .map(|upstream| upstream.endpoints.iter().map(String::as_str).collect())
        .collect();
    let upstreams: Vec<UpstreamLabels<'_>> = config
        .upstreams
        .iter()
        .zip(&endpoints)
        .map(|(upstream, endpoints)| UpstreamLabels {
            name: &upstream.name,
            endpoints,
        })
        .collect();
    Ok(Metrics::new(&MetricsLabels {
        version: env!("CARGO_PKG_VERSION"),
        routes: &routes,
        upstreams: &upstreams,
        admin_endpoints: &admin::endpoints(),
        workers: &worker_names(config),
    })?)
}

pub(super) fn route_metrics(
    metrics: &Metrics,
    name: &str,
) -> Result<Arc<RouteMetrics>, StartError> {
    metrics
        .route(name)
        .ok_or_else(|| StartError::Metrics(prometheus::Error::Msg(format!("no route `{name}`"))))
}

pub(super) fn upstreams_of(
    config: &Config,
    metrics: &Metrics,
) -> Result<Vec<Arc<Upstream>>, StartError> {
    let upstream = |spec: &UpstreamSpec| {
        let handles = metrics.upstream(&spec.name).ok_or_else(|| {
            StartError::Metrics(prometheus::Error::Msg(format!(
                "no upstream `{}`",
                spec.name
            )))
        })?;
        Ok(Arc::new(Upstream::new(spec, handles)?))
    };
    config.upstreams.iter().map(upstream).collect()
}

pub(super) fn watched((spec, upstream): (&UpstreamSpec, &Arc<Upstream>)) -> WatchedUpstream {
    WatchedUpstream {
        name: spec.name.clone(),
        endpoints: upstream.metrics.endpoints().to_vec(),
        checked_every: spec.health_check.map(|check| check.interval),
    }
}

pub(super) fn routes_of(
    config: &Config,
    metrics: &Metrics,
    upstreams: &[Arc<Upstream>],
) -> Result<Vec<PreparedRoute>, StartError> {
    let prepared = config.routes.iter().filter_map(|route| {
        // The configuration was checked: every route names an upstream that exists.
        let upstream = upstreams
            .iter()
            .find(|upstream| upstream.name == route.upstream)?;
        Some(
            route_metrics(metrics, &route.name).map(|metrics| PreparedRoute {
                route: route.clone(),
                upstream: Arc::clone(upstream),
                metrics,
            }),
        )
    });
    prepared.collect()
}

pub(super) fn issuer_spec(config: &Config) -> IssuerSpec {
    let mut scopes: Vec<String> = config
        .clients
        .iter()
        .flat_map(|client| client.scopes.clone())
        .collect();
    scopes.sort_unstable();
    scopes.dedup();
    IssuerSpec {
        url: config.issuer.url.clone(),
        audience: config.issuer.audience.clone(),
        scopes,
        timing: config.keys.timing.clone(),
    }
}

pub(super) fn refusal_log(log: Log) -> RefusalLog {
    Arc::new(move |refusal| {
        log.event(Level::Info, "request_failed", refusal.cause)
            .log_id(refusal.log_id)
            .field("status", refusal.status.as_u16())
            .field("peer", refusal.peer.map(|peer| peer.to_string()))
            .emit();
    })
}
