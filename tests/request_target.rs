//! The path that decides is the path that is forwarded, whatever the form of the target.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod harness;

use harness::h2::{Ended, H2Client};
use harness::raw::exchange;
use harness::{Gateway, Options};

const ROUTES: &str = r#"
routes:
  - { name: admin, match: { prefix: /admin }, auth: { scopes_any: [write] }, upstream: echo }
  - { name: site, match: { prefix: / }, auth: none, upstream: echo }
"#;

async fn ask(gateway: &Gateway, target: &str) -> (u16, serde_json::Value) {
    let host = gateway.proxy.trim_start_matches("http://");
    let target = target.replace("HOST", host);
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = exchange(&gateway.proxy, request).await.expect("an answer");
    (
        answer.status,
        serde_json::from_str(&answer.body).unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_form_of_target_slips_past_a_protected_route() {
    let gateway = Gateway::start(Options {
        routes: ROUTES.to_owned(),
        ..Options::default()
    })
    .await;
    assert_eq!(ask(&gateway, "/admin/secret").await.0, 401);
    assert_eq!(ask(&gateway, "http://HOST/admin/secret").await.0, 401);
    for rootless in [
        "admin/secret",
        "admin",
        "admin?x",
        "?/admin",
        "?x",
        "@/admin",
        "\\admin",
        "x:/admin/x",
        "a:80/admin/x",
        "*",
        "http:/admin",
        "ftp://HOST/admin",
        "/x#/admin",
        "//admin",
        "/%61dmin/%ff",
    ] {
        let (status, body) = ask(&gateway, rootless).await;
        assert_eq!(status, 400, "{rootless}");
        assert!(
            body["log_id"].is_string(),
            "{rootless}: every refusal has a Log ID"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_gets_targets_in_origin_form() {
    let gateway = Gateway::start(Options {
        routes: ROUTES.to_owned(),
        ..Options::default()
    })
    .await;
    for (target, path, query) in [
        ("/a/b?c=d", "/a/b", Some("c=d")),
        ("http://HOST/a/b?c=d", "/a/b", Some("c=d")),
        ("http://HOST", "/", None),
        ("HTTP://HOST/%61", "/a", None),
        ("/%7Ea%c3%a9", "/~a%C3%A9", None),
    ] {
        let (status, seen) = ask(&gateway, target).await;
        assert_eq!(status, 200, "{target}");
        assert_eq!(
            (seen["path"].as_str(), seen["query"].as_str()),
            (Some(path), query),
            "{target}"
        );
    }
}

const ACTIONS: &str = r#"
routes:
  - { name: delete, match: { path: "/v1/things:delete" }, auth: {}, upstream: echo }
  - { name: encoded, match: { prefix: "/a%2Cb" }, auth: {}, upstream: echo }
  - { name: internal, match: { prefix: "/@admin" }, auth: {}, upstream: echo }
  - { name: marks, match: { path: "/!$&'()*+,=" }, auth: {}, upstream: echo }
  - { name: letters, match: { prefix: /caf%C3%A9 }, auth: {}, upstream: echo }
  - { name: site, match: { prefix: / }, auth: none, upstream: echo }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_path_is_protected_in_every_spelling() {
    let gateway = Gateway::start(Options {
        routes: ACTIONS.to_owned(),
        ..Options::default()
    })
    .await;
    let mut targets = vec![
        "/v1/things:delete".to_owned(),
        "/v1/things%3Adelete".to_owned(),
        "/v1/things%3adelete".to_owned(),
        "/v1/th%69ngs%3Adelete".to_owned(),
        "/a,b/c".to_owned(),
        "/a%2cb".to_owned(),
        "/%40admin/x".to_owned(),
        "/%40%61dmin".to_owned(),
        "/caf%c3%a9/x".to_owned(),
    ];
    let marks = "!$&'()*+,=";
    for at in 0..marks.len() {
        let (before, after) = marks.split_at(at);
        let (mark, after) = after.split_at(1);
        let encoded = format!("%{:02X}", mark.as_bytes()[0]);
        targets.push(format!("/{before}{encoded}{after}"));
    }
    for target in targets {
        assert_eq!(ask(&gateway, &target).await.0, 401, "{target}");
    }
    for target in [
        "/v1/things%253Adelete",
        "/v1/things%3Bdelete",
        "/v1/things;delete",
    ] {
        assert_eq!(ask(&gateway, target).await.0, 400, "{target}");
    }
    // The rest is as public as it was, and reserved characters are forwarded as they came.
    for (target, path) in [
        ("/v1/things%3alist", "/v1/things%3Alist"),
        ("/V1/things:delete", "/V1/things:delete"),
        ("/x%2C,%2c", "/x%2C,%2C"),
    ] {
        let (status, seen) = ask(&gateway, target).await;
        assert_eq!(
            (status, seen["path"].as_str()),
            (200, Some(path)),
            "{target}"
        );
    }
}

/// The parser of HTTP/2 cuts a fragment off before anybody sees it: then what is left is judged, and
/// just that is forwarded.
#[tokio::test(flavor = "multi_thread")]
async fn a_fragment_on_http2_takes_no_part() {
    let gateway = Gateway::start(Options {
        routes: ROUTES.to_owned(),
        h2: true,
        ..Options::default()
    })
    .await;
    let (address, ca) = gateway.h2.clone().expect("a worker on HTTP/2");
    let mut client = H2Client::connect(address, &ca).await;
    for (path, forwarded) in [
        ("/admin#/x", None),
        ("/admin#", None),
        ("/x#/../admin", Some("/x")),
        ("/x?a#b", Some("/x")),
    ] {
        let ended = client.request("GET", path, &[], b"").await;
        let Ended::Answered(status, body) = ended else {
            panic!("{path}: {ended:?}");
        };
        let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
        match forwarded {
            None => assert_eq!(status, 401, "{path}"),
            Some(forwarded) => {
                assert_eq!(
                    (status, seen["path"].as_str()),
                    (200, Some(forwarded)),
                    "{path}"
                );
                assert!(!body.contains(&b'#'), "{path}: {seen}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_on_http2_has_the_same_limit() {
    let gateway = Gateway::start(Options {
        routes: ROUTES.to_owned(),
        h2: true,
        ..Options::default()
    })
    .await;
    let (address, ca) = gateway.h2.clone().expect("a worker on HTTP/2");
    let mut client = H2Client::connect(address, &ca).await;
    let value = "x".repeat(1000);
    // A HEADERS frame takes 16 KiB, so the block is made of many references to a short one.
    for (times, status) in [(10, 200), (40, 431)] {
        let mut block = harness::h2::block(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/x"),
            (":authority", "localhost"),
        ]);
        // With incremental indexing: the next fields are one byte each, index 62.
        block.push(0x40);
        block.extend(harness::h2::integer(3, 7));
        block.extend(b"x-a");
        block.extend(harness::h2::integer(value.len(), 7));
        block.extend(value.as_bytes());
        block.extend(vec![0x80 | 62; times - 1]);
        let ended = client.request_of(&block, b"").await;
        let Ended::Answered(found, body) = ended else {
            panic!("{times}: {ended:?}");
        };
        assert_eq!(found, status, "{times}");
        if status == 431 {
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(body["log_id"].is_string(), "{body}");
        }
    }
}
