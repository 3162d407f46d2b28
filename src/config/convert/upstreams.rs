//! `upstreams`: where requests go.

use std::time::Duration;

use crate::config::forms::{Named, WordOr};
use crate::config::path::KeyPath;
use crate::config::raw::{RawHealthCheck, RawUpstream, RawUpstreamTls};
use crate::config::{names, net, units};
use crate::gateway::upstreams::{HealthCheck, UpstreamSpec, UpstreamTls};

use super::Cx;

/// Most upstreams; each is a metric label.
const MAX_UPSTREAMS: usize = 256;

/// Most endpoints of one upstream.
const MAX_ENDPOINTS: usize = 64;

/// The upstreams that could be read, and the names of all that are written: a route to one with
/// a mistake in it is no second mistake.
pub(super) struct Upstreams {
    pub(super) specs: Vec<UpstreamSpec>,
    pub(super) written: Vec<String>,
}

pub(super) fn upstreams(cx: &mut Cx<'_>, raw: Option<Named<RawUpstream>>) -> Upstreams {
    let at = KeyPath::root().key("upstreams");
    let raw = raw.map(|named| named.0).unwrap_or_default();
    cx.bound(&at, raw.len(), MAX_UPSTREAMS);
    let written = raw.iter().map(|(name, _)| name.clone()).collect();
    let mut specs = Vec::new();
    for (name, raw) in raw.iter().take(MAX_UPSTREAMS) {
        let at = at.key(name);
        if let Err(broken) = names::name(name) {
            cx.report(&at, None, broken);
        }
        specs.extend(upstream(cx, name, raw, &at));
    }
    Upstreams { specs, written }
}

fn upstream(cx: &mut Cx<'_>, name: &str, raw: &RawUpstream, at: &KeyPath) -> Option<UpstreamSpec> {
    let endpoints_at = at.key("endpoints");
    let endpoints = cx.list(
        &endpoints_at,
        raw.endpoints.as_ref(),
        MAX_ENDPOINTS,
        net::endpoint,
    );
    if raw.endpoints.as_ref().is_none_or(Vec::is_empty) {
        cx.refuse(
            &endpoints_at,
            None,
            "an upstream needs at least one endpoint",
            "write for example `endpoints: [\"127.0.0.1:9003\"]`",
        );
    }
    let tls = raw.tls.as_ref().map(|raw| tls(cx, raw, &at.key("tls")));
    let health_check = health_check(cx, &at.key("health_check"), raw.health_check.as_ref());
    let mut timeout = |key: &str, raw, most: u64, default: u64| {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(most));
        cx.maybe(&at.key(key), raw, |text| {
            units::duration_within(text, least, most)
        })
        .unwrap_or_else(|| Duration::from_secs(default))
    };
    Some(UpstreamSpec {
        name: name.to_owned(),
        endpoints,
        connect_timeout: timeout("connect_timeout", raw.connect_timeout.as_ref(), 60, 5),
        read_timeout: timeout("read_timeout", raw.read_timeout.as_ref(), 3600, 60),
        write_timeout: timeout("write_timeout", raw.write_timeout.as_ref(), 3600, 60),
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
        health_check,
    })
}

fn health_check(
    cx: &mut Cx<'_>,
    at: &KeyPath,
    raw: Option<&WordOr<RawHealthCheck>>,
) -> Option<HealthCheck> {
    let default = HealthCheck::default();
    let Some(raw) = raw else {
        return Some(default);
    };
    let raw = cx.unless_off(
        at,
        raw,
        "`health_check` is a map, or the word `off`",
        "write `health_check: { interval: 10s, timeout: 2s }` or `health_check: off`",
    )?;
    let mut duration = |key, raw, least: u64, most: u64| {
        let (least, most) = (Duration::from_millis(least), Duration::from_secs(most));
        cx.maybe(&at.key(key), raw, |text| {
            units::duration_within(text, least, most)
        })
    };
    let interval = duration("interval", raw.interval.as_ref(), 100, 3600);
    let timeout = duration("timeout", raw.timeout.as_ref(), 1, 60);
    Some(HealthCheck {
        interval: interval.unwrap_or(default.interval),
        timeout: timeout.unwrap_or(default.timeout),
    })
}

fn tls(cx: &mut Cx<'_>, raw: &RawUpstreamTls, at: &KeyPath) -> Option<UpstreamTls> {
    let server_name = cx.required(
        &at.key("server_name"),
        raw.server_name.as_ref(),
        "write the name in the upstream's certificate, such as `server_name: orders.internal`",
        names::server_name,
    );
    let ca_file = cx.maybe(&at.key("ca_file"), raw.ca_file.as_ref(), names::file);
    Some(UpstreamTls {
        server_name: server_name?,
        ca_file,
    })
}
