//! The registry against its conventions, and what each method moves.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;
use std::thread;

use super::*;
use crate::clock::Timestamp;
use crate::telemetry::test_clock::TestClock;
use crate::token::rejection::Rejection;

pub(super) fn metrics() -> Metrics {
    Metrics::new(&MetricsLabels {
        version: "1.2.3",
        routes: &[
            RouteLabels {
                name: "api",
                methods: &["GET", "POST"],
            },
            RouteLabels {
                name: "health",
                methods: &[],
            },
        ],
        upstreams: &[UpstreamLabels {
            name: "echo",
            endpoints: &["echo.internal:80", "127.0.0.1:9003"],
        }],
        admin_endpoints: &["keys", "keys/rotate"],
        workers: &["proxy 127.0.0.1:8080 worker 0".to_owned()],
    })
    .unwrap()
}

/// Moves every metric, so that each has at least one series.
pub(super) fn exercise(metrics: &Metrics) {
    let api = metrics.route("api").unwrap();
    api.allowed(KeyStateLabel::Active);
    api.observe("GET", CodeClass::of(200), 0.002);
    api.failed(FailureCause::Internal);
    drop(api.in_flight());
    metrics.upstream("echo").unwrap().observe(0.001);
    drop(metrics.worker(0).unwrap().connection());
    metrics.auth_duration(CacheLookup::None, 0.0001);
    let series = metrics.key_series("k1");
    api.denied_by_purge(&series);
    metrics.show_key_set(&KeySetFacts {
        revision: 7,
        keys: &[
            KeyFacts {
                kid: "k2",
                state: KeyStateLabel::Pending,
                not_after: None,
            },
            KeyFacts {
                kid: "k3",
                state: KeyStateLabel::Active,
                not_after: None,
            },
            KeyFacts {
                kid: "k4",
                state: KeyStateLabel::Deprecated,
                not_after: Some(Timestamp::from_millis(1_700_000_000_500)),
            },
        ],
        retired: 1,
        purged: 2,
        last_rotation_at: Some(Timestamp::from_seconds(1_700_000_000)),
        next_rotation_at: None,
        kek_demanded_since: None,
    });
    metrics.rotation(
        Trigger::Manual,
        RotationKind::Purge,
        RotationResult::Success,
        0.01,
    );
    metrics.store_answered();
    metrics.clock_step(86_400.5);
    metrics.clock_offset(0.5);
    metrics.certificate("admin", Timestamp::from_seconds(1_700_000_000));
    metrics.token_issued(Grant::ClientCredentials);
    metrics.token_error(TokenError::InvalidClient);
    metrics.clients(2, 1);
    metrics.admin_request("keys", CodeClass::Success);
    metrics.admin_refused(AdminRefusal::Csrf);
}

/// Samples by name and labels, with the families' types; fails for text that is not well formed.
fn parse(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    let mut helped = HashSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()), "one HELP for {name}");
            assert!(
                help.len() > 10 && help.ends_with('.') || name.starts_with("process_"),
                "{line}"
            );
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(
                name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{line}"
            );
            assert!(!series.contains('{') || series.ends_with('}'), "{line}");
            let sample = value.parse().unwrap();
            assert!(
                samples.insert(series.to_owned(), sample).is_none(),
                "{line} comes twice"
            );
        }
    }
    (samples, types)
}

fn value(metrics: &Metrics, series: &str) -> f64 {
    let (samples, _) = parse(&metrics.render());
    *samples
        .get(series)
        .unwrap_or_else(|| panic!("no {series} in {samples:#?}"))
}

#[test]
fn two_gateways_in_one_process_stay_apart() {
    let (one, other) = (metrics(), metrics());
    one.auth_duration(CacheLookup::None, 0.001);
    let series = "portcullis_auth_duration_seconds_count{cache=\"none\"}";
    assert_eq!((value(&one, series), value(&other, series)), (1.0, 0.0));
}

#[test]
fn names_follow_the_conventions() {
    let metrics = metrics();
    exercise(&metrics);
    let (_, types) = parse(&metrics.render());
    for (name, kind) in types {
        assert!(
            name.starts_with("portcullis_") || name.starts_with("process_"),
            "{name}"
        );
        assert_eq!(
            kind == "counter",
            name.ends_with("_total"),
            "{name} is a {kind}"
        );
        assert!(
            kind != "histogram" || name.ends_with("_seconds"),
            "{name} is a {kind}"
        );
    }
}

