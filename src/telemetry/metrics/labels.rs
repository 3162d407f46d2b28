//! Closed label sets: every value that a label can take, known at compile time.
//!
//! Invariant: within a set no value ends with another one. The metrics library identifies a series
//! by its label values run together, so this keeps two series from sharing one counter.

/// Defines an enum whose variants are label values.
macro_rules! closed_label {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$what])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

closed_label! {
    /// What the cache of verified tokens knew.
    CacheLookup {
        /// The token.
        Hit = "hit",
        /// Not this token.
        Miss = "miss",
        /// It was not asked: there was no token.
        None = "none",
    }
}

closed_label! {
    /// Class of an HTTP status.
    CodeClass {
        /// 1xx, and whatever is below.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirection = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx, and whatever is above.
        ServerError = "5xx",
        /// No response was sent: the client went away first.
        None = "none",
    }
}

impl CodeClass {
    /// The class of a status.
    #[must_use]
    pub const fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

closed_label! {
    /// State of a key that verifies.
    KeyStateLabel {
        /// Published, and next to sign.
        Pending = "pending",
        /// The one that signs.
        Active = "active",
        /// Verifies what it signed before it was replaced.
        Deprecated = "deprecated",
    }
}

closed_label! {
    /// Who asked for a rotation.
    Trigger {
        /// An operator.
        Manual = "manual",
        /// The schedule.
        Automatic = "automatic",
    }
}

closed_label! {
    /// What was asked for.
    RotationKind {
        /// Rotate.
        Rotate = "rotate",
        /// Rotate and purge.
        Purge = "purge",
    }
}

closed_label! {
    /// What came of a rotation.
    RotationResult {
        /// New keys are in force.
        Success = "success",
        /// It failed; the old keys are in force.
        Failure = "failure",
        /// The idempotency window answered with the keys of the rotation before.
        Unchanged = "unchanged",
        /// The caller asked for what cannot be: an old revision, an unknown key, a full key set.
        Refused = "refused",
    }
}

closed_label! {
    /// OAuth 2.0 grant of an issued token.
    Grant {
        /// RFC 6749 §4.4.
        ClientCredentials = "client_credentials",
    }
}

closed_label! {
    /// Error code of a token request (RFC 6749 §5.2 and, for faults of ours, §4.1.2.1).
    TokenError {
        /// A parameter is missing, repeated or malformed.
        InvalidRequest = "invalid_request",
        /// Client authentication failed.
        InvalidClient = "invalid_client",
        /// The grant is invalid or expired.
        InvalidGrant = "invalid_grant",
        /// The client may not use this grant.
        UnauthorizedClient = "unauthorized_client",
        /// The grant is not supported.
        UnsupportedGrantType = "unsupported_grant_type",
        /// The scope is unknown or not the client's.
        InvalidScope = "invalid_scope",
        /// Something failed on our side.
        ServerError = "server_error",
        /// Too busy for now.
        TemporarilyUnavailable = "temporarily_unavailable",
    }
}

closed_label! {
    /// Why a request failed: a 5xx that the gateway itself gave, or a request that never came to its end.
    FailureCause {
        /// The client did not send all of its request.
        RequestTimeout = "request_timeout",
        /// The upstream cannot be reached, or broke off.
        UpstreamFailed = "upstream_failed",
        /// The upstream was too slow.
        UpstreamTimeout = "upstream_timeout",
        /// The gateway could not handle the request.
        Internal = "internal",
    }
}

impl FailureCause {
    /// The cause of an answer of the gateway's own; none when it is no failure.
    #[must_use]
    pub const fn of(status: u16) -> Option<Self> {
        match status {
            408 => Some(Self::RequestTimeout),
            0..500 => None,
            502 => Some(Self::UpstreamFailed),
            504 => Some(Self::UpstreamTimeout),
            500.. => Some(Self::Internal),
        }
    }
}

closed_label! {
    /// Why the admin listener did not let somebody in, or not as far as they wanted.
    AdminRefusal {
        /// A parameter for a credential stood in the URL.
        TokenInUrl = "token_in_url",
        /// Asked under a name that is not the listener's.
        HostNotAllowed = "host_not_allowed",
        /// Another origin sent it.
        CrossOrigin = "cross_origin",
        /// A change by cookie that does not show that the console's page wants it.
        Csrf = "csrf",
        /// Neither an admin token nor a session cookie.
        Unauthenticated = "unauthenticated",
        /// A session cookie that is not, or no longer, good.
        SessionEnded = "session_ended",
        /// A token that is not one of ours.
        WrongToken = "wrong_token",
        /// The same, after too many of them.
        Throttled = "throttled",
        /// The role does not allow it.
        Role = "role",
    }
}
