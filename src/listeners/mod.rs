//! Downstream listeners: sockets, TLS, the guard around every application, and the orderly stop.
//!
//! The way of a connection: a Pingora service accepts it on one thread ([`Listener`]), the guard
//! ([`Guarded`]) counts it, does the TLS handshake, reads each request header under a deadline and
//! runs the application; [`Stop`] knows when nothing is in flight any more. TLS is done in the guard
//! and not by Pingora's listener, because there a handshake may take a minute, is counted nowhere,
//! and a broken certificate file panics inside the service task.
//!
//! May import `http`, `log_id`, `telemetry` and `gateway::limits`; only `app` and `cli` build on it.

mod body;
mod chunks;
#[cfg(any(test, feature = "testing"))]
mod ephemeral;
mod frames;
mod framing;
mod guard;
mod head;
mod room;
mod run;
mod service;
mod sockets;
mod sources;
mod stop;
mod stream;
mod streams;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerApp;
use pingora::proxy::{HttpProxy, ProxyHttp, http_proxy};
use pingora::server::configuration::ServerConf;

use crate::gateway::limits::Limits;
use crate::http::{LocalApp, RefusalLog};
use crate::telemetry::WorkerMetrics;

#[cfg(feature = "testing")]
pub use chunks::{CHUNK_BOUNDS, ChunkBounds, ReadChunks, decode_chunks};
#[cfg(any(test, feature = "testing"))]
pub use ephemeral::{Ephemeral, start_on_ephemeral};
pub use guard::{GuardSettings, Guarded};
pub use room::{Descriptors, Room};
pub use run::{Finish, StopOutcome, ignore_hangups, run};
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
/// With one thread there is nobody to steal from. The other kind of runtime costs about 1 % less, but
/// leaves handles behind when it ends, which a later thread of the same number then spawns on: only
/// for a process with one server in its life, see `cli::serve`.
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

/// How a proxy listener is spread over threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Services, each with a socket, upstream connections and a runtime of its own.
    pub services: usize,
    /// Threads of each.
    pub threads: usize,
}

/// The services of one proxy listener, all on the same port, each with the proxy that `make` builds
/// for its number and the place where its open connections are counted. The kernel spreads
/// connections over them.
///
/// # Errors
/// When the TLS files cannot be used or the services exceed [`MAX_SOCKETS`].
pub fn proxy_listeners<P>(
    conf: &Arc<ServerConf>,
    spec: &ListenerSpec,
    spread: Spread,
    sources: &Arc<Sources>,
    shared: &Shared,
    make: impl Fn(usize) -> (P, Option<Arc<WorkerMetrics>>),
) -> Result<Vec<Listener<HttpProxy<P>>>, ListenError>
where
    P: ProxyHttp + Send + Sync + 'static,
    P::CTX: Send + Sync,
{
    let Spread { services, threads } = spread;
    let mut listeners = Vec::with_capacity(services);
    for (shard, address) in shard_addresses(spec.address, services)?.iter().enumerate() {
        let (proxy, counted) = make(shard);
        let guarded = shared.guard(http_proxy(conf, proxy), sources, spec)?;
        let name = format!("proxy {} #{shard}", spec.address);
        let listener = Listener::new(name, address, services > 1, guarded.counted(counted));
        listeners.push(listener.with_threads(threads));
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
