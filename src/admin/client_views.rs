//! What the admin API shows of clients: names and dates, of secrets only when they were made.

use schemars::JsonSchema;
use serde::Serialize;

use crate::clients::document::{Action, ClientEvent};
use crate::clients::{ClientState, ClientsDocument};
use crate::keys::Actor;
use crate::lifecycle::clients::{ClientFacts, ClientSource, Clients};

/// `GET clients`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientList")]
pub(super) struct ClientListView<'a> {
    revision: u64,
    enabled: usize,
    disabled: usize,
    /// Names are for operators: absent for a viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<Vec<ClientInfo<'a>>>,
    /// `after` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// One client.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Client")]
pub(super) struct ClientInfo<'a> {
    id: &'a str,
    /// `static` of the configuration, `dynamic` of the store, `gone` when neither knows it any more.
    #[schemars(extend("enum" = ["static", "dynamic", "gone"]))]
    source: &'static str,
    #[schemars(extend("enum" = ["enabled", "disabled"]))]
    state: &'static str,
    scopes: &'a [String],
    token_ttl_seconds: Option<u64>,
    disabled_at: Option<String>,
    /// Its tokens issued before are refused.
    tokens_not_before: Option<String>,
    changed_at: Option<String>,
    changed_by: Option<&'a Actor>,
    reason: Option<&'a str>,
    /// When the secrets were made that it can log in with, for a client of the store.
    secrets_created_at: Vec<String>,
    /// Whether the store has a client of this id, too, which the configuration overrides.
    shadows_dynamic: bool,
}

/// `GET clients/{id}`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientDetail")]
pub(super) struct ClientDetailView<'a> {
    revision: u64,
    #[serde(flatten)]
    client: ClientInfo<'a>,
    /// The newest change first; old ones are forgotten.
    history: Vec<EventView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientEvent")]
struct EventView<'a> {
    revision: u64,
    at: String,
    #[schemars(with = "Action")]
    action: &'static str,
    actor: &'a Actor,
    reason: Option<&'a str>,
}

/// The answer to a change.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ClientChange")]
pub(super) struct ClientChangeView<'a> {
    /// False when it was so already.
    changed: bool,
    revision: u64,
    /// Null when it is gone for good.
    client: Option<ClientInfo<'a>>,
    /// A secret that was just made; it is shown here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl<'a> ClientListView<'a> {
    /// At most `limit` clients after the id `after`; numbers alone without `names`.
    pub(super) fn of(
        clients: &'a Clients,
        document: &'a ClientsDocument,
        names: bool,
        after: &str,
        limit: usize,
    ) -> Self {
        let counts = clients.counts(document);
        let page: Vec<&str> = clients
            .ids(document)
            .into_iter()
            .filter(|id| *id > after)
            .take(limit.saturating_add(1))
            .collect();
        let shown = page.get(..limit.min(page.len())).unwrap_or_default();
        let next = shown.last().copied().filter(|_| page.len() > shown.len());
        let infos = shown
            .iter()
            .filter_map(|id| ClientInfo::of(clients, document, id));
        Self {
            revision: document.revision,
            enabled: counts.enabled,
            disabled: counts.disabled,
            clients: names.then(|| infos.collect()),
            next: next.filter(|_| names),
        }
    }
}

impl<'a> ClientDetailView<'a> {
    /// `None` for a client that nobody knows.
    pub(super) fn of(
        clients: &'a Clients,
        document: &'a ClientsDocument,
        id: &'a str,
    ) -> Option<Self> {
        let history = document
            .history
            .iter()
            .rev()
            .filter(|event| event.client.as_str() == id);
        Some(Self {
            revision: document.revision,
            client: ClientInfo::of(clients, document, id)?,
            history: history.map(EventView::of).collect(),
        })
    }
}

impl<'a> ClientChangeView<'a> {
    pub(super) fn of(
        clients: &'a Clients,
        document: &'a ClientsDocument,
        id: &'a str,
        changed: bool,
        secret: Option<&'a str>,
    ) -> Self {
        Self {
            changed,
            revision: document.revision,
            client: ClientInfo::of(clients, document, id),
            secret,
        }
    }
}

impl<'a> ClientInfo<'a> {
    fn of(clients: &'a Clients, document: &'a ClientsDocument, id: &'a str) -> Option<Self> {
        let ClientFacts {
            source,
            fixed,
            dynamic,
            state,
        } = clients.facts(document, id)?;
        let date = |of: fn(&ClientState) -> Option<crate::clock::Timestamp>| {
            state.and_then(of).map(|at| at.to_string())
        };
        let disabled_at = date(|state| state.disabled_at);
        let own = dynamic.filter(|_| source == ClientSource::Dynamic);
        let (scopes, token_ttl_seconds) = match (fixed, own) {
            (Some(client), _) => (&*client.scopes, Some(client.token_ttl.as_secs())),
            (None, Some(client)) => (&*client.scopes, Some(client.token_ttl_seconds)),
            (None, None) => (&[][..], None),
        };
        Some(Self {
            id,
            source: match source {
                ClientSource::Static => "static",
                ClientSource::Dynamic => "dynamic",
                ClientSource::Gone => "gone",
            },
            state: if disabled_at.is_some() {
                "disabled"
            } else {
                "enabled"
            },
            scopes,
            token_ttl_seconds,
            disabled_at,
            tokens_not_before: date(|state| state.tokens_not_before),
            changed_at: date(|state| Some(state.changed_at)),
            changed_by: state.map(|state| &state.changed_by),
            reason: state.and_then(|state| state.reason.as_deref()),
            secrets_created_at: own
                .into_iter()
                .flat_map(|client| &client.secrets)
                .map(|secret| secret.created_at.to_string())
                .collect(),
            shadows_dynamic: fixed.is_some() && dynamic.is_some(),
        })
    }
}

impl<'a> EventView<'a> {
    fn of(event: &'a ClientEvent) -> Self {
        Self {
            revision: event.revision,
            at: event.at.to_string(),
            action: event.action.as_str(),
            actor: &event.actor,
            reason: event.reason.as_deref(),
        }
    }
}
