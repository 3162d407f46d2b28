//! What fuzzing runs: one function for each parser that reads bytes from outside. It panics when a
//! property does not hold, and does nothing otherwise.
//!
//! Driven by `fuzz/` (coverage-guided, for hours) and by `tests/fuzz_smoke.rs` (bounded, in every
//! test run), both from the seeds in `fuzz/corpus/<name>/`.

#![expect(
    clippy::expect_used,
    reason = "a fuzz target fails by panicking, and its world is complete"
)]

mod chunked_body;
mod world;

use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use crate::clients::Revocations;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::keys::KeySet;
use crate::keys::timing::Timing;
use crate::token::explain::{Ground, judge};
use crate::token::{MAX_TOKEN_BYTES, Rejection, RouteRules, VerificationKeys, verify};
use crate::{admin, gateway, issuer};

pub use chunked_body::chunked_body;
use world::{ISSUER, NOW, WORLD, good_claims};

/// A name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("bearer", bearer),
    ("token", token),
    ("claims", claims),
    ("config", config),
    ("token_request", token_request),
    ("admin_body", admin_body),
    ("path", path),
    ("chunked_body", chunked_body),
];

/// Endpoints of the admin API with the members of their bodies.
const BODIES: [(&str, &[&str]); 10] = [
    (
        "rotate",
        &[
            "purge",
            "seen_revision",
            "kids",
            "keep_pending",
            "mistake_undo",
            "reason",
        ],
    ),
    ("restore", &["reason"]),
    ("reseal", &["new_kek", "reason"]),
    ("shadow", &["shadow", "kids", "keep_pending"]),
    ("add", &["id", "scopes", "token_ttl_seconds", "reason"]),
    ("change", &["reason"]),
    ("confirm", &["since"]),
    ("session", &["token"]),
    ("explain", &["token", "method", "host", "path"]),
    (
        "import",
        &[
            "pem",
            "public_jwk",
            "kid",
            "max_ttl",
            "legacy",
            "active",
            "reason",
        ],
    ),
];

fn route() -> RouteRules {
    RouteRules {
        audiences: vec!["api".to_owned()],
        scopes_any: vec!["read".to_owned()],
        scopes_all: Vec::new(),
    }
}

/// Good inputs that are made and not stored, for mutations to start from.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = match target {
        "token" => WORLD.tokens.clone(),
        "bearer" => WORLD
            .tokens
            .iter()
            .map(|token| format!("Bearer {token}"))
            .collect(),
        "claims" => vec![good_claims().to_string()],
        _ => Vec::new(),
    };
    texts.into_iter().map(String::into_bytes).collect()
}

/// The `Authorization` fields of a request, one a line.
///
/// # Panics
/// When a token is found that is not exactly what RFC 6750 §2.1 calls one.
pub fn bearer(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        headers.append(AUTHORIZATION, value);
    }
    let Ok(token) = gateway::bearer::token(&headers) else {
        return;
    };
    let [line] = lines.as_slice() else {
        panic_because("more than one field was taken");
    };
    let (scheme, rest) = line.split_at(line.len().min(7));
    assert!(scheme.eq_ignore_ascii_case(b"bearer "), "the scheme");
    assert_eq!(
        rest.trim_ascii_start(),
        token,
        "all that follows is the token"
    );
    assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
    let text = std::str::from_utf8(token).expect("ASCII");
    let body = text.trim_end_matches('=');
    assert!(!body.is_empty());
    let of_alphabet = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    assert!(body.chars().all(of_alphabet), "the alphabet");
}

/// What an operator is told of a token is what would happen to it, and never its signature.
fn explained(token: &[u8], set: &KeySet, keys: &VerificationKeys) {
    let (nobody, rules) = (Revocations::default(), route());
    let ground = Ground {
        set,
        keys,
        clients: &nobody,
        now: NOW,
    };
    let judged = judge(token, "api", &rules, ground);
    let verdict = verify(token, keys, &rules, &nobody, NOW);
    assert_eq!(
        judged.rejection,
        verdict.as_ref().err().map(|of| of.rejection)
    );
    assert!(!judged.what.is_empty());
    if let Ok(accepted) = verdict {
        assert!(judged.token.verified && judged.token.accepted_until.is_some());
        assert_eq!(
            judged.key.map(|key| key.kid),
            Some(accepted.key.kid.to_string())
        );
    }
}

