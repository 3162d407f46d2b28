//! A clients document made ready for requests: whose tokens are refused, and who can log in beside
//! the clients of the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, ClientId};
use super::document::ClientsDocument;
use super::revocations::Revocations;

/// What requests read; swapped whole by a change.
#[derive(Debug, Default)]
pub struct ClientView {
    revocations: Revocations,
    dynamic: HashMap<ClientId, Arc<Client>>,
    held: Option<ClientId>,
}

impl ClientView {
    /// The view of `document`. No token is handed out to the client `held`: a change that ends its
    /// tokens is being committed, and one issued meanwhile could outlive it.
    #[must_use]
    pub fn of(document: &ClientsDocument, held: Option<ClientId>) -> Self {
        let dynamic = document.dynamic.iter().map(|(id, client)| {
            let client = Client {
                id: id.to_string(),
                secrets: client
                    .secrets
                    .iter()
                    .map(|secret| secret.hash.clone())
                    .collect(),
                scopes: client.scopes.clone(),
                token_ttl: Duration::from_secs(client.token_ttl_seconds),
            };
            (id.clone(), Arc::new(client))
        });
        Self {
            revocations: Revocations::of(document),
            dynamic: dynamic.collect(),
            held,
        }
    }

    /// Whose tokens are refused.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Whether tokens of this client are withheld for the moment.
    #[must_use]
    pub fn is_held(&self, client_id: &str) -> bool {
        self.held
            .as_ref()
            .is_some_and(|held| held.as_str() == client_id)
    }

    /// A client of the store.
    pub(super) fn dynamic(&self, client_id: &str) -> Option<&Arc<Client>> {
        self.dynamic.get(client_id)
    }
}
