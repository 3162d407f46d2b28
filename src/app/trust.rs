//! Whose word a listener takes, as the configuration wants it: sessions and origins of the admin
//! listener, proxies in front of the others.

use crate::admin::{Origins, SessionLimits, Sessions};
use crate::config::{Config, PlainText, ProxyListener};
use crate::gateway::sources::TrustedProxies;

pub(super) fn sessions_of(config: &Config) -> Sessions {
    Sessions::new(SessionLimits {
        idle_timeout: config.listeners.admin.session_idle_timeout,
        lifetime: config.listeners.admin.session_lifetime,
    })
}

pub(super) fn origins_of(config: &Config) -> Origins {
    let admin = &config.listeners.admin;
    let tls_in_front = matches!(admin.plain_text, PlainText::BehindTlsProxy(_));
    Origins::new(admin.allowed_hosts.clone(), tls_in_front)
}

/// The proxies in front of a listener.
pub(super) fn trusted_proxies(listener: &ProxyListener) -> TrustedProxies {
    let networks = listener.trusted_proxies.clone();
    if networks.is_empty() {
        return TrustedProxies::default();
    }
    TrustedProxies::new(move |peer| networks.iter().any(|network| network.contains(peer)))
}
