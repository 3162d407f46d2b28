//! Running the server to its orderly end.
//!
//! Pingora answers SIGTERM by sleeping the whole grace period, busy or not, and then drops what
//! still runs. So its own signal watch is replaced here: [`run`] waits until nothing is in flight
//! (the grace period is only the bound) and then has the server end at once. Listeners take the
//! stop from [`Stop`], not from Pingora.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::stop::Stop;

/// Time for the finishing steps before the process is ended without them.
const FINISHING: Duration = Duration::from_secs(10);

/// Exit code after a second signal, the shell's number for an interrupt.
const INTERRUPTED: i32 = 130;

/// Exit code when a finishing step hangs.
const UNFINISHED: i32 = 1;

/// Something to do after the last request: flush the log, unlock the store.
pub struct Finish {
    name: &'static str,
    step: Box<dyn FnOnce() + Send>,
}

impl Finish {
    /// A step called `name` in the log.
    #[must_use]
    pub fn new(name: &'static str, step: impl FnOnce() + Send + 'static) -> Self {
        Self {
            name,
            step: Box::new(step),
        }
    }
}

/// How the process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopOutcome {
    /// Everything in flight was finished.
    Finished,
    /// The grace period was over; so many requests were cut.
    GraceOver {
        /// Requests in flight at that moment.
        cut: usize,
    },
    /// A listener died while the process was to serve.
    ListenerLost,
}

impl StopOutcome {
    /// The exit code to end with: a stop that was asked for is a success however long it took.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Finished | Self::GraceOver { .. } => 0,
            Self::ListenerLost => 4,
        }
    }
}

/// Runs `server` until SIGTERM, SIGINT or [`Stop::request`], lets what is in flight finish, takes
/// the finishing steps in order and returns. A second signal ends the process at once with code
/// 130, wherever it stands.
#[must_use]
pub fn run(mut server: Server, stop: &Arc<Stop>, finish: Vec<Finish>) -> StopOutcome {
    server.bootstrap();
    let signals = watch_signals(Arc::clone(stop));
    let (done, outcome) = mpsc::channel();
    let shutdown_signal = Box::new(Drained {
        stop: Arc::clone(stop),
        done,
    });
    server.run(RunArgs { shutdown_signal });
    for Finish { name, step } in finish {
        log::debug!(target: "portcullis::listeners", "stop: {name}");
        step();
    }
    drop(signals);
    outcome.try_recv().unwrap_or(StopOutcome::ListenerLost)
}

/// Stands in for Pingora's signal watch: has the server end when all is done.
struct Drained {
    stop: Arc<Stop>,
    done: mpsc::Sender<StopOutcome>,
}

#[async_trait]
impl ShutdownSignalWatch for Drained {
    async fn recv(&self) -> ShutdownSignal {
        let stop = &self.stop;
        stop.requested().await;
        stop.begin();
        let in_time = timeout(stop.grace(), stop.idle()).await.is_ok();
        let outcome = if stop.has_lost_a_listener() {
            StopOutcome::ListenerLost
        } else if in_time {
            StopOutcome::Finished
        } else {
            StopOutcome::GraceOver {
                cut: stop.requests_in_flight(),
            }
        };
        log::info!(target: "portcullis::listeners", "stopping: {outcome:?}");
        // The receiver waits in `run` for as long as the server runs.
        let _told = self.done.send(outcome);
        ShutdownSignal::FastShutdown
    }
}

/// Listens for signals until the returned handle is dropped. Once this has returned, the first
/// signal can no longer end the process in a disorderly way.
fn watch_signals(stop: Arc<Stop>) -> oneshot::Sender<()> {
    let (disarm, disarmed) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let watching = async move {
        let mut signals = Signals::listen();
        // Its receiver waits below.
        let _told = ready.send(());
        tokio::select! {
            _ = disarmed => {}
            () = two_steps(&mut signals, &stop) => {}
        }
    };
    listen_apart("signals", watching, &is_ready);
    disarm
}

/// Has SIGHUP do nothing but call `told`, for the rest of the process. By default it would end the
/// process at once, without the orderly stop.
pub fn ignore_hangups(told: impl Fn() + Send + 'static) {
    let (ready, is_ready) = mpsc::channel();
    let watching = async move {
        let mut hangup = signal(SignalKind::hangup()).inspect_err(unheard).ok();
        // Its receiver waits below.
        let _told = ready.send(());
        loop {
            next(&mut hangup).await;
            told();
        }
    };
    listen_apart("hangups", watching, &is_ready);
}

/// Runs `watching` on a thread and a runtime of its own, since it must work whatever the others are
/// stuck in; returns when it says that it is ready.
fn listen_apart(
    name: &str,
    watching: impl Future<Output = ()> + Send + 'static,
    is_ready: &mpsc::Receiver<()>,
) {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(runtime) => runtime.block_on(watching),
                Err(error) => unheard(&error),
            }
        });
    match thread {
        // An error means that the thread has given up, and said why.
        Ok(_detached) => drop(is_ready.recv()),
        Err(error) => unheard(&error),
    }
}

fn unheard(error: &std::io::Error) {
    log::error!(target: "portcullis::listeners", "cannot listen for signals: {error}");
}

/// The first signal stops the process in order; a second one, or a stop that hangs, ends it.
async fn two_steps(signals: &mut Signals, stop: &Stop) {
    let mut begun = stop.watch();
    tokio::select! {
        () = signals.next() => stop.request(),
        _ = begun.wait_for(|begun| *begun) => {}
    }
    tokio::select! {
        () = signals.next() => exit(INTERRUPTED),
        () = sleep(stop.grace().saturating_add(FINISHING)) => exit(UNFINISHED),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the orderly end has failed or was cut short"
)]
fn exit(code: i32) {
    std::process::exit(code);
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
}

impl Signals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).inspect_err(unheard).ok();
        Self {
            terminate: listen(SignalKind::terminate()),
            interrupt: listen(SignalKind::interrupt()),
        }
    }

    async fn next(&mut self) {
        tokio::select! {
            () = next(&mut self.terminate) => {}
            () = next(&mut self.interrupt) => {}
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
