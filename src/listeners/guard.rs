//! The guard around an application: what a connection may cost before, between and under requests.
//!
//! Per connection: one place among those of its source address and of all, a TLS handshake in
//! `header_timeout`, each HTTP/1 request header in `header_timeout` (the first counts from the
//! accept, the others from their first byte), an idle time of at most `keepalive_timeout` between
//! requests, and no write that waits longer than `write_timeout`. A request body, a long answer and
//! an upgraded connection have no deadline here. On HTTP/2 the preface, each header block and each frame
//! that is no body have `header_timeout`, and a connection without streams `keepalive_timeout`.
//!
//! The guard reads the HTTP/1 header itself (see [`super::head`]), so no application has to tell it
//! where a request stands. It also knows where the body ends and hands the session nothing behind it:
//! what a client sends ahead waits there for its turn (RFC 9112 §9.3.2), and the sessions' own
//! pipelining stays off.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use pingora::apps::{
    HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp,
};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::date::get_cached_date;
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::head::{self, End, Patience, Waits};
use super::sources::Sources;
use super::stop::{Requests, Stop};
use super::stream::GuardedStream;
use super::streams::Streams;
use crate::gateway::limits::Limits;
use crate::http::{ConnState, METHODS, Refusal};
use crate::telemetry::WorkerMetrics;

/// A client that takes nothing for so long has no use for the rest.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

const TOO_LARGE: (StatusCode, &str) = (
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "the request header is larger than this server accepts; send fewer or shorter fields",
);

/// Deadlines and sizes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// For a TLS handshake, a request header, an HTTP/2 preface.
    pub header_timeout: Duration,
    /// Between two requests.
    pub keepalive_timeout: Duration,
    /// For one write to a client that does not read.
    pub write_timeout: Duration,
    /// Most bytes read in search of the end of a header.
    pub max_header_read: usize,
}

impl From<&Limits> for GuardSettings {
    fn from(limits: &Limits) -> Self {
        Self {
            header_timeout: limits.header_timeout,
            keepalive_timeout: limits.keepalive_timeout,
            write_timeout: WRITE_TIMEOUT,
            max_header_read: limits.max_header_bytes,
        }
    }
}

/// An application under guard: the [`ServerApp`] of a listener.
pub struct Guarded<A> {
    pub(super) app: Arc<A>,
    tls: Option<Acceptor>,
    pub(super) sources: Arc<Sources>,
    pub(super) shared: Shared,
    pub(super) options: HttpServerOptions,
    worker: Option<Arc<WorkerMetrics>>,
    requests: Arc<Requests>,
}

impl<A: HttpServerApp> Guarded<A> {
    pub(super) fn new(
        app: A,
        tls: Option<Acceptor>,
        sources: Arc<Sources>,
        shared: Shared,
    ) -> Self {
        let mut options = app.server_options().cloned().unwrap_or_default();
        options.h2c = false;
        options.h2_idle_timeout = Some(shared.settings.keepalive_timeout);
        let requests = shared.stop.requests_of_a_listener();
        Self {
            app: Arc::new(app),
            tls,
            sources,
            shared,
            options,
            worker: None,
            requests,
        }
    }

    /// Counts the open connections there.
    pub(super) fn counted(self, worker: Option<Arc<WorkerMetrics>>) -> Self {
        Self { worker, ..self }
    }

