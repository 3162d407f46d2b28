//! The only writer of the clients document: look at the store → decide (pure) → save → publish.
//!
//! Invariants: what is published was saved before; a failed change leaves what is in force; one
//! change at a time. Requests read the [`ClientView`] with one atomic load and see a change from its
//! answer on. A token handed out before a change that ends tokens was issued before its date: the
//! view that withholds the client's tokens is published first and the clock is read after, and a
//! token endpoint looks at the view again after it has signed.

mod error;
mod facts;
mod failures;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use ring::rand::SystemRandom;
use tokio::sync::{Mutex, watch};
use zeroize::Zeroizing;

use crate::clients::change::apply;
use crate::clients::document::MAX_TOKEN_TTL;
use crate::clients::secret::generate;
use crate::clients::{
    ClientChange, ClientId, ClientOrder, ClientRefusal, ClientRegistry, ClientView,
    ClientsDocument, NewClient, SecretHash,
};
use crate::clock::Timestamp;
use crate::keys::Actor;
use crate::store::SideDocument;
use crate::telemetry::Level;

use super::Parts;
use failures::Failures;

pub use error::ClientsError;
pub use facts::{ClientCounts, ClientFacts, ClientSource};
pub use failures::ClientFailure;

/// How often failures that are too old to tell are looked for.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// What the configuration says about clients of the store.
#[derive(Clone, Copy, Debug)]
pub struct ClientPolicy {
    /// Life time of their tokens unless they have one of their own.
    pub token_ttl: Duration,
    /// Longest life time of a token.
    pub max_token_ttl: Duration,
}

/// Every client, of the configuration and of the store.
pub struct Clients {
    parts: Parts,
    policy: ClientPolicy,
    registry: ClientRegistry,
    view: ArcSwap<ClientView>,
    document: ArcSwap<ClientsDocument>,
    /// Told after every publication, for those who wait for the next one.
    published: watch::Sender<()>,
    writer: Mutex<Stored>,
    failures: Failures,
}

/// What the store holds, as far as this process knows.
#[derive(Debug, Default)]
struct Stored {
    bytes: Option<Vec<u8>>,
    /// A save failed, and this may be there in its place.
    in_doubt: Option<Vec<u8>>,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub struct ClientOutcome {
    /// False when it was so already.
    pub changed: bool,
    /// The document in force.
    pub document: Arc<ClientsDocument>,
    /// When the secret was made that the change ended, if it ended one.
    pub ended_secret_created_at: Option<Timestamp>,
}

impl Clients {
    /// Loads what was done to clients. A document that is missing is an empty one; one that cannot
    /// be read stops the start, since it may have disabled somebody.
    ///
    /// # Errors
    /// [`ClientsError`]
    pub async fn start(
        parts: Parts,
        policy: ClientPolicy,
        registry: ClientRegistry,
    ) -> Result<Arc<Self>, ClientsError> {
        let bytes = parts.store.load_side(SideDocument::Clients).await?;
        let document = match &bytes {
            Some(bytes) => ClientsDocument::parse(bytes)?,
            None => ClientsDocument::default(),
        };
        let clients = Self {
            view: ArcSwap::from_pointee(ClientView::of(&document, None)),
            document: ArcSwap::from_pointee(document),
            published: watch::Sender::new(()),
            writer: Mutex::new(Stored {
                bytes,
                in_doubt: None,
            }),
            failures: Failures::new(),
            parts,
            policy,
            registry,
        };
        clients.warn_of_shadowed();
        clients.show();
        Ok(Arc::new(clients))
    }

    /// What requests read: one atomic load. Not to be kept across waiting points.
    #[must_use]
    pub fn view(&self) -> Guard<Arc<ClientView>> {
        self.view.load()
    }

    /// What a token endpoint reads, to be kept until its token is signed.
    #[must_use]
    pub fn current_view(&self) -> Arc<ClientView> {
        self.view.load_full()
    }

    /// Whether nothing was published since `view`.
    #[must_use]
    pub fn is_current(&self, view: &Arc<ClientView>) -> bool {
        Arc::ptr_eq(&self.view.load(), view)
    }

