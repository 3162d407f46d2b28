//! Whose tokens are refused, made ready to be asked on every request.
//!
//! Invariants: a lookup allocates nothing, and hashes nothing while no client is revoked; whatever
//! has no effect is not in the map. May be imported by `token`, which asks, and by `lifecycle`.

use std::collections::HashMap;

use crate::clock::Timestamp;

use super::client::ClientId;
use super::document::ClientsDocument;

/// The clients whose tokens are refused, all of them or those before a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations(HashMap<ClientId, Revocation>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Revocation {
    disabled: bool,
    not_before: Option<Timestamp>,
}

impl Revocations {
    /// What `document` revokes.
    #[must_use]
    pub fn of(document: &ClientsDocument) -> Self {
        let revoked = document.clients.iter().filter_map(|(id, state)| {
            let revocation = Revocation {
                disabled: state.disabled_at.is_some(),
                not_before: state.tokens_not_before,
            };
            (revocation.disabled || revocation.not_before.is_some())
                .then(|| (id.clone(), revocation))
        });
        Self(revoked.collect())
    }

    /// Whether a token of `client_id` with this `iat` is refused. To be asked for every request,
    /// also when the rest of the verification is remembered.
    #[must_use]
    pub fn is_revoked(&self, client_id: &str, issued_at: Timestamp) -> bool {
        self.0.get(client_id).is_some_and(|revocation| {
            revocation.disabled || revocation.not_before.is_some_and(|first| issued_at < first)
        })
    }

    /// Whether the client may not ask for tokens.
    #[must_use]
    pub fn is_disabled(&self, client_id: &str) -> bool {
        self.0
            .get(client_id)
            .is_some_and(|revocation| revocation.disabled)
    }

    /// The earliest `iat` that is accepted of the client, a whole second.
    #[must_use]
    pub fn not_before(&self, client_id: &str) -> Option<Timestamp> {
        self.0.get(client_id)?.not_before
    }
}
