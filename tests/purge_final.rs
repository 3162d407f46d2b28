//! A purge is over when it answers: under load, no token of a purged key is accepted by a request
//! sent after the answer, none is issued, and the metric grows by exactly what clients saw.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use harness::{CLIENT, Gateway, Options, SECRET, eventually, kid, metrics};
use tokio::sync::watch;

const CALLERS: usize = 8;
const PURGES: usize = 60;

/// What one caller saw: when it sent, with which generation's token, what came back.
type Seen = (Instant, usize, u16);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inv05_a_purge_is_final_when_it_answers() {
    let gateway = Gateway::start(Options {
        token_ttl: "24h",
        ..Options::default()
    })
    .await;
    let (publish, tokens) = watch::channel((0, gateway.token().await));
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let url = format!("{}/hello", gateway.workers[number % gateway.workers.len()]);
            let (stop, calls, tokens) = (Arc::clone(&stop), Arc::clone(&calls), tokens.clone());
            tokio::spawn(async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut seen: Vec<Seen> = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let (generation, token) = tokens.borrow().clone();
                    let sent = Instant::now();
                    let response = http.get(&url).bearer_auth(token).send().await.unwrap();
                    seen.push((sent, generation, response.status().as_u16()));
                    let _body = response.bytes().await.unwrap();
                    calls.fetch_add(1, Ordering::SeqCst);
                }
                seen
            })
        })
        .collect();

    let mut answered = Vec::new();
    for generation in 1..=PURGES {
        let before = calls.load(Ordering::SeqCst);
        eventually("traffic", || async {
            (calls.load(Ordering::SeqCst) > before + 20).then_some(())
        })
        .await;
        gateway.purge().await;
        answered.push(Instant::now());
        let after = calls.load(Ordering::SeqCst);
        // Everybody goes on with the dead token for a while.
        eventually("refusals", || async {
            (calls.load(Ordering::SeqCst) > after + 20).then_some(())
        })
        .await;
        publish.send_replace((generation, gateway.token().await));
    }
    stop.store(true, Ordering::SeqCst);
    let (mut refused, mut late) = (0, 0);
    for caller in callers {
        for (sent, generation, status) in caller.await.unwrap() {
            match status {
                401 => refused += 1,
                200 => {
                    late += u64::from(
                        answered
                            .get(generation)
                            .is_some_and(|answer| sent > *answer),
                    )
                }
                other => panic!("status {other}"),
            }
        }
    }
    assert_eq!(
        late, 0,
        "accepted although sent after the purge had answered"
    );
    let scrape = gateway.scrape().await;
    let counted = metrics::sum(&scrape, "portcullis_purge_verification_failures_total", &[]);
    assert!(refused >= 20 * PURGES as u64);
    assert_eq!(
        counted, refused as f64,
        "the metric is what the clients saw"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inv05_no_token_of_a_purged_key_is_handed_out_after_the_answer() {
    let gateway = Gateway::start(Options::default()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let askers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let url = format!(
                "{}/oauth2/token",
                gateway.workers[number % gateway.workers.len()]
            );
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let http = reqwest::Client::builder().no_proxy().build().unwrap();
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let sent = Instant::now();
                    let request = http.post(&url).basic_auth(CLIENT, Some(SECRET));
                    let response = request
                        .form(&[("grant_type", "client_credentials")])
                        .send()
                        .await
                        .unwrap();
                    let body: serde_json::Value = response.json().await.unwrap();
                    seen.push((sent, kid(body["access_token"].as_str().unwrap())));
                }
                seen
            })
        })
        .collect();
    let mut purged = Vec::new();
    for _ in 0..PURGES {
        let answer = gateway.purge().await;
        let kids = answer["purged"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kid| kid.as_str().unwrap().to_owned());
        purged.push((Instant::now(), kids.collect::<Vec<_>>()));
    }
    stop.store(true, Ordering::SeqCst);
    let mut issued = 0;
    for asker in askers {
        for (sent, signer) in asker.await.unwrap() {
            issued += 1;
            let dead = purged.iter().find(|(_, kids)| kids.contains(&signer));
            assert!(
                dead.is_none_or(|(answered, _)| sent < *answered),
                "issued by a purged key"
            );
        }
    }
    assert!(issued > CALLERS, "there was traffic");
}
