//! `listeners`: those of the data path and of the metrics. The admin listener has more to say and
//! stands in `admin`.

use std::net::{Ipv4Addr, SocketAddr};

use crate::config::config::{Listeners, MetricsListener, PlainText, ProxyListener, Serves};
use crate::config::error::Broken;
use crate::config::forms::{OneOrMany, Scalar, WordOr};
use crate::config::net::{Cidr, listen_address};
use crate::config::path::KeyPath;
use crate::config::raw::{RawListeners, RawMetricsListener, RawProxyListener};
use crate::config::units;

use super::Cx;
use super::admin::admin;
use super::binding::{Place, Taken, plain_text, secrets_need_tls, tls};

/// Most proxy listeners: their sockets share one hand-over table with the workers' shards.
const MAX_PROXY_LISTENERS: usize = 8;

pub(super) fn listeners(cx: &mut Cx<'_>, raw: Option<RawListeners>) -> Option<Listeners> {
    let at = KeyPath::root().key("listeners");
    let Some(raw) = raw else {
        cx.missing(&at, "write at least `proxy` and `admin` below `listeners:`");
        return None;
    };
    let mut taken = Taken::default();
    let proxy = proxies(cx, raw.proxy, &at.key("proxy"), &mut taken);
    let admin = admin(cx, raw.admin, &at.key("admin"), &mut taken);
    let metrics = metrics(cx, raw.metrics, &at.key("metrics"), &mut taken);
    Some(Listeners {
        proxy,
        admin: admin?,
        metrics: metrics?,
    })
}

fn proxies(
    cx: &mut Cx<'_>,
    raw: Option<OneOrMany<RawProxyListener>>,
    at: &KeyPath,
    taken: &mut Taken,
) -> Vec<ProxyListener> {
    match raw {
        None => {
            cx.missing(at, "write `proxy: { address: 127.0.0.1:8080 }`");
            Vec::new()
        }
        Some(OneOrMany::One(raw)) => proxy(cx, &raw, at, taken).into_iter().collect(),
        Some(OneOrMany::Many(list)) => {
            cx.bound(at, list.len(), MAX_PROXY_LISTENERS);
            if list.is_empty() {
                cx.refuse(
                    at,
                    None,
                    "at least one proxy listener is needed",
                    "write `{ address: 127.0.0.1:8080 }` into the list",
                );
            }
            list.iter()
                .enumerate()
                .take(MAX_PROXY_LISTENERS)
                .filter_map(|(index, raw)| proxy(cx, raw, &at.index(index), taken))
                .collect()
        }
    }
}

fn proxy(
    cx: &mut Cx<'_>,
    raw: &RawProxyListener,
    at: &KeyPath,
    taken: &mut Taken,
) -> Option<ProxyListener> {
    let address_at = at.key("address");
    let address = cx.required(
        &address_at,
        raw.address.as_ref(),
        "write where to listen, such as `address: 127.0.0.1:8080`",
        listen_address,
    );
    let serves = serves(cx, raw.serves.as_ref(), &at.key("serves"));
    let tls = raw.tls.as_ref().map(|raw| tls(cx, raw, &at.key("tls")));
    let h2 = cx.maybe(&at.key("h2"), raw.h2.as_ref(), units::boolean);
    if h2 == Some(true) && raw.tls.is_none() {
        cx.refuse(
            &at.key("h2"),
            raw.h2.as_ref(),
            "HTTP/2 is agreed on within TLS, so `h2` needs `tls`",
            "add `tls`, or remove `h2`",
        );
    }
    let plain_text = plain_text(
        cx,
        at,
        raw.tls.is_some(),
        raw.insecure.as_ref(),
        raw.behind_tls_proxy.as_ref(),
    );
    let trusted_proxies = trusted_proxies(cx, raw, at, &plain_text);
    let address = address?;
    let place = Place {
        address,
        at: &address_at,
        raw: raw.address.as_ref(),
    };
    taken.add(cx, &place);
    if serves.issuer && raw.tls.is_none() {
        let what = "the token endpoint receives client secrets";
        secrets_need_tls(cx, &place, &plain_text, what);
    }
    Some(ProxyListener {
        address,
        serves,
        tls: tls.flatten(),
        h2: h2.unwrap_or(false),
        plain_text,
        trusted_proxies,
    })
}

