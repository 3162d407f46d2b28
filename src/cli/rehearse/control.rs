//! What the threads of a rehearsal share: where the gateway is, whether to pause or to end, and
//! which processes have to go when the rehearsal is interrupted.

use std::net::SocketAddr;
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::super::exit::Failure;

/// Pause between two looks at something awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where the running gateway is. `life` counts its starts, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) life: u32,
    pub(super) proxy: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) metrics: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Control {
    place: Mutex<Option<Place>>,
    ended: AtomicBool,
    paused: AtomicBool,
    interrupted: AtomicBool,
    busy: AtomicUsize,
    children: Mutex<Vec<Weak<Mutex<Child>>>>,
}

impl Control {
    /// Also takes over SIGINT and SIGTERM: they end every child, and the step that goes on fails.
    pub(super) fn start() -> Result<Arc<Self>, Failure> {
        let control = Arc::new(Self {
            place: Mutex::default(),
            ended: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            children: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Other(format!("cannot start a runtime: {error}")))?;
        let (watched, fail) = (Arc::clone(&control), |error: std::io::Error| {
            Failure::Other(format!("cannot listen for signals: {error}"))
        });
        let guard = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        drop(guard);
        let watch = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            watched.interrupt();
        };
        let spawned = std::thread::Builder::new().spawn(watch);
        spawned
            .map_err(fail)
            .map(|_runs_until_the_process_ends| control)
    }

    fn interrupt(&self) {
        self.interrupted.store(true, Ordering::SeqCst);
        for child in lock(&self.children).iter().filter_map(Weak::upgrade) {
            // It may have ended by itself.
            let _killed = lock(&child).kill();
        }
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::SeqCst)
    }

    /// Remembers a process that must not outlive the rehearsal.
    pub(super) fn adopt(&self, child: &Arc<Mutex<Child>>) {
        let mut children = lock(&self.children);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(child));
    }

    pub(super) fn place(&self) -> Option<Place> {
        *lock(&self.place)
    }

    pub(super) fn moved_to(&self, place: Place) {
        *lock(&self.place) = Some(place);
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    /// One round of a background thread; none while paused.
    pub(super) fn round(&self, work: impl FnOnce()) {
        self.busy.fetch_add(1, Ordering::SeqCst);
        // Asked after counting: whoever pauses sees the count, or this sees the pause.
        if !self.paused.load(Ordering::SeqCst) {
            work();
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets no background round begin, and waits until none goes on.
    pub(super) fn pause(&self) -> Result<(), String> {
        self.paused.store(true, Ordering::SeqCst);
        self.wait(
            "the end of the calls in flight",
            Duration::from_secs(60),
            || (self.busy.load(Ordering::SeqCst) == 0).then_some(()),
        )
    }

    pub(super) fn resume(&self) {
        self.paused.store(false, Ordering::SeqCst);
    }

    /// Looks again and again until `look` finds something.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if self.is_interrupted() {
                return Err("interrupted".to_owned());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "waited {} s in vain for {what}",
                    patience.as_secs()
                ));
            }
            park_timeout(LOOK_AGAIN);
        }
    }
}

/// The values behind these locks are whole whatever panicked elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
