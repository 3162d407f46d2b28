//! A key set made ready to verify: every key parsed once, found in O(1) by the header segment
//! that it mints or by its kid.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::DefaultHashBuilder;

use crate::clock::Timestamp;
use crate::keys::{Algorithm, End, KeySet, KeyState, Kid, LegacyRules, Tombstone};

use super::cache::{TokenCache, TokenCaches};
use super::jose::{KeyError, SignatureVerifier, header_segment};
use super::proven::ProvenTokens;

/// Every key that verifies, and every tombstone that classifies.
#[derive(Debug)]
pub struct VerificationKeys {
    pub(super) issuer: String,
    pub(super) leeway: Duration,
    /// How long after a purge an honest replica or clock may still have signed.
    pub(super) purge_slack: Duration,
    live: Vec<LiveKey>,
    tombstones: Vec<DeadKey>,
    /// Looked up by every request; a fast hash will do, because nobody from outside inserts.
    by_segment: HashMap<String, usize, DefaultHashBuilder>,
    by_kid: HashMap<Kid, Slot>,
    pub(super) proven: Option<Arc<ProvenTokens>>,
}

/// A key that verifies.
#[derive(Debug)]
pub struct LiveKey {
    /// Identifier.
    pub kid: Kid,
    /// State at the time of the snapshot.
    pub state: KeyState,
    /// Position among the live keys, for tables kept beside this one.
    pub index: usize,
    pub(super) alg: Algorithm,
    pub(super) verifier: SignatureVerifier,
    pub(super) header_segment: String,
    pub(super) max_ttl: Duration,
    /// A deprecated key verifies nothing from here on, whether or not it was retired yet.
    pub(super) verify_until: Option<Timestamp>,
    /// Of an imported key: what else its tokens may look like.
    pub(super) legacy: Option<LegacyRules>,
    /// Tokens that it has verified.
    pub(super) cache: Arc<TokenCache>,
    published_revision: u64,
}

/// What is left of a dead key. It offers only `would_have_verified`: no path leads
/// from here to an accepted token.
#[derive(Debug)]
pub struct DeadKey {
    /// Identifier.
    pub kid: Kid,
    pub(super) alg: Algorithm,
    pub(super) end: End,
    pub(super) died_at: Timestamp,
    pub(super) died_revision: u64,
    /// From here on it would verify nothing, had it been left to run out.
    pub(super) verify_until: Timestamp,
    pub(super) header_segment: String,
    pub(super) max_ttl: Duration,
    pub(super) legacy: Option<LegacyRules>,
    verifier: SignatureVerifier,
}

impl DeadKey {
    /// Whether this key's signature is on the message; for classification only.
    pub(super) fn would_have_verified(&self, message: &[u8], signature: &str) -> bool {
        self.verifier.verifies(message, signature)
    }
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Live(usize),
    Dead(usize),
}

/// Whom a kid names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Named<'a> {
    Live(&'a LiveKey),
    Dead(usize, &'a DeadKey),
}

impl Named<'_> {
    /// What else the tokens of the key may look like, when it was imported.
    pub(super) const fn legacy(&self) -> Option<&LegacyRules> {
        match self {
            Self::Live(key) => key.legacy.as_ref(),
            Self::Dead(_, key) => key.legacy.as_ref(),
        }
    }
}

