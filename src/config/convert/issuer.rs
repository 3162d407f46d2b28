//! `issuer` and `clients`.

use std::collections::HashSet;
use std::time::Duration;

use crate::clients::{SecretHash, SecretHashError};
use crate::config::config::{ClientSecretSource, Issuer, StaticClient};
use crate::config::error::Broken;
use crate::config::path::KeyPath;
use crate::config::raw::{RawClient, RawIssuer};
use crate::config::{names, units, urls};
use crate::keys::Algorithm;
use crate::keys::timing::{MAX_TOKEN_TTL, Timing};

use super::Cx;

/// Most clients that a file may define.
const MAX_CLIENTS: usize = 1024;

pub(super) fn issuer(cx: &mut Cx<'_>, raw: Option<RawIssuer>) -> Option<Issuer> {
    let at = KeyPath::root().key("issuer");
    let Some(raw) = raw else {
        cx.missing(
            &at,
            "write `issuer: { url: http://127.0.0.1:8080, audience: [api] }`",
        );
        return None;
    };
    let url = cx.required(
        &at.key("url"),
        raw.url.as_ref(),
        "write the URL that clients reach this gateway by, such as `url: https://auth.example.com`",
        urls::issuer_url,
    );
    let audience_at = at.key("audience");
    let audience = cx.list(&audience_at, raw.audience.as_ref(), 16, names::audience);
    match &raw.audience {
        None => cx.missing(
            &audience_at,
            "write what the tokens are for, such as `audience: [api]`",
        ),
        Some(items) if items.is_empty() => cx.refuse(
            &audience_at,
            None,
            "a token needs an audience (RFC 9068 §2.2)",
            "write at least one, such as `audience: [api]`",
        ),
        Some(_) => {}
    }
    let token_ttl = cx.maybe(&at.key("token_ttl"), raw.token_ttl.as_ref(), token_ttl);
    let algorithm = cx.maybe(
        &at.key("algorithm"),
        raw.algorithm.as_ref(),
        names::algorithm,
    );
    Some(Issuer {
        url: url?,
        audience,
        token_ttl: token_ttl.unwrap_or_else(|| Timing::default().max_token_ttl),
        algorithm: algorithm.unwrap_or(Algorithm::Es256),
    })
}

pub(super) fn clients(
    cx: &mut Cx<'_>,
    raw: Option<Vec<RawClient>>,
    default_ttl: Duration,
) -> Vec<StaticClient> {
    let at = KeyPath::root().key("clients");
    let raw = raw.unwrap_or_default();
    cx.bound(&at, raw.len(), MAX_CLIENTS);
    let mut ids = HashSet::new();
    let mut clients = Vec::new();
    for (index, raw) in raw.into_iter().enumerate().take(MAX_CLIENTS) {
        let at = at.index(index);
        let Some(client) = client(cx, &raw, &at, default_ttl) else {
            continue;
        };
        if !ids.insert(client.id.clone()) {
            cx.refuse(
                &at.key("id"),
                raw.id.as_ref(),
                "a client id stands only once",
                "give one of the two clients another id",
            );
        }
        clients.push(client);
    }
    clients
}

fn client(
    cx: &mut Cx<'_>,
    raw: &RawClient,
    at: &KeyPath,
    default_ttl: Duration,
) -> Option<StaticClient> {
    let id = cx.required(
        &at.key("id"),
        raw.id.as_ref(),
        "write the `client_id`, such as `id: demo`",
        names::client_id,
    );
    let secret = secret(cx, raw, at);
    let scopes = cx.list(&at.key("scopes"), raw.scopes.as_ref(), 64, names::scope);
    let token_ttl = cx.maybe(&at.key("token_ttl"), raw.token_ttl.as_ref(), token_ttl);
    Some(StaticClient {
        id: id?,
        secret: secret?,
        scopes,
        token_ttl: token_ttl.unwrap_or(default_ttl),
    })
}

fn secret(cx: &mut Cx<'_>, raw: &RawClient, at: &KeyPath) -> Option<ClientSecretSource> {
    match (&raw.secret_hash_file, &raw.secret_hash) {
        (None, None) => {
            cx.missing(
                &at.key("secret_hash_file"),
                "write `secret_hash_file: secrets/<id>.hash`; `portcullis init` makes the file, `portcullis clients hash-secret` its content",
            );
            None
        }
        (Some(_), Some(_)) => {
            cx.refuse(
                &at.key("secret_hash"),
                None,
                "a client has exactly one of `secret_hash_file` and `secret_hash`",
                "remove one of the two",
            );
            None
        }
        (Some(_), None) => cx
            .maybe(
                &at.key("secret_hash_file"),
                raw.secret_hash_file.as_ref(),
                names::file,
            )
            .map(ClientSecretSource::HashFile),
        (None, Some(_)) => cx
            .secret(
                &at.key("secret_hash"),
                raw.secret_hash.as_ref(),
                secret_hash,
            )
            .map(ClientSecretSource::Hash),
    }
}

/// Stays text, because what recognises a client is built from it later; a secret that somebody
/// wrote in place of its hash is found here.
fn secret_hash(text: &str) -> Result<String, Broken> {
    match text.parse::<SecretHash>() {
        Ok(_) => Ok(text.to_owned()),
        Err(SecretHashError) => Err(Broken::new(
            "a secret hash is `sha256:SALT:DIGEST` or an argon2id PHC string",
            "write what `portcullis clients hash-secret` prints, never the secret itself",
        )),
    }
}

/// Token times are whole seconds, because the claims that carry them are (RFC 7519 §2).
fn token_ttl(text: &str) -> Result<Duration, Broken> {
    let value = units::duration_within(text, Duration::from_secs(1), MAX_TOKEN_TTL)?;
    if value.subsec_millis() == 0 {
        return Ok(value);
    }
    Err(Broken::new(
        "token_ttl is whole seconds (the `exp` claim is)",
        "write a duration without `ms`",
    ))
}
