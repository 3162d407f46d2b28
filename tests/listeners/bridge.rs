//! The bridge from a session to a router.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http_body_util::{BodyExt, Full};
use portcullis::http::{BridgeLimits, Hold, OverTls, PeerAddr};
use tokio::sync::oneshot;

use super::{Client, PATIENCE, Setup, eventually, header};

fn echo() -> Router {
    Router::new()
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/hello", get(|| async { "hello" }))
}

/// A body of unknown length: `first` at once, the end when the sender is dropped.
fn open_ended(first: &'static str, end: oneshot::Receiver<()>) -> Body {
    let end = async move {
        let _dropped = end.await;
        None
    };
    Body::new(
        Full::new(Bytes::from(first))
            .with_trailers(end)
            .map_frame(|frame| frame),
    )
}

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let listener = Setup::default().start(echo());
    let mut client = Client::connect(listener.address).await;
    for _ in 0..3 {
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert_eq!(header(&answer, "connection").as_deref(), Some("keep-alive"));
    }
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        .await;
    client.send("abc").await;
    assert!(client.answer().await.ends_with("\r\n\r\nabc"));
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.send("2\r\nab\r\n").await;
    client.send("1\r\nc\r\n0\r\n\r\n").await;
    assert!(client.answer().await.ends_with("\r\n\r\nabc"));
}

#[tokio::test]
async fn a_handler_learns_who_asks() {
    let router =
        Router::new().route(
            "/",
            get(
                |Extension(PeerAddr(peer)): Extension<PeerAddr>,
                 Extension(tls): Extension<OverTls>| async move {
                    format!("{peer} {}", tls.0)
                },
            ),
        );
    let listener = Setup::default().start(router);
    let mut client = Client::connect(listener.address).await;
    let expected = format!("\r\n\r\n{} false", client.0.local_addr().unwrap());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.answer().await.ends_with(&expected));
}

