//! Keys of a former system: each kind, made by OpenSSL, with tokens as that system issued them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use harness::forge::{encode, good_claims};
use harness::peers::peer;
use harness::{Gateway, Options, VIEWER, kid};
use portcullis::keygen::import::ForeignKey;
use portcullis::keys::Algorithm;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

const IMPORT: &str = "/admin/v1/keys/import";

/// A former system: its key as OpenSSL made it.
struct Former {
    private_pem: String,
    public_pem: String,
    alg: Algorithm,
}

impl Former {
    /// `None` when there is no OpenSSL here, said aloud.
    fn new(alg: Algorithm, dir: &Path) -> Option<Self> {
        let openssl = peer("openssl")?;
        let options: &[&str] = match alg {
            Algorithm::Es256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Algorithm::EdDsa => &["ED25519"],
            Algorithm::Rs256 => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        let (private, public) = (dir.join("former.pem"), dir.join("former.pub"));
        let run = |arguments: &[&str]| {
            let output = Command::new(&openssl).args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        let (private, public) = (private.to_str().unwrap(), public.to_str().unwrap());
        run(&[&["genpkey", "-out", private, "-algorithm"], options].concat());
        run(&["pkey", "-in", private, "-pubout", "-out", public]);
        Some(Self {
            private_pem: std::fs::read_to_string(private).unwrap(),
            public_pem: std::fs::read_to_string(public).unwrap(),
            alg,
        })
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let message = format!(
            "{}.{}",
            encode(header.to_string()),
            encode(claims.to_string())
        );
        let rng = SystemRandom::new();
        let key = ForeignKey::from_pem(self.private_pem.as_bytes()).unwrap();
        let pkcs8 = key.private_pkcs8.unwrap();
        let signature = match self.alg {
            Algorithm::Es256 => {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &rng)
                    .unwrap()
                    .sign(&rng, message.as_bytes())
                    .unwrap()
                    .as_ref()
                    .to_vec()
            }
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8)
                .unwrap()
                .sign(message.as_bytes())
                .as_ref()
                .to_vec(),
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &rng, message.as_bytes(), &mut signature)
                    .unwrap();
                signature
            }
        };
        format!("{message}.{}", encode(signature))
    }

    fn header(&self, kid: &str, typ: &str) -> Value {
        json!({ "typ": typ, "alg": self.alg.as_str(), "kid": kid })
    }
}

/// Claims as a former system wrote them: another issuer and audience, no client_id, no jti.
fn former_claims(gateway: &Gateway) -> Value {
    let good = good_claims(gateway);
    json!({
        "iss": "https://old.example", "aud": ["old-api"], "sub": "billing",
        "iat": good["iat"], "exp": good["exp"], "scope": "read",
    })
}

