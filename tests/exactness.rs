//! Invariant 15: the purge metric counts purge-induced failures and nothing else, and every refusal
//! has exactly one reason. A long mixed stream of requests whose fate is known beforehand.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use harness::forge::{PrivateKey, claims_with, good_claims};
use harness::{CLIENT, Gateway, Options, eventually, metrics};
use portcullis::clock::Clock as _;
use portcullis::token::Rejection;
use serde_json::json;

/// A token and what must become of it.
#[derive(Clone)]
struct Known {
    kind: &'static str,
    token: String,
    /// `None` when it is good.
    reason: Option<&'static str>,
    kid: Option<String>,
    key_state: Option<&'static str>,
}

impl Known {
    fn good(kind: &'static str, token: String, key_state: &'static str) -> Self {
        Self {
            kind,
            token,
            reason: None,
            kid: None,
            key_state: Some(key_state),
        }
    }

    fn bad(kind: &'static str, token: String, reason: &'static str) -> Self {
        Self {
            kind,
            token,
            reason: Some(reason),
            kid: None,
            key_state: None,
        }
    }

    fn purged(kind: &'static str, token: String, key: &PrivateKey) -> Self {
        Self {
            kid: Some(key.kid.to_string()),
            ..Self::bad(kind, token, "key_purged")
        }
    }
}

/// Requests in all: more than 50,000. Each token comes so often that a purged one is known for most
/// of the time, so the counters also prove the memory of purged tokens.
const ROUNDS: usize = 1700;

#[tokio::test(flavor = "multi_thread")]
async fn inv15_every_counter_equals_the_truth_over_a_long_mixed_stream() {
    let gateway = Gateway::start(Options::default()).await;
    let tokens = history(&gateway).await;
    let total = tokens.len() * ROUNDS;
    assert!(total >= 50_000, "only {total}");

    // Both workers, each with several connections, each in an order of its own.
    let mut senders = tokio::task::JoinSet::new();
    let lanes = 4;
    for lane in 0..lanes {
        let url = format!("{}/x", gateway.workers[lane % gateway.workers.len()]);
        let (http, tokens) = (gateway.http.clone(), Arc::new(tokens.clone()));
        senders.spawn(async move {
            let mut unexpected = Vec::new();
            for round in (lane..ROUNDS).step_by(lanes) {
                for step in 0..tokens.len() {
                    let known = &tokens[(step * 7 + round) % tokens.len()];
                    let answer = http
                        .get(&url)
                        .bearer_auth(&known.token)
                        .send()
                        .await
                        .expect("an answer");
                    let (status, expected) = (
                        answer.status().as_u16(),
                        if known.reason.is_none() { 200 } else { 401 },
                    );
                    if status != expected {
                        unexpected.push((known.kind, status));
                    }
                }
            }
            unexpected
        });
    }
    let unexpected: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");

    // A request is counted as ended just after its answer is out.
    let requests = |scrape: &str| {
        metrics::sum(
            scrape,
            "portcullis_http_requests_total",
            &[("route", "api")],
        )
    };
    let scrape = eventually("every request is counted", || async {
        let scrape = gateway.scrape().await;
        (requests(&scrape) >= total as f64).then_some(scrape)
    })
    .await;
    let (mut reasons, mut kids, mut states) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for known in &tokens {
        for (truth, label) in [
            (&mut reasons, known.reason.map(str::to_owned)),
            (&mut kids, known.kid.clone()),
            (&mut states, known.key_state.map(str::to_owned)),
        ] {
            label
                .into_iter()
                .for_each(|label| *truth.entry(label).or_insert(0.0) += ROUNDS as f64);
        }
    }
    let denied = "portcullis_auth_denied_total";
    for reason in Rejection::ALL.map(Rejection::as_str) {
        let counted = metrics::value(&scrape, denied, &[("route", "api"), ("reason", reason)]);
        assert_eq!(
            counted,
            reasons.get(reason).copied().unwrap_or_default(),
            "{reason}"
        );
    }
    let purge = "portcullis_purge_verification_failures_total";
    for (kid, truth) in &kids {
        assert_eq!(
            metrics::value(&scrape, purge, &[("kid", kid)]),
            *truth,
            "{kid}"
        );
    }
    let truth: f64 = kids.values().sum();
    assert_eq!(
        metrics::sum(&scrape, purge, &[]),
        truth,
        "no other kid counted anything"
    );
    assert_eq!(reasons["key_purged"], truth);
    // And each of them is told of the purge, whosever it was.
    let (_, purges) = gateway.admin_get("/admin/v1/keys/purges").await;
    let recovery = &purges["purges"][0]["recovery"];
    assert_eq!(recovery["failures"].as_f64(), Some(truth));
    assert_eq!(recovery["affected"], 2, "{CLIENT} and x");
    let affected = metrics::sum(&scrape, "portcullis_purge_affected_clients", &[]);
    assert_eq!(affected, 3.0, "{CLIENT} by two keys");
    for state in ["active", "deprecated", "pending"] {
        let counted = metrics::value(
            &scrape,
            "portcullis_auth_allowed_total",
            &[("route", "api"), ("key_state", state)],
        );
        assert_eq!(
            counted,
            states.get(state).copied().unwrap_or_default(),
            "{state}"
        );
    }
    // The reasons sum to all rejections, and with the acceptances to all requests.
    let rejections = tokens.iter().filter(|known| known.reason.is_some()).count() * ROUNDS;
    assert_eq!(metrics::sum(&scrape, denied, &[]), rejections as f64);
    assert_eq!(
        metrics::sum(
            &scrape,
            "portcullis_http_requests_total",
            &[("route", "api"), ("code", "4xx")]
        ),
        rejections as f64
    );
    assert_eq!(requests(&scrape), total as f64);
    assert_eq!(
        metrics::value(&scrape, "portcullis_compromised_key_use_total", &[]),
        reasons["compromised_key_in_use"]
    );
    assert_eq!(
        metrics::value(&scrape, "portcullis_lifecycle_violations_total", &[]),
        0.0
    );
    assert_eq!(
        metrics::value(
            &scrape,
            "portcullis_http_requests_in_flight",
            &[("route", "api")]
        ),
        0.0
    );
}

