//! Clients that leave, stop reading, or are answered before an application sees them: what they cost
//! and what is written down about them.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::h2::{
    END_HEADERS, END_STREAM, Ended, H2Client, HEADERS, RST_STREAM, SETTINGS, block, frame,
};
use crate::harness::metrics::sum;
use crate::harness::raw::RawClient;
use crate::harness::{Gateway, Options, eventually};

async fn on_http2(options: Options) -> (Gateway, H2Client) {
    let gateway = Gateway::start(Options {
        h2: true,
        ..options
    })
    .await;
    let (address, ca) = gateway.h2.clone().unwrap();
    let client = H2Client::connect(address, &ca).await;
    (gateway, client)
}

fn get(path: &str) -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
    ])
}

async fn count(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    sum(&gateway.scrape().await, name, labels)
}

async fn nothing_is_in_flight(gateway: &Gateway) {
    eventually("nothing is in flight", || async {
        let open = count(gateway, "portcullis_http_requests_in_flight", &[]).await;
        (open == 0.0).then_some(())
    })
    .await;
}

/// Its refusal is counted and logged; that it could not be delivered is nobody's failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_its_refusal_is_no_failure_of_ours() {
    let (gateway, mut client) = on_http2(Options::default()).await;
    for _ in 0..20 {
        let stream = client.stream();
        let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/hello"));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        client.send(&bytes).await;
    }
    // One that stays, behind them all.
    assert_eq!(
        client.request("GET", "/hello", &[], b"").await.status(),
        401
    );
    eventually("each is counted", || async {
        let missing = [("reason", "missing")];
        let denied = count(&gateway, "portcullis_auth_denied_total", &missing).await;
        (denied == 21.0).then_some(())
    })
    .await;
    nothing_is_in_flight(&gateway).await;
    assert_eq!(
        count(&gateway, "portcullis_request_failures_total", &[]).await,
        0.0
    );
    let log = gateway.log.text();
    assert_eq!(log.matches("request_denied").count(), 21, "{log}");
    assert!(!log.contains("request_failed"), "{log}");
}

/// As over HTTP/1: a client that cancels while its upstream works has sent nothing malformed.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cancels_its_stream_is_gone_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (gateway, mut client) = on_http2(Options {
        routes: "routes:\n  - { name: odd, match: { prefix: / }, auth: none, upstream: odd }\n"
            .to_owned(),
        upstreams: format!(
            "  odd: {{ endpoints: [\"{}\"] }}\n",
            silent.local_addr().unwrap()
        ),
        ..Options::default()
    })
    .await;
    let stream = client.stream();
    let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/x"));
    client.send(&request).await;
    let (mut kept, _) = silent.accept().await.unwrap();
    kept.read_u8().await.unwrap();
    let cancel = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    client.send(&cancel).await;
    nothing_is_in_flight(&gateway).await;
    let log = gateway.log.text();
    assert!(!log.contains("request_failed"), "{log}");
    assert_eq!(
        count(&gateway, "portcullis_request_failures_total", &[]).await,
        0.0
    );
}

/// A purge waits for answers that hold its keys; whoever takes none of them cannot make it wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_nobody_reads_keeps_no_purge_waiting() {
    let (gateway, mut client) = on_http2(Options::default()).await;
    // No room for any body: INITIAL_WINDOW_SIZE is 0.
    client
        .send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
        .await;
    let stream = client.stream();
    let keys = get("/.well-known/jwks.json");
    client
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &keys))
        .await;
    while client.frame().await.expect("an answer").kind != HEADERS {}
    let began = Instant::now();
    let receipt = gateway.purge().await;
    assert_eq!(receipt["receipt"]["complete"], true, "{receipt}");
    assert!(began.elapsed() < Duration::from_millis(1900));
    assert!(matches!(client.ended(stream).await, Ended::Reset(_)));
}

/// An upstream that closes a kept connection when the next request comes on it.
async fn forgetful(listener: TcpListener) {
    let mut is_first = true;
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, std::mem::take(&mut is_first)));
    }
}

async fn serve(mut socket: TcpStream, closes: bool) {
    for number in 0.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(_) if closes && number == 1 => return,
                Ok(byte) => head.push(byte),
                Err(_gone) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        if socket.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{length:05}");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_tried_again_counts_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(forgetful(listener));
    let gateway = Gateway::start(Options {
        routes: "routes:\n  - { name: odd, match: { prefix: / }, auth: none, upstream: odd }\n"
            .to_owned(),
        upstreams: format!("  odd: {{ endpoints: [\"{address}\"] }}\n"),
        more: "limits: { max_body_bytes: 64KiB }\n".to_owned(),
        ..Options::default()
    })
    .await;
    let mut client = RawClient::connect(&gateway.proxy).await;
    client.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer(false).await.unwrap().status, 200);
    let body = "x".repeat(40_000);
    client
        .send(&format!(
            "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n{body}"
        ))
        .await;
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "40000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_refused_with_a_log_id_on_http2_too() {
    let (gateway, mut client) = on_http2(Options::default()).await;
    let connect = block(&[(":method", "CONNECT"), (":authority", "localhost:443")]);
    let Ended::Answered(405, body) = client.request_of(&connect, b"").await else {
        panic!("not refused");
    };
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let log_id = problem["log_id"].as_str().unwrap();
    let log = gateway.log.text();
    assert_eq!(log.lines().filter(|line| line.contains(log_id)).count(), 1);
}
