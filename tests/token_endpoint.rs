//! The token endpoint, the JWKS and the metadata against their standards (RFC 6749, 7517, 8414,
//! 9068), through real sockets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use harness::raw::{Answer, exchange};
use harness::{CLIENT, Gateway, Options, SECRET, claims, eventually};
use portcullis::clients::SecretHash;
use portcullis::clock::Clock as _;
use portcullis::keys::Algorithm;
use serde_json::{Value, json};

const FORM: &str = "application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";
const HUMAN_SECRET: &str = "correct horse battery staple";

/// A token request, to be bent.
struct Ask {
    content_type: Option<&'static str>,
    authorization: Vec<String>,
    body: String,
}

impl Ask {
    fn basic(body: &str) -> Self {
        Self::with(CLIENT, SECRET, body)
    }

    fn with(id: &str, secret: &str, body: &str) -> Self {
        let credentials = STANDARD.encode(format!("{id}:{secret}"));
        Self {
            authorization: vec![format!("Basic {credentials}")],
            ..Self::post(body)
        }
    }

    fn post(body: &str) -> Self {
        Self {
            content_type: Some(FORM),
            authorization: Vec::new(),
            body: body.to_owned(),
        }
    }

    async fn send(&self, gateway: &Gateway) -> Answer {
        let mut head = String::from("POST /oauth2/token HTTP/1.1\r\nHost: gateway\r\n");
        for value in &self.authorization {
            head.push_str(&format!("Authorization: {value}\r\n"));
        }
        if let Some(content_type) = self.content_type {
            head.push_str(&format!("Content-Type: {content_type}\r\n"));
        }
        let request = format!(
            "{head}Content-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        );
        exchange(&gateway.proxy, request).await.expect("an answer")
    }
}

async fn gateway() -> Gateway {
    let hash = SecretHash::of_human(HUMAN_SECRET.as_bytes(), &ring::rand::SystemRandom::new());
    let hash = hash.expect("a hash").to_string().replace('$', "$$");
    let clients = format!(
        "  - {{ id: person, secret_hash: \"{hash}\", scopes: [read] }}\n  - {{ id: \"odd name+%\", secret_hash: \"{}\", token_ttl: 5m, scopes: [] }}\n",
        SecretHash::of_generated(b"p:a&s=s w+%", &ring::rand::SystemRandom::new()).expect("a hash"),
    );
    Gateway::start(Options {
        clients,
        ..Options::default()
    })
    .await
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect()
}

fn header_of(token: &str) -> Value {
    let header = token.split('.').next().expect("a compact token");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).expect("base64url")).expect("JSON")
}

fn no_store(answer: &Answer) {
    assert_eq!(
        answer.header("cache-control"),
        Some("no-store"),
        "{answer:?}"
    );
    assert_eq!(answer.header("pragma"), Some("no-cache"), "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{answer:?}"
    );
}

/// Sends `ask`, which must be refused, and finds the one log line of the answer.
async fn refused(gateway: &Gateway, ask: &Ask, status: u16, error: &str) -> (Answer, Value) {
    let count = async || {
        gateway
            .metric("portcullis_token_request_errors_total", &[("error", error)])
            .await
    };
    let before = count().await;
    let answer = ask.send(gateway).await;
    assert_eq!(answer.status, status, "{answer:?}");
    no_store(&answer);
    let body = answer.json();
    assert_eq!(
        names(&body),
        BTreeSet::from(["error", "error_description", "log_id"])
    );
    assert_eq!(body["error"], error, "{body}");
    assert_eq!(answer.header("x-log-id"), body["log_id"].as_str());
    assert_eq!(count().await, before + 1.0);
    let line = the_line(gateway, &body["log_id"]);
    assert_eq!(
        (&line["event"], &line["error"]),
        (&json!("token_request_refused"), &json!(error))
    );
    (answer, line)
}

