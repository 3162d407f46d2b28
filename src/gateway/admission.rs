//! From a request to a route, and from its token to an admission or a refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::lifecycle::published::Permit;
use crate::lifecycle::recovery::KeyRecovery;
use crate::lifecycle::{ClientFailure, Snapshot, state_label};
use crate::telemetry::{CacheLookup, Disposition, KeySeries, KeyStateLabel, Level, RouteMetrics};
use crate::token::{self, Claims, Effort, Refused, Rejection, RouteRules};

use super::context::RequestContext;
use super::limits::host_of;
use super::path::PathError;
use super::reply::Reply;
use super::routes::Auth;
use super::{Gateway, LocalEndpoints, PreparedRoute, bearer, path};

/// An answer that goes on for longer than this is a stream.
const STREAM_AGE: Duration = Duration::from_secs(1);

/// What verification under a snapshot leaves behind.
struct Admission {
    claims: Arc<Claims>,
    permit: Permit,
    state: KeyStateLabel,
    lookup: CacheLookup,
}

/// A refusal, owned, so that the snapshot is let go before anything is awaited.
pub(super) struct Denial {
    pub(super) rejection: Rejection,
    pub(super) kid: Option<String>,
    client_id: Option<String>,
    alarm: Option<&'static str>,
    lookup: CacheLookup,
    purged: Option<(KeySeries, Option<Arc<KeyRecovery>>)>,
}

impl Gateway {
    pub(super) fn local_endpoint(&self, session: &Session) -> Option<&LocalEndpoints> {
        let path = session.req_header().uri.path();
        self.local
            .iter()
            .find(|local| local.paths.iter().any(|own| own == path))
    }

    pub(super) async fn serve_local(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        local: &LocalEndpoints,
    ) -> Result<bool> {
        ctx.local = true;
        ctx.in_flight = Some(local.metrics.in_flight());
        local.bridge.serve(session.as_downstream_mut(), None).await;
        Ok(true)
    }

    /// Finds the route and does what it demands. `true` when the request was refused and answered.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        match target(session.req_header()) {
            Err(error) => return self.refuse_path(session, ctx, error).await,
            Ok(Some(canonical)) => rewrite_path(session, &canonical)?,
            Ok(None) => {}
        }
        let Some(index) = self.match_route(session) else {
            return self
                .refuse_request(session, ctx, 404, "no route takes this request")
                .await;
        };
        ctx.route = Some(index);
        let Some(prepared) = self.parts.routes.get(index) else {
            return Ok(false);
        };
        ctx.in_flight = Some(prepared.metrics.in_flight());
        match &prepared.route.auth {
            Auth::None if has_many_credentials(session) => {
                self.refuse_request(
                    session,
                    ctx,
                    400,
                    "the request has more than one Authorization header",
                )
                .await
            }
            Auth::None => {
                prepared.metrics.public();
                Ok(false)
            }
            Auth::Bearer(rules) => self.admit_bearer(session, ctx, prepared, rules).await,
        }
    }

    fn match_route(&self, session: &Session) -> Option<usize> {
        if !self.serves_routes {
            return None;
        }
        let request = session.req_header();
        let host = host_of(request);
        let path = request.uri.path();
        self.parts
            .routes
            .iter()
            .position(|prepared| prepared.route.matcher.takes(host, path, &request.method))
    }

    async fn admit_bearer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        prepared: &PreparedRoute,
        rules: &RouteRules,
    ) -> Result<bool> {
        let started = Instant::now();
        let limited = self.forger_waits(session);
        let effort = limited.map_or(Effort::Full, |_wait| Effort::KnownOnly);
        let verdict = match bearer::token(&session.req_header().headers) {
            Err(rejection) => Err(Denial::of(rejection)),
            Ok(token) => self.verify(effort, token, rules, ctx.route.unwrap_or_default()),
        };
        let verdict = verdict.map_err(|denial| self.weigh(session, denial, limited));
        let lookup = match &verdict {
            Ok(admission) => admission.lookup,
            Err(denial) => denial.lookup,
        };
        self.parts
            .metrics
            .auth_duration(lookup, started.elapsed().as_secs_f64());
        match verdict {
            Ok(admission) => {
                prepared.metrics.allowed(admission.state);
                ctx.admitted = Some((admission.claims, admission.permit));
                Ok(false)
            }
            Err(denial) => {
                self.refuse_token(session, ctx, prepared, rules, &denial, limited)
                    .await
            }
        }
    }

    /// One snapshot, held from the look at the key to the permit; no lock, no waiting.
    fn verify(
        &self,
        effort: Effort,
        token: &[u8],
        rules: &RouteRules,
        route: usize,
    ) -> std::result::Result<Admission, Denial> {
        self.parts.published.with(self.worker, |snapshot| {
            let now = self.parts.clock.now();
            let clients = self.parts.clients.view();
            let (keys, revoked) = (&snapshot.keys, clients.revocations());
            match token::verify_with(effort, token, keys, rules, revoked, now) {
                Ok(accepted) => {
                    let admission = Admission {
                        permit: snapshot.permit(accepted.key.index, &accepted.claims, route, now),
                        state: state_label(accepted.key.state),
                        lookup: lookup(accepted.cached),
                        claims: accepted.claims,
                    };
                    self.parts
                        .published
                        .accepted(self.worker, &accepted.key.kid);
                    Ok(admission)
                }
                Err(refused) => Err(Denial::under(snapshot, refused)),
            }
        })
    }

    async fn refuse_token(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        prepared: &PreparedRoute,
        rules: &RouteRules,
        denial: &Denial,
        limited: Option<Duration>,
    ) -> Result<bool> {
        match &denial.purged {
            Some((series, recovery)) => {
                prepared.metrics.denied_by_purge(series);
                if let (Some(recovery), Some(client)) = (recovery, &denial.client_id) {
                    recovery.failed(client, self.parts.clock.now());
                }
            }
            None => prepared.metrics.denied(denial.rejection),
        }
        if let Some(client) = &denial.client_id {
            let failure = ClientFailure::Token(denial.rejection);
            let now = self.parts.clock.now();
            self.parts.clients.note_failure(client, failure, now);
        }
        let reason = denial.rejection.as_str();
        let disposition = self.parts.denials.note(self.parts.clock.now(), reason);
        let log_id = disposition.log_id();
        ctx.log_id = Some(log_id);
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
        let reply = Reply::rejection(denial.rejection, &self.parts.realm, rules, log_id)
            .after(limited.filter(|_wait| denial.rejection == Rejection::RateLimited));
        reply.send(session).await.map(|()| true)
    }

    pub(super) fn metrics_of(&self, session: &Session, ctx: &RequestContext) -> &Arc<RouteMetrics> {
        match (self.route(ctx), ctx.local) {
            (Some(prepared), _) => &prepared.metrics,
            (None, true) => self
                .local_endpoint(session)
                .map_or(&self.unmatched, |local| &local.metrics),
            (None, false) => &self.unmatched,
        }
    }
}

