//! The model test: random histories of the life cycle of keys, played on the real thing and on a
//! naive reference written from the design. Every step, both must show the same answer, the same
//! keys and the same verdict, with its reason, on every token at hand.
//!
//! `MODEL_STEPS`, `MODEL_SEED`, `MODEL_SEQUENCE` (one history alone) and `MODEL_THREADS` change
//! what is played; a failure says how to play it again. See `docs/reliability.md`.
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::result_large_err,
    reason = "test code: it fails by panicking"
)]

#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/play.rs"]
mod play;
#[path = "model/real.rs"]
mod real;
#[path = "model/rng.rs"]
mod rng;
#[path = "model/truth.rs"]
mod truth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oracle::{Answer, Fault, Order, Scope};
use play::{Op, Play, Seen, history};
use portcullis::clock::Timestamp;
use portcullis::keys::Algorithm;
use portcullis::keys::timing::Timing;
use real::Real;
use rng::Rng;
use uuid::Uuid;

/// Steps of one history; longer ones would only collect tombstones.
const STEPS: u64 = 250;

/// Steps of `make test`.
const ALL_STEPS: u64 = 100_000;

/// Time that a failure is made shorter in.
const SHORTEN: Duration = Duration::from_secs(30);

/// Steps that a failure shows.
const SHOWN: usize = 40;

/// What a hundred thousand steps must have met, lest the test prove nothing.
const MUST_BE_SEEN: [&str; 54] = [
    "client: Disable true",
    "client: Enable true",
    "client: Invalidate true",
    "import: Imported",
    "import: OutcomeUnknown",
    "import: StoreFailed",
    "import: refused Full",
    "import: refused Known",
    "import: refused MaxTtl",
    "mark_compromised: Marked(false)",
    "mark_compromised: Marked(true)",
    "mark_compromised: refused NotPurged",
    "mark_compromised: refused UnknownKid",
    "purge: OutcomeUnknown",
    "purge: StoreFailed",
    "purge: changed=false replayed=false",
    "purge: changed=true replayed=false",
    "purge: changed=true replayed=true",
    "purge: refused Ahead",
    "purge: refused OtherBody",
    "purge: refused UnknownKid",
    "restore: Restored",
    "restore: refused Compromised",
    "restore: refused NotPurged",
    "restore: refused NothingToRestore",
    "rotate: OutcomeUnknown",
    "rotate: StoreFailed",
    "rotate: changed=false replayed=false",
    "rotate: changed=true replayed=false",
    "rotate: changed=true replayed=true",
    "rotate: refused Full",
    "rotate: refused OtherBody",
    "rotate: refused Stale",
    "rotate: refused TooYoung",
    "start: OutcomeUnknown",
    "tick: done",
    "token: accepted by active",
    "token: accepted by deprecated",
    "token: accepted by pending",
    "token: alg_not_allowed",
    "token: bad_audience",
    "token: bad_issuer",
    "token: bad_signature",
    "token: bad_type",
    "token: claim_rule",
    "token: client_revoked",
    "token: compromised_key_in_use",
    "token: expired",
    "token: insufficient_scope",
    "token: key_purged",
    "token: lifecycle_violation",
    "token: malformed",
    "token: not_yet_valid",
    "token: unknown_key",
];

#[test]
fn the_real_thing_and_the_reference_agree_at_every_step() {
    portcullis::token::jose::install_crypto();
    let steps = number("MODEL_STEPS").unwrap_or(ALL_STEPS);
    let seed = number("MODEL_SEED").unwrap_or(1);
    let only = number("MODEL_SEQUENCE");
    let threads = number("MODEL_THREADS").unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cores.min(4) as u64
    });
    let (first, end) = match only {
        Some(only) => (only, only + 1),
        None => (0, steps.div_ceil(STEPS)),
    };
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let all = Mutex::new(Seen::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let sequence = next.fetch_add(1, Ordering::Relaxed);
                    if sequence >= end {
                        return;
                    }
                    match play(seed, sequence) {
                        Ok(seen) => {
                            let mut all = all.lock().expect("counts");
                            for (name, count) in seen {
                                *all.entry(name).or_default() += count;
                            }
                            if sequence > 0 && (sequence * STEPS).is_multiple_of(500_000) {
                                eprintln!(
                                    "{} steps, {:.0} s",
                                    sequence * STEPS,
                                    started.elapsed().as_secs_f64()
                                );
                            }
                        }
                        Err(text) => {
                            stop.store(true, Ordering::Relaxed);
                            *failure.lock().expect("a text") = Some(text);
                        }
                    }
                }
            });
        }
    });
    let took = started.elapsed().as_secs_f64();
    if let Some(text) = failure.into_inner().expect("a text") {
        panic!("after {took:.1} s: {text}");
    }
    let all = all.into_inner().expect("counts");
    for (name, count) in &all {
        eprintln!("{count:>10}  {name}");
    }
    let played = (end - first) * STEPS;
    eprintln!("{played} steps, seed {seed}: real thing and reference agree ({took:.1} s)");
    if played >= ALL_STEPS {
        let missing: Vec<_> = MUST_BE_SEEN
            .iter()
            .filter(|name| !all.contains_key(**name))
            .collect();
        assert!(missing.is_empty(), "never met: {missing:?}");
    }
}

