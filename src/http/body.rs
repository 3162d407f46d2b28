//! Reading a request body within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{StatusCode, Version};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use super::{BridgeLimits, Misframed};

/// Most of a refused body that is still read, so that the client gets to see the answer: closing
/// a socket with unread bytes resets it, which may destroy the answer on its way. And some clients of
/// HTTP/2 drop an answer whose stream is reset behind it. More than what a socket has room for.
const DISCARD_BYTES: usize = 8 * 1024 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Why a request could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooLarge,
    Slow,
    Malformed,
    Gone,
}

impl Fault {
    /// The answer, or `None` when nobody is left to read one.
    pub(super) const fn answer(self) -> Option<(StatusCode, &'static str)> {
        Some(match self {
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request body is larger than this endpoint accepts; send a smaller one",
            ),
            Self::Slow => (
                StatusCode::REQUEST_TIMEOUT,
                "the request body did not arrive in time; send it without pauses",
            ),
            Self::Malformed => (
                StatusCode::BAD_REQUEST,
                "the request body is not framed as RFC 9112 section 6 requires",
            ),
            Self::Gone => return None,
        })
    }
}

/// Reads the whole body.
pub(super) async fn read(
    session: &mut ServerSession,
    limits: &BridgeLimits,
) -> Result<Bytes, Fault> {
    if session.is_body_empty() {
        return Ok(Bytes::new());
    }
    if declared_length(session).is_some_and(|length| length > limits.max_body as u64) {
        return Err(Fault::TooLarge);
    }
    match timeout(limits.body_timeout, read_all(session, limits.max_body)).await {
        Ok(read) => read,
        Err(_elapsed) => Err(Fault::Slow),
    }
}

async fn read_all(session: &mut ServerSession, max: usize) -> Result<Bytes, Fault> {
    if expects_continue(session) {
        session
            .write_continue_response()
            .await
            .map_err(|_gone| Fault::Gone)?;
    }
    // A small body nearly always comes in one piece, which is then passed on without a copy.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(piece) = session
        .read_request_body()
        .await
        .map_err(|error| fault(&error))?
    {
        if first.len().max(joined.len()).saturating_add(piece.len()) > max {
            return Err(Fault::TooLarge);
        }
        if first.is_empty() && joined.is_empty() {
            first = piece;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Reads on for a bounded while after an answer that the client may get before it has sent all.
pub async fn discard(session: &mut ServerSession) {
    if session.is_body_done() || expects_continue(session) {
        // Who waits to be asked for the body sends none after a final answer.
        return;
    }
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Ok(Some(piece)) = session.read_request_body().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                break;
            }
        }
    };
    // Running out of time is as good an end as any.
    let _ended = timeout(DISCARD_TIME, reading).await;
}

fn fault(error: &Error) -> Fault {
    match error.etype() {
        _ if Misframed::is_cause_of(error) => Fault::Malformed,
        ErrorType::ReadTimedout => Fault::Slow,
        ErrorType::ConnectionClosed | ErrorType::ReadError => Fault::Gone,
        _ => Fault::Malformed,
    }
}

fn declared_length(session: &ServerSession) -> Option<u64> {
    session
        .get_header(CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn expects_continue(session: &ServerSession) -> bool {
    // To an older client it would be the final answer.
    session.req_header().version >= Version::HTTP_11
        && session
            .get_header(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
