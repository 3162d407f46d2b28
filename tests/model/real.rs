//! The real thing: a `Lifecycle` over a store that fails when told to, with keys, clock and crash
//! in the hands of the test; and its answers in the words of the reference.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clients::{Client, ClientChange, ClientOrder, ClientRegistry, SecretHash};
use portcullis::clock::{Clock as _, Timestamp};
use portcullis::keygen::import::ForeignKey;
use portcullis::keygen::{GeneratedKey, KeyGenerator, KeygenError, RingKeyGenerator, thumbprint};
use portcullis::keys::timing::Timing;
use portcullis::keys::transition::{self, PurgeScope, Refusal};
use portcullis::keys::{
    Activation, ActivationKind, Actor, Algorithm, AuditRecord, Event, KeySet, Kid, PublicJwk,
    Trigger, idempotency,
};
use portcullis::lifecycle::clients::ClientPolicy;
use portcullis::lifecycle::published::Permit;
use portcullis::lifecycle::{
    Clients, Holder, ImportCommand, Lifecycle, LifecycleError, Parts, Policy, PurgeCommand,
    Purpose, RotationOutcome, Snapshot,
};
use portcullis::store::faulty_store::{Step, Trouble};
use portcullis::store::{
    CommitError, Committed, FaultyStore, KeyStore, Keyring, Loaded, MemoryStore, SideDocument,
    StoreError, seal_fresh,
};
use portcullis::telemetry::{Format, Log, LogWriter, Metrics, MetricsLabels};
use portcullis::testing::ManualClock;
use portcullis::token::CacheLimits;
use portcullis::token::issue::{Grant, mint};
use portcullis::token::jose::TokenSigner;
use portcullis::token::{RouteRules, verify};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use tokio::runtime::Runtime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::oracle::{Answer, Claim, Done, Entry, Fault, Import, Names, Order, Refused, Scope};
use super::rng::Rng;
use super::truth::{AUDIENCE, CLIENTS, ClientAct, ISSUER, Verdict};

/// Where every call with an `Idempotency-Key` goes.
const OPERATION: &str = "POST /admin/v1/keys/rotate";

/// A key pair, as a thief would have it.
#[derive(Clone, Debug)]
pub struct Private {
    pub half: Kid,
    pub alg: Algorithm,
    pub jwk: PublicJwk,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl Private {
    /// A token whose header is the one that the key of this name mints.
    pub fn mint(&self, kid: &Kid, payload: &str) -> String {
        let rng = SystemRandom::new();
        TokenSigner::new(kid.clone(), self.alg, &self.pkcs8, &rng)
            .and_then(|signer| signer.sign(payload.as_bytes(), &rng))
            .expect("it signs")
    }

    /// A well-signed token with any header.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        let signature = match self.alg {
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(&self.pkcs8)
                .expect("a key")
                .sign(message.as_bytes())
                .as_ref()
                .to_vec(),
            Algorithm::Es256 => {
                let rng = SystemRandom::new();
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &rng)
                    .expect("a key")
                    .sign(&rng, message.as_bytes())
                    .expect("it signs")
                    .as_ref()
                    .to_vec()
            }
            Algorithm::Rs256 => unreachable!("no RSA keys here: they take seconds"),
        };
        format!("{message}.{}", encode(signature))
    }
}

/// Makes keys and keeps a copy of every private half. Ed25519 keys follow from a seed, so that a
/// history can be played again.
#[derive(Debug)]
pub struct Chest {
    rng: Mutex<Rng>,
    made: Mutex<Vec<Private>>,
}

impl Chest {
    fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(Rng::new(seed)),
            made: Mutex::default(),
        }
    }

    /// How many keys were made so far.
    pub fn len(&self) -> usize {
        self.made.lock().expect("a list").len()
    }

    pub fn get(&self, index: usize) -> Private {
        self.made.lock().expect("a list")[index].clone()
    }

    pub fn of(&self, half: &Kid) -> Private {
        let made = self.made.lock().expect("a list");
        let found = made.iter().rev().find(|key| key.half == *half);
        found.expect("every key is from here").clone()
    }

    fn since(&self, index: usize) -> Vec<Kid> {
        let made = self.made.lock().expect("a list");
        made[index..].iter().map(|key| key.half.clone()).collect()
    }
}

