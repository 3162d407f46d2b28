//! Tokens that a key has verified, so that a repeated one costs a lookup instead of a signature.
//!
//! Invariants: a cache belongs to one verification key and dies with it; it is found by the full
//! bytes of the token, so a collision of hashes is a miss and never somebody else's identity; it
//! holds verified claims, never a verdict: dates, route rules and the state of the client are
//! judged on every hit as on a miss. Refusals are never kept, so a forger fills nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

use crate::keys::Kid;

use super::Claims;

/// Bytes that an entry costs beside its token and its texts: two boxes, counters, the table's slot.
const ENTRY_OVERHEAD: usize = 384;

/// The caches of the live keys, by key and by the revision that published it: a restored key begins
/// with an empty one. Touched by life-cycle steps and samplers only.
#[derive(Debug)]
pub struct TokenCaches {
    limits: CacheLimits,
    evictions: Arc<AtomicU64>,
    known: Mutex<HashMap<(Kid, u64), Weak<TokenCache>>>,
}

impl TokenCaches {
    /// No cache yet.
    #[must_use]
    pub fn new(limits: CacheLimits) -> Self {
        Self {
            limits,
            evictions: Arc::default(),
            known: Mutex::default(),
        }
    }

    /// The cache of a key, the same one as long as some snapshot holds it.
    pub(super) fn of(&self, kid: &Kid, published_revision: u64) -> Arc<TokenCache> {
        // A map of names is valid whatever panicked elsewhere.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, cache| cache.strong_count() > 0);
        let name = (kid.clone(), published_revision);
        if let Some(cache) = known.get(&name).and_then(Weak::upgrade) {
            return cache;
        }
        let cache = Arc::new(TokenCache::new(self.limits, Arc::clone(&self.evictions)));
        known.insert(name, Arc::downgrade(&cache));
        cache
    }

    /// How many tokens had to be let go so far.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }
}

/// How much the caches of verified tokens may hold, for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Most tokens of one key; 0 keeps none.
    pub entries: usize,
    /// Most bytes of one key's entries.
    pub bytes: u64,
}

/// Verified tokens of one key.
pub struct TokenCache(Option<Verified>);

type Verified = Cache<Box<[u8]>, Arc<Claims>, ByBytes, DefaultHashBuilder, Evictions>;

impl TokenCache {
    /// An empty cache; `evictions` counts what it has to let go.
    #[must_use]
    pub fn new(limits: CacheLimits, evictions: Arc<AtomicU64>) -> Self {
        if limits.entries == 0 || limits.bytes == 0 {
            return Self(None);
        }
        // An entry weighs its bytes, but at least its share, so that both bounds hold.
        let least = limits.bytes.div_ceil(limits.entries as u64).max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(limits.entries)
            .weight_capacity(limits.bytes)
            .build();
        // Its parts are complete; an incomplete set would mean no cache, which is safe.
        Self(options.ok().map(|options| {
            Cache::with_options(
                options,
                ByBytes { least },
                DefaultHashBuilder::default(),
                Evictions(evictions),
            )
        }))
    }

    /// One that keeps nothing.
    #[must_use]
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// The claims of a token that this key has verified before.
    #[must_use]
    pub fn get(&self, token: &[u8]) -> Option<Arc<Claims>> {
        self.0.as_ref()?.get(token)
    }

    /// Keeps the claims of a token whose signature has just been verified by this key.
    pub(super) fn insert(&self, token: &[u8], claims: &Arc<Claims>) {
        if let Some(cache) = &self.0 {
            cache.insert(Box::from(token), Arc::clone(claims));
        }
    }

    /// How many tokens it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Cache::len)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes its entries take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, Cache::weight)
    }
}

impl Default for CacheLimits {
    /// 131,072 tokens or 96 MiB of one key; memory is taken as tokens come.
    fn default() -> Self {
        Self {
            entries: 131_072,
            bytes: 96 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct ByBytes {
    least: u64,
}

impl Weighter<Box<[u8]>, Arc<Claims>> for ByBytes {
    fn weight(&self, token: &Box<[u8]>, claims: &Arc<Claims>) -> u64 {
        ((token.len() + claims.text_bytes() + ENTRY_OVERHEAD) as u64).max(self.least)
    }
}

type Dropped = (Box<[u8]>, Arc<Claims>);

#[derive(Clone)]
struct Evictions(Arc<AtomicU64>);

impl Lifecycle<Box<[u8]>, Arc<Claims>> for Evictions {
    /// What is let go is dropped after the cache's lock.
    type RequestState = Vec<Dropped>;

    fn on_evict(&self, later: &mut Vec<Dropped>, token: Box<[u8]>, claims: Arc<Claims>) {
        self.0.fetch_add(1, Relaxed);
        later.push((token, claims));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(client: &str) -> Arc<Claims> {
        Arc::new(
            Claims::parse(
                format!(
                    r#"{{"iss":"i","sub":"{client}","client_id":"{client}","aud":"a","jti":"j","exp":2000,"iat":1000}}"#
                )
                .as_bytes(),
                false,
            )
            .unwrap(),
        )
    }

    fn caches(entries: usize, bytes: u64) -> TokenCaches {
        TokenCaches::new(CacheLimits { entries, bytes })
    }

    #[test]
    fn is_found_by_its_full_bytes_and_bounded_in_entries_and_bytes() {
        let kid: Kid = "k".parse().unwrap();
        for (entries, bytes, token_bytes) in [(100, 1 << 30, 10), (1 << 20, 100_000, 600)] {
            let caches = caches(entries, bytes);
            let cache = caches.of(&kid, 1);
            for n in 0..2000 {
                let token = format!("{n:0token_bytes$}");
                cache.insert(token.as_bytes(), &claims(&n.to_string()));
                if let Some(found) = cache.get(token.as_bytes()) {
                    assert_eq!(found.client_id, n.to_string());
                }
                assert!(cache.get(format!("{token}x").as_bytes()).is_none());
            }
            assert!(cache.len() <= entries.min(2000) && cache.bytes() <= bytes);
            assert!(!cache.is_empty() && caches.evictions() > 0);
        }
    }

    #[test]
    fn lives_and_dies_with_its_key() {
        let kid: Kid = "k".parse().unwrap();
        let caches = caches(10, 10_000);
        let cache = caches.of(&kid, 1);
        cache.insert(b"token", &claims("c"));
        assert_eq!(caches.of(&kid, 1).len(), 1, "warm across rotations");
        assert!(caches.of(&kid, 2).is_empty(), "a restored key begins anew");
        drop(cache);
        assert!(caches.of(&kid, 1).is_empty());
        let known = caches.known.lock().unwrap().len();
        assert_eq!(known, 1, "names of caches that are gone are forgotten");
    }

    #[test]
    fn can_be_switched_off() {
        let cache = caches(0, 10_000).of(&"k".parse().unwrap(), 1);
        cache.insert(b"token", &claims("c"));
        assert!(cache.get(b"token").is_none() && cache.is_empty() && cache.bytes() == 0);
    }
}
