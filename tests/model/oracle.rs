//! The reference: what design.md §4–§6 says must happen, in the most naive form that can say it.
//!
//! It never looks into `keys::transition` or `token::verify`. A key is one record for its whole
//! life, which is never deleted; nothing is indexed, cached or sealed. What cannot be foretold,
//! the names of new keys and the identifiers of automatic rotations, is told by the real thing
//! and checked to be new.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::keys::timing::Timing;
use portcullis::keys::{Algorithm, Kid};
use uuid::Uuid;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MOST_KEYS: usize = 64;
const MOST_RESULTS: usize = 256;

/// Where a key stands (§4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Pending,
    Active,
    Deprecated,
    Retired,
    Purged,
    /// Its tombstone was forgotten.
    Gone,
}

/// What tokens of the former system of an imported key may look like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legacy {
    pub iss: Option<String>,
    pub aud: Option<String>,
    pub typ: Option<String>,
}

/// One key, from its publication until nobody remembers it.
#[derive(Clone, Debug)]
pub struct Key {
    pub kid: Kid,
    /// Thumbprint of its public half: the same as `kid` unless it came with a name of its own.
    pub half: Kid,
    pub alg: Algorithm,
    pub stage: Stage,
    pub published_at: Timestamp,
    pub published_revision: u64,
    pub max_ttl: Duration,
    pub imported: Option<Legacy>,
    pub activated_at: Option<Timestamp>,
    pub deprecated_at: Option<Timestamp>,
    pub verify_until: Option<Timestamp>,
    pub died_at: Option<Timestamp>,
    pub died_revision: u64,
    pub forgotten_at: Option<Timestamp>,
    pub purge: Option<Uuid>,
    pub undo: bool,
}

impl Key {
    pub fn verifies(&self) -> bool {
        matches!(
            self.stage,
            Stage::Pending | Stage::Active | Stage::Deprecated
        )
    }

    pub fn is_tombstone(&self) -> bool {
        matches!(self.stage, Stage::Retired | Stage::Purged)
    }
}

/// A rotation, purge or import that activated or ended keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub id: Uuid,
    pub kind: &'static str,
    pub automatic: bool,
    pub at: Timestamp,
    pub revision: u64,
    pub activated: Kid,
    pub replaced: Kid,
    pub purged: Vec<Kid>,
    pub unseen: Vec<Kid>,
}

/// What the audit record of a revision must say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub event: &'static str,
    pub at: Timestamp,
    pub activated: Option<Kid>,
    pub deprecated: Option<Kid>,
    pub published: Option<Kid>,
    pub purged: Vec<Kid>,
    pub retired: Vec<Kid>,
    pub restored: Option<Kid>,
    pub imported: Option<Kid>,
    pub compromised: Vec<Kid>,
}

/// A call under an `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub key: String,
    pub body: String,
}

#[derive(Clone, Debug)]
pub struct Kept {
    pub actor: &'static str,
    pub claim: Claim,
    pub done: Done,
}

/// Everything that a revision consists of.
#[derive(Clone, Debug)]
pub struct Book {
    pub revision: u64,
    /// Every key that there ever was, in order of birth.
    pub keys: Vec<Key>,
    pub last_activation: Option<Done>,
    pub last_purge: Option<Done>,
    pub results: Vec<Kept>,
    pub restore_epoch: u64,
    /// Since when a new key-encryption key is demanded.
    pub demand: Option<(Timestamp, Uuid)>,
    pub entry: Entry,
    pub high_water: Timestamp,
}

impl Book {
    /// The key of this name that is not forgotten.
    pub fn named(&self, kid: &Kid) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.kid == *kid && key.stage != Stage::Gone)
    }

    pub fn only(&self, stage: Stage) -> &Key {
        let mut found = self.keys.iter().filter(|key| key.stage == stage);
        let key = found.next().expect("there is one");
        assert!(
            found.next().is_none(),
            "the reference has two {stage:?} keys"
        );
        key
    }

    pub fn verifying(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| key.verifies())
    }

    fn change(&mut self, stage: Stage, change: impl FnOnce(&mut Key)) {
        let key = self.keys.iter_mut().find(|key| key.stage == stage);
        change(key.expect("there is one"));
    }
}

