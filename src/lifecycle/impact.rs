//! What a purge would break: the preview. Two views of it: tokens issued and not expired, and
//! requests accepted over the last minutes. Changes nothing; every number is an upper bound.
//!
//! The figures are taken at most once a second and shared by all who ask.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::ledger::LiveTokens;
use crate::keys::transition::{self, PurgeScope, Refusal};
use crate::keys::{KeySet, KeyState, Kid};

use super::activity::KeyActivity;
use super::published::Snapshot;
use super::traffic::{Rate, Uses};
use super::{Lifecycle, state_label};

/// How often counters are written to the store; a crash loses no more than this.
pub(super) const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Figures are taken anew at most this often.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Scopes of which the answer is kept until the next figures.
const MAX_ANSWERS: usize = 64;

/// What a purge would break.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Revision of the key set looked at.
    pub revision: u64,
    /// When the numbers were taken.
    pub computed_at: Timestamp,
    /// By key that would end, in the order of [`KeySet::verifying`].
    pub keys: Vec<KeyPreview>,
    /// What all of them would break.
    pub total: Broken,
    /// From when on all traffic is known: five minutes ago, or the start of the process.
    pub traffic_since: Timestamp,
    /// When the gentle way would be over: a plain Rotate now, and then every token that the keys
    /// signed has expired.
    pub rotate_instead_over_at: Timestamp,
}

/// What a purge of one key would break.
#[derive(Clone, Debug)]
pub struct KeyPreview {
    /// The key.
    pub kid: Kid,
    /// Its state.
    pub state: KeyState,
    /// What it would break.
    pub broken: Broken,
    /// When its last token has expired, at the latest; `None` when it has none.
    pub live_until: Option<Timestamp>,
}

/// Who would fail; upper bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Broken {
    /// Tokens issued and not expired; at most a minute's too many.
    pub live_tokens: u64,
    /// Clients that hold them.
    pub clients: u64,
    /// Whether `clients` counts each client once: none was beyond the memory bound.
    pub clients_exact: bool,
    /// Accepted requests per second over the last five minutes.
    pub requests_per_second: f64,
    /// Clients that sent them.
    pub requesting_clients: u64,
    /// Whether `requesting_clients` counts each client once.
    pub requesting_clients_exact: bool,
    /// Whether an imported key is among them: what its former system issued was never counted
    /// here, so of that key only the view from traffic is an upper bound.
    pub uncounted_tokens: bool,
}

/// The newest figures, for as long as they are good.
pub(super) type KeptFigures = tokio::sync::Mutex<Option<Arc<Figures>>>;

/// Everything a preview is made of, at one moment.
#[derive(Debug)]
pub(super) struct Figures {
    set: KeySet,
    taken_at: Timestamp,
    traffic_since: Timestamp,
    keys: Vec<KeyFigures>,
    answers: Mutex<Vec<(Vec<Kid>, Arc<Preview>)>>,
}

#[derive(Debug)]
struct KeyFigures {
    kid: Kid,
    state: KeyState,
    live: LiveTokens,
    rate: Rate,
    callers: Vec<Arc<str>>,
    is_imported: bool,
}

