//! What the access log and the traces are told of a request.
//!
//! Invariant: with both switched off a request costs a look at two options; with one of them on, a
//! record that is moved into a queue and never waited for. No query, no token and no header field but a
//! checked `tracestate` is in it.

use std::time::Duration;

use http::Version;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource};

use crate::telemetry::{
    CLIENT_GONE, ClientName, NO_ROUTE, Place, RequestRecord, RequestTrace, Short, Step,
    Traceparent, UpstreamStep, tracestate,
};

use super::Gateway;
use super::context::RequestContext;
use super::failure::UPSTREAM_FAILED;
use super::forwarding;

/// Reason of a stream that ended because the key that opened it was purged.
pub(super) const STREAM_CUT: &str = "stream_cut";

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

impl Gateway {
    /// Whether requests leave records.
    pub(super) fn keeps_records(&self) -> bool {
        self.parts.access_log.is_some() || self.parts.tracer.is_some()
    }

    /// Gives the request its place in a trace, when there is a tracer.
    pub(super) fn begin_trace(&self, session: &Session, ctx: &mut RequestContext) {
        if let Some(tracer) = &self.parts.tracer {
            ctx.trace = Some(tracer.begin(fields(session, TRACEPARENT)));
        }
    }

    /// Tells of a request that has ended, `total` after its header was there.
    pub(super) fn tell(
        &self,
        session: &Session,
        ctx: &mut RequestContext,
        total: Duration,
        error: Option<&Error>,
    ) {
        if !self.keeps_records() {
            return;
        }
        if let Some(error) = error {
            ctx.told
                .reason
                .get_or_insert_with(|| match error.esource() {
                    ErrorSource::Upstream => UPSTREAM_FAILED,
                    _ => CLIENT_GONE,
                });
        }
        let status = status(session);
        let is_success = RequestRecord::is_success_of(status, ctx.told.reason);
        let access_log = self.parts.access_log.as_ref();
        let access_log = access_log.filter(|log| log.wants(self.worker, is_success));
        let is_recorded = ctx.trace.is_some_and(|trace| trace.sampled);
        let tracer = self.parts.tracer.as_ref().filter(|_| is_recorded);
        if access_log.is_none() && tracer.is_none() {
            return;
        }
        let record = record(session, ctx, status, total);
        let Some(tracer) = tracer else {
            if let Some(log) = access_log {
                log.write(self.worker, record);
            }
            return;
        };
        if let Some(log) = access_log {
            log.write(self.worker, record.clone());
        }
        let is_continued = record.trace.is_some_and(|trace| trace.parent.is_some());
        let tracestate = is_continued.then(|| tracestate(|| fields(session, TRACESTATE)));
        let record = RequestRecord {
            tracestate: tracestate.flatten(),
            ..record
        };
        tracer.request(self.worker, record);
    }
}

/// The status of the answer. A client that left after `100 Continue` got none.
pub(super) fn status(session: &Session) -> Option<u16> {
    session
        .response_written()
        .filter(|header| !header.status.is_informational())
        .map(|header| header.status.as_u16())
}

fn record(
    session: &Session,
    ctx: &mut RequestContext,
    status: Option<u16>,
    total: Duration,
) -> RequestRecord {
    let request = session.req_header();
    let told = std::mem::take(&mut ctx.told);
    let client = match ctx.admitted.take() {
        Some((claims, _permit)) => ClientName::Claims(claims),
        None => told.client,
    };
    RequestRecord {
        total,
        protocol: protocol(request.version),
        is_tls: forwarding::is_tls(session),
        method: Short::new(request.method.as_str()),
        path: Short::new(request.uri.path()),
        peer: session
            .client_addr()
            .and_then(|address| address.as_inet())
            .copied(),
        place: match (ctx.route, ctx.local) {
            (Some(index), _) => Place::Route(index),
            (None, Some(name)) => Place::Ours(name),
            (None, None) => Place::Ours(NO_ROUTE),
        },
        status,
        log_id: told.log_id,
        reason: told.reason,
        kid: told.kid,
        key_state: told.key_state,
        client,
        auth: told.auth,
        upstream: upstream(ctx, told.upstream),
        issue: told.issue,
        bytes_in: bytes(session.body_bytes_read()),
        bytes_out: bytes(session.body_bytes_sent()),
        trace: ctx.trace.or_else(|| {
            let said = Traceparent::parse(fields(session, TRACEPARENT));
            said.map(RequestTrace::claimed)
        }),
        ..RequestRecord::new(ctx.started)
    }
}

/// The way to the upstream; without an answer it lasted until now.
fn upstream(ctx: &RequestContext, answered: Option<Step>) -> Option<UpstreamStep> {
    let unanswered = || {
        ctx.upstream_started.map(|began| Step {
            began,
            took: began.elapsed(),
        })
    };
    answered.or_else(unanswered).map(|step| UpstreamStep {
        step,
        endpoint: ctx.endpoint_address,
    })
}

fn fields<'a>(session: &'a Session, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    let fields = session.req_header().headers.get_all(name);
    fields.iter().map(http::HeaderValue::as_bytes)
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
