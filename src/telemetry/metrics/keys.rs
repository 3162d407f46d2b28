//! What happens to keys: the metrics of the key set, of rotations and of purges.
//!
//! Invariants: a kid becomes a label only when it is ours; at most [`MAX_KIDS`] at a time. The
//! series of a kid exists at 0 from [`KeyMetrics::series`] until [`KeyMetrics::retain`] leaves it
//! out. Requests hold the handles; the lock here is taken by life-cycle steps and scrapes only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Result,
};

use super::labels::{KeyStateLabel, RotationKind, RotationResult, Trigger};
use super::registrar::{Registrar, histogram, prefixed};
use crate::clock::Timestamp;

/// 64 live keys and 128 tombstones.
const MAX_KIDS: usize = 192;

/// Label of purged keys beyond [`MAX_KIDS`].
const OTHER_KID: &str = "other";

/// Seconds of a rotation: milliseconds with a file store, up to seconds where RSA keys are made.
/// 2 s is the deadline of a purge's drain, 15 s that of a barrier between replicas, so the share
/// that met them is exact.
const ROTATION_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.0, 5.0, 15.0,
];

/// Handles of one key of ours, alive or dead.
#[derive(Clone, Debug)]
pub struct KeySeries {
    /// `purge_verification_failures_total` of this kid.
    pub purge_failures: IntCounter,
    affected: IntGauge,
    recovered: IntGauge,
    shared: bool,
}

impl KeySeries {
    /// Whether this is `kid="other"`, which stands for several keys.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Shows how many clients the purge of this key broke, and how many of them are back.
    pub fn show_clients(&self, affected: i64, recovered: i64) {
        self.affected.set(affected);
        self.recovered.set(recovered);
    }
}

/// What the metrics show of a published key set.
#[derive(Clone, Copy, Debug)]
pub struct KeySetFacts<'a> {
    /// Revision of the set.
    pub revision: u64,
    /// The keys that verify.
    pub keys: &'a [KeyFacts<'a>],
    /// Number of tombstones of retired keys.
    pub retired: usize,
    /// Number of tombstones of purged keys.
    pub purged: usize,
    /// When keys were last rotated.
    pub last_rotation_at: Option<Timestamp>,
    /// When the schedule will rotate next.
    pub next_rotation_at: Option<Timestamp>,
    /// Since when a new key-encryption key is due.
    pub kek_demanded_since: Option<Timestamp>,
}

/// What the metrics show of a key that verifies.
#[derive(Clone, Copy, Debug)]
pub struct KeyFacts<'a> {
    /// The kid.
    pub kid: &'a str,
    /// Its state.
    pub state: KeyStateLabel,
    /// From when on nothing verifies with it, as far as that is decided. A key without it has no
    /// series.
    pub not_after: Option<Timestamp>,
}

/// Labels of a rotation.
type Asked = (Trigger, RotationKind, RotationResult);

/// The metrics of keys.
#[derive(Debug)]
pub(super) struct KeyMetrics {
    families: KidFamilies,
    other: KeySeries,
    series: Mutex<BTreeMap<String, KeySeries>>,
    keys: Vec<(KeyStateLabel, IntGauge)>,
    retired: IntGauge,
    purged: IntGauge,
    live_tokens: Vec<(KeyStateLabel, IntGauge)>,
    not_after: NotAfter,
    revision: IntGauge,
    last_rotation: Gauge,
    next_rotation: Gauge,
    kek_demanded: IntGauge,
    kek_demanded_since: Gauge,
    rotations: Vec<(Asked, IntCounter)>,
    rotation_duration: Vec<(RotationKind, Histogram)>,
}

