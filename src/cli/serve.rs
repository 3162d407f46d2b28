//! `portcullis serve`: opens the store, composes the application, opens the listeners, runs.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};

use crate::app::{App, Env};
use crate::clock::{Clock, SteadyClock, SystemClock};
use crate::config::{Config, LogFormat, StoreSettings, TlsFiles};
use crate::keygen::RingKeyGenerator;
use crate::lifecycle::{Lifecycle, scheduler};
use crate::listeners::{
    self, Descriptors, Finish, Listener, ListenerSpec, Room, Shared, Sources, Spread, Stop,
    TlsSpec, check_sockets, local_listener, probe, proxy_listeners,
};
use crate::store::{FileStore, FileStoreConfig, Keyring};
use crate::telemetry::{Format, Level, Log, LogWriter, install_bridge};

use super::ConfigFile;
use super::exit::Failure;
use super::harden;

/// How long the log may take to write its last lines.
const FLUSH_PATIENCE: Duration = Duration::from_millis(500);

pub(super) fn run(file: &ConfigFile) -> Result<ExitCode, Failure> {
    let config = file.load()?;
    serve(&config, |_| (), || ())
}

/// Runs the gateway. `also` adds services, `ready` is called when every listener is open.
pub(super) fn serve(
    config: &Config,
    also: impl FnOnce(&mut Extras<'_>),
    ready: impl FnOnce() + Send + 'static,
) -> Result<ExitCode, Failure> {
    let steady = Arc::new(SteadyClock::new(Arc::new(SystemClock)));
    let clock: Arc<dyn Clock> = Arc::<SteadyClock>::clone(&steady);
    let (log, writer) = start_log(config, &clock);
    ignore_hangups(log.clone());
    for warning in config.warnings() {
        log.event(
            Level::Warn,
            "configuration_warning",
            "the configuration looks like a mistake",
        )
        .field("warning", warning)
        .emit();
    }

    let runtime = small_runtime()?;
    let keyring = Arc::new(Keyring::load(&config.keys.encryption_key_files)?);
    let store = runtime.block_on(open_store(config, &keyring, &clock))?;
    let (proxies, others) = addresses(config);
    probe(&[proxies, others].concat())?;

    let stop = Stop::new(config.server.shutdown_grace);
    let env = Env {
        clock,
        keygen: Arc::new(RingKeyGenerator),
        store: Arc::new(store),
        keyring,
        log: log.clone(),
    };
    let unready = {
        let stop = Arc::clone(&stop);
        Arc::new(move || !stop.is_serving())
    };
    let app = runtime.block_on(App::build(config, env, unready))?;
    let mut conf = listeners::server_conf(config.server.shutdown_grace);
    // For the structures that Pingora splits by thread; a service's threads are its own matter.
    conf.threads = config.server.spread().1;
    // This process has one server in its life, so no handle of an ended runtime is in the way.
    conf.work_stealing = !config.server.sharding;
    let mut server = Server::new_with_opt_and_conf(None, conf);
    let shared = Shared::new(Arc::clone(&stop), &config.limits, app.refusals());
    let descriptors = Descriptors::of(harden::raise_open_files(), config.server.workers);
    add_listeners(&mut server, config, &app, &shared, descriptors)?;
    show_certificates(config, &app)?;
    server.add_service(background_service(
        "schedule",
        Schedule {
            lifecycle: Arc::clone(&app.lifecycle),
            stop: Arc::clone(&stop),
        },
    ));
    server.add_service(background_service(
        "watch",
        Watch {
            watching: Mutex::new(Some(Box::pin(app.watch()))),
            stop: Arc::clone(&stop),
        },
    ));
    also(&mut Extras {
        server: &mut server,
        shared: &shared,
    });

    let announce = Announce {
        stop: Arc::clone(&stop),
        log: log.clone(),
        revision: app.lifecycle.current_set().revision,
        workers: config.server.workers,
        max_connections: descriptors.clients,
        ready: Mutex::new(Some(Box::new(ready))),
    };
    server.add_service(background_service("announce", announce));
    drop(runtime);
    let outcome = listeners::run(server, &stop, finish(app, log, writer));
    Ok(ExitCode::from(outcome.exit_code()))
}

/// Where [`serve`] lets a caller add services.
pub(super) struct Extras<'a> {
    pub(super) server: &'a mut Server,
    pub(super) shared: &'a Shared,
}

