//! Who explains requests: the running gateway's explainer, and the same without a gateway, from the
//! configuration and what is committed.

use std::sync::Arc;

use crate::clients::{ClientsDocument, Revocations};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::gateway::GatewayParts;
use crate::gateway::explain::{Explainer, Table, explain};
use crate::health;
use crate::keys::KeySet;
use crate::token::VerificationKeys;
use crate::token::explain::{Explain, Explanation, Ground, Question};
use crate::token::jose::{KeyError, install_crypto};

/// The explainer that the admin listener asks.
pub(super) fn explainer(config: &Config, gateway: Arc<GatewayParts>) -> Arc<dyn Explain> {
    Arc::new(Explainer::new(
        gateway,
        serves_routes(config),
        own_paths(config),
        host(config).to_owned(),
    ))
}

/// What would happen to a request at a gateway that runs with `config` and these documents.
///
/// # Errors
/// [`KeyError`] when a key of the set is none.
pub fn explain_offline(
    config: &Config,
    set: &KeySet,
    clients: &ClientsDocument,
    now: Timestamp,
    question: Question<'_>,
) -> Result<Explanation, KeyError> {
    install_crypto();
    let timing = &config.keys.timing;
    let slack = timing.sign_drain + timing.clock_offset_max;
    let keys = VerificationKeys::new(set, timing.leeway, slack)?;
    let serves = serves_routes(config);
    let own_paths = own_paths(config);
    let table = Table {
        routes: config.routes.iter().filter(|_| serves).collect(),
        own_paths: &own_paths,
        host: host(config),
        limits: &config.limits,
    };
    let ground = Ground {
        set,
        keys: &keys,
        clients: &Revocations::of(clients),
        now,
    };
    Ok(explain(question, &table, ground))
}

fn serves_routes(config: &Config) -> bool {
    let mut listeners = config.listeners.proxy.iter();
    listeners.any(|listener| listener.serves.routes)
}

/// Paths that the gateway answers itself on one of its proxy listeners.
fn own_paths(config: &Config) -> Vec<String> {
    let listeners = &config.listeners.proxy;
    let issuer = listeners.iter().any(|listener| listener.serves.issuer);
    let health = listeners.iter().any(|listener| listener.serves.health);
    let issuer = issuer.then(|| super::issuer_spec(config).paths().all());
    let health = health.then(|| health::HEALTH_PATHS.map(str::to_owned).to_vec());
    issuer.into_iter().chain(health).flatten().collect()
}

/// The authority of the issuer's URL: what a client sends as `Host` that was told that URL.
fn host(config: &Config) -> &str {
    let url = &config.issuer.url;
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}
