//! A flood of forged tokens is limited by source address, and nothing else is.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::net::IpAddr;
use std::time::Duration;

use harness::forge::{PrivateKey, claims_with, encode, good_claims};
use harness::{Gateway, Options, metrics};
use portcullis::token::Rejection;
use reqwest::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};

const DENIED: &str = "portcullis_auth_denied_total";

/// Ten at once, two more each second.
const TIGHT: &str = "limits: { forged_tokens: { burst: 10, per_second: 2 } }";

async fn gateway(limits: &str) -> Gateway {
    Gateway::start(Options {
        more: limits.to_owned(),
        ..Options::default()
    })
    .await
}

/// A client at another address of this machine.
fn from(address: &str) -> reqwest::Client {
    let address: IpAddr = address.parse().expect("an address");
    let client = reqwest::Client::builder().no_proxy().local_address(address);
    client.build().expect("a client")
}

async fn status(client: &reqwest::Client, gateway: &Gateway, token: &str) -> u16 {
    let url = format!("{}/hello", gateway.proxy);
    let response = client.get(url).bearer_auth(token).send().await;
    response.expect("an answer").status().as_u16()
}

async fn denied(gateway: &Gateway, reason: &str) -> f64 {
    metrics::sum(&gateway.scrape().await, DENIED, &[("reason", reason)])
}

async fn denied_in_all(gateway: &Gateway) -> f64 {
    let text = gateway.scrape().await;
    let mut reasons: Vec<&str> = Rejection::ALL.map(Rejection::as_str).to_vec();
    reasons.sort_unstable();
    reasons.dedup();
    let of = |reason: &&str| metrics::sum(&text, DENIED, &[("reason", reason)]);
    reasons.iter().map(of).sum()
}

