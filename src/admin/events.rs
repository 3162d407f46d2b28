//! `GET events`: a stream of server-sent events that tells what has changed.
//!
//! A stream holds no queue. It looks a few times a second what is in force and says what is different
//! from what it said last, so a client that reads slowly misses nothing but what is outdated by the
//! time it reads; one that does not read at all is dropped by the bridge's write timeout. It takes no
//! lock that is held for more than a copy, and nobody waits for a stream. Their number is bounded, in
//! all and for each admin token (`event_seats`).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::http::{Pieces, stream};
use crate::lifecycle::PurgeProgress;

use super::AdminParts;
use super::auth::Operator;
use super::error::ApiError;
use super::event_seats::{MAX_OF_ONE, MAX_STREAMS, NoSeat, Seats};
use super::operation::{Example, Operation, Tag};

/// A stream ends after this; a client that still wants it comes again.
const LONGEST: Duration = Duration::from_secs(3600);

/// How often a stream looks what is new.
const LOOK: Duration = Duration::from_millis(250);

/// How old the judged status may be that streams tell of; shared by all of them.
const STATUS_AGE: Duration = Duration::from_millis(900);

/// Time between two events `tick`, and between two of `status` that differ in numbers alone.
const TICK: Duration = Duration::from_secs(5);

/// Purges are told of at most this often.
const PURGE_STEP: Duration = Duration::from_secs(1);

/// What a client is to wait before it connects again, in milliseconds.
const RETRY: u64 = 2000;

/// nginx would collect what is meant to be read at once.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The open streams.
#[derive(Debug, Default)]
pub struct EventStreams {
    seats: Arc<Seats>,
    /// Number of the last event of any stream.
    last_id: AtomicU64,
}

pub(super) fn describe_events() -> Operation {
    Operation::get("/admin/v1/events", "watchEvents", || get(events))
        .label("events")
        .tag(Tag::Status)
        .says(
            "A stream that tells what has changed",
            "Server-sent events: first `status` with the document of `GET /admin/v1/status`, which comes again when \
             something changes; `keys` and `clients` with `{\"revision\"}`; `purge` with `{\"purge_id\"}` when a receipt or \
             a recovery came further, at most once a second; `tick` with `{\"now\"}` every five seconds. What is \
             outdated by the time that a slow client reads is left out. It ends with the session, and after an hour. \
             There are 32 at most, 8 of one admin token; when all are taken, the oldest stream of the token that has most \
             ends for one that has fewer.",
        )
        .answers_with::<String>(200, "text/event-stream", "The stream.")
        .with_header("X-Accel-Buffering", "`no`, for a proxy in front.")
        .refuses(503, &["TOO_MANY_STREAMS"])
        .example(Example::new(
            "watch",
            "The beginning of a stream",
            200,
            EXAMPLE,
        ))
}

