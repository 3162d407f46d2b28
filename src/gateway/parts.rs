//! What the gateway is made of; resolved at start.

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;
use crate::http::Bridge;
use crate::lifecycle::{Clients, Published};
use crate::telemetry::{AccessLog, DenialLog, Log, Metrics, RouteMetrics, Tracer};

use super::limits::Limits;
use super::routes::Route;
use super::sources::Forgers;
use super::upstreams::Upstream;

/// What every worker of the gateway shares.
pub struct GatewayParts {
    /// Keys.
    pub published: Arc<Published>,
    /// Whose tokens are revoked.
    pub clients: Arc<Clients>,
    /// Routes in order, each with its upstream and metrics.
    pub routes: Vec<PreparedRoute>,
    /// Bounds.
    pub limits: Limits,
    /// Source addresses of forged tokens; `None` limits none.
    pub forgers: Option<Forgers>,
    /// `realm` of challenges: the issuer.
    pub realm: String,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub log: Log,
    /// Decides whether a refusal gets a line of its own.
    pub denials: DenialLog,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Tells of every request; `None` when it is off.
    pub access_log: Option<AccessLog>,
    /// Makes spans; `None` when traces are off.
    pub tracer: Option<Tracer>,
}

impl fmt::Debug for GatewayParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayParts")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

/// A route with everything that a request needs of it, resolved at start.
#[derive(Debug)]
pub struct PreparedRoute {
    /// As configured.
    pub route: Route,
    /// Where it goes.
    pub upstream: Arc<Upstream>,
    /// What it counts.
    pub metrics: Arc<RouteMetrics>,
}

/// Endpoints of our own that a listener answers itself.
#[derive(Clone, Debug)]
pub struct LocalEndpoints {
    /// What records of requests call them.
    pub name: &'static str,
    /// Exact paths.
    pub paths: Vec<String>,
    /// Who answers.
    pub bridge: Bridge,
    /// What they count.
    pub metrics: Arc<RouteMetrics>,
}