impl KeyGenerator for Chest {
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError> {
        let key = if alg == Algorithm::EdDsa {
            let mut seed = [0; 32];
            let mut rng = self.rng.lock().expect("a generator");
            for chunk in seed.chunks_mut(8) {
                chunk.copy_from_slice(&rng.next().to_be_bytes());
            }
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any seed will do");
            // RFC 5958 with RFC 8410: the seed, then the public half.
            let der = [
                &[
                    0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
                ][..],
                &seed,
                &[0x81, 0x21, 0],
                pair.public_key().as_ref(),
            ];
            GeneratedKey::from_pkcs8(alg, Zeroizing::new(der.concat()))?
        } else {
            RingKeyGenerator.generate(alg)?
        };
        self.made.lock().expect("a list").push(Private {
            half: thumbprint(&key.jwk),
            alg,
            jwk: key.jwk.clone(),
            pkcs8: key.private_pkcs8.clone(),
        });
        Ok(key)
    }
}

/// A store that shows its last commit without being asked.
#[derive(Debug)]
struct Watched {
    inner: MemoryStore,
    last: Mutex<Arc<KeySet>>,
}

#[async_trait]
impl KeyStore for Watched {
    async fn load(&self) -> Result<Loaded, StoreError> {
        self.inner.load().await
    }

    async fn commit(&self, expected: u64, next: &KeySet) -> Result<Committed, CommitError> {
        let committed = self.inner.commit(expected, next).await?;
        *self.last.lock().expect("a set") = Arc::new(next.clone());
        Ok(committed)
    }

    async fn load_side(&self, name: SideDocument) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.load_side(name).await
    }

    async fn save_side(&self, name: SideDocument, data: &[u8]) -> Result<(), StoreError> {
        self.inner.save_side(name, data).await
    }

    async fn audit_tail(&self, count: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.inner.audit_tail(count).await
    }
}

/// The clients of the configuration.
fn registry() -> ClientRegistry {
    let rng = SystemRandom::new();
    let clients = CLIENTS.map(|id| Client {
        id: id.to_owned(),
        secrets: vec![SecretHash::of_generated(b"secret", &rng).expect("a hash")],
        scopes: Vec::new(),
        token_ttl: Duration::from_secs(1),
    });
    ClientRegistry::new(clients.to_vec(), &rng).expect("a registry")
}

/// One log for all: its lines go nowhere.
fn log() -> Log {
    static LOG: OnceLock<(Log, LogWriter)> = OnceLock::new();
    let start = || {
        let clock = Arc::new(ManualClock::at(Timestamp::default()));
        Log::start(Format::Json, std::io::sink(), clock)
    };
    LOG.get_or_init(start).0.clone()
}

pub struct Real {
    runtime: Runtime,
    clock: Arc<ManualClock>,
    pub chest: Arc<Chest>,
    store: Arc<Watched>,
    faulty: Arc<FaultyStore>,
    parts: Parts,
    policy: Policy,
    lifecycle: Option<Arc<Lifecycle>>,
    clients: Option<Arc<Clients>>,
    /// Keys made before the present step.
    made_before: usize,
}

