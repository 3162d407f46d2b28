//! No request costs a hundred times what a good one costs, in processor time or in memory.

use std::time::{Duration, Instant};

use super::harness::forge::encode;
use super::harness::process::Setup;
use super::harness::raw::RawClient;
use super::harness::upstream::Upstream;
use super::harness::usage::{Cpu, rss_kib};
use super::harness::{Process, SECRET, kid};

/// Of each kind.
const REQUESTS: u32 = 200;

/// How long the process is looked at while nothing is asked of it.
const IDLE: Duration = Duration::from_millis(1500);

/// What the goal allows.
const MOST: f64 = 100.0;

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn token_request(credentials: &str, more: &str) -> String {
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(credentials);
    let body = format!("grant_type=client_credentials{more}");
    format!(
        "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The requests, but for one none of more than 64 KiB: name, bytes, the statuses that are right.
fn kinds(good: &str, purged: &str) -> Vec<(&'static str, String, &'static [u16])> {
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (purged_signed, _) = purged.rsplit_once('.').unwrap();
    let other = encode([7; 64]);
    let nested = format!("{}1{}", "[".repeat(2900), "]".repeat(2900));
    let unknown = encode(r#"{"alg":"ES256","kid":"nobody","typ":"at+jwt"}"#);
    let crowded = format!(
        r#"{{"alg":"ES256","kid":"{}","typ":"at+jwt"{}}}"#,
        kid(good),
        r#","a":1"#.repeat(700)
    );
    let post = |fields: &str, body: &str| {
        format!(
            "POST /hello HTTP/1.1\r\nHost: a\r\n{}{fields}\r\n{body}",
            bearer(good)
        )
    };
    let chunks = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(10_000));
    let few_chunks = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(650));
    let fair_chunks = format!(
        "{}0\r\n\r\n",
        format!("48\r\n{}\r\n", "x".repeat(72)).repeat(800)
    );
    let extended = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(60_000));
    let many_fields: String = (0..95)
        .map(|n| format!("x-{n}: {}\r\n", "y".repeat(300)))
        .collect();
    vec![
        ("a good token, known", get("/hello", &bearer(good)), &[200]),
        ("no token", get("/hello", ""), &[401]),
        (
            "another signature",
            get("/hello", &bearer(&format!("{signed}.{other}"))),
            &[401],
        ),
        (
            "another signature, purged key",
            get("/hello", &bearer(&format!("{purged_signed}.{other}"))),
            &[401],
        ),
        (
            "a purged key's token",
            get("/hello", &bearer(purged)),
            &[401],
        ),
        (
            "an unknown key",
            get("/hello", &bearer(&format!("{unknown}.e30.{signature}"))),
            &[401],
        ),
        (
            "8 KiB of token",
            get("/hello", &bearer(&"a".repeat(8192))),
            &[401],
        ),
        (
            "8 KiB of dots",
            get("/hello", &bearer(&".".repeat(8192))),
            &[401],
        ),
        (
            "a header 2,900 deep",
            get(
                "/hello",
                &bearer(&format!("{}.e30.{signature}", encode(nested))),
            ),
            &[401],
        ),
        (
            "a header with 700 names twice",
            get(
                "/hello",
                &bearer(&format!("{}.e30.{signature}", encode(crowded))),
            ),
            &[401],
        ),
        (
            "20 KiB of Authorization",
            get("/hello", &bearer(&"b".repeat(20_000))),
            &[400],
        ),
        (
            "95 fields, 29 KiB",
            get("/hello", &format!("{}{many_fields}", bearer(good))),
            &[200],
        ),
        (
            "a path of 10,000 encoded letters",
            get(&format!("/{}", "%41".repeat(10_000)), &bearer(good)),
            &[200],
        ),
        (
            "a path of 15,000 segments",
            get(&"/a".repeat(15_000), &bearer(good)),
            &[200],
        ),
        (
            "a query of 30 KiB",
            get(&format!("/?{}", "a=b&".repeat(7_500)), &bearer(good)),
            &[200],
        ),
        ("no route", get("//", ""), &[400]),
        (
            "60 KiB of header",
            get("/hello", &format!("X: {}\r\n", "z".repeat(60_000))),
            &[431],
        ),
        (
            "10,000 chunks of a byte",
            post("Transfer-Encoding: chunked\r\n", &chunks),
            &[200],
        ),
        (
            "650 chunks of a byte",
            post("Transfer-Encoding: chunked\r\n", &few_chunks),
            &[200],
        ),
        (
            "800 chunks of 72 bytes",
            post("Transfer-Encoding: chunked\r\n", &fair_chunks),
            &[200],
        ),
        (
            "16,000 chunks of 65 bytes",
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!(
                    "{}0\r\n\r\n",
                    format!("41\r\n{}\r\n", "x".repeat(65)).repeat(16_000)
                ),
            ),
            &[200],
        ),
        (
            "60 KiB of chunk extension",
            post("Transfer-Encoding: chunked\r\n", &extended),
            &[400],
        ),
        (
            "a body of 60 KiB",
            post("Content-Length: 60000\r\n", &"x".repeat(60_000)),
            &[200],
        ),
        (
            "an ambiguous length",
            post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", ""),
            &[400],
        ),
        ("JWKS", get("/.well-known/jwks.json", ""), &[200]),
        (
            "metadata",
            get("/.well-known/oauth-authorization-server", ""),
            &[200],
        ),
        (
            "a token request",
            token_request(&format!("demo:{SECRET}"), ""),
            &[200],
        ),
        ("a wrong secret", token_request("demo:wrong", ""), &[401]),
        (
            "a token request with 5,000 parameters",
            token_request(
                "demo:wrong",
                &(0..5_000).fold(String::new(), |all, n| format!("{all}&a{n}=b")),
            ),
            &[400, 401, 413],
        ),
        (
            "a token request in 3,000 chunks of a byte",
            format!(
                "POST /oauth2/token HTTP/1.1\r\nHost: a\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\
                 Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
                "1\r\na\r\n".repeat(3_000)
            ),
            &[400, 401],
        ),
        (
            "a token request with 1,000 scopes",
            token_request(
                &format!("demo:{SECRET}"),
                &format!("&scope={}", "read+".repeat(1_000)),
            ),
            &[400],
        ),
    ]
}

