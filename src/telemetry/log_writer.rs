//! The thread that writes log lines, and how others wait for it.
//!
//! Invariants: only this thread touches the output, so a slow or stuck reader of the log stops
//! nobody else; lines lost for want of room or by a failed write are counted and reported at most
//! once a second; a failed write never glues two lines together.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::log::{Core, Level, Message, QUEUE_LINES, Rendered};

/// How often tickers are asked; bounds how late the summary of a second appears.
const TICK: Duration = Duration::from_millis(100);

/// Shortest time between two reports of lost lines.
const LOSS_REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes collected before a write, so that a busy log costs few system calls.
const BATCH_BYTES: usize = 64 * 1024;

/// The writing end of a [`super::Log`]. Dropping it leaves the log running.
#[derive(Debug)]
#[must_use = "flush it at shutdown, or the last lines may be lost"]
pub struct LogWriter {
    core: Arc<Core>,
    wake: SyncSender<Message>,
}

impl LogWriter {
    pub(super) fn spawn(
        core: Arc<Core>,
        wake: SyncSender<Message>,
        receiver: Receiver<Message>,
        out: impl Write + Send + 'static,
    ) -> Self {
        let output = Output {
            core: Arc::clone(&core),
            out,
            batch: Vec::new(),
            lines: 0,
            torn: false,
            reported_loss: 0,
            announced_loss: None,
            reported_at: None,
        };
        #[expect(
            clippy::expect_used,
            reason = "only at start; without the thread nothing could report it"
        )]
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || output.run(&receiver))
            .expect("the system creates the log thread");
        Self { core, wake }
    }

    /// Waits until every line emitted before the call is written, summaries of unfinished seconds
    /// included; for shutdown. False when that took longer than `timeout`.
    #[must_use = "false means that lines are still unwritten"]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.request(timeout, true)
    }

    /// As [`LogWriter::flush`], but leaves the summary of the running second open.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn sync(&self, timeout: Duration) -> bool {
        self.request(timeout, false)
    }

    fn request(&self, timeout: Duration, finish: bool) -> bool {
        self.core.flush.request_through(&self.wake, timeout, finish)
    }
}

/// Where flushes are asked for and answered.
#[derive(Debug, Default)]
pub(super) struct FlushDesk {
    state: Mutex<FlushState>,
    answered: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlushState {
    requested: u64,
    answered: u64,
    /// Whether a request asked to close the running second too.
    finish: bool,
}

impl FlushDesk {
    fn lock(&self) -> MutexGuard<'_, FlushState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a flush, wakes the writer through `wake` and waits; false after `timeout`.
    pub(super) fn request_through(
        &self,
        wake: &SyncSender<Message>,
        timeout: Duration,
        finish: bool,
    ) -> bool {
        let number = self.request(finish);
        // A full queue needs no wake-up: the writer is behind and looks at the desk on its way.
        drop(wake.try_send(Message::Wake));
        self.wait(number, timeout)
    }

    pub(super) fn request(&self, finish: bool) -> u64 {
        let mut state = self.lock();
        state.requested += 1;
        state.finish |= finish;
        state.requested
    }

    pub(super) fn wait(&self, number: u64, timeout: Duration) -> bool {
        let unanswered = |state: &mut FlushState| state.answered < number;
        match self
            .answered
            .wait_timeout_while(self.lock(), timeout, unanswered)
        {
            Ok((state, _)) => state.answered >= number,
            Err(poisoned) => poisoned.into_inner().0.answered >= number,
        }
    }

    /// What is asked for now, and whether to close the running second.
    pub(super) fn open(&self) -> Option<FlushState> {
        let mut state = self.lock();
        let seen = *state;
        state.finish = false;
        (seen.requested > seen.answered).then_some(seen)
    }

    /// Whether something is asked for and not answered.
    pub(super) fn is_asked(&self) -> bool {
        let state = self.lock();
        state.requested > state.answered
    }

    pub(super) fn answer(&self, seen: FlushState) {
        self.lock().answered = seen.requested;
        self.answered.notify_all();
    }
}

struct Output<W> {
    core: Arc<Core>,
    out: W,
    batch: Vec<u8>,
    /// Lines in `batch`.
    lines: u64,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
    /// Lost lines that a written report has told of.
    reported_loss: u64,
    /// Lost lines that a report in `batch` tells of.
    announced_loss: Option<u64>,
    reported_at: Option<Instant>,
}

impl<W: Write> Output<W> {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut ticked_at = Instant::now();
        loop {
            let first = receiver.recv_timeout(TICK);
            let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
            // Read before the queue is drained: all that a request waits for is in the queue by
            // now, and the queue holds no more than is received below.
            let request = self.core.flush.open();
            if let Ok(message) = first {
                self.take(message);
            }
            for message in receiver.try_iter().take(QUEUE_LINES) {
                self.take(message);
            }
            if ended || request.is_some() || ticked_at.elapsed() >= TICK {
                ticked_at = Instant::now();
                let finish = ended || request.is_some_and(|asked| asked.finish);
                let now = (!finish).then(|| self.core.now());
                for line in self.core.ticked(now) {
                    self.push(&line);
                }
                self.report_loss(finish);
            }
            self.write();
            if let Some(asked) = request {
                self.core.flush.answer(asked);
            }
            if ended {
                return;
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => self.push(&line),
            Message::Wake => {}
        }
    }

    fn push(&mut self, line: &Rendered) {
        self.core.keep(line);
        self.batch.extend_from_slice(line.text.as_bytes());
        self.lines += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let separated = if self.torn {
            self.out.write_all(b"\n")
        } else {
            Ok(())
        };
        let written = separated
            .and_then(|()| self.out.write_all(&self.batch))
            .and_then(|()| self.out.flush());
        self.torn = written.is_err();
        let announced = self.announced_loss.take();
        if self.torn {
            self.core.lose(self.lines);
        } else if let Some(lost) = announced {
            self.reported_loss = lost;
        }
        self.batch.clear();
        self.lines = 0;
    }