const fn lookup(cached: bool) -> CacheLookup {
    if cached {
        CacheLookup::Hit
    } else {
        CacheLookup::Miss
    }
}

impl Denial {
    const fn of(rejection: Rejection) -> Self {
        Self {
            rejection,
            kid: None,
            client_id: None,
            alarm: None,
            lookup: CacheLookup::None,
            purged: None,
        }
    }

    fn under(snapshot: &Snapshot, refused: Refused<'_>) -> Self {
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
            lookup: lookup(refused.cached),
            purged,
        }
    }
}

impl RequestContext {
    /// Ends a stream that a purged key opened, at its next chunk. A request that still waits for
    /// its answer, or gets a short one, is left to finish: its caller would count a refusal that no
    /// metric shows.
    pub(super) fn check_not_purged(&self) -> Result<()> {
        let is_stream = self
            .answered
            .is_some_and(|since| since.elapsed() > STREAM_AGE);
        match &self.admitted {
            Some((_, permit)) if is_stream && permit.key_was_purged() => {
                let mut cut = Error::explain(
                    ErrorType::ConnectionClosed,
                    "the key that opened this stream was purged",
                );
                cut.as_down();
                Err(cut)
            }
            _ => Ok(()),
        }
    }
}

/// The canonical path, when it is not what would be forwarded already. The raw target is looked at
/// and not only what the parser made of it: `admin/x` parses as a host with the path `/`, and would
/// be forwarded as it came.
pub(super) fn target(request: &RequestHeader) -> std::result::Result<Option<String>, PathError> {
    let raw = request.raw_path();
    let is_absolute = ["http://", "https://"].into_iter().any(|scheme| {
        raw.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    if !raw.starts_with(b"/") && !is_absolute {
        return Err(PathError::NotOrigin);
    }
    let path = request.uri.path();
    let canonical = path::canonical(path)?;
    // Towards an origin a target has origin form (RFC 9112 §3.2.1).
    Ok(canonical.or_else(|| is_absolute.then(|| path.to_owned())))
}

fn has_many_credentials(session: &Session) -> bool {
    session
        .req_header()
        .headers
        .get_all(AUTHORIZATION)
        .iter()
        .nth(1)
        .is_some()
}

fn rewrite_path(session: &mut Session, canonical: &str) -> Result<()> {
    let uri = &session.req_header().uri;
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let not_a_uri = || {
        Error::explain(
            ErrorType::HTTPStatus(400),
            "the request target is not a URI",
        )
    };
    // On HTTP/2 the authority stays: it becomes the Host.
    let mut parts = uri.clone().into_parts();
    let target: PathAndQuery = format!("{canonical}{query}")
        .parse()
        .map_err(|_invalid| not_a_uri())?;
    parts.path_and_query = Some(target);
    let uri = Uri::from_parts(parts).map_err(|_invalid| not_a_uri())?;
    session.req_header_mut().set_uri(uri);
    Ok(())
}