/// A token.
///
/// # Panics
/// When anything is accepted that no key has signed, or that a purged key has.
pub fn token(data: &[u8]) {
    let world = &*WORLD;
    explained(data, &world.live_set, &world.live);
    explained(data, &world.purged_set, &world.purged);
    let nobody = Revocations::default();
    if verify(data, &world.live, &route(), &nobody, NOW).is_ok() {
        let token = std::str::from_utf8(data).expect("text");
        let (signed, _) = token.rsplit_once('.').expect("a signature");
        let good = world
            .tokens
            .iter()
            .find(|good| good.rsplit_once('.').is_some_and(|(of, _)| of == signed))
            .expect("nothing but what was signed");
        // ES256 signs at random, so one of another run is good too; the others have one signature.
        let is_es256 = world.tokens.first() == Some(good);
        assert!(is_es256 || good == token, "another signature: {token}");
        assert_eq!(good.len(), token.len());
    }
    let refused = verify(data, &world.purged, &route(), &nobody, NOW).expect_err("purged");
    let known = [Rejection::KeyPurged, Rejection::CompromisedKeyInUse];
    if known.contains(&refused.rejection) {
        assert!(verify(data, &world.live, &route(), &nobody, NOW).is_ok());
    }
}

/// The payload of a token that is signed well.
///
/// # Panics
/// When a payload is accepted that breaks a rule.
pub fn claims(data: &[u8]) {
    let world = &*WORLD;
    let token = world.active.sign(data, &SystemRandom::new());
    let token = token.expect("a token");
    let nobody = Revocations::default();
    let Ok(accepted) = verify(token.as_bytes(), &world.live, &route(), &nobody, NOW) else {
        return;
    };
    let said: Value = serde_json::from_slice(data).expect("JSON");
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let date = |name: &str| said.get(name).and_then(Value::as_i64);
    let claims = accepted.claims;
    assert_eq!(text("iss"), Some(ISSUER));
    assert_eq!(text("sub"), Some(&*claims.subject));
    assert_eq!(text("client_id"), Some(&*claims.client_id));
    assert_eq!(text("jti"), Some(&*claims.token_id));
    assert_eq!(text("scope"), Some(&*claims.scope));
    assert!(claims.scope.split(' ').any(|scope| scope == "read"));
    let audience = said.get("aud").expect("an audience");
    let named = audience.as_str() == Some("api")
        || audience
            .as_array()
            .is_some_and(|all| all.contains(&json!("api")));
    assert!(named, "the audience");
    let (issued, expires) = (date("iat").expect("iat"), date("exp").expect("exp"));
    assert_eq!(claims.expires_at.as_seconds(), expires);
    let leeway = Timing::default().leeway;
    assert!(
        NOW < Timestamp::from_seconds(expires).plus(leeway),
        "expired"
    );
    assert!(
        Timestamp::from_seconds(issued) <= NOW.plus(leeway),
        "from the future"
    );
    if said.get("nbf").is_some() {
        let not_before = Timestamp::from_seconds(date("nbf").expect("a date"));
        assert!(not_before <= NOW.plus(leeway), "not yet valid");
    }
    for identity in [&claims.subject, &claims.client_id, &claims.scope] {
        assert!(HeaderValue::from_str(identity).is_ok(), "a header field");
    }
}

/// A configuration file.
///
/// # Panics
/// When a refusal does not say where, which rule and what to do, or would not be printable.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let env = |name: &str| (name == "SET").then(|| "value".to_owned());
    match Config::parse(text, Path::new("fuzz.yaml"), &env) {
        Ok(config) => {
            assert!(!config.summary().is_empty());
            assert!(!config.listeners.admin.tokens.is_empty(), "authentication");
            config.keys.timing.check().expect("timings that hold");
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            // A file that ends in a line break is looked at behind it, too. YAML 1.1 §5.4 knows more
            // breaks than an editor may show.
            let breaks = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
            let lines = text.matches(breaks).count() + 1;
            for error in &errors.errors {
                assert!(!error.rule.is_empty() && !error.fix.is_empty(), "{error}");
                // Without a line is only what concerns the whole file, or a section that it lacks.
                let section = error.path.split(['.', '[']).next().unwrap_or_default();
                assert!(
                    error.line.is_some() || section.is_empty() || !text.contains(section),
                    "{error}"
                );
                assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)));
            }
            let shown = errors.to_string();
            assert!(
                !shown.chars().any(|c| c.is_control() && c != '\n'),
                "{shown:?}"
            );
        }
    }
}

