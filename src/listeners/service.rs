//! A guarded application as a Pingora service that listens on one address.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::listeners::TcpSocketOptions;
use pingora::protocols::TcpKeepalive;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service as PingoraService;
use pingora::services::listening::Service;

use super::guard::Guarded;
use super::stop::Stop;

/// Pause between two looks at whether a listener is open.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// One listening socket with its threads and one guarded application: add it to a Pingora server.
pub struct Listener<A> {
    service: Service<Guarded<A>>,
    /// As Pingora's socket table knows it.
    address: String,
    stop: Arc<Stop>,
}

impl<A: HttpServerApp + Send + Sync + 'static> Listener<A> {
    /// A listener with one thread on `address`, spelt as Pingora's socket table shall know it. With
    /// `share_port` others can listen on the same port and the kernel spreads the connections.
    pub(super) fn new(name: String, address: &str, share_port: bool, guarded: Guarded<A>) -> Self {
        let stop = Arc::clone(guarded.stop());
        stop.expect_listener();
        let mut service = Service::new(name, guarded);
        service.threads = Some(1);
        let mut options = TcpSocketOptions::default();
        options.so_reuseport = share_port.then_some(true);
        // A peer that vanished without a word is noticed within two minutes, also where HTTP has
        // no deadline: upgraded connections and long answers.
        options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            count: 4,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::ZERO,
        });
        service.add_tcp_with_settings(address, options);
        Self {
            service,
            address: address.to_owned(),
            stop,
        }
    }
}

impl<A> Listener<A> {
    /// With so many threads, which take work from each other.
    pub(super) fn with_threads(mut self, threads: usize) -> Self {
        self.service.threads = Some(threads);
        self
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> PingoraService for Listener<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let _listening = self.stop.listening();
        let forward = tokio::spawn(forward(shutdown, Arc::clone(&self.stop)));
        let open = tokio::spawn(announce(
            fds.clone(),
            self.address.clone(),
            Arc::clone(&self.stop),
        ));
        self.service
            .start_service(fds, self.stop.watch(), listeners_per_fd)
            .await;
        forward.abort();
        open.abort();
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        PingoraService::listen_addresses(&self.service)
    }
}

/// Says when the listener is open. Pingora tells nobody, but enters a socket into its table as soon
/// as it listens.
async fn announce(fds: Option<ListenFds>, address: String, stop: Arc<Stop>) {
    if let Some(fds) = fds {
        while fds.lock().get(&address).is_none() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    stop.listener_is_open();
}

/// Pingora's own shutdown, where it comes from an upgrade or from a test, is ours too; so is the
/// end of whoever could announce it.
async fn forward(mut shutdown: ShutdownWatch, stop: Arc<Stop>) {
    drop(shutdown.wait_for(|down| *down).await);
    stop.begin();
}