impl Real {
    /// A store as `init` leaves it, and no process yet.
    pub fn new(seed: u64, timing: &Timing, algorithm: Algorithm, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::at(now));
        let chest = Arc::new(Chest::new(seed));
        let keyring = Arc::new(Keyring::new([Zeroizing::new([7; 32])]).expect("a keyring"));
        let fresh = || {
            let key = chest.generate(algorithm).expect("a key");
            seal_fresh(key, &keyring, ISSUER, 0, now).expect("it is sealed")
        };
        let (active, pending) = (fresh(), fresh());
        let first = transition::bootstrap(ISSUER, active, pending, timing, Actor::Scheduler, now);
        let store = Arc::new(Watched {
            inner: MemoryStore::create(Arc::<ManualClock>::clone(&clock), &first)
                .expect("a sound set"),
            last: Mutex::new(Arc::new(first)),
        });
        let faulty = Arc::new(FaultyStore::new(Arc::<Watched>::clone(&store)));
        let labels = MetricsLabels {
            version: "model",
            routes: &[],
            upstreams: &[],
            workers: &[],
            admin_endpoints: &[],
        };
        let parts = Parts {
            store: Arc::<FaultyStore>::clone(&faulty),
            keygen: Arc::<Chest>::clone(&chest),
            keyring,
            clock: Arc::<ManualClock>::clone(&clock),
            metrics: Arc::new(Metrics::new(&labels).expect("metrics")),
            log: log(),
        };
        let policy = Policy {
            issuer: ISSUER.to_owned(),
            algorithm,
            timing: timing.clone(),
            audience: AUDIENCE.map(str::to_owned).to_vec(),
            token_cache: CacheLimits::default(),
        };
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime"),
            clock,
            chest,
            store,
            faulty,
            parts,
            policy,
            lifecycle: None,
            clients: None,
            made_before: 0,
        }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn set_clock(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// The process dies; another one starts over the same store.
    pub fn restart(&mut self, max_ttl: Duration, algorithm: Algorithm) -> Answer {
        (self.lifecycle, self.clients) = (None, None);
        self.policy.timing.max_token_ttl = max_ttl;
        self.policy.algorithm = algorithm;
        let start = Lifecycle::start(
            self.parts.clone(),
            self.policy.clone(),
            vec!["worker".to_owned()],
        );
        match self.runtime.block_on(start) {
            Ok(lifecycle) => {
                self.lifecycle = Some(lifecycle);
                let policy = ClientPolicy {
                    token_ttl: max_ttl,
                    max_token_ttl: max_ttl,
                };
                let start = Clients::start(self.parts.clone(), policy, registry());
                self.clients = Some(self.runtime.block_on(start).expect("sound clients"));
                Answer::Started
            }
            Err(error) => failed(error),
        }
    }

    pub fn is_up(&self) -> bool {
        self.lifecycle.is_some()
    }

    fn lifecycle(&self) -> &Arc<Lifecycle> {
        self.lifecycle.as_ref().expect("the process is up")
    }

    /// A step begins, and meets this trouble.
    pub fn begin(&mut self, fault: Option<Fault>) {
        self.made_before = self.chest.len();
        match fault {
            None => {}
            Some(Fault::Load) => self.faulty.once(Step::Load, Trouble::Fail),
            Some(Fault::Before) => self.faulty.once(Step::BeforeCommit, Trouble::Fail),
            Some(Fault::After) => self.faulty.once(Step::AfterCommit, Trouble::Fail),
            Some(Fault::Race) => self.faulty.once(Step::BeforeCommit, Trouble::LoseRace),
        }
    }

    /// It is over; what became of names.
    pub fn end(&self) -> Names {
        self.faulty.heal();
        let set = self.stored();
        Names {
            active: (set.active.public.kid.clone(), set.active.public.alg),
            pending: (set.pending.public.kid.clone(), set.pending.public.alg),
            last: set.last_activation.as_ref().map(|last| last.id),
            made: self.chest.since(self.made_before),
        }
    }

    /// What the store holds.
    pub fn stored(&self) -> Arc<KeySet> {
        Arc::clone(&self.store.last.lock().expect("a set"))
    }

    /// What the store gives back when it is asked.
    pub fn reloaded(&self) -> KeySet {
        let loaded = self.runtime.block_on(self.store.inner.load());
        loaded.expect("memory does not fail").set
    }

    pub fn audit(&self) -> Vec<AuditRecord> {
        let records = self.runtime.block_on(self.store.audit_tail(usize::MAX));
        records.expect("memory does not fail")
    }

    pub fn rotate(&self, order: &Order) -> Answer {
        let result = self.runtime.block_on(self.lifecycle().rotate(&said(order)));
        rotated(result)
    }

    pub fn purge(&self, order: &Order, scope: &Scope, undo: bool) -> Answer {
        let command = PurgeCommand {
            scope: match scope {
                Scope::All => PurgeScope::All,
                Scope::Kids { kids, keep_pending } => PurgeScope::Kids {
                    kids: kids.clone(),
                    keep_pending: *keep_pending,
                },
            },
            mistake_undo: undo,
            only_if_current: false,
        };
        let order = said(order);
        let purge = self.lifecycle().purge_scoped(&order, &command);
        let result = self.runtime.block_on(purge);
        if let Ok(outcome) = &result
            && let Some(receipt) = &outcome.receipt
        {
            let answered = done(&outcome.activation);
            // After a restart the tombstones tell, and a restored key has none.
            if receipt.purge_id != answered.id
                || receipt.state().drained_at.is_none()
                || !receipt.kids.iter().all(|kid| answered.purged.contains(kid))
            {
                return Answer::Odd(format!("receipt {receipt:?} of {answered:?}"));
            }
        }
        rotated(result)
    }

    pub fn restore(&self, order: &Order, kid: &Kid) -> Answer {
        let order = said(order);
        let restore = self.lifecycle().restore(&order, kid);
        match self.runtime.block_on(restore) {
            Ok(_) => Answer::Restored,
            Err(error) => failed(error),
        }
    }

    pub fn mark_compromised(&self, order: &Order, kids: &[Kid]) -> Answer {
        let order = said(order);
        let mark = self.lifecycle().mark_compromised(&order, kids);
        match self.runtime.block_on(mark) {
            Ok((changed, _)) => Answer::Marked(changed),
            Err(error) => failed(error),
        }
    }

    pub fn import(&self, order: &Order, import: &Import, key: &Private) -> Answer {
        let legacy = &import.legacy;
        let rules = self.lifecycle().legacy_rules(
            legacy.iss.clone(),
            legacy.aud.clone(),
            legacy.typ.clone(),
        );
        let command = ImportCommand {
            key: ForeignKey {
                thumbprint: key.half.clone(),
                alg: key.alg,
                jwk: key.jwk.clone(),
                private_pkcs8: Some(key.pkcs8.clone()),
            },
            kid: (import.kid != import.half).then(|| import.kid.clone()),
            max_ttl: import.max_ttl,
            legacy: rules.expect("sound rules"),
            active: import.active,
        };
        let order = said(order);
        let importing = self.lifecycle().import(&order, command);
        match self.runtime.block_on(importing) {
            Ok(_) => Answer::Imported,
            Err(error) => failed(error),
        }
    }

    pub fn tick(&self) -> Answer {
        match self.runtime.block_on(self.lifecycle().tick()) {
            Ok(due) => Answer::Ticked(due),
            Err(error) => failed(error),
        }
    }

    /// As the token endpoint does it: under a snapshot held until the token is handed out.
    pub fn issue(&self, client: &str, scope: &str, ttl: Duration, id: Uuid) -> (Kid, String) {
        let holder = self.lifecycle().published().hold(0, Purpose::Issue);
        let snapshot = holder.snapshot();
        let audience = AUDIENCE.map(str::to_owned);
        let grant = Grant {
            issuer: ISSUER,
            client_id: client,
            audience: &audience,
            scope,
            ttl: ttl.min(snapshot.set.active.public.max_ttl),
            token_id: id,
        };
        let token = mint(&snapshot.signer, &grant, self.now(), &SystemRandom::new());
        assert!(holder.is_current(), "nobody else is here");
        (snapshot.signer.kid().clone(), token.expect("it signs"))
    }

    /// Somebody begins to issue a token, and takes his time.
    pub fn hold(&self) -> Holder {
        self.lifecycle().published().hold(0, Purpose::Issue)
    }

    /// Disables, enables or invalidates a client; whether that changed anything.
    pub fn change_client(&self, client: &str, act: ClientAct) -> bool {
        let order = ClientOrder {
            client: client.parse().expect("a client"),
            change: match act {
                ClientAct::Disable => ClientChange::Disable,
                ClientAct::Enable => ClientChange::Enable,
                ClientAct::Invalidate => ClientChange::Invalidate,
            },
            actor: Actor::Admin("ops".to_owned()),
            reason: None,
        };
        let change = self.clients().change(&order, None);
        self.runtime
            .block_on(change)
            .expect("memory does not fail")
            .changed
    }

    fn clients(&self) -> &Arc<Clients> {
        self.clients.as_ref().expect("the process is up")
    }

    /// From when on the token endpoint dates tokens of a client; `None` when it gives it none.
    pub fn issues_from(&self, client: &str) -> Option<Option<Timestamp>> {
        let view = self.clients().current_view();
        let revocations = view.revocations();
        (!revocations.is_disabled(client)).then(|| revocations.not_before(client))
    }

    /// As a proxy worker does it; an admitted request stays open when asked to.
    pub fn verify(&self, token: &str, route: &RouteRules, stay: bool) -> (Verdict, Option<Permit>) {
        self.lifecycle().published().with(0, |snapshot| {
            let clients = self.clients().view();
            let now = self.now();
            match verify(
                token.as_bytes(),
                &snapshot.keys,
                route,
                clients.revocations(),
                now,
            ) {
                Ok(accepted) => {
                    let open =
                        stay.then(|| snapshot.permit(accepted.key.index, &accepted.claims, 0, now));
                    let verdict = Verdict::Accepted {
                        kid: accepted.key.kid.clone(),
                        state: accepted.key.state.as_str(),
                        client: accepted.claims.client_id.clone(),
                    };
                    (verdict, open)
                }
                Err(refused) => {
                    let dead = refused.tombstone.map(|at| &snapshot.keys.tombstones()[at]);
                    let verdict = Verdict::Refused {
                        why: refused.rejection,
                        tombstone: dead.map(|key| key.kid.clone()),
                    };
                    (verdict, None)
                }
            }
        })
    }

    /// What requests are judged by.
    pub fn published(&self) -> Arc<Snapshot> {
        self.lifecycle().published().load()
    }
}

