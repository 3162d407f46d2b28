//! `keys`: the store, the key-encryption keys, and the timings with the relations between them.

use std::time::Duration;

use crate::config::config::{Keys, StaticClient, StoreSettings};
use crate::config::error::Broken;
use crate::config::forms::Scalar;
use crate::config::path::KeyPath;
use crate::config::raw::RawKeys;
use crate::config::{names, units};
use crate::keys::timing::{IsolationGrace, MAX_LEEWAY, Timing};

use super::Cx;

const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);

pub(super) fn keys(
    cx: &mut Cx<'_>,
    raw: Option<RawKeys>,
    issuer_ttl: Option<Duration>,
    clients: &[StaticClient],
) -> Option<Keys> {
    let at = KeyPath::root().key("keys");
    let Some(raw) = raw else {
        cx.missing(
            &at,
            "write `keys: { store: { file: data/keys }, encryption_key_files: [secrets/kek] }`",
        );
        return None;
    };
    let store_file = raw.store.as_ref().and_then(|store| store.file.as_ref());
    let store = cx.required(
        &at.key("store").key("file"),
        store_file,
        "write where the key set lies: `store: { file: data/keys }`",
        names::file,
    );
    let files_at = at.key("encryption_key_files");
    let encryption_key_files =
        cx.list(&files_at, raw.encryption_key_files.as_ref(), 8, names::file);
    if raw.encryption_key_files.as_ref().is_none_or(Vec::is_empty) {
        cx.missing(
            &files_at,
            "write `encryption_key_files: [secrets/kek]`; `portcullis init` makes the file",
        );
    }
    let timing = timing(cx, &raw, &at, issuer_ttl, clients);
    Some(Keys {
        store: StoreSettings::File(store?),
        encryption_key_files,
        timing,
    })
}

fn timing(
    cx: &mut Cx<'_>,
    raw: &RawKeys,
    at: &KeyPath,
    issuer_ttl: Option<Duration>,
    clients: &[StaticClient],
) -> Timing {
    let found_before = cx.found.len();
    let default = Timing::default();
    let mut read = |name: &str, raw: Option<&Scalar>, default: Duration, least, most| {
        cx.maybe(&at.key(name), raw, |text| {
            units::duration_within(text, least, most)
        })
        .unwrap_or(default)
    };
    let rotation_interval = read(
        "rotation_interval",
        raw.rotation_interval.as_ref(),
        default.rotation_interval,
        MILLISECOND,
        YEAR,
    );
    let idempotency_window = read(
        "idempotency_window",
        raw.idempotency_window.as_ref(),
        default.idempotency_window,
        MILLISECOND,
        DAY,
    );
    let prepublish = read(
        "prepublish",
        raw.prepublish.as_ref(),
        default.prepublish,
        MILLISECOND,
        DAY,
    );
    let jwks_max_age = read(
        "jwks_max_age",
        raw.jwks_max_age.as_ref(),
        default.jwks_max_age,
        Duration::ZERO,
        DAY,
    );
    let leeway = read(
        "leeway",
        raw.leeway.as_ref(),
        default.leeway,
        Duration::ZERO,
        MAX_LEEWAY,
    );
    let clock_offset_max = read(
        "clock_offset_max",
        raw.clock_offset_max.as_ref(),
        default.clock_offset_max,
        Duration::ZERO,
        Duration::from_secs(300),
    );
    let sign_drain = read(
        "sign_drain",
        raw.sign_drain.as_ref(),
        default.sign_drain,
        Duration::ZERO,
        DAY,
    );
    let replica_lease = read(
        "replica_lease",
        raw.replica_lease.as_ref(),
        default.replica_lease,
        MILLISECOND,
        DAY,
    );
    let heartbeat = read(
        "heartbeat",
        raw.heartbeat.as_ref(),
        default.heartbeat,
        MILLISECOND,
        DAY,
    );
    let barrier_timeout = read(
        "barrier_timeout",
        raw.barrier_timeout.as_ref(),
        default.barrier_timeout,
        MILLISECOND,
        DAY,
    );
    let isolation_grace = cx
        .maybe(
            &at.key("isolation_grace"),
            raw.isolation_grace.as_ref(),
            isolation_grace,
        )
        .unwrap_or(default.isolation_grace);
    let timing = Timing {
        max_token_ttl: max_token_ttl(issuer_ttl.unwrap_or(default.max_token_ttl), clients),
        leeway,
        jwks_max_age,
        prepublish,
        idempotency_window,
        rotation_interval,
        replica_lease,
        heartbeat,
        barrier_timeout,
        isolation_grace,
        sign_drain,
        clock_offset_max,
        // The file store serves one process.
        replicated: false,
    };
    // A timing that broke its own rule stands here as its default: a relation would mislead.
    if cx.found.len() == found_before {
        relations(cx, &timing, at);
    }
    timing
}

fn relations(cx: &mut Cx<'_>, timing: &Timing, at: &KeyPath) {
    let Err(error) = timing.check() else {
        return;
    };
    let key = match error.key {
        "token_ttl" => KeyPath::root().key("issuer").key("token_ttl"),
        key => at.key(key),
    };
    let rule = format!("relation {}: {}", error.relation, error.rule);
    let fix = format!(
        "{}; change one of them so that the relation holds (no switch disables it)",
        error.values
    );
    cx.report(&key, None, Broken::new(rule, fix));
}

fn max_token_ttl(issuer: Duration, clients: &[StaticClient]) -> Duration {
    clients
        .iter()
        .map(|client| client.token_ttl)
        .fold(issuer, Duration::max)
}

fn isolation_grace(text: &str) -> Result<IsolationGrace, Broken> {
    match text {
        "strict" => Ok(IsolationGrace::Strict),
        "offline" => Ok(IsolationGrace::Offline),
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => {
            units::duration_within(text, Duration::ZERO, YEAR).map(IsolationGrace::For)
        }
        _ => Err(Broken::new(
            "a duration, `strict` or `offline`",
            "write for example `5m`; `strict` means as long as the lease, `offline` for ever",
        )),
    }
}
