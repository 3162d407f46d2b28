//! The newest lines of the log that somebody may ask for: by their Log ID, or the last ones.
//!
//! Two halves, so that a flood of refusals pushes out no warning: lines of level warn and error, and
//! lines of other levels that have a Log ID, because an answer shows it. Each half is bounded in lines
//! and in bytes; the oldest line goes first. Fed by the writer thread alone, so a request pays nothing
//! for it; whoever reads holds the lock for a copy of handles.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{Level, Rendered};
use crate::log_id::LogId;

/// Bytes of one half for each line that it may hold: 2,000 lines take 2 MiB at most.
const BYTES_PER_LINE: usize = 1024;

/// What is kept of the log.
#[derive(Debug)]
pub struct LogRing {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the next line; tells the order across the halves.
    next: u64,
    grave: Half,
    refusals: Half,
}

#[derive(Debug, Default)]
struct Half {
    lines: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    log_id: Option<LogId>,
    /// One JSON object.
    line: Arc<str>,
}

impl LogRing {
    /// Room for `most` lines in each half; none for 0.
    pub(super) fn of(most: usize) -> Self {
        Self {
            most,
            state: Mutex::default(),
        }
    }

    pub(super) fn keep(&self, line: &Rendered) {
        let is_grave = line.level >= Level::Warn;
        if self.most == 0 || !(is_grave || line.log_id.is_some()) {
            return;
        }
        let text = line.json.as_deref().unwrap_or(&line.text).trim_end();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let half = if is_grave {
            &mut state.grave
        } else {
            &mut state.refusals
        };
        half.push(Kept {
            number,
            log_id: line.log_id,
            line: Arc::from(text),
        });
        half.shrink(self.most);
    }

    /// How many lines each half keeps at most.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }

    /// The lines with this Log ID, oldest first; each is one JSON object.
    #[must_use]
    pub fn find(&self, log_id: LogId) -> Vec<Arc<str>> {
        let state = self.lock();
        let mut found: Vec<Kept> = state
            .halves()
            .into_iter()
            .flat_map(|half| &half.lines)
            .filter(|kept| kept.log_id == Some(log_id))
            .cloned()
            .collect();
        drop(state);
        found.sort_unstable_by_key(|kept| kept.number);
        found.into_iter().map(|kept| kept.line).collect()
    }

    /// At most `limit` lines, newest first: those of level warn and error, with `refusals` the others
    /// that have a Log ID as well.
    #[must_use]
    pub fn newest(&self, limit: usize, refusals: bool) -> Vec<Arc<str>> {
        let state = self.lock();
        let mut found: Vec<Kept> = Vec::new();
        for half in state.halves().into_iter().take(1 + usize::from(refusals)) {
            found.extend(half.lines.iter().rev().take(limit).cloned());
        }
        drop(state);
        found.sort_unstable_by_key(|kept| std::cmp::Reverse(kept.number));
        found
            .into_iter()
            .take(limit)
            .map(|kept| kept.line)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole lines are put in and taken out; a panic elsewhere leaves none half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn halves(&self) -> [&Half; 2] {
        [&self.grave, &self.refusals]
    }
}

impl Half {
    fn push(&mut self, kept: Kept) {
        self.bytes += kept.line.len();
        self.lines.push_back(kept);
    }

    fn shrink(&mut self, most: usize) {
        let most_bytes = most.saturating_mul(BYTES_PER_LINE);
        while self.lines.len() > most || self.bytes > most_bytes {
            let Some(gone) = self.lines.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(gone.line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: Level, log_id: Option<LogId>, text: &str) -> Rendered {
        Rendered {
            level,
            log_id,
            text: format!("{text}\n"),
            json: None,
        }
    }

    fn texts(lines: Vec<Arc<str>>) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_flood_of_refusals_pushes_out_no_warning() {
        let ring = LogRing::of(3);
        let (kept, pushed_out) = (LogId::random(), LogId::random());
        ring.keep(&line(Level::Error, Some(kept), "grave"));
        ring.keep(&line(Level::Info, Some(pushed_out), "first refusal"));
        for number in 0..10 {
            let refusal = format!("refusal {number}");
            ring.keep(&line(Level::Info, Some(LogId::random()), &refusal));
            ring.keep(&line(Level::Info, None, "nobody asks for this one"));
        }
        assert_eq!(texts(ring.find(kept)), ["grave"]);
        assert!(ring.find(pushed_out).is_empty());
        assert_eq!(texts(ring.newest(9, false)), ["grave"]);
        assert_eq!(
            texts(ring.newest(9, true)),
            ["refusal 9", "refusal 8", "refusal 7", "grave"]
        );
        assert_eq!(texts(ring.newest(1, true)), ["refusal 9"]);
    }

    #[test]
    fn long_lines_are_bounded_in_bytes_and_none_is_kept_without_room() {
        let ring = LogRing::of(4);
        for _ in 0..9 {
            ring.keep(&line(Level::Warn, None, &"x".repeat(1500)));
        }
        assert_eq!(
            ring.newest(9, true).len(),
            2,
            "two times 1,500 bytes in 4 KiB"
        );
        ring.keep(&line(Level::Warn, None, &"x".repeat(5000)));
        assert!(ring.newest(9, true).is_empty(), "it alone is too long");
        let none = LogRing::of(0);
        none.keep(&line(Level::Error, None, "a"));
        assert!(none.newest(9, true).is_empty());
    }
}
