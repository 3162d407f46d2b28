//! Log lines of refusals, bounded under overload (invariant 21).
//!
//! Up to a number of answers per second each get a Log ID and a line of their own. Every further
//! answer of that second shares the Log ID of one line, which the log's writer thread writes once
//! the second is over and which carries the counts per reason.
//!
//! Invariants: every noted answer is either told to write its own line or is counted in exactly
//! one shared line; a shared Log ID names exactly one line, however clocks jump; a note takes no
//! lock, waits for nobody, and on the shared path allocates nothing.
//!
//! A second is a *window* in one of a few slots, see `denial_window`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ring::digest;
use serde_json::{Map, Value};

use super::denial_window::{Closed, Slot};
use super::log::{Core, Level, Log, Rendered, Ticker};
use crate::clock::Timestamp;
use crate::log_id::LogId;

/// Default of individual lines per second: enough to study an attack, a bearable 60 KB/s of log.
pub const DENIAL_LINES_PER_SECOND: u32 = 200;

/// Reason under which an unlisted one is counted.
const OTHER: &str = "other";

/// What the answer shows, and who writes the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The caller writes exactly one line with this Log ID.
    Own(LogId),
    /// The caller writes nothing: one line with this Log ID will carry the counts.
    Shared(LogId),
}

impl Disposition {
    /// The Log ID to show in the answer.
    #[must_use]
    pub const fn log_id(self) -> LogId {
        match self {
            Self::Own(log_id) | Self::Shared(log_id) => log_id,
        }
    }
}

/// Decides for each refusal between a line of its own and a shared one. Clones share the budget.
#[derive(Clone)]
pub struct DenialLog(Arc<Windows>);

struct Windows {
    event: &'static str,
    message: &'static str,
    reasons: Box<[&'static str]>,
    per_second: u64,
    /// Random for each process, so that a shared Log ID says nothing about the next.
    seed: String,
    /// Windows opened so far; the number of a window is its identity, a second may come twice.
    opened: AtomicU32,
    slots: [Slot; 4],
}

impl DenialLog {
    /// A denial log with at most `per_second` individual lines in a second
    /// ([`DENIAL_LINES_PER_SECOND`] unless configured) for the given reasons; repeats are ignored.
    #[must_use]
    pub fn new(
        log: &Log,
        per_second: u32,
        reasons: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        Self::named(
            log,
            "denials_summary",
            "refusals beyond the limit of individual lines; their answers show this Log ID",
            per_second,
            reasons,
        )
    }

    pub(super) fn named(
        log: &Log,
        event: &'static str,
        message: &'static str,
        per_second: u32,
        reasons: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let mut distinct: Vec<&'static str> = Vec::new();
        for reason in reasons {
            if reason != OTHER && !distinct.contains(&reason) {
                distinct.push(reason);
            }
        }
        let slots = std::array::from_fn(|_| Slot::new(distinct.len() + 1));
        let windows = Arc::new(Windows {
            event,
            message,
            reasons: distinct.into(),
            per_second: per_second.into(),
            seed: LogId::random().to_string(),
            opened: AtomicU32::new(0),
            slots,
        });
        let ticker: Arc<dyn Ticker> = Arc::<Windows>::clone(&windows);
        log.add_ticker(ticker);
        Self(windows)
    }

    /// Notes a refusal at `now`. `reason` is one of those given at the start; another one is
    /// counted as `other`.
    #[must_use]
    pub fn note(&self, now: Timestamp, reason: &'static str) -> Disposition {
        let windows = &*self.0;
        let second = now.as_seconds();
        let reason = windows.position(reason);
        let shared = windows
            .slot(second)
            .note(second, &windows.opened, windows.per_second, reason);
        shared.map_or_else(
            || Disposition::Own(LogId::random()),
            |window| Disposition::Shared(windows.log_id(window)),
        )
    }
}

impl fmt::Debug for DenialLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenialLog")
            .field("event", &self.0.event)
            .field("per_second", &self.0.per_second)
            .finish_non_exhaustive()
    }
}

impl Windows {
    fn slot(&self, second: i64) -> &Slot {
        let [a, b, c, d] = &self.slots;
        match second.rem_euclid(4) {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }

    fn position(&self, reason: &'static str) -> usize {
        self.reasons
            .iter()
            .position(|&known| known == reason)
            .unwrap_or(self.reasons.len())
    }

    /// The Log ID of a window: unique to it and to this process, and no hint at any other.
    fn log_id(&self, window: u32) -> LogId {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.seed.as_bytes());
        context.update(&window.to_be_bytes());
        let digest = context.finish();
        let mut bytes = [0; 16];
        bytes
            .iter_mut()
            .zip(digest.as_ref())
            .for_each(|(byte, &hashed)| *byte = hashed);
        LogId::from_bytes(bytes)
    }

