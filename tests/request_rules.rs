//! The rules of the request path, one refusal after the other, through real sockets: what a client
//! library would not send is sent byte by byte.
//!
//! Each refusal is looked at from all sides: status, challenge, body, exactly one count under
//! exactly one reason, exactly one log line with the Log ID of the answer.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::path::Path;
use std::time::Duration;

use harness::forge::{PrivateKey, claims_with, encode, good_claims};
use harness::h2::{Ended, H2Client};
use harness::raw::{Answer, RawClient, exchange};
use harness::{Gateway, Options, metrics};
use portcullis::keys::{Algorithm, PublicJwk};
use portcullis::token::Rejection;
use serde_json::{Value, json};

const REALM: &str = "Bearer realm=\"http://issuer.test\"";
const NOT_VALID: &str =
    ", error=\"invalid_token\", error_description=\"the access token is not valid\"";
const BROKEN: &str = ", error=\"invalid_request\", error_description=\"the Authorization header is repeated, too large or not Bearer syntax\"";
const DENIED: &str = "portcullis_auth_denied_total";

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n")
}

fn with_token(token: &str) -> String {
    get("/hello", &format!("Authorization: Bearer {token}\r\n"))
}

/// What the metrics said before a request.
struct Counters(String);

impl Counters {
    async fn of(gateway: &Gateway) -> Self {
        Self(gateway.scrape().await)
    }

    /// Every reason that was counted since, on any route.
    async fn grown(&self, gateway: &Gateway) -> Vec<(String, f64)> {
        let now = gateway.scrape().await;
        let mut reasons: Vec<&str> = Rejection::ALL.map(Rejection::as_str).to_vec();
        reasons.sort_unstable();
        reasons.dedup();
        let growth = |reason: &str| {
            let labels = [("reason", reason)];
            metrics::sum(&now, DENIED, &labels) - metrics::sum(&self.0, DENIED, &labels)
        };
        reasons
            .into_iter()
            .map(|reason| (reason.to_owned(), growth(reason)))
            .filter(|(_, grown)| *grown != 0.0)
            .collect()
    }
}

/// The one log line of an answer.
fn the_line(gateway: &Gateway, log_id: &str) -> Value {
    let text = gateway.log.text();
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(log_id)).collect();
    assert_eq!(lines.len(), 1, "{log_id} in {lines:?}");
    serde_json::from_str(lines[0]).expect("JSON")
}

fn log_id(answer: &Answer) -> String {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:?}"
    );
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "{answer:?}"
    );
    let body = answer.json();
    assert_eq!(body["status"], answer.status);
    assert_eq!(answer.header("x-log-id"), body["log_id"].as_str());
    body["log_id"].as_str().expect("a Log ID").to_owned()
}

/// Sends `request`, whose token must be refused for `reason`.
async fn denied(gateway: &Gateway, request: impl AsRef<[u8]>, reason: &str) -> Answer {
    // Beyond two hundred refusals a second the lines are shared.
    gateway.clock.advance(Duration::from_millis(50));
    let before = Counters::of(gateway).await;
    let shown = String::from_utf8_lossy(request.as_ref())
        .chars()
        .take(300)
        .collect::<String>();
    let answer = exchange(&gateway.proxy, request)
        .await
        .unwrap_or_else(|| panic!("no answer to {shown}"));
    assert_eq!(
        before.grown(gateway).await,
        [(reason.to_owned(), 1.0)],
        "{shown}\n{answer:?}"
    );
    let (status, challenge) = match reason {
        "missing" => (401, REALM.to_owned()),
        "duplicate_header" | "too_large" => (400, format!("{REALM}{BROKEN}")),
        "malformed" if answer.status == 400 => (400, format!("{REALM}{BROKEN}")),
        _ => (401, format!("{REALM}{NOT_VALID}")),
    };
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (status, Some(&*challenge)),
        "{shown}"
    );
    let line = the_line(gateway, &log_id(&answer));
    assert_eq!(
        (&line["event"], &line["reason"], &line["status"]),
        (&json!("request_denied"), &json!(reason), &json!(status))
    );
    assert_eq!(
        (&line["route"], &line["path"]),
        (&json!("api"), &json!("/hello"))
    );
    answer
}

/// Sends `request`, which must be refused with `status` before anybody looks at its token.
async fn refused(gateway: &Gateway, request: impl AsRef<[u8]>, status: u16) -> Answer {
    gateway.clock.advance(Duration::from_millis(50));
    let before = Counters::of(gateway).await;
    let shown = String::from_utf8_lossy(request.as_ref())
        .chars()
        .take(300)
        .collect::<String>();
    let answer = exchange(&gateway.proxy, request)
        .await
        .unwrap_or_else(|| panic!("no answer to {shown}"));
    assert_eq!(answer.status, status, "{shown}\n{answer:?}");
    assert_eq!(before.grown(gateway).await, [], "{shown}");
    assert_eq!(answer.header("www-authenticate"), None);
    let line = the_line(gateway, &log_id(&answer));
    assert_eq!(
        (&line["event"], &line["status"]),
        (&json!("request_failed"), &json!(status)),
        "{line}"
    );
    answer
}

/// Sends `request`, which must reach the upstream; what the upstream saw.
async fn passes(gateway: &Gateway, request: impl AsRef<[u8]>) -> Value {
    let shown = String::from_utf8_lossy(request.as_ref())
        .chars()
        .take(300)
        .collect::<String>();
    let answer = exchange(&gateway.proxy, request)
        .await
        .unwrap_or_else(|| panic!("no answer to {shown}"));
    assert_eq!(answer.status, 200, "{shown}\n{answer:?}");
    answer.json()
}

fn seen<'a>(echo: &'a Value, name: &str) -> Vec<&'a str> {
    let fields = echo["headers"].as_array().expect("fields");
    let of_name = fields.iter().filter(|field| {
        field[0]
            .as_str()
            .is_some_and(|field| field.replace('_', "-") == name)
    });
    of_name
        .map(|field| field[1].as_str().expect("text"))
        .collect()
}