fn said(order: &Order) -> transition::Order {
    let claim = |claim: &Claim| idempotency::Claim {
        key: claim.key.parse().expect("a key"),
        operation: OPERATION.to_owned(),
        body_digest: claim.body.clone(),
    };
    transition::Order {
        id: order.id,
        trigger: Trigger::Manual,
        actor: Actor::Admin(order.actor.to_owned()),
        reason: None,
        seen_revision: order.seen,
        claim: order.claim.as_ref().map(claim),
    }
}

/// An activation in the words of the reference.
pub fn done(activation: &Activation) -> Done {
    let sorted = |kids: &[Kid]| {
        let mut kids = kids.to_vec();
        kids.sort_unstable();
        kids
    };
    Done {
        id: activation.id,
        kind: match activation.kind {
            ActivationKind::Rotate => "rotate",
            ActivationKind::Purge => "purge",
            ActivationKind::Import => "import",
        },
        automatic: activation.trigger == Trigger::Automatic,
        at: activation.at,
        revision: activation.revision,
        activated: activation.activated.clone(),
        replaced: activation.replaced.clone(),
        purged: sorted(&activation.purged),
        unseen: sorted(&activation.unseen),
    }
}

/// An audit record in the words of the reference.
pub fn entry(record: &AuditRecord) -> Entry {
    let sorted = |kids: &[Kid]| {
        let mut kids = kids.to_vec();
        kids.sort_unstable();
        kids
    };
    Entry {
        event: match record.event {
            Event::Bootstrap => "bootstrap",
            Event::Rotate => "rotate",
            Event::RotateAndPurge => "rotate_and_purge",
            Event::Restore => "restore",
            Event::Retire => "retire",
            Event::ReplacePending => "replace_pending",
            Event::RaiseMaxTtl => "raise_max_ttl",
            Event::Import => "import",
            Event::MarkCompromised => "mark_compromised",
            Event::Reseal => "reseal",
            Event::Recover => "recover",
        },
        at: record.at,
        activated: record.activated.clone(),
        deprecated: record.deprecated.clone(),
        published: record.published.clone(),
        purged: sorted(&record.purged),
        retired: sorted(&record.retired),
        restored: record.restored.clone(),
        imported: record.imported.clone(),
        compromised: sorted(&record.compromised),
    }
}

