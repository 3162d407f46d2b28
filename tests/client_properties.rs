//! Properties of changes to clients over long random histories, against a reference that remembers
//! every token ever issued and the order of events, and knows nothing of dates.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis::clients::change::apply;
use portcullis::clients::{
    ClientChange, ClientOrder, ClientView, ClientsDocument, NewClient, SecretHash,
};
use portcullis::clock::Timestamp;
use portcullis::keys::Actor;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const TTL: Duration = Duration::from_secs(3600);

/// `file` is of the configuration, the others may be of the store.
const IDS: [&str; 3] = ["file", "app", "robot"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Wait(u64),
    Disable(usize),
    Enable(usize),
    Invalidate(usize),
    Add(usize),
    RotateSecret(usize),
    DropOldSecret(usize),
    Remove(usize),
    Issue(usize),
    /// The process ends, and another one reads what was stored.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..IDS.len();
    prop_oneof![
        5 => (0_u64..700).prop_map(Op::Wait),
        2 => who.clone().prop_map(Op::Disable),
        3 => who.clone().prop_map(Op::Enable),
        4 => who.clone().prop_map(Op::Invalidate),
        3 => who.clone().prop_map(Op::Add),
        2 => who.clone().prop_map(Op::RotateSecret),
        1 => who.clone().prop_map(Op::DropOldSecret),
        1 => who.clone().prop_map(Op::Remove),
        9 => who.prop_map(Op::Issue),
        1 => Just(Op::Restart),
    ]
}

/// What is true, said without dates.
#[derive(Default)]
struct Truth {
    disabled: BTreeSet<usize>,
    /// Secrets of the clients of the store, newest last.
    secrets: BTreeMap<usize, Vec<u64>>,
    /// Client and `iat` of every token, and whether it was ended.
    tokens: Vec<(usize, Timestamp, bool)>,
}

impl Truth {
    fn end_tokens(&mut self, who: usize) {
        for token in &mut self.tokens {
            token.2 |= token.0 == who;
        }
    }

    fn exists(&self, who: usize) -> bool {
        who == 0 || self.secrets.contains_key(&who)
    }
}

fn hash(number: u64) -> SecretHash {
    let rng = ring::rand::SystemRandom::new();
    SecretHash::of_generated(&number.to_be_bytes(), &rng).expect("a hash")
}

