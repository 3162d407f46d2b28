//! What is in flight, and whether it is to end: the state behind an orderly stop.
//!
//! In flight is: a TLS handshake, an HTTP/1 connection that is not waiting for its next request
//! (those end the moment the stop begins), and an HTTP/2 stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pingora::server::ShutdownWatch;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// How long everything must stay idle to count as done: a connection that was accepted just before
/// the listener closed may not have been counted yet.
const SETTLE: Duration = Duration::from_millis(20);

/// What is in flight in this process, and whether it is to end.
#[derive(Debug)]
pub struct Stop {
    grace: Duration,
    sender: watch::Sender<bool>,
    /// Never marked as read, so that each clone of it still notices a stop that has begun.
    unread: watch::Receiver<bool>,
    requested: Notify,
    changed: Notify,
    /// Listeners that were made and are not open yet.
    unopened: AtomicUsize,
    listening: AtomicUsize,
    busy: AtomicUsize,
    requests: AtomicUsize,
    lost: AtomicBool,
}

impl Stop {
    /// Nothing in flight; a stop will wait for `grace` at most.
    #[must_use]
    pub fn new(grace: Duration) -> Arc<Self> {
        let (sender, unread) = watch::channel(false);
        Arc::new(Self {
            grace,
            sender,
            unread,
            requested: Notify::new(),
            changed: Notify::new(),
            unopened: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
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
        self.requests.load(Ordering::SeqCst)
    }

    /// Stops accepting and ends idle connections; what is in flight goes on.
    pub fn begin(&self) {
        self.sender.send_replace(true);
    }

    /// Waits for [`Stop::request`].
    pub(super) async fn requested(&self) {
        self.requested.notified().await;
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

    /// Counts a request.
    pub(super) fn request_in_flight(self: &Arc<Self>) -> Token {
        Token::new(self, Counter::Requests)
    }

    const fn counter(&self, counter: Counter) -> &AtomicUsize {
        match counter {
            Counter::Listening => &self.listening,
            Counter::Busy => &self.busy,
            Counter::Requests => &self.requests,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    Listening,
    Busy,
    Requests,
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
