//! `POST /oauth2/token`: the client_credentials grant (RFC 6749 §4.4) with RFC 9068 tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use uuid::Uuid;

use crate::clients::{Client, ClientView};
use crate::clock::{Clock, Timestamp};
use crate::http::{AnswerNote, Hold};
use crate::lifecycle::Purpose;
use crate::telemetry::{Grant as GrantLabel, TokenError};
use crate::token::issue::{Grant, mint};

use super::IssuerParts;
use super::credentials::{Credentials, Form};
use super::oauth_error::{Refusal, json};

/// Longest wait for the moment from which on a client's tokens are accepted, and for a change of the
/// client that is being committed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest `scope` parameter in bytes.
const MAX_SCOPE_BYTES: usize = 1024;

/// RFC 6749 §5.1.
#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
}

pub(super) async fn token(
    State(parts): State<Arc<IssuerParts>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match grant(&parts, &headers, &body).await {
        Ok(response) => response,
        Err(refusal) => refusal.answer(&parts),
    }
}

async fn grant(parts: &IssuerParts, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
    if !is_form(headers) {
        return Err(Refusal::new(
            TokenError::InvalidRequest,
            "the body must be application/x-www-form-urlencoded",
        ));
    }
    let form = Form::parse(body)?;
    let credentials = Credentials::of(headers, &form)?;
    loop {
        let view = parts.clients.current_view();
        let client = authenticate(parts, &credentials, &view).await?;
        let scope = granted_scope(&form, &client)?;
        if let Some(response) = issue(parts, &client, &scope, &view).await? {
            return Ok(response);
        }
        // A client was changed while the token was made: everything is asked anew.
    }
}

/// The scopes that the request may have, if its grant is one of ours.
fn granted_scope(form: &Form, client: &Client) -> Result<String, Refusal> {
    match form.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            return Err(Refusal::new(
                TokenError::UnsupportedGrantType,
                "the only grant_type is client_credentials",
            ));
        }
        None => {
            return Err(Refusal::new(
                TokenError::InvalidRequest,
                "grant_type is missing",
            ));
        }
    }
    scope(client, form.get("scope"))
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let media_type = value.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

async fn authenticate(
    parts: &IssuerParts,
    credentials: &Credentials,
    view: &Arc<ClientView>,
) -> Result<Arc<Client>, Refusal> {
    let Credentials {
        client_id,
        secret,
        by_header,
    } = credentials;
    let registry = parts.clients.registry();
    let found = if registry.is_slow(client_id, secret, view) {
        let busy = |_full_or_closed| {
            Refusal::new(
                TokenError::TemporarilyUnavailable,
                "too many logins at the same time; try again",
            )
        };
        let permit = Arc::clone(&parts.slow_checks)
            .try_acquire_owned()
            .map_err(busy)?;
        let (clients, view) = (Arc::clone(&parts.clients), Arc::clone(view));
        let (client_id, secret) = (client_id.clone(), secret.clone());
        let check = move || {
            let _permit = permit;
            clients.registry().authenticate(&client_id, &secret, &view)
        };
        // A panic in the check is a refusal: fail closed.
        tokio::task::spawn_blocking(check).await.unwrap_or_default()
    } else {
        registry.authenticate(client_id, secret, view)
    };
    found.ok_or_else(|| Refusal {
        challenge: *by_header,
        claimed_client: Some(client_id.clone()),
        ..Refusal::new(TokenError::InvalidClient, "client authentication failed")
    })
}

/// The scopes granted: those asked for, or all of the client's.
fn scope(client: &Client, asked: Option<&str>) -> Result<String, Refusal> {
    let Some(asked) = asked else {
        return Ok(client.scopes.join(" "));
    };
    let refuse = || Refusal {
        claimed_client: Some(client.id.clone()),
        ..Refusal::new(
            TokenError::InvalidScope,
            "the client may not have every scope that it asks for",
        )
    };
    if asked.len() > MAX_SCOPE_BYTES {
        return Err(refuse());
    }
    let mut granted: Vec<&str> = Vec::new();
    for scope in asked.split(' ') {
        if !client.scopes.iter().any(|own| own == scope) {
            return Err(refuse());
        }
        if !granted.contains(&scope) {
            granted.push(scope);
        }
    }
    Ok(granted.join(" "))
}

