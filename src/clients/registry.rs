//! Finds a client by its credentials. An unknown client costs what a known one costs, and so does a
//! disabled one.
//!
//! The registry itself holds the clients of the configuration; those of the store come with the
//! [`ClientView`] of the moment. A client of the configuration wins over one of the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use ring::rand::SecureRandom;
use thiserror::Error;

use super::client::Client;
use super::secret::{SecretHash, SecretHashError, generate};
use super::view::ClientView;

/// The clients of the configuration, immutable but for the memory of secrets that were found right.
#[derive(Debug)]
pub struct ClientRegistry {
    clients: HashMap<String, Arc<Client>>,
    /// Checked in place of an unknown client's secret; as slow as the slowest real one.
    decoy: SecretHash,
    /// Per client, a keyed digest of the slow secret that was right, so that it is slow only once.
    proven: Mutex<HashMap<String, hmac::Tag>>,
    proof_key: hmac::Key,
}

/// A set of clients that cannot be a registry.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Two clients have the same id.
    #[error("the client id `{0}` is used twice")]
    Duplicate(String),
    /// No randomness.
    #[error("the random number generator is unavailable")]
    Random,
}

impl From<SecretHashError> for RegistryError {
    fn from(_: SecretHashError) -> Self {
        Self::Random
    }
}

impl ClientRegistry {
    /// A registry of `clients`.
    ///
    /// # Errors
    /// [`RegistryError`] when an id is used twice or no randomness is to be had.
    pub fn new(clients: Vec<Client>, rng: &dyn SecureRandom) -> Result<Self, RegistryError> {
        let nobody = generate(rng)?;
        let slow = clients.iter().any(Client::is_slow);
        let decoy = if slow {
            SecretHash::of_human(nobody.as_bytes(), rng)?
        } else {
            SecretHash::of_generated(nobody.as_bytes(), rng)?
        };
        let proof_key = hmac::Key::generate(hmac::HMAC_SHA256, rng)
            .map_err(|_unspecified| RegistryError::Random)?;
        let mut by_id = HashMap::with_capacity(clients.len());
        for client in clients {
            if let Some(twice) = by_id.insert(client.id.clone(), Arc::new(client)) {
                return Err(RegistryError::Duplicate(twice.id.clone()));
            }
        }
        Ok(Self {
            clients: by_id,
            decoy,
            proven: Mutex::default(),
            proof_key,
        })
    }

    /// The client of these credentials, `None` also for a disabled one. May take tens of
    /// milliseconds when [`ClientRegistry::is_slow`] says so; then call it off the worker thread.
    #[must_use]
    pub fn authenticate(&self, id: &str, secret: &[u8], view: &ClientView) -> Option<Arc<Client>> {
        let client = self.find(id, view);
        let slow = client.filter(|client| client.is_slow());
        let found = match (client, slow) {
            (_, Some(client)) if self.is_proven(id, secret) => return Some(Arc::clone(client)),
            (_, Some(client)) => client.knows(secret).then_some(client),
            // A wrong secret costs what the slowest client's costs, so that the time of an answer
            // tells neither whether a client exists nor what kind of secret it has.
            (Some(client), None) if client.knows(secret) => Some(client),
            (_, None) => {
                let _never = self.decoy.matches(secret);
                None
            }
        }?;
        if found.is_slow() {
            let tag = hmac::sign(&self.proof_key, secret);
            self.lock().insert(id.to_owned(), tag);
        }
        Some(Arc::clone(found))
    }

    /// Whether checking these credentials would run a slow hash.
    #[must_use]
    pub fn is_slow(&self, id: &str, secret: &[u8], view: &ClientView) -> bool {
        match self.find(id, view) {
            Some(client) if client.is_slow() => !self.is_proven(id, secret),
            Some(client) => self.decoy.is_slow() && !client.knows(secret),
            None => self.decoy.is_slow(),
        }
    }

