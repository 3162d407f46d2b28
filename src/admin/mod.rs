//! The admin listener: REST under `/admin/v1`, on a thread of its own.
//!
//! | endpoint | role | what |
//! |---|---|---|
//! | `GET /`, `GET /console/{file}` | anybody | the console: files without any data |
//! | `POST /admin/v1/session` | anybody with an admin token | signs in: a session cookie for a browser |
//! | `GET /admin/v1/session` | viewer | who the caller is, and until when |
//! | `DELETE /admin/v1/session` | viewer | signs out |
//! | `GET /admin/v1/keys` | viewer | the key set: public facts only |
//! | `GET /admin/v1/keys/preview` | viewer | what a purge would break: upper bounds, changes nothing |
//! | `POST /admin/v1/keys/preview` | operator | shadow purge: counts on live traffic what would fail |
//! | `GET /admin/v1/keys/preview/shadows/{id}` | viewer | what a shadow purge counted so far, or in the end |
//! | `GET /admin/v1/keys/purges` | viewer | the purges that are remembered, newest first |
//! | `GET /admin/v1/keys/purges/{id}` | viewer; operator sees client names | the receipt of a purge as it stands now, whom it broke and who is back |
//! | `POST /admin/v1/keys/rotate` | operator; admin to purge | Rotate, Rotate and purge |
//! | `POST /admin/v1/keys/reseal` | admin | everything stored moves to the first key-encryption key |
//! | `GET /admin/v1/status` | viewer | the Component Monitor: how each component is, why, since when |
//! | `GET /admin/v1/events` | viewer | a stream that tells what has changed (server-sent events) |
//! | `GET /admin/v1/audit` | operator | what was done to the keys, newest first, and whether the log of it is intact |
//! | `GET /admin/v1/logs` | operator | the newest lines of the log that are kept in memory |
//! | `GET /admin/v1/logs/{log_id}` | operator | the lines of one Log ID |
//! | `POST /admin/v1/clock/confirm` | operator | ends the pause of the schedule after a step of the clock |
//! | `POST /admin/v1/keys/{kid}/restore` | admin | the undo of a purge made with `mistake_undo` |
//! | `POST /admin/v1/keys/{kid}/compromised` | admin | the end of that possibility |
//! | `POST /admin/v1/keys/import` | admin | takes over a signing key of a former system |
//! | `GET /admin/v1/clients` | viewer: numbers; operator: names | every client and what was done to it |
//! | `POST /admin/v1/clients` | admin | a new client of the store; its secret is in this answer alone |
//! | `GET /admin/v1/clients/{id}` | operator | one client with its last changes |
//! | `POST /admin/v1/clients/{id}/disable`, `enable`, `invalidate` | admin | shut it out, let it in, end its tokens |
//! | `POST /admin/v1/clients/{id}/rotate-secret`, `drop-old-secret`, `remove` | admin | of a client of the store |
//! | `POST /admin/v1/tokens/explain` | operator | what would happen to a request with this token, and why; counts nowhere |
//!
//! Invariants: every answer with data needs a valid admin token, or the cookie of a session that was
//! opened with one; an unsafe request from another origin, or under a name that is not ours, changes
//! nothing; a client that goes away cannot cancel a change half-way. May import layers 0–3.

mod api;
mod audit;
mod auth;
mod body;
mod client_views;
mod clients;
mod clock;
mod console;
mod cookie;
mod error;
mod events;
mod explain;
mod guard;
mod idempotency;
mod impact_api;
mod impact_views;
mod import;
mod kek_views;
mod logs;
mod origin;
#[cfg(feature = "testing")]
mod probe;
mod refusal;
mod session;
mod session_api;
mod status;
mod throttle;
mod views;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

pub use auth::{AdminCredential, Authenticator, Role, parse_token_hash, token_hash};
pub use events::EventStreams;
pub use idempotency::RunningCalls;
pub use origin::Origins;
#[cfg(feature = "testing")]
pub use probe::takes_body;
pub use session::{MAX_SESSIONS, SessionLimits, Sessions};
pub use status::{StatusBoard, Watched, WatchedUpstream};

use crate::clock::Clock;
use crate::lifecycle::{Clients, Lifecycle};
use crate::telemetry::{DenialLog, Log, LogRing, Metrics};
use crate::token::explain::Explain;

/// The endpoints, as metric labels.
pub const ENDPOINTS: [&str; 24] = [
    "audit",
    "clients",
    "clients_disable",
    "clients_drop_old_secret",
    "clients_enable",
    "clients_invalidate",
    "clients_remove",
    "clients_rotate_secret",
    "clock_confirm",
    "console",
    "events",
    "keys",
    "keys_compromised",
    "keys_import",
    "keys_preview",
    "keys_purges",
    "keys_reseal",
    "keys_restore",
    "keys_rotate",
    "keys_shadows",
    "logs",
    "session",
    "status",
    "tokens_explain",
];

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

/// The admin endpoints.
pub fn router(parts: Arc<AdminParts>) -> Router {
    Router::new()
        .route("/admin/v1/status", get(status::status))
        .route("/admin/v1/audit", get(audit::audit))
        .route("/admin/v1/events", get(events::events))
        .route("/admin/v1/logs", get(logs::newest))
        .route("/admin/v1/logs/{log_id}", get(logs::of_log_id))
        .route("/", get(console::page))
        .route("/console/{file}", get(console::file))
        .route(
            session_api::PATH,
            get(session_api::show)
                .post(session_api::sign_in)
                .delete(session_api::sign_out),
        )
        .route("/admin/v1/clock/confirm", post(clock::confirm))
        .route("/admin/v1/keys", get(api::keys))
        .route(
            "/admin/v1/keys/preview",
            get(impact_api::preview).post(impact_api::start_shadow),
        )
        .route(
            "/admin/v1/keys/preview/shadows/{id}",
            get(impact_api::shadow),
        )
        .route("/admin/v1/keys/purges", get(impact_api::purges))
        .route("/admin/v1/keys/purges/{id}", get(impact_api::purge))
        .route("/admin/v1/keys/rotate", post(api::rotate))
        .route("/admin/v1/keys/import", post(import::import))
        .route("/admin/v1/keys/reseal", post(api::reseal))
        .route("/admin/v1/keys/{kid}/restore", post(api::restore))
        .route(
            "/admin/v1/keys/{kid}/compromised",
            post(import::compromised),
        )
        .route("/admin/v1/clients", get(clients::list).post(clients::add))
        .route("/admin/v1/clients/{id}", get(clients::show))
        .route("/admin/v1/clients/{id}/{verb}", post(clients::change))
        .route("/admin/v1/tokens/explain", post(explain::explain))
        .fallback(api::not_found)
        .method_not_allowed_fallback(api::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&parts),
            guard::guard,
        ))
        .with_state(parts)
}