/// Signs under a held snapshot that stays held until the answer is written; when a newer one was
/// published meanwhile, the token is withheld and signed anew. `None` when the clients are no
/// longer those of `view`: whether this one may have a token is to be asked again.
async fn issue(
    parts: &IssuerParts,
    client: &Client,
    scope: &str,
    view: &Arc<ClientView>,
) -> Result<Option<Response>, Refusal> {
    if view.is_held(&client.id) {
        if parts.clients.published_after(view, PATIENCE).await {
            return Ok(None);
        }
        return Err(Refusal {
            claimed_client: Some(client.id.clone()),
            ..Refusal::new(
                TokenError::TemporarilyUnavailable,
                "the client is being changed; try again",
            )
        });
    }
    let not_before = view.revocations().not_before(&client.id);
    if let Some(not_before) = not_before {
        wait_until(&*parts.clock, not_before).await;
        // Only after a step of the clock that was taken back. A token dated so far ahead would be
        // refused until then, and outlive its key.
        if not_before > parts.clock.now().plus(PATIENCE) {
            return Err(Refusal {
                claimed_client: Some(client.id.clone()),
                ..Refusal::new(
                    TokenError::TemporarilyUnavailable,
                    "the client's tokens are invalid up to a moment that is still to come; see the gateway's clock",
                )
            });
        }
    }
    let began = Instant::now();
    loop {
        let holder = parts.published.hold(parts.worker, Purpose::Issue);
        let snapshot = holder.snapshot();
        let ttl = whole_seconds(client.token_ttl.min(snapshot.set.active.public.max_ttl));
        let grant = Grant {
            issuer: &parts.spec.url,
            client_id: &client.id,
            audience: &parts.spec.audience,
            scope,
            ttl,
            token_id: Uuid::new_v4(),
        };
        let now = not_before.map_or_else(|| parts.clock.now(), |at| at.max(parts.clock.now()));
        let token = mint(&snapshot.signer, &grant, now, &parts.rng).map_err(|error| Refusal {
            cause: Some(error.to_string()),
            ..Refusal::new(TokenError::ServerError, "the token could not be signed")
        })?;
        // Only now: a change that ends tokens dates its end after the last token that passed here.
        if !parts.clients.is_current(view) {
            return Ok(None);
        }
        if !holder.is_current() {
            continue;
        }
        parts
            .issued
            .issued(snapshot.signer.kid(), &client.id, now.plus(ttl), now);
        parts.metrics.token_issued(GrantLabel::ClientCredentials);
        let body = TokenResponse {
            access_token: &token,
            token_type: "Bearer",
            expires_in: ttl.as_secs(),
            scope,
        };
        let mut response = json(StatusCode::OK, &body);
        let extensions = response.extensions_mut();
        extensions.insert(AnswerNote {
            client_id: Some(client.id.clone()),
            kid: Some(snapshot.signer.kid().to_string()),
            work: Some((began, began.elapsed())),
            ..AnswerNote::default()
        });
        extensions.insert(Hold::new(holder.handing_out()));
        return Ok(Some(response));
    }
}

/// Tokens are dated in whole seconds, so those of the second in which others were invalidated are
/// refused with them: the next ones wait for the next second. A clock that is further behind, or
/// stands still, is not waited for any longer.
async fn wait_until(clock: &dyn Clock, moment: Timestamp) {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        let now = clock.now();
        let asleep = tokio::time::Instant::now();
        if now >= moment || asleep >= give_up {
            return;
        }
        let wake = asleep + moment.since(now).max(Duration::from_millis(1));
        tokio::time::sleep_until(wake.min(give_up)).await;
    }
}

/// JWT dates are whole seconds, so is the life time.
const fn whole_seconds(ttl: Duration) -> Duration {
    Duration::from_secs(ttl.as_secs())
}
