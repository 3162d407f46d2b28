//! A real Prometheus scrapes the gateway: whom a purge broke, and every query that is shipped.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::certificates::Certificates;
use harness::clients::{lines, token_of};
use harness::grafana::Look;
use harness::peers::peer;
use harness::process::{Setup, free_ports};
use harness::prometheus::{Prometheus, SPEED};
use harness::queries::{self, Query};
use harness::upstream::Upstream;
use harness::{PATIENCE, Process, eventually, kid};

/// The clients of the load.
const CALLERS: [&str; 4] = ["shop", "mobile", "partner", "batch"];

/// How often a caller is refused before it asks for a new token.
const REFUSALS: u32 = 7;

/// A rotation soon after a purge, and none by itself.
const KEYS: &str = "  rotation_interval: 24h
  idempotency_window: 800ms
  prepublish: 500ms
  jwks_max_age: 0s
  replica_lease: 200ms
  heartbeat: 50ms
  barrier_timeout: 300ms";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_counts_what_the_load_counts_and_every_shipped_query_answers() {
    let upstream = Upstream::echo();
    let gateway = start(&upstream).await;
    let Some(prometheus) = Prometheus::start(gateway.metrics) else {
        return;
    };
    let load = Load::start(&gateway).await;
    load.until("everybody is let in", |seen| {
        seen.accepted.len() == CALLERS.len()
    })
    .await;

    // The series are there before anything happens, so that increase() misses nothing.
    let failures =
        |kid: &str| format!("portcullis_purge_verification_failures_total{{kid=\"{kid}\"}}");
    let first = load.kids().pop().expect("a token");
    at_value(&prometheus, &failures(&first), 0.0).await;

    // A Rotate breaks nothing; some callers go on with the old key, others sign in again.
    let rotation = gateway.rotate().await;
    assert_eq!(rotation["changed"], true);
    let active = rotation["activated"].as_str().expect("a kid").to_owned();
    load.renew(&CALLERS[..2]);
    load.until("both keys are in use", |seen| {
        seen.kids.values().any(|kid| *kid == active) && seen.kids.values().any(|kid| *kid == first)
    })
    .await;
    at_value(&prometheus, &failures(&active), 0.0).await;
    assert_eq!(load.refused(), BTreeMap::new());
    let before = prometheus
        .value("sum(portcullis_purge_verification_failures_total)")
        .await;
    assert_eq!(before, Some(0.0));

    // The purge breaks everybody; each is refused a few times and comes back.
    gateway.purge().await;
    load.until("everybody is back", |seen| {
        CALLERS.iter().all(|caller| seen.back.contains(caller))
    })
    .await;

    let refused = load.refused();
    assert_eq!(refused.len(), 2, "{refused:?}");
    for (kid, count) in &refused {
        at_value(&prometheus, &failures(kid), f64::from(*count)).await;
        let grown = format!("increase({}[5m])", failures(kid));
        eventually("increase() sees the first jump", || async {
            prometheus.value(&grown).await.filter(|grown| *grown > 0.0)
        })
        .await;
    }
    let all: u32 = refused.values().sum();
    assert!(all >= REFUSALS * 4, "{refused:?}");
    for sum in [
        "sum(portcullis_purge_verification_failures_total)",
        "sum(portcullis_auth_denied_total{reason=\"key_purged\"})",
    ] {
        at_value(&prometheus, sum, f64::from(all)).await;
    }
    at_value(&prometheus, "sum(portcullis_purge_affected_clients)", 4.0).await;
    at_value(&prometheus, "sum(portcullis_purge_recovered_clients)", 4.0).await;

    // Once more, for a deprecated key, whose end a panel shows.
    eventually("the window is over", || async {
        (gateway.rotate().await["changed"] == true).then_some(())
    })
    .await;
    every_query_answers(&prometheus).await;
    assert_eq!(load.refused(), refused, "nobody was refused since");
    load.stop().await;
    assert_eq!(prometheus.value("up{job=\"portcullis\"}").await, Some(1.0));
}

