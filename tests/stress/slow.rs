//! Clients that are slow on purpose, with the limits that a gateway has by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::harness::Process;
use super::harness::process::Setup;
use super::harness::raw::RawClient;
use super::harness::upstream::Upstream;
use super::harness::usage::rss_kib;
use super::percentiles;

const BIG: usize = 64 << 20;

/// An upstream that also has a large answer.
fn upstream() -> Upstream {
    let big = || async { Response::new(Body::from(vec![b'x'; BIG])) };
    Upstream::of(
        Router::new()
            .route("/big", axum::routing::get(big))
            .fallback(|_body: bytes::Bytes| async { "ok" }),
    )
}

async fn gateway(upstream: &Upstream) -> Process {
    Process::start(&Setup {
        more: "server: { workers: 2 }".to_owned(),
        ..Setup::new(upstream.address)
    })
    .await
}

/// Sends `begin` and then a byte every `pace` until the other side closes: how long that took.
async fn drip(address: std::net::SocketAddr, begin: String, pace: Duration) -> Duration {
    let started = Instant::now();
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(begin.as_bytes()).await.unwrap();
    let (mut read, mut write) = socket.split();
    let mut buf = [0; 4096];
    loop {
        tokio::select! {
            got = read.read(&mut buf) => {
                if matches!(got, Ok(0) | Err(_)) {
                    return started.elapsed();
                }
            }
            () = sleep(pace) => drop(write.write_all(b"a").await),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_never_ends_is_closed_within_ten_seconds() {
    let upstream = upstream();
    let gateway = gateway(&upstream).await;
    let token = gateway.token().await;
    let mut slow = JoinSet::new();
    for number in 0_u64..40 {
        let begin = match number % 4 {
            0 => String::new(),
            1 => "GET / HTTP/1.1\r\nX: ".to_owned(),
            2 => "GET /".to_owned(),
            _ => "\r\n\r\n".to_owned(),
        };
        let pace = Duration::from_millis(100 + 20 * number);
        slow.spawn(drip(gateway.proxy, begin, pace));
    }
    while let Some(lasted) = slow.join_next().await {
        let lasted = lasted.unwrap();
        assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    }
    assert_eq!(gateway.status(&token).await, 200);
}

/// One request after the other, for `time`: latencies in milliseconds.
async fn latencies(gateway: &Process, token: &str, time: Duration) -> Vec<f64> {
    let request =
        format!("GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (request, over, url) = (
            request.clone(),
            Arc::clone(&over),
            gateway.proxy.to_string(),
        );
        clients.spawn(async move {
            let mut client = RawClient::connect(&url).await;
            let mut found = Vec::new();
            // A few at least, however busy the machine is.
            while !over.load(Ordering::Relaxed) || found.len() < 25 {
                let started = Instant::now();
                client.send(&request).await;
                let answer = client.answer(false).await.expect("an answer");
                assert_eq!(answer.status, 200);
                found.push(started.elapsed().as_secs_f64() * 1000.0);
            }
            found
        });
    }
    sleep(time).await;
    over.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    while let Some(found) = clients.join_next().await {
        all.extend(found.unwrap());
    }
    all
}

/// p99 of others beside a crowd of slow clients, compared with p99 without them; the memory they take.
async fn beside_slow_clients(crowd: usize, time: Duration) -> f64 {
    let upstream = upstream();
    let gateway = gateway(&upstream).await;
    let token = gateway.token().await;
    let pid = gateway.pid();
    drop(latencies(&gateway, &token, time / 4).await);
    let (p50_alone, p99_alone) = percentiles(latencies(&gateway, &token, time).await);
    let before = rss_kib(pid);
    let mut slow = JoinSet::new();
    for number in 0..crowd {
        let authorization = format!("Host: a\r\nAuthorization: Bearer {token}\r\n");
        let begin = match number % 3 {
            // Slow headers come again and again, as they are closed again and again.
            0 => "GET /hello HTTP/1.1\r\nX: ".to_owned(),
            1 => format!("POST /hello HTTP/1.1\r\n{authorization}Content-Length: 1000000\r\n\r\n"),
            _ => format!("GET /big HTTP/1.1\r\n{authorization}\r\n"),
        };
        let address = gateway.proxy;
        slow.spawn(async move {
            if number % 3 == 2 {
                // Asks for much and reads nothing.
                let mut socket = TcpStream::connect(address).await.unwrap();
                socket.write_all(begin.as_bytes()).await.unwrap();
                sleep(Duration::from_secs(3600)).await;
            }
            loop {
                drip(address, begin.clone(), Duration::from_millis(500)).await;
            }
        });
    }
    // They are all connected when the gateway says so.
    let open = || async {
        let scrape = gateway.scrape().await;
        let sum = super::harness::metrics::sum(&scrape, "portcullis_worker_connections", &[]);
        (sum >= crowd as f64 * 0.9).then_some(())
    };
    super::harness::eventually("the crowd is connected", open).await;
    let (p50, p99) = percentiles(latencies(&gateway, &token, time).await);
    let grown = rss_kib(pid).saturating_sub(before);
    slow.abort_all();
    println!(
        "{crowd} slow clients: p50 {p50_alone:.2} → {p50:.2} ms, p99 {p99_alone:.2} → {p99:.2} ms \
         (× {:.2}), {grown} KiB more",
        p99 / p99_alone
    );
    let each = grown / crowd as u64;
    assert!(each < 512, "{each} KiB for each slow client");
    p99 / p99_alone
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_hardly_notice_slow_clients() {
    let ratio = beside_slow_clients(150, Duration::from_secs(2)).await;
    // On a machine that does other things at the same time a tail says little.
    assert!(ratio < 20.0, "× {ratio:.1}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "compares latencies: wants a quiet machine and a release build"]
async fn others_p99_stays_below_twice_beside_slow_clients() {
    let mut ratios = Vec::new();
    for _ in 0..3 {
        ratios.push(beside_slow_clients(600, Duration::from_secs(10)).await);
    }
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[1] < 2.0, "{ratios:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "waits for the deadlines that a gateway has by default: 80 s"]
async fn default_deadlines_hold() {
    let upstream = upstream();
    let gateway = gateway(&upstream).await;
    let token = gateway.token().await;
    let get = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")
    };
    let (hello, big, url) = (get("/hello"), get("/big"), gateway.proxy.to_string());
    let idle = async {
        let mut client = RawClient::connect(&url).await;
        client.send(&hello).await;
        client.answer(false).await.expect("an answer");
        let started = Instant::now();
        assert!(
            timeout(Duration::from_secs(90), client.ended())
                .await
                .is_ok()
        );
        started.elapsed()
    };
    let unread = async {
        let open = || async {
            let scrape = gateway.scrape().await;
            super::harness::metrics::sum(&scrape, "portcullis_worker_connections", &[])
        };
        let (before, base) = (rss_kib(gateway.pid()), open().await);
        let mut sockets = Vec::new();
        for _ in 0..30 {
            let mut socket = TcpStream::connect(gateway.proxy).await.unwrap();
            socket.write_all(big.as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        let mut most = before;
        let started = Instant::now();
        sleep(Duration::from_secs(1)).await;
        // But for the idle one beside it.
        while open().await > base + 1.0 {
            most = most.max(rss_kib(gateway.pid()));
            assert!(started.elapsed() < Duration::from_secs(60), "never closed");
            sleep(Duration::from_millis(100)).await;
        }
        println!(
            "30 clients that read nothing of 64 MiB: {} KiB more, closed after {:.1?}",
            most.saturating_sub(before),
            started.elapsed()
        );
        let grown = most.saturating_sub(before);
        assert!(grown < 64 * 1024, "{grown} KiB");
        started.elapsed()
    };
    let (idle, unread) = tokio::join!(idle, unread);
    println!("idle connection closed after {idle:.1?}");
    assert!((74..80).contains(&idle.as_secs()), "{idle:?}");
    assert!(unread < Duration::from_secs(40), "{unread:?}");
}