/// Who asks for a step.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: Uuid,
    pub actor: &'static str,
    pub seen: Option<u64>,
    pub claim: Option<Claim>,
}

/// Which keys a purge is to end.
#[derive(Clone, Debug)]
pub enum Scope {
    All,
    Kids { kids: Vec<Kid>, keep_pending: bool },
}

/// A key to take over.
#[derive(Clone, Debug)]
pub struct Import {
    pub kid: Kid,
    pub half: Kid,
    pub alg: Algorithm,
    pub max_ttl: Duration,
    pub legacy: Legacy,
    pub active: bool,
}

/// Why a step is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Full(usize),
    TooYoung { kid: Kid, ready_at: Timestamp },
    UnknownKid(Kid),
    NotPurged(Kid),
    Compromised(Kid),
    NothingToRestore(Kid),
    Stale { seen: u64, current: u64 },
    Ahead { seen: u64, current: u64 },
    Known(Kid),
    MaxTtl,
    OtherBody,
    ResultsFull(Timestamp),
}

/// What a step answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Rotated {
        changed: bool,
        replayed: bool,
        done: Done,
        receipt: bool,
    },
    Restored,
    Imported,
    Marked(bool),
    Ticked(Timestamp),
    Started,
    Refused(Refused),
    StoreFailed,
    OutcomeUnknown,
    /// Something that no step may answer.
    Odd(String),
}

/// What the store does to one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing can be loaded.
    Load,
    /// The commit fails and has changed nothing.
    Before,
    /// The commit took effect, and its caller cannot know.
    After,
    /// Somebody else seems to have been faster, once.
    Race,
}

/// How the real thing named what it made.
#[derive(Clone, Debug)]
pub struct Names {
    pub active: (Kid, Algorithm),
    pub pending: (Kid, Algorithm),
    /// Identifier of the last activation.
    pub last: Option<Uuid>,
    /// Names of all keys generated in this step.
    pub made: Vec<Kid>,
}

#[derive(Debug)]
pub struct Oracle {
    pub timing: Timing,
    pub algorithm: Algorithm,
    /// What the store holds.
    pub stored: Rc<Book>,
    /// What requests are judged by: the same, unless a commit ended in the dark.
    pub in_force: Rc<Book>,
    /// Receipts of purges that this process made.
    pub receipts: HashSet<Uuid>,
    /// Places of the keys that a purge took out of force in this step: a step may also undo one
    /// that it only just found in the store.
    pub ended: Vec<usize>,
    uncertain: bool,
    fault: Option<Fault>,
}

type Step = Result<Answer, Answer>;

impl Oracle {
    pub fn new(timing: Timing, algorithm: Algorithm, names: &Names, now: Timestamp) -> Self {
        let key = |(kid, alg): &(Kid, Algorithm), stage, activated_at| Key {
            kid: kid.clone(),
            half: kid.clone(),
            alg: *alg,
            stage,
            published_at: now,
            published_revision: 1,
            max_ttl: timing.max_token_ttl,
            imported: None,
            activated_at,
            deprecated_at: None,
            verify_until: None,
            died_at: None,
            died_revision: 0,
            forgotten_at: None,
            purge: None,
            undo: false,
        };
        let book = Rc::new(Book {
            revision: 1,
            keys: vec![
                key(&names.active, Stage::Active, Some(now)),
                key(&names.pending, Stage::Pending, None),
            ],
            last_activation: None,
            last_purge: None,
            results: Vec::new(),
            restore_epoch: 0,
            demand: None,
            entry: Entry {
                event: "bootstrap",
                at: now,
                activated: Some(names.active.0.clone()),
                published: Some(names.pending.0.clone()),
                ..Entry::default()
            },
            high_water: now,
        });
        Self {
            timing,
            algorithm,
            stored: Rc::clone(&book),
            in_force: book,
            receipts: HashSet::new(),
            ended: Vec::new(),
            uncertain: false,
            fault: None,
        }
    }

