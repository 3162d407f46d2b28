//! What the tests share: a gateway in this process on ephemeral ports ([`Gateway`]), the real
//! binary ([`Process`]), an upstream that tells what reached it, waiting with a deadline.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::type_complexity,
    clippy::disallowed_methods,
    reason = "test code, of which each target uses a part"
)]

pub mod browser;
pub mod certificates;
pub mod clients;
pub mod collector;
pub mod disk;
pub mod faulty;
pub mod forge;
pub mod grafana;
pub mod h2;
pub mod in_process;
pub mod lines;
pub mod metrics;
pub mod nginx;
pub mod peers;
pub mod process;
pub mod prometheus;
pub mod queries;
pub mod raw;
pub mod relay;
pub mod toggled;
pub mod upstream;
pub mod usage;

use std::future::Future;
use std::time::{Duration, Instant};

pub use in_process::{Gateway, Options};
pub use process::Process;

/// The client that every test configuration knows.
pub const CLIENT: &str = "demo";
/// Its secret.
pub const SECRET: &str = "a-secret-for-tests-only-0123456789";
/// The admin tokens that every test configuration knows, one per role.
pub const ADMIN: &str = "admin-token-for-tests-0123456789";
pub const OPERATOR: &str = "operator-token-for-tests-0123456";
pub const VIEWER: &str = "viewer-token-for-tests-012345678";

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` finds something; panics with `what` after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{what} did not happen within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A token from a token endpoint.
pub async fn token(http: &reqwest::Client, issuer: &str, scope: Option<&str>) -> String {
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(scope.map(|scope| ("scope", scope)));
    let response = http
        .post(format!("{issuer}/oauth2/token"))
        .basic_auth(CLIENT, Some(SECRET))
        .form(&form)
        .send()
        .await
        .expect("the token endpoint answers");
    assert_eq!(response.status(), 200, "a token is issued");
    let body: serde_json::Value = response.json().await.expect("the token answer is JSON");
    body["access_token"]
        .as_str()
        .expect("there is a token")
        .to_owned()
}

/// The claims of a token, without verification.
pub fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a compact token");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .expect("base64url");
    serde_json::from_slice(&json).expect("JSON claims")
}

/// An answer of `GET keys` or `GET clients/{id}` without what traffic changes in it.
pub fn without_activity(mut answer: serde_json::Value) -> serde_json::Value {
    let strip = |object: &mut serde_json::Value| {
        if let Some(object) = object.as_object_mut() {
            for name in ["live_tokens", "requests_5m", "last_used_at", "last_seen_at"] {
                object.remove(name);
            }
            object.retain(|name, _| !name.starts_with("last_failure"));
        }
    };
    strip(&mut answer);
    if let Some(keys) = answer["keys"].as_array_mut() {
        keys.iter_mut().for_each(strip);
    }
    answer
}

/// The kid in a token's header.
pub fn kid(token: &str) -> String {
    use base64::Engine as _;
    let header = token.split('.').next().expect("a compact token");
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .expect("base64url");
    let header: serde_json::Value = serde_json::from_slice(&json).expect("JSON header");
    header["kid"].as_str().expect("a kid").to_owned()
}

/// The wall clock, in the unit of a token's dates.
pub fn unix_seconds() -> u64 {
    use portcullis::clock::Clock as _;
    let now = portcullis::clock::SystemClock.now();
    u64::try_from(now.as_seconds()).expect("after 1970")
}
