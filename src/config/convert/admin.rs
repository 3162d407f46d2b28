//! `listeners.admin`: the listener for operators and its credentials.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::config::config::{AdminListener, AdminToken, AdminTokenSource, Role};
use crate::config::net::listen_address;
use crate::config::path::KeyPath;
use crate::config::raw::{RawAdminListener, RawAdminToken};
use crate::config::{names, units};

use super::Cx;
use super::binding::{Place, Taken, plain_text, secrets_need_tls, tls};

/// Most admin tokens; each wrong one is compared with all of them.
const MAX_ADMIN_TOKENS: usize = 64;

/// Most names of the listener.
const MAX_HOSTS: usize = 32;

pub(super) fn admin(
    cx: &mut Cx<'_>,
    raw: Option<RawAdminListener>,
    at: &KeyPath,
    taken: &mut Taken,
) -> Option<AdminListener> {
    let Some(raw) = raw else {
        cx.missing(
            at,
            "write `admin: { tokens: [{ name: ops, role: admin, file: secrets/admin.token }] }`",
        );
        return None;
    };
    let address_at = at.key("address");
    let address = match &raw.address {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9901))),
        Some(_) => cx.maybe(&address_at, raw.address.as_ref(), listen_address),
    };
    let tls = raw.tls.as_ref().map(|raw| tls(cx, raw, &at.key("tls")));
    let plain_text = plain_text(
        cx,
        at,
        raw.tls.is_some(),
        raw.insecure.as_ref(),
        raw.behind_tls_proxy.as_ref(),
    );
    let ca_file_at = at.key("ca_file");
    let ca_file = cx.maybe(&ca_file_at, raw.ca_file.as_ref(), names::file);
    if raw.ca_file.is_some() && raw.tls.is_none() {
        cx.refuse(
            &ca_file_at,
            raw.ca_file.as_ref(),
            "an authority is of use only where the admin listener has `tls`",
            "add `tls`, or remove `ca_file`",
        );
    }
    let allowed_hosts = cx.list(
        &at.key("allowed_hosts"),
        raw.allowed_hosts.as_ref(),
        MAX_HOSTS,
        names::host_name,
    );
    let (session_idle_timeout, session_lifetime) = session(cx, &raw, at);
    let tokens = tokens(cx, &raw.tokens.unwrap_or_default(), &at.key("tokens"));
    let address = address?;
    let place = Place {
        address,
        at: &address_at,
        raw: raw.address.as_ref(),
    };
    taken.add(cx, &place);
    if raw.tls.is_none() {
        secrets_need_tls(
            cx,
            &place,
            &plain_text,
            "the admin listener receives admin tokens",
        );
    }
    Some(AdminListener {
        address,
        tls: tls.flatten(),
        plain_text,
        ca_file,
        allowed_hosts,
        session_idle_timeout,
        session_lifetime,
        tokens,
    })
}

/// How long a session may stand idle, and how long it lasts at most.
fn session(cx: &mut Cx<'_>, raw: &RawAdminListener, at: &KeyPath) -> (Duration, Duration) {
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    let lifetime = cx.maybe(
        &at.key("session_lifetime"),
        raw.session_lifetime.as_ref(),
        |text| units::duration_within(text, SECOND, HOUR * 24 * 7),
    );
    let lifetime = lifetime.unwrap_or(HOUR * 12);
    let idle_at = at.key("session_idle_timeout");
    let idle = cx.maybe(&idle_at, raw.session_idle_timeout.as_ref(), |text| {
        units::duration_within(text, SECOND, HOUR * 24 * 7)
    });
    if idle.is_some_and(|idle| idle > lifetime) {
        let lifetime = units::in_words(lifetime);
        cx.refuse(
            &idle_at,
            raw.session_idle_timeout.as_ref(),
            format!("session_idle_timeout ≤ session_lifetime, which is {lifetime}"),
            "write a shorter session_idle_timeout or a longer session_lifetime",
        );
    }
    let default = Duration::from_secs(30 * 60).min(lifetime);
    (idle.unwrap_or(default), lifetime)
}

fn tokens(cx: &mut Cx<'_>, raw: &[RawAdminToken], at: &KeyPath) -> Vec<AdminToken> {
    cx.bound(at, raw.len(), MAX_ADMIN_TOKENS);
    if raw.is_empty() {
        cx.refuse(
            at,
            None,
            "the admin listener needs at least one token: it has no mode without authentication",
            "write `tokens: [{ name: ops, role: admin, file: secrets/admin.token }]`; `portcullis init` makes the file",
        );
    }
    let mut tokens: Vec<AdminToken> = Vec::new();
    for (index, raw) in raw.iter().enumerate().take(MAX_ADMIN_TOKENS) {
        let at = at.index(index);
        let Some(token) = admin_token(cx, raw, &at) else {
            continue;
        };
        if tokens.iter().any(|other| other.name == token.name) {
            cx.refuse(
                &at.key("name"),
                raw.name.as_ref(),
                "the name of an admin token stands only once",
                "give it another name: audit records tell people apart by it",
            );
        }
        tokens.push(token);
    }
    tokens
}

fn admin_token(cx: &mut Cx<'_>, raw: &RawAdminToken, at: &KeyPath) -> Option<AdminToken> {
    let known = [Role::Viewer, Role::Operator, Role::Admin].map(|role| (role.as_str(), role));
    let name = cx.required(
        &at.key("name"),
        raw.name.as_ref(),
        "write who uses it, such as `name: ops`",
        names::name,
    );
    let role = cx.required(
        &at.key("role"),
        raw.role.as_ref(),
        "write `role: viewer`, `operator` or `admin`",
        |text| units::word(text, &known),
    );
    let source = match (&raw.file, &raw.hash_file) {
        (Some(_), Some(_)) => {
            cx.refuse(
                &at.key("hash_file"),
                raw.hash_file.as_ref(),
                "an admin token has exactly one of `file` and `hash_file`",
                "remove one of the two",
            );
            None
        }
        (None, Some(_)) => cx
            .maybe(&at.key("hash_file"), raw.hash_file.as_ref(), names::file)
            .map(AdminTokenSource::HashFile),
        (raw, None) => cx
            .required(
                &at.key("file"),
                raw.as_ref(),
                "write `file: secrets/admin.token`, or `hash_file: …`",
                names::file,
            )
            .map(AdminTokenSource::File),
    };
    Some(AdminToken {
        name: name?,
        role: role?,
        source: source?,
    })
}
