//! For tests: a real listener on a port that the operating system chooses.

use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{ListenError, Listener, ListenerSpec, Shared, Sources, TlsSpec};

/// A running listener; it ends when this is dropped.
#[derive(Debug)]
pub struct Ephemeral {
    /// Where it listens. Connections are accepted from the start.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Ephemeral {
    /// Begins the stop and waits until the listener is closed; requests in flight go on.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of the service shows in the test's output.
        let _ended = self.task.await;
    }
}

/// Starts `app` under guard on 127.0.0.1, on the caller's own runtime.
///
/// # Errors
/// When no port can be had or the TLS files cannot be used.
pub fn start_on_ephemeral<A>(
    app: A,
    tls: Option<TlsSpec>,
    sources: &Arc<Sources>,
    shared: &Shared,
) -> io::Result<Ephemeral>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let name = address.to_string();
    let spec = ListenerSpec { address, tls };
    let guarded = shared
        .guard(app, sources, &spec)
        .map_err(|error| io::Error::other(ListenError::from(error)))?;
    let mut listener = Listener::new(format!("test {name}"), &name, false, guarded);
    // Pingora takes the socket out of the table as if a running server had handed it over.
    let mut table = Fds::new();
    table.add(name, socket.into_raw_fd());
    let (stop, stopping) = watch::channel(false);
    let task = tokio::spawn(async move {
        listener
            .start_service(Some(ListenFds::new(table.into())), stopping, 1)
            .await;
    });
    Ok(Ephemeral {
        address,
        stop,
        task,
    })
}
