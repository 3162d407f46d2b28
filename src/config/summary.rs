//! What a configuration would run, for people: the answer of `portcullis check`.

use std::fmt::{self, Write as _};

use crate::gateway::routes::{Auth, PathRule, Route};
use crate::keys::timing::IsolationGrace;
use crate::telemetry::AccessFormat;

use super::config::{
    AdminTokenSource, ClientSecretSource, Config, LogFormat, PlainText, ProxyListener,
    ServerSettings, Serves, StoreSettings, TlsFiles,
};
use super::error::{escaped, printable};
use super::table::{row, table, words_or};
use super::units::{in_words, size_in_words};

impl Config {
    /// Listeners, issuer, timings, routes, upstreams, clients (no secrets) and warnings as text.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_summary(&mut out);
        out
    }

    fn write_summary(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "{}", printable(&self.source.display().to_string()))?;
        self.write_listeners(out)?;
        self.write_issuer_and_keys(out)?;
        self.write_clients(out)?;
        self.write_routes(out)?;
        self.write_upstreams(out)?;
        self.write_settings(out)?;
        for warning in self.warnings() {
            writeln!(out, "\nwarning: {}", escaped(warning.chars()))?;
        }
        Ok(())
    }

    fn write_listeners(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nlisteners")?;
        let mut rows: Vec<Vec<String>> = self.listeners.proxy.iter().map(proxy_row).collect();
        let admin = &self.listeners.admin;
        let names: Vec<String> = admin
            .tokens
            .iter()
            .map(|token| {
                let (AdminTokenSource::File(file) | AdminTokenSource::HashFile(file)) =
                    &token.source;
                format!("{} ({}, {})", token.name, token.role, file.display())
            })
            .collect();
        rows.push(vec![
            "admin".to_owned(),
            admin.address.to_string(),
            transport(admin.tls.as_ref(), &admin.plain_text),
            format!("tokens: {}", names.join(", ")),
        ]);
        rows.push(match &self.listeners.metrics {
            Some(metrics) => vec![
                "metrics".to_owned(),
                metrics.address.to_string(),
                transport(metrics.tls.as_ref(), &PlainText::Unstated),
                "/metrics /livez /readyz".to_owned(),
            ],
            None => vec!["metrics".to_owned(), "none".to_owned()],
        });
        table(out, &rows)
    }

    fn write_issuer_and_keys(&self, out: &mut String) -> fmt::Result {
        let (issuer, timing) = (&self.issuer, &self.keys.timing);
        let StoreSettings::File(store) = &self.keys.store;
        let kek: Vec<String> = self
            .keys
            .encryption_key_files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        writeln!(out, "\nissuer")?;
        table(
            out,
            &[
                row("url", issuer.url.clone()),
                row("audience", issuer.audience.join(", ")),
                row(
                    "tokens",
                    format!(
                        "{}, live for {}",
                        issuer.algorithm,
                        in_words(issuer.token_ttl)
                    ),
                ),
            ],
        )?;
        writeln!(out, "\nkeys")?;
        let grace = match timing.isolation_grace {
            IsolationGrace::Strict => "strict".to_owned(),
            IsolationGrace::For(duration) => in_words(duration),
            IsolationGrace::Offline => "offline".to_owned(),
        };
        table(
            out,
            &[
                row("store", format!("file {}", store.display())),
                row("key-encryption key", kek.join(", ")),
                row("rotation_interval", in_words(timing.rotation_interval)),
                row("idempotency_window", in_words(timing.idempotency_window)),
                row("prepublish", in_words(timing.prepublish)),
                row("jwks_max_age", in_words(timing.jwks_max_age)),
                row("leeway", in_words(timing.leeway)),
                row("clock_offset_max", in_words(timing.clock_offset_max)),
                row("sign_drain", in_words(timing.sign_drain)),
                row("isolation_grace", grace),
                row("replica_lease", in_words(timing.replica_lease)),
                row("heartbeat", in_words(timing.heartbeat)),
                row("barrier_timeout", in_words(timing.barrier_timeout)),
                row(
                    "a key verifies on for",
                    format!(
                        "{} after a rotation",
                        in_words(timing.verify_span(timing.max_token_ttl))
                    ),
                ),
            ],
        )
    }

    fn write_clients(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nclients")?;
        let rows: Vec<Vec<String>> = self
            .clients
            .iter()
            .map(|client| {
                let secret = match &client.secret {
                    ClientSecretSource::HashFile(file) => {
                        format!("secret hash in {}", file.display())
                    }
                    ClientSecretSource::Hash(_) => "secret hash in the configuration".to_owned(),
                };
                vec![
                    client.id.clone(),
                    format!("scopes: {}", words_or(&client.scopes, "none")),
                    format!("tokens live for {}", in_words(client.token_ttl)),
                    secret,
                ]
            })
            .collect();
        table(out, &rows)
    }

    fn write_routes(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nroutes (the first match wins, nothing matched: 404)")?;
        let rows: Vec<Vec<String>> = self.routes.iter().map(route_row).collect();
        table(out, &rows)
    }

    fn write_upstreams(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nupstreams")?;
        let rows: Vec<Vec<String>> = self
            .upstreams
            .iter()
            .map(|upstream| {
                let transport = match &upstream.tls {
                    Some(tls) => format!("TLS as {}", tls.server_name),
                    None => "plain text".to_owned(),
                };
                vec![
                    upstream.name.clone(),
                    upstream.endpoints.join(", "),
                    transport,
                    format!(
                        "connect {}, read {}, write {}",
                        in_words(upstream.connect_timeout),
                        in_words(upstream.read_timeout),
                        in_words(upstream.write_timeout)
                    ),
                    upstream.health_check.map_or_else(
                        || "not checked".to_owned(),
                        |check| format!("checked every {}", in_words(check.interval)),
                    ),
                ]
            })
            .collect();
        table(out, &rows)
    }

    fn write_settings(&self, out: &mut String) -> fmt::Result {
        let limits = &self.limits;
        writeln!(out, "\nlimits")?;
        let underscores = if limits.allow_underscore_names {
            "allowed"
        } else {
            "refused"
        };
        table(
            out,
            &[
                row(
                    "header",
                    format!(
                        "{} in {} fields within {}, names with `_` {underscores}",
                        size_in_words(limits.max_header_bytes as u64),
                        limits.max_header_fields,
                        in_words(limits.header_timeout)
                    ),
                ),
                row("body", size_in_words(limits.max_body_bytes)),
                row("idle connection", in_words(limits.keepalive_timeout)),
                row(
                    "connections per address",
                    limits.max_connections_per_address.to_string(),
                ),
                row(
                    "forged tokens per address",
                    limits.forged_tokens.map_or_else(
                        || "not limited".to_owned(),
                        |forged| {
                            format!("{} at once, {} per second", forged.burst, forged.per_second)
                        },
                    ),
                ),
            ],
        )?;
        let format = match self.log.format {
            LogFormat::Auto => "auto",
            LogFormat::Json => "json",
            LogFormat::Human => "human",
        };
        writeln!(out, "\nserver")?;
        table(
            out,
            &[
                row("workers", workers_in_words(&self.server)),
                row("shutdown_grace", in_words(self.server.shutdown_grace)),
                row(
                    "token cache",
                    format!(
                        "{} tokens, {} bytes of each key",
                        self.server.token_cache.entries, self.server.token_cache.bytes
                    ),
                ),
                row("log format", format.to_owned()),
                row("log lines kept in memory", self.log.ring_lines.to_string()),
                row("access log", access_log_in_words(self)),
                row("traces", traces_in_words(self)),
            ],
        )
    }
}