async fn open_store(
    config: &Config,
    keyring: &Arc<Keyring>,
    clock: &Arc<dyn Clock>,
) -> Result<FileStore, Failure> {
    Ok(FileStore::open(file_store(config, keyring, clock)).await?)
}

/// The file store of a configuration.
pub(super) fn file_store(
    config: &Config,
    keyring: &Arc<Keyring>,
    clock: &Arc<dyn Clock>,
) -> FileStoreConfig {
    let StoreSettings::File(dir) = &config.keys.store;
    FileStoreConfig {
        dir: dir.clone(),
        issuer: config.issuer.url.clone(),
        keyring: Arc::clone(keyring),
        clock: Arc::clone(clock),
    }
}

/// A runtime for the commands that work on the store for a moment.
pub(super) fn small_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))
}

fn start_log(config: &Config, clock: &Arc<dyn Clock>) -> (Log, LogWriter) {
    let format = match config.log.format {
        LogFormat::Json => Format::Json,
        LogFormat::Human => Format::Human,
        LogFormat::Auto if std::io::stdout().is_terminal() => Format::Human,
        LogFormat::Auto => Format::Json,
    };
    let (log, writer) = Log::start(format, std::io::stdout(), Arc::clone(clock));
    // Only a second gateway in the same process could have installed one before.
    let _installed_already = install_bridge(&log);
    (log, writer)
}

fn add_listeners(
    server: &mut Server,
    config: &Config,
    app: &App,
    shared: &Shared,
    descriptors: Descriptors,
) -> Result<(), Failure> {
    let clients = Room::of(descriptors.clients);
    let (services, threads) = config.server.spread();
    let spread = Spread { services, threads };
    let proxy_shared = Shared {
        refusals: app.proxy_refusals(),
        ..shared.clone()
    };
    let limit = config.limits.max_connections_per_address;
    let (proxies, others) = addresses(config);
    check_sockets(&proxies, services, &others)?;
    for (index, listener) in config.listeners.proxy.iter().enumerate() {
        let spec = ListenerSpec {
            address: listener.address,
            tls: listener
                .tls
                .as_ref()
                .map(|files| tls_spec(files, listener.h2)),
        };
        let make = |shard| {
            let number = index * services + shard;
            (app.gateway(listener, number), app.metrics.worker(number))
        };
        let conf = Arc::clone(&server.configuration);
        let plain_text = listener.plain_text.clone();
        let sources = Sources::within(&clients, limit, move |peer| plain_text.admits(peer));
        for service in proxy_listeners(&conf, &spec, spread, &sources, &proxy_shared, make)? {
            server.add_service(service);
        }
    }
    // Operators and scrapes have their own places: a crowd of clients cannot take them.
    let admin = &config.listeners.admin;
    let plain_text = admin.plain_text.clone();
    let room = Room::of(descriptors.local);
    // Nor can one address take all of theirs.
    let half = u32::try_from(descriptors.local / 2).unwrap_or(u32::MAX);
    let operators = Sources::within(&room, limit.min(half), move |peer| plain_text.admits(peer));
    let spec = ListenerSpec {
        address: admin.address,
        tls: admin.tls.as_ref().map(|files| tls_spec(files, false)),
    };
    add(
        server,
        local_listener("admin", &spec, app.admin(), &operators, shared)?,
    );
    if let Some(metrics) = &config.listeners.metrics {
        let tls = metrics.tls.as_ref().map(|files| tls_spec(files, false));
        let spec = ListenerSpec {
            address: metrics.address,
            tls,
        };
        add(
            server,
            local_listener(
                "metrics",
                &spec,
                app.metrics_app(),
                &Sources::within(&Room::of(descriptors.local), limit, |_anybody| true),
                shared,
            )?,
        );
    }
    Ok(())
}

fn add(server: &mut Server, listener: Listener<crate::http::LocalApp>) {
    server.add_service(listener);
}

/// Of the proxy listeners, and of the others.
fn addresses(config: &Config) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let listeners = &config.listeners;
    let proxies = listeners.proxy.iter().map(|listener| listener.address);
    let metrics = listeners.metrics.iter().map(|listener| listener.address);
    let others = [listeners.admin.address].into_iter().chain(metrics);
    (proxies.collect(), others.collect())
}

