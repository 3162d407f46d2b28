//! What the rehearsal's callers sent, when, and what came back: the truth that verdicts rest on.
//!
//! A call is judged by what was certain at its time. One that overlaps a purge may end either way;
//! one sent after the purge had answered may not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock::{Clock as _, SystemClock, Timestamp};

use super::control::lock;
use super::sightings::Sightings;

/// Both clocks are read a moment apart, and the gateway reads its own in between.
const CLOCK_MARGIN: Duration = Duration::from_millis(250);

/// A token that was issued.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: Arc<str>,
    pub(super) kid: Arc<str>,
    /// `exp`, in seconds.
    pub(super) expires_at: Timestamp,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) life: u32,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Status(u16),
    /// 401 that says that the signing key was purged.
    Purged,
    /// Nothing: the connection failed.
    Silence,
}

/// A token shown to the gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Index among the tokens.
    pub(super) token: usize,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) outcome: Outcome,
    pub(super) life: u32,
}

/// An error answer of any listener.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) log_id: Option<String>,
    pub(super) status: u16,
    pub(super) life: u32,
    /// A token was refused on a route, so that `auth_denied_total` counts it.
    pub(super) on_route: bool,
    pub(super) purged: bool,
}

/// Keys that died, or came back, between two moments.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) kids: Vec<Arc<str>>,
    /// Dead from then on; alive when false.
    pub(super) dead: bool,
    /// It may have happened from then on.
    pub(super) begun: Instant,
    /// It has happened by then.
    pub(super) certain: Instant,
    /// The start of the gateway during which it became certain.
    pub(super) life: u32,
}

/// Whether a key verifies during a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Alive,
    /// Dead for certain since the given start of the gateway.
    Dead(u32),
    Either,
}

#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) tokens: Vec<Token>,
    pub(super) calls: Vec<Call>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) turns: Vec<Turn>,
    /// Requests for a token that got none while the gateway ran: status, 0 for silence; when.
    pub(super) unissued: Vec<(u16, Instant)>,
    /// When the gateway was down on purpose; the last one may go on.
    pub(super) downtimes: Vec<(Instant, Option<Instant>)>,
    /// Starts of the gateway that ended by SIGTERM, so that their log is whole.
    pub(super) whole_lives: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct History {
    started: Instant,
    started_wall: Timestamp,
    records: Mutex<Records>,
    pub(super) sightings: Mutex<Sightings>,
}

impl History {
    pub(super) fn begin() -> Self {
        Self {
            started: Instant::now(),
            started_wall: SystemClock.now(),
            records: Mutex::default(),
            sightings: Mutex::default(),
        }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Records) -> T) -> T {
        work(&mut lock(&self.records))
    }

    /// Wall time of a moment of this rehearsal.
    pub(super) fn wall(&self, at: Instant) -> Timestamp {
        self.started_wall
            .plus(at.saturating_duration_since(self.started))
    }

    pub(super) fn token(&self, index: usize) -> Option<Token> {
        self.with(|records| records.tokens.get(index).cloned())
    }

    /// Whether the token is good for `spare` more at least.
    pub(super) fn is_fresh(&self, token: &Token, spare: Duration) -> bool {
        self.wall(Instant::now()).plus(spare) < token.expires_at
    }

    /// Whether a token had expired when the gateway judged it; `None` when that is not certain.
    pub(super) fn had_expired(&self, token: &Token, call: &Call) -> Option<bool> {
        if self.wall(call.answered).plus(CLOCK_MARGIN) < token.expires_at {
            Some(false)
        } else if self.wall(call.sent).minus(CLOCK_MARGIN) > token.expires_at {
            Some(true)
        } else {
            None
        }
    }

    /// From now on silence is what callers must expect.
    pub(super) fn down(&self) {
        self.with(|records| records.downtimes.push((Instant::now(), None)));
    }

    pub(super) fn up(&self) {
        self.with(|records| {
            if let Some((_, end @ None)) = records.downtimes.last_mut() {
                *end = Some(Instant::now());
            }
        });
    }
}

impl Records {
    /// What a call from `sent` to `answered` may see of a key.
    pub(super) fn fate(&self, kid: &str, sent: Instant, answered: Instant) -> Fate {
        let mut fate = Fate::Alive;
        for turn in &self.turns {
            if !turn.kids.iter().any(|dead| **dead == *kid) || turn.begun > answered {
                continue;
            }
            fate = match (turn.certain < sent, turn.dead) {
                (false, _) => return Fate::Either,
                (true, true) => Fate::Dead(turn.life),
                (true, false) => Fate::Alive,
            };
        }
        fate
    }

    /// Keys that are dead as far as is known now.
    pub(super) fn dead_now(&self) -> Vec<Arc<str>> {
        let mut dead: HashMap<&Arc<str>, bool> = HashMap::new();
        for turn in &self.turns {
            dead.extend(turn.kids.iter().map(|kid| (kid, turn.dead)));
        }
        let dead = dead.into_iter().filter(|(_, dead)| *dead);
        dead.map(|(kid, _)| Arc::clone(kid)).collect()
    }

    pub(super) fn was_down(&self, sent: Instant, answered: Instant) -> bool {
        self.downtimes
            .iter()
            .any(|(begin, end)| *begin <= answered && end.is_none_or(|end| end >= sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_judged_by_what_was_certain_while_it_went_on() {
        let t = |ms| Instant::now() + Duration::from_secs(10) + Duration::from_millis(ms);
        let at: Vec<Instant> = (0..10).map(|n| t(n * 100)).collect();
        let turn = |dead, begun: usize, certain: usize| Turn {
            kids: vec!["k".into()],
            dead,
            begun: at[begun],
            certain: at[certain],
            life: 1,
        };
        let records = Records {
            turns: vec![turn(true, 2, 4), turn(false, 6, 8)],
            ..Records::default()
        };
        let fate = |from: usize, to: usize| records.fate("k", at[from], at[to]);
        assert_eq!(fate(0, 1), Fate::Alive);
        assert_eq!(fate(1, 3), Fate::Either);
        assert_eq!(fate(3, 5), Fate::Either);
        assert_eq!(fate(5, 5), Fate::Dead(1));
        assert_eq!(fate(5, 7), Fate::Either);
        assert_eq!(fate(9, 9), Fate::Alive);
        assert_eq!(records.fate("other", at[5], at[5]), Fate::Alive);
        assert!(records.dead_now().is_empty());
    }
}