async fn start(upstream: &Upstream) -> (Process, String, String) {
    let gateway = Process::start(&Setup {
        more: "server: { workers: 1 }\nlimits: { forged_tokens: off }".to_owned(),
        ..Setup::new(upstream.address)
    })
    .await;
    let purged = gateway.token().await;
    gateway.purge().await;
    let good = gateway.token().await;
    (gateway, good, purged)
}

/// Processor time of one request, in microseconds, the mean of so many.
async fn cost(gateway: &Process, times: u32, request: &str, right: &[u16]) -> f64 {
    let url = gateway.proxy.to_string();
    let mut client = RawClient::connect(&url).await;
    let mut ask = async |times: u32| {
        for _ in 0..times {
            client.send(request).await;
            let answer = match client.answer(false).await {
                Some(answer) => answer,
                None => {
                    client = RawClient::connect(&url).await;
                    client.send(request).await;
                    client.answer(false).await.expect("an answer")
                }
            };
            assert!(
                right.contains(&answer.status),
                "{}: {answer:?}",
                &request[..60]
            );
            if answer.header("connection") == Some("close") {
                client = RawClient::connect(&url).await;
            }
        }
    };
    ask(times.min(10)).await;
    let mut cpu = Cpu::default();
    let (before, started) = (cpu.ns(gateway.pid()), Instant::now());
    ask(times).await;
    let (after, took) = (cpu.ns(gateway.pid()), started.elapsed());
    // What the process does anyhow, which counts where a request takes its time.
    tokio::time::sleep(IDLE.min(took)).await;
    let idle = (cpu.ns(gateway.pid()) - after) as f64 * took.as_secs_f64()
        / started.elapsed().saturating_sub(took).as_secs_f64();
    ((after - before) as f64 - idle).max(0.0) / 1000.0 / f64::from(times)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_a_hundred_times_the_processor_time_of_a_good_one() {
    let upstream = Upstream::of(axum::Router::new().fallback(|_: bytes::Bytes| async { "ok" }));
    let (gateway, good, purged) = start(&upstream).await;
    let mut baseline = None;
    println!("| request | µs | times a good one |");
    for (name, request, right) in kinds(&good, &purged) {
        // Bodies in many pieces are taken at a pace.
        let times = if name.contains("chunks") {
            10
        } else {
            REQUESTS
        };
        let micros = cost(&gateway, times, &request, right).await;
        let ratio = micros / *baseline.get_or_insert(micros);
        println!("| {name} | {micros:.0} | {ratio:.1} |");
        assert!(
            ratio < MOST,
            "{name}: {micros:.0} µs, {ratio:.0} times a good request"
        );
    }
}

/// The one exception, and only where an installation has a client secret that a person chose: each wrong
/// secret costs an argon2id. At most four run at a time, the others are told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_secrets_that_cost_a_slow_hash_are_bounded_in_number() {
    let upstream = Upstream::of(axum::Router::new().fallback(|_: bytes::Bytes| async { "ok" }));
    let hash = portcullis::clients::SecretHash::of_human(
        b"correct horse battery staple",
        &ring::rand::SystemRandom::new(),
    );
    let gateway = Process::start(&Setup {
        clients: format!(
            "  - {{ id: human, secret_hash: \"{}\", scopes: [read] }}\n",
            hash.expect("a hash")
        ),
        ..Setup::new(upstream.address)
    })
    .await;
    let good = gateway.token().await;
    let wrong = token_request("nobody:wrong", "");
    let known = get("/hello", &format!("Authorization: Bearer {good}\r\n"));
    let good_micros = cost(&gateway, REQUESTS, &known, &[200]).await;
    let wrong_micros = cost(&gateway, 10, &wrong, &[401]).await;
    // A flood of them, one answer a connection.
    let before = rss_kib(gateway.pid());
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (url, wrong) = (gateway.proxy.to_string(), wrong.clone());
        flood.spawn(async move {
            let mut client = RawClient::connect(&url).await;
            client.send(&wrong).await;
            client.answer(false).await.expect("an answer").status
        });
    }
    let mut statuses = std::collections::BTreeMap::new();
    let mut most = before;
    while let Some(status) = flood.join_next().await {
        *statuses.entry(status.unwrap()).or_insert(0) += 1;
        most = most.max(rss_kib(gateway.pid()));
    }
    println!(
        "a wrong secret with argon2id: {wrong_micros:.0} µs, {:.0} times a good request; of 64 at once {statuses:?}, {} KiB more",
        wrong_micros / good_micros,
        most.saturating_sub(before)
    );
    assert!(
        statuses.keys().all(|status| [401, 503].contains(status)),
        "{statuses:?}"
    );
    let grown = most.saturating_sub(before);
    assert!(grown < 160 * 1024, "{grown} KiB");
    assert_eq!(gateway.status(&good).await, 200);
}

