//! A Pingora application that answers every request from a router: the admin and metrics listeners.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::ErrorType;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;

use super::Bridge;

/// Serves one [`Bridge`] on a listener of its own.
#[derive(Clone, Debug)]
pub struct LocalApp {
    bridge: Bridge,
}

impl LocalApp {
    /// An application that answers everything from `bridge`.
    #[must_use]
    pub const fn new(bridge: Bridge) -> Self {
        Self { bridge }
    }
}

#[async_trait]
impl HttpServerApp for LocalApp {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                if *error.etype() == ErrorType::InvalidHTTPHeader {
                    self.bridge.refuse_malformed(&mut session).await;
                }
                return None;
            }
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let served = self.bridge.serve(&mut session, Some(shutdown)).await;
        if !served.complete {
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok().flatten()?;
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }
}
