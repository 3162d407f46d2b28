//! How the endpoints of the upstreams are: by what happens to requests, and by connections made only
//! to see whether they can be, off the request path.
//!
//! A request notes what it met with atomic stores alone. A change of an endpoint is one log line.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::TransportConnector;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::telemetry::{EndpointHealth, EndpointState, Level, Log, Trouble};

use super::context::RequestContext;
use super::upstreams::{HealthCheck, Upstream};
use super::{Gateway, GatewayParts};

impl Gateway {
    /// The endpoint that a request went to has answered.
    pub(super) fn note_answer(&self, ctx: &RequestContext) {
        if let Some(health) = self.endpoint(ctx)
            && !health.is_well()
            && health.answered(self.parts.clock.now())
        {
            tell(&self.parts.log, health);
        }
    }

    /// The endpoint that a request was meant for failed it, and not the client.
    pub(super) fn note_failure(&self, ctx: &RequestContext, error: &Error) {
        let (Some(health), Some(trouble)) = (self.endpoint(ctx), trouble(error)) else {
            return;
        };
        let now = self.parts.clock.now();
        let is_news = match trouble {
            Trouble::Silent | Trouble::BrokeOff => health.not_answered(trouble, now),
            _ => health.not_connected(trouble, now),
        };
        if is_news {
            tell(&self.parts.log, health);
        }
    }

    fn endpoint(&self, ctx: &RequestContext) -> Option<&EndpointHealth> {
        self.route(ctx)?.upstream.health(ctx.endpoint?)
    }
}

/// What an error says of the endpoint; `None` when it is not the endpoint's fault.
fn trouble(error: &Error) -> Option<Trouble> {
    Some(match error.etype() {
        ErrorType::ConnectTimedout => Trouble::TimedOut,
        ErrorType::ConnectRefused => Trouble::Refused,
        ErrorType::ConnectNoRoute | ErrorType::ConnectError => Trouble::Unreachable,
        // This host has no sockets or ports left.
        ErrorType::SocketError | ErrorType::BindError => return None,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError => Trouble::Tls,
        _ if *error.esource() != ErrorSource::Upstream => return None,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Trouble::Silent,
        _ => Trouble::BrokeOff,
    })
}

fn tell(log: &Log, health: &EndpointHealth) {
    let line = match health.state().0 {
        EndpointState::Up => log.event(
            Level::Info,
            "upstream_endpoint_up",
            "an endpoint of an upstream can be used again",
        ),
        EndpointState::Down(trouble) => log
            .event(
                Level::Warn,
                "upstream_endpoint_down",
                "an endpoint of an upstream cannot be used; requests go to the others while one of them is up",
            )
            .field("trouble", trouble.as_str()),
    };
    line.field("upstream", health.upstream())
        .field("endpoint", health.address())
        .emit();
}

/// Looks after the endpoints of every upstream that wants it.
#[derive(Clone)]
pub struct UpstreamChecks {
    upstreams: Vec<Arc<Upstream>>,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl fmt::Debug for UpstreamChecks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamChecks")
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

impl UpstreamChecks {
    /// Of the upstreams of a gateway.
    #[must_use]
    pub fn of(parts: &GatewayParts, upstreams: Vec<Arc<Upstream>>) -> Self {
        Self {
            upstreams,
            clock: Arc::clone(&parts.clock),
            log: parts.log.clone(),
        }
    }

    /// Checks every endpoint at its interval, the first time at once, until the future is dropped.
    pub async fn run(self) {
        let mut running = JoinSet::new();
        // One for all: it reads the system's authorities when it is made.
        let connector = Arc::new(TransportConnector::new(None));
        for upstream in &self.upstreams {
            let Some(check) = upstream.health_check else {
                continue;
            };
            for place in 0..upstream.endpoints {
                let one = OneEndpoint {
                    upstream: Arc::clone(upstream),
                    place,
                    check,
                    clock: Arc::clone(&self.clock),
                    log: self.log.clone(),
                };
                running.spawn(one.look_after(Arc::clone(&connector)));
            }
        }
        // They run for ever; dropping the set ends them.
        while running.join_next().await.is_some() {}
        std::future::pending().await
    }
}

struct OneEndpoint {
    upstream: Arc<Upstream>,
    place: usize,
    check: HealthCheck,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl OneEndpoint {
    async fn look_after(self, connector: Arc<TransportConnector>) {
        let Some(mut peer) = self.upstream.peers.get(self.place).cloned() else {
            return;
        };
        peer.options.connection_timeout = Some(self.check.timeout);
        peer.options.total_connection_timeout = Some(self.check.timeout);
        loop {
            self.look(&connector, &peer).await;
            tokio::time::sleep(self.check.interval.max(Duration::from_millis(1))).await;
        }
    }

    async fn look(&self, connector: &TransportConnector, peer: &HttpPeer) {
        let Some(health) = self.upstream.health(self.place) else {
            return;
        };
        let is_news = match connector.new_stream(peer).await {
            Ok(_closed_at_once) => health.connected(self.clock.now()),
            Err(error) => trouble(&error)
                .is_some_and(|trouble| health.not_connected(trouble, self.clock.now())),
        };
        if is_news {
            tell(&self.log, health);
        }
    }
}
