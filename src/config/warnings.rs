//! What a configuration may say, but probably should not.

use std::path::{Component, Path, PathBuf};

use crate::gateway::routes::{Auth, Route};

use super::config::{Config, PlainText, StoreSettings};
use super::net::is_loopback;
use super::units::in_words;

impl Config {
    /// Things that are allowed and still look like mistakes, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.warn_of_key_encryption_keys(&mut all);
        self.warn_of_plain_text(&mut all);
        self.warn_of_unserved(&mut all);
        self.warn_of_unused(&mut all);
        all
    }

    fn warn_of_key_encryption_keys(&self, all: &mut Vec<String>) {
        let StoreSettings::File(store) = &self.keys.store;
        let store = lexical(store);
        for file in &self.keys.encryption_key_files {
            let directory = lexical(file)
                .parent()
                .map(Path::to_path_buf)
                .unwrap_or_default();
            if directory.starts_with(&store) || store.parent() == Some(&directory) {
                all.push(format!(
                    "the key-encryption key {} lies in the same directory as the store {}: whoever copies the directory has both; \
                     keep it elsewhere",
                    file.display(),
                    store.display()
                ));
            }
        }
    }

    fn warn_of_plain_text(&self, all: &mut Vec<String>) {
        for listener in &self.listeners.proxy {
            if listener.tls.is_some() || is_loopback(listener.address) {
                continue;
            }
            match &listener.plain_text {
                PlainText::Insecure => all.push(format!(
                    "proxy listener {}: `insecure: true` lets secrets and tokens cross the network in plain text",
                    listener.address
                )),
                PlainText::Unstated if listener.serves.routes => all.push(format!(
                    "proxy listener {}: access tokens cross the network in plain text; add `tls`",
                    listener.address
                )),
                PlainText::Unstated | PlainText::BehindTlsProxy(_) => {}
            }
        }
        let admin = &self.listeners.admin;
        if admin.plain_text == PlainText::Insecure
            && admin.tls.is_none()
            && !is_loopback(admin.address)
        {
            all.push(format!(
                "admin listener {}: `insecure: true` lets admin tokens cross the network in plain text",
                admin.address
            ));
        }
        let of_admin = (
            &admin.plain_text,
            format!("admin listener {}", admin.address),
        );
        let of_proxies = self.listeners.proxy.iter();
        let of_proxies = of_proxies.map(|proxy| {
            (
                &proxy.plain_text,
                format!("proxy listener {}", proxy.address),
            )
        });
        for (plain_text, listener) in of_proxies.chain([of_admin]) {
            let PlainText::BehindTlsProxy(networks) = plain_text else {
                continue;
            };
            if let Some(network) = networks.iter().find(|network| network.is_everything()) {
                all.push(format!(
                    "{listener}: `behind_tls_proxy: {network}` takes every address for the TLS proxy, so plain text from \
                     anywhere; name the proxy's own network"
                ));
            }
        }
        let plain_url = self.issuer.url.strip_prefix("http://");
        let on_this_machine = ["127.", "localhost", "[::1]"];
        if plain_url.is_some_and(|host| !on_this_machine.iter().any(|own| host.starts_with(own))) {
            all.push(format!(
                "issuer.url {} is http: clients will send their secrets in plain text (RFC 8414 demands https)",
                self.issuer.url
            ));
        }
    }

    fn warn_of_unserved(&self, all: &mut Vec<String>) {
        let proxy = &self.listeners.proxy;
        if !proxy.iter().any(|listener| listener.serves.issuer) {
            all.push(
                "no listener serves `issuer`: nobody can get a token or the public keys here"
                    .to_owned(),
            );
        }
        if !proxy.iter().any(|listener| listener.serves.routes) {
            all.push("no listener serves `routes`: nothing is proxied".to_owned());
        }
        if self.routes.is_empty() {
            all.push(
                "there are no routes: every request but the issuer's is answered 404".to_owned(),
            );
        }
        if self.clients.is_empty() {
            all.push("there are no clients: nobody can get a token".to_owned());
        }
    }

    fn warn_of_unused(&self, all: &mut Vec<String>) {
        for upstream in &self.upstreams {
            if !self
                .routes
                .iter()
                .any(|route| route.upstream == upstream.name)
            {
                all.push(format!("upstream `{}` is used by no route", upstream.name));
            }
            let listeners = self.listeners.proxy.iter().map(|listener| listener.address);
            for own in listeners.chain([self.listeners.admin.address]) {
                if upstream.endpoints.contains(&own.to_string()) {
                    all.push(format!(
                        "upstream `{}` leads to our own listener {own}",
                        upstream.name
                    ));
                }
            }
        }
        for route in &self.routes {
            self.warn_of_unreachable(route, all);
        }
        let longest = self.keys.timing.max_token_ttl;
        let normal = self.issuer.token_ttl;
        if longest > normal.saturating_mul(24) {
            all.push(format!(
                "a client has tokens of {} while others have {}: keys verify for the longest",
                in_words(longest),
                in_words(normal)
            ));
        }
    }

    fn warn_of_unreachable(&self, route: &Route, all: &mut Vec<String>) {
        let Auth::Bearer(rules) = &route.auth else {
            return;
        };
        let name = &route.name;
        if !rules
            .audiences
            .iter()
            .any(|audience| self.issuer.audience.contains(audience))
        {
            all.push(format!(
                "route `{name}`: no token has any of its audiences, see `issuer.audience`"
            ));
        }
        if self.clients.is_empty() {
            return;
        }
        let enough = |scopes: &[String]| {
            rules.scopes_all.iter().all(|scope| scopes.contains(scope))
                && (rules.scopes_any.is_empty()
                    || rules.scopes_any.iter().any(|scope| scopes.contains(scope)))
        };
        if !self.clients.iter().any(|client| enough(&client.scopes)) {
            all.push(format!(
                "route `{name}`: no client has the scopes that it demands"
            ));
        }
    }
}

/// A path without `.` and `..`, as far as that can be said without looking at the disk.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if clean.file_name().is_some() => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
}
