//! How the gateway ends what lasts too long, and how it ends itself.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use harness::process::Setup;
use harness::raw::RawClient;
use harness::upstream::Upstream;
use harness::{Process, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_trickles_in_is_cut_off() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    // All listeners alike, at the same time.
    let addresses = [gateway.proxy, gateway.admin, gateway.metrics];
    let mut clients = tokio::task::JoinSet::new();
    for address in addresses {
        clients.spawn(async move { (address, trickle(address).await) });
    }
    while let Some(ended) = clients.join_next().await {
        let (address, lived) = ended.expect("no panic");
        assert!(lived < Duration::from_secs(10), "{address}: {lived:?}");
    }
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_ends_nothing_and_has_its_line() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    gateway.signal(rustix::process::Signal::HUP);
    eventually("the line of the signal", || async {
        let lines = gateway.log_lines();
        lines
            .iter()
            .any(|line| line["event"] == "hangup_ignored")
            .then_some(())
    })
    .await;
    assert_eq!(gateway.status(&token).await, 200);
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

/// Sends a header byte every 4 s; how long the connection lived.
async fn trickle(address: std::net::SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let started = Instant::now();
    for byte in b"GET /hello HTTP/1.1\r\n" {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        let mut answer = Vec::new();
        let pause = Duration::from_secs(4);
        if timeout(pause, stream.read_to_end(&mut answer))
            .await
            .is_ok()
        {
            break;
        }
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_a_slow_request_finish() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (at, until) = (Arc::clone(&entered), Arc::clone(&release));
    let upstream = Upstream::of(Router::new().fallback(move || {
        let (at, until) = (Arc::clone(&at), Arc::clone(&until));
        async move {
            at.notify_one();
            until.notified().await;
            "slow but whole"
        }
    }));
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    let request = gateway.http.get(gateway.url("/hello")).bearer_auth(&token);
    let call = tokio::spawn(async move { request.send().await?.text().await });
    entered.notified().await;

    gateway.signal(rustix::process::Signal::TERM);
    eventually("nobody new is let in", || async {
        TcpStream::connect(gateway.proxy).await.err()
    })
    .await;
    assert!(!call.is_finished());
    release.notify_one();
    let text = call.await.expect("no panic").expect("it is answered");
    assert_eq!(text, "slow but whole");
    let since = Instant::now();
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_millis(1500),
        "{:?}",
        since.elapsed()
    );
    assert_stopped_in_order(&gateway);

    // The store is unlocked, the port is free: the next one starts at once.
    gateway.serve().await;
    assert_eq!(gateway.terminate().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_answers_what_is_sent_on_kept_connections() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    let request =
        format!("GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let asked = Arc::new(AtomicUsize::new(0));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (request, asked) = (request.clone(), Arc::clone(&asked));
        let url = gateway.proxy.to_string();
        clients.spawn(async move {
            let mut client = RawClient::connect(&url).await;
            loop {
                asked.fetch_add(1, Ordering::Relaxed);
                client.send(&request).await;
                let answer = client.answer(false).await.expect("an answer to a request");
                assert_eq!(answer.status, 200);
                if answer.header("connection") == Some("close") {
                    return;
                }
            }
        });
    }
    eventually("all are at it", || async {
        (asked.load(Ordering::Relaxed) > 480).then_some(())
    })
    .await;
    gateway.signal(rustix::process::Signal::TERM);
    while let Some(ended) = clients.join_next().await {
        ended.expect("every request is answered");
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gateway_stops_soon() {
    let upstream = Upstream::echo();
    let mut gateway = Process::start(&Setup::new(upstream.address)).await;
    let token = gateway.token().await;
    // The client's connections stay open, idle, for as long as the gateway lets them.
    assert_eq!(gateway.status(&token).await, 200);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let since = Instant::now();
        gateway.signal(signal);
        assert_eq!(gateway.ended().await.code(), Some(0));
        assert!(
            since.elapsed() < Duration::from_millis(1500),
            "{:?}",
            since.elapsed()
        );
        assert_stopped_in_order(&gateway);
        gateway.serve().await;
    }
    assert_eq!(gateway.status(&token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_of_the_spans_that_a_hung_collector_did_not_take() {
    // It accepts connections and never answers.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hung.local_addr().expect("an address");
    let upstream = Upstream::echo();
    let setup = Setup {
        more: format!("tracing: {{ sample_ratio: 1, otlp: {{ endpoint: \"http://{address}\" }} }}"),
        ..Setup::new(upstream.address)
    };
    let mut gateway = Process::start(&setup).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    let since = Instant::now();
    assert_eq!(gateway.terminate().await.code(), Some(0));
    assert!(
        since.elapsed() < Duration::from_secs(2),
        "{:?}",
        since.elapsed()
    );
    let lines = gateway.log_lines();
    let lost: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "trace_spans_lost")
        .map(|line| line["spans"].as_u64())
        .collect();
    // The token's two and the request's three at least.
    assert!(matches!(lost[..], [Some(5..)]), "{lost:?}");
    assert_stopped_in_order(&gateway);
}

/// The last line of the log was still written.
fn assert_stopped_in_order(gateway: &Process) {
    let lines = gateway.log_lines();
    let last = lines.last().expect("a line");
    assert_eq!(last["event"], "stopped", "{last}");
}
