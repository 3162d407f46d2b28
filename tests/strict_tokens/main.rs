//! What is no token is refused, for the one stated reason; what is one is accepted, however odd it
//! looks. Tables of requests through real listeners, once for every kind of key.
//!
//! Each refusal is looked at from outside and inside: status, `WWW-Authenticate` to the byte, body,
//! one log line under the Log ID of the answer, and the counters of the whole table.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it counted"
)]

#[path = "../harness/mod.rs"]
mod harness;

mod cases;
mod claims;
mod dead_keys;
mod headers;
mod holder;
mod json;
mod legitimate;
mod requests;
mod segments;
mod signatures;
mod vectors;

use cases::{Case, run};
use holder::{Holder, House};
use portcullis::keys::Algorithm;

/// Sends every hostile request that a key's holder or a thief of its tokens could send.
async fn hostile(house: &House, holder: &Holder) {
    // The borders first: they hold for the second in which they were made.
    run(house, &claims::borders(house, holder)).await;
    let tables: Vec<Case> = [
        headers::hostile(house, holder),
        headers::broken_json(house, holder),
        claims::hostile(house, holder),
        claims::broken_json(house, holder),
        segments::hostile(house, holder),
        signatures::hostile(house, holder),
        requests::hostile(house, holder),
    ]
    .concat();
    let names = run(house, &tables).await;
    assert!(names.len() >= 300, "only {} hostile requests", names.len());
    println!("{}: {} hostile requests", holder.name(), names.len());
}

async fn ours(algorithm: Algorithm) {
    let house = House::new(algorithm).await;
    hostile(&house, &house.ours).await;
}

async fn former(algorithm: Algorithm) {
    let house = House::new(Algorithm::Es256).await;
    let holder = house.former(algorithm);
    hostile(&house, holder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_es256_key() {
    Box::pin(ours(Algorithm::Es256)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_eddsa_key() {
    Box::pin(ours(Algorithm::EdDsa)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_rs256_key() {
    Box::pin(ours(Algorithm::Rs256)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_imported_es256_key() {
    Box::pin(former(Algorithm::Es256)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_imported_eddsa_key() {
    Box::pin(former(Algorithm::EdDsa)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_on_an_imported_rs256_key() {
    Box::pin(former(Algorithm::Rs256)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_but_legitimate_requests_are_accepted() {
    for algorithm in Algorithm::ALL {
        let house = House::new(algorithm).await;
        let own = legitimate::ours(&house, &house.ours);
        let imported = legitimate::former(&house, house.former(algorithm));
        let mut names = run(&house, &own).await;
        names.extend(run(&house, &imported).await);
        assert!(names.len() >= 100, "only {} legitimate ones", names.len());
        println!("{algorithm}: {} legitimate requests", names.len());
    }
}
