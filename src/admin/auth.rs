//! Admin tokens and roles: who may do what on the admin listener.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq as _;

use crate::clock::Timestamp;

use super::error::ApiError;
use super::session::Session;
use super::throttle::Failures;

/// What an admin token allows; each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Rotates.
    Operator,
    /// Purges.
    Admin,
}

impl Role {
    /// Configuration and API value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A SHA-256.
pub(super) type Digest = [u8; 32];

/// One admin token, as its SHA-256.
#[derive(Clone)]
pub struct AdminCredential {
    /// Who it is, for the audit.
    pub name: String,
    /// What it allows.
    pub role: Role,
    digest: Digest,
}

impl AdminCredential {
    /// The credential of a plain token.
    #[must_use]
    pub fn of_token(name: String, role: Role, token: &[u8]) -> Self {
        Self {
            name,
            role,
            digest: sha256(token),
        }
    }

    /// The credential of a token whose SHA-256 is known.
    #[must_use]
    pub const fn of_digest(name: String, role: Role, digest: [u8; 32]) -> Self {
        Self { name, role, digest }
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl fmt::Debug for AdminCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminCredential")
            .field("name", &self.name)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// The operator behind a request, in its extensions.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) name: String,
    pub(super) role: Role,
    /// `None` when the request shows the admin token itself.
    session: Option<Arc<Session>>,
}

impl Operator {
    /// Somebody whose request shows their token.
    pub(super) fn of_token(credential: &AdminCredential) -> Self {
        Self {
            name: credential.name.clone(),
            role: credential.role,
            session: None,
        }
    }

    /// Somebody who signed in.
    pub(super) fn of_session(credential: &AdminCredential, session: Arc<Session>) -> Self {
        Self {
            session: Some(session),
            ..Self::of_token(credential)
        }
    }

    /// The session, if the request came by one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    /// Refuses an operator of a lower role.
    pub(super) fn needs(&self, role: Role) -> Result<(), ApiError> {
        if self.role < role {
            Err(ApiError::forbidden(self.role, role))
        } else {
            Ok(())
        }
    }

    /// Whether what let the request in still stands. An answer that goes on (a stream of events)
    /// asks again and again, and ends when it does not; [`Operator::signed_out`] says so at once
    /// when somebody ends the session.
    pub(super) fn is_signed_in(&self, now: Timestamp) -> bool {
        self.session().is_none_or(|session| session.is_alive(now))
    }

    /// Waits until the session is ended by signing out; for ever when there is none. Time alone
    /// wakes nobody: see [`Operator::is_signed_in`].
    pub(super) async fn signed_out(&self) {
        match self.session() {
            Some(session) => session.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// Checks admin tokens.
#[derive(Debug)]
pub struct Authenticator {
    credentials: Vec<AdminCredential>,
    failures: Failures,
}

impl Authenticator {
    /// An authenticator of these credentials.
    #[must_use]
    pub fn new(credentials: Vec<AdminCredential>) -> Self {
        Self {
            credentials,
            failures: Failures::default(),
        }
    }

    /// The credential of a token.
    pub(super) fn find(&self, token: &[u8]) -> Option<&AdminCredential> {
        self.by_digest(&sha256(token))
    }

    /// Compares with every credential in constant time, so that neither length nor position leaks.
    pub(super) fn by_digest(&self, digest: &Digest) -> Option<&AdminCredential> {
        self.credentials.iter().fold(None, |found, credential| {
            let equal: bool = credential.digest.ct_eq(digest).into();
            if equal { Some(credential) } else { found }
        })
    }

    /// Notes a wrong token; `Some(wait)` when the address has had its tries.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.failures.note(address, now)
    }
}

/// The digest in `sha256:` and 64 hexadecimal digits, the form of a `hash_file`.
#[must_use]
pub fn parse_token_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?;
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// The `hash_file` form of a token.
#[must_use]
pub fn token_hash(token: &[u8]) -> String {
    let digits: String = sha256(token)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

pub(super) fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token_and_nothing_else() {
        let credential = AdminCredential::of_token("ops".to_owned(), Role::Operator, b"secret");
        let authenticator = Authenticator::new(vec![credential]);
        assert_eq!(authenticator.find(b"secret").unwrap().name, "ops");
        assert!(authenticator.find(b"secre").is_none());
        assert!(authenticator.find(b"").is_none());
    }
}
