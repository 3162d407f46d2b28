//! The main job with the real binary in front of a real nginx: token, Rotate, Rotate and purge,
//! the metric; for every algorithm, across a restart, and across a SIGKILL.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use harness::nginx::Nginx;
use harness::peers::peer;
use harness::process::Setup;
use harness::{CLIENT, Process, SECRET, claims, eventually, kid, metrics, unix_seconds};

const PURGED: &str = "portcullis_purge_verification_failures_total";

/// What happens to the gateway between the steps of the story.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Nothing,
    Restart,
    Kill,
}

impl Turn {
    async fn happen(self, gateway: &mut Process) {
        match self {
            Self::Nothing => return,
            Self::Restart => assert_eq!(gateway.terminate().await.code(), Some(0)),
            Self::Kill => drop(gateway.kill().await),
        }
        gateway.serve().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_with_es256() {
    story("ES256", Turn::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_with_eddsa() {
    story("EdDSA", Turn::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_with_rs256() {
    story("RS256", Turn::Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_across_restarts() {
    story("ES256", Turn::Restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_across_sigkill() {
    story("ES256", Turn::Kill).await;
}

async fn story(algorithm: &'static str, turn: Turn) {
    let Some(nginx) = Nginx::start().await else {
        return;
    };
    if peer("curl").is_none() {
        return;
    }
    let mut gateway = Process::start(&setup(&nginx, algorithm)).await;

    let old = curl_token(&gateway);
    let answer = curl(&[
        "-H",
        &format!("Authorization: Bearer {old}"),
        &gateway.url("/hello"),
    ]);
    assert_eq!(answer, "real nginx http sub=demo token=\n");

    let first = gateway.rotate().await;
    assert_eq!(first["changed"], true);
    let new = curl_token(&gateway);
    assert_ne!(kid(&old), kid(&new));
    assert_eq!(statuses(&gateway, &[&old, &new]).await, [200, 200]);

    let jwks = gateway.jwks().await;
    turn.happen(&mut gateway).await;
    assert_eq!(statuses(&gateway, &[&old, &new]).await, [200, 200]);
    let second = gateway.rotate().await;
    assert_eq!(second["changed"], false);
    for same in ["rotation_id", "keys", "at", "revision", "activated"] {
        assert_eq!(first[same], second[same], "{same}");
    }
    assert_eq!(gateway.jwks().await, jwks);

    let brief = client_token(&gateway, "brief", None).await;
    let reader = client_token(&gateway, CLIENT, Some("read")).await;
    let seen = gateway.admin_get("/admin/v1/keys").await["revision"].clone();
    let purge = serde_json::json!({ "purge": true, "seen_revision": seen });
    let path = "/admin/v1/keys/rotate";
    let (status, receipt) = gateway.admin_post(path, purge.clone()).await;
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(receipt["receipt"]["complete"], true, "{receipt}");
    turn.happen(&mut gateway).await;

    let scrape = gateway.scrape().await;
    for token in [&old, &new] {
        assert_eq!(
            metrics::value(&scrape, PURGED, &[("kid", &kid(token))]),
            0.0
        );
    }
    let fresh = curl_token(&gateway);
    let mut refused = 0.0;
    for (token, calls) in [(&old, 3), (&new, 2), (&reader, 1)] {
        for _call in 0..calls {
            assert_eq!(gateway.status(token).await, 401);
            refused += 1.0;
        }
    }
    assert_eq!(gateway.status(&fresh).await, 200);
    let scrape = gateway.scrape().await;
    assert_eq!(metrics::sum(&scrape, PURGED, &[]), refused);
    assert_eq!(metrics::value(&scrape, PURGED, &[("kid", &kid(&old))]), 3.0);
    assert_eq!(metrics::value(&scrape, PURGED, &[("kid", &kid(&new))]), 3.0);

    others_do_not_count(&gateway, &old, &reader, &brief, refused).await;

    // Said again by a caller who did not hear the answer: the clients that recovered live on.
    let (status, again) = gateway.admin_post(path, purge).await;
    assert_eq!((status, &again["changed"]), (200, &false.into()), "{again}");
    assert_eq!(again["rotation_id"], receipt["rotation_id"]);
    assert_eq!(gateway.status(&fresh).await, 200);
    assert_eq!(gateway.terminate().await.code(), Some(0));
    assert!(nginx.access_log().iter().all(|line| !line.contains(&old)));
}

/// What would have been refused without the purge as well, each for its own reason.
async fn others_do_not_count(
    gateway: &Process,
    old: &str,
    reader: &str,
    brief: &str,
    refused: f64,
) {
    let forgeries = forgeries(old);
    let until = claims(brief)["exp"].as_u64().expect("an expiry");
    eventually("the brief token expires", || async {
        (unix_seconds() >= until).then_some(())
    })
    .await;
    let calls = forgeries
        .iter()
        .map(|token| (token.as_str(), "/hello", 401, "bad_signature"))
        .chain([
            (brief, "/hello", 401, "expired"),
            (old, "/other", 401, "bad_audience"),
            (reader, "/write", 403, "insufficient_scope"),
        ]);
    let before = gateway.scrape().await;
    let mut count = 0.0;
    for (token, path, status, reason) in calls {
        let response = gateway.http.get(gateway.url(path)).bearer_auth(token);
        let response = response.send().await.expect("the gateway answers");
        assert_eq!(response.status(), status, "{reason}");
        count += 1.0;
    }
    let after = gateway.scrape().await;
    assert_eq!(metrics::sum(&after, PURGED, &[]), refused);
    let denied = "portcullis_auth_denied_total";
    let rose = |labels: &[(&str, &str)]| {
        metrics::sum(&after, denied, labels) - metrics::sum(&before, denied, labels)
    };
    assert_eq!(rose(&[]), count);
    assert_eq!(rose(&[("reason", "key_purged")]), 0.0);
    assert_eq!(rose(&[("reason", "bad_signature")]), forgeries.len() as f64);
    for reason in ["expired", "bad_audience", "insufficient_scope"] {
        assert_eq!(rose(&[("reason", reason)]), 1.0, "{reason}");
    }
    let all = metrics::sum(&after, denied, &[("reason", "key_purged")]);
    assert_eq!(all, refused);
}

/// Tokens that name the purged key of `token`, and that it never signed.
fn forgeries(token: &str) -> Vec<String> {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("not a compact token: {token}");
    };
    let mut other = claims(token);
    other["sub"] = "root".into();
    let other = URL_SAFE_NO_PAD.encode(other.to_string());
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    bytes[20] ^= 1;
    let broken = URL_SAFE_NO_PAD.encode(&bytes);
    let zero = URL_SAFE_NO_PAD.encode(vec![0; bytes.len()]);
    vec![
        format!("{header}.{other}.{signature}"),
        format!("{header}.{payload}.{broken}"),
        format!("{header}.{payload}.{zero}"),
    ]
}

/// SIGKILL at some moment of a purge: afterwards it has happened or it has not, and if it was
/// answered it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_purge_loses_or_keeps_it_whole() {
    let Some(nginx) = Nginx::start().await else {
        return;
    };
    let mut gateway = Process::start(&setup(&nginx, "ES256")).await;
    for moment in 0..6 {
        let token = gateway.token().await;
        let before = gateway.admin_get("/admin/v1/keys").await;
        let revision = before["revision"].as_u64().expect("a revision");
        let store = gateway.dir.path().join("data/keys/keyset.json");
        let bytes = std::fs::read(&store).expect("the key set");
        let request = gateway
            .http
            .post(format!("http://{}/admin/v1/keys/rotate", gateway.admin))
            .bearer_auth(gateway.admin_token())
            .json(&serde_json::json!({ "purge": true, "seen_revision": revision }));
        let purge =
            tokio::spawn(async move { request.send().await.is_ok_and(|a| a.status() == 200) });
        match moment % 3 {
            0 => tokio::task::yield_now().await,
            1 => while std::fs::read(&store).is_ok_and(|now| now == bytes) {},
            _ => assert!(
                eventually("the purge ends", || async {
                    purge.is_finished().then_some(true)
                })
                .await
            ),
        }
        gateway.kill().await;
        let answered = purge.await.expect("the call ends");
        gateway.serve().await;

        let set = gateway.admin_get("/admin/v1/keys").await;
        let now = set["revision"].as_u64().expect("a revision");
        assert!(now == revision || now == revision + 1, "{revision} → {now}");
        assert!(
            now > revision || (!answered && moment % 3 == 0),
            "moment {moment}"
        );
        let states: Vec<_> = set["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|key| &key["state"])
            .collect();
        assert_eq!(states, ["active", "pending"]);
        let purged = now > revision;
        assert_eq!(gateway.status(&token).await, if purged { 401 } else { 200 });
        if purged {
            let scrape = gateway.scrape().await;
            assert_eq!(
                metrics::value(&scrape, PURGED, &[("kid", &kid(&token))]),
                1.0
            );
        }
        let fresh = gateway.token().await;
        assert_eq!(gateway.status(&fresh).await, 200);
    }
}

fn setup(nginx: &Nginx, algorithm: &'static str) -> Setup {
    Setup {
        algorithm,
        keys: "  leeway: 0s".to_owned(),
        clients: "  - { id: brief, secret_hash_file: secrets/demo.hash, scopes: [read], token_ttl: 1s }"
            .to_owned(),
        routes: "  - { name: other, match: { prefix: /other }, auth: { audiences: [other] }, upstream: main }
  - { name: write, match: { prefix: /write }, auth: { scopes_all: [write] }, upstream: main }"
            .to_owned(),
        ..Setup::new(nginx.address)
    }
}

fn curl(arguments: &[&str]) -> String {
    let curl = peer("curl").expect("asked for before");
    let output = Command::new(curl)
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
        ])
        .args(arguments)
        .output()
        .expect("curl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "curl: {}", text(&output.stderr));
    text(&output.stdout)
}

fn curl_token(gateway: &Process) -> String {
    let credentials = format!("{CLIENT}:{SECRET}");
    let url = gateway.url("/oauth2/token");
    let answer = curl(&[
        "-u",
        &credentials,
        "-d",
        "grant_type=client_credentials",
        &url,
    ]);
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

async fn client_token(gateway: &Process, client: &str, scope: Option<&str>) -> String {
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(scope.map(|scope| ("scope", scope)));
    let request = gateway.http.post(gateway.url("/oauth2/token"));
    let request = request.basic_auth(client, Some(SECRET)).form(&form);
    let answer = request.send().await.expect("the token endpoint answers");
    let answer: serde_json::Value = answer.json().await.expect("JSON");
    answer["access_token"].as_str().expect("a token").to_owned()
}

async fn statuses(gateway: &Process, tokens: &[&str]) -> Vec<u16> {
    let mut found = Vec::new();
    for token in tokens {
        found.push(gateway.status(token).await);
    }
    found
}