    pub fn expect_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// "Rotate" of §4.
    pub fn rotate(&mut self, order: &Order, clock: Timestamp, names: &Names) -> Answer {
        either(self.try_rotate(order, false, clock, names))
    }

    fn try_rotate(&mut self, order: &Order, auto: bool, clock: Timestamp, names: &Names) -> Step {
        let (book, now) = self.load(clock)?;
        if let Some(done) = recall(&book, order, now)? {
            return Ok(replayed(done, false));
        }
        refuse_ahead(&book, order.seen)?;
        if let Some(last) = &book.last_activation
            && now < last.at.plus(self.timing.idempotency_window)
        {
            return Ok(unchanged(last.clone(), false));
        }
        if let Some(seen) = order.seen.filter(|seen| *seen != book.revision) {
            let current = book.revision;
            return refuse(Refused::Stale { seen, current });
        }
        if book.verifying().count() >= MOST_KEYS {
            return refuse(Refused::Full(book.verifying().count()));
        }
        let pending = book.only(Stage::Pending);
        let ready_at = match pending.published_revision {
            // No answer without it was ever given.
            1 => pending.published_at,
            _ => pending.published_at.plus(self.timing.prepublish),
        };
        if now < ready_at {
            let kid = pending.kid.clone();
            return refuse(Refused::TooYoung { kid, ready_at });
        }
        if order.claim.is_some() {
            let own: Vec<Timestamp> = living_results(&book, now)
                .filter(|kept| kept.actor == order.actor)
                .map(|kept| kept.done.at.plus(DAY))
                .collect();
            if own.len() >= MOST_RESULTS {
                return refuse(Refused::ResultsFull(*own.iter().min().expect("some")));
            }
        }

        let mut next = (*book).clone();
        next.revision += 1;
        let done = Done {
            id: if auto {
                names.last.unwrap_or_default()
            } else {
                order.id
            },
            kind: "rotate",
            automatic: auto,
            at: now,
            revision: next.revision,
            activated: pending.kid.clone(),
            replaced: book.only(Stage::Active).kid.clone(),
            purged: Vec::new(),
            unseen: Vec::new(),
        };
        self.deprecate_active(&mut next, now);
        self.activate_pending(&mut next, now);
        let fresh = self.fresh(&next, &names.pending, names, now);
        next.entry = Entry {
            event: "rotate",
            at: now,
            activated: Some(done.activated.clone()),
            deprecated: Some(done.replaced.clone()),
            published: Some(fresh.kid.clone()),
            ..Entry::default()
        };
        next.keys.push(fresh);
        next.last_activation = Some(done.clone());
        keep(&mut next, order, &done, now);
        next.high_water = now;
        self.commit(next)?;
        Ok(Answer::Rotated {
            changed: true,
            replayed: false,
            done,
            receipt: false,
        })
    }

    /// "Rotate and purge" of §4, of every key or of named ones.
    pub fn purge(
        &mut self,
        order: &Order,
        scope: &Scope,
        undo: bool,
        clock: Timestamp,
        names: &Names,
    ) -> Answer {
        either(self.try_purge(order, scope, undo, clock, names))
    }