#[test]
fn closed_label_sets_are_complete_at_the_start() {
    let metrics = metrics();
    let (samples, _) = parse(&metrics.render());
    let zero = |series: String| assert_eq!(samples.get(&series), Some(&0.0), "{series}");
    for route in ["api", "health", ISSUER_ROUTE, NO_ROUTE] {
        for reason in Rejection::ALL {
            zero(format!(
                "portcullis_auth_denied_total{{reason=\"{reason}\",route=\"{route}\"}}"
            ));
        }
        for state in ["pending", "active", "deprecated"] {
            zero(format!(
                "portcullis_auth_allowed_total{{key_state=\"{state}\",route=\"{route}\"}}"
            ));
        }
        for cause in FailureCause::ALL {
            let cause = cause.as_str();
            zero(format!(
                "portcullis_request_failures_total{{cause=\"{cause}\",route=\"{route}\"}}"
            ));
        }
        zero(format!("portcullis_auth_public_total{{route=\"{route}\"}}"));
        zero(format!(
            "portcullis_http_requests_in_flight{{route=\"{route}\"}}"
        ));
        zero(format!(
            "portcullis_http_request_duration_seconds_count{{route=\"{route}\"}}"
        ));
    }
    for endpoint in ["keys", "keys/rotate", "other"] {
        for code in CodeClass::ALL {
            let code = code.as_str();
            zero(format!(
                "portcullis_admin_requests_total{{code=\"{code}\",endpoint=\"{endpoint}\"}}"
            ));
        }
    }
    for reason in AdminRefusal::ALL {
        zero(format!(
            "portcullis_admin_refusals_total{{reason=\"{}\"}}",
            reason.as_str()
        ));
    }
    for kind in ["rotate", "purge"] {
        for trigger in ["manual", "automatic"] {
            for result in ["success", "failure", "unchanged", "refused"] {
                zero(format!(
                    "portcullis_key_rotations_total\
                     {{kind=\"{kind}\",result=\"{result}\",trigger=\"{trigger}\"}}"
                ));
            }
        }
        zero(format!(
            "portcullis_key_rotation_duration_seconds_count{{kind=\"{kind}\"}}"
        ));
    }
    for state in ["pending", "active", "deprecated", "retired", "purged"] {
        zero(format!("portcullis_signing_keys{{state=\"{state}\"}}"));
    }
    for error in TokenError::ALL {
        zero(format!(
            "portcullis_token_request_errors_total{{error=\"{}\"}}",
            error.as_str()
        ));
    }
    for state in ["enabled", "disabled"] {
        zero(format!("portcullis_clients{{state=\"{state}\"}}"));
    }
    zero("portcullis_tokens_issued_total{grant=\"client_credentials\"}".to_owned());
    zero("portcullis_purge_verification_failures_total{kid=\"other\"}".to_owned());
    zero("portcullis_upstream_request_duration_seconds_count{upstream=\"echo\"}".to_owned());
    zero("portcullis_auth_duration_seconds_count{cache=\"none\"}".to_owned());
    zero("portcullis_compromised_key_use_total".to_owned());
    zero("portcullis_lifecycle_violations_total".to_owned());
    zero("portcullis_log_lines_dropped_total".to_owned());
    assert_eq!(samples["portcullis_build_info{version=\"1.2.3\"}"], 1.0);
    // The first failure is to be seen as a rise; what else was answered appears on first use.
    for method in ["GET", "POST", "other"] {
        zero(format!(
            "portcullis_http_requests_total{{code=\"5xx\",method=\"{method}\",route=\"api\"}}"
        ));
    }
    let requests = samples.keys().filter(|of| of.contains("requests_total{"));
    let others = requests.filter(|of| of.contains("http_") && !of.contains("5xx"));
    assert_eq!(others.count(), 0);
}

#[test]
fn no_value_of_a_closed_set_ends_with_another() {
    let mut codes: Vec<&str> = CodeClass::ALL.iter().map(|value| value.as_str()).collect();
    codes.dedup();
    let mut reasons: Vec<&str> = Rejection::ALL.iter().map(|value| value.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let states = KeyStateLabel::ALL
        .iter()
        .map(|value| value.as_str())
        .collect();
    let kinds = RotationKind::ALL
        .iter()
        .map(|value| value.as_str())
        .collect();
    let results = RotationResult::ALL
        .iter()
        .map(|value| value.as_str())
        .collect();
    let causes = FailureCause::ALL
        .iter()
        .map(|value| value.as_str())
        .collect();
    let refusals = AdminRefusal::ALL
        .iter()
        .map(|value| value.as_str())
        .collect();
    let sets: [Vec<&str>; 7] = [codes, reasons, states, kinds, results, causes, refusals];
    for set in sets {
        for (position, value) in set.iter().enumerate() {
            let others = set
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != position);
            for (_, other) in others {
                assert!(!value.ends_with(other), "{value} ends with {other}");
            }
        }
    }
}

