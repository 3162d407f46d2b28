//! Properties of the key life cycle over long random histories.
//!
//! Each test plays at least 10,000 interleaved steps (time, rotations, purges, stale purges,
//! retirements, configuration changes, token issues, JWKS answers) against the pure functions of
//! `keys::transition` and looks at every one of them. Tests are named after the invariants of the
//! design, section 5.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis::clients::Revocations;
use portcullis::clock::Timestamp;
use portcullis::keygen::{KeyGenerator as _, RingKeyGenerator};
use portcullis::keys::timing::{IsolationGrace, MAX_KEYS, Timing};
use portcullis::keys::transition::{self, Decision, Order, Refusal};
use portcullis::keys::{
    Actor, Algorithm, Event, FreshKey, KeySet, Kid, SealedPrivate, Trigger, jwks,
};
use portcullis::token::issue::{Grant, mint};
use portcullis::token::jose::{TokenSigner, install_crypto};
use portcullis::token::{Rejection, RouteRules, VerificationKeys, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ring::rand::SystemRandom;
use uuid::Uuid;

const ISSUER: &str = "https://issuer.test";

/// Histories of one test, and steps of one history: more than 10,000 in all.
const HISTORIES: u32 = 48;
const STEPS: usize = 220;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// Time passes.
    Wait(u64),
    /// Time passes until just before, at or just after something is due.
    WaitForNext(i8),
    Rotate,
    /// A purge by somebody who looked this many revisions ago.
    Purge(u64),
    /// What the schedule does: retire, then rotate when that is due.
    Tick,
    /// A token with this part (in 255ths) of the longest life time.
    Issue(u8),
    /// A verifier fetches the JWKS.
    Fetch,
    ReplacePending,
    RaiseMaxTtl(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0_u64..3_000).prop_map(Op::Wait),
        1 => (0_u64..120_000).prop_map(Op::Wait),
        3 => (-1_i8..=1).prop_map(Op::WaitForNext),
        5 => Just(Op::Rotate),
        1 => (0_u64..4).prop_map(Op::Purge),
        4 => Just(Op::Tick),
        5 => any::<u8>().prop_map(Op::Issue),
        2 => Just(Op::Fetch),
        1 => Just(Op::ReplacePending),
        1 => any::<u8>().prop_map(Op::RaiseMaxTtl),
    ]
}

/// Rare purges leave room for long chains of rotations; many keep the set small.
fn history() -> impl Strategy<Value = (u8, Vec<Op>)> {
    let calm = op().prop_map(|op| match op {
        Op::Purge(_) | Op::ReplacePending => Op::Rotate,
        other => other,
    });
    prop_oneof![
        2 => (0_u8..3, proptest::collection::vec(op(), STEPS)),
        1 => (0_u8..3, proptest::collection::vec(calm, STEPS)),
    ]
}

/// Defaults, the fast timings of `conf/test-fast.yaml`, and a group of replicas.
fn timing(which: u8) -> Timing {
    let ms = Duration::from_millis;
    let fast = Timing {
        max_token_ttl: ms(50_000),
        leeway: ms(0),
        jwks_max_age: ms(0),
        prepublish: ms(500),
        idempotency_window: ms(800),
        rotation_interval: ms(2_000),
        replica_lease: ms(200),
        heartbeat: ms(50),
        barrier_timeout: ms(300),
        isolation_grace: IsolationGrace::For(ms(1_000)),
        sign_drain: ms(1_500),
        clock_offset_max: ms(1_000),
        replicated: true,
    };
    let timing = match which {
        0 => fast,
        1 => Timing {
            max_token_ttl: ms(5_000),
            leeway: ms(1_000),
            jwks_max_age: ms(200),
            prepublish: ms(700),
            ..fast
        },
        _ => Timing {
            rotation_interval: ms(20 * 60_000),
            ..Timing::default()
        },
    };
    timing.check().expect("sound timings");
    timing
}

/// What a step did to the key set.
#[derive(Clone, Debug, PartialEq)]
enum Did {
    Nothing,
    Rotated,
    Purged,
    Unchanged(Uuid),
    Refused(Refusal),
    Retired,
    Replaced,
    Raised,
}