    fn try_purge(
        &mut self,
        order: &Order,
        scope: &Scope,
        undo: bool,
        clock: Timestamp,
        names: &Names,
    ) -> Step {
        let (book, now) = self.load(clock)?;
        if let Some(done) = recall(&book, order, now)? {
            let receipt = self.receipts.contains(&done.id);
            return Ok(replayed(done, receipt));
        }
        refuse_ahead(&book, order.seen)?;
        let saw = |key: &Key| order.seen.is_none_or(|seen| key.published_revision <= seen);
        let still_verifies = match scope {
            Scope::All => book.verifying().any(saw),
            Scope::Kids { kids, .. } => {
                if let Some(unknown) = kids.iter().find(|kid| book.named(kid).is_none()) {
                    return refuse(Refused::UnknownKid(unknown.clone()));
                }
                book.verifying().any(|key| kids.contains(&key.kid))
            }
        };
        if let Some(last) = book.last_purge.as_ref().filter(|_| !still_verifies) {
            let receipt = self.receipts.contains(&last.id);
            return Ok(unchanged(last.clone(), receipt));
        }

        let named = |kid: &Kid| match scope {
            Scope::All => true,
            Scope::Kids { kids, .. } => kids.contains(kid),
        };
        let (old_active, old_pending) = (book.only(Stage::Active), book.only(Stage::Pending));
        let active_dies = named(&old_active.kid);
        // The pending key lay in the same store as the leaked one.
        let guilty = match scope {
            Scope::All => true,
            Scope::Kids { keep_pending, .. } => active_dies && !keep_pending,
        };
        let pending_dies = guilty || named(&old_pending.kid);

        let mut next = (*book).clone();
        next.revision += 1;
        let mut purged = Vec::new();
        let mut unseen = Vec::new();
        for key in next.keys.iter_mut().filter(|key| key.verifies()) {
            let dies = match key.stage {
                Stage::Active => active_dies,
                Stage::Pending => pending_dies,
                _ => named(&key.kid),
            };
            if !dies {
                continue;
            }
            // What it would have lived to, had this been a plain rotation.
            let verify_until = key
                .verify_until
                .unwrap_or_else(|| span_end(&self.timing, now, key.max_ttl));
            purged.push(key.kid.clone());
            if order.seen.is_some_and(|seen| key.published_revision > seen) {
                unseen.push(key.kid.clone());
            }
            key.stage = Stage::Purged;
            key.verify_until = Some(verify_until);
            key.died_at = Some(now);
            key.died_revision = next.revision;
            key.forgotten_at = Some(verify_until.max(now.plus(7 * DAY)));
            key.purge = Some(order.id);
            key.undo = undo;
        }
        purged.sort_unstable();
        unseen.sort_unstable();
        if active_dies && pending_dies {
            let mut active = self.fresh(&next, &names.active, names, now);
            active.stage = Stage::Active;
            active.activated_at = Some(now);
            next.keys.push(active);
        } else if active_dies {
            self.activate_pending(&mut next, now);
        }
        let published = (active_dies || pending_dies).then(|| {
            let pending = self.fresh(&next, &names.pending, names, now);
            let kid = pending.kid.clone();
            next.keys.push(pending);
            kid
        });
        let done = Done {
            id: order.id,
            kind: "purge",
            automatic: false,
            at: now,
            revision: next.revision,
            activated: next.only(Stage::Active).kid.clone(),
            replaced: old_active.kid.clone(),
            purged: purged.clone(),
            unseen,
        };
        next.entry = Entry {
            event: "rotate_and_purge",
            at: now,
            activated: active_dies.then(|| done.activated.clone()),
            published,
            purged,
            ..Entry::default()
        };
        if active_dies {
            next.last_activation = Some(done.clone());
        }
        next.last_purge = Some(done.clone());
        keep(&mut next, order, &done, now);
        next.high_water = now;
        if !undo {
            // Our keyring lives in memory and has no second key, so one is demanded.
            next.demand.get_or_insert((now, order.id));
        }
        self.commit(next)?;
        self.receipts.insert(done.id);
        Ok(Answer::Rotated {
            changed: true,
            replayed: false,
            done,
            receipt: true,
        })
    }

    /// "Restore" of §4.
    pub fn restore(&mut self, kid: &Kid, clock: Timestamp) -> Answer {
        either(self.try_restore(kid, clock))
    }

