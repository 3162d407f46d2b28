//! What `GET keys`, the JWKS and the store's file showed, and when: the history of the key set as
//! seen from outside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::json::{list, text};

/// A list of keys that an answer showed.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) kids: Arc<[Arc<str>]>,
}

/// What is known of a key.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// When `GET keys` had shown it alive for the first time.
    pub(super) seen: Option<Instant>,
    pub(super) published_at: String,
    pub(super) activated_at: Option<String>,
    pub(super) verify_until: Option<String>,
    /// A later answer gave another `verify_until`: the earlier and the later one.
    pub(super) moved: Option<(String, String)>,
}

/// One look at a revision: how many keys signed and stood ready.
pub(super) type Signers = (usize, usize);

#[derive(Debug, Default)]
pub(super) struct Sightings {
    pub(super) revisions: BTreeMap<u64, Signers>,
    pub(super) keys: HashMap<Arc<str>, Facts>,
    pub(super) live: Vec<Shown>,
    pub(super) jwks: Vec<Shown>,
    /// Keys that a plain rotation activated, manual or automatic.
    pub(super) rotated_in: BTreeSet<Arc<str>>,
    pub(super) automatic: BTreeSet<u64>,
    /// The sealed private halves that the store's file held, by key.
    pub(super) sealed: HashMap<Arc<str>, BTreeSet<String>>,
    /// `kid`, `tombstone_until` and `state` of every tombstone.
    pub(super) tombstones: HashMap<Arc<str>, (String, String)>,
    /// Members that a public document must not have, as found.
    pub(super) leaks: BTreeSet<String>,
    last_jwks: Vec<u8>,
}

impl Sightings {
    /// Notes an answer of `GET keys`.
    pub(super) fn saw_keys(&mut self, set: &Value, sent: Instant, answered: Instant) {
        let revision = set
            .get("revision")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        let keys = list(set, "keys");
        let count = |state| {
            keys.iter()
                .filter(|key| text(key, "state") == state)
                .count()
        };
        let seen = (count("active"), count("pending"));
        let signers = self.revisions.entry(revision).or_insert(seen);
        // The worst look at a revision is the one that counts.
        if seen != (1, 1) {
            *signers = seen;
        }
        for key in keys {
            self.saw_key(key, answered);
        }
        for tombstone in list(set, "tombstones") {
            let end = (text(tombstone, "tombstone_until"), text(tombstone, "state"));
            self.tombstones.insert(
                text(tombstone, "kid").into(),
                (end.0.to_owned(), end.1.to_owned()),
            );
        }
        if let Some(last) = set.get("last_rotation")
            && text(last, "kind") == "rotate"
        {
            self.rotated_in.insert(text(last, "activated").into());
            if text(last, "trigger") == "automatic" {
                self.automatic
                    .extend(last.get("revision").and_then(Value::as_u64));
            }
        }
        note(&mut self.live, kids(set), sent, answered);
        self.look_for_secrets("GET keys", set);
    }

    fn saw_key(&mut self, key: &Value, answered: Instant) {
        let optional = |name| key.get(name).and_then(Value::as_str).map(str::to_owned);
        let facts = self.keys.entry(text(key, "kid").into()).or_default();
        facts.seen.get_or_insert(answered);
        if facts.published_at.is_empty() {
            text(key, "published_at").clone_into(&mut facts.published_at);
        }
        facts.activated_at = facts
            .activated_at
            .take()
            .or_else(|| optional("activated_at"));
        match (&facts.verify_until, optional("verify_until")) {
            (Some(before), Some(now)) if *before != now => {
                facts.moved = Some((before.clone(), now));
            }
            (None, now) => facts.verify_until = now,
            _ => {}
        }
    }

    /// Notes a JWKS answer.
    pub(super) fn saw_jwks(&mut self, bytes: &[u8], sent: Instant, answered: Instant) {
        let same = self.last_jwks == bytes;
        let kids = match self.jwks.last() {
            Some(last) if same => Arc::clone(&last.kids),
            _ => {
                let document = serde_json::from_slice(bytes).unwrap_or_default();
                self.look_for_secrets("the JWKS", &document);
                bytes.clone_into(&mut self.last_jwks);
                kids(&document)
            }
        };
        self.jwks.push(Shown {
            sent,
            answered,
            kids,
        });
    }

    /// Notes which sealed private halves a key set file holds, whatever its layout: they are the
    /// long texts within a member `sealed_private` beside a `kid`.
    pub(super) fn saw_file(&mut self, bytes: &[u8]) {
        let file: Value = serde_json::from_slice(bytes).unwrap_or_default();
        self.collect_sealed(&file);
    }

    fn collect_sealed(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(sealed) = members.get("sealed_private") {
                    let texts = self.sealed.entry(text(value, "kid").into()).or_default();
                    let long = |text: &&str| text.len() > 60;
                    let members = sealed.as_object().into_iter().flatten();
                    let found = members.filter_map(|(_, value)| value.as_str()).filter(long);
                    texts.extend(found.map(str::to_owned));
                }
                members
                    .values()
                    .for_each(|value| self.collect_sealed(value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.collect_sealed(value)),
            _ => {}
        }
    }

    fn look_for_secrets(&mut self, place: &str, document: &Value) {
        const SECRET: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "k", "sealed_private"];
        for key in list(document, "keys") {
            let members = key.as_object().into_iter().flatten();
            let bad = members.filter(|(name, _)| SECRET.contains(&name.as_str()));
            self.leaks
                .extend(bad.map(|(name, _)| format!("{place} shows the member `{name}` of a key")));
        }
    }
}

/// The keys that a document lists.
pub(super) fn kids(document: &Value) -> Arc<[Arc<str>]> {
    list(document, "keys")
        .iter()
        .map(|key| Arc::from(text(key, "kid")))
        .collect()
}

/// Equal lists in a row share their memory.
fn note(shown: &mut Vec<Shown>, kids: Arc<[Arc<str>]>, sent: Instant, answered: Instant) {
    let kids = match shown.last() {
        Some(last) if last.kids == kids => Arc::clone(&last.kids),
        _ => kids,
    };
    shown.push(Shown {
        sent,
        answered,
        kids,
    });
}