/// Retirement, a purge, a rotation: and tokens of every sort from every age.
async fn history(gateway: &Gateway) -> Vec<Known> {
    let mut tokens = Vec::new();
    let retired = PrivateKey::active(gateway);
    tokens.push(Known::bad(
        "retired and expired",
        gateway.token().await,
        "unknown_key",
    ));
    gateway.rotate().await;
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    gateway
        .lifecycle
        .tick()
        .await
        .expect("the first key retires");
    tokens.push(Known::bad(
        "forged under a retired kid",
        retired.impostor().mint(&good_claims(gateway)),
        "unknown_key",
    ));

    // Before the purge: an active and a pending key, both about to die.
    let (leaked, never_active) = (PrivateKey::active(gateway), PrivateKey::pending(gateway));
    let now = gateway.clock.now().as_seconds();
    tokens.push(Known::purged("purged", gateway.token().await, &leaked));
    tokens.push(Known::purged(
        "purged, of another client",
        leaked.mint(&claims_with(gateway, "client_id", json!("x"))),
        &leaked,
    ));
    tokens.push(Known::purged(
        "purged, signed by the pending key",
        never_active.mint(&good_claims(gateway)),
        &never_active,
    ));
    tokens.push(Known::bad(
        "purged and expired",
        leaked.mint(&claims_with(gateway, "exp", json!(now + 1))),
        "expired",
    ));
    tokens.push(Known::bad(
        "purged, wrong audience",
        leaked.mint(&claims_with(gateway, "aud", json!("b"))),
        "bad_audience",
    ));
    tokens.push(Known::bad(
        "purged, wrong issuer",
        leaked.mint(&claims_with(gateway, "iss", json!("b"))),
        "bad_issuer",
    ));
    tokens.push(Known::bad(
        "purged, too long",
        leaked.mint(&claims_with(gateway, "exp", json!(now + 3601))),
        "claim_rule",
    ));
    tokens.push(Known::bad(
        "purged, no subject",
        leaked.mint(&claims_with(gateway, "sub", json!(null))),
        "malformed",
    ));
    let tampered = tamper(&leaked.mint(&good_claims(gateway)));
    tokens.push(Known::bad(
        "purged and tampered with",
        tampered,
        "bad_signature",
    ));
    tokens.push(Known::bad(
        "forged under a purged kid",
        leaked.impostor().mint(&good_claims(gateway)),
        "bad_signature",
    ));
    gateway.purge().await;

    // A minute later a thief signs with the leaked key.
    gateway.clock.advance(Duration::from_secs(90));
    let stolen = leaked.mint(&good_claims(gateway));
    tokens.push(Known::bad(
        "signed after the purge",
        stolen,
        "compromised_key_in_use",
    ));
    let backdated = claims_with(gateway, "iat", json!(now));
    tokens.push(Known::purged(
        "signed after the purge, dated back",
        leaked.mint(&backdated),
        &leaked,
    ));

    // A client that is disabled: its tokens of live and of purged keys fail for that alone.
    let (status, body) = gateway
        .admin_post(
            "/admin/v1/clients",
            json!({ "id": "gone", "scopes": ["read"] }),
        )
        .await;
    assert!(status < 300, "{body}");
    let disable = "/admin/v1/clients/gone/disable";
    let (status, body) = gateway.admin_post(disable, json!({})).await;
    assert_eq!(status, 200, "{body}");
    let live = PrivateKey::active(gateway);
    for (kind, key) in [("revoked", &live), ("revoked and purged", &leaked)] {
        let mut claims = claims_with(gateway, "client_id", json!("gone"));
        claims["iat"] = json!(now);
        tokens.push(Known::bad(kind, key.mint(&claims), "client_revoked"));
    }

    // Good ones, and bad ones of live keys.
    let (signs, next) = (PrivateKey::active(gateway), PrivateKey::pending(gateway));
    tokens.push(Known::good(
        "deprecated",
        gateway.token().await,
        "deprecated",
    ));
    gateway.clock.advance(Duration::from_secs(600));
    gateway.rotate().await;
    tokens.push(Known::good("active", gateway.token().await, "active"));
    tokens.push(Known::good(
        "another active",
        gateway.token().await,
        "active",
    ));
    let upcoming = PrivateKey::pending(gateway);
    tokens.push(Known::good(
        "pending, from a replica ahead",
        upcoming.mint(&good_claims(gateway)),
        "pending",
    ));
    let now = gateway.clock.now().as_seconds();
    let of = |name: &str, value: serde_json::Value| next.mint(&claims_with(gateway, name, value));
    tokens.push(Known::bad(
        "tampered with",
        tamper(&gateway.token().await),
        "bad_signature",
    ));
    tokens.push(Known::bad(
        "forged under a live kid",
        signs.impostor().mint(&good_claims(gateway)),
        "bad_signature",
    ));
    tokens.push(Known::bad("expired", of("exp", json!(now - 61)), "expired"));
    tokens.push(Known::good(
        "expired within the leeway",
        leeway(&next, gateway, now),
        "active",
    ));
    tokens.push(Known::bad(
        "not yet valid",
        of("nbf", json!(now + 120)),
        "not_yet_valid",
    ));
    tokens.push(Known::bad(
        "issued in the future",
        of("iat", json!(now + 120)),
        "not_yet_valid",
    ));
    tokens.push(Known::bad(
        "wrong audience",
        of("aud", json!(["b", "c"])),
        "bad_audience",
    ));
    tokens.push(Known::bad(
        "wrong issuer",
        of("iss", json!("http://issuer.test/")),
        "bad_issuer",
    ));
    tokens.push(Known::bad(
        "malformed claims",
        of("exp", json!("soon")),
        "malformed",
    ));
    tokens.push(Known::bad("not a token", "abc".to_owned(), "malformed"));
    let mut nameless = next.header();
    nameless["kid"] = json!("nobody");
    tokens.push(Known::bad(
        "unknown kid",
        next.sign(&nameless.to_string(), &good_claims(gateway).to_string()),
        "unknown_key",
    ));
    let mut none = next.header();
    none["alg"] = json!("none");
    tokens.push(Known::bad(
        "alg none",
        next.sign(&none.to_string(), &good_claims(gateway).to_string()),
        "alg_not_allowed",
    ));
    let mut plain = next.header();
    plain["typ"] = json!("JWT");
    tokens.push(Known::bad(
        "an ID token",
        next.sign(&plain.to_string(), &good_claims(gateway).to_string()),
        "bad_type",
    ));
    tokens
}

fn leeway(key: &PrivateKey, gateway: &Gateway, now: i64) -> String {
    let mut claims = claims_with(gateway, "exp", json!(now - 59));
    claims["iat"] = json!(now - 600);
    key.mint(&claims)
}

/// The same token with another payload.
fn tamper(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims = harness::claims(token);
    claims["scope"] = json!("read write admin");
    format!(
        "{}.{}.{}",
        parts[0],
        harness::forge::encode(claims.to_string()),
        parts[2]
    )
}
