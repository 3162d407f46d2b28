//! Keys, tokens and the moment that the targets share.

use std::sync::LazyLock;
use std::time::Duration;

use ring::rand::SystemRandom;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::keygen::{FixtureKeys, KeyGenerator as _};
use crate::keys::timing::Timing;
use crate::keys::transition::{self, Order};
use crate::keys::{Actor, Algorithm, FreshKey, KeySet, SealedPrivate, Trigger};
use crate::token::VerificationKeys;
use crate::token::jose::{TokenSigner, install_crypto};

pub(super) const ISSUER: &str = "https://issuer.test";
pub(super) const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// Keys and tokens that are the same in every run, but for the signatures of ES256.
pub(super) struct World {
    pub(super) live: VerificationKeys,
    pub(super) live_set: KeySet,
    /// The same keys after a purge.
    pub(super) purged: VerificationKeys,
    pub(super) purged_set: KeySet,
    /// Signs as the active key, whose algorithm is EdDSA.
    pub(super) active: TokenSigner,
    /// A good token by each live key.
    pub(super) tokens: Vec<String>,
}

pub(super) static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> Self {
        install_crypto();
        let (stock, rng, timing) = (FixtureKeys::new(), SystemRandom::new(), Timing::default());
        let fresh = |alg| {
            let key = stock.generate(alg).expect("a key");
            let signer = TokenSigner::new(key.kid.clone(), alg, &key.private_pkcs8, &rng);
            let fresh = FreshKey {
                kid: key.kid,
                alg,
                jwk: key.jwk,
                sealed: SealedPrivate {
                    kek: "fuzz".to_owned(),
                    sealed_at_revision: 0,
                    data: String::new(),
                },
                created_at: NOW,
            };
            (fresh, signer.expect("a signer"))
        };
        let order = Order {
            id: Uuid::nil(),
            trigger: Trigger::Manual,
            actor: Actor::Scheduler,
            reason: None,
            seen_revision: None,
            claim: None,
        };
        let (first, first_signer) = fresh(Algorithm::Es256);
        let (second, second_signer) = fresh(Algorithm::EdDsa);
        let (third, third_signer) = fresh(Algorithm::Rs256);
        let born = NOW.minus(Duration::from_secs(600));
        let set = transition::bootstrap(ISSUER, first, second, &timing, Actor::Scheduler, born);
        let set = transition::rotate(&set, third, &order, &timing, NOW).set;
        let (next, after) = (fresh(Algorithm::EdDsa).0, fresh(Algorithm::EdDsa).0);
        let dead = transition::purge_all(&set, next, after, &order, &timing, NOW).set;
        let ready = |set: &KeySet| {
            VerificationKeys::new(set, timing.leeway, Duration::from_secs(5)).expect("usable keys")
        };
        let payload = good_claims().to_string();
        let tokens = [&first_signer, &second_signer, &third_signer]
            .map(|signer| signer.sign(payload.as_bytes(), &rng).expect("a token"));
        Self {
            live: ready(&set),
            live_set: set,
            purged: ready(&dead),
            purged_set: dead,
            active: second_signer,
            tokens: tokens.to_vec(),
        }
    }
}

pub(super) fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "demo", "client_id": "demo", "aud": "api", "scope": "read write",
        "jti": "00000000-0000-4000-8000-000000000000",
        "iat": NOW.as_seconds() - 60, "exp": NOW.as_seconds() + 1800,
    })
}
