//! More connections than there are open files: those that have a place are served, operators too.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::harness::certificates::Certificates;
use super::harness::h2::{END_HEADERS, END_STREAM, HEADERS, block, frame};
use super::harness::process::Setup;
use super::harness::raw::RawClient;
use super::harness::upstream::Upstream;
use super::harness::usage::open_files;
use super::harness::{Process, eventually, metrics};

/// Open files of the process: `Descriptors::of(544, 1)` leaves clients 64 places.
const FILES: u32 = 544;
const PLACES: usize = 64;
const CROWD: usize = 600;

fn one_worker(upstream: &Upstream) -> Setup {
    Setup {
        more: "server: { workers: 1 }".to_owned(),
        ..Setup::new(upstream.address)
    }
}

async fn start(setup: &Setup) -> Process {
    let mut gateway = Process::configure(setup);
    assert!(gateway.run(&["init"]).status.success());
    gateway.open_files = Some(FILES);
    gateway.serve().await;
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_connections_shuts_nobody_out_of_the_admin_listener() {
    let upstream = Upstream::echo();
    let gateway = start(&one_worker(&upstream)).await;
    let token = gateway.token().await;
    let started = eventually("the line of the start", || async {
        let mut lines = gateway.log_lines().into_iter();
        lines.find(|line| line["event"] == "started")
    })
    .await;
    assert_eq!(started["max_connections"], PLACES);

    let mut kept = RawClient::connect(&gateway.proxy.to_string()).await;
    let get = format!("GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    kept.send(&get).await;
    assert_eq!(kept.answer(false).await.expect("an answer").status, 200);
    // Some say nothing, others begin, others wait for an answer that they do not read.
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut socket = TcpStream::connect(gateway.proxy).await.unwrap();
        let begin = [b"".as_slice(), b"GET / HTTP/1.1\r\n", get.as_bytes()][number % 3];
        drop(socket.write_all(begin).await);
        crowd.push(socket);
    }
    let scrape = || async {
        let scrape = gateway.scrape().await;
        metrics::sum(&scrape, "portcullis_worker_connections", &[])
    };
    assert!(scrape().await <= PLACES as f64);
    let files = open_files(gateway.pid());
    assert!(files < FILES as usize - 32, "{files} open files");
    // Whoever has a place is served.
    kept.send(&get).await;
    assert_eq!(kept.answer(false).await.expect("an answer").status, 200);
    // Keys can be changed, and the change is written: a purge wants both descriptors and a listener.
    assert_eq!(gateway.rotate().await["changed"], true);
    gateway.purge().await;
    kept.send(&get).await;
    assert_eq!(kept.answer(false).await.expect("an answer").status, 401);
    // The others were closed at once.
    let mut closed = 0;
    for socket in &mut crowd {
        let mut buf = [0; 4096];
        let end = timeout(Duration::from_millis(5), socket.read(&mut buf)).await;
        closed += usize::from(matches!(end, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= CROWD - PLACES - 5, "{closed} closed");
    let lines = gateway.log_lines();
    let full = lines.iter().filter(|line| {
        line["text"]
            .as_str()
            .is_some_and(|text| text.contains("all places are taken"))
    });
    assert!((1..4).contains(&full.count()));
    // The crowd goes, and there is room again.
    drop(crowd);
    let served = || async {
        let mut client = RawClient::connect(&gateway.proxy.to_string()).await;
        client.send(&get).await;
        client
            .answer(false)
            .await
            .filter(|answer| answer.status == 401)
    };
    eventually("there is room again", served).await;
    assert_eq!(gateway.status(&gateway.token().await).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_http2_take_places_too() {
    let dir = tempfile::tempdir().unwrap();
    let made = Certificates::make(dir.path());
    // Holds each request until the test has seen enough.
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let held = std::sync::Arc::clone(&gate);
    let upstream = Upstream::of(axum::Router::new().fallback(move || {
        let held = std::sync::Arc::clone(&held);
        async move {
            drop(held.acquire().await);
            "ok"
        }
    }));
    let gateway = start(&Setup {
        proxy: format!(
            ", h2: true, tls: {{ cert_file: {}, key_file: {} }}",
            made.cert.display(),
            made.key.display()
        ),
        ..one_worker(&upstream)
    })
    .await;
    let connect = || super::harness::h2::H2Client::connect(gateway.proxy, &made.ca);
    let mut first = connect().await;
    let bearer = format!("Bearer {}", first.token().await);
    let get = block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/hello"),
        (":authority", "localhost"),
        ("authorization", &bearer),
    ]);
    let mut clients = vec![first];
    for _ in 0..5 {
        clients.push(connect().await);
    }
    for client in &mut clients {
        for _ in 0..50 {
            let stream = client.stream();
            let headers = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
            assert!(client.send(&headers).await);
        }
    }
    // Six connections and so many streams as fit; the rest is told to come again.
    let refused = || async {
        let lines = gateway.log_lines();
        let full =
            |line: &&serde_json::Value| line.to_string().contains("no room for another request");
        (lines.iter().filter(full).count() > 0).then_some(())
    };
    eventually("streams are refused", refused).await;
    let files = open_files(gateway.pid());
    assert!(files < FILES as usize - 32, "{files} open files");
    assert_eq!(gateway.rotate().await["changed"], true);
    gate.add_permits(10_000);
    let mut statuses = std::collections::BTreeMap::new();
    for client in &mut clients {
        for status in client.statuses(50).await {
            *statuses.entry(status).or_insert(0) += 1;
        }
    }
    println!("{statuses:?}");
    assert_eq!(statuses.keys().collect::<Vec<_>>(), [&200, &503]);
    assert!(statuses[&200] <= PLACES - 6, "{statuses:?}");
}
