//! What Grafana makes of a query before it sends it: the step, and the windows that its variables
//! stand for. Imports nothing of ours.
//!
//! As `pkg/promlib/models/query.go` and `rangeutil.roundInterval` of Grafana 12 reckon.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    reason = "test code, of which each target uses a part"
)]

use std::time::Duration;

/// Pixels of a window: a panel is asked for as many points as it is wide.
pub const WINDOW: u32 = 1920;

/// How wide annotations are asked for: Grafana 12.0 leaves it to its default, later ones say how wide
/// the window is.
pub const ANNOTATION_POINTS: [u32; 2] = [100, WINDOW];

/// A dashboard that somebody looks at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub range: Duration,
    /// `timeInterval` of the source, which is Prometheus's scrape interval.
    pub scrape: Duration,
    /// How much faster time runs in a test than where people look: everything is so much shorter.
    pub speed: u32,
}

/// A query as it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub text: String,
    pub step: Duration,
}

impl Look {
    /// The ranges that people look at: what the dashboards open with, a quarter of a day, a day.
    pub const RANGES: [Duration; 3] = [
        Duration::from_secs(1800),
        Duration::from_secs(6 * 3600),
        Duration::from_secs(24 * 3600),
    ];

    /// A range with the scrape interval of `conf/prometheus.yml`.
    pub const fn of(range: Duration) -> Self {
        Self {
            range,
            scrape: Duration::from_secs(5),
            speed: 1,
        }
    }

    /// The time that the range takes here.
    pub fn length(self) -> Duration {
        self.range / self.speed
    }

    /// `points` wide, with the least step that the query itself asks for.
    pub fn sent(self, query: &str, points: u32, least: Option<&str>) -> Sent {
        let least = least.map(duration);
        let interval = rounded(self.range / points).max(self.scrape);
        let step = rounded(self.range / points).max(least.unwrap_or(self.scrape));
        let scrape = least.unwrap_or(self.scrape);
        let rate_interval = (interval + scrape).max(4 * scrape);

        let millis = |of: Duration| (of / self.speed).as_millis();
        let text = query
            .replace("$instance", ".*")
            .replace("$route", ".*")
            .replace("$__interval_ms", &millis(step).to_string())
            .replace("$__rate_interval", &format!("{}ms", millis(rate_interval)))
            .replace("$__interval", &format!("{}ms", millis(step)))
            .replace("$__range", &format!("{}ms", millis(self.range)));
        assert!(!text.contains('$'), "an unknown variable in {query}");
        Sent {
            text,
            step: step / self.speed,
        }
    }
}

/// `15s`, `1m`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("not a duration: {text}"),
    };
    let number: u64 = number
        .parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    Duration::from_secs(number * seconds)
}

fn rounded(interval: Duration) -> Duration {
    const BELOW: [(u64, u64); 16] = [
        (1_500, 1_000),
        (3_500, 2_000),
        (7_500, 5_000),
        (12_500, 10_000),
        (17_500, 15_000),
        (25_000, 20_000),
        (45_000, 30_000),
        (90_000, 60_000),
        (210_000, 120_000),
        (450_000, 300_000),
        (750_000, 600_000),
        (1_050_000, 900_000),
        (1_500_000, 1_200_000),
        (2_700_000, 1_800_000),
        (5_400_000, 3_600_000),
        (9_000_000, 7_200_000),
    ];
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    BELOW
        .iter()
        .find(|(below, _)| millis < *below)
        .map_or(interval, |(_, to)| Duration::from_millis(*to))
}