impl KeyMetrics {
    pub(super) fn register(to: &mut Registrar) -> Result<Self> {
        let families = KidFamilies::register(to)?;
        let other = families.series(OTHER_KID)?;
        let states = to.int_gauges("signing_keys", "Keys by state.", &["state"])?;
        let state = |name: &str| states.get_metric_with_label_values(&[name]);
        let tokens = to.int_gauges(
            "live_tokens",
            "Issued tokens that have not expired, by the state of their key; at most a minute too many.",
            &["key_state"],
        )?;
        let tokens_of = |&label: &KeyStateLabel| {
            Ok((
                label,
                tokens.get_metric_with_label_values(&[label.as_str()])?,
            ))
        };
        let live = |&label: &KeyStateLabel| Ok((label, state(label.as_str())?));
        Ok(Self {
            families,
            other,
            series: Mutex::default(),
            keys: KeyStateLabel::ALL.iter().map(live).collect::<Result<_>>()?,
            retired: state("retired")?,
            purged: state("purged")?,
            live_tokens: KeyStateLabel::ALL
                .iter()
                .map(tokens_of)
                .collect::<Result<_>>()?,
            not_after: to.add(NotAfter::new()?)?,
            revision: to.int_gauge("keyset_revision", "Revision of the key set in force.")?,
            last_rotation: to.gauge(
                "key_last_rotation_timestamp_seconds",
                "When the signing key was last rotated, as a Unix time; 0 when it never was.",
            )?,
            next_rotation: to.gauge(
                "key_next_rotation_timestamp_seconds",
                "When the schedule rotates next, as a Unix time; 0 when nothing is scheduled.",
            )?,
            kek_demanded: to.int_gauge(
                "key_encryption_key_demanded",
                "1 while the operator owes a new key-encryption key after a purge, else 0.",
            )?,
            kek_demanded_since: to.gauge(
                "key_encryption_key_demanded_timestamp_seconds",
                "Since when a new key-encryption key is due, as a Unix time; 0 when none is.",
            )?,
            rotations: rotations(to)?,
            rotation_duration: rotation_duration(to)?,
        })
    }

    pub(super) fn series(&self, kid: &str) -> KeySeries {
        let mut series = self.lock();
        if let Some(known) = series.get(kid) {
            return known.clone();
        }
        if series.len() >= MAX_KIDS || kid == OTHER_KID {
            return self.other.clone();
        }
        // It fails for a wrong number of labels only.
        let Ok(made) = self.families.series(kid) else {
            return self.other.clone();
        };
        series.insert(kid.to_owned(), made.clone());
        made
    }

    pub(super) fn older_purge_clients(&self, affected: i64, recovered: i64) {
        self.other.show_clients(affected, recovered);
    }

    pub(super) fn retain(&self, kids: &[&str]) {
        self.lock().retain(|kid, _| {
            let stays = kids.contains(&kid.as_str());
            if !stays {
                self.families.remove(kid);
            }
            stays
        });
    }

    pub(super) fn show(&self, facts: &KeySetFacts<'_>) {
        for (state, gauge) in &self.keys {
            gauge.set(whole(
                facts.keys.iter().filter(|key| key.state == *state).count(),
            ));
        }
        self.retired.set(whole(facts.retired));
        self.purged.set(whole(facts.purged));
        self.not_after.replace(facts.keys);
        self.revision
            .set(i64::try_from(facts.revision).unwrap_or(i64::MAX));
        let seconds = |at: Option<Timestamp>| at.map_or(0.0, Timestamp::as_seconds_f64);
        self.last_rotation.set(seconds(facts.last_rotation_at));
        self.next_rotation.set(seconds(facts.next_rotation_at));
        self.kek_demanded
            .set(i64::from(facts.kek_demanded_since.is_some()));
        self.kek_demanded_since
            .set(seconds(facts.kek_demanded_since));
    }

