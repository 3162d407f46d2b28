//! What a listener and the work on a connection know about each other.
//!
//! The listener's guard makes one [`ConnState`] per downstream connection and runs every request
//! inside [`ConnState::scope`]; a request finds it with [`ConnState::current`]. Its one command is
//! [`ConnState::cut`]: from then on each read and write of the connection fails at once, also those
//! that are already waiting, so that the request ends through its ordinary error path and is
//! logged and counted like any other.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::HeaderValue;

tokio::task_local! {
    static CURRENT: Arc<ConnState>;
}

/// One downstream connection, as seen by the requests on it.
///
/// On HTTP/2 all streams of a connection share it: cutting it ends them all.
pub struct ConnState {
    peer: Option<SocketAddr>,
    forwarded_for: Option<HeaderValue>,
    tls: bool,
    /// Of the whole process.
    ending: Arc<AtomicBool>,
    cut: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// The tasks to wake when the connection is cut: at most one per direction.
#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl ConnState {
    /// The state of a new connection from `peer`; `ending` turns true when no connection is to have
    /// another request.
    #[must_use]
    pub fn new(peer: Option<SocketAddr>, tls: bool, ending: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            peer,
            forwarded_for: peer
                .and_then(|peer| peer.ip().to_canonical().to_string().try_into().ok()),
            tls,
            ending,
            cut: AtomicBool::new(false),
            waiting: Mutex::default(),
        })
    }

    /// The connection that the calling task serves; `None` outside a guarded listener.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Lets `read` look at the connection that the calling task serves; `None` outside a guarded
    /// listener.
    pub fn with_current<R>(read: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(|conn| read(conn)).ok()
    }

    /// Runs `work` as part of this connection.
    pub async fn scope<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Downstream address, where the transport has one.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The downstream address as the value of `X-Forwarded-For`, written once a connection.
    #[must_use]
    pub const fn forwarded_for(&self) -> Option<&HeaderValue> {
        self.forwarded_for.as_ref()
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether the request that is served is to be the last on its connection.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends the connection: every read and write fails from now on, waiting ones are woken to fail.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        let waiting = std::mem::take(&mut *self.waiting());
        for waker in [waiting.reader, waiting.writer].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Whether [`ConnState::cut`] was called.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    /// Registers a reader that is about to wait. Check [`ConnState::is_cut`] *afterwards*: a cut
    /// before the registration wakes nobody.
    pub(crate) fn park_reader(&self, waker: &Waker) {
        park(&mut self.waiting().reader, waker);
    }

    /// Registers a writer that is about to wait; see [`ConnState::park_reader`].
    pub(crate) fn park_writer(&self, waker: &Waker) {
        park(&mut self.waiting().writer, waker);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn park(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(parked) => parked.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

impl fmt::Debug for ConnState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnState")
            .field("peer", &self.peer)
            .field("tls", &self.tls)
            .field("cut", &self.is_cut())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_finds_its_connection_and_nobody_elses() {
        assert!(ConnState::current().is_none());
        let conn = ConnState::new(None, true, Arc::default());
        let seen = Arc::clone(&conn)
            .scope(async { ConnState::current() })
            .await;
        assert!(Arc::ptr_eq(&conn, &seen.expect("inside the scope")));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_its_own_address() {
        for (peer, address) in [
            ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
            ("192.0.2.1:1", "192.0.2.1"),
            ("[2001:db8::1]:1", "2001:db8::1"),
        ] {
            let conn = ConnState::new(peer.parse().ok(), false, Arc::default());
            let shown = conn.forwarded_for().and_then(|value| value.to_str().ok());
            assert_eq!(shown, Some(address));
        }
    }
}