impl Lifecycle {
    /// What a purge of `scope` now would break.
    ///
    /// # Errors
    /// [`Refusal::UnknownKid`]
    pub async fn preview(&self, scope: &PurgeScope) -> Result<Arc<Preview>, Refusal> {
        let figures = self.figures().await;
        let doomed = transition::doomed(&figures.set, scope)?;
        let mut answers = figures
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, preview)) = answers.iter().find(|(kids, _)| *kids == doomed) {
            return Ok(Arc::clone(preview));
        }
        let preview = Arc::new(self.preview_of(&figures, &doomed));
        if answers.len() < MAX_ANSWERS {
            answers.push((doomed, Arc::clone(&preview)));
        }
        drop(answers);
        Ok(preview)
    }

    fn preview_of(&self, figures: &Figures, doomed: &[Kid]) -> Preview {
        let keys = || figures.keys.iter().filter(|key| doomed.contains(&key.kid));
        let timing = &self.policy.timing;
        let over_at = |key: &KeyFigures| match key.state {
            // It has signed nothing.
            KeyState::Pending => figures.taken_at,
            KeyState::Active => {
                timing.verify_until(figures.taken_at, figures.set.active.public.max_ttl)
            }
            KeyState::Deprecated => figures
                .set
                .deprecated
                .iter()
                .find(|of| of.public.kid == key.kid)
                .map_or(figures.taken_at, |of| of.verify_until),
        };
        Preview {
            revision: figures.set.revision,
            computed_at: figures.taken_at,
            keys: keys()
                .map(|key| KeyPreview {
                    kid: key.kid.clone(),
                    state: key.state,
                    broken: Broken::by([key]),
                    live_until: key.live.until,
                })
                .collect(),
            total: Broken::by(keys()),
            traffic_since: figures.traffic_since,
            rotate_instead_over_at: keys().map(over_at).fold(figures.taken_at, Ord::max),
        }
    }

    pub(super) async fn figures(&self) -> Arc<Figures> {
        self.at_most_once_a_second(&self.figures).await
    }

    /// The same for those who look on all the time: what they keep must not make a preview older.
    pub(super) async fn watched_figures(&self) -> Arc<Figures> {
        self.at_most_once_a_second(&self.watched_figures).await
    }

    async fn at_most_once_a_second(&self, kept: &KeptFigures) -> Arc<Figures> {
        // Whoever comes meanwhile waits for the figures being taken.
        let mut kept = kept.lock().await;
        let (snapshot, now) = (self.published.load(), self.parts.clock.now());
        if let Some(figures) = &*kept
            && figures.set.revision == snapshot.set.revision
            && figures.taken_at <= now
            && now.since(figures.taken_at) < SAMPLE_INTERVAL
        {
            return Arc::clone(figures);
        }
        let figures = Arc::new(self.take_figures(&snapshot, now).await);
        *kept = Some(Arc::clone(&figures));
        figures
    }

    async fn take_figures(&self, snapshot: &Snapshot, now: Timestamp) -> Figures {
        self.sample_traffic(snapshot, now);
        let leeway = self.policy.timing.leeway;
        let kids: Vec<Kid> = kids(snapshot);
        let live = self.issued.ask(move |counted| {
            kids.iter()
                .map(|kid| counted.ledger.live(kid, leeway, now))
                .collect::<Vec<_>>()
        });
        let live = live.await;
        let keys = snapshot
            .keys
            .live()
            .iter()
            .zip(&snapshot.admitted)
            .zip(live)
            .map(|((key, admitted), live)| KeyFigures {
                kid: key.kid.clone(),
                state: key.state,
                live,
                rate: self.traffic.rate(&key.kid),
                callers: admitted.callers_at(now),
                is_imported: snapshot
                    .set
                    .verifying()
                    .any(|(_, of)| of.kid == key.kid && of.legacy.is_some()),
            });
        Figures {
            set: snapshot.set.clone(),
            taken_at: now,
            traffic_since: self.traffic.known_since(now),
            keys: keys.collect(),
            answers: Mutex::default(),
        }
    }

    /// Samples traffic and shows the live tokens; at most once a second.
    pub(super) async fn sample(&self) {
        let (snapshot, now) = (self.published.load(), self.parts.clock.now());
        self.sample_traffic(&snapshot, now);
        self.sample_purges();
        let (entries, bytes) = snapshot.keys.cached();
        let evictions = self.memory.caches.evictions();
        self.parts.metrics.token_cache(entries, bytes, evictions);
        let (leeway, kids) = (self.policy.timing.leeway, kids(&snapshot));
        let tokens = self.issued.ask(move |counted| {
            kids.iter()
                .map(|kid| counted.ledger.live_count(kid, leeway, now))
                .collect::<Vec<_>>()
        });
        let tokens = tokens.await;
        for state in KeyState::ALL {
            let of_state = snapshot.keys.live().iter().zip(&tokens);
            let tokens = of_state
                .filter(|(key, _)| key.state == state)
                .map(|(_, tokens)| *tokens)
                .fold(0, u64::saturating_add);
            self.parts.metrics.live_tokens(state_label(state), tokens);
        }
    }

    /// Forgets callers that have long been silent.
    pub(super) fn prune_callers(&self) {
        self.sight_clients();
        let now = self.parts.clock.now();
        for admitted in &self.published.load().admitted {
            admitted.prune(now);
        }
        self.memory.prune_callers(now);
    }

    fn sample_traffic(&self, snapshot: &Snapshot, now: Timestamp) {
        let uses = snapshot.keys.live().iter().zip(&snapshot.admitted);
        let uses = uses.map(|(key, admitted)| {
            let uses = Uses {
                all: admitted.uses(),
                unlisted: admitted.unlisted(),
            };
            (key.kid.clone(), uses)
        });
        self.traffic.sample(uses, now);
    }
}

impl Figures {
    /// What each key did, as far as it was looked at.
    pub(super) fn activity(&self) -> HashMap<Kid, KeyActivity> {
        let activity = |key: &KeyFigures| {
            let activity = KeyActivity {
                live_tokens: key.live.tokens,
                requests: key.rate.requests,
                last_used_at: key.rate.last_used_at,
            };
            (key.kid.clone(), activity)
        };
        self.keys.iter().map(activity).collect()
    }
}

fn kids(snapshot: &Snapshot) -> Vec<Kid> {
    let live = snapshot.keys.live().iter();
    live.map(|key| key.kid.clone()).collect()
}

impl Broken {
    fn by<'a>(keys: impl IntoIterator<Item = &'a KeyFigures>) -> Self {
        let (mut holders, mut callers) = (HashSet::new(), HashSet::new());
        let (mut unlisted, mut unlisted_requests) = (0_u64, 0_u64);
        let mut all = Self::default();
        for key in keys {
            all.live_tokens = all.live_tokens.saturating_add(key.live.tokens);
            all.requests_per_second += key.rate.per_second;
            holders.extend(&key.live.clients);
            callers.extend(&key.callers);
            unlisted = unlisted.saturating_add(key.live.unlisted);
            unlisted_requests = unlisted_requests.saturating_add(key.rate.unlisted);
            all.uncounted_tokens |= key.is_imported;
        }
        Self {
            clients: unlisted.saturating_add(holders.len() as u64),
            clients_exact: unlisted == 0,
            requesting_clients: unlisted_requests.saturating_add(callers.len() as u64),
            requesting_clients_exact: unlisted_requests == 0,
            ..all
        }
    }
}
