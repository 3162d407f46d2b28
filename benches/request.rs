//! What a whole request costs in the gateway: Pingora's HTTP/1 parser, limits, route, token and
//! answer, over an in-memory connection that is kept alive; with an upstream over loopback where
//! one is asked.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make undocumented functions"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harness::collector::Collector;
use harness::{Gateway, Options};
use pingora::apps::ServerApp as _;
use pingora::proxy::http_proxy;
use portcullis::app::App;
use portcullis::keys::Algorithm;
use portcullis::listeners::server_conf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;

/// The client's end of an in-memory connection to a gateway.
struct Client {
    stream: DuplexStream,
    buffer: Vec<u8>,
    _running: watch::Sender<bool>,
}

impl Client {
    /// Builds the application of `gateway` once more, without a listener.
    async fn of(gateway: &Gateway) -> Self {
        let app = App::build(&gateway.config, gateway.env.clone(), Arc::new(|| false)).await;
        let proxy = app
            .expect("the application starts")
            .gateway(&gateway.config.listeners.proxy[0], 0);
        let conf = Arc::new(server_conf(gateway.config.server.shutdown_grace));
        let proxy = Arc::new(http_proxy(&conf, proxy));
        let (stream, far_end) = tokio::io::duplex(64 * 1024);
        let (running, shutdown) = watch::channel(false);
        tokio::spawn(async move {
            let mut next: Option<pingora::protocols::Stream> = Some(Box::new(far_end));
            while let Some(stream) = next {
                next = proxy.process_new(stream, &shutdown).await;
            }
        });
        Self {
            stream,
            buffer: Vec::with_capacity(4096),
            _running: running,
        }
    }

    /// Sends a request and reads its answer, which has a Content-Length; gives the status back.
    async fn exchange(&mut self, request: &[u8]) -> u16 {
        self.stream
            .write_all(request)
            .await
            .expect("the gateway reads");
        self.buffer.clear();
        loop {
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .expect("the gateway answers");
            assert_ne!(read, 0, "the connection was closed");
            if let Some(status) = whole(&self.buffer) {
                return status;
            }
        }
    }
}

/// The status of an answer that has arrived whole.
fn whole(buffer: &[u8]) -> Option<u16> {
    let head_len = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..head_len]).ok()?;
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())
            .flatten()
    };
    let length = head.lines().find_map(field).expect("a Content-Length");
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (buffer.len() >= head_len + length).then_some(status)
}

fn whole_request(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    for algorithm in Algorithm::ALL {
        let options = Options {
            algorithm,
            ..Options::default()
        };
        let gateway = runtime.block_on(Gateway::start(options));
        let token = runtime.block_on(gateway.token());
        let mut client = runtime.block_on(Client::of(&gateway));
        let get = |path: &str, fields: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
        };
        let bearer = format!("Authorization: Bearer {token}\r\n");
        let cases = [
            (
                "allowed, to the upstream and back",
                get("/hello", &bearer),
                200,
            ),
            (
                "wrong audience, verified and refused",
                get("/other", &bearer),
                401,
            ),
            (
                "malformed token, refused",
                get("/hello", "Authorization: Bearer abc\r\n"),
                401,
            ),
        ];
        for (name, request, status) in &cases {
            group.bench_function(BenchmarkId::new(*name, algorithm), |b| {
                b.iter_custom(|times| {
                    let started = std::time::Instant::now();
                    runtime.block_on(async {
                        for _ in 0..times {
                            assert_eq!(client.exchange(request).await, *status);
                        }
                    });
                    started.elapsed()
                });
            });
        }
        if algorithm == Algorithm::Es256 {
            for (name, request, status) in [
                ("public, to the upstream and back", get("/public", ""), 200),
                ("no token, refused", get("/hello", ""), 401),
                ("the JWKS", get("/.well-known/jwks.json", ""), 200),
            ] {
                group.bench_function(name, |b| {
                    b.iter_custom(|times| {
                        let started = std::time::Instant::now();
                        runtime.block_on(async {
                            for _ in 0..times {
                                assert_eq!(client.exchange(&request).await, status);
                            }
                        });
                        started.elapsed()
                    });
                });
            }
        }
    }
    group.finish();
}

/// The same request with each way of keeping records of it, side by side.
fn records(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.log");
    let collector = runtime.block_on(async { Collector::start() });
    let to_file = |more: &str| format!("access_log: {{ target: {}{more} }}\n", file.display());
    let mut group = c.benchmark_group("records");
    group.throughput(Throughput::Elements(1));
    for (name, more) in [
        ("off", String::new()),
        ("access log, json", to_file("")),
        ("access log, common", to_file(", format: common")),
        ("access log, 1 in 100", to_file(", sample_successes: 0.01")),
        (
            "traces, none recorded",
            collector
                .section("")
                .replace("sample_ratio: 1", "sample_ratio: 0"),
        ),
        (
            "traces, 1 in 100",
            collector
                .section("")
                .replace("sample_ratio: 1", "sample_ratio: 0.01"),
        ),
        ("traces, all recorded", collector.section("")),
    ] {
        let gateway = runtime.block_on(Gateway::start(Options {
            more,
            ..Options::default()
        }));
        let token = runtime.block_on(gateway.token());
        let mut client = runtime.block_on(Client::of(&gateway));
        let request =
            format!("GET /hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let started = std::time::Instant::now();
                runtime.block_on(async {
                    for _ in 0..times {
                        assert_eq!(client.exchange(request.as_bytes()).await, 200);
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, whole_request, records);
criterion_main!(benches);