#[test]
fn every_rejection_moves_its_own_reason_and_nothing_else() {
    for (position, reason) in Rejection::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, position, "handles are found by position");
        let metrics = metrics();
        metrics.route("api").unwrap().denied(reason);
        let (samples, _) = parse(&metrics.render());
        let moved: Vec<_> = samples
            .iter()
            .filter(|(series, count)| series.contains("_denied_total") && **count != 0.0)
            .collect();
        let series = format!("portcullis_auth_denied_total{{reason=\"{reason}\",route=\"api\"}}");
        assert_eq!(moved, [(&series, &1.0)]);
        let alarm = |of| if reason == of { 1.0 } else { 0.0 };
        assert_eq!(
            samples["portcullis_compromised_key_use_total"],
            alarm(Rejection::CompromisedKeyInUse)
        );
        assert_eq!(
            samples["portcullis_lifecycle_violations_total"],
            alarm(Rejection::LifecycleViolation)
        );
    }
}

#[test]
fn requests_are_counted_by_the_methods_of_the_route() {
    let metrics = metrics();
    let (api, health) = (
        metrics.route("api").unwrap(),
        metrics.route("health").unwrap(),
    );
    api.observe("GET", CodeClass::of(204), 0.1);
    api.observe("GET", CodeClass::of(200), 0.1);
    for unknown in ["DELETE", "get", "FORGED-\"METHOD", ""] {
        api.observe(unknown, CodeClass::of(404), 0.1);
    }
    health.observe("DELETE", CodeClass::None, 0.1);
    let (samples, _) = parse(&metrics.render());
    let requests: Vec<_> = samples
        .iter()
        .filter(|(series, _)| series.contains("http_requests_total"))
        .filter(|(series, _)| !series.contains("5xx"))
        .collect();
    let name = "portcullis_http_requests_total";
    assert_eq!(
        requests,
        [
            (
                &format!("{name}{{code=\"2xx\",method=\"GET\",route=\"api\"}}"),
                &2.0
            ),
            (
                &format!("{name}{{code=\"4xx\",method=\"other\",route=\"api\"}}"),
                &4.0
            ),
            (
                &format!("{name}{{code=\"none\",method=\"DELETE\",route=\"health\"}}"),
                &1.0
            ),
        ]
    );
    assert_eq!(
        samples["portcullis_http_request_duration_seconds_count{route=\"api\"}"],
        6.0
    );
}

#[test]
fn statuses_fall_into_their_class() {
    let classes: Vec<&str> = [0, 101, 200, 299, 302, 400, 499, 500, 599, u16::MAX]
        .into_iter()
        .map(|status| CodeClass::of(status).as_str())
        .collect();
    assert_eq!(
        classes,
        [
            "1xx", "1xx", "2xx", "2xx", "3xx", "4xx", "4xx", "5xx", "5xx", "5xx"
        ]
    );
}

#[test]
fn failures_of_ours_are_told_from_those_of_upstreams() {
    let causes: Vec<Option<&str>> = [200, 404, 408, 499, 500, 501, 502, 503, 504, 505]
        .into_iter()
        .map(|status| FailureCause::of(status).map(FailureCause::as_str))
        .collect();
    let (internal, failed, timeout) = (
        Some("internal"),
        Some("upstream_failed"),
        Some("upstream_timeout"),
    );
    assert_eq!(
        causes,
        [
            None,
            None,
            Some("request_timeout"),
            None,
            internal,
            internal,
            failed,
            internal,
            timeout,
            internal
        ]
    );
    let metrics = metrics();
    metrics
        .route("api")
        .unwrap()
        .failed(FailureCause::UpstreamTimeout);
    let (samples, _) = parse(&metrics.render());
    let moved: Vec<_> = samples
        .iter()
        .filter(|(series, count)| series.contains("_failures_total") && **count != 0.0)
        .collect();
    let series =
        "portcullis_request_failures_total{cause=\"upstream_timeout\",route=\"api\"}".to_owned();
    assert_eq!(moved, [(&series, &1.0)]);
}

