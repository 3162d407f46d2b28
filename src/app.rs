//! The composition root: configuration and [`Env`] in, services out, in order. The key set is
//! loaded before any listener opens.

mod error;
mod explain;
mod parts;
mod records;
mod secrets;
mod trust;

use std::fmt;
use std::sync::Arc;

use pingora::proxy::ProxyHttp;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use crate::admin::{self, AdminParts, Authenticator, StatusBoard, Watched};
use crate::clients::ClientRegistry;
use crate::clock::Clock;
use crate::config::{Config, ProxyListener};
use crate::gateway::sources::Forgers;
use crate::gateway::{self, Gateway, GatewayParts, LocalEndpoints, UpstreamChecks};
use crate::health::{self, HealthParts};
use crate::http::{Bridge, BridgeLimits, LocalApp, RefusalLog};
use crate::issuer::{self, IssuerParts, SLOW_CHECKS};
use crate::keygen::KeyGenerator;
use crate::lifecycle::clients::{ClientPolicy, Clients};
use crate::lifecycle::{self, Lifecycle, Policy, WatchedStore};
use crate::store::{KeyStore, Keyring};
use crate::telemetry::{
    AdminRefusal, CodeClass, DENIAL_LINES_PER_SECOND, DenialLog, ISSUER_ROUTE, Log, Metrics,
    NO_ROUTE, RouteMetrics, TokenError,
};
use crate::token::Rejection;
use crate::token::jose::install_crypto;

pub use error::StartError;
pub use explain::explain_offline;
use parts::{
    issuer_spec, metrics_of, refusal_log, route_metrics, routes_of, upstreams_of, watched,
    worker_names,
};
pub use records::Records;
use secrets::{clients_of, credentials_of};
use trust::{origins_of, sessions_of, trusted_proxies};

/// What records of requests call the health endpoints of a proxy listener.
const HEALTH: &str = "health";

/// Everything that reaches outside; real in `cli`, fake in tests. Taken apart in [`App::build`].
#[derive(Clone, Debug)]
pub struct Env {
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Makes keys.
    pub keygen: Arc<dyn KeyGenerator>,
    /// Keeps the key set.
    pub store: Arc<dyn KeyStore>,
    /// Seals private halves.
    pub keyring: Arc<Keyring>,
    /// The log.
    pub log: Log,
}

