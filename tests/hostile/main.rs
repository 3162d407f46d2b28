//! Hostile requests that are not about the token: framing, targets, hosts, fields, upgrades, trailers,
//! on HTTP/1 and HTTP/2. Each is refused, or reaches the upstream as exactly one plain request.
//!
//! The upstream here writes down bytes. Whatever the request was, it must see: one request for one
//! sent, an origin-form target, one Host, one framing, no credentials, no names with `_`, no upgrade,
//! and on a protected route the identity of the token and no other.
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

mod bodies;
mod cases;
mod http1;
mod http2;
mod leaving;
mod recorder;
mod upstreams;
mod wire;

use cases::House;

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http1_is_more_than_it_seems() {
    let house = House::new().await;
    let mut sent = 0;
    for table in [
        http1::request_lines(&house),
        http1::targets(&house),
        http1::hosts(&house),
        http1::fields(&house),
        http1::credentials(&house),
        http1::upgrades(&house),
        http1::methods(&house),
        bodies::lengths(&house),
        bodies::codings(&house),
        bodies::chunks(&house),
        bodies::trailers(&house),
    ] {
        sent += table.len();
        house.run(&table).await;
    }
    println!("{sent} hostile requests of HTTP/1");
    assert!(sent >= 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_http2_is_more_than_it_seems() {
    let house = House::new().await;
    let table = http2::requests(&house);
    println!("{} hostile requests of HTTP/2", table.len());
    assert!(table.len() >= 60);
    house.run_h2(&table).await;
}