    fn try_restore(&mut self, kid: &Kid, clock: Timestamp) -> Step {
        let (book, now) = self.load(clock)?;
        let dead = purged(&book, kid)?;
        if !dead.undo {
            return refuse(Refused::Compromised(kid.clone()));
        }
        if dead.activated_at.is_none() || now >= dead.verify_until.expect("it was purged") {
            return refuse(Refused::NothingToRestore(kid.clone()));
        }
        if book.verifying().count() >= MOST_KEYS {
            return refuse(Refused::Full(book.verifying().count()));
        }
        let mut next = (*book).clone();
        next.revision += 1;
        next.restore_epoch += 1;
        let revision = next.revision;
        let key = next
            .keys
            .iter_mut()
            .find(|key| key.kid == *kid && key.stage == Stage::Purged)
            .expect("it is there");
        key.stage = Stage::Deprecated;
        key.published_at = now;
        key.published_revision = revision;
        key.deprecated_at = key.deprecated_at.or(key.died_at);
        (key.died_at, key.forgotten_at, key.purge, key.undo) = (None, None, None, false);
        next.entry = Entry {
            event: "restore",
            at: now,
            restored: Some(kid.clone()),
            ..Entry::default()
        };
        next.high_water = now;
        self.commit(next)?;
        Ok(Answer::Restored)
    }

    /// "The mark can be raised later, never lowered" of §4.
    pub fn mark_compromised(&mut self, kids: &[Kid], order: &Order, clock: Timestamp) -> Answer {
        either(self.try_mark(kids, order, clock))
    }

    fn try_mark(&mut self, kids: &[Kid], order: &Order, clock: Timestamp) -> Step {
        let (book, now) = self.load(clock)?;
        for kid in kids {
            purged(&book, kid)?;
        }
        let mut next = (*book).clone();
        let mut marked = Vec::new();
        for key in &mut next.keys {
            if key.stage == Stage::Purged && key.undo && kids.contains(&key.kid) {
                key.undo = false;
                marked.push(key.kid.clone());
            }
        }
        if marked.is_empty() {
            return Ok(Answer::Marked(false));
        }
        marked.sort_unstable();
        next.revision += 1;
        next.entry = Entry {
            event: "mark_compromised",
            at: now,
            compromised: marked,
            ..Entry::default()
        };
        next.high_water = now;
        next.demand.get_or_insert((now, order.id));
        self.commit(next)?;
        Ok(Answer::Marked(true))
    }

    /// "Bring your own key" of §11.
    pub fn import(&mut self, import: &Import, order: &Order, clock: Timestamp) -> Answer {
        either(self.try_import(import, order, clock))
    }

    fn try_import(&mut self, import: &Import, order: &Order, clock: Timestamp) -> Step {
        let (book, now) = self.load(clock)?;
        if import.max_ttl.is_zero() || import.max_ttl > DAY {
            return refuse(Refused::MaxTtl);
        }
        let remembered = || book.keys.iter().filter(|key| key.stage != Stage::Gone);
        if remembered().any(|key| key.kid == import.kid || key.half == import.half) {
            return refuse(Refused::Known(import.kid.clone()));
        }
        if remembered().any(|key| key.kid == import.half) {
            return refuse(Refused::Known(import.half.clone()));
        }
        if book.verifying().count() >= MOST_KEYS {
            return refuse(Refused::Full(book.verifying().count()));
        }
        let mut next = (*book).clone();
        next.revision += 1;
        let mut key = Key {
            kid: import.kid.clone(),
            half: import.half.clone(),
            alg: import.alg,
            stage: Stage::Deprecated,
            published_at: now,
            published_revision: next.revision,
            max_ttl: import.max_ttl,
            imported: Some(import.legacy.clone()),
            activated_at: Some(now),
            deprecated_at: Some(now),
            verify_until: Some(span_end(&self.timing, now, import.max_ttl)),
            died_at: None,
            died_revision: 0,
            forgotten_at: None,
            purge: None,
            undo: false,
        };
        next.entry = Entry {
            event: "import",
            at: now,
            imported: Some(import.kid.clone()),
            ..Entry::default()
        };
        next.high_water = now;
        if import.active {
            let replaced = book.only(Stage::Active).kid.clone();
            self.deprecate_active(&mut next, now);
            key.stage = Stage::Active;
            key.max_ttl = import.max_ttl.max(self.timing.max_token_ttl);
            (key.deprecated_at, key.verify_until) = (None, None);
            next.entry.activated = Some(import.kid.clone());
            next.entry.deprecated = Some(replaced.clone());
            next.last_activation = Some(Done {
                id: order.id,
                kind: "import",
                automatic: false,
                at: now,
                revision: next.revision,
                activated: import.kid.clone(),
                replaced,
                purged: Vec::new(),
                unseen: Vec::new(),
            });
            next.results.retain(|kept| now < kept.done.at.plus(DAY));
        }
        next.keys.push(key);
        self.commit(next)?;
        Ok(Answer::Imported)
    }

