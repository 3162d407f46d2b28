//! The transport of a guarded connection: fails at once when the connection is cut, when a client
//! stops reading, or when an HTTP/2 client does not begin to speak or does not end what it began; and
//! hands an HTTP/1 session what belongs to its request alone.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::body::Body;
use super::frames::{Frames, Progress};
use crate::http::ConnState;

/// Length of the HTTP/2 client connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;

/// How an answer begins that changes the protocol, as Pingora writes it.
const SWITCHING: &[u8] = b"HTTP/1.1 101 ";

type Timer = Pin<Box<Sleep>>;

/// A stream under a [`ConnState`].
pub(super) struct GuardedStream {
    pub(super) inner: Stream,
    conn: Arc<ConnState>,
    write_timeout: Duration,
    /// Runs while the socket takes nothing; made on the first stall only.
    stalled: Option<Timer>,
    http2: Option<Http2>,
    /// Of the HTTP/1 request that is being served; `None` between requests and on HTTP/2.
    pub(super) body: Option<Body>,
    /// Whether that request asks for another protocol.
    pub(super) upgrades: bool,
    /// Whether it got it.
    pub(super) switched: bool,
    /// Read already and not of that request.
    pub(super) behind: BytesMut,
}

/// The deadlines for what an HTTP/2 client has to send whole, which Pingora waits for without end: its
/// preface, then each header block and each frame that is no body.
struct Http2 {
    /// Bytes that are missing of the preface.
    preface: usize,
    frames: Frames,
    limit: Duration,
    /// Runs while something is missing.
    deadline: Option<Timer>,
}

impl Http2 {
    /// Takes the bytes of one read; an error when what was begun was due before.
    fn take(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> io::Result<()> {
        let due = match self.preface {
            0 => "the client did not end a header block or a frame in time",
            _ => "the client did not begin to speak HTTP/2 in time",
        };
        let (preface, rest) = bytes.split_at(self.preface.min(bytes.len()));
        self.preface -= preface.len();
        if self.preface == 0 {
            match self.frames.take(rest) {
                Progress::Whole => self.deadline = None,
                Progress::Same => {}
                Progress::Begun => self.deadline = Some(Box::pin(sleep(self.limit))),
            }
        }
        let deadline = self.deadline.as_mut().map(|timer| timer.as_mut().poll(cx));
        match deadline {
            Some(Poll::Ready(())) => Err(io::Error::new(io::ErrorKind::TimedOut, due)),
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

impl GuardedStream {
    pub(super) fn new(inner: Stream, conn: Arc<ConnState>, write_timeout: Duration) -> Self {
        Self {
            inner,
            conn,
            write_timeout,
            stalled: None,
            http2: None,
            body: None,
            upgrades: false,
            switched: false,
            behind: BytesMut::new(),
        }
    }

    /// Demands the HTTP/2 preface within `limit` from now, and what is begun behind it within `limit`.
    pub(super) fn expect_http2(mut self, limit: Duration) -> Self {
        self.http2 = Some(Http2 {
            preface: PREFACE,
            frames: Frames::default(),
            limit,
            deadline: Some(Box::pin(sleep(limit))),
        });
        self
    }

    fn alive(&self) -> io::Result<()> {
        if self.conn.is_cut() {
            Err(cut())
        } else {
            Ok(())
        }
    }

    /// The common end of every poll that sends.
    fn sent<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = None;
            return poll;
        }
        self.conn.park_writer(cx.waker());
        self.alive()?;
        let limit = self.write_timeout;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not read what it asked for",
            ))),
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was cut")
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.alive()?;
        let before = buf.filled().len();
        let poll = match this.body {
            None => Pin::new(&mut *this.inner).poll_read(cx, buf),
            Some(body) if body.is_done() => this.poll_end(cx, buf),
            // Nothing behind it is read, so nothing need be kept.
            Some(Body::Length(left)) => this.poll_some(cx, buf, left).map_ok(|read| {
                this.body = Some(Body::Length(left.saturating_sub(read as u64)));
            }),
            Some(Body::Chunked(mut chunks)) => {
                let poll = this.poll_chunks(cx, buf, &mut chunks);
                this.body = Some(Body::Chunked(chunks));
                poll
            }
        };
        if poll.is_pending() {
            this.conn.park_reader(cx.waker());
            this.alive()?;
        }
        if let Some(http2) = &mut this.http2 {
            http2.take(buf.filled().get(before..).unwrap_or_default(), cx)?;
        }
        poll
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.alive()?;
        if self.upgrades && buf.starts_with(SWITCHING) {
            self.switched = true;
        }
        let poll = Pin::new(&mut *self.inner).poll_write(cx, buf);
        self.sent(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive()?;
        let poll = Pin::new(&mut *self.inner).poll_write_vectored(cx, bufs);
        self.sent(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        let poll = Pin::new(&mut *self.inner).poll_flush(cx);
        self.sent(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        let poll = Pin::new(&mut *self.inner).poll_shutdown(cx);
        self.sent(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for GuardedStream {
    async fn shutdown(&mut self) {
        // Through our own poll_shutdown: the inner stream would wait for a full socket for ever.
        // A connection that cannot even be closed is closed by dropping it.
        let _closed = AsyncWriteExt::shutdown(self).await;
    }
}

#[async_trait]
impl Peek for GuardedStream {
    async fn try_peek(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buf).await
    }
}

impl UniqueID for GuardedStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for GuardedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for GuardedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl GetProxyDigest for GuardedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl GetSocketDigest for GuardedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

impl fmt::Debug for GuardedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedStream")
            .field("conn", &self.conn)
            .finish_non_exhaustive()
    }
}