/// A gateway with a TLS listener, a dead upstream and a public route, so that every metric moves.
async fn start(upstream: &Upstream) -> Process {
    let [dead, tls] = free_ports();
    let mut gateway = Process::configure(&Setup {
        keys: KEYS.to_owned(),
        clients: lines(&CALLERS, ""),
        upstreams: format!("  dead: {{ endpoints: [\"{dead}\"] }}"),
        routes: "  - { name: public, match: { path: /public }, auth: none, upstream: main }\n  \
                 - { name: dead, match: { prefix: /dead }, auth: none, upstream: dead }"
            .to_owned(),
        ..Setup::new(upstream.address)
    });
    let certificates = Certificates::make(gateway.dir.path());
    let file = gateway.dir.path().join("portcullis.yaml");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    let plain = format!("proxy: {{ address: {} }}", gateway.proxy);
    assert!(text.contains(&plain), "{text}");
    let both = format!(
        "proxy: [{{ address: {} }}, {{ address: {tls}, tls: {{ cert_file: {}, key_file: {} }} }}]",
        gateway.proxy,
        certificates.cert.display(),
        certificates.key.display(),
    );
    std::fs::write(&file, text.replace(&plain, &both)).expect("a configuration");
    let made = gateway.run(&["init"]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    gateway.serve().await;
    gateway
}

/// Every query of dashboards and documentation answers with a series, every alert can be evaluated,
/// and each series that one looks at is there.
async fn every_query_answers(prometheus: &Prometheus) {
    let alerts = queries::of_alerts();
    for alert in &alerts {
        // It fails for a query that cannot be evaluated.
        let _samples = prometheus.ask(&alert.text).await;
    }
    let examples = queries::of_document();
    let looked_at = alerts.iter().chain(&examples).flat_map(|query| {
        queries::selectors(&query.text)
            .into_iter()
            .map(|text| Query::now(query.place.clone(), text))
            .collect::<Vec<_>>()
    });
    let mut open: Vec<Query> = Look::RANGES
        .into_iter()
        .flat_map(|range| {
            queries::of_dashboards(Look {
                speed: SPEED,
                ..Look::of(range)
            })
        })
        .collect();
    let panels = open.len();
    open.extend(looked_at);
    open.extend(examples.clone());
    assert!(panels > 180 && open.len() > panels + 80, "{}", open.len());

    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        // A rate needs two scrapes, a rule an evaluation after that.
        open = prometheus.silent(open).await;
        if open.is_empty() {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "no series: {open:#?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (metric, label) in queries::of_variables() {
        let values = prometheus.label_values(&metric, &label).await;
        assert!(!values.is_empty(), "{label} of {metric}");
    }
}

/// Waits until Prometheus has seen a value; one beyond it is an error at once.
async fn at_value(prometheus: &Prometheus, query: &str, wanted: f64) {
    eventually(query, || async {
        let value = prometheus.value(query).await?;
        assert!(value <= wanted, "{query} is {value}, more than {wanted}");
        (value == wanted).then_some(())
    })
    .await;
}

/// Callers that go on with a refused token for a while.
struct Load {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
    callers: tokio::task::JoinSet<()>,
}

/// What the callers saw.
#[derive(Debug, Default)]
struct Seen {
    /// By caller.
    accepted: BTreeMap<&'static str, u64>,
    /// The key of the token that each uses.
    kids: BTreeMap<&'static str, String>,
    /// By the key of the refused token.
    refused: BTreeMap<String, u32>,
    /// Accepted again after a refusal.
    back: Vec<&'static str>,
    /// Asked to sign in again.
    renew: Vec<&'static str>,
}

impl Load {
    async fn start(gateway: &Process) -> Self {
        let mut load = Self {
            seen: Arc::default(),
            over: Arc::default(),
            callers: tokio::task::JoinSet::new(),
        };
        for name in CALLERS {
            let token = token_of(&gateway.http, &gateway.url(""), name).await;
            let (seen, over) = (Arc::clone(&load.seen), Arc::clone(&load.over));
            let caller = Caller {
                name,
                issuer: gateway.url(""),
                http: gateway.http.clone(),
                seen,
            };
            load.callers
                .spawn(async move { caller.call(token, &over).await });
        }
        load
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        eventually(what, || async {
            is_so(&self.seen.lock().expect("no caller failed")).then_some(())
        })
        .await;
    }

    fn kids(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no caller failed");
        seen.kids.values().cloned().collect()
    }

    fn refused(&self) -> BTreeMap<String, u32> {
        self.seen.lock().expect("no caller failed").refused.clone()
    }

    fn renew(&self, names: &[&'static str]) {
        let mut seen = self.seen.lock().expect("no caller failed");
        seen.renew.extend(names);
    }

    async fn stop(mut self) {
        self.over.store(true, Ordering::SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.expect("no caller failed");
        }
    }
}

struct Caller {
    name: &'static str,
    issuer: String,
    http: reqwest::Client,
    seen: Arc<Mutex<Seen>>,
}

impl Caller {
    async fn call(&self, mut token: String, over: &AtomicBool) {
        let mut refusals = 0;
        self.note(|seen| drop(seen.kids.insert(self.name, kid(&token))));
        while !over.load(Ordering::SeqCst) {
            match self.get("/hello", Some(&token)).await {
                200 => self.note(|seen| {
                    *seen.accepted.entry(self.name).or_default() += 1;
                    if refusals > 0 {
                        seen.back.push(self.name);
                    }
                }),
                401 => {
                    refusals += 1;
                    self.note(|seen| *seen.refused.entry(kid(&token)).or_default() += 1);
                }
                other => panic!("{} got {other}", self.name),
            }
            // Beside the tokens: what makes the other metrics move.
            assert_eq!(self.get("/public", None).await, 200);
            assert_eq!(self.get("/dead", None).await, 502);
            let mut renew = refusals == REFUSALS;
            self.note(|seen| {
                let asked = seen.renew.len();
                seen.renew.retain(|name| *name != self.name);
                renew |= seen.renew.len() < asked;
            });
            if renew {
                refusals = refusals.min(1);
                token = token_of(&self.http, &self.issuer, self.name).await;
                self.note(|seen| drop(seen.kids.insert(self.name, kid(&token))));
            }
        }
    }

    async fn get(&self, path: &str, token: Option<&str>) -> u16 {
        let request = self.http.get(format!("{}{path}", self.issuer));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.expect("the gateway answers");
        response.status().as_u16()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().expect("no caller failed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_a_live_scrape() {
    let Some(program) = peer("promtool") else {
        return;
    };
    let upstream = Upstream::echo();
    let gateway = start(&upstream).await;
    let token = gateway.token().await;
    assert_eq!(gateway.status(&token).await, 200);
    gateway.rotate().await;
    gateway.purge().await;
    assert_eq!(gateway.status(&token).await, 401);

    let scrape = gateway.scrape().await;
    for listed in queries::documented_metrics() {
        let family = format!("# TYPE {listed} ");
        assert!(
            scrape.contains(&family)
                || listed == "portcullis_signing_key_not_after_timestamp_seconds",
            "{listed} is not in a scrape"
        );
    }
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(scrape.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_compressed_for_whoever_asks() {
    let upstream = Upstream::echo();
    let gateway = Process::start(&Setup::new(upstream.address)).await;
    let get = async |coding: &str| {
        let request = gateway
            .http
            .get(format!("http://{}/metrics", gateway.metrics))
            .header("accept-encoding", coding);
        let response = request.send().await.expect("a scrape");
        assert_eq!(response.status(), 200);
        let packed = response.headers().get("content-encoding").cloned();
        let kind = response.headers()["content-type"].clone();
        assert!(
            kind.to_str()
                .is_ok_and(|kind| kind.contains("version=0.0.4"))
        );
        (packed, response.bytes().await.expect("bytes"))
    };
    let (plain, text) = get("identity").await;
    assert_eq!(plain, None);
    assert!(text.starts_with(b"# HELP "));
    let (packed, bytes) = get("zstd, gzip;q=0.8").await;
    assert_eq!(packed.expect("a coding"), "gzip");
    // The magic number of RFC 1952, and far smaller.
    assert!(bytes.starts_with(&[0x1f, 0x8b]));
    assert!(bytes.len() * 5 < text.len(), "{}", bytes.len());
}
