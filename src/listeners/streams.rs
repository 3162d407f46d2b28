//! The streams of one HTTP/2 connection under guard: each takes a place, and an orderly stop waits for
//! it. Made by [`super::guard`] alone.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::ALLOW;
use http::{HeaderValue, Method, StatusCode};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::server::ShutdownWatch;

use super::framing::CONNECT;
use super::guard::Guarded;
use super::stop::Token;
use crate::http::{ConnState, METHODS, Refusal};

const FULL: (StatusCode, &str) = (
    StatusCode::SERVICE_UNAVAILABLE,
    "this server has no room for another request now; try again later",
);

/// The streams of one HTTP/2 connection. Pingora drives the connection and calls this for each.
pub(super) struct Streams<A> {
    guard: Arc<Guarded<A>>,
    conn: Arc<ConnState>,
}

impl<A> Streams<A> {
    pub(super) const fn new(guard: Arc<Guarded<A>>, conn: Arc<ConnState>) -> Self {
        Self { guard, conn }
    }

    /// Answers a stream that no application gets to see.
    async fn refuse(
        &self,
        mut session: ServerSession,
        (status, cause): (StatusCode, &'static str),
    ) {
        let refusal = Refusal::new(status, cause, self.conn.peer());
        (self.guard.shared.refusals)(&refusal);
        let (mut parts, _body) = refusal.response().into_parts();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            // RFC 9110 section 15.5.6 demands it.
            parts
                .headers
                .insert(ALLOW, HeaderValue::from_static(METHODS));
        }
        let header = Box::new(ResponseHeader::from(parts));
        if session.write_response_header(header).await.is_ok() {
            // Whoever is gone needs no answer.
            let _gone = session
                .write_response_body(refusal.problem().into(), true)
                .await;
        }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Streams<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _busy: Token = self.guard.stop().busy();
        session.set_write_timeout(Some(self.guard.shared.settings.write_timeout));
        let Some(_place) = self.guard.sources.admit_stream() else {
            self.refuse(session, FULL).await;
            return None;
        };
        // Pingora's own answer to it has no Log ID.
        if session.req_header().method == Method::CONNECT {
            self.refuse(session, CONNECT).await;
            return None;
        }
        self.guard.request(session, &self.conn, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = self
            .guard
            .app
            .h2_options()
            .unwrap_or_else(default_h2_options);
        // Beyond this the parser answers by itself, without a Log ID; the gateway's own limit is half.
        let most = self.guard.shared.settings.max_header_read.saturating_mul(2);
        options.max_header_list_size(u32::try_from(most).unwrap_or(u32::MAX));
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.guard.options)
    }
}
