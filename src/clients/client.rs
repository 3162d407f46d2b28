//! A client as the registry knows it (RFC 6749 §2), and the form of its names.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::secret::SecretHash;

/// Longest `client_id` in bytes.
pub const MAX_CLIENT_ID: usize = 128;

/// Longest scope in bytes.
pub const MAX_SCOPE: usize = 128;

/// Most scopes that one client may have.
pub const MAX_SCOPES: usize = 64;

/// A registered confidential client.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`, of the form of a [`ClientId`].
    pub id: String,
    /// How its secret is checked; any of these will do. A client of the configuration has one, a
    /// client of the store up to two, so that its secret can be changed without an interruption.
    pub secrets: Vec<SecretHash>,
    /// Scopes it may ask for; also what it gets when it asks for none.
    pub scopes: Vec<String>,
    /// Life time of its tokens.
    pub token_ttl: Duration,
}

impl Client {
    /// Whether checking one of its secrets takes so long that it must not run on a worker thread.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.secrets.iter().any(SecretHash::is_slow)
    }

    /// Whether `secret` is one of its secrets, in time that does not depend on which.
    #[must_use]
    pub fn knows(&self, secret: &[u8]) -> bool {
        self.secrets
            .iter()
            .fold(false, |known, hash| hash.matches(secret) | known)
    }
}

/// `client_id` (RFC 6749 appendix A.1): 1 to 128 printable ASCII characters, no space at the ends,
/// and no `:`, which ends it in HTTP Basic.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend(
    "minLength" = 1,
    "maxLength" = MAX_CLIENT_ID,
    "pattern" = "^[!-9;-~]([ -9;-~]*[!-9;-~])?$"
))]
pub struct ClientId(String);

/// A text that cannot be a client id. Never shows it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a client id is 1 to 128 printable ASCII characters without `:`, and no space at its ends")]
pub struct ClientIdError;

impl ClientId {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `.` or `..`, which whoever asks for a URL takes out of its path (RFC 3986
    /// §5.2.4): nobody could name such a client. No new one may be called so; a store may hold one.
    #[must_use]
    pub fn is_dots(&self) -> bool {
        matches!(&*self.0, "." | "..")
    }
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, ClientIdError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ClientId {
    type Error = ClientIdError;

    fn try_from(text: String) -> Result<Self, ClientIdError> {
        let allowed = |b: u8| matches!(b, 0x20..=0x7e) && b != b':';
        let trimmed = text.trim() == text;
        if (1..=MAX_CLIENT_ID).contains(&text.len()) && text.bytes().all(allowed) && trimmed {
            Ok(Self(text))
        } else {
            Err(ClientIdError)
        }
    }
}

impl From<ClientId> for String {
    fn from(id: ClientId) -> Self {
        id.0
    }
}

impl Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is a scope (RFC 6749 §3.3) of a length that we take.
#[must_use]
pub fn is_scope(text: &str) -> bool {
    let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=MAX_SCOPE).contains(&text.len()) && text.bytes().all(allowed)
}