/// The gateway, composed, before any listener is open.
pub struct App {
    /// The life cycle.
    pub lifecycle: Arc<Lifecycle>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    gateway: Arc<GatewayParts>,
    issuer: IssuerParts,
    admin: Arc<AdminParts>,
    health: HealthParts,
    checks: UpstreamChecks,
    issuer_metrics: Arc<RouteMetrics>,
    unmatched: Arc<RouteMetrics>,
    refusals: RefusalLog,
    records: Records,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

impl App {
    /// Composes everything and loads the key set. `unready` says whether not every listener is
    /// open: not yet, or no longer.
    ///
    /// # Errors
    /// [`StartError`], before anything was opened.
    pub async fn build(
        config: &Config,
        env: Env,
        unready: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Self, StartError> {
        install_crypto();
        let rng = SystemRandom::new();
        let metrics = Arc::new(metrics_of(config)?);
        metrics.attach_log(&env.log);
        let records = Records::start(config, &env.clock, &env.log, &metrics)?;
        let registry = ClientRegistry::new(clients_of(config)?, &rng)?;
        let authenticator = Authenticator::new(credentials_of(config)?);

        let recent = env.log.keep_recent(config.log.ring_lines);
        let store = WatchedStore::new(env.store, Arc::clone(&env.clock));
        let store_health = store.health();
        let parts = lifecycle::Parts {
            store: Arc::new(store),
            keygen: env.keygen,
            keyring: env.keyring,
            clock: Arc::clone(&env.clock),
            metrics: Arc::clone(&metrics),
            log: env.log.clone(),
        };
        let policy = Policy {
            issuer: config.issuer.url.clone(),
            algorithm: config.issuer.algorithm,
            timing: config.keys.timing.clone(),
            audience: config.issuer.audience.clone(),
            token_cache: config.server.token_cache,
        };
        let client_policy = ClientPolicy {
            token_ttl: config.issuer.token_ttl,
            max_token_ttl: config.keys.timing.max_token_ttl,
        };
        let lifecycle = Lifecycle::start(parts.clone(), policy, worker_names(config)).await?;
        if let Some(tracer) = &records.tracer {
            lifecycle.attach_tracer(tracer.clone());
        }
        let clients = Clients::start(parts, client_policy, registry).await?;

        let reasons = Rejection::ALL.map(Rejection::as_str).into_iter();
        let denials = DenialLog::new(
            &env.log,
            DENIAL_LINES_PER_SECOND,
            reasons
                .chain(gateway::REASONS)
                .chain(TokenError::ALL.iter().map(|error| error.as_str())),
        );
        let issuer_metrics = route_metrics(&metrics, ISSUER_ROUTE)?;
        let unmatched = route_metrics(&metrics, NO_ROUTE)?;
        let upstreams = upstreams_of(config, &metrics)?;
        let gateway = Arc::new(GatewayParts {
            published: lifecycle.published(),
            clients: Arc::clone(&clients),
            routes: routes_of(config, &metrics, &upstreams)?,
            limits: config.limits.clone(),
            forgers: config.limits.forged_tokens.map(Forgers::new),
            realm: config.issuer.url.clone(),
            clock: Arc::clone(&env.clock),
            log: env.log.clone(),
            denials: denials.clone(),
            metrics: Arc::clone(&metrics),
            access_log: records.access_log.clone(),
            tracer: records.tracer.clone(),
        });
        let issuer = IssuerParts {
            spec: Arc::new(issuer_spec(config)),
            published: lifecycle.published(),
            issued: lifecycle.issued_tokens(),
            clients: Arc::clone(&clients),
            clock: Arc::clone(&env.clock),
            log: env.log.clone(),
            denials,
            metrics: Arc::clone(&metrics),
            slow_checks: Arc::new(Semaphore::new(SLOW_CHECKS)),
            rng,
            worker: 0,
        };
        let status = Arc::new(StatusBoard::new(Watched {
            issuer: config.issuer.url.clone(),
            lifecycle: Arc::clone(&lifecycle),
            store: store_health,
            metrics: Arc::clone(&metrics),
            upstreams: config
                .upstreams
                .iter()
                .zip(&upstreams)
                .map(watched)
                .collect(),
            clock: Arc::clone(&env.clock),
        }));
        let admin = Arc::new(AdminParts {
            lifecycle: Arc::clone(&lifecycle),
            clients,
            authenticator,
            sessions: sessions_of(config),
            origins: origins_of(config),
            routes: config.routes.iter().map(|of| of.name.clone()).collect(),
            explainer: explain::explainer(config, Arc::clone(&gateway)),
            clock: env.clock,
            // Of its own: a flood of bad requests must not hide what happens here.
            denials: DenialLog::new(
                &env.log,
                DENIAL_LINES_PER_SECOND,
                AdminRefusal::ALL.iter().map(|reason| reason.as_str()),
            ),
            log: env.log.clone(),
            metrics: Arc::clone(&metrics),
            running: Arc::default(),
            streams: Arc::default(),
            status,
            recent,
        });
        let health = HealthParts {
            log: env.log.clone(),
            published: lifecycle.published(),
            metrics: Arc::clone(&metrics),
            unready,
        };
        let refusals = refusal_log(env.log);
        Ok(Self {
            lifecycle,
            metrics,
            checks: UpstreamChecks::of(&gateway, upstreams),
            gateway,
            issuer,
            admin,
            health,
            issuer_metrics,
            unmatched,
            refusals,
            records,
        })
    }

    /// The proxy of worker number `worker` on a listener.
    #[must_use]
    pub fn gateway(
        &self,
        listener: &ProxyListener,
        worker: usize,
    ) -> impl ProxyHttp<CTX: Send + Sync> + Send + Sync + use<> {
        let mut local = Vec::new();
        if listener.serves.issuer {
            let parts = IssuerParts {
                worker,
                ..self.issuer.clone()
            };
            local.push(LocalEndpoints {
                name: ISSUER_ROUTE,
                paths: parts.spec.paths().all(),
                bridge: self.bridge(issuer::router(parts)),
                metrics: Arc::clone(&self.issuer_metrics),
            });
        }
        if listener.serves.health {
            local.push(LocalEndpoints {
                name: HEALTH,
                paths: health::HEALTH_PATHS.map(str::to_owned).to_vec(),
                bridge: self.bridge(health::health_router(self.health.clone())),
                metrics: Arc::clone(&self.unmatched),
            });
        }
        let unmatched = Arc::clone(&self.unmatched);
        Gateway::new(
            Arc::clone(&self.gateway),
            worker,
            listener.serves.routes,
            local,
            unmatched,
        )
        .behind(trusted_proxies(listener))
    }

    /// The admin listener's application.
    #[must_use]
    pub fn admin(&self) -> LocalApp {
        LocalApp::new(self.bridge(admin::router(Arc::clone(&self.admin))))
    }

    /// The metrics listener's application.
    #[must_use]
    pub fn metrics_app(&self) -> LocalApp {
        LocalApp::new(self.bridge(health::metrics_router(self.health.clone())))
    }

    /// Looks after the upstreams, at how everything is, and after what is too old, until the future is dropped.
    pub fn watch(&self) -> impl Future<Output = ()> + Send + 'static {
        let (checks, admin) = (self.checks.clone(), Arc::clone(&self.admin));
        async move {
            let clients = admin.clients.forget_old_failures();
            tokio::join!(checks.run(), admin.status.watch(), clients);
        }
    }

    /// Writes the lines of refusals that come before any endpoint.
    #[must_use]
    pub fn refusals(&self) -> RefusalLog {
        Arc::clone(&self.refusals)
    }

    /// The same for proxy listeners, whose refusals the metrics and the access log tell of too: no
    /// gateway gets to see these requests.
    #[must_use]
    pub fn proxy_refusals(&self) -> RefusalLog {
        let (refusals, unmatched) = (self.refusals(), Arc::clone(&self.unmatched));
        self.records.with_lines(Arc::new(move |refusal| {
            refusals(refusal);
            // The method may not be one, and counts as any other that no route takes.
            unmatched.observe("", CodeClass::of(refusal.status.as_u16()), 0.0);
        }))
    }

    /// What keeps records of requests; to be flushed at the end.
    #[must_use]
    pub fn records(&self) -> Records {
        self.records.clone()
    }

    fn bridge(&self, router: axum::Router) -> Bridge {
        Bridge::new(router, BridgeLimits::default(), self.refusals())
    }
}
