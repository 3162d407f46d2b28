//! What the store keeps of clients: what was done to them, the clients that it alone knows, and who
//! did the last things.
//!
//! Invariants: a document is accepted only if it equals, byte for byte, what [`ClientsDocument::encode`]
//! would write for its content, so a repeated or an unknown member is refused; every list is
//! bounded, and the whole is short enough for every store. May be imported by `lifecycle` and
//! `admin`.

use std::collections::{BTreeMap, VecDeque};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::clock::Timestamp;
use crate::keys::Actor;

use super::client::{ClientId, MAX_SCOPES, is_scope};
use super::secret::SecretHash;

/// Most clients that something was done to, and most clients of the store.
pub const MAX_CLIENTS: usize = 10_000;

/// Changes that are remembered; the oldest is forgotten first.
pub const MAX_HISTORY: usize = 1_000;

/// Secrets that one client may have at a time.
pub const MAX_SECRETS: usize = 2;

/// Longest document in bytes; a store takes 16 MiB, a third more than that in base64.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Longest life time of a token in seconds, as everywhere.
pub const MAX_TOKEN_TTL: u64 = 24 * 3600;

const SCHEMA: u32 = 1;

/// The clients document. The clients of the configuration are not in it, only what was done to
/// them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientsDocument {
    /// Raised by one with every change; 0 before the first.
    pub revision: u64,
    /// What was done to a client, of whatever kind.
    pub clients: BTreeMap<ClientId, ClientState>,
    /// The clients that the configuration does not know.
    pub dynamic: BTreeMap<ClientId, DynamicClient>,
    /// The last changes, oldest first.
    pub history: VecDeque<ClientEvent>,
}

/// What was done to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientState {
    /// Since when it may neither ask for tokens nor use those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Timestamp>,
    /// Its tokens issued before this whole second are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_not_before: Option<Timestamp>,
    /// When it was last changed.
    pub changed_at: Timestamp,
    /// By whom.
    pub changed_by: Actor,
    /// In whose words why, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A client that only the store knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicClient {
    /// One or two, the newest last.
    pub secrets: Vec<DynamicSecret>,
    /// Scopes it may ask for.
    pub scopes: Vec<String>,
    /// Life time of its tokens.
    pub token_ttl_seconds: u64,
    /// When it was added.
    pub created_at: Timestamp,
}

/// A generated secret; only its hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicSecret {
    /// How it is recognised.
    #[serde(serialize_with = "write_hash", deserialize_with = "read_hash")]
    pub hash: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What can be done to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Neither new tokens nor the old ones.
    Disable,
    /// The undo of it.
    Enable,
    /// The tokens issued so far are refused.
    Invalidate,
    /// A new client.
    Add,
    /// A new secret beside the last one.
    RotateSecret,
    /// The older one of two secrets ends.
    DropOldSecret,
    /// It is gone, and its tokens with it.
    Remove,
}

impl Action {
    /// As in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Invalidate => "invalidate",
            Self::Add => "add",
            Self::RotateSecret => "rotate_secret",
            Self::DropOldSecret => "drop_old_secret",
            Self::Remove => "remove",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientEvent {
    /// The revision that it made.
    pub revision: u64,
    /// When.
    pub at: Timestamp,
    /// To whom.
    pub client: ClientId,
    /// What.
    pub action: Action,
    /// By whom.
    pub actor: Actor,
    /// In whose words why, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When the secret was made that it ended, if it ended one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_secret_created_at: Option<Timestamp>,
}

/// A document that breaks a rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct DocumentError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: u32,
    revision: u64,
    clients: BTreeMap<ClientId, ClientState>,
    dynamic: BTreeMap<ClientId, DynamicClient>,
    history: VecDeque<ClientEvent>,
}

#[derive(Serialize)]
struct ToStore<'a> {
    schema: u32,
    revision: u64,
    clients: &'a BTreeMap<ClientId, ClientState>,
    dynamic: &'a BTreeMap<ClientId, DynamicClient>,
    history: &'a VecDeque<ClientEvent>,
}

impl ClientsDocument {
    /// Its stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let stored = ToStore {
            schema: SCHEMA,
            revision: self.revision,
            clients: &self.clients,
            dynamic: &self.dynamic,
            history: &self.history,
        };
        // Serialising strings and numbers into a Vec cannot fail.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// The document of a stored form.
    ///
    /// # Errors
    /// [`DocumentError`] naming the violated rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let stored: Stored =
            serde_json::from_slice(bytes).map_err(|error| DocumentError(error.to_string()))?;
        if stored.schema != SCHEMA {
            return Err(DocumentError(format!(
                "its schema is {}, this version reads {SCHEMA}",
                stored.schema
            )));
        }
        let document = Self {
            revision: stored.revision,
            clients: stored.clients,
            dynamic: stored.dynamic,
            history: stored.history,
        };
        document.check()?;
        if document.encode() != bytes {
            return Err(DocumentError(
                "its text is not the one that is written for its content".to_owned(),
            ));
        }
        Ok(document)
    }

    fn check(&self) -> Result<(), DocumentError> {
        let rule = |holds: bool, rule: &str| {
            if holds {
                Ok(())
            } else {
                Err(DocumentError(rule.to_owned()))
            }
        };
        rule(
            self.clients.len() <= MAX_CLIENTS && self.dynamic.len() <= MAX_CLIENTS,
            "it has more than 10000 clients",
        )?;
        rule(
            self.history.len() <= MAX_HISTORY,
            "its history is longer than 1000 changes",
        )?;
        let whole = |state: &ClientState| {
            state
                .tokens_not_before
                .is_none_or(|at| at == Timestamp::from_seconds(at.as_seconds()))
        };
        rule(
            self.clients.values().all(whole),
            "tokens_not_before is not a whole second",
        )?;
        rule(
            self.dynamic.values().all(DynamicClient::is_sound),
            "a client has one or two secrets, at most 64 scopes and tokens of 1 s to 24 h",
        )
    }
}

