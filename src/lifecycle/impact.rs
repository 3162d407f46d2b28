//! What a purge would break: live tokens by key, requests per second by key, and the preview.
//!
//! Token endpoints send what they issue to one collector thread; they never wait for it, and what
//! they sent before a question is in its answer. The counters survive a restart through a document
//! of their own, so that counting never bumps the key set's revision.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::ledger::{Ledger, LiveTokens};
use crate::keys::{KeySet, KeyState, Kid};
use crate::store::SideDocument;
use crate::telemetry::Level;

use super::{Lifecycle, state_label};

/// How far back the view from traffic looks.
const TRAFFIC_WINDOW: Duration = Duration::from_secs(300);

/// How often counters are written to the store; a crash loses no more than this.
pub(super) const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// Live tokens are counted anew at most this often.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

enum Message {
    Issued {
        kid: Kid,
        client: String,
        expires_at: Timestamp,
    },
    Ask {
        prune: Option<(Duration, Timestamp)>,
        answer: tokio::sync::oneshot::Sender<Ledger>,
    },
}

/// Counts issued tokens. Cloned by every token endpoint.
#[derive(Clone, Debug)]
pub struct IssuedTokens(Sender<Message>);

impl IssuedTokens {
    /// Starts the collector with what an earlier process had counted.
    pub(super) fn start(ledger: Ledger) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("issued".to_owned())
            .spawn(move || collect(ledger, &receiver))?;
        Ok(Self(sender))
    }

    /// Counts a token; never waits.
    pub fn issued(&self, kid: &Kid, client: &str, expires_at: Timestamp) {
        let message = Message::Issued {
            kid: kid.clone(),
            client: client.to_owned(),
            expires_at,
        };
        // The collector ends only when every sender is gone.
        let _gone = self.0.send(message);
    }

    /// Everything counted before this call.
    pub(super) async fn ledger(&self, prune: Option<(Duration, Timestamp)>) -> Ledger {
        let (answer, ledger) = tokio::sync::oneshot::channel();
        let _gone = self.0.send(Message::Ask { prune, answer });
        ledger.await.unwrap_or_default()
    }
}

fn collect(mut ledger: Ledger, messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Issued {
                kid,
                client,
                expires_at,
            } => ledger.issued(&kid, &client, expires_at),
            Message::Ask { prune, answer } => {
                if let Some((leeway, now)) = prune {
                    ledger.prune(leeway, now);
                }
                // Whoever asked may have gone.
                let _gone = answer.send(ledger.clone());
            }
        }
    }
}

/// Accepted requests by key over the last minutes, sampled by the schedule.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<HashMap<Kid, VecDeque<(Timestamp, u64)>>>);

impl Traffic {
    /// Notes how often each key has been used so far.
    pub(super) fn sample(&self, uses: impl IntoIterator<Item = (Kid, u64)>, now: Timestamp) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = BTreeSet::new();
        for (kid, count) in uses {
            let samples = keys.entry(kid.clone()).or_default();
            samples.push_back((now, count));
            while samples
                .front()
                .is_some_and(|(at, _)| now.since(*at) > TRAFFIC_WINDOW)
            {
                samples.pop_front();
            }
            seen.insert(kid);
        }
        keys.retain(|kid, _| seen.contains(kid));
    }

    /// Accepted requests per second of a key.
    fn per_second(&self, kid: &Kid) -> f64 {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(samples) = keys.get(kid) else {
            return 0.0;
        };
        let Some(((from, first), (to, last))) = samples.front().zip(samples.back()) else {
            return 0.0;
        };
        let seconds = to.since(*from).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let uses = last.saturating_sub(*first) as f64;
        if seconds > 0.0 { uses / seconds } else { 0.0 }
    }
}

/// What a purge of everything that verifies would break. Changes nothing; upper bounds.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The key set looked at.
    pub set: KeySet,
    /// By key, in the order of [`KeySet::verifying`].
    pub keys: Vec<KeyPreview>,
    /// Clients with a live token of any key.
    pub clients: usize,
    /// When a plain Rotate now would have replaced every token of today.
    pub rotate_instead_over_at: Timestamp,
}

/// What a purge of one key would break.
#[derive(Clone, Debug)]
pub struct KeyPreview {
    /// The key.
    pub kid: Kid,
    /// Its state.
    pub state: KeyState,
    /// Its live tokens.
    pub live: LiveTokens,
    /// Accepted requests per second over the last five minutes.
    pub requests_per_second: f64,
}

impl Lifecycle {
    /// What a purge now would break.
    pub async fn preview(&self) -> Preview {
        let set = self.current_set();
        let (timing, now) = (&self.policy.timing, self.parts.clock.now());
        let ledger = self.issued.ledger(None).await;
        let keys: Vec<KeyPreview> = set
            .verifying()
            .map(|(state, key)| KeyPreview {
                kid: key.kid.clone(),
                state,
                live: ledger.live(&key.kid, timing.leeway, now),
                requests_per_second: self.traffic.per_second(&key.kid),
            })
            .collect();
        let clients: BTreeSet<&String> = keys.iter().flat_map(|key| &key.live.clients).collect();
        let clients = clients.len();
        let rotate_instead_over_at = timing.verify_until(now, set.active.public.max_ttl);
        Preview {
            keys,
            clients,
            rotate_instead_over_at,
            set,
        }
    }

    /// Samples traffic and shows the live tokens; at most once a second.
    pub(super) async fn sample(&self) {
        let now = self.parts.clock.now();
        let snapshot = self.published.load();
        let uses = snapshot.keys.live().iter().zip(&snapshot.admitted);
        self.traffic.sample(
            uses.map(|(key, admitted)| (key.kid.clone(), admitted.uses())),
            now,
        );
        let preview = self.preview().await;
        for state in KeyState::ALL {
            let of_state = preview.keys.iter().filter(|key| key.state == state);
            let tokens = of_state
                .map(|key| key.live.tokens)
                .fold(0, u64::saturating_add);
            self.parts.metrics.live_tokens(state_label(state), tokens);
        }
    }

    /// Writes the counters to their document; a failure is tried again next time.
    pub(super) async fn save_counters(&self) {
        let ledger = self
            .issued
            .ledger(Some((self.policy.timing.leeway, self.parts.clock.now())))
            .await;
        // Serialising strings and numbers into a Vec cannot fail.
        let bytes = serde_json::to_vec(&ledger).unwrap_or_default();
        let mut saved = self.saved_counters.lock().await;
        if *saved == bytes {
            return;
        }
        match self
            .parts
            .store
            .save_side(SideDocument::Counters, &bytes)
            .await
        {
            Ok(()) => *saved = bytes,
            Err(error) => self
                .parts
                .log
                .event(
                    Level::Warn,
                    "counters_not_saved",
                    "the counters of issued tokens could not be saved",
                )
                .field("cause", error.to_string())
                .emit(),
        }
    }
}
