//! The refusal of a token: its counts, its one line in the log, its answer.

use std::sync::Arc;
use std::time::Duration;

use pingora::Result;
use pingora::proxy::Session;

use crate::lifecycle::recovery::KeyRecovery;
use crate::lifecycle::{ClientFailure, Snapshot};
use crate::telemetry::{CacheLookup, ClientName, Disposition, KeySeries, Level, Short};
use crate::token::{Refused, Rejection, RouteRules};

use super::admission::lookup;
use super::context::RequestContext;
use super::reply::Reply;
use super::{Gateway, PreparedRoute};

/// A refusal, owned, so that the snapshot is let go before anything is awaited.
pub(super) struct Denial {
    pub(super) rejection: Rejection,
    pub(super) kid: Option<String>,
    client_id: Option<String>,
    alarm: Option<&'static str>,
    /// Whether its signature was checked in vain.
    pub(super) forged: bool,
    pub(super) lookup: CacheLookup,
    purged: Option<(KeySeries, Option<Arc<KeyRecovery>>)>,
    /// The dead key with which somebody signed it.
    stolen: Option<Arc<KeyRecovery>>,
}

impl Gateway {
    pub(super) async fn refuse_token(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        prepared: &PreparedRoute,
        rules: &RouteRules,
        denial: Denial,
        limited: Option<Duration>,
    ) -> Result<bool> {
        let now = self.parts.clock.now();
        match &denial.purged {
            Some((series, recovery)) => {
                prepared.metrics.denied_by_purge(series);
                if let (Some(recovery), Some(client)) = (recovery, &denial.client_id) {
                    recovery.failed(client, now);
                }
            }
            None => prepared.metrics.denied(denial.rejection),
        }
        if let Some(stolen) = &denial.stolen {
            stolen.used_after_death(now);
        }
        if let Some(client) = &denial.client_id {
            let failure = ClientFailure::Token(denial.rejection);
            self.parts.clients.note_failure(client, failure, now);
        }
        let reason = denial.rejection.as_str();
        let disposition = self.parts.denials.note(now, reason);
        let log_id = disposition.log_id();
        ctx.told.log_id = Some(log_id);
        ctx.told.reason = Some(reason);
        if let Disposition::Own(_) = disposition {
            let (level, message) = match denial.alarm {
                Some(alarm) => (Level::Error, alarm),
                None => (Level::Info, "a request was refused"),
            };
            self.parts
                .log
                .event(level, "request_denied", message)
                .log_id(log_id)
                .field("reason", reason)
                .field("status", denial.rejection.answer().status)
                .field("route", prepared.route.name.as_str())
                .field("kid", denial.kid.as_deref().unwrap_or("unknown"))
                .outside("client_id", denial.client_id.as_deref().unwrap_or_default())
                .outside("method", session.req_header().method.as_str())
                .outside("path", session.req_header().uri.path())
                .field("peer", session.client_addr().map(ToString::to_string))
                .emit();
        }
        if self.keeps_records() {
            ctx.told.kid = denial.kid.map(Short::new);
            ctx.told.client = denial
                .client_id
                .map_or(ClientName::Unknown, ClientName::Text);
        }
        let reply = Reply::rejection(denial.rejection, &self.parts.realm, rules, log_id)
            .after(limited.filter(|_wait| denial.rejection == Rejection::RateLimited));
        reply.send(session).await.map(|()| true)
    }
}

impl Denial {
    pub(super) const fn of(rejection: Rejection) -> Self {
        Self {
            rejection,
            kid: None,
            client_id: None,
            alarm: None,
            forged: false,
            lookup: CacheLookup::None,
            purged: None,
            stolen: None,
        }
    }

    pub(super) fn under(snapshot: &Snapshot, refused: Refused<'_>) -> Self {
        let stolen = refused
            .tombstone
            .filter(|_| refused.rejection == Rejection::CompromisedKeyInUse)
            .and_then(|index| snapshot.recoveries.get(index).cloned().flatten());
        let purged = refused
            .tombstone
            .filter(|_| refused.rejection == Rejection::KeyPurged)
            .and_then(|index| {
                let recovery = snapshot.recoveries.get(index).cloned().flatten();
                Some((snapshot.tombstone_series.get(index)?.clone(), recovery))
            });
        Self {
            rejection: refused.rejection,
            kid: refused.kid.map(ToString::to_string),
            client_id: refused.client_id,
            alarm: refused.alarm,
            forged: refused.forged,
            lookup: refused.cached.map_or(CacheLookup::None, lookup),
            purged,
            stolen,
        }
    }
}
