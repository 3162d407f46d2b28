//! No rotation and no purge is missing from a dashboard, whatever range somebody looks at: a real
//! Prometheus holds a day that a test made up, and is asked what Grafana would ask.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test fail by panicking"
)]

mod harness;

use std::fmt::Write as _;

use harness::eventually;
use harness::grafana::Look;
use harness::prometheus::Prometheus;
use harness::queries::{self, Query};
use serde_json::Value;

/// When the day ends, in Unix time; a multiple of every step.
const END: u32 = 1_700_006_400;

/// Scrapes come every 5 s, but not when a step of Grafana's ends.
const SCRAPE: f64 = 5.0;
const PHASE: f64 = 2.3;

/// When the gateway was not there: after a crash, and for ten minutes. Seconds before the end.
const AWAY: [(f64, f64); 2] = [(18_600.0, 18_000.0), (700.0, 680.0)];

/// When it rotated, in seconds before the end. Close to scrapes and to the ends of steps, twice in one
/// step, and just after each start, before anybody looks.
const ROTATIONS: [f64; 22] = [
    80_000.0, 61_234.5, 61_100.0, 40_000.2, 21_600.1, 17_999.9, 9_000.0, 3_601.0, 1_799.0, 1_650.1,
    1_500.0, 1_350.05, 1_201.0, 1_005.0, 900.0, 781.3, 679.8, 540.0, 431.0, 300.01, 137.0, 45.5,
];

const PURGES: [f64; 7] = [70_001.0, 21_000.0, 10_000.0, 1_700.0, 1_211.1, 679.7, 150.0];

/// `kind` of the counter, and the moments of Unix time.
fn moments(kind: &str) -> Vec<f64> {
    let before = match kind {
        "rotate" => &ROTATIONS[..],
        "purge" => &PURGES[..],
        _ => panic!("{kind}"),
    };
    before
        .iter()
        .map(|before| f64::from(END) - before)
        .collect()
}

/// The day as Prometheus would have scraped it, in the format OpenMetrics.
fn day() -> String {
    let end = f64::from(END);
    let away = AWAY.map(|(from, to)| (end - from, end - to));
    let begin = end - 25.0 * 3600.0;
    let mut scrapes = Vec::new();
    let mut at = begin + PHASE;
    while at < end {
        let gone = away.iter().any(|(from, to)| (*from..*to).contains(&at));
        // The process that is scraped began before everything else, or after it was away.
        let ended = away.iter().map(|(_, to)| *to).filter(|to| *to <= at);
        let started = ended.fold(begin - 86_400.0, f64::max).floor();
        if !gone {
            scrapes.push((at, started));
        }
        at += SCRAPE;
    }

    let mut text = String::from("# TYPE process_start_time_seconds gauge\n");
    let target = "job=\"portcullis\",instance=\"gw\"";
    for (at, started) in &scrapes {
        writeln!(
            text,
            "process_start_time_seconds{{{target}}} {started} {at}"
        )
        .expect("a string");
    }
    text.push_str("# TYPE portcullis_key_rotations counter\n");
    for kind in ["rotate", "purge"] {
        let moments = moments(kind);
        for result in ["success", "failure"] {
            for (at, started) in &scrapes {
                let since = |moment: &&f64| (*started..*at).contains(*moment);
                let count = match result {
                    "success" => moments.iter().filter(since).count(),
                    _ => 0,
                };
                writeln!(
                    text,
                    "portcullis_key_rotations_total{{{target},kind=\"{kind}\",trigger=\"manual\",\
                     result=\"{result}\"}} {count} {at}"
                )
                .expect("a string");
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

/// The points of the only series of an answer that is not at 0 throughout.
fn points(series: &[Value]) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    for one in series {
        for point in one["values"].as_array().expect("values") {
            let at = point[0].as_f64().expect("a moment");
            let value = point[1].as_str().expect("a number").parse::<f64>();
            found.push((at, value.expect("a number")));
        }
    }
    found.retain(|(_, value)| *value != 0.0);
    found
}

async fn asked(prometheus: &Prometheus, query: &Query) -> Vec<(f64, f64)> {
    let (length, step) = query.over.expect("over a range");
    let (end, step_secs) = (f64::from(END), step.as_secs_f64());
    // As Grafana does, so that a graph does not wander while it is refreshed.
    let from = ((end - length.as_secs_f64()) / step_secs).floor() * step_secs;
    let answer = eventually("Prometheus answers", || {
        prometheus.ask_over(&query.text, from, end, step)
    })
    .await;
    points(&answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rotation_and_every_purge_is_marked() {
    let Some(prometheus) = Prometheus::holding(&day()) else {
        return;
    };
    let mut looked_at = 0;
    for range in Look::RANGES {
        for query in queries::of_annotations(Look::of(range)) {
            let kind = if query.place.contains("purge\"") {
                "purge"
            } else {
                "rotate"
            };
            let (length, step) = query.over.expect("over a range");
            let step = step.as_secs_f64();
            let marks = asked(&prometheus, &query).await;
            // What happened at the very beginning is marked with what came just before.
            let first = f64::from(END) - length.as_secs_f64();
            let wanted: Vec<f64> = moments(kind)
                .into_iter()
                .filter(|moment| *moment >= first && moment + SCRAPE + step < f64::from(END))
                .collect();
            assert!(wanted.len() >= 4, "{range:?}: {wanted:?}");
            for moment in &wanted {
                let near = |(at, _): &&(f64, f64)| (0.0..SCRAPE + step).contains(&(at - moment));
                assert!(
                    marks.iter().any(|mark| near(&mark)),
                    "{}, {range:?}, step {step} s: no mark {} s before the end",
                    query.place,
                    f64::from(END) - moment
                );
            }
            // A mark stands for something, and next to it: a start may show it a step longer.
            for (at, _) in &marks {
                let moments = moments(kind);
                assert!(
                    moments
                        .iter()
                        .any(|moment| (0.0..SCRAPE + 2.0 * step + 10.0).contains(&(at - moment))),
                    "{}, {range:?}: a mark for nothing",
                    query.place
                );
            }
            assert!(marks.len() <= wanted.len() + 2, "{marks:?}");
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 3 * 3 * 2 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panels_of_rotations_and_purges_count_each_once() {
    let Some(prometheus) = Prometheus::holding(&day()) else {
        return;
    };
    let mut looked_at = 0;
    for range in Look::RANGES {
        for query in queries::of_dashboards(Look::of(range)) {
            let kinds: &[&str] = match query.place.as_str() {
                "keys.json, panel \"Rotations\"" => &["rotate", "purge"],
                "purge.json, panel \"Purges\"" => &["purge"],
                _ => continue,
            };
            let (length, step) = query.over.expect("over a range");
            let shown: f64 = asked(&prometheus, &query).await.iter().map(|of| of.1).sum();
            // The graph begins with the step in which the range begins, and ends with a scrape.
            let first = f64::from(END) - length.as_secs_f64() - step.as_secs_f64() + PHASE;
            let happened = kinds.iter().flat_map(|kind| moments(kind));
            let happened = happened
                .filter(|moment| *moment > first && *moment < f64::from(END) - SCRAPE)
                .count();
            let happened = f64::from(u32::try_from(happened).expect("a few"));
            // Just after a start one may be shown twice; none is ever missing.
            assert!(
                (happened..=happened + 2.0).contains(&shown),
                "{}, {range:?}: {shown} of {happened}",
                query.place
            );
            looked_at += 1;
        }
    }
    assert_eq!(looked_at, 6);
}