#[tokio::test]
async fn head_is_answered_without_a_body() {
    let listener = Setup::default().start(echo());
    let mut client = Client::connect(listener.address).await;
    client
        .send("HEAD /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let answer = client.rest().await;
    assert_eq!(
        header(&answer, "content-length").as_deref(),
        Some("5"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_with_a_log_id() {
    let setup = Setup {
        bridge: BridgeLimits {
            max_body: 10,
            ..BridgeLimits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(echo());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\nb\r\n{}\r\n0\r\n\r\n",
        "x".repeat(11)
    );
    let declared = format!("Content-Length: 11\r\n\r\n{}", "x".repeat(11));
    for rest in [
        declared,
        chunked,
        "Content-Length: 9999999999\r\n\r\n".into(),
    ] {
        let mut client = Client::connect(listener.address).await;
        client
            .send(format!("POST /echo HTTP/1.1\r\nHost: a\r\n{rest}"))
            .await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert_eq!(header(&answer, "connection").as_deref(), Some("close"));
        assert_eq!(
            header(&answer, "content-type").as_deref(),
            Some("application/problem+json")
        );
        let refusal = setup.refusals.lock().unwrap().pop().expect("a log line");
        assert!(
            answer.contains(&format!("\"log_id\":\"{}\"", refusal.log_id)),
            "{answer}"
        );
    }
    let mut client = Client::connect(listener.address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789")
        .await;
    assert!(
        client.answer().await.ends_with("0123456789"),
        "the limit itself is allowed"
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let setup = Setup {
        bridge: BridgeLimits {
            body_timeout: Duration::from_millis(200),
            ..BridgeLimits::default()
        },
        ..Setup::default()
    };
    let listener = setup.start(echo());
    let mut client = Client::connect(listener.address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
        .await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(setup.refusals.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_client_that_asks_is_told_to_continue() {
    let listener = Setup::default().start(echo());
    let mut client = Client::connect(listener.address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let interim = client.read_until(|text| text.ends_with("\r\n\r\n")).await;
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.send("abc").await;
    assert!(client.answer().await.ends_with("\r\n\r\nabc"));
}

#[tokio::test]
async fn what_is_not_http_is_400_at_once() {
    let setup = Setup::default();
    let listener = setup.start(echo());
    let tls_hello = "\u{16}\u{3}\u{1}\u{2}";
    for bytes in [
        tls_hello,
        "GET / HTTP/1.1\r\nbroken header\r\n\r\n",
        "GET\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let started = Instant::now();
        let mut client = Client::connect(listener.address).await;
        client.send(bytes).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
        let refusal = setup.refusals.lock().unwrap().pop().expect("a log line");
        assert!(answer.contains(&refusal.log_id.to_string()));
        assert!(
            started.elapsed() < Duration::from_secs(4),
            "not only when the deadline is over"
        );
    }
}

#[tokio::test]
async fn a_stream_is_written_as_it_comes() {
    let (end, ended) = oneshot::channel();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let router = Router::new().route(
        "/",
        get(move || async move { open_ended("first", ended.lock().unwrap().take().unwrap()) }),
    );
    let listener = Setup::default().start(router);
    let mut client = Client::connect(listener.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let begun = client
        .read_until(|text| text.ends_with("5\r\nfirst\r\n"))
        .await;
    assert_eq!(
        header(&begun, "transfer-encoding").as_deref(),
        Some("chunked"),
        "{begun}"
    );
    drop(end);
    client.read_until(|text| text == "0\r\n\r\n").await;
    assert_eq!(header(&begun, "connection").as_deref(), Some("keep-alive"));
}

#[tokio::test]
async fn a_stream_to_an_old_client_ends_with_the_connection() {
    let router = Router::new().route(
        "/",
        get(|| async {
            let (_, ended) = oneshot::channel();
            open_ended("all", ended)
        }),
    );
    let listener = Setup::default().start(router);
    let mut client = Client::connect(listener.address).await;
    client
        .send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let answer = client.rest().await;
    assert!(answer.ends_with("\r\n\r\nall"), "{answer}");
    assert_eq!(header(&answer, "connection").as_deref(), Some("close"));
}

#[tokio::test]
async fn a_stream_ends_when_its_client_leaves() {
    let (end, ended) = oneshot::channel::<()>();
    let ended = Arc::new(Mutex::new(Some(ended)));
    let router = Router::new().route(
        "/",
        get(move || async move { open_ended("first", ended.lock().unwrap().take().unwrap()) }),
    );
    let listener = Setup::default().start(router);
    let mut client = Client::connect(listener.address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.read_until(|text| text.contains("first")).await;
    drop(client);
    eventually("the body is dropped", || end.is_closed()).await;
}

/// A route with an answer far larger than any socket buffer, held by what the test can watch.
fn held(size: usize) -> (Router, Arc<Mutex<Weak<()>>>) {
    let held: Arc<Mutex<Weak<()>>> = Arc::default();
    let slot = Arc::clone(&held);
    let handler = move || async move {
        let kept = Arc::new(());
        *slot.lock().unwrap() = Arc::downgrade(&kept);
        let mut response: Response = Bytes::from(vec![b'x'; size]).into_response();
        response.extensions_mut().insert(Hold::new(kept));
        response
    };
    (Router::new().route("/", get(handler)), held)
}

const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_hold_is_kept_until_the_answer_is_out() {
    let (router, held) = held(LARGE);
    let listener = Setup::default().start(router);
    let mut client = Client::connect(listener.address).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    client.read_until(|text| text.contains("\r\n\r\n")).await;
    assert!(
        held.lock().unwrap().upgrade().is_some(),
        "most of it is still to be written"
    );
    assert!(client.rest().await.len() > LARGE / 2);
    eventually("the hold is dropped", || {
        held.lock().unwrap().upgrade().is_none()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nothing_for_ever() {
    for (bridge, transport) in [(200, 30_000), (30_000, 200)] {
        let (router, held) = held(LARGE);
        let setup = Setup {
            bridge: BridgeLimits {
                write_timeout: Duration::from_millis(bridge),
                ..BridgeLimits::default()
            },
            write_timeout: Duration::from_millis(transport),
            ..Setup::default()
        };
        let listener = setup.start(router);
        let mut client = Client::connect(listener.address).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.read_until(|text| text.contains("\r\n\r\n")).await;
        let waited = Instant::now();
        eventually("the hold is dropped", || {
            held.lock().unwrap().upgrade().is_none()
        })
        .await;
        assert!(waited.elapsed() < PATIENCE);
        assert!(
            client.rest().await.len() < LARGE,
            "and the connection was closed"
        );
    }
}