fn legacy() -> Value {
    json!({ "iss": "https://old.example", "aud": "old-api", "typ": "JWT" })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

async fn reason(gateway: &Gateway, token: &str) -> (u16, String) {
    let status = gateway.status(token).await;
    let lines = gateway.log.lines();
    let reason = lines
        .iter()
        .rev()
        .find(|line| line["event"] == json!("request_denied"))
        .map(|line| line["reason"].as_str().unwrap_or_default().to_owned());
    (status, reason.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_an_id_sets_no_header_for_it() {
    let gateway = Gateway::start(Options {
        routes: "routes:\n  - name: api\n    match: { prefix: / }\n    auth: { scopes_any: [read] }\n    \
                 identity_headers: { X-Auth-Subject: sub, X-Auth-Token: jti }\n    upstream: echo\n"
            .to_owned(),
        ..Options::default()
    })
    .await;
    let former = Former::new(Algorithm::Es256, gateway.dir.path()).unwrap();
    let body = json!({
        "pem": former.public_pem, "kid": "old-1", "max_ttl": "1h", "legacy": legacy(),
    });
    assert_eq!(gateway.admin_post(IMPORT, body).await.0, 200);
    let claims = former_claims(&gateway);
    for (claims, expected) in [
        (claims.clone(), vec![json!(["x-auth-subject", "billing"])]),
        (
            with(claims, "jti", json!("j")),
            vec![
                json!(["x-auth-subject", "billing"]),
                json!(["x-auth-token", "j"]),
            ],
        ),
    ] {
        let token = former.token(&former.header("old-1", "JWT"), &claims);
        let seen: Value = gateway.get("/hello", &token).await.json().await.unwrap();
        let fields = seen["headers"].as_array().unwrap();
        let mut set: Vec<Value> = fields
            .iter()
            .filter(|field| field[0].as_str().unwrap().starts_with("x-auth-"))
            .cloned()
            .collect();
        set.sort_by_key(ToString::to_string);
        assert_eq!(set, expected);
    }
}

async fn tokens_go_on_working(alg: Algorithm) {
    let gateway = Gateway::start(Options::default()).await;
    let Some(former) = Former::new(alg, gateway.dir.path()) else {
        return;
    };
    let token = former.token(&former.header("old-1", "JWT"), &former_claims(&gateway));
    assert_eq!(reason(&gateway, &token).await.0, 401, "before");

    let body = json!({
        "pem": former.public_pem, "kid": "old-1", "max_ttl": "1h", "legacy": legacy(),
    });
    let (status, set) = gateway.admin_post(IMPORT, body.clone()).await;
    assert_eq!(status, 200, "{set}");
    let key = set["keys"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&key["kid"], &key["state"]),
        (&json!("old-1"), &json!("deprecated"))
    );
    assert_eq!(gateway.status(&token).await, 200);
    let claims = former_claims(&gateway);
    for (header, claims) in [
        (former.header("old-1", "jwt"), claims.clone()),
        (former.header("old-1", "at+jwt"), claims.clone()),
        (former.header("old-1", "application/at+jwt"), claims.clone()),
        (
            former.header("old-1", "JWT"),
            with(claims.clone(), "aud", json!("old-api")),
        ),
        (
            former.header("old-1", "JWT"),
            with(claims.clone(), "aud", json!("api")),
        ),
        (
            former.header("old-1", "JWT"),
            with(claims.clone(), "iss", json!(gateway.config.issuer.url)),
        ),
    ] {
        let token = former.token(&header, &claims);
        assert_eq!(gateway.status(&token).await, 200, "{header} {claims}");
    }

    // What the legacy rules do not widen.
    let good = former.header("old-1", "JWT");
    let iat = claims["iat"].as_i64().unwrap();
    for (header, claims, expected) in [
        (
            former.header("old-1", "dpop+jwt"),
            claims.clone(),
            "bad_type",
        ),
        (
            good.clone(),
            with(claims.clone(), "iss", json!("https://x")),
            "bad_issuer",
        ),
        (
            good.clone(),
            with(claims.clone(), "aud", json!("x")),
            "bad_audience",
        ),
        (
            good.clone(),
            with(claims.clone(), "exp", json!(iat + 3601)),
            "claim_rule",
        ),
        (
            good.clone(),
            with(claims.clone(), "exp", json!("soon")),
            "malformed",
        ),
        (
            with(good.clone(), "alg", json!("HS256")),
            claims.clone(),
            "alg_not_allowed",
        ),
        (
            with(good.clone(), "alg", json!("none")),
            claims.clone(),
            "alg_not_allowed",
        ),
        (
            with(good.clone(), "crit", json!(["exp"])),
            claims.clone(),
            "malformed",
        ),
        (
            with(good.clone(), "kid", json!("old-2")),
            claims.clone(),
            "bad_type",
        ),
    ] {
        let token = former.token(&header, &claims);
        let (status, found) = reason(&gateway, &token).await;
        assert_eq!(
            (status, found.as_str()),
            (401, expected),
            "{header} {claims}"
        );
    }
    // The rules bind to that key alone: one of ours gets none of them.
    let ours = harness::forge::PrivateKey::active(&gateway);
    let foreign = ours.sign(
        &json!({ "typ": "JWT", "alg": "ES256", "kid": ours.kid.as_str() }).to_string(),
        &former_claims(&gateway).to_string(),
    );
    assert_eq!(
        reason(&gateway, &foreign).await,
        (401, "bad_type".to_owned())
    );

    // It is imported once, under whatever name.
    for kid in ["old-1", "old-9"] {
        let (status, problem) = gateway
            .admin_post(IMPORT, with(body.clone(), "kid", json!(kid)))
            .await;
        assert_eq!((status, &problem["code"]), (409, &json!("KNOWN_KEY")));
    }
    // It ends like every deprecated key, and its rules with it.
    gateway.clock.advance(Duration::from_secs(3600 + 66));
    gateway.lifecycle.tick().await.unwrap();
    let (_, found) = reason(&gateway, &token).await;
    assert_eq!(found, "unknown_key");
    let (_, set) = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(set["tombstones"][0]["kid"], json!("old-1"));
    assert_eq!(
        gateway.admin_post(IMPORT, body).await.0,
        409,
        "dead keys stay dead"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ec_key_goes_on_verifying() {
    tokens_go_on_working(Algorithm::Es256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_key_goes_on_verifying() {
    tokens_go_on_working(Algorithm::EdDsa).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_goes_on_verifying() {
    tokens_go_on_working(Algorithm::Rs256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_import_signs_and_the_old_key_verifies_on() {
    for alg in Algorithm::ALL {
        let gateway = Gateway::start(Options::default()).await;
        let Some(former) = Former::new(alg, gateway.dir.path()) else {
            return;
        };
        let before = gateway.token().await;
        let body = json!({
            "pem": former.private_pem, "kid": "old-1", "max_ttl": "2h", "active": true,
            "legacy": legacy(), "reason": "move",
        });
        let (status, set) = gateway.admin_post(IMPORT, body).await;
        assert_eq!(status, 200, "{set}");
        let after = gateway.token().await;
        assert_eq!(
            (kid(&after).as_str(), kid(&before) == "old-1"),
            ("old-1", false)
        );
        let former_token = former.token(&former.header("old-1", "JWT"), &former_claims(&gateway));
        for token in [&before, &after, &former_token] {
            assert_eq!(gateway.status(token).await, 200);
        }
        // It opened the window, survives a rotation, and dies by a purge like any other.
        let rotated = gateway.rotate().await;
        assert_eq!(
            (&rotated["changed"], &rotated["kind"]),
            (&json!(false), &json!("import"))
        );
        gateway.clock.advance(Duration::from_secs(601));
        assert_eq!(gateway.rotate().await["changed"], json!(true));
        assert_eq!(gateway.status(&former_token).await, 200);
        gateway.purge().await;
        for token in [&before, &after, &former_token] {
            let (status, found) = reason(&gateway, token).await;
            assert_eq!((status, found.as_str()), (401, "key_purged"));
        }
        // A purged legacy token that would have failed anyway is not the purge's doing.
        let expired = with(
            with(former_claims(&gateway), "exp", json!(1000)),
            "iat",
            json!(10),
        );
        let token = former.token(&former.header("old-1", "JWT"), &expired);
        assert_eq!(reason(&gateway, &token).await.1, "expired");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_imports_are_refused_with_the_rule_and_change_nothing() {
    let gateway = Gateway::start(Options::default()).await;
    let Some(former) = Former::new(Algorithm::Es256, gateway.dir.path()) else {
        return;
    };
    let (_, before) = gateway.admin_get("/admin/v1/keys").await;
    let base = json!({ "pem": former.public_pem, "max_ttl": "1h" });
    let ours = before["keys"][0]["kid"].clone();
    let off_curve = json!({
        "kty": "EC", "crv": "P-256", "x": encode([1; 32]), "y": encode([1; 32]),
    });
    for (body, code, says) in [
        (
            with(base.clone(), "active", json!(true)),
            "BAD_BODY",
            "private half",
        ),
        (
            with(base.clone(), "max_ttl", json!("25h")),
            "MAX_TTL",
            "24h",
        ),
        (with(base.clone(), "max_ttl", json!("0s")), "MAX_TTL", "1s"),
        (
            with(base.clone(), "max_ttl", json!("1 hour")),
            "BAD_BODY",
            "max_ttl",
        ),
        (
            with(base.clone(), "kid", ours),
            "KNOWN_KEY",
            "known already",
        ),
        (with(base.clone(), "kid", json!("a b")), "BAD_BODY", "kid"),
        (
            with(base.clone(), "pem", json!("nonsense")),
            "BAD_BODY",
            "PEM block",
        ),
        (
            with(base.clone(), "legacy", json!({ "typ": "" })),
            "BAD_BODY",
            "typ",
        ),
        (
            with(base.clone(), "legacy", json!({ "issuer": "x" })),
            "BAD_BODY",
            "unknown field",
        ),
        (
            with(base.clone(), "public_jwk", off_curve.clone()),
            "BAD_BODY",
            "exactly one",
        ),
        (
            json!({ "public_jwk": off_curve, "max_ttl": "1h" }),
            "BAD_BODY",
            "curve",
        ),
        (json!({ "max_ttl": "1h" }), "BAD_BODY", "exactly one"),
    ] {
        let (_, problem) = gateway.admin_post(IMPORT, body.clone()).await;
        assert_eq!(problem["code"], json!(code), "{body} {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(says),
            "{problem}"
        );
    }
    let viewer = gateway
        .http
        .post(format!("{}{IMPORT}", gateway.admin))
        .bearer_auth(VIEWER)
        .json(&base)
        .send()
        .await
        .unwrap();
    assert_eq!(viewer.status().as_u16(), 403);
    let (_, after) = gateway.admin_get("/admin/v1/keys").await;
    assert_eq!(before, after);
}

#[test]
fn foreign_forms_are_named_with_the_way_out() {
    for (pem, says) in [
        (
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
            "PKCS#1",
        ),
        (
            "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n",
            "SEC 1",
        ),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "decrypt",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "BEGIN PUBLIC KEY",
        ),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "P-256",
        ),
        ("", "exactly one"),
    ] {
        let error = ForeignKey::from_pem(pem.as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{pem}: {error}");
        assert!(!error.contains("AAAA"));
    }
}
