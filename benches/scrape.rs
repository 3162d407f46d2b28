//! What a scrape costs a large gateway: 200 routes, 50 upstream endpoints, 64 keys, and every series
//! has counted something. Bounds that hold in every run: 2 MiB of text, 200 KiB compressed; and in an
//! optimised build 25 ms for a whole scrape over the listener, compression included.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make undocumented functions"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use harness::{Gateway, Options};
use portcullis::app::App;
use portcullis::keygen::RingKeyGenerator;
use portcullis::keys::Actor;
use portcullis::lifecycle::Lifecycle;
use portcullis::listeners::{Ephemeral, Shared, Sources, Stop, start_on_ephemeral};
use portcullis::telemetry::{
    CacheLookup, CodeClass, FailureCause, Grant, KeyStateLabel, Metrics, RotationKind,
    RotationResult, TokenError, Trigger,
};
use portcullis::token::Rejection;

const ROUTES: usize = 200;
const ENDPOINTS: usize = 50;
const KEYS: usize = 64;

const MAX_BYTES: usize = 2 << 20;
const MAX_PACKED: usize = 200 << 10;
const MAX_TIME: Duration = Duration::from_millis(25);

/// A value may grow by so many characters in the life of a process.
const LONGER_VALUE: usize = 10;

struct Large {
    app: App,
    url: String,
    _gateway: Gateway,
    _listener: Ephemeral,
}

impl Large {
    async fn start() -> Self {
        let upstreams = (0..ENDPOINTS).map(|number| {
            let port = 20_000 + number;
            format!("  upstream-{number:02}: {{ endpoints: [\"127.0.0.1:{port}\"] }}\n")
        });
        let routes = (0..ROUTES).map(|number| {
            format!(
                "  - {{ name: route-{number:03}, match: {{ prefix: /route-{number:03}, methods: [GET, POST] }}, \
                 auth: {{}}, upstream: upstream-{:02} }}\n",
                number % ENDPOINTS
            )
        });
        let gateway = Gateway::start(Options {
            keygen: Arc::new(RingKeyGenerator),
            // Long enough that no key of the many retires.
            token_ttl: "24h",
            upstreams: upstreams.collect(),
            routes: format!("routes:\n{}", routes.collect::<String>()),
            ..Options::default()
        })
        .await;
        let order = || Lifecycle::order(Actor::Admin("bench".to_owned()), None);
        while gateway.lifecycle.current_set().verifying().count() < KEYS {
            gateway.clock.advance(Duration::from_secs(601));
            let done = gateway
                .lifecycle
                .rotate(&order())
                .await
                .expect("it rotates");
            assert!(done.changed);
        }
        // The same once more, so that its metrics are at hand.
        let app = App::build(&gateway.config, gateway.env.clone(), Arc::new(|| false)).await;
        let app = app.expect("the application starts");
        move_everything(&app.metrics);
        let stop = Stop::new(gateway.config.server.shutdown_grace);
        let shared = Shared::new(stop, &gateway.config.limits, app.refusals());
        let sources = Sources::new(gateway.config.limits.max_connections_per_address);
        let listener = start_on_ephemeral(app.metrics_app(), None, &sources, &shared);
        let listener = listener.expect("the metrics listener");
        Self {
            app,
            url: format!("http://{}/metrics", listener.address),
            _gateway: gateway,
            _listener: listener,
        }
    }
}

/// No series is left out of a scrape, and none is a bare 0.
fn move_everything(metrics: &Metrics) {
    let names = (0..ROUTES).map(|number| format!("route-{number:03}"));
    for name in names.chain(["issuer".to_owned(), "none".to_owned()]) {
        let route = metrics.route(&name).expect("a route");
        for reason in Rejection::ALL {
            route.denied(reason);
        }
        for state in KeyStateLabel::ALL {
            route.allowed(*state);
        }
        for cause in FailureCause::ALL {
            route.failed(*cause);
        }
        route.public();
        for method in ["GET", "POST", "TRACE"] {
            for code in CodeClass::ALL {
                route.observe(method, *code, 0.012_345_678);
            }
        }
    }
    for number in 0..ENDPOINTS {
        let upstream = metrics.upstream(&format!("upstream-{number:02}"));
        upstream.expect("an upstream").observe(0.012_345_678);
    }
    for lookup in CacheLookup::ALL {
        metrics.auth_duration(*lookup, 0.000_012_345_678);
    }
    for trigger in Trigger::ALL {
        for kind in RotationKind::ALL {
            for result in RotationResult::ALL {
                metrics.rotation(*trigger, *kind, *result, 0.012_345_678);
            }
        }
    }
    metrics.token_issued(Grant::ClientCredentials);
    for error in TokenError::ALL {
        metrics.token_error(*error);
    }
}

async fn scrape(http: &reqwest::Client, url: &str, coding: &str) -> bytes::Bytes {
    let request = http.get(url).header("accept-encoding", coding);
    let response = request.send().await.expect("a scrape");
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("a body")
}

fn large_scrape(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let large = runtime.block_on(Large::start());
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");

    let text = runtime.block_on(scrape(&http, &large.url, "identity"));
    let packed = runtime.block_on(scrape(&http, &large.url, "gzip"));
    let lines = text.split(|byte| *byte == b'\n');
    let series = lines
        .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
        .count();
    println!(
        "{series} series, {} KiB, compressed {} KiB",
        text.len() >> 10,
        packed.len() >> 10
    );
    let grown = text.len() + series * LONGER_VALUE;
    assert!(grown < MAX_BYTES, "{} bytes may become {grown}", text.len());
    assert!(
        packed.len() < MAX_PACKED,
        "{} bytes compressed",
        packed.len()
    );
    if !cfg!(debug_assertions) {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let started = Instant::now();
                let _body = runtime.block_on(scrape(&http, &large.url, "gzip"));
                started.elapsed()
            })
            .collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        assert!(median < MAX_TIME, "a scrape takes {median:?}");
    }

    let mut group = c.benchmark_group("scrape");
    group.sample_size(20);
    group.bench_function("text", |b| b.iter(|| large.app.metrics.render()));
    for (name, coding) in [("whole", "identity"), ("whole, compressed", "gzip")] {
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(scrape(&http, &large.url, coding)));
        });
    }
    group.finish();
}

criterion_group!(benches, large_scrape);
criterion_main!(benches);