    /// The schedule: retire, forget, rotate automatically.
    pub fn tick(&mut self, clock: Timestamp, names: &Names) -> Answer {
        either(self.try_tick(clock, names))
    }

    fn try_tick(&mut self, clock: Timestamp, names: &Names) -> Step {
        if self.uncertain {
            self.load(clock)?;
        }
        if self.next_due() > clock {
            return Ok(Answer::Ticked(self.next_due()));
        }
        let (book, now) = self.load(clock)?;
        let mut next = (*book).clone();
        let mut retired = Vec::new();
        let mut forgotten = false;
        for key in &mut next.keys {
            if key.is_tombstone() && key.forgotten_at.is_some_and(|at| now >= at) {
                key.stage = Stage::Gone;
                forgotten = true;
            } else if key.stage == Stage::Deprecated && key.verify_until.is_some_and(|at| now >= at)
            {
                key.stage = Stage::Retired;
                key.died_at = Some(now);
                key.died_revision = book.revision + 1;
                key.forgotten_at = key.verify_until.map(|at| at.plus(DAY));
                retired.push(key.kid.clone());
            }
        }
        if forgotten || !retired.is_empty() {
            retired.sort_unstable();
            next.revision += 1;
            next.entry = Entry {
                event: "retire",
                at: now,
                retired,
                ..Entry::default()
            };
            next.high_water = now;
            self.commit(next)?;
        }
        if self.next_rotation() <= clock {
            let order = Order {
                id: Uuid::nil(),
                actor: "",
                seen: None,
                claim: None,
            };
            self.try_rotate(&order, true, clock, names)?;
        }
        Ok(Answer::Ticked(self.next_due()))
    }

    /// A process starts over the store, with a longest token life time and an algorithm.
    pub fn start(
        &mut self,
        max_ttl: Duration,
        algorithm: Algorithm,
        clock: Timestamp,
        names: &Names,
    ) -> Answer {
        self.timing.max_token_ttl = max_ttl;
        self.algorithm = algorithm;
        // What the process that ended knew is gone, but for what tombstones tell.
        self.in_force = Rc::clone(&self.stored);
        let purged = self
            .stored
            .keys
            .iter()
            .filter(|key| key.stage == Stage::Purged);
        self.receipts = purged.filter_map(|key| key.purge).collect();
        either(self.try_start(clock, names))
    }

    fn try_start(&mut self, clock: Timestamp, names: &Names) -> Step {
        let (book, now) = self.load(clock)?;
        let longest = self.timing.max_token_ttl;
        if book.only(Stage::Active).max_ttl < longest {
            // Invariant 4: before the first longer token is signed.
            let mut next = (*book).clone();
            next.revision += 1;
            next.change(Stage::Active, |key| key.max_ttl = longest);
            next.change(Stage::Pending, |key| key.max_ttl = key.max_ttl.max(longest));
            next.entry = Entry {
                event: "raise_max_ttl",
                at: now,
                ..Entry::default()
            };
            next.high_water = now;
            self.commit(next)?;
        }
        let (book, now) = self.load(clock)?;
        if book.only(Stage::Pending).alg != self.algorithm {
            let mut next = (*book).clone();
            next.revision += 1;
            // It never signed: it goes without a trace.
            next.change(Stage::Pending, |key| key.stage = Stage::Gone);
            let fresh = self.fresh(&next, &names.pending, names, now);
            next.entry = Entry {
                event: "replace_pending",
                at: now,
                published: Some(fresh.kid.clone()),
                ..Entry::default()
            };
            next.keys.push(fresh);
            next.high_water = now;
            self.commit(next)?;
        }
        Ok(Answer::Started)
    }