fn play(ops: &[Op], steps: &std::cell::Cell<usize>) -> Result<(), TestCaseError> {
    let (mut document, mut truth) = (ClientsDocument::default(), Truth::default());
    let (mut now, mut secret) = (Timestamp::from_millis(1_800_000_000_345), 0);
    for op in ops {
        steps.set(steps.get() + 1);
        let (who, change) = match *op {
            Op::Wait(millis) => {
                now = now.plus(Duration::from_millis(millis));
                continue;
            }
            Op::Restart => {
                document = ClientsDocument::parse(&document.encode()).expect("it reads back");
                continue;
            }
            Op::Issue(who) => {
                // As the token endpoint does: wait for the date, then use it.
                let view = ClientView::of(&document, None);
                if truth.exists(who) && !view.revocations().is_disabled(IDS[who]) {
                    let first = view.revocations().not_before(IDS[who]).unwrap_or(now);
                    now = now.max(first);
                    let issued_at = Timestamp::from_seconds(now.as_seconds());
                    truth.tokens.push((who, issued_at, false));
                }
                check(&document, &truth)?;
                continue;
            }
            Op::Disable(who) => (who, ClientChange::Disable),
            Op::Enable(who) => (who, ClientChange::Enable),
            Op::Invalidate(who) => (who, ClientChange::Invalidate),
            Op::DropOldSecret(who) => (who, ClientChange::DropOldSecret),
            Op::Remove(who) => (who, ClientChange::Remove),
            Op::Add(who) => {
                let new = NewClient {
                    secret: hash(secret),
                    scopes: Vec::new(),
                    token_ttl: TTL,
                };
                (who, ClientChange::Add(new))
            }
            Op::RotateSecret(who) => (who, ClientChange::RotateSecret(hash(secret))),
        };
        let order = ClientOrder {
            client: IDS[who].parse().expect("an id"),
            change,
            actor: Actor::Admin("test".to_owned()),
            reason: None,
        };
        let known = truth.exists(who) || document.clients.contains_key(IDS[who]);
        let result = apply(&document, &order, who == 0, TTL, now);
        match (*op, &result) {
            (Op::Add(_), Ok(Some(_))) => {
                prop_assert!(!truth.exists(who));
                truth.secrets.insert(who, vec![secret]);
                secret += 1;
            }
            (Op::Add(_), Err(_)) => prop_assert!(truth.exists(who)),
            (Op::RotateSecret(_) | Op::DropOldSecret(_) | Op::Remove(_), Err(_)) => {
                prop_assert!(who == 0 || !truth.exists(who));
            }
            (Op::Disable(_) | Op::Enable(_) | Op::Invalidate(_), Err(_)) => prop_assert!(!known),
            (Op::RotateSecret(_), Ok(Some(_))) => {
                let secrets = truth.secrets.get_mut(&who).expect("it exists");
                secrets.push(secret);
                secret += 1;
                if secrets.len() > 2 {
                    secrets.remove(0);
                }
            }
            (Op::DropOldSecret(_), Ok(next)) => {
                let secrets = truth.secrets.get_mut(&who).expect("it exists");
                prop_assert_eq!(next.is_some(), secrets.len() == 2);
                secrets.drain(..secrets.len() - 1);
            }
            (Op::Remove(_), Ok(Some(_))) => {
                truth.secrets.remove(&who);
                truth.disabled.remove(&who);
                truth.end_tokens(who);
            }
            (Op::Invalidate(_), Ok(_)) => truth.end_tokens(who),
            (Op::Disable(_), Ok(next)) => {
                prop_assert_eq!(next.is_some(), truth.disabled.insert(who));
                truth.end_tokens(who);
            }
            (Op::Enable(_), Ok(next)) => {
                prop_assert_eq!(next.is_some(), truth.disabled.remove(&who));
            }
            (op, result) => return Err(TestCaseError::fail(format!("{op:?}: {result:?}"))),
        }
        if let Ok(Some(next)) = result {
            prop_assert_eq!(next.revision, document.revision + 1);
            prop_assert_eq!(
                next.history.back().map(|event| event.revision),
                Some(next.revision)
            );
            for (id, state) in &document.clients {
                let after = next
                    .clients
                    .get(id)
                    .and_then(|state| state.tokens_not_before);
                prop_assert!(after >= state.tokens_not_before, "a date fell");
            }
            document = next;
        }
        check(&document, &truth)?;
    }
    Ok(())
}

/// Every token has the fate that is due to it, and every secret works that should.
fn check(document: &ClientsDocument, truth: &Truth) -> Result<(), TestCaseError> {
    let view = ClientView::of(document, None);
    for (who, issued_at, ended) in &truth.tokens {
        let expected = *ended || truth.disabled.contains(who);
        let revoked = view.revocations().is_revoked(IDS[*who], *issued_at);
        prop_assert_eq!(revoked, expected, "{} issued at {}", IDS[*who], issued_at);
    }
    prop_assert!(
        !view
            .revocations()
            .is_revoked("bystander", Timestamp::from_seconds(0))
    );
    prop_assert!(!document.dynamic.contains_key("file"));
    prop_assert_eq!(document.dynamic.len(), truth.secrets.len());
    for (who, secrets) in &truth.secrets {
        let stored = &document.dynamic[IDS[*who]].secrets;
        prop_assert_eq!(stored.len(), secrets.len());
        for (stored, secret) in stored.iter().zip(secrets) {
            prop_assert!(stored.hash.matches(&secret.to_be_bytes()));
        }
    }
    Ok(())
}

#[test]
fn every_token_and_secret_has_the_fate_that_is_due_to_it() {
    let steps = std::cell::Cell::new(0);
    let config = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    let histories = prop::collection::vec(op(), 1..120);
    let outcome = TestRunner::new(config).run(&histories, |ops| play(&ops, &steps));
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(steps.get() >= 5_000, "only {} steps", steps.get());
}
