//! The memory of proven purged tokens: with it every token meets the same fate as without.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use std::sync::Arc;
use std::time::Duration;

use portcullis::clients::Revocations;
use portcullis::clock::Timestamp;
use portcullis::keygen::{FixtureKeys, KeyGenerator as _};
use portcullis::keys::timing::Timing;
use portcullis::keys::transition::{self, Order};
use portcullis::keys::{Actor, Algorithm, FreshKey, SealedPrivate, Trigger};
use portcullis::token::jose::{TokenSigner, install_crypto};
use portcullis::token::{ProvenTokens, RouteRules, VerificationKeys, verify};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use serde_json::json;
use uuid::Uuid;

const ISSUER: &str = "https://issuer.test";
const PURGED_AT: i64 = 1_800_000_000;

/// Two keys: one that was purged, and a stranger under its name.
struct World {
    plain: VerificationKeys,
    remembering: VerificationKeys,
    memory: Arc<ProvenTokens>,
    purged: TokenSigner,
    stranger: TokenSigner,
}

impl World {
    fn new() -> Self {
        install_crypto();
        let (stock, rng) = (FixtureKeys::new(), SystemRandom::new());
        let (timing, now) = (Timing::default(), Timestamp::from_seconds(PURGED_AT));
        let fresh = || {
            let key = stock.generate(Algorithm::Es256).unwrap();
            let sealed = SealedPrivate {
                kek: "test".to_owned(),
                sealed_at_revision: 0,
                data: String::new(),
            };
            let fresh = FreshKey {
                kid: key.kid.clone(),
                alg: Algorithm::Es256,
                jwk: key.jwk,
                sealed,
                created_at: now,
            };
            (fresh, key.private_pkcs8)
        };
        let (active, private) = fresh();
        let kid = active.kid.clone();
        let born = now.minus(Duration::from_secs(7200));
        let set = transition::bootstrap(ISSUER, active, fresh().0, &timing, Actor::Scheduler, born);
        let order = Order {
            id: Uuid::nil(),
            trigger: Trigger::Manual,
            actor: Actor::Scheduler,
            reason: None,
            seen_revision: None,
            claim: None,
        };
        let set = transition::purge_all(&set, fresh().0, fresh().0, &order, &timing, now).set;
        let ready = || VerificationKeys::new(&set, timing.leeway, Duration::from_secs(5)).unwrap();
        let memory = Arc::new(ProvenTokens::new());
        let signer = |pkcs8: &[u8]| TokenSigner::new(kid.clone(), Algorithm::Es256, pkcs8, &rng);
        Self {
            plain: ready(),
            remembering: ready().remembering(Arc::clone(&memory)),
            memory,
            purged: signer(&private).unwrap(),
            stranger: signer(&fresh().1).unwrap(),
        }
    }
}

#[derive(Clone, Debug)]
struct Sample {
    iat: i64,
    ttl: i64,
    audience: &'static str,
    issuer: &'static str,
    scope: &'static str,
    subject: Option<&'static str>,
    forged: bool,
    tampered: bool,
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        -4000..300_i64,
        prop_oneof![Just(3600_i64), Just(60), Just(0), Just(90_000)],
        prop_oneof![4 => Just("api"), 1 => Just("other")],
        prop_oneof![6 => Just(ISSUER), 1 => Just("https://else.test")],
        prop_oneof![Just("read"), Just("write"), Just("")],
        prop_oneof![6 => Just(Some("s")), 1 => Just(None)],
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
    );
    let one = one.prop_map(
        |(iat, ttl, audience, issuer, scope, subject, forged, tampered)| Sample {
            iat: PURGED_AT + iat,
            ttl,
            audience,
            issuer,
            scope,
            subject,
            forged,
            tampered,
        },
    );
    prop::collection::vec(one, 1..12)
}

impl Sample {
    fn token(&self, world: &World) -> String {
        let claims = json!({
            "iss": self.issuer, "sub": self.subject, "client_id": "c", "aud": self.audience,
            "scope": self.scope, "jti": "j", "iat": self.iat, "exp": self.iat + self.ttl,
        });
        let signer = if self.forged {
            &world.stranger
        } else {
            &world.purged
        };
        let mut token = signer
            .sign(claims.to_string().as_bytes(), &SystemRandom::new())
            .unwrap();
        if self.tampered {
            // Another payload, decodable too.
            let dot = token.find('.').unwrap();
            token.replace_range(dot + 1..dot + 5, "eyJ6");
        }
        token
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Each token many times, at different moments and on different routes: the same reason, key,
    /// client and alarm, whether it is known or not.
    #[test]
    fn inv15_a_known_purged_token_meets_the_fate_of_an_unknown_one(
        samples in samples(),
        asked in prop::collection::vec((any::<prop::sample::Index>(), -100..8000_i64, 0..3_usize), 40..120),
    ) {
        let world = World::new();
        let tokens: Vec<String> = samples.iter().map(|sample| sample.token(&world)).collect();
        let routes = [("api", "read"), ("api", "write"), ("other", "read")].map(|(audience, scope)| RouteRules {
            audiences: vec![audience.to_owned()],
            scopes_any: vec![scope.to_owned()],
            scopes_all: Vec::new(),
        });
        for (index, seconds, route) in asked {
            let (token, now) = (index.get(&tokens).as_bytes(), Timestamp::from_seconds(PURGED_AT + seconds));
            let fate = |keys| {
                let refused = verify(token, keys, &routes[route], &Revocations::default(), now).unwrap_err();
                (refused.rejection, refused.kid.cloned(), refused.tombstone, refused.client_id, refused.alarm)
            };
            prop_assert_eq!(fate(&world.remembering), fate(&world.plain));
        }
        let provable = samples.iter().filter(|s| !s.forged && !s.tampered && s.subject.is_some()).count();
        prop_assert!(world.memory.len() <= provable, "only what was proven is remembered");
    }
}

#[test]
fn a_purged_token_is_remembered_once_and_forgotten_with_its_death() {
    let world = World::new();
    let sample = Sample {
        iat: PURGED_AT - 10,
        ttl: 3600,
        audience: "api",
        issuer: ISSUER,
        scope: "read",
        subject: Some("s"),
        forged: false,
        tampered: false,
    };
    let (token, route) = (sample.token(&world), RouteRules::default());
    for _ in 0..3 {
        let now = Timestamp::from_seconds(PURGED_AT);
        assert!(
            verify(
                token.as_bytes(),
                &world.remembering,
                &route,
                &Revocations::default(),
                now
            )
            .is_err()
        );
    }
    assert_eq!(world.memory.len(), 1);
    world.memory.forget(2);
    assert!(world.memory.is_empty());
}
