//! One request that has ended, as the access log and the traces tell of it.
//!
//! A worker fills one record and moves it into a queue; everything that costs time, the formatting
//! above all, is done by the thread that takes it out. Invariants: a record holds no query, no token
//! and no header field but the `tracestate` of a recorded trace; all text in it is bounded; making
//! one allocates nothing but that.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::log_format::OUTSIDE_LIMIT;
use super::metrics::{CacheLookup, KeyStateLabel};
use super::trace::RequestTrace;
use crate::clock::{Clock, Timestamp};
use crate::log_id::LogId;
use crate::token::Claims;

/// Bytes of a path that are kept: those that can show, and one character more, so that it is seen
/// that there was more.
pub const PATH_BYTES: usize = OUTSIDE_LIMIT + 8;

/// Longest kid of a key of ours.
pub const KID_BYTES: usize = 128;

/// Reason of a request whose client left before its answer was complete.
pub const CLIENT_GONE: &str = "client_gone";

/// Text kept in place, cut to `N` bytes; at most 255.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    /// The first `N` bytes of `text`.
    #[must_use]
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let len = u8::try_from(text.len().min(N)).unwrap_or(u8::MAX);
        let mut bytes = [0; N];
        let kept = usize::from(len);
        if let (Some(to), Some(from)) = (bytes.get_mut(..kept), text.get(..kept)) {
            to.copy_from_slice(from);
        }
        Self { len, bytes }
    }

    /// What was kept.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// What was kept, where it is text of ours.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// When its header was there.
    pub started: Instant,
    /// From then to the end of the answer.
    pub total: Duration,
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub protocol: &'static str,
    /// Whether it came over TLS.
    pub is_tls: bool,
    /// The method, as sent.
    pub method: Short<24>,
    /// The path that was judged, without query.
    pub path: Short<PATH_BYTES>,
    /// Downstream address.
    pub peer: Option<SocketAddr>,
    /// What took the request.
    pub place: Place,
    /// Status of the answer; `None` when the client was gone before one.
    pub status: Option<u16>,
    /// Joins the request to the one line of the log that tells more.
    pub log_id: Option<LogId>,
    /// Why it was refused, or how it failed; `None` for what went well as far as we know.
    pub reason: Option<&'static str>,
    /// The key of ours that its token names.
    pub kid: Option<Short<KID_BYTES>>,
    /// State of the key whose token was accepted.
    pub key_state: Option<KeyStateLabel>,
    /// Whose token it is.
    pub client: ClientName,
    /// The decision about its token.
    pub auth: Option<AuthStep>,
    /// The way to the upstream.
    pub upstream: Option<UpstreamStep>,
    /// The making of a token.
    pub issue: Option<Step>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// Its place in a trace.
    pub trace: Option<RequestTrace>,
    /// What the caller's tracing systems say of a recorded trace.
    pub tracestate: Option<Box<str>>,
}

impl RequestRecord {
    /// A request of which nothing is known yet but when it came.
    #[must_use]
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            total: Duration::ZERO,
            protocol: "HTTP/1.1",
            is_tls: false,
            method: Short::new(""),
            path: Short::new(""),
            peer: None,
            place: Place::Ours(super::NO_ROUTE),
            status: None,
            log_id: None,
            reason: None,
            kid: None,
            key_state: None,
            client: ClientName::Unknown,
            auth: None,
            upstream: None,
            issue: None,
            bytes_in: 0,
            bytes_out: 0,
            trace: None,
            tracestate: None,
        }
    }

    /// Whether it was answered with 1xx to 3xx, and not by a refusal of ours: what an access log
    /// may leave out when it is told to.
    #[must_use]
    pub fn is_success(&self) -> bool {
        Self::is_success_of(self.status, self.reason)
    }

    /// As [`RequestRecord::is_success`], before there is a record.
    #[must_use]
    pub fn is_success_of(status: Option<u16>, reason: Option<&'static str>) -> bool {
        reason.is_none() && status.is_some_and(|status| status < 400)
    }
}

/// What took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The route at this index.
    Route(usize),
    /// Something of our own under this name.
    Ours(&'static str),
}

/// A client whose identity is proven.
#[derive(Clone, Debug, Default)]
pub enum ClientName {
    /// Nobody's, or not proven.
    #[default]
    Unknown,
    /// The one of these claims.
    Claims(Arc<Claims>),
    /// This one.
    Text(String),
}