fn tls_spec(files: &TlsFiles, h2: bool) -> TlsSpec {
    TlsSpec {
        cert_file: files.cert_file.clone(),
        key_file: files.key_file.clone(),
        client_ca_file: files.client_ca_file.clone(),
        h2,
    }
}

/// The TLS settings of every listener that has some, with the listener's name.
pub(super) fn tls_specs(config: &Config) -> Vec<(String, TlsSpec)> {
    let proxies = config.listeners.proxy.iter().filter_map(|listener| {
        let spec = tls_spec(listener.tls.as_ref()?, listener.h2);
        Some((format!("proxy {}", listener.address), spec))
    });
    let admin = config.listeners.admin.tls.iter();
    let admin = admin.map(|files| ("admin".to_owned(), tls_spec(files, false)));
    let metrics = config.listeners.metrics.iter();
    let metrics = metrics
        .flat_map(|listener| &listener.tls)
        .map(|files| ("metrics".to_owned(), tls_spec(files, false)));
    proxies.chain(admin).chain(metrics).collect()
}

/// A certificate that expires unseen is an outage with a date.
fn show_certificates(config: &Config, app: &App) -> Result<(), Failure> {
    for (listener, spec) in tls_specs(config) {
        app.metrics.certificate(&listener, spec.not_after()?);
    }
    Ok(())
}

/// A habit from other servers must end nothing here.
fn ignore_hangups(log: Log) {
    listeners::ignore_hangups(move || {
        let message = "SIGHUP has no meaning here and is ignored: a changed configuration needs a restart, and log \
                       files are opened again by themselves";
        log.event(Level::Info, "hangup_ignored", message).emit();
    });
}

/// In order: the application goes, and with it the store and its lock; then what keeps records is
/// flushed, the log last.
fn finish(app: App, log: Log, writer: LogWriter) -> Vec<Finish> {
    let records = app.records();
    vec![
        Finish::new("unlock the store", move || drop(app)),
        Finish::new("flush the access log and the traces", move || {
            records.finish(FLUSH_PATIENCE);
        }),
        Finish::new("flush the log", move || {
            log.event(Level::Info, "stopped", "the gateway has stopped")
                .emit();
            let _in_time = writer.flush(FLUSH_PATIENCE);
        }),
    ]
}

/// Drives the schedule on a thread of its own.
struct Schedule {
    lifecycle: Arc<Lifecycle>,
    stop: Arc<Stop>,
}

#[async_trait]
impl BackgroundService for Schedule {
    /// Pingora's own watch would come only after the last request; the schedule ends at once.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let mut watch = self.stop.watch();
        let stopped = async move {
            // An error means that the server is gone, which is a stop as well.
            let _stopped = watch.wait_for(|stop| *stop).await;
        };
        scheduler::run(Arc::clone(&self.lifecycle), stopped).await;
    }
}

/// Looks after the upstreams and at how everything is, on a thread of its own.
struct Watch {
    watching: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    stop: Arc<Stop>,
}

#[async_trait]
impl BackgroundService for Watch {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let watching = self
            .watching
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(watching) = watching else {
            return;
        };
        let mut watch = self.stop.watch();
        tokio::select! {
            () = watching => {}
            // An error means that the server is gone, which is a stop as well.
            _ = watch.wait_for(|stop| *stop) => {}
        }
    }
}

/// Says when every listener is open.
struct Announce {
    stop: Arc<Stop>,
    log: Log,
    revision: u64,
    workers: usize,
    max_connections: u64,
    ready: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// Listeners open within milliseconds; nobody waits for this look but people.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[async_trait]
impl BackgroundService for Announce {
    async fn start(&self, _shutdown: ShutdownWatch) {
        while !self.stop.is_serving() {
            if self.stop.has_begun() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.log
            .event(Level::Info, "started", "every listener is open")
            .field("version", env!("CARGO_PKG_VERSION"))
            .field("revision", self.revision)
            .field("workers", self.workers)
            .field("max_connections", self.max_connections)
            .emit();
        let ready = self
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(ready) = ready {
            ready();
        }
    }
}
