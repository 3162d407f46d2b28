//! What there is to know of clients, from the configuration and from the store.

use std::collections::BTreeSet;

use crate::clients::{Client, ClientId, ClientState, ClientsDocument, DynamicClient};

use super::Clients;

/// Where a client comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSource {
    /// The configuration.
    Static,
    /// The store.
    Dynamic,
    /// Nowhere any more; its tokens may still be alive.
    Gone,
}

/// A client and what was done to it.
#[derive(Clone, Copy, Debug)]
pub struct ClientFacts<'a> {
    /// Where it comes from.
    pub source: ClientSource,
    /// What the configuration says.
    pub fixed: Option<&'a Client>,
    /// What the store says; a client of the configuration wins over it.
    pub dynamic: Option<&'a DynamicClient>,
    /// What was done to it.
    pub state: Option<&'a ClientState>,
}

/// How many clients there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCounts {
    /// Those that may ask for tokens.
    pub enabled: usize,
    /// Those that may not.
    pub disabled: usize,
}

impl Clients {
    /// Every id of `document` and of the configuration, in order.
    #[must_use]
    pub fn ids<'a>(&'a self, document: &'a ClientsDocument) -> BTreeSet<&'a str> {
        let stored = document.clients.keys().chain(document.dynamic.keys());
        self.registry
            .ids()
            .chain(stored.map(ClientId::as_str))
            .collect()
    }

    /// A client, `None` when nobody knows it.
    #[must_use]
    pub fn facts<'a>(&'a self, document: &'a ClientsDocument, id: &str) -> Option<ClientFacts<'a>> {
        let fixed = self.registry.get(id);
        let dynamic = document.dynamic.get(id);
        let state = document.clients.get(id);
        let source = match (fixed, dynamic, state) {
            (Some(_), _, _) => ClientSource::Static,
            (None, Some(_), _) => ClientSource::Dynamic,
            (None, None, Some(_)) => ClientSource::Gone,
            (None, None, None) => return None,
        };
        Some(ClientFacts {
            source,
            fixed,
            dynamic,
            state,
        })
    }

    /// How many clients of `document` and of the configuration are enabled and disabled.
    #[must_use]
    pub fn counts(&self, document: &ClientsDocument) -> ClientCounts {
        let all = self.ids(document);
        let existing = all.into_iter().filter_map(|id| self.facts(document, id));
        let (disabled, enabled): (Vec<_>, Vec<_>) = existing
            .filter(|facts| facts.source != ClientSource::Gone)
            .partition(|facts| facts.state.is_some_and(|state| state.disabled_at.is_some()));
        ClientCounts {
            enabled: enabled.len(),
            disabled: disabled.len(),
        }
    }
}