#[test]
fn staleness_grows_until_the_store_answers() {
    let metrics = metrics();
    let name = "portcullis_keyset_staleness_seconds";
    while value(&metrics, name) < 0.005 {
        thread::yield_now();
    }
    let started = std::time::Instant::now();
    metrics.store_answered();
    let stale = value(&metrics, name);
    // To the millisecond.
    assert!(stale <= started.elapsed().as_secs_f64() + 0.001, "{stale}");
}

#[test]
fn a_request_is_in_flight_until_its_guard_goes() {
    let metrics = metrics();
    let api = metrics.route("api").unwrap();
    let series = "portcullis_http_requests_in_flight{route=\"api\"}";
    let guards = (api.in_flight(), api.in_flight());
    assert_eq!(value(&metrics, series), 2.0);
    drop(guards.0);
    assert_eq!(value(&metrics, series), 1.0);
    drop(guards.1);
    assert_eq!(value(&metrics, series), 0.0);
}

#[test]
fn the_series_of_a_kid_lives_as_long_as_the_kid() {
    let metrics = metrics();
    let series =
        |kid: &str| format!("portcullis_purge_verification_failures_total{{kid=\"{kid}\"}}");
    let first = metrics.key_series("first");
    assert_eq!(
        value(&metrics, &series("first")),
        0.0,
        "exists before anything failed"
    );
    let api = metrics.route("api").unwrap();
    api.denied_by_purge(&first);
    api.denied_by_purge(&metrics.key_series("first"));
    assert_eq!(value(&metrics, &series("first")), 2.0);
    assert_eq!(
        value(
            &metrics,
            "portcullis_auth_denied_total{reason=\"key_purged\",route=\"api\"}"
        ),
        2.0
    );
    let _second = metrics.key_series("second");
    metrics.retain_kids(&["second"]);
    let (samples, _) = parse(&metrics.render());
    assert!(!samples.contains_key(&series("first")));
    assert!(samples.contains_key(&series("second")));
    first.purge_failures.inc();
    assert!(
        !parse(&metrics.render()).0.contains_key(&series("first")),
        "a late note is harmless"
    );
    metrics.retain_kids(&[]);
    assert_eq!(
        value(&metrics, &series("other")),
        0.0,
        "`other` always stays"
    );
}

#[test]
fn kids_beyond_the_bound_count_as_other() {
    let metrics = metrics();
    let kids: Vec<String> = (0..200).map(|kid| format!("kid-{kid}")).collect();
    for kid in &kids {
        metrics.key_series(kid).purge_failures.inc();
    }
    let (samples, _) = parse(&metrics.render());
    let of_kids = samples
        .keys()
        .filter(|series| series.contains("purge_verification"))
        .count();
    assert_eq!(of_kids, 192 + 1);
    assert_eq!(
        samples["portcullis_purge_verification_failures_total{kid=\"other\"}"],
        8.0
    );
    metrics.retain_kids(&["kid-0"]);
    metrics.key_series("kid-199").purge_failures.inc();
    let series = "portcullis_purge_verification_failures_total{kid=\"kid-199\"}";
    assert_eq!(value(&metrics, series), 1.0);
}

#[test]
fn a_published_key_set_replaces_the_one_before() {
    let metrics = metrics();
    exercise(&metrics);
    let (samples, _) = parse(&metrics.render());
    let not_after = "portcullis_signing_key_not_after_timestamp_seconds";
    assert_eq!(
        samples[&format!("{not_after}{{kid=\"k4\",state=\"deprecated\"}}")],
        1_700_000_000.5
    );
    assert_eq!(samples["portcullis_keyset_revision"], 7.0);
    assert_eq!(
        samples["portcullis_signing_keys{state=\"deprecated\"}"],
        1.0
    );
    assert_eq!(samples["portcullis_signing_keys{state=\"purged\"}"], 2.0);
    assert_eq!(
        samples["portcullis_key_last_rotation_timestamp_seconds"],
        1_700_000_000.0
    );
    assert_eq!(
        samples["portcullis_key_next_rotation_timestamp_seconds"],
        0.0
    );
    metrics.show_key_set(&KeySetFacts {
        revision: 8,
        keys: &[],
        retired: 0,
        purged: 0,
        last_rotation_at: None,
        next_rotation_at: None,
        kek_demanded_since: None,
    });
    let (samples, _) = parse(&metrics.render());
    assert!(!samples.keys().any(|series| series.starts_with(not_after)));
    assert_eq!(
        samples["portcullis_signing_keys{state=\"deprecated\"}"],
        0.0
    );
    assert_eq!(samples["portcullis_keyset_revision"], 8.0);
}

