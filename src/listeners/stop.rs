//! What is in flight, and whether it is to end: the state behind an orderly stop.
//!
//! In flight is: a TLS handshake, an HTTP/1 connection that is not waiting for its next request
//! (those end soon after the stop has begun), and an HTTP/2 stream.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// How long everything must stay idle to count as done: a connection that was accepted just before
/// the listener closed may not have been counted yet.
const SETTLE: Duration = Duration::from_millis(20);

/// Longer than a way to a client and back, and than its thoughts between two requests of a loop.
const FAREWELL: Duration = Duration::from_millis(500);

/// What is in flight in this process, and whether it is to end.
#[derive(Debug)]
pub struct Stop {
    grace: Duration,
    /// For those that look at it once an answer.
    begun: Arc<AtomicBool>,
    sender: watch::Sender<bool>,
    /// Never marked as read, so that each clone of it still notices a stop that has begun.
    unread: watch::Receiver<bool>,
    requested: Notify,
    changed: Notify,
    /// Listeners that were made and are not open yet.
    unopened: AtomicUsize,
    listening: AtomicUsize,
    busy: AtomicUsize,
    /// Of each listener. The lock is taken to add one and to read the sum, never by a request.
    requests: Mutex<Vec<Arc<Requests>>>,
    lost: AtomicBool,
}

impl Stop {
    /// Nothing in flight; a stop will wait for `grace` at most.
    #[must_use]
    pub fn new(grace: Duration) -> Arc<Self> {
        let (sender, unread) = watch::channel(false);
        Arc::new(Self {
            grace,
            begun: Arc::default(),
            sender,
            unread,
            requested: Notify::new(),
            changed: Notify::new(),
            unopened: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            requests: Mutex::default(),
            lost: AtomicBool::new(false),
        })
    }

    /// Asks [`super::run`] to stop the process, as SIGTERM does.
    pub fn request(&self) {
        self.requested.notify_one();
    }

    /// Turns true when the stop begins: for work that has no end of its own.
    #[must_use]
    pub fn watch(&self) -> ShutdownWatch {
        self.unread.clone()
    }

    /// Whether the stop has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.unread.borrow()
    }

    /// Whether every listener is open and the stop has not begun. They open each on a thread of
    /// its own, so that one may answer before the others do.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        !self.has_begun() && self.unopened.load(Ordering::SeqCst) == 0
    }

    /// Requests that are being served now.
    #[must_use]
    pub fn requests_in_flight(&self) -> usize {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|requests| requests.now()).sum()
    }

    /// Stops accepting and soon ends idle connections; what is in flight goes on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
        self.sender.send_replace(true);
    }

    /// Waits for [`Stop::request`].
    pub(super) async fn requested(&self) {
        self.requested.notified().await;
    }

    /// How long a kept connection stays open after the stop has begun: a client that was told that
    /// it is kept may have sent its next request already, and is owed the answer.
    pub(super) fn farewell(&self) -> Duration {
        FAREWELL.min(self.grace / 2)
    }

    /// Turns true when the stop begins.
    pub(super) fn ending(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.begun)
    }

    /// Longest time to wait for what is in flight.
    pub(super) const fn grace(&self) -> Duration {
        self.grace
    }

    /// Whether a listener ended before it was to.
    pub(super) fn has_lost_a_listener(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Waits until nothing listens and nothing is in flight.
    pub async fn idle(&self) {
        loop {
            while !self.is_idle() {
                self.changed.notified().await;
            }
            sleep(SETTLE).await;
            if self.is_idle() {
                return;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.listening.load(Ordering::SeqCst) == 0 && self.busy.load(Ordering::SeqCst) == 0
    }

    /// A listener has been made, and is to be open before the process serves.
    pub(super) fn expect_listener(&self) {
        self.unopened.fetch_add(1, Ordering::SeqCst);
    }

    /// One of those is open.
    pub(super) fn listener_is_open(&self) {
        self.unopened.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts a listener until the token is dropped; should that happen before the stop, the
    /// listener has died and the process is asked to stop.
    pub(super) fn listening(self: &Arc<Self>) -> Token {
        Token::new(self, Counter::Listening)
    }

    /// Counts work that a stop must wait for.
    pub(super) fn busy(self: &Arc<Self>) -> Token {
        Token::new(self, Counter::Busy)
    }

    /// Where a listener counts its requests.
    pub(super) fn requests_of_a_listener(&self) -> Arc<Requests> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Arc::<Requests>::default();
        requests.push(Arc::clone(&own));
        own
    }

    const fn counter(&self, counter: Counter) -> &AtomicUsize {
        match counter {
            Counter::Listening => &self.listening,
            Counter::Busy => &self.busy,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Listening,
    Busy,
}

/// Requests in flight on one listener; a cache line of its own, so that workers do not slow each
/// other.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Requests(AtomicUsize);

impl Requests {
    /// Counts a request until the guard is dropped.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a Requests);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One unit of a counter, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Token {
    stop: Arc<Stop>,
    counter: Counter,
}

impl Token {
    fn new(stop: &Arc<Stop>, counter: Counter) -> Self {
        stop.counter(counter).fetch_add(1, Ordering::SeqCst);
        Self {
            stop: Arc::clone(stop),
            counter,
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let stop = &self.stop;
        if self.counter == Counter::Listening && !stop.has_begun() {
            stop.lost.store(true, Ordering::SeqCst);
            stop.request();
        }
        if stop.counter(self.counter).fetch_sub(1, Ordering::SeqCst) == 1 {
            stop.changed.notify_one();
        }
    }
}