impl VerificationKeys {
    /// Parses every key of `set`.
    ///
    /// # Errors
    /// [`KeyError`] when a public half is not a key of its algorithm.
    pub fn new(set: &KeySet, leeway: Duration, purge_slack: Duration) -> Result<Self, KeyError> {
        let verify_until = |kid: &Kid| {
            set.deprecated
                .iter()
                .find(|key| key.public.kid == *kid)
                .map(|key| key.verify_until)
        };
        let live = set
            .verifying()
            .enumerate()
            .map(|(index, (state, key))| {
                Ok(LiveKey {
                    kid: key.kid.clone(),
                    state,
                    index,
                    alg: key.alg,
                    verifier: SignatureVerifier::new(key.alg, &key.jwk)?,
                    header_segment: header_segment(key.alg, &key.kid),
                    max_ttl: key.max_ttl,
                    verify_until: verify_until(&key.kid),
                    legacy: key.legacy.clone(),
                    cache: Arc::new(TokenCache::none()),
                    published_revision: key.published_revision,
                })
            })
            .collect::<Result<Vec<_>, KeyError>>()?;
        let tombstones = set
            .tombstones
            .iter()
            .map(DeadKey::parse)
            .collect::<Result<Vec<_>, KeyError>>()?;

        let dead_slots = tombstones
            .iter()
            .enumerate()
            .map(|(i, key)| (key.kid.clone(), Slot::Dead(i)));
        let live_slots = live
            .iter()
            .enumerate()
            .map(|(i, key)| (key.kid.clone(), Slot::Live(i)));
        Ok(Self {
            issuer: set.issuer.clone(),
            leeway,
            purge_slack,
            by_segment: live
                .iter()
                .enumerate()
                .map(|(i, key)| (key.header_segment.clone(), i))
                .collect(),
            by_kid: dead_slots.chain(live_slots).collect(),
            live,
            tombstones,
            proven: None,
        })
    }

    /// The keys of `set` under the same rules, without any memory: what is verified with them leaves
    /// no trace.
    ///
    /// # Errors
    /// As [`VerificationKeys::new`].
    pub fn without_memory(&self, set: &KeySet) -> Result<Self, KeyError> {
        Self::new(set, self.leeway, self.purge_slack)
    }

    /// Remembers purged tokens whose signature was found good in `proven`.
    #[must_use]
    pub fn remembering(self, proven: Arc<ProvenTokens>) -> Self {
        Self {
            proven: Some(proven),
            ..self
        }
    }

    /// The same keys, each with its cache of verified tokens.
    #[must_use]
    pub fn caching(mut self, caches: &TokenCaches) -> Self {
        for key in &mut self.live {
            key.cache = caches.of(&key.kid, key.published_revision);
        }
        self
    }

    /// How many verified tokens the keys remember, and in about how many bytes.
    #[must_use]
    pub fn cached(&self) -> (usize, u64) {
        self.live.iter().fold((0, 0), |(tokens, bytes), key| {
            (tokens + key.cache.len(), bytes + key.cache.bytes())
        })
    }

    /// Every key that verifies, in the order that [`LiveKey::index`] indexes.
    #[must_use]
    pub fn live(&self) -> &[LiveKey] {
        &self.live
    }

    /// Every dead key, in the order that [`super::Refused::tombstone`] indexes.
    #[must_use]
    pub fn tombstones(&self) -> &[DeadKey] {
        &self.tombstones
    }

    /// The key that mints exactly this header segment.
    pub(super) fn by_segment(&self, segment: &str) -> Option<&LiveKey> {
        self.by_segment
            .get(segment)
            .and_then(|index| self.live.get(*index))
    }

    /// The key of this name, dead or alive.
    pub(super) fn by_kid(&self, kid: &str) -> Option<Named<'_>> {
        match *self.by_kid.get(kid)? {
            Slot::Live(index) => self.live.get(index).map(Named::Live),
            Slot::Dead(index) => self
                .tombstones
                .get(index)
                .map(|key| Named::Dead(index, key)),
        }
    }
}

impl DeadKey {
    fn parse(tombstone: &Tombstone) -> Result<Self, KeyError> {
        Ok(Self {
            kid: tombstone.kid.clone(),
            alg: tombstone.alg,
            end: tombstone.end,
            died_at: tombstone.died_at,
            died_revision: tombstone.died_revision,
            verify_until: tombstone.verify_until,
            header_segment: header_segment(tombstone.alg, &tombstone.kid),
            max_ttl: tombstone.max_ttl,
            legacy: tombstone.legacy.clone(),
            verifier: SignatureVerifier::new(tombstone.alg, &tombstone.public_jwk)?,
        })
    }
}