async fn gateway() -> Gateway {
    Gateway::start(Options::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_one_well_formed_authorization_header_is_taken() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        passes(
            &gateway,
            get("/hello", &format!("Authorization: {scheme} {token}\r\n")),
        )
        .await;
    }
    passes(
        &gateway,
        get("/hello", &format!("aUTHORIZATION:Bearer {token}  \r\n")),
    )
    .await;
    let long = "a".repeat(8 * 1024 + 1);
    let t = &token;
    for (fields, reason) in [
        (String::new(), "missing"),
        ("Authorization:\r\n".to_owned(), "missing"),
        (format!("Authorization: Basic {t}\r\n"), "missing"),
        (format!("Authorization: {t}\r\n"), "missing"),
        (format!("Authorization: Bearer{t}\r\n"), "missing"),
        (format!("Proxy-Authorization: Bearer {t}\r\n"), "missing"),
        (format!("X-Authorization: Bearer {t}\r\n"), "missing"),
        (
            format!("Cookie: access_token={t}; token={t}\r\n"),
            "missing",
        ),
        (
            format!("Authorization: Bearer {t}\r\nAuthorization: Bearer {t}\r\n"),
            "duplicate_header",
        ),
        (
            format!("Authorization: Bearer {t}\r\nX-A: b\r\nauthorization: Basic x\r\n"),
            "duplicate_header",
        ),
        (
            format!("Authorization:\r\nAuthorization: Bearer {t}\r\n"),
            "duplicate_header",
        ),
        ("Authorization: Bearer\r\n".to_owned(), "malformed"),
        (format!("Authorization: Bearer {t} {t}\r\n"), "malformed"),
        (
            format!("Authorization: Bearer {t}, Bearer {t}\r\n"),
            "malformed",
        ),
        (format!("Authorization: Bearer \"{t}\"\r\n"), "malformed"),
        (format!("Authorization: Bearer {t}%20\r\n"), "malformed"),
        (format!("Authorization: Bearer {t}\u{e9}\r\n"), "malformed"),
        (format!("Authorization: Bearer {long}\r\n"), "too_large"),
    ] {
        let answer = denied(&gateway, get("/hello", &fields), reason).await;
        assert_eq!(answer.status == 401, reason == "missing", "{fields}");
    }
    // A token anywhere else is as good as none.
    denied(
        &gateway,
        get(&format!("/hello?access_token={t}&token={t}"), ""),
        "missing",
    )
    .await;
    let body = format!("access_token={t}");
    let post = format!(
        "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    denied(&gateway, post, "missing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_header_that_a_live_key_mints_opens_the_door() {
    let gateway = gateway().await;
    let key = PrivateKey::active(&gateway);
    let good = key.mint(&good_claims(&gateway));
    passes(&gateway, with_token(&good)).await;
    assert_eq!(
        key.sign(
            &format!(r#"{{"alg":"ES256","kid":"{}","typ":"at+jwt"}}"#, key.kid),
            &good_claims(&gateway).to_string()
        )
        .split('.')
        .next(),
        good.split('.').next()
    );

    // Signed with the real key, so that nothing but the header is wrong.
    let payload = good_claims(&gateway).to_string();
    let altered = |name: &str, value: Value| {
        let mut header = key.header();
        if value.is_null() {
            header.as_object_mut().expect("an object").remove(name);
        } else {
            header[name] = value;
        }
        key.sign(&header.to_string(), &payload)
    };
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" });
    for (name, value, reason) in [
        ("alg", json!("none"), "alg_not_allowed"),
        ("alg", json!("None"), "alg_not_allowed"),
        ("alg", json!("HS256"), "alg_not_allowed"),
        ("alg", json!("HS384"), "alg_not_allowed"),
        ("alg", json!("RS256"), "alg_not_allowed"),
        ("alg", json!("EdDSA"), "alg_not_allowed"),
        ("alg", json!("ES384"), "alg_not_allowed"),
        ("alg", json!("es256"), "alg_not_allowed"),
        ("alg", json!(["ES256"]), "malformed"),
        ("alg", Value::Null, "malformed"),
        ("kid", json!("unknown"), "unknown_key"),
        ("kid", json!("../../../etc/passwd"), "unknown_key"),
        ("kid", json!("' OR 1=1 --"), "unknown_key"),
        ("kid", json!(""), "unknown_key"),
        ("kid", json!(key.kid.as_str().to_uppercase()), "unknown_key"),
        ("kid", json!(format!("{}\0", key.kid)), "unknown_key"),
        ("kid", json!("k".repeat(128)), "unknown_key"),
        ("kid", json!("k".repeat(129)), "malformed"),
        ("kid", json!("k".repeat(4000)), "malformed"),
        ("kid", json!(7), "malformed"),
        ("kid", Value::Null, "malformed"),
        ("typ", json!("JWT"), "bad_type"),
        ("typ", json!("at+jwt "), "bad_type"),
        ("typ", json!("application/jwt"), "bad_type"),
        ("typ", json!(["at+jwt"]), "bad_type"),
        ("typ", Value::Null, "bad_type"),
        // The right type, spelt as we never do: harmless, but never minted.
        ("typ", json!("AT+JWT"), "malformed"),
        ("typ", json!("application/at+jwt"), "malformed"),
        ("crit", json!(["exp"]), "malformed"),
        ("crit", json!([]), "malformed"),
        ("b64", json!(false), "malformed"),
        ("jwk", jwk, "malformed"),
        ("jku", json!("http://127.0.0.1:1/jwks"), "malformed"),
        ("x5u", json!("http://127.0.0.1:1/cert"), "malformed"),
        ("x5c", json!(["AA"]), "malformed"),
        ("x5t", json!("AA"), "malformed"),
        ("x5t#S256", json!("AA"), "malformed"),
        ("enc", json!("A128GCM"), "malformed"),
        ("zip", json!("DEF"), "malformed"),
        ("cty", json!("JWT"), "malformed"),
        ("anything", json!(1), "malformed"),
    ] {
        denied(&gateway, with_token(&altered(name, value.clone())), reason).await;
    }
    let kid = &key.kid;
    for header in [
        format!(r#"{{"alg":"none","alg":"ES256","kid":"{kid}","typ":"at+jwt"}}"#),
        format!(r#"{{"alg":"ES256","kid":"{kid}","kid":"{kid}","typ":"at+jwt"}}"#),
        format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}"}}"#),
        format!(r#" {{"alg":"ES256","kid":"{kid}","typ":"at+jwt"}}"#),
        format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"at+jwt"}} "#),
        format!(r#"{{"\u0061lg":"ES256","kid":"{kid}","typ":"at+jwt"}}"#),
        r#"["ES256"]"#.to_owned(),
        "{".to_owned(),
        "null".to_owned(),
        "\u{feff}{}".to_owned(),
        format!("{}1{}", "[".repeat(2000), "]".repeat(2000)),
    ] {
        denied(
            &gateway,
            with_token(&key.sign(&header, &payload)),
            "malformed",
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_key_is_no_shared_secret() {
    for algorithm in Algorithm::ALL {
        let gateway = Gateway::start(Options {
            algorithm,
            ..Options::default()
        })
        .await;
        let key = PrivateKey::active(&gateway);
        let public = gateway.lifecycle.current_set().active.public.jwk;
        let decode = |text: &str| {
            use base64::Engine as _;
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(text)
                .expect("base64url")
        };
        let raw = match &public {
            PublicJwk::Ec { x, y, .. } => [vec![4], decode(x), decode(y)].concat(),
            PublicJwk::Okp { x, .. } => decode(x),
            PublicJwk::Rsa { n, .. } => decode(n),
        };
        let jwk_json = serde_json::to_vec(&public).expect("JSON");
        for secret in [&raw[..], &jwk_json, gateway.jwks().await.as_ref(), b""] {
            for alg in ["HS256", algorithm.as_str()] {
                let mut header = key.header();
                header["alg"] = json!(alg);
                // With our own algorithm the header is the minted one, so only the signature is wrong.
                let header = if alg == "HS256" {
                    header.to_string()
                } else {
                    minted(&key)
                };
                let message = format!(
                    "{}.{}",
                    encode(header),
                    encode(good_claims(&gateway).to_string())
                );
                let tag = ring::hmac::sign(
                    &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret),
                    message.as_bytes(),
                );
                let reason = if alg == "HS256" {
                    "alg_not_allowed"
                } else {
                    "bad_signature"
                };
                denied(
                    &gateway,
                    with_token(&format!("{message}.{}", encode(tag))),
                    reason,
                )
                .await;
            }
        }
        denied(
            &gateway,
            with_token(&key.impostor().mint(&good_claims(&gateway))),
            "bad_signature",
        )
        .await;
    }
}

fn minted(key: &PrivateKey) -> String {
    format!(
        r#"{{"alg":"{}","kid":"{}","typ":"at+jwt"}}"#,
        key.alg, key.kid
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_exactly_three_strict_parts() {
    let gateway = gateway().await;
    let key = PrivateKey::active(&gateway);
    let good = key.mint(&good_claims(&gateway));
    let parts: Vec<&str> = good.split('.').collect();
    let (h, p, s) = (parts[0], parts[1], parts[2]);
    let der = encode(key.der_signature(format!("{h}.{p}").as_bytes()));
    let last = s.chars().last().expect("a character");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("base64url");
    let stray = alphabet.chars().nth(at ^ 1).expect("base64url");
    let mut huge = vec![0xff; 64];
    let n_minus_1 = encode(&huge);
    huge[..32].fill(0);
    for (token, reason) in [
        (h.to_owned(), "malformed"),
        (format!("{h}.{p}"), "malformed"),
        (format!("{h}.{p}."), "bad_signature"),
        (format!("{h}..{s}"), "malformed"),
        (format!(".{p}.{s}"), "malformed"),
        ("..".to_owned(), "malformed"),
        (format!("{h}.{p}.{s}.{s}"), "malformed"),
        (format!("{h}.{p}.{s}.{s}.{s}"), "malformed"),
        (format!("{h}.{p}.{s}."), "malformed"),
        (".".repeat(8000), "malformed"),
        (format!("{h}.{p}.{s}="), "malformed"),
        (format!("{h}.{p}.{s}=="), "malformed"),
        (format!("{h}=.{p}.{s}"), "malformed_request"),
        (
            format!("{h}.{p}.{}", s.replace(['-', '_'], "+")),
            if s.contains(['-', '_']) {
                "malformed"
            } else {
                "accepted"
            },
        ),
        (format!("{h}.{p}.{}{stray}", &s[..s.len() - 1]), "malformed"),
        (format!("{h}.{p}.{der}"), "bad_signature"),
        (format!("{h}.{p}.{}", encode([0; 64])), "bad_signature"),
        (format!("{h}.{p}.{n_minus_1}"), "bad_signature"),
        (format!("{h}.{p}.{}", encode(&huge)), "bad_signature"),
        (format!("{h}.{p}.{}", encode([0; 63])), "bad_signature"),
        (format!("{h}.{p}.{}", encode([0; 65])), "bad_signature"),
        (format!("{h}.{p}.{}", encode([0; 4000])), "bad_signature"),
        (
            format!(
                "{h}.{}.{s}",
                encode(claims_with(&gateway, "sub", json!("root")).to_string())
            ),
            "bad_signature",
        ),
        (
            format!("{}.{p}.{s}", encode(r#"{"alg":"none"}"#)),
            "alg_not_allowed",
        ),
        (
            format!("{}.{p}.", encode(r#"{"alg":"none","typ":"at+jwt"}"#)),
            "alg_not_allowed",
        ),
    ] {
        match reason {
            "accepted" => {}
            // `=` inside of a token is not even Bearer syntax.
            "malformed_request" => assert_eq!(
                denied(&gateway, with_token(&token), "malformed")
                    .await
                    .status,
                400
            ),
            _ => assert_eq!(
                denied(&gateway, with_token(&token), reason).await.status,
                401,
                "{token}"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_the_wrong_type_is_an_error_and_never_absent() {
    let gateway = gateway().await;
    let key = PrivateKey::active(&gateway);
    let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
    let ctl = "a\u{1}b";
    for (name, value, reason) in [
        ("exp", Value::Null, "malformed"),
        ("exp", json!("2147483647"), "malformed"),
        ("exp", json!((now + 500) as f64 + 0.5), "malformed"),
        ("exp", json!(-1), "malformed"),
        ("exp", json!(u64::MAX), "malformed"),
        ("exp", json!([now + 500]), "malformed"),
        ("exp", json!(true), "malformed"),
        ("exp", json!(now - 61), "expired"),
        ("exp", json!(0), "expired"),
        ("exp", json!(now + 3601), "claim_rule"),
        ("exp", json!(253_402_300_799_u64), "claim_rule"),
        ("iat", Value::Null, "malformed"),
        ("iat", json!("0"), "malformed"),
        ("iat", json!(now + 120), "not_yet_valid"),
        ("iat", json!(0), "claim_rule"),
        ("nbf", json!("0"), "malformed"),
        ("nbf", json!(1.5), "malformed"),
        ("nbf", json!(now + 120), "not_yet_valid"),
        ("iss", Value::Null, "malformed"),
        ("iss", json!(["http://issuer.test"]), "malformed"),
        ("iss", json!("http://evil.test"), "bad_issuer"),
        ("iss", json!("http://issuer.test/"), "bad_issuer"),
        ("iss", json!("HTTP://ISSUER.TEST"), "bad_issuer"),
        ("iss", json!(""), "bad_issuer"),
        ("aud", Value::Null, "malformed"),
        ("aud", json!(7), "malformed"),
        ("aud", json!(["api", 7]), "malformed"),
        ("aud", json!({ "api": true }), "malformed"),
        ("aud", json!("other"), "bad_audience"),
        ("aud", json!([]), "bad_audience"),
        ("aud", json!("api "), "bad_audience"),
        ("aud", json!("API"), "bad_audience"),
        ("sub", Value::Null, "malformed"),
        ("sub", json!(7), "malformed"),
        ("sub", json!("x".repeat(1025)), "malformed"),
        ("sub", json!("root\r\nX-Admin: 1"), "claim_rule"),
        ("sub", json!(ctl), "claim_rule"),
        ("sub", json!("\u{202e}"), "claim_rule"),
        ("sub", json!("é"), "claim_rule"),
        ("client_id", Value::Null, "malformed"),
        ("client_id", json!(["demo"]), "malformed"),
        ("jti", Value::Null, "malformed"),
        ("scope", json!(["read"]), "malformed"),
        ("scope", json!({}), "malformed"),
    ] {
        let now = portcullis::clock::Clock::now(&*gateway.clock).as_seconds();
        let mut claims = claims_with(&gateway, name, value.clone());
        if name != "iat" && name != "exp" {
            claims["iat"] = json!(now);
        }
        if name == "exp" && reason != "malformed" {
            claims["iat"] = json!(now - 1000);
            if reason == "claim_rule" && value == json!(now + 3601) {
                claims["iat"] = json!(now);
            }
        }
        denied(&gateway, with_token(&key.mint(&claims)), reason).await;
    }
    let good = good_claims(&gateway).to_string();
    for payload in [
        good.replacen('{', r#"{"sub":"root","#, 1),
        format!("{good} {good}"),
        format!("[{good}]"),
        good.replace("demo", "demo\\ud800"),
        "null".to_owned(),
        "{".to_owned(),
        format!("{{\"a\":{}1{}}}", "[".repeat(2000), "]".repeat(2000)),
    ] {
        denied(
            &gateway,
            with_token(&key.sign(&minted(&key), &payload)),
            "malformed",
        )
        .await;
    }
    for claims in [
        claims_with(&gateway, "aud", json!(["other", "api"])),
        claims_with(&gateway, "nbf", json!(now)),
        claims_with(&gateway, "extra", json!({ "anything": [1, 2.5, null] })),
    ] {
        passes(&gateway, with_token(&key.mint(&claims))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_403_that_names_it() {
    let gateway = gateway().await;
    let key = PrivateKey::active(&gateway);
    let before = Counters::of(&gateway).await;
    for (path, scope, wanted) in [
        ("/write/x", json!("read"), "write"),
        ("/write/x", json!(""), "write"),
        ("/write/x", json!("writer WRITE"), "write"),
        ("/hello", Value::Null, "read write"),
        ("/hello", json!("rea reads"), "read write"),
    ] {
        let token = key.mint(&claims_with(&gateway, "scope", scope));
        let answer = exchange(
            &gateway.proxy,
            get(path, &format!("Authorization: Bearer {token}\r\n")),
        )
        .await;
        let answer = answer.expect("an answer");
        let expected = format!(
            "{REALM}, error=\"insufficient_scope\", error_description=\"the access token lacks a required scope\", scope=\"{wanted}\""
        );
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (403, Some(&*expected))
        );
        assert_eq!(
            the_line(&gateway, &log_id(&answer))["reason"],
            "insufficient_scope"
        );
    }
    assert_eq!(
        before.grown(&gateway).await,
        [("insufficient_scope".to_owned(), 5.0)]
    );
    passes(
        &gateway,
        get(
            "/write/x",
            &format!("Authorization: Bearer {}\r\n", gateway.token().await),
        ),
    )
    .await;
    // The route decides about the audience, on every request.
    let other = key.mint(&claims_with(&gateway, "aud", json!("other")));
    passes(
        &gateway,
        get("/other", &format!("Authorization: Bearer {other}\r\n")),
    )
    .await;
    denied(&gateway, with_token(&other), "bad_audience").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_two_readers_could_understand_differently_is_400() {
    let gateway = gateway().await;
    let authorization = format!("Authorization: Bearer {}\r\n", gateway.token().await);
    for path in [
        "/public/../hello",
        "/public/..",
        "/./hello",
        "/hello/.",
        "//public",
        "/hello//x",
        "/%2e%2e/hello",
        "/public%2f..%2fhello",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/a%0ab",
        "/a%25%32%66b",
        "/a%3bb",
        "/a%3fb",
        "/a%23b",
        "/public;x=1",
        "/a%",
        "/a%4",
        "/a%zz",
        "/public#/hello",
        "/hello#",
        "hello",
        "*",
        "/\u{e9}",
        "/<x>",
        "/a|b",
    ] {
        for fields in [authorization.as_str(), ""] {
            gateway.clock.advance(Duration::from_millis(50));
            let before = Counters::of(&gateway).await;
            let answer = exchange(&gateway.proxy, get(path, fields))
                .await
                .unwrap_or_else(|| panic!("no answer to {path}"));
            assert_eq!(answer.status, 400, "{path}: {answer:?}");
            assert_eq!(before.grown(&gateway).await, [], "{path}");
            assert!(answer.body.contains("log_id"), "{path}: {answer:?}");
            the_line(&gateway, &log_id(&answer));
        }
    }
    for (path, forwarded) in [
        ("/hello", "/hello"),
        ("/%68ello", "/hello"),
        ("/%7euser/%c3%a9", "/~user/%C3%A9"),
        ("/a.b/..c/@x:y,z=1", "/a.b/..c/@x:y,z=1"),
        ("/hello/", "/hello/"),
    ] {
        let echo = passes(
            &gateway,
            get(&format!("{path}?a=%2e%2e/&b"), &authorization),
        )
        .await;
        assert_eq!(
            (&echo["path"], &echo["query"]),
            (&json!(forwarded), &json!("a=%2e%2e/&b")),
            "{path}"
        );
    }
    // Decided on the decoded path: the encoded spelling of a public path is that path.
    passes(&gateway, get("/%70ublic", "")).await;
    denied_on(&gateway, get("/publicx", ""), "missing").await;
    denied_on(&gateway, get("/public/", ""), "missing").await;
    denied_on(&gateway, get("/hello?/public", ""), "missing").await;
}

async fn denied_on(gateway: &Gateway, request: String, reason: &str) {
    let before = Counters::of(gateway).await;
    let answer = exchange(&gateway.proxy, request).await.expect("an answer");
    assert_eq!(answer.status, 401);
    assert_eq!(before.grown(gateway).await, [(reason.to_owned(), 1.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_host_is_missing_or_odd_is_400() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    let request = |hosts: &str| {
        format!("GET /hello HTTP/1.1\r\n{hosts}Authorization: Bearer {token}\r\n\r\n")
    };
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nhost: b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:b\r\n",
        "Host: a:99999\r\n",
        "Host: a:80:80\r\n",
        "Host: a,b\r\n",
        "Host: [::1\r\n",
        "Host: a?b\r\n",
        "Host: a#b\r\n",
        "Host: \u{e9}\r\n",
    ] {
        refused(&gateway, request(hosts), 400).await;
    }
    for hosts in [
        "Host: a\r\n",
        "Host: A.test:8080\r\n",
        "Host: 127.0.0.1\r\n",
        "Host: [::1]:80\r\n",
    ] {
        passes(&gateway, request(hosts)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_and_connect_are_405() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    for request in [
        format!("TRACE /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"),
        "TRACE /public HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(),
    ] {
        let answer = refused(&gateway, &request, 405).await;
        assert!(
            answer
                .header("allow")
                .is_some_and(|allow| !allow.contains("TRACE")),
            "{answer:?}"
        );
        assert!(!answer.body.contains(&token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_smells_of_smuggling_is_refused_and_the_connection_ends() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    let head = format!("POST /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n");
    let smuggled = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, status) in [
        (
            format!("GET /hello HTTP/1.1\nHost: a\nAuthorization: Bearer {token}\n\n"),
            400,
        ),
        (
            format!("GET /hello HTTP/1.1\r\nHost: a\nAuthorization: Bearer {token}\r\n\r\n"),
            400,
        ),
        (
            "GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\nX-C: d\r\n\r\n".to_owned(),
            400,
        ),
        (
            "GET /hello HTTP/1.1\r\nHost: a\r\nX-A: b\rX-C: d\r\n\r\n".to_owned(),
            400,
        ),
        (
            format!("{head}X_Auth_Subject: root\r\nContent-Length: 0\r\n\r\n"),
            400,
        ),
        (
            format!("{head}Content_Length: 5\r\nContent-Length: 0\r\n\r\n"),
            400,
        ),
        (
            format!("{head}Transfer_Encoding: chunked\r\nContent-Length: 0\r\n\r\n"),
            400,
        ),
        (format!("{head}Content-Length: +5\r\n\r\nhello"), 400),
        (format!("{head}Content-Length: 5, 5\r\n\r\nhello"), 400),
        (
            format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
            400,
        ),
        (format!("{head}Content-Length: -1\r\n\r\n"), 400),
        (format!("{head}Content-Length: 0x5\r\n\r\nhello"), 400),
        (format!("{head}Content-Length:\r\n\r\n"), 400),
        (format!("{head}Content-Length: 10485761\r\n\r\n"), 413),
        (
            format!("{head}Content-Length: 9223372036854775808\r\n\r\n"),
            413,
        ),
        (
            format!("{head}Content-Length: 18446744073709551616\r\n\r\n"),
            413,
        ),
    ] {
        let before = Counters::of(&gateway).await;
        gateway.clock.advance(Duration::from_millis(50));
        let mut client = RawClient::connect(&gateway.proxy).await;
        client.send(format!("{request}{smuggled}")).await;
        let answer = client
            .answer(false)
            .await
            .unwrap_or_else(|| panic!("no answer to {request}"));
        assert_eq!(answer.status, status, "{request}: {answer:?}");
        the_line(&gateway, &log_id(&answer));
        assert!(
            client.closes().await,
            "the connection goes on after {request}"
        );
        assert_eq!(before.grown(&gateway).await, []);
    }
    for request in [
        format!("{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: gzip\r\n\r\nhello"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        "GET /public HTTP/1.1\r\nHost: a\r\nX A: b\r\n\r\n".to_owned(),
        "GET /public HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n".to_owned(),
        "GET /public HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n".to_owned(),
        "GET /public HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n".to_owned(),
        "GET /public HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n".to_owned(),
        "GET /public HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(),
        "GET  /public HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /pub lic HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /public\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}hello".to_owned(),
    ] {
        let mut client = RawClient::connect(&gateway.proxy).await;
        client.send(format!("{request}{smuggled}")).await;
        let answer = client
            .answer(false)
            .await
            .unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
        the_line(&gateway, &log_id(&answer));
        assert!(client.closes().await, "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_headers_are_431_and_large_bodies_413() {
    let more = "limits: { max_body_bytes: 100KiB }".to_owned();
    let gateway = Gateway::start(Options {
        more,
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let authorization = format!("Authorization: Bearer {token}\r\n");
    for fields in [
        format!("X-A: {}\r\n", "x".repeat(33 * 1024)),
        format!("X-A: {}\r\n", "x".repeat(200 * 1024)),
        "X-A: b\r\n".repeat(101),
    ] {
        refused(
            &gateway,
            get("/hello", &format!("{authorization}{fields}")),
            431,
        )
        .await;
    }
    refused(
        &gateway,
        get(&format!("/{}", "x".repeat(40_000)), &authorization),
        431,
    )
    .await;
    passes(
        &gateway,
        get(
            "/hello",
            &format!("{authorization}X-A: {}\r\n", "x".repeat(20_000)),
        ),
    )
    .await;

    let post = format!("POST /hello HTTP/1.1\r\nHost: a\r\n{authorization}");
    let chunks = |chunks: usize| {
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        format!(
            "{post}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(chunks)
        )
    };
    let echo = passes(&gateway, chunks(100)).await;
    assert_eq!(echo["body"].as_str().map(str::len), Some(100 * 1024));
    refused(&gateway, chunks(101), 413).await;
    refused(
        &gateway,
        format!(
            "{post}Content-Length: 102401\r\n\r\n{}",
            "x".repeat(102_401)
        ),
        413,
    )
    .await;
    passes(
        &gateway,
        format!(
            "{post}Content-Length: 102400\r\n\r\n{}",
            "x".repeat(102_400)
        ),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_comes_from_the_token_alone() {
    let routes = format!("{}{}", harness::in_process::ROUTES, "");
    let routes = routes.replace(
        "  - { name: public",
        "  - name: open\n    match: { prefix: /open }\n    auth: none\n    upstream: echo\n  - { name: public",
    );
    for underscores in [false, true] {
        let more = format!("limits: {{ allow_underscore_names: {underscores} }}");
        let gateway = Gateway::start(Options {
            more,
            routes: routes.clone(),
            ..Options::default()
        })
        .await;
        let authorization = format!("Authorization: Bearer {}\r\n", gateway.token().await);
        for name in [
            "X-Auth-Subject",
            "x-auth-subject",
            "X-AUTH-SUBJECT",
            "X_Auth_Subject",
            "x_auth-subject",
            "X-Auth-Client-Id",
            "X-Auth_Client-Id",
            "X-Auth-Scopes",
            "X_AUTH_SCOPES",
        ] {
            let spoof = format!("{name}: root\r\n{name}: admin\r\n");
            for (path, fields) in [
                ("/hello", format!("{authorization}{spoof}")),
                ("/open/x", spoof.clone()),
            ] {
                if name.contains('_') && !underscores {
                    refused(&gateway, get(path, &fields), 400).await;
                    continue;
                }
                let echo = passes(&gateway, get(path, &fields)).await;
                let ours: [(&str, Vec<&str>); 3] = if path == "/hello" {
                    [
                        ("x-auth-subject", vec!["demo"]),
                        ("x-auth-client-id", vec!["demo"]),
                        ("x-auth-scopes", vec!["read write"]),
                    ]
                } else {
                    [
                        ("x-auth-subject", vec![]),
                        ("x-auth-client-id", vec![]),
                        ("x-auth-scopes", vec![]),
                    ]
                };
                for (name, values) in ours {
                    assert_eq!(seen(&echo, name), values, "{name} after {spoof} on {path}");
                }
            }
        }
        // A hop-by-hop rule of the client's cannot make our fields vanish.
        for connection in [
            "X-Auth-Subject",
            "close, x-auth-subject, X-Auth-Scopes",
            "keep-alive, X-AUTH-CLIENT-ID",
        ] {
            let fields =
                format!("{authorization}X-Auth-Subject: root\r\nConnection: {connection}\r\n");
            let echo = passes(&gateway, get("/hello", &fields)).await;
            assert_eq!(seen(&echo, "x-auth-subject"), ["demo"], "{connection}");
            assert_eq!(seen(&echo, "x-auth-client-id"), ["demo"], "{connection}");
            assert_eq!(seen(&echo, "x-auth-scopes"), ["read write"], "{connection}");
        }
        // What the client says of itself and of others is replaced.
        let fields = format!(
            "{authorization}X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"
        );
        let echo = passes(&gateway, get("/hello", &fields)).await;
        assert_eq!(seen(&echo, "x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen(&echo, "x-forwarded-proto"), ["http"]);
        assert_eq!(
            (seen(&echo, "forwarded"), seen(&echo, "x-real-ip")),
            (vec![], vec![])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_keeps_what_it_says_of_a_request_but_not_who_sent_it() {
    for (listener, trusted) in [
        (", trusted_proxies: [127.0.0.1/32]", true),
        (", behind_tls_proxy: [127.0.0.1/32]", true),
        (", trusted_proxies: [127.0.0.2/32]", false),
    ] {
        let gateway = Gateway::start(Options {
            listener,
            h2: true,
            ..Options::default()
        })
        .await;
        let authorization = format!("Authorization: Bearer {}\r\n", gateway.token().await);
        let identities = "X-Forwarded-User: root\r\nX-Forwarded-Email: a@b\r\nX-Forwarded-Groups: g\r\n\
                          X-Forwarded-Preferred-Username: root\r\nX-Forwarded-Access-Token: x\r\n";
        let chain = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.1:5555, 10.0.0.1\r\n";
        for (proto, kept) in [
            ("X-Forwarded-Proto: https\r\n", "https"),
            ("X-Forwarded-Proto: ftp\r\n", "http"),
            (
                "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
                "http",
            ),
            ("", "http"),
        ] {
            let fields =
                format!("{authorization}{identities}{chain}{proto}X-Forwarded-Host: shop.test\r\n");
            let echo = passes(&gateway, get("/hello", &fields)).await;
            let (hops, proto, host) = if trusted {
                let hops = "192.0.2.9, 192.0.2.1:5555, 10.0.0.1, 127.0.0.1";
                (hops, kept, vec!["shop.test"])
            } else {
                ("127.0.0.1", "http", vec![])
            };
            assert_eq!(seen(&echo, "x-forwarded-for"), [hops], "{listener}");
            assert_eq!(seen(&echo, "x-forwarded-proto"), [proto], "{listener}");
            assert_eq!(seen(&echo, "x-forwarded-host"), host, "{listener}");
            for name in [
                "user",
                "email",
                "groups",
                "preferred-username",
                "access-token",
            ] {
                let name = format!("x-forwarded-{name}");
                assert_eq!(seen(&echo, &name), Vec::<&str>::new(), "{listener} {name}");
            }
        }
        // The same on a listener with TLS.
        let fields = [
            authorization.trim_end(),
            "X-Forwarded-For: 192.0.2.9",
            "X-Forwarded-Proto: http",
            "X-Forwarded-User: root",
        ];
        let answer = over_http2(&gateway, &fields.map(str::to_owned)).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let echo = serde_json::from_str(body).expect("JSON");
        let (hops, proto) = if trusted {
            ("192.0.2.9, 127.0.0.1", "http")
        } else {
            ("127.0.0.1", "https")
        };
        assert_eq!(seen(&echo, "x-forwarded-for"), [hops], "{listener}");
        assert_eq!(seen(&echo, "x-forwarded-proto"), [proto], "{listener}");
        assert_eq!(seen(&echo, "x-forwarded-user"), Vec::<&str>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_reaches_the_upstream_only_where_a_route_says_so() {
    let routes = r"
routes:
  - { name: trusted, match: { prefix: /trusted }, auth: {}, forward_token: true, upstream: echo }
  - { name: open, match: { prefix: /open }, auth: none, upstream: echo }
  - { name: openly, match: { prefix: /pass }, auth: none, forward_token: true, upstream: echo }
  - { name: api, match: { prefix: / }, auth: {}, upstream: echo }
"
    .to_owned();
    let gateway = Gateway::start(Options {
        routes,
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    let bearer = format!("Bearer {token}");
    for (path, forwarded) in [
        ("/trusted", vec![&*bearer]),
        ("/open", vec![]),
        ("/pass", vec![&*bearer]),
        ("/hello", vec![]),
    ] {
        let fields =
            format!("Authorization: Bearer {token}\r\nProxy-Authorization: Bearer {token}\r\n");
        let echo = passes(&gateway, get(path, &fields)).await;
        assert_eq!(seen(&echo, "authorization"), forwarded, "{path}");
        assert_eq!(seen(&echo, "proxy-authorization"), Vec::<&str>::new());
        let elsewhere = echo.to_string().matches(token.as_str()).count();
        assert_eq!(elsewhere, forwarded.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_404_and_methods_and_hosts_decide_too() {
    let routes = r"
routes:
  - { name: hosted, match: { host: a.test, prefix: /x, methods: [GET] }, auth: none, upstream: echo }
"
    .to_owned();
    let gateway = Gateway::start(Options {
        routes,
        ..Options::default()
    })
    .await;
    let request = |method: &str, host: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    for host in ["a.test", "A.TEST", "a.test:8080"] {
        passes(&gateway, request("GET", host, "/x/y")).await;
    }
    for (method, host, path) in [
        ("GET", "a.test", "/"),
        ("GET", "a.test", "/xy"),
        ("GET", "b.test", "/x"),
        ("GET", "x.a.test", "/x"),
        ("POST", "a.test", "/x"),
        ("HEAD", "b.test", "/x"),
        ("GET", "a.test", "/oauth2/token/"),
        ("GET", "a.test", "/admin/v1/keys"),
        ("GET", "a.test", "/metrics"),
    ] {
        let request = request(method, host, path);
        if method == "HEAD" {
            let answer = exchange(&gateway.proxy, request).await.expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (404, ""));
            assert!(
                answer
                    .header("content-length")
                    .is_some_and(|length| length != "0"),
                "as GET would say"
            );
        } else {
            refused(&gateway, request, 404).await;
        }
    }
    // An absolute target names the host; it has to agree with the field.
    passes(
        &gateway,
        "GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
    )
    .await;
    refused(
        &gateway,
        "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n",
        400,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_the_connection_when_the_request_was_read_whole() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    for _ in 0..3 {
        client.send(get("/hello", "")).await;
        assert_eq!(client.answer(false).await.expect("an answer").status, 401);
        client.send(with_token(&token)).await;
        assert_eq!(client.answer(false).await.expect("an answer").status, 200);
        client.send(get("/nowhere//", "")).await;
        let answer = client.answer(false).await.expect("an answer");
        assert_eq!(answer.status, 400);
        assert!(client.closes().await, "a broken request ends it");
        client = RawClient::connect(&gateway.proxy).await;
    }
    // HEAD: the header of the answer alone, and the connection goes on.
    client.send("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.answer(true).await.expect("an answer");
    assert_eq!(
        (head.status, head.header("www-authenticate")),
        (401, Some(REALM))
    );
    client.send(with_token(&token)).await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 200);
    // A body that was not read is never taken for the next request.
    let smuggled = with_token(&token);
    client
        .send(format!(
            "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ))
        .await;
    assert_eq!(client.answer(false).await.expect("an answer").status, 401);
    assert!(client.closes().await);
}

/// An answer on HTTP/2 to a request with these fields, as curl shows it: header, then body.
async fn over_http2(gateway: &Gateway, fields: &[String]) -> String {
    upload_over_http2(gateway, fields, None).await
}

/// The same with a file as the body.
async fn upload_over_http2(gateway: &Gateway, fields: &[String], file: Option<&Path>) -> String {
    let (address, ca) = gateway.h2.clone().expect("a worker on HTTP/2");
    let mut curl = std::process::Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--http2",
        "--include",
        "--max-time",
        "20",
    ])
    .args(["--noproxy", "*", "--request", "POST", "--cacert"])
    .arg(ca)
    .args([
        "--resolve",
        &format!("localhost:{}:127.0.0.1", address.port()),
    ])
    .args(fields.iter().flat_map(|field| ["--header", field]))
    .args(
        file.iter()
            .flat_map(|file| ["--data-binary".to_owned(), format!("@{}", file.display())]),
    )
    .arg(format!("https://localhost:{}/hello", address.port()));
    let output = tokio::task::spawn_blocking(move || curl.output().expect("curl")).await;
    let output = output.expect("curl");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn inv21_an_error_answer_without_a_body_shows_its_log_id_too() {
    let gateway = gateway().await;
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n";
    for (listener, method, path, fields, status) in [
        (&gateway.proxy, "HEAD", "/hello", "", 401),
        (&gateway.proxy, "HEAD", "/hello", "Host: b\r\n", 400),
        (&gateway.proxy, "HEAD", "/oauth2/token", "", 405),
        (&gateway.proxy, "POST", "/oauth2/token", form, 401),
        (&gateway.admin, "HEAD", "/admin/v1/keys", "", 401),
        (&gateway.admin, "GET", "/admin/v1/keys", "", 401),
        (&gateway.metrics, "HEAD", "/nowhere", "", 404),
        (
            &gateway.metrics,
            "POST",
            "/metrics",
            "Content-Length: 0\r\n",
            405,
        ),
    ] {
        let host = listener.trim_start_matches("http://");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        let mut client = RawClient::connect(listener).await;
        client.send(request).await;
        let answer = client.answer(method == "HEAD" && fields.is_empty()).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}");
        let shown = answer.header("x-log-id").expect("a Log ID");
        the_line(&gateway, shown);
        if !answer.body.is_empty() {
            assert_eq!(answer.json()["log_id"], shown, "{method} {path}");
        }
    }
    let nowhere = exchange(&gateway.metrics, get("/nowhere", "")).await;
    assert_eq!(nowhere.expect("an answer").json()["code"], "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_clients_are_refused_in_their_own_terms() {
    let gateway = Gateway::start(Options {
        h2: true,
        ..Options::default()
    })
    .await;
    let key = PrivateKey::active(&gateway);
    let narrow = key.mint(&claims_with(&gateway, "scope", json!("other")));
    for (fields, grpc_status, reason) in [
        (vec![], "16", "missing"),
        (
            vec!["Authorization: Bearer x".to_owned()],
            "16",
            "malformed",
        ),
        (
            vec!["Authorization: Bearer x y".to_owned()],
            "3",
            "malformed",
        ),
        (
            vec![format!("Authorization: Bearer {}", "x".repeat(9000))],
            "3",
            "too_large",
        ),
        (
            vec![format!("Authorization: Bearer {narrow}")],
            "7",
            "insufficient_scope",
        ),
    ] {
        for content_type in ["application/grpc", "Application/GRPC+proto"] {
            let before = Counters::of(&gateway).await;
            let fields = [
                vec![format!("Content-Type: {content_type}")],
                fields.clone(),
            ]
            .concat();
            let answer = over_http2(&gateway, &fields).await;
            let field = |name: &str| {
                let found = answer.lines().find_map(|line| line.strip_prefix(name));
                found
                    .unwrap_or_else(|| panic!("no {name} in {answer}"))
                    .trim()
                    .to_owned()
            };
            assert!(answer.starts_with("HTTP/2 200"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
            assert_eq!(field("content-type:"), "application/grpc");
            assert_eq!(field("grpc-status:"), grpc_status, "{answer}");
            assert_ne!(field("grpc-message:"), "");
            let line = the_line(&gateway, &field("x-log-id:"));
            assert_eq!(line["reason"], reason);
            assert_eq!(before.grown(&gateway).await, [(reason.to_owned(), 1.0)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_is_refused_in_terms_of_http() {
    let gateway = Gateway::start(Options {
        h2: true,
        ..Options::default()
    })
    .await;
    for content_type in [
        "application/grpcfoo",
        "application/grpc-web",
        "application/json",
    ] {
        let answer = over_http2(&gateway, &[format!("Content-Type: {content_type}")]).await;
        assert!(answer.starts_with("HTTP/2 401"), "{content_type}: {answer}");
    }
    // gRPC is not spoken over HTTP/1.
    let request = "POST /hello HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    let answer = exchange(&gateway.proxy, request.to_owned()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("grpc-status"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_key_says_that_a_new_token_is_needed() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    gateway.purge().await;
    let before = Counters::of(&gateway).await;
    let answer = exchange(&gateway.proxy, with_token(&token))
        .await
        .expect("an answer");
    let expected = format!(
        "{REALM}, error=\"invalid_token\", error_description=\"the signing key of the access token was revoked; request a new token\""
    );
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (401, Some(&*expected))
    );
    let line = the_line(&gateway, &log_id(&answer));
    assert_eq!(
        (&line["reason"], &line["kid"], &line["client_id"]),
        (
            &json!("key_purged"),
            &json!(harness::kid(&token)),
            &json!("demo")
        )
    );
    assert_eq!(
        before.grown(&gateway).await,
        [("key_purged".to_owned(), 1.0)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_outside_is_logged_escaped_and_an_unverified_kid_not_at_all() {
    let gateway = gateway().await;
    let key = PrivateKey::active(&gateway);
    let header = json!({ "alg": "ES256", "kid": "evil\u{1b}[2Jkid", "typ": "at+jwt" }).to_string();
    let answer = denied(
        &gateway,
        with_token(&key.sign(&header, "{}")),
        "unknown_key",
    )
    .await;
    assert_eq!(the_line(&gateway, &log_id(&answer))["kid"], "unknown");
    let request = get(&format!("/{}", "%1b%5B2J".repeat(100)), "");
    let answer = exchange(&gateway.proxy, request).await.expect("an answer");
    let line = the_line(&gateway, &log_id(&answer));
    assert!(
        line["path"].as_str().is_some_and(|path| path.len() < 140),
        "{line}"
    );
    let text = gateway.log.text();
    assert!(!text.contains("evil") && !text.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upload_on_http2_gets_its_answer() {
    let gateway = Gateway::start(Options {
        h2: true,
        ..Options::default()
    })
    .await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), vec![b'x'; 3_000_000]).expect("a file");
    // An `Expect` of curl's own would have it ask first.
    let plain = upload_over_http2(&gateway, &["Expect:".to_owned()], Some(file.path())).await;
    assert!(plain.starts_with("HTTP/2 401"), "{plain}");
    assert!(plain.contains("log_id"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_client_is_told_in_its_own_terms_that_its_body_is_too_large() {
    let gateway = Gateway::start(Options {
        h2: true,
        more: "limits: { max_body_bytes: 1KiB }".to_owned(),
        ..Options::default()
    })
    .await;
    let (address, ca) = gateway.h2.clone().expect("a worker on HTTP/2");
    let mut client = H2Client::connect(address, &ca).await;
    let authorization = format!("Bearer {}", gateway.token().await);
    for (content_type, status) in [("application/json", 413), ("application/grpc", 200)] {
        let fields = [
            ("authorization", authorization.as_str()),
            ("content-type", content_type),
        ];
        let ended = client
            .request("POST", "/hello", &fields, &[b'x'; 2048])
            .await;
        // Trailers alone: the status of gRPC is a header field, and there is no body.
        let Ended::Answered(found, body) = ended else {
            panic!("{content_type}: {ended:?}");
        };
        assert_eq!((found, body.is_empty()), (status, status == 200));
    }
}
