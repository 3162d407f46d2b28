//! Listeners through real sockets: the bridge to routers, the guard's deadlines and limits, TLS,
//! and the orderly stop.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bridge;
mod deadlines;
mod proxy;
mod stop;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use portcullis::gateway::limits::Limits;
use portcullis::http::{Bridge, BridgeLimits, LocalApp, Refusal, RefusalLog};
use portcullis::listeners::{Ephemeral, Shared, Sources, Stop, TlsSpec, start_on_ephemeral};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest time that a condition may take to come true on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test wants to differ from the defaults.
struct Setup {
    limits: Limits,
    bridge: BridgeLimits,
    write_timeout: Duration,
    tls: Option<TlsSpec>,
    refusals: Arc<Mutex<Vec<Refusal>>>,
    stop: Arc<Stop>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            bridge: BridgeLimits::default(),
            write_timeout: Duration::from_secs(30),
            tls: None,
            refusals: Arc::default(),
            stop: Stop::new(Duration::from_secs(5)),
        }
    }
}

impl Setup {
    fn shared(&self) -> Shared {
        let refusals = Arc::clone(&self.refusals);
        let log: RefusalLog =
            Arc::new(move |refusal| refusals.lock().unwrap().push(refusal.clone()));
        let mut shared = Shared::new(Arc::clone(&self.stop), &self.limits, log);
        shared.settings.write_timeout = self.write_timeout;
        shared
    }

    fn sources(&self) -> Arc<Sources> {
        Sources::new(self.limits.max_connections_per_address)
    }

    fn app(&self, router: Router) -> LocalApp {
        LocalApp::new(Bridge::new(
            router,
            self.bridge,
            Arc::clone(&self.shared().refusals),
        ))
    }

    fn start(&self, router: Router) -> Ephemeral {
        let app = self.app(router);
        start_on_ephemeral(app, self.tls.clone(), &self.sources(), &self.shared()).unwrap()
    }
}

/// A client that speaks bytes.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until what was read ends the wait.
    async fn read_until(&mut self, done: impl Fn(&str) -> bool) -> String {
        let mut all = Vec::new();
        let reading = async {
            while !done(&String::from_utf8_lossy(&all)) {
                let mut buf = vec![0; 16 * 1024];
                let read = self.0.read(&mut buf).await.unwrap();
                let text = String::from_utf8_lossy(&all).into_owned();
                assert_ne!(read, 0, "closed after {text:?}");
                all.extend_from_slice(&buf[..read]);
            }
        };
        timeout(PATIENCE, reading)
            .await
            .expect("the awaited answer");
        String::from_utf8(all).unwrap()
    }

    /// Reads one answer with a Content-Length.
    async fn answer(&mut self) -> String {
        self.read_until(is_whole).await
    }

    /// Reads until the server closes; a reset counts as closing.
    async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        let reading = async {
            let mut buf = vec![0; 64 * 1024];
            while let Ok(read) = self.0.read(&mut buf).await
                && read > 0
            {
                all.extend_from_slice(&buf[..read]);
            }
        };
        timeout(PATIENCE, reading)
            .await
            .expect("the connection to be closed");
        String::from_utf8_lossy(&all).into_owned()
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    header(head, "content-length").is_some_and(|length| length.parse() == Ok(body.len()))
}

/// Value of a header field in an answer.
fn header(answer: &str, name: &str) -> Option<String> {
    answer
        .lines()
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
}

/// Polls until `condition` holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