/// The only log line with this Log ID.
fn the_line(gateway: &Gateway, log_id: &Value) -> Value {
    assert_eq!(log_id.as_str().expect("a Log ID").len(), 36);
    let text = gateway.log.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(log_id.as_str().unwrap_or_default()))
        .collect();
    assert_eq!(lines.len(), 1, "{log_id} stands in {lines:?}");
    serde_json::from_str(lines[0]).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_what_rfc_6749_and_rfc_9068_say() {
    let gateway = gateway().await;
    let answer = Ask::basic(GRANT).send(&gateway).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    no_store(&answer);
    let body = answer.json();
    assert_eq!(
        names(&body),
        BTreeSet::from(["access_token", "expires_in", "scope", "token_type"])
    );
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    assert_eq!(body["scope"], "read write");

    let token = body["access_token"].as_str().expect("a token");
    let set = gateway.lifecycle.current_set();
    assert_eq!(
        header_of(token),
        json!({ "typ": "at+jwt", "alg": "ES256", "kid": set.active.public.kid.as_str() })
    );
    let payload = claims(token);
    assert_eq!(
        names(&payload),
        BTreeSet::from([
            "aud",
            "client_id",
            "exp",
            "iat",
            "iss",
            "jti",
            "scope",
            "sub"
        ])
    );
    let now = gateway.clock.now().as_seconds();
    assert_eq!(payload["iss"], "http://issuer.test");
    assert_eq!(
        (&payload["sub"], &payload["client_id"]),
        (&json!(CLIENT), &json!(CLIENT))
    );
    assert_eq!(
        (&payload["aud"], &payload["scope"]),
        (&json!("api"), &json!("read write"))
    );
    assert_eq!(
        (&payload["iat"], &payload["exp"]),
        (&json!(now), &json!(now + 3600))
    );
    let jti = payload["jti"].as_str().expect("a jti");
    assert!(jti.parse::<uuid::Uuid>().is_ok(), "{jti}");
    assert_ne!(claims(&gateway.token().await)["jti"], jti);
    assert_eq!(
        gateway
            .metric(
                "portcullis_tokens_issued_total",
                &[("grant", "client_credentials")]
            )
            .await,
        2.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_signs_tokens_that_the_gateway_takes() {
    for algorithm in Algorithm::ALL {
        let gateway = Gateway::start(Options {
            algorithm,
            ..Options::default()
        })
        .await;
        let token = gateway.token().await;
        assert_eq!(header_of(&token)["alg"], algorithm.as_str());
        assert_eq!(gateway.status(&token).await, 200);
        let jwks: Value = serde_json::from_slice(&gateway.jwks().await).expect("JSON");
        let expected: &[&str] = match algorithm {
            Algorithm::Es256 => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            Algorithm::EdDsa => &["alg", "crv", "kid", "kty", "use", "x"],
            Algorithm::Rs256 => &["alg", "e", "kid", "kty", "n", "use"],
        };
        for key in jwks["keys"].as_array().expect("keys") {
            assert_eq!(names(key), expected.iter().copied().collect());
            assert_eq!(
                (&key["alg"], &key["use"]),
                (&json!(algorithm.as_str()), &json!("sig"))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_of_client_authentication_are_taken() {
    let gateway = gateway().await;
    for (ask, client) in [
        (Ask::basic(GRANT), CLIENT),
        (
            Ask {
                authorization: vec![Ask::basic("").authorization[0].replace("Basic", "bASIC")],
                ..Ask::basic(GRANT)
            },
            CLIENT,
        ),
        (Ask::basic(&format!("{GRANT}&client_id={CLIENT}")), CLIENT),
        (
            Ask::post(&format!(
                "{GRANT}&client_id={CLIENT}&client_secret={SECRET}"
            )),
            CLIENT,
        ),
        (
            Ask {
                content_type: Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"),
                ..Ask::basic(GRANT)
            },
            CLIENT,
        ),
        // A parameter without a value counts as omitted, an unknown one is ignored (RFC 6749 §3.2).
        (Ask::basic(&format!("{GRANT}&scope=&resource=x")), CLIENT),
        // RFC 6749 §2.3.1: both halves are form-encoded before they go into the header.
        (
            Ask::with("odd+name%2B%25", "p%3Aa%26s%3Ds+w%2B%25", GRANT),
            "odd name+%",
        ),
        (
            Ask::post(&format!(
                "{GRANT}&client_id=odd+name%2B%25&client_secret=p%3Aa%26s%3Ds+w%2B%25"
            )),
            "odd name+%",
        ),
    ] {
        let answer = ask.send(&gateway).await;
        assert_eq!(answer.status, 200, "{answer:?} for {:?}", ask.body);
        let body = answer.json();
        let payload = claims(body["access_token"].as_str().expect("a token"));
        assert_eq!(payload["client_id"], client);
        if client != CLIENT {
            assert_eq!(
                (&body["expires_in"], &body["scope"]),
                (&json!(300), &json!(null))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_are_granted_as_asked_within_the_clients_own() {
    let gateway = gateway().await;
    for (asked, granted) in [
        ("read", "read"),
        ("write+read", "write read"),
        ("read+read", "read"),
        ("read%20write", "read write"),
    ] {
        let answer = Ask::basic(&format!("{GRANT}&scope={asked}"))
            .send(&gateway)
            .await;
        assert_eq!(
            (answer.status, &answer.json()["scope"]),
            (200, &json!(granted)),
            "{asked}"
        );
        assert_eq!(
            claims(answer.json()["access_token"].as_str().expect("a token"))["scope"],
            granted
        );
    }
    for asked in [
        "admin",
        "read+admin",
        "read++write",
        "+read",
        "READ",
        "read,write",
        &"read+".repeat(500),
    ] {
        let (answer, _) = refused(
            &gateway,
            &Ask::basic(&format!("{GRANT}&scope={asked}")),
            400,
            "invalid_scope",
        )
        .await;
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_401_with_a_challenge_and_an_unknown_client_looks_the_same() {
    let gateway = gateway().await;
    let mut answers = Vec::new();
    for (ask, claimed) in [
        (Ask::with(CLIENT, "wrong", GRANT), CLIENT),
        (Ask::with("nobody", "wrong", GRANT), "unknown"),
        (Ask::with("person", "wrong", GRANT), "person"),
        (Ask::with(CLIENT, "", GRANT), CLIENT),
        (Ask::with(CLIENT, &"x".repeat(2000), GRANT), CLIENT),
        (
            Ask::post(&format!("{GRANT}&client_id={CLIENT}&client_secret=wrong")),
            CLIENT,
        ),
        (
            Ask::post(&format!("{GRANT}&client_id=nobody&client_secret=wrong")),
            "unknown",
        ),
    ] {
        let (answer, line) = refused(&gateway, &ask, 401, "invalid_client").await;
        assert_eq!(line["client_id"], claimed);
        let peer = line["peer"].as_str().expect("an address");
        assert!(peer.starts_with("127.0.0.1:"), "{line}");
        assert!(
            answer
                .header("www-authenticate")
                .expect("a challenge")
                .starts_with("Basic realm="),
            "{answer:?}"
        );
        let mut body = answer.json();
        body["log_id"] = Value::Null;
        answers.push((answer.header("www-authenticate").map(str::to_owned), body));
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    for ask in [
        Ask::post(GRANT),
        Ask::post(&format!("{GRANT}&client_id={CLIENT}")),
        Ask {
            authorization: vec!["Bearer abc".to_owned()],
            ..Ask::post(GRANT)
        },
        Ask {
            authorization: vec!["Basic !!!".to_owned()],
            ..Ask::post(GRANT)
        },
        Ask {
            authorization: vec![format!("Basic {}", STANDARD.encode("nocolon"))],
            ..Ask::post(GRANT)
        },
    ] {
        let (answer, _) = refused(&gateway, &ask, 401, "invalid_client").await;
        assert!(answer.header("www-authenticate").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_400_with_the_error_of_rfc_6749() {
    let gateway = gateway().await;
    for (ask, error) in [
        (Ask::basic(""), "invalid_request"),
        (Ask::basic("grant_type="), "invalid_request"),
        (
            Ask::basic("grant_type=password&username=a&password=b"),
            "unsupported_grant_type",
        ),
        (
            Ask::basic("grant_type=CLIENT_CREDENTIALS"),
            "unsupported_grant_type",
        ),
        (Ask::basic(&format!("{GRANT}&{GRANT}")), "invalid_request"),
        (
            Ask::basic(&format!("{GRANT}&scope=read&scope=write")),
            "invalid_request",
        ),
        (
            Ask::basic(&format!("{GRANT}&client_id=other")),
            "invalid_request",
        ),
        (
            Ask::basic(&format!("{GRANT}&client_secret={SECRET}")),
            "invalid_request",
        ),
        (
            Ask {
                content_type: Some("application/json"),
                ..Ask::basic(GRANT)
            },
            "invalid_request",
        ),
        (
            Ask {
                content_type: Some("text/plain"),
                ..Ask::basic(GRANT)
            },
            "invalid_request",
        ),
        (
            Ask {
                content_type: None,
                ..Ask::basic(GRANT)
            },
            "invalid_request",
        ),
        (
            Ask {
                authorization: [Ask::basic("").authorization, Ask::basic("").authorization]
                    .concat(),
                ..Ask::post(GRANT)
            },
            "invalid_request",
        ),
    ] {
        refused(&gateway, &ask, 400, error).await;
    }
    // Credentials are checked before the grant: who is nobody learns nothing about grants.
    refused(
        &gateway,
        &Ask::with("nobody", "x", "grant_type=password"),
        401,
        "invalid_client",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_large_bodies_are_refused_with_a_log_id() {
    let gateway = gateway().await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let request = format!("{method} /oauth2/token?{GRANT} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = exchange(&gateway.proxy, request).await.expect("an answer");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("POST")),
            "{answer:?}"
        );
        assert_eq!(the_line(&gateway, &answer.json()["log_id"])["status"], 405);
    }
    for framing in [
        format!("Content-Length: 65537\r\n\r\n{}", "x".repeat(65537)),
        format!(
            "Transfer-Encoding: chunked\r\n\r\n10001\r\n{}\r\n0\r\n\r\n",
            "x".repeat(65537)
        ),
        "Content-Length: 9999999\r\n\r\n".to_owned(),
    ] {
        let credentials = &Ask::basic("").authorization[0];
        let request = format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nAuthorization: {credentials}\r\nContent-Type: {FORM}\r\n{framing}"
        );
        let answer = exchange(&gateway.proxy, request).await.expect("an answer");
        assert_eq!(answer.status, 413, "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(the_line(&gateway, &answer.json()["log_id"])["status"], 413);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_a_person_chose_works_and_is_slow_only_once() {
    let gateway = gateway().await;
    let ask = || Ask::with("person", "correct+horse+battery+staple", GRANT);
    for _ in 0..20 {
        let answer = ask().send(&gateway).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["scope"], "read");
    }
    refused(
        &gateway,
        &Ask::with("person", "correct+horse+battery+stable", GRANT),
        401,
        "invalid_client",
    )
    .await;
    // More logins at a time than may be hashed: the others are told to come again, none waits.
    let wrong: Vec<Ask> = (0..32)
        .map(|n| Ask::with("person", &format!("wrong{n}"), GRANT))
        .collect();
    let answers = futures_join(&gateway, &wrong).await;
    for answer in &answers {
        match answer.status {
            401 => {}
            503 => assert_eq!(answer.header("retry-after"), Some("1")),
            _ => panic!("{answer:?}"),
        }
    }
    assert!(answers.iter().any(|answer| answer.status == 401));
    // Being too busy is a failure of ours, a wrong secret is none.
    let busy = answers.iter().filter(|answer| answer.status == 503).count();
    let labels = [("route", "issuer"), ("cause", "internal")];
    let counted = gateway.metric("portcullis_request_failures_total", &labels);
    assert_eq!(counted.await, f64::from(u32::try_from(busy).expect("few")));
    assert_eq!(
        ask().send(&gateway).await.status,
        200,
        "and a known secret is not held up"
    );
}

async fn futures_join(gateway: &Gateway, asks: &[Ask]) -> Vec<Answer> {
    let mut tasks = tokio::task::JoinSet::new();
    for ask in asks {
        let (proxy, authorization) = (gateway.proxy.clone(), ask.authorization[0].clone());
        tasks.spawn(async move {
            let request = format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\nContent-Type: {FORM}\r\nContent-Length: {}\r\n\r\n{GRANT}",
                GRANT.len()
            );
            exchange(&proxy, request).await.expect("an answer")
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_ever_reaches_the_log() {
    let gateway = gateway().await;
    let token = gateway.token().await;
    let secret_looking = "S3cretThatNobodyMayRead0123456789";
    for ask in [
        Ask::with(CLIENT, secret_looking, GRANT),
        Ask::post(&format!(
            "{GRANT}&client_id={CLIENT}&client_secret={secret_looking}"
        )),
        Ask::basic(&format!("{GRANT}&client_secret={secret_looking}")),
        Ask::basic(&format!("{GRANT}&scope={secret_looking}")),
        Ask::post(&format!(
            "grant_type={secret_looking}&client_secret={secret_looking}&client_id=a"
        )),
        // Id and secret swapped, and a token in the place of the id.
        Ask::with(SECRET, CLIENT, GRANT),
        Ask::with(&token, "x", GRANT),
        Ask::post(&format!(
            "{GRANT}&client_id={secret_looking}&client_secret={CLIENT}"
        )),
        Ask {
            authorization: vec![format!("Basic {secret_looking}")],
            ..Ask::post(GRANT)
        },
        Ask {
            authorization: vec![format!("Bearer {token}")],
            ..Ask::post(GRANT)
        },
    ] {
        assert_ne!(ask.send(&gateway).await.status, 200);
    }
    gateway.status(&token).await;
    gateway.status(&format!("{token}x")).await;
    let request = format!("GET /hello?access_token={token} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        exchange(&gateway.proxy, request)
            .await
            .expect("an answer")
            .status,
        401
    );
    let request = format!("GET /nowhere//{token} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        exchange(&gateway.proxy, request)
            .await
            .expect("an answer")
            .status,
        400
    );

    let log = gateway.log.text();
    assert!(log.lines().count() >= 13);
    assert!(!log.contains("eyJ"), "{log}");
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let payload = signed.split('.').nth(1).expect("a payload");
    let basic = STANDARD.encode(format!("{CLIENT}:{secret_looking}"));
    for secret in [
        SECRET,
        HUMAN_SECRET,
        secret_looking,
        &basic,
        signature,
        payload,
    ] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_path_or_a_method_is_not_in_the_log() {
    let gateway = Gateway::start(Options {
        routes: "
routes:
  - { name: api, match: { prefix: /hello }, auth: { scopes_any: [read] }, upstream: echo }
"
        .to_owned(),
        ..Options::default()
    })
    .await;
    let token = gateway.token().await;
    // Short enough to stand in a line whole, and none of ours.
    let foreign = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.5mhBHqs5_DTLdINd9p5m7ZJ6XD0Xc55k";
    for (method, path, status) in [
        ("GET", format!("/hello/{foreign}"), 401),
        ("GET", format!("/hello/{token}"), 401),
        ("GET", format!("/hello/Bearer%20{foreign}"), 401),
        ("GET", format!("/nope/{foreign}"), 404),
        ("PUT", format!("/.well-known/{token}"), 404),
        ("GET", format!("/.well-known/{foreign}"), 404),
        (foreign, "/nope".to_owned(), 404),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = exchange(&gateway.proxy, request).await.expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}");
    }

    let log = gateway.log.text();
    for shown in ["/hello/[redacted]", "/nope/[redacted]"] {
        assert!(log.contains(shown), "{log}");
    }
    assert!(!log.contains("eyJ"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_that_nobody_knows_is_not_in_the_log() {
    let gateway = gateway().await;
    let evil = "x%0A%7B%22event%22%3A%22forged%22%7D%1B%5B2J%E2%80%AE";
    let body = format!(
        "{GRANT}&client_id={evil}{}&client_secret=s",
        "y".repeat(500)
    );
    let (_, line) = refused(&gateway, &Ask::post(&body), 401, "invalid_client").await;
    assert_eq!(line["client_id"], "unknown", "{line}");
    assert_eq!(line["client_id_bytes"], 527, "{line}");
    let (_, line) = refused(
        &gateway,
        &Ask::with(CLIENT, "x", GRANT),
        401,
        "invalid_client",
    )
    .await;
    assert_eq!(line["client_id"], CLIENT, "one that is known: {line}");
    let text = gateway.log.text();
    let harmless = |c: char| c == '\n' || !c.is_control() && c != '\u{202e}';
    assert!(
        text.chars().all(harmless),
        "as written it is escaped: {text}"
    );
    assert!(
        text.lines().all(|line| line.starts_with("{\"time\"")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn jwks_is_cacheable_and_changes_its_tag_with_its_content() {
    let gateway = gateway().await;
    let url = format!("{}/.well-known/jwks.json", gateway.proxy);
    let fetch = |tag: Option<String>| {
        let request = gateway.http.get(&url);
        let request = tag
            .into_iter()
            .fold(request, |request, tag| request.header("If-None-Match", tag));
        async move { request.send().await.expect("the JWKS") }
    };
    let first = fetch(None).await;
    assert_eq!(
        (first.status(), &first.headers()["content-type"]),
        (
            http::StatusCode::OK,
            &http::HeaderValue::from_static("application/jwk-set+json")
        )
    );
    assert_eq!(first.headers()["cache-control"], "public, max-age=300");
    let tag = first.headers()["etag"].to_str().expect("ASCII").to_owned();
    assert!(
        tag.starts_with('"') && tag.ends_with('"') && tag.len() > 20,
        "{tag}"
    );
    let body: Value = first.json().await.expect("JSON");
    let set = gateway.lifecycle.current_set();
    let kids: Vec<&str> = body["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["kid"].as_str().expect("a kid"))
        .collect();
    assert_eq!(
        kids,
        [
            set.active.public.kid.as_str(),
            set.pending.public.kid.as_str()
        ]
    );
    assert!(!body.to_string().contains("\"d\""), "a private half");

    for same in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"other\", {tag}"),
        "*".to_owned(),
    ] {
        let unchanged = fetch(Some(same.clone())).await;
        assert_eq!(unchanged.status(), 304, "{same}");
        assert_eq!(unchanged.headers()["etag"], tag.as_str());
        assert_eq!(unchanged.headers()["cache-control"], "public, max-age=300");
        assert_eq!(unchanged.bytes().await.expect("no body").len(), 0);
    }
    gateway.rotate().await;
    let changed = fetch(Some(tag.clone())).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.headers()["etag"], tag.as_str());

    // Nearer to the next rotation the answer lives shorter, but never below five seconds.
    let next = portcullis::keys::transition::next_rotation_at(
        &gateway.lifecycle.current_set(),
        gateway.lifecycle.timing(),
    );
    for (before, max_age) in [(100, 100), (3, 5), (0, 5)] {
        gateway
            .clock
            .set(next.minus(std::time::Duration::from_secs(before)));
        let retired = portcullis::keys::transition::retire(
            &gateway.lifecycle.current_set(),
            gateway.clock.now(),
        );
        if retired.is_some() {
            gateway
                .lifecycle
                .tick()
                .await
                .expect("the deprecated key retires");
        }
        assert_eq!(
            fetch(None).await.headers()["cache-control"],
            format!("public, max-age={max_age}").as_str()
        );
    }
    let head = exchange(
        &gateway.proxy,
        "HEAD /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await
    .expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    let post = exchange(
        &gateway.proxy,
        "POST /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    assert_eq!(post.expect("an answer").status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_what_rfc_8414_says() {
    let gateway = gateway().await;
    let url = format!("{}/.well-known/oauth-authorization-server", gateway.proxy);
    let response = gateway.http.get(url).send().await.expect("the metadata");
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(
        body,
        json!({
            "issuer": "http://issuer.test",
            "token_endpoint": "http://issuer.test/oauth2/token",
            "jwks_uri": "http://issuer.test/.well-known/jwks.json",
            "scopes_supported": ["read", "write"],
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_shares_a_log_id_of_one_line_that_counts_them() {
    let gateway = gateway().await;
    let mut ids = BTreeSet::new();
    for _ in 0..230 {
        let answer = Ask::with(CLIENT, "wrong", GRANT).send(&gateway).await;
        ids.insert(
            answer.json()["log_id"]
                .as_str()
                .expect("a Log ID")
                .to_owned(),
        );
    }
    assert_eq!(ids.len(), 201, "200 lines of their own, the rest share one");
    gateway.clock.advance(std::time::Duration::from_secs(2));
    let summary = eventually("the summary line", || async {
        let lines = gateway.log.lines();
        lines
            .into_iter()
            .find(|line| line["event"] == "denials_summary")
    });
    let summary = summary.await;
    assert!(ids.contains(summary["log_id"].as_str().expect("a Log ID")));
    assert!(
        summary.to_string().contains("\"invalid_client\":30"),
        "{summary}"
    );
    let text = gateway.log.text();
    for id in &ids {
        assert_eq!(text.matches(id.as_str()).count(), 1);
    }
}
