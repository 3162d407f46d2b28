//! Finds a client by its credentials. An unknown client costs what a known one costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use ring::rand::SecureRandom;
use thiserror::Error;

use super::client::Client;
use super::secret::{SecretHash, SecretHashError, generate};

/// Every client, immutable but for the memory of secrets that were found right.
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
        let slow = clients.iter().any(|client| client.secret.is_slow());
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

    /// The client of these credentials. May take tens of milliseconds when
    /// [`ClientRegistry::is_slow`] says so; then call it off the worker thread.
    #[must_use]
    pub fn authenticate(&self, id: &str, secret: &[u8]) -> Option<Arc<Client>> {
        let client = self.clients.get(id);
        let slow = client.filter(|client| client.secret.is_slow());
        let found = match (client, slow) {
            (_, Some(client)) if self.is_proven(id, secret) => return Some(Arc::clone(client)),
            (_, Some(client)) => client.secret.matches(secret).then_some(client),
            // A wrong secret costs what the slowest client's costs, so that the time of an answer
            // tells neither whether a client exists nor what kind of secret it has.
            (Some(client), None) if client.secret.matches(secret) => Some(client),
            (_, None) => {
                let _never = self.decoy.matches(secret);
                None
            }
        }?;
        if found.secret.is_slow() {
            self.lock()
                .insert(id.to_owned(), hmac::sign(&self.proof_key, secret));
        }
        Some(Arc::clone(found))
    }

    /// Whether checking these credentials would run a slow hash.
    #[must_use]
    pub fn is_slow(&self, id: &str, secret: &[u8]) -> bool {
        match self.clients.get(id) {
            Some(client) if client.secret.is_slow() => !self.is_proven(id, secret),
            Some(client) => self.decoy.is_slow() && !client.secret.matches(secret),
            None => self.decoy.is_slow(),
        }
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

    fn is_proven(&self, id: &str, secret: &[u8]) -> bool {
        self.lock()
            .get(id)
            .is_some_and(|tag| hmac::verify(&self.proof_key, secret, tag.as_ref()).is_ok())
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

    fn client(id: &str, secret: SecretHash) -> Client {
        Client {
            id: id.to_owned(),
            secret,
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
        assert_eq!(
            registry.authenticate("machine", b"m").unwrap().id,
            "machine"
        );
        assert!(registry.authenticate("machine", b"p").is_none());
        assert!(registry.authenticate("nobody", b"m").is_none());

        assert!(registry.is_slow("person", b"p"));
        assert!(registry.authenticate("person", b"p").is_some());
        assert!(!registry.is_slow("person", b"p"));
        assert!(registry.is_slow("person", b"q"));
        assert!(registry.authenticate("person", b"q").is_none());
        assert!(registry.is_slow("machine", b"p") && !registry.is_slow("machine", b"m"));
        assert!(
            registry.is_slow("nobody", b"p"),
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
}