#[test]
fn an_unchanged_or_refused_rotation_is_counted_but_not_timed() {
    let metrics = metrics();
    metrics.rotation(
        Trigger::Manual,
        RotationKind::Rotate,
        RotationResult::Unchanged,
        0.001,
    );
    metrics.rotation(
        Trigger::Automatic,
        RotationKind::Rotate,
        RotationResult::Failure,
        0.001,
    );
    metrics.rotation(
        Trigger::Manual,
        RotationKind::Rotate,
        RotationResult::Refused,
        0.001,
    );
    let series = |result: &str, trigger: &str| {
        format!(
            "portcullis_key_rotations_total\
             {{kind=\"rotate\",result=\"{result}\",trigger=\"{trigger}\"}}"
        )
    };
    assert_eq!(value(&metrics, &series("unchanged", "manual")), 1.0);
    assert_eq!(value(&metrics, &series("failure", "automatic")), 1.0);
    assert_eq!(value(&metrics, &series("refused", "manual")), 1.0);
    assert_eq!(value(&metrics, &series("refused", "automatic")), 0.0);
    let timed = "portcullis_key_rotation_duration_seconds_count{kind=\"rotate\"}";
    assert_eq!(value(&metrics, timed), 1.0);
}

#[test]
fn unknown_admin_endpoints_count_as_other() {
    let metrics = metrics();
    metrics.admin_request("keys/rotate", CodeClass::Success);
    metrics.admin_request("../../etc", CodeClass::ClientError);
    let series = |endpoint: &str, code: &str| {
        format!("portcullis_admin_requests_total{{code=\"{code}\",endpoint=\"{endpoint}\"}}")
    };
    assert_eq!(value(&metrics, &series("keys/rotate", "2xx")), 1.0);
    assert_eq!(value(&metrics, &series("other", "4xx")), 1.0);
}

#[test]
fn lost_log_lines_are_shown() {
    let metrics = metrics();
    let (log, _capture) = Log::capture(TestClock::at(Timestamp::default()).handle());
    metrics.attach_log(&log);
    log.dropped_counter().fetch_add(3, Ordering::Relaxed);
    assert_eq!(value(&metrics, "portcullis_log_lines_dropped_total"), 3.0);
}

#[test]
fn a_name_used_twice_is_refused() {
    let route = |name| RouteLabels { name, methods: &[] };
    for routes in [
        [route("a"), route("a")],
        [route("a"), route("issuer")],
        [route("none"), route("b")],
    ] {
        let labels = MetricsLabels {
            routes: &routes,
            ..MetricsLabels::default()
        };
        let error = Metrics::new(&labels).unwrap_err().to_string();
        assert!(error.contains("used twice or reserved"), "{error}");
    }
    let upstreams = MetricsLabels {
        upstreams: &["u", "u"].map(|name| UpstreamLabels {
            name,
            endpoints: &[],
        }),
        ..MetricsLabels::default()
    };
    assert!(Metrics::new(&upstreams).is_err());
    let admin = MetricsLabels {
        admin_endpoints: &["other"],
        ..MetricsLabels::default()
    };
    assert!(Metrics::new(&admin).is_err());
}

#[test]
fn concurrent_requests_and_scrapes_lose_nothing() {
    const THREADS: u32 = 4;
    const REQUESTS: u32 = 20_000;
    let metrics = Arc::new(metrics());
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let api = metrics.route("api").unwrap();
            thread::spawn(move || {
                for _ in 0..REQUESTS {
                    let _guard = api.in_flight();
                    api.allowed(KeyStateLabel::Deprecated);
                    api.observe("POST", CodeClass::Success, 0.001);
                }
            })
        })
        .collect();
    while workers.iter().any(|worker| !worker.is_finished()) {
        drop(parse(&metrics.render()));
    }
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    let all = f64::from(THREADS * REQUESTS);
    for series in [
        "portcullis_auth_allowed_total{key_state=\"deprecated\",route=\"api\"}",
        "portcullis_http_requests_total{code=\"2xx\",method=\"POST\",route=\"api\"}",
        "portcullis_http_request_duration_seconds_count{route=\"api\"}",
    ] {
        assert_eq!(value(&metrics, series), all, "{series}");
    }
    assert_eq!(
        value(
            &metrics,
            "portcullis_http_requests_in_flight{route=\"api\"}"
        ),
        0.0
    );
}
