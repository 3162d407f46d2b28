//! A log that tests read back. Only with the feature `testing`.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::log::{Format, Log};
use super::log_writer::LogWriter;
use crate::clock::Clock;

/// Longest wait for the writer thread of a captured log, which writes to memory.
const SYNC: Duration = Duration::from_secs(10);

/// What a captured log has written so far.
#[derive(Debug)]
pub struct LogCapture {
    captured: Arc<Captured>,
    writer: LogWriter,
}

#[derive(Debug, Default)]
struct Captured {
    bytes: Mutex<Vec<u8>>,
    grown: Condvar,
}

impl Captured {
    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct CaptureWriter(Arc<Captured>);

impl Write for CaptureWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        self.0.grown.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// A JSON log held in memory.
    #[must_use]
    pub fn capture(clock: Arc<dyn Clock>) -> (Self, LogCapture) {
        Self::capture_as(Format::Json, clock)
    }

    pub(super) fn capture_as(format: Format, clock: Arc<dyn Clock>) -> (Self, LogCapture) {
        let captured = Arc::<Captured>::default();
        let (log, writer) = Self::start(format, CaptureWriter(Arc::clone(&captured)), clock);
        (log, LogCapture { captured, writer })
    }
}

impl LogCapture {
    /// Every line emitted before the call, parsed. A line that is not JSON comes as a string.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        parse(&self.text())
    }

    /// Every line emitted before the call, as written.
    #[must_use]
    pub fn text(&self) -> String {
        let _ = self.writer.sync(SYNC);
        String::from_utf8_lossy(&self.captured.lock()).into_owned()
    }

    /// The writing end, to test a flush.
    pub fn writer(&self) -> &LogWriter {
        &self.writer
    }

    /// Waits until `predicate` holds for the lines written so far.
    ///
    /// # Errors
    /// The lines seen, when it does not hold within `deadline`.
    pub fn wait_for(
        &self,
        predicate: impl Fn(&[Value]) -> bool,
        deadline: Duration,
    ) -> Result<Vec<Value>, Vec<Value>> {
        let started = Instant::now();
        loop {
            let text = self.text();
            let lines = parse(&text);
            if predicate(&lines) {
                return Ok(lines);
            }
            let Some(left) = deadline.checked_sub(started.elapsed()) else {
                return Err(lines);
            };
            let unchanged = |bytes: &mut Vec<u8>| bytes.len() == text.len();
            let _guard =
                self.captured
                    .grown
                    .wait_timeout_while(self.captured.lock(), left, unchanged);
        }
    }
}

fn parse(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))
        .collect()
}