    /// The store's clock never shows a moment before one at which the set was used.
    fn load(&mut self, clock: Timestamp) -> Result<(Rc<Book>, Timestamp), Answer> {
        if self.fault == Some(Fault::Load) {
            self.fault = None;
            return Err(Answer::StoreFailed);
        }
        if let Some(purge) = &self.stored.last_purge
            && purge.revision > self.in_force.revision
        {
            self.receipts.insert(purge.id);
        }
        self.put_in_force();
        self.uncertain = false;
        let now = clock.max(self.stored.high_water);
        Ok((Rc::clone(&self.stored), now))
    }

    fn commit(&mut self, next: Book) -> Result<(), Answer> {
        match self.fault.take() {
            Some(Fault::Before) => Err(Answer::StoreFailed),
            Some(Fault::After) => {
                self.stored = Rc::new(next);
                self.uncertain = true;
                Err(Answer::OutcomeUnknown)
            }
            // A lost race is run again; nobody else was there.
            Some(Fault::Race) | None => {
                self.stored = Rc::new(next);
                self.put_in_force();
                Ok(())
            }
            Some(Fault::Load) => unreachable!("every commit follows a load"),
        }
    }

    fn put_in_force(&mut self) {
        let before = &self.in_force.keys;
        let ends = |(at, key): &(usize, &Key)| {
            let was_alive = before.get(*at).is_some_and(Key::verifies);
            was_alive && key.stage == Stage::Purged
        };
        let keys = self.stored.keys.iter().enumerate();
        self.ended.extend(keys.filter(ends).map(|(at, _)| at));
        self.in_force = Rc::clone(&self.stored);
    }

    fn deprecate_active(&self, book: &mut Book, now: Timestamp) {
        book.change(Stage::Active, |key| {
            key.stage = Stage::Deprecated;
            key.deprecated_at = Some(now);
            key.verify_until = Some(span_end(&self.timing, now, key.max_ttl));
        });
    }

    fn activate_pending(&self, book: &mut Book, now: Timestamp) {
        let max_ttl = self.timing.max_token_ttl;
        book.change(Stage::Pending, |key| {
            key.stage = Stage::Active;
            key.activated_at = Some(now);
            key.max_ttl = max_ttl;
        });
    }

    fn fresh(
        &self,
        book: &Book,
        (kid, alg): &(Kid, Algorithm),
        names: &Names,
        now: Timestamp,
    ) -> Key {
        // A name that was not made in this step, or was there before, differs from everything that
        // the real thing could show; so the comparison that follows says it.
        let is_new = names.made.contains(kid) && book.keys.iter().all(|key| key.kid != *kid);
        let kid = if is_new && *alg == self.algorithm {
            kid.clone()
        } else {
            "not-a-new-key-of-the-configured-algorithm"
                .parse()
                .expect("a kid")
        };
        Key {
            half: kid.clone(),
            kid,
            alg: self.algorithm,
            stage: Stage::Pending,
            published_at: now,
            published_revision: book.revision,
            max_ttl: self.timing.max_token_ttl,
            imported: None,
            activated_at: None,
            deprecated_at: None,
            verify_until: None,
            died_at: None,
            died_revision: 0,
            forgotten_at: None,
            purge: None,
            undo: false,
        }
    }

    pub fn next_rotation(&self) -> Timestamp {
        let active = self.in_force.only(Stage::Active);
        let since = active.activated_at.expect("it is active");
        since.plus(self.timing.rotation_interval)
    }