struct Token {
    compact: String,
    kid: Kid,
    /// From then on it has run out, leeway included.
    ends_at: Timestamp,
}

struct Cached {
    until: Timestamp,
    body: Vec<u8>,
}

/// The key set and everything that the world knows of it.
struct World {
    timing: Timing,
    now: Timestamp,
    set: KeySet,
    /// Private halves by kid, the dead ones too: an attacker keeps what was leaked.
    private: BTreeMap<Kid, (Algorithm, Vec<u8>)>,
    tokens: Vec<Token>,
    purged: BTreeSet<Kid>,
    cached: Vec<Cached>,
    /// Every kid that there ever was.
    known: BTreeSet<Kid>,
}

/// One step, seen from both sides.
struct Step<'a> {
    op: Op,
    did: &'a Did,
    before: &'a KeySet,
    world: &'a World,
}

impl World {
    fn new(timing: Timing) -> Self {
        install_crypto();
        let mut private = BTreeMap::new();
        let now = Timestamp::from_millis(1_800_000_000_123);
        let (active, pending) = (fresh(&mut private, now), fresh(&mut private, now));
        let set = transition::bootstrap(ISSUER, active, pending, &timing, Actor::Scheduler, now);
        let known = private.keys().cloned().collect();
        let (tokens, purged, cached) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self {
            timing,
            now,
            set,
            private,
            tokens,
            purged,
            cached,
            known,
        }
    }

    fn fresh(&mut self) -> FreshKey {
        let fresh = fresh(&mut self.private, self.now);
        assert!(self.known.insert(fresh.kid.clone()));
        fresh
    }

    fn step(&mut self, op: Op) -> Did {
        match op {
            Op::Wait(ms) => self.now = self.now.plus(Duration::from_millis(ms)),
            Op::WaitForNext(offset) => {
                let due = transition::next_due(&self.set, &self.timing);
                let near = Timestamp::from_millis(due.as_millis() + i64::from(offset));
                // Not across hours: the next end of a tombstone may be a week away.
                if near.since(self.now) < Duration::from_secs(2 * 3600) {
                    self.now = self.now.max(near);
                }
            }
            Op::Rotate => return self.rotate(Trigger::Manual),
            Op::Purge(ago) => return self.purge(self.set.revision.saturating_sub(ago)),
            Op::Tick => {
                let retired = transition::retire(&self.set, self.now);
                if let Some(set) = retired {
                    self.set = set;
                    return Did::Retired;
                }
                if transition::next_rotation_at(&self.set, &self.timing) <= self.now {
                    return self.rotate(Trigger::Automatic);
                }
            }
            Op::Issue(part) => self.issue(part),
            Op::Fetch => {
                let until = self
                    .now
                    .plus(jwks::max_age(&self.set, &self.timing, self.now));
                self.cached.push(Cached {
                    until,
                    body: jwks::document(&self.set),
                });
            }
            Op::ReplacePending => {
                let fresh = self.fresh();
                self.set = transition::replace_pending(
                    &self.set,
                    fresh,
                    &self.timing,
                    Actor::Scheduler,
                    self.now,
                );
                return Did::Replaced;
            }
            Op::RaiseMaxTtl(seconds) => {
                let max_ttl =
                    self.set.active.public.max_ttl + Duration::from_millis(u64::from(seconds) * 63);
                let max_ttl = max_ttl.min(Duration::from_secs(7200));
                match transition::raise_max_ttl(&self.set, max_ttl, Actor::Scheduler, self.now) {
                    Some(set) => self.set = set,
                    None => return Did::Nothing,
                }
                self.timing.max_token_ttl = max_ttl;
                return Did::Raised;
            }
        }
        Did::Nothing
    }

    fn rotate(&mut self, trigger: Trigger) -> Did {
        match transition::decide_rotate(&self.set, &self.timing, None, self.now) {
            Err(refusal) => Did::Refused(refusal),
            Ok(Decision::Unchanged(earlier)) => Did::Unchanged(earlier.id),
            Ok(Decision::Execute) => {
                let fresh = self.fresh();
                let next =
                    transition::rotate(&self.set, fresh, &order(trigger), &self.timing, self.now);
                assert_eq!(next.set.last_activation.as_ref(), Some(&next.activation));
                self.set = next.set;
                Did::Rotated
            }
        }
    }

