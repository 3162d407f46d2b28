//! No client can add a series: whatever it calls itself, wherever it calls, whatever it sends.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;

use harness::forge::{PrivateKey, claims_with, encode};
use harness::raw::RawClient;
use harness::{Gateway, Options};
use serde_json::json;

/// Distinct ones of each kind.
const MANY: usize = 10_000;

/// Connections that send them.
const CONNECTIONS: usize = 4;

type Make = dyn Fn(usize) -> String + Send + Sync;

/// A kind of request: its name, its text by number, and the status of every answer.
struct Kind {
    name: &'static str,
    status: u16,
    make: Arc<Make>,
}

fn kind(
    name: &'static str,
    status: u16,
    make: impl Fn(usize) -> String + Send + Sync + 'static,
) -> Kind {
    Kind {
        name,
        status,
        make: Arc::new(make),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_each_kind_add_not_one_series() {
    let gateway = Gateway::start(Options::default()).await;
    let key = PrivateKey::active(&gateway);
    // Tokens of as many clients, minted with the gateway's own key, before that is purged.
    let by_client: Arc<Vec<String>> = Arc::new(
        (0..MANY)
            .map(|number| {
                let name = json!(format!("client-{number}"));
                let mut claims = claims_with(&gateway, "client_id", name.clone());
                claims["sub"] = name;
                key.mint(&claims)
            })
            .collect(),
    );
    let before_purge = Arc::clone(&by_client);
    let admitted = kind("clients, paths, queries and hosts", 200, move |number| {
        format!(
            "GET /path-{number}?q={number} HTTP/1.1\r\nHost: host-{number}.test\r\n\
             Authorization: Bearer {}\r\n\r\n",
            before_purge[number]
        )
    });
    let refused = kind("clients that a purge broke", 401, move |number| {
        format!(
            "GET /again-{number} HTTP/1.1\r\nHost: host-{number}.test\r\nAuthorization: Bearer {}\r\n\r\n",
            by_client[number]
        )
    });
    let signature = encode([7; 64]);
    let kids = kind("kids and methods", 401, move |number| {
        let header = encode(format!(
            "{{\"alg\":\"ES256\",\"kid\":\"kid-{number}\",\"typ\":\"at+jwt\"}}"
        ));
        format!(
            "METHOD{number} / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {header}.e30.{signature}\r\n\r\n"
        )
    });
    let garbage = kind("garbage tokens", 401, |number| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer garbage-{number}\r\n\r\n")
    });
    let strangers = kind("unknown clients of the token endpoint", 401, |number| {
        let credentials = base64(&format!("stranger-{number}:secret-{number}"));
        let body = format!("grant_type=client_credentials&scope=scope-{number}");
        format!(
            "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credentials}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    });

    // One of each kind, so that what appears with a first request has appeared; then a purge, whose
    // new keys have series of their own.
    send(&gateway, &admitted, 1).await;
    gateway.purge().await;
    for kind in [&refused, &kids, &garbage, &strangers] {
        send(&gateway, kind, 1).await;
    }
    // A request is counted when it has ended, which is after its answer.
    harness::eventually("every request has ended", || async {
        let scrape = gateway.scrape().await;
        let open = harness::metrics::sum(&scrape, "portcullis_http_requests_in_flight", &[]);
        (open < 0.5).then_some(())
    })
    .await;
    let start = series(&gateway).await;
    assert!(start.len() > 300, "{}", start.len());

    for kind in [&refused, &kids, &garbage, &strangers] {
        send(&gateway, kind, MANY).await;
        assert_no_more(&start, &gateway, kind.name).await;
    }
    // The first kind once more, with tokens of the key that signs now.
    let key = PrivateKey::active(&gateway);
    let token = key.mint(&harness::forge::good_claims(&gateway));
    let paths = kind(admitted.name, 200, move |number| {
        format!(
            "GET /path-{number}?q={number} HTTP/1.1\r\nHost: host-{number}.test\r\n\
             User-Agent: agent-{number}\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
    });
    send(&gateway, &paths, MANY).await;
    assert_no_more(&start, &gateway, paths.name).await;
    admin(&gateway).await;
    assert_no_more(&start, &gateway, "admin paths").await;

    // They were counted all the same.
    let scrape = gateway.scrape().await;
    let counted =
        |name: &str, labels: &[(&str, &str)]| harness::metrics::sum(&scrape, name, labels);
    let many = f64::from(u32::try_from(MANY).expect("a small number"));
    let denied = |reason| counted("portcullis_auth_denied_total", &[("reason", reason)]);
    assert_eq!(denied("key_purged"), many + 1.0);
    assert_eq!(denied("unknown_key"), many + 1.0);
    assert_eq!(denied("malformed"), many + 1.0);
    assert_eq!(
        counted("portcullis_purge_verification_failures_total", &[]),
        many + 1.0
    );
    let errors = [("error", "invalid_client")];
    assert_eq!(
        counted("portcullis_token_request_errors_total", &errors),
        many + 1.0
    );
}

async fn assert_no_more(start: &BTreeSet<String>, gateway: &Gateway, what: &str) {
    let now = series(gateway).await;
    let new: Vec<&String> = now.difference(start).take(5).collect();
    assert!(new.is_empty(), "{what} added series: {new:?}");
    assert_eq!(now.len(), start.len(), "{what}");
}

/// Names and labels of every series in a scrape.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let scrape = gateway.scrape().await;
    for word in [
        "client-",
        "stranger-",
        "path-",
        "host-",
        "kid-",
        "METHOD",
        "agent-",
    ] {
        let found = scrape.lines().find(|line| line.contains(word));
        assert_eq!(found, None, "what a client says is in a scrape");
    }
    scrape
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

/// Sends the first `count` requests of a kind, over a few connections that are kept.
async fn send(gateway: &Gateway, kind: &Kind, count: usize) {
    let mut senders = tokio::task::JoinSet::new();
    for first in 0..CONNECTIONS.min(count) {
        let (make, wanted) = (Arc::clone(&kind.make), kind.status);
        let (url, name) = (gateway.proxy.clone(), kind.name);
        senders.spawn(async move {
            let mut client = RawClient::connect(&url).await;
            for number in (first..count).step_by(CONNECTIONS) {
                let request = make(number);
                client.send(&request).await;
                let answer = match client.answer(false).await {
                    Some(answer) => answer,
                    // A refusal may have closed the connection before.
                    None => {
                        client = RawClient::connect(&url).await;
                        client.send(&request).await;
                        client.answer(false).await.expect("an answer")
                    }
                };
                assert_eq!(answer.status, wanted, "{name} {number}: {answer:?}");
                if answer.header("connection") == Some("close") {
                    client = RawClient::connect(&url).await;
                }
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("every answer is as expected");
    }
}

/// A thousand endpoints that the admin API does not have.
async fn admin(gateway: &Gateway) {
    for number in 0..1000 {
        let request = gateway
            .http
            .get(format!("{}/admin/v1/endpoint-{number}", gateway.admin))
            .bearer_auth(harness::ADMIN);
        let response = request.send().await.expect("the admin listener answers");
        assert_eq!(response.status(), 404);
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
