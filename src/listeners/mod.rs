//! Downstream listeners: sockets, TLS, the guard around every application, and the orderly stop.
//!
//! The way of a connection: a Pingora service accepts it on one thread ([`Listener`]), the guard
//! ([`Guarded`]) counts it, does the TLS handshake, reads each request header under a deadline and
//! runs the application; [`Stop`] knows when nothing is in flight any more. TLS is done in the guard
//! and not by Pingora's listener, because there a handshake may take a minute, is counted nowhere,
//! and a broken certificate file panics inside the service task.
//!
//! May import `http`, `log_id` and `gateway::limits`; only `app` and `cli` build on it.

#[cfg(any(test, feature = "testing"))]
mod ephemeral;
mod framing;
mod guard;
mod head;
mod run;
mod service;
mod sockets;
mod sources;
mod stop;
mod stream;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, ProxyHttp, http_proxy};
use pingora::server::configuration::ServerConf;

use crate::gateway::limits::Limits;
use crate::http::{LocalApp, RefusalLog};

#[cfg(any(test, feature = "testing"))]
pub use ephemeral::{Ephemeral, start_on_ephemeral};
pub use guard::{GuardSettings, Guarded};
pub use run::{Finish, StopOutcome, run};
pub use service::Listener;
pub use sockets::{BindError, ListenerSpec, MAX_SOCKETS, check_sockets, probe, shard_addresses};
pub use sources::Sources;
pub use stop::Stop;
pub use tls::{TlsError, TlsSpec};

/// What all listeners of one process share.
#[derive(Clone)]
pub struct Shared {
    /// Knows what is in flight and when to end.
    pub stop: Arc<Stop>,
    /// Deadlines and sizes of every connection.
    pub settings: GuardSettings,
    /// Writes the log line of each refusal given before an application was asked.
    pub refusals: RefusalLog,
}

impl Shared {
    /// The listeners' view of the configured limits.
    #[must_use]
    pub fn new(stop: Arc<Stop>, limits: &Limits, refusals: RefusalLog) -> Self {
        Self {
            stop,
            settings: GuardSettings::from(limits),
            refusals,
        }
    }

    fn guard<A: HttpServerApp>(
        &self,
        app: A,
        sources: &Arc<Sources>,
        spec: &ListenerSpec,
    ) -> Result<Guarded<A>, TlsError> {
        let tls = spec.tls.as_ref().map(TlsSpec::acceptor).transpose()?;
        Ok(Guarded::new(app, tls, Arc::clone(sources), self.clone()))
    }
}

/// Pingora's configuration for our way of running it: one thread per service, and a grace period
/// that never matters because [`run`] ends the server itself.
///
/// The work-stealing kind of runtime has nobody to steal from with one thread, but the other kind
/// leaves handles of ended runtimes behind, which a later thread of the same number then spawns on.
#[must_use]
pub fn server_conf(grace: Duration) -> ServerConf {
    ServerConf {
        threads: 1,
        work_stealing: true,
        grace_period_seconds: Some(grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// The services of one proxy listener: `shards` single-threaded ones on the same port, each with
/// the proxy that `make` builds and its own upstream connections. The kernel spreads connections.
///
/// # Errors
/// When the TLS files cannot be used or the shards exceed [`MAX_SOCKETS`].
pub fn proxy_listeners<P>(
    conf: &Arc<ServerConf>,
    spec: &ListenerSpec,
    shards: usize,
    sources: &Arc<Sources>,
    shared: &Shared,
    make: impl Fn() -> P,
) -> Result<Vec<Listener<HttpProxy<P>>>, ListenError>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    let mut listeners = Vec::with_capacity(shards);
    for (shard, address) in shard_addresses(spec.address, shards)?.iter().enumerate() {
        let guarded = shared.guard(http_proxy(conf, make()), sources, spec)?;
        let name = format!("proxy {} #{shard}", spec.address);
        listeners.push(Listener::new(name, address, shards > 1, guarded));
    }
    Ok(listeners)
}

/// The service of a listener that answers from a router, on a thread of its own: a flood on the
/// proxy listeners cannot delay it.
///
/// # Errors
/// When the TLS files cannot be used.
pub fn local_listener(
    name: &str,
    spec: &ListenerSpec,
    app: LocalApp,
    sources: &Arc<Sources>,
    shared: &Shared,
) -> Result<Listener<LocalApp>, ListenError> {
    let guarded = shared.guard(app, sources, spec)?;
    Ok(Listener::new(
        format!("{name} {}", spec.address),
        &spec.address.to_string(),
        false,
        guarded,
    ))
}

/// A listener that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
