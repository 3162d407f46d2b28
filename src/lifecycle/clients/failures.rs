//! The last failure of each client: a refused token whose signature proves whose it was, or a refused
//! token request.
//!
//! Requests write here, so nothing is locked: a word for each client. Memory is bounded; of clients
//! beyond [`MAX_CLIENTS`] nothing is noted. What is older than a day is forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::lifecycle::table::{Place, Room, Table};
use crate::telemetry::TokenError;
use crate::token::Rejection;

/// Most clients whose last failure is remembered; about 4 MiB.
const MAX_CLIENTS: usize = 20_000;

const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Why a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailure {
    /// Its token, by a route.
    Token(Rejection),
    /// Its request for a token.
    Request(TokenError),
}

impl ClientFailure {
    /// The metric label of the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token(rejection) => rejection.as_str(),
            Self::Request(error) => error.as_str(),
        }
    }

    /// What happened and what helps, for operators.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Token(rejection) => token_in_words(rejection),
            Self::Request(error) => request_in_words(error),
        }
    }
}

const fn token_in_words(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::BadAudience => {
            "its token is for another audience: compare the route's audiences with issuer.audience"
        }
        Rejection::BadIssuer => "its token is of another issuer",
        Rejection::BadSignature => "the signature of its token does not verify",
        Rejection::BadType => "it sent something that is no access token",
        Rejection::BrokenSyntax | Rejection::Malformed => "it sent a malformed token or header",
        Rejection::ClaimRule => "a claim of its token breaks a rule",
        Rejection::ClientRevoked => {
            "it is disabled, or its tokens were invalidated and it still uses an old one"
        }
        Rejection::CompromisedKeyInUse => {
            "its name stands in a token that a purged key signed after its purge: somebody else has that key"
        }
        Rejection::DuplicateHeader => "it sent more than one Authorization header",
        Rejection::Expired => "its token has expired: it must ask for a new one",
        Rejection::InsufficientScope => "its token lacks a scope that the route demands",
        Rejection::KeyPurged => "the key of its token was purged: it must ask for a new one",
        Rejection::LifecycleViolation => "a retired key's token is unexpired: a defect of ours",
        Rejection::Missing => "it sent no token",
        Rejection::NotYetValid => "its token is dated in the future: compare the clocks",
        Rejection::RateLimited => "too many refused tokens came from its address",
        Rejection::TooLarge => "its token is too large",
        Rejection::UnknownKey => "no key of that name is known",
        Rejection::AlgNotAllowed => "its token has another algorithm than its key",
    }
}

const fn request_in_words(error: TokenError) -> &'static str {
    match error {
        TokenError::InvalidRequest => "its token request was malformed",
        TokenError::InvalidClient => {
            "a token request in its name had a wrong secret, or it is disabled: it may be somebody else's"
        }
        TokenError::InvalidGrant | TokenError::UnsupportedGrantType => {
            "it asked for a grant that there is not"
        }
        TokenError::UnauthorizedClient => "it may not use the grant that it asked for",
        TokenError::InvalidScope => "it asked for a scope that it may not have",
        TokenError::ServerError => "its token request failed on our side: see the log",
        TokenError::TemporarilyUnavailable => {
            "its token request met too many others at once: it has to try again"
        }
    }
}

/// The last failures.
#[derive(Debug)]
pub(super) struct Failures {
    clients: Table<Last>,
    room: Arc<Room>,
}

/// When, in Unix milliseconds, above eight bits of why: the place in [`Rejection::ALL`], or 128 and
/// the place in [`TokenError::ALL`].
#[derive(Debug)]
struct Last {
    word: AtomicU64,
    _place: Place,
}

impl Failures {
    pub(super) fn new() -> Self {
        Self {
            clients: Table::new(),
            room: Arc::new(Room::of(MAX_CLIENTS)),
        }
    }

    pub(super) fn note(&self, client: &str, failure: ClientFailure, now: Timestamp) {
        let at = u64::try_from(now.as_millis()).unwrap_or(0);
        let word = (at << 8) | code(failure);
        // The later one stays, whoever writes first.
        let known = self.clients.with(client, |last| {
            last.word.fetch_max(word, Relaxed);
        });
        if known.is_some() {
            return;
        }
        let new = || {
            Some(Last {
                word: AtomicU64::new(word),
                _place: self.room.take()?,
            })
        };
        // Nobody else's fault when there is no room: then it is not noted.
        drop(self.clients.get_or_insert(client, |_| true, new));
    }

    pub(super) fn of(&self, client: &str) -> Option<(Timestamp, ClientFailure)> {
        let word = self.clients.with(client, |last| last.word.load(Relaxed))?;
        let at = Timestamp::from_millis(i64::try_from(word >> 8).ok()?);
        Some((at, failure(word & 0xff)?))
    }

    /// Forgets what is old, and makes room for others.
    pub(super) fn prune(&self, now: Timestamp) {
        let before = u64::try_from(now.minus(FORGET_AFTER).as_millis()).unwrap_or(0);
        self.clients
            .retain(|last| last.word.load(Relaxed) >> 8 >= before);
    }
}

/// Codes of token requests begin here.
const REQUESTS: u64 = 128;

fn code(failure: ClientFailure) -> u64 {
    let place = |at: Option<usize>| at.and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    match failure {
        ClientFailure::Token(rejection) => {
            place(Rejection::ALL.iter().position(|of| *of == rejection))
        }
        ClientFailure::Request(error) => {
            REQUESTS + place(TokenError::ALL.iter().position(|of| *of == error))
        }
    }
}

fn failure(code: u64) -> Option<ClientFailure> {
    let place = |code: u64| usize::try_from(code).ok();
    match code.checked_sub(REQUESTS) {
        None => {
            let rejection = Rejection::ALL.get(place(code)?)?;
            Some(ClientFailure::Token(*rejection))
        }
        Some(code) => {
            let error = TokenError::ALL.get(place(code)?)?;
            Some(ClientFailure::Request(*error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_survives_its_code_and_the_last_one_counts() {
        let failures = Failures::new();
        let every = Rejection::ALL.into_iter().map(ClientFailure::Token);
        let every = every.chain(TokenError::ALL.iter().copied().map(ClientFailure::Request));
        for (second, failure) in (1..).zip(every) {
            let at = Timestamp::from_seconds(second);
            failures.note("a", failure, at);
            assert_eq!(failures.of("a"), Some((at, failure)));
        }
        let last = failures.of("a");
        failures.note(
            "a",
            ClientFailure::Token(Rejection::Expired),
            Timestamp::from_seconds(1),
        );
        assert_eq!(failures.of("a"), last, "late is not last");
        assert_eq!(failures.of("b"), None);
        failures.prune(Timestamp::from_seconds(24 * 3600));
        assert_eq!(failures.of("a"), last);
        failures.prune(Timestamp::from_seconds(25 * 3600));
        assert_eq!(failures.of("a"), None);
    }

    #[test]
    fn strangers_without_end_take_no_memory_without_end() {
        let failures = Failures::new();
        let at = Timestamp::from_seconds(1);
        for number in 0..=MAX_CLIENTS {
            let failure = ClientFailure::Token(Rejection::Expired);
            failures.note(&number.to_string(), failure, at);
        }
        assert!(failures.of(&MAX_CLIENTS.to_string()).is_none());
        assert!(failures.of("0").is_some());
    }
}