    /// A client of the configuration.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Client> {
        self.clients.get(id).map(AsRef::as_ref)
    }

    /// The ids of the clients of the configuration, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(String::as_str)
    }

    /// How many clients there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether there is no client at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// A disabled client is as good as unknown, in what it costs too.
    fn find<'a>(&'a self, id: &str, view: &'a ClientView) -> Option<&'a Arc<Client>> {
        if view.revocations().is_disabled(id) {
            return None;
        }
        self.clients.get(id).or_else(|| view.dynamic(id))
    }

    fn is_proven(&self, id: &str, secret: &[u8]) -> bool {
        // Compared outside of the lock: a secret may be long, and all workers share the lock.
        let tag = self.lock().get(id).copied();
        tag.is_some_and(|tag| hmac::verify(&self.proof_key, secret, tag.as_ref()).is_ok())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, hmac::Tag>> {
        // The map is only a memory; after a panic elsewhere it is still valid.
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::rand::SystemRandom;

    use super::*;
    use crate::clients::{ClientState, ClientsDocument, DynamicClient, DynamicSecret};
    use crate::clock::Timestamp;
    use crate::keys::Actor;

    fn client(id: &str, secret: SecretHash) -> Client {
        Client {
            id: id.to_owned(),
            secrets: vec![secret],
            scopes: Vec::new(),
            token_ttl: Duration::from_secs(1),
        }
    }

    #[test]
    fn recognises_clients_and_slows_down_only_once() {
        let rng = SystemRandom::new();
        let registry = ClientRegistry::new(
            vec![
                client("machine", SecretHash::of_generated(b"m", &rng).unwrap()),
                client("person", SecretHash::of_human(b"p", &rng).unwrap()),
            ],
            &rng,
        )
        .unwrap();
        let view = ClientView::default();
        assert_eq!(
            registry.authenticate("machine", b"m", &view).unwrap().id,
            "machine"
        );
        assert!(registry.authenticate("machine", b"p", &view).is_none());
        assert!(registry.authenticate("nobody", b"m", &view).is_none());

        assert!(registry.is_slow("person", b"p", &view));
        assert!(registry.authenticate("person", b"p", &view).is_some());
        assert!(!registry.is_slow("person", b"p", &view));
        assert!(registry.is_slow("person", b"q", &view));
        assert!(registry.authenticate("person", b"q", &view).is_none());
        assert!(
            registry.is_slow("machine", b"p", &view) && !registry.is_slow("machine", b"m", &view)
        );
        assert!(
            registry.is_slow("nobody", b"p", &view),
            "an unknown client costs what a known one costs"
        );
    }

    #[test]
    fn refuses_an_id_used_twice() {
        let rng = SystemRandom::new();
        let twice = || client("a", SecretHash::of_generated(b"m", &rng).unwrap());
        let error = ClientRegistry::new(vec![twice(), twice()], &rng).unwrap_err();
        assert_eq!(error, RegistryError::Duplicate("a".to_owned()));
    }

    fn document(disabled: &str, dynamic: &str, secrets: &[&[u8]]) -> ClientsDocument {
        let (at, rng) = (Timestamp::from_seconds(1), SystemRandom::new());
        let state = ClientState {
            disabled_at: Some(at),
            tokens_not_before: None,
            changed_at: at,
            changed_by: Actor::Scheduler,
            reason: None,
        };
        let secrets = secrets.iter().map(|secret| DynamicSecret {
            hash: SecretHash::of_generated(secret, &rng).unwrap(),
            created_at: at,
        });
        let client = DynamicClient {
            secrets: secrets.collect(),
            scopes: Vec::new(),
            token_ttl_seconds: 5,
            created_at: at,
        };
        ClientsDocument {
            clients: [(disabled.parse().unwrap(), state)].into(),
            dynamic: [(dynamic.parse().unwrap(), client)].into(),
            ..ClientsDocument::default()
        }
    }

    #[test]
    fn a_disabled_client_is_as_good_as_unknown() {
        let rng = SystemRandom::new();
        let registry = ClientRegistry::new(
            vec![client("person", SecretHash::of_human(b"p", &rng).unwrap())],
            &rng,
        )
        .unwrap();
        let enabled = ClientView::default();
        assert!(registry.authenticate("person", b"p", &enabled).is_some());
        let disabled = ClientView::of(&document("person", "robot", &[b"r"]), None);
        assert!(registry.authenticate("person", b"p", &disabled).is_none());
        assert!(
            registry.is_slow("person", b"p", &disabled),
            "it costs what an unknown one costs, though its secret was proven before"
        );
        assert!(!registry.is_slow("person", b"p", &enabled));
        let disabled = ClientView::of(&document("robot", "robot", &[b"r"]), None);
        assert!(registry.authenticate("robot", b"r", &disabled).is_none());
    }

    #[test]
    fn both_secrets_of_a_client_of_the_store_are_taken_but_the_configuration_wins() {
        let rng = SystemRandom::new();
        let of_file = client("app", SecretHash::of_generated(b"f", &rng).unwrap());
        let registry = ClientRegistry::new(vec![of_file], &rng).unwrap();
        let view = ClientView::of(&document("x", "robot", &[b"old", b"new"]), None);
        for secret in [&b"old"[..], b"new"] {
            let found = registry.authenticate("robot", secret, &view).unwrap();
            assert_eq!(found.token_ttl, Duration::from_secs(5));
        }
        assert!(registry.authenticate("robot", b"f", &view).is_none());
        let view = ClientView::of(&document("x", "app", &[b"s"]), None);
        assert!(registry.authenticate("app", b"s", &view).is_none());
        assert!(registry.authenticate("app", b"f", &view).is_some());
    }
}