    /// Waits until something is published after `view`; `false` after `patience`.
    pub async fn published_after(&self, view: &Arc<ClientView>, patience: Duration) -> bool {
        let mut published = self.published.subscribe();
        let newer = async {
            // The sender lives as long as `self`, so waiting cannot fail.
            while self.is_current(view) && published.changed().await.is_ok() {}
        };
        tokio::time::timeout(patience, newer).await.is_ok()
    }

    /// The clients of the configuration.
    #[must_use]
    pub const fn registry(&self) -> &ClientRegistry {
        &self.registry
    }

    /// What is in force.
    #[must_use]
    pub fn document(&self) -> Arc<ClientsDocument> {
        self.document.load_full()
    }

    /// Notes that `client` was refused; waits for nobody. Who it is must be proven, or known here.
    pub fn note_failure(&self, client: &str, failure: ClientFailure, now: Timestamp) {
        self.failures.note(client, failure, now);
    }

    /// As [`Clients::note_failure`], for one who only claims to be `client`: a name that nobody knows is
    /// not noted, so that strangers take no memory.
    pub fn note_claimed_failure(&self, client: &str, failure: ClientFailure, now: Timestamp) {
        if self.is_known(client) {
            self.failures.note(client, failure, now);
        }
    }

    /// Whether `client` is one of the configuration or of the store. Any other name may be anything,
    /// a secret too: people swap the two.
    #[must_use]
    pub fn is_known(&self, client: &str) -> bool {
        self.registry.get(client).is_some() || self.document.load().dynamic.contains_key(client)
    }

    /// When and why `client` was last refused, within the last day and since the process started.
    #[must_use]
    pub fn last_failure(&self, client: &str) -> Option<(Timestamp, ClientFailure)> {
        self.failures.of(client)
    }

    /// Forgets failures that are older than a day, now and then, until the future is dropped.
    pub async fn forget_old_failures(&self) {
        loop {
            tokio::time::sleep(FORGET_INTERVAL).await;
            self.failures.prune(self.parts.clock.now());
        }
    }

    /// Does what `order` says, provided that the caller looked at `seen_revision`, if that is said.
    /// When it answers, the change is durable, and every request sent from then on sees it. To be
    /// run on a task of its own, so that a caller who leaves cannot stop it half-way.
    ///
    /// # Errors
    /// [`ClientsError`]; then everything is as before.
    pub async fn change(
        &self,
        order: &ClientOrder,
        seen_revision: Option<u64>,
    ) -> Result<ClientOutcome, ClientsError> {
        let mut stored = self.writer.lock().await;
        let document = self.document();
        if seen_revision.is_some_and(|seen| seen != document.revision) {
            let current = document.revision;
            return Err(ClientRefusal::Stale { current }.into());
        }
        let held = order
            .change
            .ends_tokens()
            .then(|| Hold::new(self, &order.client));
        // The clock is read after tokens are withheld: every token out by now is older.
        let now = self.parts.clock.now();
        let is_static = self.registry.get(order.client.as_str()).is_some();
        let decided = apply(&document, order, is_static, self.policy.max_token_ttl, now)?;
        let Some(next) = decided else {
            return Ok(ClientOutcome {
                changed: false,
                document,
                ended_secret_created_at: None,
            });
        };
        self.save(&mut stored, next.encode()).await?;
        let next = Arc::new(next);
        self.document.store(Arc::clone(&next));
        match held {
            Some(held) => drop(held),
            None => self.publish(None),
        }
        let ended = next.history.back();
        let ended = ended.and_then(|event| event.ended_secret_created_at);
        self.log(order, &next, ended);
        self.show();
        Ok(ClientOutcome {
            changed: true,
            document: next,
            ended_secret_created_at: ended,
        })
    }

