//! What a token costs: verifying it by algorithm, key state and size of the key set, refusing it,
//! and issuing one. Pure functions, no socket.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark ends by panicking; criterion's macros make undocumented functions"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis::clients::Revocations;
use portcullis::clock::Timestamp;
use portcullis::keygen::{FixtureKeys, KeyGenerator as _};
use portcullis::keys::timing::Timing;
use portcullis::keys::transition::{self, Order};
use portcullis::keys::{Actor, Algorithm, FreshKey, KeySet, SealedPrivate, Trigger};
use portcullis::token::issue::{Grant, mint};
use portcullis::token::jose::{TokenSigner, install_crypto};
use portcullis::token::{
    Accepted, CacheLimits, ProvenTokens, Refused, Rejection, RouteRules, TokenCaches,
    VerificationKeys, verify,
};
use ring::rand::SystemRandom;
use uuid::Uuid;

const ISSUER: &str = "https://issuer.test";

/// A key set with the signers of all its keys.
struct Keys {
    alg: Algorithm,
    stock: FixtureKeys,
    timing: Timing,
    now: Timestamp,
    set: KeySet,
    signers: Vec<TokenSigner>,
}

impl Keys {
    fn new(alg: Algorithm) -> Self {
        install_crypto();
        let (stock, now, mut signers) = (
            FixtureKeys::new(),
            Timestamp::from_seconds(1_800_000_000),
            Vec::new(),
        );
        let (active, pending) = (
            fresh(alg, &stock, &mut signers, now),
            fresh(alg, &stock, &mut signers, now),
        );
        let timing = Timing::default();
        let set = transition::bootstrap(ISSUER, active, pending, &timing, Actor::Scheduler, now);
        Self {
            alg,
            stock,
            timing,
            now,
            set,
            signers,
        }
    }

    fn order() -> Order {
        Order {
            id: Uuid::nil(),
            trigger: Trigger::Manual,
            actor: Actor::Scheduler,
            reason: None,
            seen_revision: None,
            claim: None,
        }
    }

    fn rotate(&mut self) {
        let fresh = fresh(self.alg, &self.stock, &mut self.signers, self.now);
        self.set = transition::rotate(&self.set, fresh, &Self::order(), &self.timing, self.now).set;
    }

    fn purge(&mut self) {
        let active = fresh(self.alg, &self.stock, &mut self.signers, self.now);
        let pending = fresh(self.alg, &self.stock, &mut self.signers, self.now);
        self.set = transition::purge_all(
            &self.set,
            active,
            pending,
            &Self::order(),
            &self.timing,
            self.now,
        )
        .set;
    }

    fn ready(&self) -> VerificationKeys {
        VerificationKeys::new(&self.set, self.timing.leeway, Duration::from_secs(5))
            .expect("usable keys")
    }

    /// A token by the key of this number, in the order of their making.
    fn token(&self, key: usize) -> String {
        let signer = self.signers.get(key).expect("a key");
        mint(
            signer,
            &grant(&["api".to_owned()]),
            self.now,
            &SystemRandom::new(),
        )
        .expect("a token")
    }
}

fn fresh(
    alg: Algorithm,
    stock: &FixtureKeys,
    signers: &mut Vec<TokenSigner>,
    now: Timestamp,
) -> FreshKey {
    let key = stock.generate(alg).expect("a key");
    let signer = TokenSigner::new(
        key.kid.clone(),
        alg,
        &key.private_pkcs8,
        &SystemRandom::new(),
    );
    signers.push(signer.expect("a signer"));
    let sealed = SealedPrivate {
        kek: "bench".to_owned(),
        sealed_at_revision: 0,
        data: String::new(),
    };
    FreshKey {
        kid: key.kid,
        alg,
        jwk: key.jwk,
        sealed,
        created_at: now,
    }
}