fn access_log_in_words(config: &Config) -> String {
    config.access_log.as_ref().map_or_else(
        || "off".to_owned(),
        |log| {
            let format = match log.format {
                AccessFormat::Json => "json",
                AccessFormat::Common => "common",
            };
            let share = log.sample_successes.as_f64();
            format!("{format} to {}, successes × {share}", log.target)
        },
    )
}

fn traces_in_words(config: &Config) -> String {
    config.tracing.as_ref().map_or_else(
        || "off".to_owned(),
        |traces| {
            let share = traces.sample_ratio.as_f64();
            format!("× {share} to {}", traces.endpoint)
        },
    )
}

fn workers_in_words(server: &ServerSettings) -> String {
    let note = if server.sharding {
        ""
    } else {
        ", sharing one socket a listener"
    };
    format!("{}{note}", server.workers)
}

fn proxy_row(listener: &ProxyListener) -> Vec<String> {
    let Serves {
        routes,
        issuer,
        health,
    } = listener.serves;
    let serves: Vec<&str> = [(routes, "routes"), (issuer, "issuer"), (health, "health")]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect();
    let h2 = if listener.h2 { ", HTTP/2" } else { "" };
    vec![
        "proxy".to_owned(),
        listener.address.to_string(),
        transport(listener.tls.as_ref(), &listener.plain_text) + h2 + &trusted(listener),
        format!("serves {}", serves.join(", ")),
    ]
}

/// Beside those in front of plain text, which stand there already.
fn trusted(listener: &ProxyListener) -> String {
    let is_said = matches!(listener.plain_text, PlainText::BehindTlsProxy(_));
    if is_said || listener.trusted_proxies.is_empty() {
        return String::new();
    }
    let networks: Vec<String> = listener
        .trusted_proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    format!(", trusting proxies in {}", networks.join(", "))
}

fn transport(tls: Option<&TlsFiles>, plain_text: &PlainText) -> String {
    match (tls, plain_text) {
        (Some(tls), _) if tls.client_ca_file.is_some() => "TLS with client certificates".to_owned(),
        (Some(_), _) => "TLS".to_owned(),
        (None, PlainText::BehindTlsProxy(networks)) => {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            format!("plain text behind TLS proxies in {}", networks.join(", "))
        }
        (None, PlainText::Insecure) => "plain text (insecure)".to_owned(),
        (None, PlainText::Unstated) => "plain text".to_owned(),
    }
}

fn route_row(route: &Route) -> Vec<String> {
    let matcher = &route.matcher;
    let path = match &matcher.path {
        PathRule::Exact(path) => path.clone(),
        PathRule::Prefix(prefix) if prefix == "/" => "/…".to_owned(),
        PathRule::Prefix(prefix) => format!("{prefix}[/…]"),
    };
    let methods: Vec<String> = matcher.methods.iter().map(ToString::to_string).collect();
    let auth = match &route.auth {
        Auth::None => "PUBLIC".to_owned(),
        Auth::Bearer(rules) => {
            let mut text = format!("token for {}", rules.audiences.join(" or "));
            if !rules.scopes_any.is_empty() {
                text.push_str(&format!(", scope {}", rules.scopes_any.join(" or ")));
            }
            if !rules.scopes_all.is_empty() {
                text.push_str(&format!(", scopes {}", rules.scopes_all.join(" and ")));
            }
            text
        }
    };
    let forwards = if route.forward_token {
        ", forwards the token"
    } else {
        ""
    };
    vec![
        route.name.clone(),
        words_or(&methods, "every method"),
        format!("{}{path}", matcher.host.as_deref().unwrap_or("*")),
        auth,
        format!("→ {}{forwards}", route.upstream),
    ]
}