    fn purge(&mut self, seen: u64) -> Did {
        match transition::decide_purge(&self.set, seen) {
            Err(refusal) => Did::Refused(refusal),
            Ok(Decision::Unchanged(earlier)) => Did::Unchanged(earlier.id),
            Ok(Decision::Execute) => {
                self.purged
                    .extend(self.set.verifying().map(|(_, key)| key.kid.clone()));
                let (active, pending) = (self.fresh(), self.fresh());
                let order = order(Trigger::Manual);
                self.set = transition::purge_all(
                    &self.set,
                    active,
                    pending,
                    &order,
                    &self.timing,
                    self.now,
                )
                .set;
                Did::Purged
            }
        }
    }

    fn issue(&mut self, part: u8) {
        let key = &self.set.active.public;
        let ttl = key
            .max_ttl
            .mul_f64(f64::from(part) / 255.0)
            .max(Duration::from_secs(1))
            .min(key.max_ttl);
        let ttl = Duration::from_secs(ttl.as_secs());
        let compact = self.mint(&key.kid, ttl);
        let ends_at = Timestamp::from_seconds(self.now.as_seconds())
            .plus(ttl)
            .plus(self.timing.leeway);
        let kid = key.kid.clone();
        if self.tokens.len() >= 24 {
            self.tokens.retain(|token| self.now < token.ends_at);
            self.tokens.truncate(24);
        }
        self.tokens.push(Token {
            compact,
            kid,
            ends_at,
        });
    }

    fn mint(&self, kid: &Kid, ttl: Duration) -> String {
        let (alg, pkcs8) = &self.private[kid];
        let rng = SystemRandom::new();
        let signer = TokenSigner::new(kid.clone(), *alg, pkcs8, &rng).expect("a signer");
        let grant = Grant {
            issuer: ISSUER,
            client_id: "c",
            audience: &["api".to_owned()],
            scope: "read",
            ttl,
            token_id: Uuid::nil(),
        };
        mint(&signer, &grant, self.now, &rng).expect("a token")
    }

    fn keys(&self) -> VerificationKeys {
        let slack = self.timing.sign_drain + self.timing.clock_offset_max;
        VerificationKeys::new(&self.set, self.timing.leeway, slack).expect("usable keys")
    }

    fn verify(
        &self,
        keys: &VerificationKeys,
        token: &str,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        let route = RouteRules {
            audiences: vec!["api".to_owned()],
            ..RouteRules::default()
        };
        verify(token.as_bytes(), keys, &route, &Revocations::default(), now)
            .map(|_| ())
            .map_err(|refused| refused.rejection)
    }
}

fn fresh(private: &mut BTreeMap<Kid, (Algorithm, Vec<u8>)>, now: Timestamp) -> FreshKey {
    // Ed25519: making a key and checking a signature are cheapest, and nothing here depends on it.
    let key = RingKeyGenerator.generate(Algorithm::EdDsa).expect("a key");
    private.insert(key.kid.clone(), (key.alg, key.private_pkcs8.to_vec()));
    let sealed = SealedPrivate {
        kek: "test".to_owned(),
        sealed_at_revision: 0,
        data: key.kid.to_string(),
    };
    FreshKey {
        kid: key.kid,
        alg: key.alg,
        jwk: key.jwk,
        sealed,
        created_at: now,
    }
}

fn order(trigger: Trigger) -> Order {
    Order {
        id: Uuid::new_v4(),
        trigger,
        actor: Actor::Admin("test".to_owned()),
        reason: Some("a test".to_owned()),
        seen_revision: None,
        claim: None,
    }
}

