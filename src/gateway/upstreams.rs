//! Upstream services: where a route's requests go, endpoint by endpoint in turn.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use pingora::protocols::tls::CaType;
use pingora::tls::RootCertStore;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, PeerOptions};
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use thiserror::Error;

use crate::telemetry::{EndpointHealth, UpstreamMetrics};

/// How long an idle connection to an upstream is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One upstream service as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSpec {
    /// Name that routes refer to and metrics show.
    pub name: String,
    /// `host:port` of each endpoint, tried in turn. Names are resolved once, at start.
    pub endpoints: Vec<String>,
    /// TLS towards the endpoints; absent means plain text.
    pub tls: Option<UpstreamTls>,
    /// Time for the TCP (and TLS) handshake.
    pub connect_timeout: Duration,
    /// Time between two reads of a response.
    pub read_timeout: Duration,
    /// Time between two writes of a request.
    pub write_timeout: Duration,
    /// How its endpoints are looked after; `None` for not at all: then none of them is ever left out.
    pub health_check: Option<HealthCheck>,
}

/// How the endpoints of an upstream are looked after while no request tells how they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Time between two checks of an endpoint.
    pub interval: Duration,
    /// Time for a connection, TLS handshake included.
    pub timeout: Duration,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
        }
    }
}

/// TLS settings towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Name to send and to verify the certificate against.
    pub server_name: String,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// An upstream that cannot be used.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// A name does not resolve.
    #[error("upstream `{upstream}`: the endpoint `{endpoint}` cannot be resolved: {source}")]
    Resolve {
        /// The upstream.
        upstream: String,
        /// The endpoint.
        endpoint: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file of trusted authorities cannot be used.
    #[error("upstream `{upstream}`: the ca_file {path} holds no readable PEM certificate: {why}")]
    CaFile {
        /// The upstream.
        upstream: String,
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// An upstream service, ready.
pub struct Upstream {
    /// Name that metrics and logs show.
    pub name: String,
    /// Metrics.
    pub metrics: Arc<UpstreamMetrics>,
    /// How its endpoints are looked after.
    pub(super) health_check: Option<HealthCheck>,
    /// Counts the choices, so that endpoints take turns.
    turn: AtomicUsize,
    /// One for each endpoint, ready to be copied.
    pub(super) peers: Vec<HttpPeer>,
    /// How many endpoints there are, hence how many to try.
    pub endpoints: usize,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Resolves the endpoints and reads the trusted authorities.
    ///
    /// # Errors
    /// [`UpstreamError`] when a name does not resolve or a file cannot be read.
    pub fn new(spec: &UpstreamSpec, metrics: Arc<UpstreamMetrics>) -> Result<Self, UpstreamError> {
        let addresses = spec
            .endpoints
            .iter()
            .map(|endpoint| resolve(&spec.name, endpoint))
            .collect::<Result<Vec<SocketAddr>, _>>()?;
        let mut options = PeerOptions::new();
        options.connection_timeout = Some(spec.connect_timeout);
        options.total_connection_timeout = Some(spec.connect_timeout);
        options.read_timeout = Some(spec.read_timeout);
        options.write_timeout = Some(spec.write_timeout);
        options.idle_timeout = Some(IDLE_TIMEOUT);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        if let Some(ca_file) = spec.tls.as_ref().and_then(|tls| tls.ca_file.as_ref()) {
            options.ca = Some(trusted(&spec.name, ca_file)?);
        }
        let server_name = spec.tls.as_ref().map(|tls| tls.server_name.clone());
        let peer = |address: &SocketAddr| {
            let sni = server_name.clone().unwrap_or_default();
            let mut peer = HttpPeer::new(*address, server_name.is_some(), sni);
            peer.group_key = group(&spec.name);
            peer.options = options.clone();
            peer
        };
        Ok(Self {
            name: spec.name.clone(),
            metrics,
            endpoints: addresses.len(),
            health_check: spec.health_check,
            turn: AtomicUsize::new(0),
            peers: addresses.iter().map(peer).collect(),
        })
    }

    /// The next endpoint in turn, with its place; not the one at `tried` when there is another. One
    /// that is down is left out while another is up; when all are down, all are tried as if they were
    /// not: what is known of them may be old.
    #[must_use]
    pub fn next_peer(&self, tried: Option<usize>) -> Option<(usize, Box<HttpPeer>)> {
        let count = self.peers.len();
        let first = if count > 1 {
            self.turn.fetch_add(1, Relaxed) % count
        } else {
            0
        };
        let in_turn = || {
            (first..count)
                .chain(0..first)
                .filter(|at| Some(*at) != tried)
        };
        let place = in_turn()
            .find(|at| self.may_be_used(*at))
            .or_else(|| in_turn().next())
            .unwrap_or(first);
        let peer = self.peers.get(place)?;
        Some((place, Box::new(peer.clone())))
    }

    fn may_be_used(&self, place: usize) -> bool {
        self.health_check.is_none() || self.health(place).is_none_or(|health| health.is_up())
    }

    /// What is known of the endpoint at this place.
    pub(super) fn health(&self, place: usize) -> Option<&EndpointHealth> {
        self.metrics.endpoints().get(place).map(|health| &**health)
    }
}

/// A number of its own for each upstream; their names are unique. It keeps idle connections apart
/// from those of other upstreams: whom to trust is not among what Pingora compares, so one that
/// another upstream's authority vouched for would be used here.
fn group(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn resolve(upstream: &str, endpoint: &str) -> Result<SocketAddr, UpstreamError> {
    let error = |source| UpstreamError::Resolve {
        upstream: upstream.to_owned(),
        endpoint: endpoint.to_owned(),
        source,
    };
    let nothing = || std::io::Error::other("the name has no address");
    endpoint
        .to_socket_addrs()
        .map_err(error)?
        .next()
        .ok_or_else(nothing)
        .map_err(error)
}

fn trusted(upstream: &str, path: &std::path::Path) -> Result<Arc<CaType>, UpstreamError> {
    let error = |why: String| UpstreamError::CaFile {
        upstream: upstream.to_owned(),
        path: path.to_owned(),
        why,
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| error(source.to_string()))?;
    if certificates.is_empty() {
        return Err(error("it is empty".to_owned()));
    }
    // Pingora panics on a certificate that does not parse, so each is checked first.
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|source| error(source.to_string()))?;
    }
    Ok(certificates
        .into_iter()
        .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
        .collect())
}
