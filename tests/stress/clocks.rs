//! Clocks that jump by hours, days and decades: nothing panics, and no dead key comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::clock::{Clock as _, Timestamp};
use serde_json::json;

use super::harness::forge::{PrivateKey, good_claims};
use super::harness::{Gateway, Options, kid};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The far ends: before 1970, the last seconds of 31 and 32 bits, the year 9999, beyond all dates.
fn moments(now: Timestamp) -> Vec<(&'static str, Timestamp)> {
    let hour = Duration::from_secs(3600);
    let at = Timestamp::from_seconds;
    vec![
        ("an hour on", now.plus(hour)),
        ("an hour back", at(now.as_seconds() - 3600)),
        ("a day on", now.plus(24 * hour)),
        ("a day back", at(now.as_seconds() - 24 * 3600)),
        ("1970", at(0)),
        ("before 1970", at(-1)),
        ("2038, the last second of 31 bits", at(i64::from(i32::MAX))),
        ("2038, the first beyond", at(i64::from(i32::MAX) + 1)),
        ("2106, the last second of 32 bits", at(i64::from(u32::MAX))),
        ("2106, the first beyond", at(i64::from(u32::MAX) + 1)),
        ("9999", at(253_402_300_799)),
        (
            "the end of all milliseconds",
            Timestamp::from_millis(i64::MAX),
        ),
    ]
}

async fn jump_about(steady_clock: bool) {
    let gateway = Gateway::start(Options {
        steady_clock,
        ..Options::default()
    })
    .await;
    let start = gateway.clock.now();
    let dead = gateway.token().await;
    let key = PrivateKey::active(&gateway);
    let long = key.mint(&{
        let mut claims = good_claims(&gateway);
        claims["exp"] = json!(start.as_seconds() + 3500);
        claims
    });
    gateway.purge().await;
    assert_eq!(gateway.status(&dead).await, 401);
    for (name, moment) in moments(start) {
        gateway.clock.set(moment);
        for _ in 0..3 {
            // What is due is done, or refused; neither may end the process or bring a key back.
            let _done_or_refused = gateway.lifecycle.tick().await;
            let keys = gateway.admin_get("/admin/v1/keys").await;
            assert_eq!(keys.0, 200, "{name}");
            for token in [&dead, &long] {
                let status = gateway.status(token).await;
                assert_eq!(status, 401, "{name}: a purged key");
            }
            gateway.clock.advance(Duration::from_secs(1));
        }
        for path in ["/admin/v1/keys/preview?purge=true", "/admin/v1/keys/purges"] {
            let (status, answer) = gateway.admin_get(path).await;
            assert!(status < 500, "{name}: {path}: {answer}");
        }
        let (status, answer) = gateway.admin_post("/admin/v1/keys/rotate", json!({})).await;
        assert!(
            status == 200 || answer["log_id"].is_string(),
            "{name}: {answer}"
        );
        let live = gateway.lifecycle.current_set();
        assert!(
            live.active.public.kid.as_str() != kid(&dead)
                && live.pending.public.kid.as_str() != kid(&dead)
                && live
                    .deprecated
                    .iter()
                    .all(|one| one.public.kid.as_str() != kid(&dead)),
            "{name}: the purged key is back"
        );
        let jwks = String::from_utf8_lossy(&gateway.jwks().await).into_owned();
        assert!(!jwks.contains(&kid(&dead)), "{name}");
        // And back again.
        gateway.clock.set(start.plus(Duration::from_secs(60)));
        let _done_or_refused = gateway.lifecycle.tick().await;
        for token in [&dead, &long] {
            assert_eq!(gateway.status(token).await, 401, "back from {name}");
        }
        let scrape = gateway.scrape().await;
        assert!(!scrape.contains("NaN"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_clock_brings_a_dead_key_back_or_ends_the_process() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Our own assertions unwind this thread and fail the test as they should.
        PANICS.fetch_add(1, Ordering::SeqCst);
        before(info);
    }));
    Box::pin(jump_about(true)).await;
    Box::pin(jump_about(false)).await;
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "nothing panicked");
}
