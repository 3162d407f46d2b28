//! How each component but the upstreams is judged.
//!
//! A reason says what is wrong and what to do. It holds no number that changes by itself, so that it
//! stays the same for as long as nothing happens.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::lifecycle::StoreTrouble;

use super::view::{Facts, Status};
use super::window::Recent;
use super::{Verdict, Watched, upstreams};

/// A rotation that is due for longer than this is overdue.
const OVERDUE_AFTER: Duration = Duration::from_secs(300);

/// The schedule looks every second; when it has not for so long, it is stuck or gone.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// A new key-encryption key that is due for longer than this is an error.
const KEK_OVERDUE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Below so many token requests in the window their share of refusals says nothing.
const FEW_REQUESTS: u64 = 20;

/// Every component, in the order in which they are listed.
pub(super) fn all(
    watched: &Watched,
    recent: &Recent,
    started_at: Timestamp,
    now: Timestamp,
) -> Vec<Verdict> {
    let mut all = vec![
        gateway(watched, recent),
        key_store(watched, now),
        issuer(watched, recent),
        scheduler(watched, now),
    ];
    let upstreams = watched.upstreams.iter();
    all.extend(upstreams.map(|upstream| upstreams::judge(upstream, started_at)));
    all
}

/// The first that applies, the worst first.
type Finding = (Status, String, Option<Timestamp>);

fn verdict(
    id: &'static str,
    name: &'static str,
    finding: Option<Finding>,
    well: &str,
    facts: Facts,
) -> Verdict {
    let (status, reason, since) = finding.unwrap_or_else(|| (Status::Ok, well.to_owned(), None));
    Verdict {
        id: id.to_owned(),
        kind: id,
        name: name.to_owned(),
        status,
        reason,
        since,
        facts,
        endpoints: None,
    }
}

fn gateway(watched: &Watched, recent: &Recent) -> Verdict {
    let now = &recent.now;
    let step = watched.lifecycle.schedule_pause();
    let finding = if recent.violations > 0 {
        let reason = "An unexpired token of a retired key came within the last 5 minutes; this is a defect of ours: \
                      report it, with the log lines of the reason lifecycle_violation.";
        Some((Status::Error, reason.to_owned(), None))
    } else if recent.compromised > 0 {
        let reason = "Somebody uses a purged key: tokens came within the last 5 minutes that it signed after its purge. \
                      They were refused; find out who has the key by the log lines of the reason \
                      compromised_key_in_use.";
        Some((Status::Error, reason.to_owned(), None))
    } else if let Some(step) = &step {
        let reason = format!(
            "The clock of this host moved forward by {} s at {}; compare it with another clock, then confirm or correct it.",
            step.size.as_secs(),
            step.since
        );
        Some((Status::Warning, reason, Some(step.since)))
    } else if recent.dropped > 0 {
        let reason = "Log lines were lost within the last 5 minutes: whatever reads the log is too slow, or cannot \
                      be written to.";
        Some((Status::Warning, reason.to_owned(), None))
    } else {
        None
    };
    let facts = Facts::default()
        .with("workers", now.workers)
        .with("open connections", now.connections)
        .with("requests in flight", now.requests_in_flight)
        .with("log lines lost", now.log_lines_dropped)
        .with(
            "uses of a purged key after its purge",
            now.compromised_key_uses,
        )
        .with_some("clock moved forward at", step.map(|step| step.since));
    let well = "The gateway takes requests.";
    verdict("gateway", "Gateway", finding, well, facts)
}

