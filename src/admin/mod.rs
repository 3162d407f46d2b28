//! The admin listener: REST under `/admin/v1`, on a thread of its own.
//!
//! The console stands at `/` and `/console/{file}`: files without any data, for anybody.
//! `table` lists the operations; each is described beside its handler, and the description makes
//! the router, the metric labels and the OpenAPI document (`docs/openapi.json`, in words
//! `docs/admin-api.md`).
//!
//! Invariants: every answer with data needs a valid admin token, or the cookie of a session that was
//! opened with one; an unsafe request from another origin, or under a name that is not ours, changes
//! nothing; a client that goes away cannot cancel a change half-way. May import layers 0–3.

mod api;
mod audit;
mod auth;
mod body;
mod client_changes;
mod client_history;
mod client_views;
mod clients;
mod clock;
mod console;
mod cookie;
mod error;
mod event_seats;
mod events;
mod explain;
mod guard;
mod idempotency;
mod impact_api;
mod impact_views;
mod import;
mod kek_views;
mod logs;
mod openapi;
mod operation;
mod origin;
#[cfg(feature = "testing")]
mod probe;
mod problems;
mod purges;
mod query;
mod refusal;
mod reseal;
mod restore;
mod session;
mod session_api;
mod status;
mod table;
mod throttle;
mod views;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::get;

pub use audit::audit_record;
pub use auth::{AdminCredential, Authenticator, Role, parse_token_hash, token_hash};
pub use events::EventStreams;
pub use idempotency::RunningCalls;
pub use openapi::openapi;
pub use origin::Origins;
#[cfg(feature = "testing")]
pub use probe::takes_body;
pub use session::{MAX_SESSIONS, SessionLimits, Sessions};
pub use status::{StatusBoard, Watched, WatchedUpstream};
pub use table::endpoints;

use crate::clock::Clock;
use crate::lifecycle::{Clients, Lifecycle};
use crate::telemetry::{DenialLog, Log, LogRing, Metrics};
use crate::token::explain::Explain;

/// What the endpoints work with.
pub struct AdminParts {
    /// The life cycle.
    pub lifecycle: Arc<Lifecycle>,
    /// Clients.
    pub clients: Arc<Clients>,
    /// Who may do what.
    pub authenticator: Authenticator,
    /// Who is signed in.
    pub sessions: Sessions,
    /// Under which names the listener is asked.
    pub origins: Origins,
    /// Names of the routes, in their order.
    pub routes: Vec<String>,
    /// Tells what would happen to a request.
    pub explainer: Arc<dyn Explain>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// The log.
    pub log: Log,
    /// Bounds the log lines of refusals.
    pub denials: DenialLog,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Calls with an idempotency key that are running.
    pub running: Arc<RunningCalls>,
    /// Who is told of changes.
    pub streams: Arc<EventStreams>,
    /// How everything is.
    pub status: Arc<StatusBoard>,
    /// The newest lines of the log.
    pub recent: Arc<LogRing>,
}

impl fmt::Debug for AdminParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminParts").finish_non_exhaustive()
    }
}

/// The admin endpoints: the console's files and the operations of `table`.
pub fn router(parts: Arc<AdminParts>) -> Router {
    let console = Router::new()
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file));
    table::operations()
        .iter()
        .fold(console, |router, of| router.route(of.path, of.route()))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&parts),
            guard::guard,
        ))
        .with_state(parts)
}
