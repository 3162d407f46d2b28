//! A client as the registry knows it (RFC 6749 §2).

use std::time::Duration;

use super::secret::SecretHash;

/// A registered confidential client.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`; printable ASCII without `:` (RFC 6749 appendix A.1, and Basic needs the colon).
    pub id: String,
    /// How its secret is checked.
    pub secret: SecretHash,
    /// Scopes it may ask for; also what it gets when it asks for none.
    pub scopes: Vec<String>,
    /// Life time of its tokens.
    pub token_ttl: Duration,
}
