//! What the life cycle costs: new keys, a plain rotation and a purge, each through the whole of
//! load, decision, commit, publication and (for a purge) drain.

#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make undocumented functions"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::{Gateway, Options};
use portcullis::keygen::{KeyGenerator as _, RingKeyGenerator};
use portcullis::keys::{Actor, Algorithm};
use portcullis::lifecycle::Lifecycle;

fn generate(c: &mut Criterion) {
    let mut group = c.benchmark_group("generate");
    group.sample_size(10);
    for alg in Algorithm::ALL {
        group.bench_function(alg.as_str(), |b| {
            b.iter(|| RingKeyGenerator.generate(alg).expect("a key"))
        });
    }
    group.finish();
}

fn rotate_and_purge(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("life cycle");
    group.sample_size(20);
    for (store, file_store) in [("memory", false), ("file", true)] {
        let options = Options {
            file_store,
            keygen: Arc::new(RingKeyGenerator),
            ..Options::default()
        };
        let gateway = runtime.block_on(Gateway::start(options));
        let order = || Lifecycle::order(Actor::Admin("bench".to_owned()), None);
        group.bench_function(BenchmarkId::new("rotate", store), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        // Beyond the window, and so far that what was deprecated before is retired.
                        gateway.clock.advance(Duration::from_secs(2 * 3600));
                        gateway.lifecycle.tick().await.expect("what is due is done");
                        gateway.clock.advance(Duration::from_secs(600));
                        let started = Instant::now();
                        assert!(
                            gateway
                                .lifecycle
                                .rotate(&order())
                                .await
                                .expect("it rotates")
                                .changed
                        );
                        took += started.elapsed();
                    }
                    took
                })
            });
        });
        group.bench_function(BenchmarkId::new("rotate inside the window", store), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..times {
                        assert!(
                            !gateway
                                .lifecycle
                                .rotate(&order())
                                .await
                                .expect("an answer")
                                .changed
                        );
                    }
                    started.elapsed()
                })
            });
        });
        group.bench_function(BenchmarkId::new("purge", store), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut took = Duration::ZERO;
                    for _ in 0..times {
                        // Tombstones of purges last for a week.
                        gateway.clock.advance(Duration::from_secs(24 * 3600 - 1));
                        gateway.lifecycle.tick().await.expect("what is due is done");
                        let seen = gateway.lifecycle.current_set().revision;
                        let started = Instant::now();
                        assert!(
                            gateway
                                .lifecycle
                                .purge(&order(), seen)
                                .await
                                .expect("it purges")
                                .changed
                        );
                        took += started.elapsed();
                    }
                    took
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, generate, rotate_and_purge);
criterion_main!(benches);
