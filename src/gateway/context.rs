//! What one request carries from phase to phase.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::lifecycle::published::Permit;
use crate::log_id::LogId;
use crate::telemetry::{
    AuthStep, ClientName, InFlight, KID_BYTES, KeyStateLabel, RequestTrace, Short, Step,
};
use crate::token::Claims;

use super::body::BodyCount;

/// State of one request.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) started: Instant,
    /// Index of the route, once matched.
    pub(super) route: Option<usize>,
    /// Which endpoint of our own answered.
    pub(super) local: Option<&'static str>,
    pub(super) in_flight: Option<InFlight>,
    /// The claims and the key's permit, once admitted.
    pub(super) admitted: Option<(Arc<Claims>, Permit)>,
    /// The request body so far.
    pub(super) body: BodyCount,
    /// Endpoints tried.
    pub(super) tries: usize,
    /// Place of the one tried last among those of the upstream.
    pub(super) endpoint: Option<usize>,
    /// Its address.
    pub(super) endpoint_address: Option<SocketAddr>,
    pub(super) upstream_started: Option<Instant>,
    /// When the answer began.
    pub(super) answered: Option<Instant>,
    /// What the records of requests tell, beside all that.
    pub(super) told: Told,
    /// The request's place in a trace; `None` without a tracer.
    pub(super) trace: Option<RequestTrace>,
}

/// What is noted on the way for the access log and the traces.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Log ID of the line already written for this request.
    pub(super) log_id: Option<LogId>,
    /// Why it was refused, or how it failed.
    pub(super) reason: Option<&'static str>,
    /// The key of ours that its token names; left out when nobody keeps records.
    pub(super) kid: Option<Short<KID_BYTES>>,
    /// State of the key whose token was accepted.
    pub(super) key_state: Option<KeyStateLabel>,
    /// Whose token it is, when it was refused.
    pub(super) client: ClientName,
    pub(super) auth: Option<AuthStep>,
    pub(super) upstream: Option<Step>,
    pub(super) issue: Option<Step>,
}

impl RequestContext {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            route: None,
            local: None,
            in_flight: None,
            admitted: None,
            body: BodyCount::default(),
            tries: 0,
            endpoint: None,
            endpoint_address: None,
            upstream_started: None,
            answered: None,
            told: Told::default(),
            trace: None,
        }
    }
}
