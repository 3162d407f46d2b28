//! Where the body of an HTTP/1 request ends, so that nothing behind it is read with it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, ReadBuf};

use super::chunks::{self, CHUNK_END, CODING, Chunks, LAST_CHUNK, SizeLine};
use super::framing::{Fault, Said};
use super::stream::GuardedStream;
use crate::http::Misframed;

/// Most that is read of what a client sends ahead, while an earlier request is answered.
const MOST_AHEAD: usize = 16 * 1024;

const PIECE_AHEAD: usize = 1024;

const BODY: &str = "the request body is malformed";

/// What is still to come of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk and its trailers.
    Chunked(Chunks),
}

impl Body {
    /// Whether nothing more is to come.
    pub(super) const fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.are_done(),
        }
    }
}

impl GuardedStream {
    /// From here on reads end with this request: `head` begins with its header of `length` bytes,
    /// and keeps what belongs to it.
    pub(super) fn begin_request(
        &mut self,
        length: usize,
        said: &Said,
        head: &mut BytesMut,
    ) -> Result<(), Fault> {
        let mut body = said.body;
        let begun = head.get_mut(length..).unwrap_or_default();
        let there = begun.len();
        let own = match &mut body {
            Body::Length(left) => {
                let own = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
                *left -= own as u64;
                own
            }
            Body::Chunked(chunks) => {
                let misframed = |Misframed| (StatusCode::BAD_REQUEST, BODY);
                let (own, data) = chunks.decode(begun).map_err(misframed)?;
                let behind = begun.get(own..).unwrap_or_default();
                self.behind.extend_from_slice(behind);
                head.truncate(length + data);
                if data > 0 {
                    head.extend_from_slice(&SizeLine::default());
                    chunks::head(head.get_mut(length..).unwrap_or_default(), data);
                    head.extend_from_slice(CHUNK_END);
                }
                if chunks.are_done() {
                    head.extend_from_slice(LAST_CHUNK);
                }
                there
            }
        };
        if own < there {
            self.behind = head.split_off(length + own);
        }
        self.body = Some(body);
        self.upgrades = said.upgrades;
        self.switched = false;
        Ok(())
    }

    /// From here on reads have no end; what was read behind the request is handed out. `None` when the
    /// request has not been read to its end: what follows is its body, and must not be taken for
    /// another request.
    pub(super) fn end_request(&mut self) -> Option<BytesMut> {
        let is_over = self.body.take().is_none_or(|body| body.is_done());
        is_over.then(|| std::mem::take(&mut self.behind))
    }

    /// Reads so many bytes at most, and says how many came.
    pub(super) fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        let mut inner = (&mut self.inner).take(most);
        ready!(Pin::new(&mut inner).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    /// Reads chunks and hands their data on as one.
    pub(super) fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        chunks: &mut Chunks,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let room = buf.remaining().saturating_sub(CODING);
        // Lines without data are no news: nothing handed on would read as the end.
        while buf.filled().len() == before {
            if ready!(self.poll_some(cx, buf, room as u64))? == 0 {
                break;
            }
            let fresh = buf.filled_mut().get_mut(before..).unwrap_or_default();
            let (own, data) = chunks.decode(fresh)?;
            let behind = fresh.get(own..).unwrap_or_default();
            self.behind.extend_from_slice(behind);
            buf.set_filled(before + data);
            if data > 0 {
                buf.put_slice(&SizeLine::default());
                chunks::head(buf.filled_mut().get_mut(before..).unwrap_or_default(), data);
                buf.put_slice(CHUNK_END);
            }
            if chunks.are_done() {
                buf.put_slice(LAST_CHUNK);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// After a request only the end of the connection is news, unless the protocol changes; anything
    /// else has to wait its turn.
    pub(super) fn poll_end(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.switched && !self.behind.is_empty() {
            let length = self.behind.len().min(buf.remaining());
            buf.put_slice(&self.behind.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if self.switched {
            return Pin::new(&mut *self.inner).poll_read(cx, buf);
        }
        // The session's own buffer has room for a byte. Beyond a bound nothing is read, and the end not
        // noticed: who sends so much ahead is there.
        while self.behind.len() < MOST_AHEAD {
            let mut room = [0; PIECE_AHEAD];
            let mut ahead = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut *self.inner).poll_read(cx, &mut ahead))?;
            if ahead.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.behind.extend_from_slice(ahead.filled());
        }
        Poll::Pending
    }
}
