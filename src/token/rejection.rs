//! Why a token was refused: one closed enum, one exhaustive match per surface.

use std::fmt;

/// Reason for refusing a request on a protected route.
///
/// The name is the metric label and the log field; [`Rejection::answer`] is what the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// The token names an audience that the route does not serve.
    BadAudience,
    /// The token's `iss` is not ours.
    BadIssuer,
    /// The signature does not verify.
    BadSignature,
    /// `typ` is not `at+jwt` (RFC 9068 §4).
    BadType,
    /// `Authorization: Bearer` without exactly one token of the RFC 6750 §2.1 alphabet: a broken
    /// *request*, answered 400, but counted as `malformed` like a broken token.
    BrokenSyntax,
    /// A claim breaks a rule: life time beyond the key's limit, unprintable identity, …
    ClaimRule,
    /// The client was disabled, or its tokens were invalidated.
    ClientRevoked,
    /// A purged key signed it after its purge: only a thief can have done that.
    CompromisedKeyInUse,
    /// More than one `Authorization` header.
    DuplicateHeader,
    /// `exp` has passed.
    Expired,
    /// The token lacks a scope that the route demands.
    InsufficientScope,
    /// The purge alone broke it: it would have been accepted after a plain rotation.
    KeyPurged,
    /// A retired key's token is still unexpired; must never happen.
    LifecycleViolation,
    /// Not a well-formed access token.
    Malformed,
    /// No bearer token was sent.
    Missing,
    /// `nbf` or `iat` lies in the future.
    NotYetValid,
    /// Too many refusals from this source.
    RateLimited,
    /// Longer than a token may be.
    TooLarge,
    /// No key of that name.
    UnknownKey,
    /// The algorithm is not allowed, or is not the key's.
    AlgNotAllowed,
}

/// What the client is told (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `error` of the challenge; absent when no token was sent.
    pub error: Option<&'static str>,
    /// `error_description` of the challenge and `detail` of the body.
    pub description: &'static str,
}

impl Rejection {
    /// Every reason, for pre-created metric series and exhaustive tests.
    pub const ALL: [Self; 20] = [
        Self::BadAudience,
        Self::BadIssuer,
        Self::BadSignature,
        Self::BadType,
        Self::BrokenSyntax,
        Self::ClaimRule,
        Self::ClientRevoked,
        Self::CompromisedKeyInUse,
        Self::DuplicateHeader,
        Self::Expired,
        Self::InsufficientScope,
        Self::KeyPurged,
        Self::LifecycleViolation,
        Self::Malformed,
        Self::Missing,
        Self::NotYetValid,
        Self::RateLimited,
        Self::TooLarge,
        Self::UnknownKey,
        Self::AlgNotAllowed,
    ];

    /// Metric label and log field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadAudience => "bad_audience",
            Self::BadIssuer => "bad_issuer",
            Self::BadSignature => "bad_signature",
            Self::BadType => "bad_type",
            Self::BrokenSyntax | Self::Malformed => "malformed",
            Self::ClaimRule => "claim_rule",
            Self::ClientRevoked => "client_revoked",
            Self::CompromisedKeyInUse => "compromised_key_in_use",
            Self::DuplicateHeader => "duplicate_header",
            Self::Expired => "expired",
            Self::InsufficientScope => "insufficient_scope",
            Self::KeyPurged => "key_purged",
            Self::LifecycleViolation => "lifecycle_violation",
            Self::Missing => "missing",
            Self::NotYetValid => "not_yet_valid",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::UnknownKey => "unknown_key",
            Self::AlgNotAllowed => "alg_not_allowed",
        }
    }

    /// The answer of RFC 6750 §3.1. Every bad token gets one text, so that a forger learns
    /// nothing; only a purge says that a new token is needed, because honest clients must act.
    #[must_use]
    pub const fn answer(self) -> Answer {
        match self {
            Self::Missing => Answer {
                status: 401,
                error: None,
                description: "a bearer token is required",
            },
            Self::BrokenSyntax | Self::DuplicateHeader | Self::TooLarge => Answer {
                status: 400,
                error: Some("invalid_request"),
                description: "the Authorization header is repeated, too large or not Bearer syntax",
            },
            Self::InsufficientScope => Answer {
                status: 403,
                error: Some("insufficient_scope"),
                description: "the access token lacks a required scope",
            },
            Self::RateLimited => Answer {
                status: 429,
                error: None,
                description: "too many refused tokens from this address",
            },
            Self::KeyPurged => Answer {
                status: 401,
                error: Some("invalid_token"),
                description: "the signing key of the access token was revoked; request a new token",
            },
            Self::BadAudience
            | Self::BadIssuer
            | Self::BadSignature
            | Self::BadType
            | Self::ClaimRule
            | Self::ClientRevoked
            | Self::CompromisedKeyInUse
            | Self::Expired
            | Self::LifecycleViolation
            | Self::Malformed
            | Self::NotYetValid
            | Self::UnknownKey
            | Self::AlgNotAllowed => Answer {
                status: 401,
                error: Some("invalid_token"),
                description: "the access token is not valid",
            },
        }
    }

    /// Whether operators must be woken: it cannot happen without a thief or a bug.
    #[must_use]
    pub const fn is_alarm(self) -> bool {
        matches!(self, Self::CompromisedKeyInUse | Self::LifecycleViolation)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reasons_wake_somebody() {
        let alarms: Vec<Rejection> = Rejection::ALL
            .into_iter()
            .filter(|reason| reason.is_alarm())
            .collect();
        assert_eq!(
            alarms,
            [
                Rejection::CompromisedKeyInUse,
                Rejection::LifecycleViolation
            ]
        );
    }
}