fn grant(audience: &[String]) -> Grant<'_> {
    Grant {
        issuer: ISSUER,
        client_id: "demo",
        audience,
        scope: "read write",
        ttl: Duration::from_secs(3600),
        token_id: Uuid::nil(),
    }
}

fn route() -> RouteRules {
    RouteRules {
        audiences: vec!["api".to_owned()],
        scopes_any: vec!["read".to_owned(), "write".to_owned()],
        scopes_all: Vec::new(),
    }
}

/// No client is revoked; the token is hidden from the optimiser.
fn judge<'k>(
    token: &str,
    keys: &'k VerificationKeys,
    route: &RouteRules,
    now: Timestamp,
) -> Result<Accepted<'k>, Refused<'k>> {
    verify(
        black_box(token.as_bytes()),
        keys,
        route,
        &Revocations::default(),
        now,
    )
}

fn verify_by_algorithm_and_state(c: &mut Criterion) {
    let mut group = c.benchmark_group("verify");
    for alg in Algorithm::ALL {
        let mut keys = Keys::new(alg);
        keys.rotate();
        // By now: key 0 deprecated, key 1 active, key 2 pending.
        for (state, key) in [("deprecated", 0), ("active", 1), ("pending", 2)] {
            let (token, ready, route) = (keys.token(key), keys.ready(), route());
            group.bench_function(BenchmarkId::new(alg.as_str(), state), |b| {
                b.iter(|| judge(&token, &ready, &route, keys.now).expect("accepted"));
            });
        }
        let token = keys.token(1);
        // A client that comes again with the same token.
        let caches = TokenCaches::new(CacheLimits::default());
        let (ready, rules) = (keys.ready().caching(&caches), route());
        let first = judge(&token, &ready, &rules, keys.now).expect("accepted");
        assert!(!first.cached);
        group.bench_function(BenchmarkId::new(alg.as_str(), "cached"), |b| {
            b.iter(|| judge(&token, &ready, &rules, keys.now).expect("accepted"));
        });
        keys.purge();
        let (ready, route) = (keys.ready(), rules);
        group.bench_function(BenchmarkId::new(alg.as_str(), "purged"), |b| {
            b.iter(|| {
                let refused = judge(&token, &ready, &route, keys.now).expect_err("refused");
                assert_eq!(refused.rejection, Rejection::KeyPurged);
            });
        });
        // A client that goes on retrying.
        let ready = keys.ready().remembering(Arc::new(ProvenTokens::new()));
        group.bench_function(BenchmarkId::new(alg.as_str(), "purged, known"), |b| {
            b.iter(|| {
                let refused = judge(&token, &ready, &route, keys.now).expect_err("refused");
                assert_eq!(refused.rejection, Rejection::KeyPurged);
            });
        });
    }
    group.finish();
}