/// Those of `trusted_proxies`, or of `behind_tls_proxy`, which means that and more.
fn trusted_proxies(
    cx: &mut Cx<'_>,
    raw: &RawProxyListener,
    at: &KeyPath,
    plain_text: &PlainText,
) -> Vec<Cidr> {
    let at = at.key("trusted_proxies");
    let networks = cx.list(&at, raw.trusted_proxies.as_ref(), 64, Cidr::parse);
    match (plain_text, &raw.trusted_proxies) {
        (PlainText::BehindTlsProxy(networks), None) => return networks.clone(),
        (PlainText::BehindTlsProxy(_), Some(_)) => cx.refuse(
            &at,
            None,
            "`behind_tls_proxy` names the trusted proxies already",
            "remove this key; nobody else may connect here",
        ),
        (_, Some(list)) if list.is_empty() => cx.refuse(
            &at,
            None,
            "`trusted_proxies` names at least one network",
            "write the addresses that the proxy connects from, such as `[10.0.0.7/32]`, or remove the key",
        ),
        _ => {}
    }
    networks
}

fn serves(cx: &mut Cx<'_>, raw: Option<&Vec<Scalar>>, at: &KeyPath) -> Serves {
    #[derive(Clone, Copy, PartialEq)]
    enum Part {
        Routes,
        Issuer,
        Health,
    }
    let known = [
        ("routes", Part::Routes),
        ("issuer", Part::Issuer),
        ("health", Part::Health),
    ];
    let Some(raw) = raw else {
        return Serves {
            routes: true,
            issuer: true,
            health: false,
        };
    };
    if raw.is_empty() {
        cx.refuse(
            at,
            None,
            "a listener serves at least one of `routes`, `issuer` and `health`",
            "write one of them, or remove the key for `[routes, issuer]`",
        );
    }
    let parts = cx.list(at, Some(raw), known.len(), |text| units::word(text, &known));
    Serves {
        routes: parts.contains(&Part::Routes),
        issuer: parts.contains(&Part::Issuer),
        health: parts.contains(&Part::Health),
    }
}

/// `None` when something was reported, `Some(None)` when the file says `none`.
#[expect(
    clippy::option_option,
    reason = "the outer one is failure, the inner one the setting"
)]
fn metrics(
    cx: &mut Cx<'_>,
    raw: Option<WordOr<RawMetricsListener>>,
    at: &KeyPath,
    taken: &mut Taken,
) -> Option<Option<MetricsListener>> {
    let raw = match raw {
        None => RawMetricsListener::default(),
        Some(WordOr::Section(raw)) => raw,
        Some(WordOr::Word(word)) => {
            let rule = "`metrics` is a map, or the word `none` for no metrics listener";
            let fix = "write `metrics: { address: 127.0.0.1:9902 }`";
            return cx.maybe(at, Some(&word), |text| match text {
                "none" => Ok(None),
                _ => Err(Broken::new(rule, fix)),
            });
        }
    };
    let address_at = at.key("address");
    let address = match &raw.address {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9902))),
        Some(_) => cx.maybe(&address_at, raw.address.as_ref(), listen_address),
    };
    let tls = raw.tls.as_ref().map(|raw| tls(cx, raw, &at.key("tls")));
    let address = address?;
    let place = Place {
        address,
        at: &address_at,
        raw: raw.address.as_ref(),
    };
    taken.add(cx, &place);
    Some(Some(MetricsListener {
        address,
        tls: tls.flatten(),
    }))
}
