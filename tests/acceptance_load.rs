//! Rotations under load and in real time, with the timings of `conf/test-fast.yaml`: no request
//! fails because of one.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::process::Setup;
use harness::upstream::Upstream;
use harness::{Process, claims, kid, metrics, token, unix_seconds};

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(10);

/// Clients that call at the same time, each one call after the other.
const CLIENTS: usize = 16;

/// After so many calls a client gets a new token.
const CALLS_PER_TOKEN: u64 = 100;

/// The lines below `keys:` of `conf/test-fast.yaml`, without the places of the store.
fn fast_keys() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/test-fast.yaml");
    let text = std::fs::read_to_string(path).expect("the sample");
    let lines = text
        .lines()
        .skip_while(|line| *line != "keys:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.contains("store:") && !line.contains("encryption_key_files:"));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_each_second_under_load_fails_no_request() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup {
        keys: fast_keys(),
        token_ttl: "50s",
        more: "server: { workers: 2 }".to_owned(),
        ..Setup::new(upstream.address)
    })
    .await;
    let (calls, tokens, over) = <(Arc<AtomicU64>, Arc<AtomicU64>, Arc<AtomicBool>)>::default();
    let first = gateway.token().await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let (calls, tokens, over) = (Arc::clone(&calls), Arc::clone(&tokens), Arc::clone(&over));
        let (issuer, url) = (gateway.url(""), gateway.url("/hello"));
        // One client keeps the token that it had before the first rotation.
        let mut bearer = first.clone();
        clients.spawn(async move {
            let http = reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client");
            let mut failures = Vec::new();
            for call in 0_u64.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if number > 0 && call % CALLS_PER_TOKEN == 0 {
                    bearer = token(&http, &issuer, None).await;
                    tokens.fetch_add(1, Ordering::Relaxed);
                }
                match http.get(&url).bearer_auth(&bearer).send().await {
                    Ok(answer) if answer.status() == 200 => {
                        // Read whole, so that the connection serves the next call.
                        drop(answer.bytes().await);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    other => failures.push(format!("client {number}, call {call}: {other:?}")),
                }
            }
            failures
        });
    }

    let started = Instant::now();
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let mut rotations = 0;
    while started.elapsed() < LOAD {
        every_second.tick().await;
        if gateway.rotate().await["changed"] == true {
            rotations += 1;
        }
    }
    over.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    while let Some(ended) = clients.join_next().await {
        failures.extend(ended.expect("no client panics"));
    }
    let (calls, tokens) = (
        calls.load(Ordering::Relaxed),
        tokens.load(Ordering::Relaxed),
    );
    println!(
        "{calls} calls, {tokens} tokens, {rotations} rotations, {} failures",
        failures.len()
    );
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(rotations >= 9, "{rotations}");
    assert!(
        calls > 1000 && tokens > 20,
        "{calls} calls, {tokens} tokens"
    );
    let scrape = gateway.scrape().await;
    for name in [
        "portcullis_auth_denied_total",
        "portcullis_lifecycle_violations_total",
    ] {
        assert_eq!(metrics::sum(&scrape, name, &[]), 0.0, "{name}");
    }
    let labels = [("trigger", "manual"), ("result", "success")];
    let counted = metrics::sum(&scrape, "portcullis_key_rotations_total", &labels);
    assert_eq!(counted, f64::from(rotations));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_and_retire_by_themselves_and_no_token_fails_before_it_expires() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup {
        keys: fast_keys(),
        token_ttl: "5s",
        ..Setup::new(upstream.address)
    })
    .await;
    let first = gateway.token().await;
    let mut live = vec![first.clone()];
    let mut kids = vec![kid(&first)];
    let mut every_so_often = tokio::time::interval(Duration::from_millis(100));
    let deadline = Instant::now() + Duration::from_secs(40);
    // Until the first key has gone all its way: active, deprecated, retired.
    let set = loop {
        every_so_often.tick().await;
        let newest = gateway.token().await;
        if !kids.contains(&kid(&newest)) {
            kids.push(kid(&newest));
        }
        live.push(newest);
        for token in std::mem::take(&mut live) {
            let status = gateway.status(&token).await;
            let now = unix_seconds();
            if now < claims(&token)["exp"].as_u64().expect("an expiry") {
                assert_eq!(status, 200, "of the key {}", kid(&token));
                live.push(token);
            }
        }
        let set = gateway.admin_get("/admin/v1/keys").await;
        let states: Vec<_> = set["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|key| &key["state"])
            .collect();
        for one in ["active", "pending"] {
            assert_eq!(
                states.iter().filter(|state| **state == one).count(),
                1,
                "{set}"
            );
        }
        if set["tombstones"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
        {
            break set;
        }
        assert!(Instant::now() < deadline, "nothing was retired: {set}");
    };
    assert_eq!(set["tombstones"][0]["kid"], kids[0]);
    assert_eq!(set["tombstones"][0]["state"], "retired");
    assert!(kids.len() >= 4, "{kids:?}");
    let jwks = gateway.jwks().await;
    assert!(!String::from_utf8_lossy(&jwks).contains(&kids[0]));
    // Long expired, and its key is gone: refused as unknown, and nothing else.
    assert_eq!(gateway.status(&first).await, 401);
    let scrape = gateway.scrape().await;
    let denied = |reason| {
        metrics::sum(
            &scrape,
            "portcullis_auth_denied_total",
            &[("reason", reason)],
        )
    };
    assert_eq!(denied("unknown_key"), 1.0);
    assert_eq!(
        metrics::sum(&scrape, "portcullis_auth_denied_total", &[]),
        1.0 + denied("expired")
    );
    assert_eq!(
        metrics::sum(&scrape, "portcullis_lifecycle_violations_total", &[]),
        0.0
    );
    let labels = [("trigger", "automatic"), ("result", "success")];
    let rotations = metrics::sum(&scrape, "portcullis_key_rotations_total", &labels);
    assert!(rotations >= 4.0, "{rotations}");

    // A restart finds the tombstone again, and what was due meanwhile is done.
    gateway.kill().await;
    gateway.serve().await;
    let set = gateway.admin_get("/admin/v1/keys").await;
    let tombstones = set["tombstones"].as_array().expect("tombstones");
    assert!(
        tombstones
            .iter()
            .any(|tombstone| tombstone["kid"] == kids[0])
    );
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
}