/// A token request: the `Authorization` field in the first line, the form behind it.
///
/// # Panics
/// When credentials are taken that the request does not give, or gives in two ways.
pub fn token_request(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (field, body) = data.split_at(end.unwrap_or(0));
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let mut headers = HeaderMap::new();
    if !field.is_empty() {
        let Ok(value) = HeaderValue::from_bytes(field) else {
            return;
        };
        headers.append(AUTHORIZATION, value);
    }
    let Some((client, secret)) = issuer::credentials_in(&headers, body) else {
        return;
    };
    // A byte that is no UTF-8 is read as U+FFFD, which has three; nothing else grows.
    assert!(client.len() + secret.len() <= 3 * data.len());
    if field.is_empty() {
        assert!(!client.is_empty() && !secret.is_empty());
    } else {
        let scheme = field.get(..6).unwrap_or_default();
        assert!(scheme.eq_ignore_ascii_case(b"basic "));
    }
    let text = String::from_utf8_lossy(body);
    let plain = |name: &str| {
        text.split('&')
            .filter(|pair| pair.starts_with(name))
            .count()
    };
    for name in ["client_id=", "client_secret=", "grant_type=", "scope="] {
        assert!(plain(name) <= 1, "{name} is repeated");
    }
    let posted = text
        .split('&')
        .find_map(|pair| pair.strip_prefix("client_secret="));
    assert!(
        field.is_empty() || posted.is_none_or(str::is_empty),
        "two ways"
    );
}

/// The body of a call to the admin API; the first line names the endpoint.
///
/// # Panics
/// When a body is taken that is not one object with the documented members, each once.
pub fn admin_body(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (endpoint, body) = data.split_at(end);
    let Ok(endpoint) = std::str::from_utf8(endpoint) else {
        return;
    };
    let taken = admin::takes_body(endpoint, body);
    let members = BODIES.iter().find(|(name, _)| *name == endpoint);
    assert_eq!(taken.is_some(), members.is_some(), "{endpoint}");
    if let (Some(true), Some((_, known))) = (taken, members) {
        let said: Value = serde_json::from_slice(body).expect("JSON");
        let said = said.as_object().expect("an object");
        assert!(said.keys().all(|name| known.contains(&&**name)), "{said:?}");
        let reason = said
            .get("reason")
            .map(|reason| reason.as_str().expect("text"));
        assert!(
            endpoint == "add"
                || endpoint == "change"
                || endpoint == "import"
                || reason.is_none_or(|reason| reason.chars().count() <= 256)
        );
    }
}

/// The path of a request target.
///
/// # Panics
/// When the canonical form of a path is not its own, or could be read in two ways.
pub fn path(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else {
        return;
    };
    let Some(canonical) = gateway::canonical_path(raw) else {
        return;
    };
    assert_eq!(
        gateway::canonical_path(&canonical).as_deref(),
        Some(&*canonical)
    );
    assert!(canonical.starts_with('/') && canonical.is_ascii());
    assert!(!canonical.contains("//"), "{canonical}");
    assert!(!canonical.split('/').any(|part| part == "." || part == ".."));
    assert!(
        !canonical.contains([';', '\\', '?', '#', ' ']),
        "{canonical}"
    );
    for hidden in ["%2F", "%5C", "%2E", "%25", "%00", "%3B", "%0A", "%0D"] {
        assert!(!canonical.contains(hidden), "{canonical}");
    }
}

#[expect(clippy::panic, reason = "a fuzz target fails by panicking")]
fn panic_because(rule: &str) -> ! {
    panic!("{rule}")
}