fn key_store(watched: &Watched, now: Timestamp) -> Verdict {
    let facts = watched.store.facts();
    let snapshot = watched.lifecycle.published().load();
    let demand = snapshot.set.kek_demand.as_ref();
    let finding = if let Some(trouble) = facts.load.as_ref().or(facts.commit.as_ref()) {
        let reason = format!(
            "The store failed to {}: {}. Keys in force stay in force; no rotation or purge works until it does.",
            trouble.what, trouble.why
        );
        Some((Status::Error, reason, Some(trouble.since)))
    } else if let Some(demand) = demand {
        let late = now.since(demand.since) >= KEK_OVERDUE_AFTER;
        let status = if late { Status::Error } else { Status::Warning };
        let reason = format!(
            "A new key-encryption key is due since {}, because the purged keys may have leaked with the one that \
             sealed them: put a new one in front, then run `portcullis keys reseal`.",
            demand.since
        );
        let since = if late {
            demand.since.plus(KEK_OVERDUE_AFTER)
        } else {
            demand.since
        };
        Some((status, reason, Some(since)))
    } else if let Some(trouble) = facts.beside.values().next() {
        let reason = format!(
            "The store failed to {}: {}. Changes to clients, counters or receipts may not outlive a restart.",
            trouble.what, trouble.why
        );
        Some((Status::Warning, reason, Some(trouble.since)))
    } else if let Some(trouble) = &facts.warning {
        let reason = format!("The key set is safe, but: {}.", trouble.why);
        Some((Status::Warning, reason, Some(trouble.since)))
    } else {
        None
    };
    let shown = Facts::default()
        .with("revision", snapshot.set.revision)
        .with_some("last contact", facts.answered_at)
        .with_some("last failure", facts.last_failure.as_ref().map(failure))
        .with_some(
            "key-encryption key due since",
            demand.map(|demand| demand.since),
        );
    let well = "The key set can be loaded and committed.";
    verdict("key_store", "Key store", finding, well, shown)
}

fn failure(trouble: &StoreTrouble) -> String {
    format!("{}: to {}: {}", trouble.at, trouble.what, trouble.why)
}

fn issuer(watched: &Watched, recent: &Recent) -> Verdict {
    let snapshot = watched.lifecycle.published().load();
    let asked = recent.issued + recent.refused + recent.failed;
    let finding = if recent.failed > 0 {
        // Half of them or more is no hiccup.
        let status = if recent.failed * 2 >= asked {
            Status::Error
        } else {
            Status::Warning
        };
        let reason = "Token requests failed on our side within the last 5 minutes; see the log lines \
                      token_request_refused of the errors server_error and temporarily_unavailable.";
        Some((status, reason.to_owned(), None))
    } else if asked >= FEW_REQUESTS && recent.refused * 2 > asked {
        let reason = "More than half of the token requests of the last 5 minutes were refused: a client has a wrong \
                      secret or scope, or somebody guesses; see the log lines token_request_refused.";
        Some((Status::Warning, reason.to_owned(), None))
    } else {
        None
    };
    let active = &snapshot.set.active.public;
    let facts = Facts::default()
        .with("active key", &active.kid)
        .with("algorithm", active.alg.as_str())
        .with("tokens issued in 5 minutes", recent.issued)
        .with("requests refused in 5 minutes", recent.refused)
        .with("requests failed in 5 minutes", recent.failed);
    verdict("issuer", "Issuer", finding, "Tokens can be had.", facts)
}

fn scheduler(watched: &Watched, now: Timestamp) -> Verdict {
    let facts = watched.lifecycle.schedule_facts();
    let pause = watched.lifecycle.schedule_pause();
    let due = facts.next_rotation_at;
    let finding = if let Some(failing) = &facts.failing {
        let reason = format!(
            "A scheduled rotation or retirement fails: {}. The keys in force stay; it is tried again every second.",
            failing.why
        );
        Some((Status::Error, reason, Some(failing.since)))
    } else if let Some(pause) = &pause {
        let reason = format!(
            "Automatic rotation and retirement wait because the clock moved forward: confirm the time with \
             `portcullis keys confirm-clock`, or they go on at {}.",
            pause.resumes_at
        );
        Some((Status::Warning, reason, Some(pause.since)))
    } else if let Some(looked) = facts.looked_at.filter(|at| now.since(*at) >= STUCK_AFTER) {
        let reason = format!("The schedule has not looked since {looked}: restart the gateway.");
        Some((Status::Error, reason, Some(looked)))
    } else if now.since(due) >= OVERDUE_AFTER {
        let reason = format!(
            "The rotation that was due at {due} did not happen; rotate by hand and look into the log for schedule_failed."
        );
        Some((Status::Error, reason, Some(due.plus(OVERDUE_AFTER))))
    } else {
        None
    };
    let last = watched.lifecycle.published().load();
    let last = last.set.last_activation.as_ref().map(|last| last.at);
    let failed = facts
        .last_failure
        .map(|of| format!("{}: {}", of.at, of.why));
    let shown = Facts::default()
        .with("next rotation", due)
        .with_some("last rotation", last)
        .with_some("waits until", pause.map(|pause| pause.resumes_at))
        .with_some("last failure", failed);
    let well = "Keys rotate on schedule.";
    verdict("scheduler", "Scheduler", finding, well, shown)
}