/// A crowd that all holds the same kind of request open: memory of one, in KiB.
async fn held(gateway: &Process, begin: &[u8], parts: usize) -> u64 {
    const CROWD: u64 = 64;
    let before = rss_kib(gateway.pid());
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut client = RawClient::connect(&gateway.proxy.to_string()).await;
        for _ in 0..parts {
            // As much as is taken; the rest stays with the kernel.
            let sending = client.send(begin);
            let _full = tokio::time::timeout(Duration::from_millis(50), sending).await;
        }
        crowd.push(client);
    }
    let open = || async {
        let scrape = gateway.scrape().await;
        let open = super::harness::metrics::sum(&scrape, "portcullis_worker_connections", &[]);
        (open >= CROWD as f64).then_some(())
    };
    super::harness::eventually("the crowd is there", open).await;
    // Nothing more is on its way once memory stands still.
    let mut most = rss_kib(gateway.pid());
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(rss_kib(gateway.pid()));
    }
    most.saturating_sub(before) / CROWD
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_takes_a_hundred_times_the_memory_of_a_good_one() {
    // Never answers.
    let upstream = Upstream::of(axum::Router::new().fallback(|| async {
        std::future::pending::<()>().await;
        "never"
    }));
    println!("| held open by 64 clients | KiB each |");
    let mut baseline = None;
    for (name, begin, parts) in [
        ("a good request that waits for its answer", "GET /hello HTTP/1.1\r\nHost: a\r\n@\r\n".to_owned(), 1),
        ("nothing at all", String::new(), 1),
        ("60 KiB of a header", format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(60_000)), 1),
        ("a complete header of 30 KiB", format!("GET / HTTP/1.1\r\nHost: a\r\n@X: {}\r\n\r\n", "x".repeat(30_000)), 1),
        ("a body that nobody reads", format!("POST / HTTP/1.1\r\nHost: a\r\n@Content-Length: 9000000\r\n\r\n{}", "x".repeat(60_000)), 1),
        ("a token request without its end", "POST /oauth2/token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\na".to_owned(), 1),
    ] {
        let (gateway, good, _) = start(&upstream).await;
        let begin = begin.replace('@', &format!("Authorization: Bearer {good}\r\n"));
        let each = held(&gateway, begin.as_bytes(), parts).await;
        println!("| {name} | {each} |");
        let limit = *baseline.get_or_insert_with(|| each.max(8)) as f64 * MOST;
        assert!((each as f64) < limit, "{name}: {each} KiB");
    }
}
