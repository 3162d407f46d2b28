//! Many clients with one secret.

use super::SECRET;

/// Lines for `Options::clients`: clients of these names, each with `more` members.
pub fn lines(names: &[&str], more: &str) -> String {
    let hash = portcullis::clients::SecretHash::of_generated(
        SECRET.as_bytes(),
        &ring::rand::SystemRandom::new(),
    );
    let hash = hash.expect("a hash").to_string();
    names
        .iter()
        .map(|name| {
            format!("  - {{ id: {name}, secret_hash: \"{hash}\", scopes: [read, write]{more} }}\n")
        })
        .collect()
}

/// A token for the client `name`.
pub async fn token_of(http: &reqwest::Client, issuer: &str, name: &str) -> String {
    let response = http
        .post(format!("{issuer}/oauth2/token"))
        .basic_auth(name, Some(SECRET))
        .form(&[("grant_type", "client_credentials")])
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