fn rotated(result: Result<RotationOutcome, LifecycleError>) -> Answer {
    match result {
        Ok(outcome) => Answer::Rotated {
            changed: outcome.changed,
            replayed: outcome.replayed,
            done: done(&outcome.activation),
            receipt: outcome.receipt.is_some(),
        },
        Err(error) => failed(error),
    }
}

fn failed(error: LifecycleError) -> Answer {
    match error {
        LifecycleError::Refused(refusal) => Answer::Refused(refused(refusal)),
        LifecycleError::Store(StoreError::OutcomeUnknown { .. }) => Answer::OutcomeUnknown,
        LifecycleError::Store(StoreError::Io { .. }) => Answer::StoreFailed,
        other => Answer::Odd(format!("{other:?}")),
    }
}

fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::KeySetFull(keys) => Refused::Full(keys),
        Refusal::PendingTooYoung { kid, ready_at } => Refused::TooYoung { kid, ready_at },
        Refusal::UnknownKid(kid) => Refused::UnknownKid(kid),
        Refusal::NotPurged(kid) => Refused::NotPurged(kid),
        Refusal::Compromised(kid) => Refused::Compromised(kid),
        Refusal::NothingToRestore(kid) => Refused::NothingToRestore(kid),
        Refusal::StaleRevision { seen, current } => Refused::Stale { seen, current },
        Refusal::RevisionAhead { seen, current } => Refused::Ahead { seen, current },
        Refusal::KnownKey(kid) => Refused::Known(kid),
        Refusal::MaxTtl(_) => Refused::MaxTtl,
        Refusal::OtherBody => Refused::OtherBody,
        Refusal::IdempotencyFull { free_at } => Refused::ResultsFull(free_at),
    }
}

/// Kids in a JWKS body, in its order.
pub fn jwks_kids(body: &[u8]) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Jwks {
        keys: Vec<HashMap<String, String>>,
    }
    let jwks: Jwks = serde_json::from_slice(body).expect("a JWKS");
    jwks.keys
        .into_iter()
        .map(|mut key| key.remove("kid").expect("a kid"))
        .collect()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
