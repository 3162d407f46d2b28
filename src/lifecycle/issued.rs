//! Counting issued tokens. Token endpoints send what they issue to one collector thread; they
//! never wait for it, and what they sent before a question is in its answer. The counters survive
//! a restart through a document of their own, so that counting never bumps the key set's revision.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::Kid;
use crate::keys::holdings::Holdings;
use crate::keys::ledger::Ledger;
use crate::store::SideDocument;
use crate::telemetry::Level;

use super::recovery::Recovery;
use super::{Lifecycle, Parts};

enum Message {
    Issued {
        kid: Kid,
        client: String,
        expires_at: Timestamp,
    },
    Ask(Box<dyn FnOnce(&mut Counted) + Send>),
}

/// What the collector knows.
pub(super) struct Counted {
    pub(super) ledger: Ledger,
    /// What of it an earlier process had counted.
    before: Ledger,
    holdings: Holdings,
}

impl Counted {
    /// Live tokens of a client under these keys, if they are known: it may hold some from before the
    /// process started, or be beyond the memory bound.
    pub(super) fn held(
        &self,
        client: &str,
        kids: &[Kid],
        leeway: Duration,
        now: Timestamp,
    ) -> Option<u64> {
        let holds = |of: &Ledger| kids.iter().any(|kid| of.holds(kid, client, leeway, now));
        if holds(&self.before) {
            return None;
        }
        let known = self.holdings.live(client, kids, leeway, now);
        known.or_else(|| (!holds(&self.ledger)).then_some(0))
    }
}

/// Counts issued tokens. Cloned by every token endpoint.
#[derive(Clone, Debug)]
pub struct IssuedTokens {
    collector: Sender<Message>,
    recovery: Arc<Recovery>,
}

impl IssuedTokens {
    /// Starts the collector with what an earlier process had counted.
    pub(super) fn start(ledger: Ledger, recovery: Arc<Recovery>) -> std::io::Result<Self> {
        let (collector, receiver) = channel();
        std::thread::Builder::new()
            .name("issued".to_owned())
            .spawn(move || collect(ledger, &receiver))?;
        Ok(Self {
            collector,
            recovery,
        })
    }

    /// Counts a token issued at `now`; never waits.
    pub fn issued(&self, kid: &Kid, client: &str, expires_at: Timestamp, now: Timestamp) {
        let message = Message::Issued {
            kid: kid.clone(),
            client: client.to_owned(),
            expires_at,
        };
        // The collector ends only when every sender is gone.
        let _gone = self.collector.send(message);
        self.recovery.issued(client, now);
    }

    /// What `question` finds in everything counted before this call.
    pub(super) async fn ask<T: Default + Send + 'static>(
        &self,
        question: impl FnOnce(&mut Counted) -> T + Send + 'static,
    ) -> T {
        let (answer, found) = tokio::sync::oneshot::channel();
        let ask = Box::new(move |counted: &mut Counted| {
            // Whoever asked may have gone.
            let _gone = answer.send(question(counted));
        });
        let _gone = self.collector.send(Message::Ask(ask));
        found.await.unwrap_or_default()
    }
}

fn collect(ledger: Ledger, messages: &Receiver<Message>) {
    let mut counted = Counted {
        before: ledger.clone(),
        ledger,
        holdings: Holdings::default(),
    };
    while let Ok(message) = messages.recv() {
        match message {
            Message::Issued {
                kid,
                client,
                expires_at,
            } => {
                counted.ledger.issued(&kid, &client, expires_at);
                counted.holdings.issued(&kid, &client, expires_at);
            }
            Message::Ask(question) => question(&mut counted),
        }
    }
}

/// The counters of an earlier process. They only inform; unreadable ones start at zero, said aloud.
pub(super) fn ledger(parts: &Parts, counters: Option<&[u8]>) -> Ledger {
    let Some(bytes) = counters else {
        return Ledger::default();
    };
    Ledger::from_json(bytes).unwrap_or_else(|error| {
        parts
            .log
            .event(
                Level::Warn,
                "counters_lost",
                "the counters of issued tokens cannot be read; previews count from zero",
            )
            .field("cause", error.to_string())
            .emit();
        Ledger::default()
    })
}

impl Lifecycle {
    /// Writes what changed beside the key set; a failure is tried again next time. The schedule does
    /// it every few seconds.
    pub async fn save_side_documents(&self) {
        self.save_counters().await;
        self.save_recovery().await;
    }

    async fn save_counters(&self) {
        let (leeway, now) = (self.policy.timing.leeway, self.parts.clock.now());
        // A step of the clock may be taken back, and what it made look expired is alive again.
        let is_sure = self.schedule_pause().is_none();
        let bytes = self.issued.ask(move |counted| {
            let ledger = &mut counted.ledger;
            if is_sure {
                ledger.prune(leeway, now);
                counted.before.prune(leeway, now);
                counted.holdings.prune(leeway, now);
            }
            // Serialising strings and numbers into a Vec cannot fail.
            serde_json::to_vec(ledger).unwrap_or_default()
        });
        let bytes = bytes.await;
        let mut saved = self.saved_counters.lock().await;
        if *saved == bytes || bytes.is_empty() {
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
