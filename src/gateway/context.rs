//! What one request carries from phase to phase.

use std::sync::Arc;
use std::time::Instant;

use crate::lifecycle::published::Permit;
use crate::log_id::LogId;
use crate::telemetry::InFlight;
use crate::token::Claims;

/// State of one request.
#[derive(Debug)]
pub struct RequestContext {
    pub(super) started: Instant,
    /// Index of the route, once matched.
    pub(super) route: Option<usize>,
    /// Whether the issuer's or health endpoints answered.
    pub(super) local: bool,
    pub(super) in_flight: Option<InFlight>,
    /// The claims and the key's permit, once admitted.
    pub(super) admitted: Option<(Arc<Claims>, Permit)>,
    /// Bytes of the request body forwarded so far.
    pub(super) body_bytes: u64,
    /// Endpoints tried.
    pub(super) tries: usize,
    /// Place of the one tried last among those of the upstream.
    pub(super) endpoint: Option<usize>,
    pub(super) upstream_started: Option<Instant>,
    /// When the answer began.
    pub(super) answered: Option<Instant>,
    /// Log ID of the line already written for this request.
    pub(super) log_id: Option<LogId>,
}

impl RequestContext {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            route: None,
            local: false,
            in_flight: None,
            admitted: None,
            body_bytes: 0,
            tries: 0,
            endpoint: None,
            upstream_started: None,
            answered: None,
            log_id: None,
        }
    }
}
