//! What operators are told of tokens that no token endpoint hands out: for each reason the sentence
//! says what is wrong with this token, and the verdict is the one of the request path.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod harness;

use std::time::Duration;

use harness::forge::{PrivateKey, claims_with, good_claims};
use harness::{Gateway, OPERATOR, Options, metrics};
use portcullis::token::Rejection;
use serde_json::{Value, json};

async fn explain(gateway: &Gateway, token: &str) -> Value {
    let request = gateway
        .http
        .post(format!("{}/admin/v1/tokens/explain", gateway.admin))
        .bearer_auth(OPERATOR)
        .json(&json!({ "token": token, "path": "/hello" }));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.json().await.expect("JSON")
}

async fn denied(gateway: &Gateway, reason: &str) -> f64 {
    let scrape = gateway.scrape().await;
    metrics::sum(
        &scrape,
        "portcullis_auth_denied_total",
        &[("reason", reason)],
    )
}

/// Explains the token, then sends it: one verdict, one status, one count.
async fn agrees(gateway: &Gateway, token: &str, reason: &str, words: &[&str]) {
    let before = denied(gateway, reason).await;
    let said = explain(gateway, token).await;
    assert_eq!(said["verdict"], "refused", "{said}");
    assert_eq!(said["reason"], reason, "{said}");
    assert_eq!(
        denied(gateway, reason).await,
        before,
        "explaining counts nothing"
    );
    let sentence = format!("{} {}", said["what"], said["what_to_do"]);
    for word in words {
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
    assert_ne!(said["what_to_do"], "", "{said}");
    let signature = token.rsplit('.').next().unwrap_or_default();
    assert!(
        signature.len() < 20 || !said.to_string().contains(signature),
        "{said}"
    );
    assert_eq!(
        said["answer"]["status"],
        gateway.status(token).await,
        "{said}"
    );
    assert_eq!(denied(gateway, reason).await, before + 1.0, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reason_has_its_own_words() {
    let gateway = Gateway::start(Options::default()).await;
    let key = PrivateKey::active(&gateway);
    let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
    let mint = |name: &str, value: Value| key.mint(&claims_with(&gateway, name, value));
    let kid = key.kid.as_str();

    for (name, value, reason, words) in [
        (
            "iss",
            json!("https://old.example"),
            "bad_issuer",
            &["https://old.example", "http://issuer.test"][..],
        ),
        (
            "aud",
            json!(["a", "b"]),
            "bad_audience",
            &["for a, b", "`api`"],
        ),
        (
            "exp",
            json!(now - 120),
            "expired",
            &["expired at", "s ago", "leeway of 60 s"],
        ),
        (
            "iat",
            json!(now + 90),
            "not_yet_valid",
            &["its iat is", "s after this gateway", "clocks"],
        ),
        (
            "nbf",
            json!(now + 3600),
            "not_yet_valid",
            &["its nbf is", "s after this gateway"],
        ),
        (
            "exp",
            json!(now + 90_000),
            "claim_rule",
            &["lives for 90000 s", "longer than its key"],
        ),
        ("sub", json!(""), "claim_rule", &["its sub is empty"]),
        (
            "client_id",
            json!("a\u{7}b"),
            "claim_rule",
            &["its client_id holds a character"],
        ),
        (
            "exp",
            json!(now),
            "claim_rule",
            &["not after it was issued"],
        ),
        ("jti", Value::Null, "malformed", &["jti is missing"]),
        (
            "exp",
            json!("soon"),
            "malformed",
            &["exp is missing or of the wrong type"],
        ),
        (
            "scope",
            json!("other"),
            "insufficient_scope",
            &["carries other", "one of"],
        ),
        (
            "scope",
            Value::Null,
            "insufficient_scope",
            &["carries nothing"],
        ),
    ] {
        agrees(&gateway, &mint(name, value), reason, words).await;
    }

    let good = good_claims(&gateway);
    let impostor = key.impostor();
    agrees(
        &gateway,
        &impostor.mint(&good),
        "bad_signature",
        &["active key", kid, "forged"],
    )
    .await;
    let odd = |header: Value| key.sign(&header.to_string(), &good.to_string());
    for (header, reason, words) in [
        (
            json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt", "x": 1 }),
            "malformed",
            &["header holds"][..],
        ),
        (
            json!({ "alg": "ES256", "typ": "at+jwt" }),
            "malformed",
            &["names no key"],
        ),
        (
            json!({ "alg": "HS256", "kid": kid, "typ": "at+jwt" }),
            "alg_not_allowed",
            &["HS256", "ES256 alone"],
        ),
        (
            json!({ "alg": "ES512", "kid": "x", "typ": "at+jwt" }),
            "alg_not_allowed",
            &["ES512", "ES256, EdDSA, RS256"],
        ),
        (
            json!({ "alg": "ES256", "kid": "lost", "typ": "at+jwt" }),
            "unknown_key",
            &["called lost", "nor was one lately"],
        ),
        (
            json!({ "alg": "ES256", "kid": kid, "typ": "id+jwt" }),
            "bad_type",
            &["typ is id+jwt"],
        ),
        (
            json!({ "alg": "ES256", "kid": kid }),
            "bad_type",
            &["typ is missing"],
        ),
    ] {
        agrees(&gateway, &odd(header), reason, words).await;
    }
    // A kid of any length, and any character in it, is told within bounds.
    let long = odd(json!({ "alg": "ES256", "kid": "\u{1b}".repeat(128), "typ": "at+jwt" }));
    agrees(&gateway, &long, "unknown_key", &["no key of this gateway"]).await;

    let old = gateway.token().await;
    gateway.purge().await;
    agrees(
        &gateway,
        &old,
        "key_purged",
        &[kid, "was purged at", "without the purge"],
    )
    .await;
    gateway.clock.advance(Duration::from_secs(120));
    let stolen = key.mint(&good_claims(&gateway));
    agrees(
        &gateway,
        &stolen,
        "compromised_key_in_use",
        &[kid, "holds the private half", "incident"],
    )
    .await;

    let fresh = PrivateKey::active(&gateway);
    let new = gateway.token().await;
    let said = explain(&gateway, &new).await;
    assert_eq!(
        (&said["verdict"], &said["key"]["state"]),
        (&json!("accepted"), &json!("active")),
        "{said}"
    );
    gateway.clock.advance(Duration::from_secs(700));
    gateway.rotate().await;
    let said = explain(&gateway, &new).await;
    assert_eq!(
        (&said["verdict"], &said["key"]["state"]),
        (&json!("accepted"), &json!("deprecated")),
        "{said}"
    );
    let sentence = said["what"].as_str().expect("text");
    assert!(
        sentence.contains(fresh.kid.as_str()) && sentence.contains("verifies until"),
        "{sentence}"
    );
}

/// The words know every reason, whoever adds one: the match over them is exhaustive, and none
/// of what can be asked for without a token is without advice.
#[test]
fn what_needs_no_token_has_words_too() {
    for rejection in Rejection::ALL {
        let (what, what_to_do) = portcullis::token::explain::without_token(rejection, 9000);
        assert!(!what.is_empty() && !what_to_do.is_empty(), "{rejection}");
    }
}
