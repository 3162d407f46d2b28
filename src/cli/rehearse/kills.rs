//! SIGKILL at moments of rotations and purges that nobody can foretell, but a seed can repeat.

use std::sync::Arc;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::calls::{Answer, Caller};
use super::control::lock;
use super::json::{list, number, text};
use super::stage::{PATIENCE, ROTATE, Stage, listed, parsed, purge_of, purged};
use super::story::{in_state, problem};

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
            2 | 3 => Moment::Written(Duration::from_micros(self.rng.below(typical))),
            _ => Moment::Answered(soon),
        }
    }

    /// A purge took effect for every key or for none, and for every one if it was answered.
    fn check_purge(
        &mut self,
        before: &Value,
        after: &Value,
        said: &Value,
        sent: Instant,
        answer: &Option<Answer>,
    ) -> bool {
        let live = listed(after);
        let was = listed(before);
        let dead: Vec<Arc<str>> = list(after, "tombstones")
            .iter()
            .filter(|tombstone| text(tombstone, "state") == "purged")
            .map(|tombstone| Arc::from(text(tombstone, "kid")))
            .collect();
        let killed: Vec<_> = was
            .iter()
            .filter(|kid| dead.contains(kid))
            .cloned()
            .collect();
        let spared = was.iter().filter(|kid| live.contains(kid)).count();
        if !killed.is_empty() && spared > 0 {
            self.board.broken(
                12,
                format!(
                    "a killed purge took effect for {} keys and not for {spared}",
                    killed.len()
                ),
            );
        }
        match answer {
            Some(answer) => {
                let kids = purged(said);
                for kid in kids.iter().filter(|kid| live.contains(kid)) {
                    let problem = format!("the purge of {kid} was answered, then lost by a kill");
                    self.board.broken(7, problem.clone());
                    self.board.broken(12, problem);
                }
                // Answered, it is certain; 202 only once the process that held on is gone.
                let certain = if answer.status == 200 {
                    answer.answered
                } else {
                    Instant::now()
                };
                self.note_death_in(self.life - 1, kids, sent, certain);
                true
            }
            None if killed.is_empty() => false,
            None => {
                self.note_death_in(self.life, killed, sent, Instant::now());
                true
            }
        }
    }

    /// Keys that died earlier are dead: in the key set, in the JWKS, in every file.
    fn check_the_dead(&mut self, caller: &Caller, after: &Value) -> Result<(), String> {
        let dead = self.common.history.with(|records| records.dead_now());
        let (live, jwks) = (listed(after), listed(&parsed(&caller.jwks()?)));
        let revived = dead
            .iter()
            .filter(|kid| live.contains(kid) || jwks.contains(kid));
        for kid in revived {
            self.board.broken(
                7,
                format!("the purged key {kid} verifies again after a restart"),
            );
        }
        if let Err(found) = self.survivors(&dead) {
            found
                .into_iter()
                .for_each(|problem| self.board.broken(8, problem));
        }
        let signers = (
            in_state(after, "active").len(),
            in_state(after, "pending").len(),
        );
        if signers != (1, 1) {
            self.board.broken(
                12,
                format!("the restart loaded {signers:?} active and pending keys"),
            );
        }
        Ok(())
    }

    /// How many purged keys were looked for after restarts, for the table.
    pub(super) fn conclude_kills(&mut self) {
        let dead = self.common.history.with(|records| records.dead_now());
        let known = lock(&self.common.history.sightings).sealed.len();
        if self.kills > 0 && !dead.is_empty() && known > 0 {
            self.board.held(
                7,
                format!(
                    "{} purged keys stayed dead over {} kills",
                    dead.len(),
                    self.kills
                ),
            );
            self.board.held(
                8,
                format!(
                    "no file held a purged private half after any of {} kills",
                    self.kills
                ),
            );
        }
    }
}

/// An answered rotation is there; tells whether one happened.
fn check_rotation(
    before: &Value,
    after: &Value,
    said: &Value,
    broken: &mut dyn FnMut(String),
) -> bool {
    let live = listed(after);
    let kid = text(said, "activated");
    problem(
        !kid.is_empty() && !live.iter().any(|known| **known == *kid),
        || format!("the rotation to {kid} was answered, then lost by a kill"),
    )
    .into_iter()
    .for_each(broken);
    let active = |set: &Value| {
        in_state(set, "active")
            .first()
            .map(|key| text(key, "kid").to_owned())
    };
    active(before) != active(after)
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