    fn report_loss(&mut self, finish: bool) {
        let lost = self.core.dropped();
        let early = self
            .reported_at
            .is_some_and(|at| at.elapsed() < LOSS_REPORT_INTERVAL);
        if lost == self.reported_loss || (early && !finish) {
            return;
        }
        let mut line = self.core.line(
            Level::Warn,
            "log_lines_dropped",
            "log lines were lost because they came faster than they could be written",
        );
        line.field("lines", &(lost - self.reported_loss).into());
        line.field("total", &lost.into());
        // Not one of `lines`: a report that cannot be written would count itself again and again.
        let line = line.finish();
        self.core.keep(&line);
        self.batch.extend_from_slice(line.text.as_bytes());
        self.announced_loss = Some(lost);
        self.reported_at = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::clock::Timestamp;
    use crate::telemetry::test_clock::TestClock;
    use crate::telemetry::{Format, Log};

    const LONG: Duration = Duration::from_secs(20);

    /// An output that blocks until it is opened.
    #[derive(Clone, Default)]
    struct Gate {
        open: Arc<(Mutex<bool>, Condvar)>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Gate {
        fn open(&self) {
            *self.open.0.lock().unwrap() = true;
            self.open.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.written.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let guard = self.open.0.lock().unwrap();
            drop(self.open.1.wait_while(guard, |open| !*open).unwrap());
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn start(out: impl Write + Send + 'static) -> (Log, LogWriter) {
        Log::start(
            Format::Json,
            out,
            TestClock::at(Timestamp::from_seconds(0)).handle(),
        )
    }

    fn field(line: &str, name: &str) -> u64 {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line[name].as_u64().unwrap()
    }

    #[test]
    fn a_stuck_output_blocks_nobody_and_every_lost_line_is_counted() {
        let gate = Gate::default();
        let (log, writer) = start(gate.clone());
        let sent = 3 * QUEUE_LINES;
        for _ in 0..sent {
            log.event(Level::Info, "test", "a line").emit();
        }
        let lost = log.dropped();
        assert!(lost >= (QUEUE_LINES - 1) as u64, "only {lost} lost");
        assert!(
            !writer.flush(Duration::from_millis(20)),
            "nothing can be written yet"
        );
        gate.open();
        assert!(writer.flush(LONG));
        let text = gate.text();
        let written = text
            .lines()
            .filter(|line| line.contains("\"test\""))
            .count();
        assert_eq!(written as u64 + lost, sent as u64);
        let reports: u64 = text
            .lines()
            .filter(|line| line.contains("log_lines_dropped"))
            .map(|line| field(line, "lines"))
            .sum();
        assert_eq!(reports, lost);
        assert_eq!(log.dropped(), lost);
    }

    #[test]
    fn a_flush_waits_for_all_that_was_emitted_before() {
        let gate = Gate::default();
        gate.open();
        let (log, writer) = start(gate.clone());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let log = log.clone();
                thread::spawn(move || {
                    for _ in 0..500 {
                        log.event(Level::Warn, "test", "a line").emit();
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(writer.flush(LONG));
        assert_eq!(gate.text().lines().count(), 2000);
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn the_thread_writes_what_is_left_when_the_last_handle_goes() {
        let gate = Gate::default();
        gate.open();
        let (log, writer) = start(gate.clone());
        log.event(Level::Info, "test", "the last line").emit();
        drop((log, writer));
        // The end of the thread shows in its share of the output going away.
        let until = Instant::now() + LONG;
        while Arc::strong_count(&gate.written) > 1 && Instant::now() < until {
            thread::yield_now();
        }
        assert_eq!(gate.text().lines().count(), 1);
    }

    /// An output whose first write stops in the middle of a line and fails.
    #[derive(Clone, Default)]
    struct Torn {
        writes: Arc<AtomicUsize>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Torn {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.writes.fetch_add(1, Ordering::Relaxed) {
                0 => {
                    self.written.lock().unwrap().extend_from_slice(&bytes[..10]);
                    Ok(10)
                }
                1 => Err(io::Error::from(io::ErrorKind::StorageFull)),
                _ => {
                    self.written.lock().unwrap().extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that always fails.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_output_loses_the_lines_and_not_the_reports_of_that() {
        let (log, writer) = start(Closed);
        for expected in 1..=3 {
            log.event(Level::Info, "test", "lost").emit();
            assert!(writer.flush(LONG));
            assert!(writer.flush(LONG), "the report of the loss fails too");
            assert_eq!(log.dropped(), expected);
        }
    }

    #[test]
    fn a_failed_write_is_counted_and_leaves_the_next_line_whole() {
        let torn = Torn::default();
        let (log, writer) = start(torn.clone());
        log.event(Level::Info, "first", "lost").emit();
        assert!(writer.flush(LONG));
        assert_eq!(log.dropped(), 1);
        log.event(Level::Info, "second", "kept").emit();
        assert!(writer.flush(LONG));
        let text = String::from_utf8(torn.written.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "a torn line, the second, a report: {text}");
        assert_eq!(
            lines.iter().filter(|line| line.contains("second")).count(),
            1
        );
        let report = lines
            .iter()
            .find(|line| line.contains("log_lines_dropped"))
            .unwrap();
        assert_eq!(field(report, "total"), 1);
        assert!(
            lines[1..]
                .iter()
                .all(|line| line.starts_with("{\"time\"") && line.ends_with('}'))
        );
        assert_eq!(log.dropped(), 1, "nothing else is lost");
    }
}