    pub(super) const fn stop(&self) -> &Arc<Stop> {
        &self.shared.stop
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Guarded<A> {
    /// The stream to speak HTTP on; `None` when the handshake failed or the service stops.
    async fn secure(&self, stream: Stream, shutdown: &mut ShutdownWatch) -> Option<Stream> {
        let Some(acceptor) = &self.tls else {
            return Some(stream);
        };
        // Only a socket can be here: Pingora's listeners accept nothing else.
        let stream = stream.into_any().downcast::<TcpStream>().ok()?;
        let handshake = acceptor.tls_handshake(*stream);
        tokio::select! {
            biased;
            done = timeout(self.shared.settings.header_timeout, handshake) => match done {
                Ok(Ok(secured)) => Some(Box::new(secured)),
                Ok(Err(error)) => {
                    log::debug!(target: "portcullis::listeners", "TLS handshake failed: {error}");
                    None
                }
                Err(_elapsed) => None,
            },
            _ = shutdown.wait_for(|stop| *stop) => None,
        }
    }

    async fn serve_h1(
        &self,
        mut stream: Box<GuardedStream>,
        conn: &Arc<ConnState>,
        shutdown: &ShutdownWatch,
    ) {
        let mut waiting = shutdown.clone();
        let mut patience = self.first_patience();
        let timer = pin!(sleep(patience.idle));
        let stopping = pin!(async { drop(waiting.wait_for(|stop| *stop).await) });
        let mut waits = Waits::new(timer, stopping, self.stop().farewell());
        let mut settings = None;
        loop {
            let Some(behind) = stream.end_request() else {
                return;
            };
            let mut head = match head::read(&mut *stream, behind, patience, &mut waits).await {
                Ok(head) => head,
                Err(End::TooLarge) => return self.refuse(stream, conn.peer(), TOO_LARGE).await,
                Err(end) => {
                    log::debug!(target: "portcullis::listeners", "{:?}: {end:?}", conn.peer());
                    return;
                }
            };
            let begun = head::frame(&mut head)
                .and_then(|(length, said)| stream.begin_request(length, &said, &mut head));
            if let Err(fault) = begun {
                return self.refuse(stream, conn.peer(), fault).await;
            }
            let mut session = ServerSession::new_http1(stream);
            self.prepare(&mut session, settings.take());
            session.set_pipelined_prefix(head);
            let Some(reused) = self.request(session, conn, shutdown).await else {
                return;
            };
            let (same, kept) = reused.consume();
            // It is the stream that the session was made of.
            let Ok(same) = same.into_any().downcast() else {
                return;
            };
            (stream, settings) = (same, kept);
            patience = self.next_patience();
        }
    }

    fn prepare(&self, session: &mut ServerSession, settings: Option<HttpPersistentSettings>) {
        match settings {
            Some(settings) => settings.apply_to_session(session),
            None => {
                session.set_keepalive_reuses_remaining(self.options.keepalive_request_limit);
            }
        }
    }

    pub(super) async fn request(
        &self,
        session: ServerSession,
        conn: &Arc<ConnState>,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _in_flight = self.requests.begin();
        Arc::clone(conn)
            .scope(self.app.process_new_http(session, shutdown))
            .await
    }

    /// Answers a header that no application gets to see, and closes.
    async fn refuse(
        &self,
        mut stream: Box<GuardedStream>,
        peer: Option<SocketAddr>,
        (status, cause): (StatusCode, &'static str),
    ) {
        let refusal = Refusal::new(status, cause, peer);
        (self.shared.refusals)(&refusal);
        let body = refusal.problem();
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n",
            body.len(),
        );
        if status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6 demands it.
            answer.push_str(&format!("Allow: {METHODS}\r\n"));
        }
        let mut answer = answer.into_bytes();
        // RFC 9110 section 6.6.1 demands it.
        answer.extend_from_slice(b"Date: ");
        answer.extend_from_slice(get_cached_date().as_bytes());
        answer.extend_from_slice(b"\r\n");
        for (name, value) in refusal.response().headers() {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&body);
        let farewell = async {
            stream.write_all(&answer).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            // A socket closed with unread bytes is reset, which may destroy the answer on its way.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        let _ended = timeout(Duration::from_secs(1), farewell).await;
    }

    const fn first_patience(&self) -> Patience {
        let settings = &self.shared.settings;
        Patience {
            idle: settings.header_timeout,
            header: None,
            max_bytes: settings.max_header_read,
        }
    }

    const fn next_patience(&self) -> Patience {
        let settings = &self.shared.settings;
        Patience {
            idle: settings.keepalive_timeout,
            header: Some(settings.header_timeout),
            max_bytes: settings.max_header_read,
        }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Guarded<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let peer = peer(&stream);
        let busy = self.stop().busy();
        let Some(_place) = self.sources.admit(peer.map(|peer| peer.ip())) else {
            log::debug!(target: "portcullis::listeners", "{peer:?}: too many connections");
            return None;
        };
        let _open = self.worker.as_ref().map(|worker| worker.connection());
        let stream = self.secure(stream, &mut shutdown.clone()).await?;
        let conn = ConnState::new(peer, self.tls.is_some(), self.stop().ending());
        let h2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let settings = &self.shared.settings;
        let stream = GuardedStream::new(stream, Arc::clone(&conn), settings.write_timeout);
        if h2 {
            // From here on its streams count: an HTTP/2 connection may stay open idle until its
            // client has read that it is to go.
            drop(busy);
            let stream = stream.expect_http2(settings.header_timeout);
            let streams = Arc::new(Streams::new(Arc::clone(self), conn));
            streams.process_new(Box::new(stream), shutdown).await
        } else {
            self.serve_h1(Box::new(stream), &conn, shutdown).await;
            None
        }
    }

    async fn cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

fn peer(stream: &Stream) -> Option<SocketAddr> {
    stream.get_socket_digest()?.peer_addr()?.as_inet().copied()
}
