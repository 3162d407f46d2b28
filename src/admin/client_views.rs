//! What the admin API shows of clients: names and dates, of secrets only when they were made.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clients::document::{Action, ClientEvent};
use crate::clients::{ClientState, ClientsDocument};
use crate::clock::Timestamp;
use crate::keys::Actor;
use crate::lifecycle::clients::{ClientFacts, ClientOutcome, ClientSource, Clients};
use crate::lifecycle::{ClientActivity, ClientFailure};

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
    #[serde(flatten)]
    activity: Option<ClientActivityView>,
}

/// What a client did since the process started; in lists and in `GET clients/{id}`.
#[derive(Debug, Serialize, JsonSchema)]
struct ClientActivityView {
    /// Tokens issued and not expired, an upper bound; null when it holds some from before.
    live_tokens: Option<u64>,
    /// Its last accepted request, in whole seconds.
    last_seen_at: Option<String>,
    /// Its last refused request, for a token or with one, within the last day.
    last_failure_at: Option<String>,
    last_failure_code: Option<&'static str>,
    last_failure_reason: Option<&'static str>,
}

/// What clients did, by id.
pub(super) type Activity = HashMap<String, ClientActivity>;

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
pub(super) struct EventView<'a> {
    revision: u64,
    at: String,
    #[schemars(with = "Action")]
    action: &'static str,
    actor: &'a Actor,
    reason: Option<&'a str>,
    /// When the secret was made that it ended; null when it ended none.
    ended_secret_created_at: Option<String>,
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
    /// When the secret was made that this ended: whoever still uses it is shut out. Null when none
    /// ended.
    ended_secret_created_at: Option<String>,
    /// A secret that was just made; it is shown here and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

/// The ids of a page: at most `limit` after the id `after`, and whether there are more.
pub(super) fn page<'a>(
    clients: &'a Clients,
    document: &'a ClientsDocument,
    after: &str,
    limit: usize,
) -> (Vec<&'a str>, bool) {
    let ids = clients.ids(document).into_iter();
    let mut page: Vec<&str> = ids.filter(|id| *id > after).take(limit + 1).collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    (page, has_more)
}

impl<'a> ClientListView<'a> {
    /// The clients of a page with what they did; numbers alone without `names`.
    pub(super) fn of(
        clients: &'a Clients,
        document: &'a ClientsDocument,
        names: bool,
        (page, has_more): (&[&'a str], bool),
        activity: &Activity,
    ) -> Self {
        let counts = clients.counts(document);
        let next = page.last().copied().filter(|_| has_more);
        let infos = page
            .iter()
            .filter_map(|id| ClientInfo::of(clients, document, id, Some(activity)));
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
        activity: &Activity,
    ) -> Option<Self> {
        let history = document
            .history
            .iter()
            .rev()
            .filter(|event| event.client.as_str() == id);
        Some(Self {
            revision: document.revision,
            client: ClientInfo::of(clients, document, id, Some(activity))?,
            history: history.map(EventView::of).collect(),
        })
    }
}

impl<'a> ClientChangeView<'a> {
    pub(super) fn of(
        clients: &'a Clients,
        outcome: &'a ClientOutcome,
        id: &'a str,
        secret: Option<&'a str>,
    ) -> Self {
        let ended = outcome.ended_secret_created_at;
        Self {
            changed: outcome.changed,
            revision: outcome.document.revision,
            client: ClientInfo::of(clients, &outcome.document, id, None),
            ended_secret_created_at: ended.map(|at| at.to_string()),
            secret,
        }
    }
}

impl<'a> ClientInfo<'a> {
    fn of(
        clients: &'a Clients,
        document: &'a ClientsDocument,
        id: &'a str,
        activity: Option<&Activity>,
    ) -> Option<Self> {
        let ClientFacts {
            source,
            fixed,
            dynamic,
            state,
        } = clients.facts(document, id)?;
        let date =
            |of: fn(&ClientState) -> Option<Timestamp>| state.and_then(of).map(|at| at.to_string());
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
            activity: activity.map(|all| {
                let of_client = all.get(id).copied().unwrap_or_default();
                ClientActivityView::of(of_client, clients.last_failure(id))
            }),
        })
    }
}

impl ClientActivityView {
    fn of(activity: ClientActivity, failure: Option<(Timestamp, ClientFailure)>) -> Self {
        let text = |at: Timestamp| at.to_string();
        Self {
            live_tokens: activity.live_tokens,
            last_seen_at: activity.last_seen_at.map(text),
            last_failure_at: failure.map(|(at, _)| text(at)),
            last_failure_code: failure.map(|(_, why)| why.as_str()),
            last_failure_reason: failure.map(|(_, why)| why.in_words()),
        }
    }
}

impl<'a> EventView<'a> {
    pub(super) fn of(event: &'a ClientEvent) -> Self {
        Self {
            revision: event.revision,
            at: event.at.to_string(),
            action: event.action.as_str(),
            actor: &event.actor,
            reason: event.reason.as_deref(),
            ended_secret_created_at: event.ended_secret_created_at.map(|at| at.to_string()),
        }
    }
}