    fn line(&self, core: &Core, closed: &Closed) -> Option<Rendered> {
        let names = self.reasons.iter().copied().chain([OTHER]);
        let reasons: Map<String, Value> = names
            .zip(&closed.counts)
            .filter(|&(_, &count)| count > 0)
            .map(|(name, &count)| (name.to_owned(), count.into()))
            .collect();
        if reasons.is_empty() {
            return None;
        }
        let mut line = core.line(Level::Warn, self.event, self.message);
        line.log_id(self.log_id(closed.window));
        line.field(
            "second",
            &Timestamp::from_seconds(closed.second).to_string().into(),
        );
        line.field("count", &closed.counts.iter().sum::<u64>().into());
        line.field("reasons", &Value::Object(reasons));
        Some(line.finish())
    }
}

impl Ticker for Windows {
    fn tick(&self, now: Option<Timestamp>, core: &Core, lines: &mut Vec<Rendered>) {
        for slot in &self.slots {
            if let Some(closed) = slot.close(now.map(Timestamp::as_seconds)) {
                lines.extend(self.line(core, &closed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock as _;
    use crate::telemetry::test_clock::TestClock;
    use crate::token::rejection::Rejection;

    const START: Timestamp = Timestamp::from_seconds(1_000_000);

    fn reasons() -> impl Iterator<Item = &'static str> {
        Rejection::ALL.iter().map(|reason| reason.as_str())
    }

    fn summaries(lines: &[Value]) -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| line["event"] == "denials_summary")
            .collect()
    }

    fn count(line: &Value) -> u64 {
        line["count"].as_u64().unwrap()
    }

    #[test]
    fn each_second_has_its_own_lines_up_to_the_limit() {
        let clock = TestClock::at(START);
        let (log, capture) = Log::capture(clock.handle());
        let denials = DenialLog::new(&log, 5, reasons());
        let mut ids = HashSet::new();
        for second in 0..12 {
            let now = START.plus(Duration::from_secs(second));
            clock.set(now);
            for note in 0..6 {
                let noted = denials.note(now, "expired");
                assert_eq!(
                    matches!(noted, Disposition::Own(_)),
                    note < 5,
                    "second {second}"
                );
                ids.insert(noted.log_id());
            }
            drop(capture.lines());
        }
        assert_eq!(ids.len(), 12 * 6, "no Log ID comes twice");
        assert!(capture.writer().flush(Duration::from_secs(10)));
        let lines = capture.lines();
        assert_eq!(lines.iter().map(count).collect::<Vec<_>>(), [1; 12]);
    }

    #[test]
    fn a_quiet_second_leaves_no_line() {
        let (log, capture) = Log::capture(TestClock::at(START).handle());
        let denials = DenialLog::new(&log, 5, reasons());
        assert!(matches!(
            denials.note(START, "expired"),
            Disposition::Own(_)
        ));
        assert!(capture.writer().flush(Duration::from_secs(10)));
        assert!(capture.lines().is_empty());
    }

    #[test]
    fn windows_that_close_all_the_time_lose_no_count() {
        const NOTES: u64 = 200_000;
        let (log, _capture) = Log::capture(TestClock::at(START).handle());
        let denials = DenialLog::new(&log, 0, ["expired", "missing"]);
        let slot = denials.0.slot(START.as_seconds());
        let counted: u64 = thread::scope(|scope| {
            let noting: Vec<_> = ["expired", "missing"]
                .into_iter()
                .map(|reason| {
                    let denials = &denials;
                    scope.spawn(move || {
                        for _ in 0..NOTES {
                            assert!(matches!(
                                denials.note(START, reason),
                                Disposition::Shared(_)
                            ));
                        }
                    })
                })
                .collect();
            let mut counted = 0;
            while noting.iter().any(|thread| !thread.is_finished()) {
                counted += slot
                    .close(None)
                    .map_or(0, |closed| closed.counts.iter().sum());
            }
            counted
        });
        let rest: u64 = slot
            .close(None)
            .map_or(0, |closed| closed.counts.iter().sum());
        assert_eq!(counted + rest, 2 * NOTES);
    }

    #[test]
    fn beyond_the_limit_one_line_carries_the_counts() {
        let clock = TestClock::at(START);
        let (log, capture) = Log::capture(clock.handle());
        let denials = DenialLog::new(&log, 2, reasons());
        let noted: Vec<_> = [
            "expired",
            "expired",
            "missing",
            "expired",
            "never listed",
            "missing",
        ]
        .into_iter()
        .map(|reason| denials.note(START, reason))
        .collect();
        let shared: HashSet<_> = noted
            .iter()
            .filter_map(|noted| match noted {
                Disposition::Own(_) => None,
                Disposition::Shared(log_id) => Some(log_id.to_string()),
            })
            .collect();
        assert_eq!(shared.len(), 1);
        assert!(capture.lines().is_empty(), "the second is not over");
        clock.set(START.plus(Duration::from_secs(1)));
        let lines = capture.lines();
        assert_eq!(lines.len(), 1);
        assert!(shared.contains(lines[0]["log_id"].as_str().unwrap()));
        assert_eq!(lines[0]["second"], START.to_string());
        assert_eq!(lines[0]["count"], 4);
        assert_eq!(
            lines[0]["reasons"],
            serde_json::json!({ "expired": 1, "missing": 2, "other": 1 })
        );
    }

    #[test]
    fn a_clock_that_stands_or_jumps_makes_no_log_id_serve_twice() {
        let clock = TestClock::at(START);
        let (log, capture) = Log::capture(clock.handle());
        let denials = DenialLog::new(&log, 0, reasons());
        let mut noted = 0;
        for jump in [0_u64, 1, 0, 4, 0, 86_400, 0, 0, 3] {
            let now = START.plus(Duration::from_secs(jump));
            clock.set(now);
            for _ in 0..3 {
                assert!(matches!(
                    denials.note(now, "expired"),
                    Disposition::Shared(_)
                ));
                noted += 1;
            }
            // Late notes, of a second that is over and closed.
            let late = denials.note(START.minus(Duration::from_secs(5)), "missing");
            assert!(matches!(late, Disposition::Shared(_)));
            noted += 1;
            drop(capture.lines());
        }
        assert!(capture.writer().flush(Duration::from_secs(10)));
        let lines = capture.lines();
        let ids: HashSet<_> = lines
            .iter()
            .map(|line| line["log_id"].to_string())
            .collect();
        assert_eq!(ids.len(), lines.len());
        assert_eq!(lines.iter().map(count).sum::<u64>(), noted);
    }

    #[test]
    fn invariant_21_every_answer_joins_exactly_one_line_under_overload() {
        const THREADS: usize = 8;
        const NOTES: usize = 60_000;
        const LIMIT: u32 = 50;
        let clock = TestClock::at(START);
        let (log, capture) = Log::capture(clock.handle());
        let denials = DenialLog::new(&log, LIMIT, reasons());
        let done = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                let (clock, denials) = (Arc::clone(&clock), denials.clone());
                thread::spawn(move || {
                    let reasons: Vec<_> = reasons().collect();
                    let (mut own, mut shared) = (0_u64, HashMap::new());
                    for note in 0..NOTES {
                        if note % 500 == 0 {
                            clock.advance(Duration::from_millis(250));
                        }
                        let reason = reasons[(note + worker) % reasons.len()];
                        match denials.note(clock.now(), reason) {
                            Disposition::Own(_) => own += 1,
                            Disposition::Shared(id) => {
                                *shared.entry((id.to_string(), reason)).or_insert(0_u64) += 1;
                            }
                        }
                    }
                    (own, shared)
                })
            })
            .collect();
        // Makes the writer close windows while the workers note.
        let closing = Arc::clone(&done);
        let capture = Arc::new(capture);
        let closer = {
            let capture = Arc::clone(&capture);
            thread::spawn(move || {
                while !closing.load(Ordering::Relaxed) {
                    assert!(capture.writer().sync(Duration::from_secs(20)));
                }
            })
        };
        let mut own = 0;
        let mut answers: HashMap<(String, &str), u64> = HashMap::new();
        for worker in workers {
            let (its_own, its_shared) = worker.join().unwrap();
            own += its_own;
            for (key, count) in its_shared {
                *answers.entry(key).or_insert(0) += count;
            }
        }
        done.store(true, Ordering::Relaxed);
        closer.join().unwrap();
        assert!(capture.writer().flush(Duration::from_secs(20)));

        let lines = capture.lines();
        let summaries = summaries(&lines);
        let mut logged: HashMap<(String, &str), u64> = HashMap::new();
        for line in &summaries {
            let id = line["log_id"].as_str().unwrap();
            let mut sum = 0;
            for (reason, count) in line["reasons"].as_object().unwrap() {
                let before = logged.insert((id.to_owned(), reason), count.as_u64().unwrap());
                assert_eq!(before, None, "one line per Log ID");
                sum += count.as_u64().unwrap();
            }
            assert_eq!(sum, count(line));
        }
        assert!(summaries.len() > 10, "{} windows", summaries.len());
        assert_eq!(
            answers, logged,
            "each shared answer is counted in the line of its Log ID"
        );
        assert_eq!(own + logged.values().sum::<u64>(), (THREADS * NOTES) as u64);
        assert!(own >= u64::from(LIMIT));
        assert_eq!(log.dropped(), 0);
    }
}
