//! The workers of one port: several really serve, and a flood on them cannot delay a purge.

#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::process::Setup;
use harness::raw::RawClient;
use harness::upstream::Upstream;
use harness::{Process, eventually, metrics};

/// Enough that all of them on one of two workers is out of the question (2 in 2³²).
const CONNECTIONS: usize = 33;

/// Clients of the flood, each one request after the other.
const FLOODERS: usize = 6;

/// Purges under the flood.
const PURGES: usize = 7;

/// What a purge may take under a flood; the median, because a disk that is busy with something else
/// can hold any single one up.
const IN_TIME: Duration = Duration::from_secs(1);

async fn start(server: &str) -> (Upstream, Process) {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup {
        more: format!("server: {server}"),
        ..Setup::new(upstream.address)
    })
    .await;
    (upstream, gateway)
}

/// How many connections each worker has open, by its number.
async fn spread(gateway: &Process, services: usize) -> Vec<f64> {
    let scrape = gateway.scrape().await;
    let of = |number| {
        let worker = format!("proxy {} worker {number}", gateway.proxy);
        metrics::value(
            &scrape,
            "portcullis_worker_connections",
            &[("worker", &worker)],
        )
    };
    (0..services).map(of).collect()
}

/// The spread, as soon as it adds up to `open` connections.
async fn settled(gateway: &Process, services: usize, open: usize) -> Vec<f64> {
    eventually("the connections are counted", || async {
        let spread = spread(gateway, services).await;
        let sum: f64 = spread.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a few dozen")]
        (sum == open as f64).then_some(spread)
    })
    .await
}

/// Opens connections and has each serve two requests.
async fn open(gateway: &Process) -> Vec<RawClient> {
    let token = gateway.token().await;
    let request = format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = RawClient::connect(&gateway.url("")).await;
        for _ in 0..2 {
            client.send(&request).await;
            assert_eq!(client.answer(false).await.expect("an answer").status, 200);
        }
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn every_worker_of_a_port_serves() {
    let (_upstream, gateway) = start("{ workers: 2 }").await;
    // The client that fetches tokens keeps its connection.
    let clients = open(&gateway).await;
    let spread = settled(&gateway, 2, CONNECTIONS + 1).await;
    assert!(
        spread.iter().all(|connections| *connections > 0.0),
        "{spread:?}"
    );
    drop(clients);
    settled(&gateway, 2, 1).await;

    // With SO_REUSEPORT the kernel would let a second gateway share the port.
    let mut second = Process::configure(&Setup::new("127.0.0.1:9"));
    second.proxy = gateway.proxy;
    let path = second.dir.path().join("portcullis.yaml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let listeners = text.lines().find(|line| line.starts_with("  proxy:"));
    let shared = format!("  proxy: {{ address: {} }}", gateway.proxy);
    let text = text.replace(listeners.expect("a listener"), &shared);
    std::fs::write(&path, format!("{text}\nserver: {{ workers: 2 }}\n")).expect("it is written");
    assert!(second.run(&["init"]).status.success());
    let refused = second.refused(&["serve"]).await;
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("another program"),
        "{}",
        refused.stderr
    );
}

#[tokio::test]
async fn without_sharding_one_service_takes_all_connections() {
    let (_upstream, gateway) = start("{ workers: 2, sharding: false }").await;
    let clients = open(&gateway).await;
    settled(&gateway, 1, CONNECTIONS + 1).await;
    assert!(!gateway.scrape().await.contains("worker 1\""));
    drop(clients);
    assert_eq!(gateway.purge().await["changed"], true);
}

#[tokio::test]
async fn more_sockets_than_can_be_handed_over_are_refused_with_the_numbers() {
    let process = Process::configure(&Setup {
        more: "server: { workers: 20 }".to_owned(),
        proxy: "}, { address: 127.0.0.1:1".to_owned(),
        ..Setup::new("127.0.0.1:9")
    });
    let path = process.dir.path().join("portcullis.yaml");
    let text = std::fs::read_to_string(&path).expect("the configuration");
    let listed = text
        .replace("  proxy: { ", "  proxy: [{ ")
        .replace("127.0.0.1:1 }", "127.0.0.1:1 }]");
    std::fs::write(&path, listed).expect("it is written");
    let refused = process.refused(&["serve"]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let numbers = "≤ 24 sockets; with 2 proxy listeners and 2 others at most 11 workers";
    assert!(refused.stderr.contains(numbers), "{}", refused.stderr);
}

/// Sends forged tokens as fast as answers come, until told to stop; counts the answers.
fn flood(address: SocketAddr, request: &[u8], over: &AtomicBool, answers: &AtomicU64) {
    let mut buffer = [0_u8; 8192];
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else {
            continue;
        };
        let _any = stream.set_read_timeout(Some(Duration::from_secs(5)));
        while !over.load(Ordering::Relaxed) && stream.write_all(request).is_ok() {
            // One answer is smaller than the buffer and arrives in one piece or two; a rest is read
            // as the beginning of the next answer, which a flood does not mind.
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => answers.fetch_add(1, Ordering::Relaxed),
                _ => break,
            };
        }
    }
}

/// A token of ours whose signature is another one of the right length: it costs a verification.
fn forged(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').expect("a compact token");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", &signature[1..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_forged_tokens_does_not_delay_a_purge() {
    let (_upstream, gateway) = start("{ workers: 2 }").await;
    let token = forged(&gateway.token().await);
    let request: Arc<[u8]> =
        format!("GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n")
            .into_bytes()
            .into();
    let (over, answers) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
    let flooders: Vec<_> = (0..FLOODERS)
        .map(|_| {
            let (over, answers) = (Arc::clone(&over), Arc::clone(&answers));
            let (request, address) = (Arc::clone(&request), gateway.proxy);
            std::thread::spawn(move || flood(address, &request, &over, &answers))
        })
        .collect();
    eventually("the flood", || async {
        (answers.load(Ordering::Relaxed) > 1000).then_some(())
    })
    .await;

    let mut took = Vec::new();
    for _ in 0..PURGES {
        let before = answers.load(Ordering::Relaxed);
        let started = Instant::now();
        let receipt = gateway.purge().await;
        took.push(started.elapsed());
        assert_eq!(receipt["changed"], true, "{receipt}");
        // The flood went on meanwhile.
        eventually("the flood goes on", || async {
            (answers.load(Ordering::Relaxed) > before).then_some(())
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    for flooder in flooders {
        flooder.join().expect("a flooder ends");
    }

    let scrape = gateway.scrape().await;
    let denied = |reason| {
        metrics::sum(
            &scrape,
            "portcullis_auth_denied_total",
            &[("reason", reason)],
        )
    };
    println!(
        "{FLOODERS} clients, {} answers, {} verified, purges took {took:?}",
        answers.load(Ordering::Relaxed),
        denied("bad_signature")
    );
    assert!(denied("bad_signature") > 0.0);
    took.sort_unstable();
    assert!(took[PURGES / 2] < IN_TIME, "{took:?}");
}