/// A purge took effect and the store could not say so. Whoever asks again gets its result, and with it
/// the promise that nobody works with the dead keys any more, or the name of who does.
#[test]
fn inv05_a_purge_that_ended_in_the_dark_is_over_when_its_repetition_answers() {
    portcullis::token::jose::install_crypto();
    for held in [false, true] {
        let timing = Timing::default();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut real = Real::new(1, &timing, Algorithm::EdDsa, now);
        let started = real.restart(timing.max_token_ttl, Algorithm::EdDsa);
        assert_eq!(started, Answer::Started);
        let holder = real.hold();
        let order = Order {
            id: Uuid::from_u128(1),
            actor: "ops",
            seen: Some(1),
            claim: None,
        };
        real.begin(Some(Fault::After));
        let first = real.purge(&order, &Scope::All, false);
        assert_eq!(first, Answer::OutcomeUnknown);
        real.end();
        let holder = held.then_some(holder);
        let again = Order {
            id: Uuid::from_u128(2),
            ..order
        };
        match real.purge(&again, &Scope::All, false) {
            Answer::Rotated {
                changed: false,
                done,
                receipt: true,
                ..
            } if !held => assert_eq!(done.id, Uuid::from_u128(1)),
            Answer::Odd(text) if held => assert!(text.contains("worker (issue)"), "{text}"),
            other => panic!("held: {held}, {other:?}"),
        }
        drop(holder);
    }
}

/// Plays one history; a failure comes back shortened and in words.
fn play(seed: u64, sequence: u64) -> Result<Seen, String> {
    let own = Rng::new(seed ^ sequence.wrapping_mul(0x2545_f491_4f6c_dd1d)).next();
    let ops = history(own, STEPS as usize);
    let (at, error) = match run(own, &ops, false) {
        Ok(seen) => return Ok(seen),
        Err((at, error, _)) => (at, error),
    };
    let short = shorten(own, ops[..ops.len().min(at + 1)].to_vec());
    let (error, trace) = match run(own, &short, true) {
        Err((_, error, trace)) => (error, trace),
        Ok(_) => (
            error,
            vec!["the shortened history does not fail".to_owned()],
        ),
    };
    let skipped = trace.len().saturating_sub(SHOWN);
    let shown: Vec<String> = trace
        .iter()
        .enumerate()
        .skip(skipped)
        .map(|(number, line)| format!("  {number}: {line}"))
        .collect();
    Err(format!(
        "step {at} of history {sequence}: {error}\n\
         shortened to {} steps, the last {} of them:\n{}\n\
         again: MODEL_SEED={seed} MODEL_SEQUENCE={sequence} cargo test --test model",
        short.len(),
        shown.len(),
        shown.join("\n"),
    ))
}

type Failed = (usize, String, Vec<String>);

fn run(seed: u64, ops: &[Op], traced: bool) -> Result<Seen, Failed> {
    let mut play = Play::new(seed, traced);
    for (at, op) in ops.iter().enumerate() {
        // The reference panics when the set breaks a rule that it cannot even express.
        let step = catch_unwind(AssertUnwindSafe(|| play.step(*op)));
        let result = step.unwrap_or_else(|_panic| Err("a panic, see above".to_owned()));
        if let Err(error) = result {
            return Err((at, error, play.trace.take().unwrap_or_default()));
        }
    }
    match play.finish() {
        Ok(()) => Ok(play.seen),
        Err(error) => Err((ops.len(), error, play.trace.take().unwrap_or_default())),
    }
}

/// Leaves out ever smaller pieces for as long as the rest still fails, within bounds.
fn shorten(seed: u64, mut ops: Vec<Op>) -> Vec<Op> {
    let deadline = Instant::now() + SHORTEN;
    let mut piece = ops.len() / 2;
    while piece > 0 {
        let mut at = 0;
        while at < ops.len() && Instant::now() < deadline {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + piece).min(ops.len()));
            match run(seed, &fewer, false) {
                Err((failed_at, ..)) => {
                    fewer.truncate(failed_at + 1);
                    ops = fewer;
                }
                Ok(_) => at += piece,
            }
        }
        piece /= 2;
    }
    ops
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}
