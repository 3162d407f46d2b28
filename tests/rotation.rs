//! Plain rotations break nothing (invariant 3): a thousand of them under continuous issuing and
//! verifying, with a token of every generation watched until its last moment.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use harness::{Gateway, Options, claims, kid};
use portcullis::clock::{Clock as _, Timestamp};
use portcullis::testing::ManualClock;
use tokio::sync::watch;

const ROTATIONS: u32 = 1_000;
const LEEWAY: i64 = 60;
/// The shortest that the relations allow: twice the idempotency window.
const INTERVAL: Duration = Duration::from_secs(1200);
const WINDOW: Duration = Duration::from_secs(600);
/// Long enough that some 25 generations verify at a time.
const TTL: &str = "6h";

/// From this moment on a token may be refused.
fn over_at(token: &str) -> Timestamp {
    let exp = claims(token)["exp"].as_i64().expect("an exp");
    Timestamp::from_seconds(exp + LEEWAY)
}

/// A client at work during every rotation: asks for a token at one worker, and uses it and an old
/// one at another.
async fn client(
    workers: [String; 2],
    clock: Arc<ManualClock>,
    mut rotations: watch::Receiver<u32>,
) -> Served {
    let http = reqwest::Client::builder().no_proxy().build();
    let http = http.expect("a client");
    let [issuer, verifier] = workers;
    let mut served = Served::default();
    let mut old = harness::token(&http, &issuer, None).await;
    while rotations.changed().await.is_ok() {
        let new = harness::token(&http, &issuer, None).await;
        for token in [&new, &old] {
            let request = http.get(format!("{verifier}/hello")).bearer_auth(token);
            let status = request.send().await.expect("an answer").status();
            // Time moves while the request is under way, so only a moment after it can prove that
            // the token was good all the time.
            if status == 200 {
                served.accepted += 1;
            } else {
                assert!(
                    clock.now() >= over_at(token),
                    "{status} for a token of {} that is good until {}",
                    kid(token),
                    over_at(token)
                );
                served.late += 1;
            }
        }
        if clock.now() >= over_at(&old) {
            old = new;
        }
    }
    served
}

#[derive(Default)]
struct Served {
    accepted: u32,
    /// Refused, but only after its time.
    late: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn inv03_a_thousand_rotations_refuse_no_token_before_its_time() {
    let gateway = Gateway::start(Options {
        token_ttl: TTL,
        keys: "  rotation_interval: 20m".to_owned(),
        ..Options::default()
    })
    .await;
    let (announce, announced) = watch::channel(0);
    let [first, second] = [0, 1].map(|worker| gateway.workers[worker].clone());
    let clients = [[first.clone(), second.clone()], [second, first]].map(|workers| {
        let clock = Arc::clone(&gateway.clock);
        tokio::spawn(client(workers, clock, announced.clone()))
    });
    drop(announced);

    // Of every generation its first token, oldest first, until its last moment.
    let mut watched: VecDeque<String> = VecDeque::new();
    let mut generations = 0;
    for rotation in 0..ROTATIONS {
        let newest = gateway.token().await;
        assert_eq!(
            kid(&newest),
            gateway.lifecycle.current_set().active.public.kid.as_str()
        );
        watched.push_back(newest.clone());
        // By turns the schedule and an operator, each as early as possible.
        let automatic = rotation % 2 == 0;
        let pause = if automatic { INTERVAL } else { WINDOW };
        let next = gateway.clock.now().plus(pause);
        while let Some(oldest) = watched.front()
            && over_at(oldest) < next
        {
            let over = over_at(oldest);
            gateway
                .clock
                .set(Timestamp::from_millis(over.as_millis() - 1));
            gateway.lifecycle.tick().await.expect("it ticks");
            assert_eq!(gateway.status(oldest).await, 200, "in its last moment");
            gateway.clock.set(over);
            assert_eq!(gateway.status(oldest).await, 401, "and not beyond");
            generations += 1;
            watched.pop_front();
        }
        announce.send_replace(rotation);
        gateway.clock.set(next);
        let before = gateway.lifecycle.current_set().active.public.kid.clone();
        gateway.lifecycle.tick().await.expect("it ticks");
        if !automatic {
            assert_eq!(gateway.rotate().await["changed"], true);
        }
        let set = gateway.lifecycle.current_set();
        assert_eq!(set.deprecated[0].public.kid, before, "one rotation");
        for token in [&newest, &watched[0]] {
            assert_eq!(gateway.status(token).await, 200);
        }
        if rotation % 50 == 0 {
            for token in &watched {
                assert_eq!(gateway.status(token).await, 200);
            }
        }
    }

    drop(announce);
    let mut served = Served::default();
    for client in clients {
        let of_client = client.await.expect("no refusal before its time");
        served.accepted += of_client.accepted;
        served.late += of_client.late;
    }
    let scrape = gateway.scrape().await;
    let sum = |name: &str, labels: &[(&str, &str)]| harness::metrics::sum(&scrape, name, labels);
    assert_eq!(sum("portcullis_lifecycle_violations_total", &[]), 0.0);
    let refused = sum("portcullis_auth_denied_total", &[]);
    // Of a key that has retired meanwhile, a token that came too late is not even looked at.
    let too_late = ["expired", "unknown_key"]
        .map(|reason| sum("portcullis_auth_denied_total", &[("reason", reason)]));
    assert_eq!(too_late.iter().sum::<f64>(), refused, "no other reason");
    assert_eq!(refused, f64::from(generations + served.late));
    let rotated = sum(
        "portcullis_key_rotations_total",
        &[("kind", "rotate"), ("result", "success")],
    );
    assert_eq!(rotated, f64::from(ROTATIONS));
    assert!(generations > 900, "{generations} watched to their end");
    assert!(served.accepted > 500, "{} accepted", served.accepted);
}