impl DynamicClient {
    fn is_sound(&self) -> bool {
        (1..=MAX_SECRETS).contains(&self.secrets.len())
            && self.scopes.len() <= MAX_SCOPES
            && self.scopes.iter().all(|scope| is_scope(scope))
            && (1..=MAX_TOKEN_TTL).contains(&self.token_ttl_seconds)
    }
}

fn write_hash<S: Serializer>(hash: &SecretHash, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(hash)
}

fn read_hash<'de, D: Deserializer<'de>>(from: D) -> Result<SecretHash, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ClientsDocument {
        let at = Timestamp::from_seconds(1_800_000_000);
        let id = |text: &str| text.parse::<ClientId>().unwrap();
        let actor = Actor::Admin("ops".to_owned());
        let state = ClientState {
            disabled_at: Some(at),
            tokens_not_before: Some(at),
            changed_at: at,
            changed_by: actor.clone(),
            reason: Some("lost \"laptop\"".to_owned()),
        };
        let rng = ring::rand::SystemRandom::new();
        let secret = DynamicSecret {
            hash: SecretHash::of_generated(b"s", &rng).unwrap(),
            created_at: at,
        };
        let dynamic = DynamicClient {
            secrets: vec![secret],
            scopes: vec!["read".to_owned()],
            token_ttl_seconds: 60,
            created_at: at,
        };
        let event = ClientEvent {
            revision: 3,
            at,
            client: id("a b"),
            action: Action::RotateSecret,
            actor,
            reason: None,
            ended_secret_created_at: Some(at),
        };
        ClientsDocument {
            revision: 3,
            clients: BTreeMap::from([(id("a b"), state)]),
            dynamic: BTreeMap::from([(id("b"), dynamic)]),
            history: VecDeque::from([event]),
        }
    }

    fn text(document: &ClientsDocument) -> String {
        String::from_utf8(document.encode()).unwrap()
    }

    #[test]
    fn round_trips() {
        for document in [ClientsDocument::default(), sample()] {
            assert_eq!(
                ClientsDocument::parse(&document.encode()).unwrap(),
                document
            );
        }
        assert!(text(&sample()).contains("\"rotate_secret\""));
        assert_eq!(Action::RotateSecret.as_str(), "rotate_secret");
    }

    #[test]
    fn takes_nothing_but_what_it_would_write() {
        let good = text(&sample());
        for (from, to) in [
            ("\"schema\":1", "\"schema\":2"),
            ("\"schema\":1", "\"schema\":1,\"more\":1"),
            ("\"schema\":1,", "\"schema\":1,\"schema\":1,"),
            ("\"schema\":1,", "\"schema\": 1,"),
            ("\"schema\":1,", ""),
            ("\"revision\":3,\"clients\"", "\"revision\":-3,\"clients\""),
            ("\"a b\":{", "\"a:b\":{"),
            ("\"a b\":{", "\" a b\":{"),
            ("\"disabled_at\":1800000000000", "\"disabled_at\":null"),
            ("\"disabled_at\":1800000000000", "\"disabled\":true"),
            (
                "\"tokens_not_before\":1800000000000",
                "\"tokens_not_before\":1800000000001",
            ),
            ("\"token_ttl_seconds\":60", "\"token_ttl_seconds\":0"),
            ("\"token_ttl_seconds\":60", "\"token_ttl_seconds\":86401"),
            ("[\"read\"]", "[\"re ad\"]"),
            ("sha256:", "md5:"),
            ("\"rotate_secret\"", "\"paint\""),
            ("\"history\":[", "\"history\":[null,"),
        ] {
            assert!(good.contains(from), "{from}");
            let bad = good.replacen(from, to, 1);
            assert!(ClientsDocument::parse(bad.as_bytes()).is_err(), "{to}");
        }
        for bad in ["", "{}", "null", "[]", &good[1..], &format!("{good} ")] {
            assert!(ClientsDocument::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_list_is_bounded() {
        let state = sample().clients.into_values().next().unwrap();
        let many = |count: usize| ClientsDocument {
            clients: (0..count)
                .map(|n| (format!("c{n}").parse().unwrap(), state.clone()))
                .collect(),
            ..ClientsDocument::default()
        };
        assert!(ClientsDocument::parse(&many(MAX_CLIENTS).encode()).is_ok());
        assert!(ClientsDocument::parse(&many(MAX_CLIENTS + 1).encode()).is_err());
        let mut long = sample();
        let event = long.history[0].clone();
        long.history.resize(MAX_HISTORY + 1, event);
        assert!(ClientsDocument::parse(&long.encode()).is_err());
        let mut three = sample();
        let client = three.dynamic.values_mut().next().unwrap();
        client.secrets.resize(3, client.secrets[0].clone());
        assert!(ClientsDocument::parse(&three.encode()).is_err());
    }
}
