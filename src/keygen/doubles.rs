//! Key generators for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::keys::Algorithm;

use super::{GeneratedKey, KeyGenerator, KeygenError, RingKeyGenerator};

/// One key a line: algorithm, then PKCS#8 in base64url.
const STOCK: &str = include_str!("fixture_keys.txt");

/// Hands out keys from a stock made beforehand, for each algorithm in the same order in every
/// run and at no cost; real new ones once the stock is used up.
#[derive(Debug, Default)]
pub struct FixtureKeys {
    handed_out: [AtomicUsize; Algorithm::ALL.len()],
}

impl FixtureKeys {
    /// A full stock.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many keys of `alg` are in the stock.
    #[must_use]
    pub fn stock(alg: Algorithm) -> usize {
        of(alg).count()
    }
}

impl KeyGenerator for FixtureKeys {
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError> {
        let counters = Algorithm::ALL.iter().zip(&self.handed_out);
        let n = counters
            .filter(|(counted, _)| **counted == alg)
            .map(|(_, counter)| counter.fetch_add(1, Ordering::Relaxed))
            .sum();
        let Some(encoded) = of(alg).nth(n) else {
            return RingKeyGenerator.generate(alg);
        };
        let private = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|error| KeygenError::Unusable {
                alg,
                rule: error.to_string(),
            })?;
        GeneratedKey::from_pkcs8(alg, Zeroizing::new(private))
    }
}

fn of(alg: Algorithm) -> impl Iterator<Item = &'static str> {
    STOCK
        .lines()
        .filter_map(move |line| line.strip_prefix(alg.as_str())?.strip_prefix(' '))
}

/// Passes a number of calls on to another generator, then fails for good.
pub struct FailingKeys {
    inner: Arc<dyn KeyGenerator>,
    left: AtomicUsize,
}

impl FailingKeys {
    /// Fails every call.
    #[must_use]
    pub fn always() -> Self {
        Self::after(0, Arc::new(FixtureKeys::new()))
    }

    /// Lets `calls` calls through to `inner`.
    #[must_use]
    pub fn after(calls: usize, inner: Arc<dyn KeyGenerator>) -> Self {
        Self {
            inner,
            left: AtomicUsize::new(calls),
        }
    }

    /// Lets `calls` more calls through, counted from now.
    pub fn allow(&self, calls: usize) {
        self.left.store(calls, Ordering::Relaxed);
    }
}

impl fmt::Debug for FailingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailingKeys")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl KeyGenerator for FailingKeys {
    fn generate(&self, alg: Algorithm) -> Result<GeneratedKey, KeygenError> {
        let take = |left: usize| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_none_left| KeygenError::Injected { alg })?;
        self.inner.generate(alg)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fixture_keys_come_in_one_order_and_never_twice() {
        for alg in Algorithm::ALL {
            let (one, two) = (FixtureKeys::new(), FixtureKeys::new());
            let mut seen = HashSet::new();
            for _ in 0..FixtureKeys::stock(alg) {
                let key = one.generate(alg).unwrap();
                assert_eq!(key.kid, two.generate(alg).unwrap().kid);
                assert!(seen.insert(key.kid));
            }
            assert!(seen.len() >= 8);
        }
        let es256 = FixtureKeys::new();
        let mut seen = HashSet::new();
        for _ in 0..FixtureKeys::stock(Algorithm::Es256) + 3 {
            assert!(seen.insert(es256.generate(Algorithm::Es256).unwrap().kid));
        }
    }

    #[test]
    fn failing_keys_fail_when_told_to() {
        let keys = FailingKeys::after(1, Arc::new(FixtureKeys::new()));
        keys.generate(Algorithm::EdDsa).unwrap();
        let alg = Algorithm::EdDsa;
        assert_eq!(
            keys.generate(alg).unwrap_err(),
            KeygenError::Injected { alg }
        );
        keys.allow(1);
        keys.generate(alg).unwrap();
    }
}
