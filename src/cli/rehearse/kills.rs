//! SIGKILL at moments of rotations and purges that nobody can foretell, but a seed can repeat.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::calls::{Answer, Caller};
use super::json::number;
use super::moves::purge_of;
use super::recovery::check_rotation;
use super::stage::{PATIENCE, ROTATE, Stage};

/// How the kills fell.
#[derive(Debug, Default)]
struct Tally {
    before: u32,
    unheard: u32,
    answered: u32,
    purges: u32,
    started: Duration,
}

/// When to kill, counted from the sending of the request.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After a time.
    After(Duration),
    /// When the store's directory changes, and a little later.
    Written(Duration),
    /// When the answer is there, and a little later.
    Answered(Duration),
}

impl Stage {
    pub(super) fn kill_at_random(&mut self) -> Result<String, String> {
        let mut tally = Tally::default();
        for number in 0..self.kills {
            if let Err(why) = self.kill_once(&mut tally) {
                if !self.common.control.is_interrupted() {
                    self.board
                        .broken(12, format!("after kill {}: {why}", number + 1));
                }
                return Err(why);
            }
        }
        let Tally {
            before,
            unheard,
            answered,
            purges,
            started,
        } = tally;
        let said = format!(
            "{} kills during {purges} purges and {} rotations: {before} took effect not at all, {unheard} \
             without an answer, {answered} were answered and are there; slowest start {} ms",
            self.kills,
            self.kills - purges,
            started.as_millis()
        );
        if self.kills > 0 {
            self.board.held(12, said.clone());
        }
        Ok(said)
    }

    fn kill_once(&mut self, tally: &mut Tally) -> Result<(), String> {
        let caller = self.caller()?;
        let is_purge = self.rng.below(3) > 0;
        caller.issue()?;
        let before = if is_purge {
            caller.keys()?
        } else {
            self.wait_for_window(&caller)?
        };
        self.look_at_store();
        let body = if is_purge {
            purge_of(&before, "rehearsal of a crash")
        } else {
            json!({})
        };
        let (sent, answer) = self.strike(caller, body);
        let started = Instant::now();
        self.start()?;
        tally.started = tally.started.max(started.elapsed());
        tally.purges += u32::from(is_purge);

        let caller = self.caller()?;
        let after = caller.keys()?;
        let answer = answer.filter(|answer| matches!(answer.status, 200 | 202));
        let said = answer.as_ref().map(Answer::json).unwrap_or_default();
        let happened = if is_purge {
            self.check_purge(&before, &after, &said, sent, &answer)
        } else {
            check_rotation(&before, &after, &said, &mut |problem| {
                self.board.broken(12, problem)
            })
        };
        match (happened, &answer) {
            (_, Some(_)) => tally.answered += 1,
            (true, None) => tally.unheard += 1,
            (false, None) => tally.before += 1,
        }
        let behind = number(&said, "revision") > number(&after, "revision");
        if behind {
            self.board.broken(
                12,
                format!(
                    "revision {} was answered before the kill, but the restart loaded {}",
                    number(&said, "revision"),
                    number(&after, "revision")
                ),
            );
        }
        self.check_the_dead(&caller, &after)?;
        self.show_tokens(&caller, 8);
        let fresh = caller.issue()?;
        let fresh = caller.verify(fresh);
        if fresh != super::history::Outcome::Status(200) {
            self.board
                .broken(12, format!("after the restart a new token got {fresh:?}"));
        }
        Ok(())
    }

    /// Sends the request, kills, and tells when it was sent and what was answered.
    fn strike(&mut self, caller: Caller, body: Value) -> (Instant, Option<Answer>) {
        let moment = self.moment();
        let store = self.scratch.store();
        let before = fingerprint(&store);
        let sent = Instant::now();
        let call = std::thread::spawn(move || caller.admin_post(ROTATE, &body));
        let deadline = sent + PATIENCE;
        let late = || Instant::now() >= deadline || self.common.control.is_interrupted();
        let later = match moment {
            Moment::After(delay) => delay,
            Moment::Written(delay) => {
                // Without a pause: the moments in question are fractions of a millisecond apart.
                while fingerprint(&store) == before && !call.is_finished() && !late() {
                    std::thread::yield_now();
                }
                delay
            }
            Moment::Answered(delay) => {
                while !call.is_finished() && !late() {
                    park_timeout(Duration::from_millis(1));
                }
                delay
            }
        };
        if !later.is_zero() {
            park_timeout(later);
        }
        self.kill();
        (sent, call.join().ok().and_then(Result::ok))
    }

    fn moment(&mut self) -> Moment {
        let typical = u64::try_from(self.typical.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(2000, 500_000);
        let soon = Duration::from_micros(self.rng.below(2000));
        match self.rng.below(5) {
            0 | 1 => Moment::After(Duration::from_micros(self.rng.below(typical * 3 / 2))),
            // A commit takes some milliseconds from its first write to its answer.
            2 | 3 => Moment::Written(Duration::from_micros(self.rng.below(8000))),
            _ => Moment::Answered(soon),
        }
    }
}

/// Changes with every file that is written, renamed or removed there.
fn fingerprint(dir: &std::path::Path) -> Vec<(std::ffi::OsString, u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter(|entry| entry.file_name() != "counters.json")
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((entry.file_name(), meta.ino(), meta.len()))
        })
        .collect();
    found.sort();
    found
}
