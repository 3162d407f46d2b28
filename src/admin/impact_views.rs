//! What the admin API shows of previews, shadow purges, and purges that were.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keys::Kid;
use crate::keys::over_time::{Counts, OverTime};
use crate::keys::recovery::{ClientRecovery, PurgeRecovery};
use crate::lifecycle::impact::Broken;
use crate::lifecycle::{Clients, Preview, Receipt, Shadow};

use super::views::ReceiptView;

/// `GET keys/preview`: upper bounds; live tokens are at most a minute's too many.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Preview")]
pub(super) struct PreviewView {
    revision: u64,
    computed_at: String,
    #[serde(flatten)]
    total: BrokenView,
    /// From when on all traffic is known.
    traffic_since: String,
    /// When a plain Rotate now would have replaced every token of today.
    rotate_instead_over_at: String,
    keys: Vec<KeyPreviewView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KeyPreview")]
struct KeyPreviewView {
    #[schemars(with = "Kid")]
    kid: String,
    #[schemars(extend("enum" = ["active", "pending", "deprecated"]))]
    state: &'static str,
    #[serde(flatten)]
    broken: BrokenView,
    live_until: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Broken")]
struct BrokenView {
    live_tokens: u64,
    clients: u64,
    /// False when the memory bound made it count some clients more than once.
    clients_exact: bool,
    /// Over the last five minutes, as are the clients that sent them.
    requests_per_second: f64,
    requesting_clients: u64,
    requesting_clients_exact: bool,
    /// True when an imported key is among them: tokens of its former system are not counted.
    uncounted_tokens: bool,
}

/// A shadow purge, running or over.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ShadowPurge")]
pub(super) struct ShadowView {
    shadow_id: Uuid,
    pub(super) status_url: String,
    over: bool,
    #[schemars(with = "Vec<Kid>")]
    kids: Vec<String>,
    started_at: String,
    ends_at: String,
    seconds_left: u64,
    /// Requests that the keys in scope admitted, and a purge would have refused.
    requests: u64,
    clients: u64,
    clients_exact: bool,
    /// The requests by route.
    routes: BTreeMap<String, u64>,
}

/// An item of `GET keys/purges`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PurgeSummary")]
pub(super) struct PurgeSummaryView {
    #[serde(flatten)]
    receipt: ReceiptView,
    recovery: SumsView,
}

/// `GET keys/purges`: newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PurgeList")]
pub(super) struct PurgeListView {
    pub(super) purges: Vec<PurgeSummaryView>,
    /// `before` of the next page; null on the last one.
    pub(super) next: Option<Uuid>,
}

/// `GET keys/purges/{id}`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Purge")]
pub(super) struct PurgeView {
    #[serde(flatten)]
    receipt: ReceiptView,
    recovery: RecoveryView,
    failures_over_time: OverTimeView,
}

/// What a purge did over time, since it was made or this process started.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverTime")]
struct OverTimeView {
    /// Width of each bucket; it grows with time, so that there are never many.
    bucket_seconds: u64,
    /// Oldest first, none left out.
    buckets: Vec<BucketView>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "OverTimeBucket")]
struct BucketView {
    at: String,
    failures: u64,
    /// Clients accepted again after failures.
    recovered: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Recovery")]
struct RecoveryView {
    #[serde(flatten)]
    sums: SumsView,
    /// By name; for operators alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<ClientView>>,
    /// `after` of the next page, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RecoverySums")]
struct SumsView {
    affected: u64,
    got_new_token: u64,
    recovered: u64,
    failures: u64,
    /// Failures of clients beyond the memory bound, who are not among those affected.
    unlisted_failures: u64,
    /// Requests refused as `compromised_key_in_use`: with tokens that a key of this purge signed after
    /// its end. Whoever sent them has its private half.
    compromised_key_uses: u64,
    compromised_first_used_at: Option<String>,
    compromised_last_used_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientRecovery")]
struct ClientView {
    client_id: String,
    first_failure_at: String,
    last_failure_at: String,
    failures: u64,
    new_token_at: Option<String>,
    /// First request accepted after the last failure.
    recovered_at: Option<String>,
    /// It has had no accepted request since its last failure. Whether it still tries, or has been silent
    /// since, `last_failure_at` tells.
    still_failing: bool,
    /// Why it was last refused, by whatever it was; null when this process does not know.
    last_failure_code: Option<&'static str>,
    last_failure_reason: Option<&'static str>,
}

impl PreviewView {
    pub(super) fn of(preview: &Preview) -> Self {
        let keys = preview.keys.iter().map(|key| KeyPreviewView {
            kid: key.kid.to_string(),
            state: key.state.as_str(),
            broken: BrokenView::of(key.broken),
            live_until: text(key.live_until),
        });
        Self {
            revision: preview.revision,
            computed_at: preview.computed_at.to_string(),
            total: BrokenView::of(preview.total),
            traffic_since: preview.traffic_since.to_string(),
            rotate_instead_over_at: preview.rotate_instead_over_at.to_string(),
            keys: keys.collect(),
        }
    }
}

impl BrokenView {
    const fn of(broken: Broken) -> Self {
        Self {
            live_tokens: broken.live_tokens,
            clients: broken.clients,
            clients_exact: broken.clients_exact,
            requests_per_second: broken.requests_per_second,
            requesting_clients: broken.requesting_clients,
            requesting_clients_exact: broken.requesting_clients_exact,
            uncounted_tokens: broken.uncounted_tokens,
        }
    }
}

impl ShadowView {
    pub(super) fn of(shadow: &Shadow, routes: &[String], now: Timestamp) -> Self {
        let over = shadow.is_over();
        let counted = shadow.counted();
        Self {
            shadow_id: shadow.id,
            status_url: format!("/admin/v1/keys/preview/shadows/{}", shadow.id),
            over,
            kids: shadow.kids.iter().map(ToString::to_string).collect(),
            started_at: shadow.started_at.to_string(),
            ends_at: shadow.ends_at.to_string(),
            seconds_left: if over {
                0
            } else {
                shadow.ends_at.since(now).as_secs()
            },
            requests: counted.requests,
            clients: counted.clients,
            clients_exact: counted.clients_exact,
            routes: routes.iter().cloned().zip(counted.routes).collect(),
        }
    }
}

impl PurgeSummaryView {
    pub(super) fn of(receipt: &Receipt, recovery: &PurgeRecovery) -> Self {
        Self {
            receipt: ReceiptView::of(receipt),
            recovery: SumsView::of(recovery),
        }
    }
}

impl PurgeView {
    /// With at most so many clients after the one named, or with none.
    pub(super) fn of(
        receipt: &Receipt,
        recovery: &PurgeRecovery,
        over_time: Option<&OverTime>,
        page: Option<(usize, Option<&str>)>,
        clients: &Clients,
    ) -> Self {
        let mut view = RecoveryView {
            sums: SumsView::of(recovery),
            clients: None,
            next_after: None,
        };
        if let Some((limit, after)) = page {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rest = recovery.clients.range::<str, _>((from, Bound::Unbounded));
            let clients: Vec<ClientView> = rest
                .by_ref()
                .take(limit)
                .map(|of| ClientView::of(of, clients))
                .collect();
            if rest.next().is_some() {
                view.next_after = clients.last().map(|last| last.client_id.clone());
            }
            view.clients = Some(clients);
        }
        Self {
            receipt: ReceiptView::of(receipt),
            recovery: view,
            failures_over_time: OverTimeView::of(over_time),
        }
    }
}

impl SumsView {
    fn of(recovery: &PurgeRecovery) -> Self {
        let sums = recovery.sums();
        Self {
            affected: sums.affected,
            got_new_token: sums.got_new_token,
            recovered: sums.recovered,
            failures: sums.failures,
            unlisted_failures: recovery.unlisted_failures,
            compromised_key_uses: recovery.compromised.map_or(0, |of| of.uses),
            compromised_first_used_at: text(recovery.compromised.map(|of| of.first_at)),
            compromised_last_used_at: text(recovery.compromised.map(|of| of.last_at)),
        }
    }
}

impl ClientView {
    fn of((client, recovery): (&Arc<str>, &ClientRecovery), clients: &Clients) -> Self {
        let failure = clients.last_failure(client).map(|(_, failure)| failure);
        Self {
            client_id: client.to_string(),
            first_failure_at: recovery.first_failure_at.to_string(),
            last_failure_at: recovery.last_failure_at.to_string(),
            failures: recovery.failures,
            new_token_at: text(recovery.new_token_at),
            recovered_at: text(recovery.recovered_at),
            still_failing: recovery.recovered_at.is_none(),
            last_failure_code: failure.map(|failure| failure.as_str()),
            last_failure_reason: failure.map(|failure| failure.in_words()),
        }
    }
}

impl OverTimeView {
    fn of(over_time: Option<&OverTime>) -> Self {
        let bucket = |(at, counts): (Timestamp, Counts)| BucketView {
            at: at.to_string(),
            failures: counts.failures,
            recovered: counts.recovered,
        };
        Self {
            bucket_seconds: over_time.map_or(0, |of| of.width().as_secs()),
            buckets: over_time.map_or_else(Vec::new, |of| of.buckets().map(bucket).collect()),
        }
    }
}

fn text(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}