/// Plays random histories and has `check` look at each step.
fn explore(check: impl Fn(&Step<'_>) -> Result<(), TestCaseError>) {
    let steps = std::cell::Cell::new(0_usize);
    let config = Config {
        cases: HISTORIES,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&history(), |(which, ops)| {
        let mut world = World::new(timing(which));
        for op in ops {
            let before = world.set.clone();
            let did = world.step(op);
            check(&Step {
                op,
                did: &did,
                before: &before,
                world: &world,
            })?;
            steps.set(steps.get() + 1);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(steps.get() >= 10_000, "only {} steps", steps.get());
}

fn kids(set: &KeySet) -> BTreeSet<Kid> {
    set.verifying().map(|(_, key)| key.kid.clone()).collect()
}

fn document(set: &KeySet) -> serde_json::Value {
    serde_json::to_value(set).expect("it serialises")
}

fn in_state(document: &serde_json::Value, state: &str) -> Vec<String> {
    let keys = document["keys"].as_array().expect("keys");
    let of_state = keys.iter().filter(|key| key["state"] == state);
    of_state
        .map(|key| key["kid"].as_str().expect("a kid").to_owned())
        .collect()
}

#[test]
fn inv01_every_revision_has_exactly_one_active_and_one_pending_key() {
    explore(|step| {
        let stored = document(&step.world.set);
        prop_assert_eq!(in_state(&stored, "active").len(), 1);
        prop_assert_eq!(in_state(&stored, "pending").len(), 1);
        let all = step.world.set.len() + step.world.set.tombstones.len();
        let distinct: BTreeSet<&Kid> = step
            .world
            .set
            .tombstones
            .iter()
            .map(|dead| &dead.kid)
            .collect();
        prop_assert_eq!(
            kids(&step.world.set).len() + distinct.len(),
            all,
            "a kid occurs twice"
        );
        Ok(())
    });
}

#[test]
fn inv01_a_document_with_two_active_keys_or_none_is_no_key_set() {
    let stored = document(&World::new(timing(2)).set);
    let broken = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut document = stored.clone();
        change(document["keys"].as_array_mut().expect("keys"));
        serde_json::from_value::<KeySet>(document)
            .expect_err("not a key set")
            .to_string()
    };
    let third = |state: &str| {
        broken(&|keys| {
            let mut key = keys[1].clone();
            key["kid"] = "another".into();
            key["state"] = state.into();
            keys.push(key);
        })
    };
    assert!(third("pending").contains("exactly one pending"));
    let two_active = third("active");
    assert!(two_active.contains("exactly one"), "{two_active}");
    assert!(broken(&|keys| drop(keys.remove(1))).contains("exactly one active"));
    assert!(broken(&|keys| drop(keys.remove(0))).contains("exactly one pending"));
    assert!(broken(&|keys| keys.push(keys[0].clone())).contains("occurs twice"));
    assert!(
        broken(&|keys| keys[1]["sealed_private"] = serde_json::Value::Null)
            .contains("sealed_private")
    );
}

#[test]
fn inv03_rotation_breaks_no_token_before_it_has_run_out() {
    explore(|step| {
        let world = step.world;
        // Looking at every token after every step would only repeat the looks of the step before.
        if !matches!(
            step.op,
            Op::Rotate | Op::Tick | Op::WaitForNext(_) | Op::Purge(_)
        ) {
            return Ok(());
        }
        let keys = world.keys();
        for token in world
            .tokens
            .iter()
            .filter(|token| !world.purged.contains(&token.kid))
        {
            let accepted = world.verify(&keys, &token.compact, world.now).is_ok();
            prop_assert_eq!(
                accepted,
                world.now < token.ends_at,
                "{:?} {:?}",
                step.op,
                step.did
            );
            // To the last millisecond, as long as nobody retires the key meanwhile.
            let last = Timestamp::from_millis(token.ends_at.as_millis() - 1);
            if world.now < token.ends_at {
                prop_assert_eq!(world.verify(&keys, &token.compact, last), Ok(()));
                prop_assert_eq!(
                    world.verify(&keys, &token.compact, token.ends_at),
                    Err(Rejection::Expired)
                );
            }
        }
        Ok(())
    });
}

#[test]
fn inv04_no_key_signs_what_it_cannot_outlive() {
    explore(|step| {
        let world = step.world;
        prop_assert!(world.set.active.public.max_ttl >= world.timing.max_token_ttl);
        for token in &world.tokens {
            let deprecated = world
                .set
                .deprecated
                .iter()
                .find(|key| key.public.kid == token.kid);
            if let Some(key) = deprecated {
                prop_assert!(token.ends_at <= key.verify_until);
            }
        }
        for key in &world.set.deprecated {
            // A replica that has not seen the commit signs on for sign_drain, its clock ahead by k.
            let last = key
                .deprecated_at
                .plus(world.timing.sign_drain)
                .plus(world.timing.clock_offset_max);
            prop_assert!(
                last.plus(key.public.max_ttl).plus(world.timing.leeway) <= key.verify_until
            );
            let earlier = step
                .before
                .deprecated
                .iter()
                .find(|old| old.public.kid == key.public.kid);
            prop_assert!(
                earlier.is_none_or(|old| old == key),
                "verify_until is stored, never recomputed"
            );
        }
        Ok(())
    });
}

#[test]
fn inv08_nothing_survives_a_purge() {
    explore(|step| {
        let world = step.world;
        let stored = document(&world.set);
        let sealed: BTreeSet<String> = stored["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .filter(|key| !key["sealed_private"].is_null())
            .map(|key| key["kid"].as_str().expect("a kid").to_owned())
            .collect();
        let signing =
            [&world.set.active.public.kid, &world.set.pending.public.kid].map(ToString::to_string);
        prop_assert_eq!(sealed, signing.into_iter().collect::<BTreeSet<_>>());
        // inv07: once purged, never alive again.
        prop_assert!(kids(&world.set).is_disjoint(&world.purged));
        if *step.did != Did::Purged {
            return Ok(());
        }
        let jwks = String::from_utf8(jwks::document(&world.set)).expect("JSON");
        let text = stored.to_string();
        let keys = world.keys();
        for kid in kids(step.before) {
            prop_assert!(!jwks.contains(kid.as_str()), "a dead key is in JWKS");
            // `fresh` seals with the kid as data: it stands there once if only a tombstone is left.
            let private = format!("\"data\":\"{kid}\"");
            prop_assert!(
                !text.contains(&private),
                "a dead key's private half is stored"
            );
            // Signed by a thief now, with the leaked private half of any earlier key.
            let forged = world.mint(&kid, Duration::from_secs(1));
            prop_assert!(world.verify(&keys, &forged, world.now).is_err());
        }
        for token in &world.tokens {
            prop_assert!(world.verify(&keys, &token.compact, world.now).is_err());
        }
        prop_assert_eq!(world.set.len(), 2);
        Ok(())
    });
}

#[test]
fn inv09_a_purge_of_what_is_seen_always_executes() {
    explore(|step| {
        if let Op::Purge(ago) = step.op {
            let seen = step.before.revision.saturating_sub(ago);
            let alive = step
                .before
                .verifying()
                .any(|(_, key)| key.published_revision <= seen);
            let expected = alive || step.before.last_purge.is_none();
            prop_assert_eq!(*step.did == Did::Purged, expected);
            if ago == 0 {
                prop_assert_eq!(
                    step.did,
                    &Did::Purged,
                    "neither window nor fullness swallows it"
                );
            }
            if let Did::Unchanged(id) = step.did {
                prop_assert_eq!(
                    Some(*id),
                    step.before.last_purge.as_ref().map(|purge| purge.id)
                );
            }
        }
        let ahead = transition::decide_purge(&step.world.set, step.world.set.revision + 1);
        let refused = matches!(ahead, Err(Refusal::RevisionAhead { .. }));
        prop_assert!(refused);
        Ok(())
    });
}

#[test]
fn inv10_rotate_is_idempotent_for_the_window() {
    explore(|step| {
        let (world, set) = (step.world, &step.world.set);
        let inside = |at: Timestamp| transition::decide_rotate(set, &world.timing, None, at);
        if let Some(last) = &set.last_activation {
            let end = last.at.plus(world.timing.idempotency_window);
            let last_moment = Timestamp::from_millis(end.as_millis() - 1);
            // A backward jump of the clock neither reopens nor prolongs the window.
            for at in [last.at, last_moment, Timestamp::from_millis(0)] {
                prop_assert_eq!(inside(at), Ok(Decision::Unchanged(Box::new(last.clone()))));
            }
            prop_assert!(!matches!(inside(end), Ok(Decision::Unchanged(_))));
        }
        match step.did {
            Did::Unchanged(_) | Did::Refused(_) | Did::Nothing => {
                prop_assert_eq!(step.before, set, "changed nothing");
                prop_assert_eq!(jwks::document(step.before), jwks::document(set));
            }
            Did::Rotated => {
                let last = step.before.last_activation.as_ref();
                let open = last
                    .is_some_and(|last| world.now < last.at.plus(world.timing.idempotency_window));
                prop_assert!(!open, "rotated inside the window");
            }
            _ => {}
        }
        if let (Op::Rotate, Did::Unchanged(id)) = (step.op, step.did) {
            prop_assert_eq!(
                Some(*id),
                step.before.last_activation.as_ref().map(|last| last.id)
            );
        }
        Ok(())
    });
}

#[test]
fn inv11_a_rotated_in_key_is_in_every_jwks_answer_that_can_still_be_cached() {
    explore(|step| {
        if *step.did != Did::Rotated {
            return Ok(());
        }
        let (now, activated) = (step.world.now, &step.world.set.active.public);
        let from_the_start = activated.published_revision == 1;
        prop_assert!(
            from_the_start || now >= activated.published_at.plus(step.world.timing.prepublish)
        );
        for cached in step.world.cached.iter().filter(|cached| now < cached.until) {
            let body = std::str::from_utf8(&cached.body).expect("JSON");
            prop_assert!(
                body.contains(activated.kid.as_str()),
                "a verifier does not know the key that signs"
            );
        }
        Ok(())
    });
}

#[test]
fn inv18_tombstones_outlive_the_longest_token_of_their_key() {
    explore(|step| {
        let world = step.world;
        let alive = |kid: &Kid| world.set.knows(kid);
        for dead in &world.set.tombstones {
            let last = world
                .tokens
                .iter()
                .filter(|token| token.kid == dead.kid)
                .map(|token| token.ends_at)
                .max();
            prop_assert!(last.is_none_or(|last| last <= dead.tombstone_until));
            prop_assert!(dead.verify_until <= dead.tombstone_until);
        }
        for token in world.tokens.iter().filter(|token| !alive(&token.kid)) {
            prop_assert!(
                world.now >= token.ends_at,
                "its key was forgotten before it ran out"
            );
        }
        for kid in kids(step.before) {
            prop_assert!(
                alive(&kid) || *step.did == Did::Replaced,
                "a key went without a tombstone"
            );
        }
        Ok(())
    });
}

#[test]
fn the_revision_grows_by_one_with_every_change_and_names_its_event() {
    explore(|step| {
        let (before, after) = (step.before, &step.world.set);
        let grown = after.revision - before.revision;
        let changed = matches!(
            step.did,
            Did::Rotated | Did::Purged | Did::Retired | Did::Replaced | Did::Raised
        );
        prop_assert_eq!(grown, u64::from(changed));
        prop_assert_eq!(after.last_event.revision, after.revision);
        let event = match step.did {
            Did::Rotated => Some(Event::Rotate),
            Did::Purged => Some(Event::RotateAndPurge),
            Did::Retired => Some(Event::Retire),
            Did::Replaced => Some(Event::ReplacePending),
            Did::Raised => Some(Event::RaiseMaxTtl),
            Did::Nothing | Did::Unchanged(_) | Did::Refused(_) => None,
        };
        prop_assert!(event.is_none_or(|event| event == after.last_event.event));
        if matches!(step.did, Did::Rotated | Did::Purged) {
            let record = &after.last_event;
            prop_assert!(record.event_id.is_some() && record.at == step.world.now);
            let is_scheduled = record.actor == Actor::Scheduler;
            prop_assert!(is_scheduled || record.reason.as_deref() == Some("a test"));
        }
        prop_assert!(after.high_water_time >= before.high_water_time);
        Ok(())
    });
}

#[test]
fn a_recovered_key_set_is_a_revision_of_its_own() {
    let mut world = World::new(timing(1));
    let (before, later) = (world.set.clone(), world.now.plus(Duration::from_secs(60)));
    for keep in [None, Some(&[] as &[Kid])] {
        let fresh = (world.fresh(), world.fresh());
        let order = order(Trigger::Manual);
        let after = transition::recover(&before, 7, keep, fresh, &order, &world.timing, later);
        assert_eq!(after.revision, 8, "above what is known to have been stored");
        assert_eq!(after.high_water_time, later);
        let record = &after.last_event;
        assert_eq!((record.revision, record.at), (8, later));
        assert_eq!(record.event, Event::Recover);
        assert_eq!(record.event_id, Some(order.id));
        assert_eq!(record.reason.as_deref(), Some("a test"));
        let survives = keep.is_some();
        assert_eq!(kids(&before).is_subset(&kids(&after)), survives);
        assert_eq!(kids(&before).is_disjoint(&kids(&after)), !survives);
    }
}

#[test]
fn keys_that_are_sealed_anew_are_a_revision_of_their_own() {
    let world = World::new(timing(1));
    let (before, later) = (&world.set, world.now.plus(Duration::from_secs(60)));
    let sealed = |kek: &str| SealedPrivate {
        kek: kek.to_owned(),
        ..before.active.sealed.clone()
    };
    let order = order(Trigger::Manual);
    let after = transition::reseal(before, (sealed("one"), sealed("two")), &order, later);
    assert_eq!((after.revision, after.last_event.revision), (2, 2));
    assert_eq!((after.high_water_time, after.last_event.at), (later, later));
    assert_eq!(after.last_event.event, Event::Reseal);
    assert_eq!(after.last_event.reason.as_deref(), Some("a test"));
    assert_eq!(
        (&after.active.sealed, &after.pending.sealed),
        (&sealed("one"), &sealed("two"))
    );
    assert_eq!(kids(before), kids(&after));
}

#[test]
fn a_kid_is_at_most_128_printable_characters() {
    let longest = "k".repeat(128);
    for good in ["k", "a/b+c=", "~!#", &longest] {
        assert_eq!(good.parse::<Kid>().expect("a kid").as_str(), good);
    }
    let too_long = ["k".repeat(129), "k".repeat(1000)];
    let bad = ["", "a b", "a\"b", "a\\b", "\u{e9}", "a\n", "\u{7f}"];
    for bad in bad.into_iter().chain(too_long.iter().map(String::as_str)) {
        assert!(bad.parse::<Kid>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_key_set_survives_being_stored() {
    explore(|step| {
        let bytes = serde_json::to_vec(&step.world.set).expect("it serialises");
        let parsed: KeySet = serde_json::from_slice(&bytes).expect("it parses");
        prop_assert_eq!(&parsed, &step.world.set);
        prop_assert_eq!(serde_json::to_vec(&parsed).expect("it serialises"), bytes);
        Ok(())
    });
}

#[test]
fn a_full_key_set_refuses_to_rotate_and_drops_nothing() {
    explore(|step| {
        prop_assert!(step.world.set.len() <= MAX_KEYS);
        Ok(())
    });
    // Rotations by hand at every end of the window, with the timings that allow the most of them.
    let mut world = World::new(timing(0));
    for _ in 2..MAX_KEYS {
        assert_eq!(world.step(Op::Rotate), Did::Rotated);
        world.step(Op::Wait(800));
    }
    let full = world.set.clone();
    assert_eq!(
        world.step(Op::Rotate),
        Did::Refused(Refusal::KeySetFull(MAX_KEYS))
    );
    assert_eq!(world.set, full);
    // Once the oldest key retires, a rotation fits again.
    world.now = world
        .set
        .deprecated
        .last()
        .expect("deprecated keys")
        .verify_until;
    assert_eq!(world.step(Op::Tick), Did::Retired);
    assert_eq!(world.step(Op::Rotate), Did::Rotated);
    // A purge is always allowed.
    let mut world = World { set: full, ..world };
    assert_eq!(world.step(Op::Purge(0)), Did::Purged);
}