    fn next_due(&self) -> Timestamp {
        let ends = self.in_force.keys.iter().filter_map(|key| match key.stage {
            Stage::Deprecated => key.verify_until,
            Stage::Retired | Stage::Purged => key.forgotten_at,
            Stage::Pending | Stage::Active | Stage::Gone => None,
        });
        ends.fold(self.next_rotation(), Timestamp::min)
    }

    /// Moments at which something changes.
    pub fn edges(&self) -> Vec<Timestamp> {
        let book = &self.in_force;
        let mut edges = vec![self.next_rotation()];
        if let Some(last) = &book.last_activation {
            edges.push(last.at.plus(self.timing.idempotency_window));
        }
        edges.push(
            book.only(Stage::Pending)
                .published_at
                .plus(self.timing.prepublish),
        );
        for key in book.keys.iter().filter(|key| key.stage != Stage::Gone) {
            edges.extend(key.verify_until);
            edges.extend(key.forgotten_at);
        }
        edges.extend(book.results.iter().map(|kept| kept.done.at.plus(DAY)));
        edges
    }
}

/// The last moment at which a key verifies that stops signing at `now` (§4, `verify_until`).
fn span_end(timing: &Timing, now: Timestamp, max_ttl: Duration) -> Timestamp {
    now.plus(timing.sign_drain)
        .plus(max_ttl)
        .plus(timing.leeway)
        .plus(timing.clock_offset_max)
}

fn purged<'a>(book: &'a Book, kid: &Kid) -> Result<&'a Key, Answer> {
    match book.named(kid) {
        Some(key) if key.stage == Stage::Purged => Ok(key),
        Some(_) => Err(Answer::Refused(Refused::NotPurged(kid.clone()))),
        None => Err(Answer::Refused(Refused::UnknownKid(kid.clone()))),
    }
}

fn living_results(book: &Book, now: Timestamp) -> impl Iterator<Item = &Kept> {
    let alive = move |kept: &&Kept| now < kept.done.at.plus(DAY);
    book.results.iter().filter(alive)
}

/// The answer that is kept under the caller's key.
fn recall(book: &Book, order: &Order, now: Timestamp) -> Result<Option<Done>, Answer> {
    let Some(claim) = &order.claim else {
        return Ok(None);
    };
    let same = |kept: &&Kept| kept.actor == order.actor && kept.claim.key == claim.key;
    match living_results(book, now).find(same) {
        None => Ok(None),
        Some(kept) if kept.claim.body == claim.body => Ok(Some(kept.done.clone())),
        Some(_) => Err(Answer::Refused(Refused::OtherBody)),
    }
}

/// "Only committed results, in the same CAS, at most 256 per actor": at the cap a purge runs
/// unstored.
fn keep(book: &mut Book, order: &Order, done: &Done, now: Timestamp) {
    book.results.retain(|kept| now < kept.done.at.plus(DAY));
    let own = |kept: &&Kept| kept.actor == order.actor;
    if let Some(claim) = &order.claim
        && book.results.iter().filter(own).count() < MOST_RESULTS
    {
        book.results.push(Kept {
            actor: order.actor,
            claim: claim.clone(),
            done: done.clone(),
        });
    }
}

fn refuse_ahead(book: &Book, seen: Option<u64>) -> Result<(), Answer> {
    match seen.filter(|seen| *seen > book.revision) {
        Some(seen) => Err(Answer::Refused(Refused::Ahead {
            seen,
            current: book.revision,
        })),
        None => Ok(()),
    }
}

fn refuse(refused: Refused) -> Step {
    Err(Answer::Refused(refused))
}

fn replayed(done: Done, receipt: bool) -> Answer {
    Answer::Rotated {
        changed: true,
        replayed: true,
        done,
        receipt,
    }
}

fn unchanged(done: Done, receipt: bool) -> Answer {
    Answer::Rotated {
        changed: false,
        replayed: false,
        done,
        receipt,
    }
}

fn either(step: Step) -> Answer {
    step.unwrap_or_else(|refused| refused)
}
