//! The log: one line per event, written by a thread of its own.
//!
//! Invariants: [`Line::emit`] never blocks and never fails; a line that finds the queue full is
//! counted ([`Log::dropped`]) and the count is logged. One event is one line, whatever its texts
//! hold. There is no global logger: whoever writes holds a [`Log`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::log_format::LineText;
use super::log_ring::LogRing;
use super::log_writer::{FlushDesk, LogWriter};
use crate::clock::{Clock, Timestamp};
use crate::log_id::LogId;

/// Lines that may wait for the writer. At 300 bytes a line about 2.5 MiB, and some seconds of the
/// busiest log, so that a pause of the reader behind a pipe loses nothing.
pub(super) const QUEUE_LINES: usize = 8192;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Detail for a developer; off by default.
    Debug,
    /// A normal event that an operator may want to see.
    Info,
    /// Something was refused, or went wrong and was handled.
    Warn,
    /// Somebody must look at it.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// Form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Json,
    /// Coloured text, for a terminal.
    Human,
}

/// Handle of a log. Clones write to the same log.
#[derive(Clone)]
pub struct Log {
    sender: SyncSender<Message>,
    core: Arc<Core>,
    threshold: Level,
}

/// What the handles and the writer share. The writer holds no sender: it ends with the last handle.
pub(super) struct Core {
    format: Format,
    clock: Arc<dyn Clock>,
    dropped: Arc<AtomicU64>,
    tickers: Mutex<Vec<Arc<dyn Ticker>>>,
    /// Where the writer keeps the newest lines, once somebody wants them.
    ring: OnceLock<Arc<LogRing>>,
    pub(super) flush: FlushDesk,
}

/// What goes through the queue.
pub(super) enum Message {
    /// A rendered line.
    Line(Rendered),
    /// Look at the flush desk.
    Wake,
}

/// A line, ready to be written.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) level: Level,
    pub(super) log_id: Option<LogId>,
    /// As the output wants it, its line feed included.
    pub(super) text: String,
    /// The same as JSON for [`LogRing`], when `text` is not.
    pub(super) json: Option<Box<str>>,
}

/// Something that the writer thread asks for lines about ten times a second. Those lines bypass
/// the queue, so they are never dropped for want of room.
pub(super) trait Ticker: Send + Sync {
    /// Appends the lines due at `now`; all that are still open when `now` is absent.
    fn tick(&self, now: Option<Timestamp>, core: &Core, lines: &mut Vec<Rendered>);
}

impl Log {
    /// Starts a log that writes to `writer` from a thread of its own. Events below
    /// [`Level::Info`] are left out, see [`Log::with_threshold`].
    ///
    /// # Panics
    /// When the system cannot create a thread. That is at start, with nothing open yet, and
    /// without a log the gateway could not even report it.
    pub fn start(
        format: Format,
        writer: impl std::io::Write + Send + 'static,
        clock: Arc<dyn Clock>,
    ) -> (Self, LogWriter) {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let core = Arc::new(Core {
            format,
            clock,
            dropped: Arc::default(),
            tickers: Mutex::default(),
            ring: OnceLock::new(),
            flush: FlushDesk::default(),
        });
        let log_writer = LogWriter::spawn(Arc::clone(&core), sender.clone(), receiver, writer);
        (
            Self {
                sender,
                core,
                threshold: Level::Info,
            },
            log_writer,
        )
    }

    /// The same log, leaving out events below `threshold`.
    #[must_use]
    pub fn with_threshold(self, threshold: Level) -> Self {
        Self { threshold, ..self }
    }

    /// Keeps the newest lines in memory from now on: `lines` of level warn and error, and as many others
    /// that have a Log ID. The first call decides how many.
    #[must_use]
    pub fn keep_recent(&self, lines: usize) -> Arc<LogRing> {
        let ring = self.core.ring.get_or_init(|| Arc::new(LogRing::of(lines)));
        Arc::clone(ring)
    }

    /// Waits until the writer has taken up every line emitted before the call; false after `patience`.
    /// Blocks, so it is not for a thread that serves others.
    #[must_use]
    pub fn settle(&self, patience: Duration) -> bool {
        self.core
            .flush
            .request_through(&self.sender, patience, false)
    }

    /// Begins a line; [`Line::emit`] writes it. `event` is a constant `snake_case` name, `message`
    /// says in our own words what happened. Text from outside belongs into [`Line::outside`].
    pub fn event(&self, level: Level, event: &'static str, message: &str) -> Line<'_> {
        let text = (level >= self.threshold).then(|| self.core.line(level, event, message));
        Line { log: self, text }
    }

    /// Lines lost since the start: the queue was full, or the writer failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.core.dropped()
    }

    pub(super) fn dropped_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.core.dropped)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.core.now()
    }

    pub(super) fn add_ticker(&self, ticker: Arc<dyn Ticker>) {
        self.core
            .tickers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ticker);
    }

    fn send(&self, line: Rendered) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.core.lose(1);
        }
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("format", &self.core.format)
            .field("threshold", &self.threshold)
            .field("dropped", &self.dropped())
            .finish()
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Core {
    pub(super) fn line(&self, level: Level, event: &'static str, message: &str) -> LineText {
        let now = self.now();
        let text = LineText::new(self.format, now, level, event, message);
        // On a terminal alone: otherwise the line is JSON already.
        if self.format == Format::Human && self.ring.get().is_some() {
            text.with_json_twin(now, event, message)
        } else {
            text
        }
    }

    /// Called by the writer thread alone.
    pub(super) fn keep(&self, line: &Rendered) {
        if let Some(ring) = self.ring.get() {
            ring.keep(line);
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// The lines of all tickers. Only the writer thread and registrations take this lock.
    pub(super) fn ticked(&self, now: Option<Timestamp>) -> Vec<Rendered> {
        let mut lines = Vec::new();
        for ticker in self
            .tickers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            ticker.tick(now, self, &mut lines);
        }
        lines
    }
}

/// A line under construction. Field names are constants of ours, in `snake_case`, other than
/// `time`, `level`, `event`, `message` and `log_id`.
#[derive(Debug)]
#[must_use = "nothing is written before `emit`"]
pub struct Line<'a> {
    log: &'a Log,
    text: Option<LineText>,
}

impl Line<'_> {
    /// Joins the line to the answer that shows `log_id`.
    pub fn log_id(mut self, log_id: LogId) -> Self {
        if let Some(text) = &mut self.text {
            text.log_id(log_id);
        }
        self
    }

    /// Adds a value of ours: a name from configuration, a count, a kid that we made.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        if let Some(text) = &mut self.text {
            text.field(name, &value.into());
        }
        self
    }

    /// Adds text that somebody else chose: at most 128 bytes of it, everything escaped that a
    /// terminal obeys, that re-orders or that cannot be seen; bytes that are not UTF-8 as `\xNN`,
    /// and therefore a backslash as `\x5c`. What looks like a token is left out. Never hand a
    /// credential to it all the same: a secret looks like any other word.
    pub fn outside(mut self, name: &'static str, text: impl AsRef<[u8]>) -> Self {
        if let Some(line) = &mut self.text {
            line.outside(name, text.as_ref());
        }
        self
    }

    /// Hands the line to the writer; never blocks.
    pub fn emit(self) {
        if let Some(text) = self.text {
            self.log.send(text.finish());
        }
    }
}
