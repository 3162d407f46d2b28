//! The Component Monitor: how the gateway, the key store, the issuer, the schedule and each upstream
//! are, why, and since when.
//!
//! Facts come from those who meet them in their work; here they are judged. What is judged is kept for
//! a moment and shared by all who ask, so that nobody can make the gateway judge all day. Requests on
//! the data path touch nothing of this.

mod components;
mod upstreams;
mod view;
mod window;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;

use crate::clock::{Clock, Timestamp};
use crate::lifecycle::{Lifecycle, StoreHealth};
use crate::telemetry::{EndpointHealth, Metrics};

use super::AdminParts;
use super::api::json;
use super::operation::{Example, Operation, Tag};

pub(super) use view::{ComponentView, Facts, Status, StatusView};
use window::Window;

/// Everything is judged anew at most this often.
const FRESH: Duration = Duration::from_millis(100);

/// How often it is judged although nobody asks, so that it is dated right.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// An upstream, as far as the monitor looks at it.
#[derive(Clone, Debug)]
pub struct WatchedUpstream {
    /// Its name.
    pub name: String,
    /// Its endpoints in the order of the configuration.
    pub endpoints: Vec<Arc<EndpointHealth>>,
    /// Time between two checks of an endpoint; `None` when they are not checked.
    pub checked_every: Option<Duration>,
}

/// What the monitor looks at.
pub struct Watched {
    /// The issuer.
    pub issuer: String,
    /// Keys and the schedule.
    pub lifecycle: Arc<Lifecycle>,
    /// The store.
    pub store: Arc<StoreHealth>,
    /// Traffic and the token endpoint.
    pub metrics: Arc<Metrics>,
    /// Upstreams in the order of the configuration.
    pub upstreams: Vec<WatchedUpstream>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// How everything is, judged now and then.
pub struct StatusBoard {
    watched: Watched,
    started_at: Timestamp,
    state: Mutex<Board>,
}

#[derive(Default)]
struct Board {
    judged: Option<(Instant, Timestamp, Arc<Judged>)>,
    /// By component: how it was the last time, and since when.
    known: HashMap<String, (Status, Timestamp)>,
    window: Window,
}

/// How everything was at a moment.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) components: Vec<ComponentView>,
    /// Grows whenever something but a mere number has changed.
    pub(super) version: u64,
}

/// A component before it is dated.
struct Verdict {
    id: String,
    kind: &'static str,
    name: String,
    status: Status,
    reason: String,
    /// Since when it is so, when whoever met it knows better than who looks now and then.
    since: Option<Timestamp>,
    facts: Facts,
    endpoints: Option<Vec<view::EndpointView>>,
}

impl StatusBoard {
    /// Begins to watch.
    #[must_use]
    pub fn new(watched: Watched) -> Self {
        Self {
            started_at: watched.clock.now(),
            watched,
            state: Mutex::default(),
        }
    }

    /// Looks once a second until the future is dropped.
    pub async fn watch(&self) {
        loop {
            drop(self.judged());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// How everything is.
    pub(super) fn judged(&self) -> Arc<Judged> {
        self.judged_within(FRESH)
    }

    /// How everything was at most so long ago.
    pub(super) fn judged_within(&self, age: Duration) -> Arc<Judged> {
        let mut board = self.board();
        let now = self.watched.clock.now();
        if let Some((at, dated, judged)) = &board.judged
            && at.elapsed() < age
            && *dated <= now
            && now.since(*dated) < age
        {
            return Arc::clone(judged);
        }
        let recent = board
            .window
            .over(self.watched.metrics.readings(), self.started_at, now);
        let verdicts = components::all(&self.watched, &recent, self.started_at, now);
        let mut components: Vec<ComponentView> = verdicts
            .into_iter()
            .map(|verdict| board.date(verdict, self.started_at, now))
            .collect();
        // Stable: what is equally bad stays in order.
        components.sort_by_key(|component| std::cmp::Reverse(component.status));
        let before = board.judged.as_ref().map(|(_, _, judged)| judged);
        let version = match before {
            Some(before) if view::is_same(&before.components, &components) => before.version,
            Some(before) => before.version + 1,
            None => 0,
        };
        let judged = Arc::new(Judged {
            components,
            version,
        });
        board.judged = Some((Instant::now(), now, Arc::clone(&judged)));
        judged
    }

    /// The document of `GET status`.
    pub(super) fn view<'a>(&'a self, judged: &'a Judged) -> StatusView<'a> {
        StatusView::of(
            &judged.components,
            &self.watched.issuer,
            self.started_at,
            self.watched.clock.now(),
        )
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // What a panic left is judged anew.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Board {
    fn date(&mut self, verdict: Verdict, started_at: Timestamp, now: Timestamp) -> ComponentView {
        let known = self.known.get(&verdict.id);
        let since = match known {
            Some((status, since)) if *status == verdict.status => *since,
            Some(_) => verdict.since.unwrap_or(now),
            // Good from the start, as far as anybody knows.
            None if verdict.status == Status::Ok => verdict.since.unwrap_or(started_at),
            None => verdict.since.unwrap_or(now),
        };
        self.known
            .insert(verdict.id.clone(), (verdict.status, since));
        ComponentView {
            id: verdict.id,
            kind: verdict.kind,
            name: verdict.name,
            status: verdict.status,
            reason: verdict.reason,
            since: since.to_string(),
            facts: verdict.facts,
            endpoints: verdict.endpoints,
        }
    }
}

impl fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusBoard")
            .field("started_at", &self.started_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("issuer", &self.issuer)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

pub(super) fn describe_status() -> Operation {
    Operation::get("/admin/v1/status", "readStatus", || get(status))
        .label("status")
        .tag(Tag::Status)
        .says(
            "How each component is, why, and since when",
            "The worst first; `overall` is the worst of them.",
        )
        .answers::<StatusView<'static>>(200, "The Component Monitor.")
        .example(Example::new(
            "read",
            "All is well",
            200,
            include_str!("../examples/readStatus.read.json"),
        ))
}

pub(super) async fn status(State(parts): State<Arc<AdminParts>>) -> Response {
    let judged = parts.status.judged();
    json(StatusCode::OK, &parts.status.view(&judged))
}
