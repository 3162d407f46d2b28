//! The proxy: `impl ProxyHttp`, its phases in the order in which Pingora calls them.
//!
//! Invariants: nothing is forwarded that no route takes; a protected route forwards only what
//! [`crate::token::verify`](fn@crate::token::verify) accepted; a request takes no lock that a rotation, the store, the log
//! or a scrape can hold. May import layers 0–3; never another edge.

mod admission;
mod answer;
pub mod bearer;
mod body;
mod checks;
mod context;
mod denial;
pub mod explain;
mod failure;
mod forged;
mod forwarding;
mod identity_headers;
pub mod limits;
mod parts;
mod path;
mod records;
mod reply;
pub mod routes;
pub mod sources;
mod target;
pub mod upstreams;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType, Result};

use crate::telemetry::{CodeClass, RouteMetrics, Step};

use body::BodyCount;
pub use checks::UpstreamChecks;
pub use context::RequestContext;
pub use failure::REASONS;
use identity_headers::IdentityHeaders;
pub use parts::{GatewayParts, LocalEndpoints, PreparedRoute};
use routes::Route;
use sources::TrustedProxies;

/// The proxy application of one worker on one listener.
#[derive(Debug)]
pub struct Gateway {
    parts: Arc<GatewayParts>,
    identity: IdentityHeaders,
    /// Our number among the holders of snapshots.
    worker: usize,
    serves_routes: bool,
    local: Vec<LocalEndpoints>,
    /// Requests that no route takes.
    unmatched: Arc<RouteMetrics>,
    /// Whose word on where a request came from is taken.
    proxies: TrustedProxies,
}

impl Gateway {
    /// The application of worker number `worker`.
    #[must_use]
    pub fn new(
        parts: Arc<GatewayParts>,
        worker: usize,
        serves_routes: bool,
        local: Vec<LocalEndpoints>,
        unmatched: Arc<RouteMetrics>,
    ) -> Self {
        let routes: Vec<Route> = parts
            .routes
            .iter()
            .map(|prepared| prepared.route.clone())
            .collect();
        Self {
            identity: IdentityHeaders::of(&routes),
            parts,
            worker,
            serves_routes,
            local,
            unmatched,
            proxies: TrustedProxies::default(),
        }
    }

    /// Takes the word of these proxies on where a request came from.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    fn route(&self, ctx: &RequestContext) -> Option<&PreparedRoute> {
        self.parts.routes.get(ctx.route?)
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new()
    }

    /// None: Pingora's default is a compression that is switched off, set up for each request.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    /// Limits, then our own endpoints, then route, token and rules.
    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        self.begin_trace(session, ctx);
        if session.req_header().version <= Version::HTTP_10 {
            // Such a client takes an informational answer for the final one (RFC 9110 §15.2).
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        if let Err(violation) = self
            .parts
            .limits
            .check(session.req_header(), raw(session).as_deref())
        {
            return self
                .refuse_request(session, ctx, violation.status, violation.rule)
                .await;
        }
        if let Some(local) = self.local_endpoint(session) {
            return self.serve_local(session, ctx, local).await;
        }
        self.admit(session, ctx).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        match body {
            // A stream of HTTP/2 that ends with an empty frame. Pingora would write it as a chunk, which
            // is the last one, and then the last chunk: the upstream would take that for a request.
            Some(piece) if piece.is_empty() && end => *body = None,
            Some(piece) if !piece.is_empty() => {
                let most = self.parts.limits.max_body_bytes;
                let started = ctx.started;
                ctx.body.take(piece.len(), || started.elapsed(), most)?;
            }
            _ => {}
        }
        ctx.check_not_purged()
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        ctx.tries += 1;
        // Another try sends the body again, from its start.
        ctx.body = BodyCount::default();
        ctx.upstream_started = Some(Instant::now());
        let no_endpoint =
            || Error::explain(ErrorType::HTTPStatus(502), "the upstream has no endpoint");
        let (place, peer) = self
            .route(ctx)
            .and_then(|route| route.upstream.next_peer(ctx.endpoint))
            .ok_or_else(no_endpoint)?;
        ctx.endpoint = Some(place);
        ctx.endpoint_address = peer.address().as_inet().copied();
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.note_failure(ctx, &error);
        // Nothing was sent yet, so another endpoint may be tried whatever the method.
        error.set_retry(
            self.route(ctx)
                .is_some_and(|route| ctx.tries < route.upstream.endpoints),
        );
        error
    }

    /// After Pingora's own sanitising: what is set here reaches the upstream.
    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let Some(prepared) = self.route(ctx) else {
            return Ok(());
        };
        let from_proxy = self.is_from_proxy(session);
        self.identity
            .strip(request, prepared.route.forward_token, from_proxy);
        if let Some((claims, _)) = &ctx.admitted {
            identity_headers::set(request, &prepared.route.identity_headers, claims)?;
        }
        forwarding::join_cookies(request)?;
        forwarding::trace(ctx.trace, request)?;
        forwarding::forwarded(session, request, from_proxy)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for it: upgrades are not forwarded.
            let mut error = Error::explain(
                ErrorType::InvalidHTTPHeader,
                "the upstream switched protocols",
            );
            error.as_up();
            return Err(error);
        }
        // A final answer before the end of the request ends the connection; `100 Continue` asks for the rest.
        let is_final = !response.status.is_informational();
        session.set_close_on_response_before_downstream_finish(is_final);
        if !is_final {
            answer::inform(response);
            return Ok(());
        }
        answer::prepare(session, response)?;
        let now = Instant::now();
        ctx.answered = Some(now);
        self.note_answer(ctx);
        if let (Some(prepared), Some(began)) = (self.route(ctx), ctx.upstream_started) {
            let took = now.duration_since(began);
            prepared.upstream.metrics.observe(took.as_secs_f64());
            ctx.told.upstream = Some(Step { began, took });
            ctx.upstream_started = None;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<std::time::Duration>> {
        ctx.check_not_purged().map(|()| None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    fn suppress_error_log(&self, _: &Session, _: &RequestContext, _: &Error) -> bool {
        // The gateway writes its own line, with a Log ID and without the query.
        true
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        let code = records::status(session).map_or(CodeClass::None, CodeClass::of);
        let total = ctx.started.elapsed();
        self.metrics_of(session, ctx).observe(
            session.req_header().method.as_str(),
            code,
            total.as_secs_f64(),
        );
        self.tell(session, ctx, total, error);
    }
}

/// What decides and is forwarded for the path `raw`; `None` when it is refused.
#[cfg(feature = "testing")]
#[must_use]
pub fn canonical_path(raw: &str) -> Option<String> {
    let canonical = path::canonical(raw).ok()?;
    Some(canonical.unwrap_or_else(|| raw.to_owned()))
}

/// The header block as received; HTTP/1 only.
fn raw(session: &Session) -> Option<Bytes> {
    session
        .as_downstream()
        .as_http1()
        .map(|h1| h1.get_headers_raw_bytes())
}