    /// Makes a client of the store, or gives one a further secret; its secret is in the answer and
    /// nowhere else.
    ///
    /// # Errors
    /// [`ClientsError`]; then everything is as before.
    pub async fn with_new_secret(
        &self,
        request: NewSecret,
        seen_revision: Option<u64>,
    ) -> Result<(ClientOutcome, Zeroizing<String>), ClientsError> {
        let rng = SystemRandom::new();
        let secret = generate(&rng)?;
        let hash = SecretHash::of_generated(secret.as_bytes(), &rng)?;
        let change = match request.new_client {
            Some((scopes, token_ttl)) => ClientChange::Add(NewClient {
                secret: hash,
                scopes,
                token_ttl: token_ttl.unwrap_or_else(|| self.default_ttl()),
            }),
            None => ClientChange::RotateSecret(hash),
        };
        let order = ClientOrder {
            client: request.client,
            change,
            actor: request.actor,
            reason: request.reason,
        };
        let outcome = self.change(&order, seen_revision).await?;
        Ok((outcome, secret))
    }

    fn default_ttl(&self) -> Duration {
        let most = self.policy.max_token_ttl.as_secs().min(MAX_TOKEN_TTL);
        self.policy.token_ttl.min(Duration::from_secs(most))
    }

    /// Saves the next document in the place of the one in force. When it is unclear which of them is
    /// stored, it is tried once more; then the caller hears of it, and the next change settles it.
    async fn save(&self, stored: &mut Stored, next: Vec<u8>) -> Result<(), ClientsError> {
        let store = &self.parts.store;
        let found = store.load_side(SideDocument::Clients).await?;
        let in_doubt = stored.in_doubt.is_some() && found == stored.in_doubt;
        if found != stored.bytes && !in_doubt {
            return Err(ClientsError::Replaced);
        }
        if let Err(error) = store.save_side(SideDocument::Clients, &next).await {
            let found = store.load_side(SideDocument::Clients).await;
            if found.as_ref().is_ok_and(|found| *found == stored.bytes) {
                stored.in_doubt = None;
                return Err(error.into());
            }
            stored.in_doubt = Some(next.clone());
            store.save_side(SideDocument::Clients, &next).await?;
        }
        stored.bytes = Some(next);
        stored.in_doubt = None;
        Ok(())
    }

    /// Publishes what is in force, withholding the tokens of `held`.
    fn publish(&self, held: Option<ClientId>) {
        let view = ClientView::of(&self.document.load(), held);
        self.view.store(Arc::new(view));
        self.published.send_replace(());
    }

    fn log(&self, order: &ClientOrder, document: &ClientsDocument, ended: Option<Timestamp>) {
        let state = document.clients.get(&order.client);
        let not_before = state.and_then(|state| state.tokens_not_before);
        self.parts
            .log
            .event(Level::Info, "client_changed", "a client was changed")
            .field("revision", document.revision)
            .field("action", order.change.action().as_str())
            .field("actor", serde_json::json!(order.actor))
            .outside("client_id", order.client.as_str())
            .field("tokens_not_before", not_before.map(|at| at.to_string()))
            .field("ended_secret_created_at", ended.map(|at| at.to_string()))
            .outside("reason", order.reason.as_deref().unwrap_or_default())
            .emit();
    }

    fn show(&self) {
        let counts = self.counts(&self.document.load());
        self.parts.metrics.clients(counts.enabled, counts.disabled);
    }

    /// A client of the store lies dormant under one of the configuration, and would wake up when
    /// the configuration forgets its own.
    fn warn_of_shadowed(&self) {
        let document = self.document.load();
        for id in document.dynamic.keys() {
            if self.registry.get(id.as_str()).is_some() {
                self.parts
                    .log
                    .event(
                        Level::Warn,
                        "client_shadowed",
                        "a client of the configuration has the id of one in the store and wins; \
                         `portcullis clients remove` clears the other away",
                    )
                    .outside("client_id", id.as_str())
                    .emit();
            }
        }
    }
}

/// A request for a secret.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// Whose.
    pub client: ClientId,
    /// Scopes and life time of the tokens of a new client; `None` for one that exists.
    pub new_client: Option<(Vec<String>, Option<Duration>)>,
    /// Who wants it.
    pub actor: Actor,
    /// In whose words why, if any.
    pub reason: Option<String>,
}

/// Withholds the tokens of a client for as long as it lives.
struct Hold<'a>(&'a Clients);

impl<'a> Hold<'a> {
    fn new(clients: &'a Clients, client: &ClientId) -> Self {
        clients.publish(Some(client.clone()));
        Self(clients)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.publish(None);
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
