//! From a request to a route, and from its token to an admission or a refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::lifecycle::published::Permit;
use crate::lifecycle::state_label;
use crate::telemetry::{
    AuthStep, CLIENT_GONE, CacheLookup, ClientName, FailureCause, KID_BYTES, KeyStateLabel,
    RouteMetrics, Short, Step,
};
use crate::token::{self, Claims, Effort, RouteRules};

use super::context::RequestContext;
use super::denial::Denial;
use super::limits::host_of;
use super::records::STREAM_CUT;
use super::routes::{Auth, PlainPath};
use super::target::{has_many_credentials, rewrite_path, target};
use super::{Gateway, LocalEndpoints, PreparedRoute, bearer};

/// An answer that goes on for longer than this is a stream.
const STREAM_AGE: Duration = Duration::from_secs(1);

/// What verification under a snapshot leaves behind.
struct Admission {
    claims: Arc<Claims>,
    permit: Permit,
    state: KeyStateLabel,
    lookup: CacheLookup,
    /// Its key, when somebody keeps records.
    kid: Option<Short<KID_BYTES>>,
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
        ctx.local = Some(local.name);
        ctx.in_flight = Some(local.metrics.in_flight());
        let served = local.bridge.serve(session.as_downstream_mut(), None).await;
        let status = session.response_written().map(|head| head.status.as_u16());
        if status.is_some_and(|status| status >= 500) {
            local.metrics.failed(FailureCause::Internal);
        }
        if let Some(note) = served.note {
            ctx.told.log_id = note.log_id;
            ctx.told.reason = note.reason;
            ctx.told.kid = note.kid.map(Short::new);
            ctx.told.client = note.client_id.map_or(ClientName::Unknown, ClientName::Text);
            ctx.told.issue = note.work.map(|(began, took)| Step { began, took });
        }
        if !served.complete {
            ctx.told.reason.get_or_insert(CLIENT_GONE);
        }
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
        let path = PlainPath::of(request.uri.path());
        self.parts
            .routes
            .iter()
            .position(|prepared| prepared.route.matcher.takes(host, &path, &request.method))
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
        let took = started.elapsed();
        self.parts.metrics.auth_duration(lookup, took.as_secs_f64());
        ctx.told.auth = Some(AuthStep {
            step: Step {
                began: started,
                took,
            },
            lookup,
        });
        match verdict {
            Ok(admission) => {
                prepared.metrics.allowed(admission.state);
                ctx.told.key_state = Some(admission.state);
                ctx.told.kid = admission.kid;
                ctx.admitted = Some((admission.claims, admission.permit));
                Ok(false)
            }
            Err(denial) => {
                self.refuse_token(session, ctx, prepared, rules, denial, limited)
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
                        kid: self
                            .keeps_records()
                            .then(|| Short::new(accepted.key.kid.as_str())),
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

    pub(super) fn metrics_of(&self, session: &Session, ctx: &RequestContext) -> &Arc<RouteMetrics> {
        match (self.route(ctx), ctx.local) {
            (Some(prepared), _) => &prepared.metrics,
            (None, Some(_)) => self
                .local_endpoint(session)
                .map_or(&self.unmatched, |local| &local.metrics),
            (None, None) => &self.unmatched,
        }
    }
}

pub(super) const fn lookup(cached: bool) -> CacheLookup {
    if cached {
        CacheLookup::Hit
    } else {
        CacheLookup::Miss
    }
}

impl RequestContext {
    /// Ends a stream that a purged key opened, at its next chunk. A request that still waits for
    /// its answer, or gets a short one, is left to finish: its caller would count a refusal that no
    /// metric shows.
    pub(super) fn check_not_purged(&mut self) -> Result<()> {
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
                self.told.reason = Some(STREAM_CUT);
                Err(cut)
            }
            _ => Ok(()),
        }
    }
}