fn forged(gateway: &Gateway) -> String {
    let stranger = PrivateKey::active(gateway).impostor();
    stranger.mint(&good_claims(gateway))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_tokens_is_limited_by_source_and_recovers() {
    let gateway = gateway(TIGHT).await;
    let (good, forged) = (gateway.token().await, forged(&gateway));
    let (here, there) = (from("127.0.0.1"), from("127.0.0.2"));
    for _ in 0..10 {
        assert_eq!(status(&here, &gateway, &forged).await, 401);
    }
    assert_eq!(denied(&gateway, "bad_signature").await, 10.0);

    let url = format!("{}/hello", gateway.workers[1]);
    let limited = here.get(url).bearer_auth(&forged).send().await;
    let limited = limited.expect("an answer");
    assert_eq!(limited.status(), 429, "on every worker");
    assert_eq!(limited.headers()[RETRY_AFTER], "1");
    let challenge = "Bearer realm=\"http://issuer.test\"";
    assert_eq!(limited.headers()[WWW_AUTHENTICATE], challenge);
    let body: Value = limited.json().await.expect("JSON");
    assert_eq!(body["status"], 429);
    let log_id = body["log_id"].as_str().expect("a Log ID");
    let text = gateway.log.text();
    let line = text.lines().find(|line| line.contains(log_id));
    let line: Value = serde_json::from_str(line.expect("a line")).expect("JSON");
    assert_eq!(
        (&line["reason"], &line["status"]),
        (&json!("rate_limited"), &json!(429))
    );

    // What is not remembered as checked has to wait, good or not; garbage too.
    assert_eq!(status(&here, &gateway, &good).await, 429);
    assert_eq!(status(&here, &gateway, "not.a.token").await, 429);
    assert_eq!(denied(&gateway, "rate_limited").await, 3.0);
    // What costs no signature is answered as always.
    let unknown = forged.replacen(
        forged.split('.').next().expect("a header"),
        &encode(r#"{"alg":"ES256","kid":"unknown","typ":"at+jwt"}"#),
        1,
    );
    assert_eq!(status(&here, &gateway, &unknown).await, 401);
    assert_eq!(denied(&gateway, "unknown_key").await, 1.0);
    let public = here.get(format!("{}/public", gateway.proxy)).send().await;
    assert_eq!(public.expect("an answer").status(), 200);
    let missing = here.get(format!("{}/hello", gateway.proxy)).send().await;
    assert_eq!(missing.expect("an answer").status(), 401);

    // Others notice nothing.
    assert_eq!(status(&there, &gateway, &good).await, 200);
    assert_eq!(status(&there, &gateway, &forged).await, 401);
    // And what has been checked once passes from here as well.
    assert_eq!(status(&here, &gateway, &good).await, 200);

    // One comes back after half a second; a new good token uses it and gives it back.
    gateway.clock.advance(Duration::from_millis(500));
    let good = gateway.token().await;
    assert_eq!(status(&here, &gateway, &good).await, 200);
    assert_eq!(status(&here, &gateway, &forged).await, 401);
    assert_eq!(status(&here, &gateway, &forged).await, 429);
    gateway.clock.advance(Duration::from_secs(5));
    for _ in 0..10 {
        assert_eq!(status(&here, &gateway, &forged).await, 401);
    }
    assert_eq!(status(&here, &gateway, &forged).await, 429);
    // Every refusal has exactly one reason.
    assert_eq!(denied(&gateway, "bad_signature").await, 22.0);
    assert_eq!(denied(&gateway, "rate_limited").await, 5.0);
    assert_eq!(denied_in_all(&gateway).await, 29.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_counts_and_so_does_broken_syntax() {
    let gateway = gateway(TIGHT).await;
    let here = from("127.0.0.1");
    for _ in 0..5 {
        assert_eq!(status(&here, &gateway, "garbage").await, 401);
        assert_eq!(status(&here, &gateway, "gar bage").await, 400);
    }
    assert_eq!(denied(&gateway, "malformed").await, 10.0);
    for token in ["garbage", "gar bage", &forged(&gateway)] {
        assert_eq!(status(&here, &gateway, token).await, 429, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_key_of_ours_signed_counts() {
    let gateway = gateway(TIGHT).await;
    let key = PrivateKey::active(&gateway);
    let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
    let rejected = [
        ("exp", json!(now - 60), "expired"),
        ("aud", json!("elsewhere"), "bad_audience"),
        ("iss", json!("https://else.test"), "bad_issuer"),
        // Signed, and not a token all the same.
        ("exp", json!("soon"), "malformed"),
    ];
    for (claim, value, reason) in rejected {
        let mut claims = claims_with(&gateway, claim, value);
        if reason == "expired" {
            claims["iat"] = json!(now - 120);
        }
        let token = key.mint(&claims);
        for _ in 0..12 {
            assert_eq!(gateway.status(&token).await, 401);
        }
        assert_eq!(denied(&gateway, reason).await, 12.0);
    }
    // Distinct tokens, so that none is known yet.
    let mint = |number: usize| key.mint(&claims_with(&gateway, "jti", json!(number.to_string())));
    let tokens: Vec<String> = (0..31).map(mint).collect();
    gateway.purge().await;
    for token in &tokens[..30] {
        assert_eq!(gateway.status(token).await, 401);
    }
    assert_eq!(denied(&gateway, "key_purged").await, 30.0);
    assert_eq!(denied(&gateway, "rate_limited").await, 0.0);

    // Behind an address that somebody else got limited, those known to be purged hear so.
    let forged = forged(&gateway);
    for _ in 0..10 {
        assert_eq!(gateway.status(&forged).await, 401);
    }
    assert_eq!(gateway.status(&forged).await, 429);
    assert_eq!(gateway.status(&tokens[0]).await, 401);
    assert_eq!(denied(&gateway, "key_purged").await, 31.0);
    assert_eq!(gateway.status(&tokens[30]).await, 429);
    gateway.clock.advance(Duration::from_secs(1));
    assert_eq!(gateway.status(&tokens[30]).await, 401);
    assert_eq!(denied(&gateway, "key_purged").await, 32.0);
}

/// Before the schedule retires it, and after: only a thief or a bug can have signed such a token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_outlives_its_key_is_an_error_in_the_log() {
    let gateway = gateway(TIGHT).await;
    let key = PrivateKey::active(&gateway);
    gateway.rotate().await;
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    for (times, words) in [(1, "until which its key verifies"), (2, "its retired key")] {
        assert_eq!(gateway.status(&key.mint(&good_claims(&gateway))).await, 401);
        assert_eq!(
            denied(&gateway, "lifecycle_violation").await,
            f64::from(times)
        );
        let log = gateway.log.text();
        let line = log.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{words}: {log}"));
        assert!(line.contains("\"level\":\"error\""), "{line}");
        gateway.lifecycle.tick().await.expect("the key retires");
    }
}

/// Alive or dead: somebody else has the private half.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ours_under_a_header_that_it_never_mints_is_an_error_in_the_log() {
    let gateway = gateway(TIGHT).await;
    let key = PrivateKey::active(&gateway);
    let mut header = key.header();
    header["x"] = json!("1");
    let token = key.sign(&header.to_string(), &good_claims(&gateway).to_string());
    for words in [
        "a live key signed a header that it never mints",
        "a dead key signed a header that it never minted",
    ] {
        assert_eq!(gateway.status(&token).await, 401);
        let log = gateway.log.text();
        let line = log.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{words}: {log}"));
        assert!(line.contains("\"level\":\"error\""), "{line}");
        gateway.purge().await;
    }
    assert_eq!(denied(&gateway, "malformed").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn forgeries_that_name_a_retired_key_count_while_its_signature_is_looked_at() {
    let gateway = gateway(TIGHT).await;
    let retired = PrivateKey::active(&gateway);
    gateway.rotate().await;
    gateway.clock.advance(Duration::from_secs(2 * 3600));
    let retirement = gateway.lifecycle.tick().await;
    retirement.expect("the first key retires");
    let forged = retired.impostor().mint(&good_claims(&gateway));
    for _ in 0..10 {
        assert_eq!(gateway.status(&forged).await, 401);
    }
    assert_eq!(gateway.status(&forged).await, 429);
    assert_eq!(denied(&gateway, "unknown_key").await, 10.0);
    assert_eq!(denied(&gateway, "rate_limited").await, 1.0);
    // What the key did sign counts against nobody.
    gateway.clock.advance(Duration::from_secs(5));
    let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
    for number in 0..12 {
        let mut claims = claims_with(&gateway, "jti", json!(number.to_string()));
        (claims["iat"], claims["exp"]) = (json!(now - 7200), json!(now - 3600));
        assert_eq!(gateway.status(&retired.mint(&claims)).await, 401);
    }
    assert_eq!(denied(&gateway, "unknown_key").await, 22.0);
    assert_eq!(
        gateway.status(&retired.mint(&good_claims(&gateway))).await,
        401
    );
    assert_eq!(denied(&gateway, "lifecycle_violation").await, 1.0);

    // Nothing that it signed lives any more: its signature is not looked at, be it good or not.
    gateway.clock.advance(Duration::from_secs(3600 + 120));
    let good = retired.mint(&good_claims(&gateway));
    for token in [&forged, &good] {
        for _ in 0..12 {
            assert_eq!(gateway.status(token).await, 401);
        }
    }
    assert_eq!(denied(&gateway, "unknown_key").await, 46.0);
    assert_eq!(denied(&gateway, "lifecycle_violation").await, 1.0);
    assert_eq!(denied(&gateway, "rate_limited").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_on_by_default_and_can_be_switched_off() {
    for (limits, limited) in [
        ("limits: { forged_tokens: {} }", true),
        ("limits: { forged_tokens: off }", false),
    ] {
        let gateway = gateway(limits).await;
        let forged = forged(&gateway);
        for _ in 0..100 {
            assert_eq!(gateway.status(&forged).await, 401);
        }
        let last = gateway.status(&forged).await;
        assert_eq!(last, if limited { 429 } else { 401 }, "{limits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_proxy_the_source_is_the_proxys_client() {
    for listener in [
        ", behind_tls_proxy: [127.0.0.1/32]",
        ", trusted_proxies: [127.0.0.1/32]",
    ] {
        sources_behind(listener).await;
    }
}

async fn sources_behind(listener: &'static str) {
    let gateway = Gateway::start(Options {
        more: TIGHT.to_owned(),
        listener,
        ..Options::default()
    })
    .await;
    let forged = forged(&gateway);
    let (proxy, stranger) = (from("127.0.0.1"), from("127.0.0.2"));
    let send = async |client: &reqwest::Client, forwarded_for: &str| {
        let request = client.get(format!("{}/hello", gateway.proxy));
        let request = request.bearer_auth(&forged);
        let request = request.header("X-Forwarded-For", forwarded_for);
        request.send().await.expect("an answer").status().as_u16()
    };
    for _ in 0..10 {
        assert_eq!(send(&proxy, "203.0.113.9, 192.0.2.1").await, 401);
    }
    // What the client wrote into the field itself does not help it.
    assert_eq!(send(&proxy, "203.0.113.10, 192.0.2.1").await, 429);
    assert_eq!(send(&proxy, "192.0.2.2").await, 401);
    // Nor does a port, or another way to write it.
    assert_eq!(send(&proxy, "192.0.2.1:5555").await, 429);
    assert_eq!(send(&proxy, "for=\"192.0.2.1:80\"").await, 429);
    assert_eq!(send(&proxy, "[2001:db8::1]:5").await, 401);
    // Nor is anybody believed but the proxy.
    for number in 0..10 {
        let claimed = format!("192.0.2.{}", number + 100);
        assert_eq!(send(&stranger, &claimed).await, 401);
    }
    assert_eq!(send(&stranger, "192.0.2.200").await, 429);
}