    pub(super) fn live_tokens(&self, state: KeyStateLabel, tokens: u64) {
        for (_, gauge) in self.live_tokens.iter().filter(|(of, _)| *of == state) {
            gauge.set(i64::try_from(tokens).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn rotation(
        &self,
        trigger: Trigger,
        kind: RotationKind,
        result: RotationResult,
        seconds: f64,
    ) {
        let asked = (trigger, kind, result);
        for (_, counter) in self.rotations.iter().filter(|(labels, _)| *labels == asked) {
            counter.inc();
        }
        // The window's answers and refusals cost nothing and would hide what a rotation takes.
        if matches!(result, RotationResult::Unchanged | RotationResult::Refused) {
            return;
        }
        for (_, duration) in self.rotation_duration.iter().filter(|(of, _)| *of == kind) {
            duration.observe(seconds);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, KeySeries>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The families with a series for each kid.
#[derive(Debug)]
struct KidFamilies {
    purge_failures: IntCounterVec,
    affected: IntGaugeVec,
    recovered: IntGaugeVec,
}

impl KidFamilies {
    fn register(to: &mut Registrar) -> Result<Self> {
        Ok(Self {
            purge_failures: to.counters(
                "purge_verification_failures_total",
                "Tokens refused only because their signing key was purged.",
                &["kid"],
            )?,
            affected: to.int_gauges(
                "purge_affected_clients",
                "Clients of which a token was refused only because its signing key was purged.",
                &["kid"],
            )?,
            recovered: to.int_gauges(
                "purge_recovered_clients",
                "Of the clients that a purge broke, those accepted since their last failure.",
                &["kid"],
            )?,
        })
    }

    fn series(&self, kid: &str) -> Result<KeySeries> {
        Ok(KeySeries {
            purge_failures: self.purge_failures.get_metric_with_label_values(&[kid])?,
            affected: self.affected.get_metric_with_label_values(&[kid])?,
            recovered: self.recovered.get_metric_with_label_values(&[kid])?,
            shared: kid == OTHER_KID,
        })
    }

    /// It was created as a whole, so there is something to remove in each.
    fn remove(&self, kid: &str) {
        drop(self.purge_failures.remove_label_values(&[kid]));
        drop(self.affected.remove_label_values(&[kid]));
        drop(self.recovered.remove_label_values(&[kid]));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn rotations(to: &mut Registrar) -> Result<Vec<(Asked, IntCounter)>> {
    let family = to.counters(
        "key_rotations_total",
        "Rotations and purges asked for, by who asked, what for, and what came of it.",
        &["trigger", "kind", "result"],
    )?;
    let mut all = Vec::new();
    for &trigger in Trigger::ALL {
        for &kind in RotationKind::ALL {
            for &result in RotationResult::ALL {
                let values = [trigger.as_str(), kind.as_str(), result.as_str()];
                let counter = family.get_metric_with_label_values(&values)?;
                all.push(((trigger, kind, result), counter));
            }
        }
    }
    Ok(all)
}

fn rotation_duration(to: &mut Registrar) -> Result<Vec<(RotationKind, Histogram)>> {
    let family = to.histograms(
        "key_rotation_duration_seconds",
        "Time that an executed rotation took; for a purge the drain is included.",
        &ROTATION_BUCKETS,
        "kind",
    )?;
    RotationKind::ALL
        .iter()
        .map(|&kind| Ok((kind, histogram(&family, kind.as_str())?)))
        .collect()
}

/// `signing_key_not_after_timestamp_seconds`, replaced as a whole: a scrape sees one key set, and
/// never a key in two states.
#[derive(Clone, Debug)]
struct NotAfter {
    desc: Desc,
    shown: Arc<Mutex<GaugeVec>>,
}

const NOT_AFTER: &str = "signing_key_not_after_timestamp_seconds";
const NOT_AFTER_HELP: &str = "From when on nothing verifies with this key, as a Unix time.";

impl NotAfter {
    fn new() -> Result<Self> {
        let shown = Self::empty()?;
        let desc = Desc::new(
            prefixed(NOT_AFTER),
            NOT_AFTER_HELP.to_owned(),
            vec!["kid".to_owned(), "state".to_owned()],
            Default::default(),
        )?;
        Ok(Self {
            desc,
            shown: Arc::new(Mutex::new(shown)),
        })
    }

    fn empty() -> Result<GaugeVec> {
        GaugeVec::new(
            Opts::new(prefixed(NOT_AFTER), NOT_AFTER_HELP),
            &["kid", "state"],
        )
    }

    fn replace(&self, keys: &[KeyFacts<'_>]) {
        let Ok(next) = Self::empty() else { return };
        for key in keys {
            // Asking for the gauge creates its series, so an undecided key must not even ask.
            let Some(at) = key.not_after else { continue };
            if let Ok(gauge) = next.get_metric_with_label_values(&[key.kid, key.state.as_str()]) {
                gauge.set(at.as_seconds_f64());
            }
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl Collector for NotAfter {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .collect()
    }
}