impl ClientName {
    /// Its `client_id`, when it is known.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Claims(claims) => Some(&claims.client_id),
            Self::Text(text) => Some(text),
        }
    }
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
}

/// The decision about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthStep {
    /// When, and how long.
    pub step: Step,
    /// What the cache knew.
    pub lookup: CacheLookup,
}

/// The way to an upstream and back to the header of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamStep {
    /// When, and how long; of several tries the last.
    pub step: Step,
    /// Who was asked last.
    pub endpoint: Option<SocketAddr>,
}

/// What the configuration says behind [`Place::Route`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteNames {
    /// The route's name.
    pub route: String,
    /// Its path, as a template.
    pub template: String,
    /// The name of its upstream.
    pub upstream: String,
    /// Whether that is asked over TLS.
    pub is_upstream_tls: bool,
}

/// Who has a route's names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Vec<RouteNames>);

impl Names {
    pub(super) const fn new(routes: Vec<RouteNames>) -> Self {
        Self(routes)
    }

    pub(super) fn route(&self, place: Place) -> &str {
        match place {
            Place::Route(index) => self.0.get(index).map_or("", |names| &names.route),
            Place::Ours(name) => name,
        }
    }

    /// The template of the path that the record's request matched. What is our own has exact paths.
    pub(super) fn template<'a>(&'a self, record: &'a RequestRecord) -> Option<&'a [u8]> {
        match record.place {
            Place::Route(index) => self.0.get(index).map(|names| names.template.as_bytes()),
            Place::Ours(super::NO_ROUTE) => None,
            Place::Ours(_) => Some(record.path.as_bytes()),
        }
    }

    pub(super) fn upstream(&self, record: &RequestRecord) -> Option<&str> {
        self.asked(record).map(|names| names.upstream.as_str())
    }

    /// Whether the upstream was asked over TLS.
    pub(super) fn is_upstream_tls(&self, record: &RequestRecord) -> bool {
        self.asked(record)
            .is_some_and(|names| names.is_upstream_tls)
    }

    /// The names of a request that went to an upstream.
    fn asked(&self, record: &RequestRecord) -> Option<&RouteNames> {
        match (record.place, record.upstream) {
            (Place::Route(index), Some(_)) => self.0.get(index),
            _ => None,
        }
    }
}

/// Turns moments of the monotonic clock, which cost a worker nothing more, into wall time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor {
    at: Instant,
    wall: Timestamp,
}

impl Anchor {
    pub(super) fn now(clock: &dyn Clock) -> Self {
        Self {
            at: Instant::now(),
            wall: clock.now(),
        }
    }

    /// The same wall time at another moment.
    #[cfg(test)]
    pub(super) const fn move_to(&mut self, moment: Instant) {
        self.at = moment;
    }

    pub(super) fn wall(&self, moment: Instant) -> Timestamp {
        let ahead = moment.saturating_duration_since(self.at);
        self.wall
            .plus(ahead)
            .minus(self.at.saturating_duration_since(moment))
    }

    /// Unix nanoseconds.
    pub(super) fn nanos(&self, moment: Instant) -> u64 {
        let wall = i128::from(self.wall.as_millis()) * 1_000_000;
        let nanos = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or_default();
        let ahead = nanos(moment.saturating_duration_since(self.at));
        let behind = nanos(self.at.saturating_duration_since(moment));
        u64::try_from(wall + ahead - behind).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::test_clock::TestClock;

    #[test]
    fn text_is_cut_and_kept_whole_otherwise() {
        assert_eq!(Short::<4>::new("abcdef").as_bytes(), b"abcd");
        assert_eq!(Short::<4>::new("ab").as_str(), "ab");
        assert_eq!(
            Short::<4>::new([0xff, b'a']).as_str(),
            "",
            "no text of ours"
        );
    }

    #[test]
    fn an_anchor_looks_both_ways() {
        let clock = TestClock::at(Timestamp::from_seconds(1_000));
        let anchor = Anchor::now(&*clock.handle());
        let later = anchor.at + Duration::from_millis(1_500);
        let earlier = anchor.at.checked_sub(Duration::from_micros(500)).unwrap();
        assert_eq!(anchor.wall(later), Timestamp::from_millis(1_001_500));
        assert_eq!(anchor.nanos(earlier), 999_999_500_000);
    }
}