/// How a stream may begin.
const EXAMPLE: &str = "\
retry: 2000
id: 41
event: keys
data: {\"revision\":7}

id: 42
event: clients
data: {\"revision\":3}

id: 43
event: tick
data: {\"now\":\"2026-11-25T08:00:00.000Z\"}
";

pub(super) async fn events(
    State(parts): State<Arc<AdminParts>>,
    Extension(operator): Extension<Operator>,
) -> Response {
    let (seat, evicted) = match parts.streams.seats.take(&operator.name) {
        Ok(taken) => taken,
        Err(why) => {
            let detail = match why {
                NoSeat::TooManyOfOne => {
                    format!("this admin token has {MAX_OF_ONE} event streams open already")
                }
                NoSeat::Full => format!("{MAX_STREAMS} event streams are open already"),
            };
            return ApiError::too_many_streams(&detail).answer(&parts);
        }
    };
    let (pieces, mut response) = stream(seat);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    tokio::spawn(tell(parts, operator, evicted, pieces));
    response
}

/// Tells one client what has changed until it leaves, its time is over, or it may see no more.
async fn tell(
    parts: Arc<AdminParts>,
    operator: Operator,
    evicted: Arc<Notify>,
    mut pieces: Pieces,
) {
    let end = Instant::now() + LONGEST;
    let mut told = Told::default();
    while Instant::now() < end && operator.is_signed_in(parts.clock.now()) {
        let news = told.news(&parts, Instant::now());
        if !news.is_empty() && pieces.send(Bytes::from(news)).await.is_err() {
            return;
        }
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => true,
                () = operator.signed_out() => false,
                () = evicted.notified() => false,
            }
        };
        if pieces.unless_over(pause).await != Ok(true) {
            return;
        }
    }
}

/// What one client knows.
#[derive(Default)]
struct Told {
    /// Version of the status, and when it was told.
    status: Option<(u64, Instant)>,
    keys: Option<u64>,
    clients: Option<u64>,
    purges: Option<(Instant, HashMap<Uuid, PurgeProgress>)>,
    tick: Option<Instant>,
}

#[derive(Serialize)]
struct Revision {
    revision: u64,
}

#[derive(Serialize)]
struct Purge {
    purge_id: Uuid,
}

#[derive(Serialize)]
struct Tick {
    now: String,
}

impl Told {
    /// Everything that is new to the client, as a text of events; it is told by that.
    fn news(&mut self, parts: &AdminParts, now: Instant) -> String {
        let mut text = String::new();
        if self.tick.is_none() {
            text.push_str(&format!("retry: {RETRY}\n"));
        }
        let mut tell = |name, data: &dyn erased::Json| {
            let id = parts.streams.last_id.fetch_add(1, Relaxed) + 1;
            text.push_str(&format!(
                "id: {id}\nevent: {name}\ndata: {}\n\n",
                data.json()
            ));
        };

        let judged = parts.status.judged_within(STATUS_AGE);
        let is_news = self.status.is_none_or(|(version, at)| {
            version != judged.version || now.duration_since(at) >= TICK
        });
        if is_news {
            tell("status", &parts.status.view(&judged));
            self.status = Some((judged.version, now));
        }
        let revision = parts.lifecycle.published().load().set.revision;
        if self.keys.replace(revision) != Some(revision) {
            tell("keys", &Revision { revision });
        }
        let revision = parts.clients.document().revision;
        if self.clients.replace(revision) != Some(revision) {
            tell("clients", &Revision { revision });
        }
        for purge_id in self.purges(parts, now) {
            tell("purge", &Purge { purge_id });
        }
        if self.tick.is_none_or(|at| now.duration_since(at) >= TICK) {
            let now = parts.clock.now().to_string();
            tell("tick", &Tick { now });
            self.tick = Some(Instant::now());
        }
        text
    }

    /// Purges that came further since they were looked at last; of the first look there is no news.
    fn purges(&mut self, parts: &AdminParts, now: Instant) -> Vec<Uuid> {
        let is_early = |(at, _): &(Instant, _)| now.duration_since(*at) < PURGE_STEP;
        if self.purges.as_ref().is_some_and(is_early) {
            return Vec::new();
        }
        let progress = parts.lifecycle.purge_progress();
        let changed = match &self.purges {
            None => Vec::new(),
            Some((_, before)) => progress
                .iter()
                .filter(|of| before.get(&of.purge_id) != Some(of))
                .map(|of| of.purge_id)
                .collect(),
        };
        let known = progress.into_iter().map(|of| (of.purge_id, of));
        self.purges = Some((now, known.collect()));
        changed
    }
}

mod erased {
    //! Lets one closure take every kind of data.

    use serde::Serialize;

    pub(super) trait Json {
        fn json(&self) -> String;
    }

    impl<T: Serialize> Json for T {
        fn json(&self) -> String {
            // Serialising strings and numbers cannot fail.
            serde_json::to_string(self).unwrap_or_default()
        }
    }
}