/// Refusals must not cost more than acceptances, nor the size of the key set anything.
fn verify_hostile_and_crowded(c: &mut Criterion) {
    let mut group = c.benchmark_group("refuse");
    let keys = Keys::new(Algorithm::Es256);
    let (good, ready, route) = (keys.token(0), keys.ready(), route());
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    let another = keys.token(1);
    let (_, another) = another.rsplit_once('.').expect("a signature");
    let swapped = format!("{signed}.{another}");
    let zeros = format!("{signed}.{}", "A".repeat(86));
    let unknown = Keys {
        signers: Keys::new(Algorithm::EdDsa).signers,
        ..Keys::new(Algorithm::EdDsa)
    }
    .token(0);
    let dots = ".".repeat(8192);
    // As long as a token may be, and nothing wrong until its header is not JSON.
    let garbage = format!(
        "{}.{}.{}",
        "A".repeat(2728),
        "A".repeat(2728),
        "A".repeat(2728)
    );
    let long_forgery = format!(
        "{}.{}.{}",
        good.split('.').next().expect("a header"),
        "A".repeat(7936),
        "A".repeat(86)
    );
    let renamed = |alg: &str| {
        use base64::Engine as _;
        let kid = keys.set.active.public.kid.as_str();
        let header = format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"at+jwt"}}"#);
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(header);
        format!("{header}.{}", good.split_once('.').expect("a payload").1)
    };
    let (other_alg, no_alg) = (renamed("RS256"), renamed("none"));
    // To measure the others against.
    group.bench_function("accepted, for comparison", |b| {
        b.iter(|| judge(&good, &ready, &route, keys.now).expect("accepted"));
    });
    for (name, token, reason) in [
        ("8 KiB of base64url", &garbage, Rejection::Malformed),
        ("8 KiB forged", &long_forgery, Rejection::BadSignature),
        ("algorithm of another", &other_alg, Rejection::AlgNotAllowed),
        ("algorithm none", &no_alg, Rejection::AlgNotAllowed),
        ("signature of another", &swapped, Rejection::BadSignature),
        ("signature of zeros", &zeros, Rejection::BadSignature),
        ("unknown kid", &unknown, Rejection::UnknownKey),
        ("dots", &dots, Rejection::Malformed),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let refused = judge(token, &ready, &route, keys.now).expect_err("refused");
                assert_eq!(refused.rejection, reason);
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("keys in the set");
    for count in [2, 64] {
        let mut keys = Keys::new(Algorithm::Es256);
        while keys.set.len() < count {
            keys.rotate();
        }
        let ready = keys.ready();
        let token = keys.token(keys.signers.len() - 2);
        group.bench_function(BenchmarkId::new("verify", count), |b| {
            b.iter(|| judge(&token, &ready, &route, keys.now).expect("accepted"));
        });
        group.bench_function(BenchmarkId::new("make ready", count), |b| {
            b.iter(|| keys.ready())
        });
    }
    group.finish();
}

