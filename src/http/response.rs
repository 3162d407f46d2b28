//! Writing a response to a session, piece by piece as its body yields them.

use std::future::pending;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::BodyExt;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, timeout, timeout_at};

use super::{AnswerNote, ConnState, Hold, Served};

/// Time to tell a client on a broken connection that nothing more comes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time for an answer that a purge waits for, all of it together. Half of what a purge waits, so that
/// whoever reads nothing cannot keep it waiting.
const HELD: Duration = Duration::from_secs(1);

/// How the body of an answer is delimited.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// The status or the method forbids one.
    NoBody,
    /// Its length is known.
    Sized,
    /// It ends when it ends: a stream.
    Open,
}

/// What a wait for the next piece of a body brought.
enum Next {
    Piece(Bytes),
    End,
    Broken,
}

/// Writes `response`; its [`Hold`] is dropped when this returns.
pub(super) async fn write(
    session: &mut ServerSession,
    response: Response<Body>,
    write_timeout: Duration,
    stopping: Option<&ShutdownWatch>,
) -> Served {
    let (mut parts, body) = response.into_parts();
    let hold = parts.extensions.remove::<Hold>();
    let note = parts.extensions.remove::<AnswerNote>();
    let status = parts.status;
    let framing = frame(session, &mut parts, &body);
    let mut out = Out {
        session,
        write_timeout,
        until: hold.is_some().then(|| Instant::now() + HELD),
    };
    let sent = match out.header(parts).await {
        Err(Failed) => None,
        Ok(()) => Some(out.body(framing, body, stopping).await),
    };
    let served = match sent {
        Some(Ok(())) => Served {
            status: Some(status),
            complete: true,
            note: None,
        },
        Some(Err(Failed)) => abandon(session, Some(status)).await,
        None => abandon(session, None).await,
    };
    drop(hold);
    Served { note, ..served }
}

/// Gives a session up in a way that no client can mistake for a complete answer.
pub(super) async fn abandon(session: &mut ServerSession, status: Option<StatusCode>) -> Served {
    session.set_keepalive(None);
    match ConnState::current() {
        // A chunked answer ends with an empty chunk that Pingora writes when a session finishes;
        // after the cut it cannot get out.
        Some(conn) if !session.is_http2() => conn.cut(),
        _ => {
            let _told = timeout(FAREWELL, session.shutdown()).await;
        }
    }
    Served {
        status,
        complete: false,
        note: None,
    }
}

/// A write that failed or took too long; the cause is of no use to anyone.
struct Failed;

struct Out<'a> {
    session: &'a mut ServerSession,
    /// For each write.
    write_timeout: Duration,
    /// For all of them.
    until: Option<Instant>,
}

impl Out<'_> {
    async fn header(&mut self, parts: Parts) -> Result<(), Failed> {
        let header = Box::new(ResponseHeader::from(parts));
        let limit = self.limit();
        within(limit, self.session.write_response_header(header)).await
    }

    async fn piece(&mut self, piece: Bytes, end: bool) -> Result<(), Failed> {
        let limit = self.limit();
        within(limit, self.session.write_response_body(piece, end)).await
    }

    fn limit(&self) -> Instant {
        let limit = Instant::now() + self.write_timeout;
        self.until.map_or(limit, |until| until.min(limit))
    }

    async fn body(
        &mut self,
        framing: Framing,
        mut body: Body,
        stopping: Option<&ShutdownWatch>,
    ) -> Result<(), Failed> {
        let mut stopping = stopping.cloned().filter(|_| framing == Framing::Open);
        loop {
            let next = match framing {
                Framing::NoBody => Next::End,
                Framing::Sized => next(&mut body).await,
                Framing::Open => self.next_or_gone(&mut body, stopping.as_mut()).await?,
            };
            match next {
                Next::Piece(piece) if body.is_end_stream() => return self.piece(piece, true).await,
                Next::Piece(piece) => self.piece(piece, false).await?,
                Next::End => return self.piece(Bytes::new(), true).await,
                Next::Broken => return Err(Failed),
            }
        }
    }

    /// Waits for the next piece of a stream, but not for a client that has left.
    async fn next_or_gone(
        &mut self,
        body: &mut Body,
        stopping: Option<&mut ShutdownWatch>,
    ) -> Result<Next, Failed> {
        tokio::select! {
            biased;
            next = next(body) => Ok(next),
            () = stopped(stopping) => Ok(Next::End),
            _ = self.session.read_body_or_idle(true) => Err(Failed),
        }
    }
}

async fn next(body: &mut Body) -> Next {
    loop {
        match body.frame().await {
            None => return Next::End,
            Some(Err(_)) => return Next::Broken,
            Some(Ok(frame)) => {
                // Trailers have no use here; an empty piece would end a chunked body.
                if let Ok(piece) = frame.into_data()
                    && !piece.is_empty()
                {
                    return Next::Piece(piece);
                }
            }
        }
    }
}

async fn stopped(stopping: Option<&mut ShutdownWatch>) {
    match stopping {
        // The service is gone when the sender is: that is a stop, too.
        Some(watch) => drop(watch.wait_for(|stop| *stop).await),
        None => pending().await,
    }
}

async fn within<T>(
    limit: Instant,
    write: impl Future<Output = pingora::Result<T>>,
) -> Result<(), Failed> {
    match timeout_at(limit, write).await {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Failed),
    }
}

/// Sets the header fields that delimit the body; what the application said about the connection
/// is not its business.
fn frame(session: &mut ServerSession, parts: &mut Parts, body: &Body) -> Framing {
    parts.headers.remove(CONNECTION);
    parts.headers.remove(TRANSFER_ENCODING);
    let length = body.size_hint().exact();
    if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
        parts.headers.remove(CONTENT_LENGTH);
        return Framing::NoBody;
    }
    if parts.status == StatusCode::NOT_MODIFIED {
        // Only the length of the 200 could stand here (RFC 9110 section 8.6).
        parts.headers.remove(CONTENT_LENGTH);
    }
    if session.req_header().method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED {
        return Framing::NoBody;
    }
    if parts.headers.contains_key(CONTENT_LENGTH) {
        return Framing::Sized;
    }
    if let Some(length) = length {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        return Framing::Sized;
    }
    match session.req_header().version {
        Version::HTTP_11 => {
            parts
                .headers
                .insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // Before HTTP/1.1 only the end of the connection can end such a body.
        Version::HTTP_10 | Version::HTTP_09 => session.set_keepalive(None),
        _ => {}
    }
    Framing::Open
}