/// Tokens to be refused, each as large as it may be: what their makers could think of to make a refusal
/// dear, before a signature stops them and behind it.
fn hostile(keys: &Keys, dead: &str) -> Vec<(String, String)> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    // Well-formed, so that it is looked at to the end.
    let another = keys.token(0);
    let (_, signature) = another.rsplit_once('.').expect("a signature");
    let live = keys.set.active.public.kid.as_str();
    let mut tokens = Vec::new();
    // On both sides of the bound of a header, and as long as a token may be.
    for room in [100, 700, 880, 6000] {
        let fillings = [
            (
                "members",
                (0..)
                    .map(|n| format!(r#","{n:x}":1"#))
                    .take(room / 8)
                    .collect(),
            ),
            // As many as may be, as long as they may be together.
            (
                "long members",
                (0..13)
                    .map(|n| format!(r#","{n:0>0$}":"\n""#, (room / 13).saturating_sub(8)))
                    .collect(),
            ),
            (
                "objects",
                r#","o":{"a":{}}"#.to_owned()
                    + &(0..room / 16)
                        .map(|n| format!(r#","{n:x}":{{"a":1}}"#))
                        .collect::<String>(),
            ),
            (
                "nesting",
                format!(
                    r#","n":{}1{}"#,
                    "[".repeat(room / 2 - 4),
                    "]".repeat(room / 2 - 4)
                ),
            ),
            ("list", format!(r#","l":[{}0]"#, "0,".repeat(room / 2 - 4))),
            (
                "lists",
                format!(r#","l":[{}0]"#, "[],".repeat(room / 3 - 4)),
            ),
            (
                "a text of escapes",
                format!(r#","t":"{}""#, r"\u00e9".repeat(room / 6 - 2)),
            ),
            (
                "a name of escapes",
                format!(r#","{}":1"#, r"\n".repeat(room / 2 - 4)),
            ),
            (
                "numbers",
                format!(r#","l":[{}0]"#, "1e99,".repeat(room / 5 - 2)),
            ),
        ];
        for (what, filling) in fillings {
            for (whose, kid) in [("live", live), ("unknown", "nobody"), ("dead", dead)] {
                let header = format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"at+jwt"{filling}}}"#);
                let header = encode(&header);
                let payload = "A".repeat((8192 - 88_usize).saturating_sub(header.len()) / 4 * 4);
                for payload in ["e30", payload.as_str()] {
                    let token = format!("{header}.{payload}.{signature}");
                    let size = payload.len();
                    tokens.push((
                        format!("{what} ({room}), {whose} kid, payload of {size}"),
                        token,
                    ));
                }
            }
        }
    }
    for length in [100, 900, 5000] {
        let kid = encode(&format!(
            r#"{{"alg":"ES256","kid":"{}","typ":"at+jwt"}}"#,
            "k".repeat(length)
        ));
        tokens.push((
            format!("a kid of {length}"),
            format!("{kid}.e30.{signature}"),
        ));
    }
    tokens.retain(|(_, token)| token.len() <= 8192);
    tokens
}

/// The dearest refusal is looked for, not chosen: it must not cost more than the acceptance of a token
/// as long as it that nobody has seen before. A forger of one is limited, too.
fn worst_refusal(c: &mut Criterion) {
    let mut group = c.benchmark_group("refuse");
    let mut keys = Keys::new(Algorithm::Es256);
    let dead = keys.set.active.public.kid.to_string();
    keys.purge();
    let (ready, route) = (keys.ready(), route());
    let cost = |token: &str| {
        let rounds = (0..100).map(|_| {
            let started = std::time::Instant::now();
            let _verdict = black_box(judge(token, &ready, &route, keys.now));
            started.elapsed()
        });
        // The least of them: what others on the machine do only adds.
        rounds.min().expect("a round")
    };
    let signer = keys.signers.get(2).expect("the active key");
    let good = |padding: usize| {
        let mut audience = vec!["api".to_owned()];
        audience.extend(vec!["a".repeat(1000); padding]);
        mint(signer, &grant(&audience), keys.now, &SystemRandom::new()).expect("a token")
    };
    let (short, long) = (good(0), good(5));
    for token in [&short, &long] {
        assert!(judge(token, &ready, &route, keys.now).is_ok());
    }
    let (of_short, of_long) = (cost(&short), cost(&long));
    let accepted = |token: &str| {
        if token.len() < long.len() {
            of_short
        } else {
            of_long
        }
    };
    let tokens = hostile(&keys, &dead);
    for (name, token) in &tokens {
        assert!(judge(token, &ready, &route, keys.now).is_err(), "{name}");
    }
    let (ratio, name, worst) = tokens
        .iter()
        .map(|(name, token)| {
            let ratio = cost(token).as_secs_f64() / accepted(token).as_secs_f64();
            (ratio, name, token)
        })
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .expect("a token");
    println!(
        "the dearest of {} refusals for its length: {name}, {:?}, {ratio:.2} of an acceptance; \
         accepted: {of_short:?} ({} bytes), {of_long:?} ({} bytes)",
        tokens.len(),
        cost(worst),
        short.len(),
        long.len()
    );
    // Our half is slow without optimisation, the cryptography is not; a tenth is the clock's.
    assert!(
        cfg!(debug_assertions) || ratio < 1.1,
        "{name}: {ratio:.2} of an acceptance"
    );
    group.bench_function("the dearest found", |b| {
        b.iter(|| judge(worst, &ready, &route, keys.now).expect_err("refused"));
    });
    group.finish();
}

fn issue(c: &mut Criterion) {
    let mut group = c.benchmark_group("issue");
    let (rng, audience) = (SystemRandom::new(), ["api".to_owned()]);
    for alg in Algorithm::ALL {
        let keys = Keys::new(alg);
        let signer = keys.signers.first().expect("a signer");
        group.bench_function(alg.as_str(), |b| {
            b.iter(|| mint(signer, &grant(black_box(&audience)), keys.now, &rng).expect("a token"));
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    verify_by_algorithm_and_state,
    verify_hostile_and_crowded,
    worst_refusal,
    issue
);
criterion_main!(benches);
